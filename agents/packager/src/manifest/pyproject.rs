//! `pyproject.toml`: `[project] dependencies`, read and edited in place.
//!
//! Dependency groups and optional dependencies are read and never edited; tools' own tables are left alone, but for what uv is told of
//! the groups that a project's environment has, and of where single packages come from.

use std::collections::BTreeSet;

use pep508_rs::{PackageName, Requirement};
use toml_edit::{Array, DocumentMut, Formatted, Item, Value};

use super::{invalid, read_toml, with_bom, with_line_ends_of, without_bom};
use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::spec::normalize_name;
use agents_versions::shorten;

mod groups;
mod sources;
#[cfg(test)]
mod tests;

/// What a project says about itself.
#[derive(Clone, Debug, Default)]
pub struct PyProject {
    /// `name`.
    pub name: Option<String>,
    /// `requires-python`, as written.
    pub requires_python: Option<String>,
    /// `dependencies`.
    pub dependencies: Vec<Requirement>,
    /// What the groups need that belong to the environment of whoever works on the project: those that
    /// `tool.uv.default-groups` names, else `dev`.
    pub development: Vec<Requirement>,
    /// Which packages come from an index of their own, by its name.
    pub indexes: Vec<(PackageName, String)>,
    /// Packages that come from no index, by `tool.uv.sources`.
    pub elsewhere: BTreeSet<String>,
}

/// Reads `[project]`; `None` where there is no such table. `file` is for messages.
pub fn read(file: &str, text: &str) -> Result<Option<PyProject>, Error> {
    let (text, _) = without_bom(file, text)?;
    let document = read_toml(file, text)?;
    let Some(project) = document.get("project") else { return Ok(None) };
    let Some(project) = project.as_table_like() else {
        return Err(invalid(file, "`project` is not a table"));
    };
    refuse_dynamic(file, &document)?;
    let plain = |key: &str| project.get(key).and_then(Item::as_str).map(str::to_owned);
    let dependencies = match project.get("dependencies") {
        Some(item) => requirements(file, "project.dependencies", item)?,
        None => Vec::new(),
    };
    let sources = sources::read(file, &document)?;
    Ok(Some(PyProject {
        name: plain("name"),
        requires_python: plain("requires-python"),
        dependencies: sources.apply(file, dependencies)?,
        development: sources.apply(file, groups::development(file, &document)?)?,
        indexes: sources.indexes(),
        elsewhere: sources.elsewhere(),
    }))
}

/// A list of requirements; `place` is for messages.
fn requirements(file: &str, place: &str, item: &Item) -> Result<Vec<Requirement>, Error> {
    let Some(list) = item.as_array() else {
        return Err(invalid(file, format!("`{place}` is not a list")));
    };
    let line = |value: &Value| match value.as_str() {
        Some(line) => requirement(file, place, line),
        None => Err(invalid(file, format!("`{place}` has something that is not a text"))),
    };
    list.iter().map(line).collect()
}

fn requirement(file: &str, place: &str, line: &str) -> Result<Requirement, Error> {
    if super::address::is_unnamed(line) {
        let problem = format!("`{}` has no name", shorten(&super::address::masked(line)));
        return Err(invalid(file, problem).hint("write it as `name @ ADDRESS`"));
    }
    if super::address::editable(line).is_some() {
        let problem = format!("`{}` is an option of pip's", shorten(line));
        return Err(invalid(file, problem)
            .hint("write `name` there, and `name = { path = \"...\", editable = true }` in `[tool.uv.sources]`"));
    }
    super::python_requirement(line, &super::address::unknown)
        .map_err(|problem| invalid(file, format!("in `{place}`, {problem}")))
}

fn refuse_dynamic(file: &str, document: &DocumentMut) -> Result<(), Error> {
    let dynamic = document
        .get("project")
        .and_then(|project| project.get("dynamic"))
        .and_then(Item::as_array)
        .is_some_and(|list| list.iter().any(|one| one.as_str() == Some("dependencies")));
    if dynamic {
        return Err(invalid(
            file,
            "its dependencies are `dynamic`: a build would have to be run to learn them",
        ));
    }
    Ok(())
}

fn name_of(line: &str) -> Option<String> {
    let len = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(line.len());
    normalize_name(Ecosystem::Pypi, &line[..len]).ok()
}

/// The text with requirements added or changed; a changed one keeps its marker.
pub fn add(file: &str, text: &str, wanted: &[&str]) -> Result<String, Error> {
    edit(file, text, |file, list| {
        for line in wanted {
            let name = name_of(line)
                .ok_or_else(|| invalid(file, format!("`{}` has no name", shorten(line))))?;
            let at: Vec<usize> = list
                .iter()
                .enumerate()
                .filter(|(_, one)| one.as_str().and_then(name_of).as_ref() == Some(&name))
                .map(|(at, _)| at)
                .collect();
            match at.as_slice() {
                [] => push(list, line),
                [at] => replace(list, *at, line),
                _ => {
                    let problem = format!(
                        "`{name}` stands twice in `project.dependencies`; change it by hand"
                    );
                    return Err(invalid(file, problem));
                }
            }
        }
        Ok(())
    })
}

