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
//! The thread of the exchange writes; the log's thread syncs, and rings this thread's bell. Not here: what is written
//! (`journal`), what is told (`work`).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use ipc::doorbell::Bell;
use ipc::header::LaneId;
use ipc::link::RequestId;
use tracing::{error, info, warn};

use super::journal::{Journal, JournalError, Replayed, log_options};
use super::log::{Committer, Log, Mechanism, OpenError, SyncError, directory_name, subject_of};
use super::names::Names;
use super::queue::{Durable, Effect, Queue, QueueId, Queues, Record};
use crate::limits::{HELD_PER_QUEUE_MAX, JOURNAL_HELD_PATIENCE, JOURNAL_RETRY_INTERVAL};

/// How the directory of a queue that is being removed begins; no queue's own name does.
const REMOVED: &str = ".removed-";
/// Between two looks whether an earlier exchange has let go.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// All of them.
#[derive(Debug)]
pub(super) struct Keeper {
    home: PathBuf,
    /// Begun with the first durable queue.
    committer: Option<Committer>,
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
    sync: Option<Pin<Box<SyncAnswer>>>,
}

/// Of the log's thread: all positions below this are on the disk.
type SyncAnswer = dyn Future<Output = Result<u64, SyncError>>;

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

/// Wakes the exchange's thread when the disk is done.
#[derive(Debug, Default)]
pub(super) struct Ringer {
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

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
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

