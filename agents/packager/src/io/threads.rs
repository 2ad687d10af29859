//! The threads that talk to registries, held by the host to the cores of what they do: questions, whose answers a resolution waits for and
//! that are parsed here, and files, which are hashed and written.
//!
//! None is there before the first question or file needs it: what only reads the disk starts none. How much is computed at once
//! is not decided here: pieces of files ask the host ([`super::download`]).

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use agents_contract::{Host, Place, Work};
use tokio::runtime::{Builder, Handle, Runtime};

use super::limits::{BLOCKING_THREADS_MAX, FILE_THREADS_MAX, RUNTIME_THREADS};
use crate::error::{Error, Kind, Result};

/// Both kinds.
pub(crate) struct Threads {
    host: Arc<dyn Host>,
    questions: OnceLock<Result<Runtime>>,
    files: OnceLock<Result<Runtime>>,
}

thread_local! {
    /// Where this thread is held, while it lives.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

impl Threads {
    /// None yet.
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, questions: OnceLock::new(), files: OnceLock::new() }
    }

    /// Those for questions.
    pub(crate) fn questions(&self) -> Result<&Handle> {
        self.get(&self.questions, ("registry-io", BLOCKING_THREADS_MAX), Work::Resolve)
    }

    /// Those for files.
    pub(crate) fn files(&self) -> Result<&Handle> {
        self.get(&self.files, ("download", FILE_THREADS_MAX), Work::Unpack)
    }

    /// Whose cores they are on.
    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    fn get<'a>(
        &self,
        runtime: &'a OnceLock<Result<Runtime>>,
        kind: (&'static str, usize),
        work: Work,
    ) -> Result<&'a Handle> {
        let runtime = runtime.get_or_init(|| self.start(kind, work));
        runtime.as_ref().map(Runtime::handle).map_err(Error::clone)
    }

    fn start(&self, (name, blocking_max): (&'static str, usize), work: Work) -> Result<Runtime> {
        let host = Arc::clone(&self.host);
        Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .max_blocking_threads(blocking_max)
            .thread_name(name)
            .on_thread_start(move || PLACE.set(Some(host.settle(work))))
            .on_thread_stop(|| PLACE.set(None))
            .enable_all()
            .build()
            .map_err(|error| {
                let message = format!("cannot start the threads for registries: {error}");
                Error::new(Kind::Failed, "io", message)
            })
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (questions, files) = (self.questions.get(), self.files.get());
        formatter
            .debug_struct("Threads")
            .field("questions", &questions)
            .field("files", &files)
            .finish()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for them would panic where the last client is dropped on another runtime's thread.
        for runtime in [self.questions.take(), self.files.take()].into_iter().flatten().flatten() {
            runtime.shutdown_background();
        }
    }
}
