//! The cache on disk.

use super::*;

fn key(name: &str) -> Key {
    let url = Url::parse("https://r.example.invalid/").expect("an address");
    Key::new("test", &url, None, name)
}

fn validators() -> Validators {
    Validators { etag: Some("\"x\"".to_owned()), last_modified: None }
}

/// One that looks for what others have written each time, or never after the first.
fn disk(directory: &Path, interval: Duration) -> Disk {
    limited(directory, DISK_BYTES_MAX, interval)
}

fn limited(directory: &Path, bytes_max: u64, interval: Duration) -> Disk {
    let bounds = Bounds { bytes_max, index_bytes_max: DISK_INDEX_BYTES_MAX };
    Disk::with(directory, bounds, interval, packs::flock)
}

fn confirm(disk: &Disk, name: &str, now: SystemTime) {
    disk.confirm(&disk.open(key(name)).expect("an entry"), now);
}

fn body(disk: &Disk, name: &str) -> Option<Vec<u8>> {
    Some(read(disk, key(name))?.body)
}

/// Writes an answer without an archive.
fn write(disk: &Disk, name: &str, body: &[u8]) -> bool {
    disk.write(key(name), &validators(), (b"", body))
}

fn length(path: &Path) -> u64 {
    path.metadata().expect("a file").len()
}

fn read(disk: &Disk, key: Key) -> Option<Entry> {
    disk.open(key)?.entry()
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"body"));
    let entry = read(&disk, key("a")).expect("an entry");
    assert_eq!((entry.validators, &entry.body[..]), (validators(), &b"body"[..]));
    disk.write(key("a"), &validators(), (b"", b""));
    assert_eq!(read(&disk, key("a")).expect("an entry").body, b"");
    disk.remove(key("a"));
    assert!(read(&disk, key("a")).is_none());
}

#[test]
fn an_archive_stands_before_the_body() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"archive", b"body"));
    let stored = disk.open(key("a")).expect("an entry");
    assert_eq!(stored.archive().as_deref(), Some(&b"archive"[..]));
    assert_eq!(stored.entry().expect("whole").body, b"body");
    disk.write(key("a"), &validators(), (b"", b"body"));
    assert_eq!(disk.open(key("a")).expect("an entry").archive(), None);
}

#[test]
fn a_header_that_is_longer_than_usual_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let long = Validators { etag: Some("x".repeat(HEADER_BYTES_MAX / 2)), last_modified: None };
    disk.write(key("a"), &long, (b"archive", b"body"));
    let stored = disk.open(key("a")).expect("an entry");
    assert_eq!(stored.validators(), &long);
    assert_eq!(stored.entry().expect("whole").body, b"body");
    let too_long = Validators { etag: Some("x".repeat(HEADER_BYTES_MAX)), last_modified: None };
    disk.write(key("a"), &too_long, (b"archive", b"body"));
    assert!(disk.open(key("a")).expect("an entry").validators().is_empty());
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"body"));
    for path in [packs::index_path(&disk.directory, 0), packs::data_path(&disk.directory, 0)] {
        assert_eq!(path.metadata().expect("a file").mode() & 0o777, 0o600);
    }
    assert_eq!(disk.directory.metadata().expect("a directory").mode() & 0o777, 0o700);
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"archive", b"a body of some length"));
    for path in [packs::index_path(&disk.directory, 0), packs::data_path(&disk.directory, 0)] {
        let whole = std::fs::read(&path).expect("a file");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("a cut");
            assert!(read(&Disk::new(directory.path()), key("a")).is_none(), "cut at {length}");
        }
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x20;
            std::fs::write(&path, &bytes).expect("damage");
            // An archive has a checksum of its own.
            if let Some(entry) = read(&Disk::new(directory.path()), key("a")) {
                assert_eq!(entry.validators, validators(), "changed at {index}");
                assert_eq!(entry.body, b"a body of some length", "changed at {index}");
            }
        }
        std::fs::write(&path, &whole).expect("whole again");
    }
    assert!(read(&Disk::new(directory.path()), key("a")).is_some());
}

#[test]
fn a_line_that_outlived_its_answer_finds_no_other_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"one body"));
    drop(disk);
    // A power loss took the answer and left the line.
    let data =
        File::options().write(true).open(packs::data_path(&directory.path().join("metadata"), 0));
    data.expect("a pack").set_len(0).expect("a cut");
    let disk = Disk::new(directory.path());
    disk.write(key("b"), &validators(), (b"", b"one body"));
    assert!(read(&disk, key("a")).is_none());
    assert_eq!(read(&disk, key("b")).expect("an entry").body, b"one body");
}

#[test]
fn a_line_that_was_cut_is_taken_off_and_the_next_one_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"a"));
    disk.write(key("b"), &validators(), (b"", b"b"));
    drop(disk);
    let index =
        File::options().write(true).open(packs::index_path(&metadata, 0)).expect("an index");
    index.set_len(index.metadata().expect("a size").len() - 3).expect("a cut");
    let disk = Disk::new(directory.path());
    disk.write(key("c"), &validators(), (b"", b"c"));
    drop(disk);
    let disk = Disk::new(directory.path());
    assert!(read(&disk, key("a")).is_some() && read(&disk, key("c")).is_some());
    assert!(read(&disk, key("b")).is_none());
}

