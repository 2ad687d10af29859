//! Programs that meet over a router: threads, and processes that are killed.

use std::io::{Read, Write};
use std::process::{Child, Command};
use std::time::Duration;

use super::*;
use crate::lane::{Ended, WhenFull};
use crate::link::{Answer, CallError, Incoming, Outcome, Request};
use crate::wait::Spin;
use router::Router;

mod classes;
mod denied;
mod doors;
mod fuzz;
mod hostile;
mod router;
mod waiting;

/// Where the process under test finds the router; set only there.
const SOCKET_VARIABLE: &str = "BOLIDE_TEST_SOCKET";

fn manifest(name: &str, tools: &[&str]) -> AgentManifest {
    AgentManifest {
        name: name.into(),
        priority: 5,
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        ..AgentManifest::default()
    }
}

fn connect(router: &Path, name: &str, tools: &[&str]) -> Client {
    Client::connect(router, &manifest(name, tools), b"").unwrap()
}

/// Ends a hang; nothing is expected to take this long.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn wait_for() -> WhenFull {
    WhenFull::WaitUntil(later())
}

/// Serves one link until it ends: `echo`, `count` (progress), `fail`, `read` (a granted pipe), `stall` (never answers).
fn serve(client: &mut Client) {
    let mut links: Vec<Link> = Vec::new();
    loop {
        while let Some(event) = client.next_event(Instant::now()).unwrap() {
            match event {
                Event::LinkOffered(offer) => links.push(client.accept(offer).unwrap()),
                Event::LinkClosed { lane, .. } => {
                    links.retain(|link| link.lane() != lane);
                    if links.is_empty() {
                        return;
                    }
                }
                _ => {}
            }
        }
        let mut requests = Vec::new();
        for (index, link) in links.iter_mut().enumerate() {
            while let Ok(Some(incoming)) = link.receiver().try_receive() {
                if let Incoming::Request(request) = incoming {
                    requests.push((index, request));
                }
            }
        }
        for (index, request) in requests {
            answer(client, &mut links[index], request);
        }
        let lanes = links.iter_mut().map(|link| link.receiver().raw() as &mut dyn ReceivingHalf);
        client.wait(&mut lanes.collect::<Vec<_>>(), Some(later())).unwrap();
    }
}

fn answer(client: &mut Client, link: &mut Link, request: Request) {
    let (lane, id) = (link.lane(), request.id);
    let sender = link.sender();
    let result = match request.tool.as_str() {
        "echo" => sender.answer(id, &request.payload, wait_for()),
        "count" => {
            for step in 0..request.payload[0] {
                sender.progress(id, &[step], wait_for()).unwrap();
            }
            sender.answer(id, b"counted", wait_for())
        }
        "read" => {
            let file = client.take_grant(lane, request.grants[0], later()).unwrap();
            let mut text = Vec::new();
            std::fs::File::from(file).read_to_end(&mut text).unwrap();
            sender.answer(id, &text, wait_for())
        }
        "stall" => sender.progress(id, b"started", wait_for()),
        _ => sender.fail(id, b"no such tool", wait_for()),
    };
    result.unwrap();
}

fn with_server(check: impl FnOnce(&Path)) {
    with_server_over(&Router::start(), ClassSet::LINKS, check);
}

fn with_server_over(router: &Router, classes: ClassSet, check: impl FnOnce(&Path)) {
    let mut server = connect(router.path(), "server", &["echo", "count", "fail", "read"]);
    server.set_classes(classes);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&mut server));
        check(router.path());
    });
}

#[test]
fn call_returns_the_answer() {
    with_server(|router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open("echo").unwrap();
        assert_eq!(link.peer().manifest.name, "server");
        for size in [0, 1, 48, 1_000, 200_000, 3_000_000] {
            let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
            let outcome = link.call("echo", &payload, &[], later(), |_| {}).unwrap();
            assert!(outcome == Outcome::Done(payload), "{size}");
        }
    });
}

