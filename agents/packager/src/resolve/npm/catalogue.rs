//! The packages that a resolution has seen: packuments on demand, the choice of a version, and its dependencies.
//!
//! The choice follows npm's `npm-pick-manifest`: `latest` where it fits and is sound, else versions that are not
//! deprecated and fit the engine first, then the highest. Placing is not done here.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::ahead::Scout;
use super::names::{Folder, NameId, Names};
use super::want::Want;
use crate::error::{Error, Kind};
use crate::metadata::npm::{Ahead, Dependencies, Listed, Metadata, Packument, Version as Entry};
use agents_versions::npm::{Options, Range, Version};

/// One chosen version of one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PackageId(u32);

/// A dependency's text, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WantId(u32);

/// The table that a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Required,
    Development,
    Optional,
    Peer,
    OptionalPeer,
}

impl Role {
    pub(super) fn is_peer(self) -> bool {
        matches!(self, Role::Peer | Role::OptionalPeer)
    }

    pub(super) fn is_optional(self) -> bool {
        matches!(self, Role::Optional | Role::OptionalPeer)
    }
}

/// One dependency as the package declares it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declared {
    pub(super) name: NameId,
    pub(super) folder: Folder,
    pub(super) role: Role,
    pub(super) want: WantId,
}

/// All dependencies of one package: the same for each place where it stands.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) declared: Vec<Declared>,
    pub(super) index: HashMap<Folder, u32>,
    /// Names that come inside the archive.
    pub(super) bundled: HashSet<Folder>,
}

/// A chosen version with all that placing needs.
pub(super) struct Chosen {
    pub(super) name: NameId,
    pub(super) version: Version,
    pub(super) entry: Arc<Entry>,
    pub(super) shape: Rc<Shape>,
    pub(super) engine_fits: bool,
}

/// Why no version was chosen.
#[derive(Clone, Debug)]
pub(super) enum NoChoice {
    /// The package exists, but not in a wanted version. Carries what `latest` points to.
    NoMatch { package: String, latest: Option<String> },
    /// The package could not be asked for.
    Failed(Error),
}

pub(super) struct Catalogue<'a> {
    source: &'a dyn Metadata,
    /// Walks ahead where something has to be waited for.
    scout: Arc<Scout>,
    node: Option<Version>,
    pub(super) names: Names,
    wants: Vec<(Rc<str>, Rc<Want>)>,
    want_ids: HashMap<Rc<str>, WantId>,
    loaded: HashMap<String, Result<Arc<Packument>, Error>>,
    chosen: Vec<Rc<Chosen>>,
    chosen_ids: HashMap<(NameId, String), PackageId>,
    choices: HashMap<(NameId, WantId), Result<PackageId, NoChoice>>,
    announced: HashSet<NameId>,
    /// Of those, what there is no need to wait for.
    at_hand: HashSet<NameId>,
    engines: HashMap<String, bool>,
    network_failure: Option<Error>,
}

impl<'a> Catalogue<'a> {
    pub(super) fn new(source: &'a dyn Metadata, node: Option<Version>) -> Self {
        let scout = Arc::<Scout>::default();
        let ahead: Arc<dyn Ahead> = Arc::<Scout>::clone(&scout);
        source.follow(&ahead);
        Self {
            source,
            scout,
            node,
            names: Names::default(),
            wants: Vec::new(),
            want_ids: HashMap::new(),
            loaded: HashMap::new(),
            chosen: Vec::new(),
            chosen_ids: HashMap::new(),
            choices: HashMap::new(),
            announced: HashSet::new(),
            at_hand: HashSet::new(),
            engines: HashMap::new(),
            network_failure: None,
        }
    }

    /// The first failure of the network, if there was one. What was built without the packages that could not be
    /// asked for is not the answer, even where all of them are optional.
    pub(super) fn network_failure(&self) -> Option<&Error> {
        self.network_failure.as_ref()
    }

    pub(super) fn want_id(&mut self, text: &str) -> WantId {
        if let Some(&id) = self.want_ids.get(text) {
            return id;
        }
        let id = WantId(u32::try_from(self.wants.len()).expect("wants are bounded by edges"));
        let shared: Rc<str> = text.into();
        self.want_ids.insert(Rc::clone(&shared), id);
        self.wants.push((shared, Rc::new(Want::parse(text))));
        id
    }

