//! Random operations at random times, against the oracle, against a ledger that only believes what it
//! was told, and against a replay of the journal.

use std::collections::{BTreeMap, BTreeSet};

use ipc::header::AgentId;
use proptest::prelude::*;

use super::oracle::{Oracle, Where};
use super::*;
use crate::exchange::priority::Priority;

#[derive(Clone, Debug)]
enum Step {
    Put {
        who: u64,
        reuse: bool,
        priority: u8,
        size: usize,
        dedup: u8,
        deadline: u64,
        wait: u64,
    },
    Take {
        who: u64,
        count: u32,
        wait: u64,
    },
    /// The number picks one of the leases that were ever given.
    Ack(usize),
    Nack(usize, u64),
    Extend(usize),
    Handoff(usize, u64),
    Restart {
        who: u64,
        told: bool,
    },
    LateTake {
        who: u64,
    },
    SenderGone {
        who: u64,
    },
    Requeue(usize),
    DropDead(usize),
    /// The number picks one of the last requests.
    Cancel(u64),
    Untold(usize),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0u64..3;
    let wait = prop_oneof![Just(0u64), 1u64..60_000_000];
    let deadline = prop_oneof![3 => Just(0u64), 1 => 1u64..50_000_000];
    prop_oneof![
        8 => (who.clone(), prop::bool::weighted(0.05), 1u8..=10, 0usize..40, 0u8..12, deadline, wait.clone())
            .prop_map(|(who, reuse, priority, size, dedup, deadline, wait)| Step::Put {
                who, reuse, priority, size, dedup, deadline, wait,
            }),
        6 => (who.clone(), 1u32..5, wait).prop_map(|(who, count, wait)| Step::Take { who, count, wait }),
        4 => (0usize..6).prop_map(Step::Ack),
        2 => (0usize..6, prop_oneof![Just(0u64), 1u64..40_000_000]).prop_map(|(l, d)| Step::Nack(l, d)),
        2 => (0usize..6).prop_map(Step::Extend),
        1 => (0usize..6, who.clone()).prop_map(|(lease, who)| Step::Handoff(lease, who)),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, told)| Step::Restart { who, told }),
        1 => who.clone().prop_map(|who| Step::LateTake { who }),
        1 => who.prop_map(|who| Step::SenderGone { who }),
        1 => (0usize..4).prop_map(Step::Requeue),
        1 => (0usize..4).prop_map(Step::DropDead),
        2 => (0u64..8).prop_map(Step::Cancel),
        1 => (0usize..6).prop_map(Step::Untold),
        2 => Just(Step::Tick),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let when =
        prop_oneof![Just(WhenFull::Reject), Just(WhenFull::DropOldest), Just(WhenFull::Wait)];
    (1u32..12, 20u64..200, 1u32..5, when, 0u32..4, 0u64..80, 0u32..4, 0u32..4, 0u64..80, 0u32..5)
        .prop_map(|o| Options {
            items_max: o.0,
            bytes_max: o.1,
            lease_ns: 10_000_000,
            lease_total_ns: 25_000_000,
            deliveries_max: o.2,
            when_full: o.3,
            dead_items_max: o.4,
            dead_bytes_max: o.5,
            takers_max: o.6,
            putters_max: o.7,
            putters_bytes_max: o.8,
            dedup_max: o.9,
            durable: Durable::Stored,
        })
}

/// What somebody outside knows who reads only effects and answers.
#[derive(Default)]
struct Ledger {
    asked: BTreeSet<u64>,
    stored: BTreeSet<ItemId>,
    ended: BTreeSet<ItemId>,
    dead: BTreeSet<ItemId>,
    /// Deliveries so far, and the lease if it may be alive.
    items: BTreeMap<ItemId, (u32, Option<(Agent, u64)>)>,
}

