//! One client's socket and process under tokio: waiting for readiness, nothing else.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ipc::closer::Closer;
use ipc::header::AgentId;
use ipc::peer::Credentials;
use ipc::socket::{Connection, Packet, ReceiveError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A connection that tokio can wait for.
pub(super) struct Transport {
    wire: AsyncFd<Wire>,
}

/// There until it is dropped, and then closed elsewhere: what the peer sent and nobody read is closed with it.
struct Wire {
    connection: Option<Connection>,
    closer: Closer,
    agent: AgentId,
}

impl Wire {
    fn get(&self) -> &Connection {
        self.connection.as_ref().expect("there until it is dropped")
    }

    fn receive(&self) -> Result<Packet, ReceiveError> {
        let Self { closer, agent, .. } = self;
        self.get().receive_or_discard(|descriptors| {
            drop(super::foreign(descriptors, closer, *agent));
        })
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.get().as_fd().as_raw_fd()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.closer.close(self.agent.0, connection.into());
        }
    }
}

/// The end of the peer's process.
pub(super) struct Death {
    pid: u32,
    /// None for a thread of this very process: it cannot outlive us.
    process: Option<AsyncFd<OwnedFd>>,
}

/// Lets tokio wait for a descriptor. The value owns it, so it stays open and the same for as long
/// as tokio looks.
#[expect(deprecated, reason = "what replaces it is unsafe, and this crate has no unsafe code")]
pub(super) fn watched<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}

impl Transport {
    pub(super) fn new(connection: Connection, closer: Closer, agent: AgentId) -> io::Result<Self> {
        let wire = Wire { connection: Some(connection), closer, agent };
        wire.get().set_nonblocking(true)?;
        Ok(Self { wire: watched(wire, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// The next packet.
    pub(super) async fn receive(&self) -> Result<Packet, ReceiveError> {
        loop {
            let mut ready = self.wire.readable().await?;
            match ready.get_inner().receive() {
                Err(ReceiveError::WouldBlock) => ready.clear_ready(),
                received => return received,
            }
        }
    }

    /// A packet that is there already, or `WouldBlock`.
    pub(super) fn try_receive(&self) -> Result<Packet, ReceiveError> {
        self.wire.get_ref().receive()
    }

    /// Sends one packet, waiting for room.
    pub(super) async fn send(
        &self,
        packet: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.wire.async_io(Interest::WRITABLE, |wire| wire.get().send(packet, descriptors)).await
    }

    /// The socket, to be looked at.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.get_ref().get().as_fd()
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> io::Result<Credentials> {
        self.wire.get_ref().get().peer_credentials()
    }

    /// The peer's process, for whoever fetches a ring from it.
    pub(super) fn process(&self) -> io::Result<OwnedFd> {
        self.wire.get_ref().get().peer_process()
    }

    /// The end of the peer's process, to be waited for.
    pub(super) fn death(&self, pid: u32) -> io::Result<Death> {
        if pid == std::process::id() {
            return Ok(Death { pid, process: None });
        }
        let process = self.wire.get_ref().get().peer_process()?;
        Ok(Death { pid, process: Some(watched(process, Interest::READABLE)?) })
    }

    /// Says why, if the socket takes it at once, and hangs up.
    pub(super) fn turn_away(&self, code: &str, message: &str) {
        let Wire { closer, agent, .. } = self.wire.get_ref();
        super::turn_away(self.wire.get_ref().get(), (closer, *agent), code, message);
    }
}

impl Death {
    /// The process, to be looked at.
    pub(super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|process| process.get_ref().as_fd())
    }

    /// Returns when the process has ended.
    pub(super) async fn wait(&self) {
        match &self.process {
            // Waiting fails only while the runtime shuts down, and then nobody is interested any
            // more.
            Some(process) if process.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Whether a connection that ended did so because its process is ending: the kernel closes its
    /// descriptors a moment before the process has ended. Only the words of a message depend on it.
    pub(super) fn is_near(&self) -> bool {
        const EXITING: u64 = 0x4;
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return true;
        };
        // The name before the last bracket may hold anything; the flags are the seventh field after
        // it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let flags = fields.split_ascii_whitespace().nth(6).and_then(|flags| flags.parse().ok());
        flags.is_some_and(|flags: u64| flags & EXITING != 0)
    }
}
