//! `pnpm-lock.yaml` (versions 6 and 9): which exact version each package uses, and the digests.
//!
//! pnpm locks a graph, npm's tree has folders; so the graph is laid out here as npm would: in the highest folder that is free or
//! holds the same. The resolver takes what fits of it. The text is read as what pnpm writes (mappings by indentation,
//! quoted or plain scalars, short mappings in braces), not as any YAML: there are no anchors, tags or types to be fooled by.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Locked;
use crate::ecosystem::Ecosystem;
use crate::limits::{LOCK_PACKAGES_MAX, NPM_TREE_DEPTH_MAX};
use crate::spec::check_name;

pub(super) const FILE: &str = "pnpm-lock.yaml";

/// Levels of indentation; pnpm writes five.
const DEPTH_MAX: usize = 16;

/// Edges that are laid out; the largest real trees have some 100,000. What is beyond is chosen without this lock.
const STEPS_MAX: usize = 2_000_000;

/// One package with the versions it uses: name and version, then names in its folder to keys.
#[derive(Default)]
struct Node {
    name: String,
    version: String,
    integrity: String,
    uses: BTreeMap<String, String>,
}

pub(super) fn read(text: &str) -> Result<Vec<Locked>, String> {
    let mut direct: BTreeMap<String, String> = BTreeMap::new();
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut integrities: HashMap<String, String> = HashMap::new();
    let mut version = String::new();
    each(text, &mut |path, value| match path {
        ["lockfileVersion"] => value.clone_into(&mut version),
        // The only project's tables stand at the top in version 6.
        ["importers", ".", table, name, "version"] | [table, name, "version"]
            if is_table(table) =>
        {
            direct.insert((*name).to_owned(), value.to_owned());
        }
        ["packages", key, "resolution", "integrity"] => {
            integrities.insert(plain(key), value.to_owned());
        }
        ["packages" | "snapshots", key, table, name] if is_table(table) => {
            let node = nodes.entry((*key).to_owned()).or_default();
            node.uses.insert((*name).to_owned(), value.to_owned());
        }
        ["packages" | "snapshots", key, ..] => {
            nodes.entry((*key).to_owned()).or_default();
        }
        _ => {}
    })?;
    if !version.starts_with("6.") && !version.starts_with("9.") {
        return Err(format!("it is of version `{}`; known are 6 and 9", version.escape_debug()));
    }
    if nodes.len() > LOCK_PACKAGES_MAX {
        return Err(format!("it has more than {LOCK_PACKAGES_MAX} packages"));
    }
    let mut graph: HashMap<String, Node> = HashMap::new();
    for (key, mut node) in nodes {
        let Some((name, version)) = name_and_version(&key) else { continue };
        if let Some(integrity) = integrities.get(&plain(&key)) {
            node.integrity.clone_from(integrity);
        }
        (node.name, node.version) = (name.to_owned(), version.to_owned());
        graph.insert(key.trim_start_matches('/').to_owned(), node);
    }
    Ok(lay_out(&direct, &graph))
}

fn is_table(name: &str) -> bool {
    matches!(name, "dependencies" | "devDependencies" | "optionalDependencies")
}

/// A key without the peers that pnpm writes behind it.
fn plain(key: &str) -> String {
    let key = key.trim_start_matches('/');
    key.split('(').next().unwrap_or(key).to_owned()
}

/// `name@1.0.0(peer@2.0.0)`, `/@scope/name@1.0.0`.
fn name_and_version(key: &str) -> Option<(&str, &str)> {
    let key = key.trim_start_matches('/');
    let key = key.split('(').next()?;
    let at = key.char_indices().skip(1).find(|(_, character)| *character == '@')?.0;
    let (name, version) = (&key[..at], &key[at + 1..]);
    check_name(Ecosystem::Npm, name).ok()?;
    version.starts_with(|first: char| first.is_ascii_digit()).then_some((name, version))
}

/// The package that a folder's version means: `1.0.0`, `1.0.0(peer@2.0.0)`, or a whole key for an alias.
fn target(folder: &str, version: &str, graph: &HashMap<String, Node>) -> Option<String> {
    let version = version.trim_start_matches('/');
    let candidates = [format!("{folder}@{version}"), version.to_owned()];
    candidates.into_iter().find(|key| graph.contains_key(key))
}

