//! Wheels and sources that the project names by a path or an address, in the place of what an index has.
//!
//! What nobody gave a digest gets one here, of the bytes that were read: they are copied first, then hashed, put into the store
//! and asked what they need, so all of that is of the same bytes, whatever becomes of the file. From then on plan and lock name the
//! digest. What the lock has a digest of is not looked at again before it is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use pep440_rs::Version;
use pep508_rs::{PackageName, Requirement, VersionOrUrl};
use url::Url;

mod repository;
mod source;

pub(super) use self::repository::not_locked;

use super::super::named::{copied, file_of, kept, whole_path};
use super::super::{Asked, Task};
use super::manifest::Manifest;
use super::sources::{Direct, Sources};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::io::limits::CORE_METADATA_BYTES_MAX;
use crate::io::pypi::{core_metadata, file_name, page};
use crate::io::secret::shown;
use crate::limits::NAMED_FILES_MAX;
use crate::lock;
use crate::lock::import::Imported;
use crate::manifest::address;
use crate::manifest::address::git::Repository;
use crate::metadata::Hashes;
use crate::metadata::pypi::{CoreMetadata, FileKind};
use crate::plan::Precondition;
use crate::python::PythonTarget;
use crate::resolution::{Resolution, SourceForm};
use crate::resolve::pypi::policy::Known;
use crate::store::{Entry, Form, Store};
use crate::transaction::{Content, Project};
use crate::unpack::Source;

/// What was found of all that is named.
#[derive(Default)]
pub(super) struct Found {
    /// By the address as the requirement has it.
    pub(super) known: BTreeMap<String, Known>,
    /// That the files that were read stay as they are.
    pub(super) preconditions: Vec<Precondition>,
    /// Those of which the wheel has to be built.
    pub(super) sources: BTreeSet<PackageName>,
    /// What people should know.
    pub(super) warnings: Vec<String>,
}

/// Who looks for them, and what is known already.
pub(super) struct Finder<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) project: &'a Project,
    pub(super) asked: &'a Asked<'a>,
    pub(super) manifest: &'a Manifest,
    pub(super) sources: &'a Sources<'a>,
    pub(super) target: &'a PythonTarget,
    /// What another tool locked.
    pub(super) imported: Option<&'a Imported>,
}

/// The address of a requirement that has one and applies.
fn url_of<'r>(requirement: &'r Requirement, target: &PythonTarget) -> Option<&'r Url> {
    match &requirement.version_or_url {
        Some(VersionOrUrl::Url(url)) if requirement.evaluate_markers(&target.markers, &[]) => {
            Some(url.raw())
        }
        _ => None,
    }
}

/// Where a file is fetched from, without what stands behind a `#`: on the web, or `file:///...`.
fn place(project: &Project, url: &Url) -> Result<Url> {
    let mut place = match address::path_of(url) {
        Some(path) => Url::from_file_path(whole_path(project, &path)).map_err(|()| no_file(url))?,
        None => url.clone(),
    };
    place.set_fragment(None);
    match place.scheme() {
        "https" | "http" | "file" => Ok(place),
        _ => Err(no_file(url)),
    }
}

/// The digests that an address has.
fn written(url: &Url) -> Result<Hashes> {
    if address::is_editable(url) {
        return Ok(Hashes::default());
    }
    page::written_hashes(url.fragment().unwrap_or_default()).map_err(|why| {
        let named = address::path_of(url).unwrap_or_else(|| shown(url));
        Error::new(Kind::Failed, "unsupported-hash", format!("`{named}` {why}"))
            .hint("write its SHA-256 behind it, as in `#sha256=DIGEST`, or nothing")
    })
}

/// What an address names, by its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Wheel,
    Archive,
    Tree,
}

impl Shape {
    fn of(place: &Url) -> Self {
        let file = file_of(place);
        match address::is_source(&file) {
            true => Self::Archive,
            false if place.scheme() == "file" && !file.ends_with(".whl") => Self::Tree,
            false => Self::Wheel,
        }
    }
}

impl SourceForm {
    /// What an address names; nothing for an archive and for a wheel.
    fn of(url: &Url, place: &Url) -> Option<Self> {
        let is_tree = Shape::of(place) == Shape::Tree;
        is_tree.then_some(if address::is_editable(url) { Self::Editable } else { Self::Tree })
    }
}

fn no_file(url: &Url) -> Error {
    Error::new(Kind::Usage, "url-requirement", format!("`{}` names no file", shown(url)))
}

