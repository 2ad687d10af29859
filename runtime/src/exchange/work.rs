//! Work queues as the exchange serves them: requests in, the state machine's effects out.
//!
//! What a queue does is decided in [`super::queue`], what it survives is [`super::keeper`]'s; here are the numbers that
//! join effects to requests and links, the clock, and the words of refusals.
//!
//! The clock counts from when the exchange started and shows the time of then, so that times in a journal mean the same
//! to the next life; setting the machine's clock back lengthens what was running before the restart.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agents_contract::ToolError;
use ipc::doorbell::Bell;
use ipc::exchange::queue as wire;
use ipc::fault;
use ipc::header::LaneId;
use ipc::link::{Request, RequestId};

use super::callers::{Callers, Remains, Said};
use super::journal::{JournalError, change_bytes, put_bytes};
use super::keeper::{Keeper, Told};
use super::priority::Priority;
use super::queue::limits::{ITEM_BYTES_MAX, TAKE_ITEMS_MAX};
use super::queue::{
    Agent, DeadReason, DedupId, Durable, Effect, ItemId, NEVER, Output, Put, Queue, QueueId,
    Queues, Take,
};
use crate::limits::{DEAD_LETTERS_PER_ANSWER_MAX, PENDING_PER_CALLER_MAX};

mod tell;
mod waiting;
mod words;

pub(super) use self::waiting::cancelled;
use self::waiting::{Role, Waiters};
pub(super) use self::words::{encoded, refusal};
use self::words::{encoded_status, options_of};

/// All queues, and who waits for what of them.
pub(super) struct Work {
    queues: Queues,
    keeper: Keeper,
    started: Instant,
    /// What the clock showed then, nanoseconds since 1970.
    started_ns: u64,
    last_item: u64,
    last_pending: u64,
    /// Puts and takes that are not over.
    pending: HashMap<u64, Pending>,
    /// Requests for queues that are being made, opened again or removed.
    waiters: Waiters,
    output: Output,
    /// Kept for their memory.
    effects: Vec<(QueueId, Effect)>,
    ready: Vec<(QueueId, Told)>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    lane: LaneId,
    request: RequestId,
    queue: QueueId,
    /// Of a take: items that are still to come.
    missing: u32,
}

/// Who asks, and what.
#[derive(Clone, Copy)]
struct Asker {
    lane: LaneId,
    agent: Agent,
    request: RequestId,
}

/// Where a request finds its queue.
enum Place {
    /// There; and whether it was made just now: by a declaration, or with the usual options by the first put or take.
    Queue(QueueId, bool),
    /// It was declared just now, and its journal is being made.
    IsMade,
    /// It is being opened again.
    IsOpened,
}

/// The answer of an operation that is over at once, or none yet.
type Answer = Result<Option<Vec<u8>>, ToolError>;

