//! Reasons and options as numbers, and the order of the counters.

use super::Unreadable;
use super::read::Field;
use crate::exchange::queue::{Counters, DeadReason, DropReason, Durable, ReturnReason, WhenFull};

pub(super) fn counter_fields(counters: &mut Counters) -> [&mut u64; 9 + DropReason::COUNT] {
    let [displaced, full, asked] = &mut counters.dropped;
    [
        &mut counters.put,
        &mut counters.delivered,
        &mut counters.redelivered,
        &mut counters.acked,
        &mut counters.returned,
        &mut counters.handed_over,
        &mut counters.expired,
        &mut counters.exhausted,
        &mut counters.requeued,
        displaced,
        full,
        asked,
    ]
}

pub(super) fn when_full_code(when: WhenFull) -> u8 {
    match when {
        WhenFull::Reject => 1,
        WhenFull::DropOldest => 2,
        WhenFull::Wait => 3,
    }
}

pub(super) fn when_full(code: u8) -> Field<WhenFull> {
    match code {
        1 => Ok(WhenFull::Reject),
        2 => Ok(WhenFull::DropOldest),
        3 => Ok(WhenFull::Wait),
        _ => Err(Unreadable("options")),
    }
}

pub(super) fn durable_code(durable: Durable) -> u8 {
    match durable {
        Durable::No => 0,
        Durable::Stored => 1,
        Durable::Synced => 2,
    }
}

pub(super) fn durable(code: u8) -> Field<Durable> {
    match code {
        1 => Ok(Durable::Stored),
        2 => Ok(Durable::Synced),
        // One that is not durable has no journal.
        _ => Err(Unreadable("options")),
    }
}

pub(super) fn return_code(reason: ReturnReason) -> u8 {
    match reason {
        ReturnReason::LeaseExpired => 1,
        ReturnReason::Nacked => 2,
        ReturnReason::WorkerGone => 3,
        ReturnReason::Restarted => 4,
        ReturnReason::Untold => 5,
    }
}

pub(super) fn return_reason(code: u8) -> Field<ReturnReason> {
    match code {
        1 => Ok(ReturnReason::LeaseExpired),
        2 => Ok(ReturnReason::Nacked),
        3 => Ok(ReturnReason::WorkerGone),
        4 => Ok(ReturnReason::Restarted),
        5 => Ok(ReturnReason::Untold),
        _ => Err(Unreadable("reason")),
    }
}

pub(super) fn dead_code(reason: DeadReason) -> u8 {
    match reason {
        DeadReason::Expired => 0,
        DeadReason::DeliveriesExhausted(how) => return_code(how),
    }
}

pub(super) fn dead_reason(code: u8) -> Field<DeadReason> {
    match code {
        0 => Ok(DeadReason::Expired),
        _ => return_reason(code).map(DeadReason::DeliveriesExhausted),
    }
}
