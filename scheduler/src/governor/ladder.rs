//! How many slots: when one is added, when some are taken away, and what is remembered of additions that failed.
//!
//! One P slot is 13 C on a thin laptop and one E slot 4 C, so no band of 5 C can be held by slots: the ladder stops below the
//! heat at which it would have to take back what it gave, and asks again only after a time that doubles. Cutting and
//! growing have timers of their own; a state's dwell is none of them.

use std::time::Duration;

use super::capacity::{Capacity, Class};
use super::sense::Heat;
use super::thresholds::ThresholdValues;
use super::{Direction, Reason};
use crate::decision::State;

/// Below the begin of caution by this much slots are taken away one by one, in kelvins.
const TRIM_BELOW_CAUTION: f64 = 1.0;

/// Growth stops this much below that, in kelvins: the noise of a sensor that rounds to 1 C.
const GROWTH_MARGIN: f64 = 0.5;

/// How much a slot heats the die within a second, before the heat sink follows, in kelvins.
const RISE_PERFORMANCE: f64 = 5.8;
const RISE_EFFICIENT: f64 = 1.9;
const RISE_LOW_POWER: f64 = 0.5;

/// Growth looks so far ahead along the present slope, in seconds.
const AHEAD_SECONDS: f64 = 15.0;

/// Below the end of NORMAL by this much the machine has cooled down, and slots come back whether somebody waits or not.
const COOLED_BELOW_NORMAL: f64 = 5.0;

/// Between two cuts: above the begin of caution, below it, and in THROTTLE.
const CUT_EVERY_CAUTION: Duration = Duration::from_secs(3);
const CUT_EVERY_TRIM: Duration = Duration::from_secs(5);
const CUT_EVERY_THROTTLE: Duration = Duration::from_secs(1);

/// Falling so quickly, in kelvins per second, the last cut still works.
const FALLING: f64 = -0.15;

/// Rising so quickly, in kelvins per second, one slot is not enough: a power limit hides what the first P slots would have
/// changed, so half of them go; and what is beyond this slope is looked ahead by so many seconds.
const STEEP: f64 = 0.3;
const STEEP_AHEAD_SECONDS: f64 = 5.0;

/// Slots that may still be draining when more are taken away: tasks end when they end.
const DRAINING_MAX: usize = 1;

/// After a cut nothing is added for so long.
const GROW_AFTER_CUT: Duration = Duration::from_secs(15);

/// A level that was too much is tried again after this time, doubled each time up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_LAST: Duration = Duration::from_secs(480);

/// What the ladder may know in one step.
pub(super) struct Step<'a> {
    pub(super) heat: Heat,
    pub(super) state: State,
    pub(super) throttled: bool,
    pub(super) in_flight: usize,
    pub(super) is_limited: bool,
    pub(super) thresholds: &'a ThresholdValues,
    pub(super) capacity: &'a Capacity,
    pub(super) now: Duration,
}

/// Where it stands. Times are `None` before the first.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    level: usize,
    cut_at: Option<Duration>,
    grown_at: Option<Duration>,
    failed: Option<Failed>,
}

/// A level that was too much.
#[derive(Clone, Copy, Debug)]
struct Failed {
    level: usize,
    retry_at: Duration,
    wait: Duration,
    /// Whether the level below was one that had failed, and is being tried again.
    is_retried: bool,
}

impl Ladder {
    pub(super) fn new(level: usize) -> Self {
        Self { level: level.max(1), cut_at: None, grown_at: None, failed: None }
    }

    pub(super) fn level(&self) -> usize {
        self.level
    }

    /// Sets a level for a reason that is no temperature.
    pub(super) fn set(&mut self, level: usize) {
        self.level = level.max(1);
    }

    /// Time has jumped: all waits begin again.
    pub(super) fn forget(&mut self, now: Duration) {
        self.cut_at = Some(now);
        self.grown_at = Some(now);
        self.failed = None;
    }

    /// One decision: where to, and why there or why not further.
    pub(super) fn step(&mut self, step: &Step<'_>) -> (Option<Direction>, Reason) {
        if let Some(reason) = self.cut(step) {
            self.cut_at = Some(step.now);
            return (Some(Direction::Down), reason);
        }
        match self.may_grow(step) {
            Ok(reason) => {
                self.level += 1;
                self.grown_at = Some(step.now);
                if let Some(failed) = self.failed.as_mut().filter(|it| it.level <= self.level) {
                    // It is tried again; the next level waits for what comes of this one.
                    failed.level = self.level + 1;
                    failed.is_retried = true;
                    failed.retry_at = step.now + RETRY_FIRST;
                }
                (Some(Direction::Up), reason)
            }
            Err(reason) => (None, reason),
        }
    }

