//! Every bound of the work queues, with its unit and its reason. What one queue has of them is its
//! `Options`; these are what options may ask for.

/// Queues at once. Two for each of a hundred agents, and room.
pub(crate) const QUEUES_MAX: usize = 256;
/// Bytes of a queue's name: what the wire lets through as a subject.
pub(crate) const NAME_BYTES_MAX: usize = ipc::limits::WORD_BYTES_MAX;
/// Items of one queue, dead letters apart. An item costs about 250 bytes beside its payload, so a full
/// queue of empty items is 64 MiB.
pub(crate) const ITEMS_MAX: u32 = 262_144;
/// Items and dead letters that all queues together may be declared for: four of the largest, 256 MiB
/// of bookkeeping.
pub(crate) const ITEMS_TOTAL_MAX: u64 = 4 * ITEMS_MAX as u64;
/// Payload bytes of one queue; also of its dead letters, and of its waiting puts.
pub(crate) const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Payload bytes that all queues together may be declared for.
pub(crate) const BYTES_TOTAL_MAX: u64 = 4 * BYTES_MAX;
/// Payload bytes of one item: what one message carries beside the rest of a delivery.
pub(crate) const ITEM_BYTES_MAX: u64 = ipc::exchange::queue::ITEM_BYTES_MAX as u64;
/// The shortest lease, in nanoseconds: a worker on a loaded machine needs a few milliseconds to be
/// scheduled at all.
pub(crate) const LEASE_NS_MIN: u64 = 1_000_000;
/// The longest lease without an extension, in nanoseconds: a day. Who works longer says so meanwhile.
pub(crate) const LEASE_NS_MAX: u64 = 24 * 3600 * 1_000_000_000;
/// The longest lease with all its extensions, in nanoseconds: a week.
pub(crate) const LEASE_TOTAL_NS_MAX: u64 = 7 * LEASE_NS_MAX;
/// The longest delay that a worker may ask for when it gives an item back, in nanoseconds: a day.
pub(crate) const DELAY_NS_MAX: u64 = LEASE_NS_MAX;
/// Deliveries of one item before it is dead; more than this is a loop.
pub(crate) const DELIVERIES_MAX: u32 = 1_000;
/// Items that one take may ask for: what a worker could reasonably hold at once.
pub(crate) const TAKE_ITEMS_MAX: u32 = 1_024;
/// Takes of one queue that wait: eight of each agent that the bus admits.
pub(crate) const TAKERS_MAX: u32 = 4_096;
/// Puts of one queue that wait for room, likewise.
pub(crate) const PUTTERS_MAX: u32 = 4_096;
/// Deduplication ids that one queue remembers; each costs about 100 bytes.
pub(crate) const DEDUP_MAX: u32 = 65_536;

const _: () = assert!(LEASE_NS_MIN < LEASE_NS_MAX && LEASE_NS_MAX <= LEASE_TOTAL_NS_MAX);
const _: () = assert!(ITEM_BYTES_MAX <= BYTES_MAX);
const _: () = assert!(TAKE_ITEMS_MAX <= ITEMS_MAX);
