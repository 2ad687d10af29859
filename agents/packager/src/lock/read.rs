//! A lock read as what it is: a file that a stranger may have written. Nothing in it becomes a path, a name or a digest
//! without having been judged by the rule for such a thing, and nothing in it is an address.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{FILE, Lock, Part, VERSION, VERSION_WITH_LINKS, beside, damaged, identity};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::npm::is_place_below;
use crate::limits::{
    LOCK_BYTES_MAX, LOCK_DEPENDENCIES_MAX, LOCK_PACKAGES_MAX, LOCK_TEXT_BYTES_MAX, LOCK_WANTS_MAX,
};
use crate::manifest::address::git::of_source;
use crate::manifest::package_json::named::is_source;
use crate::metadata::Hashes;
use crate::metadata::cargo::scope::{GIT, SPARSE};
use crate::resolution::{Artifact, BuildRequirement, Built, Link, Package, Resolution};
use crate::spec::{normalize_name, purl, steers};
use agents_versions::shorten;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    package: Vec<Entry>,
    #[serde(default)]
    link: Vec<Linked>,
    npm: Option<Head>,
    pypi: Option<Head>,
    cargo: Option<Head>,
}

/// The version alone: a newer format may have any other field.
#[derive(Deserialize)]
struct Versioned {
    version: Option<toml::Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Head {
    wants: Vec<String>,
    target: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    purl: String,
    #[serde(default)]
    direct: bool,
    hashes: Vec<String>,
    source: String,
    file: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    built: bool,
    #[serde(default)]
    built_with: Vec<String>,
    #[serde(default)]
    place: String,
    #[serde(default)]
    bin: BTreeMap<String, String>,
    #[serde(default)]
    extras: Vec<String>,
    #[serde(default)]
    scripts: Vec<String>,
    license: Option<String>,
    published: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// A link in a tree of npm.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Linked {
    place: String,
    target: String,
}

pub(super) fn read(text: &str) -> Result<Lock> {
    if text.len() > LOCK_BYTES_MAX {
        return Err(damaged(format!("it has {} bytes", text.len())));
    }
    let file: File = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => return Err(unreadable(text, &error)),
    };
    if file.version != VERSION && file.version != VERSION_WITH_LINKS {
        return Err(newer(&file.version.to_string()));
    }
    if file.package.len().max(file.link.len()) > LOCK_PACKAGES_MAX {
        return Err(damaged(format!("it has more than {LOCK_PACKAGES_MAX} packages or links")));
    }
    let mut parts = BTreeMap::new();
    let heads =
        [(Ecosystem::Npm, file.npm), (Ecosystem::Pypi, file.pypi), (Ecosystem::Cargo, file.cargo)];
    for (ecosystem, head) in heads {
        let Some(head) = head else { continue };
        let resolution =
            Resolution { ecosystem, packages: Vec::new(), links: Vec::new(), warnings: Vec::new() };
        parts.insert(ecosystem, part(head, resolution)?);
    }
    let mut used: BTreeMap<Ecosystem, Vec<Vec<String>>> = BTreeMap::new();
    for entry in file.package {
        let (package, dependencies) = package(entry)?;
        let ecosystem = package.ecosystem;
        let Some(part) = parts.get_mut(&ecosystem) else {
            return Err(damaged(format!(
                "there is a package of {ecosystem}, and no `[{ecosystem}]`"
            )));
        };
        part.resolution.packages.push(package);
        used.entry(ecosystem).or_default().push(dependencies);
    }
    for (ecosystem, used) in used {
        if let Some(part) = parts.get_mut(&ecosystem) {
            connect(&mut part.resolution.packages, used)?;
        }
    }
    if !file.link.is_empty() {
        let npm = parts.get_mut(&Ecosystem::Npm);
        let npm = npm.ok_or_else(|| damaged("there are links, and no `[npm]`"))?;
        npm.resolution.links = links(file.link, &npm.resolution.packages)?;
    }
    Ok(Lock { parts })
}

