//! A decision as the numbers of the directory, and back. What comes back is foreign: any numbers give a decision, an unknown state the
//! one that allows least.

use std::time::Duration;

use ipc::directory::MachineEntry;
use rustix::time::{ClockId, clock_gettime};
use scheduler::decision::{Background, Decision, Slots, State};
use scheduler::limits::JOBS_MAX;
use scheduler::placement::Pinning;

use crate::limits::DECISION_AGE_MAX;

/// Nanoseconds of the clock that all processes of a machine share.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Since the start of the machine, suspend included.
pub(super) fn boot_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// The decision's part of an entry.
pub(crate) fn entry_of(decision: Decision) -> MachineEntry {
    let Slots { performance, efficient, low_power } = decision.slots;
    MachineEntry {
        decided_ns: monotonic_ns(),
        state: state_number(decision.state),
        heavy: decision.heavy,
        background: match decision.background {
            Background::Efficient => 0,
            Background::LowPower => 1,
            Background::Paused => 2,
        },
        slots: [performance, efficient, low_power].map(|slots| slots as u32),
        ..MachineEntry::default()
    }
}

/// An entry as it counts now: one that is too old says nothing of the temperature any more.
pub(crate) fn as_of_now(entry: MachineEntry) -> MachineEntry {
    let age = monotonic_ns().saturating_sub(entry.decided_ns);
    if u128::from(age) <= DECISION_AGE_MAX.as_nanos() {
        return entry;
    }
    MachineEntry { state: state_number(State::Blind), heavy: false, millicelsius: None, ..entry }
}

fn state_number(state: State) -> u8 {
    State::ALL.iter().position(|one| *one == state).unwrap_or_default() as u8 + 1
}

/// How workers are to be held, as a number of an entry.
pub(crate) fn pinning_number(pinning: Pinning) -> u8 {
    pinning as u8 + 1
}

/// What such a number stands for.
pub(crate) fn pinning_of(entry: &MachineEntry) -> Option<Pinning> {
    Pinning::ALL.get(usize::from(entry.pinning).wrapping_sub(1)).copied()
}

/// The decision that an entry stands for.
pub(crate) fn decision_of(entry: &MachineEntry) -> Decision {
    let [performance, efficient, low_power] =
        entry.slots.map(|slots| usize::try_from(slots).unwrap_or(JOBS_MAX).min(JOBS_MAX));
    let known = State::ALL.get(usize::from(entry.state).wrapping_sub(1));
    Decision {
        state: known.copied().unwrap_or(State::Blind),
        slots: Slots { performance, efficient, low_power }.with_resolution(),
        heavy: entry.heavy && known.is_some(),
        background: match entry.background {
            0 => Background::Efficient,
            1 => Background::LowPower,
            _ => Background::Paused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_comes_back() {
        for state in State::ALL {
            for background in [Background::Efficient, Background::LowPower, Background::Paused] {
                let slots = Slots { performance: 6, efficient: 8, low_power: 2 };
                let decision = Decision { state, slots, heavy: true, background };
                assert_eq!(decision_of(&entry_of(decision)), decision);
            }
        }
    }

    #[test]
    fn an_entry_that_nobody_renewed_says_nothing_of_the_temperature() {
        let slots = Slots { performance: 6, efficient: 8, low_power: 2 };
        let background = Background::Efficient;
        let decision = Decision { state: State::Optimal, slots, heavy: true, background };
        let fresh = MachineEntry { millicelsius: Some(61_000), ..entry_of(decision) };
        assert_eq!(as_of_now(fresh), fresh);
        let old =
            MachineEntry { decided_ns: fresh.decided_ns.saturating_sub(60_000_000_000), ..fresh };
        let now = as_of_now(old);
        assert_eq!(now.millicelsius, None);
        assert_eq!(decision_of(&now), Decision { state: State::Blind, heavy: false, ..decision });
    }

    #[test]
    fn every_way_to_pin_comes_back_and_an_unknown_one_says_nothing() {
        let entry = |pinning| MachineEntry { pinning, ..MachineEntry::default() };
        for pinning in Pinning::ALL {
            assert_eq!(pinning_of(&entry(pinning_number(pinning))), Some(pinning));
        }
        assert_eq!([0, 4, 255].map(|number| pinning_of(&entry(number))), [None; 3]);
    }

    #[test]
    fn numbers_that_mean_nothing_allow_little() {
        let absurd =
            MachineEntry { state: 99, heavy: true, background: 99, ..MachineEntry::default() };
        let decision = decision_of(&absurd);
        assert_eq!((decision.state, decision.heavy), (State::Blind, false));
        assert_eq!((decision.slots.performance, decision.background), (1, Background::Paused));
        let efficient = decision_of(&MachineEntry { slots: [0, 4, 0], ..absurd }).slots;
        assert_eq!((efficient.performance, efficient.sum()), (1, 4), "no more than was decided");
        let slots = [u32::MAX; 3];
        assert!(decision_of(&MachineEntry { slots, ..absurd }).slots.sum() <= 3 * JOBS_MAX);
    }
}
