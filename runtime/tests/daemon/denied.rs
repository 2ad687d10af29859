//! A daemon, its agents and its clients from which the kernel keeps something: links come up one class lower and carry, and
//! everybody who is asked says which and why.
//!
//! The filters are real. They are set on a thread, and what it starts has them too, so a whole daemon stands under them. The
//! library's own cases are in `ipc/src/client/tests/denied.rs`.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use ipc::class::{Class, ReceivingHalf, SendingHalf};
use ipc::client::{Client, Event, LinkOptions};
use ipc::exchange::log::Logs;
use ipc::lane::{Ended, ReceiveError, WhenFull};
use ipc::link::{Link, Outcome};
use ipc::ring::Meta;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::ECHO;
use super::world::{Daemon, Options, client_manifest, eventually, patience};

/// Names the socket to the process that lets nobody trace it.
const PRIVATE: &str = "BOLIDE_TEST_PRIVATE_SOCKET";
const FALLEN: &str = "bolide_bus_class_fallbacks_total{wanted=\"high\",got=\"normal\"}";

/// Does something on a thread for which these system calls fail, and for all processes that it starts.
fn denied<R: Send>(calls: &[(libc::c_long, i32)], work: impl FnOnce() -> R + Send) -> R {
    let filtered = || {
        for (call, errno) in calls {
            let rules = BTreeMap::from([(*call, Vec::new())]);
            let (pass, fail) = (SeccompAction::Allow, SeccompAction::Errno(*errno as u32));
            let machine = std::env::consts::ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(rules, pass, fail, machine).unwrap();
            seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(filtered).join().unwrap())
}

/// Whether this machine has class HIGH at all; without it nothing here shows anything.
fn has_high() -> bool {
    let available = ipc::class::high::available();
    available.inspect_err(|error| eprintln!("no rings here: {error}")).is_ok()
}

fn high(client: &mut Client, target: &str) -> Link {
    client.open_link(target, LinkOptions { class: Class::High }).unwrap()
}

/// One call over a link that was to be HIGH; what its opener is told.
#[track_caller]
fn check_normal(client: &mut Client, reason: &str) {
    let mut link = high(client, "echo");
    assert_eq!((link.class(), link.terms().wanted), (Class::Normal, Class::High));
    let told = &link.terms().reason;
    assert!(told.starts_with("high: ") && told.contains(reason), "{told}");
    let answer = client.call(&mut link, "echo.echo", b"x", &[], patience(), |_| {}).unwrap();
    assert_eq!(answer, Outcome::Done(b"x".to_vec()));
}

/// Metric, `status` and `doctor` have so many links that fell, and the reason.
#[track_caller]
fn check_told(daemon: &Daemon, links: u64, reason: &str) {
    assert_eq!(daemon.metric(FALLEN), links as f64);
    let status = daemon.status();
    let row = &status["fallbacks"][0];
    assert_eq!((&row["wanted"], &row["got"]), (&"high".into(), &"normal".into()));
    assert_eq!(row["links"], links);
    assert!(row["reason"].as_str().unwrap().contains(reason), "{row}");
    let line = format!("links that wanted high and are normal: {links}; the last one: high: ");
    for command in ["status", "doctor"] {
        let (code, stdout, stderr) = daemon.run(&[command]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(&line) && stdout.contains(reason), "{stdout}");
    }
}

#[test]
fn a_daemon_whose_agents_get_no_rings_has_normal_links_and_says_why() {
    if !has_high() {
        return;
    }
    for (errno, reason) in
        [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "Function not implemented")]
    {
        let calls = [(libc::SYS_io_uring_setup, errno)];
        let daemon = denied(&calls, || Daemon::start(&ECHO));
        check_normal(&mut daemon.client("test.client"), reason);
        check_told(&daemon, 1, reason);
    }
}

