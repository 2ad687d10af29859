//! Durable queues whose journal is being made, opened or removed: what is begun, and what came of it.
//!
//! The work itself is another thread's (`disk`). Not here: who waits for it (`work`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::disk::{self, Done, Found, Job, Place};
use super::{Keeper, Kept, Told};
use crate::exchange::hand::Hand;
use crate::exchange::journal::{Journal, JournalError};
use crate::exchange::log::{Committer, Mechanism, OpenError, subject_of};
use crate::exchange::names::Names;
use crate::exchange::queue::{Durable, Options, QueueId, Queues};
use crate::limits::{JOURNAL_HELD_PATIENCE, JOURNAL_RETRY_INTERVAL};

/// How the directory of a queue that is being removed begins; no queue's own name does.
const REMOVED: &str = ".removed-";
/// Between two looks whether an earlier exchange has let go.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// What is done to a queue that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    /// It has its number and nothing else yet.
    Making(QueueId),
    Opening,
    Removing,
}

/// A queue that is under way no more.
#[derive(Debug)]
pub(in crate::exchange) struct Settled {
    /// Which it was.
    pub(in crate::exchange) name: String,
    /// Whether what was begun was done. Where a queue was to be opened, the next request learns why it was not.
    pub(in crate::exchange) result: Result<(), String>,
}

