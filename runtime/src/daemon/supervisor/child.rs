//! One hosted agent's process: how it is started, what becomes of its stderr, how it is ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tracing::{Level, debug, error, info, trace, warn};

use super::{End, Stopping, stops_now};
use crate::config::{Config, KEYS};
use crate::limits::{CHILD_STOP_TIMEOUT, LOG_LINE_BYTES_MAX};
use crate::logging::hosted_line;

/// Starts `name`. Everything it is to know stands on its command line or in its environment.
pub(super) fn spawn(
    program: &Path,
    config: &Config,
    name: &str,
) -> io::Result<(Option<u32>, Child)> {
    let settings = &config.settings;
    let mut command = Command::new(program);
    command.args(["agent", "run", name]);
    // No file: one that was edited meanwhile could keep an agent from being started again.
    command.args(["--config", "/dev/null"]);
    for key in KEYS {
        command.env(key.environment, (key.show)(settings));
    }
    command
        .env("BOLIDE_LOG_FORMAT", "hosted")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn()?;
    ipc::fault::point("daemon.child-spawned");
    Ok((child.id(), child))
}

/// Waits for the end of a child, logs what it says meanwhile, and ends it when the daemon's
/// patience does.
pub(super) async fn watch(
    mut child: Child,
    name: &str,
    stopping: &mut watch::Receiver<Stopping>,
) -> End {
    let pid = child.id();
    info!(agent = name, pid, "hosted agent started");
    let lines = child.stderr.take().map(|stderr| tokio::spawn(log_lines(stderr, name.to_owned())));
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = stops_now(stopping) => stop(&mut child, name).await,
    };
    if let Some(lines) = lines {
        // What it said last belongs before the news of its end; a grandchild that keeps stderr open
        // does not hold us up.
        let _ = tokio::time::timeout(CHILD_STOP_TIMEOUT, lines).await;
    }
    let stopping = *stopping.borrow() != Stopping::No;
    match ended {
        Ok(status) => End { how: describe(status), orderly: stopping },
        Err(error) => End { how: format!("its end cannot be learnt: {error}"), orderly: stopping },
    }
}

/// First politely, then not.
async fn stop(child: &mut Child, name: &str) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It was not waited for yet, so the id is still its own.
        if let Err(error) = kill_process(pid, Signal::TERM) {
            debug!(agent = name, %error, "hosted agent cannot be told to end");
        }
    }
    match tokio::time::timeout(CHILD_STOP_TIMEOUT, child.wait()).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            warn!(agent = name, "hosted agent does not end and is killed");
            child.kill().await?;
            child.wait().await
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "it finished".to_owned(),
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Logs each line under the agent's name, cut to a bound.
async fn log_lines(stderr: ChildStderr, name: String) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(LOG_LINE_BYTES_MAX as u64);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => log_line(&name, &String::from_utf8_lossy(&line)),
            Err(error) => return debug!(agent = name, %error, "its stderr cannot be read"),
        }
    }
}

fn log_line(agent: &str, line: &str) {
    let (level, text) = hosted_line(line);
    match level {
        _ if text.is_empty() => {}
        Level::ERROR => error!(agent, "{text}"),
        Level::WARN => warn!(agent, "{text}"),
        Level::INFO => info!(agent, "{text}"),
        Level::DEBUG => debug!(agent, "{text}"),
        _ => trace!(agent, "{text}"),
    }
}
