//! One direction of a route: messages out of one lane into another, as they are.
//!
//! What finds no room waits here, one message at a time, and nothing more is read meanwhile; so a slow reader holds up its
//! own writer and nobody else. Not here: how routes come and go (`server`).

use std::time::Duration;

use ipc::class::{AnyReceiver, AnySender, ReceivingHalf, SendingHalf};
use ipc::fault;
use ipc::header::Header;
use ipc::lane::{Large, Message, ReceiveError, SendError, WhenFull};
use ipc::limits::INLINE_BYTES_MAX;
use ipc::ring::{FLAG_CHUNK, FLAG_REGION, FLAG_TWO_LINES, Meta, Timing};

use crate::limits::{FORWARDED_PER_TURN_MAX, ROUTE_BUFFER_KEPT_BYTES, ROUTED_MESSAGE_PATIENCE};

/// What waits for room.
#[derive(Debug, Default)]
pub(super) struct Direction {
    waiting: Option<Waiting>,
    held: Held,
    /// Since when a message has been coming that is not complete.
    begun: Option<Duration>,
}

/// Bytes that a direction held after its last turn, by whom they wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Of a message that is not complete: its writer.
    pub(super) by_writer: usize,
    /// Of a whole one that finds no room: its reader.
    pub(super) by_reader: usize,
}

/// A message of its own, since its lane's next one takes the place of a borrowed one.
#[derive(Debug)]
struct Waiting {
    meta: Meta,
    timing: Option<Timing>,
    header: Option<Header>,
    payload: Vec<u8>,
    /// Of a message of several chunks, the bytes that are on their way.
    sent: usize,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// So many messages were passed on.
    Passed(usize),
    /// The writer of the source has left a message half sent for too long.
    SourceStalled,
    /// Everything was passed on, and nothing more will come.
    SourceEnded,
    /// The writer of the source broke the protocol.
    SourceBroken,
    /// Nobody reads the other end any more.
    TargetEnded,
    /// Its reader broke the protocol.
    TargetBroken,
}

impl Held {
    pub(super) fn sum(self) -> usize {
        self.by_writer.saturating_add(self.by_reader)
    }
}

impl Direction {
    /// Whether something waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Passes on what is there, at most `max` messages.
    pub(super) fn pass(
        &mut self,
        from: &mut AnyReceiver,
        to: &mut AnySender,
        max: usize,
        now: impl FnOnce() -> Duration,
    ) -> Turn {
        let turn = self.pass_some(from, to, max);
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.payload.capacity());
        if from.held_bytes() > ROUTE_BUFFER_KEPT_BYTES {
            // What is not under way any more is given back: a thousand quiet routes keep little.
            from.release();
        }
        self.held = Held { by_writer: from.held_bytes(), by_reader: waiting };
        if !from.is_under_way() {
            self.begun = None;
            return turn;
        }
        let (now, goes_on) = (now(), !matches!(turn, Turn::Passed(1..)));
        let begun = self.begun.filter(|_| goes_on).unwrap_or(now);
        self.begun = Some(begun);
        // What is there and was not read is not its writer's delay.
        let is_late = begun + ROUTED_MESSAGE_PATIENCE <= now && !from.has_message();
        if is_late && matches!(turn, Turn::Passed(_)) { Turn::SourceStalled } else { turn }
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// When the message that is coming has to be complete.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.begun.map(|begun| begun + ROUTED_MESSAGE_PATIENCE)
    }

    fn pass_some(&mut self, from: &mut AnyReceiver, to: &mut AnySender, max: usize) -> Turn {
        match self.pass_waiting(to) {
            Ok(true) => {}
            Ok(false) => return Turn::Passed(0),
            Err(turn) => return turn,
        }
        let mut passed = 0;
        let turn = loop {
            if passed == max.min(FORWARDED_PER_TURN_MAX) {
                break Turn::Passed(passed);
            }
            let message = match from.try_receive() {
                Ok(Some(message)) => message,
                Ok(None) => break Turn::Passed(passed),
                Err(ReceiveError::Quarantined(_)) => break Turn::SourceBroken,
                // A link never laps, and nothing waits here.
                Err(_) => break Turn::SourceEnded,
            };
            fault::point("exchange.message-read");
            let mut sent = 0;
            match push(to, &message, &mut sent) {
                Ok(()) => passed += 1,
                Err(SendError::Full) => {
                    self.waiting = Some(Waiting::from(&message, sent));
                    break Turn::Passed(passed);
                }
                Err(error) => break lost(error),
            }
        };
        fault::point("exchange.message-pushed");
        to.flush();
        turn
    }

    /// True when nothing waits any more.
    fn pass_waiting(&mut self, to: &mut AnySender) -> Result<bool, Turn> {
        let Some(waiting) = &mut self.waiting else { return Ok(true) };
        let message = Message {
            meta: waiting.meta,
            timing: waiting.timing.as_ref(),
            header: waiting.header.as_ref(),
            payload: &waiting.payload,
        };
        match push(to, &message, &mut waiting.sent) {
            Ok(()) => {
                self.waiting = None;
                to.flush();
                Ok(true)
            }
            Err(SendError::Full) => Ok(false),
            Err(error) => Err(lost(error)),
        }
    }
}

impl Waiting {
    fn from(message: &Message<'_>, sent: usize) -> Self {
        Self {
            meta: message.meta,
            timing: message.timing.copied(),
            header: message.header.copied(),
            payload: message.payload.to_vec(),
            sent,
        }
    }
}

fn lost(error: SendError) -> Turn {
    match error {
        SendError::Quarantined(_) => Turn::TargetBroken,
        _ => Turn::TargetEnded,
    }
}

