//! Payloads by reference: what arrives, what comes back, what is refused, and who may die.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

use super::*;
use crate::header::AgentId;
use crate::lane::{LaneOptions, Receiver, SendError, Sender, WhenFull};
use crate::limits::{LOANS_MAX, POOL_READERS_MAX, SEGMENT_HEADER_BYTES};
use crate::ring::Meta;
use crate::segment::{ControlWriter, LaneState, SegmentError};
use crate::socket::Connection;
use crate::sync::Ordering;
use crate::wait::Spin;

mod frozen;
mod fuzz;
mod process;

const LENDER: AgentId = AgentId(1);
const READER: AgentId = AgentId(2);
const PAGE: usize = 4_096;
const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

/// Ends a hang; nothing is expected to take this long.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A memory file as a hostile peer would make it: which bytes are there, and where it ends.
fn forged(filled: std::ops::Range<usize>, bytes: usize, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("forged", flags).unwrap();
    rustix::fs::ftruncate(&fd, bytes as u64).unwrap();
    let data = vec![1; filled.len()];
    if !data.is_empty() {
        assert_eq!(rustix::io::pwrite(&fd, &data, filled.start as u64), Ok(data.len()));
    }
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// As long as the whole, but the memory lies beyond the end and one page is missing.
fn forged_with_blocks_beyond(bytes: usize, seals: SealFlags) -> OwnedFd {
    let fd = forged(0..bytes - PAGE, bytes, SealFlags::empty());
    let keep = FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&fd, keep, bytes as u64, 4 * PAGE as u64).unwrap();
    let status = rustix::fs::fstat(&fd).unwrap();
    assert!(status.st_blocks as usize * 512 >= bytes, "the blocks look as if all were there");
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// Both sides of a pool and of the lane, set up through a socket.
struct Bench {
    control: ControlWriter,
    sender: Sender,
    pool: Pool,
    receiver: Receiver,
    borrower: Borrower,
}

impl Bench {
    fn new(bytes: usize) -> Self {
        let (here, there) = Connection::pair().unwrap();
        let control = ControlWriter::create().unwrap();
        let mut sender = Sender::for_link(LaneOptions::default()).unwrap();
        let mut pool = Pool::create(7, bytes).unwrap();
        let given = [sender.slots_fd(), sender.region_fd(), control.as_fd(), pool.as_fd()];
        here.send(b"pool", &given).unwrap();

        let descriptors = there.receive().unwrap().descriptors;
        let [slots, region, page, memory]: [OwnedFd; 4] = descriptors.try_into().unwrap();
        let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
        let borrower = Borrower::open(memory, bytes).unwrap();
        there.send(b"returns", &[cursor.as_fd(), borrower.returns_fd()]).unwrap();
        let receiver = Receiver::for_link(LENDER, slots, region, page, cursor).unwrap();

        let descriptors = here.receive().unwrap().descriptors;
        let [cursor, returns]: [OwnedFd; 2] = descriptors.try_into().unwrap();
        sender.set_control(copy(control.as_fd())).unwrap();
        sender.attach(READER, cursor, None).unwrap();
        pool.attach(READER, returns, Some(copy(control.as_fd()))).unwrap();
        Self { control, sender, pool, receiver, borrower }
    }

    fn loan(&mut self, bytes: usize) -> Result<Loan, LoanError> {
        self.pool.loan(bytes, WhenFull::Reject)
    }

    /// Writes, lends, takes.
    fn hand_over(&mut self, bytes: usize, fill: u8) -> Lent {
        let mut loan = self.loan(bytes).unwrap();
        loan.fill(fill);
        self.lend(loan).unwrap();
        self.borrower.take(self.receiver.receive(Some(later())).unwrap().payload).unwrap()
    }

    fn lend(&mut self, loan: Loan) -> Result<(), Unsent> {
        let sender = &mut self.sender;
        let carry = |line: &[u8]| sender.send(Meta::default(), line, WhenFull::Reject);
        self.pool.lend(loan, &[READER], carry)
    }

    fn is_whole(&mut self) -> bool {
        self.pool.collect();
        self.pool.out() == 0 && self.pool.loan(self.pool.bytes(), WhenFull::Reject).is_ok()
    }
}

fn all(lent: &Lent) -> Vec<u8> {
    let mut out = Vec::new();
    lent.copy_to(&mut out);
    out
}

#[test]
fn lent_bytes_arrive_and_are_read_in_every_way() {
    let mut bench = Bench::new(64 * PAGE);
    for length in [1, 7, 8, 63, 64, 65, 5_000, 64 * PAGE] {
        let mut loan = bench.loan(length).unwrap();
        let expected: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        loan.copy_from_slice(&expected);
        bench.lend(loan).unwrap();
        let message = bench.receiver.receive(Some(later())).unwrap();
        let lent = bench.borrower.take(message.payload).unwrap();
        assert_eq!(lent.length(), length);
        assert_eq!(all(&lent), expected);
        let (mut buffer, mut joined) = ([0; 999], Vec::new());
        let mut chunks = lent.chunks(&mut buffer);
        while let Some(chunk) = chunks.next() {
            joined.extend_from_slice(chunk);
        }
        assert_eq!(joined, expected);
        let mut last = [0];
        lent.read_at(length - 1, &mut last).unwrap();
        assert_eq!(last[0], expected[length - 1]);
        lent.read_at(length, &mut []).unwrap();
        for (offset, count) in [(length, 1), (length + 1, 0), (usize::MAX, 1), (0, length + 1)] {
            let error = lent.read_at(offset, &mut vec![0; count]).unwrap_err();
            assert_eq!(error, OutOfRange { offset, count, length });
        }
        drop(lent);
        assert!(bench.is_whole());
    }
    assert_eq!(bench.pool.counters().messages, 8);
}

#[test]
fn loans_come_back_in_any_order() {
    let mut bench = Bench::new(16 * PAGE);
    let mut held: Vec<_> = (0..16).map(|index| bench.hand_over(PAGE, index)).collect();
    let full = LoanError::PoolFull { wanted: 64, longest: 0 };
    assert_eq!(bench.loan(1).unwrap_err(), full);
    assert_eq!(bench.pool.counters().rejected, 1);
    for index in [7, 0, 13, 3, 3, 9] {
        let lent = held.remove(index);
        let fill = all(&lent)[0];
        drop(lent);
        // What came back is lent again, and nothing else.
        let again = bench.hand_over(PAGE, fill);
        assert_eq!(bench.loan(1).unwrap_err(), full);
        held.push(again);
    }
    let mut fills: Vec<u8> = held.iter().map(|lent| all(lent)[PAGE - 1]).collect();
    fills.sort_unstable();
    assert_eq!(fills, (0..16).collect::<Vec<u8>>());
    drop(held);
    assert!(bench.is_whole());
}

#[test]
fn loans_of_impossible_length_and_too_many_are_refused() {
    let mut bench = Bench::new(32 * PAGE);
    for got in [0, 32 * PAGE + 1, usize::MAX] {
        assert_eq!(bench.loan(got).unwrap_err(), LoanError::Length { got, max: 32 * PAGE });
    }
    let held: Vec<_> = (0..LOANS_MAX).map(|_| bench.loan(1).unwrap()).collect();
    assert_eq!(bench.loan(1).unwrap_err(), LoanError::NumbersOut);
    drop(held);
    assert!(bench.is_whole(), "loans that were not lent come back");
    for bytes in [0, 1, PAGE - 1, PAGE + 64, usize::MAX] {
        assert!(matches!(Pool::create(1, bytes), Err(SegmentError::Size { .. })), "{bytes}");
    }
}

#[test]
fn loan_that_the_lane_does_not_take_is_given_back() {
    let mut bench = Bench::new(4 * PAGE);
    let mut loan = bench.loan(4 * PAGE).unwrap();
    loan.fill(5);
    let unsent = bench.pool.lend(loan, &[READER], |_| Err(SendError::Full)).unwrap_err();
    assert_eq!(unsent.error, LendError::Send(SendError::Full));
    let unsent = bench.pool.lend(unsent.loan, &[], |_| Ok(())).unwrap_err();
    assert_eq!(unsent.error, LendError::Nobody);
    let stranger = AgentId(99);
    let unsent = bench.pool.lend(unsent.loan, &[READER, stranger], |_| Ok(())).unwrap_err();
    assert_eq!(unsent.error, LendError::NoReader { reader: stranger });
    let unsent = Bench::new(PAGE).lend(unsent.loan).unwrap_err();
    assert_eq!(unsent.error, LendError::OtherPool);
    assert_eq!(unsent.loan[0], 5, "it was not touched");
    bench.lend(unsent.loan).unwrap();
    let message = bench.receiver.receive(Some(later())).unwrap();
    drop(bench.borrower.take(message.payload).unwrap());
    assert!(bench.is_whole());
}

#[test]
fn lender_that_waits_gets_what_comes_back() {
    for spin in [Spin::None, Spin::Adaptive, Spin::Forever] {
        let Bench { control, mut sender, mut pool, mut receiver, mut borrower } =
            Bench::new(4 * PAGE);
        pool.set_spin(spin);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..2_000u64 {
                    let message = receiver.receive(Some(later())).unwrap();
                    let lent = borrower.take(message.payload).unwrap();
                    let mut first = [0; 8];
                    lent.read_at(0, &mut first).unwrap();
                    assert_eq!(u64::from_le_bytes(first), number);
                    assert!(all(&lent)[8..].iter().all(|byte| *byte == number as u8));
                }
            });
            for number in 0..2_000u64 {
                let length = 8 + (number as usize * 997) % (3 * PAGE);
                let mut loan = pool.loan(length, WhenFull::WaitUntil(later())).unwrap();
                loan.fill(number as u8);
                loan[..8].copy_from_slice(&number.to_le_bytes());
                let carry =
                    |line: &[u8]| sender.send(Meta::default(), line, WhenFull::WaitUntil(later()));
                pool.lend(loan, &[READER], carry).map_err(|unsent| unsent.error).unwrap();
            }
        });
        drop(control);
        pool.collect();
        assert_eq!(pool.out(), 0);
    }
}

