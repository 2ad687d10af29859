//! `pkg.plan`: what would have to change, decided by every ecosystem at once and written down under a digest.

mod beside;
mod shown;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use agents_contract::{Crew, Work};

use self::shown::Shown;
use self::wish::Wish;
pub(super) use self::wish::specs;
use super::locked::{self, Locked, Wanted};
use super::{Aim, Asked, Decided, Decision, Task};
use super::{cargo, debian, hold, npm, pypi, rebuild, rest, solved};
use crate::api::{Conflict, PlanAnswer, PlanRequest, Repair};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{PLAN_LIFETIME_MS, REPLANS_MAX, SHOWN_BESIDE_MIN};
use crate::lock;
use crate::metadata::held::{Held, Word};
use crate::plan::{FileEdit, Plan, ProjectId, SCHEMA_VERSION, Stored, sort_edits};
use crate::resolution::{Package, Resolution};
use crate::resolve::ResolveError;
use crate::spec::Spec;
use crate::transaction::{Project, RelativePath, Session};
use crate::workspace;

/// A plan, and how it is shown.
pub(crate) struct Planned {
    /// The digest, where there is a plan.
    pub(crate) digest: Option<String>,
    /// Without packages where they were not asked for, or are in `written`.
    pub(crate) answer: PlanAnswer,
    /// The whole answer as it is sent, where that was asked for and there is a plan.
    pub(crate) written: Option<Vec<u8>>,
}

/// What is wanted of the packages of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Nothing: the plan is carried out at once.
    None,
    /// A description of each.
    Described,
    /// The whole answer as it is sent.
    Written,
}

