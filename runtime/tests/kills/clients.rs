//! Deaths of programs that link the library, seen from the one that they had to do with: everything that was sent arrives,
//! whole and in order, then the end; and nothing of the dead is left anywhere.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipc::class::ReceivingHalf;
use ipc::client::{Client, ClientError, Event};
use ipc::control::TopicPolicy;
use ipc::lane::{Ended, ReceiveError, SendError};
use ipc::link::{CallError, Link, Outcome};
use ipc::wait::Spin;

use super::bus::{Bus, FAULT, Fault, armed, eventually, patience, token};
use super::innocents::Innocents;
use super::numbered;
use super::report::Row;
use super::victim::{self, SURVIVOR, reported};

/// How long the survivor waits for events before it looks whether the other one is dead.
const SLICE: Duration = Duration::from_millis(5);
/// Messages that a topic must take after its reader has died: more than its slots.
const AFTERWARDS: u64 = 2_500;

/// One death.
pub(crate) struct Case {
    pub(crate) point: &'static str,
    /// How often the point is passed before.
    pub(crate) skip: u64,
    pub(crate) role: &'static str,
    /// What the survivor does meanwhile, and what it checks.
    pub(crate) survive: fn(&mut Stage),
    pub(crate) checked: &'static str,
}

/// One survivor and one victim.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) victim: Victim,
    /// A queue that nobody else uses.
    pub(crate) queue: String,
    /// Whether it dies at a known point, not at a random moment.
    pub(crate) exact: bool,
}

/// A process that is to die.
pub(crate) struct Victim {
    pid: u32,
    died: Arc<OnceLock<(Instant, ExitStatus)>>,
    waiting: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
}

impl Victim {
    pub(crate) fn start(bus: &Bus, role: &str, queue: &str, fault: Option<Fault>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("report"), "").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "the_process_that_is_killed", "--nocapture"])
            .env(victim::ROLE, role)
            .env(victim::SOCKET, bus.socket())
            .env(victim::QUEUE, queue)
            .env(victim::REPORT, directory.path().join("report"))
            .stdout(Stdio::null());
        if let Some(fault) = fault {
            command.env(FAULT, armed(fault, directory.path()));
        }
        let mut child = command.spawn().unwrap();
        let (pid, died) = (child.id(), Arc::new(OnceLock::new()));
        let told = Arc::clone(&died);
        let waiting = std::thread::spawn(move || {
            let status = child.wait().unwrap();
            let _ = told.set((Instant::now(), status));
        });
        Self { pid, died, waiting: Some(waiting), directory }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.died.get().is_some()
    }

    pub(crate) fn stop(&self) {
        super::bus::stop(self.pid);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        super::bus::signal(self.pid, signal);
    }

    pub(crate) fn wait(&self) {
        eventually("the victim dies", || self.is_dead());
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.directory.path().join("report")
    }

    pub(crate) fn reported(&self, what: &str) -> Vec<u64> {
        reported(&self.report(), what)
    }

    /// When it died, by SIGKILL, at its point if it had one.
    fn bury(&mut self, point: &str) -> Instant {
        self.waiting.take().unwrap().join().unwrap();
        let (at, status) = *self.died.get().unwrap();
        assert_eq!(status.signal(), Some(9), "{point}: {status}");
        assert!(!token(self.directory.path()).exists(), "{point}: it died elsewhere");
        at
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            if !self.is_dead() {
                self.signal(rustix::process::Signal::KILL);
            }
            let _ = waiting.join();
        }
    }
}

impl Stage {
    /// The link that the victim opens, unless it dies before.
    fn offered(&mut self) -> Option<Link> {
        loop {
            match self.client.next_event(Instant::now() + SLICE).unwrap() {
                Some(Event::LinkOffered(offer)) => return Some(self.client.accept(offer).unwrap()),
                Some(_) => {}
                None if self.victim.is_dead() => return None,
                None => {}
            }
        }
    }

