//! The file that a download is written to, with its digests, up to the moment when it gets its name.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;

use ring::digest::{Context, SHA256, SHA512};

use super::{Downloaded, Durability, Job};
use crate::error::{Error, Kind, Result};
use crate::io::cache::hex;
use crate::io::secret::shown;
use crate::metadata::Hashes;

/// The file being written, and its digests so far.
pub(super) struct Sink {
    file: File,
    sha256: Option<Context>,
    sha512: Option<Context>,
    /// How much of it is there.
    pub(super) bytes: u64,
}

impl Sink {
    pub(super) fn create(job: &Job) -> std::io::Result<Self> {
        // A part left by a crash; ours alone, as the directory is.
        let _ = std::fs::remove_file(&job.part);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&job.part)?;
        let mut sink = Self { file, sha256: None, sha512: None, bytes: 0 };
        sink.start_digests(&job.hashes);
        Ok(sink)
    }

    fn start_digests(&mut self, hashes: &Hashes) {
        self.sha256 = hashes.sha256.as_ref().map(|_| Context::new(&SHA256));
        self.sha512 = hashes.sha512.as_ref().map(|_| Context::new(&SHA512));
    }

    pub(super) fn restart(&mut self, hashes: &Hashes) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.start_digests(hashes);
        Ok(())
    }

    pub(super) fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        for context in [&mut self.sha256, &mut self.sha512].into_iter().flatten() {
            context.update(chunk);
        }
        self.file.write_all(chunk)?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }
}

/// Verifies, syncs where wanted, and gives the file its name.
pub(super) fn finish(job: &Job, sink: Sink) -> Result<Downloaded> {
    let Sink { file, sha256, sha512, bytes } = sink;
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
        file.sync_all().map_err(|error| Error::io("sync", &job.part, &error))?;
    }
    std::fs::rename(&job.part, &job.destination)
        .map_err(|error| Error::io("rename", &job.destination, &error))?;
    Ok(Downloaded { bytes, hashes: got })
}
