//! Fuzz target: the header parser.

use super::*;
use crate::fuzz::fuzz;

#[test]
fn what_is_taken_for_a_header_is_one() {
    fuzz(50_000, |chance| {
        let mut header = Header::new(*chance.pick(&[Kind::Task, Kind::Result, Kind::Learn]));
        (header.id, header.deadline_ns) = (chance.next(), chance.number(0));
        let mut bytes = header.encode().to_vec();
        let more = chance.below(200);
        bytes.extend(chance.bytes(more));
        chance.mutate(&mut bytes);
        let Ok((header, size)) = Header::decode(&bytes) else { return };
        assert!((HEADER_BYTES..=HEADER_BYTES_MAX).contains(&size) && size <= bytes.len());
        assert!((1..=10).contains(&header.priority));
        // Nothing is left out but what a later version may add.
        let again = header.encode();
        assert_eq!(again[2..80], bytes[2..80]);
        assert_eq!(Header::decode(&again), Ok((header, HEADER_BYTES)));
    });
}
