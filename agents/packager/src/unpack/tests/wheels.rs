//! Wheels.

use std::io::{Cursor, Write};

use crate::unpack::attacks::forge::{ZipEnd, ZipEntry, member, wheel, wheel_members, zip};
use crate::unpack::wheel::Wheel;
use crate::unpack::{Entry, Refusal, Source};

fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>, bool)>, Refusal> {
    let mut files = Vec::new();
    Wheel::open(Source::Bytes(bytes))?.read(|entry: Entry, content| -> Result<(), Refusal> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(Refusal::from_read)?;
        files.push((entry.path, bytes, entry.executable));
        Ok(())
    })?;
    Ok(files)
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    let refusal = read(bytes).expect_err("hostile").to_string();
    assert!(refusal.contains(expected), "{refusal}");
}

#[track_caller]
fn check_member_refused(member: ZipEntry, expected: &str) {
    check_refused(&wheel(&[member]), expected);
}

fn end_refused(end: &ZipEnd, expected: &str) {
    check_refused(&zip(&wheel_members(&[member("demo.py", b"x")]), end), expected);
}

#[test]
fn an_honest_wheel_is_read() {
    let stored = ZipEntry { method: 0, mode: 0o100_755, ..member("demo/run.sh", b"#!/bin/sh") };
    let directory = ZipEntry { method: 0, mode: 0o040_755, ..member("demo/", b"") };
    let files = read(&wheel(&[directory, member("demo/__init__.py", &[b'a'; 100_000]), stored]))
        .expect("honest");
    let names: Vec<_> =
        files.iter().map(|(name, bytes, exec)| (name.as_str(), bytes.len(), *exec)).collect();
    assert_eq!(names[..2], [("demo/__init__.py", 100_000, false), ("demo/run.sh", 9, true)]);
    assert_eq!(names.len(), 5);
}

#[test]
fn a_wheel_of_an_independent_writer_is_read() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for member in wheel_members(&[member("demo.py", b"x = 1\n")]) {
        let options =
            zip::write::SimpleFileOptions::default().large_file(true).unix_permissions(0o644);
        writer.start_file(String::from_utf8_lossy(&member.name), options).expect("memory");
        writer.write_all(&member.content).expect("memory");
    }
    assert_eq!(read(&writer.finish().expect("memory").into_inner()).expect("honest").len(), 4);
}

#[test]
fn a_wheel_written_as_a_stream_is_read() {
    let mut writer = zip::ZipWriter::new_stream(Vec::new());
    for member in wheel_members(&[member("demo.py", b"x = 1\n")]) {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(String::from_utf8_lossy(&member.name), options).expect("memory");
        writer.write_all(&member.content).expect("memory");
    }
    assert_eq!(read(&writer.finish().expect("memory").into_inner()).expect("honest").len(), 4);
}

#[test]
fn unsafe_names_are_refused() {
    for (name, expected) in [
        ("/etc/passwd", "is absolute"),
        ("../evil.py", "component `..`"),
        ("demo/../../evil.py", "component `..`"),
        ("demo//x", "an empty component"),
        ("demo\\evil.py", "a backslash"),
        ("C:\\evil.py", "a backslash"),
        ("demo/\u{7}.py", "a control character"),
        ("demo\0.py", "a control character"),
    ] {
        check_member_refused(member(name, b""), expected);
    }
}

#[test]
fn names_without_a_known_encoding_are_refused() {
    check_member_refused(member("d\u{e9}mo.py", b""), "no known encoding");
    let utf8 = ZipEntry { flags: 1 << 11, ..member("d\u{e9}mo.py", b"") };
    assert!(read(&wheel(&[utf8])).is_ok());
    let mut broken = ZipEntry { flags: 1 << 11, ..member("x", b"") };
    broken.name = vec![b'a', 0xff];
    check_member_refused(broken, "is not UTF-8");
    let second =
        ZipEntry { extra: b"\x75\x70\x05\x00\x01\0\0\0\0".to_vec(), ..member("demo.py", b"") };
    check_member_refused(second, "a second name");
}

#[test]
fn repeated_and_conflicting_names_are_refused() {
    check_refused(&wheel(&[member("a", b"1"), member("a", b"1")]), "twice");
    check_refused(
        &wheel(&[member("a", b"1"), member("a/b", b"1")]),
        "as a file and as a directory",
    );
    check_refused(
        &wheel(&[member("a/b", b"1"), member("a", b"1")]),
        "as a file and as a directory",
    );
}

#[test]
fn links_and_devices_are_refused() {
    check_member_refused(ZipEntry { mode: 0o120_777, ..member("link", b"/etc") }, "symbolic link");
    check_member_refused(ZipEntry { mode: 0o020_644, ..member("tty", b"") }, "device or pipe");
    check_member_refused(ZipEntry { mode: 0o010_644, ..member("fifo", b"") }, "device or pipe");
    check_member_refused(
        ZipEntry { mode: 0o040_755, ..member("directory", b"") },
        "named like a file",
    );
}

#[test]
fn headers_that_disagree_are_refused() {
    let named = ZipEntry { central_name: Some(b"other.py".to_vec()), ..member("demos.py", b"x") };
    check_member_refused(named, "disagree about the name");
    let sized = ZipEntry { sizes: (Some(4), None), ..member("demo.py", b"abc") };
    check_member_refused(sized, "disagree about the size");
}

