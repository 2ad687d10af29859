//! What was installed, file by file, so that a person's later changes are seen and never destroyed.
//!
//! A fingerprint is a file in the state directory, not in the project, whose content is a stranger's. Checking
//! one costs a `stat` per file; only a file whose status differs is read. The directory listing shows what was
//! added.
//!
//! # Format (little-endian)
//! `BOLIDEF1`, u64 number of entries, entries, SHA-256 of all before it. An entry: u16 length of the path, path,
//! u8 kind (`f`, `d`, `l`), u32 mode, u64 size, i64 mtime, i64 ctime (nanoseconds), u64 inode, SHA-256 of the
//! bytes or of the link's target. Entries stand in the order of a walk.
//!
//! # Not drift
//! What tools write into environments by themselves: `__pycache__` and `*.pyc`; directly in `node_modules`
//! `.cache`, `.vite`, `.vite-temp` and `.package-lock.json` (npm's own cache of the tree).

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use agents_contract::Crew;
use rustix::fs::Stat;

use super::directory::{Directory, ObjectKind, nanoseconds};
use super::tree::{self, Digest, Onward, Visit};
use crate::error::{Error, Kind, Result};
use crate::limits::{COMPARE_PIECES_ENTRIES_MIN, PATH_BYTES_MAX};
use crate::store::{Given, Mark, Written};

/// The error of a record that does not check.
pub(super) const DAMAGED: &str = "fingerprint-damaged";
/// npm's own record of a tree, which it makes anew where there is none.
pub(super) const REBUILT_CACHE: &str = ".package-lock.json";
const MAGIC: &[u8; 8] = b"BOLIDEF1";
/// Bytes of one entry beside its path.
const ENTRY_BYTES: usize = 2 + 1 + 4 + 8 + 8 + 8 + 8 + 32;

/// One installed tree or file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    entries: Vec<Entry>,
}

/// One path as it was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: ObjectKind,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) modified_ns: i64,
    pub(super) changed_ns: i64,
    pub(super) inode: u64,
    pub(super) digest: Digest,
}

/// How one path differs from what was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// Other content, mode or kind.
    Modified,
    /// Was not installed.
    Added,
    /// Is gone.
    Removed,
}

/// Every path that differs, in the order of a walk. An empty path is the tree itself.
pub(super) type Drift = Vec<(PathBuf, DriftKind)>;

impl Fingerprint {
    /// That of nothing.
    pub(super) const NOTHING: Self = Self { entries: Vec::new() };

    /// Describes what lies at `name` in `parent`; empty where nothing does.
    /// A file that was `written` just now is not read again.
    pub(super) fn record(
        parent: &Directory,
        name: &OsStr,
        place: &OsStr,
        written: &Written,
    ) -> Result<Self> {
        Self::record_without(parent, name, &|path| is_left_out(place, path, written), written)
    }

    /// The same by a crew: everything directly in the tree is a piece of its own.
    pub(super) fn record_by(
        crew: &dyn Crew,
        (parent, name): (&Directory, &OsStr),
        place: &OsStr,
        written: &Written,
    ) -> Result<Self> {
        let failed = |error| Error::io("read", &parent.path().join(name), &error);
        let root = parent.child(name).map_err(failed)?;
        let names = root.names().map_err(failed)?;
        let is_cache = |path: &[u8]| is_left_out(place, path, written);
        let above = |path: &[u8]| !path.is_empty();
        let mut entries = record_entries((parent, name), b"", &above, written)?;
        let found: Vec<OnceLock<Result<Vec<Entry>>>> =
            names.iter().map(|_| OnceLock::new()).collect();
        crew.run(names.len(), &|index| {
            let top = names[index].as_bytes();
            let recorded = match is_cache(top) {
                true => Ok(Vec::new()),
                false => record_entries((&root, &names[index]), top, &is_cache, written),
            };
            // Each piece is run once.
            let _ = found[index].set(recorded);
        });
        for recorded in found {
            entries.extend(recorded.into_inner().ok_or_else(Error::cancelled)??);
        }
        tree::check_count(parent, name, entries.len())?;
        Ok(Self { entries })
    }

