//! Models of what the bus orders beside ring and sleep word, and of both together: every interleaving of small sizes.
//!
//! The code that is modelled is the code that runs; where it lies beneath modules that map memory, it is taken from its file.
//! Cells of the model checker stand for memory that is not atomic: touched by two threads without an order, they fail.
//! `make loom` runs these with the models beside `ring` and `wait`.
//!
//! Not here, because nothing is claimed of it: counters and histograms, which have one writer each and order nothing.

#![allow(unsafe_code, reason = "cells of the model checker give raw pointers")]

#[path = "lane/lender.rs"]
mod lender;
#[path = "batch/returns.rs"]
mod returns;
#[path = "directory/seqlock.rs"]
mod seqlock;

mod directory;
mod loans;
mod region;
mod sleeping;

/// Runs a model; more switches than this between threads that could have gone on find nothing new in rings this small, and cost
/// minutes.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}
