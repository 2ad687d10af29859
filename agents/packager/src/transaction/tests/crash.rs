//! A crash, an error of the device, a full disk: at every single change that the protocol makes.
//!
//! The test counts the changes of a run, then repeats the run once for each of them and stops there. Crashes
//! happen in a child process (this program again), which kills itself as `kill -9` would.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::super::disk::{Hook, Verdict};
use super::super::order::Order;
use super::later::{THIS_START, answer};
use super::*;

const CHILD: &str = "BOLIDE_TEST_CRASH";

/// Does one thing at one point, or from there on. Children are started from `/proc/self/exe`: a build that runs
/// at the same time may have replaced the file.
struct Script {
    reached: AtomicUsize,
    at: usize,
    verdict: Verdict,
    onwards: bool,
    names: Mutex<Vec<&'static str>>,
    order: Option<Order>,
}

impl Script {
    fn new(at: usize, verdict: Verdict, onwards: bool) -> Arc<Self> {
        Self::in_order(None, at, verdict, onwards)
    }

    fn in_order(order: Option<Order>, at: usize, verdict: Verdict, onwards: bool) -> Arc<Self> {
        let names = Mutex::default();
        Arc::new(Self { reached: AtomicUsize::new(0), at, verdict, onwards, names, order })
    }

    fn disk(self: &Arc<Self>) -> Disk {
        Disk { hook: Some(self.clone()) }
    }
}

impl Hook for Script {
    fn reach(&self, name: &'static str) -> Verdict {
        let index = self.reached.fetch_add(1, Ordering::SeqCst);
        self.names.lock().unwrap().push(name);
        let hit = index == self.at || self.onwards && index > self.at;
        if hit { self.verdict } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        self.order
    }
}

/// What is done when the crash comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    FirstInstall,
    SecondInstall,
    /// One whose end is left to who takes the lock next.
    LeftInstall,
    /// One that is answered before the device has it, and confirmed afterwards.
    AnsweredInstall,
    RollbackOfOne,
    RollbackOfAll,
    ForcedRollback,
    Recovery,
}

const DEEDS: [Deed; 7] = [
    Deed::FirstInstall,
    Deed::SecondInstall,
    Deed::LeftInstall,
    Deed::AnsweredInstall,
    Deed::RollbackOfOne,
    Deed::RollbackOfAll,
    Deed::ForcedRollback,
];

impl Deed {
    fn prepare(self, world: &World) {
        if self == Deed::FirstInstall {
            return;
        }
        let mut session = world.session();
        install(&mut session, "1.0.0", false).unwrap();
        if matches!(self, Deed::RollbackOfOne | Deed::RollbackOfAll) {
            install(&mut session, "2.0.0", false).unwrap();
        }
        if self == Deed::ForcedRollback {
            world.write("node_modules/a/index.js", "patched\n");
        }
    }

    fn run(self, world: &World, disk: Disk) -> Result<()> {
        let transactions = world.open_on(disk)?;
        let mut session = world.lock(&transactions)?;
        match self {
            Deed::FirstInstall => install(&mut session, "1.0.0", false).map(drop),
            Deed::SecondInstall => install(&mut session, "2.0.0", false).map(drop),
            Deed::LeftInstall => {
                let options = CommitOptions { leaves_rest: true, ..CommitOptions::default() };
                install_as(&mut session, "2.0.0", options)?;
                drop(session);
                // What is not ended here is ended by the next one.
                let _ = world.lock(&transactions);
                Ok(())
            }
            Deed::AnsweredInstall => {
                // Where an error is made of its note, it waits as ever.
                install_as(&mut session, "2.0.0", answer())?;
                // Nobody knows then what is there.
                let uncertain = |error: Error| Error { code: "commit-uncertain".into(), ..error };
                let ended = session.confirm().map_err(uncertain)?;
                match ended.iter().any(|one| one.outcome == Outcome::Undone) {
                    false => Ok(()),
                    true => Err(Error::new(Kind::Failed, "not-stored", "it was taken back")),
                }
            }
            Deed::RollbackOfOne => session.rollback(None, "uid 0", false).map(drop),
            Deed::ForcedRollback => session.rollback(None, "uid 0", true).map(drop),
            Deed::RollbackOfAll => {
                let first = transactions.history(None, 10)?.last().unwrap().id.clone();
                session.rollback(Some(&first), "uid 0", false).map(drop)
            }
            Deed::Recovery => Ok(()),
        }
    }

