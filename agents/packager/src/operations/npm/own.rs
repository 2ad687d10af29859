//! The packages that an npm project has itself: its workspaces, and the directories that `file:` names in its manifests.
//! Found and read here; what they lead to is the resolver's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use super::MANIFEST;
use crate::error::{Error, Kind, Result};
use crate::io::environment::read_small;
use crate::limits::{MANIFEST_BYTES_MAX, WORKSPACE_DIRECTORIES_MAX};
use crate::manifest::package_json::named::{FILE, Named, named};
use crate::manifest::package_json::patterns::Patterns;
use crate::manifest::package_json::{self, Override, RootManifest};
use crate::metadata::npm::Dependencies;
use crate::operations::{fixed, read_text};
use crate::plan::Precondition;
use crate::resolve::npm::Local;
use crate::spec::check_name;
use crate::transaction::{Project, root_of_pattern};

/// What other tools than npm write before the path of a directory.
const LINK: &str = "link:";

/// Finds and reads them all. In the manifests, the root's too, `file:` texts then name places from the project.
/// `check_wanted` fails once nobody waits for them any more: a large project takes a while.
pub(super) fn find(
    project: &Project,
    root: &mut RootManifest,
    check_wanted: &dyn Fn() -> Result<()>,
) -> Result<Vec<Local>> {
    let mut found: BTreeMap<String, Local> = BTreeMap::new();
    if !root.workspaces.is_empty() {
        let patterns = Patterns::new(MANIFEST, &root.workspaces)?;
        for directory in root.workspaces.iter().filter_map(|pattern| root_of_pattern(pattern)) {
            project.note_listed(&directory);
        }
        for place in directories(project.path(), check_wanted)? {
            check_wanted()?;
            if !patterns.name(&place) {
                continue;
            }
            if let Some(local) = read(project, &place, true)? {
                found.insert(place, local);
            }
        }
    }
    refuse_twins(&found)?;
    let mut pending: Vec<String> = found.keys().cloned().collect();
    let mut named = settle(project, "", root)?;
    loop {
        for place in named.drain(..) {
            check_wanted()?;
            if found.contains_key(&place) {
                continue;
            }
            let Some(local) = read(project, &place, false)? else {
                let message = format!("`{place}` is named by `file:` and holds no `{MANIFEST}`");
                return Err(Error::new(Kind::Failed, "manifest-missing", message)
                    .hint("correct the path, or create the package"));
            };
            if found.len() >= WORKSPACE_DIRECTORIES_MAX {
                return Err(too_many());
            }
            if local.is_inside {
                pending.push(place.clone());
            }
            found.insert(place, local);
        }
        let Some(place) = pending.pop() else { break };
        if let Some(local) = found.get_mut(&place) {
            named = settle(project, &place, &mut local.manifest)?;
        }
    }
    // What lies outside is another project's: it is linked as it is.
    for local in found.values_mut().filter(|local| !local.is_inside) {
        local.manifest = RootManifest {
            name: local.manifest.name.take(),
            version: local.manifest.version.take(),
            bin: std::mem::take(&mut local.manifest.bin),
            ..RootManifest::default()
        };
    }
    Ok(found.into_values().collect())
}

/// Leaves the workspaces, and the directories that they, the root, or each other name.
pub(super) fn retain_named(root: &RootManifest, locals: &mut Vec<Local>) {
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let mut pending: Vec<&RootManifest> = vec![root];
    for local in locals.iter().filter(|local| local.is_workspace) {
        kept.insert(local.place.clone());
        pending.push(&local.manifest);
    }
    let places: BTreeMap<&str, &Local> =
        locals.iter().map(|local| (local.place.as_str(), local)).collect();
    while let Some(manifest) = pending.pop() {
        let texts = manifest.tables().into_iter().flat_map(|table| table.values());
        let named = texts.filter_map(|text| places.get(text.strip_prefix(FILE)?));
        for local in named {
            if kept.insert(local.place.clone()) {
                pending.push(&local.manifest);
            }
        }
    }
    locals.retain(|local| kept.contains(&local.place));
}

