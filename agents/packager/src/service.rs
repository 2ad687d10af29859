//! The Packager as an agent: its tools, each an operation, with CBOR in and out.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::UNIX_EPOCH;

use agents_contract::{
    Agent, AgentManifest, Caller, Conversation, Figure, Host, Order, Question, Request, Station,
    ToolError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    ApplyRequest, CacheAction, CacheRequest, ChangeRequest, HistoryRequest, HoldRequest,
    InfoRequest, ListRequest, OutdatedRequest, PlanRequest, RollbackRequest, SearchRequest,
    Setting, UnwatchRequest, VerifyRequest, WatchRequest, WatchesRequest, WhyRequest,
};
use crate::build::run::Sandbox;
use crate::error::{Error, Kind, Result};
use crate::io;
use crate::leftovers::Leftovers;
use crate::limits::{
    LEFTOVERS_TIME, PREPARED_BYTES_MAX_DEFAULT, REPLANS_MAX, STORE_BYTES_MAX_DEFAULT,
};
use crate::lock;
use crate::measures::Measures;
use crate::operations::{
    Shop, Task, aside::Aside, confirm::Unconfirmed, early, plan::Detail, plans::Plans,
    prepare::Preparing, rest, tools::Tools,
};
use crate::store::{Store, Wanted};
pub use crate::transaction::Durability;
use crate::transaction::{Project, Transactions, make_private};
use crate::unpack::Unpacker;
use crate::watch;

mod foreseen;
mod recent;
#[cfg(test)]
mod tests;

use self::foreseen::Foreseen;
use self::recent::Recent;

/// The tools that it answers.
const TOOLS: [&str; 19] = [
    "pkg.plan",
    "pkg.apply",
    "pkg.install",
    "pkg.remove",
    "pkg.update",
    "pkg.list",
    "pkg.info",
    "pkg.why",
    "pkg.outdated",
    "pkg.search",
    "pkg.history",
    "pkg.rollback",
    "pkg.lock",
    "pkg.unlock",
    "pkg.verify",
    "pkg.watch",
    "pkg.unwatch",
    "pkg.watches",
    "pkg.cache",
];

/// Where the Packager keeps what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Transactions, journals, learnt endpoints: must survive.
    pub state: PathBuf,
    /// The store and the metadata cache: can be fetched again.
    pub cache: PathBuf,
}

/// What the machine's owner asks of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The least age of a version in seconds; 0 allows any.
    pub minimum_age_s: u64,
    /// How the store is kept.
    pub store: StoreRules,
    /// Who stands in for registries, `npm=URL`, or has artefacts by their digests, `bolide=URL`.
    pub mirrors: Vec<String>,
    /// When an installation waits for the disk.
    pub durability: Durability,
    /// What is read in the place of `/` where the machine says of itself; nothing: `/`.
    pub machine: Option<PathBuf>,
}

/// How the store is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRules {
    /// How files come out of it.
    pub mode: Wanted,
    /// What it may take on the disk, beside what is needed.
    pub bytes_max: u64,
    /// Whether the digest of every file is compared whenever it is used.
    pub verify: bool,
    /// Whether artefacts are kept as they were downloaded, for other hosts.
    pub archives: bool,
    /// What packages that stand ready may take on the disk beside it, in a process that stays.
    pub prepared_bytes_max: u64,
}

impl Default for StoreRules {
    fn default() -> Self {
        Self {
            mode: Wanted::Best,
            bytes_max: STORE_BYTES_MAX_DEFAULT,
            verify: false,
            archives: false,
            prepared_bytes_max: PREPARED_BYTES_MAX_DEFAULT,
        }
    }
}

/// The agent.
pub struct Packager {
    shop: Arc<Shop>,
    state: PathBuf,
    /// Answers to `pkg.info` that need no second look.
    recent: Recent,
    /// What was begun for a request that comes now.
    foreseen: Foreseen,
}

