//! Packages that have no wheel for this place and that the caller named with `--build`: their source archives count in a resolution,
//! and become wheels before anybody sees a plan. So a plan names the digest of what is installed, and code of strangers
//! has run, in the sandbox, before the person says yes: that is what naming the package allowed.
//!
//! 1. What a source archive says of itself is believed where its format promises that a build does not change it; otherwise it is built
//!    to know what it needs. Either way the wheel has to say the same.
//! 2. What a build needs is resolved to wheels alone, by the same rules of age, and put into an environment of its own.
//! 3. The same archive, the same packages beside it and the same interpreter are the same wheel: what was built once is taken
//!    from the store. A lock names archive and packages, so that following it here builds nothing. Elsewhere its packages are versions to
//!    take, not packages to run: what runs is what the archive and its backend ask for, and that has to be the lock's list.
//! 4. A failure to build ends the resolution. Another version is not chosen in silence, whose code nobody has looked at either.

mod direct;
mod environment;
mod needs;

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use agents_contract::waiting;
use pep440_rs::Version;
use pep508_rs::PackageName;

pub(super) use self::direct::{Commit, Direct, Held};
use self::environment::Workshop;
use super::super::Task;
use super::direct::core as of_wheel;
use super::manifest::Manifest;
use crate::build::remembered::{Key, Wheel, recall, remember};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::BUILDS_IN_A_PLAN_MAX;
use crate::metadata::Hashes;
use crate::metadata::pypi::{Ahead, CoreMetadata, File, FileKind, Metadata, Project as Page};
use crate::python::{Interpreter, PythonTarget};
use crate::resolution::{Artifact, BuildRequirement, Built, Package, Resolution};
use crate::resolve::{Repair, ResolveError};
use crate::store::Form;
use crate::transaction::Project;

/// The code of the error that says that a source archive does not tell what it needs.
const NEEDS_BUILD: &str = "needs-build";

/// The index, of which source archives count where they may be built.
pub(super) struct Sources<'a> {
    task: &'a Task<'a>,
    project: &'a Project,
    manifest: &'a Manifest,
    interpreter: &'a Interpreter,
    target: &'a PythonTarget,
    /// What is locked or installed, among it what was built before.
    before: Option<&'a Resolution>,
    state: Mutex<State>,
}

/// What came of it so far.
#[derive(Default)]
struct State {
    /// By the digest of the source archive.
    done: BTreeMap<String, Arc<Done>>,
    /// What archives said that were believed, by the same.
    believed: BTreeMap<String, Arc<CoreMetadata>>,
    /// How long it took.
    spent: Duration,
    /// What the project names by path or address, by package.
    direct: BTreeMap<PackageName, Arc<Direct>>,
    /// Who walks ahead of the resolution; that of a build takes its place for a while.
    ahead: Option<Weak<dyn Ahead>>,
}

/// A wheel that was built, now or before.
struct Done {
    wheel: Wheel,
    core: Arc<CoreMetadata>,
    requirements: Vec<BuildRequirement>,
    /// Whether something of it, or of what it needs, was run for this.
    has_run: bool,
}

/// What is to be built.
struct Wanted<'p> {
    name: PackageName,
    /// `None` where only a build tells.
    version: Option<Version>,
    /// Whose artefact is the source archive.
    package: &'p Package,
    /// The digest of the archive.
    digest: String,
}

