//! The registries of a cargo project: the default one, and where its manifests name others, all that are configured.

use std::sync::Arc;
use std::time::Instant;

use semver::Version;

use super::Task;
use super::local::Local;
use super::patches::Standing;
use super::workspace::Member;
use crate::error::{Error, Kind, Result};
use crate::io::cargo::Several;
use crate::metadata::cargo::scope::canonical;
use crate::metadata::cargo::{Dependency, Metadata, Registry, Scope};
use crate::resolution::Package;
use crate::resolve::cargo::lock;

/// See the module.
pub(super) struct Registries {
    /// `None` where the manifests name no registry.
    several: Option<Several>,
    /// What lies on this machine in the place of the default one.
    local: Option<Local>,
    /// The default one, as a lock names it.
    pub(super) default: String,
}

impl Registries {
    /// Those that the members and what stands for crates ask for. Names in their manifests become the addresses that cargo's
    /// configuration has for them.
    ///
    /// # Errors
    /// `bad-configuration` for a name that nobody defines.
    pub(super) fn of(
        task: &Task<'_>,
        members: &mut [Member],
        standing: &mut [Standing],
    ) -> Result<Self> {
        let default = lock::default_source();
        let mut is_named = false;
        for Standing { patch, .. } in &mut *standing {
            patch.registry = match patch.registry.contains(':') {
                true => patch.registry.clone(),
                false => {
                    let index = task.registries.cargo_index_of(&patch.registry)?;
                    index.unwrap_or_else(|| default.clone())
                }
            };
            is_named |= canonical(&patch.registry) != canonical(&default);
        }
        let members = members.iter_mut().map(|member| &mut member.manifest);
        let manifests = members.chain(standing.iter_mut().map(|one| &mut one.manifest));
        for dependency in manifests.flat_map(|manifest| &mut manifest.dependencies) {
            meant(task, dependency)?;
            is_named |= dependency.registry.is_some();
        }
        let local = task.registries.cargo_local()?;
        if let (Some(local), true) = (&local, is_named) {
            let message = format!(
                "`{}` stands for the registry, and the manifests name others beside it",
                local.place().display()
            );
            return Err(Error::new(Kind::Usage, "unsupported-registry", message).hint(
                "use cargo for this project, or take the replacement out of its configuration",
            ));
        }
        let several = match is_named {
            true => Some(task.registries.cargo_several(&task.registries.cargo_registries()?)),
            false => None,
        };
        let began = Instant::now();
        let open = |local| Local::open(local, &|| task.check_resolving(began));
        Ok(Self { several, local: local.map(open).transpose()?, default })
    }

    /// The default one alone.
    #[cfg(test)]
    pub(super) fn default_only() -> Self {
        Self { several: None, local: None, default: lock::default_source() }
    }

    /// Whom the resolver asks.
    pub(super) fn metadata<'r>(&'r self, task: &'r Task<'_>) -> &'r dyn Metadata {
        match (&self.several, &self.local) {
            (Some(several), _) => several,
            (None, Some(local)) => local,
            (None, None) => task.registries.cargo(),
        }
    }

    /// Whether no registry is asked.
    pub(super) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// The registries as members see them.
    pub(super) fn scope(&self) -> Option<&Arc<Scope>> {
        self.several.as_ref().map(Several::scope)
    }

    /// As the crates of each see them; none where there is one only.
    pub(super) fn scopes(&self) -> &[Arc<Scope>] {
        self.several.as_ref().map_or(&[], Several::scopes)
    }

    /// What the resolver calls a crate that a member asks for.
    pub(super) fn key_of(&self, dependency: &Dependency) -> String {
        let registry = dependency.registry.as_deref();
        let key = self.scope().and_then(|scope| scope.key(&dependency.package, registry));
        key.map_or_else(|| dependency.package.clone(), Into::into)
    }

    /// What it calls a crate that a lock has from this source; `None` where that is no registry of the project.
    pub(super) fn key(&self, name: &str, source: &str) -> Option<String> {
        if canonical(source) == canonical(&self.default) {
            return Some(name.to_owned());
        }
        self.scope().and_then(|scope| scope.key(name, Some(source))).map(Into::into)
    }

    /// What it calls a crate that was resolved before.
    pub(super) fn key_of_known(&self, package: &Package) -> Option<String> {
        match &package.artifact.source {
            None => Some(package.name.clone()),
            Some(source) => self.key(&package.name, source),
        }
    }

    /// Where the file of a crate is; nothing for one that lies on this machine. Blocks.
    pub(super) fn artifact_url(
        &self,
        task: &Task<'_>,
        key: &str,
        version: &Version,
    ) -> Result<String> {
        match (&self.several, &self.local) {
            (Some(several), _) => several.artifact_url(key, version),
            (None, Some(_)) => Ok(String::new()),
            (None, None) => task.registries.cargo_artifact_url(key, version),
        }
    }
}

/// Puts the address of a registry in the place of its name.
fn meant(task: &Task<'_>, dependency: &mut Dependency) -> Result<()> {
    let Some(name) = dependency.registry.take() else { return Ok(()) };
    dependency.registry = match name.contains(':') {
        true => Some(name),
        false => task.registries.cargo_index_of(&name).map_err(|error| {
            let package = &dependency.package;
            error.hint(format!(
                "`{package}` comes from it; define it as `[registries.{name}]` with \
                 `index = \"sparse+https://...\"` in cargo's configuration"
            ))
        })?,
    };
    Ok(())
}

/// The registry that a dependency of a manifest comes from: its index, or `None` for the default one.
pub(super) fn source_of(task: &Task<'_>, dependency: &Dependency) -> Result<Option<String>> {
    let mut dependency = dependency.clone();
    meant(task, &mut dependency)?;
    let Some(index) = dependency.registry else { return Ok(None) };
    let known: Vec<Registry> = task.registries.cargo_registries()?;
    let known = known.into_iter().find(|known| canonical(&known.index) == canonical(&index));
    Ok(Some(known.map_or(index, |known| known.index)))
}
