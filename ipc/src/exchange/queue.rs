//! Work queues: one of several workers gets each item, for as long as its lease lasts, and says when it is done.
//!
//! [`Operation`] is what a client asks, [`Delivery`] and the other structures what it is answered; the same code writes and
//! reads them on both sides. [`Queues`] is a client's link to the exchange with these as calls. Delivery is at least once:
//! an item whose worker died or was too slow comes to another one with its count raised.
//!
//! | tool | arguments | answers |
//! |---|---|---|
//! | `queue.declare` | queue: word; [`Options`] | u8: 1 made, 0 was there |
//! | `queue.put` | queue: word; priority, flags (1: dedup): u8; dedup: u64, u64; deadline_ns, wait_ns: u64; payload | u8 outcome, u8 reason, u64 item |
//! | `queue.take` | queue: word; count: u32; wait_ns: u64 | MORE: [`Delivery`] each; last: missing: u32, u8 why |
//! | `queue.ack` | queue: word; item: u64; delivery: u32 | nothing |
//! | `queue.nack` | the same; delay_ns: u64 | nothing |
//! | `queue.extend` | as `ack` | lease_left_ns: u64 |
//! | `queue.handoff` | as `ack`; to: word | nothing; `to` gets a message of kind handoff with a [`Delivery`] |
//! | `queue.status` | queue: word | [`Status`] |
//! | `queue.dead` | queue: word; after: u64; count: u32 | u16 length, [`DeadLetter`] each, at most 64 |
//! | `queue.requeue`, `queue.drop` | queue: word; item: u64 | nothing |
//! | `queue.remove` | queue: word | nothing; only of a queue that is empty and at which nobody waits |
//!
//! A queue is made by its declaration or, with the usual options, by the first put or take. Errors have the codes
//! `bad-request`, `queue-refused`, `no-such-queue`, `no-such-target`, `take-refused`, `stale`, `in-use`, `too-large` (an item of
//! more than [`ITEM_BYTES_MAX`] bytes), `busy` (come again), and of durable queues `no-space` (nothing was changed) and
//! `storage` (the disk failed; whether the request was carried out is not known). A cancelled put or take that waits is over
//! at once: the put with reason withdrawn, the take with [`TakeEnd::Cancelled`].

use std::time::Instant;

use thiserror::Error;

use crate::client::{Client, ClientError};
use crate::control::fields::{Reader, Writer};
use crate::control::{DecodeError, EncodeError};
use crate::link::{Answer, CallError, Incoming, Link, RequestId};

mod structures;
#[cfg(test)]
mod tests;

pub use structures::{
    DeadLetter, Delivery, DeliveryHead, Durable, Options, PutOutcome, Status, TakeEnd, WhenFull,
};

/// Bytes of one item: what one message carries beside the rest of a put or a delivery, which is less than a page.
pub const ITEM_BYTES_MAX: usize = crate::limits::MESSAGE_BYTES_MAX - 4_096;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Makes a queue; one that is there must have been made with the same options.
    Declare {
        /// Its bounds and times.
        options: Options,
    },
    /// Stores an item.
    Put {
        /// 1 to 10.
        priority: u8,
        /// The same from the same sender is stored once.
        dedup: Option<u128>,
        /// After which it is not delivered, nanoseconds since the Unix epoch; 0 for none.
        deadline_ns: u64,
        /// How long the put may wait for room.
        wait_ns: u64,
        /// The item.
        payload: &'a [u8],
    },
    /// Wants items, as they come.
    Take {
        /// How many.
        count: u32,
        /// How long to wait for them.
        wait_ns: u64,
    },
    /// The item is done.
    Ack(Lease),
    /// The item is for somebody else, at once or later.
    Nack {
        /// Which.
        lease: Lease,
        /// How much later.
        delay_ns: u64,
    },
    /// The item takes longer.
    Extend(Lease),
    /// The item is from now on somebody else's work.
    Handoff {
        /// Which.
        lease: Lease,
        /// That agent's name.
        to: String,
    },
    /// How the queue is.
    Status,
    /// Items that are not delivered any more.
    Dead {
        /// Those with greater ids.
        after: u64,
        /// How many at most.
        count: u32,
    },
    /// A dead item gets another chance.
    Requeue {
        /// Which.
        item: u64,
    },
    /// A dead item goes for good.
    Drop {
        /// Which.
        item: u64,
    },
    /// The empty queue goes.
    Remove,
}

/// One delivery of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The item.
    pub item: u64,
    /// Which of its deliveries.
    pub delivery: u32,
}

/// Why an operation has no result.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The exchange refused it: CBOR of its error.
    #[error("the exchange refused: {}", String::from_utf8_lossy(.0))]
    Refused(Vec<u8>),
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The bus failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A name is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer is none.
    #[error("the exchange answered nonsense: {0}")]
    Decode(#[from] DecodeError),
}

