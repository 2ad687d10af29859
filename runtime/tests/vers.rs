//! `bolide vers` as a filter: a process with lines in and lines out, hostile ones among them.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

fn filter(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bolide"));
    command.arg("vers").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn answers(arguments: &[&str], input: &[u8]) -> Vec<String> {
    let mut child = filter(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_line_has_one_answer_in_its_place() {
    let mut input = b"1.0 2.0\r\n\n1.0\0 2.0\n\xff 1\n2.0 2.0.0\n".to_vec();
    input.extend(std::iter::repeat_n(b'9', 3 << 20));
    input.extend(b"\n3 1");
    let answers = answers(&["compare", "--ecosystem", "pypi"], &input);
    let kinds: Vec<&str> = answers.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["<", "invalid", "invalid", "invalid", "=", "invalid", ">"]);
}

#[test]
fn numbers_longer_than_any_machine_word_compare() {
    let nines = "9".repeat(500_000);
    let input = format!("{nines} 1{}\n", "0".repeat(500_000));
    assert_eq!(answers(&["compare", "--ecosystem", "debian"], input.as_bytes()), ["<"]);
}

#[test]
fn membership_is_asked_with_a_tab() {
    let input = b"1.5\t[1.0,2.0)\n2.0\t[1.0,2.0)\n1.5 [1.0,2.0)\n1.5\t[2.0,1.0]\n";
    let answers = answers(&["satisfies", "--ecosystem", "maven"], input);
    assert_eq!(answers[..2], ["true", "false"]);
    assert!(answers[2..].iter().all(|answer| answer.starts_with("invalid: ")), "{answers:?}");
}

#[test]
fn equal_versions_stay_as_they_come_and_others_come_last() {
    let input = b"1.0.0\n1.0-rc1\nnothing at all\n1.0\n0.9\n";
    let sorted = answers(&["sort", "--ecosystem", "gem"], input);
    assert_eq!(sorted[..4], ["0.9", "1.0-rc1", "1.0.0", "1.0"]);
    assert!(sorted[4].starts_with("invalid: `nothing at all`"), "{sorted:?}");
}

#[test]
fn whoever_waits_for_an_answer_gets_it() {
    let mut child = filter(&["compare", "--ecosystem", "npm"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for (question, expected) in [("1.0.0 1.0.1\n", "<\n"), ("2.0.0 1.0.1\n", ">\n")] {
        stdin.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert_eq!(answer, expected);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_unknown_ecosystem_is_wrong_use() {
    let mut command = filter(&["compare", "--ecosystem", "cpan"]);
    let status = command.stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
