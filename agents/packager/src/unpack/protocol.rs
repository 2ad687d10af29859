//! What the process that reads archives is asked and what it answers, as bytes. Pure, but for the stream of answers.
//!
//! Requests are packets of a Unix socket, each with the archive as its one descriptor. Answers are a stream of frames through
//! a pipe, in the order of the requests. Both ends are the same program, so there are no versions. All numbers are
//! little-endian; a text is a u16 with its length, and UTF-8.
//!
//! ```text
//! request     u64 number, u64 bytes of the archive, u8 kind, u8 contents, text folder, text path
//! ready       'S' u8 version of Landlock's interface; once, before the first request
//! unable      'X' text why; instead of it, and the end
//! begin       'B' u64 number of the request
//! file        'F' u8 flags (1: executable), u64 size, text path; where content is wanted pieces follow until they are the size:
//!             u32 length, bytes. A length of 0 says that the rest cannot be read, and a refusal follows
//! refused     'R' u8 class, text
//! done        'D' u8 number of warnings, texts
//! ```

use std::io::Read;

use super::archive::{Contents, Kind};
use super::{Entry, Refusal};
use crate::limits;

pub(super) const READY: u8 = b'S';
pub(super) const UNABLE: u8 = b'X';
pub(super) const BEGIN: u8 = b'B';
pub(super) const FILE: u8 = b'F';
pub(super) const REFUSED: u8 = b'R';
pub(super) const DONE: u8 = b'D';
pub(super) const FLAG_EXECUTABLE: u8 = 1;

/// A request as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) size: u64,
    kind: u8,
    contents: u8,
    folder: String,
    path: String,
}

/// The kind of a request that is none for archives: a test asks what the process can do.
#[cfg(feature = "attacks")]
const ATTEMPT: u8 = 255;

impl Request {
    pub(super) fn new(number: u64, size: u64, kind: Kind<'_>, contents: Contents<'_>) -> Self {
        let (kind, folder) = match kind {
            Kind::Npm => (0, ""),
            Kind::Crate { folder } => (1, folder),
            Kind::Wheel => (2, ""),
            Kind::Zip => (3, ""),
            Kind::TarGz { folder: None } => (4, ""),
            Kind::TarGz { folder: Some(folder) } => (5, folder),
            Kind::Tar => (6, ""),
        };
        let (contents, path) = match contents {
            Contents::All => (0, ""),
            Contents::Names => (1, ""),
            Contents::Only(path) => (2, path),
        };
        Self { number, size, kind, contents, folder: folder.to_owned(), path: path.to_owned() }
    }

    #[cfg(feature = "attacks")]
    pub(super) fn attempt(number: u64, what: &str) -> Self {
        let (folder, path) = (what.to_owned(), String::new());
        Self { number, size: 0, kind: ATTEMPT, contents: 0, folder, path }
    }

    #[cfg(feature = "attacks")]
    pub(super) fn as_attempt(&self) -> Option<&str> {
        (self.kind == ATTEMPT).then_some(&self.folder)
    }

    pub(super) fn kind(&self) -> Option<Kind<'_>> {
        Some(match self.kind {
            0 => Kind::Npm,
            1 => Kind::Crate { folder: &self.folder },
            2 => Kind::Wheel,
            3 => Kind::Zip,
            4 => Kind::TarGz { folder: None },
            5 => Kind::TarGz { folder: Some(&self.folder) },
            6 => Kind::Tar,
            _ => return None,
        })
    }

    pub(super) fn contents(&self) -> Option<Contents<'_>> {
        match self.contents {
            0 => Some(Contents::All),
            1 => Some(Contents::Names),
            2 => Some(Contents::Only(&self.path)),
            _ => None,
        }
    }

    /// `None` where a text is too long to be one of a path.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&[self.kind, self.contents]);
        for text in [&self.folder, &self.path] {
            if text.len() > limits::ARCHIVE_PATH_BYTES_MAX {
                return None;
            }
            push_text(&mut bytes, text);
        }
        Some(bytes)
    }

    /// `None` for what is no request.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(split(&mut bytes)?);
        let size = u64::from_le_bytes(split(&mut bytes)?);
        let [kind, contents] = split(&mut bytes)?;
        let mut text = || {
            let length = usize::from(u16::from_le_bytes(split(&mut bytes)?));
            let (text, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            String::from_utf8(text.to_owned()).ok()
        };
        let (folder, path) = (text()?, text()?);
        bytes.is_empty().then_some(Self { number, size, kind, contents, folder, path })
    }
}

fn split<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let cut = &text[..text.floor_char_boundary(limits::UNPACK_TEXT_BYTES_MAX)];
    bytes.extend_from_slice(&(cut.len() as u16).to_le_bytes());
    bytes.extend_from_slice(cut.as_bytes());
}

/// A class of refusals, for those who branch on it; its words come along as text.
pub(super) fn refusal(class: u8, text: String) -> Option<Refusal> {
    match class {
        0 => Some(Refusal::Told(text)),
        1 => Some(Refusal::Damaged(text)),
        2 => Some(Refusal::Read(text)),
        _ => None,
    }
}

