//! Generated roots.
