//! The requests themselves: in which order they are served (rules 3 and 4), and what each still wants. Whether one may have something
//! is told by the caller.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Leave, Reason, aged};
use crate::limits::JOBS_MAX;
use crate::placement::Work;

/// The highest priority that a requester can ask for.
const PRIORITY_MAX: u8 = 10;
/// Nothing new begins there: only who has waited long gets so far.
pub(super) const RANK_MAX: u8 = PRIORITY_MAX + 1;

/// The name of a request while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

/// Who asks, and how urgent it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Requesters take turns.
    pub requester: Arc<str>,
    /// 1 (least) to 10 (most); others count as the nearest.
    pub priority: u8,
    /// How long it has waited already, where it is asked for again: it counts as part of this wait.
    pub waited: Duration,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Pieces of one kind of work, at most so many at once.
    Pieces {
        /// Which kind.
        work: Work,
        /// How many at once, at least 1.
        most: usize,
    },
    /// To begin something that takes long and heats.
    Heavy,
    /// To fetch a file.
    Download,
}

/// One request.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) wish: Wish,
    /// When it last got something, or first came.
    pub(super) since: Duration,
    requester: Arc<str>,
    rank: u8,
    held: usize,
    had_any: bool,
    /// What it waits for that has nothing yet, and since when.
    deferred: Option<(Reason, Duration)>,
    /// For which reasons it was noted so far.
    reasons: [bool; Reason::ALL.len()],
    withdrawn: bool,
}

/// What serving a request changes.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) is_resolution: bool,
    /// What it waited for last and how long, where this is its first grant and it was noted as deferred.
    pub(super) wait: Option<(Reason, Duration)>,
}

/// All requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Id, Entry>,
    turns: BTreeMap<Arc<str>, Turn>,
    last_id: u64,
    last_turn: u64,
}

/// The place of a requester among equals: who was served longest ago goes first, and a newcomer last.
#[derive(Debug)]
struct Turn {
    served: u64,
    requests: usize,
    /// Grants of transfers that its requests hold.
    transfers: usize,
}

impl Entry {
    fn most(&self) -> usize {
        match self.wish {
            _ if self.withdrawn => 0,
            Wish::Pieces { most, .. } => most.clamp(1, JOBS_MAX),
            // One leave is all of it.
            Wish::Heavy | Wish::Download => usize::from(!self.had_any),
        }
    }

    /// Whether it wants more than it has.
    fn wants(&self) -> bool {
        self.held < self.most()
    }

    /// Whether it has got nothing so far.
    fn is_waiting(&self) -> bool {
        !self.had_any && !self.withdrawn
    }

    /// Ends what it waits for.
    fn end_wait(&mut self, now: Duration) -> Option<(Reason, Duration)> {
        self.deferred.take().map(|(reason, since)| (reason, now.saturating_sub(since)))
    }

    fn is_resolution(&self) -> bool {
        matches!(self.wish, Wish::Pieces { work: Work::Resolve, .. })
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn put(&mut self, order: &Order, wish: Wish, now: Duration) -> Id {
        self.last_id += 1;
        let id = Id(self.last_id);
        let rank = order.priority.clamp(1, PRIORITY_MAX);
        let requester = Arc::clone(&order.requester);
        let fresh_turn = self.last_turn + 1;
        let turn = self.turns.entry(Arc::clone(&requester)).or_insert_with(|| {
            self.last_turn = fresh_turn;
            Turn { served: fresh_turn, requests: 0, transfers: 0 }
        });
        turn.requests += 1;
        self.entries.insert(
            id,
            Entry {
                wish,
                since: now.saturating_sub(order.waited),
                requester,
                rank,
                held: 0,
                had_any: false,
                deferred: None,
                reasons: [false; Reason::ALL.len()],
                withdrawn: false,
            },
        );
        id
    }

    /// The next of those for whom `leave` has something.
    pub(super) fn choose(
        &self,
        now: Duration,
        leave: impl Fn(&Entry) -> Option<Leave>,
    ) -> Option<(Id, Leave)> {
        let wants = self.entries.iter().filter(|(_, entry)| entry.wants());
        let could = wants.filter_map(|(id, entry)| {
            let leave = leave(entry)?;
            let rank = aged(entry.rank, now.saturating_sub(entry.since));
            let turn = self.turns.get(&entry.requester).map_or(0, |turn| turn.served);
            Some(((Reverse(rank), turn, *id), leave))
        });
        let ((_, _, id), leave) = could.min_by_key(|(key, _)| *key)?;
        Some((id, leave))
    }

    /// It has one more.
    pub(super) fn serve(&mut self, id: Id, now: Duration) -> Served {
        let Some(entry) = self.entries.get_mut(&id) else { return Served::default() };
        let wait = entry.end_wait(now);
        entry.held += 1;
        entry.had_any = true;
        entry.since = now;
        self.last_turn += 1;
        if let Some(turn) = self.turns.get_mut(&entry.requester) {
            turn.served = self.last_turn;
            turn.transfers += usize::from(entry.wish == Wish::Download);
        }
        Served { is_resolution: entry.is_resolution(), wait }
    }

    /// Those that want more than they have.
    pub(super) fn wanting(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.wants())
    }

