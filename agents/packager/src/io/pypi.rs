//! The Python index: project pages in both forms, and the core metadata of wheels.

pub(crate) mod core_metadata;
pub(crate) mod file_name;
pub(crate) mod links;
pub(crate) mod local;
pub(crate) mod page;
mod page_html;
pub(crate) mod source;
mod wheel;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use pep508_rs::PackageName;
use url::Url;

use self::links::Linked;
use super::announced::Follower;
use super::cache::memory::Value;
use super::cache::{Entry, Key};
use super::endpoints::{self, PypiEndpoint};
use super::http::{Http, Request, Urgency, Validators, nonsense};
use super::limits::{CORE_METADATA_BYTES_MAX, PROJECT_BYTES_MAX, SOURCE_IN_MEMORY_BYTES_MAX};
use super::resource::{Answer, Fetched, Parsed, Resource, Session, unknown_package};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::Hashes;
use crate::metadata::pypi::{Ahead, CoreMetadata, File, FileKind, Metadata, Next, Project};

/// JSON where the index has it; some indexes answer HTML whatever is asked for.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.2, text/html; q=0.1";
/// How many questions for metadata files that nobody advertised, with none present, mean that a host has none.
const METADATA_FILES_TRIED_MAX: u32 = 3;

/// Whether a host serves PEP 658 files that it does not advertise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MetadataFiles {
    present: bool,
    tried: u32,
}

/// Whether a wheel has a metadata file beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Yes,
    Perhaps,
    No,
}

/// The endpoint with its connections.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) endpoint: PypiEndpoint,
    pub(crate) http: Http,
}

/// The Python index as one request sees it.
#[derive(Debug)]
pub(crate) struct PypiClient {
    session: Session,
    resolved: OnceLock<Result<Arc<Resolved>>>,
    /// What directories of this machine list beside the indexes.
    directories: OnceLock<Result<Vec<Linked>>>,
    /// Who is asked about what arrives.
    ahead: Arc<Follower<dyn Ahead>>,
}

/// How resources of one request are made: with its endpoint, and with whoever is asked about what arrives.
#[derive(Clone, Debug)]
struct Maker {
    session: Session,
    resolved: Arc<Resolved>,
    ahead: Arc<Follower<dyn Ahead>>,
}

impl PypiClient {
    pub(crate) fn new(session: Session) -> Self {
        let (resolved, directories) = (OnceLock::new(), OnceLock::new());
        Self { session, resolved, directories, ahead: Arc::default() }
    }

    /// Finds the endpoint on first use.
    pub(crate) fn resolved(&self) -> Result<&Arc<Resolved>> {
        let resolved = self.resolved.get_or_init(|| {
            let endpoint = endpoints::pypi(&self.session.finder())?;
            for what in &endpoint.not_followed {
                tracing::warn!("not followed: {what}");
            }
            let mirrors = self.session.mirrors(Ecosystem::Pypi, &endpoint.index);
            let http = self.session.http(Ecosystem::Pypi, &endpoint.transport, mirrors)?;
            Ok(Arc::new(Resolved { endpoint, http }))
        });
        resolved.as_ref().map_err(Clone::clone)
    }

    /// Fails with `index-unknown` for a package that has to come from an index of its own and would be asked of another one. Who
    /// names an index for one command means that one alone.
    pub(crate) fn check_indexes(&self, wanted: &[(PackageName, String)]) -> Result<()> {
        if wanted.is_empty() || self.session.finder().overrides.get(Ecosystem::Pypi).is_some() {
            return Ok(());
        }
        let pins = &self.resolved()?.endpoint.pins;
        match wanted.iter().find(|(name, _)| !pins.contains_key(name)) {
            Some((name, index)) => Err(endpoints::index_unknown(name, index)),
            None => Ok(()),
        }
    }

    fn maker(&self) -> Result<Maker> {
        let resolved = Arc::clone(self.resolved()?);
        Ok(Maker { session: self.session.clone(), resolved, ahead: Arc::clone(&self.ahead) })
    }
}

