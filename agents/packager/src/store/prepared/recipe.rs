//! What a directory is to hold, named by a digest of all that.

use ring::digest;

use crate::store::{Content, File, Object};

/// What most file systems give a file at a time.
const BLOCK_BYTES: u64 = 4_096;

/// The name of a content: equal for equal paths, contents and permissions.
pub(super) type Key = [u8; 32];

/// One file of a directory, by its path in there.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'p> {
    /// The path, checked by whoever read the archive.
    pub path: &'p str,
    /// What it holds.
    pub object: Object,
    /// Whether it gets execute permissions.
    pub executable: bool,
}

/// All files of one directory.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) key: Key,
    pub(super) files: Vec<File>,
    /// On the disk, where they are nobody else's.
    pub(super) bytes: u64,
}

impl Recipe {
    pub(super) fn of(key: Key, pieces: &[Piece<'_>]) -> Self {
        let file = |piece: &Piece<'_>| File {
            path: piece.path.to_owned(),
            content: Content::Object(piece.object),
            executable: piece.executable,
        };
        let on_disk = |piece: &Piece<'_>| {
            piece.object.size.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
        };
        let bytes = pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(on_disk(piece)));
        Self { key, files: pieces.iter().map(file).collect(), bytes }
    }
}

/// The name of what these pieces are together.
pub(super) fn key(pieces: &[Piece<'_>]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut bytes = Vec::with_capacity(256);
    for piece in pieces {
        bytes.clear();
        bytes.extend_from_slice(&(piece.path.len() as u64).to_le_bytes());
        bytes.extend_from_slice(piece.path.as_bytes());
        bytes.push(u8::from(piece.executable));
        bytes.extend_from_slice(&piece.object.size.to_le_bytes());
        bytes.extend_from_slice(&piece.object.digest);
        context.update(&bytes);
    }
    crate::store::object::finish(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_path_content_or_permission_is_another_key() {
        let piece = |path, content: &[u8], executable| Piece {
            path,
            object: Object::of(content),
            executable,
        };
        let all = [
            key(&[piece("a", b"1", false)]),
            key(&[piece("b", b"1", false)]),
            key(&[piece("a", b"2", false)]),
            key(&[piece("a", b"1", true)]),
            key(&[piece("a", b"1", false), piece("b", b"1", false)]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index}");
        }
        assert_eq!(all[0], key(&[piece("a", b"1", false)]));
    }
}
