//! Every bound of the Packager, with its unit and its reason.
//!
//! Whatever a registry, an archive, a manifest or a peer sends is written by an attacker until proven
//! otherwise; nothing here may be exceeded silently: the operation fails and names the bound.

/// Bytes that one archive may unpack to. The largest honest wheels (machine learning with its libraries) unpack to about
/// 4 GiB.
pub const ARCHIVE_UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// Bytes of one unpacked file. The largest honest one is a shared library of about 2 GiB.
pub const ARCHIVE_FILE_BYTES_MAX: u64 = 8 << 30;
/// Entries of one archive. The largest honest packages have about 100,000 files.
pub const ARCHIVE_ENTRIES_MAX: usize = 500_000;
/// Unpacked bytes per packed byte, once more than [`ARCHIVE_RATIO_FREE_BYTES`] came out. Deflate can reach 1,032;
/// honest packages stay below 100.
pub const ARCHIVE_RATIO_MAX: u64 = 250;
/// Unpacked bytes below which no ratio is judged: a small archive may well hold one long run of zeros.
pub const ARCHIVE_RATIO_FREE_BYTES: u64 = 64 << 20;
/// Bytes of a path inside an archive; with the place of the environment in front it must stay below `PATH_MAX`, 4,096.
pub const ARCHIVE_PATH_BYTES_MAX: usize = 2_048;
/// Bytes of one component of a path: what Linux file systems can name.
pub const ARCHIVE_COMPONENT_BYTES_MAX: usize = 255;
/// Components of a path. Bundled dependencies of npm packages nest the deepest, to about 40.
pub const ARCHIVE_DEPTH_MAX: usize = 128;
/// Bytes of one extension header of a tar archive; it holds a path and a few numbers.
pub const TAR_EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Bytes of the directory of a zip archive: [`ARCHIVE_ENTRIES_MAX`] entries with names of ordinary length.
pub const ZIP_DIRECTORY_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a description inside a package that is read as a whole (`package.json`, `METADATA`, `WHEEL`, `entry_points.txt`).
pub const PACKAGE_DESCRIPTION_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a `RECORD`: about 150 per file.
pub const RECORD_BYTES_MAX: u64 = 128 << 20;
/// Bytes of one entry of the store's index: what [`ARCHIVE_ENTRIES_MAX`] files with ordinary names need.
pub const STORE_INDEX_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a file that are moved through memory in one piece; larger files are copied by the kernel or in pieces.
pub const COPY_WHOLE_BYTES_MAX: u64 = 256 << 10;
/// Files that one worker takes from the list at a time: enough to make the shared counter free, few enough that the
/// last worker is not left alone with a large share.
pub const COPY_BATCH_FILES_MAX: usize = 64;
/// Workers of one copying job; more do not help a disk.
pub const COPY_WORKERS_MAX: usize = 64;
/// Age in seconds after which an unfinished file of the store belongs to a process that died.
pub const STORE_TEMPORARY_AGE_SECONDS_MAX: u64 = 24 * 60 * 60;
/// Seconds to wait for cargo's own lock before giving up: a cold cargo fetch of a large project holds it for about a minute.
pub const CARGO_LOCK_WAIT_SECONDS_MAX: u64 = 120;
/// Bytes of a first line (`#!...`) that the kernel reads, its end included.
pub const SHEBANG_BYTES_MAX: usize = 127;
/// Levels of directories that a copy or a walk of an existing environment follows.
pub const TREE_DEPTH_MAX: usize = 200;

const _: () = assert!(ARCHIVE_FILE_BYTES_MAX <= ARCHIVE_UNPACKED_BYTES_MAX);
const _: () = assert!(ARCHIVE_COMPONENT_BYTES_MAX <= ARCHIVE_PATH_BYTES_MAX);
const _: () = assert!(ARCHIVE_PATH_BYTES_MAX < 4_096);
