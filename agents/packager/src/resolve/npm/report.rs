//! What ends a resolution early, told so that a person can act on it, with changes that would help.

use super::build::{Builder, Way};
use super::catalogue::{NoChoice, PackageId};
use super::names::NameId;
use super::tree::{Content, EdgeId, NodeId};
use super::want::shown;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::limits::NPM_REPAIRS_TRIED_MAX;
use crate::manifest::package_json::RootManifest;
use crate::resolve::{Change, Repair};
use crate::spec::Spec;
use agents_versions::npm::Range;
use agents_versions::shorten;

/// A peer set that fits nowhere.
#[derive(Debug)]
pub(super) struct Clash {
    /// The edge that brought the set in.
    pub(super) entry: EdgeId,
    /// The edge that cannot be satisfied.
    pub(super) edge: EdgeId,
    /// What it finds instead.
    pub(super) current: Option<NodeId>,
    /// An edge that wants what is there.
    pub(super) rival: Option<EdgeId>,
}

/// Why building stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Clash(Clash),
    TooDeep {
        edge: EdgeId,
    },
    /// Packages push each other out of their places for ever; one of them.
    Restless {
        node: NodeId,
    },
    /// A chain of peers longer than the limit, or one that comes back with another version each time.
    PeerChain {
        edge: EdgeId,
    },
    /// A bound was reached; the text says which.
    Bound(String),
    Other(Error),
}

/// The same, explained.
pub(super) enum Failure {
    Conflict { explanation: String, candidates: Vec<Candidate>, way: Option<Way> },
    Other(Error),
}

/// Hops of a chain of dependents that an explanation shows.
const CHAIN_SHOWN: usize = 6;

