//! Seals and checks: what a peer can do to a segment, and what is refused from it.

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, mmap};

use super::mapping::SEALS;
use super::*;
use crate::limits::SLOTS_DEFAULT;

mod fuzz;

fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

/// A memfd of any size and seals, as a hostile peer would make it.
fn forged(bytes: u64, seals: SealFlags, allocate: bool) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("forged", flags).unwrap();
    ftruncate(&fd, bytes).unwrap();
    if allocate && bytes > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes).unwrap();
    }
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

fn try_map_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the kernel chooses the address; the mapping, if there were one, would be leaked and never used.
    let result = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        mmap(std::ptr::null_mut(), SEGMENT_HEADER_BYTES, protection, MapFlags::SHARED, fd, 0)
    };
    Ok(result.map(drop)?)
}

#[test]
fn receiver_can_neither_map_for_writing_nor_change_the_size() {
    let slots = Slots::create(SLOTS_DEFAULT, false).unwrap();
    let cursor = Cursor::create(0, false).unwrap();
    let region = Region::create(REGION_BYTES_MIN).unwrap();
    let control = ControlWriter::create().unwrap();
    for fd in [slots.as_fd(), cursor.as_fd(), region.as_fd(), control.as_fd()] {
        let fd = copy(fd);
        assert!(try_map_writable(fd.as_fd()).is_err());
        assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM), "shrink");
        assert_eq!(ftruncate(&fd, 1 << 30), Err(Errno::PERM), "grow");
        assert_eq!(rustix::io::pwrite(&fd, b"x", 0), Err(Errno::PERM), "write");
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(&fd, punch, 0, 4096), Err(Errno::PERM), "punch a hole");
        assert_eq!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn writer_itself_cannot_shrink_or_free_what_it_handed_on() {
    let region = Region::create(REGION_BYTES_MIN).unwrap();
    assert_eq!(ftruncate(region.as_fd(), 0), Err(Errno::PERM));
    let mapping = &region.segment.mapping;
    // SAFETY: the range is the mapping's; if the pages were dropped they would read as zero.
    let removed = unsafe {
        let start = mapping.start.as_ptr().cast();
        rustix::mm::madvise(start, mapping.length, Advice::LinuxRemove)
    };
    assert_eq!(removed, Err(Errno::PERM));
}

#[test]
fn writer_is_read_through_the_other_mapping() {
    let slots = Slots::create(SLOTS_DEFAULT, true).unwrap();
    let opened = Slots::open(copy(slots.as_fd())).unwrap();
    assert!(opened.ungated());
    assert_eq!(opened.slots().len(), SLOTS_DEFAULT);
    slots.header().counters.messages.store(5, Ordering::Relaxed);
    assert_eq!(opened.counters().messages, 5);

    let cursor = Cursor::create(77, true).unwrap();
    let opened = Cursor::open(copy(cursor.as_fd())).unwrap();
    assert!(opened.polls());
    assert_eq!(opened.header().position.0.load(Ordering::Relaxed), 77);

    let control = ControlWriter::create().unwrap();
    let opened = Control::open(copy(control.as_fd())).unwrap();
    for state in [
        LaneState::Draining,
        LaneState::PeerGone,
        LaneState::Revoked,
        LaneState::Closed,
        LaneState::Quarantined,
    ] {
        control.set(state);
        assert_eq!(opened.state(), state);
    }
}

#[test]
fn unsealed_segments_are_refused() {
    let size = SEGMENT_HEADER_BYTES as u64;
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE, SealFlags::SEAL] {
        let fd = forged(size, SEALS.difference(missing), true);
        assert!(matches!(Cursor::open(copy(fd.as_fd())), Err(SegmentError::Seals { .. })));
        assert!(matches!(check_cursor(fd.as_fd()), Err(SegmentError::Seals { .. })));
    }
}

