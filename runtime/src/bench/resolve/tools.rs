//! The tools that are compared, each with its own directory, its caches, and how its answer is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agents_packager::api::PlanAnswer;
use agents_packager::ecosystem::Ecosystem;
use anyhow::Context;
use serde_json::{Map, Value, json};

use super::sets::Set;
use crate::bench::step::{Memory, Step};

/// Longest time that one run of one tool may take before the benchmark gives up on it.
/// Whoever takes longer is not the fastest.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);

/// One tool's way to answer the question of a set, in a directory of its own.
pub(super) struct Tool {
    pub(super) name: &'static str,
    directory: PathBuf,
    /// What is removed before a cold run, in its directory.
    caches: &'static [&'static str],
    cold: Step,
    warm: Step,
    /// Removed before every run, so that the question is asked anew.
    answer: Option<&'static str>,
    read: fn(&Path, &str) -> Option<BTreeSet<String>>,
    pub(super) is_judge: bool,
}

/// One run.
pub(super) struct Ran {
    pub(super) elapsed_ms: f64,
    pub(super) peak_rss_bytes: u64,
}

impl Tool {
    pub(super) fn run(&self, cold: bool) -> anyhow::Result<Ran> {
        for cache in self.caches.iter().filter(|_| cold) {
            let path = self.directory.join(cache);
            if path.exists() {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove `{}`", path.display()))?;
            }
        }
        if let Some(answer) = self.answer {
            let _ = std::fs::remove_file(self.directory.join(answer));
        }
        let command = if cold { &self.cold } else { &self.warm };
        let began = Instant::now();
        let peak_rss_bytes =
            command.run(&self.directory, &self.directory, Memory::Own, RUN_TIME_MAX)?;
        let elapsed_ms = began.elapsed().as_secs_f64() * 1000.0;
        Ok(Ran { elapsed_ms, peak_rss_bytes })
    }

    pub(super) fn packages(&self) -> Option<BTreeSet<String>> {
        let file = self.answer.unwrap_or("output");
        (self.read)(&self.directory, &std::fs::read_to_string(self.directory.join(file)).ok()?)
    }
}

/// Bolide first, then the peers of the set's ecosystem.
pub(super) fn tools(set: &Set, scratch: &Path, peers: &Path, registry: Option<&str>) -> Vec<Tool> {
    let mut tools = vec![bolide(set, scratch, registry)];
    match set.ecosystem {
        Ecosystem::Pypi => tools.extend(python_peers(set, scratch, peers)),
        Ecosystem::Npm => tools.extend(npm_peers(set, scratch, peers, registry)),
        Ecosystem::Cargo => tools.push(cargo_peer(set, scratch)),
        // There is no set of it.
        Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {}
    }
    tools
}

fn place(scratch: &Path, name: &str) -> PathBuf {
    let directory = scratch.join(name);
    let _ = std::fs::create_dir_all(&directory);
    directory
}

fn bolide(set: &Set, scratch: &Path, registry: Option<&str>) -> Tool {
    let directory = place(scratch, "bolide");
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("bolide"));
    let specs: Vec<String> =
        set.packages.iter().map(|(name, range)| set.spec(name, range)).collect();
    let mut cold = Step::new(own, &["plan", "--json", "--standalone"])
        .variable("XDG_CACHE_HOME", directory.join("cache"))
        .variable("BOLIDE_STATE_DIR", directory.join("state"))
        .and(&specs);
    if let Some(registry) = registry {
        cold = cold.and(&["--registry", &format!("{}={registry}", set.ecosystem)]);
    }
    Tool {
        name: "bolide",
        caches: &["cache", "state"],
        warm: cold.and(&["--offline"]),
        cold,
        directory,
        answer: None,
        read: |_, output| {
            let plan: PlanAnswer = serde_json::from_str(output).ok()?;
            Some(
                plan.packages
                    .iter()
                    .filter_map(|package| name_and_version(&package.purl))
                    .collect(),
            )
        },
        is_judge: false,
    }
}

/// `pkg:npm/%40scope/name@1.0.0` as `@scope/name 1.0.0`.
fn name_and_version(purl: &str) -> Option<String> {
    let path = purl.strip_prefix("pkg:")?.split_once('/')?.1.replace("%40", "@");
    let path = path.replace("%2B", "+").replace("%2b", "+").replace("%21", "!");
    let (name, version) = path.rsplit_once('@')?;
    Some(format!("{name} {version}"))
}

