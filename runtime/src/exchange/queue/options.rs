//! What a queue is declared with.

use thiserror::Error;

use super::limits;

/// What happens to a put when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It is rejected.
    #[default]
    Reject,
    /// The oldest ready items of the least urgent levels make room, counted and told. Items more urgent
    /// than the new one, leased and delayed ones stay; if that is not enough, the put is rejected.
    DropOldest,
    /// It waits behind those that wait already, until its own time.
    Wait,
}

/// What a queue survives, and so when anybody is told of a change to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Nothing: it is in memory only.
    #[default]
    No,
    /// The death of every process: its changes are in the system's cache before they are told.
    Stored,
    /// The loss of power as well: its changes are on the disk before they are told.
    Synced,
}

/// The bounds and times of one queue; fixed once it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Items that are stored, dead letters apart.
    pub(crate) items_max: u32,
    /// Their payload bytes.
    pub(crate) bytes_max: u64,
    /// How long a delivery, an extension or a handoff lasts, in nanoseconds.
    pub(crate) lease_ns: u64,
    /// How long one delivery lasts with all its extensions and handoffs.
    pub(crate) lease_total_ns: u64,
    /// Deliveries of one item before it is dead. 1 means at most once.
    pub(crate) deliveries_max: u32,
    /// What happens when there is no room.
    pub(crate) when_full: WhenFull,
    /// Dead letters that are kept; the oldest go first, counted and told.
    pub(crate) dead_items_max: u32,
    /// Their payload bytes.
    pub(crate) dead_bytes_max: u64,
    /// Takes that wait.
    pub(crate) takers_max: u32,
    /// Puts that wait.
    pub(crate) putters_max: u32,
    /// Their payload bytes.
    pub(crate) putters_bytes_max: u64,
    /// The last so many deduplication ids are remembered.
    pub(crate) dedup_max: u32,
    /// What it survives.
    pub(crate) durable: Durable,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            items_max: 4_096,
            bytes_max: 16 * 1024 * 1024,
            lease_ns: 30_000_000_000,
            lease_total_ns: 3600 * 1_000_000_000,
            deliveries_max: 5,
            when_full: WhenFull::Reject,
            dead_items_max: 256,
            dead_bytes_max: 4 * 1024 * 1024,
            takers_max: 512,
            putters_max: 256,
            putters_bytes_max: 4 * 1024 * 1024,
            dedup_max: 1_024,
            durable: Durable::No,
        }
    }
}

/// An option outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("`{option}` must be {least} to {most}, got: {got}")]
pub(crate) struct OptionError {
    /// Which.
    pub(crate) option: &'static str,
    /// What was asked.
    pub(crate) got: u64,
    /// The least that may be.
    pub(crate) least: u64,
    /// The most that may be.
    pub(crate) most: u64,
}

impl Options {
    /// Whether every option is within the limits.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let items_max = u64::from(limits::ITEMS_MAX);
        let bounds = [
            ("items_max", u64::from(self.items_max), 1, items_max),
            ("bytes_max", self.bytes_max, 0, limits::BYTES_MAX),
            ("lease_ns", self.lease_ns, limits::LEASE_NS_MIN, limits::LEASE_NS_MAX),
            ("lease_total_ns", self.lease_total_ns, self.lease_ns, limits::LEASE_TOTAL_NS_MAX),
            ("deliveries_max", self.deliveries_max.into(), 1, limits::DELIVERIES_MAX.into()),
            ("dead_items_max", self.dead_items_max.into(), 0, items_max),
            ("dead_bytes_max", self.dead_bytes_max, 0, limits::BYTES_MAX),
            ("takers_max", self.takers_max.into(), 0, limits::TAKERS_MAX.into()),
            ("putters_max", self.putters_max.into(), 0, limits::PUTTERS_MAX.into()),
            ("putters_bytes_max", self.putters_bytes_max, 0, limits::BYTES_MAX),
            ("dedup_max", self.dedup_max.into(), 0, limits::DEDUP_MAX.into()),
        ];
        for (option, got, least, most) in bounds {
            if !(least..=most).contains(&got) {
                return Err(OptionError { option, got, least, most });
            }
        }
        Ok(())
    }

    /// Items that a queue of these options can hold, dead letters included.
    pub(super) fn items_total(&self) -> u64 {
        u64::from(self.items_max) + u64::from(self.dead_items_max)
    }

    /// Payload bytes that a queue of these options can hold, dead letters and waiting puts included.
    pub(super) fn bytes_total(&self) -> u64 {
        self.bytes_max + self.dead_bytes_max + self.putters_bytes_max
    }
}
