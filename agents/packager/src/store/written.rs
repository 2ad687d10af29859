//! What one operation wrote into its staging directory, so that whoever describes the result need not read it all again.
//!
//! A file is known by its inode and by the status it had when its last byte was written. A write changes the time of the last change,
//! which nobody can set back; so a file whose status is another is not known, and is read. Nobody but the operation knows the
//! staging directory, and nobody maps its files.
//!
//! Of a file that was linked the status is kept as a whole, and the description has it without another look: nothing of ours writes
//! into such a file, since it is the store's, and if somebody else does, the description says what was installed and a later look
//! sees the change.
//!
//! Of a directory that stood ready and was given ([`super::Prepared`]) it is known as a whole what is in it.
//!
//! The digest is the one by which the store names the content, or that of the bytes that were made here. It was compared on the way only
//! where the store compares: of every file with `store.verify`, else of what may have been edited under another name. Of all others it
//! is believed that the store's file is as it was when it was hashed and added; its size is compared. That is the store's own rule: who
//! copies believes the same. Where it does not hold, the description says what should be there, which is what `bolide verify` looks for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Stat;

use super::{Given, Object};

/// The files that were written so far. Shared by the threads that write.
#[derive(Debug, Default)]
pub struct Written {
    files: Mutex<HashMap<(u64, u64), Mark>>,
    given: Mutex<HashMap<(u64, u64), Arc<Given>>>,
    /// Files that were unpacked for the operation and given with their directories. It guards nothing.
    unpacked: AtomicUsize,
    /// Whether something was seen among it that nobody describes. It guards nothing.
    is_left_out: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    status: Stat,
    digest: [u8; 32],
    is_linked: bool,
}

/// What every write into a file changes.
fn stamp(status: &Stat) -> (u64, (i64, i64), (i64, i64)) {
    let modified = (status.st_mtime, status.st_mtime_nsec as i64);
    let changed = (status.st_ctime, status.st_ctime_nsec as i64);
    (status.st_size as u64, modified, changed)
}

impl Written {
    /// Something of it is not described, so nobody can tell later whether it is whole.
    pub(crate) fn leave_out(&self) {
        self.is_left_out.store(true, Ordering::Relaxed);
    }

    /// Whether there is such a thing.
    pub(crate) fn leaves_out(&self) -> bool {
        self.is_left_out.load(Ordering::Relaxed)
    }

    /// So many files are going to be written.
    pub(super) fn expect(&self, files: usize) {
        self.marks().reserve(files);
    }

    /// A file was written from this content, and has this status now.
    pub(super) fn note(&self, status: &Stat, object: &Object) {
        self.put(Mark { status: *status, digest: object.digest, is_linked: false }, object.size);
    }

    /// A sealed file of the store was linked, and has this status now.
    pub(crate) fn note_linked(&self, status: &Stat, object: &Object) {
        self.put(Mark { status: *status, digest: object.digest, is_linked: true }, object.size);
    }

    fn put(&self, mark: Mark, size: u64) {
        // A file of another size holds something else, whatever was meant.
        if mark.status.st_size as u64 == size {
            self.marks().insert((mark.status.st_dev, mark.status.st_ino), mark);
        }
    }

    /// The status of the file with this inode, where it is one that was linked.
    pub fn linked(&self, device: u64, inode: u64) -> Option<Stat> {
        let marks = self.marks();
        marks.get(&(device, inode)).filter(|mark| mark.is_linked).map(|mark| mark.status)
    }

    /// How many files were made, but for those of directories that stood ready.
    pub(crate) fn count(&self) -> usize {
        self.marks().len() + self.unpacked.load(Ordering::Relaxed)
    }

    /// So many files were unpacked for the operation, and given with their directory.
    pub(crate) fn note_unpacked(&self, files: usize) {
        self.unpacked.fetch_add(files, Ordering::Relaxed);
    }

    /// A directory was given in which nothing is made any more.
    pub(crate) fn note_given(&self, given: Given) {
        self.trees().insert(given.directory, Arc::new(given));
    }

    /// What is in the directory with this status, where it is one that was given, and has no more names than it had.
    pub(crate) fn given(&self, status: &Stat) -> Option<Arc<Given>> {
        let given = self.trees().get(&(status.st_dev, status.st_ino)).map(Arc::clone)?;
        (given.modified == (status.st_mtime, status.st_mtime_nsec as i64)).then_some(given)
    }

    fn trees(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), Arc<Given>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SHA-256 of what a file was written from, where it was written here and has not been touched since.
    pub fn digest(&self, status: &Stat) -> Option<[u8; 32]> {
        let mark = *self.marks().get(&(status.st_dev, status.st_ino))?;
        (stamp(&mark.status) == stamp(status)).then_some(mark.digest)
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), Mark>> {
        // A map of plain values is whole between any two statements.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_known_until_anything_about_it_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let status = || rustix::fs::lstat(&path).expect("a file");
        fs::write(&path, b"content").expect("space");
        let (written, object) = (Written::default(), Object::of(b"content"));
        written.note(&status(), &Object::of(b"something longer"));
        assert_eq!(written.digest(&status()), None, "the size is another");
        written.note(&status(), &object);
        assert_eq!(written.digest(&status()), Some(object.digest));

        let other = directory.path().join("other");
        fs::write(&other, b"content").expect("space");
        fs::rename(&other, &path).expect("a rename");
        assert_eq!(written.digest(&status()), None, "another file has the name");

        written.note(&status(), &object);
        let mut later = status();
        later.st_ctime_nsec += 1;
        assert_eq!(written.digest(&later), None, "it was touched");
    }

    #[test]
    fn only_what_was_linked_has_its_status_without_a_look() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, b"content").expect("space");
        let status = rustix::fs::lstat(&path).expect("a file");
        let (written, object) = (Written::default(), Object::of(b"content"));
        let linked = || written.linked(status.st_dev, status.st_ino).map(|status| status.st_ino);
        written.note(&status, &object);
        assert_eq!(linked(), None);
        written.note_linked(&status, &object);
        assert_eq!(linked(), Some(status.st_ino));
        assert_eq!(written.linked(status.st_dev + 1, status.st_ino).map(|it| it.st_ino), None);
    }
}
