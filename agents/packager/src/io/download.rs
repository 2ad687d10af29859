//! Files of packages: fetched in parallel, hashed while they arrive, verified before they get their name.
//!
//! A file appears under its destination only when every digest that is known of it was right. Until then it is
//! `DESTINATION.part`, which is removed on failure. What is in a file is somebody else's matter.
//!
//! A file has a permit of the host while it is under way. Moving its bytes takes no slot, since that is waiting; each chunk is hashed and
//! written as a piece of work of its own, when it is its turn. The next one is not read before, so a machine that is hot is not sent more
//! than it may compute with. Whoever has a permit waits for slots, and whoever has a slot for nobody.

mod call;
mod sink;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agents_contract::{Hired, Permit, Wait};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use tokio::sync::watch;
use url::Url;

pub(crate) use self::call::run;
use self::sink::{Sink, finish};
use super::Client;
use super::http::{Failure, Transport, pause_before_retry, retry_after, send};
use super::limits::{
    ARTIFACT_BYTES_MAX, DOWNLOAD_REQUESTS_MAX, DOWNLOAD_RESUMES_MAX, DOWNLOAD_TIMEOUT,
    READ_TIMEOUT, WRITE_CHUNK_BYTES,
};
use super::secret::{Credentials, shown};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::Hashes;

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct DownloadRequest {
    /// Whose connections and credentials to use.
    pub ecosystem: Ecosystem,
    /// Where it is.
    pub url: String,
    /// What it must hash to; all that are given are checked, at least one must be.
    pub hashes: Hashes,
    /// Where it goes; its directory exists, and belongs to nobody else while this runs.
    pub destination: PathBuf,
    /// The most that is accepted; `None` is the general bound.
    pub bytes_max: Option<u64>,
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
}

/// One request, checked.
struct Job {
    url: Url,
    hashes: Hashes,
    destination: PathBuf,
    part: PathBuf,
    bytes_max: u64,
    access: FileAccess,
    durability: Durability,
    progress: Arc<AtomicU64>,
    /// Who hashes and writes.
    hired: Hired,
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
    let mut destinations = HashSet::new();
    let mut accesses: [Option<FileAccess>; 3] = [None, None, None];
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
        let url =
            Url::parse(&request.url).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
        let Some(mut url) = url else {
            let message = format!("the registry gives no usable address for `{name}`");
            return Err(Error::new(Kind::Network, "registry-nonsense", message));
        };
        let _ = super::secret::take_userinfo(&mut url);
        let place = &mut accesses[request.ecosystem as usize];
        let access = match place {
            Some(access) => access.clone(),
            None => place.insert(client.files_of(request.ecosystem)?).clone(),
        };
        jobs.push(Job {
            url,
            hashes: request.hashes.clone(),
            destination: request.destination.clone(),
            part: part_of(request),
            bytes_max: request.bytes_max.unwrap_or(ARTIFACT_BYTES_MAX),
            access,
            durability,
            progress: Arc::default(),
            hired: hired.clone(),
        });
    }
    Ok(jobs)
}

/// Fetches one file. The permit is given back when this ends.
async fn fetch(
    _permit: Permit,
    job: Job,
    mut cancelled: watch::Receiver<()>,
) -> Result<Downloaded> {
    let job = Arc::new(job);
    // Only until everything has arrived: giving the file its name is never cut in two.
    let transferred = tokio::select! {
        transferred = transfer(&job) => transferred,
        _ = cancelled.changed() => Err(Error::new(Kind::Failed, "cancelled", "another download failed")),
    };
    let result = match transferred {
        Ok(sink) => {
            let job = Arc::clone(&job);
            let finished = tokio::task::spawn_blocking(move || finish(&job, sink)).await;
            finished.unwrap_or_else(|error| Err(interrupted(&error)))
        }
        Err(error) => Err(error),
    };
    if result.is_err() {
        let _ = std::fs::remove_file(&job.part);
    }
    result
}

/// Everything of one file, over as many connections as it takes.
async fn transfer(job: &Arc<Job>) -> Result<Sink> {
    let write_error = |error: std::io::Error| Error::io("write", &job.part, &error);
    let mut sink = Some(Sink::create(job).map_err(write_error)?);
    let mut etag = None;
    let (mut attempt, mut resumes) = (0, 0);
    loop {
        attempt += 1;
        let before = sink.as_ref().map_or(0, |sink| sink.bytes);
        let limited = tokio::time::timeout(DOWNLOAD_TIMEOUT, stream(job, &mut sink, &mut etag));
        let broken = match limited.await {
            Ok(Ok(())) => break,
            Ok(Err(broken)) => broken,
            Err(_) => {
                Broken::from(Failure::TooSlow { url: job.url.clone(), limit: DOWNLOAD_TIMEOUT })
            }
        };
        let (failure, wanted) = match broken {
            Broken::Connection(failure, wanted) => (*failure, wanted),
            Broken::Final(error) => return Err(*error),
        };
        // Progress pays for further tries; a connection that breaks at once again and again does not.
        if sink.as_ref().is_some_and(|sink| sink.bytes > before) && resumes < DOWNLOAD_RESUMES_MAX {
            resumes += 1;
            attempt = 1;
        }
        match pause_before_retry(&failure, attempt, wanted) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(failure.into()),
        }
        if sink.is_none() {
            // The time limit fell into a write, which took the sink along.
            sink = Some(Sink::create(job).map_err(write_error)?);
        }
    }
    sink.ok_or_else(lost)
}

