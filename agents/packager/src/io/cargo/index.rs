//! The files of a sparse index: where they are, and what their lines say.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use semver::{Version as SemVersion, VersionReq};
use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::io::http::Validators;
use crate::io::limits::{TABLE_ENTRIES_MAX, VERSIONS_MAX};
use crate::metadata::Hashes;
use crate::metadata::cargo::{Crate, Dependency, DependencyKind, Version};

/// The newest form of index lines that is understood here; cargo skips newer ones too.
const LINE_FORM_MAX: u32 = 2;
/// A name on the public registry has at most 64 characters.
const CRATE_NAME_BYTES_MAX: usize = 64;

/// Refuses names that no registry has and that would mean something in an address or a path.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let letters =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !name.is_empty() && name.len() <= CRATE_NAME_BYTES_MAX && letters {
        return Ok(());
    }
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    Err(Error::new(Kind::Usage, "bad-name", format!("`{shown}` cannot be the name of a crate"))
        .hint("names consist of ASCII letters, digits, `-` and `_`"))
}

/// `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcdef`; the name is plain ASCII.
pub(crate) fn relative_path(name: &str) -> String {
    format!("{}/{name}", prefix(name))
}

fn prefix(name: &str) -> String {
    match name.len() {
        0 => String::new(),
        length @ (1 | 2) => length.to_string(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

/// `config.json` of a registry.
#[derive(Debug)]
pub(crate) struct RegistryConfig {
    dl: String,
    /// Whether everything, reading too, needs the token.
    pub(crate) auth_required: bool,
    /// As it was received.
    pub(crate) raw: Arc<[u8]>,
}

#[derive(Deserialize)]
struct ConfigFile {
    dl: String,
    #[serde(default, rename = "auth-required")]
    auth_required: bool,
}

impl RegistryConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let file: ConfigFile = serde_json::from_slice(bytes)?;
        Ok(Self { dl: file.dl, auth_required: file.auth_required, raw: bytes.into() })
    }

    pub(crate) fn needs_checksum(&self) -> bool {
        self.dl.contains("{sha256-checksum}")
    }

    /// The address of a file; `None` where a digest is needed and not known.
    pub(crate) fn artifact_url(
        &self,
        name: &str,
        version: &str,
        checksum: Option<&str>,
    ) -> Option<String> {
        let markers = ["{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}"];
        if !markers.iter().any(|marker| self.dl.contains(marker)) {
            let base = self.dl.trim_end_matches('/');
            return Some(format!("{base}/{name}/{version}/download"));
        }
        if self.needs_checksum() && checksum.is_none() {
            return None;
        }
        let url = self.dl.replace("{crate}", name).replace("{version}", version);
        let url = url.replace("{prefix}", &prefix(name));
        let url = url.replace("{lowerprefix}", &prefix(&name.to_ascii_lowercase()));
        Some(url.replace("{sha256-checksum}", checksum.unwrap_or_default()))
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    vers: Cow<'a, str>,
    #[serde(borrow)]
    deps: Vec<LineDependency<'a>>,
    #[serde(borrow)]
    cksum: Cow<'a, str>,
    features: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    features2: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    yanked: Option<bool>,
    #[serde(default)]
    links: Option<String>,
    #[serde(default)]
    rust_version: Option<String>,
    #[serde(default)]
    pubtime: Option<String>,
    #[serde(default)]
    v: Option<u32>,
}

#[derive(Deserialize)]
struct LineDependency<'a> {
    name: String,
    #[serde(borrow)]
    req: Cow<'a, str>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "yes")]
    default_features: bool,
    #[serde(default)]
    target: Option<String>,
    #[serde(default, borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    registry: Option<String>,
    #[serde(default)]
    package: Option<String>,
}

fn yes() -> bool {
    true
}

/// Reads the file of one crate. Lines that make no sense are skipped, as cargo does; a file without any line
/// that does is an error.
pub(crate) fn parse(bytes: &[u8], name: &str, validators: &Validators) -> Result<Crate, String> {
    let mut found =
        Crate { raw: bytes.into(), index_version: index_version(validators), ..Crate::default() };
    let mut skipped = None;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        if found.versions.len() >= VERSIONS_MAX {
            break;
        }
        match parse_line(line, name) {
            Ok((spelled, version)) => {
                found.name = spelled;
                found.versions.push(Arc::new(version));
            }
            Err(why) => skipped = Some(why),
        }
    }
    match skipped {
        Some(why) if found.versions.is_empty() => Err(why),
        None if found.versions.is_empty() => Err("it has no versions".to_owned()),
        _ => Ok(found),
    }
}

fn parse_line(line: &[u8], name: &str) -> Result<(String, Version), String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if line.v.unwrap_or(1) > LINE_FORM_MAX {
        return Err("its lines are of a newer form".to_owned());
    }
    if !line.name.eq_ignore_ascii_case(name) {
        return Err("it is about another crate".to_owned());
    }
    if line.deps.len() > TABLE_ENTRIES_MAX {
        return Err(format!("a version has more than {TABLE_ENTRIES_MAX} dependencies"));
    }
    let version = SemVersion::parse(&line.vers).map_err(|error| error.to_string())?;
    let checksum = line.cksum.to_ascii_lowercase();
    if checksum.len() != 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("a checksum is not a SHA-256".to_owned());
    }
    let dependencies: Result<Vec<Dependency>, String> =
        line.deps.into_iter().map(dependency).collect();
    let mut features = line.features;
    for (feature, wanted) in line.features2.unwrap_or_default() {
        features.entry(feature).or_default().extend(wanted);
    }
    let version = Version {
        version,
        dependencies: dependencies?,
        features,
        yanked: line.yanked.unwrap_or(false),
        links: line.links,
        rust_version: line.rust_version,
        hashes: Hashes { sha256: Some(checksum), sha512: None },
        published: line.pubtime,
    };
    Ok((line.name.into_owned(), version))
}

fn dependency(line: LineDependency<'_>) -> Result<Dependency, String> {
    let requirement = VersionReq::parse(&line.req).map_err(|error| error.to_string())?;
    let kind = match line.kind.as_deref() {
        Some("dev") => DependencyKind::Dev,
        Some("build") => DependencyKind::Build,
        _ => DependencyKind::Normal,
    };
    Ok(Dependency {
        package: line.package.unwrap_or_else(|| line.name.clone()),
        alias: line.name,
        requirement,
        features: line.features,
        default_features: line.default_features,
        optional: line.optional,
        target: line.target,
        kind,
        registry: line.registry,
    })
}

/// The line by which cargo's own cache knows an answer again.
fn index_version(validators: &Validators) -> Option<String> {
    let tag = validators.etag.as_ref().map(|tag| format!("etag: {tag}"));
    tag.or_else(|| validators.last_modified.as_ref().map(|date| format!("last-modified: {date}")))
}

#[cfg(test)]
mod tests;
