//! The journals of all durable queues, and who waits for the disk.
//!
//! Rules:
//! 1. What a call changed is written down before its effects are told. In a queue that is `stored` this is enough; in one
//!    that is `synced` whatever is told waits here, in order, until the disk has the change.
//! 2. A queue whose journal cannot go on is closed: it is given up in memory, those who wait are told that its state is
//!    not known, and requests are refused with the reason. It is opened again from its journal when somebody asks for
//!    it: what was told is there, what was not may be. So memory is never ahead of what a restart would find.
//! 3. A full disk closes nothing as long as it can be helped: space for a request is made sure of before it is carried
//!    out, and puts leave some to the others.
//!
//! 4. A queue whose journal is being made, opened or removed is *under way*: requests for it wait, those for others do not.
//!
//! The thread of the exchange writes; the log's thread syncs, a third one makes, opens and removes (`disk`); both ring this
//! thread's bell. Not here: what is written (`journal`), what is told, and who waits (`work`).

mod disk;
#[cfg(test)]
mod tests;
mod under_way;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ipc::doorbell::Bell;
use ipc::header::LaneId;
use ipc::link::RequestId;
use tracing::error;

use self::disk::{Done, Job};
use self::under_way::Doing;
pub(super) use self::under_way::Settled;
use super::hand::Hand;
use super::journal::{Journal, JournalError};
use super::log::{Committer, SyncError, Ticket};
use super::names::Names;
use super::queue::{Durable, Effect, QueueId, Queues, Record};
use crate::limits::HELD_PER_QUEUE_MAX;

/// All of them.
#[derive(Debug)]
pub(super) struct Keeper {
    home: PathBuf,
    /// Begun with the first durable queue.
    committer: Option<Committer>,
    /// Begun with the first queue that is made, opened again or removed.
    hand: Option<Hand<Job, Done>>,
    /// Queues whose journal is being made, opened or removed.
    under_way: BTreeMap<String, Doing>,
    /// By the place of the queue.
    kept: Vec<Option<Box<Kept>>>,
    closed: BTreeMap<String, Closed>,
    ringer: Arc<Ringer>,
    /// What is held in all queues, so that one look tells that there is nothing.
    held_count: usize,
    removed_count: u64,
    /// The greatest id of an item that was found in any journal.
    item_last: u64,
    /// Kept for its memory.
    touched: Vec<QueueId>,
}

/// One queue.
struct Kept {
    id: QueueId,
    name: String,
    journal: Journal,
    is_synced: bool,
    /// What is to be told, and below which position the disk must have everything before.
    held: VecDeque<(u64, Told)>,
    /// The answer of the log's thread, while it is asked.
    sync: Option<Ticket>,
}

/// What somebody is to be told.
#[derive(Debug)]
pub(super) enum Told {
    /// What the queue decided.
    Effect(Effect),
    /// The answer to a request that is over.
    Answer(LaneId, RequestId, Vec<u8>),
}

/// A queue that cannot be used.
#[derive(Debug)]
struct Closed {
    why: String,
    tried: Instant,
}

/// Wakes the exchange's thread when the disk is done; before there is a bell nobody sleeps.
#[derive(Debug, Default)]
struct Ringer {
    bell: OnceLock<Bell>,
}

/// A queue that was closed just now.
#[derive(Debug)]
pub(super) struct Closing {
    /// Which it was.
    pub(super) id: QueueId,
    /// Its name.
    pub(super) name: String,
    /// Why.
    pub(super) why: String,
    /// What nobody was told.
    pub(super) held: Vec<Told>,
}

impl Ringer {
    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kept").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Keeper {
    /// A keeper of what is in this directory. Nothing is made until a queue needs it.
    pub(super) fn new(home: PathBuf) -> Self {
        Self {
            home,
            committer: None,
            hand: None,
            under_way: BTreeMap::new(),
            kept: Vec::new(),
            closed: BTreeMap::new(),
            ringer: Arc::default(),
            held_count: 0,
            removed_count: 0,
            item_last: 0,
            touched: Vec::new(),
        }
    }

    /// Who is woken when the disk is done.
    pub(super) fn set_bell(&mut self, bell: Bell) {
        // There is one exchange with one bell.
        let _ = self.ringer.bell.set(bell);
    }

    /// The greatest id of an item that was found in any journal.
    pub(super) fn item_last(&self) -> u64 {
        self.item_last
    }

    fn keep(&mut self, queues: &Queues, id: QueueId, name: &str, journal: Journal) {
        let durable = queues.get(id).map(|queue| queue.options().durable);
        let is_synced = durable == Some(Durable::Synced);
        let (name, held, sync) = (name.to_owned(), VecDeque::new(), None);
        let index = id.index as usize;
        if index >= self.kept.len() {
            self.kept.resize_with(index + 1, || None);
        }
        self.closed.remove(&name);
        self.kept[index] = Some(Box::new(Kept { id, name, journal, is_synced, held, sync }));
    }

    fn note_closed(&mut self, name: &str, why: &str) {
        error!(name, why, "a durable queue is closed");
        let closed = Closed { why: why.to_owned(), tried: Instant::now() };
        self.closed.insert(name.to_owned(), closed);
    }

