//! Editing leaves everything else byte for byte, reading tells what is wrong and where.

use super::*;

#[track_caller]
fn check_add(text: &str, wanted: &[(&str, &str)], expected: &str) {
    assert_eq!(add("package.json", Some(text), wanted).expect("added"), expected);
}

#[test]
fn a_new_file_is_as_npm_writes_it() {
    let text = add("package.json", None, &[("express", "^4.19.2")]).expect("text");
    assert_eq!(text, "{\n  \"dependencies\": {\n    \"express\": \"^4.19.2\"\n  }\n}\n");
}

#[test]
fn names_go_in_order_where_they_were_in_order() {
    let text = "{\n  \"dependencies\": {\n    \"a\": \"1\",\n    \"c\": \"1\"\n  }\n}\n";
    let expected = "{\n  \"dependencies\": {\n    \"a\": \"1\",\n    \"b\": \"^2\",\n    \"c\": \"1\"\n  }\n}\n";
    check_add(text, &[("b", "^2")], expected);
    let expected = "{\n  \"dependencies\": {\n    \"@s/x\": \"^2\",\n    \"a\": \"1\",\n    \"c\": \"1\"\n  }\n}\n";
    check_add(text, &[("@s/x", "^2")], expected);
}

#[test]
fn names_go_last_where_there_was_no_order() {
    let text = "{\"dependencies\": {\"z\": \"1\", \"c\": \"1\"}}";
    check_add(
        text,
        &[("d", "^2")],
        "{\"dependencies\": {\"z\": \"1\", \"c\": \"1\", \"d\": \"^2\"}}",
    );
}

#[test]
fn indentation_line_ends_and_a_missing_last_line_end_stay() {
    let text = "{\r\n\t\"name\": \"x\",\r\n\t\"dependencies\": {\r\n\t\t\"a\": \"1\"\r\n\t}\r\n}";
    let expected = "{\r\n\t\"name\": \"x\",\r\n\t\"dependencies\": {\r\n\t\t\"a\": \"1\",\r\n\t\t\"b\": \"2\"\r\n\t}\r\n}";
    check_add(text, &[("b", "2")], expected);
    let text = "{\r\n    \"name\": \"x\"\r\n}\r\n";
    let expected = "{\r\n    \"name\": \"x\",\r\n    \"dependencies\": {\r\n        \"b\": \"2\"\r\n    }\r\n}\r\n";
    check_add(text, &[("b", "2")], expected);
}

#[test]
fn a_table_in_one_line_stays_in_one_line() {
    check_add(
        "{\"dependencies\":{\"a\":\"1\"}}",
        &[("b", "2")],
        "{\"dependencies\":{\"a\":\"1\", \"b\":\"2\"}}",
    );
    let text = "{ \"dependencies\": { \"b\": \"1\", \"c\": \"1\" } }\n";
    let expected = "{ \"dependencies\": { \"a\": \"2\", \"b\": \"1\", \"c\": \"1\" } }\n";
    check_add(text, &[("a", "2")], expected);
    for name in ["a", "bb", "d"] {
        let added = add("package.json", Some(text), &[(name, "^2")]).expect("added");
        assert_eq!(remove("package.json", &added, &[name]).expect("removed"), text, "{name}");
    }
}

#[test]
fn the_byte_order_mark_stays() {
    let text = "\u{feff}{\"dependencies\":{\"a\":\"1\"}}\n";
    let out = add("package.json", Some(text), &[("a", "2")]).expect("text");
    assert_eq!(out, "\u{feff}{\"dependencies\":{\"a\":\"2\"}}\n");
    read("package.json", text).expect("read");
}

#[test]
fn a_name_is_changed_where_it_stands() {
    let text = "{\n  \"devDependencies\": {\"a\": \"1\"}\n}\n";
    check_add(text, &[("a", "2")], "{\n  \"devDependencies\": {\"a\": \"2\"}\n}\n");
}

#[test]
fn adding_what_is_there_changes_nothing() {
    let text = "{ \"dependencies\" : { \"a\" :\"1\" } }";
    check_add(text, &[("a", "1")], text);
}

#[test]
fn removing_undoes_adding() {
    let text = "{\n  \"name\": \"x\",\n  \"dependencies\": {\n    \"a\": \"1\",\n    \"c\": \"1\"\n  }\n}\n";
    for name in ["b", "0", "z", "@s/n"] {
        let added = add("package.json", Some(text), &[(name, "^2")]).expect("added");
        assert_eq!(remove("package.json", &added, &[name]).expect("removed"), text, "{name}");
    }
    let text = "{\n  \"name\": \"x\"\n}\n";
    let added = add("package.json", Some(text), &[("b", "^2")]).expect("added");
    assert_eq!(remove("package.json", &added, &["b"]).expect("removed"), text);
}

