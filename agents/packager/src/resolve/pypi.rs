//! Python requirements to exact wheels for one interpreter.
//!
//! Rules, where the standards leave a choice and [`Policy`] says nothing else: pre-releases count only where a requirement names one or where nothing
//! else of what it matches exists; yanked versions only where they are pinned exactly or already installed; versions
//! without a wheel for the target do not count, but those of packages that may be built ([`Policy::sources`]). Markers and extras are evaluated
//! for the one target; a wheel that is named by its address stands for its whole project.

mod ahead;
mod candidates;
mod named;
pub mod policy;
mod provider;
mod repair;
mod specifiers;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use pep440_rs::Version;
use pep508_rs::{ExtraName, PackageName, Requirement};
use pubgrub::PubGrubError;

use self::policy::Policy;
use self::provider::{Key, Provider};
pub use self::specifiers::admits_python;
use super::conflict::{Explanation, explain};
use super::indexed::ROOT;
use super::{Conflict, KeepOn, ResolveError};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::metadata::pypi::Metadata;
use crate::python::PythonTarget;
use crate::resolution::{Artifact, Package, Resolution};

/// What is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The direct requirements. Those whose markers do not hold for the target are skipped.
    pub requirements: &'a [Requirement],
    /// What it is for.
    pub target: &'a PythonTarget,
    /// Installed or locked versions, kept wherever they still fit.
    pub preferred: &'a BTreeMap<PackageName, Version>,
    /// What else is wanted.
    pub policy: &'a Policy,
    /// Whether to go on.
    pub keep_on: KeepOn<'a>,
}

/// Finds one wheel for each package that the requirements need.
///
/// # Errors
/// [`ResolveError::Conflict`] where no set of versions does, with repairs that were checked; otherwise what the index
/// said, `url-requirement` for an address that is not that of a wheel with its digest, `deadline`.
pub fn resolve(request: &Request<'_>, metadata: &dyn Metadata) -> Result<Resolution, ResolveError> {
    match solve(request, metadata)? {
        Ok(resolution) => Ok(resolution),
        Err(explanation) => Err(ResolveError::Conflict(Conflict {
            explanation: explanation.text,
            repairs: repair::find(request, metadata, &explanation.suspects),
        })),
    }
}

/// A failure as [`repair`] needs it.
struct Failure {
    text: String,
    /// Packages that the proof mentions.
    suspects: BTreeSet<PackageName>,
}

/// One run of the solver: a resolution, or the proof that there is none.
fn solve(
    request: &Request<'_>,
    metadata: &dyn Metadata,
) -> Result<Result<Resolution, Failure>, Error> {
    let provider = Provider::new(request, metadata)?;
    provider.check_direct()?;
    let mut outcome = pubgrub::resolve(&provider, ROOT, 0u32);
    while outcome.is_err() && provider.begin_again() {
        outcome = pubgrub::resolve(&provider, ROOT, 0u32);
    }
    match outcome {
        Ok(selected) => {
            let selected = selected.into_iter().map(|(id, version)| (provider.key(id), version));
            Ok(Ok(assemble(&provider, selected.collect())?))
        }
        Err(PubGrubError::NoSolution(tree)) => {
            let Explanation { text, packages } = explain(tree, &provider);
            let suspects =
                packages.into_iter().filter_map(|id| provider.key(id).package().cloned());
            Ok(Err(Failure { text, suspects: suspects.collect() }))
        }
        Err(
            PubGrubError::ErrorRetrievingDependencies { source, .. }
            | PubGrubError::ErrorChoosingVersion { source, .. }
            | PubGrubError::ErrorInShouldCancel(source),
        ) => Err(source),
    }
}

