//! Processes that die or hang: each end has its words, the next archive gets another process, and none outlives who asked.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::*;

const NPM: ArchiveKind<'_> = ArchiveKind::Npm;

/// More than any pipe holds.
fn large() -> Vec<u8> {
    forge::tarball(&[forge::file("package/large", &noise(6 << 20)), forge::file("package/b", b"")])
}

fn attempt(unpacker: &Unpacker, what: &str) -> String {
    let came = unpacker.attempt(what, 0, (NPM, Contents::All), |_, _| Ok(()));
    came.map_or_else(|refusal| refusal.to_string(), |came| format!("came back: {came}"))
}

#[test]
fn one_that_is_killed_midway_is_replaced_and_the_same_archive_is_read() {
    let unpacker = helped();
    let _session = unpacker.session();
    let bytes = large();
    let small = forge::tarball(&[forge::file("package/a", b"x")]);
    contents(&unpacker, &small, NPM).unwrap();
    let victim = unpacker.idle()[0];
    let killing = unpacker.read(Source::Bytes(&bytes), NPM, Contents::All, |_, content| {
        kill_process(victim, Signal::KILL).unwrap();
        std::io::copy(content, &mut std::io::sink()).map(drop).map_err(Refusal::from_read)
    });
    let said = killing.unwrap_err();
    assert!(matches!(said, Refusal::Helper(_)), "{said:?}");
    assert!(said.to_string().contains("signal 9"), "{said}");
    let read = contents(&unpacker, &bytes, NPM).unwrap();
    assert_eq!((read.len(), read[0].1.len()), (2, 6 << 20));
    assert_ne!(unpacker.idle(), [victim]);
    assert_eq!(unpacker.counts(), (2, 1));
}

#[test]
fn one_that_dies_while_it_has_nothing_to_do_is_not_noticed_by_whoever_asks_next() {
    let unpacker = helped();
    let _session = unpacker.session();
    let small = forge::tarball(&[forge::file("package/a", b"x")]);
    contents(&unpacker, &small, NPM).unwrap();
    kill_process(unpacker.idle()[0], Signal::KILL).unwrap();
    assert_eq!(contents(&unpacker, &small, NPM).unwrap().len(), 1);
    assert_eq!(unpacker.counts(), (2, 1));
}

#[test]
fn every_end_has_its_words_and_the_next_archive_is_read() {
    let bounded = |silence, seconds| Unpacker::with(program().bounded(silence, seconds));
    let long = Duration::from_secs(60);
    let small = forge::tarball(&[forge::file("package/a", b"x")]);
    for (what, unpacker, expected) in [
        ("panic", bounded(long, 30), "as a broken reader would"),
        ("abort", bounded(long, 30), "signal 6"),
        ("allocate", bounded(long, 30), "signal 6"),
        ("spin", bounded(long, 1), "the limit on its processor time"),
        ("hang", bounded(Duration::from_secs(5), 30), "neither said nor computed"),
    ] {
        let unpacker = Arc::new(unpacker);
        let _session = unpacker.session();
        let said = attempt(&unpacker, what);
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(contents(&unpacker, &small, NPM).unwrap().len(), 1, "{what}");
    }
}

#[test]
fn who_asks_the_same_again_gets_it_without_knowing() {
    let scratch = Scratch::new();
    // A program that fails once, and is the right one from then on.
    let token = scratch.write("token", b"");
    let script = format!(
        "#!/bin/sh\nif [ -e {0} ]; then /bin/rm {0}; exit 3; fi\nexec {BOLIDE} \"$@\"\n",
        token.display()
    );
    let failing = scratch.write("failing", script.as_bytes());
    std::fs::set_permissions(&failing, std::fs::Permissions::from_mode(0o755)).unwrap();
    let unpacker = Arc::new(Unpacker::with(Program::at(&failing)));
    let archive = scratch.write("demo.tgz", &forge::tarball(&[forge::file("a", b"content")]));
    let unpacked = unpack(&unpacker, &archive, &scratch.path("place")).unwrap();
    assert_eq!((unpacked.files, unpacker.counts()), (1, (1, 1)));
    assert_eq!(std::fs::read(scratch.path("place/a")).unwrap(), b"content");
}

