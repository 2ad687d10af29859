//! The operations that callers ask for, each made of the modules below: read the project, resolve, plan, fetch, stage, commit.
//!
//! One file per operation, and one per ecosystem for what only that ecosystem knows ([`npm`], [`pypi`], [`cargo`]). What they share
//! stands here: the process-wide [`Shop`] and the [`Task`] of one request.

mod addresses;
mod age;
pub(crate) mod apply;
pub(crate) mod aside;
mod beside;
pub(crate) mod cache;
mod cargo;
pub(crate) mod confirm;
mod debian;
pub(crate) mod early;
mod fetch;
mod history;
pub(crate) mod hold;
mod incoming;
mod limits;
mod locked;
mod named;
mod npm;
pub(crate) mod outdated;
pub(crate) mod plan;
pub(crate) mod plans;
pub(crate) mod prepare;
mod pypi;
pub(crate) mod read;
mod repair;
mod repositories;
pub(crate) mod rest;
pub(crate) mod rollback;
pub(crate) mod search;
mod solved;
mod system;
#[cfg(test)]
mod tests;
pub(crate) mod tools;
mod verify;
pub(crate) mod why;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use agents_contract::{Cancellation, Conversation, Hands, Host, Order, Work};

use self::incoming::Incoming;
use crate::api::{Progress, Setting};
use crate::build::run::Sandbox;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io;
use crate::leftovers::Leftovers;
use crate::limits::{LOCK_WAIT_SECONDS, RESOLVE_SECONDS_MAX};
use crate::lock::{self, Part};
use crate::measures::Measures;
use crate::metadata::held::Held;
use crate::options::Choices;
use crate::plan::{FileEdit, Precondition, Rebuild};
use crate::resolution::Resolution;
use crate::resolve::{self, ResolveError};
use crate::service::StoreRules;
use crate::spec::Spec;
use crate::store::Store;
use crate::transaction::{Content, Project, RelativePath, Transactions};
use crate::unpack::Unpacker;
use crate::unpack::unpacker::Session as Reading;
use crate::watch::Shown;

/// What all requests of a process share.
pub(crate) struct Shop {
    pub(crate) transactions: Transactions,
    pub(crate) store: Arc<Store>,
    /// Who reads archives.
    pub(crate) unpacker: Arc<Unpacker>,
    pub(crate) registries: io::Client,
    pub(crate) host: Arc<dyn Host>,
    /// Who does what others would have to wait for on an idle thread.
    pub(crate) aside: aside::Aside,
    pub(crate) tools: tools::Tools,
    /// The latest plans.
    pub(crate) plans: plans::Plans,
    /// The latest locks.
    pub(crate) locks: lock::recent::Recent,
    /// Who makes packages ready for the next installation, and what stands ready.
    pub(crate) preparing: prepare::Preparing,
    /// The least age of a version in seconds, whatever a request says.
    pub(crate) minimum_age_s: u64,
    pub(crate) measures: Measures,
    /// What is shown of changes in watched projects that wait.
    pub(crate) shown: Shown,
    /// How the store is kept.
    pub(crate) rules: StoreRules,
    /// Who stands in for registries, or has artefacts by their digests.
    pub(crate) mirrors: Vec<String>,
    /// Bytes that this process has fetched since it looked at the size of the store; none yet where it has not.
    pub(crate) fetched_since: AtomicU64,
    /// Where downloads lie until they are in the store; on the store's file system.
    pub(crate) incoming: PathBuf,
    /// Where packages stand ready; on the store's file system.
    pub(crate) prepared: PathBuf,
    /// What could not be deleted, of these and of the store.
    pub(crate) leftovers: Arc<Leftovers>,
    /// Where it is written down what was built, for the next time.
    pub(crate) builds: PathBuf,
    /// Repositories that were fetched; on the store's file system.
    pub(crate) repositories: PathBuf,
    /// Where what is built runs.
    pub(crate) sandbox: Sandbox,
    /// Who has the disk write what is fetched.
    pub(crate) early: early::Hand,
    /// Who was answered before the disk had it.
    pub(crate) unconfirmed: confirm::Unconfirmed,
    /// Whether this process has looked at downloads that broke off.
    pub(crate) is_tidied: AtomicBool,
}

