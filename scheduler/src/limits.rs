//! Every bound of the scheduler, with its unit and its reason.

use std::time::Duration;

/// Parallel jobs at which throughput per watt is best on the tuned machine; cut to the CPUs that may be used.
pub const JOBS_OPTIMAL: usize = 8;

/// Parallel jobs never exceeded: the physical cores of the largest tuned machine (6 P + 8 E + 2 LP-E).
pub const JOBS_MAX: usize = 16;

/// Pieces of one lane that wait for answers from elsewhere without leave to compute, each on its thread: of 32 calls at once one for each
/// of three ecosystems. One more waits with its leave.
pub const AWAY_MAX: usize = 96;

/// Threads of one lane: each of the admitted jobs has one, and the resolution that may exceed the slots by one, and each piece that
/// waits without leave, so that nothing that was admitted waits for a thread.
pub const LANE_WORKERS_MAX: usize = JOBS_MAX + 1 + AWAY_MAX;

/// Pieces of background work at once: nobody waits for them.
pub const BACKGROUND_MAX: usize = 1;

/// Transfers from networks at once, each of one file on a connection of its own: one stream does not fill a line, sixteen do.
pub const DOWNLOADS_MAX: usize = 16;

/// The same with the one that each requester may have where others hold all of those: sixteen requesters more, of at most thirty-two whose
/// calls an agent lets run and eight watched projects. Each costs a connection and a thread that waits.
pub const DOWNLOADS_ALL_MAX: usize = 2 * DOWNLOADS_MAX;

/// Requests that wait or run in one process: more callers than an agent's host lets in at once.
pub const REQUESTS_MAX: usize = 4096;

/// A request that waits rises by one priority after so long: the least urgent one passes a stream of the most urgent within half a minute.
pub const AGE_STEP: Duration = Duration::from_secs(2);

/// Longest time that heavy work waits for a cool machine, each for itself; then it begins. Background work waits as long, and then for
/// its turn.
pub const DEFER_MAX: Duration = Duration::from_secs(600);

/// How often somebody who waits looks whether his work is still wanted, where nobody tells him: work stops within 100 ms of being abandoned.
pub const CANCELLATION_INTERVAL: Duration = Duration::from_millis(50);

/// How often he looks who is told: the clock of the day, by which deadlines are, can be set. Never in this crate's tests, which hang where
/// somebody is not told.
pub const WANTED_INTERVAL: Duration = Duration::from_secs(if cfg!(test) { 3_600 } else { 5 });

/// A wait that is shorter is told to nobody: at the start of everything it takes a moment until somebody has decided.
pub const TOLD_AFTER: Duration = Duration::from_millis(50);

/// Stack of a worker: a resolution goes deep, and has as much where it runs on a thread of a call.
pub const WORKER_STACK_BYTES: usize = 4 * 1024 * 1024;

const _: () = assert!(JOBS_OPTIMAL <= JOBS_MAX && BACKGROUND_MAX <= LANE_WORKERS_MAX);
const _: () = assert!(DOWNLOADS_MAX >= 4, "of which a quarter runs where the firmware throttles");

/// Degrees Celsius between which a package temperature is believed; a running processor is neither colder nor hotter.
pub const CELSIUS_MIN: f64 = 5.0;
/// See [`CELSIUS_MIN`]; the greatest number that the sensor's seven bits make.
pub const CELSIUS_MAX: f64 = 127.0;

/// Degrees Celsius between which a threshold may be set: above a warm room, below what silicon survives.
pub const THRESHOLD_CELSIUS_MIN: f64 = 40.0;
/// See [`THRESHOLD_CELSIUS_MIN`].
pub const THRESHOLD_CELSIUS_MAX: f64 = 125.0;

/// Degrees Celsius between the begin and the end of a state, and between states: three steps of a sensor that rounds to 1 C.
pub const HYSTERESIS_CELSIUS_MIN: f64 = 3.0;

/// A value that is older tells nothing: a die follows its power within a second.
pub const READING_AGE_MAX: Duration = Duration::from_secs(3);

/// Bad reads in a row after which the sensor is lost, however close together.
pub const READINGS_BAD_MAX: u32 = 5;

/// Good reads in a row after which a lost sensor is believed again.
pub const READINGS_GOOD_MIN: u32 = 3;

/// For how long a sensor that is there and has not answered yet is awaited, with the slots of the start; then the machine counts as one
/// without. Drivers that come up late and caches that fill are over by then.
pub const SENSOR_AWAITED_MAX: Duration = Duration::from_secs(30);

/// Degrees Celsius by which a package does not cool down between two reads; the firmware's 27.8 C of a board sensor is that far off.
pub const FALL_CELSIUS_MAX: f64 = 40.0;

/// Between two steps longer than this the machine was suspended or the daemon stopped; what was learnt before is forgotten.
pub const STEP_GAP_MAX: Duration = Duration::from_secs(5);

/// A state is not left for a cooler one sooner.
pub const DWELL_MIN: Duration = Duration::from_secs(10);

/// Heavy work starts again only after it was cool for so long.
pub const HEAVY_DWELL_MIN: Duration = Duration::from_secs(10);

const _: () = assert!(CELSIUS_MIN < THRESHOLD_CELSIUS_MIN && THRESHOLD_CELSIUS_MAX < CELSIUS_MAX);
const _: () = assert!(READING_AGE_MAX.as_secs() < STEP_GAP_MAX.as_secs());

/// After its firmware throttled a machine without a sensor keeps to few slots for so long.
pub const FIRMWARE_QUIET_MIN: Duration = Duration::from_secs(600);
