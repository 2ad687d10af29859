//! Archives that a project, or a package of it, names by address or path: looked at while a plan is made, and named there by their
//! digest. See [`super::super::named`].
//!
//! npm follows an address wherever it stands, and so does this; a path only in the project's own manifests, because what a stranger's
//! package says is nobody's word on the files of this machine. What is locked or installed stays what it is until an update names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{SHA256, SHA512};
use url::Url;

use super::super::named::{copied, file_of, kept, sha512_of, whole_path};
use super::super::{Asked, Task};
use super::Wanted;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::hex::hex;
use crate::io::npm::packument;
use crate::io::secret::shown;
use crate::limits::{NAMED_BYTES_MAX, NAMED_FILES_MAX, PACKAGE_DESCRIPTION_BYTES_MAX};
use crate::lock::import::Imported;
use crate::manifest::package_json::named::{FILE, Named, named};
use crate::manifest::package_json::{Override, RootManifest};
use crate::metadata::Hashes;
use crate::metadata::held::Word;
use crate::plan::Precondition;
use crate::resolution::{Artifact, Package, Resolution};
use crate::resolve::npm::{self, Archive, Archives, Local, TOO_YOUNG};
use crate::spec::check_name;
use crate::store::{Entry, Form};
use crate::transaction::{Content, Project};
use crate::unpack::Source;
use agents_versions::npm::Version;

/// The archives that the project's own manifests name, as [`Archives`] has them, in the order of their texts.
pub(super) fn named_by(root: &RootManifest, locals: &[Local]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for manifest in locals.iter().map(|local| &local.manifest).chain([root]) {
        keys.extend(manifest.tables().into_iter().flat_map(|table| table.values()).cloned());
    }
    overrides(&root.overrides, &mut keys);
    keys.retain(|key| is_key(key));
    keys
}

/// As deep as a manifest may be nested.
fn overrides(rules: &[Override], keys: &mut BTreeSet<String>) {
    for rule in rules {
        keys.extend(rule.value.clone());
        overrides(&rule.nested, keys);
    }
}

fn is_key(key: &str) -> bool {
    matches!(named(key), Some(Named::Address | Named::Path { is_archive: true, .. }))
}

/// Where an archive is fetched from: on the web, or `file:///...`.
fn place(project: &Project, key: &str) -> Result<Url> {
    let place = match key.strip_prefix(FILE) {
        Some(path) => Url::from_file_path(whole_path(project, path)).ok(),
        None => Url::parse(key).ok(),
    };
    place.ok_or_else(|| {
        let message = format!("`{key}` names no archive");
        Error::new(Kind::Usage, "unsupported-dependency", message)
    })
}

/// Who looks at them, and what is known already.
pub(super) struct Finder<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) project: &'a Project,
    pub(super) asked: &'a Asked<'a>,
    /// See [`named_by`].
    pub(super) named: &'a BTreeSet<String>,
    pub(super) imported: Option<&'a Imported>,
    pub(super) found: Mutex<Found>,
}

/// What was looked at.
#[derive(Default)]
pub(super) struct Found {
    archives: BTreeMap<String, Result<Arc<Archive>>>,
    /// What was fetched of them.
    bytes: u64,
    /// That the files that were read stay as they are.
    preconditions: Vec<Precondition>,
}

/// An archive as it was known before.
struct Known<'k> {
    name: &'k str,
    hashes: &'k Hashes,
}

impl Archives for Finder<'_> {
    fn archive(&self, key: &str, folder: &str) -> Result<Arc<Archive>> {
        if !self.named.contains(key) {
            self.check_stranger(key, folder)?;
        }
        let count = {
            let found = self.found();
            if let Some(known) = found.archives.get(key) {
                return known.clone();
            }
            found.archives.len()
        };
        if count >= NAMED_FILES_MAX {
            let message = format!("more than {NAMED_FILES_MAX} packages are named by address");
            return Err(Error::new(Kind::Failed, "too-many-packages", message));
        }
        self.task.check_wanted()?;
        let archive = self.look(key).map(Arc::new);
        self.found().archives.insert(key.to_owned(), archive.clone());
        archive
    }
}

