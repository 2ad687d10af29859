//! The rules of a queue, one by one.

use ipc::header::AgentId;

use super::model::{DeadLetterError, NackError, Stale};
use super::options::OptionError;
use super::registry::RemoveError;
use super::*;
use crate::exchange::priority::{Priority, overtaken_max};

const MS: u64 = 1_000_000;
const LEASE: u64 = 10 * MS;

/// A queue with a clock and the effects of its last call.
struct Bench {
    queue: Queue,
    out: Output,
    now: u64,
}

fn agent(name: u64, life: u32) -> Agent {
    Agent { name: NameId(name), id: AgentId(life) }
}

fn small() -> Options {
    Options { lease_ns: LEASE, lease_total_ns: 3 * LEASE, items_max: 4, ..Options::default() }
}

fn put(item: u64) -> Put {
    Put {
        request: item,
        sender: agent(100, 1),
        item: ItemId(item),
        priority: Priority::new(5).unwrap(),
        dedup: None,
        deadline_ns: NEVER,
        wait_until_ns: 0,
        payload: [0; 8].into(),
    }
}

impl Bench {
    fn new(options: Options) -> Self {
        options.check().unwrap();
        Self { queue: Queue::new(QueueId::default(), options), out: Output::default(), now: 1 }
    }

    fn put(&mut self, put: Put) -> PutAnswer {
        self.out.clear();
        self.queue.put(put, self.now, &mut self.out);
        let answers = self.answers();
        answers.first().unwrap_or_else(|| panic!("no answer yet")).1
    }

    /// Stores the items 1 to `last`.
    fn fill(&mut self, last: u64) {
        for item in 1..=last {
            assert_eq!(self.put(put(item)), PutAnswer::Stored);
        }
    }

    fn answers(&self) -> Vec<(u64, PutAnswer)> {
        let effects = self.out.effects.iter();
        let answer = |(_, effect): &(QueueId, Effect)| match effect {
            Effect::PutAnswered { request, answer, .. } => Some((*request, *answer)),
            _ => None,
        };
        effects.filter_map(answer).collect()
    }

    /// Item and delivery of each.
    fn take(&mut self, worker: Agent, count_max: u32, wait: u64) -> Vec<(u64, u32)> {
        self.out.clear();
        let until_ns = if wait == 0 { 0 } else { self.now + wait };
        let take = Take { request: 1, worker, count_max, until_ns };
        self.queue.take(take, self.now, &mut self.out).unwrap();
        self.delivered().into_iter().map(|(_, item, delivery)| (item, delivery)).collect()
    }

    fn delivered(&self) -> Vec<(Agent, u64, u32)> {
        let effects = self.out.effects.iter();
        let delivery = |(_, effect): &(QueueId, Effect)| match effect {
            Effect::Delivered { delivery, .. } => {
                Some((delivery.worker, delivery.item.0, delivery.delivery))
            }
            _ => None,
        };
        effects.filter_map(delivery).collect()
    }

    fn ack(&mut self, worker: Agent, item: u64, delivery: u32) -> Result<(), Stale> {
        self.out.clear();
        self.queue.ack(worker, ItemId(item), delivery, self.now, &mut self.out)
    }

    fn nack(&mut self, worker: Agent, item: u64, delivery: u32, delay: u64) {
        self.out.clear();
        self.queue.nack(worker, ItemId(item), delivery, delay, self.now, &mut self.out).unwrap();
    }

    fn pass(&mut self, time: u64) {
        self.out.clear();
        self.now += time;
        self.queue.tick(self.now, &mut self.out);
    }

    fn worker_gone(&mut self, worker: Agent) {
        self.out.clear();
        self.queue.worker_gone(worker, self.now, &mut self.out);
    }

    fn dead(&self) -> Vec<(u64, DeadReason)> {
        self.queue.dead_letters().map(|dead| (dead.item.0, dead.reason)).collect()
    }
}

#[test]
fn an_item_is_delivered_and_done() {
    let mut bench = Bench::new(small());
    assert_eq!(bench.put(put(1)), PutAnswer::Stored);
    assert_eq!(bench.take(agent(1, 1), 2, 0), [(1, 1)]);
    bench.ack(agent(1, 1), 1, 1).unwrap();
    assert!(bench.queue.is_idle());
    assert_eq!(bench.queue.next_deadline(), None);
}

