//! apt's lists and dpkg's status file under a root directory: what there is, and what is installed.
//!
//! Lists are kept as the texts that they are, some fifty megabytes; an index of names says which paragraphs matter, and only
//! those are ever read. Nothing is fetched (`apt-get update` does that), nothing is written, no right is needed.

mod configuration;
mod control;
mod lz4;
mod preferences;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::control::Stanza;
use self::preferences::{INSTALLED, Preferences, Release};
use super::environment::read_small;
use super::limits::{
    CONFIGURATION_BYTES_MAX, DEBIAN_LISTS_BYTES_MAX, DEBIAN_PARAGRAPHS_MAX, DEBIAN_VERSIONS_MAX,
};
use crate::error::{Error, Kind, Result};
use crate::metadata::debian::{Metadata, Package};

const LISTS: &str = "var/lib/apt/lists";
const STATUS: &str = "var/lib/dpkg/status";
const CONFIGURATION: &str = "etc/apt/apt.conf";
const PREFERENCES: &str = "etc/apt/preferences";

/// One list, or the status file.
#[derive(Debug)]
struct Text {
    content: String,
    /// What its source says of itself; `None` for the status file.
    release: Option<Release>,
}

/// A paragraph of a text.
#[derive(Clone, Copy, Debug)]
struct Place {
    text: u32,
    start: u32,
}

/// The packages of one name, or those that provide it.
type Family = Arc<[Arc<Package>]>;

/// What a machine's apt and dpkg know.
#[derive(Debug)]
pub(crate) struct Lists {
    native: String,
    texts: Vec<Text>,
    preferences: Preferences,
    follows_recommends: bool,
    hasher: RandomState,
    /// By the hash of a name, sorted; the name itself is compared when a paragraph is read.
    named: Vec<(u64, Place)>,
    provided: Vec<(u64, Place)>,
    installed: Vec<Arc<Package>>,
    /// By name and by whether the providers are meant.
    known: RefCell<HashMap<(String, bool), Family>>,
}

/// What a person told apt or dpkg below `root` to leave at its version, with that version; nothing where there is no dpkg.
pub(crate) fn holds(root: &Path) -> Result<Vec<(String, String)>> {
    let path = root.join(STATUS);
    let status = read_small(&path, DEBIAN_LISTS_BYTES_MAX as u64);
    let status = status.map_err(|error| Error::io("read", &path, &error))?;
    let status = text_of(status.unwrap_or_default());
    let native = native(&status);
    let held = installed(&status, native).filter(|package| package.is_held);
    let named = held.map(|package| match package.architecture == native {
        true => (package.name, package.version),
        false => (format!("{}:{}", package.name, package.architecture), package.version),
    });
    Ok(named.collect())
}

/// The machine's own architecture: that of dpkg, which is installed where there is a status file.
fn native(status: &str) -> &str {
    let own = control::stanzas(status).find(|(_, it)| it.field("Package") == Some("dpkg"));
    let native = own.and_then(|(_, stanza)| stanza.field("Architecture"));
    native.unwrap_or(architecture())
}

fn installed<'s>(status: &'s str, native: &'s str) -> impl Iterator<Item = Package> + 's {
    let all = control::stanzas(status);
    let packages = all.filter_map(move |(_, stanza)| control::package(stanza, native));
    packages.filter(|package| package.is_installed)
}

