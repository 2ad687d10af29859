//! cargo's part of an operation: Cargo.toml, Cargo.lock, and the crates where cargo's own offline build finds them.

mod cache;
mod local;
mod patches;
mod registries;
mod workspace;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use semver::Version;

pub(super) use self::cache::{examine, populate};
use self::patches::{Patches, Standing};
use self::registries::Registries;
use self::workspace::{Member, Target, root};
use super::age::told;
use super::{Asked, Decided, Decision, Task, edit, fixed, not_direct, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Result};
use crate::lock::{import, stale};
use crate::manifest::cargo_toml::{self, Manifest, Wanted};
use crate::metadata::Hashes;
use crate::metadata::aged::Aged;
use crate::metadata::cargo::scope::split;
use crate::metadata::cargo::{self as metadata, DependencyKind, Metadata, Patched, Scope};
use crate::options::Choice;
use crate::plan::{FileEdit, Precondition};
use crate::resolution::{Package, Resolution};
use crate::resolve::ResolveError;
use crate::resolve::cargo::{self, lock};
use crate::spec::Spec;
use crate::transaction::Project;

const MANIFEST: &str = "Cargo.toml";
const LOCK: &str = "Cargo.lock";
/// Files of which cargo wants one at least in a package without explicit targets.
const TARGETS: [&str; 2] = ["src/main.rs", "src/lib.rs"];

/// The options of a resolution that the resolver honours; others are refused.
const HONOURED: &[Choice] = &[Choice::Resolution, Choice::ExcludeNewer];

pub(super) fn decide(task: &Task<'_>, project: &Project, asked: &Asked<'_>) -> Decision {
    task.choices.check_honoured(Ecosystem::Cargo, HONOURED)?;
    let Asked { add, remove, member, .. } = *asked;
    crate::workspace::refuse_cargo_member(project.path())?;
    let target = Target::find(project, member)?;
    let before = target.text.as_deref();
    let edited = change(project, &target, add, remove, |spec, declared| {
        match (spec.requirement.as_str(), declared) {
            // Nothing asked and something there: what stands there stays.
            ("", true) => String::new(),
            ("", false) => "*".to_owned(),
            (requirement, _) => requirement.to_owned(),
        }
    })?;
    let mut members = workspace::members(project, &target, &edited)?;
    let (patches, workspace) = workspace::shared(project, &target, &edited)?;
    let mut standing = patches::read(project, (patches, workspace.as_ref()))?;
    let registries = Registries::of(task, &mut members, &mut standing)?;
    let locked = read_text(project, LOCK)?;
    let found = (&*members, &*standing, &registries);
    let resolved = solve(task, asked, found, locked.as_deref())?;
    let (mut resolution, lock) = (resolved.resolution, resolved.lock);
    if let Some(text) = &locked {
        import::cargo(text, &registries.default)?.keep_hashes(&mut resolution)?;
    }
    asked.check_locked(task, &resolution)?;
    asked.check_update(&resolution)?;
    let after = change(project, &target, add, remove, |spec, declared| {
        match (spec.requirement.as_str(), declared) {
            ("", true) => String::new(),
            (requirement, _) => {
                cargo_toml::saved_requirement(requirement, direct_version(&resolution, spec))
            }
        }
    })?;
    let mut edits: Vec<FileEdit> = Vec::new();
    edits.extend(edit(&target.path, before, after)?);
    let rendered = lock.render_over(locked.as_deref());
    if task.choices.frozen && locked.as_ref().is_some_and(|text| *text != rendered) {
        return Err(stale(Ecosystem::Cargo, &format!("`{LOCK}` would change")).into());
    }
    edits.extend(edit(LOCK, locked.as_deref(), rendered)?);
    let read = members.iter().map(|member| &member.path);
    let read = read.chain(standing.iter().map(|one| &one.path)).map(String::as_str);
    let preconditions = preconditions(project, read)?;
    if before.is_none() && !has_target(project)? {
        // A package without any target is refused by cargo.
        edits.extend(edit(TARGETS[1], None, String::new())?);
    }
    let mut warnings = resolution.warnings.clone();
    warnings.extend(not_followed(task, &registries)?);
    Ok(Decided {
        resolution,
        wants: Vec::new(),
        target: String::new(),
        edits,
        environment: None,
        beside: Vec::new(),
        preconditions,
        warnings,
        before: None,
        is_locked: false,
        is_elsewhere: false,
        system: None,
    })
}

