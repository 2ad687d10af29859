//! The path that a virtual environment was made for, by what it says of itself: the first lines of its commands name the
//! interpreter at that path, so an environment that was copied or moved along with its project works for the old place, or not
//! at all. What it says may be anybody's: it is compared and shown, and nothing there is opened.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::same_name;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::pypi::{INSTALLER, Installed, installed, site_packages_of};
use crate::limits::{ENVIRONMENT_PATH_BYTES_MAX, PYVENV_BYTES_MAX};
use crate::plan::{Plan, Rebuild};
use crate::resolution::Package;
use crate::transaction::{Project, RelativePath};

/// What environments are made with.
const SEEDS: [&str; 3] = ["pip", "setuptools", "wheel"];
/// Packages of others that a refusal names.
const OTHERS_SHOWN_MAX: usize = 10;
/// What `venv` writes in front of the path in `command`.
const MODULE: &str = " -m venv ";

/// The path that the environment at `place` was made for, where that is not where it is. Whatever does not say it clearly is
/// believed to be right: environments of other tools may well be movable.
pub(in crate::operations) fn made_for_another_path(
    project: &Project,
    place: &RelativePath,
) -> Option<String> {
    let live = project.path().join(place.as_str());
    let said = match read(project, place, "pyvenv.cfg") {
        Some(text) => by_command(&text, live.to_str()?),
        None => None,
    };
    let said = said.or_else(|| by_activation(&read(project, place, "bin/activate")?))?;
    let is_plain = said.len() <= ENVIRONMENT_PATH_BYTES_MAX && said.starts_with('/');
    (is_plain && !is_same_directory(Path::new(&said), &live)).then_some(said)
}

/// Refuses to make environments anew for their present path where others put packages into them: only those who put them there can
/// bring them back.
pub(in crate::operations) fn check_others(project: &Project, plan: &Plan) -> Result<()> {
    let of_plan = plan.resolutions.iter().filter(|it| it.ecosystem == Ecosystem::Pypi);
    let of_plan: Vec<&Package> = of_plan.flat_map(|it| &it.packages).collect();
    let mut rebuilt = plan.environments.iter().filter(|it| it.ecosystem == Ecosystem::Pypi);
    rebuilt.try_for_each(|Rebuild { place, .. }| match others_in(project, place, &of_plan)? {
        None => Ok(()),
        Some(message) => Err(Error::new(Kind::Verification, "made-elsewhere", message).hint(
            "put them into the manifest, or use --force: they are not in the new one then, and \
             `bolide rollback` brings the old one back",
        )),
    })
}

/// Why one of them is not made anew for the packages that it will have, if so.
pub(in crate::operations) fn others_in(
    project: &Project,
    place: &RelativePath,
    packages: &[&Package],
) -> Result<Option<String>> {
    let Some(path) = made_for_another_path(project, place) else { return Ok(None) };
    let refused = |others: &str| {
        let path = path.escape_debug();
        Ok(Some(format!(
            "`{place}` was made for `{path}` and has to be made anew, but Bolide did not install {others} there"
        )))
    };
    if sees_system(project, place) {
        return refused(
            "the packages of the interpreter (`include-system-site-packages`) that are seen",
        );
    }
    let live = project.path().join(place.as_str());
    let Some(site_packages) = site_packages_of(&live) else { return Ok(None) };
    let is_ours = |it: &Installed| {
        it.installer.as_deref() == Some(INSTALLER)
            || SEEDS.iter().any(|seed| same_name(seed, &it.name))
            || packages.iter().any(|package| same_name(&package.name, &it.name))
    };
    let present = installed(&live.join(site_packages))?;
    let others: Vec<String> = present
        .iter()
        .filter(|it| !is_ours(it))
        .take(OTHERS_SHOWN_MAX)
        .map(|it| format!("`{}`", it.name.escape_debug()))
        .collect();
    if others.is_empty() { Ok(None) } else { refused(&others.join(", ")) }
}

/// Whether an environment has the packages of its interpreter, too, which one of ours has not.
fn sees_system(project: &Project, place: &RelativePath) -> bool {
    let text = read(project, place, "pyvenv.cfg").unwrap_or_default();
    let mut values = text.lines().filter_map(|line| line.split_once('='));
    values.any(|(key, value)| {
        key.trim().eq_ignore_ascii_case("include-system-site-packages")
            && value.trim().eq_ignore_ascii_case("true")
    })
}

/// A file of the environment, reached without links.
fn read(project: &Project, place: &RelativePath, file: &str) -> Option<String> {
    let path = RelativePath::new(&format!("{place}/{file}")).ok()?;
    // What cannot be read says nothing.
    let bytes = project.read_file(&path).ok()??;
    let is_small = bytes.len() as u64 <= PYVENV_BYTES_MAX;
    is_small.then(|| String::from_utf8(bytes).ok()).flatten()
}

