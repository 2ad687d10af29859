//! The store: what goes in comes out, what is damaged is noticed, what is in the way is a conflict.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::object::Object;
use super::*;
use agents_contract::{Cancellation, Threads};

use crate::unpack::Source;
use crate::unpack::attacks::forge::{self, file, tarball};

mod births;
mod collecting;
mod fresh;
mod fuzz;
mod lending;
mod prepared;

fn hashes(bytes: &[u8]) -> Hashes {
    add::hash(Source::Bytes(bytes), true, true).expect("memory")
}

fn npm_package(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries =
        vec![file("package/package.json", b"{\"name\":\"demo\",\"version\":\"1.0.0\"}")];
    entries.extend(files.iter().map(|(name, content)| file(&format!("package/{name}"), content)));
    tarball(&entries)
}

fn open() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().expect("a directory");
    let store = Store::open(&place.path().join("store")).expect("a store");
    (place, store)
}

fn files_of(entry: &Entry) -> Vec<File> {
    let file = |stored: &StoredFile| File {
        path: stored.path.to_string(),
        content: Content::Object(stored.object),
        executable: stored.executable,
    };
    entry.files.iter().map(file).collect()
}

fn fresh(place: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    let path = place.path().join(name);
    fs::create_dir(&path).expect("a directory");
    path
}

#[test]
fn a_tarball_goes_in_and_comes_out() {
    let (place, store) = open();
    let big = vec![7; 1_000_000];
    let mut script = file("package/run", b"#!/bin/sh\n");
    script.mode = 0o777;
    let bytes = tarball(&[
        file("package/package.json", b"\xef\xbb\xbf{\"name\":\"demo\",\"version\":\"1.0.0\"}"),
        file("package/a/b/big", &big),
        file("package/a-b/empty", b""),
        script,
    ]);
    let hashes = hashes(&bytes);
    assert!(!store.has(&hashes, Form::Npm));
    let entry = store.add_tarball(Source::Bytes(&bytes), &hashes, "demo.tgz").expect("honest");
    assert_eq!((entry.name.as_str(), entry.version.as_str()), ("demo", "1.0.0"));
    for known in [
        hashes.clone(),
        Hashes { sha256: None, ..hashes.clone() },
        Hashes { sha512: None, ..hashes.clone() },
    ] {
        assert_eq!(store.entry(&known, Form::Npm).as_ref(), Some(&entry));
        assert!(!store.has(&known, Form::Wheel));
    }
    for (name, parallelism, verify) in [("one", 1, false), ("two", 4, true)] {
        let to = fresh(&place, name);
        let crew = Threads(parallelism);
        let options = FillOptions { crew: &crew, verify, ..FillOptions::default() };
        let filled = store.fill(&to, files_of(&entry), options).expect("space");
        assert_eq!((filled.files, filled.bytes), (4, 1_000_046));
        assert_eq!(fs::read(to.join("a/b/big")).expect("written"), big);
        let mode =
            |path: &str| fs::metadata(to.join(path)).expect("written").permissions().mode() & 0o111;
        assert_eq!((mode("run"), mode("a-b/empty")), (0o111, 0));
    }
}

#[test]
fn a_wrong_hash_stores_nothing() {
    let (_place, store) = open();
    let bytes = npm_package(&[]);
    for wrong in [
        Hashes { sha256: Some("00".repeat(32)), sha512: None },
        Hashes { sha512: Some("00".repeat(64)), ..hashes(&bytes) },
    ] {
        let error =
            store.add_tarball(Source::Bytes(&bytes), &wrong, "demo.tgz").expect_err("wrong");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "hash-mismatch"));
        assert!(!store.has(&wrong, Form::Npm));
    }
    let error = store
        .add_tarball(Source::Bytes(&bytes), &Hashes::default(), "demo.tgz")
        .expect_err("unknown");
    assert_eq!(error.code, "hash-missing");
    assert_eq!(fs::read_dir(store.root().join("files")).expect("there").count(), 0);
}

#[test]
fn repeated_files_pass_only_if_they_are_equal() {
    let (_place, store) = open();
    let equal = npm_package(&[("a", b"1"), ("a", b"1")]);
    assert_eq!(
        store
            .add_tarball(Source::Bytes(&equal), &hashes(&equal), "demo.tgz")
            .expect("harmless")
            .files
            .len(),
        2
    );
    let different = npm_package(&[("a", b"1"), ("a", b"2")]);
    let error = store
        .add_tarball(Source::Bytes(&different), &hashes(&different), "demo.tgz")
        .expect_err("hostile");
    assert_eq!(error.code, "unsafe-archive");
    assert!(!store.has(&hashes(&different), Form::Npm));
}

#[test]
fn ignore_files_get_the_name_that_npm_gives_them() {
    let (_place, store) = open();
    let bytes =
        npm_package(&[(".gitignore", b"git"), ("x/.gitignore", b"git"), ("x/.npmignore", b"npm")]);
    let entry =
        store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
    let names: Vec<_> = entry.files.iter().map(|file| &*file.path).collect();
    assert_eq!(names, [".npmignore", "package.json", "x/.npmignore"]);
    assert_eq!(entry.file("x/.npmignore").expect("kept").object, Object::of(b"npm"));
}

