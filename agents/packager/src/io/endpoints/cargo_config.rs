//! cargo's configuration, as far as it says where crates come from: instead of the public registry, and beside it ([`others`]).

pub(crate) mod others;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::cargo_provider::{self, Wanted};
use super::{Finder, ProxyAddress, TransportSettings, registry_url};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::limits::SOURCE_REPLACEMENTS_MAX;
use crate::io::secret::{Credential, take_userinfo};

/// Where crates come from.
#[derive(Clone, Debug)]
pub(crate) struct CargoEndpoint {
    /// The sparse index.
    pub(crate) index: Url,
    /// What its private form (`auth-required`) wants to see.
    pub(crate) token: Option<Credential>,
    pub(crate) transport: TransportSettings,
    /// Settings that are there and not followed, in words.
    pub(crate) not_followed: Vec<String>,
}

/// The part of a `config.toml` that is read; everything else passes.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    source: BTreeMap<String, Source>,
    registries: BTreeMap<String, Registry>,
    registry: DefaultRegistry,
    credential_alias: BTreeMap<String, Words>,
    http: Http,
    resolver: Resolver,
    patch: BTreeMap<String, toml::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Resolver {
    incompatible_rust_versions: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct DefaultRegistry {
    global_credential_providers: Option<Vec<String>>,
}

/// A command as cargo's configuration has them: one text or a list.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    Text(String),
    List(Vec<String>),
}

