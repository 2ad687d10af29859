//! Python's part of an operation: pyproject.toml or requirements.txt, and the virtual environment.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use pep440_rs::Version;
use pep508_rs::{MarkerTree, PackageName, Requirement};

mod direct;
mod made_for;
mod manifest;
mod sources;

pub(super) use self::made_for::{check_others, made_for_another_path, others_in};
use self::manifest::{Manifest, PYPROJECT, REQUIREMENTS};
use super::age::told;
use super::{Asked, Decided, Decision, Task, check_foreign, edit, fixed, not_direct};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::pypi::{BaseInterpreter, Environment};
use crate::install::{self, Options};
use crate::lock::Part;
use crate::lock::import::{self, Imported};
use crate::manifest::address;
use crate::manifest::requirements::{self, Wanted};
use crate::metadata::aged::Aged;
use crate::metadata::pypi::{FileKind, Metadata};
use crate::options::{Choice, Choices};
use crate::plan::Precondition;
use crate::python::{self, Interpreter, PythonTarget};
use crate::resolution::{Package, Resolution};
use crate::resolve::pypi::policy::Policy;
use crate::resolve::{ResolveError, pypi};
use crate::spec::Spec;
use crate::store::clone_tree;
use crate::transaction::{Project, RelativePath};

/// Where an environment is looked for, in this order; the first is where one is made.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

/// Locks of tools that keep the environment themselves.
const FOREIGN_LOCKS: [&str; 4] = ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"];
/// The options of a resolution that the resolver honours; others are refused.
const HONOURED: &[Choice] = &[
    Choice::PythonVersion,
    Choice::PythonPlatform,
    Choice::Prerelease,
    Choice::Resolution,
    Choice::OnlyBinary,
    Choice::NoBinary,
    Choice::Build,
    Choice::ExcludeNewer,
    Choice::Constraint,
    Choice::Override,
];

pub(super) fn decide(task: &Task<'_>, project: &Project, asked: &Asked<'_>) -> Decision {
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Pypi, HONOURED)?;
    let Asked { add, remove, .. } = *asked;
    check_foreign(task, project, asked, &FOREIGN_LOCKS)?;
    let mut manifest = Manifest::read(project)?;
    manifest.pin(task.choices.constraints.iter().chain(&task.choices.overrides));
    let mut wanted = left(&manifest, remove)?;
    let lines = want(&mut wanted, add, &manifest.elsewhere)?;
    let environment = environment(task, project)?;
    let interpreter = interpreter(task, project)?;
    let Choices { python_version: version, python_platform: platform, .. } = &task.choices;
    let is_elsewhere = version.is_some() || platform.is_some();
    let target = PythonTarget::elsewhere(&interpreter, version.as_ref(), platform.as_deref())?;
    manifest.check_python(&target)?;
    task.registries.check_pypi_indexes(&manifest.indexes)?;
    manifest.settle_formats(task.registries.pypi_formats()?, &task.choices.formats)?;
    if !is_elsewhere {
        check_environment(project, &environment, &base(&interpreter)?)?;
    }
    wanted.extend(manifest.beside.iter().cloned());
    let locked_for = target_name(&target);
    let fits = |part: &Part| part.target == locked_for && runs(&part.resolution, &target);
    let locked = asked.as_locked(task, Ecosystem::Pypi, &manifest.wants(&wanted), &fits)?;
    let (is_locked, mut warnings) = (locked.is_some(), Vec::new());
    let mut policy = policy(&task.choices, &manifest, &target);
    let about = (&manifest, &interpreter, &target);
    let sources = sources::Sources::new(task, project, about, asked.known());
    policy.sources.names.extend(sources.known_names());
    let (mut resolution, named) = match locked {
        Some(mut resolution) => {
            let all = wanted.iter().chain(&policy.constraints);
            let about = (&target, &sources);
            warnings = direct::place_locked(&mut resolution, project, about, all)?;
            (resolution, Vec::new())
        }
        None => {
            let (imported, preferred) = match is_elsewhere {
                true => (None, BTreeMap::new()),
                false => known_here(project, &environment, asked, &manifest)?,
            };
            let (manifest, sources, target) = (&manifest, &sources, &target);
            let imported = imported.as_ref();
            let finder =
                direct::Finder { task, project, asked, manifest, sources, target, imported };
            let request = pypi::Request {
                requirements: &wanted,
                target,
                preferred: &preferred,
                policy: &policy,
                keep_on: &|| task.check_resolving(began + sources.spent()),
            };
            resolve_with(&finder, sources, &request).map_err(|error| sources.explained(error))?
        }
    };
    asked.check_update(&resolution)?;
    manifest.check_digests(&resolution, &target)?;
    manifest.check_formats(&resolution)?;
    sources.build_all(&mut resolution)?;
    let lines = add.iter().zip(lines).filter_map(|(spec, line)| match line {
        Line::Stays => None,
        Line::As(line) => Some(line),
        Line::Bound => Some(saved(spec, &resolution)),
    });
    let lines: Vec<String> = lines.collect();
    let removed: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
    let after = manifest.edited(&lines, &removed)?;
    let environment = (!is_elsewhere).then_some(environment);
    let mut preconditions = preconditions(task, project, &manifest, environment.as_ref())?;
    preconditions.extend(named);
    warnings.extend(resolution.warnings.iter().cloned());
    warnings.extend(super::not_followed(task, Ecosystem::Pypi)?);
    if is_elsewhere {
        warnings.push(nothing_here(&target, platform.as_deref()));
    }
    Ok(Decided {
        wants: manifest.wants(&manifest.wanted_in(&after)?),
        target: locked_for,
        edits: match add.is_empty() && remove.is_empty() {
            true => Vec::new(),
            false => edit(manifest.path, manifest.text.as_deref(), after)?.into_iter().collect(),
        },
        preconditions,
        warnings,
        resolution,
        environment,
        beside: Vec::new(),
        before: None,
        is_locked,
        is_elsewhere,
        system: None,
    })
}

