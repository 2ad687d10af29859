//! Subresource Integrity: the digests that a registry gives of an archive.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::hex::hex;
use crate::metadata::Hashes;

/// The strong digests of a Subresource Integrity text; `sha1` alone gives none.
pub(crate) fn integrity(text: &str) -> Hashes {
    let digests = Digests::of(text);
    Hashes {
        sha512: digests.sha512.map(|digest| hex(&digest)),
        sha256: digests.sha256.map(|digest| hex(&digest)),
    }
}

/// The same as bytes.
#[derive(Default)]
pub(super) struct Digests {
    pub(super) sha512: Option<[u8; 64]>,
    pub(super) sha256: Option<[u8; 32]>,
}

impl Digests {
    pub(super) fn of(text: &str) -> Self {
        let mut digests = Self::default();
        for word in text.split_ascii_whitespace() {
            let Some((algorithm, digest)) = word.split_once('-') else { continue };
            let digest = digest.split('?').next().unwrap_or_default();
            // Room for the longest of them, and for what the library asks for.
            let mut bytes = [0; 66];
            match (algorithm, STANDARD.decode_slice(digest, &mut bytes)) {
                ("sha512", Ok(64)) => {
                    digests.sha512 = digests.sha512.or(bytes.first_chunk().copied());
                }
                ("sha256", Ok(32)) => {
                    digests.sha256 = digests.sha256.or(bytes.first_chunk().copied());
                }
                _ => {}
            }
        }
        digests
    }
}