#[test]
fn lender_that_waits_in_vain_is_told_so_at_the_deadline() {
    let mut bench = Bench::new(PAGE);
    let lent = bench.hand_over(PAGE, 1);
    // A count that lies costs the lender a look, nothing else.
    bench.borrower.memory().header().returned.0.store(u64::MAX, Ordering::Relaxed);
    for spin in [Spin::None, Spin::Adaptive] {
        bench.pool.set_spin(spin);
        let soon = WhenFull::WaitUntil(Instant::now() + Duration::from_millis(1));
        let full = LoanError::PoolFull { wanted: PAGE, longest: 0 };
        assert_eq!(bench.pool.loan(PAGE, soon).unwrap_err(), full);
    }
    assert_eq!(bench.pool.counters().waits, 2);
    drop(lent);
    assert!(bench.is_whole());
}

#[test]
fn reader_that_dies_gives_everything_back_and_wakes_the_lender() {
    let mut bench = Bench::new(4 * PAGE);
    bench.pool.set_spin(Spin::None);
    let held = [bench.hand_over(2 * PAGE, 1), bench.hand_over(2 * PAGE, 2)];
    let (control, pool) = (&bench.control, &mut bench.pool);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.loan(4 * PAGE, WhenFull::WaitUntil(later())).map(drop));
        control.set(LaneState::PeerGone);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    assert_eq!(bench.pool.readers(), 0);
    let loan = bench.loan(4 * PAGE).unwrap();
    let unsent = bench.lend(loan).unwrap_err();
    assert_eq!(unsent.error, LendError::NoReader { reader: READER });
    drop(held);
    // The same when the link was ended in another way, before the pool has looked.
    let mut bench = Bench::new(PAGE);
    bench.control.set(LaneState::Revoked);
    let loan = bench.loan(PAGE).unwrap();
    let unsent = bench.lend(loan).unwrap_err();
    assert_eq!(unsent.error, LendError::NoReader { reader: READER });
}

