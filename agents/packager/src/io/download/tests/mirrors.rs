//! Files that another server has, too.

use super::*;
use crate::io::testing::NoTime;

/// A world whose Python registry is `registry`, with these mirrors.
fn world(registry: &Server, mirrors: &[String]) -> Case {
    let mut world = World::new();
    let mut overrides = crate::io::Overrides::default();
    for mirror in mirrors.iter().filter(|mirror| mirror.starts_with("bolide=")) {
        overrides.add_mirror(mirror).expect("an address");
    }
    overrides.add(&format!("pypi={}", registry.at("/r/"))).expect("an address");
    for mirror in mirrors.iter().filter(|mirror| !mirror.starts_with("bolide=")) {
        overrides.add(mirror).expect("an address");
    }
    world.request.overrides = overrides;
    let client = world.client_in(NoTime::at(SystemTime::now()));
    Case { world, client }
}

#[test]
fn a_registry_that_does_not_answer_is_stood_in_for_and_asked_last_then() {
    let registry = Server::start(|_| Reply::status(503));
    let mirror = Server::start(|seen| match seen.path.as_str() {
        "/m/files/f" => Reply::ok("good"),
        _ => Reply::status(404),
    });
    let case = world(&registry, &[format!("pypi={}", mirror.at("/m/"))]);
    let request = |name| case.request(&registry.at("/r/files/f"), name, b"good");
    case.download(&[request("a")]).expect("from the mirror");
    assert_eq!((registry.paths().len(), mirror.paths().len()), (4, 1));
    case.download(&[request("b")]).expect("from the mirror");
    assert_eq!((registry.paths().len(), mirror.paths().len()), (4, 2));
    // What is not beneath the registry is nobody else's.
    let elsewhere = case.request(&registry.at("/other/f"), "c", b"good");
    assert!(case.download(&[elsewhere]).is_err());
    assert_eq!(mirror.paths().len(), 2);
}

#[test]
fn what_one_server_began_another_one_ends() {
    let count = AtomicUsize::new(0);
    let registry = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok(content()).truncated(300_000),
        _ => Reply::status(503),
    });
    let mirror = Server::start(|_| {
        let range = format!("bytes 300000-{}/{}", content().len() - 1, content().len());
        Reply::ok(&content()[300_000..]).with_status(206).header("content-range", &range)
    });
    let case = world(&registry, &[format!("pypi={}", mirror.at("/"))]);
    let request = case.request(&registry.at("/r/f"), "f", &content());
    case.download(&[request]).expect("from both");
    assert_eq!(mirror.seen()[0].header("range"), Some("bytes=300000-"));
}

#[test]
fn artefacts_are_asked_for_by_digest_first_and_the_registry_where_that_fails() {
    let registry = Server::start(|_| Reply::ok("good"));
    let digest = hex(ring::digest::digest(&SHA512, b"good").as_ref());
    let path = format!("/x/v1/sha512/{digest}");
    let good = path.clone();
    let (good, bad, empty) = (
        Server::start(move |seen| Reply::ok(if seen.path == good { "good" } else { "no" })),
        Server::start(|_| Reply::ok("evil")),
        Server::start(|_| Reply::status(404)),
    );
    let named = |server: &Server| vec![format!("bolide={}", server.at("/x/"))];
    for (mirror, registry_is_asked) in [(&good, 0), (&empty, 1), (&bad, 2)] {
        let case = world(&registry, &named(mirror));
        let request = case.request(&registry.at("/r/f"), "f", b"good");
        case.download(&[request]).expect("the file");
        assert_eq!(mirror.paths(), [path.as_str()]);
        assert_eq!(registry.paths().len(), registry_is_asked);
    }
    // It may be the only one who has the file.
    for (mirror, code) in
        [(&good, None), (&empty, Some("registry-error")), (&bad, Some("hash-mismatch"))]
    {
        let case = world(&registry, &named(mirror));
        let mut request = case.request(&registry.url(), "f", b"good");
        request.url = String::new();
        let done = case.download(&[request]).map_err(|error| error.code);
        assert_eq!(done.err().as_deref(), code);
    }
    assert_eq!(registry.paths().len(), 2);
}

#[test]
fn a_bad_mirror_of_artefacts_keeps_nobody_from_the_registry() {
    let registry = Server::start(|_| Reply::ok("good"));
    let replies: [fn() -> Reply; 3] = [
        || Reply::status(302).header("location", "ftp://x.example.invalid/f"),
        // More than the file may have.
        || Reply::ok(vec![7; 200_000]),
        || Reply::ok("evil"),
    ];
    for (index, reply) in replies.into_iter().enumerate() {
        let mirror = Server::start(move |_| reply());
        let case = world(&registry, &[format!("bolide={}", mirror.at("/x/"))]);
        let mut request = case.request(&registry.at("/r/f"), "f", b"good");
        request.bytes_max = Some(100_000);
        case.download(&[request.clone()]).expect("from the registry");
        assert_eq!((mirror.paths().len(), registry.paths().len()), (1, index + 1));
        // Where nobody else has it, the error names who sent it.
        request.url = String::new();
        request.destination.set_file_name("g");
        let error = case.download(&[request]).expect_err("nobody has it");
        assert!(error.message.contains("/x/v1/sha512/"), "{error}");
    }
}

