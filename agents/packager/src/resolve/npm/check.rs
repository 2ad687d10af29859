//! "May this package, with its peers, stand in that folder?" Only reads; changes nothing in a tree.
//!
//! The answers and their order of questions are those of npm's Arborist, so that trees come out alike.

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use super::names::Folder;
use super::tree::{EdgeId, NodeId, Tree};

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No: somebody would find the wrong version.
    Conflict,
    /// Yes, the folder is free.
    Free,
    /// Yes, in the place of what is there.
    Replace,
    /// What is there already does.
    Keep,
}

/// A question with its answer.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) dep: NodeId,
    pub(super) target: NodeId,
    pub(super) edge: EdgeId,
    /// The deepest folder in which it would still be found.
    deepest: NodeId,
    /// The edge because of which the whole peer set is placed.
    entry: EdgeId,
    /// With all peers.
    pub(super) verdict: Verdict,
    /// Without them.
    pub(super) own: Verdict,
    /// What is there now.
    pub(super) current: Option<NodeId>,
    /// A peer that cannot come along, where that is the reason.
    pub(super) conflicting: Option<Box<Check>>,
}

/// How the placement was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    /// The caller asked for this package by name; what is there is not good enough.
    pub(super) explicit: bool,
}

/// Peers of peers that are looked at; a longer path is a conflict. See the limit of peer chains.
const PATH_MAX: usize = 4 * crate::limits::NPM_PEER_DEPTH_MAX;

/// What is known while one peer set is checked in one place.
#[derive(Default)]
struct Walk {
    path: Vec<NodeId>,
    known: HashMap<(EdgeId, NodeId), Verdict>,
}

/// Checks a dependency and its peers against one folder.
pub(super) fn check(
    tree: &Tree<'_>,
    dep: NodeId,
    target: NodeId,
    edge: EdgeId,
    parent: Option<&Check>,
    mode: Mode,
) -> Check {
    check_in(tree, dep, target, edge, parent, mode, &mut Walk::default())
}

fn check_in(
    tree: &Tree<'_>,
    dep: NodeId,
    target: NodeId,
    edge: EdgeId,
    parent: Option<&Check>,
    mode: Mode,
    walk: &mut Walk,
) -> Check {
    let folder = tree.edge(edge).folder;
    let start = parent.map_or(tree.edge(edge).from, |parent| parent.deepest);
    let mut check = Check {
        dep,
        target,
        edge,
        deepest: deepest_target(tree, start, folder),
        entry: parent.map_or(edge, |parent| parent.entry),
        verdict: Verdict::Conflict,
        own: Verdict::Conflict,
        current: tree.node(target).children.get(folder),
        conflicting: None,
    };
    check.verdict = check.judge(tree, mode, walk);
    if check.own == Verdict::Conflict {
        check.own = check.verdict;
    }
    check
}

/// The deepest folder, from a node upwards, in which a package of that name would be found by the node: its own,
/// unless it is a peer of it.
pub(super) fn deepest_target(tree: &Tree<'_>, start: NodeId, folder: Folder) -> NodeId {
    tree.ancestry(start)
        .find(|&target| {
            tree.node(target).parent.is_none()
                || tree
                    .edge_named(target, folder)
                    .is_none_or(|edge| !tree.edge(edge).role.is_peer())
        })
        .unwrap_or(start)
}

impl Check {
    fn judge(&mut self, tree: &Tree<'_>, mode: Mode, walk: &mut Walk) -> Verdict {
        if tree.failed(self.dep) {
            return match self.current {
                // What is there stays: the project's own package, what the project has already, and what others found
                // before somebody asked for a peer that cannot be had.
                Some(current)
                    if tree.link_of(current).is_some()
                        || tree.is_mine(tree.edge(self.edge).from)
                        || (tree.edge(self.edge).role.is_peer() && !tree.failed(current)) =>
                {
                    Verdict::Conflict
                }
                Some(_) => Verdict::Replace,
                None => Verdict::Free,
            };
        }
        let folder = tree.edge(self.edge).folder;
        let top = tree.is_top(self.target);
        if !top && tree.node(self.target).shape.bundled.contains(&folder) {
            return Verdict::Conflict;
        }
        if let Some(edge) = tree.edge_named(self.target, folder) {
            if tree.edge(edge).role.is_peer() && !top {
                return Verdict::Conflict;
            }
            if self.current.is_none() && edge != self.edge && !tree.satisfies(self.dep, edge) {
                return Verdict::Conflict;
            }
        }
        match self.current {
            Some(current) => self.judge_occupied(tree, current, mode, walk),
            None => self.judge_free(tree, folder, walk),
        }
    }

