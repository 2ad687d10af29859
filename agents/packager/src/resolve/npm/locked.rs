//! Whether a tree that somebody locked is one that the project asks for, as far as its own manifest can tell: each of its dependencies ends
//! at the package that it names. What packages ask of each other stands in no lock.

use std::collections::{BTreeSet, HashMap};

use super::overrides::Rules;
use super::want::Want;
use crate::manifest::package_json::named::named;
use crate::manifest::package_json::{Override, RootManifest};
use crate::metadata::npm::Dependencies;
use crate::resolution::{Package, Resolution};
use agents_versions::npm::Version;

/// Where the packages stand that the project's own dependencies find.
const TOP: &str = "node_modules/";

/// Whether a locked tree is what the manifest asks for. Where a rule puts something in the place of dependencies that is of no registry
/// this cannot be told, since a lock does not say who asked for what.
pub(crate) fn is_of(root: &RootManifest, resolution: &Resolution) -> bool {
    if replaces_by_named(&root.overrides, root) {
        return false;
    }
    let stands = resolution.packages.iter();
    let stands = stands.filter_map(|package| Some((package.place.strip_prefix(TOP)?, package)));
    let top: HashMap<&str, &Package> = stands.collect();
    let names: BTreeSet<&String> = tables(root).into_iter().flat_map(Dependencies::keys).collect();
    let rules = Rules::new(root);
    names.into_iter().all(|name| match top.get(name.as_str()) {
        Some(package) => is_found(root, &rules, name, package),
        None => may_lack(root, name),
    })
}

/// Whether a manifest asks at this place for another package than the one of this name.
pub(crate) fn is_other(manifest: &RootManifest, place: &str, package: &str) -> bool {
    let folder = place.rsplit_once(TOP).map_or(place, |(_, folder)| folder);
    let of_registry = manifest.declared(folder).filter(|text| named(text).is_none());
    of_registry.is_some_and(|text| Want::parse(text).package(folder) != package)
}

fn tables(root: &RootManifest) -> [&Dependencies; 4] {
    [
        &root.dev_dependencies,
        &root.optional_dependencies,
        &root.dependencies,
        &root.peer_dependencies,
    ]
}

/// As deep as a manifest may be nested.
fn replaces_by_named(rules: &[Override], root: &RootManifest) -> bool {
    rules.iter().any(|rule| {
        let value = rule.value.as_deref().map(|text| {
            text.strip_prefix('$').and_then(|name| root.declared(name)).unwrap_or(text)
        });
        value.is_some_and(|text| named(text).is_some()) || replaces_by_named(&rule.nested, root)
    })
}

/// What this machine cannot use is left out of a tree.
fn may_lack(root: &RootManifest, name: &str) -> bool {
    let is_asked = |table: &Dependencies| table.contains_key(name);
    if is_asked(&root.dev_dependencies) {
        return false;
    }
    let is_needed =
        is_asked(&root.dependencies) || !root.optional_peers.iter().any(|peer| peer == name);
    is_asked(&root.optional_dependencies) || !is_needed
}

/// Whether a package is the one that the project means by a name.
fn is_found(root: &RootManifest, rules: &Rules, name: &str, package: &Package) -> bool {
    let Some(declared) = root.declared(name) else { return false };
    let source = package.artifact.source.as_deref();
    if named(declared).is_some() {
        return source == Some(declared);
    }
    let want = Want::parse(declared);
    let replaced = rules
        .root()
        .and_then(|top| rules.replacement(rules.for_edge(top, name, want.range()), name));
    let want = replaced.map_or(want, |text| Want::parse(&text));
    let version = Version::parse_loose(&package.version).ok();
    let is_right = want.package(name) == package.name && want.accepts(version.as_ref());
    source.is_none() && is_right
}
