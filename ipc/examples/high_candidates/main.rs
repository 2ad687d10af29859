//! Which mechanism of io_uring carries 48 bytes to another process soonest? The measurement behind class HIGH.
//!
//! Not a test and not part of the bus: bare loops, without checks, between two pinned processes of this program. One way is
//! half of a round trip. `cargo run --release -p ipc --example high_candidates [messages]` prints one line per candidate.
#![allow(
    unsafe_code,
    reason = "bare loops over rings and shared memory, to know what the machine can do"
)]
#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use ipc::socket::Connection;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

mod others;

use others::{Futex, RingSocket};

const PAGE: usize = 4_096;
const PAYLOAD_WORDS: usize = 6;
const PACKET_BYTES: usize = 64;

/// One direction of one mechanism.
trait Way {
    fn send(&mut self, number: u64) -> Result<()>;
    fn receive(&mut self, number: u64) -> Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Polled,
    Blocked,
}

#[derive(Clone, Copy, Debug)]
enum Candidate {
    Stamp,
    Socket(Wait),
    /// `fixed`: the sender enters its ring by a registered number (a target cannot be registered: EBADF). `skip`: no completion for the sender. `thread`: SQPOLL.
    Message {
        wait: Wait,
        fixed: bool,
        skip: bool,
        thread: bool,
        defer: bool,
    },
    RegisterMessage(Wait),
    RingSocket {
        wait: Wait,
        thread: bool,
        defer: bool,
    },
    Futex,
}

fn candidates() -> Vec<(&'static str, Candidate)> {
    use Wait::{Blocked, Polled};
    let message =
        |wait, fixed, skip, thread, defer| Candidate::Message { wait, fixed, skip, thread, defer };
    let socket = |wait, thread, defer| Candidate::RingSocket { wait, thread, defer };
    vec![
        ("stamped slot alone (no ring)", Candidate::Stamp),
        ("socket, send and recv (no ring), polled", Candidate::Socket(Polled)),
        ("socket, send and recv (no ring), blocked", Candidate::Socket(Blocked)),
        (
            "a MSG_RING, polled, with the sender's completion",
            message(Polled, false, false, false, false),
        ),
        ("a MSG_RING, polled, without it", message(Polled, false, true, false, false)),
        ("a MSG_RING, polled, registered ring", message(Polled, true, true, false, false)),
        (
            "a MSG_RING, polled, target with DEFER_TASKRUN",
            message(Polled, false, true, false, true),
        ),
        ("a MSG_RING, polled, sender with SQPOLL", message(Polled, false, true, true, false)),
        ("a MSG_RING, blocked", message(Blocked, false, true, false, false)),
        (
            "a MSG_RING, blocked, target with DEFER_TASKRUN",
            message(Blocked, false, true, false, true),
        ),
        ("a' MSG_RING by io_uring_register, polled", Candidate::RegisterMessage(Polled)),
        ("a' MSG_RING by io_uring_register, blocked", Candidate::RegisterMessage(Blocked)),
        ("b socket, multishot receive, polled", socket(Polled, false, false)),
        ("b socket, multishot receive, polled, DEFER_TASKRUN", socket(Polled, false, true)),
        ("b socket, multishot receive, blocked", socket(Blocked, false, false)),
        ("b socket, multishot receive, blocked, DEFER_TASKRUN", socket(Blocked, false, true)),
        ("c socket, multishot receive, polled, SQPOLL", socket(Polled, true, false)),
        ("d slot, futex operations of the ring, blocked", Candidate::Futex),
    ]
}

/// Memory that both processes write.
#[derive(Clone, Copy)]
struct Shared(*mut AtomicU64);

impl Shared {
    fn map(file: &OwnedFd) -> Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the address.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), 2 * PAGE, protection, flags, file, 0)
        }?;
        Ok(Self(start.cast()))
    }

    /// The eight words of one direction; each has a page of its own.
    fn words(self, direction: usize) -> &'static [AtomicU64; 8] {
        // SAFETY: two pages were mapped.
        let start = unsafe { self.0.add(direction * PAGE / 8) };
        // SAFETY: never unmapped; any bytes are a value.
        unsafe { &*start.cast() }
    }
}

struct Line {
    own: &'static [AtomicU64; 8],
    other: &'static [AtomicU64; 8],
}

impl Line {
    fn write(&self, number: u64) {
        for word in &self.own[1..=PAYLOAD_WORDS] {
            word.store(number, Ordering::Relaxed);
        }
        self.own[0].store(number, Ordering::Release);
    }

    /// Whether the line of this number is there; its payload is read.
    fn read(&self, number: u64) -> bool {
        self.other[0].load(Ordering::Acquire) == number
            && self.other[1..=PAYLOAD_WORDS]
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == number)
    }
}

struct Stamp(Line);

impl Way for Stamp {
    fn send(&mut self, number: u64) -> Result<()> {
        self.0.write(number);
        Ok(())
    }

