//! A file of the kernel that is never read to its end: the governor's thread hangs in it. That is seen from outside, and holds up neither
//! what the daemon answers nor its stop.

use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use hw::trees::{Machine, Tree};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::pipe::{SpliceFlags, splice};
use rustix::process::Signal;
use rustix::thread::gettid;
use serde_json::{Value, json};

use crate::world::{Daemon, Options, eventually, signal};

const SENSOR: &str = "sys/class/thermal/thermal_zone0/temp";
const NOBODY: Options = Options { hosted: "", dev: false, drain_seconds: 10, routed: "" };

/// A pipe in the place of a file, in which everybody is stuck who opens it, as in a driver that hangs: no signal ends that, and asking not to wait
/// changes nothing. A splice into a pipe keeps the pipe for itself for as long as its source has nothing.
struct Stuck {
    /// Closed, it ends the splice.
    source: Option<UnixStream>,
    splicing: Option<JoinHandle<()>>,
}

impl Stuck {
    fn at(path: &Path) -> Self {
        let beside = path.with_extension("pipe");
        mkfifoat(CWD, &beside, Mode::from_raw_mode(0o600)).unwrap();
        let pipe = OpenOptions::new().read(true).write(true).open(&beside).unwrap();
        let (source, nothing) = UnixStream::pair().unwrap();
        let (tell, told) = channel();
        let splicing = std::thread::spawn(move || {
            tell.send(gettid()).unwrap();
            let _ = splice(&nothing, None, &pipe, None, 1, SpliceFlags::empty());
        });
        let stat = format!("/proc/self/task/{}/stat", told.recv().unwrap().as_raw_nonzero());
        eventually("the pipe is taken", || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            // Nothing else lets that thread sleep.
            stat.rsplit_once(") ").unwrap().1.starts_with('S')
        });
        std::fs::rename(&beside, path).unwrap();
        Self { source: Some(source), splicing: Some(splicing) }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        drop(self.source.take());
        let _ = self.splicing.take().unwrap().join();
    }
}

fn laptop(directory: &tempfile::TempDir) -> Tree {
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.zone(0, "x86_pkg_temp", "61000");
    tree
}

fn start(tree: &Tree) -> Daemon {
    Daemon::start_with(&NOBODY, &[("BOLIDE_SYSFS_ROOT", tree.directory().to_str().unwrap())])
}

/// Waits until everybody who asks is told of it, since when (in these words), and how old the last decision is.
#[track_caller]
fn check_told(daemon: &Daemon, since: &str) {
    let mut governor = Value::Null;
    eventually("it is silent", || {
        governor = daemon.status()["governor"].clone();
        !governor["silent"].is_null()
    });
    let reason = governor["silent"].as_str().unwrap();
    assert!(reason.contains(since), "{reason}");
    assert!(governor["decision_age_seconds"].as_f64().unwrap() > 5.0, "{governor}");
    let (code, text, _) = daemon.run(&["status"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("degraded: nobody decides what may run") && text.contains(since),
        "{text}"
    );
    let (status, body) = daemon.get("/health/ready");
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &health["degraded"]), (200, &json!(["governor"])));
    assert!(health["parts"]["governor"]["reason"].as_str().unwrap().contains(since), "{body}");
    assert!(daemon.metric("bolide_governor_decision_age_seconds") > 5.0);
}

/// The daemon stops although the thread hangs on: all that others see of it goes. The process itself can only end with its last thread.
fn check_stop(mut daemon: Daemon, stuck: Stuck) {
    signal(daemon.pid(), Signal::TERM);
    eventually("it has stopped", || daemon.log().contains("the daemon stops"));
    assert!(!daemon.socket().exists());
    assert!(daemon.log().contains("it is left to the end of the process"), "{}", daemon.log());
    drop(stuck);
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_governor_that_hangs_is_told_of_and_holds_up_no_stop() {
    let directory = tempfile::tempdir().unwrap();
    let tree = laptop(&directory);
    let daemon = start(&tree);
    eventually("it is cool", || daemon.status()["machine"]["thermal"]["state"] == "optimal");
    assert_eq!(daemon.status()["governor"]["silent"], Value::Null);
    assert!(daemon.metric("bolide_governor_decision_age_seconds") < 60.0);
    let stuck = Stuck::at(&tree.directory().join(SENSOR));
    check_told(&daemon, "since the last decision");
    // What was measured last is not shown as if it were so now.
    let machine = daemon.status()["machine"].clone();
    let thermal = &machine["thermal"];
    assert_eq!((&thermal["state"], &thermal["celsius"]), (&json!("blind"), &Value::Null));
    assert_eq!(machine["heavy"], false);
    let (_, metrics) = daemon.get("/metrics");
    assert!(!metrics.contains("bolide_thermal_package_celsius "), "{metrics}");
    for source in [&["top", "--once"][..], &["top", "--once", "--mirror"]] {
        let (_, top, _) = daemon.run(source);
        assert!(top.contains("machine blind at no known temperature"), "{source:?}: {top}");
    }
    check_stop(daemon, stuck);
}

#[test]
fn a_governor_that_never_gets_through_its_first_look_is_told_of_too() {
    let directory = tempfile::tempdir().unwrap();
    let tree = laptop(&directory);
    let stuck = Stuck::at(&tree.directory().join(SENSOR));
    // In this order: where the test fails, who is stuck is let go before the daemon is waited for.
    let (daemon, stuck) = (start(&tree), stuck);
    check_told(&daemon, "since the daemon's start");
    assert_eq!(daemon.status()["machine"], Value::Null);
    check_stop(daemon, stuck);
}

#[test]
fn a_governor_that_goes_on_after_a_while_is_believed_again() {
    let directory = tempfile::tempdir().unwrap();
    let tree = laptop(&directory);
    let daemon = start(&tree);
    eventually("it is cool", || daemon.status()["machine"]["thermal"]["state"] == "optimal");
    let stuck = Stuck::at(&tree.directory().join(SENSOR));
    check_told(&daemon, "since the last decision");
    drop(stuck);
    tree.remove(SENSOR).file(SENSOR, "62000");
    eventually("it decides again", || daemon.status()["governor"]["silent"].is_null());
    eventually("its reading is shown", || daemon.status()["machine"]["thermal"]["celsius"] == 62.0);
}
