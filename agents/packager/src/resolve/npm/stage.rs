//! Puts a package together with its peers, and their peers, before any of them is placed.
//!
//! Peers are wanted next to their dependent, so a set has to agree before it goes into the tree. Where the project's
//! own packages cannot agree, that is a conflict; where others' cannot, what was first stays and a warning is given.

use rustc_hash::FxHashSet as HashSet;

use super::build::Builder;
use super::catalogue::{NoChoice, Role, WantId};
use super::check::can_replace;
use super::locals::LocalId;
use super::names::NameId;
use super::report::{Clash, Stop};
use super::tree::{Content, EdgeId, Failure, NodeId};
use super::want::{Want, unsupported};
use crate::error::Kind;
use crate::limits::{NPM_NODES_MAX, NPM_PEER_DEPTH_MAX};

/// The nodes that will really be installed. Mostly that is the one that the first edge is of.
pub(super) struct Needed {
    from: NodeId,
    others: HashSet<NodeId>,
}

impl Needed {
    pub(super) fn new(from: NodeId) -> Self {
        Self { from, others: HashSet::default() }
    }

    fn contains(&self, node: NodeId) -> bool {
        node == self.from || self.others.contains(&node)
    }

    fn insert(&mut self, node: NodeId) {
        self.others.insert(node);
    }
}

