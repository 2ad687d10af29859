//! What somebody can do who has taken the process over: tried for real, from inside, with every lock closed, with Landlock
//! alone, and on a kernel that has no Landlock.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::*;

/// A file that is there, and one that is not.
struct Targets {
    scratch: Scratch,
}

impl Targets {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.write("outside/there", b"as it was");
        Self { scratch }
    }

    fn at(&self, what: &str, name: &str) -> String {
        format!("{what}:{}", self.scratch.path("outside").join(name).display())
    }

    /// Everything about files.
    fn files(&self) -> Vec<String> {
        let on_the_old = ["read", "append", "remove", "rename", "link", "change-mode"];
        let on_the_new = ["write", "make-directory", "symlink"];
        let old = on_the_old.iter().map(|what| self.at(what, "there"));
        let new = on_the_new.iter().map(|what| self.at(what, "new"));
        old.chain(new).chain(["read:/proc/self/environ".to_owned(), "list:/".to_owned()]).collect()
    }

    #[track_caller]
    fn are_untouched(&self) {
        assert_eq!(list(&self.scratch.path("outside")), ["there"]);
        let there = self.scratch.path("outside/there");
        assert_eq!(std::fs::read(there).unwrap(), b"as it was");
    }
}

fn attempt(unpacker: &Unpacker, what: &str) -> Result<String, Refusal> {
    unpacker.attempt(what, 0, (ArchiveKind::Npm, Contents::All), |_, _| Ok(()))
}

fn on_this_process(what: &str) -> String {
    format!("{what}:{}", std::process::id())
}

/// Does something on a thread for which these system calls fail, and for all processes that it starts.
fn denied<R: Send>(calls: &[libc::c_long], work: impl FnOnce() -> R + Send) -> R {
    let filtered = || {
        for call in calls {
            let rules = BTreeMap::from([(*call, Vec::new())]);
            let (pass, fail) = (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32));
            let machine = std::env::consts::ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(rules, pass, fail, machine).unwrap();
            seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(filtered).join().unwrap())
}

#[track_caller]
fn check_held(unpacker: &Arc<Unpacker>) {
    let _session = unpacker.session();
    let targets = Targets::new();
    let rights = [on_this_process("signal"), "unlimit".to_owned(), "memory-file".to_owned()];
    for what in targets.files().into_iter().chain(rights) {
        let came = attempt(unpacker, &what).unwrap();
        assert!(came.contains("not permitted"), "{what}: {came}");
    }
    // What only somebody does who has taken it over is the end of it.
    let socket = format!("unix:{}", targets.scratch.path("socket").display());
    for what in ["tcp", &socket, "thread", &on_this_process("trace")] {
        let ended = attempt(unpacker, what).unwrap_err().to_string();
        assert!(ended.contains("a system call that no reader makes"), "{what}: {ended}");
    }
    // These need more than one call, and come to their end at one or the other.
    for what in ["start", "become"] {
        let came = attempt(unpacker, what);
        assert!(came.as_ref().map_or(true, |came| came.contains("not permitted")), "{came:?}");
    }
    targets.are_untouched();
}

#[test]
fn with_every_lock_closed_nothing_can_be_reached() {
    check_held(&helped());
}

#[test]
fn without_landlock_the_filter_holds_the_same_and_it_is_told() {
    denied(&[libc::SYS_landlock_create_ruleset], || {
        let unpacker = helped();
        check_held(&unpacker);
        assert_eq!(unpacker.isolation().unwrap().landlock, 0);
        let honest = forge::tarball(&[forge::file("package/a", b"content")]);
        assert_eq!(contents(&unpacker, &honest, ArchiveKind::Npm).unwrap()[0].1, b"content");
    });
}

#[test]
fn landlock_alone_keeps_files_programs_and_others() {
    let unpacker = Arc::new(Unpacker::with(program().under_landlock_alone()));
    let _session = unpacker.session();
    let targets = Targets::new();
    assert!(attempt(&unpacker, &targets.at("read", "there")).is_ok());
    let version = unpacker.isolation().unwrap().landlock;
    if version == 0 {
        eprintln!("this kernel has no Landlock");
        return;
    }
    for what in targets.files() {
        // Modes are changed through no right that Landlock knows; the filter keeps them.
        if !what.starts_with("change-mode") {
            let came = attempt(&unpacker, &what).unwrap();
            assert!(
                came.contains("ermission denied") || came.contains("not permitted"),
                "{what}: {came}"
            );
        }
    }
    for what in ["start", "become", &on_this_process("trace")] {
        assert_ne!(attempt(&unpacker, what).unwrap(), "done", "{what}");
    }
    if version >= 4 {
        assert!(attempt(&unpacker, "tcp").unwrap().contains("ermission denied"));
    }
    if version >= 6 {
        assert!(attempt(&unpacker, &on_this_process("signal")).unwrap().contains("not permitted"));
    }
    targets.are_untouched();
}

#[test]
fn without_filters_of_system_calls_no_archive_is_read() {
    denied(&[libc::SYS_seccomp], || {
        let scratch = Scratch::new();
        let archive = scratch.write("demo.tgz", &forge::tarball(&[forge::file("a", b"")]));
        let refused = unpack(&helped(), &archive, &scratch.path("place")).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retry), ("unpack-helper", true));
        assert!(refused.message.contains("cannot filter its system calls"), "{refused}");
        assert_eq!(scratch.all("demo.tgz"), ["outside/", "place/"]);
    });
}

#[test]
fn what_the_starting_process_had_open_is_closed() {
    use rustix::fs::{Mode, OFlags, open};
    let scratch = Scratch::new();
    // Open for whatever is started, as careless programs leave their files.
    let leaked = open(scratch.write("leaked", b""), OFlags::RDWR, Mode::empty()).unwrap();
    let unpacker = helped();
    let _session = unpacker.session();
    let honest = forge::tarball(&[forge::file("package/a", b"content")]);
    contents(&unpacker, &honest, ArchiveKind::Npm).unwrap();
    let reader = rustix::process::Pid::as_raw(Some(unpacker.idle()[0]));
    // Only the superuser may look into a process that shows itself to nobody.
    match std::fs::read_dir(format!("/proc/{reader}/fd")) {
        Ok(descriptors) => assert_eq!(descriptors.count(), 3),
        Err(error) => eprintln!("cannot look: {error}"),
    }
    drop(leaked);
}
