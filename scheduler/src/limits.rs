//! Every bound of the scheduler, with its unit and its reason.

/// Parallel jobs at which throughput per watt is best on the tuned machine; cut to the CPUs that may be used.
pub const JOBS_OPTIMAL: usize = 8;

/// Parallel jobs never exceeded: the physical cores of the largest tuned machine (6 P + 8 E + 2 LP-E).
pub const JOBS_MAX: usize = 16;

/// Resolutions at once: each is one thread on a P core, and a requester waits for each.
pub const RESOLVE_MAX: usize = 2;

/// Pieces of background work at once: nobody waits for them.
pub const BACKGROUND_MAX: usize = 1;

const _: () = assert!(JOBS_OPTIMAL <= JOBS_MAX && RESOLVE_MAX <= JOBS_OPTIMAL);
