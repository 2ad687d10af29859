//! What the solver chose as a change: what comes, what is replaced, what goes.
//!
//! Every relation of what is chosen is checked once more against the whole outcome, so that a mistake of the solver's rules ends
//! here and not on a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pubgrub::{SelectedDependencies, VersionSet};

use super::Resolved;
use super::provider::{Key, Provider};
use super::stock::AWAY;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::metadata::Hashes;
use crate::metadata::debian::Package;
use crate::resolution::{self, Artifact, Resolution};
use crate::resolve::indexed::Id;

/// A name, qualified where it is of a foreign architecture, and what is chosen of it.
type Chosen = BTreeMap<String, (Id, Arc<Package>)>;

pub(super) fn assemble(
    provider: &Provider<'_>,
    selected: SelectedDependencies<Id, u32>,
) -> Result<Resolved, Error> {
    let wished: BTreeSet<&str> =
        provider.request.wishes.iter().map(|wish| wish.name.as_str()).collect();
    let mut positions: BTreeMap<Id, usize> = BTreeMap::new();
    let (mut comes, mut before) = (Chosen::new(), Chosen::new());
    let mut removed = Vec::new();
    for (id, position) in selected {
        let (Key::Package(..), Some(name)) = (provider.key(id), provider.name_of(id)) else {
            continue;
        };
        let position = position as usize;
        positions.insert(id, position);
        let stock = provider.stock(id)?;
        let is_change = stock.installed.unwrap_or(AWAY) != position;
        let here = stock.installed.and_then(|installed| stock.at(installed));
        // What was asked for and is there already is shown too, where a list can say its digest.
        let is_shown = is_change || wished.contains(name.as_str());
        if let Some(here) = here.filter(|_| is_shown) {
            before.insert(name.clone(), (id, Arc::clone(here)));
            if position == AWAY {
                removed.push(name.clone());
            }
        }
        let package = stock.at(position).filter(|it| is_shown && is_verified(it));
        if let Some(package) = package {
            comes.insert(name, (id, Arc::clone(package)));
        }
    }
    for (_, package) in comes.values() {
        check(provider, package, &positions)?;
    }
    removed.sort();
    Ok(Resolved {
        resolution: resolution(provider, &comes, &positions, &wished)?,
        before: resolution(provider, &before, &BTreeMap::new(), &wished)?,
        removed,
    })
}

fn is_verified(package: &Package) -> bool {
    package.file.as_ref().is_some_and(|file| !file.hashes.is_empty())
}

/// The position of a package in the outcome: what was not decided stays.
fn outcome(
    provider: &Provider<'_>,
    id: Id,
    positions: &BTreeMap<Id, usize>,
) -> Result<usize, Error> {
    match positions.get(&id) {
        Some(position) => Ok(*position),
        None => Ok(provider.stock(id)?.installed.unwrap_or(AWAY)),
    }
}

fn check(
    provider: &Provider<'_>,
    package: &Package,
    positions: &BTreeMap<Id, usize>,
) -> Result<(), Error> {
    let inconsistent = |what: String| {
        let message = format!(
            "the resolution does not hold together: `{}` {} {what}",
            package.name, package.version
        );
        Error::new(Kind::Failed, "inconsistent", message)
            .hint("report this with what was asked for; nothing was changed")
    };
    for group in &package.depends {
        let mut is_met = false;
        for (id, set) in provider.ways(group, &package.architecture)? {
            is_met |= set.contains(&(outcome(provider, id, positions)? as u32));
        }
        if !is_met && !package.is_installed {
            return Err(inconsistent(format!("needs {group}")));
        }
    }
    for conflict in &package.conflicts {
        let name = &conflict.relation.name;
        for family in [provider.metadata.named(name)?, provider.metadata.providers(name)?] {
            for other in family.iter().filter(|it| package.forbids(conflict, it)) {
                let id = provider.package_id(&other.name, &other.architecture);
                let position = outcome(provider, id, positions)?;
                let found = provider.stock(id)?.at(position).map(|it| it.version.clone());
                if found.as_deref() == Some(&other.version) && !package.is_installed {
                    return Err(inconsistent(format!("excludes `{}`", other.name)));
                }
            }
        }
    }
    Ok(())
}

fn resolution(
    provider: &Provider<'_>,
    chosen: &Chosen,
    positions: &BTreeMap<Id, usize>,
    wished: &BTreeSet<&str>,
) -> Result<Resolution, Error> {
    let index_of: BTreeMap<Id, usize> =
        chosen.values().enumerate().map(|(index, (id, _))| (*id, index)).collect();
    let mut packages = Vec::with_capacity(chosen.len());
    for (name, (_, package)) in chosen {
        let mut dependencies = BTreeSet::new();
        for group in package.depends.iter().filter(|_| !positions.is_empty()) {
            let ways = provider.ways(group, &package.architecture)?;
            let meets = |(id, set): &(Id, crate::resolve::indexed::Set)| {
                let position = positions.get(id).copied().unwrap_or(AWAY);
                set.contains(&(position as u32)).then(|| index_of.get(id).copied()).flatten()
            };
            dependencies.extend(ways.iter().find_map(meets));
        }
        packages.push(described(name, package, dependencies, wished.contains(name.as_str())));
    }
    Ok(Resolution {
        ecosystem: Ecosystem::Debian,
        packages,
        warnings: Vec::new(),
        links: Vec::new(),
    })
}

fn described(
    name: &str,
    package: &Package,
    dependencies: BTreeSet<usize>,
    direct: bool,
) -> resolution::Package {
    let file = package.file.as_ref();
    let path = file.map(|file| file.path.clone()).unwrap_or_default();
    resolution::Package {
        ecosystem: Ecosystem::Debian,
        name: name.to_owned(),
        version: package.version.clone(),
        direct,
        artifact: Artifact {
            built: None,
            by_address: false,
            file_name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            // Relative to an archive: which mirror serves it is apt's to decide.
            url: path,
            hashes: file.map_or_else(Hashes::default, |file| file.hashes.clone()),
            size: file.and_then(|file| file.size),
            source: None,
        }
        .into(),
        dependencies: dependencies.into_iter().collect(),
        place: String::new(),
        bin: BTreeMap::new(),
        extras: Vec::new(),
        license: None,
        published: None,
        scripts: Vec::new(),
    }
}
