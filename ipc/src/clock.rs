//! The time of day for stamps on messages, without asking the kernel each time.
//!
//! Asking costs 30 ns, half of it because the processor waits until everything before it is done. [`Clock`] reads the processor's
//! counter instead, which waits for nothing, and asks the kernel a hundred times a second how counter and time belong
//! together. It is used only where the kernel itself goes by that counter, which it does when it found the counter steady and the
//! same on all processors; elsewhere every reading asks. Readings of two clocks differ by some tens of nanoseconds at most.
//! Not for waiting until a deadline, whose time runs on while nobody looks.
//! A [`Span`] is for a promise that may end early and never late.
#![allow(unsafe_code, reason = "reading the processor's counter is an intrinsic")]

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use crate::futex;

/// Between two questions to the kernel: the error of the rate, some millionths, stays below a cache line's way.
const REFRESH_NS: u64 = 10_000_000;
/// Two readings at least so far apart give a rate.
const RATE_NS_MIN: u64 = 1_000_000;
/// Farther apart, a step of the clock in between would count as its rate.
const RATE_NS_MAX: u64 = 1_000_000_000;
/// Asking lasts a hundred ticks; where it lasted longer than this, something came in between, and counter and time do not belong
/// together.
const ASKING_TICKS_MAX: u64 = 2_000;
/// A span by the counter is shorter than one by the kernel's clock by one part in so many: more than the rate of either changes
/// in between, and enough for a rate that was measured badly once.
const SPAN_SHARE: u64 = 16;
/// The bits behind the point of a rate.
const RATE_BITS: u32 = 32;
/// A clock that differs from what the rate says by more than one in so many was set, or the rate is wrong: the kernel steers its clock
/// by half of that at most.
const RATE_CHANGE_MAX: u64 = 1_000;
/// Beside that, the error of two readings.
const READING_NS_MAX: u64 = 2_000;
/// Rates between these are a counter's, of 62 MHz to 16 GHz. A slower one would overflow a product, and is no faster to read than
/// the kernel is to ask; what seems faster was measured while the clock was set back.
const RATE_MIN: u64 = 1 << (RATE_BITS - 4);
/// See above.
const RATE_MAX: u64 = 16 << RATE_BITS;

/// A clock of one thread.
#[derive(Debug)]
pub struct Clock {
    known: Cell<Known>,
    /// A moment of the kernel's monotonic clock, and what this clock said then.
    pair: Cell<Option<(Instant, u64)>>,
    /// What the kernel says.
    kernel_ns: fn() -> u64,
}

/// A span of time of which is known, without asking the kernel, that it is not over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    began_ticks: u64,
    /// None where the counter cannot tell.
    ticks: u64,
}

/// How counter and time belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// When the kernel was asked last.
    base_ticks: u64,
    base_ns: u64,
    /// Nanoseconds per tick; 0 while unknown.
    rate: u64,
    /// As long as fewer ticks went by, the kernel is not asked; 0 while the rate is unknown.
    refresh_ticks: u64,
}

impl Clock {
    /// One that asks the kernel for some readings first.
    pub fn new() -> Self {
        // Looks that up now rather than at the first reading.
        is_counter_trusted();
        Self { known: Cell::default(), pair: Cell::default(), kernel_ns: time_of_day_ns }
    }

    /// The kernel's monotonic time instead, which is never set.
    pub fn monotonic() -> Self {
        Self { kernel_ns: futex::monotonic_ns, ..Self::new() }
    }

    /// What the kernel says, and a span that is over before so many nanoseconds have passed since then; at once while the
    /// counter's rate is not known.
    pub(crate) fn begin(&self, ns: u64) -> (u64, Span) {
        let began_ticks = ticks();
        let now_ns = self.ask();
        let ns = ns - ns / SPAN_SHARE;
        let ticks = (ns << RATE_BITS).checked_div(self.known.get().rate).unwrap_or(0);
        (now_ns, Span { began_ticks, ticks })
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        let known = self.known.get();
        let since = ticks().wrapping_sub(known.base_ticks);
        if since < known.refresh_ticks {
            // Fits: the refresh bounds the product, which is nanoseconds with the bits of a rate behind the point.
            return known.base_ns + ((since * known.rate) >> RATE_BITS);
        }
        self.ask()
    }

    /// How long ago `sent_ns` was, and 0 where that lies ahead: clocks are set back now and then.
    #[inline]
    pub fn since_ns(&self, sent_ns: u64) -> u64 {
        self.now_ns().saturating_sub(sent_ns)
    }

