//! Work queues: each item goes to one worker at a time, until one of them says that it is done.
//!
//! A pure state machine. Requests, deaths and the time come in as calls, what is to be told and what
//! changed comes out in an [`Output`]. Links, threads, clocks and files are the caller's.
//!
//! Rules:
//! 1. Every put gets exactly one answer: stored, duplicate or rejected with a reason. A stored item
//!    ends acked, dropped with a reason that was told, or is still there (dead letters included).
//! 2. An item has at most one lease. A lease is named by item, worker and delivery; whoever names
//!    another one is answered [`Stale`], which changes nothing and is counted. The numbers of an item's
//!    deliveries go on through everything, so that none names two leases. One that nobody could be told
//!    of does not count as one of those that may be.
//! 3. A lease ends by ack or by return: expiry, nack, the worker's end, the daemon's restart. A return
//!    keeps the count of deliveries; after the last permitted delivery it makes the item a dead letter
//!    instead, whatever ended the lease. So `deliveries_max: 1` means at most once.
//! 4. An item whose deadline passed is not delivered any more: it dies where it waits, or when its
//!    lease ends without an ack.
//! 5. Ready items are taken by [`priority`](super::priority), inside a level in the order they were put,
//!    whatever happened in between. Waiting workers are served in the order they asked.
//! 6. While a worker waits nothing is ready; while a put waits it does not fit.
//! 7. A restart: when a worker ends, its items are ready for everybody at once. Those that nobody took
//!    meanwhile go first, in the order in which they had been delivered and beside all turns, to the
//!    next life of the same name that asks before the lease that was broken would have ended. A take
//!    of a later life ends the earlier one, should its death be told later.
//! 8. Every call first does what is due by its time; time never runs backwards here.
//! 9. Stored items change only by records; replaying them gives the same state. A durable queue hands
//!    them out, and nobody is told of a change before its records are written.
//!
//! Costs: O(log n) for each item, lease or waiting request that a call moves; the end of an agent also
//! walks the requests that wait. Memory is kept for reuse, so a warm queue allocates nothing.

mod dedup;
mod heap;
mod image;
mod inspect;
mod leases;
pub(crate) mod limits;
mod links;
mod model;
mod options;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod property;
mod ready;
mod record;
mod registry;
mod store;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use self::image::{Extent, Frozen, Head, Known};
pub(crate) use self::inspect::{Counters, QueueView, Refusals};
pub(crate) use self::model::{
    Agent, DedupId, Delivery, Effect, ItemId, NEVER, NameId, Output, Put, PutAnswer, QueueId,
    Rejection, Take, TakeEnd,
};
pub(crate) use self::options::{Durable, Options, WhenFull};
pub(crate) use self::record::{ApplyError, DeadReason, DropReason, Record, ReturnReason};
pub(crate) use self::registry::{DeclareError, Queues};
pub(crate) use self::store::{Item, Lease, State};

use self::limits::{ITEM_BYTES_MAX, TAKE_ITEMS_MAX};
use self::model::TakeError;
use self::store::Store;
use self::waiting::Waiting;

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    id: QueueId,
    store: Store,
    takers: Waiting<Taker>,
    putters: Waiting<Put>,
    putters_bytes: u64,
    refusals: Refusals,
    now_ns: u64,
}

/// A take that waits.
#[derive(Clone, Copy, Debug)]
struct Taker {
    request: u64,
    worker: Agent,
    missing_count: u32,
}

/// What becomes of a put.
enum Verdict {
    Store,
    /// Store it after room was made.
    Displace,
    Wait,
    Answer(PutAnswer),
}

