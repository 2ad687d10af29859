//! What looking at the versions of a packument has shown, kept with the packument for whoever looks next.
//!
//! A packument never changes: a registry's new answer is another one, without notes. So what a version needs follows from it
//! alone, and which version a text chooses follows from it, Node's version and the end that is asked for; both hold for every
//! request. What follows from a request (overrides, the project's own packages, versions that it bars) is not here.

use std::collections::{HashMap, HashSet};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustc_hash::FxHashMap;

use super::archives::Archive;
use super::catalogue::Role;
use super::names::Name;
use super::want::{Want, Wanted};
use crate::error::{Error, Kind};
use crate::limits::{NPM_CHOICES_KEPT_MAX, NPM_WANT_BYTES_MAX};
use crate::metadata::npm::{Dependencies, Packument, Version as Entry};
use crate::resolution::Artifact;
use agents_versions::npm::Version;

/// A version, and its tables understood.
#[derive(Debug)]
pub(super) struct Ready {
    /// `None` where the text is none.
    pub(super) number: Option<Version>,
    pub(super) entry: Arc<Entry>,
    /// Its file; made when it is asked for, since few of the versions that are looked at are installed.
    artifact: OnceLock<Result<Arc<Artifact>, Error>>,
    /// Peers first; of a name in several tables the last counts.
    pub(super) needs: Box<[Need]>,
    /// Names that come inside the archive.
    pub(super) bundled: Box<[Arc<Name>]>,
    /// A Node's version, and whether that fits.
    pub(super) engine: OnceLock<(Version, bool)>,
    /// Whether it has a peer of its own name that it is not itself: it can be had nowhere.
    pub(super) rejects_itself: bool,
    /// What it takes in memory, about.
    pub(super) bytes: usize,
}

/// One dependency of a version.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) name: Arc<Name>,
    pub(super) role: Role,
    pub(super) wanted: Arc<Wanted>,
    /// The package that will be asked for; `None` where no registry is.
    pub(super) package: Option<Arc<Name>>,
}

impl Ready {
    pub(super) fn new(package: &str, entry: Arc<Entry>) -> Self {
        let number = Version::parse_loose(&entry.version).ok();
        let needs = needs(&entry);
        let rejects_itself = rejects_itself(package, &entry, number.as_ref());
        let bundled = entry.bundled.iter().map(|name| Name::shared(name)).collect();
        let bytes = bytes_of(&entry) + size_of::<Self>() + needs.len() * size_of::<Need>();
        let engine = OnceLock::new();
        let artifact = OnceLock::new();
        Self { number, entry, artifact, needs, bundled, engine, rejects_itself, bytes }
    }
}

impl Ready {
    /// What is in an archive that was named itself.
    pub(super) fn of_archive(archive: &Archive) -> Self {
        let ready = Self::new(&archive.name, Arc::clone(&archive.entry));
        // Nobody has seen it yet.
        let _ = ready.artifact.set(Ok(Arc::clone(&archive.artifact)));
        ready
    }

    /// How many have its file.
    pub(super) fn artifact_count(&self) -> usize {
        let made = self.artifact.get().and_then(|made| made.as_ref().ok());
        made.map_or(0, Arc::strong_count)
    }

    /// The file of this version of `package`.
    pub(super) fn artifact(&self, package: &str) -> Result<Arc<Artifact>, Error> {
        self.artifact.get_or_init(|| artifact(package, &self.entry).map(Arc::new)).clone()
    }
}

fn artifact(name: &str, entry: &Entry) -> Result<Artifact, Error> {
    let what = || format!("`{name}@{}`", entry.version);
    if entry.tarball.is_empty() {
        let message = format!("the registry names no archive for {}", what());
        return Err(Error::new(Kind::Verification, "no-archive", message));
    }
    if entry.hashes.is_empty() {
        let message = format!(
            "the registry gives no sha512 or sha256 for {}, so it cannot be verified",
            what()
        );
        return Err(Error::new(Kind::Verification, "no-integrity", message)
            .hint("ask for a version that was published with an integrity"));
    }
    let path = entry.tarball.split(['?', '#']).next().unwrap_or_default();
    Ok(Artifact {
        built: None,
        by_address: false,
        file_name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        url: entry.tarball.clone(),
        hashes: entry.hashes.clone(),
        size: None,
        source: None,
    })
}

