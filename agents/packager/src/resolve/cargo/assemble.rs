//! The solver's choice as packages and edges: what is reached from the members with the features that they switch on.
//!
//! This repeats cargo's own activation over the chosen versions, and so would also notice a choice that does not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pubgrub::SelectedDependencies;
use semver::VersionReq;

use super::Resolved;
use super::activation::Manifest;
use super::crates::Bucket;
use super::lock::{self, Lock};
use super::provider::{Chosen, Key, Provider};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::metadata::cargo::Need;
use crate::resolution::{Artifact, Package, Resolution};
use crate::resolve::indexed::Id;

/// A package of the graph: a member by position, or a crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Member(usize),
    Crate(String, Bucket),
}

struct Walk<'p, 'a> {
    provider: &'p Provider<'a>,
    versions: HashMap<(String, Bucket), Chosen>,
    choices: HashMap<Id, u32>,
    /// The features switched on so far, as asked for.
    features: BTreeMap<Node, BTreeSet<String>>,
    edges: BTreeMap<Node, BTreeSet<Node>>,
    /// What has to be looked at, each once however much is new of it.
    queue: BTreeSet<Node>,
}

pub(super) fn assemble(
    provider: &Provider<'_>,
    selected: SelectedDependencies<Id, u32>,
) -> Result<Resolved, Error> {
    let mut walk = Walk {
        provider,
        versions: HashMap::new(),
        choices: HashMap::new(),
        features: BTreeMap::new(),
        edges: BTreeMap::new(),
        queue: BTreeSet::new(),
    };
    for (id, position) in selected {
        match provider.key(id) {
            Key::Crate(name, bucket) => {
                let version = provider.version(&name, bucket, position)?;
                walk.versions.insert((name.to_string(), bucket), version);
            }
            Key::Choice(..) => {
                walk.choices.insert(id, position);
            }
            _ => {}
        }
    }
    for position in 0..provider.request.roots.len() {
        walk.reach(Node::Member(position), &BTreeSet::new());
    }
    while let Some(node) = walk.queue.pop_first() {
        walk.expand(&node)?;
    }
    walk.finish()
}

impl Walk<'_, '_> {
    /// Notes that a package is used with some features; looks at it again where that is news.
    fn reach(&mut self, node: Node, features: &BTreeSet<&str>) {
        let is_new = !self.features.contains_key(&node);
        let known = self.features.entry(node.clone()).or_default();
        let before = known.len();
        known.extend(features.iter().map(|feature| (*feature).to_owned()));
        if is_new || known.len() > before {
            self.queue.insert(node);
        }
    }

    fn expand(&mut self, node: &Node) -> Result<(), Error> {
        match node {
            Node::Member(position) => {
                let manifest = self.provider.member(*position);
                let parent = self.provider.id(Key::Member(*position));
                self.follow(node, parent, manifest, &manifest.all_features())
            }
            Node::Crate(name, bucket) => {
                let version = self.version(name, *bucket)?;
                let manifest = Manifest(version.listed());
                let parent = self.provider.id(Key::Crate(name.as_str().into(), *bucket));
                let wanted = self.features.get(node).cloned().unwrap_or_default();
                let wanted = wanted.iter().map(String::as_str);
                let exists =
                    |feature: &&str| *feature != "default" || manifest.has_feature(feature);
                self.follow(node, parent, manifest, &wanted.filter(exists).collect())
            }
        }
    }

    fn follow(
        &mut self,
        node: &Node,
        parent: Id,
        manifest: Manifest<'_>,
        wanted: &BTreeSet<&str>,
    ) -> Result<(), Error> {
        let activation = manifest
            .activate(wanted.iter().copied())
            .map_err(|feature| inconsistent(&format!("{node:?} has no feature `{feature}`")))?;
        let implied: BTreeSet<&str> = activation.features.iter().copied().collect();
        if let Some(known) = self.features.get_mut(node) {
            known.extend(implied.iter().map(|feature| (*feature).to_owned()));
        }
        for (need, features) in manifest.active(&activation) {
            let target = self.target(parent, need)?;
            self.edges.entry(node.clone()).or_default().insert(target.clone());
            self.reach(target, &features);
        }
        Ok(())
    }

    /// The crate that meets a dependency.
    fn target(&self, parent: Id, need: Need<'_>) -> Result<Node, Error> {
        let (name, requirement) = (need.package(), need.requirement());
        let matching = self.provider.matching(name, requirement)?;
        let position = match matching.len() {
            1 => 0,
            _ => {
                let key = Key::Choice(parent, name.into(), requirement.into());
                let choice = self.choices.get(&self.provider.id(key));
                *choice.ok_or_else(|| inconsistent(&format!("nothing was chosen for `{name}`")))?
                    as usize
            }
        };
        let bucket = matching.get(position).map_or(Bucket::Nothing, |(bucket, _)| *bucket);
        let version = self.version(name, bucket)?;
        let version = version.listed().number();
        if !VersionReq::parse(requirement).is_ok_and(|wanted| wanted.matches(version)) {
            return Err(inconsistent(&format!("`{name}` {version} does not meet {requirement}")));
        }
        Ok(Node::Crate(name.to_owned(), bucket))
    }