#[test]
fn waiting_workers_are_served_in_the_order_they_asked() {
    let mut bench = Bench::new(small());
    bench.take(agent(1, 1), 2, MS);
    bench.take(agent(2, 1), 1, MS);
    let mut served = Vec::new();
    for item in 1..=3 {
        bench.put(put(item));
        served.extend(bench.delivered().into_iter().map(|(worker, ..)| worker.name.0));
    }
    assert_eq!(served, [1, 1, 2]);
}

#[test]
fn a_take_that_ends_says_what_is_missing() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 3, MS);
    bench.pass(MS);
    let end = Effect::TakeEnded {
        worker: agent(1, 1),
        request: 1,
        missing_count: 2,
        end: TakeEnd::Timeout,
    };
    assert_eq!(bench.out.effects, [(QueueId::default(), end)]);
}

#[test]
fn a_lease_that_expired_goes_elsewhere_and_its_ack_is_stale() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    bench.take(agent(2, 1), 1, 2 * LEASE);
    assert_eq!(bench.queue.next_deadline(), Some(bench.now + LEASE));
    bench.pass(LEASE);
    assert_eq!(bench.delivered(), [(agent(2, 1), 1, 2)]);
    assert_eq!(bench.ack(agent(1, 1), 1, 1), Err(Stale { item: ItemId(1), delivery: 1 }));
    assert_eq!(bench.ack(agent(2, 1), 1, 1), Err(Stale { item: ItemId(1), delivery: 1 }));
    assert_eq!(bench.queue.view().refusals.stale, 2);
    bench.ack(agent(2, 1), 1, 2).unwrap();
}

#[test]
fn an_ack_at_the_very_deadline_is_too_late() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    bench.now += LEASE;
    assert!(bench.ack(agent(1, 1), 1, 1).is_err());
    assert_eq!(bench.queue.view().ready_count, 1);
}

#[test]
fn the_last_permitted_delivery_ends_among_the_dead() {
    let mut bench = Bench::new(Options { deliveries_max: 2, ..small() });
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    bench.pass(LEASE);
    bench.take(agent(1, 1), 1, 0);
    bench.nack(agent(1, 1), 1, 2, 0);
    let reason = DeadReason::DeliveriesExhausted(ReturnReason::Nacked);
    assert_eq!(bench.dead(), [(1, reason)]);
    let view = bench.queue.view();
    assert_eq!((view.counters.exhausted, view.dead_count, view.ready_count), (1, 1, 0));
}

#[test]
fn at_most_once_holds_when_the_worker_dies_and_when_the_daemon_does() {
    let mut bench = Bench::new(Options { deliveries_max: 1, ..small() });
    bench.put(put(1));
    bench.put(put(2));
    bench.take(agent(1, 1), 1, 0);
    bench.take(agent(2, 1), 1, 0);
    bench.worker_gone(agent(1, 1));
    bench.queue.recover(bench.now, &mut bench.out);
    let exhausted = DeadReason::DeliveriesExhausted;
    let expected =
        [(1, exhausted(ReturnReason::WorkerGone)), (2, exhausted(ReturnReason::Restarted))];
    assert_eq!(bench.dead(), expected);
}

#[test]
fn a_returned_item_goes_before_later_ones_of_its_level() {
    let mut bench = Bench::new(small());
    bench.fill(3);
    assert_eq!(bench.take(agent(1, 1), 2, 0), [(1, 1), (2, 1)]);
    bench.nack(agent(1, 1), 2, 1, 0);
    bench.nack(agent(1, 1), 1, 1, 0);
    assert_eq!(bench.take(agent(2, 1), 3, 0), [(1, 2), (2, 2), (3, 1)]);
}

#[test]
fn a_delayed_return_waits_its_time() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    bench.nack(agent(1, 1), 1, 1, MS);
    assert!(bench.take(agent(1, 1), 1, 0).is_empty());
    assert_eq!(bench.queue.view().delayed_count, 1);
    bench.pass(MS);
    assert_eq!(bench.take(agent(1, 1), 1, 0), [(1, 2)]);
}

