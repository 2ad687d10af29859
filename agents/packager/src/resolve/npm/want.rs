//! What stands on the right of a dependency: a range, a version, a tag, an alias, or something not from a registry.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::locals::LocalId;
use super::texts::digest;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::limits::{NPM_WANT_ALTERNATIVES_MAX, NPM_WANT_BYTES_MAX, NPM_WANTS_MAX};
use crate::manifest::package_json::named::{MORE_BEHIND, Named, named, told};
use agents_versions::npm::{Range, Version};
use agents_versions::shorten;

/// Why a repository is refused.
pub(super) const GIT: &str = "a git repository";

/// A dependency's text, understood.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// Versions inside a range.
    Range {
        /// The range.
        range: Range,
        /// `*` or nothing: even a pre-release that `latest` points to is welcome.
        any: bool,
    },
    /// One version.
    Exact {
        /// The version in its canonical text, as registries key it.
        text: String,
        /// The range of that version.
        range: Range,
    },
    /// Whatever a dist-tag points to.
    Tag(String),
    /// Another package under this name: `npm:real@range`.
    Alias {
        /// The real package's name.
        package: String,
        /// What is wanted of it; never another alias.
        want: Box<Want>,
    },
    /// One of the project's own packages.
    Local(LocalId),
    /// An archive that is named itself; see [`super::archives::Archives`].
    Archive(Arc<str>),
    /// Not from a registry, or not readable.
    Unsupported(&'static str),
}

/// A want with its text.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) text: Arc<str>,
    pub(super) digest: u64,
    pub(super) want: Want,
}

/// What each alternative takes, about.
const ALTERNATIVE_BYTES: usize = 200;

/// Texts that were understood before. The same ones stand in the tables of thousands of versions.
static UNDERSTOOD: LazyLock<Mutex<HashMap<Arc<str>, Arc<Wanted>>>> = LazyLock::new(Mutex::default);

impl Wanted {
    fn new(text: &str) -> Self {
        Self { text: text.into(), digest: digest(text), want: Want::parse(text) }
    }

    /// The same as a new one, once for every text.
    pub(super) fn shared(text: &str) -> Arc<Self> {
        if text.len() > NPM_WANT_BYTES_MAX || alternatives(text) > NPM_WANT_ALTERNATIVES_MAX {
            return Arc::new(Self::new(text));
        }
        let understood = || UNDERSTOOD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wanted) = understood().get(text) {
            return Arc::clone(wanted);
        }
        let wanted = Arc::new(Self::new(text));
        let mut understood = understood();
        // What is still wanted comes back by itself; nothing has to be known of who was used last.
        if understood.len() >= NPM_WANTS_MAX {
            understood.clear();
        }
        understood.insert(Arc::clone(&wanted.text), Arc::clone(&wanted));
        wanted
    }
}

impl Wanted {
    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + alternatives(&self.text) * ALTERNATIVE_BYTES
    }
}

fn alternatives(text: &str) -> usize {
    1 + text.matches("||").count()
}

impl Want {
    /// Reads the right side of a dependency as npm does.
    pub(super) fn parse(text: &str) -> Self {
        match named(text) {
            Some(Named::Address) => return Want::Archive(text.into()),
            Some(Named::Path { .. }) => return Want::Unsupported("a path on this machine"),
            Some(Named::Git) => return Want::Unsupported(GIT),
            Some(Named::Refused(why)) => return Want::Unsupported(why),
            None => {}
        }
        if text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("npm:")) {
            return Self::parse_alias(&text[4..]);
        }
        Self::parse_registry(text.trim())
    }

    fn parse_registry(text: &str) -> Self {
        if let Ok(version) = Version::parse_loose(text)
            && let Ok(range) = Range::parse(text)
        {
            return Want::Exact { text: version.to_string(), range };
        }
        if let Ok(range) = Range::parse(text) {
            return Want::Range { any: matches!(text, "" | "*"), range };
        }
        let url_safe = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()".contains(c);
        if text.is_empty() || !text.chars().all(url_safe) {
            return Want::Unsupported("neither a version range nor a tag");
        }
        Want::Tag(text.to_owned())
    }

    fn parse_alias(text: &str) -> Self {
        let (package, rest) = match text.get(1..).and_then(|rest| rest.find('@')) {
            Some(at) => (&text[..=at], &text[at + 2..]),
            None => (text, ""),
        };
        if crate::spec::check_name(Ecosystem::Npm, package).is_err() {
            return Want::Unsupported("an alias without a valid package name");
        }
        match Self::parse(if rest.is_empty() { "*" } else { rest }) {
            Want::Alias { .. } => Want::Unsupported("an alias of an alias"),
            Want::Archive(_) => Want::Unsupported("an alias of what no registry has"),
            unsupported @ Want::Unsupported(_) => unsupported,
            want => Want::Alias { package: package.to_owned(), want: Box::new(want) },
        }
    }

    /// The registry's name of the package that is wanted under `name`.
    pub(super) fn package<'a>(&'a self, name: &'a str) -> &'a str {
        match self {
            Want::Alias { package, .. } => package,
            _ => name,
        }
    }

    /// Without the alias around it.
    pub(super) fn target(&self) -> &Want {
        match self {
            Want::Alias { want, .. } => want,
            want => want,
        }
    }

    /// Whether a package of this version does; `None` is a package that could not be loaded.
    pub(super) fn accepts(&self, version: Option<&Version>) -> bool {
        match self.target() {
            Want::Range { any: true, .. } => true,
            Want::Range { range, .. } | Want::Exact { range, .. } => {
                version.is_some_and(|version| range.satisfies(version))
            }
            // A tag is settled when the package is chosen; what a registry gave under it stays good.
            Want::Tag(_) => version.is_some(),
            Want::Alias { .. } | Want::Local(_) | Want::Archive(_) | Want::Unsupported(_) => false,
        }
    }

    /// The range, where there is one.
    pub(super) fn range(&self) -> Option<&Range> {
        match self.target() {
            Want::Range { range, .. } | Want::Exact { range, .. } => Some(range),
            _ => None,
        }
    }
}

/// The text of a dependency for people: short, and without what may be a secret.
pub(super) fn shown(text: &str) -> String {
    shorten(&told(text))
}

/// The error for a dependency that Bolide does not install.
pub(super) fn unsupported(name: &str, text: &str, why: &str, dependent: &str) -> Error {
    let message = format!("{dependent} needs `{name}` from `{}`, which is {why}", shown(text));
    let hint = match why {
        GIT => {
            "git is not fetched from: name an archive of that commit by its `https:` address (hosts of repositories have one for \
             each), or make one with `npm pack` and name it as `file:NAME.tgz`; or ask for a published version"
        }
        MORE_BEHIND => {
            "name an address without `?` and `#`, or fetch the archive (or make it with `npm pack`) and name it as `file:NAME.tgz`; in \
             the place of what a package asks for, by `overrides` of package.json"
        }
        _ => {
            "name a published version, or an archive by its address or, in the project's own manifest, by its path"
        }
    };
    Error::new(Kind::Usage, "unsupported-dependency", message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_take_much_memory_is_not_kept_for_others() {
        let is_kept = |text: &str| Arc::ptr_eq(&Wanted::shared(text), &Wanted::shared(text));
        assert!(is_kept("^1.2.3 || 7.x"));
        assert!(is_kept(&["1"; NPM_WANT_ALTERNATIVES_MAX].join("||")));
        assert!(!is_kept(&["1"; NPM_WANT_ALTERNATIVES_MAX + 1].join("||")));
        assert!(!is_kept(&"1".repeat(NPM_WANT_BYTES_MAX + 1)));
    }
}
