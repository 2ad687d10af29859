//! `bolide bench log`: an append through the exchange until it is acknowledged, stored and synced, beside the least that the
//! same way can cost.
//!
//! The limit is a loop of two threads over two lanes with what no log of records can do without: the bytes of the same request,
//! whose payload goes into a record with a position, the time of day and two checksums, one `pwrite` of it into a file whose space is
//! taken (and `fdatasync`), and the bytes of the same answer. Nothing else is on the way: the request is put together once, nobody looks
//! up or allocates anything, no message carries a time or is counted, no name is sought and no exchange serves others in between.
//! Both are measured in turn in the same run, several rounds, and the median round counts. The files lie in the temporary
//! directory; where that is in memory, syncing costs nothing and says nothing.
//!
//! Not here: what the log itself costs without the way to it (`disk`).

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hw::affinity;
use hw::root::Root;
use ipc::clock::Clock;
use ipc::exchange::log::{Append, Logs, Operation, Options, Records};
use ipc::header::{AgentId, Header, Kind};
use ipc::lane::{LaneOptions, Large, Receiver, Sender, WhenFull};
use ipc::ring::Meta;
use ipc::segment::ControlWriter;
use ipc::wait::Spin;
use rustix::fs::FallocateFlags;
use serde_json::{Value, json};

use super::Part;
use crate::bench::figures::{Figure, at};
use crate::bench::scratch::ScratchDaemon;
use crate::bench::{deadline, median};

mod disk;

/// For so many messages between two spinning processes one stored record, and one synced.
const STORED_DIVISOR: u64 = 10;
const SYNCED_DIVISOR: u64 = 2_000;
/// What the report of `bolide bench bus` has of this part.
pub(super) const FIELDS: &[&str] = &[
    "classes.low.p50_ns",
    "classes.low.p99_ns",
    "classes.low.p999_ns",
    "classes.low.limit_p50_ns",
    "low.synced_p50_ns",
];

/// The part of `bolide bench bus`.
pub(super) struct Low;

impl Part for Low {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let count = |divisor: u64| usize::try_from(messages.div_ceil(divisor));
        let report = measure(1, count(STORED_DIVISOR)?, count(SYNCED_DIVISOR)?)?;
        let LogReport { stored, synced } = report;
        let figure = |name: &str, value: f64| (name.to_owned(), value);
        Ok(vec![
            figure("classes.low.p50_ns", stored.own.p50),
            figure("classes.low.p99_ns", stored.own.p99),
            figure("classes.low.p999_ns", stored.own.p999),
            figure("classes.low.limit_p50_ns", stored.limit.p50),
            figure("low.synced_p50_ns", synced.own.p50),
            figure("low.synced_p99_ns", synced.own.p99),
            figure("low.synced_limit_p50_ns", synced.limit.p50),
        ])
    }

    fn describe(&self, report: &mut Value) {
        let mechanism = "an append until it is stored, there and back";
        at(report, "classes.low")["mechanism"] = json!(mechanism);
    }
}

/// `bolide bench log`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Stored records in each round
    #[arg(long, default_value_t = 40_000)]
    stored: usize,
    /// Synced records in each round
    #[arg(long, default_value_t = 300)]
    synced: usize,
    /// Rounds; the median one counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogReport {
    pub(crate) stored: Beside,
    pub(crate) synced: Beside,
}

/// One acknowledgement beside its limit, each a round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    pub(crate) own: Percentiles,
    pub(crate) limit: Percentiles,
}

/// Nanoseconds; the median of all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// How a record is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stored,
    Synced,
}

/// Percentiles of each round.
#[derive(Default)]
struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
}

/// Both ends of two lanes between two threads.
struct Ends {
    sender: Sender,
    receiver: Receiver,
}

/// Removed when the measurement ends, however it ends.
struct Home(PathBuf);

/// Bytes of payload, as in the promise.
const PAYLOAD_BYTES: usize = 100;
/// Such a record in the log, with a sender's name of eight to twelve bytes.
const RECORD_BYTES: usize = 176;
/// Name and payload of it, and what aligns the next one.
const BODY_BYTES: usize = RECORD_BYTES - 64;
/// The name in a bare record: as many bytes as that of the client which is measured.
const NAME: &[u8] = b"measured";
/// The largest latency that is told apart, in nanoseconds; a slower disk shows as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Bytes of the answer to an append.
const ANSWER_BYTES: usize = 13;
/// The log of the measurement.
const LOG: &str = "bench";

/// Everything, for `bolide bench log`; some ten seconds.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let Arguments { stored, synced, rounds, .. } = *arguments;
    let report = measure(rounds.max(1), stored, synced)?;
    let disk = disk::measure(rounds.max(1), stored, synced)?;
    Ok(json!({
        "schema": "bolide.bench.log/1",
        "payload_bytes": PAYLOAD_BYTES,
        "rounds": rounds.max(1),
        "stored": report.stored.json(),
        "synced": report.synced.json(),
        "disk": disk,
    }))
}