/// What the manifest itself asks for, without what is removed.
fn left(manifest: &Manifest, remove: &[Spec]) -> Result<Vec<Requirement>> {
    let mut wanted = manifest.wanted.clone();
    for spec in remove {
        let count = wanted.len();
        wanted.retain(|requirement| requirement.name.as_ref() != spec.name);
        if wanted.len() == count {
            return Err(not_direct(Ecosystem::Pypi, &spec.name, manifest.path));
        }
    }
    Ok(wanted)
}

/// The warning of a plan that is only looked at.
fn nothing_here(target: &PythonTarget, platform: Option<&str>) -> String {
    let (python, platform) = (&target.python, platform.unwrap_or("this platform"));
    format!("resolved for Python {python} on {platform}, so nothing is installed here")
}

/// What another tool locked, where nothing is known of our own, and what is preferred here.
fn known_here(
    project: &Project,
    environment: &RelativePath,
    asked: &Asked<'_>,
    manifest: &Manifest,
) -> Result<(Option<Imported>, BTreeMap<PackageName, Version>)> {
    let imported = match asked.known() {
        Some(_) => None,
        None => import::pypi(project, manifest.path)?,
    };
    let preferred = preferred(project, environment, asked, imported.as_ref())?;
    Ok((imported, preferred))
}

/// Everything that was read has to stay as it is, and so has the environment that is built.
fn preconditions(
    task: &Task<'_>,
    project: &Project,
    manifest: &Manifest,
    environment: Option<&RelativePath>,
) -> Result<Vec<Precondition>> {
    let files: BTreeSet<&str> = manifest.files.iter().map(String::as_str).collect();
    let files = [PYPROJECT, REQUIREMENTS].into_iter().chain(files);
    let mut preconditions =
        files.map(|file| Precondition::file(project, fixed(file)?)).collect::<Result<Vec<_>>>()?;
    if let Some(place) = environment {
        let transactions = &task.shop.transactions;
        preconditions.push(Precondition::environment(transactions, project, place.clone())?);
    }
    Ok(preconditions)
}

