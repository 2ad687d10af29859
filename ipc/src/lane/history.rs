//! Where the last messages of a topic begin: the writer's private memory of it.
//!
//! Not here: how readers are told (`sender`) and what they make of it (`receiver`).

/// The positions at which the last messages begin.
#[derive(Debug)]
pub(super) struct History {
    /// A ring of as many as are kept.
    starts: Box<[u64]>,
    /// Where the next one goes, which is where the oldest one is once the ring is full.
    next: usize,
    /// Where the oldest one that is kept begins.
    from: u64,
    full: bool,
    /// The oldest that was not yet passed over, and how many there are from it on.
    first: usize,
    count: usize,
}

impl History {
    /// An empty one that keeps at most so many, at least one.
    pub(super) fn new(messages: u32) -> Self {
        let starts = vec![0; messages.max(1) as usize].into_boxed_slice();
        Self { starts, next: 0, from: 0, full: false, first: 0, count: 0 }
    }

    /// Takes in a message that begins at `start`, after all that came before.
    #[inline]
    pub(super) fn record(&mut self, start: u64) {
        self.starts[self.next] = start;
        self.next += 1;
        if self.next == self.starts.len() {
            (self.next, self.full) = (0, true);
        }
        if self.count == self.starts.len() {
            // The oldest one's place was taken.
            self.first = self.next;
        } else {
            self.count += 1;
        }
        // Before the ring is full everything is kept, from the very first.
        self.from = if self.full { self.starts[self.next] } else { self.starts[0] };
    }

    /// Where the oldest of those begins that begin at `least` or behind it, which never moves back; nothing where none does.
    #[inline]
    pub(super) fn first_since(&mut self, least: u64) -> Option<u64> {
        while self.count > 0 && self.starts[self.first] < least {
            self.first = if self.first + 1 == self.starts.len() { 0 } else { self.first + 1 };
            self.count -= 1;
        }
        (self.count > 0).then(|| self.starts[self.first])
    }

    /// Where a reader that wants all of them begins.
    #[inline]
    pub(super) fn from(&self) -> u64 {
        self.from
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_oldest_kept_message_is_the_one_that_a_list_of_all_says(
            kept in 1u32..20,
            ring in 1u64..40,
            lines in prop::collection::vec(1u64..5, 1..100),
        ) {
            let mut history = History::new(kept);
            let mut all = Vec::new();
            let mut position = 0;
            for count in lines {
                history.record(position);
                all.push(position);
                position += count;
                let oldest = all[all.len().saturating_sub(kept as usize)];
                prop_assert_eq!(history.from(), oldest);
                let least = position.saturating_sub(ring);
                let kept = &all[all.len().saturating_sub(kept as usize)..];
                let first = kept.iter().copied().find(|start| *start >= least);
                prop_assert_eq!(history.first_since(least), first);
            }
        }
    }
}
