//! The bell of a reader that sleeps in an event loop: readable when some lane of its process has news.
//!
//! Not here: when to ring (`wait`). A bell is a pair of connected sockets and not an eventfd, because the file description
//! of an eventfd is shared by both sides: a hostile peer could make it blocking, fill it up and so stop whoever rings, or
//! empty it and so stop whoever listens. A socket takes `MSG_DONTWAIT` per call, and each side has its own description.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// The listening side: put its descriptor into `poll` or `epoll`.
#[derive(Debug)]
pub struct Doorbell {
    listen: OwnedFd,
    ring: OwnedFd,
}

/// The ringing side, in another process.
#[derive(Debug)]
pub struct Bell {
    ring: OwnedFd,
}

impl Doorbell {
    /// A new bell.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (listen, ring) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { listen, ring })
    }

    /// The descriptor to hand to whoever is to ring. One bell may serve many lanes.
    pub fn ringer(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Silences the bell; whoever rings afterwards is heard.
    pub fn clear(&self) {
        let mut byte = [0u8; 8];
        // Bounded by the socket's buffer; a peer that rings without end is noticed by the next wait instead.
        for _ in 0..1_024 {
            match net::recv(&self.listen, &mut byte, RecvFlags::DONTWAIT) {
                Ok((_, 1..)) | Err(Errno::INTR) => {}
                Ok((_, 0)) | Err(_) => return,
            }
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listen.as_fd()
    }
}

impl Bell {
    /// Takes over a descriptor from a peer, which must be a Unix socket for packets.
    pub fn from_peer(ring: OwnedFd) -> io::Result<Self> {
        let is_bell = sockopt::socket_domain(&ring)? == AddressFamily::UNIX
            && sockopt::socket_type(&ring)? == SocketType::SEQPACKET;
        if !is_bell {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no doorbell",
            ));
        }
        Ok(Self { ring })
    }

    /// Rings. Never waits: a bell that cannot take more is already rung, and one that is gone needs no ringing.
    pub fn ring(&self) {
        let _ = net::send(&self.ring, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

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
    fn other_descriptors_are_no_bells() {
        let (reading, _writing) = std::io::pipe().unwrap();
        assert!(Bell::from_peer(reading.into()).is_err());
    }
}
