//! `Cargo.toml`: read into what the resolver needs, and edited in place as `cargo add` does.
//!
//! All dependency tables are read (normal, build, dev, for targets, renamed, inherited from the workspace). Git is refused by name;
//! what a registry's name means is for whoever knows cargo's configuration. `edit` writes; nothing here looks for files.

mod edit;
mod features;
mod glob;
mod patch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use semver::VersionReq;
use toml_edit::{DocumentMut, Item, TableLike};

pub use edit::{Wanted, add, new_package_name, remove, saved_requirement};
pub use glob::matches;
pub use patch::Patch;

use super::{invalid, read_toml, without_bom};
use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::metadata::cargo::{Dependency, DependencyKind};
use crate::spec::check_name;
use agents_versions::shorten;

/// One Cargo.toml.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// `[package]`; `None` for a workspace without one.
    pub package: Option<Package>,
    /// What comes from the registry.
    pub dependencies: Vec<Dependency>,
    /// What lies in the same workspace.
    pub path_dependencies: Vec<PathDependency>,
    /// `[features]`.
    pub features: BTreeMap<String, Vec<String>>,
    /// `[workspace]`, where this is its root.
    pub workspace: Option<Workspace>,
    /// `[patch]`, which counts in a root only.
    pub patches: Vec<Patch>,
}

/// `[package]`, what was inherited filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// `name`.
    pub name: String,
    /// `version`; `0.0.0` where none is given, as cargo has it.
    pub version: String,
    /// `edition`, where given.
    pub edition: Option<String>,
    /// `rust-version`, where given.
    pub rust_version: Option<String>,
    /// `links`, where given.
    pub links: Option<String>,
    /// `resolver`, where given.
    pub resolver: Option<String>,
}

/// A dependency on another package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathDependency {
    /// The name under which features and code refer to it.
    pub alias: String,
    /// The package's name.
    pub package: String,
    /// Its directory relative to the workspace's root, `/`-separated, without `..`.
    pub directory: String,
    /// Its version, where one is wanted too.
    pub requirement: Option<VersionReq>,
    /// The features asked for.
    pub features: Vec<String>,
    /// Whether `default` is asked for too.
    pub default_features: bool,
    /// Whether a feature has to switch it on.
    pub optional: bool,
    /// `cfg(...)` or a triple.
    pub target: Option<String>,
    /// The table it stands in.
    pub kind: DependencyKind,
}

/// `[workspace]`.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// `members`, as patterns; see [`matches`].
    pub members: Vec<String>,
    /// `exclude`, as directories.
    pub exclude: Vec<String>,
    /// `default-members`, as patterns.
    pub default_members: Vec<String>,
    /// `resolver`, where given.
    pub resolver: Option<String>,
    package: BTreeMap<String, String>,
    dependencies: BTreeMap<String, Item>,
}

