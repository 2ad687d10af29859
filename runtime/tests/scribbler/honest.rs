//! The others: they accept whoever comes, call whoever is there, publish, read, put and take items, and hold the bus to
//! every promise while somebody rages on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipc::class::{ReceivingHalf, SendingHalf};
use ipc::client::{Client, ClientError, Event};
use ipc::control::TopicPolicy;
use ipc::exchange::queue::{Queues, Taken};
use ipc::lane::{ReceiveError, SendError, WhenFull};
use ipc::link::{CallError, Link, Outcome};
use ipc::ring::Meta;
use ipc::topic::Subscriber;
use ipc::wait::Spin;

use super::bus::{Bus, patience};

/// Whoever accepts everybody.
pub(crate) const HOST: &str = "test.host";
/// How the names begin of those who want to be called.
pub(crate) const HOSTILE: &str = "hostile.";
/// What subjects begin with.
pub(crate) const NEWS: &str = "news";
/// What is published honestly.
pub(crate) const SUBJECT: &str = "news.honest";

/// Links of the host at once; the eldest goes.
const LINKS_MAX: usize = 24;
const PAUSE: Duration = Duration::from_millis(1);

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) calls: u64,
    pub(crate) routed_calls: u64,
    pub(crate) items: u64,
    pub(crate) news: u64,
    pub(crate) accepted: u64,
    pub(crate) opened: u64,
    /// Links and topics whose other side broke the protocol.
    pub(crate) quarantined: u64,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    calls: AtomicU64,
    routed_calls: AtomicU64,
    items: AtomicU64,
    news: AtomicU64,
    published: AtomicU64,
    accepted: AtomicU64,
    opened: AtomicU64,
    quarantined: AtomicU64,
}

