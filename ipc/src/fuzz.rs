//! The harness of the fuzz targets, which are the modules named `fuzz` beside what they try.
//!
//! A target is a closure that gets a [`Chance`] and makes of it one input and everything that is checked of it. Every case has a
//! seed of its own, so one number repeats it. `cargo test` runs a fixed number of cases from a fixed start; `make fuzz` runs
//! for `BOLIDE_FUZZ_SECONDS` each from a start of its own; `BOLIDE_FUZZ_SEED` runs the one case of that seed. A failure, and a
//! case that does not end, print the seed. No instrumentation: inputs are valid ones that were changed where it matters.
//!
//! Not here: any target. The daemon's tests include this file as it is.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long to run each target, in seconds.
const SECONDS_VARIABLE: &str = "BOLIDE_FUZZ_SECONDS";
/// The one case to run, as a failure printed it.
const SEED_VARIABLE: &str = "BOLIDE_FUZZ_SEED";
/// A case that takes this long hangs: the slowest takes milliseconds.
const HANG_SECONDS: u64 = 60;
/// The longest that bytes grow by being changed.
const MUTATED_BYTES_MAX: usize = 80_000;

/// Choices that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Less than `bound`, or 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A number where programs go wrong: an edge, or close to one that means something here.
    pub(crate) fn number(&mut self, near: u64) -> u64 {
        let edge = match self.below(8) {
            0 => return self.next(),
            1 => 0,
            2 => u64::MAX,
            3 => 1 << self.below(64),
            4 => (1 << self.below(64)) - 1,
            5 => return self.below(4_096) as u64,
            _ => near,
        };
        edge.wrapping_add(self.below(5) as u64).wrapping_sub(2)
    }

    /// Changes bytes in some places: bits, whole numbers, lengths, the order and number of parts.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let rest = bytes.len() - at.min(bytes.len());
            match self.below(9) {
                0 if rest > 0 => bytes[at] ^= 1 << self.below(8),
                1 if rest > 0 => bytes[at] = *self.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
                width @ 2..=4 if rest >= 1 << (width - 1) => {
                    let width = 1 << (width - 1);
                    let field = &mut bytes[at..at + width];
                    let mut old = [0; 8];
                    old[..width].copy_from_slice(field);
                    let new = self.number(u64::from_le_bytes(old)).to_le_bytes();
                    field.copy_from_slice(&new[..width]);
                }
                5 => bytes.truncate(at),
                6 => {
                    let count = self.below(32);
                    let more = self.bytes(count);
                    bytes.splice(at..at, more);
                }
                7 => drop(bytes.drain(at..at + self.below(rest + 1))),
                8 => {
                    let part = bytes[at..at + self.below(rest + 1)].to_vec();
                    let to = self.below(bytes.len() + 1);
                    bytes.splice(to..to, part);
                }
                _ => {}
            }
        }
        bytes.truncate(MUTATED_BYTES_MAX);
    }
}

/// Runs a target: `cases` times in tests, or as the variables say.
pub(crate) fn fuzz(cases: u64, mut target: impl FnMut(&mut Chance)) {
    if let Some(seed) = variable(SEED_VARIABLE) {
        return target(&mut Chance(seed));
    }
    let seconds = variable(SECONDS_VARIABLE);
    // The keys of `RandomState` are the system's random numbers.
    let mut starts = Chance(if seconds.is_some() { RandomState::new().hash_one(0) } else { 0 });
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let watch = Watch::start();
    let mut count = 0;
    while end.map_or(count < cases, |end| Instant::now() < end) {
        let seed = starts.next();
        let named = NamedOnPanic(seed);
        watch.begin(seed);
        target(&mut Chance(seed));
        drop(named);
        count += 1;
    }
    if seconds.is_some() {
        println!("{count} cases");
    }
}

/// A decimal number, or a hexadecimal one after `0x`.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("`{name}` is no number: {text}")))
}

/// Prints the seed when its case panics.
struct NamedOnPanic(u64);

impl Drop for NamedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{SEED_VARIABLE}={:#018x} repeats this case", self.0);
        }
    }
}

/// Ends the process when a case does not end.
struct Watch(Arc<Watched>);

#[derive(Default)]
struct Watched {
    seed: AtomicU64,
    cases: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    fn start() -> Self {
        let watched = Arc::new(Watched::default());
        let watch = Self(Arc::clone(&watched));
        std::thread::spawn(move || {
            let (mut seen, mut since) = (0, Instant::now());
            while !watched.is_over.load(Ordering::Acquire) {
                std::thread::park_timeout(Duration::from_millis(200));
                let cases = watched.cases.load(Ordering::Acquire);
                if cases != seen {
                    (seen, since) = (cases, Instant::now());
                } else if since.elapsed() > Duration::from_secs(HANG_SECONDS) {
                    let seed = watched.seed.load(Ordering::Acquire);
                    eprintln!("{SEED_VARIABLE}={seed:#018x} hangs");
                    std::process::abort();
                }
            }
        });
        watch
    }

    fn begin(&self, seed: u64) {
        self.0.seed.store(seed, Ordering::Release);
        self.0.cases.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}
