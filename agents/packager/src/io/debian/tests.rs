//! Generated roots: lists in every packing, several sources, and what is hostile.

use std::io::Write as _;
use std::path::Path;

use super::*;

const STATUS_TEXT: &str = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
    Package: old\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDepends: own\n\n\
    Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n";

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("inside")).expect("written");
    std::fs::write(path, bytes).expect("written");
}

fn paragraph(name: &str, version: &str, more: &str) -> String {
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{more}Filename: pool/{name}.deb\n\
         Size: 7\nSHA256: {}\n\n",
        "a".repeat(64)
    )
}

fn root(lists: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    write(root.path(), STATUS, STATUS_TEXT.as_bytes());
    for (name, bytes) in lists {
        write(root.path(), &format!("{LISTS}/{name}"), bytes);
    }
    root
}

fn gzip(text: &str) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(text.as_bytes()).expect("written");
    writer.finish().expect("written")
}

const LIST: &str = "h_debian_dists_stable_main_binary-amd64_Packages";

#[test]
fn lists_are_read_plain_and_packed() {
    let text = paragraph("nginx", "1", "Provides: httpd\n");
    let packed = gzip(&text);
    for (name, bytes) in [(LIST.to_owned(), text.as_bytes()), (format!("{LIST}.gz"), &packed)] {
        let root = root(&[(&name, bytes)]);
        let lists = Lists::read(root.path()).expect("lists");
        assert_eq!(lists.native(), "amd64");
        assert_eq!(lists.named("nginx").expect("found").len(), 1);
        assert_eq!(lists.providers("httpd").expect("found")[0].name, "nginx");
        assert!(lists.named("httpd").expect("none").is_empty());
    }
}

#[test]
fn what_is_only_configured_is_not_there_and_the_same_version_is_one() {
    let text = paragraph("old", "1", "Depends: other\n") + &paragraph("gone", "2", "");
    let lists = root(&[(LIST, text.as_bytes())]);
    let lists = Lists::read(lists.path()).expect("lists");
    let old = lists.named("old").expect("found");
    assert_eq!(old.len(), 1);
    // dpkg's own words count for what is installed; the list knows the file.
    assert!(old[0].is_installed && old[0].file.is_some());
    assert_eq!(old[0].depends[0].to_string(), "own");
    let gone = lists.named("gone").expect("found");
    assert_eq!((gone.len(), gone[0].is_installed), (1, false));
    assert_eq!(lists.installed().len(), 2);
}

#[test]
fn priorities_come_from_releases_and_preferences() {
    let other = "h_debian_dists_backports_main_binary-amd64_Packages";
    let root = root(&[
        (LIST, paragraph("a", "1", "").as_bytes()),
        (other, (paragraph("a", "2", "") + &paragraph("b", "2", "")).as_bytes()),
        (
            "h_debian_dists_backports_InRelease",
            b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nSuite: backports\n\
              NotAutomatic: yes\nButAutomaticUpgrades: yes\n",
        ),
    ]);
    write(
        root.path(),
        "etc/apt/preferences.d/b.pref",
        b"Package: b\nPin: release a=backports, c=main\nPin-Priority: 900\n",
    );
    write(root.path(), "etc/apt/apt.conf.d/01x", b"APT { Install-Recommends \"0\"; };\n");
    let lists = Lists::read(root.path()).expect("lists");
    let pins = |name: &str| -> Vec<(String, i32)> {
        let family = lists.named(name).expect("found");
        family.iter().map(|it| (it.version.clone(), it.pin)).collect()
    };
    assert_eq!(pins("a"), [("2".to_owned(), 100), ("1".to_owned(), 500)]);
    assert_eq!(pins("b"), [("2".to_owned(), 900)]);
    assert!(!lists.follows_recommends());
}

#[test]
fn what_is_missing_or_damaged_is_said() {
    let code = |root: &Path| Lists::read(root).map(|_| ()).expect_err("refused").code;
    let empty = tempfile::tempdir().expect("a directory");
    assert_eq!(code(empty.path()), "no-dpkg");
    assert_eq!(code(root(&[]).path()), "no-lists");
    for (name, bytes) in [
        (format!("{LIST}.lz4"), &b"\x04\x22\x4d\x18junk"[..]),
        (format!("{LIST}.gz"), b"junk"),
        (format!("{LIST}.xz"), b"junk"),
    ] {
        assert_eq!(code(root(&[(&name, bytes)]).path()), "list-unreadable", "{name}");
    }
    // Remains of downloads and differences are no lists.
    assert_eq!(code(root(&[(&format!("{LIST}.diff_Index"), b"x")]).path()), "no-lists");
}

#[test]
fn hostile_lists_cost_what_they_weigh() {
    let long = format!("Package: a\nVersion: 1\nDepends: {}\n\n", "b,".repeat(700_000));
    let text = long
        + &"\n".repeat(100_000)
        + &"Package: x\n".repeat(100_000)
        + "\n"
        + "Package:\nVersion: 1\n\nVersion: 2\n\n\u{1b}[31m: x\n\n"
        + &paragraph("good", "1", "Depends: ((((, | , :::, a:b:c (>>> 1), \u{1b}[2J\n");
    let root = root(&[(LIST, text.as_bytes())]);
    let lists = Lists::read(root.path()).expect("lists");
    assert!(lists.named("a").expect("too long to be honest").is_empty());
    let good = lists.named("good").expect("found");
    // None of what it says can be met, and none of it is lost.
    assert!(good[0].depends.len() >= 4);
}

#[test]
fn random_bytes_are_read_to_the_end() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..300 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let pieces: [&[u8]; 8] = [
                b"Package: a\n",
                b"\n\n",
                b"Provides: ",
                b"(= ",
                b", ",
                b" | ",
                b"\xff",
                b"Version: 1\n",
            ];
            bytes.extend_from_slice(pieces[(state % 8) as usize]);
        }
        let root = root(&[(LIST, &bytes)]);
        let lists = Lists::read(root.path()).expect("lists");
        for name in ["a", "b", ""] {
            let _ = (lists.named(name).expect("read"), lists.providers(name).expect("read"));
        }
    }
}
