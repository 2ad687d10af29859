//! All queues by name, and when the first of them has something to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::Queue;
use super::heap::Indexed;
use super::limits::{BYTES_TOTAL_MAX, ITEMS_TOTAL_MAX, NAME_BYTES_MAX, QUEUES_MAX};
use super::model::{Agent, NEVER, Output, QueueId};
use super::options::{OptionError, Options};

/// Every queue.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    places: Vec<Place>,
    names: BTreeMap<Arc<str>, QueueId>,
    deadlines: Indexed<u64>,
    items_total: u64,
    bytes_total: u64,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    queue: Option<Queue>,
}

/// Why a queue was not declared.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum DeclareError {
    /// The name is empty or too long.
    #[error("a queue's name has 1 to {max} bytes, got: {got}")]
    Name {
        /// Its bytes.
        got: usize,
        /// What may be.
        max: usize,
    },
    /// An option is out of bounds.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The queue exists with other options.
    #[error("the queue `{name}` was declared with other options")]
    Differs {
        /// Its name.
        name: Arc<str>,
    },
    /// All queues together would be too large.
    #[error("there is no room for one more queue of this size")]
    Full,
}

/// Why a queue was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RemoveError {
    /// There is no such queue.
    #[error("no such queue")]
    Unknown,
    /// It holds items or dead letters, or somebody waits.
    #[error("the queue is in use")]
    InUse,
}

impl Queues {
    /// The queue of this name: made now, with these options or the usual ones, or the one that exists
    /// if the options, where given, are its own.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        options: Option<Options>,
    ) -> Result<QueueId, DeclareError> {
        if let Some((known, &id)) = self.names.get_key_value(name) {
            let is_same = self.get(id).is_none_or(|queue| {
                options.as_ref().is_none_or(|options| options == queue.options())
            });
            let name = known.clone();
            return if is_same { Ok(id) } else { Err(DeclareError::Differs { name }) };
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(DeclareError::Name { got: name.len(), max: NAME_BYTES_MAX });
        }
        let options = options.unwrap_or_default();
        options.check()?;
        let id = self.vacancy()?;
        let is_too_much = self.items_total + options.items_total() > ITEMS_TOTAL_MAX
            || self.bytes_total + options.bytes_total() > BYTES_TOTAL_MAX;
        if is_too_much {
            return Err(DeclareError::Full);
        }
        self.insert(name.into(), Queue::new(id, options));
        Ok(id)
    }

    /// The queue of this name.
    pub(crate) fn find(&self, name: &str) -> Option<QueueId> {
        self.names.get(name).copied()
    }

    /// A queue, to look at.
    pub(crate) fn get(&self, id: QueueId) -> Option<&Queue> {
        let place = self.places.get(id.index as usize)?;
        place.queue.as_ref().filter(|_| place.generation == id.generation)
    }

    /// Calls a queue and notes when it has something to do next. `None` when there is no such queue.
    pub(crate) fn with<R>(&mut self, id: QueueId, call: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let place = self.places.get_mut(id.index as usize)?;
        let queue = place.queue.as_mut().filter(|_| place.generation == id.generation)?;
        let result = call(queue);
        match queue.next_deadline() {
            Some(at_ns) => self.deadlines.set(id.index, at_ns),
            None => self.deadlines.clear(id.index),
        }
        Some(result)
    }

    /// Does what is due in all queues.
    pub(crate) fn tick(&mut self, now_ns: u64, out: &mut Output) {
        while let Some((at_ns, index)) = self.deadlines.first()
            && at_ns <= now_ns
        {
            self.deadlines.clear(index);
            self.with(self.id_at(index as usize), |queue| queue.tick(now_ns, out));
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at_ns, _)| at_ns).filter(|&at_ns| at_ns != NEVER)
    }

    /// An agent ended, as a worker and as a sender.
    pub(crate) fn agent_gone(&mut self, agent: Agent, now_ns: u64, out: &mut Output) {
        for index in 0..self.places.len() {
            self.with(self.id_at(index), |queue| {
                queue.sender_gone(agent, now_ns, out);
                queue.worker_gone(agent, now_ns, out);
            });
        }
    }

    /// Removes a queue that is empty and that nobody waits at.
    pub(crate) fn remove(&mut self, id: QueueId) -> Result<(), RemoveError> {
        let queue = self.get(id).ok_or(RemoveError::Unknown)?;
        if !queue.is_idle() {
            return Err(RemoveError::InUse);
        }
        self.take_out(id);
        Ok(())
    }

    /// Takes in a queue that was there before under this name; `make` gets its number. Its options have been checked
    /// when it was made, so bounds that have shrunk since do not keep it out.
    pub(crate) fn adopt(
        &mut self,
        name: &str,
        make: impl FnOnce(QueueId) -> Queue,
    ) -> Result<QueueId, DeclareError> {
        let id = self.vacancy()?;
        let name: Arc<str> = name.into();
        if self.names.contains_key(&name) {
            return Err(DeclareError::Differs { name });
        }
        self.insert(name, make(id));
        Ok(id)
    }

    /// Takes a queue out, whatever is in it: it cannot go on as it is.
    pub(crate) fn give_up(&mut self, id: QueueId) {
        if self.get(id).is_some() {
            self.take_out(id);
        }
    }

    /// Every queue.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.places.iter().filter_map(|place| place.queue.as_ref())
    }

    /// The number of the next queue.
    fn vacancy(&self) -> Result<QueueId, DeclareError> {
        let free = self.places.iter().position(|place| place.queue.is_none());
        let index = free.unwrap_or(self.places.len());
        if index >= QUEUES_MAX {
            return Err(DeclareError::Full);
        }
        let generation = self.places.get(index).map_or(0, |place| place.generation);
        Ok(QueueId { index: index as u32, generation })
    }

    fn id_at(&self, index: usize) -> QueueId {
        let generation = self.places.get(index).map_or(0, |place| place.generation);
        QueueId { index: index as u32, generation }
    }

    fn insert(&mut self, name: Arc<str>, queue: Queue) {
        let QueueId { index, generation } = queue.id();
        if index as usize >= self.places.len() {
            self.places.resize_with(index as usize + 1, Place::default);
        }
        self.names.insert(name, queue.id());
        self.items_total += queue.options().items_total();
        self.bytes_total += queue.options().bytes_total();
        self.places[index as usize] = Place { generation, queue: Some(queue) };
        // One that was there before may have something to do.
        self.with(QueueId { index, generation }, |_| ());
    }

    fn take_out(&mut self, id: QueueId) {
        let Some(place) = self.places.get_mut(id.index as usize) else { return };
        let Some(queue) = place.queue.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.items_total -= queue.options().items_total();
        self.bytes_total -= queue.options().bytes_total();
        self.names.retain(|_, known| *known != id);
        self.deadlines.clear(id.index);
    }
}
