//! The project's own packages: its workspaces, and the directories that `file:` names. They are linked, not fetched, and
//! what they need stands in the project's tree or beside them.
//!
//! A link stands in `node_modules` like a package; the package itself stands in its own directory, and looks for what it
//! needs there and then in the project's `node_modules`, as node does.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Local;
use super::catalogue::{Catalogue, Role, Shape};
use super::names::NameId;
use crate::manifest::package_json::RootManifest;
use crate::metadata::npm::Dependencies;
use agents_versions::npm::Version;

/// One of the project's own packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LocalId(u32);

/// What is known of it.
pub(super) struct Own {
    pub(super) name: NameId,
    pub(super) version: Option<Version>,
    /// Its directory, from the project's.
    pub(super) place: Arc<str>,
    pub(super) shape: Arc<Shape>,
    pub(super) bin: BTreeMap<String, String>,
    pub(super) is_workspace: bool,
    /// Whether what it needs is the project's business: not where it lies outside of the project.
    pub(super) is_inside: bool,
}

#[derive(Default)]
pub(super) struct Locals {
    list: Vec<Own>,
    by_place: HashMap<Arc<str>, LocalId>,
    workspaces: HashMap<NameId, LocalId>,
}

impl Locals {
    /// Names them all, so that dependencies can refer to them; their own are added by [`Self::shape`].
    pub(super) fn new(catalogue: &mut Catalogue<'_>, locals: &[Local]) -> Self {
        let mut all = Self::default();
        for local in locals {
            let id = LocalId(u32::try_from(all.list.len()).expect("a project has few packages"));
            let name = catalogue.known.names.intern(&local.name);
            let place: Arc<str> = local.place.as_str().into();
            all.by_place.insert(Arc::clone(&place), id);
            if local.is_workspace {
                all.workspaces.insert(name, id);
            }
            let version = local.manifest.version.as_deref();
            all.list.push(Own {
                name,
                version: version.and_then(|text| Version::parse_loose(text).ok()),
                place,
                shape: Arc::default(),
                bin: local.manifest.bin.clone(),
                is_workspace: local.is_workspace,
                is_inside: local.is_inside,
            });
        }
        all
    }

    pub(super) fn own(&self, id: LocalId) -> &Own {
        &self.list[id.0 as usize]
    }

    pub(super) fn at(&self, place: &str) -> Option<LocalId> {
        self.by_place.get(place).copied()
    }

    /// The workspace of that name.
    pub(super) fn workspace(&self, name: NameId) -> Option<LocalId> {
        self.workspaces.get(&name).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = LocalId> + use<> {
        (0..self.list.len()).map(|at| LocalId(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    /// Those in whose directories one lies, outermost first, and itself.
    pub(super) fn around(&self, id: LocalId) -> Vec<LocalId> {
        let place = Arc::clone(&self.own(id).place);
        let holds = |&one: &LocalId| {
            let rest = place.strip_prefix(&*self.own(one).place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut around: Vec<LocalId> = self.ids().filter(holds).collect();
        around.sort_by_key(|&one| self.own(one).place.len());
        around
    }

    pub(super) fn set_shape(&mut self, id: LocalId, shape: Shape) {
        self.list[id.0 as usize].shape = Arc::new(shape);
    }
}

/// The dependencies of the project itself or of one of its own packages; `links` are its workspaces.
pub(super) fn shape_of(
    catalogue: &mut Catalogue<'_>,
    manifest: &RootManifest,
    links: &Dependencies,
) -> Shape {
    let tables = [
        (Role::Required, &manifest.dependencies),
        (Role::Optional, &manifest.optional_dependencies),
        (Role::Development, &manifest.dev_dependencies),
        (Role::Required, links),
    ];
    let (peers, optional) = (&manifest.peer_dependencies, &manifest.optional_peers);
    catalogue.shape(peers, optional, &tables)
}

/// The links that the project has to its workspaces, as dependencies.
pub(super) fn links(locals: &[Local]) -> Dependencies {
    let workspaces = locals.iter().filter(|local| local.is_workspace);
    workspaces.map(|local| (local.name.clone(), format!("file:{}", local.place))).collect()
}
