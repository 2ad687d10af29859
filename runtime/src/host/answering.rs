//! One link as its calls see it: answers out, and what waits for room.
//!
//! A last answer that finds no room waits here, in order, until there is room, its request's deadline has passed, its caller has
//! taken the request back, or the link has ended, which the router tells. How slowly a caller reads decides nothing about its
//! link: a time bounds how long a thread waits with an answer before it leaves it here, and how long an intermediate answer may
//! take. What waits is bounded because a link of which too much waits is not read (`server`).
//!
//! Whoever has the sender sends what waits first. The lock of the sender comes before that of the queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Instant, SystemTime};

use agents_contract::{Caller, ToolError};
use ipc::header::LaneId;
use ipc::lane::{Ended, SendError, WhenFull};
use ipc::link::{LastAnswer, LinkSender, RequestId};
use ipc::ring::Violation;
use tracing::debug;

use super::calls::{encoded, tool_error};
use crate::limits::{ANSWER_PATIENCE, PROGRESS_PATIENCE, UNSENT_BYTES_MAX};

/// One link as its calls see it. Once it is closed its sender is gone, and with it the link's memory, however long
/// the calls go on.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) lane: LaneId,
    pub(super) caller: Caller,
    way: Mutex<Option<Way>>,
    unsent: Mutex<VecDeque<Unsent>>,
    /// Of these, and the one that is on its way.
    unsent_count: AtomicUsize,
    /// Bytes of those of all links.
    bytes: Arc<AtomicUsize>,
    /// Whoever frees the sender looks here.
    closed: AtomicBool,
    /// How the caller broke the protocol.
    broken: OnceLock<Violation>,
}

#[derive(Debug)]
struct Way {
    sender: LinkSender,
    /// The answer that is in the lane in part, or is to be next.
    current: Option<(Unsent, LastAnswer)>,
}

/// A last answer that was not sent yet.
#[derive(Debug)]
struct Unsent {
    request: RequestId,
    payload: Vec<u8>,
    is_error: bool,
    /// After it nobody wants the answer.
    deadline: Option<SystemTime>,
    _bytes: Counted,
}

