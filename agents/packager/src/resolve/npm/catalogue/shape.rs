//! The dependencies of one package as edges: names and texts become numbers, and what will be needed is announced.

use std::collections::HashSet;
use std::rc::Rc;
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
            let name = self.names.take(&need.name);
            let (folder, want) = (self.names.folder(name), self.take_want(&need.wanted));
            declared.push(Declared { name, folder, role: need.role, want });
            // Peers are looked at wherever the package is, be it only to see whether it would agree with others.
            if let Some(package) = need.package.as_ref().filter(|_| need.role.is_peer()) {
                let package = self.package_of_need(name, need, package);
                self.announce((name, package, want), Reach::Peers);
            }
        }
        let bundled = ready.bundled.iter().map(|name| {
            let id = self.names.take(name);
            self.names.folder(id)
        });
        let bundled = bundled.collect();
        Shape::new(declared, bundled)
    }

    /// Announces what a package needs that is going to be installed; once for each.
    pub(in super::super) fn announce_needs(&mut self, id: PackageId) {
        let chosen = self.package(id);
        if chosen.is_announced.replace(true) {
            return;
        }
        let chosen = Rc::clone(chosen);
        // The shape was made of these, one by one.
        for (declared, need) in chosen.shape.declared.iter().zip(&chosen.ready.needs) {
            let Some(package) = &need.package else { continue };
            if need.role != Role::OptionalPeer {
                let package = self.package_of_need(declared.name, need, package);
                self.announce((declared.name, package, declared.want), Reach::All);
            }
        }
    }

    /// The number of the package of a need; nearly always the name is the package's own.
    fn package_of_need(&mut self, name: NameId, need: &Need, package: &Arc<Name>) -> NameId {
        if Arc::ptr_eq(&need.name, package) { name } else { self.names.take(package) }
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
        let id = self.names.intern(name);
        let folder = self.names.folder(id);
        let want = self.own_want_id(text);
        if !gathered.known.insert(folder) {
            gathered.declared.retain(|earlier| earlier.folder != folder);
        }
        gathered.declared.push(Declared { name: id, folder, role, want });
        let wanted = self.wanted(want);
        let Some(package) = self.asked_name(id, &wanted.want) else { return };
        self.announce((id, package, want), Reach::of(role));
    }

    /// Announces what a dependency is about. Where it is not there yet, what it leads to is followed without waiting for
    /// the tree.
    fn announce(&mut self, (name, package, want): (NameId, NameId, WantId), reach: Reach) {
        let about = self.about(package);
        if !std::mem::replace(&mut about.is_announced, true) {
            let text = self.names.text(package);
            let found = self.source.at_hand(&text);
            let is_at_hand = found.is_some() || self.source.prefetch(&text);
            let usable = found.map(|found| Ok(self.usable(found)));
            let about = self.about(package);
            about.is_at_hand = is_at_hand;
            about.loaded = about.loaded.take().or(usable);
        }
        if self.about(package).is_at_hand {
            return;
        }
        for package in self.scout.want(self.names.text_ref(name), &self.want_text(want), reach) {
            let id = self.names.intern(&package);
            if !std::mem::replace(&mut self.about(id).is_announced, true) {
                self.source.prefetch(&package);
            }
        }
    }
}
