//! Logs: records that are appended, kept on the disk, and read from any position, by as many as want to.
//!
//! [`Operation`] is what a client asks, [`Entry`] and the other structures what it is answered; the same code writes and reads
//! them on both sides. [`Logs`] is a client's link to the exchange with these as calls, [`Follower`] a link over which one log
//! streams. A record that was acknowledged as stored survives the death of every process, one that was acknowledged as synced
//! survives power loss. Positions count records from 0 and only grow, so whoever keeps the position of what it has seen goes on
//! where it was, after its own restart and after everybody else's.
//!
//! | tool | arguments | answers |
//! |---|---|---|
//! | `log.open` | log: word; flags (1: with options, 2: they replace others): u8; [`Options`] | u8: 1 made, 0 was there; [`Info`] |
//! | `log.append` | log: word; [`Durability`], flags (1: takes the will back), priority: u8; wait_ns: u64; records: u32 length, payload each | [`Appended`] |
//! | `log.read` | log: word; [`Start`]; records_max, bytes_max: u32 | [`Entry`] each, the first is `Begin` |
//! | `log.follow` | log: word; [`Start`]; flags (1: holds writers back): u8 | MORE: [`Entry`] each, the first is `Begin` |
//! | `log.sync` | log: word | synced: u64 |
//! | `log.trim` | log: word; below: u64 | [`Trimmed`] |
//! | `log.info` | log: word | [`Info`] |
//! | `log.will` | log: word; payload | nothing |

use std::time::Instant;

use thiserror::Error;

use crate::client::{Client, ClientError};
use crate::control::fields::{Reader, Writer};
use crate::control::{DecodeError, EncodeError};
use crate::header::PRIORITY_DEFAULT;
use crate::limits::SPARE_BYTES_MAX;
use crate::link::{CallError, Link};

mod follower;
mod structures;
#[cfg(test)]
mod tests;

use structures::encoded_length;

pub use follower::Follower;
pub use structures::{
    Append, Appended, Durability, Entries, Entry, Info, Options, Record, Records, Short, Start,
    Trimmed,
};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Makes a log, or finds one. Without options it must be there.
    Open {
        /// How it is kept.
        options: Option<Options>,
        /// Whether they take the place of those that it has; otherwise they must be the same.
        replaces: bool,
    },
    /// Appends records, one or many. Others' records may come before and behind, never between.
    Append(Append<'a>),
    /// Reads what is there.
    Read {
        /// From where.
        start: Start,
        /// How many records at most.
        records_max: u32,
        /// About how many bytes at most; one entry is given in any case.
        bytes_max: u32,
    },
    /// Wants everything from a position on, as it comes.
    Follow {
        /// From where.
        start: Start,
        /// Whether appends wait where this follower is further behind than the log's options allow.
        holds_back: bool,
    },
    /// Everything that is stored now is to survive power loss.
    Sync,
    /// Forgets what is below a position, by whole segments.
    Trim {
        /// The position.
        below: u64,
    },
    /// How the log is.
    Info,
    /// A record that is appended when this link ends: the last word of a writer that dies. Empty: none. One for each link.
    Will {
        /// The record.
        payload: &'a [u8],
    },
}

/// Why an operation has no result.
#[derive(Debug, Error)]
pub enum LogError {
    /// The exchange refused it: CBOR of its error.
    #[error("the exchange refused: {}", String::from_utf8_lossy(.0))]
    Refused(Vec<u8>),
    /// Not everything was appended.
    #[error("the record was not appended: {0}")]
    Short(Short),
    /// There was no answer. Whether an append was carried out is not known; a follower sees what is there.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The bus failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A name or a record is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer is none.
    #[error("the exchange answered nonsense: {0}")]
    Decode(#[from] DecodeError),
    /// The exchange ended the stream.
    #[error("the exchange ended the stream")]
    Over,
}

/// A client's link to the exchange.
#[derive(Debug)]
pub struct Logs {
    link: Link,
    /// Arguments of the last request, kept for their memory.
    arguments: Vec<u8>,
    /// Of the last append.
    beginning: Option<Beginning>,
}

/// What stands before the records of an append: the same for each one to a log.
#[derive(Debug)]
struct Beginning {
    log: String,
    durability: Durability,
    /// From the length of the tool's name on.
    bytes: Vec<u8>,
}

impl Beginning {
    fn new(log: &str, durability: Durability) -> Result<Self, EncodeError> {
        let (priority, takes_will_back, wait_ns) = (PRIORITY_DEFAULT, false, 0);
        let records = Records::from_payloads(&[]);
        let append = Append { durability, priority, takes_will_back, wait_ns, records };
        let append = Operation::Append(append);
        let mut out = Writer::new();
        out.word("tool", append.tool())?;
        append.write(log, &mut out)?;
        Ok(Self { log: log.to_owned(), durability, bytes: out.into_bytes() })
    }

