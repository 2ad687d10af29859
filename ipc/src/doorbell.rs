//! The bell of a reader that sleeps in an event loop: readable when some lane of its process has news.
//!
//! Not here: when to ring (`wait`). A bell is a pair of connected sockets and not an eventfd, because the file description
//! of an eventfd is shared by both sides: a hostile peer could make it blocking, fill it up and so stop whoever rings, or
//! empty it and so stop whoever listens. A socket takes `MSG_DONTWAIT` per call, and each side has its own description.

//! Each peer gets a pair of its own: one that shuts its pair down silences itself and nobody else. The listening sides are
//! gathered in one epoll descriptor, so that a program waits for one thing however many peers it has.
//!
//! A pair lives as long as what it rings for: its listening side belongs to an [`Ear`], which the reader of the lane has, and is
//! closed with it or when the lane has ended ([`Doorbell::silence`]). A peer that keeps its end keeps nothing of ours.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::closer::Foreign;
use crate::header::LaneId;
use crate::limits::BELLS_MAX;
use crate::peer;

/// The listening side: put its descriptor into `poll` or `epoll`.
#[derive(Debug)]
pub struct Doorbell {
    epoll: OwnedFd,
    /// For threads of this process; never handed to a peer.
    own: OwnedFd,
    listening: Arc<Mutex<Listening>>,
}

#[derive(Debug, Default)]
struct Listening {
    next: u64,
    sockets: HashMap<u64, Heard>,
}

/// The listening side of one pair.
#[derive(Debug)]
struct Heard {
    socket: OwnedFd,
    /// What it rings for, once that has a number.
    lane: Option<LaneId>,
}

/// The right to be rung by one peer. Dropped, nobody hears that peer's bell any more.
#[derive(Debug)]
pub struct Ear {
    key: u64,
    listening: Weak<Mutex<Listening>>,
}

/// The ringing side, in another process. A copy rings the same.
#[derive(Clone, Debug)]
pub struct Bell {
    ring: Arc<Foreign>,
}

impl Doorbell {
    /// A new bell.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listening = Listening::default();
        let (_, own) = listening.add(&epoll)?;
        Ok(Self { epoll, own, listening: Arc::new(Mutex::new(listening)) })
    }

    /// The descriptor by which threads of this process ring.
    pub fn ringer(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }

    /// A descriptor to hand to one peer, and the ear that hears it. When the ear is dropped, or the peer and everybody who passed
    /// the descriptor on have closed it, it is forgotten.
    pub fn ringer_for_peer(&self) -> io::Result<(OwnedFd, Ear)> {
        let mut listening = lock(&self.listening);
        listening.forget_dead(&self.epoll, &self.own);
        let (key, ring) = listening.add(&self.epoll)?;
        Ok((ring, Ear { key, listening: Arc::downgrade(&self.listening) }))
    }

    /// A lane has ended: whatever is still rung for it is not heard.
    pub fn silence(&self, lane: LaneId) {
        lock(&self.listening).sockets.retain(|_, heard| heard.lane != Some(lane));
    }

    /// Listens to a descriptor that tells of news by itself: a ring, or a socket that carries messages. It is heard once for
    /// each of its news, and no more when it is closed.
    pub fn watch(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(WATCHED), flags)?;
        Ok(())
    }

    /// Silences the bell; whoever rings afterwards is heard.
    pub fn clear(&self) {
        let mut listening = lock(&self.listening);
        // Bounded: what is left over makes the next wait short.
        for _ in 0..BELLS_MAX / EVENTS_AT_ONCE {
            let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_AT_ONCE];
            let Ok((rung, _)) = epoll::wait(&self.epoll, &mut space, Some(&Timespec::default()))
            else {
                return;
            };
            if rung.is_empty() {
                return;
            }
            for event in rung {
                let key = event.data.u64();
                if listening.sockets.get(&key).is_some_and(|heard| !drain(&heard.socket)) {
                    // Closing the socket takes it out of the set as well.
                    listening.sockets.remove(&key);
                }
            }
        }
    }
}

