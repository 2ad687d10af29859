//! The versions of one package that count: being away, the installed one, the candidate, and what was asked for by name.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::Error;
use crate::metadata::debian::{Bound, Metadata, Package};
use crate::resolve::indexed::Set;

/// The position of "not installed" in every list.
pub(super) const AWAY: usize = 0;

/// A package of one architecture.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) name: String,
    pub(super) architecture: String,
    /// From position 1 on, ascending; position 0 is [`AWAY`].
    pub(super) versions: Vec<Arc<Package>>,
    /// Positions.
    pub(super) installed: Option<usize>,
    pub(super) candidate: Option<usize>,
}

impl Stock {
    /// Gathers what counts of a name and an architecture; `asked` are bounds of wishes.
    pub(super) fn new(
        metadata: &dyn Metadata,
        name: &str,
        architecture: &str,
        asked: &[Bound],
    ) -> Result<Rc<Self>, Error> {
        let family = metadata.named(name)?;
        let own: Vec<&Arc<Package>> =
            family.iter().filter(|it| it.architecture == architecture).collect();
        let installed = own.iter().find(|it| it.is_installed).copied();
        let candidate = candidate(&own, installed);
        let mut kept: Vec<Arc<Package>> = installed.into_iter().chain(candidate).cloned().collect();
        for bound in asked {
            // What apt's policy likes best of what was asked for.
            let is_verified =
                |it: &Package| it.file.as_ref().is_some_and(|file| !file.hashes.is_empty());
            let meant = own.iter().filter(|it| it.pin >= 0 && bound.holds(&it.key));
            let meant = meant.filter(|it| it.is_installed || is_verified(it));
            kept.extend(meant.max_by(|one, other| order(one, other)).copied().cloned());
        }
        kept.sort_by(|one, other| (&one.key, &one.version).cmp(&(&other.key, &other.version)));
        kept.dedup_by(|one, other| one.version == other.version);
        let position = |meant: Option<&Arc<Package>>| {
            meant.and_then(|meant| kept.iter().position(|it| it.version == meant.version))
        };
        Ok(Rc::new(Self {
            installed: position(installed).map(|at| at + 1),
            candidate: position(candidate).map(|at| at + 1),
            name: name.to_owned(),
            architecture: architecture.to_owned(),
            versions: kept,
        }))
    }

    /// Positions, that of being away among them.
    pub(super) fn count(&self) -> usize {
        self.versions.len() + 1
    }

    /// The package at a position; `None` for [`AWAY`].
    pub(super) fn at(&self, position: usize) -> Option<&Arc<Package>> {
        self.versions.get(position.checked_sub(1)?)
    }

    /// What may be: a held or essential package has less of a choice.
    pub(super) fn allowed(&self) -> Set {
        let here = self.installed.and_then(|position| self.at(position));
        let (is_held, is_essential) =
            here.map_or((false, false), |package| (package.is_held, package.is_essential));
        Set::of(self.count(), |position| match position {
            _ if is_held => Some(position) == self.installed,
            AWAY => !is_essential,
            _ => true,
        })
    }

    /// The versions for which something holds.
    pub(super) fn having(&self, is_meant: impl Fn(&Package) -> bool) -> Set {
        Set::of(self.count(), |position| self.at(position).is_some_and(|it| is_meant(it)))
    }

    /// All but some versions.
    pub(super) fn lacking(&self, is_meant: impl Fn(&Package) -> bool) -> Set {
        Set::of(self.count(), |position| self.at(position).is_none_or(|it| !is_meant(it)))
    }

    /// Every position.
    pub(super) fn all(&self) -> Set {
        Set::of(self.count(), |_| true)
    }
}

fn order(one: &Arc<Package>, other: &Arc<Package>) -> std::cmp::Ordering {
    one.pin.cmp(&other.pin).then_with(|| one.key.cmp(&other.key))
}

/// apt's rule: the highest priority, then the newest; never below what is installed unless the priority is above 1000.
fn candidate<'p>(
    own: &[&'p Arc<Package>],
    installed: Option<&'p Arc<Package>>,
) -> Option<&'p Arc<Package>> {
    const DOWNGRADES: i32 = 1000;
    let is_possible = |package: &&&'p Arc<Package>| {
        let is_older = installed.is_some_and(|installed| package.key < installed.key);
        // What cannot be verified is not taken.
        let is_verified = package.file.as_ref().is_some_and(|file| !file.hashes.is_empty());
        (package.is_installed || is_verified)
            && package.pin > 0
            && (!is_older || package.pin > DOWNGRADES)
    };
    own.iter().filter(is_possible).copied().max_by(|one, other| order(one, other)).or(installed)
}
