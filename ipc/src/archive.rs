//! Archives: values of this build, laid out so that they can be read where they lie. For caches and indexes of our own
//! that would otherwise be parsed anew by every process; not for messages between programs, which have schemas.
//!
//! An archive is an envelope (magic, what it is, length, checksum) around the layout of `rkyv`. Nothing in it is
//! believed: the envelope finds what is damaged, cut or of another layout, and every access checks what it gives out.
//! Whoever finds an archive unusable makes it again from where it came.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Portable, Serialize};

/// Stands before every archive; the last byte is the version of the envelope.
const MAGIC: [u8; 8] = *b"bolidea\x01";
/// Magic, layout, length of the body, checksum of the body, four bytes of zero.
pub const ENVELOPE_BYTES: usize = 32;

/// Which layout an archive has. Made of what defines the layout, so that a changed definition is another layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout(u64);

impl Layout {
    /// The layout of a kind of value called `name`, defined by these texts (the source of its types).
    pub const fn new(name: &str, definitions: &[&str]) -> Self {
        // FNV-1a: it tells apart versions of our own files, nobody has a reason to make two that are alike.
        let mut hash = mix(0xcbf2_9ce4_8422_2325, name);
        let mut at = 0;
        while at < definitions.len() {
            hash = mix(hash, definitions[at]);
            at += 1;
        }
        Self(hash)
    }
}

const fn mix(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    // Separates texts from each other.
    (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3)
}

/// Why an archive is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It does not begin like one.
    #[error("not an archive")]
    NotOne,
    /// It was made by another build, or is of another kind of value.
    #[error("an archive of another layout")]
    OtherLayout,
    /// Its length or checksum is wrong.
    #[error("a damaged archive")]
    Damaged,
    /// What it holds is not a value of the type.
    #[error("an archive that does not hold what it should")]
    Invalid,
    /// The value cannot be laid out, because it is too large.
    #[error("a value that cannot be archived")]
    TooLarge,
}

/// Lays out a value, without an envelope: for values inside of other archives.
///
/// # Errors
/// [`ArchiveError::TooLarge`].
pub fn lay_out<T>(value: &T) -> Result<AlignedVec, ArchiveError>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    rkyv::to_bytes::<rancor::Error>(value).map_err(|_| ArchiveError::TooLarge)
}

/// Lays out a value in an envelope.
///
/// # Errors
/// [`ArchiveError::TooLarge`].
pub fn seal<T>(layout: Layout, value: &T) -> Result<Vec<u8>, ArchiveError>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let body = lay_out(value)?;
    let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&layout.0.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// What is in the envelope, if it is whole and of this layout.
///
/// # Errors
/// What is wrong with it.
pub fn unseal(layout: Layout, bytes: &[u8]) -> Result<&[u8], ArchiveError> {
    let (envelope, body) =
        bytes.split_first_chunk::<ENVELOPE_BYTES>().ok_or(ArchiveError::NotOne)?;
    let field = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&envelope[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    if envelope[..8] != MAGIC {
        return Err(ArchiveError::NotOne);
    }
    if field(8) != layout.0 {
        return Err(ArchiveError::OtherLayout);
    }
    let whole = field(16) == body.len() as u64 && field(24) == u64::from(crc32c::crc32c(body));
    whole.then_some(body).ok_or(ArchiveError::Damaged)
}

/// A value where it lies; every part of it was checked before.
///
/// # Errors
/// [`ArchiveError::Invalid`].
pub fn access<T>(body: &[u8]) -> Result<&T::Archived, ArchiveError>
where
    T: Archive,
    T::Archived: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    rkyv::access::<T::Archived, rancor::Error>(body).map_err(|_| ArchiveError::Invalid)
}

/// A value of its own, checked and copied.
///
/// # Errors
/// [`ArchiveError::Invalid`].
pub fn copy<T>(body: &[u8]) -> Result<T, ArchiveError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    rkyv::from_bytes::<T, rancor::Error>(body).map_err(|_| ArchiveError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Value = Vec<(String, u64)>;
    const LAYOUT: Layout = Layout::new("test", &["a"]);

    fn value() -> Value {
        (0..9).map(|number| (format!("entry {number}"), number)).collect()
    }

    #[test]
    fn what_was_sealed_comes_back() {
        let bytes = seal(LAYOUT, &value()).expect("sealed");
        let body = unseal(LAYOUT, &bytes).expect("whole");
        assert_eq!(copy::<Value>(body), Ok(value()));
        assert_eq!(access::<Value>(body).expect("valid")[3].0.as_str(), "entry 3");
    }

    #[test]
    fn it_can_lie_anywhere() {
        let bytes = seal(LAYOUT, &value()).expect("sealed");
        for shift in 0..8 {
            let mut moved = vec![0; shift];
            moved.extend_from_slice(&bytes);
            let body = unseal(LAYOUT, &moved[shift..]).expect("whole");
            assert_eq!(copy::<Value>(body), Ok(value()));
        }
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_found() {
        let bytes = seal(LAYOUT, &value()).expect("sealed");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(unseal(LAYOUT, &damaged).is_err(), "{at}");
            assert!(unseal(LAYOUT, &bytes[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn another_definition_or_name_is_another_layout() {
        let bytes = seal(LAYOUT, &value()).expect("sealed");
        for other in [
            Layout::new("test", &["b"]),
            Layout::new("tes", &["ta"]),
            Layout::new("test", &["a", ""]),
        ] {
            assert_eq!(unseal(other, &bytes), Err(ArchiveError::OtherLayout));
        }
        assert_eq!(unseal(LAYOUT, b"something else"), Err(ArchiveError::NotOne));
    }

    proptest::proptest! {
        #[test]
        fn no_body_harms(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = copy::<Value>(&bytes);
            let _ = access::<Value>(&bytes).map(|found| found.len());
        }
    }
}
