//! What is told of an answer, whatever becomes of it.

use std::time::{Duration, SystemTime};

use agents_contract::{Agent, Host, Job, Permit, Place, Undertaking, Work};

use super::super::tests::{Ear, World};
use super::*;
use crate::io::testing::PlainHost;
use crate::limits::WATCH_RESUMED_AT_ONCE_MAX;

/// A host whose workers panic.
struct Broken;

impl Host for Broken {
    fn run(&self, _: &Order, _: Work, _: usize, _: &(dyn Fn(usize) + Sync)) {
        panic!("no workers")
    }

    fn begin(&self, order: &Order, what: Undertaking, waits: &dyn Fn(Wait)) -> Option<Permit> {
        PlainHost.begin(order, what, waits)
    }

    fn settle(&self, work: Work) -> Place {
        PlainHost.settle(work)
    }

    fn later(&self, job: Job) {
        job();
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// An answer to a change in the project of `row` that has come to the point where it may have to wait.
fn alone<'a>(
    world: &'a World,
    (row, station): (&'a WatchRow, &'a Ear),
    commission: Commission<'a>,
) -> Alone<'a> {
    let event = Event {
        schema: "bolide.manifest-event/1",
        project: &row.path,
        policy: WatchPolicy::Apply,
        manifests: &[],
        outcome: None,
        digest: None,
        message: "",
    };
    let project = Project::open(Path::new(&row.path)).expect("a project");
    let seen = Seen::now(&project, &Arc::default()).expect("its manifests");
    Alone {
        shop: world.shop(),
        station,
        row,
        seen: Mutex::new(seen),
        commission,
        event,
        page: world.shop().shown.page(Path::new(&row.path)),
        turn: Mutex::default(),
        told: Mutex::default(),
    }
}

fn heat() -> Wait {
    Wait { obstacle: Obstacle::Heat, at_most: Some(Duration::from_secs(9)) }
}

/// A turn, where there is one at once.
fn turn(turns: &Arc<Turns>) -> Option<Turn> {
    let wanted = Cancellation::until(None);
    turns.take((&wanted, Instant::now()), || wanted.cancel())
}

#[test]
fn an_answer_that_panics_is_a_failure_that_is_told_and_tried_again() {
    let world = World::new(Arc::new(Broken));
    let row = world.watched("project", 1);
    let (ear, turns, wanted) = (Ear::default(), Arc::default(), Cancellation::until(None));
    let commission = Commission { wanted: &wanted, tell: &|_| {}, turns: &turns };
    let done = answer(world.shop(), &ear, Path::new(&row.path), commission);
    assert!(done.again, "it is tried again");
    let told = ["changed", "answered"].map(str::to_owned);
    let heard = ear.heard();
    assert_eq!(heard.iter().map(|(subject, _)| subject.clone()).collect::<Vec<_>>(), told);
    assert_eq!(heard[1].1, "failed");
    let seen = world.look();
    assert_eq!(seen.outcome.as_deref(), Some("failed"));
    assert_eq!(seen.message, "the answer failed inside: no workers");
    let figures = world.packager().figures();
    let failed = |it: &&agents_contract::Figure| (it.name, it.label) == ("triggers", "failed");
    assert_eq!(figures.iter().find(failed).expect("a figure").value, 1);
    let row = world.shop().transactions.watched(&row.path).expect("a list").expect("a row");
    assert_eq!(row.seen, None, "the change is still to be answered");
}

