//! Calls: one thread each, from a request to its last answer. A panic ends the call with an error,
//! not the agent.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use agents_contract::{Agent, Caller, Conversation, Request, ToolError};
use ipc::doorbell::Bell;
use ipc::header::LaneId;
use ipc::lane::{SendError, WhenFull};
use ipc::link::{LinkSender, RequestId};
use tracing::{debug, error};

use super::counters::{Counters, Outcome};
use crate::limits::{ANSWER_PATIENCE, CALL_STACK_BYTES, PROGRESS_PATIENCE};

/// What the calls of one host share.
pub(super) struct Shared {
    pub(super) agent: Arc<dyn Agent>,
    pub(super) counters: Counters,
    /// To the serving thread; bounded.
    pub(super) notices: SyncSender<Notice>,
    /// Wakes the serving thread.
    pub(super) bell: Bell,
}

/// What a call tells the serving thread.
#[derive(Debug)]
pub(super) enum Notice {
    /// Its place is free.
    Ended { lane: LaneId, request: RequestId },
    /// Something is to be published.
    Publish { subject: String, payload: Vec<u8> },
    /// The caller did not take its answer.
    Stuck { lane: LaneId },
}

/// One link as its calls see it.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) lane: LaneId,
    pub(super) caller: Caller,
    sender: Mutex<LinkSender>,
    closed: AtomicBool,
}

/// One call that was taken off a link.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: ipc::link::Request,
    pub(super) directory: Option<OwnedFd>,
    pub(super) link: Arc<Answering>,
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Answering {
    pub(super) fn new(lane: LaneId, caller: Caller, sender: LinkSender) -> Arc<Self> {
        let (sender, closed) = (Mutex::new(sender), AtomicBool::new(false));
        Arc::new(Self { lane, caller, sender, closed })
    }

    /// The caller is gone: everything that runs for it may stop.
    pub(super) fn close(&self) {
        // Only a hint for the calls to look at; it publishes nothing else.
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Answers with an error.
    pub(super) fn fail(
        &self,
        request: RequestId,
        error: &ToolError,
        patience: Duration,
    ) -> Result<(), SendError> {
        let payload = encoded(error);
        self.lock().fail(request, &payload, WhenFull::WaitUntil(Instant::now() + patience))
    }

    /// Answers with an error from the serving thread, which nobody may hold up: a link whose sender
    /// is busy or whose lane is full for longer than `PROGRESS_PATIENCE` is not answered.
    pub(super) fn fail_soon(&self, request: RequestId, error: &ToolError) -> Result<(), SendError> {
        let until = Instant::now() + PROGRESS_PATIENCE;
        loop {
            match self.sender.try_lock() {
                Ok(mut sender) => {
                    let payload = encoded(error);
                    return sender.fail(request, &payload, WhenFull::WaitUntil(until));
                }
                Err(_held) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_held) => return Err(SendError::Full),
            }
        }
    }

    /// A call that panicked while it held the sender left it between two messages at worst.
    fn lock(&self) -> MutexGuard<'_, LinkSender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Runs on a thread of its own, after it was counted as started. A thread that cannot be had is an error answer.
    pub(super) fn start(self, shared: &Arc<Shared>) {
        let name = self.request.tool.chars().take(15).collect();
        let builder = std::thread::Builder::new().name(name).stack_size(CALL_STACK_BYTES);
        let (lane, request, link) = (self.link.lane, self.request.id, Arc::clone(&self.link));
        let own = Arc::clone(shared);
        if let Err(error) = builder.spawn(move || self.run(&own)) {
            let refusal = tool_error("busy", format!("no thread for the call: {error}"), true);
            let sent = link.fail_soon(request, &refusal);
            debug!(?sent, "a call was refused for want of a thread");
            shared.counters.ended(&Outcome::Failed { kind: refusal.code });
            shared.tell(Notice::Ended { lane, request });
        }
    }

    fn run(self, shared: &Shared) {
        let Self { request, directory, link, cancelled } = self;
        let id = request.id;
        let conversation = Talk { shared, link: &link, id, cancelled, deadline: request.deadline };
        let tool = request.tool.clone();
        let asked = Request {
            tool: request.tool,
            payload: request.payload,
            directory,
            caller: link.caller.clone(),
            deadline: request.deadline,
        };
        let called = catch_unwind(AssertUnwindSafe(|| shared.agent.call(asked, &conversation)));
        let abandoned = conversation.is_abandoned();
        let (sent, outcome) = match called {
            Ok(Ok(payload)) => {
                let until = WhenFull::WaitUntil(Instant::now() + ANSWER_PATIENCE);
                (link.lock().answer(id, &payload, until), Outcome::Done)
            }
            Ok(Err(error)) => {
                let kind = error.code.clone();
                (link.fail(id, &error, ANSWER_PATIENCE), Outcome::Failed { kind })
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                error!(tool, text, "a call panicked");
                let refusal =
                    tool_error("panic", format!("the agent failed inside: {text}"), false);
                (link.fail(id, &refusal, ANSWER_PATIENCE), Outcome::Panicked)
            }
        };
        let outcome = match outcome {
            Outcome::Panicked => Outcome::Panicked,
            _ if abandoned => Outcome::Cancelled,
            outcome => outcome,
        };
        shared.counters.ended(&outcome);
        match sent {
            Ok(()) | Err(SendError::Ended(_)) => {}
            Err(SendError::TooLong { got, max }) => {
                let text = format!("the answer has {got} bytes, the bus carries {max}");
                let refusal = tool_error("answer-too-long", text, false);
                let sent = link.fail(id, &refusal, ANSWER_PATIENCE);
                debug!(?sent, "an answer was too long for the bus");
            }
            Err(SendError::Full | SendError::Quarantined(_)) => {
                shared.tell(Notice::Stuck { lane: link.lane });
            }
        }
        shared.tell(Notice::Ended { lane: link.lane, request: id });
    }
}

