//! What comes in through the daemon's doors and must not stay, hold it up or be blamed on the wrong side: files that do not
//! close, packets for which there are no descriptors, callers that do not read, links of which only one side knows the end,
//! strangers, and what killed daemons left.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use ipc::class::{Class, ReceivingHalf};
use ipc::client::{Client, ClientError, Event, LinkOptions};
use ipc::control::{FromRouter, ToRouter, VERSION};
use ipc::header::{GrantId, LaneId};
use ipc::lane::{Ended, ReceiveError};
use ipc::link::{Answer, Incoming, Outcome};
use ipc::socket::{ConnectError, Connection, ReceiveError as PacketError};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::links::{QUIET, linked};
use super::world::{Daemon, client_manifest, eventually, patience, signal};
use super::{ECHO, introduce};

/// Where the one that comes back finds the socket; set only there.
const RETURNING: &str = "BOLIDE_TEST_RETURNING_SOCKET";
/// Where the stranger finds the socket; set only there.
const STRANGER: &str = "BOLIDE_TEST_STRANGER_SOCKET";
const NOBODY: u32 = 65534;

/// A socket whose close lasts an hour, unless the other end is closed: it holds bytes that nobody takes.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4_096).unwrap();
    let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&here, 4_096).unwrap();
    let (there, _) = listener.accept().unwrap();
    here.set_nonblocking(true).unwrap();
    while here.write(&[7; 65_536]).is_ok_and(|count| count > 0) {}
    here.set_nonblocking(false).unwrap();
    rustix::net::sockopt::set_socket_linger(&here, Some(Duration::from_secs(3_600))).unwrap();
    (here, there)
}

/// As many descriptors as the kernel takes.
fn send_many(to: &Connection, packet: &[u8], files: &[TcpStream]) {
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(&files)));
    rustix::net::sendmsg(to, &[IoSlice::new(packet)], &mut beside, SendFlags::empty()).unwrap();
}

#[test]
fn what_a_client_hands_over_and_does_not_close_holds_up_nobody_else() {
    let daemon = Daemon::start(&QUIET);
    let hostile = daemon.connection();
    introduce(&hostile, "test.hostile");
    let mut ends = Vec::new();
    // The daemon has the last copy of each, and drops it wherever such a packet ends: in the router, and at the door.
    signal(daemon.pid(), Signal::STOP);
    for grant in 1..=4 {
        let (stuck, end) = lingering();
        let message = ToRouter::Grant { lane: LaneId(77), grant: GrantId(grant) };
        hostile.send(&message.encode().unwrap(), &[stuck.as_fd()]).unwrap();
        ends.push(end);
    }
    // More than a packet may have; those beyond it the kernel must not close on the daemon's thread either.
    let (stuck, others): (Vec<_>, Vec<_>) = (0..12).map(|_| lingering()).unzip();
    ends.extend(others);
    send_many(&hostile, &ToRouter::Bye.encode().unwrap(), &stuck);
    drop(stuck);
    signal(daemon.pid(), Signal::CONT);
    eventually("it is expelled", || daemon.agent("test.hostile").is_none());
    // Everybody is served as before.
    let (mut one, _two, mut opened, mut accepted) = linked(&daemon, Class::Critical, ["a", "b"]);
    let request = opened.request("tool", b"x", &[], patience()).unwrap();
    let Incoming::Request(asked) = accepted.next(patience()).unwrap() else { panic!() };
    let when = ipc::lane::WhenFull::Reject;
    accepted.sender().answer(asked.id, b"y", when).unwrap();
    assert_eq!(opened.answer(request, patience()).unwrap(), Answer::Done(b"y".to_vec()));
    assert_eq!(one.agents("").unwrap().len(), 2);
    let (_, held) = daemon.descriptors();
    drop(ends);
    eventually("they are closed", || daemon.descriptors().1 < held);
}

/// So many descriptors a process may have from now on; gives what it could have before.
fn limit_descriptors(pid: u32, limit: Option<u64>) -> Rlimit {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: limit, maximum }).unwrap()
}

#[test]
fn a_daemon_without_descriptors_says_so_and_expels_nobody() {
    let daemon = Daemon::start(&QUIET);
    let (mut one, mut two, opened, accepted) = linked(&daemon, Class::Critical, ["a", "b"]);
    let before = limit_descriptors(daemon.pid(), Some(1));
    let refused = one.open("b").unwrap_err();
    let pipe = std::io::pipe().unwrap();
    let lost = one.grant(opened.lane(), pipe.0.as_fd()).unwrap();
    let refused_topic = one.publisher("news", ipc::control::TopicPolicy::Lossy).unwrap_err();
    for error in [refused, refused_topic] {
        let ClientError::Refused { code, message } = error else { panic!("{error}") };
        assert_eq!(code, "limit");
        assert!(message.contains("limit `open_files`"), "{message}");
    }
    limit_descriptors(daemon.pid(), before.current);
    // The same connections, and the link between them, go on.
    let kept = one.grant(opened.lane(), pipe.0.as_fd()).unwrap();
    two.take_grant(accepted.lane(), kept, patience()).unwrap();
    let gone = two.take_grant(accepted.lane(), lost, std::time::Instant::now()).unwrap_err();
    assert!(matches!(gone, ClientError::NoGrant { .. }), "{gone}");
    assert_eq!(daemon.metric("bolide_bus_limits_total{limit=\"open_files\"}"), 3.0);
}

