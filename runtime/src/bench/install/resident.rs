//! The daemon that the measured commands ask, with the caches of the tool that it belongs to.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agents_packager::api::{CacheAction, CacheAnswer, CacheRequest};
use anyhow::{Context as _, ensure};

use crate::bench::step::peak_rss_bytes;
use crate::cli::backend::Backend;

/// How long it may take to start, and to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(100);

/// It, once it was started. Ended with this.
#[derive(Default)]
pub(super) struct Resident(Option<Running>);

struct Running {
    child: Child,
    run: PathBuf,
    /// The process of the Packager.
    packager: Option<u32>,
}

impl Resident {
    /// Starts it with what is in `caches`.
    pub(super) fn start(&mut self, caches: &Path) -> anyhow::Result<()> {
        let run = caches.join("run");
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--metrics-addr", "127.0.0.1:0"])
            .env("XDG_CACHE_HOME", caches.join("cache"))
            .env("BOLIDE_STATE_DIR", caches.join("state"))
            .env("BOLIDE_RUNTIME_DIR", &run)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut running = Running { child, run, packager: None };
        let began = Instant::now();
        while running.packager.is_none() {
            ensure!(began.elapsed() < PATIENCE, "the daemon did not start");
            running.packager = running.backend()?.and_then(|backend| backend.peer_pid());
            std::thread::sleep(INTERVAL);
        }
        self.0 = Some(running);
        Ok(())
    }

    /// Waits until it has made ready what it makes ready while nobody asks for anything.
    pub(super) fn rest(&self) -> anyhow::Result<()> {
        let Some(running) = &self.0 else { return Ok(()) };
        let mut request = Vec::new();
        let show = CacheRequest { action: CacheAction::Show, all: false };
        ciborium::into_writer(&show, &mut request)?;
        let began = Instant::now();
        loop {
            let mut backend = running.backend()?.context("the daemon has gone")?;
            let answer: CacheAnswer =
                ciborium::from_reader(backend.call("pkg.cache", &request)?.as_slice())?;
            if answer.prepared.is_none_or(|prepared| prepared.waiting == 0) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the daemon does not come to rest");
            std::thread::sleep(INTERVAL);
        }
    }

    /// The most memory that the Packager has had.
    pub(super) fn peak_rss_bytes(&self) -> u64 {
        self.0.as_ref().and_then(|running| peak_rss_bytes(running.packager?)).unwrap_or(0)
    }

    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}

impl Running {
    fn backend(&self) -> anyhow::Result<Option<Backend>> {
        // One that is just being started has no socket yet.
        Ok(Backend::connect(&self.run, Path::new("/")).ok().flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
