//! Reading packuments, full or abbreviated, down to what is needed of them.

mod integrity;
mod pack;
mod version;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::{IgnoredAny, MapAccess};
use url::Url;

pub(crate) use self::integrity::integrity;
pub(crate) use self::pack::{NotPacked, pack};
use self::version::{Reader, fill, lend};
use self::walk::Walk;

use crate::io::lenient::{Accept, Borrow, Fill, Lend, Name, Pairs, Table};
use crate::io::limits::{TABLE_ENTRIES_MAX, VERSIONS_MAX};
use crate::metadata::npm::{Dependencies, Packument, Version};

/// Reads a packument. Versions without a tarball address, or with more dependencies than anybody has, are left out;
/// relative addresses are beneath `registry`.
pub(crate) fn parse(
    bytes: &[u8],
    name: &str,
    registry: &Url,
) -> Result<Packument, serde_json::Error> {
    let raw = RawPackument::read(bytes)?;
    let finish = |(text, raw, published): (Cow<'_, str>, RawVersion<'_>, Option<&str>)| {
        let version = raw.finish(&text, name, registry, published)?;
        Some((text.into_owned(), Arc::new(version)))
    };
    let versions = in_order(raw.versions, &raw.time.sorted()).filter_map(finish).collect();
    Ok(Packument { name: own_name(raw.name, name), dist_tags: raw.dist_tags.0, versions })
}

fn own_name(own: Option<String>, asked: &str) -> String {
    own.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.to_owned())
}

/// As they stand there.
type Versions<'de> = Vec<(Cow<'de, str>, RawVersion<'de>)>;

/// Versions in the order of their texts, of several with one text the last, each with the time that is said of it.
fn in_order<'a, 'de>(
    mut versions: Versions<'de>,
    times: &'a [(Cow<'de, str>, Cow<'de, str>)],
) -> impl Iterator<Item = (Cow<'de, str>, RawVersion<'de>, Option<&'a str>)> {
    versions.reverse();
    versions.sort_by(|(one, _), (other, _)| one.cmp(other));
    versions.dedup_by(|(one, _), (other, _)| one == other);
    versions.into_iter().map(|(text, version)| {
        let at = times.binary_search_by(|(other, _)| other.cmp(&text)).ok();
        (text, version, at.map(|at| &*times[at].1))
    })
}

#[derive(Default)]
struct RawPackument<'de> {
    name: Option<String>,
    dist_tags: Table,
    versions: Versions<'de>,
    time: Times<'de>,
}

impl<'de> RawPackument<'de> {
    fn read(bytes: &'de [u8]) -> Result<Self, serde_json::Error> {
        let (mut raw, mut walk) = (Self::default(), Walk::new(bytes));
        if !walk.is_at_object() {
            return Err(serde::de::Error::custom("not an object"));
        }
        let mut reader = Reader::default();
        let mut has_more = walk.enter()?;
        while has_more {
            match &*walk::said(walk.name()?)? {
                b"name" => fill(&mut raw.name, walk.value()?)?,
                b"dist-tags" => fill(&mut raw.dist_tags, walk.value()?)?,
                b"versions" => reader.versions(&mut walk, &mut raw.versions)?,
                b"time" => lend(&mut raw.time, walk.value()?)?,
                _ => {
                    walk.value()?;
                }
            }
            has_more = walk.has_more()?;
        }
        walk.end().map(|()| raw)
    }
}

/// Publication times; as many as versions, so beyond the bound of ordinary tables.
#[derive(Default)]
struct Times<'de>(Vec<(Cow<'de, str>, Cow<'de, str>)>);

impl<'de> Times<'de> {
    /// In the order of the versions' texts, of several with one text the last.
    fn sorted(mut self) -> Vec<(Cow<'de, str>, Cow<'de, str>)> {
        self.0.reverse();
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.0.dedup_by(|(one, _), (other, _)| one == other);
        self.0
    }
}

/// Reads one field into where it belongs.
macro_rules! read {
    ($object:ident, $place:expr) => {
        $object.next_value_seed(Fill(&mut $place))?
    };
}

impl<'de> Borrow<'de> for Times<'de> {
    fn borrow_object<A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(text)) = object.next_key()? {
            let mut time: Option<Cow<'de, str>> = None;
            object.next_value_seed(Lend(&mut time))?;
            if let Some(time) = time.filter(|_| self.0.len() < VERSIONS_MAX) {
                self.0.push((text, time));
            }
        }
        Ok(())
    }
}

/// What is read of a version.
#[derive(Default)]
struct RawVersion<'de> {
    tables: Rc<Tables<'de>>,
    deprecated: Deprecated,
    dist: Dist<'de>,
}

/// What mostly is the same in many versions.
#[derive(Clone, Default, PartialEq, Eq)]
struct Tables<'de> {
    dependencies: Pairs<'de>,
    optional_dependencies: Pairs<'de>,
    peer_dependencies: Pairs<'de>,
    peer_dependencies_meta: BTreeMap<String, PeerMeta>,
    bundled: Bundled,
    bin: Bin,
    engines: Engines,
    os: Vec<String>,
    cpu: Vec<String>,
    libc: Vec<String>,
    has_install_script: Option<bool>,
    gypfile: Option<bool>,
    scripts: Scripts,
    license: License,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct PeerMeta(bool);