impl Work {
    /// The queues whose journals are in this directory, and room for others.
    pub(super) fn open(home: PathBuf, callers: &mut Callers) -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ns = u64::try_from(epoch.as_nanos()).unwrap_or_default();
        let (mut queues, mut keeper) = (Queues::default(), Keeper::new(home));
        keeper.open_all(&mut queues, callers.names_mut(), started_ns);
        let item_last = keeper.item_last();
        Self {
            queues,
            keeper,
            started: Instant::now(),
            started_ns,
            // Ids of items grow over restarts too, so that an answer about an item of an earlier life meets nothing.
            last_item: item_last.max(started_ns),
            last_pending: 0,
            pending: HashMap::new(),
            waiters: Waiters::default(),
            output: Output::default(),
            effects: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Who is woken when a disk is done.
    pub(super) fn set_bell(&mut self, bell: Bell) {
        self.keeper.set_bell(bell);
    }

    /// Whether a request is about a queue.
    pub(super) fn knows(tool: &str) -> bool {
        tool.starts_with("queue.")
    }

    /// Whether a request gives something to whoever asks, which is of no use to one that has ended.
    pub(super) fn is_for_the_caller(tool: &str) -> bool {
        tool == "queue.take"
    }

    /// Carries out one request, now or when its queue can be used.
    pub(super) fn asked(&mut self, callers: &mut Callers, lane: LaneId, request: Request) {
        let Some(agent) = callers.get(lane).map(|caller| caller.agent) else { return };
        let asker = Asker { lane, agent, request: request.id };
        let (queue, answer) = match wire::Operation::decode(&request.tool, &request.payload) {
            Ok(Some((name, _))) if self.keeper.is_under_way(&name) => {
                return self.waiters.add(lane, request.id, &name, Role::Again(request));
            }
            Ok(Some((name, operation))) => match self.place(callers, &name, &operation) {
                Ok(Place::Queue(id, is_made)) => {
                    (Some(id), self.carry_out(callers, asker, (id, is_made), &name, operation))
                }
                Ok(Place::IsMade) => return self.waiters.add(lane, request.id, &name, Role::Maker),
                Ok(Place::IsOpened) => {
                    return self.waiters.add(lane, request.id, &name, Role::Again(request));
                }
                Err(error) => (None, Err(error)),
            },
            Ok(None) => {
                let text = format!("the exchange has no tool `{}`", request.tool);
                (None, Err(refusal("no-such-tool", text)))
            }
            Err(error) => {
                let text = format!("the request cannot be read: {error}");
                (None, Err(refusal("bad-request", text)))
            }
        };
        // What others get because of it comes first: a worker may be faster than whoever gave the work.
        let has_changed = !self.output.records.is_empty();
        self.carry_effects(callers);
        match (answer, queue) {
            (Ok(None), _) => {}
            (Ok(Some(bytes)), Some(id)) if has_changed => {
                self.tell(callers, id, Told::Answer(lane, asker.request, bytes));
            }
            (Ok(Some(bytes)), _) => callers.say(lane, asker.request, Said::Done(bytes)),
            (Err(error), _) => callers.say(lane, asker.request, Said::Failed(encoded(&error))),
        }
    }

    /// A caller does not wait for this request any more.
    pub(super) fn cancelled(&mut self, callers: &mut Callers, lane: LaneId, request: u32) {
        if self.cancel_waiter(callers, lane, request) {
            return;
        }
        let open = callers.get(lane).and_then(|caller| caller.open.get(&request).copied());
        if let Some(number) = open {
            self.cancel(number);
            self.carry_effects(callers);
        }
    }

    fn cancel(&mut self, number: u64) {
        let Some(pending) = self.pending.get(&number) else { return };
        let (now, output) = (self.now_ns(), &mut self.output);
        self.queues.with(pending.queue, |queue| queue.cancel(number, now, output));
    }

    /// A link is about to end: what is open on it is nobody's.
    pub(super) fn link_ends(&mut self, callers: &mut Callers, lane: LaneId) {
        self.waiters.forget(lane);
        let Some(caller) = callers.get(lane) else { return };
        let open = std::mem::take(&mut caller.open);
        for number in open.into_values() {
            self.cancel(number);
            self.pending.remove(&number);
        }
        self.carry_effects(callers);
    }

    /// A link has ended; where it was its agent's last one, everything that the agent had goes to others.
    pub(super) fn link_ended(&mut self, callers: &mut Callers, remains: Remains) {
        let now = self.now_ns();
        for parcel in &remains.unsent {
            self.untold(parcel.queue, &parcel.delivery);
        }
        for parcel in &remains.unsent_handoffs {
            self.give_back(parcel.queue, &parcel.delivery);
        }
        if remains.is_last {
            self.queues.agent_gone(remains.agent, now, &mut self.output);
            fault::point("exchange.leases-returned");
        }
        self.carry_effects(callers);
    }

    /// An agent came: it may be time to forget names.
    pub(super) fn arrived(&mut self, callers: &mut Callers) {
        if callers.names().are_many() {
            let mut needed: HashSet<_> = callers.names_in_use();
            needed.extend(self.queues.iter().flat_map(Queue::names));
            callers.names_mut().keep(&needed);
        }
    }

    /// Does what is due. True when requests that were kept for later may be carried out.
    pub(super) fn tick(&mut self, callers: &mut Callers) -> bool {
        let has_settled = self.take_settled(callers);
        // Mostly nothing will ever be due; then nobody asks the clock.
        let due = self.queues.next_deadline().map(|at| (at, self.now_ns()));
        if let Some((_, now)) = due.filter(|(at, now)| at <= now) {
            self.queues.tick(now, &mut self.output);
            self.carry_effects(callers);
        } else if self.keeper.is_holding() {
            self.carry_effects(callers);
        }
        has_settled
    }

    /// When [`Work::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let since = |at: u64| Duration::from_nanos(at.saturating_sub(self.started_ns));
        let due = self.queues.next_deadline().map(|at| self.started + since(at));
        [due, self.keeper.next_look()].into_iter().flatten().min()
    }

