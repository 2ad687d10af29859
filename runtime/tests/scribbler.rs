//! A hostile process on the bus: it plays every part there is, and scribbles random bytes over everything that it may
//! write, its segments, its socket, its doorbells. The daemon and its agents serve everybody else meanwhile, lanes that
//! broke are given up and counted, and when it is gone nothing is left of it.
//!
//! `BOLIDE_SCRIBBLE_SECONDS` is how long (6; 60 for a long run), `BOLIDE_SCRIBBLE_SEED` the first of its seeds.

#![allow(clippy::unwrap_used, reason = "a test that does not get what it needs has failed")]

#[allow(dead_code, reason = "the other half is for tests that kill")]
#[path = "kills/bus.rs"]
mod bus;
#[path = "scribbler/honest.rs"]
mod honest;
#[path = "scribbler/hostile.rs"]
mod hostile;
#[path = "kills/innocents.rs"]
mod innocents;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc::exchange::log::{Logs, Options};
use ipc::exchange::queue::Queues;

use self::bus::{Bus, Setup, State, eventually, patience, setting};
use self::honest::Honest;
use self::innocents::Innocents;

const SETUP: Setup = Setup { hosted: "echo,exchange", routed: "test.quiet.>" };
/// Hostile processes at once, each with a seed of its own.
const HOSTILES: u64 = 2;
/// What the daemon may have more of while they rage, and no more, however long: descriptors of two agents' worth of
/// offers, links and connections that wait to be let in.
const DESCRIPTORS_MAX: u64 = 600;
/// And memory, in bytes: segments are mapped by their owners, so this is tables and packets that wait.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

#[test]
fn whoever_scribbles_over_everything_hurts_nobody_else() {
    let seconds = setting("BOLIDE_SCRIBBLE_SECONDS", 6);
    let seed = setting("BOLIDE_SCRIBBLE_SEED", u64::from(std::process::id()));
    say(&format!("scribbling for {seconds} s: BOLIDE_SCRIBBLE_SEED={seed}\n"));
    let bus = Bus::start(SETUP);
    bus.find_exchange();
    let before = at_rest(&bus);
    let innocents = Innocents::start(&bus);
    let honest = Honest::start(&bus);
    let peak = rage(&bus, &before, seed, Duration::from_secs(seconds), || innocents.go_on());
    // Whoever waited for them has been told by now that they are gone.
    let done = honest.finish();
    innocents.go_on();
    let exchanged = innocents.finish();
    let of_class =
        |class| bus.metric(&format!("bolide_bus_quarantined_total{{class=\"{class}\"}}"));
    let quarantined: u64 = ["critical", "high", "normal"].map(of_class).iter().sum();
    say(&format!(
        "{exchanged} messages of the innocent, {done:?}; {quarantined} lanes were given up; the \
         daemon had at most {} descriptors and {} KiB more than before\n",
        peak.held[0].0.saturating_sub(before.held[0].0),
        peak.resident_bytes.saturating_sub(before.resident_bytes) / 1024,
    ));
    for agent in ["echo", "exchange"] {
        let restarts = format!("bolide_agent_restarts_total{{agent=\"{agent}\"}}");
        assert_eq!(bus.metric(&restarts), 0, "{agent} has died");
    }
    assert!(done.quarantined > 0 && quarantined >= done.quarantined, "{quarantined} {done:?}");
    bus.settles("after the hostile", &before);
    let grown = bus.state().resident_bytes.saturating_sub(before.resident_bytes);
    assert!(grown < MEMORY_MAX, "the daemon has {grown} bytes more");
}

/// What is held where nobody is there, once all that is made for the first who asks has been made.
fn at_rest(bus: &Bus) -> State {
    let mut client = bus.client("innocent.first");
    let mut logs = Logs::open(&mut client).unwrap();
    logs.make("first", Options::default(), patience()).unwrap();
    let mut queues = Queues::open(&mut client).unwrap();
    queues.put("first", b"item", patience()).unwrap();
    drop((queues, logs, client));
    let mut now = bus.state();
    eventually("the first one has left", || {
        now = bus.state();
        (now.lanes, now.guests) == (0, 0)
    });
    now
}

/// Lets hostile processes do their worst for so long, and gives the most that the daemon had meanwhile.
fn rage(bus: &Bus, before: &State, seed: u64, long: Duration, look: impl Fn()) -> State {
    let directory = tempfile::tempdir().unwrap();
    let until = Instant::now() + long;
    let mut hostiles: Vec<(u64, Child)> = Vec::new();
    hostiles
        .extend((0..HOSTILES).map(|n| (n, hostile_process(bus, seed + n, 0, directory.path()))));
    let (mut lives, mut peak) = (HOSTILES, *before);
    while Instant::now() < until {
        for (number, hostile) in &mut hostiles {
            // Its own memory is full of garbage, so it falls over its own feet at times.
            if hostile.try_wait().unwrap().is_some() {
                *hostile = hostile_process(bus, seed + *number, lives, directory.path());
                lives += 1;
            }
        }
        let now = bus.state();
        peak.held[0].0 = peak.held[0].0.max(now.held[0].0);
        peak.resident_bytes = peak.resident_bytes.max(now.resident_bytes);
        let grown = peak.resident_bytes.saturating_sub(before.resident_bytes);
        assert!(grown < MEMORY_MAX, "the daemon has {grown} bytes more");
        let more = peak.held[0].0.saturating_sub(before.held[0].0);
        assert!(more < DESCRIPTORS_MAX, "the daemon has {more} descriptors more");
        look();
        std::thread::sleep(Duration::from_millis(20));
    }
    for (_, mut hostile) in hostiles {
        let _ = hostile.kill();
        let _ = hostile.wait();
    }
    let breaches = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(breaches, 0, "memory of others was written");
    say(&format!("{HOSTILES} hostile processes at once, {lives} in all\n"));
    peak
}

fn hostile_process(bus: &Bus, seed: u64, life: u64, breaches: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_hostile_process", "--nocapture"])
        .env(hostile::SOCKET, bus.socket())
        .env(hostile::SEED, (seed.wrapping_mul(1_000) + life).to_string())
        .env(hostile::BREACHES, breaches)
        .stdout(Stdio::null())
        .stderr(complaints())
        .spawn()
        .unwrap()
}

/// Where the hostile complain of what they did to themselves: nowhere, or the file that `BOLIDE_SCRIBBLE_LOG` names.
fn complaints() -> Stdio {
    match std::env::var_os("BOLIDE_SCRIBBLE_LOG") {
        None => Stdio::null(),
        Some(path) => std::fs::File::options().append(true).create(true).open(path).unwrap().into(),
    }
}

/// Not a test of its own: the hostile one.
#[test]
fn the_hostile_process() {
    if let Some(socket) = std::env::var_os(hostile::SOCKET) {
        hostile::run(socket.as_ref());
    }
}

/// Past whatever captures the output of tests.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
