//! Links of every class between real processes: calls, the fall to the next class down, the end, revocation, and what one
//! agent may have.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipc::class::{Class, ReceivingHalf, SendingHalf};
use ipc::client::{Client, ClientError, Event, LinkOptions};
use ipc::lane::{Ended, LaneOptions, ReceiveError, SendError, WhenFull};
use ipc::link::{CallError, Link, Outcome};
use ipc::manifest::{AgentManifest, OwnLimits};
use ipc::ring::Meta;
use ipc::socket::ReceiveError as PacketError;
use rustix::process::Signal;

use super::world::{
    Daemon, Options, cbor, client_manifest, eventually, patience, share_one_processor, signal,
};
use super::{ECHO, reopened};

const ALL: [Class; 3] = [Class::Critical, Class::High, Class::Normal];
pub(super) const QUIET: Options = Options { hosted: "", ..ECHO };

/// What a link of this class becomes where nothing is forbidden by configuration.
fn expected(daemon: &Daemon, class: Class) -> Class {
    let (_, stdout, _) = daemon.run(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let rows = report["bus"].as_array().unwrap();
    let row = rows.iter().find(|row| row["class"] == "high").unwrap();
    if class != Class::High || row["available"] == true && row["note"].is_null() {
        return class;
    }
    eprintln!("class high is not to be had here: {row}");
    Class::Normal
}

fn open(client: &mut Client, target: &str, class: Class) -> Link {
    client.open_link(target, LinkOptions { class }).unwrap()
}

/// A link between two clients of this process.
pub(super) fn linked(
    daemon: &Daemon,
    class: Class,
    names: [&str; 2],
) -> (Client, Client, Link, Link) {
    let mut one = daemon.client(names[0]);
    let mut two = daemon.client(names[1]);
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let Some(Event::LinkOffered(offer)) = two.next_event(patience()).unwrap() else {
                panic!("no link was offered")
            };
            let accepted = two.accept(offer).unwrap();
            (two, accepted)
        });
        let opened = open(&mut one, names[1], class);
        let (two, accepted) = accepted.join().unwrap();
        (one, two, opened, accepted)
    })
}

#[test]
fn a_link_of_each_class_reaches_a_hosted_process_and_is_counted_as_what_it_is() {
    let daemon = Daemon::start(&ECHO);
    for class in ALL {
        let got = expected(&daemon, class);
        let name = got.name();
        let mut client = daemon.client("test.client");
        let mut link = open(&mut client, "echo", class);
        assert_eq!((link.class(), link.terms().wanted), (got, class), "{:?}", link.terms());
        let total = format!("bolide_bus_messages_total{{class=\"{name}\"}}");
        let timed = format!("bolide_bus_latency_seconds_count{{class=\"{name}\"}}");
        let sizes = [0, 48, 1_000, 200_000, 3_000_000, 16_000_000];
        for size in sizes {
            let payload = vec![size as u8; size];
            let answer = client.call(&mut link, "echo.echo", &payload, &[], patience(), |_| {});
            assert!(answer.unwrap() == Outcome::Done(payload), "{size} bytes over {class}");
        }
        let messages = 2.0 * sizes.len() as f64;
        assert!(daemon.metric(&total) >= messages);
        eventually("its times are counted", || daemon.metric(&timed) >= messages);
        let failed = client.call(&mut link, "echo.fail", &[], &[], patience(), |_| {});
        assert!(matches!(failed, Ok(Outcome::Failed(_))), "{failed:?}");
        let picture = daemon.client("test.looker").directory().unwrap().read();
        let mut lanes = picture.lanes.iter().filter(|row| row.lane == link.lane());
        assert!(lanes.clone().count() == 2 && lanes.all(|row| row.class == got as u8));
        drop(client);
        eventually("the client is gone", || daemon.agent("test.client").is_none());
    }
}

#[test]
fn daemon_agent_and_client_on_one_processor_answer_over_every_class() {
    // The pin is that thread's, and goes with it.
    std::thread::scope(|scope| scope.spawn(call_on_one_processor).join().unwrap());
}

