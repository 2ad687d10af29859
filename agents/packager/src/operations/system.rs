//! The part of plans and their application that packages of the system are: what changes, whether it may, and everything that
//! is needed on the disk before it does. Carrying it out belongs to the transaction.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Task;
use crate::api::{PlanRequest, VerifiedSystem};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_FAULTS_MAX;
use crate::metadata::Hashes;
use crate::plan::Plan;
use crate::resolution::{self, Artifact, Resolution};
use crate::resolve::debian::Resolved;
use crate::system::{
    Action, Change, Distribution, Manager, Snapshot, Standing, Step, System, Version,
};
use crate::transaction::Archives;

/// Variables for another place of the system: ours, and dpkg's own.
const ROOTS: [&str; 2] = ["BOLIDE_SYSTEM_ROOT", "DPKG_ROOT"];
/// Stands for the kind of packages that the system has.
const OWN: &str = "system:";
/// What a warning begins with that says why a plan cannot be carried out.
pub(super) const CANNOT: &str = "this plan cannot be applied: ";
/// What the distribution's tool may know of the caller's network.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"];

/// The part of a plan under way.
pub(super) struct Part<'p> {
    pub(super) change: &'p Change,
    system: System,
}

impl Task<'_> {
    /// The root directory of the system that is meant.
    pub(super) fn system_root(&self) -> PathBuf {
        let root = ROOTS.iter().find_map(|name| self.variable(name)).map(PathBuf::from);
        root.filter(|root| root.is_absolute()).unwrap_or_else(|| PathBuf::from("/"))
    }

    /// One package in the same words.
    pub(super) fn spelled_one<'r>(&self, text: &'r str) -> Result<Cow<'r, str>> {
        match text.strip_prefix(OWN) {
            Some(name) => Ok(Cow::Owned(format!("{}:{name}", self.own_kind()?))),
            None => Ok(Cow::Borrowed(text)),
        }
    }

    /// The kind of packages that this distribution has.
    fn own_kind(&self) -> Result<Ecosystem> {
        let distribution = Distribution::recognise(&self.system_root());
        let is_own =
            |it: &Ecosystem| it.is_of_system() && distribution.packages == Some(it.as_str());
        Ecosystem::ALL.into_iter().find(is_own).ok_or_else(|| {
            let message = format!(
                "packages of {} cannot be named here: only those of apt, dnf and pacman are known",
                distribution.name
            );
            Error::new(Kind::Usage, "unknown-distribution", message)
                .hint("use the distribution's own tool for them")
        })
    }

    /// A request in which `system:NAME` is said in the words of this distribution.
    pub(super) fn spelled<'r>(&self, request: &'r PlanRequest) -> Result<Cow<'r, PlanRequest>> {
        let update = request.update.as_deref().unwrap_or_default();
        let mut all = request.add.iter().chain(&request.remove).chain(update);
        if !all.any(|text| text.starts_with(OWN)) {
            return Ok(Cow::Borrowed(request));
        }
        let kind = self.own_kind()?;
        let spell = |texts: &[String]| -> Vec<String> {
            let own = |text: &String| match text.strip_prefix(OWN) {
                Some(name) => format!("{kind}:{name}"),
                None => text.clone(),
            };
            texts.iter().map(own).collect()
        };
        Ok(Cow::Owned(PlanRequest {
            add: spell(&request.add),
            remove: spell(&request.remove),
            update: request.update.as_deref().map(spell),
            ..request.clone()
        }))
    }

    /// What carrying out a resolution means, as the distribution's tool would do it; an error says why it would not.
    pub(super) fn system_change(&self, root: &Path, resolved: &Resolved) -> Result<Change> {
        let transactions = &self.shop.transactions;
        let system = System::open(root, &transactions.system_place()?)?;
        let mut snapshot = system.snapshot()?;
        if snapshot.require_whole().is_err() {
            // It may be a crash of ours that left it so.
            transactions.end_systems()?;
            snapshot = system.snapshot()?;
        }
        snapshot.require_whole()?;
        let wants = wants(resolved, &snapshot);
        let actions = match wants.is_empty() {
            true => Vec::new(),
            false => system.simulate(&wants)?,
        };
        check_meant(resolved, &snapshot, &actions)?;
        let archives = transactions.system_archives()?;
        let mut change = Change {
            irreversible: Vec::new(),
            manager: Manager::Apt,
            root: root.canonicalize().unwrap_or_else(|_| root.to_owned()).display().to_string(),
            steps: Vec::new(),
        };
        let listed = |resolution: &Resolution, name: &str, version: &str| {
            let is_it = |it: &&resolution::Package| it.name == name && it.version == version;
            let found = resolution.packages.iter().find(is_it);
            found.and_then(|it| it.artifact.hashes.sha256.clone())
        };
        for action in &actions {
            let mut before = snapshot.standing(&action.name);
            if let Standing::Installed(version) = &mut before {
                version.sha256 = archives
                    .digest(&action.name, version)
                    .or_else(|| listed(&resolved.before, &action.name, &version.version))
                    .or_else(|| system.cached(&action.name, version));
                if version.sha256.is_none() {
                    let (name, version) = (&action.name, &version.version);
                    change.irreversible.push(format!(
                        "`{name}` {version} could not be brought back: no archive has it any more"
                    ));
                }
            }
            let step = Step {
                after: after(action, &before, resolved, &listed)?,
                before,
                name: action.name.clone(),
            };
            change.steps.push(step);
        }
        change.steps.extend(marks(resolved, &snapshot, &actions, &archives));
        change.steps.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(change)
    }

    /// The part of the system in a plan, where it has one and may be carried out.
    pub(super) fn system_part<'p>(&self, plan: &'p Plan, force: bool) -> Result<Option<Part<'p>>> {
        let resolution = plan.resolutions.iter().find(|it| it.ecosystem.is_of_system());
        let change = match (&plan.system, resolution) {
            (Some(change), _) => change,
            (None, Some(resolution)) => return Err(no_executor(resolution)),
            (None, None) => return Ok(None),
        };
        if change.steps.is_empty() {
            return Ok(None);
        }
        System::require_root()?;
        if !change.irreversible.is_empty() && !force {
            let message =
                format!("not all of it could be undone: {}", change.irreversible.join("; "));
            return Err(Error::new(Kind::Refused, "cannot-undo", message).hint(
                "nothing was changed; `--force` goes on without a way back for these packages",
            ));
        }
        let place = self.shop.transactions.system_place()?;
        let system = System::open(Path::new(&change.root), &place)?;
        Ok(Some(Part { change, system }))
    }

    /// Waits until nobody else changes packages, and refuses a part that no longer fits.
    pub(super) fn check_part(&self, part: &Part<'_>) -> Result<()> {
        part.system.wait(&|text| self.say("wait", text, 0, 0))?;
        part.system.check_unchanged(part.change)
    }

    /// Gets everything that the part and its undoing need, and shows that it would be done as planned; the bytes fetched.
    pub(super) fn prepare_part(&self, part: &Part<'_>) -> Result<u64> {
        self.say("fetch", "packages of the system", 0, 0);
        let proxy = |name: &str| Some((name.to_owned(), self.variable(name)?));
        let proxies: Vec<(String, String)> =
            PROXIES.iter().filter_map(|name| proxy(name)).collect();
        let cancellation = self.conversation.cancellation();
        let bytes = part.system.fetch(part.change, &proxies, cancellation)?;
        part.system.rehearse(part.change)?;
        Ok(bytes)
    }

    /// Packages of the system that the standing transactions of a project installed, the latest word on each. Who needs whom,
    /// the system's own tool knows.
    pub(super) fn installed_in_system(
        &self,
        project: &crate::transaction::Project,
    ) -> Result<Option<Resolution>> {
        let changes = self.shop.transactions.system_changes(project)?;
        let Some(manager) = changes.first().map(|change| change.manager) else { return Ok(None) };
        let mut seen: BTreeMap<String, Option<resolution::Package>> = BTreeMap::new();
        for change in changes.into_iter().filter(|change| change.manager == manager) {
            for step in change.steps {
                let found = || package(manager.ecosystem(), &step);
                seen.entry(step.name.clone()).or_insert_with(found);
            }
        }
        let packages: Vec<_> = seen.into_values().flatten().collect();
        Ok((!packages.is_empty()).then(|| Resolution {
            ecosystem: manager.ecosystem(),
            links: Vec::new(),
            packages,
            warnings: Vec::new(),
        }))
    }
}