/// Who asks, how urgently, and who is told meanwhile.
type Asker<'t> = (&'t Caller, u8, &'t dyn Conversation);

impl Packager {
    /// Opens state, store and caches. Asks no registry and starts neither thread nor process.
    pub fn new(
        places: &Places,
        policy: Policy,
        unpacker: Unpacker,
        host: Arc<dyn Host>,
    ) -> Result<Self> {
        let packager = Self::for_one_request(places, policy, unpacker, host)?;
        packager.shop.transactions.open_database()?;
        Ok(packager)
    }

    /// The same, but that the database of transactions is opened when it recovers: before that, it can ask for what the one request will
    /// need ([`Agent::foresee`]).
    pub fn for_one_request(
        places: &Places,
        policy: Policy,
        unpacker: Unpacker,
        host: Arc<dyn Host>,
    ) -> Result<Self> {
        let unpacker = Arc::new(unpacker);
        // First of all, so that nothing in it was readable for a while. What is cached is no secret.
        make_private(&places.state)?;
        let failed = |error: std::io::Error| Error::io("create", &places.cache, &error);
        std::fs::create_dir_all(&places.cache).map_err(failed)?;
        let clock_host = Arc::clone(&host);
        let clock = Arc::new(move || {
            let since = clock_host.now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        let environment = io::Environment::of_this_process(Path::new("/"));
        let registries = io::Client::new(io::Settings {
            cache_dir: places.cache.clone(),
            state_dir: places.state.clone(),
            request: io::RequestSettings::new(environment),
            host: Arc::clone(&host),
            unpacker: Arc::clone(&unpacker),
        });
        let machine = policy.machine.as_deref().unwrap_or(Path::new("/"));
        let leftovers = Arc::<Leftovers>::default();
        let store = Store::open(&places.cache.join("store"))?
            .leaving_to(Arc::clone(&leftovers))
            .unpacked_by(Arc::clone(&unpacker))
            .with_mode(policy.store.mode);
        Ok(Self {
            recent: Recent::default(),
            foreseen: Foreseen::default(),
            state: places.state.clone(),
            shop: Arc::new(Shop {
                transactions: Transactions::new(machine, &places.state, clock)?,
                store: Arc::new(store),
                unpacker,
                registries,
                host,
                aside: Aside::default(),
                tools: Tools::new(places.cache.join("interpreters")),
                minimum_age_s: policy.minimum_age_s,
                plans: Plans::default(),
                locks: lock::recent::Recent::default(),
                preparing: Preparing::default(),
                measures: Measures::default(),
                shown: watch::Shown::default(),
                rules: policy.store,
                mirrors: policy.mirrors,
                fetched_since: AtomicU64::new(0),
                incoming: places.cache.join("incoming"),
                prepared: places.cache.join("prepared"),
                leftovers,
                builds: places.cache.join("builds"),
                repositories: places.cache.join("repositories"),
                sandbox: Sandbox::own(),
                early: early::Hand::default(),
                unconfirmed: Unconfirmed::new(policy.durability),
                is_tidied: AtomicBool::new(false),
            }),
        })
    }

    /// What its requests share.
    #[cfg(test)]
    pub(crate) fn shop(&self) -> &Arc<Shop> {
        &self.shop
    }

    fn answer(&self, request: Request, conversation: &dyn Conversation) -> Result<Vec<u8>> {
        let Request { tool, payload, directory, caller, priority, .. } = request;
        let is_own = is_own(&caller);
        let task = |setting: Setting, directory: Option<&OwnedFd>| {
            self.task((&caller, priority, conversation), setting, directory)
        };
        let place = directory.as_ref();
        match tool.as_str() {
            "pkg.plan" => {
                let request: PlanRequest = read(&payload)?;
                let task = task(request.setting.clone(), place)?;
                let planned = task.plan(needed(directory)?, &request, Detail::Written)?;
                match planned.written {
                    Some(written) => Ok(written),
                    None => write(&planned.answer),
                }
            }
            "pkg.apply" => {
                let request: ApplyRequest = read(&payload)?;
                let task = task(request.setting, place)?;
                write(&task.apply(
                    needed(directory)?,
                    &request.digest,
                    (request.approve, request.force),
                )?)
            }
            "pkg.install" | "pkg.remove" | "pkg.update" => {
                let request: ChangeRequest = read(&payload)?;
                let how = (request.approve, request.force);
                let plan = plan_of(&tool, request);
                let task = task(plan.setting.clone(), place)?;
                write(&change(&task, needed(directory)?, &plan, how)?)
            }
            "pkg.list" => {
                let request: ListRequest = read(&payload)?;
                write(&task(request.setting, place)?.list(needed(directory)?)?)
            }
            "pkg.info" => {
                let request: InfoRequest = read(&payload)?;
                let answer = write(&task(request.setting, place)?.info(&request.package)?)?;
                // With a directory its configuration counts too; somebody else's question means something else.
                if is_own && directory.is_none() {
                    self.recent.keep(payload, &answer, self.shop.host.now());
                }
                Ok(answer)
            }
            "pkg.why" | "pkg.outdated" | "pkg.search" => {
                let look = |setting| task(setting, place);
                look_up(&tool, &payload, &look, directory.as_ref())
            }
            "pkg.history" => {
                let request: HistoryRequest = read(&payload)?;
                write(&task(Setting::default(), place)?.history(directory, &request)?)
            }
            "pkg.rollback" => {
                let request: RollbackRequest = read(&payload)?;
                write(&task(Setting::default(), place)?.rollback(needed(directory)?, &request)?)
            }
            "pkg.verify" | "pkg.lock" | "pkg.unlock" => {
                let keep = |setting| task(setting, place);
                look_after(&tool, &payload, &keep, directory.as_ref())
            }
            "pkg.cache" => {
                let request: CacheRequest = read(&payload)?;
                if !is_own && request.action != CacheAction::Show {
                    let message = "only programs of the daemon's own user may change its store";
                    return Err(Error::new(Kind::Refused, "not-yours", message));
                }
                write(&task(Setting::default(), None)?.cache(&request)?)
            }
            "pkg.watch" | "pkg.unwatch" | "pkg.watches" => {
                self.answer_watch(&tool, &payload, directory, is_own)
            }
            _ => {
                let message = format!("there is no tool `{}`", tool.escape_debug());
                Err(Error::new(Kind::Usage, "unknown-tool", message).hint(TOOLS.join(" ")))
            }
        }
    }

    /// A request at work.
    fn task<'t>(
        &'t self,
        (caller, priority, conversation): Asker<'t>,
        mut setting: Setting,
        directory: Option<&OwnedFd>,
    ) -> Result<Task<'t>> {
        if !is_own(caller) {
            // Somebody else may not choose which programs run here, nor whose home counts.
            setting.variables.clear();
            setting.python = None;
        }
        let place = directory.map_or_else(|| Ok(PathBuf::from("/")), place_of)?;
        let begun = self.foreseen.take(&setting, &place);
        let actor = format!("{} (uid {}, pid {})", caller.name, caller.uid, caller.pid);
        let order = Order {
            requester: Arc::from(caller.name.as_str()),
            priority,
            cancellation: conversation.cancellation().clone(),
            asked_at: None,
            noted: Vec::new(),
        };
        let task = Task::new(&self.shop, conversation, (actor, order), setting, place)?;
        Ok(match begun {
            Some(registries) => task.going_on_with(registries),
            None => task,
        })
    }