impl Maker {
    fn project(&self, name: &PackageName) -> Result<Arc<dyn Resource>> {
        let endpoint = &self.resolved.endpoint;
        let index = self.index_of(name);
        let key = self.key("pypi", name, name.as_ref());
        let page = |index: &Url| {
            Url::parse(&format!("{index}{name}/")).map_err(|error| nonsense(index, error))
        };
        let first = endpoint.first.iter().filter(|_| !endpoint.pins.contains_key(name));
        let pages = first.chain([index]).map(page);
        let pages = pages.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectResource { key, pages, name: name.clone(), maker: self.clone() }))
    }

    /// The key of something that belongs to a package. Every index that is asked for it is part of it, with what it is shown: what one
    /// says must not be taken for what another one says, nor for what it says to somebody else.
    fn key(&self, kind: &str, name: &PackageName, what: &str) -> Key {
        let Resolved { endpoint, http } = &*self.resolved;
        let credentials = &endpoint.credentials;
        let key = Key::new(kind, self.index_of(name), Some(credentials), what);
        let key = http.mirrors.key(key, credentials);
        match endpoint.pins.contains_key(name) {
            true => key,
            false => endpoint.first.iter().fold(key, |key, it| key.and(it, Some(credentials))),
        }
    }

    /// The index that has the last word on a package.
    fn index_of(&self, name: &PackageName) -> &Url {
        let endpoint = &self.resolved.endpoint;
        endpoint.pins.get(name).unwrap_or(&endpoint.index)
    }

    fn core_metadata(&self, name: &PackageName, file: &Arc<File>) -> Result<Arc<dyn Resource>> {
        if file.kind == FileKind::Source && file.hashes.is_empty() {
            // What it says of itself is believed for what the index listed, not for whatever is there now.
            return Err(source::needs_build(&file.name));
        }
        let endpoint = &self.resolved.endpoint;
        let url = Url::parse(&file.url).map_err(|error| nonsense(&endpoint.index, error))?;
        let digest = file.hashes.sha256.as_deref().or(file.hashes.sha512.as_deref());
        // The digest is the file's, and what is believed of it comes from where it lies: that, an index says of its own files. A page
        // beside the indexes can name any place for a file of theirs.
        let is_elsewhere = !endpoint.links.is_empty() && !endpoint.pins.contains_key(name);
        let place = digest.filter(|_| !is_elsewhere).unwrap_or(&file.url);
        let what = format!("{}\n{}\n{place}", file.name, digest.unwrap_or_default());
        // Wherever on its server it is, what lies beside it may be asked for.
        let server = url.join("/").map_err(|error| nonsense(&endpoint.index, error))?;
        let shown = Some(&endpoint.credentials).filter(|them| !them.is_empty());
        let key = self.key("pypi-core", name, &what);
        let key = shown.map_or(key, |credentials| key.and(&server, Some(credentials)));
        Ok(Arc::new(CoreResource {
            key,
            url,
            name: name.clone(),
            file: Arc::clone(file),
            maker: self.clone(),
        }))
    }

    /// The resources of what is probably asked for next.
    fn all(&self, next: Vec<Next>) -> Vec<Arc<dyn Resource>> {
        let resource = |next| match next {
            Next::Project(name) => self.project(&name).ok(),
            Next::CoreMetadata(_, file) if path_of(&file).is_some() => None,
            Next::CoreMetadata(project, file) => self.core_metadata(&project.name, &file).ok(),
        };
        next.into_iter().filter_map(resource).collect()
    }

    fn ahead(&self) -> Option<Arc<dyn Ahead>> {
        self.ahead.get()
    }
}

impl Metadata for PypiClient {
    fn project(&self, name: &PackageName) -> Result<Arc<Project>> {
        self.with_linked(name)
    }

    fn core_metadata(&self, project: &Project, file: &Arc<File>) -> Result<Arc<CoreMetadata>> {
        if let Some(path) = path_of(file) {
            let Session { shared, request } = &self.session;
            let about = (&shared.local_digests, &*shared.unpacker);
            let body =
                local::metadata(&path, &file.kind, &file.hashes, about, &request.cancellation)?;
            return Ok(Arc::new(read_headers(&body, &project.name, file)?.1));
        }
        match self.session.ask(self.maker()?.core_metadata(&project.name, file)?)? {
            Value::CoreMetadata(metadata) => Ok(metadata),
            _ => Err(super::resource::wrong_kind()),
        }
    }

