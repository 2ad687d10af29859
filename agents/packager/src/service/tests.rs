//! The agent as its host calls it, in a scratch place.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use agents_contract::Cancellation;

use super::*;
use crate::api::{WatchPolicy, WatchesAnswer};
use crate::io::testing::{LaterHost, PlainHost};
use crate::store::Form;
use crate::transaction::WatchOutcome;

mod foreseen;

const TOKEN: &str = "npm_a-token-that-nobody-else-may-read";

/// How a packager is made.
type Make = fn(&Places, Policy, Unpacker, Arc<dyn Host>) -> Result<Packager>;

/// A caller that only waits for the answer.
struct Waiting;

impl Conversation for Waiting {
    fn progress(&self, _: &[u8]) {}

    fn cancellation(&self) -> &Cancellation {
        Cancellation::NEVER
    }

    fn publish(&self, _: &str, _: &[u8]) {}
}

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("project")).expect("a project");
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn packager(&self) -> Packager {
        self.packager_at(Arc::new(PlainHost))
    }

    fn packager_at(&self, host: Arc<dyn Host>) -> Packager {
        self.made(Packager::new, host).expect("a packager")
    }

    /// One that recovers when it has said what it asks for.
    fn packager_for_one(&self) -> Packager {
        self.made(Packager::for_one_request, Arc::new(PlainHost)).expect("a packager")
    }

    fn made(&self, make: Make, host: Arc<dyn Host>) -> Result<Packager> {
        let places = Places { state: self.path("state"), cache: self.path("cache") };
        make(&places, Policy::default(), Unpacker::here(), host)
    }

    fn request(&self, tool: &str, payload: &impl Serialize) -> Result<Request> {
        Ok(Request {
            tool: tool.to_owned(),
            payload: write(payload)?,
            directory: Some(std::fs::File::open(self.path("project")).expect("a project").into()),
            caller: Caller {
                name: "test".to_owned(),
                uid: rustix::process::geteuid().as_raw(),
                pid: 1,
            },
            priority: 5,
            deadline: None,
        })
    }

    fn ask<T: Serialize, A: DeserializeOwned>(
        &self,
        packager: &Packager,
        tool: &str,
        payload: &T,
    ) -> Result<A> {
        read(&packager.answer(self.request(tool, payload)?, &Waiting)?)
    }

    fn mode(&self, name: &str) -> u32 {
        let about = std::fs::metadata(self.path(name)).expect(name);
        about.permissions().mode() & 0o7777
    }

    fn open_to_all(&self, name: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(name), mode).expect("another mode");
    }

    /// The files below the state directory that hold the token.
    fn holders(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut pending = vec![self.path("state")];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    pending.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).expect("a file");
                if bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
                    found.push(path);
                }
            }
        }
        found
    }
}

#[test]
fn the_state_is_readable_by_its_owner_alone_even_where_it_was_not() {
    let scratch = Scratch::new();
    let files = ["state/state.sqlite3", "state/state.sqlite3-wal", "state/state.sqlite3-shm"];
    let first = scratch.packager();
    assert_eq!(scratch.mode("state"), 0o700);
    for file in files {
        assert_eq!(scratch.mode(file), 0o600, "{file}");
    }
    for place in ["state", "state/journal"] {
        scratch.open_to_all(place, 0o755);
    }
    for file in files {
        scratch.open_to_all(file, 0o644);
    }
    let cache_mode = scratch.mode("cache");
    let _second = scratch.packager();
    drop(first);
    for place in ["state", "state/journal"] {
        assert_eq!(scratch.mode(place), 0o700, "{place}");
    }
    for file in files {
        assert_eq!(scratch.mode(file), 0o600, "{file}");
    }
    assert_eq!(scratch.mode("cache"), cache_mode);
}

#[test]
fn a_directory_that_many_share_is_not_taken_for_the_state() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("state")).expect("a directory");
    scratch.open_to_all("state", 0o1777);
    let places = Places { state: scratch.path("state"), cache: scratch.path("cache") };
    let refused = Packager::new(&places, Policy::default(), Unpacker::here(), Arc::new(PlainHost));
    assert_eq!(refused.err().expect("a refusal").code, "shared-state");
    assert_eq!(scratch.mode("state"), 0o1777);
}

