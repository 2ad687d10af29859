//! Every bound of the Packager, with its unit and its reason.
//!
//! Whatever a registry, an archive, a manifest or a peer sends is written by an attacker until proven
//! otherwise; nothing here may be exceeded silently: the operation fails and names the bound.

/// Lines of the explanation of a conflict: a longer proof is not read by anybody, and is cut in the middle.
pub const EXPLANATION_LINES_MAX: usize = 60;

/// Repairs offered with a conflict: enough to choose from on one screen.
pub const REPAIRS_MAX: usize = 3;

/// Resolutions tried while looking for repairs; each may cost as much as the one that failed.
pub const REPAIR_ATTEMPTS_MAX: usize = 16;

/// Conflicts after which a package is decided before others: deciding the culprit early ends most long searches.
pub const CONFLICTS_UNTIL_EARLY: u32 = 5;

/// Versions of one package whose metadata is announced at once while a solver walks down its list.
pub const PREFETCH_VERSIONS_MAX: usize = 32;

/// Seconds that an interpreter may take to describe itself; a cold start from a slow disk takes about two.
pub const INTERPRETER_SECONDS_MAX: u64 = 20;

/// Bytes of an interpreter's description of itself; a real one has about 2 KiB.
pub const INTERPRETER_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a `pyvenv.cfg`; a real one has about 200.
pub const PYVENV_BYTES_MAX: u64 = 1 << 16;

/// Compatibility tags of one interpreter; a current CPython on a current glibc has about 1,000.
pub const TAGS_MAX: usize = 20_000;
