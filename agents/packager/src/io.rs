//! Everything of the Packager that talks to registries: where they are, what they say, and their files.
//!
//! Callers block; inside, small runtimes of their own move the bytes ([`threads`]). A [`Client`] is one request's view (its
//! configuration, offline or not) of what the process shares: connections, caches, and questions under way.
//! Nothing here decides which version to take, and nothing here unpacks an artefact.

pub(crate) mod announced;
pub(crate) mod cache;
pub(crate) mod cargo;
pub(crate) mod debian;
pub mod download;
pub(crate) mod endpoints;
pub mod environment;
pub(crate) mod flight;
pub(crate) mod http;
pub(crate) mod lenient;
pub mod limits;
pub(crate) mod npm;
pub(crate) mod outside;
pub(crate) mod pypi;
pub(crate) mod resource;
pub(crate) mod secret;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod threads;
mod unwritten;
mod whole;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agents_contract::{Cancellation, Host, Order};
use pep508_rs::PackageName;
use url::Url;

pub use self::download::{DownloadRequest, Downloaded, Durability, Held, Progress, Slot, Told};
pub(crate) use self::endpoints::LocalCrates;
pub use self::endpoints::Overrides;
pub use self::environment::Environment;

use self::announced::Backlog;
use self::cache::Disk;
use self::cache::memory::Memory;
use self::download::Budget;
use self::endpoints::found::Found;
use self::endpoints::learn::Learner;
use self::endpoints::seen::NpmSeen;
use self::flight::Flights;
use self::http::{Gates, RealTime, Time, Transports};
use self::limits::{DOWNLOADS_IN_MEMORY_BYTES_MAX, FRESH_FOR, MEMORY_BYTES_MAX, UNWRITTEN_TIMEOUT};
use self::resource::Session;
use self::threads::Threads;
use self::unwritten::Unwritten;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::unpack::Unpacker;

/// What one request brings along.
#[derive(Clone, Debug)]
pub struct RequestSettings {
    /// The surroundings whose configuration counts.
    pub environment: Environment,
    /// Registries that are stronger than any configuration.
    pub overrides: Overrides,
    /// Whether only what is on this machine may be used, however old.
    pub offline: bool,
    /// How old an index answer may be before it is asked for again.
    pub max_age: Duration,
    /// Whether answers have to say when versions were published, even where that makes them larger.
    pub dated: bool,
    /// Ends what blocks for this request; what others wait for too goes on.
    pub cancellation: Cancellation,
}

impl RequestSettings {
    /// Online, with the usual freshness.
    pub fn new(environment: Environment) -> Self {
        Self {
            environment,
            overrides: Overrides::default(),
            offline: false,
            max_age: FRESH_FOR,
            dated: false,
            cancellation: Cancellation::NEVER.clone(),
        }
    }
}

/// What a process needs to start talking to registries.
#[derive(Clone)]
pub struct Settings {
    /// Where metadata is cached; a directory `metadata` is made in it.
    pub cache_dir: PathBuf,
    /// Where learnt endpoints are kept, in `endpoints.json`.
    pub state_dir: PathBuf,
    /// The first request's view.
    pub request: RequestSettings,
    /// Who says where threads belong and how much runs.
    pub host: Arc<dyn Host>,
    /// Who reads archives.
    pub unpacker: Arc<Unpacker>,
}

/// What all clients of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) threads: Threads,
    pub(crate) disk: Disk,
    /// What `disk` is going to have.
    pub(crate) unwritten: Arc<Unwritten>,
    pub(crate) memory: Memory,
    pub(crate) flights: Arc<Flights>,
    pub(crate) backlog: Backlog,
    pub(crate) transports: Transports,
    pub(crate) gates: Arc<Gates>,
    pub(crate) learner: Learner,
    /// For whom npm is found at once.
    pub(crate) npm_found: Found,
    /// What npm's configuration was, and how that was seen.
    pub(crate) npm_seen: NpmSeen,
    /// Per host: whether it serves PEP 658 files.
    pub(crate) metadata_files: Mutex<HashMap<String, pypi::MetadataFiles>>,
    /// What files of Python packages hash to that lie in directories of this machine.
    pub(crate) local_digests: pypi::local::Digests,
    pub(crate) unpacker: Arc<Unpacker>,
    /// Where files that broke off wait.
    pub(crate) partials: PathBuf,
    /// What small files may take of memory.
    pub(crate) budget: Arc<Budget>,
}

/// The distribution's own tool fetches its lists and packages.
fn no_registry() -> Error {
    let message = "packages of the system are fetched by the distribution's own tool";
    Error::new(Kind::Usage, "no-registry", message)
}

