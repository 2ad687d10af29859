//! The common path of every question to a registry: memory, disk, network, and back through the caches.
//!
//! Freshness is our own rule (registries give none): an answer counts for `max_age`, then it is confirmed with
//! the validators that came with it, or fetched again. Offline, whatever is there counts, whatever its age.

mod arrival;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use url::Url;

use super::announced::{abandoned, abandonment, is_abandoned};
use super::cache::memory::Value;
use super::cache::{Entry, Key, Stored};
use super::endpoints::{Finder, TransportSettings};
use super::flight::{Boarding, Outcome, Pilot};
use super::http::{Http, Mirrors, Reply, Urgency, Validators};
use super::limits::{DISK_KNOWN_FOR, FRESH_FOR, MISSING_FRESH_FOR};
use super::outside::Service;
use super::{RequestSettings, Shared};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};

/// What is read whole takes about so many times what its text takes.
const BYTES_PER_BYTE_READ: usize = 3;

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

/// A value and the forms in which it is kept on disk.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    /// Makes the answer, reduced to what is needed of it; empty where the archive has all of that. Called when what the value leads to has been announced.
    pub(crate) stored: Box<dyn FnOnce() -> Bytes>,
    /// The value as an archive, which another process can use without parsing; empty where there is none.
    pub(crate) packed: Bytes,
}

