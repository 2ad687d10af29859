//! Asks the daemon for its status over its socket: connect, say hello, ask, put the pieces
//! together.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use ipc::control::{FromRouter, ToRouter, VERSION};
use ipc::manifest::AgentManifest;
use ipc::socket::{ConnectError, Connection, Packet, ReceiveError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::exit::{Exit, Failure};
use crate::paths::SOCKET_NAME;

/// The daemon answers in microseconds; seconds mean that something is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a status; agents and their words are bounded, so this is never reached.
const STATUS_BYTES_MAX: usize = 64 * 1024 * 1024;

const REQUEST: u32 = 1;

/// The daemon's status.
pub(crate) fn status(runtime_dir: &Path) -> Result<Value, Failure> {
    let socket = runtime_dir.join(SOCKET_NAME);
    let connection = Connection::connect(&socket).map_err(|error| match error {
        error @ ConnectError::Nobody { .. } => {
            let text =
                format!("no daemon is running: {error} (hint: start one with `bolide serve`)");
            Failure::new(Exit::NoDaemon, anyhow!(text))
        }
        error => anyhow::Error::new(error).into(),
    })?;
    Ok(asked(&connection)
        .with_context(|| format!("asking the daemon at `{}`", socket.display()))?)
}

fn asked(connection: &Connection) -> anyhow::Result<Value> {
    connection.set_nonblocking(true)?;
    let until = Instant::now() + PATIENCE;
    let manifest = AgentManifest {
        name: format!("cli.{}", std::process::id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        category: "cli".to_owned(),
        priority: 1,
        ..AgentManifest::default()
    };
    let hello = ToRouter::Hello { version: VERSION, manifest, token: Vec::new() };
    connection.send(&hello.encode()?, &[])?;
    connection.send(&ToRouter::Status { request: REQUEST }.encode()?, &[])?;
    let mut text = Vec::new();
    loop {
        match FromRouter::decode(&receive(connection, until)?.bytes)? {
            FromRouter::Status { request: REQUEST, more, piece } => {
                text.extend(piece);
                if text.len() > STATUS_BYTES_MAX {
                    bail!("its status is longer than {STATUS_BYTES_MAX} bytes");
                }
                if !more {
                    // It notices by itself when we are gone.
                    let _ = connection.send(&ToRouter::Bye.encode()?, &[]);
                    return serde_json::from_slice(&text).context("its status is not JSON");
                }
            }
            FromRouter::Refused { code, message, .. } => bail!("it refused: {message} ({code})"),
            _ => {}
        }
    }
}

fn receive(connection: &Connection, until: Instant) -> anyhow::Result<Packet> {
    loop {
        match connection.receive() {
            Err(ReceiveError::WouldBlock) => {}
            received => return Ok(received?),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("it did not answer within {} s", PATIENCE.as_secs());
        }
        let mut polled = [PollFd::new(connection, PollFlags::IN)];
        let timeout = Timespec::try_from(left).context("a time to wait")?;
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
