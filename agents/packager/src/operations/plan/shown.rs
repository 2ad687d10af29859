//! A plan as its answer shows it: what happens to every package, compared with what is installed.
//!
//! Most answers are sent, and have thousands of texts that are in the plan already. So they are written from the plan itself, as
//! the bytes that [`PlanAnswer`] has on the bus; a test compares both. What is wanted as values is made as values.
//!
//! The digest comes early in an answer and late in time, so a place of its length is left for it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::is_held;
use crate::api::{Action, BuiltFrom, PlanAnswer, PlannedPackage};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io::secret;
use crate::metadata::Hashes;
use crate::metadata::held::Held;
use crate::plan::Plan;
use crate::resolution::{Package, Resolution};

/// Bytes that a package takes in an answer, about: a quarter of it is its digest.
const PACKAGE_BYTES_USUAL: usize = 512;
/// Bytes of a plan's digest: `sha256:` and hexadecimal digits.
const DIGEST_BYTES: usize = 7 + 64;

/// A plan beside what is installed.
pub(super) struct Shown<'a> {
    plan: &'a Plan,
    installed: &'a BTreeMap<Ecosystem, Resolution>,
    holds: &'a BTreeMap<Ecosystem, Held>,
    /// Of each resolution; not all who ask need them.
    purls: OnceLock<Vec<Purls>>,
}

/// The purls of one resolution's packages, in one text.
struct Purls {
    text: String,
    ends: Vec<usize>,
}

/// An answer in which the digest is missing.
pub(super) struct Written {
    bytes: Vec<u8>,
    digest: Range<usize>,
}

/// What stands at a package's place now, by its name and place.
type Here<'a> = HashMap<(&'a str, &'a str), Vec<&'a Package>>;

impl<'a> Shown<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        installed: &'a BTreeMap<Ecosystem, Resolution>,
        holds: &'a BTreeMap<Ecosystem, Held>,
    ) -> Self {
        Self { plan, installed, holds, purls: OnceLock::new() }
    }

    /// How many packages there are.
    pub(super) fn count(&self) -> usize {
        self.plan.resolutions.iter().map(|one| one.packages.len()).sum()
    }

    /// Fills in all but the packages and the digest.
    pub(super) fn head(&self, answer: &mut PlanAnswer) {
        for (at, resolution) in self.plan.resolutions.iter().enumerate() {
            let before = self.before(resolution);
            if !before.is_empty() {
                let purls: HashSet<&str> = self.purls()[at].iter().collect();
                let gone = before.iter().map(Package::purl);
                answer.removed.extend(gone.filter(|purl| !purls.contains(purl.as_str())));
            }
        }
        answer.removed.sort();
        answer.removed.dedup();
        let edits = self.plan.edits.iter().map(|edit| edit.path.to_string());
        let places = self.plan.environments.iter().map(|rebuilt| rebuilt.place.to_string());
        answer.files = edits.chain(places).collect();
        answer.exemptions.clone_from(&self.plan.exemptions);
        answer.expires_at = Some(self.plan.expires_at_ms / 1000);
    }

    /// Fills in the packages.
    pub(super) fn describe(&self, answer: &mut PlanAnswer) {
        for (resolution, purls) in self.plan.resolutions.iter().zip(self.purls()) {
            let (here, held) = (self.here(resolution), self.holds.get(&resolution.ecosystem));
            let purls: Vec<Arc<str>> = purls.iter().map(Arc::from).collect();
            answer.packages.reserve(purls.len());
            for (package, purl) in resolution.packages.iter().zip(&purls) {
                let before = standing(&here, package);
                answer.packages.push(planned((package, purl), &purls, before, held));
            }
        }
    }

    /// The whole answer as it is sent.
    pub(super) fn write(&self, answer: &PlanAnswer) -> Result<Written> {
        self.begin(answer)?.end(answer)
    }

    /// The answer as it is sent, up to its packages: all for which the files that change need not be known.
    pub(super) fn begin(&self, answer: &PlanAnswer) -> Result<Written> {
        let room = (self.count() + 4) * PACKAGE_BYTES_USUAL;
        let mut cbor = Cbor(Vec::with_capacity(room));
        cbor.head(MAP, 11);
        cbor.field("schema", &answer.schema)?;
        cbor.text("digest");
        cbor.head(TEXT, DIGEST_BYTES);
        let start = cbor.0.len();
        let digest = start..start + DIGEST_BYTES;
        cbor.0.resize(digest.end, b'0');
        cbor.field("project", &answer.project)?;
        cbor.text("packages");
        self.write_packages(&mut cbor)?;
        Ok(Written { bytes: cbor.0, digest })
    }

    fn write_packages(&self, cbor: &mut Cbor) -> Result<()> {
        cbor.head(LIST, self.count());
        for (resolution, purls) in self.plan.resolutions.iter().zip(self.purls()) {
            let (here, held) = (self.here(resolution), self.holds.get(&resolution.ecosystem));
            for (at, package) in resolution.packages.iter().enumerate() {
                let action = action(package, standing(&here, package));
                let is_held = is_held(package, held);
                write_package(cbor, (package, at, purls), (action, is_held))?;
            }
        }
        Ok(())
    }

    fn purls(&self) -> &[Purls] {
        let made = || self.plan.resolutions.iter().map(|one| Purls::of(&one.packages)).collect();
        self.purls.get_or_init(made)
    }

    fn before(&self, resolution: &Resolution) -> &'a [Package] {
        self.installed.get(&resolution.ecosystem).map_or(&[], |before| &before.packages)
    }

    fn here(&self, resolution: &Resolution) -> Here<'a> {
        let mut here = Here::new();
        for package in self.before(resolution) {
            here.entry((&package.name, &package.place)).or_default().push(package);
        }
        here
    }
}

