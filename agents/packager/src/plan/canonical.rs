//! The canonical bytes of a plan: the same on every machine, whatever order maps and fields have in memory.
//!
//! A line `bolide-plan/1`, then JSON without spaces, the keys of every object sorted by their bytes. Plans hold
//! no fractional numbers, so every value has one spelling.

mod sorted;

use super::{Plan, SCHEMA_VERSION, malformed, too_large};
use crate::error::Result;
use crate::limits::PLAN_BYTES_MAX;

/// Bytes that a package takes, about: nearly a quarter of it is its digest.
const PACKAGE_BYTES_USUAL: usize = 640;

/// See the module.
pub(super) fn bytes(plan: &Plan) -> Result<Vec<u8>> {
    let packages: usize = plan.resolutions.iter().map(|one| one.packages.len()).sum();
    let edits: usize = plan.edits.iter().filter_map(|edit| Some(edit.after.as_ref()?.len())).sum();
    let mut bytes = Vec::with_capacity((packages + 4) * PACKAGE_BYTES_USUAL + edits / 3 * 4);
    bytes.extend_from_slice(format!("bolide-plan/{SCHEMA_VERSION}\n").as_bytes());
    let bytes = sorted::append(bytes, plan).map_err(|error| malformed(&error))?;
    if bytes.len() > PLAN_BYTES_MAX {
        return Err(too_large(bytes.len()));
    }
    Ok(bytes)
}

/// What follows the version line: JSON, by which the plan is read again.
pub(super) fn json(bytes: &[u8]) -> &[u8] {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    line.map_or(bytes, |line| &bytes[line + 1..])
}

/// File content in JSON: base64, because a manifest need not be UTF-8.
pub(super) mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::plan) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::plan) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom)).transpose()
    }
}
