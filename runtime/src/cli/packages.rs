//! The commands about packages: each one is a request to the Packager, asked over the bus where a daemon runs and
//! in this process where none does, and its answer as text or JSON.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use agents_contract::ToolError;
use agents_packager::api::{
    Action, ApplyAnswer, ApplyRequest, ChangeRequest, HistoryAnswer, HistoryRequest, InfoAnswer,
    InfoRequest, ListAnswer, ListRequest, PlanAnswer, PlanRequest, PlannedPackage, RollbackAnswer,
    RollbackRequest, Setting,
};
use agents_packager::ecosystem::Ecosystem;
use agents_packager::plan::ELSEWHERE;
use agents_packager::workspace::Found;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backend::Backend;
use super::exit::{Exit, Failure};
use super::options::Resolution;
use super::{Context, output, render};

/// Where to work, and how to answer; common to every command about packages.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Common {
    /// The project's directory, or one below it.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(super) dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
    /// Work in this process even where a daemon runs.
    #[arg(long)]
    pub(super) standalone: bool,
}

/// How registries are reached; for the commands that ask them.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Registries {
    /// Use this registry instead of the configured one, as `npm=URL`, `pypi=URL` or `cargo=URL`; given again, a mirror of it.
    #[arg(long = "registry", value_name = "ECOSYSTEM=URL", value_parser = registry)]
    registries: Vec<(Ecosystem, String)>,
    /// Use only what is cached.
    #[arg(long)]
    offline: bool,
    /// The Python interpreter to make an environment for.
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Change the project even where the lock of another tool shows that it is that tool's.
    #[arg(long)]
    take_over: bool,
}

/// `bolide plan`.
#[derive(clap::Args, Debug)]
pub(crate) struct Plan {
    /// Packages to add: `npm:express@^4`, `pypi:requests>=2.31`, `cargo:serde@1`, or purls.
    packages: Vec<String>,
    /// Packages to remove.
    #[arg(long, value_name = "PACKAGE")]
    remove: Vec<String>,
    /// Plan what `bolide install` does.
    #[arg(long, conflicts_with_all = ["packages", "remove", "update"])]
    install: bool,
    /// Plan what `bolide update` does with the packages.
    #[arg(long, conflicts_with = "remove")]
    update: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    resolution: Resolution,
}

/// `bolide apply`.
#[derive(clap::Args, Debug)]
pub(crate) struct Apply {
    /// The digest of a plan made before.
    digest: String,
    /// Approve the plan, if it was not approved before.
    #[arg(long)]
    yes: bool,
    /// Go on over environments that were edited since; what was edited is kept aside first.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
}

/// `bolide add` and `bolide remove`.
#[derive(clap::Args, Debug)]
pub(crate) struct Change {
    /// The packages.
    #[arg(required = true)]
    packages: Vec<String>,
    /// Approve whatever the plan will be.
    #[arg(long)]
    yes: bool,
    /// Go on over environments that were edited since; what was edited is kept aside first.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    resolution: Resolution,
}

/// `bolide install`.
#[derive(clap::Args, Debug)]
pub(crate) struct Install {
    /// Does nothing: an installation needs no approval. Taken so that scripts may say it everywhere.
    #[arg(long, hide = true)]
    yes: bool,
    /// Go on over environments that were edited since; what was edited is kept aside first.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    resolution: Resolution,
}

/// The words of an installation that are read without the command tree (`quick`).
#[derive(Default)]
pub(super) struct Spoken {
    pub(super) dir: Option<PathBuf>,
    pub(super) python: Option<String>,
    registries: Vec<(Ecosystem, String)>,
    yes: bool,
    force: bool,
    json: bool,
    standalone: bool,
    offline: bool,
    take_over: bool,
    frozen: bool,
}

