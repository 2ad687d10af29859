//! What lies on the disk: a project's tree as its owner sees it, and the kinds of names in everything that belongs to a world.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::registry::hex;

/// Components of a path that its class names; what lies deeper is one class.
const COMPONENTS_MAX: usize = 5;

/// Each path with its mode and content, or the target of a link, and the time of its last change where that matters.
pub(crate) type Tree = BTreeMap<String, String>;

/// A project without `.bolide`. The top is left out of the times, since names change in it.
pub(crate) fn tree(project: &Path, with_times: bool) -> Tree {
    let mut found = Tree::new();
    each(project, &mut |path, metadata| {
        let name = path.strip_prefix(project).unwrap().to_string_lossy().into_owned();
        if name == ".bolide" {
            return false;
        }
        let content = if metadata.is_symlink() {
            format!("-> {}", std::fs::read_link(path).unwrap().display())
        } else if metadata.is_dir() {
            "directory".to_owned()
        } else {
            hex(&Sha256::digest(std::fs::read(path).unwrap()))
        };
        let time = match with_times {
            true => format!(" {}.{}", metadata.mtime(), metadata.mtime_nsec()),
            false => String::new(),
        };
        found.insert(name, format!("{:o} {content}{time}", metadata.mode()));
        metadata.is_dir()
    });
    found
}

/// Where two trees differ, in words, not all of it.
pub(crate) fn difference(one: &Tree, other: &Tree) -> String {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    let words: Vec<String> = differ
        .take(8)
        .map(|name| format!("`{name}`: {:?} or {:?}", one.get(name), other.get(name)))
        .collect();
    words.join("; ")
}

/// The digests of files below a directory.
pub(crate) fn files(directory: &Path) -> Tree {
    let mut found = Tree::new();
    each(directory, &mut |path, metadata| {
        if metadata.is_file() {
            let digest = hex(&Sha256::digest(std::fs::read(path).unwrap()));
            found.insert(path.display().to_string(), digest);
        }
        true
    });
    found
}

/// The names in a directory, sorted; none where it is not there.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The classes of all that lies in a world but in its project.
pub(crate) fn classes(world: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each(world, &mut |path, metadata| {
        if path == world.join("project") {
            return false;
        }
        // Directories of the store come and go with what is in them.
        if !metadata.is_dir() || is_own_place(path) {
            found.insert(class(world, path));
        }
        true
    });
    found
}

/// A directory that is somebody's own for a while.
fn is_own_place(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("incoming"))
}

/// What kind of thing lies at a path: numbers, digests and names of transactions are all the same.
pub(crate) fn class(world: &Path, path: &Path) -> String {
    let Ok(inside) = path.strip_prefix(world) else {
        let outside: PathBuf = path.components().take(3).collect();
        return generic(&outside.to_string_lossy());
    };
    let mut parts: Vec<String> = inside
        .components()
        .take(COMPONENTS_MAX)
        .map(|part| generic(&part.as_os_str().to_string_lossy()))
        .collect();
    if inside.components().count() > COMPONENTS_MAX {
        parts.push("*".to_owned());
    }
    parts.join("/")
}

/// Every run of hexadecimal digits with a number in it becomes `#`, and so does a folder named by two of them.
fn generic(text: &str) -> String {
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "#".to_owned();
    }
    let mut said = String::new();
    let mut run = String::new();
    let end = |run: &mut String, said: &mut String| {
        let is_number = run.bytes().any(|byte| byte.is_ascii_digit());
        let text = if is_number { "#" } else { run.as_str() };
        said.push_str(text);
        run.clear();
    };
    for letter in text.chars() {
        if letter.is_ascii_digit() || ('a'..='f').contains(&letter) {
            run.push(letter);
        } else {
            end(&mut run, &mut said);
            said.push(letter);
        }
    }
    end(&mut run, &mut said);
    // A transaction's name ends in four digits, or letters that look like digits, of any kind.
    match said.split_once("tx-#-#-#-") {
        Some((before, rest)) => {
            let end = rest.find(|letter: char| !matches!(letter, '#' | 'a'..='f'));
            format!("{before}TX{}", &rest[end.unwrap_or(rest.len())..])
        }
        None => said,
    }
}

/// Visits everything below a directory, a directory before what is in it, which is left out where the answer is no.
fn each(directory: &Path, visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> bool) {
    let mut pending = vec![directory.to_owned()];
    while let Some(place) = pending.pop() {
        for name in names(&place) {
            let path = place.join(name);
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if visit(&path, &metadata) && metadata.is_dir() {
                pending.push(path);
            }
        }
    }
}
