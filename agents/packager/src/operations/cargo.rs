//! cargo's part of an operation: Cargo.toml, Cargo.lock, and the crates where cargo's own offline build finds them.

mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use agents_contract::Work;
use semver::Version;

use self::workspace::{Member, Target, root};
use super::age::told;
use super::{Asked, Decided, Decision, Task, edit, fixed, not_direct, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::install::cargo::Examined;
use crate::install::{self, Options};
use crate::lock::{import, stale};
use crate::manifest::cargo_toml::{self, Manifest, Wanted};
use crate::metadata::Hashes;
use crate::metadata::aged::Aged;
use crate::metadata::cargo::DependencyKind;
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
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Cargo, HONOURED)?;
    let Asked { add, remove, member, .. } = *asked;
    workspace::refuse_member(project.path())?;
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
    let members = workspace::members(project, &target, &edited)?;
    let locked = read_text(project, LOCK)?;
    let source = lock::default_source();
    let preferred = preferred(asked, locked.as_deref(), &source)?;
    let roots = members.iter().map(root).collect::<Result<Vec<_>>>()?;
    let policy = policy(task, &members, &roots)?;
    let download = |name: &str, version: &Version, _: &Hashes| {
        task.registries.cargo_artifact_url(name, version).unwrap_or_default()
    };
    let request = cargo::Request {
        roots: &roots,
        preferred: &preferred,
        policy: &policy,
        source: &source,
        format: lock::format_for(workspace::lowest_rust_version(&members).as_ref()),
        download: &download,
        keep_on: &|| task.check_resolving(began),
    };
    let resolved = resolve(task, asked, &request)?;
    let (mut resolution, lock) = (resolved.resolution, resolved.lock);
    if let Some(text) = &locked {
        import::cargo(text, &source)?.keep_hashes(&mut resolution)?;
    }
    asked.check_locked(task, &resolution)?;
    asked.check_update(&resolution)?;
    // The address of an artefact is asked for here, so that a registry without one is an error and not an empty address.
    if let Some(package) =
        resolution.packages.iter().find(|package| package.artifact.url.is_empty())
    {
        let version = Version::parse(&package.version).unwrap_or(Version::new(0, 0, 0));
        task.registries.cargo_artifact_url(&package.name, &version)?;
    }
    let after = change(project, &target, add, remove, |spec, declared| {
        match (spec.requirement.as_str(), declared) {
            ("", true) => String::new(),
            (requirement, _) => {
                cargo_toml::saved_requirement(requirement, direct_version(&resolution, spec))
            }
        }
    })?;
    let mut edits: Vec<FileEdit> = Vec::new();
    edits.extend(edit(&target.path, before, &after)?);
    let rendered = lock.render_over(locked.as_deref());
    if task.choices.frozen && locked.as_ref().is_some_and(|text| *text != rendered) {
        return Err(stale(Ecosystem::Cargo, &format!("`{LOCK}` would change")).into());
    }
    edits.extend(edit(LOCK, locked.as_deref(), &rendered)?);
    let preconditions = preconditions(project, &members)?;
    if before.is_none() && !has_target(project)? {
        // A package without any target is refused by cargo.
        edits.extend(edit(TARGETS[1], None, "")?);
    }
    let mut warnings = resolution.warnings.clone();
    warnings.extend(super::not_followed(task, Ecosystem::Cargo)?);
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

/// What is preferred: by the members' manifests, cargo's configuration and the options of this request.
fn policy(task: &Task<'_>, members: &[Member], roots: &[cargo::Root]) -> Result<cargo::Policy> {
    let setting = task.registries.cargo_rust_version_setting()?;
    let rust_versions = match workspace::is_rust_version_aware(members, setting) {
        true => workspace::rust_versions(members, || task.version("rustc")),
        false => Vec::new(),
    };
    let direct = roots.iter().flat_map(|root| &root.dependencies);
    Ok(cargo::Policy {
        rust_versions,
        mode: task.choices.mode,
        direct: direct.map(|dependency| dependency.package.clone()).collect(),
    })
}

/// Everything that was read.
fn preconditions(project: &Project, members: &[Member]) -> Result<Vec<Precondition>> {
    let members = members.iter().map(|member| member.path.as_str());
    let others = members.filter(|path| *path != MANIFEST);
    let paths = [LOCK, MANIFEST].into_iter().chain(others);
    paths.map(|path| Precondition::file(project, fixed(path)?)).collect()
}