impl Lists {
    /// Reads what is below `root`.
    ///
    /// # Errors
    /// `no-dpkg` where this is no Debian machine, `no-lists` where apt never fetched any, `list-unreadable` for what is
    /// damaged or packed in a way that is not read here, `lists-too-large` beyond a bound.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let status = read_small(&root.join(STATUS), DEBIAN_LISTS_BYTES_MAX as u64);
        let status = status.map_err(|error| Error::io("read", &root.join(STATUS), &error))?;
        let Some(status) = status else {
            let message = "this machine has no dpkg, so packages of Debian cannot be planned";
            return Err(Error::new(Kind::Usage, "no-dpkg", message));
        };
        let mut lists = Self {
            native: String::new(),
            texts: vec![Text { content: text_of(status), release: None }],
            preferences: Preferences::default(),
            follows_recommends: true,
            hasher: RandomState::new(),
            named: Vec::new(),
            provided: Vec::new(),
            installed: Vec::new(),
            known: RefCell::default(),
        };
        lists.read_lists(root)?;
        lists.read_configuration(root)?;
        lists.index()?;
        lists.read_installed();
        Ok(lists)
    }

    fn read_lists(&mut self, root: &Path) -> Result<()> {
        let directory = root.join(LISTS);
        let names = names_in(&directory)?;
        let mut left = DEBIAN_LISTS_BYTES_MAX - self.texts[0].content.len();
        for name in &names {
            let Some((base, packing)) = packages_file(name) else { continue };
            let path = directory.join(name);
            let content = unpacked(&path, packing, left)?;
            left = left.saturating_sub(content.len());
            let release = release_of(&directory, &names, base)?;
            self.texts.push(Text { content: text_of(content), release: Some(release) });
        }
        if self.texts.len() == 1 {
            let message = format!("`{}` has no list of packages", directory.display());
            return Err(Error::new(Kind::Failed, "no-lists", message)
                .hint("run `apt-get update`, then ask again"));
        }
        Ok(())
    }

    fn read_configuration(&mut self, root: &Path) -> Result<()> {
        for text in configuration_files(root, CONFIGURATION)? {
            if let Some(value) = configuration::value(&text, "APT::Install-Recommends") {
                self.follows_recommends = !configuration::is_no(&value);
            }
        }
        for text in configuration_files(root, PREFERENCES)? {
            self.preferences.add(&text);
        }
        Ok(())
    }

    /// Goes once through every text.
    fn index(&mut self) -> Result<()> {
        for (number, text) in self.texts.iter().enumerate() {
            for (start, stanza) in control::stanzas(&text.content) {
                let Some(heading) = stanza.heading() else { continue };
                let place = Place { text: number as u32, start: start as u32 };
                self.named.push((self.hasher.hash_one(heading.name), place));
                let provided = control::provided(heading.provides);
                self.provided.extend(provided.map(|name| (self.hasher.hash_one(name), place)));
            }
            if self.named.len() + self.provided.len() > DEBIAN_PARAGRAPHS_MAX {
                let message = format!(
                    "apt's lists have more than {DEBIAN_PARAGRAPHS_MAX} packages and provided names"
                );
                return Err(Error::new(Kind::Failed, "lists-too-large", message));
            }
        }
        // Stable, so that what stands first in apt's lists stays first.
        self.named.sort_by_key(|(hash, _)| *hash);
        self.provided.sort_by_key(|(hash, _)| *hash);
        Ok(())
    }

    fn read_installed(&mut self) {
        let status = &self.texts[0].content;
        self.native = native(status).to_owned();
        let found = installed(status, &self.native);
        self.installed =
            found.map(|package| Arc::new(Package { pin: INSTALLED, ..package })).collect();
    }

    fn stanza(&self, place: Place) -> Stanza<'_> {
        let content = &self.texts[place.text as usize].content;
        let rest = content.get(place.start as usize..).unwrap_or_default();
        Stanza(rest.find("\n\n").map_or(rest, |end| &rest[..end + 1]))
    }

    /// The packages behind a hash. The same version from several sources is one package with the best of their priorities.
    fn family(&self, name: &str, is_provided: bool) -> Result<Family> {
        let key = (name.to_owned(), is_provided);
        if let Some(found) = self.known.borrow().get(&key) {
            return Ok(Arc::clone(found));
        }
        let index = if is_provided { &self.provided } else { &self.named };
        let hash = self.hasher.hash_one(name);
        let from = index.partition_point(|(other, _)| *other < hash);
        let places = index[from..].iter().take_while(|(other, _)| *other == hash);
        let mut found: Vec<Package> = Vec::new();
        let mut seen: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        for (_, place) in places {
            let Some(package) = self.package(*place) else { continue };
            let is_meant = match is_provided {
                false => package.name == name,
                true => package.name != name && package.provides.iter().any(|it| it.name == name),
            };
            let is_here = place.text != 0 || package.is_installed;
            if !is_meant || !is_here {
                continue;
            }
            let id = (package.name.clone(), package.architecture.clone(), package.version.clone());
            match seen.get(&id) {
                Some(&at) => merge(&mut found[at], package),
                None => {
                    seen.insert(id, found.len());
                    found.push(package);
                }
            }
            if found.len() > DEBIAN_VERSIONS_MAX {
                let message =
                    format!("more than {DEBIAN_VERSIONS_MAX} packages are or provide `{name}`");
                return Err(Error::new(Kind::Failed, "lists-too-large", message));
            }
        }
        let found: Family = found.into_iter().map(Arc::new).collect();
        self.known.borrow_mut().insert(key, Arc::clone(&found));
        Ok(found)
    }

    fn package(&self, place: Place) -> Option<Package> {
        let mut package = control::package(self.stanza(place), &self.native)?;
        package.pin = match &self.texts[place.text as usize].release {
            Some(release) => {
                // Only the status file says what is installed.
                package.is_installed = false;
                package.is_held = false;
                self.preferences.priority(&package.name, &package.version, release)
            }
            None => INSTALLED,
        };
        Some(package)
    }
}

/// The name that Debian has for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The same version from another source. What is installed keeps its own relations: they are what dpkg goes by.
fn merge(known: &mut Package, other: Package) {
    known.pin = known.pin.max(other.pin);
    if known.file.is_none() {
        known.file = other.file;
    }
}

