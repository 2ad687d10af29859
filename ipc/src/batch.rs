//! Large payloads, handed over by reference: *frozen* files that nobody can write any more, and *lent* bytes of a pool.
//!
//! *Frozen* costs time in proportion to the size (the kernel takes the sender's mapping away and makes the receiver's), and
//! gives the receiver a `&[u8]`. *Lent* costs the same whatever the size, and the receiver copies out what it checks.
//! Not here: the lanes that carry the lines (`lane`, `link`, `topic`), and the descriptors' way (`Client::grant`).
//!
//! # Protocol of frozen payloads
//! 1. The sender makes a memory file, allocates every block, fills it, gives up its writable mapping, and seals it against
//!    shrinking, growing, writing and more seals. Until then nobody else has the descriptor.
//! 2. The kernel refuses the seal against writing while a writable mapping or a pinned page is left, and refuses both, and
//!    every other way of writing, from then on.
//! 3. The receiver checks before it maps: a regular file on tmpfs (so no huge pages, no dma-buf, no secret memory), all four
//!    seals (against *future* writing is not enough: the maker's old mapping would go on writing), the size, that no page is
//!    missing. Then it maps for reading, and may give out `&[u8]`.
//!
//! # Protocol of lent payloads
//! 4. The *lender* owns the pool: it makes it, allocates and touches every page, maps it, seals it against shrinking, growing,
//!    future writing and more seals, and only then hands it on. The *borrower* checks all of that, with a look at every page,
//!    once, when the pool comes: nobody can free a page of a file with these seals, so no later access can fail. Thus a pool
//!    is memory as a whole from the start; a lender that wants to begin small makes small pools and more of them.
//! 5. Only the lender writes the pool. Only the borrower writes its returns segment: one word for each of [`LOANS_MAX`] places
//!    of the lender's table of loans, and a count.
//! 6. A loan's number is `generation * LOANS_MAX + place`, from generation 1 on, so it is never 0 and never comes again. The
//!    lender writes into a range that no other loan has, from [`Pool::loan`] until it is lent, and not afterwards.
//! 7. The line that names a loan is a message on a lane that loses none: number, offset, length, pool. Its stamp orders what was
//!    written before what the borrower reads. The borrower copies the line, then checks: magic, its own pool's number, a range
//!    inside the pool, and a number greater than every one before it in its place.
//! 8. Lent bytes are foreign: the borrower reads them through atomics, copies, and checks the copy.
//! 9. The borrower returns a loan by storing its number in the word of its place (never less than what stands there) with
//!    Release, adds 1 to the count, makes a fence, and wakes the lender where it sleeps (the rules of `wait`; the moving word is
//!    the count). Returns come in any order.
//! 10. The lender holds of each loan who has it, and loads only the words of those, with Acquire: a word that equals the loan's
//!     number returns it for that reader. Any other value means that it is still out, so a return of what was not lent, a second
//!     return, an old one, and one of somebody else's loan are nothing. When all readers have returned it, the range is free.
//! 11. When the router's page says that the link has ended, or the program does ([`Pool::reclaim`]), the reader has returned
//!     everything. What it may still read afterwards can change under it, which rule 8 bears.
//! 12. A reader that never returns anything costs what was lent to it, at most the pool: then [`LoanError::PoolFull`] or
//!     [`LoanError::NumbersOut`] says so. Every reader of a pool can read all of it, so those who must not see each other's
//!     payloads get pools of their own.
//!
//! ```
//! use ipc::batch::{Borrower, Draft, Frozen, Pool};
//! use ipc::header::AgentId;
//! use ipc::lane::{LaneOptions, Receiver, Sender, WhenFull};
//! use ipc::{ring::Meta, segment::ControlWriter, wait::Spin};
//! use std::os::fd::{AsFd, BorrowedFd};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In life the descriptors are granted over the socket; here both ends are in one process.
//! let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
//!
//! // Frozen.
//! let mut draft = Draft::create(1_000_000)?;
//! draft.bytes_mut().fill(7);
//! let sealed = draft.freeze()?;
//! let frozen = Frozen::open(copy(sealed.as_fd())?, 1 << 20)?;
//! assert!(frozen.iter().all(|byte| *byte == 7));
//!
//! // Lent. The lane is an ordinary one.
//! # let control = ControlWriter::create()?;
//! # let mut sender = Sender::for_link(LaneOptions::default())?;
//! # let cursor = Receiver::new_cursor(Spin::Adaptive)?;
//! # sender.attach(AgentId(2), copy(cursor.as_fd())?, None)?;
//! # let (slots, region) = (copy(sender.slots_fd())?, copy(sender.region_fd())?);
//! # let page = copy(control.as_fd())?;
//! # let mut receiver = Receiver::for_link(AgentId(1), slots, region, page, cursor)?;
//! let mut pool = Pool::create(1, 8 << 20)?;
//! let mut borrower = Borrower::open(copy(pool.as_fd())?, 8 << 20)?;
//! pool.attach(AgentId(2), copy(borrower.returns_fd())?, Some(copy(control.as_fd())?))?;
//!
//! let mut loan = pool.loan(5_000_000, WhenFull::Reject)?;
//! loan.fill(9);
//! let carry = |line: &[u8]| sender.send(Meta::default(), line, WhenFull::Reject);
//! pool.lend(loan, &[AgentId(2)], carry).map_err(|unsent| unsent.error)?;
//!
//! let lent = borrower.take(receiver.receive(None)?.payload)?;
//! let mut end = [0; 4];
//! lent.read_at(4_999_996, &mut end)?;
//! assert_eq!(end, [9; 4]);
//! drop(lent);
//! assert!(pool.loan(8 << 20, WhenFull::Reject).is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! [`LOANS_MAX`]: crate::limits::LOANS_MAX

mod account;
mod borrower;
mod error;
mod frozen;
mod line;
mod loan;
mod pool;
mod returns;
#[cfg(test)]
mod tests;

pub use borrower::{Borrower, Chunks, Lent};
pub use error::{AttachError, LendError, LoanError, OutOfRange, TakeError};
pub use frozen::{Draft, Frozen, Sealed};
pub use line::LoanLine;
pub use loan::Loan;
pub use pool::{Pool, Unsent};
