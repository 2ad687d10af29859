//! The solver's choice as packages and edges: what is reached from the members with the features that they switch on.
//!
//! This repeats cargo's own activation over the chosen versions, and so would also notice a choice that does not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pubgrub::SelectedDependencies;
use semver::VersionReq;

use super::activation::Manifest;
use super::crates::Bucket;
use super::lock::{self, Lock};
use super::provider::{Chosen, Key, Provider};
use super::{Patch, Resolved};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::metadata::cargo::Need;
use crate::metadata::cargo::scope::split;
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
        let (name, requirement) = (&*need.key(), need.requirement());
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
            // What is a member stands there as one.
            if self.member_of(node)?.is_some() {
                continue;
            }
            let (name, version) = match node {
                Node::Member(position) => {
                    let root = &request.roots[*position];
                    (root.name.clone(), root.version.clone())
                }
                Node::Crate(name, bucket) => {
                    let number = self.version(name, *bucket)?.listed().number().clone();
                    (split(name).0.to_owned(), number)
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
        let mut crates = Vec::new();
        for node in &nodes {
            if matches!(node.2, Node::Crate(..)) && !self.is_local(&node.2)? {
                crates.push(node);
            }
        }
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
            warnings: self.patches()?,
        };
        Ok(Resolved { resolution, lock })
    }

    /// Whether a crate is a package of the project's own.
    fn is_local(&self, node: &Node) -> Result<bool, Error> {
        let Node::Crate(name, bucket) = node else { return Ok(false) };
        Ok(self.version(name, *bucket)?.listed().is_local())
    }

    /// The member that a crate is, where `[patch]` names one.
    fn member_of(&self, node: &Node) -> Result<Option<Node>, Error> {
        let Node::Crate(name, bucket) = node else { return Ok(None) };
        let version = self.version(name, *bucket)?;
        let (version, name) = (version.listed(), split(name).0);
        let is_it = |root: &super::Root| root.name == name && root.version == *version.number();
        let roots = self.provider.request.roots;
        let found = roots.iter().position(is_it).filter(|_| version.is_local());
        Ok(found.map(Node::Member))
    }

    /// Whether anything uses what `[patch]` names.
    fn uses(&self, patch: &Patch) -> Result<bool, Error> {
        for node in self.features.keys() {
            if let Node::Crate(key, bucket) = node
                && *key == patch.key
                && self.is_local(node)?
                && *self.version(key, *bucket)?.listed().number() == patch.version
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What `[patch]` comes to, for people.
    fn patches(&self) -> Result<Vec<String>, Error> {
        let said = self.provider.request.patches.iter().map(|patch| {
            let (name, Patch { version, directory, .. }) = (split(&patch.key).0, patch);
            Ok(match self.uses(patch)? {
                true => {
                    format!("`{name}` {version} is taken from `{directory}`, as `[patch]` says")
                }
                false => format!(
                    "`[patch]` names `{name}` {version} in `{directory}`, which nothing uses"
                ),
            })
        });
        said.collect()
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
            name: split(name).0.to_owned(),
            version: number.to_string(),
            direct,
            artifact: Artifact {
                built: None,
                by_address: false,
                file_name: format!("{}-{number}.crate", split(name).0),
                url: (self.provider.request.download)(name, number, &hashes),
                hashes,
                size: None,
                source: self.provider.request.registry(name).map(|it| it.index.clone()),
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
        let mut index_of: BTreeMap<&Node, usize> =
            nodes.iter().enumerate().map(|(index, (.., node))| (node, index)).collect();
        for node in self.features.keys() {
            let member = self.member_of(node)?.and_then(|member| index_of.get(&member).copied());
            index_of.extend(member.map(|index| (node, index)));
        }
        let mut packages = Vec::with_capacity(nodes.len());
        for (name, version, node) in nodes {
            let targets = self.edges.get(node).into_iter().flatten();
            let mut dependencies: BTreeSet<usize> =
                targets.filter_map(|target| index_of.get(target).copied()).collect();
            let (source, checksum) = match node {
                Node::Crate(..) if self.is_local(node)? => (None, None),
                Node::Crate(name, bucket) => {
                    let checksum = self.version(name, *bucket)?.listed().hashes().sha256;
                    let other = request.registry(name).map(|it| it.index.as_str());
                    (Some(other.unwrap_or(request.source).to_owned()), checksum)
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
        let mut unused = Vec::new();
        for patch in request.patches {
            let (name, version) = (split(&patch.key).0, &patch.version);
            let is_member =
                request.roots.iter().any(|root| root.name == name && root.version == *version);
            if !is_member && !self.uses(patch)? {
                unused.push((name.to_owned(), version.clone()));
            }
        }
        unused.sort();
        Ok(Lock { format: request.format, packages, unused })
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
