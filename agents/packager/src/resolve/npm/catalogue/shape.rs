//! The dependencies of one package as edges: names and texts become numbers, and what will be needed is announced.

use std::collections::HashSet;

use rustc_hash::FxHashSet;

use super::{Catalogue, Declared, Role, Shape, WantId};
use crate::metadata::npm::{Dependencies, Version as Entry};
use crate::resolve::npm::names::Folder;
use crate::resolve::npm::want::Want;

/// The dependencies of one package while they are gathered.
struct Gathered<'a> {
    declared: Vec<Declared>,
    known: FxHashSet<Folder>,
    bundled: &'a HashSet<&'a str>,
    is_own: bool,
}

impl Catalogue<'_> {
    pub(super) fn shape_of_package(&mut self, entry: &Entry) -> Shape {
        let bundled: HashSet<&str> = entry.bundled.iter().map(String::as_str).collect();
        let tables =
            [(Role::Required, &entry.dependencies), (Role::Optional, &entry.optional_dependencies)];
        self.shape(&entry.peer_dependencies, &entry.optional_peers, &tables, &bundled, false)
    }

    /// Interns tables into edges; of a name in several tables the last counts, peers come first. Announces what will be
    /// needed. The tables are the project's own or a registry's.
    pub(in super::super) fn shape(
        &mut self,
        peers: &Dependencies,
        optional_peers: &[String],
        tables: &[(Role, &Dependencies)],
        bundled: &HashSet<&str>,
        is_own: bool,
    ) -> Shape {
        let optional: HashSet<&str> = match peers.is_empty() {
            true => HashSet::new(),
            false => optional_peers.iter().map(String::as_str).collect(),
        };
        let must_be = |(name, _): &(&String, &String)| !optional.contains(name.as_str());
        let count = peers.len() + tables.iter().map(|(_, table)| table.len()).sum::<usize>();
        let (declared, known) = (Vec::with_capacity(count), FxHashSet::default());
        let mut gathered = Gathered { declared, known, bundled, is_own };
        for one in peers.iter().filter(must_be) {
            self.declare(Role::Peer, one, &mut gathered);
        }
        for one in peers.iter().filter(|one| !must_be(one)) {
            self.declare(Role::OptionalPeer, one, &mut gathered);
        }
        for (role, table) in tables {
            for one in *table {
                self.declare(*role, one, &mut gathered);
            }
        }
        let declared = gathered.declared;
        let numbered = declared.iter().zip(0..);
        let mut index: Vec<(Folder, u32)> = numbered.map(|(one, at)| (one.folder, at)).collect();
        index.sort_unstable();
        let bundled = bundled
            .iter()
            .map(|name| {
                let id = self.names.intern(name);
                self.names.folder(id)
            })
            .collect();
        let has_peers = declared.iter().any(|one| one.role.is_peer());
        Shape { declared, index, bundled, has_peers }
    }

    fn declare(
        &mut self,
        role: Role,
        (name, text): (&String, &String),
        gathered: &mut Gathered<'_>,
    ) {
        let id = self.names.intern(name);
        let folder = self.names.folder(id);
        let want = if gathered.is_own { self.own_want_id(text) } else { self.want_id(text) };
        if !gathered.known.insert(folder) {
            gathered.declared.retain(|earlier| earlier.folder != folder);
        }
        gathered.declared.push(Declared { name: id, folder, role, want });
        if !gathered.bundled.contains(name.as_str()) {
            self.announce(name, want);
        }
    }

    /// Announces what a dependency is about. Where it is not there yet, what it leads to is followed without waiting for
    /// the tree.
    fn announce(&mut self, name: &str, id: WantId) {
        let want = self.want(id);
        if matches!(*want, Want::Local(_) | Want::Unsupported(_)) {
            return;
        }
        let package = want.package(name);
        let package_id = self.names.intern(package);
        if self.announced.insert(package_id) {
            let found = self.source.at_hand(package);
            let is_at_hand = found.is_some() || self.source.prefetch(package);
            if let Some(found) = found {
                let usable = self.usable(found);
                self.loaded.entry(package_id).or_insert(Ok(usable));
            }
            if is_at_hand {
                self.at_hand.insert(package_id);
            }
        }
        if self.at_hand.contains(&package_id) {
            return;
        }
        for package in self.scout.want(name, &self.want_text(id)) {
            let id = self.names.intern(&package);
            if self.announced.insert(id) {
                self.source.prefetch(&package);
            }
        }
    }
}
