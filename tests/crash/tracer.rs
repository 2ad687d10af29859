//! Runs a program with everything that it starts under ptrace, counts its changes of the disk, and strikes at one of them.
//!
//! A filter of system calls stops the program at such changes only. It is installed on the thread that starts the program, which
//! then stops itself in a shell until the tracer has it; so nothing here is unsafe, and nothing of the program is changed. One
//! thread traces: ptrace knows threads, not processes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::{self, Call};

/// How long what the program started may live on without it.
const ORPHAN_TIME_MAX: Duration = Duration::from_secs(10);

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// `kill -9` before the call.
    Kill,
    /// Half of a write, then `kill -9`.
    Tear,
    /// Half of a write, and it goes on.
    Short,
    /// The call is not made and fails with this number.
    Fail(i32),
}

/// Whose call it is, which, and of what: the `index`th of its kind in a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) kind: String,
    pub(crate) index: u32,
}

/// The changes of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) count: u32,
    pub(crate) call: Call,
}

/// What is to be struck in the next run, and what was.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    strike: Option<(Point, Strike)>,
    kinds: BTreeMap<String, Kind>,
    has_struck: bool,
}

/// How a traced program ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Its exit code, or nothing where a signal ended it.
    pub(crate) code: Option<i32>,
    /// It did not end by itself.
    pub(crate) has_hung: bool,
    /// What it had started lived on.
    pub(crate) has_orphans: bool,
}

/// A program under ptrace.
pub(crate) struct Traced {
    orders: Arc<Mutex<Orders>>,
    main: Pid,
    thread: std::thread::JoinHandle<Ended>,
}

impl Orders {
    fn clear(&mut self, strike: Option<(Point, Strike)>) {
        *self = Orders { strike, ..Orders::default() };
    }
}

impl Traced {
    /// Starts `program`, whose output goes where the command says. `class` names what lies at a path, nothing where it does not
    /// matter. What takes longer than `patience` hangs, and is ended.
    pub(crate) fn start(
        command: Command,
        patience: Duration,
        strike: Option<(Point, Strike)>,
        class: impl Fn(&std::path::Path) -> Option<String> + Send + 'static,
    ) -> Self {
        let orders = Arc::new(Mutex::new(Orders::default()));
        orders.lock().unwrap().clear(strike);
        let shared = Arc::clone(&orders);
        let (name, named) = channel();
        let thread = std::thread::spawn(move || {
            let (ended, until) = channel();
            let (started, main) = channel();
            let starter = std::thread::spawn(move || starter(command, &started, &until));
            let main = main.recv().unwrap();
            name.send(main).unwrap();
            let tracer = Tracer {
                main,
                patience,
                orders: shared,
                class: Box::new(class),
                alive: Arc::new(Mutex::new(HashSet::from([main]))),
                groups: HashMap::new(),
                roles: HashMap::new(),
                tearing: HashSet::new(),
            };
            let ended_as = tracer.trace();
            drop(ended);
            starter.join().unwrap();
            ended_as
        });
        Self { orders, main: named.recv().unwrap(), thread }
    }

    /// Asks it to end.
    pub(crate) fn stop(self) -> Ended {
        let _ = kill(self.main, Signal::SIGTERM);
        self.end().0
    }

    /// Counts anew and strikes there next, while the program goes on.
    pub(crate) fn order(&self, strike: Option<(Point, Strike)>) {
        self.orders.lock().unwrap().clear(strike);
    }

