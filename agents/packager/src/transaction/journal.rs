//! The journal: what a transaction is about to do to a project, told before it does it.
//!
//! One append-only file per unfinished transaction, in the state directory, named after the transaction and the
//! project's key, and `first` where there was no `.bolide` before. Who finds one under the project's lock has found a crash, or what
//! an answer did not wait for.
//!
//! # Format (little-endian)
//! `BOLIDEJ1`, records. A record: u32 length of the payload, u32 number of the record from 0, payload (JSON),
//! first 16 bytes of the SHA-256 of all that. The first record that is short or does not check ends the journal:
//! that is a write which a crash tore. The file comes into being under another name and is renamed when its first record is
//! written. So only a loss of power leaves one without a first record, and only before the intent was on the
//! device. Where that waits for the whole file, nothing was done then ([`Found::Torn`]); where nobody waits for it, the file has a note
//! with the same intent (`note.rs`). Such a one is empty, or shorter than its first record says, or that and zeroes. Any other
//! one without a first record and without a note was damaged, and is left for people to look at.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::database::Hold;
use super::directory::{Directory, Identity, RelativePath};
use super::disk::Disk;
use super::note::Note;
use super::project::{LOCKED, key_of};
use super::start::Start;
use super::tree;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{
    JOURNAL_BEGINNINGS_MAX, JOURNAL_BYTES_MAX, JOURNAL_RECORD_BYTES_MAX, JOURNALS_MAX,
};
use crate::system::Change;

const MAGIC: &[u8; 8] = b"BOLIDEJ1";
const SUFFIX: &str = ".journal";
const SUFFIX_NEW: &str = ".journal-new";
/// Follows the key where the transaction made `.bolide`.
const FIRST: &str = ".first";

/// Who does what to which project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begin {
    /// The transaction.
    pub(super) id: String,
    /// The project's path then.
    pub(super) project: String,
    /// The project.
    pub(super) identity: Identity,
    /// Whether `.bolide` was there before.
    pub(super) had_workshop: bool,
    /// `add`, `remove`, `install`, `rollback`.
    pub(super) operation: String,
    /// The plan, where there is one.
    pub(super) digest: Option<String>,
    /// On whose behalf.
    pub(super) actor: String,
    /// What people want to know of it.
    pub(super) summary: serde_json::Value,
    /// Milliseconds since 1970.
    pub(super) started_at_ms: u64,
    /// Packages that it holds, or lets go of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) holds: Vec<Hold>,
}

impl Begin {
    /// The key of its project.
    pub(super) fn key(&self) -> String {
        key_of(&self.identity, &self.project)
    }
}

/// One name that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    /// The name, in the project.
    pub(super) live: RelativePath,
    /// The part of `.bolide` that its counterpart lies in: `staging` or `generations`.
    pub(super) area: String,
    /// The directory there: the name of a transaction.
    pub(super) owner: String,
    /// The counterpart's name there. It holds the new object before and the old one after.
    pub(super) slot: String,
    /// What the name stood for before, `None`: nothing.
    pub(super) old: Option<Identity>,
    /// What it stands for after.
    pub(super) new: Option<Identity>,
    /// What lies at the live name still although a whole copy of it is the old object now. Goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) doomed: Option<Identity>,
    /// The SHA-256 of the old content, where it is a file.
    pub(super) old_sha256: Option<String>,
    /// The same of the new content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) new_sha256: Option<String>,
    /// The ecosystem, where the name is an environment.
    pub(super) environment: Option<Ecosystem>,
    /// The digest of the fingerprint of the new object.
    pub(super) fingerprint: Option<String>,
    /// A loss of power took the name back, and then somebody has put something else there: it is no part of the transaction any more.
    /// Never written.
    #[serde(skip)]
    pub(super) is_left: bool,
}

impl Item {
    /// From now on the old object is its copy.
    pub(super) fn copied(&mut self, copy: Identity) {
        self.doomed = self.old.replace(copy);
    }
}

/// Something that is deleted after a rollback, and what it should have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Leftover {
    /// The name it was installed under.
    pub(super) live: RelativePath,
    /// The directory in the trash.
    pub(super) owner: String,
    /// Its name there.
    pub(super) slot: String,
    /// The name of its fingerprint in the state directory.
    pub(super) fingerprint: String,
}

