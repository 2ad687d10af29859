//! npm's part of an operation: package.json and `node_modules`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{Asked, Decided, Decision, Task, check_foreign, edit, fixed, not_direct, read_text};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::install::{self, Options};
use crate::manifest::package_json::{self, RootManifest};
use crate::options::Choice;
use crate::plan::Precondition;
use crate::resolution::Resolution;
use crate::resolve::npm::{self, Preferred};
use crate::spec::Spec;
use crate::transaction::Project;

const MANIFEST: &str = "package.json";
const ENVIRONMENT: &str = "node_modules";
/// npm's own lock: read, never rewritten.
const NPM_LOCK: &str = "package-lock.json";
/// Locks of tools that lay `node_modules` out in another way.
const FOREIGN_LOCKS: [&str; 4] = ["pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"];
/// Names in a warning; the rest is counted.
const NAMES_SHOWN_MAX: usize = 5;

/// The options of a resolution that the resolver honours; others are refused.
const HONOURED: &[Choice] = &[];

pub(super) fn decide(task: &Task<'_>, project: &Project, asked: &Asked<'_>) -> Decision {
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Npm, HONOURED)?;
    let Asked { add, remove, installed, .. } = *asked;
    check_foreign(task, project, &FOREIGN_LOCKS)?;
    let before = read_text(project, MANIFEST)?;
    let mut root = match &before {
        Some(text) => package_json::read(MANIFEST, text)?,
        None => RootManifest::default(),
    };
    for spec in remove {
        if !take(&mut root, &spec.name) {
            return Err(not_direct(Ecosystem::Npm, &spec.name, MANIFEST).into());
        }
    }
    for spec in add {
        let wanted = if spec.requirement.is_empty() { "latest" } else { &spec.requirement };
        want(&mut root, &spec.name, wanted);
    }
    let node = task.version("node");
    let request = npm::Request {
        root,
        node_version: node.map(|version| version.to_string()),
        os: "linux".to_owned(),
        cpu: architecture().to_owned(),
        libc: Some(if cfg!(target_env = "musl") { "musl" } else { "glibc" }.to_owned()),
        preferred: preferred(project, installed)?,
        explicit: add.iter().map(|spec| spec.name.clone()).collect::<BTreeSet<_>>(),
        keep_on: &|| task.check_resolving(began),
    };
    let resolution = npm::resolve(&request, task.registries.npm())?;
    let after = edited(before.as_deref(), add, remove, &resolution)?;
    let mut warnings = resolution.warnings.clone();
    warnings.extend(super::not_followed(task, Ecosystem::Npm)?);
    if project.content(&fixed(NPM_LOCK)?)?.is_some() {
        warnings.push(format!("`{NPM_LOCK}` is npm's and is not rewritten"));
    }
    if installed.is_none() {
        warnings.extend(strangers(project, &resolution));
    }
    let environment = fixed(ENVIRONMENT)?;
    Ok(Decided {
        resolution,
        edits: edit(MANIFEST, before.as_deref(), &after)?.into_iter().collect(),
        preconditions: vec![
            Precondition::file(project, fixed(MANIFEST)?)?,
            Precondition::environment(&task.shop.transactions, project, environment.clone())?,
        ],
        environment: Some(environment),
        warnings,
        before: None,
    })
}

/// The manifest after the change: ranges as they were asked, else the caret range of what was chosen.
fn edited(
    before: Option<&str>,
    add: &[Spec],
    remove: &[Spec],
    resolution: &Resolution,
) -> Result<String> {
    let names: Vec<&str> = remove.iter().map(|spec| spec.name.as_str()).collect();
    let mut text = before.map(str::to_owned);
    if let (Some(present), false) = (&text, names.is_empty()) {
        text = Some(package_json::remove(MANIFEST, present, &names)?);
    }
    let mut wanted = Vec::new();
    for spec in add {
        let place = format!("{ENVIRONMENT}/{}", spec.name);
        let chosen = resolution.packages.iter().find(|package| package.place == place);
        let version = chosen.map_or("", |package| package.version.as_str());
        let requirement = package_json::saved_requirement(&spec.requirement, version);
        wanted.push((spec.name.as_str(), requirement));
    }
    let wanted: Vec<(&str, &str)> =
        wanted.iter().map(|(name, text)| (*name, text.as_str())).collect();
    match (text, wanted.is_empty()) {
        (Some(text), true) => Ok(text),
        (text, _) => package_json::add(MANIFEST, text.as_deref(), &wanted),
    }
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

/// What is installed by us, else what npm's own lock says.
fn preferred(
    project: &Project,
    installed: Option<&Resolution>,
) -> Result<BTreeMap<String, Preferred>> {
    if let Some(resolution) = installed {
        let known = resolution.packages.iter().map(|package| {
            let (name, version) = (package.name.clone(), package.version.clone());
            (package.place.clone(), Preferred { name, version })
        });
        return Ok(known.collect());
    }
    let Some(text) = read_text(project, NPM_LOCK)? else { return Ok(BTreeMap::new()) };
    let Ok(lock) = serde_json::from_str::<Value>(&text) else { return Ok(BTreeMap::new()) };
    let entries = lock["packages"].as_object().into_iter().flatten();
    Ok(entries.filter_map(locked).collect())
}

fn locked((place, entry): (&String, &Value)) -> Option<(String, Preferred)> {
    let folder = place.rsplit_once("node_modules/")?.1;
    let name = entry["name"].as_str().unwrap_or(folder).to_owned();
    let version = entry["version"].as_str()?.to_owned();
    Some((place.clone(), Preferred { name, version }))
}

/// Says which packages of a `node_modules` that others made are not asked for by anybody, so that they go, as with npm.
fn strangers(project: &Project, resolution: &Resolution) -> Option<String> {
    let entries = std::fs::read_dir(project.path().join(ENVIRONMENT)).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let known = |name: &String| {
        let place = format!("{ENVIRONMENT}/{name}");
        let below = format!("{place}/");
        let mut packages = resolution.packages.iter();
        packages.any(|package| package.place == place || package.place.starts_with(&below))
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

/// `process.arch` of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Builds the tree in `staging`; its warnings.
pub(super) fn stage(
    task: &Task<'_>,
    resolution: &Resolution,
    staging: &Path,
    options: Options<'_>,
) -> Result<Vec<String>> {
    Ok(install::npm::stage(&task.shop.store, resolution, staging, options)?.warnings)
}
