//! Clients: accepted, checked, listened to and written to, one task each. Every message goes to the
//! hub; nothing is decided here but whether a peer may speak at all, whether its bytes are
//! messages, and how fast it may send them.
//!
//! Death is learnt from the kernel: the peer's process descriptor becomes readable, or its socket
//! hangs up. No timer has a part in it.

pub(crate) mod held;
mod presence;
pub(crate) mod segments;
mod transport;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipc::closer::{Closer, Foreign};
use ipc::control::{DecodeError, FromRouter, ToRouter, negotiate};
use ipc::fault;
use ipc::header::AgentId;
use ipc::limits::{CLOSING_MAX, CLOSING_PER_PEER_MAX};
use ipc::socket::{Connection, Listener, Packet, ReceiveError};
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use self::presence::{Peer, Presence};
use self::segments::Segments;
use self::transport::{Transport, watched};
use super::hosted::HostedTable;
use super::hub::{Outbox, Outgoing, ToHub};
use super::quota::{LimitTable, Share};
use super::router::rate::Budget;
use super::router::{Event, Newcomer};
use crate::limits::{
    ACCEPT_PAUSE, AGENTS_MAX, CLOSING_LOOK_INTERVAL, HANDSHAKES_MAX, OUTBOX_PACKETS_MAX,
};

/// Packets that are still taken from the socket of a process that has ended: its last words.
const LAST_WORDS_MAX: usize = 256;
/// Whose descriptors those are of who was not let in.
const NOBODY: AgentId = AgentId(0);

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Reception {
    hub: mpsc::Sender<ToHub>,
    hosted: Arc<HostedTable>,
    last_agent: AtomicU32,
    seats: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    uid: u32,
    admission: Admission,
    closer: Closer,
    presence: Presence,
}

/// What the configuration says of those who come.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// From `accept` to a complete `Hello`.
    pub(crate) handshake: Duration,
    /// Bytes of the `Hello`.
    pub(crate) handshake_bytes: usize,
    /// What each may have.
    pub(crate) limits: LimitTable,
}

