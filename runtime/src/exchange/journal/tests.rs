//! A journal on a disk that dies at every call, loses power, or is full: what was told is there, and nothing comes twice
//! without its count saying so.

use std::collections::{BTreeMap, BTreeSet};

use ipc::header::AgentId;
use proptest::prelude::*;

use super::*;
use crate::exchange::log::simulated::{Chance, Disk, Faults};
use crate::exchange::log::{Log, Retention};
use crate::exchange::priority::Priority;
use crate::exchange::queue::{
    Agent, Counters, DedupId, Durable, Effect, ItemId, NEVER, Options, Output, Put, PutAnswer,
    QueueId, Take,
};
use crate::limits::LOG_SEGMENT_BYTES_MIN;

const LEASE_NS: u64 = 1_000_000;

fn small_log() -> log::Options {
    let retention = Retention { records_max: Some(0), ..Retention::default() };
    log::Options { segment_bytes: LOG_SEGMENT_BYTES_MIN, retention }
}

fn options() -> Options {
    Options {
        items_max: 40,
        deliveries_max: 4,
        dead_items_max: 3,
        dedup_max: 8,
        lease_ns: LEASE_NS,
        lease_total_ns: 10 * LEASE_NS,
        durable: Durable::Stored,
        ..Options::default()
    }
}

/// What somebody outside was told.
#[derive(Clone, Debug, Default)]
struct Told {
    stored: BTreeSet<u64>,
    /// Acked, or dropped.
    over: BTreeSet<u64>,
    deliveries: BTreeMap<u64, u32>,
}