/// Who asked has gone; there is nobody to tell.
#[derive(Debug)]
pub(super) struct Gone;

/// Why a file could not be sent.
#[derive(Debug)]
pub(super) enum Unsent {
    Gone,
    Refused(Refusal),
}

impl From<Gone> for Unsent {
    fn from(_: Gone) -> Self {
        Unsent::Gone
    }
}

impl From<Refusal> for Unsent {
    fn from(refusal: Refusal) -> Self {
        Unsent::Refused(refusal)
    }
}

/// The answering side.
pub(super) struct Writer<S> {
    send: S,
    buffer: Box<[u8]>,
    used: usize,
}

/// Bytes in front of a piece of content.
const PIECE_HEADER_BYTES: usize = 4;
/// Room for content below which the buffer is sent first: a piece should be worth its header.
const PIECE_BYTES_MIN: usize = 16 << 10;

impl<S: FnMut(&[u8]) -> Result<(), Gone>> Writer<S> {
    /// `send` takes all that it is given.
    pub(super) fn new(send: S) -> Self {
        let buffer = vec![0; limits::UNPACK_BUFFER_BYTES].into_boxed_slice();
        Self { send, buffer, used: 0 }
    }

    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let used = std::mem::take(&mut self.used);
        if used == 0 { Ok(()) } else { (self.send)(&self.buffer[..used]) }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.buffer.len() - self.used < bytes.len() {
            self.flush()?;
        }
        match self.buffer.get_mut(self.used..self.used + bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => return (self.send)(bytes),
        }
        self.used += bytes.len();
        Ok(())
    }

    pub(super) fn ready(&mut self, landlock: u8) -> Result<(), Gone> {
        self.push(&[READY, landlock])?;
        self.flush()
    }

    pub(super) fn unable(&mut self, why: &str) -> Result<(), Gone> {
        let mut frame = vec![UNABLE];
        push_text(&mut frame, why);
        self.push(&frame)?;
        self.flush()
    }

    pub(super) fn begin(&mut self, number: u64) -> Result<(), Gone> {
        self.push(&[BEGIN])?;
        self.push(&number.to_le_bytes())
    }

    /// Sends a file, with its content where it is wanted.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        content: Option<&mut dyn Read>,
    ) -> Result<(), Unsent> {
        let mut frame = vec![FILE, if entry.executable { FLAG_EXECUTABLE } else { 0 }];
        frame.extend_from_slice(&entry.size.to_le_bytes());
        push_text(&mut frame, &entry.path);
        self.push(&frame)?;
        let Some(content) = content else { return Ok(()) };
        loop {
            if self.buffer.len() - self.used < PIECE_HEADER_BYTES + PIECE_BYTES_MIN {
                self.flush()?;
            }
            let start = self.used + PIECE_HEADER_BYTES;
            let count = match content.read(&mut self.buffer[start..]) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => {
                    self.push(&0_u32.to_le_bytes())?;
                    return Err(Refusal::from_read(error).into());
                }
            };
            let header = (count as u32).to_le_bytes();
            self.buffer[self.used..start].copy_from_slice(&header);
            self.used = start + count;
        }
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) -> Result<(), Gone> {
        let (class, text) = match refusal {
            Refusal::Damaged(text) => (1, text.clone()),
            Refusal::Read(text) => (2, text.clone()),
            other => (0, other.to_string()),
        };
        let mut frame = vec![REFUSED, class];
        push_text(&mut frame, &text);
        self.push(&frame)?;
        self.flush()
    }

    pub(super) fn done(&mut self, warnings: &[String]) -> Result<(), Gone> {
        let shown = &warnings[..warnings.len().min(limits::UNPACK_WARNINGS_MAX)];
        self.push(&[DONE, shown.len() as u8])?;
        for warning in shown {
            let mut text = Vec::new();
            push_text(&mut text, warning);
            self.push(&text)?;
        }
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        for kind in [
            Kind::Npm,
            Kind::Crate { folder: "a-1" },
            Kind::Wheel,
            Kind::Zip,
            Kind::TarGz { folder: None },
            Kind::TarGz { folder: Some("a-1") },
            Kind::Tar,
        ] {
            for contents in [Contents::All, Contents::Names, Contents::Only("a/b")] {
                let sent = Request::new(7, 1 << 40, kind, contents);
                let bytes = sent.encode().expect("short");
                assert!(bytes.len() <= limits::UNPACK_REQUEST_BYTES_MAX);
                let received = Request::decode(&bytes).expect("whole");
                assert_eq!((received.number, received.size), (7, 1 << 40));
                assert_eq!(received.kind(), Some(kind));
                assert_eq!(received.contents(), Some(contents));
                for cut in 0..bytes.len() {
                    assert_eq!(Request::decode(&bytes[..cut]), None);
                }
                assert_eq!(Request::decode(&[&bytes[..], b"x"].concat()), None);
            }
        }
        let long = "x".repeat(limits::ARCHIVE_PATH_BYTES_MAX + 1);
        assert!(Request::new(1, 1, Kind::Npm, Contents::Only(&long)).encode().is_none());
    }
}
