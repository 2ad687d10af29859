//! npm's part of an operation: package.json and `node_modules`.

mod archives;
mod members;
mod own;
mod telling;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::telling::Telling;
pub(super) use self::telling::Word;
use super::age::told;
use super::{
    Aim, Asked, Decided, Decision, Task, check_foreign, edit, fixed, not_direct, read_text,
};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::install::{self, Options};
use crate::lock::import::{self, Imported};
use crate::lock::{self, Part};
use crate::manifest::package_json::{self, RootManifest, named as spelled};
use crate::metadata::aged::Aged;
use crate::metadata::npm::Metadata;
use crate::options::{Choice, Mode};
use crate::plan::Precondition;
use crate::resolution::Resolution;
use crate::resolve::ResolveError;
use crate::resolve::npm::{self, Preferred};
use crate::spec::Spec;
use crate::transaction::{Project, RelativePath};
use crate::workspace;

const MANIFEST: &str = "package.json";
const ENVIRONMENT: &str = "node_modules";
/// npm's own lock: read, never rewritten.
const NPM_LOCK: &str = "package-lock.json";
/// Locks of tools that lay `node_modules` out in another way.
const FOREIGN_LOCKS: [&str; 4] = ["pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"];
/// Names in a warning; the rest is counted.
const NAMES_SHOWN_MAX: usize = 5;

/// Steps of a resolution between two looks at the clock.
const STEPS_PER_LOOK: usize = 8;

/// The options of a resolution that the resolver honours; others are refused.
const HONOURED: &[Choice] = &[Choice::Resolution, Choice::ExcludeNewer];

pub(super) fn decide(task: &Task<'_>, project: &Project, asked: &Asked<'_>) -> Decision {
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Npm, HONOURED)?;
    let Asked { add, remove, member, installed, .. } = *asked;
    workspace::refuse_npm_member(project.path())?;
    check_foreign(task, project, asked, &FOREIGN_LOCKS)?;
    let before = read_text(project, MANIFEST)?;
    let mut root = match &before {
        Some(text) => package_json::read(MANIFEST, text)?,
        None => RootManifest::default(),
    };
    let add = &match member {
        "" => changed(&mut root, (MANIFEST, add, remove))?,
        _ => Vec::new(),
    };
    // What is locked says paths as they are written.
    let written = root.clone();
    let mut locals = own::find(project, &mut root, &|| {
        task.say_npm_when_due();
        task.check_wanted()
    })?;
    let of_member = match member {
        "" => None,
        _ => Some(members::Change::make(project, &mut locals, asked)?),
    };
    // What a member no longer names is no longer asked about.
    own::retain_named(&root, &mut locals);
    let named = archives::named_by(&root, &locals);
    let mut preconditions = own::preconditions(project, &locals)?;
    let target = format!("linux-{}-{}", architecture(), libc());
    let lines = lock::of_npm(&written, lock::of_npm_locals(locals.iter()));
    // A member that is changed asks for something else afterwards.
    let others = locals.iter().filter(|local| member.is_empty() || local.place != member);
    let mut locked_locals = lock::of_npm_locals(others);
    let wanted = Wanted { root, locals, named };
    let (resolution, is_locked, of_files) =
        resolution(task, project, asked, wanted, (&lines, &target), began)?;
    preconditions.extend(of_files);
    asked.check_update(&resolution)?;
    let of_root = if member.is_empty() { remove } else { &[] };
    let after = edited(before.as_deref(), add, of_root, &resolution)?;
    if let Some(change) = &of_member {
        locked_locals.extend(lock::of_npm_locals(change.after(project, &resolution)?.iter()));
    }
    let wants = match &after {
        Some(text) => lock::of_npm(&package_json::read(MANIFEST, text)?, locked_locals),
        None => Vec::new(),
    };
    let mut warnings = resolution.warnings.clone();
    warnings.extend(super::not_followed(task, Ecosystem::Npm)?);
    if project.content(&fixed(NPM_LOCK)?)?.is_some() {
        warnings.push(format!("`{NPM_LOCK}` is npm's and is not rewritten"));
    }
    if installed.is_none() {
        warnings.extend(strangers(project, &resolution));
    }
    let environment = fixed(ENVIRONMENT)?;
    preconditions.push(Precondition::file(project, fixed(MANIFEST)?)?);
    preconditions.push(Precondition::environment(
        &task.shop.transactions,
        project,
        environment.clone(),
    )?);
    let mut edits: Vec<_> = match after {
        Some(after) => edit(MANIFEST, before.as_deref(), after)?.into_iter().collect(),
        None => Vec::new(),
    };
    if let Some(change) = of_member {
        edits.extend(change.edit(&resolution)?);
    }
    let beside = beside(&resolution, installed)?;
    for place in &beside {
        let place = place.clone();
        preconditions.push(Precondition::environment(&task.shop.transactions, project, place)?);
    }
    Ok(Decided {
        resolution,
        wants,
        target,
        edits,
        preconditions,
        environment: Some(environment),
        beside,
        warnings,
        before: None,
        is_locked,
        is_elsewhere: false,
        system: None,
    })
}

