//! What a plan needs, brought into the store: fetched, verified, unpacked. Nothing of the project is touched here.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use agents_contract::{Crew, Obstacle, Work};

use super::Task;
use super::apply::is_built;
use super::incoming::Incoming;
use crate::error::{Error, Kind, Result};
use crate::io::{DownloadRequest, Downloaded, Durability, Told};
use crate::plan::Plan;
use crate::resolution::Package;
use crate::store::{Form, Lease};
use crate::unpack::Source;

impl Task<'_> {
    /// Each artefact that carrying out a plan takes, once.
    pub(super) fn needed<'p>(&self, plan: &'p Plan) -> Vec<&'p Package> {
        let built =
            plan.resolutions.iter().filter(|resolution| is_built(plan, resolution.ecosystem));
        once_each(built.flat_map(|resolution| &resolution.packages))
    }

    /// Keeps them in the store until what they are for is done.
    pub(super) fn lease(&self, needed: &[&Package]) -> Result<Lease> {
        let artefacts = needed
            .iter()
            .filter_map(|package| Some((&package.artifact.hashes, Form::of(package.ecosystem)?)));
        self.shop.store.lease(artefacts, &self.order.cancellation)
    }

    /// Looks for damage in everything that is needed, so that what is damaged is fetched again.
    pub(super) fn examine(&self, needed: &[&Package]) -> Result<()> {
        self.say("fetch", "the store was damaged: looking for more", 0, needed.len() as u64);
        self.hands(Work::Unpack).run(needed.len(), &|index| {
            let package = needed[index];
            if let Some(form) = Form::of(package.ecosystem) {
                // What is damaged is forgotten, which is all that is wanted.
                let _ = self.shop.store.check(&package.artifact.hashes, form, true);
            }
        });
        self.check_wanted()
    }

    /// Brings every artefact that is needed into the store; the bytes that were downloaded for it.
    pub(super) fn fetch(&self, needed: &[&Package]) -> Result<u64> {
        let is_missing = |package: &&Package| {
            self.shop.store.package(package).is_none() && !self.has_archive(package)
        };
        let missing: Vec<&Package> = needed.iter().copied().filter(is_missing).collect();
        self.shop.measures.looked_for(needed.len() - missing.len(), missing.len());
        if missing.is_empty() {
            return Ok(0);
        }
        if self.setting.offline {
            let (first, others) = (missing[0].purl(), missing.len() - 1);
            let more = if others > 0 { format!(" nor are {others} others") } else { String::new() };
            let message =
                format!("`{first}` is not in the store{more}, and nothing is fetched offline");
            return Err(Error::new(Kind::Network, "offline-missing", message)
                .hint("run the command once without `--offline`"));
        }
        self.tidy();
        let incoming = Incoming::new(&self.shop.incoming, &self.shop.host)?;
        let addresses = match self.addresses(&missing) {
            // Mirrors of artefacts need no address.
            Err(error) if error.kind == Kind::Network && self.registries.has_artifact_mirrors() => {
                tracing::warn!(%error, "only mirrors of artefacts are asked");
                vec![String::new(); missing.len()]
            }
            addresses => addresses?,
        };
        let requests: Vec<DownloadRequest> = missing
            .iter()
            .zip(addresses)
            .enumerate()
            .map(|(index, (package, url))| DownloadRequest {
                ecosystem: package.ecosystem,
                url,
                hashes: package.artifact.hashes.clone(),
                destination: incoming.path().join(index.to_string()),
                bytes_max: None,
            })
            .collect();
        let downloaded = self.download_and_unpack(&missing, &requests, incoming.path())?;
        for (package, file) in missing.iter().zip(&downloaded) {
            self.shop.measures.downloaded(package.ecosystem, file.bytes);
        }
        Ok(downloaded.iter().map(|file| file.bytes).sum())
    }

    /// Unpacks what has come while the rest is still under way: the one waits for the network, the other computes.
    fn download_and_unpack(
        &self,
        missing: &[&Package],
        requests: &[DownloadRequest],
        incoming: &Path,
    ) -> Result<Vec<Downloaded>> {
        let total = requests.len() as u64;
        self.say("fetch", format!("fetching {total} packages"), 0, total);
        // As many places as files: whoever downloads never waits for whoever unpacks.
        let (arrived, arrivals) = sync_channel(requests.len());
        std::thread::scope(|scope| {
            let named = std::thread::Builder::new().name("unpacking".to_owned());
            let unpacking = named
                .spawn_scoped(scope, move || self.unpack(missing, incoming, &arrivals))
                .map_err(|error| Error::io("start a thread for", incoming, &error))?;
            let mut done = 0;
            let mut tell = |told: Told<'_>| match told {
                Told::File(progress) if progress.done => {
                    done += 1;
                    self.say("fetch", missing[progress.index].purl(), done, total);
                    // Nobody listens any more after a failure, which is told below.
                    let _ = arrived.try_send(progress.index);
                }
                Told::File(_) => {}
                Told::Waits(wait) => self.say("wait", waits_to_fetch(wait.obstacle), done, total),
            };
            let downloaded =
                self.registries.download(requests, Durability::Buffered, &self.order, &mut tell);
            // Nothing comes any more.
            drop(arrived);
            if downloaded.is_ok() && self.check_wanted().is_ok() {
                self.say("unpack", format!("unpacking {total} packages"), 0, total);
            }
            let panicked = || Error::new(Kind::Failed, "internal", "unpacking was interrupted");
            let unpacked = unpacking.join().unwrap_or_else(|_| Err(panicked()));
            let downloaded = downloaded?;
            unpacked.map(|()| downloaded)
        })
    }

    /// Whether an artefact was kept as it was downloaded, and is in the store again now. One that is damaged is forgotten.
    fn has_archive(&self, package: &Package) -> bool {
        let hashes = &package.artifact.hashes;
        let Some(file) = self.shop.store.archive(hashes) else { return false };
        match self.shop.store.add_package(package, Source::File(&file)) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "an artefact that was kept is of no use");
                self.shop.store.forget_archive(hashes);
                false
            }
        }
    }

    /// Unpacks the fetched artefacts into the store, each a piece of work, until no more arrive. What has come until the workers
    /// are free goes to them together; nothing is held while nothing is there.
    fn unpack(
        &self,
        packages: &[&Package],
        incoming: &Path,
        arrivals: &Receiver<usize>,
    ) -> Result<()> {
        while let Ok(first) = arrivals.recv() {
            let batch: Vec<usize> = std::iter::once(first).chain(arrivals.try_iter()).collect();
            self.unpack_some(packages, incoming, &batch)?;
        }
        Ok(())
    }

    fn unpack_some(&self, packages: &[&Package], incoming: &Path, batch: &[usize]) -> Result<()> {
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.hands(Work::Unpack).run(batch.len(), &|place| {
            if failed().is_some() || self.check_wanted().is_err() {
                return;
            }
            let index = batch[place];
            let path = incoming.join(index.to_string());
            let added = File::open(&path)
                .map_err(|error| Error::io("open", &path, &error))
                .and_then(|file| self.shop.store.add_package(packages[index], Source::File(&file)));
            let kept = added.and_then(|_| match self.shop.rules.archives {
                true => self.shop.store.keep_archive(&packages[index].artifact.hashes, &path),
                false => Ok(()),
            });
            if let Err(error) = kept {
                failed().get_or_insert(error);
            }
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or_else(|| self.check_wanted(), Err)
    }

    /// Once in a process: forgets, when there is time, downloads that broke off and that nobody went on with.
    fn tidy(&self) {
        if self.shop.is_tidied.swap(true, Ordering::Relaxed) {
            return;
        }
        let registries = self.shop.registries.clone();
        self.shop.host.later(Box::new(move || {
            if let Err(error) = registries.collect_partials() {
                tracing::debug!(%error, "cannot look at downloads that broke off");
            }
        }));
    }
}

/// Those of different artefacts.
pub(super) fn once_each<'p>(packages: impl Iterator<Item = &'p Package>) -> Vec<&'p Package> {
    let mut seen = BTreeSet::new();
    packages
        .filter(|package| seen.insert((package.ecosystem, package.artifact.hashes.to_string())))
        .collect()
}

fn waits_to_fetch(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Busy => "waits to fetch: others fetch as much at once as may be",
        Obstacle::Heat => "waits to fetch: others do, and the machine is too hot for more at once",
        Obstacle::Blind => "waits to fetch: others do, and it is not known how hot the machine is",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_to_fetch_is_told_so() {
        for obstacle in [Obstacle::Busy, Obstacle::Heat, Obstacle::Blind] {
            assert!(waits_to_fetch(obstacle).starts_with("waits to fetch: others"));
        }
    }
}