    fn judge_occupied(
        &mut self,
        tree: &Tree<'_>,
        current: NodeId,
        mode: Mode,
        walk: &mut Walk,
    ) -> Verdict {
        let prefer_dedupe = tree.edge(self.edge).role.is_peer();
        let settled = tree.satisfies(current, self.edge) || !tree.satisfies(self.dep, self.edge);
        if tree.matches(self.dep, current) && settled {
            return if mode.explicit { Verdict::Replace } else { Verdict::Keep };
        }
        let newer = match (tree.version_of(self.dep), tree.version_of(current)) {
            (Some(new), Some(old)) => new >= old,
            _ => false,
        };
        if newer && can_replace(tree, self.dep, current, &HashSet::default()) {
            let verdict = self.judge_peers(tree, Verdict::Replace, walk);
            if verdict != Verdict::Conflict {
                return verdict;
            }
        }
        if tree.satisfies(current, self.edge) && (!mode.explicit || prefer_dedupe) {
            return Verdict::Keep;
        }
        if prefer_dedupe && !newer && can_replace(tree, self.dep, current, &HashSet::default()) {
            let verdict = self.judge_peers(tree, Verdict::Replace, walk);
            if verdict != Verdict::Conflict {
                return verdict;
            }
        }
        // The deepest place for this one, but not for what is there: that one may go deeper.
        if self.target != self.deepest {
            return Verdict::Conflict;
        }
        if !prefer_dedupe && self.target == tree.edge(self.edge).from {
            return self.judge_peers(tree, Verdict::Replace, walk);
        }
        if self.peer_sets_can_move(tree, current) {
            return self.judge_peers(tree, Verdict::Replace, walk);
        }
        Verdict::Conflict
    }

    /// Whether each peer set of the package in the way can be replaced by the new set, or can go deeper.
    fn peer_sets_can_move(&self, tree: &Tree<'_>, current: NodeId) -> bool {
        // What is on no stage is a set of its own.
        let stage = tree.node(self.dep).parent;
        let new_set = |folder: Folder| match stage {
            Some(stage) => tree.node(stage).children.get(folder),
            None => (tree.node(self.dep).folder == folder).then_some(self.dep),
        };
        let members = stage.map_or(vec![self.dep], |stage| tree.node(stage).children.nodes());
        let new_folders: HashSet<Folder> =
            members.into_iter().map(|member| tree.node(member).folder).collect();
        for (entry, members) in peer_entry_sets(tree, current) {
            if entry == self.edge || entry == self.entry {
                continue;
            }
            let Some(entry_node) = tree.edge(entry).to else { continue };
            match new_set(tree.node(entry_node).folder) {
                Some(new) if can_replace(tree, new, entry_node, &new_folders) => continue,
                Some(_) => {}
                None if set_accepts(tree, entry_node, &new_set) => continue,
                None => {}
            }
            for member in members {
                let deepest = deepest_target(tree, tree.edge(entry).from, tree.node(member).folder);
                if deepest == self.target || tree.is_below(self.target, deepest) {
                    return false;
                }
            }
        }
        true
    }

    fn judge_free(&mut self, tree: &Tree<'_>, folder: Folder, walk: &mut Walk) -> Verdict {
        if self.target != tree.edge(self.entry).from
            && let Some(shadowed) = tree.resolve(self.target, folder)
        {
            let lost = tree.node(shadowed).edges_in.iter().any(|&edge| {
                tree.is_below(tree.edge(edge).from, self.target)
                    && tree.edge(edge).valid()
                    && !tree.satisfies(self.dep, edge)
            });
            if lost {
                return Verdict::Conflict;
            }
        }
        self.judge_peers(tree, Verdict::Free, walk)
    }

    /// The given verdict if all peers can come along, else a conflict.
    fn judge_peers(&mut self, tree: &Tree<'_>, own: Verdict, walk: &mut Walk) -> Verdict {
        self.own = own;
        if walk.path.len() >= PATH_MAX {
            return Verdict::Conflict;
        }
        if !tree.node(self.dep).shape.has_peers {
            return own;
        }
        walk.path.push(self.dep);
        let mut verdict = own;
        for edge in tree.edges_out(self.dep) {
            let Some(peer) = tree.edge(edge).to else { continue };
            if !tree.edge(edge).role.is_peer() || walk.path.contains(&peer) {
                continue;
            }
            let target = deepest_target(tree, self.target, tree.edge(edge).folder);
            let known = walk.known.get(&(edge, target)).copied();
            let peer_verdict = known.unwrap_or_else(|| {
                let check = check_in(tree, peer, target, edge, Some(self), Mode::default(), walk);
                let verdict = check.verdict;
                walk.known.insert((edge, target), verdict);
                if verdict == Verdict::Conflict {
                    self.conflicting = Some(Box::new(check));
                }
                verdict
            });
            if peer_verdict == Verdict::Conflict {
                verdict = Verdict::Conflict;
            }
        }
        walk.path.pop();
        verdict
    }
}

/// Whether the members of a peer set would accept what the new set has in place of their peers.
fn set_accepts(
    tree: &Tree<'_>,
    entry: NodeId,
    new_set: &impl Fn(Folder) -> Option<NodeId>,
) -> bool {
    let mut members = vec![entry];
    let mut known: HashSet<NodeId> = members.iter().copied().collect();
    let mut at = 0;
    while at < members.len() {
        for edge in tree.edges_out(members[at]) {
            let one = tree.edge(edge);
            if !one.role.is_peer() || !one.valid() {
                continue;
            }
            match (new_set(one.folder), one.to) {
                (Some(new), _) if !tree.satisfies(new, edge) => return false,
                (None, Some(to)) if known.insert(to) => members.push(to),
                _ => {}
            }
        }
        at += 1;
    }
    true
}