impl Purls {
    fn of(packages: &[Package]) -> Self {
        let mut text = String::with_capacity(packages.len() * 32);
        let ends = packages.iter().map(|package| {
            package.put_purl(&mut text);
            text.len()
        });
        Self { ends: ends.collect(), text }
    }

    fn get(&self, at: usize) -> Option<&str> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        self.text.get(start?..*self.ends.get(at)?)
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).filter_map(|at| self.get(at))
    }
}

impl Written {
    /// Appends what follows the packages.
    pub(super) fn end(self, answer: &PlanAnswer) -> Result<Self> {
        // All of them, so that none is forgotten.
        let PlanAnswer {
            schema: _,
            digest: _,
            project: _,
            packages: _,
            removed,
            files,
            exemptions,
            warnings,
            expires_at,
            conflict,
            resolve_ms,
        } = answer;
        let mut cbor = Cbor(self.bytes);
        cbor.field("removed", removed)?;
        cbor.field("files", files)?;
        cbor.field("exemptions", exemptions)?;
        cbor.field("warnings", warnings)?;
        cbor.field("expires_at", expires_at)?;
        cbor.field("conflict", conflict)?;
        cbor.field("resolve_ms", resolve_ms)?;
        Ok(Self { bytes: cbor.0, ..self })
    }

    /// The answer with the digest.
    pub(super) fn with_digest(mut self, digest: &str) -> Result<Vec<u8>> {
        match self.bytes.get_mut(self.digest) {
            Some(place) if place.len() == digest.len() => place.copy_from_slice(digest.as_bytes()),
            _ => return Err(unshown("its digest has another length")),
        }
        Ok(self.bytes)
    }
}

/// Why an answer cannot be written, which is nobody's fault but ours.
pub(super) fn unshown(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Failed, "internal", format!("the answer cannot be written: {why}"))
}

/// `before` are the packages that stand at the package's place now.
fn action(package: &Package, before: &[&Package]) -> Action {
    match before.iter().any(|it| is_kept(it, package)) {
        true => Action::Keep,
        false if !before.is_empty() => Action::Change,
        false => Action::Add,
    }
}

