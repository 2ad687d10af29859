//! `bolide bench workers`: the same pieces of work on pools that are pinned in each way, in turns, on this machine.
//!
//! Where all cores are alike every class stands for all of them, so the ways differ by nothing but noise, and the report says so: what
//! it shows there is that pinning costs nothing. A machine with classes of cores shows what it buys.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use hw::root::Root;
use hw::watcher::Watcher;
use scheduler::admission::Order;
use scheduler::decision::{Background, Decision, State};
use scheduler::placement::{Pinning, Work};
use scheduler::pool::{Machine, Pools};
use serde_json::{Value, json};

use super::figures::{Figure, Figures};
use super::median;
use crate::machine::cool_capacity;

/// Pieces of bulk work in a round: seconds of work on a core, so that a round outlasts the kernel's own balancing.
const BULK_PIECES: usize = 512;
/// What one of them compresses: about a millisecond.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that come alone in a round.
const SINGLES: usize = 256;
/// What one of them compresses.
const SINGLE_BYTES: usize = 4 << 10;

/// `bolide bench workers`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Rounds in which each way to pin has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let root = Root::machine();
    let watcher = Watcher::new(root.clone());
    let capacity = cool_capacity(&root, &watcher);
    let decision = Decision {
        state: State::Off,
        slots: capacity.slots_at(capacity.slots_max()),
        heavy: true,
        background: Background::Efficient,
    };
    let classes = watcher.classes();
    let allowed = &watcher.allowed().cpus;
    let pools = Pinning::ALL.map(|pinning| {
        let (classes, allowed) = (classes.clone(), allowed.clone());
        Pools::new(decision, Machine { classes, allowed, pinning, contended: false })
    });
    let mut figures = Figures::default();
    for _ in 0..arguments.rounds {
        for (pinning, pools) in Pinning::ALL.into_iter().zip(&pools) {
            figures.add(round(pinning, pools));
        }
    }
    let kinds = [&classes.performance, &classes.efficient, &classes.low_power];
    let mut report = json!({
        "schema": "bolide-bench-workers/1",
        "rounds": arguments.rounds,
        "cpus": kinds.map(|cpus| cpus.len()),
        "slots": decision.slots.sum(),
        "alike": kinds.iter().filter(|cpus| !cpus.is_empty()).count() <= 1,
    });
    figures.write(&mut report);
    Ok(report)
}

fn round(pinning: Pinning, pools: &Pools) -> Vec<Figure> {
    let order = Order { requester: Arc::from("bench"), priority: 5, waited: Duration::ZERO };
    let data: Vec<u8> = (0..PIECE_BYTES as u32).map(mixed).collect();
    let bulk = |_: usize| compress(&data);
    let began = Instant::now();
    pools.run((&order, Work::Unpack), BULK_PIECES, &|| true, &bulk);
    let bytes_per_second = (BULK_PIECES * PIECE_BYTES) as f64 / began.elapsed().as_secs_f64();
    let single = |_: usize| compress(&data[..SINGLE_BYTES]);
    let times = (0..SINGLES).map(|_| {
        let began = Instant::now();
        pools.run((&order, Work::Resolve), 1, &|| true, &single);
        began.elapsed().as_secs_f64() * 1e6
    });
    let middle = median(times.collect()).unwrap_or_default();
    let name = pinning.name();
    vec![
        (format!("{name}.bulk_mb_per_second"), bytes_per_second / 1e6),
        (format!("{name}.single_p50_us"), middle),
    ]
}

/// Bytes that compress a little.
fn mixed(index: u32) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 27) as u8
}

fn compress(data: &[u8]) {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len()), Compression::fast());
    // Into memory, where it cannot fail.
    let _ = encoder.write_all(data);
    std::hint::black_box(encoder.finish().ok());
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let cpus = &report["cpus"];
    let mut text = format!(
        "workers on {} performance, {} efficient and {} low-power processors, {} slots; medians of {} rounds\n",
        cpus[0], cpus[1], cpus[2], report["slots"], report["rounds"]
    );
    for pinning in Pinning::ALL.map(Pinning::name) {
        let of = &report[pinning];
        let _ = writeln!(
            text,
            "pinning {pinning:6}  bulk {} MB/s   a piece alone {} us",
            of["bulk_mb_per_second"], of["single_p50_us"]
        );
    }
    if report["alike"] == true {
        text += "all processors are alike here: each class stands for all of them, and the differences are noise\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_pin_has_its_figures_and_a_machine_of_one_class_says_so() {
        let report = run(&Arguments { rounds: 1, json: false }).unwrap();
        for pinning in Pinning::ALL.map(Pinning::name) {
            assert!(report[pinning]["bulk_mb_per_second"].as_f64().unwrap() > 0.0, "{report}");
        }
        let said = text(&report).contains("all processors are alike");
        assert_eq!(said, report["alike"] == true);
    }
}
