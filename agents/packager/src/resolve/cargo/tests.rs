//! Small registries; [`oracle`] compares with brute force.

mod ahead;
mod oracle;
mod order;
mod recorded;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use semver::Version;

use super::{Policy, Request, Resolved, Root, lock, resolve};
use crate::error::{Error, Kind};
use crate::metadata::Hashes;
use crate::metadata::cargo::{self as metadata, Crate, Dependency, DependencyKind, Metadata};
use crate::options::Mode;
use crate::resolve::{Conflict, ResolveError};

const SOURCE: &str = "registry+https://index.example.invalid/crates";

/// A registry in memory.
#[derive(Clone, Default)]
struct Universe {
    crates: HashMap<String, Vec<metadata::Version>>,
}

impl Universe {
    /// Dependencies are written `name req`, `name req +feature -default ?` (optional), `alias=name req`,
    /// `dev:name req`.
    fn add(self, name: &str, version: &str, needs: &[&str], features: &[(&str, &[&str])]) -> Self {
        self.with(name, version, needs, features, |_| {})
    }

    fn with(
        mut self,
        name: &str,
        version: &str,
        needs: &[&str],
        features: &[(&str, &[&str])],
        change: impl FnOnce(&mut metadata::Version),
    ) -> Self {
        let mut version = metadata::Version {
            version: version.parse().expect("a version"),
            dependencies: needs.iter().map(|text| dependency(text)).collect(),
            features: table(features),
            yanked: false,
            links: None,
            rust_version: None,
            hashes: Hashes { sha256: Some("0".repeat(64)), sha512: None },
            published: None,
        };
        change(&mut version);
        self.crates.entry(name.to_owned()).or_default().push(version);
        self
    }
}

fn table(features: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    features.iter().map(|(name, values)| ((*name).to_owned(), texts(values))).collect()
}

fn dependency(text: &str) -> Dependency {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a name");
    let (kind, name) = match name.split_once(':') {
        Some(("dev", name)) => (DependencyKind::Dev, name),
        Some(("build", name)) => (DependencyKind::Build, name),
        _ => (DependencyKind::Normal, name),
    };
    let (alias, package) = name.split_once('=').unwrap_or((name, name));
    let mut dependency = Dependency {
        alias: alias.to_owned(),
        package: package.to_owned(),
        requirement: words.next().expect("a requirement").parse().expect("a requirement"),
        features: Vec::new(),
        default_features: true,
        optional: false,
        target: None,
        kind,
        registry: None,
    };
    for word in words {
        match (word, word.strip_prefix('+')) {
            ("?", _) => dependency.optional = true,
            ("-default", _) => dependency.default_features = false,
            (_, Some(feature)) => dependency.features.push(feature.to_owned()),
            other => panic!("{other:?}"),
        }
    }
    dependency
}

impl Metadata for Universe {
    fn krate(&self, name: &str) -> Result<Arc<Crate>, Error> {
        let versions = self.crates.get(name).ok_or_else(|| {
            Error::new(Kind::Usage, "unknown-package", format!("the registry has no `{name}`"))
        })?;
        Ok(Arc::new(Crate::new(name, versions).expect("small")))
    }

    fn prefetch(&self, _: &str) -> bool {
        true
    }
}

fn root(name: &str, needs: &[&str], features: &[(&str, &[&str])]) -> Root {
    Root {
        name: name.to_owned(),
        version: Version::new(0, 1, 0),
        dependencies: needs.iter().map(|text| dependency(text)).collect(),
        local: Vec::new(),
        features: table(features),
    }
}

fn run_all(
    universe: &Universe,
    roots: &[Root],
    preferred: &[(&str, &str)],
    rust_versions: &[Version],
) -> Result<Resolved, ResolveError> {
    let mut locked: BTreeMap<String, BTreeSet<Version>> = BTreeMap::new();
    for (name, version) in preferred {
        let versions = locked.entry((*name).to_owned()).or_default();
        versions.insert(version.parse().expect("a version"));
    }
    let request = Request {
        roots,
        preferred: &locked,
        policy: &Policy { rust_versions: rust_versions.to_vec(), ..Policy::default() },
        source: SOURCE,
        scope: None,
        patches: &[],
        format: 4,
        download: &|name, version, _| format!("https://dl.example.invalid/{name}/{version}"),
        keep_on: &|| Ok(()),
    };
    resolve(&request, universe)
}

fn run(universe: &Universe, needs: &[&str]) -> Result<Resolved, ResolveError> {
    run_all(universe, &[root("app", needs, &[])], &[], &[])
}

