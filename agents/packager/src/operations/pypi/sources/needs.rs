//! What has to be there for a build: asked of the archive and of its backend, and resolved to wheels. Not the build itself.

use std::collections::BTreeMap;
use std::time::Instant;

use pep508_rs::Requirement;

use super::environment::Workshop;
use super::{Sources, Wanted, needed};
use crate::build::project::{System, requirements};
use crate::build::remembered::{recall, remember};
use crate::error::{Error, Kind, Result};
use crate::metadata::aged::Aged;
use crate::resolution::{BuildRequirement, Resolution};
use crate::resolve::pypi::policy::Policy;
use crate::resolve::{ResolveError, pypi};

impl Sources<'_> {
    /// How it says that it is built. The archive is not looked at again for that.
    fn system(&self, workshop: &mut Workshop<'_>) -> Result<System> {
        let wanted = workshop.wanted;
        let key = self.key("system", wanted, &[]);
        let directory = &self.task.shop.builds;
        let file = &wanted.package.artifact.file_name;
        if let Some((texts, backend, backend_path)) =
            recall::<(Vec<String>, String, Vec<String>)>(directory, &key)
        {
            let requires = requirements(&texts, file)?;
            return Ok(System { requires, backend, backend_path });
        }
        let system = workshop.system()?.clone();
        let texts: Vec<String> = system.requires.iter().map(ToString::to_string).collect();
        remember(directory, &key, &(texts, &system.backend, &system.backend_path));
        Ok(system)
    }

    /// What its backend needs beyond what stands in the archive: only the backend tells.
    fn more(
        &self,
        wanted: &Wanted<'_>,
        workshop: &mut Workshop<'_>,
        found: &Resolution,
    ) -> Result<Vec<Requirement>> {
        let needed = needed(found);
        let step = self.step("requires", wanted);
        let key = self.key(&step, wanted, &needed);
        let directory = &self.task.shop.builds;
        let file = &wanted.package.artifact.file_name;
        if let Some(texts) = recall::<Vec<String>>(directory, &key) {
            return requirements(&texts, file);
        }
        self.task.say("build", format!("asking how `{file}` is built, in a sandbox"), 0, 0);
        let texts = workshop.requires(found)?;
        let more = requirements(&texts, file)?;
        remember(directory, &key, &texts);
        Ok(more)
    }

    /// Wheels for what the archive asks for, and for what its backend adds to that, held to some versions. What was found for the
    /// first is looked at before the backend runs.
    pub(super) fn find(
        &self,
        wanted: &Wanted<'_>,
        workshop: &mut Workshop<'_>,
        held: &[Requirement],
        look_at: &dyn Fn(&Resolution) -> Result<()>,
    ) -> Result<Resolution> {
        let system = self.system(workshop)?;
        let found = self.resolve(wanted, &system.requires, held)?;
        look_at(&found)?;
        let more = self.more(wanted, workshop, &found)?;
        if more.is_empty() {
            return Ok(found);
        }
        let all: Vec<_> = system.requires.into_iter().chain(more).collect();
        self.resolve(wanted, &all, held)
    }

    /// Wheels for what a build needs.
    fn resolve(
        &self,
        wanted: &Wanted<'_>,
        requirements: &[Requirement],
        held: &[Requirement],
    ) -> Result<Resolution> {
        let policy = Policy {
            constraints: held.to_vec(),
            prerelease: self.task.choices.prerelease,
            ..Policy::default()
        };
        let (preferred, began) = (BTreeMap::new(), Instant::now());
        let request = pypi::Request {
            requirements,
            target: self.target,
            preferred: &preferred,
            policy: &policy,
            keep_on: &|| self.task.check_resolving(began),
        };
        let index = self.task.registries.pypi();
        let resolved = match self.task.limit_of_builds() {
            None => pypi::resolve(&request, index),
            Some(limit) => pypi::resolve(&request, &Aged::new(index, limit)),
        };
        resolved.map_err(|error| {
            let file = &wanted.package.artifact.file_name;
            match error {
                ResolveError::Other(error) => error,
                ResolveError::Conflict(conflict) => {
                    let why = conflict.explanation.trim_end().to_owned();
                    let message = format!("what `{file}` needs to be built cannot be had: {why}");
                    Error::new(Kind::Conflict, "build-requirements", message)
                        .hint("what a build needs is never built itself; choose another version")
                }
            }
        })
    }

    /// Exactly what the lock says that it was built with, where that is what the archive asks for: a lock comes with a project, and the
    /// leave to build a package is none to run others.
    pub(super) fn find_pinned(
        &self,
        wanted: &Wanted<'_>,
        workshop: &mut Workshop<'_>,
        pinned: &[BuildRequirement],
    ) -> Result<Resolution> {
        let exact = |it: &BuildRequirement| {
            let (name, version) = it.purl.strip_prefix("pkg:pypi/")?.rsplit_once('@')?;
            let version = percent_encoding::percent_decode_str(version).decode_utf8().ok()?;
            Some(format!("{name}=={version}"))
        };
        let file = &wanted.package.artifact.file_name;
        let stale = |why: String| {
            let message = format!(
                "`{file}` cannot be built with what `bolide.lock` says that it was built with: {why}"
            );
            let hint = format!("`bolide update pypi:{0} --build {0}` builds it anew", wanted.name);
            Error::new(Kind::Stale, "lock-stale", message).hint(hint)
        };
        let is_locked = |found: &Resolution| {
            let needed = needed(found);
            match needed.into_iter().find(|one| !pinned.contains(one)) {
                Some(one) => Err(stale(format!(
                    "it needs `{}` ({}), which is not there",
                    one.purl, one.hash
                ))),
                None => Ok(()),
            }
        };
        let texts: Vec<String> = pinned.iter().filter_map(exact).collect();
        let held = requirements(&texts, file)?;
        let found = self.find(wanted, workshop, &held, &is_locked).map_err(|error| {
            match error.kind == Kind::Conflict {
                true => stale(error.message),
                false => error,
            }
        })?;
        is_locked(&found)?;
        let needed = needed(&found);
        match pinned.iter().find(|one| !needed.contains(one)) {
            Some(one) => Err(stale(format!("neither it nor its backend needs `{}`", one.purl))),
            None => Ok(found),
        }
    }
}
