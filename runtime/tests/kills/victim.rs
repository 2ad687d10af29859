//! What runs in the process that is killed: one role each, until it comes to its point. Whatever it was told is done it
//! writes into a report first, which outlives it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc::class::{Class, ReceivingHalf, SendingHalf};
use ipc::client::{Client, ClientError, Event, LinkOptions};
use ipc::control::{ToRouter, TopicPolicy, VERSION};
use ipc::exchange::queue::{Operation, PutOutcome, Queues, Taken};
use ipc::fault;
use ipc::header::{Header, Kind};
use ipc::lane::{Large, SendError, WhenFull};
use ipc::link::{Incoming, Link};
use ipc::ring::Meta;
use ipc::socket::Connection;
use ipc::wait::Spin;

use super::bus::{manifest, patience};
use super::numbered;

/// What the process is to be; without it the helper does nothing.
pub(crate) const ROLE: &str = "BOLIDE_TEST_ROLE";
/// Where the daemon is.
pub(crate) const SOCKET: &str = "BOLIDE_TEST_SOCKET";
/// Where it writes what was done.
pub(crate) const REPORT: &str = "BOLIDE_TEST_REPORT";
/// Its queue.
pub(crate) const QUEUE: &str = "BOLIDE_TEST_QUEUE";

/// Its name on the bus.
pub(crate) const NAME: &str = "test.victim";
/// Whom it has to do with.
pub(crate) const SURVIVOR: &str = "test.survivor";
/// What it publishes.
pub(crate) const SUBJECT: &str = "kills.victim";
/// What it reads.
pub(crate) const OTHER_SUBJECT: &str = "kills.survivor";

/// Between two messages: the other side falls asleep, so that it has to be woken.
const PAUSE: Duration = Duration::from_millis(1);
/// Short enough to give a message up while its first chunks are on their way.
const SHORT: Duration = Duration::from_millis(30);
const HOUR_NS: u64 = 3_600_000_000_000;

struct Report(File);

impl Report {
    /// One line, whole or not at all.
    fn say(&mut self, what: &str, number: u64) {
        self.0.write_all(format!("{what} {number}\n").as_bytes()).unwrap();
    }
}

/// What a dead process had reported.
pub(crate) fn reported(path: &Path, what: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.filter_map(|line| line.strip_prefix(what)?.strip_prefix(' ')?.parse().ok()).collect()
}

/// Runs until it is killed.
pub(crate) fn run(role: &str) {
    let socket = PathBuf::from(std::env::var_os(SOCKET).unwrap());
    let report = PathBuf::from(std::env::var_os(REPORT).unwrap());
    let mut report = Report(File::options().append(true).create(true).open(report).unwrap());
    if role == "half-hello" {
        return half_hello(&socket);
    }
    let mut client = Client::connect(&socket, &manifest(NAME), &[]).unwrap();
    match role {
        "hello" => {}
        "writer" => write(&mut client, &mut report, Class::Critical),
        "writer-high" => write(&mut client, &mut report, Class::High),
        "writer-normal" => write(&mut client, &mut report, Class::Normal),
        "quitter" => quit_in_the_middle(&mut client),
        "reader" => read(&mut client, &mut report),
        "waiter" => wait(&mut client),
        "server" => serve(&mut client, &mut report),
        "granter" => grant(&mut client),
        "publisher" => publish(&mut client, &mut report),
        "subscriber" => subscribe(&mut client),
        "queue-sender" => put(&mut client, &mut report),
        "queue-worker" => work(&mut client, &mut report, false),
        "queue-worker-once" => {
            declare_once(&mut client);
            work(&mut client, &mut report, false);
        }
        "queue-refuser" => work(&mut client, &mut report, true),
        "queue-sleeper" => finish_late(&mut client, &mut report),
        other => panic!("no role `{other}`"),
    }
}

/// Some bytes of a handshake, and nothing more.
fn half_hello(socket: &Path) {
    let connection = Connection::connect(socket).unwrap();
    let hello = ToRouter::Hello { version: VERSION, manifest: manifest(NAME), token: Vec::new() };
    let bytes = hello.encode().unwrap();
    connection.send(&bytes[..bytes.len() / 2], &[]).unwrap();
    fault::point("client.half-hello");
}

/// Whoever is killed at a random moment may come before those who were there; all others find the survivor.
fn opened(client: &mut Client) -> Link {
    client.open(SURVIVOR).unwrap()
}

/// Class HIGH falls back where the system has no rings.
fn write(client: &mut Client, report: &mut Report, class: Class) {
    let mut link = client.open_link(SURVIVOR, LinkOptions { class }).unwrap();
    for number in 0.. {
        numbered::send(link.sender().raw(), number, patience()).unwrap();
        report.say("sent", number);
        std::thread::sleep(PAUSE);
    }
}

fn quit_in_the_middle(client: &mut Client) {
    let mut link = opened(client);
    let (header, body) = (Header::new(Kind::Event), vec![7; 2_000_000]);
    let large = Large { header: Some(&header), meta: Meta::default(), parts: &[&body] };
    let lane = link.sender().raw();
    let sent = lane.send_large(large, WhenFull::WaitUntil(Instant::now() + SHORT));
    assert_eq!(sent, Err(SendError::Full));
    numbered::send(lane, 0, patience()).unwrap();
}

fn read(client: &mut Client, report: &mut Report) {
    let mut link = opened(client);
    for number in 0.. {
        let message = link.receiver().raw().receive(Some(patience())).unwrap();
        assert_eq!(numbered::number_of(&message), number);
        report.say("read", number);
    }
}

fn wait(client: &mut Client) {
    let mut link = opened(client);
    loop {
        client.wait(&mut [link.receiver().raw()], Some(patience())).unwrap();
        while link.receiver().raw().try_receive().unwrap().is_some() {}
    }
}

