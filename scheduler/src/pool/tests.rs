//! Pools on the real threads and CPUs of the machine that runs the tests.

mod guests;
mod waits;
mod wanted;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use hw::affinity;
use hw::cpu::Classes;
use hw::cpu_set::CpuSet;
use hw::pin::Thread;
use hw::root::Root;

use super::{Machine, Pools, Undertaking};
use crate::admission::{Order, Reason};
use crate::decision::{Background, Decision, Slots, State};
use crate::placement::{Lane, Pinning, Work};

fn decision(state: State, [performance, efficient, low_power]: [usize; 3]) -> Decision {
    let slots = Slots { performance, efficient, low_power };
    Decision { state, slots, heavy: true, background: Background::Efficient }
}

fn machine(performance: &CpuSet, efficient: &CpuSet, allowed: &CpuSet) -> Machine {
    let (performance, efficient) = (performance.clone(), efficient.clone());
    let classes = Classes { performance, efficient, low_power: CpuSet::default(), source: "test" };
    Machine { classes, allowed: allowed.clone(), pinning: Pinning::Strict, contended: false }
}

fn alike() -> Machine {
    let allowed = affinity::allowed(&Root::machine());
    machine(&allowed, &CpuSet::default(), &allowed)
}

fn order(requester: &str) -> Order {
    Order {
        requester: Arc::from(requester),
        priority: 5,
        waited: Duration::ZERO,
        noted: [false; 4],
    }
}

const ALWAYS: &dyn Fn() -> bool = &|| true;
const QUIET: &dyn Fn(Reason) = &|_| {};

#[test]
fn every_piece_runs_once_whoever_runs_it() {
    for slots in [[1, 0, 0], [2, 0, 0], [3, 2, 1]] {
        let pools = Pools::new(decision(State::Off, slots), alike());
        let counts: Vec<AtomicUsize> = (0..500).map(|_| AtomicUsize::new(0)).collect();
        let piece = |index: usize| {
            counts[index].fetch_add(1, Ordering::Relaxed);
        };
        for work in Work::ALL {
            pools.run((&order("a"), work), counts.len(), ALWAYS, &piece);
        }
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == Work::ALL.len()));
    }
}

#[test]
fn never_more_run_than_there_are_slots_and_a_resolution() {
    let pools = Pools::new(decision(State::Off, [2, 1, 0]), alike());
    let (running, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let piece = |_: usize| {
        peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        running.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for (number, work) in
            [Work::Resolve, Work::Unpack, Work::Scan].iter().cycle().take(9).enumerate()
        {
            let (pools, piece) = (&pools, &piece);
            scope.spawn(move || {
                pools.run((&order(&number.to_string()), *work), 200, ALWAYS, piece);
            });
        }
    });
    assert!((1..=4).contains(&peak.into_inner()));
    // The last worker gives its slot back just after the last caller has heard of the end.
    while !pools.is_idle() {
        std::thread::yield_now();
    }
    assert_eq!(pools.report().running, [0; 4]);
}

#[test]
fn work_within_work_is_done_in_place() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let inner = AtomicUsize::new(0);
    let outer = |_: usize| {
        let count = |_: usize| {
            inner.fetch_add(1, Ordering::Relaxed);
        };
        pools.run((&order("a"), Work::Resolve), 3, ALWAYS, &count);
    };
    pools.run((&order("a"), Work::Unpack), 4, ALWAYS, &outer);
    assert_eq!(inner.into_inner(), 12);
}

#[test]
fn a_panic_goes_on_in_the_caller_and_the_pools_live_on() {
    let pools = Pools::new(decision(State::Off, [2, 0, 0]), alike());
    let begun = AtomicUsize::new(0);
    let piece = |index: usize| {
        begun.fetch_add(1, Ordering::Relaxed);
        assert!(index != 3, "the fourth");
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        pools.run((&order("a"), Work::Background), 1000, ALWAYS, &piece);
    }));
    let text = *ran.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!((text, begun.into_inner()), ("the fourth", 4), "background is one at a time");
    let ran = AtomicBool::new(false);
    let piece = |_: usize| ran.store(true, Ordering::Relaxed);
    pools.run((&order("a"), Work::Background), 1, ALWAYS, &piece);
    assert!(ran.into_inner());
}

