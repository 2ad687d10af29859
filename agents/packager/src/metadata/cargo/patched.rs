//! A registry with packages of the project in the place of some of its versions, as `[patch]` has them: each is one more version of its
//! crate, takes the place of a published one of the same number, and comes before all others that fit.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::scope::split;
use super::{Ahead, Crate, Head, Listed, Metadata, NeedParts, Scope, Version, Writer};
use crate::error::{Error, Kind};

/// See the module.
pub struct Patched<'m> {
    inner: &'m dyn Metadata,
    /// By the keys of crates.
    patches: BTreeMap<String, Vec<Version>>,
    /// As the crates of each registry see all of them, where there are several.
    scopes: &'m [Arc<Scope>],
    made: Mutex<HashMap<String, Arc<Crate>>>,
}

impl<'m> Patched<'m> {
    /// Puts versions beside those of `inner`.
    pub fn new(
        inner: &'m dyn Metadata,
        patches: BTreeMap<String, Vec<Version>>,
        scopes: &'m [Arc<Scope>],
    ) -> Self {
        Self { inner, patches, scopes, made: Mutex::default() }
    }

    fn make(&self, key: &str, patches: &[Version]) -> Result<Crate, Error> {
        let (name, number) = split(key);
        let published = match self.inner.krate(key) {
            Ok(krate) => Some(krate),
            Err(error) if error.code == "unknown-package" => None,
            Err(error) => return Err(error),
        };
        let mut writer = Writer::default();
        for patch in patches {
            super::write(&mut writer, patch, true, |_| true);
        }
        let is_replaced =
            |one: &Listed<'_>| patches.iter().any(|patch| patch.version == *one.number());
        let listed = published.iter().flat_map(|krate| krate.versions());
        for version in listed.filter(|one| !is_replaced(one)) {
            copy(&mut writer, version);
        }
        let spelled = published.as_ref().map_or(name, |krate| krate.name());
        let packed = writer.finish(spelled).and_then(|packed| Crate::open(&packed));
        let krate = packed.map_err(|error| {
            let message = format!("`{name}` and what `[patch]` says of it are too much: {error}");
            Error::new(Kind::Failed, "bad-manifest", message)
        })?;
        Ok(match self.scopes.get(number) {
            Some(scope) => krate.within(Arc::clone(scope)),
            None => krate,
        })
    }
}

/// Writes down a version as it is.
fn copy(writer: &mut Writer, version: Listed<'_>) {
    for need in version.needs() {
        writer.need_of(&NeedParts {
            alias: need.alias(),
            package: need.package(),
            requirement: need.requirement(),
            features: need.features(),
            default_features: need.has_default(),
            optional: need.is_optional(),
            target: need.target(),
            kind: need.kind(),
            registry: need.registry(),
        });
    }
    for (feature, values) in version.features() {
        writer.feature(feature, values);
    }
    writer.version(Head {
        version: version.number().clone(),
        is_yanked: version.is_yanked(),
        is_local: version.is_local(),
        links: version.links(),
        rust_version: version.rust_version(),
        published: version.published(),
        sha256: version.hashes().sha256.as_deref(),
    });
}

impl Metadata for Patched<'_> {
    fn krate(&self, key: &str) -> Result<Arc<Crate>, Error> {
        let Some(patches) = self.patches.get(key) else { return self.inner.krate(key) };
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(krate) = made().get(key) {
            return Ok(Arc::clone(krate));
        }
        let krate = Arc::new(self.make(key, patches)?);
        made().insert(key.to_owned(), Arc::clone(&krate));
        Ok(krate)
    }

    fn prefetch(&self, key: &str) -> bool {
        self.inner.prefetch(key)
    }

    /// Whoever walks ahead sees what is published: at worst it announces what nobody asks for.
    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        self.inner.follow(ahead);
    }
}
