//! Zip archives and wheels.

use super::forge::{ZipEnd, ZipEntry, member, wheel, wheel_members, zip};
use super::{Attack, WHEEL, ZIP, attack, names};

pub(super) fn zip_names(outside: &str) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let one = |member| zip(&[member], &ZipEnd::default());
    for (name, reason) in names(outside) {
        let shown = String::from_utf8_lossy(&name).into_owned();
        // Names that are no ASCII say so.
        let hostile = ZipEntry { name, flags: 1 << 11, ..member("", b"x") };
        attacks.push(attack(format!("zip name {shown:?}"), ZIP, one(hostile), reason));
    }
    let nul = one(member("demo\0.txt", b"x"));
    attacks.push(attack("zip NUL in a name", ZIP, nul, "a control character"));
    let unknown = one(member("d\u{e9}mo", b"x"));
    attacks.push(attack("zip name without an encoding", ZIP, unknown, "no known encoding"));
    let second =
        ZipEntry { extra: b"\x75\x70\x05\x00\x01\0\0\0\0".to_vec(), ..member("demo", b"") };
    attacks.push(attack("zip second name", ZIP, one(second), "a second name"));
    attacks
}

pub(super) fn zip_members() -> Vec<Attack> {
    let sizes = |size| (Some(size), Some(size));
    // A 64-bit size that only one of both places asks for.
    let long = |value: u64| [&b"\x01\x00\x08\x00"[..], &value.to_le_bytes()].concat();
    let x = |content: &[u8]| member("demo.py", content);
    let cases: Vec<(&str, ZipEntry, &'static str)> = vec![
        (
            "symbolic link",
            ZipEntry { mode: 0o120_777, ..member("link", b"/etc/passwd") },
            "is a symbolic link",
        ),
        ("device", ZipEntry { mode: 0o020_644, ..member("tty", b"") }, "is a device or pipe"),
        ("pipe", ZipEntry { mode: 0o010_644, ..member("fifo", b"") }, "is a device or pipe"),
        ("socket", ZipEntry { mode: 0o140_644, ..member("socket", b"") }, "is a device or pipe"),
        (
            "directory named like a file",
            ZipEntry { mode: 0o040_755, ..member("d", b"") },
            "named like a file",
        ),
        (
            "directory with content",
            ZipEntry { method: 0, mode: 0o040_755, ..member("d/", b"smuggled") },
            "disagree about the size",
        ),
        (
            "two names",
            ZipEntry { central_name: Some(b"other.py".to_vec()), ..member("demos.py", b"x") },
            "disagree about the name",
        ),
        ("two sizes", ZipEntry { sizes: (Some(4), None), ..x(b"abc") }, "disagree about the size"),
        ("size too small", ZipEntry { sizes: sizes(2), ..x(b"abc") }, "disagree about the size"),
        ("size too large", ZipEntry { sizes: sizes(4), ..x(b"abc") }, "disagree about the size"),
        (
            "stored size too small",
            ZipEntry { method: 0, sizes: sizes(2), ..x(b"abc") },
            "disagree about the size",
        ),
        (
            "64-bit size that differs",
            ZipEntry { sizes: (Some(u32::MAX), None), extra: long(1 << 33), ..x(b"abc") },
            "disagree about the size",
        ),
        (
            "64-bit size that lies",
            ZipEntry { sizes: sizes(u32::MAX), extra: long(2), ..x(b"abc") },
            "disagree about the size",
        ),
        (
            "64-bit size twice",
            ZipEntry { sizes: sizes(u32::MAX), extra: [long(3), long(9)].concat(), ..x(b"abc") },
            "disagree about the size",
        ),
        (
            "64-bit size that is not there",
            ZipEntry { sizes: sizes(u32::MAX), extra: b"\x01\x00\x00\x00".to_vec(), ..x(b"abc") },
            "disagree about the size",
        ),
        (
            "extra field without end",
            ZipEntry { extra: b"\x01\x00\xff\xff".to_vec(), ..x(b"abc") },
            "is cut off",
        ),
        ("wrong checksum", ZipEntry { crc: Some(7), ..x(b"abc") }, "the checksum"),
        ("encryption", ZipEntry { flags: 1, ..x(b"abc") }, "encryption"),
        ("strong encryption", ZipEntry { flags: 1 << 6 | 1, ..x(b"abc") }, "encryption"),
        ("masked headers", ZipEntry { flags: 1 << 13, ..x(b"abc") }, "encryption"),
        ("patch data", ZipEntry { flags: 1 << 5, ..x(b"abc") }, "encryption"),
        ("AES", ZipEntry { extra: b"\x01\x99\x00\x00".to_vec(), ..x(b"") }, "encryption"),
        ("bzip2", ZipEntry { method: 12, ..x(b"abc") }, "compression method"),
        ("zstandard", ZipEntry { method: 93, ..x(b"abc") }, "compression method"),
        ("method of AES", ZipEntry { method: 99, ..x(b"abc") }, "compression method"),
        (
            "bytes behind a member",
            ZipEntry { gap: b"gap".to_vec(), ..x(b"abc") },
            "belongs to nothing",
        ),
        (
            "descriptor that lies",
            ZipEntry { flags: 1 << 3, gap: vec![0; 12], ..x(b"abc") },
            "disagree about the size",
        ),
        (
            "more bytes than any archive",
            ZipEntry { sizes: sizes(u32::MAX - 1), ..x(b"abc") },
            "more than",
        ),
    ];
    let build = |(name, member, reason): (&str, ZipEntry, &'static str)| {
        attack(format!("zip {name}"), ZIP, zip(&[member], &ZipEnd::default()), reason)
    };
    cases.into_iter().map(build).collect()
}

