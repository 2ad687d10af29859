//! The most work that can be had at a temperature by choosing how many cores are busy at full clock, with perfect
//! knowledge: what a governor of concurrency is measured with.
//!
//! Cores count in fractions (a core may be busy half of the time). One P core is always busy, as the governor keeps one.

use super::plant::{Build, watts_at_full_clock, work_per_second};

/// Work per second of the best steady mix whose temperature is `celsius`.
pub fn work_per_second_at(build: &Build, celsius: f64) -> f64 {
    let resistance = build.die_resistance + build.sink_resistance;
    let budget = ((celsius - build.ambient_celsius) / resistance).min(build.long_watts);
    // In the order of work per watt: LP-E, E, P.
    let cores = build.cores;
    let most = [cores.performance as f64, cores.efficient as f64, cores.low_power as f64];
    let mut busy = [1.0_f64.min(most[0]), 0.0, 0.0];
    for class in [2, 1, 0] {
        let mut one_more = [0.0; 3];
        one_more[class] = 1.0;
        let each = watts_at_full_clock(one_more) - watts_at_full_clock([0.0; 3]);
        let room = ((budget - watts_at_full_clock(busy)) / each).max(0.0);
        busy[class] += room.min(most[class] - busy[class]);
    }
    work_per_second(busy)
}

#[cfg(test)]
mod tests {
    use super::work_per_second_at;
    use crate::simulation::plant::{BASE, Build};

    #[test]
    fn a_thin_laptop_at_95_degrees_does_what_its_watts_allow() {
        // 65 K over 1.6 K/W are 40.6 W: one P, two LP-E, and 24.7 W of E.
        let thin = Build { sink_resistance: 1.0, ..BASE };
        let work = work_per_second_at(&thin, 95.0);
        assert!((work - (1.0 + 0.56 + 0.52 * 24.725 / 3.2)).abs() < 1e-9, "{work}");
    }
}
