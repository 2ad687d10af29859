//! The tree of folders, and for each dependency of each package in it the package that node would find.
//!
//! Nodes live in an arena and are never reused. Besides the project's tree there are *stages*: small flat trees in
//! which a package is put together with its peers before all of them are placed. A stage copies the dependencies of
//! the node that it stands for, so a peer set is built in the company that it will live in.
//!
//! Invariant after each method: an edge's `to` is what walking up from its node finds. Nothing here decides anything.

mod children;
mod own;
mod rules;
mod tables;

use std::sync::Arc;

use self::children::Children;
use self::tables::Tables;
pub(super) use self::tables::tidy;
use super::catalogue::{Catalogue, PackageId, Role, Shape, WantId};
use super::locals::LocalId;
use super::names::{Folder, NameId, put_sort_key};
use super::overrides::{RuleId, Rules};
use super::room::{LAST, Room};
use crate::error::Error;
use agents_versions::npm::Version;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A dependency of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EdgeId(u32);

/// What stands at a node.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The project, or the top of a stage.
    Top,
    /// One of the project's own packages, in its directory.
    Local(LocalId),
    /// A link to one of them.
    Link(LocalId),
    /// A package.
    Package(PackageId),
    /// A link to the same package further up, in which it would else be nested without end.
    Again(PackageId),
    /// A package that could not be loaded; fatal unless everything that needs it is optional.
    Failed(Arc<Failure>),
}

/// Why a package could not be loaded, and the text that asked for it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Which want it was chosen for; others may find it too.
    pub(super) want: WantId,
    /// The package exists in other versions; carries what `latest` points to.
    pub(super) no_match: Option<(String, Option<String>)>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NameId,
    pub(super) folder: Folder,
    pub(super) content: Content,
    pub(super) shape: Arc<Shape>,
    first_edge: u32,
    pub(super) parent: Option<NodeId>,
    pub(super) children: Children,
    pub(super) edges_in: Vec<EdgeId>,
    /// For the top of a stage: the node that it stands for.
    pub(super) stands_for: Option<NodeId>,
    pub(super) depth: u32,
    pub(super) rule: Option<RuleId>,
    /// Where it is, relative to the project; nowhere for tops and in stages.
    place: Option<Arc<str>>,
    /// By which places are put in order.
    pub(super) place_key: Option<Arc<[u8]>>,
    /// Whether it is part of the project's tree now.
    pub(super) placed: bool,
}

impl Node {
    /// Where it is; empty for what is nowhere.
    pub(super) fn place(&self) -> &str {
        self.place.as_deref().unwrap_or_default()
    }
}

/// What is wrong with an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Missing,
    /// A peer inside its dependent is not a peer.
    PeerLocal,
    Invalid,
}

#[derive(Debug)]
pub(super) struct Edge {
    pub(super) from: NodeId,
    pub(super) name: NameId,
    pub(super) folder: Folder,
    pub(super) role: Role,
    /// What the package declares.
    pub(super) declared: WantId,
    /// What counts, after the project's overrides.
    pub(super) want: WantId,
    pub(super) rule: Option<RuleId>,
    pub(super) to: Option<NodeId>,
    pub(super) fault: Option<Fault>,
    /// Accepted as it is, with a warning: nothing better exists.
    pub(super) overruled: bool,
}

impl Edge {
    pub(super) fn valid(&self) -> bool {
        self.fault.is_none()
    }
}

pub(super) struct Tree<'a> {
    pub(super) catalogue: Catalogue<'a>,
    pub(super) rules: Rules,
    /// The name of tops.
    nameless: NameId,
    tables: Tables,
    placed_count: usize,
    /// The project's own packages that something links to.
    locals: Vec<NodeId>,
    /// The shape of whatever needs nothing.
    bare: Arc<Shape>,
    /// Where places and their keys are put together.
    scratch: (String, Vec<u8>),
}