    /// What this clock says, or would say, at `moment`. `now_ns` is a reading that was just taken. Asks the kernel for the
    /// monotonic time as often as for the other, and not each time.
    #[inline]
    pub(crate) fn at(&self, moment: Instant, now_ns: u64) -> u64 {
        // Also where the clock was set back.
        let is_old = |ns: u64| now_ns.wrapping_sub(ns) > REFRESH_NS;
        let (known, known_ns) = match self.pair.get().filter(|(_, ns)| !is_old(*ns)) {
            Some(pair) => pair,
            None => {
                let pair = (Instant::now(), now_ns);
                self.pair.set(Some(pair));
                pair
            }
        };
        match moment.checked_duration_since(known) {
            Some(later) => known_ns.saturating_add(nanoseconds(later)),
            None => known_ns.saturating_sub(nanoseconds(known.duration_since(moment))),
        }
    }

    #[cold]
    #[inline(never)]
    fn ask(&self) -> u64 {
        let before = ticks();
        let now_ns = (self.kernel_ns)();
        let lasted = ticks().wrapping_sub(before);
        if is_counter_trusted() && lasted <= ASKING_TICKS_MAX {
            let mut known = self.known.get();
            known.take_in(before + lasted / 2, now_ns);
            self.known.set(known);
        }
        now_ns
    }
}

impl Known {
    /// Counter and time belong together; what that says of the rate.
    fn take_in(&mut self, ticks: u64, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.base_ns);
        let passed_ticks = ticks.wrapping_sub(self.base_ticks);
        if self.is_contradicted(passed_ticks, passed_ns) {
            // Which of the two it was shows only when a rate is measured anew, which takes a millisecond.
            *self = Self { base_ticks: ticks, base_ns: now_ns, ..Self::default() };
            return;
        }
        if (RATE_NS_MIN..=RATE_NS_MAX).contains(&passed_ns) && passed_ticks != 0 {
            let rate = (u128::from(passed_ns) << RATE_BITS) / u128::from(passed_ticks);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            self.rate = if (RATE_MIN..RATE_MAX).contains(&rate) { rate } else { 0 };
        } else if (1..=now_ns).contains(&self.base_ns) && passed_ns < RATE_NS_MIN {
            // Too early for a rate; the reading from which one will be known stays.
            return;
        }
        (self.base_ticks, self.base_ns) = (ticks, now_ns);
        self.refresh_ticks = (REFRESH_NS << RATE_BITS).checked_div(self.rate).unwrap_or(0);
    }

    /// Whether the kernel's clock has gone otherwise than the rate says.
    fn is_contradicted(&self, passed_ticks: u64, passed_ns: u64) -> bool {
        let expected = (u128::from(passed_ticks) * u128::from(self.rate)) >> RATE_BITS;
        let allowed = passed_ns / RATE_CHANGE_MAX + READING_NS_MAX;
        self.rate != 0 && expected.abs_diff(passed_ns.into()) > allowed.into()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Span {
    /// Whether it is certainly not over. Once a fence has made sure that something can be seen, it could be seen at the time to which
    /// this answer belongs.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        ticks_in_order().wrapping_sub(self.began_ticks) < self.ticks
    }
}

/// The time of day, as the kernel says; in 64 bits, which hold it for centuries and are faster than the 128 of `as_nanos`.
pub(crate) fn time_of_day_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs().wrapping_mul(1_000_000_000).wrapping_add(now.subsec_nanos().into())
}

/// In 64 bits, as [`time_of_day_ns`].
fn nanoseconds(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(duration.subsec_nanos().into())
}

