//! The items of one queue and where each stands. Changes only by [`Store::apply`]; decides nothing.
//!
//! Rules that hold between two calls:
//! 1. An item is in exactly one state, and what goes with the state (a place in a level, a lease in its
//!    worker's list, a place among the dead letters, a timer) is set up by [`Store::enter`] and undone
//!    by [`Store::leave`], nowhere else.
//! 2. An item has at most one timer: its lease's, its delay's or its own deadline.
//! 3. A ready item may be preferred by one name; then it is in that name's list.
//! 4. All leases of a name belong to one life of it.

mod apply;

use std::collections::HashMap;

use ipc::header::AgentId;

use super::dedup::Dedup;
use super::heap::Indexed;
use super::inspect::Counters;
use super::links::{Links, List};
use super::model::{Agent, ItemId, NEVER, NameId, Payload};
use super::options::Options;
use super::ready::Ready;
use super::record::DeadReason;
use crate::exchange::priority::Priority;

/// Nobody's life.
const NOBODY: AgentId = AgentId(0);

/// Stored items.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) options: Options,
    pub(super) counters: Counters,
    pub(super) dedup: Dedup,
    pub(super) ready: Ready,
    pub(super) usage: Usage,
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    slots: HashMap<ItemId, u32>,
    /// By time, then by the order in which items were put.
    timers: Indexed<(u64, u64)>,
    links: Links,
    names: HashMap<NameId, Name>,
    dead: List,
    sequence_next: u64,
}

/// How many items are in which state, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) ready_count: u64,
    pub(super) delayed_count: u64,
    pub(super) leased_count: u64,
    pub(super) dead_count: u64,
    pub(super) bytes: u64,
    pub(super) dead_bytes: u64,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// What it is called.
    pub(crate) id: ItemId,
    /// Whose it is.
    pub(crate) sender: NameId,
    /// The order in which items were put.
    pub(crate) sequence: u64,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// In its whole life, so that a number never names two leases.
    pub(crate) deliveries_count: u32,
    /// Of these, those before it was last taken from the dead letters, and those that nobody was told of.
    pub(crate) deliveries_before: u32,
    /// When it expires.
    pub(crate) deadline_ns: u64,
    /// Its bytes.
    pub(crate) payload: Payload,
    /// Where it stands.
    pub(crate) state: State,
    /// Whose former life had it, and until when that counts. Only of ready items.
    pub(crate) preference: Option<(NameId, u64)>,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It can be delivered.
    Ready,
    /// It can be delivered later.
    Delayed {
        /// When.
        until_ns: u64,
    },
    /// A worker has it.
    Leased(Lease),
    /// It is not delivered any more.
    Dead {
        /// Why.
        reason: DeadReason,
        /// Since when.
        at_ns: u64,
    },
}

/// Whose an item is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Whose.
    pub(crate) worker: Agent,
    /// Since when.
    pub(crate) delivered_ns: u64,
    /// Until when.
    pub(crate) until_ns: u64,
}

/// What an agent's name has to do with this queue. Forgotten when that is nothing.
#[derive(Debug)]
struct Name {
    /// The life that holds leases or waits; nobody's when there is none.
    life: AgentId,
    /// In the order they were given.
    leases: List,
    /// Ready items that a former life had, in the order it was given them.
    preferred: List,
    /// Takes that wait; kept by the queue.
    takers_count: u32,
}

impl Item {
    /// Deliveries that count towards the most that may be.
    pub(super) fn attempts_count(&self) -> u32 {
        self.deliveries_count - self.deliveries_before
    }

    pub(super) fn bytes(&self) -> u64 {
        self.payload.len() as u64
    }
}

impl Usage {
    /// Items that count against the capacity.
    pub(super) fn stored_count(&self) -> u64 {
        self.ready_count + self.delayed_count + self.leased_count
    }

    fn of(&mut self, state: &State) -> (&mut u64, &mut u64) {
        match state {
            State::Ready => (&mut self.ready_count, &mut self.bytes),
            State::Delayed { .. } => (&mut self.delayed_count, &mut self.bytes),
            State::Leased(_) => (&mut self.leased_count, &mut self.bytes),
            State::Dead { .. } => (&mut self.dead_count, &mut self.dead_bytes),
        }
    }
}

