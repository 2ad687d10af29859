//! How Python packages are talked about in explanations.

use pep508_rs::Requirement;
use pubgrub::VersionSet;

use super::provider::{Key, Provider, specifiers};
use super::specifiers::text;
use crate::resolve::conflict::Vocabulary;
use crate::resolve::indexed::{Id, Set};

impl Provider<'_> {
    /// The requirements through which one package wants another, of the newest version meant that was looked at.
    fn wanted_by(&self, from: Id, versions: &Set, to: Id) -> Vec<Requirement> {
        let (from, to) = (self.key(from), self.key(to));
        let Some(wanted) = to.package() else { return Vec::new() };
        let is_wanted = |requirement: &&Requirement| {
            requirement.name == *wanted
                && to.extras().iter().all(|extra| requirement.extras.contains(extra))
        };
        let Some(name) = from.package() else {
            return self.direct().filter(is_wanted).cloned().collect();
        };
        let Ok(candidates) = self.candidates(name) else { return Vec::new() };
        let mut positions: Vec<_> = versions.members(candidates.len()).collect();
        positions.sort_by_key(|&position| std::cmp::Reverse(candidates.version(position)));
        for position in positions {
            let Ok(core) = self.core(name, position as u32) else { continue };
            let found: Vec<_> = self.wants(&core, &from).filter(is_wanted).cloned().collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

impl Vocabulary for Provider<'_> {
    fn name(&self, id: Id) -> String {
        match &*self.key(id) {
            Key::Root => "the project".to_owned(),
            Key::Base(name) => format!("`{name}`"),
            Key::Extra(name, extra) => format!("`{name}[{extra}]`"),
        }
    }

    fn is_project(&self, id: Id) -> bool {
        *self.key(id) == Key::Root
    }

    fn base(&self, id: Id) -> Option<Id> {
        match &*self.key(id) {
            Key::Extra(name, _) => Some(self.id(Key::Base(name.clone()))),
            _ => None,
        }
    }

    fn versions(&self, id: Id, set: &Set) -> Option<String> {
        let key = self.key(id);
        let Some(name) = key.package() else { return Some(String::new()) };
        match self.candidates(name) {
            Ok(candidates) => candidates.describe(set),
            Err(_) => Some(String::new()),
        }
    }

    fn requirement(&self, from: Id, versions: &Set, to: Id, wanted: &Set) -> String {
        let requirements = self.wanted_by(from, versions, to);
        // Where a package wants another one several times, the one that made this set is meant.
        let exact = requirements
            .iter()
            .find(|requirement| self.matching(requirement).is_ok_and(|set| set == *wanted));
        match exact.or(requirements.first()) {
            Some(requirement) => match self.constraint(&requirement.name) {
                Some(held) => {
                    let own = text(specifiers(requirement));
                    let space = if own.is_empty() { "" } else { " " };
                    format!("{own}{space}(constrained to {})", text(held))
                }
                None => text(specifiers(requirement)),
            },
            None => self.versions(to, wanted).unwrap_or_default(),
        }
    }

    fn why_nothing(&self, from: Id, versions: &Set, to: Id) -> Option<String> {
        let key = self.key(to);
        let candidates = self.candidates(key.package()?).ok()?;
        if candidates.project.is_none() {
            return Some("the index does not have it".to_owned());
        }
        let requirements = self.wanted_by(from, versions, to);
        requirements.iter().find_map(|requirement| {
            if self.matching(requirement).is_ok_and(|set| set != Set::empty()) {
                return None;
            }
            candidates.why_nothing(specifiers(requirement)).or_else(|| {
                let newest = candidates.versions().max()?;
                let is_too_new = !requirement_reaches(requirement, newest);
                is_too_new.then(|| format!("the newest version of it is {newest}"))
            })
        })
    }

    fn why_unusable(&self, id: Id, set: &Set) -> Option<String> {
        let key = self.key(id);
        self.candidates(key.package()?).ok()?.why_unusable(set)
    }
}

/// Whether the newest version is not below everything that is wanted, so that naming it would not explain anything.
fn requirement_reaches(requirement: &Requirement, newest: &pep440_rs::Version) -> bool {
    let mut bounds = specifiers(requirement).iter().filter(|it| it.has_lower_bound());
    bounds.all(|specifier| specifier.version() < newest)
}
