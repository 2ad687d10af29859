//! The configuration: flags before `BOLIDE_*` variables before the user's file before the machine's
//! before defaults, each value with the place it came from. Every key stands once, in [`keys`].

mod keys;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agents_packager::service::{Durability, StoreRules};
use hw::root::Root;
use ipc::class::ClassSet;
use scheduler::governor::{ThresholdError, ThresholdValues, Thresholds};
use scheduler::placement::Pinning;

pub(crate) use self::keys::{KEYS, Key, age, band_text};
use crate::daemon::LimitTable;
use crate::limits::{CONFIG_BYTES_MAX, DRAIN_TIMEOUT, HANDSHAKE_BYTES_MAX, HANDSHAKE_TIMEOUT};
use crate::mirror;
use crate::paths::{self, Environment, PathsError};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Socket and lock.
    pub(crate) runtime_dir: PathBuf,
    /// What must survive.
    pub(crate) state_dir: PathBuf,
    /// What can be fetched again.
    pub(crate) cache_dir: PathBuf,
    /// Where metrics and health are served; `None` turns them off.
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// The agents that the daemon hosts, in the order in which they are started.
    pub(crate) hosted: Vec<String>,
    /// Names of agents, as patterns, that have no direct links.
    pub(crate) routed: Vec<String>,
    /// Classes that links may have.
    pub(crate) classes: ClassSet,
    /// What agents may have of the bus.
    pub(crate) limits: LimitTable,
    /// How long a client may take to introduce itself.
    pub(crate) handshake: Duration,
    /// How many bytes it may use for that.
    pub(crate) handshake_bytes: usize,
    /// How long stopping waits for work in flight.
    pub(crate) drain: Duration,
    /// How workers are held to classes of cores.
    pub(crate) pinning: Pinning,
    /// The temperatures at which less runs, as they were written down.
    pub(crate) bands: ThresholdValues,
    /// The same, after they were found to hold together.
    pub(crate) thresholds: Thresholds,
    /// What stands for `/` where the machine is read.
    pub(crate) sysfs_root: PathBuf,
    /// What is logged, as `tracing` filters say it.
    pub(crate) log: String,
    /// How old a version of a package has to be.
    pub(crate) minimum_age: Duration,
    /// How the store of packages is kept.
    pub(crate) store: StoreRules,
    /// When an installation waits for the disk.
    pub(crate) durability: Durability,
    /// Who stands in for registries, or has artefacts by their digests.
    pub(crate) mirrors: Vec<String>,
    /// Where other hosts may fetch what this one has; `None` is nowhere.
    pub(crate) mirror_addr: Option<SocketAddr>,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
    /// A hosted agent's: the level, then the text, for the daemon to log under the agent's name.
    Hosted,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// A file.
    File(PathBuf),
    /// A variable.
    Environment(&'static str),
    /// The command line.
    Flag,
}

/// What flags say; a `None` says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config`: this file instead of the user's and the machine's.
    pub(crate) config: Option<PathBuf>,
    /// Values by key name.
    pub(crate) values: Vec<(&'static str, String)>,
}

/// Settings and where each came from.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The values.
    pub(crate) settings: Settings,
    /// By key name.
    pub(crate) origins: BTreeMap<&'static str, Origin>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file is there but cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any configuration.
    #[error("configuration file `{}` is larger than {CONFIG_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A file is not TOML.
    #[error("configuration file `{}` is not TOML", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A file sets what does not exist.
    #[error("unknown key `{key}` in `{}`{}", path.display(), hint_text(.nearest))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: String,
        /// A key that looks like it.
        nearest: Option<&'static str>,
    },
    /// A value cannot be what its key needs.
    #[error("`{value}` cannot be `{key}` (from {origin}): {why}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: String,
        /// By whom.
        origin: Origin,
        /// What is wanted.
        why: String,
    },
    /// A default place does not exist.
    #[error(transparent)]
    Paths(#[from] PathsError),
}

impl Settings {
    /// Where the machine is read.
    pub(crate) fn root(&self) -> Root {
        Root::at(&self.sysfs_root)
    }
}

impl Config {
    /// Reads all sources.
    pub(crate) fn load(flags: &Flags, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let mut given: BTreeMap<&'static str, (String, Origin)> = BTreeMap::new();
        for path in files(flags, environment) {
            for (key, value) in read_file(&path, flags.config.is_some())? {
                given.insert(key, (value, Origin::File(path.clone())));
            }
        }
        for key in KEYS {
            let Some(value) = environment(key.environment) else { continue };
            let value = value.to_string_lossy().into_owned();
            given.insert(key.name, (value, Origin::Environment(key.environment)));
        }
        for (name, value) in &flags.values {
            given.insert(name, (value.clone(), Origin::Flag));
        }
        let mut settings = defaults(&given, environment)?;
        let mut origins = BTreeMap::new();
        for key in KEYS {
            let Some((value, origin)) = given.remove(key.name) else {
                origins.insert(key.name, Origin::Default);
                continue;
            };
            (key.set)(&mut settings, &value).map_err(|why| ConfigError::Value {
                key: key.name,
                value,
                origin: origin.clone(),
                why,
            })?;
            origins.insert(key.name, origin);
        }
        // What has an address is served, whoever else is hosted.
        if settings.mirror_addr.is_some()
            && !settings.hosted.iter().any(|name| name == mirror::NAME)
        {
            settings.hosted.push(mirror::NAME.to_owned());
        }
        settings.thresholds = Thresholds::try_from(settings.bands)
            .map_err(|error| crossed(&settings, &origins, error))?;
        Ok(Self { settings, origins })
    }
}

