//! The indexes that uv's files name beside the default one, and the packages that come from one of them and from nowhere else.

use std::collections::BTreeMap;
use std::str::FromStr;

use pep508_rs::PackageName;
use url::Url;

use super::registry_url;
use super::uv::{self, Uv};
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::limits::INDEXES_MAX;
use crate::io::secret::{Credentials, Scope, take_userinfo};
use agents_versions::shorten;

/// What was found.
#[derive(Default)]
pub(super) struct Others {
    /// Those that are asked for every package, in their order; whether the person names each.
    pub(super) first: Vec<(Url, bool)>,
    /// Those that are not; whether the person names each.
    pub(super) explicit: Vec<(Url, bool)>,
    /// The index of a package that comes from one and from nowhere else.
    pub(super) pins: BTreeMap<PackageName, Url>,
}

/// Finds them; their credentials are added.
///
/// # Errors
/// `bad-registry` for an address that is none, `too-many-indexes`, `index-unknown` where a package comes from an index that
/// nobody defines.
pub(super) fn find(
    environment: &Environment,
    uv: &Uv,
    default: (&Url, Option<&str>),
    credentials: &mut Credentials,
) -> Result<Others> {
    let mut found = Others::default();
    let mut by_name: BTreeMap<&str, Url> = BTreeMap::new();
    if uv.others.len() > INDEXES_MAX {
        let message = format!("more than {INDEXES_MAX} indexes are configured");
        return Err(Error::new(Kind::Usage, "too-many-indexes", message));
    }
    for other in &uv.others {
        let mut url = registry_url(&other.url, &other.from)?;
        let written = take_userinfo(&mut url);
        // A project could name another index by the name of the person's.
        let name = other.name.as_deref().filter(|_| other.is_the_persons);
        let kept = name.and_then(|name| uv::credential(environment, name));
        for credential in [kept, written].into_iter().flatten() {
            for scope in [Scope::host_of(&url), Scope::beneath(&url)].into_iter().flatten() {
                credentials.add(scope, credential.clone());
            }
        }
        if let Some(name) = &other.name {
            // The project's own come first, as with uv.
            by_name.entry(name).or_insert_with(|| url.clone());
        }
        let list = if other.is_explicit { &mut found.explicit } else { &mut found.first };
        if list.iter().all(|(known, _)| *known != url) {
            list.push((url, other.is_the_persons));
        }
    }
    if let (url, Some(name)) = default {
        by_name.entry(name).or_insert_with(|| url.clone());
    }
    for (package, index) in &uv.sources {
        let Ok(name) = PackageName::from_str(package) else { continue };
        let Some(url) = by_name.get(index.as_str()) else {
            return Err(unknown(&name, index));
        };
        found.pins.insert(name, url.clone());
    }
    Ok(found)
}

/// The error for a package that comes from an index which is not configured.
pub(crate) fn unknown(name: &PackageName, index: &str) -> Error {
    let index = shorten(index);
    let message = format!("`{name}` comes from the index `{index}`, which nobody defines");
    Error::new(Kind::Usage, "index-unknown", message)
        .hint("define it in `[[tool.uv.index]]` with this `name` and its `url`")
}
