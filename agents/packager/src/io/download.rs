//! Files of packages: fetched in parallel, hashed while they arrive, verified before they get their name.
//!
//! A file appears under its destination only when every digest that is known of it was right. Until then it is in a place named by
//! the digest ([`partial`]), where what broke off waits for the next try, of this process or another. It is gone on with by range,
//! under the condition that the server still has the same (`If-Range`, where it named it unmistakably); parts that do not fit
//! together in the end are fetched once more from the beginning. What is in a file is somebody else's matter.
//!
//! A small file for whoever wants only to read it goes into memory instead ([`memory`]), in the same tries with the same pauses: it is
//! given a place on the disk when an answer says that it is not small, or does not say it.
//!
//! A file has a permit of the host while it is under way. Moving its bytes takes no slot, since that is waiting; each chunk is hashed and
//! written as a piece of work of its own, when it is its turn. The next one is not read before, so a machine that is hot is not sent more
//! than it may compute with. Whoever has a permit waits for slots, and whoever has a slot for nobody.

mod call;
mod memory;
pub(crate) mod partial;
mod sink;
mod spot;
mod stream;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agents_contract::{Hired, Permit, Wait};
use tokio::sync::watch;
use url::Url;

pub(crate) use self::call::run;
pub(crate) use self::memory::Budget;
pub use self::memory::{Held, Slot};
use self::partial::Place;
use self::sink::{Sink, finish};
use self::spot::Spot;
use self::stream::{Broken, stream};
use super::Client;
use super::http::{Failure, Gates, Mirrors, Transport, pause_before_retry};
use super::limits::{
    ARTIFACT_BYTES_MAX, DOWNLOAD_REQUESTS_MAX, DOWNLOAD_RESUMES_MAX, DOWNLOAD_TIMEOUT,
    GUESSES_MISSED_DEARLY_MAX, GUESSES_MISSED_MAX,
};
use super::outside::Service;
use super::secret::{Credentials, shown};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::Hashes;

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct DownloadRequest {
    /// Whose connections and credentials to use.
    pub ecosystem: Ecosystem,
    /// The registry, where it is not the ecosystem's own one; see [`crate::resolution::Artifact::source`].
    pub source: Option<String>,
    /// Where it is; empty where only mirrors of artefacts may know.
    pub url: String,
    /// What it must hash to; all that are given are checked, at least one must be.
    pub hashes: Hashes,
    /// Where it goes; its directory exists, and belongs to nobody else while this runs.
    pub destination: PathBuf,
    /// Where it may be instead, if it is small: whoever fetches reads it once, and its destination is not needed.
    pub slot: Option<Slot>,
    /// The most that is accepted; `None` is the general bound.
    pub bytes_max: Option<u64>,
    /// Whether the address is a guess: that this file is not to be had there is told ([`Told::Missed`]) and ends nothing, for at most
    /// [`GUESSES_MISSED_MAX`] files of a call, and [`GUESSES_MISSED_DEARLY_MAX`] of those for which nobody answered or other bytes came.
    pub is_guess: bool,
}

/// Whether files outlive a power loss when the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Left to the kernel; the caller syncs, or can fetch again.
    Buffered,
    /// Each file's content is synced before it gets its name (the directory is not).
    Synced,
}

/// What the caller hears while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// How far a file is.
    File(Progress<'a>),
    /// None of its files is under way, and the next one has to wait.
    Waits(Wait),
    /// A file is not where it was guessed to be.
    Missed {
        /// The index of the request.
        index: usize,
        /// What came of asking there.
        error: &'a Error,
    },
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The index of the request.
    pub index: usize,
    /// The name of the destination.
    pub file_name: &'a str,
    /// Bytes of it that are there.
    pub bytes: u64,
    /// Whether it is complete and verified.
    pub done: bool,
}

/// One fetched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Its size.
    pub bytes: u64,
    /// Both digests where both were asked for, else the one.
    pub hashes: Hashes,
}

/// Connections and credentials of one ecosystem.
#[derive(Clone, Debug)]
pub(crate) struct FileAccess {
    pub(crate) transport: Arc<Transport>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) mirrors: Arc<Mirrors>,
}