    /// Where it is done.
    fn world(self) -> World {
        let start = self.start();
        World { start, ..World::quick() }
    }

    fn start(self) -> Option<String> {
        (self == Deed::AnsweredInstall).then(|| THIS_START.to_owned())
    }

    fn operation(self) -> &'static str {
        match self {
            Deed::FirstInstall
            | Deed::SecondInstall
            | Deed::LeftInstall
            | Deed::AnsweredInstall => "add",
            _ => "rollback",
        }
    }
}

/// The old and the new state, and the points on the way.
struct Survey {
    old: String,
    new: String,
    points: Vec<&'static str>,
}

fn survey(deed: Deed) -> Survey {
    survey_in_order(deed, None)
}

fn survey_in_order(deed: Deed, order: Option<Order>) -> Survey {
    let world = deed.world();
    deed.prepare(&world);
    let old = world.visible();
    let script = Script::in_order(order, usize::MAX, Verdict::Proceed, false);
    deed.run(&world, script.disk()).unwrap();
    let points = script.names.lock().unwrap().clone();
    Survey { old, new: world.visible(), points }
}

/// After recovery: the tree is one of the two, and everything else agrees with it.
fn check(world: &World, deed: Deed, survey: &Survey, what: &str) -> bool {
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap_or_else(|error| panic!("{what}: {error}"));
    let now = world.visible();
    assert!(now == survey.old || now == survey.new, "{what}: neither the old nor the new tree");
    let new = now == survey.new;
    world.assert_clean();
    let history = transactions.history(None, 10).unwrap();
    assert!(history.iter().all(|entry| entry.state != State::Preparing), "{what}");
    let done = history.first().is_some_and(|entry| {
        entry.operation == deed.operation() && entry.state == State::Committed
    });
    let done = match deed {
        Deed::SecondInstall | Deed::LeftInstall | Deed::AnsweredInstall => {
            done && history.len() == 2 && history[1].state == State::Committed
        }
        _ => done,
    };
    assert_eq!(done, new, "{what}: the database tells another story: {history:?}");
    let standing = history
        .iter()
        .filter(|entry| entry.state == State::Committed && entry.operation != "rollback")
        .count();
    assert_eq!(world.has(".bolide"), standing > 0, "{what}");
    // An item per live name but the removed one.
    let prints = fs::read_dir(world.state.join("fingerprints")).unwrap().count();
    assert_eq!(prints, standing * 4, "{what}");
    if deed == Deed::ForcedRollback && new {
        let kept = world.state.join("kept").join(&history[0].id).join("node_modules/a/index.js");
        assert_eq!(fs::read_to_string(kept).unwrap(), "patched\n", "{what}");
    }
    // What stands can be taken back completely.
    if standing > 0 {
        let first = history.last().unwrap().id.clone();
        session.rollback(Some(&first), "uid 0", true).unwrap();
    }
    drop(session);
    let original = World::quick();
    assert_eq!(world.everything(), original.everything(), "{what}: not back at the beginning");
    new
}

fn crash_in_child(world: &World, deed: Deed, at: usize, verdict: &str) {
    crash_in_order(world, deed, None, at, verdict);
}

fn crash_in_order(world: &World, deed: Deed, order: Option<Order>, at: usize, verdict: &str) {
    let place = world.project.parent().unwrap().display();
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "transaction::tests::crash::the_child_that_is_killed", "--nocapture"])
        .env(CHILD, format!("{place}\n{deed:?}\n{at}\n{verdict}\n{}", order.is_some()))
        .output()
        .unwrap();
    assert!(
        output.status.code().is_none(),
        "the child was to be killed at {at} of {deed:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn the_child_that_is_killed() {
    let Ok(orders) = std::env::var(CHILD) else { return };
    let orders: Vec<_> = orders.split('\n').collect();
    let mut world = World::at(Path::new(orders[0]));
    let deed = DEEDS
        .into_iter()
        .chain([Deed::Recovery])
        .find(|deed| format!("{deed:?}") == orders[1])
        .unwrap();
    world.start = deed.start();
    let verdict = if orders[3] == "before" { Verdict::CrashBefore } else { Verdict::CrashAfter };
    let order = (orders[4] == "true").then(Order::default);
    let script = Script::in_order(order, orders[2].parse().unwrap(), verdict, false);
    let _ = deed.run(&world, script.disk());
}