impl Finder<'_> {
    /// Looks at everything that the requirements name.
    pub(super) fn find<'r>(
        &self,
        requirements: impl Iterator<Item = &'r Requirement>,
    ) -> Result<Found> {
        let mut found = Found::default();
        for requirement in requirements {
            let Some(url) = url_of(requirement, self.target) else { continue };
            if found.known.contains_key(url.as_str()) {
                continue;
            }
            if found.known.len() >= NAMED_FILES_MAX {
                let message = format!("more than {NAMED_FILES_MAX} packages are named by address");
                return Err(Error::new(Kind::Failed, "too-many-packages", message));
            }
            self.task.check_wanted()?;
            if let Some(repository) = Repository::of(url) {
                let known = self.repository(requirement, &repository, &mut found.warnings)?;
                found.sources.insert(requirement.name.clone());
                found.known.insert(url.to_string(), known);
                continue;
            }
            let written = written(url)?;
            let place = place(self.project, url)?;
            let known = match place.to_file_path() {
                _ if Shape::of(&place) != Shape::Wheel => {
                    let preconditions = &mut found.preconditions;
                    let known = match Shape::of(&place) {
                        Shape::Tree => {
                            let form = SourceForm::of(url, &place).unwrap_or(SourceForm::Tree);
                            self.tree(requirement, (&written, form), &place, preconditions)?
                        }
                        _ => self.archive(requirement, written, &place, preconditions)?,
                    };
                    found.sources.insert(requirement.name.clone());
                    Some(known)
                }
                Ok(path) if place.scheme() == "file" => Some(self.here(
                    requirement,
                    written,
                    &place,
                    &path,
                    &mut found.preconditions,
                )?),
                // Nothing has to be fetched to know what it hashes to.
                _ if !written.is_empty() => None,
                _ => Some(self.on_the_web(requirement, &place)?),
            };
            found.known.extend(known.map(|known| (url.to_string(), known)));
        }
        Ok(found)
    }

    /// A file of this machine.
    fn here(
        &self,
        requirement: &Requirement,
        written: Hashes,
        place: &Url,
        path: &Path,
        preconditions: &mut Vec<Precondition>,
    ) -> Result<Known> {
        let version = version_of(requirement, place)?;
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join("wheel");
        let content = copied(self.task, path, &copy)?;
        let name = &requirement.name;
        let locked = self.locked(requirement, place).and_then(|hashes| hashes.sha256);
        if locked.is_some_and(|locked| locked != content.sha256) {
            let message = format!("`{}` is not the file that is locked", path.display());
            return Err(Error::new(Kind::Verification, "hash-mismatch", message)
                .hint(format!("`bolide update pypi:{name}` takes what is there now")));
        }
        let hashes = compared(place, written, &content)?;
        let core = self.keep(requirement, place, &copy, &hashes, &version)?;
        let (url, size) = (place.to_string(), Some(content.bytes));
        let path = path.to_string_lossy().into_owned();
        preconditions.push(Precondition::Named { content, path });
        Ok(Known { url, hashes, size, core: Some(core), source: None })
    }

    /// A file of a server whose address has no digest.
    fn on_the_web(&self, requirement: &Requirement, place: &Url) -> Result<Known> {
        let version = version_of(requirement, place)?;
        let url = place.to_string();
        let known = self.manifest.only_digest(&requirement.name, self.target);
        let known = known.or_else(|| self.locked(requirement, place));
        if let Some(hashes) = known {
            return Ok(Known { url, hashes, size: None, core: None, source: None });
        }
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join("wheel");
        let content = self.fetched(place, &copy)?;
        let hashes = compared(place, Hashes::default(), &content)?;
        let core = self.keep(requirement, place, &copy, &hashes, &version)?;
        let size = Some(content.bytes);
        Ok(Known { url, hashes, size, core: Some(core), source: None })
    }

    /// Fetches a file to `copy`; what it held.
    fn fetched(&self, place: &Url, copy: &Path) -> Result<Content> {
        let file = shown(place);
        self.task.say("resolve", format!("fetching `{file}`, which the project names"), 0, 0);
        let bytes = self.task.registries.pypi_file(place)?;
        std::fs::write(copy, &bytes).map_err(|error| Error::io("write", copy, &error))?;
        Ok(Content::of(&bytes))
    }

    /// What the lock has for the same requirement, unless that is to be chosen anew.
    fn locked(&self, requirement: &Requirement, place: &Url) -> Option<Hashes> {
        self.locked_as(requirement, &file_of(place))
    }

    /// The same, by the file's name.
    fn locked_as(&self, requirement: &Requirement, file: &str) -> Option<Hashes> {
        let part = self.asked.locked.filter(|_| !self.asked.is_anew(requirement.name.as_ref()))?;
        let name = requirement.name.as_ref();
        let of_name = |it: &&crate::resolution::Package| it.name == name;
        let package = part.resolution.packages.iter().find(of_name)?;
        let is_same =
            package.artifact.file_name == file && part.wants.contains(&address::shown(requirement));
        is_same.then(|| package.artifact.hashes.clone())
    }

    /// Puts a copy into the store; what it needs.
    fn keep(
        &self,
        requirement: &Requirement,
        place: &Url,
        copy: &Path,
        hashes: &Hashes,
        version: &Version,
    ) -> Result<Arc<CoreMetadata>> {
        let (store, file) = (&self.task.shop.store, file_of(place));
        // A SHA-512 that was written is compared where a file is added.
        let known = store.check(hashes, Form::Wheel, false).filter(|_| hashes.sha512.is_none());
        let add = |opened: &File| store.add_wheel(Source::File(opened), hashes, &file);
        let entry = kept(known, copy, &add)?;
        core(store, &entry, &file, (&requirement.name, version)).map(Arc::new)
    }
}

