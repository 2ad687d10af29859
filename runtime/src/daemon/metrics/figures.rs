//! What hosted agents measure, in Prometheus' form. A measure that no agent has reported yet is absent.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Summary};

use super::{counter, gauge, sample};
use crate::daemon::figures::{Figures, KNOWN};

/// All measures that were reported.
pub(super) fn families(figures: &Figures) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let mut count = |name: &str, metric: &str, label: &str, help: &str| {
        if figures.has(name) {
            let samples =
                labels(name).iter().map(|of| sample(&[(label, of)], figures.get(name, of)));
            families.push(counter(metric, help, samples));
        }
    };
    count(
        "transactions",
        "bolide_pkg_transactions_total",
        "outcome",
        "Transactions of the packager, by outcome.",
    );
    count(
        "download-bytes",
        "bolide_pkg_download_bytes_total",
        "ecosystem",
        "Bytes of packages that were downloaded.",
    );
    count(
        "triggers",
        "bolide_pkg_triggers_total",
        "outcome",
        "Changed manifests that were answered by themselves, by what came of it.",
    );
    count(
        "cache-requests",
        "bolide_pkg_cache_requests_total",
        "result",
        "Artefacts that a transaction needed: in the store, not there, or damaged there.",
    );
    count(
        "prepared",
        "bolide_pkg_prepared_total",
        "event",
        "Packages that were made ready for the next installation, and those that one was given.",
    );
    count(
        "readers",
        "bolide_pkg_archive_readers_total",
        "event",
        "Processes that read archives: how many were started, and how many failed.",
    );
    if figures.has("downloads") {
        let under_way = [sample(&[], figures.get("downloads", ""))];
        let help = "Files of hosted agents that are under way from networks.";
        families.push(gauge("bolide_downloads_under_way", help, under_way));
    }
    if figures.has("downloads-waiting") {
        let of = |why: &&str| sample(&[("reason", why)], figures.get("downloads-waiting", why));
        let help = "Files of hosted agents that wait to be fetched, by reason.";
        let waiting = labels("downloads-waiting").iter().map(of);
        families.push(gauge("bolide_downloads_waiting", help, waiting));
    }
    if figures.has("readers-held") {
        let held = labels("readers-held").iter();
        let held = held.map(|by| sample(&[("by", by)], figures.get("readers-held", by)));
        families.push(gauge(
            "bolide_pkg_archive_readers_held",
            "Whether the kernel holds processes that read archives by this.",
            held,
        ));
    }
    if figures.has("watched") {
        let watched = [sample(&[], figures.get("watched", ""))];
        families.push(gauge("bolide_pkg_watched_projects", "Projects that are watched.", watched));
    }
    if figures.has("watch-deferred") {
        let of = |why: &&str| sample(&[("reason", why)], figures.get("watch-deferred", why));
        let help = "Changes in watched projects that wait to be applied, by reason.";
        let waiting = labels("watch-deferred").iter().map(of);
        families.push(gauge("bolide_pkg_watch_deferred", help, waiting));
    }
    let mut times = |[count, sum]: [&str; 2], metric: &str, label: &str, help: &str| {
        if figures.has(count) {
            let samples = labels(count).iter().map(|of| {
                (sample(&[(label, of)], 0).0, figures.get(count, of), figures.get(sum, of))
            });
            families.push(summary(metric, help, samples));
        }
    };
    times(
        ["resolutions", "resolution-ns"],
        "bolide_pkg_resolve_seconds",
        "ecosystem",
        "How long resolutions took, and how many there were.",
    );
    times(
        ["outside-calls", "outside-ns"],
        "bolide_outside_call_seconds",
        "service",
        "How long servers outside took for each try, failed ones among them, and how many tries there were.",
    );
    families
}

fn labels(name: &str) -> &'static [&'static str] {
    KNOWN.iter().find(|known| known.name == name).map_or(&[], |known| known.labels)
}

/// How long the tasks of each hosted agent took that ended.
pub(super) fn task_seconds<'a>(
    agents: impl Iterator<Item = (&'a str, &'a Figures)>,
) -> MetricFamily {
    let samples = agents.map(|(agent, figures)| {
        let labels = sample(&[("agent", agent)], 0).0;
        (labels, figures.get("tasks", ""), figures.get("task-ns", ""))
    });
    let help = "How long tasks of hosted agents took that have ended, and how many they are.";
    summary("bolide_task_seconds", help, samples)
}

/// How often something was done, and how many nanoseconds it took in all.
fn summary(
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (Vec<LabelPair>, u64, u64)>,
) -> MetricFamily {
    let metrics = samples.map(|(labels, count, sum_ns)| {
        let mut summary = Summary::default();
        summary.set_sample_count(count);
        summary.set_sample_sum(sum_ns as f64 / 1e9);
        let mut metric = Metric::default();
        metric.set_label(labels);
        metric.set_summary(summary);
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::SUMMARY);
    family.set_metric(metrics.collect());
    family
}

#[cfg(test)]
mod tests {
    use ipc::control::Figure;

    use super::*;

    #[test]
    fn files_that_wait_are_told_by_what_for() {
        let report = [("downloads", "", 16), ("downloads-waiting", "busy", 3)];
        let report = report.map(|(name, label, value)| Figure {
            name: name.to_owned(),
            label: label.to_owned(),
            value,
        });
        let families = families(&Figures::default().plus(&report));
        let [under_way, waiting] = &families[..] else { panic!("{families:?}") };
        assert_eq!(under_way.name(), "bolide_downloads_under_way");
        assert!((under_way.get_metric()[0].get_gauge().get_value() - 16.0).abs() < 1e-9);
        assert_eq!(waiting.name(), "bolide_downloads_waiting");
        let by = waiting.get_metric().iter();
        let by = by.map(|metric| (metric.get_label()[0].value(), metric.get_gauge().get_value()));
        assert_eq!(by.collect::<Vec<_>>(), [("blind", 0.0), ("busy", 3.0), ("heat", 0.0)]);
    }

    #[test]
    fn what_was_reported_stands_under_the_names_that_others_rely_on() {
        assert_eq!(families(&Figures::default()).len(), 0);
        let report = [("resolutions", "npm", 2), ("resolution-ns", "npm", 3_000_000_000)];
        let report = report.map(|(name, label, value)| Figure {
            name: name.to_owned(),
            label: label.to_owned(),
            value,
        });
        let families = families(&Figures::default().plus(&report));
        assert_eq!(families.len(), 1);
        let is_npm = |metric: &&Metric| metric.get_label()[0].value() == "npm";
        let npm = families[0].get_metric().iter().find(is_npm).unwrap();
        assert_eq!(npm.get_summary().sample_count(), 2);
        assert!((npm.get_summary().sample_sum() - 3.0).abs() < 1e-9);
        let report = [("outside-calls", "npm-files", 4), ("outside-ns", "npm-files", 500_000_000)];
        let report = report.map(|(name, label, value)| Figure {
            name: name.to_owned(),
            label: label.to_owned(),
            value,
        });
        let families = super::families(&Figures::default().plus(&report));
        let [calls] = &families[..] else { panic!("{families:?}") };
        assert_eq!(calls.name(), "bolide_outside_call_seconds");
        let is_files = |metric: &&Metric| metric.get_label()[0].value() == "npm-files";
        let files = calls.get_metric().iter().find(is_files).unwrap().get_summary();
        assert_eq!(files.sample_count(), 4);
        assert!((files.sample_sum() - 0.5).abs() < 1e-9);
    }
}
