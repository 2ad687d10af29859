//! A separate program on the bus: asks the Packager over shared memory, with no command line involved.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::world::{Outcome, World, program_beside_tests, wait_until};

fn ask(world: &World, tool: &str, arguments: &Value) -> Outcome {
    let socket = world.place("run/bolide/bolide.sock");
    let mut command = world.command(program_beside_tests("examples/sibling"));
    command.arg("--socket").arg(socket).args(["--tool", tool, "--json", &arguments.to_string()]);
    command.arg("--dir").arg(world.project());
    Outcome::of(&mut command)
}

/// One number of the daemon's metrics.
pub(crate) fn metric(world: &World, name: &str) -> f64 {
    let status = world.bolide(&["status", "--json"]).succeeds().json();
    let address = status["metrics_addr"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the metric is there");
    line.trim().parse().unwrap()
}

const CRITICAL: &str = "bolide_bus_messages_total{class=\"critical\"}";

#[test]
fn a_sibling_plans_installs_and_undoes_over_shared_memory() {
    let world = World::new();
    let before = world.tree();
    let _daemon = world.daemon();
    let messages = metric(&world, CRITICAL);
    let packages = json!(["npm:tree@^1", "pypi:wall", "cargo:bread@1"]);
    let plan = ask(&world, "pkg.plan", &json!({"add": packages})).succeeds().json();
    assert!(plan["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(world.tree(), before);
    let refused = ask(&world, "pkg.install", &json!({"packages": packages}));
    refused.fails(4, &["approval-needed"]);
    assert_eq!(world.tree(), before);
    let request = json!({"packages": packages, "approve": true});
    let installed = ask(&world, "pkg.install", &request).succeeds().json();
    assert!(installed["transaction"].as_str().unwrap().starts_with("tx-"));
    world.run("node", &["-p", "require('tree')"]).succeeds();
    world.run(".venv/bin/wall", &[]).succeeds();
    assert!(metric(&world, CRITICAL) >= messages + 6.0, "requests and answers cross shared memory");
    ask(&world, "pkg.rollback", &json!({})).succeeds();
    assert_eq!(world.tree(), before);
}

/// Descriptors of the hosted Packager that belong to callers: shared memory, doorbells, and the project's directories.
fn held_for_callers(world: &World) -> Vec<String> {
    let status = world.bolide(&["status", "--json"]).succeeds().json();
    let packager = status["hosted"][0]["pid"].as_u64().unwrap();
    let unix = std::fs::read_to_string("/proc/net/unix").unwrap();
    let inodes: Vec<&str> =
        unix.lines().skip(1).filter_map(|line| line.split_whitespace().nth(6)).collect();
    let project = world.project();
    let descriptors = std::fs::read_dir(format!("/proc/{packager}/fd")).unwrap();
    let targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let is_of_callers = |target: &PathBuf| {
        let text = target.to_string_lossy();
        let inode = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        text.starts_with("/memfd:")
            || target.starts_with(&project)
            || inode.is_some_and(|inode| inodes.contains(&inode))
    };
    let mut held: Vec<String> =
        targets.filter(is_of_callers).map(|target| target.display().to_string()).collect();
    held.sort();
    held
}

/// The registry never answers, so only the caller's death can end the work.
#[test]
fn the_packager_lets_go_of_a_sibling_that_was_killed_while_it_resolves() {
    for silent in ["/npm/", "/simple/", "/index/", "/files/"] {
        let world = World::new();
        let before = world.tree();
        let _daemon = world.daemon();
        let held = held_for_callers(&world);
        let lanes = metric(&world, "bolide_bus_lanes");
        world.registry.fall_silent(silent);
        let socket = world.place("run/bolide/bolide.sock");
        let packages = json!(["npm:tree", "pypi:wall", "cargo:bread"]);
        let request = json!({"packages": packages, "approve": true}).to_string();
        let mut sibling = world
            .command(program_beside_tests("examples/sibling"))
            .arg("--socket")
            .arg(socket)
            .args(["--tool", "pkg.install", "--json", &request, "--dir"])
            .arg(world.project())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the registry is asked", || world.registry.unanswered() > 0);
        assert!(held_for_callers(&world).len() > held.len(), "the call holds descriptors");
        sibling.kill().unwrap();
        sibling.wait().unwrap();
        wait_until("its descriptors are gone", || held_for_callers(&world) == held);
        assert!(metric(&world, "bolide_bus_lanes") <= lanes);
        assert_eq!(world.tree(), before);
    }
}

#[test]
fn a_sibling_killed_in_the_middle_leaves_nothing_on_the_bus() {
    let world = World::new();
    let before = world.tree();
    let _daemon = world.daemon();
    let lanes = metric(&world, "bolide_bus_lanes");
    let socket = world.place("run/bolide/bolide.sock");
    let request = json!({"packages": ["npm:tree", "pypi:wall"], "approve": true}).to_string();
    let mut sibling = world
        .command(program_beside_tests("examples/sibling"))
        .arg("--socket")
        .arg(socket)
        .args(["--tool", "pkg.install", "--json", &request, "--dir"])
        .arg(world.project())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the sibling is on the bus", || {
        sibling.try_wait().unwrap().is_some() || metric(&world, "bolide_bus_lanes") > lanes
    });
    sibling.kill().unwrap();
    sibling.wait().unwrap();
    wait_until("its lanes are gone", || metric(&world, "bolide_bus_lanes") <= lanes);
    wait_until("its work has ended", || {
        let agents = world.bolide(&["status", "--json"]).succeeds().json();
        agents["hosted"][0]["tasks"]["running"] == 0
    });
    let history = world.bolide(&["history", "--json"]).succeeds().json();
    if history["transactions"].as_array().unwrap().iter().any(|tx| tx["state"] == "committed") {
        world.bolide(&["rollback"]).succeeds();
    }
    assert_eq!(world.tree(), before);
}
