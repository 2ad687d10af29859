//! Removing from the store what nobody needs any more, or as much of it as is too much.
//!
//! What is needed is the caller's to say (plans that stand or wait); what transactions under way need, here or in other processes,
//! their leases say. The rest is a cache: it goes by the time of its last use, the oldest first, and only as far as the store is too
//! large. Files that belong to no artefact, and everything unfinished, always go.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agents_contract::Cancellation;
use rustix::fs::{AtFlags, Stat};

use super::object::Object;
use super::{Store, entry};
use crate::error::{Error, Kind, Result};
use crate::limits::{self, STORE_FILES_MAX};
use crate::metadata::Hashes;
use crate::store::Form;

/// The file whose time says when a collection looked at the store.
const LOOKED: &str = "looked";

/// Files that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many.
    pub files: u64,
    /// What they took on the disk. A file that an environment has, too, takes nothing more here.
    pub bytes: u64,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Artefacts.
    pub artefacts: u64,
    /// Those of them that are needed.
    pub artefacts_needed: u64,
    /// Bytes on the disk; not those of files that environments have, too.
    pub bytes: u64,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What was there before.
    pub before: Usage,
    /// Artefacts that were removed.
    pub artefacts: u64,
    /// The files, entries of the index among them.
    pub freed: Freed,
}

/// Which artefacts are needed; asked when nobody else is in the store.
pub type Needed<'a> = &'a mut dyn FnMut() -> Result<Vec<(Hashes, Form)>>;

/// One artefact in the index.
struct Artefact {
    /// Its names there, one for each digest.
    names: Vec<String>,
    last_use: SystemTime,
    bytes: u64,
    is_needed: bool,
    objects: Vec<[u8; 32]>,
}

/// One stored content.
#[derive(Default)]
struct Counted {
    /// Artefacts that have it.
    users: u32,
    files: u32,
    bytes: u64,
}

/// One artefact as it was downloaded.
struct Archive {
    path: PathBuf,
    last_use: SystemTime,
    bytes: u64,
}

/// What may go.
enum Victim {
    Artefact(Artefact),
    Archive(Archive),
}

impl Victim {
    fn last_use(&self) -> SystemTime {
        match self {
            Self::Artefact(artefact) => artefact.last_use,
            Self::Archive(archive) => archive.last_use,
        }
    }
}

/// Everything that was found.
#[derive(Default)]
struct Census {
    artefacts: Vec<Artefact>,
    archives: Vec<Archive>,
    objects: HashMap<[u8; 32], Counted>,
    bytes: u64,
}

impl Store {
    /// Removes what is not needed, the least recently used first, until at most `bytes_max` are left; nothing but garbage where the
    /// store is no larger. Refused with `store-busy` while somebody stays inside. A cancelled one ends between two removals.
    pub fn collect(
        &self,
        needed: Needed<'_>,
        bytes_max: u64,
        cancellation: &Cancellation,
    ) -> Result<Collected> {
        let _alone = self.gate.enter_alone(limits::STORE_COLLECTION_PATIENCE)?;
        let mut freed = Freed::default();
        let mut census = self.census(needed, &mut freed)?;
        let before = census.usage();
        let target = match census.bytes > bytes_max {
            true => bytes_max / 100 * limits::STORE_COLLECTED_PERCENT,
            false => u64::MAX,
        };
        let artefacts = std::mem::take(&mut census.artefacts).into_iter();
        let archives = std::mem::take(&mut census.archives).into_iter().map(Victim::Archive);
        let artefacts = artefacts.filter(|artefact| !artefact.is_needed).map(Victim::Artefact);
        let mut victims: Vec<Victim> = artefacts.chain(archives).collect();
        victims.sort_unstable_by_key(Victim::last_use);
        let mut removed = 0;
        for victim in victims {
            if census.bytes <= target {
                break;
            }
            Error::if_cancelled(cancellation)?;
            match victim {
                Victim::Artefact(artefact) => {
                    self.evict(&artefact, &mut census, &mut freed)?;
                    removed += 1;
                }
                Victim::Archive(archive) => {
                    census.bytes = census.bytes.saturating_sub(archive.bytes);
                    self.remove_path(&archive.path, archive.bytes, &mut freed)?;
                }
            }
        }
        self.remove_unfinished(&mut freed)?;
        self.note_look();
        Ok(Collected { before, artefacts: removed, freed })
    }

    /// Everything in the store was looked at just now.
    pub(super) fn note_look(&self) {
        // Without it the next process looks again, which harms nobody.
        let _ = fs::write(self.root.join(LOOKED), b"");
    }