struct World {
    disk: Disk,
    names: Names,
    queue: Queue,
    journal: Journal,
    out: Output,
    chance: Chance,
    now: u64,
    next: u64,
    told: Told,
    /// As much of it as survives power loss.
    told_synced: Told,
    leases: Vec<(Agent, u64, u32)>,
    lives: u32,
    /// Ends that were decided by the request during which the life ended.
    untold: BTreeSet<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        let (log, _) = Log::open_on(&disk, "jobs", small_log()).unwrap();
        let queue = Queue::new(QueueId::default(), options());
        let names = Names::default();
        let mut journal = Journal::begin(log, &queue, &names, 1).unwrap();
        journal.picture_every = 2_000;
        Self {
            disk,
            names,
            queue,
            journal,
            out: Output::default(),
            chance: Chance(seed),
            now: 1,
            next: 1,
            told: Told::default(),
            told_synced: Told::default(),
            leases: Vec::new(),
            lives: 1,
            untold: BTreeSet::new(),
        }
    }

    fn agent(&mut self, number: u64) -> Agent {
        Agent { name: self.names.number(&format!("agent.{number}")), id: AgentId(self.lives) }
    }

    /// One random request. False when the journal could not be written.
    fn step(&mut self) -> bool {
        self.now += self.chance.below(LEASE_NS / 4);
        let number = self.chance.below(3);
        let agent = self.agent(number);
        let mut acked = None;
        match self.chance.below(10) {
            0..4 => {
                let put = Put {
                    request: self.next,
                    sender: agent,
                    item: ItemId(self.next),
                    priority: Priority::new(1 + self.chance.below(10) as u8).unwrap(),
                    dedup: Some(DedupId(self.chance.below(40).into())),
                    deadline_ns: NEVER,
                    wait_until_ns: 0,
                    payload: vec![7; self.chance.below(300) as usize].into(),
                };
                self.next += 1;
                self.queue.put(put, self.now, &mut self.out);
            }
            4..7 => {
                let count_max = 1 + self.chance.below(4) as u32;
                let until_ns = self.now + self.chance.below(2) * LEASE_NS;
                let take =
                    Take { request: 1_000_000 + self.next, worker: agent, count_max, until_ns };
                self.next += 1;
                self.queue.take(take, self.now, &mut self.out).unwrap();
            }
            7..9 => {
                let index = self.chance.below(self.leases.len() as u64) as usize;
                if index < self.leases.len() {
                    let (worker, item, delivery) = self.leases.swap_remove(index);
                    let (now, out) = (self.now, &mut self.out);
                    let result = self.queue.ack(worker, ItemId(item), delivery, now, out);
                    acked = result.is_ok().then_some(item);
                }
            }
            _ => self.queue.worker_gone(agent, self.now, &mut self.out),
        }
        self.write(acked)
    }

    fn write(&mut self, acked: Option<u64>) -> bool {
        let dropped = self.out.effects.iter().filter_map(|(_, effect)| match effect {
            Effect::Dropped { item, .. } => Some(item.0),
            _ => None,
        });
        self.untold = dropped.chain(acked).collect();
        for (_, record) in self.out.records.drain(..) {
            if self.journal.append(&record, &self.names, self.now).is_err() {
                return false;
            }
        }
        if self.journal.shorten(&self.queue, &self.names, self.now).is_err() {
            return false;
        }
        self.told.over.extend(acked);
        for (_, effect) in self.out.effects.drain(..) {
            match effect {
                Effect::PutAnswered { item, answer: PutAnswer::Stored, .. } => {
                    self.told.stored.insert(item.0);
                }
                Effect::Delivered { delivery, .. } => {
                    self.told.deliveries.insert(delivery.item.0, delivery.delivery);
                    self.leases.push((delivery.worker, delivery.item.0, delivery.delivery));
                }
                Effect::Dropped { item, .. } => {
                    self.told.over.insert(item.0);
                }
                _ => {}
            }
        }
        if self.chance.below(6) == 0 {
            if self.journal.log.sync().is_err() {
                return false;
            }
            self.told_synced = self.told.clone();
        }
        true
    }

    /// A new life finds what the disk has. Its first attempt may die as well.
    fn recover(&mut self, calls_until_death: Option<u64>) -> Result<Replayed, JournalError> {
        self.disk.fail(Faults { calls_until_death, ..Faults::default() });
        let (log, _) = Log::open_on(&self.disk, "jobs", small_log())?;
        self.names = Names::default();
        self.now += 1;
        let recovered = Journal::recover(log, QueueId::default(), &mut self.names, self.now);
        let (journal, queue, replayed) = recovered?;
        (self.journal, self.queue) = (journal, queue);
        self.journal.picture_every = 2_000;
        self.out = Output::default();
        self.leases.clear();
        // The bus may count its agents anew.
        self.lives = 1 + self.chance.below(3) as u32;
        Ok(replayed)
    }

    /// What was told before a life ended, and only that is certain. `untold` may have happened or not.
    fn check(&mut self, told: &Told, untold: &BTreeSet<u64>) {
        let view = self.queue.view();
        assert_eq!(view.leased_count, 0);
        let mut there = BTreeMap::new();
        let frozen = self.queue.freeze();
        for item in frozen.items {
            there.insert(item.id.0, item.deliveries_count);
        }
        for item in told.stored.difference(&told.over) {
            let counted = there.get(item);
            let delivered = told.deliveries.get(item).copied().unwrap_or(0);
            match counted {
                Some(count) => assert!(*count >= delivered, "{item}: {count} of {delivered}"),
                // A restart may have made it one dead letter too many.
                None if delivered == options().deliveries_max => {}
                None => assert!(untold.contains(item), "{item} is lost"),
            }
        }
        for item in &told.over {
            assert!(!there.contains_key(item), "{item} came back");
        }
    }
}

#[test]
fn what_was_told_survives_a_death_at_any_call_to_the_disk() {
    for round in 0..300 {
        let mut world = World::new(round);
        let faults = Faults { calls_until_death: Some(3 * round), ..Faults::default() };
        world.disk.fail(faults);
        for _ in 0..400 {
            if !world.step() {
                break;
            }
        }
        let (told, untold) = (world.told.clone(), world.untold.clone());
        if let Err(error) = world.recover(Some(round % 50)) {
            assert!(world.disk.is_dead(), "{error}");
            world.recover(None).unwrap();
        }
        world.disk.fail(Faults::default());
        assert_eq!(world.queue.view().takers_count, 0);
        world.check(&told, &untold);
        // The next life works, and its deliveries are counted on.
        let worker = world.agent(9);
        let take = Take { request: 1, worker, count_max: 100, until_ns: 0 };
        world.out = Output::default();
        world.queue.take(take, world.now, &mut world.out).unwrap();
        for (_, effect) in &world.out.effects {
            let Effect::Delivered { delivery, .. } = effect else { continue };
            let before = told.deliveries.get(&delivery.item.0).copied().unwrap_or(0);
            assert!(delivery.delivery > before, "delivered twice under one number");
        }
        for _ in 0..100 {
            assert!(world.step());
        }
    }
}

