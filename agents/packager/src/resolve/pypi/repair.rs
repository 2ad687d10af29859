//! Ways out of a conflict: direct requirements loosened or dropped, each tried with the solver.

use std::collections::BTreeSet;

use pep440_rs::VersionSpecifiers;
use pep508_rs::{PackageName, Requirement, VersionOrUrl};

use super::provider::specifiers;
use super::{Request, solve};
use crate::limits::{REPAIR_ATTEMPTS_MAX, REPAIRS_MAX};
use crate::manifest::address;
use crate::metadata::pypi::Metadata;
use crate::resolution::{Package, Resolution};
use crate::resolve::{Change, Repair};

/// Up to [`REPAIRS_MAX`] repairs, the least invasive first: one requirement loosened, one dropped, two loosened.
pub(super) fn find(
    request: &Request<'_>,
    metadata: &dyn Metadata,
    suspects: &BTreeSet<PackageName>,
) -> Vec<Repair> {
    let positions: Vec<usize> = (0..request.requirements.len())
        .filter(|&position| {
            let requirement = &request.requirements[position];
            suspects.contains(&requirement.name)
                && requirement.evaluate_markers(&request.target.markers, &[])
        })
        .collect();
    let loose = |position: &usize| !specifiers(&request.requirements[*position]).is_empty();
    let loosenable: Vec<usize> = positions.iter().copied().filter(loose).collect();
    let mut attempts: Vec<(Vec<usize>, bool)> = Vec::new();
    attempts.extend(loosenable.iter().map(|&position| (vec![position], false)));
    attempts.extend(positions.iter().map(|&position| (vec![position], true)));
    for (offset, &first) in loosenable.iter().enumerate() {
        attempts
            .extend(loosenable[offset + 1..].iter().map(|&second| (vec![first, second], false)));
    }
    let mut repairs: Vec<Repair> = Vec::new();
    let mut repaired = BTreeSet::new();
    for (positions, drops) in attempts.into_iter().take(REPAIR_ATTEMPTS_MAX) {
        // A requirement that loosening repairs need not be dropped, nor be loosened with another one.
        if positions.iter().any(|position| repaired.contains(position)) {
            continue;
        }
        if repairs.len() == REPAIRS_MAX || (request.keep_on)().is_err() {
            break;
        }
        if let Some(repair) = attempt(request, metadata, &positions, drops) {
            repaired.extend(positions);
            repairs.push(repair);
        }
    }
    repairs
}

/// Resolves again with some requirements loosened or dropped.
fn attempt(
    request: &Request<'_>,
    metadata: &dyn Metadata,
    positions: &[usize],
    drops: bool,
) -> Option<Repair> {
    let changed = request.requirements.iter().enumerate().filter_map(|(position, requirement)| {
        match (positions.contains(&position), drops) {
            (true, true) => None,
            (true, false) => Some(loosened(requirement)),
            (false, _) => Some(requirement.clone()),
        }
    });
    let changed: Vec<_> = changed.collect();
    let resolution = solve(&Request { requirements: &changed, ..*request }, metadata).ok()?.ok()?;
    // Without its address a name that others want would be taken from an index, where it may be a stranger's.
    let is_left = |position: &usize| {
        let dropped = &request.requirements[*position];
        let has_address = matches!(dropped.version_or_url, Some(VersionOrUrl::Url(_)));
        let is_it = |package: &Package| package.name == dropped.name.as_ref();
        has_address && resolution.packages.iter().any(is_it)
    };
    if drops && positions.iter().any(is_left) {
        return None;
    }
    let changes: Vec<_> = positions
        .iter()
        .map(|&position| change(&request.requirements[position], drops, &resolution))
        .collect();
    let clauses: Vec<_> = changes
        .iter()
        .map(|change| match &change.to {
            Some(to) => format!("change `{}` to `{to}`", change.from),
            None => format!("drop `{}`", change.from),
        })
        .collect();
    Some(Repair { description: clauses.join(" and "), changes })
}

fn loosened(requirement: &Requirement) -> Requirement {
    Requirement { version_or_url: None, ..requirement.clone() }
}

/// What to write instead: the version that was found, and what is compatible with it.
fn change(requirement: &Requirement, drops: bool, resolution: &Resolution) -> Change {
    let from = address::told(requirement);
    if drops {
        return Change { from, to: None };
    }
    let name = requirement.name.to_string();
    let found = resolution.packages.iter().find(|package| package.name == name);
    let replacement = found.and_then(|package| {
        let was_pin = specifiers(requirement).iter().any(|specifier| {
            matches!(
                specifier.operator(),
                pep440_rs::Operator::Equal | pep440_rs::Operator::ExactEqual
            )
        });
        let operator = if was_pin || package.version.contains('+') { "==" } else { ">=" };
        format!("{operator}{}", package.version).parse::<VersionSpecifiers>().ok()
    });
    let to = Requirement {
        version_or_url: replacement.map(VersionOrUrl::VersionSpecifier),
        ..requirement.clone()
    };
    Change { from, to: Some(to.to_string()) }
}