fn serve(client: &mut Client, report: &mut Report) {
    let mut link = loop {
        if let Some(Event::LinkOffered(offer)) = client.next_event(patience()).unwrap() {
            break client.accept(offer).unwrap();
        }
    };
    loop {
        let request = match link.next(patience()) {
            Ok(Incoming::Request(request)) => request,
            Ok(_) => continue,
            // Whoever called has left; nothing more is to be tried.
            Err(_) => return,
        };
        report.say("ran", request.id.0);
        fault::point("server.ran");
        let when = WhenFull::WaitUntil(patience());
        link.sender().answer(request.id, &request.payload, when).unwrap();
    }
}

/// Grants a file that it has locked: whoever still holds it keeps it locked.
fn grant(client: &mut Client) {
    let file = File::open(std::env::var_os(REPORT).unwrap()).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let link = opened(client);
    client.grant(link.lane(), file.as_fd()).unwrap();
    client.grant(link.lane(), file.as_fd()).unwrap();
}

fn publish(client: &mut Client, report: &mut Report) {
    let mut publisher = client.publisher(SUBJECT, TopicPolicy::Lossless).unwrap();
    while publisher.readers() == 0 {
        client.update(&mut publisher).unwrap();
        std::thread::sleep(PAUSE);
    }
    for number in 0.. {
        numbered::send(publisher.raw(), number, patience()).unwrap();
        report.say("sent", number);
        client.update(&mut publisher).unwrap();
        std::thread::sleep(PAUSE);
    }
}

fn subscribe(client: &mut Client) {
    client.subscribe(OTHER_SUBJECT).unwrap();
    let mut subscriber = loop {
        if let Some(Event::TopicFound(offer)) = client.next_event(patience()).unwrap() {
            break client.join(offer, Spin::Adaptive).unwrap();
        }
    };
    loop {
        let _message = subscriber.raw().receive(Some(patience())).unwrap();
    }
}

/// The exchange takes a moment to come up.
fn queues(client: &mut Client) -> (Queues, String) {
    let queue = std::env::var(QUEUE).unwrap();
    loop {
        match Queues::open(client) {
            Ok(queues) => return (queues, queue),
            Err(ClientError::Refused { code, .. }) if code == "starting" => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn put(client: &mut Client, report: &mut Report) {
    let (mut queues, queue) = queues(client);
    for number in 0u64.. {
        let payload = number.to_le_bytes().repeat(if number % 3 == 2 { 5_000 } else { 1 });
        let (dedup, deadline_ns, wait_ns) = (None, 0, 0);
        let put = Operation::Put { priority: 5, dedup, deadline_ns, wait_ns, payload: &payload };
        let arguments = put.encode(&queue).unwrap();
        let request = queues.link().request(put.tool(), &arguments, &[], patience()).unwrap();
        fault::point("sender.put-sent");
        let ipc::link::Answer::Done(bytes) = queues.link().answer(request, patience()).unwrap()
        else {
            panic!("a put was refused")
        };
        assert!(matches!(PutOutcome::decode(&bytes).unwrap(), PutOutcome::Stored { .. }));
        report.say("stored", number);
        fault::point("sender.put-answered");
    }
}

/// The queue in which an item is delivered once. Whoever comes first makes it, the victim or the survivor, and a take would make
/// another one.
fn declare_once(client: &mut Client) {
    let (mut queues, queue) = queues(client);
    queues.declare(&queue, super::queues::once(), patience()).unwrap();
    client.decline(queues.link().lane(), "declared").unwrap();
}

/// Takes items one by one and says what became of each.
fn work(client: &mut Client, report: &mut Report, refuses: bool) {
    let (mut queues, queue) = queues(client);
    loop {
        let take = queues.take(&queue, 1, HOUR_NS, patience()).unwrap();
        fault::point("worker.take-sent");
        let Taken::Item(item) = queues.next(take, patience()).unwrap() else { panic!("no item") };
        let number = u64::from_le_bytes(item.payload[..8].try_into().unwrap());
        report.say("got", number);
        fault::point("worker.delivered");
        let _end = queues.next(take, patience()).unwrap();
        queues.call(&queue, &Operation::Extend(item.lease), patience()).unwrap();
        fault::point("worker.extended");
        if refuses {
            let nack = Operation::Nack { lease: item.lease, delay_ns: 0 };
            let arguments = nack.encode(&queue).unwrap();
            queues.link().request(nack.tool(), &arguments, &[], patience()).unwrap();
            fault::point("worker.nack-sent");
            continue;
        }
        let ack = Operation::Ack(item.lease);
        let arguments = ack.encode(&queue).unwrap();
        let request = queues.link().request(ack.tool(), &arguments, &[], patience()).unwrap();
        fault::point("worker.ack-sent");
        queues.link().answer(request, patience()).unwrap();
        report.say("acked", number);
        fault::point("worker.ack-answered");
    }
}

/// Takes an item and is done with it when it is told to go on.
fn finish_late(client: &mut Client, report: &mut Report) {
    let (mut queues, queue) = queues(client);
    let take = queues.take(&queue, 1, HOUR_NS, patience()).unwrap();
    let Taken::Item(item) = queues.next(take, patience()).unwrap() else { panic!("no item") };
    report.say("got", item.lease.delivery.into());
    let go_on = PathBuf::from(std::env::var_os(REPORT).unwrap()).with_extension("go-on");
    while !go_on.exists() {
        std::thread::sleep(PAUSE);
    }
    let acked = queues.ack(&queue, item.lease, patience());
    report.say(if acked.is_ok() { "acked" } else { "stale" }, item.lease.delivery.into());
    // Until it is killed.
    let _ = client.next_event(patience());
}