impl Ledger {
    fn read(&mut self, effect: &Effect, now: u64) {
        match effect {
            Effect::PutAnswered { request, item, answer, .. } => {
                assert!(self.asked.remove(request), "one answer for each put");
                if *answer == PutAnswer::Stored {
                    assert!(!self.stored.contains(item) || self.ended.remove(item));
                    self.stored.insert(*item);
                    self.items.insert(*item, (0, None));
                }
            }
            Effect::Delivered { delivery, .. } => {
                let (count, lease) = self.items.get_mut(&delivery.item).unwrap();
                assert!(lease.is_none_or(|(_, until)| until <= now), "one lease at a time");
                assert!(
                    !self.ended.contains(&delivery.item) && !self.dead.contains(&delivery.item)
                );
                *count += 1;
                assert_eq!(*count, delivery.delivery, "each delivery is counted once");
                assert!(delivery.lease_until_ns > now);
                *lease = Some((delivery.worker, delivery.lease_until_ns));
            }
            Effect::HandedOver { from, delivery } => {
                let (count, lease) = self.items.get_mut(&delivery.item).unwrap();
                assert_eq!(*count, delivery.delivery, "a handoff is no delivery");
                assert!(lease.is_none_or(|(worker, _)| worker == *from));
                *lease = Some((delivery.worker, delivery.lease_until_ns));
            }
            Effect::Died { item, deliveries_count, .. } => {
                let (count, lease) = self.items.get_mut(item).unwrap();
                assert_eq!(count, deliveries_count);
                *lease = None;
                assert!(self.dead.insert(*item), "an item dies once");
            }
            Effect::Dropped { item, reason, .. } => {
                let was_dead = self.dead.remove(item);
                assert_eq!(was_dead, *reason != DropReason::Displaced);
                assert!(self.ended.insert(*item));
            }
            Effect::TakeEnded { missing_count, .. } => assert!(*missing_count > 0),
        }
    }

    /// The life of this agent is over, and so are those before it.
    fn forget_lives(&mut self, last: Agent) {
        for (_, lease) in self.items.values_mut() {
            *lease = lease.filter(|(owner, _)| owner.name != last.name || owner.id > last.id);
        }
    }
}

struct World {
    queue: Queue,
    oracle: Oracle,
    ledger: Ledger,
    journal: Vec<Record>,
    out: Output,
    now: u64,
    requests: u64,
    items: u64,
    lives: [u32; 3],
    leases: Vec<(Agent, ItemId, u32)>,
}

/// Everything that a journal restores.
type Snapshot = (Vec<String>, Vec<ItemId>, Counters, String);

fn snapshot(queue: &Queue, now: u64) -> Snapshot {
    let mut items: Vec<_> = queue.store.iter().map(|(_, item)| item.clone()).collect();
    items.sort_by_key(|item| item.id);
    for item in &mut items {
        // The live queue may have noticed already that a preference is over.
        item.preference = item.preference.filter(|&(_, until)| until > now);
    }
    let mut lists = BTreeMap::<_, Vec<_>>::new();
    for item in queue.store.in_order() {
        let (name, is_preferred) = match (item.state, item.preference) {
            (State::Leased(lease), _) => (lease.worker.name, false),
            (_, Some((name, until))) if until > now => (name, true),
            _ => continue,
        };
        lists.entry((name, is_preferred)).or_default().push(item.id);
    }
    let rest = format!(
        "{:?} {:?} {:?} {:?} {lists:?}",
        queue.store.usage,
        queue.store.ready.turns(),
        queue.store.sequence_next(),
        queue.store.dedup.iter().collect::<Vec<_>>()
    );
    let items = items.iter().map(|item| format!("{item:?}")).collect();
    (items, queue.dead_letters().map(|dead| dead.item).collect(), queue.store.counters, rest)
}

impl World {
    fn new(options: Options) -> Self {
        Self {
            queue: Queue::new(QueueId::default(), options),
            oracle: Oracle::new(options),
            ledger: Ledger::default(),
            journal: Vec::new(),
            out: Output::default(),
            now: 1,
            requests: 0,
            items: 0,
            lives: [2; 3],
            leases: Vec::new(),
        }
    }

    fn agent(&self, who: u64) -> Agent {
        Agent { name: NameId(who), id: AgentId(self.lives[who as usize]) }
    }

