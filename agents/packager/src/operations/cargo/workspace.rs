//! The packages of a cargo workspace: which manifest is changed, who the members are, and what cargo's resolver setting says.

use std::collections::BTreeSet;
use std::path::Path;

use semver::Version;

use crate::error::{Error, Kind, Result};
use crate::limits::WORKSPACE_DIRECTORIES_MAX;
use crate::manifest::cargo_toml::{self, Manifest, Patch, Workspace};
use crate::operations::read_text;
use crate::resolve::cargo::Root;
use crate::transaction::{Project, root_of_pattern};

use super::MANIFEST;

/// One package of the project.
pub(super) struct Member {
    pub(super) manifest: Manifest,
    /// Its Cargo.toml, relative to the project.
    pub(super) path: String,
}

/// The manifest that is changed.
pub(super) struct Target {
    /// Relative to the project.
    pub(super) path: String,
    /// The package's directory; empty for the root.
    pub(super) directory: String,
    /// What it holds; `None` where there is none yet.
    pub(super) text: Option<String>,
    /// What it may inherit from.
    pub(super) workspace: Option<Workspace>,
}

impl Target {
    /// The manifest of a member, or of the root for an empty name.
    pub(super) fn find(project: &Project, member: &str) -> Result<Self> {
        let root = read_text(project, MANIFEST)?;
        let manifest = match &root {
            Some(text) => cargo_toml::read(MANIFEST, "", text, None)?,
            None => Manifest::default(),
        };
        let workspace = manifest.workspace;
        if member.is_empty() {
            let (path, directory) = (MANIFEST.to_owned(), String::new());
            return Ok(Self { path, directory, text: root, workspace });
        }
        // What the root depends on by path is a member without being named.
        let is_near = manifest.path_dependencies.iter().any(|it| it.directory == member);
        if !workspace.as_ref().is_some_and(|it| is_near || it.is_member(member)) {
            let message = format!("`{member}` is not a member of the workspace");
            return Err(Error::new(Kind::Usage, "unknown-member", message)
                .hint("add it to `workspace.members` in the root's Cargo.toml"));
        }
        let path = format!("{member}/{MANIFEST}");
        let text = read_text(project, &path)?.ok_or_else(|| missing(&path))?;
        Ok(Self { path, directory: member.to_owned(), text: Some(text), workspace })
    }
}

pub(super) fn missing(path: &str) -> Error {
    let message = format!("`{path}` is named by the workspace and does not exist");
    Error::new(Kind::Failed, "manifest-missing", message)
        .hint("create it, or take it out of the workspace")
}

/// What the root's manifest says for all of the workspace: which packages stand for crates, and what members may inherit.
/// `changed` is the new text of the target.
pub(super) fn shared(
    project: &Project,
    target: &Target,
    changed: &str,
) -> Result<(Vec<Patch>, Option<Workspace>)> {
    let root = cargo_toml::read(MANIFEST, "", &root_text(project, target, changed)?, None)?;
    Ok((root.patches, root.workspace))
}

fn root_text(project: &Project, target: &Target, changed: &str) -> Result<String> {
    match target.directory.is_empty() {
        true => Ok(changed.to_owned()),
        false => read_text(project, MANIFEST)?.ok_or_else(|| missing(MANIFEST)),
    }
}

/// The root package and every member of the workspace that its manifest names.
/// `changed` is the new text of the target; the others are read.
pub(super) fn members(project: &Project, target: &Target, changed: &str) -> Result<Vec<Member>> {
    let root = cargo_toml::read(MANIFEST, "", &root_text(project, target, changed)?, None)?;
    let mut directories: Vec<String> =
        root.path_dependencies.iter().map(|dependency| dependency.directory.clone()).collect();
    if let Some(workspace) = &root.workspace {
        for directory in workspace.members.iter().filter_map(|pattern| root_of_pattern(pattern)) {
            project.note_listed(&directory);
        }
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
    let mut seen = BTreeSet::new();
    while let Some(directory) = directories.pop() {
        if directory.is_empty() || !seen.insert(directory.clone()) {
            continue;
        }
        if seen.len() > WORKSPACE_DIRECTORIES_MAX {
            let message =
                format!("the workspace has more than {WORKSPACE_DIRECTORIES_MAX} members");
            return Err(Error::new(Kind::Failed, "workspace-too-large", message));
        }
        if workspace.as_ref().is_none_or(|workspace| workspace.is_excluded(&directory)) {
            return Err(near(&directory));
        }
        let path = format!("{directory}/{MANIFEST}");
        let text = match path == target.path {
            true => changed.to_owned(),
            false => read_text(project, &path)?.ok_or_else(|| missing(&path))?,
        };
        let manifest = cargo_toml::read(&path, &directory, &text, workspace.as_ref())?;
        directories.extend(manifest.path_dependencies.iter().map(|one| one.directory.clone()));
        members.push(Member { manifest, path });
    }
    members.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(members)
}

/// The refusal of a package that is depended on by path and is no member: of such a one cargo locks only what its
/// dependents ask for, which is not done here.
fn near(directory: &str) -> Error {
    let message = format!("`{directory}` is depended on by path and is no member of the workspace");
    Error::new(Kind::Usage, "not-a-member", message).hint(
        "with `[workspace]` in the root's Cargo.toml, and no `exclude` for it, it becomes one; or use cargo here",
    )
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

pub(super) fn root(member: &Member) -> Result<Root> {
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
        features: manifest.features_of_crates(),
    })
}

/// Whether compilers count in choices: resolver 3, the default of edition 2024, has it so, and cargo's configuration can say
/// otherwise (`resolver.incompatible-rust-versions`). The root's manifest alone decides; one without a package has no edition.
pub(super) fn is_rust_version_aware(members: &[Member], setting: Option<bool>) -> bool {
    let root = members.iter().find(|member| member.path == MANIFEST);
    let package = root.and_then(|root| root.manifest.package.as_ref());
    let workspace = members.iter().find_map(|member| member.manifest.workspace.as_ref());
    let resolver = package.and_then(|package| package.resolver.clone());
    let resolver = resolver.or_else(|| workspace.and_then(|workspace| workspace.resolver.clone()));
    setting.unwrap_or_else(|| match resolver {
        Some(resolver) => resolver == "3",
        None => package.is_some_and(|package| package.edition.as_deref() == Some("2024")),
    })
}

fn declared(members: &[Member]) -> impl Iterator<Item = Version> {
    let packages = members.iter().filter_map(|member| member.manifest.package.as_ref());
    packages.filter_map(|package| rust_version(package.rust_version.as_deref()?))
}

/// The oldest compiler that the members promise to support.
pub(super) fn lowest_rust_version(members: &[Member]) -> Option<Version> {
    declared(members).min()
}

/// The compiler versions that choices should fit: what the members declare, else the one that is here.
pub(super) fn rust_versions(
    members: &[Member],
    compiler: impl FnOnce() -> Option<Version>,
) -> Vec<Version> {
    let declared: Vec<Version> = declared(members).collect();
    if declared.is_empty() { compiler().into_iter().collect() } else { declared }
}

/// `1.70` as a version.
fn rust_version(text: &str) -> Option<Version> {
    let missing = 2usize.checked_sub(text.matches('.').count())?;
    Version::parse(&format!("{text}{}", ".0".repeat(missing))).ok()
}
