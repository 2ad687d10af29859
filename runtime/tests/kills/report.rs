//! The table of all deaths: point, who dies, what was checked, how long until nothing was left of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// What came of one death.
pub(crate) struct Row {
    pub(crate) point: &'static str,
    pub(crate) who: &'static str,
    pub(crate) checked: &'static str,
    pub(crate) recovery: Duration,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Table {
    /// By order of first appearance.
    rows: Vec<(&'static str, &'static str, &'static str)>,
    times: BTreeMap<(&'static str, &'static str), Vec<Duration>>,
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        let Row { point, who, checked, recovery } = row;
        if !self.times.contains_key(&(point, who)) {
            self.rows.push((point, who, checked));
        }
        self.times.entry((point, who)).or_default().push(recovery);
    }

    /// How many points somebody died at.
    pub(crate) fn points(&self) -> usize {
        let mut points: Vec<_> = self.rows.iter().map(|row| row.0).collect();
        points.sort_unstable();
        points.dedup();
        points.len()
    }

    /// Shows it, past whatever captures the output of tests.
    pub(crate) fn print(&self, title: &str) {
        let mut text = format!("\n{title}\n");
        text += &format!("{:<26} {:<20} {:>9}  checked\n", "point", "who dies", "recovery");
        for (point, who, checked) in &self.rows {
            let mut times = self.times[&(*point, *who)].clone();
            times.sort_unstable();
            let median = times[times.len() / 2];
            let milliseconds = median.as_secs_f64() * 1e3;
            text += &format!("{point:<26} {who:<20} {milliseconds:>6.1} ms  {checked}\n");
        }
        let deaths: usize = self.times.values().map(Vec::len).sum();
        text += &format!(
            "{} points, {} cases, {deaths} deaths; recovery is the median\n",
            self.points(),
            self.rows.len()
        );
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}
