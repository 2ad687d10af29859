//! The thread that makes records survive power loss, for all logs: group commit.
//!
//! It takes every request that waits, syncs each log once, and tells each that waited. Requests
//! that come meanwhile are the next group. One log is synced by `fdatasync` on this thread, which is
//! quicker than a ring here (`bench::bus::log` measures both); several are synced at once, by
//! io_uring (`tokio-uring` on this thread, never inside another runtime). Where the kernel gives no
//! ring, or a sandbox none that can be entered, the same thread calls `fdatasync` one after the
//! other. Which one it is was chosen at start and can be read ([`Committer::mechanism`]).
//!
//! After a failed sync the kernel may have dropped the pages and taken them for clean, so a second
//! sync that succeeds proves nothing. The log then promises nothing more until it is opened again,
//! which writes the doubtful part once more.
//!
//! Not here: asking on behalf of a message (the exchange does), the mark on disk (every record
//! carries what was synced when it was written).

use std::io;
use std::sync::{Arc, mpsc as ready};
use std::thread;

use ipc::fault;
use ipc::uring::{Unavailable, try_ring};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::segment::{Segment, Shared};
use crate::limits::LOG_SYNC_REQUESTS_MAX;

/// Why a record is not known to survive power loss.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum SyncError {
    /// Too many requests wait; ask again.
    #[error("the committing thread has too many requests; try again")]
    Busy,
    /// No record has this position yet.
    #[error("position {asked} does not exist yet; the next one is {next}")]
    Ahead {
        /// What was to be synced.
        asked: u64,
        /// The position that the next record will have.
        next: u64,
    },
    /// The disk refused this one.
    #[error("the disk failed to sync the log (error {code})")]
    Failed {
        /// The system's number of the error, 0 where it gave none.
        code: i32,
    },
    /// The disk refused an earlier one.
    #[error("an earlier sync failed; nothing is promised until the log is opened again")]
    Broken,
    /// The committing thread has ended.
    #[error("the committing thread has ended")]
    Stopped,
}

/// How files are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// `fdatasync` for one log; for several at once io_uring, where the kernel has it.
    Best,
    /// io_uring always, where the kernel has it; to be measured.
    Ring,
    /// `fdatasync` on the committing thread.
    Plain,
}

/// The committing thread. It ends when the last clone, and so the last log, is gone.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    requests: mpsc::Sender<Request>,
    mechanism: Arc<str>,
}

/// Calls when the thread ends, in a panic too: then those who poll their tickets find that nothing more comes.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Answer = oneshot::Sender<Result<u64, SyncError>>;

#[derive(Debug)]
struct Request {
    log: Arc<Shared>,
    /// `None` where nobody waits.
    answer: Option<Answer>,
}

/// A request that was accepted.
#[derive(Debug)]
pub(crate) struct Ticket(Waiting);

#[derive(Debug)]
enum Waiting {
    Done(u64),
    For(oneshot::Receiver<Result<u64, SyncError>>),
}

/// What has to be synced so that all below `target` survives.
struct Plan {
    target: u64,
    segments: Vec<Arc<Segment>>,
}

/// All that wait for one log.
struct Group {
    log: Arc<Shared>,
    answers: Vec<Answer>,
}

impl Ticket {
    /// The answer, if it is there; it is given once.
    pub(crate) fn try_done(&mut self) -> Option<Result<u64, SyncError>> {
        match &mut self.0 {
            Waiting::Done(synced) => Some(Ok(*synced)),
            Waiting::For(answer) => match answer.try_recv() {
                Ok(result) => Some(result),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Err(SyncError::Stopped)),
            },
        }
    }

    /// All positions below the answer survive power loss. Panics inside an async runtime.
    pub(crate) fn wait(self) -> Result<u64, SyncError> {
        match self.0 {
            Waiting::Done(synced) => Ok(synced),
            Waiting::For(answer) => answer.blocking_recv().unwrap_or(Err(SyncError::Stopped)),
        }
    }
}

impl Committer {
    /// Starts the thread and returns when it is known how it syncs.
    pub(crate) fn start(mechanism: Mechanism) -> io::Result<Self> {
        Self::start_with(mechanism, || {})
    }

