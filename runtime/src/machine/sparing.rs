//! Lines of the log about what may come and go all the time: each at once while they are few, then no more than some a minute, with the
//! number of those that were left out in the next one. Knows neither clocks nor the log.

use std::time::Duration;

use scheduler::decision::State;

use crate::limits::{LINES_PER_PERIOD_MAX, LINES_PERIOD};

/// How often something was said. Times are of any clock that does not go backwards.
#[derive(Debug, Default)]
pub(crate) struct Sparing {
    /// When each of the last lines was written; `oldest` is the place of the first of them.
    said: [Option<Duration>; LINES_PER_PERIOD_MAX],
    oldest: usize,
    left_out: u64,
}

impl Sparing {
    /// There is something to say: how much was left out before it, where it may be said now.
    pub(crate) fn say(&mut self, now: Duration) -> Option<u64> {
        if !self.may_say(now) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.said[self.oldest] = Some(now);
        self.oldest = (self.oldest + 1) % LINES_PER_PERIOD_MAX;
        Some(std::mem::take(&mut self.left_out))
    }

    fn may_say(&self, now: Duration) -> bool {
        self.said[self.oldest].is_none_or(|at| now.saturating_sub(at) >= LINES_PERIOD)
    }
}

/// The lines about the thermal state. What it is now is said in the end, though it may have been left out when it began.
#[derive(Debug, Default)]
pub(crate) struct StateLines {
    sparing: Sparing,
    /// What it was at the last look, and what was said last.
    last: Option<State>,
    said: Option<State>,
}

impl StateLines {
    /// To be called at each look: how many changes were left out, where the state is to be said now.
    pub(crate) fn look(&mut self, state: State, now: Duration) -> Option<u64> {
        let has_changed = self.last.replace(state) != Some(state);
        let is_open = self.said != Some(state) || self.sparing.left_out > 0;
        let left_out = match has_changed {
            true => self.sparing.say(now)?,
            false if is_open && self.sparing.may_say(now) => {
                // The last change that was left out is the one that is said.
                self.sparing.say(now)?.saturating_sub(1)
            }
            false => return None,
        };
        self.said = Some(state);
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn few_things_are_said_at_once_and_of_many_some_with_the_number_of_the_others() {
        let mut sparing = Sparing::default();
        let mut said = Vec::new();
        let mut left_out = 0;
        for second in 0..3600 {
            if let Some(others) = sparing.say(at(second)) {
                said.push(second);
                left_out += others;
            }
        }
        assert!(said.iter().take(LINES_PER_PERIOD_MAX).copied().eq(0..LINES_PER_PERIOD_MAX as u64));
        for first in 0..3600 {
            let minute = first..first + LINES_PERIOD.as_secs();
            let lines = said.iter().filter(|second| minute.contains(*second)).count();
            assert!(lines <= LINES_PER_PERIOD_MAX, "{lines} from {first}");
        }
        assert_eq!(said.len() as u64 + left_out + sparing.left_out, 3600, "each is counted");
    }

    #[test]
    fn a_sensor_that_comes_and_goes_makes_few_lines_and_the_last_state_is_said() {
        let mut lines = StateLines::default();
        let (mut said, mut changes) = (0, 0);
        for second in 0..600 {
            let state = [State::Blind, State::Optimal][usize::from(second % 2 == 0)];
            changes += 1;
            if let Some(left_out) = lines.look(state, at(second)) {
                (said, changes) = (said + 1, changes - 1 - left_out);
            }
        }
        let most = 10 * LINES_PER_PERIOD_MAX;
        assert!((LINES_PER_PERIOD_MAX..=most).contains(&said), "{said} lines in ten minutes");
        let ended = (600..700).filter_map(|second| lines.look(State::Blind, at(second)));
        let ended: Vec<u64> = ended.collect();
        assert_eq!(ended.len(), 1, "what it is now is said once it may be");
        assert_eq!(changes, ended[0] + 1, "and what was left out is counted");
    }

    #[test]
    fn changes_that_are_few_are_each_said_once() {
        let mut lines = StateLines::default();
        for (minute, state) in (0..).zip([State::Optimal, State::Normal, State::Caution]) {
            for second in 0..60 {
                let told = lines.look(state, at(60 * minute + second));
                assert_eq!(told, (second == 0).then_some(0));
            }
        }
    }
}