impl Spoken {
    /// A flag without a value.
    pub(super) fn flag(&mut self, word: &str) -> Option<&mut bool> {
        Some(match word {
            "--yes" => &mut self.yes,
            "--force" => &mut self.force,
            "--json" => &mut self.json,
            "--standalone" => &mut self.standalone,
            "--offline" => &mut self.offline,
            "--take-over" => &mut self.take_over,
            "--frozen" => &mut self.frozen,
            _ => return None,
        })
    }

    /// One more, if it is one.
    pub(super) fn add_registry(&mut self, value: &str) -> Option<()> {
        self.registries.push(registry(value).ok()?);
        Some(())
    }

    pub(super) fn install(self) -> Install {
        let Self { dir, python, registries, yes, force, json, standalone, .. } = self;
        let Self { offline, take_over, frozen, .. } = self;
        let dir = dir.unwrap_or_else(|| PathBuf::from("."));
        Install {
            yes,
            force,
            common: Common { dir, json, standalone },
            registries: Registries { registries, offline, python, take_over },
            resolution: Resolution::frozen(frozen),
        }
    }
}

/// `bolide update`.
#[derive(clap::Args, Debug)]
pub(crate) struct Update {
    /// The packages, `npm:express`; everything that is locked where none is named.
    packages: Vec<String>,
    /// Approve whatever the plan will be.
    #[arg(long)]
    yes: bool,
    /// Go on over environments that were edited since; what was edited is kept aside first.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    resolution: Resolution,
}

/// `bolide list`.
#[derive(clap::Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    common: Common,
}

/// `bolide info`.
#[derive(clap::Args, Debug)]
pub(crate) struct Info {
    /// The package, with or without a version.
    package: String,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
}

