//! METADATA as tools really write it.

use super::*;
use proptest::prelude::*;

fn name() -> PackageName {
    PackageName::from_str("a-b").expect("a name")
}

fn version() -> Version {
    Version::from_str("1.0").expect("a version")
}

fn check(text: &str) -> Result<CoreMetadata, String> {
    parse(headers(text.as_bytes()), &name(), &version())
}

/// Good metadata with `lines` added.
fn with(lines: &str) -> Result<CoreMetadata, String> {
    check(&format!("Metadata-Version: 2.1\nName: A.B\nVersion: 1.0.0\n{lines}\n\nName: other\n"))
}

#[test]
fn headers_are_read_and_the_description_is_not() {
    let metadata = with(
        "Requires-Python: >=3.8\nRequires-Dist: c (>=1,<2) ; extra == 'x'\nrequires-dist: d[e]>=1\n\
         Provides-Extra: x\nLicense: UNKNOWN\nLicense-Expression: MIT\nSummary: a\n        Requires-Dist: evil\n",
    )
    .expect("good metadata");
    assert_eq!(metadata.requires_dist.len(), 2);
    assert_eq!(metadata.requires_dist[0].to_string(), "c>=1,<2 ; extra == 'x'");
    assert_eq!(metadata.requires_python, VersionSpecifiers::from_str(">=3.8").ok());
    assert_eq!(metadata.extras, ["x"]);
    assert_eq!(metadata.license.as_deref(), Some("MIT"));
}

#[test]
fn a_licence_text_is_no_licence_name() {
    assert_eq!(with("License: MIT").expect("good").license.as_deref(), Some("MIT"));
    assert_eq!(with("License: Permission is\n  hereby granted").expect("good").license, None);
    assert_eq!(with("License: UNKNOWN").expect("good").license, None);
}

#[test]
fn a_licence_written_out_with_blank_looking_lines_hides_no_requirement() {
    for blank in ["        ", "\t", " \r"] {
        let lines =
            format!("License: BSD\n{blank}\n        All rights reserved.\nRequires-Dist: c>=1\n");
        let metadata = with(&lines).expect("good metadata");
        assert_eq!(metadata.requires_dist.len(), 1, "{blank:?}");
    }
}

#[test]
fn line_ends_and_marks_do_not_matter() {
    let text = "\u{feff}Metadata-Version: 2.1\r\nName: a_b\r\nVersion: 1.0\r\nRequires-Dist: c\r\n\r\nbody";
    assert_eq!(check(text).expect("good metadata").requires_dist.len(), 1);
}

#[test]
fn another_distribution_is_refused() {
    for text in [
        "",
        "Name: a-b\n",
        "Version: 1.0\n",
        "Name: c\nVersion: 1.0\n",
        "Name: a-b\nVersion: 2.0\n",
        "<html>",
    ] {
        assert!(check(text).is_err(), "{text}");
    }
}

#[test]
fn frequent_mistakes_are_put_right() {
    for (written, meant) in [
        ("c (>=1.0.*)", "c>=1.0"),
        ("c>=1<2", "c>=1,<2"),
        ("c >=1 <2", "c>=1,<2"),
        ("c (>=1,)", "c>=1"),
        ("c>=1,", "c>=1"),
        ("c (>='1.0')", "c>=1.0"),
        ("c (>=1.4.)", "c>=1.4"),
        ("c >= 2.7, !=3.0.*", "c>=2.7,!=3.0.*"),
        ("c[x] (> = 1.0); python_version > '3'", "c[x]>=1.0 ; python_full_version >= '3.1'"),
    ] {
        let requirement = requirement(written).unwrap_or_else(|why| panic!("{written}: {why}"));
        let meant = requirement_of(meant);
        assert_eq!(requirement.version_or_url, meant.version_or_url, "{written}");
        assert_eq!((requirement.name, requirement.extras), (meant.name, meant.extras), "{written}");
    }
}

