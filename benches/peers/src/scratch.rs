//! What a program leaves on the file system, and its removal.

use std::path::Path;

/// Removes the directory of this run with all that is in it.
pub fn remove_directory(scratch: &Path) {
    if let Err(error) = std::fs::remove_dir_all(scratch)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("cannot remove `{}`: {error}", scratch.display());
    }
}

/// Removes the files of `directory` whose names start with `prefix`.
pub fn remove_files_with_prefix(directory: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // Another process of the run may have removed it just now.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
