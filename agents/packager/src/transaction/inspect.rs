//! An environment compared with what its generation says, path by path: for people and for repairs.
//!
//! Unlike the look before a change ([`super::edits`]) it believes no status: every file is read, so what a disk did by itself
//! shows, too. It changes nothing, and what it reads may change under its hands: a file counts only as it was from
//! the beginning of a reading to its end.

mod contents;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use agents_contract::Crew;
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use self::contents::Unread;
use super::directory::{Directory, ObjectKind, RelativePath};
use super::fingerprint::{Entry, Fingerprint, before, is_cache, modified_ns, order};
use super::tree::{self, Onward, Visit};
use super::{EnvironmentState, Session};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::VERIFY_FINDINGS_MAX;

/// How one path is not what was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// It is gone, with all that was in it.
    Missing,
    /// It was not installed, nor anything in it.
    Additional,
    /// Something else has its name: a link, a directory, a socket where a file was, or the other way round.
    Kind,
    /// A file with other bytes.
    Content,
    /// A link that leads elsewhere.
    Target,
    /// Other permissions.
    Mode,
    /// It cannot be read, so nobody knows.
    Unreadable,
    /// It changed each time that it was read.
    Unsteady,
    /// An environment that was made for another path than its present one.
    Elsewhere,
}

/// One path that is not what was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Relative to the environment; empty for the environment itself.
    pub path: PathBuf,
    /// How.
    pub difference: Difference,
    /// How many installed paths it stands for: a directory that is gone stands for everything that was in it.
    pub entries: u64,
    /// What is there now, for whoever looks once more.
    pub(super) seen: Option<Seen>,
}

/// The status of a path by which a later change of it shows. Not the time of its last change: a file that the store shares
/// gets another one when the store lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    mode: u32,
    size: i64,
    modified_ns: i64,
}

/// An environment as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// In the order of a walk, at most [`VERIFY_FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond that.
    pub left_out: u64,
    /// Paths that were looked at.
    pub looked_at: u64,
}

/// An environment that stands in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where, relative to the project.
    pub place: RelativePath,
    /// Whose packages it holds.
    pub ecosystem: Ecosystem,
    /// Its generation, and who made it.
    pub state: EnvironmentState,
}

impl Session {
    /// The environments of ours that stand in the project, by place.
    pub fn environments(&self) -> Result<Vec<Standing>> {
        let key = self.project.key();
        let known = self.inner.database.environments(&key)?.into_iter();
        let state = |place: &RelativePath| self.inner.database.environment(&key, place);
        known
            .map(|(place, ecosystem)| Ok(Standing { state: state(&place)?, place, ecosystem }))
            .collect()
    }

