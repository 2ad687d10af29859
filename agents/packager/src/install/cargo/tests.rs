//! The files of cargo's home. That cargo builds from them is tested with the installed cargo,
//! without a network.

use std::process::Command;

use super::*;
use crate::ecosystem::Ecosystem;
use crate::install::tests::{package, store};
use crate::unpack::attacks::forge::{file, tarball};

const URL: &str = "sparse+https://index.example.invalid/";
const CONFIG: &[u8] = b"{\"dl\":\"https://dl.example.invalid\",\"api\":null}";

fn version() -> semver::Version {
    let output = Command::new("cargo").arg("-V").output().expect("cargo runs these tests");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').nth(1).and_then(|version| version.trim().parse().ok()).expect("a version")
}

fn demo(store: &Store) -> (Package, IndexFile) {
    let bytes = tarball(&[
        file(
            "demo-1.0.0/Cargo.toml",
            b"[package]\nname = \"demo\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
        ),
        file("demo-1.0.0/src/lib.rs", b"pub fn answer() -> u32 { 42 }\n"),
    ]);
    let package = package(store, Ecosystem::Cargo, "demo", "1.0.0", &bytes);
    let checksum = package.artifact.hashes.sha256.clone().expect("known");
    let line = |version: &str| {
        format!(
            "{{\"name\":\"demo\",\"vers\":\"{version}\",\"deps\":[],\"cksum\":\"{checksum}\",\"features\":{{}},\"yanked\":false}}\n"
        )
    };
    let raw = line("0.9.0") + &line("1.0.0");
    let file = IndexFile { name: "demo".to_owned(), raw: raw.into_bytes(), revision: None };
    (package, file)
}

fn run(store: &Store, home: &Path, demo: &(Package, IndexFile)) -> Result<Report> {
    run_as(store, home, demo, false)
}

fn run_as(
    store: &Store,
    home: &Path,
    demo: &(Package, IndexFile),
    is_override: bool,
) -> Result<Report> {
    let registry = Registry { index_url: URL, config: CONFIG, is_override };
    populate(
        store,
        home,
        &version(),
        registry,
        &[&demo.0],
        (&["demo"], &|_| Ok(demo.1.clone())),
        Options::default(),
    )
}

