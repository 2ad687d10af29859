//! The common path of every question to a registry: memory, disk, network, and back through the caches.
//!
//! Freshness is our own rule (registries give none): an answer counts for `max_age`, then it is confirmed with
//! the validators that came with it, or fetched again. Offline, whatever is there counts, whatever its age.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use url::Url;

use super::cache::memory::Value;
use super::cache::{Entry, Key};
use super::endpoints::{Finder, TransportSettings};
use super::flight::{Boarding, Outcome, Pilot};
use super::http::{Http, Reply, Urgency, Validators};
use super::limits::MISSING_FRESH_FOR;
use super::{RequestSettings, Shared};
use crate::error::{Error, Kind, Result};

/// What came over the network.
pub(crate) struct Answer {
    /// Where it finally came from; relative addresses in it are relative to this.
    pub(crate) url: Url,
    pub(crate) media_type: String,
    pub(crate) validators: Validators,
    pub(crate) body: Bytes,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let (media_type, validators) = (reply.media_type(), reply.validators());
        Self { url: reply.url, media_type, validators, body: reply.body }
    }
}

/// The outcome of asking.
pub(crate) enum Fetched {
    New(Answer),
    /// What the validators stand for is still right.
    Unchanged,
    /// The registry has no such thing; perhaps one with a similar name.
    Missing {
        near: Option<String>,
    },
}

/// A value and the form in which it is kept on disk.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) stored: Bytes,
}

/// Something that a registry has, how to ask for it, and how to read it.
pub(crate) trait Resource: Send + Sync + 'static {
    /// Its place in the caches.
    fn key(&self) -> Key;
    /// `npm:express`; what a person would ask for.
    fn title(&self) -> String;
    /// Whether it is named by content, and so never changes.
    fn is_immutable(&self) -> bool {
        false
    }
    /// Asks the registry.
    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>>;
    /// Reads what came over the network. Runs on a thread for work, not for bytes.
    fn parse(&self, answer: &Answer) -> Result<Parsed>;
    /// Reads what was kept on disk.
    fn restore(&self, entry: &Entry) -> Result<Value>;
    /// The error for its absence; `near` are similar names that exist.
    fn missing(&self, near: &[String]) -> Error;
    /// What will probably be asked for after it, now that `value` is there. Runs on a thread for work.
    fn leads_to(&self, _value: &Value) -> Vec<Arc<dyn Resource>> {
        Vec::new()
    }
}

/// The error for an absent package, in the words that are the same everywhere.
pub(crate) fn unknown_package(
    ecosystem: &str,
    name: &str,
    registry: &Url,
    near: &[String],
) -> Error {
    let place = super::secret::shown(registry);
    let error = Error::new(
        Kind::Failed,
        "unknown-package",
        format!("no {ecosystem} package named `{name}` at `{place}`"),
    );
    if near.is_empty() {
        return error.hint("check the spelling, and whether the package is in another registry");
    }
    let names: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    error.hint(format!("did you mean {}?", names.join(" or ")))
}

/// One request's view of the shared parts.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) request: Arc<RequestSettings>,
}

