//! Where each ecosystem's registry is, as the machine is configured; no registry's host stands in our code.
//!
//! Precedence, strongest first: what the caller overrides, environment variables, the project's files, the
//! user's, the machine's, and the default that the installed client knows (read in its files, [`installed`], or asked,
//! [`learn`]). What a project says is
//! followed, but never trusted: it can point at another registry, not redirect a credential or add a CA.

pub(crate) mod cargo_config;
mod cargo_provider;
pub(crate) mod found;
mod indexes;
mod installed;
mod keyring;
pub(crate) mod learn;
mod links;
mod netrc;
mod npmrc;
mod pip;
mod requirements;
pub(crate) mod seen;
mod uv;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use agents_contract::Cancellation;
use url::Url;

pub(crate) use self::cargo_config::{CargoEndpoint, LocalCrates};
pub(crate) use self::indexes::unknown as index_unknown;
pub(crate) use self::npmrc::NpmEndpoint;
pub(crate) use self::pip::PypiEndpoint;
use self::seen::NpmSeen;
use super::environment::{Environment, read_small};
use super::limits::{CONFIGURATION_BYTES_MAX, MIRRORS_MAX};
use super::secret::shown;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};

/// Registries that the caller names, stronger than any configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    registries: BTreeMap<Ecosystem, Url>,
    /// What is asked where a registry does not answer.
    mirrors: BTreeMap<Ecosystem, Vec<Url>>,
    /// What is asked for artefacts by their digests, before any registry.
    artifacts: Vec<Url>,
}

impl Overrides {
    /// Adds one in the form of the command line, `npm=URL`; a cargo URL may start with `sparse+`. The first of an ecosystem is
    /// its registry, the others are mirrors of that one.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let (name, address) = named(text)?;
        let (ecosystem, url) =
            (ecosystem(name)?, registry_url(address, "the override of the registry")?);
        if self.registries.contains_key(&ecosystem) {
            return push(self.mirrors.entry(ecosystem).or_default(), url);
        }
        // Mirrors of the configured registry are not this one's.
        self.mirrors.remove(&ecosystem);
        self.registries.insert(ecosystem, url);
        Ok(())
    }

    /// Adds a mirror of whatever registry an ecosystem has, `npm=URL`, or of artefacts by their digests, `bolide=URL`. Mirrors of a
    /// configured registry come before overrides.
    pub fn add_mirror(&mut self, text: &str) -> Result<()> {
        let (name, address) = named(text)?;
        let url = registry_url(address, "the address of the mirror")?;
        match name {
            "bolide" => push(&mut self.artifacts, url),
            name => push(self.mirrors.entry(ecosystem(name)?).or_default(), url),
        }
    }

    /// The registry named for `ecosystem`.
    pub(crate) fn get(&self, ecosystem: Ecosystem) -> Option<&Url> {
        self.registries.get(&ecosystem)
    }

    /// The mirrors of its registry.
    pub(crate) fn mirrors(&self, ecosystem: Ecosystem) -> &[Url] {
        self.mirrors.get(&ecosystem).map_or(&[], Vec::as_slice)
    }

    /// Who is asked for artefacts by their digests.
    pub(crate) fn artifacts(&self) -> &[Url] {
        &self.artifacts
    }
}

fn named(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').ok_or_else(|| {
        // The text may hold a password, so it is not repeated.
        let message = "a registry is named as `ECOSYSTEM=URL`";
        Error::new(Kind::Usage, "bad-registry", message)
    })
}

fn ecosystem(name: &str) -> Result<Ecosystem> {
    let found = Ecosystem::WITH_REGISTRY.into_iter().find(|it| it.as_str() == name);
    found.ok_or_else(|| {
        let message = format!("unknown ecosystem: `{name}`");
        Error::new(Kind::Usage, "unknown-ecosystem", message)
            .hint("ecosystems with a registry are npm, pypi and cargo")
    })
}

fn push(mirrors: &mut Vec<Url>, url: Url) -> Result<()> {
    if mirrors.len() >= MIRRORS_MAX {
        let message = format!("more than {MIRRORS_MAX} mirrors of one registry");
        return Err(Error::new(Kind::Usage, "too-many-mirrors", message));
    }
    mirrors.push(url);
    Ok(())
}

