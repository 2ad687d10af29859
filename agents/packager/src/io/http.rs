//! Requests to registries: bounded in number, time, size, redirects and tries; credentials only where they
//! belong. What an answer means is up to the ecosystem's module.

mod failure;
mod mirrors;
mod retry;
mod transport;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE,
};
use reqwest::header::{CONTENT_TYPE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RANGE};
use reqwest::{Response, StatusCode};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use url::Url;

pub(crate) use self::failure::{Failure, nonsense};
pub(crate) use self::mirrors::{Ailing, Mirrors};
pub(crate) use self::retry::{RealTime, Time, is_transient, pause_before_retry, retry_after};
pub(crate) use self::transport::{Pool, Transport, Transports};
use super::limits::{
    ANNOUNCED_BYTES_MAX, ANNOUNCED_REQUESTS_MAX, DEMANDED_REQUESTS_MAX, DOWNLOAD_TIMEOUT,
    METADATA_TIMEOUT, READ_TIMEOUT, REDIRECTS_MAX,
};
use super::outside::{Outside, Service};
use super::secret::Credentials;
use crate::error::{Error, Result};

/// What a server gave to ask later whether something changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

impl Validators {
    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// One GET.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    /// `bytes=...`; the answer is then taken as it is, without content coding.
    pub(crate) range: Option<String>,
    /// Whether the answer is a file, which is taken without content coding and may be large: it has the time of a download.
    pub(crate) is_file: bool,
    pub(crate) validators: Option<&'a Validators>,
    /// Where credentials are looked up; `None` asks without.
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) bytes_max: usize,
}

impl<'a> Request<'a> {
    pub(crate) fn new(url: Url, credentials: Option<&'a Credentials>, bytes_max: usize) -> Self {
        Self {
            url,
            accept: None,
            range: None,
            is_file: false,
            validators: None,
            credentials,
            bytes_max,
        }
    }

    /// The longest time for one try.
    pub(super) fn limit(&self) -> Duration {
        if self.is_file { DOWNLOAD_TIMEOUT } else { METADATA_TIMEOUT }
    }

    /// The same for a mirror: what one server said of its answers means nothing to another one.
    fn of_mirror(self) -> Self {
        Self { validators: None, ..self }
    }
}

/// An answer with its body, whatever its status; never 429 or 5xx.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Where it finally came from.
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The same without what the mirror would like to be asked with: it is the registry that is asked next time, and its
    /// "not changed" would confirm what it never sent.
    fn of_mirror(mut self) -> Self {
        self.headers.remove(ETAG);
        self.headers.remove(LAST_MODIFIED);
        self
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &reqwest::header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `text/html`, in lower case and without parameters.
    pub(crate) fn media_type(&self) -> String {
        let value = self.header(&CONTENT_TYPE).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(crate) fn validators(&self) -> Validators {
        Validators {
            etag: self.header(&ETAG).map(str::to_owned),
            last_modified: self.header(&LAST_MODIFIED).map(str::to_owned),
        }
    }

    /// Whether the registry says that there is no such thing.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE)
    }

    /// The error for a status that nobody expected.
    pub(crate) fn unexpected(&self) -> Error {
        Failure::Status { url: self.url.clone(), status: self.status }.into()
    }
}

/// Whether somebody waits for a request, or it was only announced. Shared by the asker and the request.
#[derive(Debug, Default)]
pub(crate) struct Urgency {
    demanded: AtomicBool,
    changed: Notify,
}

impl Urgency {
    /// From now on somebody waits.
    pub(crate) fn demand(&self) {
        // Release pairs with the acquire in `is_demanded`; the notification wakes a request in the queue.
        self.demanded.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_demanded(&self) -> bool {
        self.demanded.load(Ordering::Acquire)
    }
}

/// What requests of all ecosystems share. The two queues: what somebody waits for never stands behind what was only announced.
#[derive(Debug)]
pub(crate) struct Gates {
    demanded: Semaphore,
    announced: Semaphore,
    /// What passes between two tries.
    pub(crate) time: Arc<dyn Time>,
    /// Who did not answer lately.
    pub(crate) ailing: Ailing,
    /// How long they took.
    pub(crate) outside: Outside,
}

impl Gates {
    pub(crate) fn new(time: Arc<dyn Time>) -> Self {
        Self {
            demanded: Semaphore::new(DEMANDED_REQUESTS_MAX),
            announced: Semaphore::new(ANNOUNCED_REQUESTS_MAX),
            time,
            ailing: Ailing::default(),
            outside: Outside::default(),
        }
    }