/// By the command that made it, which ends with the path. Options may stand in front of that.
fn by_command(text: &str, live: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once('='));
    let (_, command) = values.into_iter().find(|(key, _)| key.trim() == "command")?;
    let command = command.trim();
    if command.strip_suffix(live).is_some_and(|rest| rest.ends_with(' ')) {
        return Some(live.to_owned());
    }
    let (_, rest) = command.split_once(MODULE)?;
    match rest.starts_with('/') {
        true => Some(rest.to_owned()),
        false => rest.find(" /").and_then(|at| rest.get(at + 1..)).map(str::to_owned),
    }
}

/// By what `activate` would set, where that is a plain word.
fn by_activation(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim();
        let value = line.strip_prefix("export ").unwrap_or(line).strip_prefix("VIRTUAL_ENV=")?;
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        let is_plain = value.starts_with('/') && !value.contains(['$', '`', '"', '\'', '\\', ';']);
        is_plain.then(|| value.to_owned())
    })
}

/// Whether a path leads to the environment, if only through links or another mount.
fn is_same_directory(said: &Path, live: &Path) -> bool {
    let identity = |path: &Path| {
        let status = path.metadata().ok()?;
        Some((status.dev(), status.ino()))
    };
    said == live || identity(live).is_some_and(|here| identity(said) == Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> (tempfile::TempDir, Project) {
        let directory = tempfile::tempdir().expect("space");
        std::fs::create_dir_all(directory.path().join(".venv/bin")).expect("made");
        let project = Project::open(directory.path()).expect("a project");
        (directory, project)
    }

    fn said(project: &Project) -> Option<String> {
        made_for_another_path(project, &RelativePath::new(".venv").expect("plain"))
    }

    #[test]
    fn the_command_tells_with_options_and_blanks() {
        let (_directory, project) = project();
        let venv = project.path().join(".venv");
        let check = |command: &str, expected: Option<&str>| {
            let text = format!("home = /usr/bin\ncommand = /usr/bin/python3 -m venv {command}\n");
            std::fs::write(venv.join("pyvenv.cfg"), text).expect("written");
            assert_eq!(said(&project).as_deref(), expected, "{command}");
        };
        let here = venv.to_str().expect("text").to_owned();
        check(&here, None);
        check(&format!("--copies --prompt=/x {here}"), None);
        check("/old place/.venv", Some("/old place/.venv"));
        check("--copies /old/.venv", Some("/old/.venv"));
        check("old/.venv", None);
        let long = format!("/{}", "x".repeat(ENVIRONMENT_PATH_BYTES_MAX));
        check(&long, None);
        // The same directory by another name.
        let link = tempfile::tempdir().expect("space");
        let link = link.path().join("link");
        std::os::unix::fs::symlink(project.path(), &link).expect("a link");
        check(link.join(".venv").to_str().expect("text"), None);
    }

    #[test]
    fn without_a_command_activation_tells_and_a_computed_path_says_nothing() {
        let (_directory, project) = project();
        let venv = project.path().join(".venv");
        std::fs::write(venv.join("pyvenv.cfg"), "home = /usr/bin\n").expect("written");
        let check = |line: &str, expected: Option<&str>| {
            std::fs::write(venv.join("bin/activate"), format!("# hi\n{line}\n")).expect("written");
            assert_eq!(said(&project).as_deref(), expected, "{line}");
        };
        check("VIRTUAL_ENV=\"/old/.venv\"", Some("/old/.venv"));
        check("    export VIRTUAL_ENV='/old/.venv'", Some("/old/.venv"));
        check("export VIRTUAL_ENV=/old/.venv", Some("/old/.venv"));
        check(&format!("VIRTUAL_ENV='{}'", venv.display()), None);
        check("VIRTUAL_ENV=$(cd x && pwd)", None);
        check("VIRTUAL_ENV=\"/old/$x\"", None);
    }

    #[test]
    fn what_is_no_small_file_says_nothing() {
        let (_directory, project) = project();
        let config = project.path().join(".venv/pyvenv.cfg");
        let text = "command = python -m venv /old/.venv\n";
        let outside = project.path().join("outside");
        std::fs::write(&outside, text).expect("written");
        std::os::unix::fs::symlink(&outside, &config).expect("a link");
        assert_eq!(said(&project), None);
        std::fs::remove_file(&config).expect("removed");
        std::fs::create_dir(&config).expect("made");
        assert_eq!(said(&project), None);
        std::fs::remove_dir(&config).expect("removed");
        let padding = "x".repeat(usize::try_from(PYVENV_BYTES_MAX).expect("small"));
        std::fs::write(&config, format!("{text}{padding}")).expect("written");
        assert_eq!(said(&project), None);
    }
}
