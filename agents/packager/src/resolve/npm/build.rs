//! The whole resolution: a queue of packages whose dependencies have to be looked at, shallow ones first.
//!
//! Each visited package gets what it lacks placed; what was placed, and whoever lost something by that, is queued.
//! The order (depth, then path) is npm's, because it decides who gets the higher folder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use super::agree::{Agreement, Pins};
use super::catalogue::{Catalogue, PackageId, Role};
use super::check::Mode;
use super::finish;
use super::locals::{self, LocalId, Locals};
use super::names::NameId;
use super::overrides::Rules;
use super::place::place;
use super::report::{Failure, Stop};
use super::stage::Needed;
use super::tree::{Content, EdgeId, NodeId, Tree};
use super::want::{Want, shown};
use super::{Order, Request};
use crate::error::{Error, Kind};
use crate::limits::{NPM_PACKAGES_MAX, NPM_STEPS_FIXED_MAX, NPM_STEPS_PER_PACKAGE_MAX};
use crate::manifest::package_json::RootManifest;
use crate::metadata::npm::{Dependencies, Edition, Metadata};
use crate::resolution::Resolution;
use agents_versions::npm::Version;

/// How often the finished tree is looked over for gaps; one look nearly always finds none.
const SWEEPS_MAX: usize = 16;

/// What earlier attempts found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Guide {
    /// Versions beside the project that agree with each other.
    pub(super) pins: Pins,
    /// Versions that need what does not exist.
    pub(super) barred: BTreeSet<(String, String)>,
}

/// What another attempt may do better.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Pin(Pins),
    /// Without a version, because it needs what does not exist under a name.
    Without(PackageId, NameId),
    Bar(Vec<(String, String)>),
}

impl Guide {
    /// Follows a way; `false` where that was done before.
    pub(super) fn take(&mut self, way: &Way) -> bool {
        match way {
            Way::Pin(pins) if self.pins == *pins => false,
            Way::Pin(pins) => {
                self.pins.clone_from(pins);
                true
            }
            Way::Without(..) => false,
            Way::Bar(versions) => {
                let before = self.barred.len();
                self.barred.extend(versions.iter().cloned());
                self.barred.len() > before
            }
        }
    }
}

/// A node whose turn comes by its depth, then by its place.
type Queued = (u32, Option<Arc<[u8]>>, NodeId);

