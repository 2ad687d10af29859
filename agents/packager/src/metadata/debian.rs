//! Debian packages as apt's lists and dpkg's status file describe them, reduced to what a resolver needs. Not the reading
//! of those files: that is `crate::io::debian`.

use std::sync::Arc;

use agents_versions::operator::Operator;
use agents_versions::{Family, Version};

use super::Hashes;
use crate::error::Error;

/// `all` in `Architecture`: the package is the same for every architecture.
pub const ALL: &str = "all";

/// One version of one package for one architecture.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its architecture; packages for [`ALL`] have the machine's own here, as apt treats them.
    pub architecture: String,
    /// The version as written.
    pub version: String,
    /// The version as it compares.
    pub key: Version,
    /// How it goes together with other architectures.
    pub multi_arch: MultiArch,
    /// What has to be there: `Pre-Depends` and `Depends`.
    pub depends: Vec<Group>,
    /// What is installed along unless it cannot be.
    pub recommends: Vec<Group>,
    /// What must not be there: `Conflicts` and `Breaks`.
    pub conflicts: Vec<Conflict>,
    /// Names under which it can be wanted too.
    pub provides: Vec<Provide>,
    /// `Essential` or `Protected`: never taken away.
    pub is_essential: bool,
    /// What `Priority` says, `required` first; decides between packages that provide the same.
    pub importance: u8,
    /// Whether it is installed now.
    pub is_installed: bool,
    /// Whether a person froze it there (`hold`).
    pub is_held: bool,
    /// apt's priority of it, the best of its sources; see `apt_preferences`.
    pub pin: i32,
    /// Where its file is, for what a list has.
    pub file: Option<File>,
}

/// The `.deb` of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative to its archive's root.
    pub path: String,
    /// What it must hash to.
    pub hashes: Hashes,
    /// Bytes.
    pub size: Option<u64>,
}

/// `Multi-Arch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiArch {
    /// For its own architecture only.
    #[default]
    No,
    /// Several architectures side by side, in one version.
    Same,
    /// One architecture serves all others.
    Foreign,
    /// Serves others where they say `name:any`.
    Allowed,
}

/// Alternatives (`a | b`), of which one has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group(pub Vec<Relation>);

/// One name with a bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relation {
    /// The package, real or provided.
    pub name: Arc<str>,
    /// `any` or an architecture after the name.
    pub qualifier: Option<Arc<str>>,
    /// The versions that do.
    pub bound: Option<Bound>,
}

/// `>= 1.2`.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The comparison.
    pub operator: Operator,
    /// As written.
    pub text: Arc<str>,
    /// As it compares.
    pub key: Version,
}

/// What must not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What is meant.
    pub relation: Relation,
    /// Whether it is one of `Breaks`.
    pub is_break: bool,
}

/// `name (= version)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provide {
    /// The name.
    pub name: String,
    /// The version under which it is provided, where there is one.
    pub version: Option<Version>,
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        (self.operator, &self.text) == (other.operator, &other.text)
    }
}

impl Eq for Bound {}

impl std::hash::Hash for Bound {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Bound {
    /// Reads `>= 1.2` without parentheses; a bare version means exactly it. `None` where it makes no sense.
    pub fn parse(text: &str) -> Option<Self> {
        const OPERATORS: [(&str, Operator); 7] = [
            ("<<", Operator::Less),
            ("<=", Operator::LessOrEqual),
            (">>", Operator::Greater),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::LessOrEqual),
            (">", Operator::GreaterOrEqual),
        ];
        let text = text.trim();
        let found = OPERATORS.iter().find_map(|(sign, it)| Some((*it, text.strip_prefix(sign)?)));
        let (operator, version) = found.unwrap_or((Operator::Equal, text));
        let version = version.trim();
        let key = Version::parse(Family::Debian, version).ok()?;
        Some(Self { operator, text: version.into(), key })
    }

    /// Whether a version is in.
    pub fn holds(&self, version: &Version) -> bool {
        self.operator.holds(version.cmp(&self.key))
    }

    /// The comparison as dpkg writes it.
    pub fn sign(&self) -> &'static str {
        match self.operator {
            Operator::Less => "<<",
            Operator::LessOrEqual => "<=",
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::GreaterOrEqual => ">=",
            Operator::Greater => ">>",
        }
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        match &self.bound {
            Some(bound) => write!(formatter, " ({} {})", bound.sign(), bound.text),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, relation) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { " | " };
            write!(formatter, "{separator}{relation}")?;
        }
        Ok(())
    }
}

impl Package {
    /// Whether the package, wanted by `from`, meets a relation under its own name.
    pub fn meets(&self, relation: &Relation, from: &str) -> bool {
        *self.name == *relation.name
            && self.serves(relation, from)
            && relation.bound.as_ref().is_none_or(|bound| bound.holds(&self.key))
    }

    /// Whether it meets a relation through something that it provides. A bound asks for a provided version.
    pub fn provides(&self, relation: &Relation, from: &str) -> bool {
        let is_meant = |provide: &Provide| {
            *provide.name == *relation.name
                && match (&relation.bound, &provide.version) {
                    (None, _) => true,
                    (Some(bound), Some(version)) => bound.holds(version),
                    (Some(_), None) => false,
                }
        };
        self.serves(relation, from) && self.provides.iter().any(is_meant)
    }

    /// Whether its architecture can serve a relation that a package of the architecture `from` has.
    fn serves(&self, relation: &Relation, from: &str) -> bool {
        match relation.qualifier.as_deref() {
            Some("any") => {
                self.architecture == from
                    || matches!(self.multi_arch, MultiArch::Allowed | MultiArch::Foreign)
            }
            Some(architecture) => self.architecture == architecture,
            None => self.architecture == from || self.multi_arch == MultiArch::Foreign,
        }
    }

    /// Whether it forbids another package: one never forbids itself, and what is `same` forbids no other architecture of
    /// itself by what it provides.
    pub fn forbids(&self, conflict: &Conflict, other: &Package) -> bool {
        if self.name == other.name {
            return false;
        }
        let relation = &conflict.relation;
        // A conflict without an architecture is about all of them.
        let from = match relation.qualifier.as_deref() {
            None | Some("any") => &other.architecture,
            Some(architecture) => architecture,
        };
        if other.architecture != *from {
            return false;
        }
        let plain = Relation { qualifier: None, ..relation.clone() };
        other.meets(&plain, from) || other.provides(&plain, from)
    }
}

/// Where a resolver gets packages from.
pub trait Metadata {
    /// The machine's own architecture.
    fn native(&self) -> &str;
    /// Every version of the packages of a name, of all architectures.
    ///
    /// # Errors
    /// Where a list is beyond a bound.
    fn named(&self, name: &str) -> Result<Arc<[Arc<Package>]>, Error>;
    /// Every version of every package that provides a name and is not called so.
    ///
    /// # Errors
    /// As above.
    fn providers(&self, name: &str) -> Result<Arc<[Arc<Package>]>, Error>;
    /// What is installed.
    fn installed(&self) -> &[Arc<Package>];
    /// Whether what is recommended is installed along.
    fn follows_recommends(&self) -> bool;
}