/// Whether everybody who finds `old` would be content with `new`. Peers in `ignored` move along and do not count.
pub(super) fn can_replace(
    tree: &Tree<'_>,
    new: NodeId,
    old: NodeId,
    ignored: &HashSet<Folder>,
) -> bool {
    let package_name = |id: NodeId| tree.package_of(id).map(|one| tree.catalogue.package(one).name);
    if tree.node(new).name != tree.node(old).name || package_name(new) != package_name(old) {
        return false;
    }
    if !tree.node(old).shape.declared.is_empty() && tree.node(new).rule != tree.node(old).rule {
        return false;
    }
    // Who only exists because of the old one does not count; gathered only when somebody objects.
    let mut dependents: Option<HashSet<NodeId>> = None;
    for &edge in &tree.node(old).edges_in {
        let from = tree.edge(edge).from;
        let moves_along = !tree.is_top(old)
            && !tree.is_top(from)
            && tree.node(from).parent == tree.node(old).parent
            && tree.edge(edge).role.is_peer()
            && ignored.contains(&tree.node(from).folder);
        if moves_along || tree.satisfies(new, edge) {
            continue;
        }
        let set = dependents.get_or_insert_with(|| {
            let counts = |edge: EdgeId| tree.edge(edge).to != Some(old) && tree.edge(edge).valid();
            gather(tree, &[old], counts).into_iter().collect()
        });
        if !set.contains(&from) {
            return false;
        }
    }
    true
}

/// The nodes that only exist because of `start`: all that it leads to, without those that others need.
/// Edges for which `counts` is false are ignored.
pub(super) fn gather(
    tree: &Tree<'_>,
    start: &[NodeId],
    counts: impl Fn(EdgeId) -> bool,
) -> Vec<NodeId> {
    let mut order: Vec<NodeId> = Vec::new();
    let mut set: HashSet<NodeId> = HashSet::default();
    order.extend(start.iter().copied().filter(|&id| set.insert(id)));
    let mut at = 0;
    while at < order.len() {
        for edge in tree.edges_out(order[at]) {
            if let Some(to) = tree.edge(edge).to
                && counts(edge)
                && set.insert(to)
            {
                order.push(to);
            }
        }
        at += 1;
    }
    // Each node that leaves makes those behind it needed from outside.
    let needed = |set: &HashSet<NodeId>, id: NodeId| {
        tree.node(id)
            .edges_in
            .iter()
            .any(|&edge| !set.contains(&tree.edge(edge).from) && counts(edge))
    };
    let mut open: Vec<NodeId> = order.iter().copied().filter(|&id| needed(&set, id)).collect();
    while let Some(id) = open.pop() {
        if !set.remove(&id) {
            continue;
        }
        for edge in tree.edges_out(id) {
            if let Some(to) = tree.edge(edge).to
                && counts(edge)
                && set.contains(&to)
            {
                open.push(to);
            }
        }
    }
    order.retain(|id| set.contains(id));
    order
}

/// The peer sets that a node is in, each with the edge that brought it in.
pub(super) fn peer_entry_sets(tree: &Tree<'_>, node: NodeId) -> Vec<(EdgeId, Vec<NodeId>)> {
    let mut union = vec![node];
    let mut known: HashSet<NodeId> = union.iter().copied().collect();
    let mut at = 0;
    while at < union.len() {
        for edge in tree.edges_out(union[at]) {
            let one = tree.edge(edge);
            if let Some(to) = one.to
                && one.valid()
                && one.role.is_peer()
                && known.insert(to)
            {
                union.push(to);
            }
        }
        for &edge in &tree.node(union[at]).edges_in {
            let one = tree.edge(edge);
            if one.valid() && one.role.is_peer() && known.insert(one.from) {
                union.push(one.from);
            }
        }
        at += 1;
    }
    let mut sets = Vec::new();
    for &peer in &union {
        let mut members: Option<Vec<NodeId>> = None;
        for &edge in &tree.node(peer).edges_in {
            let one = tree.edge(edge);
            if !one.valid() || (one.role.is_peer() && !tree.is_top(one.from)) {
                continue;
            }
            let members = members.get_or_insert_with(|| peers_of(tree, peer));
            if members.contains(&node) {
                sets.push((edge, members.clone()));
            }
        }
    }
    sets
}

fn peers_of(tree: &Tree<'_>, start: NodeId) -> Vec<NodeId> {
    let mut members = vec![start];
    let mut known: HashSet<NodeId> = members.iter().copied().collect();
    let mut at = 0;
    while at < members.len() {
        for edge in tree.edges_out(members[at]) {
            let one = tree.edge(edge);
            if let Some(to) = one.to
                && one.valid()
                && one.role.is_peer()
                && known.insert(to)
            {
                members.push(to);
            }
        }
        at += 1;
    }
    members
}
