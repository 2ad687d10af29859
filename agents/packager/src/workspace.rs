//! Which project a directory belongs to: the nearest manifest upwards, and of a member of a cargo or npm workspace the workspace's
//! root. For callers that start in a directory; operations get the root as their project and the member by name.
//!
//! The way up is only as far as nobody else could have put a manifest: into the caller's own or root's directories that others may
//! not write, within one file system, and never to the home directory or to `/`, where a manifest is a leftover. What is refused as a
//! member is looked for all the way: nobody is led anywhere then, and a registry's packages must not stand for the workspace's own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{ACCOUNTS_BYTES_MAX, ANCESTORS_MAX, MANIFEST_BYTES_MAX};
use crate::lock;
use crate::manifest::package_json::patterns::Patterns;
use crate::manifest::{cargo_toml, package_json, pyproject};

const CARGO: &str = "Cargo.toml";
const NPM: &str = "package.json";
const PYPROJECT: &str = "pyproject.toml";
const REQUIREMENTS: &str = "requirements.txt";
/// The files that make a directory a project.
const MANIFESTS: [&str; 5] = [NPM, PYPROJECT, REQUIREMENTS, CARGO, lock::FILE];
/// Our own directory in one.
const OURS: &str = ".bolide";
/// What a package.json of a workspace says, however broken it is.
const WORKSPACES: &str = "\"workspaces\"";
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
    /// All that the manifests ask for. A member that asks for packages of Python is where these are installed.
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
    /// Where no project was found: the next directory upwards that looks like one, and is none since others could have put it there.
    pub passed_over: Option<PathBuf>,
}

impl Found {
    /// A project by itself.
    pub fn at(root: &Path) -> Self {
        Self::member(root, "")
    }

    fn member(root: &Path, member: &str) -> Self {
        Self { root: root.to_owned(), member: member.to_owned(), passed_over: None }
    }
}

/// The project that `start` belongs to: `start` itself where nothing is found upwards. `home` is the caller's.
pub fn find(start: &Path, home: Option<&Path>, purpose: Purpose<'_>) -> Result<Found> {
    // One that is not there is told about by whoever opens it.
    let Ok(place) = start.canonicalize() else { return Ok(Found::at(start)) };
    let home = home.and_then(|home| home.canonicalize().ok());
    let home = home.as_deref();
    let nearest = match is_project(&place) {
        true => Some(&*place),
        false => above(&place, home).find(|directory| is_project(directory)),
    };
    let Some(nearest) = nearest else {
        let is_leftover = |it: &Path| it.parent().is_none() || Some(it) == home;
        let mut further = Way::Far.from(&place);
        let passed_over = further.find(|it| !is_leftover(it) && is_project(it)).map(Path::to_owned);
        return Ok(Found { passed_over, ..Found::at(&place) });
    };
    let counts = |ecosystem| match purpose {
        Purpose::Named(named) => named.contains(&ecosystem),
        Purpose::Whole => !asks_for_python(nearest),
        Purpose::Record => !nearest.join(lock::FILE).is_file(),
    };
    let is_crate = counts(Ecosystem::Cargo) && nearest.join(CARGO).is_file();
    let way = Way::Safe(home);
    let cargo = if is_crate { root_of_cargo(nearest, way) } else { None };
    let npm = if counts(Ecosystem::Npm) { root_of_npm(nearest, way)? } else { None };
    // A member of two workspaces belongs to the nearer one first.
    let found = cargo.into_iter().chain(npm).max_by_key(|found| found.root.components().count());
    Ok(found.unwrap_or_else(|| Found::at(nearest)))
}

/// Whether a directory has a manifest of Python. A pyproject.toml without a project configures tools; a broken one is told about by
/// whoever needs it.
fn asks_for_python(directory: &Path) -> bool {
    let described = read(&directory.join(PYPROJECT)).map(Option::unwrap_or_default);
    directory.join(REQUIREMENTS).is_file()
        || !described.is_ok_and(|text| matches!(pyproject::read(PYPROJECT, &text), Ok(None)))
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
        .hint(format!(
            "run `cd {} && bolide install`; what the member is to want besides is written into its own manifest before",
            quoted(&root.to_string())
        ))
}

