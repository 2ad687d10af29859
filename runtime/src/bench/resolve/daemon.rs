//! The daemon that is asked over the bus, with caches of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agents_packager::api::{PlanAnswer, PlanRequest, Setting};
use agents_packager::ecosystem::Ecosystem;
use anyhow::ensure;

use super::sets::Set;
use crate::bench::step::peak_rss_bytes;
use crate::cli::backend::Backend;

/// A daemon with caches of its own, asked over the bus.
pub(super) struct Daemon {
    child: Child,
    backend: Backend,
    pid: Option<u32>,
    registry: Option<String>,
}

impl Daemon {
    pub(super) fn start(directory: &Path, registry: Option<&str>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("project"))?;
        let runtime_dir = directory.join("run");
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--metrics-addr", "127.0.0.1:0", "--runtime-dir"])
            .arg(&runtime_dir)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .env("XDG_CACHE_HOME", directory.join("cache"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let began = Instant::now();
        loop {
            if let Ok(Some(backend)) = Backend::connect(&runtime_dir, &directory.join("project")) {
                let pid = backend.peer_pid();
                let registry = registry.map(str::to_owned);
                return Ok(Self { child, backend, pid, registry });
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "the daemon did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Milliseconds for one plan whose first constraint differs from that of any other round.
    pub(super) fn ask(&mut self, set: &Set, round: usize) -> anyhow::Result<f64> {
        let mut add: Vec<String> =
            set.packages.iter().map(|(name, range)| set.spec(name, range)).collect();
        if round > 0 {
            let (name, range) = &set.packages[0];
            let bound = 9_000 + round;
            let changed = match set.ecosystem {
                Ecosystem::Pypi => format!("<{bound}"),
                Ecosystem::Npm => format!("{range} <{bound}.0.0"),
                Ecosystem::Cargo => format!("{range}, <{bound}"),
                Ecosystem::Debian => format!("<<{bound}:0"),
                Ecosystem::Rpm | Ecosystem::Pacman => format!("={bound}"),
            };
            add[0] = set.spec(name, &changed);
        }
        let mut setting = Setting::of_this_process();
        if let Some(registry) = &self.registry {
            setting.registry.insert(set.ecosystem, registry.clone());
        }
        let request = PlanRequest { add, setting, ..PlanRequest::default() };
        let mut payload = Vec::new();
        ciborium::into_writer(&request, &mut payload)?;
        let began = Instant::now();
        let answer = self.backend.call("pkg.plan", &payload);
        let elapsed_ms = began.elapsed().as_secs_f64() * 1000.0;
        let answer: PlanAnswer = ciborium::from_reader(answer?.as_slice())?;
        ensure!(answer.digest.is_some(), "the daemon found no solution");
        Ok(elapsed_ms)
    }

    pub(super) fn peak_rss_bytes(&self) -> Option<u64> {
        peak_rss_bytes(self.pid?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
