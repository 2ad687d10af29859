//! The hostile process: it links the library as everybody, and writes over its own memory behind the library's back.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipc::class::{Class, SendingHalf};
use ipc::client::{Client, ClientError, Event, LinkOptions};
use ipc::control::{CloseCause, Terms, ToRouter, TopicPolicy, TopicTerms, VERSION};
use ipc::exchange::log;
use ipc::exchange::queue::{Lease, Operation, Queues};
use ipc::header::{AgentId, GrantId, Header, Kind, LaneId};
use ipc::lane::{Large, WhenFull};
use ipc::link::Link;
use ipc::ring::Meta;
use ipc::socket::Connection;
use ipc::wait::Spin;
use rustix::net::{SendFlags, Shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::bus::{Random, manifest};
use super::honest::{HOST, HOSTILE, NEWS, SUBJECT};

pub(crate) const SOCKET: &str = "BOLIDE_TEST_HOSTILE_SOCKET";
pub(crate) const SEED: &str = "BOLIDE_TEST_HOSTILE_SEED";
/// A file here says that memory of somebody else could be written.
pub(crate) const BREACHES: &str = "BOLIDE_TEST_BREACHES";

/// Rounds of scribbling in one part.
const ROUNDS: u64 = 40;
/// Words that are overwritten in one round, in each mapping.
const WORDS: u64 = 24;
/// How long it waits for what the others may do.
const SHORT: Duration = Duration::from_millis(20);
/// No part takes longer.
const STUCK: Duration = Duration::from_millis(1_500);

struct Hostile {
    socket: PathBuf,
    random: Random,
    memory: File,
    own: OwnedFd,
}

/// Plays parts at random until it is killed or falls over.
pub(crate) fn run(socket: &Path) {
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let mut hostile = Hostile {
        socket: socket.to_owned(),
        random: Random::new(seed),
        memory: File::options().read(true).write(true).open("/proc/self/mem").unwrap(),
        own: pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
    };
    let played = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&played);
    std::thread::spawn(move || end_when_stuck(&watched));
    loop {
        // Its own memory is full of garbage, so the library falls over in this process at times.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hostile.play()));
        played.fetch_add(1, Ordering::Relaxed);
    }
}

/// One that has blocked its own connection makes room for another.
fn end_when_stuck(played: &AtomicU64) {
    loop {
        let before = played.load(Ordering::Relaxed);
        std::thread::sleep(STUCK);
        if played.load(Ordering::Relaxed) == before {
            std::process::exit(0);
        }
    }
}

impl Hostile {
    fn play(&mut self) -> Result<(), ClientError> {
        match self.random.below(10) {
            0 => self.open("echo"),
            1 => self.open("exchange"),
            2 => self.open(HOST),
            3 => self.be_called(),
            4 => self.publish(),
            5 => self.subscribe(),
            6 => self.route(),
            7 => self.queue(),
            8 => self.follow(),
            _ => self.babble(),
        }
    }

    fn client(&mut self, prefix: &str) -> Result<Client, ClientError> {
        let name = format!("{prefix}{:x}", self.random.next() & 0xFFFF);
        Client::connect(&self.socket, &manifest(&name), &[])
    }

    /// As the opener of a link.
    fn open(&mut self, target: &str) -> Result<(), ClientError> {
        let mut client = self.client("test.hostile.")?;
        let class = self.class();
        let mut link = client.open_link(target, LinkOptions { class })?;
        self.abuse(&mut client, &mut link);
        Ok(())
    }

    /// As the one who is called.
    fn be_called(&mut self) -> Result<(), ClientError> {
        let mut client = self.client(HOSTILE)?;
        let until = Instant::now() + 4 * SHORT;
        while let Some(event) = client.next_event(until)? {
            if let Event::LinkOffered(offer) = event {
                let mut link = client.accept(offer)?;
                self.abuse(&mut client, &mut link);
            }
        }
        Ok(())
    }