/// One request, checked.
struct Job {
    ecosystem: Ecosystem,
    /// Where the registry has it, or for messages the first mirror that may.
    url: Url,
    /// Where it may be asked for by its digest, before that.
    artifacts: Vec<Url>,
    /// Whether nobody but the registry is asked any more: somebody gave something else.
    is_registry_only: AtomicBool,
    /// Whether the registry is known to have it.
    has_registry: bool,
    hashes: Hashes,
    destination: PathBuf,
    part: PathBuf,
    partials: PathBuf,
    /// Where it is laid down if it is small; nothing where it goes to the disk.
    slot: Option<Slot>,
    budget: Arc<Budget>,
    gates: Arc<Gates>,
    bytes_max: u64,
    access: FileAccess,
    durability: Durability,
    progress: Arc<AtomicU64>,
    /// What hashing and writing, and waiting for a slot to do so, took within the try that is under way.
    own_ns: AtomicU64,
    /// Who hashes and writes.
    hired: Hired,
}

impl Job {
    /// Where the file may be, in the order in which it is asked for.
    fn addresses(&self) -> Vec<Url> {
        if self.is_registry_only.load(Ordering::Relaxed) {
            return vec![self.url.clone()];
        }
        let mut addresses = self.artifacts.clone();
        if self.has_registry {
            addresses.extend(self.access.mirrors.addresses(&self.url, &self.gates.ailing));
        }
        addresses
    }
}

/// Where mirrors of artefacts have what has this digest.
fn by_digest(mirrors: &[Url], hashes: &Hashes) -> Vec<Url> {
    let (algorithm, digest) = match (&hashes.sha512, &hashes.sha256) {
        (Some(digest), _) => ("sha512", digest),
        (None, Some(digest)) => ("sha256", digest),
        (None, None) => return Vec::new(),
    };
    let path = format!("v1/{algorithm}/{digest}");
    mirrors.iter().filter_map(|mirror| mirror.join(&path).ok()).collect()
}

