//! A registry in a few lines of text: `a@1.0.0 os=linux: b@^1 peer c@1 opt d@1 optpeer e@1 bundle=b`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Kind};
use crate::manifest::package_json::RootManifest;
use crate::metadata::Hashes;
use crate::metadata::npm::{Metadata, Packument, Version};
use crate::resolution::Resolution;
use crate::resolve::npm::archives::NoArchives;
use crate::resolve::npm::{Local, Order, Preferred, Request};

#[derive(Default)]
pub(super) struct Universe {
    pub(super) packages: BTreeMap<String, Packument>,
    pub(super) log: Mutex<Vec<String>>,
    /// Packages that the network fails for.
    pub(super) unreachable: Vec<String>,
}

impl Metadata for Universe {
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error> {
        self.log.lock().expect("log").push(format!("ask {name}"));
        if self.unreachable.iter().any(|one| one == name) {
            let message = format!("`{name}` could not be fetched");
            return Err(Error::new(Kind::Network, "connection-lost", message));
        }
        self.packages.get(name).cloned().map(Arc::new).ok_or_else(|| {
            Error::new(Kind::Usage, "unknown-package", format!("there is no package `{name}`"))
        })
    }

    fn prefetch(&self, name: &str) -> bool {
        self.log.lock().expect("log").push(format!("announce {name}"));
        true
    }
}

impl Universe {
    pub(super) fn parse(text: &str) -> Self {
        let mut universe = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["tag", name, tag, version] => {
                    let package = universe.packages.get_mut(*name).expect("tag after versions");
                    package.dist_tags.insert((*tag).to_owned(), (*version).to_owned());
                }
                [id, rest @ ..] => universe.insert(id.trim_end_matches(':'), rest),
                [] => {}
            }
        }
        universe
    }

    fn insert(&mut self, id: &str, words: &[&str]) {
        let (name, text) = id.rsplit_once('@').expect("name@version");
        let mut version = Version {
            version: text.to_owned(),
            tarball: format!("https://example.invalid/{name}/-/{name}-{text}.tgz"),
            hashes: Hashes { sha256: None, sha512: Some("00".repeat(64)) },
            ..Version::default()
        };
        let mut table = "";
        for word in words {
            let word = word.trim_end_matches(':');
            let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
            if let Some(os) = word.strip_prefix("os=") {
                version.os = list(os);
            } else if let Some(cpu) = word.strip_prefix("cpu=") {
                version.cpu = list(cpu);
            } else if let Some(libc) = word.strip_prefix("libc=") {
                version.libc = list(libc);
            } else if let Some(node) = word.strip_prefix("node=") {
                version.engines_node = Some(plain(node));
            } else if let Some(names) = word.strip_prefix("bundle=") {
                version.bundled = list(names);
            } else if let Some(time) = word.strip_prefix("time=") {
                version.published = Some(time.to_owned());
            } else if word == "deprecated" {
                version.deprecated = Some("old".to_owned());
            } else if let Some((name, want)) = split_wish(word) {
                let target = match table {
                    "peer" | "optpeer" => &mut version.peer_dependencies,
                    "opt" => &mut version.optional_dependencies,
                    _ => &mut version.dependencies,
                };
                target.insert(name.clone(), want);
                if table == "optpeer" {
                    version.optional_peers.push(name);
                }
                table = "";
            } else {
                table = word;
            }
        }
        // As the metadata promises: what is optional stands in one table only.
        let optional = &version.optional_dependencies;
        version.dependencies.retain(|name, _| !optional.contains_key(name));
        let package = self.packages.entry(name.to_owned()).or_default();
        package.name = name.to_owned();
        package.versions.insert(text.to_owned(), Arc::new(version));
    }
}

fn split_wish(word: &str) -> Option<(String, String)> {
    let at = word.get(1..)?.find('@')? + 1;
    Some((word[..at].to_owned(), plain(&word[at + 1..])))
}

/// What stands between spaces cannot have one.
fn plain(text: &str) -> String {
    text.replace("%20", " ").replace("%25", "%")
}

/// A project with dependencies as in `a@1 b@^2`.
pub(super) fn root(wanted: &str) -> RootManifest {
    let dependencies = wanted.split_whitespace().filter_map(split_wish).collect();
    RootManifest { dependencies, ..RootManifest::default() }
}

pub(super) fn request(root: RootManifest) -> Request<'static> {
    request_with(root, &|| Ok(()))
}

pub(super) fn request_with(
    root: RootManifest,
    keep_on: crate::resolve::KeepOn<'static>,
) -> Request<'static> {
    Request {
        root,
        locals: Vec::new(),
        archives: &NoArchives,
        order: Order::default(),
        node_version: Some("20.0.0".to_owned()),
        os: "linux".to_owned(),
        cpu: "x64".to_owned(),
        libc: Some("glibc".to_owned()),
        preferred: BTreeMap::<String, Preferred>::new(),
        explicit: std::collections::BTreeSet::new(),
        keep_on,
    }
}

/// The project's own packages, `place name@version: dependencies` a line; `file` before it is one that is no workspace.
pub(super) fn locals(text: &str) -> Vec<Local> {
    let local = |line: &str| {
        let (head, wanted) = line.split_once(':').expect("a colon");
        let (is_workspace, head) = match head.trim().strip_prefix("file ") {
            Some(head) => (false, head),
            None => (true, head.trim()),
        };
        let (place, id) = head.split_once(' ').expect("place name@version");
        let (name, version) = id.rsplit_once('@').expect("name@version");
        let mut manifest =
            RootManifest { version: Some(version.to_owned()), ..RootManifest::default() };
        let mut table = "";
        for word in wanted.split_whitespace() {
            let Some((name, want)) = split_wish(word) else {
                table = word;
                continue;
            };
            match std::mem::take(&mut table) {
                "peer" => manifest.peer_dependencies.insert(name, want),
                "opt" => manifest.optional_dependencies.insert(name, want),
                "dev" => manifest.dev_dependencies.insert(name, want),
                _ => manifest.dependencies.insert(name, want),
            };
        }
        let (place, name) = (place.to_owned(), name.to_owned());
        let is_inside = !place.starts_with("../");
        Local { place, name, manifest, is_workspace, is_inside }
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(local).collect()
}

/// `a/b name@version`, in the order of places; `a/b` stands for `node_modules/a/node_modules/b`.
pub(super) fn places(resolution: &Resolution) -> Vec<String> {
    let mut lines: Vec<String> = resolution
        .packages
        .iter()
        .map(|one| {
            let place =
                one.place.trim_start_matches("node_modules/").replace("/node_modules/", "/");
            format!("{place} {}@{}", one.name, one.version)
        })
        .collect();
    lines.sort();
    lines
}
