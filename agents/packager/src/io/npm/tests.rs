//! The client against a server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::io::testing::{Reply, Server, World};

const EXPRESS: &str = r#"{"name":"express","dist-tags":{"latest":"4.0.0"},"versions":{"4.0.0":{"dist":{"tarball":"express-4.0.0.tgz"}}}}"#;

#[test]
fn a_packument_is_fetched_once_and_then_known() {
    let server = Server::start(|_| Reply::ok(EXPRESS).json());
    let world = World::with("npm", &server.url());
    let client = world.client();
    let packument = client.npm().packument("express").expect("a packument");
    assert_eq!(
        packument.versions.get("4.0.0").expect("there").tarball,
        server.at("/express-4.0.0.tgz").as_str()
    );
    client.npm().packument("express").expect("from memory");
    world.client().npm().packument("express").expect("from disk");
    world.offline().npm().packument("express").expect("offline");
    assert_eq!(server.paths(), ["/express"]);
    assert!(
        server.seen()[0]
            .header("accept")
            .expect("sent")
            .starts_with("application/vnd.npm.install-v1+json")
    );
    assert!(server.seen()[0].header("user-agent").expect("sent").starts_with("bolide/"));
}

#[test]
fn a_scoped_name_is_one_path_segment() {
    let server = Server::start(|_| Reply::ok(r#"{"name":"@types/node","versions":{}}"#).json());
    let world = World::with("npm", &server.url());
    world.client().npm().packument("@types/node").expect("a packument");
    assert_eq!(server.paths(), ["/@types%2Fnode"]);
}

#[test]
fn an_unknown_package_is_told_with_near_names() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/express" => Reply::ok(EXPRESS).json(),
        _ => Reply::status(404),
    });
    let client = World::with("npm", &server.url()).client();
    client.npm().packument("express").expect("a packument");
    let error = client.npm().packument("expres").expect_err("unknown");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Failed, "unknown-package"));
    assert!(error.message.contains("`expres`"), "{error}");
    assert_eq!(error.hint.as_deref(), Some("did you mean `express`?"));
    client.npm().packument("expres").expect_err("still unknown");
    assert_eq!(server.paths().len(), 2);
    // What another registry has is no hint.
    let other = Server::start(|_| Reply::status(404));
    let request = World::with("npm", &other.url()).request;
    let error = client.with_request(request).npm().packument("expres").expect_err("unknown");
    assert!(!error.hint.expect("advice").contains("express"));
}

#[test]
fn many_askers_share_one_question() {
    let server = Server::start(|_| Reply::ok(EXPRESS).json().slow(Duration::from_millis(200)));
    let client = World::with("npm", &server.url()).client();
    std::thread::scope(|scope| {
        client.npm().prefetch("express");
        for _ in 0..8 {
            scope.spawn(|| client.npm().packument("express").expect("a packument"));
        }
    });
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn many_announcements_are_answered_and_none_is_asked_twice() {
    let server = Server::start(|seen| {
        Reply::ok(format!(r#"{{"name":"{}","versions":{{}}}}"#, &seen.path[1..])).json()
    });
    let client = World::with("npm", &server.url()).client();
    let names: Vec<String> = (0..200).map(|index| format!("package-{index}")).collect();
    names.iter().for_each(|name| {
        client.npm().prefetch(name);
    });
    for name in names.iter().rev() {
        assert_eq!(client.npm().packument(name).expect("a packument").name, *name);
    }
    assert_eq!(server.paths().len(), 200);
}

#[test]
fn names_that_mean_something_else_are_refused() {
    let client =
        World::with("npm", &Url::parse("http://r.example.invalid/").expect("an address")).client();
    for name in [
        "", ".", "..", "../x", "a/b", "@a", "@a/", "@/b", "@a/b/c", "@a/../b", "a b", "a?b", "a#b",
        "a%2fb", "a\nb",
    ] {
        let error = client.npm().packument(name).expect_err("refused");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Usage, "bad-name"), "{name}");
        client.npm().prefetch(name);
    }
}

#[test]
fn nonsense_is_called_so() {
    for reply in [
        Reply::ok("<html>log in</html>").html(),
        Reply::ok("").json(),
        Reply::ok(r#"{"name":"other","versions":{}}"#).json(),
        Reply::ok(&EXPRESS.as_bytes()[..50]).json(),
    ] {
        let server = Server::start(move |_| reply.clone());
        let error = World::with("npm", &server.url())
            .client()
            .npm()
            .packument("express")
            .expect_err("nonsense");
        assert_eq!(
            (error.kind, error.code.as_str()),
            (Kind::Network, "registry-nonsense"),
            "{error}"
        );
    }
}

#[test]
fn more_versions_than_anybody_publishes_are_refused_and_the_bound_is_named() {
    let version = |at: usize| format!(r#""1.0.{at}":{{"dist":{{"tarball":"x.tgz"}}}}"#);
    let versions: Vec<String> = (0..100_000).map(version).collect();
    let text = format!(r#"{{"name":"express","versions":{{{}}}}}"#, versions.join(","));
    let server = Server::start(move |_| Reply::ok(text.clone()).json());
    let client = World::with("npm", &server.url()).client();
    let error = client.npm().packument("express").expect_err("too many");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Network, "registry-nonsense"));
    assert!(error.message.contains("more than 50000 versions"), "{error}");
}

#[test]
fn a_version_whose_dependencies_were_cut_is_left_out() {
    let many: Vec<String> = (0..10_000).map(|at| format!(r#""d{at}":"*""#)).collect();
    let text = format!(
        r#"{{"name":"express","versions":{{"1.0.0":{{"dist":{{"tarball":"x.tgz"}}}},
        "2.0.0":{{"dependencies":{{{}}},"dist":{{"tarball":"x.tgz"}}}}}}}}"#,
        many.join(",")
    );
    let server = Server::start(move |_| Reply::ok(text.clone()).json());
    let client = World::with("npm", &server.url()).client();
    let packument = client.npm().packument("express").expect("a packument");
    assert_eq!(packument.versions.keys().collect::<Vec<_>>(), ["1.0.0"]);
}

