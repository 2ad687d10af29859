//! Crates for a cargo workspace: what `cargo generate-lockfile` would choose, as exact packages and a lock file.
//!
//! As cargo does for its lock: every feature of every member is on, dependencies for all targets count, dev
//! dependencies count for members only, one version per crate and range of compatible versions. A version that is already locked
//! is kept where it fits; else versions that the compiler can build come first; else the newest.

mod activation;
mod ahead;
mod assemble;
mod crates;
pub mod lock;
mod provider;
mod repair;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pubgrub::PubGrubError;
use semver::Version;

pub use self::crates::Policy;
use self::lock::Lock;
use self::provider::Provider;
use super::conflict::{Explanation, explain};
use super::indexed::ROOT;
use super::{Conflict, KeepOn, ResolveError};
use crate::error::{Error, Kind};
use crate::metadata::Hashes;
use crate::metadata::cargo::scope::split;
use crate::metadata::cargo::{Dependency, Metadata, Registry, Scope};
use crate::resolution::Resolution;

/// One member of the workspace.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its dependencies on crates of the registry, of all kinds.
    pub dependencies: Vec<Dependency>,
    /// Names of other members that it depends on by path.
    pub local: Vec<String>,
    /// Its `[features]`.
    pub features: BTreeMap<String, Vec<String>>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The members.
    pub roots: &'a [Root],
    /// Versions in an existing lock by the keys of crates, kept wherever they still fit, even if they were yanked since.
    pub preferred: &'a BTreeMap<String, BTreeSet<Version>>,
    /// What is preferred.
    pub policy: &'a Policy,
    /// The registry as the lock names it: [`lock::default_source`] or `sparse+https://...`.
    pub source: &'a str,
    /// What `[patch]` puts in the place of crates.
    pub patches: &'a [Patch],
    /// The other registries, as members see them; `None` where there is one only.
    pub scope: Option<&'a Arc<Scope>>,
    /// The format of the lock; see [`lock::format_for`].
    pub format: u32,
    /// Where the registry keeps the `.crate` file of a key, version and checksum (its `dl`).
    pub download: &'a dyn Fn(&str, &Version, &Hashes) -> String,
    /// Whether to go on.
    pub keep_on: KeepOn<'a>,
}

/// A package of the project that stands for a crate. The metadata has it as one of the crate's versions.
#[derive(Clone, Debug)]
pub struct Patch {
    /// What the resolver calls the crate.
    pub key: String,
    /// The package's version.
    pub version: Version,
    /// Where it lies, for people.
    pub directory: String,
}

impl<'a> Request<'a> {
    /// The registry of a crate, where it is not the default one.
    fn registry(&self, key: &str) -> Option<&'a Registry> {
        self.scope.and_then(|scope| scope.registry(key))
    }
}

/// The answer in two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The crates to fetch; members are not among them.
    pub resolution: Resolution,
    /// Everything that `Cargo.lock` says.
    pub lock: Lock,
}

/// Finds one version for each crate that the members need.
///
/// # Errors
/// [`ResolveError::Conflict`] where no set of versions does, with repairs that were checked; otherwise what the
/// index said, `other-registry` for a direct dependency from another registry, `unknown-feature`, `deadline`.
pub fn resolve(request: &Request<'_>, metadata: &dyn Metadata) -> Result<Resolved, ResolveError> {
    for root in request.roots {
        for dependency in &root.dependencies {
            let is_known = match (&dependency.registry, request.scope) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(registry), Some(scope)) => scope.knows(registry),
            };
            if !is_known {
                let (name, root) = (&dependency.package, &root.name);
                let message =
                    format!("`{root}` wants `{name}` from a registry that is not configured");
                return Err(Error::new(Kind::Usage, "other-registry", message)
                    .hint("define it as `[registries.NAME]` in cargo's configuration")
                    .into());
            }
        }
    }
    match solve(request, metadata)? {
        Ok(resolved) => Ok(resolved),
        Err(failure) => Err(ResolveError::Conflict(Conflict {
            explanation: failure.text,
            repairs: repair::find(request, metadata, &failure.suspects),
        })),
    }
}

/// A failure as [`repair`] needs it.
struct Failure {
    text: String,
    /// Crates that the proof mentions.
    suspects: BTreeSet<String>,
}

/// One run of the solver: a resolution, or the proof that there is none.
fn solve(
    request: &Request<'_>,
    metadata: &dyn Metadata,
) -> Result<Result<Resolved, Failure>, Error> {
    let provider = Provider::new(request, metadata)?;
    provider.check_roots()?;
    match pubgrub::resolve(&provider, ROOT, 0u32) {
        Ok(selected) => Ok(Ok(assemble::assemble(&provider, selected)?)),
        Err(PubGrubError::NoSolution(tree)) => {
            let Explanation { text, packages } = explain(tree, &provider);
            let suspects = packages
                .into_iter()
                .filter_map(|id| provider.crate_name(id).map(|it| split(&it).0.to_owned()));
            Ok(Err(Failure { text, suspects: suspects.collect() }))
        }
        Err(
            PubGrubError::ErrorRetrievingDependencies { source, .. }
            | PubGrubError::ErrorChoosingVersion { source, .. }
            | PubGrubError::ErrorInShouldCancel(source),
        ) => Err(source),
    }
}