    /// Through the exchange.
    fn route(&mut self) -> Result<(), ClientError> {
        let mut client = self.client("test.quiet.hostile.")?;
        let target = if self.random.below(2) == 0 { "echo" } else { HOST };
        let mut link = client.open(target)?;
        self.abuse(&mut client, &mut link);
        Ok(())
    }

    fn publish(&mut self) -> Result<(), ClientError> {
        let mut client = self.client("test.hostile.")?;
        let policy = [TopicPolicy::Lossless, TopicPolicy::Lossy][self.random.below(2) as usize];
        let mut publisher = client.publisher(&format!("{NEWS}.hostile"), policy)?;
        for _ in 0..ROUNDS {
            client.update(&mut publisher)?;
            let bytes = self.bytes(20_000);
            let _ = publisher.publish(&bytes, WhenFull::Reject);
            self.scribble();
        }
        Ok(())
    }

    /// Reads what the honest publish, with a cursor that says anything.
    fn subscribe(&mut self) -> Result<(), ClientError> {
        let mut client = self.client("test.hostile.")?;
        client.subscribe(SUBJECT)?;
        let until = Instant::now() + SHORT;
        while let Some(event) = client.next_event(until)? {
            let Event::TopicFound(offer) = event else { continue };
            let mut subscriber = client.join(offer, Spin::Adaptive)?;
            for _ in 0..ROUNDS {
                let _ = subscriber.raw().try_receive();
                self.scribble();
            }
        }
        Ok(())
    }

    fn queue(&mut self) -> Result<(), ClientError> {
        let mut client = self.client("test.hostile.")?;
        let mut queues = Queues::open(&mut client)?;
        for _ in 0..ROUNDS {
            let (item, count) = (self.random.next() % 1_000, self.random.next() as u32);
            let lease = Lease { item, delivery: count };
            let payload = self.bytes(5_000);
            let (dedup, deadline_ns, wait_ns) = (None, self.random.next(), self.random.next());
            let priority = self.random.next() as u8;
            let operation = match self.random.below(9) {
                0 => Operation::Put { priority, dedup, deadline_ns, wait_ns, payload: &payload },
                1 => Operation::Take { count, wait_ns },
                2 => Operation::Take { count: 3, wait_ns: 1_000_000 },
                3 => Operation::Ack(lease),
                4 => Operation::Nack { lease, delay_ns: wait_ns },
                5 => Operation::Extend(lease),
                6 => Operation::Requeue { item },
                7 => Operation::Handoff { lease, to: HOST.to_owned() },
                _ => Operation::Dead { after: item, count },
            };
            let mut arguments = operation.encode("hostile")?;
            self.damage(&mut arguments);
            let until = Instant::now() + SHORT;
            let _ = queues.link().request(operation.tool(), &arguments, &[], until);
            if self.random.below(4) == 0 {
                self.scribble();
            }
        }
        Ok(())
    }

    /// Follows a log from anywhere, holds back whoever appends to it, and says of what it has read whatever comes to mind.
    fn follow(&mut self) -> Result<(), ClientError> {
        let mut client = self.client("test.hostile.")?;
        let mut link = client.open_link("exchange", LinkOptions { class: self.class() })?;
        let payload = self.bytes(2_000);
        for _ in 0..ROUNDS {
            let payloads = [&payload[..]];
            let records = log::Records::from_payloads(&payloads);
            let (priority, takes_will_back) = (5, false);
            let (records_max, bytes_max) = (self.random.next() as u32, self.random.next() as u32);
            let start = match self.random.below(3) {
                0 => log::Start::First,
                1 => log::Start::At(self.random.next()),
                _ => log::Start::At(self.random.below(50)),
            };
            let durability = log::Durability::Stored;
            let wait_ns = self.random.next();
            let operation = match self.random.below(7) {
                0 => {
                    let options = Some(log::Options { ahead_max: 9, ..log::Options::default() });
                    log::Operation::Open { options, replaces: true }
                }
                1 | 2 => log::Operation::Append(log::Append {
                    durability,
                    priority,
                    takes_will_back,
                    wait_ns,
                    records,
                }),
                3 => log::Operation::Read { start, records_max, bytes_max },
                4 => log::Operation::Trim { below: self.random.below(60) },
                _ => log::Operation::Follow { start, holds_back: true },
            };
            let mut arguments = operation.encode("hostile")?;
            self.damage(&mut arguments);
            let until = Instant::now() + SHORT;
            let _ = link.request(operation.tool(), &arguments, &[], until);
            let _ = link.receiver().try_receive();
            if self.random.below(3) == 0 {
                self.scribble();
            }
        }
        Ok(())
    }

