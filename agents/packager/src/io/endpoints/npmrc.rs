//! npm's configuration: `npmrc` files and `npm_config_` variables, as far as they say where packages come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::seen::Looks;
use super::{Finder, ProxyAddress, TransportSettings, installed, registry_url};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::secret::{Credential, Credentials, Scope, take_userinfo};

/// Where npm packages come from.
#[derive(Clone, Debug)]
pub(crate) struct NpmEndpoint {
    /// The registry of names without a scope of their own.
    pub(crate) default: Url,
    /// `@scope` to its registry.
    pub(crate) scopes: BTreeMap<String, Url>,
    pub(crate) credentials: Credentials,
    pub(crate) transport: TransportSettings,
    /// Settings that are there and not followed, in words.
    pub(crate) not_followed: Vec<String>,
}

impl NpmEndpoint {
    /// The registry that serves `name`.
    pub(crate) fn registry_of(&self, name: &str) -> &Url {
        let scope = name.split_once('/').map(|(scope, _)| scope);
        scope.and_then(|scope| self.scopes.get(scope)).unwrap_or(&self.default)
    }

    /// Whether something of it is nobody else's business.
    pub(super) fn holds_secret(&self) -> bool {
        let transport = &self.transport;
        let mut proxies = [&transport.http_proxy, &transport.https_proxy].into_iter().flatten();
        let mut registries = self.scopes.values().chain([&self.default]);
        !self.credentials.is_empty()
            || proxies.any(|ProxyAddress(address)| address.contains(['@', '?']))
            || registries.any(|url| url.query().is_some())
    }

    /// How many things it names, and the bytes of all that is written in it.
    pub(super) fn weight(&self) -> (usize, usize) {
        let Self { default, scopes, credentials: _, transport, not_followed } = self;
        let TransportSettings { authorities, http_proxy, https_proxy, no_proxy } = transport;
        let scoped = scopes.iter().map(|(scope, url)| scope.len() + url.as_str().len());
        let proxies = [http_proxy, https_proxy].into_iter().flatten().map(|it| it.0.len());
        let others = authorities.iter().map(|path| path.as_os_str().len());
        let others = others.chain(not_followed.iter().map(String::len)).chain(proxies);
        let bytes: usize = scoped.chain(others).chain(no_proxy.iter().map(String::len)).sum();
        (scopes.len() + not_followed.len(), bytes + default.as_str().len())
    }
}

/// One source of settings, stronger ones first in a list of them.
struct Layer {
    values: Vec<(String, String)>,
    /// Whether it belongs to the person and not to a project.
    trusted: bool,
    /// For messages.
    name: String,
}

/// Finds npm's endpoint.
pub(super) fn find(finder: &Finder<'_>, looks: &Looks) -> Result<NpmEndpoint> {
    let installed = installed::npm(finder.environment, looks);
    let layers = layers(finder, installed.as_ref(), looks)?;
    let mut credentials = Credentials::default();
    let mut take = |mut url: Url| {
        let credential = take_userinfo(&mut url);
        if let (Some(credential), Some(scope)) = (credential, Scope::beneath(&url)) {
            credentials.add(scope, credential);
        }
        url
    };
    let default = match finder.overrides.get(Ecosystem::Npm) {
        Some(url) => take(url.clone()),
        None => match first(&layers, "registry", false) {
            Some((text, layer)) => take(registry_url(text, &layer.name)?),
            None => take(learnt_default(finder, installed, looks)?),
        },
    };
    let mut scopes = BTreeMap::new();
    for layer in &layers {
        for (key, value) in &layer.values {
            if let Some(scope) = key.strip_suffix(":registry")
                && scope.starts_with('@')
                && !scopes.contains_key(scope)
            {
                scopes.insert(scope.to_owned(), take(registry_url(value, &layer.name)?));
            }
        }
    }
    collect_credentials(&layers, &mut credentials);
    let transport = transport(finder.environment, &layers);
    let not_followed = not_followed(finder.environment, &layers);
    Ok(NpmEndpoint { default, scopes, credentials, transport, not_followed })
}

/// What would weaken the check of a server's identity is never followed, what would change who we are to a server is not
/// supported; neither is passed over in silence.
fn not_followed(environment: &Environment, layers: &[Layer]) -> Vec<String> {
    let mut found = Vec::new();
    for layer in layers {
        for (key, value) in &layer.values {
            let key =
                key.rsplit_once(':').filter(|_| key.starts_with("//")).map_or(&**key, |it| it.1);
            let is_set = !matches!(value.as_str(), "" | "null");
            let counts = match key {
                "strict-ssl" => value == "false",
                "ca" | "ca[]" | "cert" | "key" | "certfile" | "keyfile" => is_set,
                _ => false,
            };
            let what = || format!("`{key}` in {}", layer.name);
            if let Some(what) = counts.then(what).filter(|what| !found.contains(what)) {
                found.push(what);
            }
        }
    }
    if environment.variable("NODE_TLS_REJECT_UNAUTHORIZED") == Some("0") {
        found.push("the environment variable `NODE_TLS_REJECT_UNAUTHORIZED`".to_owned());
    }
    found
}

