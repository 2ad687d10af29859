//! Packets: how a message of any size travels over what carries whole blocks of bytes: the sockets of NORMAL, the records of
//! LOW. Pieces out, and in: each packet checked before it is used, put together within bounds.
//!
//! `ipc/PROTOCOL.md` has the bytes, `normal` the rules. Not here: the carrier, and waiting for it.

use super::Counters;
use crate::header::{AgentId, HEADER_BYTES, HEADER_BYTES_MAX, Header, HeaderError, Kind};
use crate::lane::{Ended, Large, Message, PARTS_MAX, Parts, ReceiveError, SendError, Taken};
use crate::limits::{
    INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, PACKET_LINE_BYTES, PACKET_PAYLOAD_BYTES_MAX,
};
use crate::ring::{
    FLAG_ABORT, FLAG_CHUNK, FLAG_REGION, FLAG_SECOND_LINE, FLAG_TWO_LINES, Meta, Timing, Violation,
};

/// Bytes of timing behind the first line.
pub(super) const TIMING_BYTES: usize = 32;
/// Flags that mean nothing in a packet.
pub(super) const FLAGS_NEVER: u8 = FLAG_REGION | FLAG_SECOND_LINE;
/// The longest packet that an honest sender makes.
pub(super) const PACKET_BYTES_MAX: usize = PACKET_LINE_BYTES + PACKET_PAYLOAD_BYTES_MAX;
/// Line, timing and an inline payload.
pub(super) const SMALL_BYTES_MAX: usize = PACKET_LINE_BYTES + TIMING_BYTES + INLINE_BYTES_MAX;
/// The buffer for large messages is given back beyond this, in bytes.
const BUFFER_KEPT_BYTES: usize = 1_024 * 1_024;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PacketKind {
    Message = 0,
    /// The writer closes.
    Goodbye = 1,
    /// The writer has died, as a third party says.
    Gone = 2,
}

/// The line before each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketLine {
    /// As in a slot; the length is that of the payload in this packet.
    pub(super) meta: Meta,
    /// Of the whole message with its header.
    pub(super) total: u32,
    pub(super) header_bytes: u16,
    pub(super) kind: PacketKind,
    /// Whether pieces of the same message came before. Said in logs only, where a reader may begin anywhere.
    pub(super) continues: bool,
}

impl PacketLine {
    /// A packet that ends the way.
    pub(super) fn end(kind: PacketKind) -> Self {
        Self { meta: Meta::default(), total: 0, header_bytes: 0, kind, continues: false }
    }

    /// A packet that takes the pieces before it back.
    pub(super) fn abort(meta: Meta) -> Self {
        let meta = Meta { length: 0, flags: FLAG_ABORT, ..meta };
        let kind = PacketKind::Message;
        Self { meta, total: 0, header_bytes: 0, kind, continues: false }
    }

    #[inline]
    pub(super) fn encode(self) -> [u8; PACKET_LINE_BYTES] {
        let Meta { length, priority, flags, correlation } = self.meta;
        let mut bytes = [0; PACKET_LINE_BYTES];
        bytes[0..2].copy_from_slice(&length.to_le_bytes());
        bytes[2] = priority;
        bytes[3] = flags;
        bytes[4..8].copy_from_slice(&correlation.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.total.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.header_bytes.to_le_bytes());
        bytes[14] = self.kind as u8;
        bytes[15] = self.continues.into();
        bytes
    }

    /// Nothing where the bytes are no line; flags and lengths are still to be checked.
    #[inline]
    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PACKET_LINE_BYTES] = bytes.first_chunk()?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let kind = match bytes[14] {
            0 => PacketKind::Message,
            1 => PacketKind::Goodbye,
            2 => PacketKind::Gone,
            _ => return None,
        };
        let continues = match bytes[15] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let meta =
            Meta { length: u16_at(0), priority: bytes[2], flags: bytes[3], correlation: u32_at(4) };
        Some(Self { meta, total: u32_at(8), header_bytes: u16_at(12), kind, continues })
    }
}

