//! A death, an error of the device, a full disk, a half-made write: at every change of the disk that the whole program makes while
//! it installs, updates, removes and takes back packages of three ecosystems, its helpers included. After each, the next start must
//! find the old tree or the new one, nothing left over, and a log that agrees.
//!
//! It is not the test of the protocol alone: that enumerates its own points, in the packager (`transaction/tests/crash.rs`).
//!
//! A run strikes a sample of the points. `BOLIDE_CRASH=all` strikes them all (`make crash`), `BOLIDE_CRASH_WORKERS` says with how
//! many worlds at once, `BOLIDE_CRASH_SECONDS` after what time the rest of an operation's strikes is left out, and a failure prints what to put into `BOLIDE_CRASH_ONLY` to have it again.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "what was covered is a result, too")]

mod calls;
mod campaign;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../it/far.rs"]
mod far;
mod look;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../it/packages.rs"]
mod packages;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../it/registry.rs"]
mod registry;
mod second_round;
mod sequences;
mod tracer;
mod unpacking;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../it/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;

use self::campaign::{OPERATIONS, Operation, Result, Stage, strikes};
use self::tracer::{Kind, Point, Strike};

/// Strikes of one operation in a sample.
const SAMPLE_STRIKES: usize = 12;
/// Strikes in one world before there is a new one: history grows, and with it the time of each command.
const WORLD_STRIKES_MAX: usize = 100;
/// Deaths of a daemon's agent in one world: whoever dies again and again is started later each time.
const WORLD_DEATHS_MAX: usize = 6;
/// Failures after which the rest is not tried.
const FAILURES_MAX: usize = 25;

/// Descriptors with which the program starts at all.
const DESCRIPTORS_MIN: usize = 4;
/// More than any operation here needs.
const DESCRIPTORS_MAX: usize = 512;

/// One point and what happens there.
type Blow = (Point, Strike);

/// What came of many.
#[derive(Debug, Default)]
struct Tally {
    undone: usize,
    done: usize,
    unreached: Vec<String>,
    failures: Vec<String>,
}

fn blows(kinds: &BTreeMap<String, Kind>) -> Vec<Blow> {
    let mut blows = Vec::new();
    for (name, kind) in kinds {
        for index in 0..kind.count {
            let point = Point { kind: name.clone(), index };
            blows.extend(strikes(kind).into_iter().map(|strike| (point.clone(), strike)));
        }
    }
    blows
}

/// Evenly spread over all of them, so over all kinds and ways to fail.
fn sample(blows: Vec<Blow>, count: usize) -> Vec<Blow> {
    let step = (blows.len() as f64 / count as f64).max(1.0);
    let chosen = (0..count.min(blows.len())).map(|index| (index as f64 * step) as usize);
    chosen.map(|index| blows[index].clone()).collect()
}

