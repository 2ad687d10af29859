//! The project's `overrides`: which dependency, below which package, is replaced by what.
//!
//! Rules form a tree as in package.json. A node carries the innermost rule in force where it stands; an edge asks
//! that rule, then the rules around it. Nothing here knows the tree of packages.

use std::rc::Rc;

use crate::manifest::package_json::{Override, RootManifest};
use agents_versions::npm::Range;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RuleId(u32);

struct Rule {
    parent: Option<RuleId>,
    name: Rc<str>,
    /// The versions that it replaces; `None` is all.
    replaced: Option<Range>,
    /// What it puts there; `None` where it only leads to inner rules.
    value: Option<Rc<str>>,
    children: Vec<RuleId>,
}

#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    pub(super) fn new(root: &RootManifest) -> Self {
        let mut rules = Self::default();
        if root.overrides.is_empty() {
            return rules;
        }
        rules.rules.push(Rule {
            parent: None,
            name: "".into(),
            replaced: None,
            value: None,
            children: Vec::new(),
        });
        // Depth first without recursion; a manifest's depth is bounded where it is read.
        let mut open: Vec<(RuleId, &Override)> =
            root.overrides.iter().rev().map(|one| (RuleId(0), one)).collect();
        while let Some((parent, one)) = open.pop() {
            let id = rules.push(parent, one, root);
            open.extend(one.nested.iter().rev().map(|inner| (id, inner)));
        }
        rules
    }

    fn push(&mut self, parent: RuleId, one: &Override, root: &RootManifest) -> RuleId {
        let (name, key) = match one.key.get(1..).and_then(|rest| rest.find('@')) {
            Some(at) => (&one.key[..=at], &one.key[at + 2..]),
            None => (one.key.as_str(), ""),
        };
        let replaced = (!matches!(key, "" | "*")).then(|| Range::parse(key).ok()).flatten();
        let value = match &one.value {
            Some(text) => Some(text.as_str()),
            None if replaced.is_some() => Some(key),
            None => None,
        };
        let value = value.filter(|text| !matches!(*text, "" | "*")).map(|text| {
            let referred = text.strip_prefix('$').and_then(|name| root.declared(name));
            Rc::from(referred.unwrap_or(text))
        });
        let id =
            RuleId(u32::try_from(self.rules.len()).expect("rules are bounded by the manifest"));
        self.rules.push(Rule {
            parent: Some(parent),
            name: name.into(),
            replaced,
            value,
            children: Vec::new(),
        });
        self.rules[parent.0 as usize].children.push(id);
        id
    }

    fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0 as usize]
    }

    /// The rule around all others; `None` where the project overrides nothing.
    pub(super) fn root(&self) -> Option<RuleId> {
        (!self.rules.is_empty()).then_some(RuleId(0))
    }

    fn outward(&self, id: RuleId) -> impl Iterator<Item = RuleId> + use<'_> {
        std::iter::successors(Some(id), |&id| self.rule(id).parent)
    }

    /// The rule for an edge of a node under `id`: the innermost that names it, else `id` itself.
    pub(super) fn for_edge(&self, id: RuleId, name: &str, declared: Option<&Range>) -> RuleId {
        self.outward(id)
            .flat_map(|outer| self.rule(outer).children.iter().copied().chain([outer]))
            .find(|&candidate| {
                let rule = self.rule(candidate);
                rule.parent.is_some()
                    && *rule.name == *name
                    && match (&rule.replaced, declared) {
                        (Some(replaced), Some(declared)) => replaced.intersects(declared),
                        _ => true,
                    }
            })
            .unwrap_or(id)
    }

    /// What a rule puts in the place of a dependency called `name`.
    pub(super) fn replacement(&self, id: RuleId, name: &str) -> Option<Rc<str>> {
        let rule = self.rule(id);
        if *rule.name == *name { rule.value.clone() } else { None }
    }

    /// The versions that a rule replaces, where it names some.
    pub(super) fn replaced_range(&self, id: RuleId) -> Option<&Range> {
        self.rule(id).replaced.as_ref()
    }

    /// Of several rules that lead to one node, the innermost that contains the others; else what they share.
    pub(super) fn most_specific(&self, rules: impl Iterator<Item = RuleId>) -> Option<RuleId> {
        rules.fold(None, |best, rule| {
            let Some(best) = best else { return Some(rule) };
            if self.outward(rule).any(|outer| outer == best) {
                return Some(rule);
            }
            if self.outward(best).any(|outer| outer == rule) {
                return Some(best);
            }
            self.outward(rule).find(|&outer| self.outward(best).any(|other| other == outer))
        })
    }
}