    /// Whether somebody waits for a disk.
    pub(super) fn is_holding(&self) -> bool {
        self.keeper.is_holding() || self.keeper.is_at_work()
    }

    /// The queue of this name.
    fn place(
        &mut self,
        callers: &mut Callers,
        name: &str,
        operation: &wire::Operation<'_>,
    ) -> Result<Place, ToolError> {
        if let Some(id) = self.queues.find(name) {
            return Ok(Place::Queue(id, false));
        }
        let now = self.now_ns();
        match self.keeper.reopen(name, callers.names_mut(), now) {
            Some(Ok(())) => return Ok(Place::IsOpened),
            Some(Err(why)) => return Err(storage(name, &why)),
            None => {}
        }
        let options = match operation {
            wire::Operation::Declare { options } => Some(options_of(options)),
            wire::Operation::Put { .. } | wire::Operation::Take { .. } => None,
            _ => return Err(refusal("no-such-queue", format!("there is no queue `{name}`"))),
        };
        let declared = self.queues.declare(name, options);
        let id = declared.map_err(|error| refusal("queue-refused", error.to_string()))?;
        match self.keeper.make(&self.queues, id, name, now) {
            Ok(true) => Ok(Place::IsMade),
            Ok(false) => Ok(Place::Queue(id, true)),
            Err(error) => {
                self.queues.give_up(id);
                Err(storage(name, &error.to_string()))
            }
        }
    }

    fn carry_out(
        &mut self,
        callers: &mut Callers,
        asker: Asker,
        (id, is_made): (QueueId, bool),
        name: &str,
        operation: wire::Operation<'_>,
    ) -> Answer {
        match operation {
            // Made just now, or there before with these options or others.
            wire::Operation::Declare { options } => {
                match self.queues.declare(name, Some(options_of(&options))) {
                    Ok(_) => Ok(Some(vec![u8::from(is_made)])),
                    Err(error) => Err(refusal("queue-refused", error.to_string())),
                }
            }
            wire::Operation::Remove => {
                let busy = |error: JournalError| storage(name, &error.to_string());
                self.keeper.may_remove(id).map_err(busy)?;
                self.queues.remove(id).map_err(|error| refusal("in-use", error.to_string()))?;
                let Some((held, begun)) = self.keeper.remove(id) else {
                    return Ok(Some(Vec::new()));
                };
                for told in held {
                    self.tell_now(callers, id, told);
                }
                begun.map_err(busy)?;
                self.waiters.add(asker.lane, asker.request, name, Role::Remover);
                Ok(None)
            }
            wire::Operation::Put { .. } => self.put(callers, asker, id, name, &operation),
            wire::Operation::Take { count, wait_ns } => {
                self.reserve(id, name, change_bytes(count.min(TAKE_ITEMS_MAX).into()))?;
                let request = self.pend(callers, asker, id, count)?;
                let now = self.now_ns();
                let until_ns = if wait_ns == 0 { 0 } else { now.saturating_add(wait_ns) };
                let take = Take { request, worker: asker.agent, count_max: count, until_ns };
                let output = &mut self.output;
                let taken = self.queues.with(id, |queue| queue.take(take, now, output));
                match taken {
                    Some(Err(error)) => {
                        self.over(callers, request);
                        Err(refusal("take-refused", error.to_string()))
                    }
                    _ => Ok(None),
                }
            }
            wire::Operation::Status | wire::Operation::Dead { .. } => {
                self.show(callers, id, &operation)
            }
            other => {
                self.reserve(id, name, change_bytes(2))?;
                self.settle(callers, asker.agent, id, &other)
            }
        }
    }

