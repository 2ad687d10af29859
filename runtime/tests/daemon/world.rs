//! A daemon in a directory of its own, and the ways to look at it from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc::client::{Client, ClientError};
use ipc::manifest::AgentManifest;
use ipc::socket::Connection;
use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

/// Names the socket to the process that is to be killed.
pub(crate) const VICTIM: &str = "BOLIDE_TEST_VICTIM_SOCKET";
/// Only a hang takes longer.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How a daemon is started.
pub(crate) struct Options {
    pub(crate) hosted: &'static str,
    pub(crate) dev: bool,
    pub(crate) drain_seconds: u32,
    pub(crate) routed: &'static str,
}

pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    process: Child,
    metrics: String,
}

impl Daemon {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(options: &Options) -> Self {
        Self::start_with(options, &[])
    }

    /// The same, with more variables.
    pub(crate) fn start_with(options: &Options, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_bolide"));
        let process = spawn(program, directory.path(), options, variables);
        let mut daemon = Self { directory, process, metrics: String::new() };
        daemon.wait_until_ready();
        daemon
    }

    /// Starts one whose state lies on a file system of this size; nothing where the machine does not allow it.
    pub(crate) fn start_on_small_disk(options: &Options, size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let tried = on_small_disk(&state, size, "true").output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("not shown here: a small file system needs rights: {tried:?}");
            return None;
        }
        let program = on_small_disk(&state, size, "exec \"$0\" \"$@\"");
        let process = spawn(program, directory.path(), options, &[]);
        let mut daemon = Self { directory, process, metrics: String::new() };
        daemon.wait_until_ready();
        Some(daemon)
    }

    /// What the daemon and its agents have written down.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Starts another one in the same place.
    pub(crate) fn restart(&mut self, options: &Options) {
        let program = Command::new(env!("CARGO_BIN_EXE_bolide"));
        self.process = spawn(program, self.directory.path(), options, &[]);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let directory = self.directory.path().to_owned();
        let mut status = Value::Null;
        eventually("the daemon is ready", || {
            if let Some(exit) = self.process.try_wait().unwrap() {
                let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                panic!("the daemon ended with {exit}: {log}");
            }
            let (code, stdout, _) = run(&directory, &["status", "--json"]);
            status = serde_json::from_str(&stdout).unwrap_or_default();
            code == Some(0) && status["phase"] == "ready"
        });
        self.metrics = status["metrics_addr"].as_str().unwrap().to_owned();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/bolide.sock")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// A client of this name. An earlier one of the name may be dropped and still be on the bus: a process that another test
    /// starts at that moment has copies of this one's sockets.
    pub(crate) fn client(&self, name: &str) -> Client {
        let mut client = None;
        eventually("the name is free", || {
            match Client::connect(&self.socket(), &client_manifest(name), &[]) {
                Err(ClientError::Refused { code, .. }) if code == "name-taken" => {}
                connected => client = Some(connected.unwrap()),
            }
            client.is_some()
        });
        client.unwrap()
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection::connect(&self.socket()).unwrap()
    }

    /// Runs another command beside the daemon: exit code, stdout, stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        run(self.directory.path(), arguments)
    }

    pub(crate) fn status(&self) -> Value {
        let (code, stdout, stderr) = self.run(&["status", "--json"]);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    pub(crate) fn agent(&self, name: &str) -> Option<Value> {
        let status = self.status();
        status["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == name).cloned()
    }

    pub(crate) fn agent_pid(&self, name: &str) -> u32 {
        let mut pid = None;
        eventually("the agent is on the bus", || {
            let found = self.agent(name).and_then(|agent| agent["pid"].as_u64());
            pid = found.and_then(|pid| u32::try_from(pid).ok());
            pid.is_some()
        });
        pid.unwrap()
    }

    /// One sample of `/metrics`, by its whole name with labels.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no `{series}` in\n{text}")).parse().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Open descriptors of the daemon: those of shared memory (where `/proc` lets us see), and all. The second
    /// may be larger for a moment, while the connection of somebody who just asked is being closed.
    pub(crate) fn descriptors(&self) -> (usize, usize) {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", self.pid())) else {
            return (0, self.metric("process_open_fds") as usize);
        };
        let targets: Vec<_> =
            entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
        let memory = targets.iter().filter(|target| target.starts_with("/memfd:control"));
        (memory.count(), targets.len())
    }

    /// A client in a process of its own, to be killed.
    pub(crate) fn victim(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, self.socket())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The exit code, or none after a signal.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut exit = None;
        eventually("the daemon ends", || {
            exit = self.process.try_wait().unwrap();
            exit.is_some()
        });
        exit.unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            eprintln!("--- the daemon's log\n{}", log.unwrap_or_default());
        }
    }
}

/// `unshare`, as whose child a shell runs in name spaces of its own, with a small file system in memory at this place; then the
/// rest of the command.
fn on_small_disk(state: &std::path::Path, size: &str, then: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    let place = state.display();
    let mount = format!("mount -t tmpfs -o size={size},mode=700 bolide '{place}'");
    command.arg(format!("{mount} && {then}")).arg(env!("CARGO_BIN_EXE_bolide"));
    command
}

fn spawn(
    mut command: Command,
    directory: &std::path::Path,
    options: &Options,
    variables: &[(&str, &str)],
) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("log"));
    command.args(["serve", "--metrics-addr", "127.0.0.1:0"]);
    if options.dev {
        command.arg("--dev");
    }
    places(&mut command, directory)
        .env("BOLIDE_HOSTED", options.hosted)
        .env("BOLIDE_BUS_ROUTED", options.routed)
        .envs(variables.iter().copied())
        .env("BOLIDE_DRAIN_SECONDS", options.drain_seconds.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

fn run(directory: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bolide"));
    let output = places(command.args(arguments), directory).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Everything in one directory, nothing of the person who runs the tests.
fn places<'a>(command: &'a mut Command, directory: &std::path::Path) -> &'a mut Command {
    command
        .env("HOME", directory)
        .env("BOLIDE_LOG", "debug")
        .env_remove("XDG_CONFIG_HOME")
        .arg("--runtime-dir")
        .arg(directory.join("run"))
        .arg("--state-dir")
        .arg(directory.join("state"))
}

pub(crate) fn client_manifest(name: &str) -> AgentManifest {
    AgentManifest {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        category: "test".to_owned(),
        priority: 5,
        ..AgentManifest::default()
    }
}

pub(crate) fn cbor(value: impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).unwrap();
    bytes
}

pub(crate) fn patience() -> Instant {
    Instant::now() + WATCHDOG
}

/// The calling thread, and what it starts, on one processor.
pub(crate) fn share_one_processor() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|index| allowed.is_set(*index)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

/// Asks again and again until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = patience();
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

/// Says what this run does not show, past the harness, which keeps to itself what passing tests print.
pub(crate) fn not_shown(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "not shown here: {why}");
}
