//! How crates are talked about in explanations.

use std::borrow::Cow;
use std::rc::Rc;

use pubgrub::VersionSet;
use semver::VersionReq;

use super::activation::Manifest;
use super::provider::{Key, Provider};
use crate::metadata::cargo::Need;
use crate::resolve::conflict::Vocabulary;
use crate::resolve::indexed::{Id, Set};

impl Provider<'_> {
    /// The requirement through which one package wants another, of the newest version meant.
    fn wanted_by(&self, from: Id, versions: &Set, to: Id, wanted: &Set) -> Option<Rc<str>> {
        let name = self.crate_name(to)?;
        match self.key(from) {
            Key::Member(position) => self.requirement_in(self.member(position), &name, to, wanted),
            Key::Crate(krate, bucket) | Key::Feature(krate, bucket, _) => {
                let crates = self.crates(&krate).ok()?;
                let list = crates.list(bucket);
                versions.members(list.len()).rev().find_map(|position| {
                    let manifest = Manifest(crates.listed(list[position])?);
                    self.requirement_in(manifest, &name, to, wanted)
                })
            }
            Key::Choice(_, _, requirement) => Some(requirement),
            Key::ChoiceFeature(choice, _) => match self.key(choice) {
                Key::Choice(_, _, requirement) => Some(requirement),
                _ => None,
            },
            Key::Root | Key::Links(_) => None,
        }
    }

    /// Where a manifest wants a crate several times, the entry that made the set is meant.
    fn requirement_in(
        &self,
        manifest: Manifest<'_>,
        name: &str,
        to: Id,
        wanted: &Set,
    ) -> Option<Rc<str>> {
        let makes = |need: &Need<'_>| {
            let Ok(matching) = self.matching(name, need.requirement()) else { return false };
            match (self.key(to), matching.as_slice()) {
                (Key::Crate(..), []) => *wanted == Set::empty(),
                (Key::Crate(_, bucket) | Key::Feature(_, bucket, _), [(found, set)]) => {
                    bucket == *found && set == wanted
                }
                (Key::Choice(_, _, requirement), _) => *requirement == *need.requirement(),
                _ => false,
            }
        };
        let named = || manifest.needs().filter(|need| need.key() == name);
        named().find(makes).or_else(|| named().next()).map(|need| need.requirement().into())
    }
}

impl Vocabulary for Provider<'_> {
    fn name(&self, id: Id) -> String {
        match self.key(id) {
            Key::Root => "the project".to_owned(),
            Key::Member(_) if self.request.roots.len() == 1 => "the project".to_owned(),
            Key::Member(position) => format!("the member `{}`", self.request.roots[position].name),
            Key::Crate(name, _) | Key::Choice(_, name, _) => format!("`{}`", self.shown(&name)),
            Key::Feature(name, _, feature) => format!("`{}/{feature}`", self.shown(&name)),
            Key::ChoiceFeature(choice, feature) => match self.crate_name(choice) {
                Some(name) => format!("`{}/{feature}`", self.shown(&name)),
                None => format!("the feature `{feature}`"),
            },
            Key::Links(name) => format!("to be the only one that links `{name}`"),
        }
    }

    fn is_project(&self, id: Id) -> bool {
        matches!(self.key(id), Key::Root | Key::Member(_))
    }

    fn base(&self, id: Id) -> Option<Id> {
        match self.key(id) {
            Key::Feature(name, bucket, _) => Some(self.id(Key::Crate(name, bucket))),
            Key::ChoiceFeature(choice, _) => Some(choice),
            _ => None,
        }
    }

    fn versions(&self, id: Id, set: &Set) -> Option<String> {
        match self.key(id) {
            Key::Root | Key::Member(_) | Key::Links(_) => Some(String::new()),
            Key::Crate(name, bucket) | Key::Feature(name, bucket, _) => {
                Some(self.crates(&name).map_or(String::new(), |it| it.describe(bucket, set)))
            }
            Key::Choice(_, name, requirement) => {
                Some(self.describe_choice(&name, &requirement, set))
            }
            Key::ChoiceFeature(choice, _) => match self.key(choice) {
                Key::Choice(_, name, requirement) => {
                    Some(self.describe_choice(&name, &requirement, set))
                }
                _ => Some(String::new()),
            },
        }
    }

    fn requirement(&self, from: Id, versions: &Set, to: Id, wanted: &Set) -> String {
        match self.wanted_by(from, versions, to, wanted) {
            Some(requirement) => requirement.to_string(),
            None => self.versions(to, wanted).unwrap_or_default(),
        }
    }

    fn why_nothing(&self, from: Id, versions: &Set, to: Id) -> Option<String> {
        let requirement = self.wanted_by(from, versions, to, &Set::empty())?;
        let name = self.crate_name(to)?;
        self.crates(&name).ok()?.why_nothing(&VersionReq::parse(&requirement).ok()?)
    }

    fn why_unusable(&self, _id: Id, _set: &Set) -> Option<String> {
        // Unusable versions never get into a set.
        None
    }
}

impl Provider<'_> {
    /// What people call a crate.
    fn shown<'k>(&self, key: &'k str) -> Cow<'k, str> {
        self.request.scope.map_or(Cow::Borrowed(key), |scope| scope.shown(key))
    }

    fn describe_choice(&self, name: &str, requirement: &str, set: &Set) -> String {
        let Ok(matching) = self.matching(name, requirement) else { return requirement.to_string() };
        let buckets: Vec<_> = set
            .members(matching.len())
            .map(|position| format!("^{}", matching[position].0))
            .collect();
        if buckets.len() == matching.len() { requirement.to_string() } else { buckets.join(" or ") }
    }
}
