//! Why there are as many slots as there are, and how often that changed: for status and metrics.

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The sensor has not been read often enough yet.
    Start,
    /// There is no sensor: all slots.
    NoSensor,
    /// All slots that the machine has.
    Full,
    /// Cool enough for one more.
    Cool,
    /// Nobody waits for a slot.
    NotNeeded,
    /// The last change has not shown its effect yet.
    Waits,
    /// One more was too much a while ago.
    Failed,
    /// One more would be too much.
    WouldBeHot,
    /// The reading has not changed, so it may be stuck.
    Unmoved,
    /// A little too warm: one less.
    Trim,
    /// Too hot to add, or hot enough to take away.
    Hot,
    /// At the temperature of throttling.
    Throttle,
    /// The firmware throttles.
    Firmware,
    /// The sensor fails, lies or is silent.
    SensorLost,
    /// The sensor answers the same whatever happens.
    SensorStuck,
    /// The machine has fewer cores than before.
    Machine,
}

/// Which way the number of slots changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// More.
    Up,
    /// Fewer.
    Down,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 16] = [
        Reason::Start,
        Reason::NoSensor,
        Reason::Full,
        Reason::Cool,
        Reason::NotNeeded,
        Reason::Waits,
        Reason::Failed,
        Reason::WouldBeHot,
        Reason::Unmoved,
        Reason::Trim,
        Reason::Hot,
        Reason::Throttle,
        Reason::Firmware,
        Reason::SensorLost,
        Reason::SensorStuck,
        Reason::Machine,
    ];

    /// The name in metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Start => "start",
            Reason::NoSensor => "no_sensor",
            Reason::Full => "full",
            Reason::Cool => "cool",
            Reason::NotNeeded => "not_needed",
            Reason::Waits => "waits",
            Reason::Failed => "failed",
            Reason::WouldBeHot => "would_be_hot",
            Reason::Unmoved => "unmoved",
            Reason::Trim => "trim",
            Reason::Hot => "hot",
            Reason::Throttle => "throttle",
            Reason::Firmware => "firmware",
            Reason::SensorLost => "sensor_lost",
            Reason::SensorStuck => "sensor_stuck",
            Reason::Machine => "machine",
        }
    }
}

impl Direction {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

/// How often the number of slots changed, by direction and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    counts: [[u64; Reason::ALL.len()]; 2],
}

impl Changes {
    pub(super) fn count(&mut self, direction: Direction, reason: Reason) {
        self.counts[direction as usize][reason as usize] += 1;
    }

    /// Those that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Direction, Reason, u64)> {
        [Direction::Up, Direction::Down]
            .into_iter()
            .flat_map(|direction| {
                let counts = self.counts[direction as usize];
                Reason::ALL
                    .into_iter()
                    .map(move |reason| (direction, reason, counts[reason as usize]))
            })
            .filter(|(_, _, count)| *count > 0)
    }
}
