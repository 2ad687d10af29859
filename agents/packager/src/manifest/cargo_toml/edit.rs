//! Adds to `[dependencies]` of a Cargo.toml as `cargo add` does, and removes from all of its tables.

use std::collections::BTreeSet;

use semver::VersionReq;
use toml_edit::{Array, InlineTable, Item, RawString, Table, TableLike, Value};

use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::manifest::{invalid, read_toml, with_bom, with_line_ends_of, without_bom};
use crate::spec::check_name;

/// The tables that declare dependencies, in both spellings that cargo reads.
const DEPENDENCY_TABLES: [&str; 5] = [
    "dependencies",
    "dev-dependencies",
    "dev_dependencies",
    "build-dependencies",
    "build_dependencies",
];

/// One crate to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The crate.
    pub name: String,
    /// The requirement as it is to be written; see [`saved_requirement`]. An empty one, or one that means the same
    /// as what stands there, leaves the text that stands there.
    pub requirement: String,
    /// Features, added to those that are there.
    pub features: Vec<String>,
    /// Whether the version is the workspace's, for a crate that is not there yet.
    pub inherits: bool,
}

/// What is written for a requirement that was asked for and the version that was chosen: what was asked, else the
/// chosen version as cargo writes it, without build metadata.
pub fn saved_requirement(asked: &str, resolved: &str) -> String {
    match asked.trim() {
        "" => resolved.split('+').next().unwrap_or(resolved).to_owned(),
        asked => asked.to_owned(),
    }
}

/// A valid package name made of a directory's name.
pub fn new_package_name(directory: &str) -> String {
    let mut name: String =
        directory
            .chars()
            .map(|character| {
                if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' }
            })
            .collect();
    name.make_ascii_lowercase();
    let name = name.trim_matches(['-', '_']);
    let mut name: String = name.chars().take(crate::limits::CRATE_NAME_BYTES_MAX - 4).collect();
    // Names of Rust's own crates and of cargo's output folders are refused by cargo.
    let taken = [
        "test",
        "core",
        "std",
        "alloc",
        "proc-macro",
        "proc_macro",
        "build",
        "deps",
        "examples",
        "incremental",
    ];
    if name.is_empty() {
        name = "project".to_owned();
    } else if !name.starts_with(|first: char| first.is_ascii_alphabetic())
        || taken.contains(&name.as_str())
    {
        name = format!("app-{name}");
    } else if is_keyword(&name) {
        name.push_str("-app");
    }
    name
}

fn is_keyword(name: &str) -> bool {
    const KEYWORDS: &str = " abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true try type typeof unsafe unsized use virtual where while yield ";
    KEYWORDS.contains(&format!(" {name} "))
}

/// The text with crates added to `[dependencies]`, or changed there; `None` is a file that does not exist yet and
/// gets a package named after `directory`.
pub fn add(
    file: &str,
    text: Option<&str>,
    directory: &str,
    wanted: &[Wanted],
) -> Result<String, Error> {
    let new = format!(
        "[package]\nname = \"{}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n",
        new_package_name(directory)
    );
    let (text, bom) = without_bom(file, text.unwrap_or(&new))?;
    let mut document = read_toml(file, text)?;
    if document.get("package").is_none() {
        return Err(invalid(
            file,
            "it is a workspace without a package of its own, so nothing can depend on a crate",
        )
        .hint("run the command in the directory of one member"));
    }
    if document.get("dependencies").is_none() {
        document.insert("dependencies", Item::Table(Table::new()));
    }
    let Some(table) = document.get_mut("dependencies").and_then(Item::as_table_like_mut) else {
        return Err(invalid(file, "`dependencies` is not a table"));
    };
    for one in wanted {
        check_name(Ecosystem::Cargo, &one.name)?;
        add_one(file, table, one)?;
    }
    Ok(with_bom(with_line_ends_of(text, document.to_string()), bom))
}

