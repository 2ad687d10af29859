//! What this machine is, read from sysfs and the kernel under a root that the caller gives.
//!
//! Owns: CPU classes, the allowed set, pinning, kernel feature probes, the package temperature. Decides nothing:
//! `scheduler` does. Nothing here turns an error into a number: what cannot be read is absent.
//!
//! Reading order: [`root`], [`cpu_set`], [`cpu`], [`affinity`], [`pin`], [`idle`], [`lent`], [`thermal`], [`kernel`].
#![deny(unsafe_code)]

pub mod affinity;
pub mod cpu;
pub mod cpu_set;
pub mod idle;
pub mod kernel;
pub mod lent;
pub mod limits;
pub mod pin;
pub mod root;
pub mod thermal;
