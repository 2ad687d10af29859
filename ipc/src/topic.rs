//! Topics: one writer, any number of readers that come and go.
//!
//! Not here: how a topic is announced and joined (`client`). Small payloads (48 bytes) travel in a slot, larger ones through
//! the region with a [`Header`] of kind `Event`.

mod group;
mod subscriber;

pub(crate) use self::group::{BROADCAST, group_subject};
pub use self::group::{Group, Reached, is_group};
pub use self::subscriber::{Begin, Heard, Subscriber};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use crate::class::one_line;
use crate::control::{CloseCause, SlowReaders, TopicPolicy, TopicTerms};
use crate::header::{AgentId, Header, Kind, LaneId};
use crate::lane::{AttachError, DetachCause, DetachedReader, Large, SendError, Sender, WhenFull};
use crate::limits::{INLINE_BYTES_MAX, PATIENCE_MS_MAX, READERS_MAX};
use crate::link::SCHEMA_CBOR;
use crate::ring::Meta;
use crate::segment::SegmentError;

/// What a topic's writer declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// What happens to slow readers: lossless holds the writer back, lossy does not.
    pub policy: TopicPolicy,
    /// How many of the last messages a reader is given that joins, and what a lossless topic bears.
    pub terms: TopicTerms,
}

impl From<TopicPolicy> for TopicOptions {
    fn from(policy: TopicPolicy) -> Self {
        Self { policy, terms: TopicTerms::default() }
    }
}

impl TopicOptions {
    /// The same, with the last so many messages for those who join; at most half as many as the lane has slots.
    pub fn with_history(mut self, messages: u32) -> Self {
        self.terms.history = messages;
        self
    }

    /// The same, and a reader that holds one message up for so long is let go of.
    pub fn letting_go_after(mut self, patience_ms: u32) -> Self {
        let patience_ms = patience_ms.min(PATIENCE_MS_MAX);
        self.terms.slow = SlowReaders::LetGo { patience_ms };
        self
    }
}

/// The writing side of a topic. `Client::update` attaches readers that joined and forgets those that left.
#[derive(Debug)]
pub struct Publisher {
    lane: LaneId,
    epoch: u32,
    subject: String,
    sender: Sender,
    sent: u64,
    attached: BTreeSet<AgentId>,
    /// Members of a group that were told of it and have not joined yet.
    expected: BTreeMap<AgentId, Expected>,
    /// How many times a member was expected, so that a send knows those that were there when it began.
    expectations: u64,
    /// Members that were waited for in vain and have not joined since: nobody waits for them again, however often they come.
    in_vain: BTreeSet<AgentId>,
    /// Readers that were not attached, which the router is to be told; as many as there can be.
    refused: VecDeque<(AgentId, AttachError)>,
    last_refused: Option<(AgentId, AttachError)>,
}

/// A member that is to join.
#[derive(Clone, Copy, Debug)]
struct Expected {
    /// The how-manieth expectation this is.
    number: u64,
    in_vain: bool,
}

/// A reader came or went.
#[derive(Debug)]
pub(crate) enum ReaderChange {
    Expected { reader: AgentId },
    Joined { reader: AgentId, cursor: OwnedFd, bell: OwnedFd },
    Left { reader: AgentId },
}

impl Publisher {
    pub(crate) fn new(lane: LaneId, epoch: u32, subject: String, sender: Sender) -> Self {
        Self {
            lane,
            epoch,
            subject,
            sender,
            sent: 0,
            attached: BTreeSet::new(),
            expected: BTreeMap::new(),
            expectations: 0,
            in_vain: BTreeSet::new(),
            refused: VecDeque::new(),
            last_refused: None,
        }
    }

    /// Which lane this is.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// How often an agent of this name has published this subject, this time included.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// How many readers are attached.
    pub fn readers(&self) -> usize {
        self.sender.readers()
    }

