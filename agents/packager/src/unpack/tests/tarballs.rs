//! Tarballs of npm and cargo.

use std::io::Read;

use crate::unpack::attacks::forge::{TarEntry, blocks, entry, file, gzip, pax, seal, tarball};
use crate::unpack::tarball::{self, Layout};
use crate::unpack::{Entry, Refusal, Source};

type Files = Vec<(String, Vec<u8>, bool)>;

fn read(bytes: &[u8], layout: Layout<'_>) -> Result<(Files, Vec<String>), Refusal> {
    let mut files = Vec::new();
    let warnings = tarball::read(
        Source::Bytes(bytes),
        layout,
        |entry: Entry, content| -> Result<(), Refusal> {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(Refusal::from_read)?;
            assert_eq!(bytes.len() as u64, entry.size);
            files.push((entry.path, bytes, entry.executable));
            Ok(())
        },
    )?;
    Ok((files, warnings))
}

const CRATE: Layout<'_> = Layout::Crate { folder: "demo-1.0.0" };

/// What both layouts refuse must be refused in the same words' beginning.
#[track_caller]
fn check_refused(entries: &[TarEntry], expected: &str) {
    check_bytes_refused(&tarball(entries), expected);
}

#[track_caller]
fn check_bytes_refused(bytes: &[u8], expected: &str) {
    for layout in [Layout::Npm, CRATE] {
        let refusal = read(bytes, layout).expect_err("hostile").to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn an_honest_tarball_is_read_with_its_first_folder_dropped() {
    let mut directory = entry(b'5', "demo-1.0.0/lib/", b"");
    directory.mode = 0o755;
    let mut script = file("demo-1.0.0/bin/run", b"#!/bin/sh\n");
    script.mode = 0o755;
    let bytes = tarball(&[
        directory,
        file("demo-1.0.0/lib/a", b"A"),
        script,
        file("demo-1.0.0/empty", b""),
    ]);
    for layout in [Layout::Npm, CRATE] {
        let (files, warnings) = read(&bytes, layout).expect("honest");
        let names: Vec<_> =
            files.iter().map(|(name, bytes, exec)| (name.as_str(), bytes.len(), *exec)).collect();
        assert_eq!(names, [("lib/a", 1, false), ("bin/run", 10, true), ("empty", 0, false)]);
        assert!(warnings.is_empty());
    }
}

#[test]
fn a_tarball_of_an_independent_writer_is_read() {
    let long = format!("demo-1.0.0/{}/file.rs", "directory/".repeat(12).trim_end_matches('/'));
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("demo-1.0.0/Cargo.toml", "x"), (long.as_str(), "content")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).expect("memory");
    }
    let bytes = gzip(&builder.into_inner().expect("memory"));
    let (files, _) = read(&bytes, CRATE).expect("honest");
    assert_eq!(files[0].0, "Cargo.toml");
    assert_eq!(format!("demo-1.0.0/{}", files[1].0), long);
}

#[test]
fn a_long_name_that_is_cut_behind_a_slash_is_a_file() {
    // cargo writes such crates: the header holds the first hundred bytes of the name.
    let folder = format!("demo-1.0.0/{}/", "n".repeat(88));
    let long = format!("{folder}file.h");
    let cut = &long[..100];
    assert!(cut.ends_with('/'));
    let gnu = entry(b'L', "././@LongLink", format!("{long}\0").as_bytes());
    let (files, _) = read(&tarball(&[gnu, file(cut, b"content")]), CRATE).expect("honest");
    assert_eq!(format!("demo-1.0.0/{}", files[0].0), long);
    let bytes = tarball(&[pax(b'x', &[("path", &long)]), file(cut, b"content")]);
    assert_eq!(read(&bytes, CRATE).expect("honest").0.len(), 1);
    // Without a long name the slash makes it a directory, and a directory holds nothing.
    check_refused(&[file(cut, b"content")], "disagree about the size");
    // Archives from before POSIX know no other directories, and their readers look at the short name.
    let gnu = entry(b'L', "././@LongLink", format!("{long}\0").as_bytes());
    check_refused(&[gnu, entry(0, cut, b"content")], "disagree about the size");
}