impl Keeper {
    /// Opens every queue that is there, on this thread: nobody waits yet.
    pub(in crate::exchange) fn open_all(
        &mut self,
        queues: &mut Queues,
        names: &mut Names,
        now_ns: u64,
    ) {
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
            let opened = self.open_waiting(&name, names, now_ns, until);
            match opened.and_then(|found| self.adopt(&name, found, queues, names)) {
                Ok(_) => {}
                Err(JournalError::Unfinished) => self.delete(&entry.path()),
                Err(error) => self.note_closed(&name, &error.to_string()),
            }
        }
    }

    /// Opens a queue, as soon as an earlier exchange has let go of it.
    fn open_waiting(
        &mut self,
        name: &str,
        names: &mut Names,
        now_ns: u64,
        until: Instant,
    ) -> Result<Found, JournalError> {
        let place = self.place()?;
        loop {
            match disk::open(&place, name, names.fork(), now_ns) {
                Err(JournalError::Open(OpenError::Held)) if Instant::now() < until => {
                    std::thread::sleep(HELD_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Takes in what was found in a journal.
    fn adopt(
        &mut self,
        name: &str,
        found: Found,
        queues: &mut Queues,
        names: &mut Names,
    ) -> Result<QueueId, JournalError> {
        let Found { mut queue, journal, names: own, replayed, recovered, took } = found;
        if !names.merge(&own, queue.names()) {
            return Err(JournalError::Names);
        }
        let view = queue.view();
        let id = queues.adopt(name, |id| {
            queue.renumber(id);
            queue
        })?;
        let items = view.ready_count + view.delayed_count;
        let cut = recovered.cut.map_or(0, |cut| cut.bytes);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (lines, damaged) = (replayed.lines, replayed.damaged);
        self.item_last = self.item_last.max(replayed.item_last);
        info!(name, items, lines, damaged, cut, took_us, "a durable queue is open");
        self.keep(queues, id, name, journal);
        Ok(id)
    }

    /// Whether requests for the queue of this name have to wait.
    pub(in crate::exchange) fn is_under_way(&self, name: &str) -> bool {
        !self.under_way.is_empty() && self.under_way.contains_key(name)
    }

    /// Whether the journal of any queue is being made, opened or removed.
    pub(in crate::exchange) fn is_at_work(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Begins to make the journal of a queue that was declared just now. True where the queue has to wait for it.
    pub(in crate::exchange) fn make(
        &mut self,
        queues: &Queues,
        id: QueueId,
        name: &str,
        now_ns: u64,
    ) -> Result<bool, JournalError> {
        let Some(queue) = queues.get(id) else { return Ok(false) };
        let options: Options = *queue.options();
        if options.durable == Durable::No {
            return Ok(false);
        }
        let (place, aside) = (self.place()?, self.aside());
        let job = Job::Make { place, name: name.to_owned(), aside, options, now_ns };
        self.give(name, Doing::Making(id), job)?;
        Ok(true)
    }

    /// Why the queue of this name cannot be used, if it was closed. Begins to open it again, not too often; then it is under
    /// way.
    pub(in crate::exchange) fn reopen(
        &mut self,
        name: &str,
        names: &mut Names,
        now_ns: u64,
    ) -> Option<Result<(), String>> {
        let closed = self.closed.get_mut(name)?;
        if closed.tried.elapsed() < JOURNAL_RETRY_INTERVAL {
            return Some(Err(closed.why.clone()));
        }
        closed.tried = Instant::now();
        Some(self.begin_to_open(name, names, now_ns).map_err(|error| error.to_string()))
    }

    fn begin_to_open(
        &mut self,
        name: &str,
        names: &mut Names,
        now_ns: u64,
    ) -> Result<(), JournalError> {
        let place = self.place()?;
        let job = Job::Open { place, name: name.to_owned(), names: names.fork(), now_ns };
        self.give(name, Doing::Opening, job)
    }

    /// Whether a queue can be removed now: one that has a journal needs the thread that removes it.
    pub(in crate::exchange) fn may_remove(&mut self, id: QueueId) -> Result<(), JournalError> {
        if self.get(id).is_none() {
            return Ok(());
        }
        if self.hand()?.has_room() { Ok(()) } else { Err(JournalError::Busy) }
    }

    /// Begins to remove the journal of a queue that is gone. Gives what was held, for which no disk has to be waited any more,
    /// and whether it was begun; nothing where the queue had no journal.
    pub(in crate::exchange) fn remove(
        &mut self,
        id: QueueId,
    ) -> Option<(Vec<Told>, Result<(), JournalError>)> {
        let place = self.kept.get_mut(id.index as usize);
        let kept = place.and_then(|kept| kept.take_if(|kept| kept.id == id))?;
        let Kept { name, journal, held, .. } = *kept;
        self.held_count -= held.len();
        let (home, aside) = (self.home.clone(), self.aside());
        let job = Job::Remove { home, name: name.clone(), aside, journal: Box::new(journal) };
        // There was room a moment ago; where it fails, the thread has just ended and the next start has the queue again.
        let begun = self.give(&name, Doing::Removing, job);
        Some((held.into_iter().map(|(_, told)| told).collect(), begun))
    }

    fn give(&mut self, name: &str, doing: Doing, job: Job) -> Result<(), JournalError> {
        self.hand()?.give(job).map_err(|_| JournalError::Busy)?;
        self.under_way.insert(name.to_owned(), doing);
        Ok(())
    }

    /// The next queue that is under way no more.
    pub(in crate::exchange) fn take_settled(
        &mut self,
        queues: &mut Queues,
        names: &mut Names,
        now_ns: u64,
    ) -> Option<Settled> {
        while !self.under_way.is_empty() {
            let Some(done) = self.hand.as_mut()?.take() else { return self.take_lost(queues) };
            let settled = match done {
                Done::Made { name, result } => {
                    let doing = self.under_way.remove(&name);
                    let result = self.made(&name, doing, result, queues);
                    Settled { name, result: result.map_err(|error| error.to_string()) }
                }
                Done::Opened { name, result } => {
                    self.under_way.remove(&name);
                    let adopted = result.and_then(|found| self.adopt(&name, *found, queues, names));
                    if matches!(adopted, Err(JournalError::Names))
                        && self.begin_to_open(&name, names, now_ns).is_ok()
                    {
                        // Somebody of a name that is in it came meanwhile; it is read once more.
                        continue;
                    }
                    let result = adopted.map(drop).map_err(|error| error.to_string());
                    if let Err(why) = &result {
                        self.note_closed(&name, why);
                    }
                    Settled { name, result }
                }
                Done::Removed { name, result } => {
                    self.under_way.remove(&name);
                    let why = |error| format!("it may come back at the next start: {error}");
                    Settled { name, result: result.map_err(why) }
                }
            };
            return Some(settled);
        }
        None
    }

    fn made(
        &mut self,
        name: &str,
        doing: Option<Doing>,
        result: Result<Box<Journal>, JournalError>,
        queues: &mut Queues,
    ) -> Result<(), JournalError> {
        // Whoever is told of a queue that is made has said that it is being made.
        let Some(Doing::Making(id)) = doing else { return Err(JournalError::Unfinished) };
        let journal = result.inspect_err(|_| queues.give_up(id))?;
        self.keep(queues, id, name, *journal);
        Ok(())
    }

    /// After a panic of the thread: nothing more comes of what it was given.
    fn take_lost(&mut self, queues: &mut Queues) -> Option<Settled> {
        if !self.hand.as_ref()?.is_dead {
            return None;
        }
        let (name, doing) = self.under_way.pop_first()?;
        if self.under_way.is_empty() {
            self.hand = None;
        }
        let why = "a thread for queues ended unexpectedly".to_owned();
        match doing {
            Doing::Making(id) => queues.give_up(id),
            Doing::Opening => self.note_closed(&name, &why),
            Doing::Removing => {}
        }
        Some(Settled { name, result: Err(why) })
    }

    fn hand(&mut self) -> Result<&mut Hand<Job, Done>, JournalError> {
        match &mut self.hand {
            Some(hand) => Ok(hand),
            hand @ None => {
                let ringer = Arc::clone(&self.ringer);
                let started = Hand::start("queue disk", move || ringer.ring(), disk::work);
                Ok(hand.insert(started.map_err(OpenError::System)?))
            }
        }
    }

    fn place(&mut self) -> Result<Place, JournalError> {
        let home = self.home.clone();
        if let Some(committer) = self.committer.clone() {
            return Ok(Place { home, committer });
        }
        let ringer = Arc::clone(&self.ringer);
        let started = Committer::start_with(Mechanism::Best, move || ringer.ring());
        let committer = started.map_err(OpenError::System)?;
        info!(mechanism = committer.mechanism(), "durable queues are synced");
        self.committer = Some(committer.clone());
        Ok(Place { home, committer })
    }

    /// What a directory is called while it is deleted.
    fn aside(&mut self) -> PathBuf {
        self.removed_count += 1;
        self.home.join(format!("{REMOVED}{}-{}", std::process::id(), self.removed_count))
    }

    /// Deletes what a start found.
    fn delete(&mut self, directory: &std::path::Path) {
        let aside = self.aside();
        if let Err(error) = disk::remove(&self.home, directory, &aside) {
            warn!(%error, directory = %directory.display(), "a removed queue stays on the disk");
        }
    }
}
