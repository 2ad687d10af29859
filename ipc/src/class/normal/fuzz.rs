//! Fuzz target: the receiving half of NORMAL on packets of any sort.

use std::time::Instant;

use rustix::net::{self, SendFlags};

use super::*;
use crate::class::ReceivingHalf;
use crate::class::packets::{FLAGS_NEVER, PacketKind, PacketLine, TIMING_BYTES};
use crate::fuzz::{Chance, fuzz};
use crate::header::{AgentId, HEADER_BYTES, HEADER_BYTES_MAX, Header, Kind};
use crate::lane::ReceiveError;
use crate::limits::{MESSAGE_BYTES_MAX, PACKET_PAYLOAD_BYTES_MAX};
use crate::ring::{FLAG_ABORT, FLAG_CHUNK, FLAG_TWO_LINES, Meta};

const WRITER: AgentId = AgentId(7);

/// A packet that may begin, go on with or end a message, or be one.
fn packet(chance: &mut Chance) -> Vec<u8> {
    let lone = [0, 0, FLAG_CHUNK, FLAG_CHUNK, FLAG_ABORT, FLAG_TWO_LINES, FLAG_CHUNK | FLAG_ABORT];
    let flags = if chance.once_in(10) { chance.next() as u8 } else { *chance.pick(&lone) };
    let payload = *chance.pick(&[0, 1, 48, 96, 100, 200, PACKET_PAYLOAD_BYTES_MAX]);
    let totals = [payload, 2 * payload, 200, 300, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX + 97];
    let headers = [0, 0, 0, HEADER_BYTES, 1, HEADER_BYTES_MAX + 1];
    let line = PacketLine {
        meta: Meta { length: payload as u16, priority: 5, flags, correlation: 3 },
        total: *chance.pick(&totals) as u32,
        header_bytes: *chance.pick(&headers) as u16,
        kind: match chance.below(30) {
            0 => PacketKind::Goodbye,
            1 => PacketKind::Gone,
            _ => PacketKind::Message,
        },
        continues: chance.once_in(30),
    };
    let mut bytes = line.encode().to_vec();
    if flags & FLAG_TWO_LINES != 0 {
        bytes.extend([9; TIMING_BYTES]);
    }
    bytes.extend(Header::new(Kind::Event).encode());
    bytes.resize(bytes.len() - HEADER_BYTES + payload, 5);
    if chance.once_in(3) {
        chance.mutate(&mut bytes);
    }
    bytes
}

#[test]
fn packets_of_any_sort_are_messages_or_the_end() {
    fuzz(4_000, |chance| {
        let (here, there) = pair().unwrap();
        let mut receiver = Receiver::new(WRITER, there).unwrap();
        'case: for _ in 0..30 {
            let bytes = packet(chance);
            if net::send(&here, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
                break;
            }
            for _ in 0..2 {
                match receiver.try_receive() {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        assert!(message.payload.len() <= MESSAGE_BYTES_MAX + HEADER_BYTES);
                        assert!(message.header.is_none_or(|header| header.source == WRITER));
                        assert_eq!(message.meta.flags & (FLAGS_NEVER | FLAG_ABORT | FLAG_CHUNK), 0);
                    }
                    Err(end) => {
                        assert!(!matches!(end, ReceiveError::Lost(_) | ReceiveError::Deadline));
                        assert_eq!(receiver.try_receive(), Err(end));
                        assert_eq!(receiver.receive(Some(Instant::now())), Err(end));
                        break 'case;
                    }
                }
            }
        }
    });
}
