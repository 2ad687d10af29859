//! How packages of Debian are talked about in explanations.

use pubgrub::VersionSet;

use super::provider::{Key, Provider};
use super::stock::AWAY;
use crate::metadata::debian::{Group, Package, Relation};
use crate::resolve::conflict::Vocabulary;
use crate::resolve::indexed::{Id, Set, describe};

impl Provider<'_> {
    /// A version of the package that a step is about: the newest one meant.
    fn meant(&self, id: Id, set: &Set) -> Option<std::sync::Arc<Package>> {
        let stock = self.stock(id).ok()?;
        let position = set.members(stock.count()).rev().find(|at| *at != AWAY)?;
        stock.at(position).cloned()
    }

    /// The relation through which a package wants or excludes another.
    fn relation(&self, from: Id, versions: &Set, to: Id, wanted: &Set) -> Option<String> {
        let package = self.meant(from, versions)?;
        let stock = self.stock(to).ok()?;
        let named = |group: &&Group| {
            let ways = self.ways(group, &package.architecture).unwrap_or_default();
            matches!(ways.as_slice(), [(id, set)] if *id == to && set == wanted)
        };
        if let Some(group) = package.depends.iter().find(named) {
            return Some(match group.0.as_slice() {
                [relation] if *relation.name == *stock.name => bound_of(relation),
                _ => format!("(it says {group})"),
            });
        }
        let excluded = |other: &Package| {
            package.conflicts.iter().find(|conflict| package.forbids(conflict, other))
        };
        let conflict = stock.versions.iter().find_map(|it| excluded(it))?;
        let how = if conflict.is_break { "Breaks" } else { "Conflicts" };
        let state = if wanted.contains(&(AWAY as u32)) && wanted.size(stock.count()) == 1 {
            "not installed"
        } else {
            "in another version or not installed"
        };
        Some(format!("{state} ({how}: {})", conflict.relation))
    }
}

fn bound_of(relation: &Relation) -> String {
    let bound = relation.bound.as_ref();
    bound.map(|bound| format!("({} {})", bound.sign(), bound.text)).unwrap_or_default()
}

impl Vocabulary for Provider<'_> {
    fn name(&self, id: Id) -> String {
        match self.key(id) {
            Key::Root => "what is asked for".to_owned(),
            Key::Choice(_, text, _) => format!("`{text}`"),
            Key::Package(..) => format!("`{}`", self.name_of(id).unwrap_or_default()),
        }
    }

    fn is_project(&self, id: Id) -> bool {
        matches!(self.key(id), Key::Root)
    }

    fn base(&self, _id: Id) -> Option<Id> {
        None
    }

    fn versions(&self, id: Id, set: &Set) -> Option<String> {
        match self.key(id) {
            Key::Root => Some(String::new()),
            Key::Choice(ways, _, _) => {
                let meant: Vec<_> = set.members(ways.len()).collect();
                let names = meant.iter().filter_map(|at| self.name_of(ways[*at].0));
                let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
                match meant.len() == ways.len() || names.is_empty() {
                    true => Some(String::new()),
                    false => Some(format!("by {}", names.join(" or "))),
                }
            }
            Key::Package(..) => {
                let Ok(stock) = self.stock(id) else { return Some(String::new()) };
                let is_meant = |at: usize| set.contains(&(at as u32));
                let texts: Vec<_> = (1..stock.count())
                    .filter_map(|at| Some((stock.at(at)?.version.clone(), is_meant(at))))
                    .collect();
                let has_some = texts.iter().any(|(_, is_meant)| *is_meant);
                match (is_meant(AWAY), has_some) {
                    (true, false) => Some("not installed".to_owned()),
                    (false, true) if texts.iter().all(|(_, is_meant)| *is_meant) => {
                        Some(describe(&texts).unwrap_or_default())
                    }
                    (false, _) => describe(&texts),
                    (true, true) => {
                        let versions = describe(&texts).unwrap_or_else(|| "any".to_owned());
                        Some(format!("{versions} or not installed"))
                    }
                }
            }
        }
    }

    fn requirement(&self, from: Id, versions: &Set, to: Id, wanted: &Set) -> String {
        match self.key(to) {
            Key::Choice(..) => String::new(),
            _ => self
                .relation(from, versions, to, wanted)
                .or_else(|| self.versions(to, wanted))
                .unwrap_or_default(),
        }
    }

    fn why_nothing(&self, from: Id, versions: &Set, to: Id) -> Option<String> {
        if let Key::Package(..) = self.key(to) {
            let stock = self.stock(to).ok()?;
            let candidate = stock.candidate.and_then(|at| stock.at(at))?;
            return Some(format!("what apt would take of it is {}", candidate.version));
        }
        let Key::Choice(_, text, _) = self.key(to) else { return None };
        let package = self.meant(from, versions)?;
        let group = package.depends.iter().find(|group| *group.to_string() == *text)?;
        let mut words = Vec::new();
        for relation in &group.0 {
            let id = self.package_id(&relation.name, self.metadata.native());
            let stock = self.stock(id).ok()?;
            let candidate = stock.candidate.and_then(|at| stock.at(at));
            words.push(match candidate {
                Some(candidate) => {
                    format!("what apt would take of `{}` is {}", relation.name, candidate.version)
                }
                None => format!("apt has no `{}` to take", relation.name),
            });
        }
        Some(words.join(" and "))
    }

    fn why_unusable(&self, id: Id, set: &Set) -> Option<String> {
        let Key::Package(..) = self.key(id) else { return None };
        let stock = self.stock(id).ok()?;
        let here = stock.at(stock.installed?)?;
        let name = self.name(id);
        if here.is_held {
            return Some(format!("{name} is held at {}", here.version));
        }
        (here.is_essential && set.contains(&(AWAY as u32)))
            .then(|| format!("{name} is essential and cannot be taken away"))
    }
}