/// The registry that npm itself would use if nobody configured one.
fn learnt_default(
    finder: &Finder<'_>,
    installed: Option<installed::Npm>,
    looks: &Looks,
) -> Result<Url> {
    let read = installed.and_then(|npm| npm.default_registry);
    let asked = || {
        looks.lose();
        finder.learner.npm_registry(finder.environment, finder.cancellation)
    };
    let learnt = read.or_else(asked).ok_or_else(|| {
        Error::new(Kind::Failed, "registry-unknown", "no registry is known for npm packages")
            .hint("install npm, or name a registry with `--registry npm=URL` or in `~/.npmrc`")
    })?;
    registry_url(&learnt, "what npm says of itself")
}

fn layers(
    finder: &Finder<'_>,
    installed: Option<&installed::Npm>,
    looks: &Looks,
) -> Result<Vec<Layer>> {
    let environment = finder.environment;
    let variables = from_variables(environment);
    let mut layers = vec![Layer {
        values: variables,
        trusted: true,
        name: "an environment variable `npm_config_...`".to_owned(),
    }];
    let read = |layers: &mut Vec<Layer>, path: &Path, trusted: bool| -> Result<()> {
        looks.at_file(path);
        if let Some(text) = finder.configuration(path)? {
            let values = parse(&text, trusted.then_some(environment));
            layers.push(Layer { values, trusted, name: format!("`{}`", path.display()) });
        }
        Ok(())
    };
    let path_in = |layers: &[Layer], name: &str| {
        first(layers, name, true).map(|(value, _)| environment.expand_home(value))
    };
    let user = path_in(&layers, "userconfig").unwrap_or_else(|| environment.home.join(".npmrc"));
    let project = environment.project.join(".npmrc");
    // In the home directory the project's file and the user's are one, and the user's.
    if project != user {
        read(&mut layers, &project, false)?;
    }
    read(&mut layers, &user, true)?;
    let mut builtin = Vec::new();
    if let Some(npm) = installed {
        read(&mut builtin, &npm.builtin, true)?;
    }
    // What a project says of these is not asked for: it would name files as trusted.
    let set = |name: &str| path_in(&layers, name).or_else(|| path_in(&builtin, name));
    let below = |prefix: PathBuf| prefix.join("etc/npmrc");
    let asked = || {
        looks.lose();
        let learnt = finder.learner.npm_global_config(environment, finder.cancellation);
        learnt.map(PathBuf::from)
    };
    let global = set("globalconfig")
        .or_else(|| set("prefix").map(below))
        .or_else(|| installed.map_or_else(asked, |npm| Some(below(npm.prefix.clone()))));
    if let Some(global) = global {
        read(&mut layers, &global, true)?;
    }
    layers.extend(builtin);
    Ok(layers)
}

/// `npm_config_some_key` in any case is `some-key`; keys that start with `//` are taken as they are.
fn from_variables(environment: &Environment) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for (name, value) in &environment.variables {
        let Some(prefix) = name.get(..11) else { continue };
        if !prefix.eq_ignore_ascii_case("npm_config_") || value.is_empty() {
            continue;
        }
        let key = &name[11..];
        let plain = !key.starts_with("//") && !key.starts_with('@');
        let key = if plain { key.to_ascii_lowercase().replace('_', "-") } else { key.to_owned() };
        values.push((key, value.clone()));
    }
    values
}

/// Reads the `ini` dialect of npm. `${NAME}` is replaced only where `environment` is given; a value in which a
/// reference remains is left out, because it is neither what was meant nor harmless.
fn parse(text: &str, environment: Option<&Environment>) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#', '[']) {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, "true"));
        let key = unquote(key.trim());
        let value = unquote(value.trim());
        let (Some(key), Some(value)) = (expand(&key, environment), expand(&value, environment))
        else {
            continue;
        };
        values.push((key.trim_end_matches("[]").to_owned(), value));
    }
    // The last of equal keys counts in a file; the first one does in our lists.
    values.reverse();
    values
}