/// Takes and adds in a manifest, the file of that name; what is added that does not stand there already.
fn changed(
    manifest: &mut RootManifest,
    (file, add, remove): (&str, &[Spec], &[Spec]),
) -> Result<Vec<Spec>> {
    for spec in remove {
        if !take(manifest, &spec.name) {
            return Err(not_direct(Ecosystem::Npm, &spec.name, file));
        }
    }
    // What stands there already and is not a registry's stays, whatever a registry has of that name.
    let is_new = |spec: &&Spec| !(spec.requirement.is_empty() && is_named(manifest, &spec.name));
    let add: Vec<Spec> = add.iter().filter(is_new).cloned().collect();
    for spec in &add {
        let wanted = if spec.requirement.is_empty() { "latest" } else { &spec.requirement };
        want(manifest, &spec.name, wanted);
    }
    Ok(add)
}

/// What the project's manifests ask for.
struct Wanted {
    root: RootManifest,
    locals: Vec<npm::Local>,
    /// The archives in them.
    named: BTreeSet<String>,
}

/// What is locked, where that is to be followed, else what is resolved; whether it is locked, and that the files that were read stay
/// as they are.
fn resolution(
    task: &Task<'_>,
    project: &Project,
    asked: &Asked<'_>,
    wanted: Wanted,
    (lines, target): (&[String], &str),
    began: Instant,
) -> Result<(Resolution, bool, Vec<Precondition>), ResolveError> {
    let fits = |part: &Part| part.target == target;
    let locked = asked.as_locked(task, Ecosystem::Npm, lines, &fits)?;
    let has_lock = locked.is_some();
    if let Some(locked) = locked
        && let Some(resolution) = archives::place_locked(locked, project, &wanted)?
    {
        return Ok((resolution, true, Vec::new()));
    }
    let (resolution, of_files) = resolve(task, project, asked, wanted, began)?;
    if has_lock {
        asked.check_locked(task, &resolution)?;
    }
    Ok((resolution, false, of_files))
}

fn resolve(
    task: &Task<'_>,
    project: &Project,
    asked: &Asked<'_>,
    Wanted { root, locals, named }: Wanted,
    began: Instant,
) -> Result<(Resolution, Vec<Precondition>), ResolveError> {
    let declared = |spec: &&Spec| root.declared(&spec.name).is_some();
    if !task.registries.has_found_npm() {
        // The installed npm may have to be asked for its configuration, and node for its version.
        task.npm_word.give(&|| task.say_resolving(Ecosystem::Npm));
    }
    let updated = match asked.aim {
        Aim::Update(named) => named.iter().filter(declared).collect(),
        _ => Vec::new(),
    };
    let explicit = asked.add.iter().chain(updated).map(|spec| spec.name.clone()).collect();
    let imported = match asked.known() {
        Some(_) => None,
        None => import::npm(project)?,
    };
    let (imported, found) = (imported.as_ref(), Mutex::default());
    let preferred = preferred(asked, imported, (&root, &locals, &named));
    let steps = AtomicUsize::new(0);
    let finder = archives::Finder { task, project, asked, named: &named, imported, found };
    let request = npm::Request {
        root,
        locals,
        archives: &finder,
        order: order(task),
        node_version: task.version("node").map(|version| version.to_string()),
        os: "linux".to_owned(),
        cpu: architecture().to_owned(),
        libc: Some(libc().to_owned()),
        preferred,
        explicit,
        keep_on: &|| {
            // The clock is looked at now and then only: a step takes a microsecond, or waits for a registry, whose answers have a limit.
            let step = steps.fetch_add(1, Ordering::Relaxed);
            if step.is_multiple_of(STEPS_PER_LOOK) {
                task.say_npm_when_due();
                task.check_resolving(began)
            } else {
                task.check_wanted()
            }
        },
    };
    let tell = || task.say_resolving(Ecosystem::Npm);
    let telling = Telling::new(task.registries.npm(), &task.npm_word, &tell);
    let registry: &dyn Metadata = &telling;
    let mut resolution = match task.limit(Ecosystem::Npm, asked) {
        None => npm::resolve(&request, registry)?,
        Some(limit) => {
            let aged = Aged::new(registry, limit);
            told(npm::resolve(&request, &aged), &aged.left_out(), |resolved| {
                &mut resolved.warnings
            })?
        }
    };
    if let Some(imported) = imported {
        imported.keep_hashes(&mut resolution)?;
    }
    Ok((resolution, finder.preconditions()))
}