/// Registries as one request sees them. Cheap to make from another one, and to clone.
#[derive(Clone, Debug)]
pub struct Client {
    session: Session,
    npm: Arc<npm::NpmClient>,
    pypi: Arc<pypi::PypiClient>,
    cargo: Arc<cargo::CargoClient>,
    /// The other registries of crates that were asked for, by their names.
    cargo_others: Arc<Mutex<HashMap<String, Arc<cargo::CargoClient>>>>,
}

impl Client {
    /// The first client of a process. Starts no thread, reads no configuration yet and sends nothing.
    pub fn new(settings: Settings) -> Self {
        Self::in_time(settings, Arc::new(RealTime))
    }

    /// The same with a time of its own.
    pub(crate) fn in_time(settings: Settings, time: Arc<dyn Time>) -> Self {
        let shared = Shared {
            partials: settings.cache_dir.join("partial"),
            threads: Threads::new(settings.host),
            disk: Disk::new(&settings.cache_dir),
            unwritten: Arc::default(),
            memory: Memory::new(MEMORY_BYTES_MAX),
            flights: Arc::default(),
            backlog: Backlog::default(),
            transports: Transports::default(),
            gates: Arc::new(Gates::new(time)),
            learner: Learner::new(&settings.state_dir),
            npm_found: Found::default(),
            npm_seen: NpmSeen::default(),
            metadata_files: Mutex::default(),
            local_digests: pypi::local::Digests::default(),
            unpacker: settings.unpacker,
            budget: Budget::new(DOWNLOADS_IN_MEMORY_BYTES_MAX),
        };
        Self::of(Arc::new(shared), settings.request)
    }

    /// Another request's view of the same connections and caches.
    pub fn with_request(&self, request: RequestSettings) -> Self {
        Self::of(Arc::clone(&self.session.shared), request)
    }

    fn of(shared: Arc<Shared>, request: RequestSettings) -> Self {
        let session = Session { shared, request: Arc::new(request) };
        Self {
            npm: Arc::new(npm::NpmClient::new(session.clone())),
            pypi: Arc::new(pypi::PypiClient::new(session.clone())),
            cargo: Arc::new(cargo::CargoClient::new(session.clone())),
            cargo_others: Arc::default(),
            session,
        }
    }

    /// For who is about to end: waits until what somebody was told is written down, as long as a disk may take for it. What comes
    /// meanwhile is not waited for, nor what was not read yet.
    pub(crate) fn settle(&self) {
        if !self.session.shared.unwritten.end(UNWRITTEN_TIMEOUT) {
            tracing::debug!("the disk is slow: answers of registries are not kept");
        }
    }

    /// Starts what a resolution of `ecosystem` begins with: finds the registry, connects, and asks for `names`. Returns at
    /// once; what is wrong is reported to whoever asks for it.
    pub fn prepare(&self, ecosystem: Ecosystem, names: Vec<String>) {
        if ecosystem == Ecosystem::Npm && self.npm.has_at_hand(&names) {
            return;
        }
        // Who asks in earnest is told why there are no threads.
        let Ok(handle) = self.session.shared.threads.questions() else { return };
        let client = self.clone();
        handle.spawn_blocking(move || {
            if ecosystem == Ecosystem::Cargo {
                client.cargo.prefetch_registry_config();
            }
            for name in &names {
                if client.session.request.cancellation.is_cancelled() {
                    return;
                }
                client.announce(ecosystem, name);
            }
        });
    }

    fn announce(&self, ecosystem: Ecosystem, name: &str) {
        match ecosystem {
            Ecosystem::Npm => {
                self.npm().prefetch(name);
            }
            Ecosystem::Pypi => {
                if let Ok(name) = name.parse() {
                    self.pypi().prefetch_project(&name);
                }
            }
            Ecosystem::Cargo => {
                self.cargo().prefetch(name);
            }
            // Nothing is fetched: apt's lists are here.
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {}
        }
    }

    /// npm packuments.
    pub fn npm(&self) -> &dyn crate::metadata::npm::Metadata {
        &*self.npm
    }

    /// Whether npm's configuration was found at once for these surroundings the last time. Otherwise a program may have to be asked.
    pub(crate) fn has_found_npm(&self) -> bool {
        self.npm.has_found()
    }

    /// Where npm's registry has the archive of a version by custom.
    pub(crate) fn npm_tarball(&self, name: &str, version: &str) -> Option<String> {
        self.npm.tarball(name, version)
    }

    /// Python index pages and core metadata.
    pub fn pypi(&self) -> &dyn crate::metadata::pypi::Metadata {
        &*self.pypi
    }