#[test]
fn loans_stay_readable_when_the_lender_is_gone() {
    let mut bench = Bench::new(4 * PAGE);
    let lent = bench.hand_over(3 * PAGE, 6);
    let Bench { control, sender, pool, borrower, .. } = bench;
    drop((control, sender, pool, borrower));
    assert_eq!(all(&lent), vec![6; 3 * PAGE]);
    drop(lent);
}

#[test]
fn loan_of_several_readers_is_free_when_all_have_returned_it() {
    let mut bench = Bench::new(PAGE);
    let mut others = Vec::new();
    for number in 3..5 {
        let borrower = Borrower::open(copy(bench.pool.as_fd()), PAGE).unwrap();
        bench.pool.attach(AgentId(number), copy(borrower.returns_fd()), None).unwrap();
        others.push(borrower);
    }
    let readers = [READER, AgentId(3), AgentId(4)];
    let loan = bench.loan(PAGE).unwrap();
    let mut line = Vec::new();
    let carry = |bytes: &[u8]| {
        line.extend_from_slice(bytes);
        Ok(())
    };
    bench.pool.lend(loan, &readers, carry).unwrap();
    let one = bench.borrower.take(&line).unwrap();
    let [two, three] = [0, 1].map(|index: usize| others[index].take(&line).unwrap());
    drop(two);
    assert_eq!((bench.pool.collect(), bench.pool.out()), (0, 1));
    drop(one);
    assert_eq!(bench.pool.collect(), 0);
    assert_eq!(bench.pool.reclaim(AgentId(4)), 1);
    assert!(bench.is_whole());
    // The same place again for another reader: what the last one held is not his.
    let again = Borrower::open(copy(bench.pool.as_fd()), PAGE).unwrap();
    bench.pool.attach(AgentId(5), copy(again.returns_fd()), None).unwrap();
    let loan = bench.loan(PAGE).unwrap();
    bench.pool.lend(loan, &[AgentId(5)], |_| Ok(())).unwrap();
    drop(three);
    assert_eq!((bench.pool.collect(), bench.pool.out()), (0, 1));
    assert_eq!(bench.pool.reclaim(AgentId(4)), 0, "it has left before");
    assert_eq!(bench.pool.reclaim(AgentId(5)), 1);
}

