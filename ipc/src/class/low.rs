//! LOW: a log on the disk. What is sent is kept there, whether anybody reads or not, and outlives both ends and the exchange
//! between them.
//!
//! A sender appends, and returns when its message is stored: it survives the death of every process. A receiver follows, from
//! any position on. Messages are packets as those of NORMAL, one for each record. One sender at a time writes a log.
//!
//! # What is different
//! 1. The log does not end with its reader, and a sender does not hear of it: it keeps what is sent for whoever follows next.
//! 2. It does not end with its writer either. A sender that closes appends a goodbye; for one that dies the exchange appends what
//!    it left as its will. A receiver ends there; another one goes on behind it, at [`Receiver::position`].
//! 3. Where the exchange dies, both ends hear that their peer is gone. Whether the message that was being sent is stored is not
//!    known then.
//! 4. Full means that a receiver which holds writers back is further behind than the log's options allow, or that the disk is
//!    full. Without such a receiver, and with retention, a slow one is told how many records it has lost.
//!
//! Not here: the log (`exchange::log`), and the packets (`packets`).

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::packets::{self, PacketKind, PacketLine, Packets};
use super::{Class, Counters, ReceivingHalf, SendingHalf};
use crate::client::Client;
use crate::exchange::log::{
    Append, Appended, Durability, Entry, Follower, LogError, Operation, Records, Short, Start,
};
use crate::header::{AgentId, LaneId};
use crate::lane::{Ended, Large, Message, ReceiveError, SendError, Taken, WhenFull};
use crate::limits::PACKET_PAYLOAD_BYTES_MAX;
use crate::link::{Answer, Ask, CallError, Incoming, Link};
use crate::ring::{FLAG_TWO_LINES, Meta, Timing};
use crate::wait::Spin;

/// For the header of an append. Only the exchange's end ends the wait for its answer.
const ANSWER_WANTED_FOR: Duration = Duration::from_secs(3_600);

/// Appends packets to a log. When it is dropped, it says goodbye.
#[derive(Debug)]
pub struct Sender {
    link: Link,
    log: String,
    durability: Durability,
    /// One packet, put together.
    packet: Vec<u8>,
    ended: Option<SendError>,
    /// Why the exchange refused: CBOR of its error.
    refusal: Option<Vec<u8>>,
    short: Option<Short>,
    /// Pieces were sent whose message was given up; the reader must hear of it first.
    abort_due: Option<Meta>,
    next: u64,
    counters: Counters,
}

/// Follows a log and puts its packets together.
#[derive(Debug)]
pub struct Receiver {
    follower: Follower,
    packets: Packets,
    end: Option<ReceiveError>,
    /// What a batch met after it had taken something.
    due: Option<ReceiveError>,
}

impl Sender {
    /// Appends to a log, which must be there, over a link of its own. What the router says of it comes to `client`.
    pub fn open(
        client: &mut Client,
        log: &str,
        durability: Durability,
        deadline: Instant,
    ) -> Result<Self, LogError> {
        let mut logs = crate::exchange::log::Logs::open(client)?;
        let will = PacketLine::end(PacketKind::Gone).encode();
        logs.call(log, &Operation::Will { payload: &will }, deadline)?;
        let next = logs.info(log, deadline)?.next;
        Ok(Self {
            link: logs.into_link(),
            log: log.to_owned(),
            durability,
            packet: Vec::new(),
            ended: None,
            refusal: None,
            short: None,
            abort_due: None,
            next,
            counters: Counters::default(),
        })
    }

    /// Its link, which stays open when this is dropped: [`Client::decline`] closes it.
    pub fn lane(&self) -> LaneId {
        self.link.lane()
    }

    /// The position behind the last record that was sent.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Why the exchange refused the last message, where it did: CBOR of its error.
    pub fn refusal(&self) -> Option<&[u8]> {
        self.refusal.as_deref()
    }

    /// Why the last message found no room, where it did not.
    pub fn short(&self) -> Option<Short> {
        self.short
    }

    fn send_small(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Option<&Timing>,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let (packet, end) = packets::small(meta, payload, timing)?;
        self.pay_abort(when)?;
        self.append(meta.priority, &[&packet[..end]], false, when)?;
        self.counters.messages += 1;
        Ok(())
    }

