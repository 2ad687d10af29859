//! What the Packager measures of itself, for operators. Counters that only grow, but for what is so at the moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agents_contract::Figure;

use crate::ecosystem::Ecosystem;
use crate::unpack::Unpacker;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transacted {
    Committed,
    Failed,
    RolledBack,
}

/// What came of a change in a watched project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Applied,
    Approval,
    Conflict,
    Failed,
    InLine,
    Planned,
}

impl Trigger {
    const ALL: [Self; 6] =
        [Self::Applied, Self::Approval, Self::Conflict, Self::Failed, Self::InLine, Self::Planned];

    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Approval => "approval",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::InLine => "in-line",
            Self::Planned => "planned",
        }
    }
}

/// All of them. They order nothing: each is read by itself.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    transactions: [AtomicU64; 3],
    resolutions: [AtomicU64; Ecosystem::ALL.len()],
    resolution_ns: [AtomicU64; Ecosystem::ALL.len()],
    download_bytes: [AtomicU64; Ecosystem::ALL.len()],
    cache_requests: [AtomicU64; 3],
    triggers: [AtomicU64; Trigger::ALL.len()],
    watched: AtomicU64,
    watch_deferred: [AtomicU64; 3],
}

impl Measures {
    /// A transaction ended.
    pub(crate) fn transacted(&self, how: Transacted) {
        add(&self.transactions[how as usize], 1);
    }

    /// An ecosystem's part of a plan was decided, well or not.
    pub(crate) fn resolved(&self, ecosystem: Ecosystem, took: Duration) {
        add(&self.resolutions[place(ecosystem)], 1);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.resolution_ns[place(ecosystem)], took);
    }

    /// Bytes of an artefact came.
    pub(crate) fn downloaded(&self, ecosystem: Ecosystem, bytes: u64) {
        add(&self.download_bytes[place(ecosystem)], bytes);
    }

    /// So many artefacts that were needed were in the store, and so many were not.
    pub(crate) fn looked_for(&self, hits: usize, misses: usize) {
        add(&self.cache_requests[1], hits as u64);
        add(&self.cache_requests[2], misses as u64);
    }

    /// The store turned out to be damaged.
    pub(crate) fn found_damage(&self) {
        add(&self.cache_requests[0], 1);
    }

    /// A change in a watched project was answered.
    pub(crate) fn triggered(&self, how: Trigger) {
        add(&self.triggers[how as usize], 1);
    }

    /// So many projects are watched now.
    pub(crate) fn watches(&self, count: usize) {
        self.watched.store(count as u64, Ordering::Relaxed);
    }

    /// So many changes in watched projects wait now: for heat, until it is known how hot it is, for their turn. Whether these are others
    /// than before; one thread writes them.
    pub(crate) fn watch_deferred(&self, waiting: [u64; 3]) -> bool {
        let both = self.watch_deferred.iter().zip(waiting);
        both.fold(false, |differs, (kept, now)| kept.swap(now, Ordering::Relaxed) != now || differs)
    }

    /// All values under the names that the runtime knows.
    pub(crate) fn figures(&self, unpacker: &Unpacker) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut tell = |name, labels: &[&'static str], values: &[AtomicU64]| {
            let both = labels.iter().zip(values);
            figures.extend(both.map(|(label, value)| {
                let value = value.load(Ordering::Relaxed);
                Figure { name, label, value }
            }));
        };
        let ecosystems = Ecosystem::ALL.map(Ecosystem::as_str);
        tell("transactions", &["committed", "failed", "rolled-back"], &self.transactions);
        tell("resolutions", &ecosystems, &self.resolutions);
        tell("resolution-ns", &ecosystems, &self.resolution_ns);
        tell("download-bytes", &ecosystems, &self.download_bytes);
        tell("cache-requests", &["damaged", "hit", "miss"], &self.cache_requests);
        tell("triggers", &Trigger::ALL.map(Trigger::name), &self.triggers);
        tell("watched", &[""], std::slice::from_ref(&self.watched));
        tell("watch-deferred", &["heat", "blind", "turn"], &self.watch_deferred);
        let (started, failed) = unpacker.counts();
        tell("readers", &["failed", "started"], &[failed.into(), started.into()]);
        // Which locks hold is known when there was something to lock in.
        if let Some(isolation) = unpacker.isolation() {
            let landlock = u64::from(isolation.landlock > 0);
            tell("readers-held", &["landlock", "seccomp"], &[landlock.into(), 1.into()]);
        }
        figures
    }
}

fn place(ecosystem: Ecosystem) -> usize {
    Ecosystem::ALL.into_iter().position(|one| one == ecosystem).unwrap_or_default()
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