    fn put(
        &mut self,
        callers: &mut Callers,
        asker: Asker,
        id: QueueId,
        name: &str,
        operation: &wire::Operation<'_>,
    ) -> Answer {
        let wire::Operation::Put { priority, dedup, deadline_ns, wait_ns, payload } = *operation
        else {
            return Ok(None);
        };
        let priority = Priority::new(priority)
            .ok_or_else(|| refusal("bad-request", "a priority is 1 to 10".to_owned()))?;
        let got = payload.len();
        if got as u64 > ITEM_BYTES_MAX {
            let text = format!("an item has at most {ITEM_BYTES_MAX} bytes, got: {got}");
            return Err(refusal("too-large", text));
        }
        self.reserve(id, name, put_bytes(got))?;
        let request = self.pend(callers, asker, id, 0)?;
        let now = self.now_ns();
        self.last_item += 1;
        let put = Put {
            request,
            sender: asker.agent,
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

    /// What a worker says of its items, and what people decide.
    fn settle(
        &mut self,
        callers: &Callers,
        agent: Agent,
        id: QueueId,
        operation: &wire::Operation<'_>,
    ) -> Answer {
        let (now, output) = (self.now_ns(), &mut self.output);
        let stale = |error: &dyn std::fmt::Display| refusal("stale", error.to_string());
        let bad = |error: &dyn std::fmt::Display| refusal("bad-request", error.to_string());
        let settled = self.queues.with(id, |queue| match *operation {
            wire::Operation::Ack(wire::Lease { item, delivery }) => {
                let acked = queue.ack(agent, ItemId(item), delivery, now, output);
                fault::point("exchange.ack-taken");
                acked.map(|()| Vec::new()).map_err(|error| stale(&error))
            }
            wire::Operation::Nack { lease, delay_ns } => {
                let (item, delivery) = (ItemId(lease.item), lease.delivery);
                let back = queue.nack(agent, item, delivery, delay_ns, now, output);
                fault::point("exchange.nack-taken");
                back.map(|()| Vec::new()).map_err(|error| stale(&error))
            }
            wire::Operation::Extend(lease) => {
                let extended = queue.extend(agent, ItemId(lease.item), lease.delivery, now, output);
                let until = extended.map_err(|error| stale(&error))?;
                Ok(until.saturating_sub(now).to_le_bytes().to_vec())
            }
            wire::Operation::Handoff { lease, ref to } => {
                let Some(to) = callers.agent_named(to) else {
                    let text = format!("`{to}` has no link to the exchange");
                    return Err(refusal("no-such-target", text));
                };
                let (item, delivery) = (ItemId(lease.item), lease.delivery);
                let handed = queue.handoff(agent, item, delivery, to, now, output);
                handed.map(|()| Vec::new()).map_err(|error| stale(&error))
            }
            wire::Operation::Requeue { item } => {
                let requeued = queue.requeue_dead(ItemId(item), now, output);
                fault::point("exchange.requeued");
                requeued.map(|()| Vec::new()).map_err(|error| bad(&error))
            }
            wire::Operation::Drop { item } => {
                let dropped = queue.drop_dead(ItemId(item), now, output);
                dropped.map(|()| Vec::new()).map_err(|error| bad(&error))
            }
            _ => Ok(Vec::new()),
        });
        settled.unwrap_or_else(|| Ok(Vec::new())).map(Some)
    }

    /// What people ask.
    fn show(&self, callers: &Callers, id: QueueId, operation: &wire::Operation<'_>) -> Answer {
        let Some(queue) = self.queues.get(id) else { return Ok(None) };
        let wire::Operation::Dead { after, count } = *operation else {
            return Ok(Some(encoded_status(&queue.view())));
        };
        let count = (count as usize).min(DEAD_LETTERS_PER_ANSWER_MAX);
        // By id, because the next question names the last one; they stand in the order of their deaths.
        let mut letters: Vec<_> =
            queue.dead_letters().filter(|letter| letter.item.0 > after).collect();
        letters.sort_unstable_by_key(|letter| letter.item);
        let mut bytes = Vec::new();
        for letter in letters.into_iter().take(count) {
            let letter = wire::DeadLetter {
                item: letter.item.0,
                deliveries: letter.deliveries_count,
                priority: letter.priority.number(),
                reason: match letter.reason {
                    DeadReason::DeliveriesExhausted(_) => 1,
                    DeadReason::Expired => 2,
                },
                bytes: letter.bytes,
                sender: callers.names().text(letter.sender).to_owned(),
            };
            wire::append(&mut bytes, &letter)
                .map_err(|error| refusal("bad-request", error.to_string()))?;
        }
        Ok(Some(bytes))
    }

    /// Makes sure that the journal of a durable queue has room for a request.
    fn reserve(&mut self, id: QueueId, name: &str, bytes: u64) -> Result<(), ToolError> {
        if self.queues.get(id).is_none_or(|queue| queue.options().durable == Durable::No) {
            return Ok(());
        }
        match self.keeper.reserve(id, bytes, self.now_ns()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("the disk of the queue `{name}` is slower than its callers");
                Err(ToolError { retry: true, ..refusal("busy", text) })
            }
            Err(error) => {
                let text = format!("the queue `{name}` cannot write it down: {error}");
                Err(ToolError { retry: true, ..refusal("no-space", text) })
            }
        }
    }

    /// Gives a number to a put or take.
    fn pend(
        &mut self,
        callers: &mut Callers,
        asker: Asker,
        queue: QueueId,
        missing: u32,
    ) -> Result<u64, ToolError> {
        let Asker { lane, request, .. } = asker;
        let Some(caller) = callers.get(lane) else {
            return Err(refusal("bad-request", "the link has ended".to_owned()));
        };
        let own = caller.open.len();
        if own >= PENDING_PER_CALLER_MAX {
            let text = format!("{own} puts and takes of this caller are waiting already");
            return Err(ToolError { retry: true, ..refusal("busy", text) });
        }
        if caller.open.contains_key(&(request.0 as u32)) {
            let text = format!("request {} is under way already", request.0);
            return Err(refusal("bad-request", text));
        }
        self.last_pending += 1;
        caller.open.insert(request.0 as u32, self.last_pending);
        self.pending.insert(self.last_pending, Pending { lane, request, queue, missing });
        Ok(self.last_pending)
    }

    /// A put or take is over.
    fn over(&mut self, callers: &mut Callers, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        if let Some(caller) = callers.get(pending.lane) {
            caller.open.remove(&(pending.request.0 as u32));
        }
        Some(pending)
    }

    fn now_ns(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(NEVER);
        self.started_ns.saturating_add(elapsed)
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

/// A durable queue cannot be used.
fn storage(name: &str, why: &str) -> ToolError {
    let text = format!("the durable queue `{name}` is closed: {why}");
    ToolError { retry: true, ..refusal("storage", text) }
}