impl Queue {
    /// An empty queue. The options have been checked.
    pub(crate) fn new(id: QueueId, options: Options) -> Self {
        Self {
            id,
            store: Store::new(options),
            takers: Waiting::new(options.takers_max),
            putters: Waiting::new(options.putters_max),
            putters_bytes: 0,
            refusals: Refusals::default(),
            now_ns: 0,
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> QueueId {
        self.id
    }

    /// Gives it its number, where it was read before it had one.
    pub(crate) fn renumber(&mut self, id: QueueId) {
        self.id = id;
    }

    /// What it was declared with.
    pub(crate) fn options(&self) -> &Options {
        &self.store.options
    }

    /// Stores an item, or says why not, or lets the put wait; the answer is an effect.
    pub(crate) fn put(&mut self, put: Put, now_ns: u64, out: &mut Output) {
        self.tick(now_ns, out);
        match self.judge(&put) {
            Verdict::Store => self.store_put(put, out),
            Verdict::Displace => {
                while !self.fits(put.payload.len() as u64) {
                    let Some(slot) = self.store.ready.oldest_up_to(put.priority) else { break };
                    self.drop_item(slot, DropReason::Displaced, out);
                }
                self.store_put(put, out);
            }
            Verdict::Wait => {
                self.putters_bytes += put.payload.len() as u64;
                let until_ns = put.wait_until_ns.min(put.deadline_ns);
                self.putters.push(put, until_ns);
            }
            Verdict::Answer(answer) => self.answer(&put, answer, out),
        }
        self.deliver(out);
    }

    /// Gives what is there; the rest of the count waits until its time. The take is over when so many
    /// items were delivered, or with [`Effect::TakeEnded`], or with the worker.
    pub(crate) fn take(
        &mut self,
        take: Take,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), TakeError> {
        self.tick(now_ns, out);
        if take.count_max == 0 || take.count_max > TAKE_ITEMS_MAX {
            return Err(TakeError::Count { got: take.count_max, max: TAKE_ITEMS_MAX });
        }
        if !self.arrive(take.worker, out) {
            return Err(TakeError::Replaced);
        }
        let Take { request, worker, count_max: mut missing_count, until_ns } = take;
        while missing_count > 0 {
            let preferred = self.store.first_preferred(worker.name, self.now_ns);
            let Some(slot) = preferred.or_else(|| self.store.ready.next()) else { break };
            self.deliver_item(slot, worker, request, out);
            missing_count -= 1;
        }
        let taker = Taker { request, worker, missing_count };
        if missing_count == 0 {
            // Nothing is left to wait for.
        } else if until_ns <= self.now_ns {
            self.end_take(taker, TakeEnd::Timeout, out);
        } else if self.takers.is_full() {
            self.end_take(taker, TakeEnd::TooManyWait, out);
        } else {
            self.takers.push(taker, until_ns);
            self.store.add_taker(worker);
        }
        // The arrival of a later life may have returned more than this take asked for.
        self.settle(out);
        Ok(())
    }

    /// Ends a take or a put that waits; one that is over already is left as it is. Whoever asked is told.
    pub(crate) fn cancel(&mut self, request: u64, now_ns: u64, out: &mut Output) {
        self.tick(now_ns, out);
        if let Some(taker) = self.takers.remove_request(request) {
            self.store.remove_taker(taker.worker);
            self.end_take(taker, TakeEnd::Cancelled, out);
        }
        if let Some(put) = self.putters.remove_request(request) {
            self.putters_bytes -= put.payload.len() as u64;
            self.answer(&put, PutAnswer::Rejected(Rejection::Withdrawn), out);
            self.settle(out);
        }
    }

    /// Does what is due: leases, delays, deadlines, waiting takes and puts, in this order.
    pub(crate) fn tick(&mut self, now_ns: u64, out: &mut Output) {
        self.now_ns = self.now_ns.max(now_ns);
        let mut is_changed = false;
        while let Some((at_ns, slot)) = self.store.first_timer()
            && at_ns <= self.now_ns
        {
            self.item_is_due(slot, out);
            is_changed = true;
        }
        while let Some(taker) = self.takers.pop_due(self.now_ns) {
            self.store.remove_taker(taker.worker);
            self.end_take(taker, TakeEnd::Timeout, out);
        }
        while let Some(put) = self.putters.pop_due(self.now_ns) {
            self.putters_bytes -= put.payload.len() as u64;
            let is_expired = put.deadline_ns <= self.now_ns;
            let reason = if is_expired { Rejection::Expired } else { Rejection::WaitedInVain };
            self.answer(&put, PutAnswer::Rejected(reason), out);
            is_changed = true;
        }
        if is_changed {
            self.settle(out);
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let item_ns = self.store.first_timer().map(|(at_ns, _)| at_ns);
        let waiting = [self.takers.next_deadline(), self.putters.next_deadline()];
        waiting.into_iter().chain([item_ns]).flatten().filter(|&at_ns| at_ns != NEVER).min()
    }

    /// Every lease of this worker returns, its takes end without a word.
    pub(crate) fn worker_gone(&mut self, worker: Agent, now_ns: u64, out: &mut Output) {
        self.tick(now_ns, out);
        self.end_life(worker, out);
        self.settle(out);
    }

    /// The puts of this sender that wait are rejected; what is stored stays.
    pub(crate) fn sender_gone(&mut self, sender: Agent, now_ns: u64, out: &mut Output) {
        self.tick(now_ns, out);
        let (id, refusals, bytes) = (self.id, &mut self.refusals, &mut self.putters_bytes);
        self.putters.remove_all(
            |put| put.sender == sender,
            |put| {
                *bytes -= put.payload.len() as u64;
                refusals.rejected[Rejection::SenderGone as usize] += 1;
                out.effects.push((id, answer_of(&put, PutAnswer::Rejected(Rejection::SenderGone))));
            },
        );
        self.settle(out);
    }

    /// The queue at this moment.
    pub(crate) fn view(&self) -> QueueView {
        let usage = self.store.usage;
        QueueView {
            ready_count: usage.ready_count,
            delayed_count: usage.delayed_count,
            leased_count: usage.leased_count,
            bytes: usage.bytes,
            dead_count: usage.dead_count,
            dead_bytes: usage.dead_bytes,
            takers_count: self.takers.len() as u64,
            putters_count: self.putters.len() as u64,
            counters: self.store.counters,
            refusals: self.refusals,
        }
    }

    /// Whether nothing is in it and nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.store.usage.stored_count() + self.store.usage.dead_count == 0
            && self.takers.is_empty()
            && self.putters.is_empty()
    }

    /// Every name that something in it is connected with.
    pub(crate) fn names(&self) -> impl Iterator<Item = NameId> {
        let putters = self.putters.iter().map(|put| put.sender.name);
        self.store.names().chain(putters)
    }

    /// Makes one change from a journal.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        self.store.apply(record)
    }

    /// What becomes of a put, first of those that were not seen before, then again for those that
    /// waited.
    fn judge(&self, put: &Put) -> Verdict {
        if let Some(verdict) = self.object_to(put) {
            return verdict;
        }
        let bytes = put.payload.len() as u64;
        let reject = |reason| Verdict::Answer(PutAnswer::Rejected(reason));
        if self.fits(bytes) && self.putters.is_empty() {
            return Verdict::Store;
        }
        match self.options().when_full {
            WhenFull::Reject => reject(Rejection::Full),
            WhenFull::DropOldest if self.could_fit(put) => Verdict::Displace,
            WhenFull::DropOldest => reject(Rejection::Full),
            WhenFull::Wait if put.wait_until_ns <= self.now_ns => reject(Rejection::Full),
            WhenFull::Wait => {
                let has_room = self.putters_bytes + bytes <= self.options().putters_bytes_max;
                if self.putters.is_full() || !has_room {
                    reject(Rejection::TooManyWait)
                } else {
                    Verdict::Wait
                }
            }
        }
    }

    /// The answer to a put that is not stored whatever room there is.
    fn object_to(&self, put: &Put) -> Option<Verdict> {
        let bytes = put.payload.len() as u64;
        let known = put.dedup.and_then(|id| self.store.dedup.find(put.sender.name, id));
        let answer = if let Some(first) = known {
            PutAnswer::Duplicate { first }
        } else if self.store.find(put.item).is_some() {
            PutAnswer::Rejected(Rejection::ItemIdInUse)
        } else if bytes > self.options().bytes_max || bytes > ITEM_BYTES_MAX {
            PutAnswer::Rejected(Rejection::TooLarge)
        } else if put.deadline_ns <= self.now_ns {
            PutAnswer::Rejected(Rejection::Expired)
        } else {
            return None;
        };
        Some(Verdict::Answer(answer))
    }

    fn fits(&self, bytes: u64) -> bool {
        let usage = &self.store.usage;
        usage.stored_count() < u64::from(self.options().items_max)
            && usage.bytes + bytes <= self.options().bytes_max
    }

    /// Whether a put would fit if all ready items that are no more urgent were gone.
    fn could_fit(&self, put: &Put) -> bool {
        let usage = &self.store.usage;
        let (items_count, bytes) = self.store.ready.extent_up_to(put.priority);
        usage.stored_count() - items_count < u64::from(self.options().items_max)
            && usage.bytes - bytes + put.payload.len() as u64 <= self.options().bytes_max
    }

    fn store_put(&mut self, put: Put, out: &mut Output) {
        let Put { item, priority, dedup, deadline_ns, .. } = put;
        let payload = put.payload.clone();
        let sender = put.sender.name;
        self.commit(Record::Put { item, sender, priority, dedup, deadline_ns, payload }, out);
        self.answer(&put, PutAnswer::Stored, out);
    }

    /// Lets in the puts that fit now, then serves those who wait.
    fn settle(&mut self, out: &mut Output) {
        while let Some((handle, put)) = self.putters.first_mut() {
            let put = put.clone();
            let objection = self.object_to(&put);
            if objection.is_none() && !self.fits(put.payload.len() as u64) {
                break;
            }
            self.putters.remove(handle);
            self.putters_bytes -= put.payload.len() as u64;
            match objection {
                Some(Verdict::Answer(answer)) => self.answer(&put, answer, out),
                _ => self.store_put(put, out),
            }
        }
        self.deliver(out);
    }

    /// Rule 6: whatever is ready goes to those who wait.
    fn deliver(&mut self, out: &mut Output) {
        while let Some(slot) = self.store.ready.next()
            && let Some((handle, taker)) = self.takers.first_mut()
        {
            taker.missing_count -= 1;
            let Taker { request, worker, missing_count } = *taker;
            self.deliver_item(slot, worker, request, out);
            if missing_count == 0 {
                self.takers.remove(handle);
                self.store.remove_taker(worker);
            }
        }
    }

    fn end_take(&mut self, taker: Taker, end: TakeEnd, out: &mut Output) {
        let Taker { request, worker, missing_count } = taker;
        self.refusals.takes_cut += 1;
        out.effects.push((self.id, Effect::TakeEnded { worker, request, missing_count, end }));
    }

    fn answer(&mut self, put: &Put, answer: PutAnswer, out: &mut Output) {
        match answer {
            PutAnswer::Stored => {}
            PutAnswer::Duplicate { .. } => self.refusals.duplicates += 1,
            PutAnswer::Rejected(reason) => self.refusals.rejected[reason as usize] += 1,
        }
        out.effects.push((self.id, answer_of(put, answer)));
    }

    /// Makes a change that was decided on this very state, and records it.
    fn commit(&mut self, record: Record, out: &mut Output) {
        let applied = self.store.apply(&record);
        debug_assert!(applied.is_ok(), "{applied:?}: {record:?}");
        if applied.is_ok() && self.options().durable != Durable::No {
            out.records.push((self.id, record));
        }
    }
}

fn answer_of(put: &Put, answer: PutAnswer) -> Effect {
    Effect::PutAnswered { sender: put.sender, request: put.request, item: put.item, answer }
}
