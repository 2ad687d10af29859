//! What a message says of a descriptor that was granted beside it: a frozen payload, a pool that lends, a borrower's returns.
//!
//! Payloads by reference have no link of their own: the descriptor travels as a grant, and this message, over a link of any
//! class, says what it is. Not here: the payloads (`batch`), and who grants (`client`).

use crate::header::GrantId;

/// `BLRF`
const MAGIC: u32 = u32::from_le_bytes(*b"BLRF");
/// The message, in bytes: it fits into one line.
pub const REFERENCE_BYTES: usize = 24;

/// What was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A payload that nobody can change any more.
    Frozen {
        /// Which grant.
        grant: GrantId,
        /// Its length, as its sender says; the file's counts.
        bytes: u64,
    },
    /// A pool: what is lent from it follows, by lines.
    Pool {
        /// Which grant.
        grant: GrantId,
        /// Its size, as its lender says; the file's counts.
        bytes: u64,
    },
    /// The segment in which a borrower returns loans.
    Returns {
        /// Which grant.
        grant: GrantId,
        /// Of which pool.
        pool: u64,
    },
}

impl Reference {
    /// The descriptor that it is of.
    pub fn grant(self) -> GrantId {
        match self {
            Self::Frozen { grant, .. } | Self::Pool { grant, .. } | Self::Returns { grant, .. } => {
                grant
            }
        }
    }

    /// The bytes of the message.
    pub fn encode(self) -> [u8; REFERENCE_BYTES] {
        let (kind, grant, number) = match self {
            Self::Frozen { grant, bytes } => (1u32, grant, bytes),
            Self::Pool { grant, bytes } => (2, grant, bytes),
            Self::Returns { grant, pool } => (3, grant, pool),
        };
        let mut out = [0; REFERENCE_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&kind.to_le_bytes());
        out[8..16].copy_from_slice(&grant.0.to_le_bytes());
        out[16..24].copy_from_slice(&number.to_le_bytes());
        out
    }

    /// The reference in a payload; nothing where it is another message.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; REFERENCE_BYTES] = payload.try_into().ok()?;
        let [head, grant, number] = bytes.as_chunks::<8>().0 else { return None };
        let (magic, kind) = (u64::from_le_bytes(*head) as u32, u64::from_le_bytes(*head) >> 32);
        let (grant, number) = (GrantId(u64::from_le_bytes(*grant)), u64::from_le_bytes(*number));
        match (magic, kind) {
            (MAGIC, 1) => Some(Self::Frozen { grant, bytes: number }),
            (MAGIC, 2) => Some(Self::Pool { grant, bytes: number }),
            (MAGIC, 3) => Some(Self::Returns { grant, pool: number }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_comes_back_as_it_was_and_other_bytes_are_none() {
        let grant = GrantId(7);
        for reference in [
            Reference::Frozen { grant, bytes: 1 << 40 },
            Reference::Pool { grant, bytes: 4096 },
            Reference::Returns { grant, pool: 3 },
        ] {
            let bytes = reference.encode();
            assert_eq!(Reference::decode(&bytes), Some(reference));
            assert_eq!(reference.grant(), grant);
            assert_eq!(Reference::decode(&bytes[..23]), None);
            for index in 0..8 {
                let mut broken = bytes;
                broken[index] ^= 0x40;
                assert_eq!(Reference::decode(&broken), None, "byte {index}");
            }
        }
    }
}
