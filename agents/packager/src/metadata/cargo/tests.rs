//! The flat form: what was packed comes back, and what was not packed here is refused or reads as something.

use ipc::archive;
use proptest::prelude::*;

use super::packed::{DIGEST_BYTES, FEATURE_WORDS, FORM, HEAD_WORDS, NEED_WORDS, SECTIONS};
use super::*;
use crate::metadata::flat::{Reader, put_section};

/// A version as it was packed, with the features that optional dependencies are by themselves.
pub(crate) fn unpacked(version: Listed<'_>) -> Version {
    let texts = |texts: Texts<'_>| texts.map(str::to_owned).collect::<Vec<String>>();
    let dependency = |need: Need<'_>| Dependency {
        alias: need.alias().to_owned(),
        package: need.package().to_owned(),
        requirement: need.requirement().parse().unwrap_or_default(),
        features: texts(need.features()),
        default_features: need.has_default(),
        optional: need.is_optional(),
        target: need.target().map(str::to_owned),
        kind: need.kind(),
        registry: need.registry().map(str::to_owned),
    };
    Version {
        version: version.number().clone(),
        dependencies: version.needs().map(dependency).collect(),
        features: version.features().map(|(name, it)| (name.to_owned(), texts(it))).collect(),
        yanked: version.is_yanked(),
        links: version.links().map(str::to_owned),
        rust_version: version.rust_version().map(str::to_owned),
        hashes: version.hashes(),
        published: version.published().map(str::to_owned),
    }
}

fn version(text: &str) -> Version {
    let need = |alias: &str, kind| Dependency {
        alias: alias.to_owned(),
        package: format!("{alias}-{text}"),
        requirement: ">=1, <3".parse().expect("a requirement"),
        features: vec!["std".to_owned()],
        default_features: false,
        optional: kind == DependencyKind::Build,
        target: Some("cfg(unix)".to_owned()),
        kind,
        registry: None,
    };
    Version {
        version: text.parse().expect("a version"),
        dependencies: vec![need("b", DependencyKind::Build), need("dev", DependencyKind::Dev)],
        features: [("std".to_owned(), vec!["b?/std".to_owned()])].into(),
        yanked: text.starts_with('2'),
        links: Some("z".to_owned()),
        rust_version: Some("1.60".to_owned()),
        hashes: Hashes { sha256: (!text.starts_with('1')).then(|| "0a".repeat(32)), sha512: None },
        published: Some(format!("time of {text}")),
    }
}

fn versions() -> Vec<Version> {
    ["2.0.0", "1.0.0", "10.0.0-rc.1", "1.0.0+build", "1.4294967296.0"].map(version).into()
}

#[test]
fn a_packed_crate_comes_back_in_the_order_of_its_versions() {
    let krate = Crate::new("a", &versions()).expect("packed");
    let mut expected = versions();
    expected.sort_by(|one, other| one.version.cmp(&other.version));
    for version in &mut expected {
        version.dependencies.retain(|it| it.kind != DependencyKind::Dev);
        version.features.insert("b".to_owned(), vec!["dep:b".to_owned()]);
    }
    assert_eq!(krate.name(), "a");
    assert_eq!(krate.versions().map(unpacked).collect::<Vec<_>>(), expected);
    let again = Crate::open(krate.archive()).expect("whole");
    assert_eq!(again.versions().map(unpacked).collect::<Vec<_>>(), expected);
    let member = Crate::member("a", &version("1.0.0")).expect("packed");
    assert_eq!(member.versions().next().expect("one").needs().len(), 2, "those for tests, too");
}

#[test]
fn some_of_the_versions_keep_their_positions() {
    let krate = Crate::new("a", &versions()).expect("packed");
    let some = krate.only(|version| !version.has_digest());
    let some = some.only(|version| version.number().build.is_empty());
    let texts: Vec<String> = some.versions().map(|it| it.number().to_string()).collect();
    assert_eq!(texts, ["1.0.0", "1.4294967296.0", "10.0.0-rc.1"]);
    for version in some.versions() {
        assert_eq!(krate.listed(version.position()).number(), version.number());
    }
}

#[test]
fn equal_parts_are_written_once() {
    let many: Vec<Version> = (0..100)
        .map(|at| Version {
            version: SemVersion::new(1, at, 0),
            published: None,
            ..version("1.0.0")
        })
        .collect();
    let [one, all] = [&many[..1], &many[..]].map(|it| Crate::new("a", it).expect("packed"));
    let each = (all.archive().len() - one.archive().len()) / 99;
    assert!(each <= HEAD_WORDS * 4 + DIGEST_BYTES, "{each}");
}

