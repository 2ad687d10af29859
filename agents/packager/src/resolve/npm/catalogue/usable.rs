//! Which versions of a package count at all: none that was barred.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Catalogue;
use crate::metadata::npm::Packument;
use agents_versions::npm::Version;

impl Catalogue<'_> {
    /// Without versions that are barred; a tag that led to one of those leads to the highest that is left below it.
    pub(super) fn usable(&self, packument: Arc<Packument>) -> Arc<Packument> {
        // Nearly always nothing is, and no text has to be looked at.
        if self.barred.is_empty() {
            return packument;
        }
        let is_barred =
            |text: &str| self.barred.contains(&(packument.name.clone(), text.to_owned()));
        if !packument.versions.keys().any(is_barred) {
            return packument;
        }
        let versions = packument.versions.iter().filter(|(text, _)| !is_barred(text));
        let versions = versions.map(|(text, entry)| (text.to_owned(), entry));
        let mut left = Packument {
            name: packument.name.clone(),
            dist_tags: packument.dist_tags.clone(),
            versions: versions.collect(),
        };
        let parsed: Vec<(Version, &str)> =
            left.versions.ranked().filter_map(|one| Some((one.number()?, one.text()))).collect();
        for version in left.dist_tags.values_mut() {
            if left.versions.listed(version).is_some() {
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
