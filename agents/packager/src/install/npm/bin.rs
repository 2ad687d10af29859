//! The commands of npm packages: which ones exist, which package wins a name, and the links in
//! `.bin`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::bundled::Bundled;
use crate::error::{Error, Kind, Result};
use crate::resolution::{self, Package};
use crate::store::Entry;
use crate::unpack::names;

/// One link, keyed by its own path (`node_modules/.bin/x`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The linked file, from the project's directory.
    pub(super) target: String,
    /// What the link holds, relative to its directory.
    pub(super) text: String,
}

/// All links. Of two packages that offer the same command in one `.bin` the first wins, in npm's
/// order.
pub(super) fn links(
    packages: &[&Package],
    entries: &HashMap<&str, Arc<Entry>>,
    own: &[resolution::Link],
    bundled: &[Bundled],
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Link>> {
    let mut ordered: Vec<&Package> =
        packages.iter().copied().filter(|package| !package.bin.is_empty()).collect();
    ordered.sort_by_cached_key(|package| (depth(&package.place), collation_key(&package.place)));
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    // The project's own commands; npm too takes what stands highest first.
    for link in own {
        let (folder, inside) = split_place(&link.place);
        for (name, path) in &link.bin {
            let named = plain_command(name).zip(target(path));
            let Some((name, path)) = named else {
                let shown = crate::unpack::printable(name.as_bytes());
                warnings.push(format!("the command `{shown}` of `{inside}` would leave it"));
                continue;
            };
            let link = Link {
                target: format!("{}/{path}", link.place),
                text: format!("../{inside}/{path}"),
            };
            links.entry(format!("{folder}/.bin/{name}")).or_insert(link);
        }
    }
    for package in ordered {
        let (folder, inside) = split_place(&package.place);
        for (name, path) in &package.bin {
            let name = command_name(package, name)?;
            let path = target(path).ok_or_else(|| bad_command(package, path))?;
            if entries[package.place.as_str()].file(path).is_none() {
                warnings.push(format!("the command `{name}` of `{}` has no file", package.name));
                continue;
            }
            let at = format!("{folder}/.bin/{name}");
            if is_taken(entries, &at) {
                warnings.push(format!("`{at}` is what a package brings along, no link"));
                continue;
            }
            let link = Link {
                target: format!("{}/{path}", package.place),
                text: format!("../{inside}/{path}"),
            };
            links.entry(at).or_insert(link);
        }
    }
    link_bundled(bundled, entries, &mut links);
    Ok(links)
}

/// What is bundled comes last: a planned package in the same folder was put there on purpose.
fn link_bundled(
    bundled: &[Bundled],
    entries: &HashMap<&str, Arc<Entry>>,
    links: &mut BTreeMap<String, Link>,
) {
    let mut ordered: Vec<&Bundled> = bundled.iter().collect();
    ordered.sort_by_cached_key(|one| (depth(&one.place), collation_key(&one.place)));
    for one in ordered {
        let (folder, inside) = split_place(&one.place);
        for (name, path) in &one.bin {
            let Some((name, path)) = plain_command(name).zip(target(path)) else { continue };
            let file = format!("{}/{path}", one.inside);
            let entry = entries.get(one.owner.as_str());
            let at = format!("{folder}/.bin/{name}");
            if entry.and_then(|entry| entry.file(&file)).is_none() || is_taken(entries, &at) {
                continue;
            }
            let link = Link {
                target: format!("{}/{path}", one.place),
                text: format!("../{inside}/{path}"),
            };
            links.entry(at).or_insert(link);
        }
    }
}

/// Whether the package around a link's place has something of its own there, or a file where `.bin` would be.
fn is_taken(entries: &HashMap<&str, Arc<Entry>>, at: &str) -> bool {
    let mut owner = at;
    while let Some((above, _)) = owner.rsplit_once('/') {
        owner = above;
        // The innermost one: what an outer one has inside of it gives way to it.
        if let Some(entry) = entries.get(owner) {
            let inside = &at[owner.len() + 1..];
            let folder = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
            return entry.holds(inside) || entry.file(folder).is_some();
        }
    }
    false
}

/// Creates the links below the staging directory and returns the names of those that the project
/// itself sees.
pub(super) fn create(staging: &Path, links: &BTreeMap<String, Link>) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    let mut made: Option<&str> = None;
    for (path, link) in links {
        let relative = path.strip_prefix("node_modules/").unwrap_or(path);
        let (folder, name) = relative.rsplit_once('/').unwrap_or((".bin", relative));
        let directory = staging.join(folder);
        if made != Some(folder) {
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create the directory", &directory, &error));
                }
                _ => made = Some(folder),
            }
        }
        let at = directory.join(name);
        std::os::unix::fs::symlink(&link.text, &at)
            .map_err(|error| Error::io("create the link", &at, &error))?;
        if folder == ".bin" {
            commands.push(name.to_owned());
        }
    }
    Ok(commands)
}

/// `node_modules/a/node_modules/@s/b` is `@s/b` in the folder `node_modules/a/node_modules`.
fn split_place(place: &str) -> (&str, &str) {
    match place.rfind("node_modules/") {
        Some(start) => {
            let end = start + "node_modules".len();
            (&place[..end], &place[end + 1..])
        }
        None => ("node_modules", place),
    }
}

fn depth(place: &str) -> usize {
    place.split('/').filter(|component| *component == "node_modules").count()
}

/// npm takes the last component of a name (`@scope/x` is the command `x`); whatever else could
/// leave `.bin` is refused.
fn command_name<'n>(package: &Package, written: &'n str) -> Result<&'n str> {
    plain_command(written).ok_or_else(|| bad_command(package, written))
}

fn plain_command(written: &str) -> Option<&str> {
    let name = match written.split_once('/') {
        Some((scope, name)) if scope.starts_with('@') => name,
        _ => written,
    };
    (names::check(name).is_ok() && !name.contains(['/', ':'])).then_some(name)
}

/// The path of a command inside its package, without a leading `./` or `/`; `None` if it leaves the
/// package.
pub(super) fn target(written: &str) -> Option<&str> {
    let mut path = written;
    while let Some(rest) = path.strip_prefix("./").or_else(|| path.strip_prefix('/')) {
        path = rest;
    }
    names::check(path).ok().map(|()| path)
}

fn bad_command(package: &Package, written: &str) -> Error {
    let shown = crate::unpack::printable(written.as_bytes());
    let message = format!(
        "`{}` names a command or its file `{shown}`, which would leave the package",
        package.name
    );
    Error::new(Kind::Verification, "unsafe-command", message)
        .hint("choose another version of the package")
}

/// An order that agrees with the one by which npm sorts paths (English collation) for the
/// characters that names of packages have: punctuation before digits before letters, and case only
/// between otherwise equal texts.
fn collation_key(place: &str) -> (Vec<u8>, Vec<bool>) {
    const PUNCTUATION: &[u8] = b"_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";
    let rank = |byte: u8| match byte {
        b'0'..=b'9' => 64 + (byte - b'0'),
        b'a'..=b'z' | b'A'..=b'Z' => 80 + (byte.to_ascii_lowercase() - b'a'),
        0x80.. => 200,
        other => {
            PUNCTUATION.iter().position(|mark| *mark == other).map_or(0, |index| 1 + index as u8)
        }
    };
    (
        place.bytes().map(rank).collect(),
        place.bytes().map(|byte| byte.is_ascii_uppercase()).collect(),
    )
}
