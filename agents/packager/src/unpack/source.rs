//! An artefact as the readers take it: in memory, or an open file read at positions. Not a path:
//! what was hashed and what is unpacked must be the same file even if somebody renames another one
//! over it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Where the bytes of an artefact are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// In a file that nobody else writes.
    File(&'a File),
    /// In such a file, whose size is known: for who may not ask.
    Sized(&'a File, u64),
}

impl Source<'_> {
    /// The size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Source::Bytes(bytes) => Ok(bytes.len() as u64),
            Source::File(file) => Ok(file.metadata()?.len()),
            Source::Sized(_, size) => Ok(*size),
        }
    }

    /// Reads some bytes from a position; 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Source::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let count = buffer.len().min(bytes.len() - start);
                buffer[..count].copy_from_slice(&bytes[start..start + count]);
                Ok(count)
            }
            Source::File(file) | Source::Sized(file, _) => file.read_at(buffer, offset),
        }
    }

    /// Fills `buffer` from a position, or fails with `UnexpectedEof`.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = self.read_at(buffer, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[count..];
            offset += count as u64;
        }
        Ok(())
    }
}

/// A part of a source, read in order.
pub struct Section<'a> {
    source: Source<'a>,
    position: u64,
    end: u64,
}

impl<'a> Section<'a> {
    /// The bytes from `start` up to, not including, `end`.
    pub fn new(source: Source<'a>, start: u64, end: u64) -> Self {
        Self { source, position: start, end }
    }

    /// The bytes that were not read yet.
    pub fn remaining(&self) -> u64 {
        self.end - self.position
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.remaining()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.source.read_at(&mut buffer[..count], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
