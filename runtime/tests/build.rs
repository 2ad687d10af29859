//! The sandbox of builds by itself: what runs in it reaches nothing outside, takes no more than it may, and leaves no process behind; and
//! where the kernel gives this user no name spaces, nothing runs.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agents_contract::Cancellation;
use agents_packager::build::run::Sandbox;
use agents_packager::build::{Bounds, Ended, Order, Report};

const BOLIDE: &str = env!("CARGO_BIN_EXE_bolide");

/// A directory for a build, and one beside it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["work", "outside"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn order(&self, script: &str) -> Order {
        Order {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            work: self.path("work"),
            directory: self.path("work"),
            shown: None,
            readable: Vec::new(),
            variables: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        }
    }
}

fn sandbox() -> Sandbox {
    Sandbox::at(Path::new(BOLIDE))
}

/// Runs a script.
fn check(bounds: Bounds, script: &str, judge: &dyn Fn(&Report, &Place)) {
    let place = Place::new();
    let script = script.replace("OUTSIDE", &place.path("outside").display().to_string());
    let order = place.order(&script);
    let report = sandbox().bounded(bounds).run(order, Cancellation::NEVER).unwrap();
    eprintln!("{report:?}");
    judge(&report, &place);
}

fn is_limit(report: &Report, what: &str) {
    let Ended::Limit(said) = &report.ended else { panic!("{report:?}") };
    assert!(said.ends_with(what), "{report:?}");
}

/// How many processes have this word in their arguments.
fn processes(word: &str) -> usize {
    let has = |path: PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| has(entry.path())).count()
}

#[test]
fn what_ends_by_itself_says_how_and_what_it_printed() {
    check(Bounds::default(), "echo out; echo err >&2; echo x > made; exit 3", &|report, place| {
        assert_eq!(report.ended, Ended::Exit(3));
        assert_eq!(report.tail, "out\nerr\n");
        assert_eq!(std::fs::read_to_string(place.path("work/made")).unwrap(), "x\n");
    });
    check(Bounds::default(), "env; cat /etc/passwd | head -1", &|report, _| {
        assert_eq!(report.ended, Ended::Exit(0), "{report:?}");
        assert!(!report.tail.contains("HOME="), "{report:?}");
    });
}

#[test]
fn it_is_the_first_process_of_its_name_space() {
    check(Bounds::default(), "echo $$", &|report, _| assert_eq!(report.tail, "1\n"));
}