#[test]
fn a_lane_that_was_made_ahead_carries_one_link_and_the_next_one_has_its_own() {
    with_server(|router| {
        let options = LaneOptions { slots: 64, region_bytes: 32 * 1_024 };
        let mut client =
            Client::connect_for_link(router, &manifest("client", &[]), b"", options).unwrap();
        assert!(client.spare.is_some(), "it was made before anybody asked");
        let mut links = [client.open("server").unwrap(), client.open("server").unwrap()];
        assert!(client.spare.is_none());
        for size in [3, 200_000] {
            for (index, link) in links.iter_mut().enumerate() {
                let payload = vec![index as u8; size];
                let outcome = link.call("echo", &payload, &[], later(), |_| {}).unwrap();
                assert!(outcome == Outcome::Done(payload), "{size}");
            }
        }
        client.prepare_lane();
        client.set_lane_options(LaneOptions::default());
        assert!(client.spare.is_none(), "the sizes that were set last count");
    });
}

#[test]
fn grants_that_nobody_takes_are_closed_and_the_link_goes_on() {
    with_server(|router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open("server").unwrap();
        let (reading, mut writing) = std::io::pipe().unwrap();
        for _ in 0..crate::limits::GRANTS_HELD_MAX + 10 {
            client.grant(link.lane(), reading.as_fd()).unwrap();
        }
        writing.write_all(b"still here").unwrap();
        drop(writing);
        let granted = client.grant(link.lane(), reading.as_fd()).unwrap();
        let outcome = link.call("read", b"", &[granted], later(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(b"still here".to_vec()));
    });
}

#[test]
fn what_a_request_brings_along_comes_after_it() {
    with_server(|router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open("server").unwrap();
        for _ in 0..3 {
            let (reading, mut writing) = std::io::pipe().unwrap();
            writing.write_all(b"brought along").unwrap();
            drop(writing);
            let asked = ("read", &b""[..]);
            let files = [reading.as_fd()];
            let outcome = client.call_with_files(&mut link, asked, &files, later(), |_| {});
            assert_eq!(outcome.unwrap(), Outcome::Done(b"brought along".to_vec()));
        }
        // Its own numbers and those of what is granted by itself are of one row.
        let (reading, mut writing) = std::io::pipe().unwrap();
        writing.write_all(b"granted").unwrap();
        drop(writing);
        let granted = client.grant(link.lane(), reading.as_fd()).unwrap();
        let outcome = link.call("read", b"", &[granted], later(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(b"granted".to_vec()));
    });
}

#[test]
fn reason_of_a_refusal_is_heard_over_the_hangup() {
    let (own, router) = Connection::pair().unwrap();
    let (code, message) = ("limit".to_owned(), "full".to_owned());
    let refused = FromRouter::Refused { request: 0, code, message };
    router.send(&refused.encode().unwrap(), &[]).unwrap();
    drop(router);
    let result = Client::introduce(own, &manifest("client", &[]), b"");
    assert!(matches!(result, Err(ClientError::Refused { code, .. }) if code == "limit"));
    // A message that stays unread resets the connection, and the reset comes before the reason.
    let (own, router) = Connection::pair().unwrap();
    let mut client = std::thread::scope(|scope| {
        let client = scope.spawn(|| Client::introduce(own, &manifest("client", &[]), b""));
        router.receive().unwrap();
        let (version, agent) = (VERSION, AgentId(1));
        let welcome = FromRouter::Welcome { version, agent, instance: 1, classes: ClassSet::LINKS };
        router.send(&welcome.encode().unwrap(), &[]).unwrap();
        client.join().unwrap().unwrap()
    });
    client.report(Report::default()).unwrap();
    router.send(&refused.encode().unwrap(), &[]).unwrap();
    drop(router);
    let heard = client.next_event(later());
    assert!(matches!(heard, Err(ClientError::Refused { code, .. }) if code == "limit"));
}

#[test]
fn progress_comes_before_the_last_answer() {
    with_server(|router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open("server").unwrap();
        let mut seen = Vec::new();
        let outcome = link.call("count", &[5], &[], later(), |step| seen.extend_from_slice(step));
        assert_eq!(outcome, Ok(Outcome::Done(b"counted".to_vec())));
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let outcome = link.call("nothing", &[], &[], later(), |_| {});
        assert_eq!(outcome, Ok(Outcome::Failed(b"no such tool".to_vec())));
    });
}

#[test]
fn granted_descriptor_is_named_by_a_request() {
    with_server(|router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open("server").unwrap();
        let (reading, mut writing) = std::io::pipe().unwrap();
        writing.write_all(b"through a pipe").unwrap();
        drop(writing);
        let grant = client.grant(link.lane(), reading.as_fd()).unwrap();
        let outcome = link.call("read", &[], &[grant], later(), |_| {});
        assert_eq!(outcome, Ok(Outcome::Done(b"through a pipe".to_vec())));
    });
}