impl Builder<'_> {
    /// The stage that stands for a node: the last one made, or a new one.
    pub(super) fn stage(&mut self, node: NodeId, reuse: bool) -> NodeId {
        if reuse && let Some(&stage) = self.stages.get(&node) {
            return stage;
        }
        let shape = std::sync::Arc::clone(&self.tree.node(node).shape);
        let stage = self.tree.add_top(shape, Some(node));
        self.stages.insert(node, stage);
        stage
    }

    /// The package of an edge where it is chosen without regard to peers of it, or of the one that needs it. Rules reach a
    /// package over the edges that lead to it, so with those every edge is needed.
    fn alone(&mut self, edge: EdgeId) -> Result<Option<Content>, Stop> {
        let (from, name, want) = {
            let one = self.tree.edge(edge);
            (one.from, one.name, one.want)
        };
        if self.tree.rules.root().is_some() || self.tree.node(from).shape.has_peers {
            return Ok(None);
        }
        let content = self.content(name, want, from == self.top, edge)?;
        let is_alone = match &content {
            Content::Package(package) => !self.tree.catalogue.package(*package).shape.has_peers,
            Content::Failed(_) => true,
            _ => false,
        };
        Ok(is_alone.then_some(content))
    }

    /// Chooses a package for an edge, puts it on a stage and loads its peers beside it. `second` is another edge
    /// that would like to be content too. `needed` collects the nodes that will really be installed.
    pub(super) fn stage_edge(
        &mut self,
        edge: EdgeId,
        stage: Option<NodeId>,
        second: Option<EdgeId>,
        needed: &mut Needed,
        depth: usize,
    ) -> Result<NodeId, Stop> {
        if depth > NPM_PEER_DEPTH_MAX {
            return Err(Stop::PeerChain { edge });
        }
        self.keep_on()?;
        if self.tree.node_count() > NPM_NODES_MAX {
            return Err(Stop::Bound(format!("the tree needs more than {NPM_NODES_MAX} nodes")));
        }
        let (from, name) = (self.tree.edge(edge).from, self.tree.edge(edge).name);
        let is_needed = [Some(edge), second].into_iter().flatten().any(|edge| {
            let one = self.tree.edge(edge);
            needed.contains(one.from) && one.role != Role::OptionalPeer
        });
        if stage.is_none()
            && second.is_none()
            && let Some(content) = self.alone(edge)?
        {
            self.announce_needs(&content, is_needed);
            let node = self.tree.make_bare(name, content);
            // The last stage counts, and this would be the last one.
            self.stages.remove(&from);
            // Nobody asks whether it is needed: it has neither edges nor a place on a stage.
            return Ok(node);
        }
        let stage = match stage {
            Some(stage) => stage,
            None => self.stage(from, false),
        };
        let first = self.choose_onto(name, self.tree.edge(edge).want, stage, edge)?;
        let mut node = first;
        if let Some(second) = second.filter(|&second| !self.tree.edge(second).valid()) {
            let other = self.choose_onto(name, self.tree.edge(second).want, stage, second)?;
            if self.tree.edge(edge).valid() {
                node = other;
            }
        }
        self.tree.attach(node, stage);
        if is_needed {
            needed.insert(node);
        }
        self.announce_needs(&self.tree.node(node).content.clone(), is_needed);
        self.stage_peers(node, needed, depth)?;
        Ok(node)
    }

    /// Announces what a package needs, where it is going to be installed. One that is only looked at, because an optional peer would have to
    /// agree with others, needs nothing.
    fn announce_needs(&mut self, content: &Content, is_needed: bool) {
        if let (Content::Package(package), true) = (content, is_needed) {
            self.tree.catalogue.announce_needs(*package);
        }
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
        let pin = self.pins.get(&*self.tree.catalogue.known.names.text(name))?;
        let wanted = self.tree.catalogue.wanted(want);
        let package = self.tree.catalogue.exact(&pin.package, &pin.version)?;
        let is_it = wanted.want.package(&pin.package) == pin.package
            && wanted.want.accepts(Some(&self.tree.catalogue.package(package).version));
        is_it.then_some(Content::Package(package))
    }

    /// The version for an edge; what cannot be had is content too, because nobody may need it in the end.
    fn choose(&mut self, name: NameId, want: WantId, edge: EdgeId) -> Result<Content, Stop> {
        match self.tree.catalogue.want_ref(want) {
            Want::Unsupported(why) => {
                let text = self.tree.catalogue.known.names.text(name);
                let dependent = self.describe(self.tree.edge(edge).from);
                let spec = self.tree.catalogue.want_text(want);
                let error = unsupported(&text, &spec, why, &dependent);
                let failure = Failure { error, want, no_match: None };
                return Ok(Content::Failed(std::sync::Arc::new(failure)));
            }
            Want::Local(local) => return Ok(Content::Link(*local)),
            // What the project has itself comes before what a registry has, wherever it does.
            wanted @ (Want::Range { .. } | Want::Exact { .. }) => {
                let locals = &self.tree.catalogue.locals;
                let local = locals.workspace(name);
                let fits = |local: &LocalId| wanted.accepts(locals.own(*local).version.as_ref());
                if let Some(local) = local.filter(fits) {
                    return Ok(Content::Link(local));
                }
            }
            Want::Tag(_) | Want::Alias { .. } | Want::Archive(_) => {}
        }
        let lowest = self.wants_lowest(edge);
        match self.tree.catalogue.choose(name, want, lowest) {
            Ok(package) => Ok(Content::Package(package)),
            Err(none) => match *none {
                // What is optional may be missing, but not be another one than it was.
                NoChoice::Failed(error)
                    if error.kind == Kind::Verification
                        && self.tree.catalogue.is_want_of_archive(want) =>
                {
                    Err(Stop::Other(error))
                }
                NoChoice::Failed(error) => Ok(Content::Failed(std::sync::Arc::new(Failure {
                    error,
                    want,
                    no_match: None,
                }))),
                NoChoice::NoMatch { package, latest } => {
                    let spec = self.tree.catalogue.want_text(want);
                    let error = super::catalogue::no_match_error(&package, &spec);
                    Ok(Content::Failed(std::sync::Arc::new(Failure {
                        error,
                        want,
                        no_match: Some((package, latest)),
                    })))
                }
            },
        }
    }

    fn stage_peers(&mut self, node: NodeId, needed: &mut Needed, depth: usize) -> Result<(), Stop> {
        let mut edges: Vec<EdgeId> = self
            .tree
            .edges_out(node)
            .filter(|&edge| {
                let one = self.tree.edge(edge);
                one.role.is_peer() && !(one.valid() && one.to.is_some())
            })
            .collect();
        let key = |edge: EdgeId| self.tree.catalogue.known.names.key(self.tree.edge(edge).name);
        edges.sort_by(|&left, &right| key(left).cmp(key(right)));
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
        needed: &mut Needed,
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
            if !for_project || !needed.contains(dep) {
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
        if !for_project || !needed.contains(self.tree.edge(edge).from) {
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
