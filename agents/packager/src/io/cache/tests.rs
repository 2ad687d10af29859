//! The cache on disk.

use super::*;

fn key(name: &str) -> Key {
    let url = Url::parse("https://r.example.invalid/").expect("an address");
    Key::new("test", &url, None, name)
}

fn validators() -> Validators {
    Validators { etag: Some("\"x\"".to_owned()), last_modified: None }
}

fn read(disk: &Disk, key: Key) -> Option<Entry> {
    disk.open(key)?.entry()
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"body"), None);
    let entry = read(&disk, key("a")).expect("an entry");
    assert_eq!((entry.validators, &entry.body[..]), (validators(), &b"body"[..]));
    disk.write(key("a"), &validators(), (b"", b""), None);
    assert_eq!(read(&disk, key("a")).expect("an entry").body, b"");
    disk.remove(key("a"));
    assert!(read(&disk, key("a")).is_none());
}

#[test]
fn an_archive_stands_before_the_body() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"archive", b"body"), None);
    let stored = disk.open(key("a")).expect("an entry");
    assert_eq!(stored.archive().as_deref(), Some(&b"archive"[..]));
    assert_eq!(stored.entry().expect("whole").body, b"body");
    disk.write(key("a"), &validators(), (b"", b"body"), None);
    assert_eq!(disk.open(key("a")).expect("an entry").archive(), None);
}

#[test]
fn a_header_that_is_longer_than_usual_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let long = Validators { etag: Some("x".repeat(HEADER_BYTES_USUAL)), last_modified: None };
    disk.write(key("a"), &long, (b"archive", b"body"), None);
    let stored = disk.open(key("a")).expect("an entry");
    assert_eq!(stored.validators(), &long);
    assert_eq!(stored.entry().expect("whole").body, b"body");
    let too_long = Validators { etag: Some("x".repeat(HEADER_BYTES_MAX)), last_modified: None };
    disk.write(key("a"), &too_long, (b"archive", b"body"), None);
    assert!(disk.open(key("a")).expect("an entry").validators().is_empty());
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"body"), None);
    let path = disk.path(key("a"));
    assert_eq!(path.metadata().expect("a file").mode() & 0o777, 0o600);
    assert_eq!(
        path.parent().expect("a parent").metadata().expect("a directory").mode() & 0o777,
        0o700
    );
    assert_eq!(disk.directory.metadata().expect("a directory").mode() & 0o777, 0o700);
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    disk.write(key("a"), &validators(), (b"", b"a body of some length"), None);
    let path = disk.path(key("a"));
    let whole = std::fs::read(&path).expect("a file");
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("a cut");
        assert!(read(&disk, key("a")).is_none(), "cut at {length}");
    }
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x20;
        std::fs::write(&path, &bytes).expect("damage");
        // A changed validator only means an unneeded question; the body must be right.
        if let Some(entry) = read(&disk, key("a")) {
            assert_eq!(entry.body, b"a body of some length", "changed at {index}");
        }
    }
}

#[test]
fn age_counts_from_the_last_confirmation() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let now = SystemTime::now();
    disk.write(key("a"), &validators(), (b"", b"body"), None);
    disk.confirm(key("a"), now - Duration::from_secs(1000));
    let age = disk.open(key("a")).expect("an entry").age(now);
    assert!(age >= Duration::from_secs(999) && age <= Duration::from_secs(1001));
    disk.confirm(key("a"), now + Duration::from_secs(1000));
    assert_eq!(disk.open(key("a")).expect("an entry").age(now), Duration::MAX);
}

#[test]
fn the_oldest_go_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::with_limit(directory.path(), 5_000);
    let now = SystemTime::now();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        disk.write(key(name), &validators(), (b"", &[0; 2_000]), None);
        disk.confirm(key(name), now - Duration::from_secs(100 - index as u64));
    }
    disk.sweep();
    assert!(read(&disk, key("a")).is_none());
    assert!(read(&disk, key("b")).is_some() && read(&disk, key("c")).is_some());
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