#[test]
fn names_that_mean_something_in_other_languages_are_only_names() {
    let server = Server::start(|seen| {
        let name = &seen.path[1..];
        Reply::ok(format!(
            r#"{{"name":"{name}","__proto__":{{"versions":{{}}}},"dist-tags":{{"constructor":"1.0.0"}},
            "versions":{{"1.0.0":{{"dependencies":{{"__proto__":"1","toString":"*"}},
            "dist":{{"tarball":"x.tgz"}}}}}}}}"#
        ))
        .json()
    });
    let client = World::with("npm", &server.url()).client();
    for name in ["__proto__", "constructor", "hasOwnProperty", "then"] {
        let packument = client.npm().packument(name).expect("a packument");
        assert_eq!(packument.name, name);
        assert_eq!(packument.dist_tags["constructor"], "1.0.0");
        let version = packument.versions.get("1.0.0").expect("there");
        let names: Vec<&String> = version.dependencies.keys().collect();
        assert_eq!(names, ["__proto__", "toString"]);
    }
}

#[test]
fn control_characters_of_a_registry_do_not_reach_a_message() {
    let server =
        Server::start(|_| Reply::ok(r#"{"name":"\u001b[31mevil\u0007","versions":{}}"#).json());
    let client = World::with("npm", &server.url()).client();
    let error = client.npm().packument("express").expect_err("another package");
    assert!(!error.message.contains(char::is_control), "{:?}", error.message);
    let error = client.npm().packument("\u{1b}[2Jx").expect_err("no name");
    assert!(!error.message.contains(char::is_control), "{:?}", error.message);
}

#[test]
fn a_trickle_of_bytes_ends() {
    let body =
        format!(r#"{{"name":"express","versions":{{}},"readme":"{}"}}"#, "x".repeat(64 << 10));
    let server =
        Server::start(move |_| Reply::ok(body.clone()).json().slow(Duration::from_millis(500)));
    let client = World::with("npm", &server.url()).client();
    let error = client.npm().packument("express").expect_err("a trickle");
    assert_eq!(error.kind, Kind::Network, "{error}");
}

#[test]
fn stale_answers_are_confirmed_by_their_validators() {
    let server = Server::start(|seen| match seen.header("if-none-match") {
        Some("\"one\"") => Reply::status(304),
        _ => Reply::ok(EXPRESS).json().header("etag", "\"one\""),
    });
    let mut world = World::with("npm", &server.url());
    world.client().npm().packument("express").expect("new");
    world.request.max_age = Duration::ZERO;
    let client = world.client();
    assert_eq!(client.npm().packument("express").expect("confirmed").versions.len(), 1);
    assert_eq!(client.npm().packument("express").expect("confirmed").versions.len(), 1);
    let tags: Vec<bool> =
        server.seen().iter().map(|seen| seen.header("if-none-match").is_some()).collect();
    assert_eq!(tags, [false, true, true]);
}

#[test]
fn offline_says_what_is_missing() {
    let world = World::with("npm", &Url::parse("http://r.example.invalid/").expect("an address"));
    let error = world.offline().npm().packument("express").expect_err("nothing there");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Network, "offline-missing"));
    assert!(error.message.contains("npm:express"));
}

#[test]
fn each_credential_has_its_own_cache() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some("Bearer one") => Reply::ok(EXPRESS).json(),
        _ => Reply::status(404),
    });
    let mut world = World::new();
    world.set("npm_config_registry", server.url().as_str());
    let place = server.url().as_str().trim_start_matches("http:").to_owned();
    world.write("home/.npmrc", &format!("{place}:_authToken=one\n"));
    let client = world.client();
    client.npm().packument("express").expect("with the token");
    world.write("home/.npmrc", &format!("{place}:_authToken=two\n"));
    client
        .with_request(world.request.clone())
        .npm()
        .packument("express")
        .expect_err("with another");
    world.write("home/.npmrc", "");
    client.with_request(world.request.clone()).npm().packument("express").expect_err("without");
}

