//! `bolide.lock`: what every environment of a project is made of, exactly, for people to keep under version control.
//!
//! It says versions, digests, edges and places, never where to fetch from: an artefact comes from the registry that the
//! machine is configured for, and its digest decides whether it is the right one. So a lock that somebody else wrote can at most
//! ask for other packages, in sight of whoever reads it. Of an npm package that is named by an archive it says which one, without what may be
//! a secret; that is compared with what the manifests name, and followed only there. Where crates come from several registries, it says which one; that is
//! compared with what the machine is configured for, and asked only where it is the same. [`Lock::read`] believes nothing; [`Lock::render`] gives equal bytes for
//! equal locks. `import` reads what other tools locked.

pub(crate) mod import;
mod limits;
mod read;
pub(crate) mod recent;
mod wants;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::cargo::scope::canonical;
use crate::resolution::{Package, Resolution};

pub(crate) use wants::{of_npm, of_npm_locals, of_pypi};

/// Its name in a project.
pub const FILE: &str = "bolide.lock";

/// The version of the format.
pub const VERSION: u32 = 1;

/// The version of a lock with links, which programs that know the first one only would take for damaged.
pub const VERSION_WITH_LINKS: u32 = 2;

/// Everything that the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// One part for each ecosystem that is used.
    pub parts: BTreeMap<Ecosystem, Part>,
}

/// What one ecosystem has locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the manifests asked for when it was made, one line each, sorted. Empty for cargo, which is always asked anew: its
    /// own lock stands beside.
    pub wants: Vec<String>,
    /// What it was made for (`cpython-3.13-linux-x86_64`); empty where it is right everywhere.
    pub target: String,
    /// The packages and links. Addresses are empty, there are no warnings, and links have no commands: these are said by the manifests
    /// of the project's own packages.
    pub resolution: Resolution,
}

/// A part that lies elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartView<'p> {
    pub(crate) wants: &'p [String],
    pub(crate) target: &'p str,
    /// Its addresses and warnings are not looked at.
    pub(crate) resolution: &'p Resolution,
}

/// Everything that a lock is to say, lying elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Parts<'p>(BTreeMap<Ecosystem, PartView<'p>>);

impl Part {
    fn view(&self) -> PartView<'_> {
        PartView { wants: &self.wants, target: &self.target, resolution: &self.resolution }
    }
}

impl<'p> Parts<'p> {
    /// Puts what was decided for an ecosystem in the place of what was locked. Nothing asked for and nothing found is not kept.
    pub(crate) fn put(&mut self, part: PartView<'p>) {
        let ecosystem = part.resolution.ecosystem;
        let Resolution { packages, links, .. } = part.resolution;
        if part.wants.is_empty() && packages.is_empty() && links.is_empty() {
            self.0.remove(&ecosystem);
        } else {
            self.0.insert(ecosystem, part);
        }
    }

    /// The file's text; see [`Lock::render`].
    ///
    /// # Errors
    /// `lock-unwritable` for what could not be read again.
    pub(crate) fn render(&self) -> Result<Option<String>> {
        write::render(&self.0)
    }
}

impl Lock {
    /// Reads the file's text.
    ///
    /// # Errors
    /// `lock-damaged` for what is no lock, `lock-version` for one of a newer program.
    pub fn read(text: &str) -> Result<Self> {
        read::read(text)
    }

    /// The file's text, the same for equal locks whatever the order of their packages is; `None` where nothing is locked.
    ///
    /// # Errors
    /// `lock-unwritable` for what could not be read again.
    pub fn render(&self) -> Result<Option<String>> {
        self.view().render()
    }

    /// Its parts where they are.
    pub(crate) fn view(&self) -> Parts<'_> {
        Parts(self.parts.iter().map(|(ecosystem, part)| (*ecosystem, part.view())).collect())
    }
}

/// A package by what tells it from all others of its ecosystem.
type Identity<'p> = (&'p str, &'p str, &'p str, Cow<'p, str>);

