//! `package.json`: read into what the resolver needs, and edited in place.
//!
//! Strict JSON as npm reads it (no comments, no trailing commas). Scripts, exports and the rest are not looked at.

use std::collections::BTreeMap;

use jsonc_parser::common::Ranged;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use jsonc_parser::{CollectOptions, ParseOptions};
use serde_json::{Map, Value};

use super::{invalid, syntax_error, with_bom, without_bom};
use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::limits::MANIFEST_DEPTH_MAX;
use crate::metadata::npm::Dependencies;
use crate::resolve::npm::sort_key;
use crate::spec::check_name;
use agents_versions::npm::{Range, Version};

mod fresh;
pub mod named;
pub mod patterns;

#[cfg(test)]
mod tests;

/// What a project asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootManifest {
    /// `name`, where given.
    pub name: Option<String>,
    /// `version`, where given.
    pub version: Option<String>,
    /// `dependencies`, without those that also stand in `optionalDependencies`.
    pub dependencies: Dependencies,
    /// `devDependencies`.
    pub dev_dependencies: Dependencies,
    /// `optionalDependencies`.
    pub optional_dependencies: Dependencies,
    /// `peerDependencies`.
    pub peer_dependencies: Dependencies,
    /// Names in `peerDependenciesMeta` with `optional: true`.
    pub optional_peers: Vec<String>,
    /// `overrides`.
    pub overrides: Vec<Override>,
    /// `workspaces`, as patterns.
    pub workspaces: Vec<String>,
    /// `bin`: command name to path inside the package.
    pub bin: BTreeMap<String, String>,
}

/// One rule of `overrides`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// `name` or `name@range`: which dependencies.
    pub key: String,
    /// What replaces them: a range, or `$name` for the project's own range. `None` where only inner rules apply.
    pub value: Option<String>,
    /// Rules for what stands below them.
    pub nested: Vec<Override>,
}

impl RootManifest {
    /// The requirement that the project itself has for a name, in the order in which npm's `$name` looks.
    pub fn declared(&self, name: &str) -> Option<&str> {
        self.tables().into_iter().find_map(|table| table.get(name)).map(String::as_str)
    }

    /// All that it asks for, the table that counts first where several have a name.
    pub fn tables(&self) -> [&Dependencies; 4] {
        [
            &self.dev_dependencies,
            &self.optional_dependencies,
            &self.dependencies,
            &self.peer_dependencies,
        ]
    }
}

/// Reads a package.json. `file` is for messages.
pub fn read(file: &str, text: &str) -> Result<RootManifest, Error> {
    let (text, _) = without_bom(file, text)?;
    let object = parse(file, text)?;
    let optional_dependencies = table(file, &object, "optionalDependencies")?;
    let mut dependencies = table(file, &object, "dependencies")?;
    dependencies.retain(|name, _| !optional_dependencies.contains_key(name));
    let optional_peers = match object.get("peerDependenciesMeta") {
        Some(Value::Object(meta)) => meta
            .iter()
            .filter(|(_, one)| one.get("optional") == Some(&Value::Bool(true)))
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    };
    let plain = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(RootManifest {
        name: plain("name"),
        version: plain("version"),
        dependencies,
        dev_dependencies: table(file, &object, "devDependencies")?,
        optional_dependencies,
        peer_dependencies: table(file, &object, "peerDependencies")?,
        optional_peers,
        overrides: match object.get("overrides") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(rules)) => overrides(file, rules, 0)?,
            Some(_) => return Err(invalid(file, "`overrides` is not an object")),
        },
        workspaces: workspaces(file, &object)?,
        bin: commands(&object),
    })
}

fn parse(file: &str, text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(invalid(file, "a package.json is an object, `{ ... }`")),
        Err(error) => {
            let full = error.to_string();
            let problem = full.split(" at line ").next().unwrap_or(&full);
            Err(syntax_error(file, error.line().max(1), error.column().max(1), problem))
        }
    }
}

