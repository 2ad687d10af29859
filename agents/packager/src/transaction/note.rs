//! The note of an intent that nobody waits for: an attribute of the journal's file, made before the first name changes.
//!
//! The contents of a file may come to the device after names that were changed later. An attribute is kept with names: a file system
//! that has one log of its changes (`order.rs`) has attributes in it, too. So whoever finds a changed name after a loss of power finds
//! the note, and knows where the old objects are, whatever has become of the journal's records. It goes with the journal.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::disk::Disk;
use super::journal::{self, Begin, Intent, Unfinished};
use super::limits::NOTE_BYTES_MAX;
use crate::error::{Error, Kind, Result};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;

const NAME: &str = "user.bolide.intent";

/// All that is needed to take a transaction back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Without what only people want to know.
    pub(super) begin: Begin,
    pub(super) intent: Intent,
    /// Why it is taken back after its commit record, where the journal had no room for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back: Option<String>,
}

impl Note {
    pub(super) fn of(begin: &Begin, intent: &Intent) -> Self {
        let begin = Begin { summary: serde_json::Value::Null, ..begin.clone() };
        Self { begin, intent: intent.clone(), back: None }
    }

    /// Writes it; false where there is no room for it, or the file system keeps no such attributes. Then the intent has to be waited for.
    pub(super) fn write(&self, disk: &Disk, journal: &File) -> io::Result<bool> {
        let packed = pack(&serde_json::to_vec(self)?)?;
        if packed.len() > NOTE_BYTES_MAX {
            return Ok(false);
        }
        let set = || Ok(rustix::fs::fsetxattr(journal, NAME, &packed, XattrFlags::empty())?);
        Ok(disk.perform("note", set).is_ok())
    }

    /// Reads that of a journal, where it has one.
    pub(super) fn read(journal: &Path) -> Result<Option<Self>> {
        let failed = |errno: Errno| Error::io("read the note of", journal, &errno.into());
        let mut packed = vec![0; NOTE_BYTES_MAX];
        let length = match rustix::fs::lgetxattr(journal, NAME, packed.as_mut_slice()) {
            Ok(length) => length,
            // None, no room for one, no file.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let mut text = Vec::new();
        let all = ZlibDecoder::new(packed.get(..length).unwrap_or_default());
        // As long as any record may be, and the few words around it.
        let read = all.take(2 * JOURNAL_RECORD_BYTES_MAX as u64).read_to_end(&mut text);
        let note = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
        note.map(Some).ok_or_else(|| {
            let message = format!("the note of the journal `{}` is damaged", journal.display());
            Error::new(Kind::Failed, "journal-damaged", message).hint(
                "its project may be between two states; compare it with your version control, then move the journal away",
            )
        })
    }
}

/// What stands around a text in a stream of zlib that has it as it is, in one block.
const STORED_BYTES: usize = 11;

/// A stream of zlib. What is short stands in it as it is: to make ready for a compression takes longer than all else of a note.
fn pack(text: &[u8]) -> io::Result<Vec<u8>> {
    if let Ok(length) = u16::try_from(text.len())
        && text.len() + STORED_BYTES <= NOTE_BYTES_MAX
    {
        let mut packed = Vec::with_capacity(text.len() + STORED_BYTES);
        // No dictionary, a window of 32 KiB; the last block, which is not compressed; its length, and that inverted.
        packed.extend_from_slice(&[0x78, 0x01, 0x01]);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&(!length).to_le_bytes());
        packed.extend_from_slice(text);
        packed.extend_from_slice(&adler32(text).to_be_bytes());
        return Ok(packed);
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text)?;
    packed.finish()
}

/// The checksum of zlib.
fn adler32(text: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let sums = text.iter().fold((1_u32, 0_u32), |(sum, sums), byte| {
        let sum = (sum + u32::from(*byte)) % MODULUS;
        (sum, (sums + sum) % MODULUS)
    });
    sums.1 << 16 | sums.0
}

/// Writes into the note of a journal that its transaction is taken back, as short as it has to be: the note gets no new place.
pub(super) fn refuse(
    disk: &Disk,
    directory: &Directory,
    which: &Unfinished,
    why: &str,
) -> Result<()> {
    let Some(path) = journal::lying(directory, which)? else { return Ok(()) };
    let failed = |error: io::Error| Error::io("write the note of", &path, &error);
    let Some(note) = Note::read(&path)? else { return Ok(()) };
    let file = File::open(&path).map_err(failed)?;
    for why in [why, "the disk did not take it"] {
        let note = Note { back: Some(why.to_owned()), ..note.clone() };
        if note.write(disk, &file).map_err(failed)? {
            return Ok(());
        }
    }
    Err(failed(io::ErrorKind::StorageFull.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_a_stream_of_zlib_whether_it_is_short_or_long() {
        for length in [0, 1, 255, 256, NOTE_BYTES_MAX - STORED_BYTES, NOTE_BYTES_MAX, 100_000] {
            let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8 | 0x80).collect();
            let packed = pack(&text).unwrap();
            let mut read = Vec::new();
            // Its checksum is compared at the end.
            ZlibDecoder::new(packed.as_slice()).read_to_end(&mut read).unwrap();
            assert!(read == text, "{length}");
            let is_stored = length + STORED_BYTES <= NOTE_BYTES_MAX;
            assert_eq!(packed.len() == length + STORED_BYTES, is_stored, "{length}");
        }
    }

    #[test]
    fn a_note_that_was_damaged_is_not_read_as_another_one() {
        let mut packed = pack(b"{\"begin\":1}").unwrap();
        packed[12] ^= 1;
        assert!(ZlibDecoder::new(packed.as_slice()).read_to_end(&mut Vec::new()).is_err());
    }
}
