//! Ways out of a conflict: direct dependencies loosened or dropped, each tried with the solver.

use std::collections::BTreeSet;

use semver::VersionReq;

use super::{Request, Resolved, Root, solve};
use crate::limits::{REPAIR_ATTEMPTS_MAX, REPAIRS_MAX};
use crate::metadata::cargo::{Dependency, Metadata};
use crate::resolve::{Change, Repair};

/// Up to [`REPAIRS_MAX`] repairs: first those that loosen one requirement, then those that drop one.
pub(super) fn find(
    request: &Request<'_>,
    metadata: &dyn Metadata,
    suspects: &BTreeSet<String>,
) -> Vec<Repair> {
    // What members want of one crate is changed together: changing one of two members rarely helps.
    let mut wanted: Vec<(&str, &VersionReq)> = Vec::new();
    for dependency in request.roots.iter().flat_map(|root| &root.dependencies) {
        let entry = (dependency.package.as_str(), &dependency.requirement);
        if suspects.contains(&dependency.package) && !wanted.contains(&entry) {
            wanted.push(entry);
        }
    }
    let loosen = wanted.iter().filter(|(_, requirement)| **requirement != VersionReq::STAR);
    let attempts =
        loosen.map(|entry| (*entry, false)).chain(wanted.iter().map(|entry| (*entry, true)));
    let mut repairs: Vec<Repair> = Vec::new();
    let mut repaired = BTreeSet::new();
    for ((name, requirement), drops) in attempts.take(REPAIR_ATTEMPTS_MAX) {
        if repairs.len() == REPAIRS_MAX || (request.keep_on)().is_err() {
            break;
        }
        // What loosening repairs need not be dropped.
        if repaired.contains(name) {
            continue;
        }
        if let Some(repair) = attempt(request, metadata, name, requirement, drops) {
            repaired.insert(name);
            repairs.push(repair);
        }
    }
    repairs
}

/// Resolves again with one requirement loosened or dropped.
fn attempt(
    request: &Request<'_>,
    metadata: &dyn Metadata,
    name: &str,
    requirement: &VersionReq,
    drops: bool,
) -> Option<Repair> {
    let is_meant = |it: &Dependency| it.package == name && it.requirement == *requirement;
    let changed = |dependencies: &[Dependency]| -> Vec<Dependency> {
        let kept = dependencies.iter().filter(|it| !(drops && is_meant(it)));
        kept.map(|it| {
            let requirement = if is_meant(it) { VersionReq::STAR } else { it.requirement.clone() };
            Dependency { requirement, ..it.clone() }
        })
        .collect()
    };
    let roots: Vec<Root> = request
        .roots
        .iter()
        .map(|root| Root { dependencies: changed(&root.dependencies), ..root.clone() })
        .collect();
    let resolved = solve(&Request { roots: &roots, ..*request }, metadata).ok()?.ok()?;
    let from = format!("{name} = \"{}\"", text(requirement));
    if drops {
        let description = format!("drop `{from}`");
        return Some(Repair { description, changes: vec![Change { from, to: None }] });
    }
    let version = found(&resolved, name)?;
    let to = format!("{name} = \"{version}\"");
    let description = format!("change `{from}` to `{to}`");
    Some(Repair { description, changes: vec![Change { from, to: Some(to) }] })
}

/// As people write it: a caret is what a bare version means.
fn text(requirement: &VersionReq) -> String {
    let text = requirement.to_string();
    match text.strip_prefix('^') {
        Some(bare) if !bare.contains(',') => bare.to_owned(),
        _ => text,
    }
}

/// The newest version that members got of a crate.
fn found(resolved: &Resolved, name: &str) -> Option<String> {
    let packages = resolved.resolution.packages.iter();
    packages.rev().find(|it| it.name == name && it.direct).map(|it| it.version.clone())
}
