//! What is begun for a request before the state is opened, and what is not.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::api::PlanAnswer;
use crate::ecosystem::Ecosystem;
use crate::io::testing::{Reply, Server};
use crate::options::Options;

/// Only a hang reaches it.
const WATCHDOG: Duration = Duration::from_secs(60);

const LEAF: &str = r#"{"name": "leaf", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
    "name": "leaf", "version": "1.0.0", "dist": {"tarball": "https://r.example.invalid/leaf.tgz",
    "integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="}}}}"#;

fn leaf() -> Reply {
    Reply::ok(LEAF).json()
}

/// A wish for a package of the registry that is there.
fn wish(server: &Server) -> PlanRequest {
    let mut setting = Setting::default();
    setting.registry.insert(Ecosystem::Npm, server.url().to_string());
    // None of this process's own counts.
    setting.variables.insert("PATH".to_owned(), "/nowhere".to_owned());
    PlanRequest { add: vec!["npm:leaf".to_owned()], setting, ..PlanRequest::default() }
}

fn foresee(scratch: &Scratch, packager: &Packager, tool: &str, payload: &impl Serialize) {
    packager.foresee(&scratch.request(tool, payload).expect("a request"), &Waiting);
}

/// Whether there are threads that could ask a registry.
fn is_ready_to_ask(packager: &Packager) -> bool {
    let threads = format!("{:?}", packager.shop.registries.session().shared.threads);
    !threads.starts_with("Threads { questions: None")
}

#[test]
fn a_registry_is_asked_before_the_state_is_opened_and_for_nothing_twice() {
    let scratch = Scratch::new();
    let (asks, asked) = channel();
    let server = Server::start(move |_| {
        asks.send(()).expect("heard");
        leaf()
    });
    let (packager, wish) = (scratch.packager_for_one(), wish(&server));
    foresee(&scratch, &packager, "pkg.plan", &wish);
    asked.recv_timeout(WATCHDOG).expect("it is asked");
    let database = scratch.path("state/state.sqlite3");
    assert!(!database.exists(), "nothing needed the state");
    packager.recover().expect("a state");
    assert!(database.exists());
    let answer: PlanAnswer = scratch.ask(&packager, "pkg.plan", &wish).expect("a plan");
    assert_eq!(answer.packages.len(), 1);
    assert_eq!(server.paths(), ["/leaf"]);
}

#[test]
fn the_registry_is_asked_for_what_a_manifest_names_where_nothing_else_says_more() {
    const NAMES_LEAF: &str = r#"{"dependencies":{"leaf":"1","other":"file:other"}}"#;
    let begins = |files: &[(&str, &str)], setting: &dyn Fn(&mut Setting)| {
        let scratch = Scratch::new();
        let (asks, asked) = channel();
        let server = Server::start(move |_| {
            asks.send(()).expect("heard");
            leaf()
        });
        for (name, text) in files {
            let path = scratch.path("project").join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, text).expect("space");
        }
        let mut install = PlanRequest { add: Vec::new(), install: true, ..wish(&server) };
        setting(&mut install.setting);
        let packager = scratch.packager_for_one();
        foresee(&scratch, &packager, "pkg.plan", &install);
        let begins = is_ready_to_ask(&packager);
        if begins {
            asked.recv_timeout(WATCHDOG).expect("it is asked");
            assert_eq!(server.paths(), ["/leaf"]);
        }
        assert!(!scratch.path("state/state.sqlite3").exists(), "nothing needed the state");
        begins
    };
    let manifest = ("package.json", NAMES_LEAF);
    let as_it_is = &|_: &mut Setting| {};
    assert!(begins(&[manifest], as_it_is));
    assert!(!begins(&[], as_it_is));
    assert!(!begins(&[("package.json", "{")], as_it_is));
    for lock in ["bolide.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock"] {
        assert!(!begins(&[manifest, (lock, "")], as_it_is), "{lock}");
    }
    let workspaces = r#"{"workspaces":["member"],"dependencies":{"leaf":"1"}}"#;
    assert!(!begins(&[("package.json", workspaces)], as_it_is), "whose names may be private");
    assert!(!begins(&[manifest], &|setting| setting.options.frozen = true));
}

#[test]
fn what_was_begun_is_for_the_same_caller_in_the_same_place_and_once() {
    let scratch = Scratch::new();
    let server = Server::start(|_| leaf());
    let (packager, wish) = (scratch.packager_for_one(), wish(&server));
    foresee(&scratch, &packager, "pkg.plan", &wish);
    let place = scratch.path("project").canonicalize().expect("a place");
    let other = Setting { offline: true, ..wish.setting.clone() };
    assert!(packager.foreseen.take(&other, &place).is_none());
    assert!(packager.foreseen.take(&wish.setting, Path::new("/")).is_none());
    assert!(packager.foreseen.take(&wish.setting, &place).is_some());
    assert!(packager.foreseen.take(&wish.setting, &place).is_none());
}

