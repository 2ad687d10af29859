//! The text of a lock. Every list has one item to a line, so that two changes of different packages merge.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::read::{is_registry, is_repository};
use super::{FILE, PartView, VERSION, VERSION_WITH_LINKS, beside, order};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::npm::is_place_below;
use crate::limits::{LOCK_BYTES_MAX, LOCK_PACKAGES_MAX, LOCK_TEXT_BYTES_MAX, LOCK_WANTS_MAX};
use crate::manifest::package_json::named::{is_source, told};
use crate::metadata::cargo::scope::without_secret;
use crate::resolution::{Package, Resolution};
use crate::resolve::cargo::lock::{quote, quoted};

/// The purls of one resolution's packages in one text, and of each whether others have it, too, so that it needs a place beside it.
struct Purls {
    text: String,
    ends: Vec<usize>,
    is_shared: Vec<bool>,
}

impl Purls {
    fn of(packages: &[Package]) -> Self {
        let mut text = String::with_capacity(packages.len() * PURL_BYTES_USUAL);
        let ends = packages.iter().map(|package| {
            package.put_purl(&mut text);
            text.len()
        });
        let ends: Vec<usize> = ends.collect();
        let mut purls = Self { is_shared: vec![false; ends.len()], text, ends };
        let mut shared = Vec::new();
        if packages.is_sorted_by(|one, next| named(one) <= named(next)) {
            // Those of one purl stand beside each other, as they mostly do.
            let after = 1..packages.len();
            shared.extend(
                after.filter(|&it| purls.get(it - 1) == purls.get(it)).map(|it| (it - 1, it)),
            );
        } else {
            let mut firsts: HashMap<&str, usize> = HashMap::with_capacity(packages.len());
            for index in 0..packages.len() {
                match firsts.get(purls.get(index)) {
                    Some(first) => shared.push((*first, index)),
                    None => drop(firsts.insert(purls.get(index), index)),
                }
            }
        }
        for (one, other) in shared {
            purls.is_shared[one] = true;
            purls.is_shared[other] = true;
        }
        purls
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

/// Bytes of a purl, about.
const PURL_BYTES_USUAL: usize = 32;

/// What a purl is made of.
fn named(package: &Package) -> (&str, &str) {
    (&package.name, &package.version)
}

/// Bytes of a package's entry, about: half of that is its digest.
const ENTRY_BYTES_USUAL: usize = 512;

pub(super) fn render(parts: &BTreeMap<Ecosystem, PartView<'_>>) -> Result<Option<String>> {
    if parts.is_empty() {
        return Ok(None);
    }
    let count: usize = parts.values().map(|part| part.resolution.packages.len()).sum();
    let mut text = String::with_capacity(ENTRY_BYTES_USUAL * (count + 1));
    text.push_str(
        "# What Bolide installs here. `bolide install` follows it, `bolide update` renews it.\n",
    );
    // Writing to a string cannot fail, here and below.
    let has_links = parts.values().any(|part| !part.resolution.links.is_empty());
    let version = if has_links { VERSION_WITH_LINKS } else { VERSION };
    let _ = writeln!(text, "version = {version}");
    for (ecosystem, part) in parts {
        check(part)?;
        let _ = writeln!(text, "\n[{ecosystem}]");
        if !part.target.is_empty() {
            let _ = writeln!(text, "target = {}", quoted(part.target));
        }
        list(&mut text, "wants", part.wants);
    }
    for (ecosystem, part) in parts {
        let packages = &part.resolution.packages;
        let purls = Purls::of(packages);
        for index in order(packages) {
            entry(&mut text, *ecosystem, index, part.resolution, &purls);
        }
    }
    for link in parts.values().flat_map(|part| &part.resolution.links) {
        text.push_str("\n[[link]]\n");
        line(&mut text, "place", &link.place);
        line(&mut text, "target", &link.target);
    }
    match text.len() > LOCK_BYTES_MAX {
        true => Err(unwritable(&format!("it would have {} bytes", text.len()))),
        false => Ok(Some(text)),
    }
}

fn unwritable(problem: &str) -> Error {
    Error::new(Kind::Failed, "lock-unwritable", format!("`{FILE}` cannot be written: {problem}"))
}

/// What a reader would refuse is not written.
fn check(part: &PartView<'_>) -> Result<()> {
    let Resolution { packages, links, .. } = part.resolution;
    part.wants.iter().try_for_each(|text| check_text(text))?;
    for link in links {
        check_text(&link.place)?;
        check_text(&link.target)?;
    }
    for package in packages {
        for (name, path) in &package.bin {
            check_text(name)?;
            check_text(path)?;
        }
        package.extras.iter().chain(&package.scripts).try_for_each(|text| check_text(text))?;
        check_text(&package.version)?;
        check_text(&package.place)?;
        check_text(&package.artifact.file_name)?;
    }
    let places = packages.iter().map(|package| &package.place);
    let mut places = places.chain(links.iter().map(|link| &link.place));
    let is_npm = part.resolution.ecosystem == Ecosystem::Npm;
    if let Some(unfit) = places.find(|place| is_npm && !is_place_below(place)) {
        let shown = agents_versions::shorten(unfit);
        let problem = format!("`{shown}` is no place that every machine could have");
        return Err(unwritable(&problem).hint("give the directory another name"));
    }
    let mut sources = packages.iter().filter_map(|package| package.artifact.source.as_deref());
    let ecosystem = part.resolution.ecosystem;
    let is_unfit = |source: &&str| match ecosystem {
        Ecosystem::Cargo => !is_registry(source),
        Ecosystem::Npm => !is_source(source),
        Ecosystem::Pypi => !is_repository(source),
        _ => false,
    };
    if let Some(unfit) = sources.find(is_unfit) {
        let problem = match ecosystem {
            Ecosystem::Npm => format!("`{}` is no archive", agents_versions::shorten(&told(unfit))),
            Ecosystem::Pypi => "a package has a source that is no repository".to_owned(),
            _ => format!("`{}` is no index of crates", without_secret(unfit)),
        };
        return Err(unwritable(&problem));
    }
    let (packages, wants) = (packages.len().max(links.len()), part.wants.len());
    if packages > LOCK_PACKAGES_MAX || wants > LOCK_WANTS_MAX {
        return Err(unwritable(&format!("{packages} packages for {wants} wants are too many")));
    }
    Ok(())
}

fn check_text(text: &str) -> Result<()> {
    if is_fit(text) {
        return Ok(());
    }
    let shown = agents_versions::shorten(text);
    let limit = format!("more than {LOCK_TEXT_BYTES_MAX} bytes, or control characters");
    Err(unwritable(&format!("`{shown}` has {limit}")))
}

/// Whether a reader would take a text.
fn is_fit(text: &str) -> bool {
    // Nearly all are of letters that a look at the bytes tells apart.
    let is_odd = |byte: u8| !(b' '..0x7f).contains(&byte);
    let has_odd = text.bytes().fold(false, |found, byte| found | is_odd(byte));
    text.len() <= LOCK_TEXT_BYTES_MAX && (!has_odd || !text.chars().any(char::is_control))
}

fn entry(
    text: &mut String,
    ecosystem: Ecosystem,
    index: usize,
    resolution: &Resolution,
    purls: &Purls,
) {
    let package = &resolution.packages[index];
    text.push_str("\n[[package]]\n");
    line(text, "purl", purls.get(index));
    if package.direct {
        text.push_str("direct = true\n");
    }
    // What was built is of this machine; others have what it was built of.
    let built = package.artifact.built.as_deref();
    let hashes = built.map_or(&package.artifact.hashes, |built| &built.hashes);
    let named = [("sha512:", &hashes.sha512), ("sha256:", &hashes.sha256)];
    let digests = named
        .into_iter()
        .filter_map(|(algorithm, digest)| Some([algorithm, digest.as_deref()?].concat()));
    list(text, "hashes", &digests.collect::<Vec<_>>());
    line(text, "source", package.artifact.source.as_deref().unwrap_or(ecosystem.as_str()));
    if ecosystem == Ecosystem::Pypi {
        line(text, "file", built.map_or(&package.artifact.file_name, |built| &built.file_name));
    }
    if let Some(built) = built {
        text.push_str("built = true\n");
        let with = built.requirements.iter().map(|it| format!("{} {}", it.purl, it.hash));
        list(text, "built_with", &with.collect::<Vec<_>>());
    }
    let size = built.map_or(package.artifact.size, |built| built.size);
    if let Some(size) = size.filter(|size| i64::try_from(*size).is_ok()) {
        let _ = writeln!(text, "size = {size}");
    }
    if !package.place.is_empty() {
        line(text, "place", &package.place);
    }
    if !package.bin.is_empty() {
        let pairs = package.bin.iter();
        let pairs = pairs.map(|(name, path)| format!("{} = {}", quoted(name), quoted(path)));
        let _ = writeln!(text, "bin = {{ {} }}", pairs.collect::<Vec<_>>().join(", "));
    }
    list(text, "extras", &package.extras);
    list(text, "scripts", &package.scripts);
    // What only informs is left out rather than refused.
    if let Some(license) = package.license.as_ref().filter(|said| is_fit(said)) {
        line(text, "license", license);
    }
    if let Some(published) = package.published.as_ref().filter(|said| is_fit(said)) {
        line(text, "published", published);
    }
    let used = package.dependencies.iter().filter(|index| **index < resolution.packages.len());
    let mut used: Vec<Cow<'_, str>> =
        used.map(|used| reference(*used, resolution, purls)).collect();
    used.sort();
    used.dedup();
    list(text, "dependencies", &used);
}

/// As little as says which package is meant.
fn reference<'p>(index: usize, resolution: &Resolution, purls: &'p Purls) -> Cow<'p, str> {
    let purl = purls.get(index);
    // One crate of the default registry has nothing beside it, and needs none: the others have.
    let beside = purls.is_shared[index].then(|| beside(&resolution.packages[index])).flatten();
    match beside {
        Some(beside) => Cow::Owned(format!("{purl} {beside}")),
        None => Cow::Borrowed(purl),
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push_str(" = ");
    quote(text, value);
    text.push('\n');
}

fn list(text: &mut String, key: &str, values: &[impl AsRef<str>]) {
    let begin = |text: &mut String, end: &str| {
        for part in [key, " = [", end] {
            text.push_str(part);
        }
    };
    match values {
        [] => {}
        [one] => {
            begin(text, "");
            quote(text, one.as_ref());
            text.push_str("]\n");
        }
        several => {
            begin(text, "\n");
            for value in several {
                text.push_str("    ");
                quote(text, value.as_ref());
                text.push_str(",\n");
            }
            text.push_str("]\n");
        }
    }
}
