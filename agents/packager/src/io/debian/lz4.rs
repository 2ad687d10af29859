//! LZ4 frames, in which apt keeps its lists on many machines: the reader only, in safe Rust, bounded, with every checksum
//! that a frame has. Not the block format's writer, and no dictionaries.

const MAGIC: u32 = 0x184D_2204;
/// Frames that are to be skipped have one of sixteen magic numbers.
const SKIPPABLE: u32 = 0x184D_2A50;
/// A match is this long at least.
const MATCH_BYTES_MIN: usize = 4;
/// Bytes of a block at most, which is what the frame's header can announce.
const BLOCK_BYTES_MAX: usize = 4 << 20;

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lz4Error {
    #[error("it ends early")]
    Truncated,
    #[error("it is not an LZ4 frame")]
    NotAFrame,
    #[error("it needs a dictionary")]
    Dictionary,
    #[error("a checksum does not match")]
    Checksum,
    #[error("a block refers to what is not there")]
    Reference,
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(usize),
}

/// Unpacks all frames of a file.
pub(crate) fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Lz4Error> {
    let mut input = Input(packed);
    let mut out = Vec::new();
    while !input.0.is_empty() {
        let magic = input.u32()?;
        if magic & !0xF == SKIPPABLE {
            let count = input.u32()? as usize;
            input.take(count)?;
            continue;
        }
        if magic != MAGIC {
            return Err(Lz4Error::NotAFrame);
        }
        frame(&mut input, &mut out, bytes_max)?;
    }
    Ok(out)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Lz4Error> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Lz4Error::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, Lz4Error> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Lz4Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

fn frame(input: &mut Input<'_>, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Lz4Error> {
    let header = input.0;
    let flags = input.u8()?;
    let _block_size = input.u8()?;
    if flags >> 6 != 1 {
        return Err(Lz4Error::NotAFrame);
    }
    let is_independent = flags & 0x20 != 0;
    let has_block_checksums = flags & 0x10 != 0;
    let has_size = flags & 0x08 != 0;
    let has_checksum = flags & 0x04 != 0;
    if flags & 0x01 != 0 {
        return Err(Lz4Error::Dictionary);
    }
    if has_size {
        // What the header claims is not believed: memory grows with what really comes.
        input.take(8)?;
    }
    let described = &header[..header.len() - input.0.len()];
    if input.u8()? != (xxh32(described) >> 8) as u8 {
        return Err(Lz4Error::Checksum);
    }
    let start = out.len();
    loop {
        let word = input.u32()?;
        if word == 0 {
            break;
        }
        let (is_stored, size) = (word >> 31 == 1, (word & 0x7FFF_FFFF) as usize);
        if size > BLOCK_BYTES_MAX {
            return Err(Lz4Error::TooLarge(BLOCK_BYTES_MAX));
        }
        let data = input.take(size)?;
        if has_block_checksums && input.u32()? != xxh32(data) {
            return Err(Lz4Error::Checksum);
        }
        // Blocks that depend on each other may refer to what any block of the same frame gave.
        let window = if is_independent { out.len() } else { start };
        let block_max = bytes_max.min(out.len() + BLOCK_BYTES_MAX);
        if is_stored {
            if out.len() + size > bytes_max {
                return Err(Lz4Error::TooLarge(bytes_max));
            }
            out.extend_from_slice(data);
        } else {
            block(data, out, window, block_max)?;
        }
    }
    if has_checksum && input.u32()? != xxh32(&out[start..]) {
        return Err(Lz4Error::Checksum);
    }
    Ok(())
}

/// One block: literals and matches in turn, literals last.
fn block(data: &[u8], out: &mut Vec<u8>, window: usize, bytes_max: usize) -> Result<(), Lz4Error> {
    let mut input = Input(data);
    loop {
        let token = input.u8()?;
        let count = length(&mut input, usize::from(token >> 4))?;
        let literals = input.take(count)?;
        if out.len() + count > bytes_max {
            return Err(Lz4Error::TooLarge(bytes_max));
        }
        out.extend_from_slice(literals);
        if input.0.is_empty() {
            return Ok(());
        }
        let offset = input.take(2)?;
        let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
        let count = length(&mut input, usize::from(token & 0xF))? + MATCH_BYTES_MIN;
        if offset == 0 || offset > out.len() - window {
            return Err(Lz4Error::Reference);
        }
        if out.len() + count > bytes_max {
            return Err(Lz4Error::TooLarge(bytes_max));
        }
        copy(out, offset, count);
    }
}

/// A length of four bits goes on in whole bytes where it is full.
fn length(input: &mut Input<'_>, first: usize) -> Result<usize, Lz4Error> {
    let mut length = first;
    if first == 15 {
        loop {
            let more = input.u8()?;
            length += usize::from(more);
            if more != u8::MAX {
                break;
            }
        }
    }
    Ok(length)
}

/// A match may reach into what it writes itself: then it repeats, and each round copies all that is there.
fn copy(out: &mut Vec<u8>, offset: usize, count: usize) {
    let from = out.len() - offset;
    let mut left = count;
    while left > 0 {
        let piece = left.min(out.len() - from);
        out.extend_from_within(from..from + piece);
        left -= piece;
    }
}

/// XXH32 with seed 0, the checksum of LZ4 frames.
fn xxh32(data: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let round = |lane: u32, input: u32| {
        lane.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(13).wrapping_mul(PRIMES[0])
    };
    let mut hash = PRIMES[4];
    let stripes = data.chunks_exact(16);
    let tail = stripes.remainder();
    if data.len() >= 16 {
        let mut lanes =
            [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u32.wrapping_sub(PRIMES[0])];
        for stripe in stripes {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
                *lane = round(*lane, word(bytes));
            }
        }
        let turned = [1, 7, 12, 18].into_iter().zip(lanes);
        hash = turned.fold(0, |sum: u32, (by, lane)| sum.wrapping_add(lane.rotate_left(by)));
    }
    hash = hash.wrapping_add(data.len() as u32);
    let words = tail.chunks_exact(4);
    let rest = words.remainder();
    for bytes in words {
        hash = hash.wrapping_add(word(bytes).wrapping_mul(PRIMES[2]));
        hash = hash.rotate_left(17).wrapping_mul(PRIMES[3]);
    }
    for &byte in rest {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(PRIMES[4]));
        hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `lz4 --content-size` wrote for 40 times `Package: nginx\n`.
    const FRAME: &[u8] = include_bytes!("lz4/tests.lz4");

    fn text() -> Vec<u8> {
        b"Package: nginx\n".repeat(40)
    }

    #[test]
    fn what_another_program_packed_comes_out() {
        assert_eq!(unpack(FRAME, 1 << 20), Ok(text()));
        let twice = [FRAME, FRAME].concat();
        assert_eq!(unpack(&twice, 1 << 20), Ok([text(), text()].concat()));
    }

    #[test]
    fn known_checksums() {
        assert_eq!(xxh32(b""), 0x02CC_5D05);
        assert_eq!(xxh32(b"abc"), 0x32D1_53FF);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xE229_3B2F);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error_or_the_same() {
        for end in 1..FRAME.len() {
            assert!(unpack(&FRAME[..end], 1 << 20).is_err(), "cut at {end}");
        }
        for at in 0..FRAME.len() * 8 {
            let mut bytes = FRAME.to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(found) = unpack(&bytes, 1 << 20) {
                assert!(found == text() || found.is_empty(), "bit {at}");
            }
        }
    }

    #[test]
    fn what_unpacks_to_too_much_ends_at_the_bound() {
        assert_eq!(unpack(FRAME, 100), Err(Lz4Error::TooLarge(100)));
    }
}