    fn is_of(&self, log: &str, durability: Durability) -> bool {
        self.durability == durability && self.log == log
    }
}

impl Operation<'_> {
    /// The tool that carries it out.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::Open { .. } => "log.open",
            Self::Append(Append { .. }) => "log.append",
            Self::Read { .. } => "log.read",
            Self::Follow { .. } => "log.follow",
            Self::Sync => "log.sync",
            Self::Trim { .. } => "log.trim",
            Self::Info => "log.info",
            Self::Will { .. } => "log.will",
        }
    }

    /// Its arguments.
    pub fn encode(&self, log: &str) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        self.write(log, &mut out)?;
        Ok(out.into_bytes())
    }

    fn write(&self, log: &str, out: &mut Writer) -> Result<(), EncodeError> {
        out.word("log", log)?;
        match self {
            Self::Open { options, replaces } => {
                out.u8(u8::from(options.is_some()) | u8::from(*replaces) << 1);
                if let Some(options) = options {
                    options.write(out);
                }
            }
            Self::Append(append) => append.write(out)?,
            Self::Read { start, records_max, bytes_max } => {
                start.write(out);
                out.u32(*records_max);
                out.u32(*bytes_max);
            }
            Self::Follow { start, holds_back } => {
                start.write(out);
                out.u8(u8::from(*holds_back));
            }
            Self::Sync | Self::Info => {}
            Self::Trim { below } => out.u64(*below),
            Self::Will { payload } => out.rest(payload),
        }
        Ok(())
    }
}

impl<'a> Operation<'a> {
    /// The log's name and the operation of a request; nothing for a tool that is none of these. The bytes are foreign.
    pub fn decode(tool: &str, payload: &'a [u8]) -> Result<Option<(&'a str, Self)>, DecodeError> {
        if !tool.starts_with("log.") {
            return Ok(None);
        }
        let mut fields = Reader::new(payload);
        let fields = &mut fields;
        let log = fields.word_here("log")?;
        let operation = match tool {
            "log.append" => Self::Append(Append::read(fields)?),
            "log.open" => {
                let flags = fields.u8("flags")?;
                let options = (flags & 1 != 0).then(|| Options::read(fields)).transpose()?;
                Self::Open { options, replaces: flags & 2 != 0 }
            }
            "log.read" => Self::Read {
                start: Start::read(fields)?,
                records_max: fields.u32("records")?,
                bytes_max: fields.u32("bytes")?,
            },
            "log.follow" => Self::Follow {
                start: Start::read(fields)?,
                holds_back: fields.u8("flags")? & 1 != 0,
            },
            "log.sync" => Self::Sync,
            "log.trim" => Self::Trim { below: fields.u64("below")? },
            "log.info" => Self::Info,
            "log.will" => Self::Will { payload: fields.rest() },
            _ => return Ok(None),
        };
        Ok(Some((log, operation)))
    }
}

impl Logs {
    /// Opens a link to the exchange.
    pub fn open(client: &mut Client) -> Result<Self, ClientError> {
        let link = client.open(super::NAME)?;
        Ok(Self { link, arguments: Vec::new(), beginning: None })
    }

    /// The link, to wait for several at once.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    /// Makes a log, or finds the one that was made with the same options; true where it was not there.
    pub fn make(
        &mut self,
        log: &str,
        options: Options,
        deadline: Instant,
    ) -> Result<(bool, Info), LogError> {
        let open = Operation::Open { options: Some(options), replaces: false };
        let answer = self.call(log, &open, deadline)?;
        let mut fields = Reader::new(&answer);
        Ok((fields.u8("made")? != 0, Info::read(&mut fields)?))
    }

