//! uv's configuration files, as far as they say where Python packages come from. Its variables are read with pip's.

use std::collections::BTreeMap;
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
    /// Only in a pyproject.toml; other kinds of sources are its reader's matter.
    sources: BTreeMap<String, toml::Value>,
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
    explicit: bool,
    /// `simple`, or something that is not followed.
    format: Option<String>,
}

/// A `pyproject.toml`, of which uv has one table.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pyproject {
    /// Without one, what uv is told of sources concerns nobody.
    project: Option<toml::Value>,
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

/// An index beside the default one.
pub(super) struct Other {
    pub(super) url: String,
    pub(super) name: Option<String>,
    /// The file, for messages.
    pub(super) from: String,
    /// Whether only packages come from it of which that is said.
    pub(super) is_explicit: bool,
    pub(super) is_the_persons: bool,
}

/// What the files say together.
#[derive(Default)]
pub(super) struct Uv {
    /// What the project names, which is stronger than what the person's pip says.
    pub(super) of_project: Option<Named>,
    /// What the person's own files name, or the machine's.
    pub(super) of_person: Option<Named>,
    /// The other indexes, the project's before the person's, each in the order in which it is written.
    pub(super) others: Vec<Other>,
    /// Packages with the name of the index that the project takes them from.
    pub(super) sources: Vec<(String, String)>,
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
            _ => toml::from_str::<Pyproject>(&text).ok().and_then(|file| {
                let mut settings = file.tool.uv?;
                settings.sources.retain(|_, _| file.project.is_some());
                Some(settings)
            }),
        };
        if let Some(file) = file {
            uv.others.extend(file.others(&path.display().to_string(), false));
            uv.sources.extend(file.sources.iter().filter_map(|(name, source)| {
                let of_list = source.as_array().filter(|list| list.len() == 1);
                let source = of_list.map_or(source, |list| &list[0]);
                Some((name.clone(), source.get("index")?.as_str()?.to_owned()))
            }));
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
        uv.others.extend(file.others(&from, true));
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

impl Index {
    fn is_simple(&self) -> bool {
        self.format.as_deref().is_none_or(|format| format == "simple")
    }
}

impl File {
    fn default_index(&self, from: &str) -> Option<Named> {
        let default = self.index.iter().find(|index| index.default && index.is_simple());
        let plain = self.index_url.as_ref().or(self.pip.index_url.as_ref());
        let (url, name) = match (default, plain) {
            (Some(index), _) => (index.url.clone(), index.name.clone()),
            (None, Some(url)) => (url.clone(), None),
            (None, None) => return None,
        };
        Some(Named { url, name, from: format!("`{from}`") })
    }

    /// `[[index]]` without the default one, and `extra-index-url`.
    fn others(&self, from: &str, is_the_persons: bool) -> Vec<Other> {
        let from = format!("`{from}`");
        let followed = self.index.iter().filter(|index| !index.default && index.is_simple());
        let mut others: Vec<Other> = followed
            .map(|index| Other {
                url: index.url.clone(),
                name: index.name.clone(),
                from: from.clone(),
                is_explicit: index.explicit,
                is_the_persons,
            })
            .collect();
        let texts = match &self.extra_index_url {
            Some(toml::Value::String(text)) => vec![text.clone()],
            Some(toml::Value::Array(list)) => {
                list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        let plain =
            |url| Other { url, name: None, from: from.clone(), is_explicit: false, is_the_persons };
        others.extend(texts.into_iter().map(plain));
        others
    }

    fn not_followed(&self, from: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut tell = |key: &str| found.push(format!("`{key}` in `{from}`"));
        if self.index.iter().any(|index| !index.is_simple()) {
            tell("[[index]] with a `format`");
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
