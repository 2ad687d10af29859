//! What goes into the router and what comes out: events and effects, plain data.

use ipc::control::{AgentInfo, FromRouter, Report, ToRouter};
use ipc::header::{AgentId, LaneId};
use ipc::manifest::AgentManifest;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event<D> {
    /// A connection said `Hello`. Its peer was checked by whoever raises this.
    Hello(Newcomer),
    /// An agent sent a well-formed message, with the descriptors that its kind calls for.
    Message {
        /// Who.
        agent: AgentId,
        /// What.
        message: ToRouter,
        /// The descriptors, checked; `None` for kinds that carry none.
        segments: Option<D>,
    },
    /// An agent sent a message whose descriptors failed their checks.
    BadSegment {
        /// Who.
        agent: AgentId,
        /// What.
        message: ToRouter,
        /// The code of the refusal.
        code: &'static str,
        /// What was wrong, for people.
        reason: String,
    },
    /// An agent broke the protocol and cannot stay.
    Malformed {
        /// Who.
        agent: AgentId,
        /// What was wrong, for people.
        reason: String,
    },
    /// An agent's process ended or its connection did.
    Gone {
        /// Who.
        agent: AgentId,
        /// Which of the two, for people.
        reason: String,
    },
    /// Time passed; see [`super::Router::next_deadline`].
    Tick,
    /// The daemon stops.
    Drain,
}

/// A connection that asks to become an agent.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    /// The id that its connection was given.
    pub(crate) agent: AgentId,
    /// Its process, as the kernel says.
    pub(crate) pid: u32,
    /// Its user, as the kernel says.
    pub(crate) uid: u32,
    /// The name under which the supervisor started this very process, if it did.
    pub(crate) hosted_as: Option<String>,
    /// The protocol version that both sides can speak.
    pub(crate) version: (u16, u16),
    /// What it says of itself.
    pub(crate) manifest: AgentManifest,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect<D> {
    /// Send a message, with descriptors taken from `carry`.
    Send {
        /// To whom.
        to: AgentId,
        /// What.
        message: FromRouter,
        /// With which descriptors.
        carry: Carry<D>,
    },
    /// Send what was queued and close the connection.
    Close {
        /// Whose.
        agent: AgentId,
    },
    /// Count a lane's messages from here on. A link has two writers, a topic one.
    LaneOpened {
        /// Which.
        lane: LaneId,
        /// The opener's or topic writer's segments; they include the control page.
        first: D,
        /// The acceptor's.
        second: Option<D>,
    },
    /// Keep the lane's final counts, revoke its control page and let go of its memory.
    LaneEnded {
        /// Which.
        lane: LaneId,
        /// What its control page is to say.
        ending: Ending,
    },
    /// Let the control page of an offer that came to nothing say so: the other side may have mapped it
    /// already.
    OfferEnded {
        /// The opener's segments; they include the control page.
        segments: D,
        /// What the page is to say.
        ending: Ending,
    },
    /// Answer `Status`.
    TellStatus {
        /// Who asks.
        to: AgentId,
        /// Which request.
        request: u32,
    },
    /// Bring the directory up to date and hand it over.
    TellDirectory {
        /// Who asks.
        to: AgentId,
        /// Which request.
        request: u32,
    },
    /// A hosted agent's counters.
    Reported {
        /// Whose.
        name: String,
        /// What it counted in this life.
        report: Report,
    },
    /// An agent is on the bus.
    Arrived {
        /// Who.
        info: AgentInfo,
        /// Whether the supervisor started it.
        hosted: bool,
    },
    /// An agent left the bus.
    Left {
        /// Who.
        agent: AgentId,
        /// Its name.
        name: String,
        /// Whether the supervisor started it.
        hosted: bool,
        /// Why, for people.
        reason: String,
    },
}

/// Why a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// One side wanted it.
    Closed,
    /// One side is dead or lost its connection.
    PeerGone,
    /// The router took it away.
    Revoked,
    /// One side closed it because the other one broke the protocol.
    Quarantined,
}

impl Ending {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Closed, Self::PeerGone, Self::Revoked, Self::Quarantined];

    /// What clients and metrics are told.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::PeerGone => "peer-gone",
            Self::Revoked => "revoked",
            Self::Quarantined => "quarantined",
        }
    }
}

/// The descriptors of a message, by the part they play; the order on the wire stands in
/// `ipc::control`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Carry<D> {
    /// None.
    Nothing,
    /// A link's offer: the opener's segments and its control page.
    Offer(D),
    /// A ready link: the acceptor's segments, and the control page out of the opener's.
    Ready {
        /// The acceptor's.
        peer: D,
        /// The opener's, for the control page.
        own: D,
    },
    /// One granted descriptor.
    Grant(D),
    /// A new topic's control page.
    Control(D),
    /// A topic's slots, region and control page.
    Topic(D),
    /// A reader's cursor and doorbell.
    Reader(D),
}
