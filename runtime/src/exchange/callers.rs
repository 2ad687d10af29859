//! Links of agents that ask the exchange itself: who they are, what they have asked, and what waits to be sent to them.
//!
//! Nothing here waits: what finds no room in a caller's lane stays in its outbox, in order, a long message from the chunk
//! on that found none. A caller whose lane is broken, or that lets its outbox fill up, is given up, and so said
//! ([`Callers::take_given_up`]). Not here: what is asked (`work`,
//! `logs`).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use ipc::class::{AnyReceiver, AnySender, Class, SendingHalf};
use ipc::clock::Clock;
use ipc::exchange::log::Appended;
use ipc::header::{AgentId, Header, Kind, LaneId};
use ipc::lane::{Large, SendError, WhenFull};
use ipc::link::{Incoming, LinkReceiver, LinkSender, RequestId, SCHEMA_CBOR};
use ipc::ring::{FLAG_ERROR, FLAG_MORE, Meta};

use super::names::Names;
use super::queue::{Agent, Delivery, NameId, QueueId};
use super::rates::Rate;
use crate::limits::{
    CALLER_OUTBOX_BYTES_MAX, CALLER_OUTBOX_ITEM_BYTES_MAX, CALLER_OUTBOX_MESSAGES_MAX,
    CALLER_READ_AHEAD_BYTES_MAX, CALLER_READ_AHEAD_MESSAGES_MAX,
};

/// Why a link is given up whose reader cannot be trusted.
pub(super) const READER_BROKE: &str = "the reader broke the protocol";
/// Why one is given up whose reader has ended, which the router may not know.
pub(super) const READER_ENDED: &str = "its reader ended";

/// All of them.
#[derive(Default)]
pub(super) struct Callers {
    links: BTreeMap<LaneId, Caller>,
    names: Names,
    /// Links that are no use any more, and why.
    given_up: BTreeMap<LaneId, &'static str>,
    /// For when a message was sent.
    clock: Clock,
}

/// One link.
pub(super) struct Caller {
    pub(super) agent: Agent,
    /// The agent's name.
    pub(super) name: Rc<str>,
    pub(super) receiver: LinkReceiver,
    /// Puts and takes that are not over: from the low half of the request's id to the number that the queue knows.
    pub(super) open: HashMap<u32, u64>,
    /// How many requests a second its agent may make; none is any number.
    pub(super) rate: Option<Rate>,
    /// What came behind a request that waits, in order; read so that a cancellation among it is heard.
    read_ahead: VecDeque<Incoming>,
    read_ahead_bytes: usize,
    sender: LinkSender,
    outbox: VecDeque<Outgoing>,
    outbox_bytes: usize,
    /// Of items, which are queues' own as well while these have them.
    outbox_item_bytes: usize,
    messages: u64,
    /// The lane has ended: the router will tell, or the link is given up.
    has_ended: bool,
}

/// A message on its way.
#[derive(Debug)]
struct Outgoing {
    request: RequestId,
    said: Said,
    number: u64,
    /// Bytes of it that are in the lane.
    sent: usize,
}

/// One message to a caller.
#[derive(Debug)]
pub(super) enum Said {
    /// More follows.
    Progress(Vec<u8>),
    /// The last answer.
    Done(Vec<u8>),
    /// The last answer: records were appended. The one that is given most often, so nothing is allocated for it.
    Appended(Appended),
    /// The last answer is an error.
    Failed(Vec<u8>),
    /// An item for a take; more follows.
    Item(Box<Parcel>),
    /// Not an answer: somebody else's work is this caller's now.
    Handoff(Box<Parcel>),
}

/// An item on its way. Its bytes are the queue's own, not a copy.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) queue: QueueId,
    pub(super) delivery: Delivery,
    /// What stands before the payload.
    pub(super) head: Vec<u8>,
}

