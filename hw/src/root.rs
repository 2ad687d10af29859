//! The root under which `/sys` and `/proc` are read, so that a recorded or generated tree can be the machine.
//!
//! One file is one `read(2)`: sysfs answers `EAGAIN` for ever to whoever loops. An error keeps its cause and never
//! becomes a value. While recording, everything that was read is kept, byte for byte, and also what refused to be
//! read, because how a sensor fails is often the point of a recording. Of files that also hold what is nobody's matter
//! only the part that is used is kept.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::limits::{DIRECTORY_ENTRIES_MAX, FILE_BYTES_MAX, RECORDED_FILES_MAX, REFUSED_BYTES_MAX};

/// The file at the top of a recorded tree that says which files were there and refused to be read: one line each, the
/// path, a space, and the cause as [`ReadError::name`] has it.
pub const REFUSED: &str = "bolide-refused";

/// The place that stands for `/`.
#[derive(Clone, Debug)]
pub struct Root {
    prefix: PathBuf,
    recorded: Option<Arc<Mutex<Recorded>>>,
}

/// What was read while recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Path under the root and content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Path of what is there and could not be read, and the cause.
    pub refused: BTreeMap<String, ReadError>,
    /// Files that were too many to keep.
    pub left_out_count: usize,
}

/// Why a file gave no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum ReadError {
    /// There is no such file or device.
    #[error("there is no such file")]
    Missing,
    /// It is not for this process.
    #[error("permission denied")]
    Denied,
    /// `EAGAIN`: the driver has nothing now.
    #[error("not available now")]
    Again,
    /// `ENODATA`: the sensor has nothing.
    #[error("no data available")]
    NoData,
    /// `EIO`.
    #[error("input/output error")]
    Io,
    /// `EINVAL`.
    #[error("invalid argument")]
    Invalid,
    /// A directory.
    #[error("not a file")]
    NotAFile,
    /// Nothing but white space, as the files of a CPU that is offline.
    #[error("empty")]
    Empty,
    /// Longer than [`FILE_BYTES_MAX`].
    #[error("too long")]
    TooLong,
    /// Not UTF-8.
    #[error("not text")]
    NotText,
    /// Any other error.
    #[error("cannot be read")]
    Other,
}

impl ReadError {
    /// All causes.
    pub const ALL: [ReadError; 11] = [
        ReadError::Missing,
        ReadError::Denied,
        ReadError::Again,
        ReadError::NoData,
        ReadError::Io,
        ReadError::Invalid,
        ReadError::NotAFile,
        ReadError::Empty,
        ReadError::TooLong,
        ReadError::NotText,
        ReadError::Other,
    ];

    /// The name in recorded trees and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ReadError::Missing => "missing",
            ReadError::Denied => "denied",
            ReadError::Again => "again",
            ReadError::NoData => "no-data",
            ReadError::Io => "io",
            ReadError::Invalid => "invalid",
            ReadError::NotAFile => "not-a-file",
            ReadError::Empty => "empty",
            ReadError::TooLong => "too-long",
            ReadError::NotText => "not-text",
            ReadError::Other => "other",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.name() == name)
    }
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR => ReadError::Missing,
            Errno::ACCESS | Errno::PERM => ReadError::Denied,
            Errno::AGAIN => ReadError::Again,
            Errno::NODATA => ReadError::NoData,
            Errno::IO => ReadError::Io,
            Errno::INVAL => ReadError::Invalid,
            Errno::ISDIR => ReadError::NotAFile,
            _ => ReadError::Other,
        }
    }
}

impl Root {
    /// This machine.
    pub fn machine() -> Self {
        Self { prefix: PathBuf::from("/"), recorded: None }
    }

    /// A tree in the place of `/`; the affinity of the running process then does not count. Links in the tree stay
    /// in the tree.
    pub fn at(prefix: impl Into<PathBuf>) -> Self {
        Self { prefix: prefix.into(), recorded: None }
    }

    /// The same place; from now on this value and its clones keep what they read.
    pub fn recording(self) -> Self {
        Self { recorded: Some(Arc::default()), ..self }
    }

    /// The same place; what is read through this value is not kept.
    pub(crate) fn without_recording(&self) -> Self {
        Self { prefix: self.prefix.clone(), recorded: None }
    }

    /// What was read since [`Root::recording`]; nothing where that was not called.
    pub fn recorded(&self) -> Recorded {
        let recorded = self.recorded.as_ref();
        recorded
            .map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    /// Whether this is the running machine.
    pub fn is_machine(&self) -> bool {
        self.prefix == Path::new("/")
    }

    /// The place itself, for those who hand it to another program.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The text of one file without the white space around it; `None` where [`Root::try_read`] has an error.
    pub fn read(&self, path: &str) -> Option<String> {
        self.try_read(path).ok()
    }

    /// The text of one file without the white space around it, by one `read(2)`. What is never there to be read (a
    /// pipe, a directory) does not stop the caller.
    pub fn try_read(&self, path: &str) -> Result<String, ReadError> {
        let path = path.trim_start_matches('/');
        let bytes = self.bytes(path);
        self.record(path, &bytes);
        let bytes = bytes?;
        if bytes.len() >= FILE_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| ReadError::NotText)?.trim();
        if text.is_empty() { Err(ReadError::Empty) } else { Ok(text.to_owned()) }
    }