impl Workspace {
    /// Whether a directory, relative to the root, is kept out of the workspace.
    pub fn is_excluded(&self, directory: &str) -> bool {
        self.exclude.iter().any(|excluded| {
            let excluded = excluded.trim_end_matches('/');
            directory == excluded
                || directory.strip_prefix(excluded).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Whether members can inherit a crate under its own name.
    pub fn has(&self, name: &str) -> bool {
        let package = |item: &Item| item.get("package").and_then(Item::as_str).map(str::to_owned);
        self.dependencies.get(name).is_some_and(|it| package(it).is_none_or(|it| it == name))
    }

    /// Whether a directory, relative to the root, is one of the members that the patterns name.
    pub fn is_member(&self, directory: &str) -> bool {
        !self.is_excluded(directory)
            && self.members.iter().any(|pattern| matches(pattern, directory))
    }
}

/// Who is read, for messages and for what is inherited.
struct Reader<'a> {
    file: &'a str,
    /// The package's directory relative to the workspace's root.
    directory: &'a str,
    workspace: Option<&'a Workspace>,
    /// Whether it is a registry's: then what it needs is, too, whatever paths stand there.
    is_published: bool,
}

/// Reads the Cargo.toml of a crate of a registry, as cargo takes it there: what it needs comes from that registry, though a path stands
/// beside it, and what counts in the root of a workspace only does not count.
pub fn read_published(file: &str, text: &str) -> Result<Manifest, Error> {
    let (text, _) = without_bom(file, text)?;
    let document = read_toml(file, text)?;
    let reader = Reader { file, directory: "", workspace: None, is_published: true };
    reader.manifest(&document)
}

/// Reads a Cargo.toml. `directory` is the package's, relative to the workspace's root (empty for the root itself);
/// `workspace` is the root's where the file is a member; a root reads its own. `file` is for messages.
pub fn read(
    file: &str,
    directory: &str,
    text: &str,
    workspace: Option<&Workspace>,
) -> Result<Manifest, Error> {
    let (text, _) = without_bom(file, text)?;
    let document = read_toml(file, text)?;
    let own = read_workspace(file, &document)?;
    let workspace = own.as_ref().or(workspace);
    let reader = Reader { file, directory, workspace, is_published: false };
    let mut manifest = reader.manifest(&document)?;
    manifest.patches = patch::read(file, &document)?;
    manifest.workspace = own;
    Ok(manifest)
}

fn read_workspace(file: &str, document: &DocumentMut) -> Result<Option<Workspace>, Error> {
    let Some(item) = document.get("workspace") else { return Ok(None) };
    let Some(table) = item.as_table_like() else {
        return Err(invalid(file, "`workspace` is not a table"));
    };
    let package = table.get("package").and_then(Item::as_table_like).map(|inner| {
        let texts = inner
            .iter()
            .filter_map(|(key, item)| Some((key.to_owned(), item.as_str()?.to_owned())));
        texts.collect()
    });
    let dependencies = table
        .get("dependencies")
        .and_then(Item::as_table_like)
        .map(|inner| inner.iter().map(|(key, item)| (key.to_owned(), item.clone())).collect());
    Ok(Some(Workspace {
        members: texts(file, table, "members")?,
        exclude: texts(file, table, "exclude")?,
        default_members: texts(file, table, "default-members")?,
        resolver: table.get("resolver").and_then(Item::as_str).map(str::to_owned),
        package: package.unwrap_or_default(),
        dependencies: dependencies.unwrap_or_default(),
    }))
}

fn texts(file: &str, table: &dyn TableLike, key: &str) -> Result<Vec<String>, Error> {
    let Some(item) = table.get(key) else { return Ok(Vec::new()) };
    let list: Option<Vec<String>> = item
        .as_array()
        .and_then(|list| list.iter().map(|one| one.as_str().map(str::to_owned)).collect());
    list.ok_or_else(|| invalid(file, format!("`{key}` is not a list of texts")))
}

impl Reader<'_> {
    /// What counts in every manifest.
    fn manifest(&self, document: &DocumentMut) -> Result<Manifest, Error> {
        let mut manifest = Manifest {
            package: self.package(document)?,
            features: self.features(document)?,
            ..Manifest::default()
        };
        self.tables(document.as_table(), None, &mut manifest)?;
        if let Some(targets) = document.get("target").and_then(Item::as_table_like) {
            for (target, item) in targets.iter() {
                let Some(table) = item.as_table_like() else {
                    let problem = format!("`target.{}` is not a table", shorten(target));
                    return Err(invalid(self.file, problem));
                };
                self.tables(table, Some(target), &mut manifest)?;
            }
        }
        match features::problem(&manifest) {
            Some(problem) => Err(invalid(self.file, problem)),
            None => Ok(manifest),
        }
    }

    fn package(&self, document: &DocumentMut) -> Result<Option<Package>, Error> {
        let Some(table) = document.get("package").and_then(Item::as_table_like) else {
            return match document.contains_key("workspace") {
                true => Ok(None),
                false => Err(invalid(self.file, "it has neither `[package]` nor `[workspace]`")),
            };
        };
        let Some(name) = table.get("name").and_then(Item::as_str) else {
            return Err(invalid(self.file, "`package.name` is missing"));
        };
        let version = self.inherited(table, "version")?.unwrap_or_else(|| "0.0.0".to_owned());
        if let Err(error) = semver::Version::parse(&version) {
            let problem = format!("`package.version` is `{}`: {error}", shorten(&version));
            return Err(invalid(self.file, problem));
        }
        let plain = |key: &str| table.get(key).and_then(Item::as_str).map(str::to_owned);
        Ok(Some(Package {
            name: name.to_owned(),
            version,
            edition: self.inherited(table, "edition")?,
            rust_version: self.inherited(table, "rust-version")?,
            links: plain("links"),
            resolver: plain("resolver"),
        }))
    }

    fn inherited(&self, table: &dyn TableLike, key: &str) -> Result<Option<String>, Error> {
        let Some(item) = table.get(key) else { return Ok(None) };
        if let Some(text) = item.as_str() {
            return Ok(Some(text.to_owned()));
        }
        let inherits =
            item.as_table_like().and_then(|one| one.get("workspace")).and_then(Item::as_bool);
        if inherits == Some(true) {
            let found = self.workspace.and_then(|workspace| workspace.package.get(key));
            return found.cloned().map(Some).ok_or_else(|| {
                let problem =
                    format!("`package.{key}` is inherited, but the workspace does not have it");
                invalid(self.file, problem)
            });
        }
        Err(invalid(self.file, format!("`package.{key}` is not a text")))
    }

    fn features(&self, document: &DocumentMut) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let Some(table) = document.get("features").and_then(Item::as_table_like) else {
            return Ok(BTreeMap::new());
        };
        let list =
            table.iter().map(|(name, _)| Ok((name.to_owned(), texts(self.file, table, name)?)));
        list.collect()
    }

