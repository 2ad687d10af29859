//! Answers that are known beforehand: those of the families' own clients, recorded (`make judge` asks the clients again),
//! public fixtures, and rows from specifications. One file a table; its score is printed.
//!
//! A row is `c`, two versions and `<`, `=`, `>` or `invalid`, or `s`, a version, a range and `true`, `false` or `invalid`,
//! apart by tabs. What a family's client calls `invalid` has to be refused here too.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "scores are for people")]

use std::cmp::Ordering;
use std::path::Path;

use agents_versions::{Family, Range, Version};

fn answer(family: Family, kind: &str, left: &str, right: &str) -> String {
    let Ok(left) = Version::parse(family, left) else { return "invalid".to_owned() };
    let answer = match kind {
        "c" => Version::parse(family, right).map(|right| match left.cmp(&right) {
            Ordering::Less => "<",
            Ordering::Equal => "=",
            Ordering::Greater => ">",
        }),
        "s" => Range::parse(family, right).map(|range| match range.contains(&left) {
            true => "true",
            false => "false",
        }),
        other => panic!("`{other}` is no kind of question"),
    };
    answer.unwrap_or("invalid").to_owned()
}

/// The tables: `npm.tsv`, `npm-fixtures.tsv`, ...
fn tables() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/tables");
    let mut tables: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    tables.sort();
    tables
}

#[test]
fn every_recorded_answer_is_ours() {
    let mut failures = Vec::new();
    let mut families = std::collections::BTreeSet::new();
    for (name, text) in tables() {
        let family = Family::named(name.split('-').next().unwrap()).expect("named after a family");
        families.insert(family);
        let (mut agreed, mut asked) = (0, 0);
        for row in text.lines().filter(|row| !row.starts_with('#')) {
            let cells: Vec<&str> = row.split('\t').collect();
            let [kind, left, right, expected] = cells.as_slice() else {
                panic!("{name}: `{row}` has not four cells")
            };
            let ours = answer(family, kind, left, right);
            asked += 1;
            agreed += usize::from(ours == *expected);
            if ours != *expected {
                failures.push(format!("{name}: {row:?}, not {ours}"));
            }
        }
        println!("{name} {agreed}/{asked}");
        assert!(asked > 0, "{name} is empty");
    }
    assert_eq!(families.len(), Family::ALL.len(), "every family has a table: {families:?}");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
