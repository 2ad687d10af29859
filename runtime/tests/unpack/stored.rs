//! The store with artefacts that another process reads: the same entries as if it read them itself.

use agents_packager::metadata::Hashes;
use agents_packager::store::{Entry as Stored, Store};

use super::*;

fn hashes(bytes: &[u8]) -> Hashes {
    use std::io::Write as _;
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("coreutils");
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    let digest = output.split_ascii_whitespace().next().unwrap();
    Hashes { sha256: Some(digest.to_owned()), ..Hashes::default() }
}

fn add_all(store: &Store) -> Vec<Stored> {
    let mut program = forge::file("package/bin/run", b"#!/bin/sh\r\necho\r\n");
    program.mode = 0o755;
    let npm = forge::tarball(&[
        forge::file("package/package.json", b"{\"name\":\"demo\",\"version\":\"1.0.0\"}"),
        forge::file("package/large", &noise(3 << 20)),
        forge::entry(b'2', "package/link", b""),
        forge::file("package/twice", b"same"),
        forge::file("package/./twice", b"same"),
        program,
    ]);
    let wheel = forge::wheel(&[forge::member("demo/__init__.py", b"x = 1\n")]);
    let krate = forge::tarball(&[
        forge::file("demo-1.0.0/Cargo.toml", b"[package]\n"),
        forge::file("demo-1.0.0/src/lib.rs", &noise(100_000)),
    ]);
    let name = "demo-1.0-py3-none-any.whl";
    vec![
        store.add_tarball(Source::Bytes(&npm), &hashes(&npm), "demo.tgz").unwrap(),
        store.add_wheel(Source::Bytes(&wheel), &hashes(&wheel), name).unwrap(),
        store.add_crate(Source::Bytes(&krate), &hashes(&krate), "demo-1.0.0").unwrap(),
    ]
}

#[test]
fn both_ways_give_the_same_entries_and_files() {
    let scratch = Scratch::new();
    let here = Store::open(&scratch.path("here")).unwrap();
    let unpacker = helped();
    let _session = unpacker.session();
    let there = Store::open(&scratch.path("there")).unwrap().unpacked_by(Arc::clone(&unpacker));
    let (one, other) = (add_all(&here), add_all(&there));
    assert_eq!(one, other);
    assert_eq!(one[0].warnings.len(), 1);
    assert_eq!(list(&scratch.path("here")), list(&scratch.path("there")));
    assert_eq!(unpacker.counts(), (1, 0));
    for entry in &other {
        for file in &entry.files {
            assert!(there.read_object(&file.object, u64::MAX).is_ok());
        }
    }
}

#[test]
fn what_is_refused_leaves_nothing_that_counts() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.path("store")).unwrap().unpacked_by(helped());
    // The first file is whole, and stored when the second one turns out to be hostile.
    let hostile = forge::tarball(&[
        forge::file("package/package.json", b"{\"name\":\"demo\",\"version\":\"1.0.0\"}"),
        forge::file("package/../../x", b"x"),
    ]);
    let refused = store.add_tarball(Source::Bytes(&hostile), &hashes(&hostile), "demo.tgz");
    assert_eq!(refused.unwrap_err().kind.exit_code(), 6);
    assert!(!store.has(&hashes(&hostile), agents_packager::store::Form::Npm));
    assert_eq!(list(&scratch.path("store/tmp")), [""; 0]);
    assert_eq!(list(&scratch.path("store/index")), [""; 0]);
}