    /// The lane itself, for one-line messages with everything under control.
    pub fn raw(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Sends to all readers. A lossless topic may be full; a lossy one drops the oldest and never is.
    pub fn publish(&mut self, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.publish_to(0, payload, when)
    }

    /// Sends; readers of a group pass over what has the number of another one.
    pub(crate) fn publish_to(
        &mut self,
        reader: u32,
        payload: &[u8],
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.sent += 1;
        let meta = Meta { correlation: reader, ..Meta::default() };
        if payload.len() <= INLINE_BYTES_MAX {
            return self.sender.send(meta, payload, when);
        }
        let mut header = Header::new(Kind::Event);
        header.id = self.sent;
        header.time_ns = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        header.schema = SCHEMA_CBOR;
        let meta = Meta { priority: header.priority, ..meta };
        self.sender.send_large(Large { header: Some(&header), meta, parts: &[payload] }, when)
    }

    /// The reader whose cursor or bell was refused last, for a report. The router has told it; its writer and the other
    /// readers have no part in it.
    pub fn take_refused(&mut self) -> Option<(AgentId, AttachError)> {
        self.last_refused.take()
    }

    pub(crate) fn apply(&mut self, changes: VecDeque<ReaderChange>) {
        for change in changes {
            match change {
                ReaderChange::Expected { reader } => {
                    if !self.attached.contains(&reader) {
                        self.expectations += 1;
                        let in_vain = self.in_vain.contains(&reader);
                        let number = self.expectations;
                        self.expected.insert(reader, Expected { number, in_vain });
                    }
                }
                ReaderChange::Left { reader } => {
                    self.expected.remove(&reader);
                    self.attached.remove(&reader);
                    self.sender.detach(reader);
                }
                ReaderChange::Joined { reader, cursor, bell } => {
                    self.expected.remove(&reader);
                    self.in_vain.remove(&reader);
                    // One refused reader neither keeps the others out nor stops the writer.
                    match self.sender.attach(reader, cursor, Some(bell)) {
                        Ok(()) => _ = self.attached.insert(reader),
                        Err(error) => self.refused.push_back((reader, error)),
                    }
                }
            }
        }
    }

    /// The next reader that was let go of or never attached, and why, which the router is to be told.
    pub(crate) fn next_dropped(&mut self) -> Option<(AgentId, String, CloseCause)> {
        if let Some((reader, error)) = self.refused.pop_front() {
            let (reason, why) = (one_line(&error), cause_of(&error));
            self.last_refused = Some((reader, error));
            return Some((reader, reason, why));
        }
        let DetachedReader { reader, cause } = self.sender.next_detached()?;
        self.attached.remove(&reader);
        let why = match cause {
            DetachCause::Violation(_) => CloseCause::Quarantined,
            DetachCause::TooSlow => CloseCause::Wanted,
        };
        Some((reader, cause.to_string(), why))
    }

    /// How many times a member was expected until now.
    pub(crate) fn expectations(&self) -> u64 {
        self.expectations
    }

    /// Whether a member is still to join that was expected by then and that nobody has waited for in vain.
    pub(crate) fn is_waiting(&self, expectations: u64) -> bool {
        let is_awaited = |one: &Expected| !one.in_vain && one.number <= expectations;
        self.expected.values().any(is_awaited)
    }

    /// Waits no more for those that were expected by then.
    pub(crate) fn stop_waiting(&mut self, expectations: u64) {
        for (reader, one) in &mut self.expected {
            if one.number <= expectations {
                one.in_vain = true;
                self.in_vain.insert(*reader);
            }
        }
        while self.in_vain.len() > READERS_MAX {
            // Numbers of agents grow, so the first is the one of longest ago.
            self.in_vain.pop_first();
        }
    }

    /// Members that have not taken the topic up.
    pub(crate) fn missing(&self) -> usize {
        self.expected.len()
    }
}

/// What is wrong with a reader's segments is the reader's; that they cannot be taken up here is not.
fn cause_of(error: &AttachError) -> CloseCause {
    match error {
        AttachError::TooManyReaders { .. } | AttachError::Cursor(SegmentError::System { .. }) => {
            CloseCause::Wanted
        }
        AttachError::Cursor(_) | AttachError::Bell(_) => CloseCause::Quarantined,
    }
}