impl Finder<'_> {
    fn found(&self) -> MutexGuard<'_, Found> {
        // Only whole entries are put there.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That the files that were read stay as they are.
    pub(super) fn preconditions(&self) -> Vec<Precondition> {
        std::mem::take(&mut self.found().preconditions)
    }

    /// Refuses an address that only packages of others name, where it is not to be believed or nobody knows how old it is: before
    /// anything is sent there. By what name it is asked for is all that is known of it then.
    fn check_stranger(&self, key: &str, folder: &str) -> Result<()> {
        let place = place(self.project, key)?;
        if place.scheme() != "https" && !self.task.registries.has_npm_registry_at(&place)? {
            let message = format!(
                "a package of others asks for `{folder}` from `{key}`, an address without encryption that is of no configured registry"
            );
            let hint = "name an archive at an `https:` address, or one beside the project, in its place by `overrides` of package.json";
            return Err(Error::new(Kind::Usage, "unsupported-dependency", message).hint(hint));
        }
        let mut allowed = self.task.choices.allow_new.iter();
        let is_allowed = allowed.any(|(of, name)| *of == Ecosystem::Npm && name == folder);
        if is_allowed || self.task.cutoff().is_none() || self.known(key).is_some() {
            return Ok(());
        }
        let message =
            format!("nobody tells how old `{key}` is, which the project does not name itself");
        Err(Error::new(Kind::Conflict, TOO_YOUNG, message)
            .hint(format!("`--allow-new npm:{folder}` lets it through")))
    }

    fn look(&self, key: &str) -> Result<Archive> {
        let place = place(self.project, key)?;
        let (entry, hashes, size) = match key.starts_with(FILE) {
            true => self.here(key, &place)?,
            false => self.on_the_web(key, &place)?,
        };
        let archive = self.described(key, &place, &entry, (hashes, size))?;
        self.check_held(key, &archive)?;
        Ok(archive)
    }

    /// A file of this machine.
    fn here(&self, key: &str, place: &Url) -> Result<(Entry, Hashes, Option<u64>)> {
        let path =
            place.to_file_path().map_err(|()| Error::new(Kind::Failed, "io", key.to_owned()))?;
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join("archive");
        let content = copied(self.task, &path, &copy)?;
        let sha512 = Some(sha512_of(self.task, &copy)?);
        let hashes = Hashes { sha512, sha256: Some(content.sha256.clone()) };
        self.check_known(key, &path.display().to_string(), &hashes)?;
        let entry = self.keep(&copy, &hashes, &file_of(place))?;
        let (size, path) = (Some(content.bytes), path.to_string_lossy().into_owned());
        self.found().preconditions.push(Precondition::Named { content, path });
        Ok((entry, hashes, size))
    }

    /// A file of a server.
    fn on_the_web(&self, key: &str, place: &Url) -> Result<(Entry, Hashes, Option<u64>)> {
        let store = &self.task.shop.store;
        if let Some(known) = self.known(key)
            && let Some(entry) = store.check(known.hashes, Form::Npm, false)
        {
            return Ok((entry, known.hashes.clone(), None));
        }
        let file = shown(place);
        self.task.say("resolve", format!("fetching `{file}`, which has no digest"), 0, 0);
        let bytes = self.task.registries.npm_file(place)?;
        self.check_bytes(bytes.len() as u64)?;
        let digest = |algorithm| hex(ring::digest::digest(algorithm, &bytes).as_ref());
        let (sha512, sha256) = (Some(digest(&SHA512)), Some(digest(&SHA256)));
        let (hashes, size) = (Hashes { sha512, sha256 }, Some(bytes.len() as u64));
        self.check_known(key, &file, &hashes)?;
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join("archive");
        std::fs::write(&copy, &bytes).map_err(|error| Error::io("write", &copy, &error))?;
        drop(bytes);
        Ok((self.keep(&copy, &hashes, &file_of(place))?, hashes, size))
    }

    /// Refuses more than all of them may have.
    fn check_bytes(&self, more: u64) -> Result<()> {
        let mut found = self.found();
        found.bytes = found.bytes.saturating_add(more);
        if found.bytes <= NAMED_BYTES_MAX {
            return Ok(());
        }
        let message = format!("archives at addresses have more than {NAMED_BYTES_MAX} bytes");
        Err(Error::new(Kind::Failed, "too-many-packages", message))
    }

    fn keep(&self, copy: &Path, hashes: &Hashes, file: &str) -> Result<Entry> {
        let store = &self.task.shop.store;
        let add = |opened: &File| store.add_tarball(Source::File(opened), hashes, file);
        kept(store.check(hashes, Form::Npm, false), copy, &add)
    }

    /// What is locked or installed of the same archive, or what another tool locked, unless that is to be chosen anew.
    fn known(&self, key: &str) -> Option<Known<'_>> {
        let ours = self.asked.known().into_iter().flat_map(|known| &known.packages);
        let mut ours = ours.filter(|it| it.artifact.source.as_deref() == Some(key));
        if let Some(package) = ours.next() {
            let is_anew = package.names().iter().any(|name| self.asked.is_anew(name));
            let (name, hashes) = (&*package.name, &package.artifact.hashes);
            return (!is_anew).then_some(Known { name, hashes });
        }
        let others = self.imported.into_iter().flat_map(|imported| &imported.packages);
        let mut others = others.filter(|it| it.source.as_deref() == Some(key));
        let (name, (_, hashes)) = others.find_map(|it| Some((&*it.name, it.files.first()?)))?;
        (!self.asked.is_anew(name)).then_some(Known { name, hashes })
    }

    /// Refuses another file than the one that is known.
    fn check_known(&self, key: &str, file: &str, hashes: &Hashes) -> Result<()> {
        let Some(known) = self.known(key) else { return Ok(()) };
        let differ = |known: &Option<String>, now: &Option<String>| {
            known.as_ref().zip(now.as_ref()).is_some_and(|(known, now)| known != now)
        };
        let Hashes { sha512, sha256 } = known.hashes;
        if !differ(sha512, &hashes.sha512) && !differ(sha256, &hashes.sha256) {
            return Ok(());
        }
        let message = format!("`{file}` is not the file that is locked or installed");
        let hint = format!("`bolide update npm:{}` takes what is there now", known.name);
        Err(Error::new(Kind::Verification, "hash-mismatch", message).hint(hint))
    }

    fn described(
        &self,
        key: &str,
        place: &Url,
        entry: &Entry,
        (hashes, size): (Hashes, Option<u64>),
    ) -> Result<Archive> {
        let bad = |why: &str| {
            let message = format!("the package.json of `{key}` cannot be used: {why}");
            Error::new(Kind::Verification, "bad-metadata", message)
                .hint("have it packed again with `npm pack`, or correct what names it")
        };
        check_name(Ecosystem::Npm, &entry.name).map_err(|error| bad(&error.message))?;
        let version = Version::parse_loose(&entry.version);
        let version = version.map_err(|_| bad("its version is none"))?.to_string();
        let file = entry.file("package.json").ok_or_else(|| bad("it has none"))?;
        let store = &self.task.shop.store;
        let bytes = store.read_object(&file.object, PACKAGE_DESCRIPTION_BYTES_MAX)?;
        let paths = entry.files.iter().map(|file| &*file.path);
        let described = packument::described(&bytes, (&entry.name, &version), paths);
        let described = described.map_err(|why| bad(&why))?;
        let artifact = Artifact {
            built: None,
            by_address: true,
            file_name: file_of(place),
            hashes,
            size,
            source: Some(key.to_owned()),
            url: place.to_string(),
        };
        let name = entry.name.clone();
        Ok(Archive { name, entry: Arc::new(described), artifact: Arc::new(artifact) })
    }

    /// Refuses what is held at another version.
    fn check_held(&self, key: &str, archive: &Archive) -> Result<()> {
        let (name, version) = (&archive.name, &archive.entry.version);
        if self.asked.held.says(name, version) == Word::Back {
            let held = self.asked.held.versions(name);
            let message = format!("`{name}` is held at {held}, and `{key}` has {version} of it");
            return Err(Error::new(Kind::Conflict, "held", message)
                .hint(format!("`bolide unhold npm:{name}`, then the same command again")));
        }
        Ok(())
    }
}