fn versions(resolved: &Resolved) -> String {
    let text = |it: &crate::resolution::Package| match it.extras.is_empty() {
        true => format!("{} {}", it.name, it.version),
        false => format!("{}[{}] {}", it.name, it.extras.join(","), it.version),
    };
    resolved.resolution.packages.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn check(universe: &Universe, needs: &[&str], expected: &str) {
    match run(universe, needs) {
        Ok(resolved) => assert_eq!(versions(&resolved), expected),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn conflict(universe: &Universe, needs: &[&str]) -> Conflict {
    match run(universe, needs) {
        Err(ResolveError::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_compatible_version_of_each_range_is_chosen() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["b 0.1"], &[])
        .add("a", "1.2.0", &["b 0.2", "c 1"], &[])
        .add("a", "2.0.0-rc.1", &[], &[])
        .add("b", "0.1.9", &[], &[])
        .add("b", "0.2.0", &[], &[])
        .add("b", "0.2.3", &[], &[])
        .add("c", "1.0.0", &["b 0.1"], &[]);
    check(&universe, &["a 1"], "a 1.2.0, b 0.1.9, b 0.2.3, c 1.0.0");
    check(&universe, &["a =1.0.0"], "a 1.0.0, b 0.1.9");
    check(&universe, &["a 2.0.0-rc.1"], "a 2.0.0-rc.1");
}

#[test]
fn one_range_has_one_version() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["c =1.0.0"], &[])
        .add("b", "1.0.0", &["c 1"], &[])
        .add("c", "1.0.0", &[], &[])
        .add("c", "1.1.0", &[], &[]);
    check(&universe, &["a 1", "b 1"], "a 1.0.0, b 1.0.0, c 1.0.0");
}

#[test]
fn a_requirement_over_several_ranges_takes_the_newest_that_works() {
    let universe = Universe::default()
        .add("a", "0.7.0", &[], &[("std", &[])])
        .add("a", "0.8.1", &[], &[("std", &[])])
        .add("a", "0.9.0", &["gone 1"], &[("std", &[])]);
    check(&universe, &["a >=0.7,<0.10"], "a 0.8.1");
    check(&universe, &["a >=0.7,<0.10 +std"], "a[std] 0.8.1");
    check(&universe, &["a >=0.7,<0.10 +std", "dev:b=a 0.7"], "a 0.7.0, a[std] 0.8.1");
}

#[test]
fn features_switch_on_optional_dependencies() {
    let universe = Universe::default()
        .add(
            "a",
            "1.0.0",
            &["b 1 ?", "c 1 ?", "d 1 -default"],
            &[("default", &["d/x"]), ("full", &["dep:b", "c"])],
        )
        .add("b", "1.0.0", &[], &[])
        .add("c", "1.0.0", &[], &[])
        .add("d", "1.0.0", &["b 1 ?"], &[("default", &["b"]), ("x", &[])]);
    check(&universe, &["a 1"], "a[default] 1.0.0, d[x] 1.0.0");
    check(&universe, &["a 1 -default"], "a 1.0.0, d 1.0.0");
    check(&universe, &["a 1 +c"], "a[c,default] 1.0.0, c 1.0.0, d[x] 1.0.0");
    check(&universe, &["a 1 +full -default"], "a[c,full] 1.0.0, b 1.0.0, c 1.0.0, d 1.0.0");
}

#[test]
fn a_weak_feature_locks_the_dependency_but_not_its_feature() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["b 1 ?"], &[("std", &["b?/std"]), ("strong", &["b/std"])])
        .add("b", "1.0.0", &[], &[("std", &[])]);
    check(&universe, &["a 1 +std"], "a[std] 1.0.0, b[std] 1.0.0");
    check(&universe, &["a 1 +strong"], "a[b,strong] 1.0.0, b[std] 1.0.0");
}

#[test]
fn an_optional_dependency_mentioned_with_dep_is_no_feature() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["b 1 ?"], &[])
        .add("a", "1.1.0", &["b 1 ?"], &[("with-b", &["dep:b"])])
        .add("b", "1.0.0", &[], &[]);
    // The newest version lacks the feature, so an older one is taken.
    check(&universe, &["a 1 +b"], "a[b] 1.0.0, b 1.0.0");
    check(&universe, &["a 1 +with-b"], "a[with-b] 1.1.0, b 1.0.0");
}