    /// What it wants that has nothing yet.
    pub(super) fn wish_of_waiting(&self, id: Id) -> Option<Wish> {
        self.entries.get(&id).filter(|entry| entry.is_waiting()).map(|entry| entry.wish)
    }

    /// What those want who have nothing yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Wish> {
        self.entries.values().filter(|entry| entry.is_waiting()).map(|entry| entry.wish)
    }

    /// How many transfers the requester of this request has.
    pub(super) fn transfers_of(&self, entry: &Entry) -> usize {
        self.turns.get(&entry.requester).map_or(0, |turn| turn.transfers)
    }

    /// Notes of everybody who has nothing yet what he waits for, as `reason` says; `changed` hears of what is new, with what ended by it,
    /// and whether it is the first time for this reason.
    pub(super) fn note_waiting(
        &mut self,
        now: Duration,
        reason: impl Fn(Wish) -> Option<Reason>,
        mut changed: impl FnMut(Option<(Reason, Duration)>, Reason, bool),
    ) {
        for entry in self.entries.values_mut().filter(|entry| entry.is_waiting()) {
            let Some(reason) = reason(entry.wish) else { continue };
            if entry.deferred.is_none_or(|(before, _)| before != reason) {
                let before = entry.end_wait(now);
                entry.deferred = Some((reason, now));
                let was_noted = std::mem::replace(&mut entry.reasons[reason as usize], true);
                changed(before, reason, !was_noted);
            }
        }
    }

    /// One grant came back; whether it was a resolution's.
    pub(super) fn gave_back(&mut self, id: Id) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.held -= 1;
        let is_resolution = entry.is_resolution();
        if let Some(turn) = self.turns.get_mut(&entry.requester) {
            turn.transfers -= usize::from(entry.wish == Wish::Download);
        }
        self.forget_if_done(id);
        is_resolution
    }

    /// Gives the reason and the time of a wait that ended in vain.
    pub(super) fn withdraw(&mut self, id: Id, now: Duration) -> Option<(Reason, Duration)> {
        let entry = self.entries.get_mut(&id)?;
        entry.withdrawn = true;
        let wait = entry.end_wait(now);
        self.forget_if_done(id);
        wait
    }

    fn forget_if_done(&mut self, id: Id) {
        let done = self.entries.get(&id).is_some_and(|entry| entry.withdrawn && entry.held == 0);
        let Some(entry) = done.then(|| self.entries.remove(&id)).flatten() else { return };
        if let Some(turn) = self.turns.get_mut(&entry.requester) {
            turn.requests -= 1;
            if turn.requests == 0 {
                self.turns.remove(&entry.requester);
            }
        }
    }

    /// Whether a resolution runs or waits.
    pub(super) fn has_resolution(&self) -> bool {
        self.entries.values().any(|entry| !entry.withdrawn && entry.is_resolution())
    }

    /// Whether of several requests for pieces at least one has fewer than it wants.
    pub(super) fn has_others_waiting(&self) -> bool {
        let mut pieces = 0;
        let mut wanting = false;
        for entry in self.entries.values() {
            if matches!(entry.wish, Wish::Pieces { .. }) && !entry.withdrawn {
                pieces += 1;
                wanting |= entry.wants();
            }
        }
        pieces > 1 && wanting
    }
}