    pub(super) fn want(&self, id: WantId) -> Rc<Want> {
        Rc::clone(&self.wants[id.0 as usize].1)
    }

    pub(super) fn want_text(&self, id: WantId) -> Rc<str> {
        Rc::clone(&self.wants[id.0 as usize].0)
    }

    pub(super) fn accepts(&self, id: WantId, version: Option<&Version>) -> bool {
        self.wants[id.0 as usize].1.accepts(version)
    }

    pub(super) fn package(&self, id: PackageId) -> &Rc<Chosen> {
        &self.chosen[id.0 as usize]
    }

    /// The version that npm would take for `name` wanted as `want`. Blocks when the packument is not there yet.
    pub(super) fn choose(&mut self, name: NameId, want: WantId) -> Result<PackageId, NoChoice> {
        if let Some(choice) = self.choices.get(&(name, want)) {
            return choice.clone();
        }
        let wanted = self.want(want);
        let package = wanted.package(&self.names.text(name)).to_owned();
        let choice = self.choose_uncached(&package, wanted.target());
        self.choices.insert((name, want), choice.clone());
        choice
    }

    fn choose_uncached(&mut self, package: &str, want: &Want) -> Result<PackageId, NoChoice> {
        let packument = self.load(package).map_err(NoChoice::Failed)?;
        let no_match = || NoChoice::NoMatch {
            package: package.to_owned(),
            latest: packument.dist_tags.get("latest").cloned(),
        };
        let entry = match want {
            Want::Tag(tag) => {
                packument.dist_tags.get(tag).and_then(|text| packument.versions.get(text))
            }
            Want::Exact { text, .. } => packument.versions.get(text),
            Want::Range { range, any } => self.best(&packument, range, *any).map(Listed::version),
            Want::Alias { .. } | Want::Unsupported(_) => None,
        };
        let entry = Arc::clone(entry.ok_or_else(no_match)?);
        self.take(package, &entry).ok_or_else(no_match)
    }

