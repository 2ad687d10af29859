//! The pack that this process appends to.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::io::Errno;

use super::{Bounds, Files, Held, Identity, Lock, MAGIC, data_path, index_path, options};
use crate::io::cache::Key;
use crate::io::cache::record::{RECORD_BYTES, Record};
use crate::io::limits::PACKS_MAX;

/// What is appended to.
#[derive(Debug)]
pub(in crate::io::cache) struct Own {
    pub(super) number: u32,
    /// Of the index.
    pub(super) identity: Identity,
    index: Held,
    pub(super) index_bytes: u64,
    data: File,
    data_bytes: u64,
    /// Whether its files were made for this.
    pub(in crate::io::cache) is_new: bool,
}

impl Own {
    /// The first pack that nobody else appends to and that is not full. An error is told only where there is none.
    pub(in crate::io::cache) fn take(
        directory: &Path,
        bounds: Bounds,
        lock: Lock,
    ) -> Result<Option<Self>> {
        if !directory.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let length = |path: &Path| path.symlink_metadata().map_or(0, |status| status.len());
        let mut last = Ok(None);
        for number in 0..PACKS_MAX {
            let (index, data) = (index_path(directory, number), data_path(directory, number));
            // Not touched in vain, nor kept from others for a moment.
            if bounds.is_full(length(&index), length(&data)) {
                continue;
            }
            match Self::open(number, &index, &data, lock) {
                Ok(Some(own)) if !own.is_full(bounds) => return Ok(Some(own)),
                Ok(_) => {}
                // It may be somebody else's, or damaged: that one is not to be had, others may be.
                Err(error) => last = Err(error),
            }
        }
        last
    }

    /// Whether no more is to be appended.
    pub(in crate::io::cache) fn is_full(&self, bounds: Bounds) -> bool {
        bounds.is_full(self.index_bytes, self.data_bytes)
    }

    /// Whether it stands where others find it.
    pub(in crate::io::cache) fn stands(&self, directory: &Path) -> bool {
        Identity::at(&index_path(directory, self.number)) == Some(self.identity)
    }

    /// Whether these are its files.
    pub(in crate::io::cache) fn is(&self, files: &Files) -> bool {
        self.identity == files.identity
    }

    fn open(number: u32, index_path: &Path, data_path: &Path, lock: Lock) -> Result<Option<Self>> {
        let (index, is_made) = match options().write(true).open(index_path) {
            Ok(index) => (index, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (options().write(true).create_new(true).open(index_path)?, true)
            }
            Err(error) => return Err(error),
        };
        match lock(&index) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // This file system has no locks: only what nobody else can have opened to append to it is ours.
            Err(_) if is_made => {}
            Err(_) => return Ok(None),
        }
        let held = Held(index);
        let index = &held.0;
        let status = index.metadata()?;
        let identity = Identity::of(&status);
        // Whoever sweeps holds the lock while it removes the files, so from now on they stay.
        if Identity::at(index_path) != Some(identity) {
            return Ok(None);
        }
        let head = MAGIC.len() as u64;
        let is_new = status.len() < head;
        if is_new {
            index.set_len(0)?;
            index.write_all_at(MAGIC, 0)?;
        } else {
            let mut magic = [0; MAGIC.len()];
            index.read_exact_at(&mut magic, 0)?;
            if magic != *MAGIC {
                return Ok(None);
            }
        }
        let length = status.len().max(head);
        let index_bytes = length - (length - head) % RECORD_BYTES as u64;
        if index_bytes > head && Identity::at(data_path).is_none() {
            // A removal broke off. Who read the lines must not take others for them, so the next pack gets another index.
            std::fs::remove_file(index_path)?;
            return Ok(None);
        }
        // When an index was written last says how old the pack is, so it is touched only where it has to be.
        if index_bytes != length {
            // A line that was cut when its writer ended.
            index.set_len(index_bytes)?;
        }
        let data = options().write(true).create(true).truncate(false).open(data_path)?;
        if is_new {
            // What is left of a pack whose index somebody removed.
            data.set_len(0)?;
        }
        let data_bytes = data.metadata()?.len();
        Ok(Some(Self { number, identity, index: held, index_bytes, data, data_bytes, is_new }))
    }

    /// Appends an answer and the line about it. What cannot be written whole is taken off again, so that a full disk is not filled
    /// with what nobody finds.
    pub(in crate::io::cache) fn append(
        &mut self,
        key: Key,
        record: Record,
        parts: &mut [IoSlice<'_>],
    ) -> Result<()> {
        let record = Record { offset: self.data_bytes, ..record };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let written = write_all(&self.data, parts, self.data_bytes);
        if let Err(error) = written.and_then(|()| self.note(key, record)) {
            let _ = self.data.set_len(self.data_bytes);
            return Err(error);
        }
        self.data_bytes += length as u64;
        Ok(())
    }

    /// Appends a line.
    pub(in crate::io::cache) fn note(&mut self, key: Key, record: Record) -> Result<()> {
        if let Err(error) = self.index.0.write_all_at(&record.encode(key), self.index_bytes) {
            let _ = self.index.0.set_len(self.index_bytes);
            return Err(error);
        }
        self.index_bytes += RECORD_BYTES as u64;
        Ok(())
    }

    /// Nothing can be written to its index any more, as if the disk were full.
    #[cfg(test)]
    pub(in crate::io::cache) fn fill_disk(&mut self) {
        self.index = Held(File::options().write(true).open("/dev/full").expect("a full device"));
    }

    /// What a child of this process has of its index until it is another program.
    #[cfg(test)]
    pub(in crate::io::cache) fn inherited(&self) -> File {
        self.index.0.try_clone().expect("a descriptor")
    }
}

fn write_all(file: &File, mut parts: &mut [IoSlice<'_>], mut at: u64) -> Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match rustix::io::pwritev(file, parts, at) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