impl Builder<'_> {
    /// A node as people call it.
    pub(super) fn describe(&self, node: NodeId) -> String {
        let mut node = node;
        while let Some(real) = self.tree.node(node).stands_for {
            node = real;
        }
        if node == self.top {
            return "the project".to_owned();
        }
        let name = self.tree.catalogue.known.names.text(self.tree.node(node).name);
        if let Content::Local(_) | Content::Link(_) = self.tree.node(node).content {
            return format!("the project's own `{name}`");
        }
        match self.tree.version_of(node) {
            Some(version) => format!("`{name}@{version}`"),
            None => format!("`{name}`"),
        }
    }

    /// Who needs a node, up to the project: " (needed by `a@1.0.0`, needed by the project)".
    fn chain(&self, node: NodeId) -> String {
        let mut texts = Vec::new();
        let mut known = vec![node];
        let mut at = node;
        while texts.len() < CHAIN_SHOWN {
            let Some(&edge) =
                self.tree.node(at).edges_in.iter().find(|&&edge| self.tree.edge(edge).valid())
            else {
                // A staged package is needed by the node that its stage stands for.
                let stage = self.tree.node(at).parent;
                if let Some(real) = stage.and_then(|stage| self.tree.node(stage).stands_for) {
                    texts.push(format!("needed by {}", self.describe(real)));
                }
                break;
            };
            let mut from = self.tree.edge(edge).from;
            while let Some(real) = self.tree.node(from).stands_for {
                from = real;
            }
            if known.contains(&from) {
                break;
            }
            known.push(from);
            texts.push(format!("needed by {}", self.describe(from)));
            at = from;
        }
        if texts.is_empty() { String::new() } else { format!(" ({})", texts.join(", ")) }
    }

    fn wish(&self, edge: EdgeId) -> String {
        let one = self.tree.edge(edge);
        let name = self.tree.catalogue.known.names.text(one.name);
        let want = self.tree.catalogue.want_text(one.want);
        let want = if want.is_empty() { "*".to_owned() } else { shown(&want) };
        format!("`{name}@{want}`")
    }

    pub(super) fn explain(&mut self, stop: Stop) -> Failure {
        match stop {
            Stop::Clash(clash) => self.explain_clash(&clash),
            Stop::Restless { node } => Failure::Conflict {
                explanation: format!(
                    "the dependencies of {}{} and of others push each other out of their places without end; no tree of folders satisfies all of them",
                    self.describe(node),
                    self.chain(node)
                ),
                candidates: Vec::new(),
                way: None,
            },
            Stop::PeerChain { edge } => Failure::Conflict {
                explanation: format!(
                    "{}{} has the peer dependency {}, at the end of a chain of peers that is longer than {} or never ends",
                    self.describe(self.tree.edge(edge).from),
                    self.chain(self.tree.edge(edge).from),
                    self.wish(edge),
                    crate::limits::NPM_PEER_DEPTH_MAX
                ),
                candidates: Vec::new(),
                way: None,
            },
            Stop::TooDeep { edge } => Failure::Other(bound(format!(
                "{} would have to stand deeper than {} folders",
                self.wish(edge),
                crate::limits::NPM_TREE_DEPTH_MAX
            ))),
            Stop::Bound(text) => Failure::Other(bound(text)),
            Stop::Other(error) => Failure::Other(error),
        }
    }

    fn explain_clash(&mut self, clash: &Clash) -> Failure {
        let edge = self.tree.edge(clash.edge);
        let (from, role) = (edge.from, edge.role);
        let kind = if role.is_peer() { "has the peer dependency" } else { "needs" };
        let mut text =
            format!("{}{} {kind} {}", self.describe(from), self.chain(from), self.wish(clash.edge));
        match clash.rival {
            Some(rival) => {
                let by = self.tree.edge(rival).from;
                text.push_str(&format!(
                    ", but {}{} needs {}",
                    self.describe(by),
                    self.chain(by),
                    self.wish(rival)
                ));
                if let Some(current) = clash.current {
                    text.push_str(&format!(", here {}", self.describe(current)));
                }
            }
            None => match clash.current {
                Some(current) => {
                    text.push_str(&format!(", but {} is in its place", self.describe(current)));
                }
                None => text.push_str(", which has no place in the tree"),
            },
        }
        Failure::Conflict { explanation: text, candidates: self.candidates(clash), way: None }
    }

    fn candidates(&mut self, clash: &Clash) -> Vec<Candidate> {
        let mut repairs = Vec::new();
        let edge = self.tree.edge(clash.edge);
        let (from, name) = (edge.from, self.tree.catalogue.known.names.text(edge.name));
        let want = self.tree.catalogue.want_text(edge.want);
        if self.is_direct(&name) && self.tree.catalogue.want_ref(edge.want).range().is_some() {
            repairs.push(repair(&name, &want, format!("use `{name}@{}`", shorten(&want))));
        }
        // Another version of who has the peer, as long as the project asks for it by itself.
        let current = clash.current.and_then(|current| self.tree.version_of(current)).cloned();
        if let (Some(current), Content::Package(package)) = (current, &self.tree.node(from).content)
        {
            let dependent =
                self.tree.catalogue.known.names.text(self.tree.catalogue.package(*package).name);
            if self.is_direct(&dependent) {
                let fits =
                    |text: &String| Range::parse(text).is_ok_and(|range| range.satisfies(&current));
                let entries = self.tree.catalogue.entries(&dependent);
                let found = entries.iter().find(|(version, entry)| {
                    !version.is_prerelease() && entry.peer_dependencies.get(&*name).is_none_or(fits)
                });
                if let Some((version, _)) = found {
                    let range = format!("^{version}");
                    let text =
                        format!("use `{dependent}@{range}`, which accepts `{name}@{current}`");
                    repairs.push(repair(&dependent, &range, text));
                }
            }
        }
        // The other side: whoever wants what is there, in a version that wants what the peer wants.
        let entry_name = self.tree.catalogue.known.names.text(self.tree.edge(clash.entry).name);
        if entry_name != name && self.is_direct(&entry_name) {
            for (version, _) in self.tree.catalogue.entries(&entry_name).iter().take(2) {
                let range = format!("^{version}");
                repairs.push(repair(&entry_name, &range, format!("use `{entry_name}@{range}`")));
            }
        }
        repairs
    }

    /// Whether the project asks a registry for a name: in the place of an archive nothing else is proposed.
    fn is_direct(&self, name: &str) -> bool {
        self.tree.edges_out(self.top).map(|edge| self.tree.edge(edge)).any(|one| {
            *self.tree.catalogue.known.names.text(one.name) == *name
                && !self.tree.catalogue.is_want_of_archive(one.want)
        })
    }

    /// This version of a package, and all others that need what nobody published under a name.
    pub(super) fn unusable_versions(
        &mut self,
        package: PackageId,
        wanted: NameId,
    ) -> Vec<(String, String)> {
        let package = self.tree.catalogue.package(package);
        let version = package.ready.entry.version.clone();
        let name = self.tree.catalogue.known.names.text(package.name);
        let text = self.tree.catalogue.known.names.text(wanted);
        let mut versions = vec![(name.to_string(), version)];
        for (_, entry) in self.tree.catalogue.entries(&name) {
            if let Some(want) = entry.dependencies.get(&*text) {
                let want = self.tree.catalogue.want_id(want);
                let choice = self.tree.catalogue.choose(wanted, want, false);
                if choice.is_err_and(|none| matches!(*none, NoChoice::NoMatch { .. })) {
                    versions.push((name.to_string(), entry.version.clone()));
                }
            }
        }
        versions
    }

    /// A required package of which no version will do.
    pub(super) fn no_match(&self, edge: EdgeId, package: &str, latest: Option<&str>) -> Failure {
        let one = self.tree.edge(edge);
        let want = self.tree.catalogue.want_text(one.want);
        let newest = latest.map(|latest| format!("; the newest is `{latest}`")).unwrap_or_default();
        let explanation = format!(
            "no version of `{package}` matches `{}`, which {}{} asks for{newest}",
            shown(&want),
            self.describe(one.from),
            self.chain(one.from)
        );
        let name = self.tree.catalogue.known.names.text(one.name);
        let candidates = match latest.filter(|_| one.from == self.top && *name == *package) {
            Some(latest) => {
                let range = format!("^{latest}");
                vec![repair(package, &range, format!("use `{package}@{range}`"))]
            }
            None => Vec::new(),
        };
        // Nobody can use the version that needs this; another one of the same package may not need it.
        let way = self.tree.package_of(one.from).map(|package| Way::Without(package, one.name));
        Failure::Conflict { explanation, candidates, way }
    }
}