impl Shop {
    /// A directory for the downloads of one request.
    fn new_incoming(&self) -> Result<Incoming> {
        Incoming::new(&self.incoming, &self.host, &self.leftovers)
    }

    /// Tries again, when there is time, what could not be deleted. Others wait for the list.
    pub(crate) fn tidy_later(&self) {
        if !self.leftovers.is_empty() {
            let leftovers = Arc::clone(&self.leftovers);
            self.aside.later(&*self.host, Box::new(move |_| leftovers.try_again()));
        }
    }

    /// Writes plans to the disk when there is time, if any wait for it.
    pub(crate) fn write_plans_later(&self) {
        if self.transactions.has_unwritten_plans() {
            let writer = self.transactions.clone();
            self.aside.later(&*self.host, Box::new(move |_| writer.write_plans()));
        }
    }

    /// Removes what processes that died left unfinished outside of projects.
    pub(crate) fn remove_abandoned(&self) {
        incoming::remove_abandoned(&self.incoming, &self.leftovers);
        match self.store.remove_abandoned() {
            Ok(freed) if freed.files == 0 => {}
            Ok(freed) => tracing::debug!(?freed, "removed what others left unfinished"),
            Err(error) => tracing::debug!(%error, "cannot remove what others left unfinished"),
        }
    }
}

/// One request at work.
pub(crate) struct Task<'a> {
    pub(crate) shop: &'a Shop,
    pub(crate) conversation: &'a dyn Conversation,
    pub(crate) actor: String,
    /// Whose pieces of work these are, for the host.
    pub(crate) order: Order,
    pub(crate) setting: Setting,
    /// Its options, checked.
    pub(crate) choices: Choices,
    /// The registries as this caller's configuration names them.
    pub(crate) registries: io::Client,
    /// Whether they were asked already for what it names.
    is_foreseen: bool,
    /// Whether it was said that npm's packages are being resolved.
    npm_word: npm::Word,
    /// Processes that read archives stay for the next one as long as this is at work.
    _reading: Reading,
    _at_work: prepare::AtWork<'a>,
}

