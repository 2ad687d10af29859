//! How long servers took to answer, for operators: sums and counts, never addresses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ecosystem::Ecosystem;

const PLACES: usize = 2 * Ecosystem::ALL.len();

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Metadata of an ecosystem.
    Registry(Ecosystem),
    /// Its artefacts.
    Files(Ecosystem),
}

/// What all calls took, those that failed among them. Each number is read by itself.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    calls: [AtomicU64; PLACES],
    took_ns: [AtomicU64; PLACES],
}

impl Service {
    /// All that are asked over HTTP, with their names for programs.
    const ALL: [(Self, &'static str); 6] = [
        (Self::Registry(Ecosystem::Npm), "npm"),
        (Self::Registry(Ecosystem::Pypi), "pypi"),
        (Self::Registry(Ecosystem::Cargo), "cargo"),
        (Self::Files(Ecosystem::Npm), "npm-files"),
        (Self::Files(Ecosystem::Pypi), "pypi-files"),
        (Self::Files(Ecosystem::Cargo), "cargo-files"),
    ];

    fn place(self) -> usize {
        let of = |ecosystem| Ecosystem::ALL.into_iter().position(|one| one == ecosystem);
        match self {
            Self::Registry(ecosystem) => of(ecosystem).unwrap_or_default(),
            Self::Files(ecosystem) => Ecosystem::ALL.len() + of(ecosystem).unwrap_or_default(),
        }
    }
}

impl Outside {
    /// One call to one server is over, well or not.
    pub(crate) fn note(&self, service: Service, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.calls[service.place()].fetch_add(1, Ordering::Relaxed);
        self.took_ns[service.place()].fetch_add(took_ns, Ordering::Relaxed);
    }

    /// By service: how many calls there were, and the nanoseconds that they took.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        Service::ALL.into_iter().map(|(service, name)| {
            let of = |sums: &[AtomicU64]| sums[service.place()].load(Ordering::Relaxed);
            (name, of(&self.calls), of(&self.took_ns))
        })
    }
}