impl Accept for PeerMeta {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        let mut optional = None;
        while let Some(Name(field)) = object.next_key()? {
            match &*field {
                "optional" => read!(object, optional),
                _ => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.0 = optional == Some(true);
        Ok(())
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Bundled {
    all: bool,
    names: Vec<String>,
}

impl Accept for Bundled {
    fn accept_flag(&mut self, flag: bool) {
        self.all = flag;
    }
    fn accept_list<'de, A: serde::de::SeqAccess<'de>>(&mut self, list: A) -> Result<(), A::Error> {
        self.names.accept_list(list)
    }
    // Old packages give the table with ranges.
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some((Name(name), IgnoredAny)) = object.next_entry()? {
            if self.names.len() < crate::io::limits::TABLE_ENTRIES_MAX {
                self.names.push(name.into_owned());
            }
        }
        Ok(())
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Bin {
    single: Option<String>,
    table: Table,
}

impl Accept for Bin {
    fn accept_text(&mut self, text: &str) {
        self.single = Some(text.to_owned());
    }
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, object: A) -> Result<(), A::Error> {
        self.table.accept_object(object)
    }
}

impl Bin {
    fn is_empty(&self) -> bool {
        self.single.is_none() && self.table.0.is_empty()
    }
}

/// Where a package that names no commands has them; registries say it in `bin`.
#[derive(Default, PartialEq, Eq)]
struct Directories {
    bin: Option<String>,
}

impl Accept for Directories {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = object.next_key()? {
            match &*field {
                "bin" => read!(object, self.bin),
                _ => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Engines {
    node: Option<String>,
}

impl Accept for Engines {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = object.next_key()? {
            match &*field {
                "node" => read!(object, self.node),
                _ => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Deprecated(Option<String>);

impl Accept for Deprecated {
    // An empty text takes a deprecation back.
    fn accept_text(&mut self, text: &str) {
        self.0 = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
    fn accept_flag(&mut self, flag: bool) {
        self.0 = flag.then(|| "deprecated by its publisher".to_owned());
    }
}

/// The scripts that an installation runs, in the order in which it does.
#[derive(Clone, Default, PartialEq, Eq)]
struct Scripts([bool; 3]);

const INSTALL_SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

impl Accept for Scripts {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = object.next_key()? {
            match INSTALL_SCRIPTS.iter().position(|name| *name == field) {
                Some(index) => {
                    let mut script: Option<String> = None;
                    read!(object, script);
                    self.0[index] = script.is_some_and(|script| !script.trim().is_empty());
                }
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
struct License(Option<String>);

impl Accept for License {
    fn accept_text(&mut self, text: &str) {
        self.0 = Some(text.to_owned());
    }
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = object.next_key()? {
            match &*field {
                "type" => read!(object, self.0),
                _ => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Dist<'de> {
    tarball: Option<Cow<'de, str>>,
    integrity: Option<Cow<'de, str>>,
    unpacked_size: Option<u64>,
}

impl Dist<'_> {
    /// Where the archive is.
    fn address(&self, registry: &Url) -> Option<Cow<'_, str>> {
        tarball_url(self.tarball.as_deref()?, registry)
    }
}

/// Reads the `package.json` of an archive that a package is asked for by; `files` are the paths in it. Nothing is said there of where
/// it came from, when, and what it hashes to.
pub(crate) fn described<'f>(
    bytes: &[u8],
    (name, version): (&str, &str),
    files: impl Iterator<Item = &'f str>,
) -> Result<Version, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let wrong = |error: serde_json::Error| error.to_string();
    // All of it is JSON, also what is not read.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(wrong)?;
    let mut reader = Reader::default();
    let raw = reader.version(&mut Walk::new(bytes)).map_err(wrong)?;
    let folder = reader.directories().map_err(wrong)?.bin;
    let mut tables = Tables::clone(&raw.tables);
    let folder = folder.filter(|_| tables.bin.is_empty()).map(|folder| plain_path(&folder));
    for path in files {
        // What has one is built with it, unless the package says otherwise.
        if path == "binding.gyp" {
            tables.gypfile.get_or_insert(true);
        }
        let below = folder.as_ref().and_then(|folder| path.strip_prefix(folder.as_str()));
        if let Some(inside) = below.and_then(|below| below.strip_prefix('/'))
            && !inside.split('/').any(|part| part.starts_with('.'))
        {
            let command = path.rsplit('/').next().unwrap_or(path);
            tables.bin.table.0.insert(command.to_owned(), path.to_owned());
        }
    }
    let described = tables.describe(version, name, &raw.deprecated);
    described.ok_or_else(|| "it needs more packages than anybody has".to_owned())
}

impl RawVersion<'_> {
    fn finish(
        &self,
        text: &str,
        name: &str,
        registry: &Url,
        published: Option<&str>,
    ) -> Option<Version> {
        let tarball = self.dist.address(registry)?.into_owned();
        Some(Version {
            published: published.map(str::to_owned),
            tarball,
            hashes: integrity(self.dist.integrity.as_deref().unwrap_or_default()),
            unpacked_size: self.dist.unpacked_size,
            ..self.tables.describe(text, name, &self.deprecated)?
        })
    }
}

impl Tables<'_> {
    /// All of a version but where its archive is.
    fn describe(&self, text: &str, name: &str, deprecated: &Deprecated) -> Option<Version> {
        // A table of that length was cut: the version would seem to need less than it does.
        let tables = [&self.dependencies, &self.optional_dependencies, &self.peer_dependencies];
        let is_cut = tables.iter().any(|table| table.len() >= TABLE_ENTRIES_MAX)
            || self.peer_dependencies_meta.len() >= TABLE_ENTRIES_MAX;
        if is_cut {
            return None;
        }
        let optional_dependencies: Dependencies = self.optional_dependencies.table();
        let mut dependencies: Dependencies = self.dependencies.table();
        let bundled = match self.bundled.all {
            true => dependencies.keys().chain(optional_dependencies.keys()).cloned().collect(),
            false => self.bundled.names.clone(),
        };
        if !optional_dependencies.is_empty() {
            dependencies.retain(|name, _| !optional_dependencies.contains_key(name));
        }
        let optional_peers = self.peer_dependencies_meta.iter().filter(|(_, meta)| meta.0);
        let named = INSTALL_SCRIPTS.iter().zip(self.scripts.0).filter(|(_, present)| *present);
        let mut install_scripts: Vec<String> = named.map(|(name, _)| (*name).to_owned()).collect();
        // The abbreviated form says only that there is one; a `binding.gyp` is built by a default `install`.
        let builds = self.gypfile == Some(true) && !self.scripts.0[0] && !self.scripts.0[1];
        if builds || (install_scripts.is_empty() && self.has_install_script == Some(true)) {
            install_scripts.insert(0, "install".to_owned());
        }
        Some(Version {
            version: text.to_owned(),
            dependencies,
            optional_dependencies,
            peer_dependencies: self.peer_dependencies.table(),
            optional_peers: optional_peers.map(|(name, _)| name.clone()).collect(),
            bundled,
            bin: commands(&self.bin, name),
            engines_node: self.engines.node.clone(),
            os: self.os.clone(),
            cpu: self.cpu.clone(),
            libc: self.libc.clone(),
            deprecated: deprecated.0.clone(),
            install_scripts,
            license: self.license.0.clone(),
            ..Version::default()
        })
    }
}

/// An absolute address. Old packuments say `http:` for what is served over `https:` by the same host.
fn tarball_url<'a>(text: &'a str, registry: &Url) -> Option<Cow<'a, str>> {
    // By far the most frequent cases: parsing thousands takes milliseconds. What an address elsewhere is worth is checked when it is
    // fetched; one below the registry's own is what parsing would make of it.
    let is_elsewhere =
        || text.starts_with("https://") && !text.bytes().any(|byte| matches!(byte, b'@' | b'#'));
    if is_plainly_below(text, registry) || is_elsewhere() {
        return Some(Cow::Borrowed(text));
    }
    let mut url = registry.join(text).ok()?;
    url.set_fragment(None);
    // Addresses reach plans and lock files, so they must not hold credentials; those come from configuration.
    let _ = crate::io::secret::take_userinfo(&mut url);
    if url.scheme() == "http"
        && registry.scheme() == "https"
        && url.host_str() == registry.host_str()
    {
        url.set_scheme("https").ok()?;
    }
    matches!(url.scheme(), "https" | "http").then(|| Cow::Owned(url.into()))
}

/// Whether an address continues the registry's in characters that mean themselves.
fn is_plainly_below(text: &str, registry: &Url) -> bool {
    let Some(rest) = text.strip_prefix(registry.as_str()) else { return false };
    let means_itself = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'@' | b'~')
    };
    let is_plain = registry.username().is_empty()
        && registry.password().is_none()
        && registry.query().is_none()
        && registry.fragment().is_none()
        && registry.path().ends_with('/');
    // Parts that begin with a dot may mean another one.
    is_plain && rest.bytes().all(means_itself) && !rest.starts_with('.') && !rest.contains("/.")
}

/// Commands as npm links them: the name is the last part of what is written, the path cannot leave the package.
fn commands(bin: &Bin, package: &str) -> BTreeMap<String, String> {
    let own_name = package.rsplit('/').next().unwrap_or(package);
    let single = bin.single.as_deref().map(|path| (own_name, path));
    let table = bin.table.0.iter().map(|(name, path)| (&**name, &**path));
    let written = single.into_iter().chain(table);
    let mut commands = BTreeMap::new();
    for (name, path) in written {
        let name = name.replace(['\\', ':'], "/");
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let path = plain_path(path);
        let usable =
            !matches!(name.as_str(), "" | "." | "..") && !name.chars().any(char::is_control);
        if usable && !path.is_empty() && !path.contains('\0') {
            commands.insert(name, path);
        }
    }
    commands
}

/// A path inside of a package, which it cannot leave.
fn plain_path(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
