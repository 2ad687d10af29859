//! The lender's side of a pool: loans, readers, what has come back, and waiting for it.
//!
//! Not here: which ranges are free (`account`), and writing into one (`loan`). The rules are those of `batch`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{Account, State, place_of};
use super::line::LoanLine;
use super::loan::Loan;
use super::returns::{is_back, returns_seen};
use super::{AttachError, LendError, LoanError};
use crate::futex;
use crate::header::AgentId;
use crate::lane::{Ended, SendError, WhenFull};
use crate::limits::{LOANS_MAX, PARK_SLICE_MS, POOL_READERS_MAX};
use crate::segment::bulk::{PoolMemory, Returns};
use crate::segment::{Control, LaneCounters, SegmentError};
use crate::sync::{AtomicU64, Ordering};
use crate::wait::{self, Next, Sleeper, Spin, Spinner};

/// Bytes that are lent.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    account: Account,
    /// A reader's bit is its index.
    readers: Vec<Option<Reader>>,
    sleeper: Sleeper,
    spin: Spin,
    counters: LaneCounters,
}

/// What loans keep alive.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) memory: PoolMemory,
    /// For each place the number of the loan that was dropped there last without being lent.
    dropped: Box<[AtomicU64]>,
}

impl Shared {
    pub(super) fn dropped(&self, number: u64) -> &AtomicU64 {
        &self.dropped[place_of(number)]
    }
}

#[derive(Debug)]
struct Reader {
    id: AgentId,
    returns: Returns,
    control: Option<Control>,
}

impl Reader {
    fn is_live(&self) -> bool {
        let state = self.control.as_ref().map(Control::state);
        state.and_then(Ended::from_state).is_none()
    }
}

/// A loan that was not lent: it can be tried again, or dropped.
#[derive(Debug)]
pub struct Unsent {
    /// The loan, unchanged.
    pub loan: Loan,
    /// Why.
    pub error: LendError,
}

