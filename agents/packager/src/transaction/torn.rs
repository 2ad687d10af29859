//! What a loss of power can have made of files whose contents nobody had waited for: told apart from what a person did, then or later.
//!
//! A file that was not on the device is the same object afterwards, and the time of its last change is what it was: names are kept in
//! order, so whoever finds the new names finds the times that were given before. Only its content lacks something: it ends too early,
//! where a block ends, or in zeroes. Anything else at its path is a person's, whatever it holds, and so is what is gone or has other
//! permissions. Where it is doubtful it is a person's, too: what they did stays, and a package can be installed again.
//!
//! A new file may have got the number of one that was removed. It was born after what was noted, then. Nothing tells where the clock
//! was behind that, or the file system keeps no such times; then the time of its last change has to be that of the old one as well.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::io::Errno;

use super::directory::{Directory, ObjectKind};
use super::disk::Disk;
use super::fingerprint::{Drift, DriftKind, Entry, Fingerprint, changed_ns, is_cache, modified_ns};
use super::tree::{self, Blocked, Onward, Visit};
use crate::error::Result;

/// The least that a device writes at once: what is lost is whole ones of these.
const SECTOR: u64 = 512;
/// How much older the time of a last change may be, in nanoseconds, where a file system is told to write times down later: then it may
/// have that of the file's beginning.
const WRITING_NS: i64 = 60_000_000_000;

/// What has become of something that was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is what it was.
    Whole,
    /// Somebody changed or added it.
    Edited,
    /// The power took a part of it.
    Torn,
    /// It is what was installed, and the device cannot read it.
    Broken,
    /// It is somebody's, and cannot be read.
    Unreadable,
}

/// The first path of an installed tree of which something did not reach the device, or cannot be read there; each file is read. An
/// empty path is the tree itself.
pub(super) fn first_torn(
    print: &Fingerprint,
    at: (&Directory, &OsStr),
    place: &OsStr,
) -> Result<Option<PathBuf>> {
    let mut torn = None;
    examine(print, at, place, &mut |path, state| {
        if matches!(state, State::Torn | State::Broken) {
            torn = Some(PathBuf::from(OsStr::from_bytes(path)));
        }
        torn.is_none()
    })?;
    Ok(torn)
}

/// The first path of an installed tree that the device refuses to take, or refused when nobody had asked yet; what somebody put in
/// the place of something is not asked.
pub(super) fn first_unwritten(
    disk: &Disk,
    print: &Fingerprint,
    at: (&Directory, &OsStr),
) -> Result<Option<PathBuf>> {
    let expected: HashMap<&[u8], u64> =
        print.entries().iter().map(|entry| (entry.path.as_slice(), entry.inode)).collect();
    let found = RefCell::new(None);
    let asked = |path: &[u8], synced: io::Result<()>| {
        let code = |error: &io::Error| error.raw_os_error().map(Errno::from_raw_os_error);
        let is_full = |error: &io::Error| matches!(code(error), Some(Errno::NOSPC | Errno::DQUOT));
        // Whoever may not read it has taken that right away; then it is not asked.
        if let Err(error) = synced
            && (is_of_device(&error) || is_full(&error))
        {
            *found.borrow_mut() = Some(PathBuf::from(OsStr::from_bytes(path)));
        }
    };
    let mut visit = |visit: &Visit<'_>| {
        if expected.get(visit.path) == Some(&visit.status.st_ino) {
            let synced = match visit.kind() {
                ObjectKind::File => {
                    visit.directory.open_file(visit.name).and_then(|file| disk.sync(&file))
                }
                ObjectKind::Directory => {
                    visit.directory.child(visit.name).and_then(|inner| disk.sync(&inner))
                }
                ObjectKind::Link | ObjectKind::Special => Ok(()),
            };
            asked(visit.path, synced);
        }
        Ok(Onward::Into)
    };
    // What cannot be looked at is found by who reads it.
    let mut blocked = |_: Blocked<'_>, _: io::Error| Ok(());
    let skip = |_: &[u8]| found.borrow().is_some();
    tree::walk_as_told(at, tree::UNKNOWN, &skip, &mut visit, &mut blocked)?;
    Ok(found.into_inner())
}

/// What somebody changed in an installed tree, or added to it, without what the power took; `None` where not all of it can be read.
pub(super) fn edits(
    print: &Fingerprint,
    at: (&Directory, &OsStr),
    place: &OsStr,
) -> Result<Option<Drift>> {
    let mut found = Some(Drift::new());
    examine(print, at, place, &mut |path, state| {
        match (state, &mut found) {
            (State::Broken | State::Unreadable, found) => *found = None,
            (State::Edited, Some(found)) => {
                found.push((PathBuf::from(OsStr::from_bytes(path)), DriftKind::Modified));
            }
            _ => {}
        }
        found.is_some()
    })?;
    Ok(found)
}

