//! Last answers that are sent as there is room: whoever answers many callers waits for none of them.
//!
//! Not here: requests, and answers that are sent in one go (`link`).

use super::{LinkSender, RequestId, SCHEMA_CBOR};
use crate::class::SendingHalf;
use crate::header::{Header, Kind};
use crate::lane::{Large, SendError, WhenFull};
use crate::ring::{FLAG_ERROR, Meta};

/// A last answer on its way. Its bytes are the caller's to keep.
#[derive(Debug)]
pub struct LastAnswer {
    header: Header,
    meta: Meta,
    sent: usize,
}

impl LastAnswer {
    /// How much of it, its header counted, is in the lane.
    pub fn sent(&self) -> usize {
        self.sent
    }
}

impl LinkSender {
    /// Begins a last answer, of which nothing is sent yet.
    pub fn last_answer(&mut self, request: RequestId, is_error: bool) -> LastAnswer {
        let flags = if is_error { FLAG_ERROR } else { 0 };
        let (header, meta) = self.reply_head(request, flags);
        LastAnswer { header, meta, sent: 0 }
    }

    /// Sends what there is room for. Full is no end: the same call, with the same payload, goes on later, and until it is
    /// through nothing else may be sent over this link.
    pub fn resume(
        &mut self,
        answer: &mut LastAnswer,
        payload: &[u8],
        when: WhenFull,
    ) -> Result<(), SendError> {
        let LastAnswer { header, meta, sent } = answer;
        let message = Large { header: Some(header), meta: *meta, parts: &[payload] };
        self.sender.resume_large(&message, sent, when)
    }

    /// What stands before an answer.
    pub(super) fn reply_head(&mut self, request: RequestId, flags: u8) -> (Header, Meta) {
        let mut header = Header::new(Kind::Result);
        header.id = self.next_request;
        self.next_request += 1;
        header.time_ns = self.clock.now_ns();
        header.correlation = request.0;
        header.schema = SCHEMA_CBOR;
        let correlation = request.0 as u32;
        let meta = Meta { flags, priority: header.priority, correlation, ..Meta::default() };
        (header, meta)
    }
}
