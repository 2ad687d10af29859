//! Classes: the ways in which a message travels, behind one pair of traits.
//!
//! A class is a mechanism in one direction: [`SendingHalf`] here, [`ReceivingHalf`] there. CRITICAL is the lane itself, HIGH
//! is the lane with a message between rings of io_uring as its signal, NORMAL is a socket, LOW a log on the disk. All keep the
//! same promises, which the conformance suite checks: order, nothing lost, every size up to `MESSAGE_BYTES_MAX`, full means what
//! the caller said, an end is told once everything was read, and whoever breaks the protocol is quarantined for good. LOW
//! alone does not tell the writer that its reader has gone, because it keeps what is sent for whoever reads next.
//!
//! Not here: how two peers agree on a class and exchange what it needs (`client`, and the router between them).
//!
//! ```
//! use ipc::class::{AnyReceiver, AnySender, Class, ReceivingHalf, SendingHalf, normal};
//! use ipc::header::AgentId;
//! use ipc::lane::WhenFull;
//! use ipc::ring::Meta;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In life each end is in a process of its own.
//! let (ours, theirs) = normal::pair()?;
//! let mut sender = AnySender::Normal(Box::new(normal::Sender::new(ours)?));
//! let mut receiver = AnyReceiver::Normal(Box::new(normal::Receiver::new(AgentId(1), theirs)?));
//! sender.send(Meta::default(), b"hello", WhenFull::Reject)?;
//! assert_eq!(receiver.receive(None)?.payload, b"hello");
//! assert_eq!(sender.class(), Class::Normal);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::clock;
use crate::header::AgentId;
pub use crate::header::Class;
use crate::lane::{self, Large, Message, ReceiveError, SendError, WhenFull};
use crate::ring::{
    FLAG_ABORT, FLAG_CHUNK, FLAG_REGION, FLAG_SECOND_LINE, FLAG_TWO_LINES, Meta, Timing,
};
use crate::segment::Control;
use crate::wait::Spin;

#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub mod conformance;
pub mod critical;
pub mod high;
pub mod low;
pub mod normal;
mod packets;
mod probe;
mod set;

pub(crate) use probe::one_line;
pub use probe::{probe, probe_peer};
pub use set::ClassSet;

/// The class of a link for which nobody named one: the fastest, and every kernel that the bus runs on has it.
pub const RECOMMENDED: Class = Class::Critical;

