//! The lender's private account: which ranges of the pool are free, and which loan has which.
//!
//! Not here: memory, readers and waiting (`pool`). All of it is the lender's own memory; nothing allocates after the start.
//! The cost of each step depends on how many loans are out, never on how long they are.

use crate::limits::{LOANS_MAX, REGION_ALIGNMENT};

/// Free bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    end: usize,
}

/// One place of the table of loans.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The number of the loan that has the place or had it last; at first, the place itself (generation 0).
    number: u64,
    range: Range,
    state: State,
}

/// Where a loan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nowhere: the place is free.
    Idle,
    /// Being written.
    Writing,
    /// With these readers, one bit each.
    Lent(u64),
}

/// A range that was taken for a loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) offset: usize,
}

#[derive(Debug)]
pub(super) struct Account {
    /// In order, and never two that touch.
    free: Vec<Range>,
    entries: Vec<Entry>,
    /// Places without a loan.
    idle: Vec<u16>,
    /// Places with one.
    busy: Vec<u16>,
}

/// The place of a loan in the table.
pub(super) fn place_of(number: u64) -> usize {
    (number % LOANS_MAX as u64) as usize
}

impl Account {
    pub(super) fn new(bytes: usize) -> Self {
        let nothing = Range { start: 0, end: 0 };
        let entry = |place| Entry { number: place, range: nothing, state: State::Idle };
        // Loans cut the pool into at most one free range more than there are loans.
        let mut free = Vec::with_capacity(LOANS_MAX + 1);
        free.push(Range { start: 0, end: bytes });
        Self {
            free,
            entries: (0..LOANS_MAX as u64).map(entry).collect(),
            idle: (0..LOANS_MAX as u16).rev().collect(),
            busy: Vec::with_capacity(LOANS_MAX),
        }
    }

    /// What a loan of so many bytes takes.
    pub(super) fn aligned(bytes: usize) -> usize {
        bytes.next_multiple_of(REGION_ALIGNMENT)
    }

    pub(super) fn has_number(&self) -> bool {
        !self.idle.is_empty()
    }

    /// The longest free range.
    pub(super) fn longest(&self) -> usize {
        self.free.iter().map(|range| range.end - range.start).max().unwrap_or(0)
    }

    /// Takes the start of the shortest range that is long enough, and the next number of a free place.
    pub(super) fn take(&mut self, bytes: usize) -> Option<Taken> {
        let wanted = Self::aligned(bytes);
        let place = *self.idle.last()?;
        let fits = self.free.iter().enumerate().filter_map(|(index, range)| {
            let length = range.end - range.start;
            (length >= wanted).then_some((length, index))
        });
        let (_, index) = fits.min()?;
        let found = &mut self.free[index];
        let range = Range { start: found.start, end: found.start + wanted };
        found.start = range.end;
        if found.start == found.end {
            self.free.remove(index);
        }
        self.idle.pop();
        self.busy.push(place);
        let entry = &mut self.entries[usize::from(place)];
        debug_assert_eq!(entry.state, State::Idle, "an idle place has no loan");
        // The place is the remainder, so the next generation keeps it. 2^54 generations do not run out.
        let number = entry.number + LOANS_MAX as u64;
        *entry = Entry { number, range, state: State::Writing };
        Some(Taken { number, offset: range.start })
    }

    pub(super) fn set_state(&mut self, number: u64, state: State) {
        let entry = &mut self.entries[place_of(number)];
        debug_assert!(entry.number == number && entry.state != State::Idle && state != State::Idle);
        entry.state = state;
    }

    /// Looks at every loan that is out: `look` is asked with its number and state, and gives its new state; [`State::Idle`]
    /// frees it. Gives how many were freed.
    pub(super) fn review(&mut self, mut look: impl FnMut(u64, State) -> State) -> usize {
        let before = self.busy.len();
        let mut index = 0;
        while index < self.busy.len() {
            let place = self.busy[index];
            let entry = &mut self.entries[usize::from(place)];
            entry.state = look(entry.number, entry.state);
            let range = entry.range;
            if entry.state == State::Idle {
                self.busy.swap_remove(index);
                self.idle.push(place);
                self.free(range);
            } else {
                index += 1;
            }
        }
        before - self.busy.len()
    }

