//! Registries beside the default one: `[registries.NAME]` and `CARGO_REGISTRIES_NAME_INDEX`.
//!
//! Who they are is known without asking anybody; a credential provider is run when the first question is put to its registry. A token
//! goes to an index that the person's own configuration names: a project can say where a registry is, and gets no token there.

use std::collections::BTreeSet;
use std::path::Path;

use agents_versions::shorten;
use url::Url;

use super::{CargoEndpoint, Finder, Layer, Replacement};
use super::{follow_replacements, home_of, layers, not_followed, provided, registry_by_name};
use super::{sparse_url, token_of, transport, variable_part};
use crate::error::{Error, Kind, Result};
use crate::io::endpoints::cargo_provider::Wanted;
use crate::io::limits::CARGO_REGISTRIES_MAX;
use crate::io::secret::take_userinfo;
use crate::metadata::cargo::Registry;
use crate::metadata::cargo::scope::{GIT, SPARSE, canonical};
use crate::spec::steers;

/// What the default registry is called in cargo's configuration and in manifests.
pub(crate) const DEFAULT: &str = "crates-io";

/// The registries that are configured, each once whatever it is called how often, in the order of their addresses.
///
/// # Errors
/// `too-many-registries`, what [`source_of`] refuses, and what a file of the configuration is wrong about.
pub(crate) fn list(finder: &Finder<'_>) -> Result<Vec<Registry>> {
    let environment = finder.environment;
    let layers = layers(finder, &home_of(environment))?;
    let tables = layers.iter().flat_map(|layer| &layer.file.registries);
    let mut names: BTreeSet<String> = tables
        .filter(|(name, table)| table.index.is_some() && *name != DEFAULT)
        .map(|(name, _)| name.clone())
        .collect();
    let known: BTreeSet<String> = names.iter().map(|name| variable_part(name)).collect();
    // A variable does not say how a name is spelled, nor does it matter to whoever looks for its token.
    let of_variables = environment.variables.keys().filter_map(|variable| {
        let name = variable.strip_prefix("CARGO_REGISTRIES_")?.strip_suffix("_INDEX")?;
        (!known.contains(name) && !name.is_empty()).then(|| name.to_ascii_lowercase())
    });
    names.extend(of_variables);
    if names.len() > CARGO_REGISTRIES_MAX {
        let message = format!("more than {CARGO_REGISTRIES_MAX} cargo registries are configured");
        return Err(Error::new(Kind::Failed, "too-many-registries", message));
    }
    let mut list: Vec<Registry> = Vec::new();
    for name in names {
        let index = source_of(&registry_by_name(environment, &layers, &name)?, &name)?;
        if !list.iter().any(|known| canonical(&known.index) == canonical(&index)) {
            list.push(Registry { name, index });
        }
    }
    list.sort_by(|one, other| one.index.cmp(&other.index));
    Ok(list)
}

/// The index of a registry by its name.
///
/// # Errors
/// `bad-configuration` where nobody defines it, and what [`source_of`] refuses.
pub(crate) fn index_of(finder: &Finder<'_>, name: &str) -> Result<String> {
    let layers = layers(finder, &home_of(finder.environment))?;
    source_of(&registry_by_name(finder.environment, &layers, name)?, name)
}

/// The address of an index as locks, plans and messages have it: serialised, and with its protocol before it, as cargo does both.
///
/// # Errors
/// `bad-registry` for what is no address, and for what would tell people something else than it is, or a secret: characters that
/// steer a terminal, a query, a fragment.
fn source_of(registry: &Replacement, name: &str) -> Result<String> {
    let refused = |why: &str| {
        let name = shorten(name);
        let from = &registry.from;
        let message = format!("the address that {from} gives the registry `{name}` has {why}");
        Error::new(Kind::Usage, "bad-registry", message).hint(
            "an index is `sparse+https://...`, without a query; a token belongs into `cargo login`",
        )
    };
    if name.chars().chain(registry.index.trim().chars()).any(steers) {
        return Err(refused("characters in it, or its name has, that are not shown"));
    }
    let index = registry.index.trim();
    let (protocol, address) = match index.strip_prefix(SPARSE) {
        Some(_) => ("", index),
        None => (GIT, index.strip_prefix(GIT).unwrap_or(index)),
    };
    let parsed = Url::parse(address).map_err(|_| refused("no form that is understood"))?;
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(refused("a query or a fragment"));
    }
    Ok(format!("{protocol}{parsed}"))
}

/// How a registry is asked.
///
/// # Errors
/// `unsupported-registry` for one with a git index, and for what stands for it and is no registry; `bad-registry` for an address with a
/// password, which would stand in every lock.
pub(crate) fn find(finder: &Finder<'_>, name: &str) -> Result<CargoEndpoint> {
    let environment = finder.environment;
    let home = home_of(environment);
    let layers = layers(finder, &home)?;
    let transport = transport(environment, &layers, &home);
    let mut not_followed = not_followed(&layers);
    let own = registry_by_name(environment, &layers, name)?;
    let (name, found) = match replacement(finder, &layers, &own)? {
        Some(other) => (other.trusted_name.clone().unwrap_or_default(), other),
        None => (name.to_owned(), own),
    };
    let mut index = sparse_url(&found.index, &found.from)?;
    if take_userinfo(&mut index).is_some() {
        let message = format!("the address of the registry `{name}` has a password in it");
        return Err(Error::new(Kind::Usage, "bad-registry", message)
            .hint(format!("give it as a token: `cargo login --registry {name}`")));
    }
    let is_trusted = found.trusted_name.is_some() || is_own(&layers, &name, &found.index);
    let token = match is_trusted && !name.is_empty() {
        true => {
            let registry = Wanted { name: &name, index: &index };
            provided(finder, &layers, &home, &registry, &mut not_followed)?
        }
        false => {
            not_followed.extend(withheld(finder, (&layers, &home), &name, &found.from)?);
            None
        }
    };
    Ok(CargoEndpoint { index, token, transport, not_followed })
}

/// What `[source]` puts in the place of a registry.
fn replacement(
    finder: &Finder<'_>,
    layers: &[Layer],
    registry: &Replacement,
) -> Result<Option<Replacement>> {
    let wanted = canonical(&registry.index);
    let tables = layers.iter().flat_map(|layer| &layer.file.source);
    let is_meant = |index: &String| canonical(index) == wanted;
    let mut replaced = tables.filter(|(_, source)| source.replace_with.is_some());
    match replaced.find(|(_, source)| source.registry.as_ref().is_some_and(is_meant)) {
        Some((source, _)) => follow_replacements(finder.environment, layers, source),
        None => Ok(None),
    }
}

/// Whether the person's own files have the same index under this name.
fn is_own(layers: &[Layer], name: &str, index: &str) -> bool {
    let trusted = layers.iter().filter(|layer| layer.trusted);
    let mut tables = trusted.filter_map(|layer| layer.file.registries.get(name));
    tables.any(|table| table.index.as_ref().is_some_and(|own| canonical(own) == canonical(index)))
}

/// That there is a token, and why it is not used.
fn withheld(
    finder: &Finder<'_>,
    (layers, home): (&[Layer], &Path),
    name: &str,
    from: &str,
) -> Result<Option<String>> {
    let token = token_of(finder, layers, home, name)?;
    Ok(token.map(|_| {
        format!(
            "the token of the registry `{name}`: only {from}, a file of the project, says where that is; \
             `[registries.{name}]` with its `index` in your own `config.toml`, or \
             `CARGO_REGISTRIES_{}_INDEX`, lets the token go there",
            variable_part(name)
        )
    }))
}
