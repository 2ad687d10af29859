//! An archive for every known way to attack whoever unpacks it, and the reason for which each has to be refused. Compiled into
//! tests alone; the writers stand in [`forge`].
//!
//! The classes are those of real cases: paths that leave, links, devices, parsers that see different files, resources, names
//! that lie to people. Where a case needs gigabytes to be shown it is not here but with the test that makes it.

pub mod forge;

use std::io::{Read as _, copy, repeat};

use forge::{
    TarEntry, ZipEnd, ZipEntry, blocks, entry, file, gzip, member, pax, seal, tarball, wheel,
    wheel_members, zip,
};

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
    attacks.extend(tar_names(outside));
    attacks.extend(tar_kinds(outside));
    attacks.extend(tar_disagreements());
    attacks.extend(tar_ends());
    attacks.extend(crates());
    attacks.extend(zip_names(outside));
    attacks.extend(zip_members());
    attacks.extend(zip_structures());
    attacks.extend(wheels());
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

fn tar_names(outside: &str) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (name, reason) in names(outside) {
        let shown = String::from_utf8_lossy(&name).into_owned();
        if name.len() <= 100 {
            let short = TarEntry { name: name.clone(), ..file("", b"x") };
            attacks.push(attack(format!("tar name {shown:?}"), TGZ, tarball(&[short]), reason));
        }
        let long = TarEntry { name: b"././@LongLink".to_vec(), ..entry(b'L', "", &name) };
        let bytes = tarball(&[long, file("cut", b"x")]);
        attacks.push(attack(format!("tar GNU name {shown:?}"), TGZ, bytes, reason));
        if let Ok(name) = std::str::from_utf8(&name) {
            let bytes = tarball(&[pax(b'x', &[("path", name)]), file("cut", b"x")]);
            attacks.push(attack(format!("tar pax name {shown:?}"), TGZ, bytes, reason));
        }
    }
    let nul = entry(b'L', "././@LongLink", b"demo/a\0/../../escape");
    attacks.push(attack(
        "tar NUL in a GNU name",
        TGZ,
        tarball(&[nul, file("cut", b"x")]),
        "a control character",
    ));
    let bytes = tarball(&[pax(b'x', &[("path", "demo/a\0b")]), file("cut", b"x")]);
    attacks.push(attack("tar NUL in a pax name", TGZ, bytes, "a control character"));
    attacks.push(attack("tar empty name", TGZ, tarball(&[file("", b"x")]), "is empty"));
    attacks
}

fn tar_kinds(outside: &str) -> Vec<Attack> {
    let link = |kind, name: &str, target: &str| {
        let mut header = entry(kind, name, b"").header();
        header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        seal(&mut header);
        header.to_vec()
    };
    let parent = outside.rsplit_once('/').map_or("/", |(parent, _)| parent);
    let name = outside.rsplit_once('/').map_or("x", |(_, name)| name);
    let through = blocks(&[file(&format!("demo/link/{name}"), b"written through a link")]);
    let end = vec![0; 1024];
    let target = &parent[..parent.len().min(100)];
    let chain = [link(b'2', "demo/a", ".."), link(b'2', "demo/a/b", "..")].concat();
    let directory = blocks(&[entry(b'5', "demo/link/", b"")]);
    let long_target = blocks(&[entry(b'K', "././@LongLink", b"/etc/passwd\0")]);
    let cases = [
        (
            "symbolic link, then a file through it",
            [link(b'2', "demo/link", target), through.clone()].concat(),
        ),
        (
            "symbolic link, then a directory over it",
            [link(b'2', "demo/link", target), directory].concat(),
        ),
        ("symbolic link out", link(b'2', "demo/passwd", "/etc/passwd")),
        ("chain of symbolic links", chain),
        ("hard link out", link(b'1', "demo/passwd", "/etc/passwd")),
        (
            "hard link, then a file over it",
            [link(b'1', "demo/link", "demo/../../x"), blocks(&[file("demo/link", b"x")])].concat(),
        ),
        (
            "hard link to a symbolic link",
            [link(b'2', "demo/s", target), link(b'1', "demo/h", "demo/s")].concat(),
        ),
        ("long target of a link", [long_target, link(b'2', "demo/l", "cut")].concat()),
    ];
    let mut attacks: Vec<_> = cases
        .into_iter()
        .map(|(name, bytes)| {
            attack(format!("tar {name}"), TGZ, gzip(&[bytes, end.clone()].concat()), "is a link")
        })
        .collect();
    for (kind, what, reason) in [
        (b'3', "character device", "is a device"),
        (b'4', "block device", "is a device"),
        (b'6', "named pipe", "is a named pipe"),
        (b'7', "contiguous file", "an unknown type"),
        (b'S', "GNU sparse file", "is a sparse file"),
        (b'M', "rest of another volume", "another volume"),
        (b'V', "volume label", "an unknown type"),
        (b'N', "old GNU names", "an unknown type"),
        (b'Z', "vendor's type", "an unknown type"),
    ] {
        let bytes = tarball(&[entry(kind, "demo/x", b"")]);
        attacks.push(attack(format!("tar {what}"), TGZ, bytes, reason));
    }
    let sparse =
        [pax(b'x', &[("GNU.sparse.major", "1"), ("GNU.sparse.name", "../x")]), file("demo/x", b"")];
    attacks.push(attack("tar pax sparse file", TGZ, tarball(&sparse), "a sparse file"));
    attacks
}

