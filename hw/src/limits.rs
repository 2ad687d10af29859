//! Every bound on what is read of the machine, with its unit and its reason.

use std::time::Duration;

/// Bytes read from one file: sysfs gives a page; the longest we need is a list of thousands of CPUs, one by one.
pub const FILE_BYTES_MAX: usize = 16 * 1024;

/// CPU numbers at or above this are refused: the kernel's own `CONFIG_NR_CPUS` maximum on x86-64 is 8,192.
pub const CPU_NUMBER_MAX: usize = 8192;

/// Entries looked at in one directory: hwmon and thermal have a few dozen on the largest servers; of CPUs, which are
/// more, the kernel's lists are read instead.
pub const DIRECTORY_ENTRIES_MAX: usize = 512;

/// Caches looked at per CPU: two of level 1, one of each further level; no processor has more than four levels.
pub const CACHES_PER_CPU_MAX: usize = 8;

/// Files kept while recording: about twenty for each of 8,192 CPUs.
pub const RECORDED_FILES_MAX: usize = 200_000;

/// Bytes read of the list of what refused to be read in a recorded tree: some thousand lines.
pub const REFUSED_BYTES_MAX: usize = 256 * 1024;

/// Levels of control groups walked from a process's own to the top; the kernel's default bound on depth is higher,
/// real trees have less than ten.
pub const CGROUP_LEVELS_MAX: usize = 32;

/// Degrees Celsius below which a reading is not a temperature of a running processor (-274, -44 and 0 occur).
pub const CELSIUS_MIN: f64 = 5.0;

/// Degrees Celsius above which a reading is not a temperature of a running processor (65261.8 occurs).
pub const CELSIUS_MAX: f64 = 127.0;

/// Age above which the last good reading says nothing about now.
pub const READING_AGE_MAX: Duration = Duration::from_secs(3);

/// Time between searches for a sensor that stopped answering.
pub const SENSOR_SEARCH_EVERY: Duration = Duration::from_secs(10);

/// Consecutive bad readings after which the sensor is searched again.
pub const BAD_READS_MAX: usize = 5;

/// Degrees Celsius between which a critical temperature is believed: -274 and 20.8 occur, and so does 65261.8. No processor
/// protects itself below the first, and to believe one that says so would keep a machine that is well throttled for good; not to
/// believe it costs nothing, because thresholds then are as they are configured and the firmware is heard all the same.
pub const CRITICAL_CELSIUS_MIN: f64 = 70.0;

/// See [`CRITICAL_CELSIUS_MIN`].
pub const CRITICAL_CELSIUS_MAX: f64 = 130.0;

/// Watts above which a power limit or a mean power is not believed: 4,090 occurs as a limit on a laptop, the largest
/// packages draw 500.
pub const PACKAGE_WATTS_MAX: f64 = 1000.0;

const _: () = assert!(CELSIUS_MIN < CELSIUS_MAX && CRITICAL_CELSIUS_MIN < CRITICAL_CELSIUS_MAX);