#[test]
fn a_crate_is_kept_as_it_is() {
    let (_place, store) = open();
    let bytes = tarball(&[file("demo-1.0.0/Cargo.toml", b"[package]\n")]);
    let entry =
        store.add_crate(Source::Bytes(&bytes), &hashes(&bytes), "demo-1.0.0").expect("honest");
    assert_eq!(store.read_object(&entry.files[0].object, 1 << 20).expect("there"), bytes);
    let error = store
        .add_crate(Source::Bytes(&bytes), &hashes(&bytes), "other-1.0.0")
        .expect_err("another one");
    assert_eq!(error.code, "unsafe-archive");
}

#[test]
fn a_source_distribution_is_refused() {
    let (_place, store) = open();
    let error = store
        .add_wheel(Source::Bytes(b"x"), &hashes(b"x"), "demo-1.0.tar.gz")
        .expect_err("no wheel");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "source-distribution"));
}

#[test]
fn a_damaged_file_is_noticed_and_forgotten() {
    for (damage, verify) in
        [("missing", false), ("short", false), ("long", false), ("changed", true)]
    {
        let (place, store) = open();
        let bytes = npm_package(&[("a", b"content")]);
        let entry =
            store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
        let path = store.object_path(&Object::of(b"content"));
        fs::remove_file(&path).expect("there");
        match damage {
            "short" => fs::write(&path, "cont").expect("space"),
            "long" => fs::write(&path, "content, more").expect("space"),
            "changed" => fs::write(&path, "CONTENT").expect("space"),
            _ => {}
        }
        let options = FillOptions { crew: &Threads(2), verify, ..FillOptions::default() };
        let error =
            store.fill(&fresh(&place, "to"), files_of(&entry), options).expect_err("damaged");
        assert_eq!(error.code, DAMAGED, "{damage}");
        assert!(error.retry);
        assert_eq!(store.check(&hashes(&bytes), Form::Npm, verify), None);
        assert!(!store.has(&hashes(&bytes), Form::Npm));
        store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("again");
        assert!(store.check(&hashes(&bytes), Form::Npm, true).is_some(), "{damage}");
    }
}

#[test]
fn a_damaged_index_entry_is_absent() {
    let (_place, store) = open();
    let bytes = npm_package(&[("a", b"1")]);
    let entry =
        store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
    let encoded = entry::encode(&entry);
    assert_eq!(entry::decode(&encoded), Some(entry));
    for index in 0..encoded.len() {
        let mut damaged = encoded.clone();
        damaged[index] ^= 1;
        assert_eq!(entry::decode(&damaged), None);
        assert_eq!(entry::decode(&encoded[..index]), None);
    }
}

#[test]
fn a_file_that_is_there_is_a_conflict_unless_it_is_equal() {
    let (place, store) = open();
    let to = fresh(&place, "to");
    let new = |content: &[u8]| {
        vec![File {
            path: "d/a".to_owned(),
            content: Content::Bytes(content.to_vec()),
            executable: false,
        }]
    };
    let accept = FillOptions { existing: Existing::AcceptEqual, ..FillOptions::default() };
    store.fill(&to, new(b"1"), accept).expect("space");
    assert_eq!(store.fill(&to, new(b"1"), accept).expect("equal").files, 0);
    for (content, options) in [(&b"2"[..], accept), (b"1", FillOptions::default())] {
        let error = store.fill(&to, new(content), options).expect_err("there already");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "file-conflict"));
    }
    assert_eq!(fs::read(to.join("d/a")).expect("kept"), b"1");
}

#[test]
fn links_in_the_way_lead_nowhere() {
    let (place, store) = open();
    let (to, outside) = (fresh(&place, "to"), fresh(&place, "outside"));
    std::os::unix::fs::symlink(&outside, to.join("link")).expect("a link");
    std::os::unix::fs::symlink(outside.join("file"), to.join("dangling")).expect("a link");
    let accept = FillOptions { existing: Existing::AcceptEqual, ..FillOptions::default() };
    for path in ["link/a", "link/b/c", "dangling"] {
        let new = vec![File {
            path: path.to_owned(),
            content: Content::Bytes(vec![1]),
            executable: false,
        }];
        assert_eq!(store.fill(&to, new, accept).expect_err("a link").code, "file-conflict");
    }
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
}

#[test]
fn many_writers_of_the_same_artefact_agree() {
    let (_place, store) = open();
    let bytes = npm_package(&[("a", b"1"), ("b", &[9; 400_000])]);
    let again = Store::open(store.root()).expect("a second process would do so");
    std::thread::scope(|scope| {
        for store in [&store, &again, &store, &again] {
            scope.spawn(|| {
                for _ in 0..5 {
                    store
                        .add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz")
                        .expect("honest");
                    assert!(store.check(&hashes(&bytes), Form::Npm, true).is_some());
                }
            });
        }
    });
    assert_eq!(fs::read_dir(store.root().join("tmp")).expect("there").count(), 0);
}