/// The sections of an archive, to be changed.
fn sections(krate: &Crate) -> Vec<Vec<u8>> {
    let body = archive::copy::<Vec<u8>>(archive::unseal(FORM, krate.archive()).expect("whole"));
    let body = body.expect("bytes");
    let mut reader = Reader { bytes: &body };
    (0..SECTIONS).map(|_| reader.section().expect("a section").to_vec()).collect()
}

/// An archive with a right checksum around whatever is in it.
fn sealed(sections: &[Vec<u8>]) -> Bytes {
    let mut body = Vec::new();
    sections.iter().for_each(|section| put_section(&mut body, section));
    archive::seal(FORM, &body).expect("sealed").into()
}

/// Reads all that there is to be read.
fn walk(bytes: &Bytes) -> bool {
    let Ok(krate) = Crate::open(bytes) else { return false };
    for version in krate.versions() {
        let copy = unpacked(version);
        for name in copy.features.keys() {
            assert!(version.feature(name).is_some());
        }
    }
    true
}

#[test]
fn a_damaged_archive_is_refused() {
    let bytes = Crate::new("a", &versions()).expect("packed").archive().clone();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        assert!(Crate::open(&damaged.into()).is_err(), "{at}");
        assert!(Crate::open(&bytes.slice(..at)).is_err(), "{at}");
    }
}

/// The words of a section that are positions: which of how many.
fn positions(section: usize) -> Option<(usize, &'static [usize])> {
    match section {
        // What is known of a version, its numbers.
        3 => Some((HEAD_WORDS, &[4, 5, 6, 7, 8])),
        // All but what is known of a dependency.
        5 => Some((NEED_WORDS, &[0, 1, 2, 3, 4, 6])),
        6 => Some((FEATURE_WORDS, &[0, 1])),
        1 | 7..SECTIONS => Some((1, &[0])),
        _ => None,
    }
}

#[test]
fn a_position_beyond_what_is_there_is_refused() {
    let whole = sections(&Crate::new("a", &versions()).expect("packed"));
    assert!(walk(&sealed(&whole)));
    let mut tried = 0;
    for section in 0..SECTIONS {
        let Some((words, meant)) = positions(section) else { continue };
        for at in (0..whole[section].len() / 4).filter(|at| meant.contains(&(at % words))) {
            for wild in [u32::MAX, u32::MAX / 4, 1_000] {
                let mut changed = whole.clone();
                changed[section][at * 4..][..4].copy_from_slice(&wild.to_le_bytes());
                assert!(!walk(&sealed(&changed)), "word {at} of section {section}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn cut_and_missing_sections_are_refused() {
    let whole = sections(&Crate::new("a", &versions()).expect("packed"));
    for section in 1..SECTIONS {
        for length in 0..whole[section].len() {
            let mut changed = whole.clone();
            changed[section].truncate(length);
            assert!(!walk(&sealed(&changed)), "{length} of section {section}");
        }
        assert!(!walk(&sealed(&whole[..section])));
    }
    let more = [&whole[..], &[vec![0; 4]]].concat();
    assert!(!walk(&sealed(&more)), "something behind the end");
    let mut swapped = whole.clone();
    let heads = swapped[3].split_off(HEAD_WORDS * 4);
    swapped[3].splice(0..0, heads);
    assert!(!walk(&sealed(&swapped)), "versions out of order");
    assert!(Crate::open(&archive::seal(FORM, &Vec::<u8>::new()).expect("sealed").into()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_change_harms(changes in prop::collection::vec((0..SECTIONS, any::<usize>(), any::<u8>()), 1..6)) {
        let mut sections = sections(&Crate::new("a", &versions()).expect("packed"));
        for (section, at, byte) in changes {
            let length = sections[section].len();
            match byte {
                0..16 => sections[section].truncate(at % (length + 1)),
                16..32 => sections[section].insert(at % (length + 1), byte),
                _ if length > 0 => sections[section][at % length] = byte % 40,
                _ => {}
            }
        }
        walk(&sealed(&sections));
    }

    #[test]
    fn no_body_harms(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        walk(&archive::seal(FORM, &bytes).expect("sealed").into());
    }
}