impl Task<'_> {
    /// What the distribution's tool finds wrong in the systems that the standing transactions of a project changed. Of one that
    /// cannot be asked, a warning says so: it is no reason to leave the rest unseen.
    pub(super) fn audit_systems(
        &self,
        project: &crate::transaction::Project,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<VerifiedSystem>> {
        let transactions = &self.shop.transactions;
        let changes = transactions.system_changes(project)?;
        let roots: BTreeSet<String> = changes.into_iter().map(|change| change.root).collect();
        let mut systems = Vec::new();
        for root in roots {
            self.say("verify", format!("asking for faults in `{root}`"), 0, 0);
            let system = System::open(Path::new(&root), &transactions.system_place()?);
            let faults = match system.and_then(|system| system.audit()) {
                Ok(faults) => faults,
                Err(error) => {
                    warnings.push(format!("the system at `{root}` was not asked: {error}"));
                    continue;
                }
            };
            let left_out = faults.len().saturating_sub(SYSTEM_FAULTS_MAX) as u64;
            let faults = faults.into_iter().take(SYSTEM_FAULTS_MAX).collect();
            systems.push(VerifiedSystem { root, faults, left_out });
        }
        Ok(systems)
    }
}

/// The error of a transaction that was given up. What stays of it in the system is what people have to know then; only where
/// nothing does, and `has_part`, everything is as before.
pub(super) fn failed(error: Error, notes: &[String], has_part: bool) -> Error {
    let stays = (!notes.is_empty()).then(|| notes.join("; "));
    match (stays, error.hint.clone()) {
        (Some(stays), Some(hint)) => error.hint(format!("{stays}; {hint}")),
        (Some(stays), None) => error.hint(stays),
        (None, None) if has_part => {
            error.hint("the system and the project are as they were before")
        }
        (None, _) => error,
    }
}

