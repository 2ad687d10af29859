//! What others do between two looks of one request.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use agents_contract::{Host, Job, Order, Permit, Place, Undertaking, Wait, Work};

use super::*;
use crate::api::{HoldAnswer, HoldRequest, RollbackAnswer, RollbackRequest};
use crate::limits::REPLANS_MAX;

/// A host that does something else first whenever somebody is about to decide.
#[derive(Default)]
struct Meddler(Mutex<VecDeque<Job>>);

impl Host for Meddler {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let job = match work {
            Work::Resolve => self.0.lock().expect("a list").pop_front(),
            _ => None,
        };
        job.into_iter().for_each(|job| job());
        PlainHost.run(order, work, count, piece);
    }

    fn begin(&self, order: &Order, what: Undertaking, waits: &dyn Fn(Wait)) -> Option<Permit> {
        PlainHost.begin(order, what, waits)
    }

    fn settle(&self, work: Work) -> Place {
        PlainHost.settle(work)
    }

    fn later(&self, job: Job) {
        PlainHost.later(job);
    }

    fn now(&self) -> SystemTime {
        PlainHost.now()
    }
}

impl Meddler {
    fn before_the_next(&self, job: impl FnOnce() + Send + 'static) {
        self.0.lock().expect("a list").push_back(Box::new(job));
    }
}

fn add(world: &World, package: &str) -> Result<ApplyAnswer, ToolError> {
    let (packages, setting) = (vec![package.to_owned()], world.setting(Options::default()));
    world.ask("pkg.install", &ChangeRequest { packages, approve: true, force: false, setting })
}

fn undo(world: &World) {
    let request = RollbackRequest { transaction: None, force: true };
    let _: RollbackAnswer = world.ask("pkg.rollback", &request).expect("undone");
}

fn version_there(world: &World) -> String {
    let library = world.project().join(".venv/lib");
    let pythons = std::fs::read_dir(library).expect("an environment");
    let module = |python: std::fs::DirEntry| python.path().join("site-packages/base/__init__.py");
    pythons.flatten().find_map(|it| std::fs::read_to_string(module(it)).ok()).expect("installed")
}

#[test]
fn what_was_undone_while_it_was_planned_is_not_taken_for_installed() {
    let host = Arc::new(Meddler::default());
    let world = Arc::new(World::hosted(Policy::default(), host.clone()));
    add(&world, "pypi:base==1.0").expect("installed");
    let lock = world.read("bolide.lock");
    add(&world, "pypi:base==2.0").expect("installed");
    // So nothing but the record of what is installed tells that it was undone.
    world.write("bolide.lock", &lock);
    let other = Arc::clone(&world);
    host.before_the_next(move || undo(&other));
    let answer = add(&world, "pypi:base==2.0").expect("installed again");
    assert_eq!(answer.installed, ["pkg:pypi/base@2.0"], "{answer:?}");
    assert_eq!(world.listed(), ["pkg:pypi/base@2.0"]);
    assert_eq!(version_there(&world), "VERSION = '2.0'\n");
}

#[test]
fn whoever_is_never_quick_enough_is_told_so_and_changes_nothing() {
    let host = Arc::new(Meddler::default());
    let world = Arc::new(World::hosted(Policy::default(), host.clone()));
    add(&world, "pypi:good").expect("installed");
    for turn in 0..REPLANS_MAX {
        let other = Arc::clone(&world);
        let tool = if turn % 2 == 0 { "pkg.lock" } else { "pkg.unlock" };
        host.before_the_next(move || {
            let setting = other.setting(Options::default());
            let request = HoldRequest { packages: vec!["pypi:good".to_owned()], setting };
            let _: HoldAnswer = other.ask(tool, &request).expect("noted");
        });
    }
    let error = add(&world, "pypi:base==2.0").expect_err("too slow");
    assert_eq!((error.code.as_str(), error.exit_code), ("plan-stale", 4), "{error:?}");
    assert!(error.hint.expect("a hint").contains("again"));
    let there = world.listed();
    assert!(!there.iter().any(|purl| purl.contains("base")), "{there:?}");
}

/// A host that damages journals before it does what was to be done later, which it does at once.
#[derive(Default)]
struct Vandal(std::sync::OnceLock<std::path::PathBuf>);

impl Host for Vandal {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        PlainHost.run(order, work, count, piece);
    }

    fn begin(&self, order: &Order, what: Undertaking, waits: &dyn Fn(Wait)) -> Option<Permit> {
        PlainHost.begin(order, what, waits)
    }

    fn settle(&self, work: Work) -> Place {
        PlainHost.settle(work)
    }

    fn later(&self, job: Job) {
        for journal in self.0.get().into_iter().flat_map(|it| std::fs::read_dir(it).expect("ours"))
        {
            std::fs::write(journal.expect("one").path(), "damaged").expect("written");
        }
        job();
    }

    fn now(&self) -> SystemTime {
        PlainHost.now()
    }
}

#[test]
fn why_the_rest_could_not_be_done_at_once_is_told() {
    let host = Arc::new(Vandal::default());
    let world = World::hosted(Policy::default(), host.clone());
    add(&world, "pypi:base==1.0").expect("nothing is damaged yet");
    host.0.set(world.directory.path().join("state/journal")).expect("the first");
    let answer = add(&world, "pypi:base==2.0").expect("it stands");
    assert_eq!(version_there(&world), "VERSION = '2.0'\n");
    let told = answer.warnings.iter().any(|warning| warning.contains("is damaged"));
    assert!(told, "{:?}", answer.warnings);
}
