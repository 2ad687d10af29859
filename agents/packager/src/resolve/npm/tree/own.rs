//! The project's own packages in the tree: the links to them, their directories, and what a dependency may find there.

use std::sync::Arc;

use super::{Content, NodeId, Tree};
use crate::resolve::npm::catalogue::WantId;
use crate::resolve::npm::locals::LocalId;
use crate::resolve::npm::names::sort_key;
use crate::resolve::npm::want::Want;

impl<'a> Tree<'a> {
    pub(in super::super) fn link_of(&self, id: NodeId) -> Option<LocalId> {
        match self.node(id).content {
            Content::Link(local) => Some(local),
            _ => None,
        }
    }

    /// Whether conflicts there are the project's own business: its manifest, or that of a workspace.
    pub(in super::super) fn is_mine(&self, id: NodeId) -> bool {
        match self.node(id).content {
            Content::Top => self.node(id).stands_for.is_none(),
            Content::Local(local) => self.catalogue.locals.own(local).is_workspace,
            _ => false,
        }
    }

    /// The package that a link up leads to.
    pub(in super::super) fn same_above(&self, link: NodeId) -> Option<NodeId> {
        let mut above = self.ancestry(link).skip(1);
        above.find(|&one| {
            matches!(self.node(one).content, Content::Package(_)) && self.matches(one, link)
        })
    }

    /// Whether what stands at a node is what a text asks for. A package under another's name does for who asks for that
    /// name, which is what aliases are for; who asks for an alias has to find that very package.
    pub(super) fn meets(&self, node: NodeId, want: WantId) -> bool {
        let want = self.catalogue.want_ref(want);
        match want {
            Want::Local(local) => return self.link_of(node) == Some(*local),
            Want::Archive(key) => {
                return self.package_of(node).is_some_and(|it| self.catalogue.is_archive(it, key));
            }
            Want::Tag(_) if self.package_of(node).is_none_or(|it| self.catalogue.is_file(it)) => {
                return false;
            }
            Want::Alias { package, .. } => {
                let found = self.package_of(node).map(|found| self.catalogue.package(found).name);
                let is_it = |found| self.catalogue.known.names.text_ref(found) == package;
                if !found.is_some_and(is_it) {
                    return false;
                }
            }
            _ => {}
        }
        want.accepts(self.version_of(node))
    }

    /// Puts one of the project's own packages into its directory, below the project or the one that it lies in.
    pub(in super::super) fn add_local(&mut self, local: LocalId, top: NodeId) -> NodeId {
        let own = self.catalogue.locals.own(local);
        let (name, place) = (own.name, Arc::clone(&own.place));
        let around = self
            .locals()
            .filter(|&one| {
                let rest = place.strip_prefix(self.node(one).place());
                rest.is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|&one| self.node(one).place().len());
        let id = self.make(name, Content::Local(local));
        let text = self.catalogue.known.names.text(name);
        let rule = self.node(top).rule.map(|rule| self.rules.for_edge(rule, &text, None));
        let node = self.node_mut(id);
        node.parent = Some(around.unwrap_or(top));
        node.placed = true;
        node.place_key = Some(Arc::from(sort_key(&place)));
        node.place = Some(place);
        node.rule = rule;
        self.locals.push(id);
        self.open_edges(id);
        id
    }

    /// The project's own packages that something links to, in their directories.
    pub(in super::super) fn locals(&self) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        self.locals.iter().copied()
    }

    /// The one that a link leads to.
    pub(in super::super) fn local_of(&self, link: NodeId) -> Option<NodeId> {
        let local = self.link_of(link)?;
        self.locals()
            .find(|&id| matches!(self.node(id).content, Content::Local(one) if one == local))
    }
}
