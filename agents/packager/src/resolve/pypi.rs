//! Python requirements to exact wheels for one interpreter.
//!
//! Rules, where the standards leave a choice: pre-releases count only where a requirement names one or where nothing
//! else of what it matches exists; yanked versions only where they are pinned exactly or already installed; versions
//! without a wheel for the target do not count, because building is not done. Markers and extras are evaluated
//! for the one target; URL requirements are refused.

mod candidates;
mod provider;
mod repair;
mod specifiers;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pep440_rs::Version;
use pep508_rs::{ExtraName, PackageName, Requirement, VersionOrUrl};
use pubgrub::PubGrubError;

use self::provider::{Key, Provider};
use super::conflict::{Explanation, explain};
use super::indexed::ROOT;
use super::{Conflict, ResolveError};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::metadata::pypi::Metadata;
use crate::python::PythonTarget;
use crate::resolution::{Artifact, Package, Resolution};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The direct requirements. Those whose markers do not hold for the target are skipped.
    pub requirements: &'a [Requirement],
    /// What it is for.
    pub target: &'a PythonTarget,
    /// Installed or locked versions, kept wherever they still fit.
    pub preferred: &'a BTreeMap<PackageName, Version>,
    /// When to give up.
    pub deadline: Option<Instant>,
}

/// Finds one wheel for each package that the requirements need.
///
/// # Errors
/// [`ResolveError::Conflict`] where no set of versions does, with repairs that were checked; otherwise what the index
/// said, `url-requirement` for a direct requirement that names a URL, `deadline`.
pub fn resolve(request: &Request<'_>, metadata: &dyn Metadata) -> Result<Resolution, ResolveError> {
    for requirement in request.requirements {
        if let Some(VersionOrUrl::Url(_)) = requirement.version_or_url {
            let name = &requirement.name;
            let message = format!("`{name}` is asked for by URL, and only packages of an index can be resolved");
            return Err(Error::new(Kind::Usage, "url-requirement", message)
                .hint(format!("ask for `{name}` by version, or install it with pip"))
                .into());
        }
    }
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
    let provider = Provider::new(request, metadata);
    provider.check_direct()?;
    match pubgrub::resolve(&provider, ROOT, 0u32) {
        Ok(selected) => {
            let selected = selected.into_iter().map(|(id, version)| (provider.key(id), version));
            Ok(Ok(assemble(&provider, selected.collect())?))
        }
        Err(PubGrubError::NoSolution(tree)) => {
            let Explanation { text, packages } = explain(tree, &provider);
            let suspects = packages.into_iter().filter_map(|id| provider.key(id).package().cloned());
            Ok(Err(Failure { text, suspects: suspects.collect() }))
        }
        Err(
            PubGrubError::ErrorRetrievingDependencies { source, .. }
            | PubGrubError::ErrorChoosingVersion { source, .. }
            | PubGrubError::ErrorInShouldCancel(source),
        ) => Err(source),
    }
}

/// Puts the solver's choice into canonical order, with files and edges.
fn assemble(provider: &Provider<'_>, selected: Vec<(Key, u32)>) -> Result<Resolution, Error> {
    let mut chosen: BTreeMap<PackageName, (u32, BTreeSet<ExtraName>)> = BTreeMap::new();
    for (key, position) in selected {
        match key {
            Key::Root => {}
            Key::Base(name) => {
                chosen.entry(name).or_default().0 = position;
            }
            Key::Extra(name, extra) => {
                chosen.entry(name).or_default().1.insert(extra);
            }
        }
    }
    let direct: BTreeSet<_> = provider.direct().map(|requirement| &requirement.name).collect();
    let index_of: BTreeMap<_, _> =
        chosen.keys().enumerate().map(|(index, name)| (name.clone(), index)).collect();
    let mut packages = Vec::with_capacity(chosen.len());
    let mut warnings = Vec::new();
    for (name, (position, extras)) in &chosen {
        let candidates = provider.candidates(name)?;
        let candidate = &candidates.list[*position as usize];
        let core = provider.core(name, *position)?;
        let file = candidate.file.as_ref().map_err(|reason| {
            Error::new(Kind::Failed, "no-file", format!("`{name}` {} {reason}", candidate.version))
        })?;
        let mut dependencies = BTreeSet::new();
        let keys = std::iter::once(Key::Base(name.clone()))
            .chain(extras.iter().map(|extra| Key::Extra(name.clone(), extra.clone())));
        for key in keys {
            for requirement in provider.wants(&core, &key) {
                dependencies.extend(index_of.get(&requirement.name));
            }
        }
        dependencies.remove(&index_of[name]);
        for extra in extras {
            let is_known = core.extras.iter().any(|known| {
                known.parse::<ExtraName>().is_ok_and(|known| known == *extra)
            });
            if !is_known {
                warnings.push(format!("`{name}` {} has no extra `{extra}`", candidate.version));
            }
        }
        if let Some(reason) = &file.yanked {
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            warnings.push(format!("`{name}` {} was yanked: {reason}", candidate.version));
        }
        packages.push(Package {
            ecosystem: Ecosystem::Pypi,
            name: name.to_string(),
            version: candidate.version.to_string(),
            direct: direct.contains(name),
            artifact: Artifact {
                file_name: file.name.clone(),
                url: file.url.clone(),
                hashes: file.hashes.clone(),
                size: file.size,
            },
            dependencies: dependencies.into_iter().collect(),
            place: String::new(),
            bin: BTreeMap::new(),
            extras: extras.iter().map(ToString::to_string).collect(),
            license: core.license.clone(),
            published: file.published.clone(),
            scripts: Vec::new(),
        });
    }
    Ok(Resolution { ecosystem: Ecosystem::Pypi, packages, warnings })
}
