//! cargo's own cache, where its offline build finds crates: filled, and looked at. Each registry has a part of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agents_contract::Work;

use super::{Task, home};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::cargo::Examined;
use crate::install::{self, Options};
use crate::io::LocalCrates;
use crate::metadata::cargo::Metadata;
use crate::resolution::{Package, Resolution};

/// The crates of each registry; `None` is the default one.
fn by_source(resolution: &Resolution) -> BTreeMap<Option<&str>, Vec<&Package>> {
    let mut parts: BTreeMap<Option<&str>, Vec<&Package>> = BTreeMap::new();
    for package in &resolution.packages {
        parts.entry(package.artifact.source.as_deref()).or_default().push(package);
    }
    parts
}

/// The index as cargo names it, and whether it is another one that is asked.
fn index_url(task: &Task<'_>, source: Option<&str>) -> Result<(String, bool)> {
    if source.is_some() {
        let client = task.registries.cargo_source(source)?;
        return Ok((format!("sparse+{}", client.resolved()?.endpoint.index), false));
    }
    // A registry that the caller named for this request is a mirror: cargo itself does not know it.
    match task.setting.registry.contains_key(&Ecosystem::Cargo) {
        true => Ok((tame_index::index::sparse::CRATES_IO_HTTP_INDEX.to_owned(), true)),
        false => Ok((format!("sparse+{}", task.registries.registry(Ecosystem::Cargo)?), false)),
    }
}

/// Whether the crates are where cargo looks for them offline; `None` where there is no cargo. With what was found: where it
/// was looked.
pub(in crate::operations) fn examine(
    task: &Task<'_>,
    resolution: &Resolution,
) -> Result<Option<(PathBuf, Examined)>> {
    let (Some(version), Some(home)) = (task.version("cargo"), home(task)) else { return Ok(None) };
    let mut registry = home.join("registry");
    let keep_on = || task.check_wanted();
    let local = task.registries.cargo_local()?;
    let mut all = Examined::default();
    for (source, crates) in by_source(resolution) {
        let hands = task.hands(Work::Scan);
        if let (Some(local), None) = (&local, source) {
            local.place().clone_into(&mut registry);
            let found = super::local::examine(local, &crates, &hands, &keep_on)?;
            all.looked_at += found.looked_at;
            all.findings.extend(found.findings);
            continue;
        }
        let (index_url, _) = index_url(task, source)?;
        let name = install::cargo::directory_name(&index_url, &version)?;
        let places = (&*registry.join("cache").join(&name), &*registry.join("index").join(&name));
        let found = install::cargo::examine(places, &crates, &hands, &keep_on)?;
        all.looked_at += found.looked_at;
        all.findings.extend(found.findings);
    }
    Ok(Some((registry, all)))
}

/// Refuses crates that are not what their tool wrote: cargo builds from them as they lie there.
fn check_local(task: &Task<'_>, local: &LocalCrates, crates: &[&Package]) -> Result<()> {
    let keep_on = || task.check_wanted();
    let found = super::local::examine(local, crates, &task.hands(Work::Scan), &keep_on)?;
    let Some((path, _)) = found.findings.first() else { return Ok(()) };
    let message = format!("`{}` is not what its checksum names", path.display());
    Err(Error::new(Kind::Verification, "vendored-differs", message)
        .hint("bring it back from version control, or run the tool again that made the directory"))
}

/// Puts the crates and their index entries where cargo looks for them offline; warnings.
pub(in crate::operations) fn populate(
    task: &Task<'_>,
    resolution: &Resolution,
    options: Options<'_>,
) -> Result<Vec<String>> {
    let Some(version) = task.version("cargo") else {
        return Ok(vec!["there is no cargo here, so its cache was not filled".to_owned()]);
    };
    let Some(home) = home(task) else {
        return Ok(vec![
            "neither CARGO_HOME nor HOME is set, so cargo's cache was not filled".to_owned(),
        ]);
    };
    let local = task.registries.cargo_local()?;
    for (source, packages) in by_source(resolution) {
        if let (Some(local), None) = (&local, source) {
            check_local(task, local, &packages)?;
            continue;
        }
        let mut names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        names.dedup();
        let client = task.registries.cargo_source(source)?;
        // Known, before cargo's lock is taken.
        for name in &names {
            client.krate(name)?;
        }
        let config = client.registry_config()?;
        let (index_url, is_override) = index_url(task, source)?;
        let registry =
            install::cargo::Registry { index_url: &index_url, config: &config.raw, is_override };
        let index = |name: &str| client.index_file(name);
        let (store, home) = (&task.shop.store, &*home);
        let names: (&[&str], &dyn Fn(&str) -> _) = (&names, &index);
        install::cargo::populate(store, home, &version, registry, &packages, names, options)?;
    }
    Ok(Vec::new())
}