    fn version(&self, name: &str, bucket: Bucket) -> Result<Chosen, Error> {
        let version = self.versions.get(&(name.to_owned(), bucket));
        version.cloned().ok_or_else(|| inconsistent(&format!("`{name}` {bucket} was not chosen")))
    }

    fn finish(self) -> Result<Resolved, Error> {
        let request = self.provider.request;
        let mut nodes: Vec<(String, semver::Version, Node)> = Vec::new();
        for node in self.features.keys() {
            let (name, version) = match node {
                Node::Member(position) => {
                    let root = &request.roots[*position];
                    (root.name.clone(), root.version.clone())
                }
                Node::Crate(name, bucket) => {
                    (name.clone(), self.version(name, *bucket)?.listed().number().clone())
                }
            };
            nodes.push((name, version, node.clone()));
        }
        nodes.sort();
        let direct: BTreeSet<&Node> = self
            .edges
            .iter()
            .filter(|(node, _)| matches!(node, Node::Member(_)))
            .flat_map(|(_, targets)| targets)
            .collect();
        let crates = nodes.iter().filter(|(.., node)| matches!(node, Node::Crate(..)));
        let crates: Vec<_> = crates.collect();
        let index_of: BTreeMap<&Node, usize> =
            crates.iter().enumerate().map(|(index, (.., node))| (node, index)).collect();
        let mut packages = Vec::with_capacity(crates.len());
        for (_, _, node) in &crates {
            let dependencies = self.edges.get(node).into_iter().flatten();
            let dependencies: BTreeSet<usize> =
                dependencies.filter_map(|target| index_of.get(target).copied()).collect();
            packages.push(self.package(node, direct.contains(node), dependencies)?);
        }
        let lock = self.lock(&nodes)?;
        let resolution = Resolution {
            ecosystem: Ecosystem::Cargo,
            packages,
            links: Vec::new(),
            warnings: Vec::new(),
        };
        Ok(Resolved { resolution, lock })
    }

    fn package(
        &self,
        node: &Node,
        direct: bool,
        dependencies: BTreeSet<usize>,
    ) -> Result<Package, Error> {
        let Node::Crate(name, bucket) = node else {
            return Err(inconsistent("a member is not a crate of the registry"));
        };
        let version = self.version(name, *bucket)?;
        let version = version.listed();
        let (number, hashes) = (version.number(), version.hashes());
        let features = self.features.get(node).into_iter().flatten();
        let features = features.filter(|feature| Manifest(version).has_feature(feature));
        Ok(Package {
            ecosystem: Ecosystem::Cargo,
            name: name.clone(),
            version: number.to_string(),
            direct,
            artifact: Artifact {
                by_address: false,
                file_name: format!("{name}-{number}.crate"),
                url: (self.provider.request.download)(name, number, &hashes),
                hashes,
                size: None,
            }
            .into(),
            dependencies: dependencies.into_iter().collect(),
            place: String::new(),
            bin: BTreeMap::new(),
            extras: features.cloned().collect(),
            license: None,
            published: version.published().map(str::to_owned),
            scripts: Vec::new(),
        })
    }

    fn lock(&self, nodes: &[(String, semver::Version, Node)]) -> Result<Lock, Error> {
        let request = self.provider.request;
        let index_of: BTreeMap<&Node, usize> =
            nodes.iter().enumerate().map(|(index, (.., node))| (node, index)).collect();
        let mut packages = Vec::with_capacity(nodes.len());
        for (name, version, node) in nodes {
            let targets = self.edges.get(node).into_iter().flatten();
            let mut dependencies: BTreeSet<usize> =
                targets.filter_map(|target| index_of.get(target).copied()).collect();
            let (source, checksum) = match node {
                Node::Crate(name, bucket) => {
                    let checksum = self.version(name, *bucket)?.listed().hashes().sha256;
                    (Some(request.source.to_owned()), checksum)
                }
                Node::Member(position) => {
                    for local in &request.roots[*position].local {
                        let target = request.roots.iter().position(|root| root.name == *local);
                        let target = target.ok_or_else(|| {
                            let message =
                                format!("`{name}` depends on `{local}`, which is not a member");
                            Error::new(Kind::Usage, "unknown-member", message)
                        })?;
                        dependencies.extend(index_of.get(&Node::Member(target)));
                    }
                    (None, None)
                }
            };
            packages.push(lock::Package {
                name: name.clone(),
                version: version.clone(),
                source,
                checksum,
                dependencies: dependencies.into_iter().collect(),
            });
        }
        Ok(Lock { format: request.format, packages })
    }
}

/// A choice that does not hold together: a mistake of this program, reported rather than written to a lock.
fn inconsistent(what: &str) -> Error {
    Error::new(
        Kind::Failed,
        "inconsistent",
        format!("the resolution does not hold together: {what}"),
    )
    .hint("report this with your Cargo.toml; nothing was changed")
}
