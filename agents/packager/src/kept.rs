//! What was found out once, kept in files for the processes that come after: a bounded number of them in a folder.
//!
//! What a name stands for, and until when it holds, is the business of whoever keeps it.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Keeps something at `place`. Where its folder has `most` already, those go: who changes what they follow from all the time
/// leaves some behind that nobody asks for again. Nothing where it cannot be written.
pub(crate) fn keep(place: &Path, what: &impl Serialize, most: usize) -> Option<()> {
    let directory = place.parent()?;
    std::fs::create_dir_all(directory).ok()?;
    let entries = std::fs::read_dir(directory).ok()?;
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if paths.len() >= most {
        for path in paths {
            let _ = std::fs::remove_file(path);
        }
    }
    // In its place at once: one that is torn does not parse, and is found out and written anew.
    std::fs::write(place, serde_json::to_vec(what).ok()?).ok()
}
