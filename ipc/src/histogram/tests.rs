//! The buckets: no gap, no overlap, the promised error; and what is made of the counts.

use proptest::prelude::*;

use super::*;

/// Every magnitude as often as every other.
fn any_time() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
}

proptest! {
    #[test]
    fn a_time_lies_within_its_bucket(time in any_time()) {
        let bucket = bucket_of(time);
        prop_assert!(bucket < BUCKETS);
        prop_assert!(least_ns(bucket) <= time);
        prop_assert!(time < least_ns(bucket + 1) || bucket == BUCKETS - 1);
    }

    #[test]
    fn buckets_keep_the_order_of_times(one in any_time(), other in any_time()) {
        let (small, large) = (one.min(other), one.max(other));
        prop_assert!(bucket_of(small) <= bucket_of(large));
    }

    #[test]
    fn both_ends_of_a_bucket_are_within_an_eighth(time in 50u64..10_000_000_000) {
        let bucket = bucket_of(time);
        let (least, most) = (least_ns(bucket), least_ns(bucket + 1) - 1);
        prop_assert!((time - least) * 8 <= time);
        prop_assert!((most - time) * 8 <= time);
    }

    #[test]
    fn a_quantile_is_near_the_true_one(
        mut times in prop::collection::vec(50u64..10_000_000_000, 1..200),
        share in 0.0f64..=1.0,
    ) {
        let mut histogram = Histogram::default();
        times.iter().for_each(|time| histogram.record(*time));
        times.sort_unstable();
        let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len());
        let (exact, shown) = (times[rank - 1], histogram.quantile_ns(share).unwrap());
        prop_assert!(exact.abs_diff(shown) * 8 <= exact, "{exact} shown as {shown}");
    }

    #[test]
    fn sums_are_what_counting_together_gives(
        first in prop::collection::vec(any_time(), 0..50),
        second in prop::collection::vec(any_time(), 0..50),
    ) {
        let counted = |times: &[u64]| {
            let mut histogram = Histogram::default();
            times.iter().for_each(|time| histogram.record(*time));
            histogram
        };
        let mut sum = counted(&first);
        sum.add(&counted(&second));
        prop_assert_eq!(&sum, &counted(&[first.clone(), second].concat()));
        let mut raised = counted(&first);
        raised.raise_to(&sum);
        prop_assert_eq!(&raised, &sum);
        raised.raise_to(&counted(&first));
        prop_assert_eq!(&raised, &sum, "what was shown does not sink");
    }

    #[test]
    fn any_counts_are_taken(
        counts in prop::collection::vec(any::<u64>(), BUCKETS),
        sum in any::<u64>(),
    ) {
        let mut histogram = Histogram::from_parts(counts.try_into().unwrap(), sum);
        prop_assert!(histogram.quantile_ns(0.99).is_some());
        histogram.add(&histogram.clone());
        histogram.record(u64::MAX);
        prop_assert_eq!(histogram.count_before(BUCKETS), histogram.count());
    }
}

#[test]
fn the_buckets_meet() {
    for bucket in 1..BUCKETS {
        let least = least_ns(bucket);
        assert_eq!(bucket_of(least), bucket);
        assert_eq!(bucket_of(least - 1), bucket - 1);
    }
    assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    assert_eq!(least_ns(1), 1 << LATENCY_EXPONENT_MIN);
    assert_eq!(least_ns(BUCKETS - 1), 1 << LATENCY_EXPONENT_MAX);
}

#[test]
fn an_empty_histogram_has_no_quantile() {
    assert_eq!(Histogram::default().quantile_ns(0.5), None);
    assert_eq!(Histogram::default().count(), 0);
}

#[test]
fn a_time_ahead_of_the_clock_took_nothing() {
    assert_eq!(since_ns(u64::MAX), 0);
    assert!(since_ns(1) > 0);
}

#[test]
fn a_forged_send_time_cannot_spoil_the_sum() {
    let mut histogram = Histogram::default();
    histogram.record(u64::MAX);
    assert_eq!((histogram.count(), histogram.sum_ns()), (1, LATENCY_SAMPLE_NS_MAX));
}