impl Task<'_> {
    /// Makes a plan and keeps it.
    pub(crate) fn plan(
        &self,
        directory: OwnedFd,
        request: &PlanRequest,
        detail: Detail,
    ) -> Result<Planned> {
        let began = Instant::now();
        let request = &*self.spelled(request)?;
        let wish = Wish::read(request)?;
        locked::check_frozen(self, wish.aim())?;
        let project = Project::from_fd(directory)?;
        if wish.aim() != Aim::Change {
            locked::check_manifest(&project, wish.aim())?;
        }
        self.wait_for_others(&project)?;
        if !self.is_foreseen {
            self.prepare(&wish.add);
        }
        self.plan_for(&project, &wish, (detail, began))
    }

    /// Begins what a plan has to wait for, in a project that is at rest; whether that is anything.
    pub(crate) fn foresee(&self, project: &Project, request: &PlanRequest) -> Result<bool> {
        let request = &*self.spelled(request)?;
        let wish = Wish::read(request)?;
        locked::check_frozen(self, wish.aim())?;
        let asked = match wish.aim() {
            Aim::Install if self.choices.frozen => Vec::new(),
            Aim::Install => npm::foreseen(self, project)?,
            Aim::Change | Aim::Update(_) => wish.add.clone(),
        };
        self.prepare(&asked);
        // Where a registry is asked, its answer takes longer, and what that needs of the cores comes first.
        if self.setting.offline && wish.add.iter().any(|spec| spec.ecosystem == Ecosystem::Npm) {
            self.shop.tools.begin_version("node", self.variable("PATH").as_deref());
        }
        Ok(!asked.is_empty())
    }

    /// Makes a plan that brings every environment in line with its manifest, and keeps it.
    pub(crate) fn plan_install(&self, project: &Project) -> Result<Planned> {
        self.wait_for_others(project)?;
        self.plan_for(project, &Wish::default(), (Detail::Described, Instant::now()))
    }

    /// In a project for whose others was waited.
    fn plan_for(&self, project: &Project, wish: &Wish, how: (Detail, Instant)) -> Result<Planned> {
        rest::clear();
        for attempt in 0..REPLANS_MAX {
            if attempt > 0 {
                self.wait_for_others(project)?;
            }
            if let Some(planned) = self.plan_once(project, wish, how)? {
                return Ok(planned);
            }
            tracing::debug!("another transaction ended meanwhile, so the plan is made anew");
        }
        let place = project.path().display();
        let message =
            format!("`{place}` was changed by others {REPLANS_MAX} times while it was planned");
        Err(Error::new(Kind::Stale, "plan-stale", message)
            .hint("`bolide history` shows by whom; run the command again")
            .retryable())
    }

    /// What a crash left is made whole, and who is at work is waited for, before anything is read: which registry is asked may stand
    /// in a file that changes.
    fn wait_for_others(&self, project: &Project) -> Result<()> {
        if self.shop.transactions.has_unfinished(project)? {
            drop(self.lock(project.again()?)?);
        }
        Ok(())
    }

    /// The plan, or nothing where a transaction ended while it was made: what is installed, the manifests and the environments
    /// would be of different moments.
    fn plan_once(
        &self,
        project: &Project,
        wish: &Wish,
        (detail, began): (Detail, Instant),
    ) -> Result<Option<Planned>> {
        let transactions = &self.shop.transactions;
        let latest = transactions.latest(project)?;
        let installed = self.installed(project)?;
        let locked = Locked::read(project, &self.shop.locks)?;
        let concerned = wish.concerned(project, &installed)?;
        let (concerned, members) = match wish.specs().is_empty() {
            true => without_members(project, concerned),
            false => (concerned, Vec::new()),
        };
        self.choices.check_in_place(&concerned)?;
        let holds = self.holds(project, concerned.contains(&Ecosystem::Debian))?;
        let decisions = self.decide(project, concerned, wish, (&installed, &locked, &holds));
        rest::leave(crate::resolve::npm::Rest);
        let resolve_ms = began.elapsed().as_secs_f64() * 1000.0;
        if transactions.latest(project)? != latest {
            return Ok(None);
        }
        let mut decided = match together(decisions)? {
            Ok(decided) => decided,
            Err(conflict) => {
                let answer = answer(project, resolve_ms);
                let answer = PlanAnswer { conflict: Some(conflict), warnings: members, ..answer };
                return Ok(Some(Planned { digest: None, answer, written: None }));
            }
        };
        let mut installed = installed;
        for decided in &mut decided {
            // What the machine itself says of what is installed comes before what was noted.
            if let Some(before) = decided.before.take() {
                installed.insert(before.ecosystem, before);
            }
        }
        let wanted: Vec<Wanted> = decided.iter_mut().filter_map(Wanted::of).collect();
        let session = self.lock(project.again()?)?;
        // One that was undone was in the middle of it, too, and leaves no other latest one.
        if transactions.latest(project)? != latest || !session.recovered().is_empty() {
            return Ok(None);
        }
        let mut answer = answer(project, resolve_ms);
        let of_decided = decided.iter().flat_map(|decided| decided.warnings.clone());
        answer.warnings = members.into_iter().chain(of_decided).collect();
        let known = (&installed, &locked);
        let plan = self.write_down(&session, wish, decided, known, &mut answer.warnings)?;
        drop(session);
        // What is frozen was followed, so the lock is right as it is.
        let lock = |plan: &Plan| match self.choices.frozen {
            true => Ok(None),
            false => locked.edit(&wanted, plan),
        };
        let (plan, planned) =
            self.keep_and_show(plan, &lock, (&installed, &holds), (detail, answer))?;
        rest::leave((plan, installed, locked));
        Ok(Some(planned))
    }

    /// Locks what a plan found, keeps it, and makes of it what is shown. Where there is much of all, on two threads at once: whoever asked
    /// sleeps meanwhile.
    fn keep_and_show(
        &self,
        mut plan: Plan,
        lock: &dyn Fn(&Plan) -> Result<Option<FileEdit>>,
        (installed, holds): (&BTreeMap<Ecosystem, Resolution>, &BTreeMap<Ecosystem, Held>),
        (detail, mut answer): (Detail, PlanAnswer),
    ) -> Result<(Arc<Plan>, Planned)> {
        let is_large = Shown::new(&plan, installed, holds).count() >= SHOWN_BESIDE_MIN;
        let (stored, begun) = if detail == Detail::Written && is_large {
            let edits = std::mem::take(&mut plan.edits);
            let shown = Shown::new(&plan, installed, holds);
            let made = beside::make(&plan, edits, || lock(&plan), (&shown, &answer))?;
            plan.edits = made.edits;
            (made.stored, Some(made.written))
        } else {
            let lock = lock(&plan)?;
            plan.edits.extend(lock);
            sort_edits(&mut plan.edits);
            (plan.to_stored()?, None)
        };
        let plan = Arc::new(plan);
        let digest = self.keep(&plan, stored)?;
        let shown = Shown::new(&plan, installed, holds);
        shown.head(&mut answer);
        let written = match (detail, begun) {
            (Detail::Written, Some(begun)) => Some(begun.end(&answer)?.with_digest(&digest)?),
            (Detail::Written, None) => Some(shown.write(&answer)?.with_digest(&digest)?),
            (Detail::Described, _) => {
                shown.describe(&mut answer);
                None
            }
            (Detail::None, _) => None,
        };
        let answer = PlanAnswer { digest: Some(digest.clone()), ..answer };
        Ok((plan, Planned { digest: Some(digest), answer, written }))
    }

    /// Keeps a plan; its digest. Writing it is waited for only where the host has no later.
    fn keep(&self, plan: &Arc<Plan>, stored: Stored) -> Result<String> {
        let transactions = &self.shop.transactions;
        let digest = transactions.note_stored(plan, stored)?;
        self.shop.plans.put(&digest, plan);
        // Whoever has it written wakes others up, and so comes after the answer.
        if !self.conversation.has_afterwards() {
            self.shop.write_plans_later();
        }
        transactions.check_plans()?;
        Ok(digest)
    }

    /// Has the registries asked for what is wanted of them, while the project and the tools of this machine are still looked at.
    fn prepare(&self, wanted: &[Spec]) {
        let mut names: BTreeMap<Ecosystem, Vec<String>> = BTreeMap::new();
        // An alias or an address is about another package than its name says.
        for spec in wanted.iter().filter(|spec| !spec.requirement.contains(':')) {
            names.entry(spec.ecosystem).or_default().push(spec.name.clone());
        }
        for (ecosystem, names) in names {
            self.registries.prepare(ecosystem, names);
        }
    }

    /// Every concerned ecosystem decides, each a piece of work where resolution belongs.
    fn decide(
        &self,
        project: &Project,
        concerned: BTreeSet<Ecosystem>,
        wish: &Wish,
        (installed, locked, holds): (
            &BTreeMap<Ecosystem, Resolution>,
            &Locked,
            &BTreeMap<Ecosystem, Held>,
        ),
    ) -> Vec<(Ecosystem, Decision)> {
        let nothing = Held::default();
        let decisions: Vec<(Ecosystem, Mutex<Option<Decision>>)> =
            concerned.into_iter().map(|ecosystem| (ecosystem, Mutex::new(None))).collect();
        self.hands(Work::Resolve).run(decisions.len(), &|index| {
            let (ecosystem, place) = &decisions[index];
            let of = |specs: &[Spec]| -> Vec<Spec> {
                specs.iter().filter(|spec| spec.ecosystem == *ecosystem).cloned().collect()
            };
            let (add, remove) = (of(&wish.add), of(&wish.remove));
            let update = of(wish.update.as_deref().unwrap_or_default());
            let asked = Asked {
                add: &add,
                remove: &remove,
                member: &wish.member,
                installed: installed.get(ecosystem),
                locked: locked.lock.parts.get(ecosystem),
                aim: match wish.aim() {
                    Aim::Update(_) => Aim::Update(&update),
                    aim => aim,
                },
                held: holds.get(ecosystem).unwrap_or(&nothing),
            };
            let began = Instant::now();
            // npm tells by itself when something has to be waited for or takes long: who has all at hand answers before anybody could
            // read it.
            if *ecosystem != Ecosystem::Npm {
                self.say_resolving(*ecosystem);
            }
            // One that breaks does not take the others along.
            let decide = |asked: &Asked<'_>| match ecosystem {
                Ecosystem::Npm => npm::decide(self, project, asked),
                Ecosystem::Pypi => pypi::decide(self, project, asked),
                Ecosystem::Cargo => cargo::decide(self, project, asked),
                Ecosystem::Debian => debian::decide(self, asked),
                Ecosystem::Rpm | Ecosystem::Pacman => solved::decide(self, *ecosystem, asked),
            };
            let decided =
                catch_unwind(AssertUnwindSafe(|| hold::with_holds(*ecosystem, &asked, &decide)));
            let decided = decided.unwrap_or_else(|_| Err(broken(*ecosystem)));
            self.shop.measures.resolved(*ecosystem, began.elapsed());
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(decided);
        });
        let taken = |(ecosystem, place): (Ecosystem, Mutex<Option<Decision>>)| {
            let decided = place.into_inner().unwrap_or_else(PoisonError::into_inner);
            // What was not begun is not wanted any more.
            let left_out = || match self.check_wanted() {
                Err(cancelled) => Err(ResolveError::Other(cancelled)),
                Ok(()) => Err(broken(ecosystem)),
            };
            (ecosystem, decided.unwrap_or_else(left_out))
        };
        decisions.into_iter().map(taken).collect()
    }

    pub(super) fn say_resolving(&self, ecosystem: Ecosystem) {
        self.say("resolve", format!("resolving {ecosystem} packages"), 0, 0);
    }

    /// The same of npm's, where nothing was said and the request takes long.
    pub(super) fn say_npm_when_due(&self) {
        self.npm_word.give_when_due(Instant::now(), &|| self.say_resolving(Ecosystem::Npm));
    }

    /// Makes the plan, but for the lock.
    fn write_down(
        &self,
        session: &Session,
        wish: &Wish,
        decided: Vec<Decided>,
        (installed, locked): (&BTreeMap<Ecosystem, Resolution>, &Locked),
        warnings: &mut Vec<String>,
    ) -> Result<Plan> {
        let project = session.project();
        let now_ms = self.shop.transactions.now_ms();
        let mut plan = Plan {
            schema_version: SCHEMA_VERSION,
            project: ProjectId::of(project),
            operation: wish.operation().to_owned(),
            requested: wish.specs(),
            resolutions: Vec::new(),
            edits: Vec::new(),
            environments: Vec::new(),
            exemptions: Vec::new(),
            system: None,
            is_elsewhere: decided.iter().any(|decided| decided.is_elsewhere),
            preconditions: vec![locked.precondition()?],
            created_at_ms: now_ms,
            expires_at_ms: now_ms + PLAN_LIFETIME_MS,
        };
        for decided in decided {
            let Decided { resolution, edits, environment, beside, preconditions, .. } = decided;
            let before = installed.get(&resolution.ecosystem);
            for place in environment.into_iter().chain(beside) {
                let state = self.shop.transactions.environment(project, &place)?;
                let is_there = project.path().join(place.as_str()).exists();
                // Where nothing is, nothing is lost.
                let is_edited = state.fingerprint.is_some()
                    && project.path().join(place.as_str()).symlink_metadata().is_ok()
                    && session.is_edited_by(&self.hands(Work::Unpack), &place)?;
                let is_ours = state.fingerprint.is_some() || !is_there;
                let made_for = match resolution.ecosystem {
                    Ecosystem::Pypi => pypi::made_for_another_path(project, &place),
                    _ => None,
                };
                if let Some(path) = &made_for {
                    warnings.push(made_anew(&place, path));
                }
                let is_right = is_ours
                    && !is_edited
                    && made_for.is_none()
                    && before.is_some_and(|before| lock::is_same(before, &resolution))
                    && is_there != is_empty(&resolution, &place);
                if is_edited {
                    warnings.push(format!("`{place}` was edited since; applying needs `--force`"));
                }
                if !is_right {
                    plan.environments.push(rebuild(&place, resolution.ecosystem));
                }
            }
            plan.exemptions.extend(match decided.is_locked {
                true => self.exemptions_of_locked(&resolution, before),
                false => self.exemptions(&resolution),
            });
            plan.system = plan.system.take().or(decided.system);
            plan.resolutions.push(resolution);
            plan.edits.extend(edits);
            plan.preconditions.extend(preconditions);
        }
        plan.normalise();
        Ok(plan)
    }
}

