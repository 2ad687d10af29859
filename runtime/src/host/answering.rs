//! One link as its calls see it: answers out, and what waits for room.
//!
//! A last answer that finds no room waits here, in order, until there is room, its request's deadline has passed, its caller has
//! taken the request back, or the link has ended, which the router tells. How slowly a caller reads decides nothing about its
//! link: a time bounds how long a thread waits with an answer before it leaves it here, and how long an intermediate answer may
//! take. What waits is bounded because a link of which too much waits is not read (`server`), and because an answer that the
//! first attempt left here counts as its call did: it holds up later calls (`callers`), and no answer that is there.
//!
//! Whoever has the sender sends what waits first. The lock of the sender comes before that of the queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::{Instant, SystemTime};

use agents_contract::{Caller, ToolError};
use ipc::header::LaneId;
use ipc::lane::{Ended, SendError, WhenFull};
use ipc::limits::MESSAGE_BYTES_MAX;
use ipc::link::{LastAnswer, LinkSender, RequestId};
use ipc::ring::Violation;
use tracing::debug;

use super::callers::{Account, Kept};
use super::calls::{encoded, tool_error};
use crate::limits::{ANSWER_PATIENCE, PROGRESS_PATIENCE};

/// One link as its calls see it. Once it is closed its sender is gone, and with it the link's memory, however long
/// the calls go on.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) lane: LaneId,
    pub(super) caller: Caller,
    /// The caller's, over all its links.
    pub(super) account: Arc<Account>,
    way: Mutex<Option<Way>>,
    unsent: Mutex<VecDeque<Unsent>>,
    /// Of these, and the one that is on its way.
    unsent_count: AtomicUsize,
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
    /// Counts for as long as this one is there.
    _kept: Arc<Kept>,
}

impl Answering {
    pub(super) fn new(
        lane: LaneId,
        caller: Caller,
        sender: LinkSender,
        account: Arc<Account>,
    ) -> Arc<Self> {
        Arc::new(Self {
            lane,
            caller,
            account,
            way: Mutex::new(Some(Way { sender, current: None })),
            unsent: Mutex::default(),
            unsent_count: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            broken: OnceLock::new(),
        })
    }

    /// The link is over: its sender goes now, or when the call that holds it gives up, which is at once, because the router
    /// has ended the lane.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.give_up_when_closed();
        self.forget_unsent(&mut None);
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
        let kept = self.push(request, answer, deadline);
        self.send_within(WhenFull::WaitUntil(Instant::now() + ANSWER_PATIENCE));
        charge(&kept);
    }

    /// Answers with an error from the serving thread, which nobody may hold up.
    pub(super) fn refuse(
        &self,
        request: RequestId,
        error: &ToolError,
        deadline: Option<SystemTime>,
    ) {
        let kept = self.push(request, Err(error), deadline);
        self.flush();
        charge(&kept);
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

    /// Puts a last answer behind those that wait.
    fn push(
        &self,
        request: RequestId,
        answer: Result<Vec<u8>, &ToolError>,
        deadline: Option<SystemTime>,
    ) -> Weak<Kept> {
        let (payload, is_error) = match answer {
            // Not kept where it could never be sent, so that what waits is as long as the bus carries at most.
            Ok(payload) if payload.len() > MESSAGE_BYTES_MAX => {
                (too_long(payload.len(), MESSAGE_BYTES_MAX), true)
            }
            Ok(payload) => (payload, false),
            Err(error) => (encoded(error), true),
        };
        let kept = self.account.keep(payload.len());
        let handle = Arc::downgrade(&kept);
        let one = Unsent { request, payload, is_error, deadline, _kept: kept };
        let mut unsent = self.queue();
        self.unsent_count.fetch_add(1, Ordering::Relaxed);
        unsent.push_back(one);
        handle
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
                    unsent.payload = too_long(got, max);
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

/// Counts an answer that is still there after the first attempt. Before the call's place is free, so that one of both counts
/// at any time.
fn charge(kept: &Weak<Kept>) {
    if let Some(kept) = kept.upgrade() {
        kept.charge();
    }
}

fn too_long(got: usize, max: usize) -> Vec<u8> {
    let text = format!("the answer has {got} bytes, the bus carries {max}");
    encoded(&tool_error("answer-too-long", text, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CALLS_PER_CALLER_MAX, UNSENT_BYTES_MAX};

    /// A link of a caller who took nothing so far.
    fn link(account: &Arc<Account>) -> Answering {
        Answering {
            lane: LaneId(1),
            caller: Caller { name: "test.caller".to_owned(), uid: 1, pid: 1 },
            account: Arc::clone(account),
            way: Mutex::new(None),
            unsent: Mutex::default(),
            unsent_count: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            broken: OnceLock::new(),
        }
    }

    #[test]
    fn what_others_do_not_take_replaces_no_answer_that_is_there() {
        let bytes = Arc::new(AtomicUsize::new(0));
        let greedy = Account::new(&bytes).keep(UNSENT_BYTES_MAX);
        greedy.charge();
        let link = link(&Account::new(&bytes));
        // Somebody else sends over it, so the answer is left.
        let sending = link.way.lock().unwrap();
        link.answer(RequestId(1), Ok(b"finished".to_vec()), None);
        {
            let unsent = link.queue();
            let left = unsent.front().unwrap();
            assert_eq!((left.payload.as_slice(), left.is_error), (&b"finished"[..], false));
        }
        drop(sending);
        assert_eq!(bytes.load(Ordering::Relaxed), UNSENT_BYTES_MAX + b"finished".len());
        link.close();
        assert_eq!(bytes.load(Ordering::Relaxed), UNSENT_BYTES_MAX, "nobody wants it any more");
    }

    #[test]
    fn answers_that_wait_at_several_links_take_the_places_of_their_caller() {
        let account = Account::new(&Arc::default());
        let links: Vec<_> = (0..CALLS_PER_CALLER_MAX).map(|_| link(&account)).collect();
        for link in &links {
            assert!(account.has_place());
            let _sending = link.way.lock().unwrap();
            link.answer(RequestId(1), Ok(b"finished".to_vec()), None);
        }
        assert!(!account.has_place());
        links[0].withdraw(|_| true);
        assert!(account.has_place());
    }

    #[test]
    fn an_answer_that_no_lane_carries_is_not_kept() {
        let bytes = Arc::new(AtomicUsize::new(0));
        let link = link(&Account::new(&bytes));
        let _sending = link.way.lock().unwrap();
        link.answer(RequestId(1), Ok(vec![0; MESSAGE_BYTES_MAX + 1]), None);
        assert!(bytes.load(Ordering::Relaxed) < 1024);
        assert!(link.queue().front().unwrap().is_error);
    }
}