#[test]
fn a_mirror_that_gave_something_else_is_not_asked_again() {
    let registry = Server::start(|seen| match seen.path.as_str() {
        "/r/broken" => Reply::status(503),
        _ => Reply::ok("good"),
    });
    let mirror = Server::start(|_| Reply::ok("evil"));
    let case = world(&registry, &[format!("pypi={}", mirror.at("/m/"))]);
    let broken = case.request(&registry.at("/r/broken"), "a", b"good");
    assert_eq!(case.download(&[broken]).expect_err("nobody has it").code, "registry-error");
    let asked = (registry.paths().len(), mirror.paths().len());
    let request = case.request(&registry.at("/r/f"), "b", b"good");
    case.download(&[request]).expect("from the registry");
    assert_eq!((registry.paths().len(), mirror.paths().len()), (asked.0 + 1, asked.1 + 1));
}

const PACKUMENT: &str = "{\"name\":\"demo\",\"dist-tags\":{\"latest\":\"1.0.0\"},\"versions\":{\"1.0.0\":{\"name\":\"demo\",\
     \"version\":\"1.0.0\",\"dist\":{\"tarball\":\"http://x.example.invalid/demo-1.0.0.tgz\",\"integrity\":\
     \"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\"}}}}";

/// A client whose npm registry is the first of them, and the others its mirrors.
fn npm(servers: &[Url]) -> (World, Client) {
    let mut world = World::new();
    for address in servers {
        world.request.overrides.add(&format!("npm={address}")).expect("an address");
    }
    let client = world.client_in(NoTime::at(SystemTime::now()));
    (world, client)
}

#[test]
fn metadata_comes_from_the_next_mirror_and_from_nobody_offline() {
    let registry = Server::start(|_| Reply::status(503));
    let mirror = Server::start(|seen| match seen.path.as_str() {
        "/m/demo" => Reply::ok(PACKUMENT).json(),
        _ => Reply::status(404),
    });
    let (world, client) = npm(&[registry.at("/r/"), mirror.at("/m/")]);
    let packument = client.npm().packument("demo").expect("from the mirror");
    assert_eq!(packument.versions.len(), 1);
    assert_eq!((registry.paths().len(), mirror.paths().len()), (4, 1));
    // A mirror that has not got it says nothing about the registry, whose own failure is told.
    let error = client.npm().packument("other").expect_err("nobody knows");
    assert_eq!((error.code.as_str(), error.retry), ("registry-error", true), "{error}");
    assert!(error.message.contains("/r/other") || error.message.contains("503"), "{error}");
    let (asked, mirrored) = (registry.paths().len(), mirror.paths().len());
    assert_eq!((asked, mirrored), (8, 2), "the mirror first, since the registry did not answer");
    let offline = crate::io::RequestSettings { offline: true, ..world.request.clone() };
    assert!(client.with_request(offline).npm().packument("third").is_err());
    assert_eq!((registry.paths().len(), mirror.paths().len()), (asked, mirrored));
}

#[test]
fn what_a_mirror_refuses_the_registry_is_asked_for() {
    let registry = Server::start(|seen| match seen.path.as_str() {
        "/r/broken" => Reply::status(503),
        "/r/demo" => Reply::ok(PACKUMENT).json(),
        _ => Reply::status(404),
    });
    let mirror = Server::start(|_| Reply::status(403));
    let (_world, client) = npm(&[registry.at("/r/"), mirror.at("/m/")]);
    assert!(client.npm().packument("broken").is_err());
    client.npm().packument("demo").expect("the registry has it");
    assert_eq!(mirror.paths(), ["/m/broken", "/m/demo"], "it was asked first then");
    let missing = client.npm().packument("missing").expect_err("the registry says so");
    assert!(!missing.message.contains(" 403") && !missing.retry, "{missing}");
}

#[test]
fn the_registry_is_never_asked_whether_a_mirrors_answer_still_holds() {
    let count = AtomicUsize::new(0);
    let registry = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0..4 => Reply::status(503),
        _ => Reply::ok(PACKUMENT).json(),
    });
    let date = "Sat, 01 Jan 2000 00:00:00 GMT";
    let mirror = Server::start(move |_| {
        let reply = Reply::ok(PACKUMENT).json().header("etag", "\"theirs\"");
        reply.header("last-modified", date)
    });
    let (mut world, client) = npm(&[registry.at("/r/"), mirror.at("/m/")]);
    client.npm().packument("demo").expect("from the mirror");
    drop(client);
    // The same cache, without the mirror.
    let mut overrides = crate::io::Overrides::default();
    overrides.add(&format!("npm={}", registry.at("/r/"))).expect("an address");
    world.request.overrides = overrides;
    world.request.max_age = Duration::ZERO;
    let client = world.client_in(NoTime::at(SystemTime::now()));
    client.npm().packument("demo").expect("from the registry");
    let last = registry.seen().pop().expect("it was asked");
    assert_eq!((last.header("if-none-match"), last.header("if-modified-since")), (None, None));
}