#[test]
fn returns_of_what_was_not_lent_are_nothing() {
    let mut bench = Bench::new(4 * PAGE);
    let lent = bench.hand_over(PAGE, 1);
    let number = bench.pool.loan(PAGE, WhenFull::Reject).unwrap().number();
    let real = number - 1;
    let other = Borrower::open(copy(bench.pool.as_fd()), 4 * PAGE).unwrap();
    bench.pool.attach(AgentId(3), copy(other.returns_fd()), None).unwrap();
    bench.pool.collect();
    let place = (real % LOANS_MAX as u64) as usize;
    // Somebody else's loan.
    other.memory().words()[place].store(real, Ordering::Release);
    assert_eq!((bench.pool.collect(), bench.pool.out()), (0, 1));
    // Numbers that were never given, in every place, this loan's too.
    let words = bench.borrower.memory().words();
    for wrong in [0, 1, real + 1, real - 1, real + LOANS_MAX as u64, u64::MAX] {
        for word in words {
            word.store(wrong, Ordering::Release);
        }
        let freed = bench.pool.collect();
        assert_eq!((freed, bench.pool.out()), (0, 1), "{wrong}");
    }
    words.iter().for_each(|word| word.store(0, Ordering::Release));
    drop(lent);
    assert_eq!((bench.pool.collect(), bench.pool.out()), (1, 0));
    // A second return, while the place has its next loan.
    let next = bench.hand_over(PAGE, 2);
    bench.borrower.memory().words()[place].store(real, Ordering::Release);
    bench.pool.collect();
    assert_eq!(bench.pool.out(), 1);
    drop(next);
    assert!(bench.is_whole());
}

#[test]
fn borrower_that_returns_nothing_costs_the_pool_and_no_more() {
    let mut bench = Bench::new(8 * PAGE);
    let held: Vec<_> = (0..8).map(|_| bench.hand_over(PAGE, 1)).collect();
    for lent in held {
        std::mem::forget(lent);
    }
    let full = LoanError::PoolFull { wanted: 64, longest: 0 };
    assert_eq!(bench.loan(1).unwrap_err(), full);
    assert_eq!(full.to_string(), "the pool is full: expected 64 bytes in one piece, got at most 0");
    assert_eq!(bench.pool.reclaim(READER), 8);
    assert!(bench.is_whole());
}