/// The resolution, of old enough versions where that is asked for.
fn resolve(
    task: &Task<'_>,
    asked: &Asked<'_>,
    request: &cargo::Request<'_>,
) -> std::result::Result<cargo::Resolved, ResolveError> {
    let registry = task.registries.cargo();
    let Some(mut limit) = task.limit(Ecosystem::Cargo, asked) else {
        return cargo::resolve(request, registry);
    };
    // What cargo itself has locked is there, too.
    for (name, versions) in request.preferred {
        let versions = versions.iter().map(Version::to_string);
        limit.versions.entry(name.clone()).or_default().extend(versions);
    }
    let aged = Aged::new(registry, limit);
    let resolved = cargo::resolve(request, &aged);
    told(resolved, &aged.left_out(), |resolved| &mut resolved.resolution.warnings)
}

/// What Cargo.lock says, because cargo itself builds by it; where there is none, what we locked or installed last. Without what is
/// to be chosen anew.
fn preferred(
    asked: &Asked<'_>,
    locked: Option<&str>,
    source: &str,
) -> Result<BTreeMap<String, BTreeSet<Version>>> {
    let mut preferred = BTreeMap::<String, BTreeSet<Version>>::new();
    match locked {
        Some(text) => preferred = lock::preferences(text, source)?,
        None => {
            for package in asked.known().into_iter().flat_map(|known| &known.packages) {
                let Ok(version) = Version::parse(&package.version) else { continue };
                preferred.entry(package.name.clone()).or_default().insert(version);
            }
        }
    }
    preferred.retain(|name, _| !asked.is_anew(name));
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

/// What the project and its members ask of the registry.
pub(super) fn declared(project: &Project) -> Result<Vec<Spec>> {
    let Some(text) = read_text(project, MANIFEST)? else { return Ok(Vec::new()) };
    let target = Target::find(project, "")?;
    let members = workspace::members(project, &target, &text)?;
    let dependencies = members.iter().flat_map(|member| &member.manifest.dependencies);
    let specs = dependencies.filter_map(|dependency| {
        Spec::parse(&format!("cargo:{}@{}", dependency.package, dependency.requirement)).ok()
    });
    Ok(specs.collect())
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

/// The index as cargo names it, and whether it is another one that is asked.
fn index_url(task: &Task<'_>) -> Result<(String, bool)> {
    // A registry that the caller named for this request is a mirror: cargo itself does not know it.
    match task.setting.registry.contains_key(&Ecosystem::Cargo) {
        true => Ok((tame_index::index::sparse::CRATES_IO_HTTP_INDEX.to_owned(), true)),
        false => Ok((format!("sparse+{}", task.registries.registry(Ecosystem::Cargo)?), false)),
    }
}

/// The caller's CARGO_HOME.
fn home(task: &Task<'_>) -> Option<PathBuf> {
    let home = task.variable("CARGO_HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.or_else(|| Some(PathBuf::from(task.variable("HOME")?).join(".cargo")))
}

/// Whether the crates are where cargo looks for them offline; `None` where there is no cargo. With what was found: where it
/// was looked.
pub(super) fn examine(
    task: &Task<'_>,
    resolution: &Resolution,
) -> Result<Option<(PathBuf, Examined)>> {
    let (Some(version), Some(home)) = (task.version("cargo"), home(task)) else { return Ok(None) };
    let (index_url, _) = index_url(task)?;
    let name = install::cargo::directory_name(&index_url, &version)?;
    let registry = home.join("registry");
    let places = (&*registry.join("cache").join(&name), &*registry.join("index").join(&name));
    let crates: Vec<&Package> = resolution.packages.iter().collect();
    let keep_on = || task.check_wanted();
    let examined = install::cargo::examine(places, &crates, &task.hands(Work::Scan), &keep_on)?;
    Ok(Some((registry, examined)))
}

/// Puts the crates and their index entries where cargo looks for them offline; warnings.
pub(super) fn populate(
    task: &Task<'_>,
    resolution: &Resolution,
    options: Options<'_>,
) -> Result<Vec<String>> {
    let Some(version) = task.version("cargo") else {
        return Ok(vec!["there is no cargo here, so its cache was not filled".to_owned()]);
    };
    let Some(home) = home(task) else {
        return Ok(vec![
            "neither CARGO_HOME nor HOME is set, so cargo's cache was not filled".to_owned(),
        ]);
    };
    let mut names: Vec<&str> =
        resolution.packages.iter().map(|package| package.name.as_str()).collect();
    names.dedup();
    // Known, before cargo's lock is taken.
    for name in &names {
        task.registries.cargo().krate(name)?;
    }
    let config = task.registries.cargo_registry_config()?;
    let (index_url, is_override) = index_url(task)?;
    let registry = install::cargo::Registry { index_url: &index_url, config: &config, is_override };
    let packages: Vec<&Package> = resolution.packages.iter().collect();
    install::cargo::populate(
        &task.shop.store,
        &home,
        &version,
        registry,
        &packages,
        (&names, &|name| task.registries.cargo_index_file(name)),
        options,
    )?;
    Ok(Vec::new())
}