fn add_one(file: &str, table: &mut dyn TableLike, wanted: &Wanted) -> Result<(), Error> {
    let key = key_of(table, &wanted.name);
    match key.as_deref().and_then(|key| table.get_mut(key)) {
        Some(item) => change(file, item, wanted),
        None if wanted.requirement.is_empty() && !wanted.inherits => Err(invalid(
            file,
            format!("`{}` is not there and has no version to write", wanted.name),
        )),
        None => {
            let sorted = table.iter().map(|(key, _)| key.to_owned()).is_sorted();
            table.insert(
                &wanted.name,
                match wanted.inherits {
                    true => inherited_item(&wanted.features),
                    false => new_item(&wanted.requirement, &wanted.features),
                },
            );
            if sorted {
                table.sort_values();
            }
            Ok(())
        }
    }
}

/// The key of a crate: its name, or that of an entry renamed from it.
fn key_of(table: &dyn TableLike, name: &str) -> Option<String> {
    let package = |item: &Item| item.get("package").and_then(Item::as_str).map(str::to_owned);
    table
        .iter()
        .find(|(key, item)| package(item).map_or(*key == name, |package| package == name))
        .map(|(key, _)| key.to_owned())
}

fn new_item(requirement: &str, features: &[String]) -> Item {
    if features.is_empty() {
        return toml_edit::value(requirement);
    }
    let mut inline = InlineTable::new();
    inline.insert("version", requirement.into());
    inline.insert("features", Value::Array(features.iter().collect::<Array>()));
    toml_edit::value(inline)
}

/// `crate = { workspace = true }`, as a dotted key where that is all, as `cargo add` writes it.
fn inherited_item(features: &[String]) -> Item {
    let mut inline = InlineTable::new();
    inline.insert("workspace", true.into());
    if features.is_empty() {
        inline.set_dotted(true);
    } else {
        inline.insert("features", Value::Array(features.iter().collect::<Array>()));
    }
    toml_edit::value(inline)
}

fn change(file: &str, item: &mut Item, wanted: &Wanted) -> Result<(), Error> {
    if let Some(value) = item.as_value_mut()
        && value.is_str()
    {
        set_requirement(value, &wanted.requirement);
        if !wanted.features.is_empty() {
            let decor = value.decor().clone();
            let requirement = value.as_str().unwrap_or_default().to_owned();
            *item = new_item(&requirement, &wanted.features);
            if let Some(value) = item.as_value_mut() {
                *value.decor_mut() = decor;
            }
        }
        return Ok(());
    }
    let name = &wanted.name;
    let Some(entry) = item.as_table_like_mut() else {
        return Err(invalid(file, format!("`{name}` is neither a version nor a table")));
    };
    let inherited = entry.get("workspace").and_then(Item::as_bool) == Some(true);
    if !inherited {
        match entry.get_mut("version").and_then(Item::as_value_mut) {
            Some(version) => set_requirement(version, &wanted.requirement),
            None if wanted.requirement.is_empty() => {}
            None => {
                entry.insert("version", toml_edit::value(wanted.requirement.as_str()));
            }
        }
    }
    if wanted.features.is_empty() {
        return Ok(());
    }
    let item = entry.entry("features").or_insert_with(|| toml_edit::value(Array::new()));
    let Some(features) = item.as_array_mut() else {
        return Err(invalid(file, format!("`features` of `{name}` is not a list")));
    };
    for feature in &wanted.features {
        if !features.iter().any(|one| one.as_str() == Some(feature)) {
            features.push(feature.as_str());
        }
    }
    Ok(())
}

/// Changes a requirement and keeps the spaces and the comment around it. One that means the same stays as it is
/// written: `1` is not made `^1`.
fn set_requirement(value: &mut Value, requirement: &str) {
    let parsed = |text: &str| VersionReq::parse(text).ok();
    let same = |old: &str| {
        old == requirement || parsed(old).is_some_and(|old| Some(old) == parsed(requirement))
    };
    if requirement.is_empty() || value.as_str().is_some_and(same) {
        return;
    }
    let decor = value.decor().clone();
    *value = requirement.into();
    *value.decor_mut() = decor;
}

