//! Frozen payloads: what arrives, and every file that is not frozen.

use rustix::fs::{Mode, OFlags, ftruncate};
use rustix::io::Errno;

use super::*;

const FROZEN: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);
const BOUND: usize = 1 << 20;

fn refused(fd: OwnedFd) -> SegmentError {
    Frozen::open(fd, BOUND).expect_err("this is not frozen")
}

#[test]
fn frozen_payload_arrives_as_it_was_written() {
    let (here, there) = Connection::pair().unwrap();
    for length in [1, PAGE - 1, PAGE, PAGE + 1, 300_001] {
        let mut draft = Draft::create(length).unwrap();
        assert_eq!(draft.bytes(), vec![0; length]);
        let expected: Vec<u8> = (0..length).map(|index| (index * 13 % 253) as u8).collect();
        draft.bytes_mut().copy_from_slice(&expected);
        let sealed = draft.freeze().unwrap();
        assert_eq!(sealed.length(), length);
        here.send(b"frozen", &[sealed.as_fd()]).unwrap();
        drop(sealed);
        let [fd] = there.receive().unwrap().descriptors.try_into().unwrap();
        let frozen = Frozen::open(fd, length).unwrap();
        assert_eq!(&frozen[..], &expected[..]);
        // Handed on as it is.
        let again = Frozen::open(copy(frozen.as_fd()), length).unwrap();
        drop(frozen);
        assert_eq!(&again[..], &expected[..]);
        assert!(Frozen::open(copy(again.as_fd()), length - 1).is_err(), "above the bound");
    }
}

#[test]
fn frozen_payload_cannot_be_changed_by_anybody() {
    let mut draft = Draft::create(2 * PAGE).unwrap();
    draft.bytes_mut().fill(1);
    let sealed = draft.freeze().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&sealed.as_fd()));
    let opened = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for fd in [sealed.as_fd(), opened.as_fd()] {
        assert_eq!(ftruncate(fd, 0), Err(Errno::PERM), "shrink");
        assert_eq!(ftruncate(fd, 1 << 30), Err(Errno::PERM), "grow");
        assert_eq!(rustix::io::pwrite(fd, b"x", 0), Err(Errno::PERM), "write");
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(fd, punch, 0, 4096), Err(Errno::PERM), "punch a hole");
    }
    assert!(Frozen::open(sealed.into(), 2 * PAGE).unwrap().iter().all(|byte| *byte == 1));
}

#[test]
fn files_without_all_seals_are_refused() {
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE, SealFlags::SEAL] {
        let fd = forged(0..PAGE, PAGE, FROZEN.difference(missing));
        assert!(matches!(refused(fd), SegmentError::Seals { .. }));
    }
    // What lanes and pools have: their maker can still write.
    let error = refused(forged(0..PAGE, PAGE, SEALS));
    assert!(matches!(error, SegmentError::Seals { .. }));
    assert_eq!(
        error.to_string(),
        "the frozen segment is not sealed: expected at least 0xf, got 0x17"
    );
    let pool = Pool::create(1, PAGE).unwrap();
    assert!(matches!(refused(copy(pool.as_fd())), SegmentError::Seals { .. }));
}

#[test]
fn short_long_and_sparse_files_are_refused() {
    for size in [0, BOUND + 1] {
        assert!(matches!(refused(forged(0..size, size, FROZEN)), SegmentError::Size { .. }));
    }
    for filled in [0..0, 0..PAGE, PAGE..3 * PAGE] {
        let error = refused(forged(filled, 3 * PAGE, FROZEN));
        assert!(matches!(error, SegmentError::NotAllocated { .. }));
    }
    let error = refused(forged_with_blocks_beyond(3 * PAGE, FROZEN));
    assert!(matches!(error, SegmentError::NotAllocated { size: 12_288, allocated: 8_192, .. }));
    assert!(matches!(Draft::create(0), Err(SegmentError::Size { .. })));
    assert!(matches!(Draft::create(usize::MAX), Err(SegmentError::Size { .. })));
}

#[test]
fn other_descriptors_are_refused() {
    let (reading, _writing) = std::io::pipe().unwrap();
    let (socket, _other) = Connection::pair().unwrap();
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let directory = rustix::fs::open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for fd in [OwnedFd::from(reading), copy(socket.as_fd()), event, directory] {
        assert!(matches!(refused(fd), SegmentError::NotMemory { .. }));
    }
    // A file of a directory, and one on tmpfs where there is one: neither can be sealed.
    for directory in ["/dev/shm".into(), std::env::temp_dir()] {
        let Ok(file) = tempfile::tempfile_in(directory) else { continue };
        file.set_len(PAGE as u64).unwrap();
        let error = refused(file.into());
        assert!(matches!(error, SegmentError::NotMemory { .. } | SegmentError::Seals { .. }));
    }
}

#[test]
fn huge_pages_are_refused() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    // A kernel without them has nothing to refuse.
    let Ok(fd) = rustix::fs::memfd_create("huge", flags) else { return };
    rustix::fs::fcntl_add_seals(&fd, FROZEN).unwrap();
    assert!(matches!(refused(copy(fd.as_fd())), SegmentError::NotMemory { .. }));
    let error = Borrower::open(fd, BOUND).expect_err("no pool");
    assert!(matches!(error, SegmentError::NotMemory { .. }));
}
