//! What a transaction under way needs of the store, said to collections of all processes: a file with the names of index entries,
//! locked by its owner for as long as it lives. One whose lock is free belongs to nobody any more.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agents_contract::Cancellation;
use rustix::fs::FlockOperation;

use super::collect::list;
use super::{Form, Store, entry};
use crate::error::{Error, Kind, Result};
use crate::leftovers::{self, Leftovers};
use crate::limits::{STORE_LEASE_BYTES_MAX, STORE_LEASES_MAX};
use crate::metadata::Hashes;

/// Keeps what it names in the store, whether it is there yet or not. Ends when it is dropped, and with its process.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    leftovers: Arc<Leftovers>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leftovers.delete(&self.path, leftovers::file);
    }
}

impl Store {
    /// Keeps these artefacts until the lease is dropped. Waits for a collection, unless it is cancelled.
    pub fn lease<'h>(
        &self,
        artefacts: impl IntoIterator<Item = (&'h Hashes, Form)>,
        cancellation: &Cancellation,
    ) -> Result<Lease> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut text = String::new();
        for (hashes, form) in artefacts {
            for name in entry::names(hashes, form) {
                text.push_str(&name);
                text.push('\n');
            }
        }
        if text.len() as u64 > STORE_LEASE_BYTES_MAX {
            let message = format!("more than {STORE_LEASE_BYTES_MAX} bytes of names at once");
            return Err(Error::new(Kind::Failed, "too-many-packages", message));
        }
        // A process of another container may have the same number.
        let random = RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed));
        let path = self.root.join("leases").join(format!("{}-{random:016x}", std::process::id()));
        // Inside, so that no collection sees the file before it is locked and full.
        let _use = self.gate.enter(cancellation)?;
        let failed = |error: std::io::Error| Error::io("write", &path, &error);
        let file =
            File::options().create_new(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        // From here on it is removed whatever happens.
        let lease = Lease { path: path.clone(), file, leftovers: Arc::clone(&self.leftovers) };
        rustix::fs::flock(&lease.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        (&lease.file).write_all(text.as_bytes()).map_err(failed)?;
        Ok(lease)
    }

    /// The names in all leases that live; the others are removed. For whoever is alone in the store.
    pub(super) fn leased(&self) -> Result<HashSet<String>> {
        let mut names = HashSet::new();
        let paths = list(&self.root.join("leases"))?;
        if paths.len() > STORE_LEASES_MAX {
            let message = format!("more than {STORE_LEASES_MAX} transactions use the store");
            return Err(Error::new(Kind::Refused, "store-busy", message).retryable());
        }
        for path in paths {
            let failed = |error: std::io::Error| Error::io("read", &path, &error);
            let mut file = match File::open(&path) {
                Ok(file) => file,
                // Its owner is done.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
                self.leftovers.delete(&path, leftovers::file);
                continue;
            }
            let mut text = String::new();
            (&mut file).take(STORE_LEASE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
            names.extend(text.lines().map(str::to_owned));
        }
        Ok(names)
    }
}
