//! A file system in memory that loses power.