fn tar_disagreements() -> Vec<Attack> {
    let x = || file("demo/x", b"abc");
    let smuggled = blocks(&[file("demo/smuggled", b"x")]);
    let mut negative = file("demo/x", b"").header();
    negative[124] = 0xff;
    seal(&mut negative);
    let mut binary = file("demo/x", b"").header();
    binary[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    seal(&mut binary);
    let huge = TarEntry { size: Some(0o77_777_777_777), ..file("demo/x", b"") };
    let cases: Vec<(&str, Vec<TarEntry>, &'static str)> = vec![
        // The size of the pax header or of the other one decides where the next entry begins.
        (
            "pax size that hides entries",
            vec![pax(b'x', &[("size", "1024")]), file("demo/x", &smuggled)],
            "disagree about the size",
        ),
        ("pax size of nothing", vec![pax(b'x', &[("size", "0")]), x()], "disagree about the size"),
        ("pax size that is no number", vec![pax(b'x', &[("size", "-1")]), x()], "unusable size"),
        (
            "pax size beyond 64 bits",
            vec![pax(b'x', &[("size", "99999999999999999999")]), x()],
            "unusable size",
        ),
        (
            "directory with content",
            vec![entry(b'5', "demo/d/", &smuggled)],
            "disagree about the size",
        ),
        (
            "two pax headers",
            vec![pax(b'x', &[("path", "demo/a")]), pax(b'x', &[]), x()],
            "two extended headers",
        ),
        (
            "two names in a pax header",
            vec![pax(b'x', &[("path", "demo/a"), ("path", "../b")]), x()],
            "twice",
        ),
        (
            "two GNU names",
            vec![entry(b'L', "l", b"demo/a\0"), entry(b'L', "l", b"../b\0"), x()],
            "twice",
        ),
        (
            "pax and GNU names",
            vec![entry(b'L', "l", b"demo/a\0"), pax(b'x', &[("path", "demo/b")]), x()],
            "disagree about the name",
        ),
        (
            "pax name of a directory",
            vec![pax(b'x', &[("path", "demo/a/")]), x()],
            "named like a directory",
        ),
        ("pax header of nothing", vec![x(), pax(b'x', &[("path", "demo/a")])], "has no entry"),
        (
            "pax header in another encoding",
            vec![pax(b'x', &[("hdrcharset", "BINARY")]), x()],
            "character set",
        ),
        (
            "pax header with a wrong length",
            vec![entry(b'x', "p", b"99 path=../x\n"), x()],
            "cannot be read",
        ),
        ("global name", vec![pax(b'g', &[("path", "../x")]), x()], "all entries"),
        ("global size", vec![pax(b'g', &[("size", "0")]), x()], "all entries"),
        (
            "extension without end",
            vec![entry(b'x', "p", &vec![b'a'; 70_000]), x()],
            "bytes in an extension header",
        ),
        ("file twice", vec![file("demo/a", b"1"), file("demo/a", b"2")], "`demo/a` twice"),
        (
            "file twice, once with dots",
            vec![file("demo/a", b"1"), file("demo/./a", b"2")],
            "`demo/a` twice",
        ),
        (
            "file, then a directory",
            vec![file("demo/a", b"1"), file("demo/a/b", b"2")],
            "as a file and as a directory",
        ),
        (
            "directory, then a file",
            vec![file("demo/a/b", b"1"), file("demo/a", b"2")],
            "as a file and as a directory",
        ),
        (
            "twin of the manifest",
            vec![file("demo/package.json", b"{}"), file("demo/Package.json", b"{}")],
            "twice",
        ),
        (
            "twin in a twin of the folder",
            vec![file("demo/package.json", b"{}"), file("Demo/package.json", b"{}")],
            "twice",
        ),
        ("more bytes than any file", vec![huge], "bytes in one file"),
        (
            "fewer bytes than promised",
            vec![TarEntry { size: Some(1 << 20), ..x() }],
            "middle of a file",
        ),
        ("unknown format", vec![TarEntry { magic: *b"zstar  \0", ..x() }], "unknown format"),
    ];
    let mut attacks: Vec<_> = cases
        .into_iter()
        .map(|(name, entries, reason)| {
            attack(format!("tar {name}"), TGZ, tarball(&entries), reason)
        })
        .collect();
    for (name, header) in [("negative size", negative), ("binary size", binary)] {
        attacks.push(attack(format!("tar {name}"), TGZ, gzip(&header), "unusable size"));
    }
    attacks
}

fn tar_ends() -> Vec<Attack> {
    let first = blocks(&[file("demo/a", b"1")]);
    let second = blocks(&[file("demo/b", b"2")]);
    let end = [0; 1024];
    let hidden = [&first[..], &[0; 512], &second, &end].concat();
    let behind = [&first[..], &end, &second, &end].concat();
    let two = [gzip(&[&first[..], &end].concat()), gzip(&[&second[..], &end].concat())].concat();
    let empty_first = [gzip(b""), gzip(&[&first[..], &end].concat())].concat();
    let with_zip = [gzip(&first), zip(&[member("evil", b"x")], &ZipEnd::default())].concat();
    let packed = gzip(&first);
    let mut wrong = packed.clone();
    let checksum = wrong.len() - 6;
    wrong[checksum] ^= 1;
    let mut renamed = first.clone();
    renamed[5] = b'z';
    vec![
        attack(
            "tar entries behind one block of zeros",
            TGZ,
            gzip(&hidden),
            "after the end of the archive",
        ),
        attack("tar entries behind the end", TGZ, gzip(&behind), "after the end of the archive"),
        attack("tar two gzip members", TGZ, two, "after the end of the compressed stream"),
        attack(
            "tar behind an empty gzip member",
            TGZ,
            empty_first,
            "after the end of the compressed stream",
        ),
        attack("tar and zip in one file", TGZ, with_zip, "after the end of the compressed stream"),
        attack(
            "tar without gzip, with a zip behind",
            "demo.tar",
            [&first[..], &end, &zip(&[member("evil", b"x")], &ZipEnd::default())].concat(),
            "after the end of the archive",
        ),
        attack("tar cut in its stream", TGZ, packed[..packed.len() - 4].to_vec(), "damaged"),
        attack("tar cut in a file", TGZ, gzip(&first[..600]), "middle of a file"),
        attack("tar cut in a header", TGZ, gzip(&first[..300]), "middle of a header"),
        attack("tar with a wrong checksum of the stream", TGZ, wrong, "damaged"),
        attack("tar with a wrong checksum of a header", TGZ, gzip(&renamed), "wrong checksum"),
    ]
}

fn crates() -> Vec<Attack> {
    let manifest = || file("demo-1.0.0/Cargo.toml", b"[package]\n");
    let cases: Vec<(&str, Vec<TarEntry>, &'static str)> = vec![
        (
            "file beside its folder",
            vec![manifest(), file("other-1.0.0/x", b"")],
            "outside of the crate's own folder",
        ),
        (
            "folder whose name begins alike",
            vec![manifest(), file("demo-1.0.0-evil/x", b"")],
            "outside of the crate's own folder",
        ),
        (
            "file outside of any folder",
            vec![manifest(), file("x", b"")],
            "outside of the crate's own folder",
        ),
        ("no manifest", vec![file("demo-1.0.0/x", b"")], "no `Cargo.toml`"),
        ("twin of the manifest", vec![manifest(), file("demo-1.0.0/cargo.toml", b"")], "twice"),
    ];
    let build = |(name, entries, reason): (&str, Vec<TarEntry>, &'static str)| {
        attack(format!("crate {name}"), CRATE, tarball(&entries), reason)
    };
    cases.into_iter().map(build).collect()
}

fn zip_names(outside: &str) -> Vec<Attack> {
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

fn zip_members() -> Vec<Attack> {
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

fn zip_structures() -> Vec<Attack> {
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
        attack("zip overlapping members", ZIP, overlapping, "belongs to nothing"),
        attack("zip member inside of another one", ZIP, inside, "belongs to nothing"),
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

fn wheels() -> Vec<Attack> {
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
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
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
