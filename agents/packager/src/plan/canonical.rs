//! The canonical bytes of a plan: the same on every machine, whatever order maps and fields have in memory.
//!
//! A line `bolide-plan/1`, then JSON without spaces, the keys of every object sorted by their bytes. Plans hold
//! no fractional numbers, so every value has one spelling.

mod sorted;
mod spare;
#[cfg(test)]
mod tests;
mod whole;

use spare::{SPARE, SPARE_RESOLUTIONS};

use super::{FileEdit, Plan, SCHEMA_VERSION, malformed, too_large};
use crate::error::Result;
use crate::limits::PLAN_BYTES_MAX;
use crate::resolution::Resolution;

/// Bytes that a package takes, about: nearly a quarter of it is its digest.
const PACKAGE_BYTES_USUAL: usize = 640;

/// The version line.
pub(super) fn line() -> String {
    format!("bolide-plan/{SCHEMA_VERSION}\n")
}

/// What follows it: JSON, by which the plan is read again.
pub(super) fn json(plan: &Plan) -> Result<Vec<u8>> {
    let json = whole::append(room(plan, &plan.edits), plan).map_err(|error| malformed(&error))?;
    check_size(json)
}

/// The same up to the resolutions, with these for the files that change.
pub(super) fn begin(plan: &Plan, edits: &[FileEdit]) -> Result<Vec<u8>> {
    whole::begin(room(plan, edits), plan, edits).map_err(|error| malformed(&error))
}

/// The resolutions, which stand between what [`begin`] and what [`end`] write.
pub(super) fn resolutions(resolutions: &[Resolution]) -> Result<Vec<u8>> {
    let room = SPARE_RESOLUTIONS.take(room_of(resolutions));
    whole::resolutions(room, resolutions).map_err(|error| malformed(&error))
}

/// Puts the resolutions behind what comes before them, and the rest behind those.
pub(super) fn end(mut json: Vec<u8>, resolutions: Vec<u8>, plan: &Plan) -> Result<Vec<u8>> {
    json.extend_from_slice(&resolutions);
    SPARE_RESOLUTIONS.give(resolutions);
    check_size(whole::end(json, plan).map_err(|error| malformed(&error))?)
}

fn check_size(json: Vec<u8>) -> Result<Vec<u8>> {
    let bytes = line().len() + json.len();
    if bytes > PLAN_BYTES_MAX {
        return Err(too_large(bytes));
    }
    Ok(json)
}

fn room(plan: &Plan, edits: &[FileEdit]) -> Vec<u8> {
    let edits: usize = edits.iter().filter_map(|edit| Some(edit.after.as_ref()?.len())).sum();
    SPARE.take(room_of(&plan.resolutions) + edits / 3 * 4)
}

fn room_of(resolutions: &[Resolution]) -> usize {
    let packages: usize = resolutions.iter().map(|one| one.packages.len()).sum();
    (packages + 4) * PACKAGE_BYTES_USUAL
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
