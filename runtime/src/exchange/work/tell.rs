//! What queues decided, told: written down first, held for the disk where it must be, then said to whom it concerns.

use ipc::exchange::queue as wire;
use ipc::fault;
use ipc::link::RequestId;
use tracing::debug;

use super::words::outcome_of;
use super::{Work, encoded, storage};
use crate::exchange::callers::{Callers, Parcel, Said};
use crate::exchange::keeper::{Closing, Told};
use crate::exchange::queue::{Delivery, Effect, QueueId, TakeEnd};

impl Work {
    /// Writes down and tells everything that was decided. Taking back what cannot be told decides more.
    pub(super) fn carry_effects(&mut self, callers: &mut Callers) {
        loop {
            if !self.output.records.is_empty() {
                let (now, records) = (self.now_ns(), &mut self.output.records);
                let closed = self.keeper.write(records, &mut self.queues, callers.names(), now);
                self.closed(callers, closed);
                fault::point("exchange.changes-written");
            }
            let spare = std::mem::take(&mut self.effects);
            let mut effects = std::mem::replace(&mut self.output.effects, spare);
            for (queue, effect) in effects.drain(..) {
                self.tell(callers, queue, Told::Effect(effect));
            }
            self.effects = effects;
            if self.keeper.is_holding() {
                self.release(callers);
            }
            if self.output.records.is_empty() && self.output.effects.is_empty() {
                return;
            }
        }
    }

    /// Tells somebody, at once or when the disk has what came before.
    pub(super) fn tell(&mut self, callers: &mut Callers, queue: QueueId, told: Told) {
        if self.queues.get(queue).is_none() {
            // Closed meanwhile: nothing of it is certain, and those who wait were told so.
            if let Told::Answer(lane, request, _) = told {
                callers.say(lane, request, Said::Failed(encoded(&unknown())));
            }
            return;
        }
        if let Some(told) = self.keeper.hold(queue, told) {
            self.tell_now(callers, queue, told);
        }
    }

    /// Tells what the disk has by now.
    fn release(&mut self, callers: &mut Callers) {
        let mut ready = std::mem::take(&mut self.ready);
        let closed = self.keeper.release(&mut ready, &mut self.queues);
        if !ready.is_empty() {
            fault::point("exchange.changes-synced");
        }
        for (queue, told) in ready.drain(..) {
            self.tell_now(callers, queue, told);
        }
        self.ready = ready;
        self.closed(callers, closed);
    }

    pub(super) fn tell_now(&mut self, callers: &mut Callers, queue: QueueId, told: Told) {
        let effect = match told {
            Told::Effect(effect) => effect,
            Told::Answer(lane, request, bytes) => {
                return callers.say(lane, request, Said::Done(bytes));
            }
        };
        match effect {
            Effect::PutAnswered { request, item, answer, .. } => {
                let Some(pending) = self.over(callers, request) else { return };
                let outcome = Said::Done(outcome_of(item, answer).encode());
                callers.say(pending.lane, pending.request, outcome);
                fault::point("exchange.put-answered");
            }
            Effect::Delivered { request, delivery } => {
                self.delivered(callers, queue, request, delivery);
            }
            Effect::HandedOver { delivery, .. } => match callers.lane_of(delivery.worker) {
                Some(lane) => {
                    let parcel = self.parcel(callers, queue, delivery);
                    callers.say(lane, RequestId(0), Said::Handoff(parcel));
                }
                None => self.give_back(queue, &delivery),
            },
            Effect::TakeEnded { request, missing_count, end, .. } => {
                let Some(pending) = self.over(callers, request) else { return };
                let end = match end {
                    TakeEnd::Timeout => wire::TakeEnd::Timeout,
                    TakeEnd::TooManyWait => wire::TakeEnd::TooManyWait,
                    TakeEnd::Cancelled => wire::TakeEnd::Cancelled,
                };
                let bytes = end.encode(missing_count);
                callers.say(pending.lane, pending.request, Said::Done(bytes));
            }
            // Counted in the queue's status; nobody else is told.
            Effect::Died { item, sender, deliveries_count, reason } => {
                let sender = callers.names().text(sender);
                debug!(item = item.0, sender, deliveries_count, ?reason, "an item is dead");
                fault::point("exchange.dead-letter");
            }
            Effect::Dropped { item, sender, reason } => {
                let sender = callers.names().text(sender);
                debug!(item = item.0, sender, ?reason, "an item is gone");
            }
        }
    }

    fn delivered(
        &mut self,
        callers: &mut Callers,
        queue: QueueId,
        request: u64,
        delivery: Delivery,
    ) {
        let Some(pending) = self.pending.get_mut(&request) else {
            // It was held for the disk when its link ended.
            return self.untold(queue, &delivery);
        };
        pending.missing = pending.missing.saturating_sub(1);
        let taken = *pending;
        let parcel = self.parcel(callers, queue, delivery);
        fault::point("exchange.item-leased");
        callers.say(taken.lane, taken.request, Said::Item(parcel));
        fault::point("exchange.item-delivered");
        if taken.missing == 0 {
            self.over(callers, request);
            let end = wire::TakeEnd::Complete.encode(0);
            callers.say(taken.lane, taken.request, Said::Done(end));
        }
    }

    /// Nobody hears of this delivery.
    pub(super) fn untold(&mut self, queue: QueueId, delivery: &Delivery) {
        let (now, output) = (self.now_ns(), &mut self.output);
        let Delivery { worker, item, delivery, .. } = *delivery;
        // A lease that is over has gone back already.
        let _ = self.queues.with(queue, |queue| queue.untold(worker, item, delivery, now, output));
    }

    /// The receiver of a handoff does not hear of it. Whoever had the item before was told of the delivery, so it counts.
    pub(super) fn give_back(&mut self, queue: QueueId, delivery: &Delivery) {
        let (now, output) = (self.now_ns(), &mut self.output);
        let Delivery { worker, item, delivery, .. } = *delivery;
        // A lease that is over has gone back already.
        let _ = self.queues.with(queue, |queue| queue.nack(worker, item, delivery, 0, now, output));
    }

    fn parcel(&self, callers: &Callers, queue: QueueId, delivery: Delivery) -> Box<Parcel> {
        let head = wire::DeliveryHead {
            lease: wire::Lease { item: delivery.item.0, delivery: delivery.delivery },
            priority: delivery.priority.number(),
            lease_left_ns: delivery.lease_until_ns.saturating_sub(self.now_ns()),
            sender: callers.names().text(delivery.sender),
        };
        Box::new(Parcel { queue, delivery, head: head.encode() })
    }

    /// Those who wait at a queue that was closed are told that it is not known what came of it.
    fn closed(&mut self, callers: &mut Callers, closed: Vec<Closing>) {
        for Closing { id, name, why, held } in closed {
            let error = encoded(&storage(&name, &why));
            let waiting = self.pending.iter().filter(|(_, pending)| pending.queue == id);
            let numbers: Vec<u64> = waiting.map(|(number, _)| *number).collect();
            for number in numbers {
                if let Some(pending) = self.over(callers, number) {
                    callers.say(pending.lane, pending.request, Said::Failed(error.clone()));
                }
            }
            for told in held {
                if let Told::Answer(lane, request, _) = told {
                    callers.say(lane, request, Said::Failed(error.clone()));
                }
            }
        }
    }
}

fn unknown() -> agents_contract::ToolError {
    super::refusal("storage", "the durable queue was closed before this was written".to_owned())
}