    /// Whether a collection looked at the store within this time.
    pub fn was_looked_at(&self, within: Duration) -> bool {
        let looked = self.root.join(LOOKED).metadata().and_then(|metadata| metadata.modified());
        let age = looked.ok().and_then(|looked| SystemTime::now().duration_since(looked).ok());
        age.is_some_and(|age| age < within)
    }

    /// Compares every stored file with its digest; what is damaged is removed, and its artefacts are forgotten. Answers how many
    /// artefacts those are.
    pub fn verify(&self, wanted: &mut dyn FnMut() -> Result<()>) -> Result<u64> {
        let mut damaged = HashSet::new();
        for folder in list(&self.root.join("index"))? {
            for path in list(&folder)? {
                wanted()?;
                let Some(name) = relative(&self.root.join("index"), &path) else { continue };
                // One artefact at a time, so that others get in between.
                let _use = self.gate.enter(Cancellation::NEVER)?;
                let Some((entry, digest)) = entry::read_any(&self.index, name) else { continue };
                let bad =
                    entry.files.iter().filter(|file| !self.object_is_good(&file.object, true));
                // All of them are looked at, so that each is stored anew.
                if bad.count() > 0 {
                    let _ = rustix::fs::unlinkat(&self.index, name, AtFlags::empty());
                    damaged.insert(digest);
                }
            }
        }
        Ok(damaged.len() as u64)
    }

    /// Everything that is there, without what belongs to nobody, which is removed.
    fn census(&self, needed: Needed<'_>, freed: &mut Freed) -> Result<Census> {
        let mut kept = self.leased()?;
        for (hashes, form) in needed()? {
            kept.extend(entry::names(&hashes, form));
        }
        let mut census = Census::default();
        self.count_artefacts(&kept, &mut census, freed)?;
        self.count_objects("files", &self.files, &mut census, freed)?;
        self.count_objects("lent", &self.lent, &mut census, freed)?;
        for folder in list(&self.root.join("archives"))? {
            for path in list(&folder)? {
                use std::os::unix::fs::MetadataExt as _;
                let Ok(metadata) = path.symlink_metadata() else { continue };
                let bytes = metadata.blocks() * 512;
                let last_use = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                census.bytes += bytes;
                census.archives.push(Archive { path, last_use, bytes });
            }
        }
        Ok(census)
    }

    fn count_artefacts(
        &self,
        kept: &HashSet<String>,
        census: &mut Census,
        freed: &mut Freed,
    ) -> Result<()> {
        let index = self.root.join("index");
        // The names of one artefact hold equal bytes.
        let mut known: HashMap<[u8; 32], usize> = HashMap::new();
        for folder in list(&index)? {
            for path in list(&folder)? {
                let name = relative(&index, &path);
                let status = name.and_then(|name| status(&self.index, name));
                let (Some(name), Some(status)) = (name, status) else { continue };
                let Some((entry, digest)) = entry::read_any(&self.index, name) else {
                    self.remove(&self.index, name, &status, freed)?;
                    continue;
                };
                let place = *known.entry(digest).or_insert_with(|| {
                    let objects: HashSet<[u8; 32]> =
                        entry.files.iter().map(|file| file.object.digest).collect();
                    for object in &objects {
                        census.objects.entry(*object).or_default().users += 1;
                    }
                    census.artefacts.push(Artefact {
                        names: Vec::new(),
                        last_use: SystemTime::UNIX_EPOCH,
                        bytes: 0,
                        is_needed: false,
                        objects: objects.into_iter().collect(),
                    });
                    census.artefacts.len() - 1
                });
                let artefact = &mut census.artefacts[place];
                let seconds = u64::try_from(status.st_mtime).unwrap_or_default();
                let last_use = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                artefact.last_use = artefact.last_use.max(last_use);
                artefact.is_needed |= kept.contains(name);
                artefact.bytes += on_disk(&status);
                artefact.names.push(name.to_owned());
                census.bytes += on_disk(&status);
            }
        }
        for artefact in census.artefacts.iter_mut().filter(|artefact| artefact.is_needed) {
            // They are not looked at again, and are the most.
            artefact.objects = Vec::new();
        }
        Ok(())
    }

