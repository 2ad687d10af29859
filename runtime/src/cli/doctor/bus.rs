//! Which classes of the bus this machine has: each is tried, and of HIGH also the way into another process's ring.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::Context;
use hw::root::Root;
use ipc::class::{Class, probe, probe_peer};
use ipc::uring::{Inbox, RingNumber};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::cli::{Context as CommandContext, ask};
use crate::exchange::{LOG_SYNC, NAME, mechanism_here};

/// What happens where a class cannot be had.
fn without(class: Class) -> &'static str {
    match class {
        Class::Critical => "links are of class high, or normal",
        Class::High => "links that want high are normal: over a socket",
        Class::Normal => "links that fall this far are refused",
        Class::Low => "links are of the other classes; logs and durable queues need the exchange",
        Class::Batch => "large payloads travel through lanes, in pieces",
    }
}

/// The classes, for `doctor --json`.
pub(super) fn report(root: &Root) -> Vec<Value> {
    let classes = [Class::Critical, Class::High, Class::Normal, Class::Low, Class::Batch];
    let row = |class: Class| {
        let tried = match class {
            // A file and a way to sync it, which every kernel has.
            Class::Low => Ok(()),
            Class::High => {
                probe(class).and_then(|()| other_process().map_err(|error| format!("{error:#}")))
            }
            class => probe(class),
        };
        json!({
            "class": class.name(),
            "available": tried.is_ok(),
            "reason": tried.err(),
            "without": without(class),
            "note": note(class, root),
        })
    };
    classes.into_iter().map(row).collect()
}

/// The same for people.
pub(super) fn lines(report: &[Value]) -> impl Iterator<Item = String> {
    report.iter().map(|row| {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        match row["available"].as_bool() {
            Some(true) => format!("bus        {}: available. {}", text("class"), text("note")),
            _ => format!(
                "bus        {}: not available ({}): {}",
                text("class"),
                text("reason"),
                text("without")
            ),
        }
    })
}

/// What is found out beside whether it can be had; of HIGH what the probe cannot see: this process may reach its own child where
/// two agents may not reach each other.
fn note(class: Class, root: &Root) -> Option<String> {
    match class {
        Class::Low => Some(format!("Here logs are synced by {}", mechanism_here())),
        Class::High => {
            let scope = root.read("proc/sys/kernel/yama/ptrace_scope")?;
            let is_narrow = scope.trim() != "0";
            is_narrow.then(|| {
                "Yama keeps processes apart that did not start each other: between those, links \
                 that want high are normal"
                    .to_owned()
            })
        }
        _ => None,
    }
}

/// What the daemon's own processes found, where one runs: it may stand under a filter that this process does not stand under.
pub(super) fn daemon(context: &CommandContext) -> Value {
    let settings = context.load([]).map(|config| config.settings);
    // Whoever has no daemon asks about the machine.
    let status = settings.map(|settings| ask::status(&settings.runtime_dir));
    let Ok(Ok(status)) = status else { return Value::Null };
    let hosted = status["hosted"].as_array().map_or(&[][..], Vec::as_slice);
    let exchange = hosted.iter().find(|agent| agent["name"] == NAME);
    json!({
        "pid": status["pid"],
        "classes": status["allowed"],
        "fallbacks": status["fallbacks"],
        "log_sync": exchange.map(|exchange| exchange["facts"][LOG_SYNC].clone()),
    })
}

/// The same for people.
pub(super) fn daemon_lines(report: &Value) -> Vec<String> {
    let fallen = fallback_lines(&report["fallbacks"]).into_iter();
    let mut lines: Vec<String> = fallen.map(|line| format!("daemon     {line}")).collect();
    if let Some(mechanism) = report["log_sync"].as_str() {
        lines.push(format!("daemon     logs are synced by {mechanism}"));
    }
    lines
}

/// One line for each way in which links fell.
pub(in crate::cli) fn fallback_lines(fallbacks: &Value) -> Vec<String> {
    let rows = fallbacks.as_array().into_iter().flatten().map(|row| {
        let text = |field: &str| row[field].as_str().unwrap_or_default();
        let (wanted, got, why) = (text("wanted"), text("got"), text("reason"));
        format!("links that wanted {wanted} and are {got}: {}; the last one: {why}", row["links"])
    });
    rows.collect()
}

/// A child makes a ring, and this process reaches for it.
fn other_process() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("this program cannot be found")?;
    let mut child = Command::new(program)
        .args(["doctor", "--show-ring"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("no second process to try with")?;
    let tried = child.stdout.take().context("the second process says nothing").and_then(|out| {
        let mut line = String::new();
        BufReader::new(out.take(64)).read_line(&mut line)?;
        let number = line.trim().parse().context("the second process has no ring")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = pidfd_open(pid.context("no process id")?, PidfdFlags::empty())?;
        probe_peer(process.as_fd(), RingNumber(number)).map_err(anyhow::Error::msg)
    });
    // It ends with its standard input.
    drop(child.stdin.take());
    child.wait().context("the second process does not end")?;
    tried
}

/// The child's part.
pub(super) fn show_ring() -> anyhow::Result<()> {
    let ring = Inbox::new()?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", ring.number().0)?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