/// Something that a registry has, how to ask for it, and how to read it.
pub(crate) trait Resource: Send + Sync + 'static {
    /// Its place in the caches.
    fn key(&self) -> Key;
    /// Where names that are near to its own are looked for: of whom it is asked, and with which credentials. Nowhere else, for what one
    /// registry has is no hint for who asks another one, and perhaps nobody's business.
    fn place(&self) -> Key {
        self.key()
    }
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
    /// Reads what came over the network. Runs on a thread for work, where that is small on the one that moved its bytes.
    fn parse(&self, answer: &Answer) -> Result<Parsed>;
    /// Reads the answer that was kept on disk.
    fn restore(&self, entry: &Entry) -> Result<Value>;
    /// The archive of a value; empty where there is none.
    fn pack(&self, _value: &Value) -> Bytes {
        Bytes::new()
    }
    /// The value in an archive that was kept on disk; `None` where that is damaged or was made by another build.
    fn unpack(&self, _packed: &Bytes) -> Option<Value> {
        None
    }
    /// Bytes that a value takes in memory, about; `length` are those of the form that it was read from.
    fn weight(&self, _value: &Value, length: usize) -> usize {
        length.saturating_mul(BYTES_PER_BYTE_READ)
    }
    /// The error for its absence; `near` are similar names that exist.
    fn missing(&self, near: &[String]) -> Error;
    /// Whether the one who announced it still wants it; somebody else may wait for it all the same.
    fn is_wanted(&self) -> bool {
        true
    }
    /// What will probably be asked for after it, now that `value` is there. Runs where it was read.
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

    /// Connections with these settings, to a registry and to those that are configured to stand for it.
    pub(crate) fn http(
        &self,
        ecosystem: Ecosystem,
        settings: &TransportSettings,
        mirrors: Mirrors,
    ) -> Result<Http> {
        let transport = self.shared.transports.get(settings, self.request.offline)?;
        let (gates, mirrors) = (Arc::clone(&self.shared.gates), Arc::new(mirrors));
        Ok(Http { service: Service::Registry(ecosystem), transport, gates, mirrors })
    }

    /// Who stands for the registry of `ecosystem` at `base`.
    pub(crate) fn mirrors(&self, ecosystem: Ecosystem, base: &Url) -> Mirrors {
        let others = self.request.overrides.mirrors(ecosystem).to_vec();
        Mirrors { base: Some(base.clone()), others }
    }

    /// Gives a resource, from memory if it is fresh there. Blocks this thread, until the request is cancelled at most.
    pub(crate) fn ask(&self, resource: Arc<dyn Resource>) -> Outcome {
        loop {
            if let Some(outcome) = self.known(&*resource) {
                return outcome;
            }
            let outcome = match self.board(Arc::clone(&resource), false) {
                Some(flight) => flight.wait(&self.request.cancellation),
                // Only announcements are refused.
                None => Err(not_accepted()),
            };
            if !is_abandoned(&outcome) {
                return outcome;
            }
        }
    }

    /// The same inside of a task.
    pub(crate) async fn ask_in_task(&self, resource: Arc<dyn Resource>) -> Outcome {
        loop {
            if let Some(outcome) = self.known(&*resource) {
                return outcome;
            }
            let outcome = match self.board(Arc::clone(&resource), false) {
                Some(flight) => flight.wait_in_task().await,
                None => Err(not_accepted()),
            };
            if !is_abandoned(&outcome) {
                return outcome;
            }
        }
    }

    /// The answer itself beside its value: from the disk, since memory has the value only. Blocks.
    pub(crate) fn original(&self, resource: Arc<dyn Resource>) -> Result<(Value, Entry)> {
        self.rest_later();
        let key = resource.key();
        let on_disk = || self.shared.disk.open(key).and_then(|stored| stored.entry());
        let value = self.ask(Arc::clone(&resource))?;
        if let Some(entry) = on_disk() {
            return Ok((value, entry));
        }
        // It was swept away, is damaged or still to be written. Whoever asks anew waits until it is there.
        self.shared.memory.remove(key);
        self.shared.disk.remove(key);
        let title = resource.title();
        let value = self.ask(resource)?;
        let entry = on_disk().ok_or_else(|| {
            let message =
                format!("what the registry says of `{title}` cannot be kept on this disk");
            Error::new(Kind::Failed, "io", message).hint("see whether the cache can be written to")
        })?;
        Ok((value, entry))
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

    fn board(
        &self,
        resource: Arc<dyn Resource>,
        announced: bool,
    ) -> Option<Arc<super::flight::Flight>> {
        let flights = &self.shared.flights;
        match flights.board(resource.key(), self.request.offline, announced) {
            Boarding::Full => {
                self.shared.backlog.push(self.clone(), resource);
                None
            }
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
        self.at_hand(resource.key(), resource.is_immutable())
    }

    /// The same for a key, without the resource: whoever has all in memory need not make one.
    pub(crate) fn at_hand(&self, key: Key, is_immutable: bool) -> Option<Outcome> {
        Some(self.at_hand_until(key, is_immutable)?.0)
    }

    /// The same, and until when it may be used.
    pub(crate) fn at_hand_until(
        &self,
        key: Key,
        is_immutable: bool,
    ) -> Option<(Outcome, SystemTime)> {
        let now = SystemTime::now();
        let (value, age) = self.shared.memory.get(key, now)?;
        let limit = match &value {
            Ok(_) if self.request.offline || is_immutable => Duration::MAX,
            Ok(_) => self.request.max_age,
            Err(_) => self.request.max_age.min(MISSING_FRESH_FOR),
        };
        let left = limit.checked_sub(age)?;
        // What is good for ever is asked for again after a while.
        Some((value, now + left.min(FRESH_FOR)))
    }

    async fn get(&self, resource: &Arc<dyn Resource>, urgency: &Urgency) -> Result<Arrived> {
        if let Some(outcome) = self.known(&**resource) {
            return outcome.map(Arrived::AtHand);
        }
        // Most questions of a cold cache end here; a thread for work may be behind many answers that are read.
        let stored = match self.shared.disk.has(resource.key()) {
            true => self.work(resource, Self::look_on_disk).await?,
            false => Found::Nothing,
        };
        let stale = match stored {
            Found::Usable(value) => return Ok(Arrived::AtHand(value)),
            Found::Stale(stored) => Some(stored).filter(|stored| !stored.validators().is_empty()),
            Found::Nothing => None,
        };
        if self.request.offline {
            return Err(offline(&resource.title()));
        }
        let validators = stale.as_ref().map(Stored::validators);
        match resource.fetch(validators, urgency).await? {
            Fetched::New(answer) => self.read(resource, answer).await,
            Fetched::Missing { near } => Err(self.forget(resource, near).await),
            Fetched::Unchanged => {
                if let Some(stored) = stale
                    && let Some(value) = self
                        .work(resource, move |it, resource| it.confirm(resource, &stored))
                        .await?
                {
                    return Ok(Arrived::AtHand(value));
                }
                // It is damaged.
                match resource.fetch(None, urgency).await? {
                    Fetched::New(answer) => self.read(resource, answer).await,
                    Fetched::Missing { near } => Err(self.forget(resource, near).await),
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

    fn look_on_disk(&self, resource: &dyn Resource) -> Result<Found> {
        let Some(stored) = self.shared.disk.open(resource.key()) else { return Ok(Found::Nothing) };
        let age = stored.age(SystemTime::now());
        if !(self.request.offline || resource.is_immutable() || age <= self.request.max_age) {
            return Ok(Found::Stale(stored));
        }
        let confirmed = stored.confirmed();
        Ok(match self.take(resource, &stored, confirmed) {
            Some(value) => Found::Usable(value),
            None => Found::Nothing,
        })
    }

    /// The value of what is on disk: out of its archive, else out of the answer, and then the archive is made again.
    /// An entry that cannot be read was written by another version, or is damaged: as good as none.
    fn take(
        &self,
        resource: &dyn Resource,
        stored: &Stored,
        confirmed: SystemTime,
    ) -> Option<Value> {
        let packed = stored.archive().map(Bytes::from);
        let unpacked = packed.and_then(|packed| Some((resource.unpack(&packed)?, packed.len())));
        let (value, length) = match unpacked {
            Some(unpacked) => unpacked,
            None => {
                let entry = stored.entry()?;
                let value = resource.restore(&entry).ok()?;
                let packed = resource.pack(&value);
                if !packed.is_empty() {
                    let parts = (&packed[..], &entry.body[..]);
                    self.sweep_if(self.shared.disk.rewrite(stored, parts, confirmed));
                }
                (value, entry.body.len())
            }
        };
        let weight = resource.weight(&value, length);
        self.remember(resource, Ok(value.clone()), confirmed, weight);
        Some(value)
    }

    /// Has the disk rest when nothing was asked for a while, lest a daemon keeps files open that others have removed.
    fn rest_later(&self) {
        if self.shared.disk.will_rest.swap(true, Ordering::Relaxed) {
            return;
        }
        // Without threads there is nobody who could ask anything either.
        let Ok(threads) = self.shared.threads.questions() else { return };
        let shared = Arc::downgrade(&self.shared);
        threads.spawn(async move {
            loop {
                tokio::time::sleep(DISK_KNOWN_FOR).await;
                let Some(shared) = shared.upgrade() else { return };
                // Before it rests, so that who asks from now on begins another wait.
                shared.disk.will_rest.store(false, Ordering::Relaxed);
                if shared.disk.rest(DISK_KNOWN_FOR)
                    || shared.disk.will_rest.swap(true, Ordering::Relaxed)
                {
                    return;
                }
            }
        });
    }

    fn confirm(&self, resource: &dyn Resource, stored: &Stored) -> Result<Option<Value>> {
        let _unwritten = self.shared.unwritten.begin();
        let now = SystemTime::now();
        let value = self.take(resource, stored, now);
        if value.is_some() {
            self.sweep_if(self.shared.disk.confirm(stored, now));
        }
        Ok(value)
    }

    async fn forget(&self, resource: &Arc<dyn Resource>, near: Option<String>) -> Error {
        let disk = &self.shared.disk;
        if disk.has(resource.key()) {
            let remove = |it: &Self, resource: &dyn Resource| {
                it.shared.disk.remove(resource.key());
                Ok(())
            };
            // It fails only where this process is about to end.
            let _ = self.work(resource, remove).await;
        }
        let resource = &**resource;
        let title = resource.title();
        let (prefix, name) = title.split_once(':').unwrap_or(("", &title));
        let near = match near {
            Some(near) => vec![near],
            None => self.shared.memory.near_names(resource.place(), &format!("{prefix}:"), name),
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
        let name = Some((resource.place(), resource.title()));
        self.shared.memory.put(resource.key(), value, name, confirmed, weight);
    }
}

enum Found {
    Usable(Value),
    Stale(Stored),
    Nothing,
}

/// A value that was asked for.
enum Arrived {
    /// It was in memory or on disk.
    AtHand(Value),
    /// It came over the network, and what it leads to is announced.
    Followed(Value),
}

async fn fly(session: Session, resource: Arc<dyn Resource>, pilot: Pilot) {
    session.rest_later();
    let arrived = {
        let urgency = &pilot.flight.urgency;
        tokio::select! {
            biased;
            () = abandoned(&*resource, urgency) => Err(abandonment()),
            arrived = session.get(&resource, urgency) => arrived,
        }
    };
    let (outcome, leads) = match arrived {
        Ok(Arrived::AtHand(value)) => (Ok(value.clone()), Some(value)),
        Ok(Arrived::Followed(value)) => (Ok(value), None),
        Err(error) => (Err(error), None),
    };
    pilot.land(outcome);
    // One lands, one takes off.
    while let Some((next, announced)) = session.shared.backlog.pop() {
        if announced.is_wanted() {
            next.board(announced, true);
            break;
        }
    }
    session.lead_on_later(leads.map(|value| (resource, value)).into_iter().collect());
}

fn not_accepted() -> Error {
    Error::new(Kind::Failed, "internal", "a question was not accepted")
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