#[test]
fn segments_of_impossible_sizes_are_refused() {
    let header = SEGMENT_HEADER_BYTES as u64;
    for size in [0, 1, header - 1, header, header + 64, header + 64 * 9, header + 64 * 24] {
        let fd = forged(size, SEALS, true);
        assert!(matches!(Slots::open(fd), Err(SegmentError::Size { .. })), "{size}");
    }
    for size in [0, header - 1, header * 3] {
        assert!(matches!(Region::open(forged(size, SEALS, true)), Err(SegmentError::Size { .. })));
    }
    assert!(Slots::create(usize::MAX, false).is_err());
    assert!(Slots::create(12, false).is_err());
    assert!(Region::create(REGION_BYTES_MAX * 2).is_err());
}

#[test]
fn segments_without_memory_are_refused() {
    let fd = forged(REGION_BYTES_MIN as u64, SEALS, false);
    assert!(matches!(check_region(fd.as_fd()), Err(SegmentError::NotAllocated { .. })));
    assert!(matches!(Region::open(fd), Err(SegmentError::NotAllocated { .. })));
}

/// Everybody who maps slots, a region or a cursor, or passes one on, and what each says of a descriptor.
fn all_refuse(role: &str, fd: &OwnedFd) -> Vec<SegmentError> {
    let results = match role {
        "slots" => vec![
            Slots::open(copy(fd.as_fd())).map(drop),
            SlotsWatch::open(fd.as_fd()).map(drop),
            check_slots(fd.as_fd()),
        ],
        "region" => vec![Region::open(copy(fd.as_fd())).map(drop), check_region(fd.as_fd())],
        "cursor" => vec![
            Cursor::open(copy(fd.as_fd())).map(drop),
            CursorWatch::open(fd.as_fd()).map(drop),
            check_cursor(fd.as_fd()),
            Control::open(copy(fd.as_fd())).map(drop),
        ],
        "directory" => vec![Table::open(copy(fd.as_fd())).map(drop)],
        other => panic!("{other}"),
    };
    results.into_iter().map(Result::unwrap_err).collect()
}

const SLOTS_BYTES: u64 = (SEGMENT_HEADER_BYTES + SLOTS_DEFAULT * SLOT_BYTES) as u64;
const ROLES: [(&str, u64); 4] = [
    ("slots", SLOTS_BYTES),
    ("region", 64 * 1_024),
    ("cursor", SEGMENT_HEADER_BYTES as u64),
    ("directory", crate::limits::DIRECTORY_BYTES as u64),
];

/// Touches every page but one, which is a hole, and puts as many blocks as are missing behind the end, where no mapping
/// reaches: by the number of its blocks the file is whole.
fn forged_with_a_hole(bytes: u64, hole: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("forged", flags).unwrap();
    ftruncate(&fd, bytes).unwrap();
    for page in (0..bytes).step_by(4_096).filter(|page| *page != hole) {
        assert_eq!(rustix::io::pwrite(&fd, &[1; 4_096], page), Ok(4_096));
    }
    rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, bytes, 64 * 1_024).unwrap();
    let blocks = rustix::fs::fstat(&fd).unwrap().st_blocks;
    assert!(blocks.unsigned_abs() * 512 >= bytes, "the blocks look as if all were there");
    rustix::fs::fcntl_add_seals(&fd, SEALS).unwrap();
    fd
}

#[test]
fn segments_with_a_hole_are_refused_whatever_their_blocks_say() {
    for (role, bytes) in ROLES {
        for hole in [0, bytes / 8_192 * 4_096, bytes - 4_096] {
            for error in all_refuse(role, &forged_with_a_hole(bytes, hole)) {
                let SegmentError::NotAllocated { allocated, size, .. } = error else {
                    panic!("{role} with a hole at {hole}: {error}");
                };
                assert_eq!((allocated, size), (hole, bytes), "{role}");
            }
        }
    }
}