/// Breadth first, each package in the highest folder where its name is free or means the same.
fn lay_out(direct: &BTreeMap<String, String>, graph: &HashMap<String, Node>) -> Vec<Locked> {
    let mut placed: BTreeMap<String, String> = BTreeMap::new();
    let mut queue: VecDeque<(String, String)> = VecDeque::new();
    for (folder, version) in direct {
        let Some(key) = target(folder, version, graph) else { continue };
        if check_name(Ecosystem::Npm, folder).is_ok() {
            let place = format!("node_modules/{folder}");
            placed.insert(place.clone(), key.clone());
            queue.push_back((place, key));
        }
    }
    let mut steps = 0;
    while let Some((place, key)) = queue.pop_front() {
        for (folder, version) in &graph[&key].uses {
            steps += 1;
            if placed.len() >= LOCK_PACKAGES_MAX || steps > STEPS_MAX {
                queue.clear();
                break;
            }
            let Some(key) = target(folder, version, graph) else { continue };
            if check_name(Ecosystem::Npm, folder).is_err() {
                continue;
            }
            if let Some(place) = free_place(&place, folder, &key, &placed) {
                placed.insert(place.clone(), key.clone());
                queue.push_back((place, key));
            }
        }
    }
    let locked = placed.into_iter().map(|(place, key)| {
        let node = &graph[&key];
        let files = super::npm::files(&node.integrity);
        let (name, version) = (node.name.clone(), node.version.clone());
        Locked { name, version, place, files, ..Locked::default() }
    });
    locked.collect()
}

/// Where a package goes for a user; `None` where the user finds the same already, or the tree would get too deep.
fn free_place(
    user: &str,
    folder: &str,
    key: &str,
    placed: &BTreeMap<String, String>,
) -> Option<String> {
    let mut free = None;
    let mut above = Some(user);
    loop {
        let place = match above {
            Some(above) => format!("{above}/node_modules/{folder}"),
            None => format!("node_modules/{folder}"),
        };
        match placed.get(&place) {
            Some(there) if there == key => return None,
            Some(_) => break,
            None => free = Some(place),
        }
        let Some(current) = above else { break };
        above = current.rsplit_once("/node_modules/").map(|(parent, _)| parent);
    }
    let depth = free.as_deref().map_or(0, |place| place.matches("node_modules/").count());
    free.filter(|_| depth as u64 <= u64::from(NPM_TREE_DEPTH_MAX))
}

/// Calls `take` with the path of keys to each scalar, and with the path to each mapping.
fn each(text: &str, take: &mut dyn FnMut(&[&str], &str)) -> Result<(), String> {
    let mut open: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let body = line.trim_start();
        if body.is_empty() || body.starts_with('#') || body == "---" {
            continue;
        }
        let indent = line.len() - body.len();
        while open.last().is_some_and(|(above, _)| *above >= indent) {
            open.pop();
        }
        // Lists say nothing about versions.
        if body.starts_with("- ") || body == "-" {
            continue;
        }
        let wrong = || format!("line {} is not what pnpm writes", at + 1);
        let (key, rest) = scalar(body, ':').ok_or_else(wrong)?;
        if open.len() >= DEPTH_MAX {
            return Err(wrong());
        }
        open.push((indent, key));
        let path: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
        let rest = rest.trim();
        match rest.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(inner) => braces(inner, &path, take).ok_or_else(wrong)?,
            None if rest.is_empty() => take(&path, ""),
            None => {
                let value = scalar(rest, '\0').ok_or_else(wrong)?.0;
                take(&path, &value);
            }
        }
    }
    Ok(())
}

/// `integrity: sha512-..., tarball: ...`.
fn braces(mut inner: &str, path: &[&str], take: &mut dyn FnMut(&[&str], &str)) -> Option<()> {
    take(path, "");
    while !inner.trim().is_empty() {
        let (key, rest) = scalar(inner.trim_start(), ':')?;
        let (value, rest) = scalar(rest.trim_start(), ',')?;
        let mut path = path.to_vec();
        path.push(&key);
        take(&path, &value);
        inner = rest;
    }
    Some(())
}

/// A quoted or plain scalar up to `end` (or the end of the text), and what follows that.
fn scalar(text: &str, end: char) -> Option<(String, &str)> {
    for quote in ['\'', '"'] {
        let Some(inner) = text.strip_prefix(quote) else { continue };
        let close = inner.find(quote)?;
        // Doubled or escaped quotes do not occur in names and versions.
        let value = &inner[..close];
        let rest = inner[close + 1..].trim_start();
        let rest = if rest.is_empty() && end != ':' { rest } else { strip_end(rest, end)? };
        return (!value.contains('\\')).then(|| (value.to_owned(), rest));
    }
    let close = match end {
        ':' => text.find(": ").or_else(|| text.strip_suffix(':').map(str::len))?,
        '\0' => text.len(),
        end => text.find(end).unwrap_or(text.len()),
    };
    let rest = text.get(close + 1..).unwrap_or_default();
    Some((text[..close].trim().to_owned(), rest))
}

fn strip_end(rest: &str, end: char) -> Option<&str> {
    match end {
        '\0' => Some(rest),
        end => rest.strip_prefix(end),
    }
}
