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

/// What happens where a class cannot be had.
fn without(class: Class) -> &'static str {
    match class {
        Class::Critical => "links are of class high, or normal",
        Class::High => "links that want high are normal: over a socket",
        Class::Normal => "links that fall this far are refused",
        Class::Low => "queues live in memory",
        Class::Batch => "large payloads travel through lanes, in pieces",
    }
}

/// The classes, for `doctor --json`.
pub(super) fn report(root: &Root) -> Vec<Value> {
    let classes = [Class::Critical, Class::High, Class::Normal, Class::Batch];
    let row = |class: Class| {
        let tried = match class {
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

/// What the probe cannot see: this process may reach its own child where two agents may not reach each other.
fn note(class: Class, root: &Root) -> Option<&'static str> {
    let scope = root.read("proc/sys/kernel/yama/ptrace_scope")?;
    let is_narrow = class == Class::High && scope.trim() != "0";
    is_narrow.then_some(
        "Yama keeps processes apart that did not start each other: between those, links that want \
         high are normal",
    )
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