impl Session {
    /// What endpoints are found with.
    pub(crate) fn finder(&self) -> Finder<'_> {
        Finder {
            environment: &self.request.environment,
            overrides: &self.request.overrides,
            learner: &self.shared.learner,
            cancellation: &self.request.cancellation,
        }
    }

    /// Connections with these settings.
    pub(crate) fn http(&self, settings: &TransportSettings) -> Result<Http> {
        let transport = self.shared.transports.get(settings)?;
        Ok(Http { transport, gates: Arc::clone(&self.shared.gates) })
    }

    /// Gives a resource, from memory if it is fresh there. Blocks this thread, until the request is cancelled at most.
    pub(crate) fn ask(&self, resource: Arc<dyn Resource>) -> Outcome {
        if let Some(outcome) = self.known(&*resource) {
            return outcome;
        }
        match self.board(resource, false) {
            Some(flight) => flight.wait(&self.request.cancellation),
            // Only announcements are refused.
            None => Err(Error::new(Kind::Failed, "internal", "a question was not accepted")),
        }
    }

    /// The same inside of a task.
    pub(crate) async fn ask_in_task(&self, resource: Arc<dyn Resource>) -> Outcome {
        if let Some(outcome) = self.known(&*resource) {
            return outcome;
        }
        match self.board(resource, false) {
            Some(flight) => flight.wait_in_task().await,
            None => Err(Error::new(Kind::Failed, "internal", "a question was not accepted")),
        }
    }

    /// Starts to get a resource that nobody waits for yet, and then what that leads to. Returns at once; may do
    /// nothing. Whether it is in memory already, where nothing is started.
    pub(crate) fn announce(&self, resource: Arc<dyn Resource>) -> bool {
        let is_known = self.known(&*resource).is_some();
        if !is_known {
            self.board(resource, true);
        }
        is_known
    }

    /// Announces what a value that arrived leads to, and on through what is in memory. Every resource that can lead
    /// on remembers what it named, so this ends.
    fn lead_on(&self, resource: Arc<dyn Resource>, value: Value) {
        let mut arrived = vec![(resource, value)];
        while let Some((resource, value)) = arrived.pop() {
            if self.request.cancellation.is_cancelled() {
                return;
            }
            for next in resource.leads_to(&value) {
                match self.known(&*next) {
                    Some(Ok(value)) => arrived.push((next, value)),
                    Some(Err(_)) => {}
                    None => {
                        self.board(next, true);
                    }
                }
            }
        }
    }

    fn board(
        &self,
        resource: Arc<dyn Resource>,
        announced: bool,
    ) -> Option<Arc<super::flight::Flight>> {
        let flights = &self.shared.flights;
        match flights.board(resource.key(), self.request.offline, announced) {
            Boarding::Full => None,
            Boarding::Passenger(flight) => Some(flight),
            Boarding::First(pilot) => {
                let flight = Arc::clone(&pilot.flight);
                match self.shared.threads.questions() {
                    Ok(threads) => {
                        threads.spawn(fly(self.clone(), resource, pilot));
                    }
                    Err(error) => pilot.land(Err(error)),
                }
                Some(flight)
            }
        }
    }

    /// What memory knows, if it may be used.
    fn known(&self, resource: &dyn Resource) -> Option<Outcome> {
        let (value, age) = self.shared.memory.get(resource.key(), SystemTime::now())?;
        let limit = match &value {
            Ok(_) if self.request.offline || resource.is_immutable() => Duration::MAX,
            Ok(_) => self.request.max_age,
            Err(_) => self.request.max_age.min(MISSING_FRESH_FOR),
        };
        (age <= limit).then_some(value)
    }

    async fn get(&self, resource: &Arc<dyn Resource>, urgency: &Urgency) -> Outcome {
        if let Some(outcome) = self.known(&**resource) {
            return outcome;
        }
        let stored = self.work(resource, Self::look_on_disk).await?;
        let validators = match stored {
            Stored::Usable(value) => return Ok(value),
            Stored::Stale(validators) => {
                Some(validators).filter(|validators| !validators.is_empty())
            }
            Stored::Nothing => None,
        };
        if self.request.offline {
            return Err(offline(&resource.title()));
        }
        match resource.fetch(validators.as_ref(), urgency).await? {
            Fetched::New(answer) => {
                self.work(resource, move |session, resource| session.keep(resource, &answer)).await
            }
            Fetched::Missing { near } => Err(self.forget(&**resource, near)),
            Fetched::Unchanged => {
                if let Some(value) = self.work(resource, Self::confirm).await? {
                    return Ok(value);
                }
                // It was removed or damaged in the meantime.
                match resource.fetch(None, urgency).await? {
                    Fetched::New(answer) => {
                        self.work(resource, move |session, resource| {
                            session.keep(resource, &answer)
                        })
                        .await
                    }
                    Fetched::Missing { near } => Err(self.forget(&**resource, near)),
                    Fetched::Unchanged => Err(Error::new(
                        Kind::Network,
                        "registry-nonsense",
                        format!(
                            "the registry answers `not modified` for `{}`, which it was asked for anew",
                            resource.title()
                        ),
                    )),
                }
            }
        }
    }

    /// Runs `job` on a thread for work, since parsing and disks take their time.
    async fn work<T: Send + 'static>(
        &self,
        resource: &Arc<dyn Resource>,
        job: impl FnOnce(&Self, &dyn Resource) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (session, resource) = (self.clone(), Arc::clone(resource));
        tokio::task::spawn_blocking(move || job(&session, &*resource)).await.unwrap_or_else(
            |error| {
                let message = format!("the work on a registry's answer failed: {error}");
                Err(Error::new(Kind::Failed, "internal", message))
            },
        )
    }

    fn look_on_disk(&self, resource: &dyn Resource) -> Result<Stored> {
        let key = resource.key();
        let Some(entry) = self.shared.disk.read(key) else { return Ok(Stored::Nothing) };
        let now = SystemTime::now();
        let age = entry.age(now);
        if !(self.request.offline || resource.is_immutable() || age <= self.request.max_age) {
            return Ok(Stored::Stale(entry.validators));
        }
        // An entry that cannot be read was written by another version, or is damaged: as good as none.
        let Ok(value) = resource.restore(&entry) else { return Ok(Stored::Nothing) };
        let confirmed = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.remember(resource, Ok(value.clone()), confirmed, entry.body.len());
        Ok(Stored::Usable(value))
    }

    fn keep(&self, resource: &dyn Resource, answer: &Answer) -> Outcome {
        let parsed = resource.parse(answer)?;
        if self.shared.disk.write(resource.key(), &answer.validators, &parsed.stored) {
            let shared = Arc::clone(&self.shared);
            self.shared.threads.host().later(Box::new(move || shared.disk.sweep()));
        }
        self.remember(resource, Ok(parsed.value.clone()), SystemTime::now(), parsed.stored.len());
        Ok(parsed.value)
    }

    fn confirm(&self, resource: &dyn Resource) -> Result<Option<Value>> {
        let key = resource.key();
        let Some(entry) = self.shared.disk.read(key) else { return Ok(None) };
        let Ok(value) = resource.restore(&entry) else { return Ok(None) };
        let now = SystemTime::now();
        self.shared.disk.confirm(key, now);
        self.remember(resource, Ok(value.clone()), now, entry.body.len());
        Ok(Some(value))
    }

    fn forget(&self, resource: &dyn Resource, near: Option<String>) -> Error {
        self.shared.disk.remove(resource.key());
        let title = resource.title();
        let (prefix, name) = title.split_once(':').unwrap_or(("", &title));
        let near = match near {
            Some(near) => vec![near],
            None => self.shared.memory.near_names(&format!("{prefix}:"), name),
        };
        let error = resource.missing(&near);
        self.remember(resource, Err(error.clone()), SystemTime::now(), 0);
        error
    }

    fn remember(
        &self,
        resource: &dyn Resource,
        value: Outcome,
        confirmed: SystemTime,
        weight: usize,
    ) {
        let name = Some(resource.title());
        self.shared.memory.put(resource.key(), value, name, confirmed, weight);
    }
}

