//! What time it is for the serving thread, and what it does about it: when it looks at its socket, and when it has waited long
//! enough to sleep.
//!
//! A look at the clock is half of an empty turn, and a message that comes meanwhile waits for it; so an empty turn goes by a reading
//! that is some turns old. Not here: what a turn is (`server`).

use std::time::{Duration, Instant};

use ipc::wait::adaptive_spin;

use crate::limits::{LOOK_INTERVAL, TURNS_PER_CLOCK};

/// Times are counted from when the thread began.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// The last reading of the clock.
    recent: Duration,
    turns: u32,
    /// When the socket was looked at.
    looked: Duration,
    /// Since when nothing has moved.
    idle_since: Option<Duration>,
    /// For how long nothing has to have moved.
    spin: Duration,
}

impl Pace {
    pub(super) fn new(began: Instant) -> Self {
        let (recent, looked) = (Duration::ZERO, Duration::ZERO);
        Self { began, recent, turns: 0, looked, idle_since: None, spin: adaptive_spin() }
    }

    /// A moment that is at most some empty turns ago.
    pub(super) fn recent(&self) -> Duration {
        self.recent
    }

    /// This moment.
    pub(super) fn now(&mut self) -> Duration {
        self.recent = self.began.elapsed();
        self.recent
    }

    /// A turn begins. True when it is time to look at the socket.
    pub(super) fn begins_turn(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS_PER_CLOCK) {
            self.now();
        }
        let is_due = self.recent.saturating_sub(self.looked) >= LOOK_INTERVAL;
        if is_due {
            self.looked = self.recent;
        }
        is_due
    }

    /// Something moved in this turn, which may have been long.
    pub(super) fn has_moved(&mut self) {
        self.now();
        self.idle_since = None;
    }

    /// Nothing moved in this turn. True when nothing has for as long as a wake-up costs.
    pub(super) fn has_rested(&mut self) -> bool {
        let since = *self.idle_since.get_or_insert(self.recent);
        self.recent.saturating_sub(since) >= self.spin
    }

    /// The thread has slept, and looked at the socket.
    pub(super) fn woke(&mut self) {
        self.has_moved();
        self.looked = self.recent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns in which nothing moves until this is true.
    fn turns_until(pace: &mut Pace, mut is_it: impl FnMut(&mut Pace, bool) -> bool) -> u32 {
        let mut turns = 1;
        loop {
            let must_look = pace.begins_turn();
            if is_it(pace, must_look) {
                return turns;
            }
            turns += 1;
        }
    }

    #[test]
    fn it_sleeps_only_after_it_has_seen_nothing_for_long_enough() {
        let mut pace = Pace::new(Instant::now());
        pace.has_moved();
        let moved = pace.recent();
        turns_until(&mut pace, |pace, _| pace.has_rested());
        assert!(pace.recent() - moved >= pace.spin);
        pace.has_moved();
        pace.begins_turn();
        assert_eq!(pace.has_rested(), pace.spin.is_zero(), "what moved counts from now");
    }

    #[test]
    fn the_socket_is_looked_at_again_and_again_whether_something_moves_or_not() {
        let mut pace = Pace::new(Instant::now());
        for moves in [false, true] {
            let before = pace.looked;
            turns_until(&mut pace, |pace, must_look| {
                if moves {
                    pace.has_moved();
                }
                must_look
            });
            assert!(pace.looked - before >= LOOK_INTERVAL);
        }
    }

    #[test]
    fn an_empty_turn_mostly_asks_no_clock() {
        let mut pace = Pace::new(Instant::now());
        pace.woke();
        let mut readings = 0;
        for _ in 0..10 * TURNS_PER_CLOCK {
            let before = pace.recent();
            pace.begins_turn();
            pace.has_rested();
            readings += u32::from(pace.recent() != before);
        }
        assert!((1..=10).contains(&readings), "{readings}");
    }
}
