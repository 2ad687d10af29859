//! What a journal says, read from its first line to its last.
//!
//! Damage is never taken for nothing: it is counted and told. What still follows is kept, because losing one change
//! loses less than losing the queue: an item whose end was lost comes once more, with its count raised.

use tracing::error;

use super::codec::{Line, decode};
use super::{Journal, JournalError, Replayed};
use crate::exchange::log::{Entry, Log};
use crate::exchange::names::Names;
use crate::exchange::queue::{Head, Output, Queue, QueueId, Record};
use crate::limits::LOG_READ_BYTES_MIN;

/// The work in progress.
struct Replay<'a> {
    id: QueueId,
    names: &'a mut Names,
    /// From the last complete picture on.
    queue: Option<Queue>,
    /// A picture whose end was not read yet.
    begun: Option<Begun>,
    /// Something was there that cannot be read.
    is_damaged: bool,
    replayed: Replayed,
}

struct Begun {
    head: Box<Head>,
    queue: Queue,
    items_count: u64,
    /// What changed while it was written.
    changes: Vec<Record>,
}

impl Journal {
    /// Goes on with the journal in this log. Whoever had items is gone: they come back, and that is written down.
    pub(in crate::exchange) fn recover(
        log: Log,
        id: QueueId,
        names: &mut Names,
        now_ns: u64,
    ) -> Result<(Self, Queue, Replayed), JournalError> {
        let (queue, begun, replayed) = (None, None, Replayed::default());
        let mut replay = Replay { id, names, queue, begun, is_damaged: false, replayed };
        replay.read(&log)?;
        let Replay { queue, is_damaged, replayed, .. } = replay;
        let Some(mut queue) = queue else {
            // What was never made is deleted, so nothing in it may be doubtful.
            let is_new = log.first_position() == 0 && replayed.changes == 0 && !is_damaged;
            let lines = replayed.lines;
            return Err(if is_new {
                JournalError::Unfinished
            } else {
                JournalError::Damaged { lines }
            });
        };
        let mut journal = Self::new(log);
        // A queue whose exchange dies again and again must not grow for that.
        journal.bytes_since = replayed.bytes;
        let mut output = Output::default();
        queue.recover(now_ns, &mut output);
        for (_, record) in &output.records {
            journal.append(record, names, now_ns)?;
        }
        if replayed.damaged > 0 {
            // So that the next replay does not meet the damage again.
            journal.write_picture(&queue, names, now_ns)?;
        }
        Ok((journal, queue, replayed))
    }
}

impl Replay<'_> {
    fn read(&mut self, log: &Log) -> Result<(), JournalError> {
        let mut reader = log.read(log.first_position())?;
        loop {
            let batch = reader.read(LOG_READ_BYTES_MIN)?;
            if batch.is_empty() {
                return Ok(());
            }
            for entry in batch.entries() {
                match entry {
                    Entry::Record(stored) => {
                        self.replayed.lines += 1;
                        self.replayed.bytes += stored.record.payload.len() as u64;
                        match decode(stored.record.payload, self.names) {
                            Ok(line) => self.line(line),
                            Err(error) => self.damaged(&error.to_string()),
                        }
                    }
                    Entry::Gap(gap) => {
                        let missing = format!("lines {} to {} are gone", gap.first, gap.next);
                        self.damaged(&missing);
                    }
                }
            }
        }
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Begin(head) => {
                let queue = Queue::new(self.id, head.options);
                let (items_count, changes) = (0, Vec::new());
                // One that was begun before was given up.
                self.begun = Some(Begun { head, queue, items_count, changes });
            }
            Line::Item(item) => {
                self.replayed.item_last = self.replayed.item_last.max(item.id.0);
                let Some(begun) = &mut self.begun else { return };
                match begun.queue.restore_item(item) {
                    Ok(()) => begun.items_count += 1,
                    Err(error) => self.damaged(&error.to_string()),
                }
            }
            Line::Known(known) => {
                let Some(begun) = &mut self.begun else { return };
                known.into_iter().for_each(|known| begun.queue.restore_known(known));
            }
            Line::End(items_count) => self.end(items_count),
            Line::Change(record) => self.change(record),
        }
    }

    fn end(&mut self, items_count: u64) {
        let Some(begun) = self.begun.take() else { return };
        let Begun { head, mut queue, items_count: found, changes } = begun;
        if found != items_count {
            self.damaged("a picture is not complete");
            if self.queue.is_some() {
                return;
            }
        }
        queue.restore_head(&head);
        for record in changes {
            if let Err(error) = queue.apply(&record) {
                self.damaged(&error.to_string());
            }
        }
        self.queue = Some(queue);
    }

    fn change(&mut self, record: Record) {
        self.replayed.changes += 1;
        if let Record::Put { item, .. } = record {
            self.replayed.item_last = self.replayed.item_last.max(item.0);
        }
        if let Some(queue) = &mut self.queue
            && let Err(error) = queue.apply(&record)
        {
            self.damaged(&error.to_string());
        }
        if let Some(begun) = &mut self.begun {
            begun.changes.push(record);
        }
    }

    fn damaged(&mut self, what: &str) {
        self.is_damaged = true;
        // Lines before the first picture are left over from what a picture has replaced.
        if self.queue.is_some() || self.begun.is_some() {
            self.replayed.damaged += 1;
            if self.replayed.damaged == 1 {
                error!(what, "the journal of a queue is damaged; what follows is kept");
            }
        }
    }
}
