//! The client library: one connection to the router, and the links and topics that come from it.
//!
//! No hidden threads: the program asks for events, or puts [`Client`]'s descriptor and its doorbell into an event loop.
//! Links and topics live on without the client being asked, except that descriptors travel over its socket.
//! Not here: the messages on a link (`link`), and the router (`runtime`). Topics and groups have files of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::class::{AnySender, ClassSet, ReceivingHalf};
use crate::closer::{Closer, Foreign};
use crate::control::{
    AgentInfo, CLASSES_SINCE, CloseCause, FromRouter, Lineage, Report, Terms, ToRouter,
    TopicPolicy, TopicTerms, VERSION,
};
use crate::directory;
use crate::doorbell::Doorbell;
use crate::fault;
use crate::header::{AgentId, GrantId, LaneId};
use crate::lane::{LaneOptions, Sender};
use crate::limits::{GRANTS_HELD_MAX, TEXT_BYTES_MAX};
use crate::link::Link;
use crate::manifest::AgentManifest;
use crate::socket::Connection;
use crate::topic::ReaderChange;

mod batch;
mod call;
mod error;
mod exchange;
mod groups;
mod setup;
mod starved;
#[cfg(test)]
mod tests;
mod topics;

pub use call::Kept;
pub use error::ClientError;
use exchange::{answer_deadline, exactly, sleep};
pub use setup::LinkOptions;
use setup::{OwnSide, PeerSide};

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
    /// The lane of the next link, where it was made ahead.
    spare: Option<Sender>,
    next_request: u32,
    next_grant: u64,
    events: VecDeque<Event>,
    /// Own links and topics that are open. What the router sent for another one was on its way when that was closed here.
    open: BTreeSet<LaneId>,
    /// In the order in which each peer granted them.
    grants: BTreeMap<(LaneId, GrantId), Foreign>,
    /// For granted descriptors that nobody takes.
    closer: Option<Closer>,
    /// Grants that are closed when they come: requests travel faster.
    unwanted: BTreeSet<(LaneId, GrantId)>,
    /// Second halves of routes that were asked for.
    routes: BTreeMap<u32, OwnSide>,
    /// What the router allows for links.
    allowed: ClassSet,
    /// What this program allows itself.
    own_classes: ClassSet,
    /// For publishers that have not asked yet.
    changes: HashMap<LaneId, VecDeque<ReaderChange>>,
    /// Topics whose publisher was told of readers to expect.
    groups: BTreeSet<LaneId>,
    /// Whether a topic is being published, of which the router tells before it gives its number.
    publishing: bool,
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
    /// A topic matches a subscription: [`Client::join`], or [`Client::follow`] where its writer has started again.
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
    /// The best class that it can have, what was wanted, and why it is not that.
    pub terms: Terms,
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
    /// What else the writer declared.
    pub terms: TopicTerms,
    /// What was before.
    pub lineage: Lineage,
    slots: OwnedFd,
    region: OwnedFd,
    control: OwnedFd,
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

    /// The same for whoever opens a link next, of a lane of these sizes: it is made while the router looks at the introduction.
    pub fn connect_for_link(
        path: &Path,
        manifest: &AgentManifest,
        token: &[u8],
        options: LaneOptions,
    ) -> Result<Self, ClientError> {
        Self::introduce_with(Connection::connect(path)?, manifest, token, Some(options))
    }

    /// Introduces itself over a connection that was made or inherited.
    pub fn introduce(
        connection: Connection,
        manifest: &AgentManifest,
        token: &[u8],
    ) -> Result<Self, ClientError> {
        Self::introduce_with(connection, manifest, token, None)
    }

    fn introduce_with(
        connection: Connection,
        manifest: &AgentManifest,
        token: &[u8],
        next: Option<LaneOptions>,
    ) -> Result<Self, ClientError> {
        connection.set_nonblocking(true)?;
        let mut client = Self {
            connection,
            doorbell: Doorbell::new()?,
            agent: AgentId(0),
            instance: 0,
            version: VERSION,
            options: LaneOptions::default(),
            spare: None,
            next_request: 1,
            next_grant: 1,
            events: VecDeque::new(),
            open: BTreeSet::new(),
            grants: BTreeMap::new(),
            closer: None,
            unwanted: BTreeSet::new(),
            routes: BTreeMap::new(),
            allowed: ClassSet::CRITICAL,
            own_classes: ClassSet::LINKS,
            changes: HashMap::new(),
            groups: BTreeSet::new(),
            publishing: false,
        };
        fault::point("client.connected");
        let (manifest, token) = (manifest.clone(), token.to_vec());
        client.send(&ToRouter::Hello { version: VERSION, manifest, token }, &[])?;
        fault::point("client.hello-sent");
        if let Some(options) = next {
            client.set_lane_options(options);
            client.prepare_lane();
        }
        let first = client.receive(answer_deadline()).map_err(|error| match error {
            ClientError::Deadline => ClientError::NoAnswer,
            other => other,
        })?;
        match first.0 {
            FromRouter::Welcome { version, agent, instance, classes } => {
                (client.version, client.agent, client.instance) = (version, agent, instance);
                client.allowed = classes;
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
        self.spare = None;
    }

    /// Makes the lane of the next link now, where none is ready: to have the kernel clear and map the memory of a large one takes longer than
    /// everything else that two sides wait for. For whoever has time at the moment; it holds that memory until then.
    pub fn prepare_lane(&mut self) {
        if self.spare.is_none() {
            // Who needs one tries again and says why not.
            self.spare = Sender::for_link(self.options).ok();
        }
    }

    /// Classes that this program does without, whatever the router allows: what is left out, links fall below.
    pub fn set_classes(&mut self, classes: ClassSet) {
        self.own_classes = classes;
    }

    /// Has descriptors that peers granted and nobody takes closed elsewhere: closing one may wait for as long as its maker
    /// likes. Unless set they are closed here.
    pub fn set_closer(&mut self, closer: Closer) {
        self.closer = Some(closer);
    }

    /// The classes that the router allows for links.
    pub fn classes(&self) -> ClassSet {
        self.allowed
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

    /// Declines an offered link, or closes an open one or a topic.
    pub fn decline(&mut self, lane: LaneId, reason: &str) -> Result<(), ClientError> {
        self.close_lane(lane, reason, CloseCause::Wanted)
    }

    /// Closes a link because the peer broke the protocol, which is what both sides are told: the code is `quarantined`.
    pub fn quarantine(&mut self, lane: LaneId, reason: &str) -> Result<(), ClientError> {
        self.close_lane(lane, reason, CloseCause::Quarantined)
    }

    fn close_lane(
        &mut self,
        lane: LaneId,
        reason: &str,
        why: CloseCause,
    ) -> Result<(), ClientError> {
        self.forget(lane);
        let reason = shortened(reason);
        self.send(&ToRouter::CloseLink { lane, reason, why }, &[])
    }

    /// Takes a permission back: ends one link or topic of an agent, or with no lane all of them. Both sides learn that it was
    /// revoked. Gives how many ended. Refused to hosted agents.
    pub fn revoke(
        &mut self,
        agent: &str,
        lane: Option<LaneId>,
        reason: &str,
    ) -> Result<u32, ClientError> {
        if self.version < CLASSES_SINCE {
            let message = "it is older than revocation".to_owned();
            return Err(ClientError::Refused { code: "version".to_owned(), message });
        }
        let request = self.request_number();
        let (agent, reason) = (agent.to_owned(), reason.to_owned());
        let lane = lane.unwrap_or_default();
        self.send(&ToRouter::Revoke { request, agent, lane, reason }, &[])?;
        match self.answer(request)?.0 {
            FromRouter::Revoked { count, .. } => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    /// Hands a descriptor to the peer of a link; a request names it by what this returns.
    pub fn grant(&mut self, lane: LaneId, file: BorrowedFd<'_>) -> Result<GrantId, ClientError> {
        let grant = self.number_grant();
        self.send_grant(lane, grant, file)?;
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
                return Ok(file.into_inner());
            }
            match self.receive(deadline) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Err(ClientError::NoGrant { lane, grant }),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes in what has come by now, without waiting: events wait for [`Self::next_event`], grants for [`Self::held_grant`].
    ///
    /// # Errors
    /// Those of the connection.
    pub fn take_in(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        loop {
            match self.receive(now) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// A descriptor that was granted and has come already.
    pub fn held_grant(&mut self, lane: LaneId, grant: GrantId) -> Option<OwnedFd> {
        self.grants.remove(&(lane, grant)).map(Foreign::into_inner)
    }

    /// Closes descriptors that were granted for a request that nobody will serve.
    pub fn discard_grants(&mut self, lane: LaneId, grants: &[GrantId]) {
        for grant in grants {
            let is_here = self.grants.remove(&(lane, *grant)).is_some();
            let may_come = !is_here && self.open.contains(&lane);
            if may_come && self.unwanted.len() < GRANTS_HELD_MAX {
                self.unwanted.insert((lane, *grant));
            }
        }
    }

    /// The next event; waits until the deadline (a past one: does not wait).
    pub fn next_event(&mut self, deadline: Instant) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::LinkClosed { lane, .. } = &event {
                    // Its offer may have been accepted while this waited here.
                    self.forget(*lane);
                }
                return Ok(Some(event));
            }
            match self.receive(deadline) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether [`Client::next_event`] has something without looking at the connection.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Looks at the connection: whether [`Client::next_event`] has something.
    pub(crate) fn look_for_events(&mut self) -> Result<bool, ClientError> {
        self.take_in_all()?;
        Ok(self.has_events())
    }

    /// What a sleeping program watches beside the descriptors of its lanes: the connection and the doorbell.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.connection.as_fd(), self.doorbell.as_fd()]
    }

    /// Sleeps until one of the lanes or the router has news, or until the deadline.
    pub fn wait(
        &mut self,
        lanes: &mut [&mut dyn ReceivingHalf],
        deadline: Option<Instant>,
    ) -> Result<Woken, ClientError> {
        self.wait_for_room(lanes, &mut [], deadline)
    }

    /// The same, and until one of the writers, none of which found room when it was last tried, may find some. One that is not
    /// told of room ([`AnySender::is_told_of_room`]) is left out by whoever calls, and tried again after a while.
    pub fn wait_for_room(
        &mut self,
        lanes: &mut [&mut dyn ReceivingHalf],
        writers: &mut [&mut AnySender],
        deadline: Option<Instant>,
    ) -> Result<Woken, ClientError> {
        if !self.events.is_empty() {
            return Ok(Woken::News);
        }
        let armed = lanes.iter_mut().position(|lane| !lane.arm()).unwrap_or(lanes.len());
        let mut writers_armed = 0;
        if armed == lanes.len() {
            let first = writers.iter_mut().position(|writer| !writer.arm());
            writers_armed = first.unwrap_or(writers.len());
        }
        let woken = if armed < lanes.len() || writers_armed < writers.len() {
            Ok(Woken::News)
        } else {
            let own = [self.connection.as_fd(), self.doorbell.as_fd()];
            sleep_on(own, writers, deadline)
        };
        lanes[..armed].iter_mut().for_each(|lane| lane.disarm());
        writers[..writers_armed].iter_mut().for_each(|writer| writer.disarm());
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
}

impl AsFd for Client {
    /// The socket: readable when [`Client::next_event`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Words of others, cut to what fits into a text.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().filter(|one| !one.is_control()).collect()
}

fn unexpected(_: FromRouter) -> ClientError {
    ClientError::Protocol("an answer of another kind")
}

/// Sleeps on what is always watched, and on the sockets of writers that have one.
fn sleep_on(
    own: [BorrowedFd<'_>; 2],
    writers: &[&mut AnySender],
    deadline: Option<Instant>,
) -> Result<Woken, ClientError> {
    let own = own.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let is_ready = if writers.is_empty() {
        sleep(&mut { own }, deadline)?
    } else {
        let sockets = writers.iter().filter_map(|writer| writer.descriptor());
        let sockets = sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::OUT));
        sleep(&mut own.into_iter().chain(sockets).collect::<Vec<_>>(), deadline)?
    };
    Ok(if is_ready { Woken::News } else { Woken::Deadline })
}