/// What one ecosystem is to decide about.
pub(crate) struct Asked<'a> {
    /// What its manifest gets.
    pub(crate) add: &'a [Spec],
    /// What its manifest loses.
    pub(crate) remove: &'a [Spec],
    /// The member of a cargo workspace whose manifest is meant; empty for the root's.
    pub(crate) member: &'a str,
    /// What is installed.
    pub(crate) installed: Option<&'a Resolution>,
    /// What `bolide.lock` says.
    pub(crate) locked: Option<&'a Part>,
    /// What it is all for.
    pub(crate) aim: Aim<'a>,
    /// What has to stay as it is.
    pub(crate) held: &'a Held,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim<'a> {
    /// To change what the manifests ask for.
    Change,
    /// To have what manifests and lock say.
    Install,
    /// To have newer versions of these within what the manifests allow; of all where none is named.
    Update(&'a [Spec]),
}

/// What an ecosystem decided about its part of a plan.
pub(crate) struct Decided {
    pub(crate) resolution: Resolution,
    /// What its manifests ask for after the change; see [`Part::wants`].
    pub(crate) wants: Vec<String>,
    /// What it is resolved for; see [`Part::target`].
    pub(crate) target: String,
    pub(crate) edits: Vec<FileEdit>,
    /// The environment that holds the packages, where the ecosystem has one in the project.
    pub(crate) environment: Option<RelativePath>,
    /// More of them, in the project's own packages (npm).
    pub(crate) beside: Vec<RelativePath>,
    pub(crate) preconditions: Vec<Precondition>,
    pub(crate) warnings: Vec<String>,
    /// What is replaced or taken away, where the machine knows it better than the history of transactions.
    pub(crate) before: Option<Resolution>,
    /// Whether the resolution was taken from `bolide.lock` without asking a registry.
    pub(crate) is_locked: bool,
    /// Whether it is for another machine or interpreter than this, so that nothing of it belongs here.
    pub(crate) is_elsewhere: bool,
    /// What happens to packages of the system.
    pub(crate) system: Option<crate::system::Change>,
}

impl<'a> Task<'a> {
    /// Prepares a request of `actor` about a project at `place`.
    pub(crate) fn new(
        shop: &'a Shop,
        conversation: &'a dyn Conversation,
        (actor, order): (String, Order),
        setting: Setting,
        place: PathBuf,
    ) -> Result<Self> {
        let mut overrides = io::Overrides::default();
        for mirror in &shop.mirrors {
            overrides.add_mirror(mirror)?;
        }
        for (ecosystem, urls) in &setting.registry {
            for url in urls.split_whitespace() {
                overrides.add(&format!("{ecosystem}={url}"))?;
            }
        }
        let choices = setting.options.check()?;
        let home = setting.variables.get("HOME").map(PathBuf::from);
        let environment = if setting.variables.is_empty() {
            io::Environment::of_this_process(&place)
        } else {
            let home = home.or_else(std::env::home_dir).unwrap_or_else(|| PathBuf::from("/"));
            let mut variables = setting.variables.clone();
            variables.retain(|name, _| Setting::is_known(name));
            let references = setting.references.clone();
            io::Environment { variables, references, home, project: place }
        };
        let mut request = io::RequestSettings::new(environment);
        request.overrides = overrides;
        request.offline = setting.offline;
        request.cancellation = conversation.cancellation().clone();
        request.dated = choices.exclude_newer.is_some()
            || choices.minimum_age_s.is_some()
            || shop.minimum_age_s > 0;
        let registries = shop.registries.with_request(request);
        let (_reading, _at_work) = (shop.unpacker.session(), shop.at_work());
        Ok(Self {
            shop,
            conversation,
            actor,
            order,
            setting,
            choices,
            registries,
            is_foreseen: false,
            npm_word: npm::Word::new(Instant::now()),
            _reading,
            _at_work,
        })
    }

    /// The same request with the registries that were asked for it already.
    pub(crate) fn going_on_with(self, registries: io::Client) -> Self {
        Self { registries, is_foreseen: true, ..self }
    }

    /// The host's workers for such work of this request.
    fn hands(&self, work: Work) -> Hands<'_> {
        Hands { host: &*self.shop.host, order: &self.order, work }
    }

    /// Ends a resolution that takes too long or that nobody waits for. It counts from when it `began`, not from when it was asked for:
    /// before, it may have waited for others.
    fn check_resolving(&self, began: Instant) -> Result<()> {
        self.check_wanted()?;
        if began.elapsed() >= Duration::from_secs(RESOLVE_SECONDS_MAX) {
            return Err(resolve::deadline_exceeded());
        }
        Ok(())
    }

    /// A variable of the caller, or of this process where the caller sent none at all.
    fn variable(&self, name: &str) -> Option<String> {
        if self.setting.variables.is_empty() {
            return std::env::var(name).ok();
        }
        self.setting.variables.get(name).cloned()
    }

    /// The version that a tool on the caller's path says of itself.
    fn version(&self, tool: &str) -> Option<semver::Version> {
        let path = self.variable("PATH");
        self.shop.tools.version(tool, path.as_deref(), self.conversation.cancellation())
    }

    /// Tells the caller what is being done.
    fn say(&self, step: &str, message: impl Into<String>, done: u64, total: u64) {
        let progress = Progress { step: step.to_owned(), message: message.into(), done, total };
        let mut payload = Vec::new();
        if ciborium::into_writer(&progress, &mut payload).is_ok() {
            self.conversation.progress(&payload);
        }
    }

    /// Ends the request early where nobody wants its answer any more and nothing has been changed yet.
    fn check_wanted(&self) -> Result<()> {
        Error::if_cancelled(self.conversation.cancellation())
    }

    /// Opens the project of a request, and makes whole what a crash left there.
    pub(crate) fn open(&self, directory: OwnedFd) -> Result<Project> {
        let project = Project::from_fd(directory)?;
        self.lock(project.again()?)?;
        Ok(project)
    }

    fn lock(&self, project: Project) -> Result<crate::transaction::Session> {
        let wait = Duration::from_secs(LOCK_WAIT_SECONDS);
        // Whoever was answered there may not have read it yet.
        self.shop.confirm_in(&project)?;
        let locked = self.shop.transactions.lock(project, wait, &self.while_it_waits());
        locked.map_err(|error| match error.code == "cancelled" {
            true => self.waited_in_vain(),
            false => error,
        })
    }

    /// For what only waits, having begun nothing: it ends where the host stops, too.
    fn while_it_waits(&self) -> Cancellation {
        let conversation = self.conversation;
        Cancellation::any([conversation.cancellation(), conversation.stopping()].map(Clone::clone))
    }

    /// Why such a wait ended.
    fn waited_in_vain(&self) -> Error {
        match self.check_wanted() {
            Err(cancelled) => cancelled,
            Ok(()) if self.conversation.stopping().is_cancelled() => Error::draining(),
            Ok(()) => Error::cancelled(),
        }
    }
}