    fn best<'p>(
        &mut self,
        packument: &'p Packument,
        range: &Range,
        any: bool,
    ) -> Option<Listed<'p>> {
        let fits = |one: &Listed<'_>| one.number().is_some_and(|number| range.satisfies(number));
        if let Some(text) = packument.dist_tags.get("latest")
            && let Some(latest) = packument.versions.listed(text)
            && (any || fits(&latest))
            && !latest.is_deprecated()
            && self.engine_fits(latest.engines_node())
        {
            return Some(latest);
        }
        let mut inside: Vec<Listed<'p>> = Vec::new();
        for one in packument.versions.ranked().filter(fits) {
            if !one.is_deprecated() && self.engine_fits(one.engines_node()) {
                return Some(one);
            }
            inside.push(one);
        }
        // The stable sort keeps the highest first among equals.
        inside.sort_by_key(|one| {
            Reverse((self.engine_fits(one.engines_node()), !one.is_deprecated()))
        });
        inside.first().copied()
    }

    fn engine_fits(&mut self, engines: Option<&str>) -> bool {
        let (Some(node), Some(engines)) = (&self.node, engines) else { return true };
        if engines.is_empty() {
            return true;
        }
        if let Some(&fits) = self.engines.get(engines) {
            return fits;
        }
        let options = Options { loose: false, include_prerelease: true };
        let fits = Range::parse_with(engines, options).is_ok_and(|range| range.satisfies(node));
        self.engines.insert(engines.to_owned(), fits);
        fits
    }

    /// A version that is known by its text (from a lock), where the registry still has it.
    pub(super) fn exact(&mut self, package: &str, version: &str) -> Option<PackageId> {
        let packument = self.load(package).ok()?;
        let entry = packument.versions.get(version)?;
        self.take(package, entry)
    }

    /// The versions of a package, highest first, for repairs.
    pub(super) fn entries(&mut self, package: &str) -> Vec<(Version, Arc<Entry>)> {
        let Ok(packument) = self.load(package) else { return Vec::new() };
        let all = packument.versions.ranked();
        all.filter_map(|one| Some((one.number()?.clone(), Arc::clone(one.version())))).collect()
    }

    fn load(&mut self, package: &str) -> Result<Arc<Packument>, Error> {
        if let Some(loaded) = self.loaded.get(package) {
            return loaded.clone();
        }
        let loaded = self.source.packument(package);
        if let Err(error) = &loaded
            && error.kind == Kind::Network
        {
            self.network_failure.get_or_insert_with(|| error.clone());
        }
        self.loaded.insert(package.to_owned(), loaded.clone());
        loaded
    }

    fn take(&mut self, package: &str, entry: &Arc<Entry>) -> Option<PackageId> {
        let name = self.names.intern(package);
        let key = (name, entry.version.clone());
        if let Some(&id) = self.chosen_ids.get(&key) {
            return Some(id);
        }
        let version = Version::parse_loose(&entry.version).ok()?;
        let shape = self.shape_of_package(entry);
        let engine_fits = self.engine_fits(entry.engines_node.as_deref());
        let id = PackageId(u32::try_from(self.chosen.len()).ok()?);
        self.chosen.push(Rc::new(Chosen {
            name,
            version,
            entry: Arc::clone(entry),
            shape: Rc::new(shape),
            engine_fits,
        }));
        self.chosen_ids.insert(key, id);
        Some(id)
    }

    fn shape_of_package(&mut self, entry: &Entry) -> Shape {
        let optional: HashSet<&str> = entry.optional_peers.iter().map(String::as_str).collect();
        let is_optional = |name: &str| optional.contains(name);
        let (optional_peers, peers): (Dependencies, Dependencies) =
            entry.peer_dependencies.clone().into_iter().partition(|(name, _)| is_optional(name));
        let bundled: HashSet<&str> = entry.bundled.iter().map(String::as_str).collect();
        self.shape(
            &[
                (Role::Peer, &peers),
                (Role::OptionalPeer, &optional_peers),
                (Role::Required, &entry.dependencies),
                (Role::Optional, &entry.optional_dependencies),
            ],
            &bundled,
        )
    }

    /// Interns tables into edges; of a name in several tables the last counts. Announces what will be needed.
    pub(super) fn shape(
        &mut self,
        tables: &[(Role, &Dependencies)],
        bundled: &HashSet<&str>,
    ) -> Shape {
        let mut declared: Vec<Declared> = Vec::new();
        let mut known: HashSet<Folder> = HashSet::new();
        for (role, table) in tables {
            for (name, text) in *table {
                let id = self.names.intern(name);
                let folder = self.names.folder(id);
                let want = self.want_id(text);
                if !known.insert(folder) {
                    declared.retain(|earlier| earlier.folder != folder);
                }
                declared.push(Declared { name: id, folder, role: *role, want });
                if !bundled.contains(name.as_str()) {
                    self.announce(name, want);
                }
            }
        }
        let index = declared
            .iter()
            .enumerate()
            .map(|(at, one)| (one.folder, u32::try_from(at).unwrap_or(u32::MAX)))
            .collect();
        let bundled = bundled
            .iter()
            .map(|name| {
                let id = self.names.intern(name);
                self.names.folder(id)
            })
            .collect();
        Shape { declared, index, bundled }
    }

    /// Announces what a dependency is about. Where it is not there yet, what it leads to is followed without waiting for
    /// the tree.
    fn announce(&mut self, name: &str, id: WantId) {
        let want = self.want(id);
        if matches!(*want, Want::Unsupported(_)) {
            return;
        }
        let package = want.package(name);
        let package_id = self.names.intern(package);
        if self.announced.insert(package_id) && self.source.prefetch(package) {
            self.at_hand.insert(package_id);
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

/// The error for a required package of which no version will do, for callers that need one without a tree.
pub(super) fn no_match_error(package: &str, want: &str) -> Error {
    Error::new(
        Kind::Conflict,
        "no-matching-version",
        format!("no version of `{package}` matches `{}`", agents_versions::shorten(want)),
    )
}
