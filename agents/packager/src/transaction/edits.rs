//! A person's edits of what was installed: found by fingerprint, copied aside before they would be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agents_contract::{Crew, Threads};

use super::directory::{Directory, ObjectKind, RelativePath};
use super::fingerprint::{Drift, DriftKind, Fingerprint};
use super::tree;
use super::{Inner, Session};
use crate::error::{Error, Kind, Result};

impl Session {
    /// Whether a person changed what we installed last as `live`; false where nothing of ours stands there.
    pub fn is_edited(&self, live: &RelativePath) -> Result<bool> {
        self.is_edited_by(&Threads(1), live)
    }

    /// The same where a crew looks.
    pub(crate) fn is_edited_by(&self, crew: &dyn Crew, live: &RelativePath) -> Result<bool> {
        let mut drift = BTreeMap::new();
        self.drift_seen_by(crew, live, &mut drift)?;
        Ok(!drift.is_empty())
    }

    /// Adds how `live` differs from what we installed there last, if it does.
    pub(super) fn drift_at(
        &self,
        live: &RelativePath,
        drift: &mut BTreeMap<String, Drift>,
    ) -> Result<()> {
        self.drift_seen_by(&Threads(1), live, drift)
    }

    /// The same where a crew looks.
    pub(super) fn drift_seen_by(
        &self,
        crew: &dyn Crew,
        live: &RelativePath,
        drift: &mut BTreeMap<String, Drift>,
    ) -> Result<()> {
        let steps = self.inner.database.steps_at(&self.project.key(), live)?;
        let Some(step) = steps.first() else { return Ok(()) };
        let print = self.inner.load_fingerprint(&step.fingerprint_name())?.unwrap_or_default();
        if step.item.new.is_some() && print.count() == 0 {
            let message = format!("the record of what was installed as `{live}` is gone");
            return Err(Error::new(Kind::Verification, "fingerprint-missing", message)
                .hint("look yourself what you changed there, move it away, then try again"));
        }
        let parent = match self.project.root().descend(live.parent().as_ref()) {
            Ok(parent) => parent,
            Err(_) if print.count() == 0 => return Ok(()),
            Err(error) => {
                return Err(Error::io("open", &self.project.path().join(live.as_str()), &error));
            }
        };
        let found = print.compare_by(crew, (&parent, live.name()), live.name())?;
        if !found.is_empty() {
            drift.insert(live.as_str().to_owned(), found);
        }
        Ok(())
    }

    /// Copies what was edited at these live names.
    pub(super) fn keep_live(&self, id: &str, drift: &BTreeMap<String, Drift>) -> Result<()> {
        self.inner.keep(id, drift, &|live| {
            let live = RelativePath::new(live).map_err(io::Error::other)?;
            let parent = self.project.root().descend(live.parent().as_ref())?;
            Ok((parent, live.name().to_owned()))
        })
    }
}

impl Inner {
    /// Reads a fingerprint, `None` where there is none.
    pub(super) fn load_fingerprint(&self, name: &str) -> Result<Option<Fingerprint>> {
        let path = self.fingerprints.path().join(name);
        let bytes = self
            .fingerprints
            .read_file(OsStr::new(name), crate::limits::FINGERPRINT_BYTES_MAX)
            .map_err(|error| Error::io("read", &path, &error))?;
        bytes.map(|bytes| Fingerprint::decode(&bytes, &path)).transpose()
    }

    /// Writes a fingerprint. It is on the device when this returns where `is_apart`, else with the intent
    /// ([`Session::make_all_durable`]).
    pub(super) fn save_fingerprint(
        &self,
        name: &str,
        encoded: &[u8],
        is_apart: bool,
    ) -> Result<()> {
        let path = self.fingerprints.path().join(name);
        let failed = |error: io::Error| Error::io("write", &path, &error);
        let fresh = OsString::from(name);
        let file = self
            .disk
            .perform("create", || self.fingerprints.create_file(&fresh, 0o600))
            .map_err(failed)?;
        self.disk.append(&file, encoded).map_err(failed)?;
        if is_apart { self.disk.sync(&file).map_err(failed) } else { Ok(()) }
    }