    /// A file that a Python project names by its address, whose digest nobody knows. Blocks.
    pub(crate) fn pypi_file(&self, url: &Url) -> Result<bytes::Bytes> {
        let resolved = self.pypi.resolved()?;
        let access = (resolved.http.clone(), resolved.endpoint.credentials.clone());
        let hint = "run the command once without `--offline`, or add `#sha256=DIGEST` to it";
        whole::fetch(&self.session, access, url, hint)
    }

    /// The same for an archive that an npm package is asked for by.
    pub(crate) fn npm_file(&self, url: &Url) -> Result<bytes::Bytes> {
        let resolved = self.npm.resolved()?;
        let access = (resolved.http.clone(), resolved.endpoint.credentials.clone());
        let hint = "run the command once without `--offline`";
        whole::fetch(&self.session, access, url, hint)
    }

    /// Whether one of npm's configured registries answers where an address leads.
    pub(crate) fn has_npm_registry_at(&self, url: &Url) -> Result<bool> {
        let endpoint = &self.npm.resolved()?.endpoint;
        let mut registries = endpoint.scopes.values().chain([&endpoint.default]);
        Ok(registries.any(|registry| registry.origin() == url.origin()))
    }

    /// Where a file of a Python package lies on this machine, in a directory that is looked at beside the indexes.
    pub(crate) fn pypi_here(&self, name: &PackageName, file: &str) -> Result<Option<PathBuf>> {
        self.pypi.here(name, file)
    }

    /// Which kinds of files count, as the person told pip.
    pub(crate) fn pypi_formats(&self) -> Result<&[(crate::options::Choice, String)]> {
        Ok(&self.pypi.resolved()?.endpoint.formats)
    }

    /// Refuses what a Python project takes from an index of its own, where the configuration that is followed has none for it.
    pub(crate) fn check_pypi_indexes(&self, wanted: &[(PackageName, String)]) -> Result<()> {
        self.pypi.check_indexes(wanted)
    }

    /// Crates of the sparse index.
    pub fn cargo(&self) -> &dyn crate::metadata::cargo::Metadata {
        &*self.cargo
    }

    /// What npm's registry finds for some words. Blocks.
    pub(crate) fn npm_search(&self, words: &str) -> Result<Arc<Vec<npm::search::Found>>> {
        self.npm.search(words)
    }

    /// Names of packages (`npm:express`) that this process knows metadata of, and that contain `text`.
    pub(crate) fn names_with(&self, text: &str, most: usize) -> Vec<String> {
        self.session.shared.memory.names_with(text, most)
    }

    /// The registry that is asked, without credentials and with a slash at the end. For npm the one of names
    /// without a scope of their own, for cargo the sparse index without `sparse+`.
    pub fn registry(&self, ecosystem: Ecosystem) -> Result<Url> {
        match ecosystem {
            Ecosystem::Npm => Ok(self.npm.resolved()?.endpoint.default.clone()),
            Ecosystem::Pypi => Ok(self.pypi.resolved()?.endpoint.index.clone()),
            Ecosystem::Cargo => Ok(self.cargo.resolved()?.endpoint.index.clone()),
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => Err(no_registry()),
        }
    }

    /// The same of the registries of crates that were asked beside the default one.
    pub(crate) fn not_followed_of_others(&self) -> Vec<String> {
        let others = self.cargo_others.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = others.values().filter_map(|client| client.resolved_already());
        let mut words: Vec<String> =
            asked.flat_map(|resolved| resolved.endpoint.not_followed.clone()).collect();
        words.sort();
        words.dedup();
        words
    }

    /// Configuration of an ecosystem that is there and not followed, in words; empty for most people.
    pub fn not_followed(&self, ecosystem: Ecosystem) -> Result<Vec<String>> {
        Ok(match ecosystem {
            Ecosystem::Npm => self.npm.resolved()?.endpoint.not_followed.clone(),
            Ecosystem::Pypi => self.pypi.resolved()?.endpoint.not_followed.clone(),
            Ecosystem::Cargo => self.cargo.resolved()?.endpoint.not_followed.clone(),
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => Vec::new(),
        })
    }

    /// The crates on this machine that stand for the default registry, where cargo's configuration has it so.
    pub(crate) fn cargo_local(&self) -> Result<Option<LocalCrates>> {
        endpoints::cargo_config::local(&self.session.finder())
    }

    /// The registries of crates beside the default one.
    pub fn cargo_registries(&self) -> Result<Vec<crate::metadata::cargo::Registry>> {
        endpoints::cargo_config::others::list(&self.session.finder())
    }

