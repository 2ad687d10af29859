//! Versions of the project's own dependencies and of their peers that agree with each other, searched for where those that
//! would be taken first do not.
//!
//! Beside the project each name stands once, so this is a search for one version per name: names are decided one after
//! another, best version first, and a dead end goes back to the last decision that has to do with it. Everything else in a
//! tree can be nested and is none of this search's business. It is complete up to its bound, so without one an empty
//! answer means that there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rustc_hash::FxHashMap as HashMap;
use std::sync::Arc;

use super::build::Builder;
use super::catalogue::{Role, WantId};
use super::names::NameId;
use super::report::Stop;
use super::want::Want;
use crate::limits::NPM_AGREE_LOOKS_MAX;
use crate::metadata::npm::Version as Entry;
use agents_versions::npm::Version;

/// A version for each name that stands beside the project.
pub(super) type Pins = BTreeMap<String, Pin>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// The package's name, not the alias.
    pub(super) package: String,
    pub(super) version: String,
}

/// What came of the search.
pub(super) enum Agreement {
    Found(Pins),
    /// There is none.
    None,
    /// The bound was reached, or a package could not be asked for.
    Unknown,
}

/// A version that a name may have.
struct Candidate {
    package: String,
    /// `None` for one of the project's own packages, which asks for nothing here, and for an archive, which is no version of a registry.
    entry: Option<Arc<Entry>>,
    version: Option<Version>,
    peers: Vec<(NameId, WantId, bool)>,
}

/// A name that is decided.
struct Level {
    name: NameId,
    candidates: Rc<Vec<Candidate>>,
    at: usize,
    /// Earlier levels because of which candidates were passed over.
    blame: BTreeSet<usize>,
}

struct Search<'b, 'a> {
    builder: &'b mut Builder<'a>,
    /// What the project and its workspaces want, in order; those that must be there first of all.
    wants: Vec<(NameId, WantId, bool)>,
    known: HashMap<NameId, Rc<Vec<Candidate>>>,
    levels: Vec<Level>,
    looks: usize,
}

impl Builder<'_> {
    /// Looks for versions that agree.
    pub(super) fn agree(&mut self) -> Result<Agreement, Stop> {
        let mut wants = Vec::new();
        let workspaces: Vec<_> = self.tree.locals().filter(|&id| self.tree.is_mine(id)).collect();
        for node in [self.top].into_iter().chain(workspaces) {
            for edge in self.tree.edges_out(node) {
                let one = self.tree.edge(edge);
                // What else a workspace needs can stand in its own folder.
                if node == self.top || one.role.is_peer() {
                    wants.push((one.name, one.want, one.role != Role::OptionalPeer));
                }
            }
        }
        let known = HashMap::default();
        Search { builder: self, wants, known, levels: Vec::new(), looks: 0 }.run()
    }
}

impl Search<'_, '_> {
    fn run(mut self) -> Result<Agreement, Stop> {
        while let Some((name, want, because)) = self.next() {
            self.builder.keep_on()?;
            let Some(candidates) = self.candidates(name, want) else {
                return Ok(Agreement::Unknown);
            };
            self.levels.push(Level { name, candidates, at: 0, blame: because });
            while !self.advance() {
                let Some(level) = self.levels.pop() else { return Ok(Agreement::None) };
                let Some(&back) = level.blame.last() else { return Ok(Agreement::None) };
                self.levels.truncate(back + 1);
                let mut blame = level.blame;
                blame.remove(&back);
                let Some(culprit) = self.levels.last_mut() else { return Ok(Agreement::None) };
                culprit.at += 1;
                culprit.blame.extend(blame);
            }
            if self.looks > NPM_AGREE_LOOKS_MAX {
                return Ok(Agreement::Unknown);
            }
        }
        let pin = |level: &Level| {
            let candidate = &level.candidates[level.at];
            let version = candidate.entry.as_ref()?.version.clone();
            let name = self.builder.tree.catalogue.known.names.text(level.name).to_string();
            Some((name, Pin { package: candidate.package.clone(), version }))
        };
        Ok(Agreement::Found(self.levels.iter().filter_map(pin).collect()))
    }

    /// The next name to decide, a want that names its package, and the levels because of which it has to be there.
    fn next(&self) -> Option<(NameId, WantId, BTreeSet<usize>)> {
        let decided = |name: NameId| self.levels.iter().any(|level| level.name == name);
        let of_project = self.wants.iter().find(|(name, _, must)| *must && !decided(*name));
        if let Some(&(name, want, _)) = of_project {
            return Some((name, want, BTreeSet::new()));
        }
        for (index, level) in self.levels.iter().enumerate() {
            for &(name, want, must) in &level.candidates[level.at].peers {
                if must && !decided(name) {
                    return Some((name, want, BTreeSet::from([index])));
                }
            }
        }
        None
    }

    /// Moves the last level to its next candidate that suits all others; `false` where it has none.
    fn advance(&mut self) -> bool {
        let Some(mut level) = self.levels.pop() else { return false };
        let found = loop {
            let Some(candidate) = level.candidates.get(level.at) else { break false };
            self.looks += 1;
            if self.looks > NPM_AGREE_LOOKS_MAX {
                // The bound ends the search; what it stands at does not matter.
                break true;
            }
            match self.objection(level.name, candidate) {
                None => break true,
                Some(by) => level.blame.extend(by),
            }
            level.at += 1;
        };
        self.levels.push(level);
        found
    }

