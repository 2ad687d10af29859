//! Calls: a thread for each ([`threads`](super::threads)), from a request to its last answer. A panic ends the call with an error,
//! not the agent.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use agents_contract::{Agent, Cancellation, Conversation, Request, ToolError};
use ipc::closer::Foreign;
use ipc::doorbell::Bell;
use ipc::header::LaneId;
use ipc::link::RequestId;
use tracing::{debug, error};

use super::answering::Answering;
use super::counters::{Counters, Outcome};
use super::station::{Following, Presence};
use super::threads::Threads;

/// What the calls of one host share.
pub(super) struct Shared {
    pub(super) agent: Arc<dyn Agent>,
    pub(super) counters: Counters,
    /// To the serving thread; bounded.
    pub(super) notices: SyncSender<Notice>,
    /// Wakes the serving thread.
    pub(super) bell: Bell,
    /// What the agent does without being asked, and whether the host is stopping.
    pub(super) presence: Presence,
    /// Who runs them.
    pub(super) threads: Arc<Threads>,
}

/// What a call tells the serving thread.
#[derive(Debug)]
pub(super) enum Notice {
    /// Its place is free.
    Ended { lane: LaneId, request: RequestId },
    /// Something is to be published.
    Publish { subject: String, payload: Vec<u8> },
    /// What the agent measured may be new, or what it did by itself is over.
    Changed,
}

/// One call that was taken off a link.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: ipc::link::Request,
    /// Closed elsewhere where the call never begins.
    pub(super) directory: Option<Foreign>,
    pub(super) link: Arc<Answering>,
    pub(super) cancellation: Cancellation,
}

impl Call {
    /// Runs on a thread that does nothing else meanwhile, after it was counted as started. A thread that cannot be had is an error answer;
    /// whether one was had. Called by the serving thread, which must not tell itself anything: where there is no room for a notice, nobody
    /// would make any.
    pub(super) fn start(self, shared: &Arc<Shared>) -> bool {
        let (request, link) = (self.request.id, Arc::clone(&self.link));
        let deadline = self.request.deadline;
        let own = Arc::clone(shared);
        let call = move || {
            let _following = Following::begin(&own);
            self.run(&own);
            own.put_away();
        };
        let Err(error) = shared.threads.run(Box::new(call)) else { return true };
        let refusal = tool_error("busy", format!("no thread for the call: {error}"), true);
        debug!("a call is refused for want of a thread");
        link.refuse(request, &refusal, deadline);
        shared.counters.ended(&Outcome::Failed { kind: refusal.code }, 0);
        false
    }

    fn run(self, shared: &Shared) {
        let Self { request, directory, link, cancellation } = self;
        let began = Instant::now();
        let (id, deadline) = (request.id, request.deadline);
        let unheard = AtomicBool::new(false);
        let conversation = Talk { shared, link: &link, id, cancellation, unheard };
        let tool = request.tool.clone();
        let asked = Request {
            tool: request.tool,
            payload: request.payload,
            directory: directory.map(Foreign::into_inner),
            caller: link.caller.clone(),
            deadline: request.deadline,
            priority: request.priority,
        };
        let called = catch_unwind(AssertUnwindSafe(|| shared.agent.call(asked, &conversation)));
        let abandoned = conversation.cancellation.is_abandoned();
        let (answer, outcome) = match called {
            Ok(Ok(payload)) => (Ok(payload), Outcome::Done),
            Ok(Err(error)) => {
                let kind = error.code.clone();
                (Err(error), Outcome::Failed { kind })
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                error!(tool, text, "a call panicked");
                let text = format!("the agent failed inside: {text}");
                (Err(tool_error("panic", text, false)), Outcome::Panicked)
            }
        };
        match answer {
            Ok(payload) => link.answer(id, Ok(payload), deadline),
            Err(error) => link.answer(id, Err(&error), deadline),
        }
        let outcome = match outcome {
            Outcome::Panicked => Outcome::Panicked,
            _ if abandoned => Outcome::Cancelled,
            outcome => outcome,
        };
        let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        shared.counters.ended(&outcome, took_ns);
        shared.tell(Notice::Ended { lane: link.lane, request: id });
    }
}

