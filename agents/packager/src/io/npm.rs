//! The npm registry: packuments by name.

pub(crate) mod packument;
pub(crate) mod search;

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use self::packument::NotPacked;
use super::announced::Follower;
use super::cache::memory::Value;
use super::cache::{Entry, Key};
use super::endpoints::{self, NpmEndpoint};
use super::flight::Outcome;
use super::http::{Http, Request, Urgency, Validators, nonsense};
use super::limits::{NAME_BYTES_MAX, PACKUMENT_BYTES_MAX};
use super::resource::{Answer, Fetched, Parsed, Resource, Session, unknown_package};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::npm::{Ahead, AtHand, Edition, Metadata, Packument};

/// The abbreviated form has all that resolution needs; a registry that does not know it sends the full one.
const ACCEPT: &str =
    "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*; q=0.1";

/// The form that says when each version was published.
const ACCEPT_DATED: &str = "application/json; q=1.0, */*; q=0.1";

/// What `encodeURIComponent` leaves alone, which is what npm sends.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@');

/// The endpoint with its connections.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) endpoint: NpmEndpoint,
    pub(crate) http: Http,
}

impl Resolved {
    fn key(&self, name: &str, dated: bool) -> Key {
        let registry = self.endpoint.registry_of(name);
        let kind = if dated { "npm-dated" } else { "npm" };
        let credentials = &self.endpoint.credentials;
        self.http.mirrors.key(Key::new(kind, registry, Some(credentials), name), credentials)
    }
}

/// npm as one request sees it.
#[derive(Debug)]
pub(crate) struct NpmClient {
    session: Session,
    resolved: OnceLock<Result<Arc<Resolved>>>,
    /// Who is asked about what arrives.
    ahead: Arc<Follower<dyn Ahead>>,
}

impl NpmClient {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, resolved: OnceLock::new(), ahead: Arc::default() }
    }

    /// Finds the endpoint on first use.
    pub(crate) fn resolved(&self) -> Result<&Arc<Resolved>> {
        let resolved = self.resolved.get_or_init(|| {
            let began = Instant::now();
            let endpoint = endpoints::npm(&self.session.finder(), &self.session.shared.npm_seen);
            self.session.shared.npm_found.note(&self.session.request.environment, began.elapsed());
            let endpoint = endpoint?;
            for what in &endpoint.not_followed {
                tracing::warn!("not followed: {what}");
            }
            let mirrors = self.session.mirrors(Ecosystem::Npm, &endpoint.default);
            let http = self.session.http(Ecosystem::Npm, &endpoint.transport, mirrors)?;
            Ok(Arc::new(Resolved { endpoint, http }))
        });
        resolved.as_ref().map_err(Clone::clone)
    }

    /// Whether memory has all these packages, where finding that out waits for nobody. Then there is nothing to wake another thread for.
    pub(crate) fn has_at_hand(&self, names: &[String]) -> bool {
        self.has_found() && names.iter().all(|name| matches!(self.known(name), Ok(Some(_))))
    }

    /// Whether the endpoint is known, or was found at once for these surroundings the last time.
    pub(crate) fn has_found(&self) -> bool {
        self.resolved.get().is_some()
            || self.session.shared.npm_found.is_last(&self.session.request.environment)
    }

    /// What memory knows of a name.
    fn known(&self, name: &str) -> Result<Option<Outcome>> {
        Ok(self.session.at_hand(self.resolved()?.key(name, self.session.request.dated), false))
    }

    /// Where a registry has the archive of a version by custom.
    pub(crate) fn tarball(&self, name: &str, version: &str) -> Option<String> {
        check_name(name).ok()?;
        let registry = self.resolved().ok()?.endpoint.registry_of(name);
        // What follows a plus is no part of the file's name.
        let version = version.split('+').next().unwrap_or(version);
        let bare = name.rsplit('/').next().unwrap_or(name);
        let file = utf8_percent_encode(version, ENCODED);
        Url::parse(&format!("{registry}{name}/-/{bare}-{file}.tgz")).ok().map(Into::into)
    }

    fn resource(&self, name: &str) -> Result<Arc<dyn Resource>> {
        let maker = Maker {
            resolved: Arc::clone(self.resolved()?),
            ahead: Arc::clone(&self.ahead),
            dated: self.session.request.dated,
        };
        PackumentResource::shared(name, maker)
    }
}

impl Metadata for NpmClient {
    fn packument(&self, name: &str) -> Result<Arc<Packument>> {
        let outcome = match self.known(name)? {
            Some(outcome) => outcome,
            None => self.session.ask(self.resource(name)?),
        };
        match outcome? {
            Value::Packument(packument) => Ok(packument),
            _ => Err(super::resource::wrong_kind()),
        }
    }

    fn at_hand(&self, name: &str) -> Option<AtHand> {
        let key = self.resolved().ok()?.key(name, self.session.request.dated);
        match self.session.at_hand_until(key, false)? {
            (Ok(Value::Packument(packument)), until) => Some(AtHand { packument, until }),
            _ => None,
        }
    }

    fn edition(&self) -> Option<(Edition, SystemTime)> {
        let (resolved, request) = (self.resolved().ok()?, &self.session.request);
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for number in self.session.shared.memory.edition() {
            context.update(&number.to_le_bytes());
        }
        context.update(&[u8::from(request.offline)]);
        context.update(&request.max_age.as_nanos().to_le_bytes());
        // Whose answers they are: every registry, with its scope and what is shown to it.
        let scopes = resolved.endpoint.scopes.keys().map(|scope| format!("{scope}/"));
        for name in scopes.chain([String::new()]) {
            context.update(resolved.key(&name, request.dated).bytes());
        }
        let mut edition = [0; 32];
        edition.copy_from_slice(context.finish().as_ref());
        Some((Edition(edition), SystemTime::now()))
    }

