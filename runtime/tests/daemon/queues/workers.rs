//! Workers that are processes: killed, stopped, started again.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use ipc::client::Client;
use ipc::exchange::queue::{Lease, Operation, Options, Queues, Taken};
use rustix::process::Signal;

use super::super::world::{self, Daemon, client_manifest, eventually, patience, signal};
use super::{EXCHANGE, HOUR_NS, item, queues};

/// Names itself to the process that works.
const NAME: &str = "BOLIDE_TEST_WORKER";

/// A worker in a process of its own. It takes one item after the other and keeps each; told `ack` it acks the last one.
struct Worker {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(daemon: &Daemon, name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "queues::workers::the_worker", "--nocapture"])
            .env(world::VICTIM, daemon.socket())
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, output }
    }

    /// What it says next.
    fn says(&mut self, what: &str) -> String {
        loop {
            let line = self.output.next().unwrap().unwrap();
            if let Some((_, rest)) = line.split_once(what) {
                return rest.trim().to_owned();
            }
        }
    }

    /// The next item that it got.
    fn got(&mut self) -> Lease {
        let words = self.says("got ");
        let (item, delivery) = words.split_once(' ').unwrap();
        Lease { item: item.parse().unwrap(), delivery: delivery.parse().unwrap() }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{word}").unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether every thread of a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(|thread| thread.unwrap().path().join("stat")).all(|stat| {
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

/// The ack of a worker that has ended by the time the exchange looks.
fn acked_and_ended(end: impl Fn(Client, Queues)) {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let links = || daemon.status()["lanes"].as_u64().unwrap();
    // What was in the lane may be seen before the end is; not each time.
    for round in 0..5 {
        let (client, mut worker) = queues(&daemon, "test.worker");
        sender.put("work", b"x", patience()).unwrap();
        let taken = item(&mut worker, "work");
        let (exchange, before) = (daemon.agent_pid("exchange"), links());
        signal(exchange, Signal::STOP);
        eventually("it is stopped", || is_stopped(exchange));
        let ack = Operation::Ack(taken.lease);
        let arguments = ack.encode("work").unwrap();
        worker.link().request(ack.tool(), &arguments, &[], patience()).unwrap();
        let work = Operation::Put {
            priority: 5,
            dedup: None,
            deadline_ns: 0,
            wait_ns: 0,
            payload: b"what comes of it",
        };
        let arguments = work.encode("results").unwrap();
        worker.link().request(work.tool(), &arguments, &[], patience()).unwrap();
        end(client, worker);
        eventually("the daemon knows", || links() < before);
        signal(exchange, Signal::CONT);
        eventually("its end is known", || sender.status("work", patience()).unwrap().leased == 0);
        let status = sender.status("work", patience()).unwrap();
        assert_eq!((status.acked, status.ready, status.redelivered), (round + 1, 0, 0));
        assert_eq!(sender.status("results", patience()).unwrap().ready, round + 1);
    }
}

#[test]
fn what_a_worker_acked_before_it_closed_its_link_is_done() {
    acked_and_ended(|mut client, mut worker| {
        client.decline(worker.link().lane(), "done").unwrap();
        client.bye().unwrap();
    });
}

#[test]
fn what_a_worker_acked_before_it_died_is_done() {
    // To the router the same as a death: the socket hangs up without a word.
    acked_and_ended(|client, worker| drop((client, worker)));
}

/// Not a test of its own: what the others start.
#[test]
fn the_worker() {
    let (Some(socket), Ok(name)) = (std::env::var_os(world::VICTIM), std::env::var(NAME)) else {
        return;
    };
    let mut client = Client::connect(socket.as_ref(), &client_manifest(&name), &[]).unwrap();
    let mut queues = Queues::open(&mut client).unwrap();
    let mut output = std::io::stdout();
    let mut say = |text: String| writeln!(output, "\n{text}").and_then(|()| output.flush());
    for line in std::io::stdin().lines() {
        let take = queues.take("work", 1, HOUR_NS, patience()).unwrap();
        let Taken::Item(delivery) = queues.next(take, patience()).unwrap() else { panic!() };
        let Lease { item, delivery: count } = delivery.lease;
        say(format!("got {item} {count}")).unwrap();
        if line.unwrap() == "ack" {
            let acked = queues.ack("work", delivery.lease, patience());
            say(format!("acked {}", acked.is_ok())).unwrap();
        }
    }
}

#[test]
fn what_a_killed_worker_held_returns_to_it_when_it_comes_back() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    for payload in [&b"first"[..], b"second"] {
        sender.put("work", payload, patience()).unwrap();
    }
    let mut worker = Worker::start(&daemon, "test.worker");
    worker.tell("hold");
    let held = worker.got();
    signal(worker.process.id(), Signal::KILL);
    eventually("its item is back", || sender.status("work", patience()).unwrap().ready == 2);
    drop(worker);
    let mut again = Worker::start(&daemon, "test.worker");
    again.tell("ack");
    assert_eq!(again.got(), Lease { delivery: 2, ..held });
    assert_eq!(again.says("acked"), "true");
}

#[test]
fn what_a_killed_worker_held_goes_to_another_one_that_waits() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_heir, mut heir) = queues(&daemon, "test.heir");
    sender.put("work", b"precious", patience()).unwrap();
    let mut worker = Worker::start(&daemon, "test.worker");
    worker.tell("hold");
    let held = worker.got();
    let take = heir.take("work", 1, HOUR_NS, patience()).unwrap();
    // The take is there before the worker dies.
    heir.status("work", patience()).unwrap();
    let killed = Instant::now();
    signal(worker.process.id(), Signal::KILL);
    let Taken::Item(inherited) = heir.next(take, patience()).unwrap() else { panic!() };
    println!("from the kill to the heir: {:?}", killed.elapsed());
    assert_eq!(inherited.lease, Lease { delivery: 2, ..held });
}

#[test]
fn a_stopped_worker_loses_its_lease_at_the_deadline_and_cannot_end_the_work_of_another() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_heir, mut heir) = queues(&daemon, "test.heir");
    let options = Options { lease_ns: 400_000_000, ..Options::default() };
    sender.declare("work", options, patience()).unwrap();
    let mut worker = Worker::start(&daemon, "test.worker");
    // It waits for its item, and gets it while it is stopped.
    worker.tell("ack");
    eventually("it waits", || sender.status("work", patience()).unwrap().takers == 1);
    signal(worker.process.id(), Signal::STOP);
    // One thread takes the signal and stops the others; until then they go on.
    eventually("all of it stands still", || is_stopped(worker.process.id()));
    sender.put("work", b"once", patience()).unwrap();
    let inherited = item(&mut heir, "work");
    assert_eq!(inherited.lease.delivery, 2, "the first one is counted");
    heir.ack("work", inherited.lease, patience()).unwrap();
    signal(worker.process.id(), Signal::CONT);
    assert_eq!(worker.got(), Lease { delivery: 1, ..inherited.lease });
    assert_eq!(worker.says("acked"), "false", "its lease is over, and it is told so");
    let status = sender.status("work", patience()).unwrap();
    assert_eq!((status.stored, status.acked, status.ready, status.leased), (1, 1, 0, 0));
    assert_eq!((status.redelivered, status.stale), (1, 1));
}