/// Where they lead is compared with what the project has before any is made.
fn links(linked: Vec<Linked>, packages: &[Package]) -> Result<Vec<Link>> {
    let mut places: BTreeSet<&str> = packages.iter().map(|it| it.place.as_str()).collect();
    for Linked { place, target } in &linked {
        check_text(place)?;
        check_text(target)?;
        if !is_place_below(place) || target.is_empty() || !places.insert(place) {
            let link = shorten(place);
            return Err(damaged(format!("the link `{link}` cannot stand there")));
        }
    }
    let link = |Linked { place, target }| Link { place, target, bin: BTreeMap::new() };
    let mut links: Vec<Link> = linked.into_iter().map(link).collect();
    links.sort();
    Ok(links)
}

fn unreadable(text: &str, error: &toml::de::Error) -> Error {
    if let Ok(Versioned { version: Some(version) }) = toml::from_str(text)
        && ![VERSION, VERSION_WITH_LINKS]
            .iter()
            .any(|it| version.as_integer() == Some(i64::from(*it)))
    {
        return newer(&shorten(&version.to_string()));
    }
    let line = error.span().map_or(1, |span| {
        let before = text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    });
    damaged(format!("line {line}: {}", shorten(error.message())))
}

fn newer(version: &str) -> Error {
    let message = format!(
        "`{FILE}` is of version {version}; this program knows {VERSION} and {VERSION_WITH_LINKS}"
    );
    Error::new(Kind::Failed, "lock-version", message).hint("use the program that wrote it")
}

fn part(head: Head, resolution: Resolution) -> Result<Part> {
    if head.wants.len() > LOCK_WANTS_MAX {
        return Err(damaged(format!("it has more than {LOCK_WANTS_MAX} wants")));
    }
    for want in head.wants.iter().chain([&head.target]) {
        check_text(want)?;
    }
    Ok(Part { wants: head.wants, target: head.target, resolution })
}

/// Refuses what is longer than anything of its kind, or would steer a terminal.
fn check_text(text: &str) -> Result<()> {
    match text.len() > LOCK_TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        true => Err(damaged(format!("`{}` cannot stand there", shorten(text)))),
        false => Ok(()),
    }
}

fn package(entry: Entry) -> Result<(Package, Vec<String>)> {
    let (ecosystem, name, version) = parse_purl(&entry.purl)?;
    let refused = |what: &str| damaged(format!("`{}`: {what}", shorten(&entry.purl)));
    let is_npm = ecosystem == Ecosystem::Npm;
    let source = match entry.source == ecosystem.as_str() {
        true => None,
        false if ecosystem == Ecosystem::Cargo && is_registry(&entry.source) => Some(entry.source),
        false if ecosystem == Ecosystem::Pypi && entry.built && is_repository(&entry.source) => {
            Some(entry.source)
        }
        false if is_npm && is_source(&entry.source) => Some(entry.source),
        false => return Err(refused("its source is not known here")),
    };
    let file_name = match (ecosystem, entry.file) {
        (Ecosystem::Pypi, Some(file)) if is_file_name(&file) => file,
        (Ecosystem::Npm, None) => {
            format!("{}-{version}.tgz", name.rsplit('/').next().unwrap_or(&name))
        }
        (Ecosystem::Cargo, None) => format!("{name}-{version}.crate"),
        _ => return Err(refused("its file has no usable name")),
    };
    let is_placed = if is_npm { is_place_below(&entry.place) } else { entry.place.is_empty() };
    if !is_placed {
        return Err(refused("its place is none"));
    }
    if !is_npm && !entry.bin.is_empty() {
        return Err(refused("commands are npm's"));
    }
    if entry.dependencies.len() > LOCK_DEPENDENCIES_MAX {
        return Err(refused("it has too many dependencies"));
    }
    let commands = entry.bin.iter().flat_map(|(name, path)| [name, path]);
    let texts = commands.chain(&entry.extras).chain(&entry.scripts);
    for text in texts.chain(&entry.license).chain(&entry.published).chain([&entry.place]) {
        // A command's path is judged again where it is linked, as one from a registry is.
        check_text(text)?;
    }
    let hashes = hashes(&entry.hashes).ok_or_else(|| {
        refused("it needs `sha512:` or `sha256:` and the digest in lower-case hexadecimal")
    })?;
    let (url, by_address, size) = (String::new(), false, entry.size);
    let built = match (entry.built, &entry.built_with[..]) {
        (false, []) => None,
        (true, with) if ecosystem == Ecosystem::Pypi && !file_name.ends_with(".whl") => {
            let requirements = build_requirements(with).ok_or_else(|| {
                refused("what it was built with has to be exact packages with their digests")
            })?;
            let (file_name, hashes) = (file_name.clone(), hashes.clone());
            let (form, url) = (None, String::new());
            Some(Built { file_name, form, hashes, requirements, size, url }.into())
        }
        _ => return Err(refused("only a source archive of Python is built")),
    };
    let artifact = Artifact { built, by_address, file_name, url, hashes, size, source };
    let package = Package {
        ecosystem,
        name,
        version,
        direct: entry.direct,
        artifact: artifact.into(),
        dependencies: Vec::new(),
        place: entry.place,
        bin: entry.bin,
        extras: entry.extras,
        license: entry.license,
        published: entry.published,
        scripts: entry.scripts,
    };
    Ok((package, entry.dependencies))
}

