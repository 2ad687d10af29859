//! Fair priorities: which level has its turn. The most urgent level goes first, and no level starves.
//!
//! Not here: what waits at a level, and in which order inside it ([`Fair`] is the plain case, first in
//! first out, for the requests of a hosted agent; the work queues keep their own order and ask [`Turns`]).
//!
//! The rule. A level that has something waiting is *due* once [`patience`] takes of other levels went
//! by since it was last served, or since it began to wait. While nobody is due, the most urgent level
//! that waits is served. Otherwise the level that has been due for longest is.
//!
//! The guarantee. While level `p` waits, at most
//!
//! ```text
//! N(p) = T(p) + 9        T(p) = 2^(12 - p)        N(10) = 13 ... N(1) = 2057
//! ```
//!
//! takes of other levels come before its next one; an item with `k` items of its own level before it
//! is therefore taken after at most `(k + 1) * N(p)` items of other levels, whenever those were put.
//! Proof: after `T(p)` takes of others `p` is due. From then on only levels that were due before it
//! go first, and each of the nine others does so once at most: being served, or beginning to wait,
//! sets a level's own date after that of `p`.
//!
//! The price. Levels 1 to 9 together are due in less than a quarter of all takes (the sum of
//! `1 / T(p)`), so level 10 under full load keeps three quarters.

use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// How many levels there are: the wire's priorities, 1 to 10.
pub(crate) const LEVELS: usize = 10;
/// `T(p) = 2^(PATIENCE_SHIFT - p)`: level 9 is due every eighth take, so that all lower levels
/// together claim less than a quarter.
const PATIENCE_SHIFT: u32 = 12;

const _: () = assert!(LEVELS < PATIENCE_SHIFT as usize && LEVELS <= u16::BITS as usize);

/// How urgent something is: 1 (least) to 10 (most).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Priority(u8);

impl Priority {
    /// The priority with this number, if it is one.
    pub(crate) fn new(number: u8) -> Option<Self> {
        (1..=LEVELS as u8).contains(&number).then_some(Self(number))
    }

    /// The one with this number, or the nearest.
    pub(crate) fn nearest(number: u8) -> Self {
        Self(number.clamp(1, LEVELS as u8))
    }

    /// 1 to 10.
    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// The position of its level in an array of [`LEVELS`], least urgent first.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    /// All priorities, least urgent first.
    pub(crate) fn all() -> impl DoubleEndedIterator<Item = Self> {
        (1..=LEVELS as u8).map(Self)
    }
}

/// `T(p)`: takes of other levels that a waiting level bears before it is due.
pub(crate) fn patience(priority: Priority) -> u64 {
    1 << (PATIENCE_SHIFT - u32::from(priority.0))
}

/// `N(p)`: takes of other levels that can come before the next one of a waiting level.
#[cfg(test)]
pub(crate) fn overtaken_max(priority: Priority) -> u64 {
    patience(priority) + (LEVELS as u64 - 1)
}

/// Whose turn it is. Knows which levels wait and since when, in takes; not what waits there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    taken: u64,
    /// The count of takes from which a waiting level is due; meaningless for others.
    due: [u64; LEVELS],
    /// One bit per level that has something waiting.
    waiting: u16,
}

impl Turns {
    /// Takes so far, and from which of them each level is due: what somebody needs to go on later.
    pub(crate) fn dates(&self) -> (u64, [u64; LEVELS]) {
        (self.taken, self.due)
    }

    /// Turns of these dates, at which nothing waits.
    pub(crate) fn with_dates(taken: u64, due: [u64; LEVELS]) -> Self {
        Self { taken, due, waiting: 0 }
    }

    /// Takes over the dates of others. What waits here stays.
    pub(crate) fn go_on_from(&mut self, other: &Self) {
        (self.taken, self.due) = other.dates();
    }

    /// Something waits at this level now; nothing changes if something did already.
    pub(crate) fn wait(&mut self, priority: Priority) {
        let bit = 1 << priority.index();
        if self.waiting & bit == 0 {
            self.waiting |= bit;
            self.due[priority.index()] = self.taken + patience(priority);
        }
    }

    /// Nothing waits at this level any more.
    pub(crate) fn leave(&mut self, priority: Priority) {
        self.waiting &= !(1 << priority.index());
    }

    /// One was taken from this level, on its turn.
    pub(crate) fn take(&mut self, priority: Priority) {
        self.taken += 1;
        self.due[priority.index()] = self.taken + patience(priority);
    }

    /// The level that is to be served next; `None` when nothing waits.
    pub(crate) fn next(&self) -> Option<Priority> {
        self.next_among(self.waiting)
    }

    /// The same among some levels, one bit each. The others keep what they are due: a level that could not be served for a
    /// while is the first one as soon as it can.
    fn next_among(&self, levels: u16) -> Option<Priority> {
        let mut chosen = None;
        let mut due_first = u64::MAX;
        let mut left = self.waiting & levels;
        // Most urgent first, so that of two dates that are the same the more urgent level wins.
        while left != 0 {
            let index = left.ilog2() as usize;
            left &= !(1 << index);
            let due = self.due[index];
            if chosen.is_none() || (due <= self.taken && due < due_first) {
                chosen = Some(Priority(index as u8 + 1));
                due_first = if due <= self.taken { due } else { u64::MAX };
            }
        }
        chosen
    }
}

/// Items by level, first in first out inside each, bounded; taken by [`Turns`].
#[derive(Debug)]
pub(crate) struct Fair<T> {
    levels: [VecDeque<T>; LEVELS],
    turns: Turns,
    items_count: usize,
    items_max: usize,
}

impl<T> Fair<T> {
    /// An empty one that holds so many items at most.
    pub(crate) fn new(items_max: usize) -> Self {
        let levels = std::array::from_fn(|_| VecDeque::new());
        Self { levels, turns: Turns::default(), items_count: 0, items_max }
    }

    /// Puts `item` at the end of its level; hands it back when full.
    pub(crate) fn try_push(&mut self, priority: Priority, item: T) -> Result<(), T> {
        if self.items_count == self.items_max {
            return Err(item);
        }
        self.levels[priority.index()].push_back(item);
        self.items_count += 1;
        self.turns.wait(priority);
        Ok(())
    }

    /// Takes the item whose turn it is.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Option<(Priority, T)> {
        self.pop_where(|_| true)
    }

    /// Takes the item whose turn it is among those that may go now. The others keep their places, and their levels what they are
    /// due.
    pub(crate) fn pop_where(&mut self, may_go: impl Fn(&T) -> bool) -> Option<(Priority, T)> {
        let places = self.levels.each_ref().map(|level| level.iter().position(&may_go));
        let levels = places.iter().enumerate().filter(|(_, place)| place.is_some());
        let priority =
            self.turns.next_among(levels.fold(0, |bits, (index, _)| bits | 1 << index))?;
        let level = &mut self.levels[priority.index()];
        let item = level.remove(places[priority.index()]?)?;
        if level.is_empty() {
            self.turns.leave(priority);
        }
        self.turns.take(priority);
        self.items_count -= 1;
        Some((priority, item))
    }

    /// Drops what is not to stay.
    pub(crate) fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        for (level, priority) in self.levels.iter_mut().zip(Priority::all()) {
            level.retain(&stays);
            if level.is_empty() {
                self.turns.leave(priority);
            }
        }
        self.items_count = self.levels.iter().map(VecDeque::len).sum();
    }

    /// Everything that waits, least urgent first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.levels.iter().flatten()
    }

    /// How many items wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.items_count
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.items_count == 0
    }
}
