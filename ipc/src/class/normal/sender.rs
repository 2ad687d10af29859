//! The sending half of NORMAL: packets out, pieces where one is not enough, waiting while the socket is full.
//!
//! Not here: the packets' rules (`normal`).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags, sockopt};

use super::page::WriterPage;
use super::{checked, sleep};
use crate::class::packets::{self, PacketKind, PacketLine};
use crate::class::{Class, Counters, SendingHalf};
use crate::closer::Foreign;
use crate::fault;
use crate::lane::{Ended, Large, PARTS_AT_ONCE, SendError, WhenFull};
use crate::limits::{PACKET_BUFFER_BYTES, PACKET_PAYLOAD_BYTES_MAX, PACKET_PAYLOAD_BYTES_MIN};
use crate::ring::{FLAG_TWO_LINES, Meta, Timing};
use crate::wait::{Next, Spin, Spinner};

/// Sends packets. When it is dropped, it says goodbye and shuts its direction down.
#[derive(Debug)]
pub struct Sender {
    socket: Foreign,
    payload_bytes_max: usize,
    spin: Spin,
    ended: Option<Ended>,
    /// Pieces were sent whose message was given up; the reader must hear of it first.
    abort_due: Option<Meta>,
    counters: Counters,
    page: Option<WriterPage>,
}

