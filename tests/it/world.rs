//! A machine of its own for one test: a home, caches, state, a project, and the registry on loopback that all clients are
//! configured to use.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hw::trees::{Machine, Tree};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::packages::{Npm, Python, RustCrate};
use super::registry::{Registry, hex};

/// How long a test waits for something that ought to happen at once; only a hang reaches it.
const WATCHDOG: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) registry: Registry,
    directory: tempfile::TempDir,
}

impl World {
    /// A world whose registry holds two small trees of packages in each ecosystem.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// The same in memory, where waiting for the disk costs nothing.
    pub(crate) fn quick() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(place: &Path) -> Self {
        let registry = Registry::start();
        let leaf = |version| Npm { name: "leaf", version, dependencies: &[] };
        registry.npm(&[leaf("1.0.0"), leaf("1.1.0"), leaf("2.0.0")]);
        let tree = |version, dependencies| Npm { name: "tree", version, dependencies };
        registry.npm(&[tree("1.0.0", &[("leaf", "^1.0.0")]), tree("2.0.0", &[("leaf", "^2.0.0")])]);
        let stone = |version| Python { name: "stone", version, requires: &[] };
        registry.pypi(&[stone("1.0"), stone("1.5"), stone("2.0")]);
        registry.pypi(&[Python { name: "wall", version: "1.0", requires: &["stone<2"] }]);
        registry.pypi(&[Python { name: "tower", version: "1.0", requires: &["stone>=2"] }]);
        let grain = |version| RustCrate { name: "grain", version, dependencies: &[] };
        registry.cargo(&[grain("0.1.0"), grain("0.1.5"), grain("0.2.0")]);
        registry.cargo(&[RustCrate {
            name: "bread",
            version: "1.0.0",
            dependencies: &[("grain", "^0.1")],
        }]);
        let directory = tempfile::tempdir_in(place).unwrap();
        for place in ["home", "project", "cargo", "run"] {
            std::fs::create_dir(directory.path().join(place)).unwrap();
        }
        let world = Self { registry, directory };
        let configuration = format!(
            "[source.crates-io]\nreplace-with = \"here\"\n\n[source.here]\nregistry = \"sparse+{}/index/\"\n",
            world.registry.base()
        );
        std::fs::write(world.place("cargo").join("config.toml"), configuration).unwrap();
        world
    }

    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.place("project")
    }

    pub(crate) fn file(&self, name: &str, content: &str) {
        let path = self.project().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.project().join(name)).unwrap()
    }

    /// Runs `program` as somebody who lives in this world.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let kept = ["PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
        let variables: Vec<(&str, String)> =
            kept.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect();
        let rustup = std::env::var("HOME").map(|home| format!("{home}/.rustup"));
        command.env_clear().envs(rustup.map(|rustup| ("RUSTUP_HOME", rustup)));
        command
            .envs(variables)
            .env("HOME", self.place("home"))
            .env("XDG_CACHE_HOME", self.place("home/cache"))
            .env("XDG_STATE_HOME", self.place("home/state"))
            .env("XDG_CONFIG_HOME", self.place("home/config"))
            .env("BOLIDE_RUNTIME_DIR", self.place("run/bolide"))
            .env("CARGO_HOME", self.place("cargo"))
            .env("npm_config_registry", format!("{}/npm/", self.registry.base()))
            .env("PIP_INDEX_URL", format!("{}/simple/", self.registry.base()))
            .env("NO_PROXY", "127.0.0.1")
            .current_dir(self.project());
        command
    }

    /// Runs `bolide` with these arguments in the project.
    pub(crate) fn bolide(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(bolide_program()).args(arguments))
    }

    /// Runs any program in the project.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(program).args(arguments))
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_on(Path::new("/"))
    }

    /// The same, for which `tree` is the machine.
    pub(crate) fn daemon_on(&self, tree: &Path) -> Daemon {
        let mut command = self.command(bolide_program());
        command.args(["serve", "--metrics-addr", "127.0.0.1:0", "--sysfs-root"]).arg(tree);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let daemon = Daemon { child };
        wait_until("the daemon hosts the packager", || {
            let agents = self.bolide(&["agents", "--json"]);
            agents.code == 0 && agents.stdout.contains("\"packager\"")
        });
        daemon
    }

    /// Kinds, modes, link targets and contents of everything in the project, as one digest.
    pub(crate) fn tree(&self) -> String {
        tree(&self.project())
    }
}

/// The digest of a directory's whole content.
pub(crate) fn tree(directory: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let mut hasher = Sha256::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(place) = pending.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&place).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let path = entry.path();
            let metadata = path.symlink_metadata().unwrap();
            hasher.update(path.strip_prefix(directory).unwrap().as_os_str().as_encoded_bytes());
            hasher.update(metadata.permissions().mode().to_le_bytes());
            if metadata.is_symlink() {
                hasher.update(std::fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes());
            } else if metadata.is_dir() {
                pending.push(path);
            } else {
                hasher.update(std::fs::read(&path).unwrap());
            }
        }
    }
    hex(&hasher.finalize())
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Runs a command to its end, without input.
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Asserts the exit code and that what was said mentions each of `words`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            let said = self.stderr.contains(word) || self.stdout.contains(word);
            assert!(said, "`{word}` is not in {self:#?}");
        }
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A running daemon; killed when the test ends.
pub(crate) struct Daemon {
    pub(crate) child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a tree of two cores, a performance core 0 and an efficient core 1, that is so warm.
pub(crate) fn machine_at(place: PathBuf, millicelsius: &str) -> Tree {
    std::fs::create_dir(&place).unwrap();
    let tree = Tree::at(place);
    Machine::virtual_machine().write(&tree);
    tree.file("sys/devices/cpu_core/cpus", "0").file("sys/devices/cpu_atom/cpus", "1");
    tree.zone(0, "x86_pkg_temp", millicelsius);
    tree
}

/// Polls until `holds`; the watchdog ends a hang.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WATCHDOG, "{what}: not within {WATCHDOG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test.
pub(crate) fn bolide_program() -> PathBuf {
    program_beside_tests("bolide")
}

/// A program that `cargo test --workspace` builds beside the tests.
pub(crate) fn program_beside_tests(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join(name);
    assert!(program.exists(), "{} is not built: run `cargo test --workspace`", program.display());
    program
}

/// Says what this run does not show, past the harness, which keeps to itself what passing tests print.
pub(crate) fn not_shown(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "not shown here: {why}");
}