    /// Everything that one side of a link may write.
    fn abuse(&mut self, client: &mut Client, link: &mut Link) {
        for _ in 0..ROUNDS {
            let when = WhenFull::Reject;
            let bytes = self.bytes(40_000);
            match self.random.below(5) {
                0 => {
                    let until = Instant::now() + SHORT;
                    let _ = link.request("echo.echo", &bytes, &[GrantId(7)], until);
                }
                1 => {
                    let meta = self.meta();
                    let _ = link.sender().raw().send(meta, &bytes[..bytes.len().min(48)], when);
                }
                2 => {
                    let mut header = Header::new(Kind::Task);
                    (header.id, header.correlation) = (self.random.next(), self.random.next());
                    let header = Some(&header);
                    let large = Large { header, meta: self.meta(), parts: &[&bytes] };
                    let _ = link.sender().raw().send_large(large, when);
                }
                3 => {
                    if let Some(descriptor) = self.any_descriptor() {
                        let _ = client.grant(link.lane(), descriptor.as_fd());
                    }
                }
                _ => {
                    let _ = link.receiver().try_receive();
                }
            }
            self.scribble();
            if self.random.below(8) == 0 {
                self.ring();
            }
        }
    }

    fn class(&mut self) -> Class {
        [Class::Critical, Class::High, Class::Normal][self.random.below(3) as usize]
    }

    /// Flags and numbers of any value that the library lets through.
    fn meta(&mut self) -> Meta {
        let flags = self.random.next() as u8 & !0x05;
        Meta { flags, priority: 5, correlation: self.random.next() as u32, ..Meta::default() }
    }

    /// Packets of any kind, with any descriptors.
    fn babble(&mut self) -> Result<(), ClientError> {
        for _ in 0..4 {
            let Ok(connection) = Connection::connect(&self.socket) else { return Ok(()) };
            let _ = connection.set_nonblocking(true);
            if self.random.below(4) > 0 {
                let name = format!("test.hostile.{:x}", self.random.next() & 0xFFFF);
                let (version, manifest, token) = (VERSION, manifest(&name), Vec::new());
                let hello = ToRouter::Hello { version, manifest, token }.encode()?;
                let _ = connection.send(&hello, &[]);
            }
            for _ in 0..ROUNDS {
                let mut packet = self.message().encode()?;
                self.damage(&mut packet);
                let descriptors: Vec<OwnedFd> =
                    (0..self.random.below(6)).filter_map(|_| self.any_descriptor()).collect();
                let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                if connection.send(&packet, &borrowed).is_err() {
                    break;
                }
                let _ = connection.receive();
            }
        }
        Ok(())
    }