/// The text without the requirements of these names.
pub fn remove(file: &str, text: &str, names: &[&str]) -> Result<String, Error> {
    let names: Vec<String> = names.iter().filter_map(|name| name_of(name)).collect();
    edit(file, text, |_, list| {
        for at in (0..list.len()).rev() {
            let name = list.get(at).and_then(Value::as_str).and_then(name_of);
            if name.is_some_and(|name| names.contains(&name)) {
                pull(list, at);
            }
        }
        Ok(())
    })
}

fn edit(
    file: &str,
    text: &str,
    change: impl FnOnce(&str, &mut Array) -> Result<(), Error>,
) -> Result<String, Error> {
    let (text, bom) = without_bom(file, text)?;
    let mut document = read_toml(file, text)?;
    refuse_dynamic(file, &document)?;
    let Some(project) = document.get_mut("project").and_then(Item::as_table_like_mut) else {
        return Err(invalid(file, "it has no `[project]` table to put dependencies into")
            .hint("add `[project]` with `name` and `version`, or use a requirements.txt"));
    };
    let existed = project.contains_key("dependencies");
    let item = project.entry("dependencies").or_insert_with(|| toml_edit::value(Array::new()));
    let Some(list) = item.as_array_mut() else {
        return Err(invalid(file, "`project.dependencies` is not a list"));
    };
    let before = list.len();
    change(file, list)?;
    if !existed && list.is_empty() {
        project.remove("dependencies");
    } else if existed && before == list.len() && document.to_string() == text {
        return Ok(with_bom(text.to_owned(), bom));
    }
    Ok(with_bom(with_line_ends_of(text, document.to_string()), bom))
}

fn text_of(raw: Option<&toml_edit::RawString>) -> String {
    raw.and_then(toml_edit::RawString::as_str).unwrap_or_default().to_owned()
}

/// Adds at the end, in the manner of the list: one line, or one line each.
fn push(list: &mut Array, line: &str) {
    let trailing = text_of(Some(list.trailing()));
    let last = list.iter().last().map(|last| text_of(last.decor().prefix()));
    let several_lines =
        trailing.contains('\n') || last.as_deref().is_some_and(|p| p.contains('\n'));
    let mut value = Value::String(Formatted::new(line.to_owned()));
    if !several_lines {
        let prefix = if list.is_empty() { "" } else { " " };
        value.decor_mut().set_prefix(prefix);
        list.push_formatted(value);
        return;
    }
    let indent = match &last {
        Some(last) => last.rsplit('\n').next().unwrap_or_default().to_owned(),
        None => "    ".to_owned(),
    };
    // A comment behind the last entry is the list's end; it stays behind that entry.
    let comment = if trailing.contains('#') { trailing.trim_end() } else { "" };
    value.decor_mut().set_prefix(format!("{comment}\n{indent}"));
    list.push_formatted(value);
    let close =
        trailing.rsplit('\n').next().filter(|_| trailing.contains('\n')).unwrap_or_default();
    list.set_trailing(format!("\n{close}"));
    list.set_trailing_comma(true);
}

fn replace(list: &mut Array, at: usize, line: &str) {
    let Some(old) = list.get(at) else { return };
    let text = old.as_str().unwrap_or_default();
    let (head, marker) = text.split_once(';').unwrap_or((text, ""));
    if head.trim() == line {
        return;
    }
    let line = match marker.trim() {
        "" => line.to_owned(),
        marker => format!("{line}; {marker}"),
    };
    // `replace` keeps the spaces and comments around the entry.
    list.replace(at, line);
}

/// Takes an entry out; the comments before it stay with their line.
fn pull(list: &mut Array, at: usize) {
    let prefix = text_of(list.get(at).and_then(|one| one.decor().prefix()));
    list.remove(at);
    let kept = match prefix.rfind('\n') {
        Some(end) if prefix.contains('#') => prefix[..end].to_owned(),
        _ => String::new(),
    };
    if let Some(next) = list.get_mut(at) {
        let own = text_of(next.decor().prefix());
        let own = if at == 0 && !own.contains('\n') { own.trim_start().to_owned() } else { own };
        next.decor_mut().set_prefix(format!("{kept}{own}"));
    } else {
        let trailing = text_of(Some(list.trailing()));
        list.set_trailing(format!("{kept}{trailing}"));
        if list.is_empty() && kept.is_empty() && !trailing.contains('#') {
            list.set_trailing("");
            list.set_trailing_comma(false);
        }
    }
}
