//! An environment mended: a copy of it as it stands, in which what differs is replaced by what was installed.
//!
//! What that was, the record says; where its bytes come from is the caller's business, who has the environment built anew
//! beside it by those who install. Only what fits the record is taken from there, so neither an installer of another version
//! nor another interpreter gets anything in. What is left as it is stays a difference: the record of the new generation says
//! what was installed there, not what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fd::AsRawFd as _;
use rustix::fs::{AtFlags, Mode};

use super::commit::Open;
use super::directory::{Directory, ObjectKind, RelativePath};
use super::fingerprint::{Drift, Fingerprint};
use super::inspect::{Difference, Inspection, at};
use super::tree::{self, Visit};
use crate::error::{Error, Kind, Result};

/// What a commit has to know of an environment that was mended.
#[derive(Clone, Debug, Default)]
pub struct Mended {
    /// How it was found. What is found when it is replaced has to be the same.
    pub seen: Inspection,
    /// Paths that stay as they are, with all that is below them.
    pub left: BTreeSet<PathBuf>,
    /// Paths that are what was installed again.
    pub restored: u64,
}

impl Mended {
    /// Whether a path stays as it is.
    pub(super) fn leaves(&self, path: &[u8]) -> bool {
        self.left.iter().any(|left| at(path, left.as_os_str().as_bytes()))
    }

    /// What of a person's changes the mended environment has no more.
    pub(super) fn taken_away(&self, drift: Drift) -> Drift {
        let findings = self.seen.findings.iter();
        // The content of these is what was installed; permissions are nothing that is kept.
        let modes: BTreeSet<&PathBuf> =
            findings.filter(|it| it.difference == Difference::Mode).map(|it| &it.path).collect();
        let is_taken =
            |path: &PathBuf| !modes.contains(path) && !self.leaves(path.as_os_str().as_bytes());
        drift.into_iter().filter(|(path, _)| is_taken(path)).collect()
    }

    /// The record of the new generation: `fresh` is that of the files as they are.
    pub(super) fn record(&self, fresh: Fingerprint, installed: &Fingerprint) -> Fingerprint {
        fresh.with(installed, &|path| self.leaves(path))
    }
}

impl Open<'_> {
    /// Brings back into the directory `staged` of the staging directory, a copy of what stands at `place` without what is
    /// taken from it, what was installed as the findings of `seen` that are `taken`, by their positions. It comes from the
    /// directory `reference` beside it, which may hold more.
    pub fn mend(
        &self,
        place: &RelativePath,
        seen: Inspection,
        taken: &BTreeSet<usize>,
        (staged, reference): (&str, &str),
    ) -> Result<Mended> {
        let installed = self.session.standing_fingerprint(place)?;
        let mut mended = Mended::default();
        let mut wanted: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (index, finding) in seen.findings.iter().enumerate() {
            let path = finding.path.as_os_str().as_bytes();
            match finding.difference {
                _ if !taken.contains(&index) => {
                    mended.left.insert(finding.path.clone());
                }
                Difference::Additional => {}
                _ => {
                    wanted.insert(path.to_owned());
                }
            }
        }
        let is_wanted = |path: &[u8]| {
            wanted.contains(path)
                || path.iter().enumerate().any(|(end, byte)| {
                    *byte == b'/' && wanted.contains(path.get(..end).unwrap_or_default())
                })
                || wanted.contains(&b""[..])
        };
        let entries = installed.entries().iter().filter(|entry| is_wanted(&entry.path));
        let mut missing: BTreeMap<&[u8], _> =
            entries.map(|entry| (entry.path.as_slice(), entry)).collect();
        tree::walk(&self.staging, OsStr::new(reference), &|_| false, &mut |visit| {
            let Some(entry) = missing.get(visit.path).copied() else { return Ok(()) };
            let is_right = visit.kind() == entry.kind
                && (entry.kind != ObjectKind::File || visit.status.st_size as u64 == entry.size)
                && visit.content_digest()? == entry.digest;
            if is_right && self.bring_back(visit, staged, entry.mode)? {
                missing.remove(visit.path);
                mended.restored += 1;
            }
            Ok(())
        })?;
        let unmended = missing.into_keys().map(|path| PathBuf::from(OsStr::from_bytes(path)));
        mended.left.extend(unmended);
        mended.seen = seen;
        Ok(mended)
    }

    /// Copies an entry to its place in `staged`; false where its directory is not there. What is there already, which only
    /// lacked its permissions, gets them.
    fn bring_back(&self, visit: &Visit<'_>, staged: &str, mode: u32) -> Result<bool> {
        let at = self.staging.path().join(staged).join(OsStr::from_bytes(visit.path));
        let failed = |error: io::Error| Error::io("bring back", &at, &error);
        let path = match visit.path {
            b"" => staged.as_bytes().to_vec(),
            path => [staged.as_bytes(), b"/", path].concat(),
        };
        let mut parts: Vec<&OsStr> =
            path.split(|byte| *byte == b'/').map(OsStr::from_bytes).collect();
        let Some(name) = parts.pop() else { return Ok(false) };
        let Some(parent) = descend(&self.staging, &parts).map_err(failed)? else {
            return Ok(false);
        };
        match parent.identity(name).map_err(failed)? {
            Some(found) if found.kind != visit.kind() => return Ok(false),
            Some(_) => {}
            None => {
                // Through the descriptor, so that nothing that was copied along leads elsewhere.
                let target = PathBuf::from(format!("/proc/self/fd/{}", fd_of(&parent))).join(name);
                tree::copy_exactly(&Visit { path: b"", ..*visit }, &target)?;
            }
        }
        if visit.kind() != ObjectKind::Link {
            rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(|errno| failed(errno.into()))?;
        }
        Ok(true)
    }
}

fn fd_of(directory: &Directory) -> i32 {
    use rustix::fd::AsFd as _;
    directory.as_fd().as_raw_fd()
}

/// The directory below `from`, reached without links; `None` where there is none.
fn descend(from: &Directory, parts: &[&OsStr]) -> io::Result<Option<Directory>> {
    let mut directory = from.again()?;
    for part in parts {
        directory = match directory.child(part) {
            Ok(next) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if super::project::is_link(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
    }
    Ok(Some(directory))
}

/// The refusal of an environment that is not as it was when its repair began.
pub(super) fn changed_meanwhile(place: &RelativePath) -> Error {
    let message = format!("`{place}` changed while it was being repaired; nothing was changed");
    Error::new(Kind::Verification, "changed-meanwhile", message)
        .hint("end what writes there, then run the command again")
        .retryable()
}
