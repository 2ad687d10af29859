//! `pkg.verify` with `repair`: what differs from its record, brought back as a transaction like any other.
//!
//! The environment is built anew beside itself by those who install ([`crate::install`]), from the store and, where that lacks
//! something, from the registry by its digests; what the record says is taken from there into a copy of what stands, and the
//! copy takes its place. So nobody but the installer says what a file is made of, and nobody but the record what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agents_contract::Work;

use super::beside::Beside;
use super::fetch::once_each;
use super::verify::Inspected;
use super::{Task, cargo, npm, pypi};
use crate::api::VerifiedCrates;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Result};
use crate::install::Options;
use crate::limits::STORE_REPAIRS_MAX;
use crate::measures::Transacted;
use crate::resolution::{Package, Resolution};
use crate::store::{DAMAGED, Durability, clone_tree_without};
use crate::transaction::{
    Change, CommitOptions, Difference, Expected, Mended, Open, Project, Purpose, RelativePath,
    Session,
};

/// What a repair did.
#[derive(Default)]
pub(super) struct Repaired {
    pub(super) transaction: Option<String>,
    pub(super) kept: Option<String>,
    pub(super) warnings: Vec<String>,
    /// Artefacts that were damaged and are whole again.
    pub(super) fetched: u64,
    /// By place: the positions of the findings that are as they were.
    pub(super) left: BTreeMap<RelativePath, BTreeSet<usize>>,
    /// The environments that were made anew for their present path.
    pub(super) remade: BTreeSet<RelativePath>,
    /// The crates in cargo's cache, where any of them were wrong.
    pub(super) crates: Option<VerifiedCrates>,
}

/// The project, and what is installed in it.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) project: &'k Project,
    pub(super) installed: &'k BTreeMap<Ecosystem, Resolution>,
}

/// What was found to be wrong.
#[derive(Clone, Copy)]
pub(super) struct Wrong<'w> {
    pub(super) environments: &'w [Inspected],
    /// Artefacts whose files in the store are damaged.
    pub(super) damaged: &'w [&'w Package],
    /// Crates in cargo's cache.
    pub(super) crates: Option<&'w VerifiedCrates>,
}

/// One environment that is mended.
struct Patient<'i> {
    inspected: &'i Inspected,
    resolution: &'i Resolution,
    /// The positions of the findings that are mended.
    taken: BTreeSet<usize>,
}

