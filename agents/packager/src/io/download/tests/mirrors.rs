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
fn metadata_comes_from_the_next_mirror_and_from_nobody_offline() {
    let registry = Server::start(|_| Reply::status(503));
    let mirror = Server::start(|seen| {
        match seen.path.as_str() {
        "/m/demo" => Reply::ok(
            "{\"name\":\"demo\",\"dist-tags\":{\"latest\":\"1.0.0\"},\"versions\":{\"1.0.0\":{\"name\":\"demo\",\
             \"version\":\"1.0.0\",\"dist\":{\"tarball\":\"http://x.example.invalid/demo-1.0.0.tgz\",\"integrity\":\
             \"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\"}}}}",
        )
        .json(),
        _ => Reply::status(404),
    }
    });
    let mut world = World::new();
    for address in [registry.at("/r/"), mirror.at("/m/")] {
        world.request.overrides.add(&format!("npm={address}")).expect("an address");
    }
    let client = world.client_in(NoTime::at(SystemTime::now()));
    let packument = client.npm().packument("demo").expect("from the mirror");
    assert_eq!(packument.versions.len(), 1);
    assert_eq!((registry.paths().len(), mirror.paths().len()), (4, 1));
    assert!(client.npm().packument("other").is_err());
    let (asked, mirrored) = (registry.paths().len(), mirror.paths().len());
    assert_eq!((asked, mirrored), (4, 2), "the mirror's no is an answer");
    let offline = crate::io::RequestSettings { offline: true, ..world.request.clone() };
    assert!(client.with_request(offline).npm().packument("third").is_err());
    assert_eq!((registry.paths().len(), mirror.paths().len()), (asked, mirrored));
}
