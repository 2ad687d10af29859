//! One direction of a route: messages out of one lane into another, as they are.
//!
//! What finds no room waits here, one message at a time, and nothing more is read meanwhile; so a slow reader holds up its
//! own writer and nobody else. Not here: how routes come and go (`server`).

use ipc::fault;
use ipc::header::Header;
use ipc::lane::{Large, Message, ReceiveError, Receiver, SendError, Sender, WhenFull};
use ipc::limits::INLINE_BYTES_MAX;
use ipc::ring::{FLAG_CHUNK, FLAG_REGION, FLAG_TWO_LINES, Meta, Timing};

use crate::limits::FORWARDED_PER_TURN_MAX;

/// What waits for room.
#[derive(Debug, Default)]
pub(super) struct Direction {
    waiting: Option<Waiting>,
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
    /// Everything was passed on, and nothing more will come.
    SourceEnded,
    /// The writer of the source broke the protocol.
    SourceBroken,
    /// Nobody reads the other end any more.
    TargetEnded,
    /// Its reader broke the protocol.
    TargetBroken,
}

impl Direction {
    /// Whether something waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Passes on what is there, a bounded number.
    pub(super) fn pass(&mut self, from: &mut Receiver, to: &mut Sender) -> Turn {
        match self.pass_waiting(to) {
            Ok(true) => {}
            Ok(false) => return Turn::Passed(0),
            Err(turn) => return turn,
        }
        let mut passed = 0;
        let turn = loop {
            if passed == FORWARDED_PER_TURN_MAX {
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
    fn pass_waiting(&mut self, to: &mut Sender) -> Result<bool, Turn> {
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
fn push(to: &mut Sender, message: &Message<'_>, sent: &mut usize) -> Result<(), SendError> {
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
