//! Whether a tree that somebody locked is one that the project asks for, as far as its own manifests can tell: each of their dependencies
//! ends at the package that it names, and links lead to the project's own packages. What packages ask of each other stands in no lock.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Local;
use super::overrides::{RuleId, Rules};
use super::want::Want;
use crate::manifest::package_json::named::{FILE, named};
use crate::manifest::package_json::{Override, RootManifest};
use crate::metadata::npm::Dependencies;
use crate::resolution::{Link, Package, Resolution};
use agents_versions::npm::Version;

/// Where the packages stand that the project's own dependencies find.
const TOP: &str = "node_modules/";

/// Whether a locked tree is what the manifests ask for. Where a rule puts something in the place of dependencies that is of no registry
/// this cannot be told, since a lock does not say who asked for what.
pub(crate) fn is_of(root: &RootManifest, locals: &[Local], resolution: &Resolution) -> bool {
    if replaces_by_named(&root.overrides, root) {
        return false;
    }
    let tree = Tree::new(root, locals, resolution);
    let linked: BTreeSet<&str> = resolution.links.iter().map(|link| link.target.as_str()).collect();
    // What nothing links to has nothing there.
    let mut standing = locals.iter().filter(|it| it.is_inside && linked.contains(&*it.place));
    tree.at.keys().all(|place| tree.is_within(place))
        && resolution.links.iter().all(|link| tree.is_link(link))
        && locals.iter().filter(|it| it.is_workspace).all(|it| tree.has_workspace(it))
        && tree.finds_all(None, root)
        && standing.all(|local| tree.finds_all(Some(local), &local.manifest))
}

/// What stands at a place.
#[derive(Clone, Copy)]
enum Stands<'t> {
    Package(&'t Package),
    Link(&'t Link),
}

/// A locked tree, and what the project has.
struct Tree<'t> {
    at: HashMap<&'t str, Stands<'t>>,
    locals: HashMap<&'t str, &'t Local>,
    workspaces: HashMap<&'t str, &'t Local>,
    /// Under which names manifests ask for which directories.
    named: HashSet<(&'t str, &'t str)>,
    rules: Rules,
}

impl<'t> Tree<'t> {
    fn new(root: &'t RootManifest, locals: &'t [Local], resolution: &'t Resolution) -> Self {
        let manifests = locals.iter().map(|local| &local.manifest).chain([root]);
        let wishes = manifests.flat_map(RootManifest::tables).flatten();
        let named = wishes.filter_map(|(name, text)| Some((&**name, text.strip_prefix(FILE)?)));
        let workspaces = locals.iter().filter(|local| local.is_workspace);
        let packages = resolution.packages.iter();
        let packages = packages.map(|it| (it.place.as_str(), Stands::Package(it)));
        let links = resolution.links.iter().map(|it| (it.place.as_str(), Stands::Link(it)));
        Self {
            at: packages.chain(links).collect(),
            locals: locals.iter().map(|local| (local.place.as_str(), local)).collect(),
            workspaces: workspaces.map(|local| (local.name.as_str(), local)).collect(),
            named: named.collect(),
            rules: Rules::new(root),
        }
    }

    /// Whether a place is in the project's own directory for packages, in that of one of its packages, or in a package that stands.
    fn is_within(&self, place: &str) -> bool {
        let Some((above, _)) = place.rsplit_once("/node_modules/") else { return true };
        let is_own = self.locals.get(above).is_some_and(|local| local.is_inside);
        is_own || matches!(self.at.get(above), Some(Stands::Package(_)))
    }

    /// Whether a link leads to a package of the project's own, under its name or one that a manifest gives it, or up to the one that it
    /// stands in, where what is nested would have no end.
    fn is_link(&self, link: &Link) -> bool {
        let folder = |place: &'_ str| place.rsplit_once(TOP).map(|(_, folder)| folder.to_owned());
        let named = folder(&link.place).unwrap_or_default();
        let is_own = self.locals.get(link.target.as_str()).is_some_and(|local| {
            local.name == named || self.named.contains(&(&*named, &*local.place))
        });
        let is_up = || {
            let rest = link.place.strip_prefix(link.target.as_str());
            matches!(self.at.get(link.target.as_str()), Some(Stands::Package(_)))
                && rest.is_some_and(|rest| rest.starts_with('/'))
                && folder(&link.place) == folder(&link.target)
        };
        is_own || is_up()
    }

