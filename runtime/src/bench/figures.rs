//! Figures by name, a value for each round, and what a report says of them: the median, and the least and the greatest beside it.
//!
//! A name is a path in the report with dots between its words, the last word says the unit. Not here: what is measured.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::median;

/// One value of one figure.
pub(super) type Figure = (String, f64);

/// The values of all figures so far.
#[derive(Debug, Default)]
pub(super) struct Figures {
    values: BTreeMap<String, Vec<f64>>,
}

impl Figures {
    /// Takes in what one round found.
    pub(super) fn add(&mut self, round: impl IntoIterator<Item = Figure>) {
        for (path, value) in round {
            self.values.entry(path).or_default().push(value);
        }
    }

    /// Writes each median to its place in the report, and the extremes under `spread` beside it.
    pub(super) fn write(&self, report: &mut Value) {
        for (path, values) in &self.values {
            let Some(middle) = median(values.clone()) else { continue };
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
            let parent = at(report, parent);
            parent[name] = json!(tidy(middle));
            parent["spread"][name] = json!([tidy(least), tidy(greatest)]);
        }
    }
}

/// Says of figures that were not measured why; one that has a value keeps it.
pub(super) fn write_absent(report: &mut Value, paths: &[&str], why: &str) {
    for path in paths {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = at(report, parent);
        if parent[name].is_null() {
            parent[name] = Value::Null;
            parent["why"][name] = json!(why);
        }
    }
}

/// The object at a path, made where it is not there.
pub(super) fn at<'a>(report: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').filter(|word| !word.is_empty()).fold(report, |place, word| &mut place[word])
}

/// Ratios keep three digits after the point, everything else one: more is noise.
fn tidy(value: f64) -> f64 {
    let scale = if value.abs() < 10.0 { 1e3 } else { 1e1 };
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_its_place_and_the_extremes_beside_it() {
        let mut figures = Figures::default();
        for value in [30.0, 10.0, 20.0] {
            figures.add([("a.b.p50_ns".to_owned(), value)]);
        }
        let mut report = json!({"schema": "x"});
        figures.write(&mut report);
        write_absent(&mut report, &["a.b.p50_ns", "a.c_ns"], "not here");
        let expected = json!({
            "schema": "x",
            "a": {
                "b": {"p50_ns": 20.0, "spread": {"p50_ns": [10.0, 30.0]}},
                "c_ns": null,
                "why": {"c_ns": "not here"},
            },
        });
        assert_eq!(report, expected);
    }
}
