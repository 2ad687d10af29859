//! Version orders and ranges that are written here because no crate reads them as the ecosystem's own client does.
//!
//! Python's and cargo's versions are not here: `pep440_rs` and `semver` read those.

pub mod npm;
