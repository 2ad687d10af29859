//! Rings of io_uring: a message from one process's ring into another's, and the sleep on one's own.
//!
//! An [`Inbox`] is a ring into which a peer posts completions (`IORING_OP_MSG_RING`, Linux 5.18); an [`Outbox`] is the
//! peer's private ring from which it posts them. A ring's descriptor cannot travel over a socket (EINVAL), so the peer
//! fetches it from the process that owns it (`pidfd_getfd`, Linux 5.6), which the kernel allows to whoever may trace that
//! process. Not here: what was sent (`class::high` puts it into stamped slots); a completion only says "look".
//!
//! # Protocol
//! 1. Whoever fetched an inbox can map it and write into its queues. So an inbox is made with restrictions: nothing but
//!    `IORING_OP_FUTEX_WAIT` can be submitted on it, by anybody, and nothing can be registered. What the owner submits goes
//!    there only for the word of its control page.
//! 2. Nothing that stands in a completion is believed or used. A false one makes the owner look once more.
//! 3. An outbox is never shared. Its entries name no memory.
//! 4. A completion is posted after the line that it announces was stamped; whoever finds completions removes them before it
//!    looks at the slots. So a line is looked at after its completion was seen, or before.
//! 5. A queue of completions that is full says "look" already; so a message that finds it full has done its work.
#![allow(
    unsafe_code,
    reason = "entries of io_uring are unsafe to submit, because they can name memory"
)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, register::Restriction, squeue};
use rustix::io::Errno;
use rustix::process::PidfdGetfdFlags;
use thiserror::Error;

use crate::limits::{
    INBOX_COMPLETIONS, INBOX_WATCHES_MAX, OUTBOX_ENTRIES, PARK_SLICE_MS, SIGNAL_TRIES_MAX,
};
use crate::sync::{AtomicU32, Ordering};

/// Number of an inbox's descriptor in the process that owns it: what has to travel, beside a descriptor of that process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingNumber(pub u32);

/// Why there is no ring, or no way into a peer's. Whoever wanted one goes one class down.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// No io_uring: an old kernel, `kernel.io_uring_disabled`, or a sandbox that lets rings be made but not entered, too.
    #[error("this process gets no ring of io_uring")]
    Ring(#[source] io::Error),
    /// The kernel has rings, but not this part of them.
    #[error("this kernel's io_uring has no {what} (Linux {since})")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Since when there is one.
        since: &'static str,
    },
    /// The peer's ring cannot be fetched: the peer runs as another user, or a rule against tracing (Yama, a sandbox) forbids it;
    /// or there is no such system call, or no room for a descriptor.
    #[error("the peer's ring cannot be fetched{}", why_not_fetched(.0))]
    Fetch(#[source] io::Error),
    /// What was fetched takes no messages: it is no ring, or not enabled.
    #[error("descriptor {number} of the peer takes no messages")]
    Target {
        /// Its number in the peer.
        number: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A ring into which a peer posts.
pub struct Inbox {
    ring: IoUring,
    /// The value of the watched word for which a wait is under way.
    watched: Option<u32>,
    watches_left: u32,
}

/// A private ring, and the way into one peer's inbox.
pub struct Outbox {
    ring: IoUring,
    target: OwnedFd,
    entry: squeue::Entry,
}

/// Completions of the owner's own wait carry this; a peer may post it too, which rule 2 allows for.
const OWN: u64 = u64::MAX;
/// Size of the watched word, for the kernel.
const FUTEX2_SIZE_U32: u32 = 2;
const MATCH_ANY: u64 = u32::MAX as u64;

impl Inbox {
    /// A new inbox.
    pub fn new() -> Result<Self, Unavailable> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_r_disabled().setup_cqsize(INBOX_COMPLETIONS);
        let ring = builder.build(1).map_err(Unavailable::Ring)?;
        let submitter = ring.submitter();
        let mut probe = Probe::new();
        submitter.register_probe(&mut probe).map_err(Unavailable::Ring)?;
        if !probe.is_supported(opcode::MsgRingData::CODE) {
            return Err(Unavailable::Missing { what: "message between rings", since: "5.18" });
        }
        let watches = probe.is_supported(opcode::FutexWait::CODE);
        // Naming one operation forbids the others, and every registration after the next call.
        let mut rules = [Restriction::sqe_op(opcode::FutexWait::CODE)];
        submitter.register_restrictions(&mut rules).map_err(Unavailable::Ring)?;
        submitter.register_enable_rings().map_err(Unavailable::Ring)?;
        let watches_left = if watches { INBOX_WATCHES_MAX } else { 0 };
        Ok(Self { ring, watched: None, watches_left })
    }

    /// The number under which the peer fetches it.
    pub fn number(&self) -> RingNumber {
        RingNumber(self.ring.as_raw_fd().unsigned_abs())
    }

    /// Removes what was posted; whether there was anything. No system call.
    #[inline]
    pub fn take(&mut self) -> bool {
        let mut queue = self.ring.completion();
        if queue.is_empty() {
            return false;
        }
        // Bounded, whatever the queue's indices say: a peer may have written them.
        for done in queue.by_ref().take(INBOX_COMPLETIONS as usize) {
            if done.user_data() == OWN {
                self.watched = None;
            }
        }
        true
    }

    /// Whether something was posted and not yet taken.
    pub fn is_rung(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Sleeps in `io_uring_enter` until something is posted, or for no reason.
    pub fn wait(&mut self) {
        self.sleep(None, None);
    }

    /// Posts into this inbox, once, when `word` is no longer `seen`. False when the kernel cannot, or not any more.
    ///
    /// The kernel reads the word only while this call lasts; afterwards it knows the place by the file behind it.
    pub(crate) fn watch(&mut self, word: &AtomicU32, seen: u32) -> bool {
        if self.watched == Some(seen) {
            return true;
        }
        if self.watches_left == 0 {
            return false;
        }
        self.watches_left -= 1;
        let address = word.as_ptr().cast_const();
        let entry = opcode::FutexWait::new(address, seen.into(), MATCH_ANY, FUTEX2_SIZE_U32);
        let entry = entry.build().user_data(OWN);
        // SAFETY: the word is alive while the entry is submitted below, and is only compared.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            return false;
        }
        let is_submitted = self.ring.submit().is_ok();
        if is_submitted {
            self.watched = Some(seen);
        }
        is_submitted
    }

    /// Sleeps in `io_uring_enter` until something is posted, `word` is no longer `seen`, the deadline has come, or for no
    /// reason. The caller looks again in any case.
    pub(crate) fn sleep(&mut self, watch: Option<(&AtomicU32, u32)>, deadline: Option<Instant>) {
        if watch.is_some_and(|(word, seen)| word.load(Ordering::Acquire) != seen) {
            return;
        }
        // The kernel compares once more before it waits.
        let is_watched = watch.is_none_or(|(word, seen)| self.watch(word, seen));
        let slice = Duration::from_millis(PARK_SLICE_MS);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = if is_watched { left } else { Some(left.map_or(slice, |left| left.min(slice))) };
        // Time is up, interrupted, out of memory: the caller looks again.
        let _ = match left {
            None => self.ring.submit_and_wait(1),
            Some(left) => {
                let left = Timespec::from(left);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left))
            }
        };
    }
}

