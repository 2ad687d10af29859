//! Python's part of an operation: pyproject.toml or requirements.txt, and the virtual environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep440_rs::Version;
use pep508_rs::{PackageName, Requirement};

use super::{Decided, Decision, Task, edit, fixed, not_direct, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::pypi::{BaseInterpreter, Environment};
use crate::install::{self, Options};
use crate::manifest::{pyproject, requirements};
use crate::plan::Precondition;
use crate::python::{self, Interpreter};
use crate::resolution::{Package, Resolution};
use crate::resolve::pypi;
use crate::spec::Spec;
use crate::store::clone_tree;
use crate::transaction::{Project, RelativePath};

const PYPROJECT: &str = "pyproject.toml";
const REQUIREMENTS: &str = "requirements.txt";
/// Where an environment is looked for, in this order; the first is where one is made.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

/// The file that says what the project wants.
struct Manifest {
    path: &'static str,
    text: Option<String>,
    wanted: Vec<Requirement>,
    /// By name, the digests that the manifest allows (`sha256:...`), where it names any.
    allowed: BTreeMap<String, Vec<String>>,
}

impl Manifest {
    /// pyproject.toml where it has a `[project]`, else requirements.txt, which need not exist yet.
    fn read(project: &Project) -> Result<Self> {
        if let Some(text) = read_text(project, PYPROJECT)?
            && let Some(described) = pyproject::read(PYPROJECT, &text)?
        {
            let (path, wanted) = (PYPROJECT, described.dependencies);
            return Ok(Self { path, text: Some(text), wanted, allowed: BTreeMap::new() });
        }
        let text = read_text(project, REQUIREMENTS)?;
        let wanted = match &text {
            Some(text) => requirements::read(REQUIREMENTS, text)?.wanted,
            None => Vec::new(),
        };
        let pinned = wanted.iter().filter(|wanted| !wanted.hashes.is_empty());
        let allowed =
            pinned.map(|wanted| (wanted.requirement.name.to_string(), wanted.hashes.clone()));
        let allowed = allowed.collect();
        let wanted = wanted.into_iter().map(|wanted| wanted.requirement).collect();
        Ok(Self { path: REQUIREMENTS, text, wanted, allowed })
    }

    /// Refuses artefacts that the manifest's own digests do not allow.
    fn check_digests(&self, resolution: &Resolution) -> Result<()> {
        for package in &resolution.packages {
            let Some(allowed) = self.allowed.get(&package.name) else { continue };
            let digest = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
            if !allowed.iter().any(|one| one.strip_prefix("sha256:") == Some(digest)) {
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

pub(super) fn decide(
    task: &Task<'_>,
    project: &Project,
    add: &[Spec],
    remove: &[Spec],
    installed: Option<&Resolution>,
) -> Decision {
    let manifest = Manifest::read(project)?;
    let mut wanted = manifest.wanted.clone();
    for spec in remove {
        let count = wanted.len();
        wanted.retain(|requirement| requirement.name.as_ref() != spec.name);
        if wanted.len() == count {
            return Err(not_direct(Ecosystem::Pypi, &spec.name, manifest.path).into());
        }
    }
    for spec in add {
        wanted.retain(|requirement| requirement.name.as_ref() != spec.name);
        wanted.push(requirement(spec)?);
    }
    let environment = environment(task, project)?;
    let interpreter = interpreter(task, project)?;
    let preferred = preferred(project, &environment, add, installed)?;
    let request = pypi::Request {
        requirements: &wanted,
        target: &interpreter.target,
        preferred: &preferred,
        deadline: Some(task.deadline()),
    };
    let resolution = pypi::resolve(&request, task.registries.pypi())?;
    manifest.check_digests(&resolution)?;
    let lines: Vec<String> = add.iter().map(|spec| saved(spec, &resolution)).collect();
    let removed: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
    let after = manifest.edited(&lines, &removed)?;
    Ok(Decided {
        edits: edit(manifest.path, manifest.text.as_deref(), &after)?.into_iter().collect(),
        preconditions: vec![
            Precondition::file(project, fixed(PYPROJECT)?)?,
            Precondition::file(project, fixed(REQUIREMENTS)?)?,
            Precondition::environment(&task.shop.transactions, project, environment.clone())?,
        ],
        warnings: resolution.warnings.clone(),
        resolution,
        environment: Some(environment),
    })
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
        return Ok(inside);
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
    task.shop.tools.interpreter(&path)
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
    options: Options,
) -> Result<Vec<String>> {
    let base = base(&interpreter(task, project)?)?;
    let live = project.path().join(place.as_str());
    let environment = Environment { staging, final_path: &live, interpreter: &base };
    let mut warnings = Vec::new();
    let library = live.join(base.site_packages());
    if live.join("pyvenv.cfg").is_file() && library.is_dir() {
        clone_tree(&live, staging, options.parallelism)?;
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