/// Appends through an exchange of its own, beside their limits. So many records in each round.
pub(crate) fn measure(rounds: usize, stored: usize, synced: usize) -> anyhow::Result<LogReport> {
    // First of all: what is started after a thread was pinned is pinned with it.
    let daemon = ScratchDaemon::start(&[crate::exchange::NAME], &[])?;
    let home = Home::new("limit")?;
    let allowed: Vec<usize> = affinity::allowed(&Root::machine()).iter().collect();
    let cpus = (allowed.len() > 1).then(|| (allowed[0], allowed[allowed.len() - 1]));
    // A thread of its own, whose pin goes with it.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| beside(&daemon, &home.0, rounds, (stored, synced), cpus));
        measured.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })
}

fn beside(
    daemon: &ScratchDaemon,
    home: &Path,
    rounds: usize,
    (stored, synced): (usize, usize),
    cpus: Option<(usize, usize)>,
) -> anyhow::Result<LogReport> {
    pin(cpus.map(|cpus| cpus.0))?;
    let mut client = daemon.client("measured")?;
    let mut logs = Logs::open(&mut client)?;
    logs.make(LOG, Options::default(), deadline())?;
    let (mut own, mut limit): ([Rounds; 2], [Rounds; 2]) = Default::default();
    for round in 0..=rounds {
        for (index, (way, records)) in
            [(Way::Stored, stored), (Way::Synced, synced)].into_iter().enumerate()
        {
            let bare = bare(home, way, records, cpus.map(|cpus| cpus.1))?;
            let appended = append(&mut logs, way, records)?;
            // The first round warms up.
            if round > 0 {
                limit[index].add(&bare);
                own[index].add(&appended);
            }
        }
    }
    client.bye()?;
    let [own_stored, own_synced] = own.map(Rounds::report);
    let [limit_stored, limit_synced] = limit.map(Rounds::report);
    Ok(LogReport {
        stored: Beside { own: own_stored?, limit: limit_stored? },
        synced: Beside { own: own_synced?, limit: limit_synced? },
    })
}

fn append(logs: &mut Logs, way: Way, records: usize) -> anyhow::Result<Histogram<u64>> {
    let (payload, mut histogram) = ([7; PAYLOAD_BYTES], histogram()?);
    for _ in 0..records {
        let until = deadline();
        let start = Instant::now();
        match way {
            Way::Stored => logs.append(LOG, &payload, until)?,
            Way::Synced => logs.append_synced(LOG, &payload, until)?,
        };
        note(&mut histogram, start);
    }
    Ok(histogram)
}

/// The limit: a request over a lane, a bare write by the thread that takes it, an answer over another lane.
fn bare(
    home: &Path,
    way: Way,
    records: usize,
    cpu: Option<usize>,
) -> anyhow::Result<Histogram<u64>> {
    let file = file(home, records)?;
    let control = ControlWriter::create()?;
    let (mut asking, mut answering) = Ends::pair(&control)?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> anyhow::Result<()> {
            pin(cpu)?;
            let clock = Clock::new();
            for index in 0..records {
                let request = answering.receiver.receive(Some(deadline()))?;
                let record = bare_record(request.payload, index as u64, clock.now_ns());
                file.write_all_at(&record, (index * RECORD_BYTES) as u64)?;
                if way == Way::Synced {
                    file.sync_data()?;
                }
                answering.send(Kind::Result, &[0; ANSWER_BYTES])?;
            }
            Ok(())
        });
        let payloads = [&[7; PAYLOAD_BYTES][..]];
        let request = Operation::Append(Append {
            durability: ipc::exchange::log::Durability::Stored,
            priority: 5,
            takes_will_back: false,
            wait_ns: 0,
            records: Records::from_payloads(&payloads),
        });
        let request = [&[10, 0][..], b"log.append", &request.encode(LOG)?].concat();
        let mut histogram = histogram()?;
        for _ in 0..records {
            let until = deadline();
            let start = Instant::now();
            asking.send(Kind::Task, &request)?;
            let answer = asking.receiver.receive(Some(until))?;
            ensure!(answer.payload.len() == ANSWER_BYTES, "an answer of another length");
            note(&mut histogram, start);
        }
        writer.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        Ok(histogram)
    })
}

/// A record of what a request carries, laid out as in a log: 64 bytes before a name and the payload, with checksums of both.
fn bare_record(request: &[u8], position: u64, time_ns: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let (header, body) = record.split_at_mut(RECORD_BYTES - BODY_BYTES);
    let payload = &request[request.len().saturating_sub(PAYLOAD_BYTES)..];
    body[..NAME.len()].copy_from_slice(NAME);
    body[NAME.len()..][..payload.len()].copy_from_slice(payload);
    header[0..4].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
    header[8..16].copy_from_slice(&position.to_le_bytes());
    header[16..24].copy_from_slice(&time_ns.to_le_bytes());
    header[52..56].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let checksum = crc32c::crc32c(&header[8..]);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    record
}

impl Ends {
    fn pair(control: &ControlWriter) -> anyhow::Result<(Self, Self)> {
        let (there, back) = (Self::lane(control)?, Self::lane(control)?);
        let one = Self { sender: there.0, receiver: back.1 };
        Ok((one, Self { sender: back.0, receiver: there.1 }))
    }