fn python_peers(set: &Set, scratch: &Path, peers: &Path) -> Vec<Tool> {
    let lines: String =
        set.packages.iter().map(|(name, range)| format!("{name}{range}\n")).collect();
    let directory = place(scratch, "uv");
    let _ = std::fs::write(directory.join("requirements.in"), &lines);
    let uv = peers.join("bin/uv");
    let arguments = [
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--strip-extras",
        // The question that is asked of all: what can be installed without building anything.
        "--only-binary=:all:",
        "requirements.in",
    ];
    let cold = Step::new(uv, &arguments).variable("UV_CACHE_DIR", directory.join("cache"));
    let warm = cold.and(&["--offline"]);
    let read: fn(&Path, &str) -> Option<BTreeSet<String>> =
        |_, output| Some(output.lines().map(|line| line.replace("==", " ")).collect());
    let uv = Tool {
        name: "uv",
        caches: &["cache"],
        directory,
        cold,
        warm,
        answer: None,
        read,
        is_judge: true,
    };
    vec![uv, pip(&lines, scratch)]
}

/// The pip of the interpreter that is resolved for. It has no offline mode: its warm run has a full cache.
fn pip(lines: &str, scratch: &Path) -> Tool {
    let directory = place(scratch, "pip");
    let _ = std::fs::write(directory.join("requirements.in"), lines);
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--only-binary=:all:",
        "--no-input",
        "--report=report.json",
        "-r",
        "requirements.in",
    ];
    let cold = Step::new("python3", &arguments).variable("PIP_CACHE_DIR", directory.join("cache"));
    Tool {
        name: "pip",
        caches: &["cache"],
        directory,
        warm: cold.clone(),
        cold,
        answer: Some("report.json"),
        read: |_, _| None,
        is_judge: false,
    }
}

fn npm_peers(set: &Set, scratch: &Path, peers: &Path, registry: Option<&str>) -> Vec<Tool> {
    let dependencies: Map<String, Value> =
        set.packages.iter().map(|(name, range)| (name.clone(), json!(range))).collect();
    let manifest =
        json!({"name": "bench", "private": true, "dependencies": dependencies}).to_string();
    let make = |name| {
        let directory = place(scratch, name);
        let _ = std::fs::write(directory.join("package.json"), &manifest);
        if let Some(registry) = registry {
            let _ = std::fs::write(directory.join(".npmrc"), format!("registry={registry}\n"));
        }
        directory
    };
    let (npm, pnpm, bun) = (make("npm"), make("pnpm"), make("bun"));
    let lock = ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"];
    let npm_cold = Step::new("npm", &lock).variable("npm_config_cache", npm.join("cache"));
    let pnpm_cold =
        Step::new(peers.join("bin/pnpm"), &["install", "--lockfile-only", "--ignore-scripts"])
            .variable("XDG_CACHE_HOME", pnpm.join("cache"))
            .variable("XDG_DATA_HOME", pnpm.join("data"));
    let bun_cold =
        Step::new(peers.join("bin/bun"), &["install", "--lockfile-only", "--ignore-scripts"])
            .variable("BUN_INSTALL_CACHE_DIR", bun.join("cache"));
    let unread: fn(&Path, &str) -> Option<BTreeSet<String>> = |_, _| None;
    vec![
        Tool {
            name: "npm",
            caches: &["cache"],
            directory: npm,
            warm: npm_cold.and(&["--offline"]),
            cold: npm_cold,
            answer: Some("package-lock.json"),
            read: |_, text| npm_lock(text),
            is_judge: true,
        },
        Tool {
            name: "pnpm",
            caches: &["cache", "data"],
            directory: pnpm,
            warm: pnpm_cold.and(&["--offline"]),
            cold: pnpm_cold,
            answer: Some("pnpm-lock.yaml"),
            read: unread,
            is_judge: false,
        },
        Tool {
            name: "bun",
            caches: &["cache"],
            directory: bun,
            warm: bun_cold.and(&["--prefer-offline"]),
            cold: bun_cold,
            answer: Some("bun.lock"),
            read: unread,
            is_judge: false,
        },
    ]
}