fn unquote(text: &str) -> String {
    if text.len() >= 2 && text.starts_with('"') && text.ends_with('"') {
        return serde_json::from_str(text).unwrap_or_else(|_| text[1..text.len() - 1].to_owned());
    }
    if text.len() >= 2 && text.starts_with('\'') && text.ends_with('\'') {
        return text[1..text.len() - 1].to_owned();
    }
    // An unquoted value ends where a comment starts.
    let end = text.find([';', '#']).filter(|end| !text[..*end].ends_with('\\'));
    end.map_or(text, |end| text[..end].trim_end()).to_owned()
}

fn expand(text: &str, environment: Option<&Environment>) -> Option<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = start + rest[start..].find('}')?;
        let name = &rest[start + 2..end];
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let environment = environment?;
        let value = environment.references.get(name).or_else(|| environment.variables.get(name));
        let value = value.map(String::as_str);
        result.push_str(&rest[..start]);
        result.push_str(value.or_else(|| optional.then_some(""))?);
        rest = &rest[end + 1..];
    }
    result.push_str(rest);
    Some(result)
}

fn first<'a>(layers: &'a [Layer], key: &str, trusted: bool) -> Option<(&'a str, &'a Layer)> {
    layers.iter().filter(|layer| layer.trusted || !trusted).find_map(|layer| {
        let value = layer.values.iter().find(|(name, _)| name == key);
        value.map(|(_, value)| (value.as_str(), layer))
    })
}

fn collect_credentials(layers: &[Layer], credentials: &mut Credentials) {
    // A place that a trusted file names with `http:` may get its credential without encryption.
    let plain: Vec<Url> = layers
        .iter()
        .filter(|layer| layer.trusted)
        .flat_map(|layer| &layer.values)
        .filter(|(key, value)| key.ends_with("registry") && value.starts_with("http:"))
        .filter_map(|(_, value)| Url::parse(value).ok())
        .collect();
    for layer in layers {
        for (key, value) in &layer.values {
            let Some((place, field)) =
                key.rsplit_once(':').filter(|(place, _)| place.starts_with("//"))
            else {
                continue;
            };
            let sibling = |name: &str| {
                let wanted = format!("{place}:{name}");
                layer.values.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.as_str())
            };
            let credential = match field {
                "_authToken" => Some(Credential::bearer(value)),
                "_auth" => Some(Credential::basic_encoded(value)),
                "_password" => sibling("username").and_then(|name| from_password(name, value)),
                _ => None,
            };
            let (Some(credential), Ok(url)) = (credential, Url::parse(&format!("https:{place}")))
            else {
                continue;
            };
            for scope in scopes_of(&url, &plain) {
                credentials.add(scope, credential.clone());
            }
        }
    }
    // The old forms without a place belong to the registry that the person configured, never to a project's.
    let Some((registry, _)) = first(layers, "registry", true) else { return };
    let Some(scope) = Url::parse(registry).ok().as_ref().and_then(Scope::beneath) else { return };
    if let Some((token, _)) = first(layers, "_authToken", true) {
        credentials.add(scope, Credential::bearer(token));
    } else if let Some((encoded, _)) = first(layers, "_auth", true) {
        credentials.add(scope, Credential::basic_encoded(encoded));
    }
}

/// The encrypted place, and the plain one where a trusted file uses it so.
fn scopes_of(url: &Url, plain: &[Url]) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = Scope::beneath(url).into_iter().collect();
    // `https:` as a stand-in hides whether port 80 or 443 was meant, so the original is asked for its port.
    let original_port = url.port();
    for configured in plain {
        if configured.host_str() == url.host_str() && configured.port() == original_port {
            let mut http = configured.clone();
            http.set_path(url.path());
            scopes.extend(Scope::beneath(&http));
        }
    }
    scopes.dedup();
    scopes
}

fn from_password(name: &str, encoded: &str) -> Option<Credential> {
    let password = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    Some(Credential::basic(name, &password))
}

/// CA files and proxies come from trusted layers only: a project that could add them could read what goes to
/// the person's own registries.
fn transport(environment: &Environment, layers: &[Layer]) -> TransportSettings {
    let trusted = |key: &str| first(layers, key, true).map(|(value, _)| value.to_owned());
    let mut settings = TransportSettings::from_variables(environment);
    settings.trust(trusted("cafile").map(|path| environment.expand_home(&path)));
    settings.trust(environment.path_variable("NODE_EXTRA_CA_CERTS"));
    let usable = |value: &String| !matches!(value.as_str(), "null" | "false" | "true" | "");
    if let Some(proxy) = trusted("https-proxy").or_else(|| trusted("proxy")).filter(usable) {
        settings.https_proxy = Some(ProxyAddress(proxy));
    }
    if let Some(proxy) = trusted("proxy").filter(usable) {
        settings.http_proxy = Some(ProxyAddress(proxy));
    }
    if let Some(hosts) = trusted("noproxy").filter(usable) {
        settings.no_proxy = Some(hosts);
    }
    settings
}