impl Pool {
    /// A pool of `bytes`, a multiple of 4,096. All of them are memory from here on, which takes its time. `number` tells the
    /// borrowers of several pools which one a line means.
    pub fn create(number: u32, bytes: usize) -> Result<Self, SegmentError> {
        let memory = PoolMemory::create(number, bytes)?;
        let account = Account::new(memory.bytes());
        let dropped = (0..LOANS_MAX).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            shared: Arc::new(Shared { memory, dropped }),
            account,
            readers: Vec::new(),
            sleeper: Sleeper::default(),
            spin: Spin::Adaptive,
            counters: LaneCounters::default(),
        })
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.shared.memory.number()
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.shared.memory.bytes()
    }

    /// How to wait for room. [`Spin::Adaptive`] unless set.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// Lends to a reader from now on. `control` is the router's page of the link: when it says that the link has ended, the
    /// reader counts as having returned everything. Without it only [`Pool::reclaim`] says so, and a wait for room does not
    /// end before its deadline when the reader dies.
    pub fn attach(
        &mut self,
        reader: AgentId,
        returns: OwnedFd,
        control: Option<OwnedFd>,
    ) -> Result<(), AttachError> {
        if self.index_of(reader).is_some() {
            return Err(AttachError::Attached { reader });
        }
        let returns = Returns::open(returns, self.number())?;
        let control = control.map(Control::open).transpose()?;
        let reader = Reader { id: reader, returns, control };
        let vacant = self.readers.iter().position(Option::is_none);
        match vacant {
            Some(index) => self.readers[index] = Some(reader),
            None if self.readers.len() < POOL_READERS_MAX => self.readers.push(Some(reader)),
            None => return Err(AttachError::TooManyReaders),
        }
        Ok(())
    }

    /// Forgets a reader that left or died: whatever it had has come back. Gives how many loans are free by that.
    pub fn reclaim(&mut self, reader: AgentId) -> usize {
        let Some(index) = self.index_of(reader) else { return 0 };
        self.readers[index] = None;
        // Loans of a place without a reader come back by themselves.
        self.collect()
    }

    /// A range of `bytes` to write into. Looks for returns only when there is no room.
    pub fn loan(&mut self, bytes: usize, when: WhenFull) -> Result<Loan, LoanError> {
        let max = self.bytes();
        if bytes == 0 || bytes > max {
            return Err(LoanError::Length { got: bytes, max });
        }
        if let Some(loan) = self.take(bytes) {
            return Ok(loan);
        }
        self.collect();
        match self.take(bytes) {
            Some(loan) => Ok(loan),
            None => self.wait_for_room(bytes, when),
        }
    }

    /// Lends a loan to readers. `carry` sends the line that names it over a lane that loses none; when it fails, nothing was
    /// lent and the loan is given back.
    pub fn lend(
        &mut self,
        loan: Loan,
        readers: &[AgentId],
        carry: impl FnOnce(&[u8]) -> Result<(), SendError>,
    ) -> Result<(), Unsent> {
        let lent = self.holders(&loan, readers).and_then(|holders| {
            let line = LoanLine {
                number: loan.number(),
                offset: loan.offset() as u64,
                length: loan.len() as u64,
                pool: self.number(),
            };
            carry(&line.encode())?;
            Ok(holders)
        });
        let holders = match lent {
            Ok(holders) => holders,
            Err(error) => return Err(Unsent { loan, error }),
        };
        self.account.set_state(loan.number(), State::Lent(holders));
        self.counters.messages += 1;
        self.counters.bytes_lent += loan.len() as u64;
        loan.set_lent();
        let counters = &self.shared.memory.header().counters;
        counters.messages.store(self.counters.messages, Ordering::Relaxed);
        counters.bytes_lent.store(self.counters.bytes_lent, Ordering::Relaxed);
        Ok(())
    }

    /// Frees what has come back, of readers whose link has ended too. Gives how many loans.
    pub fn collect(&mut self) -> usize {
        let (shared, readers) = (&self.shared, &mut self.readers);
        for place in readers.iter_mut() {
            // Said by the router, whom everybody trusts; see rule 11.
            if place.as_ref().is_some_and(|reader| !reader.is_live()) {
                *place = None;
            }
        }
        self.account.review(|number, state| match state {
            State::Lent(holders) => match still_held(readers, number, holders) {
                0 => State::Idle,
                holders => State::Lent(holders),
            },
            _ if is_back(shared.dropped(number), number) => State::Idle,
            state => state,
        })
    }

    /// Loans that are being written or have not come back, as far as [`Pool::collect`] has seen.
    pub fn out(&self) -> usize {
        self.account.out()
    }

    /// How many readers are attached.
    pub fn readers(&self) -> usize {
        self.readers.iter().flatten().count()
    }

    /// What was lent: messages are loans.
    pub fn counters(&self) -> LaneCounters {
        self.counters
    }

    fn index_of(&self, reader: AgentId) -> Option<usize> {
        self.readers.iter().position(|place| place.as_ref().is_some_and(|held| held.id == reader))
    }

    /// The bits of readers that may have this loan.
    fn holders(&self, loan: &Loan, readers: &[AgentId]) -> Result<u64, LendError> {
        if !loan.is_of(&self.shared) {
            return Err(LendError::OtherPool);
        }
        let mut holders = 0;
        for reader in readers {
            let index = self.index_of(*reader);
            let held = index.and_then(|index| Some((index, self.readers[index].as_ref()?)));
            match held {
                Some((index, held)) if held.is_live() => holders |= 1 << index,
                _ => return Err(LendError::NoReader { reader: *reader }),
            }
        }
        if holders == 0 { Err(LendError::Nobody) } else { Ok(holders) }
    }

    fn take(&mut self, bytes: usize) -> Option<Loan> {
        let taken = self.account.take(bytes)?;
        Some(Loan::new(Arc::clone(&self.shared), taken.number, taken.offset, bytes))
    }

    fn why_full(&self, bytes: usize) -> LoanError {
        if !self.account.has_number() {
            return LoanError::NumbersOut;
        }
        LoanError::PoolFull { wanted: Account::aligned(bytes), longest: self.account.longest() }
    }

    #[cold]
    fn wait_for_room(&mut self, bytes: usize, when: WhenFull) -> Result<Loan, LoanError> {
        let WhenFull::WaitUntil(deadline) = when else {
            return Err(self.refuse(bytes));
        };
        self.counters.waits += 1;
        let waits = &self.shared.memory.header().counters.waits;
        waits.store(self.counters.waits, Ordering::Relaxed);
        let mut spinner = Spinner::new(self.spin);
        loop {
            let next = spinner.next();
            if next == Next::Sleep {
                self.sleep(deadline);
            }
            self.collect();
            if let Some(loan) = self.take(bytes) {
                return Ok(loan);
            }
            if Instant::now() >= deadline {
                return Err(self.refuse(bytes));
            }
        }
    }

    fn refuse(&mut self, bytes: usize) -> LoanError {
        self.counters.rejected += 1;
        let rejected = &self.shared.memory.header().counters.rejected;
        rejected.store(self.counters.rejected, Ordering::Relaxed);
        self.why_full(bytes)
    }

    /// Rules 2 and 4 of `wait`. The moving word is a reader's count; where several readers, or loans that are being written,
    /// can give room, this looks at them again after a while, because the kernel waits for one of them.
    fn sleep(&mut self, deadline: Instant) {
        let header = self.shared.memory.header();
        self.sleeper.arm(&header.lender_sleeping.0, wait::ON_FUTEX);
        let slice = Instant::now() + Duration::from_millis(PARK_SLICE_MS);
        let live: Vec<_> = self.readers.iter().flatten().collect();
        let mut is_writing = false;
        let seen = live.first().map(|reader| {
            let word = &reader.returns.header().returned.0;
            let state = reader.control.as_ref().map(Control::state_word);
            (word, returns_seen(word), state.map(|word| (word, word.load(Ordering::Acquire))))
        });
        let readers = &self.readers;
        let mut has_news = live.iter().any(|reader| !reader.is_live());
        self.account.review(|number, state| {
            match state {
                State::Lent(holders) => has_news |= still_held(readers, number, holders) != holders,
                _ => is_writing = true,
            }
            state
        });
        if !has_news && let Some((word, seen, state)) = seen {
            let until = if live.len() > 1 || is_writing { slice.min(deadline) } else { deadline };
            futex::sleep(word, seen as u32, state, Some(until));
        } else if !has_news {
            std::thread::sleep(slice.min(deadline).saturating_duration_since(Instant::now()));
        }
        self.sleeper.disarm(&self.shared.memory.header().lender_sleeping.0);
    }
}

impl AsFd for Pool {
    /// What is granted to the borrowers; it can only be mapped for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.memory.descriptor()
    }
}

/// Of the readers in `holders` those that are there and have not returned the loan.
fn still_held(readers: &[Option<Reader>], number: u64, holders: u64) -> u64 {
    let mut left = 0;
    let mut rest = holders;
    while rest != 0 {
        let bit = rest & rest.wrapping_neg();
        rest ^= bit;
        let reader = readers.get(bit.trailing_zeros() as usize).and_then(Option::as_ref);
        let is_held = reader
            .is_some_and(|reader| !is_back(&reader.returns.words()[place_of(number)], number));
        if is_held {
            left |= bit;
        }
    }
    left
}