/// The packages of a package-lock.json that npm installs on this platform: not the optional ones that do not fit it, nor what only
/// those need.
fn npm_lock(text: &str) -> Option<BTreeSet<String>> {
    let lock: Value = serde_json::from_str(text).ok()?;
    let packages = lock["packages"].as_object()?;
    let mut reached = BTreeSet::from([""]);
    let mut next = vec![""];
    while let Some(place) = next.pop() {
        let needs = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
        let needs = needs.iter().filter_map(|table| packages.get(place)?[*table].as_object());
        for name in needs.flat_map(Map::keys) {
            let Some((found, entry)) = seen_from(packages, place, name) else { continue };
            if fits(entry) && reached.insert(found) {
                next.push(found);
            }
        }
    }
    let entries = packages.iter().filter(|(place, entry)| {
        !place.is_empty() && reached.contains(place.as_str()) && entry["inBundle"] != json!(true)
    });
    let name_and_version = |(place, entry): (&String, &Value)| {
        let folder = place.rsplit_once("node_modules/")?.1;
        let name = entry["name"].as_str().unwrap_or(folder);
        Some(format!("{name} {}", entry["version"].as_str()?))
    };
    Some(entries.filter_map(name_and_version).collect())
}

/// Whether npm installs an entry of its lock here.
fn fits(entry: &Value) -> bool {
    let has = |key: &str, own: &str| {
        entry[key].as_array().is_none_or(|allowed| {
            let is_barred =
                |one: &Value| one.as_str().and_then(|it| it.strip_prefix('!')) == Some(own);
            let names_any = allowed.iter().any(|one| !one.as_str().unwrap_or("").starts_with('!'));
            !allowed.iter().any(is_barred) && (!names_any || allowed.contains(&json!(own)))
        })
    };
    has("os", "linux") && has("cpu", "x64") && has("libc", "glibc")
}

/// What a package at a place finds by a name: beside what is in it, then in every folder above.
fn seen_from<'a>(
    packages: &'a Map<String, Value>,
    place: &str,
    name: &str,
) -> Option<(&'a str, &'a Value)> {
    let mut place = Some(place);
    while let Some(from) = place {
        let slash = if from.is_empty() { "" } else { "/" };
        let wanted = format!("{from}{slash}node_modules/{name}");
        if let Some((found, entry)) = packages.get_key_value(&wanted) {
            return Some((found, entry));
        }
        // Above `a/node_modules/b` is `a`.
        place = from.rfind("node_modules/").map(|at| from[..at].trim_end_matches('/'));
    }
    None
}

fn cargo_peer(set: &Set, scratch: &Path) -> Tool {
    let directory = place(scratch, "cargo");
    let mut manifest =
        "[package]\nname = \"bench\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n"
            .to_owned();
    for (name, range) in &set.packages {
        manifest += &format!("{name} = \"{range}\"\n");
    }
    let _ = std::fs::create_dir_all(directory.join("src"));
    let _ = std::fs::write(directory.join("src/lib.rs"), "");
    let _ = std::fs::write(directory.join("Cargo.toml"), manifest);
    let cold =
        Step::new("cargo", &["generate-lockfile"]).variable("CARGO_HOME", directory.join("home"));
    let read: fn(&Path, &str) -> Option<BTreeSet<String>> = |_, text| {
        let lock: toml::Table = text.parse().ok()?;
        let entries =
            lock["package"].as_array()?.iter().filter(|entry| entry.get("source").is_some());
        Some(
            entries
                .filter_map(|e| Some(format!("{} {}", e["name"].as_str()?, e["version"].as_str()?)))
                .collect(),
        )
    };
    let warm = cold.and(&["--offline"]);
    Tool {
        name: "cargo",
        caches: &["home"],
        directory,
        cold,
        warm,
        answer: Some("Cargo.lock"),
        read,
        is_judge: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_npms_lock_counts_what_is_installed_here() {
        let lock = json!({"packages": {
            "": {"dependencies": {"a": "1", "other": "npm:named@1"}},
            "node_modules/a": {"version": "1.0.0", "dependencies": {"b": "2"},
                "optionalDependencies": {"wasm": "1", "@scope/here": "1"}},
            "node_modules/a/node_modules/b": {"version": "2.0.0", "peerDependencies": {"c": "1"}},
            "node_modules/b": {"version": "1.0.0"},
            "node_modules/c": {"version": "1.0.0"},
            "node_modules/wasm": {"version": "1.0.0", "cpu": ["wasm32"], "optional": true,
                "dependencies": {"only-wasm": "1"}},
            "node_modules/only-wasm": {"version": "1.0.0", "optional": true},
            "node_modules/@scope/here": {"version": "1.0.0", "os": ["!win32"], "cpu": ["x64"]},
            "node_modules/other": {"version": "1.2.0", "name": "named"},
        }});
        let expected = ["@scope/here 1.0.0", "a 1.0.0", "b 2.0.0", "c 1.0.0", "named 1.2.0"];
        let found = npm_lock(&lock.to_string()).expect("a lock");
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect());
    }
}