/// Whether a text could be the index of a registry of crates. It is never asked for that reason: only one that is configured is.
pub(super) fn is_registry(source: &str) -> bool {
    let (is_sparse, address) = match source.strip_prefix(SPARSE) {
        Some(address) => (true, Some(address)),
        None => (false, source.strip_prefix(GIT)),
    };
    let Some(url) = address.and_then(|it| url::Url::parse(it).ok()) else { return false };
    let is_kind = match url.scheme() {
        "https" | "http" => url.username().is_empty(),
        // `git@` is who everybody is there.
        "ssh" => !is_sparse,
        "git" | "file" => !is_sparse && url.username().is_empty(),
        _ => false,
    };
    let is_bare = url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    is_kind && is_bare && source.len() <= LOCK_TEXT_BYTES_MAX && !source.chars().any(steers)
}

/// Whether a text is a repository with a commit of it. It is never fetched for that reason: only what a manifest names is.
pub(super) fn is_repository(source: &str) -> bool {
    of_source(source).is_some()
}

/// The parts of a purl, spelled the one way in which a lock spells it.
fn parse_purl(text: &str) -> Result<(Ecosystem, String, String)> {
    let refused = || damaged(format!("`{}` is not an exact package", shorten(text)));
    if text.len() > LOCK_TEXT_BYTES_MAX {
        return Err(refused());
    }
    let (kind, rest) =
        text.strip_prefix("pkg:").and_then(|it| it.split_once('/')).ok_or_else(refused)?;
    let ecosystem = Ecosystem::WITH_REGISTRY.into_iter().find(|one| one.as_str() == kind);
    let ecosystem = ecosystem.ok_or_else(refused)?;
    let (name, version) = rest.rsplit_once('@').ok_or_else(refused)?;
    let decoded = |part: &str| -> Result<String> {
        Ok(percent_decode_str(part).decode_utf8().map_err(|_| refused())?.into_owned())
    };
    let (name, version) = (decoded(name)?, decoded(version)?);
    let is_version = match ecosystem {
        Ecosystem::Npm => agents_versions::npm::Version::parse_loose(&version).is_ok(),
        Ecosystem::Pypi => version.parse::<pep440_rs::Version>().is_ok(),
        Ecosystem::Cargo => semver::Version::parse(&version).is_ok(),
        Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => false,
    };
    let is_plain = !version.contains(|c: char| c.is_control() || c.is_whitespace());
    let is_normal = normalize_name(ecosystem, &name).is_ok_and(|normal| normal == name);
    if !is_version || !is_plain || !is_normal || purl(ecosystem, &name, &version) != text {
        return Err(refused());
    }
    Ok((ecosystem, name, version))
}

