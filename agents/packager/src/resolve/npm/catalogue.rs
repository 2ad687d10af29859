//! The packages that a resolution has seen: packuments on demand, the choice of a version, and its dependencies.
//!
//! The choice follows npm's `npm-pick-manifest`: `latest` where it fits and is sound, else versions that are not
//! deprecated and fit the engine first, then the highest. Placing is not done here.

mod known;
mod shape;
mod usable;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use rustc_hash::FxHashSet;

use self::known::{Known, Remembered, Turn};
use super::ahead::Scout;
use super::archives::Archives;
use super::locals::Locals;
use super::names::{Folder, NameId};
use super::ready::{Noted, Notes, Ready};
use super::texts::digest;
use super::want::{Want, Wanted, shown};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::manifest::package_json::named::{FILE, is_archive};
use crate::metadata::npm::{Ahead, Edition, Listed, Metadata, Packument, Version as Entry};
use crate::spec::check_name;
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
    /// The package that a registry will be asked about; `None` where none is.
    package: Option<NameId>,
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
    fn new(declared: Vec<Declared>, bundled: FxHashSet<Folder>) -> Self {
        let numbered = declared.iter().zip(0..);
        let mut index: Vec<(Folder, u32)> = numbered.map(|(one, at)| (one.folder, at)).collect();
        index.sort_unstable();
        let has_peers = declared.iter().any(|one| one.role.is_peer());
        Self { declared, index, bundled, has_peers }
    }

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
    pub(super) ready: Arc<Ready>,
    pub(super) shape: Arc<Shape>,
    pub(super) engine_fits: bool,
    /// Whether it names no systems, processors or C libraries that it is for.
    pub(super) is_for_all: bool,
    pub(super) is_deprecated: bool,
    /// The archive that it was named by, where no registry has it.
    pub(super) archive: Option<Arc<str>>,
    /// When its peers were announced last.
    met_in: Turn,
    /// When what it needs was announced last.
    announced_in: Turn,
}

/// What an entry about an engine takes beside its text, about.
const ENGINE_BYTES: usize = 64;

/// Why no version was chosen.
#[derive(Clone, Debug)]
pub(super) enum NoChoice {
    /// The package exists, but not in a wanted version. Carries what `latest` points to.
    NoMatch { package: String, latest: Option<String> },
    /// The package could not be asked for.
    Failed(Error),
}

impl NoChoice {
    /// What it takes, about.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::NoMatch { package, latest } => {
                    package.len() + latest.as_ref().map_or(0, String::len)
                }
                Self::Failed(error) => error.message.len(),
            }
    }
}

pub(super) struct Catalogue<'a> {
    source: &'a dyn Metadata,
    pub(super) archive_source: &'a dyn Archives,
    /// What was found of archives that are named.
    pub(super) archives: HashMap<Arc<str>, Result<PackageId, Error>>,
    /// Walks ahead where something has to be waited for.
    scout: Arc<Scout>,
    /// Versions that are not taken, by package.
    barred: HashSet<(String, String)>,
    /// What does not end with this resolution.
    pub(super) known: Box<Known>,
    /// The texts that the project itself or one of its own packages says: a path means something there.
    own_want_ids: HashMap<Arc<str>, WantId>,
    pub(super) locals: Locals,
    network_failure: Option<Error>,
}

impl Drop for Catalogue<'_> {
    fn drop(&mut self) {
        // What a panic left may be half of something.
        if !std::thread::panicking() {
            std::mem::take(&mut self.known).give_back();
        }
    }
}

