//! `pkg.verify`: every environment of a project compared with what its generation says, and the store with its digests.
//!
//! The record that a transaction made of what it installed is what counts ([`crate::transaction`]); how a repair gets the bytes
//! is [`super::repair`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use agents_contract::{Crew, Work};

use super::repair::{Known, Repaired, Wrong};
use super::{Task, cargo, pypi};
use crate::api::{
    PathDifference, VerifiedCrates, VerifiedEnvironment, VerifyAnswer, VerifyRequest,
};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{PATH_DIFFERENCE_BYTES, VERIFY_ANSWER_BYTES_MAX, VERIFY_PATHS_MAX};
use crate::resolution::{Package, Resolution};
use crate::store::Form;
use crate::transaction::{Difference, Finding, Inspection, Project, Session, Standing};

/// One environment as it was found, wholly.
pub(super) struct Inspected {
    pub(super) standing: Standing,
    pub(super) found: Inspection,
    /// The positions of the findings that were asked for.
    pub(super) asked: BTreeSet<usize>,
    /// The path that it was made for, where that is another one.
    pub(super) made_for: Option<String>,
}

impl Task<'_> {
    /// Compares, and repairs where that is asked for.
    pub(crate) fn verify(
        &self,
        directory: OwnedFd,
        request: &VerifyRequest,
    ) -> Result<VerifyAnswer> {
        if request.force && !request.repair {
            let message = "`force` is for repairs, and none is asked for";
            return Err(Error::new(Kind::Usage, "contradiction", message));
        }
        let project = Project::from_fd(directory)?;
        let mut session = self.lock(project.again()?)?;
        let installed = self.installed(session.project())?;
        let environments = self.inspect_all(&session, &installed, request)?;
        let mut warnings = Vec::new();
        let (damaged, crates, systems) = match request.paths.is_empty() {
            true => (
                self.damaged(&installed)?,
                self.examine_crates(&installed)?,
                self.audit_systems(session.project(), &mut warnings)?,
            ),
            false => (Vec::new(), None, Vec::new()),
        };
        let repaired = match request.repair {
            true => {
                let wrong = crates.as_ref().filter(|crates| !crates.differences.is_empty());
                let known = Known { project: &project, installed: &installed };
                let wrong = Wrong { environments: &environments, damaged: &damaged, crates: wrong };
                self.repair(&mut session, known, wrong, request.force)?
            }
            false => Repaired::default(),
        };
        let damaged: BTreeSet<String> = damaged.iter().map(|package| package.purl()).collect();
        let mut answer = VerifyAnswer {
            schema: "bolide.verify/1".to_owned(),
            project: project.path().to_string_lossy().into_owned(),
            clean: false,
            environments: Vec::new(),
            crates: repaired.crates.or(crates),
            systems,
            damaged: damaged.into_iter().collect(),
            fetched: repaired.fetched,
            transaction: repaired.transaction,
            kept: repaired.kept,
            warnings: [session.take_notes(), warnings, repaired.warnings].concat(),
        };
        for inspected in environments {
            let place = inspected.standing.place.as_str().to_owned();
            let mended = repaired.left.get(&inspected.standing.place);
            let is_remade = repaired.remade.contains(&inspected.standing.place);
            if let (Some(path), false) = (&inspected.made_for, is_remade) {
                answer.warnings.push(leads_elsewhere(&place, path));
            }
            answer.environments.push(described(place, inspected, mended, is_remade));
        }
        let is_right = |environment: &VerifiedEnvironment| {
            environment.left_out == 0 && environment.differences.iter().all(|it| it.repaired)
        };
        let crates = answer.crates.iter().flat_map(|crates| &crates.differences);
        answer.clean = answer.environments.iter().all(is_right)
            && crates.into_iter().all(|it| it.repaired)
            && answer.systems.iter().all(|system| system.faults.is_empty())
            && answer.damaged.len() as u64 <= answer.fetched;
        shorten(&mut answer);
        self.publish_repair(&answer);
        Ok(answer)
    }

    /// Tells the bus that something was brought back. What it was, history and a look tell: it may be long.
    fn publish_repair(&self, answer: &VerifyAnswer) {
        let VerifyAnswer { project, transaction: Some(transaction), kept, .. } = answer else {
            return;
        };
        let event = serde_json::json!({
            "schema": "bolide.repaired/1",
            "project": project,
            "transaction": transaction,
            "kept": kept,
        });
        let mut payload = Vec::new();
        if ciborium::into_writer(&event, &mut payload).is_ok() {
            self.conversation.publish("event.pkg.repaired", &payload);
        }
    }

    /// Every environment that is asked for. What is not asked for in it is looked at where there is a repair, because the
    /// record of the next generation has to be right for all of it.
    fn inspect_all(
        &self,
        session: &Session,
        installed: &BTreeMap<Ecosystem, Resolution>,
        request: &VerifyRequest,
    ) -> Result<Vec<Inspected>> {
        let mut standing = session.environments()?;
        // The directory of a member that was moved or deleted is right where nothing is wanted in it any more.
        standing.retain(|it| {
            let is_there =
                session.project().path().join(it.place.as_str()).symlink_metadata().is_ok();
            let place = it.place.as_str();
            let is_unwanted = |all: &Resolution| crate::install::npm::is_empty(all, place);
            let npm = installed.get(&Ecosystem::Npm).filter(|_| it.ecosystem == Ecosystem::Npm);
            is_there || !npm.is_some_and(is_unwanted)
        });
        let within = assign(&request.paths, &standing)?;
        let mut all = Vec::new();
        for standing in standing {
            let Some(within) = within.get(standing.place.as_str()) else { continue };
            self.say("verify", format!("looking through `{}`", standing.place), 0, 0);
            let look = |within: &[Vec<u8>]| {
                let hands = self.hands(Work::Scan);
                let keep_on = || self.check_wanted();
                session.inspect(&standing.place, within, Some(&hands), &keep_on)
            };
            let found = look(within)?;
            let (found, asked) = match request.repair && !within.is_empty() {
                false => {
                    let all = (0..found.findings.len()).collect();
                    (found, all)
                }
                true => {
                    let whole = look(&[])?;
                    let is_asked = |it: &Finding| found.findings.contains(it);
                    let positions = 0..whole.findings.len();
                    let asked = positions.filter(|at| is_asked(&whole.findings[*at])).collect();
                    (whole, asked)
                }
            };
            let made_for = match standing.ecosystem {
                Ecosystem::Pypi => pypi::made_for_another_path(session.project(), &standing.place),
                _ => None,
            };
            all.push(Inspected { standing, found, asked, made_for });
        }
        Ok(all)
    }

    /// The crates in cargo's own cache, which belongs to no project; `None` where there are none.
    pub(super) fn examine_crates(
        &self,
        installed: &BTreeMap<Ecosystem, Resolution>,
    ) -> Result<Option<VerifiedCrates>> {
        let crates = installed.get(&Ecosystem::Cargo).filter(|it| !it.packages.is_empty());
        let Some(crates) = crates else { return Ok(None) };
        self.say("verify", "looking through cargo's cache", 0, crates.packages.len() as u64);
        let Some((place, examined)) = cargo::examine(self, crates)? else { return Ok(None) };
        let described = |(path, difference): (PathBuf, Difference)| PathDifference {
            path: path.to_string_lossy().into_owned(),
            difference,
            entries: 1,
            repaired: false,
        };
        Ok(Some(VerifiedCrates {
            place: place.to_string_lossy().into_owned(),
            looked_at: examined.looked_at,
            differences: examined.findings.into_iter().map(described).collect(),
        }))
    }

    /// The packages of what is installed whose files in the store are damaged. They are out of use from now on.
    fn damaged<'r>(
        &self,
        installed: &'r BTreeMap<Ecosystem, Resolution>,
    ) -> Result<Vec<&'r Package>> {
        let store = &self.shop.store;
        let packages: Vec<&Package> =
            installed.values().flat_map(|resolution| &resolution.packages).collect();
        let damaged = Mutex::new(BTreeMap::new());
        self.say("verify", "looking through the store", 0, packages.len() as u64);
        self.hands(Work::Scan).run(packages.len(), &|index| {
            let package = packages[index];
            let Some(form) = Form::of(package.ecosystem) else { return };
            if self.check_wanted().is_err() || store.package(package).is_none() {
                return;
            }
            if store.check(&package.artifact.hashes, form, true).is_none() {
                damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(index, package);
            }
        });
        self.check_wanted()?;
        let damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(damaged.into_values().collect())
    }
}

