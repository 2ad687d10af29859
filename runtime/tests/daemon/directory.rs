//! What a daemon shows of its bus: the directory over the socket, its named mirror, `top`, and the
//! histograms of its metrics; and that it shows them to nobody for nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ipc::client::Event;
use ipc::control::TopicPolicy;
use ipc::directory::{AgentState, Mirror, NAME_FILE, Picture};
use ipc::lane::WhenFull;
use ipc::wait::Spin;
use rustix::process::Signal;
use serde_json::Value;

use super::ECHO;
use super::world::{Daemon, Options, cbor, eventually, patience, signal};

const QUIET: Options = Options { hosted: "", ..ECHO };

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = daemon.run(arguments);
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn messages_and_their_times_appear_everywhere() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    for _ in 0..20 {
        link.call("echo.echo", &cbor("hello"), &[], patience(), |_| {}).unwrap();
    }
    let agent = |picture: &Picture, name: &str| {
        let found = picture.agents.iter().find(|agent| agent.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let mut picture = Picture::default();
    eventually("the reader's counts arrive", || {
        picture = client.directory().unwrap().read();
        agent(&picture, "echo").received >= 20 && agent(&picture, "test.client").received >= 20
    });
    assert!(picture.whole);
    let (echo, own) = (agent(&picture, "echo"), agent(&picture, "test.client"));
    assert_eq!((echo.state, own.state), (AgentState::Up, AgentState::Guest));
    assert_eq!((own.pid, own.links), (std::process::id(), 1));
    assert!(own.sent >= 20 && echo.sent >= 20);
    assert_eq!(picture.lanes.len(), 2);
    for lane in &picture.lanes {
        assert!(lane.timed >= 20 && lane.p50_ns > 0 && lane.p50_ns <= lane.p99_ns, "{lane:?}");
        assert_eq!(lane.depth, 0);
    }
    let class = &picture.classes[0];
    assert!(class.messages >= 40 && class.latency.count() >= 40, "{class:?}");

    let status = daemon.status();
    let critical = &status["classes"]["critical"];
    assert!(critical["latency"]["count"].as_u64().unwrap() >= 40, "{critical}");
    assert!(critical["latency"]["p99_ns"].as_u64().unwrap() > 0);
    let count = "bolide_bus_latency_seconds_count{class=\"critical\"}";
    let everything = "bolide_bus_latency_seconds_bucket{class=\"critical\",le=\"+Inf\"}";
    let before = daemon.metric(count);
    assert!(before >= 40.0);
    assert!(daemon.metric(everything) >= before);
    assert!(daemon.metric("bolide_bus_latency_seconds_sum{class=\"critical\"}") > 0.0);
    drop((link, client));
    eventually("the lanes are gone", || daemon.metric("bolide_bus_lanes") == 0.0);
    assert!(daemon.metric(count) >= before, "what ended lanes counted is kept");
}

#[test]
fn topics_show_their_readers_and_how_far_behind_they_are() {
    let daemon = Daemon::start(&QUIET);
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
    for _ in 0..5 {
        publisher.publish(b"news", WhenFull::Reject).unwrap();
    }
    let mut picture = Picture::default();
    eventually("the messages are shown", || {
        picture = writer.directory().unwrap().read();
        picture.lanes.first().is_some_and(|lane| lane.messages == 5)
    });
    let (topic, lane) = (&picture.topics[0], &picture.lanes[0]);
    assert_eq!((topic.subject.as_str(), topic.lossless, topic.readers), ("event.up", true, 1));
    assert_eq!(topic.messages, 5);
    assert!(lane.topic);
    assert_eq!((lane.from, lane.to, lane.depth), (writer.agent(), reader.agent(), 5));
    for _ in 0..5 {
        subscriber.raw().receive(Some(patience())).unwrap();
    }
    eventually("the reader has caught up", || {
        // Looking for more brings its cursor up to date.
        assert!(matches!(subscriber.raw().try_receive(), Ok(None)));
        writer.directory().unwrap().read().lanes[0].depth == 0
    });
    reader.bye().unwrap();
    eventually("the reader is gone", || writer.directory().unwrap().read().lanes.is_empty());
    assert_eq!(writer.directory().unwrap().read().topics[0].readers, 0);
}

#[test]
fn top_and_the_mirror_show_the_same_bus() {
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    let mut link = client.open("echo").unwrap();
    link.call("echo.echo", &cbor("hello"), &[], patience(), |_| {}).unwrap();
    let lanes = |shown: &Value| shown["lanes"].as_array().unwrap().len();
    let mut shown = Value::Null;
    eventually("the link is shown", || {
        shown = json(&daemon, &["top", "--json"]);
        lanes(&shown) == 2
    });
    assert_eq!((&shown["schema"], &shown["whole"]), (&"bolide-top/1".into(), &true.into()));
    let names = |shown: &Value| {
        let agents = shown["agents"].as_array().unwrap().iter();
        let names = agents.map(|agent| agent["name"].as_str().unwrap().to_owned());
        names.filter(|name| !name.starts_with("cli.")).collect::<Vec<_>>()
    };
    eventually("both show the same", || {
        let mirrored = json(&daemon, &["top", "--json", "--mirror"]);
        names(&mirrored).contains(&"test.client".to_owned())
            && lanes(&mirrored) == 2
            && names(&mirrored) == names(&json(&daemon, &["top", "--json"]))
    });
    let (code, text, _) = daemon.run(&["top", "--once"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("AGENT") && text.contains("test.client"), "{text}");
    assert!(!text.contains('\x1b'), "no terminal, no control sequences");
}

#[test]
fn the_mirror_is_private_and_goes_with_its_daemon() {
    let mut daemon = Daemon::start(&QUIET);
    let file = daemon.runtime_dir().join(NAME_FILE);
    let name = std::fs::read_to_string(&file).unwrap();
    let memory = Path::new("/dev/shm").join(name.trim_start_matches('/'));
    for path in [&file, &memory] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    signal(daemon.pid(), Signal::TERM);
    daemon.wait();
    assert!(!file.exists() && !memory.exists());
    assert_eq!(daemon.run(&["top", "--once"]).0, Some(8));
    assert_eq!(daemon.run(&["top", "--once", "--mirror"]).0, Some(8));
}

#[test]
fn a_mirror_that_a_killed_daemon_left_is_swept() {
    let mut daemon = Daemon::start(&QUIET);
    let name = || std::fs::read_to_string(daemon.runtime_dir().join(NAME_FILE)).unwrap();
    let left = name();
    signal(daemon.pid(), Signal::KILL);
    assert_eq!(daemon.wait(), None);
    daemon.restart(&QUIET);
    assert!(Mirror::open(&left).is_err());
    assert!(Mirror::in_directory(&daemon.runtime_dir()).unwrap().read().unwrap().whole);
}

#[test]
fn a_daemon_whose_mirror_was_cut_off_or_removed_goes_on() {
    let daemon = Daemon::start(&QUIET);
    let name = std::fs::read_to_string(daemon.runtime_dir().join(NAME_FILE)).unwrap();
    let memory = Path::new("/dev/shm").join(name.trim_start_matches('/'));
    std::fs::OpenOptions::new().write(true).open(&memory).unwrap().set_len(0).unwrap();
    eventually("it is whole again", || {
        daemon.status();
        Mirror::open(&name).is_ok_and(|mirror| mirror.read().is_ok_and(|picture| picture.whole))
    });
    std::fs::remove_file(&memory).unwrap();
    let mut client = daemon.client("test.client");
    assert!(client.directory().unwrap().read().whole);
}

#[test]
fn a_daemon_at_rest_does_nothing_not_even_after_somebody_looked() {
    let daemon = Daemon::start(&QUIET);
    at_rest(&daemon);
    let mut client = daemon.client("test.client");
    let directory = client.directory().unwrap();
    let first = directory.generation();
    eventually("it is refreshed while somebody may look", || directory.generation() >= first + 8);
    at_rest(&daemon);
    let last = directory.read();
    assert!(last.whole && last.agents.iter().any(|agent| agent.name == "test.client"));
}

/// Its threads have run in a second no more often than the governor makes them, which looks at the machine once and tells the hub: a
/// directory that is refreshed four times would come on top of that.
fn at_rest(daemon: &Daemon) {
    eventually("the daemon rests", || {
        let before = switches(daemon);
        std::thread::sleep(Duration::from_secs(1));
        // Less than before where a thread has ended.
        switches(daemon).checked_sub(before).is_some_and(|count| count <= SWITCHES_AT_REST_MAX)
    });
}

/// The governor's thread wakes once, and the two that hand on what it says up to twice each.
const SWITCHES_AT_REST_MAX: u64 = 6;

/// How often the daemon's threads went to sleep.
fn switches(daemon: &Daemon) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    // One that ended since it was listed counts nothing.
    let counts = threads.filter_map(|thread| {
        let status = std::fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.rsplit('\t').next()?.trim().parse::<u64>().ok()
    });
    counts.sum()
}
