//! The packages that a resolution has seen: packuments on demand, the choice of a version, and its dependencies.
//!
//! The choice follows npm's `npm-pick-manifest`: `latest` where it fits and is sound, else versions that are not
//! deprecated and fit the engine first, then the highest. Placing is not done here.

mod shape;
mod usable;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::ahead::Scout;
use super::locals::Locals;
use super::names::{Folder, NameId, Names};
use super::want::Want;
use crate::error::{Error, Kind};
use crate::metadata::npm::{Ahead, Listed, Metadata, Packument, Version as Entry};
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
    /// Where each is in `declared`, in the order of the folders.
    index: Vec<(Folder, u32)>,
    /// Names that come inside the archive.
    pub(super) bundled: FxHashSet<Folder>,
    /// Whether one of the declared is a peer.
    pub(super) has_peers: bool,
}

impl Shape {
    /// Which of the declared dependencies goes by that name.
    pub(super) fn position(&self, folder: Folder) -> Option<u32> {
        let at = self.index.binary_search_by_key(&folder, |(folder, _)| *folder).ok()?;
        Some(self.index[at].1)
    }
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
    /// Versions that are not taken, by package.
    barred: HashSet<(String, String)>,
    pub(super) names: Names,
    wants: Vec<(Rc<str>, Arc<Want>)>,
    want_ids: HashMap<Rc<str>, WantId>,
    /// The same texts where the project itself or one of its own packages says them: a path means something there.
    own_want_ids: HashMap<Rc<str>, WantId>,
    pub(super) locals: Locals,
    loaded: FxHashMap<NameId, Result<Arc<Packument>, Error>>,
    chosen: Vec<Rc<Chosen>>,
    /// The chosen versions of each package: few.
    chosen_of: FxHashMap<NameId, Vec<PackageId>>,
    choices: FxHashMap<(NameId, WantId, bool), Result<PackageId, NoChoice>>,
    announced: FxHashSet<NameId>,
    /// Of those, what there is no need to wait for.
    at_hand: FxHashSet<NameId>,
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
            barred: HashSet::new(),
            names: Names::default(),
            wants: Vec::new(),
            want_ids: HashMap::new(),
            own_want_ids: HashMap::new(),
            locals: Locals::default(),
            loaded: FxHashMap::default(),
            chosen: Vec::new(),
            chosen_of: FxHashMap::default(),
            choices: FxHashMap::default(),
            announced: FxHashSet::default(),
            at_hand: FxHashSet::default(),
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
        self.wants.push((shared, Want::shared(text)));
        id
    }

    /// What a text means in the project's own manifests, where `file:` names a directory from the project's.
    pub(super) fn own_want_id(&mut self, text: &str) -> WantId {
        let Some(path) = text.strip_prefix("file:") else { return self.want_id(text) };
        if let Some(&id) = self.own_want_ids.get(text) {
            return id;
        }
        let want = match self.locals.at(path) {
            Some(local) => Want::Local(local),
            None => Want::Unsupported("a path where no package is"),
        };
        let id = WantId(u32::try_from(self.wants.len()).expect("wants are bounded by edges"));
        let shared: Rc<str> = text.into();
        self.own_want_ids.insert(Rc::clone(&shared), id);
        self.wants.push((shared, Arc::new(want)));
        id
    }

    pub(super) fn want(&self, id: WantId) -> Arc<Want> {
        Arc::clone(&self.wants[id.0 as usize].1)
    }

    pub(super) fn want_text(&self, id: WantId) -> Rc<str> {
        Rc::clone(&self.wants[id.0 as usize].0)
    }

    pub(super) fn want_ref(&self, id: WantId) -> &Want {
        &self.wants[id.0 as usize].1
    }

    pub(super) fn package(&self, id: PackageId) -> &Rc<Chosen> {
        &self.chosen[id.0 as usize]
    }

    /// The version that npm would take for `name` wanted as `want`. Blocks when the packument is not there yet.
    pub(super) fn choose(
        &mut self,
        name: NameId,
        want: WantId,
        lowest: bool,
    ) -> Result<PackageId, NoChoice> {
        if let Some(choice) = self.choices.get(&(name, want, lowest)) {
            return choice.clone();
        }
        let wanted = self.want(want);
        let package = wanted.package(&self.names.text(name)).to_owned();
        let choice = self.choose_uncached(&package, wanted.target(), lowest);
        self.choices.insert((name, want, lowest), choice.clone());
        choice
    }

    fn choose_uncached(
        &mut self,
        package: &str,
        want: &Want,
        lowest: bool,
    ) -> Result<PackageId, NoChoice> {
        loop {
            let packument = self.load(package).map_err(NoChoice::Failed)?;
            let no_match = || NoChoice::NoMatch {
                package: package.to_owned(),
                latest: packument.dist_tags.get("latest").cloned(),
            };
            let entry = match want {
                Want::Range { range, .. } if lowest => self.lowest(&packument, range),
                Want::Range { range, any } => self.best(&packument, range, *any),
                want => only(&packument, want),
            };
            let entry = entry.map(Listed::version).ok_or_else(no_match)?;
            // A version that wants another one of itself as its peer can be had nowhere.
            if !rejects_itself(package, &entry) {
                return self.take(package, &entry).ok_or_else(no_match);
            }
            self.barred.insert((package.to_owned(), entry.version.clone()));
            let name = self.names.intern(package);
            self.loaded.remove(&name);
        }
    }

    fn best<'p>(
        &mut self,
        packument: &'p Packument,
        range: &Range,
        any: bool,
    ) -> Option<Listed<'p>> {
        let fits = |one: &Listed<'_>| one.number().is_some_and(|number| range.satisfies(&number));
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

    /// The lowest version in a range, sound ones first.
    fn lowest<'p>(&mut self, packument: &'p Packument, range: &Range) -> Option<Listed<'p>> {
        let fits = |one: &Listed<'_>| one.number().is_some_and(|number| range.satisfies(&number));
        let mut inside: Vec<Listed<'p>> = packument.versions.ranked().filter(fits).collect();
        inside.reverse();
        // The stable sort keeps the lowest first among equals.
        inside.sort_by_key(|one| {
            Reverse((self.engine_fits(one.engines_node()), !one.is_deprecated()))
        });
        inside.first().copied()
    }

    /// The versions of a package that a want may take, in the order in which they would be taken; without a want, all.
    /// `None` where the package could not be asked for.
    pub(super) fn in_order(
        &mut self,
        package: &str,
        want: Option<&Want>,
    ) -> Option<Vec<(Version, Arc<Entry>)>> {
        let packument = self.load(package).ok()?;
        let (first, range) = match want {
            None => {
                let latest = packument.dist_tags.get("latest");
                (latest.and_then(|text| packument.versions.listed(text)), None)
            }
            Some(Want::Range { range, any }) => (self.best(&packument, range, *any), Some(range)),
            Some(want) => {
                let only = only(&packument, want).into_iter();
                let found = only.filter_map(|one| Some((one.number()?, one.version_in_passing())));
                return Some(found.collect());
            }
        };
        let is_first = |one: &Listed<'_>| first.is_some_and(|first| first.text() == one.text());
        let fits = |one: &Listed<'_>| {
            one.number().is_some_and(|number| range.is_none_or(|range| range.satisfies(&number)))
        };
        let all = packument.versions.ranked();
        let mut inside: Vec<Listed<'_>> = all.filter(|one| fits(one) || is_first(one)).collect();
        // The stable sort keeps the highest first among equals.
        inside.sort_by_key(|one| {
            let is_sound = (self.engine_fits(one.engines_node()), !one.is_deprecated());
            let is_release = one.number().is_some_and(|number| !number.is_prerelease());
            Reverse((is_first(one), is_release, is_sound))
        });
        let found = inside.into_iter();
        let found = found.filter_map(|one| Some((one.number()?, one.version_in_passing())));
        Some(found.collect())
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
        self.take(package, &entry)
    }

    /// The versions of a package, highest first, for repairs.
    pub(super) fn entries(&mut self, package: &str) -> Vec<(Version, Arc<Entry>)> {
        let Ok(packument) = self.load(package) else { return Vec::new() };
        let all = packument.versions.ranked();
        all.filter_map(|one| Some((one.number()?, one.version_in_passing()))).collect()
    }

    fn load(&mut self, package: &str) -> Result<Arc<Packument>, Error> {
        let name = self.names.intern(package);
        if let Some(loaded) = self.loaded.get(&name) {
            return loaded.clone();
        }
        let loaded = self.source.packument(package).map(|packument| self.usable(packument));
        if let Err(error) = &loaded
            && error.kind == Kind::Network
        {
            self.network_failure.get_or_insert_with(|| error.clone());
        }
        self.loaded.insert(name, loaded.clone());
        loaded
    }

    fn take(&mut self, package: &str, entry: &Arc<Entry>) -> Option<PackageId> {
        let name = self.names.intern(package);
        let known = self.chosen_of.get(&name).map(Vec::as_slice).unwrap_or_default();
        let is_it = |id: &&PackageId| self.package(**id).entry.version == entry.version;
        if let Some(id) = known.iter().find(is_it) {
            return Some(*id);
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
        self.chosen_of.entry(name).or_default().push(id);
        Some(id)
    }
}