    /// What `keep` leaves of a file's text, and all that is recorded of it. `keep` is given its own answer when the
    /// recording is read, and then leaves all of it.
    pub fn read_part(&self, path: &str, keep: impl FnOnce(&str) -> String) -> Option<String> {
        let path = path.trim_start_matches('/');
        let text = self.without_recording().try_read(path);
        let part = text.map(|text| keep(&text));
        self.record(path, &part.clone().map(|part| format!("{part}\n").into_bytes()));
        part.ok().filter(|part| !part.is_empty())
    }

    /// Puts what was found out in another way into the recording, as a file.
    pub(crate) fn note(&self, path: &str, text: &str) {
        self.record(path, &Ok(text.as_bytes().to_vec()));
    }

    /// A whole decimal number from one file; `None` for anything else.
    pub fn read_number(&self, path: &str) -> Option<u64> {
        let text = self.read(path)?;
        text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// The names in a directory, in the order of people (`zone2` before `zone10`); empty where it cannot be read.
    pub fn list(&self, path: &str) -> Vec<String> {
        let path = path.trim_start_matches('/');
        let mut names: Vec<String> = self.open(path).ok().map_or_else(Vec::new, |directory| {
            let entries = Dir::read_from(directory).into_iter().flatten();
            let names = entries
                .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
            names.filter(|name| name != "." && name != "..").take(DIRECTORY_ENTRIES_MAX).collect()
        });
        for refused in self.refused().into_keys() {
            let below = refused.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
            names.extend(below.and_then(|rest| rest.split('/').next()).map(str::to_owned));
        }
        names.sort_by(|a, b| key(a).cmp(&key(b)));
        names.dedup();
        names.truncate(DIRECTORY_ENTRIES_MAX);
        names
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        let file = match self.open(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let refused = self.refused().remove(path);
                return Err(refused.unwrap_or(ReadError::Missing));
            }
            other => other?,
        };
        let mut buffer = vec![0; FILE_BYTES_MAX];
        let size = rustix::io::read(&file, &mut buffer)?;
        buffer.truncate(size);
        Ok(buffer)
    }

    /// Never waits: a pipe in a tree that somebody else made opens at once.
    fn open(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        if self.is_machine() {
            return openat(CWD, self.prefix.join(path), flags, Mode::empty());
        }
        let top = openat(CWD, &self.prefix, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&top, if path.is_empty() { "." } else { path }, flags, Mode::empty(), inside)
    }

    /// What a recorded tree says about files that refused; read anew each time, so that a tree may change.
    fn refused(&self) -> BTreeMap<String, ReadError> {
        if self.is_machine() {
            return BTreeMap::new();
        }
        // By the same way in as everything else: the tree may be a stranger's.
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        if let Ok(file) = self.open(REFUSED) {
            while bytes.len() < REFUSED_BYTES_MAX
                && let Ok(size @ 1..) = rustix::io::read(&file, &mut buffer)
            {
                bytes.extend_from_slice(&buffer[..size]);
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = |line: &str| {
            let (path, name) = line.rsplit_once(' ')?;
            Some((path.to_owned(), ReadError::from_name(name)?))
        };
        text.lines().filter_map(line).collect()
    }

    fn record(&self, path: &str, bytes: &Result<Vec<u8>, ReadError>) {
        let Some(recorded) = &self.recorded else { return };
        let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.files.len() + recorded.refused.len() >= RECORDED_FILES_MAX {
            recorded.left_out_count += 1;
            return;
        }
        match bytes {
            Ok(bytes) => {
                recorded.files.insert(path.to_owned(), bytes.clone());
            }
            Err(ReadError::Missing) => {}
            Err(error) => {
                recorded.refused.insert(path.to_owned(), *error);
            }
        }
    }
}

impl Recorded {
    /// The content of [`REFUSED`]; `None` where nothing refused.
    pub fn refused_text(&self) -> Option<String> {
        let line = |(path, error): (&String, &ReadError)| format!("{path} {}\n", error.name());
        let text: String = self.refused.iter().map(line).collect();
        (!text.is_empty()).then_some(text)
    }
}

/// The name with its last number as a number.
fn key(name: &str) -> (&str, u64, &str) {
    let stem = name.trim_end_matches(|character: char| character.is_ascii_digit());
    (stem, name[stem.len()..].parse().unwrap_or(0), name)
}

#[cfg(test)]
mod tests;
