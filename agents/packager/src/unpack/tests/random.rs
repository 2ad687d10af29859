//! Whatever the bytes are, the readers answer.

use std::io::Read;

use proptest::prelude::*;

use crate::unpack::attacks::forge::{file, member, pax, tarball, wheel};
use crate::unpack::tarball::{self as tarballs, Layout};
use crate::unpack::wheel::Wheel;
use crate::unpack::{ArchiveKind, Contents, Refusal, Source, archive, names, record};

fn drain(content: &mut dyn Read) -> Result<(), Refusal> {
    std::io::copy(content, &mut std::io::sink()).map(drop).map_err(Refusal::from_read)
}

pub(super) fn read_all(bytes: &[u8]) {
    for layout in [Layout::Npm, Layout::Crate { folder: "demo-1.0.0" }] {
        let _ = tarballs::read(Source::Bytes(bytes), layout, |entry, content| {
            assert!(names::check(&entry.path).is_ok());
            drain(content)
        });
    }
    let kinds = [ArchiveKind::TarGz { folder: None }, ArchiveKind::Tar, ArchiveKind::Zip];
    for kind in kinds {
        let _ = archive::read(Source::Bytes(bytes), kind, Contents::All, |entry, content| {
            assert!(names::check(&entry.path).is_ok());
            drain(content)
        });
    }
    if let Ok(wheel) = Wheel::open(Source::Bytes(bytes)) {
        let _ = wheel.read(|entry, content| {
            assert!(names::check(&entry.path).is_ok());
            drain(content)
        });
    }
}

pub(super) fn honest_tarball() -> Vec<u8> {
    tarball(&[
        pax(b'x', &[("path", "demo-1.0.0/long")]),
        file("x", b"abc"),
        file("demo-1.0.0/b", &[7; 2_000]),
    ])
}

/// The stream inside, so that mutations reach the tar reader and not only the decompressor.
pub(super) fn unpacked() -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&honest_tarball()[..]).read_to_end(&mut bytes).expect("honest");
    bytes
}

fn mutate(
    mut bytes: Vec<u8>,
    edits: &[(prop::sample::Index, u8)],
    cut: prop::sample::Index,
) -> Vec<u8> {
    for (index, value) in edits {
        let position = index.index(bytes.len());
        bytes[position] = *value;
    }
    if cut.index(4) == 0 {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// A tar stream whose headers have right checksums again.
pub(super) fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            crate::unpack::attacks::forge::seal(block.try_into().expect("a block"));
        }
    }
    crate::unpack::attacks::forge::gzip(&bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        read_all(&bytes);
        read_all(&crate::unpack::attacks::forge::gzip(&bytes));
    }

    #[test]
    fn mutated_tarballs_never_panic(
        edits in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        read_all(&mutate(honest_tarball(), &edits, cut));
        read_all(&resealed(mutate(unpacked(), &edits, cut)));
    }

    #[test]
    fn mutated_wheels_never_panic(
        edits in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let honest = wheel(&[member("demo/a.py", b"abc"), member("demo/b.py", &[7; 3_000])]);
        read_all(&mutate(honest, &edits, cut));
    }

    #[test]
    fn lists_of_files_survive_writing_and_reading(paths in prop::collection::vec("[^\\x00]{1,20}", 0..5)) {
        let mut text = String::new();
        for path in &paths {
            record::push_line(&mut text, path, Some((&[7; 32], 5)));
        }
        let lines = record::parse(&text).expect("our own");
        prop_assert_eq!(lines.iter().map(|line| &line.path).collect::<Vec<_>>(), paths.iter().collect::<Vec<_>>());
    }

    #[test]
    fn random_lists_never_panic(text in "\\PC{0,80}|[a,\"\r\n=]{0,40}") {
        let _ = record::parse(&text);
    }
}