impl Words {
    fn words(&self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            Self::List(words) => words.clone(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Source {
    replace_with: Option<String>,
    registry: Option<String>,
    directory: Option<String>,
    local_registry: Option<String>,
    git: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Registry {
    index: Option<String>,
    token: Option<String>,
    credential_provider: Option<Words>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Http {
    cainfo: Option<String>,
    proxy: Option<String>,
    ssl_version: Option<toml::Value>,
}

struct Layer {
    file: File,
    path: PathBuf,
    /// Whether it is the person's own and not a project's.
    trusted: bool,
}

/// Finds the crates' index.
pub(crate) fn find(finder: &Finder<'_>) -> Result<CargoEndpoint> {
    let environment = finder.environment;
    let home = home_of(environment);
    let layers = layers(finder, &home)?;
    let transport = transport(environment, &layers, &home);
    let mut not_followed = not_followed(&layers);
    if let Some(url) = finder.overrides.get(Ecosystem::Cargo) {
        let mut index = url.clone();
        let token = take_userinfo(&mut index);
        return Ok(CargoEndpoint { index, token, transport, not_followed });
    }
    let Some(replacement) = follow_replacements(environment, &layers, "crates-io")? else {
        // The constant that the people who track cargo keep; what `cargo` itself has compiled in.
        let index = registry_url(tame_index::CRATES_IO_HTTP_INDEX, "cargo's own default")?;
        return Ok(CargoEndpoint { index, token: None, transport, not_followed });
    };
    let mut index = sparse_url(&replacement.index, &replacement.from)?;
    let token = take_userinfo(&mut index);
    let token = match (token, replacement.trusted_name) {
        (Some(token), _) => Some(token),
        (None, Some(name)) => {
            let registry = Wanted { name: &name, index: &index };
            provided(finder, &layers, &home, &registry, &mut not_followed)?
        }
        (None, None) => None,
    };
    Ok(CargoEndpoint { index, token, transport, not_followed })
}

/// Crates on this machine that stand for the public registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalCrates {
    /// What `cargo vendor` made: unpacked crates.
    Directory(PathBuf),
    /// What `cargo local-registry` made: an index and `.crate` files.
    Registry(PathBuf),
}

impl LocalCrates {
    /// Where they lie.
    pub(crate) fn place(&self) -> &std::path::Path {
        match self {
            Self::Directory(place) | Self::Registry(place) => place,
        }
    }
}

/// The crates on this machine that cargo's configuration puts in the place of the public registry; `None` where it does not, or the
/// caller names a registry.
pub(crate) fn local(finder: &Finder<'_>) -> Result<Option<LocalCrates>> {
    if finder.overrides.get(Ecosystem::Cargo).is_some() {
        return Ok(None);
    }
    let layers = layers(finder, &home_of(finder.environment))?;
    let mut name = "crates-io".to_owned();
    for _ in 0..SOURCE_REPLACEMENTS_MAX {
        let mut tables =
            layers.iter().filter_map(|layer| Some((layer.file.source.get(&name)?, layer)));
        let Some((source, layer)) = tables.next() else { return Ok(None) };
        if let Some(next) = &source.replace_with {
            name = next.clone();
            continue;
        }
        // A path is relative to the directory above the one with the file.
        let base = layer.path.parent().and_then(std::path::Path::parent);
        let base = base.unwrap_or(std::path::Path::new("/"));
        return Ok(match (&source.directory, &source.local_registry) {
            (Some(path), _) => Some(LocalCrates::Directory(base.join(path))),
            (None, Some(path)) => Some(LocalCrates::Registry(base.join(path))),
            (None, None) => None,
        });
    }
    Ok(None)
}

fn home_of(environment: &Environment) -> PathBuf {
    environment.path_variable("CARGO_HOME").unwrap_or_else(|| environment.home.join(".cargo"))
}

fn not_followed(layers: &[Layer]) -> Vec<String> {
    let told = |what: &str, layer: &Layer| format!("`{what}` in `{}`", layer.path.display());
    let set = layers.iter().filter(|layer| layer.file.http.ssl_version.is_some());
    let set = set.map(|layer| told("http.ssl-version", layer));
    let patched = layers.iter().filter(|layer| !layer.file.patch.is_empty());
    set.chain(patched.map(|layer| told("[patch]", layer))).collect()
}

/// The token from the providers that the person configured, in cargo's order: the registry's own, else the general ones,
/// the last of which is the strongest.
fn provided(
    finder: &Finder<'_>,
    layers: &[Layer],
    home: &std::path::Path,
    registry: &Wanted<'_>,
    not_followed: &mut Vec<String>,
) -> Result<Option<Credential>> {
    let trusted = || layers.iter().filter(|layer| layer.trusted);
    let variable = format!("CARGO_REGISTRIES_{}_CREDENTIAL_PROVIDER", variable_part(registry.name));
    let own = finder.environment.variable(&variable).map(|text| Words::Text(text.to_owned()));
    let own = own.or_else(|| {
        let mut tables = trusted().filter_map(|layer| layer.file.registries.get(registry.name));
        tables.find_map(|table| table.credential_provider.clone())
    });
    let general = "CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS";
    let general = finder.environment.variable(general);
    let general = general.map(|text| text.split_whitespace().map(str::to_owned).collect());
    let general = general.or_else(|| {
        let mut lists = trusted().map(|layer| &layer.file.registry.global_credential_providers);
        lists.find_map(Clone::clone)
    });
    let providers: Vec<Vec<String>> = match (own, general) {
        (Some(own), _) => vec![own.words()],
        (None, Some(general)) => {
            general.iter().rev().map(|text| Words::Text(text.clone()).words()).collect()
        }
        (None, None) => vec![vec![cargo_provider::FROM_FILES.to_owned()]],
    };
    for words in providers {
        let alias = words
            .first()
            .filter(|_| words.len() == 1)
            .and_then(|name| trusted().find_map(|layer| layer.file.credential_alias.get(name)));
        let words = alias.map_or(words, Words::words);
        let token = match words.first().map(String::as_str) {
            Some(cargo_provider::FROM_FILES) => token_of(finder, layers, home, registry.name)?,
            _ => match cargo_provider::ask(finder, &words, registry) {
                Ok(token) => token,
                Err(why) => {
                    let name = words.first().map_or("", String::as_str);
                    not_followed.push(format!("cargo's credential provider `{name}`: {why}"));
                    None
                }
            },
        };
        if token.is_some() {
            return Ok(token);
        }
    }
    Ok(None)
}

/// What cargo's configuration says of versions that the compiler cannot build: whether others come before them, where it
/// says anything.
pub(crate) fn incompatible_rust_versions(finder: &Finder<'_>) -> Result<Option<bool>> {
    let environment = finder.environment;
    let home = home_of(environment);
    let variable = environment.variable("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS");
    let value = match variable {
        Some(value) => Some(value.to_owned()),
        None => layers(finder, &home)?
            .into_iter()
            .find_map(|layer| layer.file.resolver.incompatible_rust_versions),
    };
    Ok(match value.as_deref() {
        Some("fallback") => Some(true),
        Some("allow") => Some(false),
        _ => None,
    })
}

/// What stands for the public registry.
struct Replacement {
    index: String,
    from: String,
    /// The name of the registry where the person's own files define its index, so that its token is its.
    trusted_name: Option<String>,
}

fn layers(finder: &Finder<'_>, home: &std::path::Path) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let above = finder.environment.project.ancestors().map(|directory| directory.join(".cargo"));
    let own = std::iter::once(home.to_owned());
    for directory in above.filter(|directory| directory != home).chain(own) {
        let trusted = directory == home;
        for name in ["config", "config.toml"] {
            let path = directory.join(name);
            let Some(text) = finder.configuration(&path)? else { continue };
            let file = toml::from_str(&text).map_err(|error| {
                let message = format!("`{}` is not valid: {}", path.display(), error.message());
                Error::new(Kind::Failed, "bad-configuration", message)
                    .hint("correct the file; cargo itself refuses it too")
            })?;
            layers.push(Layer { file, path, trusted });
            break;
        }
    }
    Ok(layers)
}

/// What stands for a source; `None` where it stands for itself.
fn follow_replacements(
    environment: &Environment,
    layers: &[Layer],
    first: &str,
) -> Result<Option<Replacement>> {
    let source =
        |name: &str| layers.iter().find_map(|layer| Some((layer.file.source.get(name)?, layer)));
    let mut name = first.to_owned();
    for _ in 0..SOURCE_REPLACEMENTS_MAX {
        let found = source(&name);
        let next = found.and_then(|(source, _)| source.replace_with.clone());
        if let Some(next) = next {
            name = next;
            continue;
        }
        if name == first {
            return Ok(None);
        }
        if let Some((source, layer)) = found {
            let from = format!("`{}`", layer.path.display());
            if let Some(index) = &source.registry {
                return Ok(Some(Replacement { index: index.clone(), from, trusted_name: None }));
            }
            let other =
                [("directory", &source.directory), ("local-registry", &source.local_registry)];
            let other =
                other.into_iter().chain([("git", &source.git)]).find(|(_, value)| value.is_some());
            if let Some((kind, _)) = other {
                return Err(unsupported(&format!(
                    "{from} replaces the registry by a `{kind}` source"
                )));
            }
        }
        return registry_by_name(environment, layers, &name).map(Some);
    }
    Err(unsupported("the chain of `replace-with` in cargo's configuration has no end"))
}

fn registry_by_name(
    environment: &Environment,
    layers: &[Layer],
    name: &str,
) -> Result<Replacement> {
    let variable = format!("CARGO_REGISTRIES_{}_INDEX", variable_part(name));
    if let Some(index) = environment.variable(&variable) {
        let from = format!("the environment variable `{variable}`");
        return Ok(Replacement {
            index: index.to_owned(),
            from,
            trusted_name: Some(name.to_owned()),
        });
    }
    for layer in layers {
        if let Some(index) =
            layer.file.registries.get(name).and_then(|registry| registry.index.clone())
        {
            let from = format!("`{}`", layer.path.display());
            return Ok(Replacement {
                index,
                from,
                trusted_name: layer.trusted.then(|| name.to_owned()),
            });
        }
    }
    let message = format!("cargo's configuration does not define the registry `{name}`");
    Err(Error::new(Kind::Failed, "bad-configuration", message)
        .hint(format!("add `[registries.{name}]` with `index = \"sparse+https://...\"`")))
}

fn sparse_url(index: &str, from: &str) -> Result<Url> {
    if !index.starts_with("sparse+") {
        return Err(unsupported(&format!("{from} names a registry with a git index")));
    }
    registry_url(index, from)
}

fn unsupported(what: &str) -> Error {
    Error::new(Kind::Failed, "unsupported-registry", what.to_owned())
        .hint("name a sparse registry with `--registry cargo=sparse+URL`")
}

fn token_of(
    finder: &Finder<'_>,
    layers: &[Layer],
    home: &std::path::Path,
    name: &str,
) -> Result<Option<Credential>> {
    let variable = format!("CARGO_REGISTRIES_{}_TOKEN", variable_part(name));
    if let Some(token) = finder.environment.variable(&variable) {
        return Ok(Some(Credential::raw(token)));
    }
    for file in ["credentials.toml", "credentials"] {
        let path = home.join(file);
        if let Some(text) = finder.configuration(&path)? {
            // What a damaged file says is not repeated: it holds tokens.
            let file: File = toml::from_str(&text).map_err(|_| {
                let message = format!("`{}` is not valid TOML", path.display());
                Error::new(Kind::Failed, "bad-configuration", message)
            })?;
            if let Some(token) =
                file.registries.get(name).and_then(|registry| registry.token.as_deref())
            {
                return Ok(Some(Credential::raw(token)));
            }
        }
    }
    let trusted = layers.iter().filter(|layer| layer.trusted);
    let token =
        trusted.filter_map(|layer| layer.file.registries.get(name)?.token.as_deref()).next();
    Ok(token.map(Credential::raw))
}

fn variable_part(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn transport(
    environment: &Environment,
    layers: &[Layer],
    home: &std::path::Path,
) -> TransportSettings {
    let mut settings = TransportSettings::from_variables(environment);
    settings.trust(environment.path_variable("CARGO_HTTP_CAINFO"));
    for layer in layers.iter().filter(|layer| layer.trusted) {
        // A relative path is relative to the directory above the one with the file.
        let base = home.parent().unwrap_or(home);
        settings.trust(layer.file.http.cainfo.as_ref().map(|path| base.join(path)));
    }
    let configured =
        layers.iter().filter(|layer| layer.trusted).find_map(|layer| layer.file.http.proxy.clone());
    let proxy = environment.variable("CARGO_HTTP_PROXY").map(str::to_owned).or(configured);
    if let Some(proxy) = proxy.filter(|proxy| !proxy.is_empty()) {
        settings.http_proxy = Some(ProxyAddress(proxy.clone()));
        settings.https_proxy = Some(ProxyAddress(proxy));
    }
    settings
}