    fn prefetch_project(&self, name: &PackageName) -> bool {
        if self.resolved().is_ok_and(|resolved| resolved.endpoint.has_no_index) {
            return true;
        }
        // What is wrong is reported when it is really asked for; the same below.
        let resource = self.maker().and_then(|maker| maker.project(name));
        resource.is_ok_and(|resource| self.session.announce(resource))
    }

    fn prefetch_core_metadata(&self, project: &Arc<Project>, file: &Arc<File>) {
        if path_of(file).is_some() {
            return;
        }
        let resource = self.maker().and_then(|maker| maker.core_metadata(&project.name, file));
        if let Ok(resource) = resource {
            self.session.announce(resource);
        }
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        self.ahead.set(ahead);
    }
}

struct ProjectResource {
    key: Key,
    /// Its page at each index, in the order in which they are asked; never empty.
    pages: Vec<Url>,
    name: PackageName,
    maker: Maker,
}

impl Resource for ProjectResource {
    fn key(&self) -> Key {
        self.key
    }

    fn place(&self) -> Key {
        self.maker.key("pypi", &self.name, "")
    }

    fn title(&self) -> String {
        format!("pypi:{}", self.name)
    }

    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            let credentials = &self.maker.resolved.endpoint.credentials;
            let is_only = self.pages.len() == 1;
            let mut found = Fetched::Missing { near: None };
            for page in &self.pages {
                let mut request = Request::new(page.clone(), Some(credentials), PROJECT_BYTES_MAX);
                request.accept = Some(ACCEPT);
                // What one index said is not confirmed by another.
                request.validators = validators.filter(|_| is_only);
                found = Fetched::of(self.maker.resolved.http.get(&request, urgency).await?)?;
                // An index that fails is not passed over: a later one could answer for it whatever it likes.
                if !matches!(found, Fetched::Missing { .. }) {
                    break;
                }
            }
            Ok(found)
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        let project = page::parse(&answer.body, &answer.media_type, &self.name, &answer.url)
            .map_err(|why| nonsense(&answer.url, why))?;
        let packed = project.pack().unwrap_or_default();
        // Most files are never looked at: packed they need a fraction of the memory.
        let project = Arc::new(Project::unpack(&packed, &self.name).unwrap_or(project));
        let value = Value::Project(Arc::clone(&project));
        Ok(Parsed { value, stored: Box::new(move || page::reduced(&project).into()), packed })
    }

    fn weight(&self, value: &Value, length: usize) -> usize {
        if let Value::Project(project) = value { project.bytes() } else { length }
    }

    fn pack(&self, value: &Value) -> Bytes {
        let Value::Project(project) = value else { return Bytes::new() };
        project.pack().unwrap_or_default()
    }

    fn unpack(&self, packed: &Bytes) -> Option<Value> {
        Some(Value::Project(Arc::new(Project::unpack(packed, &self.name).ok()?)))
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let project = page::parse(&entry.body, page::JSON, &self.name, &self.pages[0])
            .map_err(|why| nonsense(&self.pages[0], why))?;
        Ok(Value::Project(Arc::new(project)))
    }

    fn missing(&self, near: &[String]) -> Error {
        let endpoint = &self.maker.resolved.endpoint;
        let index = self.maker.index_of(&self.name);
        let error = unknown_package("Python", self.name.as_ref(), index, near);
        if near.is_empty() && !endpoint.not_followed.is_empty() {
            let others = endpoint.not_followed.join(", ");
            return error.hint(format!("check the spelling; these are not followed: {others}"));
        }
        error
    }

    fn is_wanted(&self) -> bool {
        !self.maker.ahead.is_gone()
    }

    fn leads_to(&self, value: &Value) -> Vec<Arc<dyn Resource>> {
        match (value, self.maker.ahead()) {
            (Value::Project(project), Some(ahead)) => self.maker.all(ahead.after_project(project)),
            _ => Vec::new(),
        }
    }
}