fn call_on_one_processor() {
    share_one_processor();
    let daemon = Daemon::start(&ECHO);
    let mut client = daemon.client("test.client");
    for class in ALL {
        let mut link = open(&mut client, "echo", class);
        let mut times: Vec<Duration> = (0..500)
            .map(|_| {
                let began = Instant::now();
                let answer = client.call(&mut link, "echo.echo", b"x", &[], patience(), |_| {});
                assert_eq!(answer.unwrap(), Outcome::Done(b"x".to_vec()));
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        eprintln!("one processor, {}: p50 {half:?}, p99 {most:?} for a call", link.class());
        client.decline(link.lane(), "done").unwrap();
    }
}

#[test]
fn what_the_configuration_forbids_falls_one_class_down_visibly() {
    let high = |daemon: &Daemon| expected(daemon, Class::High);
    for (allowed, wanted) in [("high,normal", Class::Critical), ("normal", Class::High)] {
        let daemon = Daemon::start_with(&ECHO, &[("BOLIDE_BUS_CLASSES", allowed)]);
        let got = if wanted == Class::Critical { high(&daemon) } else { Class::Normal };
        let mut client = daemon.client("test.client");
        let mut link = open(&mut client, "echo", wanted);
        assert_eq!((link.class(), link.terms().wanted), (got, wanted));
        assert!(link.terms().reason.contains("does not allow it"), "{:?}", link.terms());
        let answer = link.call("echo.echo", b"x", &[], patience(), |_| {}).unwrap();
        assert_eq!(answer, Outcome::Done(b"x".to_vec()));
        let (wanted, got) = (wanted.name(), got.name());
        let series = "bolide_bus_class_fallbacks_total";
        let series = format!("{series}{{wanted=\"{wanted}\",got=\"{got}\"}}");
        assert_eq!(daemon.metric(&series), 1.0);
        let fallbacks = &daemon.status()["fallbacks"];
        assert_eq!(fallbacks[0]["wanted"], wanted);
        assert_eq!((&fallbacks[0]["got"], &fallbacks[0]["links"]), (&got.into(), &1.into()));
    }
}

#[test]
fn a_routed_link_has_a_class_as_well() {
    let options = Options { hosted: "exchange,echo", routed: "test.quiet", ..ECHO };
    let daemon = Daemon::start(&options);
    for class in ALL {
        let mut client = daemon.client("test.quiet");
        let mut link = open(&mut client, "echo", class);
        assert_eq!(link.class(), expected(&daemon, class));
        for size in [0, 48, 1_000, 3_000_000] {
            let payload = vec![7; size];
            let answer = client.call(&mut link, "echo.echo", &payload, &[], patience(), |_| {});
            assert!(answer.unwrap() == Outcome::Done(payload), "{size} bytes over {class}");
        }
        drop(client);
        eventually("the client is gone", || daemon.agent("test.quiet").is_none());
    }
}

#[test]
fn a_peer_that_restarts_ends_the_link_and_by_its_name_there_is_a_new_one() {
    let daemon = Daemon::start(&ECHO);
    for class in ALL {
        let mut client = daemon.client("test.client");
        let mut link = open(&mut client, "echo", class);
        let request = link.request("echo.wait", &cbor(600_000u64), &[], patience()).unwrap();
        assert!(link.answer(request, patience()).is_ok(), "it has begun");
        signal(daemon.agent_pid("echo"), Signal::KILL);
        let end = link.answer(request, patience()).unwrap_err();
        assert!(matches!(end, CallError::Ended { ended: Ended::PeerGone, .. }), "{end:?}");
        let refused = link.request("echo.echo", &[], &[], patience()).unwrap_err();
        assert!(matches!(refused, CallError::Ended { .. }), "{refused:?}");
        drop(reopened(&mut client));
        let mut again = client.reopen(&link).unwrap();
        assert!(again.epoch() > link.epoch());
        assert_eq!(again.class(), link.class());
        let answer = again.call("echo.echo", b"x", &[], patience(), |_| {}).unwrap();
        assert_eq!(answer, Outcome::Done(b"x".to_vec()));
        drop(client);
        eventually("the client is gone", || daemon.agent("test.client").is_none());
    }
    eventually("no page is left", || daemon.descriptors().0 == 0);
}

#[test]
fn both_sides_learn_of_a_revocation_and_the_link_carries_nothing_new() {
    let daemon = Daemon::start(&QUIET);
    for (class, names) in ALL.into_iter().zip([["a", "b"], ["c", "d"], ["e", "f"]]) {
        let (mut one, mut two, mut opened, mut accepted) = linked(&daemon, class, names);
        let lane = opened.lane().0.to_string();
        opened.sender().raw().send(Meta::default(), b"before", WhenFull::Reject).unwrap();
        accepted.sender().raw().send(Meta::default(), b"back", WhenFull::Reject).unwrap();
        let arguments = ["revoke", names[1], "--lane", &lane, "--reason", "enough"];
        let (code, stdout, stderr) = daemon.run(&arguments);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.starts_with("1 links"), "{stdout}");
        for client in [&mut one, &mut two] {
            let event = client.next_event(patience()).unwrap();
            let Some(Event::LinkClosed { code, reason, .. }) = event else { panic!("{event:?}") };
            assert_eq!(code, "revoked");
            assert!(reason.contains("enough"), "{reason}");
        }
        let way = opened.receiver().raw();
        assert_eq!(way.receive(Some(patience())).unwrap().payload, b"back");
        let way = accepted.receiver().raw();
        assert_eq!(way.receive(Some(patience())).unwrap().payload, b"before");
        let end = way.receive(Some(patience())).unwrap_err();
        assert_eq!(end, ReceiveError::Ended(Ended::Revoked), "{class}");
        let when = WhenFull::WaitUntil(patience());
        let end = loop {
            // The writer of a lane looks at the page when its room runs out.
            match opened.sender().raw().send(Meta::default(), b"after", when) {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        assert_eq!(end, SendError::Ended(Ended::Revoked), "{class}");
        let nothing = daemon.run(&arguments);
        assert_ne!(nothing.0, Some(0), "there is no such lane any more");
    }
    eventually("no lane is left", || daemon.metric("bolide_bus_lanes") == 0.0);
}

#[track_caller]
fn refused(result: Result<Link, ClientError>, limit: &str) {
    let Err(ClientError::Refused { code, message }) = result else { panic!("{result:?}") };
    assert_eq!(code, "limit");
    assert!(message.contains(&format!("limit `{limit}`")), "{message}");
}

#[test]
fn links_and_memory_beyond_what_is_declared_are_refused_by_name_and_counted() {
    let limits = "test.few: links=1, test.small: bytes=1000000";
    let daemon = Daemon::start_with(&ECHO, &[("BOLIDE_BUS_LIMITS", limits)]);
    let mut few = daemon.client("test.few");
    let first = few.open("echo").unwrap();
    refused(few.open("echo"), "links");
    few.decline(first.lane(), "done").unwrap();
    let _second = few.open("echo").unwrap();

    let mut small = daemon.client("test.small");
    small.set_lane_options(LaneOptions { slots: 1_024, region_bytes: 1 << 19 });
    let link = small.open("echo").unwrap();
    refused(small.open("echo"), "bytes");
    small.decline(link.lane(), "done").unwrap();
    // What the first took is free again when the router has let go of it, which nobody is told of.
    eventually("there is room again", || small.open("echo").is_ok());
    for limit in ["links", "bytes"] {
        assert!(daemon.metric(&format!("bolide_bus_limits_total{{limit=\"{limit}\"}}")) >= 1.0);
    }
}

#[test]
fn an_agent_is_held_to_what_its_manifest_says_and_everybody_sees_it() {
    let limits = [("BOLIDE_BUS_LIMITS", "test.>: links=2 bytes=90000000")];
    let daemon = Daemon::start_with(&ECHO, &limits);
    let connect = |name: &str, limits: OwnLimits| {
        let manifest = AgentManifest { limits, ..client_manifest(name) };
        Client::connect(&daemon.socket(), &manifest, &[]).unwrap()
    };
    let one = OwnLimits { links: Some(1), ..OwnLimits::default() };
    let mut few = connect("test.few", one);
    let _first = few.open("echo").unwrap();
    let refusal = few.open("echo").unwrap_err().to_string();
    assert!(refusal.contains("limit `links`: `test.few` already has 1"), "{refusal}");
    assert!(refusal.contains("(set by its own manifest)"), "{refusal}");

    let many = OwnLimits { links: Some(9), bytes: Some(1_000_000), ..OwnLimits::default() };
    let mut many = connect("test.many", many);
    many.set_lane_options(LaneOptions { slots: 1_024, region_bytes: 1 << 19 });
    let _first = many.open("echo").unwrap();
    let refusal = many.open("echo").unwrap_err().to_string();
    assert!(refusal.contains("limit `bytes`") && refusal.contains("own manifest"), "{refusal}");
    many.set_lane_options(LaneOptions { slots: 64, region_bytes: 4_096 });
    let _second = many.open("echo").unwrap();
    let refusal = many.open("echo").unwrap_err().to_string();
    assert!(refusal.contains("(set by `bus.limits` for `test.>`)"), "{refusal}");

    let (_, stdout, _) = daemon.run(&["agents", "test.many", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let limits = &shown["agents"][0]["limits"];
    let by = |limit: &str| (limits[limit]["value"].as_u64(), limits[limit]["set_by"].as_str());
    assert_eq!(by("links"), (Some(2), Some("set by `bus.limits` for `test.>`")));
    assert_eq!(by("bytes"), (Some(1_000_000), Some("set by its own manifest")));
    assert_eq!(by("passed"), (Some(0), Some("built in")));
    assert!(by("messages").0 > Some(0) && by("descriptors").0 > Some(0));
}

#[test]
fn an_agent_that_says_too_much_to_the_router_is_slowed_down_and_nothing_is_lost() {
    // So few that a machine which is busy with other things asks for more, too.
    let limits = [("BOLIDE_BUS_LIMITS", "test.fast: messages=2")];
    let daemon = Daemon::start_with(&QUIET, &limits);
    let mut client = daemon.client("test.fast");
    for _ in 0..8 {
        assert_eq!(client.agents("test.fast").unwrap().len(), 1);
    }
    let slowed = "bolide_bus_limits_total{limit=\"messages\"}";
    eventually("it is counted", || daemon.metric(slowed) >= 1.0);
}

#[test]
fn grants_to_an_agent_that_does_not_read_are_closed_and_it_stays() {
    let daemon = Daemon::start(&QUIET);
    let names = ["test.giver", "test.deaf"];
    let (mut giver, mut deaf, opened, _accepted) = linked(&daemon, Class::Critical, names);
    let file = std::fs::File::open("/dev/null").unwrap();
    let closed = "bolide_bus_limits_total{limit=\"grants\"}";
    // What the socket holds, what the daemon keeps, and some more.
    for _ in 0..800 {
        giver.grant(opened.lane(), file.as_fd()).unwrap();
    }
    eventually("it is counted", || daemon.metric(closed) >= 1.0);
    assert_eq!(deaf.agents("test.giver").unwrap().len(), 1);
    assert_eq!(giver.agents("test.deaf").unwrap().len(), 1);
}

#[test]
fn a_handshake_has_a_time_and_a_size() {
    let short = [("BOLIDE_BUS_HANDSHAKE_MS", "50"), ("BOLIDE_BUS_HANDSHAKE_BYTES", "300")];
    let daemon = Daemon::start_with(&QUIET, &short);
    let silent = daemon.connection();
    assert!(silent.receive().is_ok(), "it is told why");
    assert!(matches!(silent.receive(), Err(PacketError::Closed)));
    let manifest = super::client_manifest(&format!("test.{}", "long".repeat(30)));
    let manifest =
        ipc::manifest::AgentManifest { tags: vec!["x".repeat(100), "y".repeat(100)], ..manifest };
    let refused = Client::connect(&daemon.socket(), &manifest, &[]).unwrap_err();
    assert!(matches!(&refused, ClientError::Refused { code, .. } if code == "limit"), "{refused}");
    for limit in ["handshake_ms", "handshake_bytes"] {
        let series = format!("bolide_bus_limits_total{{limit=\"{limit}\"}}");
        eventually("it is counted", || daemon.metric(&series) == 1.0);
    }
}

#[test]
fn what_passes_through_the_exchange_is_held_to_its_rate_and_arrives() {
    let options = Options { hosted: "exchange", routed: "test.quiet", ..ECHO };
    let limits = [("BOLIDE_BUS_LIMITS", "test.quiet: passed=200")];
    let daemon = Daemon::start_with(&options, &limits);
    let names = ["test.quiet", "test.other"];
    let (_one, _two, mut opened, mut accepted) = linked(&daemon, Class::Critical, names);
    const COUNT: u32 = 150;
    for number in 0..COUNT {
        let meta = Meta { correlation: number, ..Meta::default() };
        opened.sender().raw().send(meta, b"x", WhenFull::WaitUntil(patience())).unwrap();
    }
    let way = accepted.receiver().raw();
    for number in 0..COUNT {
        assert_eq!(way.receive(Some(patience())).unwrap().meta.correlation, number);
    }
    // It is held back from the hundredth message to the last, over many turns of the exchange; that is once. Should the machine
    // stand still for a tenth of a second, twenty of the other fifty messages may pass at once, so it begins three times at most.
    let slowed = "bolide_bus_limits_total{limit=\"passed\"}";
    eventually("it is counted", || daemon.metric(slowed) >= 1.0);
    assert!(daemon.metric(slowed) <= 3.0, "{}", daemon.metric(slowed));
}

#[test]
fn doctor_says_which_classes_there_are_and_what_happens_without_them() {
    let daemon = Daemon::start(&QUIET);
    let (code, stdout, stderr) = daemon.run(&["doctor", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let rows = report["bus"].as_array().unwrap();
    let classes: Vec<_> = rows.iter().map(|row| row["class"].as_str().unwrap()).collect();
    assert_eq!(classes, ["critical", "high", "normal", "low", "batch"]);
    for row in rows {
        assert!(!row["without"].as_str().unwrap().is_empty());
        assert_eq!(row["available"] == true, row["reason"].is_null(), "{row}");
    }
    let (_, stdout, _) = daemon.run(&["doctor"]);
    assert!(stdout.contains("bus        critical: available"), "{stdout}");
}
