//! Every bound of the C library, with its unit and its reason. What the bus itself bounds is in `ipc::limits`.

/// Events that a program has not asked for, per client. A program that never asks loses the oldest ones.
pub(crate) const EVENTS_KEPT_MAX: usize = 1_024;
/// Offered links and topics that were shown and neither taken nor declined, per client; each holds up to five descriptors,
/// of which a process may have 1,024 by default.
pub(crate) const OFFERS_HELD_MAX: usize = 128;
/// Requests of one link whose last answer has not come. Far more than a peer serves at once.
pub(crate) const REQUESTS_LIVE_MAX: usize = 1_024;
/// The longest wait, in milliseconds: ten years, which no clock overflows. Nobody can tell it from a wait without end.
pub(crate) const WAIT_MS_MAX: i64 = 10 * 365 * 24 * 3_600 * 1_000;
/// A reader that never sleeps looks this often whether the router is still there, in milliseconds. A look costs about a
/// microsecond.
pub(crate) const ROUTER_LOOK_MS: u64 = 10;
/// Polls between two looks at the clock while a reader spins for a bounded time: about a microsecond.
pub(crate) const POLLS_PER_LOOK: u32 = 32;
/// The longest path of a Unix socket, in bytes, with its end.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 108;
/// The longest text of a tool's error, in bytes; the bus carries more, people read less.
pub(crate) const TEXT_BYTES_MAX: usize = ipc::limits::TEXT_BYTES_MAX;
/// Lanes that one wait takes.
pub(crate) const LANES_PER_WAIT_MAX: usize = ipc::limits::BELLS_MAX;
