//! The canonical bytes of a plan: the same on every machine, whatever order maps and fields have in memory.
//!
//! A line `bolide-plan/1`, then JSON without spaces, the keys of every object sorted by their bytes. Plans hold
//! no fractional numbers, so every value has one spelling.

use serde_json::Value;

use super::{Plan, SCHEMA_VERSION, malformed, too_large};
use crate::error::Result;
use crate::limits::PLAN_BYTES_MAX;

/// See the module.
pub(super) fn bytes(plan: &Plan) -> Result<Vec<u8>> {
    let value = serde_json::to_value(plan).map_err(|error| malformed(&error))?;
    let mut bytes = format!("bolide-plan/{SCHEMA_VERSION}\n").into_bytes();
    write(&value, &mut bytes);
    if bytes.len() > PLAN_BYTES_MAX {
        return Err(too_large(bytes.len()));
    }
    Ok(bytes)
}

/// Recursion is as deep as the types of a plan, not as deep as some input.
fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
            bytes.push(b'{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_text(key, bytes);
                bytes.push(b':');
                write(value, bytes);
            }
            bytes.push(b'}');
        }
        Value::Array(values) => {
            bytes.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write(value, bytes);
            }
            bytes.push(b']');
        }
        Value::String(text) => write_text(text, bytes),
        other => bytes.extend_from_slice(other.to_string().as_bytes()),
    }
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    // A text always serialises, and a vector takes everything.
    let _ = serde_json::to_writer(bytes, text);
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
