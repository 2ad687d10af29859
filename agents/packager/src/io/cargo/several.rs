//! Several registries of crates as one: what is asked by a key goes to the registry of its number, and what comes back knows the others.
//!
//! Nothing is told ahead ([`Metadata::follow`]): answers are shared with requests that have other registries, and do not know these.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::CargoClient;
use crate::error::{Error, Kind, Result};
use crate::metadata::cargo::scope::{Registry, Scope, split};
use crate::metadata::cargo::{Crate, Metadata};

/// See the module.
#[derive(Debug)]
pub(crate) struct Several {
    /// The default one first.
    clients: Vec<Arc<CargoClient>>,
    /// As the crates of each see all of them.
    scopes: Vec<Arc<Scope>>,
    /// A resolver takes it for granted that equal questions have one answer.
    known: Mutex<HashMap<String, Arc<Crate>>>,
}

impl Several {
    /// `clients` are the default registry's and those of `others`.
    pub(crate) fn new(clients: Vec<Arc<CargoClient>>, others: &[Registry]) -> Self {
        let mut defaults: Vec<Cow<'_, str>> = vec![
            tame_index::index::git::CRATES_IO_INDEX.into(),
            tame_index::index::sparse::CRATES_IO_HTTP_INDEX.into(),
        ];
        // Whatever stands for the public registry calls itself what it is called.
        let stands_in = clients.first().and_then(|default| default.resolved().ok());
        defaults.extend(stands_in.map(|it| Cow::from(format!("sparse+{}", it.endpoint.index))));
        let defaults: Vec<&str> = defaults.iter().map(|it| &**it).collect();
        Self { clients, scopes: Scope::of_each(&defaults, others), known: Mutex::default() }
    }

    /// The registries as members of the project see them.
    pub(crate) fn scope(&self) -> &Arc<Scope> {
        // There is one of the default registry, always.
        &self.scopes[0]
    }

    /// The registries as the crates of each see them.
    pub(crate) fn scopes(&self) -> &[Arc<Scope>] {
        &self.scopes
    }

    fn client<'k>(&self, key: &'k str) -> Result<(&'k str, usize, &CargoClient)> {
        let (name, number) = split(key);
        let client = self.clients.get(number).ok_or_else(|| {
            let message = format!("there is no registry for `{name}`");
            Error::new(Kind::Failed, "internal", message)
        })?;
        Ok((name, number, client))
    }

    /// Where the file of one version is. Blocks.
    pub(crate) fn artifact_url(&self, key: &str, version: &semver::Version) -> Result<String> {
        let (name, _, client) = self.client(key)?;
        client.artifact_url(name, version)
    }
}

impl Metadata for Several {
    fn krate(&self, key: &str) -> Result<Arc<Crate>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(krate) = known().get(key) {
            return Ok(Arc::clone(krate));
        }
        let (name, number, client) = self.client(key)?;
        let krate = client.krate(name)?;
        let krate = Arc::new(krate.within(Arc::clone(&self.scopes[number])));
        known().insert(key.to_owned(), Arc::clone(&krate));
        Ok(krate)
    }

    fn prefetch(&self, key: &str) -> bool {
        // What is wrong is reported when it is really asked for.
        self.client(key).is_ok_and(|(name, _, client)| client.prefetch(name))
    }
}
