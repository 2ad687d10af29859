//! Calls from the caller's side: a request, and the wait for its answers.
//!
//! Not here: how a request is laid out (`link`), what a message means (`view`).

use std::time::Instant;

use super::{Answer, AnswerView, CallError, Incoming, Link, Outcome, RequestId, View};
use crate::header::{GrantId, PRIORITY_DEFAULT};
use crate::lane::WhenFull;
use crate::limits::ANSWERS_SKIPPED_MAX;

impl Link {
    /// Calls a tool and waits for its last answer; `progress` sees the others. A call that ends without an answer is
    /// cancelled at the peer.
    pub fn call(
        &mut self,
        tool: &str,
        payload: &[u8],
        grants: &[GrantId],
        deadline: Instant,
        progress: impl FnMut(&[u8]),
    ) -> Result<Outcome, CallError> {
        let request = self.request(tool, payload, grants, deadline)?;
        self.answer_viewed(request, deadline, progress, |last| match last {
            Ok(bytes) => Outcome::Done(bytes.to_vec()),
            Err(bytes) => Outcome::Failed(bytes.to_vec()),
        })
    }

    /// The rest of [`Link::call`], whose last answer, as an error where the tool refused, is read where it lies.
    #[inline]
    pub(crate) fn answer_viewed<T>(
        &mut self,
        request: RequestId,
        deadline: Instant,
        progress: impl FnMut(&[u8]),
        last: impl FnOnce(Result<&[u8], &[u8]>) -> T,
    ) -> Result<T, CallError> {
        let result = self.last_answer(request, deadline, progress, last);
        if result.is_err() {
            // The peer may be gone or its lane full; then there is nobody to tell.
            let _ = self.sender.cancel(request);
        }
        result
    }

    #[inline]
    fn last_answer<T>(
        &mut self,
        request: RequestId,
        deadline: Instant,
        mut progress: impl FnMut(&[u8]),
        last: impl FnOnce(Result<&[u8], &[u8]>) -> T,
    ) -> Result<T, CallError> {
        loop {
            match self.receiver.view(Some(deadline))? {
                View::Answer { request: of, answer } if of == request => match answer {
                    AnswerView::Done(bytes) => return Ok(last(Ok(bytes))),
                    AnswerView::Failed(bytes) => return Ok(last(Err(bytes))),
                    AnswerView::Progress(bytes) if Instant::now() < deadline => progress(bytes),
                    AnswerView::Progress(_) => {}
                },
                View::Answer { .. } => {}
                other => {
                    let other = other.to_incoming();
                    self.set_aside(other)?;
                }
            }
            // A peer that never runs out of progress or other messages must not hold the caller beyond his deadline.
            if Instant::now() >= deadline {
                return Err(CallError::Deadline { peer: self.receiver.name() });
            }
        }
    }

    /// Sends a request; its answers are fetched with [`Link::answer`].
    pub fn request(
        &mut self,
        tool: &str,
        payload: &[u8],
        grants: &[GrantId],
        deadline: Instant,
    ) -> Result<RequestId, CallError> {
        let peer = &self.receiver.peer.manifest.name;
        self.sender.request(tool, payload, grants, deadline, peer)
    }

    /// Sends a request whose tool and arguments are laid out already, in parts.
    #[inline]
    pub(crate) fn request_parts(
        &mut self,
        parts: &[&[u8]],
        deadline: Instant,
    ) -> Result<RequestId, CallError> {
        let peer = &self.receiver.peer.manifest.name;
        let how = (deadline, PRIORITY_DEFAULT, WhenFull::WaitUntil(deadline));
        self.sender.ask_parts(parts, &[], how, peer)
    }

    /// The next answer to a request; waits until the deadline. Answers to requests that were given up are skipped, all other
    /// messages are kept for [`Link::next`].
    pub fn answer(&mut self, request: RequestId, deadline: Instant) -> Result<Answer, CallError> {
        loop {
            match self.receiver.receive(Some(deadline))? {
                Incoming::Answer { request: of, answer } if of == request => return Ok(answer),
                Incoming::Answer { .. } => {}
                other => self.set_aside(other)?,
            }
            // A peer that never runs out of other messages must not hold the caller beyond his deadline.
            if Instant::now() >= deadline {
                return Err(CallError::Deadline { peer: self.receiver.name() });
            }
        }
    }

    /// The next answer to a request, if it is there; as [`Link::answer`] otherwise.
    pub fn try_answer(&mut self, request: RequestId) -> Result<Option<Answer>, CallError> {
        for _ in 0..ANSWERS_SKIPPED_MAX {
            match self.receiver.try_receive()? {
                None => return Ok(None),
                Some(Incoming::Answer { request: of, answer }) if of == request => {
                    return Ok(Some(answer));
                }
                Some(Incoming::Answer { .. }) => {}
                Some(other) => self.set_aside(other)?,
            }
        }
        Ok(None)
    }
}