/// Puts what is reached from the direct requirements into canonical order, with files and edges.
fn assemble(provider: &Provider<'_>, selected: Vec<(Rc<Key>, u32)>) -> Result<Resolution, Error> {
    let mut positions: BTreeMap<PackageName, u32> = BTreeMap::new();
    for (key, position) in selected {
        if let Key::Base(name) = &*key {
            positions.insert(name.clone(), position);
        }
    }
    let direct: BTreeSet<&PackageName> =
        provider.direct().map(|requirement| &requirement.name).collect();
    let reached = reach(provider, &positions)?;
    let index_of: BTreeMap<&PackageName, usize> =
        reached.keys().enumerate().map(|(index, name)| (name, index)).collect();
    let mut packages = Vec::with_capacity(reached.len());
    let mut warnings = Vec::new();
    for (name, used) in &reached {
        let position = positions[name];
        let candidates = provider.candidates(name)?;
        let version = candidates.version(position as usize);
        let core = provider.core(name, position)?;
        let file = candidates.file(position as usize).as_ref().map_err(|reason| {
            Error::new(Kind::Failed, "no-file", format!("`{name}` {version} {reason}"))
        })?;
        warn(provider, name, position, used, &mut warnings)?;
        let dependencies: BTreeSet<usize> = used
            .needs
            .iter()
            .filter(|needed| *needed != name)
            .filter_map(|needed| index_of.get(needed).copied())
            .collect();
        packages.push(Package {
            ecosystem: Ecosystem::Pypi,
            name: name.to_string(),
            version: version.to_string(),
            direct: direct.contains(name),
            artifact: Artifact {
                built: None,
                by_address: provider.is_named(name),
                file_name: file.name.clone(),
                url: file.url.clone(),
                hashes: file.hashes.clone(),
                size: file.size,
                source: None,
            }
            .into(),
            dependencies: dependencies.into_iter().collect(),
            place: String::new(),
            bin: BTreeMap::new(),
            extras: used.extras.iter().map(ToString::to_string).collect(),
            license: core.license.clone(),
            published: file.published.clone(),
            scripts: Vec::new(),
        });
    }
    Ok(Resolution { ecosystem: Ecosystem::Pypi, packages, links: Vec::new(), warnings })
}

/// How a package is used.
#[derive(Default)]
struct Used {
    extras: BTreeSet<ExtraName>,
    needs: BTreeSet<PackageName>,
}

/// Follows the requirements over the versions chosen.
fn reach(
    provider: &Provider<'_>,
    positions: &BTreeMap<PackageName, u32>,
) -> Result<BTreeMap<PackageName, Used>, Error> {
    let mut reached: BTreeMap<PackageName, Used> = BTreeMap::new();
    let mut queue: Vec<Key> = Vec::new();
    let enqueue = |requirement: &Requirement, queue: &mut Vec<Key>| {
        queue.push(Key::Base(requirement.name.clone()));
        let extras = requirement.extras.iter();
        queue.extend(extras.map(|extra| Key::Extra(requirement.name.clone(), extra.clone())));
    };
    for requirement in provider.direct() {
        enqueue(requirement, &mut queue);
    }
    let mut seen: HashSet<Key> = HashSet::new();
    while let Some(key) = queue.pop() {
        let Some(name) = key.package() else { continue };
        if !seen.insert(key.clone()) {
            continue;
        }
        let used = reached.entry(name.clone()).or_default();
        if let Key::Extra(_, extra) = &key {
            used.extras.insert(extra.clone());
        }
        let Some(&position) = positions.get(name) else {
            let message = format!("the resolution does not hold together: `{name}` was not chosen");
            return Err(Error::new(Kind::Failed, "inconsistent", message));
        };
        let core = provider.core(name, position)?;
        for requirement in provider.wants(&core, &key) {
            used.needs.insert(requirement.name.clone());
            enqueue(requirement, &mut queue);
        }
    }
    Ok(reached)
}

/// What people should know about one package of a resolution.
fn warn(
    provider: &Provider<'_>,
    name: &PackageName,
    position: u32,
    used: &Used,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let candidates = provider.candidates(name)?;
    let chosen = candidates.version(position as usize);
    let core = provider.core(name, position)?;
    let known: BTreeSet<ExtraName> =
        core.extras.iter().filter_map(|known| known.parse().ok()).collect();
    for extra in used.extras.difference(&known) {
        warnings.push(format!("`{name}` {chosen} has no extra `{extra}`"));
    }
    if let Ok(file) = candidates.file(position as usize)
        && let Some(reason) = &file.yanked
    {
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        warnings.push(format!("`{name}` {chosen} was yanked: {reason}"));
    }
    for (version, reason) in provider.broken(name) {
        if version > *chosen {
            warnings.push(format!("`{name}` {version} was passed over: {reason}"));
        }
    }
    Ok(())
}
