//! Which project a directory belongs to: the nearest manifest upwards, and of a member of a cargo or npm workspace the workspace's
//! root. For callers that start in a directory; operations get the root as their project and the member by name.
//!
//! The way up is only as far as nobody else could have put a manifest: into the caller's own or root's directories that others may
//! not write, within one file system, and never to the home directory or to `/`, where a manifest is a leftover. What is refused as a
//! member is looked for further: nobody is led anywhere then, and a registry's packages must not stand for the workspace's own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{ANCESTORS_MAX, MANIFEST_BYTES_MAX};
use crate::lock;
use crate::manifest::package_json::patterns::Patterns;
use crate::manifest::{cargo_toml, package_json};

const CARGO: &str = "Cargo.toml";
const NPM: &str = "package.json";
/// The files that make a directory a project.
const MANIFESTS: [&str; 5] = [NPM, "pyproject.toml", "requirements.txt", CARGO, lock::FILE];
/// The files by which a member has something to install by itself.
const OWN: [&str; 3] = ["pyproject.toml", "requirements.txt", lock::FILE];
/// Our own directory in one.
const OURS: &str = ".bolide";
/// Bits of a mode that let the group, and everybody, write.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// The error of a member where its workspace is needed.
pub(crate) const IS_MEMBER: &str = "workspace-member";

/// What a project is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// Packages of these ecosystems are named: only their own workspaces count.
    Named(&'a [Ecosystem]),
    /// All that the manifests ask for. A member that has packages of Python, or a lock, of its own is where these are installed.
    Whole,
    /// What was done: a member that has a lock of its own is where it was done.
    Record,
}

/// The project of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its directory.
    pub root: PathBuf,
    /// The workspace's member that the directory belongs to, `/`-separated from the root; empty for none.
    pub member: String,
}

/// The project that `start` belongs to: `start` itself where nothing is found upwards. `home` is the caller's.
pub fn find(start: &Path, home: Option<&Path>, purpose: Purpose<'_>) -> Result<Found> {
    // One that is not there is told about by whoever opens it.
    let Ok(place) = start.canonicalize() else {
        return Ok(Found { root: start.to_owned(), member: String::new() });
    };
    let nearest = match is_project(&place) {
        true => place.clone(),
        false => above(&place, home)
            .find(|directory| is_own_project(directory))
            .map_or_else(|| place.clone(), Path::to_owned),
    };
    let counts = |ecosystem| match purpose {
        Purpose::Named(named) => named.contains(&ecosystem),
        Purpose::Whole => !OWN.iter().any(|name| nearest.join(name).is_file()),
        Purpose::Record => !nearest.join(lock::FILE).is_file(),
    };
    let is_crate = counts(Ecosystem::Cargo) && nearest.join(CARGO).is_file();
    let way = Way::Safe(home);
    let cargo = if is_crate { root_of_cargo(&nearest, way) } else { None };
    let npm = if counts(Ecosystem::Npm) { root_of_npm(&nearest, way)? } else { None };
    // A member of two workspaces belongs to the nearer one first.
    let found = cargo.into_iter().chain(npm).max_by_key(|found| found.root.components().count());
    Ok(found.unwrap_or(Found { root: nearest, member: String::new() }))
}

/// Refuses a member of an npm workspace as a project of its own: what it asks for may be the workspace's own packages, and a
/// registry has strangers' of the same names.
pub(crate) fn refuse_npm_member(project: &Path) -> Result<()> {
    match root_of_npm(project, Way::Far)? {
        None => Ok(()),
        Some(found) => Err(is_member("npm", project, &found)),
    }
}

/// The same for cargo, whose lock is at the workspace's root.
pub(crate) fn refuse_cargo_member(project: &Path) -> Result<()> {
    match root_of_cargo(project, Way::Far) {
        None => Ok(()),
        Some(found) => Err(is_member("cargo", project, &found)),
    }
}