struct CoreResource {
    key: Key,
    /// The wheel.
    url: Url,
    name: PackageName,
    file: Arc<File>,
    maker: Maker,
}

impl CoreResource {
    fn is_source(&self) -> bool {
        self.file.kind == FileKind::Source
    }

    /// The whole source archive.
    async fn archive(&self, urgency: &Urgency) -> Result<Fetched> {
        let credentials = &self.maker.resolved.endpoint.credentials;
        let request = Request::new(self.url.clone(), Some(credentials), SOURCE_IN_MEMORY_BYTES_MAX);
        let fetched = Fetched::of(self.maker.resolved.http.get(&request, urgency).await?)?;
        if let Fetched::New(answer) = &fetched {
            verify(&answer.body, &self.file.hashes, &answer.url)?;
        }
        Ok(fetched)
    }

    /// Whether there is a PEP 658 file. Unadvertised ones of source archives are not in use.
    fn beside(&self) -> Beside {
        if self.is_source() {
            return Beside::No;
        }
        match self.file.core_metadata {
            Some(true) => return Beside::Yes,
            Some(false) => return Beside::No,
            None => {}
        }
        let mut table =
            self.maker.session.shared.metadata_files.lock().unwrap_or_else(PoisonError::into_inner);
        // A page can name any number of hosts.
        if table.len() > 1024 {
            table.clear();
        }
        let seen = table.entry(self.host().to_owned()).or_default();
        if seen.present {
            return Beside::Yes;
        }
        if seen.tried >= METADATA_FILES_TRIED_MAX {
            return Beside::No;
        }
        // Counted before the answer is there: many questions begin at once.
        seen.tried += 1;
        Beside::Perhaps
    }

    fn host(&self) -> &str {
        &self.url[..url::Position::BeforePath]
    }

    fn saw_metadata_file(&self) {
        let mut table =
            self.maker.session.shared.metadata_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = table.get_mut(self.host()) {
            seen.present = true;
        }
    }

    /// Asks for the metadata file and for the end of the wheel, and takes what comes first: nobody advertised the file, and
    /// waiting for its absence would cost a round trip where there is none.
    async fn either(&self, urgency: &Urgency) -> Result<Option<Answer>> {
        let file = std::pin::pin!(self.metadata_file(urgency));
        let wheel = std::pin::pin!(self.wheel(urgency));
        match select(file, wheel).await {
            Either::Left((Ok(None), wheel)) => wheel.await,
            Either::Left((found, _)) => found,
            Either::Right((Ok(Some(answer)), _)) => Ok(Some(answer)),
            Either::Right((other, file)) => match file.await? {
                Some(answer) => Ok(Some(answer)),
                None => other,
            },
        }
    }

    /// What the end of the wheel says.
    async fn wheel(&self, urgency: &Urgency) -> Result<Option<Answer>> {
        let reader = wheel::Reader {
            http: &self.maker.resolved.http,
            credentials: &self.maker.resolved.endpoint.credentials,
            url: &self.url,
            file_name: &self.file.name,
            urgency,
        };
        reader.metadata().await
    }

    async fn metadata_file(&self, urgency: &Urgency) -> Result<Option<Answer>> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}.metadata", self.url.path()));
        let credentials = &self.maker.resolved.endpoint.credentials;
        let request = Request::new(url, Some(credentials), CORE_METADATA_BYTES_MAX);
        let reply = self.maker.resolved.http.get(&request, urgency).await?;
        // Servers of static files answer 403 for what does not exist.
        if reply.is_missing() || reply.status == reqwest::StatusCode::FORBIDDEN {
            return Ok(None);
        }
        if reply.status != reqwest::StatusCode::OK {
            return Err(reply.unexpected());
        }
        verify(&reply.body, &self.file.core_metadata_hashes, &reply.url)?;
        // A server that answers everything with a page has no such file either.
        if self.file.core_metadata.is_none() && !core_metadata::looks_right(&reply.body) {
            return Ok(None);
        }
        self.saw_metadata_file();
        Ok(Some(reply.into()))
    }
}

