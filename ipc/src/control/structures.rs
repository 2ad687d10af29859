//! Manifests, agents, reports and what is said of topics, as fields: blocks that a later minor version may extend.

use super::codec::{DecodeError, EncodeError};
use super::fields::{Reader, Writer};
use super::{AgentInfo, Lineage, Report, SlowReaders, TopicTerms, WorkReport};
use crate::header::{AgentId, LaneId};
use crate::limits::{LIST_ENTRIES_MAX, MANIFEST_BYTES_MAX, PATIENCE_MS_MAX, TEXT_BYTES_MAX};
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
    let Report { started, done, failed, cancelled, panicked, errors, work } = report;
    for count in [started, done, failed, cancelled, panicked] {
        out.u64(*count);
    }
    out.u16(got as u16);
    errors.iter().try_for_each(|(kind, count)| {
        out.u64(*count);
        out.word("errors", kind)
    })?;
    let WorkReport { running, cpus, waiting, deferred, deferred_ns } = work;
    running.iter().chain(waiting).for_each(|count| out.u32(*count));
    deferred.iter().chain(deferred_ns).for_each(|count| out.u64(*count));
    cpus.iter().try_for_each(|cpus| out.block("cpus", cpus.as_bytes(), TEXT_BYTES_MAX))
}

pub(super) fn read_report(fields: &mut Reader<'_>) -> Result<Report, DecodeError> {
    let mut report = Report {
        started: fields.u64("started")?,
        done: fields.u64("done")?,
        failed: fields.u64("failed")?,
        cancelled: fields.u64("cancelled")?,
        panicked: fields.u64("panicked")?,
        errors: Vec::new(),
        work: WorkReport::default(),
    };
    let (got, max) = (usize::from(fields.u16("errors")?), LIST_ENTRIES_MAX);
    if got > max {
        return Err(DecodeError::TooLong { field: "errors", got, max });
    }
    for _ in 0..got {
        let count = fields.u64("errors")?;
        report.errors.push((fields.word("errors")?, count));
    }
    if !fields.is_empty() {
        report.work = read_work(fields)?;
    }
    Ok(report)
}

fn read_work(fields: &mut Reader<'_>) -> Result<WorkReport, DecodeError> {
    let mut work = WorkReport::default();
    for count in work.running.iter_mut().chain(&mut work.waiting) {
        *count = fields.u32("work")?;
    }
    for count in work.deferred.iter_mut().chain(&mut work.deferred_ns) {
        *count = fields.u64("work")?;
    }
    for cpus in &mut work.cpus {
        *cpus = fields.text("cpus", TEXT_BYTES_MAX)?;
    }
    Ok(work)
}

pub(super) fn write_topic_terms(out: &mut Writer, terms: TopicTerms) {
    let (kind, patience_ms) = match terms.slow {
        SlowReaders::Wait => (0, 0),
        SlowReaders::LetGo { patience_ms } => (1, patience_ms),
    };
    out.u32(terms.history);
    out.u8(kind);
    out.u32(patience_ms);
}

/// What an old peer does not say is nothing.
pub(super) fn read_topic_terms(fields: &mut Reader<'_>) -> Result<TopicTerms, DecodeError> {
    if fields.is_empty() {
        return Ok(TopicTerms::default());
    }
    let history = fields.u32("history")?;
    let (kind, patience_ms) = (fields.u8("slow readers")?, fields.u32("patience")?);
    let slow = match kind {
        0 => SlowReaders::Wait,
        1 if patience_ms <= PATIENCE_MS_MAX => SlowReaders::LetGo { patience_ms },
        1 => return Err(DecodeError::Value { field: "patience", got: patience_ms.into() }),
        _ => return Err(DecodeError::Value { field: "slow readers", got: kind.into() }),
    };
    Ok(TopicTerms { history, slow })
}

pub(super) fn write_lineage(out: &mut Writer, lineage: Lineage) {
    out.u32(lineage.epoch);
    out.u32(lineage.follows.map_or(0, |lane| lane.0));
    // One more, so that 0 is none; no writer gets to the last position.
    out.u64(lineage.resume.map_or(0, |position| position.saturating_add(1)));
}

/// What an old peer does not say is nothing.
pub(super) fn read_lineage(fields: &mut Reader<'_>) -> Result<Lineage, DecodeError> {
    if fields.is_empty() {
        return Ok(Lineage::default());
    }
    let epoch = fields.u32("epoch")?;
    let follows = Some(LaneId(fields.u32("follows")?)).filter(|lane| lane.0 != 0);
    let resume = fields.u64("resume")?.checked_sub(1);
    Ok(Lineage { epoch, follows, resume })
}
