//! `pkg.lock` and `pkg.unlock`, `hold` and `unhold` on the command line: packages that stay at the versions that they have.
//!
//! A hold is a transaction of its own that changes no file, so history tells of it and a rollback takes it back. Of a package
//! that is held a resolver sees only the versions that it has ([`crate::metadata::held`]), so whatever it finds leaves it as it is.
//! Where it finds nothing it is asked once more without the holds, so that the answer can name the hold that is in the way.
//! What the system's package manager holds is its own affair: it is shown, and obeyed by the resolver of its packages.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use super::{Aim, Asked, Decided, Decision, Task, debian, plan};
use crate::api::{HeldPackage, HoldAnswer, HoldRequest};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::held::{Grip, Held};
use crate::plan::Plan;
use crate::resolution::Resolution;
use crate::resolve::{self, ResolveError};
use crate::spec::Spec;
use crate::transaction::{Hold, Project, Purpose};

/// The code of errors that name a hold.
const HELD: &str = "held";

impl Task<'_> {
    /// Holds packages at the versions that they have, or lets go of them, and says what is held then.
    pub(crate) fn hold(
        &self,
        directory: OwnedFd,
        request: &HoldRequest,
        is_held: bool,
    ) -> Result<HoldAnswer> {
        let named = plan::specs(&request.packages)?;
        check_names(&named, is_held)?;
        let project = Project::from_fd(directory)?;
        let mut session = self.lock(project.again()?)?;
        let before = self.shop.transactions.holds(&project)?;
        let changes = match is_held {
            true => to_hold(&named, &self.current(&project)?, &before)?,
            false => to_let_go(&named, &before)?,
        };
        let mut answer = HoldAnswer {
            schema: "bolide.hold/1".to_owned(),
            project: project.path().to_string_lossy().into_owned(),
            transaction: None,
            holds: Vec::new(),
            warnings: Vec::new(),
        };
        if !changes.is_empty() {
            let names: Vec<String> = changes.iter().map(described).collect();
            let (operation, what) = if is_held { ("hold", "held") } else { ("unhold", "let_go") };
            let purpose = Purpose {
                operation: operation.to_owned(),
                digest: None,
                actor: self.actor.clone(),
                summary: serde_json::json!({ what: names }),
            };
            let committed = session.hold(purpose, changes)?;
            answer.transaction = Some(committed.transaction);
            let tidying = |left| format!("tidying up is left to the next command: {left}");
            answer.warnings.extend(committed.unfinished.map(tidying));
        }
        answer.warnings.extend(session.take_notes());
        // A machine's own holds are many, and asked for by whoever names nothing.
        answer.holds = shown(&self.holds(&project, named.is_empty())?);
        let mut payload = Vec::new();
        if answer.transaction.is_some() && ciborium::into_writer(&answer, &mut payload).is_ok() {
            self.conversation.publish("event.pkg.held", &payload);
        }
        Ok(answer)
    }

    /// What is held in a project, and where that counts by the system's package manager.
    pub(super) fn holds(
        &self,
        project: &Project,
        with_system: bool,
    ) -> Result<BTreeMap<Ecosystem, Held>> {
        let mut holds = self.shop.transactions.holds(project)?;
        if with_system {
            let held = debian::holds(self)?;
            if !held.is_empty() {
                holds.insert(Ecosystem::Debian, held);
            }
        }
        Ok(holds)
    }

    /// Refuses a plan that was made before something in it was held.
    pub(super) fn check_holds(&self, plan: &Plan, project: &Project) -> Result<()> {
        let holds = self.shop.transactions.holds(project)?;
        if holds.is_empty() {
            return Ok(());
        }
        let installed = self.installed(project)?;
        for (ecosystem, held) in &holds {
            let resolution = plan.resolutions.iter().find(|it| it.ecosystem == *ecosystem);
            let before = installed.get(ecosystem);
            let broken = resolution.map(|it| lost(held, before, it)).unwrap_or_default();
            let is_named = |spec: &&Spec| {
                let is_about = matches!(plan.operation.as_str(), "remove" | "update" | "change");
                is_about && spec.ecosystem == *ecosystem && held.contains(&spec.name)
            };
            let named = plan.requested.iter().find(is_named).map(|spec| spec.name.as_str());
            if let Some(name) = broken.first().copied().or(named) {
                let versions = held.versions(name);
                let message = format!(
                    "the plan no longer holds: `{ecosystem}:{name}` was held at {versions} since"
                );
                return Err(Error::new(Kind::Stale, "plan-stale", message)
                    .hint("make a new plan from what is there now")
                    .retryable());
            }
        }
        Ok(())
    }
}

