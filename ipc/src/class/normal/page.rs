//! What a half of a link of class NORMAL has besides its socket: the segment in which it counts, as the halves of the other
//! classes do, and the router's page.
//!
//! The segments carry no messages; a router shows from them what the link has carried. Not here: the socket (`normal`).

use std::sync::atomic::Ordering;

use crate::class::Counters;
use crate::histogram;
use crate::lane::Ended;
use crate::segment::{Control, Cursor, Slots};

/// The writer's: its own slots segment, of which only the counters are used.
#[derive(Debug)]
pub(crate) struct WriterPage {
    pub(crate) slots: Slots,
    pub(crate) control: Control,
}

/// The reader's: its own cursor segment, of which only the counters are used.
#[derive(Debug)]
pub(crate) struct ReaderPage {
    pub(crate) cursor: Cursor,
    pub(crate) control: Control,
}

impl WriterPage {
    /// Plain stores: this half is the only writer.
    pub(super) fn show(&self, counted: &Counters) {
        let cells = &self.slots.header().counters;
        cells.messages.store(counted.messages, Ordering::Relaxed);
        cells.bytes_lent.store(counted.bytes_large, Ordering::Relaxed);
        cells.waits.store(counted.waits, Ordering::Relaxed);
        cells.rejected.store(counted.rejected, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, told: Ended) -> Ended {
        ended(&self.control, told)
    }
}

impl ReaderPage {
    /// One more message, which was sent at `sent_ns`; 0 where it does not say.
    pub(super) fn count(&self, messages: u64, sent_ns: u64) {
        let header = self.cursor.header();
        header.counters.messages.store(messages, Ordering::Relaxed);
        if sent_ns != 0 {
            header.latency.record(histogram::since_ns(sent_ns));
        }
    }

    /// The writer broke the protocol.
    pub(super) fn broke(&self) {
        self.cursor.header().counters.quarantined.store(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, told: Ended) -> Ended {
        ended(&self.control, told)
    }
}

/// The router writes its page before it cuts the socket, so a hang-up that it caused is told by its name.
fn ended(control: &Control, told: Ended) -> Ended {
    Ended::from_state(control.state()).unwrap_or(told)
}
