//! Death by `kill -9` at every named point (`ipc::fault`) of what a transaction does to a system: in an installation, in a
//! rollback, and in the recovery of either. The old state stands or the new one, as the log says; nothing is left; and what
//! somebody installs by hand before the next command stays, even where it is exactly what was planned.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use super::super::machine::{Deb, Halted, Machine, is_alive};
use super::super::world::wait_until;
use super::{LIB_1, machine, states};

const HAND: Deb = Deb { name: "hand", version: "1", ..LIB_1 };
/// What is installed and undone; `old` goes, because `rival` conflicts with it.
const PLANNED: [&str; 5] = ["add", "deb:web", "deb:rival", "npm:leaf", "--yes"];

/// What a death leaves to the next command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing of the system was touched: whatever stands there is others'.
    Untouched,
    /// It was.
    Touched,
    /// The new state stands.
    Committed,
}

/// Where somebody dies, after how many times of coming by.
pub(super) type Death = (&'static str, u32, Left);

/// The points of a change in the order of their coming. `scripts` tools run between apt and apt-mark.
fn deaths(scripts: u32) -> Vec<Death> {
    let marking = 1 + scripts;
    vec![
        ("system.locked", 0, Left::Untouched),
        ("system.intended", 0, Left::Untouched),
        ("system.armed", 0, Left::Untouched),
        // apt goes on without anybody.
        ("system.tool-started", 0, Left::Touched),
        ("system.tool-ended", 0, Left::Touched),
        ("system.recorded", 0, Left::Touched),
        ("system.tool-started", marking, Left::Touched),
        ("system.tool-ended", marking, Left::Touched),
        ("system.forward", 0, Left::Touched),
        ("commit.names-changed", 0, Left::Touched),
        ("commit.recorded", 0, Left::Committed),
        ("system.forgotten", 0, Left::Committed),
    ]
}

/// Runs a command until it dies at a point; what it started goes on to its end.
pub(super) fn strike(machine: &Machine, arguments: &[&str], (point, passed, _): Death) {
    let token = machine.world.place("token");
    std::fs::write(&token, point).unwrap();
    let mut command = machine.command(arguments);
    command.env("BOLIDE_FAULT", format!("{point}:{passed}:{}", token.display()));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let signal = status.unwrap().signal();
    assert_eq!(signal, Some(9), "nobody died at {point}; is `bolide` one that `cargo test` built?");
    assert!(!token.exists(), "{point}: it died elsewhere");
    wait_until("what it started has ended", || !is_at_work(machine));
}

/// Whether a tool that bolide has started for this machine still runs: it has the lock of its log.
fn is_at_work(machine: &Machine) -> bool {
    let Ok(log) = std::fs::File::open(state_of(machine).join("log")) else { return false };
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(log, operation).is_err()
}

fn state_of(machine: &Machine) -> std::path::PathBuf {
    machine.world.place("home/state/bolide/system")
}

/// The names in the state directory that say what a tool may do and what it began.
fn records(machine: &Machine) -> Vec<String> {
    let names = std::fs::read_dir(state_of(machine)).unwrap().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("expected") || name.starts_with("touched")).collect()
}

/// Nothing of a transaction is left but what is in the log.
#[track_caller]
fn assert_ended(machine: &Machine, what: &str) {
    assert_eq!(records(machine), [""; 0], "{what}");
    let journals = machine.world.place("home/state/bolide/journal");
    assert_eq!(std::fs::read_dir(journals).unwrap().count(), 0, "{what}");
    assert!(!machine.world.project().join(".bolide/staging").exists(), "{what}");
}

/// The packages and the project.
fn now(machine: &Machine) -> (Vec<String>, String) {
    (machine.state(), project(machine))
}

/// What a person sees of the project: the names of transactions in `.bolide` are other ones each time.
fn project(machine: &Machine) -> String {
    let (project, aside) = (machine.world.project(), machine.world.place("aside"));
    let workshop = project.join(".bolide");
    let has_workshop = workshop.exists();
    if has_workshop {
        std::fs::rename(&workshop, &aside).unwrap();
    }
    let tree = machine.world.tree();
    if has_workshop {
        std::fs::rename(&aside, &workshop).unwrap();
    }
    format!("{tree}, {has_workshop}")
}

/// What a person does without Bolide.
impl Machine {
    fn install_as_planned(&self) {
        self.apt(&["install", "web", "lib=1.5", "rival"]);
        self.mark_library();
    }