impl Store {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            counters: Counters::default(),
            dedup: Dedup::new(options.dedup_max),
            ready: Ready::default(),
            usage: Usage::default(),
            items: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            timers: Indexed::default(),
            links: Links::default(),
            names: HashMap::new(),
            dead: List::default(),
            sequence_next: 0,
        }
    }

    pub(super) fn find(&self, id: ItemId) -> Option<(u32, &Item)> {
        let slot = *self.slots.get(&id)?;
        self.item(slot).map(|item| (slot, item))
    }

    pub(super) fn item(&self, slot: u32) -> Option<&Item> {
        self.items.get(slot as usize)?.as_ref()
    }

    /// Every item, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Item)> {
        let numbered = self.items.iter().enumerate();
        numbered.filter_map(|(slot, item)| item.as_ref().map(|item| (slot as u32, item)))
    }

    /// The item whose timer is first.
    pub(super) fn first_timer(&self) -> Option<(u64, u32)> {
        self.timers.first().map(|((at_ns, _), slot)| (at_ns, slot))
    }

    pub(super) fn oldest_dead(&self) -> Option<u32> {
        self.dead.first()
    }

    /// Dead letters, the oldest first.
    pub(super) fn dead(&self) -> impl Iterator<Item = &Item> {
        self.links.iter(self.dead).filter_map(|slot| self.item(slot))
    }

    /// The life of this name that holds leases or waits.
    pub(super) fn life(&self, name: NameId) -> Option<AgentId> {
        self.names.get(&name).map(|name| name.life).filter(|&life| life != NOBODY)
    }

    /// The first lease of this worker.
    pub(super) fn first_lease(&self, worker: Agent) -> Option<u32> {
        let name = self.names.get(&worker.name)?;
        if name.life == worker.id { name.leases.first() } else { None }
    }

    /// The first item that this name prefers. Preferences that are over are forgotten on the way.
    pub(super) fn first_preferred(&mut self, name: NameId, now_ns: u64) -> Option<u32> {
        loop {
            let slot = self.names.get(&name)?.preferred.first()?;
            if self.item(slot)?.preference.is_some_and(|(_, until_ns)| until_ns > now_ns) {
                return Some(slot);
            }
            self.forget_preference(slot);
        }
    }

    /// Counts takes of a worker that wait, so that its life is known.
    pub(super) fn add_taker(&mut self, worker: Agent) {
        self.name_mut(worker).takers_count += 1;
    }

    /// The other way.
    pub(super) fn remove_taker(&mut self, worker: Agent) {
        if let Some(name) = self.names.get_mut(&worker.name) {
            name.takers_count -= 1;
        }
        self.forget_name(worker.name);
    }

    /// Every item, in an order in which [`Store::place`] makes the same lists of them: dead letters, then what each
    /// name has and prefers, then the others.
    pub(super) fn in_order(&self) -> Vec<&Item> {
        let mut slots: Vec<u32> = self.links.iter(self.dead).collect();
        for name in self.names.values() {
            slots.extend(self.links.iter(name.leases));
            slots.extend(self.links.iter(name.preferred));
        }
        let is_listed = |item: &Item| {
            matches!(item.state, State::Leased(_) | State::Dead { .. }) || item.preference.is_some()
        };
        slots.extend(self.iter().filter(|(_, item)| !is_listed(item)).map(|(slot, _)| slot));
        slots.into_iter().filter_map(|slot| self.item(slot)).collect()
    }

    /// Names of senders, workers and former workers; some more than once.
    pub(super) fn names(&self) -> impl Iterator<Item = NameId> {
        let senders = self.iter().map(|(_, item)| item.sender);
        let known = self.dedup.iter().map(|((sender, _), _)| sender);
        senders.chain(known).chain(self.names.keys().copied())
    }

    pub(super) fn sequence_next(&self) -> u64 {
        self.sequence_next
    }

    pub(super) fn set_sequence_next(&mut self, sequence: u64) {
        self.sequence_next = self.sequence_next.max(sequence);
    }

    fn move_to(&mut self, slot: u32, state: State) {
        self.leave(slot);
        if let Some(item) = &mut self.items[slot as usize] {
            item.state = state;
        }
        self.enter(slot);
    }

    /// Another date for the same state of the same worker.
    fn change(&mut self, slot: u32, state: State) {
        if let Some(item) = &mut self.items[slot as usize] {
            item.state = state;
            self.timers.set(slot, (due_of(item), item.sequence));
        }
    }

    /// Sets up what goes with the state of the item.
    fn enter(&mut self, slot: u32) {
        let Some(item) = &self.items[slot as usize] else { return };
        let (state, bytes, preference) = (item.state, item.bytes(), item.preference);
        let (count, sum) = self.usage.of(&state);
        *count += 1;
        *sum += bytes;
        let due_ns = due_of(item);
        if due_ns != NEVER {
            self.timers.set(slot, (due_ns, item.sequence));
        }
        match state {
            State::Ready => {
                self.ready.insert(item.priority, item.sequence, slot, bytes);
                if let Some((name, _)) = preference {
                    let name = self.names.entry(name).or_default();
                    self.links.push(&mut name.preferred, slot);
                }
            }
            State::Delayed { .. } => {}
            State::Leased(lease) => {
                self.name_mut(lease.worker);
                if let Some(name) = self.names.get_mut(&lease.worker.name) {
                    self.links.push(&mut name.leases, slot);
                }
            }
            State::Dead { .. } => self.links.push(&mut self.dead, slot),
        }
    }

    /// Undoes what goes with the state of the item.
    fn leave(&mut self, slot: u32) {
        let Some(item) = &self.items[slot as usize] else { return };
        let (state, bytes, priority) = (item.state, item.bytes(), item.priority);
        let (count, sum) = self.usage.of(&state);
        *count -= 1;
        *sum -= bytes;
        self.timers.clear(slot);
        match state {
            State::Ready => {
                self.ready.remove(priority, slot, bytes);
                self.forget_preference(slot);
            }
            State::Delayed { .. } => {}
            State::Leased(lease) => {
                if let Some(name) = self.names.get_mut(&lease.worker.name) {
                    self.links.remove(&mut name.leases, slot);
                }
                self.forget_name(lease.worker.name);
            }
            State::Dead { .. } => self.links.remove(&mut self.dead, slot),
        }
    }

    fn free(&mut self, slot: u32) {
        if let Some(item) = self.items[slot as usize].take() {
            self.slots.remove(&item.id);
            self.free.push(slot);
        }
    }

    fn forget_preference(&mut self, slot: u32) {
        let Some(item) = &mut self.items[slot as usize] else { return };
        let Some((id, _)) = item.preference.take() else { return };
        if let Some(name) = self.names.get_mut(&id) {
            self.links.remove(&mut name.preferred, slot);
        }
        self.forget_name(id);
    }

    fn name_mut(&mut self, agent: Agent) -> &mut Name {
        let name = self.names.entry(agent.name).or_default();
        debug_assert!(name.life == NOBODY || name.life == agent.id, "rule 4");
        name.life = agent.id;
        name
    }

    /// Forgets what is over about a name.
    fn forget_name(&mut self, id: NameId) {
        let Some(name) = self.names.get_mut(&id) else { return };
        if name.leases.is_empty() && name.takers_count == 0 {
            name.life = NOBODY;
            if name.preferred.is_empty() {
                self.names.remove(&id);
            }
        }
    }
}

impl Default for Name {
    fn default() -> Self {
        Self { life: NOBODY, leases: List::default(), preferred: List::default(), takers_count: 0 }
    }
}

/// When something is to happen to an item by itself.
fn due_of(item: &Item) -> u64 {
    match item.state {
        State::Ready => item.deadline_ns,
        State::Delayed { until_ns } => until_ns.min(item.deadline_ns),
        State::Leased(lease) => lease.until_ns,
        State::Dead { .. } => NEVER,
    }
}