/// A listener that tokio can wait for.
struct Door(Listener);

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Reception {
    /// Clients that are told to `hub`; processes in `hosted` are the daemon's own children.
    pub(crate) fn new(
        hub: mpsc::Sender<ToHub>,
        hosted: Arc<HostedTable>,
        admission: Admission,
    ) -> Self {
        Self {
            hub,
            hosted,
            last_agent: AtomicU32::new(0),
            seats: Arc::new(Semaphore::new(AGENTS_MAX + HANDSHAKES_MAX)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            uid: rustix::process::geteuid().as_raw(),
            admission,
            closer: Closer::new(),
            presence: Presence::default(),
        }
    }

    /// Accepts clients for as long as it is polled.
    pub(crate) async fn accept(self: Arc<Self>, listener: Listener) -> io::Result<()> {
        let door = watched(Door(listener), Interest::READABLE)?;
        loop {
            // Before anybody is accepted: a burst of clients waits in the backlog, and none is turned
            // away for want of a handshake. Nobody ever closes the semaphore.
            let permit = Arc::clone(&self.handshakes).acquire_owned().await;
            let handshake = permit.map_err(io::Error::other)?;
            self.let_all_close().await;
            let connection = loop {
                let mut ready = door.readable().await?;
                match ready.get_inner().0.accept() {
                    Ok(None) => ready.clear_ready(),
                    accepted => break accepted,
                }
            };
            match connection {
                Ok(Some(connection)) => {
                    fault::point("daemon.accepted");
                    self.receive(connection, handshake);
                }
                Ok(None) => {}
                Err(error) => {
                    // Out of descriptors or memory: the waiting client stays in the backlog.
                    warn!(%error, "a client cannot be accepted at the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Lets nobody in while too much of what others handed over is not closed, so that there is never more of it: those who come
    /// wait in the backlog. Many clients that leave at once are over in a moment.
    async fn let_all_close(&self) {
        let mut is_slowed = false;
        while self.closer.count() >= CLOSING_MAX {
            if !std::mem::replace(&mut is_slowed, true) {
                self.count_limit("closing");
                debug!("nobody is let in until what clients handed over has closed");
            }
            tokio::time::sleep(CLOSING_LOOK_INTERVAL).await;
        }
    }

    fn receive(self: &Arc<Self>, connection: Connection, handshake: OwnedSemaphorePermit) {
        let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            let text = "limit `agents`: the daemon has as many clients as it takes";
            return self.turn_away(connection, "limit:agents", text);
        };
        match connection.peer_credentials() {
            Ok(peer) if peer.uid == self.uid => {}
            Ok(peer) => {
                warn!(uid = peer.uid, pid = peer.pid, "another user's process was turned away");
                let text = format!("this daemon serves uid {} only", self.uid);
                return self.turn_away(connection, "unauthorized", &text);
            }
            Err(error) => {
                debug!(%error, "a client without credentials was turned away");
                return self.closer.close(NOBODY.0, connection.into());
            }
        }
        let spent = |last: u32| last.checked_add(1);
        let order = Ordering::Relaxed;
        let Ok(last) = self.last_agent.fetch_update(order, order, spent) else {
            let text = "every agent number of this daemon is spent";
            return self.turn_away(connection, "limit", text);
        };
        let client = Client { reception: Arc::clone(self), agent: AgentId(last + 1), _seat: seat };
        tokio::spawn(client.serve(connection, handshake));
    }

    fn turn_away(&self, connection: Connection, code: &'static str, message: &str) {
        self.count_refusal(code);
        let code = if code.starts_with("limit:") { "limit" } else { code };
        turn_away(&connection, (&self.closer, NOBODY), code, message);
        self.closer.close(NOBODY.0, connection.into());
    }

    /// For the metrics; a hub that is busy misses one rather than hold up the door.
    fn count_refusal(&self, code: &'static str) {
        let _ = self.hub.try_send(ToHub::TurnedAway { code });
    }

    /// The same for somebody who was slowed down.
    fn count_limit(&self, limit: &'static str) {
        let _ = self.hub.try_send(ToHub::Limited { limit });
    }
}

/// What came with a packet: closed elsewhere, wherever it is dropped.
fn foreign(descriptors: Vec<OwnedFd>, closer: &Closer, agent: AgentId) -> Vec<Foreign> {
    let came = descriptors.into_iter();
    came.map(|descriptor| Foreign::new(descriptor, Some(closer), agent.0)).collect()
}

/// Says why, if the socket takes it at once, and hangs up.
fn turn_away(
    connection: &Connection,
    (closer, agent): (&Closer, AgentId),
    code: &str,
    message: &str,
) {
    let (code, message) = (code.to_owned(), message.to_owned());
    if let Ok(packet) = (FromRouter::Refused { request: 0, code, message }).encode() {
        // It is being turned away; whether it hears why is its own affair, and nobody waits for it.
        let _ = connection.set_nonblocking(true);
        let _ = connection.send(&packet, &[]);
        // What is closed unread resets the connection, and the reset comes before the reason.
        for _ in 0..LAST_WORDS_MAX {
            let discard = |descriptors| drop(foreign(descriptors, closer, agent));
            match connection.receive_or_discard(discard) {
                Ok(packet) => drop(foreign(packet.descriptors, closer, agent)),
                Err(_) => return,
            }
        }
    }
}

/// One client's task.
struct Client {
    reception: Arc<Reception>,
    agent: AgentId,
    _seat: OwnedSemaphorePermit,
}

impl Client {
    async fn serve(self, connection: Connection, handshake: OwnedSemaphorePermit) {
        let agent = self.agent;
        let closer = self.reception.closer.clone();
        let transport = match Transport::new(connection, closer, agent) {
            Ok(transport) => transport,
            Err(error) => return debug!(%error, agent = agent.0, "a client cannot be served"),
        };
        let Admission { handshake: patience, handshake_bytes, .. } = self.reception.admission;
        let first = tokio::time::timeout(patience, transport.receive()).await;
        let newcomer = match first {
            Ok(Ok(packet)) if packet.bytes.len() > handshake_bytes => {
                drop(self.foreign(packet.descriptors));
                self.reception.count_limit("handshake_bytes");
                let text = format!(
                    "limit `handshake_bytes`: the `Hello` has {} bytes, of {handshake_bytes} at \
                     most",
                    packet.bytes.len()
                );
                Err(("limit", text))
            }
            Ok(Ok(packet)) => {
                let descriptors = self.foreign(packet.descriptors);
                self.newcomer(&transport, &packet.bytes, descriptors.len())
            }
            Ok(Err(error)) => return debug!(%error, agent = agent.0, "a client left unheard"),
            Err(_elapsed) => {
                self.reception.count_limit("handshake_ms");
                let text = format!("limit `handshake_ms`: no `Hello` within {patience:?}");
                Err(("malformed", text))
            }
        };
        let newcomer = match newcomer {
            Ok(newcomer) => newcomer,
            Err((code, message)) => {
                self.reception.count_refusal(code);
                return transport.turn_away(code, &message);
            }
        };
        drop(handshake);
        self.stay(transport, newcomer).await;
    }

    fn foreign(&self, descriptors: Vec<OwnedFd>) -> Vec<Foreign> {
        foreign(descriptors, &self.reception.closer, self.agent)
    }

    fn newcomer(
        &self,
        transport: &Transport,
        packet: &[u8],
        descriptors_count: usize,
    ) -> Result<Newcomer, (&'static str, String)> {
        let (version, manifest) = match ToRouter::decode(packet) {
            Ok(ToRouter::Hello { version, manifest, .. }) if descriptors_count == 0 => {
                (version, manifest)
            }
            Ok(_) => {
                let text = "the first message must be `Hello`, without descriptors".to_owned();
                return Err(("malformed", text));
            }
            Err(error @ DecodeError::Version { .. }) => return Err(("version", error.to_string())),
            Err(error) => return Err(("malformed", error.to_string())),
        };
        let Some(version) = negotiate(version) else {
            let error = DecodeError::Version { got: version };
            return Err(("version", error.to_string()));
        };
        let peer = transport.peer().map_err(|error| ("unauthorized", error.to_string()))?;
        Ok(Newcomer {
            agent: self.agent,
            pid: peer.pid,
            uid: peer.uid,
            hosted_as: self.reception.hosted.name_of(peer.pid, &manifest.name),
            version,
            manifest,
        })
    }

    /// From `Hello` to the end of the process, the connection or the hub's patience.
    async fn stay(&self, transport: Transport, newcomer: Newcomer) {
        let (agent, hub) = (self.agent, &self.reception.hub);
        let death = match transport.death(newcomer.pid) {
            Ok(death) => death,
            Err(error) => {
                let text = format!("its process cannot be watched: {error}");
                self.reception.count_refusal("unauthorized");
                return transport.turn_away("unauthorized", &text);
            }
        };
        let peer = Arc::new(Peer { transport, death });
        let Peer { transport, death } = &*peer;
        let name = newcomer.manifest.name.clone();
        let stay = self.reception.presence.enter(&name, &peer).await;
        let manifest = &newcomer.manifest;
        let limits = self.reception.admission.limits.of(&manifest.name, &manifest.limits);
        fault::point("daemon.hello-read");
        let (packets, outgoing) = mpsc::channel(OUTBOX_PACKETS_MAX);
        let (hangup, mut hung_up) = oneshot::channel();
        let (share, rate) = (Share::new(limits.bytes), limits.messages.rate());
        let outbox = Outbox { packets, grants: Arc::default(), hangup };
        let connected = ToHub::Connected { agent, outbox };
        let hello = ToHub::Event(Box::new(Event::Hello(newcomer)));
        if hub.send(connected).await.is_err() || hub.send(hello).await.is_err() {
            return;
        }
        let reason = tokio::select! {
            reason = self.listen(transport, rate, &share) => reason,
            reason = speak(transport, outgoing) => reason,
            () = death.wait() => {
                self.last_words(transport, &share).await;
                Some("its process ended".to_owned())
            }
            _ = &mut hung_up => None,
        };
        let reason = match reason {
            Some(_) if death.is_near() => "its process ended".to_owned(),
            Some(reason) => reason,
            None => "its connection was closed".to_owned(),
        };
        fault::point("daemon.agent-gone");
        // A hub that is gone has forgotten everybody.
        let _ = hub.send(ToHub::Event(Box::new(Event::Gone { agent, reason }))).await;
        drop(stay);
    }

    /// Takes packets, no faster than allowed, until there are no more.
    async fn listen(&self, transport: &Transport, rate: u32, share: &Arc<Share>) -> Option<String> {
        let started = Instant::now();
        let mut budget = Budget::new(rate, started.elapsed());
        loop {
            let mut is_slowed = false;
            while let Err(wait) = budget.try_take(started.elapsed()) {
                if !std::mem::replace(&mut is_slowed, true) {
                    self.reception.count_limit("messages");
                }
                tokio::time::sleep(wait).await;
            }
            self.let_close().await;
            let received = transport.receive().await;
            if let Err(reason) = self.pass_on(transport, share, received).await {
                return reason;
            }
        }
    }

    /// Takes nothing more from a client while too much of what it handed over is not closed: that lies with whoever made it,
    /// and the client's death ends the wait as it ends everything.
    async fn let_close(&self) {
        let mut is_slowed = false;
        while self.reception.closer.count_of(self.agent.0) >= CLOSING_PER_PEER_MAX {
            if !std::mem::replace(&mut is_slowed, true) {
                self.reception.count_limit("closing");
            }
            tokio::time::sleep(CLOSING_LOOK_INTERVAL).await;
        }
    }

    /// What a process had sent before it ended still counts: a goodbye is a goodbye.
    async fn last_words(&self, transport: &Transport, share: &Arc<Share>) {
        for _ in 0..LAST_WORDS_MAX {
            let received = transport.try_receive();
            if self.pass_on(transport, share, received).await.is_err() {
                return;
            }
        }
    }

    /// Gives one packet to the hub; an error, with its reason, is the end of the connection.
    async fn pass_on(
        &self,
        transport: &Transport,
        share: &Arc<Share>,
        received: Result<Packet, ReceiveError>,
    ) -> Result<(), Option<String>> {
        let agent = self.agent;
        fault::point("daemon.packet-read");
        let event = match received {
            Ok(packet) => {
                let descriptors = self.foreign(packet.descriptors);
                match event_of(agent, transport, share, (&packet.bytes, descriptors)) {
                    Some(event) => event,
                    None => return Ok(()),
                }
            }
            Err(ReceiveError::NoDescriptorsLeft { bytes }) => match starved(agent, &bytes) {
                Some(event) => event,
                None => return Ok(()),
            },
            Err(ReceiveError::Closed) => return Err(Some("its connection ended".to_owned())),
            Err(error @ (ReceiveError::TooLong | ReceiveError::TooManyDescriptors)) => {
                Event::Malformed { agent, reason: error.to_string() }
            }
            Err(error) => return Err(Some(error.to_string())),
        };
        let sent = self.reception.hub.send(ToHub::Event(Box::new(event))).await;
        sent.map_err(|_gone| None)
    }
}

/// What a packet means to the router; nothing for one that may be skipped.
fn event_of(
    agent: AgentId,
    transport: &Transport,
    share: &Arc<Share>,
    (packet, descriptors): (&[u8], Vec<Foreign>),
) -> Option<Event<Arc<Segments>>> {
    let message = match ToRouter::decode(packet) {
        Ok(message) => message,
        Err(DecodeError::UnknownType { optional: true, .. }) => return None,
        Err(error) => return Some(Event::Malformed { agent, reason: error.to_string() }),
    };
    let (got, expected) = (descriptors.len(), message.descriptors());
    if got != expected {
        let reason = format!("descriptors beside a message: expected {expected}, got {got}");
        return Some(Event::Malformed { agent, reason });
    }
    let process = || transport.process();
    Some(match Segments::check(&message, descriptors, share, process) {
        Ok(segments) => Event::Message { agent, message, segments: segments.map(Arc::new) },
        Err(error) => {
            let (code, reason) = (error.code(), error.to_string());
            Event::BadSegment { agent, message, code, reason }
        }
    })
}

/// What follows from a packet whose descriptors found no room in this process: what it asks for is refused, and its sender has
/// no part in it.
fn starved(agent: AgentId, packet: &[u8]) -> Option<Event<Arc<Segments>>> {
    let message = match ToRouter::decode(packet) {
        Ok(message) => message,
        Err(DecodeError::UnknownType { optional: true, .. }) => return None,
        Err(error) => return Some(Event::Malformed { agent, reason: error.to_string() }),
    };
    if message.descriptors() == 0 {
        let reason = "descriptors beside a message that has none".to_owned();
        return Some(Event::Malformed { agent, reason });
    }
    let reason = "limit `open_files`: the daemon has no descriptors left; try again".to_owned();
    Some(Event::BadSegment { agent, message, code: "limit:open_files", reason })
}

/// Writes packets until the hub has no more, which it means by dropping its end.
async fn speak(transport: &Transport, mut outgoing: mpsc::Receiver<Outgoing>) -> Option<String> {
    while let Some(Outgoing { message, carry, _counted }) = outgoing.recv().await {
        let packet = match message.encode() {
            Ok(packet) => packet,
            Err(error) => {
                // Everything that peers contribute is bounded before; this is a mistake of ours.
                warn!(%error, "a message to a client has no packet");
                return Some("a message to it could not be written".to_owned());
            }
        };
        let mut beside = segments::descriptors(&carry);
        // A process goes along only where the link's class needs it.
        beside.truncate(message.descriptors());
        if let Err(error) = transport.send(&packet, &beside).await {
            return Some(format!("its socket failed: {error}"));
        }
    }
    None
}