    fn cut(&mut self, step: &Step<'_>) -> Option<Reason> {
        let Heat { raw, slope, .. } = step.heat;
        let ahead = step.heat.ahead();
        let thresholds = step.thresholds;
        let waited =
            |wait: Duration| self.cut_at.is_none_or(|at| step.now.saturating_sub(at) >= wait);
        if self.level == 1 {
            return None;
        }
        if step.throttled || raw >= thresholds.throttle.enter {
            if !waited(CUT_EVERY_THROTTLE) {
                return None;
            }
            self.fail(step);
            self.level /= 2;
            return Some(if step.throttled { Reason::Firmware } else { Reason::Throttle });
        }
        let trim = thresholds.caution.enter - TRIM_BELOW_CAUTION;
        let is_steep = slope > STEEP;
        let ahead = ahead + (slope - STEEP).max(0.0) * STEEP_AHEAD_SECONDS;
        let (wait, reason) = if ahead >= thresholds.caution.enter {
            (CUT_EVERY_CAUTION, Reason::Hot)
        } else {
            (CUT_EVERY_TRIM, Reason::Trim)
        };
        let drains = step.in_flight > self.level + DRAINING_MAX;
        if ahead < trim || slope < FALLING || drains || !waited(wait) {
            return None;
        }
        self.fail(step);
        let others = step.capacity.slots_at(self.level).performance.saturating_sub(1);
        self.level -= if is_steep { (others / 2).max(1) } else { 1 };
        Some(reason)
    }

    /// Remembers that what runs was too much; more may run than this level says, until it has drained.
    fn fail(&mut self, step: &Step<'_>) {
        let level = self.level.max(step.in_flight);
        let wait = match self.failed {
            Some(failed) if failed.is_retried => (failed.wait * 2).min(RETRY_LAST),
            Some(failed) => failed.wait,
            None => RETRY_FIRST,
        };
        self.failed = Some(Failed { level, retry_at: step.now + wait, wait, is_retried: false });
    }

    /// Whether one slot may be added, and why or why not.
    fn may_grow(&mut self, step: &Step<'_>) -> Result<Reason, Reason> {
        let Heat { slow, slope, .. } = step.heat;
        let thresholds = step.thresholds;
        let is_cooled = slow < thresholds.normal.leave - COOLED_BELOW_NORMAL;
        if is_cooled {
            // Whatever failed, it was another time.
            self.failed = None;
        }
        if self.level >= step.capacity.slots_max() {
            return Err(Reason::Full);
        }
        if !matches!(step.state, State::Optimal | State::Normal) {
            return Err(Reason::Hot);
        }
        if !step.is_limited && !is_cooled {
            return Err(Reason::NotNeeded);
        }
        if !step.heat.supports_growth {
            return Err(Reason::Unmoved);
        }
        let class = step.capacity.class_at(self.level + 1);
        if class == Class::Performance && !step.heat.supports_performance {
            return Err(Reason::Unmoved);
        }
        let rise = match class {
            Class::Performance => RISE_PERFORMANCE,
            Class::Efficient => RISE_EFFICIENT,
            Class::LowPower => RISE_LOW_POWER,
        };
        let ceiling = thresholds.caution.enter - TRIM_BELOW_CAUTION - GROWTH_MARGIN;
        if slow + rise + (AHEAD_SECONDS * slope).max(0.0) >= ceiling {
            return Err(Reason::WouldBeHot);
        }
        let wait = grow_every(class, step.state, is_cooled);
        let waited = |at: Option<Duration>, wait: Duration| {
            at.is_none_or(|at| step.now.saturating_sub(at) >= wait)
        };
        if !waited(self.grown_at, wait) || !waited(self.cut_at, GROW_AFTER_CUT) {
            return Err(Reason::Waits);
        }
        if self.failed.is_some_and(|it| self.level + 1 >= it.level && step.now < it.retry_at) {
            return Err(Reason::Failed);
        }
        Ok(Reason::Cool)
    }
}

/// Between two additions: the warmer, the longer; where it matters, until the heat sink shows most of what the last one did.
fn grow_every(class: Class, state: State, is_cooled: bool) -> Duration {
    let seconds = match (class, state, is_cooled) {
        (Class::Performance, State::Optimal, true) => 2,
        (_, State::Optimal, true) => 1,
        (Class::Performance, State::Optimal, false) => 6,
        (_, State::Optimal, false) => 3,
        (Class::Performance, _, _) => 30,
        (_, _, _) => 8,
    };
    Duration::from_secs(seconds)
}