/// What is said of an environment that came here from elsewhere.
fn made_anew(place: &RelativePath, path: &str) -> String {
    let path = path.escape_debug();
    format!(
        "`{place}` was made for `{path}`, where its commands lead; it is made anew for its present path"
    )
}

/// What concerns a project by itself. A member of a workspace may have packages of another ecosystem, which are its own; the
/// workspace's are installed at its root, and a warning says so. A member that has nothing else is refused later.
fn without_members(
    project: &Project,
    mut concerned: BTreeSet<Ecosystem>,
) -> (BTreeSet<Ecosystem>, Vec<String>) {
    let refused = |ecosystem: &Ecosystem| match ecosystem {
        Ecosystem::Npm => workspace::refuse_npm_member(project.path()).err(),
        Ecosystem::Cargo => workspace::refuse_cargo_member(project.path()).err(),
        _ => None,
    };
    if concerned.len() < 2 {
        return (concerned, Vec::new());
    }
    let is_member = |error: &Error| error.code == workspace::IS_MEMBER;
    let found = |it: &Ecosystem| refused(it).filter(is_member).map(|error| (*it, error));
    let members: Vec<(Ecosystem, Error)> = concerned.iter().filter_map(found).collect();
    if members.len() == concerned.len() {
        return (concerned, Vec::new());
    }
    let told = |(ecosystem, error): (Ecosystem, Error)| {
        concerned.remove(&ecosystem);
        let hint = error.hint.unwrap_or_default();
        format!("packages of {ecosystem} are left alone: {}; {hint}", error.message)
    };
    let warnings = members.into_iter().map(told).collect();
    (concerned, warnings)
}

