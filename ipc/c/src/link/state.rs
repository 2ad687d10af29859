//! The state of a link's handle: which requests are open, what was kept, and the message that C looks at.
//!
//! A message that is handed out where it lies points into the receiver, one that was kept into `current`; both stay until
//! the next message is taken.

use std::collections::VecDeque;
use std::time::UNIX_EPOCH;

use ipc::class::ReceivingHalf;
use ipc::header::AgentId;
use ipc::lane::SendError;
use ipc::limits::{SET_ASIDE_MAX, WORD_BYTES_MAX};
use ipc::link::{Answer, AnswerView, Ask, Incoming, Link, RequestId, View};
use ipc::ring::Violation;
use ipc::wait::Spin;

use crate::codes::{
    BOLIDE_CANCELLED, BOLIDE_DONE, BOLIDE_FAILED, BOLIDE_PLAIN, BOLIDE_PROGRESS, BOLIDE_REQUEST,
};
use crate::family::Reads;
use crate::fault::Fault;
use crate::limits::REQUESTS_LIVE_MAX;
use crate::shapes::Message;

#[derive(Debug)]
pub(super) struct State {
    pub(super) link: Link,
    pub(super) spin: Spin,
    /// How the peer broke the protocol, which it and the router are told when the link is closed.
    pub(super) violation: Option<Violation>,
    /// Requests whose last answer has not come, ascending.
    live: Vec<u64>,
    /// What came while something else was waited for.
    kept: VecDeque<Incoming>,
    /// The kept message that C looks at.
    current: Option<Incoming>,
    /// The tool of the request that C looks at, with its NUL.
    tool: Tool,
}

#[derive(Debug)]
struct Tool([u8; WORD_BYTES_MAX + 1]);

/// Looks for any message.
pub(super) struct Anything<'a> {
    pub(super) state: &'a mut State,
}

/// Looks for the next answer to one request.
pub(super) struct AnswerTo<'a> {
    pub(super) state: &'a mut State,
    pub(super) request: RequestId,
}

impl State {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            spin: Spin::Adaptive,
            violation: None,
            live: Vec::new(),
            kept: VecDeque::new(),
            current: None,
            tool: Tool([0; WORD_BYTES_MAX + 1]),
        }
    }

    pub(super) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(super) fn is_live(&self, request: RequestId) -> bool {
        self.live.binary_search(&request.0).is_ok()
    }

    pub(super) fn room_for_request(&self) -> Result<(), Fault> {
        if self.live.len() < REQUESTS_LIVE_MAX {
            return Ok(());
        }
        Err(Fault::limit(format!("{REQUESTS_LIVE_MAX} requests of this link wait for answers")))
    }

    pub(super) fn send(&mut self, ask: Ask<'_>) -> Result<RequestId, Fault> {
        let peer = &self.link.peer().manifest.name.clone();
        let request = self.link.sender().ask(ask, peer)?;
        // Numbers grow, so the list stays sorted.
        self.live.push(request.0);
        Ok(request)
    }

    /// The peer may be gone or its lane full; then there is nobody to tell.
    pub(super) fn cancel(&mut self, request: RequestId) {
        if !self.is_live(request) {
            return;
        }
        self.done(request);
        let of = |kept: &Incoming| matches!(kept, Incoming::Answer { request: of, .. } if *of == request);
        self.kept.retain(|kept| !of(kept));
        if let Err(SendError::Quarantined(violation)) = self.link.sender().cancel(request) {
            self.violation = Some(violation);
        }
    }

    fn done(&mut self, request: RequestId) {
        if let Ok(place) = self.live.binary_search(&request.0) {
            self.live.remove(place);
        }
    }

    /// Shows the kept message at `place`.
    fn show_kept(&mut self, place: usize) -> Option<Message> {
        let kept = self.kept.remove(place)?;
        self.current = Some(kept);
        let message = message_of_kept(self.current.as_ref()?, &mut self.tool);
        self.ended_by(&message);
        Some(Message { source: self.link.peer().id.0, ..message })
    }

    fn ended_by(&mut self, message: &Message) {
        if matches!(message.kind, BOLIDE_DONE | BOLIDE_FAILED) {
            self.done(RequestId(message.request));
        }
    }

    /// Takes the next message from the lane. What `wanted` refuses is kept; answers that nobody waits for are dropped.
    fn take(&mut self, wanted: impl Fn(&View<'_>) -> bool) -> Result<Option<Message>, Fault> {
        loop {
            let AgentId(source) = self.link.peer().id;
            let Some(view) = self.link.receiver().try_view()? else { return Ok(None) };
            if let View::Answer { request, .. } = view
                && self.live.binary_search(&request.0).is_err()
            {
                continue;
            }
            if wanted(&view) {
                let message = Message { source, ..message_of(view, &mut self.tool) };
                self.ended_by(&message);
                return Ok(Some(message));
            }
            if self.kept.len() >= SET_ASIDE_MAX {
                let text = format!("more than {SET_ASIDE_MAX} other messages came meanwhile");
                return Err(Fault::limit(text));
            }
            self.kept.push_back(view.to_incoming());
        }
    }
}

