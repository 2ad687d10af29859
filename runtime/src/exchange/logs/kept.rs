//! What a log's directory has beside its segments: how the log is kept, so that it is so after a restart too.
//!
//! One small file, replaced as a whole. `ipc/PROTOCOL.md` section 9 has the bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ipc::exchange::log::Options;

use crate::exchange::log::Retention;
use crate::limits::{LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN};

const NAME: &str = "options";
const NEW_NAME: &str = "options.new";
/// `BLLO`.
const MAGIC: [u8; 4] = *b"BLLO";
const MAJOR: u32 = 1;
/// Bytes of the file: magic, major, five numbers, checksum.
const BYTES: usize = 8 + 5 * 8 + 4;
/// Segments of a log that keeps so many bytes: what goes at once is an eighth of it.
const SEGMENTS_PER_LOG: u64 = 8;
const PAGE_BYTES: u64 = 4_096;

/// The options as they are really kept.
pub(super) fn normal(options: Options) -> Options {
    let chosen = match (options.segment_bytes, options.bytes_max) {
        (0, 0) => LOG_SEGMENT_BYTES_DEFAULT,
        (0, bytes_max) => (bytes_max / SEGMENTS_PER_LOG).min(LOG_SEGMENT_BYTES_DEFAULT),
        (chosen, _) => chosen,
    };
    let bytes = chosen.clamp(LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES_MAX);
    Options { segment_bytes: bytes.next_multiple_of(PAGE_BYTES), ..options }
}

/// When records go, as the log wants to know it.
pub(super) fn retention(options: &Options) -> Retention {
    let bound = |value: u64| (value > 0).then_some(value);
    Retention {
        bytes_max: bound(options.bytes_max),
        age_max_ns: bound(options.age_max_ns),
        records_max: bound(options.records_max),
        is_deaf_to_consumers: false,
    }
}

/// The options of the log in this directory; nothing where there is no log.
pub(super) fn read(directory: &Path) -> io::Result<Option<Options>> {
    let file = match File::open(directory.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::with_capacity(BYTES);
    file.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    decode(&bytes).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Writes them, for good. Blocks for the disk.
pub(super) fn write(directory: &Path, options: &Options) -> io::Result<()> {
    let new = directory.join(NEW_NAME);
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&encode(options))?;
    file.sync_all()?;
    std::fs::rename(new, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

fn encode(options: &Options) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(MAJOR.to_le_bytes());
    options.append_to(&mut bytes);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Options> {
    let (fields, checksum) = bytes.split_last_chunk::<4>()?;
    let is_right = bytes.len() == BYTES
        && crc32c::crc32c(fields) == u32::from_le_bytes(*checksum)
        && fields[..4] == MAGIC
        && fields[4..8] == MAJOR.to_le_bytes();
    is_right.then(|| Options::decode(&fields[8..]).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_back_and_damage_is_seen() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read(home.path()).unwrap(), None);
        let options = Options { records_max: 7, ahead_max: 9, ..Options::default() };
        write(home.path(), &options).unwrap();
        write(home.path(), &normal(options)).unwrap();
        assert_eq!(read(home.path()).unwrap(), Some(normal(options)));
        let path = home.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(read(home.path()).is_err(), "byte {index}");
        }
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        assert!(read(home.path()).is_err());
    }

    #[test]
    fn segments_suit_what_is_kept() {
        let of = |segment_bytes, bytes_max| {
            normal(Options { segment_bytes, bytes_max, ..Options::default() }).segment_bytes
        };
        assert_eq!(of(0, 0), LOG_SEGMENT_BYTES_DEFAULT);
        assert_eq!(of(0, 1 << 40), LOG_SEGMENT_BYTES_DEFAULT);
        assert_eq!(of(0, 1), LOG_SEGMENT_BYTES_MIN);
        assert_eq!(of(0, 1 << 20), 1 << 17);
        assert_eq!(of(LOG_SEGMENT_BYTES_MIN + 1, 0), LOG_SEGMENT_BYTES_MIN + PAGE_BYTES);
        assert_eq!(of(u64::MAX, 0), LOG_SEGMENT_BYTES_MAX);
    }
}