#[test]
fn a_caller_that_does_not_read_keeps_its_link_and_holds_up_only_itself() {
    // More than fit into the lane of the answers and wait outside of it, and fewer than both lanes take.
    const REQUESTS: usize = 1_500;
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.deaf");
    let mut link = client.open("echo").unwrap();
    let request = |link: &mut ipc::link::Link, tool: &str, payload: &[u8]| {
        link.request(tool, payload, &[], patience()).unwrap()
    };
    let requests: Vec<_> = (0..REQUESTS).map(|_| request(&mut link, "echo.none", b"")).collect();
    // Another one is served, also once the agent is done with all that it takes of the first.
    let mut other = daemon.client("test.other");
    let mut second = other.open("echo").unwrap();
    for payload in [vec![1; 10], vec![2; 1_000_000]] {
        let outcome = second.call("echo.echo", &payload, &[], patience(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(payload));
    }
    for expected in requests {
        match link.next(patience()).unwrap() {
            Incoming::Answer { request, answer: Answer::Failed(_) } => {
                assert_eq!(request, expected);
            }
            other => panic!("{other:?}"),
        }
    }
    // Answers of calls, longer than their lane, wait as well, and are whole.
    let long = vec![7; 3_000_000];
    let requests: Vec<_> = (0..4).map(|_| request(&mut link, "echo.echo", &long)).collect();
    let outcome = second.call("echo.echo", b"still", &[], patience(), |_| {}).unwrap();
    assert_eq!(outcome, Outcome::Done(b"still".to_vec()));
    let mut answered = Vec::new();
    for _ in &requests {
        match link.next(patience()).unwrap() {
            Incoming::Answer { request, answer: Answer::Done(payload) } => {
                assert!(payload == long);
                answered.push(request);
            }
            other => panic!("{other:?}"),
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, requests);
}

#[test]
fn a_link_whose_caller_hung_up_is_closed_with_the_router_too() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let link = client.open_link("echo", LinkOptions { class: Class::Normal }).unwrap();
    assert_eq!(daemon.metric("bolide_bus_lanes"), 2.0);
    // Only the socket between the two tells; the client stays connected and tells the router nothing.
    drop(link);
    eventually("the router knows", || daemon.metric("bolide_bus_lanes") == 0.0);
    let event = client.next_event(patience()).unwrap();
    assert!(matches!(event, Some(Event::LinkClosed { code, .. }) if code == "closed"));
}

#[test]
fn a_link_that_broke_the_protocol_ends_as_quarantined_everywhere() {
    let daemon = Daemon::start(&QUIET);
    for (class, names) in [(Class::Critical, ["a", "b"]), (Class::Normal, ["c", "d"])] {
        let (mut one, mut two, mut opened, mut accepted) = linked(&daemon, class, names);
        one.quarantine(opened.lane(), "it scribbled").unwrap();
        let event = two.next_event(patience()).unwrap();
        let Some(Event::LinkClosed { code, reason, .. }) = event else { panic!("{event:?}") };
        assert_eq!((&*code, &*reason), ("quarantined", "it scribbled"));
        for link in [&mut opened, &mut accepted] {
            let end = link.receiver().raw().receive(Some(patience())).unwrap_err();
            assert_eq!(end, ReceiveError::Ended(Ended::Quarantined), "{class}");
        }
    }
    assert_eq!(daemon.metric("bolide_bus_ended_total{code=\"quarantined\"}"), 2.0);
    assert_eq!(daemon.metric("bolide_bus_ended_total{code=\"closed\"}"), 0.0);
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_any_other_of_its_user() {
    let mut killed = Daemon::start(&QUIET);
    let living = Daemon::start(&QUIET);
    let mirror = |daemon: &Daemon| {
        let name = std::fs::read_to_string(daemon.runtime_dir().join("directory.name")).unwrap();
        std::path::Path::new("/dev/shm").join(name.trim_start_matches('/'))
    };
    let (left, kept) = (mirror(&killed), mirror(&living));
    // Before: whoever starts a daemon after its death may be the one that removes it.
    assert!(left.exists() && kept.exists());
    signal(killed.pid(), Signal::KILL);
    assert_eq!(killed.wait(), None);
    let _another = Daemon::start(&QUIET);
    assert!(!left.exists(), "nobody holds its lock");
    assert!(kept.exists(), "its daemon lives");
}

#[test]
fn another_user_is_kept_out_and_turned_away_and_told_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: there is no other user to be");
        return;
    }
    // Root of a container may not be somebody else.
    let tried = Command::new("true").uid(NOBODY).gid(NOBODY).status();
    if !tried.as_ref().is_ok_and(|status| status.success()) {
        eprintln!("not shown here: there is no other user to be: {tried:?}");
        return;
    }
    let daemon = Daemon::start(&QUIET);
    let mut own = daemon.client("test.own");
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    // What stands around the daemon's own directory is open to everybody.
    open(daemon.runtime_dir().parent().unwrap(), 0o755);
    as_nobody(&daemon, "shut");
    // Somebody opened its directory and its socket: then it is the daemon that says no, and clients that trust nobody else.
    open(&daemon.runtime_dir(), 0o755);
    open(&daemon.socket(), 0o666);
    as_nobody(&daemon, "open");
    let refused = "bolide_errors_total{agent=\"router\",kind=\"unauthorized\"}";
    eventually("both attempts are counted", || daemon.metric(refused) == 2.0);
    assert_eq!(own.agents("").unwrap().len(), 1, "nobody but the own client was let in");
}