#[test]
fn a_feature_nobody_has_is_explained() {
    let universe = Universe::default().add("a", "1.0.0", &[], &[]);
    assert_eq!(
        conflict(&universe, &["a 1 +nope"]).explanation,
        "Because `a/nope` 1.0.0 cannot be used: it has no feature `nope` and \
         the project needs `a/nope` ^1, the requirements cannot be met."
    );
}

#[test]
fn dev_dependencies_count_for_members_only() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["dev:gone 1", "build:b 1"], &[])
        .add("b", "1.0.0", &[], &[])
        .add("c", "1.0.0", &[], &[]);
    check(&universe, &["a 1", "dev:c 1"], "a 1.0.0, b 1.0.0, c 1.0.0");
}

#[test]
fn all_features_of_members_are_on() {
    let universe =
        Universe::default().add("a", "1.0.0", &[], &[("x", &[])]).add("b", "1.0.0", &[], &[]);
    let roots = [root("app", &["a 1 ?", "b 1 ?"], &[("more", &["a/x"])])];
    let resolved = run_all(&universe, &roots, &[], &[]).expect("solvable");
    assert_eq!(versions(&resolved), "a[x] 1.0.0, b 1.0.0");
}

#[test]
fn yanked_versions_are_kept_only_where_they_are_locked() {
    let universe =
        Universe::default()
            .add("a", "1.0.0", &[], &[])
            .with("a", "1.1.0", &[], &[], |version| version.yanked = true);
    check(&universe, &["a 1"], "a 1.0.0");
    let roots = [root("app", &["a 1"], &[])];
    let resolved = run_all(&universe, &roots, &[("a", "1.1.0")], &[]).expect("solvable");
    assert_eq!(versions(&resolved), "a 1.1.0");
    assert_eq!(
        conflict(&universe, &["a =1.1.0"]).explanation,
        "Because the project needs `a` =1.1.0, but `a` 1.1.0 was yanked, \
         the requirements cannot be met."
    );
}

#[test]
fn locked_versions_are_kept_where_they_fit() {
    let universe = ["1.0.0", "1.1.0", "1.2.0", "2.0.0"]
        .into_iter()
        .fold(Universe::default(), |universe, version| universe.add("a", version, &[], &[]));
    let run = |need: &str| {
        let roots = [root("app", &[need], &[])];
        versions(&run_all(&universe, &roots, &[("a", "1.1.0")], &[]).expect("solvable"))
    };
    assert_eq!(run("a 1"), "a 1.1.0");
    assert_eq!(run("a >=1"), "a 1.1.0");
    assert_eq!(run("a 1.2"), "a 1.2.0");
    assert_eq!(run("a 2"), "a 2.0.0");
}

#[test]
fn versions_that_the_compiler_can_build_come_first() {
    let rust = |text: &'static str| {
        move |version: &mut metadata::Version| version.rust_version = Some(text.to_owned())
    };
    let universe = Universe::default()
        .with("a", "1.0.0", &[], &[], rust("1.60"))
        .with("a", "1.1.0", &[], &[], rust("1.75.0"))
        .with("a", "1.2.0", &[], &[], rust("1.90"));
    let run = |need: &str, rust_versions: &[Version]| {
        let roots = [root("app", &[need], &[])];
        versions(&run_all(&universe, &roots, &[], rust_versions).expect("solvable"))
    };
    assert_eq!(run("a 1", &[]), "a 1.2.0");
    assert_eq!(run("a 1", &[Version::new(1, 80, 0)]), "a 1.1.0");
    assert_eq!(run("a 1.2", &[Version::new(1, 80, 0)]), "a 1.2.0");
}

#[test]
fn one_crate_may_link_a_native_library() {
    let links = |version: &mut metadata::Version| version.links = Some("z".to_owned());
    let universe = Universe::default()
        .with("a-sys", "1.0.0", &[], &[], links)
        .add("b", "1.0.0", &["old=a-sys 1"], &[])
        .add("b", "1.1.0", &["a-sys 2"], &[])
        .with("a-sys", "2.0.0", &[], &[], links)
        .with("c-sys", "1.0.0", &[], &[], links);
    check(&universe, &["a-sys 1", "b 1"], "a-sys 1.0.0, b 1.0.0");
    let conflict = conflict(&universe, &["a-sys 1", "c-sys 1"]);
    assert_eq!(
        conflict.explanation,
        "Because `c-sys` 1.0.0 needs to be the only one that links `z` and `a-sys` 1.0.0 needs to be \
         the only one that links `z`, `a-sys` 1.0.0 excludes `c-sys` 1.0.0.\n\
         And because the project needs `a-sys` ^1 and the project needs `c-sys` ^1, \
         the requirements cannot be met."
    );
}