/// Takes packets and gives messages.
#[derive(Debug)]
pub(super) struct Packets {
    source: AgentId,
    /// Whether they come from a log: there a third party may say that the writer died, and pieces may be missing.
    is_log: bool,
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
    pub(super) counters: Counters,
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

/// A message of one packet: its bytes and how many they are. The payload has at most `INLINE_BYTES_MAX` bytes.
#[inline]
pub(super) fn small(
    meta: Meta,
    payload: &[u8],
    timing: Option<&Timing>,
) -> Result<([u8; SMALL_BYTES_MAX], usize), SendError> {
    if payload.len() > INLINE_BYTES_MAX {
        return Err(SendError::TooLong { got: payload.len(), max: INLINE_BYTES_MAX });
    }
    let mut packet = [0; SMALL_BYTES_MAX];
    let line = PacketLine {
        meta: Meta { length: payload.len() as u16, ..meta },
        total: payload.len() as u32,
        header_bytes: 0,
        kind: PacketKind::Message,
        continues: false,
    };
    packet[..PACKET_LINE_BYTES].copy_from_slice(&line.encode());
    let mut start = PACKET_LINE_BYTES;
    if let Some(timing) = timing {
        packet[start..start + 8].copy_from_slice(&timing.time_ns.to_le_bytes());
        packet[start + 8..start + 16].copy_from_slice(&timing.deadline_ns.to_le_bytes());
        packet[start + 16..start + 32].copy_from_slice(&timing.trace.to_le_bytes());
        start += TIMING_BYTES;
    }
    let end = start + payload.len();
    packet[start..end].copy_from_slice(payload);
    Ok((packet, end))
}

/// The length of a large message with its header, where it can be sent.
///
/// # Panics
/// When there are more than [`PARTS_MAX`] parts.
pub(super) fn total_of(message: &Large<'_>) -> Result<usize, SendError> {
    assert!(message.parts.len() <= PARTS_MAX, "too many parts");
    let payload: usize = message.parts.iter().map(|part| part.len()).sum();
    if payload > MESSAGE_BYTES_MAX {
        return Err(SendError::TooLong { got: payload, max: MESSAGE_BYTES_MAX });
    }
    Ok(payload + message.header.map_or(0, |_| HEADER_BYTES))
}

/// Sends a large message from byte `sent` on, its header counted, as packets of at most so many bytes of payload, and moves
/// `sent` along.
pub(super) fn send_pieces(
    message: &Large<'_>,
    piece_bytes_max: usize,
    sent: &mut usize,
    mut send: impl FnMut(PacketLine, &[&[u8]]) -> Result<(), SendError>,
) -> Result<(), SendError> {
    let header = message.header.map(Header::encode);
    let header = header.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    let total = header.len() + message.parts.iter().map(|part| part.len()).sum::<usize>();
    let mut parts = Parts::new(header, message.parts);
    parts.skip(*sent);
    let mut left = total - *sent;
    loop {
        let now = left.min(piece_bytes_max);
        let is_last = now == left;
        let flags = message.meta.flags | if is_last { 0 } else { FLAG_CHUNK };
        let line = PacketLine {
            meta: Meta { length: now as u16, flags, ..message.meta },
            total: total as u32,
            header_bytes: header.len() as u16,
            kind: PacketKind::Message,
            continues: left < total,
        };
        let (slices, count) = parts.take(now);
        send(line, &slices[..count])?;
        left -= now;
        *sent += now;
        if is_last {
            return Ok(());
        }
    }
}

impl Packets {
    pub(super) fn new(source: AgentId, is_log: bool) -> Self {
        Self {
            source,
            is_log,
            packet: Box::new([0; PACKET_BYTES_MAX]),
            meta: Meta::default(),
            timing: Timing::default(),
            header: Header::new(Kind::Event),
            place: Place { in_packet: None, header_bytes: 0 },
            assembly: Vec::new(),
            open: None,
            packets: 0,
            counters: Counters::default(),
        }
    }

    pub(super) fn source(&self) -> AgentId {
        self.source
    }

    /// Where the next packet goes.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.packet[..]
    }

    /// A packet of no bytes, which no writer that keeps the rules sends.
    pub(super) fn empty_packet(&self) -> ReceiveError {
        ReceiveError::Quarantined(Violation::Packet { position: self.packets, bytes: 0 })
    }

    /// Pieces that came so far are of no use any more.
    pub(super) fn forget_pieces(&mut self) {
        self.open = None;
        self.assembly = Vec::new();
    }

    /// Bytes that are held for a message that is not complete, or that was taken last.
    pub(super) fn held_bytes(&self) -> usize {
        self.open.map_or(0, |open| open.total).max(self.assembly.capacity())
    }

    /// Whether a message has begun to come that is not complete.
    pub(super) fn is_under_way(&self) -> bool {
        self.open.is_some()
    }

    /// Gives memory of earlier messages back, as far as none is under way.
    pub(super) fn release(&mut self) {
        if self.open.is_none() {
            self.assembly = Vec::new();
            self.place = Place { in_packet: Some((0, 0)), header_bytes: 0 };
        }
    }

    /// When the message that was taken last was sent; 0 where it does not say.
    pub(super) fn sent_ns(&self) -> u64 {
        let header_ns = (self.place.header_bytes > 0).then_some(self.header.time_ns);
        let timing_ns = self.meta.has(FLAG_TWO_LINES).then_some(self.timing.time_ns);
        header_ns.or(timing_ns).unwrap_or(0)
    }

    /// Whether the packet that was taken last took a message back.
    pub(super) fn was_abort(&self) -> bool {
        self.meta.has(FLAG_ABORT)
    }

    /// Checks the packet of this length in the buffer and takes it in. The length may be more than the buffer has.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<Taken, ReceiveError> {
        self.packets += 1;
        let position = self.packets;
        let broken = |violation| Err(ReceiveError::Quarantined(violation));
        let packet = self.packet.get(..length).and_then(PacketLine::decode);
        let Some(line) = packet else {
            return broken(Violation::Packet { position, bytes: length as u64 });
        };
        match line.kind {
            PacketKind::Message => {}
            PacketKind::Goodbye => return Err(ReceiveError::Ended(Ended::Closed)),
            PacketKind::Gone if self.is_log => {
                return Err(ReceiveError::Ended(Ended::PeerGone));
            }
            PacketKind::Gone => {
                return broken(Violation::Packet { position, bytes: length as u64 });
            }
        }
        if self.is_log {
            self.find_beginning(&line)?;
        } else if line.continues {
            return broken(Violation::Packet { position, bytes: length as u64 });
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

    /// In a log a message may lack its beginning, because it was retired, or its end, because its writer died. The first is
    /// told, the second was never sent.
    fn find_beginning(&mut self, line: &PacketLine) -> Result<(), ReceiveError> {
        let is_abort = line.meta.has(FLAG_ABORT);
        if self.open.is_none() && (line.continues || is_abort) {
            return Err(ReceiveError::Lost(1));
        }
        if !line.continues && !is_abort {
            self.open = None;
        }
        Ok(())
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
    pub(super) fn message(&self) -> Message<'_> {
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
