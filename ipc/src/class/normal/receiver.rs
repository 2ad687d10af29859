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
use super::{FLAGS_NEVER, PacketKind, PacketLine, TIMING_BYTES, checked, look, sleep};
use crate::class::{Class, Counters, ReceivingHalf};
use crate::header::{AgentId, HEADER_BYTES, HEADER_BYTES_MAX, Header, HeaderError, Kind};
use crate::lane::{Ended, Message, ReceiveError, Taken};
use crate::limits::{
    INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, PACKET_LINE_BYTES, PACKET_PAYLOAD_BYTES_MAX,
    PIECES_PER_LOOK,
};
use crate::ring::{FLAG_ABORT, FLAG_CHUNK, FLAG_TWO_LINES, Meta, Timing, Violation};
use crate::segment::Control;
use crate::wait::{Next, Spin, Spinner};

/// The longest packet that an honest sender makes.
const PACKET_BYTES_MAX: usize = PACKET_LINE_BYTES + PACKET_PAYLOAD_BYTES_MAX;
/// The buffer for large messages is given back beyond this, in bytes.
const BUFFER_KEPT_BYTES: usize = 1_024 * 1_024;

/// Receives packets. When it is dropped, its sender is told by the hang-up.
#[derive(Debug)]
pub struct Receiver {
    socket: OwnedFd,
    source: AgentId,
    spin: Spin,
    /// Why nothing more is received.
    end: Option<ReceiveError>,
    /// The packet that was taken last.
    packet: Box<[u8; PACKET_BYTES_MAX]>,
    /// Its first word.
    meta: Meta,
    timing: Timing,
    header: Header,
    /// Where the payload of the message that was taken last stands.
    place: Place,
    assembly: Vec<u8>,
    /// Of the first piece, while more are expected.
    open: Option<Open>,
    /// How many packets came, for reports.
    packets: u64,
    counters: Counters,
    page: Option<ReaderPage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    correlation: u32,
    header_bytes: usize,
    total: usize,
}

