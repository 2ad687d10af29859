//! From the finished tree to a resolution: what this machine cannot use is taken out, the rest is written down.
//!
//! A package that failed to load or does not run here is dropped, with all that only it needs, where everything that
//! leads to it is optional; else it is an error.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet as HashSet;

use super::Request;
use super::build::Builder;
use super::catalogue::{Chosen, Role};
use super::check::gather;
use super::ready::Ready;
use super::report::Failure;
use super::tree::{Content, EdgeId, NodeId};
use super::want::shown;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::resolution::{Link, Package, Resolution};
use agents_versions::shorten;

pub(super) fn finish(builder: &Builder<'_>, request: &Request<'_>) -> Result<Resolution, Failure> {
    let mut warnings = Vec::new();
    let nobody = Marks::new(builder);
    let mut required = reachable(builder, &nobody, |role| !role.is_optional());
    // What the project's own packages need is needed, even where only an optional dependency links to them.
    for local in builder.tree.locals() {
        reach(builder, local, &nobody, |role| !role.is_optional(), &mut required);
    }
    let mut dropped = nobody;
    let mut elsewhere = 0;
    for node in builder.tree.placed() {
        let Some(why) = unusable(builder, request, node) else { continue };
        if !required.has(node) {
            drop_optional(builder, node, &mut dropped);
            match why {
                Unusable::Platform(_) => elsewhere += 1,
                Unusable::Failed | Unusable::Engine(_) => {
                    let text = why.text();
                    warnings
                        .push(format!("optional {} is left out: {text}", builder.describe(node)));
                }
            }
        } else {
            match why {
                Unusable::Failed => return Err(failed(builder, node)),
                Unusable::Platform(text) => {
                    return Err(Failure::Other(wrong_platform(builder, node, &text)));
                }
                Unusable::Engine(text) => {
                    warnings.push(format!("{} {text}", builder.describe(node)));
                }
            }
        }
    }
    if elsewhere > 0 {
        warnings.push(format!("optional packages for other platforms are left out: {elsewhere}"));
    }
    let kept = kept_nodes(builder, &dropped);
    warn_of_edges(builder, &kept, &mut warnings);
    write_down(builder, &kept, warnings)
}

/// Some of a tree's nodes.
struct Marks(Vec<bool>);

impl Marks {
    fn new(builder: &Builder<'_>) -> Self {
        Self(vec![false; builder.tree.node_count()])
    }

    fn has(&self, node: NodeId) -> bool {
        self.0[node.index()]
    }

    /// Whether it is new.
    fn insert(&mut self, node: NodeId) -> bool {
        !std::mem::replace(&mut self.0[node.index()], true)
    }
}

enum Unusable {
    Failed,
    Platform(String),
    Engine(String),
}

impl Unusable {
    fn text(&self) -> String {
        match self {
            Unusable::Failed => "it could not be loaded".to_owned(),
            Unusable::Platform(text) | Unusable::Engine(text) => format!("it {text}"),
        }
    }
}

fn unusable(builder: &Builder<'_>, request: &Request<'_>, node: NodeId) -> Option<Unusable> {
    let package = match &builder.tree.node(node).content {
        Content::Top | Content::Local(_) | Content::Link(_) | Content::Again(_) => return None,
        Content::Failed(_) => return Some(Unusable::Failed),
        Content::Package(package) => builder.tree.catalogue.package(*package),
    };
    // Nearly all are.
    if package.is_for_all && package.engine_fits {
        return None;
    }
    let entry = &package.ready.entry;
    let lists = [
        ("os", &entry.os, Some(request.os.as_str())),
        ("cpu", &entry.cpu, Some(request.cpu.as_str())),
        ("libc", &entry.libc, request.libc.as_deref()),
    ];
    for (what, list, here) in lists {
        if !list.is_empty() && !here.is_some_and(|here| allowed(list, here)) {
            let here = here.unwrap_or("none");
            let list = shorten(&list.join(", "));
            return Some(Unusable::Platform(format!(
                "is for {what} `{list}`, and here it is `{here}`"
            )));
        }
    }
    if !package.engine_fits {
        let engine = entry.engines_node.as_deref().map(shorten).unwrap_or_default();
        return Some(Unusable::Engine(format!("asks for node `{engine}`")));
    }
    None
}

/// None of the names with `!`, and one of the others where there are others.
fn allowed(list: &[String], here: &str) -> bool {
    if let [only] = list
        && only == "any"
    {
        return true;
    }
    let mut listed = false;
    let mut others = false;
    for entry in list {
        match entry.strip_prefix('!') {
            Some(not) if not == here => return false,
            Some(_) => {}
            None => {
                others = true;
                listed |= entry == here;
            }
        }
    }
    listed || !others
}

/// The nodes that the project leads to, over edges of some roles and not through `without`.
fn reachable(builder: &Builder<'_>, without: &Marks, follow: impl Fn(Role) -> bool) -> Marks {
    let mut found = Marks::new(builder);
    reach(builder, builder.top, without, follow, &mut found);
    found
}

