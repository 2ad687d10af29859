//! `[tool.uv.sources]`: where single packages come from that a project needs. A path and an address become part of the requirement; a
//! source that cannot be followed is refused, because the package that an index has under the same name may be a stranger's.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep508_rs::{MarkerTree, PackageName, Requirement, VersionOrUrl};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::super::address::{self, git};
use super::invalid;
use crate::error::Error;
use agents_versions::shorten;

/// The sources of a project, by package.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<PackageName, Vec<Source>>);

#[derive(Debug)]
struct Source {
    from: From,
    marker: MarkerTree,
}

#[derive(Debug)]
enum From {
    /// As a requirement names it.
    Address(VersionOrUrl),
    /// An index by its name.
    Index(String),
    /// Why it is not followed.
    Refused(String),
}

/// Reads the table.
pub(super) fn read(file: &str, document: &DocumentMut) -> Result<Sources, Error> {
    let settings = document.get("tool").and_then(|tool| tool.get("uv"));
    let Some(table) = settings.and_then(|uv| uv.get("sources")) else {
        return Ok(Sources::default());
    };
    let bad = |what: &str| invalid(file, format!("`tool.uv.sources` {what}"));
    let Some(table) = table.as_table_like() else { return Err(bad("is not a table")) };
    let mut sources = Sources::default();
    for (name, item) in table.iter() {
        let shown = shorten(name);
        let name = PackageName::from_str(name).map_err(|_| bad(&format!("names `{shown}`")))?;
        let tables = tables(item).ok_or_else(|| bad(&format!("has no table for `{name}`")))?;
        let found = tables.into_iter().map(|table| source(file, &name, table));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        if found.len() > 1 && found.iter().any(|one| matches!(one.from, From::Index(_))) {
            return Err(bad(&format!("has an index and another source for `{name}` at once")));
        }
        sources.0.insert(name.clone(), found);
    }
    Ok(sources)
}

/// One table, or a list of them.
fn tables(item: &Item) -> Option<Vec<&dyn TableLike>> {
    if let Some(table) = item.as_table_like() {
        return Some(vec![table]);
    }
    if let Some(tables) = item.as_array_of_tables() {
        return Some(tables.iter().map(|table| table as &dyn TableLike).collect());
    }
    let list = item.as_array()?;
    list.iter().map(|one| one.as_inline_table().map(|table| table as &dyn TableLike)).collect()
}

fn source(file: &str, name: &PackageName, table: &dyn TableLike) -> Result<Source, Error> {
    let text = |key: &str| table.get(key).and_then(Item::as_value).and_then(Value::as_str);
    let bad = |why: &str| invalid(file, format!("`tool.uv.sources`: `{name}` {why}"));
    let marker = match text("marker") {
        Some(marker) => {
            let whole = crate::io::pypi::core_metadata::requirement(&format!("{name} ; {marker}"));
            whole.map_err(|_| bad("has a marker that cannot be read"))?.marker
        }
        None => MarkerTree::TRUE,
    };
    let refused = |what: &str| From::Refused(format!("comes from {what}"));
    let is_editable = table.get("editable").and_then(Item::as_bool) == Some(true);
    let from = match (text("path").or(text("url")), text("index")) {
        _ if table.contains_key("workspace") => refused("a workspace, whose members are not built"),
        _ if table.contains_key("extra") || table.contains_key("group") => {
            refused("a source for an extra or a group only, which is not followed")
        }
        _ if table.contains_key("git") => match repository(name, table) {
            Ok(address) => From::Address(address),
            Err(why) => From::Refused(why),
        },
        (Some(address), None) => match address_of(name, address, is_editable) {
            Ok(address) => From::Address(address),
            Err(why) => From::Refused(why),
        },
        (None, Some(_)) if marker != MarkerTree::TRUE => {
            refused("an index under a marker, which is not followed")
        }
        (None, Some(index)) => From::Index(index.to_owned()),
        _ => return Err(bad("has no source of a known kind")),
    };
    Ok(Source { from, marker })
}

