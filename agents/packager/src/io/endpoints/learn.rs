//! What the installed package managers know by themselves and cannot be read ([`super::installed`]): asked for once.
//!
//! A fact is kept in the state directory together with the identity of the program that told it and of the variables
//! that lead a wrapper to another one, and asked for again when one of them changed. Programs run outside the project,
//! without anybody's registry configuration, and are only taken from absolute places of `PATH` that are not in the project.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use agents_contract::Cancellation;
use serde::{Deserialize, Serialize};

use crate::io::environment::{Environment, read_small};
use crate::io::limits::{
    CANCELLATION_INTERVAL, CONFIGURATION_BYTES_MAX, LEARN_OUTPUT_BYTES_MAX, LEARN_TIMEOUT,
};
use crate::process;

/// The file in the state directory.
const FILE_NAME: &str = "endpoints.json";
const SCHEMA: &str = "bolide.endpoints/2";
/// Variables that decide which program a wrapper (a version manager's shim) starts, or how that finds its files.
const LEADING_VARIABLES: [&str; 12] = [
    "DESTDIR",
    "HOME",
    "NODE_PATH",
    "NVM_DIR",
    "PATH",
    "PREFIX",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "VOLTA_HOME",
];

/// One thing that a program told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fact {
    value: String,
    /// The command, for people.
    learnt_from: String,
    source: Source,
}

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    program: PathBuf,
    /// Behind all links.
    target: PathBuf,
    modified_seconds: i64,
    modified_nanoseconds: i64,
    size: u64,
    inode: u64,
    /// A digest of the variables: they may hold what is nobody's business.
    variables: String,
}

impl Source {
    fn of(program: &Path, environment: &Environment) -> Option<Self> {
        let metadata = std::fs::metadata(program).ok()?;
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for name in LEADING_VARIABLES {
            let value = environment.variable(name).unwrap_or_default();
            digest.update(&(value.len() as u64).to_le_bytes());
            digest.update(value.as_bytes());
        }
        Some(Self {
            program: program.to_owned(),
            target: program.canonicalize().ok()?,
            modified_seconds: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
            size: metadata.size(),
            inode: metadata.ino(),
            variables: crate::hex::hex(digest.finish().as_ref()),
        })
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Facts {
    schema: String,
    facts: BTreeMap<String, Fact>,
}

/// Remembers and asks.
#[derive(Debug)]
pub(crate) struct Learner {
    file: PathBuf,
    facts: Mutex<Option<Facts>>,
    /// Per question, so that one program does not hold up what others are asked.
    turns: [Mutex<()>; 3],
}

/// What can be asked for.
#[derive(Clone, Copy)]
enum Topic {
    NpmRegistry,
    NpmGlobalConfig,
    PypiIndex,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Self::NpmRegistry => "npm-registry",
            Self::NpmGlobalConfig => "npm-global-config",
            Self::PypiIndex => "pypi-index",
        }
    }
}

/// One way to learn a fact.
struct Question {
    program: &'static str,
    arguments: &'static [&'static str],
    read: fn(&str) -> Option<String>,
}