impl Wanted<'_> {
    /// What people call it.
    fn told(&self) -> String {
        match self.version {
            Some(_) => self.package.purl(),
            None => self.name.to_string(),
        }
    }
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        task: &'a Task<'a>,
        project: &'a Project,
        (manifest, interpreter, target): (&'a Manifest, &'a Interpreter, &'a PythonTarget),
        before: Option<&'a Resolution>,
    ) -> Self {
        Self { task, project, manifest, interpreter, target, before, state: Mutex::default() }
    }

    /// The packages that were built before: they count again without being named, as far as nothing has to be run for it, and unless
    /// the caller wants wheels of the index alone.
    pub(super) fn known_names(&self) -> impl Iterator<Item = PackageName> {
        let formats = &self.manifest.formats;
        self.built_before().filter(|name| formats.has_sources(name))
    }

    fn built_before(&self) -> impl Iterator<Item = PackageName> {
        let packages = self.before.into_iter().flat_map(|before| &before.packages);
        let built = packages.filter(|package| package.artifact.built.is_some());
        built.filter_map(|package| PackageName::from_str(&package.name).ok())
    }

    /// A conflict with what the caller may do where a package that was built before is missed.
    pub(super) fn explained(&self, error: ResolveError) -> ResolveError {
        let ResolveError::Conflict(mut conflict) = error else { return error };
        let formats = &self.manifest.formats;
        let mut left_out = self.built_before().filter(|name| {
            !formats.has_sources(name)
                && conflict.explanation.contains(&format!("`--build {name}`"))
        });
        let repair = left_out
            .next()
            .map(|name| Repair { description: one_of_both(&name), changes: Vec::new() });
        drop(left_out);
        if let Some(repair) = repair {
            conflict.repairs.insert(0, repair);
        }
        ResolveError::Conflict(conflict)
    }

    /// What was there when the same archive was built before, as far as that is locked or installed.
    fn pinned<'p>(&'p self, package: &'p Package) -> Option<&'p [BuildRequirement]> {
        let own = package.artifact.built.as_deref();
        let mut packages = self.before.into_iter().flat_map(|before| &before.packages);
        let same = |built: &&Built| built.hashes == package.artifact.hashes;
        let before = || packages.find_map(|it| it.artifact.built.as_deref().filter(same));
        own.or_else(before).map(|built| &*built.requirements)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was waited for as long as a build is.
    pub(super) fn spend(&self, time: Duration) {
        self.state().spent += time;
    }

    /// How long was built so far, which is no time of the resolver.
    pub(super) fn spent(&self) -> Duration {
        self.state().spent
    }

    /// Puts wheels in the place of the source archives of a resolution.
    pub(super) fn build_all(&self, resolution: &mut Resolution) -> Result<()> {
        let mut warnings = Vec::new();
        for package in resolution.packages.iter_mut().filter(|package| package.is_source()) {
            let done = self.done(package)?;
            let Artifact { built, by_address, file_name, hashes, size, url, .. } =
                &*package.artifact;
            // What is named by the project is where that says, whatever was locked.
            let known = built.as_ref().filter(|_| !by_address).map(|built| &built.url);
            let (url, by_address) = (known.unwrap_or(url).clone(), *by_address);
            let form = self.form(&package.name);
            let source = self.source(&package.name).filter(|_| by_address);
            let (file_name, hashes) = (file_name.clone(), hashes.clone());
            let requirements = done.requirements.clone();
            warnings.push(warning(package, &requirements, done.has_run));
            let built = Built { file_name, form, hashes, requirements, size: *size, url };
            package.artifact = Arc::new(Artifact {
                built: Some(Box::new(built)),
                by_address,
                file_name: done.wheel.file_name.clone(),
                hashes: sha256(&done.wheel.sha256),
                size: Some(done.wheel.bytes),
                source,
                url: String::new(),
            });
        }
        resolution.warnings.extend(warnings);
        Ok(())
    }

    /// The wheel of a source archive.
    fn done(&self, package: &Package) -> Result<Arc<Done>> {
        let digest = package.artifact.hashes.to_string();
        if let Some(done) = self.state().done.get(&digest) {
            return Ok(Arc::clone(done));
        }
        let unfit = || {
            let message = format!("`{}` names no version of Python's", package.purl());
            Error::new(Kind::Failed, "internal", message)
        };
        let name = PackageName::from_str(&package.name).map_err(|_| unfit())?;
        let version = match package.version.as_str() {
            "" => None,
            version => Some(Version::from_str(version).map_err(|_| unfit())?),
        };
        let wanted = Wanted { name, version, package, digest };
        let began = Instant::now();
        // Without the leave to compute, as where a registry is waited for: downloads and unpacking ask for their own.
        let cancellation = self.task.conversation.cancellation();
        let done = waiting(cancellation, || self.make(&wanted)).and_then(|done| {
            self.check_believed(&wanted, &done)?;
            Ok(Arc::new(done))
        });
        let mut state = self.state();
        state.spent += began.elapsed();
        if let Some(ahead) = state.ahead.as_ref().and_then(Weak::upgrade) {
            self.task.registries.pypi().follow(&ahead);
        }
        let done = done?;
        state.done.insert(wanted.digest, Arc::clone(&done));
        Ok(done)
    }

    fn make(&self, wanted: &Wanted<'_>) -> Result<Done> {
        if !self.manifest.formats.has_sources(&wanted.name) {
            let (purl, file) = (wanted.told(), &wanted.package.artifact.file_name);
            let message = format!("`{purl}` is built from `{file}`, and only wheels are wanted");
            return Err(Error::new(Kind::Refused, "build-not-asked", message)
                .hint(one_of_both(&wanted.name)));
        }
        let pinned = self.pinned(wanted.package);
        if let Some(done) = pinned.and_then(|pinned| self.known(wanted, pinned)) {
            return Ok(done);
        }
        self.check_allowed(wanted)?;
        let mut workshop = Workshop::new(self, wanted)?;
        // What is locked is followed; who chooses anew takes what is there now.
        let pinned = pinned.filter(|_| wanted.package.artifact.built.is_some());
        let found = match pinned {
            Some(pinned) => self.find_pinned(wanted, &mut workshop, pinned)?,
            None => self.find(wanted, &mut workshop, &[], &|_| Ok(()))?,
        };
        let needed = needed(&found);
        if let Some(done) = self.known(wanted, &needed) {
            return Ok(Done { has_run: workshop.has_run, ..done });
        }
        let file_name = &wanted.package.artifact.file_name;
        self.task.say("build", format!("building `{file_name}` in a sandbox"), 0, 0);
        let wheel = workshop.build_wheel(&found)?;
        let step = self.wheel_step(wanted);
        remember(&self.task.shop.builds, &self.key(&step, wanted, &needed), &wheel);
        let done = self.taken(wanted, wheel, needed)?;
        Ok(Done { has_run: workshop.has_run, ..done })
    }

    fn key<'k>(
        &self,
        step: &'k str,
        wanted: &'k Wanted<'_>,
        needed: &'k [BuildRequirement],
    ) -> Key<'k> {
        Key::new(step, &wanted.digest, needed, self.interpreter)
    }

    /// Under what the wheel of a build is remembered.
    fn wheel_step(&self, wanted: &Wanted<'_>) -> String {
        self.step("wheel", wanted)
    }

    /// The wheel that the same build made before, where it still is there.
    fn known(&self, wanted: &Wanted<'_>, needed: &[BuildRequirement]) -> Option<Done> {
        // Code that is used where it lies may have grown a module that its wheel has to lead to.
        if self.used_at(wanted).is_some() && self.task.choices.build.has(&wanted.name) {
            return None;
        }
        let step = self.wheel_step(wanted);
        let key = self.key(&step, wanted, needed);
        let wheel: Wheel = recall(&self.task.shop.builds, &key)?;
        self.taken(wanted, wheel, needed.to_vec()).ok()
    }

    /// A wheel out of the store, if it is what was asked for.
    fn taken(
        &self,
        wanted: &Wanted<'_>,
        wheel: Wheel,
        requirements: Vec<BuildRequirement>,
    ) -> Result<Done> {
        let Wanted { name, version, .. } = wanted;
        let store = &self.task.shop.store;
        let file = &wheel.file_name;
        let other = |why: String| {
            let source = &wanted.package.artifact.file_name;
            let message = format!("what was built of `{source}` is refused: {why}");
            Error::new(Kind::Verification, "built-other", message)
                .hint(format!("choose another version, or leave `--build {name}` out"))
        };
        let is_wanted = |said: &Version| version.as_ref().is_none_or(|version| said == version);
        let (version, tags) = match crate::io::pypi::file_name::parse(file, name) {
            Some((said, FileKind::Wheel { tags, .. })) if is_wanted(&said) => (said, tags),
            _ => return Err(other(format!("`{file}` is not a wheel of `{}`", wanted.told()))),
        };
        if !tags.iter().any(|tag| self.target.tags.contains(tag)) {
            return Err(other(format!("`{file}` is not for this platform and Python")));
        }
        let hashes = sha256(&wheel.sha256);
        let entry = store.check(&hashes, Form::Wheel, false);
        let entry = entry.ok_or_else(|| other(format!("`{file}` is not in the store")))?;
        let is_name = PackageName::from_str(&entry.name).is_ok_and(|said| said == *name);
        let is_version = Version::from_str(&entry.version).is_ok_and(|said| said == version);
        if !is_name || !is_version {
            let (name, version) = (&entry.name, &entry.version);
            return Err(other(format!("`{file}` holds `{name}` {version}")));
        }
        let core = of_wheel(store, &entry, file, (name, &version));
        let core = Arc::new(core.map_err(|error| other(error.message))?);
        Ok(Done { wheel, core, requirements, has_run: false })
    }

    /// Refuses to run code that nobody named, or that is not what the project names by its digest.
    fn check_allowed(&self, wanted: &Wanted<'_>) -> Result<()> {
        let Wanted { name, package, .. } = wanted;
        let file = &package.artifact.file_name;
        if !self.task.choices.build.has(name) {
            let message = format!(
                "`{}` has to be built from `{file}`, and no such build is known on this machine",
                wanted.told()
            );
            return Err(Error::new(Kind::Refused, "build-not-asked", message).hint(format!(
                "`--build {name}` runs its code in a sandbox to build it; nothing was changed"
            )));
        }
        if self.state().done.len() >= BUILDS_IN_A_PLAN_MAX {
            let message = format!("more than {BUILDS_IN_A_PLAN_MAX} builds for one plan");
            return Err(Error::new(Kind::Failed, "too-many-builds", message)
                .hint(format!("say which version of `{name}` is meant")));
        }
        let alone = Resolution {
            ecosystem: Ecosystem::Pypi,
            links: Vec::new(),
            packages: vec![(*package).clone()],
            warnings: Vec::new(),
        };
        self.manifest.check_digests(&alone, self.target)?;
        self.task.check_wanted()
    }

    /// Refuses a wheel that needs something else than its source archive promised.
    fn check_believed(&self, wanted: &Wanted<'_>, done: &Done) -> Result<()> {
        let believed = self.state().believed.get(&wanted.digest).cloned();
        let Some(believed) = believed else { return Ok(()) };
        let needs = |core: &CoreMetadata| {
            let mut needs: Vec<_> = core.requires_dist.iter().map(ToString::to_string).collect();
            needs.sort();
            (needs, core.requires_python.clone())
        };
        if needs(&believed) == needs(&done.core) {
            return Ok(());
        }
        let (file, wheel) = (&wanted.package.artifact.file_name, &done.wheel.file_name);
        let message = format!("`{wheel}` needs something else than `{file}` promises");
        Err(Error::new(Kind::Verification, "built-other", message)
            .hint("choose another version; the archive says that a build does not change it"))
    }
}

