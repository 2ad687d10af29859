//! Closing what a peer handed over, without waiting for the peer.
//!
//! `close` may wait for whoever made the file: a file system in user space is asked to flush and need not answer, a TCP socket
//! lingers, a Unix socket lets go of such files that lie in its queue. There is no flag against it. Memory with seals closes at
//! once, and whether a descriptor is that is asked without asking its file system; everything else is closed by threads of this
//! module, made when they are needed. One peer keeps one thread busy at most, so what does not close holds up nothing but more
//! of the same peer's. A thread that has nothing to do waits a while for more, because every request may bring a descriptor and
//! making a thread takes as long as answering a small one:
//!
//! 1. Under the lock, a thread that waits is counted in `waiting`. Whoever has work for it takes it out of the count, puts the
//!    peer into `called` and wakes one; so those asleep are `waiting` and `called` together.
//! 2. A thread that wakes takes a peer out of `called`, whichever it is. One that has waited long enough and finds none takes
//!    itself out of the count and ends.
//!
//! Not here: how much a peer may leave to be closed; who takes descriptors in asks [`Closer::count_of`] before it takes more.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{CLOSERS_MAX, CLOSERS_WAITING_MAX, CLOSERS_WAITING_TIME, REGION_BYTES_MAX};

/// Closes descriptors of peers. Copies are the same one.
#[derive(Clone, Debug, Default)]
pub struct Closer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    list: Mutex<Waiting>,
    /// Told of what is put into `called`.
    calls: Condvar,
}

/// What is to be closed, and by whom.
#[derive(Debug, Default)]
struct Waiting {
    /// By whose they are; none is empty.
    queues: BTreeMap<u32, VecDeque<OwnedFd>>,
    /// Whose are being closed, by one thread each.
    busy: BTreeSet<u32>,
    /// How many of each are not closed yet; none is 0.
    left: BTreeMap<u32, usize>,
    /// Threads with nothing to do that nobody has called.
    waiting: usize,
    /// Whose a thread that was called is to close; busy already.
    called: VecDeque<u32>,
}

/// A descriptor that came from a peer. Dropped, it is closed without waiting, where there is a [`Closer`] for it.
#[derive(Debug)]
pub struct Foreign {
    /// There until it is dropped or taken.
    descriptor: Option<OwnedFd>,
    closer: Option<(Closer, u32)>,
}

/// Whether closing it waits for nobody: it is memory that can be sealed, and so little that giving it back takes no time. Asks
/// the kernel, and no file system of somebody else's.
pub fn closes_at_once(descriptor: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(descriptor).is_ok()
        && rustix::fs::fstat(descriptor)
            .is_ok_and(|found| found.st_size.unsigned_abs() <= REGION_BYTES_MAX as u64)
}

impl Closer {
    /// One with nothing to do, and without a thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes a descriptor that came from `peer`: at once where that waits for nobody, otherwise soon, elsewhere.
    pub fn close(&self, peer: u32, descriptor: OwnedFd) {
        if closes_at_once(descriptor.as_fd()) {
            return;
        }
        let mut waiting = self.lock();
        waiting.queues.entry(peer).or_default().push_back(descriptor);
        *waiting.left.entry(peer).or_default() += 1;
        // Where no thread can be had now, the next one that closes something tries again.
        while waiting.busy.len() < CLOSERS_MAX
            && let Some(next) = waiting.next()
        {
            if waiting.waiting > 0 {
                waiting.waiting -= 1;
                waiting.called.push_back(next);
                self.shared.calls.notify_one();
                continue;
            }
            let closer = self.clone();
            let thread = std::thread::Builder::new().name("closer".to_owned());
            if thread.spawn(move || closer.serve(next, CLOSERS_WAITING_TIME)).is_err() {
                waiting.busy.remove(&next);
                return;
            }
        }
    }

    /// How many of a peer's are not closed yet.
    pub fn count_of(&self, peer: u32) -> usize {
        self.lock().left.get(&peer).copied().unwrap_or(0)
    }

    /// How many are not closed yet.
    pub fn count(&self) -> usize {
        self.lock().left.values().sum()
    }