impl Outbox {
    /// Fetches the inbox `number` of the process behind `process` (a process descriptor), and posts into it once to see that it
    /// takes messages.
    pub fn connect(process: BorrowedFd<'_>, number: RingNumber) -> Result<Self, Unavailable> {
        let ring =
            IoUring::builder().dontfork().build(OUTBOX_ENTRIES).map_err(Unavailable::Ring)?;
        if !ring.params().is_feature_skip_cqe_on_success() {
            return Err(Unavailable::Missing { what: "silent completion", since: "5.17" });
        }
        let target_error = |source| Unavailable::Target { number: number.0, source };
        // The number is the peer's word.
        let foreign = i32::try_from(number.0)
            .map_err(|_| target_error(io::ErrorKind::InvalidInput.into()))?;
        let target = rustix::process::pidfd_getfd(process, foreign, PidfdGetfdFlags::empty())
            .map_err(|errno| match errno {
                Errno::BADF => target_error(errno.into()),
                _ => Unavailable::Fetch(errno.into()),
            })?;
        let entry = opcode::MsgRingData::new(Fd(target.as_raw_fd()), 0, 0, None).build();
        let mut outbox = Self { ring, target, entry };
        let posted = outbox.try_target().map_err(Unavailable::Ring)?;
        posted.map_err(target_error)?;
        outbox.entry = outbox.entry.clone().flags(squeue::Flags::SKIP_SUCCESS);
        Ok(outbox)
    }

    /// Whose completion is waited for, and looked at: what the own ring says, then what came of it.
    fn try_target(&mut self) -> io::Result<io::Result<()>> {
        try_entry(&mut self.ring, &self.entry)
    }

    /// Posts into the peer's inbox. Never waits.
    #[inline]
    pub fn signal(&mut self) {
        // SAFETY: the entry names no memory. A full queue holds entries that were not submitted yet, and one is enough.
        let _ = unsafe { self.ring.submission().push(&self.entry) };
        for _ in 0..SIGNAL_TRIES_MAX {
            // It fails where the kernel has no memory at the moment; the entry stays for the next try.
            if self.ring.submit().is_ok() {
                break;
            }
        }
        // Only failures are posted here, and the peer's full queue is the one that a live peer gives (rule 5).
        self.ring.completion().for_each(drop);
    }

    /// The peer's ring. Posting into it needs no more of the peer.
    pub fn target(&self) -> BorrowedFd<'_> {
        self.target.as_fd()
    }
}

