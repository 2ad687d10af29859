//! A person's edits of what was installed: found by fingerprint, copied aside before they would be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agents_contract::{Crew, Threads};

use super::directory::{Directory, RelativePath};
use super::fingerprint::{Drift, DriftKind, Fingerprint};
use super::limits::KEPT_NAMES_MAX;
use super::torn::{self, is_of_device};
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

    /// The same where one that is damaged, or that the device cannot read, is none.
    pub(super) fn load_whole_fingerprint(&self, name: &str) -> Result<Option<Fingerprint>> {
        let path = self.fingerprints.path().join(name);
        let bound = crate::limits::FINGERPRINT_BYTES_MAX;
        match self.fingerprints.read_file(OsStr::new(name), bound) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| Fingerprint::decode(&bytes, &path).ok())),
            Err(error) if is_of_device(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
            Err(error) => Err(Error::io("read", &path, &error)),
        }
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

    /// The same after a loss of power; false, and nothing is copied, where not all of it can be looked through.
    pub(super) fn keep_edits_of_torn(
        &self,
        transaction: &str,
        live: &str,
        (directory, name): (&Directory, &OsStr),
        print: &Fingerprint,
    ) -> Result<bool> {
        let place = Path::new(live).file_name().unwrap_or_default();
        let Some(edits) = torn::edits(print, (directory, name), place)? else { return Ok(false) };
        let drift = BTreeMap::from([(live.to_owned(), edits)]);
        self.keep(transaction, &drift, &|_| Ok((directory.again()?, name.to_owned())))?;
        Ok(true)
    }

    /// Moves something to where copies of a person's changes go, as it is: that takes no room, and nothing is read. What an earlier
    /// try has copied stays beside it.
    pub(super) fn keep_whole(
        &self,
        transaction: &str,
        live: &str,
        (directory, name): (&Directory, &OsStr),
    ) -> io::Result<()> {
        let target = self.kept(transaction).join(live);
        let (parent, last) = (target.parent(), target.file_name());
        let (Some(parent), Some(last)) = (parent, last) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if directory.status(name)?.is_none() {
            // It has gone there, before that was written down, or there was none.
            return Ok(());
        }
        std::fs::create_dir_all(parent)?;
        let parent = Directory::open(parent)?;
        for count in 0..KEPT_NAMES_MAX {
            let mut fresh = last.to_owned();
            if count > 0 {
                fresh.push(format!(".{count}"));
            }
            match self.disk.rename_to_free((directory, name), (&parent, &fresh)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done,
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
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
