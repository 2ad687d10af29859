//! The machine and the work of the pools in Prometheus' form: temperature, state, slots, what waits. An unknown temperature is absent.

use prometheus::proto::MetricFamily;
use scheduler::admission::Reason;
use scheduler::decision::State;
use scheduler::placement::Lane;

use super::{Sample, counter, gauge, sample, sample_of};
use crate::daemon::snapshot::{Governor, Machine, WorkStatus};

/// What the governor last said.
pub(super) fn families(machine: &Machine, work: &WorkStatus) -> Vec<MetricFamily> {
    let mut families = thermal(machine);
    families.extend(slots(machine, work));
    families.extend(waiting(work));
    families
}

/// There even where nothing was decided yet.
pub(super) fn decision_age(governor: &Governor) -> MetricFamily {
    gauge(
        "bolide_governor_decision_age_seconds",
        "How old the governor's last decision is, or the daemon where there was none.",
        [sample_of(&[], governor.decision_age_seconds)],
    )
}

fn thermal(machine: &Machine) -> Vec<MetricFamily> {
    let thermal = &machine.thermal;
    let celsius = thermal.celsius.map(|celsius| sample_of(&[], celsius));
    let states = State::ALL.map(|state| {
        let is_it = thermal.state == state.name();
        sample(&[("state", state.name())], u64::from(is_it))
    });
    let failures = thermal.failures.iter();
    let failures = failures.map(|(reason, count)| sample(&[("reason", reason)], *count));
    vec![
        gauge(
            "bolide_thermal_package_celsius",
            "Temperature of the processor package; absent while it is not known.",
            celsius,
        ),
        gauge(
            "bolide_thermal_state",
            "1 for the thermal state of the machine, 0 for all others.",
            states,
        ),
        counter(
            "bolide_thermal_sensor_reads_total",
            "How often the package temperature was read.",
            [sample(&[], thermal.reads)],
        ),
        counter(
            "bolide_thermal_sensor_read_failures_total",
            "Readings that gave no temperature, by reason.",
            failures,
        ),
    ]
}

fn slots(machine: &Machine, work: &WorkStatus) -> Vec<MetricFamily> {
    let by_class = |numbers: &std::collections::BTreeMap<&'static str, usize>| -> Vec<Sample> {
        numbers.iter().map(|(class, count)| sample(&[("class", class)], *count as u64)).collect()
    };
    let running = Lane::ALL.into_iter().zip(work.running);
    let running = running.map(|(lane, count)| sample(&[("class", lane.name())], count.into()));
    let changes = machine.changes.iter().map(|change| {
        sample(&[("direction", change.direction), ("reason", change.reason)], change.count)
    });
    vec![
        gauge(
            "bolide_governor_slots",
            "Pieces of computing work that may run at once, by class of cores.",
            by_class(&machine.slots),
        ),
        gauge(
            "bolide_governor_inflight",
            "Pieces of work that run in hosted agents, by the lane of their workers.",
            running,
        ),
        counter(
            "bolide_governor_changes_total",
            "How often the number of slots changed, by direction and reason.",
            changes,
        ),
        gauge(
            "bolide_cpu_class_cpus",
            "Processors that may be used, by class.",
            by_class(&machine.cpus),
        ),
    ]
}

fn waiting(work: &WorkStatus) -> Vec<MetricFamily> {
    let reasons = || Reason::ALL.into_iter().map(Reason::name);
    let counts = |numbers: Vec<u64>| -> Vec<Sample> {
        reasons().zip(numbers).map(|(name, count)| sample(&[("reason", name)], count)).collect()
    };
    let seconds = reasons().zip(work.deferred_ns);
    let seconds = seconds.map(|(name, ns)| sample_of(&[("reason", name)], ns as f64 / 1e9));
    vec![
        gauge(
            "bolide_tasks_deferred",
            "Requests for work of hosted agents that wait to begin, by reason.",
            counts(work.waiting.iter().map(|count| u64::from(*count)).collect()),
        ),
        counter(
            "bolide_task_deferrals_total",
            "Requests for work of hosted agents that had to wait before they began, by reason.",
            counts(work.deferred.to_vec()),
        ),
        counter(
            "bolide_task_defer_seconds_total",
            "How long they waited, those that wait no more.",
            seconds,
        ),
    ]
}