#[test]
fn a_credential_for_one_package_is_part_of_whose_answer_it_is() {
    let server = Server::start(|seen| match (seen.path.as_str(), seen.header("authorization")) {
        ("/express", Some("Bearer one")) => Reply::ok(EXPRESS).json(),
        _ => Reply::status(404),
    });
    let mut world = World::new();
    world.set("npm_config_registry", server.url().as_str());
    let place = server.at("/express/").as_str().trim_start_matches("http:").to_owned();
    let client = world.client();
    let asks = |token: Option<&str>| {
        let line = token.map(|token| format!("{place}:_authToken={token}\n"));
        world.write("project/.npmrc", &line.unwrap_or_default());
        let one = client.with_request(world.request.clone());
        let found = [&one, &world.client()].map(|client| client.npm().packument("express").is_ok());
        assert_eq!(found[0], found[1], "from memory and from the disk");
        found[0]
    };
    // Who may not see it is told so, and hides it from nobody.
    let answers = [Some("junk"), Some("one"), Some("junk"), None, Some("one")].map(asks);
    assert_eq!(answers, [false, true, false, false, true]);
}

#[test]
fn what_is_shown_for_one_package_makes_another_edition() {
    let mut world = World::new();
    world.set("npm_config_registry", "https://r.example.invalid/npm/");
    let client = world.client();
    let edition = |line: &str| {
        world.write("project/.npmrc", line);
        client.with_request(world.request.clone()).npm().edition().expect("known").0
    };
    let lines = [
        "",
        "//r.example.invalid/npm/express/:_authToken=one",
        "//r.example.invalid/npm/express/:_authToken=two",
        "//r.example.invalid/npm/leaf/:_authToken=one",
        "//r.example.invalid/:_authToken=one",
    ];
    let editions = lines.map(edition);
    for (number, one) in editions.iter().enumerate() {
        assert!(!editions[number + 1..].contains(one), "{}", lines[number]);
    }
    assert!(edition("//s.example.invalid/:_authToken=one") == editions[0]);
}

#[test]
fn what_a_mirror_said_is_not_told_to_who_never_named_it() {
    let mirror = Server::start(|_| Reply::ok(EXPRESS).json());
    let registry = Server::start(|_| Reply::raw("nonsense"));
    let mut world = World::with("npm", &registry.url());
    world.client().npm().packument("express").expect_err("no answer");
    let named = format!("npm={}", mirror.url());
    world.request.overrides.add_mirror(&named).expect("a mirror");
    world.client().npm().packument("express").expect("the mirror's");
    world.request.overrides = World::with("npm", &registry.url()).request.overrides;
    world.client().npm().packument("express").expect_err("no answer");
}

