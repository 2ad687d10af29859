//! Requests that the serving thread answers itself, because the agent has the answer at once: a thread of its own for each costs more
//! than such an answer, and waking it on another processor costs ten times as much again.
//!
//! Not here: all other requests (`calls`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use agents_contract::{Question, ToolError};
use ipc::clock::Clock;
use ipc::lane::SendError;
use ipc::link::{RequestId, RequestView};
use tracing::error;

use super::answering::Answering;
use super::calls::{Shared, encoded, panic_text, tool_error};
use super::counters::Outcome;
use crate::limits::IMMEDIATE_BYTES_MAX;

thread_local! {
    /// For how long answers take: to ask the kernel would be a part of them.
    static CLOCK: Clock = Clock::monotonic();
}

/// Answers a request if the agent has the answer and the lane has room; false where it is to be called.
pub(super) fn try_answer(shared: &Shared, link: &Answering, request: &RequestView<'_>) -> bool {
    let has_grants = request.grants().iter().any(|grant| grant.0 != 0);
    if has_grants || request.payload.len() > IMMEDIATE_BYTES_MAX {
        return false;
    }
    let began_ns = CLOCK.with(Clock::now_ns);
    let question = Question { tool: request.tool, payload: request.payload, caller: &link.caller };
    let called = catch_unwind(AssertUnwindSafe(|| shared.agent.try_call(&question)));
    let (outcome, answer) = match called {
        Ok(None) => return false,
        Ok(Some(Ok(payload))) => (Outcome::Done, Ok(payload)),
        Ok(Some(Err(refusal))) => (Outcome::Failed { kind: refusal.code.clone() }, Err(refusal)),
        Err(panic) => {
            let text = panic_text(panic.as_ref());
            error!(tool = request.tool, text, "an agent panicked on the serving thread");
            let text = format!("the agent failed inside: {text}");
            (Outcome::Panicked, Err(tool_error("panic", text, false)))
        }
    };
    let is_sent = send(link, RequestId(request.header.id), &answer);
    if is_sent {
        let took_ns = CLOCK.with(|clock| clock.since_ns(began_ns));
        shared.counters.answered(&outcome, took_ns);
    }
    is_sent
}

/// Whether the request is done with. Where there is no room now, a call has the patience.
fn send(link: &Answering, request: RequestId, answer: &Result<Vec<u8>, ToolError>) -> bool {
    let sent = match answer {
        Ok(payload) if payload.len() > IMMEDIATE_BYTES_MAX => return false,
        Ok(payload) => link.try_send(|sender, when| sender.answer(request, payload, when)),
        Err(error) => {
            let payload = encoded(error);
            link.try_send(|sender, when| sender.fail(request, &payload, when))
        }
    };
    matches!(sent, Ok(()) | Err(SendError::Ended(_)))
}
