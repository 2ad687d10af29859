//! What features switch on, exactly as cargo's resolver (not its later feature resolver) sees it.
//!
//! Two rules surprise: `pkg?/feat` puts `pkg` into the lock although nothing else asks for it, and `pkg/feat` on an
//! optional dependency also switches on the feature named `pkg`, where there is one.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::cargo::{Listed, Need};

/// One entry of a feature's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// `other`: another feature.
    Feature(&'a str),
    /// `dep:alias`.
    Dependency(&'a str),
    /// `alias/feature` or `alias?/feature`.
    DependencyFeature { alias: &'a str, feature: &'a str, is_weak: bool },
}

impl<'a> Value<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        if let Some(alias) = text.strip_prefix("dep:") {
            return Value::Dependency(alias);
        }
        match text.split_once('/') {
            None => Value::Feature(text),
            Some((alias, feature)) => match alias.strip_suffix('?') {
                Some(alias) => Value::DependencyFeature { alias, feature, is_weak: true },
                None => Value::DependencyFeature { alias, feature, is_weak: false },
            },
        }
    }
}

/// The features and dependencies of one version or member, where they lie.
#[derive(Clone, Copy)]
pub(super) struct Manifest<'a>(pub(super) Listed<'a>);

impl<'a> Manifest<'a> {
    /// The dependencies that can play a part.
    pub(super) fn needs(self) -> impl Iterator<Item = Need<'a>> {
        self.0.needs()
    }

    /// Those that go by one name; several where targets or kinds differ.
    pub(super) fn named(self, alias: &str) -> impl Iterator<Item = Need<'a>> {
        self.0.needs().filter(move |need| need.alias() == alias)
    }

    /// What a feature lists; `None` where there is no such feature. An optional dependency is a feature by itself
    /// unless some feature mentions it with `dep:`.
    pub(super) fn feature(self, name: &str) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        self.0.feature(name).map(|values| values.map(Value::new))
    }

    /// Whether there is such a feature.
    pub(super) fn has_feature(self, name: &str) -> bool {
        self.0.feature(name).is_some()
    }

    /// Whether `alias/feature` also switches on a feature named like the dependency.
    pub(super) fn switches_on_alias(self, alias: &str) -> bool {
        self.named(alias).any(Need::is_optional) && self.has_feature(alias)
    }

    /// Every feature that there is, the implicit ones included.
    pub(super) fn all_features(self) -> BTreeSet<&'a str> {
        self.0.features().map(|(name, _)| name).collect()
    }

    /// Follows features to the end. Fails with the name of one that does not exist.
    pub(super) fn activate(
        self,
        wanted: impl IntoIterator<Item = &'a str>,
    ) -> Result<Activation<'a>, String> {
        let mut activation = Activation::default();
        let mut stack: Vec<&'a str> = wanted.into_iter().collect();
        while let Some(name) = stack.pop() {
            if !activation.features.insert(name) {
                continue;
            }
            let values = self.feature(name).ok_or_else(|| name.to_owned())?;
            for value in values {
                match value {
                    Value::Feature(feature) => stack.push(feature),
                    Value::Dependency(alias) => {
                        activation.aliases.entry(alias).or_default();
                    }
                    Value::DependencyFeature { alias, feature, is_weak } => {
                        activation.aliases.entry(alias).or_default().insert(feature);
                        if !is_weak && self.switches_on_alias(alias) {
                            stack.push(alias);
                        }
                    }
                }
            }
        }
        Ok(activation)
    }

    /// The dependencies that are on, with all features asked of them (`default` among them).
    pub(super) fn active(self, activation: &Activation<'a>) -> Vec<(Need<'a>, BTreeSet<&'a str>)> {
        let mut active = Vec::new();
        for need in self.needs() {
            let asked = activation.aliases.get(need.alias());
            if need.is_optional() && asked.is_none() {
                continue;
            }
            let mut features = features_of(need);
            features.extend(asked.into_iter().flatten());
            active.push((need, features));
        }
        active
    }
}

/// The features that a dependency itself asks for.
pub(super) fn features_of(need: Need<'_>) -> BTreeSet<&str> {
    need.features().chain(need.has_default().then_some("default")).collect()
}

/// What a set of features comes to.
#[derive(Debug, Default)]
pub(super) struct Activation<'a> {
    /// The features with all that they imply.
    pub(super) features: BTreeSet<&'a str>,
    /// The dependencies that they mention, with the features asked of each.
    pub(super) aliases: BTreeMap<&'a str, BTreeSet<&'a str>>,
}