/// A path in the project that this program spells itself.
fn fixed(path: &str) -> Result<RelativePath> {
    RelativePath::new(path)
}

/// A text file of a project; `None` where there is none.
fn read_text(project: &Project, path: &str) -> Result<Option<String>> {
    let Some(bytes) = project.read_manifest(&fixed(path)?)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let message = format!("`{path}` is not UTF-8 text: byte {place}");
        Error::new(Kind::Failed, "manifest-syntax", message)
            .hint(format!("save `{path}` as UTF-8, then run the command again"))
    })
}

/// The edit from one text to another; `None` where they are the same.
fn edit(path: &str, before: Option<&str>, after: String) -> Result<Option<FileEdit>> {
    if before == Some(&*after) {
        return Ok(None);
    }
    Ok(Some(FileEdit {
        path: fixed(path)?,
        before: before.map(|text| Content::of(text.as_bytes())),
        after: Some(after.into_bytes()),
    }))
}

/// Warnings of the caller's settings for registries that are not followed.
fn not_followed(task: &Task<'_>, ecosystem: Ecosystem) -> Result<Vec<String>> {
    let settings = task.registries.not_followed(ecosystem)?;
    Ok(settings.into_iter().map(|what| format!("not followed: {what}")).collect())
}

/// The refusal to remove what is not asked for.
fn not_direct(ecosystem: Ecosystem, name: &str, manifest: &str) -> Error {
    let message = format!("`{name}` is not a direct dependency in `{manifest}`");
    Error::new(Kind::Usage, "not-a-dependency", message).hint(format!(
        "`bolide list` shows which packages of {ecosystem} are; others go when nothing needs them"
    ))
}

/// Refuses a project that one of these locks shows to be another tool's, unless the caller takes it over or did so before: then
/// there is a lock of ours.
fn check_foreign(
    task: &Task<'_>,
    project: &Project,
    asked: &Asked<'_>,
    locks: &[&str],
) -> Result<()> {
    let is_ours = task.setting.take_over || asked.locked.is_some();
    for lock in locks.iter().filter(|_| !is_ours) {
        if project.content(&fixed(lock)?)?.is_some() {
            let message = format!("`{lock}` shows that another tool keeps this project");
            return Err(Error::new(Kind::Refused, "foreign-lock", message).hint(
                "use that tool, or `--take-over` to change the project and leave its lock behind",
            ));
        }
    }
    Ok(())
}

/// Which environments a plan builds anew.
fn rebuild(place: &RelativePath, ecosystem: Ecosystem) -> Rebuild {
    Rebuild { place: place.clone(), ecosystem }
}

/// The decision of one ecosystem.
type Decision = std::result::Result<Decided, ResolveError>;