impl Counts {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

fn one_more(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct Honest {
    counts: Arc<Counts>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl Honest {
    pub(crate) fn start(bus: &Bus) -> Self {
        let counts = Arc::new(Counts::default());
        let mut threads = Vec::new();
        let mut play = |name: &'static str, part: fn(Client, &Counts)| {
            let (client, counts) = (bus.client(name), Arc::clone(&counts));
            threads.push((name, std::thread::spawn(move || part(client, &counts))));
        };
        play(HOST, host);
        play("innocent.opener", open_all);
        play("innocent.reader", read_news);
        play("innocent.publisher", publish);
        play("innocent.caller", |client, counts| call(client, counts, &counts.calls));
        play("test.quiet.caller", |client, counts| call(client, counts, &counts.routed_calls));
        play("innocent.worker", work);
        Self { counts, threads }
    }

    /// Ends them all; whoever was not served as promised has panicked.
    pub(crate) fn finish(self) -> Done {
        self.counts.stop.store(true, Ordering::Relaxed);
        for (name, thread) in self.threads {
            assert!(thread.join().is_ok(), "{name} was not served");
        }
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let done = Done {
            calls: of(&counts.calls),
            routed_calls: of(&counts.routed_calls),
            items: of(&counts.items),
            news: of(&counts.news),
            accepted: of(&counts.accepted),
            opened: of(&counts.opened),
            quarantined: of(&counts.quarantined),
        };
        let all =
            [done.calls, done.routed_calls, done.items, done.news, done.accepted, done.opened];
        assert!(all.iter().all(|count| *count > 0), "{done:?}");
        assert_eq!(done.news, of(&counts.published), "news got lost");
        done
    }
}

/// Calls that are answered as ever, all the time.
fn call(mut client: Client, counts: &Counts, counter: &AtomicU64) {
    let mut link = client.open("echo").unwrap();
    while counts.goes_on() {
        let number = one_more(counter);
        let payload = number.to_le_bytes().repeat(if number % 16 == 3 { 20_000 } else { 3 });
        let outcome = client.call(&mut link, "echo.echo", &payload, &[], patience(), |_| {});
        assert_eq!(outcome.unwrap(), Outcome::Done(payload));
        std::thread::sleep(PAUSE);
    }
}

/// Items that go through a queue once each, in order.
fn work(mut client: Client, counts: &Counts) {
    let mut queues = Queues::open(&mut client).unwrap();
    while counts.goes_on() {
        let number = one_more(&counts.items).to_le_bytes();
        queues.put("innocent", &number, patience()).unwrap();
        let take = queues.take("innocent", 1, 0, patience()).unwrap();
        let Taken::Item(item) = queues.next(take, patience()).unwrap() else { panic!("no item") };
        assert_eq!((&item.payload[..], item.lease.delivery), (&number[..], 1));
        queues.next(take, patience()).unwrap();
        queues.ack("innocent", item.lease, patience()).unwrap();
        std::thread::sleep(PAUSE);
    }
}

fn publish(mut client: Client, counts: &Counts) {
    let mut publisher = client.publisher(SUBJECT, TopicPolicy::Lossless).unwrap();
    while publisher.readers() == 0 {
        client.update(&mut publisher).unwrap();
        std::thread::sleep(PAUSE);
    }
    while counts.goes_on() {
        let number = counts.published.load(Ordering::Relaxed).to_le_bytes();
        // A reader that does not read holds this up while it lives, as is promised.
        client.publish(&mut publisher, &number, patience()).unwrap();
        one_more(&counts.published);
        while publisher.raw().next_detached().is_some() {
            one_more(&counts.quarantined);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads all news: the honest ones are all there, the others are whatever they are.
fn read_news(mut client: Client, counts: &Counts) {
    client.subscribe(&format!("{NEWS}.>")).unwrap();
    let mut topics: Vec<Subscriber> = Vec::new();
    let mut expected = 0u64;
    while counts.goes_on() || expected < counts.published.load(Ordering::Relaxed) {
        while let Some(event) = client.next_event(Instant::now()).unwrap() {
            if let Event::TopicFound(offer) = event {
                let (lane, is_honest) = (offer.lane, offer.subject == SUBJECT);
                match client.join(offer, Spin::Adaptive) {
                    Ok(subscriber) => topics.push(subscriber),
                    Err(error) if is_honest => panic!("{error}"),
                    Err(_) => client.decline(lane, "unfit").unwrap(),
                }
            }
        }
        let mut over = Vec::new();
        for topic in &mut topics {
            let is_honest = topic.subject() == SUBJECT;
            for _ in 0..64 {
                match topic.raw().try_receive() {
                    Ok(None) => break,
                    Ok(Some(message)) if is_honest => {
                        assert_eq!(message.payload, expected.to_le_bytes());
                        expected += 1;
                        one_more(&counts.news);
                    }
                    Ok(Some(_)) | Err(ReceiveError::Lost(_)) => {}
                    Err(error) => {
                        // The publisher goes when it is told that this is over, and not before.
                        let is_over = !counts.goes_on()
                            && expected == counts.published.load(Ordering::Relaxed);
                        assert!(!is_honest || is_over, "{error}");
                        let broken = matches!(error, ReceiveError::Quarantined(_));
                        counts.quarantined.fetch_add(broken.into(), Ordering::Relaxed);
                        over.push(topic.lane());
                        break;
                    }
                }
            }
        }
        topics.retain(|topic| !over.contains(&topic.lane()));
        for lane in over {
            client.quarantine(lane, "it broke").unwrap();
        }
        std::thread::sleep(PAUSE);
    }
}

/// Accepts everybody, and speaks and listens to all.
fn host(mut client: Client, counts: &Counts) {
    let mut links: Vec<Link> = Vec::new();
    while counts.goes_on() {
        let mut lanes: Vec<&mut dyn ReceivingHalf> = Vec::new();
        for link in &mut links {
            lanes.push(link.receiver().raw());
        }
        client.wait(&mut lanes, Some(Instant::now() + PAUSE)).unwrap();
        while let Some(event) = client.next_event(Instant::now()).unwrap() {
            match event {
                // One that is unfit was declined already.
                Event::LinkOffered(offer) => match client.accept(offer) {
                    Ok(link) => {
                        one_more(&counts.accepted);
                        links.push(link);
                    }
                    Err(ClientError::RouterGone) => panic!("thrown out"),
                    Err(_) => {}
                },
                Event::LinkClosed { lane, .. } => links.retain(|link| link.lane() != lane),
                _ => {}
            }
        }
        while links.len() > LINKS_MAX {
            client.decline(links.remove(0).lane(), "too many").unwrap();
        }
        let mut over = Vec::new();
        for link in &mut links {
            if let Some(broken) = use_link(link) {
                counts.quarantined.fetch_add(broken.into(), Ordering::Relaxed);
                over.push(link.lane());
            }
        }
        links.retain(|link| !over.contains(&link.lane()));
        for lane in over {
            client.quarantine(lane, "it broke").unwrap();
        }
    }
}

/// Whether a link is over, and whether that is because the other side broke the protocol.
fn use_link(link: &mut Link) -> Option<bool> {
    for _ in 0..16 {
        match link.receiver().try_receive() {
            Ok(None) => break,
            Ok(Some(_)) => {}
            Err(error) => return Some(matches!(error, CallError::Quarantined { .. })),
        }
    }
    match link.sender().raw().send(Meta::default(), b"good day", WhenFull::Reject) {
        Ok(()) | Err(SendError::Full) => None,
        Err(error) => Some(matches!(error, SendError::Quarantined(_))),
    }
}

/// Opens links to whoever is there to be called.
fn open_all(mut client: Client, counts: &Counts) {
    while counts.goes_on() {
        let agents = client.agents("").unwrap();
        for agent in agents.iter().filter(|agent| agent.manifest.name.starts_with(HOSTILE)) {
            // Refused, unfit, or gone by now.
            let Ok(mut link) = client.open(&agent.manifest.name) else { continue };
            one_more(&counts.opened);
            let until = Instant::now() + 20 * PAUSE;
            let broken = loop {
                match use_link(&mut link) {
                    Some(broken) => break broken,
                    None if Instant::now() > until => break false,
                    None => std::thread::sleep(PAUSE),
                }
            };
            counts.quarantined.fetch_add(broken.into(), Ordering::Relaxed);
            client.decline(link.lane(), "done").unwrap();
        }
        while client.next_event(Instant::now()).unwrap().is_some() {}
        std::thread::sleep(PAUSE);
    }
}