fn needs(entry: &Entry) -> Box<[Need]> {
    let optional: HashSet<&str> = entry.optional_peers.iter().map(String::as_str).collect();
    let is_optional = |name: &String| !optional.is_empty() && optional.contains(name.as_str());
    let peers = &entry.peer_dependencies;
    let count = peers.len() + entry.dependencies.len() + entry.optional_dependencies.len();
    let mut needs: Vec<Need> = Vec::with_capacity(count);
    let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(count);
    let mut replaced = Vec::new();
    let mut add = |role: Role, (name, text): (&String, &String)| {
        let (name, wanted) = (Name::shared(name), Wanted::shared(text));
        if let Some(earlier) = places.insert(name.folder().into(), needs.len()) {
            replaced.push(earlier);
        }
        let is_inside = entry.bundled.iter().any(|inside| **inside == *name.text);
        let package = match &wanted.want {
            Want::Local(_) | Want::Archive(_) | Want::Unsupported(_) => None,
            _ if is_inside => None,
            Want::Alias { package, .. } => Some(Name::shared(package)),
            _ => Some(Arc::clone(&name)),
        };
        needs.push(Need { name, role, wanted, package });
    };
    peers.iter().filter(|(name, _)| !is_optional(name)).for_each(|one| add(Role::Peer, one));
    peers.iter().filter(|(name, _)| is_optional(name)).for_each(|one| add(Role::OptionalPeer, one));
    entry.dependencies.iter().for_each(|one| add(Role::Required, one));
    entry.optional_dependencies.iter().for_each(|one| add(Role::Optional, one));
    let mut at = 0;
    needs.retain(|_| {
        at += 1;
        replaced.is_empty() || !replaced.contains(&(at - 1))
    });
    needs.into_boxed_slice()
}

fn rejects_itself(package: &str, entry: &Entry, number: Option<&Version>) -> bool {
    let Some(want) = entry.peer_dependencies.get(package) else { return false };
    let is_peer = !entry.dependencies.contains_key(package)
        && !entry.optional_dependencies.contains_key(package)
        && !entry.bundled.iter().any(|name| name == package);
    let want = Want::parse(want);
    is_peer && want.range().is_some() && !want.accepts(number)
}

/// What a version takes in memory, about; texts of its tables are shared by nobody.
fn bytes_of(entry: &Entry) -> usize {
    /// A text or a node of a table beside its bytes.
    const BESIDE: usize = 32;
    let of_text = |text: &String| text.len() + BESIDE;
    let of_list = |list: &Vec<String>| list.iter().map(of_text).sum::<usize>();
    let of_table = |table: &Dependencies| {
        table.iter().map(|(name, text)| of_text(name) + of_text(text)).sum::<usize>()
    };
    let texts = [&entry.deprecated, &entry.license, &entry.published, &entry.engines_node];
    let digests = [&entry.hashes.sha512, &entry.hashes.sha256];
    let lists = [&entry.optional_peers, &entry.bundled, &entry.os, &entry.cpu, &entry.libc];
    let tables =
        [&entry.dependencies, &entry.optional_dependencies, &entry.peer_dependencies, &entry.bin];
    size_of::<Entry>()
        + size_of::<Artifact>()
        + entry.version.len()
        // The file's address, its name and its digests are there once more where it was asked for.
        + 3 * entry.tarball.len()
        + texts.into_iter().chain(digests).chain(digests).flatten().map(of_text).sum::<usize>()
        + lists.into_iter().map(of_list).sum::<usize>()
        + of_list(&entry.install_scripts)
        + tables.into_iter().map(of_table).sum::<usize>()
}

/// What is kept with one packument.
#[derive(Default)]
pub(super) struct Notes(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The version of Node with which was chosen.
    node: Option<Version>,
    /// By the address of what is wanted, which the entry keeps alive, and by whether the lowest is; positions of versions.
    choices: FxHashMap<(usize, bool), Choice>,
    ready: Vec<(usize, Arc<Ready>)>,
    bytes: usize,
}