    /// A thread's life.
    fn serve(&self, mut peer: u32, patience: Duration) {
        loop {
            self.work(peer);
            let Some(next) = self.wait(patience) else { return };
            peer = next;
        }
    }

    /// Waits for more to do, where there is room to; nothing where none came.
    fn wait(&self, patience: Duration) -> Option<u32> {
        let mut list = self.lock();
        if list.waiting >= CLOSERS_WAITING_MAX {
            return None;
        }
        list.waiting += 1;
        let is_idle = |list: &mut Waiting| list.called.is_empty();
        let waited = self.shared.calls.wait_timeout_while(list, patience, is_idle);
        let (mut list, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let called = list.called.pop_front();
        if called.is_none() {
            // Nobody is called, so this one is counted still.
            list.waiting -= 1;
        }
        called
    }

    /// Closes all of one peer, then of others, until there is nothing left that no other thread closes.
    fn work(&self, mut peer: u32) {
        loop {
            let next = self.lock().take(peer);
            match next {
                // Outside of the lock: this is what may take as long as the peer likes.
                Some(descriptor) => {
                    drop(descriptor);
                    self.lock().closed(peer);
                }
                None => {
                    let mut waiting = self.lock();
                    // Something may have come between the two looks.
                    if waiting.queues.contains_key(&peer) {
                        continue;
                    }
                    waiting.busy.remove(&peer);
                    let Some(other) = waiting.next() else { return };
                    peer = other;
                }
            }
        }
    }

    /// A panic while it was held cannot have left it half changed.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// A peer whose descriptors no thread closes; from here on one does.
    fn next(&mut self) -> Option<u32> {
        let next = self.queues.keys().find(|peer| !self.busy.contains(peer)).copied()?;
        self.busy.insert(next);
        Some(next)
    }

    /// One less.
    fn closed(&mut self, peer: u32) {
        if let Entry::Occupied(mut left) = self.left.entry(peer) {
            *left.get_mut() -= 1;
            if *left.get() == 0 {
                left.remove();
            }
        }
    }

    fn take(&mut self, peer: u32) -> Option<OwnedFd> {
        let queue = self.queues.get_mut(&peer)?;
        let descriptor = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&peer);
        }
        descriptor
    }
}

impl Foreign {
    /// A descriptor that came from `peer`; without a closer it is closed where it is dropped.
    pub fn new(descriptor: OwnedFd, closer: Option<&Closer>, peer: u32) -> Self {
        let closer = closer.map(|closer| (closer.clone(), peer));
        Self { descriptor: Some(descriptor), closer }
    }

    /// One that is this process's own after all: closed where it is dropped.
    pub fn own(descriptor: OwnedFd) -> Self {
        Self { descriptor: Some(descriptor), closer: None }
    }

