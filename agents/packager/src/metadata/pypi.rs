//! Python index pages (PEP 503, 691, 700) and core metadata, reduced to what resolution needs.

mod project;

use std::sync::Arc;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{PackageName, Requirement};

pub use self::project::{Class, Project, Release};
use super::Hashes;
use crate::error::Error;

/// What kind of file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A wheel with its tags: one `python-abi-platform` triple per combination, as text.
    Wheel {
        /// Build number, as the file name has it.
        build: Option<String>,
        /// Expanded compatibility tags (`py3-none-any`).
        tags: Vec<String>,
    },
    /// A source archive.
    Source,
}

/// One file of a project.
#[derive(Clone, Debug)]
pub struct File {
    /// The last part of its address.
    pub name: String,
    /// The version in its name.
    pub version: Version,
    /// What it is.
    pub kind: FileKind,
    /// Where it is fetched from, absolute, without the fragment.
    pub url: String,
    /// Digests that the page gives.
    pub hashes: Hashes,
    /// Size in bytes, where the page says.
    pub size: Option<u64>,
    /// `requires-python`, where it is given and parses.
    pub requires_python: Option<VersionSpecifiers>,
    /// The reason (may be empty) where the file is yanked.
    pub yanked: Option<String>,
    /// Upload time (RFC 3339), where the page says.
    pub published: Option<String>,
    /// Whether the page advertises a PEP 658 metadata file; `None` where it says nothing.
    pub core_metadata: Option<bool>,
    /// Digests of that metadata file, where the page gives them.
    pub core_metadata_hashes: Hashes,
}

/// The part of a distribution's METADATA that resolution and planning need.
#[derive(Clone, Debug)]
pub struct CoreMetadata {
    /// `Name`.
    pub name: PackageName,
    /// `Version`.
    pub version: Version,
    /// `Requires-Dist`, parsed.
    pub requires_dist: Vec<Requirement>,
    /// `Requires-Python`.
    pub requires_python: Option<VersionSpecifiers>,
    /// `Provides-Extra`.
    pub extras: Vec<String>,
    /// `License-Expression`, else `License` where it is one line.
    pub license: Option<String>,
}

/// What one parsed requirement takes in memory, about.
const REQUIREMENT_BYTES: usize = 320;

impl CoreMetadata {
    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let extras: usize = self.extras.iter().map(|extra| extra.len() + 32).sum();
        512 + self.requires_dist.len() * REQUIREMENT_BYTES + extras
    }
}

/// Where a resolver gets Python metadata from.
pub trait Metadata: Send + Sync {
    /// The files of `name`; `unknown-package` where the index has none. Blocks.
    fn project(&self, name: &PackageName) -> Result<Arc<Project>, Error>;
    /// The core metadata of one wheel (PEP 658, else a range read of its end, else the whole file). Blocks.
    fn core_metadata(
        &self,
        project: &Project,
        file: &Arc<File>,
    ) -> Result<Arc<CoreMetadata>, Error>;
    /// Announces that the files of `name` will probably be asked for. Returns at once; whether they can be given without
    /// waiting.
    fn prefetch_project(&self, name: &PackageName) -> bool;
    /// Announces that the metadata of `file` will probably be asked for. Returns at once.
    fn prefetch_core_metadata(&self, project: &Arc<Project>, file: &Arc<File>);
    /// Asks `ahead` about everything that arrives from now on, as long as it lives.
    fn follow(&self, _ahead: &Arc<dyn Ahead>) {}
}

/// One announcement.
#[derive(Clone, Debug)]
pub enum Next {
    /// The files of a project.
    Project(PackageName),
    /// The metadata of one of its files.
    CoreMetadata(Arc<Project>, Arc<File>),
}

/// What a resolution will probably ask for next; see [`super::npm::Ahead`].
pub trait Ahead: Send + Sync {
    /// What to announce after a project's files; nothing twice.
    fn after_project(&self, project: &Arc<Project>) -> Vec<Next>;
    /// What to announce after a distribution's metadata; nothing twice.
    fn after_core_metadata(&self, core: &Arc<CoreMetadata>) -> Vec<Next>;
}
