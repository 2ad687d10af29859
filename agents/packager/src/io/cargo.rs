//! cargo's sparse index: crates by name, the registry's `config.json`, and the addresses of crates' files.

pub(crate) mod index;
mod several;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use url::Url;

use super::announced::Follower;
use super::cache::memory::Value;
use super::cache::{Entry, Key};
use super::endpoints::{self, CargoEndpoint};
use super::http::{Http, Mirrors, Request, Urgency, Validators, nonsense};
use super::limits::{CRATE_BYTES_MAX, REGISTRY_CONFIG_BYTES_MAX};
use super::resource::{Answer, Fetched, Parsed, Resource, Session, unknown_package, wrong_kind};
use super::secret::{Credentials, Scope};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::cargo::{Ahead, Crate, IndexFile, Metadata};

pub(crate) use self::index::RegistryConfig;
pub(crate) use self::several::Several;

/// The endpoint with its connections.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) endpoint: CargoEndpoint,
    /// The token, for addresses of the index's own host.
    pub(crate) credentials: Credentials,
    pub(crate) http: Http,
}

impl Resolved {
    fn key(&self, kind: &str, what: &str) -> Key {
        let key = Key::new(kind, &self.endpoint.index, Some(&self.credentials), what);
        self.http.mirrors.key(key, &self.credentials)
    }
}

/// An index as one request sees it.
#[derive(Debug)]
pub(crate) struct CargoClient {
    session: Session,
    /// The registry's name, where it is not the default one.
    name: Option<String>,
    resolved: OnceLock<Result<Arc<Resolved>>>,
    /// Who is asked about what arrives.
    ahead: Arc<Follower<dyn Ahead>>,
}

impl CargoClient {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, name: None, resolved: OnceLock::new(), ahead: Arc::default() }
    }

    /// One of the other registries that are configured.
    pub(crate) fn other(session: Session, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::new(session) }
    }

    /// Finds the endpoint on first use.
    pub(crate) fn resolved(&self) -> Result<&Arc<Resolved>> {
        let resolved = self.resolved.get_or_init(|| {
            let endpoint = match &self.name {
                None => endpoints::cargo(&self.session.finder())?,
                Some(name) => endpoints::cargo_other(&self.session.finder(), name)?,
            };
            for what in &endpoint.not_followed {
                tracing::warn!("not followed: {what}");
            }
            // Mirrors are the default registry's.
            let mirrors = match &self.name {
                None => self.session.mirrors(Ecosystem::Cargo, &endpoint.index),
                Some(_) => Mirrors::default(),
            };
            let http = self.session.http(Ecosystem::Cargo, &endpoint.transport, mirrors)?;
            let mut credentials = Credentials::default();
            if let (Some(token), Some(scope)) = (&endpoint.token, Scope::host_of(&endpoint.index)) {
                credentials.add(scope, token.clone());
            }
            Ok(Arc::new(Resolved { endpoint, credentials, http }))
        });
        resolved.as_ref().map_err(Clone::clone)
    }

    /// The endpoint, where it was found.
    pub(crate) fn resolved_already(&self) -> Option<&Arc<Resolved>> {
        self.resolved.get().and_then(|resolved| resolved.as_ref().ok())
    }

    /// Announces what the registry says about itself: every address of a file is made of it.
    pub(crate) fn prefetch_registry_config(&self) {
        // What is wrong is reported when it is really asked for.
        if let Ok(resource) = self.resolved().and_then(config_resource) {
            self.session.announce(resource);
        }
    }

    /// What the registry says about itself. Blocks.
    pub(crate) fn registry_config(&self) -> Result<Arc<RegistryConfig>> {
        match self.session.ask(config_resource(self.resolved()?)?)? {
            Value::RegistryConfig(config) => Ok(config),
            _ => Err(wrong_kind()),
        }
    }

    /// Where the file of one version is. Blocks.
    pub(crate) fn artifact_url(&self, name: &str, version: &semver::Version) -> Result<String> {
        index::check_name(name)?;
        let config = self.registry_config()?;
        // The digest stands in the index, which is asked only where the address needs it.
        let checksum = if config.needs_checksum() {
            let found = self.krate(name)?;
            let version = found.versions().find(|known| known.number() == version);
            version.and_then(|version| version.hashes().sha256)
        } else {
            None
        };
        let text = config.artifact_url(name, &version.to_string(), checksum.as_deref());
        let url = text.as_deref().and_then(|text| Url::parse(text).ok());
        let url = url.filter(|url| matches!(url.scheme(), "https" | "http"));
        let mut url = url.ok_or_else(|| {
            let index = &self
                .resolved
                .get()
                .and_then(|resolved| resolved.as_ref().ok())
                .map(|resolved| &resolved.endpoint.index);
            let place = index.map(super::secret::shown).unwrap_or_default();
            let message = format!(
                "the `dl` of the registry at `{place}` gives no address for `{name}` {version}"
            );
            Error::new(Kind::Network, "registry-nonsense", message)
        })?;
        let _ = super::secret::take_userinfo(&mut url);
        Ok(url.into())
    }

    /// The index file of a crate as it was served. Blocks.
    pub(crate) fn index_file(&self, name: &str) -> Result<IndexFile> {
        let (value, entry) = self.session.original(self.resource(name)?)?;
        let Value::Crate(found) = value else { return Err(wrong_kind()) };
        let revision = index::revision(&entry.validators);
        Ok(IndexFile { name: found.name().to_owned(), raw: entry.body, revision })
    }

    fn resource(&self, name: &str) -> Result<Arc<dyn Resource>> {
        let (resolved, ahead) = (Arc::clone(self.resolved()?), Arc::clone(&self.ahead));
        CrateResource::shared(name, resolved, self.session.clone(), ahead)
    }
}

