//! What a plan was asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Aim;
use super::super::locked;
use crate::api::PlanRequest;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::SPECS_MAX;
use crate::resolution::Resolution;
use crate::spec::Spec;
use crate::transaction::Project;

/// What was asked for, read.
#[derive(Default)]
pub(super) struct Wish {
    pub(super) add: Vec<Spec>,
    pub(super) remove: Vec<Spec>,
    pub(super) update: Option<Vec<Spec>>,
    /// The member of a cargo or npm workspace that is meant.
    pub(super) member: String,
}

impl Wish {
    pub(super) fn read(request: &PlanRequest) -> Result<Self> {
        let add = specs(&request.add)?;
        let remove = specs(&request.remove)?;
        let update = request.update.as_deref().map(specs).transpose()?;
        if let Some(spec) = add.iter().find(|spec| remove.iter().any(|gone| is_same(gone, spec))) {
            let message = format!("`{}:{}` is both added and removed", spec.ecosystem, spec.name);
            return Err(Error::new(Kind::Usage, "contradiction", message));
        }
        locked::check_names(update.as_deref().unwrap_or_default())?;
        let changes = !add.is_empty() || !remove.is_empty();
        match [changes, request.install, update.is_some()].into_iter().filter(|is| *is).count() {
            0 => Err(Error::new(Kind::Usage, "nothing-asked", "no package is named")
                .hint("name packages as `npm:express@^4`, `pypi:requests`, `cargo:serde`")),
            1 => Ok(Self { add, remove, update, member: request.member.clone() }),
            _ => {
                let message = "packages are changed, installed or updated, not several at once";
                Err(Error::new(Kind::Usage, "contradiction", message))
            }
        }
    }

    pub(super) fn aim(&self) -> Aim<'_> {
        match &self.update {
            Some(named) => Aim::Update(named),
            None if self.add.is_empty() && self.remove.is_empty() => Aim::Install,
            None => Aim::Change,
        }
    }

    pub(super) fn operation(&self) -> &'static str {
        match self.aim() {
            Aim::Install => "install",
            Aim::Update(_) => "update",
            Aim::Change if self.remove.is_empty() => "add",
            Aim::Change if self.add.is_empty() => "remove",
            Aim::Change => "change",
        }
    }

    /// The ecosystems that have to decide: those of the named packages; where none is named, those with a manifest, and those that
    /// had one and left packages behind.
    pub(super) fn concerned(
        &self,
        project: &Project,
        installed: &BTreeMap<Ecosystem, Resolution>,
    ) -> Result<BTreeSet<Ecosystem>> {
        let named = [&self.add, &self.remove].into_iter().chain(&self.update).flatten();
        let named: BTreeSet<Ecosystem> = named.map(|spec| spec.ecosystem).collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let mut used = locked::used(project)?;
        // Crates have no environment in the project, nor have packages of the system.
        let left = installed.values().filter(|resolution| {
            let has_place = matches!(resolution.ecosystem, Ecosystem::Npm | Ecosystem::Pypi);
            has_place && !resolution.packages.is_empty()
        });
        used.extend(left.map(|resolution| resolution.ecosystem));
        Ok(used)
    }

    pub(super) fn specs(&self) -> Vec<Spec> {
        let updated = self.update.iter().flatten();
        self.add.iter().chain(&self.remove).chain(updated).cloned().collect()
    }
}

/// The packages that are named, each once.
pub(in crate::operations) fn specs(texts: &[String]) -> Result<Vec<Spec>> {
    if texts.len() > SPECS_MAX {
        let message = format!("{} packages are named; the limit is {SPECS_MAX}", texts.len());
        return Err(Error::new(Kind::Usage, "too-many-packages", message));
    }
    let specs: Vec<Spec> = texts.iter().map(|text| Spec::parse(text)).collect::<Result<_>>()?;
    for (index, spec) in specs.iter().enumerate() {
        if specs[..index].iter().any(|earlier| is_same(earlier, spec)) {
            let message = format!("`{}:{}` is named twice", spec.ecosystem, spec.name);
            return Err(Error::new(Kind::Usage, "named-twice", message));
        }
    }
    Ok(specs)
}

fn is_same(left: &Spec, right: &Spec) -> bool {
    left.ecosystem == right.ecosystem && left.name == right.name
}