/// Whether this process can make a ring and enter it: a sandbox may deny the one without the other, and who submits to a ring
/// that cannot be entered waits for ever.
pub fn try_ring() -> Result<(), Unavailable> {
    let mut ring = IoUring::builder().dontfork().build(1).map_err(Unavailable::Ring)?;
    let done = try_entry(&mut ring, &opcode::Nop::new().build());
    done.and_then(|result| result).map_err(Unavailable::Ring)
}

/// Submits an entry that names no memory and waits for it: what the ring says, then what came of the entry.
fn try_entry(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<io::Result<()>> {
    // SAFETY: the entry names no memory; both callers say so.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
    ring.submit_and_wait(1)?;
    match ring.completion().next().map(|done| done.result()) {
        Some(result @ ..0) => Ok(Err(io::Error::from_raw_os_error(-result))),
        Some(_) => Ok(Ok(())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn why_not_fetched(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": this process may not trace the peer (another user, Yama, or a sandbox)"
        }
        _ => "",
    }
}

impl AsFd for Inbox {
    /// Readable while something is posted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("number", &self.number()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outbox").field("target", &self.target).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags};

    use super::*;

    fn this_process() -> OwnedFd {
        rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap()
    }

    /// A ring and the way into it; nothing where the machine has no rings, which is said.
    fn pair() -> Option<(Inbox, Outbox)> {
        let made = Inbox::new().and_then(|inbox| {
            let outbox = Outbox::connect(this_process().as_fd(), inbox.number())?;
            Ok((inbox, outbox))
        });
        made.inspect_err(|error| println!("no rings here: {error}")).ok()
    }

    #[test]
    fn signal_arrives_and_is_taken_once() {
        let Some((mut inbox, mut outbox)) = pair() else { return };
        assert!(inbox.take(), "the one that tried the way");
        assert!(!inbox.take());
        outbox.signal();
        outbox.signal();
        assert!(inbox.is_rung());
        assert!(inbox.take());
        assert!(!inbox.take());
    }

    #[test]
    fn full_inbox_still_says_look() {
        let Some((mut inbox, mut outbox)) = pair() else { return };
        for _ in 0..4 * INBOX_COMPLETIONS {
            outbox.signal();
        }
        // The kernel keeps what did not fit and hands it on later, so it may take a few looks until all is quiet.
        let mut looks = 0;
        while inbox.take() {
            inbox.sleep(None, Some(Instant::now()));
            looks += 1;
        }
        assert!(looks >= 1);
        outbox.signal();
        assert!(inbox.take());
    }

    #[test]
    fn sleeper_is_woken_by_a_signal_a_word_and_the_clock() {
        let Some((mut inbox, mut outbox)) = pair() else { return };
        inbox.take();
        inbox.sleep(None, Some(Instant::now() + Duration::from_millis(1)));
        assert!(!inbox.take());
        let word = AtomicU32::new(1);
        inbox.sleep(Some((&word, 0)), Some(Instant::now() + Duration::from_millis(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                word.store(2, Ordering::Release);
                crate::futex::wake_half(&word);
            });
            while word.load(Ordering::Acquire) == 1 {
                inbox.sleep(Some((&word, 1)), None);
                inbox.take();
            }
        });
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.signal());
            while !inbox.take() {
                inbox.sleep(None, None);
            }
        });
    }

    #[test]
    fn nothing_else_can_be_submitted_on_an_inbox() {
        let Some((mut inbox, _outbox)) = pair() else { return };
        inbox.take();
        // SAFETY: names no memory.
        unsafe { inbox.ring.submission().push(&opcode::Nop::new().build()) }.unwrap();
        let _ = inbox.ring.submit();
        let result = inbox.ring.completion().next().map(|done| done.result());
        assert_eq!(result, Some(-libc::EACCES));
        assert!(inbox.ring.submitter().register_files_sparse(1).is_err());
    }

    #[test]
    fn what_cannot_be_reached_is_named() {
        let number = RingNumber(libc::STDIN_FILENO as u32);
        let nothing = RingNumber(u32::MAX);
        let process = this_process();
        match Outbox::connect(process.as_fd(), number) {
            Err(Unavailable::Target { number: 0, .. } | Unavailable::Fetch(_)) => {}
            Err(Unavailable::Ring(error)) => return println!("no rings here: {error}"),
            other => panic!("{other:?}"),
        }
        let refused = Outbox::connect(process.as_fd(), nothing);
        assert!(
            matches!(refused, Err(Unavailable::Target { number: u32::MAX, .. })),
            "{refused:?}"
        );
        if let Some(first) = Pid::from_raw(1)
            && !rustix::process::geteuid().is_root()
        {
            let process = rustix::process::pidfd_open(first, PidfdFlags::empty()).unwrap();
            let refused = Outbox::connect(process.as_fd(), RingNumber(0));
            assert!(matches!(refused, Err(Unavailable::Fetch(_))), "{refused:?}");
        }
    }
}
