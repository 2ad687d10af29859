//! Archives, read by the process that has no rights: every attack is refused and touches nothing, a process that dies is
//! replaced, and whoever takes one over gets nowhere.
//!
//! The program is built with what tests alone have (the feature `attacks`): archives of every attack, and a process that on
//! demand does what a subverted one would.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use agents_packager::unpack::attacks::{self, forge};
use agents_packager::unpack::into::unpack;
use agents_packager::unpack::unpacker::Program;
use agents_packager::unpack::{ArchiveKind, Contents, Entry, Refusal, Source, Unpacker};

#[path = "unpack/attempts.rs"]
mod attempts;
#[path = "unpack/lies.rs"]
mod lies;
#[path = "unpack/lives.rs"]
mod lives;
#[path = "unpack/stored.rs"]
mod stored;

const BOLIDE: &str = env!("CARGO_BIN_EXE_bolide");

fn program() -> Program {
    Program::at(Path::new(BOLIDE))
}

fn helped() -> Arc<Unpacker> {
    Arc::new(Unpacker::with(program()))
}

/// A place with a directory for what is unpacked and one that nothing may reach.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("outside")).unwrap();
        std::fs::create_dir(directory.path().join("place")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn outside(&self) -> String {
        self.path("outside/escaped").to_str().unwrap().to_owned()
    }

    /// A new file beside both.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Everything that there is, but for the archive itself.
    fn all(&self, archive: &str) -> Vec<String> {
        let mut found = list(self.directory.path());
        found.retain(|path| path != archive);
        found
    }
}

