//! Cold installations of npm packages, where the disk does not take what was fetched, or the process dies while it comes.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use base64::Engine as _;

use super::*;
use crate::install::tests::npm_entries;
use crate::limits::EARLY_SYNC_BYTES;
use crate::service::StoreRules;
use crate::store::{Mode, Wanted};
use crate::unpack::attacks::forge::{file, tarball};

/// Names the scratch place of a process that is to be killed.
const CHILD: &str = "BOLIDE_TEST_COLD_CHILD";

/// An archive after which the disk is told to write: nothing in it can be made smaller.
fn archive() -> &'static [u8] {
    static ARCHIVE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let noise: Vec<u8> = (0..=EARLY_SYNC_BYTES / 8).flat_map(|_| next()).collect();
        let mut entries = npm_entries("cold", "1.0.0", &[("lib/index.js", "content")]);
        entries.push(file("package/noise", &noise));
        tarball(&entries)
    })
}

/// What the registry answers.
pub(super) fn reply(path: &str) -> Option<Reply> {
    if path == "cold/-/cold-1.0.0.tgz" {
        return Some(Reply::ok(archive()));
    }
    let digest = ring::digest::digest(&ring::digest::SHA512, archive());
    let digest = base64::engine::general_purpose::STANDARD.encode(digest);
    let packument = serde_json::json!({
        "name": "cold",
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": {
            "name": "cold",
            "version": "1.0.0",
            "dist": { "tarball": "cold/-/cold-1.0.0.tgz", "integrity": format!("sha512-{digest}") },
        } },
    });
    (path == "cold").then(|| Reply::ok(packument.to_string()).json())
}

fn policy() -> Policy {
    let mode = Wanted::Only(Mode::Link);
    Policy { store: StoreRules { mode, ..StoreRules::default() }, ..Policy::default() }
}

impl World {
    fn install_cold(&self) -> Result<ApplyAnswer, ToolError> {
        self.write("package.json", r#"{"dependencies":{"cold":"1.0.0"}}"#);
        let url = self.index.at("/npm/").to_string();
        let registry = [(crate::ecosystem::Ecosystem::Npm, url)].into();
        let setting = Setting { registry, ..self.setting(Options::default()) };
        let request = ChangeRequest { packages: Vec::new(), approve: true, force: false, setting };
        self.ask("pkg.install", &request)
    }

    /// What is done where the disk would be told to write.
    fn on_early_sync(&self, hook: impl Fn() -> std::io::Result<()> + Send + Sync + 'static) {
        *self.packager.shop().early.hook.lock().expect("no panic") = Some(Arc::new(hook));
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.project()).expect("a directory").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != ".bolide").collect();
        names.sort();
        names
    }

    fn cached(&self, part: &str) -> Vec<PathBuf> {
        let place = self.directory.path().join("cache").join(part);
        if place.is_dir() { walk(&place) } else { Vec::new() }
    }

    #[track_caller]
    fn assert_installed(&self) {
        let text = std::fs::read(self.project().join("node_modules/cold/lib/index.js"));
        assert_eq!(text.expect("installed"), b"content");
    }
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    let inside = |path: PathBuf| if path.is_dir() { walk(&path) } else { vec![path] };
    entries.flat_map(|entry| inside(entry.path())).collect()
}

#[test]
fn what_the_disk_does_not_take_while_it_comes_is_not_installed_and_is_fetched_again() {
    let world = World::with(policy());
    if !world.packager.shop().store.are_births_sealed() {
        // Nothing is unpacked beside the store here.
        return;
    }
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    world.on_early_sync(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err(rustix::io::Errno::IO.into())
    });
    let error = world.install_cold().expect_err("it is not on the disk");
    assert_eq!((error.code.as_str(), asked.load(std::sync::atomic::Ordering::Relaxed)), ("io", 1));
    assert_eq!(world.names(), ["package.json"]);
    // What would be believed, because it looks whole, is gone with it.
    for part in ["store/lent", "store/files", "store/index", "incoming"] {
        assert!(world.cached(part).is_empty(), "{part}: {:?}", world.cached(part));
    }
    world.on_early_sync(|| Ok(()));
    let answer = world.install_cold().expect("installed");
    assert!(answer.downloaded_bytes > EARLY_SYNC_BYTES, "{answer:?}");
    world.assert_installed();
}

#[test]
fn a_process_that_is_killed_while_packages_come_leaves_nothing_that_has_two_names() {
    let scratch = tempfile::tempdir().expect("a directory");
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "operations::tests::cold::the_child_that_is_killed", "--nocapture"])
        .env(CHILD, scratch.path())
        .output();
    let output = output.expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code().is_none() || said.contains("nothing is linked"), "{said}");
    if output.status.code().is_some() {
        return;
    }
    let world = World::at(Scratch::of(scratch.path()), policy(), Arc::new(PlainHost));
    assert!(!world.cached("incoming").is_empty(), "it was killed too late");
    world.packager.recover().expect("made whole");
    let left = std::fs::read_dir(world.directory.path().join("cache/incoming"));
    assert_eq!(left.expect("a directory").count(), 0);
    let lent = world.cached("store/lent");
    assert!(!lent.is_empty());
    for path in lent {
        assert_eq!(path.metadata().expect("a file").nlink(), 1, "{}", path.display());
    }
    assert_eq!(world.names(), ["package.json"]);
    world.install_cold().expect("installed");
    world.assert_installed();
}

#[test]
fn the_child_that_is_killed() {
    let Some(place) = std::env::var_os(CHILD) else { return };
    let scratch = Scratch::of(std::path::Path::new(&place));
    let world = World::at(scratch, policy(), Arc::new(PlainHost));
    if !world.packager.shop().store.are_births_sealed() {
        println!("nothing is linked here");
        return;
    }
    world.on_early_sync(|| {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        Ok(())
    });
    let answer = world.install_cold();
    panic!("it was to be killed: {answer:?}");
}