fn table(file: &str, object: &Map<String, Value>, key: &str) -> Result<Dependencies, Error> {
    let entries = match object.get(key) {
        None | Some(Value::Null) => return Ok(Dependencies::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(invalid(file, format!("`{key}` is not an object"))),
    };
    let mut table = Dependencies::new();
    for (name, want) in entries {
        check_name(Ecosystem::Npm, name)
            .map_err(|error| invalid(file, format!("in `{key}`, {}", error.message)))?;
        let Value::String(want) = want else {
            return Err(invalid(file, format!("the version of `{name}` in `{key}` is not a text")));
        };
        table.insert(name.clone(), want.clone());
    }
    Ok(table)
}

fn overrides(file: &str, rules: &Map<String, Value>, depth: usize) -> Result<Vec<Override>, Error> {
    if depth > MANIFEST_DEPTH_MAX {
        return Err(invalid(
            file,
            format!("`overrides` is nested deeper than {MANIFEST_DEPTH_MAX}"),
        ));
    }
    let mut list = Vec::new();
    for (key, value) in rules {
        if key == "." {
            continue;
        }
        list.push(match value {
            Value::String(value) => {
                Override { key: key.clone(), value: Some(value.clone()), nested: Vec::new() }
            }
            Value::Object(inner) => Override {
                key: key.clone(),
                value: inner.get(".").and_then(Value::as_str).map(str::to_owned),
                nested: overrides(file, inner, depth + 1)?,
            },
            _ => {
                let problem = format!("the override of `{key}` is neither a text nor an object");
                return Err(invalid(file, problem));
            }
        });
    }
    Ok(list)
}

/// The commands of a package; a single one has the package's name without its scope.
fn commands(object: &Map<String, Value>) -> BTreeMap<String, String> {
    match (object.get("bin"), object.get("name").and_then(Value::as_str)) {
        (Some(Value::String(path)), Some(name)) => {
            let command = name.rsplit('/').next().unwrap_or(name);
            BTreeMap::from([(command.to_owned(), path.clone())])
        }
        (Some(Value::Object(table)), _) => table
            .iter()
            .filter_map(|(name, path)| Some((name.clone(), path.as_str()?.to_owned())))
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn workspaces(file: &str, object: &Map<String, Value>) -> Result<Vec<String>, Error> {
    let list = match object.get("workspaces") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(inner)) => inner.get("packages").and_then(Value::as_array),
        Some(value) => value.as_array(),
    };
    let patterns =
        list.map(|list| list.iter().map(|one| one.as_str().map(str::to_owned)).collect());
    patterns.flatten().ok_or_else(|| invalid(file, "`workspaces` is not a list of patterns"))
}

/// What is written into `dependencies` for a requirement that was asked for and the version that was chosen:
/// an exact version as such, a range or an archive as it was asked, else (nothing, a tag) the caret range of the version.
pub fn saved_requirement(asked: &str, resolved: &str) -> String {
    let asked = asked.trim();
    if named::named(asked).is_some() {
        return asked.to_owned();
    }
    if let Ok(version) = Version::parse_loose(asked) {
        return version.to_string();
    }
    let is_alias = asked.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("npm:"));
    if !matches!(asked, "" | "*") && (is_alias || Range::parse(asked).is_ok()) {
        return asked.to_owned();
    }
    format!("^{resolved}")
}

/// What a new file begins with.
const EMPTY: &str = "{}\n";

/// The text with dependencies added or changed; `None` is a file that does not exist yet.
///
/// A name that already stands in `devDependencies` or `optionalDependencies` is changed there, as npm does.
pub fn add(file: &str, text: Option<&str>, wanted: &[(&str, &str)]) -> Result<String, Error> {
    let Some(text) = text else {
        for (name, _) in wanted {
            check_name(Ecosystem::Npm, name)?;
        }
        return match fresh::text(wanted) {
            Some(text) => Ok(text),
            None => add(file, Some(EMPTY), wanted),
        };
    };
    let (text, bom) = without_bom(file, text)?;
    let mut text = text.to_owned();
    for (name, want) in wanted {
        check_name(Ecosystem::Npm, name)?;
        text = add_one(file, &text, name, want)?;
    }
    Ok(with_bom(text, bom))
}

