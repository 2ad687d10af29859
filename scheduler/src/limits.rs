//! Every bound of the scheduler, with its unit and its reason.

use std::time::Duration;

/// Parallel jobs at which throughput per watt is best on the tuned machine; cut to the CPUs that may be used.
pub const JOBS_OPTIMAL: usize = 8;

/// Parallel jobs never exceeded: the physical cores of the largest tuned machine (6 P + 8 E + 2 LP-E).
pub const JOBS_MAX: usize = 16;

/// Threads of one lane: each of the admitted jobs has one, and the resolution that may exceed the slots by one, so that nothing that
/// was admitted waits for a thread.
pub const LANE_WORKERS_MAX: usize = JOBS_MAX + 1;

/// Pieces of background work at once: nobody waits for them.
pub const BACKGROUND_MAX: usize = 1;

/// Transfers from networks at once, each of one request with connections of its own: they wait more than they compute.
pub const DOWNLOADS_MAX: usize = 16;

/// Requests that wait or run in one process: more callers than an agent's host lets in at once.
pub const REQUESTS_MAX: usize = 4096;

/// A request that waits rises by one priority after so long: the least urgent one passes a stream of the most urgent within half a minute.
pub const AGE_STEP: Duration = Duration::from_secs(2);

/// Longest time that heavy or background work waits for a cool machine. Then it runs alone.
pub const DEFER_MAX: Duration = Duration::from_secs(600);

/// How often somebody who waits looks whether his work is still wanted: work stops within 100 ms of being abandoned.
pub const CANCELLATION_INTERVAL: Duration = Duration::from_millis(50);

/// Stack of a worker: a resolution goes deep, and has as much where it runs on a thread of a call.
pub const WORKER_STACK_BYTES: usize = 4 * 1024 * 1024;

const _: () = assert!(JOBS_OPTIMAL <= JOBS_MAX && BACKGROUND_MAX <= LANE_WORKERS_MAX);