/// What follows a commit record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Finish {
    /// Staging becomes a generation.
    Keep,
    /// The generations of these transactions go.
    Discard {
        /// The transactions that are undone, the latest first.
        taken: Vec<String>,
        /// Directories that they made, the deepest first.
        directories: Vec<RelativePath>,
        /// What to look through for a person's changes before it is deleted.
        leftovers: Vec<Leftover>,
    },
}

/// All that will be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// Directories that are made first, parents before children.
    pub(super) directories: Vec<RelativePath>,
    /// Names that change, in this order.
    pub(super) items: Vec<Item>,
    /// What follows.
    pub(super) finish: Finish,
    /// Packages of the system, which change before the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) system: Option<Change>,
    /// The start of the machine in which people are answered before any of this is on the device; `None` where that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<Start>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Record {
    /// The first one.
    Begin(Begin),
    /// From here on the project may be between old and new.
    Intent(Intent),
    /// The old object of an item could not be moved; a copy at its spare name takes its part.
    Copied {
        /// The item.
        index: usize,
        /// The copy.
        copy: Identity,
    },
    /// It is this item's turn: from here on it may have been live. Written before that, but not waited for.
    #[serde(rename = "done")]
    Turn(usize),
    /// From here on there is no way back, but where people were answered before it was on the device.
    Commit,
    /// The device has all of what people were answered with before: from here on it is a transaction like any other.
    Stored,
    /// It is taken back after its commit record: the device does not have it.
    Back {
        /// Why.
        why: String,
    },
    /// The packages of the system are as they were before, and only names of the project are still to be settled back:
    /// somebody else had to go on with the system while the project was away.
    Restored,
}

/// What a journal says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Story {
    pub(super) begin: Begin,
    pub(super) intent: Option<Intent>,
    /// Items whose turn it was.
    pub(super) turned: BTreeSet<usize>,
    pub(super) committed: bool,
    /// Why it is taken back all the same.
    pub(super) back: Option<String>,
}

/// What there is of a journal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// Its transaction has ended by now.
    Gone,
    /// The power went before anything of it was on the device but the name: nothing was done before the intent was, so there is
    /// nothing of this transaction but what it had prepared.
    Torn,
    /// What it says.
    Told(Box<Story>),
}

/// A journal that is being written.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    records: u32,
    bytes: u64,
}

