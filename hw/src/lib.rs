//! What this machine is, read from sysfs and the kernel under a root that the caller gives.
//!
//! Owns: CPU classes, cores and caches, the allowed set, pinning, temperature, throttling, pressure and power as the
//! kernel shows them, kernel feature probes. Decides nothing: `scheduler` does. Nothing here turns an error into a
//! number: what cannot be read is absent. Nothing here logs: failures are values, counted by cause.
//!
//! Reading order: [`root`], [`cpu_set`], [`cpu`], [`cores`], [`cgroup`], [`allowed`], [`watcher`], [`affinity`], [`pin`],
//! [`thermal`], [`throttle`], [`pressure`], [`power`], [`idle`], [`lent`], [`kernel`], [`simd`], [`opinion`].
#![deny(unsafe_code)]

pub mod affinity;
pub mod allowed;
pub mod cgroup;
pub mod cores;
pub mod cpu;
pub mod cpu_set;
#[cfg(feature = "hwloc")]
pub mod hwloc;
pub mod idle;
pub mod kernel;
pub mod lent;
pub mod limits;
pub mod opinion;
pub mod pin;
pub mod power;
pub mod pressure;
pub mod root;
pub mod simd;
pub mod thermal;
pub mod throttle;
#[cfg(feature = "trees")]
pub mod trees;
pub mod watcher;
