//! `bolide.lock` in an operation: read before anything is decided, followed where it fits, written with everything else.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use super::{Aim, Asked, Decided, Task, edit, fixed, hold, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::lock::recent::Recent;
use crate::lock::{self, FILE, Lock, Part, PartView};
use crate::metadata::held::Grip;
use crate::options::Choice;
use crate::plan::{FileEdit, Plan, Precondition};
use crate::resolution::{Package, Resolution};
use crate::spec::Spec;
use crate::transaction::{Content, Project};

/// Files that make a directory a project of an ecosystem.
const MANIFESTS: [(Ecosystem, &str); 4] = [
    (Ecosystem::Npm, "package.json"),
    (Ecosystem::Pypi, "pyproject.toml"),
    (Ecosystem::Pypi, "requirements.txt"),
    (Ecosystem::Cargo, "Cargo.toml"),
];

/// What is to be locked of an ecosystem beside what was found; see [`Part`].
pub(super) struct Wanted {
    ecosystem: Ecosystem,
    wants: Vec<String>,
    target: String,
}

impl Wanted {
    /// Takes it of what was decided. What the system has is no matter of a project, and what is locked is what this project is made of
    /// here.
    pub(super) fn of(decided: &mut Decided) -> Option<Self> {
        let ecosystem = decided.resolution.ecosystem;
        let is_locked = !decided.is_elsewhere && !ecosystem.is_of_system();
        let (wants, target) = (mem::take(&mut decided.wants), mem::take(&mut decided.target));
        is_locked.then_some(Self { ecosystem, wants, target })
    }
}

/// The lock of a project as it was read.
pub(super) struct Locked {
    text: Option<String>,
    pub(super) lock: Arc<Lock>,
}

impl Locked {
    pub(super) fn read(project: &Project, recent: &Recent) -> Result<Self> {
        let text = read_text(project, FILE)?;
        let lock = match &text {
            Some(text) => recent.read(text)?,
            None => Arc::default(),
        };
        Ok(Self { text, lock })
    }

    /// That the lock stays what was read.
    pub(super) fn precondition(&self) -> Result<Precondition> {
        let content = self.text.as_ref().map(|text| Content::of(text.as_bytes()));
        Ok(Precondition::File { path: fixed(FILE)?, content })
    }

    /// The edit that locks what a plan found; `None` where that was locked before.
    pub(super) fn edit(&self, wanted: &[Wanted], plan: &Plan) -> Result<Option<FileEdit>> {
        let mut parts = self.lock.view();
        for Wanted { ecosystem, wants, target } in wanted {
            let found = plan.resolutions.iter().find(|one| one.ecosystem == *ecosystem);
            let Some(resolution) = found else { continue };
            parts.put(PartView { wants, target, resolution });
        }
        match (parts.render()?, &self.text) {
            (Some(after), before) => edit(FILE, before.as_deref(), after),
            (None, None) => Ok(None),
            (None, Some(before)) => Ok(Some(FileEdit {
                path: fixed(FILE)?,
                before: Some(Content::of(before.as_bytes())),
                after: None,
            })),
        }
    }
}

