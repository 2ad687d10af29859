//! What a version, a feature or a member needs, as packages and positions of the solver.

use std::rc::Rc;

use pubgrub::VersionSet;

use super::super::activation::{Manifest, Value, features_of};
use super::super::crates::Bucket;
use super::{Found, Key, Provider};
use crate::error::{Error, Kind};
use crate::metadata::cargo::scope::without_secret;
use crate::metadata::cargo::{Listed, Need};
use crate::resolve::indexed::{Id, Reason, Set};

impl Provider<'_> {
    /// Adds what one dependency asks for, in a range of compatible versions or a choice between several.
    fn require<'f>(
        &self,
        parent: Id,
        need: Need<'_>,
        features: impl IntoIterator<Item = &'f str>,
        found: &mut Found,
    ) -> Result<(), Error> {
        let name: Rc<str> = Rc::from(need.key());
        let matching = self.matching(&name, need.requirement())?;
        match matching.as_slice() {
            [] => found.push((self.id(Key::Crate(name, Bucket::Nothing)), Set::empty())),
            [(bucket, set)] => {
                found.push((self.id(Key::Crate(Rc::clone(&name), *bucket)), set.clone()));
                for feature in features {
                    if self.may_skip(&name, *bucket, set, feature)? {
                        continue;
                    }
                    let key = Key::Feature(Rc::clone(&name), *bucket, Rc::from(feature));
                    found.push((self.id(key), set.clone()));
                }
            }
            several => {
                let all = Set::of(several.len(), |_| true);
                let choice = self.id(Key::Choice(parent, name, need.requirement().into()));
                found.push((choice, all.clone()));
                for feature in features {
                    let key = Key::ChoiceFeature(choice, Rc::from(feature));
                    found.push((self.id(key), all.clone()));
                }
            }
        }
        Ok(())
    }

    /// Whether a feature cannot matter: `default` where no version in the set has it.
    pub(super) fn may_skip(
        &self,
        name: &str,
        bucket: Bucket,
        set: &Set,
        feature: &str,
    ) -> Result<bool, Error> {
        if feature != "default" {
            return Ok(false);
        }
        let crates = self.crates(name)?;
        let list = crates.list(bucket);
        let has_default =
            |position: usize| crates.listed(list[position]).is_some_and(Listed::has_default);
        Ok(!set.members(list.len()).any(has_default))
    }

    pub(super) fn member_dependencies(&self, id: Id, position: usize) -> Result<Found, Error> {
        let manifest = self.member(position);
        let mut found = Vec::new();
        // Checked before: `check_roots` followed all features.
        let activation = manifest.activate(manifest.all_features()).unwrap_or_default();
        for (need, features) in manifest.active(&activation) {
            self.require(id, need, features, &mut found)?;
        }
        Ok(found)
    }

    pub(super) fn crate_dependencies(
        &self,
        id: Id,
        name: &Rc<str>,
        bucket: Bucket,
        position: u32,
    ) -> Result<Result<Found, Reason>, Error> {
        let version = self.version(name, bucket, position)?;
        let version = version.listed();
        let needed = || version.needs().filter(|need| !need.is_optional());
        if let Some(reason) = needed().find_map(foreign) {
            return Ok(Err(reason));
        }
        for need in needed() {
            self.announce(need);
        }
        let mut found = Vec::new();
        for need in needed() {
            self.require(id, need, features_of(need), &mut found)?;
        }
        if let Some(links) = version.links() {
            let links: Rc<str> = Rc::from(links);
            let mut holders = self.holders.borrow_mut();
            let holders = holders.entry(Rc::clone(&links)).or_default();
            let holder = (Rc::clone(name), version.number().clone());
            let token = holders.iter().position(|known| *known == holder).unwrap_or_else(|| {
                holders.push(holder);
                holders.len() - 1
            });
            found.push((self.id(Key::Links(links)), Set::singleton(token as u32)));
        }
        Ok(Ok(found))
    }

    pub(super) fn feature_dependencies(
        &self,
        name: &Rc<str>,
        bucket: Bucket,
        feature: &str,
        position: u32,
    ) -> Result<Result<Found, Reason>, Error> {
        let version = self.version(name, bucket, position)?;
        let manifest = Manifest(version.listed());
        let base = self.id(Key::Crate(Rc::clone(name), bucket));
        let same = Set::singleton(position);
        let mut found = vec![(base, same.clone())];
        let values = manifest.feature(feature);
        if values.is_none() && feature != "default" {
            return Ok(Err(format!("it has no feature `{feature}`").into()));
        }
        let own = |feature: &str| {
            let key = Key::Feature(Rc::clone(name), bucket, Rc::from(feature));
            (self.id(key), same.clone())
        };
        for value in values.into_iter().flatten() {
            let (alias, asked) = match value {
                Value::Feature(other) if other == feature => continue,
                Value::Feature(other) => {
                    found.push(own(other));
                    continue;
                }
                Value::Dependency(alias) => (alias, None),
                Value::DependencyFeature { alias, feature: asked, is_weak } => {
                    if !is_weak && alias != feature && manifest.switches_on_alias(alias) {
                        found.push(own(alias));
                    }
                    (alias, Some(asked))
                }
            };
            for need in manifest.named(alias) {
                if let Some(reason) = foreign(need) {
                    return Ok(Err(reason));
                }
                self.announce(need);
                let mut features = features_of(need);
                features.extend(asked);
                self.require(base, need, features, &mut found)?;
            }
        }
        Ok(Ok(found))
    }

    /// What a choice falls on at a position.
    pub(super) fn choice(
        &self,
        name: &str,
        requirement: &str,
        position: u32,
    ) -> Result<(Bucket, Set), Error> {
        let matching = self.matching(name, requirement)?;
        matching.get(position as usize).cloned().ok_or_else(|| {
            Error::new(
                Kind::Failed,
                "no-version",
                format!("`{name}` has no version for {requirement}"),
            )
        })
    }
}

/// Why a dependency rules out its version: it comes from a registry that nobody configured.
fn foreign(need: Need<'_>) -> Option<Reason> {
    if need.known_key().is_some() {
        return None;
    }
    let (name, registry) = (need.package(), need.registry().unwrap_or_default());
    let registry = without_secret(registry);
    Some(
        format!(
            "it needs `{name}` from the registry `{registry}`, which is none of this project's"
        )
        .into(),
    )
}
