//! The names and the format of cargo's local copy of a registry's index. Pure.
//!
//! A cache entry is `3` (format, one byte), `2` (index version, u32 little-endian), the revision
//! and a NUL, then for each version its number, a NUL, the line of JSON as it was served, a NUL.
//! The line is copied and not written anew: fields that this program does not know may matter to
//! cargo.

use tame_index::KrateName;

use crate::error::{Error, Kind, Result};
use crate::metadata::cargo::IndexFile;

const FORMAT: u8 = 3;
const INDEX_VERSION: u32 = 2;
/// What cargo writes when a server sent neither an entity tag nor a date.
const UNKNOWN_REVISION: &str = "Unknown";

/// The name of the registry's directories below `CARGO_HOME/registry/{cache,index,src}`. Cargo 1.85
/// changed how it is computed.
pub fn directory_name(index_url: &str, cargo_version: &semver::Version) -> Result<String> {
    let stable = *cargo_version >= semver::Version::new(1, 85, 0);
    let directory = tame_index::utils::url_to_local_dir(index_url, stable).map_err(|error| {
        Error::new(
            Kind::Usage,
            "bad-registry",
            format!("`{index_url}` is not the URL of an index: {error}"),
        )
        .hint("check `[registries]` and `[source]` in cargo's configuration")
    })?;
    Ok(directory.dir_name)
}

/// The path of an entry below `.cache`.
pub(super) fn entry_path(name: &str) -> Result<String> {
    let checked = KrateName::cargo(name).map_err(|error| {
        Error::new(
            Kind::Verification,
            "bad-crate-name",
            format!("`{name}` cannot be the name of a crate: {error}"),
        )
    })?;
    Ok(checked.relative_path(Some('/')).to_lowercase())
}

#[derive(serde::Deserialize)]
struct Line {
    vers: String,
}

#[derive(serde::Deserialize)]
struct Checked {
    vers: String,
    cksum: String,
}

/// The cache entry for an index file as it was served.
pub fn cache_entry(raw: &[u8], revision: Option<&str>) -> Result<Vec<u8>> {
    let revision = revision
        .filter(|text| !text.is_empty() && !text.contains(['\0', '\n']))
        .unwrap_or(UNKNOWN_REVISION);
    let mut bytes = Vec::with_capacity(raw.len() + raw.len() / 8 + 64);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&INDEX_VERSION.to_le_bytes());
    bytes.extend_from_slice(revision.as_bytes());
    bytes.push(0);
    for line in
        raw.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace))
    {
        let broken = |why: &str| {
            Error::new(
                Kind::Network,
                "bad-index-entry",
                format!("a line of the index cannot be used: {why}"),
            )
            .hint("the registry answered nonsense; try again later")
        };
        if line.contains(&0) {
            return Err(broken("it contains a NUL"));
        }
        let parsed: Line =
            serde_json::from_slice(line).map_err(|error| broken(&error.to_string()))?;
        if parsed.vers.contains('\0') {
            return Err(broken("a version contains a NUL"));
        }
        bytes.extend_from_slice(parsed.vers.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(line);
        bytes.push(0);
    }
    Ok(bytes)
}

/// Whether a present entry has every line of ours. Cargo (or another project) may have fetched a
/// newer one, which must not be replaced by an older one; a changed line (a withdrawal, say) makes
/// it differ, and then ours is written.
pub(super) fn is_at_least(present: &[u8], krate: &IndexFile) -> bool {
    let Some(header) = present.get(..5) else { return false };
    if header[0] != FORMAT || header[1..] != INDEX_VERSION.to_le_bytes() {
        return false;
    }
    let parts: std::collections::HashSet<&[u8]> = present[5..].split(|byte| *byte == 0).collect();
    let mut lines = krate
        .raw
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    present.ends_with(&[0]) && lines.all(|line| parts.contains(line))
}

/// Every checksum that a present entry has for a version; `None` if the entry cannot be read.
pub(super) fn checksums(present: &[u8], version: &str) -> Option<Vec<String>> {
    let (header, rest) = present.split_at_checked(5)?;
    if header[0] != FORMAT || header[1..] != INDEX_VERSION.to_le_bytes() {
        return None;
    }
    let mut parts = rest.strip_suffix(&[0])?.split(|byte| *byte == 0).skip(1);
    let mut found = Vec::new();
    while let Some(number) = parts.next() {
        let line = parts.next()?;
        // Cargo goes by the number before the line, so either of the two counts.
        let checked = serde_json::from_slice::<Checked>(line);
        let is_meant = number == version.as_bytes();
        match checked {
            Ok(checked) if is_meant || checked.vers == version => found.push(checked.cksum),
            Err(_) if is_meant => return None,
            _ => {}
        }
    }
    Some(found)
}
