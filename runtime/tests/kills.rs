//! Somebody dies, by `kill -9`, at every named point (`ipc::fault`): programs that link the library, the exchange, the
//! daemon. What was sent or acknowledged is not lost, nothing comes twice unnoticed, nothing is left behind, and others
//! notice nothing.
//!
//! A table of all deaths is printed. `BOLIDE_KILL_ROUNDS` is how often each is tried (1), `BOLIDE_KILL_SEED` chooses the
//! random moments.

#![allow(clippy::unwrap_used, reason = "a test that does not get what it needs has failed")]

#[path = "kills/bus.rs"]
mod bus;
#[path = "kills/clients.rs"]
mod clients;
#[path = "kills/daemons.rs"]
mod daemons;
#[path = "kills/exchanges.rs"]
mod exchanges;
#[path = "kills/innocents.rs"]
mod innocents;
#[path = "kills/kept.rs"]
mod kept;
#[path = "kills/numbered.rs"]
mod numbered;
#[path = "kills/queues.rs"]
mod queues;
#[path = "kills/report.rs"]
mod report;
#[path = "kills/stopped.rs"]
mod stopped;
#[path = "kills/victim.rs"]
mod victim;

use std::io::Write;
use std::time::Duration;

use self::bus::{Bus, Random, Setup, setting};
use self::clients::{
    Case, be_granted, call, die, read, read_afterwards, read_by_bell, read_topic,
    read_what_was_given_up, watch, write, write_topic,
};
use self::innocents::Innocents;
use self::queues::{bury_and_call_back, inherit, take_after_the_sender};
use self::report::Table;

/// Without agents whose own traffic would move the counts.
const SETUP: Setup = Setup { hosted: "exchange", routed: "test.quiet.>" };
/// Fewer would mean that some got lost.
const POINTS_MIN: usize = 30;
/// Deaths at random moments, in one round.
const RANDOM_DEATHS: u64 = 24;
/// The latest of these moments: most roles are at work by then.
const MOMENT_MS_MAX: u64 = 60;

const ARRIVES: &str = "what was sent arrives whole, then the end";
const TOLD: &str = "the writer is told of the end";
const FREED: &str = "nothing of it is left";
const STORED: &str = "what was stored is there, once";
const DEAD_LETTER: &str = "a dead letter, called back";
const INHERITED: &str = "unfinished items come again, counted";

const fn case(
    point: &'static str,
    skip: u64,
    role: &'static str,
    survive: fn(&mut clients::Stage),
    checked: &'static str,
) -> Case {
    Case { point, skip, role, survive, checked }
}

