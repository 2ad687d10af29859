//! The state machine's words as those of the wire.

use agents_contract::ToolError;
use ipc::exchange::queue as wire;

use crate::exchange::queue::{Durable, ItemId, Options, PutAnswer, QueueView, Rejection, WhenFull};

pub(super) fn options_of(options: &wire::Options) -> Options {
    Options {
        items_max: options.items_max,
        bytes_max: options.bytes_max,
        lease_ns: options.lease_ns,
        lease_total_ns: options.lease_total_ns,
        deliveries_max: options.deliveries_max,
        when_full: match options.when_full {
            wire::WhenFull::Reject => WhenFull::Reject,
            wire::WhenFull::DropOldest => WhenFull::DropOldest,
            wire::WhenFull::Wait => WhenFull::Wait,
        },
        durable: match options.durable {
            wire::Durable::No => Durable::No,
            wire::Durable::Stored => Durable::Stored,
            wire::Durable::Synced => Durable::Synced,
        },
        ..Options::default()
    }
}

pub(super) fn outcome_of(item: ItemId, answer: PutAnswer) -> wire::PutOutcome {
    match answer {
        PutAnswer::Stored => wire::PutOutcome::Stored { item: item.0 },
        PutAnswer::Duplicate { first } => wire::PutOutcome::Duplicate { item: first.0 },
        PutAnswer::Rejected(rejection) => wire::PutOutcome::Rejected {
            reason: match rejection {
                Rejection::Full => 1,
                Rejection::WaitedInVain => 2,
                Rejection::TooManyWait => 3,
                Rejection::TooLarge => 4,
                Rejection::Expired => 5,
                Rejection::ItemIdInUse | Rejection::SenderGone => 6,
                Rejection::Withdrawn => 7,
            },
        },
    }
}

pub(super) fn encoded_status(view: &QueueView) -> Vec<u8> {
    let (counters, refusals) = (&view.counters, &view.refusals);
    let status = wire::Status {
        ready: view.ready_count,
        leased: view.leased_count,
        delayed: view.delayed_count,
        dead: view.dead_count,
        bytes: view.bytes,
        takers: view.takers_count,
        putters: view.putters_count,
        stored: counters.put,
        delivered: counters.delivered,
        acked: counters.acked,
        redelivered: counters.redelivered,
        returned: counters.returned,
        died: counters.expired + counters.exhausted,
        dropped: counters.dropped.iter().sum(),
        rejected: refusals.rejected.iter().sum(),
        stale: refusals.stale,
    };
    status.encode()
}

pub(in crate::exchange) fn refusal(code: &str, message: String) -> ToolError {
    ToolError { exit_code: 1, code: code.to_owned(), message, hint: None, retry: false }
}

pub(in crate::exchange) fn encoded(error: &ToolError) -> Vec<u8> {
    let mut payload = Vec::new();
    // Into memory, and every field has a CBOR form.
    let _ = ciborium::into_writer(error, &mut payload);
    payload
}