    /// Removes all fingerprints of a transaction.
    pub(super) fn forget_fingerprints(&self, transaction: &str) -> Result<()> {
        let directory = &self.fingerprints;
        let failed = |name: &OsStr, error: io::Error| {
            Error::io("remove", &directory.path().join(name), &error)
        };
        let prefix = format!("{transaction}.");
        for name in directory.names().map_err(|error| failed(OsStr::new(""), error))? {
            if name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                match self.disk.unlink(directory, &name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(&name, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Where copies of a person's changes go that a transaction takes away.
    pub(super) fn kept(&self, transaction: &str) -> PathBuf {
        self.state.join("kept").join(transaction)
    }

    /// Compares what lies at `slot` with what was installed as `live`, and copies what was edited or added.
    pub(super) fn keep_edits(
        &self,
        transaction: &str,
        live: &str,
        (directory, name): (&Directory, &OsStr),
        print: &Fingerprint,
    ) -> Result<()> {
        let place = Path::new(live).file_name().unwrap_or_default();
        let drift = print.compare(directory, name, place)?;
        let drift = BTreeMap::from([(live.to_owned(), drift)]);
        self.keep(transaction, &drift, &|_| Ok((directory.again()?, name.to_owned())))
    }

    /// The same after a loss of power, which can have emptied files that nobody edited: those say nothing.
    pub(super) fn keep_edits_that_say_something(
        &self,
        transaction: &str,
        live: &str,
        (directory, name): (&Directory, &OsStr),
        print: &Fingerprint,
    ) -> Result<()> {
        let place = Path::new(live).file_name().unwrap_or_default();
        let drift = print.compare(directory, name, place)?;
        let drift: BTreeMap<PathBuf, DriftKind> = drift.into_iter().collect();
        let mut said = Drift::new();
        tree::walk(directory, name, &|_| false, &mut |visit| {
            let path = Path::new(OsStr::from_bytes(visit.path));
            if let Some(kind) = drift.get(path)
                && says_something(visit)?
            {
                said.push((path.to_owned(), *kind));
            }
            Ok(())
        })?;
        let drift = BTreeMap::from([(live.to_owned(), said)]);
        self.keep(transaction, &drift, &|_| Ok((directory.again()?, name.to_owned())))
    }

    /// Copies what was edited or added to the state directory.
    pub(super) fn keep(
        &self,
        transaction: &str,
        drift: &BTreeMap<String, Drift>,
        locate: &dyn Fn(&str) -> io::Result<(Directory, OsString)>,
    ) -> Result<()> {
        for (live, drift) in drift {
            let wanted: BTreeSet<&Path> = drift
                .iter()
                .filter(|(_, kind)| *kind != DriftKind::Removed)
                .map(|(path, _)| path.as_path())
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let target = self.kept(transaction).join(live);
            let failed = |error: io::Error| Error::io("open", Path::new(live), &error);
            let (directory, name) = locate(live).map_err(failed)?;
            tree::walk(&directory, &name, &|_| false, &mut |visit| {
                let path = Path::new(OsStr::from_bytes(visit.path));
                if !wanted.contains(path) {
                    return Ok(());
                }
                let target =
                    if path.as_os_str().is_empty() { target.clone() } else { target.join(path) };
                self.disk
                    .perform("keep", || Ok(()))
                    .map_err(|error| Error::io("keep a copy as", &target, &error))?;
                tree::copy_entry(visit, &target)
            })?;
        }
        Ok(())
    }
}

/// Whether an entry is anything but a file of nothing, or of zeroes. A directory says what is in it.
fn says_something(visit: &tree::Visit<'_>) -> Result<bool> {
    match visit.kind() {
        ObjectKind::File => {}
        ObjectKind::Link => return Ok(true),
        ObjectKind::Directory | ObjectKind::Special => return Ok(false),
    }
    let failed =
        |error: io::Error| Error::io("read", &visit.directory.path().join(visit.name), &error);
    let mut file = visit.directory.open_file(visit.name).map_err(failed)?;
    let mut bytes = [0; 8192];
    loop {
        match file.read(&mut bytes).map_err(failed)? {
            0 => return Ok(false),
            count if bytes.iter().take(count).any(|byte| *byte != 0) => return Ok(true),
            _ => {}
        }
    }
}
