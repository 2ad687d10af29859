//! A whole plan. What a plan has thousands of, packages, and the one long thing in it, a lock in base64, are written here field by field in
//! the order of their names; everything else by [`sorted`](super::sorted), whose word on the whole is the law that this is tried against.

use base64::Engine;
use serde::ser::Error as _;
use serde_json::Error;

use super::BASE64;
use super::sorted::Sink;
use crate::plan::{FileEdit, Plan};
use crate::resolution::{Artifact, Package, Resolution};

/// Bytes of a file that are encoded at once.
const ENCODED_PART_BYTES: usize = 3072;

/// Appends what comes before the resolutions, with these for the files that change.
pub(super) fn begin(bytes: Vec<u8>, plan: &Plan, edits: &[FileEdit]) -> Result<Vec<u8>, Error> {
    // All of them, so that none is forgotten, here or in what follows.
    let Plan {
        created_at_ms,
        edits: _,
        environments,
        exemptions,
        expires_at_ms,
        is_elsewhere,
        operation,
        preconditions,
        project,
        requested,
        resolutions: _,
        schema_version: _,
        system: _,
    } = plan;
    let mut sink = Sink::new(bytes);
    sink.field("{\"created_at_ms\":", created_at_ms)?;
    sink.put(",\"edits\":");
    list(&mut sink, edits, edit)?;
    sink.field(",\"environments\":", environments)?;
    if !exemptions.is_empty() {
        sink.field(",\"exemptions\":", exemptions)?;
    }
    sink.field(",\"expires_at_ms\":", expires_at_ms)?;
    if *is_elsewhere {
        sink.put(",\"is_elsewhere\":true");
    }
    sink.field(",\"operation\":", operation)?;
    sink.field(",\"preconditions\":", preconditions)?;
    sink.field(",\"project\":", project)?;
    sink.field(",\"requested\":", requested)?;
    sink.put(",\"resolutions\":");
    Ok(sink.into_bytes())
}

/// Appends the resolutions.
pub(super) fn resolutions(bytes: Vec<u8>, resolutions: &[Resolution]) -> Result<Vec<u8>, Error> {
    let mut sink = Sink::new(bytes);
    list(&mut sink, resolutions, resolution)?;
    Ok(sink.into_bytes())
}

/// Appends what follows them.
pub(super) fn end(bytes: Vec<u8>, plan: &Plan) -> Result<Vec<u8>, Error> {
    let mut sink = Sink::new(bytes);
    sink.field(",\"schema_version\":", &plan.schema_version)?;
    if let Some(system) = &plan.system {
        sink.field(",\"system\":", system)?;
    }
    sink.put("}");
    Ok(sink.into_bytes())
}

fn list<T>(
    sink: &mut Sink,
    items: &[T],
    put: impl Fn(&mut Sink, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    sink.put("[");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            sink.put(",");
        }
        put(sink, item)?;
    }
    sink.put("]");
    Ok(())
}

fn edit(sink: &mut Sink, edit: &FileEdit) -> Result<(), Error> {
    let FileEdit { after, before, path } = edit;
    match after {
        Some(after) => {
            sink.put("{\"after\":\"");
            // By parts of whole groups of three, so that what is written stays near.
            let mut room = [0; ENCODED_PART_BYTES / 3 * 4];
            for part in after.chunks(ENCODED_PART_BYTES) {
                let count = BASE64.encode_slice(part, &mut room).map_err(Error::custom)?;
                sink.put_bytes(&room[..count]);
            }
            sink.put("\"");
        }
        None => sink.put("{\"after\":null"),
    }
    sink.field(",\"before\":", before)?;
    sink.field(",\"path\":", path)?;
    sink.put("}");
    Ok(())
}

fn resolution(sink: &mut Sink, resolution: &Resolution) -> Result<(), Error> {
    let Resolution { ecosystem, links, packages, warnings } = resolution;
    sink.field("{\"ecosystem\":", ecosystem)?;
    if !links.is_empty() {
        sink.field(",\"links\":", links)?;
    }
    sink.put(",\"packages\":");
    list(sink, packages, package)?;
    sink.field(",\"warnings\":", warnings)?;
    sink.put("}");
    Ok(())
}

fn package(sink: &mut Sink, package: &Package) -> Result<(), Error> {
    let Package {
        artifact: file,
        bin,
        dependencies,
        direct,
        ecosystem,
        extras,
        license,
        name,
        place,
        published,
        scripts,
        version,
    } = package;
    sink.put("{\"artifact\":");
    artifact(sink, file)?;
    match bin.is_empty() {
        true => sink.put(",\"bin\":{}"),
        false => sink.field(",\"bin\":", bin)?,
    }
    sink.put(",\"dependencies\":");
    list(sink, dependencies, |sink, at| {
        sink.number(*at as u64);
        Ok(())
    })?;
    sink.put(if *direct { ",\"direct\":true" } else { ",\"direct\":false" });
    sink.field(",\"ecosystem\":", ecosystem)?;
    texts(sink, ",\"extras\":", extras)?;
    maybe(sink, ",\"license\":", license.as_deref())?;
    maybe(sink, ",\"name\":", Some(name))?;
    maybe(sink, ",\"place\":", Some(place))?;
    maybe(sink, ",\"published\":", published.as_deref())?;
    texts(sink, ",\"scripts\":", scripts)?;
    maybe(sink, ",\"version\":", Some(version))?;
    sink.put("}");
    Ok(())
}

fn artifact(sink: &mut Sink, artifact: &Artifact) -> Result<(), Error> {
    let Artifact { built, by_address, file_name, hashes, size, source, url } = artifact;
    // What is rare comes first where it is, and brings what is between two fields.
    sink.put("{");
    if let Some(built) = built {
        sink.field("\"built\":", built)?;
        sink.put(",");
    }
    if *by_address {
        sink.put("\"by_address\":true,");
    }
    maybe(sink, "\"file_name\":", Some(file_name))?;
    maybe(sink, ",\"hashes\":{\"sha256\":", hashes.sha256.as_deref())?;
    maybe(sink, ",\"sha512\":", hashes.sha512.as_deref())?;
    match size {
        Some(size) => {
            sink.put("},\"size\":");
            sink.number(*size);
        }
        None => sink.put("},\"size\":null"),
    }
    if let Some(source) = source {
        maybe(sink, ",\"source\":", Some(source))?;
    }
    maybe(sink, ",\"url\":", Some(url))?;
    sink.put("}");
    Ok(())
}

fn texts(sink: &mut Sink, key: &str, texts: &[String]) -> Result<(), Error> {
    sink.put(key);
    list(sink, texts, |sink, text| sink.text(text))
}

fn maybe(sink: &mut Sink, key: &str, text: Option<&str>) -> Result<(), Error> {
    sink.put(key);
    match text {
        Some(text) => sink.text(text),
        None => {
            sink.put("null");
            Ok(())
        }
    }
}