impl<'a> Tree<'a> {
    pub(super) fn new(mut catalogue: Catalogue<'a>, rules: Rules) -> Self {
        let room = LAST.room();
        let nameless = catalogue.known.names.intern("");
        Self {
            catalogue,
            rules,
            nameless,
            tables: Tables::take(room),
            placed_count: 0,
            locals: Vec::new(),
            bare: Arc::default(),
            scratch: Default::default(),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.tables.nodes[id.0 as usize]
    }

    pub(super) fn edge(&self, id: EdgeId) -> &Edge {
        &self.tables.edges[id.0 as usize]
    }

    pub(super) fn edge_mut(&mut self, id: EdgeId) -> &mut Edge {
        &mut self.tables.edges[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.tables.nodes[id.0 as usize]
    }

    /// Packages in the project's tree now.
    pub(super) fn placed_count(&self) -> usize {
        self.placed_count
    }

    /// Tells the next resolution how much this one needed.
    pub(super) fn tell_room(&self) {
        LAST.set(Room {
            names: self.catalogue.known.names.len(),
            wants: self.catalogue.want_count(),
            nodes: self.tables.nodes.len(),
            edges: self.tables.edges.len(),
        });
    }

    pub(super) fn node_count(&self) -> usize {
        self.tables.nodes.len()
    }

    /// The edges of a node, in declared order.
    pub(super) fn edges_out(&self, id: NodeId) -> impl DoubleEndedIterator<Item = EdgeId> + use<> {
        let node = self.node(id);
        let count = u32::try_from(node.shape.declared.len()).unwrap_or(0);
        (node.first_edge..node.first_edge + count).map(EdgeId)
    }

    pub(super) fn edge_named(&self, id: NodeId, folder: Folder) -> Option<EdgeId> {
        let node = self.node(id);
        node.shape.position(folder).map(|at| EdgeId(node.first_edge + at))
    }

    pub(super) fn package_of(&self, id: NodeId) -> Option<PackageId> {
        match self.node(id).content {
            Content::Package(package) | Content::Again(package) => Some(package),
            Content::Top | Content::Local(_) | Content::Link(_) | Content::Failed(_) => None,
        }
    }

    pub(super) fn version_of(&self, id: NodeId) -> Option<&Version> {
        match self.node(id).content {
            Content::Local(local) | Content::Link(local) => {
                self.catalogue.locals.own(local).version.as_ref()
            }
            _ => self.package_of(id).map(|package| &self.catalogue.package(package).version),
        }
    }

    pub(super) fn failed(&self, id: NodeId) -> bool {
        matches!(self.node(id).content, Content::Failed(_))
    }

    /// The project, the top of a stage, or one of the project's own packages in its directory.
    pub(super) fn is_top(&self, id: NodeId) -> bool {
        self.node(id).parent.is_none() || matches!(self.node(id).content, Content::Local(_))
    }

    /// The node, its parent, and so on to the top.
    pub(super) fn ancestry(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        std::iter::successors(Some(id), |&id| self.node(id).parent)
    }

    pub(super) fn is_below(&self, id: NodeId, ancestor: NodeId) -> bool {
        self.ancestry(id).any(|one| one == ancestor)
    }

    /// What node's lookup finds for a name from inside a package. A name that an archive on the way brings along
    /// hides everything above, and what it hides is unknown: nothing is found then.
    pub(super) fn resolve(&self, from: NodeId, folder: Folder) -> Option<NodeId> {
        for id in self.ancestry(from) {
            let node = self.node(id);
            if let Some(found) = node.children.get(folder) {
                return Some(found);
            }
            if node.parent.is_some() && node.shape.bundled.contains(&folder) {
                return None;
            }
        }
        None
    }

    pub(super) fn placed_named(&self, name: NameId) -> Vec<NodeId> {
        let bearers = self.tables.bearers.get(name.index()).map(Vec::as_slice).unwrap_or_default();
        bearers.iter().copied().filter(|&id| self.node(id).placed).collect()
    }

    /// All nodes of the project's tree, the top first, in the order of placing.
    pub(super) fn placed(&self) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        (0..self.tables.nodes.len())
            .filter(|&at| self.tables.nodes[at].placed)
            .map(|at| NodeId(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    /// Whether both are the same package under the same name.
    pub(super) fn matches(&self, left: NodeId, right: NodeId) -> bool {
        left == right
            || (self.node(left).name == self.node(right).name
                && (self.package_of(left).is_some() || self.link_of(left).is_some())
                && self.package_of(left) == self.package_of(right)
                && self.link_of(left) == self.link_of(right))
    }

    /// Whether a node would do for an edge if the edge found it.
    pub(super) fn satisfies(&self, node: NodeId, edge: EdgeId) -> bool {
        let edge = self.edge(edge);
        if self.node(node).name != edge.name {
            return false;
        }
        if self.meets(node, edge.want) {
            return true;
        }
        let version = self.version_of(node);
        // An override replaces only the versions that it names; others may still be what the package declares.
        edge.rule.and_then(|rule| self.rules.replaced_range(rule)).is_some_and(|replaced| {
            self.meets(node, edge.declared)
                && !version.is_some_and(|version| replaced.satisfies(version))
        })
    }

    /// Makes a top: the project's, or that of a stage when it stands for another node.
    pub(super) fn add_top(&mut self, shape: Arc<Shape>, stands_for: Option<NodeId>) -> NodeId {
        let (name, rule) = match stands_for {
            Some(node) => (self.node(node).name, self.node(node).rule),
            None => (self.nameless, self.rules.root()),
        };
        let id = self.push_node(name, Content::Top, shape);
        let node = self.node_mut(id);
        node.stands_for = stands_for;
        node.rule = rule;
        node.placed = stands_for.is_none();
        self.open_edges(id);
        id
    }

    /// Makes a node and puts it under a parent, in the place of whatever is there.
    pub(super) fn add(&mut self, name: NameId, content: Content, parent: NodeId) -> NodeId {
        let id = self.make(name, content);
        self.attach(id, parent);
        id
    }

    /// Makes a node that is nowhere yet.
    pub(super) fn make(&mut self, name: NameId, content: Content) -> NodeId {
        let shape = match &content {
            Content::Package(package) => Arc::clone(&self.catalogue.package(*package).shape),
            Content::Local(local) => Arc::clone(&self.catalogue.locals.own(*local).shape),
            _ => Arc::clone(&self.bare),
        };
        self.push_node(name, content, shape)
    }

    /// Makes a package without its dependencies, and on no stage: for what neither has nor is a peer. Whoever asks about it asks what
    /// it is and not what it needs, and a stage and all edges once more for each package would be half of the work.
    pub(super) fn make_bare(&mut self, name: NameId, content: Content) -> NodeId {
        self.push_node(name, content, Arc::clone(&self.bare))
    }

    fn push_node(&mut self, name: NameId, content: Content, shape: Arc<Shape>) -> NodeId {
        let id = NodeId(u32::try_from(self.tables.nodes.len()).expect("nodes are bounded"));
        let first_edge = u32::try_from(self.tables.edges.len()).expect("edges are bounded");
        for declared in &shape.declared {
            self.tables.edges.push(Edge {
                from: id,
                name: declared.name,
                folder: declared.folder,
                role: declared.role,
                declared: declared.want,
                want: declared.want,
                rule: None,
                to: None,
                fault: None,
                overruled: false,
            });
        }
        self.tables.nodes.push(Node {
            name,
            folder: self.catalogue.known.names.folder(name),
            content,
            shape,
            first_edge,
            parent: None,
            children: Children::default(),
            edges_in: Vec::new(),
            stands_for: None,
            depth: 0,
            rule: None,
            place: None,
            place_key: None,
            placed: false,
        });
        id
    }

    /// Puts a node under a parent, in the place of whatever is there. A no-op where it already is there.
    pub(super) fn attach(&mut self, id: NodeId, parent: NodeId) {
        let folder = self.node(id).folder;
        match self.node(parent).children.get(folder) {
            Some(old) if old == id => return,
            Some(old) => self.detach(old),
            None => {}
        }
        let placed = self.node(parent).placed;
        let depth = self.node(parent).depth + 1;
        if placed {
            self.set_place(id, parent);
        }
        let node = self.node_mut(id);
        node.parent = Some(parent);
        node.placed = placed;
        node.depth = depth;
        let name = node.name;
        self.node_mut(parent).children.insert(folder, id);
        if placed {
            self.placed_count += 1;
            entry(&mut self.tables.bearers, name).push(id);
        }
        self.reload_seekers(parent, folder);
        self.open_edges(id);
    }

    /// Says where a node is that comes under a placed one.
    fn set_place(&mut self, id: NodeId, parent: NodeId) {
        let (mut place, mut key) = std::mem::take(&mut self.scratch);
        place.clear();
        key.clear();
        let above = self.node(parent).place();
        place.push_str(above);
        place.push_str(if above.is_empty() { "node_modules/" } else { "/node_modules/" });
        place.push_str(self.catalogue.known.names.text_ref(self.node(id).name));
        put_sort_key(&mut key, &place);
        let node = self.node_mut(id);
        node.place = Some(Arc::from(&*place));
        node.place_key = Some(Arc::from(&*key));
        self.scratch = (place, key);
    }

    /// Puts a new node in the place of an old one, whose own folder of packages it inherits.
    pub(super) fn replace(&mut self, old: NodeId, new: NodeId) {
        let Some(parent) = self.node(old).parent else { return };
        let children = std::mem::take(&mut self.node_mut(old).children);
        for child in children.nodes() {
            self.node_mut(child).parent = Some(new);
        }
        self.node_mut(new).children = children;
        self.detach(old);
        self.attach(new, parent);
        for child in self.node(new).children.nodes() {
            for edge in self.node(child).edges_in.clone() {
                self.reload(edge, true);
            }
        }
    }

    /// Takes a node, and all below it, out of its tree.
    pub(super) fn detach(&mut self, id: NodeId) {
        let Some(parent) = self.node_mut(id).parent.take() else { return };
        let folder = self.node(id).folder;
        if self.node(parent).children.get(folder) == Some(id) {
            self.node_mut(parent).children.remove(folder);
        }
        let mut gone = vec![id];
        let mut at = 0;
        while at < gone.len() {
            gone.extend(self.node(gone[at]).children.nodes());
            at += 1;
        }
        for &one in &gone {
            let name = self.node(one).name;
            if self.node(one).placed {
                self.node_mut(one).placed = false;
                self.placed_count -= 1;
                if let Some(bearers) = self.tables.bearers.get_mut(name.index()) {
                    bearers.retain(|&bearer| bearer != one);
                }
            }
        }
        for &one in &gone {
            for edge in self.edges_out(one) {
                self.point(edge, None);
            }
        }
        for &one in &gone {
            for edge in std::mem::take(&mut self.node_mut(one).edges_in) {
                // Not lost: the edge is asked to look again, and finds another node or none.
                self.edge_mut(edge).to = None;
                self.reload(edge, true);
            }
        }
    }

    /// Resolves the edges of a node that has just got its place.
    fn open_edges(&mut self, id: NodeId) {
        let placed = self.node(id).placed;
        for edge in self.edges_out(id) {
            if placed {
                let folder = self.edge(edge).folder;
                entry(&mut self.tables.seekers, folder.name()).push(edge);
            }
            self.reload(edge, true);
        }
    }

    /// A folder below `parent` changed: everybody who might look there looks again.
    fn reload_seekers(&mut self, parent: NodeId, folder: Folder) {
        if !self.node(parent).placed {
            let mut around: Vec<EdgeId> = self.edge_named(parent, folder).into_iter().collect();
            let children = self.node(parent).children.nodes().into_iter();
            around.extend(children.filter_map(|child| self.edge_named(child, folder)));
            around.sort_unstable();
            for edge in around {
                self.reload(edge, false);
            }
            return;
        }
        let mut seekers = std::mem::take(entry(&mut self.tables.seekers, folder.name()));
        seekers.retain(|&edge| self.node(self.edge(edge).from).placed);
        for &edge in &seekers {
            self.reload(edge, false);
        }
        // Reloading never adds a seeker, so nothing was put there meanwhile.
        *entry(&mut self.tables.seekers, folder.name()) = seekers;
    }

    /// Looks up where an edge leads; `hard` judges it again even if that did not change.
    pub(super) fn reload(&mut self, id: EdgeId, hard: bool) {
        let (from, folder) = (self.edge(id).from, self.edge(id).folder);
        if self.rules.root().is_some() {
            self.refresh_rule(id);
        }
        let attached = self.node(from).placed
            || self.node(from).parent.is_some()
            || self.node(from).stands_for.is_some();
        let found = if attached { self.resolve(from, folder) } else { None };
        if found != self.edge(id).to {
            self.point(id, found);
        } else if hard {
            self.judge(id);
        }
    }

    fn point(&mut self, id: EdgeId, to: Option<NodeId>) {
        let before = std::mem::replace(&mut self.edge_mut(id).to, to);
        if let Some(old) = before {
            self.node_mut(old).edges_in.retain(|&edge| edge != id);
        }
        if let Some(new) = to {
            self.node_mut(new).edges_in.push(id);
        }
        self.judge(id);
        if self.rules.root().is_some() {
            self.spread_rules(before, to);
        }
    }

    pub(super) fn judge(&mut self, id: EdgeId) {
        let edge = self.edge(id);
        let fault = match edge.to {
            None if edge.role.is_optional() => None,
            None => Some(Fault::Missing),
            Some(to) => {
                let inside = self.node(to).parent == Some(edge.from);
                if edge.role.is_peer() && inside && !self.is_top(edge.from) {
                    Some(Fault::PeerLocal)
                } else if self.satisfies(to, id) {
                    None
                } else {
                    Some(Fault::Invalid)
                }
            }
        };
        self.edge_mut(id).fault = fault;
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        // What a panic left may be half of something.
        if !std::thread::panicking() {
            std::mem::take(&mut self.tables).leave();
        }
    }
}

/// What is listed under a name.
fn entry<T>(lists: &mut Vec<Vec<T>>, name: NameId) -> &mut Vec<T> {
    let at = name.index();
    if lists.len() <= at {
        lists.resize_with(at + 1, Vec::new);
    }
    &mut lists[at]
}