#[test]
fn where_there_are_no_name_spaces_nothing_runs_and_the_setting_is_named() {
    for name in ["user", "pid", "net", "mnt", "ipc"] {
        let place = Place::new();
        let program = place.path("outside/program");
        // Whoever owns a name space of users may take further ones from everybody in it.
        let setting = format!("/proc/sys/user/max_{name}_namespaces");
        let script = format!(
            "#!/bin/sh\nexec unshare -Ur sh -c 'echo 0 > {setting} && exec {BOLIDE} \"$@\"' sh \"$@\"\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let order = place.order(": > made");
        let report = Sandbox::at(&program).run(order, Cancellation::NEVER).unwrap();
        let Ended::Unable(why) = &report.ended else { panic!("{report:?}") };
        let named = format!("`user.max_{name}_namespaces` is 0 here; set it to ");
        assert!(why.contains(&named), "{why}");
        assert!(!place.path("work/made").exists(), "{name}");
    }
}

#[test]
fn nothing_outside_can_be_read_written_or_changed() {
    for script in [
        "cat OUTSIDE/file",
        "ls OUTSIDE",
        "echo x > OUTSIDE/new",
        "echo x >> OUTSIDE/file",
        "rm OUTSIDE/file",
        "mv OUTSIDE/file here",
        "ln OUTSIDE/file here && cat here",
        "ln -s OUTSIDE/file here && cat here",
        "mkdir OUTSIDE/new",
        "cat /proc/1/environ",
        "cat /proc/self/environ",
        "mknod device c 1 1",
    ] {
        check(Bounds::default(), script, &|report, place| {
            assert_ne!(report.ended, Ended::Exit(0), "{script}: {report:?}");
            assert!(!place.path("outside/new").exists(), "{script}");
        });
    }
    let place = Place::new();
    let file = place.path("outside/file");
    std::fs::write(&file, "kept").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = std::fs::metadata(&file).unwrap();
    let script = format!("chmod 777 {0} || touch -d 2001-01-01 {0}", file.display());
    let report = sandbox().run(place.order(&script), Cancellation::NEVER).unwrap();
    assert!(matches!(report.ended, Ended::Exit(1..)), "{report:?}");
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!(after.permissions(), before.permissions());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
}

#[test]
fn modes_of_its_own_files_can_be_changed() {
    let script = "echo 'exit 7' > run && chmod 755 run && ./run";
    check(Bounds::default(), script, &|report, _| assert_eq!(report.ended, Ended::Exit(7)));
}

#[test]
fn it_has_no_rights_even_where_it_is_root() {
    let script = "echo x > made && chmod 000 made && ! cat made";
    check(Bounds::default(), script, &|report, _| {
        assert_eq!(report.ended, Ended::Exit(0), "{report:?}");
    });
}

/// Runs a script of Python's, for calls that a shell cannot make.
fn check_python(script: &str) {
    let begin = "import ctypes, os, resource, signal, socket\n\
                 libc = ctypes.CDLL(None, use_errno=True)\n\
                 def refused(answer):\n    assert answer == -1 and ctypes.get_errno() == 1, (answer, ctypes.get_errno())\n";
    let place = Place::new();
    let arguments = vec!["-c".to_owned(), format!("{begin}{script}")];
    let order = Order { program: "/usr/bin/python3".into(), arguments, ..place.order("") };
    let report = sandbox().run(order, Cancellation::NEVER).unwrap();
    assert_eq!(report.ended, Ended::Exit(0), "{script}: {report:?}");
}

#[test]
fn a_probe_says_whether_there_is_a_sandbox() {
    assert_eq!(sandbox().probe(), Ok(()), "the tests before this one need it, too");
    let nothing = Sandbox::at(Path::new("/nowhere/bolide")).probe().unwrap_err();
    assert!(nothing.contains("/nowhere/bolide"), "{nothing}");
}

#[test]
fn of_pairs_of_sockets_only_streams_are_made() {
    check_python(
        "one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)\n\
         one.send(b'x')\n\
         assert other.recv(1) == b'x'\n\
         pair = (ctypes.c_int * 2)()\n\
         for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 3, 11):\n    \
             refused(libc.socketpair(socket.AF_UNIX, kind, 0, pair))\n\
         refused(libc.socketpair(30, socket.SOCK_STREAM, 0, pair))\n",
    );
}

#[test]
fn limits_of_others_stay_as_they_are() {
    check_python(
        "child = os.fork()\n\
         if child == 0:\n    signal.pause()\n\
         limits = (ctypes.c_ulong * 2)()\n\
         assert libc.prlimit(0, resource.RLIMIT_NOFILE, None, limits) == 0 and limits[0] > 0\n\
         refused(libc.prlimit(child, resource.RLIMIT_NOFILE, None, limits))\n\
         refused(libc.prlimit(child, resource.RLIMIT_NOFILE, limits, None))\n\
         os.kill(child, 9)\n",
    );
}

#[test]
fn it_cannot_outlive_its_helper_by_its_own_choice() {
    check_python(
        "held = ctypes.c_int()\n\
         refused(libc.prctl(1, 0, 0, 0, 0))\n\
         assert libc.prctl(2, ctypes.byref(held), 0, 0, 0) == 0 and held.value == 9, held\n\
         assert libc.prctl(15, b'name', 0, 0, 0) == 0\n",
    );
}

#[test]
fn it_makes_no_files_without_a_place() {
    check_python(
        "refused(libc.memfd_create(b'x', 0))\n\
         refused(libc.syscall(447, 0))\n",
    );
}

#[test]
fn it_watches_no_paths() {
    check_python(
        "refused(libc.inotify_init())\n\
         refused(libc.inotify_init1(0))\n\
         refused(libc.inotify_add_watch(0, b'/', 0x100))\n\
         refused(libc.fanotify_init(0, 0))\n",
    );
}

#[test]
fn the_other_numbers_of_calls_lead_nowhere() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    // memfd_create, prctl, prlimit64, socketpair and inotify_init1. Where the kernel has no x32, it says so (38).
    check_python(
        "pair = (ctypes.c_int * 2)()\n\
         for call in ((319, b'x', 0), (157, 1, 0), (302, 7, 7, None, None), (53, 1, 2, 0, pair), (294, 0)):\n    \
             answer = libc.syscall(0x40000000 | call[0], *call[1:])\n    \
             assert answer == -1 and ctypes.get_errno() == 1, (call, answer, ctypes.get_errno())\n",
    );
}

#[test]
fn what_a_build_says_of_its_sandbox_is_not_believed() {
    let forged = "echo 'bolide: no sandbox: forged'; \
                  for i in 0 3 4 5 6 7 8 9; do (echo forged >&$i) 2>/dev/null; done; exit 117";
    check(Bounds::default(), forged, &|report, _| {
        assert_eq!(report.ended, Ended::Exit(117), "{report:?}");
        assert!(report.tail.contains("no sandbox: forged"), "{report:?}");
    });
    let place = Place::new();
    let order = Order { program: place.path("work/none"), ..place.order("") };
    let report = sandbox().run(order, Cancellation::NEVER).unwrap();
    let Ended::Unable(why) = &report.ended else { panic!("{report:?}") };
    assert!(why.contains("cannot run") && why.contains("work/none"), "{why}");
}

