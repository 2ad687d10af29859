//! `[patch]` of the workspace's root: packages of the project that stand for crates of a registry.

use std::collections::BTreeMap;

use semver::Version;

use super::MANIFEST;
use super::registries::Registries;
use super::workspace::{Member, missing};
use crate::error::{Error, Kind, Result};
use crate::manifest::cargo_toml::{self, Manifest, Patch, Workspace};
use crate::metadata::Hashes;
use crate::metadata::cargo::scope::without_secret;
use crate::metadata::cargo::{self as metadata, Dependency, DependencyKind};
use crate::operations::read_text;
use crate::resolve::cargo;
use crate::transaction::Project;

/// A package that stands for a crate.
pub(super) struct Standing {
    pub(super) patch: Patch,
    pub(super) manifest: Manifest,
    /// Its Cargo.toml, relative to the project.
    pub(super) path: String,
}

/// What the resolver is told of all of them.
pub(super) struct Patches {
    /// As versions, by the keys of their crates.
    pub(super) versions: BTreeMap<String, Vec<metadata::Version>>,
    pub(super) list: Vec<cargo::Patch>,
}

/// Reads the manifests of packages that stand for crates.
///
/// # Errors
/// `manifest-missing` where a directory has none, `manifest-invalid` where it is another package's.
pub(super) fn read(
    project: &Project,
    (patches, workspace): (Vec<Patch>, Option<&Workspace>),
) -> Result<Vec<Standing>> {
    let standing = patches.into_iter().map(|patch| {
        let path = format!("{}/{MANIFEST}", patch.directory);
        let text = read_text(project, &path)?.ok_or_else(|| missing(&path))?;
        let manifest = cargo_toml::read(&path, &patch.directory, &text, workspace)?;
        let name = manifest.package.as_ref().map(|package| package.name.as_str());
        if name != Some(&patch.package) {
            let found = name.map_or_else(|| "no package".to_owned(), |name| format!("`{name}`"));
            let message = format!(
                "`[patch]` looks for `{}` in `{}`, where there is {found}",
                patch.package, patch.directory
            );
            return Err(Error::new(Kind::Usage, "manifest-invalid", message)
                .hint("name the package as its own Cargo.toml does, with `package = \"NAME\"`"));
        }
        Ok(Standing { patch, manifest, path })
    });
    standing.collect()
}

impl Patches {
    /// What the resolver is told. Names of registries in their manifests have become addresses already.
    pub(super) fn of(
        standing: &[Standing],
        members: &[Member],
        registries: &Registries,
    ) -> Result<Self> {
        let mut all = Self { versions: BTreeMap::new(), list: Vec::new() };
        for one in standing {
            let package = &one.patch.package;
            let key = registries.key(package, &one.patch.registry).ok_or_else(|| {
                let message = format!(
                    "`[patch]` names the registry `{}`, which is not configured",
                    without_secret(&one.patch.registry)
                );
                Error::new(Kind::Usage, "other-registry", message)
                    .hint("define it as `[registries.NAME]` in cargo's configuration")
            })?;
            if !members.iter().any(|member| member.path == one.path) {
                check_alone(one)?;
            }
            let version = version(one, key != *package, registries)?;
            let known = all.versions.entry(key.clone()).or_default();
            if known.iter().any(|known| known.version == version.version) {
                let message = format!("`[patch]` names `{package}` {} twice", version.version);
                return Err(Error::new(Kind::Usage, "manifest-invalid", message));
            }
            let directory = one.patch.directory.clone();
            all.list.push(cargo::Patch { key, version: version.version.clone(), directory });
            known.push(version);
        }
        Ok(all)
    }
}

/// Refuses a package that has others beside it: who is no member has its own lock, and what it needs by path is not followed.
fn check_alone(standing: &Standing) -> Result<()> {
    let needed = |it: &&cargo_toml::PathDependency| it.kind != DependencyKind::Dev;
    let Some(other) = standing.manifest.path_dependencies.iter().find(needed) else {
        return Ok(());
    };
    let message = format!(
        "`{}`, which `[patch]` names, needs `{}` by path",
        standing.patch.directory, other.package
    );
    Err(Error::new(Kind::Usage, "not-a-member", message)
        .hint("make both members of the workspace, or name the other one in `[patch]`, too"))
}

/// A manifest as one of the crate's versions. `is_other`: of a registry that is not the default one, where a dependency without a
/// registry would be of that one.
fn version(
    standing: &Standing,
    is_other: bool,
    registries: &Registries,
) -> Result<metadata::Version> {
    let manifest = &standing.manifest;
    let package = manifest.package.clone().unwrap_or_default();
    let version = Version::parse(&package.version).map_err(|error| {
        let message =
            format!("`{}`: the version `{}` is none: {error}", standing.path, package.version);
        Error::new(Kind::Failed, "manifest-invalid", message)
    })?;
    let counts = |it: &&Dependency| it.kind != DependencyKind::Dev;
    let dependencies = manifest.dependencies.iter().filter(counts).map(|it| {
        let default = is_other.then(|| registries.default.clone());
        Dependency { registry: it.registry.clone().or(default), ..it.clone() }
    });
    Ok(metadata::Version {
        version,
        dependencies: dependencies.collect(),
        features: manifest.features_of_crates(),
        yanked: false,
        links: package.links,
        rust_version: package.rust_version,
        hashes: Hashes::default(),
        published: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_patch_is_in_no_message() {
        let patch = Patch {
            registry: "https://me:hush@r.example.invalid/i?token=hush".to_owned(),
            package: "leaf".to_owned(),
            directory: "leaf".to_owned(),
        };
        let standing =
            Standing { patch, manifest: Manifest::default(), path: "leaf/Cargo.toml".to_owned() };
        let refused = Patches::of(&[standing], &[], &Registries::default_only());
        let message = refused.err().expect("refused").message;
        assert!(message.contains("`https://r.example.invalid/i?...`"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
}
