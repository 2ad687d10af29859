//! An archive for every known way to attack whoever unpacks it, and the reason for which each has to be refused. Compiled into
//! tests alone; the writers stand in [`forge`].
//!
//! The classes are those of real cases: paths that leave, links, devices, parsers that see different files, resources, names
//! that lie to people. Where a case needs gigabytes to be shown it is not here but with the test that makes it.

pub mod forge;
mod tars;
mod zips;

use std::io::{Read as _, copy, repeat};

use forge::{TarEntry, ZipEnd, ZipEntry, file, gzip, member, tarball, zip};

/// One hostile archive.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What it tries.
    pub name: String,
    /// What its file is called, which says as what it is read.
    pub file_name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// What the refusal has to say.
    pub reason: &'static str,
}

const TGZ: &str = "demo-1.0.0.tgz";
const CRATE: &str = "demo-1.0.0.crate";
const ZIP: &str = "demo.zip";
const WHEEL: &str = "demo-1.0-py3-none-any.whl";

/// All of them. `outside` is a path at which nothing may appear.
pub fn all(outside: &str) -> Vec<Attack> {
    let mut attacks = Vec::new();
    attacks.extend(tars::tar_names(outside));
    attacks.extend(tars::tar_kinds(outside));
    attacks.extend(tars::tar_disagreements());
    attacks.extend(tars::tar_ends());
    attacks.extend(tars::crates());
    attacks.extend(zips::zip_names(outside));
    attacks.extend(zips::zip_members());
    attacks.extend(zips::zip_structures());
    attacks.extend(zips::wheels());
    attacks.extend(kinds());
    attacks.extend(bombs());
    attacks
}

fn attack(
    name: impl Into<String>,
    file_name: &'static str,
    bytes: Vec<u8>,
    reason: &'static str,
) -> Attack {
    Attack { name: name.into(), file_name, bytes, reason }
}

/// Names that mean something else than a file below the directory, and why each is refused.
fn names(outside: &str) -> Vec<(Vec<u8>, &'static str)> {
    let text = |name: &str| name.as_bytes().to_vec();
    vec![
        (text(outside), "is absolute"),
        (text("//etc/passwd"), "is absolute"),
        (text("../escape"), "the component `..`"),
        (text("demo/../../escape"), "the component `..`"),
        (text("demo/.."), "the component `..`"),
        (text("demo/../../demo-evil/x"), "the component `..`"),
        (text("demo//x"), "an empty component"),
        (text("demo\\..\\..\\escape"), "a backslash"),
        (text("C:\\escape"), "a backslash"),
        (text("demo/a\nb"), "a control character"),
        (text("demo/\u{1b}]0;title\u{7}"), "a control character"),
        (text("demo/\u{85}"), "a control character"),
        (text("demo/gpj.\u{202e}exe"), "changes the order of text"),
        (text("demo/\u{2067}x"), "changes the order of text"),
        ([&b"demo/"[..], &[0xff, 0xfe]].concat(), "is not UTF-8"),
        // An overlong `/`, which is no UTF-8 either.
        ([&b"demo/"[..], &[0xc0, 0xaf], b"x"].concat(), "is not UTF-8"),
        (text(&format!("demo/{}", "n".repeat(256))), "a component that is too long"),
        (text(&format!("{}x", "d/".repeat(129))), "nested too deeply"),
        (text(&format!("{}x", "long/".repeat(500))), "is too long"),
    ]
}

/// Files that are something else than they are called, or nothing.
fn kinds() -> Vec<Attack> {
    let tar = || tarball(&[file("demo/a", b"1")]);
    let zipped = || zip(&[member("demo.py", b"1")], &ZipEnd::default());
    vec![
        attack("tar called a wheel", WHEEL, tar(), "another kind of archive"),
        attack("tar called a zip", ZIP, tar(), "another kind of archive"),
        attack("zip called a tarball", TGZ, zipped(), "another kind of archive"),
        attack("zip called a crate", CRATE, zipped(), "another kind of archive"),
        attack("nothing", TGZ, Vec::new(), "neither a tar nor a zip"),
        attack("text", "demo", b"just text".to_vec(), "neither a tar nor a zip"),
        attack("text called a tarball", TGZ, vec![b'x'; 600], "another kind of archive"),
        attack("gzip of text", TGZ, gzip(&[b'x'; 600]), "wrong checksum"),
    ]
}

/// Small files that would fill a disk.
fn bombs() -> Vec<Attack> {
    const BYTES: u64 = 80 << 20;
    let zeros = TarEntry { size: Some(BYTES), ..file("demo/zeros", b"") };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    copy(&mut &zeros.header()[..], &mut encoder).expect("memory");
    copy(&mut repeat(0).take(BYTES), &mut encoder).expect("memory");
    let tar = encoder.finish().expect("memory");
    let promised = |index: u32| ZipEntry {
        name: index.to_string().into_bytes(),
        sizes: (Some(64 << 20), Some(64 << 20)),
        ..member("", b"abc")
    };
    let many: Vec<ZipEntry> = (0..20).map(promised).collect();
    vec![
        attack("tar bomb", TGZ, tar, "unpacked bytes per packed byte"),
        attack(
            "zip bomb of many members",
            ZIP,
            zip(&many, &ZipEnd::default()),
            "unpacked bytes per packed byte",
        ),
    ]
}
