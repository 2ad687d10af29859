//! How much room a directory takes, whatever is in it and whoever changes it meanwhile.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: u64,
    /// Files and directories.
    pub(super) files: usize,
    /// Bytes of the largest file.
    pub(super) largest_bytes: u64,
}

/// Everything below, as far as it is counted: no directory is opened once there are so many files.
pub(super) fn of(path: &Path, files_max: usize) -> Size {
    /// What `st_blocks` counts in, whatever the disk does.
    const BLOCK_BYTES: u64 = 512;
    let (mut left, mut size) = (vec![path.to_owned()], Size::default());
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            size.files += 1;
            if size.files > files_max {
                return size;
            }
            let Ok(status) = entry.metadata() else { continue };
            // A small file takes a whole block of the disk.
            let bytes = status.len().max(status.blocks().saturating_mul(BLOCK_BYTES));
            size.bytes = size.bytes.saturating_add(bytes);
            size.largest_bytes = size.largest_bytes.max(status.len());
            if status.is_dir() {
                left.push(entry.path());
            }
        }
    }
    size
}