#[test]
fn too_long_a_delay_is_refused_and_the_lease_stays() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    let delay = limits::DELAY_NS_MAX + 1;
    let got = bench.queue.nack(agent(1, 1), ItemId(1), 1, delay, bench.now, &mut Output::default());
    assert_eq!(got, Err(NackError::Delay { got: delay, max: limits::DELAY_NS_MAX }));
    bench.ack(agent(1, 1), 1, 1).unwrap();
}

#[test]
fn extensions_end_with_the_total() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    let start = bench.now;
    bench.take(agent(1, 1), 1, 0);
    let mut until = 0;
    for _ in 0..3 {
        bench.now += LEASE - 1;
        let (queue, out) = (&mut bench.queue, &mut bench.out);
        until = queue.extend(agent(1, 1), ItemId(1), 1, bench.now, out).unwrap();
    }
    assert_eq!(until, start + 3 * LEASE);
    bench.pass(start + 3 * LEASE - bench.now);
    assert_eq!(bench.queue.view().ready_count, 1);
}

#[test]
fn an_item_whose_deadline_passed_is_not_delivered() {
    let mut bench = Bench::new(small());
    let deadline_ns = bench.now + MS;
    bench.put(Put { deadline_ns, ..put(1) });
    bench.now += MS;
    assert!(bench.take(agent(1, 1), 1, 0).is_empty());
    assert_eq!(bench.dead(), [(1, DeadReason::Expired)]);
    let late = bench.put(Put { deadline_ns, ..put(2) });
    assert_eq!(late, PutAnswer::Rejected(Rejection::Expired));
}

#[test]
fn a_worker_may_finish_an_item_after_its_deadline() {
    let mut bench = Bench::new(small());
    bench.put(Put { deadline_ns: bench.now + MS, ..put(1) });
    bench.take(agent(1, 1), 1, 0);
    bench.pass(2 * MS);
    bench.ack(agent(1, 1), 1, 1).unwrap();
    assert!(bench.dead().is_empty());
}

#[test]
fn a_repeated_put_is_known_after_the_first_is_done_and_after_a_restart_of_its_sender() {
    let mut bench = Bench::new(small());
    let dedup = Some(DedupId(7));
    bench.put(Put { dedup, ..put(1) });
    bench.take(agent(1, 1), 1, 0);
    bench.ack(agent(1, 1), 1, 1).unwrap();
    let again = bench.put(Put { dedup, sender: agent(100, 2), ..put(2) });
    assert_eq!(again, PutAnswer::Duplicate { first: ItemId(1) });
    assert_eq!(bench.put(Put { dedup, sender: agent(101, 1), ..put(3) }), PutAnswer::Stored);
}

#[test]
fn the_window_of_repeated_puts_forgets_the_oldest() {
    let mut bench = Bench::new(Options { dedup_max: 1, ..small() });
    bench.put(Put { dedup: Some(DedupId(1)), ..put(1) });
    bench.put(Put { dedup: Some(DedupId(2)), ..put(2) });
    assert_eq!(bench.put(Put { dedup: Some(DedupId(1)), ..put(3) }), PutAnswer::Stored);
}

#[test]
fn an_id_is_free_again_only_when_its_item_is_gone() {
    let mut bench = Bench::new(Options { deliveries_max: 1, ..small() });
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    assert_eq!(bench.put(put(1)), PutAnswer::Rejected(Rejection::ItemIdInUse));
    bench.pass(LEASE);
    assert_eq!(bench.put(put(1)), PutAnswer::Rejected(Rejection::ItemIdInUse));
    bench.queue.drop_dead(ItemId(1), bench.now, &mut bench.out).unwrap();
    assert_eq!(bench.put(put(1)), PutAnswer::Stored);
}

#[test]
fn a_full_queue_rejects_by_items_and_by_bytes() {
    let mut bench = Bench::new(Options { items_max: 2, bytes_max: 20, ..small() });
    bench.put(put(1));
    let full = PutAnswer::Rejected(Rejection::Full);
    assert_eq!(bench.put(Put { payload: [0; 13].into(), ..put(2) }), full);
    assert_eq!(bench.put(put(3)), PutAnswer::Stored);
    assert_eq!(bench.put(Put { payload: [].into(), ..put(4) }), full);
    let large = bench.put(Put { payload: [0; 21].into(), ..put(5) });
    assert_eq!(large, PutAnswer::Rejected(Rejection::TooLarge));
    assert_eq!(bench.queue.view().refusals.rejected[Rejection::Full as usize], 2);
}

