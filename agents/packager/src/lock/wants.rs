//! What a manifest asks for, as sorted lines of text: a lock that was made from the same lines needs no resolver.
//!
//! Everything that changes a resolution has to be in them. What only changes the project itself (names, scripts) is not.

use pep508_rs::Requirement;

use crate::manifest::address;
use crate::manifest::package_json::named::told;
use crate::manifest::package_json::{Override, RootManifest};
use crate::resolve::npm::Local;

/// The lines of a package.json, and of the project's own packages.
pub(crate) fn of_npm(root: &RootManifest, locals: Vec<String>) -> Vec<String> {
    let mut lines = of_manifest(root);
    lines.extend(locals);
    sorted(lines)
}

/// The lines of packages of the project's own, each with the directory that it is about. Their versions are not in them: whether
/// one still fits is looked at where a lock is followed, and a release makes no lock stale.
pub(crate) fn of_npm_locals<'l>(locals: impl Iterator<Item = &'l Local>) -> Vec<String> {
    let mut lines = Vec::new();
    for Local { place, name, manifest, is_workspace, .. } in locals {
        let kind = if *is_workspace { "member" } else { "directory" };
        lines.push(format!("{kind} {place} {name}"));
        lines.extend(of_manifest(manifest).iter().map(|line| format!("{place}: {line}")));
    }
    lines
}

fn of_manifest(root: &RootManifest) -> Vec<String> {
    let tables = [
        ("", &root.dependencies),
        ("dev ", &root.dev_dependencies),
        ("optional ", &root.optional_dependencies),
        ("peer ", &root.peer_dependencies),
    ];
    let mut lines: Vec<String> = Vec::new();
    for (kind, table) in tables {
        lines.extend(table.iter().map(|(name, range)| format!("{kind}{name}@{}", told(range))));
    }
    lines.extend(root.optional_peers.iter().map(|name| format!("optional-peer {name}")));
    lines.extend(root.workspaces.iter().map(|pattern| format!("workspace {pattern}")));
    overrides(&root.overrides, "override", &mut lines);
    // npm takes a range with a tab, or an end of a line, in it; a line is a line.
    for line in lines.iter_mut().filter(|line| line.contains(char::is_control)) {
        *line = line.replace(char::is_control, " ");
    }
    lines
}

/// Rules inside each other are as deep as a manifest may be nested.
fn overrides(rules: &[Override], above: &str, lines: &mut Vec<String>) {
    for rule in rules {
        let path = format!("{above} {}", rule.key);
        if let Some(value) = &rule.value {
            lines.push(format!("{path} = {}", told(value)));
        }
        overrides(&rule.nested, &path, lines);
    }
}

/// The lines of Python requirements, each in its canonical form, and of what is said beside them: no requirement looks like those.
pub(crate) fn of_pypi(
    requirements: &[Requirement],
    constraints: &[Requirement],
    takes_prereleases: bool,
) -> Vec<String> {
    let mut lines: Vec<String> = requirements.iter().map(address::shown).collect();
    lines.extend(constraints.iter().map(|one| format!("constraint {}", address::shown(one))));
    lines.extend(takes_prereleases.then(|| "--pre".to_owned()));
    sorted(lines)
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines.dedup();
    lines
}