/// Whether nothing is to stand in an environment.
fn is_empty(resolution: &Resolution, place: &RelativePath) -> bool {
    match resolution.ecosystem {
        Ecosystem::Npm => crate::install::npm::is_empty(resolution, place.as_str()),
        _ => resolution.packages.is_empty(),
    }
}

fn broken(ecosystem: Ecosystem) -> ResolveError {
    let message =
        format!("the resolver of {ecosystem} packages failed; this is a defect of bolide");
    Error::new(Kind::Failed, "internal", message).hint("please report what was asked for").into()
}

/// All decisions, or why they cannot be had together. An error that is no conflict comes before all.
fn together(
    decisions: Vec<(Ecosystem, Decision)>,
) -> Result<std::result::Result<Vec<Decided>, Conflict>> {
    let mut decided = Vec::with_capacity(decisions.len());
    let mut conflict = None;
    for (ecosystem, decision) in decisions {
        match decision {
            Ok(done) => decided.push(done),
            Err(ResolveError::Other(error)) => return Err(error),
            Err(ResolveError::Conflict(found)) => join(&mut conflict, ecosystem, found),
        }
    }
    Ok(conflict.map_or(Ok(decided), Err))
}

fn join(all: &mut Option<Conflict>, ecosystem: Ecosystem, found: crate::resolve::Conflict) {
    let repairs = found.repairs.into_iter().map(|repair| Repair {
        description: repair.description,
        specs: repair
            .changes
            .into_iter()
            .filter_map(|change| Some(format!("{ecosystem}:{}", change.to?)))
            .collect(),
    });
    match all {
        Some(conflict) => {
            conflict.explanation += "\n";
            conflict.explanation += &found.explanation;
            conflict.repairs.extend(repairs);
        }
        None => {
            let repairs = repairs.collect();
            *all = Some(Conflict { explanation: found.explanation, repairs });
        }
    }
}

fn answer(project: &Project, resolve_ms: f64) -> PlanAnswer {
    PlanAnswer {
        schema: "bolide.plan/1".to_owned(),
        digest: None,
        project: project.path().to_string_lossy().into_owned(),
        packages: Vec::new(),
        removed: Vec::new(),
        files: Vec::new(),
        exemptions: Vec::new(),
        warnings: Vec::new(),
        expires_at: None,
        conflict: None,
        resolve_ms,
    }
}

/// Whether a package is at a version that it is held at.
pub(super) fn is_held(package: &Package, held: Option<&Held>) -> bool {
    held.is_some_and(|held| held.says(&package.name, &package.version) == Word::Held)
}

/// What a package uses, as purls.
pub(super) fn purls_of(package: &Package, resolution: &Resolution) -> Vec<String> {
    let used = package.dependencies.iter().filter_map(|index| resolution.packages.get(*index));
    used.map(Package::purl).collect()
}
