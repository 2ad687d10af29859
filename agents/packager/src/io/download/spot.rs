//! Whether a file has a place on the disk, and what becomes of it.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Job;
use super::partial::Place;

/// The place of a file on the disk, once one was needed. One task has it, and whoever opens or writes it for that task, who may still be at it
/// when the task has ended: the last of them gives up what nobody settled.
#[derive(Debug, Default)]
pub(super) struct Spot {
    place: OnceLock<Place>,
    /// Whether it is known what becomes of it. It guards nothing.
    is_settled: AtomicBool,
}

impl Spot {
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.get()
    }

    /// Opens it where that was not done yet. This blocks.
    pub(super) fn open(&self, job: &Job) -> std::io::Result<&Place> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let place = Place::open(&job.partials, &job.hashes, &job.part)?;
        Ok(self.place.get_or_init(|| place))
    }

    /// Takes everything out of it.
    pub(super) fn empty(&self) -> std::io::Result<()> {
        let Some(place) = self.place.get() else { return Ok(()) };
        place.note_tag(None);
        place.file().and_then(|file| file.set_len(0))
    }

    /// Gives its file the name that it is for.
    pub(super) fn finish(&self, job: &Job) -> std::io::Result<()> {
        let (place, to): (_, &Path) = (self.open(job)?, &job.destination);
        place.finish(to)?;
        self.is_settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives it up, as [`Place::give_up`] does. False where there is none yet.
    pub(super) fn give_up(&self, keep: bool) -> bool {
        let Some(place) = self.place.get() else { return false };
        self.is_settled.store(true, Ordering::Relaxed);
        place.give_up(keep);
        true
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        if !*self.is_settled.get_mut() {
            self.give_up(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::limits::PARTIAL_BYTES_MIN;
    use crate::metadata::Hashes;

    #[test]
    fn a_place_that_was_opened_when_its_task_had_ended_is_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let hashes = Hashes { sha256: Some("ab".repeat(32)), sha512: None };
        let own = directory.path().join("own");
        let shared = directory.path().join("shared");
        for (bytes, is_settled, stays) in [
            (0, false, false),
            (PARTIAL_BYTES_MIN - 1, false, false),
            (PARTIAL_BYTES_MIN, false, true),
            // Somebody else's by then.
            (0, true, true),
        ] {
            let spot = Spot::default();
            let place = Place::open(&shared, &hashes, &own).expect("a place");
            place.file().and_then(|file| file.set_len(bytes)).expect("space");
            let path = place.path.clone();
            spot.place.set(place).expect("the first");
            spot.is_settled.store(is_settled, Ordering::Relaxed);
            assert_eq!(Place::is_begun(&shared, &hashes), bytes >= PARTIAL_BYTES_MIN);
            drop(spot);
            assert_eq!(path.exists(), stays, "{bytes} {is_settled}");
        }
    }
}