    /// Who is against a candidate: the project (no level), or an earlier level; `None` where nobody is.
    fn objection(&self, name: NameId, candidate: &Candidate) -> Option<Option<usize>> {
        let against = |want: WantId, candidate: &Candidate| !self.meets(want, candidate);
        if self.wants.iter().any(|(one, want, _)| *one == name && against(*want, candidate)) {
            return Some(None);
        }
        // A package may name itself: it finds itself then.
        if candidate.peers.iter().any(|(one, want, _)| *one == name && against(*want, candidate)) {
            return Some(None);
        }
        for (index, level) in self.levels.iter().enumerate() {
            let decided = &level.candidates[level.at];
            let mut theirs = decided.peers.iter().filter(|(one, _, _)| *one == name);
            let mut ours = candidate.peers.iter().filter(|(one, _, _)| *one == level.name);
            if theirs.any(|(_, want, _)| against(*want, candidate))
                || ours.any(|(_, want, _)| against(*want, decided))
            {
                return Some(Some(index));
            }
        }
        None
    }

    fn meets(&self, want: WantId, candidate: &Candidate) -> bool {
        let want = self.builder.tree.catalogue.want_ref(want);
        match want {
            Want::Local(_) | Want::Archive(_) => candidate.entry.is_none(),
            Want::Alias { package, .. } if *package != candidate.package => false,
            Want::Tag(_) => candidate.entry.is_some(),
            want => want.accepts(candidate.version.as_ref()),
        }
    }

    /// The versions that a name may have, in the order in which they would be taken.
    fn candidates(&mut self, name: NameId, want: WantId) -> Option<Rc<Vec<Candidate>>> {
        if let Some(known) = self.known.get(&name) {
            return Some(Rc::clone(known));
        }
        // The project's own want says which package it is, where it has one.
        let of_project = self.wants.iter().find(|(one, _, _)| *one == name);
        let (want, is_of_project) = of_project.map_or((want, false), |(_, want, _)| (*want, true));
        let catalogue = &mut self.builder.tree.catalogue;
        let wanted = catalogue.wanted(want);
        let wanted = &wanted.want;
        let package = wanted.package(&catalogue.known.names.text(name)).to_owned();
        let mut list = Vec::new();
        let local = match wanted {
            Want::Local(local) => Some(*local),
            Want::Unsupported(_) => return None,
            Want::Archive(key) => return self.only(name, package, key),
            _ => catalogue.locals.workspace(name),
        };
        if let Some(local) = local {
            let version = catalogue.locals.own(local).version.clone();
            list.push(Candidate {
                package: package.clone(),
                entry: None,
                version,
                peers: Vec::new(),
            });
        }
        if !matches!(wanted, Want::Local(_)) {
            // What peers want of it is asked of each version; they may be others another time.
            let range = is_of_project.then(|| wanted.target());
            for (version, entry) in catalogue.in_order(&package, range)? {
                let (package, entry, version) = (package.clone(), Some(entry), Some(version));
                list.push(Candidate { package, entry, version, peers: Vec::new() });
            }
        }
        for candidate in &mut list {
            candidate.peers =
                candidate.entry.clone().map_or_else(Vec::new, |entry| self.peers(&entry));
        }
        let list = Rc::new(list);
        self.known.insert(name, Rc::clone(&list));
        Some(list)
    }

    /// The candidate that an archive is; no version of a registry, so that nothing is pinned for it.
    fn only(
        &mut self,
        name: NameId,
        package: String,
        key: &Arc<str>,
    ) -> Option<Rc<Vec<Candidate>>> {
        let catalogue = &mut self.builder.tree.catalogue;
        let folder = catalogue.known.names.text(name);
        let found = catalogue.archive(&folder, key).ok()?;
        let found = catalogue.package(found);
        let (entry, version) = (Arc::clone(&found.ready.entry), Some(found.version.clone()));
        let peers = self.peers(&entry);
        let list = Rc::new(vec![Candidate { package, entry: None, version, peers }]);
        self.known.insert(name, Rc::clone(&list));
        Some(list)
    }

    /// The peers of a version, and whether each must be there. What it also needs by itself is no peer.
    fn peers(&mut self, entry: &Entry) -> Vec<(NameId, WantId, bool)> {
        let tree = &mut self.builder.tree;
        let mut peers = Vec::new();
        for (name, text) in &entry.peer_dependencies {
            let brings = entry.dependencies.contains_key(name)
                || entry.optional_dependencies.contains_key(name)
                || entry.bundled.contains(name);
            if brings {
                continue;
            }
            let must = !entry.optional_peers.contains(name);
            let id = tree.catalogue.known.names.intern(name);
            let declared = tree.catalogue.want_id(text);
            let range = tree.catalogue.want_ref(declared);
            let replaced = tree.rules.root().and_then(|root| {
                let rule = tree.rules.for_edge(root, name, range.range());
                tree.rules.replacement(rule, name)
            });
            let want = replaced.map_or(declared, |text| tree.catalogue.own_want_id(&text));
            peers.push((id, want, must));
        }
        peers
    }
}