    /// The reader forgets what was given up before it gets anything else.
    fn pay_abort(&mut self, when: WhenFull) -> Result<(), SendError> {
        let Some(meta) = self.abort_due else { return Ok(()) };
        self.append(meta.priority, &[&PacketLine::abort(meta).encode()], false, when)?;
        self.abort_due = None;
        Ok(())
    }

    /// One packet in some parts; returns when it is in the log.
    fn append(
        &mut self,
        priority: u8,
        parts: &[&[u8]],
        is_last: bool,
        when: WhenFull,
    ) -> Result<(), SendError> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        let now = Instant::now();
        self.packet.clear();
        parts.iter().for_each(|part| self.packet.extend_from_slice(part));
        let wait = match when {
            WhenFull::Reject => Duration::ZERO,
            WhenFull::WaitUntil(deadline) => deadline.saturating_duration_since(now),
        };
        let records = [&self.packet[..]];
        let append = Operation::Append(Append {
            durability: self.durability,
            priority: priority.clamp(1, 10),
            takes_will_back: is_last,
            wait_ns: u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX),
            records: Records::from_payloads(&records),
        });
        // The name was one that the exchange knows, and a packet is short.
        let Ok(arguments) = append.encode(&self.log) else {
            return Err(self.end(SendError::Ended(Ended::Revoked)));
        };
        let (tool, payload, deadline) = (append.tool(), &arguments[..], now + ANSWER_WANTED_FOR);
        let ask = Ask { tool, payload, grants: &[], deadline, priority, when };
        let request = match self.link.sender().ask(ask, crate::exchange::NAME) {
            Ok(request) => request,
            Err(CallError::Full { .. }) => return Err(self.full(None)),
            Err(error) => return Err(self.end(end_of(&error))),
        };
        if is_last {
            return Ok(());
        }
        loop {
            match self.link.receiver().receive(None) {
                Ok(Incoming::Answer { request: of, answer }) if of == request => {
                    return self.answered(answer);
                }
                Ok(_) => {}
                Err(error) => return Err(self.end(end_of(&error))),
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Result<(), SendError> {
        let bytes = match answer {
            Answer::Done(bytes) | Answer::Progress(bytes) => bytes,
            Answer::Failed(error) => {
                self.refusal = Some(error);
                return Err(self.end(SendError::Ended(Ended::Revoked)));
            }
        };
        match Appended::decode(&bytes) {
            Ok(Appended { first, count: 1.., .. }) => {
                self.next = first + 1;
                Ok(())
            }
            Ok(Appended { short, .. }) => Err(self.full(short)),
            Err(_) => Err(self.end(SendError::Ended(Ended::Revoked))),
        }
    }

    fn full(&mut self, short: Option<Short>) -> SendError {
        self.short = short;
        self.counters.rejected += 1;
        SendError::Full
    }

    fn end(&mut self, error: SendError) -> SendError {
        self.ended = Some(error);
        error
    }
}

fn end_of(error: &CallError) -> SendError {
    match error {
        CallError::Ended { ended, .. } => SendError::Ended(*ended),
        CallError::Quarantined { violation, .. } => SendError::Quarantined(*violation),
        _ => SendError::Ended(Ended::Revoked),
    }
}

impl SendingHalf for Sender {
    fn class(&self) -> Class {
        Class::Low
    }

    /// Returns when the message is in the log; there is nothing to flush.
    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.send_small(meta, payload, None, when)
    }

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
        packets::send_pieces(message, PACKET_PAYLOAD_BYTES_MAX, sent, |line, slices| {
            let line_bytes = line.encode();
            let mut parts = vec![&line_bytes[..]];
            parts.extend(slices);
            self.append(line.meta.priority, &parts, false, when)
        })?;
        self.counters.messages += 1;
        self.counters.bytes_large += total as u64;
        Ok(())
    }

    fn set_spin(&mut self, spin: Spin) {
        self.link.receiver().raw().set_spin(spin);
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let goodbye = PacketLine::end(PacketKind::Goodbye).encode();
        // Where it finds no room its readers hear of a death, as the will says.
        let _ = self.append(1, &[&goodbye], true, WhenFull::Reject);
    }
}