#[test]
fn comments_and_trailing_commas_are_syntax_errors_with_a_place() {
    let error = read("package.json", "{\n  // no\n}").expect_err("comment");
    assert!(error.message.contains("line 2 column 3"), "{}", error.message);
    let error = add("package.json", Some("{\"a\": 1,}"), &[("b", "1")]).expect_err("comma");
    assert_eq!(error.code, "manifest-syntax");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    read("package.json", &format!("{{\"a\":{deep}}}")).expect_err("deep");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for text in [
        "[]",
        "{\"dependencies\": []}",
        "{\"dependencies\": {\"a\": 1}}",
        "{\"dependencies\": {\"../a\": \"1\"}}",
        "{\"overrides\": {\"a\": 1}}",
        "{\"workspaces\": 1}",
    ] {
        let error = read("package.json", text).expect_err(text);
        assert_eq!(error.code, "manifest-invalid", "{text}");
    }
    let twice = "{\"dependencies\": {}, \"dependencies\": {}}";
    add("package.json", Some(twice), &[("a", "1")]).expect_err("twice");
}

#[test]
fn a_name_that_stands_twice_in_a_table_is_not_edited() {
    for table in ["dependencies", "devDependencies", "optionalDependencies"] {
        let text = format!("{{\"{table}\": {{\"a\": \"1\", \"b\": \"1\", \"\\u0061\": \"2\"}}}}");
        let added = add("package.json", Some(&text), &[("c", "1")]).expect_err("twice");
        let removed = remove("package.json", &text, &["a"]).expect_err("twice");
        for error in [added, removed] {
            assert_eq!(error.code, "manifest-invalid");
            let part = format!("`a` stands twice in `{table}`");
            assert!(error.message.contains(&part), "{}", error.message);
        }
    }
}

#[test]
fn all_tables_are_read() {
    let text = r#"{"name": "x", "version": "1.0.0", "dependencies": {"a": "1", "o": "1"},
        "devDependencies": {"d": "1"}, "optionalDependencies": {"o": "2"}, "peerDependencies": {"p": "1", "q": "1"},
        "peerDependenciesMeta": {"q": {"optional": true}}, "workspaces": ["packages/*"],
        "overrides": {"a": {".": "2", "b": "$d"}, "c@1": "3"}}"#;
    let root = read("package.json", text).expect("read");
    assert_eq!(root.dependencies.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(root.optional_dependencies["o"], "2");
    assert_eq!(root.optional_peers, ["q"]);
    assert_eq!(root.workspaces, ["packages/*"]);
    assert_eq!(root.overrides[0].value.as_deref(), Some("2"));
    assert_eq!(root.overrides[0].nested[0].key, "b");
    assert_eq!(root.declared("d"), Some("1"));
}

#[test]
fn the_saved_requirement_is_what_was_asked_or_a_caret() {
    assert_eq!(saved_requirement("", "1.2.3"), "^1.2.3");
    assert_eq!(saved_requirement("latest", "1.2.3"), "^1.2.3");
    assert_eq!(saved_requirement("=1.2.3", "1.2.3"), "1.2.3");
    assert_eq!(saved_requirement("~1.2", "1.2.3"), "~1.2");
    assert_eq!(saved_requirement("npm:b@^1", "1.2.3"), "npm:b@^1");
}

#[test]
fn a_new_file_is_what_the_editor_makes_of_an_empty_one() {
    let cases: [&[(&str, &str)]; 7] = [
        &[],
        &[("express", "^4.19.2")],
        &[
            ("b", "1"),
            ("@s/x", "^2"),
            ("a", "3"),
            ("A", "4"),
            ("a-b", "5"),
            ("a.b", "6"),
            ("a1", "7"),
        ],
        &[("a", "1"), ("b", "2"), ("a", "3")],
        &[("a", "npm:b@>=1 <2 || 3.x"), ("b", "https://h.example.invalid/x.tgz")],
        &[("a", "a \"quoted\" \\ text"), ("b", "1")],
        &[("a", "\u{e9}\n"), ("b", "1")],
    ];
    for wanted in cases {
        let fresh = add("package.json", None, wanted).expect("written");
        let edited = add("package.json", Some(EMPTY), wanted).expect("edited");
        assert_eq!(fresh, edited);
    }
    let bad: [(&str, &str); 2] = [("a", "1"), ("..", "1")];
    let error = add("package.json", None, &bad).expect_err("no name");
    assert_eq!(error, add("package.json", Some(EMPTY), &bad).expect_err("no name"));
}