    /// Opens every queue that is there.
    pub(super) fn open_all(&mut self, queues: &mut Queues, names: &mut Names, now_ns: u64) {
        let entries = match std::fs::read_dir(&self.home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                error!(%error, home = %self.home.display(), "durable queues cannot be found");
                return;
            }
        };
        let until = Instant::now() + JOURNAL_HELD_PATIENCE;
        for entry in entries.flatten() {
            let Ok(file_name) = entry.file_name().into_string() else { continue };
            if file_name.starts_with(REMOVED) {
                self.delete(&entry.path());
                continue;
            }
            let Some(name) = subject_of(&file_name) else { continue };
            loop {
                match self.open(&name, queues, names, now_ns) {
                    Err(JournalError::Open(OpenError::Held)) if Instant::now() < until => {
                        std::thread::sleep(HELD_PAUSE);
                    }
                    Ok(_) => break,
                    Err(JournalError::Unfinished) => {
                        self.delete(&entry.path());
                        break;
                    }
                    Err(error) => {
                        self.note_closed(&name, &error.to_string());
                        break;
                    }
                }
            }
        }
    }

    fn open(
        &mut self,
        name: &str,
        queues: &mut Queues,
        names: &mut Names,
        now_ns: u64,
    ) -> Result<QueueId, JournalError> {
        let began = Instant::now();
        let (log, recovered) = self.open_log(name, now_ns)?;
        let (mut found, mut replayed) = (Err(JournalError::Unfinished), Replayed::default());
        // The queue gets its number first, and it may turn out that there is none.
        let adopted = queues.adopt(name, |id| match Journal::recover(log, id, names, now_ns) {
            Ok((journal, queue, seen)) => {
                replayed = seen;
                found = Ok(journal);
                queue
            }
            Err(error) => {
                found = Err(error);
                Queue::new(id, super::queue::Options::default())
            }
        });
        let id = adopted?;
        let journal = found.inspect_err(|_| queues.give_up(id))?;
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let view = queues.get(id).map(Queue::view);
        let items = view.map_or(0, |view| view.ready_count + view.delayed_count);
        let cut = recovered.cut.map_or(0, |cut| cut.bytes);
        let Replayed { lines, damaged, item_last, .. } = replayed;
        self.item_last = self.item_last.max(item_last);
        info!(name, items, lines, damaged, cut, took_us, "a durable queue is open");
        self.keep(queues, id, name, journal);
        Ok(id)
    }

    /// Makes the journal of a queue that was declared just now. When this returns, the queue survives power loss.
    pub(super) fn create(
        &mut self,
        queues: &Queues,
        id: QueueId,
        name: &str,
        names: &Names,
        now_ns: u64,
    ) -> Result<(), JournalError> {
        let Some(queue) = queues.get(id) else { return Ok(()) };
        if queue.options().durable == Durable::No {
            return Ok(());
        }
        let directory = self.home.join(directory_name(name));
        if directory.exists() {
            // Another queue's state, whatever the reason that it was not opened.
            return Err(JournalError::There(directory));
        }
        let made = match self.open_log(name, now_ns) {
            Ok((log, _)) => Journal::begin(log, queue, names, now_ns),
            Err(error) => Err(error),
        };
        match made {
            Ok(journal) => {
                self.keep(queues, id, name, journal);
                Ok(())
            }
            Err(error) => {
                // What is there of it was never a queue.
                self.delete(&directory);
                Err(error)
            }
        }
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

    fn open_log(
        &mut self,
        name: &str,
        now_ns: u64,
    ) -> Result<(Log, super::log::Recovered), JournalError> {
        let failed = |error: io::Error| JournalError::Open(OpenError::System(error));
        make_directories(&self.home).map_err(failed)?;
        if self.committer.is_none() {
            let committer = Committer::start(Mechanism::Best).map_err(failed)?;
            info!(mechanism = committer.mechanism(), "durable queues are synced");
            self.committer = Some(committer);
        }
        let Some(committer) = &self.committer else { return Err(JournalError::Unfinished) };
        let directory = self.home.join(directory_name(name));
        Ok(Log::open(&directory, name, log_options(), committer, now_ns)?)
    }

    /// Why the queue of this name cannot be used, if it was closed. Tries to open it again, not too often.
    pub(super) fn reopen(
        &mut self,
        name: &str,
        queues: &mut Queues,
        names: &mut Names,
        now_ns: u64,
    ) -> Option<Result<QueueId, String>> {
        let closed = self.closed.get_mut(name)?;
        if closed.tried.elapsed() < JOURNAL_RETRY_INTERVAL {
            return Some(Err(closed.why.clone()));
        }
        closed.tried = Instant::now();
        Some(match self.open(name, queues, names, now_ns) {
            Ok(id) => Ok(id),
            Err(error) => {
                let why = error.to_string();
                self.note_closed(name, &why);
                Err(why)
            }
        })
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
        let waker = Waker::from(Arc::clone(&self.ringer));
        for kept in self.kept.iter_mut().flatten().filter(|kept| !kept.held.is_empty()) {
            let synced = kept.journal.synced_position();
            while let Some((_, told)) = kept.held.pop_front_if(|(next, _)| *next <= synced) {
                self.held_count -= 1;
                ready.push((kept.id, told));
            }
            if let Err(error) = kept.ask(&waker) {
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

    /// Removes the journal of a queue that is gone. Gives what was held, for which no disk has to be waited any more.
    pub(super) fn remove(&mut self, id: QueueId) -> Vec<Told> {
        let place = self.kept.get_mut(id.index as usize);
        let Some(kept) = place.and_then(|kept| kept.take_if(|kept| kept.id == id)) else {
            return Vec::new();
        };
        self.held_count -= kept.held.len();
        let directory = self.home.join(directory_name(&kept.name));
        self.delete(&directory);
        kept.held.into_iter().map(|(_, told)| told).collect()
    }

    /// Deletes a directory so that a death in the middle leaves nothing that looks like a queue.
    fn delete(&mut self, directory: &Path) {
        self.removed_count += 1;
        let own = std::process::id();
        let aside = self.home.join(format!("{REMOVED}{own}-{}", self.removed_count));
        let deleted = std::fs::rename(directory, &aside)
            .and_then(|()| std::fs::File::open(&self.home)?.sync_all())
            .and_then(|()| std::fs::remove_dir_all(&aside));
        match deleted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, directory = %directory.display(), "a removed queue stays on the disk");
            }
            _ => {}
        }
    }
}

impl Kept {
    /// Asks the log's thread for what is held, once at a time.
    fn ask(&mut self, waker: &Waker) -> Result<(), JournalError> {
        // Twice: an answer that is there already leaves room for the next question.
        for _ in 0..2 {
            if self.held.is_empty() {
                return Ok(());
            }
            if self.sync.is_none() {
                match self.journal.request_sync() {
                    Ok(ticket) => self.sync = Some(Box::pin(ticket.done())),
                    // It is asked again soon.
                    Err(JournalError::Sync(SyncError::Busy)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let Some(sync) = &mut self.sync else { return Ok(()) };
            match sync.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Pending => return Ok(()),
                Poll::Ready(result) => {
                    self.sync = None;
                    result?;
                }
            }
        }
        // What came meanwhile is told at the next look, which this makes soon.
        waker.wake_by_ref();
        Ok(())
    }
}

/// Makes a directory and those above it for their owner only, each name on the disk.
fn make_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(above) = path.parent().filter(|_| !path.exists()) else { return Ok(()) };
    make_directories(above)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::File::open(above)?.sync_all(),
    }
}