/// Runs `stranger` as somebody else.
fn as_nobody(daemon: &Daemon, door: &str) {
    // The program may lie where nobody else can reach it.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("stranger");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    for place in [directory.path(), &program] {
        std::fs::set_permissions(place, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = Command::new(&program)
        .args(["--exact", "doors::stranger", "--nocapture"])
        .env(STRANGER, daemon.socket())
        .env("BOLIDE_TEST_DOOR", door)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn who_comes_back_at_once_under_the_same_name_is_let_in() {
    let daemon = Daemon::start(&QUIET);
    let own = std::env::current_exe().unwrap();
    // In a process of its own: what this one starts meanwhile has copies of all its sockets for a moment.
    let returning = Command::new(own)
        .args(["--exact", "doors::returning", "--nocapture"])
        .env(RETURNING, daemon.socket())
        .output()
        .unwrap();
    assert!(returning.status.success(), "{}", String::from_utf8_lossy(&returning.stderr));
    // As long as somebody is there nobody else has the name.
    let _here = daemon.client("test.returning");
    let manifest = client_manifest("test.returning");
    let refused = Client::connect(&daemon.socket(), &manifest, &[]).unwrap_err();
    let is_taken = matches!(&refused, ClientError::Refused { code, .. } if code == "name-taken");
    assert!(is_taken, "{refused}");
}

/// Not a test of its own: who leaves and comes back in the test before.
#[test]
fn returning() {
    let Some(socket) = std::env::var_os(RETURNING) else { return };
    let manifest = client_manifest("test.returning");
    for _ in 0..500 {
        drop(Client::connect(std::path::Path::new(&socket), &manifest, &[]).unwrap());
    }
}

/// Not a test of its own: the other user of `another_user_is_kept_out_and_turned_away_and_told_nothing`.
#[test]
fn stranger() {
    let Some(socket) = std::env::var_os(STRANGER) else { return };
    let socket = std::path::Path::new(&socket);
    assert_eq!(rustix::process::geteuid().as_raw(), NOBODY);
    if std::env::var("BOLIDE_TEST_DOOR").as_deref() == Ok("shut") {
        let error = Connection::connect_to_user(socket, 0).unwrap_err();
        let ConnectError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    // The library says nothing to a router of somebody else.
    let error = Client::connect(socket, &client_manifest("test.stranger"), b"token").unwrap_err();
    let is_other = matches!(
        &error,
        ClientError::Connect(ConnectError::OtherUser { uid: 0, expected: NOBODY, .. })
    );
    assert!(is_other, "{error}");
    // Whoever does without that is turned away before anything that it says is read.
    let connection = Connection::connect_to_user(socket, 0).unwrap();
    let (version, manifest, token) = (VERSION, client_manifest("test.stranger"), Vec::new());
    let hello = ToRouter::Hello { version, manifest, token };
    // The daemon may have hung up already.
    let _ = connection.send(&hello.encode().unwrap(), &[]);
    let mut heard = Vec::new();
    loop {
        match connection.receive() {
            Ok(packet) => heard.push(FromRouter::decode(&packet.bytes).unwrap()),
            Err(PacketError::Closed) if !heard.is_empty() => break,
            // A reset is told once, before what is queued.
            Err(PacketError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let [FromRouter::Refused { request: 0, code, message }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(code, "unauthorized");
    assert_eq!(message, "this daemon serves uid 0 only");
}