/// A take that is under way, or what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An item.
    Item(Delivery),
    /// Nothing more comes; so many items less than asked.
    End {
        /// How many less.
        missing: u32,
        /// Why.
        end: TakeEnd,
    },
}

/// A client's link to the exchange.
#[derive(Debug)]
pub struct Queues {
    link: Link,
}

impl Operation<'_> {
    /// The tool that carries it out.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::Declare { .. } => "queue.declare",
            Self::Put { .. } => "queue.put",
            Self::Take { .. } => "queue.take",
            Self::Ack(_) => "queue.ack",
            Self::Nack { .. } => "queue.nack",
            Self::Extend(_) => "queue.extend",
            Self::Handoff { .. } => "queue.handoff",
            Self::Status => "queue.status",
            Self::Dead { .. } => "queue.dead",
            Self::Requeue { .. } => "queue.requeue",
            Self::Drop { .. } => "queue.drop",
            Self::Remove => "queue.remove",
        }
    }

    /// Its arguments.
    pub fn encode(&self, queue: &str) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.word("queue", queue)?;
        match self {
            Self::Declare { options } => options.write(&mut out),
            Self::Put { priority, dedup, deadline_ns, wait_ns, payload } => {
                out.u8(*priority);
                out.u8(dedup.is_some().into());
                let dedup = dedup.unwrap_or_default();
                out.u64(dedup as u64);
                out.u64((dedup >> 64) as u64);
                out.u64(*deadline_ns);
                out.u64(*wait_ns);
                out.rest(payload);
            }
            Self::Take { count, wait_ns } => {
                out.u32(*count);
                out.u64(*wait_ns);
            }
            Self::Ack(lease) | Self::Extend(lease) => lease.write(&mut out),
            Self::Nack { lease, delay_ns } => {
                lease.write(&mut out);
                out.u64(*delay_ns);
            }
            Self::Handoff { lease, to } => {
                lease.write(&mut out);
                out.word("to", to)?;
            }
            Self::Status | Self::Remove => {}
            Self::Dead { after, count } => {
                out.u64(*after);
                out.u32(*count);
            }
            Self::Requeue { item } | Self::Drop { item } => out.u64(*item),
        }
        Ok(out.into_bytes())
    }
}

impl<'a> Operation<'a> {
    /// The queue's name and the operation of a request; nothing for a tool that is none of these. The bytes are foreign.
    pub fn decode(tool: &str, payload: &'a [u8]) -> Result<Option<(String, Self)>, DecodeError> {
        if !tool.starts_with("queue.") {
            return Ok(None);
        }
        let mut fields = Reader::new(payload);
        let fields = &mut fields;
        let queue = fields.word("queue")?;
        let operation = match tool {
            "queue.declare" => Self::Declare { options: Options::read(fields)? },
            "queue.put" => Self::read_put(fields)?,
            "queue.take" => {
                Self::Take { count: fields.u32("count")?, wait_ns: fields.u64("wait")? }
            }
            "queue.ack" => Self::Ack(Lease::read(fields)?),
            "queue.nack" => {
                Self::Nack { lease: Lease::read(fields)?, delay_ns: fields.u64("delay")? }
            }
            "queue.extend" => Self::Extend(Lease::read(fields)?),
            "queue.handoff" => {
                Self::Handoff { lease: Lease::read(fields)?, to: fields.word("to")? }
            }
            "queue.status" => Self::Status,
            "queue.dead" => Self::Dead { after: fields.u64("after")?, count: fields.u32("count")? },
            "queue.requeue" => Self::Requeue { item: fields.u64("item")? },
            "queue.drop" => Self::Drop { item: fields.u64("item")? },
            "queue.remove" => Self::Remove,
            _ => return Ok(None),
        };
        Ok(Some((queue, operation)))
    }

    fn read_put(fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (priority, flags) = (fields.u8("priority")?, fields.u8("flags")?);
        let dedup = u128::from(fields.u64("dedup")?) | u128::from(fields.u64("dedup")?) << 64;
        let (deadline_ns, wait_ns) = (fields.u64("deadline")?, fields.u64("wait")?);
        let dedup = (flags & 1 != 0).then_some(dedup);
        Ok(Self::Put { priority, dedup, deadline_ns, wait_ns, payload: fields.rest() })
    }
}

impl Lease {
    fn write(self, out: &mut Writer) {
        out.u64(self.item);
        out.u32(self.delivery);
    }

    fn read(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { item: fields.u64("item")?, delivery: fields.u32("delivery")? })
    }
}

impl Queues {
    /// Opens a link to the exchange.
    pub fn open(client: &mut Client) -> Result<Self, ClientError> {
        Ok(Self { link: client.open(super::NAME)? })
    }