/// What a file says of itself, and how long that part of `body` is.
fn read_headers(body: &Bytes, name: &PackageName, file: &File) -> Result<(usize, CoreMetadata)> {
    let headers = core_metadata::headers(body);
    if file.kind == FileKind::Source && !source::is_static(headers) {
        return Err(source::needs_build(&file.name));
    }
    let metadata = core_metadata::parse(headers, name, &file.version)
        .map_err(|why| core_metadata::bad(&file.name, &why))?;
    Ok((headers.len(), metadata))
}

/// Where a place of this machine is.
fn local_path(url: &Url) -> Option<PathBuf> {
    url.to_file_path().ok().filter(|_| url.scheme() == "file")
}

/// Where a file is that lies on this machine.
fn path_of(file: &File) -> Option<PathBuf> {
    let is_local = file.url.starts_with("file:");
    Url::parse(&file.url).ok().filter(|_| is_local).as_ref().and_then(local_path)
}

fn verify(bytes: &[u8], expected: &Hashes, url: &Url) -> Result<()> {
    let digest = |algorithm| crate::hex::hex(ring::digest::digest(algorithm, bytes).as_ref());
    let pairs =
        [(&expected.sha256, &ring::digest::SHA256), (&expected.sha512, &ring::digest::SHA512)];
    for (expected, algorithm) in pairs {
        let Some(expected) = expected else { continue };
        let got = digest(algorithm);
        if got != *expected {
            let shown = super::secret::shown(url);
            let message =
                format!("`{shown}` does not match its hash: expected {expected}, got {got}");
            return Err(Error::new(Kind::Verification, "hash-mismatch", message).hint(
                "the index or something between is damaged or hostile; nothing was changed",
            ));
        }
    }
    Ok(())
}

impl Resource for CoreResource {
    fn key(&self) -> Key {
        self.key
    }

    fn title(&self) -> String {
        format!("pypi-file:{}", self.file.name)
    }

    fn is_immutable(&self) -> bool {
        !self.file.hashes.is_empty()
    }

    fn fetch<'a>(
        &'a self,
        _validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            if self.is_source() {
                return self.archive(urgency).await;
            }
            let found = match self.beside() {
                Beside::Perhaps => self.either(urgency).await?,
                Beside::No => self.wheel(urgency).await?,
                Beside::Yes => match self.metadata_file(urgency).await? {
                    Some(answer) => Some(answer),
                    None => self.wheel(urgency).await?,
                },
            };
            Ok(found.map_or(Fetched::Missing { near: None }, Fetched::New))
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        let body = match self.is_source() {
            true => {
                let unpacker = &self.maker.session.shared.unpacker;
                source::package_info(unpacker, &answer.body, &self.file.name)?
            }
            false => answer.body.clone(),
        };
        let (length, metadata) = read_headers(&body, &self.name, &self.file)?;
        let headers = body.slice(..length);
        let stored = Box::new(|| headers);
        Ok(Parsed { value: Value::CoreMetadata(Arc::new(metadata)), stored, packed: Bytes::new() })
    }

    fn weight(&self, value: &Value, length: usize) -> usize {
        // The description was not kept.
        if let Value::CoreMetadata(core) = value { core.bytes() } else { length }
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let metadata = core_metadata::parse(&entry.body, &self.name, &self.file.version)
            .map_err(|why| core_metadata::bad(&self.file.name, &why))?;
        Ok(Value::CoreMetadata(Arc::new(metadata)))
    }

    fn missing(&self, _near: &[String]) -> Error {
        let shown = super::secret::shown(&self.url);
        let message =
            format!("the index lists `{}`, but there is no such file at `{shown}`", self.file.name);
        Error::new(Kind::Network, "registry-error", message)
            .hint("the mirror is incomplete; try again later or use another index")
    }

    fn is_wanted(&self) -> bool {
        !self.maker.ahead.is_gone()
    }

    fn leads_to(&self, value: &Value) -> Vec<Arc<dyn Resource>> {
        match (value, self.maker.ahead()) {
            (Value::CoreMetadata(core), Some(ahead)) => {
                self.maker.all(ahead.after_core_metadata(core))
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
