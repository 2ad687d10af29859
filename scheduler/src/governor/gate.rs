//! Whether heavy work may start: closed above one temperature, open again after a while below another.
//!
//! Nothing starves behind it: the one who keeps the queue gives each deferred job a deadline.

use std::time::Duration;

use super::sense::Heat;
use super::thresholds::Band;
use crate::decision::State;
use crate::limits::HEAVY_DWELL_MIN;

/// The gate. A machine that has not been read yet keeps it closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    is_open: bool,
    /// Whether it was ever closed by heat or by the loss of the sensor, after which it opens late.
    was_closed: bool,
    cool_since: Option<Duration>,
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn open(&mut self) {
        *self = Self { is_open: true, ..Self::default() };
    }

    pub(super) fn close(&mut self) {
        *self = Self { is_open: false, was_closed: true, cool_since: None };
    }

    /// Time has jumped.
    pub(super) fn forget(&mut self, now: Duration) {
        self.cool_since = self.cool_since.map(|_| now);
    }

    pub(super) fn step(&mut self, heat: &Heat, state: State, band: &Band, now: Duration) {
        let is_calm = matches!(state, State::Optimal | State::Normal);
        if !is_calm || heat.quick > band.enter {
            self.close();
            return;
        }
        if self.is_open {
            return;
        }
        if heat.slow >= band.leave || !heat.is_fresh {
            self.cool_since = None;
            return;
        }
        let since = *self.cool_since.get_or_insert(now);
        if !self.was_closed || now.saturating_sub(since) >= HEAVY_DWELL_MIN {
            self.open();
        }
    }
}
