//! The processors that a running daemon may use change under it, on the machine that runs the tests: set from outside on its threads, as
//! `taskset -a -p` does, and seen from outside in `/proc/PID/task/TID/status`.

use hw::cpu_set::CpuSet;
use rustix::process::Pid;
use rustix::thread::{CpuSet as KernelSet, sched_setaffinity};

use crate::world::{Daemon, Options, eventually, not_shown};

/// A thread of another process, as the kernel shows it.
pub(crate) struct Task {
    pub(crate) id: Pid,
    pub(crate) name: String,
    /// Where it may run, as a list.
    pub(crate) cpus: String,
}

impl Task {
    /// Whether the pools say where it is.
    fn is_placed(&self) -> bool {
        ["worker-", "registry-io", "download"].iter().any(|name| self.name.starts_with(name))
    }
}

/// The threads of a process; one that has just ended is none.
pub(crate) fn tasks(pid: u32) -> Vec<Task> {
    let look = |path: &std::path::Path| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?.trim_end().to_owned();
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let id = Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)?;
        Some(Task { id, name, cpus: cpus.trim().to_owned() })
    };
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    entries.filter_map(|entry| look(&entry.ok()?.path())).collect()
}

/// Holds those threads of a process to `cpus`.
fn hold(pid: u32, cpus: &CpuSet, which: impl Fn(&Task) -> bool) {
    let mut set = KernelSet::new();
    cpus.iter().for_each(|cpu| set.set(cpu));
    for task in tasks(pid).iter().filter(|task| which(task)) {
        match sched_setaffinity(Some(task.id), &set) {
            // It has ended meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => panic!("{}: {errno}", task.name),
        }
    }
}

/// A daemon with the Packager, and work for its pools.
struct World {
    daemon: Daemon,
    packager: u32,
    project: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let options = Options { hosted: "packager", dev: false, drain_seconds: 0, routed: "" };
        let daemon = Daemon::start(&options);
        eventually("the machine is looked at", || !daemon.status()["machine"].is_null());
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("package.json"), "{}").unwrap();
        Self { packager: daemon.agent_pid("packager"), daemon, project }
    }

    /// Nobody listens there: the resolutions end in an error, after one of the two has been a worker's. With cores that are all alike
    /// whoever asks does the other one itself.
    fn resolve(&self) {
        let project = self.project.path().to_str().unwrap();
        let [npm, cargo] = ["npm=http://127.0.0.1:9/", "cargo=http://127.0.0.1:9/"];
        let plan = ["plan", "npm:a", "cargo:b", "--dir", project];
        let plan = [&plan[..], &["--registry", npm, "--registry", cargo]].concat();
        let (code, _, stderr) = self.daemon.run(&plan);
        assert_eq!(code, Some(7), "{stderr}");
    }

    /// Every thread of both processes, as `taskset -a -p` does it.
    fn hold_all(&self, cpus: &CpuSet) {
        [self.daemon.pid(), self.packager].iter().for_each(|pid| hold(*pid, cpus, |_| true));
    }

    /// The threads that nobody places: the rest has to be led there.
    fn hold_others(&self, cpus: &CpuSet) {
        hold(self.packager, cpus, |task| !task.is_placed());
    }

    /// Waits until everybody whom the pools place is held to just these, also who comes new.
    #[track_caller]
    fn are_held_to(&self, cpus: &CpuSet) {
        let cpus = cpus.to_string();
        eventually(&format!("workers are held to {cpus}"), || {
            // Where nobody has work, nobody looks.
            self.resolve();
            let placed = tasks(self.packager).into_iter().filter(Task::is_placed);
            let seen: Vec<Task> = placed.collect();
            let names = ["worker-p", "registry-io"];
            let all = names.iter().all(|name| seen.iter().any(|it| it.name.starts_with(name)));
            all && seen.iter().all(|task| task.cpus == cpus)
        });
        eventually("they are shown there", || {
            self.daemon.status()["hosted"][0]["worker_cpus"][0] == cpus
        });
        assert_eq!(self.daemon.agent_pid("packager"), self.packager, "the same process");
    }

    /// Waits until the daemon counts with just these; how many pieces may run at once.
    #[track_caller]
    fn counts_with(&self, cpus: &CpuSet) -> u64 {
        let mut machine = serde_json::Value::Null;
        eventually(&format!("the daemon counts with {cpus}"), || {
            machine = self.daemon.status()["machine"].clone();
            machine["allowed"] == cpus.to_string()
        });
        let slots = machine["slots"].as_object().unwrap().values();
        slots.filter_map(serde_json::Value::as_u64).sum()
    }
}

#[test]
fn pools_and_workers_follow_the_processors_that_a_running_daemon_may_use() {
    let all = hw::affinity::allowed(&hw::root::Root::machine());
    let (first, last) = (all.iter().next().unwrap(), all.iter().last().unwrap());
    if first == last {
        return not_shown(&format!("it takes two processors, this process has {all}"));
    }
    let [first, last] = [first, last].map(|cpu| CpuSet::from_iter([cpu]));
    let world = World::new();
    let before = world.counts_with(&all);
    world.are_held_to(&all);

    world.hold_all(&first);
    assert_eq!(world.counts_with(&first), 1, "as many pieces as processors");
    world.are_held_to(&first);
    world.hold_all(&all);
    let after = world.counts_with(&all);
    // Where heat counts, what came back is given by and by.
    let is_cool = world.daemon.status()["machine"]["thermal"]["state"] == "off";
    assert!(after == before || !is_cool, "{after} and {before}");
    world.are_held_to(&all);

    // Those that were not moved follow, both ways.
    world.hold_others(&last);
    world.are_held_to(&last);
    world.hold_others(&all);
    world.are_held_to(&all);
}