#[test]
fn a_scope_has_its_own_registry() {
    let other = Server::start(|_| Reply::ok(r#"{"name":"@work/tool","versions":{}}"#).json());
    let server = Server::start(|_| Reply::ok(EXPRESS).json());
    let mut world = World::new();
    world.write(
        "home/.npmrc",
        &format!("registry = {}\n@work:registry = \"{}\"\n", server.url(), other.url()),
    );
    world.set("PATH", "/nowhere");
    let client = world.client();
    client.npm().packument("@work/tool").expect("there");
    client.npm().packument("express").expect("here");
    assert_eq!((server.paths().len(), other.paths().len()), (1, 1));
}

#[test]
fn a_damaged_cache_is_as_good_as_none() {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&count);
    let server = Server::start(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Reply::ok(EXPRESS).json()
    });
    let world = World::with("npm", &server.url());
    world.client().npm().packument("express").expect("new");
    for path in world.packs() {
        let mut bytes = std::fs::read(&path).expect("answers");
        let half = bytes.len() / 2;
        bytes[half..].iter_mut().for_each(|byte| *byte ^= 1);
        std::fs::write(&path, bytes).expect("damage");
    }
    world.client().npm().packument("express").expect("fetched again");
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn a_damaged_archive_is_fetched_again() {
    let server = Server::start(|_| Reply::ok(EXPRESS).json());
    let world = World::with("npm", &server.url());
    world.client().npm().packument("express").expect("new");
    for at in [0, 9, 40] {
        // The archive begins so.
        world.damage(b"bolidea", at);
        let packument = world.client().npm().packument("express").expect("fetched again");
        assert_eq!(packument.versions.get("4.0.0").expect("there").version, "4.0.0");
        world.offline().npm().packument("express").expect("made again");
    }
    assert_eq!(server.paths().len(), 4);
}

/// Follows nothing.
struct Nobody;

impl Ahead for Nobody {
    fn after(&self, _packument: &Arc<Packument>) -> Vec<String> {
        Vec::new()
    }
}

/// Waits until nothing is under way.
fn settle(client: &crate::io::Client) {
    while client.session().shared.flights.count() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn any(seen: &crate::io::testing::Seen) -> Reply {
    Reply::ok(format!(r#"{{"name":"{}","versions":{{}}}}"#, &seen.path[1..])).json()
}

#[test]
fn what_was_announced_is_given_up_when_nobody_follows_any_more() {
    let server = Server::start(|seen| any(seen).slow(Duration::from_secs(1)));
    let client = World::with("npm", &server.url()).client();
    let ahead: Arc<dyn Ahead> = Arc::new(Nobody);
    client.npm().follow(&ahead);
    for number in 0..500 {
        client.npm().prefetch(&format!("p{number}"));
    }
    drop(ahead);
    settle(&client);
    // Of those that were under way some were asked for, none of those that stood behind them.
    let asked = server.paths().len();
    assert!(asked <= crate::io::limits::ANNOUNCED_REQUESTS_MAX, "{asked}");
    client.npm().packument("p499").expect("asked for, it is given all the same");
}

#[test]
fn who_waits_for_what_was_announced_gets_it_though_the_announcer_is_gone() {
    let server = Server::start(|seen| any(seen).slow(Duration::from_millis(300)));
    let client = World::with("npm", &server.url()).client();
    for round in 0..4 {
        let ahead: Arc<dyn Ahead> = Arc::new(Nobody);
        client.npm().follow(&ahead);
        let name = format!("p{round}");
        client.npm().prefetch(&name);
        drop(ahead);
        std::thread::sleep(Duration::from_millis(15 * round));
        client.npm().packument(&name).expect("given");
    }
}

#[test]
fn no_announcement_is_lost_where_there_are_many() {
    let server = Server::start(any);
    let client = World::with("npm", &server.url()).client();
    let ahead: Arc<dyn Ahead> = Arc::new(Nobody);
    client.npm().follow(&ahead);
    let count = crate::io::limits::ANNOUNCEMENTS_MAX + 300;
    for number in 0..count {
        client.npm().prefetch(&format!("p{number}"));
    }
    settle(&client);
    assert_eq!(server.paths().len(), count);
}

/// Names one more than it is asked about.
struct Chain;

impl Ahead for Chain {
    fn after(&self, packument: &Arc<Packument>) -> Vec<String> {
        let number: usize = packument.name[1..].parse().expect("a number");
        vec![format!("p{}", number + 1)]
    }
}

#[test]
fn what_is_in_memory_is_walked_through_to_its_end_whatever_its_length() {
    let server = Server::start(any);
    let client = World::with("npm", &server.url()).client();
    let last = 4 * crate::io::limits::LEADS_WHERE_IT_ARRIVES_MAX;
    for number in 1..last {
        client.npm().packument(&format!("p{number}")).expect("given");
    }
    let ahead: Arc<dyn Ahead> = Arc::new(Chain);
    client.npm().follow(&ahead);
    client.npm().packument("p0").expect("given");
    let last = format!("/p{last}");
    while !server.paths().contains(&last) {
        std::thread::yield_now();
    }
}
