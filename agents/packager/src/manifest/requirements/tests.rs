//! Lines of people stay; only the line that is meant changes.

use super::*;
use crate::ecosystem::Ecosystem;

fn add(file: &str, text: Option<&str>, wanted: &[&str]) -> Result<String, Error> {
    super::add(file, text, wanted, &address::unknown)
}

fn remove(file: &str, text: &str, removed: &[&str]) -> Result<String, Error> {
    super::remove(file, text, removed, &address::unknown)
}

const TEXT: &str = "# web\nDjango>=4 ; python_version >= '3.8'  # the frame\nrequests[socks] == 2.31.0\n\n--pre\nfoo>=1, \\\n  <2  # two lines\n";

#[test]
fn requirements_options_and_continuations_are_read() {
    let read = read("requirements.txt", TEXT).expect("read");
    let names: Vec<String> =
        read.wanted.iter().map(|one| one.requirement.name.to_string()).collect();
    assert_eq!(names, ["django", "requests", "foo"]);
    assert_eq!(read.wanted[2].line, 6);
    assert_eq!(read.options, [(5, "--pre".to_owned())]);
}

#[test]
fn hashes_are_read() {
    let text = "a==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nb==2\n";
    let read = read("r.txt", text).expect("read");
    assert_eq!(read.wanted[0].hashes, ["sha256:aa", "sha256:bb"]);
    assert_eq!(read.wanted[1].line, 4);
    let error = add("r.txt", Some(text), &["a>=2"]).expect_err("hashes");
    assert_eq!(error.code, "generated-manifest");
    assert_eq!(add("r.txt", Some(text), &["a==1"]).expect("same"), text);
    assert_eq!(remove("r.txt", text, &["A"]).expect("removed"), "b==2\n");
}

#[test]
fn a_file_with_hashes_takes_no_new_name() {
    for text in ["a==1 --hash=sha256:aa\n", "b==1\na==1 ; x \\\n\t--hash sha256:aa\n"] {
        let error = add("r.txt", Some(text), &["new>=1"]).expect_err(text);
        assert_eq!(error.code, "generated-manifest");
        assert!(error.message.contains("`a==1` has `--hash`"), "{}", error.message);
    }
    let comment = "a==1  # no --hash=sha256:aa\n";
    assert_eq!(add("r.txt", Some(comment), &["b"]).expect("added"), format!("{comment}b\n"));
}

#[test]
fn includes_and_addresses_are_refused_by_name() {
    for (text, code) in [
        ("-r other.txt\n", "manifest-include"),
        ("-rother.txt\n", "manifest-include"),
        ("--requirement=other.txt\n", "manifest-include"),
        ("-c constraints.txt\n", "manifest-include"),
        ("-e .\n", "manifest-invalid"),
        ("./x\n", "manifest-invalid"),
        ("x @ file://elsewhere/x.whl\n", "manifest-invalid"),
        ("x @ https://me:hush@example.invalid/x.whl\n", "manifest-invalid"),
        ("x @ git+https://hush@example.invalid/x?hush\n", "manifest-invalid"),
        ("x @ git+http://example.invalid/x\n", "manifest-invalid"),
        ("https://example.invalid/x.zip\n", "manifest-invalid"),
        ("a==\n", "manifest-syntax"),
        ("!!\n", "manifest-syntax"),
    ] {
        let error = read("r.txt", text).expect_err(text);
        assert_eq!(error.code, code, "{text}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[test]
fn a_file_is_found_by_the_name_that_it_has_for_a_package() {
    let text =
        "./d/A_b-1-py3-none-any.whl  # built here\nhttps://h/c-1-py3-none-any.whl\nhttps==1\n";
    let read = read("r.txt", text).expect("read");
    let lines: Vec<String> = read.wanted.iter().map(|one| one.requirement.to_string()).collect();
    let first = "a-b @ project:///d/A_b-1-py3-none-any.whl";
    assert_eq!(lines, [first, "c @ https://h/c-1-py3-none-any.whl", "https==1"]);
    let removed = remove("r.txt", text, &["a.b"]).expect("removed");
    assert_eq!(removed, "https://h/c-1-py3-none-any.whl\nhttps==1\n");
    assert_eq!(
        remove("r.txt", &removed, &["https"]).expect("removed"),
        "https://h/c-1-py3-none-any.whl\n"
    );
    let changed = add("r.txt", Some(text), &["a-b>=2"]).expect("changed");
    assert_eq!(changed, text.replace("./d/A_b-1-py3-none-any.whl", "a-b>=2"));
}

#[test]
fn a_changed_line_keeps_marker_and_comment() {
    let out = add("r.txt", Some(TEXT), &["django>=5"]).expect("added");
    assert_eq!(out, TEXT.replace("Django>=4 ; python_version", "django>=5; python_version"));
    let out = add("r.txt", Some(TEXT), &["foo>=3"]).expect("added");
    assert!(out.ends_with("--pre\nfoo>=3\n"), "{out}");
}

#[test]
fn removing_undoes_adding() {
    for text in [TEXT, "a\nb", "a\r\nb\r\n", "", "\u{feff}a\n"] {
        let added = add("r.txt", Some(text), &["new>=1"]).expect("added");
        assert!(
            read("r.txt", &added).expect("read").wanted.iter().any(|one| one
                .requirement
                .name
                .to_string()
                == "new")
        );
        assert_eq!(remove("r.txt", &added, &["New"]).expect("removed"), text);
    }
    assert_eq!(add("r.txt", None, &["a>=1"]).expect("new file"), "a>=1\n");
    assert_eq!(add("r.txt", Some("a\r\n"), &["b"]).expect("added"), "a\r\nb\r\n");
}

#[test]
fn a_name_in_two_lines_is_not_guessed_at() {
    let text = "a==1; python_version<'3'\na==2\n";
    assert!(
        add("r.txt", Some(text), &["a>=3"])
            .expect_err("two")
            .message
            .contains("line 1 and in line 2")
    );
}

#[test]
fn the_saved_requirement_is_what_was_asked_or_a_lower_bound() {
    let spec = |requirement: &str| Spec {
        ecosystem: Ecosystem::Pypi,
        name: "requests".to_owned(),
        extras: vec!["socks".to_owned()],
        requirement: requirement.to_owned(),
    };
    assert_eq!(saved_requirement(&spec(""), "2.31.0+cpu"), "requests[socks]>=2.31.0");
    assert_eq!(saved_requirement(&spec("<3"), "2.31.0"), "requests[socks]<3");
}