/// Which of the versions that fit are taken.
fn order(task: &Task<'_>) -> npm::Order {
    match task.choices.mode {
        Mode::Highest => npm::Order::Highest,
        Mode::Lowest => npm::Order::Lowest,
        Mode::LowestDirect => npm::Order::LowestDirect,
    }
}

/// The environments of the project's own packages, also those that lose their last package.
fn beside(resolution: &Resolution, installed: Option<&Resolution>) -> Result<Vec<RelativePath>> {
    let mut places: BTreeSet<&str> = install::npm::environments(resolution);
    places.extend(installed.into_iter().flat_map(install::npm::environments));
    places.remove(ENVIRONMENT);
    places.into_iter().map(fixed).collect()
}

/// The manifest after the change: ranges as they were asked, else the caret range of what was chosen.
fn edited(
    before: Option<&str>,
    add: &[Spec],
    remove: &[Spec],
    resolution: &Resolution,
) -> Result<Option<String>> {
    // The versions of those that are added, by the name of their folder beside the project.
    let mut added: HashMap<&str, &str> = add.iter().map(|spec| (&*spec.name, "")).collect();
    for package in resolution.packages.iter().filter(|package| package.direct) {
        let name = package.place.strip_prefix(ENVIRONMENT).and_then(|rest| rest.strip_prefix('/'));
        if let Some(version) = name.and_then(|name| added.get_mut(name)) {
            *version = &package.version;
        }
    }
    written((MANIFEST, before), add, remove, &added)
}

/// The text of a manifest after the change, with the versions that were chosen for what is added.
fn written(
    (file, before): (&str, Option<&str>),
    add: &[Spec],
    remove: &[Spec],
    versions: &HashMap<&str, &str>,
) -> Result<Option<String>> {
    let names: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
    let mut text = before.map(str::to_owned);
    if let (Some(present), false) = (&text, names.is_empty()) {
        text = Some(package_json::remove(file, present, &names)?);
    }
    let mut wanted = Vec::new();
    for spec in add {
        let version = versions.get(spec.name.as_str()).copied().unwrap_or_default();
        let requirement = package_json::saved_requirement(&spec.requirement, version);
        wanted.push((spec.name.as_str(), requirement));
    }
    let wanted: Vec<(&str, &str)> =
        wanted.iter().map(|(name, text)| (*name, text.as_str())).collect();
    match (text, wanted.is_empty()) {
        (text, true) => Ok(text),
        (text, false) => package_json::add(file, text.as_deref(), &wanted).map(Some),
    }
}

/// What the project asks of the registry.
pub(super) fn declared(project: &Project) -> Result<Vec<Spec>> {
    let Some(text) = read_text(project, MANIFEST)? else { return Ok(Vec::new()) };
    Ok(of_registry(&package_json::read(MANIFEST, &text)?))
}

/// What a plan of the whole project is going to ask the registry first: what its manifest names, where no lock says more. Nobody is asked
/// for the packages of a workspace, whose names may be nobody else's matter.
pub(super) fn foreseen(task: &Task<'_>, project: &Project) -> Result<Vec<Spec>> {
    task.choices.check_honoured(Ecosystem::Npm, HONOURED)?;
    workspace::refuse_npm_member(project.path())?;
    for lock in [lock::FILE, NPM_LOCK].iter().chain(&FOREIGN_LOCKS) {
        if project.content(&fixed(lock)?)?.is_some() {
            return Ok(Vec::new());
        }
    }
    let Some(text) = read_text(project, MANIFEST)? else { return Ok(Vec::new()) };
    let root = package_json::read(MANIFEST, &text)?;
    match root.workspaces.is_empty() {
        true => Ok(of_registry(&root)),
        false => Ok(Vec::new()),
    }
}

fn of_registry(root: &RootManifest) -> Vec<Spec> {
    let tables = [&root.dependencies, &root.dev_dependencies, &root.optional_dependencies];
    let written = tables.into_iter().flatten();
    // An alias is another package under this name; what is not of a registry is nobody's version.
    let of_registry = written.filter(|(_, range)| spelled::named(range).is_none());
    let specs = of_registry.filter_map(|(name, range)| match range.strip_prefix("npm:") {
        Some(other) => Spec::parse(&format!("npm:{other}")).ok(),
        None => Spec::parse(&format!("npm:{name}@{range}")).ok(),
    });
    specs.collect()
}

