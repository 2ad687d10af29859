//! Where a transaction unpacks the packages that it installs, so that it gives whole directories into the tree instead of linking file
//! by file ([`Fresh`]). It is made when the first package comes and goes with the transaction, or with the next start. What is unpacked
//! there in a try that finds the store damaged is still there in the next one.
//!
//! While packages come, the disk begins to write those that have come ([`Early`]).

use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use super::Shop;
use super::early::Early;
use super::incoming::Incoming;
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::plan::Plan;
use crate::resolution::Package;
use crate::store::Fresh;
use crate::transaction::Project;

/// It, for one transaction.
pub(super) struct Beside {
    /// The file system of what is built; nothing where nothing is that could be given so.
    device: Option<u64>,
    place: OnceLock<Option<Place>>,
    /// Nothing where nobody commits what is fetched.
    early: Option<Early>,
}

struct Place {
    fresh: Fresh,
    /// Removed with everything in it when this goes.
    _incoming: Incoming,
}

impl Beside {
    /// Nothing is built.
    pub(super) fn nowhere() -> Self {
        Self { device: None, place: OnceLock::new(), early: None }
    }

    /// Nothing is unpacked beside the store, but what is fetched is forgotten where the disk does not take it.
    pub(super) fn within(project: &Project, shop: &Shop) -> Self {
        let early = Early::new(&shop.store, &shop.early, project.path());
        Self { device: None, place: OnceLock::new(), early: Some(early) }
    }

    /// For what this plan builds in a project. Made before anything is fetched.
    pub(super) fn of(plan: &Plan, project: &Project, shop: &Shop) -> Self {
        let builds = plan.environments.iter().any(|one| one.ecosystem == Ecosystem::Npm);
        let within = Self::within(project, shop);
        // Where everything is compared while it is copied nothing is given.
        let is_wanted = builds && !shop.rules.verify;
        let device = within.early.as_ref().filter(|_| is_wanted).and_then(Early::device);
        Self { device, ..within }
    }

    /// Where a package is to be unpacked that has come; nothing where that is the store.
    pub(super) fn fresh(&self, shop: &Shop, package: &Package) -> Option<&Fresh> {
        let device = self.device.filter(|_| package.ecosystem == Ecosystem::Npm)?;
        let place = self.place.get_or_init(|| {
            make(shop, device).unwrap_or_else(|error| {
                tracing::debug!(%error, "packages are unpacked into the store alone");
                None
            })
        });
        place.as_ref().map(|place| &place.fresh)
    }

    /// A package is about to be put into the store.
    pub(super) fn adds(&self, package: &Package) {
        if let Some(early) = &self.early {
            early.adds(package);
        }
    }

    /// An archive of so many bytes was unpacked.
    pub(super) fn came(&self, bytes: u64) {
        if let (Some(Some(_)), Some(early)) = (self.place.get(), &self.early) {
            early.came(bytes);
        }
    }

    /// An error where the disk could not write what it was told to; then what was fetched is not in the store any more. Waits for the disk.
    pub(super) fn written(&self) -> Result<()> {
        self.early.as_ref().map_or(Ok(()), Early::written)
    }

    /// The disk did not take what was committed: nothing that was fetched is in the store any more.
    pub(super) fn forget(&self) {
        if let Some(early) = &self.early {
            early.forget();
        }
    }

    /// Whether nothing was fetched, so that the store has nothing that the disk may still refuse.
    pub(super) fn is_unused(&self) -> bool {
        self.early.as_ref().is_none_or(Early::is_unused)
    }

    /// What was unpacked.
    pub(super) fn filled(&self) -> Option<&Fresh> {
        self.place.get()?.as_ref().map(|place| &place.fresh)
    }
}

fn make(shop: &Shop, device: u64) -> Result<Option<Place>> {
    let incoming = shop.new_incoming()?;
    if incoming.path().metadata().is_ok_and(|found| found.dev() != device) {
        return Ok(None);
    }
    let fresh = Fresh::new(incoming.path(), &shop.store)?;
    Ok(fresh.map(|fresh| Place { fresh, _incoming: incoming }))
}