struct Choice {
    /// Keeps its address what it is.
    _wanted: Arc<Wanted>,
    at: Option<u32>,
    /// The version there, as long as it is in `ready`.
    ready: Option<Arc<Ready>>,
}

/// What is noted of a choice.
pub(super) enum Noted {
    /// Nobody asked.
    Nothing,
    /// That there is no such version.
    None,
    /// Where the version stands.
    At(usize),
    /// The version.
    Ready(Arc<Ready>),
}

/// What a choice takes, about; what is wanted is mostly shared with others.
const CHOICE_BYTES: usize = 192;

impl Kept {
    fn clear(&mut self) {
        self.choices.clear();
        self.ready.clear();
        self.bytes = 0;
    }

    /// Forgets everything where there is no room: what is still looked at comes back by itself.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) {
        if self.bytes + bytes > bytes_max || self.choices.len() >= NPM_CHOICES_KEPT_MAX {
            self.clear();
        }
        self.bytes += bytes;
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which version was chosen for this before.
    pub(super) fn choice(
        &self,
        node: Option<&Version>,
        wanted: &Arc<Wanted>,
        lowest: bool,
    ) -> Noted {
        let kept = self.lock();
        if kept.node.as_ref() != node {
            return Noted::Nothing;
        }
        match kept.choices.get(&(Arc::as_ptr(wanted).addr(), lowest)) {
            None => Noted::Nothing,
            Some(Choice { at: None, .. }) => Noted::None,
            Some(Choice { ready: Some(ready), .. }) => Noted::Ready(Arc::clone(ready)),
            Some(Choice { at: Some(at), .. }) => Noted::At(*at as usize),
        }
    }

    /// Puts the version of a choice beside it, where both are kept.
    pub(super) fn complete_choice(&self, (wanted, lowest): (&Arc<Wanted>, bool), at: usize) {
        let kept = &mut *self.lock();
        let Some((_, ready)) = kept.ready.iter().find(|(one, _)| *one == at) else { return };
        if let Some(choice) = kept.choices.get_mut(&(Arc::as_ptr(wanted).addr(), lowest))
            && choice.at.is_some_and(|chosen| chosen as usize == at)
        {
            choice.ready = Some(Arc::clone(ready));
        }
    }

    /// `bytes_max` is what all notes may take.
    pub(super) fn keep_choice(
        &self,
        node: Option<&Version>,
        (wanted, lowest): (&Arc<Wanted>, bool),
        at: Option<usize>,
        bytes_max: usize,
    ) {
        // A long text is a new object each time.
        if wanted.text.len() > NPM_WANT_BYTES_MAX {
            return;
        }
        let at = match at.map(u32::try_from) {
            None => None,
            Some(Ok(at)) => Some(at),
            Some(Err(_)) => return,
        };
        let mut kept = self.lock();
        if kept.node.as_ref() != node {
            kept.clear();
            kept.node = node.cloned();
        }
        kept.make_room(CHOICE_BYTES, bytes_max);
        let choice = Choice { _wanted: Arc::clone(wanted), at, ready: None };
        kept.choices.insert((Arc::as_ptr(wanted).addr(), lowest), choice);
    }

    /// The version at a position of a packument, read once for all.
    pub(super) fn ready(packument: &Packument, at: usize) -> Option<Arc<Ready>> {
        let notes: Option<&Self> = packument.versions.notes();
        if let Some(notes) = notes
            && let Some((_, ready)) = notes.lock().ready.iter().find(|(one, _)| *one == at)
        {
            return Some(Arc::clone(ready));
        }
        let entry = packument.versions.at(at)?.version();
        let ready = Arc::new(Ready::new(&packument.name, entry));
        let bytes_max = packument.versions.notes_bytes_max();
        if let Some(notes) = notes.filter(|_| ready.bytes <= bytes_max) {
            let mut kept = notes.lock();
            // Somebody else may have read it meanwhile.
            if !kept.ready.iter().any(|(one, _)| *one == at) {
                kept.make_room(ready.bytes, bytes_max);
                kept.ready.push((at, Arc::clone(&ready)));
            }
        }
        Some(ready)
    }
}