/// In an order in which the first part of them is as good as any other.
fn spread(blows: Vec<Blow>) -> Vec<Blow> {
    let mut numbered: Vec<_> = blows.into_iter().enumerate().collect();
    numbered.sort_by_key(|(index, _)| (*index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    numbered.into_iter().map(|(_, blow)| blow).collect()
}

/// An operation and who carries it out.
type Staged = (Operation, bool);

fn stage_name((operation, has_daemon): Staged) -> String {
    format!("{}{}", operation.name, if has_daemon { " through the daemon" } else { "" })
}

fn name_of(staged: Staged, (point, strike): &Blow) -> String {
    format!("{}|{}|{}|{strike:?}", stage_name(staged), point.kind, point.index)
}

/// The strikes of this stage that are asked for; each line has to name one, of this stage or of another one that there is.
fn asked_for(staged: Staged) -> Option<Vec<String>> {
    let text = std::env::var("BOLIDE_CRASH_ONLY").ok()?;
    let known: Vec<String> = OPERATIONS
        .into_iter()
        .flat_map(|operation| [false, true].map(|has_daemon| stage_name((operation, has_daemon))))
        .collect();
    let stage_of = |line: &str| line.split('|').next().unwrap_or_default().to_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(!lines.is_empty(), "BOLIDE_CRASH_ONLY names no strike");
    for line in &lines {
        assert!(known.contains(&stage_of(line)), "`{line}` is of none of {known:?}");
    }
    let own = stage_name(staged);
    Some(lines.into_iter().filter(|line| stage_of(line) == own).map(str::to_owned).collect())
}

/// Takes blows from the heap until there are none.
fn work(
    (operation, has_daemon): Staged,
    heap: &Mutex<Vec<Blow>>,
    tally: &Mutex<Tally>,
    until: Option<std::time::Instant>,
) {
    let mut stage = None;
    let (mut struck, mut deaths) = (0, 0);
    loop {
        if until.is_some_and(|until| std::time::Instant::now() > until) {
            heap.lock().unwrap().clear();
        }
        let Some(blow) = heap.lock().unwrap().pop() else { return };
        let is_deadly = has_daemon && matches!(blow.1, Strike::Kill | Strike::Tear);
        if struck == WORLD_STRIKES_MAX || is_deadly && deaths == WORLD_DEATHS_MAX {
            (stage, struck, deaths) = (None, 0, 0);
        }
        struck += 1;
        deaths += usize::from(is_deadly);
        let here = stage.get_or_insert_with(|| Stage::new(operation, has_daemon));
        let came = here.strike(&blow.0, blow.1);
        let mut tally = tally.lock().unwrap();
        match came {
            Ok(Result::Undone) => tally.undone += 1,
            Ok(Result::Done) => tally.done += 1,
            Ok(Result::Unreached) => {
                tally.unreached.push(name_of((operation, has_daemon), &blow));
            }
            Err(what) => {
                let name = name_of((operation, has_daemon), &blow);
                println!("FAILED {name}\n{what}\n");
                tally.failures.push(name);
                if tally.failures.len() >= FAILURES_MAX {
                    heap.lock().unwrap().clear();
                }
                (stage, struck, deaths) = (None, 0, 0);
            }
        }
    }
}

fn campaign(operation: Operation, has_daemon: bool) {
    if !tracer::is_allowed() {
        return world::not_shown("tracing a process that the test itself starts is forbidden");
    }
    let staged = (operation, has_daemon);
    let only = asked_for(staged);
    if only.as_ref().is_some_and(Vec::is_empty) {
        return println!("{}: no strike of it is asked for", stage_name(staged));
    }
    let kinds = Stage::new(operation, has_daemon).survey();
    let points: u32 = kinds.values().map(|kind| kind.count).sum();
    assert!(points > 0, "{} changes nothing on the disk", stage_name(staged));
    let all = blows(&kinds);
    let possible = all.len();
    let is_whole = std::env::var("BOLIDE_CRASH").is_ok_and(|how| how == "all");
    let chosen: Vec<Blow> = match (&only, is_whole) {
        (Some(only), _) => {
            let names: Vec<String> = all.iter().map(|blow| name_of(staged, blow)).collect();
            let unknown: Vec<&String> = only.iter().filter(|one| !names.contains(one)).collect();
            assert!(unknown.is_empty(), "there are no such strikes: {unknown:#?}");
            let is_named = |blow: &Blow| only.contains(&name_of(staged, blow));
            all.into_iter().filter(is_named).collect()
        }
        (None, true) => all,
        (None, false) if has_daemon => sample(all, SAMPLE_STRIKES / 2),
        (None, false) => sample(all, SAMPLE_STRIKES),
    };
    if std::env::var_os("BOLIDE_CRASH_LIST").is_some() {
        for (name, kind) in &kinds {
            println!("{:5} {name}", kind.count);
        }
        return;
    }
    assert!(!chosen.is_empty(), "nothing of {} is struck", stage_name(staged));
    let count = chosen.len();
    let began = std::time::Instant::now();
    let (heap, tally) = (Mutex::new(spread(chosen)), Mutex::new(Tally::default()));
    let seconds = std::env::var("BOLIDE_CRASH_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = seconds.map(|seconds| began + std::time::Duration::from_secs(seconds));
    let workers = std::env::var("BOLIDE_CRASH_WORKERS").ok().and_then(|text| text.parse().ok());
    std::thread::scope(|scope| {
        for _ in 0..workers.unwrap_or(1_usize) {
            scope.spawn(|| work(staged, &heap, &tally, until));
        }
    });
    let Tally { undone, done, unreached, failures } = tally.into_inner().unwrap();
    let (wanted, count) = (count, undone + done + unreached.len() + failures.len());
    println!(
        "{}: {points} points of {} kinds; {count} of {possible} strikes ({wanted} wanted) in {} s: {undone} left the old tree, {done} the new one, \
         {} were not reached",
        stage_name(staged),
        kinds.len(),
        began.elapsed().as_secs(),
        unreached.len(),
    );
    for name in &unreached {
        println!("not reached: {name}");
    }
    assert!(failures.is_empty(), "{} strikes failed: {failures:#?}", failures.len());
    assert!(undone + done > 0, "{}: no strike has reached its point", stage_name(staged));
}

#[test]
fn a_strike_anywhere_in_an_installation_leaves_the_old_or_the_new() {
    campaign(OPERATIONS[0], false);
}

#[test]
fn a_strike_anywhere_in_an_update_leaves_the_old_or_the_new() {
    campaign(OPERATIONS[1], false);
}

#[test]
fn a_strike_anywhere_in_a_removal_leaves_the_old_or_the_new() {
    campaign(OPERATIONS[2], false);
}

#[test]
fn a_strike_anywhere_in_a_rollback_leaves_the_old_or_the_new() {
    campaign(OPERATIONS[3], false);
}

#[test]
fn a_strike_anywhere_in_an_installation_of_what_is_there_leaves_the_old_or_the_new() {
    campaign(OPERATIONS[4], false);
}

#[test]
fn a_strike_at_the_daemons_packager_leaves_the_old_or_the_new() {
    for operation in OPERATIONS {
        campaign(operation, true);
    }
}

/// A table of descriptors that is full at any moment, whatever asks for one then.
#[test]
fn too_few_descriptors_leave_the_old_tree_and_enough_the_new_one() {
    let is_whole = std::env::var("BOLIDE_CRASH").is_ok_and(|how| how == "all");
    for operation in OPERATIONS {
        let mut stage = Stage::new(operation, false);
        let (mut tried, mut successes) = (0, 0);
        let mut count = DESCRIPTORS_MIN;
        while successes < 3 && count < DESCRIPTORS_MAX {
            match stage.with_descriptors(count) {
                Ok(Result::Done) => successes += 1,
                Ok(_) => successes = 0,
                Err(what) => panic!("{} with {count} descriptors: {what}", operation.name),
            }
            tried += 1;
            count += if is_whole { 1 } else { 7 };
        }
        assert!(successes == 3, "{}: not even {count} are enough", operation.name);
        println!("{}: {tried} sizes of the table of descriptors, up to {count}", operation.name);
    }
}