/// A path as a shell takes it.
pub fn quoted(path: &str) -> String {
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
    let own = read(&place.join(CARGO)).ok().flatten().unwrap_or_default();
    if cargo_toml::read(CARGO, "", &own, None).is_ok_and(|it| it.workspace.is_some()) {
        return None;
    }
    for root in way.from(place) {
        // Somebody else's broken manifest is no reason to leave the directory.
        let Ok(Some(text)) = way.read(&root.join(CARGO), place) else { continue };
        let Ok(manifest) = cargo_toml::read(CARGO, "", &text, None) else { continue };
        let member = place.strip_prefix(root).ok()?.to_str()?;
        let Some(workspace) = &manifest.workspace else { continue };
        // What the root depends on by path is a member without being named.
        let is_member = workspace.is_member(member)
            || manifest.path_dependencies.iter().any(|it| it.directory == member);
        return is_member.then(|| Found::member(root, member));
    }
    None
}

/// The same for npm: the nearest package.json above whose `workspaces` name the directory. One that cannot be understood is an
/// error: to go on without it could take strangers' packages for the workspace's own. Where nobody would be led, it is one if it
/// speaks of workspaces at all: others' leftovers are not in the way.
fn root_of_npm(place: &Path, way: Way<'_>) -> Result<Option<Found>> {
    if !place.join(NPM).is_file() {
        return Ok(None);
    }
    for root in way.from(place) {
        let path = root.join(NPM);
        let Some(text) = way.read(&path, place)? else { continue };
        let shown = path.display().to_string();
        let patterns = match package_json::read(&shown, &text) {
            Ok(manifest) => manifest.workspaces,
            Err(_) if way.is_far() && (!text.contains(WORKSPACES) || is_json(&text)) => continue,
            Err(error) => return Err(error),
        };
        // What leads out names nothing below.
        let leads_out =
            |pattern: &String| pattern.trim_start_matches('!').split('/').any(|it| it == "..");
        let is_below = |pattern: &String| !(way.is_far() && leads_out(pattern));
        let patterns: Vec<String> = patterns.into_iter().filter(is_below).collect();
        if patterns.is_empty() {
            continue;
        }
        let Some(member) = place.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        // Installed packages are nobody's members, whatever the patterns are.
        let is_installed = member.split('/').any(|part| part == "node_modules");
        if !is_installed && Patterns::new(&shown, &patterns)?.name(member) {
            return Ok(Some(Found::member(root, member)));
        }
    }
    Ok(None)
}

fn is_project(directory: &Path) -> bool {
    MANIFESTS.iter().any(|name| directory.join(name).is_file()) || directory.join(OURS).is_dir()
}

/// How far up is looked.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// As far as it is safe to be led; with the caller's home directory.
    Safe(Option<&'a Path>),
    /// All the way, through directories that others may write and to other file systems, too.
    Far,
}

impl<'a> Way<'a> {
    fn from(self, place: &'a Path) -> Box<dyn Iterator<Item = &'a Path> + 'a> {
        match self {
            Self::Safe(home) => Box::new(above(place, home)),
            Self::Far => Box::new(place.ancestors().skip(1).take(ANCESTORS_MAX)),
        }
    }

    fn is_far(self) -> bool {
        matches!(self, Self::Far)
    }