#[test]
fn answers_to_calls_that_were_given_up_are_skipped() {
    with_server(|router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open("server").unwrap();
        let given_up = link.request("echo", b"old", &[], later()).unwrap();
        let outcome = link.call("echo", b"new", &[], later(), |_| {});
        assert_eq!(outcome, Ok(Outcome::Done(b"new".to_vec())));
        let late = Instant::now() + Duration::from_millis(1);
        let error = link.answer(given_up, late).unwrap_err();
        assert!(matches!(error, CallError::Deadline { .. }));
        assert_eq!(link.call("stall", b"", &[], late, |_| {}), Err(error));
    });
}

#[test]
fn agents_are_found_by_name_and_tool() {
    let router = Router::start();
    let _one = connect(router.path(), "one", &["a"]);
    let mut two = connect(router.path(), "two", &["b"]);
    let names = |agents: Vec<AgentInfo>| -> Vec<String> {
        agents.into_iter().map(|agent| agent.manifest.name).collect()
    };
    assert_eq!(names(two.agents("").unwrap()), ["one", "two"]);
    assert_eq!(names(two.agents("a").unwrap()), ["one"]);
    assert!(two.agents("nobody").unwrap().is_empty());
    let error = two.open("nobody").unwrap_err();
    assert!(matches!(&error, ClientError::Refused { code, .. } if code == "no-such-target"));
}

#[test]
fn closed_link_ends_calls_at_the_other_end() {
    let router = Router::start();
    let mut server = connect(router.path(), "server", &[]);
    let mut client = connect(router.path(), "client", &[]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let Some(Event::LinkOffered(offer)) = server.next_event(later()).unwrap() else {
                panic!("no offer");
            };
            let mut link = server.accept(offer).unwrap();
            let request = link.next(later()).unwrap();
            assert!(matches!(request, Incoming::Request(_)));
            server.decline(link.lane(), "no time").unwrap();
        });
        let mut link = client.open("server").unwrap();
        let error = link.call("echo", b"", &[], later(), |_| {}).unwrap_err();
        let peer = "server".to_owned();
        assert_eq!(error, CallError::Ended { peer, ended: Ended::Closed });
        let event = client.next_event(later()).unwrap();
        assert!(matches!(event, Some(Event::LinkClosed { code, .. }) if code == "closed"));
    });
}

#[test]
fn topic_reaches_readers_that_come_and_go() {
    let router = Router::start();
    let mut writer = connect(router.path(), "writer", &[]);
    let mut publisher = writer.publisher("news", TopicPolicy::Lossless).unwrap();
    publisher.publish(b"nobody reads", WhenFull::Reject).unwrap();
    let mut reader = connect(router.path(), "reader", &[]);
    reader.subscribe("news").unwrap();
    let Some(Event::TopicFound(offer)) = reader.next_event(later()).unwrap() else {
        panic!("no topic");
    };
    let mut subscriber = reader.join(offer, Spin::Adaptive).unwrap();
    let changed = writer.next_event(later()).unwrap();
    assert!(matches!(changed, Some(Event::ReadersChanged { .. })));
    writer.update(&mut publisher).unwrap();
    assert_eq!(publisher.readers(), 1);
    let long = vec![3; 1_000];
    for _ in 0..2_000 {
        publisher.publish(b"short", WhenFull::Reject).unwrap();
        publisher.publish(&long, WhenFull::Reject).unwrap();
        assert_eq!(subscriber.raw().receive(Some(later())).unwrap().payload, b"short");
        let from = subscriber.from().id;
        let message = subscriber.raw().receive(Some(later())).unwrap();
        assert_eq!(message.payload, long);
        assert_eq!(message.header.unwrap().source, from);
    }
    // The reader's ring fills up; it dies while the writer waits for it.
    while publisher.publish(b"short", WhenFull::Reject).is_ok() {}
    drop((reader, subscriber));
    writer.publish(&mut publisher, b"nobody reads", later()).unwrap();
    assert!(writer.next_event(later()).unwrap().is_some());
    writer.update(&mut publisher).unwrap();
    assert_eq!(publisher.readers(), 0);
}