    /// A second descriptor of the same file, closed in the same way.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let descriptor = Some(self.as_fd().try_clone_to_owned()?);
        Ok(Self { descriptor, closer: self.closer.clone() })
    }

    /// The descriptor, for somebody who may wait when it is closed.
    ///
    /// # Panics
    /// Never: it is there until this or the end.
    pub fn into_inner(mut self) -> OwnedFd {
        self.descriptor.take().expect("there until it is dropped")
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("there until it is dropped").as_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let (Some(descriptor), Some((closer, peer))) = (self.descriptor.take(), &self.closer) {
            closer.close(*peer, descriptor);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    /// A socket whose close lasts until the other end is closed or an hour is over: it holds bytes that nobody takes.
    pub(crate) fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4_096).unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&here, 4_096).unwrap();
        let (there, _) = listener.accept().unwrap();
        here.set_nonblocking(true).unwrap();
        while here.write(&[7; 65_536]).is_ok_and(|count| count > 0) {}
        here.set_nonblocking(false).unwrap();
        let hour = Some(Duration::from_secs(3_600));
        rustix::net::sockopt::set_socket_linger(&here, hour).unwrap();
        (here.into(), there)
    }

    fn eventually(mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < until, "never");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_does_not_close_holds_up_neither_its_owner_nor_other_peers() {
        let closer = Closer::new();
        let (stuck, other_end) = lingering();
        // Without a closer the next line would last an hour.
        drop(Foreign::new(stuck, Some(&closer), 1));
        let (mut reading, writing) = std::io::pipe().unwrap();
        let (mut behind, waiting) = std::io::pipe().unwrap();
        closer.close(1, waiting.into());
        closer.close(2, writing.into());
        // Ends when the writing side is closed.
        assert_eq!(reading.read(&mut [0]).unwrap(), 0);
        eventually(|| closer.count_of(2) == 0);
        assert_eq!((closer.count_of(1), closer.count()), (2, 2), "one peer has one thread");
        drop(other_end);
        assert_eq!(behind.read(&mut [0]).unwrap(), 0);
        eventually(|| closer.count() == 0);
    }

    #[test]
    fn threads_are_bounded_and_what_waits_is_closed_in_the_end() {
        let closer = Closer::new();
        let mut ends = Vec::new();
        for peer in 0..2 * CLOSERS_MAX as u32 {
            let (stuck, end) = lingering();
            closer.close(peer, stuck);
            ends.push(end);
        }
        assert_eq!(closer.count(), ends.len());
        assert_eq!(closer.lock().busy.len(), CLOSERS_MAX);
        drop(ends);
        eventually(|| closer.count() == 0);
    }

    /// A descriptor whose end is seen by whoever reads.
    fn ending() -> (std::io::PipeReader, OwnedFd) {
        let (reading, writing) = std::io::pipe().unwrap();
        (reading, writing.into())
    }

    #[test]
    fn a_thread_with_nothing_to_do_closes_the_next_one() {
        let closer = Closer::new();
        for peer in 0..100 {
            let (mut reading, writing) = ending();
            closer.close(peer, writing);
            assert_eq!(reading.read(&mut [0]).unwrap(), 0);
            eventually(|| closer.lock().waiting == 1);
            // This one's, and the thread's.
            assert_eq!(Arc::strong_count(&closer.shared), 2, "more than one thread");
        }
    }

    #[test]
    fn who_is_called_is_not_counted_and_who_waited_in_vain_ends() {
        let closer = Closer::new();
        assert_eq!(closer.wait(Duration::ZERO), None, "it waited long enough");
        assert_eq!(closer.lock().waiting, 0);
        let own = closer.clone();
        let waits = std::thread::spawn(move || own.wait(Duration::from_secs(3_600)));
        eventually(|| closer.lock().waiting == 1);
        assert_eq!(closer.wait(Duration::from_secs(3_600)), None, "there is room for one");
        let (mut reading, writing) = ending();
        closer.close(9, writing);
        assert_eq!(waits.join().unwrap(), Some(9));
        assert_eq!(closer.lock().waiting, 0);
        closer.work(9);
        assert_eq!(reading.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn while_the_one_that_waited_hangs_another_thread_closes() {
        let closer = Closer::new();
        let (mut reading, writing) = ending();
        closer.close(1, writing);
        assert_eq!(reading.read(&mut [0]).unwrap(), 0);
        eventually(|| closer.lock().waiting == 1);
        let (stuck, other_end) = lingering();
        closer.close(1, stuck);
        let (mut reading, writing) = ending();
        closer.close(2, writing);
        assert_eq!(reading.read(&mut [0]).unwrap(), 0);
        drop(other_end);
        eventually(|| closer.count() == 0);
    }

    #[test]
    fn memory_is_closed_where_it_is_and_everything_else_is_not() {
        let memory = crate::segment::Cursor::create(0, false).unwrap();
        assert!(closes_at_once(memory.as_fd()));
        let much = rustix::fs::memfd_create("much", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&much, REGION_BYTES_MAX as u64 + 1).unwrap();
        assert!(!closes_at_once(much.as_fd()), "to free it takes a while");
        let (reading, _) = std::io::pipe().unwrap();
        assert!(!closes_at_once(reading.as_fd()));
        assert!(!closes_at_once(std::fs::File::open("/dev/null").unwrap().as_fd()));
        let (here, _) = crate::socket::Connection::pair().unwrap();
        assert!(!closes_at_once(here.as_fd()), "its queue may hold anything");
    }
}