/// Flags that belong to the way and not to the message. A receiver may find any of them in a message's first word.
pub const TRANSPORT_FLAGS: u8 =
    FLAG_REGION | FLAG_TWO_LINES | FLAG_CHUNK | FLAG_ABORT | FLAG_SECOND_LINE;

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Normal, Self::Low, Self::Batch];

    /// What people and configuration files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Batch => "batch",
        }
    }

    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The class with this number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == number)
    }

    /// Where a message goes when this class cannot be had. Nothing stands in for LOW, which outlives its writer, nor for
    /// BATCH, which carries references.
    pub fn next_down(self) -> Option<Self> {
        match self {
            Self::Critical => Some(Self::High),
            Self::High => Some(Self::Normal),
            Self::Normal => Some(Self::Low),
            Self::Low | Self::Batch => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What one half has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages, whatever their number of pieces.
    pub messages: u64,
    /// Bytes of messages that did not fit into one line.
    pub bytes_large: u64,
    /// How often the writer waited for room.
    pub waits: u64,
    /// Messages that were refused because the way was full.
    pub rejected: u64,
}

/// The sending half of a way. Once it has ended or was quarantined, every call says so, with the same reason.
pub trait SendingHalf {
    /// Which class this is.
    fn class(&self) -> Class;

    /// Sends at most 48 bytes. The reader may learn of it only after [`SendingHalf::flush`], which follows after some of them.
    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError>;

    /// Wakes the reader for what was pushed.
    fn flush(&mut self);

    /// Sends a payload of any length up to `MESSAGE_BYTES_MAX`.
    #[inline]
    fn send(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        if payload.len() > crate::limits::INLINE_BYTES_MAX {
            return self.send_large(Large { header: None, meta, parts: &[payload] }, when);
        }
        self.push(meta, payload, when)?;
        self.flush();
        Ok(())
    }

    /// Sends at most 48 bytes with time, deadline and trace.
    fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError>;

    /// [`SendingHalf::send_timed`] with this moment as the time, looked at as late and as cheaply as the class can.
    fn send_timed_now(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let timing = Timing { time_ns: clock::time_of_day_ns(), ..timing };
        self.send_timed(meta, payload, timing, when)
    }

    /// Sends a message with header and parts. Where the time ends between its pieces, the reader never sees it.
    ///
    /// # Panics
    /// When there are more than `PARTS_MAX` parts.
    fn send_large(&mut self, message: Large<'_>, when: WhenFull) -> Result<(), SendError> {
        let mut sent = 0;
        let result = self.resume_large(&message, &mut sent, when);
        // What an earlier message still owes stays due.
        if result.is_err() && sent > 0 {
            self.take_back(message.meta);
        }
        result
    }

    /// Gives up a message of which [`SendingHalf::resume_large`] has sent some pieces and not the last: its reader hears of that before
    /// anything else. Where there is none, this breaks the protocol.
    fn take_back(&mut self, meta: Meta);

    /// Sends the pieces of a message from byte `sent` on, its header counted, and moves `sent` along. Full is no end here: the
    /// same call goes on later. Until it is through, nothing else may be sent.
    ///
    /// # Panics
    /// When there are more than `PARTS_MAX` parts, or more was sent than there is.
    fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError>;

    /// How to wait for room.
    fn set_spin(&mut self, spin: Spin);

    /// What was counted.
    fn counters(&self) -> Counters;
}

/// The receiving half of a way. What was sent before an end is given before the end is told.
///
/// The length in a message's first word is that of its line, and [`TRANSPORT_FLAGS`] may be set; the payload's length is
/// that of the slice.
pub trait ReceivingHalf {
    /// Which class this is.
    fn class(&self) -> Class;

    /// Who writes.
    fn source(&self) -> AgentId;

    /// The next message, if it is there.
    fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError>;

    /// The next message; waits until `deadline`, or without end.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError>;

    /// Whether a message, or a part of one, is there.
    fn has_message(&self) -> bool;

    /// Whether nothing more will come; what is there can still be read. A receive then says why.
    fn is_over(&self) -> bool;

    /// Bytes that are held for a message that is not complete, or that was taken last: what it costs in memory.
    fn held_bytes(&self) -> usize;

    /// Whether a message has begun to come that is not complete.
    fn is_under_way(&self) -> bool;

    /// Gives memory of earlier messages back, as far as none is under way. The one that was taken last is gone.
    fn release(&mut self);

    /// What an event loop waits for to become readable; nothing where the writer rings a doorbell that it was given.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Gets ready to sleep in an event loop. False when something is there already. After the loop woke,
    /// [`ReceivingHalf::disarm`].
    fn arm(&mut self) -> bool;

    /// Awake again.
    fn disarm(&mut self);

    /// How to wait.
    fn set_spin(&mut self, spin: Spin);

    /// What was counted: by the writer where memory is shared, by this half otherwise.
    fn counters(&self) -> Counters;
}

/// A sending half of any class, where a link's class is known only when it runs.
#[derive(Debug)]
pub enum AnySender {
    /// Stamped slots.
    Critical(Box<lane::Sender>),
    /// Stamped slots with a message between rings.
    High(Box<high::Sender>),
    /// A socket.
    Normal(Box<normal::Sender>),
    /// A log.
    Low(Box<low::Sender>),
}

/// A receiving half of any class.
#[derive(Debug)]
pub enum AnyReceiver {
    /// Stamped slots.
    Critical(Box<lane::Receiver>),
    /// Stamped slots with a message between rings.
    High(Box<high::Receiver>),
    /// A socket.
    Normal(Box<normal::Receiver>),
    /// A log.
    Low(Box<low::Receiver>),
}

/// One call for whichever class it is.
macro_rules! each {
    ($half:ident in $value:expr => $call:expr) => {
        match $value {
            Self::Critical($half) => $call,
            Self::High($half) => $call,
            Self::Normal($half) => $call,
            Self::Low($half) => $call,
        }
    };
}

impl AnyReceiver {
    /// Takes up to `max` messages that are there. Gives how many were taken.
    pub fn receive_batch(
        &mut self,
        max: usize,
        mut take: impl FnMut(Message<'_>),
    ) -> Result<usize, ReceiveError> {
        if let Self::Critical(lane) = self {
            return lane.receive_batch(max, take);
        }
        let mut count = 0;
        while count < max {
            match self.try_receive() {
                Ok(Some(message)) => take(message),
                Ok(None) => break,
                // What was taken counts; the next call tells the error. Ends and violations stay by themselves.
                Err(error) if count > 0 => {
                    if let Self::Low(log) = self {
                        log.set_due(error);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
            count += 1;
        }
        Ok(count)
    }

    /// The router's page about this link, where it has one.
    pub(crate) fn control(&self) -> Option<&Control> {
        match self {
            Self::Critical(half) => half.control(),
            Self::High(half) => half.control(),
            Self::Normal(half) => half.control(),
            // A log has none; the link to the exchange has.
            Self::Low(_) => None,
        }
    }
}

impl AnySender {
    /// How many lines were sent; 0 where there are none, over a socket and in a log.
    pub fn sent(&self) -> u64 {
        match self {
            Self::Critical(lane) => lane.sent(),
            Self::High(half) => half.sent(),
            Self::Normal(_) | Self::Low(_) => 0,
        }
    }

    /// How many of [`AnySender::sent`] the reader has taken. What a socket or a log holds counts as taken: there the reader does not
    /// say where it is.
    pub fn taken(&mut self) -> Result<u64, SendError> {
        match self {
            Self::Critical(lane) => lane.taken(),
            Self::High(half) => half.taken(),
            Self::Normal(_) | Self::Low(_) => Ok(0),
        }
    }

    /// Whether somebody will tell of room, so that nobody needs to look for it: not a reader of before 1.3, nor a log.
    pub fn is_told_of_room(&self) -> bool {
        match self {
            Self::Critical(lane) => lane.is_told_of_room(),
            Self::High(half) => half.is_told_of_room(),
            Self::Normal(_) => true,
            Self::Low(_) => false,
        }
    }

    /// Gets ready to sleep until there may be room again. False where something has moved since the writer last looked.
    pub(crate) fn arm(&mut self) -> bool {
        match self {
            Self::Critical(lane) => lane.arm(),
            Self::High(half) => half.lane().arm(),
            Self::Normal(_) => true,
            Self::Low(_) => false,
        }
    }

    /// Awake again.
    pub(crate) fn disarm(&mut self) {
        match self {
            Self::Critical(lane) => lane.disarm(),
            Self::High(half) => half.lane().disarm(),
            Self::Normal(_) | Self::Low(_) => {}
        }
    }

    /// What becomes writable when there is room; nothing where the reader rings the doorbell.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Normal(half) => Some(half.descriptor()),
            Self::Critical(_) | Self::High(_) | Self::Low(_) => None,
        }
    }
}

impl SendingHalf for AnySender {
    fn class(&self) -> Class {
        each!(half in self => half.class())
    }

    #[inline]
    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        each!(half in self => half.push(meta, payload, when))
    }

    #[inline]
    fn flush(&mut self) {
        each!(half in self => half.flush());
    }

    fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        each!(half in self => half.send_timed(meta, payload, timing, when))
    }

    fn send_timed_now(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        each!(half in self => half.send_timed_now(meta, payload, timing, when))
    }

    fn send_large(&mut self, message: Large<'_>, when: WhenFull) -> Result<(), SendError> {
        each!(half in self => SendingHalf::send_large(half.as_mut(), message, when))
    }

    fn take_back(&mut self, meta: Meta) {
        each!(half in self => SendingHalf::take_back(half.as_mut(), meta));
    }

    fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError> {
        each!(half in self => half.resume_large(message, sent, when))
    }

    fn set_spin(&mut self, spin: Spin) {
        each!(half in self => half.set_spin(spin));
    }

    fn counters(&self) -> Counters {
        each!(half in self => SendingHalf::counters(half.as_ref()))
    }
}

impl ReceivingHalf for AnyReceiver {
    fn class(&self) -> Class {
        each!(half in self => half.class())
    }

    fn source(&self) -> AgentId {
        each!(half in self => half.source())
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        each!(half in self => half.try_receive())
    }

    #[inline]
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError> {
        each!(half in self => half.receive(deadline))
    }

    fn has_message(&self) -> bool {
        each!(half in self => half.has_message())
    }

    fn is_over(&self) -> bool {
        each!(half in self => half.is_over())
    }

    fn held_bytes(&self) -> usize {
        each!(half in self => half.held_bytes())
    }

    fn is_under_way(&self) -> bool {
        each!(half in self => half.is_under_way())
    }

    fn release(&mut self) {
        each!(half in self => half.release());
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        each!(half in self => half.descriptor())
    }

    fn arm(&mut self) -> bool {
        each!(half in self => half.arm())
    }

    fn disarm(&mut self) {
        each!(half in self => half.disarm());
    }

    fn set_spin(&mut self, spin: Spin) {
        each!(half in self => half.set_spin(spin));
    }

    fn counters(&self) -> Counters {
        each!(half in self => ReceivingHalf::counters(half.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_names_and_an_order() {
        assert!(Class::ALL.is_sorted());
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
            assert!(class.next_down().is_none_or(|next| next > class));
        }
        assert_eq!(Class::from_name("urgent"), None);
    }
}