/// Bytes that are counted for as long as they are kept.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Answering {
    pub(super) fn new(
        lane: LaneId,
        caller: Caller,
        sender: LinkSender,
        bytes: &Arc<AtomicUsize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            lane,
            caller,
            way: Mutex::new(Some(Way { sender, current: None })),
            unsent: Mutex::default(),
            unsent_count: AtomicUsize::new(0),
            bytes: Arc::clone(bytes),
            closed: AtomicBool::new(false),
            broken: OnceLock::new(),
        })
    }

    /// The link is over: its sender goes now, or when the call that holds it gives up, which is at once, because the router
    /// has ended the lane.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.give_up_when_closed();
    }

    /// How many last answers wait.
    pub(super) fn unsent_count(&self) -> usize {
        // Only a number to decide by; the answers themselves are under the locks.
        self.unsent_count.load(Ordering::Relaxed)
    }

    /// How the caller broke the protocol, if it did.
    pub(super) fn broken(&self) -> Option<Violation> {
        self.broken.get().copied()
    }

    /// Gives the last answer of a call on the thread of the call, which waits a moment for room. Afterwards, or where another
    /// call sends, the answer waits without a thread.
    pub(super) fn answer(
        &self,
        request: RequestId,
        answer: Result<Vec<u8>, &ToolError>,
        deadline: Option<SystemTime>,
    ) {
        self.push(request, answer, deadline);
        self.send_within(WhenFull::WaitUntil(Instant::now() + ANSWER_PATIENCE));
    }

    /// Answers with an error from the serving thread, which nobody may hold up.
    pub(super) fn refuse(
        &self,
        request: RequestId,
        error: &ToolError,
        deadline: Option<SystemTime>,
    ) {
        self.push(request, Err(error), deadline);
        self.flush();
    }

    /// Sends what there is room for; never waits. Whether anything moved.
    pub(super) fn flush(&self) -> bool {
        self.send_within(WhenFull::Reject)
    }

    fn send_within(&self, when: WhenFull) -> bool {
        let mut held = match self.way.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            // Whoever has it sends what waits; what came too late for that, the serving thread does.
            Err(TryLockError::WouldBlock) => return false,
        };
        let moved = self.send_unsent(&mut held, when);
        drop(held);
        self.give_up_when_closed();
        moved
    }

    /// Forgets what waits for a request that its caller took back.
    pub(super) fn withdraw(&self, is_it: impl Fn(RequestId) -> bool) {
        let mut unsent = self.queue();
        let before = unsent.len();
        unsent.retain(|one| !is_it(one.request));
        self.unsent_count.fetch_sub(before - unsent.len(), Ordering::Relaxed);
    }

    /// Sends if that is possible at once. A sender that a call holds is as good as a full lane, and so is one that others
    /// wait for.
    pub(super) fn try_send(
        &self,
        send: impl FnOnce(&mut LinkSender, WhenFull) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        if self.unsent_count() > 0 {
            return Err(SendError::Full);
        }
        let mut held = match self.way.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SendError::Full),
        };
        let sent = match held.as_mut() {
            Some(Way { current: Some(_), .. }) => Err(SendError::Full),
            Some(Way { sender, current: None }) => send(sender, WhenFull::Reject),
            None => Err(SendError::Ended(Ended::PeerGone)),
        };
        drop(held);
        self.give_up_when_closed();
        sent
    }

    /// Sends an intermediate answer, which is refused where last ones wait and waits for room no longer than a moment.
    pub(super) fn progress(&self, request: RequestId, payload: &[u8]) -> Result<(), SendError> {
        let mut held = self.lock();
        self.send_unsent(&mut held, WhenFull::Reject);
        let sent = match held.as_mut() {
            Some(Way { current: Some(_), .. }) => Err(SendError::Full),
            Some(Way { sender, current: None }) => {
                let when = WhenFull::WaitUntil(Instant::now() + PROGRESS_PATIENCE);
                sender.progress(request, payload, when)
            }
            None => Err(SendError::Ended(Ended::PeerGone)),
        };
        drop(held);
        self.give_up_when_closed();
        sent
    }

    /// Puts a last answer behind those that wait. One for which there is no memory becomes an error.
    fn push(
        &self,
        request: RequestId,
        answer: Result<Vec<u8>, &ToolError>,
        deadline: Option<SystemTime>,
    ) {
        let (mut payload, mut is_error) = match answer {
            Ok(payload) => (payload, false),
            Err(error) => (encoded(error), true),
        };
        let mut counted = Counted::new(payload.len(), &self.bytes);
        if counted.is_too_much() {
            let text = "answers that their callers do not take fill the memory".to_owned();
            payload = encoded(&tool_error("busy", text, true));
            is_error = true;
            counted = Counted::new(payload.len(), &self.bytes);
        }
        let one = Unsent { request, payload, is_error, deadline, _bytes: counted };
        let mut unsent = self.queue();
        self.unsent_count.fetch_add(1, Ordering::Relaxed);
        unsent.push_back(one);
    }

    /// Sends what waits, in order, as far as there is room. Whether anything moved.
    fn send_unsent(&self, held: &mut Option<Way>, when: WhenFull) -> bool {
        let Some(Way { sender, current }) = held else {
            self.forget_unsent(&mut None);
            return false;
        };
        let mut moved = false;
        loop {
            if current.is_none() {
                let Some(next) = self.queue().pop_front() else { return moved };
                let answer = sender.last_answer(next.request, next.is_error);
                *current = Some((next, answer));
            }
            let Some((unsent, answer)) = current else { return moved };
            if answer.sent() == 0 && unsent.is_late() {
                debug!(lane = self.lane.0, "an answer was not taken until its deadline");
                self.done(current);
                continue;
            }
            let before = answer.sent();
            match sender.resume(answer, &unsent.payload, when) {
                Ok(()) => {
                    moved = true;
                    self.done(current);
                }
                Err(SendError::Full) => return moved || answer.sent() > before,
                Err(SendError::TooLong { got, max }) => {
                    let text = format!("the answer has {got} bytes, the bus carries {max}");
                    unsent.payload = encoded(&tool_error("answer-too-long", text, false));
                    unsent.is_error = true;
                    *answer = sender.last_answer(unsent.request, true);
                }
                Err(SendError::Ended(_)) => {
                    self.forget_unsent(current);
                    return moved;
                }
                Err(SendError::Quarantined(violation)) => {
                    // The first one counts; the serving thread closes the link for it.
                    let _ = self.broken.set(violation);
                    self.forget_unsent(current);
                    return moved;
                }
            }
        }
    }

    fn done(&self, current: &mut Option<(Unsent, LastAnswer)>) {
        *current = None;
        self.unsent_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nobody is there to take it.
    fn forget_unsent(&self, current: &mut Option<(Unsent, LastAnswer)>) {
        let mut unsent = self.queue();
        let count = unsent.len() + usize::from(current.take().is_some());
        unsent.clear();
        self.unsent_count.fetch_sub(count, Ordering::Relaxed);
    }

    /// Of the two who may come here, the one that closes the link and the call that held the sender meanwhile, at least one
    /// finds both the link closed and the sender free.
    fn give_up_when_closed(&self) {
        // Between storing `closed` (or freeing the lock) and looking at the other; its partner is itself, in the other thread.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            match self.way.try_lock() {
                Ok(mut way) => drop(way.take()),
                Err(TryLockError::Poisoned(way)) => drop(way.into_inner().take()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    /// A call that panicked while it held the sender left it between two messages at worst.
    fn lock(&self) -> MutexGuard<'_, Option<Way>> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Unsent>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsent {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| SystemTime::now() >= deadline)
    }
}

impl Counted {
    fn new(bytes: usize, all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: Arc::clone(all) }
    }

    /// Errors are small, and there are no more of them than requests.
    fn is_too_much(&self) -> bool {
        self.all.load(Ordering::Relaxed) > UNSENT_BYTES_MAX
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