/// That their manifests stay as they were read.
pub(super) fn preconditions(project: &Project, locals: &[Local]) -> Result<Vec<Precondition>> {
    let inside = locals.iter().filter(|local| local.is_inside);
    inside
        .map(|local| Precondition::file(project, fixed(&format!("{}/{MANIFEST}", local.place))?))
        .collect()
}

fn read(project: &Project, place: &str, is_workspace: bool) -> Result<Option<Local>> {
    let path = format!("{place}/{MANIFEST}");
    let is_inside = !place.starts_with("../") && !place.starts_with('/') && place != "..";
    let text = match is_inside {
        true => read_text(project, &path)?,
        false => read_outside(&project.path().join(&path))?,
    };
    let Some(text) = text else { return Ok(None) };
    Ok(Some(Local { is_workspace, is_inside, ..of_text(place, &text)? }))
}

/// A workspace as it is with this text.
pub(super) fn described(project: &Project, place: &str, text: &str) -> Result<Local> {
    let mut local = of_text(place, text)?;
    settle(project, place, &mut local.manifest)?;
    Ok(local)
}

fn of_text(place: &str, text: &str) -> Result<Local> {
    let path = format!("{place}/{MANIFEST}");
    let manifest = package_json::read(&path, text)?;
    let folder = place.rsplit('/').next().unwrap_or(place).to_owned();
    let name = manifest.name.clone().unwrap_or(folder);
    check_name(crate::ecosystem::Ecosystem::Npm, &name).map_err(|error| {
        let message = format!("`{path}`: {}", error.message);
        Error::new(Kind::Failed, "manifest-invalid", message)
    })?;
    Ok(Local { place: place.to_owned(), name, manifest, is_workspace: true, is_inside: true })
}

/// A package.json of another project, which is only looked at for its name, version and commands. Nobody vouches for what
/// lies there, so that it is read like everything planted: a pipe does not hang us and a device has an end.
fn read_outside(path: &Path) -> Result<Option<String>> {
    let failed = |error: std::io::Error| Error::io("read", path, &error);
    let bytes = match read_small(path, MANIFEST_BYTES_MAX as u64) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            let message = format!("`{}` is too large for a manifest", path.display());
            return Err(Error::new(Kind::Failed, "manifest-too-large", message));
        }
        Err(error) => return Err(failed(error)),
    };
    String::from_utf8(bytes).map(Some).map_err(|_| {
        let message = format!("`{}` is not UTF-8", path.display());
        Error::new(Kind::Failed, "manifest-invalid", message)
    })
}

/// Two workspaces of one name: only one can have the link.
fn refuse_twins(found: &BTreeMap<String, Local>) -> Result<()> {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for local in found.values() {
        if let Some(other) = names.insert(local.name.to_lowercase(), &local.place) {
            let message = format!(
                "the workspaces `{other}` and `{}` have the same name, `{}`",
                local.place, local.name
            );
            return Err(Error::new(Kind::Failed, "workspace-twice", message)
                .hint("give one of them another name"));
        }
    }
    Ok(())
}

/// Makes every path in a manifest one from the project; the directories that they name.
fn settle(project: &Project, place: &str, manifest: &mut RootManifest) -> Result<Vec<String>> {
    let mut named = BTreeSet::new();
    let tables: [&mut Dependencies; 4] = [
        &mut manifest.dependencies,
        &mut manifest.dev_dependencies,
        &mut manifest.optional_dependencies,
        &mut manifest.peer_dependencies,
    ];
    for (name, text) in tables.into_iter().flatten() {
        let Some((path, is_archive)) = path_of(text) else { continue };
        let settled = from_project(project.path(), place, &path).filter(|path| !path.is_empty());
        let Some(settled) = settled else {
            let message = format!("`{name}` is asked for as `{text}`, which is the project itself");
            return Err(Error::new(Kind::Usage, "unsupported-dependency", message));
        };
        if settled.split('/').any(|part| part == "node_modules") {
            let message =
                format!("`{name}` is asked for as `{text}`, which is an installed package");
            return Err(Error::new(Kind::Usage, "unsupported-dependency", message)
                .hint("name a package outside of `node_modules`"));
        }
        *text = format!("{FILE}{settled}");
        if !is_archive {
            named.insert(settled);
        }
    }
    if place.is_empty() {
        settle_overrides(project, &mut manifest.overrides);
    }
    Ok(named.into_iter().collect())
}