/// The paths that are asked for by the environment that they are in, relative to it.
fn assign(paths: &[String], standing: &[Standing]) -> Result<BTreeMap<String, Vec<Vec<u8>>>> {
    if paths.len() > VERIFY_PATHS_MAX {
        let message = format!("{} paths are named; the limit is {VERIFY_PATHS_MAX}", paths.len());
        return Err(Error::new(Kind::Usage, "too-many-paths", message));
    }
    if paths.is_empty() {
        return Ok(standing.iter().map(|it| (it.place.as_str().to_owned(), Vec::new())).collect());
    }
    let mut within: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let mut whole: BTreeSet<&str> = BTreeSet::new();
    for path in paths {
        let plain = path.trim_start_matches("./").trim_end_matches('/');
        let inside = standing.iter().filter_map(|it| {
            let rest = plain.strip_prefix(it.place.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (it.place.as_str(), rest))
        });
        // Of environments in each other the inner one.
        let Some((place, rest)) = inside.max_by_key(|(place, _)| place.len()) else {
            let shown = path.escape_debug();
            let message = format!("`{shown}` is in no environment that Bolide made here");
            return Err(Error::new(Kind::Usage, "unknown-path", message)
                .hint("`bolide verify` without a path shows which there are"));
        };
        let rest = rest.trim_start_matches('/');
        if rest.split('/').any(|part| matches!(part, "." | "..")) {
            let message = format!("`{}` is no plain path", path.escape_debug());
            return Err(Error::new(Kind::Usage, "bad-path", message));
        }
        match rest {
            "" => {
                whole.insert(place);
                within.entry(place.to_owned()).or_default();
            }
            rest => within.entry(place.to_owned()).or_default().push(rest.as_bytes().to_vec()),
        }
    }
    for place in whole {
        within.insert(place.to_owned(), Vec::new());
    }
    Ok(within)
}

