//! Crates of several registries in one resolution: the key by which a resolver knows a crate, and which registry an index entry means.
//!
//! The key of a crate of the project's default registry is its name, so that whoever has one registry pays nothing. Those of the others
//! are `name@1`, `name@2` and so on, in the order of [`Scope`]; no registry has a crate of such a name. An index entry can name any
//! address as the registry of a dependency; only those that the machine or the project is configured for are followed.

use std::borrow::Cow;
use std::sync::Arc;

/// What stands before the address of a sparse index, in configurations and locks.
pub const SPARSE: &str = "sparse+";
/// What stands before the address of an index in a git repository, in locks only.
pub const GIT: &str = "registry+";

/// Another registry than the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The name in cargo's configuration.
    pub name: String,
    /// Its index, as cargo's lock names it as a source: `sparse+https://.../`, or `registry+https://...` for one in a git repository
    /// that another registry stands for.
    pub index: String,
}

/// The registries of a project, as the crates of one of them see them.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Whose crates they are; the default registry is 0.
    home: usize,
    /// What the default registry is called in index entries of others.
    defaults: Arc<[String]>,
    /// The others, from 1 on.
    others: Arc<[Registry]>,
}

impl Scope {
    /// One for the crates of each registry, those of the default one and members first. `defaults` are the addresses by which others
    /// name the default registry.
    pub fn of_each(defaults: &[&str], others: &[Registry]) -> Vec<Arc<Self>> {
        let defaults: Arc<[String]> = defaults.iter().map(|it| canonical(it)).collect();
        let others: Arc<[Registry]> = others.into();
        let scope = |home| Self { home, defaults: defaults.clone(), others: others.clone() };
        (0..=others.len()).map(|home| Arc::new(scope(home))).collect()
    }

    /// The number of the registry that a dependency of such a crate comes from; `None` for one that nobody configured.
    fn number(&self, registry: Option<&str>) -> Option<usize> {
        let Some(registry) = registry else { return Some(self.home) };
        let wanted = canonical(registry);
        let other = self.others.iter().position(|other| canonical(&other.index) == wanted);
        let other = other.map(|at| at + 1);
        other.or_else(|| self.defaults.contains(&wanted).then_some(0))
    }

    /// Whether it is one of the registries.
    pub fn knows(&self, registry: &str) -> bool {
        self.number(Some(registry)).is_some()
    }

    /// The key of a dependency; `None` where its registry is none of these.
    pub fn key<'n>(&self, name: &'n str, registry: Option<&str>) -> Option<Cow<'n, str>> {
        self.number(registry).map(|number| key(name, number))
    }

    /// The key of a crate of the registry whose crates these are.
    pub(super) fn own<'n>(&self, name: &'n str) -> Cow<'n, str> {
        key(name, self.home)
    }

    /// What people call a crate: its name, and of which registry it is where that is not the default one.
    pub fn shown<'k>(&self, key: &'k str) -> Cow<'k, str> {
        let (name, number) = split(key);
        match number.checked_sub(1).and_then(|at| self.others.get(at)) {
            Some(registry) => Cow::Owned(format!("{name} ({})", registry.name)),
            None => Cow::Borrowed(name),
        }
    }

    /// The registry of a key; `None` for the default one.
    pub fn registry(&self, key: &str) -> Option<&Registry> {
        self.others.get(split(key).1.checked_sub(1)?)
    }
}

/// What a resolver calls a crate of the registry of this number.
pub fn key(name: &str, number: usize) -> Cow<'_, str> {
    match number {
        0 => Cow::Borrowed(name),
        number => Cow::Owned(format!("{name}@{number}")),
    }
}

/// A key as name and number.
pub fn split(key: &str) -> (&str, usize) {
    match key.split_once('@') {
        // What stands behind it was written here.
        Some((name, number)) => (name, number.parse().unwrap_or(usize::MAX)),
        None => (key, 0),
    }
}

/// One spelling of an index: cargo tells registries apart by protocol and address, not by a slash at the end.
pub fn canonical(index: &str) -> String {
    let index = index.trim();
    let (protocol, address) = match index.strip_prefix(SPARSE) {
        Some(address) => (SPARSE, address),
        None => ("", index.strip_prefix(GIT).unwrap_or(index)),
    };
    let address = url::Url::parse(address).map_or_else(|_| address.to_owned(), String::from);
    let address = address.trim_end_matches('/');
    format!("{protocol}{}", address.strip_suffix(".git").unwrap_or(address))
}

/// Whether two packages come from one registry; `None` is the default one. However its index is spelled.
pub fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    one == other || one.zip(other).is_some_and(|(one, other)| canonical(one) == canonical(other))
}

/// An index as it may be shown.
pub fn without_secret(index: &str) -> String {
    let index = index.trim();
    let (protocol, address) = [SPARSE, GIT]
        .into_iter()
        .find_map(|protocol| Some((protocol, index.strip_prefix(protocol)?)))
        .unwrap_or(("", index));
    let shown = url::Url::parse(address)
        .map_or_else(|_| String::from("?"), |url| crate::io::secret::shown(&url));
    agents_versions::shorten(&format!("{protocol}{shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_means_a_registry_that_is_configured_or_none() {
        let other = |name: &str, index: &str| Registry { name: name.into(), index: index.into() };
        let others = [
            other("one", "sparse+https://one.example.invalid/index/"),
            other("two", "sparse+https://two.example.invalid/"),
        ];
        let defaults = ["https://git.example.invalid/index", "sparse+https://d.example.invalid/"];
        let scopes = Scope::of_each(&defaults, &others);
        let key = |home: usize, registry: Option<&str>| {
            scopes[home].key("leaf", registry).map(Cow::into_owned)
        };
        assert_eq!(key(0, None).as_deref(), Some("leaf"));
        assert_eq!(key(2, None).as_deref(), Some("leaf@2"));
        assert_eq!(key(2, Some("https://git.example.invalid/index.git")).as_deref(), Some("leaf"));
        assert_eq!(key(2, Some("sparse+https://d.example.invalid")).as_deref(), Some("leaf"));
        let one = Some("sparse+https://ONE.example.invalid/index");
        assert_eq!(key(0, one).as_deref(), Some("leaf@1"));
        // Another protocol is another registry, and a name is no address.
        assert_eq!(key(0, Some("https://one.example.invalid/index/")), None);
        assert_eq!(key(0, Some("one")), None);
        assert_eq!(key(0, Some("sparse+http://127.0.0.1:22/")), None);
        assert_eq!(scopes[0].shown("leaf@2"), "leaf (two)");
        assert_eq!(scopes[1].shown("leaf"), "leaf");
        assert_eq!(scopes[0].registry("leaf@1"), Some(&others[0]));
        assert_eq!(scopes[0].registry("leaf"), None);
        assert_eq!(split("leaf@2"), ("leaf", 2));
    }
}
