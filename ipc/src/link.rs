//! Links: a pair of opposite lanes with requests and answers on them.
//!
//! A request is a message with a [`Header`] of kind `Query` or `Task`, whose payload is u16 length of the tool's name, the
//! name, the arguments. Its answers have kind `Result` and the request's id as correlation: any number of intermediate ones
//! (flag MORE), then the last one, which is an error where flag ERROR is set. Not here: how a link comes to be (`client`),
//! and what arguments mean.
//!
//! A link can be split, so that one thread receives requests and others answer them (behind a lock of their own).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use thiserror::Error;

use crate::class::{AnyReceiver, AnySender, Class, ReceivingHalf, SendingHalf};
use crate::clock::Clock;
use crate::control::{AgentInfo, Terms};
use crate::doorbell::Ear;
use crate::header::{GrantId, Header, Kind, LaneId, PRIORITY_DEFAULT};
use crate::lane::{Ended, Large, ReceiveError, SendError, TakenMessage, WhenFull};
use crate::limits::{GRANTS_PER_REQUEST_MAX, SET_ASIDE_BYTES_MAX, SET_ASIDE_MAX, WORD_BYTES_MAX};
use crate::ring::{FLAG_CANCEL, FLAG_ERROR, FLAG_MORE, Meta, Violation};

mod answering;
mod calling;
mod reference;
#[cfg(test)]
mod tests;
mod view;

pub use answering::LastAnswer;
pub use reference::{REFERENCE_BYTES, Reference};
pub use view::{AnswerView, RequestView, View};

/// How payloads are to be read: CBOR.
pub const SCHEMA_CBOR: u32 = 1;

/// Two lanes with a peer.
#[derive(Debug)]
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
    set_aside: VecDeque<Incoming>,
}

/// The sending half of a link.
#[derive(Debug)]
pub struct LinkSender {
    lane: LaneId,
    sender: AnySender,
    next_request: u64,
    /// For when a message was sent.
    clock: Clock,
    /// The peer's bell is heard as long as either half is there: it tells of messages and of room.
    _ear: Option<Arc<Ear>>,
}

/// The receiving half of a link.
#[derive(Debug)]
pub struct LinkReceiver {
    lane: LaneId,
    peer: AgentInfo,
    terms: Terms,
    epoch: u32,
    receiver: AnyReceiver,
    /// See [`LinkSender`].
    _ear: Option<Arc<Ear>>,
}

/// A request that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Which tool.
    pub tool: &'a str,
    /// Its arguments.
    pub payload: &'a [u8],
    /// Descriptors that were granted for it.
    pub grants: &'a [GrantId],
    /// After this moment nobody wants the answer.
    pub deadline: Instant,
    /// 1 (least) to 10 (most urgent), for the order in which a server takes what waits; what lies outside counts as the nearest.
    pub priority: u8,
    /// What happens when the lane is full.
    pub when: WhenFull,
}

/// Names a request on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What came over a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The peer asks.
    Request(Request),
    /// The peer no longer waits for the answer of a request.
    Cancelled {
        /// The low half of the request's id.
        request: u32,
    },
    /// The peer answers.
    Answer {
        /// Which request.
        request: RequestId,
        /// What it says.
        answer: Answer,
    },
    /// Anything else: kind and payload.
    Other {
        /// What it is, where it had a header.
        header: Option<Header>,
        /// Its payload.
        payload: Vec<u8>,
    },
}

impl Incoming {
    /// What is kept of it beside its fixed size.
    fn bytes(&self) -> usize {
        match self {
            Self::Request(request) => request.payload.len(),
            Self::Other { payload, .. } => payload.len(),
            Self::Cancelled { .. } | Self::Answer { .. } => 0,
        }
    }
}