    /// Compares an environment with what its generation says. `within` names the paths in it that are asked for, all where
    /// there are none; one of which nothing is known and where nothing is is the caller's mistake.
    ///
    /// The walk is a piece of work of `crew`, and so is each handful of files that is read; without one all of it is done by the
    /// caller.
    pub fn inspect(
        &self,
        place: &RelativePath,
        within: &[Vec<u8>],
        crew: Option<&dyn Crew>,
        keep_on: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Inspection> {
        let print = self.standing_fingerprint(place)?;
        let inside = |path: &[u8]| within.is_empty() || within.iter().any(|it| at(path, it));
        // What is on the way to a path that is asked for is walked through.
        let above = |path: &[u8]| within.iter().any(|it| at(it, path));
        let (name, is_relevant) = (place.name(), |path: &[u8]| inside(path) || above(path));
        let mut look = Look {
            expected: Vec::new(),
            next: 0,
            covered: None,
            inside: &inside,
            found: Inspection::default(),
            matched: vec![false; within.len()],
            within,
            unread: Vec::new(),
        };
        look.expected.extend(print.entries().iter().filter(|entry| is_relevant(&entry.path)));
        let parent = match self.project.root().descend(place.parent().as_ref()) {
            Ok(parent) => parent,
            // Gone, or something else is on the way to it.
            Err(error) if is_away(&error) => {
                look.missing_rest();
                return look.end(place);
            }
            Err(error) => {
                return Err(Error::io("open", &self.project.path().join(place.as_str()), &error));
            }
        };
        let skip = |path: &[u8]| is_cache(name, path) || !is_relevant(path);
        let mut walk = || {
            let look = std::cell::RefCell::new(&mut look);
            tree::walk_as_told(
                (&parent, name),
                tree::UNKNOWN,
                &skip,
                &mut |visit| {
                    keep_on()?;
                    look.borrow_mut().visit(visit)
                },
                &mut |at, error| match at {
                    tree::Blocked::Listing(visit) => {
                        look.borrow_mut().blocked(visit);
                        Ok(())
                    }
                    tree::Blocked::Look { .. } => Err(at.unreadable(error)),
                },
            )
        };
        match crew {
            Some(crew) => agents_contract::once(crew, walk).ok_or_else(Error::cancelled)??,
            None => walk()?,
        }
        look.missing_rest();
        look.read(&parent, name, crew, keep_on)?;
        look.end(place)
    }

    /// The record of what was installed at a place.
    pub(super) fn standing_fingerprint(&self, place: &RelativePath) -> Result<Fingerprint> {
        let steps = self.inner.database.steps_at(&self.project.key(), place)?;
        let print = match steps.first() {
            Some(step) => self.inner.load_fingerprint(&step.fingerprint_name())?,
            None => None,
        };
        print.filter(|print| print.count() > 0).ok_or_else(|| {
            let message = format!("the record of what was installed as `{place}` is gone");
            Error::new(Kind::Verification, "fingerprint-missing", message).hint(
                "nobody can tell what changed there; move it away and run `bolide install` to have it \
                 made anew",
            )
        })
    }
}

/// A comparison under way.
struct Look<'l> {
    /// What was installed, in the order of a walk.
    expected: Vec<&'l Entry>,
    next: usize,
    /// What is below it belongs to this finding.
    covered: Option<(Vec<u8>, Option<usize>)>,
    inside: &'l (dyn Fn(&[u8]) -> bool + Sync),
    found: Inspection,
    /// Which of the paths that were asked for were met.
    matched: Vec<bool>,
    within: &'l [Vec<u8>],
    /// Files that may only be told by their bytes.
    unread: Vec<Unread<'l>>,
}

impl<'l> Look<'l> {
    fn visit(&mut self, visit: &Visit<'_>) -> Result<Onward> {
        self.found.looked_at += 1;
        self.meet(visit.path);
        while let Some(entry) = self.expected(|entry| before(&entry.path, visit.path)) {
            self.missing(entry);
        }
        let Some(entry) = self.expected(|entry| entry.path == visit.path) else {
            self.cover(visit, Difference::Additional);
            return Ok(Onward::Past);
        };
        let status = visit.status;
        if visit.kind() != entry.kind {
            self.cover(visit, Difference::Kind);
            return Ok(Onward::Past);
        }
        if !(self.inside)(visit.path) {
            return Ok(Onward::Into);
        }
        let has_other_mode =
            entry.kind != ObjectKind::Link && status.st_mode & 0o7777 != entry.mode;
        let difference = match entry.kind {
            ObjectKind::File if status.st_size as u64 == entry.size => {
                self.unread.push(Unread { entry, seen: Seen::of(status), has_other_mode });
                return Ok(Onward::Into);
            }
            ObjectKind::File => Some(Difference::Content),
            ObjectKind::Link => link_difference(entry, visit),
            ObjectKind::Directory | ObjectKind::Special => None,
        };
        if let Some(difference) = difference.or(has_other_mode.then_some(Difference::Mode)) {
            self.push(visit.path, difference, 1, Some(Seen::of(status)));
        }
        Ok(Onward::Into)
    }