pub(super) struct Builder<'a> {
    pub(super) tree: Tree<'a>,
    pub(super) top: NodeId,
    pub(super) stages: HashMap<NodeId, NodeId>,
    request: &'a Request<'a>,
    queue: BTreeSet<Queued>,
    seen: HashSet<NodeId>,
    explicit: HashSet<EdgeId>,
    /// The project's own packages whose turn comes when the project itself has what it needs.
    waiting: Vec<NodeId>,
    pub(super) pins: Pins,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        request: &'a Request<'a>,
        root: &RootManifest,
        (metadata, edition): (&'a dyn Metadata, Option<(Edition, SystemTime)>),
        guide: &Guide,
    ) -> Self {
        let node = request.node_version.as_deref().and_then(|text| Version::parse_loose(text).ok());
        let mut catalogue = Catalogue::new((metadata, edition), request.archives, node);
        catalogue.bar(&guide.barred);
        let own = Locals::new(&mut catalogue, &request.locals);
        catalogue.locals = own;
        let shape = locals::shape_of(&mut catalogue, root, &locals::links(&request.locals));
        let ids: Vec<LocalId> = catalogue.locals.ids().collect();
        for (&id, local) in ids.iter().zip(&request.locals) {
            let none = Dependencies::new();
            let shape = locals::shape_of(&mut catalogue, &local.manifest, &none);
            catalogue.locals.set_shape(id, shape);
        }
        let mut tree = Tree::new(catalogue, Rules::new(root));
        let top = tree.add_top(Arc::new(shape), None);
        let mut waiting = Vec::new();
        for id in ids {
            let own = tree.catalogue.locals.own(id);
            let name = own.name;
            if own.is_workspace {
                tree.add(name, Content::Link(id), top);
                waiting.push(tree.add_local(id, top));
            }
        }
        Self {
            tree,
            top,
            stages: HashMap::default(),
            request,
            queue: BTreeSet::new(),
            seen: HashSet::default(),
            explicit: HashSet::default(),
            waiting,
            pins: guide.pins.clone(),
        }
    }

    /// Runs to the end. `None` where a packument that was believed of this edition is gone, so that the outcome counts for nothing.
    pub(super) fn run(mut self) -> Option<Result<Resolution, Failure>> {
        let outcome = self.outcome();
        (!self.tree.catalogue.known.is_torn()).then_some(outcome)
    }

    fn outcome(&mut self) -> Result<Resolution, Failure> {
        let built = self.build();
        self.tree.tell_room();
        // Taken before an explanation looks for repairs: that those could not be asked for changes no answer.
        let unreachable = self.tree.catalogue.network_failure().cloned();
        let outcome = match built {
            Ok(()) => finish::finish(self, self.request).map(|mut resolution| {
                resolution.warnings.extend(self.passed_over());
                resolution.warnings.sort();
                resolution
            }),
            Err(stop) => Err(self.explain_with_way(stop)),
        };
        let outcome = outcome.map_err(|failure| match failure {
            Failure::Conflict { explanation, candidates, way: Some(Way::Without(from, name)) } => {
                let way = Some(Way::Bar(self.unusable_versions(from, name)));
                Failure::Conflict { explanation, candidates, way }
            }
            failure => failure,
        });
        match (outcome, unreachable) {
            // It says more: who needs the package.
            (Err(Failure::Other(error)), _) if error.kind == Kind::Network => {
                Err(Failure::Other(error))
            }
            (_, Some(error)) => Err(Failure::Other(error)),
            (outcome, None) => outcome,
        }
    }

    /// Explains why building stopped, and looks for versions with which it would not.
    fn explain_with_way(&mut self, stop: Stop) -> Failure {
        let is_clash = matches!(stop, Stop::Clash(_)) && self.pins.is_empty();
        let failure = self.explain(stop);
        match failure {
            Failure::Conflict { explanation, candidates, way: None } if is_clash => {
                let way = match self.agree() {
                    Ok(Agreement::Found(pins)) => Some(Way::Pin(pins)),
                    Ok(Agreement::None | Agreement::Unknown) => None,
                    Err(_) => return self.interrupted(),
                };
                Failure::Conflict { explanation, candidates, way }
            }
            failure => failure,
        }
    }

    /// The error with which a request ends that nobody waits for any more.
    fn interrupted(&self) -> Failure {
        match self.keep_on() {
            Err(Stop::Other(error)) => Failure::Other(error),
            _ => Failure::Other(crate::resolve::deadline_exceeded()),
        }
    }

    /// Says of direct dependencies which version was passed over, because it does not agree with the others.
    fn passed_over(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        for edge in self.tree.edges_out(self.top) {
            let (name, want) = (self.tree.edge(edge).name, self.tree.edge(edge).want);
            let text = self.tree.catalogue.known.names.text(name);
            let Some(pin) = self.pins.get(&*text) else { continue };
            let Ok(first) = self.tree.catalogue.choose(name, want, false) else { continue };
            let first = &self.tree.catalogue.package(first).ready.entry.version;
            if *first != pin.version {
                warnings.push(format!(
                    "`{text}` is `{}` and not `{first}`, which does not agree with the peers of others",
                    pin.version
                ));
            }
        }
        warnings
    }

    /// Whether the lowest version is wanted for an edge.
    pub(super) fn wants_lowest(&self, edge: EdgeId) -> bool {
        match self.request.order {
            Order::Highest => false,
            Order::Lowest => true,
            Order::LowestDirect => {
                let from = self.tree.edge(edge).from;
                self.tree.is_mine(self.tree.node(from).stands_for.unwrap_or(from))
            }
        }
    }

    fn build(&mut self) -> Result<(), Stop> {
        self.check_overrides()?;
        self.explicit = self
            .tree
            .edges_out(self.top)
            .filter(|&edge| {
                let name = self.tree.catalogue.known.names.text(self.tree.edge(edge).name);
                self.request.explicit.contains(&*name)
            })
            .collect();
        self.place_preferred();
        self.enqueue(self.top);
        let mut steps = 0;
        for _ in 0..SWEEPS_MAX {
            self.drain(&mut steps)?;
            self.explicit.clear();
            if !self.requeue_problems() {
                return Ok(());
            }
        }
        Err(Stop::Restless { node: self.top })
    }

    /// Queues whoever still lacks something; removing a duplicate may have taken more than was seen then.
    fn requeue_problems(&mut self) -> bool {
        let placed: Vec<NodeId> = self.tree.placed().collect();
        for &node in &placed {
            // A link up whose package above became another one leads nowhere.
            if matches!(self.tree.node(node).content, Content::Again(_))
                && self.tree.same_above(node).is_none()
            {
                self.tree.detach(node);
            }
        }
        for node in
            placed.into_iter().filter(|&node| self.tree.node(node).placed).collect::<Vec<_>>()
        {
            if self.problems(node).iter().any(|&edge| !self.tree.edge(edge).overruled) {
                self.revisit(node);
            }
        }
        !self.queue.is_empty()
    }

    fn drain(&mut self, steps: &mut usize) -> Result<(), Stop> {
        loop {
            let Some((_, _, node)) = self.queue.pop_first() else {
                if self.waiting.is_empty() {
                    return Ok(());
                }
                for local in std::mem::take(&mut self.waiting) {
                    self.enqueue(local);
                }
                continue;
            };
            if !self.tree.node(node).placed || !self.seen.insert(node) {
                continue;
            }
            *steps += 1;
            let allowed =
                NPM_STEPS_FIXED_MAX + NPM_STEPS_PER_PACKAGE_MAX * self.tree.placed_count();
            if *steps > allowed {
                return Err(Stop::Restless { node });
            }
            self.visit(node)?;
        }
    }

    fn check_overrides(&self) -> Result<(), Stop> {
        for edge in self.tree.edges_out(self.top) {
            let one = self.tree.edge(edge);
            let (declared, want) = (
                self.tree.catalogue.want_text(one.declared),
                self.tree.catalogue.want_text(one.want),
            );
            if declared != want {
                let name = self.tree.catalogue.known.names.text(one.name);
                let message = format!(
                    "the project's override of `{name}` to `{}` contradicts its own dependency `{name}@{}`",
                    shown(&want),
                    shown(&declared)
                );
                let error = Error::new(Kind::Usage, "override-conflict", message);
                return Err(Stop::Other(error.hint(format!(
                    "write the same version in both, or `\"{name}\": \"${name}\"` in `overrides`"
                ))));
            }
        }
        Ok(())
    }

    /// Puts what is already there into the tree, parents first; what the registry does not know is left out.
    fn place_preferred(&mut self) {
        let mut places: Vec<(NodeId, Vec<&str>, &super::Preferred)> = self
            .request
            .preferred
            .iter()
            .take(NPM_PACKAGES_MAX)
            .filter_map(|(place, one)| {
                let (start, inside) = self.start_of_place(place)?;
                Some((start, names_of_place(inside)?, one))
            })
            .collect();
        places.sort_by_key(|(_, names, _)| names.len());
        let mut beside_workspaces = Vec::new();
        for (start, names, one) in places {
            let Some((name, above)) = names.split_last() else { continue };
            let mut parent = Some(start);
            for step in above {
                let id = self.tree.catalogue.known.names.intern(step);
                let folder = self.tree.catalogue.known.names.folder(id);
                parent = parent.and_then(|at| self.tree.node(at).children.get(folder));
            }
            // What is linked there is no package of a registry.
            let free = |parent: &NodeId| {
                let is_there = |id: NodeId| matches!(self.tree.node(id).content, Content::Link(_));
                let named = self.tree.catalogue.known.names.known(name);
                let folder = named.map(|id| self.tree.catalogue.known.names.folder(id));
                let child = folder.and_then(|folder| self.tree.node(*parent).children.get(folder));
                !child.is_some_and(is_there)
            };
            let Some(parent) = parent.filter(free) else { continue };
            let package = match &one.archive {
                Some(key) => self.tree.catalogue.archive(name, key).ok(),
                None => self.tree.catalogue.exact(&one.name, &one.version),
            };
            if let Some(package) = package {
                let name = self.tree.catalogue.known.names.intern(name);
                let node = self.tree.add(name, Content::Package(package), parent);
                if self.tree.catalogue.locals.workspace(name).is_some() {
                    beside_workspaces.push(node);
                }
            }
        }
        for node in beside_workspaces {
            if self.is_workspace_meant(node) {
                self.tree.detach(node);
            }
        }
        // Workspaces come when the root's own tree stands, or when something in that leaves them without what they ask for.
        let is_local = |id: NodeId| matches!(self.tree.node(id).content, Content::Local(_));
        let incomplete: Vec<NodeId> = self
            .tree
            .placed()
            .filter(|&node| !self.tree.ancestry(node).any(is_local))
            .filter(|&node| {
                let lacks = |edge: EdgeId| {
                    self.tree.edge(edge).to.is_none() || !self.tree.edge(edge).valid()
                };
                self.tree.edges_out(node).any(lacks)
            })
            .collect();
        for node in incomplete {
            self.enqueue(node);
        }
    }

    /// Whether the workspace of a registry's package's name does for all who find that package: whoever wrote the lock, what the project
    /// has itself comes first.
    fn is_workspace_meant(&self, node: NodeId) -> bool {
        let one = self.tree.node(node);
        let Some(local) = self.tree.catalogue.locals.workspace(one.name) else { return false };
        let version = self.tree.catalogue.locals.own(local).version.as_ref();
        one.placed
            && one.edges_in.iter().all(|&edge| {
                match self.tree.catalogue.want_ref(self.tree.edge(edge).want) {
                    want @ (Want::Range { .. } | Want::Exact { .. }) => want.accepts(version),
                    _ => false,
                }
            })
    }

    /// Whose `node_modules` a place is in: the project's, or that of one of its own packages.
    fn start_of_place<'p>(&self, place: &'p str) -> Option<(NodeId, &'p str)> {
        if place.starts_with("node_modules/") {
            return Some((self.top, place));
        }
        let at = place.find("/node_modules/")?;
        let start = self.tree.locals().find(|&id| self.tree.node(id).place() == &place[..at])?;
        Some((start, &place[at + 1..]))
    }

    fn enqueue(&mut self, node: NodeId) {
        let one = self.tree.node(node);
        if one.placed {
            self.queue.insert((one.depth, one.place_key.clone(), node));
        }
    }

    fn revisit(&mut self, node: NodeId) {
        self.seen.remove(&node);
        self.enqueue(node);
    }

    fn visit(&mut self, node: NodeId) -> Result<(), Stop> {
        if let Some(package) = self.tree.package_of(node) {
            self.tree.catalogue.announce_needs(package);
        }
        let mut tasks: Vec<(EdgeId, NodeId)> = Vec::new();
        for edge in self.problems(node) {
            self.keep_on()?;
            if self.tree.edge(edge).overruled {
                continue;
            }
            let dep = self.dep_for(node, edge)?;
            // Nobody published what it would like beside it: what is there stays, with a warning.
            if self.tree.edge(edge).role == Role::OptionalPeer && self.tree.failed(dep) {
                self.tree.edge_mut(edge).overruled = true;
                continue;
            }
            tasks.push((edge, dep));
        }
        let key = |edge: EdgeId| self.tree.catalogue.known.names.key(self.tree.edge(edge).name);
        tasks.sort_by(|(left, _), (right, _)| key(*left).cmp(key(*right)));
        for (edge, dep) in tasks {
            // Placing one dependency may have removed the node that the next one is for.
            if !self.tree.node(node).placed {
                break;
            }
            self.place_task(edge, dep)?;
        }
        Ok(())
    }

    pub(super) fn keep_on(&self) -> Result<(), Stop> {
        if self.tree.catalogue.known.is_torn() {
            // Nobody sees it: it is done once more.
            let message = "a packument that was believed is gone";
            return Err(Stop::Other(Error::new(Kind::Failed, "torn", message)));
        }
        (self.request.keep_on)().map_err(Stop::Other)
    }

    fn dep_for(&mut self, node: NodeId, edge: EdgeId) -> Result<NodeId, Stop> {
        let one = self.tree.edge(edge);
        let (role, folder, name, from) = (one.role, one.folder, one.name, one.from);
        let stage = match self.stages.get(&node).copied() {
            Some(stage) => Some(stage),
            None if self.tree.node(node).shape.has_peers => Some(self.stage(node, true)),
            // Nothing is on it yet.
            None => None,
        };
        let staged = stage.and_then(|stage| self.tree.edge_named(stage, folder));
        let staged = staged.and_then(|staged| {
            self.tree.edge(staged).to.filter(|_| self.tree.edge(staged).valid())
        });
        if let Some(staged) = staged.filter(|&staged| self.tree.satisfies(staged, edge)) {
            return Ok(staged);
        }
        if role == Role::OptionalPeer && !self.explicit.contains(&edge) {
            let above = self.tree.node(from).parent.unwrap_or(from);
            let nearest = self
                .tree
                .placed_named(name)
                .into_iter()
                .filter(|&one| one != above && self.tree.is_below(one, above))
                .filter(|&one| self.tree.satisfies(one, edge))
                .min_by_key(|&one| {
                    (self.tree.node(one).depth, self.tree.node(one).place_key.clone())
                });
            if let Some(found) = nearest {
                return Ok(found);
            }
        }
        let mut needed = Needed::new(from);
        self.stage_edge(edge, stage.filter(|_| role.is_peer()), None, &mut needed, 0)
    }

    fn place_task(&mut self, edge: EdgeId, dep: NodeId) -> Result<(), Stop> {
        let mode = Mode { explicit: self.explicit.contains(&edge) };
        let outcome = place(&mut self.tree, dep, edge, mode)?;
        for (placed, edge) in outcome.placed {
            for other in self.tree.node(placed).edges_in.clone() {
                let one = self.tree.edge(other);
                if other != edge && !one.overruled && !one.valid() {
                    let from = one.from;
                    self.revisit(from);
                }
            }
            self.enqueue(placed);
            self.follow(placed);
        }
        for node in outcome.reopened {
            self.revisit(node);
        }
        if self.tree.placed_count() > NPM_PACKAGES_MAX {
            return Err(Stop::Bound(format!("the tree has more than {NPM_PACKAGES_MAX} packages")));
        }
        Ok(())
    }

    /// Looks after what a new link leads to, where nobody did yet.
    fn follow(&mut self, link: NodeId) {
        let Content::Link(local) = self.tree.node(link).content else { return };
        if !self.tree.catalogue.locals.own(local).is_inside || self.tree.local_of(link).is_some() {
            return;
        }
        // Those around it first: what they have is found by it too.
        for local in self.tree.catalogue.locals.around(local) {
            let is_it = |id: NodeId| matches!(self.tree.node(id).content, Content::Local(one) if one == local);
            if !self.tree.locals().any(is_it) {
                self.waiting.push(self.tree.add_local(local, self.top));
            }
        }
    }

    /// The dependencies of a node that need work.
    fn problems(&self, node: NodeId) -> Vec<EdgeId> {
        let bundled = &self.tree.node(node).shape.bundled;
        self.tree
            .edges_out(node)
            .filter(|&edge| {
                let one = self.tree.edge(edge);
                if bundled.contains(&one.folder) {
                    return false;
                }
                match one.to {
                    Some(to) if self.tree.failed(to) => false,
                    Some(_) => !one.valid() || self.explicit.contains(&edge),
                    None => one.role != Role::OptionalPeer || self.explicit.contains(&edge),
                }
            })
            .collect()
    }
}

/// The names of a place, outermost first; `None` where it is not one.
fn names_of_place(place: &str) -> Option<Vec<&str>> {
    let rest = place.strip_prefix("node_modules/")?;
    let names: Vec<&str> = rest.split("/node_modules/").collect();
    let depth = u32::try_from(names.len()).ok()?;
    let valid =
        |name: &&str| crate::spec::check_name(crate::ecosystem::Ecosystem::Npm, name).is_ok();
    (depth <= crate::limits::NPM_TREE_DEPTH_MAX && names.iter().all(valid)).then_some(names)
}
