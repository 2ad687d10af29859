//! What a plan needs, brought into the store: fetched, verified, unpacked. Nothing of the project is touched here.

mod arrivals;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use agents_contract::{Cancellation, Crew as _, Obstacle, Order, Work};
use pep508_rs::PackageName;

use self::arrivals::Arrivals;
use super::Task;
use super::addresses::Finding;
use super::apply::is_built;
use super::beside::Beside;
use super::named::{copied, sha512_of};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::npm;
use crate::io::{DownloadRequest, Durability, Held, Slot, Told};
use crate::limits::UNPACK_ARCHIVES_MAX;
use crate::metadata::Hashes;
use crate::plan::Plan;
use crate::resolution::Package;
use crate::store::{Direct, Form, Lease, Proof, Shelf};
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

    /// Brings every artefact that is needed into the store; the entries of those that were there, and the bytes that were downloaded
    /// for the others.
    pub(super) fn fetch(&self, needed: &[&Package]) -> Result<(Shelf, u64)> {
        self.fetch_for(needed, &Beside::nowhere())
    }

    /// The same; what can be unpacked where it is given away from is.
    pub(super) fn fetch_for(&self, needed: &[&Package], beside: &Beside) -> Result<(Shelf, u64)> {
        let shelf = self.shop.store.shelf(needed, &self.hands(Work::Unpack));
        self.check_wanted()?;
        let bytes = self.fetch_missing(needed, &shelf, beside)?;
        Ok((shelf, bytes))
    }

    /// The same for those that are not on the shelf.
    fn fetch_missing(&self, needed: &[&Package], shelf: &Shelf, beside: &Beside) -> Result<u64> {
        // What stands for the registry on this machine is used as it lies there.
        let has_local = needed.iter().any(|package| package.ecosystem == Ecosystem::Cargo)
            && self.registries.cargo_local()?.is_some();
        let is_here = |package: &Package| {
            let is_of_registry = package.artifact.source.is_none();
            has_local && package.ecosystem == Ecosystem::Cargo && is_of_registry
        };
        let is_missing = |package: &&Package| {
            !is_here(package) && shelf.get(package).is_none() && !self.has_archive(package, beside)
        };
        let missing: Vec<&Package> = needed.iter().copied().filter(is_missing).collect();
        self.shop.measures.looked_for(needed.len() - missing.len(), missing.len());
        if missing.is_empty() {
            return Ok(0);
        }
        if let Some(package) = missing.iter().find(|package| package.artifact.built.is_some()) {
            return Err(built_and_gone(package));
        }
        let places = missing.iter().map(|package| self.place_of(package));
        let places: Vec<Option<PathBuf>> = places.collect::<Result<_>>()?;
        let far = places.iter().filter(|place| place.is_none()).count();
        if self.setting.offline && far > 0 {
            let (first, others) = (missing[0].purl(), missing.len() - 1);
            let more = if others > 0 { format!(" nor are {others} others") } else { String::new() };
            let message =
                format!("`{first}` is not in the store{more}, and nothing is fetched offline");
            return Err(Error::new(Kind::Network, "offline-missing", message)
                .hint("run the command once without `--offline`"));
        }
        self.tidy();
        let incoming = self.shop.new_incoming()?;
        let mut far = Vec::new();
        for (package, place) in missing.into_iter().zip(places) {
            match place {
                Some(path) => self.copy(package, (&path, &incoming.path().join("copy")), beside)?,
                None => far.push(package),
            }
        }
        let mut missing = far;
        // Where sizes are known, the largest comes first: nothing is left to do beside it in the end.
        missing.sort_by_key(|package| std::cmp::Reverse(package.artifact.size));
        if missing.is_empty() {
            return Ok(0);
        }
        let brought = AtomicU64::new(0);
        let missed = self.bring(&missing, Finding::Custom, (incoming.path(), beside), &brought)?;
        // Its place on the disk is free for the others, as soon as there is time.
        drop(incoming);
        self.bring_elsewhere(missing, missed, beside, &brought)?;
        Ok(brought.into_inner())
    }

    /// Those that are not in the store yet, because they are not where they are by custom: the registry is asked where it has them.
    fn bring_elsewhere(
        &self,
        missing: Vec<&Package>,
        missed: Vec<(usize, Error)>,
        beside: &Beside,
        brought: &AtomicU64,
    ) -> Result<()> {
        let Some((_, error)) = missed.first() else { return Ok(()) };
        let is_missing = |package: &Package| self.shop.store.package(package).is_none();
        let all = missing;
        let missing: Vec<&Package> = all.iter().copied().filter(|it| is_missing(it)).collect();
        let count = missing.len();
        tracing::warn!(%error, count, "the registry is asked where it has what is not where it is by custom");
        let incoming = self.shop.new_incoming()?;
        let second = self.bring(&missing, Finding::Asked, (incoming.path(), beside), brought);
        second.map(drop).map_err(|second| {
            // What came from elsewhere in the end is no reason any more.
            let still = missed.into_iter().filter(|(index, _)| is_missing(all[*index]));
            still.fold(second, |second, (_, first)| the_worse(first, second))
        })
    }

    /// Fetches and unpacks what is missing; counts the bytes of what has come into the store. Which are not where they are by custom, with what
    /// came of asking there; more than a few of them end it.
    fn bring(
        &self,
        missing: &[&Package],
        by: Finding,
        (incoming, beside): (&Path, &Beside),
        brought: &AtomicU64,
    ) -> Result<Vec<(usize, Error)>> {
        let addresses = match self.addresses(missing, by) {
            // Mirrors of artefacts need no address.
            Err(error) if error.kind == Kind::Network && self.registries.has_artifact_mirrors() => {
                tracing::warn!(%error, "only mirrors of artefacts are asked");
                vec![String::new(); missing.len()]
            }
            addresses => addresses?,
        };
        let may_hold = !self.shop.rules.archives;
        let requests: Vec<DownloadRequest> = missing
            .iter()
            .zip(addresses)
            .enumerate()
            .map(|(index, (package, url))| DownloadRequest {
                ecosystem: package.ecosystem,
                source: package.artifact.source.clone(),
                url,
                hashes: package.artifact.hashes.clone(),
                destination: incoming.join(index.to_string()),
                slot: may_hold.then(Slot::default),
                bytes_max: None,
                is_guess: by == Finding::Custom && self.by_custom(package).is_some(),
            })
            .collect();
        let mut missed = Vec::new();
        let unpack = |index: usize| {
            let held = requests[index].slot.as_ref().and_then(Slot::take);
            let bytes = match held {
                Some(held) => self.unpack_held(missing[index], &held, beside)?,
                None => self.unpack(missing[index], &incoming.join(index.to_string()), beside)?,
            };
            self.shop.measures.downloaded(missing[index].ecosystem, bytes);
            beside.came(bytes);
            brought.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        };
        match self.download_and_unpack((missing, &requests), incoming, &unpack, &mut missed) {
            // Too many: this registry has its files elsewhere.
            Err(error) if missed.last().is_some_and(|(_, last)| *last == error) => {}
            brought => brought.map_err(|error| {
                missed.iter().fold(error, |error, (_, first)| the_worse(first.clone(), error))
            })?,
        }
        Ok(missed)
    }

    /// Fetches an artefact that does not go into the store, verified.
    pub(super) fn fetch_to(&self, package: &Package, to: &Path) -> Result<()> {
        let Package { ecosystem, artifact, .. } = package;
        let purl = package.purl();
        if let Some(path) = self.place_of(package)? {
            return self.copy_planned(package, &path, to);
        }
        if self.setting.offline {
            let file = &artifact.file_name;
            let message = format!("`{file}` has to be fetched, and nothing is fetched offline");
            return Err(Error::new(Kind::Network, "offline-missing", message)
                .hint("run the command once without `--offline`"));
        }
        let url = self.addresses(&[package], Finding::Asked)?.pop().unwrap_or_default();
        let request = DownloadRequest {
            ecosystem: *ecosystem,
            source: artifact.source.clone(),
            url,
            hashes: artifact.hashes.clone(),
            destination: to.to_owned(),
            slot: None,
            bytes_max: None,
            is_guess: false,
        };
        self.say("fetch", purl, 0, 1);
        let mut tell = |told: Told<'_>| {
            if let Told::Waits(wait) = told {
                self.say("wait", waits_to_fetch(wait.obstacle), 0, 1);
            }
        };
        self.registries.download(&[request], Durability::Buffered, &self.order, &mut tell)?;
        Ok(())
    }

    /// Brings a file of this machine into the store, if it is still the one that was planned.
    fn copy(&self, package: &Package, (from, to): (&Path, &Path), beside: &Beside) -> Result<()> {
        self.copy_planned(package, from, to)?;
        self.unpack(package, to, beside).map(drop)
    }

    /// Copies a file of this machine, if it is still the one that was planned.
    fn copy_planned(&self, package: &Package, from: &Path, to: &Path) -> Result<()> {
        let content = copied(self, from, to)?;
        let Hashes { sha256, sha512 } = &package.artifact.hashes;
        let is_other = |planned: &Option<String>, found: &dyn Fn() -> Result<String>| {
            planned.as_ref().map_or(Ok(false), |planned| found().map(|found| found != *planned))
        };
        if (sha256.is_none() && sha512.is_none())
            || is_other(sha256, &|| Ok(content.sha256.clone()))?
            || is_other(sha512, &|| sha512_of(self, to))?
        {
            let message = format!("`{}` is not the file that was planned", from.display());
            let (ecosystem, name) = (package.ecosystem, &package.name);
            return Err(Error::new(Kind::Verification, "hash-mismatch", message).hint(format!(
                "`bolide update {ecosystem}:{name}` takes what is there now; nothing was changed"
            )));
        }
        Ok(())
    }

    /// Where an artefact lies on this machine, if it does: by the address that was planned, or by its name in a directory that is
    /// configured. A lock names no addresses.
    fn place_of(&self, package: &Package) -> Result<Option<PathBuf>> {
        let artifact = &package.artifact;
        if package.ecosystem != Ecosystem::Pypi || !artifact.url.is_empty() {
            return Ok(path_of(package));
        }
        let Ok(name) = PackageName::from_str(&package.name) else { return Ok(None) };
        self.registries.pypi_here(&name, &artifact.file_name)
    }

    /// Unpacks what has come while the rest is still under way: the one waits for the network, the other computes. A failure of either
    /// ends both, but for files that are `missed` where they were guessed to be.
    fn download_and_unpack(
        &self,
        (missing, requests): (&[&Package], &[DownloadRequest]),
        incoming: &Path,
        unpack: &(dyn Fn(usize) -> Result<()> + Sync),
        missed: &mut Vec<(usize, Error)>,
    ) -> Result<()> {
        let total = requests.len() as u64;
        self.say("fetch", format!("fetching {total} packages"), 0, total);
        let going = Cancellation::any([self.order.cancellation.clone()]);
        let order = Order { cancellation: going.clone(), ..self.order.clone() };
        // As many places as files: whoever downloads never waits for whoever unpacks.
        let (arrived, arrivals) = sync_channel(requests.len());
        let hands = self.hands(Work::Unpack);
        let unpacking = Arrivals::new(arrivals, &hands, going, unpack);
        let downloaded = std::thread::scope(|scope| {
            // Dropped when this ends for whatever reason, which ends who waits for it.
            let arrived = arrived;
            let mut threads = Vec::new();
            for _ in 0..requests.len().min(UNPACK_ARCHIVES_MAX) {
                let named = std::thread::Builder::new().name("unpacking".to_owned());
                let thread = named
                    .spawn_scoped(scope, || unpacking.serve())
                    .map_err(|error| Error::io("start a thread for", incoming, &error))?;
                threads.push(thread);
            }
            let mut done = 0;
            let mut tell = |told: Told<'_>| match told {
                Told::File(progress) if progress.done => {
                    done += 1;
                    self.say("fetch", missing[progress.index].purl(), done, total);
                    // Nobody listens any more after a failure, which is told below.
                    let _ = arrived.try_send((progress.bytes, progress.index));
                }
                Told::File(_) => {}
                Told::Missed { index, error } => {
                    let package = missing[index].purl();
                    if error.kind == Kind::Verification {
                        tracing::warn!(%error, package, "other bytes are where it is by custom");
                    } else {
                        tracing::debug!(%error, package, "it is not where it is by custom");
                    }
                    missed.push((index, error.clone()));
                }
                Told::Waits(wait) => self.say("wait", waits_to_fetch(wait.obstacle), done, total),
            };
            let downloaded =
                self.registries.download(requests, Durability::Buffered, &order, &mut tell);
            // Nothing comes any more.
            drop(arrived);
            if downloaded.is_ok() && self.check_wanted().is_ok() {
                self.say("unpack", format!("unpacking {total} packages"), 0, total);
            }
            let has_panicked = threads.into_iter().filter_map(|it| it.join().err()).count() > 0;
            if has_panicked {
                return Err(Error::new(Kind::Failed, "internal", "unpacking was interrupted"));
            }
            Ok(downloaded)
        })?;
        let unpacked = unpacking.end();
        self.check_wanted()?;
        match downloaded {
            Ok(_) => unpacked,
            // Only unpacking ends downloads that are wanted.
            Err(error) if error.code == "cancelled" => Err(unpacked.err().unwrap_or(error)),
            // A download that fails takes away what the others have fetched, so unpacking may only have missed that.
            Err(error) => Err(error),
        }
    }

    /// Puts one artefact that has arrived into the store; how many bytes it has.
    fn unpack(&self, package: &Package, path: &Path, beside: &Beside) -> Result<u64> {
        self.check_wanted()?;
        let failed = |error: std::io::Error| Error::io("open", path, &error);
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        self.add(package, Source::File(&file), Proof::Wanted, beside)?;
        if self.shop.rules.archives {
            self.shop.store.keep_archive(&package.artifact.hashes, path)?;
        }
        Ok(bytes)
    }

    /// The same for one that was fetched into memory, and compared there with its digests.
    fn unpack_held(&self, package: &Package, held: &Held, beside: &Beside) -> Result<u64> {
        self.check_wanted()?;
        self.add(package, Source::Bytes(held.bytes()), Proof::Given, beside)?;
        Ok(held.bytes().len() as u64)
    }

    fn add(
        &self,
        package: &Package,
        source: Source<'_>,
        proof: Proof,
        beside: &Beside,
    ) -> Result<()> {
        beside.adds(package);
        let commands = npm::commands(package);
        let direct = beside.fresh(self.shop, package);
        let direct = direct.map(|fresh| Direct { fresh, commands: &commands });
        self.shop.store.add_package_as(package, source, proof, direct).map(drop)
    }

    /// Whether an artefact was kept as it was downloaded, and is in the store again now. One that is damaged is forgotten.
    fn has_archive(&self, package: &Package, beside: &Beside) -> bool {
        let hashes = &package.artifact.hashes;
        let Some(file) = self.shop.store.archive(hashes) else { return false };
        beside.adds(package);
        match self.shop.store.add_package(package, Source::File(&file)) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "an artefact that was kept is of no use");
                self.shop.store.forget_archive(hashes);
                false
            }
        }
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

