//! What the queue's operations carry: fixed little-endian structures, each with its writer and reader.
//!
//! A later minor version appends fields; what a reader leaves over is skipped, except where a payload is the last field.

use crate::control::fields::{Reader, Writer};
use crate::control::{DecodeError, EncodeError};

use super::Lease;

/// What happens to a put when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum WhenFull {
    /// It is rejected.
    #[default]
    Reject = 1,
    /// The oldest of the least urgent items make room, counted and told.
    DropOldest = 2,
    /// It waits for its own time.
    Wait = 3,
}

/// What a queue survives. Nobody is told of a change before that holds for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Durable {
    /// Nothing: it is in the exchange's memory.
    #[default]
    No = 0,
    /// The death of every process.
    Stored = 1,
    /// The loss of power, too.
    Synced = 2,
}

/// The bounds and times of one queue: items_max: u32; bytes_max, lease_ns, lease_total_ns: u64; deliveries_max: u32;
/// when_full, durable: u8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Items that are stored, dead letters apart.
    pub items_max: u32,
    /// Their payload bytes.
    pub bytes_max: u64,
    /// How long a delivery lasts, in nanoseconds.
    pub lease_ns: u64,
    /// How long it lasts with all its extensions.
    pub lease_total_ns: u64,
    /// Deliveries of one item before it is dead.
    pub deliveries_max: u32,
    /// What happens to a put when there is no room.
    pub when_full: WhenFull,
    /// What the queue survives; 0 where an older client leaves it out.
    pub durable: Durable,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            items_max: 4_096,
            bytes_max: 16 * 1024 * 1024,
            lease_ns: 30_000_000_000,
            lease_total_ns: 3_600_000_000_000,
            deliveries_max: 5,
            when_full: WhenFull::Reject,
            durable: Durable::No,
        }
    }
}

/// The one answer to a put: outcome (1 stored, 2 duplicate, 3 rejected), reason: u8; item: u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is in the queue.
    Stored {
        /// Its id.
        item: u64,
    },
    /// It was in the queue before.
    Duplicate {
        /// As this item.
        item: u64,
    },
    /// It is not in the queue.
    Rejected {
        /// 1 full, 2 waited in vain, 3 too many wait, 4 too large, 5 expired, 6 other, 7 withdrawn.
        reason: u8,
    },
}

/// An item in a worker's hands: item: u64; delivery: u32; priority: u8; lease_left_ns: u64; sender: word; payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names it in answers.
    pub lease: Lease,
    /// 1 to 10.
    pub priority: u8,
    /// How long it is this worker's, from when it was sent.
    pub lease_left_ns: u64,
    /// Whose it was.
    pub sender: String,
    /// The item.
    pub payload: Vec<u8>,
}

/// A [`Delivery`] without its payload, for whoever has that elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryHead<'a> {
    /// Names it in answers.
    pub lease: Lease,
    /// 1 to 10.
    pub priority: u8,
    /// How long it is the worker's.
    pub lease_left_ns: u64,
    /// Whose it was.
    pub sender: &'a str,
}

/// Why a take ended: missing: u32; end: u8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TakeEnd {
    /// It got all it asked for.
    Complete = 0,
    /// Its time is over.
    Timeout = 1,
    /// As many takes wait as may.
    TooManyWait = 2,
    /// It was cancelled.
    Cancelled = 3,
}

/// How a queue is: sixteen u64 in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Items to be delivered.
    pub ready: u64,
    /// Items in workers' hands.
    pub leased: u64,
    /// Items that wait for their delay.
    pub delayed: u64,
    /// Items that are not delivered any more.
    pub dead: u64,
    /// Bytes of all of them but the dead.
    pub bytes: u64,
    /// Takes that wait.
    pub takers: u64,
    /// Puts that wait.
    pub putters: u64,
    /// Since it was made: items stored.
    pub stored: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Items done.
    pub acked: u64,
    /// Deliveries of items that were delivered before.
    pub redelivered: u64,
    /// Leases that ended without an answer while the item lived on.
    pub returned: u64,
    /// Items that died.
    pub died: u64,
    /// Items dropped for newer ones or by people.
    pub dropped: u64,
    /// Puts rejected.
    pub rejected: u64,
    /// Answers about leases that were over.
    pub stale: u64,
}

/// An item that is not delivered any more: item: u64; deliveries: u32; priority, reason: u8; bytes: u64; sender: word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub item: u64,
    /// How often it was delivered.
    pub deliveries: u32,
    /// 1 to 10.
    pub priority: u8,
    /// 1 delivered as often as may be, 2 its deadline passed.
    pub reason: u8,
    /// Its length.
    pub bytes: u64,
    /// Whose it was.
    pub sender: String,
}

