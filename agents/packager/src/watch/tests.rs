//! The thread that joins the answers, with its list but without a daemon and a registry; and what tests of answers need, too.

use std::sync::Mutex;

use agents_contract::{Busy, Host};
use serde_json::Value;

use super::under_way::Deferred;
use super::*;
use crate::io::testing::PlainHost;
use crate::limits::WATCH_QUIET;
use crate::service::{Packager, Places, Policy};
use crate::unpack::Unpacker;

/// A scratch place with one state directory.
pub(super) struct World {
    directory: tempfile::TempDir,
    packager: Packager,
}

impl World {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = |name: &str| directory.path().join(name);
        let places = Places { state: place("state"), cache: place("cache") };
        let packager = Packager::new(&places, Policy::default(), Unpacker::here(), host);
        Self { packager: packager.expect("a packager"), directory }
    }

    pub(super) fn shop(&self) -> &Arc<Shop> {
        self.packager.shop()
    }

    pub(super) fn packager(&self) -> &Packager {
        &self.packager
    }

    /// A new project that wants a package, watched since so many milliseconds after 1970.
    pub(super) fn watched(&self, name: &str, added_at_ms: u64) -> WatchRow {
        let project = self.directory.path().join(name);
        std::fs::create_dir_all(&project).expect("a project");
        let manifest = r#"{"name": "here", "version": "1.0.0", "dependencies": {"tree": "1"}}"#;
        std::fs::write(project.join("package.json"), manifest).expect("a manifest");
        let path = project.to_string_lossy().into_owned();
        let home = self.directory.path().to_string_lossy().into_owned();
        // Nobody listens there.
        let registry = [(crate::ecosystem::Ecosystem::Npm, "http://127.0.0.1:9/".to_owned())];
        let variables = [("HOME".to_owned(), home)].into();
        let setting = Setting { registry: registry.into(), variables, ..Setting::default() };
        let setting = serde_json::to_string(&setting).expect("a setting");
        let policy = WatchPolicy::Apply.name().to_owned();
        let row = WatchRow { path, policy, setting, added_at_ms, ..WatchRow::default() };
        assert!(self.shop().transactions.watch(&row, WATCHES_MAX).expect("a list"));
        row
    }

    /// What people see of the only project.
    pub(super) fn look(&self) -> Watched {
        list(self.shop()).expect("a list").watched.remove(0)
    }

    fn watcher(&self) -> Watcher {
        let state = self.directory.path().join("state");
        Watcher::new(Arc::clone(self.shop()), &state, Arc::new(Ear::default())).expect("a bell")
    }
}

/// A station that hears what is published: subjects, and the outcomes in them.
pub(super) struct Ear {
    heard: Mutex<Vec<(String, Value)>>,
    stop: Cancellation,
}

impl Default for Ear {
    fn default() -> Self {
        Self { heard: Mutex::default(), stop: Cancellation::until(None) }
    }
}

impl Ear {
    pub(super) fn heard(&self) -> Vec<(String, Value)> {
        self.heard.lock().expect("a list").clone()
    }
}

impl Station for Ear {
    fn publish(&self, subject: &str, payload: &[u8]) {
        let event: Value = ciborium::from_reader(payload).expect("an event");
        let subject = subject.strip_prefix("event.manifest.").unwrap_or(subject).to_owned();
        self.heard.lock().expect("a list").push((subject, event["outcome"].clone()));
    }

    fn begin(&self) -> Option<Busy> {
        Some(Busy::new(()))
    }

    fn cancellation(&self) -> &Cancellation {
        &self.stop
    }

    fn changed(&self) {}
}

#[test]
fn while_as_many_wait_as_may_others_are_shown_and_begin_when_there_is_room() {
    let world = World::new(Arc::new(PlainHost));
    let row = world.watched("next", 1);
    let last = WatchOutcome { outcome: "in-line".to_owned(), ..WatchOutcome::default() };
    world.shop().transactions.watch_answered(&row, None, &last).expect("an outcome");
    let mut watcher = world.watcher();
    let waiting = |number| PathBuf::from(format!("/waiting-{number}"));
    let terms = || (String::new(), String::new(), 0);
    let all = (0..WATCH_DEFERRED_MAX).map(|number| (waiting(number), terms()));
    watcher.under_way.follow_terms(all.collect());
    let obstacle = agents_contract::Obstacle::Heat;
    for number in 0..WATCH_DEFERRED_MAX {
        watcher.under_way.begin(waiting(number), Cancellation::until(None));
        let deferred =
            Deferred { terms: terms(), seen: String::new(), beside: Arc::default(), obstacle };
        watcher.under_way.defer(&waiting(number), deferred);
    }
    let project = PathBuf::from(&row.path);
    watcher.settling.touch(&project, Instant::now() - WATCH_QUIET);
    for _ in 0..2 {
        watcher.answer_due();
        watcher.show_put_off();
        assert_eq!(world.look().outcome.as_deref(), Some("deferred"));
        assert_eq!(world.look().message, "is looked at when fewer than 64 changes wait");
    }
    assert!(watcher.pauses.is_empty(), "nothing was begun in vain");

    watcher.under_way.end(&waiting(0));
    watcher.answer_due();
    watcher.show_put_off();
    // Nobody answers for its registry.
    let Told(told, News::Ended { .. }) = watcher.told.recv().expect("an answer") else { panic!() };
    assert_eq!((told, world.look().outcome.as_deref()), (project, Some("failed")));
}

#[test]
fn what_fails_again_and_again_is_tried_after_longer_and_longer_pauses() {
    let world = World::new(Arc::new(PlainHost));
    let (mut watcher, project) = (world.watcher(), PathBuf::from("/project"));
    for times in [2, 4, 8] {
        watcher.under_way.begin(project.clone(), Cancellation::until(None));
        watcher.ended(project.clone(), Done::AGAIN);
        assert_eq!(watcher.pauses[&project], times * WATCH_RETRY_MIN);
    }
    watcher.under_way.begin(project.clone(), Cancellation::until(None));
    watcher.ended(project, Done::NOTHING);
    assert!(watcher.pauses.is_empty());
}
