//! Archives in the place of versions of a registry: who finds them, who does not, and that nobody is asked for their names.

use std::sync::Arc;

use super::universe::{self, Universe, request, root};
use crate::error::{Error, Kind};
use crate::metadata::Hashes;
use crate::resolution::{Artifact, Resolution};
use crate::resolve::ResolveError;
use crate::resolve::npm::{Archive, Archives, resolve};

/// Archives that hold the packages of a universe: `FILE name@version`.
struct Shelf {
    archives: Vec<(String, Archive)>,
    /// What all others fail with.
    failure: (Kind, &'static str),
}

impl Archives for Shelf {
    fn archive(&self, key: &str, _: &str) -> Result<Arc<Archive>, Error> {
        let found = self.archives.iter().find(|(one, _)| one == key);
        let (kind, code) = self.failure;
        let missing = || Error::new(kind, code, format!("`{key}` is not there"));
        found.map(|(_, archive)| Arc::new(archive.clone())).ok_or_else(missing)
    }
}

fn shelf(inside: &Universe, keys: &[(&str, &str)]) -> Shelf {
    let archive = |(key, id): &(&str, &str)| {
        let (name, version) = id.rsplit_once('@').expect("name@version");
        let entry = inside.packages[name].versions.get(version).expect("a version");
        let hashes = Hashes { sha512: Some("00".repeat(64)), sha256: None };
        let (file_name, source) = ((*key).to_owned(), Some((*key).to_owned()));
        let url = (*key).to_owned();
        let artifact =
            Artifact { built: None, by_address: true, file_name, hashes, size: None, source, url };
        let (name, artifact) = (name.to_owned(), Arc::new(artifact));
        ((*key).to_owned(), Archive { name, entry, artifact })
    };
    let archives = keys.iter().map(archive).collect();
    Shelf { archives, failure: (Kind::Network, "connection-lost") }
}

fn resolved(
    (registry, wanted): (&Universe, &str),
    shelf: &Shelf,
) -> Result<Resolution, ResolveError> {
    let mut request = request(root(wanted));
    request.archives = shelf;
    resolve(&request, registry)
}

/// Of what is in archives only a package of the registry itself makes the registry asked.
#[track_caller]
fn check(text: &str, inside: &str, keys: &[(&str, &str)], wanted: &str, expected: &[&str]) {
    let registry = Universe::parse(text);
    let shelf = shelf(&Universe::parse(inside), keys);
    let resolution = resolved((&registry, wanted), &shelf).expect("a tree");
    assert_eq!(universe::places(&resolution), expected, "{wanted}");
    for (_, Archive { name, .. }) in &shelf.archives {
        let log = registry.log.lock().expect("log");
        let is_asked = log.iter().any(|line| line.ends_with(&format!(" {name}")));
        assert!(!is_asked || text.contains(&format!(" {name}@")), "{name}: {log:?}");
    }
}

#[test]
fn an_archive_stands_under_the_name_that_asks_for_it() {
    let keys = [("https://h.invalid/x.tgz", "x@1.2.0"), ("file:v/y.tgz", "@s/y@3.0.0")];
    check(
        "leaf@1.0.0\nleaf@2.0.0",
        "x@1.2.0: leaf@1 again@https://h.invalid/x.tgz\n@s/y@3.0.0: leaf@2",
        &keys,
        "x@https://h.invalid/x.tgz z@file:v/y.tgz leaf@2",
        &[
            "again x@1.2.0",
            "again/leaf leaf@1.0.0",
            "leaf leaf@2.0.0",
            "x x@1.2.0",
            "x/leaf leaf@1.0.0",
            "z @s/y@3.0.0",
        ],
    );
}

#[test]
fn who_asks_for_a_version_takes_an_archive_of_it_and_who_asks_for_an_archive_takes_no_version() {
    let registry = "x@1.0.0\nx@2.0.0\ntag x latest 2.0.0\na@1.0.0: x@^1\nb@1.0.0: x@2\nc@1.0.0: x@latest\nd@1.0.0: x@https://h.invalid/x.tgz";
    let keys = [("https://h.invalid/x.tgz", "x@1.2.0"), ("file:x.tgz", "x@1.2.0")];
    let inside = "x@1.2.0";
    check(
        registry,
        inside,
        &keys,
        "x@https://h.invalid/x.tgz a@1 b@1 c@1 d@1",
        &["a a@1.0.0", "b b@1.0.0", "b/x x@2.0.0", "c c@1.0.0", "d d@1.0.0", "x x@1.2.0"],
    );
    // What a file has no tag of a registry means, and another archive of the same version is another one.
    check(
        registry,
        inside,
        &keys,
        "x@file:x.tgz a@1 c@1 d@1",
        &["a a@1.0.0", "c c@1.0.0", "c/x x@2.0.0", "d d@1.0.0", "d/x x@1.2.0", "x x@1.2.0"],
    );
}

#[test]
fn what_agrees_with_an_archive_is_searched_for() {
    check(
        "p@1.0.0: peer x@2\np@0.9.0: peer x@1\ntag p latest 1.0.0",
        "x@1.2.0",
        &[("file:x.tgz", "x@1.2.0")],
        "x@file:x.tgz p@*",
        &["p p@0.9.0", "x x@1.2.0"],
    );
}

#[test]
fn an_optional_archive_may_be_missing_and_may_not_be_another_one() {
    let registry = Universe::parse("a@1.0.0: opt x@https://h.invalid/x.tgz");
    let mut shelf = shelf(&registry, &[]);
    let error = |shelf: &Shelf| match resolved((&registry, "a@1"), shelf) {
        Err(ResolveError::Other(error)) => Some(error.code),
        Err(ResolveError::Conflict(conflict)) => panic!("{conflict:?}"),
        Ok(_) => None,
    };
    assert_eq!(error(&shelf).as_deref(), Some("connection-lost"), "it may be there another time");
    shelf.failure = (Kind::Failed, "file-missing");
    assert_eq!(error(&shelf), None);
    shelf.failure = (Kind::Verification, "hash-mismatch");
    assert_eq!(error(&shelf).as_deref(), Some("hash-mismatch"));
}

#[test]
fn names_that_are_none_are_refused_before_anything_stands_there() {
    let registry = Universe::parse("a@1.0.0: ../../x@https://h.invalid/x.tgz");
    let shelf = shelf(&Universe::parse("x@1.0.0"), &[("https://h.invalid/x.tgz", "x@1.0.0")]);
    let refused = resolved((&registry, "a@1"), &shelf).expect_err("refused").into_error();
    assert_eq!(refused.code, "invalid-name", "{refused}");
}