impl Shared {
    /// Tells the serving thread; waits while it is behind, which it never is for long.
    fn tell(&self, notice: Notice) {
        // A serving thread that is gone takes the process with it.
        let _ = self.notices.send(notice);
        self.bell.ring();
    }
}

/// The conversation of one call.
struct Talk<'a> {
    shared: &'a Shared,
    link: &'a Answering,
    id: RequestId,
    cancelled: Arc<AtomicBool>,
    deadline: Option<SystemTime>,
}

impl Talk<'_> {
    /// Whether the caller went away or said that it no longer waits.
    fn is_abandoned(&self) -> bool {
        self.link.is_closed() || self.cancelled.load(Ordering::Relaxed)
    }
}

impl Conversation for Talk<'_> {
    fn progress(&self, payload: &[u8]) {
        let until = WhenFull::WaitUntil(Instant::now() + PROGRESS_PATIENCE);
        if let Err(error) = self.link.lock().progress(self.id, payload, until) {
            debug!(%error, "progress was not taken");
        }
    }

    fn is_cancelled(&self) -> bool {
        let late = self.deadline.is_some_and(|deadline| SystemTime::now() >= deadline);
        late || self.is_abandoned()
    }

    fn publish(&self, subject: &str, payload: &[u8]) {
        let (subject, payload) = (subject.to_owned(), payload.to_vec());
        self.shared.tell(Notice::Publish { subject, payload });
    }
}

/// An error of the host's own.
pub(super) fn tool_error(code: &str, message: String, retry: bool) -> ToolError {
    ToolError { exit_code: 1, code: code.to_owned(), message, hint: None, retry }
}

fn encoded(error: &ToolError) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Err(error) = ciborium::into_writer(error, &mut payload) {
        error!(%error, "an error has no CBOR form");
    }
    payload
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}