/// Sends a message as it came, from byte `sent` on where some of its chunks are on their way already.
fn push(to: &mut AnySender, message: &Message<'_>, sent: &mut usize) -> Result<(), SendError> {
    let Message { mut meta, timing, header, payload } = *message;
    meta.flags &= !(FLAG_REGION | FLAG_CHUNK | FLAG_TWO_LINES);
    if header.is_none() && payload.len() <= INLINE_BYTES_MAX {
        return match timing {
            None => to.push(meta, payload, WhenFull::Reject),
            Some(timing) => to.send_timed(meta, payload, *timing, WhenFull::Reject),
        };
    }
    to.resume_large(&Large { header, meta, parts: &[payload] }, sent, WhenFull::Reject)
}

#[cfg(test)]
mod tests {
    use ipc::class::normal;
    use ipc::header::AgentId;
    use ipc::limits::MESSAGE_BYTES_MAX;

    use super::*;

    const NOW: fn() -> Duration = || Duration::ZERO;

    fn way() -> (AnySender, AnyReceiver) {
        let (here, there) = normal::pair().unwrap();
        let sender = AnySender::Normal(Box::new(normal::Sender::new(here).unwrap()));
        let receiver = normal::Receiver::new(AgentId(1), there).unwrap();
        (sender, AnyReceiver::Normal(Box::new(receiver)))
    }

    #[test]
    fn a_direction_holds_a_message_from_its_first_piece_and_nothing_when_it_has_passed() {
        let ((mut writer, mut from), (mut to, mut reader)) = (way(), way());
        let payload: Vec<u8> = (0..MESSAGE_BYTES_MAX).map(|index| index as u8).collect();
        let message = Large { header: None, meta: Meta::default(), parts: &[&payload] };
        let (mut direction, mut sent) = (Direction::default(), 0);
        let full = writer.resume_large(&message, &mut sent, WhenFull::Reject);
        assert_eq!(full, Err(SendError::Full));
        assert_eq!(direction.pass(&mut from, &mut to, 1, NOW), Turn::Passed(0));
        assert!(
            direction.held().by_writer >= MESSAGE_BYTES_MAX,
            "the whole of it is counted at once"
        );
        let mut is_sent = false;
        let mut is_read = false;
        while !is_read {
            is_sent = is_sent || writer.resume_large(&message, &mut sent, WhenFull::Reject).is_ok();
            direction.pass(&mut from, &mut to, 1, NOW);
            if let Some(read) = reader.try_receive().unwrap() {
                assert!(read.payload == payload);
                is_read = true;
            }
        }
        assert_eq!(direction.pass(&mut from, &mut to, 1, NOW), Turn::Passed(0));
        assert_eq!(direction.held(), Held::default());
    }

    #[test]
    fn a_direction_passes_no_more_than_it_is_told() {
        let ((mut writer, mut from), (mut to, mut reader)) = (way(), way());
        for _ in 0..5 {
            writer.send(Meta::default(), b"x", WhenFull::Reject).unwrap();
        }
        let mut direction = Direction::default();
        assert_eq!(direction.pass(&mut from, &mut to, 0, NOW), Turn::Passed(0));
        assert_eq!(direction.pass(&mut from, &mut to, 2, NOW), Turn::Passed(2));
        assert_eq!(direction.pass(&mut from, &mut to, 9, NOW), Turn::Passed(3));
        assert_eq!(reader.receive_batch(9, |_| {}).unwrap(), 5);
    }

    #[test]
    fn a_message_that_is_not_completed_in_time_stalls_and_one_that_comes_late_does_not() {
        let ((mut writer, mut from), (mut to, mut reader)) = (way(), way());
        let payload = vec![7; MESSAGE_BYTES_MAX];
        let message = Large { header: None, meta: Meta::default(), parts: &[&payload] };
        let (mut direction, mut sent) = (Direction::default(), 0);
        let mut pass = |from: &mut AnyReceiver, to: &mut AnySender, now| {
            // All that is there; a socket holds less than the message.
            let mut turn = direction.pass(from, to, 1, || now);
            while from.has_message() && turn == Turn::Passed(0) {
                turn = direction.pass(from, to, 1, || now);
            }
            (turn, direction.deadline())
        };
        assert_eq!(pass(&mut from, &mut to, Duration::ZERO), (Turn::Passed(0), None));
        let full = writer.resume_large(&message, &mut sent, WhenFull::Reject);
        assert_eq!(full, Err(SendError::Full));
        let begun = Duration::from_secs(1);
        let deadline = begun + ROUTED_MESSAGE_PATIENCE;
        assert_eq!(pass(&mut from, &mut to, begun), (Turn::Passed(0), Some(deadline)));
        let almost = deadline - Duration::from_nanos(1);
        assert_eq!(pass(&mut from, &mut to, almost).0, Turn::Passed(0));
        assert_eq!(pass(&mut from, &mut to, deadline).0, Turn::SourceStalled);
        // Who goes on is not late for what was not read, and the next message has its own time.
        let mut is_read = false;
        while !is_read {
            let is_sent = writer.resume_large(&message, &mut sent, WhenFull::Reject).is_ok();
            let (turn, _) = pass(&mut from, &mut to, almost);
            assert!(matches!(turn, Turn::Passed(_)), "{turn:?}");
            is_read = is_sent && reader.try_receive().unwrap().is_some();
            if !is_read && is_sent {
                while reader.try_receive().unwrap().is_none() {
                    pass(&mut from, &mut to, almost);
                }
                is_read = true;
            } else if !is_sent {
                assert!(reader.try_receive().unwrap().is_none());
            }
        }
        assert_eq!(pass(&mut from, &mut to, deadline), (Turn::Passed(0), None));
    }
}
