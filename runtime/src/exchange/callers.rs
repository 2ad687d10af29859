//! Links of agents that ask the exchange itself: who they are, and what waits to be sent to them.
//!
//! Nothing here waits: what finds no room in a caller's lane stays in its outbox, in order, a long message from the chunk on
//! that found none, and a caller that lets its outbox fill up is given up. Not here: what is asked (`work`, `logs`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc::class::SendingHalf;
use ipc::header::{AgentId, Header, Kind, LaneId};
use ipc::lane::{Large, SendError, WhenFull};
use ipc::link::{LinkReceiver, LinkSender, RequestId, SCHEMA_CBOR};
use ipc::ring::{FLAG_ERROR, FLAG_MORE, Meta};

use super::queue::{Agent, NameId};
use crate::daemon::Budget;
use crate::limits::{CALLER_OUTBOX_BYTES_MAX, CALLER_OUTBOX_MESSAGES_MAX, NAMES_KNOWN_MAX};

/// All of them.
#[derive(Default)]
pub(super) struct Callers {
    links: BTreeMap<LaneId, Caller>,
    names: Names,
}

/// One link.
pub(super) struct Caller {
    pub(super) agent: Agent,
    pub(super) receiver: LinkReceiver,
    sender: LinkSender,
    outbox: VecDeque<Outgoing>,
    outbox_bytes: usize,
    /// How many requests a second it may make; none is any number.
    pub(super) rate: Option<Budget>,
    messages: u64,
}

/// A message on its way.
#[derive(Debug)]
struct Outgoing {
    request: RequestId,
    said: Said,
    number: u64,
    /// Bytes of it that are in the lane, its header counted.
    sent: usize,
}

/// One message to a caller.
#[derive(Debug)]
pub(super) enum Said {
    /// More follows.
    Progress(Vec<u8>),
    /// The last answer.
    Done(Vec<u8>),
    /// The last answer is an error.
    Failed(Vec<u8>),
    /// Not an answer: somebody else's work is this caller's now.
    Handoff(Vec<u8>),
}

/// Names of agents that were ever seen, as numbers.
#[derive(Default)]
struct Names {
    by_text: HashMap<Arc<str>, NameId>,
    by_number: HashMap<NameId, Arc<str>>,
    last: u64,
}

impl Said {
    fn bytes(&self) -> &[u8] {
        let (Self::Progress(bytes)
        | Self::Done(bytes)
        | Self::Failed(bytes)
        | Self::Handoff(bytes)) = self;
        bytes
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
        rate: Option<Budget>,
    ) {
        let agent = Agent { name: self.names.number(name), id };
        let (outbox, outbox_bytes, messages) = (VecDeque::new(), 0, 0);
        let caller = Caller { agent, receiver, sender, outbox, outbox_bytes, rate, messages };
        self.links.insert(caller.receiver.lane(), caller);
    }

    /// Forgets a link. The agent, where this was its last one.
    pub(super) fn remove(&mut self, lane: LaneId) -> Option<Agent> {
        let agent = self.links.remove(&lane)?.agent;
        self.links.values().all(|caller| caller.agent != agent).then_some(agent)
    }

    pub(super) fn lanes(&self) -> Vec<LaneId> {
        self.links.keys().copied().collect()
    }

    pub(super) fn get(&mut self, lane: LaneId) -> Option<&mut Caller> {
        self.links.get_mut(&lane)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Caller> {
        self.links.values_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Caller> {
        self.links.values()
    }

    /// A link of this very agent.
    pub(super) fn lane_of(&self, agent: Agent) -> Option<LaneId> {
        self.links.iter().find(|(_, caller)| caller.agent == agent).map(|(lane, _)| *lane)
    }

    /// The agent of this name that has a link at the moment.
    pub(super) fn agent_named(&self, name: &str) -> Option<Agent> {
        let number = self.names.by_text.get(name)?;
        self.links.values().map(|caller| caller.agent).find(|agent| agent.name == *number)
    }

    /// What a number stands for.
    pub(super) fn name(&self, number: NameId) -> &str {
        self.names.by_number.get(&number).map_or("", |name| name)
    }

    /// Puts a message behind those that wait. False when the link must be given up.
    pub(super) fn say(&mut self, lane: LaneId, request: RequestId, said: Said) -> bool {
        let Some(caller) = self.links.get_mut(&lane) else { return true };
        caller.outbox_bytes += said.bytes().len();
        caller.messages += 1;
        let number = caller.messages;
        caller.outbox.push_back(Outgoing { request, said, number, sent: 0 });
        caller.flush()
            && caller.outbox.len() <= CALLER_OUTBOX_MESSAGES_MAX
            && caller.outbox_bytes <= CALLER_OUTBOX_BYTES_MAX
    }

    /// Whether a caller has nothing in its outbox: what is said next goes into its lane.
    pub(super) fn has_room(&self, lane: LaneId) -> bool {
        self.links.get(&lane).is_some_and(|caller| caller.outbox.is_empty())
    }

    /// Whether a caller has taken everything that was said.
    pub(super) fn is_drained(&mut self, lane: LaneId) -> bool {
        let caller = self.links.get_mut(&lane).filter(|caller| caller.outbox.is_empty());
        caller.is_some_and(|caller| matches!(caller.sender.raw().is_drained(), Ok(true)))
    }

    /// Whether something waits for room.
    pub(super) fn is_anybody_behind(&self) -> bool {
        self.links.values().any(|caller| !caller.outbox.is_empty())
    }
}

impl Caller {
    /// Sends what there is room for. False when the link is broken.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(message) = self.outbox.front_mut() {
            match send(&mut self.sender, message) {
                Ok(()) => {}
                Err(SendError::Full) => return true,
                // Its end is told by the router; what was meant for it goes with it.
                Err(SendError::Ended(_)) => {}
                Err(SendError::TooLong { .. } | SendError::Quarantined(_)) => return false,
            }
            self.outbox_bytes -= message.said.bytes().len();
            self.outbox.pop_front();
        }
        true
    }
}

/// Sends a message from where it stopped.
fn send(sender: &mut LinkSender, message: &mut Outgoing) -> Result<(), SendError> {
    let Outgoing { request, said, number, sent } = message;
    let (kind, flags) = match said {
        Said::Progress(_) => (Kind::Result, FLAG_MORE),
        Said::Done(_) => (Kind::Result, 0),
        Said::Failed(_) => (Kind::Result, FLAG_ERROR),
        Said::Handoff(_) => (Kind::Handoff, 0),
    };
    let mut header = Header::new(kind);
    header.id = *number;
    header.correlation = request.0;
    header.schema = SCHEMA_CBOR;
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    header.time_ns = u64::try_from(epoch.as_nanos()).unwrap_or_default();
    let correlation = request.0 as u32;
    let meta = Meta { flags, priority: header.priority, correlation, ..Meta::default() };
    let message = Large { header: Some(&header), meta, parts: &[said.bytes()] };
    sender.raw().resume_large(&message, sent, WhenFull::Reject)
}

impl Names {
    fn number(&mut self, name: &str) -> NameId {
        if let Some(number) = self.by_text.get(name) {
            return *number;
        }
        if self.by_text.len() >= NAMES_KNOWN_MAX {
            // Numbers are never used again, so an old one is at worst nameless.
            self.by_text.clear();
            self.by_number.clear();
        }
        self.last += 1;
        let (number, name) = (NameId(self.last), Arc::<str>::from(name));
        self.by_text.insert(Arc::clone(&name), number);
        self.by_number.insert(number, name);
        number
    }
}
