//! The times of one round, as percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest time that keeps its size; a longer one counts as this one.
const TIME_MAX_NS: u64 = 10_000_000_000;
/// Digits that are kept of each time, as in `bolide bench bus`.
const DIGITS: u8 = 3;

/// Times of one round.
#[derive(Debug)]
pub struct Times(Histogram<u64>);

impl Times {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, TIME_MAX_NS, DIGITS)?))
    }

    /// One more.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_nanos() as u64);
    }

    /// Of times there and back: half of each.
    pub fn one_way(&self) -> Value {
        self.figures(2.0)
    }

    /// Of times until an acknowledgement: the whole.
    pub fn whole(&self) -> Value {
        self.figures(1.0)
    }

    fn figures(&self, parts: f64) -> Value {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / parts;
        json!({
            "messages": self.0.len(),
            "p50_ns": at(0.5),
            "p99_ns": at(0.99),
            "p999_ns": at(0.999),
        })
    }
}