    /// Appends one record and gives its position; it is stored then.
    pub fn append(
        &mut self,
        log: &str,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<u64, LogError> {
        let appended = self.append_all(log, &[payload], Durability::Stored, deadline)?;
        appended.short.map_or(Ok(appended.first), |short| Err(LogError::Short(short)))
    }

    /// Appends one record and gives its position; it survives power loss then.
    pub fn append_synced(
        &mut self,
        log: &str,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<u64, LogError> {
        let appended = self.append_all(log, &[payload], Durability::Synced, deadline)?;
        appended.short.map_or(Ok(appended.first), |short| Err(LogError::Short(short)))
    }

    /// Appends records with priority 5, which stand one after the other. Where not all of them find room, those that did stay
    /// and the answer says how many they are.
    pub fn append_all(
        &mut self,
        log: &str,
        payloads: &[&[u8]],
        durability: Durability,
        deadline: Instant,
    ) -> Result<Appended, LogError> {
        let known = self.beginning.take().filter(|known| known.is_of(log, durability));
        let beginning = known.map_or_else(|| Beginning::new(log, durability), Ok)?;
        let records = Records::from_payloads(payloads);
        let request = match payloads {
            // One record is sent from where it lies.
            [payload] => {
                let length = encoded_length(payload)?;
                let parts = [&beginning.bytes[..], &length, payload];
                self.link.request_parts(&parts, deadline)
            }
            _ => {
                let mut out = Writer::over(std::mem::take(&mut self.arguments));
                records.write(&mut out)?;
                self.arguments = out.into_bytes();
                self.link.request_parts(&[&beginning.bytes, &self.arguments], deadline)
            }
        };
        self.beginning = Some(beginning);
        self.keep_little();
        let read = |bytes: &[u8]| Ok(Appended::decode(bytes)?);
        super::answered(&mut self.link, request?, deadline, read, LogError::Refused)
    }

    /// One long record is no reason to keep as much memory for ever.
    fn keep_little(&mut self) {
        if self.arguments.capacity() > SPARE_BYTES_MAX {
            self.arguments = Vec::new();
        }
    }

    /// Reads what is there from a position on: about so many bytes, at least one entry where there is one.
    /// [`Entries::next_position`] is where to go on.
    pub fn read(
        &mut self,
        log: &str,
        start: Start,
        bytes_max: u32,
        deadline: Instant,
    ) -> Result<Entries, LogError> {
        let read = Operation::Read { start, records_max: u32::MAX, bytes_max };
        Ok(Entries::decode(self.call(log, &read, deadline)?)?)
    }

    /// Returns when everything that was stored survives power loss; up to which position.
    pub fn sync(&mut self, log: &str, deadline: Instant) -> Result<u64, LogError> {
        Ok(Reader::new(&self.call(log, &Operation::Sync, deadline)?).u64("synced")?)
    }

    /// Forgets what is below a position, by whole segments; what follows may still have some of it.
    pub fn trim(&mut self, log: &str, below: u64, deadline: Instant) -> Result<Trimmed, LogError> {
        Ok(Trimmed::decode(&self.call(log, &Operation::Trim { below }, deadline)?)?)
    }

    /// How a log is.
    pub fn info(&mut self, log: &str, deadline: Instant) -> Result<Info, LogError> {
        Ok(Info::read(&mut Reader::new(&self.call(log, &Operation::Info, deadline)?))?)
    }

    /// Any operation with one answer; its bytes.
    pub fn call(
        &mut self,
        log: &str,
        operation: &Operation<'_>,
        deadline: Instant,
    ) -> Result<Vec<u8>, LogError> {
        self.ask(log, operation, deadline, |bytes| Ok(bytes.to_vec()))
    }

    /// Any operation with one answer; what `read` makes of it.
    fn ask<T>(
        &mut self,
        log: &str,
        operation: &Operation<'_>,
        deadline: Instant,
        read: impl FnOnce(&[u8]) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut out = Writer::over(std::mem::take(&mut self.arguments));
        operation.write(log, &mut out)?;
        self.arguments = out.into_bytes();
        let asked = (operation.tool(), &self.arguments[..]);
        let answer = super::call(&mut self.link, asked, deadline, read, LogError::Refused);
        self.keep_little();
        answer
    }
}