/// What a change adds and takes away, as package URLs.
pub(super) fn purls(change: &Change) -> (Vec<String>, Vec<String>) {
    let purl = |name: &str, standing: &Standing| {
        let version = standing.version()?;
        Some(crate::spec::purl(change.manager.ecosystem(), name, &version.version))
    };
    let real = || change.steps.iter().filter(|step| step.is_real());
    (
        real().filter_map(|step| purl(&step.name, &step.after)).collect(),
        real().filter_map(|step| purl(&step.name, &step.before)).collect(),
    )
}

/// What the tool is asked for: every package that changes, by name and version.
fn wants(resolved: &Resolved, snapshot: &Snapshot) -> Vec<String> {
    let comes = resolved.resolution.packages.iter().filter_map(|package| {
        let now = snapshot.standing(&package.name);
        let is_there = now.version().is_some_and(|it| it.version == package.version);
        (!is_there).then(|| format!("{}={}", package.name, package.version))
    });
    comes.chain(resolved.removed.iter().map(|name| format!("{name}-"))).collect()
}

/// Refuses a simulation that does more or less than was resolved.
fn check_meant(resolved: &Resolved, snapshot: &Snapshot, actions: &[Action]) -> Result<()> {
    let mut meant: BTreeSet<String> = wants(resolved, snapshot).into_iter().collect();
    let mut more = Vec::new();
    for Action { name, after, .. } in actions {
        let text = match after {
            Some(version) => format!("{name}={version}"),
            None => format!("{name}-"),
        };
        if !meant.remove(&text) {
            more.push(text);
        }
    }
    if more.is_empty() && meant.is_empty() {
        return Ok(());
    }
    let less: Vec<String> = meant.into_iter().collect();
    let message = format!(
        "apt would decide otherwise (more: {}; less: {})",
        or_none(&more.join(" ")),
        or_none(&less.join(" "))
    );
    Err(Error::new(Kind::Refused, "system-differs", message))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

/// Where an action leads. What nobody asked for is there for others, unless it was there before.
fn after(
    action: &Action,
    before: &Standing,
    resolved: &Resolved,
    listed: &dyn Fn(&Resolution, &str, &str) -> Option<String>,
) -> Result<Standing> {
    let Some(version) = &action.after else { return Ok(Standing::Residue) };
    let sha256 = listed(&resolved.resolution, &action.name, version).ok_or_else(|| {
        let message = format!("no list has a SHA-256 of `{}` {version}", action.name);
        Error::new(Kind::Verification, "no-hash", message)
    })?;
    let is_direct = is_direct(resolved, &action.name);
    let is_automatic = match before {
        Standing::Installed(before) => before.is_automatic && !is_direct,
        Standing::Absent | Standing::Residue => !is_direct,
    };
    Ok(Standing::Installed(Version {
        architecture: action.architecture.clone(),
        is_automatic,
        origin: action.origin.clone(),
        sha256: Some(sha256),
        version: version.clone(),
    }))
}

fn is_direct(resolved: &Resolved, name: &str) -> bool {
    resolved.resolution.packages.iter().any(|package| package.direct && package.name == name)
}

/// What is asked for and is there already, for others so far, is from now on there for itself.
fn marks(
    resolved: &Resolved,
    snapshot: &Snapshot,
    actions: &[Action],
    archives: &Archives,
) -> Vec<Step> {
    let named = resolved.resolution.packages.iter().filter(|package| package.direct);
    let stays = named.filter(|package| actions.iter().all(|action| action.name != package.name));
    let step = |package: &resolution::Package| {
        let mut before = snapshot.standing(&package.name);
        archives.fill(&package.name, &mut before);
        let version = before.version().filter(|version| version.is_automatic)?.clone();
        let after = Standing::Installed(Version { is_automatic: false, ..version });
        Some(Step { after, before, name: package.name.clone() })
    };
    stays.filter_map(step).collect()
}

fn package(ecosystem: Ecosystem, step: &Step) -> Option<resolution::Package> {
    let version = step.after.version()?;
    let sha256 = version.sha256.clone();
    Some(resolution::Package {
        artifact: Artifact {
            built: None,
            by_address: false,
            file_name: String::new(),
            hashes: Hashes { sha256, sha512: None },
            size: None,
            source: None,
            url: String::new(),
        }
        .into(),
        bin: BTreeMap::new(),
        dependencies: Vec::new(),
        direct: !version.is_automatic,
        ecosystem,
        extras: Vec::new(),
        license: None,
        name: step.name.clone(),
        place: String::new(),
        published: None,
        scripts: Vec::new(),
        version: version.version.clone(),
    })
}

/// Refuses a plan with packages of a system that cannot be changed: half a plan is none.
fn no_executor(resolution: &Resolution) -> Error {
    let (tool, joint) = match resolution.ecosystem {
        Ecosystem::Rpm => ("dnf install", "-"),
        Ecosystem::Pacman => ("pacman -S", "="),
        _ => ("apt-get install", "="),
    };
    let text =
        |package: &resolution::Package| format!("{}{joint}{}", package.name, package.version);
    let packages: Vec<_> = resolution.packages.iter().filter(|it| it.direct).map(text).collect();
    let mut why = resolution.warnings.iter().filter(|text| text.starts_with(CANNOT));
    let why = why.next().map_or("this plan cannot be applied", String::as_str);
    let message = format!("{why}; nothing was changed");
    Error::new(Kind::Refused, "no-executor", message).hint(match packages.is_empty() {
        true => "apply the other packages by a plan of their own".to_owned(),
        false => format!(
            "`{tool} {}` is the system's own way; the others can have a plan of their own",
            packages.join(" ")
        ),
    })
}
