//! The root under which `/sys` and `/proc` are read, so that a recorded or generated tree can be the machine.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::limits::{SYSFS_ENTRIES_MAX, SYSFS_FILE_BYTES_MAX};

/// The place that stands for `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    prefix: PathBuf,
}

impl Root {
    /// This machine.
    pub fn machine() -> Self {
        Self { prefix: PathBuf::from("/") }
    }

    /// A tree in the place of `/`; the affinity of the running process then does not count.
    pub fn at(prefix: impl Into<PathBuf>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Whether this is the running machine.
    pub fn is_machine(&self) -> bool {
        self.prefix == Path::new("/")
    }

    /// Reads one file with one system call after opening it; sysfs may answer `EAGAIN` for ever to a loop.
    ///
    /// `None` where it cannot be opened or read, is empty, is longer than a page, or is not UTF-8.
    pub fn read(&self, path: &str) -> Option<String> {
        let mut file = File::open(self.resolve(path)).ok()?;
        let mut buffer = [0; SYSFS_FILE_BYTES_MAX];
        let size = file.read(&mut buffer).ok()?;
        let text = std::str::from_utf8(&buffer[..size]).ok()?.trim();
        (size < SYSFS_FILE_BYTES_MAX && !text.is_empty()).then(|| text.to_owned())
    }

    /// The names in a directory, sorted; empty where it cannot be read.
    pub fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.resolve(path)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(SYSFS_ENTRIES_MAX)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    fn resolve(&self, path: &str) -> PathBuf {
        self.prefix.join(path.trim_start_matches('/'))
    }
}
