//! What is written from a plan is what the general writer makes of its description.

use super::super::beside;
use super::*;
use crate::api::Conflict;
use crate::metadata::held::Held;
use crate::plan::{Exemption, FileEdit, ProjectId, SCHEMA_VERSION};
use crate::resolution::{Artifact, BuildRequirement, Built};
use crate::transaction::{Content, Identity, ObjectKind, RelativePath};

/// Texts as nobody expects them, of lengths on both sides of every bound of the form.
const ODD: &str = "\"\\\u{1}\u{e9}\u{2028} /";

fn artifact(at: usize) -> Artifact {
    let built = Built {
        file_name: format!("archive{ODD}"),
        form: None,
        hashes: Hashes { sha256: Some("c".repeat(64)), sha512: None },
        requirements: vec![BuildRequirement { hash: "hash".to_owned(), purl: ODD.to_owned() }],
        size: None,
        url: "https://files.invalid/archive".to_owned(),
    };
    Artifact {
        built: (at % 5 == 1).then(|| Box::new(built)),
        by_address: at % 7 == 2,
        file_name: format!("file-{at}"),
        hashes: Hashes {
            sha256: (!at.is_multiple_of(3)).then(|| "a".repeat(64)),
            sha512: (at % 3 == 2).then(|| "b".repeat(128)),
        },
        size: [None, Some(23), Some(24), Some(256), Some(65_536), Some(u64::MAX)][at % 6],
        source: (at % 4 == 3).then(|| ODD.repeat(at)),
        url: format!("https://name:secret@files.invalid/{at}"),
    }
}

fn package(ecosystem: Ecosystem, at: usize) -> Package {
    Package {
        artifact: Arc::new(artifact(at)),
        bin: BTreeMap::new(),
        // The last is of nobody.
        dependencies: (0..at % 30).chain(at.is_multiple_of(2).then_some(usize::MAX)).collect(),
        direct: at.is_multiple_of(2),
        ecosystem,
        extras: Vec::new(),
        license: at.is_multiple_of(3).then(|| "x".repeat(at * 11)),
        name: format!("@scope/{at}"),
        place: if at.is_multiple_of(4) { String::new() } else { format!("node_modules/{at}") },
        published: (at % 2 == 1).then(|| "2024-01-01T00:00:00Z".to_owned()),
        scripts: (0..at % 26).map(|script| format!("{ODD}{script}")).collect(),
        version: format!("1.0.{at}+{ODD}"),
    }
}

fn resolution(ecosystem: Ecosystem, count: usize) -> Resolution {
    let packages = (0..count).map(|at| package(ecosystem, at)).collect();
    Resolution { ecosystem, links: Vec::new(), packages, warnings: Vec::new() }
}

fn plan(resolutions: Vec<Resolution>) -> Plan {
    let edit = |path: &str| FileEdit {
        after: Some(vec![1]),
        before: Some(Content::of(b"before")),
        path: RelativePath::new(path).expect("a path"),
    };
    Plan {
        created_at_ms: 0,
        edits: vec![edit("package.json"), edit("bolide.lock")],
        environments: Vec::new(),
        exemptions: vec![Exemption {
            purl: ODD.to_owned(),
            published: None,
            reason: "named".to_owned(),
        }],
        expires_at_ms: 86_400_000,
        is_elsewhere: false,
        operation: "add".to_owned(),
        preconditions: Vec::new(),
        project: ProjectId {
            path: ODD.to_owned(),
            identity: Identity { device: 1, inode: 2, born_ns: None, kind: ObjectKind::Directory },
        },
        requested: Vec::new(),
        resolutions,
        schema_version: SCHEMA_VERSION,
        system: None,
    }
}

fn answer() -> PlanAnswer {
    PlanAnswer {
        schema: "bolide.plan/1".to_owned(),
        digest: None,
        project: format!("/somewhere/{ODD}"),
        packages: Vec::new(),
        removed: Vec::new(),
        files: Vec::new(),
        exemptions: Vec::new(),
        warnings: vec![ODD.repeat(99)],
        expires_at: None,
        conflict: Some(Conflict { explanation: ODD.to_owned(), repairs: Vec::new() }),
        resolve_ms: 1.3,
    }
}