    fn receive(&mut self, number: u64) -> Result<()> {
        while !self.0.read(number) {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

struct Socket {
    socket: OwnedFd,
    wait: Wait,
}

impl Way for Socket {
    fn send(&mut self, number: u64) -> Result<()> {
        rustix::net::send(&self.socket, &[number as u8; PACKET_BYTES], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn receive(&mut self, number: u64) -> Result<()> {
        let mut bytes = [0u8; PACKET_BYTES];
        let flags =
            if self.wait == Wait::Polled { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        while let Err(errno) = rustix::net::recv(&self.socket, &mut bytes, flags) {
            ensure!(errno == rustix::io::Errno::AGAIN, "recv: {errno}");
        }
        ensure!(bytes[PACKET_BYTES - 1] == number as u8, "another message");
        Ok(())
    }
}

struct Message {
    line: Line,
    /// Shared with the peer, which posts into it.
    inbox: IoUring,
    /// Private; messages are submitted here.
    outbox: IoUring,
    target: OwnedFd,
    wait: Wait,
    fixed: bool,
    skip: bool,
    thread: bool,
    defer: bool,
    register: bool,
    registered_ring: u32,
}

/// `IORING_REGISTER_SEND_MSG_RING`, Linux 6.13.
const REGISTER_SEND_MSG_RING: libc::c_uint = 31;
const ENTER_REGISTERED_RING: libc::c_uint = 1 << 4;

impl Message {
    fn new(side: &Side, candidate: Candidate) -> Result<Self> {
        let (wait, fixed, skip, thread, defer, register) = match candidate {
            Candidate::Message { wait, fixed, skip, thread, defer } => {
                (wait, fixed, skip, thread, defer, false)
            }
            Candidate::RegisterMessage(wait) => (wait, false, true, false, false, true),
            _ => bail!("another candidate"),
        };
        let mut builder = IoUring::builder();
        builder.setup_cqsize(64);
        if defer {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        let inbox = builder.build(8).context("ring")?;
        let mut builder = IoUring::builder();
        if thread {
            builder.setup_sqpoll(1_000);
        }
        let outbox = builder.build(8).context("ring")?;
        // What travels between the two: process id and number of the descriptor.
        let name = [std::process::id(), inbox.as_raw_fd() as u32].map(u32::to_le_bytes);
        side.connection.send(name.as_flattened(), &[])?;
        let theirs = side.connection.receive()?.bytes;
        let number = |at: usize| {
            i32::from_le_bytes([theirs[at], theirs[at + 1], theirs[at + 2], theirs[at + 3]])
        };
        let pid = Pid::from_raw(number(0)).context("pid")?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let target = rustix::process::pidfd_getfd(&process, number(4), PidfdGetfdFlags::empty())?;
        let mut registered_ring = 0;
        if fixed {
            registered_ring = register_ring(outbox.as_raw_fd())?;
        }
        let line = side.line();
        Ok(Self {
            line,
            inbox,
            outbox,
            target,
            wait,
            fixed,
            skip,
            thread,
            defer,
            register,
            registered_ring,
        })
    }
}

/// The number under which this thread enters its ring without a look at the table of descriptors.
fn register_ring(ring: RawFd) -> Result<u32> {
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let mut update = Update { offset: u32::MAX, reserved: 0, data: ring as u64 };
    // SAFETY: operation 20 (`IORING_REGISTER_RING_FDS`) reads and writes one such structure.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, 20, &raw mut update, 1) };
    ensure!(result == 1, "register: {}", io::Error::last_os_error());
    Ok(update.offset)
}

impl Way for Message {
    fn send(&mut self, number: u64) -> Result<()> {
        self.line.write(number);
        let entry = opcode::MsgRingData::new(Fd(self.target.as_raw_fd()), 0, number, None).build();
        let mut flags = squeue::Flags::empty();
        flags.set(squeue::Flags::SKIP_SUCCESS, self.skip && !self.register);
        let entry = entry.flags(flags);
        if self.register {
            // SAFETY: one entry of 64 bytes, read by the call.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    -1,
                    REGISTER_SEND_MSG_RING,
                    &raw const entry,
                    1,
                )
            };
            ensure!(result == 0, "register: {}", io::Error::last_os_error());
            return Ok(());
        }
        let mut queue = self.outbox.submission();
        // SAFETY: the entry names no memory.
        while unsafe { queue.push(&entry) }.is_err() {
            queue.sync();
        }
        drop(queue);
        if self.fixed {
            // SAFETY: no pointers; the number was registered by this thread.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_io_uring_enter,
                    self.registered_ring,
                    1,
                    0,
                    ENTER_REGISTERED_RING,
                    0,
                    0,
                )
            };
            ensure!(result == 1, "enter: {}", io::Error::last_os_error());
        } else {
            self.outbox.submit()?;
        }
        if !self.thread || !self.skip {
            for done in self.outbox.completion() {
                ensure!(
                    done.result() >= 0,
                    "MSG_RING: {}",
                    io::Error::from_raw_os_error(-done.result())
                );
            }
        }
        Ok(())
    }

    fn receive(&mut self, number: u64) -> Result<()> {
        loop {
            if self.inbox.completion().next().is_some() {
                ensure!(self.line.read(number), "another message");
                return Ok(());
            }
            match self.wait {
                Wait::Blocked => drop(self.inbox.submit_and_wait(1)?),
                Wait::Polled if self.defer => drop(enter_without_waiting(&self.inbox)?),
                Wait::Polled => std::hint::spin_loop(),
            }
        }
    }
}

/// Lets the kernel do what it put off for this thread.
fn enter_without_waiting(ring: &IoUring) -> io::Result<usize> {
    const GETEVENTS: u32 = 1;
    // SAFETY: no pointers.
    unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) }
}

/// What one process has for all candidates.
struct Side {
    connection: Connection,
    memory: Shared,
    is_first: bool,
}

impl Side {
    fn line(&self) -> Line {
        let (own, other) = if self.is_first { (0, 1) } else { (1, 0) };
        Line { own: self.memory.words(own), other: self.memory.words(other) }
    }

