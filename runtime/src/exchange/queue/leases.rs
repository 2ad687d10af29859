//! What happens to an item between its delivery and its end: acks, returns, extensions, handoffs, the
//! end of workers, dead letters.

use ipc::header::AgentId;

use super::inspect::DeadLetter;
use super::limits::DELAY_NS_MAX;
use super::model::{
    Agent, DeadLetterError, Delivery, Effect, HandoffError, ItemId, NEVER, NackError, Output, Stale,
};
use super::record::{DeadReason, DropReason, Record, ReturnReason};
use super::store::{Item, Lease};
use super::{Queue, State};

impl Queue {
    /// The work is done; the item is gone.
    pub(crate) fn ack(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), Stale> {
        self.tick(now_ns, out);
        self.lease(worker, item, delivery)?;
        self.commit(Record::Acked { item }, out);
        self.settle(out);
        Ok(())
    }

    /// The work was not done; the item is ready again, at once or after the delay, its deliveries kept.
    pub(crate) fn nack(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        delay_ns: u64,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), NackError> {
        self.tick(now_ns, out);
        if delay_ns > DELAY_NS_MAX {
            return Err(NackError::Delay { got: delay_ns, max: DELAY_NS_MAX });
        }
        let (slot, _) = self.lease(worker, item, delivery)?;
        let ready_at_ns = if delay_ns == 0 { 0 } else { self.now_ns + delay_ns };
        self.give_back(slot, ReturnReason::Nacked, ready_at_ns, out);
        self.settle(out);
        Ok(())
    }

    /// Nobody could be told of a delivery: the item is ready again at its place, and the delivery does not count as
    /// one of those that may be. Its number is spent.
    pub(crate) fn untold(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), Stale> {
        self.tick(now_ns, out);
        let (slot, _) = self.lease(worker, item, delivery)?;
        self.give_back(slot, ReturnReason::Untold, 0, out);
        self.settle(out);
        Ok(())
    }

