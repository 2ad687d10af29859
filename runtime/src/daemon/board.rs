//! The daemon's directory of the bus: the memory that is handed out, its named mirror, and when they
//! are brought up to date.
//!
//! Not here: the bytes (`ipc::directory`) and what is shown (`hub`).

mod interest;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipc::directory::{MachineEntry, MirrorWriter, Picture, RouterEntry, Writer};
use tracing::{debug, warn};

use self::interest::Interest;
use super::connections::segments::Segments;

/// The directory and who looks at it.
#[derive(Debug)]
pub(crate) struct Board {
    writer: Writer,
    router: RouterEntry,
    segments: Arc<Segments>,
    mirror: Option<MirrorWriter>,
    interest: Interest,
}

impl Board {
    /// An empty directory, with its mirror published in `runtime_dir` where the system has named
    /// memory.
    pub(crate) fn create(
        router: RouterEntry,
        runtime_dir: &Path,
        random: impl FnMut() -> std::io::Result<u64>,
    ) -> anyhow::Result<Self> {
        let writer = Writer::create(router).context("the bus directory cannot be made")?;
        let descriptor = writer.as_fd().try_clone_to_owned();
        let descriptor = descriptor.context("the bus directory cannot be handed out")?;
        let mirror = match MirrorWriter::create(runtime_dir, random) {
            Ok(mirror) => Some(mirror),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                debug!(error, "the bus directory has no named mirror");
                None
            }
        };
        Ok(Self {
            writer,
            router,
            segments: Arc::new(Segments::handed_over(descriptor)),
            mirror,
            interest: Interest::default(),
        })
    }

    /// The router that it is of.
    pub(crate) fn router(&self) -> RouterEntry {
        self.router
    }

    /// Somebody asks for the directory and will look at it for a while. Gives what is handed over,
    /// and whether it is too old to be.
    pub(crate) fn asked(&mut self, now: Duration) -> (Arc<Segments>, bool) {
        let stale = self.interest.asked(now);
        (Arc::clone(&self.segments), stale)
    }

    /// Agents, lanes or topics came or went.
    pub(crate) fn changed(&mut self) {
        self.interest.changed();
    }

    /// Shows this of the machine from now on; readers of the mirror see it with the next refresh.
    pub(crate) fn show_machine(&mut self, machine: &MachineEntry) {
        self.writer.show_machine(machine);
    }

    /// Whether a picture that is being taken anyway is worth showing.
    pub(crate) fn is_old(&self, now: Duration) -> bool {
        self.interest.is_old(now)
    }

    /// When it wants to be refreshed, if at all: never on a bus where nothing changes and nobody
    /// looks.
    pub(crate) fn next_refresh(&self) -> Option<Duration> {
        self.interest.next_refresh()
    }

    /// Shows this from now on.
    pub(crate) fn show(&mut self, picture: &Picture, now: Duration) {
        self.writer.refresh(picture);
        ipc::fault::point("daemon.directory-shown");
        self.interest.refreshed(now);
        if let Some(mirror) = &self.mirror
            && let Err(error) = mirror.write(&self.writer)
        {
            warn!(%error, "the named mirror of the bus directory is given up");
            self.mirror = None;
        }
    }
}
