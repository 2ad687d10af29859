//! `[features]` of a package that is not published: what cargo refuses there, and what of it concerns crates of the registry.

use std::collections::{BTreeMap, BTreeSet};

use super::Manifest;
use agents_versions::shorten;

/// What a feature's list names.
struct Named<'a> {
    /// A dependency or a feature.
    name: &'a str,
    is_dependency: bool,
    is_weak: bool,
    has_feature: bool,
}

impl<'a> Named<'a> {
    fn new(text: &'a str) -> Self {
        let (name, has_feature) = match text.split_once('/') {
            Some((name, _)) => (name, true),
            None => (text, false),
        };
        let (name, is_dependency) = match name.strip_prefix("dep:") {
            Some(name) => (name, true),
            None => (name, false),
        };
        match name.strip_suffix('?').filter(|_| has_feature) {
            Some(name) => Self { name, is_dependency, is_weak: true, has_feature },
            None => Self { name, is_dependency, is_weak: false, has_feature },
        }
    }
}

/// The first thing in the features that cargo would refuse, in words.
pub(super) fn problem(manifest: &Manifest) -> Option<String> {
    let plain = manifest.dependencies.iter().map(|it| (it.alias.as_str(), it.optional));
    let local = manifest.path_dependencies.iter().map(|it| (it.alias.as_str(), it.optional));
    // Of several entries of one name (for several targets) one that is optional is enough.
    let mut optional: BTreeMap<&str, bool> = BTreeMap::new();
    for (alias, is_optional) in plain.chain(local) {
        *optional.entry(alias).or_default() |= is_optional;
    }
    let values = || manifest.features.values().flatten();
    let mentioned: BTreeSet<&str> = values().filter_map(|text| text.strip_prefix("dep:")).collect();
    for (feature, list) in &manifest.features {
        for text in list {
            let named = Named::new(text);
            let what = match optional.get(named.name) {
                _ if named.is_dependency && named.has_feature => {
                    "`dep:` and a feature do not go together"
                }
                None if named.is_dependency || named.has_feature => "there is no such dependency",
                Some(false) if named.is_dependency || named.is_weak => {
                    "the dependency is not optional"
                }
                _ if named.is_dependency || named.has_feature => continue,
                _ if manifest.features.contains_key(named.name) => continue,
                Some(true) if !mentioned.contains(named.name) => continue,
                Some(true) => "write it with `dep:`, as other features do",
                Some(false) => "the dependency is not optional, so it is no feature",
                None => "there is neither a feature nor an optional dependency of that name",
            };
            let (feature, text) = (shorten(feature), shorten(text));
            return Some(format!("the feature `{feature}` lists `{text}`: {what}"));
        }
    }
    None
}

impl Manifest {
    /// The features without what they say of packages of the same workspace, all of whose features are on in a lock anyway.
    pub fn features_of_crates(&self) -> BTreeMap<String, Vec<String>> {
        let is_crate = |alias: &str| self.dependencies.iter().any(|it| it.alias == alias);
        let is_local = |text: &&String| {
            let named = Named::new(text);
            let is_feature = !named.is_dependency
                && !named.has_feature
                && self.features.contains_key(named.name);
            !is_feature
                && !is_crate(named.name)
                && self.path_dependencies.iter().any(|it| it.alias == named.name)
        };
        let kept = |list: &Vec<String>| list.iter().filter(|it| !is_local(it)).cloned().collect();
        self.features.iter().map(|(name, list)| (name.clone(), kept(list))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::cargo_toml::read;

    fn said(features: &str) -> Option<String> {
        let text = format!(
            "[package]\nname = \"p\"\n[dependencies]\na = \"1\"\nb = {{ version = \"1\", optional = true }}\n\
             c = {{ version = \"1\", optional = true }}\nnear = {{ path = \"near\", optional = true }}\n\
             [features]\n{features}\n"
        );
        read("Cargo.toml", "", &text, None).err().map(|error| error.message)
    }

    #[test]
    fn what_cargo_refuses_is_refused() {
        for (features, words) in [
            ("f = [\"a?/x\"]", "`a?/x`: the dependency is not optional"),
            ("f = [\"dep:a\"]", "not optional"),
            ("f = [\"dep:z\"]", "no such dependency"),
            ("f = [\"z/x\"]", "no such dependency"),
            ("f = [\"dep:b/x\"]", "do not go together"),
            ("f = [\"z\"]", "neither a feature"),
            ("f = [\"a\"]", "no feature"),
            ("f = [\"b\"]\ng = [\"dep:b\"]", "with `dep:`"),
        ] {
            assert!(said(features).is_some_and(|said| said.contains(words)), "{features}");
        }
        assert_eq!(
            said("f = [\"a/x\", \"b?/x\", \"c\", \"dep:near\", \"g\"]\ng = [\"near/x\"]"),
            None
        );
    }

    #[test]
    fn what_is_said_of_neighbours_does_not_reach_the_registry() {
        for (list, kept) in [
            ("\"near\", \"near/x\", \"a/x\", \"g\"", vec!["a/x", "g"]),
            ("\"near/x\", \"near?/y\", \"dep:near\", \"a?/x\", \"dep:a\"", vec!["a?/x", "dep:a"]),
        ] {
            let text = format!(
                "[package]\nname = \"p\"\n[dependencies]\na = {{ version = \"1\", optional = true }}\n\
                 near = {{ path = \"near\", optional = true }}\n[features]\nf = [{list}]\ng = []\n"
            );
            let manifest = read("Cargo.toml", "", &text, None).expect("readable");
            assert_eq!(manifest.features_of_crates()["f"], kept);
        }
    }
}