    /// The tools about watched projects.
    fn answer_watch(
        &self,
        tool: &str,
        payload: &[u8],
        directory: Option<OwnedFd>,
        is_own: bool,
    ) -> Result<Vec<u8>> {
        if !is_own {
            // What is watched is acted upon with this user's rights, later and unasked.
            let message = "only programs of the daemon's own user may say what is watched";
            return Err(Error::new(Kind::Refused, "not-yours", message));
        }
        match tool {
            "pkg.watch" => {
                let WatchRequest { policy, setting } = read(payload)?;
                let project = Project::from_fd(needed(directory)?)?;
                watch::add(&self.shop, &self.state, &project, (policy, setting))?;
            }
            "pkg.unwatch" => {
                let UnwatchRequest { path } = read(payload)?;
                watch::remove(&self.shop, &self.state, &path)?;
            }
            _ => {
                let _: WatchesRequest = read(payload)?;
            }
        }
        write(&watch::list(&self.shop)?)
    }
}

impl Agent for Packager {
    fn manifest(&self) -> AgentManifest {
        AgentManifest {
            name: "packager".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            category: "packages".to_owned(),
            priority: 5,
            capabilities: vec!["packages".to_owned()],
            tools: TOOLS.map(str::to_owned).to_vec(),
            subscriptions: Vec::new(),
            tags: ["npm", "pypi", "cargo"].map(str::to_owned).to_vec(),
            ..AgentManifest::default()
        }
    }