/// The resolution with what the project names by path or address, and that those files have to stay as they are.
fn resolve_with(
    finder: &direct::Finder<'_>,
    sources: &sources::Sources<'_>,
    request: &pypi::Request<'_>,
) -> std::result::Result<(Resolution, Vec<Precondition>), ResolveError> {
    let mut policy = request.policy.clone();
    let all = request.requirements.iter().chain(&policy.constraints).chain(&policy.overrides);
    let direct::Found { known, preconditions, sources: named, warnings } = finder.find(all)?;
    policy.addresses = known;
    // Whether they may be built is asked where they are.
    policy.sources.names.extend(named);
    let request = pypi::Request { policy: &policy, ..*request };
    let mut resolution = resolve(finder.task, finder.asked, sources, &request, finder.imported)?;
    resolution.warnings.extend(warnings);
    Ok((resolution, preconditions))
}

/// The resolution, of old enough versions where that is asked for.
fn resolve(
    task: &Task<'_>,
    asked: &Asked<'_>,
    sources: &sources::Sources<'_>,
    request: &pypi::Request<'_>,
    imported: Option<&Imported>,
) -> std::result::Result<Resolution, ResolveError> {
    let registry: &dyn Metadata = sources;
    let mut resolution = match task.limit(Ecosystem::Pypi, asked) {
        None => pypi::resolve(request, registry)?,
        Some(limit) => {
            let aged = Aged::new(registry, limit);
            let resolved = pypi::resolve(request, &aged);
            told(resolved, &aged.left_out(), |resolved| &mut resolved.warnings)?
        }
    };
    if let Some(imported) = imported {
        imported.keep_hashes(&mut resolution)?;
    }
    Ok(resolution)
}

/// What the project asks of the index.
pub(super) fn declared(project: &Project) -> Result<Vec<Spec>> {
    let wanted = Manifest::read(project)?.wanted;
    let specs = wanted.into_iter().filter_map(|requirement| {
        let specifiers = match &requirement.version_or_url {
            None => String::new(),
            Some(pep508_rs::VersionOrUrl::VersionSpecifier(specifiers)) => specifiers.to_string(),
            Some(pep508_rs::VersionOrUrl::Url(_)) => return None,
        };
        Spec::parse(&format!("pypi:{}{specifiers}", requirement.name)).ok()
    });
    Ok(specs.collect())
}

/// What the manifest gets for a package that is added.
enum Line {
    /// What stands there is what is asked for.
    Stays,
    /// As it is.
    As(String),
    /// The bound that is chosen.
    Bound,
}

/// Puts what is added in the place of what stood there. What stood there already is a line to write as it is; what is new gets the
/// bound that is chosen. What the manifest takes from a file stays so for a bare name.
fn want(
    wanted: &mut Vec<Requirement>,
    add: &[Spec],
    elsewhere: &BTreeSet<String>,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for spec in add {
        let is_it = |requirement: &Requirement| requirement.name.as_ref() == spec.name;
        let is_file =
            |it: &Requirement| matches!(it.version_or_url, Some(pep508_rs::VersionOrUrl::Url(_)));
        let is_bare = spec.requirement.is_empty() && spec.extras.is_empty();
        if is_bare && wanted.iter().any(|it| is_it(it) && is_file(it)) {
            lines.push(Line::Stays);
            continue;
        }
        if elsewhere.contains(&spec.name) {
            let message = format!("`{}` comes from what `tool.uv.sources` says", spec.name);
            return Err(Error::new(Kind::Usage, "manifest-source", message)
                .hint("change the manifest by hand, then run `bolide install`"));
        }
        let old = wanted.iter().find(|requirement| is_it(requirement)).cloned();
        wanted.retain(|requirement| !is_it(requirement));
        let changed = merged(requirement(spec)?, old.as_ref());
        lines.push(match old.is_some() {
            true => Line::As(unmarked(&changed)),
            false => Line::Bound,
        });
        wanted.push(changed);
    }
    Ok(lines)
}

