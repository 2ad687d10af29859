//! The files of a sparse index: where they are, and what their lines say.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use semver::{Version as SemVersion, VersionReq};
use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::io::http::Validators;
use crate::io::limits::{TABLE_ENTRIES_MAX, VERSIONS_MAX};
use crate::metadata::cargo::{Crate, DependencyKind, Head, NeedParts, Writer};

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
    name: Text<'a>,
    #[serde(borrow)]
    vers: Text<'a>,
    #[serde(borrow)]
    deps: Vec<LineDependency<'a>>,
    #[serde(borrow)]
    cksum: Text<'a>,
    #[serde(borrow)]
    features: Features<'a>,
    #[serde(default, borrow)]
    features2: Option<Features<'a>>,
    #[serde(default)]
    yanked: Option<bool>,
    #[serde(default, borrow)]
    links: Option<Text<'a>>,
    #[serde(default, borrow)]
    rust_version: Option<Text<'a>>,
    #[serde(default, borrow)]
    pubtime: Option<Text<'a>>,
    #[serde(default)]
    v: Option<u32>,
}

#[derive(Deserialize)]
struct LineDependency<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    req: Text<'a>,
    #[serde(default, borrow)]
    features: Vec<Text<'a>>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "yes")]
    default_features: bool,
    #[serde(default, borrow)]
    target: Option<Text<'a>>,
    #[serde(default, borrow)]
    kind: Option<Text<'a>>,
    #[serde(default, borrow)]
    registry: Option<Text<'a>>,
    #[serde(default, borrow)]
    package: Option<Text<'a>>,
}

type Features<'a> = BTreeMap<Text<'a>, Vec<Text<'a>>>;

/// A text where it lies in the line, unless it has escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

fn yes() -> bool {
    true
}

/// Reads the file of one crate. Lines that make no sense are skipped, as cargo does; a file without any line
/// that does is an error.
pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Crate, String> {
    let mut writer = Writer::default();
    let (mut spelled, mut count, mut skipped) = (None, 0, None);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        if count >= VERSIONS_MAX {
            break;
        }
        match Checked::new(line, name) {
            Ok(line) => {
                line.write(&mut writer);
                spelled = Some(line.line.name.to_owned());
                count += 1;
            }
            Err(why) => skipped = Some(why),
        }
    }
    match (spelled, skipped) {
        (Some(spelled), _) => {
            let packed = writer.finish(&spelled).map_err(|error| error.to_string())?;
            Crate::open(&packed).map_err(|error| error.to_string())
        }
        (None, Some(why)) => Err(why),
        (None, None) => Err("it has no versions".to_owned()),
    }
}

/// A line that makes sense.
struct Checked<'a> {
    line: Line<'a>,
    version: SemVersion,
    /// What is wanted of each dependency.
    requirements: Vec<String>,
}

impl<'a> Checked<'a> {
    fn new(line: &'a [u8], name: &str) -> Result<Self, String> {
        let mut line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
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
        let is_digest =
            line.cksum.len() == 64 && line.cksum.bytes().all(|it| it.is_ascii_hexdigit());
        if !is_digest {
            return Err("a checksum is not a SHA-256".to_owned());
        }
        let mut requirements = Vec::with_capacity(line.deps.len());
        for dependency in &line.deps {
            let requirement =
                VersionReq::parse(&dependency.req).map_err(|error| error.to_string())?;
            requirements.push(requirement.to_string());
        }
        for (feature, wanted) in line.features2.take().unwrap_or_default() {
            line.features.entry(feature).or_default().extend(wanted);
        }
        Ok(Self { line, version, requirements })
    }

    /// Dependencies for tests are nobody's who uses the crate.
    fn write(&self, writer: &mut Writer) {
        let line = &self.line;
        for (dependency, requirement) in line.deps.iter().zip(&self.requirements) {
            let kind = match dependency.kind.as_deref() {
                Some("dev") => continue,
                Some("build") => DependencyKind::Build,
                _ => DependencyKind::Normal,
            };
            writer.need_of(&NeedParts {
                alias: &dependency.name,
                package: dependency.package.as_deref().unwrap_or(&dependency.name),
                requirement,
                features: dependency.features.iter().map(|feature| &**feature),
                default_features: dependency.default_features,
                optional: dependency.optional,
                target: dependency.target.as_deref(),
                kind,
                registry: dependency.registry.as_deref(),
            });
        }
        for (feature, values) in &line.features {
            writer.feature(feature, values.iter().map(|value| &**value));
        }
        writer.version(Head {
            version: self.version.clone(),
            is_yanked: line.yanked.unwrap_or(false),
            is_local: false,
            links: line.links.as_deref(),
            rust_version: line.rust_version.as_deref(),
            published: line.pubtime.as_deref(),
            sha256: Some(&line.cksum),
        });
    }
}

/// The line by which cargo's own cache knows an answer again.
pub(crate) fn revision(validators: &Validators) -> Option<String> {
    let tag = validators.etag.as_ref().map(|tag| format!("etag: {tag}"));
    tag.or_else(|| validators.last_modified.as_ref().map(|date| format!("last-modified: {date}")))
}

#[cfg(test)]
mod tests;
