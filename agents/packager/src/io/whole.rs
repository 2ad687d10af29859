//! A file whose digest nobody knows yet, fetched to find that out. It passes through memory.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use bytes::Bytes;
use reqwest::StatusCode;
use url::Url;

use super::http::{Http, Request, Urgency};
use super::limits::{CANCELLATION_INTERVAL, FILE_IN_MEMORY_BYTES_MAX};
use super::resource::Session;
use super::secret::{Credentials, shown};
use crate::error::{Error, Kind, Result};

/// Fetches a file with the connections and credentials of a registry, which are sent where they were configured for only.
/// Blocks, until the request is cancelled at most.
pub(super) fn fetch(
    session: &Session,
    (http, credentials): (Http, Credentials),
    url: &Url,
    offline_hint: &str,
) -> Result<Bytes> {
    let request = &session.request;
    if request.offline {
        let message = format!("`{}` has no digest and is not fetched offline", shown(url));
        return Err(Error::new(Kind::Network, "offline-missing", message).hint(offline_hint));
    }
    let (sender, receiver) = sync_channel(1);
    let address = url.clone();
    let asking = session.shared.threads.questions()?.spawn(async move {
        let request = request_of(address.clone(), Some(&credentials));
        let urgency = Urgency::default();
        urgency.demand();
        let answer = http.get(&request, &urgency).await.and_then(|reply| match reply.status {
            // A part that nobody asked for is not the file.
            StatusCode::OK => Ok(reply.body),
            _ if reply.is_missing() => Err(missing(&address)),
            _ => Err(reply.unexpected()),
        });
        // Whoever asked may be gone.
        let _ = sender.send(answer);
    });
    let cancellation = &request.cancellation;
    let answer = agents_contract::waiting(cancellation, || {
        loop {
            match receiver.recv_timeout(CANCELLATION_INTERVAL) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => Error::if_cancelled(cancellation)?,
                Err(RecvTimeoutError::Disconnected) => return Err(interrupted(url)),
            }
        }
    });
    asking.abort();
    Error::if_cancelled(cancellation)?;
    answer
}

/// It has the time that a download has.
pub(super) fn request_of(url: Url, credentials: Option<&Credentials>) -> Request<'_> {
    Request { is_file: true, ..Request::new(url, credentials, FILE_IN_MEMORY_BYTES_MAX) }
}

fn missing(url: &Url) -> Error {
    let message = format!("there is no file at `{}`", shown(url));
    Error::new(Kind::Failed, "file-missing", message).hint("correct what names it")
}

fn interrupted(url: &Url) -> Error {
    let message = format!("fetching `{}` was interrupted", shown(url));
    Error::new(Kind::Failed, "internal", message).retryable()
}
