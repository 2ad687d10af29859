//! What of durable queues waits for the disk: journals are made, opened and removed here, on a thread of their own.
//!
//! A queue that is made is empty, so its journal needs nothing of the exchange's thread. One that is opened again is read with
//! a copy of the names; those that it adds get numbers which nobody else gives, and are taken in afterwards
//! (`Names::merge`). At a start the same is done before anybody can ask. Not here: what happens meanwhile (`keeper`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc::fault;
use tracing::warn;

use super::super::journal::{Journal, JournalError, Replayed, log_options};
use super::super::log::{Committer, Log, OpenError, Recovered, directory_name};
use super::super::names::Names;
use super::super::queue::{Options, Queue, QueueId};

/// Where journals live, and who syncs them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) home: PathBuf,
    pub(super) committer: Committer,
}

/// What may wait for the disk.
#[derive(Debug)]
pub(super) enum Job {
    /// Begins the journal of a new queue; one that fails is called `aside` while it is deleted.
    Make { place: Place, name: String, aside: PathBuf, options: Options, now_ns: u64 },
    /// Opens one that is there.
    Open { place: Place, name: String, names: Names, now_ns: u64 },
    /// Removes one; its directory is called `aside` while it is deleted.
    Remove { home: PathBuf, name: String, aside: PathBuf, journal: Box<Journal> },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Made { name: String, result: Result<Box<Journal>, JournalError> },
    Opened { name: String, result: Result<Box<Found>, JournalError> },
    Removed { name: String, result: io::Result<()> },
}

/// A queue as its journal has it. It has no number yet.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) queue: Queue,
    pub(super) journal: Journal,
    pub(super) names: Names,
    pub(super) replayed: Replayed,
    pub(super) recovered: Recovered,
    pub(super) took: Duration,
}

/// The thread's work.
pub(super) fn work(job: Job) -> Done {
    match job {
        Job::Make { place, name, aside, options, now_ns } => {
            let result = make(&place, &name, &aside, options, now_ns);
            Done::Made { name, result: result.map(Box::new) }
        }
        Job::Open { place, name, names, now_ns } => {
            let result = open(&place, &name, names, now_ns);
            Done::Opened { name, result: result.map(Box::new) }
        }
        Job::Remove { home, name, aside, journal } => {
            drop(journal);
            fault::point("exchange.queue-removing");
            let result = remove(&home, &home.join(directory_name(&name)), &aside);
            Done::Removed { name, result }
        }
    }
}

/// When this returns, the queue survives power loss.
fn make(
    place: &Place,
    name: &str,
    aside: &Path,
    options: Options,
    now_ns: u64,
) -> Result<Journal, JournalError> {
    let directory = place.home.join(directory_name(name));
    if directory.exists() {
        // Another queue's state, whatever the reason that it was not opened.
        return Err(JournalError::There(directory));
    }
    fault::point("exchange.queue-making");
    let empty = Queue::new(QueueId::default(), options);
    let made = open_log(place, name, now_ns)
        .and_then(|(log, _)| Journal::begin(log, &empty, &Names::default(), now_ns));
    made.inspect_err(|_| {
        // What is there of it was never a queue. Where it cannot be deleted, the next start finds that.
        if let Err(error) = remove(&place.home, &directory, aside) {
            warn!(%error, directory = %directory.display(), "an unfinished queue stays on the disk");
        }
    })
}

/// Reads a queue out of its journal.
pub(super) fn open(
    place: &Place,
    name: &str,
    mut names: Names,
    now_ns: u64,
) -> Result<Found, JournalError> {
    let began = Instant::now();
    let (log, recovered) = open_log(place, name, now_ns)?;
    let id = QueueId::default();
    let (journal, queue, replayed) = Journal::recover(log, id, &mut names, now_ns)?;
    Ok(Found { queue, journal, names, replayed, recovered, took: began.elapsed() })
}

fn open_log(place: &Place, name: &str, now_ns: u64) -> Result<(Log, Recovered), JournalError> {
    let failed = |error: io::Error| JournalError::Open(OpenError::System(error));
    make_directories(&place.home).map_err(failed)?;
    let directory = place.home.join(directory_name(name));
    Ok(Log::open(&directory, name, log_options(), &place.committer, now_ns)?)
}

/// Deletes a directory so that a death in the middle leaves nothing that looks like a queue. An error says that it may
/// come back.
pub(super) fn remove(home: &Path, directory: &Path, aside: &Path) -> io::Result<()> {
    match std::fs::rename(directory, aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    std::fs::File::open(home)?.sync_all()?;
    if let Err(error) = std::fs::remove_dir_all(aside) {
        // By this name it is no queue, and the next start tries again.
        warn!(%error, directory = %aside.display(), "a removed queue stays on the disk");
    }
    Ok(())
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
