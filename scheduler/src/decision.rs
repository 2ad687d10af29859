//! What the governor decides and admission carries out: the state, the slots of each class of cores, and which kinds
//! of work wait. Plain values; neither side knows the other.

/// The thermal state of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Cool: as much as the machine is good at.
    Optimal,
    /// Warm: hold, and grow only where the temperature that would follow is known to be fine.
    Normal,
    /// Hot: less, slowly; heavy work waits.
    Caution,
    /// The firmware throttles or is about to: less, at once.
    Throttle,
    /// There was a sensor and it cannot be believed now: little, and no growth.
    Blind,
    /// There never was a sensor: the machine's own bounds, nothing else.
    Off,
}

impl State {
    /// All states, in the order in which they are shown.
    pub const ALL: [State; 6] =
        [State::Optimal, State::Normal, State::Caution, State::Throttle, State::Blind, State::Off];

    /// The name in metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            State::Optimal => "optimal",
            State::Normal => "normal",
            State::Caution => "caution",
            State::Throttle => "throttle",
            State::Blind => "blind",
            State::Off => "off",
        }
    }
}

/// How many pieces of computing work may start on each class of cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slots {
    /// On performance cores; where the machine has any at least one, which is resolution's.
    pub performance: usize,
    /// On efficient cores.
    pub efficient: usize,
    /// On low-power cores.
    pub low_power: usize,
}

impl Slots {
    /// The same with one performance slot at least, taken from another class: a resolution's, wherever it then runs. Of no slots
    /// at all it makes one.
    pub fn with_resolution(self) -> Self {
        let Self { performance, efficient, low_power } = self;
        match (performance, efficient) {
            (1.., _) => self,
            (0, 1..) => Self { performance: 1, efficient: efficient - 1, low_power },
            (0, 0) => Self { performance: 1, efficient, low_power: low_power.saturating_sub(1) },
        }
    }

    /// The smaller of both, class by class.
    pub fn least(self, other: Self) -> Self {
        Self {
            performance: self.performance.min(other.performance),
            efficient: self.efficient.min(other.efficient),
            low_power: self.low_power.min(other.low_power),
        }
    }

    /// Of all classes.
    pub fn sum(self) -> usize {
        self.performance + self.efficient + self.low_power
    }
}

/// Where background work may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Background {
    /// On efficient and low-power cores.
    Efficient,
    /// On low-power cores only.
    LowPower,
    /// Nowhere.
    Paused,
}

/// What may be admitted until the next decision. What runs already goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why.
    pub state: State,
    /// How much.
    pub slots: Slots,
    /// Whether heavy work (a whole installation, a bulk scan) may start.
    pub heavy: bool,
    /// Where background work may start.
    pub background: Background,
}
