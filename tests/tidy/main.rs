//! The rules of the house, as tests: who may use whom, what every file says of itself, where `unsafe` may stand.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::path::{Path, PathBuf};

/// Each part and the parts of ours that it may use. `benches` and `tests` may use everything; nothing uses them.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("hw", &[]),
    ("ipc", &[]),
    ("ipc/c", &["ipc"]),
    ("scheduler", &["hw"]),
    ("agents/contract", &["ipc"]),
    ("agents/versions", &[]),
    ("agents/packager", &["ipc", "agents-contract", "agents-versions"]),
    (
        "runtime",
        &["hw", "ipc", "scheduler", "agents-contract", "agents-packager", "agents-versions"],
    ),
];

/// The parts whose named modules may hold `unsafe`.
const UNSAFE_PARTS: [&str; 3] = ["hw", "ipc", "ipc/c"];

/// Lines above which a source file has more than one question in it. Tests are not counted.
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(part: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(part)];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<(String, String)> {
    let parts = MAY_USE.iter().map(|(part, _)| *part).chain(["benches", "tests"]);
    parts.flat_map(sources).collect()
}

#[test]
fn parts_use_only_what_they_may() {
    let ours: Vec<String> = MAY_USE.iter().map(|(part, _)| part.replace('/', "-")).collect();
    for (part, allowed) in MAY_USE {
        let text = std::fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let used = manifest["dependencies"].as_table().unwrap().keys();
        for name in used.filter(|name| ours.contains(name)) {
            assert!(allowed.contains(&name.as_str()), "`{part}` must not use `{name}`");
        }
    }
}

#[test]
fn only_the_edges_know_an_async_runtime() {
    for part in ["hw", "ipc", "ipc/c", "scheduler", "agents/contract", "agents/versions"] {
        let text = std::fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for name in manifest["dependencies"].as_table().unwrap().keys() {
            assert!(!name.starts_with("tokio"), "`{part}` must not use `{name}`");
        }
    }
    for (name, text) in sources("agents/packager/src") {
        let is_edge = name.contains("/src/io/") || name.ends_with("/src/io.rs");
        assert!(is_edge || !text.contains("tokio::"), "{name}: tokio lives in `io`");
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in all_sources() {
        assert!(text.starts_with("//!"), "{name}: the first line must be a `//!` header");
        assert!(!name.ends_with("/mod.rs"), "{name}: `ring.rs` beside `ring/`, no `mod.rs`");
    }
}

#[test]
fn files_answer_one_question() {
    for (name, text) in all_sources() {
        let is_test =
            name.contains("/tests/") || name.ends_with("tests.rs") || name.starts_with("tests/");
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(is_test || lines <= FILE_LINES_MAX, "{name}: {lines} lines");
    }
}

#[test]
fn unsafe_stands_only_in_the_ground_parts() {
    for (part, _) in MAY_USE.iter().filter(|(part, _)| !UNSAFE_PARTS.contains(part)) {
        let entry = ["src/lib.rs", "src/main.rs"].map(|file| root().join(part).join(file));
        let text = entry.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "`{part}` must forbid unsafe code");
    }
}

/// Features that only development dependencies turn on: the points at which tests kill (`ipc::fault`), the generated
/// machines (`hw::trees`), and what attacks the readers of archives (`agents_packager::unpack`).
const TEST_FEATURES: [&str; 3] = ["faults", "trees", "attacks"];

#[test]
fn no_program_has_what_only_tests_may_have() {
    let whole = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let texts = MAY_USE.iter().map(|(part, _)| root().join(part).join("Cargo.toml"));
    let texts = texts.map(|path| std::fs::read_to_string(path).unwrap()).chain([whole]);
    for text in texts {
        let manifest: toml::Table = text.parse().unwrap();
        let shared = manifest.get("workspace").and_then(|table| table.get("dependencies"));
        let own = manifest.get("dependencies");
        let features = manifest.get("features").and_then(|table| table.as_table());
        // What any other feature brings, `default` among them; one of tests may bring another one.
        let is_ours = |name: &str| TEST_FEATURES.contains(&name);
        let brought = features.into_iter().flatten();
        let brought = brought.filter(|(name, _)| !is_ours(name)).map(|(_, value)| value);
        for table in [shared, own].into_iter().flatten().chain(brought) {
            for feature in TEST_FEATURES {
                assert!(!table.to_string().contains(feature), "{feature}: {table}");
            }
        }
    }
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    for feature in TEST_FEATURES {
        assert!(!makefile.contains(feature), "nothing is built with {feature} to be used");
    }
}

#[test]
fn nothing_is_ignored_and_nothing_sleeps_for_order() {
    for (name, text) in all_sources().iter().filter(|(name, _)| name != "tests/tidy/main.rs") {
        assert!(!text.contains("#[ignore"), "{name}: a test that is ignored proves nothing");
    }
}

#[test]
fn no_registry_host_is_written_down() {
    // Spelled in pieces, so that this file does not break its own rule.
    let hosts =
        [("pypi", ".org"), ("pythonhosted", ".org"), ("npmjs", ".org"), ("index.crates", ".io")];
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "agents/packager/LIMITS.md",
        "Makefile",
        ".ci/run",
    ]
    .into_iter()
    .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)));
    for (name, text) in all_sources().into_iter().chain(documents) {
        for (host, domain) in hosts {
            let written = format!("{host}{domain}");
            assert!(!text.contains(&written), "{name}: take endpoints from the installed client");
        }
    }
}