/// Whether the project asks for a package by an archive or a directory.
fn is_named(root: &RootManifest, name: &str) -> bool {
    let named = root.declared(name).and_then(spelled::named);
    matches!(named, Some(spelled::Named::Address | spelled::Named::Path { .. }))
}

fn take(root: &mut RootManifest, name: &str) -> bool {
    let tables =
        [&mut root.dependencies, &mut root.dev_dependencies, &mut root.optional_dependencies];
    let taken: Vec<bool> = tables.into_iter().map(|table| table.remove(name).is_some()).collect();
    taken.contains(&true)
}

fn want(root: &mut RootManifest, name: &str, requirement: &str) {
    let tables = [&mut root.dev_dependencies, &mut root.optional_dependencies];
    for table in tables {
        if let Some(text) = table.get_mut(name) {
            requirement.clone_into(text);
            return;
        }
    }
    root.dependencies.insert(name.to_owned(), requirement.to_owned());
}

/// What is locked or installed by us, else what another tool locked; without what is to be chosen anew.
fn preferred(
    asked: &Asked<'_>,
    imported: Option<&Imported>,
    (root, locals, named): (&RootManifest, &[npm::Local], &BTreeSet<String>),
) -> BTreeMap<String, Preferred> {
    // A lock may say that another package stands where the project names one.
    let is_other = |place: &str, name: &str| {
        let mut manifests = locals.iter().map(|local| &local.manifest).chain([root]);
        manifests.any(|manifest| npm::is_other(manifest, place, name))
    };
    let known = asked.known().into_iter().flat_map(|known| &known.packages);
    let known = known.map(|it| (&it.place, &it.name, &it.version, &it.artifact.source));
    let others = imported.into_iter().flat_map(|imported| &imported.packages);
    let others = others.map(|it| (&it.place, &it.name, &it.version, &it.source));
    let kept =
        known.chain(others).filter(|(place, name, ..)| !place.is_empty() && !asked.is_anew(name));
    let kept = kept.filter_map(|(place, name, version, source)| {
        // An archive is no version of a registry, and counts where the project still names it.
        let archive = match source {
            Some(source) => Some(Arc::from(&**named.get(source)?)),
            None if is_other(place, name) => return None,
            None => None,
        };
        let (name, version) = (name.clone(), version.clone());
        Some((place.clone(), Preferred { name, version, archive }))
    });
    kept.collect()
}

/// Says which packages of a `node_modules` that others made are not asked for by anybody, so that they go, as with npm.
fn strangers(project: &Project, resolution: &Resolution) -> Option<String> {
    let entries = std::fs::read_dir(project.path().join(ENVIRONMENT)).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let known = |name: &String| {
        let place = format!("{ENVIRONMENT}/{name}");
        let below = format!("{place}/");
        let packages = resolution.packages.iter().map(|package| &package.place);
        let mut places = packages.chain(resolution.links.iter().map(|link| &link.place));
        places.any(|one| *one == place || one.starts_with(&below))
    };
    let mut gone: Vec<String> =
        names.filter(|name| !name.starts_with('.') && !known(name)).collect();
    gone.sort();
    let shown = gone.iter().take(NAMES_SHOWN_MAX).cloned().collect::<Vec<_>>().join("`, `");
    let count = gone.len();
    (count > 0).then(|| {
        format!(
            "{count} packages in `{ENVIRONMENT}` are not asked for and go, as with npm: `{shown}`"
        )
    })
}

fn libc() -> &'static str {
    if cfg!(target_env = "musl") { "musl" } else { "glibc" }
}

/// `process.arch` of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Whether a tree has what npm believes instead of reading it.
pub(super) fn is_described(project: &Project) -> bool {
    install::npm::hidden::place(project.path()).is_file()
}

/// Tells npm that a tree, whose directories have just taken their places, is as it was described.
pub(super) fn settled(project: &Project, resolution: Option<&Resolution>) {
    if resolution.is_some_and(install::npm::hidden::is_needed) {
        install::npm::hidden::freshen(project.path());
    }
}

/// Builds what stands at one place of the tree in `staging`; its warnings.
pub(super) fn stage(
    task: &Task<'_>,
    resolution: &Resolution,
    place: &RelativePath,
    staging: &Path,
    options: Options<'_>,
) -> Result<Vec<String>> {
    let store = &task.shop.store;
    Ok(install::npm::stage(store, resolution, place.as_str(), staging, options)?.warnings)
}
