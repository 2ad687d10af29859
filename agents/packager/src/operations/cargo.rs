//! cargo's part of an operation: Cargo.toml, Cargo.lock, and the crates where cargo's own offline build finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use semver::Version;

use super::age::told;
use super::{Asked, Decided, Decision, Task, edit, fixed, not_direct, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::{self, Options};
use crate::limits::WORKSPACE_DIRECTORIES_MAX;
use crate::lock::{import, stale};
use crate::manifest::cargo_toml::{self, Manifest, Wanted};
use crate::metadata::Hashes;
use crate::metadata::aged::Aged;
use crate::metadata::cargo::{Crate, DependencyKind};
use crate::options::Choice;
use crate::plan::{FileEdit, Precondition};
use crate::resolution::{Package, Resolution};
use crate::resolve::ResolveError;
use crate::resolve::cargo::{self, Root, lock};
use crate::spec::Spec;
use crate::transaction::Project;

const MANIFEST: &str = "Cargo.toml";
const LOCK: &str = "Cargo.lock";
/// Files of which cargo wants one at least in a package without explicit targets.
const TARGETS: [&str; 2] = ["src/main.rs", "src/lib.rs"];

/// One package of the project.
struct Member {
    manifest: Manifest,
    /// Its Cargo.toml, relative to the project.
    path: String,
}

/// The options of a resolution that the resolver honours; others are refused.
const HONOURED: &[Choice] = &[Choice::ExcludeNewer];

pub(super) fn decide(task: &Task<'_>, project: &Project, asked: &Asked<'_>) -> Decision {
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Cargo, HONOURED)?;
    let Asked { add, remove, .. } = *asked;
    refuse_member(project.path())?;
    let before = read_text(project, MANIFEST)?;
    let edited = change(project, before.as_deref(), add, remove, |spec, declared| {
        match (spec.requirement.as_str(), declared) {
            // Nothing asked and something there: what stands there stays.
            ("", true) => String::new(),
            ("", false) => "*".to_owned(),
            (requirement, _) => requirement.to_owned(),
        }
    })?;
    let members = members(project, &edited)?;
    let locked = read_text(project, LOCK)?;
    let source = lock::default_source();
    let preferred = preferred(asked, locked.as_deref(), &source)?;
    let roots = members.iter().map(root).collect::<Result<Vec<_>>>()?;
    let rust_versions = rust_versions(task, &members);
    let download = |name: &str, version: &Version, _: &Hashes| {
        task.registries.cargo_artifact_url(name, version).unwrap_or_default()
    };
    let request = cargo::Request {
        roots: &roots,
        preferred: &preferred,
        rust_versions: &rust_versions,
        source: &source,
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
    let after = change(project, before.as_deref(), add, remove, |spec, declared| {
        match (spec.requirement.as_str(), declared) {
            ("", true) => String::new(),
            (requirement, _) => {
                cargo_toml::saved_requirement(requirement, direct_version(&resolution, spec))
            }
        }
    })?;
    let mut edits: Vec<FileEdit> = Vec::new();
    edits.extend(edit(MANIFEST, before.as_deref(), &after)?);
    let rendered = lock.render();
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
    let (wants, target) = (Vec::new(), String::new());
    let (environment, beside) = (None, Vec::new());
    Ok(Decided {
        resolution,
        wants,
        target,
        edits,
        environment,
        beside,
        preconditions,
        warnings,
        is_locked: false,
        is_elsewhere: false,
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
    let members = members(project, &text)?;
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
    before: Option<&str>,
    add: &[Spec],
    remove: &[Spec],
    requirement: impl Fn(&Spec, bool) -> String,
) -> Result<String> {
    let mut text = before.map(str::to_owned);
    let declared = match before {
        Some(text) => cargo_toml::read(MANIFEST, "", text, None)?,
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
            return Err(not_direct(Ecosystem::Cargo, &spec.name, MANIFEST));
        }
    }
    if let (Some(present), false) = (&text, remove.is_empty()) {
        let names: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
        text = Some(cargo_toml::remove(MANIFEST, present, &names)?);
    }
    let wanted: Vec<Wanted> = add
        .iter()
        .map(|spec| {
            let present = direct(spec);
            let (name, features) = (spec.name.clone(), spec.extras.clone());
            Wanted { name, requirement: requirement(spec, present), features }
        })
        .collect();
    match (text, wanted.is_empty()) {
        (Some(text), true) => Ok(text),
        (text, _) => {
            let directory = project.path().file_name().unwrap_or_default().to_string_lossy();
            cargo_toml::add(MANIFEST, text.as_deref(), &directory, &wanted)
        }
    }
}

/// The root package and every member of the workspace that its manifest names.
fn members(project: &Project, text: &str) -> Result<Vec<Member>> {
    let root = cargo_toml::read(MANIFEST, "", text, None)?;
    let mut directories: Vec<String> =
        root.path_dependencies.iter().map(|dependency| dependency.directory.clone()).collect();
    if let Some(workspace) = &root.workspace {
        directories.extend(
            directories_with_manifest(project.path())?
                .into_iter()
                .filter(|directory| workspace.is_member(directory)),
        );
    }
    let workspace = root.workspace.clone();
    let mut members = Vec::new();
    if root.package.is_some() {
        members.push(Member { manifest: root, path: MANIFEST.to_owned() });
    }
    let mut seen = std::collections::BTreeSet::new();
    while let Some(directory) = directories.pop() {
        if directory.is_empty() || !seen.insert(directory.clone()) {
            continue;
        }
        if seen.len() > WORKSPACE_DIRECTORIES_MAX {
            let message =
                format!("the workspace has more than {WORKSPACE_DIRECTORIES_MAX} members");
            return Err(Error::new(Kind::Failed, "workspace-too-large", message));
        }
        let path = format!("{directory}/{MANIFEST}");
        let text = read_text(project, &path)?.ok_or_else(|| {
            let message = format!("`{path}` is named by the workspace and does not exist");
            Error::new(Kind::Failed, "manifest-missing", message)
                .hint("create it, or take it out of the workspace")
        })?;
        let manifest = cargo_toml::read(&path, &directory, &text, workspace.as_ref())?;
        directories.extend(manifest.path_dependencies.iter().map(|one| one.directory.clone()));
        members.push(Member { manifest, path });
    }
    members.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(members)
}

/// Refuses a member of a workspace whose root lies above: its lock is there.
fn refuse_member(project: &Path) -> Result<()> {
    for root in project.ancestors().skip(1) {
        let Ok(text) = std::fs::read_to_string(root.join(MANIFEST)) else { continue };
        // Somebody else's broken manifest is no reason to refuse this project.
        let Ok(manifest) = cargo_toml::read(MANIFEST, "", &text, None) else { continue };
        let directory = project.strip_prefix(root).unwrap_or(project).to_string_lossy();
        let is_member = manifest.workspace.is_some_and(|workspace| workspace.is_member(&directory));
        if is_member {
            let message = format!(
                "`{}` is a member of the workspace at `{}`, and changing members is not done yet",
                project.display(),
                root.display()
            );
            return Err(Error::new(Kind::Usage, "workspace-member", message).hint(
                "use `cargo add` in the member; `bolide` changes the package at a workspace's root",
            ));
        }
    }
    Ok(())
}

/// Directories below the project that hold a Cargo.toml, without those that hold products or hidden files.
fn directories_with_manifest(project: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    let mut looked_at = 0;
    while let Some(directory) = pending.pop() {
        let place = project.join(&directory);
        let entries =
            std::fs::read_dir(&place).map_err(|error| Error::io("list", &place, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &place, &error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_directory || name.starts_with('.') || name == "target" || name == "node_modules"
            {
                continue;
            }
            looked_at += 1;
            if looked_at > WORKSPACE_DIRECTORIES_MAX {
                let message =
                    format!("the workspace has more than {WORKSPACE_DIRECTORIES_MAX} directories");
                return Err(Error::new(Kind::Failed, "workspace-too-large", message));
            }
            let below = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if project.join(&below).join(MANIFEST).is_file() {
                found.push(below.clone());
            }
            pending.push(below);
        }
    }
    Ok(found)
}

fn root(member: &Member) -> Result<Root> {
    let manifest = &member.manifest;
    let package = manifest.package.clone().unwrap_or_default();
    let version = Version::parse(&package.version).map_err(|error| {
        let message =
            format!("`{}`: the version `{}` is none: {error}", member.path, package.version);
        Error::new(Kind::Failed, "manifest-invalid", message)
    })?;
    let mut local: Vec<String> =
        manifest.path_dependencies.iter().map(|dependency| dependency.package.clone()).collect();
    local.sort();
    local.dedup();
    Ok(Root {
        name: package.name,
        version,
        dependencies: manifest.dependencies.clone(),
        local,
        features: manifest.features.clone(),
    })
}

/// The compiler versions that choices should fit, as resolver 3 (the default since edition 2024) has it.
fn rust_versions(task: &Task<'_>, members: &[Member]) -> Vec<Version> {
    let workspace = members.iter().find_map(|member| member.manifest.workspace.as_ref());
    let resolver = workspace.and_then(|workspace| workspace.resolver.clone());
    let packages = || members.iter().filter_map(|member| member.manifest.package.as_ref());
    let resolver = resolver.or_else(|| packages().find_map(|package| package.resolver.clone()));
    let is_aware = match resolver {
        Some(resolver) => resolver == "3",
        None => packages().any(|package| package.edition.as_deref() == Some("2024")),
    };
    if !is_aware {
        return Vec::new();
    }
    let declared: Vec<Version> =
        packages().filter_map(|package| rust_version(package.rust_version.as_deref()?)).collect();
    if !declared.is_empty() {
        return declared;
    }
    task.version("rustc").into_iter().collect()
}

/// `1.70` as a version.
fn rust_version(text: &str) -> Option<Version> {
    let missing = 2usize.checked_sub(text.matches('.').count())?;
    Version::parse(&format!("{text}{}", ".0".repeat(missing))).ok()
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
    let home = task.variable("CARGO_HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.or_else(|| Some(PathBuf::from(task.variable("HOME")?).join(".cargo")));
    let Some(home) = home else {
        return Ok(vec![
            "neither CARGO_HOME nor HOME is set, so cargo's cache was not filled".to_owned(),
        ]);
    };
    let mut names: Vec<&str> =
        resolution.packages.iter().map(|package| package.name.as_str()).collect();
    names.dedup();
    let index: Vec<Arc<Crate>> =
        names.iter().map(|name| task.registries.cargo().krate(name)).collect::<Result<_>>()?;
    let config = task.registries.cargo_registry_config()?;
    // A registry that the caller named for this request is a mirror: cargo itself does not know it.
    let is_override = task.setting.registry.contains_key(&Ecosystem::Cargo);
    let index_url = if is_override {
        tame_index::index::sparse::CRATES_IO_HTTP_INDEX.to_owned()
    } else {
        format!("sparse+{}", task.registries.registry(Ecosystem::Cargo)?)
    };
    let registry = install::cargo::Registry { index_url: &index_url, config: &config, is_override };
    let packages: Vec<&Package> = resolution.packages.iter().collect();
    install::cargo::populate(
        &task.shop.store,
        &home,
        &version,
        registry,
        &packages,
        &index,
        options,
    )?;
    Ok(Vec::new())
}
