//! What is written field by field is what the general writer makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{sorted, whole};
use crate::ecosystem::Ecosystem;
use crate::metadata::Hashes;
use crate::plan::{Exemption, FileEdit, Plan, ProjectId, SCHEMA_VERSION};
use crate::resolution::{Artifact, BuildRequirement, Built, Link, Package, Resolution};
use crate::transaction::{Content, Identity, ObjectKind, RelativePath};

/// Texts as nobody expects them.
const ODD: &str = "\"\\\u{1}\u{e9}\u{2028} /";

fn artifact(is_full: bool) -> Artifact {
    let text = |text: &str| if is_full { format!("{text}{ODD}") } else { String::new() };
    let built = Built {
        file_name: text("archive"),
        form: Some(crate::resolution::SourceForm::Tree),
        hashes: Hashes { sha256: Some(text("a")), sha512: None },
        requirements: vec![BuildRequirement { hash: text("hash"), purl: text("purl") }],
        size: Some(u64::MAX),
        url: text("url"),
    };
    Artifact {
        built: is_full.then(|| Box::new(built)),
        by_address: is_full,
        file_name: text("file"),
        hashes: Hashes { sha256: is_full.then(|| text("d")), sha512: Some("e".repeat(128)) },
        size: is_full.then_some(10),
        source: is_full.then(|| text("source")),
        url: text("https:"),
    }
}

fn package(is_full: bool, at: usize) -> Package {
    let texts = |count: usize| (0..count).map(|at| format!("{ODD}{at}")).collect::<Vec<_>>();
    let many = if is_full { 3 } else { 0 };
    Package {
        artifact: Arc::new(artifact(is_full)),
        bin: texts(many).into_iter().zip(texts(many)).collect::<BTreeMap<_, _>>(),
        dependencies: [0, 9, 10, 99, 12_345, usize::MAX].into_iter().take(2 * many).collect(),
        direct: is_full,
        ecosystem: [Ecosystem::Npm, Ecosystem::Debian, Ecosystem::Pypi][at % 3],
        extras: texts(many),
        license: is_full.then(|| ODD.to_owned()),
        name: format!("@scope/{at}"),
        place: if is_full { "node_modules/a".to_owned() } else { String::new() },
        published: is_full.then(|| "2024-01-01T00:00:00Z".to_owned()),
        scripts: texts(many / 3),
        version: "1.0.0".to_owned(),
    }
}

fn edit(path: &str, after: Option<Vec<u8>>) -> FileEdit {
    let before = after.as_ref().filter(|after| after.len() > 1).map(|_| Content::of(b"before"));
    FileEdit { after, before, path: RelativePath::new(path).expect("a path") }
}

fn plan(is_full: bool) -> Plan {
    let links = vec![Link { place: "a".to_owned(), target: "b".to_owned(), bin: BTreeMap::new() }];
    let resolution = |ecosystem| Resolution {
        ecosystem,
        links: if is_full { links.clone() } else { Vec::new() },
        packages: (0..4).map(|at| package(is_full == (at % 2 == 0), at)).collect(),
        warnings: if is_full { vec![ODD.to_owned()] } else { Vec::new() },
    };
    let exemption = Exemption { purl: ODD.to_owned(), published: None, reason: "named".to_owned() };
    let lengths = if is_full { 0..6 } else { 0..0 };
    let mut edits: Vec<FileEdit> = lengths
        .map(|length| edit(&format!("f{length}"), Some((0..length).map(|at| at * 51).collect())))
        .collect();
    edits.extend(is_full.then(|| edit("gone", None)));
    let long = (0..7_000_u32).map(|at| (at * 51 % 251) as u8).collect();
    edits.extend(is_full.then(|| edit("long", Some(long))));
    Plan {
        created_at_ms: 0,
        edits,
        environments: Vec::new(),
        exemptions: if is_full { vec![exemption] } else { Vec::new() },
        expires_at_ms: u64::MAX,
        is_elsewhere: is_full,
        operation: "add".to_owned(),
        preconditions: Vec::new(),
        project: ProjectId {
            path: ODD.to_owned(),
            identity: Identity { device: 1, inode: 2, born_ns: None, kind: ObjectKind::Directory },
        },
        requested: Vec::new(),
        resolutions: if is_full {
            vec![resolution(Ecosystem::Npm), resolution(Ecosystem::Pypi)]
        } else {
            vec![resolution(Ecosystem::Cargo)]
        },
        schema_version: SCHEMA_VERSION,
        system: None,
    }
}

#[test]
fn a_plan_is_what_the_general_writer_makes_of_it() {
    let nothing = Plan { resolutions: Vec::new(), ..plan(false) };
    for plan in [plan(true), plan(false), nothing] {
        let written = whole::begin(b"before".to_vec(), &plan, &plan.edits).expect("written");
        let written = whole::resolutions(written, &plan.resolutions).expect("written");
        let written = whole::end(written, &plan).expect("written");
        let law = sorted::append(b"before".to_vec(), &plan).expect("written");
        assert_eq!(String::from_utf8(written), String::from_utf8(law));
    }
}
