//! Getting the content of one open file into another one: by a clone where the file system can,
//! otherwise by the kernel or through memory. Knows no names.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;

/// Whether files can be cloned between two places; learnt from the first attempt, shared by all
/// workers of a job.
#[derive(Debug)]
pub(super) struct Cloning(AtomicU8);

const UNKNOWN: u8 = 0;
const POSSIBLE: u8 = 1;
const IMPOSSIBLE: u8 = 2;

impl Cloning {
    pub(super) fn new(known: Option<bool>) -> Self {
        Self(AtomicU8::new(match known {
            None => UNKNOWN,
            Some(true) => POSSIBLE,
            Some(false) => IMPOSSIBLE,
        }))
    }

    /// What was learnt. The value is a hint that guards no memory, so relaxed accesses suffice.
    pub(super) fn known(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            POSSIBLE => Some(true),
            IMPOSSIBLE => Some(false),
            _ => None,
        }
    }

    /// Tries to make `to` share the content of `from`.
    pub(super) fn try_clone(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
        if self.known() == Some(false) {
            return false;
        }
        let outcome = rustix::fs::ioctl_ficlone(to, from);
        match outcome {
            Ok(()) => self.0.store(POSSIBLE, Ordering::Relaxed),
            // The file system cannot at all. Other failures (a full disk, a file with other
            // attributes) concern this file only, and the ordinary copy tells what is the matter.
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS | Errno::PERM) => {
                self.0.store(IMPOSSIBLE, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        outcome.is_ok()
    }
}

/// Copies everything up to the end of `from`, which is expected to have `size` bytes. Returns how
/// many there were.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<u64> {
    let mut copied = 0;
    // One byte more than expected, so that a file that grew shows, and one that did not needs no
    // second call.
    while copied <= size {
        let wanted = usize::try_from(size - copied + 1).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, None, to, None, wanted) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                copied += count as u64;
                if copied == size && count < wanted {
                    return Ok(copied);
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)
                if copied == 0 =>
            {
                return copy_through_memory(from, to, buffer);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(copied)
}

fn copy_through_memory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<u64> {
    copy_seen(from, to, buffer, |_| {})
}

/// The same through memory, with every byte that is written shown to `see` first.
pub(super) fn copy_seen(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    mut see: impl FnMut(&[u8]),
) -> rustix::io::Result<u64> {
    let mut copied = 0;
    // It keeps what it has: its bytes are overwritten before they are looked at.
    let wanted = buffer.len().max(crate::limits::COPY_WHOLE_BYTES_MAX as usize);
    buffer.resize(wanted, 0);
    loop {
        match rustix::io::read(from, buffer.as_mut_slice()) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                see(&buffer[..count]);
                write_all(to, &buffer[..count])?;
                copied += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file that is expected to have `size` bytes to the beginning of `buffer`, which grows and never shrinks; one byte more is
/// read, if there is one. Returns how many there were.
pub(super) fn read_expected(
    from: BorrowedFd<'_>,
    size: u64,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<usize> {
    let wanted = size as usize + 1;
    buffer.resize(wanted.max(buffer.len()), 0);
    let mut filled = 0;
    while filled < wanted {
        match rustix::io::read(from, &mut buffer[filled..wanted]) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                // A short read of a regular file is its end, which spares the call that would
                // return nothing.
                if filled == size as usize {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
