//! The file that a download is written to, or the memory that it is gathered in, with its digests, up to the moment when it gets its
//! name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use reqwest::header::HeaderValue;
use ring::digest::{Context, SHA256, SHA512};

use super::memory::{Held, Memory};
use super::partial::Place;
use super::{Downloaded, Durability, Job, Spot};
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::io::limits::{DOWNLOAD_IN_MEMORY_BYTES_MAX, WRITE_CHUNK_BYTES};
use crate::io::secret::shown;
use crate::metadata::Hashes;

/// The file being written, and its digests so far.
pub(super) struct Sink {
    storage: Storage,
    sha256: Option<Context>,
    sha512: Option<Context>,
    /// How much of it is there.
    pub(super) bytes: u64,
    /// What the server that sent the beginning called it, where that is unmistakable.
    pub(super) etag: Option<HeaderValue>,
    /// Whether it came in more than one part.
    pub(super) is_pieced: bool,
}

/// Where the bytes go.
enum Storage {
    /// Nothing has come, and nobody has said how much will.
    Nowhere,
    Memory(Memory),
    File(File),
}

impl Sink {
    /// For a file that may go into memory.
    pub(super) fn nowhere(job: &Job) -> Self {
        Self::of(Storage::Nowhere, None, &job.hashes)
    }

    fn of(storage: Storage, etag: Option<HeaderValue>, hashes: &Hashes) -> Self {
        let mut sink =
            Self { storage, sha256: None, sha512: None, bytes: 0, etag, is_pieced: false };
        sink.start_digests(hashes);
        sink
    }

    /// Goes on with what is in the place of a file.
    pub(super) fn open(job: &Job, place: &Place) -> std::io::Result<Self> {
        let (mut file, etag) = (place.file()?, place.tag());
        let own = file.try_clone()?;
        let mut sink = Self::of(Storage::File(own), etag, &job.hashes);
        let mut buffer = vec![0; WRITE_CHUNK_BYTES];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(sink);
            }
            sink.bytes += count as u64;
            if sink.bytes > job.bytes_max {
                sink.restart(&job.hashes)?;
                return Ok(sink);
            }
            sink.digest(&buffer[..count]);
        }
    }

    /// Whether everything is there already: whoever fetched it died before it got its name.
    pub(super) fn is_complete(&self, hashes: &Hashes) -> bool {
        let is = |context: &Option<Context>, expected: &Option<String>| match (context, expected) {
            (Some(context), Some(expected)) => {
                hex(context.clone().finish().as_ref()) == expected.to_ascii_lowercase()
            }
            _ => true,
        };
        self.bytes > 0 && is(&self.sha256, &hashes.sha256) && is(&self.sha512, &hashes.sha512)
    }

    fn start_digests(&mut self, hashes: &Hashes) {
        self.sha256 = hashes.sha256.as_ref().map(|_| Context::new(&SHA256));
        self.sha512 = hashes.sha512.as_ref().map(|_| Context::new(&SHA512));
    }

    pub(super) fn restart(&mut self, hashes: &Hashes) -> std::io::Result<()> {
        match &mut self.storage {
            Storage::Nowhere => {}
            Storage::Memory(memory) => memory.bytes.clear(),
            Storage::File(file) => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
            }
        }
        self.bytes = 0;
        self.is_pieced = false;
        self.start_digests(hashes);
        Ok(())
    }

    /// Whether it is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.storage, Storage::Memory(_))
    }

    /// Whether a file of this size, where it is known, can be put where this goes; room in memory is taken for it. Otherwise it has to
    /// [move](Self::move_to_disk).
    pub(super) fn has_room(&mut self, job: &Job, whole: Option<u64>) -> bool {
        let whole = whole.filter(|bytes| *bytes <= DOWNLOAD_IN_MEMORY_BYTES_MAX);
        match (&self.storage, whole) {
            (Storage::File(_), _) => true,
            (Storage::Memory(memory), Some(whole)) => whole <= memory.room.bytes,
            (Storage::Nowhere, Some(whole)) => {
                let Some(room) = job.budget.take(whole) else { return false };
                self.storage = Storage::Memory(Memory { bytes: Vec::new(), room });
                true
            }
            (_, None) => false,
        }
    }

    /// Goes on on the disk, behind what is there. False where somebody else has left more of it there meanwhile, which is to be gone on with.
    pub(super) fn move_to_disk(&mut self, job: &Job, spot: &Spot) -> std::io::Result<bool> {
        let mut file = spot.open(job)?.file()?;
        if file.metadata()?.len() > self.bytes {
            return Ok(false);
        }
        // What is there is not what comes next.
        spot.empty()?;
        if let Storage::Memory(memory) = &self.storage {
            file.write_all(&memory.bytes)?;
        }
        self.storage = Storage::File(file);
        Ok(true)
    }

    /// Takes what has come; gives the emptied buffer back.
    pub(super) fn write(&mut self, mut chunk: Vec<u8>) -> std::io::Result<Vec<u8>> {
        self.digest(&chunk);
        self.bytes += chunk.len() as u64;
        match &mut self.storage {
            Storage::File(file) => file.write_all(&chunk)?,
            Storage::Memory(memory) if self.bytes <= memory.room.bytes => {
                // It takes no more than what was reserved.
                let room = usize::try_from(memory.room.bytes).unwrap_or(usize::MAX);
                if memory.bytes.is_empty() {
                    memory.bytes = std::mem::take(&mut chunk);
                    memory.bytes.shrink_to(room);
                } else {
                    memory.bytes.reserve_exact(room.saturating_sub(memory.bytes.len()));
                    memory.bytes.extend_from_slice(&chunk);
                }
            }
            // Who announced less is not heard to the end, so this is never reached.
            Storage::Memory(_) | Storage::Nowhere => {
                return Err(std::io::Error::other("more came than was announced"));
            }
        }
        chunk.clear();
        Ok(chunk)
    }

    fn digest(&mut self, bytes: &[u8]) {
        for context in [&mut self.sha256, &mut self.sha512].into_iter().flatten() {
            context.update(bytes);
        }
    }
}