#[test]
fn a_request_that_would_be_refused_begins_nothing() {
    let scratch = Scratch::new();
    let server = Server::start(|_| leaf());
    let good = wish(&server);
    let with = |options: Options| Setting { options, ..good.setting.clone() };
    let refused = [
        PlanRequest { add: vec!["npm:../leaf".to_owned()], ..good.clone() },
        PlanRequest { remove: good.add.clone(), ..good.clone() },
        PlanRequest { update: Some(Vec::new()), ..good.clone() },
        PlanRequest {
            setting: with(Options { exclude_newer: Some("soon".to_owned()), ..Options::default() }),
            ..good.clone()
        },
        PlanRequest {
            setting: with(Options { frozen: true, ..Options::default() }),
            ..good.clone()
        },
        PlanRequest { add: Vec::new(), ..good.clone() },
    ];
    let packager = scratch.packager_for_one();
    for request in &refused {
        foresee(&scratch, &packager, "pkg.plan", request);
        assert!(!is_ready_to_ask(&packager), "{request:?}");
    }
    foresee(&scratch, &packager, "pkg.plan", &"no request");
    foresee(&scratch, &packager, "pkg.list", &ListRequest::default());
    let elsewhere = Options { python_platform: Some("windows".to_owned()), ..Options::default() };
    let change = |setting| ChangeRequest {
        packages: good.add.clone(),
        approve: false,
        force: false,
        setting,
    };
    foresee(&scratch, &packager, "pkg.install", &change(with(elsewhere)));
    let mut nowhere = scratch.request("pkg.plan", &good).expect("a request");
    nowhere.directory = None;
    packager.foresee(&nowhere, &Waiting);
    assert!(!is_ready_to_ask(&packager));
    packager.recover().expect("a state");
    for request in &refused {
        let answer: Result<PlanAnswer> = scratch.ask(&packager, "pkg.plan", request);
        assert!(answer.is_err(), "{request:?}");
    }
    assert_eq!(server.paths(), [""; 0]);
    foresee(&scratch, &packager, "pkg.install", &change(good.setting.clone()));
    assert!(is_ready_to_ask(&packager), "that is what else would have been");
}

#[test]
fn nothing_is_begun_where_a_crash_may_have_left_something_half_done_or_no_project_is() {
    let scratch = Scratch::new();
    let server = Server::start(|_| leaf());
    let (packager, wish) = (scratch.packager_for_one(), wish(&server));
    // Of any project: another one's manifest may say where this one's registry is.
    let journal = scratch.path("state/journal/0-0@fe00-1.journal");
    std::fs::write(&journal, b"begun").expect("space");
    foresee(&scratch, &packager, "pkg.plan", &wish);
    assert!(!is_ready_to_ask(&packager), "a journal");
    std::fs::remove_file(journal).expect("it is there");
    let request = scratch.request("pkg.plan", &wish).expect("a request");
    std::fs::remove_dir(scratch.path("project")).expect("it is empty");
    packager.foresee(&request, &Waiting);
    assert!(!is_ready_to_ask(&packager), "no project");
    std::fs::create_dir(scratch.path("project")).expect("a project");
    foresee(&scratch, &packager, "pkg.plan", &wish);
    assert!(is_ready_to_ask(&packager), "that is what else would have been");
}

#[test]
fn who_is_offline_asks_nobody_and_is_told_as_ever() {
    let scratch = Scratch::new();
    let server = Server::start(|_| leaf());
    let mut wish = wish(&server);
    wish.setting.offline = true;
    let packager = scratch.packager_for_one();
    foresee(&scratch, &packager, "pkg.plan", &wish);
    packager.recover().expect("a state");
    let answer: Result<PlanAnswer> = scratch.ask(&packager, "pkg.plan", &wish);
    let error = answer.expect_err("nothing is here");
    let ordinary = Scratch::new();
    let answer: Result<PlanAnswer> = ordinary.ask(&ordinary.packager(), "pkg.plan", &wish);
    let expected = answer.expect_err("nothing is here");
    assert_eq!((error.code, error.message), (expected.code, expected.message));
    assert_eq!(server.paths(), [""; 0]);
}

#[test]
fn a_state_that_cannot_be_opened_is_told_as_where_nothing_was_foreseen() {
    let server = Server::start(|_| leaf());
    let newer: &dyn Fn(&Path) = &|path| {
        let connection = rusqlite::Connection::open(path).expect("a database");
        connection.pragma_update(None, "user_version", 1_000).expect("a version");
    };
    let damaged: &dyn Fn(&Path) = &|path| std::fs::write(path, [7; 8192]).expect("space");
    let blocked: &dyn Fn(&Path) = &|path| std::fs::create_dir(path).expect("a directory");
    for (code, spoil) in
        [("state-newer", newer), ("state-damaged", damaged), ("permission-denied", blocked)]
    {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path("state")).expect("a directory");
        spoil(&scratch.path("state/state.sqlite3"));
        let expected = scratch.made(Packager::new, Arc::new(PlainHost)).err().expect("an error");
        assert_eq!(expected.code, code);
        let packager = scratch.packager_for_one();
        foresee(&scratch, &packager, "pkg.plan", &wish(&server));
        let told = packager.recover().expect_err("an error");
        assert_eq!(told, ToolError::from(expected));
        let answer: Result<PlanAnswer> = scratch.ask(&packager, "pkg.plan", &wish(&server));
        assert_eq!(answer.expect_err("no state").code, code, "and it stays so");
    }
}
