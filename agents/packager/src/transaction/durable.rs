//! What a transaction waits for, and when: for its intent and for its commit record, and for the rest when it ends, which is after
//! the answer to an installation or a large rollback in the daemon and before any other.
//!
//! Everything else is on the device with one of the two, or is not needed after a loss of power as long as the journal is there:
//! the journal says it all, and does not go before the rest is waited for ([`Session::wait_for_rest`]).

use std::io;

use super::directory::Directory;
use super::journal::{Begin, Intent, Journal};
use super::order::Order;
use super::project::{GENERATIONS, STAGING, TRASH, Workshop};
use super::{Inner, Session};
use crate::error::{Error, Result};

impl Inner {
    /// Whether a part of the state lies on another file system than `place`.
    pub(super) fn is_apart(&self, place: &Directory) -> Result<bool> {
        let failed = |error: io::Error| Error::io("look at", place.path(), &error);
        let device = |directory: &Directory| {
            rustix::fs::fstat(directory).map(|status| status.st_dev).map_err(|it| failed(it.into()))
        };
        let own = device(place)?;
        let state = rustix::fs::stat(&self.state).map_err(|errno| failed(errno.into()))?.st_dev;
        let parts = [device(&self.journals)?, device(&self.fingerprints)?, state];
        Ok(parts.iter().any(|part| *part != own))
    }

    fn sync(&self, directory: &Directory) -> Result<()> {
        let synced = self.disk.sync(directory);
        synced.map_err(|error| Error::sync_failed(directory.path(), &error))
    }
}

impl Session {
    /// What the file systems of this project and of the state directory keep in order.
    pub(super) fn order(&self) -> Order {
        self.inner.disk.order(self.project.root(), &self.inner.journals)
    }

    /// Waits for an intent, and for all that must not be lost when names have changed: what is staged, the fingerprints of it, the
    /// plan and who agreed to it.
    pub(super) fn make_all_durable(
        &self,
        transaction: &str,
        journal: &Journal,
        staging: &Directory,
    ) -> Result<()> {
        let inner = &*self.inner;
        self.sync_all(staging)?;
        if !inner.is_apart(staging)? {
            // An older kernel tells nothing of what it could not write; of the intent it has to.
            return if tells_of_failures() { Ok(()) } else { journal.sync(&inner.disk) };
        }
        // The contents of fingerprints are there already: each was waited for through its own descriptor, as whoever shares one
        // with others may not hear of an error that one of them was told.
        inner.sync(&inner.fingerprints)?;
        inner.database.sync(transaction, true)?;
        journal.sync(&inner.disk)
    }

    /// Waits for everything on the file system of the project, and is told what could not be written since the project was opened, which
    /// is before anything of this was fetched. An error of the device is told once to each descriptor that was open when it came, and
    /// to later ones only until somebody was told: one that was opened for what is staged would not hear of what somebody else's wait
    /// (another transaction's, or one for packages that come) has brought up.
    fn sync_all(&self, staging: &Directory) -> Result<()> {
        let disk = &self.inner.disk;
        let failed = |error: io::Error| Error::sync_failed(staging.path(), &error);
        let device = |directory: &Directory| {
            rustix::fs::fstat(directory).map(|status| status.st_dev).map_err(io::Error::from)
        };
        let root = self.project.root();
        disk.sync_file_system(root).map_err(failed)?;
        if device(root).map_err(failed)? != device(staging).map_err(failed)? {
            disk.sync_file_system(staging).map_err(failed)?;
        }
        Ok(())
    }

    /// Waits for copies of a person's edits, before what they are copies of is deleted.
    pub(super) fn wait_for_kept(&self, transaction: &str) -> Result<()> {
        let inner = &*self.inner;
        if !inner.kept(transaction).is_dir() {
            return Ok(());
        }
        let synced = inner.disk.sync_file_system(&inner.fingerprints);
        synced.map_err(|error| Error::sync_failed(&inner.kept(transaction), &error))
    }

    /// Waits for what a commit record leaves to be waited for: the names of generations, and what the database was told; all of it
    /// where people were answered before.
    pub(super) fn wait_for_rest(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        if intent.start.is_some() {
            return self.wait_for_answered(begin, intent);
        }
        let Order { keeps_journal } = self.order();
        if !keeps_journal {
            self.wait_for_areas(Workshop::existing(&self.project)?.as_ref())?;
        }
        // Where the journal is kept in order with the names, it goes after them, whenever that is.
        self.inner.database.sync(&begin.id, !keeps_journal)
    }

    fn wait_for_areas(&self, workshop: Option<&Workshop>) -> Result<()> {
        let Some(workshop) = workshop else { return Ok(()) };
        for area in [GENERATIONS, STAGING, TRASH] {
            if let Some(area) = workshop.find(&[area])? {
                self.inner.sync(&area)?;
            }
        }
        Ok(())
    }

    /// Waits for what was removed from an area, where the journal could go before it.
    pub(super) fn wait_for_area(&self, area: &Directory) -> Result<()> {
        if self.order().keeps_journal { Ok(()) } else { self.inner.sync(area) }
    }

    /// Removes areas that nothing is in any more, and waits for that where the journal could go before them.
    pub(super) fn remove_empty_areas(&self, workshop: &Workshop) -> Result<()> {
        workshop.remove_empty_areas(&self.inner.disk)?;
        if self.order().keeps_journal { Ok(()) } else { self.inner.sync(workshop.root()) }
    }
}

/// Whether `syncfs` answers errors of the device, which it does since Linux 5.8.
pub(super) fn tells_of_failures() -> bool {
    is_since_5_8(&rustix::system::uname().release().to_string_lossy())
}

fn is_since_5_8(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 8),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_kernel_does_not_tell_is_asked_for() {
        for (release, expected) in [
            ("5.8.0-1-amd64", true),
            ("6.1.0", true),
            ("10.0", true),
            ("5.10-rc1", true),
            ("5.7.19", false),
            ("4.19.0-26-amd64", false),
            ("5", false),
            ("", false),
        ] {
            assert_eq!(is_since_5_8(release), expected, "{release}");
        }
    }
}
