//! Packages of Debian: what apt would have to install, upgrade and take away so that what is asked for is there and nothing
//! that stays is broken.
//!
//! As apt does, a package is taken in its candidate version (the one with the highest priority) or stays in the installed one; a
//! version that is asked for by name counts too. What is installed stays unless something excludes it, then it is upgraded,
//! and taken away only last. Of alternatives the first that works is taken, one that is there anyway before it. What is
//! recommended is installed along where it can be. Only what the change touches is looked at: a package that nobody upgrades,
//! removes or excludes stays as it is, whatever it needs. Nothing here executes anything.

mod assemble;
mod provider;
mod stock;
#[cfg(test)]
mod tests;
mod vocabulary;

use pubgrub::PubGrubError;

use self::provider::Provider;
use super::conflict::explain;
use super::indexed::ROOT;
use super::{Change, Conflict, KeepOn, Repair, ResolveError};
use crate::error::{Error, Kind};
use crate::limits::{REPAIR_ATTEMPTS_MAX, REPAIRS_MAX};
use crate::metadata::debian::{Bound, Metadata};
use crate::resolution::Resolution;

/// One package that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its name, `name` or `name:architecture`.
    pub name: String,
    /// The versions that would do.
    pub bound: Option<Bound>,
    /// Whether it is to be taken away.
    pub is_removal: bool,
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What to install and to remove.
    pub wishes: &'a [Wish],
    /// Whether to go on.
    pub keep_on: KeepOn<'a>,
}

/// The answer: the packages of the change, and what it takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Packages that are installed or change their version, and those asked for that stay.
    pub resolution: Resolution,
    /// The versions that are replaced or taken away, and those asked for that stay; `packages` only.
    pub before: Resolution,
    /// Names of what is taken away, with architectures where these are foreign.
    pub removed: Vec<String>,
}

/// Finds what has to change.
///
/// # Errors
/// [`ResolveError::Conflict`] where nothing does, with repairs that were checked; `unknown-package`, `virtual-package` where
/// several packages provide what is asked for; what reading the lists said; `deadline`.
pub fn resolve(request: &Request<'_>, metadata: &dyn Metadata) -> Result<Resolved, ResolveError> {
    match solve(request, metadata)? {
        Ok(resolved) => Ok(resolved),
        Err(explanation) => {
            let repairs = repairs(request, metadata);
            Err(ResolveError::Conflict(Conflict { explanation, repairs }))
        }
    }
}

fn solve(
    request: &Request<'_>,
    metadata: &dyn Metadata,
) -> Result<Result<Resolved, String>, Error> {
    let provider = Provider::new(request, metadata)?;
    match pubgrub::resolve(&provider, ROOT, 0u32) {
        Ok(selected) => Ok(Ok(assemble::assemble(&provider, selected)?)),
        Err(PubGrubError::NoSolution(tree)) => Ok(Err(explain(tree, &provider).text)),
        Err(
            PubGrubError::ErrorRetrievingDependencies { source, .. }
            | PubGrubError::ErrorChoosingVersion { source, .. }
            | PubGrubError::ErrorInShouldCancel(source),
        ) => Err(source),
    }
}

/// Wishes without a bound, then wishes dropped, one at a time; each was tried.
fn repairs(request: &Request<'_>, metadata: &dyn Metadata) -> Vec<Repair> {
    let loosen = request.wishes.iter().enumerate().filter(|(_, wish)| wish.bound.is_some());
    let attempts = loosen.map(|(at, _)| (at, false));
    let drops = (0..request.wishes.len()).filter(|_| request.wishes.len() > 1);
    let mut found: Vec<Repair> = Vec::new();
    for (at, is_drop) in attempts.chain(drops.map(|at| (at, true))).take(REPAIR_ATTEMPTS_MAX) {
        if found.len() == REPAIRS_MAX || (request.keep_on)().is_err() {
            break;
        }
        let mut wishes = request.wishes.to_vec();
        let from = wishes[at].to_string();
        match is_drop {
            true => drop(wishes.remove(at)),
            false => wishes[at].bound = None,
        }
        let is_known = found.iter().any(|one| one.changes.iter().any(|it| it.from == from));
        let tried = Request { wishes: &wishes, ..*request };
        if is_known || !matches!(solve(&tried, metadata), Ok(Ok(_))) {
            continue;
        }
        let to = (!is_drop).then(|| wishes[at].to_string());
        let description = match &to {
            Some(to) => format!("ask for `{to}` instead of `{from}`"),
            None => format!("leave `{from}` out"),
        };
        found.push(Repair { description, changes: vec![Change { from, to }] });
    }
    found
}

impl std::fmt::Display for Wish {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)?;
        match &self.bound {
            Some(bound) => write!(formatter, "@{}{}", bound.sign(), bound.text),
            None => Ok(()),
        }
    }
}

/// A name that no list has.
fn unknown(name: &str) -> Error {
    let message = format!("no list of apt has a package `{name}`");
    Error::new(Kind::Usage, "unknown-package", message)
        .hint("look at the spelling; `apt-get update` fetches newer lists")
}
