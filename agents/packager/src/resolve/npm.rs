//! npm's resolver: the tree of folders that npm itself would build for a project.
//!
//! One package at a time, breadth first, each with its peers, each in the highest folder where nobody would find a
//! wrong version: the procedure of npm's Arborist, because `npm ls` and people's expectations judge by it. The pure
//! outcome is a [`Resolution`]; fetching, unpacking and linking are others' work.
//!
//! Reading order: `catalogue` chooses versions, `tree` knows who finds whom, `check` and `place` put one
//! package, `build` runs the whole, `finish` takes out what this machine cannot use, `report` explains.

mod ahead;
mod build;
mod catalogue;
mod check;
mod finish;
mod names;
mod overrides;
mod place;
mod report;
mod stage;
mod tree;
mod want;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use names::sort_key;

use super::{Conflict, KeepOn, ResolveError};
use crate::error::{Error, Kind};
use crate::manifest::package_json::RootManifest;
use crate::metadata::npm::Metadata;
use crate::resolution::Resolution;

/// What is to be resolved, and for which machine.
pub struct Request<'a> {
    /// The project.
    pub root: RootManifest,
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
    /// Whether to go on.
    pub keep_on: KeepOn<'a>,
}

/// A package that is already in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferred {
    /// The registry's name (not the alias).
    pub name: String,
    /// The exact version.
    pub version: String,
}

/// Resolves a project. Blocks on `metadata` where it has to.
pub fn resolve(request: &Request<'_>, metadata: &dyn Metadata) -> Result<Resolution, ResolveError> {
    if !request.root.workspaces.is_empty() {
        let error = Error::new(
            Kind::Usage,
            "npm-workspaces",
            "the project has npm workspaces, which are not resolved yet",
        );
        return Err(error.hint("run the command in the directory of one workspace").into());
    }
    match build::Builder::new(request, &request.root, metadata).run() {
        Ok(resolution) => Ok(resolution),
        Err(failure) => Err(match failure {
            report::Failure::Other(error) => ResolveError::Other(error),
            report::Failure::Conflict { explanation, candidates } => {
                ResolveError::Conflict(Conflict {
                    explanation,
                    repairs: report::tried(candidates, |change| {
                        let root = report::with_change(&request.root, change);
                        build::Builder::new(request, &root, metadata).run().is_ok()
                    }),
                })
            }
        }),
    }
}

/// What is wrong with a requirement of npm, where it does not name versions of a registry.
pub(crate) fn requirement_problem(text: &str) -> Option<&'static str> {
    match want::Want::parse(text) {
        want::Want::Unsupported(why) => Some(why),
        _ => None,
    }
}