impl Shared {
    /// Lets the agent put away what a call on this thread has used.
    fn put_away(&self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.agent.answered())) {
            error!(text = panic_text(panic.as_ref()), "an agent panicked after a call");
        }
    }

    /// Tells the serving thread; waits while it is behind, which it never is for long.
    pub(super) fn tell(&self, notice: Notice) {
        tell(&self.notices, &self.bell, notice);
    }
}

fn tell(notices: &SyncSender<Notice>, bell: &Bell, notice: Notice) {
    // A serving thread that is gone takes the process with it.
    if let Err(TrySendError::Full(notice)) = notices.try_send(notice) {
        // What was published without waking it may be all that there is: nobody makes room who sleeps.
        bell.ring();
        let _ = notices.send(notice);
    }
    bell.ring();
}

/// The conversation of one call.
struct Talk<'a> {
    shared: &'a Shared,
    link: &'a Answering,
    id: RequestId,
    cancellation: Cancellation,
    /// Whether the serving thread was told of something and not woken: who publishes mostly answers next, which wakes it; before that it
    /// would take the processor from whoever is to answer.
    unheard: AtomicBool,
}

impl Talk<'_> {
    fn ring(&self) {
        // It guards nothing: the notice went through a channel.
        if self.unheard.swap(false, Ordering::Relaxed) {
            self.shared.bell.ring();
        }
    }
}

impl Conversation for Talk<'_> {
    fn progress(&self, payload: &[u8]) {
        self.ring();
        if let Err(error) = self.link.progress(self.id, payload) {
            debug!(%error, "progress was not taken");
        }
    }

    fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    fn publish(&self, subject: &str, payload: &[u8]) {
        let (subject, payload) = (subject.to_owned(), payload.to_vec());
        match self.shared.notices.try_send(Notice::Publish { subject, payload }) {
            Ok(()) => self.unheard.store(true, Ordering::Relaxed),
            Err(TrySendError::Full(notice)) => self.shared.tell(notice),
            // A serving thread that is gone takes the process with it.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    fn stopping(&self) -> &Cancellation {
        self.shared.presence.stopping()
    }

    fn has_afterwards(&self) -> bool {
        true
    }
}

/// The refusal of what came or waited when the daemon began to stop.
pub(super) fn draining() -> ToolError {
    let message = "the daemon is stopping: nothing of the request was begun".to_owned();
    let hint = Some("ask again when a daemon is back".to_owned());
    ToolError { hint, ..tool_error("draining", message, true) }
}

/// An error of the host's own.
pub(super) fn tool_error(code: &str, message: String, retry: bool) -> ToolError {
    ToolError { exit_code: 1, code: code.to_owned(), message, hint: None, retry }
}

pub(super) fn encoded(error: &ToolError) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Err(error) = ciborium::into_writer(error, &mut payload) {
        error!(%error, "an error has no CBOR form");
    }
    payload
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use ipc::doorbell::Doorbell;
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn who_tells_a_sleeping_server_of_more_than_there_is_room_for_wakes_it_first() {
        let doorbell = Doorbell::new().unwrap();
        let ring = doorbell.ringer().try_clone_to_owned().unwrap();
        let bell = Bell::from_peer(ring).unwrap();
        let (notices, told) = sync_channel(1);
        // Published, and nobody was woken for it.
        notices.try_send(Notice::Changed).unwrap();
        std::thread::scope(|scope| {
            let doorbell = &doorbell;
            scope.spawn(move || {
                let mut fds = [PollFd::new(doorbell, PollFlags::IN)];
                poll(&mut fds, None).unwrap();
                assert_eq!(told.iter().take(2).count(), 2);
            });
            tell(&notices, &bell, Notice::Changed);
        });
    }
}