#[test]
fn the_oldest_of_the_least_urgent_makes_room_and_is_named() {
    let options = Options { items_max: 2, when_full: WhenFull::DropOldest, ..small() };
    let mut bench = Bench::new(options);
    let urgent = Priority::new(9).unwrap();
    bench.put(Put { priority: urgent, ..put(1) });
    bench.put(put(2));
    assert_eq!(bench.put(put(3)), PutAnswer::Stored);
    let gone =
        Effect::Dropped { item: ItemId(2), sender: NameId(100), reason: DropReason::Displaced };
    assert!(bench.out.effects.contains(&(QueueId::default(), gone)));
    bench.take(agent(1, 1), 2, 0);
    // Leased items stay.
    assert_eq!(bench.put(put(4)), PutAnswer::Rejected(Rejection::Full));
}

#[test]
fn less_urgent_items_displace_no_more_urgent_ones() {
    let options = Options { items_max: 1, when_full: WhenFull::DropOldest, ..small() };
    let mut bench = Bench::new(options);
    bench.put(put(1));
    let low = Put { priority: Priority::new(4).unwrap(), ..put(2) };
    assert_eq!(bench.put(low), PutAnswer::Rejected(Rejection::Full));
}

#[test]
fn a_put_waits_for_room_in_its_turn_or_until_its_time() {
    let options = Options { items_max: 1, putters_max: 2, when_full: WhenFull::Wait, ..small() };
    let mut bench = Bench::new(options);
    bench.put(put(1));
    let wait_until_ns = bench.now + MS;
    for item in 2..=3 {
        bench.queue.put(Put { wait_until_ns, ..put(item) }, bench.now, &mut bench.out);
    }
    let more = bench.put(Put { wait_until_ns, ..put(4) });
    assert_eq!(more, PutAnswer::Rejected(Rejection::TooManyWait));
    bench.take(agent(1, 1), 1, 0);
    bench.ack(agent(1, 1), 1, 1).unwrap();
    assert_eq!(bench.answers(), [(2, PutAnswer::Stored)]);
    bench.pass(MS);
    assert_eq!(bench.answers(), [(3, PutAnswer::Rejected(Rejection::WaitedInVain))]);
    assert_eq!(bench.put(put(5)), PutAnswer::Rejected(Rejection::Full));
}

#[test]
fn the_waiting_puts_of_a_sender_go_with_it_and_its_items_stay() {
    let mut bench = Bench::new(Options { items_max: 1, when_full: WhenFull::Wait, ..small() });
    bench.put(put(1));
    let wait_until_ns = bench.now + MS;
    bench.queue.put(Put { wait_until_ns, ..put(2) }, bench.now, &mut bench.out);
    bench.out.clear();
    bench.queue.sender_gone(agent(100, 1), bench.now, &mut bench.out);
    assert_eq!(bench.answers(), [(2, PutAnswer::Rejected(Rejection::SenderGone))]);
    let view = bench.queue.view();
    assert_eq!((view.ready_count, view.putters_count), (1, 0));
}

#[test]
fn the_items_of_a_worker_that_ended_go_to_those_who_wait_at_once() {
    let mut bench = Bench::new(small());
    bench.fill(2);
    bench.take(agent(1, 1), 2, 0);
    bench.take(agent(2, 1), 4, MS);
    bench.worker_gone(agent(1, 1));
    assert_eq!(bench.delivered(), [(agent(2, 1), 1, 2), (agent(2, 1), 2, 2)]);
    bench.worker_gone(agent(2, 1));
    assert_eq!(bench.queue.view().takers_count, 0);
}

#[test]
fn a_restarted_worker_gets_its_own_items_first() {
    let mut bench = Bench::new(small());
    bench.put(Put { priority: Priority::new(1).unwrap(), ..put(1) });
    bench.take(agent(1, 1), 1, 0);
    bench.worker_gone(agent(1, 1));
    bench.put(Put { priority: Priority::new(10).unwrap(), ..put(2) });
    assert_eq!(bench.take(agent(1, 2), 2, 0), [(1, 2), (2, 1)]);
}