#[test]
fn doctor_under_the_same_denial_says_what_is_denied() {
    if !has_high() {
        return;
    }
    let daemon = Daemon::start(&Options { hosted: "", ..ECHO });
    let denials = [
        (libc::SYS_io_uring_setup, "no ring of io_uring: Operation not permitted"),
        (libc::SYS_pidfd_getfd, "this process may not trace the peer"),
    ];
    for (call, reason) in denials {
        let run = || daemon.run(&["doctor", "--json"]);
        let (code, stdout, stderr) = denied(&[(call, libc::EPERM)], run);
        assert_eq!(code, Some(0), "{stderr}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let rows = report["bus"].as_array().unwrap();
        let row = |class: &str| rows.iter().find(|row| row["class"] == class).unwrap();
        assert_eq!(row("high")["available"], false);
        assert!(row("high")["reason"].as_str().unwrap().contains(reason), "{rows:?}");
        for class in ["critical", "normal", "low", "batch"] {
            assert_eq!(row(class)["available"], true, "{rows:?}");
        }
        let synced = row("low")["note"].as_str().unwrap();
        let has_no_ring = synced.contains("fdatasync (io_uring: Operation not permitted");
        assert_eq!(has_no_ring, call == libc::SYS_io_uring_setup, "{synced}");
    }
}

#[test]
fn an_agent_that_is_denied_what_high_needs_has_normal_links_as_opener_and_as_acceptor() {
    if !has_high() {
        return;
    }
    let denials = [
        (libc::SYS_io_uring_setup, libc::EPERM, "no ring of io_uring: Operation not permitted"),
        (libc::SYS_io_uring_enter, libc::EPERM, "no ring of io_uring: Operation not permitted"),
        (libc::SYS_pidfd_getfd, libc::EPERM, "this process may not trace the peer"),
        (libc::SYS_pidfd_getfd, libc::ENOSYS, "cannot be fetched: Function not implemented"),
    ];
    let daemon = Daemon::start(&ECHO);
    for (links, (call, errno, reason)) in (1..).zip(denials) {
        denied(&[(call, errno)], || check_normal(&mut daemon.client("test.opener"), reason));
        check_told(&daemon, links, reason);
    }
    for (links, (call, errno, reason)) in (5..).zip(denials) {
        let mut acceptor = daemon.client("test.acceptor");
        let mut opener = daemon.client("test.opener");
        let (opened, accepted) = std::thread::scope(|scope| {
            let accepted = scope.spawn(|| denied(&[(call, errno)], || answer_one(&mut acceptor)));
            let mut link = high(&mut opener, "test.acceptor");
            ask(&mut link);
            (link, accepted.join().unwrap())
        });
        assert_eq!((opened.class(), accepted.class()), (Class::Normal, Class::Normal));
        assert!(opened.terms().reason.contains(reason), "{:?}", opened.terms());
        assert_eq!(opened.terms().reason, accepted.terms().reason);
        check_told(&daemon, links, reason);
    }
}

fn ask(link: &mut Link) {
    let when = WhenFull::WaitUntil(patience());
    link.sender().raw().send(Meta::default(), b"question", when).unwrap();
    assert_eq!(link.receiver().raw().receive(Some(patience())).unwrap().payload, b"answer");
}

/// Accepts links until one of them carries a question, and answers that. One that its opener gives up has ended before.
fn answer_one(client: &mut Client) -> Link {
    loop {
        let Some(Event::LinkOffered(offer)) = client.next_event(patience()).unwrap() else {
            continue;
        };
        let mut link = client.accept(offer).unwrap();
        match link.receiver().raw().receive(Some(patience())).map(|one| one.payload.to_vec()) {
            Ok(question) => assert_eq!(question, b"question"),
            Err(ReceiveError::Ended(Ended::Closed)) => continue,
            Err(error) => panic!("{error:?}"),
        }
        let when = WhenFull::WaitUntil(patience());
        link.sender().raw().send(Meta::default(), b"answer", when).unwrap();
        return link;
    }
}

/// A client in a process of its own that nobody may trace, as Yama's scope 1 has it for all that did not start each other.
fn private_process(daemon: &Daemon) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "denied::private", "--nocapture"])
        .env(PRIVATE, daemon.socket())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: the other process of the next one.
#[test]
fn private() {
    let Some(socket) = std::env::var_os(PRIVATE) else { return };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    let manifest = client_manifest("test.private");
    let mut client = Client::connect(socket.as_ref(), &manifest, &[]).unwrap();
    let link = answer_one(&mut client);
    // The other side has read the answer before it lets the link go.
    while !matches!(client.next_event(patience()).unwrap(), Some(Event::LinkClosed { .. })) {}
    drop(link);
}

#[test]
fn a_peer_that_the_kernel_lets_nobody_trace_is_reached_over_a_socket() {
    if !has_high() {
        return;
    }
    let daemon = Daemon::start(&Options { hosted: "", ..ECHO });
    let mut child = private_process(&daemon);
    eventually("the other process is on the bus", || daemon.agent("test.private").is_some());
    let opened = std::thread::scope(|scope| {
        // For this thread alone; root may trace everybody otherwise.
        let opener = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
                set.remove(CapabilitySet::SYS_PTRACE);
            }
            set_capabilities(None, sets).unwrap();
            let mut client = daemon.client("test.opener");
            let mut link = high(&mut client, "test.private");
            ask(&mut link);
            client.decline(link.lane(), "done").unwrap();
            link
        });
        opener.join().unwrap()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(opened.class(), Class::Normal);
    let reason = "this process may not trace the peer";
    assert!(opened.terms().reason.contains(reason), "{:?}", opened.terms());
    check_told(&daemon, 1, reason);
}

#[test]
fn a_log_is_synced_without_io_uring_and_doctor_says_how() {
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter] {
        let start = || Daemon::start(&super::logs::EXCHANGE);
        let daemon = denied(&[(call, libc::EPERM)], start);
        // At once, because logs that are synced together are what the ring is for.
        std::thread::scope(|scope| {
            for log in ["one", "two", "three", "four"] {
                let mut client = daemon.client(&format!("test.{log}"));
                scope.spawn(move || {
                    let mut logs = None;
                    eventually("the exchange takes links", || {
                        logs = Logs::open(&mut client).ok();
                        logs.is_some()
                    });
                    let mut logs = logs.unwrap();
                    let options = ipc::exchange::log::Options::default();
                    logs.make(log, options, patience()).unwrap();
                    for _ in 0..20 {
                        logs.append_synced(log, b"kept", patience()).unwrap();
                    }
                });
            }
        });
        let how = "fdatasync (io_uring: Operation not permitted (os error 1))";
        eventually("the exchange has said how", || {
            let status = daemon.status();
            status["hosted"][0]["facts"]["log-sync"] == how
        });
        let (code, stdout, _) = daemon.run(&["doctor"]);
        assert_eq!(code, Some(0));
        assert!(stdout.contains(&format!("daemon     logs are synced by {how}")), "{stdout}");
    }
}
