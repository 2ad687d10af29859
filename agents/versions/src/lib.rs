//! Versions and ranges of ten package families, each as the family's own client reads them. No input or output, no
//! clock, no knowledge of packages: text in, orders and memberships out.
//!
//! Reading order: which families there are ([`family`]), the façade over them ([`version`], [`range`]), what a version
//! becomes so that comparing is comparing bytes ([`key`]), then one module per family. Where a crate reads a family
//! exactly it is used (`semver` for Cargo); the others are written here, because none is exact: numbers of any length
//! count in most of these orders, and ill-formed text has a meaning in some.
#![forbid(unsafe_code)]

pub mod error;
pub mod family;
pub mod key;
pub mod limits;
pub mod operator;
pub mod range;
pub mod version;

pub mod alpine;
pub mod cargo;
pub mod composer;
pub mod debian;
pub mod gem;
pub mod maven;
pub mod npm;
pub mod nuget;
pub mod pypi;
pub mod rpm;

mod text;

pub use error::ParseError;
pub use family::Family;
pub use key::Key;
pub use range::Range;
pub use text::shorten;
pub use version::Version;