/// Why a stream ended early.
enum Broken {
    /// Another try may help.
    Connection(Box<Failure>, Option<Duration>),
    Final(Box<Error>),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Connection(Box::new(failure), None)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Final(Box::new(error))
    }
}

/// One try: from where the file ends to the end of the answer.
async fn stream(
    job: &Arc<Job>,
    sink: &mut Option<Sink>,
    etag: &mut Option<HeaderValue>,
) -> Result<(), Broken> {
    let have = sink.as_ref().map_or(0, |sink| sink.bytes);
    let mut headers = HeaderMap::new();
    if have > 0 {
        let range = format!("bytes={have}-");
        headers.insert(RANGE, HeaderValue::from_str(&range).map_err(|_| unusable(job))?);
        if let Some(tag) = etag.as_ref() {
            headers.insert(IF_RANGE, tag.clone());
        }
    }
    let client = &job.access.transport.files;
    let mut response =
        send(client, job.url.clone(), &headers, Some(&job.access.credentials)).await?;
    let url = response.url().clone();
    let status = response.status();
    let resumed = status == StatusCode::PARTIAL_CONTENT && have > 0;
    if resumed && !continues(response.headers(), have) {
        return Err(super::http::nonsense(&url, "another part than it was asked for").into());
    }
    if !resumed && status != StatusCode::OK {
        if status == StatusCode::RANGE_NOT_SATISFIABLE && have > 0 {
            // The file is shorter than what we have: begin again.
            restart(job, sink).await?;
        }
        let wanted = retry_after(response.headers());
        let failure = match status {
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Failure::BrokenOff { url, cause: format!("status {status}") }
            }
            _ => Failure::Status { url, status },
        };
        return Err(Broken::Connection(Box::new(failure), wanted));
    }
    if !resumed && have > 0 {
        restart(job, sink).await?;
    }
    *etag = response.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned();
    let have = if resumed { have } else { 0 };
    if response.content_length().unwrap_or(0).saturating_add(have) > job.bytes_max {
        return Err(too_large(job).into());
    }
    let mut gathered = Vec::with_capacity(WRITE_CHUNK_BYTES);
    let mut received = have;
    loop {
        let chunk = tokio::time::timeout(READ_TIMEOUT, response.chunk()).await;
        let chunk = match chunk {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Failure::from_reqwest(&url, error)),
            Err(_) => Err(Failure::TooSlow { url: url.clone(), limit: READ_TIMEOUT }),
        };
        match chunk {
            Ok(Some(chunk)) => {
                received = received.saturating_add(chunk.len() as u64);
                if received > job.bytes_max {
                    return Err(too_large(job).into());
                }
                gathered.extend_from_slice(&chunk);
                job.progress.store(received, Ordering::Relaxed);
                if gathered.len() >= WRITE_CHUNK_BYTES {
                    gathered = write(job, sink, gathered).await?;
                }
            }
            Ok(None) => {
                write(job, sink, gathered).await?;
                return Ok(());
            }
            Err(failure) => {
                // What arrived is kept; the next try goes on behind it.
                write(job, sink, gathered).await?;
                return Err(failure.into());
            }
        }
    }
}

/// Whether a part starts where our file ends.
fn continues(headers: &HeaderMap, have: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.trim().strip_prefix("bytes ")?.split_once('-'));
    start.is_some_and(|(start, _)| start.trim().parse() == Ok(have))
}

/// Hashes and writes, when it is its turn; gives the emptied buffer back.
async fn write(
    job: &Arc<Job>,
    sink: &mut Option<Sink>,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, Broken> {
    with_sink(job, sink, move |sink| {
        let result = sink.write(&bytes);
        bytes.clear();
        result.map(|()| bytes)
    })
    .await
}

async fn restart(job: &Arc<Job>, sink: &mut Option<Sink>) -> Result<(), Broken> {
    let hashes = job.hashes.clone();
    job.progress.store(0, Ordering::Relaxed);
    with_sink(job, sink, move |sink| sink.restart(&hashes)).await
}

async fn with_sink<T: Send + 'static>(
    job: &Arc<Job>,
    sink: &mut Option<Sink>,
    work: impl FnOnce(&mut Sink) -> std::io::Result<T> + Send + 'static,
) -> Result<T, Broken> {
    let Some(mut taken) = sink.take() else {
        return Err(lost().into());
    };
    let hired = job.hired.clone();
    let worked = tokio::task::spawn_blocking(move || {
        let result = agents_contract::once(&hired, || work(&mut taken));
        result.map(|result| (taken, result))
    });
    let worked = worked.await.map_err(|error| interrupted(&error))?;
    let (taken, result) = worked.ok_or_else(Error::cancelled)?;
    *sink = Some(taken);
    result.map_err(|error| Error::io("write", &job.part, &error).into())
}

fn too_large(job: &Job) -> Error {
    let message = format!("`{}` is larger than {} bytes", shown(&job.url), job.bytes_max);
    Error::new(Kind::Network, "registry-nonsense", message)
        .hint("no package of this size is expected; check what the registry sends")
}

fn unusable(job: &Job) -> Error {
    Error::new(Kind::Failed, "internal", format!("cannot ask for a part of `{}`", shown(&job.url)))
}

fn lost() -> Error {
    Error::new(Kind::Failed, "internal", "a download has lost its file")
}

fn interrupted(error: &tokio::task::JoinError) -> Error {
    Error::new(Kind::Failed, "internal", format!("a download was interrupted: {error}")).retryable()
}

#[cfg(test)]
mod tests;
