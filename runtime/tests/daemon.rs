//! The daemon as a program: started for real, asked over its socket, its shared memory and its HTTP
//! endpoint, killed at bad moments. Nothing here sleeps for order; everything is polled until a
//! deadline that only a hang reaches.

#![allow(clippy::unwrap_used, reason = "a test that does not get what it needs has failed")]

#[path = "daemon/affinity.rs"]
mod affinity;
#[path = "daemon/calls.rs"]
mod calls;
#[path = "daemon/denied.rs"]
mod denied;
#[path = "daemon/directory.rs"]
mod directory;
#[path = "daemon/doors.rs"]
mod doors;
#[path = "daemon/governor.rs"]
mod governor;
#[path = "daemon/links.rs"]
mod links;
#[path = "daemon/logs.rs"]
mod logs;
#[path = "daemon/low.rs"]
mod low;
#[path = "daemon/mirror.rs"]
mod mirror;
#[path = "daemon/queues.rs"]
mod queues;
#[path = "daemon/routes.rs"]
mod routes;
#[path = "daemon/sensors.rs"]
mod sensors;
#[path = "daemon/silence.rs"]
mod silence;
#[path = "daemon/topics.rs"]
mod topics;
#[path = "daemon/traced.rs"]
mod traced;
#[path = "daemon/waits.rs"]
mod waits;
#[path = "daemon/world.rs"]
mod world;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipc::class::ReceivingHalf;
use ipc::client::{Client, ClientError, Event};
use ipc::control::{FromRouter, Terms, ToRouter, TopicPolicy};
use ipc::lane::{Ended, WhenFull};
use ipc::link::{Answer, CallError, Outcome};
use ipc::socket::{Connection, ReceiveError};
use ipc::wait::Spin;
use rustix::process::Signal;

use self::world::{Daemon, Options, cbor, client_manifest, eventually, patience, signal};

const ECHO: Options = Options { hosted: "echo", dev: false, drain_seconds: 10, routed: "" };

#[test]
fn echo_answers_over_shared_memory_and_the_counters_show_it() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let before = daemon.metric("bolide_bus_messages_total{class=\"critical\"}");
    let mut link = client.open("echo.echo").unwrap();
    for payload in [cbor("hello"), vec![7; 200_000]] {
        let outcome = link.call("echo.echo", &payload, &[], patience(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(payload));
    }
    let after = daemon.metric("bolide_bus_messages_total{class=\"critical\"}");
    assert!(after >= before + 4.0, "{before} then {after}");
    assert_eq!(daemon.metric("bolide_bus_lanes"), 2.0);
    let done = "bolide_tasks_total{agent=\"echo\",outcome=\"done\"}";
    eventually("the tasks are counted", || daemon.metric(done) == 2.0);
    drop(link);
    drop(client);
    eventually("the lanes are gone", || daemon.metric("bolide_bus_lanes") == 0.0);
    assert!(daemon.metric("bolide_bus_messages_total{class=\"critical\"}") >= after);
}

#[test]
fn errors_and_panics_of_a_call_are_answers_and_the_agent_lives_on() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    for (tool, code) in
        [("echo.fail", "echo-failed"), ("echo.panic", "panic"), ("echo.none", "no-such-tool")]
    {
        let Outcome::Failed(payload) = link.call(tool, &[], &[], patience(), |_| {}).unwrap()
        else {
            panic!("{tool} did not fail")
        };
        let error: ciborium::Value = ciborium::from_reader(payload.as_slice()).unwrap();
        assert!(format!("{error:?}").contains(&format!("Text({code:?})")), "{error:?}");
    }
    let panicked = "bolide_tasks_total{agent=\"echo\",outcome=\"panicked\"}";
    eventually("the panic is counted", || daemon.metric(panicked) == 1.0);
    assert_eq!(daemon.metric("bolide_agent_restarts_total{agent=\"echo\"}"), 0.0);
}

#[test]
fn a_granted_directory_reaches_the_agent() {
    let daemon = Daemon::start(&ECHO);
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(directory.path().join(name), name).unwrap();
    }
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    let file = std::fs::File::open(directory.path()).unwrap();
    let grant = client.grant(link.lane(), file.as_fd()).unwrap();
    let outcome = link.call("echo.directory", &[], &[grant], patience(), |_| {}).unwrap();
    assert_eq!(outcome, Outcome::Done(cbor(3u64)));
    let Outcome::Failed(_) = link.call("echo.directory", &[], &[], patience(), |_| {}).unwrap()
    else {
        panic!("no directory was granted")
    };
}