/// A repository, and which branch, tag or commit of it.
fn repository(name: &PackageName, table: &dyn TableLike) -> Result<VersionOrUrl, String> {
    const KNOWN: [&str; 6] = ["git", "rev", "tag", "branch", "subdirectory", "marker"];
    let text = |key: &str| table.get(key).and_then(Item::as_str);
    if let Some((key, _)) = table.iter().find(|(key, _)| !KNOWN.contains(key)) {
        return Err(format!("comes from git with `{}`, which is not followed", shorten(key)));
    }
    let is_other = |key: &&&str| table.contains_key(key) && text(key).is_none();
    if let Some(key) = KNOWN.iter().find(is_other) {
        return Err(format!("comes from git with a `{key}` that is not a text"));
    }
    let place = text("git").unwrap_or_default();
    let place = place.strip_prefix(git::PREFIX).unwrap_or(place);
    let behind_host = place.split_once("://").map_or(place, |(_, rest)| rest);
    let path = behind_host.find('/').map_or("", |at| &behind_host[at..]);
    if !place.contains("://") || path.contains(['@', '#']) {
        let shown = shorten(&address::masked(place));
        return Err(format!(
            "comes from `{shown}`, which is no address such as `https://HOST/x.git`"
        ));
    }
    let of = |key: &str, begin: &str| text(key).map(|it| format!("@{begin}{it}"));
    let named = [of("rev", ""), of("tag", git::TAGS), of("branch", git::HEADS)];
    let mut named = named.into_iter().flatten();
    let (revision, None) = (named.next().unwrap_or_default(), named.next()) else {
        return Err("has more than one of `rev`, `tag` and `branch`".to_owned());
    };
    // A path here, and a part of an address there.
    let directory = text("subdirectory").map(|it| utf8_percent_encode(it, NON_ALPHANUMERIC));
    let directory = directory.map(|it| format!("#subdirectory={it}")).unwrap_or_default();
    let line = format!("{name} @ {}{place}{revision}{directory}", git::PREFIX);
    let requirement = super::super::python_requirement(&line, &address::unknown)?;
    requirement.version_or_url.ok_or_else(|| "has no address".to_owned())
}

fn address_of(
    name: &PackageName,
    address: &str,
    is_editable: bool,
) -> Result<VersionOrUrl, String> {
    let option = if is_editable { "-e " } else { "" };
    let line = format!("{option}{name} @ {address}");
    let shown = address::masked(&line);
    let requirement = super::super::python_requirement(&line, &address::unknown)?;
    requirement.version_or_url.ok_or(shown)
}

impl Sources {
    /// The requirements with what the sources make of them.
    pub(super) fn apply(
        &self,
        file: &str,
        requirements: Vec<Requirement>,
    ) -> Result<Vec<Requirement>, Error> {
        let mut all = Vec::with_capacity(requirements.len());
        for requirement in requirements {
            let Some(sources) = self.0.get(&requirement.name) else {
                all.push(requirement);
                continue;
            };
            let name = &requirement.name;
            if matches!(requirement.version_or_url, Some(VersionOrUrl::Url(_))) {
                let problem = format!("`{name}` has an address and a source in `tool.uv.sources`");
                return Err(invalid(file, problem));
            }
            let mut rest = requirement.marker.clone();
            for Source { from, marker } in sources {
                let mut changed = requirement.clone();
                changed.marker.and(marker.clone());
                rest.and(marker.negate());
                match from {
                    From::Address(address) => changed.version_or_url = Some(address.clone()),
                    From::Index(_) => {}
                    From::Refused(why) => {
                        let problem = format!("`tool.uv.sources`: `{name}` {why}");
                        return Err(invalid(file, problem));
                    }
                }
                all.push(changed);
            }
            if !rest.is_false() {
                all.push(Requirement { marker: rest, ..requirement });
            }
        }
        Ok(all)
    }

    /// The packages that come from no index.
    pub(super) fn elsewhere(&self) -> BTreeSet<String> {
        let is_elsewhere = |source: &Source| !matches!(source.from, From::Index(_));
        let named = self.0.iter().filter(|(_, sources)| sources.iter().any(is_elsewhere));
        named.map(|(name, _)| name.to_string()).collect()
    }