    /// The link, to wait for several at once.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Makes a queue; true where it was not there.
    pub fn declare(
        &mut self,
        queue: &str,
        options: Options,
        deadline: Instant,
    ) -> Result<bool, QueueError> {
        let answer = self.call(queue, &Operation::Declare { options }, deadline)?;
        Ok(Reader::new(&answer).u8("made")? != 0)
    }

    /// Stores an item with priority 5.
    pub fn put(
        &mut self,
        queue: &str,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<PutOutcome, QueueError> {
        let (dedup, deadline_ns, wait_ns) = (None, 0, 0);
        let put = Operation::Put { priority: 5, dedup, deadline_ns, wait_ns, payload };
        self.put_with(queue, &put, deadline)
    }

    /// Stores an item, with everything that can be said of it.
    pub fn put_with(
        &mut self,
        queue: &str,
        put: &Operation<'_>,
        deadline: Instant,
    ) -> Result<PutOutcome, QueueError> {
        Ok(PutOutcome::decode(&self.call(queue, put, deadline)?)?)
    }

    /// Wants items; [`Queues::next`] gives them.
    pub fn take(
        &mut self,
        queue: &str,
        count: u32,
        wait_ns: u64,
        deadline: Instant,
    ) -> Result<RequestId, QueueError> {
        let take = Operation::Take { count, wait_ns };
        Ok(self.link.request(take.tool(), &take.encode(queue)?, &[], deadline)?)
    }

    /// What comes next of a take.
    pub fn next(&mut self, take: RequestId, deadline: Instant) -> Result<Taken, QueueError> {
        taken(self.link.answer(take, deadline)?)
    }

    /// What comes next of a take, if it is there.
    pub fn try_next(&mut self, take: RequestId) -> Result<Option<Taken>, QueueError> {
        self.link.try_answer(take)?.map(taken).transpose()
    }

    /// The next item that another worker hands over.
    pub fn next_handoff(&mut self, deadline: Instant) -> Result<Delivery, QueueError> {
        loop {
            if let Incoming::Other { header: Some(header), payload } = self.link.next(deadline)?
                && header.kind == crate::header::Kind::Handoff
            {
                return Ok(Delivery::decode(&payload)?);
            }
        }
    }

    /// An item is done.
    pub fn ack(&mut self, queue: &str, lease: Lease, deadline: Instant) -> Result<(), QueueError> {
        self.call(queue, &Operation::Ack(lease), deadline).map(|_| ())
    }

    /// Removes a queue that is empty and at which nobody waits.
    pub fn remove(&mut self, queue: &str, deadline: Instant) -> Result<(), QueueError> {
        self.call(queue, &Operation::Remove, deadline).map(|_| ())
    }

    /// How a queue is.
    pub fn status(&mut self, queue: &str, deadline: Instant) -> Result<Status, QueueError> {
        Ok(Status::decode(&self.call(queue, &Operation::Status, deadline)?)?)
    }

    /// Items that are not delivered any more.
    pub fn dead(&mut self, queue: &str, deadline: Instant) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters: Vec<DeadLetter> = Vec::new();
        loop {
            let after = letters.last().map_or(0, |letter| letter.item);
            let dead = Operation::Dead { after, count: u32::MAX };
            let answer = self.call(queue, &dead, deadline)?;
            let mut fields = Reader::new(&answer);
            let count = letters.len();
            while !fields.is_empty() {
                let letter = fields.block("letter", usize::from(u16::MAX))?;
                letters.push(DeadLetter::decode(letter)?);
            }
            if letters.len() == count {
                return Ok(letters);
            }
        }
    }

    /// Any operation with one answer; its bytes.
    pub fn call(
        &mut self,
        queue: &str,
        operation: &Operation<'_>,
        deadline: Instant,
    ) -> Result<Vec<u8>, QueueError> {
        let asked = (operation.tool(), &operation.encode(queue)?[..]);
        let read = |bytes: &[u8]| Ok(bytes.to_vec());
        super::call(&mut self.link, asked, deadline, read, QueueError::Refused)
    }
}

/// Puts a letter behind others.
pub fn append(bytes: &mut Vec<u8>, letter: &DeadLetter) -> Result<(), EncodeError> {
    let mut out = Writer::new();
    out.block("letter", &letter.encode()?, usize::from(u16::MAX))?;
    bytes.extend(out.into_bytes());
    Ok(())
}

fn taken(answer: Answer) -> Result<Taken, QueueError> {
    match answer {
        Answer::Progress(bytes) => Ok(Taken::Item(Delivery::decode(&bytes)?)),
        Answer::Done(bytes) => {
            let (missing, end) = TakeEnd::decode(&bytes)?;
            Ok(Taken::End { missing, end })
        }
        Answer::Failed(error) => Err(QueueError::Refused(error)),
    }
}