#[test]
fn what_comes_back_to_its_worker_spends_nobodys_turn() {
    let mut bench = Bench::new(small());
    bench.fill(2);
    bench.take(agent(1, 1), 1, 0);
    bench.worker_gone(agent(1, 1));
    let before = bench.queue.store.ready.turns().clone();
    assert_eq!(bench.take(agent(1, 2), 1, 0), [(1, 2)]);
    assert_eq!(*bench.queue.store.ready.turns(), before);
    bench.take(agent(1, 2), 1, 0);
    assert_ne!(*bench.queue.store.ready.turns(), before);
}

#[test]
fn what_a_worker_had_is_its_own_no_longer_than_the_lease() {
    let mut bench = Bench::new(small());
    bench.put(Put { priority: Priority::new(1).unwrap(), ..put(1) });
    bench.take(agent(1, 1), 1, 0);
    bench.worker_gone(agent(1, 1));
    bench.put(Put { priority: Priority::new(10).unwrap(), ..put(2) });
    bench.now += LEASE;
    assert_eq!(bench.take(agent(1, 2), 2, 0), [(2, 1), (1, 2)]);
}

#[test]
fn a_later_life_ends_the_earlier_one_before_its_death_is_told() {
    let mut bench = Bench::new(small());
    bench.fill(2);
    bench.take(agent(1, 1), 2, 0);
    assert_eq!(bench.take(agent(1, 2), 1, 0), [(1, 2)]);
    assert!(bench.ack(agent(1, 1), 1, 1).is_err());
    let take = Take { request: 1, worker: agent(1, 1), count_max: 1, until_ns: 0 };
    let late = bench.queue.take(take, bench.now, &mut bench.out);
    assert_eq!(late, Err(TakeError::Replaced));
    bench.worker_gone(agent(1, 1));
    bench.ack(agent(1, 2), 1, 2).unwrap();
}

#[test]
fn a_handoff_moves_the_lease_and_only_the_receiver_may_end_it() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    bench.out.clear();
    let (from, to) = (agent(1, 1), agent(2, 1));
    bench.queue.handoff(from, ItemId(1), 1, to, bench.now, &mut bench.out).unwrap();
    let moved = matches!(
        &bench.out.effects[..],
        [(_, Effect::HandedOver { from, delivery })]
            if *from == agent(1, 1) && delivery.worker == to && delivery.delivery == 1
    );
    assert!(moved, "{:?}", bench.out.effects);
    assert!(bench.ack(from, 1, 1).is_err());
    bench.worker_gone(from);
    bench.ack(to, 1, 1).unwrap();
}

#[test]
fn handing_an_item_to_and_fro_does_not_lengthen_it_beyond_the_total() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    let (mut from, mut to) = (agent(1, 1), agent(2, 1));
    for _ in 0..3 {
        bench.now += LEASE - 1;
        bench.queue.handoff(from, ItemId(1), 1, to, bench.now, &mut bench.out).unwrap();
        std::mem::swap(&mut from, &mut to);
    }
    bench.pass(LEASE - 1);
    assert!(bench.ack(from, 1, 1).is_err());
}

#[test]
fn a_dead_letter_can_be_stored_anew_or_dropped() {
    let mut bench = Bench::new(Options { deliveries_max: 1, items_max: 2, ..small() });
    bench.fill(2);
    bench.take(agent(1, 1), 2, 0);
    bench.pass(LEASE);
    bench.put(put(3));
    bench.queue.requeue_dead(ItemId(1), bench.now, &mut bench.out).unwrap();
    let full = bench.queue.requeue_dead(ItemId(2), bench.now, &mut bench.out);
    assert_eq!(full, Err(DeadLetterError::Full));
    assert_eq!(bench.take(agent(1, 1), 2, 0), [(3, 1), (1, 2)]);
    bench.queue.drop_dead(ItemId(2), bench.now, &mut bench.out).unwrap();
    let unknown = bench.queue.drop_dead(ItemId(2), bench.now, &mut bench.out);
    assert_eq!(unknown, Err(DeadLetterError::Unknown(ItemId(2))));
}

