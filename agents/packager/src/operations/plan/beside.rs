//! A plan's lock, its stored form with its digest, and its answer, made on two threads at once: of a thousand packages each is a megabyte,
//! and the digest alone takes as long as two of them.
//!
//! | this thread                                            | the one beside it                                    |
//! |--------------------------------------------------------|------------------------------------------------------|
//! | writes the lock                                        | writes and hashes the resolutions as they are stored |
//! | writes and hashes what comes before those, with the lock | writes the answer up to its packages               |

use std::sync::mpsc::sync_channel;

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
    std::thread::scope(|scope| {
        let (give, take) = sync_channel(1);
        let work = move || {
            // Nobody takes them where the lock cannot be written.
            let _ = give.send(plan.resolutions_stored());
            shown.begin(answer)
        };
        let thread = std::thread::Builder::new().name("shown".to_owned());
        let beside = thread.spawn_scoped(scope, work);
        edits.extend(lock()?);
        sort_edits(&mut edits);
        let begin = plan.begin_stored(&edits)?;
        let Ok(beside) = beside else {
            // There is no thread to be had, so it is done here.
            let stored = plan.join_stored(begin, plan.resolutions_stored()?)?;
            return Ok(Made { stored, edits, written: shown.begin(answer)? });
        };
        let failed = || unshown("its writer failed");
        let stored = plan.join_stored(begin, take.recv().map_err(|_| failed())??)?;
        let written = beside.join().unwrap_or_else(|_| Err(failed()))?;
        Ok(Made { stored, edits, written })
    })
}