/// What is told where both ways have failed: that somebody sends other bytes says more than that somebody else does not answer.
fn the_worse(first: Error, second: Error) -> Error {
    match (first.kind, second.kind) {
        (Kind::Verification, Kind::Network) => first,
        _ => second,
    }
}

/// What was built here nobody else has.
fn built_and_gone(package: &Package) -> Error {
    let (name, file) = (&package.name, &package.artifact.file_name);
    let message = format!("`{file}` was built on this machine and is not in the store any more");
    Error::new(Kind::Stale, "built-and-gone", message).hint(format!(
        "make a new plan: `bolide install --build {name}` builds it again; nothing was changed"
    ))
}

/// Where an artefact is that the project names by its path, or that lies where packages are looked for beside an index.
fn path_of(package: &Package) -> Option<PathBuf> {
    let artifact = &package.artifact;
    // No index can name such an address.
    let is_named = artifact.by_address || package.ecosystem == Ecosystem::Pypi;
    let is_here = is_named && artifact.url.starts_with("file:");
    url::Url::parse(&artifact.url).ok().filter(|_| is_here)?.to_file_path().ok()
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
    fn that_somebody_sends_other_bytes_is_told_first() {
        let error = |kind, code| Error::new(kind, code, "x");
        let status = error(Kind::Network, "registry-error");
        let bytes = error(Kind::Verification, "hash-mismatch");
        assert_eq!(the_worse(bytes.clone(), status.clone()).code, "hash-mismatch");
        let gone = error(Kind::Failed, "locked-version-gone");
        assert_eq!(the_worse(bytes, gone).code, "locked-version-gone");
        assert_eq!(the_worse(status.clone(), status).code, "registry-error");
    }

    #[test]
    fn who_waits_to_fetch_is_told_so() {
        for obstacle in [Obstacle::Busy, Obstacle::Heat, Obstacle::Blind] {
            assert!(waits_to_fetch(obstacle).starts_with("waits to fetch: others"));
        }
    }
}