/// Verifies, syncs where wanted, and gives the file its name, or lays it down in memory.
pub(super) fn finish(job: &Job, spot: &Spot, sink: Sink) -> Result<Downloaded> {
    let Sink { storage, sha256, sha512, bytes, .. } = sink;
    let digest = |context: Option<Context>| context.map(|context| hex(context.finish().as_ref()));
    let got = Hashes { sha256: digest(sha256), sha512: digest(sha512) };
    let pairs =
        [(&job.hashes.sha512, &got.sha512, "sha512"), (&job.hashes.sha256, &got.sha256, "sha256")];
    for (expected, got, algorithm) in pairs {
        if let Some(expected) = expected
            && got.as_deref() != Some(expected.to_ascii_lowercase().as_str())
        {
            let got = got.as_deref().unwrap_or("nothing");
            let message = format!(
                "`{}` does not match its hash: expected {algorithm}:{expected}, got {algorithm}:{got}",
                shown(&job.url)
            );
            return Err(Error::new(Kind::Verification, "hash-mismatch", message).hint(
                "the file was changed after it was published, or on its way; nothing was installed. Try \
                 another mirror, and tell the registry if it stays so",
            ));
        }
    }
    let failed = |what, error| Error::io(what, &job.destination, &error);
    match (storage, &job.slot) {
        (Storage::Memory(memory), Some(slot)) => slot.put(Held::new(memory)),
        (Storage::File(file), _) => {
            if job.durability == Durability::Synced {
                file.sync_all().map_err(|error| failed("sync", error))?;
            }
            spot.finish(job).map_err(|error| failed("rename", error))?;
        }
        _ => return Err(super::lost()),
    }
    Ok(Downloaded { bytes, hashes: got })
}

#[cfg(test)]
mod tests {
    use super::super::memory::Budget;
    use super::*;

    #[test]
    fn what_comes_in_parts_takes_no_more_memory_than_was_reserved() {
        for first_capacity in [60, 300] {
            let room = Budget::new(100).take(100).expect("room");
            let memory = Storage::Memory(Memory { bytes: Vec::new(), room });
            let mut sink = Sink::of(memory, None, &Hashes::default());
            for (length, capacity) in [(60, first_capacity), (30, 30), (10, 10)] {
                let mut chunk = Vec::with_capacity(capacity);
                chunk.resize(length, 7);
                sink.write(chunk).expect("room");
                let Storage::Memory(memory) = &sink.storage else { panic!("it is in memory") };
                assert!(memory.bytes.capacity() <= 100, "{}", memory.bytes.capacity());
            }
            assert!(sink.write(vec![7]).is_err(), "more than was announced");
        }
    }
}