/// One request, as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it in answers.
    pub id: RequestId,
    /// `Query` or `Task`.
    pub kind: Kind,
    /// 1 (least) to 10 (most urgent).
    pub priority: u8,
    /// Which tool.
    pub tool: String,
    /// Its arguments.
    pub payload: Vec<u8>,
    /// Descriptors that were granted for it; `Client::take_grant` gives them.
    pub grants: Vec<GrantId>,
    /// After this moment nobody wants the answer.
    pub deadline: Option<SystemTime>,
    /// Joins everything that follows from one cause.
    pub trace: u128,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More follows.
    Progress(Vec<u8>),
    /// The last one.
    Done(Vec<u8>),
    /// The last one: the tool refused or failed.
    Failed(Vec<u8>),
}

/// How a call ended that the tool answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tool's result.
    Done(Vec<u8>),
    /// The tool's error.
    Failed(Vec<u8>),
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The peer died, closed the link, or lost the permission, before it answered.
    #[error("no answer from `{peer}`: {ended}")]
    Ended {
        /// The peer's name.
        peer: String,
        /// What happened.
        ended: Ended,
    },
    /// The deadline passed.
    #[error("no answer from `{peer}` until the deadline")]
    Deadline {
        /// The peer's name.
        peer: String,
    },
    /// The request did not fit into the lane until the deadline.
    #[error("the lane to `{peer}` is full")]
    Full {
        /// The peer's name.
        peer: String,
    },
    /// The peer broke the protocol; the link is given up.
    #[error("the link to `{peer}` is quarantined: {violation}")]
    Quarantined {
        /// The peer's name.
        peer: String,
        /// How.
        violation: Violation,
    },
    /// The request is longer than the bus carries, or its tool's name is.
    #[error("the request is too long: got {got} bytes, at most {max}")]
    TooLong {
        /// Its length.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// More grants than a request has room for.
    #[error("too many grants for one request: got {got}, at most {max}", max = GRANTS_PER_REQUEST_MAX)]
    TooManyGrants {
        /// How many.
        got: usize,
    },
    /// What the request was to bring along could not be sent to the router; the request was taken back, and unless an earlier file
    /// of several had gone, nothing of it was begun.
    #[error("`{peer}` could not be given what the request names: {problem}")]
    Ungranted {
        /// The peer's name.
        peer: String,
        /// Why not.
        problem: String,
    },
    /// The peer sends so much beside the answers that it cannot be kept.
    #[error("`{peer}` sent more other messages during a call than are kept")]
    Flooded {
        /// The peer's name.
        peer: String,
    },
}

impl Link {
    pub(crate) fn new(
        (lane, ear): (LaneId, Option<Ear>),
        peer: AgentInfo,
        (terms, epoch): (Terms, u32),
        sender: AnySender,
        receiver: AnyReceiver,
    ) -> Self {
        let ear = ear.map(Arc::new);
        let clock = Clock::new();
        let sender = LinkSender { lane, sender, next_request: 1, clock, _ear: ear.clone() };
        let receiver = LinkReceiver { lane, peer, terms, epoch, receiver, _ear: ear };
        Self { sender, receiver, set_aside: VecDeque::new() }
    }

    /// Which link this is.
    pub fn lane(&self) -> LaneId {
        self.receiver.lane
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &AgentInfo {
        &self.receiver.peer
    }

    /// How its messages travel.
    pub fn class(&self) -> Class {
        self.receiver.class()
    }

    /// The class, the one that the opener wanted, and why they differ.
    pub fn terms(&self) -> &Terms {
        &self.receiver.terms
    }

    /// Which life of the link between the two this is: greater for each link that the router sets up.
    pub fn epoch(&self) -> u32 {
        self.receiver.epoch
    }

    /// Two halves for different threads. Answers to calls that were given up are lost with the halves.
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }

    /// The sending half.
    pub fn sender(&mut self) -> &mut LinkSender {
        &mut self.sender
    }

    /// How messages come in, to be looked at only.
    pub(crate) fn way(&self) -> &AnyReceiver {
        &self.receiver.receiver
    }

    /// The receiving half.
    pub fn receiver(&mut self) -> &mut LinkReceiver {
        &mut self.receiver
    }

