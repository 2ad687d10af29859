//! `bolide doctor`: what this machine is and what Bolide makes of it.

mod bus;

pub(super) use self::bus::fallback_lines;

use std::path::PathBuf;
use std::process::Command;

use hw::cpu::Classes;
use hw::root::Root;
use hw::thermal::Sensor;
use scheduler::placement::{Work, place, slots};
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::{Context, output};

/// `bolide doctor`
#[derive(clap::Args, Debug)]
pub(super) struct Doctor {
    /// Read a recorded or generated tree in the place of `/`.
    #[arg(long, value_name = "DIRECTORY")]
    sysfs_root: Option<PathBuf>,
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
        let root = self.sysfs_root.map_or_else(Root::machine, Root::at);
        let mut report = report(&root);
        report["daemon"] = bus::daemon(context);
        if self.json {
            output::print_json(&report)?;
        } else {
            output::print(&output::harmless(&text(&report)))?;
        }
        Ok(Exit::Done)
    }
}

fn report(root: &Root) -> Value {
    let allowed = hw::affinity::allowed(root);
    let classes = Classes::read(root, &allowed);
    let sensor = Sensor::find(root);
    let celsius = sensor.as_ref().and_then(|sensor| sensor.read(root));
    let features: serde_json::Map<String, Value> = hw::kernel::features(root)
        .iter()
        .map(|feature| (feature.name.to_owned(), json!(feature.present)))
        .collect();
    let missing: Vec<Value> = hw::kernel::features(root)
        .iter()
        .filter(|feature| !feature.present)
        .map(|f| json!({"feature": f.name, "since": f.since, "without": f.without}))
        .collect();
    let work = Work::ALL.map(|work| {
        json!({
            "kind": format!("{work:?}").to_lowercase(),
            "cpus": place(work, &classes).to_string(),
            "slots": slots(work, &classes),
        })
    });
    let tools: serde_json::Map<String, Value> =
        TOOLS.iter().map(|tool| ((*tool).to_owned(), json!(tool_version(tool)))).collect();
    json!({
        "schema": "bolide.doctor/1",
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": {
            "p": classes.performance.iter().collect::<Vec<_>>(),
            "e": classes.efficient.iter().collect::<Vec<_>>(),
            "lpe": classes.low_power.iter().collect::<Vec<_>>(),
            "source": classes.source,
            "allowed": allowed.to_string(),
            "microcode": microcode(root),
        },
        "work": work,
        "thermal": {
            "source": sensor.map(|sensor| sensor.source),
            "celsius": celsius,
            // The governor is not part of this version: nothing is throttled by temperature.
            "state": "off",
        },
        "kernel": {
            "release": root.read("proc/sys/kernel/osrelease"),
            "features": features,
            "missing": missing,
        },
        "bus": bus::report(root),
        "hwloc": null,
        "tools": tools,
    })
}

fn microcode(root: &Root) -> Option<String> {
    root.read("sys/devices/system/cpu/cpu0/microcode/version")
}

/// The first line that `tool --version` prints; `None` where there is no such tool or it fails.
fn tool_version(tool: &str) -> Option<String> {
    let output = Command::new(tool).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn text(report: &Value) -> String {
    let mut lines = Vec::new();
    let cpu = &report["cpu"];
    let count = |class: &str| cpu[class].as_array().map_or(0, Vec::len);
    lines.push(format!("bolide     {}", plain(&report["version"])));
    lines.push(format!(
        "cpu        {} P, {} E, {} LP-E of {} ({})",
        count("p"),
        count("e"),
        count("lpe"),
        plain(&cpu["allowed"]),
        plain(&cpu["source"])
    ));
    for work in report["work"].as_array().into_iter().flatten() {
        let (kind, cpus, slots) =
            (plain(&work["kind"]), plain(&work["cpus"]), plain(&work["slots"]));
        lines.push(format!("           {kind}: {slots} at once on {cpus}"));
    }
    let thermal = &report["thermal"];
    lines.push(match (thermal["source"].as_str(), thermal["celsius"].as_f64()) {
        (Some(source), Some(celsius)) => format!("thermal    {celsius:.1} C ({source})"),
        (Some(source), None) => format!("thermal    {source} gives no valid reading"),
        (None, _) => "thermal    no package sensor".to_owned(),
    });
    lines.push(format!("kernel     {}", plain(&report["kernel"]["release"])));
    for missing in report["kernel"]["missing"].as_array().into_iter().flatten() {
        let (feature, since) = (plain(&missing["feature"]), plain(&missing["since"]));
        let without = plain(&missing["without"]);
        lines.push(format!("           no {feature} (since {since}): {without}"));
    }
    lines.extend(bus::lines(report["bus"].as_array().map_or(&[][..], Vec::as_slice)));
    lines.extend(bus::daemon_lines(&report["daemon"]));
    for (tool, version) in report["tools"].as_object().into_iter().flatten() {
        let version = version.as_str().unwrap_or("not found");
        lines.push(format!("{tool:<10} {version}"));
    }
    lines.join("\n") + "\n"
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
