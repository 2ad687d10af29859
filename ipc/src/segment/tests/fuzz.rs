//! Fuzz target: descriptors of every sort, and what stands in those that are taken.

use super::*;
use crate::fuzz::{Chance, fuzz};
use crate::header::AgentId;
use crate::lane::Receiver;

/// A memory file of some size, some of whose pages are there, with some seals.
fn memory(chance: &mut Chance, bytes: u64) -> OwnedFd {
    let huge = MemfdFlags::HUGETLB;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let wanted = if chance.once_in(20) { flags | huge } else { flags };
    let fd = memfd_create("fuzz", wanted).or_else(|_| memfd_create("fuzz", flags)).unwrap();
    let size = if chance.once_in(4) { chance.number(bytes) % (1 << 21) } else { bytes };
    // A file of huge pages takes whole ones only.
    let _ = ftruncate(&fd, size);
    let missing = chance.once_in(3).then(|| chance.below(1 + size as usize / 4_096) as u64);
    for page in (0..size.div_ceil(4_096)).filter(|page| Some(*page) != missing) {
        let count = (size - page * 4_096).min(4_096) as usize;
        let filler = if chance.once_in(8) { chance.next() as u8 } else { 0 };
        let _ = rustix::io::pwrite(&fd, &vec![filler; count], page * 4_096);
    }
    if missing.is_some() && chance.once_in(2) {
        let _ = rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, size, 16 * 4_096);
    }
    // An identity that may be the right one, in a version that may be known.
    let magics = [SLOTS_MAGIC, CURSOR_MAGIC, CONTROL_MAGIC, u32::from_le_bytes(*b"BLDR")];
    let (major, minor) = SEGMENT_VERSION;
    let count = (size as usize).saturating_sub(SEGMENT_HEADER_BYTES) / SLOT_BYTES;
    let mut identity = Vec::new();
    for word in [*chance.pick(&magics), major.into(), count as u32, chance.below(4) as u32] {
        identity.extend(word.to_le_bytes());
    }
    identity[6] = minor as u8;
    if chance.once_in(4) {
        chance.mutate(&mut identity);
    }
    if size >= 4_096 && missing != Some(0) {
        let _ = rustix::io::pwrite(&fd, &identity, 0);
    }
    let mut seals = SEALS;
    if chance.once_in(4) {
        let other = [SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE, SealFlags::SEAL];
        seals.remove(*chance.pick(&other));
    }
    if chance.once_in(8) {
        seals.insert(SealFlags::WRITE);
    }
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// What must hold of a file that somebody maps, found out by reading it.
fn check_taken(fd: &OwnedFd, bytes: u64) {
    assert!(rustix::fs::fcntl_get_seals(fd).unwrap().contains(SEALS));
    let status = rustix::fs::fstat(fd).unwrap();
    assert_eq!(status.st_size.unsigned_abs(), bytes);
    for page in (0..bytes).step_by(4_096) {
        // Data begins at each page: none is a hole.
        assert_eq!(rustix::fs::seek(fd, rustix::fs::SeekFrom::Data(page)), Ok(page));
    }
}

#[test]
fn what_is_mapped_is_sealed_and_whole() {
    let control = ControlWriter::create().unwrap();
    let mut taken = [0; 5];
    fuzz(1_500, |chance| {
        let sizes = [SEGMENT_HEADER_BYTES as u64, 4_096 + 64 * 8, 4_096 + 64 * 64, 8_192, 65_536];
        let bytes = *chance.pick(&sizes);
        let fd = memory(chance, bytes);
        let give = || copy(fd.as_fd());
        let size = rustix::fs::fstat(&fd).unwrap().st_size.unsigned_abs();
        if let Ok(slots) = Slots::open(give()) {
            check_taken(&fd, size);
            let sum = slots
                .slots()
                .iter()
                .fold(0u64, |sum, slot| sum.wrapping_add(slot.stamp().load(Ordering::Relaxed)));
            std::hint::black_box((sum, slots.counters()));
            assert!(check_slots(fd.as_fd()).is_ok() && SlotsWatch::open(fd.as_fd()).is_ok());
            // And it is read as a lane.
            let region = Region::create(REGION_BYTES_MIN).unwrap();
            let cursor = Cursor::create(0, false).unwrap();
            let (region, page) = (copy(region.as_fd()), copy(control.as_fd()));
            let lane = Receiver::for_link(AgentId(1), give(), region, page, cursor);
            assert_eq!(lane.is_err(), slots.ungated(), "slots of a topic are no link's");
            if let Ok(mut lane) = lane {
                while let Ok(Some(_)) = lane.try_receive() {}
            }
            taken[0] += 1;
        }
        if let Ok(cursor) = Cursor::open(give()) {
            check_taken(&fd, size);
            std::hint::black_box(cursor.counters());
            assert!(check_cursor(fd.as_fd()).is_ok() && CursorWatch::open(fd.as_fd()).is_ok());
            taken[1] += 1;
        }
        if let Ok(region) = Region::open(give()) {
            check_taken(&fd, size);
            let sum = region
                .words()
                .iter()
                .fold(0u64, |sum, word| sum.wrapping_add(word.load(Ordering::Relaxed)));
            std::hint::black_box(sum);
            assert!(check_region(fd.as_fd()).is_ok());
            taken[2] += 1;
        }
        if let Ok(control) = Control::open(give()) {
            check_taken(&fd, size);
            let _ = control.state();
            taken[3] += 1;
        }
        taken[4] += 1;
        assert!(crate::batch::Borrower::open(give(), 1 << 21).is_err(), "its magic is no pool's");
        if let Ok(frozen) = crate::batch::Frozen::open(give(), 1 << 21) {
            assert!(rustix::fs::fcntl_get_seals(&fd).unwrap().contains(SealFlags::WRITE));
            std::hint::black_box(frozen.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
    });
    // All of them were reached, if enough was tried.
    assert!(taken[4] < 1_000 || taken[..4].iter().all(|count| *count > 0), "{taken:?}");
}