#[test]
fn sizes_that_lie_are_refused() {
    for size in [2, 4] {
        let lie = ZipEntry { sizes: (Some(size), Some(size)), ..member("demo.py", b"abc") };
        check_member_refused(lie, "disagree about the size");
    }
    let stored = ZipEntry { method: 0, sizes: (Some(2), Some(2)), ..member("demo.py", b"abc") };
    check_member_refused(stored, "disagree about the size");
    let lying_directory = ZipEntry { method: 0, mode: 0o040_755, ..member("d/", b"smuggled") };
    check_member_refused(lying_directory, "disagree about the size");
}

#[test]
fn a_wrong_checksum_is_damage() {
    check_member_refused(ZipEntry { crc: Some(7), ..member("demo.py", b"abc") }, "the checksum");
}

#[test]
fn features_that_wheels_do_not_have_are_refused() {
    for flags in [1, 1 << 5, 1 << 6, 1 << 13] {
        check_member_refused(ZipEntry { flags, ..member("demo.py", b"abc") }, "encryption");
    }
    for method in [12, 14, 93, 99] {
        check_member_refused(
            ZipEntry { method, ..member("demo.py", b"abc") },
            "compression method",
        );
    }
    check_member_refused(
        ZipEntry { extra: b"\x01\x99\x00\x00".to_vec(), ..member("demo.py", b"") },
        "encryption",
    );
}

#[test]
fn bytes_that_belong_to_nothing_are_refused() {
    end_refused(
        &ZipEnd { before: b"#!/bin/sh\n".to_vec(), ..ZipEnd::default() },
        "belongs to nothing",
    );
    end_refused(&ZipEnd { between: b"hidden".to_vec(), ..ZipEnd::default() }, "belongs to nothing");
    end_refused(&ZipEnd { after: b"tail".to_vec(), ..ZipEnd::default() }, "data after the end");
    check_member_refused(
        ZipEntry { gap: b"gap".to_vec(), ..member("demo.py", b"x") },
        "belongs to nothing",
    );
    let described = ZipEntry { flags: 1 << 3, gap: b"gap".to_vec(), ..member("demo.py", b"x") };
    check_member_refused(described, "disagree");
}

#[test]
fn a_second_archive_is_refused() {
    let first = wheel(&[member("demo.py", b"1")]);
    let second = wheel(&[member("demo.py", b"2")]);
    check_refused(&[first.clone(), second].concat(), "");
    let end = first[first.len() - 22..].to_vec();
    end_refused(&ZipEnd { comment: end.clone(), ..ZipEnd::default() }, "");
    end_refused(&ZipEnd { after: end, ..ZipEnd::default() }, "");
    end_refused(&ZipEnd { comment: b"xxPK\x05\x06xx".to_vec(), ..ZipEnd::default() }, "");
    let plain = ZipEnd { comment: b"a comment".to_vec(), ..ZipEnd::default() };
    assert!(read(&zip(&wheel_members(&[]), &plain)).is_ok());
}

#[test]
fn a_wrong_number_of_entries_is_refused() {
    end_refused(&ZipEnd { entries: Some(2), ..ZipEnd::default() }, "another number of entries");
}

#[test]
fn overlapping_members_are_refused() {
    let members = wheel_members(&[member("demo.py", b"1"), member("demo2.py", b"1")]);
    let mut bytes = zip(&members, &ZipEnd::default());
    let central = bytes.windows(4).position(|window| window == b"PK\x01\x02").expect("a directory");
    let second =
        bytes[central + 4..].windows(4).position(|window| window == b"PK\x01\x02").expect("two")
            + central
            + 4;
    bytes[second + 42..second + 46].fill(0);
    check_refused(&bytes, "");
}

#[test]
fn a_record_that_is_wrong_is_refused() {
    let with = |edit: &dyn Fn(&mut Vec<ZipEntry>)| {
        let mut members = wheel_members(&[member("demo.py", b"abc")]);
        edit(&mut members);
        zip(&members, &ZipEnd::default())
    };
    let changed = with(&|members| members[0].content = b"abd".to_vec());
    check_refused(&changed, "`RECORD`'s digest");
    let longer = with(&|members| members[0].content = b"abcd".to_vec());
    check_refused(&longer, "the size");
    let missing = with(&|members| drop(members.remove(0)));
    check_refused(&missing, "lists `demo.py`");
    let unlisted = with(&|members| members.push(member("evil.py", b"")));
    check_refused(&unlisted, "the presence of `evil.py`");
    let none = with(&|members| drop(members.pop()));
    check_refused(&none, "no `RECORD`");
    let weak = with(&|members| {
        members.last_mut().expect("RECORD").content = b"demo.py,md5=abc,3\n".to_vec()
    });
    check_refused(&weak, "cannot be read");
}

#[test]
fn a_second_description_is_refused() {
    check_member_refused(member("other-2.0.dist-info/METADATA", b""), "more than one `.dist-info`");
    check_member_refused(member("other-2.0.data/scripts/x", b""), "`.data` directory of another");
    check_member_refused(member("DEMO-1.0.dist-info/METADATA", b""), "twice");
    check_refused(&zip(&[member("demo.py", b"")], &ZipEnd::default()), "no `.dist-info`");
}

#[test]
fn a_bomb_is_refused_by_what_it_promises() {
    let mut bomb = member("demo.py", b"");
    bomb.sizes = (Some(u32::MAX - 1), Some(u32::MAX - 1));
    let others: Vec<_> = (0..4)
        .map(|index| ZipEntry { name: format!("{index}").into_bytes(), ..bomb.clone() })
        .collect();
    check_refused(&wheel(&others), "it has more than");
}

#[test]
fn a_quoted_record_is_understood() {
    let odd = member("demo/a,\"b\".txt", b"x");
    assert!(read(&wheel(&[odd])).is_ok());
}