/// What `decide` decides, with everything that is held left as it is; a conflict that names the holds where that cannot be.
pub(super) fn with_holds(
    ecosystem: Ecosystem,
    asked: &Asked<'_>,
    decide: &dyn Fn(&Asked<'_>) -> Decision,
) -> Decision {
    let held = asked.held;
    // What the system holds its own resolver obeys.
    if held.is_empty() || ecosystem.is_of_system() {
        return decide(asked);
    }
    if let Some(name) = named(asked) {
        let explanation = format!("{} and was named to be changed", is_held(ecosystem, name, held));
        return Err(conflict(ecosystem, explanation, &[name]));
    }
    let first = match decide(asked) {
        Ok(decided) => {
            let moved = held.moved_by(had(asked), &decided.resolution);
            return match moved.is_empty() {
                true => Ok(told(ecosystem, asked, decided)),
                false => Err(in_the_way(ecosystem, asked, &moved, &decided.resolution)),
            };
        }
        Err(error) if is_final(&error) => return Err(error),
        Err(error) => error,
    };
    if matches!(ecosystem, Ecosystem::Npm | Ecosystem::Cargo) {
        let beside = Held { grip: Grip::Beside, ..held.clone() };
        if let Ok(decided) = decide(&Asked { held: &beside, ..*asked })
            && lost(held, had(asked), &decided.resolution).is_empty()
        {
            return Ok(told(ecosystem, asked, decided));
        }
    }
    // What may stay stays, so what does not is in the way.
    let loose = Held { grip: Grip::Loose, ..held.clone() };
    let free = decide(&Asked { held: &loose, ..*asked })?;
    let broken = lost(held, had(asked), &free.resolution);
    if broken.is_empty() {
        return Err(first);
    }
    Err(in_the_way(ecosystem, asked, &broken, &free.resolution))
}

/// What the project has, of which the holds were made.
fn had<'a>(asked: &Asked<'a>) -> Option<&'a Resolution> {
    asked.installed.or(asked.locked.map(|part| &part.resolution))
}

/// The packages that do not stay as they are held, anywhere or as what the project itself asks for.
fn lost<'h>(held: &'h Held, before: Option<&Resolution>, after: &Resolution) -> Vec<&'h str> {
    let mut lost = held.broken_by(after);
    lost.extend(held.moved_by(before, after));
    lost.sort_unstable();
    lost.dedup();
    lost
}

/// The conflict that names the holds that are in the way of what was found.
fn in_the_way(
    ecosystem: Ecosystem,
    asked: &Asked<'_>,
    names: &[&str],
    found: &Resolution,
) -> ResolveError {
    let versions = |resolution: &Resolution, name: &str, is_direct: bool| {
        let packages = resolution.packages.iter();
        let packages = packages.filter(|it| it.name == name && (it.direct || !is_direct));
        let versions: BTreeSet<&str> = packages.map(|it| it.version.as_str()).collect();
        versions.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let lines = names.iter().map(|name| {
        let (held, before) = (is_held(ecosystem, name, asked.held), had(asked));
        let is_one = asked.held.packages.get(*name).is_some_and(|versions| versions.len() == 1);
        let is_moved =
            |before: &&Resolution| asked.held.moved_by(Some(before), found).contains(name);
        match before.filter(is_moved) {
            Some(before) if !is_one => format!(
                "{held}, the project itself at {}, and what is asked for gives it {}",
                versions(before, name, true),
                versions(found, name, true)
            ),
            _ => {
                format!("{held}, and what is asked for needs {}", versions(found, name, false))
            }
        }
    });
    let explanation = lines.collect::<Vec<_>>().join("\n");
    conflict(ecosystem, explanation, names)
}

/// A package that is held, and that is to be updated or removed by its name.
fn named<'a>(asked: &Asked<'a>) -> Option<&'a str> {
    let updated = match asked.aim {
        Aim::Update(named) => named,
        Aim::Change | Aim::Install => &[],
    };
    let mut named = asked.remove.iter().chain(updated).map(|spec| spec.name.as_str());
    named.find(|name| asked.held.contains(name))
}

/// Whether an error has nothing to do with versions.
fn is_final(error: &ResolveError) -> bool {
    match error {
        ResolveError::Conflict(_) => false,
        ResolveError::Other(error) => {
            error.kind == Kind::Network || matches!(&*error.code, HELD | "deadline" | "cancelled")
        }
    }
}

/// The decision, with what people should know of the holds.
fn told(ecosystem: Ecosystem, asked: &Asked<'_>, mut decided: Decided) -> Decided {
    let has = |resolution: Option<&Resolution>, name: &str| {
        resolution.is_some_and(|it| it.packages.iter().any(|package| package.name == name))
    };
    for name in asked.held.packages.keys() {
        if has(asked.installed, name) && !has(Some(&decided.resolution), name) {
            decided.warnings.push(format!(
                "`{ecosystem}:{name}` is held and goes, because nothing needs it any more"
            ));
        }
    }
    let locked = asked.locked.filter(|_| asked.aim == Aim::Install);
    for name in locked.map(|part| asked.held.broken_by(&part.resolution)).unwrap_or_default() {
        let held = is_held(ecosystem, name, asked.held);
        decided.warnings.push(format!("{held}, so `{}` is not followed", crate::lock::FILE));
    }
    decided
}

