//! One try at a file: a request, its answer, and what is made of a part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use url::Url;

use super::sink::Sink;
use super::{Job, Spot, interrupted, lost};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Failure, nonsense, retry_after, send};
use crate::io::limits::{PARTIAL_BYTES_MIN, READ_TIMEOUT, WRITE_CHUNK_BYTES};
use crate::io::secret::shown;

/// Why a stream ended early.
pub(super) enum Broken {
    /// Another try may help.
    Connection(Box<Failure>, Option<Duration>),
    Final(Box<Error>),
    /// More of it is on the disk than in memory by now.
    Begun,
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
pub(super) async fn stream(
    job: &Arc<Job>,
    spot: &Arc<Spot>,
    url: &Url,
    sink: &mut Option<Sink>,
) -> Result<(), Broken> {
    let have = sink.as_ref().map_or(0, |sink| sink.bytes);
    let known = sink.as_ref().and_then(|sink| sink.etag.clone());
    let mut headers = HeaderMap::new();
    if have > 0 {
        let range = format!("bytes={have}-");
        headers.insert(RANGE, HeaderValue::from_str(&range).map_err(|_| unusable(job))?);
        if let Some(tag) = &known {
            headers.insert(IF_RANGE, tag.clone());
        }
    }
    let pool = job.access.transport.files()?;
    let response = send(pool, url.clone(), &headers, Some(&job.access.credentials)).await?;
    let url = response.url().clone();
    let status = response.status();
    let resumed = status == StatusCode::PARTIAL_CONTENT && have > 0;
    let etag = strong(response.headers());
    if resumed && !continues(response.headers(), have) {
        return Err(nonsense(&url, "another part than it was asked for").into());
    }
    if resumed && known.is_some() && etag.is_some() && etag != known {
        // A part of something else, although the whole was to be sent then.
        restart(job, sink).await?;
        if let Some(place) = spot.place() {
            place.note_tag(None);
        }
        let cause = "it changed meanwhile".to_owned();
        return Err(Failure::BrokenOff { url, cause }.into());
    }
    if !resumed && status != StatusCode::OK {
        if status == StatusCode::RANGE_NOT_SATISFIABLE && have > 0 {
            // The file is shorter than what we have: begin again.
            restart(job, sink).await?;
        }
        let wanted = retry_after(response.headers(), job.gates.time.now());
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
    let have = if resumed { have } else { 0 };
    if let Some(sink) = sink {
        sink.is_pieced = resumed;
        sink.etag = etag;
    }
    let announced = response.content_length().unwrap_or(0).saturating_add(have);
    if announced > job.bytes_max {
        return Err(too_large(&url, job).into());
    }
    let whole = response.content_length().map(|rest| rest.saturating_add(have));
    if sink.as_mut().is_some_and(|sink| !sink.has_room(job, whole)) {
        let (moving, opening) = (Arc::clone(job), Arc::clone(spot));
        if !with_sink(job, sink, move |sink| sink.move_to_disk(&moving, &opening)).await? {
            return Err(Broken::Begun);
        }
    }
    if announced >= PARTIAL_BYTES_MIN
        && let Some(place) = spot.place()
    {
        place.note_tag(sink.as_ref().and_then(|sink| sink.etag.as_ref()));
    }
    receive(job, response, sink, have).await
}

/// The tag of an answer, where it stands for these very bytes.
fn strong(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned()
}

/// The body of an answer, behind the `have` bytes that are there.
async fn receive(
    job: &Arc<Job>,
    mut response: reqwest::Response,
    sink: &mut Option<Sink>,
    have: u64,
) -> Result<(), Broken> {
    let url = response.url().clone();
    let announced = response.content_length().and_then(|bytes| usize::try_from(bytes).ok());
    let chunk_bytes = announced.map_or(WRITE_CHUNK_BYTES, |bytes| bytes.min(WRITE_CHUNK_BYTES));
    let mut gathered = Vec::with_capacity(chunk_bytes);
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
                    return Err(too_large(&url, job).into());
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
async fn write(job: &Arc<Job>, sink: &mut Option<Sink>, bytes: Vec<u8>) -> Result<Vec<u8>, Broken> {
    with_sink(job, sink, move |sink| sink.write(bytes)).await
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
    let _own = Own { began: Instant::now(), sum_ns: &job.own_ns };
    let hired = job.hired.clone();
    let is_in_memory = taken.is_in_memory();
    let worked = tokio::task::spawn_blocking(move || {
        // What is in memory is small, and bounded for the process; waiting behind whole archives that are unpacked would keep the line idle.
        let result = match is_in_memory {
            true => (!hired.order.cancellation.is_cancelled()).then(|| work(&mut taken)),
            false => agents_contract::once(&hired, || work(&mut taken)),
        };
        result.map(|result| (taken, result))
    });
    let worked = worked.await.map_err(|error| interrupted(&error))?;
    let (taken, result) = worked.ok_or_else(Error::cancelled)?;
    *sink = Some(taken);
    result.map_err(|error| Error::io("write", &job.part, &error).into())
}

/// Dropped, also where the time limit falls into a write, it counts what this took.
struct Own<'a> {
    began: Instant,
    sum_ns: &'a AtomicU64,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let took_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
    }
}

fn too_large(url: &Url, job: &Job) -> Error {
    let message = format!("`{}` is larger than {} bytes", shown(url), job.bytes_max);
    Error::new(Kind::Network, "registry-nonsense", message)
        .hint("no package of this size is expected; check what the registry sends")
}

fn unusable(job: &Job) -> Error {
    Error::new(Kind::Failed, "internal", format!("cannot ask for a part of `{}`", shown(&job.url)))
}
