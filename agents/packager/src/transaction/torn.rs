//! What a loss of power can have made of files whose contents nobody had waited for: told apart from what a person did to them later.
//!
//! A file that was not on the device is the same file afterwards, with the time of its last change as it was or an older one, and it
//! is shorter than it was, or has zeroes where it had something else. Whoever edits it gives it a later time, and whoever replaces it
//! another file; what is gone, has another mode or may not be read was taken away by somebody, too, for names are kept in order.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::io::Errno;

use super::directory::{Directory, ObjectKind};
use super::fingerprint::{Entry, Fingerprint, is_cache, modified_ns};
use super::tree::{self, Onward, Visit};
use crate::error::Result;

/// A run of zeroes at the end of a file that nobody writes on purpose.
const ZEROES: usize = 512;

/// The first path of an installed tree that is torn; each file is read. An empty path is the tree itself.
pub(super) fn first_torn(
    print: &Fingerprint,
    (directory, name): (&Directory, &OsStr),
    place: &OsStr,
) -> Result<Option<PathBuf>> {
    let expected: HashMap<&[u8], &Entry> =
        print.entries().iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    let torn = std::cell::RefCell::new(None);
    let found = |visit: &Visit<'_>| {
        torn.borrow_mut().get_or_insert_with(|| PathBuf::from(OsStr::from_bytes(visit.path)));
    };
    let skip = |path: &[u8]| torn.borrow().is_some() || is_cache(place, path);
    let mut visit = |visit: &Visit<'_>| {
        if expected.get(visit.path).is_some_and(|entry| is_torn(entry, visit)) {
            found(visit);
        }
        Ok(Onward::Into)
    };
    let mut blocked = |visit: &Visit<'_>, error: io::Error| {
        // Who took away the right to list it has not harmed what is in it.
        if is_of_device(&error) {
            found(visit);
        }
        Ok(())
    };
    tree::walk_as_told((directory, name), tree::UNKNOWN, &skip, &mut visit, &mut blocked)?;
    Ok(torn.into_inner())
}

/// Whether the power can have made this of an entry.
fn is_torn(entry: &Entry, visit: &Visit<'_>) -> bool {
    let kind = visit.kind();
    if kind != entry.kind || !matches!(kind, ObjectKind::File | ObjectKind::Link) {
        return false;
    }
    let digest = match kind {
        ObjectKind::File => tree::file_digest(visit.directory, visit.name),
        _ => rustix::fs::readlinkat(visit.directory, visit.name, Vec::new())
            .map(|target| tree::digest_of(target.to_bytes()))
            .map_err(io::Error::from),
    };
    let is_ours =
        visit.status.st_ino == entry.inode && modified_ns(visit.status) <= entry.modified_ns;
    match digest {
        Ok(digest) if digest == entry.digest => false,
        Ok(_) if is_ours => true,
        // A file that somebody was editing when the power went, or after it.
        Ok(_) => kind == ObjectKind::File && says_nothing(visit).unwrap_or(false),
        Err(error) => is_of_device(&error),
    }
}

/// Whether a file is empty, or ends in zeroes.
fn says_nothing(visit: &Visit<'_>) -> io::Result<bool> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = visit.directory.open_file(visit.name)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(ZEROES as u64)))?;
    let mut end = Vec::with_capacity(ZEROES);
    file.take(ZEROES as u64).read_to_end(&mut end)?;
    Ok(end.iter().all(|byte| *byte == 0))
}

/// Whether the device cannot read what it was given, or the file system finds it broken.
fn is_of_device(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}