fn add_one(file: &str, text: &str, name: &str, want: &str) -> Result<String, Error> {
    let (root, object) = open(file, text)?;
    let value = CstInputValue::String(want.to_owned());
    let existing = ["devDependencies", "optionalDependencies", "dependencies"]
        .into_iter()
        .find_map(|table| object.object_value(table)?.get(name));
    match existing {
        Some(property) => {
            let same = property.value().and_then(|value| value.to_serde_value());
            if same.is_none_or(|old| old != *want) {
                property.set_value(value);
            }
        }
        None => {
            if let Some(text) = insert_in_line(text, name, want) {
                return Ok(text);
            }
            let table = object.object_value_or_set("dependencies");
            let names = table.properties().iter().filter_map(|one| one.decoded_name()).collect();
            table.insert(position(names, name), name, value);
        }
    }
    Ok(root.to_string())
}

/// Adds to a table that stands in one line, in one line; the tree editor would break it into several.
fn insert_in_line(text: &str, name: &str, want: &str) -> Option<String> {
    let options = ParseOptions::default();
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &options).ok()?;
    let table = parsed.value.as_ref()?.as_object()?.get_object("dependencies")?;
    let properties = &table.properties;
    let first = properties.first()?;
    if text.get(table.range.start..table.range.end)?.contains('\n') {
        return None;
    }
    let comma = match properties.get(1) {
        Some(second) => text.get(first.range.end..second.range.start)?,
        None => ", ",
    };
    let head = text.get(first.range.start..first.value.range().start)?;
    let colon = &head[head.rfind('"')? + 1..];
    let entry = format!("{}{colon}{}", Value::from(name), Value::from(want));
    let names = properties.iter().map(|one| one.name.as_str().to_owned()).collect();
    let (at, entry) = match properties.get(position(names, name)) {
        Some(next) => (next.range.start, format!("{entry}{comma}")),
        None => (properties.last()?.range.end, format!("{comma}{entry}")),
    };
    Some(format!("{}{entry}{}", text.get(..at)?, text.get(at..)?))
}

/// The text without dependencies of these names, in whichever table they stand; an empty table goes too.
/// `peerDependencies` are not touched: they are a promise to others, not a wish.
pub fn remove(file: &str, text: &str, names: &[&str]) -> Result<String, Error> {
    let (text, bom) = without_bom(file, text)?;
    let (root, object) = open(file, text)?;
    for key in ["dependencies", "devDependencies", "optionalDependencies"] {
        let Some(table) = object.object_value(key) else { continue };
        let mut removed = false;
        for name in names {
            if let Some(property) = table.get(name) {
                property.remove();
                removed = true;
            }
        }
        if removed
            && table.properties().is_empty()
            && let Some(property) = object.get(key)
        {
            property.remove();
        }
    }
    Ok(with_bom(root.to_string(), bom))
}

fn open(file: &str, text: &str) -> Result<(CstRootNode, CstObject), Error> {
    // The strict reading comes first: the editor's parser would let comments pass.
    let parsed = parse(file, text)?;
    for key in ["dependencies", "devDependencies", "optionalDependencies"] {
        table(file, &parsed, key)?;
    }
    let root = CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| {
        let problem = error.kind().to_string();
        syntax_error(file, error.line_display(), error.column_display(), &problem)
    })?;
    let object = root
        .object_value()
        .ok_or_else(|| invalid(file, "a package.json is an object, `{ ... }`"))?;
    if let Some(name) = twice(&object) {
        return Err(invalid(file, format!("`{name}` stands twice")));
    }
    for key in ["dependencies", "devDependencies", "optionalDependencies"] {
        if let Some(name) = object.object_value(key).and_then(|table| twice(&table)) {
            return Err(invalid(file, format!("`{name}` stands twice in `{key}`")));
        }
    }
    Ok((root, object))
}

/// A key that an object has more than once: npm would take the last one, the editor the first.
fn twice(object: &CstObject) -> Option<String> {
    let properties = object.properties();
    let mut names: Vec<String> =
        properties.iter().filter_map(|property| property.decoded_name()).collect();
    names.sort();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
}

/// Where a new name goes: in order where the names are in order, else last.
fn position(names: Vec<String>, name: &str) -> usize {
    let keys: Vec<Box<[u8]>> = names.iter().map(|name| sort_key(name)).collect();
    if !keys.is_sorted() {
        return keys.len();
    }
    let key = sort_key(name);
    keys.partition_point(|other| *other < key)
}
