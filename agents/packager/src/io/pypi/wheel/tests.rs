//! Archives, whole and hostile.

use std::io::Write;

use super::*;
use proptest::prelude::*;

/// A wheel with these entries.
pub(in crate::io::pypi) fn wheel(entries: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method =
        if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    for (name, content) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).expect("in memory");
        writer.write_all(content).expect("in memory");
    }
    writer.finish().expect("in memory").into_inner()
}

fn read(bytes: &[u8]) -> Result<Bytes, &'static str> {
    let part = Part { start: 0, bytes: bytes.to_vec().into() };
    let (offset, length) = directory(&part, bytes.len() as u64)?;
    let entries = part.get(offset, length).ok_or("outside")?;
    unpack(&part, &find_metadata(entries, "A_b-1.0-py3-none-any.whl")?)
}

#[test]
fn metadata_is_found_stored_or_deflated() {
    for deflated in [false, true] {
        let content = b"Name: a-b\n".repeat(100);
        let bytes = wheel(
            &[("a/x.py", b"1"), ("a.b-1.0.dist-info/METADATA", &content), ("a/METADATA", b"2")],
            deflated,
        );
        assert_eq!(read(&bytes).expect("metadata"), content);
    }
}

#[test]
fn two_metadata_files_are_refused() {
    let bytes =
        wheel(&[("a_b-1.0.dist-info/METADATA", b"1"), ("A_B-1.0.dist-info/METADATA", b"2")], true);
    assert_eq!(read(&bytes), Err("it has several METADATA files"));
}

#[test]
fn a_wheel_without_metadata_says_so() {
    let bytes =
        wheel(&[("x/a_b-1.0.dist-info/METADATA", b"1"), ("c-1.0.dist-info/METADATA", b"2")], true);
    assert_eq!(read(&bytes), Err("it has no METADATA"));
    assert!(
        read(b"").is_err() && read(b"not an archive at all, but long enough to be one").is_err()
    );
}

#[test]
fn every_cut_and_changed_byte_is_noticed_or_harmless() {
    let content = b"Name: a-b\n".repeat(20);
    let bytes = wheel(&[("a_b-1.0.dist-info/METADATA", &content)], true);
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut at {length}");
    }
    for index in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[index] ^= bit;
            if let Ok(found) = read(&changed) {
                assert_eq!(found, content, "changed at {index}");
            }
        }
    }
}

#[test]
fn content_ranges_are_read() {
    assert_eq!(content_range(Some("bytes 10-19/100")), Some((10, 100)));
    for text in ["bytes */100", "bytes 1-2/*", "10-19/100", "", "bytes -/-"] {
        assert_eq!(content_range(Some(text)), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let mut with_end = bytes;
        with_end.extend_from_slice(b"PK\x05\x06");
        with_end.extend_from_slice(&[0; 18]);
        let _ = read(&with_end);
        let _ = find_metadata(&with_end, "a_b-1.0-py3-none-any.whl");
    }

    #[test]
    fn no_offsets_make_the_reader_panic(offset in any::<u32>(), length in any::<u32>(), start in any::<u64>()) {
        let mut bytes = vec![0; 64];
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\0\0\0\0");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        let part = Part { start: start >> 1, bytes: bytes.into() };
        let _ = directory(&part, u64::MAX);
        let _ = part.get(u64::from(offset), u64::from(length));
    }
}