/// Client programs.
const CASES: &[Case] = &[
    case("client.connected", 0, "hello", watch, FREED),
    case("client.half-hello", 0, "half-hello", watch, FREED),
    case("client.hello-sent", 0, "hello", watch, FREED),
    case("client.open-sent", 0, "writer", read, ARRIVES),
    case("client.open-answered", 0, "writer", read, ARRIVES),
    case("client.offer-mapped", 0, "server", call, "the opener is told"),
    case("client.accept-sent", 0, "server", call, "the opener is told"),
    case("client.granted", 1, "granter", be_granted, "nobody holds the grants"),
    case("client.publish-sent", 0, "publisher", read_topic, ARRIVES),
    case("client.join-sent", 0, "subscriber", write_topic, "the topic goes on"),
    case("lane.payload-written", 4, "writer", read, ARRIVES),
    case("lane.payload-written", 9, "publisher", read_topic, ARRIVES),
    case("lane.second-line-first", 2, "writer", read, ARRIVES),
    case("lane.stamped", 6, "writer", read, ARRIVES),
    case("lane.before-wake", 3, "writer", read, ARRIVES),
    case("lane.before-bell", 3, "writer", read_by_bell, ARRIVES),
    case("lane.region-half", 4, "writer", read, ARRIVES),
    case("lane.region-half", 4, "publisher", read_topic, ARRIVES),
    case("lane.region-written", 3, "writer", read, ARRIVES),
    case("lane.between-chunks", 2, "writer", read, ARRIVES),
    case("lane.large-stamped", 3, "writer", read, ARRIVES),
    case("lane.stamped", 6, "writer-high", read, ARRIVES),
    case("lane.between-chunks", 2, "writer-high", read, ARRIVES),
    case("socket.piece-sent", 1, "writer-normal", read, ARRIVES),
    case("lane.writer-asleep", 0, "writer", read_afterwards, ARRIVES),
    case("lane.abort-written", 0, "quitter", read_what_was_given_up, "half a message is none"),
    case("lane.read", 4, "reader", write, TOLD),
    case("lane.cursor-stored", 4, "reader", write, TOLD),
    case("lane.chunk-read", 3, "reader", write, TOLD),
    case("lane.reader-asleep", 3, "reader", write, TOLD),
    case("lane.reader-armed", 5, "waiter", write, TOLD),
    case("lane.cursor-stored", 2, "subscriber", write_topic, "the topic goes on"),
    case("server.ran", 5, "server", call, "answered means run, once"),
    case("lane.region-written", 6, "server", call, "answered means run, once"),
    case("sender.put-sent", 5, "queue-sender", take_after_the_sender, STORED),
    case("sender.put-answered", 5, "queue-sender", take_after_the_sender, STORED),
    case("lane.large-stamped", 7, "queue-sender", take_after_the_sender, STORED),
    case("worker.take-sent", 3, "queue-worker", inherit, INHERITED),
    case("worker.delivered", 3, "queue-worker", inherit, INHERITED),
    case("worker.extended", 3, "queue-worker", inherit, INHERITED),
    case("worker.ack-sent", 3, "queue-worker", inherit, INHERITED),
    case("worker.ack-answered", 3, "queue-worker", inherit, INHERITED),
    case("worker.nack-sent", 3, "queue-refuser", inherit, INHERITED),
    case("worker.delivered", 0, "queue-worker-once", bury_and_call_back, DEAD_LETTER),
];

fn rounds() -> u64 {
    setting("BOLIDE_KILL_ROUNDS", 1)
}

#[test]
fn whoever_dies_at_a_named_point_takes_nothing_along() {
    let bus = Bus::start(SETUP);
    bus.find_exchange();
    let innocents = Innocents::start(&bus);
    bus.calm(2);
    let mut table = Table::default();
    let mut number = 0;
    for _ in 0..rounds() {
        for case in CASES {
            number += 1;
            table.add(die(&bus, &innocents, case, number, None));
        }
        exchanges::die_at_every_point(&mut table, &innocents);
        daemons::die_at_every_point(&mut table, &innocents);
    }
    let exchanged = innocents.finish();
    table.print("Deaths at named points");
    say(&format!("the innocent exchanged {exchanged} messages meanwhile and lost none\n"));
    assert!(table.points() >= POINTS_MIN, "{} points", table.points());
}

#[test]
fn whoever_dies_at_a_random_moment_takes_nothing_along() {
    let seed = setting("BOLIDE_KILL_SEED", u64::from(std::process::id()));
    say(&format!("random moments: BOLIDE_KILL_SEED={seed}\n"));
    let mut random = Random::new(seed);
    let bus = Bus::start(SETUP);
    bus.find_exchange();
    let innocents = Innocents::start(&bus);
    bus.calm(2);
    for number in 0..RANDOM_DEATHS * rounds() {
        let ends_itself = ["hello", "half-hello", "granter", "quitter", "queue-refuser"];
        let case = &CASES[random.below(CASES.len() as u64) as usize];
        if ends_itself.contains(&case.role) {
            continue;
        }
        let moment = Duration::from_millis(random.below(MOMENT_MS_MAX));
        die(&bus, &innocents, case, 1_000 + number, Some(moment));
    }
    innocents.finish();
}

/// Not a test of its own: what the others kill.
#[test]
fn the_process_that_is_killed() {
    if let Ok(role) = std::env::var(victim::ROLE) {
        victim::run(&role);
    }
}

/// Past whatever captures the output of tests.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