/// Tells of each path that is there what has become of it, until nobody wants to know more.
fn examine(
    print: &Fingerprint,
    at: (&Directory, &OsStr),
    place: &OsStr,
    each: &mut dyn FnMut(&[u8], State) -> bool,
) -> Result<()> {
    let expected: HashMap<&[u8], &Entry> =
        print.entries().iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    let (is_over, each) = (Cell::new(false), RefCell::new(each));
    let tell = |path: &[u8], state| {
        if !is_over.get() {
            is_over.set(!(each.borrow_mut())(path, state));
        }
    };
    let skip = |path: &[u8]| is_over.get() || is_cache(place, path);
    let mut visit = |visit: &Visit<'_>| {
        let entry = expected.get(visit.path);
        let state = entry.map_or(Ok(State::Edited), |entry| state_of(entry, visit))?;
        tell(visit.path, state);
        Ok(Onward::Into)
    };
    let mut blocked = |at: Blocked<'_>, error: io::Error| {
        if is_passing(&error) {
            return Err(at.unreadable(error));
        }
        let entry = expected.get(at.path()).filter(|entry| match at {
            Blocked::Listing(visit) => is_same(entry, visit),
            Blocked::Look { inode, .. } => entry.inode == inode,
        });
        let is_broken = is_of_device(&error) && entry.is_some();
        // Who took away the right to list it has not harmed what is in it.
        tell(at.path(), if is_broken { State::Broken } else { State::Unreadable });
        Ok(())
    };
    tree::walk_as_told(at, tree::UNKNOWN, &skip, &mut visit, &mut blocked)
}

fn state_of(entry: &Entry, visit: &Visit<'_>) -> Result<State> {
    let kind = visit.kind();
    let is_alike = kind == entry.kind && visit.status.st_mode & 0o7777 == entry.mode;
    let whole = if is_alike { State::Whole } else { State::Edited };
    if kind != entry.kind {
        return Ok(State::Edited);
    }
    let digest = match kind {
        ObjectKind::File => tree::file_digest(visit.directory, visit.name),
        ObjectKind::Link => rustix::fs::readlinkat(visit.directory, visit.name, Vec::new())
            .map(|target| tree::digest_of(target.to_bytes()))
            .map_err(io::Error::from),
        ObjectKind::Directory | ObjectKind::Special => return Ok(whole),
    };
    match digest {
        Ok(digest) if digest == entry.digest => Ok(whole),
        Ok(_) if is_as_left(entry, visit) && lacks_something(entry, visit) => Ok(State::Torn),
        Ok(_) => Ok(State::Edited),
        Err(error) if is_passing(&error) => {
            Err(tree::unreadable(visit.directory, visit.name, error))
        }
        Err(error) if is_of_device(&error) && is_same(entry, visit) => Ok(State::Broken),
        Err(_) => Ok(State::Unreadable),
    }
}

/// Whether it is the object that was noted, and not another one with its number.
fn is_same(entry: &Entry, visit: &Visit<'_>) -> bool {
    let born = || visit.directory.identity(visit.name).ok().flatten().and_then(|it| it.born_ns);
    visit.status.st_ino == entry.inode && born().is_none_or(|born| born <= entry.changed_ns)
}

/// Whether nobody has written into a file since it was noted, as far as its times tell.
fn is_as_left(entry: &Entry, visit: &Visit<'_>) -> bool {
    let older = entry.modified_ns.saturating_sub(modified_ns(visit.status));
    visit.kind() == ObjectKind::File && (0..=WRITING_NS).contains(&older) && is_same(entry, visit)
}

/// Whether the content of a file is what a loss of power leaves. Where not even its status was changed since, nobody else can have made
/// it what it is; that is changed by a new name, too, which the store gives and takes.
fn lacks_something(entry: &Entry, visit: &Visit<'_>) -> bool {
    let size = visit.status.st_size as u64;
    changed_ns(visit.status) <= entry.changed_ns
        || size < entry.size && size.is_multiple_of(SECTOR)
        || size <= entry.size && ends_in_zeroes(visit).unwrap_or(false)
}

/// Whether the end of a file is a sector of zeroes, or all that there is of it.
fn ends_in_zeroes(visit: &Visit<'_>) -> io::Result<bool> {
    let mut file = visit.directory.open_file(visit.name)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SECTOR)))?;
    let mut end = Vec::with_capacity(SECTOR as usize);
    file.take(SECTOR).read_to_end(&mut end)?;
    Ok(end.iter().all(|byte| *byte == 0))
}

/// Whether the device cannot read what it was given, or the file system finds it broken.
pub(super) fn is_of_device(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN | Errno::NODATA))
}

/// Whether an error says nothing of what was to be read: this process, or the machine, has too little of something.
fn is_passing(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN))
}
