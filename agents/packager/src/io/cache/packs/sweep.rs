//! Removes the packs that nothing was appended to for longest.

use std::io::{ErrorKind, Result};
use std::path::Path;
use std::time::SystemTime;

use rustix::io::Errno;

use super::known::{outlasting, spoil};
use super::{Bounds, Held, Identity, Lock, data_path, index_path, numbers, options};
use crate::io::limits::PACKS_MAX;

/// A pack that may go.
struct Standing {
    /// When something was appended to it last.
    modified: SystemTime,
    weight: u64,
    number: u32,
}

/// Until nine tenths of what there may be are left; never one that a process appends to. Those count, but however many they are, a
/// quarter is left to the others.
pub(in crate::io::cache) fn sweep(directory: &Path, bounds: Bounds, lock: Lock) {
    let numbers = numbers(directory);
    // Where nothing can be locked nobody goes on with another's pack, so the numbers go before the bytes do.
    let is_without_numbers = numbers.len() >= PACKS_MAX as usize;
    let mut packs: Vec<Standing> =
        numbers.into_iter().filter_map(|it| standing(directory, it, bounds)).collect();
    let weight = |packs: &[Standing]| packs.iter().map(|pack| pack.weight).sum::<u64>();
    let total = weight(&packs);
    if total <= bounds.bytes_max && !is_without_numbers {
        return;
    }
    packs.retain(|pack| !is_held(directory, pack.number, lock));
    let free = weight(&packs);
    let held = total - free;
    let wanted = (bounds.bytes_max / 10 * 9).saturating_sub(held).max(bounds.bytes_max / 4);
    packs.sort_unstable_by_key(|pack| (pack.modified, pack.number));
    let mut left = free;
    let going = packs.iter().take_while(|pack| {
        let goes = left > wanted;
        left = left.saturating_sub(pack.weight);
        goes
    });
    let going: Vec<u32> = going.map(|pack| pack.number).collect();
    // Who ends here has damaged what did not count.
    for (number, offset) in outlasting(directory, &going) {
        if let Err(error) = spoil(directory, number, offset) {
            tracing::debug!(path = %directory.display(), number, %error, "cannot forget an older answer");
        }
    }
    for number in going {
        if let Err(error) = remove(directory, number, lock) {
            tracing::debug!(path = %directory.display(), number, %error, "cannot remove old metadata");
        }
    }
}

fn standing(directory: &Path, number: u32, bounds: Bounds) -> Option<Standing> {
    let index = index_path(directory, number).symlink_metadata().ok()?;
    if index.is_dir() {
        return None;
    }
    let data = data_path(directory, number).symlink_metadata().map_or(0, |data| data.len());
    let modified = index.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some(Standing { modified, weight: bounds.weight(index.len(), data), number })
}

/// Whether somebody appends to it.
fn is_held(directory: &Path, number: u32, lock: Lock) -> bool {
    let index = options().write(true).open(index_path(directory, number));
    let Ok(index) = index.map(Held) else { return false };
    lock(&index.0) == Err(Errno::WOULDBLOCK)
}

/// Whether it could be removed: nobody appends to it. Where a file system has no locks somebody may, and finds that it does not stand any
/// more.
fn remove(directory: &Path, number: u32, lock: Lock) -> Result<bool> {
    let path = index_path(directory, number);
    let held = match options().write(true).open(&path).map(Held) {
        Ok(index) => {
            let is_locked = lock(&index.0) != Err(Errno::WOULDBLOCK);
            let stands = Identity::at(&path) == Some(Identity::of(&index.0.metadata()?));
            if !is_locked || !stands {
                return Ok(false);
            }
            Some(index)
        }
        // The directory is ours, so another user's file in it can go, and so can a link.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::ACCESS | Errno::LOOP)) => {
            None
        }
        Err(error) => return Err(error),
    };
    match std::fs::remove_file(data_path(directory, number)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Should this end before, the next owner sees that the lines are about nothing.
    std::fs::remove_file(path)?;
    drop(held);
    Ok(true)
}

/// Removes what earlier builds kept here, in a file for each answer.
pub(in crate::io::cache) fn remove_single_files(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_one = name.len() == 2 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        if is_one && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // What is left of it the next sweep removes.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
