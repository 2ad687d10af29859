//! Brings one name of a project to its new or its old object, from wherever a crash left it.
//!
//! There are three places: the live name, its slot in `.bolide`, and a spare name beside the slot. Which object
//! is where is read from the disk, by identity; nothing is remembered. So the same function commits, undoes,
//! and repeats either of them after a crash at any point.
//!
//! One exchange of names does it. Where the file system cannot exchange, it takes three renames: live to spare,
//! slot to live, spare to slot. A directory of a lower layer of an overlay cannot be renamed at all: then a copy
//! at the spare name becomes the old object (said in the journal), and what is at the live name is removed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::directory::{Directory, Identity, ObjectKind, RelativePath, is_overlay};
use super::disk::Disk;
use super::fingerprint::Fingerprint;
use super::journal::Item;
use super::project::{Project, Workshop, remove_empty};
use super::torn::is_of_device;
use super::tree;
use crate::error::{Error, Kind, Result};

/// The error of a name at which somebody else was.
pub(super) const MEANWHILE: &str = "changed-meanwhile";

/// The error of a name that cannot be renamed away.
pub(super) const CANNOT_MOVE: &str = "cannot-move";

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The new object goes live.
    Forward,
    /// The old object goes live.
    Back,
}

/// What was found at a live name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The wanted object is live.
    Right,
    /// Somebody has put another object there, after the old one had left its place for good, or where a commit stands.
    Foreign,
}

/// A project and its `.bolide`, open.
pub(super) struct Site<'a> {
    pub(super) disk: &'a Disk,
    pub(super) project: &'a Project,
    /// `None`: gone, by a person's hand or because all was done already.
    pub(super) workshop: Option<&'a Workshop>,
}

struct Places {
    live: (Directory, OsString),
    slot: Option<(Directory, OsString)>,
    spare: OsString,
}

