//! What features switch on, exactly as cargo's resolver (not its later feature resolver) sees it.
//!
//! Two rules surprise: `pkg?/feat` puts `pkg` into the lock although nothing else asks for it, and `pkg/feat` on an
//! optional dependency also switches on the feature named `pkg`, where there is one.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::cargo::{Dependency, DependencyKind, Version};

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

/// The features and dependencies of one version or member.
#[derive(Clone, Copy)]
pub(super) struct Manifest<'a> {
    pub(super) dependencies: &'a [Dependency],
    pub(super) features: &'a BTreeMap<String, Vec<String>>,
    /// Whether dev dependencies count.
    pub(super) is_member: bool,
}

impl<'a> Manifest<'a> {
    /// The dependencies that can play a part, with their positions.
    pub(super) fn dependencies(self) -> impl Iterator<Item = (usize, &'a Dependency)> {
        let counts =
            move |dependency: &Dependency| self.is_member || dependency.kind != DependencyKind::Dev;
        self.dependencies.iter().enumerate().filter(move |(_, dependency)| counts(dependency))
    }

    /// Those that go by one name; several where targets or kinds differ.
    pub(super) fn named(self, alias: &'a str) -> impl Iterator<Item = (usize, &'a Dependency)> {
        self.dependencies().filter(move |(_, dependency)| dependency.alias == alias)
    }

    /// What a feature lists; `None` where there is no such feature. An optional dependency is a feature by itself
    /// unless some feature mentions it with `dep:`.
    pub(super) fn feature(self, name: &'a str) -> Option<Vec<Value<'a>>> {
        if let Some(values) = self.features.get(name) {
            return Some(values.iter().map(|value| Value::new(value)).collect());
        }
        let is_optional = self.dependencies.iter().any(|it| it.optional && it.alias == name);
        let is_mentioned = || {
            let values = self.features.values().flatten();
            values.into_iter().any(|value| Value::new(value) == Value::Dependency(name))
        };
        (is_optional && !is_mentioned()).then(|| vec![Value::Dependency(name)])
    }

    /// Whether `alias/feature` also switches on a feature named like the dependency.
    pub(super) fn switches_on_alias(self, alias: &'a str) -> bool {
        self.dependencies.iter().any(|it| it.optional && it.alias == alias)
            && self.feature(alias).is_some()
    }

    /// Every feature that there is, the implicit ones included.
    pub(super) fn all_features(self) -> BTreeSet<&'a str> {
        let explicit = self.features.keys().map(String::as_str);
        let optional = self.dependencies.iter().filter(|dependency| dependency.optional);
        let implicit = optional.map(|dependency| dependency.alias.as_str());
        explicit.chain(implicit.filter(|alias| self.feature(alias).is_some())).collect()
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
    pub(super) fn active(
        self,
        activation: &Activation<'a>,
    ) -> Vec<(&'a Dependency, BTreeSet<&'a str>)> {
        let mut active = Vec::new();
        for (_, dependency) in self.dependencies() {
            let asked = activation.aliases.get(dependency.alias.as_str());
            if dependency.optional && asked.is_none() {
                continue;
            }
            let mut features = features_of(dependency);
            features.extend(asked.into_iter().flatten());
            active.push((dependency, features));
        }
        active
    }
}

/// A published version's features and dependencies.
pub(super) fn of(version: &Version) -> Manifest<'_> {
    Manifest { dependencies: &version.dependencies, features: &version.features, is_member: false }
}

/// The features that a dependency itself asks for.
pub(super) fn features_of(dependency: &Dependency) -> BTreeSet<&str> {
    let default = dependency.default_features.then_some("default");
    dependency.features.iter().map(String::as_str).chain(default).collect()
}

/// What a set of features comes to.
#[derive(Debug, Default)]
pub(super) struct Activation<'a> {
    /// The features with all that they imply.
    pub(super) features: BTreeSet<&'a str>,
    /// The dependencies that they mention, with the features asked of each.
    pub(super) aliases: BTreeMap<&'a str, BTreeSet<&'a str>>,
}
