//! A file without a name, mapped for writing: what a durable log that is written through a mapping
//! would cost at least. Only measured; the log writes with `pwrite`.
//!
//! Why it is not used for logs: a store beyond the end of a file that somebody truncated, or into
//! space that the disk does not have, is a SIGBUS. This file has no name, so nobody else can
//! truncate it, and its space is taken before it is mapped.
#![allow(unsafe_code, reason = "stores into a mapping")]

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// A file of this process alone, mapped shared for writing.
#[derive(Debug)]
pub struct MappedFile {
    start: NonNull<u8>,
    length: usize,
    /// Keeps the file for as long as the mapping.
    _descriptor: OwnedFd,
}

impl MappedFile {
    /// A file of `length` zeros on the file system of `directory`. Fails where that has no files
    /// without names, or cannot take the space ahead.
    pub fn create(directory: &Path, length: usize) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, length as u64)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, &descriptor, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, length, _descriptor: descriptor })
    }

    /// Copies the bytes to this offset; `false`, and nothing is written, where they do not fit.
    #[inline]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset.checked_add(bytes.len());
        if end.is_none_or(|end| end > self.length) {
            return false;
        }
        // SAFETY: the offset is within the mapping, as was just checked.
        let target = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: the bytes fit, as was just checked; `&mut self` makes this the only access, and
        // nobody else has the file; the source cannot overlap, as nothing borrows the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        true
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `create`, and nothing borrows from it.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::MappedFile;

    #[test]
    fn what_does_not_fit_is_refused() {
        let Ok(mut file) = MappedFile::create(&std::env::temp_dir(), 4_096) else { return };
        assert!(file.write_at(0, &[1; 4_096]) && file.write_at(4_096, b""));
        assert!(!file.write_at(1, &[1; 4_096]) && !file.write_at(4_097, b""));
        assert!(!file.write_at(usize::MAX, b"ab"));
    }
}