impl Asked<'_> {
    /// Whether the version that a package has is no reason to keep it.
    pub(super) fn is_anew(&self, name: &str) -> bool {
        match self.aim {
            _ if self.held.contains(name) => false,
            Aim::Update([]) => true,
            Aim::Update(named) => named.iter().any(|spec| spec.name == name),
            Aim::Change | Aim::Install => false,
        }
    }

    /// What is installed according to the lock, else what we installed last.
    pub(super) fn known(&self) -> Option<&Resolution> {
        self.locked.map(|part| &part.resolution).or(self.installed)
    }

    /// The locked resolution, where it is what an installation should follow: the manifests want the same, for the same target,
    /// and nothing else was chosen. With `--frozen` it has to be.
    pub(super) fn as_locked(
        &self,
        task: &Task<'_>,
        ecosystem: Ecosystem,
        wants: &[String],
        fits: &dyn Fn(&Part) -> bool,
    ) -> Result<Option<Resolution>> {
        if self.aim != Aim::Install {
            return Ok(None);
        }
        let is_frozen = task.choices.frozen;
        let Some(part) = self.locked else {
            let is_needed = is_frozen && !wants.is_empty();
            return if is_needed { Err(lock::missing(ecosystem)) } else { Ok(None) };
        };
        if let Some(difference) = lock::difference(&part.wants, wants) {
            return if is_frozen { Err(lock::stale(ecosystem, &difference)) } else { Ok(None) };
        }
        if !fits(part) {
            let message = format!(
                "`--frozen`: `{FILE}` locks packages of {ecosystem} for `{}`, which is not what is here",
                part.target
            );
            let error = Error::new(Kind::Stale, "lock-target", message)
                .hint("run `bolide install` without `--frozen` to lock for this machine");
            return if is_frozen { Err(error) } else { Ok(None) };
        }
        let broken = self.held.broken_by(&part.resolution);
        if let Some(name) = broken.first().filter(|_| self.held.grip != Grip::Loose) {
            let error = hold::against_lock(ecosystem, name, self.held);
            return if is_frozen { Err(error) } else { Ok(None) };
        }
        // What may be built chooses nothing.
        let chooses = |choice: &Choice| choice.is_for(ecosystem) && *choice != Choice::Build;
        let is_chosen = task.choices.given().iter().any(chooses);
        Ok((!is_chosen).then(|| part.resolution.clone()))
    }

    /// Refuses a resolution that is not the locked one, where it has to be; for an ecosystem that is always resolved.
    pub(super) fn check_locked(&self, task: &Task<'_>, resolution: &Resolution) -> Result<()> {
        if !task.choices.frozen {
            return Ok(());
        }
        let ecosystem = resolution.ecosystem;
        match self.locked {
            None if resolution.packages.is_empty() => Ok(()),
            None => Err(lock::missing(ecosystem)),
            Some(part) => {
                let artefacts = |resolution: &Resolution| -> Vec<String> {
                    let packages = resolution.packages.iter();
                    let named = packages.map(|it| format!("{} {}", it.purl(), it.artifact.hashes));
                    named.collect()
                };
                let (locked, now) = (artefacts(&part.resolution), artefacts(resolution));
                match lock::difference(&locked, &now) {
                    Some(difference) => Err(lock::stale(ecosystem, &difference)),
                    None => Ok(()),
                }
            }
        }
    }

    /// Refuses to update what is not there.
    pub(super) fn check_update(&self, resolution: &Resolution) -> Result<()> {
        let Aim::Update(named) = self.aim else { return Ok(()) };
        let was = self.known().into_iter().flat_map(|known| &known.packages);
        // Under what it goes by here, too, which an alias and an archive may have another name for.
        let names: BTreeSet<&str> =
            was.chain(&resolution.packages).flat_map(Package::names).collect();
        match named.iter().find(|spec| !names.contains(spec.name.as_str())) {
            None => Ok(()),
            Some(spec) => {
                let message = format!("`{}:{}` is not used here", spec.ecosystem, spec.name);
                Err(Error::new(Kind::Usage, "not-a-dependency", message)
                    .hint("`bolide list` shows what is; `bolide add` adds a package"))
            }
        }
    }
}

/// The ecosystems that a project uses, by its manifests.
pub(super) fn used(project: &Project) -> Result<BTreeSet<Ecosystem>> {
    let mut used = BTreeSet::new();
    for (ecosystem, manifest) in MANIFESTS {
        let Some(text) = read_text(project, manifest)? else { continue };
        // A pyproject.toml without a project configures tools.
        if manifest != "pyproject.toml"
            || crate::manifest::pyproject::read(manifest, &text)?.is_some()
        {
            used.insert(ecosystem);
        }
    }
    Ok(used)
}

/// Refuses to install or update where nothing says what is wanted.
pub(super) fn check_manifest(project: &Project, aim: Aim<'_>) -> Result<()> {
    let used = used(project)?;
    let named = match aim {
        Aim::Update(named) => named,
        Aim::Change | Aim::Install => &[],
    };
    // What the system has, no manifest asks for.
    let has = |spec: &Spec| spec.ecosystem.is_of_system() || used.contains(&spec.ecosystem);
    let is_right = match named {
        [] => !used.is_empty(),
        named => named.iter().all(has),
    };
    if is_right {
        return Ok(());
    }
    let message = format!("there is no manifest for it in `{}`", project.path().display());
    Err(Error::new(Kind::Usage, "manifest-missing", message).hint(
        "go to a directory with a package.json, pyproject.toml, requirements.txt or Cargo.toml",
    ))
}

/// Names of packages without versions, for an update.
pub(super) fn check_names(specs: &[Spec]) -> Result<()> {
    let is_more = |spec: &&Spec| !spec.requirement.is_empty() || !spec.extras.is_empty();
    let Some(spec) = specs.iter().find(is_more) else { return Ok(()) };
    let message = format!("`{spec}` names more than a package to update");
    Err(Error::new(Kind::Usage, "bad-update", message).hint(format!(
        "`bolide add '{spec}'` changes what the manifest allows; an update stays within it"
    )))
}

/// Refuses options that contradict `--frozen`.
pub(super) fn check_frozen(task: &Task<'_>, aim: Aim<'_>) -> Result<()> {
    if !task.choices.frozen {
        return Ok(());
    }
    if aim != Aim::Install {
        let message = "`--frozen` follows the lock, so nothing can be added, removed or updated";
        return Err(Error::new(Kind::Usage, "frozen", message)
            .hint("leave `--frozen` out, or run `bolide install --frozen`"));
    }
    match task.choices.given().iter().find(|choice| **choice != Choice::Build) {
        None => Ok(()),
        Some(choice) => {
            let message = format!("`--frozen` follows the lock, so `{choice}` has nothing to say");
            Err(Error::new(Kind::Usage, "frozen", message).hint(format!("leave `{choice}` out")))
        }
    }
}