impl Metadata for CargoClient {
    fn krate(&self, name: &str) -> Result<Arc<Crate>> {
        match self.session.ask(self.resource(name)?)? {
            // Indexes do not tell upper from lower case, and some no hyphens either; files, locks and compilers do.
            Value::Crate(found) if found.name() != name => {
                let near = [found.name().to_owned()];
                Err(unknown_package("cargo", name, &self.resolved()?.endpoint.index, &near))
            }
            Value::Crate(found) => Ok(found),
            _ => Err(wrong_kind()),
        }
    }

    fn prefetch(&self, name: &str) -> bool {
        // A wrong name is reported when it is really asked for.
        self.resource(name).is_ok_and(|resource| self.session.announce(resource))
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        self.ahead.set(ahead);
    }
}

fn url_of(index: &Url, lower: &str) -> Result<Url> {
    let text = format!("{index}{}", index::relative_path(lower));
    Url::parse(&text).map_err(|error| nonsense(index, error))
}

fn config_resource(resolved: &Arc<Resolved>) -> Result<Arc<dyn Resource>> {
    let index = &resolved.endpoint.index;
    let key = resolved.key("cargo-config", "config.json");
    let url = index.join("config.json").map_err(|error| nonsense(index, error))?;
    Ok(Arc::new(ConfigResource { key, url, resolved: Arc::clone(resolved) }))
}

struct ConfigResource {
    key: Key,
    url: Url,
    resolved: Arc<Resolved>,
}

impl Resource for ConfigResource {
    fn key(&self) -> Key {
        self.key
    }

    fn title(&self) -> String {
        "cargo-config:config.json".to_owned()
    }

    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            let mut request = Request::new(self.url.clone(), None, REGISTRY_CONFIG_BYTES_MAX);
            request.validators = validators;
            let reply = self.resolved.http.get(&request, urgency).await?;
            // A private registry answers so until it sees the token; a public one never gets to see it.
            let refused = matches!(reply.status.as_u16(), 401 | 403);
            if !refused || self.resolved.endpoint.token.is_none() {
                return Fetched::of(reply);
            }
            request.credentials = Some(&self.resolved.credentials);
            Fetched::of(self.resolved.http.get(&request, urgency).await?)
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        let config =
            RegistryConfig::parse(&answer.body).map_err(|error| nonsense(&answer.url, error))?;
        let body = Bytes::clone(&answer.body);
        let value = Value::RegistryConfig(Arc::new(config));
        Ok(Parsed { value, stored: Box::new(|| body), packed: Bytes::new() })
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let config =
            RegistryConfig::parse(&entry.body).map_err(|error| nonsense(&self.url, error))?;
        Ok(Value::RegistryConfig(Arc::new(config)))
    }

    fn missing(&self, _near: &[String]) -> Error {
        nonsense(&self.url, "a cargo registry must have this file")
    }
}

struct CrateResource {
    key: Key,
    url: Url,
    name: String,
    resolved: Arc<Resolved>,
    session: Session,
    ahead: Arc<Follower<dyn Ahead>>,
}

