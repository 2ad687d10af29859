//! Reading the lines of a journal.

use ipc::header::AgentId;

use super::numbers::{counter_fields, dead_reason, durable, return_reason, when_full};
use super::{
    ACKED, BEGIN, DELIVERED, DIED, DROPPED, END, EXTENDED, HANDED_OVER, ITEM, KNOWN, Line, PUT,
    READIED, REQUEUED, RETURNED, Unreadable,
};
use crate::exchange::names::Names;
use crate::exchange::priority::{LEVELS, Priority, Turns};
use crate::exchange::queue::{
    Agent, Counters, DedupId, DropReason, Head, Item, ItemId, Known, Lease, NameId, Options,
    Record, State,
};

/// Takes fields from a line.
struct Reader<'a> {
    rest: &'a [u8],
    names: &'a mut Names,
}

pub(super) type Field<T> = Result<T, Unreadable>;

impl Reader<'_> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Field<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Unreadable(field))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, field: &'static str) -> Field<u8> {
        self.array(field).map(u8::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Field<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Field<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Field<NameId> {
        let length = usize::from(self.u8("name")?);
        let (name, rest) = self.rest.split_at_checked(length).ok_or(Unreadable("name"))?;
        self.rest = rest;
        let name = std::str::from_utf8(name).map_err(|_| Unreadable("name"))?;
        Ok(self.names.number(name))
    }

    fn agent(&mut self) -> Field<Agent> {
        Ok(Agent { name: self.name()?, id: AgentId(self.u32("agent")?) })
    }

    fn item_id(&mut self) -> Field<ItemId> {
        self.u64("item").map(ItemId)
    }

    fn priority(&mut self) -> Field<Priority> {
        Priority::new(self.u8("priority")?).ok_or(Unreadable("priority"))
    }

    fn flag(&mut self, field: &'static str) -> Field<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable(field)),
        }
    }

    fn dedup(&mut self) -> Field<DedupId> {
        let low = u128::from(self.u64("dedup")?);
        Ok(DedupId(low | u128::from(self.u64("dedup")?) << 64))
    }

    fn item(&mut self) -> Field<Item> {
        let (id, sequence) = (self.item_id()?, self.u64("sequence")?);
        let priority = self.priority()?;
        let (deliveries_count, deliveries_before) =
            (self.u32("deliveries")?, self.u32("deliveries")?);
        if deliveries_before > deliveries_count || sequence == u64::MAX {
            return Err(Unreadable("deliveries"));
        }
        let (deadline_ns, sender) = (self.u64("deadline")?, self.name()?);
        let state = match self.u8("state")? {
            1 => State::Ready,
            2 => State::Delayed { until_ns: self.u64("delay")? },
            3 => State::Leased(Lease {
                worker: self.agent()?,
                delivered_ns: self.u64("lease")?,
                until_ns: self.u64("lease")?,
            }),
            4 => {
                State::Dead { reason: dead_reason(self.u8("reason")?)?, at_ns: self.u64("death")? }
            }
            _ => return Err(Unreadable("state")),
        };
        let preference = match self.flag("preference")? {
            true => Some((self.name()?, self.u64("preference")?)),
            false => None,
        };
        if preference.is_some() && state != State::Ready {
            return Err(Unreadable("preference"));
        }
        Ok(Item {
            id,
            sender,
            sequence,
            priority,
            deliveries_count,
            deliveries_before,
            deadline_ns,
            payload: self.rest.into(),
            state,
            preference,
        })
    }

    fn known(&mut self) -> Field<Vec<Known>> {
        let count = self.u32("ids")?;
        // Not made as large as the count says: that is a claim.
        let mut known = Vec::new();
        for _ in 0..count {
            let sender = self.name()?;
            known.push((sender, self.dedup()?, self.item_id()?));
        }
        Ok(known)
    }