/// The refusal of a member where its workspace is needed.
fn is_member(of: &str, project: &Path, found: &Found) -> Error {
    let root = found.root.display();
    let message = format!(
        "`{}` is a member of the {of} workspace at `{root}`, which has the lock",
        project.display()
    );
    Error::new(Kind::Usage, IS_MEMBER, message)
        .hint(format!("run `cd {} && bolide install`", quoted(&root.to_string())))
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-+".contains(character);
    match path.chars().all(is_plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// The root of the cargo workspace that names `place`, a path without links, as a member. `None` where there is none, and for a
/// root itself.
fn root_of_cargo(place: &Path, way: Way<'_>) -> Option<Found> {
    // One that is a root has no other. One without a manifest yet would be a member with one.
    let own = read(&place.join(CARGO)).unwrap_or_default();
    if cargo_toml::read(CARGO, "", &own, None).is_ok_and(|it| it.workspace.is_some()) {
        return None;
    }
    for root in way.from(place) {
        let Some(text) = read_own(&root.join(CARGO)) else { continue };
        // Somebody else's broken manifest is no reason to leave the directory.
        let Ok(manifest) = cargo_toml::read(CARGO, "", &text, None) else { continue };
        let member = place.strip_prefix(root).ok()?.to_str()?.to_owned();
        let Some(workspace) = &manifest.workspace else { continue };
        // What the root depends on by path is a member without being named.
        let is_member = workspace.is_member(&member)
            || manifest.path_dependencies.iter().any(|it| it.directory == member);
        return is_member.then(|| Found { root: root.to_owned(), member });
    }
    None
}

/// The same for npm: the nearest package.json above whose `workspaces` name the directory. One that cannot be understood is an
/// error: to go on without it could take strangers' packages for the workspace's own.
fn root_of_npm(place: &Path, way: Way<'_>) -> Result<Option<Found>> {
    if !place.join(NPM).is_file() {
        return Ok(None);
    }
    for root in way.from(place) {
        let path = root.join(NPM);
        let Some(text) = read_own(&path) else { continue };
        let shown = path.display().to_string();
        let patterns = package_json::read(&shown, &text)?.workspaces;
        if patterns.is_empty() {
            continue;
        }
        let Some(member) = place.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        // Installed packages are nobody's members, whatever the patterns are.
        let is_installed = member.split('/').any(|part| part == "node_modules");
        if !is_installed && Patterns::new(&shown, &patterns)?.name(member) {
            return Ok(Some(Found { root: root.to_owned(), member: member.to_owned() }));
        }
    }
    Ok(None)
}

fn is_project(directory: &Path) -> bool {
    MANIFESTS.iter().any(|name| directory.join(name).is_file()) || directory.join(OURS).is_dir()
}

/// The same by files and directories that are the caller's or root's.
fn is_own_project(directory: &Path) -> bool {
    let is_there = |name: &str| directory.join(name).is_file() && is_own(&directory.join(name));
    let ours = directory.join(OURS);
    MANIFESTS.iter().any(|name| is_there(name)) || ours.is_dir() && is_own(&ours)
}

/// How far up is looked.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// As far as it is safe to be led; with the caller's home directory.
    Safe(Option<&'a Path>),
    /// Through directories that others may write and to other file systems, too.
    Far,
}

impl<'a> Way<'a> {
    fn from(self, place: &'a Path) -> Box<dyn Iterator<Item = &'a Path> + 'a> {
        match self {
            Self::Safe(home) => Box::new(above(place, home)),
            Self::Far => Box::new(
                place.ancestors().skip(1).take(ANCESTORS_MAX).filter(|it| it.parent().is_some()),
            ),
        }
    }
}

/// The directories above, nearest first, as far as the way up is safe.
fn above<'a>(place: &'a Path, home: Option<&Path>) -> impl Iterator<Item = &'a Path> {
    let home = home.and_then(|home| home.canonicalize().ok());
    let device = place.metadata().map(|metadata| metadata.dev()).ok();
    let is_last = move |directory: &Path| {
        directory.parent().is_none() || home.as_deref().is_some_and(|home| home == directory)
    };
    let above = if is_last(place) { 0 } else { ANCESTORS_MAX };
    place.ancestors().skip(1).take(above).take_while(move |directory| {
        let metadata = directory.metadata();
        !is_last(directory)
            && metadata.is_ok_and(|metadata| {
                Some(metadata.dev()) == device
                    && is_safe((metadata.uid(), metadata.gid(), metadata.mode()))
            })
    })
}

/// Whether nobody but the caller and root can put a file into a directory of this owner, group and mode. The caller's own group
/// counts as the caller: where people have a group each, everything of theirs may be written by it.
fn is_safe((owner, group, mode): (u32, u32, u32)) -> bool {
    let caller = rustix::process::geteuid().as_raw();
    let own_group = rustix::process::getegid().as_raw();
    (owner == caller || owner == 0)
        && mode & OTHERS_WRITE == 0
        && (mode & GROUP_WRITES == 0 || group == own_group)
}

/// Whether a file or directory is the caller's or root's.
fn is_own(path: &Path) -> bool {
    let caller = rustix::process::geteuid().as_raw();
    path.metadata().is_ok_and(|metadata| metadata.uid() == caller || metadata.uid() == 0)
}

/// A manifest above that is the caller's or root's.
fn read_own(path: &Path) -> Option<String> {
    if is_own(path) { read(path) } else { None }
}

fn read(path: &Path) -> Option<String> {
    let bytes = crate::io::environment::read_small(path, MANIFEST_BYTES_MAX as u64).ok()??;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