    fn lane(control: &ControlWriter) -> anyhow::Result<(Sender, Receiver)> {
        let page = || control.as_fd().try_clone_to_owned();
        let mut sender = Sender::for_link(LaneOptions::default())?;
        sender.set_control(page()?)?;
        let cursor = Receiver::new_cursor(Spin::Forever)?;
        sender.attach(AgentId(2), cursor.as_fd().try_clone_to_owned()?, None)?;
        let slots = sender.slots_fd().try_clone_to_owned()?;
        let region = sender.region_fd().try_clone_to_owned()?;
        let receiver = Receiver::for_link(AgentId(1), slots, region, page()?, cursor)?;
        Ok((sender, receiver))
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) -> anyhow::Result<()> {
        let header = Header::new(kind);
        let message = Large { header: Some(&header), meta: Meta::default(), parts: &[payload] };
        Ok(self.sender.send_large(message, WhenFull::Reject)?)
    }
}

impl Beside {
    fn json(&self) -> Value {
        let of = |percentiles: &Percentiles| {
            let Percentiles { p50, p99, p999 } = percentiles;
            json!({ "p50_ns": p50, "p99_ns": p99, "p999_ns": p999 })
        };
        let mut value = of(&self.own);
        value["limit"] = of(&self.limit);
        value["limit_p50_ns"] = json!(self.limit.p50);
        value["p50_to_limit"] = json!((self.own.p50 / self.limit.p50 * 100.0).round() / 100.0);
        value["p99_to_limit"] = json!((self.own.p99 / self.limit.p99 * 100.0).round() / 100.0);
        value
    }
}

impl Rounds {
    fn add(&mut self, histogram: &Histogram<u64>) {
        self.p50.push(histogram.value_at_quantile(0.5) as f64);
        self.p99.push(histogram.value_at_quantile(0.99) as f64);
        self.p999.push(histogram.value_at_quantile(0.999) as f64);
    }

    fn report(self) -> anyhow::Result<Percentiles> {
        let [p50, p99, p999] = [self.p50, self.p99, self.p999]
            .map(|rounds| median(rounds).context("nothing was measured"));
        Ok(Percentiles { p50: p50?, p99: p99?, p999: p999? })
    }
}

impl Home {
    fn new(name: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("bolide-bench-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).context("cannot make a directory for the measurement")?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    if let Some(cpu) = cpu {
        ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
    }
    Ok(())
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LATENCY_NS_MAX, 3)?)
}

fn note(histogram: &mut Histogram<u64>, since: Instant) {
    histogram.saturating_record(since.elapsed().as_nanos() as u64);
}

/// A file whose space is taken ahead, as that of a segment.
fn file(home: &Path, records: usize) -> anyhow::Result<File> {
    let path = home.join("bare");
    let file = File::create(&path)?;
    // Not every file system can; then the bare calls pay for it as the log does.
    let _ =
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, (records * RECORD_BYTES) as u64);
    std::fs::remove_file(path)?;
    file.sync_all()?;
    Ok(file)
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN) / 1_000.0;
    let mut text = format!(
        "an append of {} B until its acknowledgement, round trip, median of {} rounds\n\
         {:<28} {:>9} {:>9} {:>9}\n",
        report["payload_bytes"], report["rounds"], "", "p50 us", "p99 us", "p99.9"
    );
    let mut row = |name: &str, of: &Value| {
        let [p50, p99, p999] = ["p50_ns", "p99_ns", "p999_ns"].map(|field| number(&of[field]));
        text += &format!("{name:<28} {p50:>9.2} {p99:>9.2} {p999:>9.2}\n");
    };
    row("stored", &report["stored"]);
    row("  limit: lanes and pwrite", &report["stored"]["limit"]);
    row("synced", &report["synced"]);
    row("  limit: and fdatasync", &report["synced"]["limit"]);
    let disk = &report["disk"];
    row("log alone, stored", &disk["stored"]["append"]);
    row("  bare pwrite", &disk["stored"]["bare_pwrite"]);
    row("log alone, synced, one", &disk["synced"]["one_waiter"]);
    row("  plainly", &disk["synced"]["plain_one_waiter"]);
    row("log alone, synced, sixteen", &disk["synced"]["sixteen_waiters"]);
    row("  plainly", &disk["synced"]["plain_sixteen_waiters"]);
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_figure_of_the_disk_is_there() {
        let report = super::disk::measure(1, 500, 10).unwrap();
        for (class, name) in
            [("stored", "append"), ("stored", "bare_pwrite"), ("synced", "one_waiter")]
        {
            assert!(report[class][name]["p50_ns"].as_f64().is_some_and(|value| value > 0.0));
        }
        let cpu = None;
        for way in [super::Way::Stored, super::Way::Synced] {
            let home = super::Home::new(&format!("test-{way:?}")).unwrap();
            assert_eq!(super::bare(&home.0, way, 20, cpu).unwrap().len(), 20);
        }
    }
}
