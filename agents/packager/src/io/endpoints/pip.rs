//! pip's and uv's configuration, as far as it says where Python packages come from.

use std::path::PathBuf;

use url::Url;

use super::{Finder, ProxyAddress, TransportSettings, registry_url};
use super::{installed, netrc};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::secret::{Credential, Credentials, Scope, take_userinfo};

/// Where Python packages come from.
#[derive(Clone, Debug)]
pub(crate) struct PypiEndpoint {
    /// The index, a directory of project pages.
    pub(crate) index: Url,
    pub(crate) credentials: Credentials,
    pub(crate) transport: TransportSettings,
    /// Settings that are there and not followed, for hints and `doctor`.
    pub(crate) not_followed: Vec<String>,
}

/// One configuration file: `(section, key, value)` in order.
struct ConfigFile {
    path: PathBuf,
    values: Vec<(String, String, String)>,
}

/// Finds the Python index.
pub(crate) fn find(finder: &Finder<'_>) -> Result<PypiEndpoint> {
    let environment = finder.environment;
    let files = read_files(finder)?;
    let setting =
        |key: &str| files.iter().find_map(|file| file.get(key).map(|value| (value, file)));
    let mut index = match finder.overrides.get(Ecosystem::Pypi) {
        Some(url) => url.clone(),
        None => match ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"]
            .into_iter()
            .find_map(|name| environment.variable(name).map(|value| (name, value)))
        {
            // uv allows `name=URL`.
            Some((name, value)) => {
                let value =
                    value.split_once("=http").map_or(value, |(name, _)| &value[name.len() + 1..]);
                registry_url(value, &format!("the environment variable `{name}`"))?
            }
            None => match setting("index-url") {
                Some((value, file)) => registry_url(value, &format!("`{}`", file.path.display()))?,
                None => learnt_default(finder)?,
            },
        },
    };
    let mut credentials = Credentials::default();
    if let (Some(credential), Some(scope)) = (take_userinfo(&mut index), Scope::host_of(&index)) {
        credentials.add(scope, credential);
    }
    add_netrc(finder, &index, &mut credentials);
    let mut transport = TransportSettings::from_variables(environment);
    for name in ["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        transport.trust(environment.path_variable(name));
    }
    transport.trust(setting("cert").map(|(path, _)| environment.expand_home(path)));
    let proxy = environment.variable("PIP_PROXY").or(setting("proxy").map(|(value, _)| value));
    if let Some(proxy) = proxy {
        transport.http_proxy = Some(ProxyAddress(proxy.to_owned()));
        transport.https_proxy = Some(ProxyAddress(proxy.to_owned()));
    }
    let not_followed = not_followed(environment, &files);
    Ok(PypiEndpoint { index, credentials, transport, not_followed })
}

fn learnt_default(finder: &Finder<'_>) -> Result<Url> {
    let read = installed::pip_index(finder.environment);
    let asked = || finder.learner.pypi_index(finder.environment, finder.cancellation);
    let learnt = read.or_else(asked).ok_or_else(|| {
        Error::new(Kind::Failed, "registry-unknown", "no index is known for Python packages").hint(
            "install pip (or uv), or name an index with `--registry pypi=URL` or `PIP_INDEX_URL`",
        )
    })?;
    registry_url(&learnt, "what pip says of itself")
}

/// Strongest first: the file named by `PIP_CONFIG_FILE`, the virtual environment's, the user's, the machine's.
fn read_files(finder: &Finder<'_>) -> Result<Vec<ConfigFile>> {
    let environment = finder.environment;
    let mut paths = Vec::new();
    if let Some(path) = environment.variable("PIP_CONFIG_FILE") {
        if path == "/dev/null" {
            return Ok(Vec::new());
        }
        paths.push(environment.expand_home(path));
    }
    if let Some(path) = environment.path_variable("VIRTUAL_ENV") {
        paths.push(path.join("pip.conf"));
    }
    paths.push(environment.config_home().join("pip/pip.conf"));
    paths.push(environment.home.join(".pip/pip.conf"));
    let directories = environment.variable("XDG_CONFIG_DIRS").unwrap_or("/etc/xdg");
    let directories = directories.split(':').filter(|path| path.starts_with('/'));
    paths.extend(directories.map(|path| PathBuf::from(path).join("pip/pip.conf")));
    paths.push(PathBuf::from("/etc/pip.conf"));
    let mut files = Vec::new();
    for path in paths {
        // A virtual environment inside the project came with the project.
        if path.starts_with(&environment.project)
            && !environment.home.starts_with(&environment.project)
        {
            continue;
        }
        if let Some(text) = finder.configuration(&path)? {
            files.push(ConfigFile { values: parse(&text), path });
        }
    }
    Ok(files)
}

impl ConfigFile {
    /// A setting of `pip install`: its own section is stronger than the general one.
    fn get(&self, key: &str) -> Option<&str> {
        ["install", "global"].into_iter().find_map(|section| {
            let found = self.values.iter().rev().find(|entry| entry.0 == section && entry.1 == key);
            found.map(|entry| entry.2.as_str())
        })
    }
}

/// Reads the dialect of Python's `configparser`: sections, `=` or `:`, indented continuation lines.
fn parse(text: &str) -> Vec<(String, String, String)> {
    let mut values: Vec<(String, String, String)> = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, _, value)) = values.last_mut() {
                value.push_str(if value.is_empty() { "" } else { " " });
                value.push_str(trimmed);
            }
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.trim().to_ascii_lowercase();
            continue;
        }
        if let Some((key, value)) = trimmed.split_once(['=', ':']) {
            let key = key.trim().to_ascii_lowercase().replace('_', "-");
            values.push((section.clone(), key, value.trim().to_owned()));
        }
    }
    values
}

fn add_netrc(finder: &Finder<'_>, index: &Url, credentials: &mut Credentials) {
    let environment = finder.environment;
    let path =
        environment.path_variable("NETRC").unwrap_or_else(|| environment.home.join(".netrc"));
    // A damaged netrc must not stop people who need none.
    let Ok(Some(text)) = finder.configuration(&path) else { return };
    let machines = netrc::parse(&text);
    let index_host = index.host_str().unwrap_or_default();
    let own = machines
        .iter()
        .find(|machine| machine.host.as_deref() == Some(index_host))
        .or_else(|| machines.iter().find(|machine| machine.host.is_none()));
    if let (Some(machine), Some(scope)) = (own, Scope::host_of(index)) {
        credentials.add(scope, Credential::basic(&machine.login, &machine.password));
    }
    for machine in &machines {
        let url =
            machine.host.as_ref().and_then(|host| Url::parse(&format!("https://{host}/")).ok());
        if let Some(scope) = url.as_ref().and_then(Scope::host_of) {
            credentials.add(scope, Credential::basic(&machine.login, &machine.password));
        }
    }
}

fn not_followed(environment: &Environment, files: &[ConfigFile]) -> Vec<String> {
    let mut found = Vec::new();
    for name in [
        "PIP_EXTRA_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_INDEX",
        "PIP_NO_INDEX",
        "PIP_TRUSTED_HOST",
    ] {
        if environment.variable(name).is_some() {
            found.push(format!("the environment variable `{name}`"));
        }
    }
    for file in files {
        for key in ["extra-index-url", "no-index", "trusted-host"] {
            if file.get(key).is_some() {
                found.push(format!("`{key}` in `{}`", file.path.display()));
            }
        }
    }
    found
}
