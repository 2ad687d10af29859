//! Which versions of a package count at all: none that was barred, none that is too young.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Catalogue;
use crate::metadata::npm::{Packument, Version as Entry};
use crate::options::Moment;
use agents_versions::npm::Version;

impl Catalogue<'_> {
    /// Without versions that are barred or too young; a tag that led to one of those leads to the highest that is left
    /// below it.
    pub(super) fn usable(&self, packument: Arc<Packument>) -> Arc<Packument> {
        let before = self.choice.published_before;
        let before = before.filter(|_| !self.choice.always.contains(&packument.name));
        let is_barred = |text: &str| {
            !self.barred.is_empty()
                && self.barred.contains(&(packument.name.clone(), text.to_owned()))
        };
        let is_young = |entry: &Entry| {
            before.is_some_and(|before| {
                let published = entry.published.as_deref().and_then(Moment::parse);
                published.is_none_or(|published| published >= before)
            })
        };
        let gone = |text: &String, entry: &Arc<Entry>| is_barred(text) || is_young(entry);
        if (before.is_none() && self.barred.is_empty())
            || !packument.versions.iter().any(|(text, entry)| gone(text, entry))
        {
            return packument;
        }
        let mut left = (*packument).clone();
        left.versions.retain(|text, entry| !gone(text, entry));
        let parsed: Vec<(Version, &String)> = left
            .versions
            .keys()
            .filter_map(|text| Some((Version::parse_loose(text).ok()?, text)))
            .collect();
        for version in left.dist_tags.values_mut() {
            if left.versions.contains_key(version) {
                continue;
            }
            let Ok(tagged) = Version::parse_loose(version) else { continue };
            let below = parsed.iter().filter(|(one, _)| {
                *one < tagged && (tagged.is_prerelease() || !one.is_prerelease())
            });
            if let Some((_, text)) = below.max_by(|(left, _), (right, _)| left.cmp(right)) {
                (*text).clone_into(version);
            }
        }
        Arc::new(left)
    }

    /// Versions that are not taken from now on; to be said before anything is asked for.
    pub(in super::super) fn bar(&mut self, versions: &BTreeSet<(String, String)>) {
        self.barred = versions.iter().cloned().collect();
    }
}
