//! Tarballs and crates.

use super::forge::{TarEntry, ZipEnd, blocks, entry, file, gzip, member, pax, seal, tarball, zip};
use super::{Attack, CRATE, TGZ, attack, names};

pub(super) fn tar_names(outside: &str) -> Vec<Attack> {
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

pub(super) fn tar_kinds(outside: &str) -> Vec<Attack> {
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

pub(super) fn tar_disagreements() -> Vec<Attack> {
    let x = || file("demo/x", b"abc");
    let smuggled = blocks(&[file("demo/smuggled", b"x")]);
    let mut negative = file("demo/x", b"").header();
    negative[124] = 0xff;
    seal(&mut negative);
    let mut binary = file("demo/x", b"").header();
    binary[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    seal(&mut binary);
    let huge = TarEntry { size: Some(0o777_777_777_777), ..file("demo/x", b"") };
    let cases: Vec<(&str, Vec<TarEntry>, &'static str)> = vec![
        // The size of the pax header or of the other one decides where the next entry begins.
        (
            "pax size that hides entries",
            vec![pax(b'x', &[("size", "512")]), file("demo/x", &smuggled)],
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

pub(super) fn tar_ends() -> Vec<Attack> {
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

pub(super) fn crates() -> Vec<Attack> {
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