impl Learner {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { file: state_dir.join(FILE_NAME), facts: Mutex::new(None), turns: Default::default() }
    }

    /// npm's own default registry.
    pub(crate) fn npm_registry(
        &self,
        environment: &Environment,
        cancellation: &Cancellation,
    ) -> Option<String> {
        let arguments = &[
            "config",
            "get",
            "registry",
            "--userconfig=/dev/null",
            "--globalconfig=/dev/null/npmrc",
        ];
        self.learn(
            Topic::NpmRegistry,
            environment,
            &[Question { program: "npm", arguments, read: address_line }],
            cancellation,
        )
    }

    /// Where npm's machine-wide configuration is.
    pub(crate) fn npm_global_config(
        &self,
        environment: &Environment,
        cancellation: &Cancellation,
    ) -> Option<String> {
        let arguments = &["config", "get", "globalconfig", "--userconfig=/dev/null"];
        let question = Question { program: "npm", arguments, read: path_line };
        self.learn(Topic::NpmGlobalConfig, environment, &[question], cancellation)
    }

    /// pip's default index; uv's where there is no pip.
    pub(crate) fn pypi_index(
        &self,
        environment: &Environment,
        cancellation: &Cancellation,
    ) -> Option<String> {
        let pip = &["install", "--help"];
        let questions = [
            Question {
                program: "python3",
                arguments: &["-m", "pip", "install", "--help"],
                read: pip_default,
            },
            Question { program: "pip3", arguments: pip, read: pip_default },
            Question { program: "pip", arguments: pip, read: pip_default },
            Question { program: "uv", arguments: &["pip", "install", "--help"], read: uv_default },
        ];
        self.learn(Topic::PypiIndex, environment, &questions, cancellation)
    }

    fn learn(
        &self,
        topic: Topic,
        environment: &Environment,
        questions: &[Question],
        cancellation: &Cancellation,
    ) -> Option<String> {
        let _turn = self.turn(topic, cancellation)?;
        for question in questions {
            let Some(program) = find_program(environment, question.program) else { continue };
            let Some(source) = Source::of(&program, environment) else { continue };
            if let Some(value) = self.known(topic, &source) {
                return Some(value);
            }
            let Some(value) = ask(environment, &program, question, cancellation) else { continue };
            let learnt_from = format!("{} {}", program.display(), question.arguments.join(" "));
            let fact = Fact { value: value.clone(), learnt_from, source };
            let mut guard = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            let facts = guard.get_or_insert_with(|| self.load());
            facts.facts.insert(topic.name().to_owned(), fact);
            self.save(facts);
            return Some(value);
        }
        None
    }

    fn known(&self, topic: Topic, source: &Source) -> Option<String> {
        let mut guard = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = guard.get_or_insert_with(|| self.load());
        let fact = facts.facts.get(topic.name()).filter(|fact| fact.source == *source)?;
        Some(fact.value.clone())
    }

    /// One asker at a time: others would only ask the same program the same. `None` where the answer is not wanted any
    /// more before it is this one's turn.
    fn turn(&self, topic: Topic, cancellation: &Cancellation) -> Option<MutexGuard<'_, ()>> {
        loop {
            match self.turns[topic as usize].try_lock() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if cancellation.is_cancelled() => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(CANCELLATION_INTERVAL),
            }
        }
    }

    fn load(&self) -> Facts {
        let bytes = read_small(&self.file, CONFIGURATION_BYTES_MAX).ok().flatten();
        let facts = bytes.and_then(|bytes| serde_json::from_slice::<Facts>(&bytes).ok());
        facts
            .filter(|facts| facts.schema == SCHEMA)
            .unwrap_or_else(|| Facts { schema: SCHEMA.to_owned(), facts: BTreeMap::new() })
    }

    /// Failing to remember only means asking again.
    fn save(&self, facts: &Facts) {
        let Ok(text) = serde_json::to_vec_pretty(facts) else { return };
        if let Err(error) = crate::io::cache::write_atomically(&self.file, &text) {
            tracing::debug!(path = %self.file.display(), %error, "cannot keep learnt endpoints");
        }
    }
}

/// The first program of that name in `PATH`, leaving out places that a project controls.
pub(super) fn find_program(environment: &Environment, name: &str) -> Option<PathBuf> {
    programs(environment, name).next()
}

/// All programs of that name in `PATH`, in its order, leaving out places that a project controls.
pub(super) fn programs<'e>(
    environment: &'e Environment,
    name: &'e str,
) -> impl Iterator<Item = PathBuf> + 'e {
    places(environment, name).filter(|candidate| {
        let metadata = std::fs::metadata(candidate);
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    })
}

/// Where programs of that name would be, in the order of `PATH`, leaving out places that a project controls.
pub(super) fn places<'e>(
    environment: &'e Environment,
    name: &'e str,
) -> impl Iterator<Item = PathBuf> + 'e {
    let path = environment.variable("PATH").unwrap_or_default();
    path.split(':')
        .map(Path::new)
        .filter(|directory| directory.is_absolute())
        .filter(|directory| {
            !directory.starts_with(&environment.project) || environment.project == Path::new("/")
        })
        .map(move |directory| directory.join(name))
}

/// Runs the program without registry configuration; `None` when it fails, hangs, or says nothing usable.
fn ask(
    environment: &Environment,
    program: &Path,
    question: &Question,
    cancellation: &Cancellation,
) -> Option<String> {
    let configures = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["npm_config_", "pip_", "uv_"].iter().any(|prefix| name.starts_with(prefix))
    };
    let mut command = Command::new(program);
    command.args(question.arguments).current_dir("/").env_clear();
    command.envs(environment.variables.iter().filter(|(name, _)| !configures(name)));
    // Wide, so that help texts are not wrapped inside an address.
    command.env("PIP_CONFIG_FILE", "/dev/null").env("COLUMNS", "500").env("NO_COLOR", "1");
    let answer = process::run(&mut command, LEARN_TIMEOUT, LEARN_OUTPUT_BYTES_MAX, cancellation);
    let output = answer.ok().flatten().filter(|output| output.status.success())?;
    (question.read)(&String::from_utf8_lossy(&output.stdout))
}