#[test]
fn long_names_of_pax_are_used() {
    let path = format!("package/{}", "n".repeat(150));
    let bytes = tarball(&[
        pax(b'g', &[("comment", "abc")]),
        pax(b'x', &[("path", &path), ("mtime", "1.5"), ("size", "1")]),
        file("cut", b"A"),
    ]);
    assert_eq!(read(&bytes, Layout::Npm).expect("honest").0[0].0, "n".repeat(150));
}

#[test]
fn the_prefix_of_ustar_is_used() {
    let mut block = file("b", b"").header();
    block[345..352].copy_from_slice(b"package");
    seal(&mut block);
    let mut bytes = block.to_vec();
    bytes.resize(2048, 0);
    assert_eq!(read(&gzip(&bytes), Layout::Npm).expect("honest").0[0].0, "b");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for (name, expected) in [
        ("/etc/passwd", "is absolute"),
        ("demo-1.0.0/../../etc/passwd", "component `..`"),
        ("demo-1.0.0/..", "component `..`"),
        ("../x", "component `..`"),
        ("demo-1.0.0//x", "an empty component"),
        ("./demo-1.0.0/x", "component `.`"),
        ("demo-1.0.0/.", "component `.`"),
        ("demo-1.0.0/a\\b", "a backslash"),
        ("demo-1.0.0/a\nb", "a control character"),
        ("demo-1.0.0/\u{1b}[31m", "a control character"),
        ("demo-1.0.0/\u{85}", "a control character"),
    ] {
        check_refused(&[file(name, b"x")], expected);
    }
    let mut not_utf8 = file("demo-1.0.0/x", b"");
    not_utf8.name.push(0xff);
    check_refused(&[not_utf8], "is not UTF-8");
}

#[test]
fn superfluous_dots_are_dropped_for_npm_only() {
    let bytes = tarball(&[file("package/./dist/./a", b"1"), file("package/dist/a", b"1")]);
    let (files, _) = read(&bytes, Layout::Npm).expect("real packages have it");
    assert_eq!((files[0].0.as_str(), files[1].0.as_str()), ("dist/a", "dist/a"));
    assert!(read(&tarball(&[file("demo-1.0.0/./a", b"1")]), CRATE).is_err());
    assert!(read(&tarball(&[file("package/./../a", b"1")]), Layout::Npm).is_err());
}

#[test]
fn names_beyond_the_bounds_are_refused() {
    let long = format!("demo-1.0.0/{}", "a/".repeat(1_500) + "a");
    check_refused(&[pax(b'x', &[("path", &long)]), file("x", b"")], "is too long");
    let wide = format!("demo-1.0.0/{}", "w".repeat(256));
    check_refused(&[pax(b'x', &[("path", &wide)]), file("x", b"")], "a component that is too long");
    let deep = format!("demo-1.0.0/{}", "a/".repeat(128) + "a");
    check_refused(&[pax(b'x', &[("path", &deep)]), file("x", b"")], "too deeply");
}

#[test]
fn a_nul_in_a_long_name_is_refused() {
    check_refused(
        &[pax(b'x', &[("path", "demo-1.0.0/a\0b")]), file("x", b"")],
        "a control character",
    );
    check_refused(
        &[entry(b'L', "././@LongLink", b"demo-1.0.0/a\0b\0"), file("x", b"")],
        "a control character",
    );
}

#[test]
fn a_file_outside_of_any_folder_is_refused() {
    let refusal = read(&tarball(&[file("loose", b"")]), Layout::Npm).expect_err("hostile");
    assert!(refusal.to_string().contains("outside of the package's folder"), "{refusal}");
    let refusal = read(&tarball(&[file("demo-1.0.0-evil/x", b"")]), CRATE).expect_err("hostile");
    assert!(refusal.to_string().contains("outside of the crate's own folder"), "{refusal}");
}

#[test]
fn a_path_that_is_a_file_and_a_directory_is_refused() {
    check_refused(
        &[file("demo-1.0.0/a", b""), file("demo-1.0.0/a/b", b"")],
        "as a file and as a directory",
    );
    check_refused(
        &[file("demo-1.0.0/a/b", b""), file("demo-1.0.0/a", b"")],
        "as a file and as a directory",
    );
    check_refused(
        &[file("demo-1.0.0/a", b""), entry(b'5', "demo-1.0.0/a/", b"")],
        "as a file and as a directory",
    );
}