#[test]
fn what_nobody_wants_any_more_is_not_begun() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let (wanted, begun) = (AtomicBool::new(true), AtomicUsize::new(0));
    let pools = &pools;
    let (holding, go) = (&Barrier::new(2), &Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let hold = |_: usize| {
                holding.wait();
                go.wait();
            };
            pools.run((&order("holder"), Work::Unpack), 1, ALWAYS, &hold);
        });
        holding.wait();
        let (wanted, begun) = (&wanted, &begun);
        let waiter = scope.spawn(move || {
            let piece = |_: usize| {
                begun.fetch_add(1, Ordering::Relaxed);
            };
            let is_wanted = || wanted.load(Ordering::Relaxed);
            pools.run((&order("waiter"), Work::Unpack), 5, &is_wanted, &piece);
        });
        while !pools.has_waiting() {
            std::thread::yield_now();
        }
        wanted.store(false, Ordering::Relaxed);
        waiter.join().unwrap();
        go.wait();
    });
    assert_eq!(begun.into_inner(), 0);
    assert_eq!(pools.report().deferred[Reason::Slots as usize].count, 1);
}

#[test]
fn heavy_work_begins_when_the_decision_allows_it() {
    let hot = Decision { heavy: false, ..decision(State::Caution, [1, 0, 0]) };
    let pools = Pools::new(hot, alike());
    std::thread::scope(|scope| {
        let waiter =
            scope.spawn(|| pools.begin(&order("a"), Undertaking::Heavy, &ALWAYS, QUIET).is_some());
        while !pools.has_waiting() {
            std::thread::yield_now();
        }
        assert_eq!(pools.report().deferred[Reason::Heat as usize].waiting, 1);
        pools.set_decision(decision(State::Normal, [1, 0, 0]));
        assert!(waiter.join().unwrap());
    });
    let deferred = pools.report().deferred[Reason::Heat as usize];
    assert_eq!((deferred.waiting, deferred.count), (0, 1));
    assert!(!deferred.time.is_zero() && pools.is_idle());
    pools.set_decision(hot);
    assert!(pools.begin(&order("a"), Undertaking::Heavy, &|| false, QUIET).is_none());
    assert!(pools.begin(&order("a"), Undertaking::Download, &|| false, QUIET).is_some());
}

#[test]
fn a_smaller_decision_takes_effect_between_two_pieces() {
    let pools = Pools::new(decision(State::Optimal, [1, 3, 0]), alike());
    let (running, peak, cut) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let piece = |index: usize| {
        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
        if index == 100 {
            pools.set_decision(decision(State::Throttle, [1, 0, 0]));
        }
        // Whoever began before the cut may still be running for one piece each.
        if index > 110 {
            peak.fetch_max(now, Ordering::SeqCst);
            cut.fetch_add(1, Ordering::SeqCst);
        }
        std::thread::yield_now();
        running.fetch_sub(1, Ordering::SeqCst);
    };
    pools.run((&order("a"), Work::Unpack), 1000, ALWAYS, &piece);
    assert_eq!(cut.into_inner(), 889);
    assert_eq!(peak.into_inner(), 1);
}

/// What `/proc` says of the threads that ran pieces.
fn seen(pools: &Pools, work: Work) -> Vec<(Thread, String, String)> {
    let found = Mutex::new(Vec::new());
    let look = |_: usize| {
        let thread = Thread::current();
        let place = format!("/proc/self/task/{}/status", thread.number());
        let status = std::fs::read_to_string(place).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        found.lock().unwrap().push((thread, field("Name:"), field("Cpus_allowed_list:")));
    };
    pools.run((&order("a"), work), 1, ALWAYS, &look);
    found.into_inner().unwrap()
}

/// The first and the last CPU of this process, as a machine of two classes; nothing where it has only one, which is said.
fn two_classes() -> Option<[CpuSet; 3]> {
    let allowed = affinity::allowed(&Root::machine());
    let (first, last) = (allowed.iter().next()?, allowed.iter().last()?);
    if first == last {
        // Past the harness, which keeps to itself what passing tests print.
        let mut said = std::io::stderr();
        let why = "it takes two processors, this process has";
        let _ = writeln!(said, "not shown here: {why} {allowed}");
        return None;
    }
    Some([CpuSet::from_iter([first]), CpuSet::from_iter([last]), allowed])
}

