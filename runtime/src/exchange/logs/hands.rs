//! What the threads beside the serving one do for logs, as far as it may wait for the disk: one opens, closes and deletes, one
//! reads.
//!
//! Jobs of one thread are done in order, so a log is closed before it is opened again, and what is deleted is gone before
//! that. Not here: how jobs and results travel (`hand`).

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ipc::exchange::log::{Entry, Options, Record};
use ipc::header::LaneId;
use ipc::link::RequestId;

use super::follow::FollowerId;
use super::refuse::OpenFailure;
use super::{LogKey, kept};
use crate::exchange::log::{
    self, Committer, Log, OpenError, Positions, ReadError, Reader, Recovered, Retained, Surplus,
    directory_name,
};
use crate::limits::{LOG_OPEN_RETRY_INTERVAL, LOG_OPEN_TRIES_MAX, LOG_READ_TRIES_MAX, LOGS_MAX};

/// What may wait for the disk.
pub(super) enum DiskJob {
    /// Opens a log, or makes it where options are given.
    Open {
        key: LogKey,
        name: Arc<str>,
        /// That of all logs.
        directory: PathBuf,
        options: Option<Options>,
        committer: Committer,
    },
    /// Deletes segments that are no part of a log any more.
    Remove {
        key: LogKey,
        surplus: Surplus,
        asked: Option<(LaneId, RequestId)>,
    },
    /// Writes other options for a log.
    Keep {
        key: LogKey,
        name: Arc<str>,
        directory: PathBuf,
        options: Options,
        lane: LaneId,
    },
    Close(Box<Log>),
}

/// What came of it.
pub(super) enum DiskDone {
    Opened { key: LogKey, result: Result<Box<Opened>, OpenFailure> },
    Removed { key: LogKey, result: io::Result<Retained>, asked: Option<(LaneId, RequestId)> },
    Kept { key: LogKey, options: Options, result: io::Result<()>, lane: LaneId },
    Closed,
}

/// A log that was opened.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) recovered: Recovered,
    pub(super) options: Options,
    pub(super) is_new: bool,
}

/// Records that are wanted.
pub(super) struct ReadJob {
    pub(super) key: LogKey,
    pub(super) whom: Whom,
    pub(super) positions: Positions,
    /// One that stands at the place.
    pub(super) reader: Option<Reader>,
    pub(super) from: u64,
    pub(super) records_max: u32,
    pub(super) bytes_max: usize,
}

/// For whom records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Follower(FollowerId),
    Once(LaneId, RequestId),
}

/// Records that were read, as entries.
pub(super) struct ReadDone {
    pub(super) key: LogKey,
    pub(super) whom: Whom,
    pub(super) bytes: Vec<u8>,
    /// The position behind them.
    pub(super) next: u64,
    pub(super) reader: Option<Reader>,
    pub(super) result: Result<(), ReadError>,
}

/// The work of the thread that opens and deletes.
pub(super) fn work_on_disk(job: DiskJob) -> DiskDone {
    match job {
        DiskJob::Open { key, name, directory, options, committer } => {
            let result = open(&name, &directory, options, &committer);
            DiskDone::Opened { key, result: result.map(Box::new) }
        }
        DiskJob::Remove { key, surplus, asked } => {
            DiskDone::Removed { key, result: surplus.remove(), asked }
        }
        DiskJob::Keep { key, name, directory, options, lane } => {
            let result = kept::write(&directory.join(directory_name(&name)), &options);
            DiskDone::Kept { key, options, result, lane }
        }
        DiskJob::Close(log) => {
            drop(log);
            DiskDone::Closed
        }
    }
}

fn open(
    name: &str,
    directory: &Path,
    options: Option<Options>,
    committer: &Committer,
) -> Result<Opened, OpenFailure> {
    let path = directory.join(directory_name(name));
    let found = match kept::read(&path) {
        Ok(found) => found,
        // Whoever gives options replaces what cannot be read; nobody else knows what was meant.
        Err(error) if error.kind() == io::ErrorKind::InvalidData && options.is_some() => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(OpenFailure::Options);
        }
        Err(error) => return Err(error.into()),
    };
    let (options, is_new) = match (found, options) {
        (Some(found), _) => (found, false),
        (None, Some(wanted)) => {
            let wanted = kept::normal(wanted);
            make(directory, &path, &wanted)?;
            (wanted, true)
        }
        (None, None) => return Err(OpenFailure::NoSuchLog),
    };
    let (segment_bytes, retention) = (options.segment_bytes, kept::retention(&options));
    let how = log::Options { segment_bytes, retention };
    let mut tries = 0;
    loop {
        match Log::open(&path, name, how, committer, super::now_ns()) {
            // A reader or a sync of an earlier opening, or an exchange that is ending, lets go of it soon.
            Err(OpenError::Held) if tries < LOG_OPEN_TRIES_MAX => {
                tries += 1;
                thread::sleep(LOG_OPEN_RETRY_INTERVAL);
            }
            result => {
                let (log, recovered) = result?;
                return Ok(Opened { log, recovered, options, is_new });
            }
        }
    }
}

/// Makes the directory of a new log; its options make it one.
fn make(directory: &Path, path: &Path, options: &Options) -> Result<(), OpenFailure> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if !path.exists() && std::fs::read_dir(directory)?.count() >= LOGS_MAX {
        return Err(OpenFailure::TooMany);
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::File::open(directory)?.sync_all()?;
    Ok(kept::write(path, options)?)
}

/// The work of the thread that reads. What was retired before it was read is told with its positions.
pub(super) fn read(job: ReadJob) -> ReadDone {
    let ReadJob { key, whom, positions, mut reader, mut from, records_max, bytes_max } = job;
    let mut bytes = Vec::new();
    let mut result = Ok(());
    for _ in 0..LOG_READ_TRIES_MAX {
        let attempt = reader.take().map_or_else(|| positions.read(from), Ok).and_then(|mut at| {
            from = encode(&mut at, records_max, bytes_max, &mut bytes)?;
            Ok(at)
        });
        match attempt {
            Ok(at) => {
                reader = Some(at).filter(|at| at.position() == from);
                break;
            }
            Err(ReadError::Retired { asked, first }) => {
                Entry::Lost { first: asked, next: first }.append_to(&mut bytes);
                from = first;
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    ReadDone { key, whom, bytes, next: from, reader, result }
}

/// Puts what a reader gives behind `bytes`; the position behind it.
fn encode(
    reader: &mut Reader,
    records_max: u32,
    bytes_max: usize,
    bytes: &mut Vec<u8>,
) -> Result<u64, ReadError> {
    let mut next = reader.position();
    let batch = reader.read(bytes_max)?;
    for entry in batch.entries().take(records_max.max(1) as usize) {
        let entry = match entry {
            log::Entry::Gap(gap) => Entry::Damaged { first: gap.first, next: gap.next },
            log::Entry::Record(stored) => Entry::Record(Record {
                position: stored.position,
                time_ns: stored.record.time_ns,
                priority: stored.record.priority,
                sender: stored.record.sender_name,
                payload: stored.record.payload,
            }),
        };
        next = entry.next_position();
        entry.append_to(bytes);
    }
    Ok(next)
}