/// Never waits in the call, and no signal when the peer is gone.
const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl Sender {
    /// Sends on this end of a [`super::pair`].
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Self::on(Foreign::own(socket))
    }

    fn on(socket: Foreign) -> io::Result<Self> {
        let socket = checked(socket)?;
        sockopt::set_socket_send_buffer_size(&socket, PACKET_BUFFER_BYTES)?;
        // The kernel says twice of what it granted, for its own structures; four pieces fit.
        let granted = sockopt::socket_send_buffer_size(&socket)? / 2;
        let payload_bytes_max =
            (granted / 4).clamp(PACKET_PAYLOAD_BYTES_MIN, PACKET_PAYLOAD_BYTES_MAX);
        let (spin, counters) = (Spin::Adaptive, Counters::default());
        let (ended, abort_due, page) = (None, None, None);
        Ok(Self { socket, payload_bytes_max, spin, ended, abort_due, counters, page })
    }

    /// The same for a link: counts where the router looks, and says how the link ended as the router does.
    pub(crate) fn for_link(socket: Foreign, page: WriterPage) -> io::Result<Self> {
        let mut sender = Self::on(socket)?;
        sender.page = Some(page);
        Ok(sender)
    }

    #[inline]
    fn counted(&mut self, bytes_large: usize) {
        self.counters.messages += 1;
        self.counters.bytes_large += bytes_large as u64;
        self.show();
    }

    /// Whoever looks sees what was counted.
    fn show(&self) {
        if let Some(page) = &self.page {
            page.show(&self.counters);
        }
    }

    #[inline]
    fn send_small(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Option<&Timing>,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let (packet, end) = packets::small(meta, payload, timing)?;
        self.pay_abort(when)?;
        self.transmit(when, |socket| net::send(socket, &packet[..end], FLAGS))?;
        self.counted(0);
        Ok(())
    }

    /// One packet as slices.
    fn send_piece(
        &mut self,
        line: PacketLine,
        slices: &[&[u8]],
        when: WhenFull,
    ) -> Result<(), SendError> {
        let line = line.encode();
        let mut all = [IoSlice::new(&[]); PARTS_AT_ONCE + 1];
        all[0] = IoSlice::new(&line);
        for (slot, slice) in all[1..].iter_mut().zip(slices) {
            *slot = IoSlice::new(slice);
        }
        let all = &all[..=slices.len()];
        self.transmit(when, |socket| {
            net::sendmsg(socket, all, &mut SendAncillaryBuffer::default(), FLAGS)
        })?;
        fault::point("socket.piece-sent");
        Ok(())
    }

    /// The reader forgets what was given up before it gets anything else.
    #[inline]
    fn pay_abort(&mut self, when: WhenFull) -> Result<(), SendError> {
        let Some(meta) = self.abort_due else { return Ok(()) };
        self.send_piece(PacketLine::abort(meta), &[], when)?;
        self.abort_due = None;
        Ok(())
    }

    /// Sends until it is done, the time is up, or nobody is there.
    #[inline]
    fn transmit(
        &mut self,
        when: WhenFull,
        send: impl Fn(&Foreign) -> Result<usize, Errno>,
    ) -> Result<(), SendError> {
        if let Some(ended) = self.ended {
            return Err(SendError::Ended(ended));
        }
        match send(&self.socket) {
            Ok(_) => Ok(()),
            Err(errno) => self.transmit_later(errno, when, send),
        }
    }

    #[cold]
    fn transmit_later(
        &mut self,
        mut errno: Errno,
        when: WhenFull,
        send: impl Fn(&Foreign) -> Result<usize, Errno>,
    ) -> Result<(), SendError> {
        let mut spinner = Spinner::new(self.spin);
        let mut has_waited = false;
        loop {
            match errno {
                Errno::INTR => {}
                // Full; or the kernel has no memory for it at the moment, which is the same to the caller.
                Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => {
                    let WhenFull::WaitUntil(deadline) = when else { return Err(self.full()) };
                    self.counters.waits += u64::from(!has_waited);
                    has_waited = true;
                    let next = spinner.next();
                    if next != Next::Poll && Instant::now() >= deadline {
                        return Err(self.full());
                    }
                    if next == Next::Sleep {
                        sleep(&self.socket, PollFlags::OUT, Some(deadline));
                    }
                }
                // The kernel does not say whether the reader closed or died.
                _ => {
                    let ended = Ended::PeerGone;
                    let ended = self.page.as_ref().map_or(ended, |page| page.ended(ended));
                    self.ended = Some(ended);
                    return Err(SendError::Ended(ended));
                }
            }
            match send(&self.socket) {
                Ok(_) => return Ok(()),
                Err(again) => errno = again,
            }
        }
    }

    fn full(&mut self) -> SendError {
        self.counters.rejected += 1;
        self.show();
        SendError::Full
    }

    /// Ends without a goodbye, as a process that is killed does.
    #[cfg(test)]
    pub(crate) fn die(mut self) {
        self.ended = Some(Ended::Closed);
    }

    /// What a hostile writer would send on.
    #[cfg(test)]
    pub(crate) fn socket(&self) -> &Foreign {
        &self.socket
    }
}

impl Sender {
    /// What becomes writable when there is room.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SendingHalf for Sender {
    fn class(&self) -> Class {
        Class::Normal
    }

    /// Sends at once: a socket wakes its reader by itself.
    #[inline]
    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.send_small(meta, payload, None, when)
    }

    #[inline]
    fn flush(&mut self) {}

    fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let meta = Meta { flags: meta.flags | FLAG_TWO_LINES, ..meta };
        self.send_small(meta, payload, Some(&timing), when)
    }

    fn take_back(&mut self, meta: Meta) {
        self.abort_due = Some(meta);
    }

    fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let total = packets::total_of(message)?;
        if *sent == 0 {
            self.pay_abort(when)?;
        }
        let piece_bytes_max = self.payload_bytes_max;
        packets::send_pieces(message, piece_bytes_max, sent, |line, slices| {
            self.send_piece(PacketLine { continues: false, ..line }, slices, when)
        })?;
        self.counted(total);
        Ok(())
    }

    fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let line = PacketLine::end(PacketKind::Goodbye);
            // A reader whose socket is full takes the hang-up for a death, and that is what it is to him.
            let _ = net::send(&self.socket, &line.encode(), FLAGS);
        }
        let _ = net::shutdown(&self.socket, net::Shutdown::Write);
    }
}