impl Reads for Anything<'_> {
    type Found = Message;

    #[inline]
    fn look(&mut self) -> Result<Option<Message>, Fault> {
        if self.state.has_kept() {
            return Ok(self.state.show_kept(0));
        }
        self.state.take(|_| true)
    }

    fn receiver(&mut self) -> &mut dyn ReceivingHalf {
        self.state.link.receiver().raw()
    }

    fn spin(&self) -> Spin {
        self.state.spin
    }
}

impl Reads for AnswerTo<'_> {
    type Found = Message;

    fn look(&mut self) -> Result<Option<Message>, Fault> {
        let request = self.request;
        let is_it = |kept: &Incoming| matches!(kept, Incoming::Answer { request: of, .. } if *of == request);
        if let Some(place) = self.state.kept.iter().position(is_it) {
            return Ok(self.state.show_kept(place));
        }
        self.state.take(|view| matches!(view, View::Answer { request: of, .. } if *of == request))
    }

    fn receiver(&mut self) -> &mut dyn ReceivingHalf {
        self.state.link.receiver().raw()
    }

    fn spin(&self) -> Spin {
        self.state.spin
    }
}

/// A message with nothing but a payload.
pub(crate) fn plain(kind: i32, payload: &[u8]) -> Message {
    Message {
        kind,
        source: 0,
        request: 0,
        tool: std::ptr::null(),
        payload: payload.as_ptr(),
        payload_length: payload.len(),
        grants: [0; 2],
        deadline_ns: 0,
        time_ns: 0,
        lost: 0,
    }
}

fn message_of(view: View<'_>, tool: &mut Tool) -> Message {
    match view {
        View::Request(request) => Message {
            request: request.header.id,
            tool: tool.set(request.tool),
            grants: request.header.context,
            deadline_ns: request.header.deadline_ns,
            time_ns: request.header.time_ns,
            ..plain(BOLIDE_REQUEST, request.payload)
        },
        View::Cancelled { request } => {
            Message { request: request.into(), ..plain(BOLIDE_CANCELLED, &[]) }
        }
        View::Answer { request, answer } => {
            let (kind, payload) = match answer {
                AnswerView::Progress(payload) => (BOLIDE_PROGRESS, payload),
                AnswerView::Done(payload) => (BOLIDE_DONE, payload),
                AnswerView::Failed(payload) => (BOLIDE_FAILED, payload),
            };
            Message { request: request.0, ..plain(kind, payload) }
        }
        View::Other { header, payload } => Message {
            time_ns: header.map_or(0, |header| header.time_ns),
            ..plain(BOLIDE_PLAIN, payload)
        },
    }
}

fn message_of_kept(kept: &Incoming, tool: &mut Tool) -> Message {
    match kept {
        Incoming::Request(request) => {
            let mut grants = [0; 2];
            for (place, grant) in grants.iter_mut().zip(&request.grants) {
                *place = grant.0;
            }
            let since = request.deadline.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let deadline_ns = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
            Message {
                request: request.id.0,
                tool: tool.set(&request.tool),
                grants,
                deadline_ns,
                ..plain(BOLIDE_REQUEST, &request.payload)
            }
        }
        Incoming::Cancelled { request } => {
            Message { request: (*request).into(), ..plain(BOLIDE_CANCELLED, &[]) }
        }
        Incoming::Answer { request, answer } => {
            let (kind, payload) = match answer {
                Answer::Progress(payload) => (BOLIDE_PROGRESS, payload),
                Answer::Done(payload) => (BOLIDE_DONE, payload),
                Answer::Failed(payload) => (BOLIDE_FAILED, payload),
            };
            Message { request: request.0, ..plain(kind, payload) }
        }
        Incoming::Other { header, payload } => Message {
            time_ns: header.map_or(0, |header| header.time_ns),
            ..plain(BOLIDE_PLAIN, payload)
        },
    }
}

impl Tool {
    /// Where the tool's name lies for C. The bus carries no longer ones, and none with a NUL.
    fn set(&mut self, tool: &str) -> *const std::ffi::c_char {
        let length = tool.len().min(WORD_BYTES_MAX);
        self.0[..length].copy_from_slice(&tool.as_bytes()[..length]);
        self.0[length] = 0;
        self.0.as_ptr().cast()
    }
}
