//! What is shown of a governor that says nothing any more: its thread hangs (a file of the kernel that is never read to its end), or never
//! was. Pure. Hosted agents judge by the same age of the same decision, each by itself (`host`).

use std::time::Duration;

use scheduler::decision::State;

use crate::daemon::snapshot::{Governor, Machine};
use crate::limits::DECISION_AGE_MAX;

/// What is to be said of a governor whose last decision is so old; `is_first` where there was none, and `age` counts from the start.
pub(crate) fn governor(age: Duration, is_first: bool) -> Governor {
    let since = if is_first { "since the daemon's start" } else { "since the last decision" };
    let silent = (age > DECISION_AGE_MAX).then(|| {
        format!(
            "nobody decides what may run, {} s {since}: what looks at the machine hangs or is \
             gone; until it decides again hosted agents begin little, and nothing large that has \
             not waited ten minutes",
            age.as_secs()
        )
    });
    Governor { decision_age_seconds: age.as_secs_f64(), silent }
}

/// The machine as it counts while nobody decides: what was measured last says nothing of now.
pub(crate) fn unseen(mut machine: Machine) -> Machine {
    machine.thermal.state = State::Blind.name();
    machine.thermal.celsius = None;
    machine.heavy = false;
    machine.why = "silent";
    machine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::metrics::tests::snapshot;

    #[test]
    fn a_decision_holds_until_it_is_older_than_agents_believe_it() {
        assert_eq!(governor(DECISION_AGE_MAX, false).silent, None);
        assert_eq!(governor(DECISION_AGE_MAX, true).silent, None);
        let old = DECISION_AGE_MAX + Duration::from_millis(1);
        for (is_first, since) in [(true, "the daemon's start"), (false, "the last decision")] {
            let governor = governor(old, is_first);
            assert!(governor.silent.unwrap().contains(since));
            assert_eq!(governor.decision_age_seconds, old.as_secs_f64());
        }
    }

    #[test]
    fn what_was_measured_long_ago_is_not_shown_as_if_it_were_so() {
        let before = snapshot().machine.unwrap();
        assert!(before.heavy && before.thermal.celsius.is_some());
        let after = unseen(before.clone());
        assert_eq!((after.thermal.state, after.thermal.celsius), ("blind", None));
        assert!(!after.heavy);
        assert_eq!((after.slots, after.cpus), (before.slots, before.cpus));
    }
}