/// The error of temperatures of which each could be right and all together are not; under the name of the one that does not fit.
fn crossed(
    settings: &Settings,
    origins: &BTreeMap<&'static str, Origin>,
    error: ThresholdError,
) -> ConfigError {
    let is_it = |key: &&Key| key.name.strip_prefix("thermal.") == Some(error.name());
    let Some(key) = KEYS.iter().find(is_it) else { unreachable!("each temperature has its key") };
    ConfigError::Value {
        key: key.name,
        value: (key.show)(settings),
        origin: origins.get(key.name).cloned().unwrap_or(Origin::Default),
        why: error.to_string(),
    }
}

/// The files that count, the weakest first.
fn files(flags: &Flags, environment: Environment<'_>) -> Vec<PathBuf> {
    match &flags.config {
        Some(path) => vec![path.clone()],
        None => [Some(paths::machine_configuration()), paths::user_configuration(environment)]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// The keys and values of one file. A file that was not asked for by name may be missing.
fn read_file(path: &Path, wanted: bool) -> Result<Vec<(&'static str, String)>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !wanted => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let table: toml::Table = text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut values = Vec::new();
    flatten(path, "", &table, &mut values)?;
    Ok(values)
}

fn flatten(
    path: &Path,
    prefix: &str,
    table: &toml::Table,
    values: &mut Vec<(&'static str, String)>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        if let toml::Value::Table(inner) = value {
            let inner_prefix = format!("{name}.");
            if KEYS.iter().any(|key| key.name.starts_with(&inner_prefix)) {
                flatten(path, &inner_prefix, inner, values)?;
                continue;
            }
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let nearest = nearest_key(&name);
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: name, nearest });
        };
        values.push((key.name, text_of(value)));
    }
    Ok(())
}

/// A value as a variable or flag would give it: lists with commas.
fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Places are looked up only where nobody gave them, so that a daemon without a home can be told
/// all of them.
fn defaults(
    given: &BTreeMap<&'static str, (String, Origin)>,
    environment: Environment<'_>,
) -> Result<Settings, ConfigError> {
    let is_given = |key| given.contains_key(key);
    let unless_given = |key, place: fn(Environment<'_>) -> Result<PathBuf, PathsError>| {
        if is_given(key) { Ok(PathBuf::new()) } else { place(environment) }
    };
    Ok(Settings {
        runtime_dir: paths::runtime_directory(environment),
        state_dir: unless_given("state_dir", paths::state_directory)?,
        cache_dir: unless_given("cache_dir", paths::cache_directory)?,
        metrics_addr: Some(SocketAddr::from(([127, 0, 0, 1], 8001))),
        hosted: crate::host::default_agents().map(str::to_owned).collect(),
        routed: Vec::new(),
        classes: ClassSet::LINKS,
        limits: LimitTable::default(),
        handshake: HANDSHAKE_TIMEOUT,
        handshake_bytes: HANDSHAKE_BYTES_MAX,
        drain: DRAIN_TIMEOUT,
        pinning: Pinning::Auto,
        bands: ThresholdValues::default(),
        thresholds: Thresholds::default(),
        sysfs_root: PathBuf::from("/"),
        log: "info".to_owned(),
        minimum_age: Duration::ZERO,
        store: StoreRules::default(),
        durability: Durability::default(),
        mirrors: Vec::new(),
        mirror_addr: None,
        log_format: LogFormat::Text,
    })
}

/// The key that `wrong` was probably meant to be.
fn nearest_key(wrong: &str) -> Option<&'static str> {
    let distances = KEYS.iter().map(|key| (distance(wrong, key.name), key.name));
    let (distance, name) = distances.min()?;
    (distance <= 1 + wrong.len() / 4).then_some(name)
}

/// Levenshtein's distance in bytes; keys are ASCII.
fn distance(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(byte != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

fn hint_text(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(name) => format!(" (hint: did you mean `{name}`?)"),
        None => " (hint: `bolide config schema` lists all keys)".to_owned(),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Flag => formatter.write_str("flag"),
        }
    }
}

#[cfg(test)]
mod tests;
