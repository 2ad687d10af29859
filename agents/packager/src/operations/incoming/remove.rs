//! Removes a directory in which strangers may have made anything: without end in depth, without a right on it. Not for directories that
//! somebody still changes.
//!
//! No level takes stack, a descriptor or a longer path: what lies two levels below is moved to the first, each directory once, so that
//! the work grows as what is there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::INCOMING_NAMES_AT_ONCE_MAX;

/// Removes it with everything in it.
pub(super) fn remove(path: &Path) -> rustix::io::Result<()> {
    let top = open(CWD, path)?;
    let mut moved = 0;
    loop {
        let names = names(top.as_fd())?;
        if names.is_empty() {
            return rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
        }
        for name in names {
            if !is_removed(top.as_fd(), &name)? {
                empty(top.as_fd(), &name, &mut moved)?;
            }
        }
    }
}

/// Removes a directory in `top`, and moves what lies in it and is not empty there.
fn empty(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> rustix::io::Result<()> {
    let directory = open(top, name)?;
    loop {
        let names = names(directory.as_fd())?;
        if names.is_empty() {
            return rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR);
        }
        for inner in names {
            if is_removed(directory.as_fd(), &inner)? {
                continue;
            }
            // Its own entry `..` changes with its place, which takes rights on it.
            drop(open(directory.as_fd(), &inner)?);
            loop {
                *moved += 1;
                let to = format!("moved-{moved}");
                match rustix::fs::renameat(&directory, &inner, top, to) {
                    // A name that was there already.
                    Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                    other => break other?,
                }
            }
        }
    }
}

/// Removes a file, or a directory with nothing in it; false for one with something.
fn is_removed(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other.map(|()| true),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Opens a directory and gives its owner every right on it.
fn open<P: rustix::path::Arg + Copy>(
    parent: BorrowedFd<'_>,
    name: P,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // The number stands for the directory itself, whatever its name means by now.
        let own = format!("/proc/self/fd/{}", place.as_raw_fd());
        rustix::fs::chmod(own, Mode::RWXU)?;
    }
    rustix::fs::openat(&place, ".", flags | OFlags::RDONLY, Mode::empty())
}

/// Some of the names in a directory; none where there is nothing in it.
fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
        if names.len() >= INCOMING_NAMES_AT_ONCE_MAX {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn trees_of_any_depth_go() {
        let place = tempfile::tempdir().expect("a directory");
        let top = place.path().join("top");
        std::fs::create_dir(&top).expect("a directory");
        let mut directory = open(CWD, top.as_path()).expect("opened");
        // Deeper than descriptors, paths and recursion reach.
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&directory, "moved-1", Mode::RWXU).expect("a directory");
            let flags = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(&directory, "moved-2", flags, Mode::RUSR).expect("a file");
            directory = open(directory.as_fd(), "moved-1").expect("opened");
        }
        remove(&top).expect("removed");
        assert!(!top.exists());
    }

    #[test]
    fn rights_do_not_keep_it_and_links_are_not_followed() {
        let place = tempfile::tempdir().expect("a directory");
        let (top, outside) = (place.path().join("top"), place.path().join("outside"));
        for path in [top.join("a/b/c"), top.join("d"), outside.clone()] {
            std::fs::create_dir_all(path).expect("a directory");
        }
        std::fs::write(outside.join("kept"), "kept").expect("a file");
        std::fs::write(top.join("a/b/c/file"), "goes").expect("a file");
        std::os::unix::fs::symlink(&outside, top.join("a/link")).expect("a link");
        std::os::unix::fs::symlink(&outside, top.join("link")).expect("a link");
        for path in ["a/b/c", "a/b", "a", "d", ""] {
            let none = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions(top.join(path), none).expect("no rights");
        }
        remove(&top).expect("removed");
        assert!(!top.exists());
        assert_eq!(std::fs::read_to_string(outside.join("kept")).expect("read"), "kept");
        assert_eq!(remove(&top), Err(Errno::NOENT));
    }
}
