//! The flat copy of a proof: obvious steps are left out, and the solver's tree is destroyed without recursion.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pubgrub::{DerivationTree, External, Term};

use super::Vocabulary;
use crate::resolve::indexed::{Id, Reason, Set, Tree};

/// A fact that was not derived.
pub(super) type Fact = External<Id, Set, Reason>;

/// One step of the proof.
pub(super) enum Node {
    /// A fact.
    External(Fact),
    /// What follows from two other steps. The terms are in the order of their packages.
    Derived { terms: Vec<(Id, Term<Set>)>, causes: [usize; 2] },
    /// That several versions of one package cannot be used, each for its own reason: one step for a person.
    Unusable { id: Id, set: Set, reasons: Vec<Fact> },
    /// A step that tells a person nothing, such as that an extra belongs to its package.
    Trivial,
}

/// The steps, each after those that it rests on.
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// A step that says the same as another one, to be read as that one.
    alias: Vec<usize>,
    parents: Vec<u32>,
}

impl Graph {
    pub(super) fn new(tree: Tree, vocabulary: &dyn Vocabulary) -> Self {
        let mut nodes = flatten(&tree);
        destroy(tree);
        let mut alias: Vec<usize> = Vec::with_capacity(nodes.len());
        for index in 0..nodes.len() {
            let mut target = index;
            let is_trivial = match &mut nodes[index] {
                Node::External(fact) => is_trivial(fact, vocabulary),
                Node::Unusable { .. } => false,
                Node::Trivial => true,
                Node::Derived { causes, .. } => {
                    *causes = causes.map(|cause| alias[cause]);
                    let [first, second] = *causes;
                    let first_is_trivial = matches!(nodes[first], Node::Trivial);
                    let second_is_trivial = matches!(nodes[second], Node::Trivial);
                    match (first_is_trivial, second_is_trivial) {
                        (true, false) => target = second,
                        (false, true) => target = first,
                        _ => {}
                    }
                    first_is_trivial && second_is_trivial
                }
            };
            if is_trivial {
                nodes[index] = Node::Trivial;
            } else if target == index
                && let Some(unusable) = unusable(&nodes, index)
            {
                nodes[index] = unusable;
            }
            alias.push(target);
        }
        let mut graph = Self { parents: vec![0; nodes.len()], nodes, alias };
        graph.count_parents();
        graph
    }

    /// The step that everything leads to.
    pub(super) fn end(&self) -> usize {
        self.alias[self.nodes.len() - 1]
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Whether several steps rest on it.
    pub(super) fn is_shared(&self, index: usize) -> bool {
        self.parents[index] > 1
    }

    /// Every package that a step mentions, in order.
    pub(super) fn packages(&self) -> Vec<Id> {
        let mut packages = BTreeSet::new();
        for node in &self.nodes {
            match node {
                Node::External(External::FromDependencyOf(from, _, to, _)) => {
                    packages.extend([*from, *to]);
                }
                Node::External(
                    External::NoVersions(id, _)
                    | External::Custom(id, _, _)
                    | External::NotRoot(id, _),
                )
                | Node::Unusable { id, .. } => {
                    packages.insert(*id);
                }
                Node::Derived { terms, .. } => packages.extend(terms.iter().map(|(id, _)| *id)),
                Node::Trivial => {}
            }
        }
        packages.into_iter().collect()
    }

    /// Counts along what is reachable from the end, so that steps left out do not count.
    fn count_parents(&mut self) {
        let mut is_seen = vec![false; self.nodes.len()];
        let mut stack = vec![self.end()];
        while let Some(index) = stack.pop() {
            if std::mem::replace(&mut is_seen[index], true) {
                continue;
            }
            if let Node::Derived { causes, .. } = &self.nodes[index] {
                for &cause in causes {
                    self.parents[cause] += 1;
                    stack.push(cause);
                }
            }
        }
    }
}

/// Reasons kept of a step that stands for many: a few examples say what is wrong with the others.
const REASONS_MAX: usize = 3;

/// A derived step about one package that rests on nothing but facts about single versions of it.
fn unusable(nodes: &[Node], index: usize) -> Option<Node> {
    let Node::Derived { terms, causes } = &nodes[index] else { return None };
    let [(id, Term::Positive(set))] = terms.as_slice() else { return None };
    let mut reasons = Vec::new();
    // The newest versions are in the cause found last; their reasons matter most.
    for &cause in causes {
        match &nodes[cause] {
            Node::External(
                fact @ (External::NoVersions(about, _) | External::Custom(about, _, _)),
            ) if about == id => {
                reasons.push(fact.clone());
            }
            Node::Unusable { id: about, reasons: known, .. } if about == id => {
                reasons.extend(known.iter().cloned());
            }
            _ => return None,
        }
    }
    reasons.truncate(REASONS_MAX);
    Some(Node::Unusable { id: *id, set: set.clone(), reasons })
}

/// Facts that follow from what an extra, a feature or a gap between two versions is.
fn is_trivial(fact: &Fact, vocabulary: &dyn Vocabulary) -> bool {
    match fact {
        External::NotRoot(..) => true,
        External::NoVersions(id, set) => vocabulary.why_unusable(*id, set).is_none(),
        External::FromDependencyOf(from, _, to, wanted) => {
            let is_own = vocabulary
                .base(*from)
                .is_some_and(|base| base == *to || vocabulary.base(*to) == Some(base));
            (is_own && !wanted.is_empty())
                || (vocabulary.is_project(*from) && vocabulary.is_project(*to))
        }
        External::Custom(..) => false,
    }
}

/// Copies the tree, causes before what they cause. Steps that the tree shares are copied once.
fn flatten(tree: &Tree) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut done: HashMap<*const Tree, usize> = HashMap::new();
    let mut stack: Vec<&Tree> = vec![tree];
    while let Some(&tree) = stack.last() {
        if done.contains_key(&std::ptr::from_ref(tree)) {
            stack.pop();
            continue;
        }
        let node = match tree {
            DerivationTree::External(fact) => Node::External(fact.clone()),
            DerivationTree::Derived(derived) => {
                let causes = [&*derived.cause1, &*derived.cause2];
                let found = causes.map(|cause| done.get(&std::ptr::from_ref(cause)).copied());
                let [Some(first), Some(second)] = found else {
                    for (cause, found) in causes.into_iter().zip(found) {
                        if found.is_none() {
                            stack.push(cause);
                        }
                    }
                    continue;
                };
                let mut terms: Vec<_> =
                    derived.terms.iter().map(|(id, term)| (*id, term.clone())).collect();
                terms.sort_by_key(|(id, _)| *id);
                Node::Derived { terms, causes: [first, second] }
            }
        };
        stack.pop();
        done.insert(std::ptr::from_ref(tree), nodes.len());
        nodes.push(node);
    }
    nodes
}

/// Drops the tree from the top: a derived `Drop` would use one stack frame per level.
fn destroy(tree: Tree) {
    let mut stack = vec![Arc::new(tree)];
    while let Some(tree) = stack.pop() {
        if let Some(DerivationTree::Derived(derived)) = Arc::into_inner(tree) {
            stack.push(derived.cause1);
            stack.push(derived.cause2);
        }
    }
}
