//! Where a transaction unpacks the packages that it installs, so that it gives whole directories into the tree instead of linking file
//! by file ([`Fresh`]). It is made when the first package comes and goes with the transaction, or with the next start.
//!
//! While packages come, a thread has the disk begin to write those that have come ([`Beside::came`]), so that less is left for the one wait
//! of the commit. An error of the disk is told once to whoever asks, and the commit would ask too late: so what this thread was told
//! is the transaction's ([`Beside::written`]).

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use super::Shop;
use super::incoming::Incoming;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Result};
use crate::limits::EARLY_SYNC_BYTES;
use crate::plan::Plan;
use crate::resolution::Package;
use crate::store::Fresh;
use crate::transaction::Project;

/// It, for one transaction.
pub(super) struct Beside {
    /// The file system of what is built; nothing where nothing is that could be given so.
    device: Option<u64>,
    place: OnceLock<Option<Place>>,
    early: Mutex<Early>,
}

/// What the disk was told to write.
#[derive(Default)]
struct Early {
    /// Bytes of archives since.
    bytes: u64,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    failure: Option<std::io::Error>,
}

struct Place {
    fresh: Fresh,
    incoming: Incoming,
}

impl Beside {
    /// Nothing is built.
    pub(super) fn nowhere() -> Self {
        Self { device: None, place: OnceLock::new(), early: Mutex::default() }
    }

    /// For what this plan builds in a project.
    pub(super) fn of(plan: &Plan, project: &Project, shop: &Shop) -> Self {
        let builds = plan.environments.iter().any(|one| one.ecosystem == Ecosystem::Npm);
        // Where everything is compared while it is copied nothing is given.
        let is_wanted = builds && !shop.rules.verify;
        let device = is_wanted.then(|| project.path().metadata().ok()).flatten();
        let device = device.map(|found| found.dev());
        Self { device, place: OnceLock::new(), early: Mutex::default() }
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

    /// An archive of so many bytes was unpacked.
    pub(super) fn came(&self, bytes: u64) {
        let Some(Some(place)) = self.place.get() else { return };
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.bytes += bytes;
        if early.bytes < EARLY_SYNC_BYTES
            || early.thread.as_ref().is_some_and(|it| !it.is_finished())
        {
            return;
        }
        early.join();
        early.bytes = 0;
        // Where it cannot be begun, the commit has more to do.
        let Ok(directory) = File::open(place.incoming.path()) else { return };
        let named = std::thread::Builder::new().name("early-sync".to_owned());
        early.thread = named.spawn(move || Ok(rustix::fs::syncfs(&directory)?)).ok();
    }

    /// An error where the disk could not write what it was told to. Waits for the thread.
    pub(super) fn written(&self) -> Result<()> {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.join();
        let Some(failure) = early.failure.take() else { return Ok(()) };
        let place = self.place.get().and_then(Option::as_ref);
        let path = place.map_or(Path::new("/"), |place| place.incoming.path());
        Err(Error::io("sync", path, &failure))
    }

    /// What was unpacked.
    pub(super) fn filled(&self) -> Option<&Fresh> {
        self.place.get()?.as_ref().map(|place| &place.fresh)
    }
}

impl Early {
    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let ended = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("it panicked")));
        if let Err(error) = ended {
            self.failure.get_or_insert(error);
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It has nothing of ours, but no thread is left behind by a transaction.
        self.early.get_mut().unwrap_or_else(PoisonError::into_inner).join();
    }
}

fn make(shop: &Shop, device: u64) -> Result<Option<Place>> {
    let incoming = shop.new_incoming()?;
    if incoming.path().metadata().is_ok_and(|found| found.dev() != device) {
        return Ok(None);
    }
    let fresh = Fresh::new(incoming.path(), &shop.store)?;
    Ok(fresh.map(|fresh| Place { fresh, incoming }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_could_not_write_early_is_an_error_of_the_transaction() {
        let beside = Beside::nowhere();
        beside.came(10 * EARLY_SYNC_BYTES);
        beside.written().expect("nothing was begun");
        let failed = || std::io::Error::from(rustix::io::Errno::IO);
        {
            let mut early = beside.early.lock().expect("no panic");
            early.thread = Some(std::thread::spawn(move || Err(failed())));
        }
        // A later one that succeeds does not make it good.
        {
            let mut early = beside.early.lock().expect("no panic");
            early.join();
            early.thread = Some(std::thread::spawn(|| Ok(())));
        }
        let error = beside.written().expect_err("it is not on the disk");
        assert_eq!(error.code, "io");
    }
}
