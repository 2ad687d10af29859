//! What is simulated: a laptop, its sensor, its work, and what happens meanwhile.

use super::plant::{BASE, Build};
use super::sensor::Fault;
use crate::decision::Slots;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// From now on so many tasks want to run.
    Demand(usize),
    /// From now on the sensor does this.
    Sensor(Fault),
    /// The machine is suspended for so many seconds.
    Suspend(f64),
    /// From now on these cores may be used; what runs on others is gone.
    Cores(Slots),
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// The name in reports: a letter, or a word.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// The laptop.
    pub build: Build,
    /// The share of reads that fail or lie.
    pub bad_share: f64,
    /// The mean length of a task.
    pub task_seconds: f64,
    /// What happens, and after how many seconds; in order.
    pub events: &'static [(f64, Event)],
    /// When the governor has all it needs to know that the sensor is lost.
    pub lost: Option<Lost>,
}

/// Since when a loss can be known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lost {
    /// Since then: nothing but bad reads, or a change of load that no package hides.
    At(f64),
    /// Since the true temperature is so far above a sensor that stands still that its cores contradict it. Until then it is right, and
    /// nothing tells it from one that works.
    Contradicted,
}

/// How long each is simulated.
pub const SECONDS: f64 = 600.0;

/// What happens before counts in no figure: the machine warms up.
pub const WARM_UP_SECONDS: f64 = 60.0;

/// More tasks than any machine has cores.
const MANY: usize = 1_000;

const THIN: Build = Build { sink_resistance: 1.0, ..BASE };

const NORMAL: Scenario = Scenario {
    name: "A",
    about: "base",
    build: BASE,
    bad_share: 0.0,
    task_seconds: 2.5,
    events: &[],
    lost: None,
};

const WHEN_LOADED: &[(f64, Event)] = &[
    (0.0, Event::Demand(0)),
    (120.0, Event::Demand(MANY)),
    (240.0, Event::Demand(0)),
    (400.0, Event::Demand(MANY)),
    (460.0, Event::Demand(0)),
];

/// The scenarios with a letter: a machine that is always asked for everything.
pub const LETTERS: [Scenario; 7] = [
    NORMAL,
    Scenario { name: "B", about: "thin", build: THIN, ..NORMAL },
    Scenario {
        name: "C",
        about: "thin, room of 40 C",
        build: Build { ambient_celsius: 40.0, ..THIN },
        ..NORMAL
    },
    Scenario {
        name: "D",
        about: "firmware allows 115 W",
        build: Build { long_watts: 115.0, short_watts: 115.0, ..BASE },
        ..NORMAL
    },
    Scenario {
        name: "E",
        about: "thin, clamped at 100 C",
        build: Build { critical_celsius: 100.0, ..THIN },
        ..NORMAL
    },
    Scenario { name: "F", about: "thin, 20 % bad reads", build: THIN, bad_share: 0.2, ..NORMAL },
    Scenario { name: "G", about: "thin, tasks of 20 s", build: THIN, task_seconds: 20.0, ..NORMAL },
];

/// The others: one thing each.
pub const OTHERS: [Scenario; 9] = [
    Scenario {
        name: "cool",
        about: "never passes 85 C",
        build: Build { die_resistance: 0.4, sink_resistance: 0.5, ambient_celsius: 25.0, ..BASE },
        ..NORMAL
    },
    Scenario {
        name: "step-load",
        about: "thin, idle and everything by turns",
        build: THIN,
        events: WHEN_LOADED,
        ..NORMAL
    },
    Scenario {
        name: "step-load-base",
        about: "base, idle and everything by turns",
        events: WHEN_LOADED,
        ..NORMAL
    },
    Scenario {
        name: "suspend",
        about: "thin, suspended for 10 min",
        build: THIN,
        events: &[(300.0, Event::Suspend(600.0))],
        ..NORMAL
    },
    Scenario {
        name: "frozen",
        about: "thin, the sensor freezes, then comes load",
        build: THIN,
        events: &[
            (0.0, Event::Demand(0)),
            (200.0, Event::Sensor(Fault::Frozen)),
            (210.0, Event::Demand(MANY)),
        ],
        lost: Some(Lost::At(210.0)),
        ..NORMAL
    },
    Scenario {
        name: "frozen-busy",
        about: "thin, the sensor freezes under load",
        build: THIN,
        events: &[(30.0, Event::Sensor(Fault::Frozen))],
        lost: Some(Lost::Contradicted),
        ..NORMAL
    },
    Scenario {
        name: "frozen-warming",
        about: "thin, the sensor freezes while the package still warms up",
        build: THIN,
        events: &[
            (0.0, Event::Demand(0)),
            (100.0, Event::Demand(MANY)),
            (103.0, Event::Sensor(Fault::Frozen)),
        ],
        lost: Some(Lost::Contradicted),
        ..NORMAL
    },
    Scenario {
        name: "all-bad",
        about: "thin, nothing but bad reads",
        build: THIN,
        events: &[(300.0, Event::Sensor(Fault::AllBad))],
        lost: Some(Lost::At(300.0)),
        ..NORMAL
    },
    Scenario {
        name: "cpuset",
        about: "thin, cut to 2 P and 4 E, then whole again",
        build: THIN,
        events: &[
            (200.0, Event::Cores(Slots { performance: 2, efficient: 4, low_power: 0 })),
            (400.0, Event::Cores(BASE.cores)),
        ],
        ..NORMAL
    },
];