impl<'a> Catalogue<'a> {
    /// What was known of this edition of the source is believed.
    pub(super) fn new(
        (source, edition): (&'a dyn Metadata, Option<(Edition, SystemTime)>),
        archive_source: &'a dyn Archives,
        node: Option<Version>,
    ) -> Self {
        let scout = Arc::<Scout>::default();
        let ahead: Arc<dyn Ahead> = Arc::<Scout>::clone(&scout);
        source.follow(&ahead);
        Self {
            source,
            archive_source,
            archives: HashMap::new(),
            scout,
            barred: HashSet::new(),
            known: Known::take(node, edition),
            own_want_ids: HashMap::new(),
            locals: Locals::default(),
            network_failure: None,
        }
    }

    /// The first failure of the network, if there was one. What was built without the packages that could not be
    /// asked for is not the answer, even where all of them are optional.
    pub(super) fn network_failure(&self) -> Option<&Error> {
        self.network_failure.as_ref()
    }

    pub(super) fn want_id(&mut self, text: &str) -> WantId {
        self.take_want(&Wanted::shared(text))
    }

    fn take_want(&mut self, wanted: &Arc<Wanted>) -> WantId {
        let is_it = |id: WantId| {
            let other = &self.known.wants[id.0 as usize];
            Arc::ptr_eq(other, wanted) || other.text == wanted.text
        };
        if let Some(id) = self.known.want_ids.get(wanted.digest, &wanted.text, is_it) {
            return id;
        }
        let id = self.push_want(Arc::clone(wanted));
        self.known.want_ids.insert(wanted.digest, &wanted.text, id);
        id
    }

    fn push_want(&mut self, wanted: Arc<Wanted>) -> WantId {
        let id = WantId(u32::try_from(self.known.wants.len()).expect("wants are bounded by edges"));
        self.known.bytes += wanted.bytes();
        self.known.wants.push(wanted);
        id
    }

    /// What a text means in the project's own manifests, where `file:` names a directory or an archive from the project's directory.
    pub(super) fn own_want_id(&mut self, text: &str) -> WantId {
        let Some(path) = text.strip_prefix(FILE) else { return self.want_id(text) };
        if let Some(&id) = self.own_want_ids.get(text) {
            return id;
        }
        let want = match self.locals.at(path) {
            Some(local) => Want::Local(local),
            None if is_archive(path) => Want::Archive(text.into()),
            None => Want::Unsupported("a path where no package is"),
        };
        let text: Arc<str> = text.into();
        let digest = digest(&text);
        let id = self.push_want(Arc::new(Wanted { text: Arc::clone(&text), digest, want }));
        self.own_want_ids.insert(text, id);
        id
    }

    /// How many texts of dependencies there were.
    pub(super) fn want_count(&self) -> usize {
        self.known.wants.len()
    }

    pub(super) fn wanted(&self, id: WantId) -> Arc<Wanted> {
        Arc::clone(&self.known.wants[id.0 as usize])
    }

    pub(super) fn want_text(&self, id: WantId) -> Arc<str> {
        Arc::clone(&self.known.wants[id.0 as usize].text)
    }

    pub(super) fn want_ref(&self, id: WantId) -> &Want {
        &self.known.wants[id.0 as usize].want
    }

    pub(super) fn package(&self, id: PackageId) -> &Chosen {
        &self.known.chosen[id.0 as usize]
    }

    /// The name of the package that is wanted under a name.
    pub(super) fn package_id(&mut self, name: NameId, wanted: &Want) -> NameId {
        match wanted {
            Want::Alias { package, .. } => self.known.names.intern(package),
            _ => name,
        }
    }

    /// The version that npm would take for `name` wanted as `want`. Blocks when the packument is not there yet.
    pub(super) fn choose(
        &mut self,
        name: NameId,
        want: WantId,
        lowest: bool,
    ) -> Result<PackageId, Box<NoChoice>> {
        let asked = (name, want, lowest);
        loop {
            match self.known.choice(asked) {
                Remembered::Nothing => break,
                Remembered::Of(package) => drop(self.load(package)),
                Remembered::Found(found) => {
                    if let Ok(package) = found {
                        self.meet(package);
                    }
                    return found;
                }
            }
        }
        let wanted = self.wanted(want);
        let (package, found) = match &wanted.want {
            // Of others' names a registry is asked, which knows none that are not.
            Want::Archive(key) => {
                let folder = self.known.names.text(name);
                let found = check_name(Ecosystem::Npm, &folder)
                    .and_then(|()| self.archive(&folder, key))
                    .map_err(|error| Box::new(NoChoice::Failed(error)));
                (None, found)
            }
            want => {
                let package = self.package_id(name, want);
                (Some(package), self.choose_uncached(package, &wanted, lowest))
            }
        };
        self.known.remember(asked, package, found.clone());
        found
    }

    fn choose_uncached(
        &mut self,
        package: NameId,
        wanted: &Arc<Wanted>,
        lowest: bool,
    ) -> Result<PackageId, Box<NoChoice>> {
        loop {
            let packument =
                self.load(package).map_err(|error| Box::new(NoChoice::Failed(*error)))?;
            let ready = self.look(&packument, wanted, lowest);
            let chosen = ready.as_ref().filter(|ready| !ready.rejects_itself);
            if let Some(id) = chosen.and_then(|ready| self.take(package, ready)) {
                return Ok(id);
            }
            let name = self.known.names.text(package).to_string();
            match ready {
                // A version that wants another one of itself as its peer can be had nowhere.
                Some(ready) if ready.rejects_itself => {
                    self.barred.insert((name, ready.entry.version.clone()));
                    self.known.about(package).loaded = None;
                }
                _ => {
                    let latest = packument.dist_tags.get("latest").cloned();
                    return Err(Box::new(NoChoice::NoMatch { package: name, latest }));
                }
            }
        }
    }

    /// The version that is taken; asked once of a packument as long as that is kept.
    fn look(
        &mut self,
        packument: &Packument,
        wanted: &Arc<Wanted>,
        lowest: bool,
    ) -> Option<Arc<Ready>> {
        let notes: Option<&Notes> = packument.versions.notes();
        let noted = notes
            .map_or(Noted::Nothing, |notes| notes.choice(self.known.node.as_ref(), wanted, lowest));
        let at = match noted {
            Noted::Ready(ready) => return Some(ready),
            Noted::None => return None,
            Noted::At(at) => at,
            Noted::Nothing => self.position(packument, wanted, lowest)?,
        };
        let ready = Notes::ready(packument, at)?;
        if let Some(notes) = notes {
            notes.complete_choice((wanted, lowest), at);
        }
        Some(ready)
    }

    /// Where the version stands that is taken.
    fn position(
        &mut self,
        packument: &Packument,
        wanted: &Arc<Wanted>,
        lowest: bool,
    ) -> Option<usize> {
        let listed = match wanted.want.target() {
            Want::Range { range, .. } if lowest => self.lowest(packument, range),
            Want::Range { range, any } => self.best(packument, range, *any),
            want => only(packument, want),
        };
        let at = listed.map(Listed::position);
        if let Some(notes) = packument.versions.notes::<Notes>() {
            let bytes_max = packument.versions.notes_bytes_max();
            notes.keep_choice(self.known.node.as_ref(), (wanted, lowest), at, bytes_max);
        }
        at
    }

    fn best<'p>(
        &mut self,
        packument: &'p Packument,
        range: &Range,
        any: bool,
    ) -> Option<Listed<'p>> {
        let fits = |one: &Listed<'_>| one.is_in(range);
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
        let fits = |one: &Listed<'_>| one.is_in(range);
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
        let package = self.known.names.intern(package);
        let packument = self.load(package).ok()?;
        let (first, range) = match want {
            None => {
                let latest = packument.dist_tags.get("latest");
                (latest.and_then(|text| packument.versions.listed(text)), None)
            }
            Some(Want::Range { range, any }) => (self.best(&packument, range, *any), Some(range)),
            Some(want) => {
                let only = only(&packument, want).into_iter();
                let found = only.filter_map(|one| Some((one.number()?, one.version())));
                return Some(found.collect());
            }
        };
        let is_first = |one: &Listed<'_>| first.is_some_and(|first| first.text() == one.text());
        let fits = |one: &Listed<'_>| {
            range.map_or_else(|| one.number().is_some(), |range| one.is_in(range))
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
        let found = found.filter_map(|one| Some((one.number()?, one.version())));
        Some(found.collect())
    }

    fn engine_fits(&mut self, engines: Option<&str>) -> bool {
        let (Some(node), Some(engines)) = (&self.known.node, engines) else { return true };
        if engines.is_empty() {
            return true;
        }
        if let Some(&fits) = self.known.engines.get(engines) {
            return fits;
        }
        let options = Options { loose: false, include_prerelease: true };
        let fits = Range::parse_with(engines, options).is_ok_and(|range| range.satisfies(node));
        self.known.bytes += engines.len() + ENGINE_BYTES;
        self.known.engines.insert(engines.to_owned(), fits);
        fits
    }

    /// Whether Node fits a version; known with the version where the same Node was asked about first.
    fn engine_of(&mut self, ready: &Ready) -> bool {
        let known = ready.engine.get();
        match (known, &self.known.node) {
            (_, None) => return true,
            (Some((about, fits)), Some(node)) if about == node => return *fits,
            _ => {}
        }
        let fits = self.engine_fits(ready.entry.engines_node.as_deref());
        if let (None, Some(node)) = (known, &self.known.node) {
            // Somebody else may have been first.
            let _ = ready.engine.set((node.clone(), fits));
        }
        fits
    }

    /// A version that is known by its text (from a lock), where the registry still has it.
    pub(super) fn exact(&mut self, package: &str, version: &str) -> Option<PackageId> {
        let package = self.known.names.intern(package);
        let packument = self.load(package).ok()?;
        let at = packument.versions.listed(version)?.position();
        self.take(package, &Notes::ready(&packument, at)?)
    }

    /// The versions of a package, highest first, for repairs.
    pub(super) fn entries(&mut self, package: &str) -> Vec<(Version, Arc<Entry>)> {
        let package = self.known.names.intern(package);
        let Ok(packument) = self.load(package) else { return Vec::new() };
        let all = packument.versions.ranked();
        all.filter_map(|one| Some((one.number()?, one.version()))).collect()
    }

    fn load(&mut self, package: NameId) -> Result<Arc<Packument>, Box<Error>> {
        if let Some(loaded) = &self.known.about(package).loaded {
            return loaded.clone();
        }
        if let Some(believed) = self.known.believed(package) {
            return Ok(believed);
        }
        let name = self.known.names.text(package);
        let loaded = self.source.packument(&name).map_err(Box::new);
        let loaded = loaded.map(|packument| self.usable(packument));
        if let Err(error) = &loaded
            && error.kind == Kind::Network
        {
            self.failed_on_the_network(error);
        }
        self.known.load(package, loaded.clone());
        loaded
    }

    pub(super) fn failed_on_the_network(&mut self, error: &Error) {
        self.network_failure.get_or_insert_with(|| error.clone());
    }

    fn take(&mut self, name: NameId, ready: &Arc<Ready>) -> Option<PackageId> {
        let is_it = |id: &&PackageId| {
            let other = &self.package(**id).ready;
            Arc::ptr_eq(other, ready) || other.entry.version == ready.entry.version
        };
        if let Some(&id) = self.known.chosen_of(name).iter().find(is_it) {
            self.meet(id);
            return Some(id);
        }
        let id = self.push(name, ready, None)?;
        self.known.about(name).chosen.push(id);
        Some(id)
    }

    /// Adds what was not chosen before.
    pub(super) fn push(
        &mut self,
        name: NameId,
        ready: &Arc<Ready>,
        archive: Option<Arc<str>>,
    ) -> Option<PackageId> {
        let number = ready.number.clone()?;
        let shape = Arc::new(self.shape_of_package(ready));
        let engine_fits = self.engine_of(ready);
        let entry = &ready.entry;
        let lists = [&entry.os, &entry.cpu, &entry.libc];
        let is_for_all = lists.into_iter().all(Vec::is_empty);
        let is_deprecated = entry.deprecated.is_some();
        let id = PackageId(u32::try_from(self.known.chosen.len()).ok()?);
        self.known.bytes += ready.bytes;
        self.known.chosen.push(Chosen {
            name,
            version: number,
            ready: Arc::clone(ready),
            shape,
            engine_fits,
            is_for_all,
            is_deprecated,
            archive,
            met_in: Turn::default(),
            announced_in: Turn::default(),
        });
        self.meet(id);
        Some(id)
    }
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
        format!("no version of `{package}` matches `{}`", shown(want)),
    )
}