#[test]
fn a_repeated_file_is_refused_for_crates_and_marked_for_npm() {
    let bytes = tarball(&[file("demo-1.0.0/a", b"1"), file("demo-1.0.0/a", b"2")]);
    assert_eq!(read(&bytes, CRATE).expect_err("hostile"), Refusal::Repeated("a".to_owned()));
    let mut repeated = Vec::new();
    tarball::read(Source::Bytes(&bytes), Layout::Npm, |entry: Entry, _| -> Result<(), Refusal> {
        repeated.push(entry.repeated);
        Ok(())
    })
    .expect("left to the caller");
    assert_eq!(repeated, [false, true]);
}

#[test]
fn a_twin_of_the_manifest_in_other_case_is_refused() {
    check_refused(
        &[file("demo-1.0.0/Cargo.toml", b""), file("demo-1.0.0/cargo.toml", b"")],
        "twice",
    );
    check_refused(
        &[file("demo-1.0.0/package.json", b""), file("demo-1.0.0/Package.JSON", b"")],
        "twice",
    );
    let bytes = tarball(&[file("demo-1.0.0/README", b""), file("demo-1.0.0/readme", b"")]);
    let (_, warnings) = read(&bytes, CRATE).expect("honest, if unfortunate");
    assert_eq!(warnings.len(), 1);
}

#[test]
fn links_are_refused_for_crates_and_left_out_for_npm() {
    for kind in [b'1', b'2'] {
        let mut link = entry(kind, "demo-1.0.0/link", b"");
        link.content = Vec::new();
        let bytes = tarball(&[link, file("demo-1.0.0/a", b"")]);
        assert!(matches!(read(&bytes, CRATE), Err(Refusal::NotAFile { .. })));
        let (files, warnings) = read(&bytes, Layout::Npm).expect("npm does so, too");
        assert_eq!((files.len(), warnings.len()), (1, 1));
    }
}

#[test]
fn everything_else_is_refused() {
    for (kind, expected) in [
        (b'3', "device"),
        (b'4', "device"),
        (b'6', "named pipe"),
        (b'7', "unknown type"),
        (b'S', "sparse file"),
        (b'M', "another volume"),
        (b'D', "unknown type"),
        (b'V', "unknown type"),
    ] {
        check_refused(&[entry(kind, "demo-1.0.0/x", b"")], expected);
    }
    check_refused(&[pax(b'x', &[("GNU.sparse.major", "1")]), file("demo-1.0.0/x", b"")], "sparse");
    check_refused(
        &[pax(b'g', &[("GNU.sparse.name", "y")]), file("demo-1.0.0/x", b"")],
        "all entries",
    );
}

#[test]
fn sizes_that_disagree_are_refused() {
    check_refused(
        &[pax(b'x', &[("size", "2000")]), file("demo-1.0.0/x", b"abc")],
        "disagree about the size",
    );
    check_refused(
        &[pax(b'x', &[("size", "0")]), file("demo-1.0.0/x", b"abc")],
        "disagree about the size",
    );
    check_refused(&[entry(b'5', "demo-1.0.0/d/", b"smuggled")], "disagree about the size");
    check_refused(&[entry(b'2', "demo-1.0.0/l", b"smuggled")], "disagree about the size");
    check_refused(&[pax(b'g', &[("size", "9")]), file("demo-1.0.0/x", b"abc")], "all entries");
    let mut short = file("demo-1.0.0/x", b"abc");
    short.size = Some(5_000);
    check_refused(&[short], "middle of a file");
    let mut negative = file("demo-1.0.0/x", b"").header();
    negative[124] = 0xff;
    seal(&mut negative);
    check_bytes_refused(&gzip(&negative), "unusable size");
}

#[test]
fn names_that_disagree_are_refused() {
    let both = [
        entry(b'L', "././@LongLink", b"demo-1.0.0/a\0"),
        pax(b'x', &[("path", "demo-1.0.0/b")]),
        file("demo-1.0.0/c", b""),
    ];
    check_refused(&both, "disagree about the name");
    check_refused(
        &[pax(b'x', &[("path", "demo-1.0.0/a"), ("path", "demo-1.0.0/b")]), file("x", b"")],
        "twice",
    );
    check_refused(
        &[pax(b'x', &[("path", "demo-1.0.0/a")]), pax(b'x', &[]), file("x", b"")],
        "two extended headers",
    );
    check_refused(
        &[pax(b'x', &[("path", "demo-1.0.0/a/")]), file("x", b"")],
        "named like a directory",
    );
    check_refused(&[pax(b'x', &[("path", "demo-1.0.0/a")])], "has no entry");
    check_refused(
        &[pax(b'x', &[("hdrcharset", "BINARY")]), file("demo-1.0.0/x", b"")],
        "character set",
    );
}