#[test]
fn what_a_watched_project_was_set_to_is_gone_when_it_is_watched_no_more() {
    let scratch = Scratch::new();
    let packager = scratch.packager();
    // Another process has the database open, so that closing ours would not empty its log.
    let _other = scratch.packager();
    let setting = Setting {
        variables: BTreeMap::from([("NPM_TOKEN".to_owned(), TOKEN.to_owned())]),
        references: BTreeMap::from([("LONG".to_owned(), TOKEN.repeat(500))]),
        ..Setting::default()
    };
    let watch = WatchRequest { policy: WatchPolicy::Plan, setting };
    let answer: WatchesAnswer = scratch.ask(&packager, "pkg.watch", &watch).expect("an answer");
    assert!(!scratch.holders().is_empty());
    let path = answer.watched[0].path.clone();
    let answer: WatchesAnswer =
        scratch.ask(&packager, "pkg.unwatch", &UnwatchRequest { path }).expect("an answer");
    assert!(answer.watched.is_empty());
    assert_eq!(scratch.holders(), Vec::<PathBuf>::new());
}

#[test]
fn frozen_with_packages_of_its_own_needs_a_lock_of_them() {
    let scratch = Scratch::new();
    let manifest = r#"{"workspaces": ["packages/*"]}"#;
    std::fs::create_dir_all(scratch.path("project/packages/a")).expect("a directory");
    std::fs::write(scratch.path("project/package.json"), manifest).expect("a manifest");
    std::fs::write(scratch.path("project/packages/a/package.json"), "{}").expect("a manifest");
    let mut request = PlanRequest { install: true, ..PlanRequest::default() };
    request.setting.options.frozen = true;
    let packager = scratch.packager();
    let answer: Result<crate::api::PlanAnswer> = scratch.ask(&packager, "pkg.plan", &request);
    assert_eq!(answer.expect_err("a refusal").code, "lock-missing");
}

#[test]
fn that_a_project_is_not_watched_stands_beside_what_came_of_its_last_change() {
    let scratch = Scratch::new();
    let packager = scratch.packager();
    let watch = WatchRequest::default();
    let answer: WatchesAnswer = scratch.ask(&packager, "pkg.watch", &watch).expect("an answer");
    let path = answer.watched[0].path.as_str();
    let transactions = &packager.shop.transactions;
    transactions.note_unwatched(&[(path, "no more watches")]).expect("a note");
    let last = WatchOutcome { outcome: "in-line".to_owned(), ..WatchOutcome::default() };
    let row = transactions.watched(path).expect("a database").expect("a row");
    transactions.watch_answered(&row, None, &last).expect("an outcome");
    let look = || {
        let mut answer = crate::watch::list(&packager.shop).expect("an answer");
        answer.watched.remove(0)
    };
    assert_eq!(look().unwatched.as_deref(), Some("no more watches"));
    assert_eq!(look().outcome.as_deref(), Some("in-line"));
    transactions.note_unwatched(&[] as &[(&str, &str)]).expect("a note");
    assert_eq!(look().unwatched, None);
    assert_eq!(look().outcome.as_deref(), Some("in-line"));
}

#[test]
fn what_a_request_could_not_delete_is_gone_when_the_next_one_is_served_or_when_there_is_time() {
    let (scratch, host) = (Scratch::new(), Arc::new(LaterHost::default()));
    let packager = scratch.packager_at(Arc::clone(&host) as Arc<dyn Host>);
    let (leases, aside) = (scratch.path("cache/store/leases"), scratch.path("aside"));
    let names = || {
        let entries = std::fs::read_dir(&leases).expect("a store").flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let hashes = crate::metadata::Hashes { sha256: Some("ab".repeat(32)), sha512: None };
    // A lease that cannot be deleted when it ends, since a directory has its name, and could be after that.
    let leave = |meanwhile: &dyn Fn()| {
        let store = &packager.shop().store;
        let lease = store.lease([(&hashes, Form::Npm)], Cancellation::NEVER).expect("space");
        let path = names().pop().expect("a lease");
        std::fs::rename(&path, &aside).expect("the same file system");
        std::fs::create_dir(&path).expect("a directory");
        drop(lease);
        meanwhile();
        std::fs::remove_dir(&path).expect("ours");
        std::fs::rename(&aside, &path).expect("the same file system");
        assert_eq!(names(), [path]);
    };
    let call = || {
        let request = scratch.request("pkg.watches", &WatchesRequest {}).expect("a request");
        packager.call(request, &Waiting).expect("an answer");
    };
    leave(&|| {});
    call();
    assert!(names().is_empty(), "the next request finds it");
    leave(&call);
    host.do_what_waits();
    assert!(names().is_empty(), "nobody has tried it when there was time");
}