#[test]
fn other_files_are_refused() {
    let regular = tempfile::tempfile().unwrap();
    regular.set_len(SEGMENT_HEADER_BYTES as u64).unwrap();
    let (pipe, _writing) = io::pipe().unwrap();
    let (socket, _other) = crate::socket::Connection::pair().unwrap();
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let open = |path: &str, flags: rustix::fs::OFlags| {
        rustix::fs::open(path, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
    };
    let read = rustix::fs::OFlags::RDONLY;
    let files = [
        OwnedFd::from(regular),
        pipe.into(),
        copy(socket.as_fd()),
        event,
        epoll,
        open("/", read).unwrap(),
        open("/dev/zero", read).unwrap(),
        open("/proc/self/mem", read).unwrap(),
    ];
    for fd in &files {
        for (role, _) in ROLES {
            for error in all_refuse(role, fd) {
                // The directory of temporary files may be a tmpfs, whose files can only be sealed against seals.
                let expected =
                    matches!(error, SegmentError::NotMemory { .. } | SegmentError::Seals { .. });
                assert!(expected, "{role}: {error}");
            }
        }
    }
    let named_only = open("/dev/zero", rustix::fs::OFlags::PATH).unwrap();
    for error in all_refuse("cursor", &named_only) {
        assert!(matches!(error, SegmentError::System { .. }), "{error}");
    }
}

#[test]
fn huge_pages_are_refused() {
    for flags in [MemfdFlags::HUGETLB, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB] {
        let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // A kernel without them has nothing to refuse; making the file takes no page yet.
        let Ok(fd) = memfd_create("huge", flags) else { continue };
        let _ = ftruncate(&fd, 1 << 21);
        rustix::fs::fcntl_add_seals(&fd, SEALS).unwrap();
        for (role, _) in ROLES {
            for error in all_refuse(role, &fd) {
                assert!(matches!(error, SegmentError::NotMemory { .. }), "{role}: {error}");
            }
        }
    }
}

#[test]
fn segments_of_another_role_or_version_are_refused() {
    let cursor = Cursor::create(0, false).unwrap();
    let result = Control::open(copy(cursor.as_fd()));
    assert!(matches!(result, Err(SegmentError::Identity { .. })));
    cursor.header().identity.version.store(2, Ordering::Relaxed);
    let result = Cursor::open(copy(cursor.as_fd()));
    assert!(matches!(result, Err(SegmentError::Identity { major: 2, .. })));

    let slots = Slots::create(16, false).unwrap();
    slots.header().identity.number.store(32, Ordering::Relaxed);
    let result = Slots::open(copy(slots.as_fd()));
    assert!(matches!(result, Err(SegmentError::Size { .. })), "the count is that of the file");
}

#[test]
fn router_watches_the_counters_of_slots_and_refuses_what_is_none() {
    let slots = Slots::create(SLOTS_DEFAULT, false).unwrap();
    let watch = SlotsWatch::open(slots.as_fd()).unwrap();
    slots.header().counters.messages.store(7, Ordering::Relaxed);
    slots.header().counters.rejected.store(2, Ordering::Relaxed);
    let expected = LaneCounters { messages: 7, rejected: 2, ..LaneCounters::default() };
    assert_eq!(watch.counters(), expected);
    drop(slots);
    assert_eq!(watch.counters(), expected, "the memory outlives its writer");
    let bytes = (SEGMENT_HEADER_BYTES + SLOTS_DEFAULT * SLOT_BYTES) as u64;
    for (bytes, seals) in [(bytes, SealFlags::empty()), (bytes + 64, SEALS), (bytes, SEALS)] {
        // The last one is sound but for its identity.
        assert!(SlotsWatch::open(forged(bytes, seals, true).as_fd()).is_err());
    }
}

#[test]
fn router_watches_cursors_and_takes_any_value() {
    let cursor = Cursor::create(9, false).unwrap();
    let watch = CursorWatch::open(cursor.as_fd()).unwrap();
    cursor.header().latency.record(1_000);
    cursor.header().counters.lost.store(3, Ordering::Relaxed);
    let counters = watch.counters();
    assert_eq!((counters.position, counters.lost, counters.latency.count()), (9, 3, 1));
    assert_eq!(counters.latency.sum_ns(), 1_000);
    for cell in &cursor.header().latency.counts {
        cell.store(u64::MAX, Ordering::Relaxed);
    }
    assert_eq!(watch.counters().latency.count(), u64::MAX);
    cursor.header().latency.record(1_000);
    let size = SEGMENT_HEADER_BYTES as u64;
    for (bytes, seals) in [(size, SealFlags::empty()), (size * 2, SEALS), (size, SEALS)] {
        // The last one is sound but for its identity.
        assert!(CursorWatch::open(forged(bytes, seals, true).as_fd()).is_err());
    }
}