/// What connections of one ecosystem need beyond an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TransportSettings {
    /// Files with CA certificates, trusted beside the machine's own.
    pub(crate) authorities: Vec<PathBuf>,
    /// The proxy for `http:` addresses.
    pub(crate) http_proxy: Option<ProxyAddress>,
    /// The proxy for `https:` addresses.
    pub(crate) https_proxy: Option<ProxyAddress>,
    /// Hosts that are reached without one, as in `NO_PROXY`.
    pub(crate) no_proxy: Option<String>,
}

/// The address of a proxy, which may hold a password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProxyAddress(pub(crate) String);

impl std::fmt::Debug for ProxyAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Url::parse(&self.0) {
            Ok(url) => formatter.write_str(&shown(&url)),
            Err(_) => formatter.write_str("ProxyAddress(redacted)"),
        }
    }
}

impl TransportSettings {
    /// What all clients understand: the proxy variables and the CA file of OpenSSL.
    pub(crate) fn from_variables(environment: &Environment) -> Self {
        let first = |names: &[&str]| {
            names.iter().find_map(|name| environment.variable(name)).map(str::to_owned)
        };
        let all = first(&["all_proxy", "ALL_PROXY"]);
        let proxy = |names: &[&str]| first(names).or_else(|| all.clone()).map(ProxyAddress);
        Self {
            authorities: environment.path_variable("SSL_CERT_FILE").into_iter().collect(),
            // In a CGI program the upper-case name is a header of a stranger's request.
            http_proxy: match environment.variable("REQUEST_METHOD") {
                Some(_) => proxy(&["http_proxy"]),
                None => proxy(&["http_proxy", "HTTP_PROXY"]),
            },
            https_proxy: proxy(&["https_proxy", "HTTPS_PROXY"]),
            no_proxy: first(&["no_proxy", "NO_PROXY"]),
        }
    }

    /// Adds a CA file, if it is not there yet.
    pub(crate) fn trust(&mut self, authorities: Option<PathBuf>) {
        if let Some(path) = authorities
            && path.is_absolute()
            && !self.authorities.contains(&path)
        {
            self.authorities.push(path);
        }
    }
}

/// Everything that endpoints are found with.
pub(crate) struct Finder<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) overrides: &'a Overrides,
    pub(crate) learner: &'a learn::Learner,
    /// Programs that are asked end with it.
    pub(crate) cancellation: &'a Cancellation,
}

impl Finder<'_> {
    /// The text of a configuration file, bytes that are no UTF-8 replaced; `None` where there is no such file.
    fn configuration(&self, path: &std::path::Path) -> Result<Option<String>> {
        let bytes = read_small(path, CONFIGURATION_BYTES_MAX)
            .map_err(|error| Error::io("read", path, &error))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Finds npm's registries, or says again what they were where nothing has changed since.
pub(crate) fn npm(finder: &Finder<'_>, seen: &NpmSeen) -> Result<NpmEndpoint> {
    seen.find(finder, SystemTime::now(), |looks| npmrc::find(finder, looks))
}

/// Finds the Python index.
pub(crate) fn pypi(finder: &Finder<'_>) -> Result<PypiEndpoint> {
    pip::find(finder)
}

/// Finds the crates' index.
pub(crate) fn cargo(finder: &Finder<'_>) -> Result<CargoEndpoint> {
    cargo_config::find(finder)
}

/// Finds a crates' index beside the default one.
pub(crate) fn cargo_other(finder: &Finder<'_>, name: &str) -> Result<CargoEndpoint> {
    cargo_config::others::find(finder, name)
}

/// Parses the address of a registry; `context` says where it was written.
pub(crate) fn registry_url(text: &str, context: &str) -> Result<Url> {
    let bad = |why: &str| {
        // The text itself may hold a password, so it is not repeated.
        Error::new(Kind::Usage, "bad-registry", format!("the registry address in {context} {why}"))
            .hint("write it as `https://HOST/PATH/`")
    };
    let text = text.trim();
    let text = text.strip_prefix("sparse+").unwrap_or(text);
    let mut url = Url::parse(text).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(bad(&format!("has the scheme `{}`, which is not supported", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("has no host"));
    }
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
