//! One request to the mirror and its answer. A path is a digest or nothing, so no path leads anywhere.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use agents_packager::store::{Algorithm, Store};
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_RANGE, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::limits::MIRROR_CHUNK_BYTES;

type Answer = Response<Either<Full<Bytes>, Part>>;

/// Answers whatever was asked.
pub(super) fn to<B>(store: &Store, request: &Request<B>) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let found = wanted(request.uri().path()).and_then(|(algorithm, digest)| {
        let file = store.archive_by(algorithm, digest)?;
        let size = file.metadata().ok()?.len();
        Some((file, size, HeaderValue::from_str(&format!("\"{digest}\"")).ok()?))
    });
    let Some((file, size, tag)) = found else {
        return plain(StatusCode::NOT_FOUND, "not here: /v1/sha512/DIGEST or /v1/sha256/DIGEST\n");
    };
    let (status, start, end) = match range(request.headers(), &tag, size) {
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Range::Nothing => {
            let mut answer = plain(StatusCode::RANGE_NOT_SATISFIABLE, "there is no such part\n");
            insert(answer.headers_mut(), CONTENT_RANGE, &format!("bytes */{size}"));
            return answer;
        }
    };
    let body = match *request.method() == Method::HEAD {
        true => Either::Left(Full::default()),
        false => Either::Right(Part { file, at: start, end }),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    insert(headers, CONTENT_LENGTH, &(end - start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        insert(headers, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
    }
    answer
}

/// What a path names. The store refuses what is no digest.
fn wanted(path: &str) -> Option<(Algorithm, &str)> {
    let (algorithm, digest) = path.strip_prefix("/v1/")?.split_once('/')?;
    Some((Algorithm::from_name(algorithm)?, digest))
}

enum Range {
    Whole,
    /// From the first to before the second.
    Part(u64, u64),
    Nothing,
}

/// One range is given; several, and what cannot be read, mean the whole, as the standard allows.
fn range(headers: &HeaderMap, tag: &HeaderValue, size: u64) -> Range {
    if headers.get(IF_RANGE).is_some_and(|known| known != tag) {
        return Range::Whole;
    }
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let parts = text.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = parts else { return Range::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (start, end) = match (number(first), number(last)) {
        (Some(start), Some(last)) if last >= start => (start, last.saturating_add(1).min(size)),
        (Some(start), None) if last.trim().is_empty() => (start, size),
        (None, Some(count)) if first.trim().is_empty() => (size.saturating_sub(count), size),
        _ => return Range::Whole,
    };
    if start < end { Range::Part(start, end) } else { Range::Nothing }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn insert(headers: &mut HeaderMap, name: hyper::header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// A part of a file, read as it is taken. The reads are of the page cache, or of a disk that the guest waits for.
pub(super) struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl Body for Part {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let left = self.end - self.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; left.min(MIRROR_CHUNK_BYTES as u64) as usize];
        let read = self.file.read_at(&mut chunk, self.at).and_then(|count| match count {
            // What was announced is not there any more.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        });
        Poll::Ready(Some(read.map(|count| {
            chunk.truncate(count);
            self.at += count as u64;
            Frame::data(chunk.into())
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