    /// The same with caches.
    pub(super) fn record_all(parent: &Directory, name: &OsStr) -> Result<Self> {
        Self::record_without(parent, name, &|_| false, &Written::default())
    }

    fn record_without(
        parent: &Directory,
        name: &OsStr,
        skip: &dyn Fn(&[u8]) -> bool,
        written: &Written,
    ) -> Result<Self> {
        Ok(Self { entries: record_entries((parent, name), b"", skip, written)? })
    }

    /// What differs now from what [`Self::record_all`] saw.
    pub(super) fn compare_all(&self, parent: &Directory, name: &OsStr) -> Result<Drift> {
        self.compare_without(parent, name, &|_| false)
    }

    /// What differs now from what was recorded. Content is only read where the status differs.
    pub(super) fn compare(&self, parent: &Directory, name: &OsStr, place: &OsStr) -> Result<Drift> {
        self.compare_without(parent, name, &|path| is_cache(place, path))
    }

    /// The same by a crew, where it is worth it: everything directly in the tree is a piece of its own.
    pub(super) fn compare_by(
        &self,
        crew: &dyn Crew,
        (parent, name): (&Directory, &OsStr),
        place: &OsStr,
    ) -> Result<Drift> {
        let failed = |error| Error::io("read", &parent.path().join(name), &error);
        let is_tree = self.entries.first().is_some_and(|root| root.kind == ObjectKind::Directory);
        let status = parent.status(name).map_err(failed)?;
        let is_there =
            status.is_some_and(|status| ObjectKind::of(status.st_mode) == ObjectKind::Directory);
        if self.entries.len() < COMPARE_PIECES_ENTRIES_MIN || !is_tree || !is_there {
            return self.compare(parent, name, place);
        }
        let root = parent.child(name).map_err(failed)?;
        let names = root.names().map_err(failed)?;
        let mut drift =
            compare_entries(&self.entries[..1], (parent, name), b"", &|path| !path.is_empty())?;
        let pieces = pieces(&self.entries[1..], &names);
        let found: Vec<OnceLock<Result<Drift>>> = pieces.iter().map(|_| OnceLock::new()).collect();
        crew.run(pieces.len(), &|index| {
            let (top, entries) = pieces[index];
            let skip = |path: &[u8]| is_cache(place, path);
            let compared = match skip(top) {
                true => Ok(Drift::new()),
                false => compare_entries(entries, (&root, OsStr::from_bytes(top)), top, &skip),
            };
            // Each piece is run once.
            let _ = found[index].set(compared);
        });
        for compared in found {
            drift.extend(compared.into_inner().ok_or_else(Error::cancelled)??);
        }
        Ok(drift)
    }

