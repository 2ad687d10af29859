//! Every bound of the Packager, with its unit and its reason.
//!
//! Whatever a registry, an archive, a manifest or a peer sends is written by an attacker until proven
//! otherwise; nothing here may be exceeded silently: the operation fails and names the bound.

/// Bytes of one npm version. npm's own library refuses longer ones, so nothing real is lost.
pub const NPM_VERSION_BYTES_MAX: usize = 256;

/// The largest number in an npm version: what a JavaScript number holds exactly. Same bound as npm's library.
pub const NPM_VERSION_NUMBER_MAX: u64 = 9_007_199_254_740_991;

/// Bytes of one npm range. The longest in use (peer ranges with many alternatives) stay below 1 KiB.
pub const NPM_RANGE_BYTES_MAX: usize = 8 * 1024;

/// Comparators of one npm range; bounds the work of a membership test.
pub const NPM_RANGE_COMPARATORS_MAX: usize = 1024;

/// Nodes that one npm resolution may make, those of peer stages included. The largest real trees place about 5,000
/// packages and need some 50,000 nodes.
pub const NPM_NODES_MAX: usize = 1_000_000;

/// Packages in one npm tree; five times the largest that are known.
pub const NPM_PACKAGES_MAX: usize = 50_000;

/// Levels of folders in one npm tree. Each level is a directory in a path, and paths end at 4,096 bytes.
pub const NPM_TREE_DEPTH_MAX: u32 = 64;

/// Steps of one npm resolution (looks at one package's dependencies) for each package in the tree, beside a fixed
/// part. Real trees take between one and two; ends packages that push each other out of their places for ever.
pub const NPM_STEPS_PER_PACKAGE_MAX: usize = 32;

/// The fixed part of the above, for small trees.
pub const NPM_STEPS_FIXED_MAX: usize = 1_000;

/// Links of a chain of peers that have to be placed together; the longest real ones have about ten. Bounds the stack.
pub const NPM_PEER_DEPTH_MAX: usize = 64;

/// Nodes that one change of a dependency may bring under another override rule.
pub const NPM_OVERRIDE_STEPS_MAX: usize = 100_000;

/// Repairs of a conflict that are tried; each is a whole resolution.
pub const NPM_REPAIRS_TRIED_MAX: usize = 4;

/// Bytes of one package name of npm: the registry's own rule.
pub const NPM_NAME_BYTES_MAX: usize = 214;

/// Bytes of one project name of PyPI; the longest published is below 120.
pub const PYPI_NAME_BYTES_MAX: usize = 200;

/// Bytes of one crate name: crates.io's own rule.
pub const CRATE_NAME_BYTES_MAX: usize = 64;

/// Bytes of one spec that a caller writes; leaves room for a long list of extras and a long range.
pub const SPEC_BYTES_MAX: usize = 4 * 1024;

/// Bytes of one manifest (package.json, requirements.txt, pyproject.toml, Cargo.toml). People write kilobytes;
/// generated monsters stay below 1 MiB.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Levels of nesting in a manifest; bounds the stack of its parsers.
pub const MANIFEST_DEPTH_MAX: usize = 64;