    /// What was counted since, and whether the point was reached.
    pub(crate) fn so_far(&self) -> (BTreeMap<String, Kind>, bool) {
        let orders = self.orders.lock().unwrap();
        (orders.kinds.clone(), orders.has_struck)
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> (Ended, BTreeMap<String, Kind>, bool) {
        let ended = self.thread.join().unwrap();
        let orders = self.orders.lock().unwrap();
        (ended, orders.kinds.clone(), orders.has_struck)
    }
}

/// Whether this machine lets a test trace what it starts.
pub(crate) fn is_allowed() -> bool {
    std::thread::spawn(|| {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let traced = ptrace::seize(Pid::from_raw(child.id() as i32), Options::empty()).is_ok();
        child.kill().unwrap();
        child.wait().unwrap();
        traced
    })
    .join()
    .unwrap()
}

/// The shell that waits for the tracer and then becomes the program.
pub(crate) fn stopped_first(
    world: Command,
    program: &std::path::Path,
    arguments: &[&str],
) -> Command {
    let mut command = world;
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(program).args(arguments);
    command
}

/// The thread with the filter. It lives as long as what it started, so that nobody inherits that.
#[expect(clippy::zombie_processes, reason = "whoever traces it waits for it")]
fn starter(mut command: Command, started: &Sender<Pid>, until: &Receiver<()>) {
    let filter = calls::filter();
    seccompiler::apply_filter(&filter).unwrap();
    let child = command.spawn().unwrap();
    started.send(Pid::from_raw(child.id() as i32)).unwrap();
    let _ = until.recv();
}

type Class = Box<dyn Fn(&std::path::Path) -> Option<String> + Send>;

struct Tracer {
    main: Pid,
    patience: Duration,
    orders: Arc<Mutex<Orders>>,
    class: Class,
    /// All threads that are traced.
    alive: Arc<Mutex<HashSet<Pid>>>,
    /// The process of a thread.
    groups: HashMap<Pid, Pid>,
    /// What a process is.
    roles: HashMap<Pid, String>,
    /// Threads that write half of what they wanted before they are killed.
    tearing: HashSet<Pid>,
}

impl Tracer {
    fn trace(mut self) -> Ended {
        waitpid(self.main, Some(WaitPidFlag::WUNTRACED)).unwrap();
        let options = Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(self.main, options).unwrap();
        kill(self.main, Signal::SIGCONT).unwrap();
        let (told, tell) = channel();
        let (alive, patience) = (Arc::clone(&self.alive), self.patience);
        let watchdog = std::thread::spawn(move || watch(&tell, &alive, patience));
        let mut ended = Ended::default();
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while !self.alive.lock().unwrap().is_empty() {
            match waitpid(None, Some(flags)) {
                Ok(status) => self.handle(status, &mut ended, &told),
                Err(nix::errno::Errno::ECHILD) => break,
                Err(_) => {}
            }
        }
        drop(told);
        (ended.has_hung, ended.has_orphans) = watchdog.join().unwrap();
        ended
    }

    fn handle(&mut self, status: WaitStatus, ended: &mut Ended, told: &Sender<()>) {
        let gone = |tracer: &mut Self, thread: Pid| {
            tracer.alive.lock().unwrap().remove(&thread);
            tracer.groups.remove(&thread);
            if thread == tracer.main {
                let _ = told.send(());
            }
        };
        match status {
            WaitStatus::Exited(thread, code) => {
                if thread == self.main {
                    ended.code = Some(code);
                }
                gone(self, thread);
            }
            WaitStatus::Signaled(thread, ..) => gone(self, thread),
            WaitStatus::PtraceEvent(thread, _, event) => {
                self.alive.lock().unwrap().insert(thread);
                self.at_event(thread, event);
            }
            WaitStatus::PtraceSyscall(thread) => {
                // Back from half a write, or about to make it.
                let killed = self.tearing.contains(&thread) && self.is_back(thread);
                if killed {
                    self.tearing.remove(&thread);
                    let _ = kill(self.group(thread), Signal::SIGKILL);
                }
                let _ = match self.tearing.contains(&thread) {
                    true => ptrace::syscall(thread, None),
                    false => ptrace::cont(thread, None),
                };
            }
            WaitStatus::Stopped(thread, signal) => {
                let _ = ptrace::cont(thread, signal);
            }
            _ => {}
        }
    }

