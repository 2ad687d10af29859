//! Which kernel features this machine has, by trying them or by release, each with what happens without it.

use rustix::fs::{MemfdFlags, memfd_create};

use crate::root::Root;

/// One feature: its name in `doctor --json`, whether it is there, and what happens without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The release that brought it.
    pub since: &'static str,
    /// Whether this kernel has it.
    pub present: bool,
    /// What Bolide does without it.
    pub without: &'static str,
}

/// The kernel's release, major and minor; `None` where it cannot be read.
pub fn release(root: &Root) -> Option<(u32, u32)> {
    let text = root.read("proc/sys/kernel/osrelease")?;
    let mut numbers = text.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// All features that matter.
pub fn features(root: &Root) -> Vec<Feature> {
    let release = release(root).unwrap_or((0, 0));
    let sealing = root.is_machine()
        && memfd_create("bolide-probe", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).is_ok();
    let uring_disabled = root.read("proc/sys/kernel/io_uring_disabled");
    let uring = release >= (5, 6) && uring_disabled.as_deref().is_none_or(|value| value == "0");
    let without_seals = "no shared-memory lanes: the daemon does not start";
    vec![
        Feature { name: "memfd_seals", since: "3.17", present: sealing, without: without_seals },
        Feature {
            name: "seal_future_write",
            since: "5.1",
            present: release >= (5, 1),
            without: "no shared-memory lanes: the daemon does not start",
        },
        Feature {
            name: "pidfd",
            since: "5.3",
            present: release >= (5, 3),
            without: "the death of a peer is learnt from its socket alone",
        },
        Feature {
            name: "openat2",
            since: "5.6",
            present: release >= (5, 6),
            without: "paths beneath a project are checked component by component",
        },
        Feature {
            name: "futex_waitv",
            since: "5.16",
            present: release >= (5, 16),
            without: "a sleeping reader looks at the state of its lane in slices of time",
        },
        Feature {
            name: "so_peerpidfd",
            since: "6.5",
            present: release >= (6, 5),
            without: "the process descriptor is opened by number and checked by start time",
        },
        Feature {
            name: "io_uring",
            since: "5.6",
            present: uring,
            without: "the class HIGH falls to Unix sockets",
        },
    ]
}