/// What is installed: some of the packages as they are, some in another version, some that go.
fn installed(of: &Resolution) -> Resolution {
    let mut before = of.clone();
    before.packages.truncate(9);
    for package in before.packages.iter_mut().step_by(2) {
        package.version.push('1');
    }
    before.packages.push(package(of.ecosystem, 1_000));
    before
}

fn check(plan: &Plan, installed: &BTreeMap<Ecosystem, Resolution>) -> PlanAnswer {
    let digest = format!("sha256:{}", "d".repeat(64));
    let holds = BTreeMap::from([(Ecosystem::Npm, Held::default())]);
    let shown = Shown::new(plan, installed, &holds);
    let mut answer = answer();
    shown.head(&mut answer);
    let written = shown.write(&answer).expect("bytes").with_digest(&digest).expect("a digest");
    shown.describe(&mut answer);
    answer.digest = Some(digest);
    let mut law = Vec::new();
    ciborium::into_writer(&answer, &mut law).expect("bytes");
    assert!(written == law, "the bytes of an answer differ");
    let read: PlanAnswer = ciborium::from_reader(written.as_slice()).expect("an answer");
    assert_eq!(read, answer);
    read
}

#[test]
fn an_answer_is_what_the_general_writer_makes_of_it() {
    let none = BTreeMap::new();
    for count in [0, 1, 23, 24, 70, 300] {
        let answer = check(&plan(vec![resolution(Ecosystem::Npm, count)]), &none);
        assert_eq!(answer.packages.len(), count);
        assert!(answer.packages.iter().all(|package| package.action == Action::Add));
        let secret = |package: &PlannedPackage| package.source.contains("secret");
        assert!(!answer.packages.iter().any(secret), "a password is shown");
    }
    check(&plan(Vec::new()), &none);
}

#[test]
fn what_is_installed_is_kept_changed_or_removed() {
    let (npm, pypi) = (resolution(Ecosystem::Npm, 12), resolution(Ecosystem::Pypi, 5));
    let before = BTreeMap::from([(Ecosystem::Npm, installed(&npm))]);
    let answer = check(&plan(vec![npm, pypi]), &before);
    let count = |action| answer.packages.iter().filter(|one| one.action == action).count();
    assert_eq!((count(Action::Keep), count(Action::Change), count(Action::Add)), (4, 5, 8));
    assert_eq!(answer.removed.len(), 6, "five versions and one package");
}

#[test]
fn what_two_threads_make_is_what_one_makes() {
    let (none, holds) = (BTreeMap::new(), BTreeMap::new());
    for count in [0, 300] {
        let resolutions = vec![resolution(Ecosystem::Npm, count), resolution(Ecosystem::Pypi, 3)];
        let mut whole = plan(resolutions);
        whole.normalise();
        let (mut lock, mut edits) = (None, Vec::new());
        for edit in &whole.edits {
            match edit.path.as_str() {
                "bolide.lock" => lock = Some(edit.clone()),
                _ => edits.push(edit.clone()),
            }
        }
        let begun = Plan { edits: Vec::new(), ..whole.clone() };
        let shown = Shown::new(&begun, &none, &holds);
        let refused = || Err(unshown("no lock"));
        assert!(beside::make(&begun, edits.clone(), refused, (&shown, &answer())).is_err());
        let made =
            beside::make(&begun, edits, || Ok(lock), (&shown, &answer())).expect("a plan's forms");
        let one = whole.to_stored().expect("a stored form");
        assert_eq!((made.stored.digest, &made.edits), (one.digest, &whole.edits));
        assert!(made.stored.json == one.json, "the stored forms differ");
        let (shown, digest) = (Shown::new(&whole, &none, &holds), whole.digest().expect("one"));
        let mut answer = answer();
        shown.head(&mut answer);
        let made = made.written.end(&answer).and_then(|made| made.with_digest(&digest));
        let one = shown.write(&answer).and_then(|one| one.with_digest(&digest));
        assert!(made.expect("bytes") == one.expect("bytes"), "the answers differ");
    }
}

#[test]
fn a_digest_of_another_length_is_no_digest() {
    let (plan, none, holds) = (plan(Vec::new()), BTreeMap::new(), BTreeMap::new());
    let shown = Shown::new(&plan, &none, &holds);
    assert!(shown.write(&answer()).expect("bytes").with_digest("sha256:").is_err());
}