#[test]
fn topics_reach_readers_and_end_with_their_writer() {
    let daemon = Daemon::start(&Options { hosted: "", ..ECHO });
    let mut writer = daemon.client("test.writer");
    let mut reader = daemon.client("test.reader");
    reader.subscribe("event.*").unwrap();
    let mut publisher = writer.publisher("event.up", TopicPolicy::Lossless).unwrap();
    let Some(Event::TopicFound(offer)) = reader.next_event(patience()).unwrap() else {
        panic!("the topic was not announced")
    };
    let mut subscriber = reader.join(offer, Spin::Adaptive).unwrap();
    eventually("the reader is attached", || {
        writer.update(&mut publisher).unwrap();
        publisher.readers() == 1
    });
    publisher.publish(b"news", WhenFull::Reject).unwrap();
    assert_eq!(subscriber.raw().receive(Some(patience())).unwrap().payload, b"news");
    assert_eq!(daemon.metric("bolide_bus_lanes"), 1.0);
    drop(publisher);
    drop(writer);
    let Some(Event::LinkClosed { code, .. }) = reader.next_event(patience()).unwrap() else {
        panic!("the topic's end was not told")
    };
    assert_eq!(code, "peer-gone");
}

#[test]
fn a_killed_client_leaves_no_agent_lane_or_descriptor() {
    let daemon = Daemon::start(&ECHO);
    let ((memory, all), lanes) = (daemon.descriptors(), daemon.status()["lanes"].clone());
    assert_eq!(memory, 0);
    let mut victim = daemon.victim();
    eventually("the victim is on the bus", || daemon.agent("test.victim").is_some());
    eventually("its lanes are open", || daemon.status()["lanes"] == 3);
    let during = daemon.descriptors();
    assert!(during.1 > all, "{all} then {during:?}");
    victim.kill().unwrap();
    let killed = Instant::now();
    eventually("it is forgotten", || daemon.agent("test.victim").is_none());
    eventually("its lanes are gone", || daemon.status()["lanes"] == lanes);
    eventually("its descriptors are gone", || {
        let (memory_now, all_now) = daemon.descriptors();
        memory_now == memory && all_now <= all
    });
    eprintln!("everything was freed within {:?}", killed.elapsed());
    victim.wait().unwrap();
    let mut client = daemon.client("test.victim");
    assert!(client.open("echo").is_ok(), "its name is free again");
}

#[test]
fn a_killed_agent_answers_its_calls_with_its_death_and_comes_back() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    let request = link.request("echo.wait", &cbor(600_000u64), &[], patience()).unwrap();
    assert!(matches!(link.answer(request, patience()), Ok(Answer::Progress(_))));
    let running = "bolide_tasks_running{agent=\"echo\"}";
    eventually("the call is known to run", || daemon.metric(running) == 1.0);
    signal(daemon.agent_pid("echo"), Signal::KILL);
    let CallError::Ended { ended: Ended::PeerGone, .. } =
        link.answer(request, patience()).unwrap_err()
    else {
        panic!("the call did not end with its agent")
    };
    let Some(Event::LinkClosed { code, reason, .. }) = client.next_event(patience()).unwrap()
    else {
        panic!("the end of the link was not told")
    };
    assert_eq!(code, "peer-gone");
    assert!(reason.contains("agent `echo`") && reason.contains("process ended"), "{reason}");
    let mut link = reopened(&mut client);
    let outcome = link.call("echo.echo", b"again", &[], patience(), |_| {}).unwrap();
    assert_eq!(outcome, Outcome::Done(b"again".to_vec()));
    assert_eq!(daemon.metric("bolide_agent_restarts_total{agent=\"echo\"}"), 1.0);
    assert_eq!(daemon.metric("bolide_tasks_total{agent=\"echo\",outcome=\"died\"}"), 1.0);
    assert_eq!(daemon.status()["hosted"][0]["last_end"], "it was ended by signal 9");
}

#[test]
fn an_agent_that_crashes_by_itself_comes_back_too() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    for _ in 0..2 {
        let mut link = reopened(&mut client);
        let error = link.call("echo.crash", &[], &[], patience(), |_| {}).unwrap_err();
        assert!(matches!(error, CallError::Ended { ended: Ended::PeerGone, .. }), "{error}");
    }
    reopened(&mut client);
    assert_eq!(daemon.metric("bolide_agent_restarts_total{agent=\"echo\"}"), 2.0);
}