#[test]
fn workers_are_seen_on_the_cores_of_their_class() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), machine(&first, &last, &allowed));
    let [(resolver, name, cpus)] = &seen(&pools, Work::Resolve)[..] else { panic!() };
    assert_eq!((name.as_str(), cpus), ("worker-p-0", &first.to_string()));
    let [(unpacker, name, cpus)] = &seen(&pools, Work::Unpack)[..] else { panic!() };
    assert_eq!((name.as_str(), cpus), ("worker-e-0", &last.to_string()));
    let [(_, name, cpus)] = &seen(&pools, Work::Background)[..] else { panic!() };
    assert_eq!((name.as_str(), cpus), ("worker-idle-0", &last.to_string()));
    assert_eq!(pools.report().cpus[0], first);
    assert_eq!(pools.report().workers, [1, 1, 0, 1]);

    // The set shrinks under them: the sleeping workers are moved by number, the class that is gone falls back.
    pools.set_machine(machine(&first, &last, &last));
    assert_eq!(resolver.cpus(), Some(last.clone()));
    // It grows again, and the classes have changed sides.
    pools.set_machine(machine(&last, &first, &allowed));
    assert_eq!((resolver.cpus(), unpacker.cpus()), (Some(last.clone()), Some(first.clone())));
    assert_eq!(pools.report().cpus[..2], [last, first]);
}

/// What can be seen on a single processor as well: each lane has threads of its own where the caller is free to be elsewhere, and each
/// says of itself, by way of the kernel, what the pools say of it.
#[test]
fn the_kernel_and_the_pools_say_the_same_of_every_worker() {
    let allowed = affinity::allowed(&Root::machine());
    let one = CpuSet::from_iter(allowed.iter().last());
    // Bits of processors that there are not are cut off, as the kernel does it.
    let beyond = CpuSet::from_iter([allowed.iter().last().unwrap() + 1]).union(&one);
    let pools = Pools::new(decision(State::Off, [1, 1, 1]), machine(&one, &beyond, &allowed));
    for (work, lane) in [(Work::Resolve, 0), (Work::Unpack, 1), (Work::Background, 3)] {
        let [(_, _, cpus)] = &seen(&pools, work)[..] else { panic!() };
        assert_eq!(*cpus, one.to_string(), "{work:?}");
        assert_eq!(pools.report().cpus[lane], one, "{work:?}");
    }
}

#[test]
fn somebody_else_moving_a_worker_is_put_right_at_the_next_look() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), machine(&first, &last, &allowed));
    let (resolver, ..) = seen(&pools, Work::Resolve).remove(0);
    resolver.pin(&allowed).unwrap();
    pools.set_machine(machine(&first, &last, &allowed));
    assert_eq!(resolver.cpus(), Some(first));
}

#[test]
fn pinning_can_be_off_and_gives_way_to_contention() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let strict = machine(&first, &last, &allowed);
    let off = Machine { pinning: Pinning::Off, ..strict.clone() };
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), off);
    assert_eq!(seen(&pools, Work::Background)[0].2, allowed.to_string());
    let auto = Machine { pinning: Pinning::Auto, ..strict.clone() };
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), auto.clone());
    let (resolver, ..) = seen(&pools, Work::Resolve).remove(0);
    assert_eq!(resolver.cpus(), Some(first.clone()));
    pools.set_machine(Machine { contended: true, ..auto.clone() });
    assert_eq!(resolver.cpus(), Some(allowed.clone()));
    pools.set_machine(auto);
    assert_eq!(resolver.cpus(), Some(first.clone()));
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), strict.clone());
    let (resolver, ..) = seen(&pools, Work::Resolve).remove(0);
    pools.set_machine(Machine { contended: true, ..strict });
    assert_eq!(resolver.cpus(), Some(first));
}

