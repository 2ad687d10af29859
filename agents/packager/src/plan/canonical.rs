//! The canonical bytes of a plan: the same on every machine, whatever order maps and fields have in memory.
//!
//! A line `bolide-plan/2`, then JSON without spaces, the keys of every object sorted by their bytes. Plans hold
//! no fractional numbers, so every value has one spelling.
//!
//! The digest is SHA-256 over that line and, as 32 bytes each, the SHA-256 of three pieces of the JSON: up to the value of `resolutions`,
//! that value, and what follows it. The first has the lock in it, the second all packages: of a large plan they take longest to hash, and
//! two threads can do so.

mod sorted;
mod spare;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::LazyLock;

use base64::engine::Simd;
use base64::engine::general_purpose::PAD;
use spare::{SPARE, SPARE_RESOLUTIONS};

use super::{FileEdit, Plan, malformed};
use crate::error::Result;
use crate::resolution::Resolution;

/// Bytes that a package takes, about: nearly a quarter of it is its digest.
const PACKAGE_BYTES_USUAL: usize = 640;

/// Bytes that come before the resolutions beside the files that change, about.
const BEGINNING_BYTES_USUAL: usize = 4096;

/// How the content of files is written: as RFC 4648 has it, with whatever instructions this processor has. A lock may be a megabyte.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// The version line.
pub(super) fn line(plan: &Plan) -> String {
    format!("bolide-plan/{}\n", plan.schema_version)
}

/// The first piece, with these for the files that change.
pub(super) fn begin(plan: &Plan, edits: &[FileEdit]) -> Result<Vec<u8>> {
    whole::begin(room(edits), plan, edits).map_err(|error| malformed(&error))
}

/// The second.
pub(super) fn resolutions(resolutions: &[Resolution]) -> Result<Vec<u8>> {
    let room = SPARE_RESOLUTIONS.take(room_of(resolutions));
    whole::resolutions(room, resolutions).map_err(|error| malformed(&error))
}

/// The third.
pub(super) fn end(plan: &Plan) -> Result<Vec<u8>> {
    whole::end(Vec::new(), plan).map_err(|error| malformed(&error))
}

fn room(edits: &[FileEdit]) -> Vec<u8> {
    let edits: usize = edits.iter().filter_map(|edit| Some(edit.after.as_ref()?.len())).sum();
    SPARE.take(BEGINNING_BYTES_USUAL + edits / 3 * 4)
}

fn room_of(resolutions: &[Resolution]) -> usize {
    let packages: usize = resolutions.iter().map(|one| one.packages.len()).sum();
    (packages + 4) * PACKAGE_BYTES_USUAL
}

/// Takes back the first two pieces, so that those of the next plan are written where they stood.
pub(super) fn give_back(begin: Vec<u8>, resolutions: Vec<u8>) {
    SPARE.give(begin);
    SPARE_RESOLUTIONS.give(resolutions);
}

/// File content in JSON: base64, because a manifest need not be UTF-8.
pub(super) mod base64_bytes {
    use base64::Engine;
    use base64::display::Base64Display;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::BASE64;

    pub(in crate::plan) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            // A lock of a megabyte is written where it belongs, not put together before.
            Some(bytes) => serializer.collect_str(&Base64Display::new(bytes, &*BASE64)),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::plan) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| BASE64.decode(text).map_err(serde::de::Error::custom)).transpose()
    }
}