#[test]
fn an_ack_from_before_an_item_was_dead_is_stale_after_it() {
    let mut bench = Bench::new(Options { deliveries_max: 1, ..small() });
    bench.put(put(1));
    bench.take(agent(1, 1), 1, 0);
    bench.pass(LEASE);
    bench.queue.requeue_dead(ItemId(1), bench.now, &mut bench.out).unwrap();
    assert_eq!(bench.take(agent(1, 1), 1, 0), [(1, 2)]);
    assert!(bench.ack(agent(1, 1), 1, 1).is_err());
    bench.ack(agent(1, 1), 1, 2).unwrap();
}

#[test]
fn dead_letters_are_bounded_and_the_oldest_is_named_when_it_goes() {
    let mut bench = Bench::new(Options { deliveries_max: 1, dead_items_max: 1, ..small() });
    bench.fill(2);
    bench.take(agent(1, 1), 2, 0);
    bench.pass(LEASE);
    assert_eq!(bench.dead().iter().map(|dead| dead.0).collect::<Vec<_>>(), [2]);
    let reason = DropReason::DeadLettersFull;
    let gone = Effect::Dropped { item: ItemId(1), sender: NameId(100), reason };
    assert!(bench.out.effects.contains(&(QueueId::default(), gone)));
}

#[test]
fn time_does_not_run_backwards() {
    let mut bench = Bench::new(small());
    bench.pass(10 * LEASE);
    bench.put(put(1));
    bench.now = 1;
    bench.take(agent(1, 1), 1, 0);
    assert_eq!(bench.queue.next_deadline(), Some(11 * LEASE + 1));
}

#[test]
fn a_record_that_does_not_follow_changes_nothing() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    let before = bench.queue.view();
    let item = ItemId(1);
    let worker = agent(1, 1);
    let wrong = [
        Record::Acked { item },
        Record::Acked { item: ItemId(9) },
        Record::Readied { item },
        Record::Requeued { item, deadline_ns: NEVER },
        Record::Delivered { item, worker, delivery: 2, at_ns: 1, until_ns: 2 },
        Record::Delivered { item, worker: agent(1, 0), delivery: 1, at_ns: 1, until_ns: 2 },
    ];
    for record in wrong {
        assert!(bench.queue.apply(&record).is_err(), "{record:?}");
    }
    assert_eq!(bench.queue.view(), before);
}

#[test]
fn queues_are_declared_once_found_by_name_and_removed_when_idle() {
    let (mut queues, mut out) = (Queues::default(), Output::default());
    let id = queues.declare("work", Some(small())).unwrap();
    assert_eq!(queues.declare("work", None), Ok(id));
    let differs = queues.declare("work", Some(Options::default()));
    assert_eq!(differs, Err(DeclareError::Differs { name: "work".into() }));
    queues.with(id, |queue| queue.put(put(1), 1, &mut out)).unwrap();
    assert_eq!(queues.remove(id), Err(RemoveError::InUse));
    queues.with(id, |queue| {
        let take = Take { request: 1, worker: agent(1, 1), count_max: 1, until_ns: 0 };
        queue.take(take, 1, &mut out).unwrap();
        queue.ack(agent(1, 1), ItemId(1), 1, 1, &mut out).unwrap();
    });
    queues.remove(id).unwrap();
    let again = queues.declare("work", None).unwrap();
    assert_ne!(again, id);
    assert!(queues.with(id, |_| ()).is_none());
}

#[test]
fn queues_have_bounds_together() {
    let mut queues = Queues::default();
    let large = Options { bytes_max: limits::BYTES_MAX, ..Options::default() };
    let declared =
        (0..8).filter(|index| queues.declare(&format!("q{index}"), Some(large)).is_ok()).count();
    assert_eq!(declared, 3);
    assert!(matches!(queues.declare("", None), Err(DeclareError::Name { .. })));
    let wrong = Options { items_max: 0, ..Options::default() };
    assert!(matches!(
        queues.declare("x", Some(wrong)),
        Err(DeclareError::Option(OptionError { option: "items_max", .. }))
    ));
}

