//! NORMAL: one direction of a pair of `SOCK_SEQPACKET` sockets between the two peers, with nobody in between.
//!
//! One packet carries a small message; larger ones come in pieces, one packet each. The kernel copies, orders, bounds and
//! wakes; a socket's hang-up is the peer's end. Everything that arrives is checked as a lane's lines are; what breaks the
//! protocol quarantines the way for good. Not here: the socket of the control plane (`socket`).
//!
//! # Packets
//! `ipc/PROTOCOL.md` has the bytes. Rules:
//! 1. A packet is a line of 16 bytes, then, with `TWO_LINES`, 32 bytes of timing, then the payload whose length the line says.
//! 2. A message of one packet has no `CHUNK`. Pieces have it, all but the last; between them there are only pieces, with the
//!    same correlation, header length and total. A piece of nothing does not announce more.
//! 3. `ABORT` takes the pieces before it back.
//! 4. The last packet of a writer that closes says so; a hang-up without it is a death.
//! 5. Descriptors beside a packet are refused to its sender; by kernels that cannot (before 6.16), closed on arrival.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::closer::Foreign;
use crate::peer;

#[cfg(test)]
mod fuzz;
mod page;
mod receiver;
mod sender;
pub(crate) use page::{ReaderPage, WriterPage};
pub use receiver::Receiver;
pub use sender::Sender;

/// Two connected ends. Each carries both directions: a sender and a receiver may share one (by a copy of the descriptor).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (here, there) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    peer::refuse_descriptors(here.as_fd());
    peer::refuse_descriptors(there.as_fd());
    Ok((here, there))
}

/// Takes over an end, which may have come from a peer: it must be a socket of the right kind. It blocks only when asked.
fn checked(socket: Foreign) -> io::Result<Foreign> {
    let is_right = sockopt::socket_domain(&socket)? == AddressFamily::UNIX
        && sockopt::socket_type(&socket)? == SocketType::SEQPACKET;
    if !is_right {
        let text = "the descriptor is no socket for packets";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    rustix::io::ioctl_fionbio(&socket, false)?;
    peer::refuse_descriptors(socket.as_fd());
    Ok(socket)
}

/// Sleeps until the socket has one of these, has hung up, or the deadline has come. Gives what it has.
fn sleep(socket: &Foreign, flags: PollFlags, deadline: Option<Instant>) -> PollFlags {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    look(socket, flags, left)
}

fn look(socket: &Foreign, flags: PollFlags, left: Option<Duration>) -> PollFlags {
    let left = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let mut polled = [PollFd::new(socket, flags)];
    // Interrupted or out of memory: the caller looks again.
    let _ = poll(&mut polled, left.as_ref());
    polled[0].revents()
}