    fn compare_without(
        &self,
        parent: &Directory,
        name: &OsStr,
        skip: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Drift> {
        compare_entries(&self.entries, (parent, name), b"", skip)
    }

    /// The same where the paths that `is_of` says yes to are described as in `other`, so that each of them is read again.
    pub(super) fn with(mut self, other: &Self, is_of: &dyn Fn(&[u8]) -> bool) -> Self {
        self.entries.retain(|entry| !is_of(&entry.path));
        let others = other.entries.iter().filter(|entry| is_of(&entry.path)).cloned();
        // No file has such a status, so its content is what is compared.
        self.entries.extend(others.map(|entry| Entry { changed_ns: 0, inode: 0, ..entry }));
        self.entries.sort_by(|left, right| order(&left.path, &right.path));
        self
    }

    /// Every path, in the order of a walk.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of entries.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// A digest of what was installed, without times and inodes: equal for equal content.
    pub(super) fn digest(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut bytes = Vec::with_capacity(256);
        for entry in &self.entries {
            // One piece for each: a digest that is given numbers one by one takes longer for that than for all the bytes.
            bytes.clear();
            bytes.extend_from_slice(&(entry.path.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&entry.path);
            bytes.push(letter(entry.kind));
            bytes.extend_from_slice(&entry.mode.to_le_bytes());
            bytes.extend_from_slice(&entry.size.to_le_bytes());
            bytes.extend_from_slice(&entry.digest);
            context.update(&bytes);
        }
        format!("sha256:{}", crate::hex::hex(context.finish().as_ref()))
    }

    /// The form that is stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        let paths: usize = self.entries.iter().map(|entry| entry.path.len()).sum();
        let mut bytes = Vec::with_capacity(48 + self.entries.len() * ENTRY_BYTES + paths);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            let length = u16::try_from(entry.path.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&entry.path);
            bytes.push(letter(entry.kind));
            bytes.extend_from_slice(&entry.mode.to_le_bytes());
            bytes.extend_from_slice(&entry.size.to_le_bytes());
            bytes.extend_from_slice(&entry.modified_ns.to_le_bytes());
            bytes.extend_from_slice(&entry.changed_ns.to_le_bytes());
            bytes.extend_from_slice(&entry.inode.to_le_bytes());
            bytes.extend_from_slice(&entry.digest);
        }
        let digest = tree::digest_of(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the stored form.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        decode(bytes).map(|entries| Self { entries }).ok_or_else(|| {
            let message = format!("the record `{}` of installed files is damaged", path.display());
            Error::new(Kind::Verification, DAMAGED, message).hint(
                "Bolide cannot tell any more which files you changed; look yourself, then use --force",
            )
        })
    }
}

/// A fingerprint together with the two forms of it that a commit has use for.
pub(super) struct Told {
    pub(super) print: Fingerprint,
    /// [`Fingerprint::digest`].
    pub(super) digest: String,
    /// [`Fingerprint::encode`].
    pub(super) encoded: Vec<u8>,
}

impl Told {
    /// Both at once where the crew has two hands: each is mostly a digest of everything.
    pub(super) fn of(print: Fingerprint, crew: &dyn Crew) -> Self {
        let (digest, encoded) = (OnceLock::new(), OnceLock::new());
        crew.run(2, &|index| match index {
            0 => drop(digest.set(print.digest())),
            _ => drop(encoded.set(print.encode())),
        });
        // What a crew left out is for whoever commits to judge.
        let digest = digest.into_inner().unwrap_or_else(|| print.digest());
        let encoded = encoded.into_inner().unwrap_or_else(|| print.encode());
        Self { print, digest, encoded }
    }
}

/// What lies at `name` in `parent`, which is `top` in the paths of the entries.
fn record_entries(
    (parent, name): (&Directory, &OsStr),
    top: &[u8],
    skip: &dyn Fn(&[u8]) -> bool,
    written: &Written,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let skip_below = |below: &[u8]| skip(&joined(top, below));
    let linked = |device, inode| written.linked(device, inode);
    let mut visit = |visit: &Visit<'_>| {
        let path = joined(top, visit.path);
        let (known, given) = match visit.kind() {
            ObjectKind::File => (written.digest(visit.status), None),
            ObjectKind::Directory => (None, written.given(visit.status)),
            ObjectKind::Link | ObjectKind::Special => (None, None),
        };
        let digest = known.map_or_else(|| visit.content_digest(), Ok)?;
        let inner = given.and_then(|given| entries_of(&given, &path, skip));
        entries.push(Entry::of(visit, path, digest)?);
        let Some(inner) = inner else { return Ok(Onward::Into) };
        entries.extend(inner);
        Ok(Onward::Past)
    };
    let mut blocked = |at: tree::Blocked<'_>, error| Err(at.unreadable(error));
    tree::walk_as_told((parent, name), &linked, &skip_below, &mut visit, &mut blocked)?;
    Ok(entries)
}

/// What is in a directory that was given, at `path`; nothing where something of it is to be left out, or cannot be described: then it is
/// walked.
fn entries_of(given: &Given, path: &[u8], skip: &dyn Fn(&[u8]) -> bool) -> Option<Vec<Entry>> {
    let entry = |mark: &Mark| {
        let path = joined(path, mark.path.as_bytes());
        let is_described = path.len() <= PATH_BYTES_MAX && !skip(&path);
        is_described.then(|| Entry {
            path,
            kind: ObjectKind::of(mark.mode),
            mode: mark.mode & 0o7777,
            size: if mark.digest.is_some() { mark.size } else { 0 },
            modified_ns: nanoseconds(mark.modified.0, mark.modified.1),
            changed_ns: nanoseconds(mark.changed.0, mark.changed.1),
            inode: mark.inode,
            digest: mark.digest.unwrap_or_default(),
        })
    };
    given.inner.iter().map(entry).collect()
}

