//! How files fail: each cause by its name, nothing waits, and nothing outside the tree is read.

use rustix::fs::{CWD, Mode, mkfifoat};

use super::{ReadError, Root};
use crate::limits::FILE_BYTES_MAX;
use crate::trees::Tree;

fn tree() -> (tempfile::TempDir, Tree) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    (directory, tree)
}

#[test]
fn every_failure_keeps_its_cause() {
    let (directory, tree) = tree();
    tree.file("blank", " \n").file("long", &"1".repeat(FILE_BYTES_MAX)).file("a/b", "1\n");
    std::fs::write(directory.path().join("bytes"), [0xff, 0xfe]).unwrap();
    let root = tree.root();
    let cause = |path| root.try_read(path).unwrap_err();
    assert_eq!(cause("none"), ReadError::Missing);
    assert_eq!(cause("blank"), ReadError::Empty);
    assert_eq!(cause("long"), ReadError::TooLong);
    assert_eq!(cause("bytes"), ReadError::NotText);
    assert_eq!(cause("a"), ReadError::NotAFile);
    assert_eq!(cause("a/b/c"), ReadError::Missing);
    assert_eq!(root.try_read("/a/b").unwrap(), "1");
    for error in ReadError::ALL.into_iter().filter(|error| *error != ReadError::Missing) {
        tree.refuse("sensor", error);
        assert_eq!(cause("sensor"), error);
    }
}

#[test]
fn a_pipe_does_not_stop_the_reader() {
    let (directory, tree) = tree();
    let pipe = directory.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(tree.root().try_read("pipe"), Err(ReadError::Empty), "nobody writes");
    let held = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    assert_eq!(tree.root().try_read("pipe"), Err(ReadError::Again), "somebody may write");
    drop(held);
    mkfifoat(CWD, directory.path().join(super::REFUSED), Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(tree.root().try_read("none"), Err(ReadError::Missing));
}

#[test]
fn links_lead_nowhere_outside_the_tree() {
    let (directory, tree) = tree();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "42").unwrap();
    tree.file("sys/inside", "1");
    let link = |target: &std::path::Path, name| {
        std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
    };
    link(&outside.path().join("secret"), "absolute");
    link(std::path::Path::new("/sys/inside"), "own");
    assert_eq!(tree.root().try_read("absolute"), Err(ReadError::Missing));
    assert_eq!(tree.root().try_read("own").unwrap(), "1", "the tree's own /sys");
    let up = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(tree.root().try_read(&up), Err(ReadError::Missing));
}

#[test]
fn numbers_are_digits_only() {
    let (_directory, tree) = tree();
    let numbers = ["7", "-7", "+7", "7.0", "7e3", "inf", "NaN", "0x7", "", "18446744073709551616"];
    let seen: Vec<_> = numbers
        .iter()
        .map(|text| {
            tree.file("n", text);
            tree.root().read_number("n")
        })
        .collect();
    let mut expected = vec![None; numbers.len()];
    expected[0] = Some(7);
    assert_eq!(seen, expected);
}

#[test]
fn directories_are_listed_in_the_order_of_people() {
    let (_directory, tree) = tree();
    tree.file("d/zone10/t", "").file("d/zone2/t", "").file("d/other", "");
    tree.refuse("d/zone3/temp", ReadError::Io);
    assert_eq!(tree.root().list("d"), ["other", "zone2", "zone3", "zone10"]);
    assert!(tree.root().list("none").is_empty());
}

#[test]
fn a_recording_has_what_was_read_and_what_refused_and_nothing_else() {
    let (_directory, tree) = tree();
    tree.file("read", "1\n")
        .file("blank", "\n")
        .file("unread", "secret")
        .refuse("bad", ReadError::Io);
    let root = tree.root().recording();
    for path in ["read", "blank", "bad", "missing"] {
        let _ = root.clone().try_read(path);
    }
    let recorded = root.recorded();
    let files: Vec<_> = recorded.files.iter().map(|(path, bytes)| (&**path, &**bytes)).collect();
    assert_eq!(files, [("blank", &b"\n"[..]), ("read", &b"1\n"[..])]);
    assert_eq!(recorded.refused_text().as_deref(), Some("bad io\n"));
    assert_eq!(Root::machine().recorded().files.len(), 0);
}
