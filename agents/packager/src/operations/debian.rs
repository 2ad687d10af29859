//! Debian's part of an operation: plans over what apt and dpkg know. Carrying them out is apt's, and not done here.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Aim, Asked, Decided, Decision, Task};
use crate::api::InfoAnswer;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io;
use crate::io::debian::Lists;
use crate::metadata::debian::{Bound, Metadata, Package};
use crate::metadata::held::Held;
use crate::options::Choice;
use crate::resolve::debian::{self, Request, Wish};
use crate::spec::Spec;

fn lists(task: &Task<'_>) -> Result<Lists> {
    Lists::read(&task.system_root())
}

fn wish(spec: &Spec, is_removal: bool) -> Wish {
    let bound = Bound::parse(&spec.requirement).filter(|_| !spec.requirement.is_empty());
    Wish { name: spec.name.clone(), bound, is_removal }
}

/// The options of a resolution that are honoured: apt's lists have one candidate of each package and no dates.
const HONOURED: &[Choice] = &[];

pub(super) fn decide(task: &Task<'_>, asked: &Asked<'_>) -> Decision {
    let began = Instant::now();
    task.choices.check_honoured(Ecosystem::Debian, HONOURED)?;
    let Asked { add, remove, aim, .. } = *asked;
    let lists = lists(task)?;
    let renewed = match aim {
        Aim::Update(named) => named,
        Aim::Change | Aim::Install => &[],
    };
    for spec in renewed {
        let is_it = |package: &std::sync::Arc<Package>| spec.name == qualified(package, &lists);
        if !lists.installed().iter().any(is_it) {
            let message = format!("`{}` is not installed", spec.name);
            return Err(Error::new(Kind::Usage, "not-installed", message).into());
        }
    }
    let wishes: Vec<Wish> = add
        .iter()
        .chain(renewed)
        .map(|spec| wish(spec, false))
        .chain(remove.iter().map(|spec| wish(spec, true)))
        .collect();
    let request = Request { wishes: &wishes, keep_on: &|| task.check_resolving(began) };
    let mut resolved = debian::resolve(&request, &lists)?;
    // In the resolution too, so that the digest that is approved covers what goes.
    let goes = resolved.removed.iter().map(|name| format!("`{name}` is taken away"));
    resolved.resolution.warnings.extend(goes);
    let mut irreversible = Vec::new();
    let system = match task.system_change(&task.system_root(), &resolved) {
        Ok(change) => {
            irreversible.clone_from(&change.irreversible);
            Some(change)
        }
        Err(error) => {
            let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            let why = format!("{}{}{hint}", super::system::CANNOT, error.message);
            resolved.resolution.warnings.push(why);
            None
        }
    };
    let mut warnings = resolved.resolution.warnings.clone();
    warnings.extend(irreversible);
    Ok(Decided {
        resolution: resolved.resolution,
        system,
        wants: Vec::new(),
        target: String::new(),
        edits: Vec::new(),
        environment: None,
        beside: Vec::new(),
        preconditions: Vec::new(),
        warnings,
        before: Some(resolved.before),
        is_locked: false,
        is_elsewhere: false,
    })
}

/// What apt or dpkg were told to leave as it is; nothing where there is no dpkg.
pub(super) fn holds(task: &Task<'_>) -> Result<Held> {
    let packages = io::debian::holds(&task.system_root())?;
    let packages = packages.into_iter().map(|(name, version)| (name, BTreeSet::from([version])));
    Ok(Held { packages: packages.collect(), ..Held::default() })
}

fn qualified(package: &Package, lists: &Lists) -> String {
    match package.architecture == lists.native() {
        true => package.name.clone(),
        false => format!("{}:{}", package.name, package.architecture),
    }
}

/// What apt's lists say about one package.
pub(super) fn info(task: &Task<'_>, spec: &Spec) -> Result<InfoAnswer> {
    let lists = lists(task)?;
    let (name, architecture) = spec.name.split_once(':').unwrap_or((&spec.name, lists.native()));
    let family = lists.named(name)?;
    let own = || family.iter().filter(|package| package.architecture == architecture);
    let order = |one: &&std::sync::Arc<Package>, other: &&std::sync::Arc<Package>| {
        (one.pin, &one.key).cmp(&(other.pin, &other.key))
    };
    let latest = own().max_by(order);
    let bound = Bound::parse(&spec.requirement);
    let meant = |package: &&std::sync::Arc<Package>| {
        bound.as_ref().is_none_or(|bound| bound.holds(&package.key))
    };
    let (Some(latest), Some(found)) = (latest, own().filter(meant).max_by(order)) else {
        let message = format!("no list of apt has `{spec}`");
        return Err(Error::new(Kind::Usage, "unknown-package", message)
            .hint("look at the spelling; `apt-get update` fetches newer lists"));
    };
    let recommends = found.recommends.iter().map(|group| format!("{group} (recommended)"));
    Ok(InfoAnswer {
        schema: super::read::schema(),
        purl: crate::spec::purl(Ecosystem::Debian, &spec.name, &found.version),
        version: found.version.clone(),
        latest: latest.version.clone(),
        versions_count: own().count(),
        license: None,
        published: None,
        hash: found.file.as_ref().map(|file| file.hashes.to_string()).unwrap_or_default(),
        requires: found.depends.iter().map(ToString::to_string).chain(recommends).collect(),
        withdrawn: None,
        scripts: Vec::new(),
    })
}