impl CrateResource {
    fn shared(
        name: &str,
        resolved: Arc<Resolved>,
        session: Session,
        ahead: Arc<Follower<dyn Ahead>>,
    ) -> Result<Arc<dyn Resource>> {
        index::check_name(name)?;
        let index = &resolved.endpoint.index;
        let lower = name.to_ascii_lowercase();
        let key = resolved.key("cargo", &lower);
        let url = url_of(index, &lower)?;
        Ok(Arc::new(Self { key, url, name: name.to_owned(), resolved, session, ahead }))
    }

    /// The token, where the registry says that everything needs it.
    async fn credentials(&self) -> Result<Option<&Credentials>> {
        if self.resolved.endpoint.token.is_none() {
            return Ok(None);
        }
        match self.session.ask_in_task(config_resource(&self.resolved)?).await? {
            Value::RegistryConfig(config) if config.auth_required => {
                Ok(Some(&self.resolved.credentials))
            }
            _ => Ok(None),
        }
    }

    /// A crate of the same name with hyphens and underscores exchanged, which is the most frequent mistake.
    async fn sibling(
        &self,
        credentials: Option<&Credentials>,
        urgency: &Urgency,
    ) -> Option<String> {
        let lower = self.name.to_ascii_lowercase();
        for sibling in [lower.replace('_', "-"), lower.replace('-', "_")] {
            if sibling == lower {
                continue;
            }
            let url = url_of(&self.resolved.endpoint.index, &sibling).ok()?;
            let request = Request::new(url, credentials, CRATE_BYTES_MAX);
            let reply = self.resolved.http.get(&request, urgency).await.ok()?;
            if reply.status == reqwest::StatusCode::OK {
                return Some(sibling);
            }
        }
        None
    }
}

impl Resource for CrateResource {
    fn key(&self) -> Key {
        self.key
    }

    fn place(&self) -> Key {
        self.resolved.key("cargo", "")
    }

    fn title(&self) -> String {
        format!("cargo:{}", self.name)
    }

    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            let credentials = self.credentials().await?;
            let mut request = Request::new(self.url.clone(), credentials, CRATE_BYTES_MAX);
            request.validators = validators;
            let reply = self.resolved.http.get(&request, urgency).await?;
            // 451 is one of the answers that cargo's protocol names for "no such crate".
            if reply.is_missing() || reply.status.as_u16() == 451 {
                return Ok(Fetched::Missing { near: self.sibling(credentials, urgency).await });
            }
            Fetched::of(reply)
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        let found =
            index::parse(&answer.body, &self.name).map_err(|why| nonsense(&answer.url, why))?;
        let (body, packed) = (Bytes::clone(&answer.body), found.archive().clone());
        // Cargo's own cache is written from the answer as it is.
        let stored = Box::new(|| body);
        Ok(Parsed { value: Value::Crate(Arc::new(found)), stored, packed })
    }

    fn weight(&self, value: &Value, length: usize) -> usize {
        match value {
            Value::Crate(krate) => krate.bytes(),
            _ => length,
        }
    }

    fn pack(&self, value: &Value) -> Bytes {
        match value {
            Value::Crate(krate) => krate.archive().clone(),
            _ => Bytes::new(),
        }
    }

    fn unpack(&self, packed: &Bytes) -> Option<Value> {
        let krate = Crate::open(packed).ok()?;
        krate.name().eq_ignore_ascii_case(&self.name).then(|| Value::Crate(Arc::new(krate)))
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let found =
            index::parse(&entry.body, &self.name).map_err(|why| nonsense(&self.url, why))?;
        Ok(Value::Crate(Arc::new(found)))
    }

    fn missing(&self, near: &[String]) -> Error {
        unknown_package("cargo", &self.name, &self.resolved.endpoint.index, near)
    }

    fn is_wanted(&self) -> bool {
        !self.ahead.is_gone()
    }

    fn leads_to(&self, value: &Value) -> Vec<Arc<dyn Resource>> {
        let Value::Crate(krate) = value else { return Vec::new() };
        let Some(ahead) = self.ahead.get() else { return Vec::new() };
        let resource = |name: String| {
            let (resolved, session) = (Arc::clone(&self.resolved), self.session.clone());
            Self::shared(&name, resolved, session, Arc::clone(&self.ahead)).ok()
        };
        ahead.after(krate).into_iter().filter_map(resource).collect()
    }
}

#[cfg(test)]
mod tests;