    fn count_objects(
        &self,
        part: &str,
        directory: &OwnedFd,
        census: &mut Census,
        freed: &mut Freed,
    ) -> Result<()> {
        let root = self.root.join(part);
        let mut count = 0;
        for folder in list(&root)? {
            for path in list(&folder)? {
                count += 1;
                if count > STORE_FILES_MAX {
                    let message = format!("the store has more than {STORE_FILES_MAX} files");
                    return Err(Error::new(Kind::Failed, "store-too-large", message).hint(
                        "remove the directory of the store; everything in it can be fetched again",
                    ));
                }
                let Some(name) = relative(&root, &path) else { continue };
                let Some(status) = status(directory, name) else { continue };
                let found = digest_of(name).and_then(|digest| census.objects.get_mut(&digest));
                match found {
                    Some(counted) => {
                        counted.files += 1;
                        counted.bytes += on_disk(&status);
                        census.bytes += on_disk(&status);
                    }
                    None => self.remove(directory, name, &status, freed)?,
                }
            }
        }
        Ok(())
    }

    /// Removes one artefact: its entries first, then the files that no other one has.
    fn evict(&self, artefact: &Artefact, census: &mut Census, freed: &mut Freed) -> Result<()> {
        for name in &artefact.names {
            if let Some(status) = status(&self.index, name) {
                self.remove(&self.index, name, &status, freed)?;
            }
        }
        census.bytes = census.bytes.saturating_sub(artefact.bytes);
        for digest in &artefact.objects {
            let Some(counted) = census.objects.get_mut(digest) else { continue };
            counted.users -= 1;
            if counted.users > 0 {
                continue;
            }
            census.bytes = census.bytes.saturating_sub(counted.bytes);
            let name = Object { digest: *digest, size: 0 }.name();
            for directory in [&self.files, &self.lent] {
                if let Some(status) = status(directory, &name) {
                    self.remove(directory, &name, &status, freed)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what processes that died left behind: unfinished files, and leases. Where somebody is in the store, a later start does.
    pub fn remove_abandoned(&self) -> Result<Freed> {
        let mut freed = Freed::default();
        let is_left = ["tmp", "leases"].iter().any(|name| {
            let entries = fs::read_dir(self.root.join(name));
            entries.is_ok_and(|mut entries| entries.next().is_some())
        });
        if !is_left {
            return Ok(freed);
        }
        let Ok(_alone) = self.gate.enter_alone(Duration::ZERO) else { return Ok(freed) };
        self.remove_unfinished(&mut freed)?;
        self.leased()?;
        Ok(freed)
    }

    /// For whoever is alone in the store: all that is written there is written inside.
    fn remove_unfinished(&self, freed: &mut Freed) -> Result<()> {
        let directory = self.root.join("tmp");
        for path in list(&directory)? {
            let Some(name) = relative(&directory, &path) else { continue };
            let Some(status) = status(&self.temporary, name) else { continue };
            self.remove(&self.temporary, name, &status, freed)?;
        }
        Ok(())
    }

    fn remove(&self, from: &OwnedFd, name: &str, status: &Stat, freed: &mut Freed) -> Result<()> {
        #[cfg(test)]
        self.die_at_removal()?;
        match rustix::fs::unlinkat(from, name, AtFlags::empty()) {
            Ok(()) => {
                freed.files += 1;
                freed.bytes += on_disk(status);
                Ok(())
            }
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("remove", &self.root.join(name), &error.into())),
        }
    }
}

impl Store {
    fn remove_path(&self, path: &Path, bytes: u64, freed: &mut Freed) -> Result<()> {
        match fs::remove_file(path) {
            Ok(()) => {
                freed.files += 1;
                freed.bytes += bytes;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("remove", path, &error)),
        }
    }
}

impl Census {
    fn usage(&self) -> Usage {
        let needed = self.artefacts.iter().filter(|artefact| artefact.is_needed).count();
        Usage {
            artefacts: self.artefacts.len() as u64,
            artefacts_needed: needed as u64,
            bytes: self.bytes,
        }
    }
}

/// What a file takes here: nothing where an environment has it, too.
fn on_disk(status: &Stat) -> u64 {
    if status.st_nlink > 1 { 0 } else { status.st_blocks as u64 * 512 }
}

fn status(directory: &OwnedFd, name: &str) -> Option<Stat> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

fn relative<'p>(root: &Path, path: &'p Path) -> Option<&'p str> {
    path.strip_prefix(root).ok()?.to_str()
}

/// The digest that a name below `files` stands for.
fn digest_of(name: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = name.bytes().filter(|byte| *byte != b'/').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// The paths in a directory; none where it is gone.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io("read the directory", directory, &error);
    match fs::read_dir(directory) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
        }
        // Somebody has put a file of their own there.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
impl Store {
    /// Ends a collection as a kill would, after so many removals.
    fn die_at_removal(&self) -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        match self.removals_left.fetch_sub(1, Relaxed) {
            0 => Err(Error::new(Kind::Failed, "killed", "by a test")),
            _ => Ok(()),
        }
    }
}
