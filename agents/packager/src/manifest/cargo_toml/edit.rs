//! Adds to and removes from `[dependencies]` of a Cargo.toml as `cargo add` and `cargo remove` do.

use toml_edit::{Array, InlineTable, Item, Table, TableLike, Value};

use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::manifest::{invalid, read_toml, with_bom, with_line_ends_of, without_bom};
use crate::spec::check_name;

/// One crate to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The crate.
    pub name: String,
    /// The requirement as it is to be written; see [`saved_requirement`].
    pub requirement: String,
    /// Features, added to those that are there.
    pub features: Vec<String>,
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
        None => {
            let sorted = table.iter().map(|(key, _)| key.to_owned()).is_sorted();
            table.insert(&wanted.name, new_item(wanted));
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

fn new_item(wanted: &Wanted) -> Item {
    if wanted.features.is_empty() {
        return toml_edit::value(wanted.requirement.as_str());
    }
    let mut inline = InlineTable::new();
    inline.insert("version", wanted.requirement.as_str().into());
    inline.insert("features", Value::Array(wanted.features.iter().collect::<Array>()));
    toml_edit::value(inline)
}

fn change(file: &str, item: &mut Item, wanted: &Wanted) -> Result<(), Error> {
    if let Some(value) = item.as_value_mut()
        && value.is_str()
    {
        if wanted.features.is_empty() {
            set_text(value, &wanted.requirement);
        } else {
            let decor = value.decor().clone();
            *item = new_item(wanted);
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
            Some(version) => set_text(version, &wanted.requirement),
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

/// Changes a text and keeps the spaces and the comment around it.
fn set_text(value: &mut Value, text: &str) {
    if value.as_str() == Some(text) {
        return;
    }
    let decor = value.decor().clone();
    *value = text.into();
    *value.decor_mut() = decor;
}

/// The text without crates of these names in `[dependencies]`; features that named them are left to the person.
pub fn remove(file: &str, text: &str, names: &[&str]) -> Result<String, Error> {
    let (text, bom) = without_bom(file, text)?;
    let mut document = read_toml(file, text)?;
    let Some(table) = document.get_mut("dependencies").and_then(Item::as_table_like_mut) else {
        return Ok(with_bom(text.to_owned(), bom));
    };
    for name in names {
        if let Some(key) = key_of(table, name) {
            table.remove(&key);
        }
    }
    Ok(with_bom(with_line_ends_of(text, document.to_string()), bom))
}
