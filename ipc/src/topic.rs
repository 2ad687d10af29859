//! Topics: one writer, any number of readers that come and go.
//!
//! Not here: how a topic is announced and joined (`client`). Small payloads (48 bytes) travel in a slot, larger ones through
//! the region with a [`Header`] of kind `Event`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use crate::control::{AgentInfo, TopicPolicy};
use crate::header::{AgentId, Header, Kind, LaneId};
use crate::lane::{AttachError, Large, Receiver, SendError, Sender, WhenFull};
use crate::limits::INLINE_BYTES_MAX;
use crate::link::SCHEMA_CBOR;
use crate::ring::Meta;

/// The writing side of a topic. `Client::update` attaches readers that joined and forgets those that left.
#[derive(Debug)]
pub struct Publisher {
    lane: LaneId,
    subject: String,
    sender: Sender,
    sent: u64,
    refused: Option<(AgentId, AttachError)>,
}

/// The reading side of a topic.
#[derive(Debug)]
pub struct Subscriber {
    pub(crate) lane: LaneId,
    pub(crate) subject: String,
    pub(crate) policy: TopicPolicy,
    pub(crate) from: AgentInfo,
    pub(crate) receiver: Receiver,
}

/// A reader came or went.
#[derive(Debug)]
pub(crate) enum ReaderChange {
    Joined { reader: AgentId, cursor: OwnedFd, bell: OwnedFd },
    Left { reader: AgentId },
}

impl Publisher {
    pub(crate) fn new(lane: LaneId, subject: String, sender: Sender) -> Self {
        Self { lane, subject, sender, sent: 0, refused: None }
    }

    /// Which lane this is.
    pub fn lane(&self) -> LaneId {
        self.lane
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
        self.sent += 1;
        if payload.len() <= INLINE_BYTES_MAX {
            return self.sender.send(Meta::default(), payload, when);
        }
        let mut header = Header::new(Kind::Event);
        header.id = self.sent;
        header.time_ns = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        header.schema = SCHEMA_CBOR;
        let meta = Meta { priority: header.priority, ..Meta::default() };
        self.sender.send_large(Large { header: Some(&header), meta, parts: &[payload] }, when)
    }

    /// The reader whose cursor or bell was refused last, for a report. It reads at its own risk, and its writer and the
    /// other readers have no part in it.
    pub fn take_refused(&mut self) -> Option<(AgentId, AttachError)> {
        self.refused.take()
    }

    pub(crate) fn apply(&mut self, changes: VecDeque<ReaderChange>) {
        for change in changes {
            match change {
                ReaderChange::Left { reader } => self.sender.detach(reader),
                ReaderChange::Joined { reader, cursor, bell } => {
                    // One refused reader neither keeps the others out nor stops the writer.
                    if let Err(error) = self.sender.attach(reader, cursor, Some(bell)) {
                        self.refused = Some((reader, error));
                    }
                }
            }
        }
    }
}

impl Subscriber {
    /// Which lane this is.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What happens when this reader is slow.
    pub fn policy(&self) -> TopicPolicy {
        self.policy
    }

    /// Who writes it.
    pub fn from(&self) -> &AgentInfo {
        &self.from
    }

    /// The lane: receive from it, or sleep on it in an event loop.
    pub fn raw(&mut self) -> &mut Receiver {
        &mut self.receiver
    }
}