    fn foresee(&self, request: &Request, conversation: &dyn Conversation) {
        // The request itself ends with it, and then it is told.
        if let Err(error) = self.begin(request, conversation) {
            tracing::debug!(%error, "nothing is begun for the request");
        }
    }

    fn recover(&self) -> std::result::Result<(), ToolError> {
        self.shop.transactions.open_database()?;
        for recovered in self.shop.transactions.recover_all()? {
            tracing::info!(?recovered, "made whole what an earlier life left unfinished");
        }
        self.shop.remove_abandoned();
        Ok(())
    }

    fn call(
        &self,
        request: Request,
        conversation: &dyn Conversation,
    ) -> std::result::Result<Vec<u8>, ToolError> {
        // What an earlier request could not delete is mostly not there any more when this one looks.
        self.shop.leftovers.try_again_for(Some(LEFTOVERS_TIME));
        let answer = self.answer(request, conversation);
        self.shop.tidy_later();
        answer.map_err(ToolError::from)
    }

    fn answered(&self) {
        // Where the device is waited for, nobody waits for this.
        self.shop.aside.begin(&*self.shop.host);
        self.shop.confirm();
        self.shop.write_plans_later();
        self.shop.prepare_later();
        rest::clear();
    }

    fn try_call(&self, question: &Question<'_>) -> Option<std::result::Result<Vec<u8>, ToolError>> {
        if question.tool != "pkg.info" || !is_own(question.caller) {
            return None;
        }
        self.recent.try_get(question.payload, self.shop.host.now()).map(Ok)
    }

    fn settle(self: Arc<Self>, station: Arc<dyn Station>) {
        let Shop { preparing, prepared, rules, store, .. } = &*self.shop;
        store.remember();
        self.shop.unconfirmed.stay(&station);
        preparing.begin(prepared, rules.prepared_bytes_max, &self.shop);
        watch::start(Arc::clone(&self.shop), &self.state, station);
    }

    fn figures(&self) -> Vec<Figure> {
        let Shop { measures, unpacker, registries, preparing, .. } = &*self.shop;
        let mut figures = measures.figures(unpacker, registries.outside());
        figures.extend(preparing.figures());
        figures.push(self.shop.transactions.figure());
        figures
    }
}

/// The tools that only look, beside those of every day. `task` makes the task for a setting.
fn look_up<'t>(
    tool: &str,
    payload: &[u8],
    task: &dyn Fn(Setting) -> Result<Task<'t>>,
    directory: Option<&OwnedFd>,
) -> Result<Vec<u8>> {
    let directory = || directory.map(copy_of).transpose();
    match tool {
        "pkg.why" => {
            let WhyRequest { package, setting } = read(payload)?;
            write(&task(setting)?.why(needed(directory()?)?, &package)?)
        }
        "pkg.outdated" => {
            let OutdatedRequest { all, setting } = read(payload)?;
            write(&task(setting)?.outdated(needed(directory()?)?, all)?)
        }
        _ => {
            let request: SearchRequest = read(payload)?;
            write(&task(request.setting.clone())?.search(directory()?, &request)?)
        }
    }
}

