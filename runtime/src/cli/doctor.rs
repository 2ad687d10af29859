//! `bolide doctor`: what this machine is, what Bolide makes of it, and why.

mod archives;
mod builds;
mod bus;
mod capture;
mod heat;
mod processor;
mod store;

pub(super) use self::bus::fallback_lines;

use std::path::PathBuf;
use std::process::Command;

use hw::root::Root;
use hw::watcher::Watcher;
use scheduler::admission::Admission;
use scheduler::decision::{Background, Decision, State};
use scheduler::governor::Thresholds;
use scheduler::placement::{Work, cpus_of};
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::machine::cool_capacity;
use processor::Processor;

/// `bolide doctor`
#[derive(clap::Args, Debug)]
pub(super) struct Doctor {
    /// Read a recorded or generated tree in the place of `/`, or of what the configuration names.
    #[arg(long, value_name = "DIRECTORY")]
    sysfs_root: Option<PathBuf>,
    /// Save what this command uses of the files that it reads of the machine (CPUs, sensors, control groups of this
    /// process), and nothing else, as a new archive (.tar.gz). Unpacked, it serves as --sysfs-root on any machine.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// The other process of a probe: makes a ring, says its number, and ends with its standard input.
    #[arg(long, hide = true)]
    show_ring: bool,
}

/// The tools of the ecosystems that an installed environment is used with.
const TOOLS: [&str; 5] = ["node", "npm", "python3", "cargo", "git"];

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        if self.show_ring {
            bus::show_ring()?;
            return Ok(Exit::Done);
        }
        let (configured, thresholds) = configured(context);
        let root = self.sysfs_root.map_or(configured, Root::at).recording();
        let mut report = report(&root, &thresholds);
        report["daemon"] = bus::daemon(context);
        report["store"] = store::report(&root, context);
        if let Some(file) = &self.capture {
            let recorded = root.recorded();
            capture::write(&recorded, file)?;
            report["captured"] = json!({
                "file": file,
                "files": recorded.files.len(),
                "refused": recorded.refused.len(),
                "left_out": recorded.left_out_count,
            });
        }
        if self.json {
            output::print_json(&report)?;
        } else {
            output::print(&output::harmless(&text(&report)))?;
        }
        Ok(Exit::Done)
    }
}

/// Where the machine is read and the temperatures at which less runs, as the daemon has them. A configuration that cannot be
/// read is told, and does not keep anybody from asking about the machine.
fn configured(context: &Context) -> (Root, Thresholds) {
    match context.load([]) {
        Ok(config) => (config.settings.root(), config.settings.thresholds),
        Err(failure) => {
            output::complain(&failure);
            (Root::machine(), Thresholds::default())
        }
    }
}

fn report(root: &Root, thresholds: &Thresholds) -> Value {
    let processor = Processor::read(root);
    let classes = &processor.classification.classes;
    let kernel = hw::kernel::features(root);
    let features: serde_json::Map<String, Value> =
        kernel.iter().map(|feature| (feature.name.to_owned(), json!(feature.present))).collect();
    let missing: Vec<Value> = kernel
        .iter()
        .filter(|feature| feature.present == Some(false))
        .map(|f| json!({"feature": f.name, "since": f.since, "without": f.without}))
        .collect();
    let most = most(root);
    let work = Work::ALL.map(|work| {
        json!({
            "kind": format!("{work:?}").to_lowercase(),
            "cpus": cpus_of(work.lane(), classes, &processor.allowed.cpus, false).to_string(),
            "slots": Admission::new(most).width(work),
        })
    });
    let tools: serde_json::Map<String, Value> =
        TOOLS.iter().map(|tool| ((*tool).to_owned(), json!(tool_version(tool)))).collect();
    json!({
        "schema": "bolide.doctor/1",
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": processor.report(root),
        "simd": simd(root),
        "work": work,
        "thermal": heat::report(root, &processor.allowed.cpus, thresholds),
        "kernel": {
            "release": root.read("proc/sys/kernel/osrelease"),
            "features": features,
            "missing": missing,
        },
        "bus": bus::report(root),
        "archives": archives::report(root),
        "builds": builds::report(root),
        "hwloc": processor.hwloc(),
        "tools": tools,
    })
}

/// What may run at most: of a cool machine.
fn most(root: &Root) -> Decision {
    let capacity = cool_capacity(root, &Watcher::new(root.clone()));
    let slots = capacity.slots_at(capacity.slots_max());
    Decision { state: State::Off, slots, heavy: true, background: Background::Efficient }
}

/// The instructions that libraries choose at run time; of a recorded machine nothing is known.
fn simd(root: &Root) -> Value {
    let features = hw::simd::features().into_iter();
    let features: serde_json::Map<String, Value> =
        features.map(|(name, present)| (name.to_owned(), json!(present))).collect();
    if root.is_machine() { Value::Object(features) } else { Value::Null }
}

/// The first line that `tool --version` prints; `None` where there is no such tool or it fails.
fn tool_version(tool: &str) -> Option<String> {
    let output = Command::new(tool).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn text(report: &Value) -> String {
    let mut lines = Vec::new();
    lines.push(format!("bolide     {}", plain(&report["version"])));
    lines.extend(processor::lines(&report["cpu"], &report["hwloc"]));
    if let Some(features) = report["simd"].as_object() {
        let present = features.iter().filter(|(_, present)| **present == true);
        let names: Vec<&str> = present.map(|(name, _)| name.as_str()).collect();
        lines.push(format!("simd       {} (chosen at run time)", names.join(" ")));
    }
    for work in report["work"].as_array().into_iter().flatten() {
        let (kind, cpus, slots) =
            (plain(&work["kind"]), plain(&work["cpus"]), plain(&work["slots"]));
        lines.push(format!("work       {kind}: {slots} at once on {cpus}"));
    }
    lines.extend(heat::lines(&report["thermal"]));
    lines.push(format!("kernel     {}", plain(&report["kernel"]["release"])));
    for missing in report["kernel"]["missing"].as_array().into_iter().flatten() {
        let (feature, since) = (plain(&missing["feature"]), plain(&missing["since"]));
        let without = plain(&missing["without"]);
        lines.push(format!("           no {feature} (since {since}): {without}"));
    }
    for (feature, present) in report["kernel"]["features"].as_object().into_iter().flatten() {
        if present.is_null() {
            lines.push(format!("           {feature}: not known from this tree"));
        }
    }
    lines.extend(bus::lines(report["bus"].as_array().map_or(&[][..], Vec::as_slice)));
    lines.extend(bus::daemon_lines(&report["daemon"]));
    lines.extend(archives::line(&report["archives"]));
    lines.extend(builds::line(&report["builds"]));
    lines.extend(store::line(&report["store"]));
    for (tool, version) in report["tools"].as_object().into_iter().flatten() {
        let version = version.as_str().unwrap_or("not found");
        lines.push(format!("{tool:<10} {version}"));
    }
    if let Some(file) = report["captured"]["file"].as_str() {
        let (files, refused) = (&report["captured"]["files"], &report["captured"]["refused"]);
        lines.push(format!("captured   {files} files, {refused} that refused to be read: {file}"));
    }
    lines.join("\n") + "\n"
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
