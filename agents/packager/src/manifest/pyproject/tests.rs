//! The list changes, its comments and everything around it do not.

use super::*;

#[track_caller]
fn check_add(text: &str, wanted: &str, expected: &str) {
    assert_eq!(add("pyproject.toml", text, &[wanted]).expect("added"), expected);
}

#[test]
fn a_list_in_one_line_stays_in_one_line() {
    check_add(
        "[project]\nname = 'x'\ndependencies = [\"a\"]\n",
        "b>=1",
        "[project]\nname = 'x'\ndependencies = [\"a\", \"b>=1\"]\n",
    );
    check_add("[project]\ndependencies = []\n", "b>=1", "[project]\ndependencies = [\"b>=1\"]\n");
    check_add(
        "[project]\nname = \"x\"\n",
        "b>=1",
        "[project]\nname = \"x\"\ndependencies = [\"b>=1\"]\n",
    );
}

#[test]
fn a_list_in_several_lines_keeps_its_comments() {
    let text = "[project] # p\ndependencies = [\n  # first\n  \"a>=1\", # why\n  'c',  # last\n]\n\n[dependency-groups]\ndev = [\"x\"]\n";
    let expected = text.replace("  'c',  # last\n]", "  'c',  # last\n  \"b>=1\",\n]");
    check_add(text, "b>=1", &expected);
    assert_eq!(remove("pyproject.toml", &expected, &["b"]).expect("removed"), text);
}

#[test]
fn a_changed_entry_keeps_its_place_and_marker() {
    let text = "[project]\ndependencies = [\n    \"A.b>=1; python_version<'3.9'\", # why\n]\n";
    let expected = "[project]\ndependencies = [\n    \"a-b>=2; python_version<'3.9'\", # why\n]\n";
    check_add(text, "a-b>=2", expected);
    check_add(text, "A.b>=1", text);
}

#[test]
fn windows_line_ends_and_the_mark_stay() {
    let text = "\u{feff}[project]\r\ndependencies = [\r\n    \"a\",\r\n]\r\n";
    check_add(text, "b", &text.replace("\"a\",\r\n", "\"a\",\r\n    \"b\",\r\n"));
}

#[test]
fn removing_takes_the_entry_only() {
    let text = "[project]\ndependencies = [\"a\", \"b\", \"c\"]\n";
    let removed = |name| remove("pyproject.toml", text, &[name]).expect("removed");
    assert_eq!(removed("a"), "[project]\ndependencies = [\"b\", \"c\"]\n");
    assert_eq!(removed("b"), "[project]\ndependencies = [\"a\", \"c\"]\n");
    assert_eq!(removed("c"), "[project]\ndependencies = [\"a\", \"b\"]\n");
    assert_eq!(removed("d"), text);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let error = read("pyproject.toml", "[project]\nname = \n").expect_err("syntax");
    assert!(error.message.contains("line 2"), "{}", error.message);
    for text in [
        "[project]\ndependencies = 1\n",
        "[project]\ndependencies = [1]\n",
        "[project]\ndynamic = ['dependencies']\n",
        "[project]\ndependencies = ['a==']\n",
    ] {
        assert_eq!(read("p", text).expect_err(text).code, "manifest-invalid", "{text}");
    }
    assert!(read("p", "[tool.x]\na = 1\n").expect("no project").is_none());
    add("p", "[tool.x]\na = 1\n", &["b"]).expect_err("no project");
    let deep = format!("a = {}{}", "[".repeat(50_000), "]".repeat(50_000));
    read("p", &deep).expect_err("deep");
}

#[test]
fn the_project_is_read() {
    let text = "[project]\nname = 'x'\nrequires-python = '>=3.9'\ndependencies = ['a[b]>=1; sys_platform==\"linux\"']\n";
    let read = read("p", text).expect("read").expect("project");
    assert_eq!(read.requires_python.as_deref(), Some(">=3.9"));
    assert_eq!(read.dependencies[0].name.to_string(), "a");
}