#[test]
fn what_was_synced_survives_power_loss_and_the_loss_of_the_rest_is_no_harm() {
    for round in 0..300 {
        let mut world = World::new(1_000 + round);
        for _ in 0..round {
            assert!(world.step());
        }
        let (synced, last) = (world.told_synced.clone(), world.told.clone());
        // Ends that were not on the disk may be lost, or not.
        let mut unsure: BTreeSet<u64> = last.over.difference(&synced.over).copied().collect();
        let spent = last.deliveries.iter().filter(|(_, count)| **count == options().deliveries_max);
        unsure.extend(spent.map(|(item, _)| item));
        world.disk.lose_power();
        world.recover(None).unwrap();
        world.check(&synced, &unsure.union(&world.untold).copied().collect());
        for _ in 0..50 {
            assert!(world.step());
        }
    }
}

#[test]
fn a_journal_stays_short_however_long_it_is_used() {
    let mut world = World::new(5);
    let mut pictures = 0;
    for _ in 0..5_000 {
        let first = world.journal.log.first_position();
        assert!(world.step());
        pictures += u64::from(world.journal.log.first_position() > first);
    }
    assert!(pictures > 20, "{pictures}");
    let lines = world.journal.log.next_position() - world.journal.log.first_position();
    assert!(lines < 1_500, "{lines}");
    let told = world.told.clone();
    let replayed = world.recover(None).unwrap();
    assert_eq!(replayed.damaged, 0);
    world.check(&told, &BTreeSet::new());
}

#[test]
fn a_replay_gives_the_very_same_queue() {
    let mut world = World::new(6);
    for _ in 0..700 {
        assert!(world.step());
    }
    let before = world.queue.freeze();
    let view = world.queue.view();
    let replayed = world.recover(None).unwrap();
    assert_eq!(replayed.damaged, 0);
    let after = world.queue.freeze();
    let puts = |counters: Counters| (counters.put, counters.acked, counters.delivered);
    assert_eq!(puts(after.head.counters), puts(before.head.counters));
    // What came back may have made a level wait anew; the count of takes is what orders everything.
    assert_eq!(after.head.turns.dates().0, before.head.turns.dates().0);
    assert_eq!(after.head.sequence_next, before.head.sequence_next);
    assert_eq!(after.known.len(), before.known.len());
    let items = |frozen: Frozen| -> BTreeMap<_, _> {
        frozen.items.map(|item| (item.id, (item.sequence, item.deliveries_count))).collect()
    };
    let (items_before, items_after) = (items(before), items(after));
    assert!(items_after.iter().all(|(id, item)| items_before.get(id) == Some(item)));
    assert_eq!(items_after.len() as u64, {
        let view = world.queue.view();
        view.ready_count + view.delayed_count + view.dead_count
    });
    assert!(view.leased_count > 0, "there was something to return");
}

