//! From an answer to the flat form that is kept, without a value for each version in between: of a package's hundreds of versions one is
//! taken, and most need what the one beside them does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ipc::archive::ArchiveError;
use url::Url;

use super::integrity::Digests;
use super::{RawPackument, RawVersion, Tables, Versions, in_order, own_name};
use crate::metadata::npm::{Digest, Line, Packer, Version};

/// Why there is no flat form.
#[derive(Debug)]
pub(crate) enum NotPacked {
    Unreadable(serde_json::Error),
    TooLarge,
}

/// The name that a packument has for itself, and the flat form of all of it: byte for byte that of what [`super::parse`] gives.
pub(crate) fn pack(bytes: &[u8], name: &str, registry: &Url) -> Result<(String, Bytes), NotPacked> {
    let raw = RawPackument::read(bytes).map_err(NotPacked::Unreadable)?;
    let own = own_name(raw.name, name);
    let packed =
        pack_all(raw.versions, raw.time.sorted(), (&own, &raw.dist_tags.0), (name, registry));
    packed.map(|packed| (own, packed)).map_err(|_| NotPacked::TooLarge)
}

fn pack_all<'de>(
    versions: Versions<'de>,
    times: Vec<(Cow<'de, str>, Cow<'de, str>)>,
    (own, tags): (&str, &BTreeMap<String, String>),
    (name, registry): (&str, &Url),
) -> Result<Bytes, ArchiveError> {
    let mut packer = Packer::new(own, tags);
    let mut before: Option<(Rc<Tables<'_>>, Option<Version>)> = None;
    for (text, raw, published) in in_order(versions, &times) {
        let is_same =
            |(before, _): &(Rc<_>, _)| Rc::ptr_eq(before, &raw.tables) || *before == raw.tables;
        let known = before.take().filter(is_same);
        let is_known = known.is_some();
        let describe = || raw.tables.describe(&text, name, &raw.deprecated);
        let tables = known.map_or_else(describe, |(_, tables)| tables);
        let of = (&*text, published, registry);
        if add(&mut packer, &raw, of, (tables.as_ref(), is_known))? {
            before = Some((raw.tables, tables));
        }
    }
    packer.finish()
}

/// Adds a version, unless there is none: nobody has its archive, or it needs more than anybody has.
fn add(
    packer: &mut Packer<'_>,
    raw: &RawVersion<'_>,
    (text, published, registry): (&str, Option<&str>, &Url),
    (tables, is_known): (Option<&Version>, bool),
) -> Result<bool, ArchiveError> {
    let (Some(tables), Some(tarball)) = (tables, raw.dist.address(registry)) else {
        return Ok(false);
    };
    let digests = Digests::of(raw.dist.integrity.as_deref().unwrap_or_default());
    let line = Line {
        text,
        deprecated: raw.deprecated.0.as_deref(),
        published,
        tarball: &tarball,
        sha512: digests.sha512.as_ref().map(|digest| Digest::Bytes(digest)),
        sha256: digests.sha256.as_ref().map(|digest| Digest::Bytes(digest)),
        unpacked_size: raw.dist.unpacked_size,
    };
    packer.add(&line, tables, is_known).map(|()| true)
}
