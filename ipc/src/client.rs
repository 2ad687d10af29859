//! The client library: one connection to the router, and the links and topics that come from it.
//!
//! No hidden threads: the program asks for events, or puts [`Client`]'s descriptor and its doorbell into an event loop.
//! Links and topics live on without the client being asked, except that descriptors travel over its socket.
//! Not here: the messages on a link (`link`), and the router (`runtime`).

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::control::{AgentInfo, FromRouter, Report, ToRouter, TopicPolicy, VERSION};
use crate::doorbell::Doorbell;
use crate::header::{AgentId, GrantId, LaneId};
use crate::lane::{LaneOptions, Receiver, Sender};
use crate::limits::{EVENTS_MAX, GRANTS_HELD_MAX, ROUTER_ANSWER_MS};
use crate::link::Link;
use crate::manifest::AgentManifest;
use crate::segment::Cursor;
use crate::socket::{Connection, ReceiveError};
use crate::topic::{Publisher, ReaderChange, Subscriber};
use crate::wait::Spin;

mod error;
#[cfg(test)]
mod tests;

pub use error::ClientError;

/// A connection to the router.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    doorbell: Doorbell,
    agent: AgentId,
    instance: u64,
    version: (u16, u16),
    options: LaneOptions,
    next_request: u32,
    next_grant: u64,
    events: VecDeque<Event>,
    grants: HashMap<(LaneId, GrantId), OwnedFd>,
    /// For publishers that have not asked yet.
    changes: HashMap<LaneId, VecDeque<ReaderChange>>,
}

/// Something that the router told.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants a link: [`Client::accept`] or [`Client::decline`].
    LinkOffered(Offer),
    /// A link or topic ended; its lanes say so too.
    LinkClosed {
        /// Which one.
        lane: LaneId,
        /// `closed`, `peer-gone`, `revoked` or `quarantined`.
        code: String,
        /// For people.
        reason: String,
    },
    /// A topic matches a subscription: [`Client::join`].
    TopicFound(TopicOffer),
    /// Readers of an own topic came or went: [`Client::update`].
    ReadersChanged {
        /// The topic.
        lane: LaneId,
    },
    /// The router stops: finish and leave.
    Draining,
}

/// A link that somebody wants.
#[derive(Debug)]
pub struct Offer {
    /// The link.
    pub lane: LaneId,
    /// Who wants it.
    pub from: AgentInfo,
    side: PeerSide,
}

/// A topic that matches a subscription.
#[derive(Debug)]
pub struct TopicOffer {
    /// The answer to which `subscribe`.
    pub subscription: u32,
    /// The topic's lane.
    pub lane: LaneId,
    /// Its subject.
    pub subject: String,
    /// What happens to slow readers.
    pub policy: TopicPolicy,
    /// Who writes it.
    pub from: AgentInfo,
    slots: OwnedFd,
    region: OwnedFd,
    control: OwnedFd,
}

/// The descriptors of the other side of a link.
#[derive(Debug)]
struct PeerSide {
    slots: OwnedFd,
    cursor: OwnedFd,
    region: OwnedFd,
    bell: OwnedFd,
    control: OwnedFd,
}

/// The own side of a link, before the other one is there.
struct OwnSide {
    sender: Sender,
    cursor: Cursor,
}

/// Why [`Client::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A lane, the router, or both have news.
    News,
    /// The deadline came.
    Deadline,
}

impl Client {
    /// Connects to the router at `path`, which must run as this process's user, and introduces itself.
    pub fn connect(
        path: &Path,
        manifest: &AgentManifest,
        token: &[u8],
    ) -> Result<Self, ClientError> {
        Self::introduce(Connection::connect(path)?, manifest, token)
    }

    /// Introduces itself over a connection that was made or inherited.
    pub fn introduce(
        connection: Connection,
        manifest: &AgentManifest,
        token: &[u8],
    ) -> Result<Self, ClientError> {
        connection.set_nonblocking(true)?;
        let mut client = Self {
            connection,
            doorbell: Doorbell::new()?,
            agent: AgentId(0),
            instance: 0,
            version: VERSION,
            options: LaneOptions::default(),
            next_request: 1,
            next_grant: 1,
            events: VecDeque::new(),
            grants: HashMap::new(),
            changes: HashMap::new(),
        };
        let (manifest, token) = (manifest.clone(), token.to_vec());
        client.send(&ToRouter::Hello { version: VERSION, manifest, token }, &[])?;
        let first = client.receive(answer_deadline()).map_err(|error| match error {
            ClientError::Deadline => ClientError::NoAnswer,
            other => other,
        })?;
        match first.0 {
            FromRouter::Welcome { version, agent, instance } => {
                (client.version, client.agent, client.instance) = (version, agent, instance);
                Ok(client)
            }
            FromRouter::Refused { code, message, .. } => {
                Err(ClientError::Refused { code, message })
            }
            _ => Err(ClientError::Protocol("a message before the welcome")),
        }
    }