/// What is left of a link.
pub(super) struct Remains {
    pub(super) agent: Agent,
    /// Whether this was the agent's last link.
    pub(super) is_last: bool,
    /// Items of which not a byte was sent, for its takes and from other workers.
    pub(super) unsent: Vec<Parcel>,
    pub(super) unsent_handoffs: Vec<Parcel>,
}

/// What a look at an outbox came to.
enum Flushed {
    /// As far as there was room.
    Fine,
    /// The link is no use any more.
    Broken(&'static str),
}

impl Said {
    /// Bytes that only this message keeps in memory.
    fn own_bytes(&self) -> usize {
        match self {
            Self::Progress(bytes) | Self::Done(bytes) | Self::Failed(bytes) => bytes.len(),
            Self::Appended(_) => 0,
            Self::Item(parcel) | Self::Handoff(parcel) => parcel.head.len(),
        }
    }

    /// Bytes of an item.
    fn item_bytes(&self) -> usize {
        match self {
            Self::Progress(_) | Self::Done(_) | Self::Appended(_) | Self::Failed(_) => 0,
            Self::Item(parcel) | Self::Handoff(parcel) => parcel.delivery.payload.len(),
        }
    }
}

impl Callers {
    /// Takes a link up.
    pub(super) fn add(
        &mut self,
        id: AgentId,
        name: &str,
        sender: LinkSender,
        receiver: LinkReceiver,
        rate: Option<Rate>,
    ) {
        let agent = Agent { name: self.names.number(name), id };
        let caller = Caller {
            agent,
            name: Rc::from(name),
            receiver,
            open: HashMap::new(),
            rate,
            read_ahead: VecDeque::new(),
            read_ahead_bytes: 0,
            sender,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            outbox_item_bytes: 0,
            messages: 0,
            has_ended: false,
        };
        self.links.insert(caller.receiver.lane(), caller);
    }

    /// Forgets a link.
    pub(super) fn remove(&mut self, lane: LaneId) -> Option<Remains> {
        self.given_up.remove(&lane);
        let Caller { agent, outbox, .. } = self.links.remove(&lane)?;
        let is_last = self.links.values().all(|caller| caller.agent != agent);
        let (mut unsent, mut unsent_handoffs) = (Vec::new(), Vec::new());
        for message in outbox.into_iter().filter(|message| message.sent == 0) {
            match message.said {
                Said::Item(parcel) => unsent.push(*parcel),
                Said::Handoff(parcel) => unsent_handoffs.push(*parcel),
                Said::Progress(_) | Said::Done(_) | Said::Appended(_) | Said::Failed(_) => {}
            }
        }
        Some(Remains { agent, is_last, unsent, unsent_handoffs })
    }

    /// The links at this moment, put into `lanes`.
    pub(super) fn list(&self, lanes: &mut Vec<LaneId>) {
        lanes.clear();
        lanes.extend(self.links.keys());
    }