/// Whether the kernel goes by the processor's counter itself. Looked up once.
fn is_counter_trusted() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let has_counter = cfg!(all(target_arch = "x86_64", not(miri)));
        has_counter && std::fs::read_to_string(SOURCE).is_ok_and(|source| source.trim() == "tsc")
    })
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; a kernel that forbids it to programs does not go by it in its own
    // library either, and Linux allows it unless a program asked otherwise for itself.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The same, but not before everything that comes before it is done.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn ticks_in_order() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, which only waits.
    unsafe { std::arch::x86_64::_mm_lfence() };
    ticks()
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn ticks() -> u64 {
    0
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn ticks_in_order() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three ticks per nanosecond.
    fn reading(known: &mut Known, ns: u64) {
        known.take_in(ns * 3, 1_000_000_000_000 + ns);
    }

    #[test]
    fn it_goes_with_the_kernels_clock() {
        let clock = Clock::new();
        let until = time_of_day_ns() + 5 * REFRESH_NS;
        loop {
            let (before, now, after) = (time_of_day_ns(), clock.now_ns(), time_of_day_ns());
            assert!(now + 100_000 >= before && now <= after + 100_000, "{before} {now} {after}");
            if after > until {
                break;
            }
        }
    }

    #[test]
    fn a_rate_is_known_after_a_while_and_a_step_of_the_clock_is_none() {
        let mut known = Known::default();
        reading(&mut known, 0);
        reading(&mut known, RATE_NS_MIN - 1);
        assert_eq!((known.rate, known.refresh_ticks), (0, 0), "too early");
        reading(&mut known, RATE_NS_MIN);
        let rate = known.rate;
        assert_eq!(rate, (1 << RATE_BITS) / 3);
        assert!(known.refresh_ticks.abs_diff(3 * REFRESH_NS) < 10);
        reading(&mut known, RATE_NS_MIN + REFRESH_NS);
        assert_eq!(known.rate, rate);
        // Half a second forward in a hundredth of one.
        known.take_in(3 * (RATE_NS_MIN + 2 * REFRESH_NS), 1_000_500_000_000);
        assert_eq!((known.refresh_ticks, known.base_ns), (0, 1_000_500_000_000));
        // And back.
        known.take_in(3 * (RATE_NS_MIN + 3 * REFRESH_NS), 1_000_000_000_000);
        assert_eq!((known.refresh_ticks, known.base_ns), (0, 1_000_000_000_000));
        known.take_in(3 * (RATE_NS_MIN + 4 * REFRESH_NS), 1_000_000_000_000 + REFRESH_NS);
        assert_eq!(known.rate, rate);
    }

    #[test]
    fn a_rate_that_was_measured_while_the_clock_was_set_does_not_last() {
        // The clock is set forward or back before the first rate is known.
        for (first_ns, step_ns) in [(REFRESH_NS, 100_000_000), (100_000_000, -50_000_000i64)] {
            let mut known = Known::default();
            known.take_in(0, 1_000_000_000_000);
            let mut at = first_ns;
            let clock = |at: u64| (1_000_000_000_000 + at).wrapping_add_signed(step_ns);
            known.take_in(3 * at, clock(at));
            assert!(known.rate != 0 && known.rate.abs_diff((1 << RATE_BITS) / 3) > 1_000, "wrong");
            for _ in 0..4 {
                at += (known.refresh_ticks / 3).max(RATE_NS_MIN);
                known.take_in(3 * at, clock(at));
            }
            assert!(known.rate.abs_diff((1 << RATE_BITS) / 3) < 1_000, "{known:?}");
        }
    }

    #[test]
    fn a_span_is_over_before_the_kernels_clock_says_so() {
        const NS: u64 = 200_000;
        let clock = Clock::monotonic();
        assert!(!Span::default().is_running(), "none has begun");
        let until = futex::monotonic_ns() + 3 * REFRESH_NS;
        let mut ran = 0;
        loop {
            let (began_ns, span) = clock.begin(NS);
            while span.is_running() {
                ran += 1;
            }
            while futex::monotonic_ns() < began_ns + NS {}
            assert!(!span.is_running(), "it lasted longer than it may");
            if began_ns > until {
                break;
            }
        }
        assert!(ran > 0 || !is_counter_trusted(), "a known rate gives spans");
    }

    #[test]
    fn the_longest_interval_of_the_slowest_counter_does_not_overflow() {
        let rate = RATE_MAX - 1;
        let ticks = (REFRESH_NS << RATE_BITS) / rate;
        assert!(ticks.checked_mul(rate).is_some());
    }

    #[test]
    fn a_moment_has_the_time_that_this_clock_says_then_also_after_it_was_set() {
        let clock = Clock::new();
        // As it is, set ahead and set back by an hour.
        for reading_ns in [7_200_000_000_000, 10_800_000_000_000, 3_600_000_000_000] {
            let before = Instant::now();
            let said = clock.at(before, reading_ns);
            assert!(said <= reading_ns, "it asked after that moment");
            let later = before + Duration::from_secs(5);
            assert_eq!(clock.at(later, reading_ns), said + 5_000_000_000);
            assert_eq!(clock.at(later, reading_ns + REFRESH_NS), said + 5_000_000_000);
            assert!(clock.at(Instant::now(), reading_ns) >= reading_ns);
        }
        let known = clock.pair.get();
        clock.at(Instant::now(), 3_600_000_000_000 + REFRESH_NS + 1);
        assert_ne!(clock.pair.get(), known, "it asks again after a while");
    }
}