/// Says of the packages of a lock, which has no address that no manifest has, where those are that the project names; `None` where it
/// has one that the project does not name, or another package than what the project names: then everything is decided anew. Warnings
/// where a file is not the one that was locked.
pub(super) fn place_locked(
    mut resolution: Resolution,
    project: &Project,
    Wanted { root, locals, named }: &Wanted,
) -> Result<Option<Resolution>> {
    if !npm::is_of(root, locals, &resolution) {
        return Ok(None);
    }
    // What commands the project's own packages have is theirs to say.
    for link in &mut resolution.links {
        let own = locals.iter().find(|local| local.place == link.target);
        link.bin = own.map(|local| local.manifest.bin.clone()).unwrap_or_default();
    }
    let is_archive = |package: &&mut Package| package.artifact.source.is_some();
    let mut warnings = Vec::new();
    for package in resolution.packages.iter_mut().filter(is_archive) {
        let source = package.artifact.source.clone().unwrap_or_default();
        let Some(key) = named.get(&source) else { return Ok(None) };
        let place = place(project, key)?;
        let artifact = Arc::make_mut(&mut package.artifact);
        (artifact.by_address, artifact.url) = (true, place.to_string());
        artifact.file_name = file_of(&place);
        let path = place.to_file_path().ok().filter(|_| place.scheme() == "file");
        let content: Option<Content> = path.and_then(|path| foreign::content(&path).ok().flatten());
        let Some(Content { sha256, .. }) = content else { continue };
        if artifact.hashes.sha256.as_ref().is_some_and(|locked| *locked != sha256) {
            let name = &package.name;
            let update = format!("`bolide update npm:{name}` takes it");
            warnings.push(format!("`{source}` is not the file that is locked; {update}"));
        }
    }
    resolution.warnings.extend(warnings);
    Ok(Some(resolution))
}