#[test]
fn a_conflict_is_explained_and_repaired() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["c =1.0.0"], &[])
        .add("b", "1.0.0", &["c =1.0.0"], &[])
        .add("b", "2.0.0", &["c =1.1.0"], &[])
        .add("c", "1.0.0", &[], &[])
        .add("c", "1.1.0", &[], &[]);
    let conflict = conflict(&universe, &["a 1", "b 2"]);
    assert!(conflict.explanation.ends_with("the requirements cannot be met."));
    assert!(conflict.explanation.contains("`c` =1.1.0"), "{}", conflict.explanation);
    let repairs: Vec<_> = conflict.repairs.iter().map(|it| it.description.as_str()).collect();
    assert_eq!(repairs, ["change `b = \"2\"` to `b = \"1.0.0\"`", "drop `a = \"1\"`"]);
}

#[test]
fn an_unknown_crate_is_an_error_at_the_top_and_a_reason_below() {
    let universe = Universe::default().add("a", "1.0.0", &["ghost 1"], &[]);
    let Err(ResolveError::Other(error)) = run(&universe, &["ghost 1"]) else { panic!("found") };
    assert_eq!(error.code, "unknown-package");
    assert_eq!(
        conflict(&universe, &["a 1"]).explanation,
        "Because `a` 1.0.0 needs `ghost` ^1, but the registry does not have it and \
         the project needs `a` ^1, the requirements cannot be met."
    );
}

#[test]
fn the_lock_is_written_as_cargo_writes_it() {
    let universe = Universe::default()
        .add("app", "0.1.0", &[], &[])
        .add("b", "0.9.0", &[], &[])
        .add("b", "0.10.0", &["app 0.1"], &[])
        .add("c", "1.0.0+meta.1", &["b 0.9", "old=b 0.10"], &[]);
    let mut roots = [root("app", &["c 1", "b 0.10"], &[]), root("tool", &[], &[])];
    roots[1].local = vec!["app".to_owned()];
    let resolved = run_all(&universe, &roots, &[], &[]).expect("solvable");
    let zeros = "0".repeat(64);
    let text = resolved.lock.render();
    let registry = |name: &str, version: &str| {
        format!(
            "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{SOURCE}\"\n\
             checksum = \"{zeros}\"\n"
        )
    };
    let expected = [
        "# This file is automatically @generated by Cargo.\n\
         # It is not intended for manual editing.\nversion = 4\n"
            .to_owned(),
        "\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\
         dependencies = [\n \"b 0.10.0\",\n \"c\",\n]\n"
            .to_owned(),
        registry("app", "0.1.0"),
        registry("b", "0.9.0"),
        registry("b", "0.10.0"),
        format!("dependencies = [\n \"app 0.1.0 ({SOURCE})\",\n]\n"),
        registry("c", "1.0.0+meta.1"),
        "dependencies = [\n \"b 0.10.0\",\n \"b 0.9.0\",\n]\n".to_owned(),
        "\n[[package]]\nname = \"tool\"\nversion = \"0.1.0\"\n\
         dependencies = [\n \"app 0.1.0\",\n]\n"
            .to_owned(),
    ];
    assert_eq!(text, expected.concat());
    let preferences = lock::preferences(&text, of_source).expect("parses");
    assert_eq!(preferences["b"].len(), 2);
    assert!(!preferences.contains_key("tool"));
}

fn of_source(name: &str, source: &str) -> Option<String> {
    (source == SOURCE).then(|| name.to_owned())
}

#[test]
fn a_lock_that_does_not_parse_is_an_error() {
    let error = lock::preferences("[[package]", of_source).expect_err("broken");
    assert_eq!(error.code, "bad-lock");
}

#[test]
fn equal_questions_have_equal_answers() {
    let universe = (0..30).fold(Universe::default(), |universe, at| {
        let name = format!("c{at}");
        let needs = [format!("c{} 1", (at * 7 + 1) % 30), format!("c{} 1", (at * 3 + 2) % 30)];
        let needs: Vec<_> = needs.iter().map(String::as_str).collect();
        let optional: Vec<_> =
            needs.iter().filter(|need| !need.starts_with(&name)).copied().collect();
        universe.add(&name, "1.0.0", &optional, &[]).add(&name, "1.0.1", &optional, &[])
    });
    let first = run(&universe, &["c0 1", "c5 1"]).expect("solvable");
    for _ in 0..5 {
        assert_eq!(run(&universe, &["c0 1", "c5 1"]).expect("solvable"), first);
    }
}