impl Receiver {
    /// Follows a log, which must be there and which `source` writes, over a link of its own. `holds_back` says whether writers
    /// wait where this receiver is further behind than the log's options allow.
    pub fn open(
        client: &mut Client,
        source: AgentId,
        log: &str,
        start: Start,
        holds_back: bool,
        deadline: Instant,
    ) -> Result<Self, LogError> {
        let follower = Follower::open(client, log, start, holds_back, deadline)?;
        Ok(Self { follower, packets: Packets::new(source, true), end: None, due: None })
    }

    /// Its link, which stays open when this is dropped, though nothing more comes over it and no writer waits for this
    /// receiver any more: [`Client::decline`] closes it.
    pub fn lane(&mut self) -> LaneId {
        self.follower.link().lane()
    }

    /// The position behind what was received: where another receiver goes on.
    pub fn position(&self) -> u64 {
        self.follower.position()
    }

    /// Whether something is there to be received, or to be told.
    pub fn has_news(&mut self) -> bool {
        self.end.is_some()
            || self.due.is_some()
            || self.follower.has_entry()
            || self.follower.link().receiver().raw().has_message()
    }

    /// An error that came behind messages of a batch: the next look tells it.
    pub(super) fn set_due(&mut self, error: ReceiveError) {
        self.due = Some(error);
    }

    fn poll(&mut self) -> Result<Taken, ReceiveError> {
        if let Some(due) = self.due.take() {
            return Err(due);
        }
        if let Some(end) = self.end {
            return Err(end);
        }
        loop {
            match self.follower.try_fetch() {
                Ok(false) => return Ok(Taken::Nothing),
                Ok(true) => {}
                Err(error) => return Err(self.end(Follower::end_of(&error))),
            }
            match self.step()? {
                // Ends this look, so that a stream of them cannot hold the reader.
                Taken::Nothing if self.packets.was_abort() => return Ok(Taken::Nothing),
                Taken::Nothing => {}
                taken => return Ok(taken),
            }
        }
    }

    /// Takes the entry that is there.
    fn step(&mut self) -> Result<Taken, ReceiveError> {
        let Self { follower, packets, .. } = self;
        let taken = match follower.take() {
            Ok(Entry::Record(record)) => {
                let length = record.payload.len();
                match packets.buffer().get_mut(..length) {
                    _ if length == 0 => Err(packets.empty_packet()),
                    Some(place) => {
                        place.copy_from_slice(record.payload);
                        packets.take(length)
                    }
                    // Longer than any packet: it is refused by its length.
                    None => packets.take(length),
                }
            }
            Ok(Entry::Lost { first, next } | Entry::Damaged { first, next }) => {
                packets.forget_pieces();
                Err(ReceiveError::Lost(next.saturating_sub(first)))
            }
            Ok(Entry::Begin { .. }) => Ok(Taken::Nothing),
            Err(error) => Err(Follower::end_of(&error)),
        };
        taken.map_err(|error| match error {
            ReceiveError::Lost(_) => error,
            error => self.end(error),
        })
    }

    #[cold]
    fn end(&mut self, end: ReceiveError) -> ReceiveError {
        self.end = Some(end);
        self.packets.forget_pieces();
        end
    }
}

impl ReceivingHalf for Receiver {
    fn class(&self) -> Class {
        Class::Low
    }

    fn source(&self) -> AgentId {
        self.packets.source()
    }

    fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        match self.poll()? {
            Taken::Nothing => Ok(None),
            Taken::Inline | Taken::Large => Ok(Some(self.packets.message())),
        }
    }

    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError> {
        while matches!(self.poll()?, Taken::Nothing) {
            match self.follower.fetch(deadline) {
                Ok(true) => {}
                Ok(false) => return Err(ReceiveError::Deadline),
                Err(error) => return Err(self.end(Follower::end_of(&error))),
            }
        }
        Ok(self.packets.message())
    }

    fn has_message(&self) -> bool {
        self.end.is_none() && (self.follower.has_entry() || self.follower.has_answer())
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || self.follower.is_over()
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

    /// None: the exchange rings the doorbell of the client that opened this half.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn arm(&mut self) -> bool {
        self.end.is_none()
            && self.due.is_none()
            && !self.follower.has_entry()
            && self.follower.link().receiver().raw().arm()
    }

    fn disarm(&mut self) {
        self.follower.link().receiver().raw().disarm();
    }

    fn set_spin(&mut self, spin: Spin) {
        self.follower.link().receiver().raw().set_spin(spin);
    }

    fn counters(&self) -> Counters {
        self.packets.counters
    }
}