#[test]
fn sigterm_lets_calls_finish_and_takes_nothing_new() {
    let mut daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut other = daemon.client("test.other");
    let mut link = client.open("echo").unwrap();
    let request = link.request("echo.wait", &cbor(1_500u64), &[], patience()).unwrap();
    assert!(matches!(link.answer(request, patience()), Ok(Answer::Progress(_))));
    signal(daemon.pid(), Signal::TERM);
    assert!(matches!(client.next_event(patience()), Ok(Some(Event::Draining))));
    let Err(ClientError::Refused { code, .. }) = other.open("echo") else {
        panic!("a link was opened while stopping")
    };
    assert_eq!(code, "draining");
    assert_eq!(link.answer(request, patience()), Ok(Answer::Done(cbor(1_500u64))));
    assert_eq!(daemon.wait(), Some(0));
    assert!(!daemon.socket().exists());
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let mut daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    let request = link.request("echo.wait", &cbor(600_000u64), &[], patience()).unwrap();
    assert!(matches!(link.answer(request, patience()), Ok(Answer::Progress(_))));
    let agent = daemon.agent_pid("echo");
    signal(daemon.pid(), Signal::TERM);
    assert!(matches!(client.next_event(patience()), Ok(Some(Event::Draining))));
    signal(daemon.pid(), Signal::TERM);
    assert_eq!(daemon.wait(), Some(1));
    assert!(!world::is_alive(agent));
    let gone = std::iter::repeat_with(|| client.next_event(patience())).find_map(Result::err);
    assert!(matches!(gone, Some(ClientError::RouterGone)), "{gone:?}");
}

#[test]
fn patience_with_work_in_flight_is_bounded() {
    let mut daemon = Daemon::start(&Options { drain_seconds: 1, ..ECHO });
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    let request = link.request("echo.wait", &cbor(600_000u64), &[], patience()).unwrap();
    assert!(matches!(link.answer(request, patience()), Ok(Answer::Progress(_))));
    signal(daemon.pid(), Signal::INT);
    assert_eq!(daemon.wait(), Some(1));
}

#[test]
fn a_long_answer_reaches_a_reader_that_dawdles() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    let payload = vec![7; 2_000_000];
    let request = link.request("echo.echo", &payload, &[], patience()).unwrap();
    eventually("the answer has begun", || link.receiver().raw().has_message());
    // Longer than a host should hold on to anything, and short of its patience.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(link.answer(request, patience()), Ok(Answer::Done(payload)));
}