impl Journal {
    /// Starts one; it is on the device when this returns where that `is_waited_for`.
    pub(super) fn create(
        disk: &Disk,
        directory: &Directory,
        begin: Begin,
        is_waited_for: bool,
    ) -> Result<Self> {
        let which = Unfinished::of(&begin);
        let stem = which.stem();
        let path = path_of(directory, &which);
        let name = OsString::from(format!("{stem}{SUFFIX}"));
        let failed = |error: io::Error| Error::io("write", &path, &error);
        let (file, fresh) = create_locked(disk, directory, &stem).map_err(failed)?;
        let mut journal = Self { file, path: path.clone(), records: 0, bytes: 0 };
        let written = journal.append_first(disk, begin).and_then(|()| {
            if is_waited_for {
                journal.sync(disk)?;
            }
            disk.rename_to_free((directory, &fresh), (directory, &name)).map_err(failed)?;
            if is_waited_for { disk.sync(directory).map_err(failed) } else { Ok(()) }
        });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(directory, &fresh, rustix::fs::AtFlags::empty());
            let _ = rustix::fs::unlinkat(directory, &name, rustix::fs::AtFlags::empty());
        }
        written.map(|()| journal)
    }

    /// Goes on with one that a crash left, without what is torn at its end; `None` where it is gone by now. What it lacks of its
    /// beginning its note says.
    ///
    /// # Errors
    /// `locked` where somebody still writes it.
    pub(super) fn resume(
        disk: &Disk,
        directory: &Directory,
        which: &Unfinished,
    ) -> Result<Option<Self>> {
        let Some(path) = lying(directory, which)? else { return Ok(None) };
        let failed = |error: io::Error| Error::io("write", &path, &error);
        let file = match File::options().append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let message = format!("`{}` is still written", path.display());
            return Err(Error::new(Kind::Failed, LOCKED, message).retryable());
        }
        let name = path.file_name().unwrap_or_default();
        let bytes = directory.read_file(name, JOURNAL_BYTES_MAX).map_err(failed)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let (records, torn) = decode(&bytes);
        let note = if records.len() < 2 { Note::read(&path)? } else { None };
        let (count, length) = match &note {
            _ if !records.is_empty() => (records.len() as u32, (bytes.len() - torn) as u64),
            Some(_) => (0, 0),
            None => return Err(damaged(&path)),
        };
        file.set_len(length).map_err(failed)?;
        let mut journal = Self { file, path, records: count, bytes: length };
        if let Some(Note { begin, intent, .. }) = note {
            if count == 0 {
                journal.append_first(disk, begin)?;
            }
            journal.append(disk, &Record::Intent(intent))?;
        }
        Ok(Some(journal))
    }

    /// Notes an intent that is not waited for; false where that cannot be.
    pub(super) fn note(&self, disk: &Disk, begin: &Begin, intent: &Intent) -> Result<bool> {
        let noted = Note::of(begin, intent).write(disk, &self.file);
        noted.map_err(|error| Error::io("write", &self.path, &error))
    }

    fn append_first(&mut self, disk: &Disk, begin: Begin) -> Result<()> {
        let written = disk.append(&self.file, MAGIC);
        written.map_err(|error| Error::io("write", &self.path, &error))?;
        self.bytes = MAGIC.len() as u64;
        self.append(disk, &Record::Begin(begin))
    }

    /// Writes one record. Not on the device before [`Self::sync`].
    pub(super) fn append(&mut self, disk: &Disk, record: &Record) -> Result<()> {
        let failed = |error: io::Error| Error::io("write", &self.path, &error);
        let payload = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        if payload.len() > JOURNAL_RECORD_BYTES_MAX {
            let message = format!(
                "the transaction needs a journal record of {} bytes; the limit is {JOURNAL_RECORD_BYTES_MAX}",
                payload.len()
            );
            return Err(Error::new(Kind::Failed, "transaction-too-large", message));
        }
        let mut bytes = Vec::with_capacity(payload.len() + 24);
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&payload);
        let digest = tree::digest_of(&bytes);
        bytes.extend_from_slice(&digest[..16]);
        disk.append(&self.file, &bytes).map_err(failed)?;
        self.records += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits until all records are on the device.
    pub(super) fn sync(&self, disk: &Disk) -> Result<()> {
        disk.sync(&self.file).map_err(|error| Error::sync_failed(&self.path, &error))
    }

    /// The length up to here.
    pub(super) fn mark(&self) -> (u32, u64) {
        (self.records, self.bytes)
    }

    /// Takes back what was written after `mark`. On the device when this returns.
    pub(super) fn take_back(&mut self, disk: &Disk, mark: (u32, u64)) -> Result<()> {
        let failed = |error: io::Error| Error::io("write", &self.path, &error);
        disk.perform("truncate", || self.file.set_len(mark.1)).map_err(failed)?;
        disk.sync(&self.file).map_err(failed)?;
        (self.records, self.bytes) = mark;
        Ok(())
    }
}