    fn head(&mut self) -> Field<Head> {
        let options = Options {
            items_max: self.u32("options")?,
            bytes_max: self.u64("options")?,
            lease_ns: self.u64("options")?,
            lease_total_ns: self.u64("options")?,
            deliveries_max: self.u32("options")?,
            when_full: when_full(self.u8("options")?)?,
            durable: durable(self.u8("options")?)?,
            dead_items_max: self.u32("options")?,
            dead_bytes_max: self.u64("options")?,
            takers_max: self.u32("options")?,
            putters_max: self.u32("options")?,
            putters_bytes_max: self.u64("options")?,
            dedup_max: self.u32("options")?,
        };
        options.check().map_err(|_| Unreadable("options"))?;
        let mut counters = Counters::default();
        for counter in counter_fields(&mut counters) {
            *counter = self.u64("counters")?;
        }
        let taken = self.u64("turns")?;
        let mut due = [0; LEVELS];
        for date in &mut due {
            *date = self.u64("turns")?;
        }
        // Counted up from here; nobody lives to see an overflow of an honest one.
        if taken > u64::MAX / 2 {
            return Err(Unreadable("turns"));
        }
        let turns = Turns::with_dates(taken, due);
        Ok(Head { options, counters, turns, sequence_next: self.u64("sequence")? })
    }

    fn put(&mut self) -> Field<Record> {
        let item = self.item_id()?;
        let priority = self.priority()?;
        let deadline_ns = self.u64("deadline")?;
        let has_dedup = self.flag("dedup")?;
        let dedup = Some(self.dedup()?).filter(|_| has_dedup);
        let sender = self.name()?;
        Ok(Record::Put { item, sender, priority, dedup, deadline_ns, payload: self.rest.into() })
    }
}

/// What a line says. A name in it that has no number gets one.
pub(in crate::exchange::journal) fn decode(bytes: &[u8], names: &mut Names) -> Field<Line> {
    let mut fields = Reader { rest: bytes, names };
    let fields = &mut fields;
    let record = match fields.u8("kind")? {
        BEGIN => return Ok(Line::Begin(Box::new(fields.head()?))),
        ITEM => return fields.item().map(Line::Item),
        KNOWN => return fields.known().map(Line::Known),
        END => return fields.u64("count").map(Line::End),
        PUT => fields.put()?,
        DELIVERED => {
            let (item, delivery) = (fields.item_id()?, fields.u32("delivery")?);
            let (at_ns, until_ns) = (fields.u64("time")?, fields.u64("time")?);
            Record::Delivered { item, worker: fields.agent()?, delivery, at_ns, until_ns }
        }
        EXTENDED => Record::Extended { item: fields.item_id()?, until_ns: fields.u64("time")? },
        HANDED_OVER => {
            let (item, until_ns) = (fields.item_id()?, fields.u64("time")?);
            Record::HandedOver { item, to: fields.agent()?, until_ns }
        }
        ACKED => Record::Acked { item: fields.item_id()? },
        RETURNED => {
            let (item, ready_at_ns) = (fields.item_id()?, fields.u64("time")?);
            Record::Returned { item, reason: return_reason(fields.u8("reason")?)?, ready_at_ns }
        }
        READIED => Record::Readied { item: fields.item_id()? },
        DIED => {
            let (item, at_ns) = (fields.item_id()?, fields.u64("time")?);
            Record::Died { item, reason: dead_reason(fields.u8("reason")?)?, at_ns }
        }
        DROPPED => {
            let item = fields.item_id()?;
            let reason = match fields.u8("reason")? {
                0 => DropReason::Displaced,
                1 => DropReason::DeadLettersFull,
                2 => DropReason::Asked,
                _ => return Err(Unreadable("reason")),
            };
            Record::Dropped { item, reason }
        }
        REQUEUED => Record::Requeued { item: fields.item_id()?, deadline_ns: fields.u64("time")? },
        _ => return Err(Unreadable("kind")),
    };
    Ok(Line::Change(record))
}
