//! The surroundings that a caller's package managers would see: variables, home, project; and careful reading
//! of the files in them. Not the meaning of any file: that is `endpoints`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::limits::{CONFIGURATION_BYTES_MAX, REFERENCES_MAX};

/// What decides which registries a request talks to. A request over the bus carries its caller's.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Environment {
    /// Environment variables. May hold tokens, so `Debug` prints names only.
    pub variables: BTreeMap<String, String>,
    /// Variables that the person's npmrc names as `${NAME}`, for nothing but that. May hold tokens too.
    pub references: BTreeMap<String, String>,
    /// The home directory, where user-level configuration is.
    pub home: PathBuf,
    /// The project, whose own configuration is read but not trusted.
    pub project: PathBuf,
}

impl Environment {
    /// The surroundings of this very process, for a command without a daemon.
    pub fn of_this_process(project: &Path) -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let references = npm_references(&variables);
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        Self { variables, references, home, project: project.to_owned() }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// An absolute path from a variable; `~/` is the home directory.
    pub(crate) fn path_variable(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(|value| self.expand_home(value)).filter(|path| path.is_absolute())
    }

    /// The XDG configuration home.
    pub(crate) fn config_home(&self) -> PathBuf {
        self.path_variable("XDG_CONFIG_HOME").unwrap_or_else(|| self.home.join(".config"))
    }

    /// A path as a person writes it.
    pub(crate) fn expand_home(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => PathBuf::from(text),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("references", &self.references.keys())
            .field("home", &self.home)
            .field("project", &self.project)
            .finish()
    }
}

/// The variables that the person's npmrc names as `${NAME}`, out of all that are set.
pub(crate) fn npm_references(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let set = |name: &str| all.get(name).filter(|value| !value.is_empty());
    let named = set("npm_config_userconfig").or_else(|| set("NPM_CONFIG_USERCONFIG"));
    let path = named.map(PathBuf::from).or_else(|| Some(Path::new(set("HOME")?).join(".npmrc")));
    let read = path.and_then(|path| read_small(&path, CONFIGURATION_BYTES_MAX).ok().flatten());
    let text = String::from_utf8_lossy(&read.unwrap_or_default()).into_owned();
    let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    let names = names.map(|(name, _)| name.strip_suffix('?').unwrap_or(name));
    names
        .take(REFERENCES_MAX)
        .filter_map(|name| Some((name.to_owned(), all.get(name)?.clone())))
        .collect()
}

/// Room behind a file's bytes with which reading to its end asks once whether there are more.
const READ_END_BYTES: usize = 64;

/// Reads a small regular file; `None` where there is none.
///
/// Opened without blocking, so that a pipe planted in a project cannot hang us, and bounded.
pub(crate) fn read_small(path: &Path, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => std::fs::File::from(descriptor),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    // Room for what it says it has, and for finding that this is all.
    let room = metadata.len().min(bytes_max) as usize + READ_END_BYTES;
    let mut bytes = Vec::with_capacity(room);
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("larger than {bytes_max} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(Some(bytes))
}
