//! What a record costs the log itself until it is stored, and until it is synced, beside the bare calls: no exchange, no lane.
//!
//! Stored: one append of 100 bytes beside a `pwrite` of the same size and a copy into a mapping.
//! Synced: from the append until the answer, one and sixteen that wait, beside `pwrite` and
//! `fdatasync` on one thread; by io_uring and plainly. All in turn in each round, the median round counts.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::ensure;
use hdrhistogram::Histogram;
use ipc::mapped::MappedFile;
use serde_json::{Value, json};

use super::{Home, PAYLOAD_BYTES, RECORD_BYTES, file, histogram, note};
use crate::bench::median;
use crate::exchange::log::{Committer, Log, Mechanism, Options, Record};

/// Records of one round that each of several syncs.
const SYNCED_RECORDS_EACH: usize = 60;
/// Those that wait at once.
const WAITERS: usize = 16;

/// Percentiles of each round of one measure.
#[derive(Default)]
struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, histogram: &Histogram<u64>) {
        self.p50.push(histogram.value_at_quantile(0.5) as f64);
        self.p99.push(histogram.value_at_quantile(0.99) as f64);
        self.p999.push(histogram.value_at_quantile(0.999) as f64);
    }

    fn report(self) -> Value {
        json!({
            "p50_ns": median(self.p50),
            "p99_ns": median(self.p99),
            "p999_ns": median(self.p999),
        })
    }
}

/// Measures everything.
pub(super) fn measure(rounds: usize, stored: usize, synced: usize) -> anyhow::Result<Value> {
    let home = Home::new("disk")?;
    let ring = Committer::start(Mechanism::Ring)?;
    let plain = Committer::start(Mechanism::Plain)?;
    let mut of_pwrite = Rounds::default();
    let mut of_mapping = Rounds::default();
    let mut of_append = Rounds::default();
    let mut of_fdatasync = Rounds::default();
    let mut of_one: [Rounds; 2] = Default::default();
    let mut of_many: [Rounds; 2] = Default::default();
    for round in 0..=rounds {
        // The first round warms up.
        let keep = |rounds: &mut Rounds, histogram: &Histogram<u64>| {
            if round > 0 {
                rounds.add(histogram);
            }
        };
        keep(&mut of_pwrite, &bare_pwrite(&home.0, stored)?);
        if let Some(histogram) = bare_mapping(&home.0, stored)? {
            keep(&mut of_mapping, &histogram);
        }
        keep(&mut of_append, &append(&home.0, &ring, stored)?);
        keep(&mut of_fdatasync, &bare_fdatasync(&home.0, synced)?);
        for (index, committer) in [&ring, &plain].into_iter().enumerate() {
            keep(&mut of_one[index], &sync(&home.0, committer, 1, synced)?);
            let each = synced.min(SYNCED_RECORDS_EACH);
            keep(&mut of_many[index], &sync(&home.0, committer, WAITERS, each)?);
        }
    }
    let ratio = |of: &Rounds, to: &Rounds| {
        let (of, to) = (median(of.p50.clone())?, median(to.p50.clone())?);
        Some((of / to * 100.0).round() / 100.0)
    };
    let stored_ratio = ratio(&of_append, &of_pwrite);
    let [one_by_ring, one_plainly] = of_one;
    let [many_by_ring, many_plainly] = of_many;
    Ok(json!({
        "payload_bytes": PAYLOAD_BYTES,
        "rounds": rounds,
        "stored": {
            "append": of_append.report(),
            "bare_pwrite": of_pwrite.report(),
            "bare_mapping": of_mapping.report(),
            "append_to_pwrite": stored_ratio,
        },
        "synced": {
            "bare_fdatasync": of_fdatasync.report(),
            "mechanism": ring.mechanism(),
            "one_waiter": one_by_ring.report(),
            "sixteen_waiters": many_by_ring.report(),
            "plain_mechanism": plain.mechanism(),
            "plain_one_waiter": one_plainly.report(),
            "plain_sixteen_waiters": many_plainly.report(),
        },
    }))
}

fn bare_pwrite(home: &Path, records: usize) -> anyhow::Result<Histogram<u64>> {
    let (file, bytes, mut histogram) = (file(home, records)?, [7; RECORD_BYTES], histogram()?);
    for index in 0..records {
        let start = Instant::now();
        file.write_all_at(&bytes, (index * RECORD_BYTES) as u64)?;
        note(&mut histogram, start);
    }
    Ok(histogram)
}

/// `None` where the file system has no files without names.
fn bare_mapping(home: &Path, records: usize) -> anyhow::Result<Option<Histogram<u64>>> {
    let Ok(mut file) = MappedFile::create(home, records * RECORD_BYTES) else { return Ok(None) };
    let (bytes, mut histogram) = ([7; RECORD_BYTES], histogram()?);
    for index in 0..records {
        let start = Instant::now();
        let is_written = file.write_at(index * RECORD_BYTES, &bytes);
        note(&mut histogram, start);
        ensure!(is_written, "the mapping is too small");
    }
    Ok(Some(histogram))
}

fn bare_fdatasync(home: &Path, records: usize) -> anyhow::Result<Histogram<u64>> {
    let (file, bytes, mut histogram) = (file(home, records)?, [7; RECORD_BYTES], histogram()?);
    for index in 0..records {
        let start = Instant::now();
        file.write_all_at(&bytes, (index * RECORD_BYTES) as u64)?;
        file.sync_data()?;
        note(&mut histogram, start);
    }
    Ok(histogram)
}

/// A log of its own; the directory is gone when it is closed.
fn with_log<T>(
    home: &Path,
    committer: &Committer,
    work: impl FnOnce(Log) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let path = home.join("log");
    let (log, _) = Log::open(&path, "bench", Options::default(), committer, 0)?;
    let result = work(log);
    std::fs::remove_dir_all(path)?;
    result
}

fn record(payload: &[u8; PAYLOAD_BYTES]) -> Record<'_> {
    Record { time_ns: 1, sender: 1, sender_name: "measured", priority: 5, dedup: 0, payload }
}

fn append(home: &Path, committer: &Committer, records: usize) -> anyhow::Result<Histogram<u64>> {
    with_log(home, committer, |mut log| {
        let (payload, mut histogram) = ([7; PAYLOAD_BYTES], histogram()?);
        for _ in 0..records {
            let start = Instant::now();
            log.append(&record(&payload))?;
            note(&mut histogram, start);
        }
        Ok(histogram)
    })
}

/// So many threads that each append a record and wait until it is synced.
fn sync(
    home: &Path,
    committer: &Committer,
    waiters: usize,
    records: usize,
) -> anyhow::Result<Histogram<u64>> {
    with_log(home, committer, |log| {
        let log = Mutex::new(log);
        let one = || -> anyhow::Result<Histogram<u64>> {
            let (payload, mut histogram) = ([7; PAYLOAD_BYTES], histogram()?);
            for _ in 0..records {
                let start = Instant::now();
                let ticket = {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    let position = log.append(&record(&payload))?;
                    log.request_sync(position)?
                };
                ticket.wait()?;
                note(&mut histogram, start);
            }
            Ok(histogram)
        };
        let mut all = histogram()?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..waiters).map(|_| scope.spawn(one)).collect();
            for thread in threads {
                let one = thread.join().map_err(|_| anyhow::anyhow!("a waiter panicked"))?;
                all.add(one?)?;
            }
            Ok(all)
        })
    })
}