/// The text without crates of these names, in whichever table of dependencies they stand, and without what features said
/// of them. Names that stand nowhere change nothing.
pub fn remove(file: &str, text: &str, names: &[&str]) -> Result<String, Error> {
    let (text, bom) = without_bom(file, text)?;
    let mut document = read_toml(file, text)?;
    let shared = document.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let shared = shared.cloned().unwrap_or_default();
    let (mut gone, mut left) = (BTreeSet::new(), BTreeSet::new());
    for table in dependency_tables(document.as_table_mut()) {
        let is_meant = |key: &str, item: &Item| names.contains(&package_of(key, item, &shared));
        let (matching, others): (Vec<_>, Vec<_>) =
            table.iter().partition(|(key, item)| is_meant(key, item));
        left.extend(others.into_iter().map(|(key, _)| key.to_owned()));
        let matching: Vec<String> = matching.into_iter().map(|(key, _)| key.to_owned()).collect();
        for key in &matching {
            table.remove(key);
        }
        gone.extend(matching);
    }
    if let Some(features) = document.get_mut("features").and_then(Item::as_table_like_mut) {
        for alias in gone.difference(&left) {
            forget(features, alias);
        }
    }
    Ok(with_bom(with_line_ends_of(text, document.to_string()), bom))
}

/// The tables of dependencies: those of the package and those of its targets.
fn dependency_tables(root: &mut Table) -> Vec<&mut dyn TableLike> {
    let mut tables: Vec<&mut dyn TableLike> = Vec::new();
    for (key, item) in root.iter_mut() {
        if DEPENDENCY_TABLES.contains(&key.get()) {
            tables.extend(item.as_table_like_mut());
        } else if key.get() == "target" {
            let targets = item.as_table_like_mut().into_iter().flat_map(TableLike::iter_mut);
            for (_, target) in targets {
                let inner = target.as_table_like_mut().into_iter().flat_map(TableLike::iter_mut);
                tables.extend(
                    inner
                        .filter(|(key, _)| DEPENDENCY_TABLES.contains(&key.get()))
                        .filter_map(|(_, item)| item.as_table_like_mut()),
                );
            }
        }
    }
    tables
}

/// The package behind an entry; `shared` is `[workspace.dependencies]`, from which it may inherit.
fn package_of<'i>(key: &'i str, item: &'i Item, shared: &'i Item) -> &'i str {
    let inherits = item.get("workspace").and_then(Item::as_bool) == Some(true);
    let entry = if inherits { shared.get(key).unwrap_or(item) } else { item };
    entry.get("package").and_then(Item::as_str).unwrap_or(key)
}

/// Takes a dependency that is declared no more out of every list of features; cargo refuses one that names it.
fn forget(features: &mut dyn TableLike, alias: &str) {
    // A bare name means the feature of that name where there is one.
    let is_feature = features.contains_key(alias);
    let names_it = |value: &Value| {
        let Some(text) = value.as_str() else { return false };
        if text.strip_prefix("dep:") == Some(alias) {
            return true;
        }
        match text.strip_prefix(alias) {
            Some("") => !is_feature,
            Some(rest) => rest.starts_with('/') || rest.starts_with("?/"),
            None => false,
        }
    };
    for (_, list) in features.iter_mut() {
        let Some(list) = list.as_array_mut() else { continue };
        loop {
            let at = list.iter().position(names_it);
            let Some(at) = at else { break };
            let was_last = at + 1 == list.len();
            let removed = list.remove(at);
            let neighbour =
                if was_last { at.checked_sub(1) } else { Some(at).filter(|at| *at == 0) };
            if let Some(next) = neighbour.and_then(|at| list.get_mut(at)) {
                inherit_spaces(next, &removed, was_last);
            }
        }
    }
}

/// Gives a value the spaces of the one that stood at the edge of the list before it.
fn inherit_spaces(value: &mut Value, removed: &Value, at_end: bool) {
    let text = |raw: Option<&RawString>| raw.and_then(RawString::as_str).map(str::to_owned);
    let (own, edge) = match at_end {
        true => (value.decor().suffix(), removed.decor().suffix()),
        false => (value.decor().prefix(), removed.decor().prefix()),
    };
    // A comment among the spaces stays.
    if text(own).is_some_and(|own| !own.trim().is_empty()) {
        return;
    }
    let edge = text(edge).filter(|edge| edge.trim().is_empty()).unwrap_or_default();
    match at_end {
        true => value.decor_mut().set_suffix(edge),
        false => value.decor_mut().set_prefix(edge),
    }
}
