//! A daemon in a directory of its own, armed with a fault point or not, and what is counted of it from outside: lanes,
//! agents, descriptors, mappings, processes, named memory.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ipc::client::Client;
use ipc::manifest::AgentManifest;
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// What arms a process; see `ipc::fault`.
pub(crate) const FAULT: &str = "BOLIDE_FAULT";
/// Only a hang takes longer.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Where named memory lies.
const NAMED_MEMORY: &str = "/dev/shm";

/// How a daemon is started.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) hosted: &'static str,
    pub(crate) routed: &'static str,
}

/// The point at which one process of a bus is to die.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) point: &'static str,
    pub(crate) skip: u64,
}

pub(crate) struct Bus {
    directory: tempfile::TempDir,
    setup: Setup,
    process: Child,
    metrics: String,
    exchange: Cell<Option<u32>>,
}

/// What must be the same before and after somebody's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) lanes: u64,
    pub(crate) guests: u64,
    /// Of the daemon and of the exchange: open descriptors, and mappings of shared memory where they can be seen.
    pub(crate) held: [(u64, u64); 2],
    pub(crate) resident_bytes: u64,
}

impl State {
    /// Whether nothing is left of what came after `before`. Descriptors may be fewer: whoever asked last has left.
    pub(crate) fn is_back_at(&self, before: &Self) -> bool {
        let held = self.held.iter().zip(&before.held);
        (self.lanes, self.guests) == (before.lanes, before.guests)
            && held.into_iter().all(|(now, then)| now.0 <= then.0 && now.1 <= then.1)
    }
}

impl Bus {
    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(setup: Setup) -> Self {
        let bus = Self::spawned(setup, None);
        let mut bus = bus;
        assert!(bus.comes_up(), "the daemon ended: {}", bus.log());
        bus
    }

    /// Starts one of which a process is to die, and waits until it is ready or dead.
    pub(crate) fn start_armed(setup: Setup, fault: Fault) -> Self {
        let mut bus = Self::spawned(setup, Some(fault));
        bus.comes_up();
        bus
    }

    /// Starts another one in the same place, unarmed.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(self.directory.path(), self.setup, None);
        assert!(self.comes_up(), "the daemon ended: {}", self.log());
    }

    fn spawned(setup: Setup, fault: Option<Fault>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = spawn(directory.path(), setup, fault);
        let (metrics, exchange) = (String::new(), Cell::new(None));
        Self { directory, setup, process, metrics, exchange }
    }

    /// True when it is ready, false when it has ended.
    fn comes_up(&mut self) -> bool {
        let until = patience();
        loop {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if let Some(status) = self.status()
                && status["phase"] == "ready"
            {
                self.metrics = status["metrics_addr"].as_str().unwrap().to_owned();
                return true;
            }
            assert!(Instant::now() < until, "the daemon is never ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn status(&self) -> Option<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bolide"));
        let arguments = places(command.args(["status", "--json"]), self.directory.path());
        let output = arguments.output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/bolide.sock")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        self.try_client(name).unwrap()
    }

    pub(crate) fn try_client(&self, name: &str) -> Result<Client, ipc::client::ClientError> {
        Client::connect(&self.socket(), &manifest(name), &[])
    }

    /// Whether the process that was armed is the one that has come to its point.
    pub(crate) fn has_fired(&self) -> bool {
        !token(self.directory.path()).exists()
    }

    /// The process of a hosted agent that is on the bus.
    pub(crate) fn hosted_pid(&self, name: &str) -> Option<u32> {
        let status = self.status()?;
        let found = status["agents"].as_array()?.iter().find(|agent| agent["name"] == name)?;
        u32::try_from(found["pid"].as_u64()?).ok()
    }

    /// Looks for the exchange's process anew, once it has made what it works with.
    pub(crate) fn find_exchange(&self) {
        let is_ready =
            |line: &str| line.contains("ready id=") && line.contains("agent=\"exchange\"");
        eventually("the exchange is ready", || self.log().lines().any(is_ready));
        self.exchange.set(self.hosted_pid("exchange"));
    }

    /// How the daemon ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut exit = None;
        eventually("the daemon ends", || {
            exit = self.process.try_wait().unwrap();
            exit.is_some()
        });
        exit.unwrap()
    }

    pub(crate) fn state(&self) -> State {
        let text = self.metrics_text().expect("a daemon that serves");
        let number = |series| number_in(&text, series);
        let daemon = (number("process_open_fds"), mappings(self.pid()));
        let exchange = self.exchange.get().map(|pid| {
            let place = self.directory.path();
            (descriptors(pid, place), mappings(pid))
        });
        State {
            lanes: number("bolide_bus_lanes"),
            guests: number("bolide_agents{state=\"guest\"}"),
            held: [daemon, exchange.unwrap_or_default()],
            resident_bytes: number("process_resident_memory_bytes"),
        }
    }

    /// The state once there are so many guests: a command that asked something a moment ago may be there still.
    pub(crate) fn calm(&self, guests: u64) -> State {
        let mut now = self.state();
        eventually("whoever asked has left", || {
            now = self.state();
            now.guests == guests
        });
        now
    }

    /// One sample of the metrics, by its whole name with labels; 0 where there is none.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        number_in(&self.metrics_text().expect("a daemon that serves"), series)
    }

    fn metrics_text(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.metrics)?;
        stream.set_read_timeout(Some(WATCHDOG))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Waits until nothing is left of what came after `before`.
    pub(crate) fn settles(&self, what: &str, before: &State) {
        let mut now = *before;
        let mut is_back = || {
            now = self.state();
            now.is_back_at(before)
        };
        let until = patience();
        while !is_back() {
            if Instant::now() > until {
                panic!("{what}: never back at {before:?}, still {now:?}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Processes that serve this bus or have served it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let place = self.directory.path().display().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&place)
        })
        .collect()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // One that is asked to stop takes its named memory with it.
        if !std::thread::panicking() && self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.process.id(), Signal::TERM);
            self.wait();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
    }
}