/// The index as a resolver sees it.
impl Metadata for Sources<'_> {
    fn project(&self, name: &PackageName) -> Result<Arc<Page>> {
        self.task.registries.pypi().project(name)
    }

    fn core_metadata(&self, project: &Page, file: &Arc<File>) -> Result<Arc<CoreMetadata>> {
        if self.direct(project.name.as_ref()).is_some() {
            return Ok(Arc::clone(&self.done(&of_file(&project.name, file, true))?.core));
        }
        let said = self.task.registries.pypi().core_metadata(project, file);
        let is_source = file.kind == FileKind::Source;
        match said {
            Ok(core) if is_source => {
                let digest = file.hashes.to_string();
                self.state().believed.insert(digest, Arc::clone(&core));
                Ok(core)
            }
            Err(error) if is_source && error.code == NEEDS_BUILD => {
                Ok(Arc::clone(&self.done(&of_file(&project.name, file, false))?.core))
            }
            said => said,
        }
    }

    fn prefetch_project(&self, name: &PackageName) -> bool {
        self.task.registries.pypi().prefetch_project(name)
    }

    fn prefetch_core_metadata(&self, project: &Arc<Page>, file: &Arc<File>) {
        self.task.registries.pypi().prefetch_core_metadata(project, file);
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        self.state().ahead = Some(Arc::downgrade(ahead));
        self.task.registries.pypi().follow(ahead);
    }
}

