//! What was looked at on this machine to find npm's configuration, and how it was. As long as all of it is as it was, the configuration
//! is what it was, and one look at each place stands for opening, following, reading and understanding.
//!
//! That nothing is at a place is looked at, too: a program that comes into an earlier directory of `PATH` counts at once. Each look is
//! taken before what it is about is read, so whoever changes something meanwhile is noticed the next time. What was changed a moment
//! before is not remembered, because two changes within one tick of a file system's clock look alike; nor is what lies where
//! times do not tell of every write (other machines, the kernel's own files), nor what could not be looked at: for want of
//! descriptors or memory nothing is found where something is. No file system tells of every store through a mapping (`mmap`, tmpfs
//! of none); who edits a configuration in place by one, to the same length, is noticed when a time changes.
//!
//! What holds a secret is found anew each time: credentials, and addresses with a query. That a part of a path is one nobody can
//! tell. Of the surroundings, which may hold one, a digest is kept.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ring::digest::{Context, SHA256};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::{Finder, NpmEndpoint};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::io::environment::Environment;
use crate::io::limits::{
    LINKS_FOLLOWED_MAX, LOOKS_MAX, LOOKS_QUIET, SEEN_BYTES_MAX, SEEN_ENTRIES_MAX, SURROUNDINGS_MAX,
};

/// File systems whose times follow each `write`: ext2 to ext4, XFS, Btrfs, F2FS, and those in memory and in layers.
const BELIEVED: [u32; 6] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994, 0x794C_7630];

/// The looks of one search.
#[derive(Debug, Default)]
pub(super) struct Looks {
    taken: RefCell<Vec<Look>>,
    /// Whether something was found in a way that no look tells of.
    is_lost: Cell<bool>,
}

#[derive(Debug)]
struct Look {
    path: CString,
    /// Whether it is about what a link leads to, not about the link.
    follows: bool,
    /// Nothing where nothing is.
    found: Option<State>,
}

/// Of a directory nothing but that it is one: what is in it is looked at by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    mode: u32,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl State {
    fn of(status: &Stat) -> Self {
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return Self { mode: FileType::Directory.as_raw_mode(), ..Self::default() };
        }
        Self {
            device: status.st_dev,
            inode: status.st_ino,
            mode: status.st_mode,
            size: status.st_size,
            modified: (status.st_mtime, status.st_mtime_nsec as i64),
            changed: (status.st_ctime, status.st_ctime_nsec as i64),
        }
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether nobody changed it shortly before.
    fn is_quiet(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) =
            (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        now.duration_since(changed).is_ok_and(|quiet| quiet >= LOOKS_QUIET)
    }
}

