//! What installed clients have written in their own files: npm's default registry and where its configuration is, pip's
//! default index. Read, because starting a client takes as long as a cold resolution.
//!
//! Only the one form that the clients' own files have had for years is understood; whoever has another is asked
//! ([`super::learn`]). Files inside the project are never looked at.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::learn::{places, programs};
use super::seen::Looks;
use crate::file_state::FileState;
use crate::io::environment::{Environment, read_small};
use crate::io::limits::CONFIGURATION_BYTES_MAX;

/// An npm that is the script of its own package, started by a node that is a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Npm {
    /// Its own default, where its files say it in the known form.
    pub(super) default_registry: Option<String>,
    /// The settings that its distributor gave it: stronger than its defaults, weaker than everything else.
    pub(super) builtin: PathBuf,
    /// Where its machine-wide files are unless a setting says otherwise.
    pub(super) prefix: PathBuf,
}

/// The npm of this environment; `None` where it is a wrapper of which nobody can tell what it will start.
pub(super) fn npm(environment: &Environment, looks: &Looks) -> Option<Npm> {
    let find = |name| {
        let mut places = places(environment, name);
        places.find(|candidate| looks.is_program(candidate))
    };
    let program = looks.real(&find("npm")?)?;
    if !program.ends_with("bin/npm-cli.js") {
        return None;
    }
    let package = program.parent()?.parent()?;
    let node = looks.real(&find("node")?)?;
    // One that cannot be read for now may be one.
    if !is_elf(&node).unwrap_or_else(|_| {
        looks.lose();
        false
    }) {
        return None;
    }
    // The order of npm's own `loadGlobalPrefix`.
    let prefix = match environment.variable("PREFIX") {
        Some(prefix) => PathBuf::from(prefix),
        None => {
            let own = node.parent()?.parent()?;
            match environment.variable("DESTDIR") {
                Some(above) => Path::new(above).join(own.strip_prefix("/").unwrap_or(own)),
                None => own.to_owned(),
            }
        }
    };
    let definitions = "node_modules/@npmcli/config/lib/definitions/definitions.js";
    let definitions = package.join(definitions);
    let default_registry = LAST.default_in(&definitions, looks);
    Some(Npm { default_registry, builtin: package.join("npmrc"), prefix })
}

/// What the file with npm's definitions said that was read the last time: it is long, and changes when npm is installed anew.
struct Last(Mutex<Option<(FileState, Option<String>)>>);

/// Of this process.
static LAST: Last = Last(Mutex::new(None));

impl Last {
    fn default_in(&self, path: &Path, looks: &Looks) -> Option<String> {
        // Before it is read: who changes it meanwhile is noticed the next time. Before it is looked at as well: what was changed in between
        // is not quiet.
        let state = FileState::at(path);
        let is_quiet = looks.at_file(path);
        let state = state?;
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, default)) = last().as_ref().filter(|(known, _)| *known == state) {
            return default.clone();
        }
        // What could not be read for now is not remembered.
        let bytes = read_small(path, CONFIGURATION_BYTES_MAX).ok()?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let default = text.and_then(|text| npm_default(&text));
        if is_quiet {
            *last() = Some((state, default.clone()));
        }
        default
    }
}

/// The default of the first pip on the search path whose files can be found without running anything.
pub(super) fn pip_index(environment: &Environment) -> Option<String> {
    programs(environment, "python3").find_map(|program| {
        let real = program.canonicalize().ok().filter(|real| is_elf(real).unwrap_or(false))?;
        let name = real.file_name()?.to_str()?.to_owned();
        let minor = name.strip_prefix("python3.")?;
        minor.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        // A virtual environment has packages of its own; elsewhere both are the same directory.
        let prefixes = [program.parent()?.parent()?, real.parent()?.parent()?];
        let places = [format!("lib/{name}/site-packages"), "lib/python3/dist-packages".to_owned()];
        let mut files = prefixes.into_iter().flat_map(|prefix| {
            places.iter().map(|place| prefix.join(place).join("pip/_internal/models/index.py"))
        });
        files.find_map(|file| pip_default(&text_of(&file)?))
    })
}