    pub(super) fn get(&mut self, lane: LaneId) -> Option<&mut Caller> {
        self.links.get_mut(&lane)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Caller> {
        self.links.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Caller> {
        self.links.values_mut()
    }

    /// A link of this very agent.
    pub(super) fn lane_of(&self, agent: Agent) -> Option<LaneId> {
        self.links.iter().find(|(_, caller)| caller.agent == agent).map(|(lane, _)| *lane)
    }

    /// The agent of this name that has a link at the moment.
    pub(super) fn agent_named(&self, name: &str) -> Option<Agent> {
        let number = self.names.find(name)?;
        self.links.values().map(|caller| caller.agent).find(|agent| agent.name == number)
    }

    /// Nanoseconds since 1970.
    pub(super) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Names that links are connected with.
    pub(super) fn names_in_use(&self) -> HashSet<NameId> {
        self.links.values().map(|caller| caller.agent.name).collect()
    }

    /// Puts a message behind those that wait, and sends what there is room for.
    pub(super) fn say(&mut self, lane: LaneId, request: RequestId, said: Said) {
        let Some(caller) = self.links.get_mut(&lane) else { return };
        caller.messages += 1;
        let mut message = Outgoing { request, said, number: caller.messages, sent: 0 };
        // Mostly nothing waits before it and there is room. What fails fails again below, where it is told.
        if caller.is_idle() && send(&mut caller.sender, &mut message, self.clock.now_ns()).is_ok() {
            return;
        }
        caller.outbox_bytes += message.said.own_bytes();
        caller.outbox_item_bytes += message.said.item_bytes();
        caller.outbox.push_back(message);
        self.flush(lane);
    }

    /// Sends everybody what there is room for. True when an outbox became empty, for which somebody may have waited
    /// ([`Callers::has_room`]).
    pub(super) fn flush_all(&mut self) -> bool {
        let Self { links, given_up, clock, .. } = self;
        let mut is_room_new = false;
        for (lane, caller) in links.iter_mut().filter(|(_, caller)| !caller.outbox.is_empty()) {
            match caller.flush(clock) {
                Flushed::Fine => is_room_new |= caller.outbox.is_empty(),
                Flushed::Broken(why) => {
                    given_up.insert(*lane, why);
                }
            }
        }
        is_room_new
    }

    fn flush(&mut self, lane: LaneId) {
        let Some(caller) = self.links.get_mut(&lane) else { return };
        if let Flushed::Broken(why) = caller.flush(&self.clock) {
            self.given_up.insert(lane, why);
        } else if caller.outbox.len() > CALLER_OUTBOX_MESSAGES_MAX
            || caller.outbox_bytes > CALLER_OUTBOX_BYTES_MAX
            || caller.outbox_item_bytes > CALLER_OUTBOX_ITEM_BYTES_MAX
        {
            self.given_up.insert(lane, "answers were not taken");
        }
    }

    /// The next link that must be closed, and why.
    pub(super) fn take_given_up(&mut self) -> Option<(LaneId, &'static str)> {
        self.given_up.pop_first()
    }

    /// Whether a caller has nothing in its outbox: what is said next goes into its lane.
    pub(super) fn has_room(&self, lane: LaneId) -> bool {
        self.links.get(&lane).is_some_and(|caller| caller.outbox.is_empty())
    }

    /// How many lines of a caller's lane were written; nothing while something waits for room.
    pub(super) fn written(&mut self, lane: LaneId) -> Option<u64> {
        let caller = self.links.get_mut(&lane).filter(|caller| caller.outbox.is_empty())?;
        Some(caller.sender.raw().sent())
    }

    /// How many of them it has taken; nothing of a lane that has ended.
    pub(super) fn taken(&mut self, lane: LaneId) -> Option<u64> {
        self.links.get_mut(&lane)?.sender.raw().taken().ok()
    }
}

impl Caller {
    /// Whether what is said next may go into its lane.
    fn is_idle(&self) -> bool {
        self.outbox.is_empty() && !self.has_ended
    }

    /// Whether something waits for room.
    pub(super) fn is_behind(&self) -> bool {
        !self.outbox.is_empty() && !self.has_ended
    }

    /// Whether its lane shows what its reader has taken. What a socket or a log holds counts as taken at once, and a socket to
    /// which nothing is owed has room at any time: to wait for either would not be to sleep.
    pub(super) fn shows_what_is_read(&self) -> bool {
        matches!(self.sender.class(), Class::Critical | Class::High)
    }

    /// Both ways, to sleep on.
    pub(super) fn ways(&mut self) -> (&mut AnyReceiver, &mut AnySender) {
        (self.receiver.raw(), self.sender.raw())
    }

    /// Whether one more message may be read though a request before it waits.
    pub(super) fn may_read_ahead(&self) -> bool {
        self.read_ahead.len() < CALLER_READ_AHEAD_MESSAGES_MAX
            && self.read_ahead_bytes < CALLER_READ_AHEAD_BYTES_MAX
    }

    /// Keeps a message until the request before it is over.
    pub(super) fn keep_for_later(&mut self, incoming: Incoming) {
        self.read_ahead_bytes += payload_bytes(&incoming);
        self.read_ahead.push_back(incoming);
    }

    /// The first of those that were kept.
    pub(super) fn take_kept(&mut self) -> Option<Incoming> {
        let incoming = self.read_ahead.pop_front()?;
        self.read_ahead_bytes -= payload_bytes(&incoming);
        Some(incoming)
    }

    /// Takes out the kept request that a cancellation is about.
    pub(super) fn take_back(&mut self, request: u32) -> Option<RequestId> {
        let is_it =
            |kept: &Incoming| matches!(kept, Incoming::Request(of) if of.id.0 as u32 == request);
        let index = self.read_ahead.iter().position(is_it)?;
        let incoming = self.read_ahead.remove(index)?;
        self.read_ahead_bytes -= payload_bytes(&incoming);
        match incoming {
            Incoming::Request(request) => Some(request.id),
            _ => None,
        }
    }

    /// Sends what there is room for.
    fn flush(&mut self, clock: &Clock) -> Flushed {
        while let Some(message) = self.outbox.front_mut().filter(|_| !self.has_ended) {
            match send(&mut self.sender, message, clock.now_ns()) {
                Ok(()) => {}
                Err(SendError::Full) => break,
                Err(SendError::Ended(_)) => {
                    // What was not sent stays, so that items can go back when the router tells of the end.
                    self.has_ended = true;
                    // The end of a socket is its peer's word, and nobody but this end has heard it.
                    if self.sender.class() == Class::Normal {
                        return Flushed::Broken(READER_ENDED);
                    }
                    break;
                }
                Err(SendError::Quarantined(_)) => {
                    return Flushed::Broken(READER_BROKE);
                }
                // Items are bounded when they are put, and nothing else is long.
                Err(SendError::TooLong { .. }) => {
                    return Flushed::Broken("an answer is longer than the bus carries");
                }
            }
            self.outbox_bytes -= message.said.own_bytes();
            self.outbox_item_bytes -= message.said.item_bytes();
            self.outbox.pop_front();
        }
        Flushed::Fine
    }
}

/// What a message keeps in memory beside its fixed size.
pub(super) fn payload_bytes(incoming: &Incoming) -> usize {
    match incoming {
        Incoming::Request(request) => request.payload.len(),
        Incoming::Other { payload, .. } => payload.len(),
        Incoming::Cancelled { .. } | Incoming::Answer { .. } => 0,
    }
}

/// Sends a message from where it stopped.
fn send(sender: &mut LinkSender, message: &mut Outgoing, time_ns: u64) -> Result<(), SendError> {
    let Outgoing { request, said, number, sent } = message;
    let (kind, flags) = match said {
        Said::Done(_) | Said::Appended(_) => (Kind::Result, 0),
        Said::Failed(_) => (Kind::Result, FLAG_ERROR),
        Said::Progress(_) | Said::Item(_) => (Kind::Result, FLAG_MORE),
        Said::Handoff(_) => (Kind::Handoff, 0),
    };
    let appended;
    let (head, payload) = match said {
        Said::Appended(answer) => {
            appended = answer.to_bytes();
            (&appended[..], &[][..])
        }
        Said::Progress(bytes) | Said::Done(bytes) | Said::Failed(bytes) => (&bytes[..], &[][..]),
        Said::Item(parcel) | Said::Handoff(parcel) => {
            (&parcel.head[..], &parcel.delivery.payload[..])
        }
    };
    let mut header = Header::new(kind);
    header.id = *number;
    header.correlation = request.0;
    header.schema = SCHEMA_CBOR;
    header.time_ns = time_ns;
    let correlation = request.0 as u32;
    let meta = Meta { flags, priority: header.priority, correlation, ..Meta::default() };
    let message = Large { header: Some(&header), meta, parts: &[head, payload] };
    sender.raw().resume_large(&message, sent, WhenFull::Reject)
}