    /// Keeps a message that is no answer, within bounds.
    fn set_aside(&mut self, other: Incoming) -> Result<(), CallError> {
        let held: usize = self.set_aside.iter().map(Incoming::bytes).sum();
        let fits = held + other.bytes() <= SET_ASIDE_BYTES_MAX;
        if self.set_aside.len() >= SET_ASIDE_MAX || !fits {
            return Err(CallError::Flooded { peer: self.receiver.name() });
        }
        self.set_aside.push_back(other);
        Ok(())
    }

    /// The next message of any sort; waits until the deadline.
    pub fn next(&mut self, deadline: Instant) -> Result<Incoming, CallError> {
        match self.set_aside.pop_front() {
            Some(first) => Ok(first),
            None => self.receiver.receive(Some(deadline)),
        }
    }
}

impl LinkSender {
    /// Which link this is.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// How its messages travel.
    pub fn class(&self) -> Class {
        self.sender.class()
    }

    /// The way itself, for messages without requests.
    pub fn raw(&mut self) -> &mut AnySender {
        &mut self.sender
    }

    /// Sends a request of middle priority, and waits for room until its deadline. `peer` is named in errors.
    pub fn request(
        &mut self,
        tool: &str,
        payload: &[u8],
        grants: &[GrantId],
        deadline: Instant,
        peer: &str,
    ) -> Result<RequestId, CallError> {
        let when = WhenFull::WaitUntil(deadline);
        let priority = PRIORITY_DEFAULT;
        self.ask(Ask { tool, payload, grants, deadline, priority, when }, peer)
    }

    /// Sends a request; how long it waits for room is apart from how long the answer is wanted. `peer` is named in errors.
    pub fn ask(&mut self, ask: Ask<'_>, peer: &str) -> Result<RequestId, CallError> {
        let Ask { tool, payload, grants, deadline, priority, when } = ask;
        if tool.len() > WORD_BYTES_MAX {
            return Err(CallError::TooLong { got: tool.len(), max: WORD_BYTES_MAX });
        }
        if grants.len() > GRANTS_PER_REQUEST_MAX {
            return Err(CallError::TooManyGrants { got: grants.len() });
        }
        let length = (tool.len() as u16).to_le_bytes();
        let parts = [&length[..], tool.as_bytes(), payload];
        self.ask_parts(&parts, grants, (deadline, priority, when), peer)
    }

    /// The same where tool and arguments are laid out already: the bytes of a request, in parts.
    #[inline]
    pub(crate) fn ask_parts(
        &mut self,
        parts: &[&[u8]],
        grants: &[GrantId],
        (deadline, priority, when): (Instant, u8, WhenFull),
        peer: &str,
    ) -> Result<RequestId, CallError> {
        let id = self.next_request;
        self.next_request += 1;
        let mut header = Header::new(Kind::Task);
        header.id = id;
        header.priority = priority.clamp(1, 10);
        header.time_ns = self.clock.now_ns();
        // One that has passed is over now.
        header.deadline_ns = self.clock.at(deadline, header.time_ns).max(header.time_ns);
        header.schema = SCHEMA_CBOR;
        for (place, grant) in header.context.iter_mut().zip(grants) {
            *place = grant.0;
        }
        let meta = Meta { priority: header.priority, correlation: id as u32, ..Meta::default() };
        let message = Large { header: Some(&header), meta, parts };
        match self.sender.send_large(message, when) {
            Ok(()) => Ok(RequestId(id)),
            Err(error) => Err(CallError::from_send(error, peer)),
        }
    }

    /// Tells the peer that nobody waits for an answer any more. Never waits.
    pub fn cancel(&mut self, request: RequestId) -> Result<(), SendError> {
        let correlation = request.0 as u32;
        let meta = Meta { flags: FLAG_CANCEL, correlation, ..Meta::default() };
        self.sender.send(meta, &[], WhenFull::Reject)
    }

    /// Sends an intermediate answer. With [`WhenFull::Reject`] it is refused rather than waited for.
    pub fn progress(
        &mut self,
        request: RequestId,
        payload: &[u8],
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.reply(request, FLAG_MORE, payload, when)
    }