/// The tools that see to it that what is there stays as it is.
fn look_after<'t>(
    tool: &str,
    payload: &[u8],
    task: &dyn Fn(Setting) -> Result<Task<'t>>,
    directory: Option<&OwnedFd>,
) -> Result<Vec<u8>> {
    let directory = needed(directory.map(copy_of).transpose()?)?;
    if tool == "pkg.verify" {
        let request: VerifyRequest = read(payload)?;
        return write(&task(request.setting.clone())?.verify(directory, &request)?);
    }
    let request: HoldRequest = read(payload)?;
    write(&task(request.setting.clone())?.hold(directory, &request, tool == "pkg.lock")?)
}

fn copy_of(directory: &OwnedFd) -> Result<OwnedFd> {
    let copy = directory.try_clone();
    copy.map_err(|error| Error::io("use the descriptor of", Path::new("."), &error))
}

/// Whether the caller is this user.
fn is_own(caller: &Caller) -> bool {
    caller.uid == rustix::process::geteuid().as_raw()
}

/// What a tool that changes has planned.
fn plan_of(tool: &str, request: ChangeRequest) -> PlanRequest {
    let ChangeRequest { packages, setting, .. } = request;
    let plan = PlanRequest { setting, ..PlanRequest::default() };
    match tool {
        "pkg.install" if packages.is_empty() => PlanRequest { install: true, ..plan },
        "pkg.install" => PlanRequest { add: packages, ..plan },
        "pkg.update" => PlanRequest { update: Some(packages), ..plan },
        _ => PlanRequest { remove: packages, ..plan },
    }
}

/// Plans, and applies the plan with the caller's approval. A caller who approves whatever the plan will be gets a new one
/// where somebody else changed the project in between.
fn change(
    task: &Task<'_>,
    directory: OwnedFd,
    request: &PlanRequest,
    how: (bool, bool),
) -> Result<crate::api::ApplyAnswer> {
    // Before anything is resolved in vain.
    request.setting.options.check_here()?;
    let again = || copy_of(&directory);
    let mut tries = 0;
    loop {
        tries += 1;
        let planned = task.plan(again()?, request, Detail::None)?;
        let Some(digest) = planned.digest else {
            let explanation = planned.answer.conflict.map(|conflict| conflict.explanation);
            let error = Error::new(Kind::Conflict, "conflict", explanation.unwrap_or_default());
            return Err(error.hint("ask `pkg.plan` for repairs that were checked"));
        };
        match task.apply(again()?, &digest, how) {
            Ok(mut answer) => {
                answer.times_ms.insert("resolve".to_owned(), planned.answer.resolve_ms);
                answer.warnings.splice(0..0, planned.answer.warnings);
                return Ok(answer);
            }
            Err(error) if error.code == "plan-stale" && how.0 && tries < REPLANS_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

/// The path of an open directory, for messages and for what has to name it in a file.
fn place_of(directory: &OwnedFd) -> Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let link = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    std::fs::read_link(&link).map_err(|error| Error::io("find the place of", &link, &error))
}

fn needed<Directory>(directory: Option<Directory>) -> Result<Directory> {
    directory.ok_or_else(|| {
        Error::new(Kind::Usage, "directory-missing", "the request names no directory")
            .hint("grant an open descriptor of the project's directory with the request")
    })
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    ciborium::from_reader(payload).map_err(|error| {
        let message = format!("the request cannot be read: {error}");
        Error::new(Kind::Usage, "bad-request", message).hint("see the structures in `api`")
    })
}

fn write<T: Serialize>(answer: &T) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    ciborium::into_writer(answer, &mut payload).map_err(|error| {
        Error::new(Kind::Failed, "internal", format!("the answer cannot be written: {error}"))
    })?;
    Ok(payload)
}