    /// The id that the router gave.
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// The router's instance, random per start.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// The protocol version that both speak.
    pub fn version(&self) -> (u16, u16) {
        self.version
    }

    /// Sizes of the lanes that are made from now on.
    pub fn set_lane_options(&mut self, options: LaneOptions) {
        self.options = options;
    }

    /// The live agents whose name, tool, capability or tag equals `filter`; empty means all.
    pub fn agents(&mut self, filter: &str) -> Result<Vec<AgentInfo>, ClientError> {
        let request = self.request_number();
        self.send(&ToRouter::ListAgents { request, filter: filter.to_owned() }, &[])?;
        let mut found = Vec::new();
        loop {
            match self.answer(request)?.0 {
                FromRouter::Agents { more, agents, .. } => {
                    found.extend(agents);
                    if !more {
                        return Ok(found);
                    }
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Opens a link to an agent by name, or to one that answers a tool.
    pub fn open(&mut self, target: &str) -> Result<Link, ClientError> {
        let own = self.own_side()?;
        let request = self.request_number();
        let message = ToRouter::OpenLink { request, target: target.to_owned() };
        let (sender, bell) = (&own.sender, self.doorbell.ringer());
        self.send(&message, &[sender.slots_fd(), own.cursor.as_fd(), sender.region_fd(), bell])?;
        match self.answer(request)? {
            (FromRouter::LinkReady { lane, peer, .. }, descriptors) => {
                own.meet(lane, peer, PeerSide::from_descriptors(descriptors)?)
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Accepts a link that was offered.
    pub fn accept(&mut self, offer: Offer) -> Result<Link, ClientError> {
        let Offer { lane, from, side } = offer;
        // The peer's segments are checked before anybody hears of an acceptance.
        let link = match self.own_side()?.meet(lane, from, side) {
            Ok(link) => link,
            Err(error) => {
                self.decline(lane, "the segments were refused")?;
                return Err(error);
            }
        };
        let (sender, receiver) = link.raw_halves();
        let packet = ToRouter::AcceptLink { lane }.encode()?;
        let (cursor, bell) = (receiver.cursor_fd(), self.doorbell.ringer());
        self.send_packet(&packet, &[sender.slots_fd(), cursor, sender.region_fd(), bell])?;
        Ok(link)
    }

    /// Declines an offered link, or closes an open one or a topic.
    pub fn decline(&mut self, lane: LaneId, reason: &str) -> Result<(), ClientError> {
        self.grants.retain(|(of, _), _| *of != lane);
        self.send(&ToRouter::CloseLink { lane, reason: reason.to_owned() }, &[])
    }

    /// Hands a descriptor to the peer of a link; a request names it by what this returns.
    pub fn grant(&mut self, lane: LaneId, file: BorrowedFd<'_>) -> Result<GrantId, ClientError> {
        let grant = GrantId(self.next_grant);
        self.next_grant += 1;
        self.send(&ToRouter::Grant { lane, grant }, &[file])?;
        Ok(grant)
    }

    /// Takes a descriptor that the peer of a link granted. It travels over another way than the request that names it, so
    /// this waits for it until the deadline; other events are kept.
    pub fn take_grant(
        &mut self,
        lane: LaneId,
        grant: GrantId,
        deadline: Instant,
    ) -> Result<OwnedFd, ClientError> {
        loop {
            if let Some(file) = self.grants.remove(&(lane, grant)) {
                return Ok(file);
            }
            match self.receive(deadline) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Err(ClientError::NoGrant { lane, grant }),
                Err(error) => return Err(error),
            }
        }
    }

    /// Declares a topic.
    pub fn publisher(
        &mut self,
        subject: &str,
        policy: TopicPolicy,
    ) -> Result<Publisher, ClientError> {
        let mut sender = Sender::for_topic(self.options, policy)?;
        let request = self.request_number();
        let message = ToRouter::Publish { request, subject: subject.to_owned(), policy };
        self.send(&message, &[sender.slots_fd(), sender.region_fd()])?;
        match self.answer(request)? {
            (FromRouter::Published { lane, .. }, descriptors) => {
                let [control] = exactly(descriptors)?;
                sender.set_control(control)?;
                Ok(Publisher::new(lane, subject.to_owned(), sender))
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Attaches readers of a topic that joined, and forgets those that left. Never waits.
    pub fn update(&mut self, publisher: &mut Publisher) -> Result<(), ClientError> {
        self.take_in_all()?;
        match self.changes.remove(&publisher.lane()) {
            Some(changes) => Ok(publisher.apply(changes)?),
            None => Ok(()),
        }
    }

    /// Wants every topic whose subject matches, present and future: they come as [`Event::TopicFound`] with the number that
    /// this returns.
    pub fn subscribe(&mut self, pattern: &str) -> Result<u32, ClientError> {
        let request = self.request_number();
        self.send(&ToRouter::Subscribe { request, pattern: pattern.to_owned() }, &[])?;
        match self.answer(request)?.0 {
            FromRouter::Subscribed { .. } => Ok(request),
            other => Err(unexpected(other)),
        }
    }

    /// Takes up a topic. Messages from now on are received.
    pub fn join(&mut self, offer: TopicOffer, spin: Spin) -> Result<Subscriber, ClientError> {
        let TopicOffer { lane, subject, policy, from, slots, region, control, .. } = offer;
        let receiver = Receiver::for_topic(from.id, slots, region, Some(control), spin)?;
        let packet = ToRouter::JoinTopic { lane }.encode()?;
        self.send_packet(&packet, &[receiver.cursor_fd(), self.doorbell.ringer()])?;
        Ok(Subscriber { lane, subject, policy, from, receiver })
    }

    /// The next event; waits until the deadline (a past one: does not wait).
    pub fn next_event(&mut self, deadline: Instant) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.receive(deadline) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sleeps until one of the lanes or the router has news, or until the deadline.
    pub fn wait(
        &mut self,
        lanes: &mut [&mut Receiver],
        deadline: Option<Instant>,
    ) -> Result<Woken, ClientError> {
        if !self.events.is_empty() {
            return Ok(Woken::News);
        }
        self.doorbell.clear();
        let ready = lanes.iter_mut().position(|lane| !lane.arm());
        let armed = ready.unwrap_or(lanes.len());
        let woken = if ready.is_some() {
            Ok(Woken::News)
        } else {
            let fds = [self.connection.as_fd(), self.doorbell.as_fd()];
            sleep_on(&fds, deadline)
        };
        for lane in &mut lanes[..armed] {
            lane.disarm();
        }
        woken
    }

    /// The bell that rings for armed lanes of this client, for an event loop of the program's own.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Tells the router what this agent counted since it connected.
    pub fn report(&mut self, report: Report) -> Result<(), ClientError> {
        self.send(&ToRouter::Report(report), &[])
    }

    /// Takes leave.
    pub fn bye(self) -> Result<(), ClientError> {
        self.send(&ToRouter::Bye, &[])
    }

    fn own_side(&self) -> Result<OwnSide, ClientError> {
        let sender = Sender::for_link(self.options)?;
        let cursor = Receiver::new_cursor(Spin::Adaptive)?;
        Ok(OwnSide { sender, cursor })
    }

    fn request_number(&mut self) -> u32 {
        let number = self.next_request;
        // 0 is the connection itself.
        self.next_request = self.next_request.checked_add(1).unwrap_or(1);
        number
    }

    fn send(&self, message: &ToRouter, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        debug_assert_eq!(message.descriptors(), descriptors.len());
        self.send_packet(&message.encode()?, descriptors)
    }

    /// Sends a packet; waits for a router that is slow to read, but not without end.
    fn send_packet(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let deadline = answer_deadline();
        loop {
            match self.connection.send(packet, fds) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    return Err(ClientError::RouterGone);
                }
                Err(error) => return Err(error.into()),
            }
            let mut polled = [PollFd::new(&self.connection, PollFlags::OUT)];
            if !sleep(&mut polled, Some(deadline))? {
                return Err(ClientError::NoAnswer);
            }
        }
    }

    /// The router's answer to a request; everything else is kept.
    fn answer(&mut self, request: u32) -> Result<(FromRouter, Vec<OwnedFd>), ClientError> {
        let deadline = answer_deadline();
        loop {
            let (message, descriptors) = self.receive(deadline).map_err(|error| match error {
                ClientError::Deadline => ClientError::NoAnswer,
                other => other,
            })?;
            match message {
                FromRouter::Refused { request: of, code, message } if of == request => {
                    return Err(ClientError::Refused { code, message });
                }
                FromRouter::Agents { request: of, .. }
                | FromRouter::LinkReady { request: of, .. }
                | FromRouter::Published { request: of, .. }
                | FromRouter::Subscribed { request: of }
                    if of == request =>
                {
                    return Ok((message, descriptors));
                }
                other => self.keep(other, descriptors)?,
            }
        }
    }

    /// One message from the router, with the right number of descriptors. Pings are answered on the way.
    fn receive(&mut self, deadline: Instant) -> Result<(FromRouter, Vec<OwnedFd>), ClientError> {
        loop {
            let packet = match self.connection.receive() {
                Ok(packet) => packet,
                Err(ReceiveError::WouldBlock) => {
                    let mut polled = [PollFd::new(&self.connection, PollFlags::IN)];
                    if !sleep(&mut polled, Some(deadline))? {
                        return Err(ClientError::Deadline);
                    }
                    continue;
                }
                Err(ReceiveError::Closed) => return Err(ClientError::RouterGone),
                Err(error) => return Err(error.into()),
            };
            let message = match FromRouter::decode(&packet.bytes) {
                Ok(message) => message,
                Err(crate::control::DecodeError::UnknownType { optional: true, .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if message.descriptors() != packet.descriptors.len() {
                return Err(ClientError::Protocol("a wrong number of descriptors"));
            }
            match message {
                FromRouter::Ping { nonce } => self.send(&ToRouter::Pong { nonce }, &[])?,
                message => return Ok((message, packet.descriptors)),
            }
        }
    }

    fn take_in_all(&mut self) -> Result<(), ClientError> {
        loop {
            match self.receive(Instant::now()) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what was not asked for.
    fn keep(&mut self, message: FromRouter, fds: Vec<OwnedFd>) -> Result<(), ClientError> {
        let event = match message {
            FromRouter::LinkOffered { lane, from } => {
                Event::LinkOffered(Offer { lane, from, side: PeerSide::from_descriptors(fds)? })
            }
            FromRouter::LinkClosed { lane, code, reason } => {
                self.grants.retain(|(of, _), _| *of != lane);
                self.changes.remove(&lane);
                Event::LinkClosed { lane, code, reason }
            }
            FromRouter::Granted { lane, grant } => {
                let [file] = exactly(fds)?;
                if self.grants.len() >= GRANTS_HELD_MAX {
                    return self.decline(lane, "too many grants that nobody took");
                }
                self.grants.insert((lane, grant), file);
                return Ok(());
            }
            FromRouter::TopicFound { request, lane, subject, policy, from } => {
                let [slots, region, control] = exactly(fds)?;
                let subscription = request;
                Event::TopicFound(TopicOffer {
                    subscription,
                    lane,
                    subject,
                    policy,
                    from,
                    slots,
                    region,
                    control,
                })
            }
            FromRouter::ReaderJoined { lane, reader } => {
                let [cursor, bell] = exactly(fds)?;
                self.change(lane, ReaderChange::Joined { reader, cursor, bell })
            }
            FromRouter::ReaderLeft { lane, reader } => {
                self.change(lane, ReaderChange::Left { reader })
            }
            FromRouter::Draining => Event::Draining,
            FromRouter::Refused { request: 0, code, message } => {
                return Err(ClientError::Refused { code, message });
            }
            // A late answer to a request that was given up.
            _ => return Ok(()),
        };
        if self.events.len() >= EVENTS_MAX {
            return Err(ClientError::Protocol("more events than can be kept"));
        }
        self.events.push_back(event);
        Ok(())
    }

    fn change(&mut self, lane: LaneId, change: ReaderChange) -> Event {
        self.changes.entry(lane).or_default().push_back(change);
        Event::ReadersChanged { lane }
    }
}

impl AsFd for Client {
    /// The socket: readable when [`Client::next_event`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl OwnSide {
    fn meet(mut self, lane: LaneId, peer: AgentInfo, side: PeerSide) -> Result<Link, ClientError> {
        let PeerSide { slots, cursor, region, bell, control } = side;
        self.sender.set_control(control.try_clone()?)?;
        self.sender.attach(peer.id, cursor, Some(bell))?;
        let receiver = Receiver::for_link(peer.id, slots, region, control, self.cursor)?;
        Ok(Link::new(lane, peer, self.sender, receiver))
    }
}

impl PeerSide {
    fn from_descriptors(descriptors: Vec<OwnedFd>) -> Result<Self, ClientError> {
        let [slots, cursor, region, bell, control] = exactly(descriptors)?;
        Ok(Self { slots, cursor, region, bell, control })
    }
}

fn exactly<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N], ClientError> {
    let wrong = ClientError::Protocol("a wrong number of descriptors");
    descriptors.try_into().map_err(|_| wrong)
}

fn unexpected(_: FromRouter) -> ClientError {
    ClientError::Protocol("an answer of another kind")
}

fn answer_deadline() -> Instant {
    Instant::now() + Duration::from_millis(ROUTER_ANSWER_MS)
}

fn sleep_on(fds: &[BorrowedFd<'_>; 2], deadline: Option<Instant>) -> Result<Woken, ClientError> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    Ok(if sleep(&mut polled, deadline)? { Woken::News } else { Woken::Deadline })
}

/// Whether one of the descriptors is ready before the deadline.
fn sleep(polled: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<bool, ClientError> {
    loop {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(polled, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
    }
}