    fn at_event(&mut self, thread: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_SECCOMP => return self.at_change(thread),
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                if let Ok(new) = ptrace::getevent(thread) {
                    self.alive.lock().unwrap().insert(Pid::from_raw(new as i32));
                }
            }
            libc::PTRACE_EVENT_EXEC => {
                if let Ok(former) = ptrace::getevent(thread) {
                    let former = Pid::from_raw(former as i32);
                    if former != thread {
                        self.alive.lock().unwrap().remove(&former);
                    }
                }
                self.roles.remove(&thread);
            }
            _ => {}
        }
        let _ = ptrace::cont(thread, None);
    }

    /// Whether a call that was let in has returned: then its result is there, no longer the sign of an entry.
    fn is_back(&self, thread: Pid) -> bool {
        ptrace::getregs(thread)
            .is_ok_and(|registers| registers.rax as i64 != -i64::from(libc::ENOSYS))
    }

    fn at_change(&mut self, thread: Pid) {
        let strike = self.count(thread);
        let Some((call, strike)) = strike else {
            let _ = ptrace::cont(thread, None);
            return;
        };
        let Ok(mut registers) = ptrace::getregs(thread) else { return };
        let half = calls::bytes_asked(&call, &registers).map(|count| (count / 2).max(1));
        match (strike, call.count.zip(half)) {
            (Strike::Kill, _) | (Strike::Tear | Strike::Short, None) => {
                let _ = kill(self.group(thread), Signal::SIGKILL);
                let _ = ptrace::cont(thread, None);
            }
            (Strike::Tear | Strike::Short, Some((index, half))) => {
                calls::set_argument(&mut registers, index, half);
                let _ = ptrace::setregs(thread, registers);
                let _ = match strike {
                    Strike::Tear => {
                        self.tearing.insert(thread);
                        ptrace::syscall(thread, None)
                    }
                    _ => ptrace::cont(thread, None),
                };
            }
            (Strike::Fail(number), _) => {
                // No call has the number -1: the kernel leaves it out and the result as it is set here.
                registers.orig_rax = u64::MAX;
                registers.rax = (-i64::from(number)) as u64;
                let _ = ptrace::setregs(thread, registers);
                let _ = ptrace::cont(thread, None);
            }
        }
    }

    /// Counts what a thread is about to do; what is to happen to it, where this is the point.
    fn count(&mut self, thread: Pid) -> Option<(Call, Strike)> {
        let registers = ptrace::getregs(thread).ok()?;
        let (call, path) = calls::about_to(thread, &registers)?;
        let class = (self.class)(&path)?;
        let role = self.role(thread);
        let kind = format!("{role} {} {class}", call.name);
        let mut orders = self.orders.lock().unwrap();
        let Orders { strike, kinds, has_struck } = &mut *orders;
        let known = kinds.entry(kind.clone()).or_insert(Kind { count: 0, call });
        let index = known.count;
        known.count += 1;
        match strike {
            Some((point, how)) if !*has_struck && point.kind == kind && point.index == index => {
                *has_struck = true;
                Some((call, *how))
            }
            _ => None,
        }
    }

    fn group(&mut self, thread: Pid) -> Pid {
        *self.groups.entry(thread).or_insert_with(|| {
            let status = std::fs::read_to_string(format!("/proc/{thread}/status"));
            let status = status.unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
            line.and_then(|text| text.trim().parse().ok()).map_or(thread, Pid::from_raw)
        })
    }

    fn role(&mut self, thread: Pid) -> String {
        let group = self.group(thread);
        let main = self.main;
        let role = self.roles.entry(group).or_insert_with(|| {
            let program = std::fs::read_link(format!("/proc/{group}/exe")).unwrap_or_default();
            let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let line = std::fs::read(format!("/proc/{group}/cmdline")).unwrap_or_default();
            let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let hosted = |word: &[u8]| arguments.contains(&word);
            match name.as_str() {
                "bolide" if group == main => name,
                "bolide" if hosted(b"packager") => "packager".to_owned(),
                "bolide" => "child".to_owned(),
                _ => name.trim_end_matches(|letter: char| !letter.is_alphabetic()).to_owned(),
            }
        });
        role.clone()
    }
}

/// Ends a run that hangs, and what lives on after its program has ended. Which of the two it was.
fn watch(told: &Receiver<()>, alive: &Mutex<HashSet<Pid>>, patience: Duration) -> (bool, bool) {
    let end_all = || {
        for thread in alive.lock().unwrap().iter() {
            let _ = kill(*thread, Signal::SIGKILL);
        }
    };
    match told.recv_timeout(patience) {
        Err(RecvTimeoutError::Timeout) => {
            end_all();
            let _ = told.recv();
            (true, false)
        }
        Err(RecvTimeoutError::Disconnected) => (false, false),
        Ok(()) => match told.recv_timeout(ORPHAN_TIME_MAX) {
            Err(RecvTimeoutError::Timeout) => {
                end_all();
                (false, true)
            }
            _ => (false, false),
        },
    }
}

/// An open file for the output of a traced program.
pub(crate) fn output(path: &PathBuf) -> std::fs::File {
    std::fs::File::create(path).unwrap()
}
