//! The changes of the items of a queue, one for each record. A record that does not follow from the state
//! changes nothing.

use ipc::header::AgentId;

use super::{Item, Lease, State, Store};
use crate::exchange::queue::model::{Agent, ItemId};
use crate::exchange::queue::record::{ApplyError, DeadReason, Record, ReturnReason};

impl Store {
    /// Makes one change.
    pub(in crate::exchange::queue) fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match *record {
            Record::Put { item, sender, priority, dedup, deadline_ns, ref payload } => {
                self.place(Item {
                    id: item,
                    sender,
                    sequence: self.sequence_next,
                    priority,
                    deliveries_count: 0,
                    deliveries_before: 0,
                    deadline_ns,
                    payload: payload.clone(),
                    state: State::Ready,
                    preference: None,
                })?;
                if let Some(id) = dedup {
                    self.dedup.remember(sender, id, item);
                }
                self.counters.put += 1;
                Ok(())
            }
            Record::Delivered { item, worker, delivery, at_ns, until_ns } => {
                let lease = Lease { worker, delivered_ns: at_ns, until_ns };
                self.apply_delivered(item, delivery, lease)
            }
            Record::Extended { item, until_ns } => {
                let (slot, lease) = self.leased(item)?;
                self.change(slot, State::Leased(Lease { until_ns, ..lease }));
                Ok(())
            }
            Record::HandedOver { item, to, until_ns } => {
                let (slot, lease) = self.leased(item)?;
                if !self.is_living(to) {
                    return Err(ApplyError::State(item));
                }
                self.move_to(slot, State::Leased(Lease { worker: to, until_ns, ..lease }));
                self.counters.handed_over += 1;
                Ok(())
            }
            Record::Acked { item } => {
                let (slot, _) = self.leased(item)?;
                self.leave(slot);
                self.free(slot);
                self.counters.acked += 1;
                Ok(())
            }
            Record::Returned { item, reason, ready_at_ns } => {
                self.apply_returned(item, reason, ready_at_ns)
            }
            Record::Readied { item } => {
                let (slot, found) = self.find(item).ok_or(ApplyError::Unknown(item))?;
                if !matches!(found.state, State::Delayed { .. }) {
                    return Err(ApplyError::State(item));
                }
                self.move_to(slot, State::Ready);
                Ok(())
            }
            Record::Died { item, reason, at_ns } => {
                let (slot, found) = self.find(item).ok_or(ApplyError::Unknown(item))?;
                if matches!(found.state, State::Dead { .. }) {
                    return Err(ApplyError::State(item));
                }
                self.move_to(slot, State::Dead { reason, at_ns });
                match reason {
                    DeadReason::Expired => self.counters.expired += 1,
                    DeadReason::DeliveriesExhausted(_) => self.counters.exhausted += 1,
                }
                Ok(())
            }
            Record::Dropped { item, reason } => {
                let (slot, found) = self.find(item).ok_or(ApplyError::Unknown(item))?;
                if !matches!(found.state, State::Ready | State::Dead { .. }) {
                    return Err(ApplyError::State(item));
                }
                self.leave(slot);
                self.free(slot);
                self.counters.dropped[reason as usize] += 1;
                Ok(())
            }
            Record::Requeued { item, deadline_ns } => self.apply_requeued(item, deadline_ns),
        }
    }

    /// Puts an item into a slot of its own, in the state that it has.
    pub(in crate::exchange::queue) fn place(&mut self, item: Item) -> Result<(), ApplyError> {
        let id = item.id;
        if self.slots.contains_key(&id) {
            return Err(ApplyError::State(id));
        }
        let (held, most) = match item.state {
            State::Dead { .. } => (self.usage.dead_count, self.options.dead_items_max),
            _ => (self.usage.stored_count(), self.options.items_max),
        };
        if held >= u64::from(most) {
            return Err(ApplyError::Full(id));
        }
        if let State::Leased(lease) = item.state
            && !self.is_living(lease.worker)
        {
            return Err(ApplyError::State(id));
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.items.push(None);
            (self.items.len() - 1) as u32
        });
        self.slots.insert(id, slot);
        self.sequence_next = self.sequence_next.max(item.sequence + 1);
        self.items[slot as usize] = Some(item);
        self.enter(slot);
        Ok(())
    }

    fn apply_delivered(
        &mut self,
        id: ItemId,
        delivery: u32,
        lease: Lease,
    ) -> Result<(), ApplyError> {
        let (slot, item) = self.find(id).ok_or(ApplyError::Unknown(id))?;
        if item.state != State::Ready || item.deliveries_count + 1 != delivery {
            return Err(ApplyError::State(id));
        }
        if !self.is_living(lease.worker) {
            return Err(ApplyError::State(id));
        }
        let priority = item.priority;
        // What a former life had comes back beside the turns, so that nobody's turn is spent on it.
        let is_preferred = item.preference.is_some_and(|(name, until_ns)| {
            name == lease.worker.name && until_ns > lease.delivered_ns
        });
        self.leave(slot);
        if !is_preferred {
            self.ready.count_turn(priority);
        }
        if let Some(item) = &mut self.items[slot as usize] {
            item.deliveries_count = delivery;
            item.state = State::Leased(lease);
        }
        self.enter(slot);
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(delivery > 1);
        Ok(())
    }

    fn apply_returned(
        &mut self,
        id: ItemId,
        reason: ReturnReason,
        ready_at_ns: u64,
    ) -> Result<(), ApplyError> {
        let (slot, lease) = self.leased(id)?;
        self.leave(slot);
        if let Some(item) = &mut self.items[slot as usize] {
            item.state = match ready_at_ns {
                0 => State::Ready,
                until_ns => State::Delayed { until_ns },
            };
            match reason {
                ReturnReason::WorkerGone | ReturnReason::Restarted => {
                    item.preference = Some((lease.worker.name, lease.until_ns));
                }
                ReturnReason::Untold => item.deliveries_before += 1,
                ReturnReason::LeaseExpired | ReturnReason::Nacked => {}
            }
        }
        self.enter(slot);
        self.counters.returned += 1;
        Ok(())
    }

    fn apply_requeued(&mut self, id: ItemId, deadline_ns: u64) -> Result<(), ApplyError> {
        let (slot, item) = self.find(id).ok_or(ApplyError::Unknown(id))?;
        if !matches!(item.state, State::Dead { .. }) {
            return Err(ApplyError::State(id));
        }
        self.leave(slot);
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        if let Some(item) = &mut self.items[slot as usize] {
            item.sequence = sequence;
            item.deliveries_before = item.deliveries_count;
            item.deadline_ns = deadline_ns;
            item.state = State::Ready;
        }
        self.enter(slot);
        self.counters.requeued += 1;
        Ok(())
    }

    fn leased(&self, id: ItemId) -> Result<(u32, Lease), ApplyError> {
        match self.find(id) {
            Some((slot, Item { state: State::Leased(lease), .. })) => Ok((slot, *lease)),
            Some(_) => Err(ApplyError::State(id)),
            None => Err(ApplyError::Unknown(id)),
        }
    }

    /// Rule 4: whether an agent may hold leases as things stand.
    fn is_living(&self, agent: Agent) -> bool {
        agent.id != AgentId(0) && self.life(agent.name).is_none_or(|life| life == agent.id)
    }
}
