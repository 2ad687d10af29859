//! A plan's lock, its stored form with its digest, and its answer, made on two threads at once: of a thousand packages each is a megabyte,
//! and the digest alone takes as long as two of them.
//!
//! | this thread                                            | the one beside it                                    |
//! |--------------------------------------------------------|------------------------------------------------------|
//! | writes the lock                                        | writes and hashes the resolutions as they are stored |
//! | writes and hashes what comes before those, with the lock |                                                    |
//!
//! Whoever is done first writes the answer up to its packages.

use std::sync::atomic::{AtomicBool, Ordering};

use super::shown::{Shown, Written, unshown};
use crate::api::PlanAnswer;
use crate::error::Result;
use crate::plan::{FileEdit, Plan, Stored, sort_edits};

/// What was made.
pub(super) struct Made {
    pub(super) stored: Stored,
    /// The files that change, the lock among them.
    pub(super) edits: Vec<FileEdit>,
    pub(super) written: Written,
}

/// Makes it of a plan without files that change; those are `edits` and what `lock` says.
pub(super) fn make(
    plan: &Plan,
    mut edits: Vec<FileEdit>,
    lock: impl FnOnce() -> Result<Option<FileEdit>>,
    (shown, answer): (&Shown<'_>, &PlanAnswer),
) -> Result<Made> {
    // By whoever is done with the other pieces first.
    let is_taken = AtomicBool::new(false);
    let answer = || (!is_taken.swap(true, Ordering::Relaxed)).then(|| shown.begin(answer));
    std::thread::scope(|scope| {
        let work = || (plan.resolutions_stored(), answer());
        let thread = std::thread::Builder::new().name("shown".to_owned());
        let beside = thread.spawn_scoped(scope, work);
        edits.extend(lock()?);
        sort_edits(&mut edits);
        let begin = plan.begin_stored(&edits)?;
        let here = answer();
        let (resolutions, there) = match beside {
            Ok(beside) => beside.join().map_err(|_| unshown("its writer failed"))?,
            // There is no thread to be had, so it is done here.
            Err(_) => (plan.resolutions_stored(), None),
        };
        let stored = plan.join_stored(begin, resolutions?)?;
        let written = here.or(there).expect("one of the two took it")?;
        Ok(Made { stored, edits, written })
    })
}
