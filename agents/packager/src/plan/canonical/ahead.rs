//! The plan itself, entry by entry, where the packages of it may be written already: they are most of the bytes, and known before
//! everything else is.

use std::collections::BTreeMap;

use serde_json::Error;

use super::sorted::{self, Open};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::plan::{Plan, malformed};
use crate::resolution::Resolution;

/// Resolutions in their canonical form, by ecosystem. Who has them must give them to the plan with these resolutions and no others.
#[derive(Debug, Default)]
pub(crate) struct Written(BTreeMap<Ecosystem, Vec<u8>>);

impl Written {
    /// Writes some.
    pub(crate) fn of<'r>(resolutions: impl Iterator<Item = &'r Resolution>) -> Result<Self> {
        let write = |one: &Resolution| {
            let bytes = Vec::with_capacity((one.packages.len() + 1) * super::PACKAGE_BYTES_USUAL);
            let bytes = sorted::append(bytes, one).map_err(|error| malformed(&error))?;
            Ok((one.ecosystem, bytes))
        };
        resolutions.map(write).collect::<Result<_>>().map(Self)
    }

    fn get(&self, resolution: &Resolution) -> Option<&[u8]> {
        self.0.get(&resolution.ecosystem).map(Vec::as_slice)
    }
}

/// The entries of a plan in the order of their names, as its declaration says which there are.
pub(super) fn entries(
    open: &mut Open<'_>,
    plan: &Plan,
    written: &Written,
) -> std::result::Result<(), Error> {
    let Plan {
        created_at_ms,
        edits,
        environments,
        exemptions,
        expires_at_ms,
        is_elsewhere,
        operation,
        preconditions,
        project,
        requested,
        resolutions,
        schema_version,
        system,
    } = plan;
    open.field("created_at_ms", created_at_ms)?;
    open.field("edits", edits)?;
    open.field("environments", environments)?;
    if !exemptions.is_empty() {
        open.field("exemptions", exemptions)?;
    }
    open.field("expires_at_ms", expires_at_ms)?;
    if *is_elsewhere {
        open.field("is_elsewhere", is_elsewhere)?;
    }
    open.field("operation", operation)?;
    open.field("preconditions", preconditions)?;
    open.field("project", project)?;
    open.field("requested", requested)?;
    open.list("resolutions", resolutions, |one| written.get(one))?;
    open.field("schema_version", schema_version)?;
    if system.is_some() {
        open.field("system", system)?;
    }
    Ok(())
}
