//! What a resolver found: exact artefacts, who needs whom, and where each one goes.
//!
//! Fields stand in the order of their names: so a plan's canonical bytes are written without being put in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::metadata::Hashes;

/// The outcome of resolving one ecosystem of one project. Packages are in a canonical order (by name, then
/// version, then place), so that equal outcomes are equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// npm: links in the tree, sorted. Others: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Every package, the direct ones included.
    pub packages: Vec<Package>,
    /// What people should know: deprecated versions, unmet optional peers, skipped optional packages.
    pub warnings: Vec<String>,
}

/// A place in the tree that is a link: to a package of the project's own, or to the same package further up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Where it stands, relative to the project.
    pub place: String,
    /// The directory that it leads to, relative to the project.
    pub target: String,
    /// Commands to link, name to path inside of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bin: BTreeMap<String, String>,
}

/// One exact package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The one file to fetch.
    pub artifact: Arc<Artifact>,
    /// npm: commands to link, name to path inside the package. Others: empty.
    pub bin: BTreeMap<String, String>,
    /// Indices into [`Resolution::packages`] of what it uses at run time, ascending, without repetition.
    pub dependencies: Vec<usize>,
    /// Whether the project itself asks for it.
    pub direct: bool,
    /// The ecosystem.
    pub ecosystem: Ecosystem,
    /// PyPI: extras asked for. cargo: features switched on. Sorted.
    pub extras: Vec<String>,
    /// The licence as the registry says.
    pub license: Option<String>,
    /// The normalised name (for an npm alias: the real package's name).
    pub name: String,
    /// npm: places in the tree, relative to the project (`node_modules/a/node_modules/b`). Others: empty.
    pub place: String,
    /// Publication time (RFC 3339) as the registry says.
    pub published: Option<String>,
    /// Names of install scripts that the ecosystem's own client would run; Bolide does not.
    pub scripts: Vec<String>,
    /// The exact version, in the ecosystem's canonical text.
    pub version: String,
}

/// One file of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it was made of, where no registry has it and it was built on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Box<Built>>,
    /// Whether the project names it by its address or path, in the place of what a registry has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_address: bool,
    /// The file's name.
    pub file_name: String,
    /// What it must hash to. Never empty in a resolution.
    pub hashes: Hashes,
    /// Its size in bytes, where the registry says (npm: the unpacked size is not it, so `None`).
    pub size: Option<u64>,
    /// Where it comes from, where that is not the ecosystem's registry: for crates the index of another one, as cargo's lock names it; for npm the
    /// archive that is asked for by its address, or `file:` and its path from the project; for Python the repository with its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where it is fetched from; never carries a credential.
    pub url: String,
}

/// What a wheel was built of. In a lock, which is for other machines, too, it stands for the wheel: there the file and the digests of the
/// artefact are those of the source archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The source archive's name.
    pub file_name: String,
    /// What the project names in the place of an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<SourceForm>,
    /// What the source archive hashes to. Never empty.
    pub hashes: Hashes,
    /// Every package that was there for the build, sorted.
    pub requirements: Vec<BuildRequirement>,
    /// The source archive's size in bytes, where the registry says.
    pub size: Option<u64>,
    /// Where the source archive is fetched from; empty where that has to be found out.
    pub url: String,
}

/// Source that is no archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceForm {
    /// A directory whose code is used where it lies.
    Editable,
    /// A commit of a repository of git.
    Git,
    /// A directory, built as it was.
    Tree,
}

/// A package that was there for a build, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequirement {
    /// `sha512:...` or `sha256:...` of its artefact.
    pub hash: String,
    /// The package URL.
    pub purl: String,
}

impl BuildRequirement {
    /// The order in which they stand: by package.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        (&self.purl, &self.hash).cmp(&(&other.purl, &other.hash))
    }
}

impl Package {
    /// Where it comes from by the project's own word, whatever was built of that since; nothing for what a registry has.
    pub fn named_at(&self) -> Option<url::Url> {
        let Artifact { built, by_address, url, .. } = &*self.artifact;
        // Nearly none does, and to read an address takes a while.
        if !by_address {
            return None;
        }
        let url = built.as_deref().map_or(url, |built| &built.url);
        url::Url::parse(url).ok()
    }

    /// Whether a source archive stands for the wheel that is built of it.
    pub fn is_source(&self) -> bool {
        self.ecosystem == Ecosystem::Pypi && !self.artifact.file_name.ends_with(".whl")
    }

    /// Its name, and what it goes by where it stands: npm's folder, which an alias and an archive may have another name for.
    pub fn names(&self) -> [&str; 2] {
        let folder = self.place.rsplit("node_modules/").next().unwrap_or_default();
        [&self.name, if folder.is_empty() { &self.name } else { folder }]
    }

    /// The package URL, `pkg:npm/%40scope/name@1.0.0`.
    pub fn purl(&self) -> String {
        crate::spec::purl(self.ecosystem, &self.name, &self.version)
    }

    /// The same behind what is in `text`.
    pub(crate) fn put_purl(&self, text: &mut String) {
        crate::spec::put_purl(text, self.ecosystem, &self.name, &self.version);
    }
}
