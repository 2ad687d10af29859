//! Puts a package and those of its peers that the tree lacks into the highest folder that takes all of them.
//!
//! Follows npm's Arborist step by step; see `check` for the question, here is the deed: replacing, removing
//! what nobody needs any more, and telling the builder whose dependencies have to be looked at again.

use rustc_hash::FxHashSet as HashSet;

use super::check::{
    Check, Mode, Verdict, can_replace, check, deepest_target, gather, peer_entry_sets,
};
use super::report::{Clash, Stop};
use super::tree::{Content, EdgeId, NodeId, Tree};

/// What one placement did.
#[derive(Default)]
pub(super) struct Outcome {
    /// New nodes in the tree, with the edge that each was placed for.
    pub(super) placed: Vec<(NodeId, EdgeId)>,
    /// Nodes whose dependencies were taken away.
    pub(super) reopened: Vec<NodeId>,
    /// Edges that keep something that does not fit, because nothing fits.
    pub(super) overruled: Vec<EdgeId>,
}

/// One package of the set that is being placed.
struct Step {
    dep: NodeId,
    edge: EdgeId,
    /// Index of the step whose peer this is.
    parent: Option<usize>,
    /// The folder above which it must not be searched: at least as high as its dependent.
    start: NodeId,
    check: Option<Check>,
}

/// Places `dep` for `edge`.
pub(super) fn place(
    tree: &mut Tree<'_>,
    dep: NodeId,
    edge: EdgeId,
    mode: Mode,
) -> Result<Outcome, Stop> {
    let mut outcome = Outcome::default();
    let start = deepest_target(tree, tree.edge(edge).from, tree.edge(edge).folder);
    let mut steps = vec![Step { dep, edge, parent: None, start, check: None }];
    // Peers are placed depth first; the stack holds, per placed package, those of its edges that are still to do.
    let mut open: Vec<(usize, NodeId, Vec<EdgeId>)> = Vec::new();
    open.extend(place_one(tree, &mut steps, 0, mode, &mut outcome)?);
    while let Some((step, placed, edges)) = open.last_mut() {
        let (step, placed) = (*step, *placed);
        let Some(edge) = edges.pop() else {
            open.pop();
            continue;
        };
        let Some(peer) = peer_to_place(tree, steps[step].dep, placed, edge) else { continue };
        let start = deepest_target(tree, steps[step].start, tree.edge(edge).folder);
        steps.push(Step { dep: peer, edge, parent: Some(step), start, check: None });
        let next = steps.len() - 1;
        open.extend(place_one(tree, &mut steps, next, mode, &mut outcome)?);
    }
    Ok(outcome)
}

/// The staged peer for an unmet peer edge of a package that was just placed.
fn peer_to_place(tree: &Tree<'_>, dep: NodeId, placed: NodeId, edge: EdgeId) -> Option<NodeId> {
    let one = tree.edge(edge);
    if one.valid() || !one.role.is_peer() || one.overruled || !tree.node(placed).placed {
        return None;
    }
    let stage = tree.node(dep).parent?;
    let peer = tree.node(stage).children.get(one.folder)?;
    tree.satisfies(peer, edge).then_some(peer)
}

type Opened = Option<(usize, NodeId, Vec<EdgeId>)>;

fn place_one(
    tree: &mut Tree<'_>,
    steps: &mut [Step],
    at: usize,
    mode: Mode,
    outcome: &mut Outcome,
) -> Result<Opened, Stop> {
    let (dep, edge) = (steps[at].dep, steps[at].edge);
    if tree.edge(edge).to.is_some() && tree.edge(edge).valid() && !mode.explicit {
        return Ok(None);
    }
    let Some(found) = find_folder(tree, steps, at, mode)? else {
        overrule(tree, edge, outcome);
        return Ok(None);
    };
    let target = found.target;
    let verdict = if found.verdict == Verdict::Conflict { found.own } else { found.verdict };
    steps[at].check = Some(found);
    if verdict == Verdict::Keep {
        if tree.edge(edge).role.is_peer() && !tree.edge(edge).valid() {
            overrule(tree, edge, outcome);
        }
        prune_duplicates(tree, target, true);
        return Ok(None);
    }
    let above = tree.ancestry(target).find(|&one| !tree.is_top(one) && tree.matches(one, dep));
    if let Some(above) = above
        && let Content::Package(package) = tree.node(above).content
    {
        // The same again, in itself: a link up ends what would be nested without end.
        let placed = tree.add(tree.node(dep).name, Content::Again(package), target);
        outcome.placed.push((placed, edge));
        return Ok(None);
    }
    if tree.node(target).depth >= crate::limits::NPM_TREE_DEPTH_MAX {
        return Err(Stop::TooDeep { edge });
    }
    let placed = put(tree, dep, target, outcome);
    outcome.placed.push((placed, edge));
    // What could not be loaded is nothing that anybody agreed to: who needs it is asked again when something else stands there.
    let is_peer = tree.edge(edge).role.is_peer();
    if is_peer && !tree.failed(placed) && !tree.satisfies(placed, edge) {
        overrule(tree, edge, outcome);
    }
    tidy(tree, placed, target, edge);
    if !tree.node(placed).shape.has_peers {
        return Ok(None);
    }
    let edges: Vec<EdgeId> = tree.edges_out(placed).rev().collect();
    Ok(Some((at, placed, edges)))
}