fn joined(top: &[u8], below: &[u8]) -> Vec<u8> {
    match (top, below) {
        (b"", path) | (path, b"") => path.to_vec(),
        (top, below) => [top, b"/", below].concat(),
    }
}

/// What differs between `entries` and what lies at `name` in `parent`, which is `top` in the paths of the entries.
fn compare_entries(
    entries: &[Entry],
    (parent, name): (&Directory, &OsStr),
    top: &[u8],
    skip: &dyn Fn(&[u8]) -> bool,
) -> Result<Drift> {
    let mut drift = Drift::new();
    let mut expected = entries.iter().peekable();
    let mut path = top.to_vec();
    let full = |path: &mut Vec<u8>, below: &[u8]| {
        path.truncate(top.len());
        if !top.is_empty() && !below.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(below);
    };
    let skip_below = |below: &[u8]| {
        let mut path = top.to_vec();
        full(&mut path, below);
        skip(&path)
    };
    tree::walk(parent, name, &skip_below, &mut |visit| {
        full(&mut path, visit.path);
        while let Some(entry) = expected.next_if(|entry| before(&entry.path, &path)) {
            drift.push((entry.path(), DriftKind::Removed));
        }
        match expected.next_if(|entry| entry.path == path) {
            Some(entry) if entry.holds(visit)? => {}
            Some(entry) => drift.push((entry.path(), DriftKind::Modified)),
            None => drift.push((path_of(&path), DriftKind::Added)),
        }
        Ok(())
    })?;
    drift.extend(expected.map(|entry| (entry.path(), DriftKind::Removed)));
    Ok(drift)
}

/// The name directly in the tree.
fn top(entry: &Entry) -> &[u8] {
    entry.path.split(|byte| *byte == b'/').next().unwrap_or_default()
}

/// What was installed directly in a tree and what is there now, in the order of their names: each with the entries of it.
fn pieces<'e>(entries: &'e [Entry], names: &'e [OsString]) -> Vec<(&'e [u8], &'e [Entry])> {
    let installed = entries.chunk_by(|one, other| top(one) == top(other));
    let mut pieces: Vec<(&[u8], &[Entry])> =
        installed.map(|chunk| (chunk.first().map(top).unwrap_or_default(), chunk)).collect();
    let known: HashSet<&[u8]> = pieces.iter().map(|(top, _)| *top).collect();
    let fresh: Vec<&[u8]> =
        names.iter().map(|name| name.as_bytes()).filter(|name| !known.contains(name)).collect();
    pieces.extend(fresh.into_iter().map(|name| (name, &[][..])));
    pieces.sort_unstable_by_key(|(top, _)| *top);
    pieces
}

impl Entry {
    fn of(visit: &Visit<'_>, path: Vec<u8>, digest: Digest) -> Result<Self> {
        if visit.kind() == ObjectKind::Special || path.len() > PATH_BYTES_MAX {
            let path = visit.directory.path().join(visit.name);
            let message = format!("`{}` is not a file that can be installed", path.display());
            return Err(Error::new(Kind::Verification, "special-file", message));
        }
        let status = visit.status;
        let is_file = visit.kind() == ObjectKind::File;
        Ok(Self {
            path,
            kind: visit.kind(),
            mode: status.st_mode & 0o7777,
            size: if is_file { status.st_size as u64 } else { 0 },
            modified_ns: modified_ns(status),
            changed_ns: changed_ns(status),
            inode: status.st_ino,
            digest,
        })
    }

    fn path(&self) -> PathBuf {
        path_of(&self.path)
    }

