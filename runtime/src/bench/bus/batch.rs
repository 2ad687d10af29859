//! What it takes to hand a large payload over: lent, the same for a KiB and for a GiB; frozen, in proportion to the size.
//!
//! Two threads of one process, pinned to two processors where there are two. Each has its own mappings of the segments and
//! its own end of lane and socket, as two processes have; they share the clock, so one way is measured as it is and not as
//! half of a round trip. Around a loan both spin; whoever waits for a frozen payload sleeps on its socket, and being woken is
//! part of the time. Nobody touches the payload while the time runs: it runs from just before the loan is lent (or the draft
//! frozen) until the other side has a checked handle. The pool is allocated, mapped and checked before. The other side gives
//! up its handle before it tells that it had it, so that unmapping one payload is not counted for the next.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hw::affinity;
use ipc::batch::{Borrower, Draft, Frozen, Pool};
use ipc::header::AgentId;
use ipc::lane::{LaneOptions, Receiver, Sender, WhenFull};
use ipc::ring::Meta;
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use ipc::wait::Spin;
use serde_json::{Value, json};

use super::super::figures::{Figure, at};
use super::super::median;
use super::{Context, Part};

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;
/// The pool, which the largest loan fills.
const POOL_BYTES: usize = 1_024 * MIB;
/// What is lent, in turn.
const LENT_BYTES: [usize; 2] = [KIB, POOL_BYTES];
/// What is frozen, in turn.
const FROZEN_BYTES: [usize; 2] = [MIB, 64 * MIB];
/// Loans of each size in one round; the first ones are not counted.
const LOANS: usize = 4_000;
/// Frozen payloads of each size in one round; the first ones are not counted.
const FREEZES: usize = 20;
/// What has to be available: the pool, one frozen payload with its draft, and room for everybody else.
const AVAILABLE_BYTES_MIN: u64 = 2 * POOL_BYTES as u64;
/// What the report has of this part.
pub(super) const FIELDS: &[&str] =
    &["batch.lent_1kib_ns", "batch.lent_1gib_ns", "batch.frozen_ns_per_mib"];
/// One in so many is warming up.
const WARM_UP_SHARE: usize = 10;
/// Ends a measurement whose other side has failed.
const HANG: Duration = Duration::from_secs(60);
const READER: AgentId = AgentId(2);

/// When the other side had its handle, as the two threads tell each other.
struct Arrivals {
    began: Instant,
    /// Nanoseconds since then; 0 while nothing has arrived.
    arrived_ns: AtomicU64,
    has_failed: AtomicBool,
}

/// The part. The memory is taken for each round anew and is free in between.
pub(super) struct Batch {
    cpus: Option<[usize; 2]>,
}

impl Batch {
    pub(super) fn start(context: &Context) -> anyhow::Result<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib: u64 = available
            .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
            .context("the machine does not say how much memory is available")?;
        ensure!(
            kib * KIB as u64 >= AVAILABLE_BYTES_MIN,
            "needs 2 GiB of memory, {kib} KiB are there"
        );
        Ok(Self { cpus: context.cpus.map(|(first, second)| [first, second]) })
    }
}

impl Part for Batch {
    fn round(&mut self, _messages: u64) -> anyhow::Result<Vec<Figure>> {
        let [small, large] = lent(self.cpus)?;
        let [one, many] = frozen(self.cpus)?;
        let mib = (FROZEN_BYTES[1] / MIB) as f64;
        let figures = [
            ("batch.lent_1kib_ns", small),
            ("batch.lent_1gib_ns", large),
            ("batch.frozen_1mib_ns", one),
            ("batch.frozen_ns_per_mib", many.map(|ns| ns / mib)),
        ];
        Ok(figures.into_iter().filter_map(|(path, ns)| Some((path.to_owned(), ns?))).collect())
    }

    fn describe(&self, report: &mut Value) {
        at(report, "batch")["sides"] = json!("two threads, each with mappings of its own");
    }
}

