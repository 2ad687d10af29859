//! `uv.lock`, and requirements with exact pins as pip's tools write them beside a pyproject.toml.

use pep508_rs::VersionOrUrl;
use percent_encoding::NON_ALPHANUMERIC;
use serde::Deserialize;

use super::Locked;
use crate::ecosystem::Ecosystem;
use crate::manifest::address::git;
use crate::manifest::requirements;
use crate::metadata::Hashes;
use crate::spec::normalize_name;

pub(super) const UV_FILE: &str = "uv.lock";
pub(super) const PINS_FILE: &str = "requirements.txt";

#[derive(Deserialize)]
struct File {
    version: u32,
    #[serde(default)]
    package: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: Option<String>,
    #[serde(default)]
    source: toml::Table,
    sdist: Option<Artefact>,
    #[serde(default)]
    wheels: Vec<Artefact>,
}

#[derive(Deserialize)]
struct Artefact {
    url: Option<String>,
    hash: Option<String>,
}

pub(super) fn read_uv(text: &str) -> Result<Vec<Locked>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.version != 1 {
        return Err(format!("it is of version {}; known is 1", file.version));
    }
    let mut packages = Vec::new();
    for entry in file.package {
        if let Some(source) = entry.source.get("git").and_then(toml::Value::as_str)
            && let Some(source) = repository(source)
        {
            let version = entry.version.clone().unwrap_or_default();
            let Ok(name) = normalize_name(Ecosystem::Pypi, &entry.name) else { continue };
            packages.push(Locked { name, version, source: Some(source), ..Locked::default() });
            continue;
        }
        // Projects and paths are no packages of an index.
        let (true, Some(version)) = (entry.source.contains_key("registry"), entry.version) else {
            continue;
        };
        let Ok(name) = normalize_name(Ecosystem::Pypi, &entry.name) else { continue };
        let files = entry.wheels.into_iter().chain(entry.sdist).filter_map(named).collect();
        packages.push(Locked { name, version, files, ..Locked::default() });
    }
    Ok(packages)
}

/// A repository with its commit, as our own locks have it; `https://HOST/x?rev=v1&subdirectory=d#COMMIT` in theirs.
fn repository(text: &str) -> Option<String> {
    let (address, commit) = text.split_once('#')?;
    let (place, query) = address.split_once('?').unwrap_or((address, ""));
    let (mut revision, mut directory) = (String::new(), String::new());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=')?;
        // As forms are sent: a `+` is a space there.
        let value = value.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&value).decode_utf8().ok()?;
        match key {
            "rev" => revision = format!("@{decoded}"),
            "tag" => revision = format!("@{}{decoded}", git::TAGS),
            "branch" => revision = format!("@{}{decoded}", git::HEADS),
            "subdirectory" => {
                let encoded = percent_encoding::utf8_percent_encode(&decoded, NON_ALPHANUMERIC);
                directory = format!("#subdirectory={encoded}");
            }
            _ => return None,
        }
    }
    let url = url::Url::parse(&format!("{}{place}{revision}{directory}", git::PREFIX)).ok()?;
    let repository = git::Repository::of(&url).filter(|_| git::is_commit(commit))?;
    Some(repository.source(commit))
}

/// The file's name; the rest of the address says where somebody else found it, which does not matter.
fn named(artefact: Artefact) -> Option<(String, Hashes)> {
    let url = artefact.url?;
    let path = url.split(['?', '#']).next()?;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty())?;
    let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    Some((name.into_owned(), sha256(&artefact.hash?)?))
}

fn sha256(text: &str) -> Option<Hashes> {
    let digest = text.strip_prefix("sha256:")?;
    let is_hex = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sha256 = is_hex.then(|| digest.to_ascii_lowercase())?;
    Some(Hashes { sha256: Some(sha256), sha512: None })
}

/// The requirements that are exact. Their digests do not say of which file they are.
pub(super) fn read_pins(text: &str) -> Result<Vec<Locked>, String> {
    let read = requirements::read(PINS_FILE, text).map_err(|error| error.message)?;
    let mut packages = Vec::new();
    for wanted in read.wanted {
        let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &wanted.requirement.version_or_url
        else {
            continue;
        };
        let [specifier] = &specifiers[..] else { continue };
        if *specifier.operator() != pep440_rs::Operator::Equal {
            continue;
        }
        packages.push(Locked {
            name: wanted.requirement.name.to_string(),
            version: specifier.version().to_string(),
            digests: wanted
                .hashes
                .iter()
                .filter_map(|hash| hash.strip_prefix("sha256:"))
                .map(str::to_ascii_lowercase)
                .collect(),
            ..Locked::default()
        });
    }
    Ok(packages)
}
