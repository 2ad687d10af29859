//! Closing what a peer handed over, without waiting for the peer.
//!
//! `close` may wait for whoever made the file: a file system in user space is asked to flush and need not answer, a TCP socket
//! lingers, a Unix socket lets go of such files that lie in its queue. There is no flag against it. Memory with seals closes at
//! once, and whether a descriptor is that is asked without asking its file system; everything else is closed by threads of this
//! module, made when they are needed. One peer keeps one thread busy at most, so what does not close holds up nothing but more
//! of the same peer's.
//!
//! Not here: how much a peer may leave to be closed; who takes descriptors in asks [`Closer::count_of`] before it takes more.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::{CLOSERS_MAX, REGION_BYTES_MAX};

/// Closes descriptors of peers. Copies are the same one.
#[derive(Clone, Debug, Default)]
pub struct Closer {
    shared: Arc<Mutex<Waiting>>,
}

/// What is to be closed.
#[derive(Debug, Default)]
struct Waiting {
    /// By whose they are; none is empty.
    queues: BTreeMap<u32, VecDeque<OwnedFd>>,
    /// Whose are being closed, by one thread each.
    busy: BTreeSet<u32>,
    /// How many of each are not closed yet; none is 0.
    left: BTreeMap<u32, usize>,
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
            let closer = self.clone();
            let thread = std::thread::Builder::new().name("closer".to_owned());
            if thread.spawn(move || closer.work(next)).is_err() {
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
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
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