impl Task<'_> {
    /// Brings back what may be brought back.
    pub(super) fn repair(
        &self,
        session: &mut Session,
        known: Known<'_>,
        wrong: Wrong<'_>,
        force: bool,
    ) -> Result<Repaired> {
        let Known { project, installed } = known;
        let Wrong { environments, damaged, crates } = wrong;
        let crates = crates.and_then(|_| installed.get(&Ecosystem::Cargo));
        let mut repaired = Repaired::default();
        let mut patients = Vec::new();
        for inspected in environments {
            let place = &inspected.standing.place;
            let is_remade = inspected.made_for.is_some();
            let taken = if is_remade { all(inspected) } else { curable(inspected, force) };
            if is_remade && !force && loses(inspected) {
                repaired.warnings.push(format!(
                    "`{place}` was edited since, so only `bolide verify --repair --force` makes it anew for \
                     its present path; what was edited or added is kept aside then"
                ));
            } else if !is_remade && inspected.found.left_out > 0 {
                repaired.warnings.push(format!(
                    "`{place}` has too many differences to be repaired; move it away and run \
                     `bolide install`"
                ));
            } else if let Some(resolution) = installed.get(&inspected.standing.ecosystem) {
                let packages: Vec<&Package> = resolution.packages.iter().collect();
                let others = match is_remade && !force {
                    true => pypi::others_in(project, place, &packages)?,
                    false => None,
                };
                if let Some(others) = others {
                    repaired.warnings.push(format!(
                        "{others}: put them into the manifest and run `bolide install`, or make it anew without \
                         them by `bolide verify --repair --force`"
                    ));
                } else if is_remade || !taken.is_empty() {
                    patients.push(Patient { inspected, resolution, taken });
                }
            } else if is_remade || !taken.is_empty() {
                repaired.warnings.push(format!(
                    "`{place}` cannot be repaired: the plan that it was made by is gone"
                ));
            }
        }
        let built = patients.iter().flat_map(|patient| &patient.resolution.packages);
        let built = built.chain(crates.into_iter().flat_map(|crates| &crates.packages));
        let needed = once_each(built.chain(damaged.iter().copied()));
        let _lease = self.lease(&needed)?;
        let beside = Beside::within(project, self.shop);
        let mut repairs = 0;
        let bytes = loop {
            let treated = self
                .fetch_for(&needed, &beside)
                .and_then(|(_, bytes)| self.restore_crates(crates, &mut repaired).map(|()| bytes))
                .and_then(|bytes| {
                    let treated = self.treat(session, project, &patients, &mut repaired);
                    if treated.as_ref().is_err_and(Error::is_sync_failed) {
                        beside.forget();
                    }
                    treated.map(|()| bytes)
                });
            match treated {
                // Nothing was changed yet.
                Err(error) if error.code == DAMAGED && repairs < STORE_REPAIRS_MAX => {
                    repairs += 1;
                    self.shop.measures.found_damage();
                    self.examine(&needed)?;
                }
                done => break done?,
            }
        };
        repaired.fetched = damaged.len() as u64;
        if let (Some(before), true) = (wrong.crates, crates.is_some()) {
            repaired.crates = self.examine_crates(installed)?.map(|now| compared(before, &now));
        }
        self.keep_small(bytes);
        Ok(repaired)
    }

    /// Puts crates where cargo looks for them. That is no part of the transaction: the cache is cargo's, of all projects.
    fn restore_crates(&self, crates: Option<&Resolution>, repaired: &mut Repaired) -> Result<()> {
        let Some(crates) = crates else { return Ok(()) };
        let hands = self.hands(Work::Unpack);
        let cancellation = self.conversation.cancellation();
        // What a disk did by itself changed no time.
        let options = Options { crew: &hands, cancellation, verify: true, ..Options::default() };
        repaired.warnings.extend(cargo::populate(self, crates, options)?);
        Ok(())
    }

    /// Builds beside, mends and commits.
    fn treat(
        &self,
        session: &mut Session,
        project: &Project,
        patients: &[Patient<'_>],
        repaired: &mut Repaired,
    ) -> Result<()> {
        self.check_wanted()?;
        if patients.is_empty() {
            return Ok(());
        }
        let places: Vec<&str> =
            patients.iter().map(|it| it.inspected.standing.place.as_str()).collect();
        let is_remade = patients.iter().any(Patient::is_remade);
        let count: usize = patients.iter().map(Patient::count).sum();
        let open = session.begin(Purpose {
            operation: "repair".to_owned(),
            digest: None,
            actor: self.actor.clone(),
            summary: serde_json::json!({ "mended": count, "places": places }),
        })?;
        let staged = self.stage_mended(&open, project, patients);
        let (changes, mended) = match staged {
            Ok(staged) => staged,
            Err(error) => {
                open.abort(&error.message)?;
                return Err(error);
            }
        };
        let has_gained =
            |mended: &Mended, patient: &Patient<'_>| mended.restored > 0 || patient.takes_away();
        repaired.left.clear();
        for patient in patients {
            let place = &patient.inspected.standing.place;
            let Some(mended) = mended.get(place) else { continue };
            repaired.left.insert(place.clone(), patient.left(mended));
        }
        let of = |patient: &Patient<'_>| mended.get(&patient.inspected.standing.place);
        let is_better = |patient: &Patient<'_>| {
            patient.is_remade() || of(patient).is_some_and(|it| has_gained(it, patient))
        };
        if !patients.iter().any(is_better) {
            open.abort("nothing could be brought back")?;
            repaired.warnings.push(
                "nothing could be brought back: the packages make other files now; move the \
                 environment away and run `bolide install`"
                    .to_owned(),
            );
            return Ok(());
        }
        self.say("commit", "making it visible", 0, 0);
        let hands = self.hands(Work::Scan);
        let options = CommitOptions {
            // What is made anew has lost nothing, or that was asked for; what is edited in this moment is kept aside.
            force: is_remade,
            system: None,
            crew: Some(&hands),
            mended: Some(&mended),
            ..CommitOptions::default()
        };
        let committed = open.commit(&changes, options);
        let how = if committed.is_ok() { Transacted::Committed } else { Transacted::Failed };
        self.shop.measures.transacted(how);
        let committed = committed?;
        for patient in patients {
            npm::settled(project, Some(patient.resolution));
            if patient.is_remade() {
                let place = &patient.inspected.standing.place;
                repaired.remade.insert(place.clone());
                repaired.left.insert(place.clone(), BTreeSet::new());
            }
        }
        if let Some(unfinished) = committed.unfinished {
            let warning = format!("tidying up is left to the next command: {unfinished}");
            repaired.warnings.push(warning);
        }
        repaired.kept = committed.kept.map(|path| path.to_string_lossy().into_owned());
        repaired.transaction = Some(committed.transaction);
        Ok(())
    }

    fn stage_mended(
        &self,
        open: &Open<'_>,
        project: &Project,
        patients: &[Patient<'_>],
    ) -> Result<(Vec<Change>, BTreeMap<RelativePath, Mended>)> {
        let hands = self.hands(Work::Unpack);
        let options = Options {
            crew: &hands,
            verify: true,
            durability: Durability::Later,
            cancellation: self.conversation.cancellation(),
            // What is mended is put together from several places, so it is read as it is.
            written: None,
            ..Options::default()
        };
        let (mut changes, mut all) = (Vec::new(), BTreeMap::new());
        for (index, patient) in patients.iter().enumerate() {
            let Patient { inspected, resolution, taken } = patient;
            let place = &inspected.standing.place;
            self.say("stage", format!("mending `{place}`"), 0, 0);
            let (staged, reference) = (format!("mended-{index}"), format!("reference-{index}"));
            if patient.is_remade() {
                let staging = open.staging().join(&staged);
                pypi::build(self, project, place, resolution, &staging, options)?;
                changes.push(patient.change(staged));
                continue;
            }
            let beside = open.staging().join(&reference);
            match inspected.standing.ecosystem {
                Ecosystem::Npm => drop(npm::stage(self, resolution, place, &beside, options)?),
                Ecosystem::Pypi => pypi::build(self, project, place, resolution, &beside, options)?,
                Ecosystem::Cargo | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {
                    continue;
                }
            }
            let live = project.path().join(place.as_str());
            if !patient.is_made_anew() {
                let skip = patient.skipped();
                let skip = |path: &[u8]| skip.contains(path);
                let copy = open.staging().join(&staged);
                clone_tree_without(&live, &copy, &skip, options.crew, options.cancellation)?;
            }
            let mended = open.mend(place, inspected.found.clone(), taken, (&staged, &reference))?;
            remove(&beside)?;
            all.insert(place.clone(), mended);
            changes.push(patient.change(staged));
        }
        self.check_wanted()?;
        Ok((changes, all))
    }
}

