//! What bounds the work on one version and one range.

/// Bytes of one version, in families that set no bound themselves. The longest in use have a few hundred; every reader
/// here is linear in the length, so the bound is about memory, and exact comparison of absurd numbers stays possible.
pub const VERSION_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one range. The longest in use (npm's peer ranges with many alternatives) stay below 1 KiB.
pub const RANGE_BYTES_MAX: usize = 8 * 1024;

/// Comparators of one range; bounds the work of a membership test.
pub const RANGE_COMPARATORS_MAX: usize = 1024;

/// Bytes of one npm version. npm's own library refuses longer ones, so nothing real is lost.
pub const NPM_VERSION_BYTES_MAX: usize = 256;

/// The largest number in an npm version: what a JavaScript number holds exactly. Same bound as npm's library.
pub const NPM_VERSION_NUMBER_MAX: u64 = 9_007_199_254_740_991;

/// The largest epoch of a Debian version: dpkg keeps it in a C `int`.
pub const DEBIAN_EPOCH_MAX: u64 = 2_147_483_647;

/// The largest number in a NuGet version: .NET keeps each in an `int`.
pub const NUGET_NUMBER_MAX: u64 = 2_147_483_647;

/// Digits of the first number of a Composer version; longer ones are dates or nothing.
pub const COMPOSER_MAJOR_DIGITS_MAX: usize = 5;

/// Characters of a foreign text that a message shows.
pub const SHOWN_CHARS_MAX: usize = 80;