    /// Whether a workspace stands where everybody finds it.
    fn has_workspace(&self, local: &Local) -> bool {
        let stands = self.at.get(format!("{TOP}{}", local.name).as_str());
        matches!(stands, Some(Stands::Link(link)) if link.target == local.place)
    }

    /// Whether a manifest, the root's or that of a package of the project's own, finds what it asks for.
    fn finds_all(&self, local: Option<&Local>, manifest: &RootManifest) -> bool {
        let names: BTreeSet<&String> =
            manifest.tables().into_iter().flat_map(Dependencies::keys).collect();
        let rule = self.rules.root().map(|rule| match local {
            Some(local) => self.rules.for_edge(rule, &local.name, None),
            None => rule,
        });
        let place = local.map_or("", |local| &local.place);
        // Only the project's own members are worked on.
        let is_mine = local.is_none_or(|local| local.is_workspace);
        names.into_iter().all(|name| match self.nearest(place, name) {
            Some(Stands::Package(package)) => self.is_found(manifest, rule, name, package),
            Some(Stands::Link(link)) => {
                let is_workspace =
                    self.workspaces.get(name.as_str()).is_some_and(|it| it.place == link.target);
                // The root has its workspaces whatever it says of them.
                local.is_none() && is_workspace || self.is_led(manifest, rule, name, link)
            }
            None => may_lack(manifest, name) || !is_mine && is_development(manifest, name),
        })
    }

    /// What node finds under a name, from a directory upwards.
    fn nearest(&self, place: &str, name: &str) -> Option<Stands<'t>> {
        let mut directory = place;
        loop {
            if directory.is_empty() {
                return self.at.get(format!("{TOP}{name}").as_str()).copied();
            }
            let found = self.at.get(format!("{directory}/{TOP}{name}").as_str());
            if let Some(found) = found {
                return Some(*found);
            }
            directory = directory.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// What a manifest wants under a name, with the project's rules.
    fn want(&self, rule: Option<RuleId>, name: &str, declared: &str) -> Want {
        let want = Want::parse(declared);
        let replaced = rule.and_then(|rule| {
            self.rules.replacement(self.rules.for_edge(rule, name, want.range()), name)
        });
        replaced.map_or(want, |text| Want::parse(&text))
    }

    /// Whether a package is the one that a manifest means by a name.
    fn is_found(
        &self,
        manifest: &RootManifest,
        rule: Option<RuleId>,
        name: &str,
        package: &Package,
    ) -> bool {
        let Some(declared) = manifest.declared(name) else { return false };
        let source = package.artifact.source.as_deref();
        if named(declared).is_some() {
            return source == Some(declared);
        }
        let want = self.want(rule, name, declared);
        // What the project has itself comes before what a registry has.
        if self.workspaces.get(name).is_some_and(|local| does(local, &want)) {
            return false;
        }
        let version = Version::parse_loose(&package.version).ok();
        let is_right = want.package(name) == package.name && want.accepts(version.as_ref());
        source.is_none() && is_right
    }

    /// Whether a link leads to what a manifest means by a name.
    fn is_led(
        &self,
        manifest: &RootManifest,
        rule: Option<RuleId>,
        name: &str,
        link: &Link,
    ) -> bool {
        let Some(local) = self.locals.get(link.target.as_str()) else { return false };
        let Some(declared) = manifest.declared(name) else { return false };
        if named(declared).is_some() {
            return declared.strip_prefix(FILE) == Some(&*local.place);
        }
        let want = self.want(rule, name, declared);
        // The workspace of that name comes first.
        let other = self.workspaces.get(name).filter(|it| it.place != local.place);
        does(local, &want) && !other.is_some_and(|other| does(other, &want))
    }
}

/// Whether a package of the project's own does for who asks for its name.
fn does(local: &Local, want: &Want) -> bool {
    let version = local.manifest.version.as_deref();
    let version = version.and_then(|text| Version::parse_loose(text).ok());
    match want {
        // These are of a registry, whatever the project has.
        Want::Alias { .. } | Want::Tag(_) => false,
        want => want.accepts(version.as_ref()),
    }
}

/// Whether a manifest asks at this place for another package than the one of this name.
pub(crate) fn is_other(manifest: &RootManifest, place: &str, package: &str) -> bool {
    let folder = place.rsplit_once(TOP).map_or(place, |(_, folder)| folder);
    let of_registry = manifest.declared(folder).filter(|text| named(text).is_none());
    of_registry.is_some_and(|text| Want::parse(text).package(folder) != package)
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

fn is_development(manifest: &RootManifest, name: &str) -> bool {
    manifest.dev_dependencies.contains_key(name)
}
