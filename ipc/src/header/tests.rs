//! The header's bytes, back and forth and broken.

use proptest::prelude::*;

use super::*;

#[cfg(not(loom))]
mod fuzz;

fn any_header() -> impl Strategy<Value = Header> {
    let ids = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>());
    let rest = (1u8..=7, 1u8..=10, any::<u64>(), any::<u128>(), any::<u64>(), any::<u32>());
    (ids, rest, any::<[u64; 2]>()).prop_map(|(ids, rest, context)| Header {
        id: ids.0,
        time_ns: ids.1,
        source: AgentId(ids.2),
        target: AgentId(ids.3),
        kind: Kind::from_number(rest.0).unwrap(),
        priority: rest.1,
        correlation: rest.2,
        trace: rest.3,
        deadline_ns: rest.4,
        schema: rest.5,
        context,
    })
}

proptest! {
    #[test]
    fn decode_returns_what_encode_wrote(header in any_header(), tail in any::<[u8; 7]>()) {
        let mut bytes = header.encode().to_vec();
        bytes.extend(tail);
        prop_assert_eq!(Header::decode(&bytes), Ok((header, HEADER_BYTES)));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::decode(&bytes);
    }
}

#[test]
fn longer_header_of_a_later_version_is_skipped_whole() {
    let header = Header::new(Kind::Event);
    let mut bytes = header.encode().to_vec();
    bytes[0..2].copy_from_slice(&112u16.to_le_bytes());
    bytes.extend([0xEE; 16]);
    bytes.extend(b"payload");
    assert_eq!(Header::decode(&bytes), Ok((header, 112)));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Header::new(Kind::Task).encode();
    for length in 0..bytes.len() {
        assert_eq!(Header::decode(&bytes[..length]), Err(HeaderError::Truncated { got: length }));
    }
}

#[test]
fn impossible_fields_are_named() {
    let good = Header::new(Kind::Task).encode();
    let broken = |at: usize, value: u8| {
        let mut bytes = good;
        bytes[at] = value;
        Header::decode(&bytes)
    };
    assert_eq!(broken(2, 0), Err(HeaderError::Kind { got: 0 }));
    assert_eq!(broken(2, 8), Err(HeaderError::Kind { got: 8 }));
    assert_eq!(broken(3, 11), Err(HeaderError::Priority { got: 11 }));
    assert_eq!(broken(0, 95), Err(HeaderError::Size { got: 95 }));
    assert_eq!(broken(0, 97), Err(HeaderError::Size { got: 97 }));
}