    /// The same; `notice` is called on the thread after each group, for who does not wait for tickets but polls them.
    pub(crate) fn start_with(
        mechanism: Mechanism,
        notice: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel(LOG_SYNC_REQUESTS_MAX);
        let (told, chosen) = ready::sync_channel(1);
        thread::Builder::new().name("log commit".to_owned()).spawn(move || {
            let notice = AtEnd(notice);
            run(mechanism, receiver, &told, &notice.0);
        })?;
        let mechanism = chosen.recv().map_err(|_| io::Error::other("the thread ended at once"))?;
        Ok(Self { requests, mechanism: mechanism.into() })
    }

    /// One without a thread: it refuses everything, so that tests choose each call to the disk.
    #[cfg(test)]
    pub(super) fn absent() -> Self {
        let (requests, _) = mpsc::channel(1);
        Self { requests, mechanism: "none".into() }
    }

    /// How files are synced, for people.
    pub(crate) fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// Asks for everything that `log` has stored, once, for whoever needs `position`.
    pub(super) fn request(&self, log: &Arc<Shared>, position: u64) -> Result<Ticket, SyncError> {
        let next = log.next();
        if position >= next {
            return Err(SyncError::Ahead { asked: position, next });
        }
        let synced = log.synced();
        if position < synced {
            return Ok(Ticket(Waiting::Done(synced)));
        }
        if log.is_broken() {
            return Err(SyncError::Broken);
        }
        let (answer, receiver) = oneshot::channel();
        self.send(Request { log: Arc::clone(log), answer: Some(answer) })?;
        Ok(Ticket(Waiting::For(receiver)))
    }

    /// Asks for the same when nobody waits. A full queue is fine: then a sync is coming anyway, of
    /// this log or the next time that it is asked.
    pub(super) fn nudge(&self, log: &Arc<Shared>) {
        let _ = self.send(Request { log: Arc::clone(log), answer: None });
    }

    fn send(&self, request: Request) -> Result<(), SyncError> {
        self.requests.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => SyncError::Busy,
            mpsc::error::TrySendError::Closed(_) => SyncError::Stopped,
        })
    }
}

fn run(
    mechanism: Mechanism,
    receiver: mpsc::Receiver<Request>,
    told: &ready::SyncSender<String>,
    notice: &dyn Fn(),
) {
    let ring = match mechanism {
        Mechanism::Best | Mechanism::Ring => ring(),
        Mechanism::Plain => Err(io::Error::other("not wanted")),
    };
    let _ = told.send(words(&ring, mechanism));
    match (ring, mechanism) {
        (Ok(ring), Mechanism::Ring) => ring.block_on(commit_by_ring(receiver, notice)),
        (ring, _) => commit(receiver, ring.ok().as_ref(), notice),
    }
}

/// A ring that this process can make and enter: `tokio_uring::start` would panic where there is none, and wait for ever on one
/// that cannot be entered.
fn ring() -> io::Result<tokio_uring::Runtime> {
    usable().and_then(|()| tokio_uring::Runtime::new(&tokio_uring::builder()))
}

fn usable() -> io::Result<()> {
    try_ring().map_err(|error| match error {
        Unavailable::Ring(error) => error,
        error => io::Error::other(error),
    })
}

fn words<T>(ring: &io::Result<T>, mechanism: Mechanism) -> String {
    match (ring, mechanism) {
        (Ok(_), Mechanism::Ring) => "io_uring fdatasync".to_owned(),
        (Ok(_), _) => "fdatasync, several logs at once by io_uring".to_owned(),
        (Err(error), _) => format!("fdatasync (io_uring: {error})"),
    }
}

/// How a committer of this process syncs, found by trying what it would try.
pub(crate) fn mechanism_here() -> String {
    words(&usable(), Mechanism::Best)
}

/// The first request and all others that wait, by log; at most as many as the queue holds, however
/// fast new ones come.
fn gather(first: Request, receiver: &mut mpsc::Receiver<Request>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let waiting = std::iter::from_fn(|| receiver.try_recv().ok()).take(LOG_SYNC_REQUESTS_MAX);
    for Request { log, answer } in std::iter::once(first).chain(waiting) {
        match groups.iter_mut().find(|group| Arc::ptr_eq(&group.log, &log)) {
            Some(group) => group.answers.extend(answer),
            None => groups.push(Group { log, answers: answer.into_iter().collect() }),
        }
    }
    groups
}