fn spawn(directory: &Path, setup: Setup, fault: Option<Fault>) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bolide"));
    command.args(["serve", "--metrics-addr", "127.0.0.1:0"]);
    if let Some(fault) = fault {
        command.env(FAULT, armed(fault, directory));
    }
    places(&mut command, directory)
        .env("BOLIDE_HOSTED", setup.hosted)
        .env("BOLIDE_BUS_ROUTED", setup.routed)
        .env("BOLIDE_DRAIN_SECONDS", "2")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

/// What a process is armed with: its token is made in `directory`.
pub(crate) fn armed(fault: Fault, directory: &Path) -> String {
    let token = token(directory);
    std::fs::write(&token, fault.point).unwrap();
    format!("{}:{}:{}", fault.point, fault.skip, token.display())
}

pub(crate) fn token(directory: &Path) -> PathBuf {
    directory.join("token")
}

/// Everything in one directory, nothing of the person who runs the tests.
fn places<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    command
        .env("HOME", directory)
        .env("BOLIDE_LOG", "debug")
        .env_remove("XDG_CONFIG_HOME")
        .arg("--runtime-dir")
        .arg(directory.join("run"))
        .arg("--state-dir")
        .arg(directory.join("state"))
}

fn number_in(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |number| number.trim().parse::<f64>().unwrap() as u64)
}

/// Open descriptors of a process but for files below `place`: logs and journals stay open when whoever wrote to them has
/// gone, as many as the exchange allows itself.
fn descriptors(pid: u32, place: &Path) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let opened = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    opened.filter(|path| !path.starts_with(place)).count() as u64
}

/// Mappings of shared memory, 0 where the system does not show them.
fn mappings(pid: u32) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter(|line| line.contains("/memfd:")).count() as u64
}

/// Named memory of this user that no living daemon holds.
pub(crate) fn orphaned_mirrors() -> Vec<PathBuf> {
    let prefix = format!("bolide-directory-{}-", rustix::process::geteuid().as_raw());
    let entries = std::fs::read_dir(NAMED_MEMORY).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|entry| entry.path())
        .filter(|path| {
            let Ok(file) = std::fs::File::open(path) else { return false };
            let lock = rustix::fs::FlockOperation::NonBlockingLockShared;
            rustix::fs::flock(&file, lock).is_ok()
        })
        .collect()
}

pub(crate) fn manifest(name: &str) -> AgentManifest {
    AgentManifest {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        category: "test".to_owned(),
        priority: 5,
        ..AgentManifest::default()
    }
}

pub(crate) fn patience() -> Instant {
    Instant::now() + WATCHDOG
}

/// Asks again and again until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = patience();
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Stops a process; returns when every thread of it stands still, which is a moment after the signal.
pub(crate) fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let is_still = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        state == Some("T")
    };
    eventually("it stands still", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.flatten().all(is_still)
    });
}

/// Numbers that look random, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A number out of the environment, for longer runs.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