fn line(number: u64, offset: u64, length: u64) -> LoanLine {
    LoanLine { number, offset, length, pool: 7 }
}

#[test]
fn lines_that_do_not_hold_are_refused() {
    let bytes = 4 * PAGE;
    let mut borrower = Bench::new(bytes).borrower;
    let end = bytes as u64;
    let outside = [
        (0, 0),
        (0, end + 1),
        (end, 1),
        (end - 8, 9),
        (8, end),
        (4, 8),
        (u64::MAX, 1),
        (u64::MAX - 7, 8),
        (8, u64::MAX),
        (u64::MAX - 7, u64::MAX),
    ];
    for (offset, length) in outside {
        let error = borrower.take(&line(2_000, offset, length).encode()).unwrap_err();
        assert_eq!(error, TakeError::Outside { offset, length, bytes });
    }
    let other = LoanLine { pool: 8, ..line(2_000, 0, 1) };
    let error = borrower.take(&other.encode()).unwrap_err();
    assert_eq!(error, TakeError::OtherPool { expected: 7, got: 8 });
    let good = line(2_000, 0, end).encode();
    for wrong in [&b""[..], b"hello", &good[..31], &[0; 48]] {
        assert_eq!(borrower.take(wrong).unwrap_err(), TakeError::NoLine);
    }
    assert_eq!(borrower.take(&line(0, 0, 1).encode()).unwrap_err(), TakeError::Stale { number: 0 });
    let lent = borrower.take(&good).unwrap();
    // The same again, held and returned; an older one of its place; then a newer one, returned in the wrong order.
    assert_eq!(borrower.take(&good).unwrap_err(), TakeError::Stale { number: 2_000 });
    let newer = borrower.take(&line(2_000 + LOANS_MAX as u64, 0, 8).encode()).unwrap();
    drop(newer);
    drop(lent);
    assert_eq!(borrower.take(&good).unwrap_err(), TakeError::Stale { number: 2_000 });
    let word = &borrower.memory().words()[2_000 % LOANS_MAX];
    assert_eq!(word.load(Ordering::Relaxed), 2_000 + LOANS_MAX as u64);
}

#[test]
fn pools_that_are_not_what_they_should_be_are_refused() {
    let bytes = SEGMENT_HEADER_BYTES + 4 * PAGE;
    let open = |fd: OwnedFd| Borrower::open(fd, 8 * PAGE).map(drop);
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE, SealFlags::SEAL] {
        let fd = forged(0..bytes, bytes, SEALS.difference(missing));
        assert!(matches!(open(fd), Err(SegmentError::Seals { .. })));
    }
    for size in [0, PAGE, PAGE + 1, bytes - 1, bytes + 64, SEGMENT_HEADER_BYTES + 12 * PAGE] {
        let fd = forged(0..size, size, SEALS);
        assert!(matches!(open(fd), Err(SegmentError::Size { .. })), "{size}");
    }
    for hole in [0..0, 0..bytes - PAGE, PAGE..bytes, bytes - PAGE..bytes] {
        let fd = forged(hole, bytes, SEALS);
        assert!(matches!(open(fd), Err(SegmentError::NotAllocated { .. })));
    }
    let fd = forged_with_blocks_beyond(bytes, SEALS);
    assert!(matches!(open(fd), Err(SegmentError::NotAllocated { .. })));
    // Sound, but nobody's pool; and another segment of the bus.
    let fd = forged(0..bytes, bytes, SEALS);
    assert!(matches!(open(fd), Err(SegmentError::Identity { .. })));
    let region = crate::segment::Region::create(bytes.next_power_of_two()).unwrap();
    assert!(open(copy(region.as_fd())).is_err());
    let pool = Pool::create(1, 16 * PAGE).unwrap();
    assert!(matches!(open(copy(pool.as_fd())), Err(SegmentError::Size { .. })), "above the bound");
}

