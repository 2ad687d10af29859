//! Python's part of an operation: pyproject.toml or requirements.txt, and the virtual environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use pep440_rs::Version;
use pep508_rs::{MarkerTree, PackageName, Requirement};

use super::{Asked, Decided, Decision, Task, check_foreign, edit, fixed, not_direct, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::pypi::{BaseInterpreter, Environment};
use crate::install::{self, Options};
use crate::manifest::requirements::{Requirements, Wanted};
use crate::manifest::{pyproject, requirements};
use crate::options::Choice;
use crate::plan::Precondition;
use crate::python::{self, Interpreter, PythonTarget};
use crate::resolution::{Package, Resolution};
use crate::resolve::pypi;
use crate::spec::Spec;
use crate::store::clone_tree;
use crate::transaction::{Project, RelativePath};

const PYPROJECT: &str = "pyproject.toml";
const REQUIREMENTS: &str = "requirements.txt";
/// Where an environment is looked for, in this order; the first is where one is made.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

/// Locks of tools that keep the environment themselves.
const FOREIGN_LOCKS: [&str; 4] = ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"];
/// Options of a requirements file that change nothing here: every artefact is verified, and only wheels are installed.
const HARMLESS_OPTIONS: [&str; 3] = ["--require-hashes", "--prefer-binary", "--only-binary"];

/// The file that says what the project wants.
struct Manifest {
    path: &'static str,
    text: Option<String>,
    wanted: Vec<Requirement>,
    /// The lines that name digests (`sha256:...`).
    pinned: Vec<Wanted>,
}

impl Manifest {
    /// pyproject.toml where it has a `[project]`, else requirements.txt, which need not exist yet.
    fn read(project: &Project) -> Result<Self> {
        if let Some(text) = read_text(project, PYPROJECT)?
            && let Some(described) = pyproject::read(PYPROJECT, &text)?
        {
            let (path, wanted) = (PYPROJECT, described.dependencies);
            return Ok(Self { path, text: Some(text), wanted, pinned: Vec::new() });
        }
        let text = read_text(project, REQUIREMENTS)?;
        let read = match &text {
            Some(text) => requirements::read(REQUIREMENTS, text)?,
            None => Requirements::default(),
        };
        let followed =
            |option: &str| HARMLESS_OPTIONS.iter().any(|known| option.starts_with(known));
        if let Some((line, option)) = read.options.iter().find(|(_, option)| !followed(option)) {
            let option = option.split(['=', ' ']).next().unwrap_or_default();
            let message = format!("`{REQUIREMENTS}` line {line}: `{option}` is not followed");
            return Err(Error::new(Kind::Failed, "manifest-option", message).hint(
                "configure it in pip or name an index with `--registry pypi=URL`, and take it out of the file",
            ));
        }
        let pinned =
            read.wanted.iter().filter(|wanted| !wanted.hashes.is_empty()).cloned().collect();
        let wanted = read.wanted.into_iter().map(|wanted| wanted.requirement).collect();
        Ok(Self { path: REQUIREMENTS, text, wanted, pinned })
    }

    /// Refuses artefacts that the manifest's own digests do not allow.
    fn check_digests(&self, resolution: &Resolution, target: &PythonTarget) -> Result<()> {
        for package in &resolution.packages {
            let lines = self.pinned.iter().filter(|line| {
                line.requirement.name.as_ref() == package.name
                    && line.requirement.evaluate_markers(&target.markers, &[])
            });
            let allowed: Vec<&str> =
                lines.flat_map(|line| line.hashes.iter().map(String::as_str)).collect();
            if allowed.is_empty() {
                continue;
            }
            let known: Vec<&str> =
                allowed.iter().filter_map(|one| one.strip_prefix("sha256:")).collect();
            if known.is_empty() {
                let message = format!(
                    "`{}` has only hashes of `{}` that the index does not give",
                    self.path, package.name
                );
                return Err(Error::new(Kind::Failed, "unsupported-hash", message)
                    .hint("add its SHA-256 to the file"));
            }
            let digest = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
            if !known.contains(&digest) {
                let message = format!(
                    "the hash of `{}` is not one of those that `{}` allows for `{}`",
                    package.artifact.file_name, self.path, package.name
                );
                return Err(Error::new(Kind::Verification, "hash-mismatch", message)
                    .hint("find out which of the two is right; nothing was changed"));
            }
        }
        Ok(())
    }

    fn edited(&self, add: &[String], remove: &[&str]) -> Result<String> {
        let add: Vec<&str> = add.iter().map(String::as_str).collect();
        let mut text = self.text.clone();
        if let (Some(present), false) = (&text, remove.is_empty()) {
            text = Some(match self.path {
                PYPROJECT => pyproject::remove(self.path, present, remove)?,
                _ => requirements::remove(self.path, present, remove)?,
            });
        }
        match (text, self.path) {
            (Some(text), _) if add.is_empty() => Ok(text),
            (Some(text), PYPROJECT) => pyproject::add(self.path, &text, &add),
            (text, _) => requirements::add(self.path, text.as_deref(), &add),
        }
    }
}

/// The options of a resolution that the resolver honours; others are refused.
const HONOURED: &[Choice] = &[];

pub(super) fn decide(task: &Task<'_>, project: &Project, asked: &Asked<'_>) -> Decision {
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Pypi, HONOURED)?;
    let Asked { add, remove, installed, .. } = *asked;
    check_foreign(task, project, &FOREIGN_LOCKS)?;
    let manifest = Manifest::read(project)?;
    let mut wanted = manifest.wanted.clone();
    for spec in remove {
        let count = wanted.len();
        wanted.retain(|requirement| requirement.name.as_ref() != spec.name);
        if wanted.len() == count {
            return Err(not_direct(Ecosystem::Pypi, &spec.name, manifest.path).into());
        }
    }
    let mut lines = Vec::new();
    for spec in add {
        let old = wanted.iter().find(|requirement| requirement.name.as_ref() == spec.name).cloned();
        wanted.retain(|requirement| requirement.name.as_ref() != spec.name);
        let changed = merged(requirement(spec)?, old.as_ref());
        // What stood there already is kept; what is new gets the bound that was chosen.
        lines.push(old.is_some().then(|| unmarked(&changed)));
        wanted.push(changed);
    }
    let environment = environment(task, project)?;
    let interpreter = interpreter(task, project)?;
    check_environment(project, &environment, &base(&interpreter)?)?;
    let preferred = preferred(project, &environment, add, installed)?;
    let request = pypi::Request {
        requirements: &wanted,
        target: &interpreter.target,
        preferred: &preferred,
        keep_on: &|| task.check_resolving(began),
    };
    let resolution = pypi::resolve(&request, task.registries.pypi())?;
    manifest.check_digests(&resolution, &interpreter.target)?;
    let lines: Vec<String> = add
        .iter()
        .zip(lines)
        .map(|(spec, line)| line.unwrap_or_else(|| saved(spec, &resolution)))
        .collect();
    let removed: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
    let after = manifest.edited(&lines, &removed)?;
    Ok(Decided {
        edits: edit(manifest.path, manifest.text.as_deref(), &after)?.into_iter().collect(),
        preconditions: vec![
            Precondition::file(project, fixed(PYPROJECT)?)?,
            Precondition::file(project, fixed(REQUIREMENTS)?)?,
            Precondition::environment(&task.shop.transactions, project, environment.clone())?,
        ],
        warnings: resolution
            .warnings
            .iter()
            .cloned()
            .chain(super::not_followed(task, Ecosystem::Pypi)?)
            .collect(),
        resolution,
        environment: Some(environment),
        before: None,
    })
}

