//! The temperatures at which states begin and end, as a type that cannot hold nonsense.

use hw::limits::{CRITICAL_CELSIUS_MAX, CRITICAL_CELSIUS_MIN};
use thiserror::Error;

use crate::decision::State;
use crate::limits::{HYSTERESIS_CELSIUS_MIN, THRESHOLD_CELSIUS_MAX, THRESHOLD_CELSIUS_MIN};

/// Where something begins and where it ends again, in degrees Celsius.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// It begins at this temperature.
    pub enter: f64,
    /// It ends below this one.
    pub leave: f64,
}

/// Thresholds as somebody wrote them down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdValues {
    /// Warm: hold, grow with care.
    pub normal: Band,
    /// Hot: less.
    pub caution: Band,
    /// The firmware throttles or is about to.
    pub throttle: Band,
    /// Heavy work waits.
    pub heavy: Band,
}

impl Default for ThresholdValues {
    fn default() -> Self {
        Self {
            normal: Band { enter: 85.0, leave: 80.0 },
            caution: Band { enter: 95.0, leave: 90.0 },
            throttle: Band { enter: 100.0, leave: 95.0 },
            heavy: Band { enter: 90.0, leave: 86.0 },
        }
    }
}

impl ThresholdValues {
    /// The state that begins here at the latest: throttling at one reading, the others at a mean.
    pub(super) fn state_of(&self, raw: f64, mean: f64) -> State {
        if raw >= self.throttle.enter {
            State::Throttle
        } else if mean >= self.caution.enter {
            State::Caution
        } else if mean >= self.normal.enter {
            State::Normal
        } else {
            State::Optimal
        }
    }
}

/// Why values are no thresholds.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum ThresholdError {
    /// Not a temperature of a processor.
    #[error(
        "`{name}`: {celsius} C is not between {THRESHOLD_CELSIUS_MIN} and {THRESHOLD_CELSIUS_MAX} C"
    )]
    OutOfRange {
        /// Which one.
        name: &'static str,
        /// What it is.
        celsius: f64,
    },
    /// A state that begins and ends at nearly the same temperature flutters.
    #[error(
        "`{name}`: leaves at {leave} C, which is not {HYSTERESIS_CELSIUS_MIN} C below {enter} C"
    )]
    NoHysteresis {
        /// Which one.
        name: &'static str,
        /// Where it begins.
        enter: f64,
        /// Where it ends.
        leave: f64,
    },
    /// A hotter state begins or ends below a cooler one.
    #[error("`{hotter}` does not lie {HYSTERESIS_CELSIUS_MIN} C above `{cooler}`")]
    OutOfOrder {
        /// The cooler one.
        cooler: &'static str,
        /// The hotter one.
        hotter: &'static str,
    },
}

impl ThresholdError {
    /// Which of them does not fit.
    pub fn name(&self) -> &'static str {
        match *self {
            Self::OutOfRange { name, .. } | Self::NoHysteresis { name, .. } => name,
            Self::OutOfOrder { hotter, .. } => hotter,
        }
    }
}

/// Thresholds that hold together: each state ends well below where it begins, and a hotter one lies above a cooler one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    values: ThresholdValues,
}

impl TryFrom<ThresholdValues> for Thresholds {
    type Error = ThresholdError;

    fn try_from(values: ThresholdValues) -> Result<Self, ThresholdError> {
        let ThresholdValues { normal, caution, throttle, heavy } = values;
        let states = [("normal", normal), ("caution", caution), ("throttle", throttle)];
        for (name, Band { enter, leave }) in states.into_iter().chain([("heavy", heavy)]) {
            for celsius in [enter, leave] {
                if !(THRESHOLD_CELSIUS_MIN..=THRESHOLD_CELSIUS_MAX).contains(&celsius) {
                    return Err(ThresholdError::OutOfRange { name, celsius });
                }
            }
            if enter - leave < HYSTERESIS_CELSIUS_MIN {
                return Err(ThresholdError::NoHysteresis { name, enter, leave });
            }
        }
        for pair in states.windows(2) {
            let ((cooler, low), (hotter, high)) = (pair[0], pair[1]);
            let apart = (high.enter - low.enter).min(high.leave - low.leave);
            if apart < HYSTERESIS_CELSIUS_MIN {
                return Err(ThresholdError::OutOfOrder { cooler, hotter });
            }
        }
        Ok(Self { values })
    }
}

impl Thresholds {
    /// The values.
    pub fn values(&self) -> ThresholdValues {
        self.values
    }

    /// What one reading alone says on a machine whose firmware clamps at `critical_celsius`: the state of a governor that has seen
    /// nothing else.
    pub fn state_at(&self, celsius: f64, critical_celsius: Option<f64>) -> State {
        self.cut_to(critical_celsius).state_of(celsius, celsius)
    }

    /// Cut to a machine whose firmware clamps at `critical`: throttling is entered 3 C below it, caution 8 C.
    ///
    /// A sensor saturates at the clamp, so a threshold there or above would never be reached. What the firmware says is
    /// believed only where it can be true; there are machines that say -274 C and 20.8 C.
    pub(super) fn cut_to(&self, critical: Option<f64>) -> ThresholdValues {
        let is_sane =
            |celsius: &f64| (CRITICAL_CELSIUS_MIN..=CRITICAL_CELSIUS_MAX).contains(celsius);
        let Some(critical) = critical.filter(is_sane) else { return self.values };
        let ThresholdValues { normal, caution, throttle, heavy } = self.values;
        let caution = lowered(caution, critical - 8.0);
        Self::ordered(ThresholdValues {
            normal: lowered(normal, caution.enter - HYSTERESIS_CELSIUS_MIN),
            caution,
            throttle: lowered(throttle, critical - 3.0),
            heavy: lowered(heavy, caution.enter),
        })
    }

    /// Ends of states in the order of their beginnings: lowering one band by more than another may have crossed them.
    fn ordered(mut values: ThresholdValues) -> ThresholdValues {
        values.caution.leave = values.caution.leave.min(values.throttle.leave);
        values.normal.leave = values.normal.leave.min(values.caution.leave);
        values
    }
}

/// A band that begins at `most` or below, as wide as before.
fn lowered(band: Band, most: f64) -> Band {
    let enter = band.enter.min(most);
    Band { enter, leave: band.leave - (band.enter - enter) }
}