/// The same for archives that overrides name, from the project as npm has it. They are as deep as a manifest may be nested.
fn settle_overrides(project: &Project, overrides: &mut [Override]) {
    for rule in overrides {
        if let Some(text) = &mut rule.value
            && let Some((path, true)) = path_of(text)
            && let Some(settled) = from_project(project.path(), "", &path)
        {
            *text = format!("{FILE}{settled}");
        }
        settle_overrides(project, &mut rule.nested);
    }
}

/// The path in a dependency's text, where it is one, and whether that is an archive.
fn path_of(text: &str) -> Option<(String, bool)> {
    let linked = text.get(..LINK.len()).filter(|head| head.eq_ignore_ascii_case(LINK));
    if linked.is_some() {
        let path = &text[LINK.len()..];
        return Some((path.strip_prefix("//").unwrap_or(path).to_owned(), false));
    }
    match named(text) {
        Some(Named::Path { path, is_archive }) => Some((path, is_archive)),
        _ => None,
    }
}

/// A path as it is from the project, where it lies inside or above; else as it is. Empty is the project itself.
fn from_project(project: &Path, place: &str, path: &str) -> Option<String> {
    let whole = project.join(place).join(path);
    let mut parts: Vec<&str> = Vec::new();
    for component in whole.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let project: Vec<&str> = project
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    let shared = parts.iter().zip(&project).take_while(|(left, right)| left == right).count();
    let mut relative = vec![".."; project.len() - shared];
    relative.extend(&parts[shared..]);
    Some(relative.join("/"))
}

/// Directories below the project that hold a package.json, without hidden ones and installed packages.
fn directories(project: &Path, check_wanted: &dyn Fn() -> Result<()>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    let mut looked_at = 0;
    while let Some(directory) = pending.pop() {
        check_wanted()?;
        let place = project.join(&directory);
        let failed = |error: std::io::Error| Error::io("list", &place, &error);
        for entry in std::fs::read_dir(&place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_directory || name.starts_with('.') || name == "node_modules" {
                continue;
            }
            looked_at += 1;
            if looked_at > WORKSPACE_DIRECTORIES_MAX {
                return Err(too_many());
            }
            let below = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if place.join(entry.file_name()).join(MANIFEST).is_file() {
                found.push(below.clone());
            }
            pending.push(below);
        }
    }
    found.sort();
    Ok(found)
}