impl Metadata for Lists {
    fn native(&self) -> &str {
        &self.native
    }

    fn named(&self, name: &str) -> Result<Family> {
        self.family(name, false)
    }

    fn providers(&self, name: &str) -> Result<Family> {
        self.family(name, true)
    }

    fn installed(&self) -> &[Arc<Package>] {
        &self.installed
    }

    fn follows_recommends(&self) -> bool {
        self.follows_recommends
    }
}

/// How a list is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Lz4,
    Gzip,
    Other,
}

/// The base of a list's name and how it is packed; `None` for what is no list of packages.
fn packages_file(name: &str) -> Option<(&str, Packing)> {
    let at = name.rfind("_Packages")?;
    let packing = match &name[at + "_Packages".len()..] {
        "" => Packing::Plain,
        ".lz4" => Packing::Lz4,
        ".gz" => Packing::Gzip,
        ".xz" | ".zst" | ".bz2" | ".lzma" => Packing::Other,
        // `.diff`, `.IndexDiff`, parts of downloads.
        _ => return None,
    };
    Some((&name[..at], packing))
}

fn unpacked(path: &Path, packing: Packing, bytes_max: usize) -> Result<Vec<u8>> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Error::new(Kind::Failed, "list-unreadable", format!("`{}`: {why}", path.display()))
            .hint("run `apt-get update`; lists are read plain, with LZ4 and with gzip")
    };
    let bytes = read_small(path, bytes_max as u64)
        .map_err(|error| Error::io("read", path, &error))?
        .ok_or_else(|| unreadable(&"it is gone"))?;
    match packing {
        Packing::Plain => Ok(bytes),
        Packing::Lz4 => lz4::unpack(&bytes, bytes_max).map_err(|error| unreadable(&error)),
        Packing::Gzip => {
            let mut out = Vec::new();
            let reader = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            reader
                .take(bytes_max as u64 + 1)
                .read_to_end(&mut out)
                .map_err(|error| unreadable(&error))?;
            if out.len() > bytes_max {
                return Err(unreadable(&format!("it unpacks to more than {bytes_max} bytes")));
            }
            Ok(out)
        }
        Packing::Other => Err(unreadable(&"it is packed in a way that is not read")),
    }
}

/// Names of files, sorted; a directory that does not exist has none.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", directory, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", directory, &error))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// A file and those of its `.d` directory, in the order in which apt reads them.
fn configuration_files(root: &Path, name: &str) -> Result<Vec<String>> {
    let directory = root.join(format!("{name}.d"));
    let has_good_name = |name: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        name.bytes().all(plain) && matches!(extension, None | Some("conf" | "pref"))
    };
    let inner = names_in(&directory)?.into_iter().filter(has_good_name);
    let mut paths: Vec<PathBuf> = inner.map(|name| directory.join(name)).collect();
    paths.push(root.join(name));
    let mut texts = Vec::new();
    for path in paths {
        let bytes = read_small(&path, CONFIGURATION_BYTES_MAX)
            .map_err(|error| Error::io("read", &path, &error))?;
        texts.extend(bytes.map(text_of));
    }
    Ok(texts)
}

/// What the `Release` of a list says: the file with the longest name that the list's own begins with.
fn release_of(directory: &Path, names: &[String], base: &str) -> Result<Release> {
    let prefix = |name: &str| {
        let prefix = name.strip_suffix("InRelease").or_else(|| name.strip_suffix("Release"))?;
        base.starts_with(prefix).then_some(prefix.len())
    };
    let found = names.iter().filter_map(|name| Some((prefix(name)?, name))).max();
    let host = base.split('_').next().unwrap_or_default().to_owned();
    let Some((length, name)) = found else { return Ok(Release { host, ..Release::default() }) };
    let path = directory.join(name);
    let bytes = read_small(&path, CONFIGURATION_BYTES_MAX)
        .map_err(|error| Error::io("read", &path, &error))?;
    let text = text_of(bytes.unwrap_or_default());
    // A signed file has its own head before the fields.
    let body = match text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----") {
        Some(rest) => rest.split_once("\n\n").map_or("", |(_, body)| body),
        None => &text,
    };
    let field = |name: &str| Stanza(body).field(name).unwrap_or_default().to_owned();
    let yes = |name: &str| field(name).eq_ignore_ascii_case("yes");
    let component = base[length..].split('_').next().unwrap_or_default().to_owned();
    Ok(Release {
        host,
        component,
        origin: field("Origin"),
        label: field("Label"),
        suite: field("Suite"),
        codename: field("Codename"),
        version: field("Version"),
        is_not_automatic: yes("NotAutomatic"),
        is_upgraded: yes("ButAutomaticUpgrades"),
    })
}

/// Lists are UTF-8; what is not becomes replacement characters, so that one bad description costs nothing else.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