fn commit(
    mut receiver: mpsc::Receiver<Request>,
    ring: Option<&tokio_uring::Runtime>,
    notice: &dyn Fn(),
) {
    while let Some(first) = receiver.blocking_recv() {
        let groups = gather(first, &mut receiver);
        match ring {
            Some(ring) if groups.len() > 1 => {
                ring.block_on(commit_at_once(groups));
                notice();
            }
            _ => groups.into_iter().for_each(|group| {
                let result = group.log.commit();
                group.answer(result);
                notice();
            }),
        }
    }
}

async fn commit_by_ring(mut receiver: mpsc::Receiver<Request>, notice: &dyn Fn()) {
    while let Some(first) = receiver.recv().await {
        commit_at_once(gather(first, &mut receiver)).await;
        notice();
    }
}

async fn commit_at_once(mut groups: Vec<Group>) {
    // The usual case needs no task.
    if groups.len() == 1
        && let Some(group) = groups.pop()
    {
        group.commit_by_ring().await;
    }
    let tasks: Vec<_> =
        groups.into_iter().map(|group| tokio_uring::spawn(group.commit_by_ring())).collect();
    for task in tasks {
        // A task that panicked has dropped its answers, so those that wait are told.
        let _ = task.await;
    }
}

impl Group {
    fn answer(self, result: Result<u64, SyncError>) {
        for answer in self.answers {
            // Whoever gave up needs no answer.
            let _ = answer.send(result);
        }
    }

    async fn commit_by_ring(self) {
        let result = match self.log.plan() {
            Ok(plan) => {
                let synced = sync_by_ring(&self.log, &plan).await;
                self.log.finish(&plan, synced)
            }
            Err(error) => Err(error),
        };
        self.answer(result);
    }
}

async fn sync_by_ring(log: &Shared, plan: &Plan) -> io::Result<()> {
    for segment in &plan.segments {
        let file = segment.open(&*log.storage)?;
        let Some(descriptor) = file.descriptor() else {
            file.sync()?;
            continue;
        };
        // The ring wants a descriptor of its own; dropping it closes that one.
        let file = tokio_uring::fs::File::from_std(descriptor.try_clone()?);
        file.sync_data().await?;
    }
    log.enter(plan)
}

impl Shared {
    /// Syncs all that is stored, on this thread.
    pub(super) fn commit(&self) -> Result<u64, SyncError> {
        let plan = self.plan()?;
        fault::point("log.before-sync");
        let sync = |segment: &Arc<Segment>| segment.open(&*self.storage)?.sync();
        let result = plan.segments.iter().try_for_each(sync).and_then(|()| self.enter(&plan));
        fault::point("log.synced");
        self.finish(&plan, result)
    }

    fn plan(&self) -> Result<Plan, SyncError> {
        if self.is_broken() {
            return Err(SyncError::Broken);
        }
        let (target, synced) = (self.next(), self.synced());
        let is_wanted = |segment: &&Arc<Segment>| segment.end() > synced && segment.first < target;
        let segments = self.segments().iter().filter(is_wanted).cloned().collect();
        Ok(Plan { target, segments })
    }

    /// Makes the names of new segments survive.
    fn enter(&self, plan: &Plan) -> io::Result<()> {
        if plan.segments.iter().all(|segment| segment.is_entered()) {
            return Ok(());
        }
        self.storage.sync_directory()?;
        plan.segments.iter().for_each(|segment| segment.set_entered());
        Ok(())
    }

    fn finish(&self, plan: &Plan, result: io::Result<()>) -> Result<u64, SyncError> {
        if let Err(error) = result {
            self.set_broken();
            return Err(SyncError::Failed { code: error.raw_os_error().unwrap_or(0) });
        }
        // Somebody else may have found the disk broken meanwhile; its pages may be among ours.
        if self.is_broken() {
            return Err(SyncError::Broken);
        }
        self.set_synced(plan.target);
        for segment in plan.segments.iter().filter(|segment| segment.end() <= plan.target) {
            segment.keep_open_no_longer();
        }
        Ok(self.synced())
    }
}
