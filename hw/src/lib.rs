//! What this machine is, read from sysfs and the kernel under a root that the caller gives.
//!
//! Owns: CPU classes, the allowed set, pinning, kernel feature probes. Decides nothing: `scheduler` does.