    /// A manifest above `place`, if it counts. Where everybody may write, that is what the caller, root, or whoever has the place has put there:
    /// others refuse nobody anything.
    fn read(self, path: &Path, place: &Path) -> Result<Option<String>> {
        if let Self::Safe(_) = self {
            return read(path);
        }
        let is_open = path.parent().and_then(|it| it.metadata().ok());
        if is_open.is_some_and(|it| it.mode() & OTHERS_WRITE != 0) {
            let owners = [
                Some(rustix::process::geteuid().as_raw()),
                Some(0),
                place.metadata().ok().map(|it| it.uid()),
            ];
            let own = path.symlink_metadata().ok().map(|it| it.uid());
            if own.is_none() || !owners.contains(&own) {
                return Ok(None);
            }
        }
        // What those can read who share the directory may be the workspace's root.
        let hands = |path: &Path| path.metadata().ok().map(|it| (it.uid(), it.gid()));
        let shared = hands(place).zip(path.parent().and_then(hands));
        let is_theirs = shared.is_some_and(|(own, above)| own.0 == above.0 || own.1 == above.1);
        match read(path) {
            Err(_) if !is_theirs => Ok(None),
            found => found,
        }
    }
}

/// The directories above, nearest first, as far as the way up is safe.
fn above<'a>(place: &'a Path, home: Option<&'a Path>) -> impl Iterator<Item = &'a Path> {
    let device = place.metadata().map(|metadata| metadata.dev()).ok();
    let is_last = move |directory: &Path| directory.parent().is_none() || home == Some(directory);
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

/// Whether nobody but the caller and root can put a file into a directory of this owner, group and mode. A group of the caller's own,
/// by the convention that it has the caller's number or name, counts as the caller: everything may be written by it then.
fn is_safe((owner, group, mode): (u32, u32, u32)) -> bool {
    let caller = rustix::process::geteuid().as_raw();
    let is_private = || {
        group == rustix::process::getegid().as_raw()
            && (group == caller || is_named_alike(caller, group))
    };
    (owner == caller || owner == 0)
        && mode & OTHERS_WRITE == 0
        && (mode & GROUP_WRITES == 0 || is_private())
}

/// Whether a group is the caller's by the convention that it has the caller's name, and nobody else is in it.
fn is_named_alike(caller: u32, group: u32) -> bool {
    let read = |path: &str| {
        let bytes = crate::io::environment::read_small(Path::new(path), ACCOUNTS_BYTES_MAX);
        String::from_utf8(bytes.ok().flatten()?).ok()
    };
    let accounts = read("/etc/passwd").zip(read("/etc/group"));
    accounts.is_some_and(|(people, groups)| is_one_persons((&people, &groups), caller, group))
}

/// The same by the machine's lists of people and of groups.
fn is_one_persons((people, groups): (&str, &str), caller: u32, group: u32) -> bool {
    let (caller, group) = (caller.to_string(), group.to_string());
    let part = |line: &str, at: usize| line.split(':').nth(at).unwrap_or_default().to_owned();
    let with = |text: &str, at: usize, number: &str| -> Vec<String> {
        text.lines().filter(|line| part(line, at) == number).map(str::to_owned).collect()
    };
    // Of a person the third part is the number and the fourth that of the first group.
    let (own, first) = (with(people, 2, &caller), with(people, 3, &group));
    let ([user], [found]) = (&own[..], &with(groups, 2, &group)[..]) else { return false };
    let name = part(user, 0);
    let is_alone = first.iter().all(|line| line == user)
        && part(found, 3).split(',').all(|member| member.is_empty() || member == name);
    part(found, 0) == name && is_alone
}

/// Whether a text can be read: what it then says wrongly, it says to everybody.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn read(path: &Path) -> Result<Option<String>> {
    let unread = |why: &dyn std::fmt::Display| {
        let message = format!("`{}` cannot be read: {why}", path.display());
        Error::new(Kind::Failed, "manifest-invalid", message).hint(
            "mend it or take it away: it may be the root of the workspace that this belongs to",
        )
    };
    let bytes = crate::io::environment::read_small(path, MANIFEST_BYTES_MAX as u64);
    let Some(bytes) = bytes.map_err(|error| unread(&error))? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| unread(&error))
}

#[cfg(test)]
mod tests;
