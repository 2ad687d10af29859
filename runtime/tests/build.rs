//! The sandbox of builds by itself: what runs in it reaches nothing outside, takes no more than it may, and leaves no process behind, in
//! name spaces and where the kernel gives this user none.
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
            readable: Vec::new(),
            variables: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        }
    }
}

fn ways() -> [(&'static str, Sandbox); 2] {
    let sandbox = || Sandbox::at(Path::new(BOLIDE));
    [("in name spaces", sandbox()), ("without", sandbox().without_namespaces())]
}

/// Runs a script both ways.
fn check(bounds: Bounds, script: &str, judge: &dyn Fn(&Report, &Place)) {
    for (way, sandbox) in ways() {
        let place = Place::new();
        let script = script.replace("OUTSIDE", &place.path("outside").display().to_string());
        let order = place.order(&script);
        let report = sandbox.bounded(bounds).run(order, Cancellation::NEVER).unwrap();
        eprintln!("{way}: {report:?}");
        judge(&report, &place);
    }
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

fn may_have_namespaces() -> bool {
    let tried = std::process::Command::new("unshare").args(["-Urmnpf", "true"]).status();
    tried.is_ok_and(|status| status.success())
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
fn it_has_name_spaces_where_this_user_may_have_some() {
    let may = may_have_namespaces();
    for (way, sandbox) in ways() {
        let place = Place::new();
        let report = sandbox.run(place.order("echo $$"), Cancellation::NEVER).unwrap();
        // In one of its own it is the first process.
        let is_first = report.tail == "1\n";
        assert_eq!(is_first, may && way == "in name spaces", "{way}: {report:?}");
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
    for (way, sandbox) in ways() {
        let place = Place::new();
        let file = place.path("outside/file");
        std::fs::write(&file, "kept").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let before = std::fs::metadata(&file).unwrap();
        let script = format!("chmod 777 {0}; touch -d 2001-01-01 {0}; true", file.display());
        sandbox.run(place.order(&script), Cancellation::NEVER).unwrap();
        let after = std::fs::metadata(&file).unwrap();
        assert_eq!(after.permissions(), before.permissions(), "{way}");
        assert_eq!(after.modified().unwrap(), before.modified().unwrap(), "{way}");
    }
}

#[test]
fn modes_of_its_own_files_can_be_changed_where_nothing_else_can() {
    let (way, sandbox) = ways().into_iter().next().unwrap();
    let place = Place::new();
    let script = "echo 'exit 7' > run && chmod 755 run && ./run";
    let report = sandbox.run(place.order(script), Cancellation::NEVER).unwrap();
    // Where there are no name spaces the mode is not changed, and nobody is told.
    assert!(matches!(report.ended, Ended::Exit(7 | 126)), "{way}: {report:?}");
}

#[test]
fn it_has_no_rights_even_where_it_is_root() {
    if !may_have_namespaces() {
        eprintln!("not shown here: without a name space no mode is changed");
        return;
    }
    let (_, sandbox) = ways().into_iter().next().unwrap();
    let place = Place::new();
    let script = "echo x > made && chmod 000 made && ! cat made";
    let report = sandbox.run(place.order(script), Cancellation::NEVER).unwrap();
    assert_eq!(report.ended, Ended::Exit(0), "{report:?}");
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
    for (index, (way, sandbox)) in ways().into_iter().enumerate() {
        let word = format!("8639{index}.{}", std::process::id());
        let place = Place::new();
        let script =
            format!("setsid sh -c 'sleep {word} & sleep {word} &' & sleep {word} & exit 0");
        let report = sandbox.run(place.order(&script), Cancellation::NEVER).unwrap();
        assert_eq!(report.ended, Ended::Exit(0), "{way}: {report:?}");
        assert_eq!(processes(&word), 0, "{way}");
    }
}

#[test]
fn a_helper_that_is_killed_takes_everything_along() {
    if !may_have_namespaces() {
        eprintln!("not shown here: only in a name space is what it started ended without it");
        return;
    }
    let (_, sandbox) = ways().into_iter().next().unwrap();
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
    for (index, (way, sandbox)) in ways().into_iter().enumerate() {
        let word = format!("8629{index}.{}", std::process::id());
        let place = Place::new();
        let order = place.order(&format!("setsid sleep {word} & : > begun; wait"));
        let cancellation = Cancellation::until(None);
        let ended = std::thread::scope(|scope| {
            let ended = scope.spawn(|| sandbox.run(order, &cancellation));
            while !place.path("work/begun").exists() {
                std::thread::yield_now();
            }
            cancellation.cancel();
            ended.join().unwrap()
        });
        assert_eq!(ended.unwrap_err().code, "cancelled", "{way}");
        assert_eq!(processes(&word), 0, "{way}");
    }
}
