//! Work queues as the exchange serves them: requests in, the state machine's effects out.
//!
//! What a queue does is decided in [`super::queue`]; here are the numbers that join its effects to requests and links, the
//! clock, and the words of refusals. An item that is delivered to a take that was cancelled meanwhile goes back at once.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agents_contract::ToolError;
use ipc::exchange::queue as wire;
use ipc::fault;
use ipc::header::LaneId;
use ipc::link::{Request, RequestId};

use super::callers::{Callers, Said};
use super::priority::Priority;
use super::queue::{
    Agent, DeadReason, DedupId, Delivery, Effect, ItemId, NEVER, Options, Output, Put, PutAnswer,
    QueueId, QueueView, Queues, Rejection, Take, TakeEnd, WhenFull,
};
use crate::limits::{DEAD_LETTERS_PER_ANSWER_MAX, PENDING_PER_CALLER_MAX};

/// All queues, and who waits for what of them.
pub(super) struct Work {
    queues: Queues,
    started: Instant,
    last_item: u64,
    last_pending: u64,
    /// Puts and takes that are not over.
    pending: HashMap<u64, Pending>,
    output: Output,
    /// Links whose reader is too slow.
    overfull: HashSet<LaneId>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    lane: LaneId,
    request: RequestId,
    /// Of a take: items that are still to come.
    missing: u32,
    cancelled: bool,
}

/// The answer of an operation that is over at once, or none yet.
type Answer = Result<Option<Vec<u8>>, ToolError>;

impl Work {
    pub(super) fn new(last_item: u64) -> Self {
        Self {
            queues: Queues::default(),
            started: Instant::now(),
            last_item,
            last_pending: 0,
            pending: HashMap::new(),
            output: Output::default(),
            overfull: HashSet::new(),
        }
    }

    /// Whether a request is about a queue.
    pub(super) fn knows(tool: &str) -> bool {
        tool.starts_with("queue.")
    }

    /// Carries out one request.
    pub(super) fn asked(&mut self, callers: &mut Callers, lane: LaneId, request: &Request) {
        let Some(agent) = callers.get(lane).map(|caller| caller.agent) else { return };
        let answer = match wire::Operation::decode(&request.tool, &request.payload) {
            Ok(Some((queue, operation))) => {
                self.carry_out(callers, (lane, agent), request.id, &queue, operation)
            }
            Ok(None) => {
                let text = format!("the exchange has no tool `{}`", request.tool);
                Err(refusal("no-such-tool", text))
            }
            Err(error) => {
                Err(refusal("bad-request", format!("the request cannot be read: {error}")))
            }
        };
        // What others get because of it comes first: a worker may be faster than whoever gave the work.
        self.carry_effects(callers);
        match answer {
            Ok(None) => {}
            Ok(Some(bytes)) => self.say(callers, lane, request.id, Said::Done(bytes)),
            Err(error) => self.say(callers, lane, request.id, Said::Failed(encoded(&error))),
        }
    }

    /// A caller does not wait for this request any more.
    pub(super) fn cancelled(&mut self, lane: LaneId, request: u32) {
        let is_it = |one: &&mut Pending| one.lane == lane && one.request.0 as u32 == request;
        if let Some(pending) = self.pending.values_mut().find(is_it) {
            pending.cancelled = true;
        }
    }

    /// An agent's last link ended: everything that it had goes to others.
    pub(super) fn gone(&mut self, callers: &mut Callers, agent: Agent) {
        let now = self.now_ns();
        self.queues.agent_gone(agent, now, &mut self.output);
        fault::point("exchange.leases-returned");
        self.carry_effects(callers);
    }

    /// A link ended; what was pending on it is nobody's.
    pub(super) fn link_gone(&mut self, lane: LaneId) {
        // Takes end without a word; a delivery that comes after all finds nobody and goes back.
        self.pending.retain(|_, pending| pending.lane != lane);
        self.overfull.remove(&lane);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, callers: &mut Callers) {
        let now = self.now_ns();
        if self.queues.next_deadline().is_some_and(|at| at <= now) {
            self.queues.tick(now, &mut self.output);
            self.carry_effects(callers);
        }
    }