    fn get(&mut self, id: QueueId) -> Option<&mut Kept> {
        let kept = self.kept.get_mut(id.index as usize)?.as_mut()?;
        (kept.id == id).then_some(kept)
    }

    /// Makes sure that so many bytes of lines can be written, before anything depends on it. True where the queue may
    /// go on, or has no journal; false where too much waits for its disk.
    pub(super) fn reserve(
        &mut self,
        id: QueueId,
        bytes: u64,
        now_ns: u64,
    ) -> Result<bool, JournalError> {
        let Some(kept) = self.get(id) else { return Ok(true) };
        if kept.held.len() >= HELD_PER_QUEUE_MAX {
            return Ok(false);
        }
        kept.journal.reserve(bytes, now_ns).map(|()| true)
    }

    /// Writes down what changed. Queues whose journals cannot go on are closed, in memory as well.
    pub(super) fn write(
        &mut self,
        records: &mut Vec<(QueueId, Record)>,
        queues: &mut Queues,
        names: &Names,
        now_ns: u64,
    ) -> Vec<Closing> {
        let mut closed = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        for (id, record) in records.drain(..) {
            if touched.last() != Some(&id) {
                touched.push(id);
            }
            let Some(kept) = self.get(id) else { continue };
            if let Err(error) = kept.journal.append(&record, names, now_ns) {
                closed.extend(self.close(id, queues, &error));
            }
        }
        // A picture shows a queue as it is now, so all its changes must be written before one begins.
        touched.sort_unstable();
        touched.dedup();
        for id in touched.drain(..) {
            closed.extend(self.shorten(id, queues, names, now_ns));
        }
        self.touched = touched;
        closed
    }

    fn shorten(
        &mut self,
        id: QueueId,
        queues: &mut Queues,
        names: &Names,
        now_ns: u64,
    ) -> Option<Closing> {
        let kept = self.get(id)?;
        let queue = queues.get(id)?;
        let error = kept.journal.shorten(queue, names, now_ns).err()?;
        self.close(id, queues, &error)
    }

    fn close(&mut self, id: QueueId, queues: &mut Queues, error: &JournalError) -> Option<Closing> {
        let kept = self.kept.get_mut(id.index as usize)?.take_if(|kept| kept.id == id)?;
        let Kept { name, held, .. } = *kept;
        queues.give_up(id);
        let why = error.to_string();
        self.note_closed(&name, &why);
        self.held_count -= held.len();
        Some(Closing { id, name, why, held: held.into_iter().map(|(_, told)| told).collect() })
    }

    /// Holds what is to be told until the disk has what came before it; gives it back where it can be told now.
    pub(super) fn hold(&mut self, id: QueueId, told: Told) -> Option<Told> {
        let Some(kept) = self.get(id).filter(|kept| kept.is_synced) else { return Some(told) };
        let next = kept.journal.next_position();
        if kept.held.is_empty() && kept.journal.synced_position() >= next {
            return Some(told);
        }
        kept.held.push_back((next, told));
        self.held_count += 1;
        None
    }

    /// Whether something waits for the disk.
    pub(super) fn is_holding(&self) -> bool {
        self.held_count > 0
    }

    /// What can be told now, with the queue that it is about, put behind `ready`. Asks the disk for the rest.
    pub(super) fn release(
        &mut self,
        ready: &mut Vec<(QueueId, Told)>,
        queues: &mut Queues,
    ) -> Vec<Closing> {
        let mut failed = Vec::new();
        if self.held_count == 0 {
            return Vec::new();
        }
        for kept in self.kept.iter_mut().flatten().filter(|kept| !kept.held.is_empty()) {
            let synced = kept.journal.synced_position();
            while let Some((_, told)) = kept.held.pop_front_if(|(next, _)| *next <= synced) {
                self.held_count -= 1;
                ready.push((kept.id, told));
            }
            if let Err(error) = kept.ask(&self.ringer) {
                failed.push((kept.id, error));
            }
        }
        failed.iter().filter_map(|(id, error)| self.close(*id, queues, error)).collect()
    }

    /// When to look again although no bell has rung: where the log's thread had too much to do to be asked.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let is_unasked = |kept: &Kept| !kept.held.is_empty() && kept.sync.is_none();
        let any = self.held_count > 0 && self.kept.iter().flatten().any(|kept| is_unasked(kept));
        any.then(|| Instant::now() + crate::limits::FORWARD_RETRY_INTERVAL)
    }
}

impl Kept {
    /// Asks the log's thread for what is held, once at a time.
    fn ask(&mut self, ringer: &Ringer) -> Result<(), JournalError> {
        // Twice: an answer that is there already leaves room for the next question.
        for _ in 0..2 {
            if self.held.is_empty() {
                return Ok(());
            }
            if self.sync.is_none() {
                match self.journal.request_sync() {
                    Ok(ticket) => self.sync = Some(ticket),
                    // It is asked again soon.
                    Err(JournalError::Sync(SyncError::Busy)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let Some(sync) = &mut self.sync else { return Ok(()) };
            let Some(result) = sync.try_done() else { return Ok(()) };
            self.sync = None;
            result?;
        }
        // What came meanwhile is told at the next look, which this makes soon.
        ringer.ring();
        Ok(())
    }
}