impl Patient<'_> {
    fn findings(&self) -> impl Iterator<Item = &crate::transaction::Finding> {
        let findings = &self.inspected.found.findings;
        self.taken.iter().filter_map(|index| findings.get(*index))
    }

    /// What is not copied from what stands: it is replaced, or goes.
    fn skipped(&self) -> BTreeSet<Vec<u8>> {
        let replaced = self.findings().filter(|it| it.difference != Difference::Mode);
        replaced.map(|it| it.path.as_os_str().as_encoded_bytes().to_vec()).collect()
    }

    /// Whether it is not mended but made once more, for its present path.
    fn is_remade(&self) -> bool {
        self.inspected.made_for.is_some()
    }

    /// How many differences go.
    fn count(&self) -> usize {
        self.taken.len() + usize::from(self.is_remade())
    }

    /// What is in staging takes its place.
    fn change(&self, staged: String) -> Change {
        let standing = &self.inspected.standing;
        Change {
            live: standing.place.clone(),
            staged: Some(staged),
            environment: Some(standing.ecosystem),
            expected: Expected::Anything,
        }
    }

    /// Whether there is nothing to copy.
    fn is_made_anew(&self) -> bool {
        self.findings()
            .any(|it| it.path.as_os_str().is_empty() && it.difference != Difference::Mode)
    }

    fn takes_away(&self) -> bool {
        self.findings().any(|it| it.difference == Difference::Additional)
    }

    /// The findings that stay, or of which a part could not be brought back.
    fn left(&self, mended: &Mended) -> BTreeSet<usize> {
        let findings = self.inspected.found.findings.iter().enumerate();
        let stays = |index: usize, path: &Path| {
            !self.taken.contains(&index) || mended.left.iter().any(|left| left.starts_with(path))
        };
        findings.filter(|(index, it)| stays(*index, &it.path)).map(|(index, _)| index).collect()
    }
}

/// The findings that may be mended: those that lose nothing of anybody's, and others only by force. What cannot be read
/// cannot be kept aside either.
fn curable(inspected: &Inspected, force: bool) -> BTreeSet<usize> {
    let findings = &inspected.found.findings;
    let may = |index: &usize| match findings.get(*index).map(|it| it.difference) {
        Some(Difference::Missing | Difference::Mode) => true,
        Some(Difference::Unreadable) | None => false,
        Some(_) => force,
    };
    inspected.asked.iter().copied().filter(may).collect()
}

/// All findings: nothing of what stands stays.
fn all(inspected: &Inspected) -> BTreeSet<usize> {
    (0..inspected.found.findings.len()).collect()
}

/// Whether something of somebody would be lost with an environment.
fn loses(inspected: &Inspected) -> bool {
    let is_loss = |it: &crate::transaction::Finding| {
        !matches!(it.difference, Difference::Missing | Difference::Mode)
    };
    inspected.found.left_out > 0 || inspected.found.findings.iter().any(is_loss)
}

/// What was found before, with what of it is right now.
fn compared(before: &VerifiedCrates, now: &VerifiedCrates) -> VerifiedCrates {
    let still: BTreeSet<&str> = now.differences.iter().map(|it| it.path.as_str()).collect();
    let mut compared = before.clone();
    for difference in &mut compared.differences {
        difference.repaired = !still.contains(difference.path.as_str());
    }
    compared
}

fn remove(directory: &Path) -> Result<()> {
    std::fs::remove_dir_all(directory).map_err(|error| Error::io("remove", directory, &error))
}