    /// Sends the last answer.
    pub fn answer(
        &mut self,
        request: RequestId,
        payload: &[u8],
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.reply(request, 0, payload, when)
    }

    /// Sends the last answer: the tool's error.
    pub fn fail(
        &mut self,
        request: RequestId,
        error: &[u8],
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.reply(request, FLAG_ERROR, error, when)
    }

    fn reply(
        &mut self,
        request: RequestId,
        flags: u8,
        payload: &[u8],
        when: WhenFull,
    ) -> Result<(), SendError> {
        let (header, meta) = self.reply_head(request, flags);
        let message = Large { header: Some(&header), meta, parts: &[payload] };
        self.sender.send_large(message, when)
    }
}

impl LinkReceiver {
    /// Which link this is.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &AgentInfo {
        &self.peer
    }

    /// How its messages travel.
    pub fn class(&self) -> Class {
        self.receiver.class()
    }

    /// The class, the one that the opener wanted, and why they differ.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The router's page about this link, to be handed to whoever must learn of its end: the lender of a pool.
    pub fn control(&self) -> Option<BorrowedFd<'_>> {
        self.receiver.control().map(AsFd::as_fd)
    }

    /// The way itself: for messages without requests, and for sleeping in an event loop.
    pub fn raw(&mut self) -> &mut AnyReceiver {
        &mut self.receiver
    }

    /// The next message, if it is there.
    pub fn try_receive(&mut self) -> Result<Option<Incoming>, CallError> {
        match self.try_view() {
            Ok(view) => Ok(view.map(View::to_incoming)),
            Err(error) => Err(CallError::from_receive(error, &self.peer.manifest.name)),
        }
    }

    /// Takes the next message out of the link, if it is there: it stays in `taken` while the link goes on, and nothing is copied
    /// or allocated for it. False where nothing is there.
    pub fn try_take(&mut self, taken: &mut TakenMessage) -> Result<bool, CallError> {
        let is_there = match &mut self.receiver {
            AnyReceiver::Critical(lane) => lane.try_take(taken),
            other => other
                .try_receive()
                .map(|message| message.map(|message| taken.copy(message)).is_some()),
        };
        is_there.map_err(|error| CallError::from_receive(error, &self.peer.manifest.name))
    }

    /// The next message, if it is there, where it lies: nothing is copied and nothing is allocated.
    pub fn try_view(&mut self) -> Result<Option<View<'_>>, ReceiveError> {
        Ok(self.receiver.try_receive()?.map(View::of))
    }

    /// The next message; waits until the deadline, or without end.
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<Incoming, CallError> {
        Ok(self.view(deadline)?.to_incoming())
    }

    /// The same, where it lies.
    fn view(&mut self, deadline: Option<Instant>) -> Result<View<'_>, CallError> {
        match self.receiver.receive(deadline) {
            Ok(message) => Ok(View::of(message)),
            Err(error) => Err(CallError::from_receive(error, &self.peer.manifest.name)),
        }
    }

    fn name(&self) -> String {
        self.peer.manifest.name.clone()
    }
}

impl CallError {
    fn from_send(error: SendError, peer: &str) -> Self {
        let peer = peer.to_owned();
        match error {
            SendError::Full => Self::Full { peer },
            SendError::TooLong { got, max } => Self::TooLong { got, max },
            SendError::Ended(ended) => Self::Ended { peer, ended },
            SendError::Quarantined(violation) => Self::Quarantined { peer, violation },
        }
    }

    fn from_receive(error: ReceiveError, peer: &str) -> Self {
        let peer = peer.to_owned();
        match error {
            ReceiveError::Deadline => Self::Deadline { peer },
            ReceiveError::Ended(ended) => Self::Ended { peer, ended },
            ReceiveError::Quarantined(violation) => Self::Quarantined { peer, violation },
            // A link is gated from the start; its receiver never reports a lap.
            ReceiveError::Lost(_) => Self::Ended { peer, ended: Ended::Closed },
        }
    }
}