    fn remove_as_planned(&self) {
        self.apt(&["install", "--allow-downgrades", "lib=1.0", "old", "web-", "rival-"]);
        self.apt(&["purge", "web", "rival"]);
        self.mark_library();
    }

    fn mark_library(&self) {
        let mut mark = self.tool("apt-mark");
        super::Outcome::of(mark.args(["auto", "lib"])).succeeds();
    }
}

/// Dies once, and has the next command end it.
struct Trial<'m> {
    machine: &'m Machine,
    /// The packages and the project of before, and those of after.
    ends: [(Vec<String>, String); 2],
    /// What a person does to come to the state of after by hand, and back.
    hands: [fn(&Machine); 2],
}

impl Trial<'_> {
    /// Asserts what stands after a death, once the next command has ended it; all is as before the death then, unless it had
    /// committed.
    fn settle(&self, what: &str, left: Left) {
        let machine = self.machine;
        let [old, new] = &self.ends;
        if left == Left::Untouched {
            (self.hands[0])(machine);
            let theirs = machine.state();
            assert_eq!(states(machine)[0], "failed", "{what}");
            assert_eq!((machine.state(), project(machine)), (theirs, old.1.clone()), "{what}");
            (self.hands[1])(machine);
        } else {
            machine.apt(&["install", "hand"]);
            let state = if left == Left::Committed { "committed" } else { "failed" };
            assert_eq!(states(machine)[0], state, "{what}");
            assert_eq!(machine.version("hand").as_deref(), Some("1"), "{what}");
            machine.apt(&["purge", "hand"]);
        }
        assert_ended(machine, what);
        let expected = if left == Left::Committed { new } else { old };
        assert_eq!(&now(machine), expected, "{what}");
    }
}

#[test]
fn a_death_anywhere_in_an_installation_leaves_the_old_system_or_the_new_one() {
    let Some(machine) = machine(&[HAND]) else { return };
    let old = now(&machine);
    machine.bolide(&PLANNED).succeeds();
    let new = now(&machine);
    machine.bolide(&["rollback"]).succeeds();
    let hands: [fn(&Machine); 2] = [Machine::install_as_planned, Machine::remove_as_planned];
    let trial = Trial { machine: &machine, ends: [old, new], hands };
    for death in deaths(0) {
        let what = format!("{death:?}");
        strike(&machine, &PLANNED, death);
        trial.settle(&what, death.2);
        if death.2 == Left::Committed {
            machine.bolide(&["rollback"]).succeeds();
        }
        assert_eq!(now(&machine), trial.ends[0], "{what}");
    }
}

#[test]
fn a_death_anywhere_in_a_rollback_leaves_the_old_system_or_the_new_one() {
    let Some(machine) = machine(&[HAND]) else { return };
    let new = now(&machine);
    machine.bolide(&PLANNED).succeeds();
    let old = now(&machine);
    let hands: [fn(&Machine); 2] = [Machine::remove_as_planned, Machine::install_as_planned];
    let trial = Trial { machine: &machine, ends: [old, new], hands };
    // What was not there before is purged by dpkg between apt and apt-mark.
    for death in deaths(1) {
        let what = format!("{death:?}");
        strike(&machine, &["rollback"], death);
        trial.settle(&what, death.2);
        if death.2 == Left::Committed {
            machine.bolide(&PLANNED).succeeds();
            assert_eq!(now(&machine), trial.ends[0], "{what}");
        }
    }
}

#[test]
fn a_death_anywhere_in_a_recovery_leaves_the_old_system() {
    let Some(machine) = machine(&[HAND]) else { return };
    let old = now(&machine);
    let hands: [fn(&Machine); 2] = [Machine::install_as_planned, Machine::remove_as_planned];
    let trial = Trial { machine: &machine, ends: [old.clone(), old], hands };
    let first = ("system.forward", 0, Left::Touched);
    let seconds = [
        (("system.armed", 0, Left::Untouched), ("system.looked", 0, Left::Untouched)),
        (first, ("system.looked", 0, Left::Touched)),
        (first, ("system.armed", 0, Left::Touched)),
        (first, ("system.tool-started", 0, Left::Touched)),
        (first, ("system.tool-ended", 0, Left::Touched)),
        (first, ("system.tool-ended", 1, Left::Touched)),
        (first, ("system.recorded", 0, Left::Touched)),
        (first, ("system.back", 0, Left::Touched)),
        // It was brought back and that is on the device: what comes then is others'.
        (first, ("system.forgotten", 0, Left::Untouched)),
    ];
    for (first, second) in seconds {
        strike(&machine, &PLANNED, first);
        strike(&machine, &["history"], second);
        trial.settle(&format!("{first:?}, then {second:?}"), second.2);
    }
}