fn bound(text: String) -> Error {
    Error::new(Kind::Failed, "tree-too-large", format!("the npm tree was given up: {text}"))
}

/// A change that might help; [`tried`] finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    description: String,
    change: Spec,
}

fn repair(name: &str, requirement: &str, description: String) -> Candidate {
    let change = Spec {
        ecosystem: Ecosystem::Npm,
        name: name.to_owned(),
        extras: Vec::new(),
        requirement: requirement.to_owned(),
    };
    Candidate { description, change }
}

/// The candidates that lead to a solution, without repetition.
pub(super) fn tried(candidates: Vec<Candidate>, works: impl Fn(&Spec) -> bool) -> Vec<Repair> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates.into_iter().take(NPM_REPAIRS_TRIED_MAX) {
        let known = kept.iter().any(|one| one.change == candidate.change);
        if !known && works(&candidate.change) {
            kept.push(candidate);
        }
    }
    kept.into_iter().map(Candidate::into_repair).collect()
}

impl Candidate {
    fn into_repair(self) -> Repair {
        let Spec { name, requirement, .. } = self.change;
        let to = Some(format!("{name}@{requirement}"));
        Repair { description: self.description, changes: vec![Change { from: name, to }] }
    }
}

/// The project with one other requirement: in the tables where the name stands, else as a dependency.
pub(super) fn with_change(root: &RootManifest, change: &Spec) -> RootManifest {
    let mut root = root.clone();
    let tables = [
        &mut root.dependencies,
        &mut root.dev_dependencies,
        &mut root.optional_dependencies,
        &mut root.peer_dependencies,
    ];
    let mut known = false;
    for table in tables {
        if let Some(text) = table.get_mut(&change.name) {
            text.clone_from(&change.requirement);
            known = true;
        }
    }
    if !known {
        root.dependencies.insert(change.name.clone(), change.requirement.clone());
    }
    root
}