    /// When [`Work::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queues.next_deadline().map(|at| self.started + Duration::from_nanos(at))
    }

    /// Links that do not take their answers.
    pub(super) fn take_overfull(&mut self) -> Vec<LaneId> {
        self.overfull.drain().collect()
    }

    fn carry_out(
        &mut self,
        callers: &Callers,
        (lane, agent): (LaneId, Agent),
        request: RequestId,
        name: &str,
        operation: wire::Operation<'_>,
    ) -> Answer {
        let now = self.now_ns();
        if let wire::Operation::Declare { options } = operation {
            let there = self.queues.find(name).is_some();
            let options = options_of(&options);
            return match self.queues.declare(name, Some(options), &mut self.output) {
                Ok(_) => Ok(Some(vec![u8::from(!there)])),
                Err(error) => Err(refusal("queue-refused", error.to_string())),
            };
        }
        let id = match self.queues.find(name) {
            Some(id) => id,
            None => self
                .queues
                .declare(name, None, &mut self.output)
                .map_err(|error| refusal("queue-refused", error.to_string()))?,
        };
        match operation {
            wire::Operation::Put { priority, dedup, deadline_ns, wait_ns, payload } => {
                let priority = Priority::new(priority)
                    .ok_or_else(|| refusal("bad-request", "a priority is 1 to 10".to_owned()))?;
                let pending = self.pend(lane, request, 0)?;
                self.last_item += 1;
                let put = Put {
                    request: pending,
                    sender: agent,
                    item: ItemId(self.last_item),
                    priority,
                    dedup: dedup.map(DedupId),
                    deadline_ns: self.own_clock(deadline_ns),
                    wait_until_ns: if wait_ns == 0 { 0 } else { now.saturating_add(wait_ns) },
                    payload: payload.into(),
                };
                let output = &mut self.output;
                self.queues.with(id, |queue| queue.put(put, now, output));
                fault::point("exchange.put-stored");
                Ok(None)
            }
            wire::Operation::Take { count, wait_ns } => {
                let pending = self.pend(lane, request, count)?;
                let until_ns = if wait_ns == 0 { 0 } else { now.saturating_add(wait_ns) };
                let take = Take { request: pending, worker: agent, count_max: count, until_ns };
                let output = &mut self.output;
                let taken = self.queues.with(id, |queue| queue.take(take, now, output));
                match taken {
                    Some(Err(error)) => {
                        self.pending.remove(&pending);
                        Err(refusal("take-refused", error.to_string()))
                    }
                    _ => Ok(None),
                }
            }
            other => self.settle(callers, agent, id, other, now),
        }
    }

    /// What a worker says of its items, and what people ask.
    fn settle(
        &mut self,
        callers: &Callers,
        agent: Agent,
        id: QueueId,
        operation: wire::Operation<'_>,
        now: u64,
    ) -> Answer {
        let output = &mut self.output;
        let stale = |error: &dyn std::fmt::Display| refusal("stale", error.to_string());
        let bad = |error: &dyn std::fmt::Display| refusal("bad-request", error.to_string());
        let done = |result: Result<(), ToolError>| result.map(|()| Some(Vec::new()));
        let answer = self.queues.with(id, |queue| match operation {
            wire::Operation::Ack(wire::Lease { item, delivery }) => {
                let acked = queue.ack(agent, ItemId(item), delivery, now, output);
                fault::point("exchange.ack-taken");
                done(acked.map_err(|error| stale(&error)))
            }
            wire::Operation::Nack { lease, delay_ns } => {
                let (item, delivery) = (ItemId(lease.item), lease.delivery);
                let back = queue.nack(agent, item, delivery, delay_ns, now, output);
                fault::point("exchange.nack-taken");
                done(back.map_err(|error| stale(&error)))
            }
            wire::Operation::Extend(lease) => {
                let extended = queue.extend(agent, ItemId(lease.item), lease.delivery, now, output);
                let until = extended.map_err(|error| stale(&error))?;
                Ok(Some(until.saturating_sub(now).to_le_bytes().to_vec()))
            }
            wire::Operation::Handoff { lease, to } => {
                let Some(to) = callers.agent_named(&to) else {
                    let text = format!("`{to}` has no link to the exchange");
                    return Err(refusal("no-such-target", text));
                };
                let (item, delivery) = (ItemId(lease.item), lease.delivery);
                let handed = queue.handoff(agent, item, delivery, to, now, output);
                done(handed.map_err(|error| stale(&error)))
            }
            wire::Operation::Requeue { item } => {
                let requeued = queue.requeue_dead(ItemId(item), now, output);
                fault::point("exchange.requeued");
                done(requeued.map_err(|error| bad(&error)))
            }
            wire::Operation::Drop { item } => {
                let dropped = queue.drop_dead(ItemId(item), now, output);
                done(dropped.map_err(|error| bad(&error)))
            }
            wire::Operation::Status => Ok(Some(status_of(&queue.view()).encode())),
            wire::Operation::Dead { after, count } => {
                let count = (count as usize).min(DEAD_LETTERS_PER_ANSWER_MAX);
                let letters = queue.dead_letters().filter(|letter| letter.item.0 > after);
                let mut bytes = Vec::new();
                for letter in letters.take(count) {
                    let letter = wire::DeadLetter {
                        item: letter.item.0,
                        deliveries: letter.deliveries_count,
                        priority: letter.priority.number(),
                        reason: match letter.reason {
                            DeadReason::DeliveriesExhausted(_) => 1,
                            DeadReason::Expired => 2,
                        },
                        bytes: letter.bytes,
                        sender: callers.name(letter.sender).to_owned(),
                    };
                    wire::append(&mut bytes, &letter).map_err(|error| bad(&error))?;
                }
                Ok(Some(bytes))
            }
            wire::Operation::Declare { .. }
            | wire::Operation::Put { .. }
            | wire::Operation::Take { .. } => Ok(None),
        });
        answer.unwrap_or_else(|| Err(refusal("no-such-queue", "the queue is gone".to_owned())))
    }

    fn pend(&mut self, lane: LaneId, request: RequestId, missing: u32) -> Result<u64, ToolError> {
        let own = self.pending.values().filter(|pending| pending.lane == lane).count();
        if own >= PENDING_PER_CALLER_MAX {
            let text = format!("{own} puts and takes of this caller are waiting already");
            return Err(ToolError { retry: true, ..refusal("busy", text) });
        }
        self.last_pending += 1;
        let pending = Pending { lane, request, missing, cancelled: false };
        self.pending.insert(self.last_pending, pending);
        Ok(self.last_pending)
    }

    /// Tells everybody what the state machine decided. Giving back what was cancelled decides more.
    fn carry_effects(&mut self, callers: &mut Callers) {
        while !self.output.effects.is_empty() {
            let effects = std::mem::take(&mut self.output.effects);
            for (queue, effect) in effects {
                self.carry_effect(callers, queue, effect);
            }
        }
        // Nothing is kept in a journal yet.
        self.output.records.clear();
    }

    fn carry_effect(&mut self, callers: &mut Callers, queue: QueueId, effect: Effect) {
        match effect {
            Effect::PutAnswered { request, item, answer, .. } => {
                let Some(pending) = self.pending.remove(&request) else { return };
                let outcome = outcome_of(item, answer);
                self.say(callers, pending.lane, pending.request, Said::Done(outcome.encode()));
                fault::point("exchange.put-answered");
            }
            Effect::Delivered { request, delivery } => {
                self.delivered(callers, queue, request, &delivery);
            }
            Effect::HandedOver { delivery, .. } => {
                let lane = callers.lane_of(delivery.worker);
                match (lane, self.encode_delivery(callers, &delivery)) {
                    (Some(lane), Some(bytes)) => {
                        self.say(callers, lane, RequestId(0), Said::Handoff(bytes));
                    }
                    _ => self.give_back(queue, &delivery),
                }
            }
            Effect::TakeEnded { request, missing_count, end, .. } => {
                let Some(pending) = self.pending.remove(&request) else { return };
                let end = match end {
                    TakeEnd::Timeout => wire::TakeEnd::Timeout,
                    TakeEnd::TooManyWait => wire::TakeEnd::TooManyWait,
                };
                let bytes = end.encode(missing_count);
                self.say(callers, pending.lane, pending.request, Said::Done(bytes));
            }
            // Counted in the queue's status.
            Effect::Died { .. } => fault::point("exchange.dead-letter"),
            Effect::Dropped { .. } => {}
        }
    }

    fn delivered(
        &mut self,
        callers: &mut Callers,
        queue: QueueId,
        request: u64,
        delivery: &Delivery,
    ) {
        let Some(pending) = self.pending.get_mut(&request) else {
            return self.give_back(queue, delivery);
        };
        pending.missing = pending.missing.saturating_sub(1);
        let taken = *pending;
        if taken.missing == 0 {
            self.pending.remove(&request);
        }
        let bytes = if taken.cancelled { None } else { self.encode_delivery(callers, delivery) };
        let Some(bytes) = bytes else { return self.give_back(queue, delivery) };
        fault::point("exchange.item-leased");
        self.say(callers, taken.lane, taken.request, Said::Progress(bytes));
        fault::point("exchange.item-delivered");
        if taken.missing == 0 {
            let end = wire::TakeEnd::Complete.encode(0);
            self.say(callers, taken.lane, taken.request, Said::Done(end));
        }
    }

    /// Nobody hears of this delivery.
    fn give_back(&mut self, queue: QueueId, delivery: &Delivery) {
        let now = self.now_ns();
        let output = &mut self.output;
        let back = |queue: &mut super::queue::Queue| {
            queue.nack(delivery.worker, delivery.item, delivery.delivery, 0, now, output)
        };
        // A lease that is over has gone back already.
        let _ = self.queues.with(queue, back);
    }

    fn encode_delivery(&self, callers: &Callers, delivery: &Delivery) -> Option<Vec<u8>> {
        let lease = wire::Lease { item: delivery.item.0, delivery: delivery.delivery };
        let told = wire::Delivery {
            lease,
            priority: delivery.priority.number(),
            lease_left_ns: delivery.lease_until_ns.saturating_sub(self.now_ns()),
            sender: callers.name(delivery.sender).to_owned(),
            payload: delivery.payload.to_vec(),
        };
        // A name on the bus is never too long.
        told.encode().ok()
    }

    fn say(&mut self, callers: &mut Callers, lane: LaneId, request: RequestId, said: Said) {
        if !callers.say(lane, request, said) {
            self.overfull.insert(lane);
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(NEVER)
    }

    /// A moment of the Unix clock on this one's own.
    fn own_clock(&self, at_ns: u64) -> u64 {
        if at_ns == 0 {
            return NEVER;
        }
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(epoch.as_nanos()).unwrap_or(NEVER);
        self.now_ns().saturating_add(at_ns.saturating_sub(epoch))
    }
}