/// Adds what a node leads to, itself included.
fn reach(
    builder: &Builder<'_>,
    start: NodeId,
    without: &Marks,
    follow: impl Fn(Role) -> bool,
    found: &mut Marks,
) {
    found.insert(start);
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        let edges = builder.tree.edges_out(node).map(|edge| builder.tree.edge(edge));
        let next = edges.filter(|edge| follow(edge.role)).filter_map(|edge| edge.to);
        for to in next.chain(builder.tree.local_of(node)) {
            if !without.has(to) && found.insert(to) {
                open.push(to);
            }
        }
    }
}

/// Drops an optional package: who needs it, up to where it is optional, and all that only those need.
fn drop_optional(builder: &Builder<'_>, node: NodeId, dropped: &mut Marks) {
    let mut set = vec![node];
    let mut known = HashSet::from_iter([node]);
    let mut at = 0;
    while at < set.len() {
        for &edge in &builder.tree.node(set[at]).edges_in {
            let one = builder.tree.edge(edge);
            let is_project = builder.tree.is_top(one.from);
            if !one.role.is_optional() && !is_project && known.insert(one.from) {
                set.push(one.from);
            }
        }
        at += 1;
    }
    let counts = |edge: EdgeId| {
        let one = builder.tree.edge(edge);
        one.to.is_some_and(|to| !known.contains(&to)) && !dropped.has(one.from)
    };
    let gone = gather(&builder.tree, &set, counts);
    for node in gone {
        dropped.insert(node);
    }
}

/// What is installed.
struct Installed {
    marks: Marks,
    nodes: Vec<NodeId>,
}

/// What is reachable and not dropped, with the folders around it.
fn kept_nodes(builder: &Builder<'_>, dropped: &Marks) -> Installed {
    let mut marks = reachable(builder, dropped, |_| true);
    for node in builder.tree.placed().filter(|&node| marks.has(node)).collect::<Vec<_>>() {
        // Those further up were marked with the first one that was not.
        let around = builder.tree.ancestry(node).skip(1);
        for above in around.take_while(|&above| !marks.has(above)).collect::<Vec<_>>() {
            marks.insert(above);
        }
    }
    let is_kept = |node: &NodeId| *node != builder.top && marks.has(*node);
    let nodes = builder.tree.placed().filter(is_kept).collect();
    marks.0[builder.top.index()] = false;
    Installed { marks, nodes }
}

fn failed(builder: &Builder<'_>, node: NodeId) -> Failure {
    let Content::Failed(failure) = &builder.tree.node(node).content else {
        return Failure::Other(Error::new(Kind::Failed, "internal", "a failure without a reason"));
    };
    let edges_in = builder.tree.node(node).edges_in.iter().copied();
    let needs = |edge: &EdgeId| !builder.tree.edge(*edge).role.is_optional();
    // Whoever it was chosen for, not who happens to find it.
    let edge = edges_in
        .clone()
        .filter(needs)
        .find(|&edge| builder.tree.edge(edge).want == failure.want)
        .or_else(|| edges_in.clone().find(needs));
    match (edge, &failure.no_match) {
        (Some(edge), Some((package, latest))) => builder.no_match(edge, package, latest.as_deref()),
        (Some(edge), None) => {
            let from = builder.tree.edge(edge).from;
            let mut error = failure.error.clone();
            if from != builder.top && error.code != "unsupported-dependency" {
                error.message = format!("{}; {} needs it", error.message, builder.describe(from));
            }
            Failure::Other(error)
        }
        (None, _) => Failure::Other(failure.error.clone()),
    }
}

fn wrong_platform(builder: &Builder<'_>, node: NodeId, text: &str) -> Error {
    let dependent = builder
        .tree
        .node(node)
        .edges_in
        .first()
        .map(|&edge| format!("; {} needs it", builder.describe(builder.tree.edge(edge).from)));
    let message = format!("{} {text}{}", builder.describe(node), dependent.unwrap_or_default());
    Error::new(Kind::Conflict, "unsupported-platform", message)
        .hint("ask for another version of it, or put it under `optionalDependencies`")
}

fn warn_of_edges(builder: &Builder<'_>, kept: &Installed, warnings: &mut Vec<String>) {
    // In any order: all warnings are put in order together.
    for &node in &kept.nodes {
        if let Some(package) = builder.tree.package_of(node) {
            let package = builder.tree.catalogue.package(package);
            if package.is_deprecated
                && let Some(text) = &package.ready.entry.deprecated
            {
                warnings.push(format!(
                    "{} is deprecated: {}",
                    builder.describe(node),
                    shorten(text)
                ));
            }
        }
        for edge in builder.tree.edges_out(node) {
            let one = builder.tree.edge(edge);
            if builder.tree.node(node).shape.bundled.contains(&one.folder) {
                continue;
            }
            // Nobody is nearer than what an edge leads to.
            if one.valid() && one.to.is_some_and(|to| kept.marks.has(to)) {
                continue;
            }
            // What was left out may have hidden something further up.
            let found = builder.tree.ancestry(node).find_map(|above| {
                let child = builder.tree.node(above).children.get(one.folder);
                child.filter(|&child| kept.marks.has(child))
            });
            if found.map_or(one.role.is_optional(), |found| {
                builder.tree.satisfies(found, edge) && one.valid()
            }) {
                continue;
            }
            let name = builder.tree.catalogue.known.names.text(one.name);
            let want = shown(&builder.tree.catalogue.want_text(one.want));
            let kind = if one.role.is_peer() { "wants the peer" } else { "needs" };
            let found = match found {
                Some(to) => format!("finds {}", builder.describe(to)),
                None => "finds none".to_owned(),
            };
            warnings.push(format!(
                "{} {kind} `{name}@{want}` but {found}, because others need that",
                builder.describe(node)
            ));
        }
    }
}