/// Every path below, sorted; directories end with a slash.
fn list(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            if path.symlink_metadata().unwrap().is_dir() {
                found.push(name + "/");
                pending.push(path);
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn command(archive: &Path, into: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(BOLIDE);
    command.arg("unpack").arg(archive).arg("--into").arg(into).args(more);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Bytes that do not compress, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// What an archive holds, as `unpacker` reads it.
fn contents(
    unpacker: &Unpacker,
    bytes: &[u8],
    kind: ArchiveKind<'_>,
) -> Result<Vec<(Entry, Vec<u8>)>, Refusal> {
    let mut files = Vec::new();
    let take = |entry: Entry, content: &mut dyn std::io::Read| -> Result<(), Refusal> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(Refusal::from_read)?;
        files.push((entry, bytes));
        Ok(())
    };
    unpacker.read(Source::Bytes(bytes), kind, Contents::All, take)?;
    Ok(files)
}

#[test]
fn every_attack_is_refused_with_its_reason_and_touches_nothing() {
    let unpacker = helped();
    let _session = unpacker.session();
    let elsewhere = Scratch::new();
    for attack in attacks::all(&elsewhere.outside()) {
        let scratch = Scratch::new();
        let archive = scratch.write(attack.file_name, &attack.bytes);
        let refused = unpack(&unpacker, &archive, &scratch.path("place")).unwrap_err();
        assert_eq!(refused.kind.exit_code(), 6, "{}: {refused:?}", attack.name);
        assert!(refused.message.contains(attack.reason), "{}: {refused}", attack.name);
        assert_eq!(scratch.all(attack.file_name), ["outside/", "place/"], "{}", attack.name);
        assert_eq!(elsewhere.all(""), ["outside/", "place/"], "{}", attack.name);
    }
}

#[test]
fn both_ways_of_reading_refuse_with_the_same_words() {
    let (here, helped) = (Unpacker::here(), helped());
    let _session = helped.session();
    for attack in attacks::all("/nowhere") {
        let scratch = Scratch::new();
        let archive = scratch.write(attack.file_name, &attack.bytes);
        let say = |unpacker: &Unpacker| {
            unpack(unpacker, &archive, &scratch.path("place")).unwrap_err().message
        };
        assert_eq!(say(&here), say(&helped), "{}", attack.name);
    }
}

#[test]
fn the_command_refuses_with_six_and_leaves_the_directory_empty() {
    let scratch = Scratch::new();
    // One of each family: the others differ in what the readers find, which the tests above see.
    for attack in attacks::all(&scratch.outside()).iter().step_by(9) {
        let scratch = Scratch::new();
        let archive = scratch.write(attack.file_name, &attack.bytes);
        let output = command(&archive, &scratch.path("place"), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{}: {said}", attack.name);
        assert!(said.contains(attack.reason), "{}: {said}", attack.name);
        assert!(!said.trim_end().contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
        assert_eq!(scratch.all(attack.file_name), ["outside/", "place/"], "{}", attack.name);
    }
}

#[test]
fn the_command_unpacks_what_is_honest() {
    let mut script = forge::file("./package/bin/run", b"#!/bin/sh\n");
    script.mode = 0o755;
    let entries = [forge::entry(b'5', "./", b""), script, forge::file("package/a/b", b"content")];
    let mut crated = forge::blocks(&[
        forge::file("demo-1.0.0/Cargo.toml", b"[package]\n"),
        forge::file("demo-1.0.0/src/lib.rs", b""),
    ]);
    crated.resize(crated.len() + 1024, 0);
    let tar = ["package/", "package/a/", "package/a/b", "package/bin/", "package/bin/run"];
    let members = [forge::member("m/x.py", b"x"), forge::member("y", b"yy")];
    let in_crate =
        ["demo-1.0.0/", "demo-1.0.0/Cargo.toml", "demo-1.0.0/src/", "demo-1.0.0/src/lib.rs"];
    let in_wheel = [
        "demo-1.0.dist-info/",
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.dist-info/RECORD",
        "demo-1.0.dist-info/WHEEL",
        "m/",
        "m/x.py",
        "y",
    ];
    for (name, bytes, expected) in [
        ("demo-1.0.0.tgz", forge::tarball(&entries), &tar[..]),
        ("demo.tar.gz", forge::tarball(&entries), &tar),
        ("demo.tar", forge::blocks(&entries), &tar),
        ("no-ending", forge::tarball(&entries), &tar),
        ("demo-1.0.0.crate", forge::gzip(&crated), &in_crate),
        ("demo.zip", forge::zip(&members, &forge::ZipEnd::default()), &["m/", "m/x.py", "y"]),
        ("demo-1.0-py3-none-any.whl", forge::wheel(&members), &in_wheel),
    ] {
        let scratch = Scratch::new();
        let archive = scratch.write(name, &bytes);
        for into in ["place", "new/deeper"] {
            let output = command(&archive, &scratch.path(into), &["--json"]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{name}: {said}");
            assert_eq!(list(&scratch.path(into)), expected, "{name}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["schema"], "bolide.unpack/1");
            let files = expected.iter().filter(|path| !path.ends_with('/')).count();
            assert_eq!((&report["files"], &report["refused"]), (&files.into(), &().into()));
        }
        // Nothing is left beside, and what is there is not unpacked over.
        assert_eq!(scratch.all(name).iter().filter(|path| path.starts_with('.')).count(), 0);
        assert_eq!(command(&archive, &scratch.path("place"), &[]).status.code(), Some(6));
        assert_eq!(list(&scratch.path("place")), expected, "{name}");
    }
}

#[test]
fn a_file_is_executable_where_it_was_and_nothing_else_of_its_mode_is_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let mut program = forge::file("run", b"#!/bin/sh\n");
    program.mode = 0o6777;
    let mut plain = forge::file("plain", b"x");
    plain.mode = 0o000;
    let archive = scratch.write("demo.tgz", &forge::tarball(&[program, plain]));
    std::fs::set_permissions(scratch.path("place"), std::fs::Permissions::from_mode(0o711))
        .unwrap();
    assert!(command(&archive, &scratch.path("place"), &[]).status.success());
    let mode = |name: &str| scratch.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("place/run") & 0o7100, 0o100);
    assert_eq!(mode("place/plain") & 0o7711, 0o600);
    assert_eq!(mode("place"), 0o711);
}

#[test]
fn what_stands_twice_is_one_file_as_long_as_it_is_the_same() {
    let scratch = Scratch::new();
    let twice = [forge::file("a/x", b"same"), forge::file("a/x", b"same")];
    let archive = scratch.write("demo.tgz", &forge::tarball(&twice));
    assert!(command(&archive, &scratch.path("place"), &[]).status.success());
    assert_eq!(list(&scratch.path("place")), ["a/", "a/x"]);
}

#[test]
fn the_command_says_what_it_cannot_use() {
    let scratch = Scratch::new();
    let archive = scratch.write("demo.tgz", &forge::tarball(&[forge::file("a", b"")]));
    let code = |archive: &Path, into: &Path| command(archive, into, &[]).status.code();
    assert_eq!(code(&scratch.path("missing.tgz"), &scratch.path("place")), Some(1));
    assert_eq!(code(&scratch.path("outside"), &scratch.path("place")), Some(2));
    assert_eq!(code(&archive, Path::new("/")), Some(6));
    assert_eq!(code(&archive, &archive), Some(1));
    assert_eq!(list(&scratch.path("place")), [""; 0]);
}

#[test]
fn half_a_million_entries_are_refused_by_their_number() {
    let scratch = Scratch::new();
    let entry = forge::entry(b'5', "d/", b"").header();
    let archive = scratch.path("many.tar");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&archive).unwrap());
    for _ in 0..=agents_packager::limits::ARCHIVE_ENTRIES_MAX {
        std::io::Write::write_all(&mut file, &entry).unwrap();
    }
    drop(file);
    let refused = unpack(&helped(), &archive, &scratch.path("place")).unwrap_err();
    assert!(refused.message.contains("more than 500000 entries"), "{refused}");
}
