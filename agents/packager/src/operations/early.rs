//! The disk begins to write what has come while the rest is still under way, so that less is left for the one wait of the commit; and what it
//! could not write of it.
//!
//! The commit asks for itself, through a descriptor that was opened before anything was written ([`crate::transaction`]), so nothing
//! depends on this but the time. What this is told stays: it ends the transaction early, and what was fetched for it is taken out of
//! the store, whose files look whole for as long as their pages are in memory. That is so, too, where the transaction has ended
//! meanwhile: nobody waits for the disk only because something failed or is not wanted any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::limits::EARLY_SYNC_BYTES;
use crate::metadata::Hashes;
use crate::resolution::Package;
use crate::store::{Form, Store};

/// What is done in the place of it.
#[cfg(test)]
pub(crate) type Hook = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Who has the disk write; tests stand in for it.
#[derive(Clone, Default)]
pub(crate) struct Hand {
    #[cfg(test)]
    pub(crate) hook: Arc<Mutex<Option<Hook>>>,
}

impl Hand {
    fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        {
            let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(hook) = hook {
                return hook();
            }
        }
        Ok(rustix::fs::syncfs(file)?)
    }
}

/// What one transaction fetched, and what the disk says of it.
pub(super) struct Early {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    hand: Hand,
    /// Opened before anything is fetched, and the same for all rounds.
    directory: Option<File>,
    path: PathBuf,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// What has come, or was about to.
    added: Vec<(Hashes, Form)>,
    cadence: Cadence,
    failure: Option<Error>,
    /// Nobody asks any more.
    is_over: bool,
}

/// When the disk is told.
#[derive(Default)]
struct Cadence {
    /// Bytes of archives since the last time.
    bytes: u64,
    is_writing: bool,
    /// It has as long a pause as it took: it is shared with whoever else uses it.
    pause_until: Option<Instant>,
}

impl Early {
    /// For what is fetched into this store and installed in the directory.
    pub(super) fn new(store: &Arc<Store>, hand: &Hand, path: &Path) -> Self {
        let (state, ended) = (Mutex::default(), Condvar::new());
        // Without it the disk begins later.
        let directory = File::open(path).ok();
        let (store, hand, path) = (Arc::clone(store), hand.clone(), path.to_owned());
        Self { shared: Arc::new(Shared { store, hand, directory, path, state, ended }) }
    }

    /// The file system that is told.
    pub(super) fn device(&self) -> Option<u64> {
        let status = self.shared.directory.as_ref()?.metadata().ok()?;
        Some(status.dev())
    }

    /// This artefact is about to be written into the store.
    pub(super) fn adds(&self, package: &Package) {
        if let Some(form) = Form::of(package.ecosystem) {
            self.shared.state().added.push((package.artifact.hashes.clone(), form));
        }
    }