/// The highest folder, from the start upwards, that takes the package and its peers; `None` where none even takes it
/// alone and that is not fatal.
fn find_folder(
    tree: &Tree<'_>,
    steps: &[Step],
    at: usize,
    mode: Mode,
) -> Result<Option<Check>, Stop> {
    let (dep, edge, start) = (steps[at].dep, steps[at].edge, steps[at].start);
    let parent = steps[at].parent.and_then(|parent| steps[parent].check.as_ref());
    let folder = tree.edge(edge).folder;
    let mut with_peers: Option<Check> = None;
    let mut alone: Option<Check> = None;
    let mut last: Option<Check> = None;
    for target in tree.ancestry(start) {
        let peer_of_target =
            tree.edge_named(target, folder).is_some_and(|edge| tree.edge(edge).role.is_peer());
        if peer_of_target && !tree.is_top(target) {
            continue;
        }
        let answer = check(tree, dep, target, edge, parent, mode);
        if answer.own != Verdict::Conflict {
            alone = Some(answer.clone());
        }
        let conflict = answer.verdict == Verdict::Conflict;
        if conflict {
            last = Some(answer);
            break;
        }
        with_peers = Some(answer);
        if tree.failed(dep) {
            break;
        }
    }
    if with_peers.is_some() {
        return Ok(with_peers);
    }
    let entry = steps[at].parent.map_or(edge, |_| steps[0].edge);
    if is_projects_own(tree, entry) {
        return Err(Stop::Clash(clash(tree, entry, steps[0].dep, alone.or(last))));
    }
    Ok(alone)
}

/// What a person has to know about a set that fits nowhere: the innermost peer that is in the way.
fn clash(tree: &Tree<'_>, entry: EdgeId, dep: NodeId, check: Option<Check>) -> Clash {
    let mut check = check;
    while let Some(inner) = check.as_mut().and_then(|check| check.conflicting.take()) {
        check = Some(*inner);
    }
    let (edge, dep) = check.as_ref().map_or((entry, dep), |check| (check.edge, check.dep));
    let current = check.as_ref().and_then(|check| {
        check.current.or_else(|| tree.resolve(check.target, tree.edge(edge).folder))
    });
    let rival = current.and_then(|current| {
        let objects = |edge: &&EdgeId| tree.edge(**edge).valid() && !tree.satisfies(dep, **edge);
        tree.node(current).edges_in.iter().find(objects).copied()
    });
    let rival = rival.or_else(|| {
        let target = check.as_ref().map(|check| check.target)?;
        tree.edge_named(target, tree.edge(edge).folder)
    });
    Clash { entry, edge, current, rival }
}

/// Whether a conflict around this edge is the project's own business: it asked for the package, or for one of the
/// set that the package came with. Others' peers are overruled with a warning, as npm does.
fn is_projects_own(tree: &Tree<'_>, entry: EdgeId) -> bool {
    let from = tree.edge(entry).from;
    if tree.is_mine(from) {
        return true;
    }
    if !tree.edge(entry).role.is_peer() {
        return false;
    }
    let edges_in = &tree.node(from).edges_in;
    let direct =
        |&edge: &EdgeId| !tree.edge(edge).role.is_peer() && tree.is_mine(tree.edge(edge).from);
    edges_in.iter().any(direct)
        || (edges_in.iter().any(|&edge| tree.edge(edge).role.is_peer())
            && peer_entry_sets(tree, from)
                .iter()
                .any(|(edge, _)| tree.is_mine(tree.edge(*edge).from)))
}

fn overrule(tree: &mut Tree<'_>, edge: EdgeId, outcome: &mut Outcome) {
    tree.edge_mut(edge).overruled = true;
    outcome.overruled.push(edge);
}

fn put(tree: &mut Tree<'_>, dep: NodeId, target: NodeId, outcome: &mut Outcome) -> NodeId {
    let (name, folder) = (tree.node(dep).name, tree.node(dep).folder);
    let placed = tree.make(name, tree.node(dep).content.clone());
    match tree.node(target).children.get(folder) {
        Some(old) => replace_old(tree, old, placed, target, outcome),
        None => tree.attach(placed, target),
    }
    placed
}

