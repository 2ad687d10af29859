//! Universes cut out of the public registry, with cargo's own answers. `tests/differential/cargo` writes them
//! (`run --minimise`); no host is needed to ask them again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use semver::Version;
use serde::Deserialize;

use super::{Policy, Request, SOURCE, Universe, resolve};
use crate::metadata::Hashes;
use crate::metadata::cargo::{self as metadata, Dependency, DependencyKind};
use crate::resolve::cargo::Root;

#[derive(Deserialize)]
struct Fixture {
    name: String,
    roots: Vec<Member>,
    rust_versions: Vec<Version>,
    before: Vec<(String, Version)>,
    index: BTreeMap<String, Vec<Line>>,
    lock: Vec<Locked>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    version: Version,
    needs: Vec<Need>,
    local: Vec<String>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Need {
    alias: String,
    name: String,
    req: String,
    features: Vec<String>,
    default: bool,
    optional: bool,
    kind: String,
}

#[derive(Deserialize)]
struct Line {
    vers: Version,
    #[serde(default)]
    deps: Vec<LineNeed>,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
    links: Option<String>,
    rust_version: Option<String>,
    #[serde(default)]
    yanked: bool,
}

#[derive(Deserialize)]
struct LineNeed {
    name: String,
    package: Option<String>,
    req: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "yes")]
    default_features: bool,
    target: Option<String>,
    kind: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: Version,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(rename = "crate")]
    is_crate: bool,
}

fn kind(text: &str) -> DependencyKind {
    match text {
        "dev" => DependencyKind::Dev,
        "build" => DependencyKind::Build,
        _ => DependencyKind::Normal,
    }
}

fn root(member: Member) -> Root {
    let need = |need: Need| Dependency {
        alias: need.alias,
        package: need.name,
        requirement: need.req.parse().expect("a requirement"),
        features: need.features,
        default_features: need.default,
        optional: need.optional,
        target: None,
        kind: kind(&need.kind),
        registry: None,
    };
    Root {
        name: member.name,
        version: member.version,
        dependencies: member.needs.into_iter().map(need).collect(),
        local: member.local,
        features: member.features,
    }
}

fn version(line: Line) -> metadata::Version {
    let need = |need: LineNeed| Dependency {
        package: need.package.unwrap_or_else(|| need.name.clone()),
        alias: need.name,
        requirement: need.req.parse().expect("a requirement"),
        features: need.features,
        default_features: need.default_features,
        optional: need.optional,
        target: need.target,
        kind: kind(need.kind.as_deref().unwrap_or_default()),
        registry: None,
    };
    metadata::Version {
        version: line.vers,
        dependencies: line.deps.into_iter().map(need).collect(),
        features: line.features,
        yanked: line.yanked,
        links: line.links,
        rust_version: line.rust_version,
        hashes: Hashes { sha256: Some("0".repeat(64)), sha512: None },
        published: None,
    }
}

/// Name, version and references, as both sides write them.
type Row = (String, String, Vec<String>);

fn check(place: &Path) {
    let text = std::fs::read_to_string(place).expect("readable");
    let fixture: Fixture = serde_json::from_str(&text).expect("a universe");
    let mut universe = Universe::default();
    for (name, lines) in fixture.index {
        universe.crates.insert(name, lines.into_iter().map(version).collect());
    }
    let mut preferred: BTreeMap<String, BTreeSet<Version>> = BTreeMap::new();
    for (name, version) in fixture.before {
        preferred.entry(name).or_default().insert(version);
    }
    let roots: Vec<Root> = fixture.roots.into_iter().map(root).collect();
    let request = Request {
        roots: &roots,
        preferred: &preferred,
        policy: &Policy { rust_versions: fixture.rust_versions, ..Policy::default() },
        source: SOURCE,
        scope: None,
        patches: &[],
        format: 4,
        download: &|_, _, _| String::new(),
        keep_on: &|| Ok(()),
    };
    let resolved = resolve(&request, &universe);
    let resolved = resolved.unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
    let ours: toml::Table = resolved.lock.render().parse().expect("a lock");
    let empty = Vec::new();
    let packages = ours["package"].as_array().expect("packages");
    let ours: BTreeSet<Row> = packages
        .iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().expect("a text").to_owned();
            let needs = package.get("dependencies").and_then(toml::Value::as_array);
            let needs = needs.unwrap_or(&empty).iter();
            let needs = needs.map(|need| need.as_str().expect("a text").to_owned());
            (text("name"), text("version"), needs.collect())
        })
        .collect();
    assert!(fixture.lock.iter().any(|locked| locked.is_crate), "{}", fixture.name);
    let theirs: BTreeSet<Row> = fixture
        .lock
        .into_iter()
        .map(|locked| (locked.name, locked.version.to_string(), locked.dependencies))
        .collect();
    let (more, less): (Vec<_>, Vec<_>) =
        (ours.difference(&theirs).collect(), theirs.difference(&ours).collect());
    assert!(
        more.is_empty() && less.is_empty(),
        "{}: ours {more:#?}, cargo's {less:#?}",
        fixture.name
    );
}

#[test]
fn universes_cut_from_the_public_registry_are_answered_as_cargo_answered() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resolve/cargo/tests/recorded");
    let mut places: Vec<_> =
        std::fs::read_dir(place).expect("there").map(|entry| entry.expect("one").path()).collect();
    places.sort();
    assert!(!places.is_empty());
    places.iter().for_each(|place| check(place));
}
