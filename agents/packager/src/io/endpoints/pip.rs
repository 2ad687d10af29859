//! pip's and uv's configuration, as far as it says where Python packages come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pep508_rs::PackageName;
use url::Url;

use super::links::{self, Links};
use super::{Finder, ProxyAddress, TransportSettings, registry_url};
use super::{indexes, installed, keyring, netrc, uv};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::limits::INDEXES_MAX;
use crate::io::secret::{Credential, Credentials, Scope, take_userinfo};
use crate::options::Choice;

/// Where Python packages come from.
#[derive(Clone, Debug)]
pub(crate) struct PypiEndpoint {
    /// The index, a directory of project pages.
    pub(crate) index: Url,
    /// Further indexes, which are asked before it, in this order. A project is taken from the first that has it and from
    /// no other: a stranger who puts a project of the same name and a higher version into a later one gains nothing.
    pub(crate) first: Vec<Url>,
    /// Packages that come from one index and from nowhere else, whatever the others have.
    pub(crate) pins: BTreeMap<PackageName, Url>,
    /// Pages on the web and directories (`file:///...`) that list files of all packages, beside what the indexes have.
    pub(crate) links: Vec<Url>,
    /// Whether no index is asked.
    pub(crate) has_no_index: bool,
    pub(crate) credentials: Credentials,
    pub(crate) transport: TransportSettings,
    /// Which kinds of files count, as the person told pip: `--no-binary` and `--only-binary`.
    pub(crate) formats: Vec<(Choice, String)>,
    /// Settings that are there and not followed, for hints and `doctor`.
    pub(crate) not_followed: Vec<String>,
}

/// One configuration file: `(section, key, value)` in order.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    values: Vec<(String, String, String)>,
}

/// Finds the Python index.
pub(crate) fn find(finder: &Finder<'_>) -> Result<PypiEndpoint> {
    let environment = finder.environment;
    let files = read_files(finder)?;
    let setting =
        |key: &str| files.iter().find_map(|file| file.get(key).map(|value| (value, file)));
    let uv = uv::read(finder)?;
    let mut name = None;
    let mut is_the_persons = true;
    let mut named = |found: &uv::Named| {
        name.clone_from(&found.name);
        registry_url(&found.url, &found.from)
    };
    let variable = ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"]
        .into_iter()
        .find_map(|name| environment.variable(name).map(|value| (name, value)));
    let mut index = match (finder.overrides.get(Ecosystem::Pypi), &uv.of_requirements, variable) {
        (Some(url), ..) => url.clone(),
        (None, Some(found), _) => {
            is_the_persons = false;
            named(found)?
        }
        (None, None, Some((name, value))) => {
            registry_url(unnamed(value), &format!("the environment variable `{name}`"))?
        }
        (None, None, None) => match (&uv.of_project, setting("index-url"), &uv.of_person) {
            (Some(found), _, _) => {
                is_the_persons = false;
                named(found)?
            }
            (None, Some((value, file)), _) => {
                registry_url(value, &format!("`{}`", file.path.display()))?
            }
            (None, None, Some(found)) => named(found)?,
            (None, None, None) => learnt_default(finder)?,
        },
    };
    let mut first = match finder.overrides.get(Ecosystem::Pypi) {
        // Who names an index for this one command means that one alone.
        Some(_) => Vec::new(),
        None => further(environment, setting("extra-index-url"))?,
    };
    let mut credentials = Credentials::default();
    // A project could name another index by the name of the person's, or a user of the person's keyring.
    let asked = setting("keyring-provider").map(|(value, _)| value);
    let kept = is_the_persons
        .then(|| kept_credential(finder, &index, name.as_deref(), uv.has_keyring, asked))
        .flatten();
    // Before what the address says, which may be a user's name alone.
    for scope in [Scope::host_of(&index), Scope::beneath(&index)].into_iter().flatten() {
        if let Some(credential) = &kept {
            credentials.add(scope, credential.clone());
        }
    }
    for url in std::iter::once(&mut index).chain(&mut first) {
        let Some(credential) = take_userinfo(url) else { continue };
        // Files may be elsewhere on the host; beneath the index itself its own credential is the nearest.
        for scope in [Scope::host_of(url), Scope::beneath(url)].into_iter().flatten() {
            credentials.add(scope, credential.clone());
        }
    }
    let others = match finder.overrides.get(Ecosystem::Pypi) {
        Some(_) => indexes::Others::default(),
        None => indexes::find(environment, &uv, (&index, name.as_deref()), &mut credentials)?,
    };
    let links = match finder.overrides.get(Ecosystem::Pypi) {
        Some(_) => Links::default(),
        None => links::find(environment, &files, &uv, &mut credentials)?,
    };
    first.retain(|url| *url != index);
    add_netrc(finder, &index, is_the_persons, &mut credentials);
    // No project's file names the first ones.
    let named = first.iter().map(|url| (url, true));
    let of_files = others.first.iter().chain(&others.explicit).chain(&links.places);
    let of_files = of_files.map(|(url, is)| (url, *is));
    for (url, is_the_persons) in named.chain(of_files) {
        add_netrc(finder, url, is_the_persons, &mut credentials);
    }
    first.extend(others.first.into_iter().map(|(url, _)| url).filter(|url| *url != index));
    let mut seen = BTreeSet::new();
    first.retain(|url| seen.insert(url.clone()));
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
    let mut not_followed = not_followed(environment, &files);
    not_followed.extend(uv.not_followed);
    let pins = others.pins;
    let kinds = [
        (Choice::NoBinary, "PIP_NO_BINARY", "no-binary"),
        (Choice::OnlyBinary, "PIP_ONLY_BINARY", "only-binary"),
    ];
    let formats = kinds.into_iter().filter_map(|(choice, variable, key)| {
        let said = environment.variable(variable).or(setting(key).map(|(value, _)| value))?;
        Some((choice, said.to_owned()))
    });
    let formats = formats.collect();
    let has_no_index = links.has_no_index;
    let links = links.places.into_iter().map(|(url, _)| url).collect();
    Ok(PypiEndpoint {
        index,
        first,
        pins,
        links,
        has_no_index,
        credentials,
        transport,
        formats,
        not_followed,
    })
}

