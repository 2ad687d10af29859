//! The file that a download is written to, with its digests, up to the moment when it gets its name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use reqwest::header::HeaderValue;
use ring::digest::{Context, SHA256, SHA512};

use super::partial::Place;
use super::{Downloaded, Durability, Job};
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::io::limits::WRITE_CHUNK_BYTES;
use crate::io::secret::shown;
use crate::metadata::Hashes;

/// The file being written, and its digests so far.
pub(super) struct Sink {
    file: File,
    sha256: Option<Context>,
    sha512: Option<Context>,
    /// How much of it is there.
    pub(super) bytes: u64,
    /// What the server that sent the beginning called it, where that is unmistakable.
    pub(super) etag: Option<HeaderValue>,
    /// Whether it came in more than one part.
    pub(super) is_pieced: bool,
}

impl Sink {
    /// Goes on with what is in the place of a file.
    pub(super) fn open(job: &Job, place: &Place) -> std::io::Result<Self> {
        let (file, etag) = (place.file()?, place.tag());
        let mut sink = Self { file, sha256: None, sha512: None, bytes: 0, etag, is_pieced: false };
        sink.start_digests(&job.hashes);
        let mut buffer = vec![0; WRITE_CHUNK_BYTES];
        loop {
            let count = sink.file.read(&mut buffer)?;
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
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.is_pieced = false;
        self.start_digests(hashes);
        Ok(())
    }

    pub(super) fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        self.digest(chunk);
        self.file.write_all(chunk)?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    fn digest(&mut self, bytes: &[u8]) {
        for context in [&mut self.sha256, &mut self.sha512].into_iter().flatten() {
            context.update(bytes);
        }
    }
}

/// Verifies, syncs where wanted, and gives the file its name.
pub(super) fn finish(job: &Job, place: &Place, sink: Sink) -> Result<Downloaded> {
    let Sink { file, sha256, sha512, bytes, .. } = sink;
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
    if job.durability == Durability::Synced {
        file.sync_all().map_err(|error| Error::io("sync", &place.path, &error))?;
    }
    place
        .finish(&job.destination)
        .map_err(|error| Error::io("rename", &job.destination, &error))?;
    Ok(Downloaded { bytes, hashes: got })
}
