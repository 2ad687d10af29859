//! What a commit looks at before its intent: the names that change, what is to be there, and what a person changed of what
//! is there now. It changes nothing of the project.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;

use agents_contract::{Crew, Threads};

use super::commit::{Change, Expected, Open, live_identity, stale};
use super::database::fingerprint_name;
use super::directory::{Identity, ObjectKind, RelativePath};
use super::fingerprint::{Drift, Fingerprint, Told};
use super::journal::Item;
use super::mend::{Mended, changed_meanwhile};
use super::project::{STAGING, linked};
use crate::error::{Error, Kind, Result};
use crate::limits::CHANGES_MAX;

/// What there is to change, and what a person changed meanwhile.
pub(super) struct Looked {
    pub(super) directories: Vec<RelativePath>,
    pub(super) items: Vec<Item>,
    pub(super) drift: BTreeMap<String, Drift>,
    /// What a person changed in an environment that is mended, and is taken away by that.
    pub(super) taken_away: BTreeMap<String, Drift>,
}

impl Open<'_> {
    /// Looks at every file of what is to be made live, and of what it replaces.
    pub(super) fn look(
        &self,
        changes: &[Change],
        mended: Option<&BTreeMap<RelativePath, Mended>>,
        mut prints: Vec<Option<Told>>,
    ) -> Result<Looked> {
        let mut directories = Vec::new();
        let mut items = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            let removal = change.staged.is_none() && !matches!(change.expected, Expected::File(_));
            if removal && live_identity(&self.session.project, &change.live)?.is_none() {
                // A removal of what is not there changes nothing.
                continue;
            }
            self.missing_directories(&change.live, &mut directories)?;
            let mended = mended.and_then(|mended| mended.get(&change.live));
            let print = prints.get_mut(index).and_then(Option::take);
            items.push(self.item(items.len(), change, mended, print)?);
        }
        let mut drift = self.drift(&items)?;
        let mut taken_away = BTreeMap::new();
        for (place, mended) in mended.into_iter().flatten() {
            if self.session.inspect(place, &[], None, &|| Ok(()))? != mended.seen {
                return Err(changed_meanwhile(place));
            }
            if let Some(drift) = drift.remove(place.as_str()) {
                taken_away.insert(place.as_str().to_owned(), mended.taken_away(drift));
            }
        }
        Ok(Looked { directories, items, drift, taken_away })
    }

    /// What staged trees consist of, told by a crew; of everything else the look tells.
    pub(super) fn staged_prints(
        &self,
        changes: &[Change],
        crew: &dyn Crew,
    ) -> Result<Vec<Option<Told>>> {
        let print = |change: &Change| {
            let Some(name) = &change.staged else { return Ok(None) };
            if self.staged_identity(name)?.kind != ObjectKind::Directory {
                return Ok(None);
            }
            let staged = (&self.staging, OsStr::new(name));
            let print = Fingerprint::record_by(crew, staged, change.live.name(), &self.written);
            Ok(Some(Told::of(print?, crew)))
        };
        changes.iter().map(print).collect()
    }

    fn item(
        &self,
        position: usize,
        change: &Change,
        mended: Option<&Mended>,
        print: Option<Told>,
    ) -> Result<Item> {
        let project = &self.session.project;
        let full = project.path().join(change.live.as_str());
        let old = live_identity(&self.session.project, &change.live)?;
        let slot = change.staged.clone().unwrap_or_else(|| format!("removed-{position}"));
        RelativePath::new(&slot)?;
        let new = match &change.staged {
            Some(name) => Some(self.staged_identity(name)?),
            None => None,
        };
        let old_sha256 = match (&change.expected, old) {
            (Expected::Absent, Some(_)) => {
                return Err(stale(&change.live, "it exists now"));
            }
            (Expected::File(_), None) => return Err(stale(&change.live, "it is gone")),
            (Expected::File(content), Some(_)) => {
                if project.content(&change.live)?.as_ref() != Some(content) {
                    return Err(stale(&change.live, "it was edited"));
                }
                Some(content.sha256.clone())
            }
            (_, Some(Identity { kind: ObjectKind::File, .. })) => {
                project.content(&change.live)?.map(|content| content.sha256)
            }
            _ => None,
        };
        if new.is_some_and(|new| matches!(new.kind, ObjectKind::Link | ObjectKind::Special)) {
            return Err(linked(&full));
        }
        let mut fingerprint = None;
        if new.is_some() {
            let place = change.live.name();
            let record =
                || Fingerprint::record(&self.staging, OsStr::new(&slot), place, &self.written);
            let told = match (print, mended) {
                (Some(told), None) => told,
                (told, mended) => {
                    let mut print = told.map_or_else(record, |told| Ok(told.print))?;
                    if let Some(mended) = mended {
                        let standing = self.session.standing_fingerprint(&change.live)?;
                        print = mended.record(print, &standing);
                    }
                    Told::of(print, &Threads(1))
                }
            };
            tracing::debug!(live = %change.live, entries = told.print.count(), "recorded what is installed");
            let name = fingerprint_name(&self.begin.id, position);
            self.session.inner.save_fingerprint(&name, &told.encoded, self.is_apart()?)?;
            fingerprint = Some(told.digest);
        }
        Ok(Item {
            live: change.live.clone(),
            area: STAGING.to_owned(),
            owner: self.begin.id.clone(),
            slot,
            old,
            new,
            doomed: None,
            old_sha256,
            new_sha256: None,
            environment: change.environment,
            fingerprint,
            is_left: false,
        })
    }

    fn staged_identity(&self, name: &str) -> Result<Identity> {
        let path = self.staging.path().join(name);
        if name.contains('/') {
            let message = format!("`{}` is not directly in the staging directory", path.display());
            return Err(Error::new(Kind::Usage, "bad-path", message));
        }
        let found = self.staging.identity(OsStr::new(name));
        found
            .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|error| Error::io("find", &path, &error))
    }

    /// Collects the directories above `live` that have to be made.
    fn missing_directories(
        &self,
        live: &RelativePath,
        missing: &mut Vec<RelativePath>,
    ) -> Result<()> {
        let mut next = live.parent();
        while let Some(path) = next {
            next = path.parent();
            let found = live_identity(&self.session.project, &path)?;
            match found.map(|found| found.kind) {
                Some(ObjectKind::Directory) => return Ok(()),
                Some(_) => {
                    let full = self.session.project.path().join(path.as_str());
                    let message = format!("`{}` is not a directory", full.display());
                    return Err(Error::new(Kind::Failed, "not-a-directory", message));
                }
                None if missing.contains(&path) => return Ok(()),
                None => missing.push(path),
            }
        }
        Ok(())
    }

    /// What a person changed in the environments that are about to be replaced. Files are not looked at: the
    /// plan was made from what they hold now.
    fn drift(&self, items: &[Item]) -> Result<BTreeMap<String, Drift>> {
        let mut drift = BTreeMap::new();
        for item in items {
            if item.old.is_some_and(|old| old.kind == ObjectKind::Directory) {
                self.session.drift_at(&item.live, &mut drift)?;
            }
        }
        Ok(drift)
    }
}

pub(super) fn check_overlap(changes: &[Change]) -> Result<()> {
    if changes.len() > CHANGES_MAX {
        let message = format!("{} changes at once; the limit is {CHANGES_MAX}", changes.len());
        return Err(Error::new(Kind::Usage, "too-many-changes", message));
    }
    let mut sorted: Vec<_> = changes.iter().map(|change| &change.live).collect();
    sorted.sort();
    for pair in sorted.windows(2) {
        if let [left, right] = pair
            && left.overlaps(right)
        {
            let message = format!("`{left}` and `{right}` are changed at once, one in the other");
            return Err(Error::new(Kind::Usage, "overlapping-changes", message));
        }
    }
    let mut staged: Vec<_> = changes.iter().filter_map(|change| change.staged.as_ref()).collect();
    staged.sort();
    if let Some([name, _]) = staged.windows(2).find(|pair| pair.first() == pair.last()) {
        let message = format!("`{name}` of the staging directory is meant for two places");
        return Err(Error::new(Kind::Usage, "overlapping-changes", message));
    }
    Ok(())
}