    fn tables(
        &self,
        table: &dyn TableLike,
        target: Option<&str>,
        manifest: &mut Manifest,
    ) -> Result<(), Error> {
        for (key, kind) in [
            ("dependencies", DependencyKind::Normal),
            ("build-dependencies", DependencyKind::Build),
            ("build_dependencies", DependencyKind::Build),
            ("dev-dependencies", DependencyKind::Dev),
            ("dev_dependencies", DependencyKind::Dev),
        ] {
            let Some(item) = table.get(key) else { continue };
            let Some(entries) = item.as_table_like() else {
                return Err(invalid(self.file, format!("`{key}` is not a table")));
            };
            for (alias, item) in entries.iter() {
                self.dependency(alias, item, kind, target, manifest)?;
            }
        }
        Ok(())
    }

    fn dependency(
        &self,
        alias: &str,
        item: &Item,
        kind: DependencyKind,
        target: Option<&str>,
        manifest: &mut Manifest,
    ) -> Result<(), Error> {
        let (entry, from_root) = self.entry(alias, item)?;
        let package = entry.package.clone().unwrap_or_else(|| alias.to_owned());
        check_name(Ecosystem::Cargo, &package)
            .map_err(|error| invalid(self.file, error.message))?;
        let requirement = match &entry.version {
            Some(text) => Some(VersionReq::parse(text).map_err(|error| {
                let problem =
                    format!("the version `{}` of `{alias}` does not read: {error}", shorten(text));
                invalid(self.file, problem)
            })?),
            None => None,
        };
        let target = target.map(str::to_owned);
        if let Some(path) = entry.path.as_ref().filter(|_| !self.is_published) {
            let base = if from_root { "" } else { self.directory };
            let directory = join(base, path).ok_or_else(|| {
                let problem =
                    format!("`{alias}` lies in `{}`, outside of the workspace", shorten(path));
                invalid(self.file, problem)
            })?;
            manifest.path_dependencies.push(PathDependency {
                alias: alias.to_owned(),
                package,
                directory,
                requirement,
                features: entry.features,
                default_features: entry.default_features,
                optional: entry.optional,
                target,
                kind,
            });
            return Ok(());
        }
        // As cargo has it: of a registry's crate a path without a version means any.
        let any = (self.is_published && entry.path.is_some()).then_some(VersionReq::STAR);
        let Some(requirement) = requirement.or(any) else {
            return Err(invalid(self.file, format!("`{alias}` has no version")));
        };
        manifest.dependencies.push(Dependency {
            alias: alias.to_owned(),
            package,
            requirement,
            features: entry.features,
            default_features: entry.default_features,
            optional: entry.optional,
            target,
            kind,
            registry: entry.registry,
        });
        Ok(())
    }

