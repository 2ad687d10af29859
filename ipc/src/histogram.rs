//! Histograms of one-way times: which bucket a time belongs to, and what follows from the counts.
//!
//! Pure arithmetic. Not here: the cells in a cursor segment (`layout`), who fills them (`lane`), the clock's place on the wire.
//!
//! Buckets are log-linear: one for everything under 32 ns, then eight of equal width for each power of two up to 2^34 ns
//! (17.2 s), then one for the rest. A time between 50 ns and 10 s is therefore known within an eighth of its value
//! whichever end of its bucket stands for it, and within a sixteenth by the middle, which is what quantiles give.

use std::time::SystemTime;

use crate::limits::{LATENCY_EXPONENT_MAX, LATENCY_EXPONENT_MIN, LATENCY_SAMPLE_NS_MAX};

#[cfg(test)]
mod tests;

/// Buckets per power of two, as a power of two.
const STEPS_EXPONENT: u32 = 3;
const STEPS: usize = 1 << STEPS_EXPONENT;

/// How many buckets there are.
pub const BUCKETS: usize = 2 + (LATENCY_EXPONENT_MAX - LATENCY_EXPONENT_MIN) as usize * STEPS;

const _: () = assert!((BUCKETS + 1) * 8 <= 2_048, "counts and sum fill at most half a page");
const _: () = assert!(1 << LATENCY_EXPONENT_MIN <= 50, "50 ns lies in a bucket of its own size");
const _: () = assert!(1u64 << LATENCY_EXPONENT_MAX >= 10_000_000_000, "and so does 10 s");

/// The bucket of a time.
#[inline]
pub fn bucket_of(time_ns: u64) -> usize {
    if time_ns < 1 << LATENCY_EXPONENT_MIN {
        return 0;
    }
    let exponent = time_ns.ilog2();
    if exponent >= LATENCY_EXPONENT_MAX {
        return BUCKETS - 1;
    }
    let step = (time_ns >> (exponent - STEPS_EXPONENT)) as usize & (STEPS - 1);
    1 + (exponent - LATENCY_EXPONENT_MIN) as usize * STEPS + step
}

/// The least time of a bucket; of the one after the last: the largest number.
pub fn least_ns(bucket: usize) -> u64 {
    match bucket {
        0 => 0,
        BUCKETS.. => u64::MAX,
        _ => {
            let exponent = LATENCY_EXPONENT_MIN + ((bucket - 1) / STEPS) as u32;
            let step = ((bucket - 1) % STEPS) as u64;
            (STEPS as u64 + step) << (exponent - STEPS_EXPONENT)
        }
    }
}

/// How long ago `sent_ns` was by this machine's clock, and 0 where that lies ahead: clocks are set back now and then.
#[inline]
pub fn since_ns(sent_ns: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // In 64 bits, which hold it for centuries and are faster than the 128 of `as_nanos`.
    let now_ns = now.as_secs().wrapping_mul(1_000_000_000).wrapping_add(now.subsec_nanos().into());
    now_ns.saturating_sub(sent_ns)
}

/// Counts by bucket, and the sum of what was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Histogram {
    /// What was read somewhere; any values are taken.
    pub fn from_parts(counts: [u64; BUCKETS], sum_ns: u64) -> Self {
        Self { counts, sum_ns }
    }

    /// Counts one time.
    pub fn record(&mut self, time_ns: u64) {
        let count = &mut self.counts[bucket_of(time_ns)];
        *count = count.saturating_add(1);
        self.sum_ns = self.sum_ns.saturating_add(time_ns.min(LATENCY_SAMPLE_NS_MAX));
    }

    /// By bucket.
    pub fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Their sum; each counts as `LATENCY_SAMPLE_NS_MAX` at most.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// How many were shorter than the bucket's least time.
    pub fn count_before(&self, bucket: usize) -> u64 {
        let counts = &self.counts[..bucket.min(BUCKETS)];
        counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time that `share` of all stay within (0.5 for the median), as the middle of its bucket; nothing where nothing was
    /// counted. The last bucket has no middle, its least time stands for it.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // Rounded up, so that the share holds; at least the first.
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut before = 0u64;
        let reaches = |bucket_count: &u64| {
            before = before.saturating_add(*bucket_count);
            before >= rank
        };
        let bucket = self.counts.iter().position(reaches)?;
        let (least, next) = (least_ns(bucket), least_ns(bucket + 1));
        Some(if bucket == BUCKETS - 1 { least } else { least + (next - least) / 2 })
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, other) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*other);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Takes over what is larger in another reading of the same cells: what was shown once never sinks, whatever whoever
    /// writes them does.
    pub fn raise_to(&mut self, other: &Self) {
        for (mine, other) in self.counts.iter_mut().zip(&other.counts) {
            *mine = (*mine).max(*other);
        }
        self.sum_ns = self.sum_ns.max(other.sum_ns);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_ns: 0 }
    }
}