#[test]
fn broken_extended_headers_are_refused() {
    for body in [
        &b"x"[..],
        b"5 a=b",
        b"99 path=x\n",
        b"0 path=x\n",
        b"9 pathx\n\n\n",
        b"99999999999999999999 a=b\n",
    ] {
        check_refused(&[entry(b'x', "p", body), file("demo-1.0.0/x", b"")], "cannot be read");
    }
    let huge = entry(b'x', "p", &vec![b'a'; 70_000]);
    check_refused(&[huge, file("demo-1.0.0/x", b"")], "bytes in an extension header");
}

#[test]
fn data_after_the_end_is_refused() {
    let first = blocks(&[file("demo-1.0.0/a", b"1")]);
    let second = blocks(&[file("demo-1.0.0/b", b"2")]);
    let hidden = [first.as_slice(), &[0; 512], &second, &[0; 1024]].concat();
    check_bytes_refused(&gzip(&hidden), "data after the end of the archive");
    let after_both = [first.as_slice(), &[0; 1024], &second].concat();
    check_bytes_refused(&gzip(&after_both), "data after the end of the archive");
    let two_members = [gzip(&[first.as_slice(), &[0; 1024]].concat()), gzip(&second)].concat();
    check_bytes_refused(&two_members, "after the end of the compressed stream");
    let polyglot = [gzip(&first), b"PK\x05\x06".to_vec()].concat();
    check_bytes_refused(&polyglot, "after the end of the compressed stream");
    let padded = [gzip(&first), vec![0; 100]].concat();
    assert!(read(&padded, Layout::Npm).is_ok());
}

#[test]
fn a_missing_end_is_tolerated_but_a_cut_is_not() {
    let whole = blocks(&[file("demo-1.0.0/a", b"1")]);
    assert!(read(&gzip(&whole), Layout::Npm).is_ok());
    check_bytes_refused(&gzip(&whole[..600]), "middle of a file");
    check_bytes_refused(&gzip(&whole[..300]), "middle of a header");
    let packed = gzip(&whole);
    check_bytes_refused(&packed[..packed.len() - 4], "damaged");
    let mut wrong = packed.clone();
    let last = wrong.len() - 6;
    wrong[last] ^= 1;
    check_bytes_refused(&wrong, "damaged");
}

#[test]
fn headers_with_wrong_checksums_or_formats_are_refused() {
    let mut bytes = blocks(&[file("demo-1.0.0/a", b"1")]);
    bytes[0] = b'e';
    check_bytes_refused(&gzip(&bytes), "wrong checksum");
    let mut unknown = file("demo-1.0.0/a", b"");
    unknown.magic = *b"zstar  \0";
    check_refused(&[unknown], "unknown format");
}

#[test]
fn a_bomb_is_stopped_before_it_fills_anything() {
    let mut zeros = file("demo-1.0.0/zeros", b"");
    zeros.size = Some(100 << 20);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut &zeros.header()[..], &mut encoder).expect("memory");
    std::io::copy(&mut std::io::repeat(0).take(100 << 20), &mut encoder).expect("memory");
    let bytes = encoder.finish().expect("memory");
    let mut seen = 0;
    let outcome =
        tarball::read(Source::Bytes(&bytes), Layout::Npm, |_, content| -> Result<(), Refusal> {
            let mut buffer = vec![0; 1 << 20];
            loop {
                match content.read(&mut buffer).map_err(Refusal::from_read)? {
                    0 => return Ok(()),
                    count => seen += count,
                }
            }
        });
    assert!(
        matches!(outcome, Err(Refusal::TooMuch { what: "unpacked bytes per packed byte", .. })),
        "{outcome:?}"
    );
    assert!(seen < 70 << 20);
}

#[test]
fn a_file_that_promises_too_much_is_refused_at_its_header() {
    let mut huge = file("demo-1.0.0/huge", b"");
    huge.size = Some(8 << 30);
    huge.size = huge.size.map(|size| size - 1);
    check_refused(&[huge], "middle of a file");
}