/// What the manifest and the caller say beside the requirements.
fn policy(choices: &Choices, manifest: &Manifest, target: &PythonTarget) -> Policy {
    let mut policy = manifest.policy(target);
    let plain =
        |wanted: &Vec<Wanted>| wanted.iter().map(|one| one.requirement.clone()).collect::<Vec<_>>();
    policy.constraints.extend(plain(&choices.constraints));
    policy.overrides.extend(plain(&choices.overrides));
    policy.mode = choices.mode;
    policy.sources = choices.build.clone();
    policy.prerelease = choices.prerelease.or(policy.prerelease);
    policy
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
    address::written(&plain)
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

/// A target by what decides about most packages; see [`runs`] for the rest.
fn target_name(target: &PythonTarget) -> String {
    let markers = &target.markers;
    format!(
        "{}-{}-{}-{}",
        markers.implementation_name(),
        markers.python_version(),
        markers.sys_platform(),
        markers.platform_machine()
    )
}

/// Whether every wheel is for the target.
fn runs(resolution: &Resolution, target: &PythonTarget) -> bool {
    let tags: HashSet<&str> = target.tags.iter().map(String::as_str).collect();
    resolution.packages.iter().all(|package| {
        let Ok(name) = PackageName::from_str(&package.name) else { return false };
        match crate::io::pypi::file_name::parse(&package.artifact.file_name, &name) {
            Some((_, FileKind::Wheel { tags: of_file, .. })) => {
                of_file.iter().any(|tag| tags.contains(tag.as_str()))
            }
            // What is made of it here runs here, whatever it is called.
            _ => package.artifact.built.is_some(),
        }
    })
}

/// What is in the environment, what another tool locked, what is installed or locked by us, the last one before the others;
/// without what is to be chosen anew.
fn preferred(
    project: &Project,
    environment: &RelativePath,
    asked: &Asked<'_>,
    imported: Option<&Imported>,
) -> Result<BTreeMap<PackageName, Version>> {
    let mut known: Vec<(String, String)> = Vec::new();
    let place = project.path().join(environment.as_str());
    if let Some(site_packages) = install::pypi::site_packages_of(&place) {
        let present = install::pypi::installed(&place.join(site_packages))?;
        known.extend(present.into_iter().map(|present| (present.name, present.version)));
    }
    let others = imported.into_iter().flat_map(|imported| &imported.packages);
    known.extend(others.map(|package| (package.name.clone(), package.version.clone())));
    if let Some(resolution) = asked.known() {
        let packages = resolution.packages.iter();
        known.extend(packages.map(|package| (package.name.clone(), package.version.clone())));
    }
    let anew = |name: &PackageName| {
        let is_bare = |spec: &Spec| spec.requirement.is_empty() && spec.name == name.as_ref();
        asked.add.iter().any(is_bare) || asked.is_anew(name.as_ref())
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
    if made_for_another_path(project, place).is_some() {
        let made = install::pypi::create(&task.shop.store, environment, true, options)?;
        warnings.extend(made.warnings);
    } else if live.is_dir() {
        clone_tree(&live, staging, options.crew, options.cancellation)?;
    } else {
        let made = install::pypi::create(&task.shop.store, environment, true, options)?;
        warnings.extend(made.warnings);
    }
    let present = install::pypi::installed(&staging.join(base.site_packages()))?;
    let is_same = |package: &Package, name: &str, version: &str| {
        same_name(&package.name, name) && same_version(&package.version, version)
    };
    // Of one version there may be several files, of which another one was installed before.
    let is_other = |package: &Package| {
        let known = installed.and_then(|it| it.packages.iter().find(|it| it.name == package.name));
        match known {
            Some(known) => known.artifact.hashes != package.artifact.hashes,
            None => package.artifact.by_address || package.artifact.built.is_some(),
        }
    };
    let keep = |name: &str, version: &str| {
        resolution.packages.iter().any(|it| is_same(it, name, version) && !is_other(it))
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
        .filter(|it| is_other(it) || !present.iter().any(|p| is_same(it, &p.name, &p.version)))
        .collect();
    let report = install::pypi::install(&task.shop.store, environment, &missing, options)?;
    warnings.extend(report.warnings);
    Ok(warnings)
}

/// Builds a new environment in `staging` as it would be at its place in the project.
pub(super) fn build(
    task: &Task<'_>,
    project: &Project,
    place: &RelativePath,
    resolution: &Resolution,
    staging: &Path,
    options: Options<'_>,
) -> Result<()> {
    let base = base(&interpreter(task, project)?)?;
    let live = project.path().join(place.as_str());
    let environment = Environment { staging, final_path: &live, interpreter: &base };
    let store = &task.shop.store;
    install::pypi::create(store, environment, true, options)?;
    let packages: Vec<&Package> = resolution.packages.iter().collect();
    install::pypi::install(store, environment, &packages, options)?;
    Ok(())
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
