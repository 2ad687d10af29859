//! `bolide serve --mirror`: artefacts that this host has kept, for other hosts, over HTTP/1, by their digests and in no other way.
//!
//! It is a hosted process of its own: what strangers send is read neither by the daemon nor by the Packager. It reads the store and
//! writes nothing but the time of a last use. There is no list: who has a lock, or has asked the registry, knows the digest, and
//! nobody else learns what is used here. Credentials and metadata are not in the store, so none can be asked for. Whoever fetches
//! compares the digest, and so need not trust this host; the bytes need no encryption for the same reason.
//!
//! ```text
//! GET /v1/sha512/<128 digits>     the artefact as it was downloaded; also HEAD, one range, and If-Range
//! GET /v1/sha256/<64 digits>      the same, for those whose registry gives only this digest
//! ```

mod answer;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use agents_contract::{Agent, AgentManifest, Conversation, Request, Station, ToolError};
use agents_packager::store::Store;
use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

use crate::config::Settings;
use crate::limits::{
    ACCEPT_PAUSE, HTTP_BUFFER_BYTES, HTTP_HEADER_TIMEOUT, MIRROR_CONNECTION_TIMEOUT,
    MIRROR_CONNECTIONS_MAX, MIRROR_CONNECTIONS_OF_ONE_MAX, MIRROR_THREADS,
};

/// Its name among the hosted agents.
pub(crate) const NAME: &str = "mirror";

/// The agent. It has no tools.
pub(crate) struct Mirror {
    store: Arc<Store>,
    /// Taken when it begins to serve.
    listener: Mutex<Option<TcpListener>>,
}

impl Mirror {
    /// Takes the address that was said, and no other.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let address = settings.mirror_addr.context("no address is set: `mirror_addr`")?;
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot serve the mirror at `{address}`"))?;
        let store = Store::open(&settings.cache_dir.join("store"))?;
        Ok(Self { store: Arc::new(store), listener: Mutex::new(Some(listener)) })
    }
}

impl Agent for Mirror {
    fn manifest(&self) -> AgentManifest {
        AgentManifest {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            category: "packages".to_owned(),
            priority: 1,
            tags: vec!["http".to_owned()],
            ..AgentManifest::default()
        }
    }

    fn recover(&self) -> Result<(), ToolError> {
        Ok(())
    }

    fn call(&self, request: Request, _: &dyn Conversation) -> Result<Vec<u8>, ToolError> {
        let message = format!("`{NAME}` has no tool `{}`", request.tool.escape_debug());
        Err(ToolError {
            exit_code: 2,
            code: "unknown-tool".to_owned(),
            message,
            hint: None,
            retry: false,
        })
    }

    fn settle(self: Arc<Self>, _: Arc<dyn Station>) {
        let taken = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(listener) = taken else { return };
        let store = Arc::clone(&self.store);
        let started = std::thread::Builder::new().name("mirror".to_owned()).spawn(move || {
            if let Err(error) = run(listener, store) {
                error!(%error, "the mirror cannot serve");
            }
        });
        if let Err(error) = started {
            error!(%error, "the mirror has no thread");
        }
    }
}

/// Serves for ever.
fn run(listener: TcpListener, store: Arc<Store>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(MIRROR_THREADS)
        .thread_name("mirror")
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        info!(address = %listener.local_addr()?, "serves artefacts by their digests");
        serve(listener, store).await
    })
}

async fn serve(listener: tokio::net::TcpListener, store: Arc<Store>) -> std::io::Result<()> {
    let seats = Arc::new(Semaphore::new(MIRROR_CONNECTIONS_MAX));
    let guests = Arc::new(Guests::default());
    loop {
        // More connections than seats wait in the system's backlog, which is bounded too.
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, from)) => {
                // One that has too many already is closed: others wait for the seat.
                let Some(guest) = guests.admit(from) else { continue };
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    serve_connection(stream, store).await;
                    drop((guest, seat));
                });
            }
            Err(error) => {
                warn!(%error, "a connection to the mirror cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, store: Arc<Store>) {
    let service = service_fn(move |request| {
        let answer = answer::to(&store, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIMEOUT)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(MIRROR_CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the mirror ended"),
    }
}

/// How many connections each host has.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// One of them; given back when it is dropped.
struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    fn admit(self: &Arc<Self>, from: SocketAddr) -> Option<Guest> {
        // An IPv4 address is one, however it came.
        let address = from.ip().to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= MIRROR_CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(Guest { guests: Arc::clone(self), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