fn too_many() -> Error {
    let message = format!("the project has more than {WORKSPACE_DIRECTORIES_MAX} directories");
    Error::new(Kind::Failed, "workspace-too-large", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project with these files; `root` is read from its package.json.
    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project, RootManifest) {
        let place = tempfile::tempdir().expect("a directory");
        let top = place.path().join("project");
        for (path, text) in files {
            let path = top.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        let project = Project::open(&top).expect("a project");
        let text = std::fs::read_to_string(top.join(MANIFEST)).expect("a manifest");
        let root = package_json::read(MANIFEST, &text).expect("a manifest");
        (place, project, root)
    }

    #[test]
    fn workspaces_and_named_directories_are_found() {
        let (_place, project, mut root) = project(&[
            (
                "package.json",
                r#"{"workspaces": ["packages/*", "!packages/old"], "dependencies": {"lib": "file:./libs/lib/", "x": "1", "out": "../out"}}"#,
            ),
            (
                "packages/a/package.json",
                r#"{"name": "@own/a", "dependencies": {"lib": "link:../../libs/lib"}}"#,
            ),
            (
                "packages/b/package.json",
                r#"{"version": "1.0.0", "devDependencies": {"self": "file:../a"}}"#,
            ),
            ("packages/old/package.json", "{}"),
            ("packages/a/node_modules/c/package.json", "{}"),
            ("packages/none/readme", ""),
            (
                "libs/lib/package.json",
                r#"{"name": "lib", "dependencies": {"inner": "file:inner"}}"#,
            ),
            ("libs/lib/inner/package.json", "{}"),
            ("../out/package.json", r#"{"name": "out", "dependencies": {"gone": "file:gone"}}"#),
        ]);
        let locals = find(&project, &mut root, &|| Ok(())).expect("packages");
        let shown: Vec<(&str, &str, bool, bool)> = locals
            .iter()
            .map(|one| (one.place.as_str(), one.name.as_str(), one.is_workspace, one.is_inside))
            .collect();
        assert_eq!(
            shown,
            [
                ("../out", "out", false, false),
                ("libs/lib", "lib", false, true),
                ("libs/lib/inner", "inner", false, true),
                ("packages/a", "@own/a", true, true),
                ("packages/b", "b", true, true),
            ]
        );
        assert_eq!(root.dependencies["lib"], "file:libs/lib");
        assert_eq!(root.dependencies["out"], "file:../out");
        assert_eq!(root.dependencies["x"], "1");
        assert_eq!(locals[0].manifest.dependencies, Dependencies::new());
        assert_eq!(locals[1].manifest.dependencies["inner"], "file:libs/lib/inner");
        assert_eq!(locals[3].manifest.dependencies["lib"], "file:libs/lib");
        assert_eq!(locals[4].manifest.dev_dependencies["self"], "file:packages/a");
        assert_eq!(preconditions(&project, &locals).expect("preconditions").len(), 4);
    }

    #[test]
    fn what_cannot_be_linked_is_refused_by_name() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, Files<'_>, &str); 4] = [
            (r#"{"dependencies": {"a": "file:gone"}}"#, &[], "manifest-missing"),
            (r#"{"dependencies": {"a": "file:."}}"#, &[], "unsupported-dependency"),
            (
                r#"{"workspaces": ["*"]}"#,
                &[("a/package.json", r#"{"name": "x"}"#), ("b/package.json", r#"{"name": "X"}"#)],
                "workspace-twice",
            ),
            (
                r#"{"workspaces": ["*"]}"#,
                &[("a/package.json", r#"{"name": "../x"}"#)],
                "manifest-invalid",
            ),
        ];
        for (manifest, files, code) in cases {
            let mut all = vec![("package.json", manifest)];
            all.extend(files);
            let (_place, project, mut root) = project(&all);
            let error = find(&project, &mut root, &|| Ok(())).expect_err(manifest);
            assert_eq!(error.code, code, "{error}");
        }
    }

    #[test]
    fn a_linked_directory_is_no_workspace() {
        let (place, project, mut root) =
            project(&[("package.json", r#"{"workspaces": ["packages/*"]}"#), ("packages/x", "")]);
        let outside = place.path().join("outside");
        std::fs::create_dir(&outside).expect("a directory");
        std::fs::write(outside.join(MANIFEST), "{}").expect("a file");
        std::os::unix::fs::symlink(&outside, project.path().join("packages/a")).expect("a link");
        assert_eq!(find(&project, &mut root, &|| Ok(())).expect("none"), []);
    }

    #[test]
    fn what_lies_outside_and_has_no_end_is_read_neither_whole_nor_for_ever() {
        let (place, project, mut root) =
            project(&[("package.json", r#"{"dependencies": {"out": "file:../out"}}"#)]);
        let manifest = place.path().join("out").join(MANIFEST);
        std::fs::create_dir(place.path().join("out")).expect("a directory");
        let mut code = || find(&project, &mut root, &|| Ok(())).expect_err("a refusal").code;

        std::os::unix::fs::symlink("/dev/zero", &manifest).expect("a link");
        assert_eq!(code(), "manifest-missing");
        std::fs::remove_file(&manifest).expect("no link");

        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &manifest, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a pipe");
        assert_eq!(code(), "manifest-missing");
        std::fs::remove_file(&manifest).expect("no pipe");

        let file = std::fs::File::create(&manifest).expect("a file");
        file.set_len(MANIFEST_BYTES_MAX as u64 + 1).expect("a large file");
        assert_eq!(code(), "manifest-too-large");
        std::fs::write(&manifest, b"\xff").expect("a file");
        assert_eq!(code(), "manifest-invalid");
    }

    #[test]
    fn a_search_that_nobody_waits_for_ends() {
        let (_place, project, mut root) =
            project(&[("package.json", r#"{"workspaces": ["*"]}"#), ("a/package.json", "{}")]);
        let error = find(&project, &mut root, &|| Err(Error::cancelled())).expect_err("an end");
        assert_eq!(error.code, "cancelled");
    }
}