    fn way(&self, candidate: Candidate) -> Result<Box<dyn Way>> {
        for word in self.memory.words(usize::from(!self.is_first)) {
            word.store(0, Ordering::Relaxed);
        }
        self.meet()?;
        Ok(match candidate {
            Candidate::Stamp => Box::new(Stamp(self.line())),
            Candidate::Socket(wait) => Box::new(Socket { socket: self.socket()?, wait }),
            Candidate::Message { .. } | Candidate::RegisterMessage(_) => {
                Box::new(Message::new(self, candidate)?)
            }
            Candidate::RingSocket { wait, thread, defer } => {
                Box::new(RingSocket::new(self.socket()?, wait, thread, defer)?)
            }
            Candidate::Futex => Box::new(Futex::new(self.line())?),
        })
    }

    /// One end of a new pair of sockets; the other process has the other one.
    fn socket(&self) -> Result<OwnedFd> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        if self.is_first {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            self.connection.send(b"socket", &[theirs.as_fd()])?;
            return Ok(ours);
        }
        self.connection.receive()?.descriptors.pop().context("no socket")
    }

    /// Both are here.
    fn meet(&self) -> Result<()> {
        self.connection.send(b"here", &[])?;
        ensure!(self.connection.receive()?.bytes == b"here", "out of step");
        Ok(())
    }
}

fn pin(last: bool) -> Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut cpus = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let cpu = if last { cpus.next_back() } else { cpus.next() }.context("no CPU")?;
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Half of each round trip in nanoseconds, sorted.
fn measure(way: &mut dyn Way, messages: u64, is_first: bool) -> Result<Vec<u64>> {
    let mut times = Vec::with_capacity(messages as usize);
    for number in 1..=messages {
        if is_first {
            let began = Instant::now();
            way.send(number)?;
            way.receive(number)?;
            times.push(began.elapsed().as_nanos() as u64 / 2);
        } else {
            way.receive(number)?;
            way.send(number)?;
        }
    }
    times.sort_unstable();
    Ok(times)
}

fn run(side: &Side, messages: u64) -> Result<()> {
    pin(!side.is_first)?;
    for (name, candidate) in candidates() {
        // A wake-up across processors takes long; a kernel thread that shares its processor with a loop, a tick.
        let divisor = if name.contains("SQPOLL") {
            500
        } else if name.contains("blocked") {
            10
        } else {
            1
        };
        let messages = messages / divisor;
        let mut way = side.way(candidate).with_context(|| name)?;
        side.meet()?;
        let times = measure(&mut *way, messages, side.is_first).with_context(|| name)?;
        if side.is_first {
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!("{name:<52} {:>7} {:>7} {:>7}", at(0.5), at(0.99), at(0.999));
        }
        side.meet()?;
    }
    Ok(())
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("peer") {
        let messages = arguments.next().context("how many?")?.parse()?;
        let connection = Connection::from(io::stdin().as_fd().try_clone_to_owned()?);
        let file = connection.receive()?.descriptors.pop().context("no memory")?;
        return run(&Side { connection, memory: Shared::map(&file)?, is_first: false }, messages);
    }
    let messages: u64 = first.map_or(Ok(100_000), |text| text.parse())?;
    let (connection, theirs) = Connection::pair()?;
    let file = rustix::fs::memfd_create("line", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, 2 * PAGE as u64)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["peer", &messages.to_string()]);
    let _peer = Peer(command.stdin(Stdio::from(theirs.as_fd().try_clone_to_owned()?)).spawn()?);
    drop(theirs);
    connection.send(b"memory", &[file.as_fd()])?;
    println!("{:<52} {:>7} {:>7} {:>7}", "one way, 48 B, ns", "p50", "p99", "p99.9");
    run(&Side { connection, memory: Shared::map(&file)?, is_first: true }, messages)
}
