//! What a message on a link means, read where it lies. Not here: messages that are kept (`Incoming`), and those that were taken
//! out of the link (`taken`).

use std::time::{Duration, UNIX_EPOCH};

use super::{Answer, Incoming, Request, RequestId};
use crate::control::fields::has_control;
use crate::header::{GrantId, Header, Kind};
use crate::lane::Message;
use crate::limits::{GRANTS_PER_REQUEST_MAX, WORD_BYTES_MAX};
use crate::ring::{FLAG_CANCEL, FLAG_ERROR, FLAG_MORE};

/// What came over a link; it lies in the receiver until the next message is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View<'a> {
    /// The peer asks.
    Request(RequestView<'a>),
    /// The peer no longer waits for the answer of a request.
    Cancelled {
        /// The low half of the request's id.
        request: u32,
    },
    /// The peer answers.
    Answer {
        /// Which request.
        request: RequestId,
        /// What it says.
        answer: AnswerView<'a>,
    },
    /// Anything else: header, where it had one, and payload.
    Other {
        /// What it is, where it had a header.
        header: Option<&'a Header>,
        /// Its payload.
        payload: &'a [u8],
    },
}

/// One request, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestView<'a> {
    /// Its id, kind, deadline, trace and grants.
    pub header: &'a Header,
    /// Which tool: a word without control characters.
    pub tool: &'a str,
    /// Its arguments.
    pub payload: &'a [u8],
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerView<'a> {
    /// More follows.
    Progress(&'a [u8]),
    /// The last one.
    Done(&'a [u8]),
    /// The last one: the tool refused or failed.
    Failed(&'a [u8]),
}

impl<'a> View<'a> {
    /// What a message means. A request whose tool cannot be read is given on as it is; the server refuses it.
    #[inline]
    pub fn of(message: Message<'a>) -> Self {
        let Message { meta, header, payload, .. } = message;
        if meta.has(FLAG_CANCEL) {
            return Self::Cancelled { request: meta.correlation };
        }
        let other = Self::Other { header, payload };
        let Some(header) = header else { return other };
        match header.kind {
            Kind::Result => {
                let answer = match (meta.has(FLAG_MORE), meta.has(FLAG_ERROR)) {
                    (true, _) => AnswerView::Progress(payload),
                    (false, true) => AnswerView::Failed(payload),
                    (false, false) => AnswerView::Done(payload),
                };
                Self::Answer { request: RequestId(header.correlation), answer }
            }
            Kind::Query | Kind::Task => match split_tool(payload) {
                Some((tool, payload)) => Self::Request(RequestView { header, tool, payload }),
                None => other,
            },
            _ => other,
        }
    }

    /// A copy that can be kept.
    pub fn to_incoming(self) -> Incoming {
        match self {
            Self::Request(request) => Incoming::Request(request.to_request()),
            Self::Cancelled { request } => Incoming::Cancelled { request },
            Self::Answer { request, answer } => {
                let answer = match answer {
                    AnswerView::Progress(bytes) => Answer::Progress(bytes.to_vec()),
                    AnswerView::Done(bytes) => Answer::Done(bytes.to_vec()),
                    AnswerView::Failed(bytes) => Answer::Failed(bytes.to_vec()),
                };
                Incoming::Answer { request, answer }
            }
            Self::Other { header, payload } => {
                Incoming::Other { header: header.copied(), payload: payload.to_vec() }
            }
        }
    }
}

impl RequestView<'_> {
    /// The descriptors that were granted for it; 0 is none.
    pub fn grants(&self) -> [GrantId; GRANTS_PER_REQUEST_MAX] {
        self.header.context.map(GrantId)
    }

    /// Names it in answers.
    pub fn id(&self) -> RequestId {
        RequestId(self.header.id)
    }

    /// A copy that can be kept.
    pub fn to_request(self) -> Request {
        let Self { header, tool, payload } = self;
        Request {
            id: RequestId(header.id),
            kind: header.kind,
            priority: header.priority,
            tool: tool.to_owned(),
            payload: payload.to_vec(),
            grants: self.grants().into_iter().filter(|grant| grant.0 != 0).collect(),
            deadline: (header.deadline_ns != 0)
                .then(|| UNIX_EPOCH + Duration::from_nanos(header.deadline_ns)),
            trace: header.trace,
        }
    }
}

#[inline]
fn split_tool(payload: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = payload.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (tool, arguments) = rest.split_at_checked(length)?;
    let tool = std::str::from_utf8(tool).ok()?;
    let plain = length <= WORD_BYTES_MAX && !has_control(tool);
    plain.then_some((tool, arguments))
}