/// The refusal to follow a lock that says something else of a package than what it is held at.
pub(super) fn against_lock(ecosystem: Ecosystem, name: &str, held: &Held) -> Error {
    let file = crate::lock::FILE;
    let held = is_held(ecosystem, name, held);
    Error::new(
        Kind::Conflict,
        HELD,
        format!("`--frozen`: {held}, and `{file}` has another version"),
    )
    .hint(format!("`bolide unhold {ecosystem}:{name}` lets it follow the lock"))
}

fn is_held(ecosystem: Ecosystem, name: &str, held: &Held) -> String {
    format!("`{ecosystem}:{name}` is held at {}", held.versions(name))
}

fn conflict(ecosystem: Ecosystem, explanation: String, names: &[&str]) -> ResolveError {
    let names: Vec<String> = names.iter().map(|name| format!("{ecosystem}:{name}")).collect();
    let description = format!("`bolide unhold {}`, then the same command again", names.join(" "));
    let repairs = vec![resolve::Repair { description, changes: Vec::new() }];
    ResolveError::Conflict(resolve::Conflict { explanation, repairs })
}

/// Refuses what is more than the name of a package, and what is not ours to hold.
fn check_names(named: &[Spec], is_held: bool) -> Result<()> {
    for spec in named {
        if spec.ecosystem.is_of_system() {
            let (verb, name) = (if is_held { "hold" } else { "unhold" }, &spec.name);
            let way = match spec.ecosystem {
                Ecosystem::Rpm => "use dnf's `versionlock`".to_owned(),
                Ecosystem::Pacman => "use `IgnorePkg` in `pacman.conf`".to_owned(),
                _ => format!("run `apt-mark {verb} {name}`"),
            };
            let message = format!(
                "`{}:{name}` is held by the distribution's own tool, or not",
                spec.ecosystem
            );
            return Err(Error::new(Kind::Usage, "held-by-system", message)
                .hint(format!("{way}; it is obeyed here, too")));
        }
        if !spec.requirement.is_empty() || !spec.extras.is_empty() {
            let message = format!("`{spec}` names more than a package");
            return Err(Error::new(Kind::Usage, "bad-hold", message).hint(format!(
                "a hold keeps the version that is there; `bolide add '{spec}'` chooses another"
            )));
        }
    }
    Ok(())
}

/// The holds that are new: of each package at all versions that it has.
fn to_hold(
    named: &[Spec],
    current: &BTreeMap<Ecosystem, Resolution>,
    before: &BTreeMap<Ecosystem, Held>,
) -> Result<Vec<Hold>> {
    let mut holds = Vec::new();
    for Spec { ecosystem, name, .. } in named {
        let packages = current.get(ecosystem).map(|it| &it.packages).into_iter().flatten();
        let versions: BTreeSet<String> =
            packages.filter(|it| it.name == *name).map(|it| it.version.clone()).collect();
        if versions.is_empty() {
            let message = format!("`{ecosystem}:{name}` is not used here");
            return Err(Error::new(Kind::Usage, "not-a-dependency", message)
                .hint("`bolide list` shows what is"));
        }
        let known = before.get(ecosystem).and_then(|held| held.packages.get(name));
        if known != Some(&versions) {
            holds.push(Hold { ecosystem: *ecosystem, name: name.clone(), versions });
        }
    }
    Ok(holds)
}

fn to_let_go(named: &[Spec], before: &BTreeMap<Ecosystem, Held>) -> Result<Vec<Hold>> {
    let let_go = named.iter().map(|Spec { ecosystem, name, .. }| {
        match before.get(ecosystem).is_some_and(|held| held.contains(name)) {
            true => {
                let (ecosystem, name) = (*ecosystem, name.clone());
                Ok(Hold { ecosystem, name, versions: BTreeSet::new() })
            }
            false => {
                let message = format!("`{ecosystem}:{name}` is not held here");
                Err(Error::new(Kind::Usage, "not-held", message)
                    .hint("`bolide hold` shows what is"))
            }
        }
    });
    let_go.collect()
}

/// As history shows it.
fn described(hold: &Hold) -> String {
    let Hold { ecosystem, name, versions } = hold;
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    match versions.is_empty() {
        true => format!("{ecosystem}:{name}"),
        false => format!("{ecosystem}:{name} at {}", versions.join(" and ")),
    }
}

fn shown(holds: &BTreeMap<Ecosystem, Held>) -> Vec<HeldPackage> {
    let packages = holds.iter().flat_map(|(ecosystem, held)| {
        held.packages.iter().map(move |(name, versions)| HeldPackage {
            package: format!("{ecosystem}:{name}"),
            ecosystem: *ecosystem,
            name: name.clone(),
            versions: versions.iter().cloned().collect(),
            by: if *ecosystem == Ecosystem::Debian { "apt" } else { "bolide" }.to_owned(),
        })
    });
    packages.collect()
}
