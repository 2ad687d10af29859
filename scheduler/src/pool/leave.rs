//! The leave that the piece on this thread computes with, and how it is given back while the piece only waits.
//!
//! 1. Whoever waits gives its leave back under the lock, and the next in line begins: what waits holds nothing that others need but its
//!    thread, and of threads each lane has more than there can be grants by as many as may be away
//!    ([`LANE_WORKERS_MAX`](crate::limits::LANE_WORKERS_MAX)).
//! 2. Afterwards it asks admission like a newcomer, in the order of its job, and goes on when it is its turn. Every leave that it could
//!    wait for is held by a thread that computes, so it comes back.
//! 3. Where its work is not wanted any more it goes on without leave, to its end only: no other piece begins with it.
//!
//! Only work that has one lane does so ([`has_one_lane`]): other work could be given a lane whose cores its thread is not held to.

use std::cell::RefCell;
use std::sync::Arc;

use super::job::{Job, Ticket};
use super::{Shared, Wanted};
use crate::admission::{Grant, Wish};
use crate::limits::AWAY_MAX;
use crate::placement::{Lane, Work};

/// What this thread runs pieces of.
struct Held {
    shared: Arc<Shared>,
    job: Arc<Job>,
    lane: Lane,
    /// Nothing while it is away.
    grant: Option<Grant>,
}

thread_local! {
    /// Borrowed for single statements only: what runs meanwhile may wait itself.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Runs `wait`, which blocks for something that none of these pools does. In a piece of work its leave goes to others meanwhile, and is
/// asked for again before this returns, unless it is not `wanted` any more. In any other place, and within another wait, this only calls `wait`.
pub fn waiting<T>(wanted: &dyn Wanted, wait: impl FnOnce() -> T) -> T {
    let is_away = HELD.with_borrow_mut(|held| held.as_mut().is_some_and(Held::leave));
    let got = wait();
    if is_away {
        come_back(wanted);
    }
    got
}

/// This thread runs pieces with that ticket from now on.
pub(super) fn hold(shared: &Arc<Shared>, ticket: Ticket) {
    let Ticket { job, grant, lane } = ticket;
    let held = Held { shared: Arc::clone(shared), job, lane, grant: Some(grant) };
    HELD.set(Some(held));
}

/// Whether it still may.
pub(super) fn is_held() -> bool {
    HELD.with_borrow(|held| held.as_ref().is_some_and(|held| held.grant.is_some()))
}

/// It runs none any more.
pub(super) fn end() {
    let Some(Held { shared, job, lane, grant }) = HELD.take() else { return };
    let mut state = shared.lock();
    match grant {
        Some(grant) => shared.give_back(&mut state, &job, grant),
        // It was not wanted any more, or broke while it waited.
        None => state.away[lane as usize] -= 1,
    }
}

impl Held {
    /// Rule 1; whether it is away now.
    fn leave(&mut self) -> bool {
        let lane = self.lane as usize;
        let mut state = self.shared.lock();
        // A ticket without a thread of its own waits for one of those that run.
        let may_leave = has_one_lane(self.job.work)
            && state.away[lane] < AWAY_MAX
            && !self.shared.lanes[lane].is_short();
        let Some(grant) = self.grant.take_if(|_| may_leave) else { return false };
        state.away[lane] += 1;
        self.shared.give_back(&mut state, &self.job, grant);
        true
    }
}

/// Rule 2.
fn come_back(wanted: &dyn Wanted) {
    let whose = |held: &Held| (Arc::clone(&held.shared), Arc::clone(&held.job), held.lane);
    let Some((shared, job, lane)) = HELD.with_borrow(|held| held.as_ref().map(whose)) else {
        return;
    };
    let wish = Wish::Pieces { work: job.work, most: 1 };
    let (mut state, grant) = shared.wait_for_leave((&job.order, wish), wanted, &|_| {});
    if grant.is_some() {
        state.away[lane as usize] -= 1;
    }
    drop(state);
    HELD.with_borrow_mut(|held| {
        if let Some(held) = held {
            held.grant = grant;
        }
    });
}

fn has_one_lane(work: Work) -> bool {
    match work {
        Work::Resolve | Work::Background => true,
        Work::Unpack | Work::Scan => false,
    }
}
