//! `[patch]` of a workspace's root: packages in a directory that stand for those of a registry. What it takes from elsewhere, and the
//! older `[replace]`, are refused by name.

use toml_edit::{DocumentMut, Item, TableLike};

use super::{invalid, join};
use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::spec::check_name;
use agents_versions::shorten;

/// A package that stands for a registry's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The registry: `crates-io`, a name of cargo's configuration, or an address.
    pub registry: String,
    /// The package's name.
    pub package: String,
    /// Its directory relative to the workspace's root, `/`-separated, without `..`.
    pub directory: String,
}

/// Those of a manifest.
pub(super) fn read(file: &str, document: &DocumentMut) -> Result<Vec<Patch>, Error> {
    let is_filled =
        |key| document.get(key).and_then(Item::as_table_like).is_some_and(|it| !it.is_empty());
    if is_filled("replace") {
        let problem = "`[replace]` is what `[patch]` was before, and is not supported";
        return Err(invalid(file, problem).hint(
            "write it as `[patch.crates-io]` with the same `path`; cargo advises that, too",
        ));
    }
    let Some(item) = document.get("patch") else { return Ok(Vec::new()) };
    let Some(registries) = item.as_table_like() else {
        return Err(invalid(file, "`patch` is not a table"));
    };
    let mut patches = Vec::new();
    for (registry, item) in registries.iter() {
        let Some(table) = item.as_table_like() else {
            return Err(invalid(file, format!("`patch.{}` is not a table", shorten(registry))));
        };
        for (alias, item) in table.iter() {
            patches.push(one(file, registry, alias, item)?);
        }
    }
    Ok(patches)
}

fn one(file: &str, registry: &str, alias: &str, item: &Item) -> Result<Patch, Error> {
    let table: Option<&dyn TableLike> = item.as_table_like();
    let text = |key: &str| table.and_then(|table| table.get(key)).and_then(Item::as_str);
    let package = text("package").unwrap_or(alias).to_owned();
    check_name(Ecosystem::Cargo, &package).map_err(|error| invalid(file, error.message))?;
    let Some(path) = text("path") else {
        let what = match table.is_some_and(|table| table.contains_key("git")) {
            true => "a git repository",
            false => "a version of a registry",
        };
        let problem = format!("`[patch]` takes `{package}` from {what}, which is not supported");
        return Err(invalid(file, problem)
            .hint("put the package into a directory of the project and name it by `path`"));
    };
    let directory = join("", path).filter(|directory| !directory.is_empty()).ok_or_else(|| {
        let problem =
            format!("`[patch]` takes `{package}` from `{}`, outside of the project", shorten(path));
        invalid(file, problem)
            .hint("put the package into a directory of the project and name it by `path`")
    })?;
    Ok(Patch { registry: registry.to_owned(), package, directory })
}
