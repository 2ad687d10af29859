//! Every bound on what is read of the machine, with its unit and its reason.

/// Bytes read from one sysfs file: a page is what the kernel gives, the longest we need is a CPU list.
pub const SYSFS_FILE_BYTES_MAX: usize = 4096;

/// CPU numbers at or above this are refused: the kernel's own `CONFIG_NR_CPUS` maximum on x86-64 is 8,192.
pub const CPU_NUMBER_MAX: usize = 8192;

/// Entries looked at in one sysfs directory: hwmon and thermal have a few dozen on the largest servers.
pub const SYSFS_ENTRIES_MAX: usize = 512;

/// Millidegrees below which a reading is not a temperature of a running processor (notes: -274 C, 0 C, -44 C occur).
pub const CELSIUS_MIN: f64 = 5.0;

/// Degrees above which a reading is not a temperature of a running processor (65261.8 C occurs).
pub const CELSIUS_MAX: f64 = 127.0;