/// A panic while it was held cannot have left it half changed.
fn lock(listening: &Mutex<Listening>) -> MutexGuard<'_, Listening> {
    listening.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ear {
    /// Says for which lane it is, by which [`Doorbell::silence`] finds it.
    pub fn tie(&self, lane: LaneId) {
        let Some(listening) = self.listening.upgrade() else { return };
        if let Some(heard) = lock(&listening).sockets.get_mut(&self.key) {
            heard.lane = Some(lane);
        }
    }

    /// Lets it live as long as the doorbell: for a program whose lanes never end before it does.
    pub fn keep(mut self) {
        self.listening = Weak::new();
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Closing the socket takes it out of the epoll set as well. A doorbell that is gone has closed it already.
        if let Some(listening) = self.listening.upgrade() {
            let closed = lock(&listening).sockets.remove(&self.key);
            drop(closed);
        }
    }
}

/// The key of all that is watched and not rung.
const WATCHED: u64 = u64::MAX;
/// Bells that are looked at in one go.
const EVENTS_AT_ONCE: usize = 64;

impl Listening {
    /// Closes bells that nobody can ring any more, some at each new one, so that links that never came to be leave none.
    fn forget_dead(&mut self, epoll: &OwnedFd, own: &OwnedFd) {
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_AT_ONCE];
        let Ok((rung, _)) = epoll::wait(epoll, &mut space, Some(&Timespec::default())) else {
            return;
        };
        for event in rung {
            // A copy: the kernel's structure is packed.
            let (flags, data) = (event.flags, event.data);
            if data.u64() == WATCHED {
                // Heard once only, and whoever listens has not heard it.
                let _ = net::send(own, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                continue;
            }
            if !flags.contains(epoll::EventFlags::HUP) {
                continue;
            }
            let Some(Heard { socket, .. }) = self.sockets.remove(&data.u64()) else { continue };
            if matches!(net::recv(&socket, &mut [0u8; 8], RecvFlags::DONTWAIT), Ok((_, 1..))) {
                // What was rung before the end still wakes whoever listens.
                let _ = net::send(own, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            }
        }
    }

    fn add(&mut self, epoll: &OwnedFd) -> io::Result<(u64, OwnedFd)> {
        if self.sockets.len() >= BELLS_MAX {
            return Err(io::Error::other(format!("more than {BELLS_MAX} doorbells")));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (listen, ring) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // A bell says nothing, and least of all does it carry files.
        peer::refuse_descriptors(listen.as_fd());
        let key = self.next;
        self.next += 1;
        epoll::add(epoll, &listen, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
        self.sockets.insert(key, Heard { socket: listen, lane: None });
        Ok((key, ring))
    }
}

/// Takes what was rung. False when nobody can ring any more.
fn drain(socket: &OwnedFd) -> bool {
    let mut byte = [0u8; 8];
    // Bounded, so that a peer that rings without end does not hold the listener.
    for _ in 0..1_024 {
        match net::recv(socket, &mut byte, RecvFlags::DONTWAIT) {
            Ok((_, 1..)) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Ok((_, 0)) | Err(_) => return false,
        }
    }
    true
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Bell {
    /// Takes over a descriptor from a peer, which must be a Unix socket for packets.
    pub fn from_peer(ring: OwnedFd) -> io::Result<Self> {
        Self::from_foreign(Foreign::own(ring))
    }

    /// The same for one that is not closed in place: its peer may have put into its queue what takes long to close.
    pub(crate) fn from_foreign(ring: Foreign) -> io::Result<Self> {
        let is_bell = sockopt::socket_domain(&ring)? == AddressFamily::UNIX
            && sockopt::socket_type(&ring)? == SocketType::SEQPACKET;
        if !is_bell {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no doorbell",
            ));
        }
        Ok(Self { ring: Arc::new(ring) })
    }

    /// Rings. Never waits: a bell that cannot take more is already rung, and one that is gone needs no ringing.
    pub fn ring(&self) {
        let _ = net::send(&*self.ring, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    impl Doorbell {
        /// How many bells there are, without the own one.
        pub(crate) fn bells(&self) -> usize {
            lock(&self.listening).sockets.len() - 1
        }
    }

    fn is_rung(doorbell: &Doorbell) -> bool {
        let mut polled = [PollFd::new(doorbell, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn bell_stays_rung_until_cleared() {
        let doorbell = Doorbell::new().unwrap();
        let bell = Bell::from_peer(doorbell.ringer().try_clone_to_owned().unwrap()).unwrap();
        assert!(!is_rung(&doorbell));
        bell.ring();
        bell.ring();
        assert!(is_rung(&doorbell));
        doorbell.clear();
        assert!(!is_rung(&doorbell));
    }

    #[test]
    fn ringing_never_waits_even_when_the_peer_made_it_blocking() {
        let doorbell = Doorbell::new().unwrap();
        rustix::io::ioctl_fionbio(doorbell.ringer(), false).unwrap();
        let bell = Bell::from_peer(doorbell.ringer().try_clone_to_owned().unwrap()).unwrap();
        for _ in 0..10_000 {
            bell.ring();
        }
        assert!(is_rung(&doorbell));
    }

    #[test]
    fn peer_that_shuts_its_bell_down_silences_only_itself() {
        let doorbell = Doorbell::new().unwrap();
        let (hostile, _ear) = doorbell.ringer_for_peer().unwrap();
        let (honest, _other) = doorbell.ringer_for_peer().unwrap();
        let honest = Bell::from_peer(honest).unwrap();
        net::shutdown(&hostile, net::Shutdown::Both).unwrap();
        doorbell.clear();
        assert!(!is_rung(&doorbell), "forgotten");
        Bell::from_peer(hostile).unwrap().ring();
        assert!(!is_rung(&doorbell));
        honest.ring();
        assert!(is_rung(&doorbell));
        drop(honest);
        doorbell.clear();
        assert!(!is_rung(&doorbell));
        assert_eq!(doorbell.bells(), 0, "only the own one is left");
    }

    #[test]
    fn bells_that_nobody_holds_make_room_without_being_cleared() {
        let doorbell = Doorbell::new().unwrap();
        for _ in 0..200 {
            let (ring, ear) = doorbell.ringer_for_peer().unwrap();
            ear.keep();
            drop(ring);
        }
        assert!(doorbell.bells() <= 1, "the last one");
        let (last, _ear) = doorbell.ringer_for_peer().unwrap();
        let last = Bell::from_peer(last).unwrap();
        last.ring();
        drop(last);
        let _kept = doorbell.ringer_for_peer().unwrap();
        assert!(is_rung(&doorbell), "what was rung before the end is heard");
    }

    #[test]
    fn a_bell_ends_with_its_ear_or_its_lane_whatever_the_peer_keeps() {
        let doorbell = Doorbell::new().unwrap();
        let kept: Vec<_> = (1..=BELLS_MAX as u32 / 64)
            .map(|number| {
                let (ring, ear) = doorbell.ringer_for_peer().unwrap();
                ear.tie(LaneId(number));
                if number % 2 == 0 {
                    drop(ear);
                } else {
                    doorbell.silence(LaneId(number));
                    // What is dropped later finds nothing more to close.
                    assert_eq!(doorbell.bells(), 0);
                    drop(ear);
                }
                Bell::from_peer(ring).unwrap()
            })
            .collect();
        assert_eq!(doorbell.bells(), 0);
        let (other, _ear) = doorbell.ringer_for_peer().unwrap();
        kept.iter().for_each(Bell::ring);
        assert!(!is_rung(&doorbell), "nobody hears them");
        Bell::from_peer(other).unwrap().ring();
        assert!(is_rung(&doorbell));
    }

    #[test]
    fn a_bell_that_does_not_close_holds_up_nobody_who_has_a_closer() {
        use crate::closer::tests::lingering;
        use crate::closer::{Closer, Foreign};

        let closer = Closer::new();
        let (ring, theirs) = crate::socket::Connection::pair().unwrap();
        let (stuck, end) = lingering();
        // Its last copy lies in the queue of the bell, and goes with it.
        theirs.send(&[1], &[stuck.as_fd()]).unwrap();
        drop(stuck);
        let bell = Bell::from_foreign(Foreign::new(ring.into(), Some(&closer), 7)).unwrap();
        let copy = bell.clone();
        drop((bell, theirs));
        copy.ring();
        assert_eq!(closer.count(), 0);
        // Without a closer the next line would last an hour.
        drop(copy);
        drop(end);
        while closer.count() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn other_descriptors_are_no_bells() {
        let (reading, _writing) = std::io::pipe().unwrap();
        assert!(Bell::from_peer(reading.into()).is_err());
    }
}
