//! What each caller has of a hosted agent over all its links: places for calls, answers that it does not take, messages of one
//! turn. A caller is a name of a user, which the router lets one agent have at a time; how many links it opens, or how often it
//! comes back, gives it no more.
//!
//! An answer that is not taken keeps its call's place, so a caller has `CALLS_PER_CALLER_MAX` of both together, and what waits
//! for it is at most that many of the longest messages. The bytes of all callers together hold up calls that would begin, by
//! as many as their answers might need (`may_begin`). An answer that is there is kept, whoever else does not take his.
//!
//! Not here: the answers themselves (`answering`), and what waits to begin (`server`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use agents_contract::Caller;
use ipc::limits::MESSAGE_BYTES_MAX;

use crate::limits::{CALLS_PER_CALLER_MAX, REQUESTS_PER_TURN_MAX, UNSENT_BYTES_MAX};

/// The callers of one agent.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// An account lives as long as a link or a call of its caller.
    accounts: BTreeMap<(u32, String), Weak<Account>>,
    /// Bytes of the answers of all callers that were not taken.
    unsent_bytes: Arc<AtomicUsize>,
}

/// One caller. Plain numbers to decide by: none of them stands for other memory.
#[derive(Debug)]
pub(super) struct Account {
    running: AtomicUsize,
    /// Answers that found no room when they were there.
    unsent: AtomicUsize,
    unsent_bytes: Arc<AtomicUsize>,
    /// The last turn in which something was taken, and how much; the serving thread's own.
    turn: AtomicU64,
    taken: AtomicUsize,
}

/// The place of a call that runs.
#[derive(Debug)]
pub(super) struct Place {
    account: Arc<Account>,
}

/// An answer while it is kept; counts once it is charged.
#[derive(Debug)]
pub(super) struct Kept {
    account: Arc<Account>,
    bytes: usize,
    is_charged: AtomicBool,
}

impl Callers {
    /// The account of this caller.
    pub(super) fn account(&mut self, caller: &Caller) -> Arc<Account> {
        let key = (caller.uid, caller.name.clone());
        if let Some(account) = self.accounts.get(&key).and_then(Weak::upgrade) {
            return account;
        }
        // Those that ended go when others come, so there are no more than links and calls.
        self.accounts.retain(|_, account| account.strong_count() > 0);
        let account = Account::new(&self.unsent_bytes);
        self.accounts.insert(key, Arc::downgrade(&account));
        account
    }

    /// Whether one more call may run beside so many: the longest answers of all of them find memory.
    pub(super) fn may_begin(&self, running: usize) -> bool {
        let unsent = self.unsent_bytes.load(Ordering::Relaxed);
        unsent.saturating_add((running + 1) * MESSAGE_BYTES_MAX) <= UNSENT_BYTES_MAX
    }
}

impl Account {
    /// An account that shares the sum of all bytes with the others.
    pub(super) fn new(unsent_bytes: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            running: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            unsent_bytes: Arc::clone(unsent_bytes),
            turn: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
        })
    }

    /// Whether one more of its calls may run.
    pub(super) fn has_place(&self) -> bool {
        let running = self.running.load(Ordering::Relaxed);
        running + self.unsent.load(Ordering::Relaxed) < CALLS_PER_CALLER_MAX
    }

    /// Takes a place for as long as what it gives back lives.
    pub(super) fn begin(self: &Arc<Self>) -> Place {
        self.running.fetch_add(1, Ordering::Relaxed);
        Place { account: Arc::clone(self) }
    }

    /// An answer of so many bytes, which counts for nothing yet.
    pub(super) fn keep(self: &Arc<Self>, bytes: usize) -> Arc<Kept> {
        Arc::new(Kept { account: Arc::clone(self), bytes, is_charged: AtomicBool::new(false) })
    }

    /// Whether one more message may be taken in this turn.
    pub(super) fn has_turn(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Relaxed) != turn
            || self.taken.load(Ordering::Relaxed) < REQUESTS_PER_TURN_MAX
    }

    /// A message was taken in this turn.
    pub(super) fn took(&self, turn: u64) {
        if self.turn.swap(turn, Ordering::Relaxed) != turn {
            self.taken.store(0, Ordering::Relaxed);
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.account.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Kept {
    /// It found no room, and counts until it is gone.
    pub(super) fn charge(&self) {
        if !self.is_charged.swap(true, Ordering::Relaxed) {
            self.account.unsent.fetch_add(1, Ordering::Relaxed);
            self.account.unsent_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if *self.is_charged.get_mut() {
            self.account.unsent.fetch_sub(1, Ordering::Relaxed);
            self.account.unsent_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str, pid: u32) -> Caller {
        Caller { name: name.to_owned(), uid: 1000, pid }
    }

    #[test]
    fn a_caller_has_one_account_however_many_links_it_has_and_whenever_it_comes() {
        let mut callers = Callers::default();
        let first = callers.account(&caller("test.one", 1));
        let place = first.begin();
        drop(first);
        let again = callers.account(&caller("test.one", 2));
        let places: Vec<_> = (1..CALLS_PER_CALLER_MAX).map(|_| again.begin()).collect();
        assert!(!again.has_place(), "a call of an earlier link counts");
        assert!(callers.account(&caller("test.two", 1)).has_place());
        drop(place);
        assert!(again.has_place());
        drop((again, places));
        callers.account(&caller("test.three", 1));
        assert_eq!(callers.accounts.len(), 1, "who is gone is forgotten");
    }

    #[test]
    fn an_answer_counts_from_when_it_found_no_room_until_it_is_gone() {
        let mut callers = Callers::default();
        let account = callers.account(&caller("test.one", 1));
        let kept: Vec<_> =
            (0..CALLS_PER_CALLER_MAX).map(|_| account.keep(MESSAGE_BYTES_MAX)).collect();
        let running_max = UNSENT_BYTES_MAX / MESSAGE_BYTES_MAX - 1;
        assert!(account.has_place() && callers.may_begin(running_max));
        kept.iter().for_each(|kept| kept.charge());
        kept.iter().for_each(|kept| kept.charge());
        assert!(!account.has_place());
        assert!(!callers.may_begin(running_max - CALLS_PER_CALLER_MAX + 1));
        assert!(callers.may_begin(running_max - CALLS_PER_CALLER_MAX), "the others have theirs");
        drop(kept);
        assert!(account.has_place() && callers.may_begin(running_max));
    }

    #[test]
    fn the_turn_of_a_caller_is_over_for_all_its_links() {
        let mut callers = Callers::default();
        let links = [1, 2].map(|pid| callers.account(&caller("test.one", pid)));
        let other = callers.account(&caller("test.two", 3));
        for index in 0..REQUESTS_PER_TURN_MAX {
            let link = &links[index % 2];
            assert!(link.has_turn(7));
            link.took(7);
        }
        assert!(!links[0].has_turn(7) && !links[1].has_turn(7) && other.has_turn(7));
        assert!(links[0].has_turn(8), "the next turn is another");
    }
}