fn preferring(universe: &Universe, needs: &[&str], policy: &Policy) -> String {
    let request = Request {
        roots: &[root("app", needs, &[])],
        preferred: &BTreeMap::new(),
        policy,
        source: SOURCE,
        scope: None,
        patches: &[],
        format: 4,
        download: &|name, version, _| format!("https://dl.example.invalid/{name}/{version}"),
        keep_on: &|| Ok(()),
    };
    match resolve(&request, universe) {
        Ok(resolved) => versions(&resolved),
        Err(error) => error.to_string(),
    }
}

fn three_ages() -> Universe {
    let at =
        |time: &'static str| move |it: &mut metadata::Version| it.published = Some(time.to_owned());
    Universe::default()
        .with("a", "1.0.0", &["b 1"], &[], at("2024-01-01T00:00:00Z"))
        .with("a", "1.1.0", &["b 1.1"], &[], at("2025-01-01T00:00:00Z"))
        .with("a", "2.0.0", &["b 1"], &[], at("2026-01-01T00:00:00Z"))
        .with("b", "1.0.0", &[], &[], at("2024-01-01T00:00:00Z"))
        .with("b", "1.1.0", &[], &[], at("2024-06-01T00:00:00Z"))
        .with("b", "1.2.0", &[], &[], at("2026-01-01T00:00:00Z"))
        .with("c", "1.0.0", &[], &[], |_| {})
}

#[test]
fn the_oldest_versions_are_chosen_where_they_are_wanted() {
    let universe = three_ages();
    let direct = BTreeSet::from(["a".to_owned()]);
    let lowest = Policy { mode: Mode::Lowest, ..Policy::default() };
    let lowest_direct = Policy { mode: Mode::LowestDirect, direct, ..Policy::default() };
    assert_eq!(preferring(&universe, &["a *"], &lowest), "a 1.0.0, b 1.0.0");
    assert_eq!(preferring(&universe, &["a 1.1"], &lowest), "a 1.1.0, b 1.1.0");
    assert_eq!(preferring(&universe, &["a >=1.1"], &lowest_direct), "a 1.1.0, b 1.2.0");
}

#[test]
fn the_oldest_declared_compiler_decides_the_format_as_in_cargo() {
    for (rust, format) in
        [("1.40.0", 1), ("1.41.0", 2), ("1.52.9", 2), ("1.53.0", 3), ("1.82.0", 3), ("1.83.0", 4)]
    {
        let rust: Version = rust.parse().expect("a version");
        assert_eq!(lock::format_for(Some(&rust)), format, "{rust}");
    }
    assert_eq!(lock::format_for(None), 4);
}

#[test]
fn older_formats_are_written_as_cargo_writes_them() {
    let universe = Universe::default().add("a", "1.0.0", &[], &[]);
    let lock = run(&universe, &["a 1"]).expect("an answer").lock;
    let head = "# This file is automatically @generated by Cargo.\n\
        # It is not intended for manual editing.\n";
    let zeros = "0".repeat(64);
    let text = lock::Lock { format: 2, ..lock.clone() }.render();
    let expected = format!(
        "{head}[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{SOURCE}\"\n\
         checksum = \"{zeros}\"\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\
         dependencies = [\n \"a\",\n]\n"
    );
    assert_eq!(text, expected);
    let text = lock::Lock { format: 1, ..lock }.render();
    let expected = format!(
        "{head}[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{SOURCE}\"\n\n\
         [[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\
         dependencies = [\n \"a 1.0.0 ({SOURCE})\",\n]\n\n\
         [metadata]\n\"checksum a 1.0.0 ({SOURCE})\" = \"{zeros}\"\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_lock_that_says_the_same_stays_and_another_gets_no_older_format() {
    let universe = Universe::default().add("a", "1.0.0", &[], &[]).add("b", "1.0.0", &[], &[]);
    let lock = run(&universe, &["a 1"]).expect("an answer").lock;
    let other = run(&universe, &["a 1", "b 1"]).expect("an answer").lock;
    for format in 1..=4 {
        let old = lock::Lock { format, ..lock.clone() }.render();
        assert_eq!(lock.render_over(Some(&old)), old);
        let windows = old.replace('\n', "\r\n");
        assert_eq!(lock.render_over(Some(&windows)), windows);
        assert!(other.render_over(Some(&old)).contains("version = 4"));
        assert!(other.render_over(Some(&windows)).contains("version = 4\r\n"));
    }
    let newer = lock.render();
    let older = lock::Lock { format: 3, ..other };
    assert!(older.render_over(Some(&newer)).contains("version = 4"));
}