    fn message(&mut self) -> ToRouter {
        let request = self.random.next() as u32;
        let lane = LaneId(self.random.below(64) as u32);
        let grant = GrantId(self.random.next());
        let word = ["echo", "exchange", HOST, "*", SUBJECT, ""][self.random.below(6) as usize];
        let word = word.to_owned();
        let terms = Terms { ring: Some(request), ..Terms::wanted(self.class()) };
        match self.random.below(13) {
            0 => ToRouter::ListAgents { request, filter: word },
            1 => ToRouter::OpenLink { request, target: word, terms },
            2 => ToRouter::AcceptLink { lane, terms },
            3 => ToRouter::CloseLink { lane, reason: word, why: CloseCause::Quarantined },
            4 => ToRouter::Grant { lane, grant },
            5 => {
                let (policy, terms) = (TopicPolicy::Lossless, TopicTerms::default());
                ToRouter::Publish { request, subject: word, policy, terms }
            }
            6 => ToRouter::Subscribe { request, pattern: word },
            7 => ToRouter::JoinTopic { lane },
            8 => ToRouter::OpenRoute { request, first: lane, terms },
            9 => ToRouter::Status { request },
            10 => ToRouter::Directory { request },
            11 => ToRouter::DropReader {
                lane,
                reader: AgentId(request % 64),
                reason: word,
                why: CloseCause::Wanted,
            },
            _ => ToRouter::Pong { nonce: grant.0 },
        }
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let length = if self.random.below(2) == 0 { 60 } else { max };
        let length = self.random.below(length) as usize;
        (0..length).map(|_| self.random.next() as u8).collect()
    }

    /// Sometimes: some bits are others.
    fn damage(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() || self.random.below(3) > 0 {
            return;
        }
        for _ in 0..=self.random.below(4) {
            let place = self.random.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << self.random.below(8);
        }
    }

    /// Writes over every shared mapping of this process, those that it must not be able to write too.
    fn scribble(&mut self) {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        for line in maps.lines().filter(|line| line.contains("/memfd:")) {
            let mut words = line.split_ascii_whitespace();
            let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
            let Some((start, end)) = range.split_once('-') else { continue };
            let (Ok(start), Ok(end)) =
                (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
            else {
                continue;
            };
            let is_own = rights.starts_with("rw");
            for _ in 0..WORDS {
                // The beginning is what is looked at most.
                let size = if self.random.below(2) == 0 { 4_096 + 640 } else { end - start };
                let at = start + self.random.below(size.min(end - start)) / 8 * 8;
                let word = self.word(at);
                let written = self.memory.write_at(&word.to_le_bytes(), at).is_ok();
                if written && !is_own {
                    let breach = PathBuf::from(std::env::var_os(BREACHES).unwrap());
                    let _ = std::fs::write(breach.join(format!("{at:x}")), line);
                }
                if !is_own {
                    break;
                }
            }
        }
    }

    /// Something that might be believed, or anything.
    fn word(&mut self, at: u64) -> u64 {
        let mut before = [0; 8];
        let _ = self.memory.read_at(&mut before, at);
        let before = u64::from_le_bytes(before);
        match self.random.below(5) {
            0 => before.wrapping_add(self.random.below(5)),
            1 => before.wrapping_sub(self.random.below(2_000)),
            2 => before ^ 1 << self.random.below(64),
            3 => u64::MAX - self.random.below(3),
            _ => self.random.next(),
        }
    }

    /// Writes into, shuts down and blocks whatever sockets it has: bells of others, its own, its connections.
    fn ring(&mut self) {
        for socket in self.descriptors("socket:") {
            let bytes = self.random.next().to_le_bytes();
            match self.random.below(6) {
                0 => {
                    let _ = rustix::net::shutdown(&socket, Shutdown::Both);
                }
                1 => {
                    let _ = rustix::io::ioctl_fionbio(&socket, false);
                }
                _ => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    while rustix::net::send(&socket, &bytes, flags).is_ok() {
                        if self.random.below(3) == 0 {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn any_descriptor(&mut self) -> Option<OwnedFd> {
        let kind = ["/memfd:", "socket:", "/dev/", "anon_inode:"][self.random.below(4) as usize];
        let mut found = self.descriptors(kind);
        (!found.is_empty()).then(|| {
            let place = self.random.below(found.len() as u64) as usize;
            found.swap_remove(place)
        })
    }

    /// Copies of its own descriptors of some kind.
    fn descriptors(&self, kind: &str) -> Vec<OwnedFd> {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with(kind))
        });
        let numbers = ours.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers
            .filter_map(|number| pidfd_getfd(&self.own, number, PidfdGetfdFlags::empty()).ok())
            .collect()
    }
}