/// A message's bytes: in the packet, or put together. `header_bytes` at their start are its header.
#[derive(Clone, Copy, Debug)]
struct Place {
    in_packet: Option<(usize, usize)>,
    header_bytes: usize,
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
        Ok(Self {
            socket: checked(socket)?,
            source,
            spin: Spin::Adaptive,
            end: None,
            packet: Box::new([0; PACKET_BYTES_MAX]),
            meta: Meta::default(),
            timing: Timing::default(),
            header: Header::new(Kind::Event),
            place: Place { in_packet: None, header_bytes: 0 },
            assembly: Vec::new(),
            open: None,
            packets: 0,
            counters: Counters::default(),
            page: None,
        })
    }

    /// The same for a link: counts where the router looks, and says how the link ended as the router does.
    pub(crate) fn for_link(source: AgentId, socket: OwnedFd, page: ReaderPage) -> io::Result<Self> {
        let mut receiver = Self::new(source, socket)?;
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
            self.packets += 1;
            match self.take(length) {
                Ok(Taken::Nothing) => {
                    pieces += 1;
                    // A message that was given up ends this look, and so do many pieces: a stream of either must not hold the
                    // reader.
                    if self.meta.has(FLAG_ABORT) || pieces >= PIECES_PER_LOOK {
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
            return match net::recv(&self.socket, &mut self.packet[..], flags) {
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
        ReceiveError::Quarantined(Violation::Packet { position: self.packets, bytes: 0 })
    }

    #[cold]
    fn end(&mut self, end: ReceiveError) -> ReceiveError {
        let end = match (end, &self.page) {
            (ReceiveError::Ended(ended), Some(page)) => ReceiveError::Ended(page.ended(ended)),
            (end, _) => end,
        };
        self.end = Some(end);
        self.open = None;
        self.assembly = Vec::new();
        // The sender learns of it by its next packet, and what it has queued is freed.
        let _ = net::shutdown(&self.socket, net::Shutdown::Read);
        end
    }

    /// Checks one packet and takes it in.
    #[inline]
    fn take(&mut self, length: usize) -> Result<Taken, ReceiveError> {
        let position = self.packets;
        let broken = |violation| Err(ReceiveError::Quarantined(violation));
        let packet = self.packet.get(..length).and_then(PacketLine::decode);
        let Some(line) = packet else {
            return broken(Violation::Packet { position, bytes: length as u64 });
        };
        if line.kind == PacketKind::Goodbye {
            return Err(ReceiveError::Ended(Ended::Closed));
        }
        let (meta, flags) = (line.meta, line.meta.flags);
        if flags & FLAGS_NEVER != 0 {
            return broken(Violation::Flags { position, got: flags });
        }
        let is_timed = meta.has(FLAG_TWO_LINES);
        let start = PACKET_LINE_BYTES + if is_timed { TIMING_BYTES } else { 0 };
        if start + usize::from(meta.length) != length {
            return broken(Violation::Packet { position, bytes: length as u64 });
        }
        self.meta = meta;
        let is_whole = usize::from(meta.length) == line.total as usize;
        if is_whole && self.open.is_none() && flags & (FLAG_CHUNK | FLAG_ABORT) == 0 {
            return self.take_whole(line, start, length).or_else(broken);
        }
        self.take_piece(line, start, length).or_else(broken)
    }

    /// A message of one packet.
    #[inline]
    fn take_whole(
        &mut self,
        line: PacketLine,
        start: usize,
        end: usize,
    ) -> Result<Taken, Violation> {
        let header_bytes = usize::from(line.header_bytes);
        if start > PACKET_LINE_BYTES {
            if header_bytes != 0 || end - start > INLINE_BYTES_MAX {
                return Err(Violation::Flags { position: self.packets, got: line.meta.flags });
            }
            self.timing = timing(&self.packet[PACKET_LINE_BYTES..start]);
        }
        self.place = Place { in_packet: Some((start, end)), header_bytes };
        if header_bytes > 0 {
            self.read_header(start, end)?;
        }
        self.counters.messages += 1;
        if end - start > INLINE_BYTES_MAX {
            self.counters.bytes_large += (end - start) as u64;
        }
        Ok(Taken::Inline)
    }

    /// A piece of a larger message, or its withdrawal.
    fn take_piece(
        &mut self,
        line: PacketLine,
        start: usize,
        end: usize,
    ) -> Result<Taken, Violation> {
        let position = self.packets;
        let (meta, total) = (line.meta, line.total as usize);
        if meta.has(FLAG_TWO_LINES) {
            return Err(Violation::Flags { position, got: meta.flags });
        }
        if meta.has(FLAG_ABORT) {
            if self.open.take().is_none() || end > start || total > 0 {
                return Err(Violation::Chunks { position });
            }
            return Ok(Taken::Nothing);
        }
        if total > MESSAGE_BYTES_MAX + HEADER_BYTES {
            return Err(Violation::TooLong { got: total as u64 });
        }
        let header_bytes = usize::from(line.header_bytes);
        let open = Open { correlation: meta.correlation, header_bytes, total };
        if self.open.is_none() {
            self.assembly.clear();
            self.assembly.shrink_to(BUFFER_KEPT_BYTES);
        }
        let have = self.assembly.len() + (end - start);
        let more = meta.has(FLAG_CHUNK);
        // The last piece fills the message, the others leave room for one, and none is empty.
        let fits = end > start && if more { have < total } else { have == total };
        if !fits || self.open.is_some_and(|first| first != open) {
            return Err(Violation::Chunks { position });
        }
        self.assembly.extend_from_slice(&self.packet[start..end]);
        if more {
            self.open = Some(open);
            return Ok(Taken::Nothing);
        }
        self.open = None;
        self.place = Place { in_packet: None, header_bytes };
        if header_bytes > 0 {
            self.read_header(0, total)?;
        }
        self.counters.messages += 1;
        self.counters.bytes_large += total as u64;
        Ok(Taken::Large)
    }

    /// Checks the header at the start of the message that was taken.
    fn read_header(&mut self, start: usize, end: usize) -> Result<(), Violation> {
        let expected = self.place.header_bytes;
        let bytes = match self.place.in_packet {
            Some(_) => &self.packet[start..end],
            None => &self.assembly[start..end],
        };
        let wrong = Violation::Header(HeaderError::Size { got: expected });
        if !(HEADER_BYTES..=HEADER_BYTES_MAX).contains(&expected) {
            return Err(wrong);
        }
        let (header, size) = Header::decode(bytes).map_err(Violation::Header)?;
        if size != expected {
            return Err(wrong);
        }
        self.header = Header { source: self.source, ..header };
        Ok(())
    }

    #[inline]
    fn message(&self) -> Message<'_> {
        if let Some(page) = &self.page {
            let header_ns = (self.place.header_bytes > 0).then_some(self.header.time_ns);
            let timing_ns = self.meta.has(FLAG_TWO_LINES).then_some(self.timing.time_ns);
            page.count(self.counters.messages, header_ns.or(timing_ns).unwrap_or(0));
        }
        let Place { in_packet, header_bytes } = self.place;
        let bytes = match in_packet {
            Some((start, end)) => &self.packet[start..end],
            None => &self.assembly[..],
        };
        Message {
            meta: self.meta,
            timing: self.meta.has(FLAG_TWO_LINES).then_some(&self.timing),
            header: (header_bytes > 0).then_some(&self.header),
            payload: &bytes[header_bytes..],
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), ReceiveError> {
        let mut spinner = Spinner::new(self.spin);
        loop {
            let next = spinner.next();
            if next != Next::Poll && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(ReceiveError::Deadline);
            }
            // Without a deadline the kernel wakes this thread with the packet in its hands.
            let mut ask = Ask::Now;
            if next == Next::Sleep {
                match deadline {
                    Some(_) => drop(sleep(&self.socket, PollFlags::IN, deadline)),
                    None => ask = Ask::Wait,
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
        self.source
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

    fn held_bytes(&self) -> usize {
        self.open.map_or(0, |open| open.total).max(self.assembly.capacity())
    }

    fn release(&mut self) {
        if self.open.is_none() {
            self.assembly = Vec::new();
            self.place = Place { in_packet: Some((0, 0)), header_bytes: 0 };
        }
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
        self.counters
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = net::shutdown(&self.socket, net::Shutdown::Read);
    }
}

/// The 32 bytes behind the first line.
fn timing(bytes: &[u8]) -> Timing {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    let [time_ns, deadline_ns, low, high] = words;
    Timing { time_ns, deadline_ns, trace: u128::from(low) | u128::from(high) << 64 }
}