    async fn enter(&self, urgency: &Urgency) -> Option<SemaphorePermit<'_>> {
        let changed = urgency.changed.notified();
        tokio::pin!(changed);
        // Registered before the flag is read, so that a demand in between is not missed.
        changed.as_mut().enable();
        if !urgency.is_demanded() {
            tokio::select! {
                permit = self.announced.acquire() => return permit.ok(),
                () = &mut changed => {}
            }
        }
        tokio::select! {
            permit = self.demanded.acquire() => permit.ok(),
            permit = self.announced.acquire() => permit.ok(),
        }
    }
}

/// Sends requests of one ecosystem.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) service: Service,
    pub(crate) transport: Arc<Transport>,
    pub(crate) gates: Arc<Gates>,
    pub(crate) mirrors: Arc<Mirrors>,
}

impl Http {
    /// Sends a request until it is answered, by the registry or by a mirror of it, or the tries are used up.
    ///
    /// What there is not, only the registry can say: a mirror's refusal is a failure of the mirror. Of several failures the
    /// registry's own is told.
    pub(crate) async fn get(&self, request: &Request<'_>, urgency: &Urgency) -> Result<Reply> {
        let mut told: Option<Failure> = None;
        for url in self.mirrors.addresses(&request.url, &self.gates.ailing) {
            let is_mirror = url != request.url;
            let asked = Request { url, ..request.clone() };
            let asked = if is_mirror { asked.of_mirror() } else { asked };
            let failure = match self.get_from(&asked, urgency).await {
                Ok(reply) if !is_mirror => return Ok(reply),
                Ok(reply) if reply.status.is_success() => return Ok(reply.of_mirror()),
                Ok(reply) => Failure::Status { url: reply.url, status: reply.status },
                Err(failure) => failure,
            };
            if failure.is_transient() {
                self.gates.ailing.note(&asked.url);
            } else if !is_mirror {
                return Err(failure.into());
            }
            tracing::warn!(%failure, "no answer; the next server is asked, if there is one");
            if !is_mirror || told.is_none() {
                told = Some(failure);
            }
        }
        Err(told.map_or_else(|| nonsense(&request.url, "nobody was asked"), Error::from))
    }

    /// The same at one address.
    async fn get_from(&self, request: &Request<'_>, urgency: &Urgency) -> Result<Reply, Failure> {
        let (mut attempt, began) = (0, Instant::now());
        loop {
            attempt += 1;
            let result = {
                // Closed only when the process ends; then going on without a permit harms nobody.
                let _permit = self.gates.enter(urgency).await;
                let asked = Instant::now();
                let limit = request.limit();
                let tried = tokio::time::timeout(limit, self.attempt(request)).await;
                self.gates.outside.note(self.service, asked.elapsed());
                tried.unwrap_or_else(|_| Err(Failure::TooSlow { url: request.url.clone(), limit }))
            };
            let (failure, wanted) = match result {
                Ok(reply) if !is_transient(reply.status) => {
                    let elapsed_ms = began.elapsed().as_millis() as u64;
                    let (url, status) = (super::secret::shown(&reply.url), reply.status.as_u16());
                    tracing::debug!(url, status, bytes = reply.body.len(), elapsed_ms, "answered");
                    return Ok(reply);
                }
                Ok(reply) => {
                    let wanted = retry_after(&reply.headers, self.gates.time.now());
                    (Failure::Status { url: reply.url, status: reply.status }, wanted)
                }
                Err(failure) => (failure, None),
            };
            match pause_before_retry(&failure, attempt, wanted) {
                Some(pause) => self.gates.time.pause(pause).await,
                None => return Err(failure),
            }
        }
    }