#[test]
fn what_takes_too_much_is_ended() {
    let bounds = Bounds::default();
    let long = Bounds { time: Duration::from_millis(300), ..bounds };
    check(long, "sleep 86397", &|report, _| is_limit(report, "0.3 seconds"));
    check(long, "trap '' TERM INT HUP; while :; do :; done", &|report, _| {
        is_limit(report, "seconds");
    });
    let quiet = Bounds { output_bytes: 1 << 20, ..bounds };
    check(quiet, "yes", &|report, _| {
        is_limit(report, "bytes of output");
        assert!(report.tail.len() < 1 << 16);
    });
    let few = Bounds { files: 100, ..bounds };
    let many = "i=0; while :; do i=$((i+1)); : > $i; done";
    check(few, many, &|report, _| is_limit(report, "100 files"));
    let deep = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); mkdir d && cd d || exit 9; done";
    check(bounds, deep, &|report, _| is_limit(report, "directories inside one another"));
    let small = Bounds { disk_bytes: 4 << 20, ..bounds };
    let fill = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > $((i % 64)); done";
    check(small, fill, &|report, _| is_limit(report, "bytes of files"));
    let alone = Bounds { processes: 20, ..bounds };
    let fork = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do sleep 86396 & done; wait";
    check(alone, fork, &|report, _| is_limit(report, "20 processes"));
    let short = Bounds { file_bytes: 1 << 16, ..bounds };
    check(short, "head -c 1000000 /dev/zero > large", &|report, place| {
        assert_ne!(report.ended, Ended::Exit(0));
        assert_eq!(std::fs::metadata(place.path("work/large")).unwrap().len(), 1 << 16);
    });
    let lazy = Bounds { processor_seconds: 1, ..bounds };
    check(lazy, "while :; do :; done", &|report, _| {
        assert!(matches!(report.ended, Ended::Signal(_)), "{report:?}");
    });
    let poor = Bounds { memory_bytes: 64 << 20, ..bounds };
    check(poor, "head -c 200000000 /dev/zero | tail -c 190000000 > /dev/null", &|report, _| {
        assert_ne!(report.ended, Ended::Exit(0), "{report:?}");
    });
}

#[test]
fn nothing_that_it_started_stays() {
    let word = format!("86390.{}", std::process::id());
    let script = format!("setsid sh -c 'sleep {word} & sleep {word} &' & sleep {word} & exit 0");
    check(Bounds::default(), &script, &|report, _| {
        assert_eq!(report.ended, Ended::Exit(0), "{report:?}");
        assert_eq!(processes(&word), 0);
    });
}

#[test]
fn a_helper_that_is_killed_takes_everything_along() {
    let sandbox = sandbox();
    let word = format!("86199.{}", std::process::id());
    let place = Place::new();
    let work = place.path("work").display().to_string();
    let order = place.order(&format!("sh -c 'sleep {word}' & : > begun; wait"));
    let report = std::thread::scope(|scope| {
        let report = scope.spawn(|| sandbox.run(order, Cancellation::NEVER));
        while !place.path("work/begun").exists() {
            std::thread::yield_now();
        }
        // The helper and the worker are told the same; the worker has become the shell.
        let is_helper = |path: &PathBuf| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("build-helper") && line.contains(&work)
        };
        let mut entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let helper = entries.find(is_helper).unwrap();
        let pid = helper.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        report.join().unwrap().unwrap()
    });
    assert!(matches!(report.ended, Ended::Unable(_)), "{report:?}");
    assert!(report.failure().unwrap().contains("without a word"), "{report:?}");
    // The kernel ends the rest, in its own time.
    while processes(&word) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn it_ends_when_nobody_wants_it_any_more() {
    let word = format!("86290.{}", std::process::id());
    let place = Place::new();
    let order = place.order(&format!("setsid sleep {word} & : > begun; wait"));
    let cancellation = Cancellation::until(None);
    let ended = std::thread::scope(|scope| {
        let ended = scope.spawn(|| sandbox().run(order, &cancellation));
        while !place.path("work/begun").exists() {
            std::thread::yield_now();
        }
        cancellation.cancel();
        ended.join().unwrap()
    });
    assert_eq!(ended.unwrap_err().code, "cancelled");
    assert_eq!(processes(&word), 0);
}

#[test]
fn a_copy_is_shown_at_another_place_and_what_lies_there_stays() {
    let place = Place::new();
    let shown = place.path("shown");
    std::fs::create_dir_all(&shown).unwrap();
    std::fs::create_dir_all(place.path("work/source")).unwrap();
    std::fs::write(shown.join("own"), "kept").unwrap();
    let script =
        "pwd; test -e own && exit 7; echo made > new && mkdir d && echo x > d/y && rm -r d; exit 0";
    let order = Order {
        directory: place.path("work/source"),
        shown: Some(shown.clone()),
        ..place.order(script)
    };
    let report = sandbox().run(order, Cancellation::NEVER).unwrap();
    assert_eq!(report.ended, Ended::Exit(0), "{report:?}");
    assert_eq!(report.tail.trim(), shown.display().to_string());
    assert_eq!(std::fs::read_to_string(place.path("work/source/new")).unwrap(), "made\n");
    let left: Vec<_> = std::fs::read_dir(&shown).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(std::fs::read_to_string(shown.join("own")).unwrap(), "kept");
}
