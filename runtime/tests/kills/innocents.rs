//! Two agents that have nothing to do with it: they exchange numbered messages over a direct link from the first death to
//! the last and lose none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipc::class::{ReceivingHalf, SendingHalf};
use ipc::client::{Client, Event};
use ipc::lane::{ReceiveError, WhenFull};
use ipc::link::Link;
use ipc::ring::Meta;

use super::bus::{Bus, eventually, patience};

/// Between two messages, so that two processors are left to those who die.
const PAUSE: Duration = Duration::from_micros(500);
/// Exchanges that count as going on.
const EXCHANGES: u64 = 3;

pub(crate) struct Innocents {
    stop: Arc<AtomicBool>,
    exchanged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Innocents {
    pub(crate) fn start(bus: &Bus) -> Self {
        let (stop, exchanged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (one, two, opened, accepted) =
            linked(bus.client("innocent.one"), bus.client("innocent.two"));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&exchanged));
        let asking = std::thread::spawn(move || ask(one, opened, &told, &count));
        let told = Arc::clone(&stop);
        let answering = std::thread::spawn(move || answer(two, accepted, &told));
        Self { stop, exchanged, threads: vec![asking, answering] }
    }

    /// Returns when they have exchanged more than so far.
    pub(crate) fn go_on(&self) {
        let before = self.exchanged.load(Ordering::Relaxed);
        eventually("the innocent exchange messages", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "one has given up");
            self.exchanged.load(Ordering::Relaxed) >= before + EXCHANGES
        });
    }

    /// How many messages they exchanged, each in its turn.
    pub(crate) fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("an innocent lost a message");
        }
        self.exchanged.load(Ordering::Relaxed)
    }
}

/// A link between two clients of this process.
pub(crate) fn linked(mut one: Client, mut two: Client) -> (Client, Client, Link, Link) {
    let target = two.agent();
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            loop {
                if let Some(Event::LinkOffered(offer)) = two.next_event(patience()).unwrap() {
                    let link = two.accept(offer).unwrap();
                    return (two, link);
                }
            }
        });
        let agents = one.agents("").unwrap();
        let name = agents.iter().find(|agent| agent.id == target).unwrap();
        let opened = one.open(&name.manifest.name).unwrap();
        let (two, accepted) = accepted.join().unwrap();
        (one, two, opened, accepted)
    })
}

fn ask(_client: Client, mut link: Link, stop: &AtomicBool, exchanged: &AtomicU64) {
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let when = WhenFull::WaitUntil(patience());
        let bytes = [number.to_le_bytes(), (!number).to_le_bytes()].concat();
        link.sender().raw().send(Meta::default(), &bytes, when).unwrap();
        let answer = link.receiver().raw().receive(Some(patience())).unwrap();
        assert_eq!(answer.payload, bytes);
        exchanged.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}

/// Looks whether it is over now and then: a daemon that is dead cannot tell that the link has ended.
fn answer(_client: Client, mut link: Link, stop: &AtomicBool) {
    let mut expected = 0u64;
    loop {
        let slice = Instant::now() + Duration::from_millis(50);
        let bytes = match link.receiver().raw().receive(Some(slice)) {
            Ok(message) => message.payload.to_vec(),
            Err(ReceiveError::Deadline) if stop.load(Ordering::Relaxed) => return,
            Err(ReceiveError::Deadline) => continue,
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(bytes[..8], expected.to_le_bytes(), "a message is missing or came twice");
        expected += 1;
        let when = WhenFull::WaitUntil(patience());
        link.sender().raw().send(Meta::default(), &bytes, when).unwrap();
    }
}
