//! How long a serving thread goes on without anything to do: after a message for as long as a wake-up costs, because who has an answer
//! often asks again; otherwise not at all. Pure but for the clock, which is asked now and then only.

use std::time::{Duration, Instant};

use ipc::limits::SPIN_NS;

use crate::limits::TURNS_PER_HOST_LOOK;

/// Turns without anything between two looks at the clock: about a microsecond.
const TURNS_PER_CLOCK: u32 = 32;

const _: () = assert!(TURNS_PER_HOST_LOOK.is_multiple_of(TURNS_PER_CLOCK));

/// One thread's.
#[derive(Debug)]
pub(super) struct Wakefulness {
    /// Where there is another processor on which somebody may ask meanwhile.
    may_spin: bool,
    /// Since the last look around: turns, and messages taken.
    steps: u32,
    /// Messages came since it last slept.
    spins: bool,
    /// Since when nothing came.
    idle_since: Option<Instant>,
}

impl Wakefulness {
    /// A thread that sleeps as soon as there is nothing; with `may_spin` only until the first message.
    pub(super) fn new(may_spin: bool) -> Self {
        Self { may_spin, steps: 0, spins: false, idle_since: None }
    }

    /// Counts a turn that took so many messages; whether it is time to look at what came on other ways.
    pub(super) fn must_look(&mut self, taken: u32) -> bool {
        if taken > 0 {
            (self.spins, self.idle_since) = (self.may_spin, None);
        }
        self.steps += 1 + taken;
        let must_look = self.steps >= TURNS_PER_HOST_LOOK;
        if must_look {
            self.steps = 0;
        }
        must_look
    }

    /// Whether to go on rather than to sleep; `now` is asked now and then.
    pub(super) fn spins(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if !self.spins || !self.steps.is_multiple_of(TURNS_PER_CLOCK) {
            return self.spins;
        }
        let now = now();
        let since = *self.idle_since.get_or_insert(now);
        self.spins = now.duration_since(since) < Duration::from_nanos(SPIN_NS);
        self.spins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns without a message at this time until the thread sleeps, at most so many.
    fn turns_until_sleep(wakefulness: &mut Wakefulness, now: Instant, max: u32) -> u32 {
        for turn in 0..max {
            wakefulness.must_look(0);
            if !wakefulness.spins(|| now) {
                return turn;
            }
        }
        max
    }

    #[test]
    fn without_a_message_it_sleeps_at_once() {
        assert_eq!(turns_until_sleep(&mut Wakefulness::new(true), Instant::now(), 9), 0);
    }

    #[test]
    fn on_the_only_processor_it_never_spins() {
        let mut wakefulness = Wakefulness::new(false);
        wakefulness.must_look(1);
        assert_eq!(turns_until_sleep(&mut wakefulness, Instant::now(), 9), 0);
    }

    #[test]
    fn after_a_message_it_spins_for_a_while_and_no_longer() {
        let (mut wakefulness, now) = (Wakefulness::new(true), Instant::now());
        wakefulness.must_look(1);
        assert_eq!(turns_until_sleep(&mut wakefulness, now, 1_000), 1_000);
        let later = now + Duration::from_nanos(SPIN_NS);
        assert!(turns_until_sleep(&mut wakefulness, later, 1_000) < TURNS_PER_CLOCK);
        assert_eq!(turns_until_sleep(&mut wakefulness, later, 9), 0, "it does not begin again");
        wakefulness.must_look(1);
        assert_eq!(turns_until_sleep(&mut wakefulness, later, 1_000), 1_000);
    }

    #[test]
    fn it_looks_around_however_busy_it_is() {
        let mut wakefulness = Wakefulness::new(true);
        let looks = (0..TURNS_PER_HOST_LOOK).filter(|_| wakefulness.must_look(63)).count();
        assert_eq!(looks, 64);
    }
}