fn address_line(output: &str) -> Option<String> {
    output.lines().map(str::trim).find(|line| is_address(line)).map(str::to_owned)
}

fn path_line(output: &str) -> Option<String> {
    output.lines().map(str::trim).find(|line| line.starts_with('/')).map(str::to_owned)
}

/// `--index-url <url>  Base URL of the Python Package Index (default https://...). This should ...`
fn pip_default(output: &str) -> Option<String> {
    let words: Vec<&str> = output.split_whitespace().collect();
    let option = words.iter().position(|word| *word == "--index-url")?;
    let default = option + words[option..].iter().position(|word| *word == "(default")?;
    let address = words.get(default + 1)?.trim_end_matches(['.', ',', ')']);
    is_address(address).then(|| address.to_owned())
}

/// `--default-index <DEFAULT_INDEX>  The URL of the default package index (by default: <https://...>)`
fn uv_default(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("--default-index")?;
    let (_, rest) = rest.split_once("default: <")?;
    let address = rest.split('>').next()?;
    is_address(address).then(|| address.to_owned())
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_read_from_the_help_text_of_pip() {
        let help = "  -i, --index-url <url>       Base URL of the Python Package Index (default\n      \
                    https://index.example.invalid/simple). This should point to";
        assert_eq!(pip_default(help).as_deref(), Some("https://index.example.invalid/simple"));
        assert_eq!(pip_default("--index-url <url> (default"), None);
        assert_eq!(pip_default(""), None);
    }

    #[test]
    fn the_default_is_read_from_the_help_text_of_uv() {
        let help = "--default-index <DEFAULT_INDEX>\n  The URL of the default package index (by default: <https://index.example.invalid/simple>).";
        assert_eq!(uv_default(help).as_deref(), Some("https://index.example.invalid/simple"));
    }

    #[test]
    fn a_program_tells_once_and_again_when_it_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let programs = directory.path().join("bin");
        std::fs::create_dir(&programs).expect("a directory");
        let npm = programs.join("npm");
        let write = |address: &str| {
            use std::os::unix::fs::PermissionsExt;
            let log = directory.path().join("log");
            let text =
                format!("#!/bin/sh\necho run >> {}\necho warning\necho {address}\n", log.display());
            std::fs::write(&npm, text).expect("a program");
            std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        };
        let mut environment = Environment { project: "/nowhere".into(), ..Environment::default() };
        let path = format!("{}:/bin:/usr/bin", programs.display());
        environment.variables.insert("PATH".to_owned(), path);
        write("https://one.example.invalid/");
        let ask = || Learner::new(directory.path()).npm_registry(&environment, Cancellation::NEVER);
        assert_eq!(ask().as_deref(), Some("https://one.example.invalid/"));
        assert_eq!(ask().as_deref(), Some("https://one.example.invalid/"));
        let runs = std::fs::read_to_string(directory.path().join("log")).expect("a log");
        assert_eq!(runs.lines().count(), 1);
        write("https://another.example.invalid/");
        assert_eq!(ask().as_deref(), Some("https://another.example.invalid/"));
        let shim = |root: &str| {
            let mut led = environment.clone();
            led.variables.insert("PYENV_ROOT".to_owned(), root.to_owned());
            Learner::new(directory.path()).npm_registry(&led, Cancellation::NEVER)
        };
        write("https://another.example.invalid/$PYENV_ROOT");
        assert_eq!(shim("a").as_deref(), Some("https://another.example.invalid/a"));
        assert_eq!(shim("b").as_deref(), Some("https://another.example.invalid/b"));
    }

    #[test]
    fn a_program_of_the_project_is_not_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut environment =
            Environment { project: directory.path().into(), ..Environment::default() };
        let planted = directory.path().join("npm");
        std::fs::write(&planted, "#!/bin/sh\n").expect("a program");
        environment
            .variables
            .insert("PATH".to_owned(), format!("{}:.", directory.path().display()));
        assert_eq!(find_program(&environment, "npm"), None);
    }
}
