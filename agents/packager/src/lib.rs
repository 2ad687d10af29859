//! The Packager: plans, installs and undoes packages of several ecosystems as one transaction.
//!
//! Reading order: what people write ([`ecosystem`], [`spec`], [`manifest`]), what registries answer
//! ([`metadata`], fetched by [`io`]), what follows from both ([`resolve`], [`resolution`], [`plan`]),
//! wheels that are made of sources where somebody asked ([`build`]), and how it reaches the disk ([`store`], [`install`], [`system`], [`transaction`]). [`service`] offers all of it
//! as the tools of an agent.
#![forbid(unsafe_code)]

pub mod api;
pub mod build;
pub mod ecosystem;
pub mod error;
mod file_state;
mod foreign;
#[cfg(test)]
mod fuzz;
pub mod git;
mod hex;
pub mod install;
pub mod io;
mod kept;
mod leftovers;
pub mod limits;
pub mod lock;
pub mod manifest;
mod measures;
pub mod metadata;
mod operations;
pub mod options;
pub mod plan;
mod process;
pub mod python;
pub mod resolution;
pub mod resolve;
pub mod service;
pub mod spec;
pub mod store;
pub mod system;
pub mod transaction;
pub mod unpack;
mod watch;
pub mod workspace;