    fn lease(&self, back: usize) -> (Agent, ItemId, u32) {
        let nothing = (self.agent(0), ItemId(u64::MAX), 1);
        self.leases.iter().rev().nth(back).copied().unwrap_or(nothing)
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Put { .. } => self.put(step),
            Step::Take { who, count, wait } => {
                let until = if wait == 0 { 0 } else { now + wait };
                self.take(self.agent(who), count, until);
            }
            Step::Ack(back) => {
                let (worker, item, delivery) = self.lease(back);
                let got = self.queue.ack(worker, item, delivery, now, &mut self.out).is_ok();
                let expected = self.oracle.ack(worker, item, delivery, now);
                assert_eq!(got, expected);
                if got {
                    self.ledger.ended.insert(item);
                    self.ledger.items.get_mut(&item).unwrap().1 = None;
                }
            }
            Step::Nack(back, delay) => {
                let (worker, item, delivery) = self.lease(back);
                // What comes back may be delivered again by the same call.
                let known = self.ledger.items.get(&item).copied();
                let got =
                    self.queue.nack(worker, item, delivery, delay, now, &mut self.out).is_ok();
                assert_eq!(got, self.oracle.nack(worker, item, delivery, delay, now));
                if let (true, Some((count, _))) = (got, known) {
                    self.ledger.items.insert(item, (count, None));
                }
            }
            Step::Untold(back) => {
                let (worker, item, delivery) = self.lease(back);
                let known = self.ledger.items.get(&item).copied();
                let got = self.queue.untold(worker, item, delivery, now, &mut self.out).is_ok();
                assert_eq!(got, self.oracle.untold(worker, item, delivery, now));
                if let (true, Some((count, _))) = (got, known) {
                    self.ledger.items.insert(item, (count, None));
                }
            }
            Step::Cancel(back) => {
                let request = self.requests.saturating_sub(back);
                self.queue.cancel(request, now, &mut self.out);
                self.oracle.cancel(request, now);
            }
            Step::Extend(back) => {
                let (worker, item, delivery) = self.lease(back);
                let got = self.queue.extend(worker, item, delivery, now, &mut self.out).ok();
                assert_eq!(got, self.oracle.extend(worker, item, delivery, now));
                if let Some(until) = got {
                    self.ledger.items.get_mut(&item).unwrap().1 = Some((worker, until));
                }
            }
            Step::Handoff(back, who) => {
                let (worker, item, delivery) = self.lease(back);
                let to = self.agent(who);
                self.ledger.forget_lives(Agent { id: AgentId(to.id.0 - 1), ..to });
                let got =
                    self.queue.handoff(worker, item, delivery, to, now, &mut self.out).is_ok();
                assert_eq!(got, self.oracle.handoff(worker, item, delivery, to, now));
            }
            Step::Restart { who, told } => {
                let old = self.agent(who);
                self.lives[who as usize] += 1;
                self.ledger.forget_lives(old);
                if told {
                    self.queue.worker_gone(old, now, &mut self.out);
                    self.oracle.worker_gone(old, now);
                }
            }
            Step::LateTake { who } => {
                let old = AgentId(self.lives[who as usize] - 1);
                self.take(Agent { name: NameId(who), id: old }, 1, 0);
            }
            Step::SenderGone { who } => {
                let sender = self.agent(who);
                self.queue.sender_gone(sender, now, &mut self.out);
                self.oracle.sender_gone(sender, now);
            }
            Step::Requeue(index) => {
                let Some(dead) = self.queue.dead_letters().nth(index) else { return };
                let got = self.queue.requeue_dead(dead.item, now, &mut self.out).is_ok();
                assert_eq!(got, self.oracle.requeue(dead.item, now));
                if got {
                    self.ledger.dead.remove(&dead.item);
                }
            }
            Step::DropDead(index) => {
                let Some(dead) = self.queue.dead_letters().nth(index) else { return };
                let got = self.queue.drop_dead(dead.item, now, &mut self.out).is_ok();
                assert_eq!(got, self.oracle.drop_dead(dead.item, now));
            }
            Step::Tick => {
                self.queue.tick(now, &mut self.out);
                self.oracle.tick(now);
            }
        }
    }

    fn put(&mut self, step: Step) {
        let Step::Put { who, reuse, priority, size, dedup, deadline, wait } = step else { return };
        self.requests += 1;
        self.items += u64::from(!reuse);
        let until = |time: u64, never| if time == 0 { never } else { self.now + time };
        let put = Put {
            request: self.requests,
            sender: self.agent(who),
            item: ItemId(self.items),
            priority: Priority::new(priority).unwrap(),
            dedup: (dedup < 6).then_some(DedupId(dedup.into())),
            deadline_ns: until(deadline, NEVER),
            wait_until_ns: until(wait, 0),
            payload: vec![0; size].into(),
        };
        self.ledger.asked.insert(self.requests);
        self.queue.put(put.clone(), self.now, &mut self.out);
        self.oracle.put(put, self.now);
    }

    fn take(&mut self, worker: Agent, count_max: u32, until_ns: u64) {
        self.requests += 1;
        let take = Take { request: self.requests, worker, count_max, until_ns };
        let got = self.queue.take(take, self.now, &mut self.out).is_ok();
        assert_eq!(got, self.oracle.take(take, self.now));
        if got {
            self.ledger.forget_lives(Agent { id: AgentId(worker.id.0 - 1), ..worker });
        }
    }

    fn tick(&mut self) {
        self.queue.tick(self.now, &mut self.out);
        self.oracle.tick(self.now);
        self.check();
    }

    /// What must hold after every step.
    fn check(&mut self) {
        let effects: Vec<_> = self.out.effects.drain(..).map(|(_, effect)| effect).collect();
        assert_eq!(effects, std::mem::take(&mut self.oracle.effects));
        for effect in &effects {
            self.ledger.read(effect, self.now);
            if let Effect::Delivered { delivery, .. } | Effect::HandedOver { delivery, .. } = effect
            {
                self.leases.push((delivery.worker, delivery.item, delivery.delivery));
            }
        }
        self.journal.extend(self.out.records.drain(..).map(|(_, record)| record));
        assert_eq!(self.queue.next_deadline(), self.oracle.next_deadline());
        assert!(self.queue.next_deadline().is_none_or(|at| at > self.now));
        let (view, options) = (self.queue.view(), *self.queue.options());
        let count = |place: fn(&Where) -> bool| {
            self.oracle.things.iter().filter(|thing| place(&thing.place)).count() as u64
        };
        assert_eq!(view.ready_count, count(|place| *place == Where::Ready));
        assert_eq!(view.leased_count, count(|place| matches!(place, Where::Leased(..))));
        assert_eq!(view.delayed_count, count(|place| matches!(place, Where::Delayed(_))));
        assert_eq!(view.dead_count, self.ledger.dead.len() as u64);
        assert_eq!(view.takers_count, self.oracle.takers.len() as u64);
        assert_eq!(view.putters_count, self.ledger.asked.len() as u64, "only these are unanswered");
        let stored = view.ready_count + view.leased_count + view.delayed_count;
        assert!(stored <= u64::from(options.items_max) && view.bytes <= options.bytes_max);
        assert!(view.dead_count <= u64::from(options.dead_items_max));
        assert!(view.dead_bytes <= options.dead_bytes_max);
        assert!(view.takers_count == 0 || view.ready_count == 0, "rule 6");
        let counters = view.counters;
        let dropped: u64 = counters.dropped.iter().sum();
        assert_eq!(
            counters.put,
            counters.acked + dropped + stored + view.dead_count,
            "none is lost"
        );
    }

    fn replay(&self) -> Queue {
        let mut queue = Queue::new(QueueId::default(), *self.queue.options());
        for record in &self.journal {
            queue.apply(record).unwrap();
        }
        queue
    }

    /// From a picture that was taken now.
    fn restore(&self) -> Queue {
        let Frozen { head, known, items } = self.queue.freeze();
        let mut queue = Queue::new(QueueId::default(), head.options);
        known.into_iter().for_each(|known| queue.restore_known(known));
        items.for_each(|item| queue.restore_item(item).unwrap());
        queue.restore_head(&head);
        queue
    }

    fn check_replay(&mut self) {
        assert_eq!(snapshot(&self.restore(), self.now), snapshot(&self.queue, self.now));
        let mut again = self.replay();
        assert_eq!(snapshot(&again, self.now), snapshot(&self.queue, self.now));
        let before: Vec<_> = again.store.iter().map(|(_, item)| item.clone()).collect();
        let mut out = Output::default();
        again.recover(self.now, &mut out);
        let options = *again.options();
        assert_eq!(again.view().leased_count, 0);
        for item in before {
            let State::Leased(lease) = item.state else { continue };
            let may_return =
                item.attempts_count() < options.deliveries_max && item.deadline_ns > self.now;
            match again.store.find(item.id) {
                Some((_, after)) if after.state == State::Ready => {
                    assert!(may_return);
                    assert_eq!(after.deliveries_count, item.deliveries_count);
                    assert_eq!(after.preference, Some((lease.worker.name, lease.until_ns)));
                }
                // Dead, or pushed out of the dead letters.
                _ => assert!(!may_return),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_oracle_says_and_its_journal_restores_it(
        options in options(),
        steps in prop::collection::vec((step(), prop_oneof![Just(0u64), 1u64..8_000_000]), 1..150),
    ) {
        let mut world = World::new(options);
        for (index, (step, pause)) in steps.into_iter().enumerate() {
            world.now += pause;
            // The ledger cannot see what a call did first, what was due or what was asked.
            let is_plain =
                matches!(step, Step::Put { .. } | Step::SenderGone { .. } | Step::DropDead(_));
            if !is_plain {
                world.tick();
            }
            world.step(step);
            // Some steps find nothing to name; then nothing was told the time.
            world.tick();
            if index % 32 == 31 {
                world.check_replay();
            }
        }
        world.check_replay();
    }
}
