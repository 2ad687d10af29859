//! Dependency groups (PEP 735) and the optional dependencies that they may ask for by the project's own name.

use std::collections::BTreeSet;

use pep508_rs::{ExtraName, PackageName, Requirement};
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::{invalid, requirement, requirements};
use crate::error::Error;
use crate::limits::{GROUP_REQUIREMENTS_MAX, MANIFEST_DEPTH_MAX};
use agents_versions::shorten;

/// The group that an environment for work on a project has where the project does not say.
const DEFAULT: &str = "dev";

/// What the default groups need; see [`super::PyProject::development`].
pub(super) fn development(file: &str, document: &DocumentMut) -> Result<Vec<Requirement>, Error> {
    let Some(table) = document.get("dependency-groups") else { return Ok(Vec::new()) };
    let Some(table) = table.as_table_like() else {
        return Err(invalid(file, "`dependency-groups` is not a table"));
    };
    let mut groups = Groups {
        file,
        document,
        table,
        above: Vec::new(),
        done: BTreeSet::new(),
        found: Vec::new(),
    };
    for name in defaults(file, document, table)? {
        groups.expand(&name)?;
    }
    groups.own_extras()
}

/// The groups that count by themselves.
fn defaults(
    file: &str,
    document: &DocumentMut,
    table: &dyn TableLike,
) -> Result<Vec<String>, Error> {
    let settings = document.get("tool").and_then(|tool| tool.get("uv"));
    let Some(said) = settings.and_then(|uv| uv.get("default-groups")) else {
        let has_default = table.iter().any(|(name, _)| normal(name) == DEFAULT);
        return Ok(has_default.then(|| DEFAULT.to_owned()).into_iter().collect());
    };
    if said.as_str() == Some("all") {
        return Ok(table.iter().map(|(name, _)| name.to_owned()).collect());
    }
    let names = said.as_array().and_then(|list| {
        list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    names.ok_or_else(|| invalid(file, "`tool.uv.default-groups` is not a list of names"))
}

/// Names of groups are compared as those of packages are.
fn normal(name: &str) -> String {
    let lower = name.to_ascii_lowercase().replace(['_', '.'], "-");
    lower.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

struct Groups<'d> {
    file: &'d str,
    document: &'d DocumentMut,
    table: &'d dyn TableLike,
    /// The groups that are being expanded, the outermost first.
    above: Vec<String>,
    /// Those that were: each counts once, however many include it.
    done: BTreeSet<String>,
    found: Vec<Requirement>,
}

impl Groups<'_> {
    fn expand(&mut self, name: &str) -> Result<(), Error> {
        let name = normal(name);
        let bad = |file: &str, why: &str| {
            Err(invalid(file, format!("the dependency group `{}` {why}", shorten(&name))))
        };
        if self.above.contains(&name) {
            return bad(self.file, "includes itself");
        }
        if self.above.len() >= MANIFEST_DEPTH_MAX {
            return bad(self.file, "is included through too many others");
        }
        if !self.done.insert(name.clone()) {
            return Ok(());
        }
        let mut same = self.table.iter().filter(|(key, _)| normal(key) == name);
        let Some((_, item)) = same.next() else { return bad(self.file, "is not there") };
        if same.next().is_some() {
            return bad(self.file, "is there twice");
        }
        let Some(list) = item.as_array() else { return bad(self.file, "is not a list") };
        self.above.push(name.clone());
        for entry in list {
            self.entry(&name, entry)?;
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, group: &str, entry: &Value) -> Result<(), Error> {
        if self.found.len() >= GROUP_REQUIREMENTS_MAX {
            return Err(invalid(self.file, "its dependency groups have too many requirements"));
        }
        if let Some(line) = entry.as_str() {
            let place = format!("dependency-groups.{group}");
            self.found.push(requirement(self.file, &place, line)?);
            return Ok(());
        }
        let table = entry.as_inline_table();
        let included =
            table.filter(|table| table.len() == 1).and_then(|it| it.get("include-group"));
        match included.and_then(Value::as_str) {
            Some(name) => self.expand(name),
            None => {
                let group = shorten(group);
                let problem =
                    format!("the dependency group `{group}` has an entry of no known kind");
                Err(invalid(self.file, problem))
            }
        }
    }

    /// Puts what extras of the project mean in the place of requirements on the project itself, which is not installed.
    fn own_extras(self) -> Result<Vec<Requirement>, Error> {
        let project = self.document.get("project");
        let name = project.and_then(|project| project.get("name")).and_then(Item::as_str);
        let Some(name) = name.and_then(|name| name.parse::<PackageName>().ok()) else {
            return Ok(self.found);
        };
        let optional = project.and_then(|project| project.get("optional-dependencies"));
        let optional = optional.and_then(Item::as_table_like);
        let (mut found, mut queue, mut seen) = (Vec::new(), self.found, BTreeSet::new());
        while let Some(requirement) = queue.pop() {
            if requirement.name != name {
                found.push(requirement);
                continue;
            }
            for extra in requirement.extras.into_iter().filter(|extra| seen.insert(extra.clone())) {
                let is_it = |key: &str| key.parse::<ExtraName>().is_ok_and(|key| key == extra);
                let items = optional.into_iter().flat_map(TableLike::iter);
                for (key, item) in items.filter(|(key, _)| is_it(key)) {
                    let place = format!("project.optional-dependencies.{key}");
                    queue.extend(requirements(self.file, &place, item)?);
                }
            }
            if queue.len() + found.len() > GROUP_REQUIREMENTS_MAX {
                return Err(invalid(self.file, "its extras have too many requirements"));
            }
        }
        found.reverse();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    fn development(text: &str) -> Result<Vec<String>, String> {
        let text = format!("[project]\nname = 'me'\n{text}");
        let read = read("pyproject.toml", &text).map_err(|error| error.message)?;
        Ok(read.expect("a project").development.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(development(text).expect("read"), expected);
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let message = development(text).expect_err("refused");
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn the_group_for_work_counts_with_what_it_includes() {
        check("[dependency-groups]\ndocs = ['d']\n", &[]);
        check(
            "[dependency-groups]\nDev = ['a', {include-group = 'T.est'}, 'b>=1']\nt_est = ['t']\n",
            &["a", "t", "b>=1"],
        );
    }

    #[test]
    fn the_project_may_name_other_groups() {
        let groups = "[dependency-groups]\ndev = ['a']\ndocs = ['d']\n[tool.uv]\n";
        check(&format!("{groups}default-groups = ['docs']\n"), &["d"]);
        check(&format!("{groups}default-groups = 'all'\n"), &["a", "d"]);
        check(&format!("{groups}default-groups = []\n"), &[]);
        refused(&format!("{groups}default-groups = ['gone']\n"), "`gone` is not there");
        refused(&format!("{groups}default-groups = 1\n"), "not a list of names");
    }

    #[test]
    fn extras_of_the_project_itself_stand_for_what_they_need() {
        let optional = "[project.optional-dependencies]\ntest = ['t', 'me[more]']\nmore = ['m']\n";
        check(
            &format!("{optional}[dependency-groups]\ndev = ['me[test]', 'a']\n"),
            &["t", "m", "a"],
        );
        let round = "[project.optional-dependencies]\nx = ['me[x]', 'y']\n";
        check(&format!("{round}[dependency-groups]\ndev = ['Me[X]']\n"), &["y"]);
    }

    #[test]
    fn groups_that_go_round_or_mean_nothing_are_refused() {
        let group = |entries: &str| format!("[dependency-groups]\ndev = {entries}\n");
        refused(&group("[{include-group = 'dev'}]"), "includes itself");
        refused(&group("[{include-group = 'gone'}]"), "is not there");
        refused(&group("[{include-group = 'x', other = 1}]"), "no known kind");
        refused(&group("[1]"), "no known kind");
        refused(&group("'a'"), "is not a list");
        refused(&group("['a==']"), "dependency-groups.dev");
        refused("[dependency-groups]\ndev = []\nDEV = []\n", "is there twice");
        let chain: String = (0..80)
            .map(|number| format!("g{number} = [{{include-group = 'g{}'}}]\n", number + 1))
            .collect();
        let chain =
            format!("[dependency-groups]\ndev = [{{include-group = 'g0'}}]\n{chain}g80 = []\n");
        refused(&chain, "through too many others");
    }

    #[test]
    fn groups_that_multiply_count_once() {
        let twice = |number: usize| {
            let next = format!("{{include-group = 'g{}'}}", number + 1);
            format!("g{number} = [{next}, {next}, 'a']\n")
        };
        let groups: String = (0..40).map(twice).collect();
        let text =
            format!("[dependency-groups]\ndev = [{{include-group = 'g0'}}]\n{groups}g40 = []\n");
        assert_eq!(development(&text).expect("read").len(), 40);
    }
}