/// Packages that are brought near at once: more than a processor waits for at the same time, and few enough to stay in its first cache.
const NEAR: usize = 16;

/// Looks at what will be copied of a package. It lies in many places; looks that do not follow from each other wait for memory together,
/// and copying them one by one waits for each.
fn bring_near(ready: &Ready) {
    let entry = &ready.entry;
    let first = |text: &Option<String>| text.as_ref().and_then(|text| text.bytes().next());
    let texts = (entry.version.bytes().next(), first(&entry.license), first(&entry.published));
    let command = entry.bin.first_key_value().and_then(|(_, path)| path.bytes().next());
    std::hint::black_box((texts, command, ready.artifact_count()));
}

fn write_down<'a>(
    builder: &'a Builder<'_>,
    kept: &Installed,
    mut warnings: Vec<String>,
) -> Result<Resolution, Failure> {
    let mut nodes: Vec<(&str, NodeId, &'a Chosen)> = Vec::with_capacity(kept.nodes.len());
    for &node in &kept.nodes {
        let Content::Package(package) = builder.tree.node(node).content else { continue };
        let package = builder.tree.catalogue.package(package);
        nodes.push((builder.tree.catalogue.known.names.text_ref(package.name), node, package));
    }
    // Few names are there twice, so the rest is looked at when it is asked for.
    let rest = |&(_, node, package): &(&str, NodeId, &'a Chosen)| {
        (package.ready.entry.version.as_str(), builder.tree.node(node).place(), node)
    };
    nodes.sort_unstable_by(|one, other| {
        one.0.cmp(other.0).then_with(|| rest(one).cmp(&rest(other)))
    });
    // By node, behind its number so that none is 0.
    let mut index: Vec<u32> = vec![0; builder.tree.node_count()];
    for ((_, node, _), number) in nodes.iter().zip(1..) {
        index[node.index()] = number;
    }
    let position = |node: NodeId| index[node.index()].checked_sub(1).map(|at| at as usize);
    let own = builder.tree.locals().filter(|&local| kept.marks.has(local)).chain([builder.top]);
    let mut direct = Marks::new(builder);
    for edge in own.flat_map(|node| builder.tree.edges_out(node)) {
        if let Some(to) = builder.tree.edge(edge).to {
            direct.insert(to);
        }
    }
    let mut packages = Vec::with_capacity(nodes.len());
    for (at, &(name, node, package)) in nodes.iter().enumerate() {
        if at % NEAR == 0 {
            nodes[at..].iter().take(NEAR).for_each(|(_, _, package)| bring_near(&package.ready));
        }
        let ready = &package.ready;
        let entry = &ready.entry;
        let declared = builder.tree.node(node).shape.declared.len();
        let mut dependencies: Vec<usize> = Vec::with_capacity(declared);
        dependencies.extend(builder.tree.edges_out(node).filter_map(|edge| {
            let to = builder.tree.edge(edge).to?;
            position(to).or_else(|| position(builder.tree.same_above(to)?))
        }));
        dependencies.sort_unstable();
        dependencies.dedup();
        packages.push(Package {
            ecosystem: Ecosystem::Npm,
            artifact: ready.artifact(name).map_err(Failure::Other)?,
            name: name.to_owned(),
            version: entry.version.clone(),
            direct: direct.has(node),
            dependencies,
            place: builder.tree.node(node).place().to_owned(),
            bin: entry.bin.clone(),
            extras: Vec::new(),
            license: entry.license.clone(),
            published: entry.published.clone(),
            scripts: entry.install_scripts.clone(),
        });
    }
    warnings.sort();
    warnings.dedup();
    let links = links(builder, kept);
    Ok(Resolution { ecosystem: Ecosystem::Npm, packages, links, warnings })
}

/// The links in the tree, and where they lead.
fn links(builder: &Builder<'_>, kept: &Installed) -> Vec<Link> {
    let place = |node: NodeId| builder.tree.node(node).place().to_owned();
    let mut links: Vec<Link> = kept
        .nodes
        .iter()
        .filter_map(|&node| {
            let (target, bin) = match builder.tree.node(node).content {
                Content::Link(local) => {
                    let own = builder.tree.catalogue.locals.own(local);
                    (own.place.to_string(), own.bin.clone())
                }
                Content::Again(_) => (place(builder.tree.same_above(node)?), BTreeMap::new()),
                _ => return None,
            };
            Some(Link { place: place(node), target, bin })
        })
        .collect();
    links.sort();
    links
}