/// What the members, with what stands for crates, come to over the registries.
fn solve(
    task: &Task<'_>,
    asked: &Asked<'_>,
    (members, standing, registries): (&[Member], &[Standing], &Registries),
    locked: Option<&str>,
) -> std::result::Result<cargo::Resolved, ResolveError> {
    let began = Instant::now();
    let Patches { versions, list: patches } = Patches::of(standing, members, registries)?;
    let preferred = preferred(asked, locked, registries)?;
    let roots = members.iter().map(root).collect::<Result<Vec<_>>>()?;
    let policy = policy(task, (members, &roots), registries)?;
    // An address that is asked for in vain is an error here, and not an empty address in a plan.
    let without_address: Cell<Option<Error>> = Cell::new(None);
    let download = |key: &str, version: &Version, _: &Hashes| {
        registries.artifact_url(task, key, version).unwrap_or_else(|error| {
            without_address.set(Some(error));
            String::new()
        })
    };
    let request = cargo::Request {
        roots: &roots,
        preferred: &preferred,
        policy: &policy,
        source: &registries.default,
        patches: &patches,
        scope: registries.scope(),
        format: lock::format_for(workspace::lowest_rust_version(members).as_ref()),
        download: &download,
        keep_on: &|| task.check_resolving(began),
    };
    let patched = (versions, registries.scopes());
    let resolved = resolve(task, asked, &request, registries.metadata(task), patched)?;
    without_address.take().map_or(Ok(resolved), |error| Err(error.into()))
}

/// Warnings of settings that are not followed.
fn not_followed(task: &Task<'_>, registries: &Registries) -> Result<Vec<String>> {
    let mut warnings = match registries.is_local() {
        true => Vec::new(),
        false => super::not_followed(task, Ecosystem::Cargo)?,
    };
    let others = task.registries.not_followed_of_others();
    warnings.extend(others.into_iter().map(|what| format!("not followed: {what}")));
    Ok(warnings)
}

/// What is preferred: by the members' manifests, cargo's configuration and the options of this request.
fn policy(
    task: &Task<'_>,
    (members, roots): (&[Member], &[cargo::Root]),
    registries: &Registries,
) -> Result<cargo::Policy> {
    let setting = task.registries.cargo_rust_version_setting()?;
    let rust_versions = match workspace::is_rust_version_aware(members, setting) {
        true => workspace::rust_versions(members, || task.version("rustc")),
        false => Vec::new(),
    };
    let direct = roots.iter().flat_map(|root| &root.dependencies);
    Ok(cargo::Policy {
        rust_versions,
        mode: task.choices.mode,
        direct: direct.map(|dependency| registries.key_of(dependency)).collect(),
    })
}

/// Everything that was read.
fn preconditions<'p>(
    project: &Project,
    read: impl Iterator<Item = &'p str>,
) -> Result<Vec<Precondition>> {
    let paths: BTreeSet<&str> = [LOCK, MANIFEST].into_iter().chain(read).collect();
    paths.into_iter().map(|path| Precondition::file(project, fixed(path)?)).collect()
}

/// The resolution, of old enough versions where that is asked for.
fn resolve(
    task: &Task<'_>,
    asked: &Asked<'_>,
    request: &cargo::Request<'_>,
    registry: &dyn Metadata,
    (patches, scopes): (BTreeMap<String, Vec<metadata::Version>>, &[Arc<Scope>]),
) -> std::result::Result<cargo::Resolved, ResolveError> {
    let ask = |registry: &dyn Metadata| match patches.is_empty() {
        true => cargo::resolve(request, registry),
        false => cargo::resolve(request, &Patched::new(registry, patches.clone(), scopes)),
    };
    let Some(mut limit) = task.limit(Ecosystem::Cargo, asked) else {
        return ask(registry);
    };
    // What cargo itself has locked is there, too.
    for (key, versions) in request.preferred {
        let (name, _) = split(key);
        let versions = versions.iter().map(Version::to_string);
        limit.versions.entry(name.to_owned()).or_default().extend(versions);
    }
    let aged = Aged::new(registry, limit);
    // What stands for a crate has no age.
    let resolved = ask(&aged);
    told(resolved, &aged.left_out(), |resolved| &mut resolved.resolution.warnings)
}

