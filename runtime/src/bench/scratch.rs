//! A daemon for one measurement: in a directory of its own, ended and removed afterwards.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipc::client::Client;
use ipc::manifest::AgentManifest;

use crate::paths::SOCKET_NAME;

/// How long a daemon may take to be ready; it takes milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// The daemon; killed and cleaned up after when this goes.
pub(super) struct ScratchDaemon {
    directory: PathBuf,
    process: Child,
}

impl ScratchDaemon {
    /// Starts one that hosts these agents, with these `BOLIDE_*` variables, and waits until they are on the bus.
    pub(super) fn start(hosted: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("bolide-bench-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        // What an earlier process of the same number left is of no use to anybody.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory)
            .with_context(|| format!("cannot make `{}`", directory.display()))?;
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", "--metrics-addr", "off", "--runtime-dir"])
            .arg(directory.join("run"))
            .arg("--state-dir")
            .arg(directory.join("state"))
            .env("BOLIDE_CACHE_DIR", directory.join("cache"))
            .env("BOLIDE_HOSTED", hosted.join(","))
            .env("BOLIDE_LOG", "error")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a daemon")?;
        let daemon = Self { directory, process };
        let until = Instant::now() + READY_TIMEOUT;
        while !daemon.is_ready(hosted) {
            ensure!(Instant::now() < until, "the daemon is not ready after {READY_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    /// A client of it.
    pub(super) fn client(&self, name: &str) -> anyhow::Result<Client> {
        client(&self.socket(), name)
    }

    /// Where it keeps everything; gone with it.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where clients connect.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("run").join(SOCKET_NAME)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn is_ready(&self, hosted: &[&str]) -> bool {
        let Ok(mut client) = self.client("bench.probe") else { return false };
        let Ok(agents) = client.agents("") else { return false };
        // A connection that is merely dropped looks like a crash in the daemon's log.
        let _ = client.bye();
        hosted.iter().all(|name| agents.iter().any(|agent| agent.manifest.name == *name))
    }
}

/// A client of such a daemon.
pub(super) fn client(socket: &Path, name: &str) -> anyhow::Result<Client> {
    let manifest = AgentManifest {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        category: "bench".to_owned(),
        priority: 5,
        ..AgentManifest::default()
    };
    Client::connect(socket, &manifest, &[]).context("cannot come to the bench's own bus")
}

impl Drop for ScratchDaemon {
    fn drop(&mut self) {
        // Hosted agents end with the daemon. All of these fail where nothing is left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