#[test]
fn a_copied_tree_is_the_same() {
    let (place, _store) = open();
    let from = fresh(&place, "from");
    fs::create_dir_all(from.join("a/b")).expect("space");
    fs::write(from.join("a/b/file"), vec![3; 700_000]).expect("space");
    fs::write(from.join("script"), "#!/bin/sh\n").expect("space");
    fs::hard_link(from.join("script"), from.join("twin")).expect("space");
    fs::set_permissions(from.join("script"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o500)).expect("ours");
    std::os::unix::fs::symlink("../nowhere", from.join("a/link")).expect("space");
    let to = place.path().join("to");
    let filled = clone_tree(&from, &to, &Threads(3), Cancellation::NEVER).expect("space");
    assert_eq!(filled.files, 3);
    for path in ["", "a", "a/b", "a/b/file", "script", "twin", "a/link"] {
        let facts = |root: &Path| {
            let metadata = root.join(path).symlink_metadata().expect("there");
            (
                metadata.mode(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.is_dir() || metadata.len() > 0,
            )
        };
        assert_eq!(facts(&from), facts(&to), "{path}");
    }
    assert_eq!(fs::read_link(to.join("a/link")).expect("a link"), Path::new("../nowhere"));
    assert_eq!(fs::read(to.join("a/b/file")).expect("copied"), vec![3; 700_000]);
    assert_eq!(fs::metadata(to.join("twin")).expect("there").nlink(), 1);
    assert_eq!(
        clone_tree(&from, &to, &Threads(1), Cancellation::NEVER).expect_err("there already").code,
        "io"
    );
    sync_tree(&to).expect("a file system");
}

#[test]
fn a_pipe_in_a_tree_is_refused() {
    let (place, _store) = open();
    let from = fresh(&place, "from");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("allowed");
    let error = clone_tree(&from, &place.path().join("to"), &Threads(1), Cancellation::NEVER)
        .expect_err("a pipe");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "unusual-environment"));
}

#[test]
fn a_store_without_permission_says_so() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o500)).expect("ours");
    let error = Store::open(&place.path().join("store")).expect_err("read-only");
    assert_eq!(error.code, "permission-denied");
}

#[test]
fn a_shebang_of_windows_is_remarked() {
    let (_place, store) = open();
    let bytes = npm_package(&[
        ("cli", b"#!/usr/bin/env node\r\nx\r\n"),
        ("unix", b"#!/usr/bin/env node\nx\r\n"),
        ("none", b"x\r\n"),
    ]);
    let entry =
        store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
    let marked = |path: &str| entry.file(path).expect("there").windows_shebang;
    assert_eq!((marked("cli"), marked("unix"), marked("none")), (true, false, false));
}

#[test]
fn a_package_without_identity_is_refused() {
    let (_place, store) = open();
    for manifest in [&b"{}"[..], b"[]", b"nonsense", b"{\"name\":1,\"version\":\"1\"}"] {
        let bytes = tarball(&[file("package/package.json", manifest)]);
        let error = store
            .add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz")
            .expect_err("useless");
        assert_eq!(error.code, "unsafe-archive");
    }
    let bytes = forge::tarball(&[file("package/index.js", b"")]);
    assert!(store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").is_err());
}

#[test]
fn a_store_that_was_just_made_need_not_be_looked_at() {
    let place = tempfile::tempdir().expect("a directory");
    let hour = std::time::Duration::from_secs(3_600);
    assert!(Store::open(place.path()).expect("a store").was_looked_at(hour));
    std::fs::remove_file(place.path().join("looked")).expect("there");
    assert!(!Store::open(place.path()).expect("a store").was_looked_at(hour), "it has a past");
}

#[test]
fn an_entry_is_remembered_until_its_file_is_another_one() {
    let (_place, store) = open();
    store.remember();
    let bytes = npm_package(&[("a", b"1")]);
    let hashes = hashes(&bytes);
    let add = || store.add_tarball(Source::Bytes(&bytes), &hashes, "demo.tgz").expect("honest");
    let shared = || store.shared_entry(&hashes, Form::Npm);
    assert!(shared().is_none());
    let entry = add();
    let first = shared().expect("an entry");
    assert_eq!(*first, entry);
    assert!(shared().is_some_and(|again| Arc::ptr_eq(&first, &again)), "it was read again");
    // Of any digest of it.
    for name in entry::names(&hashes, Form::Npm) {
        let path = store.root().join("index").join(name);
        let mut damaged = fs::read(&path).expect("an entry");
        damaged[12] ^= 1;
        fs::write(&path, damaged).expect("space");
    }
    assert!(shared().is_none(), "it is damaged");
    add();
    assert!(shared().is_some_and(|again| *again == entry && !Arc::ptr_eq(&first, &again)));
    store.forget(&hashes, Form::Npm);
    assert!(shared().is_none(), "it is forgotten");
}