/// What Cargo.lock says, because cargo itself builds by it; where there is none, what we locked or installed last. Without what is
/// to be chosen anew.
fn preferred(
    asked: &Asked<'_>,
    locked: Option<&str>,
    registries: &Registries,
) -> Result<BTreeMap<String, BTreeSet<Version>>> {
    let mut preferred = BTreeMap::<String, BTreeSet<Version>>::new();
    match locked {
        Some(text) => {
            preferred = lock::preferences(text, |name, source| registries.key(name, source))?;
        }
        None => {
            for package in asked.known().into_iter().flat_map(|known| &known.packages) {
                let key = registries.key_of_known(package);
                let (Some(key), Ok(version)) = (key, Version::parse(&package.version)) else {
                    continue;
                };
                preferred.entry(key).or_default().insert(version);
            }
        }
    }
    preferred.retain(|key, _| !asked.is_anew(split(key).0));
    Ok(preferred)
}

fn has_target(project: &Project) -> Result<bool> {
    for target in TARGETS {
        if project.content(&fixed(target)?)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the project and its members ask of registries, and of which, where that is not the default one.
pub(super) fn declared(task: &Task<'_>, project: &Project) -> Result<Vec<(Spec, Option<String>)>> {
    let Some(text) = read_text(project, MANIFEST)? else { return Ok(Vec::new()) };
    let target = Target::find(project, "")?;
    let members = workspace::members(project, &target, &text)?;
    let dependencies = members.iter().flat_map(|member| &member.manifest.dependencies);
    let mut specs = Vec::new();
    for dependency in dependencies {
        let text = format!("cargo:{}@{}", dependency.package, dependency.requirement);
        if let Ok(spec) = Spec::parse(&text) {
            specs.push((spec, registries::source_of(task, dependency)?));
        }
    }
    Ok(specs)
}

/// The newest of the resolved versions of a crate: the one that a direct dependency without a range means.
fn direct_version<'r>(resolution: &'r Resolution, spec: &Spec) -> &'r str {
    let versions = resolution.packages.iter().filter(|package| package.name == spec.name);
    let direct = versions.clone().filter(|package| package.direct);
    let parsed = |package: &&Package| Version::parse(&package.version).ok();
    let newest = direct.max_by_key(parsed).or_else(|| versions.max_by_key(parsed));
    newest.map_or("*", |package| package.version.as_str())
}

/// The manifest with the changes; `requirement` says what to write for a crate, given what stands there already.
fn change(
    project: &Project,
    target: &Target,
    add: &[Spec],
    remove: &[Spec],
    requirement: impl Fn(&Spec, bool) -> String,
) -> Result<String> {
    let mut text = target.text.clone();
    let declared = match &target.text {
        Some(text) => {
            let shared = target.workspace.as_ref();
            cargo_toml::read(&target.path, &target.directory, text, shared)?
        }
        None => Manifest::default(),
    };
    let direct = |spec: &Spec| {
        declared.dependencies.iter().any(|dependency| {
            let is_plain = dependency.kind == DependencyKind::Normal && dependency.target.is_none();
            is_plain && dependency.package == spec.name
        })
    };
    for spec in remove {
        let known = declared.dependencies.iter().any(|dependency| dependency.package == spec.name);
        if !known {
            return Err(not_direct(Ecosystem::Cargo, &spec.name, &target.path));
        }
    }
    if let (Some(present), false) = (&text, remove.is_empty()) {
        let names: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
        text = Some(cargo_toml::remove(&target.path, present, &names)?);
    }
    let wanted: Vec<Wanted> = add
        .iter()
        .map(|spec| {
            let present = direct(spec);
            let (name, features) = (spec.name.clone(), spec.extras.clone());
            // As `cargo add` does: what the workspace has a version of is inherited, unless one is asked for.
            let shared = target.workspace.as_ref().is_some_and(|shared| shared.has(&name));
            let inherits = shared && !present && spec.requirement.is_empty();
            Wanted { name, requirement: requirement(spec, present), features, inherits }
        })
        .collect();
    match (text, wanted.is_empty()) {
        (Some(text), true) => Ok(text),
        (text, _) => {
            let directory = project.path().file_name().unwrap_or_default().to_string_lossy();
            cargo_toml::add(&target.path, text.as_deref(), &directory, &wanted)
        }
    }
}

/// The caller's CARGO_HOME.
fn home(task: &Task<'_>) -> Option<PathBuf> {
    let home = task.variable("CARGO_HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.or_else(|| Some(PathBuf::from(task.variable("HOME")?).join(".cargo")))
}