/// What is asked for now, with what stood in the manifest where the caller did not say otherwise.
fn merged(mut new: Requirement, old: Option<&Requirement>) -> Requirement {
    let Some(old) = old else { return new };
    new.extras.extend(old.extras.iter().cloned());
    new.extras.sort();
    new.extras.dedup();
    new.marker = old.marker.clone();
    if new.version_or_url.is_none() {
        new.version_or_url.clone_from(&old.version_or_url);
    }
    new
}

/// The line of a requirement without its marker, which stays where it stands.
fn unmarked(requirement: &Requirement) -> String {
    let mut plain = requirement.clone();
    plain.marker = MarkerTree::TRUE;
    plain.to_string()
}

/// Refuses what stands at the place of the environment and is none, or is one of another Python.
fn check_environment(
    project: &Project,
    place: &RelativePath,
    base: &BaseInterpreter,
) -> Result<()> {
    let live = project.path().join(place.as_str());
    if live.symlink_metadata().is_err() {
        return Ok(());
    }
    if !live.join("pyvenv.cfg").is_file() {
        let message = format!("`{place}` is there and is not a virtual environment");
        return Err(Error::new(Kind::Refused, "not-an-environment", message)
            .hint("move it away, or unset VIRTUAL_ENV"));
    }
    if !live.join(base.site_packages()).is_dir() {
        let message =
            format!("`{place}` is an environment of another Python than `{}`", base.library_name);
        return Err(Error::new(Kind::Refused, "other-python", message).hint(
            "choose its own interpreter with `--python`, or move it away to have a new one made",
        ));
    }
    Ok(())
}

fn requirement(spec: &Spec) -> Result<Requirement> {
    let extras = match spec.extras.is_empty() {
        true => String::new(),
        false => format!("[{}]", spec.extras.join(",")),
    };
    let text = format!("{}{extras}{}", spec.name, spec.requirement);
    crate::io::pypi::core_metadata::requirement(&text).map_err(|problem| {
        Error::new(Kind::Usage, "bad-requirement", problem)
            .hint("write it as `pypi:name[extra]>=1.0,<2`")
    })
}

fn saved(spec: &Spec, resolution: &Resolution) -> String {
    let chosen = resolution.packages.iter().find(|package| package.name == spec.name);
    requirements::saved_requirement(spec, chosen.map_or("", |package| package.version.as_str()))
}

