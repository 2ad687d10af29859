//! What tells one state of a file from another: what is remembered of a file is believed as long as it is the same.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A file at one state. Times are seconds and nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// The one that a status tells.
    pub(crate) fn of(status: &Metadata) -> Self {
        Self {
            device: status.dev(),
            inode: status.ino(),
            size: status.size(),
            modified: (status.mtime(), status.mtime_nsec()),
            changed: (status.ctime(), status.ctime_nsec()),
        }
    }

    /// Of what a path leads to in the end; nothing where that cannot be said.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|status| Self::of(&status))
    }

    /// Seconds of the last change, from 1970 on.
    pub(crate) fn changed_seconds(&self) -> i64 {
        self.changed.0
    }
}
