//! Manifests, agents and reports as fields: blocks that a later minor version may extend.

use super::codec::{DecodeError, EncodeError};
use super::fields::{Reader, Writer};
use super::{AgentInfo, Report};
use crate::header::AgentId;
use crate::limits::{LIST_ENTRIES_MAX, MANIFEST_BYTES_MAX};
use crate::manifest::AgentManifest;

pub(super) fn write_manifest(
    out: &mut Writer,
    manifest: &AgentManifest,
) -> Result<(), EncodeError> {
    out.word("name", &manifest.name)?;
    out.word("version", &manifest.version)?;
    out.word("category", &manifest.category)?;
    out.u8(manifest.priority);
    out.list("capabilities", &manifest.capabilities)?;
    out.list("tools", &manifest.tools)?;
    out.list("subscriptions", &manifest.subscriptions)?;
    out.list("tags", &manifest.tags)?;
    debug_assert!(out.len() <= MANIFEST_BYTES_MAX);
    Ok(())
}

pub(super) fn read_manifest(fields: &mut Reader<'_>) -> Result<AgentManifest, DecodeError> {
    Ok(AgentManifest {
        name: fields.word("name")?,
        version: fields.word("version")?,
        category: fields.word("category")?,
        priority: fields.u8("priority")?,
        capabilities: fields.list("capabilities")?,
        tools: fields.list("tools")?,
        subscriptions: fields.list("subscriptions")?,
        tags: fields.list("tags")?,
    })
}

pub(super) fn write_agent(out: &mut Writer, agent: &AgentInfo) -> Result<(), EncodeError> {
    out.extensible("agent", |out| {
        out.u32(agent.id.0);
        out.u32(agent.pid);
        out.u32(agent.uid);
        out.extensible("manifest", |out| write_manifest(out, &agent.manifest))
    })
}

pub(super) fn read_agent(fields: &mut Reader<'_>) -> Result<AgentInfo, DecodeError> {
    let mut fields = fields.extensible("agent")?;
    Ok(AgentInfo {
        id: AgentId(fields.u32("agent")?),
        pid: fields.u32("pid")?,
        uid: fields.u32("uid")?,
        manifest: read_manifest(&mut fields.extensible("manifest")?)?,
    })
}

pub(super) fn write_report(out: &mut Writer, report: &Report) -> Result<(), EncodeError> {
    let (got, max) = (report.errors.len(), LIST_ENTRIES_MAX);
    if got > max {
        return Err(EncodeError::TooLong { field: "errors", got, max });
    }
    let Report { started, done, failed, cancelled, panicked, errors } = report;
    for count in [started, done, failed, cancelled, panicked] {
        out.u64(*count);
    }
    out.u16(got as u16);
    errors.iter().try_for_each(|(kind, count)| {
        out.u64(*count);
        out.word("errors", kind)
    })
}

pub(super) fn read_report(fields: &mut Reader<'_>) -> Result<Report, DecodeError> {
    let mut report = Report {
        started: fields.u64("started")?,
        done: fields.u64("done")?,
        failed: fields.u64("failed")?,
        cancelled: fields.u64("cancelled")?,
        panicked: fields.u64("panicked")?,
        errors: Vec::new(),
    };
    let (got, max) = (usize::from(fields.u16("errors")?), LIST_ENTRIES_MAX);
    if got > max {
        return Err(DecodeError::TooLong { field: "errors", got, max });
    }
    for _ in 0..got {
        let count = fields.u64("errors")?;
        report.errors.push((fields.word("errors")?, count));
    }
    Ok(report)
}