    /// Which packages come from which index.
    pub(super) fn indexes(&self) -> Vec<(PackageName, String)> {
        let lines = self.0.iter().flat_map(|(name, sources)| {
            sources.iter().filter_map(move |source| match &source.from {
                From::Index(index) => Some((name.clone(), index.clone())),
                _ => None,
            })
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    fn project(sources: &str) -> String {
        format!(
            "[project]\nname = 'p'\ndependencies = ['a[x]>=1', 'b', \"c ; os_name == 'nt'\"]\n\
             [tool.uv.sources]\n{sources}\n"
        )
    }

    #[track_caller]
    fn check(sources: &str, expected: &[&str]) {
        let read = read("pyproject.toml", &project(sources)).expect("read").expect("a project");
        let found: Vec<String> = read.dependencies.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sources_become_part_of_requirements() {
        let c = "c ; os_name == 'nt'";
        check(
            "A = { path = 'dist/a-1-py3-none-any.whl' }",
            &["a[x] @ project:///dist/a-1-py3-none-any.whl", "b", c],
        );
        check(
            "b = [{ url = 'https://h/b-1-py3-none-any.whl', marker = \"os_name == 'nt'\" }]",
            &[
                "a[x]>=1",
                "b @ https://h/b-1-py3-none-any.whl ; os_name == 'nt'",
                "b ; os_name != 'nt'",
                c,
            ],
        );
        check("a = { path = '../lib/a' }", &["a[x] @ project://parent/lib/a", "b", c]);
        let editable = "a = { path = '../lib/a', editable = true }";
        check(editable, &["a[x] @ project://parent/lib/a#editable", "b", c]);
        check("d = { git = 'https://h/d' }", &["a[x]>=1", "b", c]);
        for (source, expected) in [
            ("git = 'https://h/a.git'", "a[x] @ git+https://h/a.git"),
            ("git = 'ssh://git@h/a', rev = 'v1'", "a[x] @ git+ssh://git@h/a@v1"),
            ("git = 'git+https://h/a', tag = 'v1'", "a[x] @ git+https://h/a@refs/tags/v1"),
            (
                "git = 'https://h/a', branch = 'b/c', subdirectory = 'd e/f%20'",
                "a[x] @ git+https://h/a@refs/heads/b/c#subdirectory=d%20e/f%2520",
            ),
        ] {
            check(&format!("a = {{ {source} }}"), &[expected, "b", c]);
        }
        let text = project("b = { index = 'mine' }");
        let read = read("pyproject.toml", &text).expect("read").expect("a project");
        assert_eq!(read.indexes, [("b".parse().expect("a name"), "mine".to_owned())]);
    }

    #[test]
    fn a_source_that_cannot_be_followed_is_refused() {
        for (sources, why) in [
            ("a = { git = 'https://hush@h/a' }", "a login"),
            ("a = { git = 'http://h/a' }", "not supported"),
            ("a = { git = 'git@h:a/b.git' }", "no address"),
            ("a = { git = 'https://h/a@v1' }", "no address"),
            ("a = { git = 'https://h/a', rev = '--x' }", "no branch, tag or commit"),
            ("a = { git = 'https://h/a', rev = 'b', tag = 'c' }", "more than one"),
            ("a = { git = 'https://h/a', rev = 1 }", "not a text"),
            ("a = { git = 'https://h/a', lfs = true }", "`lfs`"),
            ("a = { git = 'https://h/a', subdirectory = '../b' }", "subdirectory"),
            ("a = { workspace = true }", "workspace"),
            ("a = { path = 'a-1.zip', editable = true }", "editable"),
            ("a = { url = 'https://me:hush@h/a-1-py3-none-any.whl' }", "netrc"),
            ("a = { index = 'i', marker = \"os_name == 'nt'\" }", "marker"),
            ("a = { index = 'i', extra = 'x' }", "extra"),
            ("a = [{ index = 'i' }, { index = 'j' }]", "at once"),
            ("a = { }", "known kind"),
            ("a = 1", "no table"),
            ("a = { path = 'a-1-py3-none-any.whl', marker = '!' }", "cannot be read"),
        ] {
            let error = read("pyproject.toml", &project(sources)).expect_err(sources);
            assert_eq!(error.code, "manifest-invalid", "{sources}");
            assert!(error.message.contains(why), "{sources}: {}", error.message);
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
