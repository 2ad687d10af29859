//! Deaths of the daemon: links between living agents go on, everybody hears of it, its agents end by themselves, and the
//! next daemon in the same place is whole and leaves no named memory of the dead one.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use ipc::class::{ReceivingHalf, SendingHalf};
use ipc::client::{Client, ClientError, Event};
use ipc::control::TopicPolicy;
use ipc::lane::WhenFull;
use ipc::link::{Link, Outcome};
use ipc::ring::Meta;
use ipc::wait::Spin;
use rustix::process::Signal;

use super::bus::{Bus, Fault, Setup, eventually, orphaned_mirrors, patience, signal};
use super::innocents::Innocents;
use super::report::{Row, Table};

const SETUP: Setup = Setup { hosted: "echo", routed: "" };
const CHECKED: &str = "links go on, all are told, the next one is whole";

/// Where, and how often passed before.
const CASES: &[(&str, u64)] = &[
    ("mirror.made", 0),
    ("mirror.before-name", 0),
    ("mirror.half-written", 0),
    ("directory.half-written", 1),
    ("daemon.bound", 0),
    ("daemon.child-spawned", 0),
    ("daemon.accepted", 3),
    ("daemon.hello-read", 4),
    ("daemon.registered", 4),
    ("daemon.packet-read", 6),
    ("daemon.before-offer", 1),
    ("daemon.lane-opened", 1),
    ("daemon.reader-joined", 0),
    ("daemon.directory-shown", 2),
    ("daemon.agent-gone", 1),
    ("daemon.lane-ending", 0),
    ("daemon.lane-ended", 0),
    ("daemon.child-ended", 0),
    ("daemon.drain-told", 0),
    ("daemon.drained", 0),
    ("daemon.socket-removed", 0),
];

pub(crate) fn die_at_every_point(table: &mut Table, innocents: &Innocents) {
    for (point, skip) in CASES {
        let recovery = die(Fault { point, skip: *skip });
        innocents.go_on();
        table.add(Row { point, who: "daemon", checked: CHECKED, recovery });
    }
}

fn die(fault: Fault) -> Duration {
    let mut bus = Bus::start_armed(SETUP, fault);
    let others = orphaned_mirrors();
    // Everything that can be there when it dies.
    let mut bystander = bus.try_client("test.bystander").ok();
    let mut guests = Guests::default();
    live(&mut bus, &mut guests);
    let status = bus.wait();
    let died = Instant::now();
    assert_eq!(status.signal(), Some(9), "{}: {status} {}", fault.point, bus.log());
    assert!(bus.has_fired(), "{}: it died elsewhere", fault.point);
    if let Some(bystander) = &mut bystander {
        // Once everything is read that it still said.
        let mut said = std::iter::repeat_with(|| bystander.next_event(patience()));
        let gone = said.find_map(Result::err).unwrap();
        assert!(matches!(gone, ClientError::RouterGone), "{gone}");
    }
    if let Some((opened, accepted)) = &mut guests.link {
        // Nobody is left who could end it.
        pass_messages(opened, accepted);
        pass_messages(accepted, opened);
    }
    drop(guests);
    eventually("its agents end by themselves", || bus.processes().is_empty());
    let left: Vec<_> =
        orphaned_mirrors().into_iter().filter(|path| !others.contains(path)).collect();
    bus.restart();
    let recovery = died.elapsed();
    for path in left {
        assert!(!path.exists(), "{}: {} is left over", fault.point, path.display());
    }
    is_whole(&bus);
    recovery
}

/// Who has to do with a daemon that will die.
#[derive(Default)]
struct Guests {
    clients: Vec<Client>,
    /// A link that was open when it died.
    link: Option<(Link, Link)>,
}

/// A day in the life of a daemon, to its end: whatever fails because it is dead already is left out.
fn live(bus: &mut Bus, guests: &mut Guests) {
    let Ok(()) = be_used(bus, guests) else { return };
    let echo = bus.hosted_pid("echo");
    if let Some(echo) = echo {
        signal(echo, Signal::KILL);
        eventually("echo is started again, or nobody is left to", || {
            bus.ended().is_some() || bus.hosted_pid("echo").is_some_and(|pid| pid != echo)
        });
    }
    if bus.ended().is_none() {
        signal(bus.pid(), Signal::TERM);
    }
}

fn be_used(bus: &Bus, guests: &mut Guests) -> Result<(), ClientError> {
    let mut one = bus.try_client("test.one")?;
    let mut two = bus.try_client("test.two")?;
    let (opened, accepted) = linked(&mut one, &mut two)?;
    guests.link = Some((opened, accepted));
    let mut publisher = one.publisher("kills.news", TopicPolicy::Lossy)?;
    two.subscribe("kills.*")?;
    let subscriber = loop {
        match two.next_event(patience())? {
            Some(Event::TopicFound(offer)) => break two.join(offer, Spin::Adaptive)?,
            Some(_) => {}
            None => panic!("the topic was not announced"),
        }
    };
    let until = patience();
    while publisher.readers() == 0 {
        assert!(Instant::now() < until, "the reader never came");
        one.update(&mut publisher)?;
    }
    for _ in 0..3 {
        one.directory()?;
        // Two refreshes at once are one.
        std::thread::sleep(Duration::from_millis(30));
    }
    {
        let mut leaver = bus.try_client("test.leaver")?;
        leaver.open("echo")?;
    }
    eventually("the leaver is forgotten, or nobody is left to", || {
        one.agents("test.leaver").map_or(true, |found| found.is_empty())
    });
    drop(subscriber);
    guests.clients.extend([one, two]);
    Ok(())
}

/// A link between the two, where the daemon lives long enough.
fn linked(one: &mut Client, two: &mut Client) -> Result<(Link, Link), ClientError> {
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            loop {
                if let Some(Event::LinkOffered(offer)) = two.next_event(patience())? {
                    return two.accept(offer);
                }
            }
        });
        // The one who opens and the one who accepts hear of the end alike.
        let opened = one.open("test.two");
        let accepted = accepting.join().unwrap();
        Ok((opened?, accepted?))
    })
}

fn pass_messages(from: &mut Link, to: &mut Link) {
    for number in 0..100u32 {
        let meta = Meta { correlation: number, ..Meta::default() };
        let when = WhenFull::WaitUntil(patience());
        from.sender().raw().send(meta, b"still here", when).unwrap();
        let message = to.receiver().raw().receive(Some(patience())).unwrap();
        assert_eq!(message.meta.correlation, number);
    }
}

/// A daemon that was started after a death is like one that never knew of it.
fn is_whole(bus: &Bus) {
    let mut client = bus.client("test.one");
    let agents = client.agents("").unwrap();
    assert_eq!(agents.len(), 2, "{agents:?}");
    let mut link = client.open("echo").unwrap();
    let outcome = link.call("echo.echo", b"again", &[], patience(), |_| {}).unwrap();
    assert_eq!(outcome, Outcome::Done(b"again".to_vec()));
    assert_eq!(bus.state().lanes, 2);
    let picture = client.directory().unwrap().read();
    assert!(picture.topics.is_empty(), "{:?}", picture.topics);
    let name = std::fs::read_to_string(bus.path().join("run/directory.name")).unwrap();
    let mirror = std::path::Path::new("/dev/shm").join(name.trim_start_matches('/'));
    assert!(mirror.exists(), "the new one has a mirror");
}
