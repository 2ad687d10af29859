//! Programs in C and Python on the bus: with each other, with the Packager, and when one of them dies.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::world::{Outcome, World, wait_until};

/// What a C program that is linked to the static library needs beside it; also in `ipc/c/bolide.pc`.
const STATIC_NEEDS: [&str; 4] = ["-lgcc_s", "-lpthread", "-lm", "-ldl"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn python() -> PathBuf {
    root().join("ipc/python")
}

/// Where `libbolide.so` and `libbolide.a` are. Cargo builds no C library for a test, so it is asked to.
fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        let profile = tests.parent().unwrap().parent().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--offline", "-p", "ipc-c"]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(root());
        Outcome::of(&mut cargo).succeeds();
        profile.to_owned()
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Linked {
    Static,
    Shared,
    /// Statically, with the address sanitizer in the C part and around the library's allocations.
    Sanitized,
}

/// Compiles an example; every warning is an error.
fn compile(world: &World, name: &str, linked: Linked) -> PathBuf {
    let program = world.place(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O1"]);
    cc.arg("-I").arg(root().join("ipc/c/include")).arg("-o").arg(&program);
    cc.arg(root().join("ipc/c/examples").join(format!("{name}.c")));
    if linked == Linked::Sanitized {
        cc.args(["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    }
    match linked {
        Linked::Shared => {
            cc.arg("-L").arg(libraries()).arg("-lbolide");
            cc.arg(format!("-Wl,-rpath,{}", libraries().display()));
        }
        Linked::Static | Linked::Sanitized => {
            cc.arg(libraries().join("libbolide.a")).args(STATIC_NEEDS);
        }
    }
    match cc.output() {
        Err(error) => panic!("`cc` is missing ({error}): run deploy/needs"),
        Ok(output) if !output.status.success() => {
            panic!("{name}.c: {}", String::from_utf8_lossy(&output.stderr))
        }
        Ok(_) => program,
    }
}

fn socket(world: &World) -> PathBuf {
    world.place("run/bolide/bolide.sock")
}

/// `python3` with the package and the library, in this world.
fn python_command(world: &World, script: impl AsRef<Path>) -> Command {
    let found = Command::new("python3").arg("--version").output();
    assert!(found.is_ok(), "`python3` is missing: run deploy/needs");
    let mut command = world.command("python3");
    command.env("PYTHONPATH", python()).env("BOLIDE_LIBRARY", libraries().join("libbolide.so"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("BOLIDE_TEST_SOCKET", socket(world));
    command.arg(python().join(script));
    command
}

/// A program that runs until the test ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_agent(world: &World, name: &str) {
    wait_until(name, || world.bolide(&["agents", "--json"]).stdout.contains(name));
}

/// What an agent is held to, and who said so.
fn limits_of(world: &World, name: &str) -> Value {
    let shown = world.bolide(&["agents", name, "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["agents"][0]["limits"].clone()
}

fn c_server(world: &World, linked: Linked) -> Running {
    let running =
        Running::start(world.command(compile(world, "server", linked)).arg(socket(world)));
    wait_for_agent(world, "demo.c.server");
    running
}

fn python_server(world: &World) -> Running {
    python_server_that_says(world, Stdio::inherit())
}

fn python_server_that_says(world: &World, errors: Stdio) -> Running {
    let mut command = python_command(world, "examples/server.py");
    let running = Running::start(command.arg(socket(world)).stderr(errors));
    wait_for_agent(world, "demo.py.server");
    running
}

/// How a client ended: its exit code, its answer, and what else it said.
#[derive(Debug)]
struct Answer {
    code: i32,
    payload: Vec<u8>,
    stderr: String,
}

impl Answer {
    fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { code, payload: output.stdout, stderr }
    }

    #[track_caller]
    fn ends_with(self, code: i32, word: &str) -> Self {
        let text = String::from_utf8_lossy(&self.payload).into_owned() + &self.stderr;
        assert!(self.code == code && text.contains(word), "{code}, `{word}`: {self:?} {text}");
        self
    }
}

fn ask_from_c(world: &World, client: &Path, words: &[&str]) -> Answer {
    Answer::of(world.command(client).arg(socket(world)).args(words))
}

fn ask_from_python(world: &World, words: &[&str]) -> Answer {
    let mut command = python_command(world, "examples/client.py");
    Answer::of(command.arg(socket(world)).args(words))
}

#[test]
fn python_asks_a_server_in_c_and_everything_else_that_a_client_does() {
    let world = World::new();
    let _daemon = world.daemon();
    let _c = c_server(&world, Linked::Static);
    let _python = python_server(&world);
    Outcome::of(&mut python_command(&world, "tests/bus.py")).succeeds();
}

#[test]
fn c_asks_servers_in_python_and_in_c_over_the_shared_library() {
    let world = World::new();
    let _daemon = world.daemon();
    let _c = c_server(&world, Linked::Shared);
    let _python = python_server(&world);
    let client = compile(&world, "client", Linked::Shared);
    for tool in ["py.echo", "c.echo"] {
        let echoed = ask_from_c(&world, &client, &[tool, "a=b"]).ends_with(0, "");
        assert_eq!(echoed.payload, b"\xa1x\x01ax\x01b");
        assert_eq!(echoed.stderr, "progress 1\n");
    }
    let refused = ask_from_c(&world, &client, &["py.add", "a=b"]);
    refused.ends_with(1, "bad-arguments").ends_with(1, "give an array of integers");
    ask_from_c(&world, &client, &["nobody.there"]).ends_with(31, "no-such-target");
}

#[test]
fn c_reads_a_topic_of_python_in_an_event_loop_of_its_own() {
    let world = World::new();
    let _daemon = world.daemon();
    let _python = python_server(&world);
    let listen = compile(&world, "listen", Linked::Static);
    let mut command = world.command(listen);
    command.arg(socket(&world)).args(["demo.*.calls", "3"]).stdout(Stdio::piped());
    let mut listening = Running::start(&mut command);
    let mut lines = BufReader::new(listening.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    for _ in 0..3 {
        ask_from_python(&world, &["py.echo"]).ends_with(0, "");
        assert_eq!(lines.next().unwrap().unwrap(), "demo.py.calls py.echo");
    }
    assert!(listening.0.wait().unwrap().success());
}

/// CBOR as JSON, by the Python package.
fn decoded(world: &World, bytes: &[u8]) -> Value {
    use std::io::Write;
    let mut command = python_command(world, "bolide/cbor.py");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn both_languages_get_the_packagers_answer() {
    let world = World::new();
    let _daemon = world.daemon();
    let client = compile(&world, "client", Linked::Static);
    let words = ["pkg.info", "package=npm:tree"];
    let from_c = ask_from_c(&world, &client, &words).ends_with(0, "");
    let from_python = ask_from_python(&world, &words).ends_with(0, "");
    assert_eq!(from_c.payload, from_python.payload);
    let answer = decoded(&world, &from_c.payload);
    assert_eq!(answer["version"], "2.0.0");
    assert_eq!(answer["versions_count"], 2);
    let refused = ask_from_c(&world, &client, &["pkg.info", "package=npm:no-such"]);
    let refused = decoded(&world, &refused.ends_with(1, "").payload);
    assert_eq!(refused["code"], "unknown-package");
    ask_from_python(&world, &["pkg.info", "package=npm:no-such"]).ends_with(1, "no-such");
}

/// Starts a command, and returns once it has said that the work goes on.
fn start_and_await_progress(
    command: &mut Command,
) -> (Running, BufReader<std::process::ChildStderr>) {
    let mut running = Running::start(command.stderr(Stdio::piped()).stdout(Stdio::null()));
    let mut stderr = BufReader::new(running.0.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("progress"), "{line}");
    (running, stderr)
}

#[test]
fn server_in_c_that_is_killed_ends_the_wait_of_python() {
    let world = World::new();
    let _daemon = world.daemon();
    let mut server = c_server(&world, Linked::Static);
    let mut command = python_command(&world, "examples/client.py");
    command.arg(socket(&world)).arg("c.slow");
    let (mut client, stderr) = start_and_await_progress(&mut command);
    server.kill();
    assert_eq!(client.0.wait().unwrap().code(), Some(3));
    let said: Vec<String> = stderr.lines().map(Result::unwrap).collect();
    assert!(said.iter().any(|line| line.contains("peer-gone")), "{said:?}");
}

#[test]
fn server_in_python_that_is_killed_ends_the_wait_of_c() {
    let world = World::new();
    let _daemon = world.daemon();
    let mut server = python_server(&world);
    let mut command = world.command(compile(&world, "client", Linked::Static));
    command.arg(socket(&world)).arg("py.slow");
    let (mut client, stderr) = start_and_await_progress(&mut command);
    let limits = limits_of(&world, "demo.c.client");
    assert_eq!(limits["links"]["value"], 1, "{limits}");
    assert_eq!(limits["links"]["set_by"], "set by its own manifest");
    assert_eq!(limits["bytes"]["set_by"], "built in", "it asks for nothing there");
    server.kill();
    assert_eq!(client.0.wait().unwrap().code(), Some(21));
    let said: Vec<String> = stderr.lines().map(Result::unwrap).collect();
    assert!(said.iter().any(|line| line.contains("peer-gone")), "{said:?}");
}

#[test]
fn router_that_is_killed_ends_the_wait_of_c() {
    let world = World::new();
    let mut daemon = world.daemon();
    // It loses its router as well, and would say so amid the tests' own words.
    let _server = python_server_that_says(&world, Stdio::null());
    let mut command = world.command(compile(&world, "client", Linked::Static));
    command.arg(socket(&world)).arg("py.slow");
    let (mut client, _stderr) = start_and_await_progress(&mut command);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert_eq!(client.0.wait().unwrap().code(), Some(23));
}

#[test]
fn arguments_that_are_wrong_are_refused_by_every_function() {
    let world = World::new();
    for linked in [Linked::Shared, Linked::Sanitized] {
        Outcome::of(&mut world.command(compile(&world, "arguments", linked))).succeeds();
    }
}

#[test]
fn address_sanitizer_finds_nothing_in_a_server_and_a_client() {
    let world = World::new();
    let _daemon = world.daemon();
    let mut server = c_server(&world, Linked::Sanitized);
    let client = compile(&world, "client", Linked::Sanitized);
    for words in [&["c.echo", "a=b"][..], &["c.echo"], &["pkg.info", "package=npm:tree"]] {
        ask_from_c(&world, &client, words).ends_with(0, "");
    }
    ask_from_c(&world, &client, &["c.stop"]).ends_with(0, "");
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn ping_pong_prints_its_figures_in_both_languages() {
    let world = World::new();
    let _daemon = world.daemon();
    let pingpong = compile(&world, "pingpong", Linked::Static);
    let c = |role: &str| {
        let mut command = world.command(&pingpong);
        command.arg(role).arg(socket(&world)).args(["1000", "64"]);
        command
    };
    let in_python = |role: &str| {
        let mut command = python_command(&world, "examples/pingpong.py");
        command.arg(role).arg(socket(&world)).args(["1000", "64"]);
        command
    };
    for language in ["c", "py"] {
        let make = |role: &str| if language == "c" { c(role) } else { in_python(role) };
        let mut server = Running::start(&mut make("server"));
        wait_for_agent(&world, &format!("demo.{language}.pong"));
        let figures = Outcome::of(&mut make("client")).succeeds().json();
        assert!(figures["p50_ns"].as_u64() <= figures["p99_ns"].as_u64());
        assert_eq!(figures["bytes"], 64);
        assert!(server.0.wait().unwrap().success());
    }
}

#[test]
fn package_is_tested_and_installed_without_a_registry() {
    let world = World::new();
    for script in ["tests/test_cbor.py", "tests/test_library.py"] {
        Outcome::of(&mut python_command(&world, script)).succeeds();
    }
    let copy = world.place("python");
    Outcome::of(Command::new("cp").arg("-r").arg(python()).arg(&copy)).succeeds();
    let library = libraries().join("libbolide.so");
    std::fs::copy(&library, copy.join("bolide/libbolide.so")).unwrap();
    let target = world.place("installed");
    let mut pip = world.command("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]);
    Outcome::of(pip.arg(&target).arg(&copy)).succeeds();
    let mut program = world.command("python3");
    program.env("PYTHONPATH", &target).args(["-c", "import bolide; bolide.Client('demo')"]);
    Outcome::of(&mut program).succeeds();
}