#[test]
fn everybody_is_told_once_of_each_thing_that_it_waits_for_and_that_it_goes_on() {
    let world = World::new(Arc::new(PlainHost));
    let row = world.watched("project", 1);
    let last = WatchOutcome { outcome: "in-line".to_owned(), ..WatchOutcome::default() };
    world.shop().transactions.watch_answered(&row, None, &last).expect("an outcome");
    let (ear, turns, wanted) = (Ear::default(), Arc::default(), Cancellation::until(None));
    let held: Vec<_> = (0..WATCH_RESUMED_AT_ONCE_MAX).map(|_| turn(&turns)).collect();
    let (held, steps) = (Mutex::new(held), Mutex::new(Vec::new()));
    let tell = |step: Step| {
        steps.lock().unwrap().push(match step {
            Step::Waits(deferred) => Some(deferred.obstacle),
            Step::GoesOn => None,
        });
        if steps.lock().unwrap().last() == Some(&Some(Obstacle::Busy)) {
            held.lock().unwrap().clear();
        }
    };
    let commission = Commission { wanted: &wanted, tell: &tell, turns: &turns };
    let alone = alone(&world, (&row, &ear), commission);
    let shown = || (world.look().outcome.expect("an outcome"), world.look().message);
    let deferred = |message: &str| ("deferred".to_owned(), message.to_owned());
    let asked_at = Instant::now();
    alone.waits(heat());
    assert_eq!(shown(), deferred("waits until the machine is cooler, at most 9 s"));
    assert!(!alone.goes_on(asked_at), "it had to wait for its turn, and asks again");
    assert_eq!(shown(), deferred(WAITS_FOR_OTHERS));
    alone.waits(heat());
    assert_eq!(shown(), deferred("waits until the machine is cooler, at most 9 s"));
    assert!(alone.goes_on(asked_at));
    assert_eq!(shown().0, "applying");
    let [heat, busy] = [Obstacle::Heat, Obstacle::Busy].map(Some);
    assert_eq!(*steps.lock().unwrap(), [heat, busy, heat, None]);
    let told = |subject: &str, outcome: &str| (subject.to_owned(), outcome.into());
    let [twice, once] = [told("deferred", "deferred"), told("applying", "applying")];
    assert_eq!(ear.heard(), [twice.clone(), twice, once]);
    drop(alone);
    assert_eq!(shown().0, "in-line", "what was shown before it");
}

#[test]
fn who_waits_for_heat_keeps_no_turn() {
    let world = World::new(Arc::new(PlainHost));
    let row = world.watched("project", 1);
    let (ear, turns, wanted) = (Ear::default(), Arc::default(), Cancellation::until(None));
    let commission = Commission { wanted: &wanted, tell: &|_| {}, turns: &turns };
    let alone = alone(&world, (&row, &ear), commission);
    assert!(alone.goes_on(Instant::now()));
    let others: Vec<_> = (1..WATCH_RESUMED_AT_ONCE_MAX).filter_map(|_| turn(&turns)).collect();
    assert!(others.len() + 1 == WATCH_RESUMED_AT_ONCE_MAX && turn(&turns).is_none());
    alone.waits(heat());
    assert!(turn(&turns).is_some());
}

#[test]
fn an_answer_says_nothing_of_a_project_that_is_watched_anew_or_otherwise() {
    let world = World::new(Arc::new(PlainHost));
    let before = world.watched("project", 1);
    let transactions = &world.shop().transactions;
    let answered = || {
        let last = WatchOutcome { outcome: "applied".to_owned(), ..WatchOutcome::default() };
        transactions.watch_answered(&before, Some(("seen", "beside")), &last).expect("an outcome");
        transactions.watched(&before.path).expect("a list").expect("a row")
    };
    let policy = "plan".to_owned();
    let otherwise = WatchRow { policy, ..before.clone() };
    assert!(transactions.watch(&otherwise, 9).expect("a list"));
    assert_eq!(answered().seen, None, "the new policy has to look");
    assert!(transactions.unwatch(&before.path).expect("a list"));
    let anew = WatchRow { added_at_ms: 2, ..before.clone() };
    assert!(transactions.watch(&anew, 9).expect("a list"));
    assert_eq!((answered().seen, answered().last), (None, None));
    assert!(transactions.unwatch(&before.path).expect("a list"));
    assert!(transactions.watch(&before, 9).expect("a list"));
    let written = answered();
    assert_eq!(written.seen.as_deref().zip(written.beside.as_deref()), Some(("seen", "beside")));
}

#[test]
fn what_the_disk_has_not_taken_yet_is_not_applied() {
    let world = World::new(Arc::new(PlainHost));
    let row = world.watched("project", 1);
    let project = || Project::open(Path::new(&row.path)).expect("a project");
    let transactions = &world.shop().transactions;
    let wait = std::time::Duration::ZERO;
    // Somebody waits for the disk there.
    let held = transactions.lock(project(), wait, Cancellation::NEVER).expect("a lock");
    let gives_up = Cancellation::until(None);
    gives_up.cancel();
    let ended = world.shop().confirm_one(&project(), "tx-1", &gives_up);
    let error = ended.expect_err("it is not known");
    assert!(error.code == UNCONFIRMED && error.retry, "{error}");
    drop(held);
    world.shop().confirm_one(&project(), "tx-1", Cancellation::NEVER).expect("it has ended");
}
