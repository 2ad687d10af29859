//! The canonical bytes of a plan: the same on every machine, whatever order maps and fields have in memory.
//!
//! A line `bolide-plan/1`, then JSON without spaces, the keys of every object sorted by their bytes. Plans hold
//! no fractional numbers, so every value has one spelling.

mod sorted;
mod spare;
#[cfg(test)]
mod tests;
mod whole;

use spare::SPARE;

use super::{Plan, SCHEMA_VERSION, malformed, too_large};
use crate::error::Result;
use crate::limits::PLAN_BYTES_MAX;

/// Bytes that a package takes, about: nearly a quarter of it is its digest.
const PACKAGE_BYTES_USUAL: usize = 640;

/// The version line.
pub(super) fn line() -> String {
    format!("bolide-plan/{SCHEMA_VERSION}\n")
}

/// What follows it: JSON, by which the plan is read again.
pub(super) fn json(plan: &Plan) -> Result<Vec<u8>> {
    let packages: usize = plan.resolutions.iter().map(|one| one.packages.len()).sum();
    let edits: usize = plan.edits.iter().filter_map(|edit| Some(edit.after.as_ref()?.len())).sum();
    let room = SPARE.take((packages + 4) * PACKAGE_BYTES_USUAL + edits / 3 * 4);
    let json = whole::append(room, plan).map_err(|error| malformed(&error))?;
    let bytes = line().len() + json.len();
    if bytes > PLAN_BYTES_MAX {
        return Err(too_large(bytes));
    }
    Ok(json)
}

/// Takes back what [`json`] wrote, so that the next plan is written where this one stood.
pub(super) fn give_back(json: Vec<u8>) {
    SPARE.give(json);
}

/// File content in JSON: base64, because a manifest need not be UTF-8.
pub(super) mod base64_bytes {
    use base64::Engine;
    use base64::display::Base64Display;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::plan) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            // A lock of a megabyte is written where it belongs, not put together before.
            Some(bytes) => serializer.collect_str(&Base64Display::new(bytes, &STANDARD)),
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