#[test]
fn returns_that_are_not_what_they_should_be_are_refused() {
    let mut pool = Pool::create(1, PAGE).unwrap();
    let foreign = Borrower::open(copy(Pool::create(2, PAGE).unwrap().as_fd()), PAGE).unwrap();
    let error = pool.attach(READER, copy(foreign.returns_fd()), None).unwrap_err();
    let wrong = SegmentError::OtherPool { expected: 1, got: 2 };
    assert!(matches!(&error, AttachError::Segment(got) if got.to_string() == wrong.to_string()));
    let bytes = SEGMENT_HEADER_BYTES + LOANS_MAX * 8;
    for fd in [
        forged(0..bytes, bytes, SEALS.difference(SealFlags::FUTURE_WRITE)),
        forged(0..bytes, bytes, SEALS),
        forged(0..PAGE, bytes, SEALS),
        forged_with_blocks_beyond(bytes, SEALS),
        forged(0..bytes + PAGE, bytes + PAGE, SEALS),
    ] {
        assert!(matches!(pool.attach(READER, fd, None), Err(AttachError::Segment(_))));
    }
    let mut borrowers = Vec::new();
    for number in 0..POOL_READERS_MAX as u32 {
        let borrower = Borrower::open(copy(pool.as_fd()), PAGE).unwrap();
        pool.attach(AgentId(number), copy(borrower.returns_fd()), None).unwrap();
        borrowers.push(borrower);
    }
    let returns = || copy(borrowers[0].returns_fd());
    let error = pool.attach(AgentId(5), returns(), None).unwrap_err();
    assert!(matches!(error, AttachError::Attached { reader: AgentId(5) }));
    let error = pool.attach(AgentId(1_000), returns(), None).unwrap_err();
    assert!(matches!(error, AttachError::TooManyReaders));
    assert_eq!(pool.readers(), POOL_READERS_MAX);
}

/// One step of a lender and its borrower.
#[derive(Clone, Debug)]
enum Step {
    Loan(usize),
    Lend(prop::sample::Index),
    Drop(prop::sample::Index),
    Return(prop::sample::Index),
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..3 * PAGE).prop_map(Step::Loan),
        3 => any::<prop::sample::Index>().prop_map(Step::Lend),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => any::<prop::sample::Index>().prop_map(Step::Return),
        1 => Just(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_is_held_is_ever_overwritten(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new(8 * PAGE);
        let (mut written, mut held) = (Vec::new(), Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Loan(bytes) => {
                    if let Ok(mut loan) = bench.loan(bytes) {
                        loan.fill(index as u8);
                        written.push((loan, index as u8));
                    }
                }
                Step::Lend(which) if !written.is_empty() => {
                    let (loan, fill) = written.swap_remove(which.index(written.len()));
                    bench.lend(loan).unwrap();
                    let message = bench.receiver.receive(Some(later())).unwrap();
                    held.push((bench.borrower.take(message.payload).unwrap(), fill));
                }
                Step::Drop(which) if !written.is_empty() => {
                    written.swap_remove(which.index(written.len()));
                }
                Step::Return(which) if !held.is_empty() => {
                    held.swap_remove(which.index(held.len()));
                }
                Step::Collect => {
                    bench.pool.collect();
                    prop_assert_eq!(bench.pool.out(), written.len() + held.len());
                }
                _ => {}
            }
            for (loan, fill) in &written {
                prop_assert!(loan.iter().all(|byte| byte == fill));
            }
            for (lent, fill) in &held {
                prop_assert!(all(lent).iter().all(|byte| byte == fill));
            }
        }
        drop((written, held));
        prop_assert!(bench.is_whole());
    }

    #[test]
    fn any_bytes_are_a_loan_inside_the_pool_or_an_error(
        lines in prop::collection::vec((any::<u64>(), any::<u64>(), 0u64..20_000, any::<bool>()), 1..20),
        noise in prop::collection::vec(any::<u8>(), 0..48),
    ) {
        let mut borrower = Bench::new(4 * PAGE).borrower;
        let _ = borrower.take(&noise);
        for (number, offset, length, is_near) in lines {
            let offset = if is_near { offset % 20_000 } else { offset };
            if let Ok(lent) = borrower.take(&line(number, offset, length).encode()) {
                prop_assert_eq!(all(&lent).len() as u64, length);
                prop_assert!(offset + length <= 4 * PAGE as u64);
            }
        }
    }
}