fn identity(package: &Package) -> Identity<'_> {
    // Of one version of an npm package or a crate a registry has one file, whatever it calls it.
    let file = match package.ecosystem {
        Ecosystem::Pypi => Cow::Borrowed(package.artifact.file_name.as_str()),
        Ecosystem::Cargo => source(package),
        Ecosystem::Npm => Cow::Borrowed(package.artifact.source.as_deref().unwrap_or_default()),
        Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => Cow::default(),
    };
    (&package.name, &package.version, &package.place, file)
}

/// The registry of a crate however its index is spelled; empty for the default one.
fn source(package: &Package) -> Cow<'_, str> {
    let source = package.artifact.source.as_deref();
    source.map_or_else(Cow::default, |source| Cow::Owned(canonical(source)))
}

/// What tells a package from another one of the same purl: npm's place, and the registry of a crate where that is not the default one.
fn beside(package: &Package) -> Option<&str> {
    let source = package.artifact.source.as_deref().filter(|_| package.place.is_empty());
    source.or_else(|| Some(package.place.as_str()).filter(|place| !place.is_empty()))
}

/// Positions of packages in the order in which locks have them.
fn order(packages: &[Package]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..packages.len()).collect();
    // A resolution of npm mostly has them so.
    if !packages.is_sorted_by_key(identity) {
        order.sort_by_cached_key(|index| identity(&packages[*index]));
    }
    order
}

/// Whether two resolutions mean the same environment: packages, digests, places, edges. Where they are fetched from, what
/// registries say about them, and the order in which they stand do not count.
pub fn is_same(left: &Resolution, right: &Resolution) -> bool {
    if left.links != right.links {
        return false;
    }
    if left.ecosystem != right.ecosystem || left.packages.len() != right.packages.len() {
        return false;
    }
    let (left_order, right_order) = (order(&left.packages), order(&right.packages));
    let mut pairs = left_order.into_iter().zip(right_order);
    pairs.all(|(one, other)| {
        let (one, other) = (&left.packages[one], &right.packages[other]);
        let edges = |package: &Package, resolution: &Resolution| -> BTreeSet<_> {
            let used = package.dependencies.iter().filter_map(|at| resolution.packages.get(*at));
            used.map(|used| (used.purl(), used.place.clone(), source(used).into_owned())).collect()
        };
        identity(one) == identity(other)
            && one.artifact.hashes == other.artifact.hashes
            && one.direct == other.direct
            && one.bin == other.bin
            && one.extras == other.extras
            && edges(one, left) == edges(other, right)
    })
}

/// A lock that cannot be believed.
fn damaged(problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::Verification, "lock-damaged", format!("`{FILE}`: {problem}")).hint(
        "bring it back from version control, or remove it and run `bolide install` to lock anew",
    )
}

/// There is no lock to follow.
pub(crate) fn missing(ecosystem: Ecosystem) -> Error {
    let message = format!("`--frozen`: nothing is locked for packages of {ecosystem} in `{FILE}`");
    Error::new(Kind::Stale, "lock-missing", message).hint(
        "run `bolide install` without `--frozen` once, and keep `bolide.lock` with the project",
    )
}

/// What the manifests ask for is not what was locked.
pub(crate) fn stale(ecosystem: Ecosystem, difference: &str) -> Error {
    let message = format!(
        "`--frozen`: `{FILE}` and the manifests disagree about packages of {ecosystem}: {difference}"
    );
    Error::new(Kind::Stale, "lock-stale", message).hint(
        "run `bolide install` without `--frozen` to bring the lock in line with the manifests",
    )
}

/// The first difference between what was wanted and what is, for people; the order does not count.
pub(crate) fn difference(locked: &[String], now: &[String]) -> Option<String> {
    let known = |lines: &[String]| lines.iter().cloned().collect::<HashSet<String>>();
    let (locked_lines, lines) = (known(locked), known(now));
    let fresh = now.iter().find(|line| !locked_lines.contains(*line));
    let gone = locked.iter().find(|line| !lines.contains(*line));
    match (fresh, gone) {
        (None, None) => None,
        (Some(fresh), None) => Some(format!("`{fresh}` is not locked")),
        (None, Some(gone)) => Some(format!("`{gone}` is locked and not asked for")),
        (Some(fresh), Some(gone)) => Some(format!("`{fresh}` is asked for, locked is `{gone}`")),
    }
}