    async fn attempt(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        // Parts of wheels as well: they are small and many, and a client that asks for a part takes no content coding.
        let pool = self.transport.metadata().map_err(|error| Failure::Unsendable {
            url: request.url.clone(),
            cause: error.message,
        })?;
        let headers = headers_of(request);
        let response = send(pool, request.url.clone(), &headers, request.credentials).await?;
        let (status, url, headers) =
            (response.status(), response.url().clone(), response.headers().clone());
        let body = read_body(response, request.bytes_max).await?;
        Ok(Reply { status, url, headers, body })
    }
}

fn headers_of(request: &Request<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    insert(ACCEPT, request.accept);
    insert(RANGE, request.range.as_deref());
    let is_plain = request.is_file || request.range.is_some();
    insert(ACCEPT_ENCODING, is_plain.then_some("identity"));
    if let Some(validators) = request.validators {
        insert(IF_NONE_MATCH, validators.etag.as_deref());
        // A server that knows both must look at the tag; sending one keeps it unambiguous.
        let date = validators.last_modified.as_deref();
        insert(IF_MODIFIED_SINCE, date.filter(|_| validators.etag.is_none()));
    }
    headers
}

/// One GET with its redirects, up to the headers of the last answer.
///
/// The credential belongs to the first address. It travels along only while the address stays in its place, and
/// never comes back once dropped. Redirects from `https:` to `http:` are refused.
pub(crate) async fn send(
    pool: &Pool,
    mut url: Url,
    headers: &HeaderMap,
    credentials: Option<&Credentials>,
) -> Result<Response, Failure> {
    let mut credential = credentials.and_then(|credentials| credentials.for_url(&url));
    for _ in 0..=REDIRECTS_MAX {
        let mut builder = pool.client.get(url.clone()).headers(headers.clone());
        if let Some(value) = credential.and_then(|(_, credential)| credential.header()) {
            builder = builder.header(AUTHORIZATION, value);
        }
        let mut sent = std::pin::pin!(builder.send());
        // First of all the server is looked for: what is trusted is needed once it has answered, and reading that takes a core.
        let response = match futures::poll!(sent.as_mut()) {
            Poll::Ready(response) => response,
            Poll::Pending => {
                // Dropping the handle lets it go on.
                drop(pool.begin(&url));
                sent.await
            }
        };
        let response = response.map_err(|error| Failure::from_reqwest(&url, error))?;
        if !is_redirect(response.status()) {
            return Ok(response);
        }
        let next = redirect_target(&url, response.headers())?;
        credential = credential.filter(|entry| Credentials::survives(entry, &next));
        url = next;
    }
    Err(Failure::BadRedirect { url, why: format!("more than {REDIRECTS_MAX} redirects") })
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirect_target(url: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let bad = |why: &str| Failure::BadRedirect { url: url.clone(), why: why.to_owned() };
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| bad("a redirect without a target"))?;
    let mut next =
        url.join(location).map_err(|_| bad("a redirect to something that is no address"))?;
    if url.scheme() == "https" && next.scheme() != "https" {
        return Err(bad("a redirect away from https"));
    }
    if !matches!(next.scheme(), "https" | "http") {
        return Err(bad("a redirect to something that is not on the web"));
    }
    // User information in a redirect would become a header that nobody configured.
    let _ = super::secret::take_userinfo(&mut next);
    Ok(next)
}

async fn read_body(mut response: Response, bytes_max: usize) -> Result<Bytes, Failure> {
    let url = response.url().clone();
    let too_large = |url| Failure::TooLarge { url, bytes_max };
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_large(url));
    }
    // An announced size is a hint to be believed only as far as a first allocation goes.
    let mut body = Vec::with_capacity((announced as usize).min(ANNOUNCED_BYTES_MAX));
    loop {
        let chunk = tokio::time::timeout(READ_TIMEOUT, response.chunk()).await;
        let chunk =
            chunk.map_err(|_| Failure::TooSlow { url: url.clone(), limit: READ_TIMEOUT })?;
        match chunk.map_err(|error| Failure::from_reqwest(&url, error))? {
            None => return Ok(body.into()),
            Some(chunk) if body.len() + chunk.len() > bytes_max => return Err(too_large(url)),
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}

#[cfg(test)]
mod tests;