/// What a wheel in the store says of itself, which has to be of this name and version.
pub(super) fn core(
    store: &Store,
    entry: &Entry,
    file: &str,
    (name, version): (&PackageName, &Version),
) -> Result<CoreMetadata> {
    let bad = |why: &str| {
        let message = format!("the metadata of `{file}` cannot be used: {why}");
        Error::new(Kind::Verification, "bad-metadata", message)
            .hint("build it again, or correct the requirement that names it")
    };
    let path = format!("{}-{}.dist-info/METADATA", entry.name, entry.version);
    let found = entry.file(&path).ok_or_else(|| bad("it has none"))?;
    let bytes = store.read_object(&found.object, CORE_METADATA_BYTES_MAX as u64)?;
    core_metadata::parse(core_metadata::headers(&bytes), name, version).map_err(|why| bad(&why))
}

/// What was read, and what its address says beside it: all of it has to be right. Its SHA-512 is compared by the store.
fn compared(place: &Url, written: Hashes, content: &Content) -> Result<Hashes> {
    let sha256 = content.sha256.clone();
    if written.sha256.is_some_and(|written| written != sha256) {
        let file = shown(place);
        let message = format!("`{file}` has the sha256 {sha256}, and its requirement another");
        return Err(Error::new(Kind::Verification, "hash-mismatch", message)
            .hint("find out which of the two is right; nothing was changed"));
    }
    Ok(Hashes { sha256: Some(sha256), sha512: written.sha512 })
}

/// The version in the name of a wheel.
fn version_of(requirement: &Requirement, place: &Url) -> Result<Version> {
    match file_name::parse(&file_of(place), &requirement.name) {
        Some((version, FileKind::Wheel { .. })) => Ok(version),
        _ => {
            let (name, place) = (&requirement.name, shown(place));
            let message = format!("`{place}` is not a wheel of `{name}`");
            Err(Error::new(Kind::Usage, "url-requirement", message).hint(format!(
                "name a file such as `{name}-1.0-py3-none-any.whl` or `{name}-1.0.tar.gz`"
            )))
        }
    }
}

/// Says of the packages of a lock, which has no addresses, where those are that the project names. Warnings where a file is not the
/// one that was locked.
pub(super) fn place_locked<'r>(
    resolution: &mut Resolution,
    project: &Project,
    (target, sources): (&PythonTarget, &Sources<'_>),
    requirements: impl Iterator<Item = &'r Requirement>,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for requirement in requirements {
        let Some(url) = url_of(requirement, target) else { continue };
        let name = requirement.name.as_ref();
        let package = resolution.packages.iter_mut().find(|it| it.name == name);
        if let Some(repository) = Repository::of(url) {
            let Some(package) = package else { continue };
            repository::place_locked(package, (&repository, url), requirement, sources)?;
            continue;
        }
        written(url)?;
        let place = place(project, url)?;
        let Some(package) = package else { continue };
        let artifact = Arc::make_mut(&mut package.artifact);
        (artifact.by_address, artifact.url) = (true, place.to_string());
        let path = place.to_file_path().ok().filter(|_| place.scheme() == "file");
        let form = SourceForm::of(url, &place);
        if package.is_source() {
            let path = path.clone();
            sources.hold(&requirement.name, Direct { form, path, held: None, commit: None });
        }
        let found = match (path, form) {
            (Some(path), None) => foreign::content(&path).ok().flatten().map(|it| it.sha256),
            (Some(path), Some(form)) => sources.look(&path, form)?.map(|seen| seen.sha256),
            (None, _) => None,
        };
        let Some(found) = found else { continue };
        let artifact = &package.artifact;
        if artifact.hashes.sha256.as_ref().is_some_and(|locked| *locked != found) {
            if form.is_some() && sources.is_frozen() {
                let path = address::told(requirement);
                return Err(lock::stale(Ecosystem::Pypi, &format!("`{path}` was changed")));
            }
            let what = if form.is_some() { "directory" } else { "file" };
            warnings.push(format!(
                "`{}` is not the {what} that is locked; `bolide update pypi:{name}` takes it",
                artifact.file_name
            ));
        }
    }
    Ok(warnings)
}