#[test]
fn a_second_daemon_in_the_same_directory_is_refused() {
    let daemon = Daemon::start(&ECHO);
    let (code, _, stderr) = daemon.run(&["serve", "--metrics-addr", "off"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("another daemon serves this runtime directory"), "{stderr}");
    assert!(daemon.client("test.client").open("echo").is_ok(), "the first one is unharmed");
}

#[test]
fn after_kill_minus_nine_the_agents_end_and_a_new_daemon_takes_over() {
    let mut daemon = Daemon::start(&ECHO);
    let agent = daemon.agent_pid("echo");
    signal(daemon.pid(), Signal::KILL);
    assert_eq!(daemon.wait(), None);
    assert!(daemon.socket().exists());
    eventually("the orphan ends by itself", || !world::is_alive(agent));
    assert_eq!(daemon.run(&["status"]).0, Some(8));
    daemon.restart(&ECHO);
    assert!(daemon.client("test.client").open("echo").is_ok());
}

#[test]
fn in_development_mode_agents_are_threads_on_the_same_bus() {
    let mut daemon = Daemon::start(&Options { dev: true, ..ECHO });
    assert_eq!(daemon.agent_pid("echo"), daemon.pid());
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    let outcome = link.call("echo.echo", b"x", &[], patience(), |_| {}).unwrap();
    assert_eq!(outcome, Outcome::Done(b"x".to_vec()));
    signal(daemon.pid(), Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_client_that_does_not_read_is_disconnected_and_hurts_nobody() {
    let daemon = Daemon::start(&ECHO);
    let deaf = daemon.connection();
    introduce(&deaf, "test.deaf");
    deaf.set_nonblocking(true).unwrap();
    let ask = ToRouter::ListAgents { request: 1, filter: String::new() }.encode().unwrap();
    eventually("it is thrown out", || {
        while deaf.send(&ask, &[]).is_ok() {}
        daemon.agent("test.deaf").is_none()
    });
    assert!(daemon.client("test.client").open("echo").is_ok());
}

#[test]
fn what_is_no_hello_is_turned_away() {
    let daemon = Daemon::start(&Options { hosted: "", ..ECHO });
    let late = ToRouter::ListAgents { request: 1, filter: String::new() }.encode().unwrap();
    let packets: [&[u8]; 3] = [b"garbage", &[0; 60_000], &late];
    for packet in packets {
        let connection = daemon.connection();
        connection.send(packet, &[]).unwrap();
        let answer = FromRouter::decode(&connection.receive().unwrap().bytes).unwrap();
        let FromRouter::Refused { request: 0, code, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(code, "malformed");
        assert!(matches!(connection.receive(), Err(ReceiveError::Closed)));
    }
    let silent = daemon.connection();
    assert!(silent.receive().is_ok(), "it is told why");
    assert!(matches!(silent.receive(), Err(ReceiveError::Closed)));
}

#[test]
fn unsealed_memory_and_wrong_descriptors_are_refused() {
    let daemon = Daemon::start(&ECHO);
    let connection = daemon.connection();
    introduce(&connection, "test.client");
    let memory = std::fs::File::from(
        rustix::fs::memfd_create("loose", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap(),
    );
    memory.set_len(1 << 20).unwrap();
    let open =
        ToRouter::OpenLink { request: 9, target: "echo".to_owned(), terms: Terms::default() };
    let open = open.encode().unwrap();
    connection.send(&open, &[memory.as_fd(); 4]).unwrap();
    let answer = FromRouter::decode(&connection.receive().unwrap().bytes).unwrap();
    let FromRouter::Refused { request: 9, code, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(code, "bad-segment");
    connection.send(&open, &[memory.as_fd(); 3]).unwrap();
    let answer = FromRouter::decode(&connection.receive().unwrap().bytes).unwrap();
    let FromRouter::Refused { request: 0, code, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(code, "malformed");
    eventually("it is gone", || daemon.agent("test.client").is_none());
}

#[test]
fn a_hosted_agents_name_cannot_be_taken() {
    let daemon = Daemon::start(&ECHO);
    let Err(ClientError::Refused { code, .. }) =
        Client::connect(&daemon.socket(), &client_manifest("echo"), &[])
    else {
        panic!("the name was given away")
    };
    assert_eq!(code, "unauthorized");
}

#[test]
fn health_and_the_command_line_tell_the_same() {
    let daemon = Daemon::start(&ECHO);
    for (path, status) in [
        ("/health/live", 200),
        ("/livez", 200),
        ("/health/ready", 200),
        ("/readyz", 200),
        ("/elsewhere", 404),
    ] {
        assert_eq!(daemon.get(path).0, status, "{path}");
    }
    let ready: serde_json::Value = serde_json::from_str(&daemon.get("/health/ready").1).unwrap();
    assert_eq!(ready["parts"]["agent.echo"]["ready"], true);
    let (code, stdout, _) = daemon.run(&["agents", "--json"]);
    let agents: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, agents["schema"].as_str()), (Some(0), Some("bolide-agents/1")));
    assert_eq!(agents["agents"][0]["name"], "echo");
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1);
    let (code, stdout, _) = daemon.run(&["status"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("is ready") && stdout.contains("echo"), "{stdout}");
}

#[test]
fn readiness_is_lost_while_a_hosted_agent_is_down() {
    let daemon = Daemon::start(&ECHO);
    let agent = daemon.agent_pid("echo");
    signal(agent, Signal::KILL);
    eventually("it is missed", || {
        daemon.get("/readyz").0 == 503 || daemon.agent_pid("echo") != agent
    });
    eventually("it is back", || daemon.get("/readyz").0 == 200);
}

/// Not a test of its own: what `a_killed_client_leaves_no_agent_lane_or_descriptor` kills.
#[test]
fn victim() {
    let Some(socket) = std::env::var_os(world::VICTIM) else { return };
    let manifest = client_manifest("test.victim");
    let mut client = Client::connect(socket.as_ref(), &manifest, &[]).unwrap();
    let mut link = client.open("echo").unwrap();
    let publisher = client.publisher("event.victim", TopicPolicy::Lossy).unwrap();
    let request = link.request("echo.wait", &cbor(600_000u64), &[], patience()).unwrap();
    assert!(matches!(link.answer(request, patience()), Ok(Answer::Progress(_))));
    // Killed while it waits.
    let ended = link.answer(request, Instant::now() + Duration::from_secs(600));
    panic!("{ended:?} {}", publisher.subject());
}

/// Links to `echo` as soon as it is up again.
fn reopened(client: &mut Client) -> ipc::link::Link {
    let mut link = None;
    eventually("echo is reachable", || match client.open("echo") {
        Ok(opened) => {
            link = Some(opened);
            true
        }
        Err(ClientError::Refused { code, .. }) if code == "starting" || code == "peer-gone" => {
            false
        }
        Err(error) => panic!("{error}"),
    });
    link.unwrap()
}

/// Says hello by hand and takes the welcome.
fn introduce(connection: &Connection, name: &str) {
    let (version, manifest, token) = (ipc::control::VERSION, client_manifest(name), Vec::new());
    let hello = ToRouter::Hello { version, manifest, token };
    connection.send(&hello.encode().unwrap(), &[]).unwrap();
    let answer = FromRouter::decode(&connection.receive().unwrap().bytes).unwrap();
    assert!(matches!(answer, FromRouter::Welcome { .. }), "{answer:?}");
}