impl Site<'_> {
    /// Brings `item` to where `direction` says.
    pub(super) fn settle(&self, item: &Item, direction: Direction) -> Result<Settled> {
        let (wanted, other) = match direction {
            Direction::Forward => (item.new, item.old),
            Direction::Back => (item.old, item.new),
        };
        let live_path = self.project.path().join(item.live.as_str());
        let failed = |error: io::Error| cannot_move(live_path.clone(), &error);
        let Some(places) = self.places(item)? else {
            // The directory that it lies in is gone, and the name with it.
            return match wanted {
                None => Ok(Settled::Right),
                Some(_) => Err(meanwhile(live_path, "its directory was removed")),
            };
        };
        let (live, live_name) = &places.live;
        let mut now = live.identity(live_name).map_err(failed)?;
        if item.doomed.is_some() && is(now, item.doomed) {
            tree::remove_tree(self.disk, live, live_name)?;
            now = None;
        }
        if !is(now, wanted) {
            let Some((slot, slot_name)) = &places.slot else {
                return self.without_slot(now, other, direction, live_path);
            };
            let in_slot = slot.identity(slot_name).map_err(failed)?;
            let in_spare = slot.identity(&places.spare).map_err(failed)?;
            let at = |identity: Option<Identity>| wanted.is_some() && is(identity, wanted);
            if now.is_some() && !is(now, other) {
                if direction == Direction::Back && !at(in_slot) && !at(in_spare) {
                    return Ok(Settled::Foreign);
                }
                return Err(meanwhile(live_path, "somebody put something else there"));
            }
            let live = (live, live_name.as_os_str());
            let slot_at = (slot, slot_name.as_os_str());
            let spare_at = (slot, places.spare.as_os_str());
            if wanted.is_none() {
                self.disk.rename_to_free(live, slot_at).map_err(failed)?;
            } else if at(in_slot) {
                self.swap(live, slot_at, spare_at, now.is_some()).map_err(failed)?;
            } else if at(in_spare) {
                if now.is_some() {
                    self.disk.rename_to_free(live, slot_at).map_err(failed)?;
                }
                self.disk.rename_to_free(spare_at, live).map_err(failed)?;
            } else {
                return Err(meanwhile(live_path, "the content for it is no longer in `.bolide`"));
            }
        }
        self.tidy(&places).map_err(failed)?;
        Ok(Settled::Right)
    }

    /// Copies the old object of an item to its spare name, where it cannot be moved: a directory of a lower layer
    /// of an overlay. Answers the copy, or `None` where that is not the reason. The copy is on the device.
    pub(super) fn copy_aside(&self, item: &Item) -> Result<Option<Identity>> {
        let path = self.project.path().join(item.live.as_str());
        let failed = |error: io::Error| Error::io("copy", &path, &error);
        let Some(places) = self.places(item)? else { return Ok(None) };
        let (live, live_name) = &places.live;
        let Some((slot, _)) = &places.slot else { return Ok(None) };
        let found = live.identity(live_name).map_err(failed)?;
        let is_directory = found.is_some_and(|found| found.kind == ObjectKind::Directory);
        let here = slot.own_identity().map_err(failed)?.device;
        let same_device = found.is_some_and(|found| found.device == here);
        let overlay = is_overlay(slot).map_err(failed)?;
        if !is_directory || !same_device || !overlay || !is(found, item.old) {
            return Ok(None);
        }
        let print = Fingerprint::record_all(live, live_name)?;
        let target = slot.path().join(&places.spare);
        tree::walk(live, live_name, &|_| false, &mut |visit| {
            self.disk.perform("copy", || Ok(())).map_err(failed)?;
            tree::copy_exactly(visit, &target)
        })?;
        tree::restore_directory_times(live, live_name, &target)?;
        if !print.compare_all(live, live_name)?.is_empty() {
            return Err(meanwhile(path, "it was edited while it was copied"));
        }
        self.disk.sync_file_system(slot).map_err(failed)?;
        slot.identity(&places.spare).map_err(failed)
    }

    /// Whether the new object of an item is live.
    pub(super) fn is_live(&self, item: &Item) -> Result<bool> {
        let Some(Places { live: (live, name), .. }) = self.places(item)? else { return Ok(false) };
        let found = live.identity(&name).map_err(|error| Error::io("look at", live.path(), &error));
        Ok(item.new.is_some() && is(found?, item.new))
    }

    /// Where the new object of an item is: live, or still in its slot. `None` where somebody has put something else there, or where
    /// there is none.
    pub(super) fn find_new(&self, item: &Item) -> Result<Option<(Directory, OsString)>> {
        let Some(Places { live, slot, spare }) = self.places(item)? else { return Ok(None) };
        let spare = slot.as_ref().and_then(|(slot, _)| slot.again().ok()).map(|it| (it, spare));
        for (directory, name) in [Some(live), slot, spare].into_iter().flatten() {
            let found = directory.identity(&name);
            let found = found.map_err(|error| Error::io("look at", directory.path(), &error))?;
            if item.new.is_some() && is(found, item.new) {
                return Ok(Some((directory, name)));
            }
        }
        Ok(None)
    }

    /// Whether the old object of an item lies in its slot.
    pub(super) fn has_old(&self, item: &Item) -> Result<bool> {
        Ok(item.old.is_some() && is(self.in_slot(item)?, item.old))
    }

    /// Whether an item of a committed transaction is not settled: the power went before its names were on the device. Not what
    /// somebody did there since, nor where the slot has its final place, which it gets after the names.
    pub(super) fn is_open(&self, item: &Item) -> Result<bool> {
        let Some(places) = self.places(item)? else {
            // Its directory was made for it, or somebody has removed it.
            return self.waits_in_slot(item);
        };
        let Places { live: (live, name), slot: Some((slot, slot_name)), spare } = &places else {
            return Ok(false);
        };
        let look = |directory: &Directory, name: &OsStr| {
            let found = directory.identity(name);
            found.map_err(|error| Error::io("look at", directory.path(), &error))
        };
        if item.new.is_none() {
            let now = look(live, name)?;
            return Ok(now.is_some() && (is(now, item.old) || is(now, item.doomed)));
        }
        Ok(is(look(slot, slot_name)?, item.new) || is(look(slot, spare)?, item.new))
    }

    /// Whether the old object of an item that is to be nothing was replaced or removed before it could go to its slot again.
    pub(super) fn is_lost(&self, item: &Item) -> Result<bool> {
        let was_removed = item.new.is_none() && item.old.is_some();
        Ok(was_removed && self.slot(item)?.is_some() && !is(self.in_slot(item)?, item.old))
    }

    /// Brings an item of a committed transaction forward once more. What somebody has put in its place, or has removed around it,
    /// is theirs: the old object is gone with that, and the new one would have been, too.
    pub(super) fn settle_again(&self, item: &Item) -> Result<Settled> {
        match self.settle(item, Direction::Forward) {
            Err(error) if error.code == MEANWHILE => Ok(Settled::Foreign),
            settled => settled,
        }
    }

    /// Whether something that is no directory stands where a name has to lie in.
    pub(super) fn is_blocked(&self, name: &RelativePath) -> bool {
        let parent = self.project.root().descend(name.parent().as_ref());
        parent.is_err_and(|error| error.kind() != io::ErrorKind::NotFound && gone(&error))
    }

    /// Whether the new object of an item lies in its slot.
    pub(super) fn waits_in_slot(&self, item: &Item) -> Result<bool> {
        Ok(item.new.is_some() && is(self.in_slot(item)?, item.new))
    }

    /// Where the counterpart of an item lies.
    pub(super) fn slot(&self, item: &Item) -> Result<Option<Directory>> {
        match self.workshop {
            Some(workshop) => workshop.find(&[&item.area, &item.owner]),
            None => Ok(None),
        }
    }

    /// Takes an old object from its spare name to its slot, where that was the last step to be made.
    pub(super) fn take_from_spare(&self, item: &Item) -> Result<()> {
        let Some(places) = self.places(item)? else { return Ok(()) };
        let path = self.project.path().join(item.live.as_str());
        self.tidy(&places).map_err(|error| cannot_move(path, &error))
    }

    /// The digest of the old content of an item, where it is a file in its slot and can be read.
    pub(super) fn old_digest(&self, item: &Item) -> Result<Option<tree::Digest>> {
        let Some(slot) = self.slot(item)? else { return Ok(None) };
        match tree::file_digest(&slot, OsStr::new(&item.slot)) {
            // Somebody has taken it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_of_device(&error) => Ok(None),
            digest => digest.map(Some).map_err(|error| Error::io("read", slot.path(), &error)),
        }
    }

    fn in_slot(&self, item: &Item) -> Result<Option<Identity>> {
        let Some(slot) = self.slot(item)? else { return Ok(None) };
        let found = slot.identity(OsStr::new(&item.slot));
        found.map_err(|error| Error::io("look at", slot.path(), &error))
    }

    /// Waits until the names of these items, and of directories that were made, are on the device.
    pub(super) fn sync(&self, items: &[Item], made: &[RelativePath]) -> Result<()> {
        let mut directories: Vec<(Identity, Directory)> = Vec::new();
        let mut add = |directory: Directory| {
            let identity = directory.own_identity();
            let identity =
                identity.map_err(|error| Error::io("look at", directory.path(), &error))?;
            if directories.iter().all(|(other, _)| *other != identity) {
                directories.push((identity, directory));
            }
            Ok::<_, Error>(())
        };
        for item in items {
            let Some(places) = self.places(item)? else { continue };
            add(places.live.0)?;
            places.slot.map(|(slot, _)| add(slot)).transpose()?;
        }
        for path in made {
            // Somebody may have removed it since.
            self.project.root().descend(path.parent().as_ref()).ok().map(&mut add).transpose()?;
        }
        for (_, directory) in &directories {
            let synced = self.disk.sync(directory);
            synced.map_err(|error| Error::sync_failed(directory.path(), &error))?;
        }
        Ok(())
    }

    /// Makes directories that are missing, parents first.
    pub(super) fn make_directories(&self, directories: &[RelativePath]) -> Result<()> {
        for path in directories {
            let full = self.project.path().join(path.as_str());
            let failed = |error: io::Error| Error::io("create", &full, &error);
            let parent = self.project.root().descend(path.parent().as_ref()).map_err(failed)?;
            if parent.status(path.name()).map_err(failed)?.is_none() {
                self.disk.make_directory(&parent, path.name(), 0o777).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes those of these directories that are empty, in the order given.
    pub(super) fn remove_directories<'a>(
        &self,
        directories: impl Iterator<Item = &'a RelativePath>,
    ) -> Result<()> {
        for path in directories {
            let full = self.project.path().join(path.as_str());
            let failed = |error: io::Error| Error::io("remove", &full, &error);
            match self.project.root().descend(path.parent().as_ref()) {
                Ok(parent) => {
                    let name = path.name().to_string_lossy();
                    remove_empty(self.disk, &parent, &name).map_err(failed)?;
                }
                // A person removed it or put something else there.
                Err(error) if gone(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn places(&self, item: &Item) -> Result<Option<Places>> {
        let full = self.project.path().join(item.live.as_str());
        let parent = match self.project.root().descend(item.live.parent().as_ref()) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open the directory of", &full, &error)),
        };
        let slot = self.slot(item)?;
        Ok(Some(Places {
            live: (parent, item.live.name().to_owned()),
            slot: slot.map(|directory| (directory, OsString::from(&item.slot))),
            spare: OsString::from(format!("{}.spare", item.slot)),
        }))
    }

    fn without_slot(
        &self,
        now: Option<Identity>,
        other: Option<Identity>,
        direction: Direction,
        live: PathBuf,
    ) -> Result<Settled> {
        if direction == Direction::Back && now.is_some() && !is(now, other) {
            return Ok(Settled::Foreign);
        }
        Err(meanwhile(live, "the content for it is no longer in `.bolide`"))
    }

    /// Slot to live and, where there is something live, that to the slot.
    fn swap(
        &self,
        live: (&Directory, &OsStr),
        slot: (&Directory, &OsStr),
        spare: (&Directory, &OsStr),
        occupied: bool,
    ) -> io::Result<()> {
        if !occupied {
            return self.disk.rename_to_free(slot, live);
        }
        match self.disk.exchange(live, slot) {
            Err(error) if cannot_exchange(&error) => {
                self.disk.rename_to_free(live, spare)?;
                self.disk.rename_to_free(slot, live)
            }
            done => done,
        }
    }

    /// What waits at the spare name goes to its slot.
    fn tidy(&self, places: &Places) -> io::Result<()> {
        let Some((slot, name)) = &places.slot else { return Ok(()) };
        if slot.status(&places.spare)?.is_some() && slot.status(name)?.is_none() {
            self.disk.rename_to_free((slot, &places.spare), (slot, name))?;
        }
        Ok(())
    }
}

fn is(found: Option<Identity>, wanted: Option<Identity>) -> bool {
    match (found, wanted) {
        (None, None) => true,
        (Some(found), Some(wanted)) => found.same_object(&wanted),
        _ => false,
    }
}

fn gone(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn cannot_exchange(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::INVAL | Errno::NOSYS | Errno::XDEV | Errno::BUSY))
}

fn cannot_move(live: PathBuf, error: &io::Error) -> Error {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    if matches!(code, Some(Errno::BUSY | Errno::XDEV)) {
        let message = format!(
            "`{}` cannot be replaced as a whole: {error}; it is a mount point, or lies on another file system",
            live.display()
        );
        return Error::new(Kind::Failed, CANNOT_MOVE, message)
            .hint("unmount it, or use a project whose environment is an ordinary directory");
    }
    Error::io("replace", &live, error)
}

fn meanwhile(live: PathBuf, what: &str) -> Error {
    let message = format!("`{}` changed while it was being replaced: {what}", live.display());
    Error::new(Kind::Verification, MEANWHILE, message).hint(
        "move what is there now to another place, then run the command again: it first finishes what was begun",
    )
}
