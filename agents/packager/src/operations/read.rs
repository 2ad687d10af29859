//! `pkg.list`, `pkg.info`, `pkg.history`: operations that only look.

use std::os::fd::OwnedFd;

use super::Task;
use super::outdated::{best_file, best_version, python, rust};
use super::plan::{is_held, purls_of};
use crate::api::{HistoryAnswer, HistoryRequest, InfoAnswer, InstalledPackage, ListAnswer};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::npm::{Listed, Packument};
use crate::spec::Spec;

impl Task<'_> {
    /// What the standing transactions installed.
    pub(crate) fn list(&self, directory: OwnedFd) -> Result<ListAnswer> {
        let project = self.open(directory)?;
        let mut packages = Vec::new();
        let installed = self.installed(&project)?;
        let holds = self.holds(&project, installed.contains_key(&Ecosystem::Debian))?;
        for resolution in installed.values() {
            let held = holds.get(&resolution.ecosystem);
            for package in &resolution.packages {
                packages.push(InstalledPackage {
                    purl: package.purl(),
                    direct: package.direct,
                    place: package.place.clone(),
                    license: package.license.clone(),
                    held: is_held(package, held),
                    dependencies: purls_of(package, resolution),
                });
            }
        }
        Ok(ListAnswer {
            schema: "bolide.list/1".to_owned(),
            project: project.path().to_string_lossy().into_owned(),
            packages,
        })
    }

    /// The transactions of a project or of all.
    pub(crate) fn history(
        &self,
        directory: Option<OwnedFd>,
        request: &HistoryRequest,
    ) -> Result<HistoryAnswer> {
        let project = match directory {
            Some(directory) if !request.all => Some(self.open(directory)?),
            _ => None,
        };
        super::history::history(&self.shop.transactions, project.as_ref(), request)
    }

    /// What the registry says about one package.
    pub(crate) fn info(&self, text: &str) -> Result<InfoAnswer> {
        let spec = Spec::parse(&self.spelled_one(text)?)?;
        match spec.ecosystem {
            Ecosystem::Npm => self.npm_info(&spec),
            Ecosystem::Pypi => self.pypi_info(&spec),
            Ecosystem::Cargo => self.cargo_info(&spec),
            Ecosystem::Debian => super::debian::info(self, &spec),
            Ecosystem::Rpm | Ecosystem::Pacman => super::solved::info(self, &spec),
        }
    }

    fn npm_info(&self, spec: &Spec) -> Result<InfoAnswer> {
        let packument = self.registries.npm().packument(&spec.name)?;
        let latest = packument.dist_tags.get("latest").cloned().unwrap_or_default();
        let text = npm_version(&packument, &spec.requirement, &latest).ok_or_else(|| none(spec))?;
        let version = packument.versions.get(&text).ok_or_else(|| none(spec))?;
        let tables = [
            ("", &version.dependencies),
            (" (optional)", &version.optional_dependencies),
            (" (peer)", &version.peer_dependencies),
        ];
        let requires = tables.into_iter().flat_map(|(kind, table)| {
            table.iter().map(move |(name, range)| format!("{name}@{range}{kind}"))
        });
        Ok(InfoAnswer {
            purl: crate::spec::purl(Ecosystem::Npm, &spec.name, &text),
            latest,
            versions_count: packument.versions.len(),
            license: version.license.clone(),
            published: version.published.clone(),
            hash: version.hashes.to_string(),
            requires: requires.collect(),
            withdrawn: version.deprecated.clone().map(|why| format!("deprecated: {why}")),
            scripts: version.install_scripts.clone(),
            version: text,
            schema: schema(),
        })
    }

    fn pypi_info(&self, spec: &Spec) -> Result<InfoAnswer> {
        let wanted = python(spec)?;
        let project = self.registries.pypi().project(&wanted.name)?;
        let (best, latest) = best_file(&project, &wanted);
        let best = best.ok_or_else(|| none(spec))?;
        let latest = latest.unwrap_or(best);
        let described = match best.kind {
            crate::metadata::pypi::FileKind::Source => None,
            _ => Some(self.registries.pypi().core_metadata(&project, best)?),
        };
        let version = best.version.to_string();
        Ok(InfoAnswer {
            purl: crate::spec::purl(Ecosystem::Pypi, &spec.name, &version),
            latest: latest.version.to_string(),
            versions_count: project.releases().len(),
            license: described.as_ref().and_then(|metadata| metadata.license.clone()),
            published: best.published.clone(),
            hash: best.hashes.to_string(),
            requires: described
                .iter()
                .flat_map(|metadata| metadata.requires_dist.iter().map(ToString::to_string))
                .collect(),
            withdrawn: best.yanked.clone().map(|why| format!("yanked: {why}")),
            scripts: Vec::new(),
            version,
            schema: schema(),
        })
    }

    fn cargo_info(&self, spec: &Spec) -> Result<InfoAnswer> {
        let wanted = rust(spec)?;
        let krate = self.registries.cargo().krate(&spec.name)?;
        let (best, latest) = best_version(&krate, &wanted);
        let best = best.ok_or_else(|| none(spec))?;
        let latest = latest.unwrap_or(best);
        let requires = best.needs().map(|need| {
            let optional = if need.is_optional() { " (optional)" } else { "" };
            format!("{} {}{optional}", need.package(), need.requirement())
        });
        let version = best.number().to_string();
        Ok(InfoAnswer {
            purl: crate::spec::purl(Ecosystem::Cargo, krate.name(), &version),
            version,
            latest: latest.number().to_string(),
            versions_count: krate.versions().len(),
            license: None,
            published: best.published().map(str::to_owned),
            hash: best.hashes().to_string(),
            requires: requires.collect(),
            withdrawn: best.is_yanked().then(|| "yanked".to_owned()),
            scripts: Vec::new(),
            schema: schema(),
        })
    }
}

pub(super) fn schema() -> String {
    "bolide.info/1".to_owned()
}

/// The version that a tag, an exact version or a range means; the latest where nothing is said.
pub(super) fn npm_version(packument: &Packument, wanted: &str, latest: &str) -> Option<String> {
    if wanted.is_empty() {
        return Some(latest.to_owned());
    }
    if let Some(tagged) = packument.dist_tags.get(wanted) {
        return Some(tagged.clone());
    }
    let range = agents_versions::npm::Range::parse(wanted).ok()?;
    let mut ranked = packument.versions.ranked();
    let fits = |listed: &Listed<'_>| listed.number().is_some_and(|it| range.satisfies(&it));
    ranked.find(fits).map(|listed| listed.text().to_owned())
}

pub(super) fn none(spec: &Spec) -> Error {
    let message =
        format!("no version of `{}:{}` is in `{}`", spec.ecosystem, spec.name, spec.requirement);
    Error::new(Kind::Failed, "unknown-version", message)
        .hint("leave the range out to see the latest version")
}