#[test]
fn a_full_disk_refuses_puts_before_anything_depends_on_it_and_lets_acks_through() {
    let disk = Disk::new(7);
    let (log, _) = Log::open_on(&disk, "jobs", log_options()).unwrap();
    let mut queue = Queue::new(QueueId::default(), Options { items_max: 4_096, ..options() });
    let mut names = Names::default();
    let mut journal = Journal::begin(log, &queue, &names, 1).unwrap();
    let agent = Agent { name: names.number("agent"), id: AgentId(1) };
    disk.fail(Faults { is_full: true, ..Faults::default() });
    let mut out = Output::default();
    let mut stored = 0;
    let refused = loop {
        let payload: std::sync::Arc<[u8]> = vec![0; 10_000].into();
        if let Err(error) = journal.reserve(put_bytes(payload.len()), 1) {
            break error;
        }
        stored += 1;
        let put = Put {
            request: stored,
            sender: agent,
            item: ItemId(stored),
            priority: Priority::new(5).unwrap(),
            dedup: None,
            deadline_ns: NEVER,
            wait_until_ns: 0,
            payload,
        };
        queue.put(put, 1, &mut out);
        for (_, record) in out.records.drain(..) {
            journal.append(&record, &names, 1).unwrap();
        }
    };
    assert!(matches!(refused, JournalError::Append(log::AppendError::NoSpace)), "{refused}");
    assert!(stored > 300, "{stored}");
    out.clear();
    let take = Take { request: 1, worker: agent, count_max: 100, until_ns: 0 };
    queue.take(take, 1, &mut out).unwrap();
    for item in 1..=100 {
        journal.reserve(change_bytes(2), 1).unwrap();
        queue.ack(agent, ItemId(item), 1, 1, &mut out).unwrap();
    }
    for (_, record) in out.records.drain(..) {
        journal.append(&record, &names, 1).unwrap();
    }
    drop(journal);
    disk.fail(Faults::default());
    let (log, _) = Log::open_on(&disk, "jobs", log_options()).unwrap();
    let (_, again, replayed) = Journal::recover(log, QueueId::default(), &mut names, 2).unwrap();
    assert_eq!((replayed.damaged, again.view().ready_count), (0, stored - 100));
}

#[test]
fn a_journal_that_cannot_be_read_is_not_taken_for_one_that_was_never_made() {
    let disk = Disk::new(1);
    let (mut log, _) = Log::open_on(&disk, "jobs", small_log()).unwrap();
    super::append(&mut log, b"\xff", 1).unwrap();
    let recovered = Journal::recover(log, QueueId::default(), &mut Names::default(), 2);
    assert!(matches!(recovered, Err(JournalError::Damaged { lines: 1 })));
}

#[test]
fn a_journal_whose_making_was_interrupted_is_no_queue() {
    for calls in 0..20 {
        let disk = Disk::new(calls);
        let (log, _) = Log::open_on(&disk, "jobs", small_log()).unwrap();
        disk.fail(Faults { calls_until_death: Some(calls), ..Faults::default() });
        let mut names = Names::default();
        let queue = Queue::new(QueueId::default(), options());
        let made = Journal::begin(log, &queue, &names, 1);
        disk.start_process();
        let (log, _) = Log::open_on(&disk, "jobs", small_log()).unwrap();
        match Journal::recover(log, QueueId::default(), &mut names, 2) {
            Ok((_, queue, _)) => assert!(queue.is_idle()),
            Err(JournalError::Unfinished) => assert!(made.is_err()),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn damage_is_counted_and_loses_no_more_than_what_was_damaged() {
    let mut world = World::new(8);
    world.journal.picture_every = u64::MAX;
    for _ in 0..60 {
        assert!(world.step());
    }
    let name = "00000000000000000000.log";
    let mut bytes = world.disk.bytes(name);
    // Somewhere among the first changes.
    bytes[4_096 + 900..4_096 + 904].fill(0xff);
    world.disk.put(name, &bytes);
    let view = world.queue.view();
    let replayed = world.recover(None).unwrap();
    assert!(replayed.damaged > 0);
    let held = |view: crate::exchange::queue::QueueView| {
        view.ready_count + view.leased_count + view.delayed_count + view.dead_count
    };
    assert!(held(world.queue.view()) + 2 >= held(view));
    let again = world.recover(None).unwrap();
    assert_eq!(again.damaged, 0, "a picture of what was left has replaced it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn foreign_lines_never_panic(
        kind in 0u8..30,
        bytes in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
    ) {
        let line: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
        let _ = super::codec::decode(&line, &mut Names::default());
    }
}
