//! Sensors that fail in every way that was seen of them, each on a machine of its own with its own daemon: no number comes of any, and
//! the log says so once, however often they are read.

use hw::root::ReadError;
use hw::trees::{Machine, Tree};

use crate::world::{Daemon, Options, eventually};

const SENSOR: &str = "sys/class/thermal/thermal_zone0/temp";
const NOBODY: Options = Options { hosted: "", dev: false, drain_seconds: 0, routed: "" };

/// Readings over which the lines are counted.
const READINGS: f64 = 10.0;

/// What becomes of a sensor.
enum Trap {
    Works,
    Says(&'static str),
    Refuses(ReadError),
    Vanishes,
    IsADirectory,
    IsEndless,
}

struct Trapped {
    trap: Trap,
    tree: Tree,
    daemon: Daemon,
    _directory: tempfile::TempDir,
}

impl Trapped {
    fn with(trap: Trap) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        Machine::meteor_lake_a().write(&tree);
        tree.zone(0, "x86_pkg_temp", "61000");
        let root = tree.directory().to_str().unwrap();
        let daemon = Daemon::start_with(&NOBODY, &[("BOLIDE_SYSFS_ROOT", root)]);
        Self { trap, tree, daemon, _directory: directory }
    }

    fn state(&self) -> String {
        let state = self.daemon.status()["machine"]["thermal"]["state"].clone();
        state.as_str().unwrap_or_default().to_owned()
    }

    fn spring(&self) {
        match self.trap {
            Trap::Works => {}
            Trap::Says(text) => {
                self.tree.file(SENSOR, text);
            }
            Trap::Refuses(error) => {
                self.tree.refuse(SENSOR, error);
            }
            Trap::Vanishes => {
                self.tree.remove("sys/class/thermal");
            }
            Trap::IsADirectory => {
                self.tree.remove(SENSOR).file(&format!("{SENSOR}/within"), "61000");
            }
            Trap::IsEndless => {
                self.tree.file(SENSOR, &"61000".repeat(100_000));
            }
        }
    }

    /// Decisions so far: each is one look at the sensor.
    fn looks(&self) -> f64 {
        self.daemon.metric("bolide_thermal_sensor_reads_total")
    }

    fn lines(&self) -> usize {
        self.daemon.log().lines().count()
    }
}

#[test]
fn no_trap_becomes_a_temperature_or_fills_the_log() {
    use ReadError::{Again, Denied, Invalid, Io, NoData};
    let said = ["", "\n", "0", "-274000", "-32768000", "65261800", "garbage", "61.0", "6e4", "\0"];
    let refusals = [Again, NoData, Io, Invalid, Denied].map(Trap::Refuses);
    let others = [Trap::Vanishes, Trap::IsADirectory, Trap::IsEndless];
    let traps = said.map(Trap::Says).into_iter().chain(refusals).chain(others);
    let machines: Vec<Trapped> =
        [Trap::Works].into_iter().chain(traps).map(Trapped::with).collect();
    for machine in &machines {
        eventually("it is cool", || machine.state() == "optimal");
    }
    let (works, trapped) = machines.split_first().unwrap();
    trapped.iter().for_each(Trapped::spring);
    for (number, machine) in trapped.iter().enumerate() {
        eventually(&format!("trap {number} is noticed"), || machine.state() == "blind");
    }
    let before: Vec<usize> = machines.iter().map(Trapped::lines).collect();
    let looks = works.looks();
    eventually("they are read on", || works.looks() >= looks + READINGS);
    for (number, (machine, before)) in machines.iter().zip(before).enumerate() {
        let log = machine.daemon.log();
        assert_eq!(machine.lines(), before, "trap {number}, while it is read on: {log}");
        let unknown = "the temperature is not known any more";
        let told = log.lines().filter(|line| line.contains(unknown)).count();
        assert_eq!(told, usize::from(number > 0), "trap {number}: {log}");
    }
    for (number, machine) in trapped.iter().enumerate() {
        let status = machine.daemon.status();
        assert!(status["machine"]["thermal"]["celsius"].is_null(), "trap {number}: {status}");
        let (_, metrics) = machine.daemon.get("/metrics");
        assert!(!metrics.contains("bolide_thermal_package_celsius "), "trap {number}: {metrics}");
    }
}