    /// An archive of so many bytes was unpacked.
    pub(super) fn came(&self, bytes: u64) {
        if self.shared.directory.is_none()
            || !self.shared.state().cadence.begins(bytes, Instant::now())
        {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let named = std::thread::Builder::new().name("early-sync".to_owned());
        // Where it cannot be begun, the commit has more to do.
        if named.spawn(move || shared.write()).is_err() {
            self.shared.state().cadence.is_writing = false;
        }
    }

    /// An error where the disk could not write what it was told to, then nothing of it is in the store any more. Waits for it.
    pub(super) fn written(&self) -> Result<()> {
        let mut state = self.shared.state();
        while state.cadence.is_writing {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(failure) = state.failure.clone() else { return Ok(()) };
        self.shared.forget(&mut state);
        Err(failure)
    }

    /// Whether nothing was put into the store.
    pub(super) fn is_unused(&self) -> bool {
        self.shared.state().added.is_empty()
    }

    /// The disk did not take it: nothing that was fetched counts.
    pub(super) fn forget(&self) {
        self.shared.forget(&mut self.shared.state());
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_over = true;
        if state.failure.is_some() {
            self.shared.forget(&mut state);
        }
    }
}

impl Shared {
    /// What it guards is whole between any two statements.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the disk, and notes what it says.
    fn write(&self) {
        let began = Instant::now();
        let synced = self.directory.as_ref().map_or(Ok(()), |directory| self.hand.sync(directory));
        let mut state = self.state();
        state.cadence.end(began, Instant::now());
        if let Err(error) = synced {
            let error = Error::io("write", &self.path, &error);
            tracing::warn!(%error, "the disk did not take what was fetched");
            state.failure.get_or_insert(error);
            if state.is_over {
                self.forget(&mut state);
            }
        }
        self.ended.notify_all();
    }

    fn forget(&self, state: &mut State) {
        for (hashes, form) in state.added.drain(..) {
            self.store.distrust(&hashes, form);
        }
    }
}

impl Cadence {
    /// Whether it is told now, so many bytes more having come.
    fn begins(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        let has_time = !self.is_writing && self.pause_until.is_none_or(|until| now >= until);
        if self.bytes < EARLY_SYNC_BYTES || !has_time {
            return false;
        }
        (self.bytes, self.is_writing) = (0, true);
        true
    }

    fn end(&mut self, began: Instant, now: Instant) {
        let took: Duration = now.saturating_duration_since(began);
        (self.is_writing, self.pause_until) = (false, now.checked_add(took));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::ecosystem::Ecosystem;
    use crate::install::tests::{npm_artifact, package, store};

    /// Only a hang reaches it.
    const WATCHDOG: Duration = Duration::from_secs(60);

    struct Case {
        place: tempfile::TempDir,
        store: Arc<Store>,
        /// How the next ones end; they wait for it.
        answers: Sender<io::Result<()>>,
        /// That one has begun.
        began: Receiver<()>,
        hand: Hand,
    }

    impl Case {
        fn new() -> Self {
            let (place, store) = store();
            let (answers, next) = channel();
            let (begins, began) = channel();
            let next = Mutex::new(next);
            let hand = Hand::default();
            *hand.hook.lock().expect("a hook") = Some(Arc::new(move || {
                begins.send(()).expect("heard");
                next.lock().expect("answers").recv_timeout(WATCHDOG).expect("an answer")
            }));
            Self { place, store: Arc::new(store), answers, began, hand }
        }

        fn early(&self) -> Early {
            Early::new(&self.store, &self.hand, self.place.path())
        }

        /// An artefact that is fetched for it.
        fn added(&self, early: &Early) -> Package {
            let bytes = npm_artifact("a", "1.0.0", &[("x", "content")]);
            let package = package(&self.store, Ecosystem::Npm, "a", "1.0.0", &bytes);
            early.adds(&package);
            package
        }

        /// Whether anything of it would be believed.
        fn has(&self, package: &Package, path: &Path) -> bool {
            self.store.package(package).is_some() || path.exists()
        }

        fn stored(&self, package: &Package) -> PathBuf {
            let entry = self.store.require(package).expect("there");
            self.store.object_path(&entry.file("x").expect("a file").object)
        }
    }

    fn failed() -> io::Result<()> {
        Err(rustix::io::Errno::IO.into())
    }

    #[test]
    fn what_the_disk_could_not_write_is_an_error_for_good_and_leaves_the_store() {
        let case = Case::new();
        let early = case.early();
        let package = case.added(&early);
        let path = case.stored(&package);
        early.came(EARLY_SYNC_BYTES - 1);
        early.written().expect("nothing was begun");
        early.came(1);
        case.began.recv_timeout(WATCHDOG).expect("begun");
        case.answers.send(failed()).expect("heard");
        assert_eq!(early.written().expect_err("it is not on the disk").code, "io");
        assert!(!case.has(&package, &path));
        // A later one that succeeds does not make it good.
        early.shared.state().cadence.pause_until = None;
        early.came(EARLY_SYNC_BYTES);
        case.began.recv_timeout(WATCHDOG).expect("begun");
        case.answers.send(Ok(())).expect("heard");
        assert_eq!(early.written().expect_err("it is not on the disk").code, "io");
    }

    #[test]
    fn what_the_commit_could_not_write_leaves_the_store() {
        let case = Case::new();
        let early = case.early();
        let package = case.added(&early);
        let path = case.stored(&package);
        early.forget();
        assert!(!case.has(&package, &path));
    }

    #[test]
    fn nobody_waits_for_it_in_the_end_and_what_it_says_then_still_counts() {
        for (answer, stays) in [(Ok(()), true), (failed(), false)] {
            let case = Case::new();
            let early = case.early();
            let package = case.added(&early);
            let path = case.stored(&package);
            early.came(EARLY_SYNC_BYTES);
            case.began.recv_timeout(WATCHDOG).expect("begun");
            let shared = Arc::clone(&early.shared);
            drop(early);
            assert!(case.has(&package, &path), "it is not known yet");
            case.answers.send(answer).expect("heard");
            let mut state = shared.state();
            while state.cadence.is_writing {
                state = shared.ended.wait(state).expect("no panic");
            }
            assert_eq!(case.has(&package, &path), stays);
        }
    }

    #[test]
    fn the_disk_has_a_pause_as_long_as_it_wrote() {
        let mut cadence = Cadence::default();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(cadence.begins(EARLY_SYNC_BYTES, began));
        assert!(!cadence.begins(EARLY_SYNC_BYTES, after(1)), "it is at work");
        cadence.end(began, after(5));
        assert!(!cadence.begins(0, after(9)), "it has a pause");
        assert!(cadence.begins(0, after(10)), "what came meanwhile counts");
        cadence.end(after(10), after(10));
        assert!(!cadence.begins(EARLY_SYNC_BYTES - 1, after(11)), "too little");
    }
}
