//! What hosted agents measure, as the daemon keeps it: a table of the measures that it knows, so that an agent cannot make up metrics or
//! labels without end. Not how they are written down: that is `metrics`.

use std::collections::BTreeMap;

use ipc::control::Figure;
use serde::Serialize;

/// One measure that an agent may report.
#[derive(Debug)]
pub(crate) struct Known {
    /// The agent's name of it.
    pub(crate) name: &'static str,
    /// Whether it starts at 0 in each life of an agent and only grows; otherwise it is what is so at the moment.
    pub(crate) grows: bool,
    /// The labels that may occur; they are there from the start.
    pub(crate) labels: &'static [&'static str],
}

const ECOSYSTEMS: &[&str] = &["cargo", "deb", "npm", "pypi"];

/// Servers outside, by what is asked of them.
const SERVICES: &[&str] = &["cargo", "cargo-files", "npm", "npm-files", "pypi", "pypi-files"];

const fn growing(name: &'static str, labels: &'static [&'static str]) -> Known {
    Known { name, grows: true, labels }
}

/// All of them.
pub(crate) const KNOWN: &[Known] = &[
    growing("tasks", &[""]),
    growing("task-ns", &[""]),
    growing("transactions", &["committed", "failed", "rolled-back", "taken-back"]),
    growing("resolutions", ECOSYSTEMS),
    growing("resolution-ns", ECOSYSTEMS),
    growing("download-bytes", ECOSYSTEMS),
    growing("outside-calls", SERVICES),
    growing("outside-ns", SERVICES),
    growing("cache-requests", &["damaged", "hit", "miss"]),
    growing("prepared", &["given", "made"]),
    growing("triggers", &["applied", "approval", "conflict", "failed", "in-line", "planned"]),
    Known { name: "watched", grows: false, labels: &[""] },
    Known { name: "watch-deferred", grows: false, labels: &["blind", "heat", "turn"] },
    Known { name: "downloads", grows: false, labels: &[""] },
    Known { name: "downloads-waiting", grows: false, labels: &["blind", "busy", "heat"] },
    growing("readers", &["failed", "started"]),
    Known { name: "readers-held", grows: false, labels: &["landlock", "seccomp"] },
];

/// Values by measure and label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Figures(BTreeMap<&'static str, BTreeMap<&'static str, u64>>);

impl Figures {
    /// With what a report says on top; what is not known is left out.
    pub(crate) fn plus(&self, report: &[Figure]) -> Self {
        let mut sum = self.clone();
        for figure in report {
            let Some(known) = KNOWN.iter().find(|known| known.name == figure.name) else {
                continue;
            };
            let label = known.labels.iter().find(|label| **label == figure.label);
            let Some(label) = label else { continue };
            let value = sum.0.entry(known.name).or_default().entry(label).or_default();
            *value = value.saturating_add(figure.value);
        }
        sum
    }

    /// What stays when the agent's process has ended.
    pub(crate) fn after_life(mut self) -> Self {
        self.0.retain(|name, _| KNOWN.iter().any(|known| known.name == *name && known.grows));
        self
    }

    /// As an agent would report it.
    pub(crate) fn to_report(&self) -> Vec<Figure> {
        let all = self.0.iter().flat_map(|(name, labels)| labels.iter().map(move |of| (*name, of)));
        all.map(|(name, (label, value))| Figure {
            name: name.to_owned(),
            label: (*label).to_owned(),
            value: *value,
        })
        .collect()
    }

    /// Whether any agent reported the measure.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// One value.
    pub(crate) fn get(&self, name: &str, label: &str) -> u64 {
        self.0.get(name).and_then(|labels| labels.get(label)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, label: &str, value: u64) -> Figure {
        Figure { name: name.to_owned(), label: label.to_owned(), value }
    }

    #[test]
    fn what_grows_survives_the_process_and_what_is_made_up_is_left_out() {
        let first = Figures::default().plus(&[
            figure("transactions", "committed", 3),
            figure("watched", "", 2),
            figure("transactions", "invented", 9),
            figure("invented", "committed", 9),
        ]);
        assert_eq!((first.get("transactions", "committed"), first.get("watched", "")), (3, 2));
        assert_eq!(first.to_report().len(), 2);
        let second = first.after_life().plus(&[figure("transactions", "committed", 1)]);
        assert_eq!((second.get("transactions", "committed"), second.get("watched", "")), (4, 0));
        let absurd = second.plus(&[figure("transactions", "committed", u64::MAX)]);
        assert_eq!(absurd.get("transactions", "committed"), u64::MAX);
    }
}
