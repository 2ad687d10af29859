//! What the daemon and its exchange cost while nobody does anything: fifty agents are connected and silent.
//!
//! Processor time is what the kernel counted for all threads of both processes while this one slept; memory is what of both is
//! resident, pages that they share counted twice.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipc::client::Client;
use serde_json::{Value, json};

use super::super::figures::{Figure, at};
use super::super::scratch::ScratchDaemon;
use super::Part;

/// Agents beside the exchange.
const AGENTS: usize = 50;
/// How long one round watches.
const WATCHED: Duration = Duration::from_secs(2);
/// What the report has of this part.
pub(super) const FIELDS: &[&str] = &["rest.rss_bytes", "rest.cpu_ratio", "rest.agents"];

/// The part.
pub(super) struct Rest {
    _agents: Vec<Client>,
    // Dropped last.
    daemon: ScratchDaemon,
}

impl Rest {
    pub(super) fn start() -> anyhow::Result<Self> {
        let daemon = ScratchDaemon::start(&["exchange"], &[])?;
        let agents = (0..AGENTS).map(|number| daemon.client(&format!("bench.idle-{number}")));
        Ok(Self { _agents: agents.collect::<Result<_, _>>()?, daemon })
    }
}

impl Part for Rest {
    fn round(&mut self, _messages: u64) -> anyhow::Result<Vec<Figure>> {
        let processes = family(self.daemon.pid())?;
        let (began, before_ns) = (Instant::now(), busy_ns(&processes)?);
        std::thread::sleep(WATCHED);
        let busy_ns = busy_ns(&processes)?.saturating_sub(before_ns);
        let ratio = busy_ns as f64 / began.elapsed().as_nanos() as f64;
        let mut resident = 0;
        for pid in &processes {
            resident += resident_bytes(*pid)?;
        }
        Ok(vec![
            ("rest.cpu_ratio".to_owned(), ratio),
            ("rest.rss_bytes".to_owned(), resident as f64),
        ])
    }

    fn describe(&self, report: &mut Value) {
        at(report, "rest")["agents"] = json!(AGENTS);
    }
}

/// A process and its children.
fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = vec![pid];
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that ended meanwhile is nobody's child.
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; after it come state and parent.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent.and_then(|parent| parent.parse().ok()) == Some(pid) {
            found.push(child);
        }
    }
    Ok(found)
}

/// Processor time of all threads so far.
fn busy_ns(processes: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in processes {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            sum += thread_ns(&thread?.path())?.unwrap_or(0);
        }
    }
    Ok(sum)
}

/// `None` for a thread that ended since it was listed.
fn thread_ns(thread: &Path) -> anyhow::Result<Option<u64>> {
    let text = match std::fs::read_to_string(thread.join("schedstat")) {
        Ok(text) => text,
        // Gone before the file was opened, or before it was read.
        Err(error)
            if !thread.exists()
                || rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::SRCH) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(error).context("the kernel does not count the processor time of threads");
        }
    };
    let ns = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    ns.map(Some).with_context(|| format!("`{}` has no time", thread.display()))
}

fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    Ok(kib.with_context(|| format!("process {pid} does not say what is resident"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        assert_eq!(family(own).unwrap()[0], own);
        assert!(busy_ns(&[own]).unwrap() > 0);
        assert!(resident_bytes(own).unwrap() > 1024);
    }
}
