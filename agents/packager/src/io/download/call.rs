//! One call: all of its files or none. A thread of its own starts a file whenever the host lets one more be under way; the caller hears
//! of progress, of a standstill, and of the first failure, which stops everything.
//!
//! That a file waits for its turn while others of the call are under way is how a call goes, and nobody is told.

mod standstill;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agents_contract::{Cancellation, Hired, Order, Undertaking, Work};
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::standstill::{Standstill, Turn};
use super::{
    DownloadRequest, Downloaded, Durability, GUESSES_MISSED_DEARLY_MAX, GUESSES_MISSED_MAX, Job,
    Progress, Slot, Told, check, fetch, file_name, may_be_elsewhere,
};
use crate::error::{Error, Kind, Result};
use crate::io::Client;
use crate::io::limits::CANCELLATION_INTERVAL;

/// How often the caller hears of progress of files that are not complete.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// See [`Client::download`].
pub(crate) fn run(
    client: &Client,
    (requests, durability): (&[DownloadRequest], Durability),
    order: &Order,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Vec<Downloaded>> {
    let threads = &client.session().shared.threads;
    // Of the caller, and of whom the work is for; the one below also ends what is left of a call that failed.
    let of_session = client.session().request.cancellation.clone();
    let cancellation = Cancellation::any([of_session, order.cancellation.clone()]);
    let stop = Stop(Cancellation::until(None));
    let order = Order { cancellation: stop.0.clone(), ..order.clone() };
    let hired = Hired { host: Arc::clone(threads.host()), order, work: Work::Unpack };
    let jobs = check(client, (requests, durability), &hired)?;
    let counters = jobs.iter().map(|job| Arc::clone(&job.progress)).collect();
    let turn = Arc::new(Turn::default());
    let waiting = Waiting {
        requests,
        counters,
        told: vec![0; requests.len()],
        told_at: Instant::now(),
        turn: Arc::clone(&turn),
        standstill: Standstill::default(),
        tell,
        cancellation: &cancellation,
    };
    // As many places as results: a task never waits for the caller.
    let (sender, receiver) = sync_channel(requests.len().max(1));
    // Dropped when this function ends for whatever reason, which stops the tasks.
    let (cancel, cancelled) = watch::channel(());
    let starter = Starter { files: threads.files()?.clone(), hired, turn, sender, cancelled };
    std::thread::scope(|scope| {
        let named = std::thread::Builder::new().name("downloads".to_owned());
        let started = named.spawn_scoped(scope, move || starter.start(jobs));
        started.map_err(|error| {
            let message = format!("cannot start a thread for downloads: {error}");
            Error::new(Kind::Failed, "io", message)
        })?;
        waiting.all_or_nothing(&receiver, || {
            drop(cancel);
            drop(stop);
        })
    })
}

/// Dropped, also by a panic of the caller's, it ends what waits for its turn.
struct Stop(Cancellation);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What starts the files.
struct Starter {
    files: Handle,
    hired: Hired,
    turn: Arc<Turn>,
    sender: SyncSender<(usize, Result<Downloaded>)>,
    cancelled: watch::Receiver<()>,
}

impl Starter {
    /// In the order of the requests; the host lets other callers have their turns in between.
    fn start(self, jobs: Vec<Job>) {
        let Self { files, hired, turn, sender, cancelled } = self;
        let waits = |wait| turn.waits(wait);
        for (index, job) in jobs.into_iter().enumerate() {
            let permit = hired.host.begin(&hired.order, Undertaking::Download, &waits);
            let Some(permit) = permit else { return };
            turn.begins();
            let (sender, cancelled) = (sender.clone(), cancelled.clone());
            files.spawn(async move {
                let result = fetch(permit, job, cancelled).await;
                // Nobody listens any more where the caller has panicked.
                let _ = sender.send((index, result));
            });
        }
    }
}

type Outcomes = Receiver<(usize, Result<Downloaded>)>;

/// The caller's side while the tasks work.
struct Waiting<'a> {
    requests: &'a [DownloadRequest],
    counters: Vec<Arc<AtomicU64>>,
    told: Vec<u64>,
    /// When everything was looked at last.
    told_at: Instant,
    turn: Arc<Turn>,
    standstill: Standstill,
    tell: &'a mut dyn FnMut(Told<'_>),
    cancellation: &'a Cancellation,
}

impl Waiting<'_> {
    /// What was fetched; `stop` ends the rest after a failure.
    fn all_or_nothing(
        mut self,
        outcomes: &Outcomes,
        stop: impl FnOnce(),
    ) -> Result<Vec<Downloaded>> {
        let mut results: Vec<Option<Downloaded>> = vec![None; self.requests.len()];
        let Err(error) = self.collect(outcomes, &mut results) else {
            return Ok(results.into_iter().flatten().collect());
        };
        stop();
        // Each task tells its end, so nothing reappears behind our back.
        for (index, result) in outcomes {
            results[index] = result.ok();
        }
        let complete = self.requests.iter().zip(results).filter(|(_, result)| result.is_some());
        for (request, _) in complete {
            // The caller gets all or nothing.
            let _ = std::fs::remove_file(&request.destination);
            drop(request.slot.as_ref().and_then(Slot::take));
        }
        Err(error)
    }

    /// Whether a file may only be elsewhere.
    fn is_missed(&mut self, index: usize, error: &Error) -> bool {
        // No more is told of what was on its way.
        self.told[index] = self.counters[index].load(Ordering::Relaxed);
        self.requests[index].is_guess && may_be_elsewhere(error)
    }

    /// Until everything is there or missed, or the first failure.
    fn collect(&mut self, outcomes: &Outcomes, results: &mut [Option<Downloaded>]) -> Result<()> {
        let (mut left, mut missed, mut dearly) = (results.len(), 0, 0);
        while left > 0 {
            Error::if_cancelled(self.cancellation)?;
            let ended = results.len() - left;
            if let Some(wait) = self.standstill.look(&self.turn, ended, Instant::now()) {
                (self.tell)(Told::Waits(wait));
            }
            match outcomes.recv_timeout(CANCELLATION_INTERVAL) {
                Ok((index, result)) => {
                    left -= 1;
                    match result {
                        Err(error) if self.is_missed(index, &error) => {
                            missed += 1;
                            dearly += usize::from(error.code != "registry-error");
                            (self.tell)(Told::Missed { index, error: &error });
                            if missed > GUESSES_MISSED_MAX || dearly > GUESSES_MISSED_DEARLY_MAX {
                                return Err(error);
                            }
                        }
                        result => {
                            let downloaded = result?;
                            self.tell_of(index, downloaded.bytes, true);
                            results[index] = Some(downloaded);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.told_at.elapsed() < PROGRESS_INTERVAL => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.told_at = Instant::now();
                    for (index, result) in results.iter().enumerate() {
                        let bytes = self.counters[index].load(Ordering::Relaxed);
                        if result.is_none() && bytes != self.told[index] {
                            self.tell_of(index, bytes, false);
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let error = Error::new(Kind::Failed, "internal", "a download was interrupted");
                    return Err(error.retryable());
                }
            }
        }
        Ok(())
    }

    fn tell_of(&mut self, index: usize, bytes: u64, done: bool) {
        self.told[index] = bytes;
        let file_name = file_name(&self.requests[index]);
        (self.tell)(Told::File(Progress { index, file_name, bytes, done }));
    }
}