/// A program that halts whatever comes by: it says so in `/reached` and reads from `/gate`.
fn gate(machine: &Machine) -> String {
    let root = machine.root();
    format!(": > {0}/reached; read word < {0}/gate", root.display())
}

fn configure(machine: &Machine, text: &str) -> std::path::PathBuf {
    let path = machine.root().join("etc/apt/apt.conf.d/99halt");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_apt_that_was_left_before_its_first_change_does_nothing() {
    let Some(machine) = machine(&[HAND]) else { return };
    let (old, tree) = (machine.state(), machine.world.tree());
    // apt has the lock, and somebody else's command has not ended before which ours is not asked.
    let pause = configure(&machine, &format!("DPkg::Pre-Invoke {{ \"{}\"; }};\n", gate(&machine)));
    let mut halted = Halted::at_the_gate(&machine, &PLANNED);
    assert_eq!(records(&machine).len(), 1);
    assert!(records(&machine)[0].starts_with("expected-tx-"));
    halted.child.kill().unwrap();
    halted.child.wait().unwrap();
    // Ended while that apt still lives, and without waiting for it.
    assert_eq!(states(&machine), ["failed"]);
    assert_ended(&machine, "with an apt that is late");
    assert!(is_alive(halted.tool));
    halted.open();
    wait_until("it ends", || !is_alive(halted.tool));
    assert_eq!(machine.state(), old, "what nobody expects any more is not done");
    assert_eq!(records(&machine), [""; 0]);
    let log = std::fs::read_to_string(state_of(&machine).join("log")).unwrap();
    assert!(log.contains("Failure running script sed"), "{log}");
    // A late one of an earlier transaction does not take what is expected of a later one.
    for file in ["reached", "gate"] {
        std::fs::remove_file(machine.root().join(file)).unwrap();
    }
    std::fs::remove_file(pause).unwrap();
    machine.bolide(&PLANNED).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!((machine.state(), machine.world.tree()), (old, tree));
}

/// Has apt find a dpkg that does `deed` first when it comes to change something.
fn intrude(machine: &Machine, word: &str, deed: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let program = machine.world.place("dpkg");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" {word} \"*) {deed};; esac\nexec /usr/bin/dpkg \"$@\"\n"
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    configure(machine, &format!("Dir::Bin::dpkg \"{}\";\n", program.display()))
}

/// Kills everybody who is halted.
fn kill(machine: &Machine, halted: Halted<'_>, pause: std::path::PathBuf) {
    halted.kill(true);
    std::fs::remove_file(pause).unwrap();
    for file in ["reached", "gate"] {
        std::fs::remove_file(machine.root().join(file)).unwrap();
    }
}

#[test]
fn what_a_killed_dpkg_had_only_noted_is_known_to_who_recovers() {
    let Some(machine) = machine(&[HAND]) else { return };
    let old = now(&machine);
    // What is left of a dpkg that died after `old` went: the note of that, beside the record of before.
    let deed = format!(
        "cd {}/var/lib/dpkg; cp status before; /usr/bin/dpkg \"$@\"; \
         sed -n '/^Package: old$/,/^$/p' status > updates/0000; mv before status; {}",
        machine.root().display(),
        gate(&machine)
    );
    let pause = intrude(&machine, "--remove", &deed);
    let halted = Halted::at_the_gate(&machine, &PLANNED);
    kill(&machine, halted, pause);
    assert_eq!(machine.version("old"), None);
    assert_eq!(states(&machine), ["failed"]);
    assert_ended(&machine, "killed after a note");
    assert_eq!(now(&machine), old);
}

#[test]
fn an_apt_that_is_killed_between_agreeing_and_beginning_leaves_a_record_and_nothing_to_undo() {
    let Some(machine) = machine(&[HAND]) else { return };
    let (old, tree) = (machine.state(), machine.world.tree());
    let pause = intrude(&machine, "--status-fd", &gate(&machine));
    let halted = Halted::at_the_gate(&machine, &PLANNED);
    assert_eq!(records(&machine).len(), 1);
    assert!(records(&machine)[0].starts_with("touched-tx-"));
    kill(&machine, halted, pause);
    machine.apt(&["install", "hand"]);
    assert_eq!(states(&machine), ["failed"]);
    assert_ended(&machine, "killed before dpkg");
    assert_eq!(machine.version("hand").as_deref(), Some("1"));
    machine.apt(&["purge", "hand"]);
    assert_eq!((machine.state(), machine.world.tree()), (old, tree));
}