    /// Reads numbered messages to the end, which must be the writer's death. All that it had sent must be there.
    fn read_to_the_end(&mut self, lane: &mut impl ReceivingHalf) {
        let (mut expected, mut first) = (None, 0);
        loop {
            match lane.receive(Some(patience())) {
                Ok(message) => {
                    let number = numbered::number_of(&message);
                    first = if expected.is_none() { number } else { first };
                    assert_eq!(expected.unwrap_or(number), number, "a message is missing");
                    expected = Some(number + 1);
                }
                Err(ReceiveError::Ended(Ended::PeerGone)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.victim.wait();
        let sent = self.victim.reported("sent").len() as u64;
        let read = expected.unwrap_or(0);
        assert!(read == sent || read == sent + 1, "{sent} were sent, {read} arrived");
        assert_eq!(first, 0, "the first ones are missing");
    }
}

/// Runs one death and waits until nothing is left of it. `moment` is when to kill somebody who has no point.
pub(crate) fn die(
    bus: &Bus,
    innocents: &Innocents,
    case: &Case,
    number: u64,
    moment: Option<Duration>,
) -> Row {
    let empty = bus.state();
    let client = bus.client(SURVIVOR);
    let before = bus.state();
    let fault = Fault { point: case.point, skip: case.skip };
    let queue = format!("kills.{number}");
    let victim = Victim::start(bus, case.role, &queue, moment.is_none().then_some(fault));
    let mut stage = Stage { client, victim, queue, exact: moment.is_none() };
    std::thread::scope(|scope| {
        if let Some(moment) = moment {
            let pid = stage.victim.pid;
            scope.spawn(move || {
                std::thread::sleep(moment);
                super::bus::signal(pid, rustix::process::Signal::KILL);
            });
        }
        (case.survive)(&mut stage);
    });
    let died = stage.victim.bury(case.point);
    bus.settles(case.point, &before);
    let recovery = died.elapsed();
    innocents.go_on();
    // Its name is free again.
    drop(bus.client(victim::NAME));
    drop(stage);
    bus.settles("after it", &empty);
    Row { point: case.point, who: case.role, checked: case.checked, recovery }
}

/// Nothing but that it dies.
pub(crate) fn watch(stage: &mut Stage) {
    stage.victim.wait();
}

pub(crate) fn read(stage: &mut Stage) {
    let Some(mut link) = stage.offered() else { return };
    stage.read_to_the_end(link.receiver().raw());
}

/// Takes nothing before the writer, which waits for room, is dead.
pub(crate) fn read_afterwards(stage: &mut Stage) {
    let Some(mut link) = stage.offered() else { return };
    stage.victim.wait();
    stage.read_to_the_end(link.receiver().raw());
}

/// The message that was given up is never seen.
pub(crate) fn read_what_was_given_up(stage: &mut Stage) {
    let Some(mut link) = stage.offered() else { return };
    stage.victim.wait();
    let end = link.receiver().raw().receive(Some(patience())).map(|message| message.payload.len());
    assert_eq!(end, Err(ReceiveError::Ended(Ended::PeerGone)));
}

/// Sleeps on the doorbell between two messages.
pub(crate) fn read_by_bell(stage: &mut Stage) {
    let Some(mut link) = stage.offered() else { return };
    let mut expected = 0;
    loop {
        stage.client.wait(&mut [link.receiver().raw()], Some(patience())).unwrap();
        while stage.client.next_event(Instant::now()).unwrap().is_some() {}
        match link.receiver().raw().try_receive() {
            Ok(Some(message)) => {
                assert_eq!(numbered::number_of(&message), expected);
                expected += 1;
            }
            Ok(None) => {}
            Err(ReceiveError::Ended(Ended::PeerGone)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    stage.victim.wait();
    let sent = stage.victim.reported("sent").len() as u64;
    assert!(expected == sent || expected == sent + 1, "{sent} were sent, {expected} arrived");
}

/// Writes to a reader that dies: the end is told to whoever waits for room as well.
pub(crate) fn write(stage: &mut Stage) {
    let Some(mut link) = stage.offered() else { return };
    let mut number = 0u64;
    let end = loop {
        match numbered::send(link.sender().raw(), number, patience()) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        if number.is_multiple_of(8) {
            // It falls asleep now and then.
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(end, SendError::Ended(Ended::PeerGone));
    stage.victim.wait();
    let read = stage.victim.reported("read").len() as u64;
    assert!(read <= number + 1, "{number} were sent, {read} were read");
}

/// Calls until the end: every answer is of a request that was run.
pub(crate) fn call(stage: &mut Stage) {
    let mut link = loop {
        match stage.client.open(victim::NAME) {
            Ok(link) => break link,
            Err(ClientError::Refused { code, .. }) => {
                let gone = ["no-such-target", "peer-gone"].contains(&code.as_str());
                assert!(gone, "{code}");
                if stage.victim.is_dead() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut answered = 0;
    let end = loop {
        match link.call("test.run", &[7; 1_000], &[], patience(), |_| {}) {
            Ok(outcome) => assert_eq!(outcome, Outcome::Done(vec![7; 1_000])),
            Err(error) => break error,
        }
        answered += 1;
    };
    assert!(matches!(end, CallError::Ended { ended: Ended::PeerGone, .. }), "{end}");
    stage.victim.wait();
    let ran = stage.victim.reported("ran");
    assert!(ran.len() == answered || ran.len() == answered + 1, "{answered} of {}", ran.len());
    let again = ran.windows(2).any(|pair| pair[0] >= pair[1]);
    assert!(!again, "a request was run twice");
}

/// Takes no grant; when the link has ended nobody holds what was granted.
pub(crate) fn be_granted(stage: &mut Stage) {
    let Some(link) = stage.offered() else { return };
    stage.victim.wait();
    loop {
        match stage.client.next_event(patience()).unwrap() {
            Some(Event::LinkClosed { lane, .. }) if lane == link.lane() => break,
            event => assert!(event.is_some(), "the end was not told"),
        }
    }
    let file = std::fs::File::open(stage.victim.report()).unwrap();
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    eventually("nobody holds what was granted", || rustix::fs::flock(&file, lock).is_ok());
}

pub(crate) fn read_topic(stage: &mut Stage) {
    stage.client.subscribe(victim::SUBJECT).unwrap();
    let offer = loop {
        match stage.client.next_event(Instant::now() + SLICE).unwrap() {
            Some(Event::TopicFound(offer)) => break offer,
            Some(_) => {}
            None if stage.victim.is_dead() => return,
            None => {}
        }
    };
    let mut subscriber = stage.client.join(offer, Spin::Adaptive).unwrap();
    stage.read_to_the_end(subscriber.raw());
}

/// A reader that dies holds a lossless topic back for a moment and no longer.
pub(crate) fn write_topic(stage: &mut Stage) {
    let policy = TopicPolicy::Lossless;
    let mut publisher = stage.client.publisher(victim::OTHER_SUBJECT, policy).unwrap();
    let mut left = AFTERWARDS;
    let mut number = 0u64;
    while left > 0 {
        let bytes = number.to_le_bytes();
        stage.client.publish(&mut publisher, &bytes, patience()).unwrap();
        number += 1;
        if stage.victim.is_dead() {
            left -= 1;
        } else if number.is_multiple_of(64) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    eventually("the dead reader is forgotten", || {
        stage.client.update(&mut publisher).unwrap();
        publisher.readers() == 0
    });
    stage.client.decline(publisher.lane(), "done").unwrap();
}
