//! The client library: one connection to the router, and the links and topics that come from it.
//!
//! No hidden threads: the program asks for events, or puts [`Client`]'s descriptor and its doorbell into an event loop.
//! Links and topics live on without the client being asked, except that descriptors travel over its socket.
//! Not here: the messages on a link (`link`), and the router (`runtime`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::control::{AgentInfo, FromRouter, Report, ToRouter, TopicPolicy, VERSION};
use crate::directory;
use crate::doorbell::Doorbell;
use crate::fault;
use crate::header::{AgentId, GrantId, LaneId};
use crate::lane::{LaneOptions, Receiver, SendError, Sender, WhenFull};
use crate::limits::{GRANTS_HELD_MAX, PUBLISH_SLICE_MS};
use crate::link::Link;
use crate::manifest::AgentManifest;
use crate::segment::Cursor;
use crate::socket::Connection;
use crate::topic::{Publisher, ReaderChange, Subscriber};
use crate::wait::Spin;

mod call;
mod error;
mod exchange;
#[cfg(test)]
mod tests;

pub use error::ClientError;
use exchange::{answer_deadline, exactly, sleep};

/// The version of the control plane from which on routers have a directory.
const DIRECTORY_SINCE: (u16, u16) = (1, 1);

/// What the other side is told of a link whose segments are refused here.
const UNFIT: &str = "the link could not be set up";

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
    /// In the order in which each peer granted them.
    grants: BTreeMap<(LaneId, GrantId), OwnedFd>,
    /// Grants that are closed when they come: requests travel faster.
    unwanted: BTreeSet<(LaneId, GrantId)>,
    /// Second halves of routes that were asked for.
    routes: BTreeMap<u32, OwnSide>,
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
    /// Told to the exchange only: a link that is to pass through it. [`Client::open_route`], then [`Client::accept`].
    RouteWanted {
        /// The opener's half.
        offer: Offer,
        /// Whom it is for.
        target: Box<AgentInfo>,
    },
    /// A link is ready that [`Client::open_route`] asked for.
    RouteReady {
        /// What that gave.
        request: u32,
        /// The second half.
        link: Box<Link>,
    },
    /// It was refused.
    RouteRefused {
        /// What [`Client::open_route`] gave.
        request: u32,
        /// Why, as a code.
        code: String,
        /// Why, for people.
        message: String,
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
#[derive(Debug)]
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
            grants: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            routes: BTreeMap::new(),
            changes: HashMap::new(),
        };
        fault::point("client.connected");
        let (manifest, token) = (manifest.clone(), token.to_vec());
        client.send(&ToRouter::Hello { version: VERSION, manifest, token }, &[])?;
        fault::point("client.hello-sent");
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

    /// The bus directory, brought up to date. The router refreshes it for some seconds from then on; whoever looks longer
    /// asks again.
    pub fn directory(&mut self) -> Result<directory::Reader, ClientError> {
        if self.version < DIRECTORY_SINCE {
            let message = "it is older than the directory".to_owned();
            return Err(ClientError::Refused { code: "version".to_owned(), message });
        }
        let request = self.request_number();
        self.send(&ToRouter::Directory { request }, &[])?;
        match self.answer(request)? {
            (FromRouter::Directory { .. }, descriptors) => {
                let [directory] = exactly(descriptors)?;
                Ok(directory::Reader::open(directory)?)
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Opens a link to an agent by name, or to one that answers a tool.
    pub fn open(&mut self, target: &str) -> Result<Link, ClientError> {
        let own = self.own_side()?;
        let request = self.request_number();
        let message = ToRouter::OpenLink { request, target: target.to_owned() };
        let (sender, bell) = (&own.sender, self.doorbell.ringer_for_peer()?);
        let (cursor, bell) = (own.cursor.as_fd(), bell.as_fd());
        self.send(&message, &[sender.slots_fd(), cursor, sender.region_fd(), bell])?;
        fault::point("client.open-sent");
        match self.answer(request)? {
            (FromRouter::LinkReady { lane, peer, .. }, descriptors) => {
                fault::point("client.open-answered");
                let side = PeerSide::from_descriptors(descriptors);
                let met = side.and_then(|side| own.meet(lane, peer, side));
                if met.is_err() {
                    // The peer changed its segments after the router had checked them.
                    self.decline(lane, UNFIT)?;
                }
                met
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Asks for the second half of a route, without waiting: [`Event::RouteReady`] or [`Event::RouteRefused`] follows,
    /// with the number that this returns. Only the exchange may.
    pub fn open_route(&mut self, first: LaneId) -> Result<u32, ClientError> {
        let own = self.own_side()?;
        let request = self.request_number();
        let (sender, bell) = (&own.sender, self.doorbell.ringer_for_peer()?);
        let (cursor, bell) = (own.cursor.as_fd(), bell.as_fd());
        let descriptors = [sender.slots_fd(), cursor, sender.region_fd(), bell];
        self.send(&ToRouter::OpenRoute { request, first }, &descriptors)?;
        self.routes.insert(request, own);
        Ok(request)
    }

    /// Accepts a link that was offered.
    pub fn accept(&mut self, offer: Offer) -> Result<Link, ClientError> {
        let lane = offer.lane;
        let accepted = self.try_accept(offer);
        if let Err(error) = &accepted
            && !matches!(error, ClientError::RouterGone)
        {
            // Whoever wants the link would wait for it otherwise.
            self.decline(lane, UNFIT)?;
        }
        accepted
    }

    fn try_accept(&mut self, offer: Offer) -> Result<Link, ClientError> {
        let Offer { lane, from, side } = offer;
        // The peer's segments are checked before anybody hears of an acceptance.
        let link = self.own_side()?.meet(lane, from, side)?;
        fault::point("client.offer-mapped");
        let (sender, receiver) = link.raw_halves();
        let packet = ToRouter::AcceptLink { lane }.encode()?;
        let (cursor, bell) = (receiver.cursor_fd(), self.doorbell.ringer_for_peer()?);
        let bell = bell.as_fd();
        self.send_packet(&packet, &[sender.slots_fd(), cursor, sender.region_fd(), bell])?;
        fault::point("client.accept-sent");
        Ok(link)
    }

    /// Declines an offered link, or closes an open one or a topic.
    pub fn decline(&mut self, lane: LaneId, reason: &str) -> Result<(), ClientError> {
        self.grants.retain(|(of, _), _| *of != lane);
        self.unwanted.retain(|(of, _)| *of != lane);
        self.send(&ToRouter::CloseLink { lane, reason: reason.to_owned() }, &[])
    }

    /// Hands a descriptor to the peer of a link; a request names it by what this returns.
    pub fn grant(&mut self, lane: LaneId, file: BorrowedFd<'_>) -> Result<GrantId, ClientError> {
        let grant = GrantId(self.next_grant);
        self.next_grant += 1;
        self.send(&ToRouter::Grant { lane, grant }, &[file])?;
        fault::point("client.granted");
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

    /// Closes descriptors that were granted for a request that nobody will serve.
    pub fn discard_grants(&mut self, lane: LaneId, grants: &[GrantId]) {
        for grant in grants {
            let is_here = self.grants.remove(&(lane, *grant)).is_some();
            if !is_here && self.unwanted.len() < GRANTS_HELD_MAX {
                self.unwanted.insert((lane, *grant));
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
        fault::point("client.publish-sent");
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
        if let Some(changes) = self.changes.remove(&publisher.lane()) {
            publisher.apply(changes);
        }
        Ok(())
    }

    /// Publishes, and waits for room until the deadline; a reader that dies meanwhile is forgotten, so it cannot hold the
    /// writer back. Looks at the socket each time: where speed matters, `Publisher::publish` and [`Client::update`] now and
    /// then.
    pub fn publish(
        &mut self,
        publisher: &mut Publisher,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        loop {
            self.update(publisher)?;
            let slice = Instant::now() + Duration::from_millis(PUBLISH_SLICE_MS);
            let when = WhenFull::WaitUntil(slice.min(deadline));
            match publisher.publish(payload, when) {
                Err(SendError::Full) if Instant::now() < deadline => {}
                result => return Ok(result?),
            }
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
        let bell = self.doorbell.ringer_for_peer()?;
        self.send_packet(&packet, &[receiver.cursor_fd(), bell.as_fd()])?;
        fault::point("client.join-sent");
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
        // Afterwards, never before: what was rung since the program last looked must still wake it.
        self.doorbell.clear();
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

fn unexpected(_: FromRouter) -> ClientError {
    ClientError::Protocol("an answer of another kind")
}

fn sleep_on(fds: &[BorrowedFd<'_>; 2], deadline: Option<Instant>) -> Result<Woken, ClientError> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    Ok(if sleep(&mut polled, deadline)? { Woken::News } else { Woken::Deadline })
}