fn replace_old(
    tree: &mut Tree<'_>,
    old: NodeId,
    placed: NodeId,
    target: NodeId,
    outcome: &mut Outcome,
) {
    let mut idle: Vec<NodeId> = Vec::new();
    for edge in tree.edges_out(old) {
        let kept = tree.edge_named(placed, tree.edge(edge).folder).is_some();
        if let Some(to) = tree.edge(edge).to.filter(|_| !kept) {
            idle.extend(gather(tree, &[to], |other| tree.edge(other).to != Some(to)));
        }
    }
    // Peer sets at this level that the new one does not suit: they go deeper where they can, or are overruled.
    let mut moved: Vec<NodeId> = Vec::new();
    for edge in tree.node(old).edges_in.clone() {
        let one = tree.edge(edge);
        let here = tree.node(one.from).parent == Some(target) && !tree.is_top(one.from);
        if tree.satisfies(placed, edge) || !one.role.is_peer() || !here || one.overruled {
            continue;
        }
        for (entry, _) in peer_entry_sets(tree, one.from) {
            let Some(entry_node) = tree.edge(entry).to else { continue };
            let deepest = deepest_target(tree, entry_node, tree.node(entry_node).folder);
            let from_project = tree.is_mine(tree.edge(entry).from);
            if deepest != target && !from_project {
                moved.extend(gather(tree, &[entry_node], |other| {
                    tree.edge(other).to != Some(entry_node) && !tree.edge(other).overruled
                }));
            } else if !tree.edge(edge).overruled {
                overrule(tree, edge, outcome);
            }
        }
    }
    tree.replace(old, placed);
    prune_after_replacement(tree, placed, &idle);
    for node in moved {
        for &edge in &tree.node(node).edges_in {
            outcome.reopened.push(tree.edge(edge).from);
        }
        tree.detach(node);
    }
}

fn prune_after_replacement(tree: &mut Tree<'_>, placed: NodeId, idle: &[NodeId]) {
    let mut suspects: Vec<NodeId> = Vec::new();
    let mut known: HashSet<NodeId> = HashSet::default();
    for edge in tree.edges_out(placed) {
        let one = tree.edge(edge);
        suspects.extend(one.to.filter(|&to| !one.valid() && known.insert(to)));
    }
    for &node in idle {
        let counts = |edge: EdgeId| tree.edge(edge).to != Some(node) && tree.edge(edge).valid();
        suspects.extend(gather(tree, &[node], counts).into_iter().filter(|&id| known.insert(id)));
    }
    let gone = gather(tree, &suspects, |edge| {
        let one = tree.edge(edge);
        one.from != placed && one.to != Some(placed) && one.valid()
    });
    for node in gone {
        // The new one itself is reached through its dependencies where they go in a circle.
        if node != placed {
            tree.detach(node);
        }
    }
}

/// Removes what the new node makes needless: copies deeper in the tree, and a copy that its dependent used before.
fn tidy(tree: &mut Tree<'_>, placed: NodeId, target: NodeId, edge: EdgeId) {
    if tree.edge(edge).valid()
        && let Some(other) = tree.edge(edge).to
        && other != placed
    {
        prune_duplicates(tree, other, false);
    }
    for node in tree.placed_named(tree.node(placed).name) {
        if !tree.node(node).placed || !tree.is_below(node, target) {
            continue;
        }
        prune_duplicates(tree, node, false);
        if tree.node(node).placed {
            for child in sorted_children(tree, node) {
                prune_duplicates(tree, child, false);
            }
        }
    }
}

fn sorted_children(tree: &Tree<'_>, node: NodeId) -> Vec<NodeId> {
    let mut children = tree.node(node).children.nodes();
    children.sort_by(|&left, &right| tree.node(left).place_key.cmp(&tree.node(right).place_key));
    children
}

/// Removes a node, and what only it needs, where the next one above does as well; else asks its children in turn.
fn prune_duplicates(tree: &mut Tree<'_>, node: NodeId, descend: bool) {
    if !descend {
        if tree.node(node).placed && is_needless(tree, node) {
            prune(tree, node);
        }
        return;
    }
    let mut open = vec![node];
    // Whoever was asked once and stayed need not be asked again in this walk.
    let mut asked: HashSet<NodeId> = HashSet::default();
    while let Some(node) = open.pop() {
        if !tree.node(node).placed || !asked.insert(node) {
            continue;
        }
        if is_needless(tree, node) {
            prune(tree, node);
        } else {
            let mut below = sorted_children(tree, node);
            if tree.node(node).parent.is_none() {
                for local in tree.locals() {
                    below.extend(sorted_children(tree, local));
                }
            }
            open.extend(below.into_iter().rev());
        }
    }
}

fn prune(tree: &mut Tree<'_>, node: NodeId) {
    let counts = |edge: EdgeId| tree.edge(edge).to != Some(node) && tree.edge(edge).valid();
    for gone in gather(tree, &[node], counts) {
        tree.detach(gone);
    }
}

fn is_needless(tree: &Tree<'_>, node: NodeId) -> bool {
    let Some(above) = tree.node(node).parent.and_then(|parent| tree.node(parent).parent) else {
        return false;
    };
    if tree.node(node).edges_in.is_empty() {
        return true;
    }
    let Some(other) = tree.resolve(above, tree.node(node).folder) else { return false };
    if tree.matches(other, node) {
        return true;
    }
    can_replace(tree, other, node, &HashSet::default())
        && match (tree.version_of(other), tree.version_of(node)) {
            (Some(other), Some(this)) => other >= this,
            _ => false,
        }
}
