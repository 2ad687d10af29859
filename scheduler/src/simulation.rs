//! A laptop that is not there: a package that heats up under simulated work, to try the governor and what it is
//! compared with on the same physics.
//!
//! The constants are estimates, of a thin laptop with 6 P, 8 E and 2 LP-E cores; figures from here compare governors with
//! each other and promise nothing of a machine. Deterministic: a run is a function of scenario, governor and seed. Used by
//! `bolide bench governor` and by the tests that hold its figures. Reading order: [`plant`], [`sensor`], [`scenario`],
//! [`control`], [`run`], [`oracle`], [`summary`].

pub mod control;
pub mod oracle;
pub mod plant;
mod random;
pub mod run;
pub mod scenario;
pub mod sensor;
pub mod summary;
