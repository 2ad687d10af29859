//! A message that was taken out of its receiver: whoever serves many looks at it while it goes on with any of them.
//!
//! Not here: how it is put together (`receiver`).

use super::Message;
use crate::header::{Header, Kind};
use crate::limits::SPARE_BYTES_MAX;
use crate::ring::{Meta, Timing};

/// One message, and memory for the next one.
#[derive(Debug)]
pub struct TakenMessage {
    pub(super) meta: Meta,
    pub(super) timing: Option<Timing>,
    /// Only where the message had one.
    pub(super) header: Header,
    pub(super) has_header: bool,
    /// The payload, from `begin` on.
    pub(super) bytes: Vec<u8>,
    pub(super) begin: usize,
}

impl Default for TakenMessage {
    fn default() -> Self {
        Self {
            meta: Meta::default(),
            timing: None,
            header: Header::new(Kind::Event),
            has_header: false,
            bytes: Vec::new(),
            begin: 0,
        }
    }
}

impl TakenMessage {
    /// The message where it lies.
    #[inline]
    pub fn message(&self) -> Message<'_> {
        let Self { meta, timing, header, has_header, bytes, begin } = self;
        let (timing, header) = (timing.as_ref(), has_header.then_some(header));
        Message { meta: *meta, timing, header, payload: &bytes[*begin..] }
    }

    /// Bytes of its payload.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Gives memory back that a long message took: one is no reason to keep as much for ever.
    pub fn release(&mut self) {
        if self.bytes.capacity() > SPARE_BYTES_MAX {
            self.bytes = Vec::new();
            self.begin = 0;
        }
    }

    /// Copies a message that lies elsewhere.
    pub(crate) fn copy(&mut self, message: Message<'_>) {
        let Message { meta, timing, header, payload } = message;
        (self.meta, self.timing, self.has_header) = (meta, timing.copied(), header.is_some());
        if let Some(header) = header {
            self.header = *header;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(payload);
        self.begin = 0;
    }
}
