//! Files of an environment compared with what was installed, byte for byte, by as many at once as there are hands.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};

use agents_contract::Crew;
use ring::digest;

use super::super::directory::Directory;
use super::super::fingerprint::{Entry, changed_ns};
use super::super::project::is_link;
use super::super::tree::{self, Digest};
use super::{Difference, Seen};
use crate::error::{Error, Result};
use crate::limits::{INSPECT_FILES_AT_ONCE, INSPECT_READS_MAX};

/// A file that has to be read.
pub(super) struct Unread<'l> {
    /// As it was installed.
    pub(super) entry: &'l Entry,
    /// As it was met.
    pub(super) seen: Seen,
    /// Whether its permissions are others.
    pub(super) has_other_mode: bool,
}

/// Files that differ, by position.
pub(super) type Found = Vec<(usize, Difference)>;

/// How each of these files below `root` differs, by position; nothing for those that do not. Files in an order that has those of
/// a directory together cost least.
pub(super) fn read(
    root: &Directory,
    files: &[Unread<'_>],
    crew: Option<&dyn Crew>,
    keep_on: &(dyn Fn() -> Result<()> + Sync),
) -> Result<Found> {
    let pieces = files.chunks(INSPECT_FILES_AT_ONCE).collect::<Vec<_>>();
    let done: Mutex<Vec<Result<Found>>> = Mutex::default();
    let piece = |index: usize| {
        let first = index * INSPECT_FILES_AT_ONCE;
        let found = keep_on().map(|()| read_piece(root, first, pieces[index]));
        done.lock().unwrap_or_else(PoisonError::into_inner).push(found);
    };
    match crew {
        Some(crew) => crew.run(pieces.len(), &piece),
        None => (0..pieces.len()).for_each(piece),
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What was not begun is not wanted any more, and nobody knows how it is.
    if done.len() < pieces.len() {
        keep_on()?;
        return Err(Error::cancelled());
    }
    let found: Result<Vec<_>> = done.into_iter().collect();
    Ok(found?.into_iter().flatten().collect())
}

fn read_piece(root: &Directory, first: usize, files: &[Unread<'_>]) -> Found {
    let mut found = Vec::new();
    // The directory of the file before.
    let mut open: Option<(&[u8], io::Result<Directory>)> = None;
    let mut buffer = vec![0_u8; 64 * 1024];
    for (index, Unread { entry, has_other_mode, .. }) in files.iter().enumerate() {
        let (above, name) = split(&entry.path);
        if open.as_ref().is_none_or(|(path, _)| *path != above) {
            open = Some((above, descend(root, above)));
        }
        let difference = match &open {
            Some((_, Ok(directory))) => {
                difference(directory, OsStr::from_bytes(name), entry, &mut buffer)
            }
            Some((_, Err(error))) => Some(failure(error)),
            None => None,
        };
        let mode = has_other_mode.then_some(Difference::Mode);
        found.extend(difference.or(mode).map(|difference| (first + index, difference)));
    }
    found
}

/// A path's directory, and its name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The directory at a path below `root`, reached without links.
fn descend(root: &Directory, path: &[u8]) -> io::Result<Directory> {
    let mut directory = root.again()?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        directory = directory.child(OsStr::from_bytes(part))?;
    }
    Ok(directory)
}

fn difference(
    directory: &Directory,
    name: &OsStr,
    entry: &Entry,
    buffer: &mut [u8],
) -> Option<Difference> {
    for _ in 0..INSPECT_READS_MAX {
        match steady_digest(directory, name, entry.size, buffer) {
            Ok(Some(digest)) => return (digest != entry.digest).then_some(Difference::Content),
            Ok(None) => {}
            Err(error) => return Some(failure(&error)),
        }
    }
    Some(Difference::Unsteady)
}

/// What a file is that could not be read.
fn failure(error: &io::Error) -> Difference {
    match error.kind() {
        io::ErrorKind::NotFound => Difference::Missing,
        // Something else has its name, or that of a directory above it, now.
        io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory => Difference::Kind,
        _ if is_link(error) => Difference::Kind,
        _ => Difference::Unreadable,
    }
}

/// The digest of a file that stayed the same while it was read; `None` where it did not. No more is read than one byte
/// beyond what was installed, so one that grows is no way to be kept busy.
fn steady_digest(
    directory: &Directory,
    name: &OsStr,
    size: u64,
    buffer: &mut [u8],
) -> io::Result<Option<Digest>> {
    let file = directory.open_file(name)?;
    let status = || rustix::fs::fstat(&file).map(|it| (Seen::of(&it), changed_ns(&it)));
    let at_first = status()?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut rest = (&file).take(size.saturating_add(1));
    loop {
        match rest.read(buffer) {
            Ok(0) => break,
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = tree::to_digest(context.finish().as_ref());
    Ok((status()? == at_first).then_some(digest))
}
