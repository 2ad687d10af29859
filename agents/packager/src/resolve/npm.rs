//! npm's resolver: the tree of folders that npm itself would build for a project.
//!
//! One package at a time, breadth first, each with its peers, each in the highest folder where nobody would find a
//! wrong version: the procedure of npm's Arborist, because `npm ls` and people's expectations judge by it. The pure
//! outcome is a [`Resolution`]; fetching, unpacking and linking are others' work.
//!
//! Reading order: `catalogue` chooses versions (`ready` keeps what that showed, `archives` are in the place of some), `tree` knows who finds whom, `check` and `place` put one
//! package, `build` runs the whole, `finish` takes out what this machine cannot use, `report` explains. `locked` judges a tree that is there already.

mod agree;
mod ahead;
mod archives;
mod build;
mod catalogue;
mod check;
mod finish;
mod locals;
mod locked;
mod names;
mod overrides;
mod place;
mod ready;
mod report;
mod room;
mod stage;
mod texts;
mod tree;
mod want;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use archives::TOO_YOUNG;
pub use archives::{Archive, Archives};
pub(crate) use locked::{is_of, is_other};
pub(crate) use names::sort_key;

use super::{Conflict, KeepOn, ResolveError};
use crate::manifest::package_json::RootManifest;
use crate::manifest::package_json::named::{Named, named};
use crate::metadata::npm::Metadata;
use crate::resolution::Resolution;

/// What is to be resolved, and for which machine.
pub struct Request<'a> {
    /// The project. What it asks for as `file:` is a place of `locals`.
    pub root: RootManifest,
    /// The project's own packages: workspaces, and directories that are named by `file:`.
    pub locals: Vec<Local>,
    /// What is inside of archives that are named by address or path.
    pub archives: &'a dyn Archives,
    /// Node's version (`20.1.0`), where there is a node; without it every `engines` fits.
    pub node_version: Option<String>,
    /// As `process.platform` says: `linux`.
    pub os: String,
    /// As `process.arch` says: `x64`, `arm64`.
    pub cpu: String,
    /// `glibc` or `musl`; `None` where neither.
    pub libc: Option<String>,
    /// What is installed or locked, by place; kept where it still satisfies. Unknown versions are passed over.
    pub preferred: BTreeMap<String, Preferred>,
    /// Direct dependencies to choose anew even if what is preferred satisfies.
    pub explicit: BTreeSet<String>,
    /// Which of the versions that would do are taken.
    pub order: Order,
    /// Whether to go on.
    pub keep_on: KeepOn<'a>,
}

/// From which end versions are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As npm does: `latest` where it does, else the highest.
    #[default]
    Highest,
    /// The lowest.
    Lowest,
    /// The lowest for what the project and its workspaces ask for, else as npm does.
    LowestDirect,
}

/// A package of the project's own. It is linked, not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its directory, relative to the project: `packages/a`.
    pub place: String,
    /// Its name.
    pub name: String,
    /// Its package.json. What it asks for as `file:` is a place of another one.
    pub manifest: RootManifest,
    /// Whether it is linked without being asked for.
    pub is_workspace: bool,
    /// Whether it lies inside of the project, so that what it needs is resolved with it.
    pub is_inside: bool,
}

/// A package that is already in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferred {
    /// The registry's name (not the alias).
    pub name: String,
    /// The exact version.
    pub version: String,
    /// Where it is no version of a registry: the archive, as [`Archives`] has it.
    pub archive: Option<Arc<str>>,
}

/// Drops what the last resolution left, when nobody waits for an answer any more.
pub(crate) struct Rest;

impl Drop for Rest {
    fn drop(&mut self) {
        tree::tidy();
    }
}

/// Resolves a project. Blocks on `metadata` where it has to.
pub fn resolve(request: &Request<'_>, metadata: &dyn Metadata) -> Result<Resolution, ResolveError> {
    attempt(request, &request.root, metadata).map_err(|failure| match failure {
        report::Failure::Other(error) => ResolveError::Other(error),
        report::Failure::Conflict { explanation, candidates, .. } => {
            ResolveError::Conflict(Conflict {
                explanation,
                repairs: report::tried(candidates, |change| {
                    let root = report::with_change(&request.root, change);
                    attempt(request, &root, metadata).is_ok()
                }),
            })
        }
    })
}

/// Resolves as npm would, and where that fails because of the versions that npm takes first, with others.
fn attempt(
    request: &Request<'_>,
    root: &RootManifest,
    metadata: &dyn Metadata,
) -> Result<Resolution, report::Failure> {
    let mut guide = build::Guide::default();
    let mut first: Option<report::Failure> = None;
    for _ in 0..crate::limits::NPM_ATTEMPTS_MAX {
        let build = |edition| build::Builder::new(request, root, (metadata, edition), &guide).run();
        // Where something is gone that was believed, once more, and nothing is believed.
        let outcome = build(metadata.edition()).or_else(|| build(None));
        let failure = match outcome.expect("only what was believed is gone") {
            Ok(resolution) => return Ok(resolution),
            Err(failure @ report::Failure::Other(_)) => return Err(first.unwrap_or(failure)),
            Err(failure) => failure,
        };
        let has_more = match &failure {
            report::Failure::Conflict { way: Some(way), .. } => guide.take(way),
            _ => false,
        };
        // What was wrong with the versions that a person would expect says most.
        first.get_or_insert(failure);
        if !has_more {
            break;
        }
    }
    Err(first.expect("the first attempt failed, or it was returned"))
}

/// What is wrong with a requirement of npm that a person writes for a project.
pub(crate) fn requirement_problem(text: &str) -> Option<&'static str> {
    // A resolution asks the same at once.
    match (&want::Wanted::shared(text).want, named(text)) {
        (_, Some(Named::Path { is_archive: true, .. })) => None,
        (_, Some(Named::Path { .. })) => Some("a path on this machine that is no archive"),
        (want::Want::Unsupported(why), _) => Some(*why),
        _ => None,
    }
}