    /// The index of a registry of crates, as its name in a manifest means it; `None` for the default one.
    pub fn cargo_index_of(&self, name: &str) -> Result<Option<String>> {
        match name {
            endpoints::cargo_config::others::DEFAULT => Ok(None),
            name => {
                endpoints::cargo_config::others::index_of(&self.session.finder(), name).map(Some)
            }
        }
    }

    /// One of the registries of crates; the default one for no name.
    pub(crate) fn cargo_registry(&self, name: Option<&str>) -> Arc<cargo::CargoClient> {
        let Some(name) = name else { return Arc::clone(&self.cargo) };
        let mut others = self.cargo_others.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(cargo::CargoClient::other(self.session.clone(), name));
        Arc::clone(others.entry(name.to_owned()).or_insert_with(made))
    }

    /// The registry that a resolution names as the source of a crate; the default one for none.
    ///
    /// # Errors
    /// `unsupported-registry` where nobody configures it any more.
    pub(crate) fn cargo_source(&self, source: Option<&str>) -> Result<Arc<cargo::CargoClient>> {
        use crate::metadata::cargo::scope::canonical;
        let Some(source) = source else { return Ok(self.cargo_registry(None)) };
        let known = self.cargo_registries()?;
        let known = known.iter().find(|known| canonical(&known.index) == canonical(source));
        let known = known.ok_or_else(|| {
            let message = format!("the registry `{source}` is not configured here");
            Error::new(Kind::Failed, "unsupported-registry", message)
                .hint("define it as `[registries.NAME]` in cargo's configuration")
        })?;
        Ok(self.cargo_registry(Some(&known.name)))
    }

    /// Crates of the default registry and of others, by the keys that a resolver has for them.
    pub(crate) fn cargo_several(
        &self,
        others: &[crate::metadata::cargo::Registry],
    ) -> cargo::Several {
        let default = std::iter::once(None);
        let names = default.chain(others.iter().map(|registry| Some(registry.name.as_str())));
        cargo::Several::new(names.map(|name| self.cargo_registry(name)).collect(), others)
    }

    /// The address of a crate's file, as the registry's `config.json` says. Blocks.
    pub fn cargo_artifact_url(&self, name: &str, version: &semver::Version) -> Result<String> {
        self.cargo.artifact_url(name, version)
    }

    /// Whether cargo's configuration puts versions that the compiler can build first; `None` where it says nothing.
    pub fn cargo_rust_version_setting(&self) -> Result<Option<bool>> {
        endpoints::cargo_config::incompatible_rust_versions(&self.session.finder())
    }

    /// Fetches files for whose work `order` is, as many at once as the host lets, each verified. Blocks; `tell` is called on this
    /// thread, also where the host lets none begin for longer than a moment.
    ///
    /// All or nothing, but for what is only missed where it was guessed to be: the first failure stops the others and removes everything
    /// that this call has fetched.
    pub fn download(
        &self,
        requests: &[DownloadRequest],
        durability: Durability,
        order: &Order,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Vec<Downloaded>> {
        download::run(self, (requests, durability), order, tell)
    }

    /// Whether somebody may be asked for artefacts by their digests.
    pub(crate) fn has_artifact_mirrors(&self) -> bool {
        !self.session.request.offline && !self.session.request.overrides.artifacts().is_empty()
    }

    /// Keeps what broke off within its bounds.
    pub(crate) fn collect_partials(&self) -> std::io::Result<()> {
        let shared = &self.session.shared;
        download::partial::collect(&shared.partials, shared.gates.time.now())
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// How long servers took to answer.
    pub(crate) fn outside(&self) -> &outside::Outside {
        &self.session.shared.gates.outside
    }

    /// The connections and credentials for files of `ecosystem`; `source` says of which registry, where that is not its own one.
    pub(crate) fn files_of(
        &self,
        ecosystem: Ecosystem,
        source: Option<&str>,
    ) -> Result<download::FileAccess> {
        let (http, credentials) = match ecosystem {
            Ecosystem::Npm => {
                let resolved = self.npm.resolved()?;
                (resolved.http.clone(), resolved.endpoint.credentials.clone())
            }
            Ecosystem::Pypi => {
                let resolved = self.pypi.resolved()?;
                (resolved.http.clone(), resolved.endpoint.credentials.clone())
            }
            Ecosystem::Cargo => {
                let client = self.cargo_source(source)?;
                let resolved = client.resolved()?;
                (resolved.http.clone(), resolved.credentials.clone())
            }
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => return Err(no_registry()),
        };
        let http::Http { transport, mirrors, .. } = http;
        Ok(download::FileAccess { transport, credentials: Arc::new(credentials), mirrors })
    }
}
