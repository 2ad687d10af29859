//! Opening directories without ever following a symbolic link, so that nothing in an existing
//! environment can lead a writer or a remover out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens the directory at a relative path (empty: `root` itself). Any symbolic link on the way is
/// an error (`ELOOP`).
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Without `NOFOLLOW`, which would turn a link at the end into `ENOTDIR`; no link is followed
    // anyway.
    match rustix::fs::openat2(root, path, flags - OFlags::NOFOLLOW, Mode::empty(), resolve) {
        // Kernels before 5.6, and filters that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => walk(root, path, flags),
        other => other,
    }
}

fn walk(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut current = rustix::fs::openat(root, ".", flags, Mode::empty())?;
    for component in path.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." {
            return Err(Errno::XDEV);
        }
        current = match rustix::fs::openat(&current, component, flags, Mode::empty()) {
            Err(Errno::NOTDIR) if is_link(current.as_fd(), component) => return Err(Errno::LOOP),
            other => other?,
        };
    }
    Ok(current)
}

fn is_link(directory: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_opening_refuse_links_and_parents() {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(place.path().join("a/b")).expect("directories");
        std::os::unix::fs::symlink("a", place.path().join("link")).expect("a link");
        let root = crate::store::open_directory(place.path()).expect("the root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        assert!(open_beneath(root.as_fd(), "a/b").is_ok());
        assert!(open_beneath(root.as_fd(), "").is_ok());
        assert!(walk(root.as_fd(), "a/b", flags).is_ok());
        for path in ["link", "link/b"] {
            assert_eq!(open_beneath(root.as_fd(), path).err(), Some(Errno::LOOP));
            assert_eq!(walk(root.as_fd(), path, flags).err(), Some(Errno::LOOP));
        }
        assert_eq!(open_beneath(root.as_fd(), "..").err(), Some(Errno::XDEV));
        assert_eq!(walk(root.as_fd(), "a/../..", flags).err(), Some(Errno::XDEV));
    }
}