/// A source archive as a package that is not chosen yet.
fn of_file(name: &PackageName, file: &File, by_address: bool) -> Package {
    Package {
        artifact: Arc::new(Artifact {
            built: None,
            by_address,
            file_name: file.name.clone(),
            hashes: file.hashes.clone(),
            size: file.size,
            source: None,
            url: file.url.clone(),
        }),
        bin: BTreeMap::new(),
        dependencies: Vec::new(),
        direct: false,
        ecosystem: Ecosystem::Pypi,
        extras: Vec::new(),
        license: None,
        name: name.to_string(),
        place: String::new(),
        published: file.published.clone(),
        scripts: Vec::new(),
        version: file.version.to_string(),
    }
}

fn sha256(digest: &str) -> Hashes {
    Hashes { sha256: Some(digest.to_owned()), sha512: None }
}

/// What is there for a build, by digests.
fn needed(found: &Resolution) -> Vec<BuildRequirement> {
    let exact = |package: &Package| BuildRequirement {
        hash: package.artifact.hashes.to_string(),
        purl: package.purl(),
    };
    let mut needed: Vec<_> = found.packages.iter().map(exact).collect();
    needed.sort_by(BuildRequirement::order);
    needed
}

/// What people are told who approve the plan.
fn warning(package: &Package, requirements: &[BuildRequirement], has_run: bool) -> String {
    let (purl, file) = (package.purl(), &package.artifact.file_name);
    if !has_run {
        return format!(
            "`{purl}` was built before from `{file}`; nothing of it was run for this plan"
        );
    }
    let purls: Vec<&str> = requirements.iter().map(|it| it.purl.as_str()).collect();
    let with = match purls.is_empty() {
        true => String::new(),
        false => format!(" and of {}", purls.join(", ")),
    };
    format!(
        "`{purl}` was built on this machine from `{file}`: its own code{with} was run in a sandbox for that"
    )
}

/// The ways out where a package that was built is wanted as a wheel alone.
fn one_of_both(name: &PackageName) -> String {
    format!(
        "leave `--only-binary` out for `{name}` to keep the wheel that was built before, or say `--build {name}` in its place"
    )
}