/// Runs one of these tests again in a process that the kernel holds to `cpus`, as `taskset` starts one: what a thread starts may be
/// where that thread may be.
fn again_held_to(cpus: &CpuSet, test: &str) {
    let run = || {
        assert_eq!(affinity::pin_current_thread(cpus).as_ref(), Some(cpus));
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(HELD_TO, cpus.to_string()).output().unwrap()
    };
    let output = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

/// Tells the process that is started to where it is held.
const HELD_TO: &str = "BOLIDE_TEST_HELD_TO";

#[test]
fn a_process_that_was_started_with_less_stays_within_it() {
    if let Ok(held) = std::env::var(HELD_TO) {
        // The process that is started below.
        let everything = CpuSet::parse("0-63").unwrap();
        let held = CpuSet::parse(&held).unwrap();
        let allowed = affinity::allowed(&Root::machine());
        assert_eq!(allowed, held);
        // A class that lies outside, and one that lies partly inside.
        let outside = everything.difference(&held);
        let pools =
            Pools::new(decision(State::Off, [1, 1, 0]), machine(&outside, &everything, &allowed));
        for work in [Work::Resolve, Work::Unpack, Work::Background] {
            assert_eq!(seen(&pools, work)[0].2, held.to_string());
        }
        assert_eq!(pools.report().cpus[0], held, "the effective set");
        return;
    }
    // On a single processor, too: there it shows that a class outside of it is no reason to leave it.
    let allowed = affinity::allowed(&Root::machine());
    let ends = BTreeSet::from_iter([allowed.iter().next(), allowed.iter().last()]);
    for cpus in ends.into_iter().flatten().map(|cpu| CpuSet::from_iter([cpu])) {
        again_held_to(&cpus, "pool::tests::a_process_that_was_started_with_less_stays_within_it");
    }
}

#[test]
fn background_runs_in_the_idle_class() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let policy = Mutex::new(String::new());
    let look = |_: usize| {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
        *policy.lock().unwrap() = fields.skip(38).take(1).collect();
    };
    pools.run((&order("a"), Work::Background), 1, ALWAYS, &look);
    // SCHED_IDLE.
    assert_eq!(policy.into_inner().unwrap(), "5");
}

#[test]
fn the_watch_sleeps_until_there_is_work_and_ends_with_the_pools() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let watch = pools.watch();
    let watcher = std::thread::spawn(move || {
        let mut seen = 0;
        while watch.wait_for_work() {
            seen += 1;
            std::thread::yield_now();
        }
        seen
    });
    let _permit = pools.begin(&order("a"), Undertaking::Download, &ALWAYS, QUIET).unwrap();
    while !pools.has_waiting() && pools.is_idle() {
        std::thread::yield_now();
    }
    drop(_permit);
    drop(pools);
    let _times = watcher.join().unwrap();
}

#[test]
fn the_watch_that_sleeps_is_woken_by_pieces_and_by_who_asks_for_leave() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let sleeping = || {
        let watch = pools.watch();
        let watcher = std::thread::spawn(move || watch.wait_for_work());
        while pools.shared.lock().sleepers == 0 {
            std::thread::yield_now();
        }
        watcher
    };
    // Where nobody wakes it, these never end.
    let until_woken = |watcher: &std::thread::JoinHandle<bool>| {
        while !watcher.is_finished() {
            std::thread::yield_now();
        }
    };
    let watcher = sleeping();
    pools.run((&order("a"), Work::Resolve), 1, ALWAYS, &|_| until_woken(&watcher));
    assert!(watcher.join().unwrap());
    let watcher = sleeping();
    let permit = pools.begin(&order("a"), Undertaking::Download, &ALWAYS, QUIET).unwrap();
    until_woken(&watcher);
    drop(permit);
    assert!(watcher.join().unwrap());
    let watcher = sleeping();
    drop(pools);
    assert!(!watcher.join().unwrap(), "there is no work any more");
}

#[test]
fn the_lane_of_a_caller_that_is_free_to_run_it_needs_no_thread() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let own = Thread::current();
    assert_eq!(seen(&pools, Work::Resolve)[0].0, own);
    assert_eq!(pools.report().workers[Lane::Performance as usize], 0);
}
