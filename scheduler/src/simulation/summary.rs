//! Many runs of one scenario: the worst and the mean of each figure, over seeds and over both kinds of sensor.

use super::control::Kind;
use super::oracle::work_per_second_at;
use super::run::{Outcome, run};
use super::scenario::Scenario;

/// The caches of the sensors, in seconds: one that is read anew each time, and coretemp's.
pub const CACHES_SECONDS: [f64; 2] = [0.0, 1.0];

/// The temperature that the oracle may hold.
const ORACLE_CELSIUS: f64 = 95.0;

/// One figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The worst.
    pub worst: f64,
    /// The mean.
    pub mean: f64,
}

/// One scenario under one governor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Who decided.
    pub kind: Kind,
    /// The highest true temperature.
    pub peak_celsius: Figure,
    /// Seconds of 10 minutes at 95 C or above.
    pub seconds_at_95: Figure,
    /// Seconds of 10 minutes at 100 C or above.
    pub seconds_at_100: Figure,
    /// Changes of direction.
    pub reversals_per_min: Figure,
    /// Changes of state.
    pub state_changes_per_min: Figure,
    /// Work beside that of naive with the same seed.
    pub work_ratio: Figure,
    /// Work beside that of the best steady mix of cores at 95 C.
    pub oracle_ratio: Figure,
    /// The relative clock of cores while anything runs.
    pub clock: Figure,
    /// The fewest slots.
    pub slots_min: usize,
    /// Cooled down to all slots, in seconds, where the load ends.
    pub recovery_seconds: Option<f64>,
    /// To BLIND, in seconds, where the sensor is lost.
    pub blind_after_seconds: Option<f64>,
    /// Seconds in BLIND of 10 minutes.
    pub seconds_blind: Figure,
    /// Slots added while BLIND.
    pub grown_blind: usize,
    /// The seed and the cache with the highest peak.
    pub hottest: (u64, f64),
}

/// Runs a scenario under each of `kinds` with seeds from 0 to `seeds`.
pub fn compare(scenario: &Scenario, kinds: &[Kind], seeds: u64) -> Vec<Summary> {
    let cases: Vec<(u64, f64)> =
        (0..seeds).flat_map(|seed| CACHES_SECONDS.map(|cache| (seed, cache))).collect();
    let outcomes = |kind: Kind| -> Vec<Outcome> {
        cases.iter().map(|(seed, cache)| run(scenario, kind, *seed, *cache, |_| {})).collect()
    };
    let naive = outcomes(Kind::Naive);
    let oracle = work_per_second_at(&scenario.build, ORACLE_CELSIUS);
    kinds
        .iter()
        .map(|kind| {
            let outcomes = if *kind == Kind::Naive { naive.clone() } else { outcomes(*kind) };
            summarize(*kind, &cases, &outcomes, &naive, oracle)
        })
        .collect()
}

fn summarize(
    kind: Kind,
    cases: &[(u64, f64)],
    outcomes: &[Outcome],
    naive: &[Outcome],
    oracle: f64,
) -> Summary {
    let most = |of: fn(&Outcome) -> f64| figure(outcomes.iter().map(of), f64::max);
    let latest = |of: fn(&Outcome) -> Option<f64>| outcomes.iter().filter_map(of).reduce(f64::max);
    let work = outcomes.iter().zip(naive);
    let work = work.map(|(ours, naive)| ours.work_per_second / naive.work_per_second);
    let hottest = cases
        .iter()
        .zip(outcomes)
        .max_by(|left, right| left.1.peak_celsius.total_cmp(&right.1.peak_celsius))
        .map_or((0, 0.0), |(case, _)| *case);
    Summary {
        kind,
        peak_celsius: most(|it| it.peak_celsius),
        seconds_at_95: most(|it| it.seconds_at_95),
        seconds_at_100: most(|it| it.seconds_at_100),
        reversals_per_min: most(|it| it.reversals_per_min),
        state_changes_per_min: most(|it| it.state_changes_per_min),
        work_ratio: figure(work, f64::min),
        oracle_ratio: figure(outcomes.iter().map(|it| it.work_per_second / oracle), f64::min),
        clock: figure(outcomes.iter().map(|it| it.clock), f64::min),
        slots_min: outcomes.iter().map(|it| it.slots_min).min().unwrap_or(0),
        recovery_seconds: latest(|it| it.recovery_seconds),
        blind_after_seconds: latest(|it| it.blind_after_seconds),
        seconds_blind: most(|it| it.seconds_blind),
        grown_blind: outcomes.iter().map(|it| it.grown_blind).max().unwrap_or(0),
        hottest,
    }
}

fn figure(values: impl Iterator<Item = f64>, worse: fn(f64, f64) -> f64) -> Figure {
    let values: Vec<f64> = values.collect();
    let worst = values.iter().copied().reduce(worse).unwrap_or(f64::NAN);
    Figure { worst, mean: values.iter().sum::<f64>() / values.len() as f64 }
}