fn standing<'h, 'a>(here: &'h Here<'a>, package: &'h Package) -> &'h [&'a Package] {
    if here.is_empty() {
        return &[];
    }
    here.get(&(package.name.as_str(), package.place.as_str())).map_or(&[], Vec::as_slice)
}

/// `purls` are those of the whole resolution.
fn planned(
    (package, purl): (&Package, &Arc<str>),
    purls: &[Arc<str>],
    before: &[&Package],
    held: Option<&Held>,
) -> PlannedPackage {
    PlannedPackage {
        purl: Arc::clone(purl),
        action: action(package, before),
        direct: package.direct,
        hash: package.artifact.hashes.text(),
        source: source_of(package).into_owned().into(),
        size: package.artifact.size,
        license: package.license.clone(),
        published: package.published.clone(),
        scripts: package.scripts.clone(),
        built: built(package),
        place: package.place.clone(),
        held: is_held(package, held),
        dependencies: package
            .dependencies
            .iter()
            .filter_map(|at| purls.get(*at))
            .cloned()
            .collect(),
    }
}

/// The same as the bytes of a [`PlannedPackage`].
fn write_package(
    cbor: &mut Cbor,
    (package, at, purls): (&Package, usize, &Purls),
    (action, is_held): (Action, bool),
) -> Result<()> {
    let (built, has_place) = (built(package), !package.place.is_empty());
    cbor.head(MAP, 11 + usize::from(built.is_some()) + usize::from(has_place));
    cbor.text("purl");
    cbor.text(purls.get(at).unwrap_or_default());
    cbor.field("action", &action)?;
    cbor.text("direct");
    cbor.flag(package.direct);
    cbor.text("hash");
    cbor.hash(&package.artifact.hashes);
    cbor.text("source");
    cbor.text(&source_of(package));
    cbor.text("size");
    match package.artifact.size {
        Some(size) => cbor.number(UNSIGNED, size),
        None => cbor.0.push(NULL),
    }
    cbor.maybe("license", package.license.as_deref());
    cbor.maybe("published", package.published.as_deref());
    cbor.text("scripts");
    cbor.head(LIST, package.scripts.len());
    for script in &package.scripts {
        cbor.text(script);
    }
    if let Some(built) = &built {
        cbor.field("built", built)?;
    }
    if has_place {
        cbor.text("place");
        cbor.text(&package.place);
    }
    cbor.text("held");
    cbor.flag(is_held);
    cbor.text("dependencies");
    let used = || package.dependencies.iter().filter_map(|at| purls.get(*at));
    cbor.head(LIST, used().count());
    for purl in used() {
        cbor.text(purl);
    }
    Ok(())
}

fn built(package: &Package) -> Option<BuiltFrom> {
    package.artifact.built.as_deref().map(|built| BuiltFrom {
        file: built.file_name.clone(),
        hash: built.hashes.to_string(),
        requirements: built.requirements.clone(),
    })
}

/// Where a package comes from, for people.
fn source_of(package: &Package) -> Cow<'_, str> {
    if let Some(source) = &package.artifact.source {
        return source.into();
    }
    // Nearly all come from a registry, whatever their files' addresses are.
    package.named_at().map_or(package.ecosystem.as_str().into(), |url| secret::shown(&url).into())
}

/// Whether what stands there is what is wanted. Of one version a project may name another file.
fn is_kept(before: &Package, package: &Package) -> bool {
    let (before_file, file) = (&before.artifact, &package.artifact);
    let is_named = before_file.by_address || file.by_address;
    let is_named = is_named || before_file.built.is_some() || file.built.is_some();
    before.version == package.version && (!is_named || before_file.hashes == file.hashes)
}

/// Bytes of the bus: CBOR (RFC 8949) as its general writer makes it, with definite lengths, the shortest of them.
struct Cbor(Vec<u8>);

// Major types, and a simple value.
const UNSIGNED: u8 = 0;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

impl Cbor {
    fn head(&mut self, major: u8, count: usize) {
        self.number(major, count as u64);
    }

    fn number(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..24 => self.0.push(major | bytes[7]),
            24..0x100 => self.0.extend([major | 24, bytes[7]]),
            0x100..0x1_0000 => self.0.extend([major | 25, bytes[6], bytes[7]]),
            0x1_0000..0x1_0000_0000 => {
                self.0.push(major | 26);
                self.0.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&bytes);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.head(TEXT, text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn flag(&mut self, is_set: bool) {
        self.0.push(if is_set { TRUE } else { FALSE });
    }

    fn maybe(&mut self, name: &str, text: Option<&str>) {
        self.text(name);
        match text {
            Some(text) => self.text(text),
            None => self.0.push(NULL),
        }
    }

    /// The digest as [`Hashes::text`] has it.
    fn hash(&mut self, hashes: &Hashes) {
        let (kind, digest) = match (&hashes.sha512, &hashes.sha256) {
            (Some(digest), _) => ("sha512:", digest.as_str()),
            (None, Some(digest)) => ("sha256:", digest.as_str()),
            (None, None) => return self.text("none"),
        };
        self.head(TEXT, kind.len() + digest.len());
        self.0.extend_from_slice(kind.as_bytes());
        self.0.extend_from_slice(digest.as_bytes());
    }

    /// What there is little of.
    fn field(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.text(name);
        ciborium::into_writer(value, &mut self.0).map_err(unshown)
    }
}

#[cfg(test)]
mod tests;
