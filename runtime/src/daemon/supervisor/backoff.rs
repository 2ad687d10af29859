//! When an agent that ended is started again: pure over how it has fared so far.

use std::time::Duration;

use crate::limits::{
    RESTART_DELAY_MAX, RESTART_DELAY_MIN, RESTART_FORGET_AFTER, RESTARTS_IN_A_ROW_MAX,
};

/// How often an agent ended without having lived long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    in_a_row: u32,
}

/// What to do with an agent that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after this long.
    RestartAfter(Duration),
    /// Leave it: it ended too often.
    GiveUp,
}

/// What follows from one more end after a life of `lived`.
pub(crate) fn judge(record: Record, lived: Duration) -> (Record, Verdict) {
    let in_a_row = if lived >= RESTART_FORGET_AFTER { 0 } else { record.in_a_row };
    if in_a_row >= RESTARTS_IN_A_ROW_MAX {
        return (record, Verdict::GiveUp);
    }
    let delay = RESTART_DELAY_MIN.saturating_mul(1 << in_a_row.min(16)).min(RESTART_DELAY_MAX);
    (Record { in_a_row: in_a_row + 1 }, Verdict::RestartAfter(delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_bound_and_then_it_gives_up() {
        let mut record = Record::default();
        let mut delays = Vec::new();
        loop {
            let (next, verdict) = judge(record, Duration::ZERO);
            record = next;
            match verdict {
                Verdict::RestartAfter(delay) => delays.push(delay),
                Verdict::GiveUp => break,
            }
        }
        assert_eq!(delays.len(), RESTARTS_IN_A_ROW_MAX as usize);
        assert_eq!(delays[0], RESTART_DELAY_MIN);
        assert_eq!(delays[3], RESTART_DELAY_MIN * 8);
        assert!(delays.is_sorted());
        assert_eq!(delays.last(), Some(&RESTART_DELAY_MAX));
        assert_eq!(judge(record, Duration::ZERO).1, Verdict::GiveUp);
    }

    #[test]
    fn a_long_life_wipes_the_record() {
        let worn = Record { in_a_row: RESTARTS_IN_A_ROW_MAX };
        let (record, verdict) = judge(worn, RESTART_FORGET_AFTER);
        assert_eq!(verdict, Verdict::RestartAfter(RESTART_DELAY_MIN));
        assert_eq!(record, Record { in_a_row: 1 });
    }
}