enum Stored {
    Usable(Value),
    Stale(Validators),
    Nothing,
}

async fn fly(session: Session, resource: Arc<dyn Resource>, pilot: Pilot) {
    let outcome = session.get(&resource, &pilot.flight.urgency).await;
    let arrived = outcome.as_ref().ok().cloned();
    pilot.land(outcome);
    if let Some(value) = arrived {
        tokio::task::spawn_blocking(move || session.lead_on(resource, value));
    }
}

fn offline(title: &str) -> Error {
    let message = format!("nothing is known about `{title}` on this machine");
    Error::new(Kind::Network, "offline-missing", message)
        .hint("run the command once without `--offline`")
}

impl Fetched {
    /// The usual meaning of an answer.
    pub(crate) fn of(reply: Reply) -> Result<Self> {
        match reply.status {
            reqwest::StatusCode::OK => Ok(Self::New(reply.into())),
            reqwest::StatusCode::NOT_MODIFIED => Ok(Self::Unchanged),
            _ if reply.is_missing() => Ok(Self::Missing { near: None }),
            _ => Err(reply.unexpected()),
        }
    }
}

/// The error for a value of another kind than its key stands for, which cannot be.
pub(crate) fn wrong_kind() -> Error {
    Error::new(Kind::Failed, "internal", "a cached value is not of the kind that was asked for")
}
