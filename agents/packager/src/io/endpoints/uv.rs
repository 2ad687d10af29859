//! uv's configuration files and the project's requirements file, as far as they say where Python packages come from. uv's variables are
//! read with pip's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Finder, requirements};
use crate::error::{Error, Kind, Result};
use crate::io::environment::Environment;
use crate::io::secret::Credential;
use crate::manifest::requirements::Places;

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
    find_links: Vec<String>,
    no_index: bool,
    pip: Pip,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Pip {
    index_url: Option<String>,
    keyring_provider: Option<String>,
    find_links: Vec<String>,
    no_index: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Index {
    name: Option<String>,
    url: String,
    default: bool,
    explicit: bool,
    /// `simple`, or `flat`: one page, or a directory, with the files of all packages.
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

/// A page or a directory that lists files of all packages.
pub(super) struct Linked {
    /// As it is written.
    pub(super) place: String,
    /// What a path begins at.
    pub(super) base: PathBuf,
    /// The file, for messages.
    pub(super) from: String,
    pub(super) is_the_persons: bool,
}

/// What the files say together.
#[derive(Default)]
pub(super) struct Uv {
    /// What the project names, which is stronger than what the person's pip says.
    pub(super) of_project: Option<Named>,
    /// What the project's requirements file names, which is stronger than variables, as with pip.
    pub(super) of_requirements: Option<Named>,
    /// What the person's own files name, or the machine's.
    pub(super) of_person: Option<Named>,
    /// The other indexes, the project's before the person's, each in the order in which it is written.
    pub(super) others: Vec<Other>,
    /// What lists files beside the indexes, the project's before the person's.
    pub(super) links: Vec<Linked>,
    /// Whether one of them wants no index to be asked.
    pub(super) has_no_index: bool,
    /// Packages with the name of the index that the project takes them from.
    pub(super) sources: Vec<(String, String)>,
    /// Whether the person wants passwords from `keyring`.
    pub(super) has_keyring: bool,
    pub(super) not_followed: Vec<String>,
}

/// Reads the files in the order of their strength. `UV_NO_CONFIG` leaves out all but the project's description, which is no
/// configuration: without what stands there of indexes, a package would be taken from a stranger's.
pub(super) fn read(finder: &Finder<'_>) -> Result<Uv> {
    let environment = finder.environment;
    let mut uv = Uv::default();
    let has_files = environment.variable("UV_NO_CONFIG").is_none();
    let mut is_described = false;
    for name in ["uv.toml", "pyproject.toml"] {
        let path = environment.project.join(name);
        let is_left_out = name == "uv.toml" && !has_files;
        let Some(text) = (if is_left_out { None } else { finder.configuration(&path)? }) else {
            continue;
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if name == "pyproject.toml" && text.parse::<toml::Table>().is_err() {
            // That it is no TOML is reported by whoever needs it.
            continue;
        }
        let file = match name {
            "uv.toml" => Some(toml::from_str::<File>(text).map_err(|why| damaged(&path, &why))?),
            _ => {
                let file: Pyproject = toml::from_str(text).map_err(|why| damaged(&path, &why))?;
                is_described = file.project.is_some();
                file.tool.uv.map(|mut settings| {
                    settings.sources.retain(|_, _| is_described);
                    settings
                })
            }
        };
        if let Some(file) = file {
            let from = path.display().to_string();
            uv.take_links(&file, &path, false);
            uv.others.extend(file.others(&from, false));
            uv.sources.extend(file.pins());
            uv.of_project = uv.of_project.or(file.default_index(&from));
            uv.not_followed.extend(file.not_followed(&from));
        }
    }
    if !is_described {
        uv.take_requirements(requirements::read(finder)?, environment);
    }
    let theirs = if has_files { paths(environment) } else { Vec::new() };
    for path in theirs {
        let Some(text) = finder.configuration(&path)? else { continue };
        let file: File = toml::from_str(&text).map_err(|why| damaged(&path, &why))?;
        let from = path.display().to_string();
        uv.take_links(&file, &path, true);
        uv.of_person = uv.of_person.or(file.default_index(&from));
        uv.others.extend(file.others(&from, true));
        let keyring = file.keyring_provider.as_ref().or(file.pip.keyring_provider.as_ref());
        uv.has_keyring |= keyring.is_some_and(|keyring| keyring == "subprocess");
        uv.not_followed.extend(file.not_followed(&from));
    }
    Ok(uv)
}

/// What is passed over would be asked of another index, without a word.
fn damaged(path: &Path, why: &toml::de::Error) -> Error {
    let message = format!("`{}` is not valid: {}", path.display(), why.message());
    Error::new(Kind::Failed, "bad-configuration", message)
        .hint("correct the file; uv itself refuses it too")
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

impl Uv {
    /// What a file says beside indexes.
    fn take_links(&mut self, file: &File, path: &Path, is_the_persons: bool) {
        let flat = file.index.iter().filter(|index| index.is_flat()).map(|index| &index.url);
        let written = file.find_links.iter().chain(&file.pip.find_links);
        let base = path.parent().unwrap_or(Path::new("/"));
        let link = |place: &String| Linked {
            place: place.clone(),
            base: base.to_owned(),
            from: format!("`{}`", path.display()),
            is_the_persons,
        };
        self.links.extend(flat.chain(written).map(link));
        self.has_no_index |= file.no_index || file.pip.no_index;
    }

    /// What the project's requirements file says.
    fn take_requirements(&mut self, said: Places, environment: &Environment) {
        let from = format!("`{}`", environment.project.join(requirements::FILE).display());
        let named = |url| Named { url, name: None, from: from.clone() };
        self.of_requirements = said.index.map(named);
        self.others.extend(said.others.into_iter().map(|url| Other {
            url,
            name: None,
            from: from.clone(),
            is_explicit: false,
            is_the_persons: false,
        }));
        self.links.extend(said.links.into_iter().map(|place| Linked {
            place,
            base: environment.project.clone(),
            from: from.clone(),
            is_the_persons: false,
        }));
        self.has_no_index |= said.has_no_index;
        let untrusted = said.trusted_hosts.iter().map(|_| format!("`--trusted-host` in {from}"));
        self.not_followed.extend(untrusted.take(1));
    }
}

impl Index {
    /// Whether it only lists files beside the others; one that is the default or for some packages alone is not followed.
    fn is_flat(&self) -> bool {
        self.format.as_deref() == Some("flat") && !self.default && !self.explicit
    }

    fn is_simple(&self) -> bool {
        self.format.as_deref().is_none_or(|format| format == "simple")
    }
}

impl File {
    /// Packages with the name of their index. Of a list of several its reader refuses those that are not plain.
    fn pins(&self) -> Vec<(String, String)> {
        let index_of = |source: &toml::Value| source.get("index")?.as_str().map(str::to_owned);
        let found = self.sources.iter().filter_map(|(name, source)| {
            let index = match source.as_array() {
                Some(list) => list.iter().find_map(index_of),
                None => index_of(source),
            };
            Some((name.clone(), index?))
        });
        found.collect()
    }

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
        if self.index.iter().any(|index| !index.is_simple() && !index.is_flat()) {
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