#[test]
fn bell_that_rang_before_the_wait_ends_it() {
    let router = Router::start();
    let mut client = connect(router.path(), "client", &[]);
    while client.wait(&mut [], Some(Instant::now())).unwrap() == Woken::News {
        while client.next_event(Instant::now()).unwrap().is_some() {}
    }
    let own = client.doorbell().ringer().try_clone_to_owned().unwrap();
    crate::doorbell::Bell::from_peer(own).unwrap().ring();
    assert_eq!(client.wait(&mut [], Some(later())).unwrap(), Woken::News);
    assert_eq!(client.wait(&mut [], Some(Instant::now())).unwrap(), Woken::Deadline);
}

#[test]
fn router_that_is_gone_is_named() {
    let router = Router::start();
    let mut client = connect(router.path(), "client", &[]);
    let path = router.path().to_owned();
    drop(router);
    assert!(matches!(client.agents(""), Err(ClientError::RouterGone)));
    let error = Client::connect(&path, &manifest("late", &[]), b"").unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)));
}

/// Not a test by itself: the other process of the tests below, which start this program again with a variable set.
#[test]
fn other_process() {
    let Ok(socket) = std::env::var(SOCKET_VARIABLE) else { return };
    let mut server = connect(Path::new(&socket), "victim", &["echo", "stall"]);
    serve(&mut server);
}

fn spawn_victim(router: &Router, client: &mut Client) -> Child {
    let victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "client::tests::other_process", "--quiet"])
        .env(SOCKET_VARIABLE, router.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while client.agents("victim").unwrap().is_empty() {
        assert!(Instant::now() < later());
        std::thread::yield_now();
    }
    victim
}

#[test]
fn call_to_a_process_that_is_killed_ends_with_an_error_that_says_so() {
    let router = Router::start();
    let mut client = connect(router.path(), "client", &[]);
    let mut victim = spawn_victim(&router, &mut client);
    let mut link = client.open("victim").unwrap();
    assert_ne!(link.peer().pid, std::process::id());
    let payload = vec![9; 100_000];
    let outcome = link.call("echo", &payload, &[], later(), |_| {});
    assert!(outcome == Ok(Outcome::Done(payload)));

    let request = link.request("stall", b"", &[], later()).unwrap();
    assert_eq!(link.answer(request, later()), Ok(Answer::Progress(b"started".to_vec())));
    victim.kill().unwrap();
    let error = link.answer(request, later()).unwrap_err();
    assert_eq!(error, CallError::Ended { peer: "victim".into(), ended: Ended::PeerGone });
    assert_eq!(error.to_string(), "no answer from `victim`: the peer is gone");
    victim.wait().unwrap();
    let event = client.next_event(later()).unwrap();
    assert!(matches!(event, Some(Event::LinkClosed { code, .. }) if code == "peer-gone"));
}

#[test]
fn process_that_is_killed_at_any_moment_leaves_a_working_bus() {
    let router = Router::start();
    let mut client = connect(router.path(), "client", &[]);
    for round in 0..4u64 {
        let mut victim = spawn_victim(&router, &mut client);
        let mut link = client.open("victim").unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(700 * round));
            victim.kill().unwrap();
            victim.wait().unwrap();
        });
        let payload = vec![round as u8; 60_000];
        let error = loop {
            match link.call("echo", &payload, &[], later(), |_| {}) {
                Ok(outcome) => assert!(outcome == Outcome::Done(payload.clone())),
                Err(error) => break error,
            }
        };
        assert_eq!(error, CallError::Ended { peer: "victim".into(), ended: Ended::PeerGone });
        killer.join().unwrap();
        while client.next_event(Instant::now()).unwrap().is_some() {}
        while !client.agents("victim").unwrap().is_empty() {}
    }
}

#[test]
fn the_directory_comes_over_the_socket() {
    let router = Router::start();
    let mut client = connect(router.path(), "one", &[]);
    let picture = client.directory().unwrap().read();
    assert_eq!((picture.router.instance, picture.router.pid, picture.whole), (42, 1, true));
    assert!(picture.agents.is_empty());
}

#[test]
fn a_router_without_a_directory_is_not_asked_for_one() {
    let mut client = {
        let (ours, theirs) = Connection::pair().unwrap();
        let welcome = FromRouter::Welcome {
            version: (1, 0),
            agent: AgentId(1),
            instance: 1,
            classes: ClassSet::CRITICAL,
        };
        theirs.send(&welcome.encode().unwrap(), &[]).unwrap();
        Client::introduce(ours, &manifest("one", &[]), b"").unwrap()
    };
    let Err(ClientError::Refused { code, .. }) = client.directory() else { panic!("it was asked") };
    assert_eq!(code, "version");
}