/// How it is at a place; an error where that cannot be said.
fn state(path: &CString, follows: bool) -> std::result::Result<Option<State>, Errno> {
    let status = match follows {
        true => rustix::fs::stat(path),
        false => rustix::fs::lstat(path),
    };
    match status {
        Ok(status) => Ok(Some(State::of(&status))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Looks {
    /// Looks at a file that is about to be read. Whether its times tell of the next change, so that what it says may be remembered with what
    /// it was before this.
    pub(super) fn at_file(&self, path: &Path) -> bool {
        let Some(found) = self.look(path, true) else { return false };
        self.check_file_system(path) && found.is_quiet(SystemTime::now())
    }

    /// Whether a program is there that can be started.
    pub(super) fn is_program(&self, path: &Path) -> bool {
        let found = self.look(path, true);
        found.is_some_and(|it| it.kind() == FileType::RegularFile && it.mode & 0o111 != 0)
    }

    /// The file that an absolute path leads to in the end. Every step on the way is looked at, links and directories: a file may have
    /// several names, so that it is the same says nothing of where it is.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        let mut left = Vec::new();
        push_parts(&mut left, path);
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let above = std::mem::take(&mut at);
            at = above.join(part);
            match self.look(&at, false)?.kind() {
                FileType::Symlink if links == LINKS_FOLLOWED_MAX => {
                    self.lose();
                    return None;
                }
                FileType::Symlink => {
                    links += 1;
                    self.check_file_system(&above);
                    let target = std::fs::read_link(&at).map_err(|_| self.lose()).ok()?;
                    push_parts(&mut left, &target);
                    at = if target.is_absolute() { PathBuf::from("/") } else { above };
                }
                FileType::Directory => {}
                // A name below a file leads nowhere.
                _ if !left.is_empty() => return None,
                _ => {}
            }
        }
        self.check_file_system(&at);
        Some(at)
    }

    /// Something was found in another way, so this is not remembered.
    pub(super) fn lose(&self) {
        self.is_lost.set(true);
    }

    fn look(&self, path: &Path, follows: bool) -> Option<State> {
        let found = CString::new(path.as_os_str().as_bytes())
            .ok()
            .and_then(|path| state(&path, follows).ok().map(|found| (path, found)));
        let Some((path, found)) = found else {
            self.lose();
            return None;
        };
        let mut taken = self.taken.borrow_mut();
        match taken.len() < LOOKS_MAX {
            true if taken.iter().any(|one| one.path == path && one.follows == follows) => {}
            true => taken.push(Look { path, follows, found }),
            false => self.lose(),
        }
        found
    }

    fn check_file_system(&self, path: &Path) -> bool {
        // The kernel's numbers have 32 bits, whatever type they come in.
        let about = rustix::fs::statfs(path);
        let is_believed = about.is_ok_and(|about| BELIEVED.contains(&(about.f_type as u32)));
        if !is_believed {
            self.lose();
        }
        is_believed
    }

    /// What is to be remembered, if anything.
    fn into_seen(self, now: SystemTime) -> Option<Vec<Look>> {
        let taken = self.taken.into_inner();
        let found = || taken.iter().filter_map(|look| look.found);
        (!self.is_lost.get() && found().all(|found| found.is_quiet(now))).then_some(taken)
    }
}

/// Puts the parts of a path on top of what is left of one, the first of them uppermost.
fn push_parts(left: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    left.extend(parts);
}

/// What npm's configuration was in the latest surroundings.
#[derive(Debug, Default)]
pub(crate) struct NpmSeen(Mutex<Vec<Arc<Seen>>>);

#[derive(Debug)]
struct Seen {
    surroundings: [u8; 32],
    looks: Vec<Look>,
    endpoint: NpmEndpoint,
}

impl Seen {
    fn holds(&self) -> bool {
        let is_same = |look: &Look| state(&look.path, look.follows) == Ok(look.found);
        self.looks.iter().all(is_same)
    }

    /// Whether it is worth its room: a project decides what its npmrc says, and how much.
    fn is_small(&self) -> bool {
        let (entries, bytes) = self.endpoint.weight();
        let looks: usize = self.looks.iter().map(|look| look.path.as_bytes().len()).sum();
        entries <= SEEN_ENTRIES_MAX && bytes + looks <= SEEN_BYTES_MAX
    }
}

impl NpmSeen {
    /// The configuration: what it was, where everything is as it was, else what `find` finds.
    pub(super) fn find(
        &self,
        finder: &Finder<'_>,
        now: SystemTime,
        find: impl FnOnce(&Looks) -> Result<NpmEndpoint>,
    ) -> Result<NpmEndpoint> {
        let surroundings = digest(finder);
        if let Some(seen) = self.of(&surroundings) {
            if seen.holds() {
                return Ok(seen.endpoint.clone());
            }
            // It is nobody's any more, and what comes in its place may be a secret.
            self.seen().retain(|other| !Arc::ptr_eq(other, &seen));
        }
        let looks = Looks::default();
        let endpoint = find(&looks)?;
        if let Some(looks) = looks.into_seen(now).filter(|_| !endpoint.holds_secret()) {
            let seen = Seen { surroundings, looks, endpoint };
            let endpoint = seen.endpoint.clone();
            if seen.is_small() {
                self.note(seen);
            }
            return Ok(endpoint);
        }
        Ok(endpoint)
    }

    fn of(&self, surroundings: &[u8; 32]) -> Option<Arc<Seen>> {
        self.seen().iter().find(|seen| seen.surroundings == *surroundings).map(Arc::clone)
    }

    /// The latest first; the last goes where there are too many.
    fn note(&self, seen: Seen) {
        let mut all = self.seen();
        all.retain(|other| other.surroundings != seen.surroundings);
        all.truncate(SURROUNDINGS_MAX - 1);
        all.insert(0, Arc::new(seen));
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Arc<Seen>>> {
        // A list, whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of all that a search begins with.
fn digest(finder: &Finder<'_>) -> [u8; 32] {
    // All of them, so that none is forgotten.
    let Environment { variables, references, home, project } = finder.environment;
    let mut bytes = Vec::new();
    let mut put = |text: &[u8]| {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
    };
    for table in [variables, references] {
        put(&(table.len() as u64).to_le_bytes());
        for (name, value) in table {
            put(name.as_bytes());
            put(value.as_bytes());
        }
    }
    put(home.as_os_str().as_bytes());
    put(project.as_os_str().as_bytes());
    put(finder.overrides.get(Ecosystem::Npm).map_or("", |url| url.as_str()).as_bytes());
    let mut context = Context::new(&SHA256);
    context.update(&bytes);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests;