fn requirement_of(text: &str) -> Requirement {
    Requirement::from_str(text).expect("a requirement")
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for text in [
        "",
        ">=1",
        "c>=one",
        "c @ ",
        "c; nonsense == 1 =",
        "c.*",
        "c-",
        "c- >=1",
        "c[d-]",
        "c[d, e. ]",
        "c [d_ ,e]",
    ] {
        assert!(requirement(text).is_err(), "{text}");
    }
    let error = with("Requires-Dist: c>=one").expect_err("refused");
    assert!(error.contains("c>=one"), "{error}");
}

#[test]
fn a_senseless_comparison_does_not_stop_all_markers() {
    for marker in [
        "'x' ~= os_name",
        "os_name ~= 'x'",
        "extra ~= 'x'",
        "python_version > '3' and 'x'~=os_name",
    ] {
        assert!(requirement(&format!("c ; {marker}")).is_err(), "{marker}");
    }
    assert!(requirement("c~=1.0 ; python_version ~= '3.6' and os_name == 'x'").is_ok());
}

#[test]
fn only_ascii_stands_behind_a_requirement() {
    for marker in
        ["os_name == 'x'é", "os_name == 'x' é", "os_name == 'x' andé 1", "é", "os_name == 'é'"]
    {
        for head in ["c", "c>=1", "c @ https://h.example.invalid/;'/c.whl "] {
            assert!(requirement(&format!("{head}; {marker}")).is_err(), "{head}; {marker}");
        }
    }
    let spaced = requirement("c>=1 ;\u{a0}os_name == 'x'\u{2003}and\u{a0}extra == 'y'");
    assert_eq!(spaced, Ok(requirement_of("c>=1 ; os_name == 'x' and extra == 'y'")));
    assert!(requirement("c @ file:///home/é/c.whl").is_ok());
}

#[test]
fn environment_variables_are_not_handed_out() {
    let error = requirement("c @ https://evil.example.invalid/${HOME}/c.whl").expect_err("refused");
    assert!(error.contains("environment variable"), "{error}");
}

#[test]
fn bombs_are_refused() {
    let deep = format!("c ; {}os_name == 'x'{}", "(".repeat(5000 / 2), ")".repeat(5000 / 2));
    assert!(requirement(&deep).is_err());
    let wide: Vec<String> =
        (0..40).map(|index| format!("(extra == 'a{index}' and extra == 'b{index}')")).collect();
    assert!(requirement(&format!("c ; {}", wide.join(" or "))).is_err());
    assert!(requirement(&format!("c=={}", "1".repeat(10_000))).is_err());
    assert!(specifiers(&">=1,".repeat(10_000)).is_none());
}

#[test]
fn a_page_does_not_look_like_metadata() {
    assert!(looks_right(b"Metadata-Version: 2.1\nName: a"));
    for text in ["", "<html>", "<!DOCTYPE html>\n<a href=\"x:y\">", "{\"a\": 1}", "Not found"] {
        assert!(!looks_right(text.as_bytes()), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(headers(&bytes), &name(), &version());
    }

    #[test]
    fn no_marker_makes_the_parser_panic(
        marker in "(\\({0,2}(python_version|python_full_version|os_name|sys_platform|extra|platform_release|implementation_name|\"[0-9.]{1,5}\") ?(==|!=|<|>|<=|>=|~=|===|in|not in|) ?('[0-9]\\.[0-9.*a-z ]{0,8}'|'[a-z0-9 .-]{0,6}'|os_name|extra|python_version)\\){0,2} (and|or) ){0,5}os_name == 'x'"
    ) {
        let _ = requirement(&format!("c[d] >=1; {marker}")).map(|requirement| requirement.to_string());
    }

    #[test]
    fn no_requirement_makes_the_parser_panic(text in "\\PC{0,80}|[a-z]{1,3}[ \\[\\]a-z,]{0,5}[<>=!~]{0,3}[0-9.*,<>= ]{0,20}(; ?[a-z_ '=<>()0-9.]{0,40})?") {
        let _ = requirement(&text);
        let _ = specifiers(&text);
    }
}
