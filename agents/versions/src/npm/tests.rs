//! Versions and ranges against tables of facts, laws of order, and hostile text.

mod table;

use proptest::prelude::*;

use super::*;

fn strict() -> Options {
    Options::default()
}

fn range(text: &str) -> Range {
    Range::parse(text).expect("a range")
}

#[test]
fn versions_read_as_the_table_says() {
    for (text, strict, loose) in table::VERSIONS {
        let read =
            |result: Result<Version, ParseError>| result.map_or("!".into(), |v| v.to_string());
        assert_eq!(read(Version::parse(text)), *strict, "strict {text:?}");
        assert_eq!(read(Version::parse_loose(text)), *loose, "loose {text:?}");
    }
}

#[test]
fn ranges_read_as_the_table_says() {
    for (text, loose, strict, with_pre) in table::RANGES {
        let read = |options| Range::parse_with(text, options).map_or("!".into(), |r| r.to_string());
        assert_eq!(
            read(Options { loose: true, include_prerelease: false }),
            *loose,
            "loose {text:?}"
        );
        assert_eq!(read(Options::default()), *strict, "strict {text:?}");
        let options = Options { loose: false, include_prerelease: true };
        assert_eq!(read(options), *with_pre, "with pre-releases {text:?}");
    }
}

#[test]
fn membership_is_as_the_table_says() {
    for (text, plain, with_pre) in table::SATISFIES {
        for (include_prerelease, expected) in [(false, plain), (true, with_pre)] {
            let range =
                Range::parse_with(text, Options { loose: true, include_prerelease }).expect(text);
            let answer: String = table::PROBES
                .iter()
                .map(|probe| {
                    let version = Version::parse(probe).expect(probe);
                    let is_inside = range.satisfies(&version);
                    let is_admitted = range.admits_prereleases_of(version.release());
                    assert!(!is_inside || !version.is_prerelease() || is_admitted, "{probe}");
                    if is_inside { '1' } else { '0' }
                })
                .collect();
            assert_eq!(&answer, expected, "{text:?} with pre-releases {include_prerelease}");
        }
    }
}

#[test]
fn intersections_are_as_the_table_says() {
    for (left, right, expected) in table::INTERSECTS {
        let left = Range::parse_with(left, strict()).expect(left);
        let right = Range::parse_with(right, strict()).expect(right);
        assert_eq!(left.intersects(&right), *expected, "{left} and {right}");
        assert_eq!(right.intersects(&left), *expected, "{right} and {left}");
    }
}

#[test]
fn prereleases_sort_below_their_release_and_by_their_identifiers() {
    let sorted = [
        "0.0.0-0",
        "0.0.0",
        "0.0.1-a",
        "0.0.1",
        "1.0.0-0",
        "1.0.0-5",
        "1.0.0-10",
        "1.0.0-10a",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.2.0",
        "1.10.0",
        "2.0.0",
    ];
    for pair in sorted.windows(2) {
        let (low, high) =
            (Version::parse(pair[0]).expect("low"), Version::parse(pair[1]).expect("high"));
        assert!(low < high, "{low} < {high}");
    }
}

#[test]
fn build_metadata_never_takes_part_in_the_order() {
    assert_eq!(Version::parse("1.0.0+a").expect("a"), Version::parse("1.0.0+b").expect("b"));
}

#[test]
fn max_satisfying_takes_the_highest_inside() {
    let versions: Vec<Version> = ["1.2.3", "1.3.0-rc.1", "1.2.9", "2.0.0"]
        .iter()
        .map(|text| Version::parse(text).expect("version"))
        .collect();
    assert_eq!(max_satisfying(&versions, &range("^1")).expect("one").to_string(), "1.2.9");
    assert_eq!(
        max_satisfying(&versions, &range("~1.3.0-0")).expect("one").to_string(),
        "1.3.0-rc.1"
    );
    assert!(max_satisfying(&versions, &range(">2")).is_none());
}

#[test]
fn tags_are_not_ranges() {
    for tag in ["latest", "next", "beta-1", "canary"] {
        assert!(Range::parse(tag).is_err(), "{tag}");
    }
}

#[test]
fn text_that_only_the_order_of_steps_explains_reads_as_npm_reads_it() {
    for (text, loose, expected) in [
        ("<0 - <2.0 ~12", false, "!"),
        (">0, * x.1.12", true, "!"),
        ("<x <-~x", false, "!"),
        ("* x.1.12", true, ""),
        ("<x 1", false, "<0.0.0-0"),
    ] {
        let read = Range::parse_with(text, Options { loose, include_prerelease: false });
        assert_eq!(read.map_or("!".into(), |range| range.to_string()), expected, "{text}");
    }
}

#[test]
fn overlong_text_is_refused_with_its_bound() {
    let long = format!("1.2.3-{}", "a".repeat(300));
    assert_eq!(Version::parse(&long), Err(ParseError::TooLong { limit: 256 }));
    let long = "1 || ".repeat(10_000);
    assert!(matches!(Range::parse(&long), Err(ParseError::TooLong { .. })));
    let dense = "1||".repeat(1_500);
    assert!(matches!(Range::parse(&dense), Err(ParseError::TooLong { .. })));
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "[ 0-9xXv=<>~^*|.+a-c-]{0,40}|\\PC{0,40}") {
        let _ = Version::parse(&text);
        let _ = Version::parse_loose(&text);
        for loose in [false, true] {
            for include_prerelease in [false, true] {
                let _ = Range::parse_with(&text, Options { loose, include_prerelease });
            }
        }
    }

    #[test]
    fn a_range_survives_being_written_and_read(text in "[0-9x<>~^*|. -]{0,20}") {
        if let Ok(range) = Range::parse(&text) {
            prop_assert_eq!(Range::parse(&range.to_string()).expect("canonical"), range);
        }
    }

    #[test]
    fn a_version_survives_being_written_and_read(text in "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}(-[a-b0-9.-]{1,8})?") {
        if let Ok(version) = Version::parse_loose(&text) {
            prop_assert_eq!(Version::parse(&version.to_string()).expect("canonical"), version);
        }
    }
}