#[test]
fn all_queues_tick_at_the_first_deadline_and_hear_of_an_end() {
    let (mut queues, mut out) = (Queues::default(), Output::default());
    let ids = ["a", "b"].map(|name| queues.declare(name, Some(small())).unwrap());
    for (now, id) in [(5, ids[0]), (3, ids[1])] {
        let take = Take { request: 1, worker: agent(1, 1), count_max: 1, until_ns: 0 };
        queues.with(id, |queue| {
            queue.put(put(1), now, &mut out);
            queue.take(take, now, &mut out).unwrap();
        });
    }
    assert_eq!(queues.next_deadline(), Some(3 + LEASE));
    queues.tick(3 + LEASE, &mut out);
    assert_eq!(queues.next_deadline(), Some(5 + LEASE));
    queues.agent_gone(agent(1, 1), 4 + LEASE, &mut out);
    let views: Vec<_> = queues.iter().map(Queue::view).collect();
    assert!(views.iter().all(|view| view.ready_count == 1 && view.leased_count == 0));
}

#[test]
fn a_cancelled_take_gets_nothing_more_and_spends_no_deliveries() {
    let mut bench = Bench::new(small());
    bench.put(put(1));
    let worker = agent(1, 1);
    let take = Take { request: 7, worker, count_max: 3, until_ns: bench.now + MS };
    bench.queue.take(take, bench.now, &mut bench.out).unwrap();
    bench.out.clear();
    bench.queue.cancel(7, bench.now, &mut bench.out);
    let (request, missing_count, end) = (7, 2, TakeEnd::Cancelled);
    let ended = Effect::TakeEnded { worker, request, missing_count, end };
    assert_eq!(bench.out.effects, [(QueueId::default(), ended)]);
    bench.put(put(2));
    assert_eq!(bench.take(agent(2, 1), 1, 0), [(2, 1)]);
    bench.ack(worker, 1, 1).unwrap();
}

#[test]
fn a_cancelled_put_is_withdrawn_and_lets_in_those_behind_it() {
    let options = Options { bytes_max: 16, when_full: WhenFull::Wait, ..small() };
    let mut bench = Bench::new(options);
    bench.put(put(1));
    let wait_until_ns = bench.now + MS;
    let large = Put { payload: [0; 16].into(), wait_until_ns, ..put(2) };
    bench.queue.put(large, bench.now, &mut bench.out);
    bench.queue.put(Put { wait_until_ns, ..put(3) }, bench.now, &mut bench.out);
    bench.out.clear();
    bench.queue.cancel(2, bench.now, &mut bench.out);
    let withdrawn = PutAnswer::Rejected(Rejection::Withdrawn);
    assert_eq!(bench.answers(), [(2, withdrawn), (3, PutAnswer::Stored)]);
    bench.queue.cancel(3, bench.now, &mut bench.out);
    assert_eq!(bench.queue.view().ready_count, 2, "what is stored is not taken back");
}

#[test]
fn a_delivery_that_nobody_was_told_of_does_not_kill_the_item() {
    let mut bench = Bench::new(Options { deliveries_max: 1, ..small() });
    bench.put(put(1));
    let worker = agent(1, 1);
    for delivery in 1..=3 {
        assert_eq!(bench.take(worker, 1, 0), [(1, delivery)]);
        bench.queue.untold(worker, ItemId(1), delivery, bench.now, &mut bench.out).unwrap();
    }
    assert_eq!(bench.take(worker, 1, 0), [(1, 4)], "no number comes twice");
    bench.nack(worker, 1, 4, 0);
    assert_eq!(bench.dead().len(), 1);
}

#[test]
fn the_least_urgent_item_is_taken_in_time_while_urgent_ones_never_end() {
    let mut bench = Bench::new(small());
    let level = |number| Priority::new(number).unwrap();
    bench.put(Put { priority: level(1), ..put(1) });
    let (mut taken, mut next) = (0, 2);
    loop {
        for number in [10, 9, 5] {
            // What does not fit is there already.
            let _ = bench.put(Put { priority: level(number), ..put(next) });
            next += 1;
        }
        let [(item, delivery)] = bench.take(agent(1, 1), 1, 0)[..] else { panic!("an item") };
        bench.ack(agent(1, 1), item, delivery).unwrap();
        if item == 1 {
            break;
        }
        taken += 1;
    }
    assert!(taken <= overtaken_max(level(1)), "{taken}");
}