    /// An entry with what it inherits; `true` where its path is relative to the workspace's root.
    fn entry(&self, alias: &str, item: &Item) -> Result<(Entry, bool), Error> {
        let own = self.plain_entry(alias, item)?;
        if !own.workspace {
            return Ok((own, false));
        }
        let inherited = self.workspace.and_then(|workspace| workspace.dependencies.get(alias));
        let Some(inherited) = inherited else {
            let problem =
                format!("`{alias}` is inherited, but `[workspace.dependencies]` does not have it");
            return Err(invalid(self.file, problem));
        };
        let mut entry = self.plain_entry(alias, inherited)?;
        entry.optional = own.optional;
        entry.features.extend(own.features);
        entry.features.sort();
        entry.features.dedup();
        // A member can switch the defaults on that the workspace has off, never the other way round.
        entry.default_features |= own.default_features_given && own.default_features;
        Ok((entry, true))
    }

    fn plain_entry(&self, alias: &str, item: &Item) -> Result<Entry, Error> {
        if let Some(version) = item.as_str() {
            return Ok(Entry { version: Some(version.to_owned()), ..Entry::default() });
        }
        let Some(table) = item.as_table_like() else {
            return Err(invalid(self.file, format!("`{alias}` is neither a version nor a table")));
        };
        let text = |key: &str| match table.get(key) {
            None => Ok(None),
            Some(item) => match item.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(invalid(self.file, format!("`{key}` of `{alias}` is not a text"))),
            },
        };
        let flag = |key: &str| table.get(key).and_then(Item::as_bool);
        if table.contains_key("git") {
            return Err(invalid(
                self.file,
                format!("`{alias}` comes from a git repository, which is not supported"),
            )
            .hint("use a version that is published, or cargo itself for this project"));
        }
        let (registry, registry_index) = (text("registry")?, text("registry-index")?);
        if let (Some(registry), Some(_)) = (&registry, &registry_index) {
            let problem = format!(
                "`{alias}` has both `registry` (`{}`) and `registry-index`",
                shorten(registry)
            );
            return Err(invalid(self.file, problem));
        }
        let is_name = |it: &String| {
            it.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
                && !it.is_empty()
        };
        if let Some(registry) = registry.as_ref().filter(|it| !is_name(it)) {
            let problem = format!(
                "`registry` of `{alias}` is `{}`, which is not the name of one",
                shorten(registry)
            );
            return Err(invalid(self.file, problem));
        }
        let defaults = flag("default-features").or_else(|| flag("default_features"));
        Ok(Entry {
            version: text("version")?,
            path: text("path")?,
            package: text("package")?,
            registry: registry.or(registry_index),
            features: texts(self.file, table, "features")?,
            default_features: defaults.unwrap_or(true),
            default_features_given: defaults.is_some(),
            optional: flag("optional").unwrap_or(false),
            workspace: flag("workspace").unwrap_or(false),
        })
    }
}

struct Entry {
    version: Option<String>,
    path: Option<String>,
    package: Option<String>,
    /// A name of cargo's configuration, or the address of an index.
    registry: Option<String>,
    features: Vec<String>,
    default_features: bool,
    default_features_given: bool,
    optional: bool,
    workspace: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            version: None,
            path: None,
            package: None,
            registry: None,
            features: Vec::new(),
            default_features: true,
            default_features_given: false,
            optional: false,
            workspace: false,
        }
    }
}

/// A path below a directory, both relative to the root; `None` where it leaves the root.
fn join(base: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