#[test]
fn cargo_builds_offline_from_what_was_written() {
    let (place, store) = store();
    let home = place.path().join("home");
    let demo = demo(&store);
    let report = run(&store, &home, &demo).expect("space");
    assert_eq!((report.crates_written, report.entries_written), (1, 1));
    let project = place.path().join("project");
    fs::create_dir_all(project.join("src")).expect("space");
    fs::create_dir_all(project.join(".cargo")).expect("space");
    fs::write(
        project.join(".cargo/config.toml"),
        format!("[registries.mine]\nindex = \"{URL}\"\n"),
    )
    .expect("space");
    fs::write(
        project.join("Cargo.toml"),
        "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\ndemo = { version = \"1\", registry = \"mine\" }\n[workspace]\n",
    )
    .expect("space");
    fs::write(project.join("src/main.rs"), "fn main() { assert_eq!(demo::answer(), 42); }\n")
        .expect("space");
    fs::write(
        project.join("Cargo.lock"),
        format!(
            "version = 3\n\n[[package]]\nname = \"demo\"\nversion = \"1.0.0\"\nsource = \"{URL}\"\nchecksum = \"{}\"\n\n\
             [[package]]\nname = \"project\"\nversion = \"0.1.0\"\ndependencies = [\n \"demo\",\n]\n",
            demo.0.artifact.hashes.sha256.as_deref().expect("known")
        ),
    )
    .expect("space");
    for command in [&["metadata", "--format-version", "1"][..], &["run", "--quiet"]] {
        let output = Command::new("cargo")
            .args(command)
            .args(["--offline", "--locked"])
            .current_dir(&project)
            .env("CARGO_HOME", &home)
            .env("CARGO_TARGET_DIR", place.path().join("target"))
            .output()
            .expect("cargo runs these tests");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn right_files_are_left_alone_and_wrong_ones_replaced() {
    let (place, store) = store();
    let home = place.path().join("home");
    let demo = demo(&store);
    run(&store, &home, &demo).expect("space");
    let report = run(&store, &home, &demo).expect("nothing to do");
    assert_eq!((report.crates_kept, report.entries_kept, report.crates_written), (1, 1, 0));
    let name = directory_name(URL, &version()).expect("a URL");
    let file = home.join("registry/cache").join(&name).join("demo-1.0.0.crate");
    let right = fs::read(&file).expect("written");
    let mut wrong = right.clone();
    wrong[20] ^= 1;
    for content in [&wrong[..], b"short", b""] {
        fs::remove_file(&file).expect("there");
        fs::write(&file, content).expect("space");
        assert_eq!(run(&store, &home, &demo).expect("space").crates_replaced, 1);
        assert_eq!(fs::read(&file).expect("there"), right);
    }
    assert_eq!(fs::read_dir(file.parent().expect("a directory")).expect("there").count(), 1);
}

#[test]
fn a_newer_index_entry_is_left_alone() {
    let (place, store) = store();
    let home = place.path().join("home");
    let demo = demo(&store);
    let name = directory_name(URL, &version()).expect("a URL");
    let entry = home.join("registry/index").join(name).join(".cache/de/mo/demo");
    let newer = [&demo.1.raw[..], b"{\"name\":\"demo\",\"vers\":\"2.0.0\"}\n"].concat();
    let newer = cache_entry(&newer, Some("etag: \"new\"")).expect("fine");
    fs::create_dir_all(entry.parent().expect("a directory")).expect("space");
    fs::write(&entry, &newer).expect("space");
    assert_eq!(run(&store, &home, &demo).expect("space").entries_kept, 1);
    assert_eq!(fs::read(&entry).expect("there"), newer);
    for broken in [&b""[..], b"garbage", &newer[..newer.len() - 5], &[&[2], &newer[1..]].concat()] {
        fs::write(&entry, broken).expect("space");
        let report = run(&store, &home, &demo).expect("space");
        assert_eq!(report.entries_written, 1);
    }
}

#[test]
fn an_override_adds_and_never_replaces() {
    let (place, store) = store();
    let demo = demo(&store);
    let name = directory_name(URL, &version()).expect("a URL");
    let raw = String::from_utf8(demo.1.raw.to_vec()).expect("text");
    let sum = demo.0.artifact.hashes.sha256.clone().expect("known");
    let newer = format!("{raw}{{\"name\":\"demo\",\"vers\":\"2.0.0\",\"cksum\":\"00\"}}\n");
    let entry = |text: &str| cache_entry(text.as_bytes(), None).expect("fine");
    let only_old = raw.lines().next().expect("a line");
    let crate_path = PathBuf::from("registry/cache").join(&name).join("demo-1.0.0.crate");
    let entry_path = PathBuf::from("registry/index").join(&name).join(".cache/de/mo/demo");
    let config_path = PathBuf::from("registry/index").join(&name).join("config.json");
    let cases: [(&Path, Vec<u8>, Option<&str>); 7] = [
        (&crate_path, b"another".to_vec(), Some("hash-mismatch")),
        (&entry_path, entry(&raw.replace(&sum, &"0".repeat(64))), Some("hash-mismatch")),
        (&entry_path, entry(only_old), Some("index-entry-differs")),
        (&entry_path, b"garbage".to_vec(), Some("index-entry-differs")),
        (&entry_path, entry(&newer), None),
        (&entry_path, entry(raw.lines().nth(1).expect("a line")), None),
        (&config_path, b"{}".to_vec(), None),
    ];
    for (number, (path, content, code)) in cases.into_iter().enumerate() {
        let home = place.path().join(format!("home-{number}"));
        let path = home.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("space");
        fs::write(&path, &content).expect("space");
        let result = run_as(&store, &home, &demo, true);
        assert_eq!(fs::read(&path).expect("there"), content, "{number}");
        match (result, code) {
            (Ok(report), None) => {
                assert_eq!((report.crates_written, report.crates_replaced), (1, 0))
            }
            (Err(error), Some(code)) => {
                assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, code));
                assert!(error.message.contains("demo@1.0.0") && error.hint.is_some(), "{error}");
                // Nothing else was written either.
                for other in [&crate_path, &entry_path, &config_path] {
                    assert!(home.join(other) == path || !home.join(other).exists(), "{number}");
                }
            }
            (result, code) => panic!("{number}: expected {code:?}, got {result:?}"),
        }
    }
    let home = place.path().join("empty");
    let report = run_as(&store, &home, &demo, true).expect("space");
    assert_eq!((report.crates_written, report.entries_written), (1, 1));
    let report = run_as(&store, &home, &demo, true).expect("nothing to do");
    assert_eq!((report.crates_kept, report.entries_kept), (1, 1));
}