fn crash_everywhere(deed: Deed) {
    crash_everywhere_in_order(deed, None);
}

/// With [`Order::default`] as on a file system that keeps none.
fn crash_everywhere_in_order(deed: Deed, order: Option<Order>) {
    let survey = survey_in_order(deed, order);
    let (mut old, mut new) = (0, 0);
    for (at, name) in survey.points.iter().enumerate() {
        // After one change is before the next; only a write can also end in its middle.
        let verdicts: &[&str] = if *name == "append" { &["before", "after"] } else { &["before"] };
        for verdict in verdicts {
            let world = deed.world();
            deed.prepare(&world);
            crash_in_order(&world, deed, order, at, verdict);
            let what = format!("{deed:?}, {verdict} point {at} ({name})");
            if check(&world, deed, &survey, &what) { new += 1 } else { old += 1 }
        }
    }
    println!("{deed:?}: {} points, {old} crashes undone, {new} finished", survey.points.len());
    assert!(old > 0 && new > 0);
}

#[test]
fn a_crash_anywhere_in_the_first_install_leaves_the_old_or_the_new() {
    crash_everywhere(Deed::FirstInstall);
}

#[test]
fn a_crash_anywhere_in_a_later_install_leaves_the_old_or_the_new() {
    crash_everywhere(Deed::SecondInstall);
}

#[test]
fn a_crash_anywhere_before_what_an_answer_did_not_wait_for_leaves_the_old_or_the_new() {
    crash_everywhere(Deed::LeftInstall);
}

#[test]
fn a_crash_anywhere_before_or_after_an_answer_leaves_the_old_or_the_new() {
    crash_everywhere(Deed::AnsweredInstall);
}

#[test]
fn a_crash_anywhere_where_names_keep_no_order_leaves_the_old_or_the_new() {
    crash_everywhere_in_order(Deed::LeftInstall, Some(Order::default()));
    crash_everywhere_in_order(Deed::RollbackOfOne, Some(Order::default()));
}

#[test]
fn a_crash_anywhere_in_a_rollback_leaves_the_old_or_the_new() {
    crash_everywhere(Deed::RollbackOfOne);
    crash_everywhere(Deed::ForcedRollback);
}

#[test]
fn a_crash_anywhere_in_a_rollback_of_everything_leaves_the_old_or_the_new() {
    crash_everywhere(Deed::RollbackOfAll);
}

#[test]
fn a_crash_while_recovering_is_recovered() {
    let mut count = 0;
    for deed in [Deed::FirstInstall, Deed::RollbackOfAll] {
        let survey = survey(deed);
        let moves: Vec<usize> = survey
            .points
            .iter()
            .enumerate()
            .filter(|(_, name)| matches!(**name, "exchange" | "rename" | "database"))
            .map(|(at, _)| at)
            .collect();
        for at in moves.into_iter().step_by(2) {
            // How many changes does the recovery make?
            let world = World::quick();
            deed.prepare(&world);
            crash_in_child(&world, deed, at, "before");
            let script = Script::new(usize::MAX, Verdict::Proceed, false);
            Deed::Recovery.run(&world, script.disk()).unwrap();
            let points = script.names.lock().unwrap().clone();
            for (second, name) in points.iter().enumerate().step_by(2) {
                let world = World::quick();
                deed.prepare(&world);
                crash_in_child(&world, deed, at, "before");
                crash_in_child(&world, Deed::Recovery, second, "before");
                let what = format!("{deed:?} at {at}, recovery at {second} ({name})");
                check(&world, deed, &survey, &what);
                count += 1;
            }
        }
    }
    println!("{count} crashes of recoveries recovered");
}

