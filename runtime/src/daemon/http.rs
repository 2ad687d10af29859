//! `/metrics` and `/health` over HTTP/1: bounded connections, bounded heads, bounded time. Shows
//! the snapshot and knows nothing of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, error, warn};

use super::health::{self, Health};
use super::hub::ToHub;
use super::metrics;
use super::snapshot::Snapshot;
use crate::limits::{
    ACCEPT_PAUSE, HTTP_BUFFER_BYTES, HTTP_CONNECTION_TIMEOUT, HTTP_CONNECTIONS_MAX,
    HTTP_HEADER_TIMEOUT, SNAPSHOT_TIMEOUT,
};

/// Why the endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve metrics at `{address}`: {source} \
     (hint: choose another address with `--metrics-addr`, or `off`)"
)]
pub(crate) struct ServeError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Takes the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError { address, source })
}

/// Serves for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, hub: mpsc::Sender<ToHub>) {
    let seats = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    loop {
        // More connections than seats wait in the system's backlog, which is bounded too.
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _address)) => {
                let hub = hub.clone();
                tokio::spawn(async move {
                    serve_connection(stream, hub).await;
                    drop(seat);
                });
            }
            Err(error) => {
                warn!(%error, "a connection to the metrics endpoint cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, hub: mpsc::Sender<ToHub>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let hub = hub.clone();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &hub).await) }
    });
    let connection = http1::Builder::new()
        // Idle connections would keep the few seats.
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIMEOUT)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(HTTP_CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the metrics endpoint ended"),
    }
}

async fn answer(method: &Method, path: &str, hub: &mpsc::Sender<ToHub>) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match snapshot(hub, SNAPSHOT_TIMEOUT).await {
            Some(snapshot) => exposition(snapshot),
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "the router does not answer\n"),
        },
        "/health/live" | "/livez" | "/-/healthy" => shown(&health::live()),
        "/health/ready" | "/readyz" | "/-/ready" => {
            shown(&health::ready(snapshot(hub, SNAPSHOT_TIMEOUT).await.as_ref()))
        }
        _ => plain(StatusCode::NOT_FOUND, "try /metrics, /health/live or /health/ready\n"),
    }
}

/// Asks the hub for a picture, for a bounded time.
pub(crate) async fn snapshot(hub: &mpsc::Sender<ToHub>, patience: Duration) -> Option<Snapshot> {
    let asked = async {
        let (answer, answered) = oneshot::channel();
        hub.send(ToHub::Snapshot(answer)).await.ok()?;
        answered.await.ok()
    };
    tokio::time::timeout(patience, asked).await.ok().flatten()
}

fn exposition(snapshot: Snapshot) -> Response<Full<Bytes>> {
    match metrics::encode(snapshot, metrics::process_use()) {
        Ok(text) => response(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(error) => {
            error!(%error, "the metrics have no text form");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics have no text form\n")
        }
    }
}

fn shown(health: &Health) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(health.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    response(status, "application/json", format!("{}\n", health.body).into_bytes())
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
