//! The lines of a queue's journal as bytes: the payload of one record of its log each. `ipc/PROTOCOL.md` section 9 has
//! them in a table.
//!
//! Agents' names stand as text, because their numbers are of one process only; times are nanoseconds since 1970. The
//! bytes come from a disk: nothing here believes a length or panics. Not here: what a line changes (`queue`).

use thiserror::Error;

use crate::exchange::names::Names;
use crate::exchange::queue::{Agent, DedupId, Head, Item, Known, Lease, NameId, Record, State};

mod numbers;
mod read;

pub(super) use self::read::decode;

use self::numbers::{counter_fields, dead_code, durable_code, return_code, when_full_code};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// A picture of the queue begins: what is no item. The changes between its lines are not in it.
    Begin(Box<Head>),
    /// An item as it is in the picture.
    Item(Item),
    /// Deduplication ids of the picture, oldest first.
    Known(Vec<Known>),
    /// The picture is complete: so many items.
    End(u64),
    /// A change.
    Change(Record),
}

/// Bytes that are no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a line of the journal is unreadable at its {0}")]
pub(super) struct Unreadable(&'static str);

const BEGIN: u8 = 1;
const ITEM: u8 = 2;
const KNOWN: u8 = 3;
const END: u8 = 4;
const PUT: u8 = 16;
const DELIVERED: u8 = 17;
const EXTENDED: u8 = 18;
const HANDED_OVER: u8 = 19;
const ACKED: u8 = 20;
const RETURNED: u8 = 21;
const READIED: u8 = 22;
const DIED: u8 = 23;
const DROPPED: u8 = 24;
const REQUEUED: u8 = 25;

/// Appends fields to a line.
struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    names: &'a Names,
}

impl Writer<'_> {
    fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn u64s(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.u64(*value));
    }

    fn name(&mut self, name: NameId) {
        let text = self.names.text(name).as_bytes();
        // A name on the bus has at most 128 bytes.
        self.u8(text.len() as u8);
        self.bytes.extend(text);
    }

    fn agent(&mut self, agent: Agent) {
        self.name(agent.name);
        self.u32(agent.id.0);
    }

    fn dedup(&mut self, dedup: Option<DedupId>) {
        self.u8(dedup.is_some().into());
        let id = dedup.map_or(0, |id| id.0);
        self.u64s(&[id as u64, (id >> 64) as u64]);
    }

    fn item(&mut self, item: &Item) {
        self.u64s(&[item.id.0, item.sequence]);
        self.u8(item.priority.number());
        self.u32(item.deliveries_count);
        self.u32(item.deliveries_before);
        self.u64(item.deadline_ns);
        self.name(item.sender);
        match item.state {
            State::Ready => self.u8(1),
            State::Delayed { until_ns } => {
                self.u8(2);
                self.u64(until_ns);
            }
            State::Leased(Lease { worker, delivered_ns, until_ns }) => {
                self.u8(3);
                self.agent(worker);
                self.u64s(&[delivered_ns, until_ns]);
            }
            State::Dead { reason, at_ns } => {
                self.u8(4);
                self.u8(dead_code(reason));
                self.u64(at_ns);
            }
        }
        self.u8(item.preference.is_some().into());
        if let Some((name, until_ns)) = item.preference {
            self.name(name);
            self.u64(until_ns);
        }
        self.bytes.extend(&item.payload[..]);
    }

    fn head(&mut self, head: &Head) {
        let options = &head.options;
        self.u32(options.items_max);
        self.u64s(&[options.bytes_max, options.lease_ns, options.lease_total_ns]);
        self.u32(options.deliveries_max);
        self.u8(when_full_code(options.when_full));
        self.u8(durable_code(options.durable));
        self.u32(options.dead_items_max);
        self.u64(options.dead_bytes_max);
        self.u32(options.takers_max);
        self.u32(options.putters_max);
        self.u64(options.putters_bytes_max);
        self.u32(options.dedup_max);
        let mut counters = head.counters;
        counter_fields(&mut counters).iter().for_each(|counter| self.u64(**counter));
        let (taken, due) = head.turns.dates();
        self.u64(taken);
        self.u64s(&due);
        self.u64(head.sequence_next);
    }

    fn change(&mut self, record: &Record) {
        match *record {
            Record::Put { item, sender, priority, dedup, deadline_ns, ref payload } => {
                self.u8(PUT);
                self.u64(item.0);
                self.u8(priority.number());
                self.u64(deadline_ns);
                self.dedup(dedup);
                self.name(sender);
                self.bytes.extend(&payload[..]);
            }
            Record::Delivered { item, worker, delivery, at_ns, until_ns } => {
                self.u8(DELIVERED);
                self.u64(item.0);
                self.u32(delivery);
                self.u64s(&[at_ns, until_ns]);
                self.agent(worker);
            }
            Record::Extended { item, until_ns } => {
                self.u8(EXTENDED);
                self.u64s(&[item.0, until_ns]);
            }
            Record::HandedOver { item, to, until_ns } => {
                self.u8(HANDED_OVER);
                self.u64s(&[item.0, until_ns]);
                self.agent(to);
            }
            Record::Acked { item } => {
                self.u8(ACKED);
                self.u64(item.0);
            }
            Record::Returned { item, reason, ready_at_ns } => {
                self.u8(RETURNED);
                self.u64s(&[item.0, ready_at_ns]);
                self.u8(return_code(reason));
            }
            Record::Readied { item } => {
                self.u8(READIED);
                self.u64(item.0);
            }
            Record::Died { item, reason, at_ns } => {
                self.u8(DIED);
                self.u64s(&[item.0, at_ns]);
                self.u8(dead_code(reason));
            }
            Record::Dropped { item, reason } => {
                self.u8(DROPPED);
                self.u64(item.0);
                self.u8(reason as u8);
            }
            Record::Requeued { item, deadline_ns } => {
                self.u8(REQUEUED);
                self.u64s(&[item.0, deadline_ns]);
            }
        }
    }
}

/// Writes a change over what the buffer had.
pub(super) fn encode_change(bytes: &mut Vec<u8>, names: &Names, record: &Record) {
    bytes.clear();
    Writer { bytes, names }.change(record);
}

/// The first line of a picture.
pub(super) fn encode_begin(bytes: &mut Vec<u8>, names: &Names, head: &Head) {
    bytes.clear();
    bytes.push(BEGIN);
    Writer { bytes, names }.head(head);
}

/// An item of a picture.
pub(super) fn encode_item(bytes: &mut Vec<u8>, names: &Names, item: &Item) {
    bytes.clear();
    bytes.push(ITEM);
    Writer { bytes, names }.item(item);
}

/// Some deduplication ids of a picture.
pub(super) fn encode_known(bytes: &mut Vec<u8>, names: &Names, known: &[Known]) {
    bytes.clear();
    bytes.push(KNOWN);
    let mut out = Writer { bytes, names };
    out.u32(known.len() as u32);
    for (sender, id, item) in known {
        out.name(*sender);
        out.u64s(&[id.0 as u64, (id.0 >> 64) as u64, item.0]);
    }
}

/// The last line of a picture.
pub(super) fn encode_end(bytes: &mut Vec<u8>, items_count: u64) {
    bytes.clear();
    bytes.push(END);
    bytes.extend(items_count.to_le_bytes());
}