#[test]
fn an_error_anywhere_changes_nothing_or_everything() {
    let mut count = 0;
    for deed in DEEDS {
        let survey = survey(deed);
        for (at, name) in survey.points.iter().enumerate() {
            for errno in [Errno::IO, Errno::NOSPC] {
                for onwards in [false, true] {
                    let world = deed.world();
                    deed.prepare(&world);
                    let script = Script::new(at, Verdict::Fail(errno), onwards);
                    let result = deed.run(&world, script.disk());
                    let seen = world.visible();
                    let what = format!(
                        "{deed:?}, {errno:?} at {at} ({name}), onwards: {onwards}: {result:?}"
                    );
                    let new = check(&world, deed, &survey, &what);
                    count += 1;
                    match &result {
                        Ok(()) => assert!(new, "{what}"),
                        Err(error) if error.code == "commit-uncertain" => {}
                        Err(error) => {
                            assert!(!new, "{what}");
                            // A single error is undone at once, not only by the next command.
                            let undone = onwards || seen == survey.old;
                            let said = error.hint.as_deref().unwrap_or("").contains("next command");
                            assert!(undone || said, "{what}");
                        }
                    }
                }
            }
        }
    }
    println!("{count} errors of the device survived");
}

#[test]
fn where_names_cannot_be_exchanged_three_renames_do() {
    struct NoExchange;
    impl Hook for NoExchange {
        fn reach(&self, name: &'static str) -> Verdict {
            if name == "exchange" { Verdict::Fail(Errno::INVAL) } else { Verdict::Proceed }
        }
    }
    let world = World::quick();
    let before = world.everything();
    let disk = Disk { hook: Some(Arc::new(NoExchange)) };
    for deed in [Deed::FirstInstall, Deed::SecondInstall] {
        deed.run(&world, disk.clone()).unwrap();
    }
    assert!(world.read("node_modules/a/index.js").contains("2.0.0"));
    assert_eq!(world.read("package.json"), "{\"dependencies\":{\"a\":\"2.0.0\"}}\n");
    Deed::RollbackOfAll.run(&world, disk).unwrap();
    assert_eq!(world.everything(), before);
    world.assert_clean();
}

/// The same, with a crash at every point; the hook of the child also refuses to exchange.
#[test]
fn a_crash_between_the_three_renames_is_recovered() {
    struct Both(Arc<Script>);
    impl Hook for Both {
        fn reach(&self, name: &'static str) -> Verdict {
            match self.0.reach(name) {
                Verdict::Proceed if name == "exchange" => Verdict::Fail(Errno::INVAL),
                verdict => verdict,
            }
        }
    }
    let deed = Deed::SecondInstall;
    let survey = survey(deed);
    let count = Script::new(usize::MAX, Verdict::Proceed, false);
    let world = World::quick();
    deed.prepare(&world);
    deed.run(&world, Disk { hook: Some(Arc::new(Both(count.clone()))) }).unwrap();
    let names = count.names.lock().unwrap().clone();
    for (at, name) in names.iter().enumerate() {
        let world = World::quick();
        deed.prepare(&world);
        // Every change from there on fails, the undoing too: the same as a crash for the one who comes after.
        let script = Script::new(at, Verdict::Fail(Errno::IO), true);
        let _ = deed.run(&world, Disk { hook: Some(Arc::new(Both(script))) });
        check(&world, deed, &survey, &format!("three renames, point {at} ({name})"));
    }
    println!("three renames: {} points", names.len());
}

#[test]
fn a_crash_while_a_lower_layer_is_copied_leaves_the_old_or_the_new() {
    let Some(first) = super::machine::overlay() else { return };
    let old = first.world.visible();
    let count = Script::new(usize::MAX, Verdict::Proceed, false);
    Deed::FirstInstall.run(&first.world, count.disk()).unwrap();
    let new = first.world.visible();
    let names = count.names.lock().unwrap().clone();
    assert!(names.contains(&"copy"));
    for (at, name) in names.iter().enumerate() {
        let Some(overlay) = super::machine::overlay() else { return };
        let world = &overlay.world;
        let script = Script::new(at, Verdict::Fail(Errno::IO), true);
        let _ = Deed::FirstInstall.run(world, script.disk());
        let session = world.session();
        let now = world.visible();
        assert!(now == old || now == new, "point {at} ({name})");
        let stands = world.open().history(None, 1).unwrap();
        let stands = stands.first().is_some_and(|entry| entry.state == State::Committed);
        assert_eq!(stands, now == new, "point {at} ({name})");
        assert_eq!(world.has(".bolide"), stands, "point {at} ({name})");
        world.assert_clean();
        drop(session);
    }
    println!("a lower layer: {} points", names.len());
}