    fn prefetch(&self, name: &str) -> bool {
        if matches!(self.known(name), Ok(Some(_))) {
            return true;
        }
        // A wrong name is reported when it is really asked for.
        self.resource(name).is_ok_and(|resource| self.session.announce(resource))
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        self.ahead.set(ahead);
    }
}

/// Names are less than what npm once accepted, but nothing that changes the meaning of an address or a path.
fn check_name(name: &str) -> Result<()> {
    let parts: Vec<&str> = match name.strip_prefix('@') {
        Some(rest) => rest.split('/').collect(),
        None => vec![name],
    };
    let expected = if name.starts_with('@') { 2 } else { 1 };
    let forbidden = |character: char| {
        character.is_control()
            || character.is_whitespace()
            || r#"/\?#%:@<>"'`|"#.contains(character)
    };
    let usable =
        |part: &&str| !part.is_empty() && !part.starts_with('.') && !part.contains(forbidden);
    if name.len() <= NAME_BYTES_MAX && parts.len() == expected && parts.iter().all(usable) {
        return Ok(());
    }
    Err(bad_name(name))
}

fn bad_name(name: &str) -> Error {
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    Error::new(Kind::Usage, "bad-name", format!("`{shown}` cannot be the name of an npm package"))
        .hint("names look like `express` or `@scope/name`")
}

/// How resources of one request are made.
#[derive(Clone)]
struct Maker {
    resolved: Arc<Resolved>,
    ahead: Arc<Follower<dyn Ahead>>,
    /// Whether publication times are needed, which only the full form has.
    dated: bool,
}

struct PackumentResource {
    key: Key,
    url: Url,
    name: String,
    maker: Maker,
}

impl PackumentResource {
    fn shared(name: &str, maker: Maker) -> Result<Arc<dyn Resource>> {
        check_name(name)?;
        let registry = maker.resolved.endpoint.registry_of(name);
        let key = maker.resolved.key(name, maker.dated);
        let url = format!("{registry}{}", utf8_percent_encode(name, ENCODED));
        let url = Url::parse(&url).map_err(|_| bad_name(name))?;
        Ok(Arc::new(Self { key, url, name: name.to_owned(), maker }))
    }

    fn registry(&self) -> &Url {
        self.maker.resolved.endpoint.registry_of(&self.name)
    }

    /// Refuses an answer that is about another package than was asked for.
    fn check_own(&self, name: &str, url: &Url) -> Result<()> {
        if name == self.name {
            return Ok(());
        }
        let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
        Err(nonsense(url, format!("it is about a package named `{shown}`")))
    }
}

impl Resource for PackumentResource {
    fn key(&self) -> Key {
        self.key
    }

    fn place(&self) -> Key {
        let Resolved { endpoint, http } = &*self.maker.resolved;
        let key = Key::new("npm", self.registry(), Some(&endpoint.credentials), "");
        http.mirrors.key(key, &endpoint.credentials)
    }

    fn title(&self) -> String {
        format!("npm:{}", self.name)
    }

    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            let credentials = &self.maker.resolved.endpoint.credentials;
            let mut request =
                Request::new(self.url.clone(), Some(credentials), PACKUMENT_BYTES_MAX);
            request.accept = Some(if self.maker.dated { ACCEPT_DATED } else { ACCEPT });
            request.validators = validators;
            Fetched::of(self.maker.resolved.http.get(&request, urgency).await?)
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        // Most versions are never looked at: packed they need a fraction of the memory.
        let packed = match packument::pack(&answer.body, &self.name, self.registry()) {
            Ok((name, packed)) => {
                self.check_own(&name, &answer.url)?;
                packed
            }
            Err(NotPacked::Unreadable(error)) => return Err(nonsense(&answer.url, error)),
            Err(NotPacked::TooLarge) => Bytes::new(),
        };
        if let Some(value) = self.unpack(&packed) {
            // The archive has all that is read of the answer.
            return Ok(Parsed { value, stored: Box::new(Bytes::new), packed });
        }
        let packument = packument::parse(&answer.body, &self.name, self.registry())
            .map_err(|error| nonsense(&answer.url, error))?;
        self.check_own(&packument.name, &answer.url)?;
        let (value, body) = (Value::Packument(Arc::new(packument)), answer.body.clone());
        Ok(Parsed { value, stored: Box::new(move || body), packed: Bytes::new() })
    }

    fn weight(&self, _value: &Value, length: usize) -> usize {
        length + crate::metadata::npm::notes_bytes_max(length)
    }

    fn pack(&self, value: &Value) -> Bytes {
        let Value::Packument(packument) = value else { return Bytes::new() };
        packument.pack().unwrap_or_default()
    }

    fn unpack(&self, packed: &Bytes) -> Option<Value> {
        let packument = Packument::unpack(packed).ok()?;
        Some(Value::Packument(Arc::new(packument)))
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let packument = packument::parse(&entry.body, &self.name, self.registry())
            .map_err(|error| nonsense(&self.url, error))?;
        Ok(Value::Packument(Arc::new(packument)))
    }

    fn missing(&self, near: &[String]) -> Error {
        unknown_package("npm", &self.name, self.registry(), near)
    }

    fn is_wanted(&self) -> bool {
        !self.maker.ahead.is_gone()
    }

    fn leads_to(&self, value: &Value) -> Vec<Arc<dyn Resource>> {
        let Value::Packument(packument) = value else { return Vec::new() };
        let Some(ahead) = self.maker.ahead.get() else { return Vec::new() };
        let next = ahead.after(packument).into_iter();
        let resource = |name: String| Self::shared(&name, self.maker.clone()).ok();
        next.filter_map(resource).collect()
    }
}

#[cfg(test)]
mod tests;