/// A file with a name that is not the journal's yet, and its lock. Who looks for torn beginnings may find it before it has the lock,
/// and takes it for one: then it is made again, under a name of its own, for that one has the first name until it is through.
fn create_locked(disk: &Disk, directory: &Directory, stem: &str) -> io::Result<(File, OsString)> {
    for count in 0..JOURNAL_BEGINNINGS_MAX {
        let fresh = OsString::from(format!("{stem}.{count}{SUFFIX_NEW}"));
        let file = disk.perform("create", || directory.create_file(&fresh, 0o600))?;
        if lock_beginning(&file)? {
            return Ok((file, fresh));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Locks a beginning; false where somebody else has it, or has had it and taken its name away.
pub(super) fn lock_beginning(file: &File) -> io::Result<bool> {
    let is_locked = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
    Ok(is_locked && rustix::fs::fstat(file)?.st_nlink > 0)
}

/// An unfinished transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unfinished {
    /// The transaction.
    pub(super) id: String,
    /// The key of its project.
    pub(super) project: String,
    /// Whether there was no `.bolide` before.
    pub(super) is_first: bool,
}

impl Unfinished {
    pub(super) fn of(begin: &Begin) -> Self {
        Self { id: begin.id.clone(), project: begin.key(), is_first: !begin.had_workshop }
    }

    /// The same by the other name that it may have.
    fn otherwise(&self) -> Self {
        Self { is_first: !self.is_first, ..self.clone() }
    }

    fn stem(&self) -> String {
        format!("{}@{}{}", self.id, self.project, if self.is_first { FIRST } else { "" })
    }

    fn named(stem: &str) -> Option<Self> {
        let (id, project) = stem.split_once('@')?;
        let (project, is_first) = match project.strip_suffix(FIRST) {
            Some(project) => (project, true),
            None => (project, false),
        };
        Some(Self { id: id.to_owned(), project: project.to_owned(), is_first })
    }
}

/// The transactions that have a journal, in the order of their names. Torn beginnings are removed.
pub(super) fn unfinished(directory: &Directory) -> Result<Vec<Unfinished>> {
    let failed = |error: io::Error| Error::io("read", directory.path(), &error);
    let mut found = Vec::new();
    for name in directory.names().map_err(failed)? {
        let Some(text) = name.to_str() else { continue };
        if let Some(which) = text.strip_suffix(SUFFIX).and_then(Unfinished::named) {
            found.push(which);
        } else if text.ends_with(SUFFIX_NEW)
            && let Ok(file) = directory.open_file(&name)
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_called(directory, &name, &file)
        {
            // Nobody writes it any more, and nothing was done before it had its real name. As long as this has its lock,
            // nobody else can give the name to another one.
            let _ = rustix::fs::unlinkat(directory, &name, rustix::fs::AtFlags::empty());
        }
        if found.len() > JOURNALS_MAX {
            let path = directory.path().display();
            let message = format!("`{path}` has more than {JOURNALS_MAX} unfinished transactions");
            return Err(Error::new(Kind::Failed, "too-many-journals", message));
        }
    }
    Ok(found)
}

/// Whether the name still means this file: between opening and locking it may have got its real name, and another one this name.
fn is_called(directory: &Directory, name: &OsStr, file: &File) -> bool {
    let named = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(named), Ok(own)) = (named, rustix::fs::fstat(file)) else { return false };
    (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)
}

/// Where the journal of a transaction lies, by its name.
pub(super) fn path_of(directory: &Directory, which: &Unfinished) -> PathBuf {
    directory.path().join(format!("{}{SUFFIX}", which.stem()))
}

/// Where it lies in truth: an earlier version did not tell in the name which one is the first.
pub(super) fn lying(directory: &Directory, which: &Unfinished) -> Result<Option<PathBuf>> {
    for which in [which.clone(), which.otherwise()] {
        let path = path_of(directory, &which);
        let status = directory.status(path.file_name().unwrap_or_default());
        if status.map_err(|error| Error::io("look at", &path, &error))?.is_some() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What one journal says; `None` where it is gone by now, or says nothing.
pub(super) fn read(directory: &Directory, which: &Unfinished) -> Result<Option<Story>> {
    Ok(match find(directory, which)? {
        Found::Told(story) => Some(*story),
        Found::Gone | Found::Torn => None,
    })
}

/// Reads one journal.
pub(super) fn find(directory: &Directory, which: &Unfinished) -> Result<Found> {
    let Some(path) = lying(directory, which)? else { return Ok(Found::Gone) };
    let bytes = directory.read_file(path.file_name().unwrap_or_default(), JOURNAL_BYTES_MAX);
    let Some(bytes) = bytes.map_err(|error| Error::io("read", &path, &error))? else {
        return Ok(Found::Gone);
    };
    let records = decode(&bytes).0;
    let note = match Note::read(&path) {
        // The records say all that it says, but for a refusal that found no room among them.
        Err(_) if records.len() >= 2 => None,
        note => note?.filter(|note| note.begin.id == which.id),
    };
    let back = note.as_ref().and_then(|note| note.back.clone());
    let mut records = records.into_iter();
    let (begin, noted) = match (records.next(), note) {
        (Some(Record::Begin(begin)), note) if begin.id == which.id => {
            (begin, note.map(|note| note.intent))
        }
        (None, Some(note)) => (note.begin, Some(note.intent)),
        (None, None) if is_torn(&bytes) => return Ok(Found::Torn),
        _ => return Err(damaged(&path)),
    };
    let turned = BTreeSet::new();
    let mut story = Story { begin, intent: None, turned, committed: false, back };
    for record in records {
        match record {
            Record::Intent(intent) if story.intent.is_none() => story.intent = Some(intent),
            Record::Copied { index, copy } => {
                let item = story.intent.as_mut().and_then(|intent| intent.items.get_mut(index));
                item.ok_or_else(|| damaged(&path))?.copied(copy);
                story.turned.insert(index);
            }
            Record::Turn(index) if story.intent.is_some() => {
                story.turned.insert(index);
            }
            Record::Commit if story.intent.is_some() => story.committed = true,
            Record::Stored if story.committed => {
                story.intent.as_mut().ok_or_else(|| damaged(&path))?.start = None;
            }
            Record::Back { why } if story.intent.is_some() => story.back = Some(why),
            Record::Restored if !story.committed => {
                story.intent.as_mut().ok_or_else(|| damaged(&path))?.system = None;
            }
            _ => return Err(damaged(&path)),
        }
    }
    // The record that follows the note had not come to the device.
    story.intent = story.intent.or(noted);
    Ok(Found::Told(Box::new(story)))
}

/// Removes the journal of a transaction that has ended. Not on the device yet when this returns: a journal that
/// comes back is recovered again, which changes nothing.
pub(super) fn remove(disk: &Disk, directory: &Directory, begin: &Begin) -> Result<()> {
    remove_one(disk, directory, &Unfinished::of(begin))
}

/// The same for one that may be torn.
pub(super) fn remove_one(disk: &Disk, directory: &Directory, which: &Unfinished) -> Result<()> {
    let Some(path) = lying(directory, which)? else { return Ok(()) };
    match disk.unlink(directory, path.file_name().unwrap_or_default()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", &path, &error))
        }
        _ => Ok(()),
    }
}

/// All records before the first one that does not check, and how many bytes are left from there.
pub(super) fn decode(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut records = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(MAGIC.as_slice()) else {
        return (records, bytes.len());
    };
    while let Some((record, tail)) = decode_one(rest, records.len()) {
        records.push(record);
        rest = tail;
    }
    (records, rest.len())
}

/// Whether these can be the bytes of a journal whose first record was not on the device when the power went: nothing, or a part of
/// that record, and zeroes after it where the file was longer. All else was damaged later, and what it told may be the only thing
/// that knows where old contents are.
pub(super) fn is_torn(bytes: &[u8]) -> bool {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let written = bytes.get(..written).unwrap_or_default();
    let Some((magic, rest)) = written.split_first_chunk::<8>() else {
        return MAGIC.starts_with(written);
    };
    let Some(([l0, l1, l2, l3], _)) = rest.split_first_chunk::<4>() else { return magic == MAGIC };
    let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
    let is_short = length <= JOURNAL_RECORD_BYTES_MAX && rest.len() < 8 + length + 16;
    magic == MAGIC && is_short && !tells_something(bytes)
}

/// Whether a record that checks stands anywhere. Bytes of the first one cannot be another.
fn tells_something(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some([l0, l1, l2, l3, n0, n1, n2, n3]) = rest.first_chunk::<8>().copied() else {
            return false;
        };
        let number = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
        // Zeroes are no record.
        [l0, l1, l2, l3] != [0; 4] && decode_one(rest, number).is_some()
    })
}

fn decode_one(bytes: &[u8], index: usize) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let [l0, l1, l2, l3, n0, n1, n2, n3] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let number = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
    if length > JOURNAL_RECORD_BYTES_MAX || number != index {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    let (check, rest) = rest.split_at_checked(16)?;
    let digest = tree::digest_of(bytes.get(..8 + length)?);
    if digest.get(..16)? != check {
        return None;
    }
    Some((serde_json::from_slice(payload).ok()?, rest))
}

fn damaged(path: &Path) -> Error {
    let message = format!("the journal `{}` is damaged", path.display());
    Error::new(Kind::Failed, "journal-damaged", message).hint(
        "its project may be between two states; compare it with your version control, then move the journal away",
    )
}