impl Options {
    pub(super) fn write(&self, out: &mut Writer) {
        out.u32(self.items_max);
        out.u64(self.bytes_max);
        out.u64(self.lease_ns);
        out.u64(self.lease_total_ns);
        out.u32(self.deliveries_max);
        out.u8(self.when_full as u8);
        out.u8(self.durable as u8);
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            items_max: fields.u32("items")?,
            bytes_max: fields.u64("bytes")?,
            lease_ns: fields.u64("lease")?,
            lease_total_ns: fields.u64("lease")?,
            deliveries_max: fields.u32("deliveries")?,
            when_full: match fields.u8("when full")? {
                1 => WhenFull::Reject,
                2 => WhenFull::DropOldest,
                3 => WhenFull::Wait,
                other => return Err(DecodeError::Value { field: "when full", got: other.into() }),
            },
            durable: match if fields.is_empty() { 0 } else { fields.u8("durable")? } {
                0 => Durable::No,
                1 => Durable::Stored,
                2 => Durable::Synced,
                other => return Err(DecodeError::Value { field: "durable", got: other.into() }),
            },
        })
    }
}

impl PutOutcome {
    /// Its bytes.
    pub fn encode(self) -> Vec<u8> {
        let (outcome, reason, item) = match self {
            Self::Stored { item } => (1, 0, item),
            Self::Duplicate { item } => (2, 0, item),
            Self::Rejected { reason } => (3, reason, 0),
        };
        let mut out = Writer::new();
        out.u8(outcome);
        out.u8(reason);
        out.u64(item);
        out.into_bytes()
    }

    /// What such bytes say.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let (outcome, reason) = (fields.u8("outcome")?, fields.u8("reason")?);
        let item = fields.u64("item")?;
        match outcome {
            1 => Ok(Self::Stored { item }),
            2 => Ok(Self::Duplicate { item }),
            3 => Ok(Self::Rejected { reason }),
            other => Err(DecodeError::Value { field: "outcome", got: other.into() }),
        }
    }
}

impl Delivery {
    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let Self { lease, priority, lease_left_ns, .. } = *self;
        let mut out = Writer::new();
        DeliveryHead { lease, priority, lease_left_ns, sender: &self.sender }.write(&mut out)?;
        out.rest(&self.payload);
        Ok(out.into_bytes())
    }

    /// What such bytes say.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let lease = Lease { item: fields.u64("item")?, delivery: fields.u32("delivery")? };
        let (priority, lease_left_ns) = (fields.u8("priority")?, fields.u64("lease")?);
        let sender = fields.word("sender")?;
        Ok(Self { lease, priority, lease_left_ns, sender, payload: fields.rest().to_vec() })
    }
}

impl DeliveryHead<'_> {
    /// The bytes before the payload. A sender whose name is too long for the bus is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        if self.write(&mut out).is_err() {
            // Nothing of a word that is too long was written.
            out.u16(0);
        }
        out.into_bytes()
    }

    fn write(&self, out: &mut Writer) -> Result<(), EncodeError> {
        out.u64(self.lease.item);
        out.u32(self.lease.delivery);
        out.u8(self.priority);
        out.u64(self.lease_left_ns);
        out.word("sender", self.sender)
    }
}

impl TakeEnd {
    /// The bytes of the end of a take.
    pub fn encode(self, missing: u32) -> Vec<u8> {
        let mut out = Writer::new();
        out.u32(missing);
        out.u8(self as u8);
        out.into_bytes()
    }

    /// What such bytes say.
    pub fn decode(bytes: &[u8]) -> Result<(u32, Self), DecodeError> {
        let mut fields = Reader::new(bytes);
        let missing = fields.u32("missing")?;
        let end = match fields.u8("end")? {
            0 => Self::Complete,
            1 => Self::Timeout,
            2 => Self::TooManyWait,
            3 => Self::Cancelled,
            other => return Err(DecodeError::Value { field: "end", got: other.into() }),
        };
        Ok((missing, end))
    }
}

impl Status {
    fn fields(&mut self) -> [&mut u64; 16] {
        [
            &mut self.ready,
            &mut self.leased,
            &mut self.delayed,
            &mut self.dead,
            &mut self.bytes,
            &mut self.takers,
            &mut self.putters,
            &mut self.stored,
            &mut self.delivered,
            &mut self.acked,
            &mut self.redelivered,
            &mut self.returned,
            &mut self.died,
            &mut self.dropped,
            &mut self.rejected,
            &mut self.stale,
        ]
    }

    /// Its bytes.
    pub fn encode(mut self) -> Vec<u8> {
        let mut out = Writer::new();
        for field in self.fields() {
            out.u64(*field);
        }
        out.into_bytes()
    }

    /// What such bytes say.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let mut status = Self::default();
        for field in status.fields() {
            *field = fields.u64("status")?;
        }
        Ok(status)
    }
}

impl DeadLetter {
    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.u64(self.item);
        out.u32(self.deliveries);
        out.u8(self.priority);
        out.u8(self.reason);
        out.u64(self.bytes);
        out.word("sender", &self.sender)?;
        Ok(out.into_bytes())
    }

    /// What such bytes say.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let (item, deliveries) = (fields.u64("item")?, fields.u32("deliveries")?);
        let (priority, reason) = (fields.u8("priority")?, fields.u8("reason")?);
        let (bytes, sender) = (fields.u64("bytes")?, fields.word("sender")?);
        Ok(Self { item, deliveries, priority, reason, bytes, sender })
    }
}