/// `registry: new Definition('registry', { default: 'https://...', ...`
fn npm_default(text: &str) -> Option<String> {
    let (_, definition) = text.split_once("new Definition('registry', {")?;
    let line = definition.lines().map(str::trim).find(|line| !line.is_empty())?;
    let value = line.strip_prefix("default: '")?.strip_suffix("',")?;
    is_plain_address(value).then(|| value.to_owned())
}

/// `PyPI = PackageIndex("https://.../", ...)`, of which the index is the page `simple`.
fn pip_default(text: &str) -> Option<String> {
    if !text.contains("self.simple_url = self._url_for_path(\"simple\")") {
        return None;
    }
    let (_, rest) = text.split_once("\nPyPI = PackageIndex(")?;
    let (value, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    let usable = is_plain_address(value) && value.ends_with('/');
    usable.then(|| format!("{value}simple"))
}

fn is_plain_address(text: &str) -> bool {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    is_web && !text.contains(['\'', '"', '\\', '$', '{']) && !text.contains(char::is_whitespace)
}

/// What a program begins with.
const ELF: &[u8] = b"\x7fELF";

fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(read_small(path, CONFIGURATION_BYTES_MAX).ok()??).ok()
}

/// Whether it is a program of its own, not a script that decides what to start.
fn is_elf(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::with_capacity(ELF.len());
    std::fs::File::open(path)?.take(ELF.len() as u64).read_to_end(&mut start)?;
    Ok(start == ELF)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A machine with programs in `bin` and whatever else a test puts beside.
    struct Machine {
        directory: tempfile::TempDir,
        environment: Environment,
    }

    impl Machine {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let root = directory.path().canonicalize().expect("an absolute place");
            let mut environment =
                Environment { project: "/nowhere".into(), ..Environment::default() };
            let path = format!("{}/shims:{}/bin", root.display(), root.display());
            environment.variables.insert("PATH".to_owned(), path);
            Self { directory, environment }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.directory.path().canonicalize().expect("an absolute place").join(path)
        }

        fn write(&self, path: &str, content: &[u8]) {
            let path = self.at(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(&path, content).expect("a file");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("a mode");
        }

        fn with_npm(self, definition: &str) -> Self {
            self.write("bin/node", b"\x7fELF...");
            self.write("lib/node_modules/npm/bin/npm-cli.js", b"#!/usr/bin/env node\n");
            let file =
                "lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js";
            self.write(file, definition.as_bytes());
            let target = self.at("lib/node_modules/npm/bin/npm-cli.js");
            symlink(target, self.at("bin/npm")).expect("a link");
            self
        }
    }

    const DEFINITION: &str = "  registry: new Definition('registry', {\n    default: 'https://r.example.invalid/',\n    type: url,\n";
    const MODEL: &str = "class PackageIndex:\n        self.simple_url = self._url_for_path(\"simple\")\n\nPyPI = PackageIndex(\n    \"https://index.example.invalid/\", file_storage_domain=\"x\"\n)\n";

    #[test]
    fn npm_tells_its_registry_and_its_places_without_being_started() {
        let mut machine = Machine::new().with_npm(DEFINITION);
        let npm_of = |machine: &Machine| {
            npm(&machine.environment, &Looks::default()).expect("npm's package")
        };
        let found = npm_of(&machine);
        assert_eq!(found.default_registry.as_deref(), Some("https://r.example.invalid/"));
        assert_eq!(found.builtin, machine.at("lib/node_modules/npm/npmrc"));
        assert_eq!(found.prefix, machine.at(""));
        machine.environment.variables.insert("DESTDIR".to_owned(), "/elsewhere".to_owned());
        let expected =
            Path::new("/elsewhere").join(machine.at("").strip_prefix("/").expect("absolute"));
        assert_eq!(npm_of(&machine).prefix, expected);
        machine.environment.variables.insert("PREFIX".to_owned(), "/prefix".to_owned());
        assert_eq!(npm_of(&machine).prefix, Path::new("/prefix"));
    }

    #[test]
    fn an_npm_that_was_installed_anew_is_read_anew() {
        let machine = Machine::new().with_npm(DEFINITION);
        let default = |machine: &Machine| {
            npm(&machine.environment, &Looks::default()).expect("npm").default_registry
        };
        assert_eq!(default(&machine).as_deref(), Some("https://r.example.invalid/"));
        assert_eq!(default(&machine), default(&machine));
        let path =
            "lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js";
        // As long as the one before, in another file of the same name.
        machine.write("new", DEFINITION.replace("//r.", "//s.").as_bytes());
        std::fs::rename(machine.at("new"), machine.at(path)).expect("moved");
        assert_eq!(default(&machine).as_deref(), Some("https://s.example.invalid/"));
        std::fs::remove_file(machine.at(path)).expect("removed");
        assert_eq!(default(&machine), None);
    }

    #[test]
    fn what_was_written_a_moment_ago_is_not_remembered() {
        let machine = Machine::new();
        machine.write("definitions.js", DEFINITION.as_bytes());
        let (last, looks) = (Last(Mutex::new(None)), Looks::default());
        let path = machine.at("definitions.js");
        let default = last.default_in(&path, &looks);
        assert_eq!(default.as_deref(), Some("https://r.example.invalid/"));
        assert!(last.0.lock().expect("no panic").is_none());
        // A file that nobody touches, as those of an installed program.
        let left_alone = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let is_quiet = looks.at_file(&left_alone);
        last.default_in(&left_alone, &looks);
        assert_eq!(last.0.lock().expect("no panic").is_some(), is_quiet);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_a_script() {
        let machine = Machine::new();
        machine.write("bin/node", b"\x7fELF...");
        machine.write("bin/short", b"\x7fE");
        assert!(is_elf(&machine.at("bin/node")).expect("read"));
        assert!(!is_elf(&machine.at("bin/short")).expect("read"));
        // Reading a directory fails, as reading anything does without descriptors.
        assert!(is_elf(&machine.at("bin")).is_err());
    }

    #[test]
    fn an_unknown_form_is_not_guessed_at() {
        for definition in [
            "",
            "registry: new Definition('registry', {\n default: process.env.X || 'https://x/',\n",
            "registry: new Definition('registry', {\n type: url,\n default: 'https://x/',\n",
            "registry: new Definition('registry', {\n default: 'file:///x',\n",
        ] {
            let machine = Machine::new().with_npm(definition);
            assert_eq!(
                npm(&machine.environment, &Looks::default()).expect("npm").default_registry,
                None
            );
        }
        assert_eq!(pip_default("\nPyPI = PackageIndex(\"https://x/\")"), None);
        assert_eq!(
            pip_default(&MODEL.replace("\"https://index.example.invalid/\"", "url()")),
            None
        );
    }

    #[test]
    fn a_wrapper_of_npm_or_node_is_asked_and_not_read() {
        let machine = Machine::new().with_npm(DEFINITION);
        machine.write("shims/node", b"#!/bin/sh\nexec something\n");
        assert_eq!(npm(&machine.environment, &Looks::default()), None);
        std::fs::remove_file(machine.at("shims/node")).expect("removed");
        machine.write("shims/npm", b"#!/bin/sh\nexec something\n");
        assert_eq!(npm(&machine.environment, &Looks::default()), None);
    }

    #[test]
    fn pip_is_found_beside_the_first_interpreter_that_is_a_program() {
        let machine = Machine::new();
        machine.write("shims/python3", b"#!/bin/sh\n");
        machine.write("bin/python3.12", b"\x7fELF");
        symlink(machine.at("bin/python3.12"), machine.at("bin/python3")).expect("a link");
        assert_eq!(pip_index(&machine.environment), None);
        machine.write("lib/python3/dist-packages/pip/_internal/models/index.py", MODEL.as_bytes());
        let found = pip_index(&machine.environment);
        assert_eq!(found.as_deref(), Some("https://index.example.invalid/simple"));
    }

    #[test]
    fn what_the_project_brings_is_not_read() {
        let mut machine = Machine::new().with_npm(DEFINITION);
        machine.environment.project = machine.at("");
        assert_eq!(npm(&machine.environment, &Looks::default()), None);
    }
}
