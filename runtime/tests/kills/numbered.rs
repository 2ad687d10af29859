//! Numbered messages of every shape: in a line, in two, through the region in several chunks. Whoever reads them knows
//! what the next one must be, byte for byte.

use std::time::Instant;

use ipc::class::SendingHalf;
use ipc::header::{Header, Kind};
use ipc::lane::{Large, Message, SendError, WhenFull};
use ipc::ring::{Meta, Timing};

/// More than half of a default region, so that it travels in chunks.
const LARGE_BYTES: usize = 200_000;

/// Sends message `number`.
pub(crate) fn send(
    lane: &mut impl SendingHalf,
    number: u64,
    deadline: Instant,
) -> Result<(), SendError> {
    let when = WhenFull::WaitUntil(deadline);
    let meta = Meta { correlation: number as u32, ..Meta::default() };
    let bytes = number.to_le_bytes();
    match number % 4 {
        2 => {
            let timing = Timing { time_ns: number, deadline_ns: 0, trace: number.into() };
            lane.send_timed(meta, &bytes, timing, when)
        }
        3 => {
            let (header, body) = (Header::new(Kind::Event), vec![number as u8; LARGE_BYTES]);
            lane.send_large(Large { header: Some(&header), meta, parts: &[&bytes, &body] }, when)
        }
        _ => lane.send(meta, &bytes, when),
    }
}

/// The number of a message that is whole.
pub(crate) fn number_of(message: &Message<'_>) -> u64 {
    let (first, rest) = message.payload.split_first_chunk::<8>().unwrap();
    let number = u64::from_le_bytes(*first);
    let large = if number % 4 == 3 { LARGE_BYTES } else { 0 };
    assert_eq!((message.meta.correlation, rest.len()), (number as u32, large), "{number}");
    assert!(rest.iter().all(|byte| *byte == number as u8), "message {number} is torn");
    if let Some(timing) = message.timing {
        assert_eq!((timing.time_ns, timing.trace), (number, number.into()));
    }
    number
}
