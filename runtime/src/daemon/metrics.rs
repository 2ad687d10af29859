//! The snapshot in Prometheus' text form. A collector over plain values, so that another library is
//! one file away.
//!
//! Label sets that can occur are there from the start, with 0. What has no source yet is not there
//! at all.

mod figures;
mod machine;

use std::collections::HashMap;

use ipc::class::Class;
use ipc::histogram::{self, Histogram};
use ipc::limits::{LATENCY_EXPONENT_MAX, LATENCY_EXPONENT_MIN};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as Buckets, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, Registry, TextEncoder};

use super::figures::Figures;
use super::router::LIMITS;
use super::snapshot::{ClassStatus, Fallback, HostedState, Snapshot};
use crate::exchange;

/// What the daemon's own process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessUse {
    /// Open descriptors.
    pub(crate) descriptors: Option<u64>,
    /// Resident memory.
    pub(crate) resident_bytes: Option<u64>,
}

/// The media type of [`encode`]'s text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exposition of a snapshot.
pub(crate) fn encode(
    snapshot: Snapshot,
    process: ProcessUse,
) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::new();
    registry.register(Box::new(SnapshotCollector { snapshot, process }))?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

/// Reads what this process uses, where `/proc` says it.
pub(crate) fn process_use() -> ProcessUse {
    let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|entries| {
        // One of them is the directory that is being read.
        (entries.count() as u64).saturating_sub(1)
    });
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let resident_bytes = pages.map(|pages| pages * rustix::param::page_size() as u64);
    ProcessUse { descriptors, resident_bytes }
}

/// Every fall that there is.
const FALLBACKS: [(Class, Class); 3] = [
    (Class::Critical, Class::High),
    (Class::Critical, Class::Normal),
    (Class::High, Class::Normal),
];

struct SnapshotCollector {
    snapshot: Snapshot,
    process: ProcessUse,
}

impl Collector for SnapshotCollector {
    /// None: the registry lives for one scrape, so nothing can be registered twice.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.bus();
        families.extend(self.limits());
        families.extend(self.agents());
        families.extend(self.errors());
        families.extend(figures::families(&snapshot_figures(&self.snapshot)));
        families.push(machine::decision_age(&self.snapshot.governor));
        if let Some(machine) = &self.snapshot.machine {
            families.extend(machine::families(machine, &self.snapshot.work));
        }
        families.extend(self.process());
        families
    }
}

impl SnapshotCollector {
    fn bus(&self) -> Vec<MetricFamily> {
        let snapshot = &self.snapshot;
        let build = [("version", snapshot.version), ("arch", std::env::consts::ARCH)];
        let by_class = |value: fn(&ClassStatus) -> u64| {
            let classes = snapshot.classes.iter();
            classes.map(move |(class, one)| sample(&[("class", class)], value(one)))
        };
        let dropped = snapshot.classes.iter().flat_map(|(class, one)| {
            [("full", one.rejected), ("lapped", one.lost)]
                .map(|(reason, count)| sample(&[("class", class), ("reason", reason)], count))
        });
        vec![
            gauge("bolide_build_info", "The program that runs; always 1.", [sample(&build, 1)]),
            counter(
                "bolide_bus_messages_total",
                "Messages that went over the bus, by class.",
                by_class(|one| one.messages),
            ),
            counter(
                "bolide_bus_dropped_total",
                "Messages that a full lane did not take, whose senders were told, and lines that a \
                 slow reader of a lossy topic lost.",
                dropped,
            ),
            counter(
                "bolide_bus_lent_bytes_total",
                "Bytes that travelled through the regions of lanes.",
                by_class(|one| one.bytes_lent),
            ),
            counter(
                "bolide_bus_waits_total",
                "How often a sender waited for room in a lane.",
                by_class(|one| one.waits),
            ),
            counter(
                "bolide_bus_quarantined_total",
                "How often one side of a lane broke the protocol and the other gave the lane up.",
                by_class(|one| one.quarantined),
            ),
            gauge(
                "bolide_bus_depth_lines",
                "Lines that were written and not read yet.",
                by_class(|one| one.depth),
            ),
            self.latency(),
            counter(
                "bolide_bus_ended_total",
                "Links and topics that ended, by the reason that both sides were told.",
                snapshot.ended.iter().map(|(code, count)| sample(&[("code", code)], *count)),
            ),
            gauge(
                "bolide_bus_lanes",
                "Lanes that carry messages; a link has two, a topic one.",
                [sample(&[], snapshot.lanes as u64)],
            ),
        ]
    }

    fn limits(&self) -> Vec<MetricFamily> {
        let snapshot = &self.snapshot;
        let fallbacks = FALLBACKS.iter().map(|(wanted, got)| {
            let is_it = |one: &&Fallback| (one.wanted, one.got) == (wanted.name(), got.name());
            let links = snapshot.fallbacks.iter().find(is_it).map_or(0, |one| one.links);
            sample(&[("wanted", wanted.name()), ("got", got.name())], links)
        });
        let reached = snapshot.limited.iter().map(|(limit, count)| (*limit, *count));
        let quiet = LIMITS.iter().map(|limit| (*limit, 0));
        let hosted = snapshot.hosted.iter().filter(|one| one.name == exchange::NAME);
        let of_exchange = exchange::LIMITS.iter().map(|(limit, kind)| {
            let counts = hosted.clone().filter_map(|one| one.errors.get(*kind));
            (*limit, counts.sum())
        });
        let limited = reached.chain(of_exchange).chain(quiet);
        let limited = limited.map(|(limit, count)| sample(&[("limit", limit)], count));
        vec![
            counter(
                "bolide_bus_class_fallbacks_total",
                "Links that have another class than their opener wanted.",
                fallbacks,
            ),
            counter(
                "bolide_bus_limits_total",
                "What was refused or slowed down because an agent reached a limit.",
                limited,
            ),
        ]
    }