/// One component of a path, without what a shell or a terminal would act on.
fn is_file_name(name: &str) -> bool {
    let is_fine = |c: char| !c.is_control() && !c.is_whitespace() && c != '/' && c != '\\';
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(is_fine)
}

/// Exact Python packages, each with its digest.
fn build_requirements(texts: &[String]) -> Option<Vec<BuildRequirement>> {
    let exact = |text: &String| {
        let (purl, hash) = text.split_once(' ')?;
        let (ecosystem, _, _) = parse_purl(purl).ok()?;
        let is_one = ecosystem == Ecosystem::Pypi && hashes(&[hash.to_owned()]).is_some();
        is_one.then(|| BuildRequirement { hash: hash.to_owned(), purl: purl.to_owned() })
    };
    if texts.len() > LOCK_DEPENDENCIES_MAX {
        return None;
    }
    let mut found: Vec<_> = texts.iter().map(exact).collect::<Option<_>>()?;
    found.sort_by(BuildRequirement::order);
    Some(found)
}

/// Digests, each of a known algorithm, at most one of each, and at least one.
fn hashes(texts: &[String]) -> Option<Hashes> {
    let mut hashes = Hashes::default();
    for text in texts {
        let (algorithm, digest) = text.split_once(':')?;
        let (place, digits) = match algorithm {
            "sha512" => (&mut hashes.sha512, 128),
            "sha256" => (&mut hashes.sha256, 64),
            _ => return None,
        };
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if place.is_some() || digest.len() != digits || !digest.bytes().all(is_hex) {
            return None;
        }
        *place = Some(digest.to_owned());
    }
    (!hashes.is_empty()).then_some(hashes)
}

/// Turns what packages use into positions. `used` stands in the order of `packages`.
fn connect(packages: &mut [Package], used: Vec<Vec<String>>) -> Result<()> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = packages.iter().find(|package| !seen.insert(identity(package))) {
        return Err(damaged(format!("`{}` stands twice", twice.purl())));
    }
    let mut places = BTreeSet::new();
    let mut placed = packages.iter().filter(|package| !package.place.is_empty());
    if let Some(twice) = placed.find(|package| !places.insert(&package.place)) {
        return Err(damaged(format!("`{}` is the place of two packages", twice.place)));
    }
    let mut indices: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, package) in packages.iter().enumerate() {
        indices.entry(package.purl()).or_default().push(index);
        if let Some(beside) = beside(package) {
            let both = format!("{} {beside}", package.purl());
            indices.entry(both).or_default().push(index);
        }
    }
    // Of several crates the bare purl is the default registry's.
    for of_purl in indices.values_mut().filter(|of_purl| of_purl.len() > 1) {
        let bare: Vec<usize> =
            of_purl.iter().copied().filter(|at| beside(&packages[*at]).is_none()).collect();
        if let [one] = bare[..] {
            *of_purl = vec![one];
        }
    }
    let mut all = Vec::with_capacity(packages.len());
    for (package, used) in packages.iter().zip(used) {
        let mut dependencies = Vec::with_capacity(used.len());
        for text in used {
            match indices.get(&text).map(Vec::as_slice) {
                Some([index]) => dependencies.push(*index),
                _ => {
                    let (purl, text) = (package.purl(), shorten(&text));
                    return Err(damaged(format!("`{purl}` uses `{text}`, which names no package")));
                }
            }
        }
        dependencies.sort_unstable();
        dependencies.dedup();
        all.push(dependencies);
    }
    for (package, dependencies) in packages.iter_mut().zip(all) {
        package.dependencies = dependencies;
    }
    Ok(())
}