    /// The work takes longer. The lease lasts `lease_ns` from now, but never longer than the total from
    /// the delivery, and never less than before. Returns until when.
    pub(crate) fn extend(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<u64, Stale> {
        self.tick(now_ns, out);
        let (_, lease) = self.lease(worker, item, delivery)?;
        let until_ns = self.longer(&lease);
        if until_ns != lease.until_ns {
            self.commit(Record::Extended { item, until_ns }, out);
        }
        Ok(until_ns)
    }

    /// Another worker goes on: the lease moves, under the same delivery, and lasts as if extended.
    /// From then on only the receiver's acks count.
    pub(crate) fn handoff(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        to: Agent,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), HandoffError> {
        self.tick(now_ns, out);
        self.lease(worker, item, delivery)?;
        if !self.arrive(to, out) {
            return Err(HandoffError::Replaced);
        }
        // The receiver's arrival ends its former life, which may be the very worker that asks.
        let moved = self.lease(worker, item, delivery);
        if let Ok((slot, lease)) = moved {
            let until_ns = self.longer(&lease);
            self.commit(Record::HandedOver { item, to, until_ns }, out);
            if let Some(delivery) = self.delivery_of(slot) {
                out.effects.push((self.id, Effect::HandedOver { from: worker, delivery }));
            }
        }
        self.settle(out);
        Ok(moved.map(drop)?)
    }

    /// After the last record of a journal: whoever had items is gone. Their items come back, the count
    /// kept, with rule 7 for their names.
    pub(crate) fn recover(&mut self, now_ns: u64, out: &mut Output) {
        self.now_ns = self.now_ns.max(now_ns);
        let leased = |(slot, item): (u32, &Item)| match item.state {
            State::Leased(lease) => Some((lease.delivered_ns, item.sequence, slot)),
            _ => None,
        };
        let mut slots: Vec<_> = self.store.iter().filter_map(leased).collect();
        slots.sort_unstable();
        for (_, _, slot) in slots {
            self.give_back(slot, ReturnReason::Restarted, 0, out);
        }
        self.tick(now_ns, out);
    }

    /// Dead letters, the oldest first.
    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = DeadLetter> {
        self.store.dead().filter_map(|item| match item.state {
            State::Dead { reason, at_ns } => Some(DeadLetter {
                item: item.id,
                sender: item.sender,
                priority: item.priority,
                deliveries_count: item.deliveries_count,
                bytes: item.bytes(),
                reason,
                at_ns,
            }),
            _ => None,
        })
    }

    /// Stores a dead letter anew: behind all others of its level, for as many deliveries as a new
    /// one, and without its deadline if that has passed. The numbers of its deliveries go on.
    pub(crate) fn requeue_dead(
        &mut self,
        item: ItemId,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), DeadLetterError> {
        self.tick(now_ns, out);
        let (_, found) = self.dead_letter(item)?;
        if !self.fits(found.bytes()) {
            return Err(DeadLetterError::Full);
        }
        let is_expired = found.deadline_ns <= self.now_ns;
        let deadline_ns = if is_expired { NEVER } else { found.deadline_ns };
        self.commit(Record::Requeued { item, deadline_ns }, out);
        self.settle(out);
        Ok(())
    }

    /// Forgets a dead letter.
    pub(crate) fn drop_dead(
        &mut self,
        item: ItemId,
        now_ns: u64,
        out: &mut Output,
    ) -> Result<(), DeadLetterError> {
        self.tick(now_ns, out);
        let (slot, _) = self.dead_letter(item)?;
        self.drop_item(slot, DropReason::Asked, out);
        Ok(())
    }

    fn dead_letter(&self, id: ItemId) -> Result<(u32, &Item), DeadLetterError> {
        let found = self.store.find(id);
        let dead = found.filter(|(_, item)| matches!(item.state, State::Dead { .. }));
        dead.ok_or(DeadLetterError::Unknown(id))
    }

    /// The lease that is named, if it is one.
    fn lease(&mut self, worker: Agent, id: ItemId, delivery: u32) -> Result<(u32, Lease), Stale> {
        if let Some((slot, item)) = self.store.find(id)
            && let State::Leased(lease) = item.state
            && lease.worker == worker
            && item.deliveries_count == delivery
        {
            return Ok((slot, lease));
        }
        self.refusals.stale += 1;
        Err(Stale { item: id, delivery })
    }

    fn longer(&self, lease: &Lease) -> u64 {
        let total_ns = lease.delivered_ns.saturating_add(self.options().lease_total_ns);
        let wanted_ns = self.now_ns.saturating_add(self.options().lease_ns);
        wanted_ns.min(total_ns).max(lease.until_ns)
    }

    /// Notes that this life of a worker is there. A later life ends the former one; `false` when this
    /// one was ended so.
    pub(super) fn arrive(&mut self, worker: Agent, out: &mut Output) -> bool {
        match self.store.life(worker.name) {
            Some(life) if life > worker.id => false,
            Some(life) if life < worker.id => {
                self.end_life(Agent { name: worker.name, id: life }, out);
                true
            }
            // 0 is nobody.
            _ => worker.id != AgentId(0),
        }
    }

    /// Returns every lease of a worker, in the order they were given, and ends its takes. The caller
    /// settles.
    pub(super) fn end_life(&mut self, worker: Agent, out: &mut Output) {
        let Self { takers, store, .. } = self;
        if store.life(worker.name) == Some(worker.id) {
            takers.remove_all(
                |taker| taker.worker == worker,
                |taker| store.remove_taker(taker.worker),
            );
        }
        while let Some(slot) = self.store.first_lease(worker) {
            self.give_back(slot, ReturnReason::WorkerGone, 0, out);
        }
    }

    /// What the timer of an item means.
    pub(super) fn item_is_due(&mut self, slot: u32, out: &mut Output) {
        let Some(item) = self.store.item(slot) else { return };
        let (id, is_expired) = (item.id, item.deadline_ns <= self.now_ns);
        match item.state {
            State::Leased(_) => self.give_back(slot, ReturnReason::LeaseExpired, 0, out),
            State::Ready | State::Delayed { .. } if is_expired => {
                self.bury(slot, DeadReason::Expired, out);
            }
            State::Delayed { .. } => self.commit(Record::Readied { item: id }, out),
            State::Ready | State::Dead { .. } => {}
        }
    }

    pub(super) fn deliver_item(
        &mut self,
        slot: u32,
        worker: Agent,
        request: u64,
        out: &mut Output,
    ) {
        let Some(item) = self.store.item(slot) else { return };
        let (item, delivery) = (item.id, item.deliveries_count + 1);
        let at_ns = self.now_ns;
        let until_ns = at_ns.saturating_add(self.options().lease_ns);
        self.commit(Record::Delivered { item, worker, delivery, at_ns, until_ns }, out);
        if let Some(delivery) = self.delivery_of(slot) {
            out.effects.push((self.id, Effect::Delivered { request, delivery }));
        }
    }

    fn delivery_of(&self, slot: u32) -> Option<Delivery> {
        let item = self.store.item(slot)?;
        let State::Leased(lease) = item.state else { return None };
        Some(Delivery {
            worker: lease.worker,
            item: item.id,
            delivery: item.deliveries_count,
            lease_until_ns: lease.until_ns,
            priority: item.priority,
            sender: item.sender,
            payload: item.payload.clone(),
        })
    }

    /// Ends a lease without an ack.
    fn give_back(&mut self, slot: u32, reason: ReturnReason, ready_at_ns: u64, out: &mut Output) {
        let Some(item) = self.store.item(slot) else { return };
        let is_told = reason != ReturnReason::Untold;
        if is_told && item.attempts_count() >= self.options().deliveries_max {
            self.bury(slot, DeadReason::DeliveriesExhausted(reason), out);
        } else if item.deadline_ns <= self.now_ns {
            self.bury(slot, DeadReason::Expired, out);
        } else {
            self.commit(Record::Returned { item: item.id, reason, ready_at_ns }, out);
        }
    }

    /// Makes an item a dead letter, and room among them.
    fn bury(&mut self, slot: u32, reason: DeadReason, out: &mut Output) {
        let Some(item) = self.store.item(slot) else { return };
        let (id, sender, bytes) = (item.id, item.sender, item.bytes());
        let deliveries_count = item.deliveries_count;
        self.commit(Record::Died { item: id, reason, at_ns: self.now_ns }, out);
        out.effects.push((self.id, Effect::Died { item: id, sender, deliveries_count, reason }));
        let (items_max, bytes_max) =
            (u64::from(self.options().dead_items_max), self.options().dead_bytes_max);
        if items_max == 0 || bytes > bytes_max {
            // It would push out all others and still not fit.
            self.drop_item(slot, DropReason::DeadLettersFull, out);
        }
        while self.store.usage.dead_count > items_max || self.store.usage.dead_bytes > bytes_max {
            let Some(oldest) = self.store.oldest_dead() else { break };
            self.drop_item(oldest, DropReason::DeadLettersFull, out);
        }
    }

    pub(super) fn drop_item(&mut self, slot: u32, reason: DropReason, out: &mut Output) {
        let Some(item) = self.store.item(slot) else { return };
        let (item, sender) = (item.id, item.sender);
        self.commit(Record::Dropped { item, reason }, out);
        out.effects.push((self.id, Effect::Dropped { item, sender, reason }));
    }
}
