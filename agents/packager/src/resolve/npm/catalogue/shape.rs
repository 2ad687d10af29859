//! The dependencies of one package as edges: names and texts become numbers, and what will be needed is announced.

use std::collections::HashSet;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Catalogue, Declared, PackageId, Role, Shape, WantId};
use crate::metadata::npm::Dependencies;
use crate::resolve::npm::ahead::Reach;
use crate::resolve::npm::names::{Folder, Name, NameId};
use crate::resolve::npm::ready::{Need, Ready};

/// The dependencies of one of the project's own packages while they are gathered.
#[derive(Default)]
struct Gathered {
    declared: Vec<Declared>,
    known: FxHashSet<Folder>,
}

impl Catalogue<'_> {
    pub(super) fn shape_of_package(&mut self, ready: &Ready) -> Shape {
        let mut declared = Vec::with_capacity(ready.needs.len());
        for need in &ready.needs {
            let name = self.known.names.take(&need.name);
            let (folder, want) = (self.known.names.folder(name), self.take_want(&need.wanted));
            let package = need.package.as_ref();
            let package = package.map(|package| self.package_of_need(name, need, package));
            declared.push(Declared { name, folder, role: need.role, want, package });
        }
        let bundled = ready.bundled.iter().map(|name| {
            let id = self.known.names.take(name);
            self.known.names.folder(id)
        });
        let bundled = bundled.collect();
        Shape::new(declared, bundled)
    }

    /// Announces the peers of a package, once in each turn. They are looked at wherever it is, be it only to see whether it would agree
    /// with others.
    pub(super) fn meet(&mut self, id: PackageId) {
        let turn = self.known.turn();
        let chosen = &mut self.known.chosen[id.0 as usize];
        if std::mem::replace(&mut chosen.met_in, turn) != turn && chosen.shape.has_peers {
            self.announce_of(id, Reach::Peers);
        }
    }

    /// Announces what a package needs that is going to be installed, once in each turn.
    pub(in super::super) fn announce_needs(&mut self, id: PackageId) {
        let turn = self.known.turn();
        let chosen = &mut self.known.chosen[id.0 as usize];
        if std::mem::replace(&mut chosen.announced_in, turn) != turn {
            self.announce_of(id, Reach::All);
        }
    }

    fn announce_of(&mut self, id: PackageId, reach: Reach) {
        let shape = Arc::clone(&self.package(id).shape);
        for declared in &shape.declared {
            let is_meant = match reach {
                Reach::Peers => declared.role.is_peer(),
                Reach::All => declared.role != Role::OptionalPeer,
            };
            if let Some(package) = declared.package.filter(|_| is_meant) {
                self.announce((declared.name, package, declared.want), reach);
            }
        }
    }

    /// The number of the package of a need; nearly always the name is the package's own.
    fn package_of_need(&mut self, name: NameId, need: &Need, package: &Arc<Name>) -> NameId {
        if Arc::ptr_eq(&need.name, package) { name } else { self.known.names.take(package) }
    }

    /// Interns the project's own tables into edges; of a name in several tables the last counts, peers come first.
    /// Announces what will be needed.
    pub(in super::super) fn shape(
        &mut self,
        peers: &Dependencies,
        optional_peers: &[String],
        tables: &[(Role, &Dependencies)],
    ) -> Shape {
        let optional: HashSet<&str> = optional_peers.iter().map(String::as_str).collect();
        let must_be = |(name, _): &(&String, &String)| !optional.contains(name.as_str());
        let mut gathered = Gathered::default();
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
        Shape::new(gathered.declared, FxHashSet::default())
    }

    fn declare(&mut self, role: Role, (name, text): (&String, &String), gathered: &mut Gathered) {
        let id = self.known.names.intern(name);
        let folder = self.known.names.folder(id);
        let want = self.own_want_id(text);
        if !gathered.known.insert(folder) {
            gathered.declared.retain(|earlier| earlier.folder != folder);
        }
        let wanted = self.wanted(want);
        let package = self.asked_name(id, &wanted.want);
        gathered.declared.push(Declared { name: id, folder, role, want, package });
        let Some(package) = package else { return };
        self.announce((id, package, want), Reach::of(role));
    }

    /// Looks whether a packument is at hand; it is asked for where it is not. Once in a turn.
    fn look_at_hand(&mut self, package: NameId) -> bool {
        if self.barred.is_empty() && self.known.is_at_hand_still(package) {
            return true;
        }
        let text = self.known.names.text(package);
        let Some(found) = self.source.at_hand(&text) else { return self.source.prefetch(&text) };
        if self.known.about(package).loaded.is_none() {
            let usable = self.usable(Arc::clone(&found.packument));
            match Arc::ptr_eq(&usable, &found.packument) {
                true => self.known.load_at_hand(package, found),
                false => self.known.load(package, Ok(usable)),
            }
        }
        true
    }

    /// Announces what a dependency is about. Where it is not there yet, what it leads to is followed without waiting for
    /// the tree.
    fn announce(&mut self, (name, package, want): (NameId, NameId, WantId), reach: Reach) {
        if !std::mem::replace(&mut self.known.about(package).is_announced, true) {
            self.known.about(package).is_at_hand = self.look_at_hand(package);
        }
        if self.known.about(package).is_at_hand {
            return;
        }
        for package in
            self.scout.want(self.known.names.text_ref(name), &self.want_text(want), reach)
        {
            let id = self.known.names.intern(&package);
            if !std::mem::replace(&mut self.known.about(id).is_announced, true) {
                self.source.prefetch(&package);
            }
        }
    }
}