    /// The next installed path, if it is such a one.
    fn expected(&mut self, is: impl Fn(&Entry) -> bool) -> Option<&'l Entry> {
        let entry = self.expected.get(self.next).copied().filter(|entry| is(entry))?;
        self.next += 1;
        Some(entry)
    }

    fn missing(&mut self, entry: &'l Entry) {
        self.meet(&entry.path);
        if let Some((path, index)) = &self.covered
            && at(&entry.path, path)
        {
            if let Some(finding) = index.and_then(|index| self.found.findings.get_mut(index)) {
                finding.entries += 1;
            }
            return;
        }
        let index = self.push(&entry.path, Difference::Missing, 1, None);
        self.covered = Some((entry.path.clone(), index));
    }

    /// What is in a directory that cannot be listed nobody knows, whatever its permissions are.
    fn blocked(&mut self, visit: &Visit<'_>) {
        let path = visit.path;
        self.found.findings.pop_if(|last| last.path.as_os_str().as_bytes() == path);
        self.cover(visit, Difference::Unreadable);
    }

    /// A finding that stands for everything below it.
    fn cover(&mut self, visit: &Visit<'_>, difference: Difference) {
        let entries = u64::from(difference != Difference::Additional);
        let seen = Some(Seen::of(visit.status));
        let index = self.push(visit.path, difference, entries, seen);
        self.covered = Some((visit.path.to_owned(), index));
    }

    fn push(
        &mut self,
        path: &[u8],
        difference: Difference,
        entries: u64,
        seen: Option<Seen>,
    ) -> Option<usize> {
        if self.found.findings.len() >= VERIFY_FINDINGS_MAX {
            self.found.left_out += 1;
            return None;
        }
        let path = PathBuf::from(OsStr::from_bytes(path));
        self.found.findings.push(Finding { path, difference, entries, seen });
        Some(self.found.findings.len() - 1)
    }

    /// Reads what was met, and puts what was found in the order of the walk.
    fn read(
        &mut self,
        parent: &Directory,
        name: &OsStr,
        crew: Option<&dyn Crew>,
        keep_on: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let unread = std::mem::take(&mut self.unread);
        let differences = match parent.child(name) {
            Ok(root) => contents::read(&root, &unread, crew, keep_on)?,
            // It went away since.
            Err(_) => (0..unread.len()).map(|at| (at, Difference::Unsteady)).collect(),
        };
        let found = differences.into_iter().map(|(at, difference)| {
            let Unread { entry, seen, .. } = &unread[at];
            let path = PathBuf::from(OsStr::from_bytes(&entry.path));
            Finding { path, difference, entries: 1, seen: Some(*seen) }
        });
        let findings = &mut self.found.findings;
        findings.extend(found);
        let bytes = |finding: &Finding| finding.path.as_os_str().as_bytes().to_vec();
        findings.sort_by(|left, right| order(&bytes(left), &bytes(right)));
        let beyond = findings.len().saturating_sub(VERIFY_FINDINGS_MAX);
        findings.truncate(VERIFY_FINDINGS_MAX);
        self.found.left_out += beyond as u64;
        Ok(())
    }

    fn meet(&mut self, path: &[u8]) {
        for (wanted, matched) in self.within.iter().zip(&mut self.matched) {
            *matched |= at(path, wanted);
        }
    }

    /// After the walk, and before anything is put in order: what was not met.
    fn missing_rest(&mut self) {
        while let Some(entry) = self.expected(|_| true) {
            self.missing(entry);
        }
    }

    fn end(self, place: &RelativePath) -> Result<Inspection> {
        // Below something that is not what it was there may be anything.
        let is_covered = |wanted: &[u8]| {
            let findings = self.found.findings.iter();
            findings.map(|it| it.path.as_os_str().as_bytes()).any(|path| at(wanted, path))
        };
        let mut asked = self.within.iter().zip(&self.matched);
        match asked.find(|(wanted, matched)| !**matched && !is_covered(wanted)) {
            None => Ok(self.found),
            Some((wanted, _)) => {
                let path = Path::new(place.as_str()).join(OsStr::from_bytes(wanted));
                let shown = path.to_string_lossy();
                let message = format!("`{}` is not there, and never was", shown.escape_debug());
                Err(Error::new(Kind::Usage, "unknown-path", message)
                    .hint("name a path of an environment, relative to the project"))
            }
        }
    }
}

impl Seen {
    fn of(status: &Stat) -> Self {
        Self {
            inode: status.st_ino,
            mode: status.st_mode,
            size: status.st_size,
            modified_ns: modified_ns(status),
        }
    }
}

/// Whether a path is this one or below it.
pub(super) fn at(path: &[u8], above: &[u8]) -> bool {
    above.is_empty()
        || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn is_away(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || super::project::is_link(error)
}

fn link_difference(entry: &Entry, visit: &Visit<'_>) -> Option<Difference> {
    match visit.content_digest() {
        Ok(digest) => (digest != entry.digest).then_some(Difference::Target),
        Err(_) => Some(Difference::Unreadable),
    }
}