#[test]
fn a_refusal_is_the_last_thing_that_a_process_says() {
    let unpacker = helped();
    let _session = unpacker.session();
    let hostile = forge::tarball(&[forge::file("package/../../x", b"x")]);
    assert!(contents(&unpacker, &hostile, NPM).is_err());
    assert!(unpacker.idle().is_empty());
    // It failed in nothing: it did what it is there for.
    assert_eq!(unpacker.counts(), (1, 0));
}

#[test]
fn without_a_session_and_after_it_no_process_is_left() {
    let unpacker = helped();
    let small = forge::tarball(&[forge::file("package/a", b"x")]);
    contents(&unpacker, &small, NPM).unwrap();
    assert!(unpacker.idle().is_empty());
    let session = unpacker.session();
    for _ in 0..3 {
        contents(&unpacker, &small, NPM).unwrap();
    }
    assert_eq!(unpacker.counts(), (2, 0));
    let ended = pidfd_open(unpacker.idle()[0], PidfdFlags::empty()).unwrap();
    drop(session);
    wait_for_end(&ended);
}

#[test]
fn many_archives_at_once_are_not_mixed() {
    let unpacker = helped();
    let _session = unpacker.session();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let unpacker = &unpacker;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("package/{thread}-{round}");
                    let text = name.repeat(20_000);
                    let bytes = forge::tarball(&[forge::file(&name, text.as_bytes())]);
                    let read = contents(unpacker, &bytes, NPM).unwrap();
                    assert_eq!(read[0].0.path, name["package/".len()..]);
                    assert_eq!(read[0].1, text.as_bytes());
                }
            });
        }
    });
    let (started, failed) = unpacker.counts();
    assert!((1..=6).contains(&started) && failed == 0, "{started} {failed}");
}

#[test]
fn it_ends_with_the_process_that_asked_even_where_it_is_stopped() {
    let scratch = Scratch::new();
    let archive = scratch.path("large.tar");
    let content = noise(1 << 20).repeat(64);
    std::fs::write(&archive, forge::blocks(&[forge::file("large", &content)])).unwrap();
    let mut command = Command::new(BOLIDE);
    command.arg("unpack").arg(&archive).arg("--into").arg(scratch.path("place"));
    let mut asking = command.spawn().unwrap();
    // It is there as soon as it shows up as a child; stopped, it cannot see that its socket ends.
    let reader = loop {
        if let Some(child) = child_of(asking.id()) {
            break child;
        }
        assert!(asking.try_wait().unwrap().is_none(), "it was over before it could be seen");
    };
    let ended = pidfd_open(reader, PidfdFlags::empty()).unwrap();
    // It answers, so it is behind its first lines; who asked takes nothing more, so it cannot come to its end.
    while !list(scratch.directory.path()).iter().any(|path| path.ends_with("/large")) {
        assert!(asking.try_wait().unwrap().is_none(), "it was over before it could be seen");
    }
    kill_process(Pid::from_child(&asking), Signal::STOP).unwrap();
    kill_process(reader, Signal::STOP).unwrap();
    asking.kill().unwrap();
    asking.wait().unwrap();
    wait_for_end(&ended);
    assert_eq!(list(&scratch.path("place")), [""; 0]);
}

fn child_of(parent: u32) -> Option<Pid> {
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let is_child = fields.get(1)?.parse() == Ok(parent);
        is_child.then(|| Pid::from_raw(name.parse().ok()?)).flatten()
    })
}

/// Returns when the process has ended; a watchdog ends a test that waits in vain.
fn wait_for_end(process: &std::os::fd::OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(process, PollFlags::IN)], None).unwrap();
}