/// `bolide history`.
#[derive(clap::Args, Debug)]
pub(crate) struct History {
    /// The transactions of all projects.
    #[arg(long)]
    all: bool,
    /// Write the whole log there, one JSON object a line, newest first: who agreed, packages, what each name held before and after.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    export: Option<std::path::PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// `bolide rollback`.
#[derive(clap::Args, Debug)]
pub(crate) struct Rollback {
    /// The transaction to undo together with all later ones; the newest one where none is named.
    transaction: Option<String>,
    /// Do not ask where later transactions are undone too.
    #[arg(long)]
    yes: bool,
    /// Go on over files that were edited since; they are kept aside first.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

impl Registries {
    pub(super) fn setting(&self) -> Setting {
        let mut setting = Setting::of_this_process();
        for (ecosystem, url) in &self.registries {
            // The second one and those behind it are mirrors of the first.
            let urls = setting.registry.entry(*ecosystem).or_default();
            *urls = format!("{urls} {url}").trim_start().to_owned();
        }
        setting.offline = self.offline;
        // The daemon has another working directory.
        setting.python = self.python.as_deref().map(|python| match python.contains('/') {
            true => std::path::absolute(python)
                .map_or_else(|_| python.to_owned(), |path| path.to_string_lossy().into_owned()),
            false => python.to_owned(),
        });
        setting.take_over = self.take_over;
        setting
    }
}

fn registry(text: &str) -> Result<(Ecosystem, String), String> {
    let (name, url) = text.split_once('=').ok_or("write it as `npm=URL`")?;
    let ecosystem = Ecosystem::WITH_REGISTRY.into_iter().find(|it| it.as_str() == name);
    let ecosystem = ecosystem.ok_or_else(|| format!("no registry is known for `{name}`"))?;
    Ok((ecosystem, url.to_owned()))
}

pub(crate) fn plan(arguments: Plan, context: &Context) -> Result<Exit, Failure> {
    let common = &arguments.common;
    let (common, member) = common.at_member(&[&arguments.packages, &arguments.remove])?;
    let (add, update) = match arguments.update {
        true => (Vec::new(), Some(arguments.packages)),
        false => (arguments.packages, None),
    };
    let request = PlanRequest {
        add,
        remove: arguments.remove,
        install: arguments.install,
        update,
        member,
        setting: Setting {
            options: arguments.resolution.options()?,
            ..arguments.registries.setting()
        },
    };
    let mut asker = Asker::open_for(&common, context, ("pkg.plan", &request))?;
    let answer: PlanAnswer = asker.ask("pkg.plan", &request)?;
    asker.print(&answer, render::plan)?;
    Ok(if answer.conflict.is_some() { Exit::Conflict } else { Exit::Done })
}

pub(crate) fn apply(arguments: Apply, context: &Context) -> Result<Exit, Failure> {
    let request = ApplyRequest {
        digest: arguments.digest,
        approve: arguments.yes,
        force: arguments.force,
        setting: arguments.registries.setting(),
    };
    // Only the plan knows which project was meant where the directory belongs to several.
    let (mut meant, others) = arguments.common.candidates()?;
    let mut asker = Asker::open(&meant, context)?;
    let mut answer = asker.ask::<ApplyAnswer>("pkg.apply", &request);
    for other in others {
        if !answer.as_ref().is_err_and(|error| error.code == ELSEWHERE) {
            break;
        }
        let mut there = Asker::open(&other, context)?;
        let outcome = there.ask("pkg.apply", &request);
        if !outcome.as_ref().is_err_and(|error: &ToolError| error.code == ELSEWHERE) {
            (meant, asker, answer) = (other, there, outcome);
        }
    }
    arguments.common.told(Found::at(&meant.dir));
    let answer = answer?;
    asker.print_done(&answer, answer.transaction.as_deref(), render::apply)?;
    Ok(Exit::Done)
}

pub(crate) fn add(arguments: Change, context: &Context) -> Result<Exit, Failure> {
    change(arguments, context, |packages, member, setting| PlanRequest {
        add: packages,
        member,
        setting,
        ..PlanRequest::default()
    })
}

pub(crate) fn remove(arguments: Change, context: &Context) -> Result<Exit, Failure> {
    change(arguments, context, |packages, member, setting| PlanRequest {
        remove: packages,
        member,
        setting,
        ..PlanRequest::default()
    })
}

pub(crate) fn update(arguments: Update, context: &Context) -> Result<Exit, Failure> {
    let Update { packages, yes, force, common, registries, resolution } = arguments;
    let change_of = Change { packages, yes, force, common, registries, resolution };
    change(change_of, context, |packages, member, setting| PlanRequest {
        update: Some(packages),
        member,
        setting,
        ..PlanRequest::default()
    })
}

/// Needs no approval: it does what manifests and lock say, which their author approved. One request: nobody looks at the plan in between.
pub(crate) fn install(arguments: Install, context: &Context) -> Result<Exit, Failure> {
    let Install { yes: _, force, common, registries, resolution } = arguments;
    let options = resolution.options()?;
    let setting = Setting { options, ..registries.setting() };
    setting.options.check_here().map_err(ToolError::from)?;
    let mut asker = Asker::open(&common.at_project()?, context)?;
    let request = ChangeRequest { packages: Vec::new(), approve: true, force, setting };
    match asker.ask::<ApplyAnswer>("pkg.install", &request) {
        Ok(answer) => {
            asker.print_done(&answer, answer.transaction.as_deref(), render::apply)?;
            asker.backend.leave();
            Ok(Exit::Done)
        }
        Err(error) if error.code == "conflict" => {
            // Only a plan says which repairs there are; where there is none now, what was said first stands.
            let setting = request.setting;
            let request = PlanRequest { install: true, setting, ..PlanRequest::default() };
            match asker.ask::<PlanAnswer>("pkg.plan", &request) {
                Ok(plan) if plan.conflict.is_some() => {
                    asker.print(&plan, render::plan).map(|()| Exit::Conflict)
                }
                _ => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Times that `--yes` plans anew because somebody else changed the project in between.
const REPLANS_MAX: usize = 8;

/// Plans, asks a person at a terminal or takes `--yes`, and applies.
fn change(
    arguments: Change,
    context: &Context,
    request: impl FnOnce(Vec<String>, String, Setting) -> PlanRequest,
) -> Result<Exit, Failure> {
    let options = arguments.resolution.options()?;
    let setting = Setting { options, ..arguments.registries.setting() };
    // Before a person is asked about a plan that nobody may carry out.
    setting.options.check_here().map_err(ToolError::from)?;
    let (common, member) = arguments.common.at_member(&[&arguments.packages])?;
    let request = request(arguments.packages, member, setting.clone());
    let mut asker = Asker::open_for(&common, context, ("pkg.plan", &request))?;
    let mut tries = 0;
    loop {
        tries += 1;
        let plan: PlanAnswer = asker.ask("pkg.plan", &request)?;
        let Some(digest) = plan.digest.clone() else {
            asker.print(&plan, render::plan)?;
            return Ok(Exit::Conflict);
        };
        let is_new = |package: &PlannedPackage| package.action != Action::Keep;
        let changes_nothing =
            plan.files.is_empty() && plan.removed.is_empty() && !plan.packages.iter().any(is_new);
        let approved = arguments.yes || changes_nothing || asker.confirm(&render::plan(&plan));
        if !approved {
            asker.print(&plan, render::plan)?;
            let hint = format!("look at the plan, then run `bolide apply {digest} --yes`");
            return Err(tool_error(4, "approval-needed", "the plan is not approved", &hint).into());
        }
        let (setting, force) = (setting.clone(), arguments.force);
        let apply = ApplyRequest { digest, approve: true, force, setting };
        match asker.ask::<ApplyAnswer>("pkg.apply", &apply) {
            Ok(mut answer) => {
                answer.warnings.splice(0..0, plan.warnings);
                asker.print_done(&answer, answer.transaction.as_deref(), render::apply)?;
                return Ok(Exit::Done);
            }
            Err(error) if error.code == "plan-stale" && arguments.yes && tries < REPLANS_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn list(arguments: List, context: &Context) -> Result<Exit, Failure> {
    let mut asker = Asker::open(&arguments.common.at_record()?, context)?;
    let request = ListRequest { setting: Setting::of_this_process() };
    let answer: ListAnswer = asker.ask("pkg.list", &request)?;
    asker.print(&answer, render::list)?;
    Ok(Exit::Done)
}

pub(crate) fn info(arguments: Info, context: &Context) -> Result<Exit, Failure> {
    let setting = arguments.registries.setting();
    let mut asker = Asker::open(&arguments.common.silently()?, context)?;
    let request = InfoRequest { package: arguments.package, setting };
    let answer: InfoAnswer = asker.ask("pkg.info", &request)?;
    asker.print(&answer, render::info)?;
    Ok(Exit::Done)
}

pub(crate) fn history(arguments: History, context: &Context) -> Result<Exit, Failure> {
    let common = match arguments.all {
        true => arguments.common,
        false => arguments.common.at_record()?,
    };
    let mut asker = Asker::open(&common, context)?;
    if let Some(file) = &arguments.export {
        return super::history::export(&mut asker, arguments.all, file);
    }
    let details = asker.json;
    let request = HistoryRequest { all: arguments.all, details, ..HistoryRequest::default() };
    let answer: HistoryAnswer = asker.ask("pkg.history", &request)?;
    asker.print(&answer, |answer| render::history(answer, arguments.all))?;
    Ok(Exit::Done)
}

pub(crate) fn rollback(arguments: Rollback, context: &Context) -> Result<Exit, Failure> {
    let common = match &arguments.transaction {
        Some(transaction) => arguments.common.at_transaction(transaction, context)?,
        None => arguments.common.at_latest(context)?,
    };
    let mut asker = Asker::open(&common, context)?;
    if let Some(wanted) = arguments.transaction.as_ref().filter(|_| !arguments.yes) {
        let request = HistoryRequest::default();
        let history: HistoryAnswer = asker.ask("pkg.history", &request)?;
        // A name that is not there is refused by the rollback itself.
        let at = history.transactions.iter().position(|entry| entry.transaction == *wanted);
        let later: Vec<String> = history.transactions[..at.unwrap_or(0)]
            .iter()
            .filter(|entry| entry.state == "committed" && entry.operation != "rollback")
            .map(|entry| format!("{}  {}", entry.transaction, entry.summary))
            .collect();
        let question = format!("these later transactions are undone too:\n{}\n", later.join("\n"));
        if !later.is_empty() && !asker.confirm(&question) {
            let hint = "run the command again with `--yes`";
            return Err(tool_error(4, "approval-needed", question.trim_end(), hint).into());
        }
    }
    let request = RollbackRequest { transaction: arguments.transaction, force: arguments.force };
    let answer: RollbackAnswer = asker.ask("pkg.rollback", &request)?;
    asker.print_done(&answer, Some(&answer.transaction), render::rollback)?;
    Ok(Exit::Done)
}

/// One conversation with the Packager on behalf of one command.
pub(super) struct Asker {
    backend: Backend,
    json: bool,
}

impl Asker {
    pub(super) fn open(common: &Common, context: &Context) -> Result<Self, Failure> {
        Self::open_with(common, context, None)
    }

    /// The same for what is asked next: it may be begun while this opens.
    pub(super) fn open_for(
        common: &Common,
        context: &Context,
        (tool, request): (&str, &impl Serialize),
    ) -> Result<Self, Failure> {
        Self::open_with(common, context, Some((tool, &written(request)?)))
    }

    fn open_with(
        common: &Common,
        context: &Context,
        next: Option<(&str, &[u8])>,
    ) -> Result<Self, Failure> {
        let settings = &context.load([])?.settings;
        let backend = Backend::open(settings, &common.dir, common.standalone, next)?;
        Ok(Self { backend, json: common.json })
    }

    pub(super) fn ask<Answer: DeserializeOwned>(
        &mut self,
        tool: &str,
        request: &impl Serialize,
    ) -> Result<Answer, ToolError> {
        let answer = self.backend.call(tool, &written(request)?)?;
        ciborium::from_reader(answer.as_slice()).map_err(|error| nonsense(&error))
    }

    /// Whether a daemon answers.
    pub(super) fn has_daemon(&self) -> bool {
        self.backend.peer_pid().is_some()
    }

    /// Whether the person at the terminal says yes; always no where there is none.
    fn confirm(&self, question: &str) -> bool {
        if self.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return false;
        }
        let question = output::harmless(question);
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question}go on? [y/N] ");
        let _ = stderr.flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// The same for what was carried out as this transaction: where the answer cannot be written, that is said all the same, as
    /// the exit code alone looks like nothing was done.
    pub(super) fn print_done<Answer: Serialize>(
        &self,
        answer: &Answer,
        transaction: Option<&str>,
        text: impl FnOnce(&Answer) -> String,
    ) -> Result<(), Failure> {
        self.print(answer, text).map_err(|failure| match transaction {
            None => failure,
            Some(transaction) => Failure {
                error: failure.error.context(format!("{transaction} was carried out")),
                hint: Some("`bolide history` shows it; do not run the command again".to_owned()),
                ..failure
            },
        })
    }

    pub(super) fn print<Answer: Serialize>(
        &self,
        answer: &Answer,
        text: impl FnOnce(&Answer) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            output::print_json(answer)?;
        } else {
            output::print(&output::harmless(&text(answer)))?;
        }
        Ok(())
    }
}

fn written(request: &impl Serialize) -> Result<Vec<u8>, ToolError> {
    let mut payload = Vec::new();
    ciborium::into_writer(request, &mut payload).map_err(|error| nonsense(&error))?;
    Ok(payload)
}

fn nonsense(error: &dyn std::fmt::Display) -> ToolError {
    let message = format!("the packager's answer cannot be read: {error}");
    tool_error(1, "protocol", &message, "the daemon may be of another version: restart it")
}

pub(super) fn tool_error(exit_code: u8, code: &str, message: &str, hint: &str) -> ToolError {
    let (code, message) = (code.to_owned(), message.to_owned());
    ToolError { exit_code, code, message, hint: Some(hint.to_owned()), retry: false }
}