impl Arrivals {
    fn new() -> Self {
        let (arrived_ns, has_failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: Instant::now(), arrived_ns, has_failed }
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Partner: the Acquire load in `wait_for_one`.
    fn tell(&self, arrived_ns: u64) {
        self.arrived_ns.store(arrived_ns, Ordering::Release);
    }

    /// The time from `sent_ns` to the arrival.
    fn wait_for_one(&self, sent_ns: u64) -> anyhow::Result<f64> {
        loop {
            // Partner: the Release store in `tell`.
            let arrived_ns = self.arrived_ns.load(Ordering::Acquire);
            if arrived_ns > 0 {
                self.arrived_ns.store(0, Ordering::Relaxed);
                return Ok(arrived_ns.saturating_sub(sent_ns) as f64);
            }
            ensure!(!self.has_failed.load(Ordering::Relaxed), "the other side has failed");
            std::hint::spin_loop();
        }
    }

    /// Runs both sides, each on its processor.
    fn run(
        &self,
        cpus: Option<[usize; 2]>,
        give: impl FnOnce() -> anyhow::Result<Times> + Send,
        take: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<[Option<f64>; 2]> {
        let pin = |side: usize| match cpus {
            Some(cpus) if !affinity::pin_polling_thread(cpus[side]) => {
                bail!("cannot pin to CPU {}", cpus[side])
            }
            _ => Ok(()),
        };
        let times = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let result = pin(1).and_then(|()| take());
                self.has_failed.store(result.is_err(), Ordering::Relaxed);
                result
            });
            let giving = scope.spawn(|| pin(0).and_then(|()| give()));
            let given = giving.join();
            let taken = taking.join();
            taken.map_err(|_| anyhow::anyhow!("the taking side panicked"))??;
            given.map_err(|_| anyhow::anyhow!("the giving side panicked"))?
        })?;
        Ok(times.map(|times| {
            let warm_up = times.len() / WARM_UP_SHARE;
            median(times.into_iter().skip(warm_up).collect())
        }))
    }
}

/// Nanoseconds of each hand-over, for each of two sizes.
type Times = [Vec<f64>; 2];

fn copy(owner: &impl AsFd) -> std::io::Result<OwnedFd> {
    owner.as_fd().try_clone_to_owned()
}

fn lent(cpus: Option<[usize; 2]>) -> anyhow::Result<[Option<f64>; 2]> {
    let control = ControlWriter::create()?;
    let mut sender = Sender::for_link(LaneOptions::default())?;
    let cursor = Receiver::new_cursor(Spin::Forever)?;
    sender.attach(READER, copy(&cursor)?, None)?;
    let slots = sender.slots_fd().try_clone_to_owned()?;
    let region = sender.region_fd().try_clone_to_owned()?;
    let mut receiver = Receiver::for_link(AgentId(1), slots, region, copy(&control)?, cursor)?;
    let mut pool = Pool::create(1, POOL_BYTES).context("no memory for the pool")?;
    pool.set_spin(Spin::Forever);
    let mut borrower = Borrower::open(copy(&pool)?, POOL_BYTES)?;
    pool.attach(READER, borrower.returns_fd().try_clone_to_owned()?, None)?;

    let arrivals = Arrivals::new();
    let give = || {
        let mut times = Times::default();
        for _ in 0..LOANS {
            for (bytes, times) in LENT_BYTES.into_iter().zip(&mut times) {
                let loan = pool.loan(bytes, WhenFull::WaitUntil(Instant::now() + HANG))?;
                let sent_ns = arrivals.now_ns();
                let carry = |line: &[u8]| sender.send(Meta::default(), line, WhenFull::Reject);
                pool.lend(loan, &[READER], carry).map_err(|unsent| unsent.error)?;
                times.push(arrivals.wait_for_one(sent_ns)?);
            }
        }
        Ok(times)
    };
    let take = || {
        for _ in 0..2 * LOANS {
            let message = receiver.receive(Some(Instant::now() + HANG))?;
            let lent = borrower.take(message.payload)?;
            let arrived_ns = arrivals.now_ns();
            drop(lent);
            arrivals.tell(arrived_ns);
        }
        Ok(())
    };
    arrivals.run(cpus, give, take)
}

fn frozen(cpus: Option<[usize; 2]>) -> anyhow::Result<[Option<f64>; 2]> {
    let (here, there) = Connection::pair()?;
    let arrivals = Arrivals::new();
    // Moved, so that a side that fails closes its end, and the other one does not wait for ever.
    let arrivals_of_giver = &arrivals;
    let give = move || {
        let arrivals = arrivals_of_giver;
        let mut times = Times::default();
        for _ in 0..FREEZES {
            for (bytes, times) in FROZEN_BYTES.into_iter().zip(&mut times) {
                let mut draft = Draft::create(bytes)?;
                draft.bytes_mut().fill(1);
                let sent_ns = arrivals.now_ns();
                let sealed = draft.freeze()?;
                here.send(b"frozen", &[sealed.as_fd()])?;
                times.push(arrivals.wait_for_one(sent_ns)?);
            }
        }
        Ok(times)
    };
    let take = || {
        for _ in 0..2 * FREEZES {
            let [descriptor] = super::pair::exactly(there.receive()?.descriptors)?;
            let frozen = Frozen::open(descriptor, FROZEN_BYTES[1])?;
            let arrived_ns = arrivals.now_ns();
            drop(frozen);
            arrivals.tell(arrived_ns);
        }
        Ok(())
    };
    arrivals.run(cpus, give, take)
}
