//! A plan's stored form with its digest, and its answer, made on two threads at once: a plan of a thousand packages takes more than a
//! megabyte, of which the digest alone takes as long as everything else.
//!
//! | this thread                     | the one beside it  |
//! |---------------------------------|--------------------|
//! | writes the first half           | starts             |
//! | writes the second half          | hashes the first   |
//! | hashes the second, joins both   | writes the answer  |

use std::sync::mpsc::sync_channel;

use super::shown::{Shown, Written, unshown};
use crate::api::PlanAnswer;
use crate::error::Result;
use crate::plan::{Begun, Hashed, Plan};

/// What is stored with its digest, and the answer.
type Both = (Result<(String, String)>, Result<Written>);

/// See the module.
pub(super) fn store_and_write(plan: &Plan, shown: &Shown<'_>, answer: &PlanAnswer) -> Both {
    std::thread::scope(|scope| {
        let (begun, to_hash) = sync_channel::<Begun>(1);
        let (hashed, from_hash) = sync_channel::<Hashed>(1);
        let work = move || {
            // Nothing comes where the plan cannot be written, and nobody takes it where the rest cannot.
            if let Ok(begun) = to_hash.recv() {
                let _ = hashed.send(begun.hash());
            }
            shown.write(answer)
        };
        let thread = std::thread::Builder::new().name("shown".to_owned());
        let Ok(beside) = thread.spawn_scoped(scope, work) else {
            // There is no thread to be had, so it is done here.
            return (plan.to_stored(), shown.write(answer));
        };
        let stored = plan.begin_stored().and_then(|first| {
            let lost = || unshown("what hashes the plan failed");
            begun.send(first).map_err(|_| lost())?;
            let rest = plan.rest_stored()?;
            from_hash.recv().map_err(|_| lost())?.finish(rest)
        });
        drop(begun);
        let written = beside.join().unwrap_or_else(|_| Err(unshown("its writer failed")));
        (stored, written)
    })
}
