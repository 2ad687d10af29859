//! Small universes; [`oracle`] compares with brute force.

mod ahead;
mod hostile;
mod oracle;
mod order;
mod policy;
mod recorded;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pep440_rs::Version;
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, PackageName, Requirement};

use super::policy::Policy;
use super::{Request, resolve};
use crate::error::{Error, Kind};
use crate::io::pypi::core_metadata::{requirement, specifiers};
use crate::metadata::Hashes;
use crate::metadata::pypi::{CoreMetadata, File, FileKind, Metadata, Project};
use crate::python::PythonTarget;
use crate::resolution::Resolution;
use crate::resolve::{Conflict, ResolveError};

/// An index in memory.
#[derive(Default)]
struct Universe {
    projects: HashMap<PackageName, Vec<Arc<File>>>,
    core: HashMap<String, Arc<CoreMetadata>>,
    /// Source archives that do not say what they need.
    dynamic: HashSet<String>,
}

/// One file, with what the test is about changed.
struct Release {
    tags: &'static [&'static str],
    build: Option<&'static str>,
    requires_python: Option<&'static str>,
    yanked: bool,
    is_source: bool,
    extras: &'static [&'static str],
    has_hash: bool,
    published: Option<&'static str>,
}

const PLAIN: Release = Release {
    tags: &["py3-none-any"],
    build: None,
    requires_python: None,
    yanked: false,
    is_source: false,
    extras: &[],
    has_hash: true,
    published: None,
};

/// A digest that tells files apart.
fn digest(file_name: &str) -> String {
    let bytes = ring::digest::digest(&ring::digest::SHA256, file_name.as_bytes());
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Universe {
    fn add(self, name: &str, version: &str, needs: &[&str]) -> Self {
        self.release(name, version, needs, PLAIN)
    }

    fn release(mut self, name: &str, version: &str, needs: &[&str], release: Release) -> Self {
        let package: PackageName = name.parse().expect("a name");
        let build = release.build.map(|build| format!("-{build}")).unwrap_or_default();
        let file_name = match release.is_source {
            true => format!("{name}-{version}.tar.gz"),
            false => format!("{name}-{version}{build}-{}.whl", release.tags[0]),
        };
        let requires_python = release.requires_python.map(|it| specifiers(it).expect("specifiers"));
        let core = CoreMetadata {
            name: package.clone(),
            version: version.parse().expect("a version"),
            requires_dist: needs.iter().map(|it| requirement(it).expect("a requirement")).collect(),
            requires_python: requires_python.clone(),
            extras: release.extras.iter().map(|extra| (*extra).to_owned()).collect(),
            license: Some("MIT".to_owned()),
        };
        let file = File {
            name: file_name.clone(),
            version: core.version.clone(),
            kind: match release.is_source {
                true => FileKind::Source,
                false => FileKind::Wheel {
                    build: release.build.map(str::to_owned),
                    tags: release.tags.iter().map(|tag| (*tag).to_owned()).collect(),
                },
            },
            url: format!("https://index.example.invalid/{file_name}"),
            hashes: Hashes { sha256: release.has_hash.then(|| digest(&file_name)), sha512: None },
            size: Some(1),
            requires_python,
            yanked: release.yanked.then(|| "a mistake".to_owned()),
            published: release.published.map(str::to_owned),
            core_metadata: Some(true),
            core_metadata_hashes: Hashes::default(),
        };
        self.projects.entry(package).or_default().push(Arc::new(file));
        self.core.insert(file_name, Arc::new(core));
        self
    }
}

impl Metadata for Universe {
    fn project(&self, name: &PackageName) -> Result<Arc<Project>, Error> {
        let files = self.projects.get(name).ok_or_else(|| {
            Error::new(Kind::Usage, "unknown-package", format!("the index has no `{name}`"))
        })?;
        Ok(Arc::new(Project::new(name.clone(), files.clone())))
    }

    fn core_metadata(&self, _: &Project, file: &Arc<File>) -> Result<Arc<CoreMetadata>, Error> {
        if self.dynamic.contains(&file.name) {
            return Err(Error::new(Kind::Failed, "needs-build", "it does not say what it needs"));
        }
        self.core
            .get(&file.name)
            .cloned()
            .ok_or_else(|| Error::new(Kind::Verification, "bad-metadata", "it has no METADATA"))
    }

    fn prefetch_project(&self, _: &PackageName) -> bool {
        true
    }

    fn prefetch_core_metadata(&self, _: &Arc<Project>, _: &Arc<File>) {}
}

fn target() -> PythonTarget {
    let markers = MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: "3.11.7",
        os_name: "posix",
        platform_machine: "x86_64",
        platform_python_implementation: "CPython",
        platform_release: "6.1",
        platform_system: "Linux",
        platform_version: "1",
        python_full_version: "3.11.7",
        python_version: "3.11",
        sys_platform: "linux",
    });
    PythonTarget {
        markers: markers.expect("markers"),
        tags: ["cp311-cp311-linux_x86_64", "cp311-abi3-linux_x86_64", "py3-none-any"]
            .map(str::to_owned)
            .to_vec(),
        python: "3.11.7".parse().expect("a version"),
    }
}

