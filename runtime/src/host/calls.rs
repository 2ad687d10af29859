//! Calls: one thread each, from a request to its last answer. A panic ends the call with an error,
//! not the agent.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use agents_contract::{Agent, Caller, Cancellation, Conversation, Request, ToolError};
use ipc::doorbell::Bell;
use ipc::header::LaneId;
use ipc::lane::{Ended, SendError, WhenFull};
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

/// One link as its calls see it. Once it is closed its sender is gone, and with it the link's memory, however long
/// the calls go on.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) lane: LaneId,
    pub(super) caller: Caller,
    sender: Mutex<Option<LinkSender>>,
    /// Whoever frees the sender looks here.
    closed: AtomicBool,
}

/// One call that was taken off a link.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: ipc::link::Request,
    pub(super) directory: Option<OwnedFd>,
    pub(super) link: Arc<Answering>,
    pub(super) cancellation: Cancellation,
}

impl Answering {
    pub(super) fn new(lane: LaneId, caller: Caller, sender: LinkSender) -> Arc<Self> {
        let (sender, closed) = (Mutex::new(Some(sender)), AtomicBool::new(false));
        Arc::new(Self { lane, caller, sender, closed })
    }

    /// The link is over: its sender goes now, or when the call that holds it gives up, which is at once, because the router
    /// has ended the lane.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.give_up_when_closed();
    }

    /// Of the two who may come here, the one that closes the link and the call that held the sender meanwhile, at least one
    /// finds both the link closed and the sender free.
    fn give_up_when_closed(&self) {
        // Between storing `closed` (or freeing the lock) and looking at the other; its partner is itself, in the other thread.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            match self.sender.try_lock() {
                Ok(mut sender) => drop(sender.take()),
                Err(TryLockError::Poisoned(sender)) => drop(sender.into_inner().take()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    /// Answers with an error.
    fn fail(
        &self,
        request: RequestId,
        error: &ToolError,
        patience: Duration,
    ) -> Result<(), SendError> {
        let payload = encoded(error);
        self.send(patience, |sender, when| sender.fail(request, &payload, when))
    }

    /// Answers with an error from the serving thread, which nobody may hold up: a link whose sender
    /// is busy or whose lane is full for longer than `PROGRESS_PATIENCE` is not answered.
    pub(super) fn fail_soon(&self, request: RequestId, error: &ToolError) -> Result<(), SendError> {
        let payload = encoded(error);
        let until = Instant::now() + PROGRESS_PATIENCE;
        loop {
            match self.sender.try_lock() {
                Ok(mut held) => {
                    let when = WhenFull::WaitUntil(until);
                    let sent = match held.as_mut() {
                        Some(sender) => sender.fail(request, &payload, when),
                        None => Err(SendError::Ended(Ended::PeerGone)),
                    };
                    drop(held);
                    self.give_up_when_closed();
                    return sent;
                }
                Err(_held) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_held) => return Err(SendError::Full),
            }
        }
    }

    /// Sends if that is possible at once. A sender that a call holds is as good as a full lane.
    pub(super) fn try_send(
        &self,
        send: impl FnOnce(&mut LinkSender, WhenFull) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let mut held = match self.sender.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SendError::Full),
        };
        let sent = match held.as_mut() {
            Some(sender) => send(sender, WhenFull::Reject),
            None => Err(SendError::Ended(Ended::PeerGone)),
        };
        drop(held);
        self.give_up_when_closed();
        sent
    }

    /// Sends, and waits for room no longer than `patience`.
    fn send(
        &self,
        patience: Duration,
        send: impl FnOnce(&mut LinkSender, WhenFull) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let when = WhenFull::WaitUntil(Instant::now() + patience);
        let sent = match self.lock().as_mut() {
            Some(sender) => send(sender, when),
            None => Err(SendError::Ended(Ended::PeerGone)),
        };
        self.give_up_when_closed();
        sent
    }

    /// A call that panicked while it held the sender left it between two messages at worst.
    fn lock(&self) -> MutexGuard<'_, Option<LinkSender>> {
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
        let Self { request, directory, link, cancellation } = self;
        let id = request.id;
        let conversation = Talk { shared, link: &link, id, cancellation };
        let tool = request.tool.clone();
        let asked = Request {
            tool: request.tool,
            payload: request.payload,
            directory,
            caller: link.caller.clone(),
            deadline: request.deadline,
            priority: request.priority,
        };
        let called = catch_unwind(AssertUnwindSafe(|| shared.agent.call(asked, &conversation)));
        let abandoned = conversation.cancellation.is_abandoned();
        let (sent, outcome) = match called {
            Ok(Ok(payload)) => {
                let answer = |sender: &mut LinkSender, when| sender.answer(id, &payload, when);
                (link.send(ANSWER_PATIENCE, answer), Outcome::Done)
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
    cancellation: Cancellation,
}

impl Conversation for Talk<'_> {
    fn progress(&self, payload: &[u8]) {
        let sent = self
            .link
            .send(PROGRESS_PATIENCE, |sender, when| sender.progress(self.id, payload, when));
        if let Err(error) = sent {
            debug!(%error, "progress was not taken");
        }
    }

    fn cancellation(&self) -> &Cancellation {
        &self.cancellation
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