#[test]
fn an_entry_is_what_an_independent_reader_expects() {
    let line = "{\"name\":\"demo\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"00\",\"features\":{},\"yanked\":false}";
    let bytes = cache_entry(format!("{line}\n\n").as_bytes(), Some("etag: W/\"x\"")).expect("fine");
    let read = tame_index::index::cache::ValidCacheEntry::read(&bytes).expect("valid");
    let rest = read.version_entries;
    assert_eq!(rest, format!("1.0.0\0{line}\0").as_bytes());
    assert!(cache_entry(b"nonsense\n", None).is_err());
    assert!(cache_entry(b"{\"vers\":\"1\\u0000\"}\n", None).is_err());
    assert!(
        cache_entry(b"{\"vers\":\"1.0.0\"}", Some("a\0b"))
            .expect("fine")
            .starts_with(b"\x03\x02\0\0\0Unknown\0")
    );
}

#[test]
fn directories_are_named_as_the_installed_cargo_names_them() {
    let old = directory_name(URL, &semver::Version::new(1, 84, 0)).expect("a URL");
    let new = directory_name(URL, &semver::Version::new(1, 85, 0)).expect("a URL");
    assert!(
        old != new
            && old.starts_with("index.example.invalid-")
            && new.starts_with("index.example.invalid-")
    );
    assert_eq!(directory_name("nonsense", &version()).expect_err("no URL").code, "bad-registry");
}

#[test]
fn names_that_are_no_crates_are_refused() {
    for name in ["", "../x", "a/b", "nul\0"] {
        assert!(index::entry_path(name).is_err(), "{name}");
    }
    assert_eq!(index::entry_path("Serde_JSON").expect("a name"), "se/rd/serde_json");
    assert_eq!(index::entry_path("a").expect("a name"), "1/a");
    assert_eq!(index::entry_path("syn").expect("a name"), "3/s/syn");
}

#[test]
fn writers_wait_for_a_running_cargo() {
    let (place, store) = store();
    let home = place.path().join("home");
    let demo = demo(&store);
    run(&store, &home, &demo).expect("space");
    let held = lock(&home).expect("free");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| run(&store, &home, &demo));
        std::thread::yield_now();
        assert!(!waiting.is_finished());
        drop(held);
        waiting.join().expect("no panic").expect("the lock is free");
    });
}

#[test]
fn an_entry_that_versions_share_is_found_once() {
    let (place, store) = store();
    let (one, _) = demo(&store);
    let other = Package { version: "2.0.0".to_owned(), ..one.clone() };
    let (cache, index) = (place.path().join("cache"), place.path().join("index"));
    let crew = agents_contract::Threads(2);
    let examined = examine((&cache, &index), &[&one, &other], &crew, &|| Ok(())).expect("looked");
    let missing = |path: &Path| (path.to_owned(), crate::transaction::Difference::Missing);
    let expected = [
        missing(&index.join(".cache/de/mo/demo")),
        missing(&cache.join("demo-1.0.0.crate")),
        missing(&cache.join("demo-2.0.0.crate")),
    ];
    assert_eq!((examined.looked_at, examined.findings), (4, expected.to_vec()));
}