fn run(
    universe: &Universe,
    requirements: &[&str],
    preferred: &[(&str, &str)],
) -> Result<Resolution, ResolveError> {
    run_with(universe, requirements, preferred, &Policy::default())
}

fn run_with(
    universe: &Universe,
    requirements: &[&str],
    preferred: &[(&str, &str)],
    policy: &Policy,
) -> Result<Resolution, ResolveError> {
    let requirements: Vec<Requirement> =
        requirements.iter().map(|it| it.parse().expect("a requirement")).collect();
    let preferred: BTreeMap<PackageName, Version> = preferred
        .iter()
        .map(|(name, version)| (name.parse().expect("a name"), version.parse().expect("a version")))
        .collect();
    let target = target();
    let request = Request {
        requirements: &requirements,
        target: &target,
        preferred: &preferred,
        policy,
        keep_on: &|| Ok(()),
    };
    resolve(&request, universe)
}

fn versions(resolution: &Resolution) -> String {
    let text = |it: &crate::resolution::Package| match it.extras.is_empty() {
        true => format!("{} {}", it.name, it.version),
        false => format!("{}[{}] {}", it.name, it.extras.join(","), it.version),
    };
    resolution.packages.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn check(universe: &Universe, requirements: &[&str], expected: &str) {
    check_preferring(universe, requirements, &[], expected);
}

#[track_caller]
fn check_preferring(
    universe: &Universe,
    requirements: &[&str],
    preferred: &[(&str, &str)],
    expected: &str,
) {
    match run(universe, requirements, preferred) {
        Ok(resolution) => assert_eq!(versions(&resolution), expected),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn conflict(universe: &Universe, requirements: &[&str]) -> Conflict {
    match run(universe, requirements, &[]) {
        Err(ResolveError::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn newest_versions_are_chosen_and_edges_are_indices() {
    let universe = Universe::default()
        .add("a", "1.0", &["b>=1"])
        .add("a", "1.1", &["c", "b>=1,<2"])
        .add("b", "1.5", &[])
        .add("b", "2.0", &[])
        .add("c", "0.1", &["b"]);
    let resolution = run(&universe, &["a"], &[]).expect("solvable");
    assert_eq!(versions(&resolution), "a 1.1, b 1.5, c 0.1");
    let edges: Vec<_> = resolution.packages.iter().map(|it| it.dependencies.clone()).collect();
    assert_eq!(edges, [vec![1, 2], vec![], vec![1]]);
    let direct: Vec<_> = resolution.packages.iter().map(|it| it.direct).collect();
    assert_eq!(direct, [true, false, false]);
    assert_eq!(resolution.packages[0].license.as_deref(), Some("MIT"));
}

#[test]
fn older_versions_are_tried_where_newer_ones_conflict() {
    let universe = Universe::default()
        .add("a", "1", &["c<2"])
        .add("a", "2", &["c>=2"])
        .add("b", "1", &["c<2"])
        .add("c", "1", &[])
        .add("c", "2", &[]);
    check(&universe, &["a", "b"], "a 1, b 1, c 1");
}

#[test]
fn markers_are_evaluated_for_the_target() {
    let needs = ["b; sys_platform == 'win32'", "c; python_version >= '3.8'", "d; extra == 'x'"];
    let universe = Universe::default().add("a", "1", &needs).add("c", "1", &[]).add("d", "1", &[]);
    check(&universe, &["a", "gone; sys_platform == 'darwin'"], "a 1, c 1");
}

#[test]
fn extras_add_requirements_at_the_same_version() {
    let x = Release { extras: &["x", "all"], ..PLAIN };
    let universe = Universe::default()
        .release("a", "1", &["b; extra == 'x'"], Release { extras: &["x"], ..PLAIN })
        .release("a", "2", &["b>=2; extra == 'x'", "a[x]; extra == 'all'"], x)
        .add("b", "1", &[])
        .add("b", "2", &[])
        .add("c", "1", &["a<2"]);
    check(&universe, &["a"], "a 2");
    check(&universe, &["a[x]"], "a[x] 2, b 2");
    check(&universe, &["a[all]"], "a[all,x] 2, b 2");
    check(&universe, &["a[x]", "c"], "a[x] 1, b 2, c 1");
    check(&universe, &["a[x]", "b<2"], "a[x] 1, b 1");
}

#[test]
fn an_extra_that_does_not_exist_is_a_warning() {
    let universe = Universe::default().add("a", "1", &[]);
    let resolution = run(&universe, &["a[nope]"], &[]).expect("solvable");
    assert_eq!(resolution.warnings, ["`a` 1 has no extra `nope`"]);
}

#[test]
fn prereleases_count_only_where_asked_for_or_alone() {
    let universe = Universe::default()
        .add("a", "1.0", &[])
        .add("a", "2.0rc1", &[])
        .add("b", "1.0a1", &[])
        .add("b", "1.0a2", &[])
        .add("c", "1", &["a==2.0rc1"]);
    check(&universe, &["a"], "a 1.0");
    check(&universe, &["a>=2.0rc1"], "a 2.0rc1");
    check(&universe, &["a>1.5"], "a 2.0rc1");
    check(&universe, &["a!=2.0rc2"], "a 1.0");
    check(&universe, &["b"], "b 1.0a2");
    check(&universe, &["c"], "a 2.0rc1, c 1");
}

#[test]
fn yanked_versions_need_a_pin_or_an_installation() {
    let yanked = || Release { yanked: true, ..PLAIN };
    let universe = Universe::default().add("a", "1", &[]).release("a", "2", &[], yanked()).add(
        "b",
        "1",
        &["a"],
    );
    check(&universe, &["a"], "a 1");
    check(&universe, &["b", "a==2"], "a 2, b 1");
    check_preferring(&universe, &["a"], &[("a", "2")], "a 2");
    let resolution = run(&universe, &["a==2"], &[]).expect("solvable");
    assert_eq!(resolution.warnings, ["`a` 2 was yanked: a mistake"]);
    let text = conflict(&universe, &["a>1"]).explanation;
    assert_eq!(
        text,
        "Because the project needs `a` >1, but `a` 2 was yanked, and nothing pins it exactly, \
         the requirements cannot be met."
    );
}

#[test]
fn local_versions_and_operators_follow_the_standard() {
    let universe = ["1", "1.0.5", "1.1", "1.2+cpu", "1.2.post1", "2.0"]
        .into_iter()
        .fold(Universe::default(), |universe, version| universe.add("a", version, &[]));
    check(&universe, &["a==1.2"], "a 1.2+cpu");
    check(&universe, &["a==1.2+cpu"], "a 1.2+cpu");
    check(&universe, &["a>1.1,<1.2.post1"], "a 1.2+cpu");
    conflict(&universe, &["a>1.2,<2"]);
    check(&universe, &["a==1.*"], "a 1.2.post1");
    check(&universe, &["a~=1.0.1"], "a 1.0.5");
    check(&universe, &["a!=2.0,!=1.2.*"], "a 1.1");
    check(&universe, &["a===1.1"], "a 1.1");
    check(&universe, &["a==1.0.*"], "a 1.0.5");
}

#[test]
fn installed_versions_are_kept_where_they_fit() {
    let universe = Universe::default().add("a", "1", &[]).add("a", "2", &[]).add("a", "3", &[]);
    check_preferring(&universe, &["a"], &[("a", "2")], "a 2");
    check_preferring(&universe, &["a>2"], &[("a", "2")], "a 3");
}

#[test]
fn the_best_wheel_wins_by_tag_then_build_number() {
    let wheel = |tags, build| Release { tags, build, ..PLAIN };
    let universe = Universe::default()
        .add("a", "1", &[])
        .release("a", "1", &[], wheel(&["cp311-abi3-linux_x86_64"], None))
        .release("a", "1", &[], wheel(&["cp311-cp311-linux_x86_64"], Some("2")))
        .release("a", "1", &[], wheel(&["cp311-cp311-linux_x86_64"], Some("10")))
        .release("a", "1", &[], wheel(&["cp311-cp311-macosx_11_0_arm64"], None));
    let resolution = run(&universe, &["a"], &[]).expect("solvable");
    let file = &resolution.packages[0].artifact.file_name;
    assert_eq!(file, "a-1-10-cp311-cp311-linux_x86_64.whl");
}

#[test]
fn versions_without_a_usable_file_are_passed_over_with_a_reason() {
    let universe = Universe::default()
        .add("a", "1", &[])
        .release("a", "2", &[], Release { requires_python: Some(">=3.12"), ..PLAIN })
        .release("a", "3", &[], Release { is_source: true, ..PLAIN })
        .release("a", "4", &[], Release { tags: &["cp39-cp39-win_amd64"], ..PLAIN })
        .release("a", "5", &[], Release { has_hash: false, ..PLAIN });
    check(&universe, &["a"], "a 1");
    let text = |requirement| conflict(&universe, &[requirement]).explanation;
    let end = ", the requirements cannot be met.";
    let expect = |reason: &str| format!("Because {reason}{end}");
    assert_eq!(
        text("a==2"),
        expect("`a` 2 needs Python >=3.12 (this is 3.11.7) and the project needs `a` ==2")
    );
    assert_eq!(
        text("a==3"),
        expect(
            "`a` 3 is published as source only (`--build a` builds it) and the project needs `a` ==3"
        )
    );
    assert_eq!(
        text("a==4"),
        expect("`a` 4 has no wheel for this platform and Python and the project needs `a` ==4")
    );
    assert_eq!(
        text("a==5"),
        expect("`a` 5 is published without a hash to verify it by and the project needs `a` ==5")
    );
    assert_eq!(text("a>5"), expect("the project needs `a` >5, but the newest version of it is 5"));
}

#[test]
fn broken_metadata_rules_out_a_version_and_is_said() {
    let mut universe = Universe::default().add("a", "1", &[]).add("a", "2", &[]);
    universe.core.remove("a-2-py3-none-any.whl");
    let resolution = run(&universe, &["a"], &[]).expect("solvable");
    assert_eq!(versions(&resolution), "a 1");
    assert_eq!(
        resolution.warnings,
        ["`a` 2 was passed over: its metadata cannot be read (it has no METADATA)"]
    );
}

#[test]
fn a_conflict_is_explained_and_repaired() {
    let universe = Universe::default()
        .add("flask", "2.0", &["werkzeug>=2,<3"])
        .add("flask", "3.0", &["werkzeug>=3"])
        .add("werkzeug", "1.0", &[])
        .add("werkzeug", "2.5", &[])
        .add("werkzeug", "3.1", &[]);
    let conflict = conflict(&universe, &["flask>=3", "werkzeug<3"]);
    assert_eq!(
        conflict.explanation,
        "Because `flask` 3.0 needs `werkzeug` >=3 and the project needs `flask` >=3, \
         the project needs `werkzeug` 3.1.\n\
         And because the project needs `werkzeug` <3, the requirements cannot be met."
    );
    let repairs: Vec<_> = conflict.repairs.iter().map(|it| it.description.as_str()).collect();
    assert_eq!(
        repairs,
        ["change `flask>=3` to `flask>=2.0`", "change `werkzeug<3` to `werkzeug>=3.1`"]
    );
    assert_eq!(conflict.repairs[0].changes[0].to.as_deref(), Some("flask>=2.0"));
}

#[test]
fn an_unknown_dependency_is_part_of_the_explanation() {
    let universe = Universe::default().add("a", "1", &["ghost"]);
    assert_eq!(
        conflict(&universe, &["a"]).explanation,
        "Because `a` 1 needs `ghost`, but the index does not have it and the project needs `a`, \
         the requirements cannot be met."
    );
}

#[test]
fn an_unknown_direct_requirement_is_the_indexs_own_error() {
    let error = run(&Universe::default(), &["ghost"], &[]).expect_err("unknown");
    let ResolveError::Other(error) = error else { panic!("{error}") };
    assert_eq!(error.code, "unknown-package");
}

#[test]
fn urls_are_refused_with_advice() {
    let error = run(&Universe::default(), &["a @ https://example.invalid/a.whl"], &[]);
    let Err(ResolveError::Other(error)) = error else { panic!("{error:?}") };
    assert_eq!((error.kind, error.code.as_str()), (Kind::Usage, "url-requirement"));
}

#[test]
fn a_deadline_in_the_past_ends_the_search() {
    let universe = Universe::default().add("a", "1", &[]);
    let (requirements, target) = (["a".parse().expect("a requirement")], target());
    let request = Request {
        requirements: &requirements,
        target: &target,
        preferred: &BTreeMap::new(),
        policy: &Policy::default(),
        keep_on: &|| Err(crate::resolve::deadline_exceeded()),
    };
    let Err(ResolveError::Other(error)) = resolve(&request, &universe) else { panic!("too slow") };
    assert_eq!(error.code, "deadline");
}
