//! The receiving half of NORMAL: packets in, each checked before it is used, pieces put together within bounds.
//!
//! Not here: the packets' rules (`normal`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use super::page::ReaderPage;
use super::{checked, look, sleep};
use crate::class::packets::Packets;
use crate::class::{Class, Counters, ReceivingHalf};
use crate::closer::Foreign;
use crate::header::AgentId;
use crate::lane::{Ended, Message, ReceiveError, Taken};
use crate::limits::PIECES_PER_LOOK;
use crate::segment::Control;
use crate::wait::{Next, Spin, Spinner};

/// Receives packets. When it is dropped, its sender is told by the hang-up.
#[derive(Debug)]
pub struct Receiver {
    socket: Foreign,
    spin: Spin,
    /// Why nothing more is received.
    end: Option<ReceiveError>,
    packets: Packets,
    page: Option<ReaderPage>,
}

/// How to ask for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Now,
    Wait,
}

impl Receiver {
    /// Receives on this end of a [`super::pair`] whose other end `source` has.
    pub fn new(source: AgentId, socket: OwnedFd) -> io::Result<Self> {
        Self::on(source, Foreign::own(socket))
    }

    fn on(source: AgentId, socket: Foreign) -> io::Result<Self> {
        let (socket, packets) = (checked(socket)?, Packets::new(source, false));
        Ok(Self { socket, spin: Spin::Adaptive, end: None, packets, page: None })
    }

    /// The same for a link: counts where the router looks, and says how the link ended as the router does.
    pub(crate) fn for_link(source: AgentId, socket: Foreign, page: ReaderPage) -> io::Result<Self> {
        let mut receiver = Self::on(source, socket)?;
        receiver.page = Some(page);
        Ok(receiver)
    }

    pub(crate) fn control(&self) -> Option<&Control> {
        self.page.as_ref().map(|page| &page.control)
    }

    /// Takes packets until a message is complete or nothing is there.
    #[inline]
    fn poll(&mut self, ask: Ask) -> Result<Taken, ReceiveError> {
        if let Some(end) = self.end {
            return Err(end);
        }
        let mut pieces = 0;
        loop {
            let length = match self.next_packet(ask) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(Taken::Nothing),
                Err(end) => return Err(self.end(end)),
            };
            match self.packets.take(length) {
                Ok(Taken::Nothing) => {
                    pieces += 1;
                    // A message that was given up ends this look, and so do many pieces: a stream of either must not hold the
                    // reader.
                    if self.packets.was_abort() || pieces >= PIECES_PER_LOOK {
                        return Ok(Taken::Nothing);
                    }
                }
                Ok(taken) => return Ok(taken),
                Err(end) => return Err(self.end(end)),
            }
        }
    }

    /// The length of the next packet, which may be more than what was copied; nothing when none is there.
    #[inline]
    fn next_packet(&mut self, ask: Ask) -> Result<Option<usize>, ReceiveError> {
        // With TRUNC the kernel tells the whole length of a packet that was too long for the buffer.
        let wait = if ask == Ask::Now { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        let flags = RecvFlags::TRUNC.union(wait);
        loop {
            return match net::recv(&self.socket, self.packets.buffer(), flags) {
                Ok((_, 0)) => Err(self.nothing_came()),
                Ok((_, length)) => Ok(Some(length)),
                Err(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS) => Ok(None),
                // A peer that left unread packets of ours is reported once, before what it had sent itself.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(_) => Err(ReceiveError::Ended(Ended::PeerGone)),
            };
        }
    }

    /// A packet of no bytes and the end look alike until the socket is asked.
    #[cold]
    fn nothing_came(&self) -> ReceiveError {
        let found = look(&self.socket, PollFlags::RDHUP, Some(Duration::ZERO));
        if found.intersects(PollFlags::RDHUP | PollFlags::HUP) {
            return ReceiveError::Ended(Ended::PeerGone);
        }
        self.packets.empty_packet()
    }

    #[cold]
    fn end(&mut self, end: ReceiveError) -> ReceiveError {
        let end = match (end, &self.page) {
            (ReceiveError::Ended(ended), Some(page)) => ReceiveError::Ended(page.ended(ended)),
            (broken @ ReceiveError::Quarantined(_), Some(page)) => {
                page.broke();
                broken
            }
            (end, _) => end,
        };
        self.end = Some(end);
        self.packets.forget_pieces();
        // The sender learns of it by its next packet, and what it has queued is freed.
        let _ = net::shutdown(&self.socket, net::Shutdown::Read);
        end
    }

    #[inline]
    fn message(&self) -> Message<'_> {
        if let Some(page) = &self.page {
            page.count(self.packets.counters.messages, self.packets.sent_ns());
        }
        self.packets.message()
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), ReceiveError> {
        let mut spinner = Spinner::new(self.spin);
        let mut has_asked = false;
        loop {
            let next = spinner.next();
            if next != Next::Poll && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(ReceiveError::Deadline);
            }
            // Without a deadline the kernel wakes this thread with the packet in its hands. Once only: a peer that kept this end
            // of the pair can have made it one that never waits.
            let mut ask = Ask::Now;
            if next == Next::Sleep {
                if deadline.is_some() || has_asked {
                    sleep(&self.socket, PollFlags::IN, deadline);
                } else {
                    (ask, has_asked) = (Ask::Wait, true);
                }
            }
            if !matches!(self.poll(ask)?, Taken::Nothing) {
                return Ok(());
            }
        }
    }
}

impl ReceivingHalf for Receiver {
    fn class(&self) -> Class {
        Class::Normal
    }

    fn source(&self) -> AgentId {
        self.packets.source()
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        match self.poll(Ask::Now)? {
            Taken::Nothing => Ok(None),
            Taken::Inline | Taken::Large => Ok(Some(self.message())),
        }
    }

    #[inline]
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError> {
        if matches!(self.poll(Ask::Now)?, Taken::Nothing) {
            self.wait(deadline)?;
        }
        Ok(self.message())
    }

    fn has_message(&self) -> bool {
        self.end.is_none()
            && look(&self.socket, PollFlags::IN, Some(Duration::ZERO)).contains(PollFlags::IN)
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn is_under_way(&self) -> bool {
        self.packets.is_under_way()
    }

    fn held_bytes(&self) -> usize {
        self.packets.held_bytes()
    }

    fn release(&mut self) {
        self.packets.release();
    }

    /// The socket: readable while packets are there, and when it has hung up.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn arm(&mut self) -> bool {
        self.end.is_none() && look(&self.socket, PollFlags::IN, Some(Duration::ZERO)).is_empty()
    }

    fn disarm(&mut self) {}

    fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    fn counters(&self) -> Counters {
        self.packets.counters
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = net::shutdown(&self.socket, net::Shutdown::Read);
    }
}
