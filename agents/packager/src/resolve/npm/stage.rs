//! Puts a package together with its peers, and their peers, before any of them is placed.
//!
//! Peers are wanted next to their dependent, so a set has to agree before it goes into the tree. Where the project's
//! own packages cannot agree, that is a conflict; where others' cannot, what was first stays and a warning is given.

use rustc_hash::FxHashSet as HashSet;

use super::build::Builder;
use super::catalogue::{NoChoice, Role, WantId};
use super::check::can_replace;
use super::names::NameId;
use super::report::{Clash, Stop};
use super::tree::{Content, EdgeId, Failure, NodeId};
use super::want::{Want, unsupported};
use crate::limits::{NPM_NODES_MAX, NPM_PEER_DEPTH_MAX};

impl Builder<'_> {
    /// The stage that stands for a node: the last one made, or a new one.
    pub(super) fn stage(&mut self, node: NodeId, reuse: bool) -> NodeId {
        if reuse && let Some(&stage) = self.stages.get(&node) {
            return stage;
        }
        let shape = std::rc::Rc::clone(&self.tree.node(node).shape);
        let stage = self.tree.add_top(shape, Some(node));
        self.stages.insert(node, stage);
        stage
    }

    /// The same without its dependencies, for what neither is nor has a peer: nobody asks such a stage for anything but
    /// whom it stands for. A copy of all dependencies for each of them would be their square.
    fn bare_stage(&mut self, node: NodeId) -> NodeId {
        let stage = self.tree.add_top(std::rc::Rc::default(), Some(node));
        self.stages.insert(node, stage);
        stage
    }

    /// Whether an edge's package is chosen without regard to peers of it, or of the one that needs it. Rules reach a
    /// package over the edges that lead to it, so with those every edge is needed.
    fn stands_alone(&mut self, edge: EdgeId) -> Result<bool, Stop> {
        let (from, name, want) = {
            let one = self.tree.edge(edge);
            (one.from, one.name, one.want)
        };
        if self.tree.rules.root().is_some() || self.tree.node(from).shape.has_peers {
            return Ok(false);
        }
        Ok(match self.content(name, want, from == self.top, edge)? {
            Content::Package(package) => !self.tree.catalogue.package(package).shape.has_peers,
            Content::Failed(_) => true,
            _ => false,
        })
    }

    /// Chooses a package for an edge, puts it on a stage and loads its peers beside it. `second` is another edge
    /// that would like to be content too. `needed` collects the nodes that will really be installed.
    pub(super) fn stage_edge(
        &mut self,
        edge: EdgeId,
        stage: Option<NodeId>,
        second: Option<EdgeId>,
        needed: &mut HashSet<NodeId>,
        depth: usize,
    ) -> Result<NodeId, Stop> {
        if depth > NPM_PEER_DEPTH_MAX {
            return Err(Stop::PeerChain { edge });
        }
        self.keep_on()?;
        if self.tree.node_count() > NPM_NODES_MAX {
            return Err(Stop::Bound(format!("the tree needs more than {NPM_NODES_MAX} nodes")));
        }
        let stage = match stage {
            Some(stage) => stage,
            None if second.is_none() && self.stands_alone(edge)? => {
                self.bare_stage(self.tree.edge(edge).from)
            }
            None => self.stage(self.tree.edge(edge).from, false),
        };
        let name = self.tree.edge(edge).name;
        let first = self.choose_onto(name, self.tree.edge(edge).want, stage, edge)?;
        let mut node = first;
        if let Some(second) = second.filter(|&second| !self.tree.edge(second).valid()) {
            let other = self.choose_onto(name, self.tree.edge(second).want, stage, second)?;
            if self.tree.edge(edge).valid() {
                node = other;
            }
        }
        self.tree.attach(node, stage);
        let is_needed = |edge: EdgeId| {
            let one = self.tree.edge(edge);
            needed.contains(&one.from) && one.role != Role::OptionalPeer
        };
        if is_needed(edge) || second.is_some_and(is_needed) {
            needed.insert(node);
        }
        self.stage_peers(node, needed, depth)?;
        Ok(node)
    }

    fn choose_onto(
        &mut self,
        name: NameId,
        want: WantId,
        stage: NodeId,
        edge: EdgeId,
    ) -> Result<NodeId, Stop> {
        let beside_project = self.tree.node(stage).stands_for == Some(self.top);
        let content = self.content(name, want, beside_project, edge)?;
        Ok(self.tree.add(name, content, stage))
    }

    fn content(
        &mut self,
        name: NameId,
        want: WantId,
        beside_project: bool,
        edge: EdgeId,
    ) -> Result<Content, Stop> {
        match self.pinned(name, want).filter(|_| beside_project) {
            Some(pinned) => Ok(pinned),
            None => self.choose(name, want, edge),
        }
    }

    /// The version that an earlier attempt found to agree with the others, where it is wanted.
    fn pinned(&mut self, name: NameId, want: WantId) -> Option<Content> {
        if self.pins.is_empty() {
            return None;
        }
        let pin = self.pins.get(&*self.tree.catalogue.names.text(name))?;
        let wanted = self.tree.catalogue.want(want);
        let package = self.tree.catalogue.exact(&pin.package, &pin.version)?;
        let is_it = wanted.package(&pin.package) == pin.package
            && wanted.accepts(Some(&self.tree.catalogue.package(package).version));
        is_it.then_some(Content::Package(package))
    }

    /// The version for an edge; what cannot be had is content too, because nobody may need it in the end.
    fn choose(&mut self, name: NameId, want: WantId, edge: EdgeId) -> Result<Content, Stop> {
        let text = self.tree.catalogue.names.text(name);
        let wanted = self.tree.catalogue.want(want);
        if let Want::Unsupported(why) = &*wanted {
            let dependent = self.describe(self.tree.edge(edge).from);
            let spec = self.tree.catalogue.want_text(want);
            let error = unsupported(&text, &spec, why, &dependent);
            return Ok(Content::Failed(std::rc::Rc::new(Failure { error, want, no_match: None })));
        }
        if let Want::Local(local) = &*wanted {
            return Ok(Content::Link(*local));
        }
        // What the project has itself comes before what a registry has, wherever it does.
        if let Some(local) = self.tree.catalogue.locals.workspace(name)
            && matches!(*wanted, Want::Range { .. } | Want::Exact { .. })
            && wanted.accepts(self.tree.catalogue.locals.own(local).version.as_ref())
        {
            return Ok(Content::Link(local));
        }
        let lowest = self.wants_lowest(edge);
        match self.tree.catalogue.choose(name, want, lowest) {
            Ok(package) => Ok(Content::Package(package)),
            Err(NoChoice::Failed(error)) => {
                Ok(Content::Failed(std::rc::Rc::new(Failure { error, want, no_match: None })))
            }
            Err(NoChoice::NoMatch { package, latest }) => {
                let spec = self.tree.catalogue.want_text(want);
                let error = super::catalogue::no_match_error(&package, &spec);
                Ok(Content::Failed(std::rc::Rc::new(Failure {
                    error,
                    want,
                    no_match: Some((package, latest)),
                })))
            }
        }
    }

    fn stage_peers(
        &mut self,
        node: NodeId,
        needed: &mut HashSet<NodeId>,
        depth: usize,
    ) -> Result<(), Stop> {
        let mut edges: Vec<EdgeId> = self
            .tree
            .edges_out(node)
            .filter(|&edge| {
                let one = self.tree.edge(edge);
                one.role.is_peer() && !(one.valid() && one.to.is_some())
            })
            .collect();
        edges.sort_by_cached_key(|&edge| self.tree.catalogue.names.key(self.tree.edge(edge).name));
        for edge in edges {
            // What a deeper peer brought in may have taken this node's place.
            let Some(stage) = self.tree.node(node).parent else { break };
            if self.tree.edge(edge).valid() && self.tree.edge(edge).to.is_some() {
                continue;
            }
            self.stage_peer(node, edge, stage, needed, depth)?;
        }
        Ok(())
    }

    fn stage_peer(
        &mut self,
        node: NodeId,
        edge: EdgeId,
        stage: NodeId,
        needed: &mut HashSet<NodeId>,
        depth: usize,
    ) -> Result<(), Stop> {
        let beside = self.tree.edge_named(stage, self.tree.edge(edge).folder);
        let for_project =
            self.tree.node(stage).stands_for.is_some_and(|node| self.tree.is_mine(node));
        let Some(current) = self.tree.edge(edge).to else {
            let Some(beside) = beside else {
                self.stage_edge(edge, Some(stage), None, needed, depth + 1)?;
                return Ok(());
            };
            // The dependent of the set wants it too; a version that suits both is looked for.
            let dep = self.stage_edge(beside, Some(stage), Some(edge), needed, depth + 1)?;
            if self.tree.edge(edge).valid() {
                return Ok(());
            }
            if !for_project || !needed.contains(&dep) {
                self.tree.edge_mut(edge).overruled = true;
                return Ok(());
            }
            if self.tree.node(node).parent.is_none() {
                return Ok(());
            }
            return Err(self.disagreement(edge, Some(beside)));
        };
        let dep = self.stage_edge(edge, None, None, needed, depth + 1)?;
        if can_replace(&self.tree, dep, current, &HashSet::default()) {
            self.stage_edge(edge, Some(stage), None, needed, depth + 1)?;
            return Ok(());
        }
        if !for_project || !needed.contains(&self.tree.edge(edge).from) {
            return Ok(());
        }
        Err(self.disagreement(edge, beside))
    }

    fn disagreement(&self, edge: EdgeId, beside: Option<EdgeId>) -> Stop {
        let one = self.tree.edge(edge);
        let current = self.tree.resolve(one.from, one.folder);
        let rival = beside.or_else(|| {
            let edges_in = current.map(|current| self.tree.node(current).edges_in.as_slice());
            edges_in.into_iter().flatten().copied().find(|&other| other != edge)
        });
        Stop::Clash(Clash { entry: edge, edge, current, rival })
    }
}