#[test]
fn each_who_writes_has_a_pack_and_the_last_word_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (Disk::new(directory.path()), Disk::new(directory.path()));
    one.write(key("a"), &validators(), (b"", b"first"));
    other.write(key("a"), &validators(), (b"", b"second"));
    other.write(key("b"), &validators(), (b"", b"b"));
    one.write(key("c"), &validators(), (b"", b"c"));
    assert!(packs::data_path(&one.directory, 1).exists());
    let third = Disk::new(directory.path());
    assert_eq!(read(&third, key("a")).expect("an entry").body, b"second");
    assert!(read(&third, key("b")).is_some() && read(&third, key("c")).is_some());
    third.remove(key("a"));
    drop((one, other, third));
    let last = Disk::new(directory.path());
    assert!(read(&last, key("a")).is_none());
    last.write(key("d"), &validators(), (b"", b"d"));
    assert!(!packs::data_path(&last.directory, 3).exists(), "one that nobody has is taken");
}

#[test]
fn what_earlier_builds_kept_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let old = disk.directory.join("0a");
    std::fs::create_dir_all(&old).expect("a directory");
    std::fs::write(old.join("0b"), b"an answer").expect("a file");
    assert!(disk.write(key("a"), &validators(), (b"", b"body")), "a first pack is made");
    // Whoever writes does not wait for it, nor it for them.
    let writer = lock(&disk.writer);
    disk.sweep();
    drop(writer);
    assert!(!old.exists() && read(&disk, key("a")).is_some());
}

#[test]
fn age_counts_from_the_last_confirmation() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let now = SystemTime::now();
    disk.write(key("a"), &validators(), (b"", b"body"));
    confirm(&disk, "a", now - Duration::from_secs(1000));
    let age = disk.open(key("a")).expect("an entry").age(now);
    assert!(age >= Duration::from_secs(999) && age <= Duration::from_secs(1001));
    confirm(&disk, "a", now + Duration::from_secs(1000));
    assert_eq!(disk.open(key("a")).expect("an entry").age(now), Duration::MAX);
}

#[test]
fn keys_differ_by_each_part() {
    use crate::io::secret::{Credential, Scope};
    let one = Url::parse("https://r.example.invalid/").expect("an address");
    let two = Url::parse("https://s.example.invalid/").expect("an address");
    let mut credentials = Credentials::default();
    credentials.add(Scope::beneath(&one).expect("a host"), Credential::bearer("x"));
    let keys = [
        Key::new("npm", &one, None, "a"),
        Key::new("npm", &two, None, "a"),
        Key::new("npm", &one, Some(&credentials), "a"),
        Key::new("npm", &one, None, "b"),
        Key::new("pypi", &one, None, "a"),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[index + 1..].contains(key));
    }
    assert_eq!(keys[1], Key::new("npm", &two, Some(&credentials), "a"));
}

#[test]
fn who_must_not_wait_writes_where_nothing_has_to_be_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = disk(directory.path(), Duration::MAX);
    let at_once = |name: &str| disk.write_at_once(key(name), &validators(), (b"", b"body"));
    assert_eq!(at_once("a"), None, "there is no pack");
    write(&disk, "a", b"a");
    assert_eq!(at_once("b"), Some(false));
    assert_eq!(body(&disk, "b").as_deref(), Some(&b"body"[..]));
    let writer = lock(&disk.writer);
    assert_eq!(at_once("c"), None, "somebody writes");
    drop(writer);
    let known = lock(&disk.known);
    assert_eq!(at_once("c"), None, "somebody looks");
    drop(known);
    let now = Instant::now();
    lock(&disk.writer).note(DISK_STALL / 2, now);
    assert_eq!(at_once("c"), Some(false));
    lock(&disk.writer).note(DISK_STALL, now);
    assert_eq!(at_once("d"), None, "the disk keeps its writers waiting");
    lock(&disk.writer).stalled = now.checked_sub(DISK_STALLED_FOR);
    assert_eq!(at_once("d"), Some(false));
    // Nobody has looked lately at what others write.
    let always = Disk { look_interval: Duration::ZERO, ..disk };
    assert_eq!(always.write_at_once(key("e"), &validators(), (b"", b"body")), None);
    lock(&always.writer).own.as_mut().expect("a pack").fill_disk();
    let last = Disk { look_interval: Duration::MAX, ..always };
    assert_eq!(last.write_at_once(key("e"), &validators(), (b"", b"body")), Some(false));
    assert!(lock(&last.writer).refused.is_some() && body(&last, "e").is_none());
    assert_eq!(last.write_at_once(key("e"), &validators(), (b"", b"body")), None);
}

mod fuzz;
mod packs_of_several;