    fn latency(&self) -> MetricFamily {
        let metrics = self.snapshot.classes.iter().map(|(class, one)| {
            let mut metric = Metric::from_label(sample(&[("class", class)], 0).0);
            metric.set_histogram(buckets(&one.histogram));
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name("bolide_bus_latency_seconds".to_owned());
        let help = "One-way time of messages that say when they were sent, from there until they \
                    were read.";
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        family
    }

    fn agents(&self) -> Vec<MetricFamily> {
        let snapshot = &self.snapshot;
        let states = [
            HostedState::Starting,
            HostedState::Up,
            HostedState::Waiting,
            HostedState::Failed,
            HostedState::Stopped,
        ];
        let in_state = |state: HostedState| {
            let count = snapshot.hosted.iter().filter(|hosted| hosted.state == state).count();
            sample(&[("state", state.name())], count as u64)
        };
        let guests = snapshot.agents.iter().filter(|agent| !agent.hosted).count();
        let agents = states.into_iter().map(in_state);
        let agents = agents.chain([sample(&[("state", "guest")], guests as u64)]);
        let hosted = || snapshot.hosted.iter();
        let restarts = hosted().map(|one| sample(&[("agent", &one.name)], one.restarts));
        let running = hosted().map(|one| sample(&[("agent", &one.name)], one.tasks.running));
        let tasks = hosted().flat_map(|one| {
            let outcomes = one.tasks.outcomes().into_iter();
            outcomes.map(|(outcome, count)| {
                sample(&[("agent", &one.name), ("outcome", outcome)], count)
            })
        });
        vec![
            gauge(
                "bolide_agents",
                "Agents, by state: guests on the bus, and those that the daemon hosts.",
                agents,
            ),
            counter(
                "bolide_agent_restarts_total",
                "How often a hosted agent was started again.",
                restarts,
            ),
            gauge("bolide_tasks_running", "Tasks under way in a hosted agent.", running),
            counter("bolide_tasks_total", "Tasks that ended in a hosted agent, by outcome.", tasks),
            figures::task_seconds(hosted().map(|one| (&*one.name, &one.figures))),
        ]
    }

    fn errors(&self) -> Vec<MetricFamily> {
        let snapshot = &self.snapshot;
        let refused = snapshot.refused.iter();
        let refused =
            refused.map(|(code, count)| sample(&[("agent", "router"), ("kind", code)], *count));
        let failed = snapshot.hosted.iter().flat_map(|one| {
            let errors = one.errors.iter();
            errors.map(|(kind, count)| sample(&[("agent", &one.name), ("kind", kind)], *count))
        });
        vec![counter(
            "bolide_errors_total",
            "Errors that agents answered with, and requests that the router refused, by kind.",
            refused.chain(failed),
        )]
    }

    fn process(&self) -> Vec<MetricFamily> {
        let descriptors = self.process.descriptors.map(|count| sample(&[], count));
        let resident = self.process.resident_bytes.map(|bytes| sample(&[], bytes));
        vec![
            gauge("process_open_fds", "Open file descriptors of the daemon.", descriptors),
            gauge("process_resident_memory_bytes", "Resident memory of the daemon.", resident),
        ]
    }
}

/// What all hosted agents measured together.
fn snapshot_figures(snapshot: &Snapshot) -> Figures {
    let all = snapshot.hosted.iter().map(|hosted| &hosted.figures);
    all.fold(Figures::default(), |sum, one| sum.plus(&one.to_report()))
}

/// Ours with one bucket for each power of two: the edges are edges of ours, so nothing is guessed.
fn buckets(histogram: &Histogram) -> Buckets {
    let edge = |exponent: u32| {
        let edge_ns = 1u64 << exponent;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(edge_ns as f64 / 1e9);
        bucket.set_cumulative_count(histogram.count_before(histogram::bucket_of(edge_ns)));
        bucket
    };
    let mut buckets = Buckets::default();
    buckets.set_bucket((LATENCY_EXPONENT_MIN + 1..=LATENCY_EXPONENT_MAX).map(edge).collect());
    buckets.set_sample_count(histogram.count());
    buckets.set_sample_sum(histogram.sum_ns() as f64 / 1e9);
    buckets
}

type Sample = (Vec<LabelPair>, f64);

fn sample(labels: &[(&str, &str)], value: u64) -> Sample {
    sample_of(labels, value as f64)
}

fn sample_of(labels: &[(&str, &str)], value: f64) -> Sample {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    (labels.iter().map(pair).collect(), value)
}

fn counter(name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, samples, |metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    })
}

fn gauge(name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    family(name, help, MetricType::GAUGE, samples, |metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    })
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = Sample>,
    set: impl Fn(&mut Metric, f64),
) -> MetricFamily {
    let mut merged: HashMap<Vec<(String, String)>, usize> = HashMap::new();
    let mut metrics: Vec<Metric> = Vec::new();
    for (labels, value) in samples {
        let key = labels.iter().map(|pair| (pair.name().to_owned(), pair.value().to_owned()));
        // One series per label set, whatever the sources hold.
        let fresh = metrics.len();
        if *merged.entry(key.collect()).or_insert(fresh) != fresh {
            continue;
        }
        let mut metric = Metric::from_label(labels);
        set(&mut metric, value);
        metrics.push(metric);
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
pub(crate) mod tests;