    /// Whether the entry is still what it was.
    fn holds(&self, visit: &Visit<'_>) -> Result<bool> {
        let status = visit.status;
        let is_file = self.kind == ObjectKind::File;
        if visit.kind() != self.kind
            || status.st_mode & 0o7777 != self.mode
            || is_file && status.st_size as u64 != self.size
        {
            return Ok(false);
        }
        let untouched = modified_ns(status) == self.modified_ns
            && changed_ns(status) == self.changed_ns
            && status.st_ino == self.inode;
        // The times of a directory change with what is in it, and that is looked at by itself.
        if self.kind == ObjectKind::Directory || untouched {
            return Ok(true);
        }
        Ok(visit.content_digest()? == self.digest)
    }
}

pub(super) fn modified_ns(status: &Stat) -> i64 {
    nanoseconds(status.st_mtime, status.st_mtime_nsec as i64)
}

pub(super) fn changed_ns(status: &Stat) -> i64 {
    nanoseconds(status.st_ctime, status.st_ctime_nsec as i64)
}

fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if tree::digest_of(body) != digest {
        return None;
    }
    let mut rest = body;
    if take(&mut rest, 8)? != MAGIC {
        return None;
    }
    let count = u64::from_le_bytes(array(&mut rest)?);
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = u16::from_le_bytes(array(&mut rest)?);
        let path = take(&mut rest, usize::from(length))?.to_owned();
        let kind = match take(&mut rest, 1)? {
            b"f" => ObjectKind::File,
            b"d" => ObjectKind::Directory,
            b"l" => ObjectKind::Link,
            _ => return None,
        };
        entries.push(Entry {
            path,
            kind,
            mode: u32::from_le_bytes(array(&mut rest)?),
            size: u64::from_le_bytes(array(&mut rest)?),
            modified_ns: i64::from_le_bytes(array(&mut rest)?),
            changed_ns: i64::from_le_bytes(array(&mut rest)?),
            inode: u64::from_le_bytes(array(&mut rest)?),
            digest: array(&mut rest)?,
        });
    }
    rest.is_empty().then_some(entries)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

fn letter(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::File => b'f',
        ObjectKind::Directory => b'd',
        ObjectKind::Link => b'l',
        ObjectKind::Special => b'?',
    }
}

fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

/// The order of a walk: by parts, a directory before what is in it.
pub(super) fn before(left: &[u8], right: &[u8]) -> bool {
    order(left, right).is_lt()
}

/// The same as an order.
pub(super) fn order(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    left.split(|byte| *byte == b'/').cmp(right.split(|byte| *byte == b'/'))
}

/// Whether tools write it by themselves. `place` is the name of the environment.
pub(super) fn is_cache(place: &OsStr, path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    if name == b"__pycache__" || name.ends_with(b".pyc") {
        return true;
    }
    place == "node_modules"
        && matches!(path, b".cache" | b".vite" | b".vite-temp" | b".package-lock.json")
}

/// The same while it is recorded: what nobody makes anew where it is not whole is told of.
fn is_left_out(place: &OsStr, path: &[u8], written: &Written) -> bool {
    let is_cache = is_cache(place, path);
    if is_cache && path != REBUILT_CACHE.as_bytes() {
        written.leave_out();
    }
    is_cache
}

/// Drift of several places in one refusal.
pub(super) fn refusal(what: &str, drift: &BTreeMap<String, Drift>) -> Error {
    use crate::limits::DRIFT_PATHS_SHOWN_MAX;
    let all: Vec<String> = drift
        .iter()
        .flat_map(|(place, drift)| {
            drift.iter().map(move |(path, change)| {
                let path = Path::new(place).join(path);
                let path = path.to_string_lossy();
                let word = match change {
                    DriftKind::Modified => "modified",
                    DriftKind::Added => "added",
                    DriftKind::Removed => "removed",
                };
                format!("{word} `{}`", path.trim_end_matches('/').escape_debug())
            })
        })
        .collect();
    let mut shown = all.iter().take(DRIFT_PATHS_SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = all.len().checked_sub(DRIFT_PATHS_SHOWN_MAX + 1) {
        shown = format!("{shown} and {} more", more + 1);
    }
    let message = format!("{what} would lose what was edited since: {shown}");
    Error::new(Kind::Verification, "edited-since", message).hint(
        "keep your changes elsewhere, or use --force: edited and added files are then copied aside first",
    )
}