fn file_name(request: &DownloadRequest) -> &str {
    request.destination.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn part_of(request: &DownloadRequest) -> PathBuf {
    let mut name = request.destination.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn check(
    client: &Client,
    (requests, durability): (&[DownloadRequest], Durability),
    hired: &Hired,
) -> Result<Vec<Job>> {
    if requests.len() > DOWNLOAD_REQUESTS_MAX {
        let message =
            format!("{} files at once; {DOWNLOAD_REQUESTS_MAX} are allowed", requests.len());
        return Err(Error::new(Kind::Failed, "too-many-files", message));
    }
    if client.session().request.offline
        && let Some(request) = requests.first()
    {
        let message = format!("`{}` is not fetched offline", file_name(request));
        return Err(Error::new(Kind::Network, "offline-missing", message));
    }
    let mut destinations = HashSet::new();
    let mut accesses: HashMap<(Ecosystem, Option<&str>), FileAccess> = HashMap::new();
    let mut jobs = Vec::with_capacity(requests.len());
    for request in requests {
        let name = file_name(request);
        if request.hashes.is_empty() {
            let message =
                format!("`{name}` has no SHA-256 or SHA-512 that it could be verified with");
            return Err(Error::new(Kind::Verification, "hash-missing", message)
                .hint("choose a version whose registry entry has a strong hash"));
        }
        if !destinations.insert(&request.destination) {
            // Two tasks would write one part, and one would name what the other has not verified.
            let message =
                format!("`{}` is the destination of two downloads", request.destination.display());
            return Err(Error::new(Kind::Failed, "internal", message));
        }
        let session = client.session();
        let artifacts = by_digest(session.request.overrides.artifacts(), &request.hashes);
        let has_registry = !request.url.is_empty();
        let url = match (has_registry, artifacts.first()) {
            (false, Some(first)) => Some(first.clone()),
            _ => Url::parse(&request.url).ok(),
        };
        let Some(mut url) = url.filter(|url| matches!(url.scheme(), "https" | "http")) else {
            let message = format!("the registry gives no usable address for `{name}`");
            return Err(Error::new(Kind::Network, "registry-nonsense", message));
        };
        let _ = super::secret::take_userinfo(&mut url);
        let whose = (request.ecosystem, request.source.as_deref());
        let access = match accesses.get(&whose) {
            Some(access) => access.clone(),
            None => {
                let access = client.files_of(whose.0, whose.1)?;
                accesses.insert(whose, access.clone());
                access
            }
        };
        jobs.push(Job {
            ecosystem: request.ecosystem,
            url,
            artifacts,
            is_registry_only: AtomicBool::new(false),
            has_registry,
            partials: session.shared.partials.clone(),
            slot: slot_of(request, durability),
            budget: Arc::clone(&session.shared.budget),
            gates: Arc::clone(&session.shared.gates),
            hashes: request.hashes.clone(),
            destination: request.destination.clone(),
            part: part_of(request),
            bytes_max: request.bytes_max.unwrap_or(ARTIFACT_BYTES_MAX),
            access,
            durability,
            progress: Arc::default(),
            own_ns: AtomicU64::new(0),
            hired: hired.clone(),
        });
    }
    Ok(jobs)
}

/// Where a file may be laid down in memory.
fn slot_of(request: &DownloadRequest, durability: Durability) -> Option<Slot> {
    request.slot.clone().filter(|_| durability == Durability::Buffered)
}

/// Fetches one file. The permit is given back when this ends.
async fn fetch(
    _permit: Permit,
    job: Job,
    mut cancelled: watch::Receiver<()>,
) -> Result<Downloaded> {
    let (job, spot) = (Arc::new(job), Arc::<Spot>::default());
    let mut may_begin_again = true;
    loop {
        // Only until everything has arrived: giving the file its name is never cut in two.
        let transferred = tokio::select! {
            transferred = transfer(&job, &spot) => transferred,
            _ = cancelled.changed() => Err(Error::new(Kind::Failed, "cancelled", "another download failed")),
        };
        let (result, is_pieced) = match transferred {
            Ok(sink) => {
                let is_pieced = sink.is_pieced;
                (settle(&job, &spot, sink).await, is_pieced)
            }
            Err(error) => (Err(error), false),
        };
        let Err(error) = &result else { return result };
        let is_doubtful = is_pieced || job.addresses().len() > 1;
        if error.code == "hash-mismatch" && is_doubtful && may_begin_again {
            // The parts may be of different files, or a mirror's, which says nothing about the registry's.
            tracing::debug!(url = shown(&job.url), "what came is not right: from the beginning");
            may_begin_again = false;
            job.is_registry_only.store(job.has_registry, Ordering::Relaxed);
            let _ = spot.empty();
            continue;
        }
        let keep = error.kind == Kind::Network || error.code == "cancelled";
        if !spot.give_up(keep && error.code != "registry-nonsense") {
            return result;
        }
        if keep {
            // What is left behind must not become too much, whatever servers do.
            let _ = partial::collect(&job.partials, job.gates.time.now());
        }
        return result;
    }
}

/// Verifies what has come, and lays it down where it belongs.
async fn settle(job: &Arc<Job>, spot: &Arc<Spot>, sink: Sink) -> Result<Downloaded> {
    if sink.is_in_memory() {
        // Nothing is left to compute or to write.
        return finish(job, spot, sink);
    }
    let (job, spot) = (Arc::clone(job), Arc::clone(spot));
    let finished = tokio::task::spawn_blocking(move || finish(&job, &spot, sink)).await;
    finished.unwrap_or_else(|error| Err(interrupted(&error)))
}

/// Everything of one file, over as many connections, and from as many servers, as it takes.
async fn transfer(job: &Arc<Job>, spot: &Arc<Spot>) -> Result<Sink> {
    let mut sink = Some(open(job, spot).await?);
    if sink.as_ref().is_some_and(|sink| sink.is_complete(&job.hashes)) {
        return sink.ok_or_else(lost);
    }
    let mut addresses = job.gates.ailing.last(job.addresses()).into_iter();
    let mut url = addresses.next().ok_or_else(|| unaddressed(job))?;
    let (mut attempt, mut resumes) = (0, 0);
    loop {
        attempt += 1;
        let before = sink.as_ref().map_or(0, |sink| sink.bytes);
        let asked = Instant::now();
        let limited = tokio::time::timeout(DOWNLOAD_TIMEOUT, stream(job, spot, &url, &mut sink));
        let limited = limited.await;
        // Hashing and writing, and waiting for a slot to do so, is no time of the server's.
        let own = Duration::from_nanos(job.own_ns.swap(0, Ordering::Relaxed));
        let took = asked.elapsed().saturating_sub(own);
        job.gates.outside.note(Service::Files(job.ecosystem), took);
        let broken = match limited {
            Ok(Ok(())) => break,
            Ok(Err(broken)) => broken,
            Err(_) => Broken::from(Failure::TooSlow { url: url.clone(), limit: DOWNLOAD_TIMEOUT }),
        };
        let (failure, wanted) = match broken {
            Broken::Connection(failure, wanted) => (*failure, wanted),
            Broken::Begun => {
                // That is no try: nothing was lost, and it happens once.
                attempt -= 1;
                let there = open(job, spot).await?;
                if there.is_complete(&job.hashes) {
                    return Ok(there);
                }
                sink = Some(there);
                continue;
            }
            Broken::Final(error) => {
                // One that sends nonsense must not keep the file from whoever has it.
                let next = addresses.next().filter(|_| error.code == "registry-nonsense");
                let Some(next) = next else { return Err(*error) };
                tracing::warn!(%error, next = shown(&next), "the next server is asked");
                (url, attempt, resumes) = (next, 0, 0);
                // What it sent before may be nonsense, too.
                sink = Some(open_anew(job, spot).await?);
                continue;
            }
        };
        // A server that trickles is not waited for again while another one is left.
        let is_left =
            matches!(failure, Failure::TooSlow { .. }) && !addresses.as_slice().is_empty();
        // Progress pays for further tries; a connection that breaks at once again and again does not.
        if sink.as_ref().is_some_and(|sink| sink.bytes > before) && resumes < DOWNLOAD_RESUMES_MAX {
            resumes += 1;
            attempt = 1;
        }
        match pause_before_retry(&failure, attempt, wanted).filter(|_| !is_left) {
            Some(pause) => job.gates.time.pause(pause).await,
            None => {
                // Whoever has the bytes may give them, since the digest decides. What one server refuses another one may have.
                let next = addresses.next().filter(|_| failure.may_differ_elsewhere());
                let Some(next) = next else { return Err(failure.into()) };
                if failure.is_transient() {
                    job.gates.ailing.note(&url);
                }
                tracing::debug!(%failure, next = shown(&next), "the next server is asked");
                (url, attempt, resumes) = (next, 0, 0);
            }
        }
        if sink.is_none() {
            // The time limit fell into a write, which took the sink along.
            sink = Some(open(job, spot).await?);
        }
    }
    sink.ok_or_else(lost)
}

/// The same without what is there.
async fn open_anew(job: &Arc<Job>, spot: &Arc<Spot>) -> Result<Sink> {
    spot.empty().map_err(|error| Error::io("write", &job.part, &error))?;
    open(job, spot).await
}

/// What is there already, hashed as a piece of work: it may be large. Nothing is where it goes into memory; what broke off on the disk, also
/// another process's since the call began, is gone on with there.
async fn open(job: &Arc<Job>, spot: &Arc<Spot>) -> Result<Sink> {
    let may_be_held = job.slot.is_some() && spot.place().is_none();
    if may_be_held && !Place::is_begun(&job.partials, &job.hashes) {
        job.progress.store(0, Ordering::Relaxed);
        return Ok(Sink::nowhere(job));
    }
    let (opening, spot) = (Arc::clone(job), Arc::clone(spot));
    let opened = tokio::task::spawn_blocking(move || {
        // Its own lock and name cost little; who waits for a slot has them.
        let place = match spot.open(&opening) {
            Ok(place) => place,
            Err(error) => return Some(Err(error)),
        };
        let hired = opening.hired.clone();
        agents_contract::once(&hired, || Sink::open(&opening, place))
    });
    let opened = opened.await.map_err(|error| interrupted(&error))?;
    let sink = opened.ok_or_else(Error::cancelled)?;
    let sink = sink.map_err(|error| Error::io("write", &job.part, &error))?;
    job.progress.store(sink.bytes, Ordering::Relaxed);
    Ok(sink)
}

/// Whether a file that was not found where it was guessed to be may be elsewhere: a server did not have it, had another one, or sent on to where
/// nobody is. One that is overloaded is not asked for more.
fn may_be_elsewhere(error: &Error) -> bool {
    match error.code.as_str() {
        "registry-error" => !error.retry,
        code => matches!(code, "registry-nonsense" | "registry-unreachable" | "hash-mismatch"),
    }
}

fn unaddressed(job: &Job) -> Error {
    let name = job.destination.display();
    Error::new(Kind::Failed, "internal", format!("nobody is known to have `{name}`"))
}

fn lost() -> Error {
    Error::new(Kind::Failed, "internal", "a download has lost its file")
}

fn interrupted(error: &tokio::task::JoinError) -> Error {
    Error::new(Kind::Failed, "internal", format!("a download was interrupted: {error}")).retryable()
}

#[cfg(test)]
mod tests;