fn options_of(options: &wire::Options) -> Options {
    Options {
        items_max: options.items_max,
        bytes_max: options.bytes_max,
        lease_ns: options.lease_ns,
        lease_total_ns: options.lease_total_ns,
        deliveries_max: options.deliveries_max,
        when_full: match options.when_full {
            wire::WhenFull::Reject => WhenFull::Reject,
            wire::WhenFull::DropOldest => WhenFull::DropOldest,
            wire::WhenFull::Wait => WhenFull::Wait,
        },
        ..Options::default()
    }
}

fn outcome_of(item: ItemId, answer: PutAnswer) -> wire::PutOutcome {
    match answer {
        PutAnswer::Stored => wire::PutOutcome::Stored { item: item.0 },
        PutAnswer::Duplicate { first } => wire::PutOutcome::Duplicate { item: first.0 },
        PutAnswer::Rejected(rejection) => wire::PutOutcome::Rejected {
            reason: match rejection {
                Rejection::Full => 1,
                Rejection::WaitedInVain => 2,
                Rejection::TooManyWait => 3,
                Rejection::TooLarge => 4,
                Rejection::Expired => 5,
                Rejection::ItemIdInUse | Rejection::SenderGone => 6,
            },
        },
    }
}

fn status_of(view: &QueueView) -> wire::Status {
    let (counters, refusals) = (&view.counters, &view.refusals);
    wire::Status {
        ready: view.ready_count,
        leased: view.leased_count,
        delayed: view.delayed_count,
        dead: view.dead_count,
        bytes: view.bytes,
        takers: view.takers_count,
        putters: view.putters_count,
        stored: counters.put,
        delivered: counters.delivered,
        acked: counters.acked,
        redelivered: counters.redelivered,
        returned: counters.returned,
        died: counters.expired + counters.exhausted,
        dropped: counters.dropped.iter().sum(),
        rejected: refusals.rejected.iter().sum(),
        stale: refusals.stale,
    }
}

pub(super) fn refusal(code: &str, message: String) -> ToolError {
    ToolError { exit_code: 1, code: code.to_owned(), message, hint: None, retry: false }
}

pub(super) fn encoded(error: &ToolError) -> Vec<u8> {
    let mut payload = Vec::new();
    // Into memory, and every field has a CBOR form.
    let _ = ciborium::into_writer(error, &mut payload);
    payload
}
