//! The reading side of a topic: messages, gaps, and the writer's restarts, in one order.
//!
//! Not here: joining (`client`), and the lane itself (`lane::Receiver`).

use std::collections::VecDeque;
use std::time::Instant;

use crate::control::{AgentInfo, TopicPolicy, TopicTerms};
use crate::doorbell::Ear;
use crate::header::{AgentId, LaneId};
use crate::lane::{Message, ReceiveError, Receiver, Taken};
use crate::limits::PIECES_PER_LOOK;

/// Where a reader of a topic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the next message.
    Live,
    /// With the last messages that the writer keeps for those who join.
    History,
    /// Where a reader of the same name was when it left or died; as [`Begin::History`] where there was none. What was
    /// overwritten since is reported as lost. One that died without [`Subscriber::commit`] was further than it had said, by
    /// at most a quarter of the ring: those messages come again.
    Resume,
}

/// What a reader hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A message.
    Message(Message<'a>),
    /// So many lines were overwritten before they were read. A message of up to 48 bytes is one line, and a larger one is one
    /// for each chunk.
    Lost(u64),
    /// All that the writer had published before it started again was read; from here on it is this epoch.
    Epoch(u32),
}

/// The reading side of a topic.
#[derive(Debug)]
pub struct Subscriber {
    pub(crate) lane: LaneId,
    pub(crate) subject: String,
    pub(crate) policy: TopicPolicy,
    pub(crate) terms: TopicTerms,
    pub(crate) epoch: u32,
    pub(crate) from: AgentInfo,
    /// In a group: who passes over messages for others.
    pub(crate) only_for: Option<AgentId>,
    pub(crate) receiver: Receiver,
    /// Where the writer's bell is heard.
    pub(crate) _ear: Option<Ear>,
    /// What the writer published after it started again, oldest first.
    pub(crate) successors: VecDeque<Subscriber>,
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

    /// What else the writer declared.
    pub fn terms(&self) -> TopicTerms {
        self.terms
    }

    /// Which of the writer's starts is being read.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Who writes it.
    pub fn from(&self) -> &AgentInfo {
        &self.from
    }

    /// The lane: receive from it, or sleep on it in an event loop. It ends with the writer; [`Subscriber::next`] goes on with
    /// what follows.
    pub fn raw(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// What comes next; waits until the deadline, or without end. The topic's end comes after its last message, and
    /// only where nothing follows.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Heard<'_>, ReceiveError> {
        let mut passed_over = 0usize;
        loop {
            match self.receiver.next(deadline) {
                Ok(taken) if self.is_mine() => {
                    return self.receiver.message(taken).map(Heard::Message);
                }
                Ok(_) => {}
                Err(ReceiveError::Lost(lost)) => return Ok(Heard::Lost(lost)),
                Err(error) => return self.after(error),
            }
            passed_over += 1;
            let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if passed_over.is_multiple_of(PIECES_PER_LOOK) && is_late() {
                return Err(ReceiveError::Deadline);
            }
        }
    }

    /// What is there, if anything is. Nothing too, once in a while, where a group's messages for others come without end.
    pub fn try_next(&mut self) -> Result<Option<Heard<'_>>, ReceiveError> {
        for _ in 0..PIECES_PER_LOOK {
            match self.receiver.poll() {
                Ok(Taken::Nothing) => {
                    return match self.receiver.ended() {
                        Ok(()) => Ok(None),
                        Err(error) => self.after(error).map(Some),
                    };
                }
                Ok(taken) if self.is_mine() => {
                    return self
                        .receiver
                        .message(taken)
                        .map(|message| Some(Heard::Message(message)));
                }
                Ok(_) => {}
                Err(ReceiveError::Lost(lost)) => return Ok(Some(Heard::Lost(lost))),
                Err(error) => return self.after(error).map(Some),
            }
        }
        Ok(None)
    }

    /// Whether what comes next was there before this reader joined.
    pub fn is_behind_join(&self) -> bool {
        self.receiver.is_behind_join()
    }

    /// Says where this reader is, so that one of the same name can go on exactly there ([`Begin::Resume`]). Happens by itself
    /// at least four times per lap, before sleeping, and when this is dropped.
    pub fn commit(&mut self) {
        self.receiver.commit();
    }

    /// The lane that a further restart of the writer would follow.
    pub(crate) fn last_lane(&self) -> LaneId {
        self.successors.back().map_or(self.lane, |last| last.lane)
    }

    fn is_mine(&self) -> bool {
        let whose = self.receiver.correlation();
        whose == 0 || self.only_for.is_none_or(|own| own.0 == whose)
    }

    /// After the end of one start of the writer comes the next one.
    #[cold]
    fn after(&mut self, error: ReceiveError) -> Result<Heard<'_>, ReceiveError> {
        let ReceiveError::Ended(_) = error else { return Err(error) };
        let Some(mut next) = self.successors.pop_front() else { return Err(error) };
        next.successors = std::mem::take(&mut self.successors);
        *self = next;
        Ok(Heard::Epoch(self.epoch))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.receiver.commit();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::lane::{LaneOptions, Sender, Start, WhenFull};
    use crate::limits::REGION_BYTES_MIN;
    use crate::ring::Meta;
    use crate::wait::Spin;

    #[test]
    fn messages_for_others_hold_nobody_beyond_his_deadline() {
        let slots = 4 * PIECES_PER_LOOK;
        let options = LaneOptions { slots, region_bytes: REGION_BYTES_MIN };
        let mut sender = Sender::for_topic(options, TopicPolicy::Lossy).unwrap();
        let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
        let (ring, region) = (copy(sender.slots_fd().as_fd()), copy(sender.region_fd().as_fd()));
        let (writer, reader, other) = (AgentId(1), AgentId(2), AgentId(3));
        let start = Start::Live;
        let receiver = Receiver::for_topic(writer, ring, region, None, start, Spin::None);
        let manifest = Default::default();
        let mut subscriber = Subscriber {
            lane: LaneId(1),
            subject: "_group.g".to_owned(),
            policy: TopicPolicy::Lossy,
            terms: TopicTerms::default(),
            epoch: 1,
            from: AgentInfo { id: writer, pid: 0, uid: 0, manifest },
            only_for: Some(reader),
            receiver: receiver.unwrap(),
            _ear: None,
            successors: VecDeque::new(),
        };
        for _ in 0..2 * PIECES_PER_LOOK {
            let meta = Meta { correlation: other.0, ..Meta::default() };
            sender.send(meta, b"other", WhenFull::Reject).unwrap();
        }
        let meta = Meta { correlation: reader.0, ..Meta::default() };
        sender.send(meta, b"own", WhenFull::Reject).unwrap();
        assert_eq!(subscriber.next(Some(Instant::now())), Err(ReceiveError::Deadline));
        assert_eq!(subscriber.try_next(), Ok(None));
        match subscriber.try_next() {
            Ok(Some(Heard::Message(message))) => assert_eq!(message.payload, b"own"),
            other => panic!("{other:?}"),
        }
    }
}
