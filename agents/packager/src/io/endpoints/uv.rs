//! uv's configuration files, as far as they say where Python packages come from. Its variables are read with pip's.

use std::path::PathBuf;

use serde::Deserialize;

use super::Finder;
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::secret::Credential;

/// The part of a `uv.toml` that is read; everything else passes.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    index: Vec<Index>,
    index_url: Option<String>,
    extra_index_url: Option<toml::Value>,
    keyring_provider: Option<String>,
    allow_insecure_host: Option<toml::Value>,
    pip: Pip,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Pip {
    index_url: Option<String>,
    keyring_provider: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Index {
    name: Option<String>,
    url: String,
    default: bool,
}

/// A `pyproject.toml`, of which uv has one table.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pyproject {
    tool: Tools,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tools {
    uv: Option<File>,
}

/// The default index that a file names.
pub(super) struct Named {
    pub(super) url: String,
    pub(super) name: Option<String>,
    /// The file, for messages.
    pub(super) from: String,
}

/// What the files say together.
#[derive(Default)]
pub(super) struct Uv {
    /// What the project names, which is stronger than what the person's pip says.
    pub(super) of_project: Option<Named>,
    /// What the person's own files name, or the machine's.
    pub(super) of_person: Option<Named>,
    /// Whether the person wants passwords from `keyring`.
    pub(super) has_keyring: bool,
    pub(super) not_followed: Vec<String>,
}

/// Reads the files in the order of their strength.
pub(super) fn read(finder: &Finder<'_>) -> Result<Uv> {
    let environment = finder.environment;
    let mut uv = Uv::default();
    if environment.variable("UV_NO_CONFIG").is_some() {
        return Ok(uv);
    }
    for name in ["uv.toml", "pyproject.toml"] {
        let path = environment.project.join(name);
        let Some(text) = finder.configuration(&path)? else { continue };
        // A damaged file of the project is reported by whoever needs it.
        let file = match name {
            "uv.toml" => toml::from_str(&text).ok(),
            _ => toml::from_str::<Pyproject>(&text).ok().and_then(|file| file.tool.uv),
        };
        if let Some(file) = file {
            uv.of_project = uv.of_project.or(file.default_index(&path.display().to_string()));
            uv.not_followed.extend(file.not_followed(&path.display().to_string()));
        }
    }
    for path in paths(environment) {
        let Some(text) = finder.configuration(&path)? else { continue };
        let file: File = toml::from_str(&text).map_err(|error| {
            let message = format!("`{}` is not valid: {}", path.display(), error.message());
            Error::new(Kind::Failed, "bad-configuration", message)
                .hint("correct the file; uv itself refuses it too")
        })?;
        let from = path.display().to_string();
        uv.of_person = uv.of_person.or(file.default_index(&from));
        let keyring = file.keyring_provider.as_ref().or(file.pip.keyring_provider.as_ref());
        uv.has_keyring |= keyring.is_some_and(|keyring| keyring == "subprocess");
        uv.not_followed.extend(file.not_followed(&from));
    }
    Ok(uv)
}

/// The person's file, or the one that a variable names in its place, then the machine's.
fn paths(environment: &Environment) -> Vec<PathBuf> {
    if let Some(path) = environment.path_variable("UV_CONFIG_FILE") {
        return vec![path];
    }
    let mut paths = vec![environment.config_home().join("uv/uv.toml")];
    let directories = environment.variable("XDG_CONFIG_DIRS").unwrap_or("/etc/xdg");
    let directories = directories.split(':').filter(|path| path.starts_with('/'));
    paths.extend(directories.map(|path| PathBuf::from(path).join("uv/uv.toml")));
    paths.push(PathBuf::from("/etc/uv/uv.toml"));
    paths
}

impl File {
    fn default_index(&self, from: &str) -> Option<Named> {
        let default = self.index.iter().find(|index| index.default);
        let plain = self.index_url.as_ref().or(self.pip.index_url.as_ref());
        let (url, name) = match (default, plain) {
            (Some(index), _) => (index.url.clone(), index.name.clone()),
            (None, Some(url)) => (url.clone(), None),
            (None, None) => return None,
        };
        Some(Named { url, name, from: format!("`{from}`") })
    }

    fn not_followed(&self, from: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut tell = |key: &str| found.push(format!("`{key}` in `{from}`"));
        if self.index.iter().any(|index| !index.default) {
            tell("[[index]]");
        }
        if self.extra_index_url.is_some() {
            tell("extra-index-url");
        }
        if self.allow_insecure_host.is_some() {
            tell("allow-insecure-host");
        }
        found
    }
}

/// The credential of an index by its name, `UV_INDEX_NAME_USERNAME` and `UV_INDEX_NAME_PASSWORD`.
pub(super) fn credential(environment: &Environment, name: &str) -> Option<Credential> {
    let part: String = name
        .chars()
        .map(|one| if one.is_ascii_alphanumeric() { one.to_ascii_uppercase() } else { '_' })
        .collect();
    let variable = |what: &str| environment.variable(&format!("UV_INDEX_{part}_{what}"));
    let (user, password) = (variable("USERNAME"), variable("PASSWORD"));
    if user.is_none() && password.is_none() {
        return None;
    }
    Some(Credential::basic(user.unwrap_or_default(), password.unwrap_or_default()))
}