/// The virtual environment of the project: an active one inside of it, else one that is there, else `.venv`.
fn environment(task: &Task<'_>, project: &Project) -> Result<RelativePath> {
    let active = task.variable("VIRTUAL_ENV").map(PathBuf::from);
    if let Some(inside) = active.and_then(|path| {
        let inside = path.strip_prefix(project.path()).ok()?.to_str()?.to_owned();
        RelativePath::new(&inside).ok()
    }) {
        let place = project.path().join(inside.as_str());
        if !place.exists() || place.join("pyvenv.cfg").is_file() {
            return Ok(inside);
        }
    }
    let present = ENVIRONMENTS
        .into_iter()
        .find(|name| project.path().join(name).join("pyvenv.cfg").is_file());
    fixed(present.unwrap_or(ENVIRONMENTS[0]))
}

fn interpreter(task: &Task<'_>, project: &Project) -> Result<Interpreter> {
    let search_path = task.variable("PATH");
    let named = task.setting.python.as_deref().map(Path::new);
    let path = python::find(named, project.path(), search_path.as_deref().map(AsRef::as_ref))?;
    task.shop.tools.interpreter(&path, task.conversation.cancellation())
}

/// What is installed, except what the caller asked for anew without naming versions.
fn preferred(
    project: &Project,
    environment: &RelativePath,
    add: &[Spec],
    installed: Option<&Resolution>,
) -> Result<BTreeMap<PackageName, Version>> {
    let mut known: Vec<(String, String)> = Vec::new();
    let place = project.path().join(environment.as_str());
    if let Some(site_packages) = install::pypi::site_packages_of(&place) {
        let present = install::pypi::installed(&place.join(site_packages))?;
        known.extend(present.into_iter().map(|present| (present.name, present.version)));
    }
    if let Some(resolution) = installed {
        let packages = resolution.packages.iter();
        known.extend(packages.map(|package| (package.name.clone(), package.version.clone())));
    }
    let anew = |name: &PackageName| {
        add.iter().any(|spec| spec.requirement.is_empty() && spec.name == name.as_ref())
    };
    let parsed = known.into_iter().filter_map(|(name, version)| {
        Some((PackageName::from_str(&name).ok()?, Version::from_str(&version).ok()?))
    });
    Ok(parsed.filter(|(name, _)| !anew(name)).collect())
}

/// Builds the environment in `staging` for its place in the project; its warnings.
pub(super) fn stage(
    task: &Task<'_>,
    project: &Project,
    place: &RelativePath,
    resolution: &Resolution,
    installed: Option<&Resolution>,
    staging: &Path,
    options: Options<'_>,
) -> Result<Vec<String>> {
    let base = base(&interpreter(task, project)?)?;
    let live = project.path().join(place.as_str());
    let environment = Environment { staging, final_path: &live, interpreter: &base };
    let mut warnings = Vec::new();
    check_environment(project, place, &base)?;
    if live.is_dir() {
        clone_tree(&live, staging, options.crew, options.cancellation)?;
    } else {
        let made = install::pypi::create(&task.shop.store, environment, true, options)?;
        warnings.extend(made.warnings);
    }
    let present = install::pypi::installed(&staging.join(base.site_packages()))?;
    let is_same = |package: &Package, name: &str, version: &str| {
        same_name(&package.name, name) && same_version(&package.version, version)
    };
    let keep = |name: &str, version: &str| {
        resolution.packages.iter().any(|package| is_same(package, name, version))
    };
    let ours = |name: &str| {
        let known = installed.into_iter().chain([resolution]);
        known.flat_map(|known| &known.packages).any(|package| same_name(&package.name, name))
    };
    for present in present.iter().filter(|p| ours(&p.name) && !keep(&p.name, &p.version)) {
        install::pypi::remove(environment, &present.name)?;
    }
    let missing: Vec<&Package> = resolution
        .packages
        .iter()
        .filter(|package| !present.iter().any(|p| is_same(package, &p.name, &p.version)))
        .collect();
    let report = install::pypi::install(&task.shop.store, environment, &missing, options)?;
    warnings.extend(report.warnings);
    Ok(warnings)
}

fn same_name(left: &str, right: &str) -> bool {
    match (PackageName::from_str(left), PackageName::from_str(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

fn same_version(left: &str, right: &str) -> bool {
    match (Version::from_str(left), Version::from_str(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

/// What an environment is made of, from what the interpreter said of itself.
fn base(interpreter: &Interpreter) -> Result<BaseInterpreter> {
    let missing = |what: &str| {
        let message = format!("`{}` does not say its {what}", interpreter.executable.display());
        Error::new(Kind::Failed, "python-incomplete", message)
            .hint("choose another interpreter with `--python`")
    };
    let stdlib = interpreter.paths.get("stdlib").ok_or_else(|| missing("standard library"))?;
    let library_name = stdlib.file_name().and_then(|name| name.to_str());
    let (major, minor, micro) = interpreter.version;
    let small = |number: u64| u32::try_from(number).map_err(|_| missing("version"));
    Ok(BaseInterpreter {
        executable: interpreter.base_executable.clone(),
        version: (small(major)?, small(minor)?, small(micro)?),
        version_text: interpreter.target.python.to_string(),
        library_name: library_name.ok_or_else(|| missing("library directory"))?.to_owned(),
        stdlib: stdlib.clone(),
    })
}
