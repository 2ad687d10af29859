//! Wheels and sources that the project names by their address (`name @ https://.../name-1.0-py3-none-any.whl#sha256=...`) in the place
//! of what an index has.
//!
//! The digest stands in the address or was found out before: what is planned is exactly what is installed. Addresses that packages name are
//! followed only where the project names the same one, so that nobody else decides where code comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use pep440_rs::Version;
use pep508_rs::{PackageName, Requirement, VersionOrUrl};
use url::Url;

use super::Request;
use super::policy::Known;
use crate::error::{Error, Kind};
use crate::io::pypi::file_name;
use crate::io::pypi::page::{file_url, written_hashes};
use crate::manifest::address::has_login;
use crate::metadata::Hashes;
use crate::metadata::pypi::{CoreMetadata, File, FileKind, Project};

/// What stands for a project of an index.
#[derive(Debug)]
pub(super) struct Named {
    /// As it was written.
    address: String,
    /// A project of one file.
    pub(super) project: Arc<Project>,
    /// What the file says of itself, where that is known.
    pub(super) core: Option<Arc<CoreMetadata>>,
}

/// The address of a requirement that names one.
pub(super) fn address(requirement: &Requirement) -> Option<String> {
    match &requirement.version_or_url {
        Some(VersionOrUrl::Url(url)) => Some(url.to_string()),
        _ => None,
    }
}

impl Named {
    /// Whether a requirement names this address.
    pub(super) fn is_at(&self, address: &str) -> bool {
        self.address == address
    }
}

/// The wheels that the project, its constraints and its overrides name.
///
/// # Errors
/// `url-requirement` for an address that names no wheel of the package, has no digest, or is one of two, `unsupported-hash` where
/// its digest cannot be compared.
pub(super) fn find(request: &Request<'_>) -> Result<BTreeMap<PackageName, Named>, Error> {
    let mut found: BTreeMap<PackageName, Named> = BTreeMap::new();
    let policy = request.policy;
    let all = request.requirements.iter().chain(&policy.constraints).chain(&policy.overrides);
    for requirement in all.filter(|it| it.evaluate_markers(&request.target.markers, &[])) {
        let Some(address) = address(requirement) else { continue };
        let name = &requirement.name;
        match found.get(name) {
            Some(named) if named.is_at(&address) => continue,
            Some(_) => return Err(refused(name, "is asked for by two addresses")),
            None => {}
        }
        let known = policy.addresses.get(&address);
        let project = Arc::new(project(name, &address, known)?);
        let core = known.and_then(|known| known.core.clone());
        found.insert(name.clone(), Named { address, project, core });
    }
    Ok(found)
}

fn refused(name: &PackageName, why: &str) -> Error {
    Error::new(Kind::Usage, "url-requirement", format!("`{name}` {why}")).hint(format!(
        "write it as `{name} @ https://HOST/{name}-1.0-py3-none-any.whl#sha256=DIGEST`"
    ))
}

fn project(name: &PackageName, address: &str, known: Option<&Known>) -> Result<Project, Error> {
    let place = Url::parse(address).ok();
    let fragment = place.as_ref().and_then(Url::fragment).unwrap_or_default();
    let written = || {
        written_hashes(fragment).map_err(|why| {
            Error::new(Kind::Failed, "unsupported-hash", format!("the address of `{name}` {why}"))
                .hint("write its SHA-256 behind it, as in `#sha256=DIGEST`, or nothing")
        })
    };
    let mut hashes = known.map_or_else(written, |known| Ok(known.hashes.clone()))?;
    if place.as_ref().is_some_and(has_login) {
        // The requirement is repeated in explanations and repairs.
        return Err(refused(
            name,
            "is asked for by an address with a password, which belongs into netrc",
        ));
    }
    let url = match known {
        Some(known) => Url::parse(&known.url).ok(),
        None => place.and_then(|base| file_url(address, &base, &mut hashes)),
    };
    let url =
        url.ok_or_else(|| refused(name, "is asked for by an address that cannot be fetched"))?;
    if hashes.is_empty() {
        return Err(refused(name, "is asked for by an address without a digest to verify it by"));
    }
    let source = known.and_then(|known| known.source.clone());
    let (file_name, version, kind) = match source {
        Some(source) => (source.file_name, source.version, FileKind::Source),
        None => wheel(name, &url)?,
    };
    let file = File {
        name: file_name,
        version,
        kind,
        url: url.into(),
        hashes,
        size: known.and_then(|known| known.size),
        requires_python: None,
        yanked: None,
        published: None,
        core_metadata: Some(false),
        core_metadata_hashes: Hashes::default(),
    };
    Ok(Project::new(name.clone(), vec![Arc::new(file)]))
}

/// The wheel that an address ends in.
fn wheel(name: &PackageName, url: &Url) -> Result<(String, Version, FileKind), Error> {
    let last =
        url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let file_name = percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned();
    match file_name::parse(&file_name, name) {
        Some((version, kind @ FileKind::Wheel { .. })) => Ok((file_name, version, kind)),
        _ => Err(refused(name, "is asked for by an address that does not end in a wheel of it")),
    }
}
