//! The queue once more, slow and obvious: lists that are searched and sorted, no timers, no heaps, no
//! records. It says which effects follow from each call, in their order.

use super::model::*;
use super::options::{Options, WhenFull};
use super::record::{DeadReason, DropReason, ReturnReason};
use crate::exchange::priority::{LEVELS, Priority, patience};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Where {
    Ready,
    Delayed(u64),
    /// Who, since when, until when, the how-manieth delivery of all.
    Leased(Agent, u64, u64, u64),
    Dead,
}

#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) put: Put,
    pub(super) sequence: u64,
    pub(super) count: u32,
    /// Deliveries before it was last dead.
    before: u32,
    pub(super) place: Where,
    /// Whose former life had it, until when, and in which order it came back.
    preference: Option<(NameId, u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Oracle {
    options: Options,
    /// In the order they were put; dead ones in the order they died, behind.
    pub(super) things: Vec<Thing>,
    pub(super) dead: Vec<Thing>,
    pub(super) takers: Vec<Take>,
    pub(super) putters: Vec<Put>,
    window: Vec<(NameId, DedupId, ItemId)>,
    taken: u64,
    due: [Option<u64>; LEVELS],
    steps: u64,
    now: u64,
    pub(super) effects: Vec<Effect>,
}

fn bytes(put: &Put) -> u64 {
    put.payload.len() as u64
}

impl Thing {
    fn due(&self) -> u64 {
        match self.place {
            Where::Ready => self.put.deadline_ns,
            Where::Delayed(until) => until.min(self.put.deadline_ns),
            Where::Leased(_, _, until, _) => until,
            Where::Dead => NEVER,
        }
    }

    fn lease_of(&self) -> Option<Agent> {
        match self.place {
            Where::Leased(worker, ..) => Some(worker),
            _ => None,
        }
    }
}

impl Oracle {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            things: Vec::new(),
            dead: Vec::new(),
            takers: Vec::new(),
            putters: Vec::new(),
            window: Vec::new(),
            taken: 0,
            due: [None; LEVELS],
            steps: 0,
            now: 0,
            effects: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, put: Put, now: u64) {
        self.tick(now);
        if let Some(answer) = self.objection(&put) {
            return self.answer(&put, answer);
        }
        let full = PutAnswer::Rejected(Rejection::Full);
        if self.putters.is_empty() && self.fits(&put) {
            self.store(put);
        } else if self.options.when_full == WhenFull::DropOldest {
            let mut after = self.things.clone();
            after.retain(|thing| thing.place != Where::Ready || thing.put.priority > put.priority);
            if !self.fits_among(&put, &after) {
                return self.answer(&put, full);
            }
            while !self.fits(&put) {
                let ready = self.things.iter().filter(|thing| thing.place == Where::Ready);
                let victim =
                    ready.min_by_key(|thing| (thing.put.priority, thing.sequence)).unwrap();
                let (item, sender) = (victim.put.item, victim.put.sender.name);
                self.things.retain(|thing| thing.put.item != item);
                self.refresh();
                let reason = DropReason::Displaced;
                self.effects.push(Effect::Dropped { item, sender, reason });
            }
            self.store(put);
        } else if self.options.when_full == WhenFull::Reject || put.wait_until_ns <= self.now {
            self.answer(&put, full);
        } else {
            let waiting: u64 = self.putters.iter().map(bytes).sum();
            if self.putters.len() as u32 >= self.options.putters_max
                || waiting + bytes(&put) > self.options.putters_bytes_max
            {
                self.answer(&put, PutAnswer::Rejected(Rejection::TooManyWait));
            } else {
                self.putters.push(put);
            }
        }
        self.settle();
    }

    pub(super) fn take(&mut self, take: Take, now: u64) -> bool {
        self.tick(now);
        if !self.arrive(take.worker) {
            return false;
        }
        let mut missing_count = take.count_max;
        while missing_count > 0 {
            let now = self.now;
            let mine = self.things.iter().enumerate().filter_map(|(index, thing)| {
                let (name, until, order) = thing.preference?;
                (name == take.worker.name && until > now).then_some((order, index))
            });
            let preferred = mine.min().map(|(_, index)| index);
            let Some(index) = preferred.or_else(|| self.next()) else { break };
            self.deliver(index, take.worker, take.request, preferred.is_none());
            missing_count -= 1;
        }
        if missing_count > 0 {
            let waits = Take { count_max: missing_count, ..take };
            if take.until_ns <= self.now {
                self.end_take(&waits, TakeEnd::Timeout);
            } else if self.takers.len() as u32 >= self.options.takers_max {
                self.end_take(&waits, TakeEnd::TooManyWait);
            } else {
                self.takers.push(waits);
            }
        }
        self.settle();
        true
    }

    pub(super) fn ack(&mut self, worker: Agent, item: ItemId, delivery: u32, now: u64) -> bool {
        self.tick(now);
        let Some(index) = self.lease(worker, item, delivery) else { return false };
        self.things.remove(index);
        self.settle();
        true
    }

    pub(super) fn nack(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        delay: u64,
        now: u64,
    ) -> bool {
        self.tick(now);
        let Some(index) = self.lease(worker, item, delivery) else { return false };
        let place = if delay == 0 { Where::Ready } else { Where::Delayed(self.now + delay) };
        self.give_back(index, ReturnReason::Nacked, place);
        self.settle();
        true
    }

    pub(super) fn untold(&mut self, worker: Agent, item: ItemId, delivery: u32, now: u64) -> bool {
        self.tick(now);
        let Some(index) = self.lease(worker, item, delivery) else { return false };
        self.give_back(index, ReturnReason::Untold, Where::Ready);
        self.settle();
        true
    }

    pub(super) fn cancel(&mut self, request: u64, now: u64) {
        self.tick(now);
        if let Some(index) = self.takers.iter().position(|take| take.request == request) {
            let take = self.takers.remove(index);
            self.end_take(&take, TakeEnd::Cancelled);
        }
        if let Some(index) = self.putters.iter().position(|put| put.request == request) {
            let put = self.putters.remove(index);
            self.answer(&put, PutAnswer::Rejected(Rejection::Withdrawn));
        }
        self.settle();
    }

    pub(super) fn extend(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        now: u64,
    ) -> Option<u64> {
        self.tick(now);
        let index = self.lease(worker, item, delivery)?;
        Some(self.lengthen(index, None))
    }

    pub(super) fn handoff(
        &mut self,
        worker: Agent,
        item: ItemId,
        delivery: u32,
        to: Agent,
        now: u64,
    ) -> bool {
        self.tick(now);
        if self.lease(worker, item, delivery).is_none() || !self.arrive(to) {
            return false;
        }
        let moved = self.lease(worker, item, delivery);
        if let Some(index) = moved {
            self.lengthen(index, Some(to));
            let delivery = self.delivery(index);
            self.effects.push(Effect::HandedOver { from: worker, delivery });
        }
        self.settle();
        moved.is_some()
    }

    pub(super) fn worker_gone(&mut self, worker: Agent, now: u64) {
        self.tick(now);
        self.end_life(worker);
        self.settle();
    }

    pub(super) fn sender_gone(&mut self, sender: Agent, now: u64) {
        self.tick(now);
        let (gone, stay) = std::mem::take(&mut self.putters)
            .into_iter()
            .partition::<Vec<_>, _>(|put| put.sender == sender);
        self.putters = stay;
        for put in gone {
            self.answer(&put, PutAnswer::Rejected(Rejection::SenderGone));
        }
        self.settle();
    }

    pub(super) fn requeue(&mut self, item: ItemId, now: u64) -> bool {
        self.tick(now);
        let Some(index) = self.dead.iter().position(|thing| thing.put.item == item) else {
            return false;
        };
        if !self.fits(&self.dead[index].put) {
            return false;
        }
        let mut thing = self.dead.remove(index);
        thing.before = thing.count;
        thing.place = Where::Ready;
        if thing.put.deadline_ns <= self.now {
            thing.put.deadline_ns = NEVER;
        }
        self.append(thing);
        self.settle();
        true
    }

    pub(super) fn drop_dead(&mut self, item: ItemId, now: u64) -> bool {
        self.tick(now);
        let Some(index) = self.dead.iter().position(|thing| thing.put.item == item) else {
            return false;
        };
        self.forget_dead(index, DropReason::Asked);
        true
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let things = self.things.iter().map(Thing::due);
        let takers = self.takers.iter().map(|take| take.until_ns);
        let putters = self.putters.iter().map(|put| put.wait_until_ns.min(put.deadline_ns));
        things.chain(takers).chain(putters).min().filter(|&at| at != NEVER)
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        while let Some(index) = (0..self.things.len())
            .filter(|&index| self.things[index].due() <= self.now)
            .min_by_key(|&index| (self.things[index].due(), self.things[index].sequence))
        {
            let thing = &mut self.things[index];
            match thing.place {
                Where::Leased(..) => {
                    self.give_back(index, ReturnReason::LeaseExpired, Where::Ready);
                }
                _ if thing.put.deadline_ns <= self.now => self.bury(index, DeadReason::Expired),
                _ => thing.place = Where::Ready,
            }
            self.refresh();
        }
        let now = self.now;
        let (mut over, stay) = std::mem::take(&mut self.takers)
            .into_iter()
            .partition::<Vec<_>, _>(|take| take.until_ns <= now);
        self.takers = stay;
        over.sort_by_key(|take| take.until_ns);
        for take in over {
            self.end_take(&take, TakeEnd::Timeout);
        }
        let until = |put: &Put| put.wait_until_ns.min(put.deadline_ns);
        let (mut over, stay) = std::mem::take(&mut self.putters)
            .into_iter()
            .partition::<Vec<_>, _>(|put| until(put) <= now);
        self.putters = stay;
        over.sort_by_key(until);
        for put in over {
            let expired = put.deadline_ns <= now;
            let reason = if expired { Rejection::Expired } else { Rejection::WaitedInVain };
            self.answer(&put, PutAnswer::Rejected(reason));
        }
        self.settle();
    }

    fn objection(&self, put: &Put) -> Option<PutAnswer> {
        let same = |known: &&(NameId, DedupId, ItemId)| {
            known.0 == put.sender.name && Some(known.1) == put.dedup
        };
        if let Some(&(.., first)) = self.window.iter().find(same) {
            return Some(PutAnswer::Duplicate { first });
        }
        let mut all = self.things.iter().chain(&self.dead);
        if all.any(|thing| thing.put.item == put.item) {
            Some(PutAnswer::Rejected(Rejection::ItemIdInUse))
        } else if bytes(put) > self.options.bytes_max {
            Some(PutAnswer::Rejected(Rejection::TooLarge))
        } else if put.deadline_ns <= self.now {
            Some(PutAnswer::Rejected(Rejection::Expired))
        } else {
            None
        }
    }

    fn fits(&self, put: &Put) -> bool {
        self.fits_among(put, &self.things)
    }

    fn fits_among(&self, put: &Put, things: &[Thing]) -> bool {
        let sum: u64 = things.iter().map(|thing| bytes(&thing.put)).sum();
        things.len() < self.options.items_max as usize && sum + bytes(put) <= self.options.bytes_max
    }

    fn store(&mut self, put: Put) {
        if let Some(id) = put.dedup
            && self.options.dedup_max > 0
        {
            self.window.push((put.sender.name, id, put.item));
            if self.window.len() > self.options.dedup_max as usize {
                self.window.remove(0);
            }
        }
        self.answer(&put, PutAnswer::Stored);
        self.append(Thing {
            put,
            sequence: 0,
            count: 0,
            before: 0,
            place: Where::Ready,
            preference: None,
        });
    }

    fn append(&mut self, thing: Thing) {
        self.steps += 1;
        self.things.push(Thing { sequence: self.steps, ..thing });
        self.refresh();
    }

    /// Notes which levels began or ceased to wait.
    fn refresh(&mut self) {
        for priority in Priority::all() {
            let waits = self
                .things
                .iter()
                .any(|thing| thing.place == Where::Ready && thing.put.priority == priority);
            let due = &mut self.due[priority.index()];
            *due = waits.then(|| due.unwrap_or(self.taken + patience(priority)));
        }
    }

    fn next(&self) -> Option<usize> {
        // Most urgent first, which also decides between two that have been due for as long.
        let due = |level: &Priority| self.due[level.index()];
        let waiting: Vec<_> = Priority::all().rev().filter(|level| due(level).is_some()).collect();
        let overdue = waiting.iter().filter(|level| due(level) <= Some(self.taken));
        let level = *overdue.min_by_key(|level| due(level)).or(waiting.first())?;
        let ready = self
            .things
            .iter()
            .enumerate()
            .filter(|(_, thing)| thing.place == Where::Ready && thing.put.priority == level);
        ready.min_by_key(|(_, thing)| thing.sequence).map(|(index, _)| index)
    }

    fn settle(&mut self) {
        while let Some(put) = self.putters.first().cloned() {
            let objection = self.objection(&put);
            if objection.is_none() && !self.fits(&put) {
                break;
            }
            self.putters.remove(0);
            match objection {
                Some(answer) => self.answer(&put, answer),
                None => self.store(put),
            }
        }
        while let Some(index) = self.next()
            && let Some(take) = self.takers.first_mut()
        {
            take.count_max -= 1;
            let take = *take;
            self.deliver(index, take.worker, take.request, true);
            self.takers.retain(|take| take.count_max > 0);
        }
    }

    fn deliver(&mut self, index: usize, worker: Agent, request: u64, by_turn: bool) {
        self.steps += 1;
        let until = self.now + self.options.lease_ns;
        let thing = &mut self.things[index];
        thing.place = Where::Leased(worker, self.now, until, self.steps);
        thing.preference = None;
        thing.count += 1;
        if by_turn {
            self.taken += 1;
            let level = thing.put.priority;
            self.due[level.index()] = Some(self.taken + patience(level));
        }
        self.refresh();
        let delivery = self.delivery(index);
        self.effects.push(Effect::Delivered { request, delivery });
    }

    fn delivery(&self, index: usize) -> Delivery {
        let thing = &self.things[index];
        let Where::Leased(worker, _, lease_until_ns, _) = thing.place else { panic!("not leased") };
        Delivery {
            worker,
            item: thing.put.item,
            delivery: thing.count,
            lease_until_ns,
            priority: thing.put.priority,
            sender: thing.put.sender.name,
            payload: thing.put.payload.clone(),
        }
    }

    fn lease(&self, worker: Agent, item: ItemId, delivery: u32) -> Option<usize> {
        self.things.iter().position(|thing| {
            thing.put.item == item && thing.count == delivery && thing.lease_of() == Some(worker)
        })
    }

    /// A lease that moves is its receiver's latest, even if that had it before.
    fn lengthen(&mut self, index: usize, to: Option<Agent>) -> u64 {
        self.steps += 1;
        let thing = &mut self.things[index];
        let Where::Leased(worker, since, until, order) = thing.place else { panic!("not leased") };
        let longest = since + self.options.lease_total_ns;
        let until = (self.now + self.options.lease_ns).min(longest).max(until);
        let order = to.map_or(order, |_| self.steps);
        thing.place = Where::Leased(to.unwrap_or(worker), since, until, order);
        until
    }

    fn give_back(&mut self, index: usize, reason: ReturnReason, place: Where) {
        self.steps += 1;
        let thing = &mut self.things[index];
        let is_told = reason != ReturnReason::Untold;
        if is_told && thing.count - thing.before >= self.options.deliveries_max {
            self.bury(index, DeadReason::DeliveriesExhausted(reason));
        } else if thing.put.deadline_ns <= self.now {
            self.bury(index, DeadReason::Expired);
        } else {
            if let (Where::Leased(worker, _, until, _), ReturnReason::WorkerGone) =
                (thing.place, reason)
            {
                thing.preference = Some((worker.name, until, self.steps));
            }
            thing.before += u32::from(!is_told);
            thing.place = place;
            self.refresh();
        }
    }

    fn bury(&mut self, index: usize, reason: DeadReason) {
        let mut thing = self.things.remove(index);
        thing.place = Where::Dead;
        thing.preference = None;
        let (item, sender) = (thing.put.item, thing.put.sender.name);
        let too_large = bytes(&thing.put) > self.options.dead_bytes_max;
        let deliveries_count = thing.count;
        self.effects.push(Effect::Died { item, sender, deliveries_count, reason });
        self.dead.push(thing);
        self.refresh();
        if too_large || self.options.dead_items_max == 0 {
            self.forget_dead(self.dead.len() - 1, DropReason::DeadLettersFull);
        }
        let sum = |dead: &[Thing]| dead.iter().map(|thing| bytes(&thing.put)).sum::<u64>();
        while self.dead.len() > self.options.dead_items_max as usize
            || sum(&self.dead) > self.options.dead_bytes_max
        {
            self.forget_dead(0, DropReason::DeadLettersFull);
        }
    }

    fn forget_dead(&mut self, index: usize, reason: DropReason) {
        let thing = self.dead.remove(index);
        let (item, sender) = (thing.put.item, thing.put.sender.name);
        self.effects.push(Effect::Dropped { item, sender, reason });
    }

    fn arrive(&mut self, worker: Agent) -> bool {
        let leases = self.things.iter().filter_map(Thing::lease_of);
        let takers = self.takers.iter().map(|take| take.worker);
        let life = leases.chain(takers).find(|agent| agent.name == worker.name);
        match life {
            Some(life) if life.id > worker.id => false,
            Some(life) if life.id < worker.id => {
                self.end_life(life);
                true
            }
            _ => true,
        }
    }

    fn end_life(&mut self, worker: Agent) {
        self.takers.retain(|take| take.worker != worker);
        while let Some((_, index)) = (0..self.things.len())
            .filter_map(|index| match self.things[index].place {
                Where::Leased(owner, .., order) if owner == worker => Some((order, index)),
                _ => None,
            })
            .min()
        {
            self.give_back(index, ReturnReason::WorkerGone, Where::Ready);
        }
    }

    fn end_take(&mut self, take: &Take, end: TakeEnd) {
        let Take { worker, request, count_max: missing_count, .. } = *take;
        self.effects.push(Effect::TakeEnded { worker, request, missing_count, end });
    }

    fn answer(&mut self, put: &Put, answer: PutAnswer) {
        let Put { sender, request, item, .. } = *put;
        self.effects.push(Effect::PutAnswered { sender, request, item, answer });
    }
}