pub(super) fn zip_structures() -> Vec<Attack> {
    let two = [member("demo.py", b"1"), member("demo2.py", b"1")];
    let at = |end: ZipEnd| zip(&two, &end);
    let plain = at(ZipEnd::default());
    let end = plain[plain.len() - 22..].to_vec();
    let central = |bytes: &[u8], from: usize| {
        from + bytes[from..].windows(4).position(|window| window == b"PK\x01\x02").expect("there")
    };
    let first = central(&plain, 0);
    let second = central(&plain, first + 4);
    // Both members are said to lie where the first one does.
    let mut overlapping =
        zip(&[member("same.py", b"1"), member("same.px", b"1")], &ZipEnd::default());
    let place = central(&overlapping, central(&overlapping, 0) + 4) + 42;
    overlapping[place..place + 4].fill(0);
    // A second member that begins inside of the first one's content, which is stored: a quine's way to no end of bytes.
    let inner = zip(&[member("demo.py", b"x")], &ZipEnd::default());
    let nested = ZipEntry { method: 0, ..member("outer.py", &inner) };
    let mut inside = zip(&[nested, member("demo.py", b"x")], &ZipEnd::default());
    let place = central(&inside, central(&inside, central(&inside, 0) + 4) + 4) + 42;
    inside[place..place + 4].copy_from_slice(&38_u32.to_le_bytes());
    let mut beyond = plain.clone();
    beyond[second + 42..second + 46].copy_from_slice(&u32::MAX.wrapping_sub(1).to_le_bytes());
    let locator = [&b"PK\x06\x07\0\0\0\0"[..], &7_u64.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    let mut directory = plain.clone();
    let place = directory.len() - 6;
    directory[place..place + 4].copy_from_slice(&0_u32.to_le_bytes());
    let front = [&b"PK\x03\x04"[..], b"another archive's beginning"].concat();
    let joined = [&plain[..], &zip(&[member("evil.py", b"2")], &ZipEnd::default())].concat();
    vec![
        attack(
            "zip file twice",
            ZIP,
            zip(&[member("a", b"1"), member("a", b"2")], &ZipEnd::default()),
            "twice",
        ),
        attack(
            "zip file, then a directory",
            ZIP,
            zip(&[member("a", b"1"), member("a/b", b"2")], &ZipEnd::default()),
            "as a file and as a directory",
        ),
        attack(
            "zip twin of the manifest",
            ZIP,
            zip(
                &[member("d/package.json", b"1"), member("d/PACKAGE.json", b"2")],
                &ZipEnd::default(),
            ),
            "twice",
        ),
        attack("zip overlapping members", ZIP, overlapping, "disagree about"),
        attack("zip member inside of another one", ZIP, inside, "disagree about"),
        attack("zip member beyond the end", ZIP, beyond, "belongs to nothing"),
        attack(
            "zip bytes in front",
            ZIP,
            at(ZipEnd { before: front, ..ZipEnd::default() }),
            "belongs to nothing",
        ),
        attack(
            "zip bytes before the directory",
            ZIP,
            at(ZipEnd { between: b"hidden".to_vec(), ..ZipEnd::default() }),
            "belongs to nothing",
        ),
        attack(
            "zip bytes behind",
            ZIP,
            at(ZipEnd { after: b"tail".to_vec(), ..ZipEnd::default() }),
            "after the end",
        ),
        attack("zip two archives", ZIP, joined, ""),
        attack(
            "zip end record in the comment",
            ZIP,
            at(ZipEnd { comment: end, ..ZipEnd::default() }),
            "",
        ),
        attack(
            "zip mark of an end in the comment",
            ZIP,
            at(ZipEnd { comment: b"xxPK\x05\x06xx".to_vec(), ..ZipEnd::default() }),
            "",
        ),
        attack(
            "zip fewer entries than said",
            ZIP,
            at(ZipEnd { entries: Some(9), ..ZipEnd::default() }),
            "another number of entries",
        ),
        attack(
            "zip 64-bit end that is nowhere",
            ZIP,
            at(ZipEnd { locator, ..ZipEnd::default() }),
            "64-bit end record",
        ),
        attack("zip directory elsewhere", ZIP, directory, "does not end where"),
        attack("zip cut", ZIP, plain[..plain.len() - 10].to_vec(), ""),
        attack("zip without a directory", ZIP, plain[..first].to_vec(), "not a zip archive"),
    ]
}

pub(super) fn wheels() -> Vec<Attack> {
    let with = |edit: &dyn Fn(&mut Vec<ZipEntry>)| {
        let mut members = wheel_members(&[member("demo.py", b"abc")]);
        edit(&mut members);
        zip(&members, &ZipEnd::default())
    };
    let changed = with(&|members| members[0].content = b"abd".to_vec());
    let missing = with(&|members| drop(members.remove(0)));
    let unlisted = with(&|members| members.push(member("evil.py", b"")));
    let none = with(&|members| drop(members.pop()));
    let weak = b"demo.py,md5=abc,3\n";
    let weak = with(&|members| members.last_mut().expect("RECORD").content = weak.to_vec());
    let second = wheel(&[member("other-2.0.dist-info/METADATA", b"")]);
    let data = wheel(&[member("other-2.0.data/scripts/x", b"")]);
    vec![
        attack("wheel content that RECORD does not know", WHEEL, changed, "`RECORD`'s digest"),
        attack("wheel file that is not there", WHEEL, missing, "lists `demo.py`"),
        attack(
            "wheel file that RECORD does not list",
            WHEEL,
            unlisted,
            "the presence of `evil.py`",
        ),
        attack("wheel without RECORD", WHEEL, none, "no `RECORD`"),
        attack("wheel with weak digests", WHEEL, weak, "cannot be read"),
        attack("wheel of two packages", WHEEL, second, "more than one `.dist-info`"),
        attack("wheel with another one's data", WHEEL, data, "directory of another"),
        attack(
            "wheel of nothing",
            WHEEL,
            zip(&[member("demo.py", b"")], &ZipEnd::default()),
            "no `.dist-info`",
        ),
    ]
}
