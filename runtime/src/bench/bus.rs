//! `bolide bench bus`: everything that is promised of the bus, beside the least that this machine can do and beside other
//! buses, in one run.
//!
//! Every part has its turn in every round, so that what the machine does meanwhile meets all of them; each figure is the median
//! of its rounds, with the least and the greatest beside it. A part that is not measured keeps its place in the report, null
//! with a reason. This thread is never pinned, because what it starts would be pinned with it; what is measured on a
//! certain processor has a thread of its own. Not here: what the parts do, and how the report looks to people (`text`).

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use hw::affinity;
use hw::root::Root;
use serde_json::{Value, json};

use super::figures::{Figure, Figures, write_absent};

mod batch;
mod classes;
mod fanout;
mod languages;
mod latency;
pub(crate) mod log;
pub(crate) mod pair;
pub(crate) mod peers;
mod places;
pub(crate) mod recovery;
mod requests;
mod rest;
mod routed;
mod text;
mod throughput;

pub(crate) use self::text::text;

/// `bolide bench bus`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Messages in each round of a measurement between two spinning processes; the others have their share
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Rounds; the median one counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these parts, with commas between them: pair, low, fanout, routed, batch, requests, languages, recovery, rest, peers
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<String>,
    /// Where `make peers` put the buses to compare with
    #[arg(long, default_value = ".peers", value_name = "DIRECTORY")]
    peers: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What every part may know.
#[derive(Clone, Debug)]
struct Context {
    /// Two processors for two sides, where there are two.
    cpus: Option<(usize, usize)>,
    peers: PathBuf,
}

/// Something that is measured in rounds.
trait Part {
    /// One round; `messages` is the size of one between two spinning processes.
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>>;

    /// Adds what is no figure of a round.
    fn describe(&self, _report: &mut Value) {}
}

/// How a part is started.
struct Known {
    name: &'static str,
    start: fn(&Context) -> anyhow::Result<Box<dyn Part>>,
    /// The figures that are null where it is not measured.
    fields: &'static [&'static str],
}

/// One round of warming up has so many messages less.
const WARM_UP_DIVISOR: u64 = 10;

/// All parts, in the order of a round. A new one is one more row.
const KNOWN: &[Known] = &[
    Known {
        name: "pair",
        start: |context| Ok(Box::new(pair::Pair::start(context)?)),
        fields: pair::FIELDS,
    },
    Known { name: "low", start: |_| Ok(Box::new(log::Low)), fields: log::FIELDS },
    Known {
        name: "fanout",
        start: |context| Ok(Box::new(fanout::Fanout::start(context))),
        fields: fanout::FIELDS,
    },
    Known {
        name: "routed",
        start: |context| Ok(Box::new(routed::Routed::start(context)?)),
        fields: &["throughput.routed_per_s"],
    },
    Known {
        name: "batch",
        start: |context| Ok(Box::new(batch::Batch::start(context)?)),
        fields: batch::FIELDS,
    },
    Known {
        name: "requests",
        start: |context| Ok(Box::new(requests::Requests::start(context)?)),
        fields: requests::FIELDS,
    },
    Known {
        name: "languages",
        start: |context| Ok(Box::new(languages::Languages::start(context)?)),
        fields: languages::FIELDS,
    },
    Known {
        name: "recovery",
        start: |_| Ok(Box::new(recovery::Recovery::start()?)),
        fields: &["recovery.lease_ms"],
    },
    Known { name: "rest", start: |_| Ok(Box::new(rest::Rest::start()?)), fields: rest::FIELDS },
    Known {
        name: "peers",
        start: |context| Ok(Box::new(peers::Peers::start(&context.peers, context.cpus))),
        fields: &["peers.iceoryx2_p50_ns", "peers.nats_p50_ns", "peers.redis_p50_ns"],
    },
];

/// Measures everything that was asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let rounds = arguments.rounds.max(1);
    let unknown =
        arguments.only.iter().find(|name| !KNOWN.iter().any(|known| known.name == **name));
    ensure!(unknown.is_none(), "there is no part `{}`", unknown.map_or("", String::as_str));
    let allowed: Vec<usize> = affinity::allowed(&Root::machine()).iter().collect();
    let cpus = (allowed.len() > 1).then(|| (allowed[0], allowed[allowed.len() - 1]));
    let context = Context { cpus, peers: arguments.peers.clone() };
    let mut report = json!({
        "schema": "bolide.bench.bus/2",
        "cpus": cpus.map(|(first, second)| [first, second]),
        "messages": arguments.messages,
        "rounds": rounds,
    });
    let mut parts: Vec<(&Known, Box<dyn Part>)> = Vec::new();
    let mut absent: Vec<(&Known, String)> = Vec::new();
    for known in KNOWN {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == known.name) {
            absent.push((known, "left out by `--only`".to_owned()));
            continue;
        }
        match (known.start)(&context) {
            Ok(part) => parts.push((known, part)),
            Err(error) => absent.push((known, format!("{error:#}"))),
        }
    }
    let mut figures = Figures::default();
    for round in 0..=rounds {
        let warms_up = round == 0;
        let messages = arguments.messages / if warms_up { WARM_UP_DIVISOR } else { 1 };
        let mut failed = Vec::new();
        for (index, (known, part)) in parts.iter_mut().enumerate() {
            match part.round(messages.max(1)).with_context(|| format!("part `{}`", known.name)) {
                Ok(_) if warms_up => {}
                Ok(found) => figures.add(found),
                Err(error) => failed.push((index, format!("{error:#}"))),
            }
        }
        // What failed once is not asked again; its figures so far stand, with the reason beside them.
        for (index, why) in failed.into_iter().rev() {
            absent.push((parts.remove(index).0, why));
        }
    }
    figures.write(&mut report);
    for (_, part) in &parts {
        part.describe(&mut report);
    }
    for (known, why) in &absent {
        write_absent(&mut report, known.fields, why);
        report["absent"][known.name] = json!(why);
    }
    Ok(report)
}