    /// Loans that are out.
    pub(super) fn out(&self) -> usize {
        self.busy.len()
    }

    fn free(&mut self, range: Range) {
        let index = self.free.partition_point(|free| free.start < range.start);
        let joins_next = self.free.get(index).is_some_and(|next| next.start == range.end);
        let joins_last = index > 0 && self.free[index - 1].end == range.start;
        match (joins_last, joins_next) {
            (true, true) => {
                self.free[index - 1].end = self.free[index].end;
                self.free.remove(index);
            }
            (true, false) => self.free[index - 1].end = range.end,
            (false, true) => self.free[index].start = range.start,
            (false, false) => self.free.insert(index, range),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const BYTES: usize = 64 * 64;

    /// The slow oracle: who has each line of the pool.
    struct Oracle {
        lines: Vec<Option<u64>>,
    }

    impl Oracle {
        fn longest(&self) -> usize {
            let runs = self.lines.split(|line| line.is_some());
            runs.map(<[_]>::len).max().unwrap_or(0) * REGION_ALIGNMENT
        }

        fn lines_of(taken: Taken, bytes: usize) -> std::ops::Range<usize> {
            let start = taken.offset / REGION_ALIGNMENT;
            start..start + bytes.div_ceil(REGION_ALIGNMENT)
        }
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_all_come_back(
            steps in prop::collection::vec((1usize..1500, 0usize..4, any::<prop::sample::Index>()), 1..300),
        ) {
            let mut account = Account::new(BYTES);
            let mut oracle = Oracle { lines: vec![None; BYTES / REGION_ALIGNMENT] };
            let mut out: Vec<u64> = Vec::new();
            let mut seen = HashSet::new();
            for (bytes, choice, which) in steps {
                if choice == 0 && !out.is_empty() {
                    let number = out.swap_remove(which.index(out.len()));
                    let freed = account.review(|other, state| {
                        if other == number { State::Idle } else { state }
                    });
                    prop_assert_eq!(freed, 1);
                    oracle.lines.iter_mut().filter(|line| **line == Some(number)).for_each(|line| *line = None);
                } else if let Some(taken) = account.take(bytes) {
                    prop_assert!(seen.insert(taken.number) && taken.number >= LOANS_MAX as u64);
                    prop_assert_eq!(taken.offset % REGION_ALIGNMENT, 0);
                    for line in &mut oracle.lines[Oracle::lines_of(taken, bytes)] {
                        prop_assert_eq!(line.replace(taken.number), None, "overlap");
                    }
                    out.push(taken.number);
                } else {
                    prop_assert!(oracle.longest() < bytes, "there was room");
                }
                prop_assert_eq!(account.longest(), oracle.longest());
                prop_assert_eq!(account.out(), out.len());
            }
            account.review(|_, _| State::Idle);
            prop_assert_eq!(account.longest(), BYTES, "everything comes back in one piece");
            prop_assert_eq!(account.idle.len(), LOANS_MAX);
        }
    }

    #[test]
    fn numbers_run_out_before_bytes_and_places_get_new_generations() {
        let mut account = Account::new(2 * LOANS_MAX * REGION_ALIGNMENT);
        let (free, idle) = (account.free.capacity(), account.busy.capacity());
        let first: Vec<u64> = (0..LOANS_MAX).map(|_| account.take(1).unwrap().number).collect();
        assert!(!account.has_number() && account.take(1).is_none());
        assert!(account.longest() >= LOANS_MAX * REGION_ALIGNMENT);
        // Every second one: as many free ranges as there can be.
        account.review(|number, state| if number % 2 == 0 { State::Idle } else { state });
        account.review(|_, _| State::Idle);
        let second = account.take(1).unwrap().number;
        assert!(!first.contains(&second) && second / LOANS_MAX as u64 == 2);
        assert_eq!((account.free.capacity(), account.busy.capacity()), (free, idle), "no growth");
    }
}