/// Whether a version has a peer of its own name that it is not itself.
fn rejects_itself(package: &str, entry: &Entry) -> bool {
    if !entry.peer_dependencies.contains_key(package) {
        return false;
    }
    let is_peer = !entry.dependencies.contains_key(package)
        && !entry.optional_dependencies.contains_key(package)
        && !entry.bundled.iter().any(|name| name == package);
    let want = entry.peer_dependencies.get(package).filter(|_| is_peer);
    want.is_some_and(|want| {
        let version = Version::parse_loose(&entry.version).ok();
        let want = Want::parse(want);
        want.range().is_some() && !want.accepts(version.as_ref())
    })
}

/// The one version that a tag or an exact want names.
fn only<'p>(packument: &'p Packument, want: &Want) -> Option<Listed<'p>> {
    let text = match want {
        Want::Tag(tag) => packument.dist_tags.get(tag)?,
        Want::Exact { text, .. } => text,
        _ => return None,
    };
    packument.versions.listed(text)
}

/// The error for a required package of which no version will do, for callers that need one without a tree.
pub(super) fn no_match_error(package: &str, want: &str) -> Error {
    Error::new(
        Kind::Conflict,
        "no-matching-version",
        format!("no version of `{package}` matches `{}`", agents_versions::shorten(want)),
    )
}