/// Names no more differences than an answer has room for. The others are counted.
fn shorten(answer: &mut VerifyAnswer) {
    let mut left = VERIFY_ANSWER_BYTES_MAX;
    for environment in &mut answer.environments {
        let fits = environment.differences.iter().take_while(|it| {
            let rest = left.checked_sub(it.path.len() + PATH_DIFFERENCE_BYTES);
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        let fitting = fits.count();
        environment.left_out += (environment.differences.len() - fitting) as u64;
        environment.differences.truncate(fitting);
    }
}

fn leads_elsewhere(place: &str, path: &str) -> String {
    let path = path.escape_debug();
    format!(
        "`{place}` was made for `{path}`, where its commands lead; `bolide install` or `bolide verify --repair` \
         makes it anew for its present path"
    )
}

fn described(
    place: String,
    inspected: Inspected,
    left: Option<&BTreeSet<usize>>,
    is_remade: bool,
) -> VerifiedEnvironment {
    let Inspected { standing, found, asked, made_for } = inspected;
    let elsewhere = made_for.map(|_| PathDifference {
        path: place.clone(),
        difference: Difference::Elsewhere,
        entries: 1,
        repaired: is_remade,
    });
    let differences = found.findings.into_iter().enumerate();
    let differences = differences.filter(|(index, _)| asked.contains(index)).map(|(index, it)| {
        let path = Path::new(&place).join(&it.path);
        PathDifference {
            path: path.to_string_lossy().trim_end_matches('/').to_owned(),
            difference: it.difference,
            entries: it.entries,
            repaired: left.is_some_and(|left| !left.contains(&index)),
        }
    });
    VerifiedEnvironment {
        differences: elsewhere.into_iter().chain(differences).collect(),
        ecosystem: standing.ecosystem,
        generation: standing.state.generation,
        transaction: standing.state.transaction,
        looked_at: found.looked_at,
        left_out: found.left_out,
        place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_what_it_has_room_for_and_counts_the_rest() {
        let difference = |length: usize| PathDifference {
            path: "x".repeat(length),
            difference: Difference::Mode,
            entries: 1,
            repaired: false,
        };
        let environment = |differences| VerifiedEnvironment {
            place: "node_modules".to_owned(),
            ecosystem: Ecosystem::Npm,
            generation: 1,
            transaction: None,
            looked_at: 1,
            differences,
            left_out: 2,
        };
        let large = VERIFY_ANSWER_BYTES_MAX / 2;
        let mut answer = VerifyAnswer {
            environments: vec![
                environment(vec![
                    difference(8),
                    difference(large),
                    difference(large),
                    difference(8),
                ]),
                environment(vec![difference(8)]),
            ],
            ..VerifyAnswer::default()
        };
        shorten(&mut answer);
        let counts = answer.environments.iter().map(|it| (it.differences.len(), it.left_out));
        assert_eq!(counts.collect::<Vec<_>>(), [(2, 4), (0, 3)]);
        let mut payload = Vec::new();
        ciborium::into_writer(&difference(0), &mut payload).expect("written");
        assert!(payload.len() <= PATH_DIFFERENCE_BYTES, "{}", payload.len());
    }
}