/// The further indexes that are configured: uv's, else pip's, each in the order in which it is written.
fn further(environment: &Environment, setting: Option<(&str, &ConfigFile)>) -> Result<Vec<Url>> {
    let named =
        ["UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"].into_iter().filter_map(|name| {
            Some((format!("the environment variable `{name}`"), environment.variable(name)?))
        });
    let written = setting.map(|(value, file)| (format!("`{}`", file.path.display()), value));
    let mut found: Vec<Url> = Vec::new();
    for (context, value) in named.chain(written) {
        for text in value.split_whitespace() {
            let url = registry_url(unnamed(text), &context)?;
            if !found.contains(&url) {
                found.push(url);
            }
            if found.len() > INDEXES_MAX {
                let message = format!("more than {INDEXES_MAX} indexes are configured");
                return Err(Error::new(Kind::Usage, "too-many-indexes", message));
            }
        }
    }
    Ok(found)
}

/// uv allows `name=URL`.
fn unnamed(text: &str) -> &str {
    text.split_once("=http").map_or(text, |(name, _)| &text[name.len() + 1..])
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

/// The credential of an index that stands outside of its address: in uv's variables by its name, else in a keyring, where
/// the person wants that to be asked.
fn kept_credential(
    finder: &Finder<'_>,
    index: &Url,
    name: Option<&str>,
    has_keyring: bool,
    provider: Option<&str>,
) -> Option<Credential> {
    let by_name = name.and_then(|name| uv::credential(finder.environment, name));
    let variables = ["PIP_KEYRING_PROVIDER", "UV_KEYRING_PROVIDER"].into_iter();
    let mut providers =
        variables.filter_map(|name| finder.environment.variable(name)).chain(provider);
    let wanted = has_keyring || providers.any(|one| matches!(one, "subprocess" | "import"));
    by_name.or_else(|| wanted.then(|| keyring::ask(finder, index)).flatten())
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
    pub(super) fn get(&self, key: &str) -> Option<&str> {
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

/// Adds the logins of the person's netrc. An entry is for a host, whatever the port; a project that could choose the port, or no
/// encryption, would have the login sent where it likes. So what a project names gets only what the host's usual port gets, and
/// nothing of the entry without a host.
fn add_netrc(
    finder: &Finder<'_>,
    index: &Url,
    is_the_persons: bool,
    credentials: &mut Credentials,
) {
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
    let scope = Scope::host_of(index).filter(|_| is_the_persons);
    if let (Some(machine), Some(scope)) = (own, scope) {
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
    for name in ["PIP_TRUSTED_HOST", "PIP_CLIENT_CERT", "UV_INSECURE_HOST"] {
        if environment.variable(name).is_some() {
            found.push(format!("the environment variable `{name}`"));
        }
    }
    for file in files {
        for key in ["trusted-host", "client-cert"] {
            if file.get(key).is_some() {
                found.push(format!("`{key}` in `{}`", file.path.display()));
            }
        }
    }
    found
}
