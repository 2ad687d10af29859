//! What is labelled io_uring enters io_uring: counted from outside, by `strace`, in every process that takes part.
//!
//! Where there is no `strace` (a package of that name), or it may not attach, this says so and proves nothing; the ring's own
//! counters are looked at in `ipc` (`every_message_of_class_high_passes_through_the_readers_ring`).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ipc::class::Class;
use ipc::client::{Client, LinkOptions};
use ipc::exchange::log::{Logs, Options};
use ipc::link::Outcome;
use rustix::process::Signal;

use super::ECHO;
use super::world::{Daemon, client_manifest, eventually, patience, signal};

/// Names the socket to the process that calls.
const SOCKET: &str = "BOLIDE_TEST_TRACED_SOCKET";
/// Says of which class its link is to be.
const CLASS: &str = "BOLIDE_TEST_TRACED_CLASS";
const CALLS: usize = 200;
/// Logs that are synced at once: more than one waits while one is synced.
const LOGS: usize = 6;
const APPENDS: usize = 40;

/// A tracer of one process, with all its threads.
struct Trace {
    tracer: Child,
    directory: tempfile::TempDir,
}

fn strace(calls: &str, into: PathBuf) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-e", &format!("trace={calls}"), "-o"]).arg(into);
    command
}

impl Trace {
    /// Attaches, and returns once it has; nothing where that cannot be, which is said.
    fn attach(pid: u32, calls: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = strace(calls, directory.path().join("trace"));
        let started = command.args(["-p", &pid.to_string()]).stderr(Stdio::piped()).spawn();
        let Ok(mut tracer) = started else {
            eprintln!("there is no strace here: what enters the kernel is not counted");
            return None;
        };
        let mut said = String::new();
        BufReader::new(tracer.stderr.take().unwrap()).read_line(&mut said).unwrap();
        if said.contains(" attached") {
            return Some(Self { tracer, directory });
        }
        eprintln!("strace cannot attach: {}", said.trim_end());
        tracer.wait().unwrap();
        None
    }

    /// Detaches; what was seen.
    fn seen(mut self) -> String {
        signal(self.tracer.id(), Signal::INT);
        self.tracer.wait().unwrap();
        std::fs::read_to_string(self.directory.path().join("trace")).unwrap()
    }
}

fn count(trace: &str, call: &str) -> usize {
    // One that was interrupted by another thread's has a second line, which has no bracket behind the name.
    trace.lines().filter(|line| line.contains(&format!(" {call}("))).count()
}

/// Calls over a link of a class; how often opener and acceptor entered a ring.
fn entered(class: Class) -> Option<(usize, usize)> {
    let daemon = Daemon::start(&ECHO);
    let acceptor = Trace::attach(daemon.agent_pid("echo"), "io_uring_enter")?;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let called = strace("io_uring_enter", file.clone())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced::caller", "--nocapture"])
        .env(SOCKET, daemon.socket())
        .env(CLASS, class.name())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(called.success());
    let opener = std::fs::read_to_string(file).unwrap();
    Some((count(&opener, "io_uring_enter"), count(&acceptor.seen(), "io_uring_enter")))
}

/// Not a test of its own: the opener of the next one.
#[test]
fn caller() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let class = Class::from_name(&std::env::var(CLASS).unwrap()).unwrap();
    let manifest = client_manifest("test.caller");
    let mut client = Client::connect(socket.as_ref(), &manifest, &[]).unwrap();
    let mut link = client.open_link("echo", LinkOptions { class }).unwrap();
    assert_eq!(link.class(), class, "{:?}", link.terms());
    for _ in 0..CALLS {
        let answer = link.call("echo.echo", b"x", &[], patience(), |_| {}).unwrap();
        assert_eq!(answer, Outcome::Done(b"x".to_vec()));
    }
}

#[test]
fn both_processes_of_a_high_link_enter_io_uring_for_every_message() {
    if let Err(error) = ipc::class::high::available() {
        return eprintln!("no rings here: {error}");
    }
    let Some((opener, acceptor)) = entered(Class::High) else { return };
    eprintln!(
        "{CALLS} calls, class high: io_uring_enter {opener} by opener, {acceptor} by acceptor"
    );
    assert!(opener >= CALLS && acceptor >= CALLS, "{opener} and {acceptor}");
    // The same over shared memory alone shows that it is the messages that were counted.
    let Some((opener, acceptor)) = entered(Class::Critical) else { return };
    eprintln!("{CALLS} calls, class critical: {opener} and {acceptor}");
    assert_eq!((opener, acceptor), (0, 0));
}

#[test]
fn logs_that_are_synced_together_enter_io_uring() {
    if let Err(error) = ipc::uring::try_ring() {
        return eprintln!("no rings here: {error}");
    }
    let daemon = Daemon::start(&super::logs::EXCHANGE);
    let mut writers = Vec::new();
    for number in 0..LOGS {
        let mut client = daemon.client(&format!("test.writer-{number}"));
        let mut logs = None;
        eventually("the exchange takes links", || {
            logs = Logs::open(&mut client).ok();
            logs.is_some()
        });
        let (mut logs, name) = (logs.unwrap(), format!("log-{number}"));
        // What starts is started before anything is counted: it tries a ring.
        logs.make(&name, Options::default(), patience()).unwrap();
        logs.append_synced(&name, b"first", patience()).unwrap();
        writers.push((client, logs, name));
    }
    let exchange = daemon.agent_pid("exchange");
    let Some(trace) = Trace::attach(exchange, "io_uring_enter,fdatasync") else { return };
    std::thread::scope(|scope| {
        for (_, logs, name) in &mut writers {
            scope.spawn(move || {
                for _ in 0..APPENDS {
                    logs.append_synced(name, b"kept", patience()).unwrap();
                }
            });
        }
    });
    let seen = trace.seen();
    let (ring, plain) = (count(&seen, "io_uring_enter"), count(&seen, "fdatasync"));
    let all = LOGS * APPENDS;
    eprintln!("{all} synced appends to {LOGS} logs: io_uring_enter {ring}, fdatasync {plain}");
    assert!(ring > 0, "{plain} of fdatasync, and none through a ring");
}
