//! Manifests, agents, reports and what is said of topics, as fields: blocks that a later minor version may extend.

use super::codec::{DecodeError, EncodeError};
use super::fields::{Reader, Writer};
use super::{AgentInfo, Figure, Lineage, Report, SlowReaders, TopicTerms, WorkReport};
use crate::header::{AgentId, LaneId};
use crate::limits::{
    LIST_ENTRIES_MAX, MANIFEST_BYTES_MAX, PATIENCE_MS_MAX, REPORT_FACTS_MAX, REPORT_FIGURES_MAX,
    TEXT_BYTES_MAX,
};
use crate::manifest::{AgentManifest, OwnLimits};

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
    write_limits(out, &manifest.limits);
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
        limits: read_limits(fields)?,
    })
}

/// A number for each that is named, and its value.
fn write_limits(out: &mut Writer, limits: &OwnLimits) {
    let OwnLimits { links, bytes, descriptors, messages, passed } = *limits;
    let named = [links, bytes, descriptors, messages, passed];
    out.u8(named.iter().flatten().count() as u8);
    for (number, value) in (1..).zip(named) {
        if let Some(value) = value {
            out.u8(number);
            out.u64(value);
        }
    }
}

/// What an old agent does not say is nothing; what a newer one names beside these is passed over.
fn read_limits(fields: &mut Reader<'_>) -> Result<OwnLimits, DecodeError> {
    let mut limits = OwnLimits::default();
    let count = if fields.is_empty() { 0 } else { fields.u8("limits")? };
    for _ in 0..count {
        let (number, value) = (fields.u8("limits")?, fields.u64("limits")?);
        let limit = match number {
            1 => &mut limits.links,
            2 => &mut limits.bytes,
            3 => &mut limits.descriptors,
            4 => &mut limits.messages,
            5 => &mut limits.passed,
            _ => continue,
        };
        // Of one that is named twice the tighter counts.
        *limit = Some(limit.map_or(value, |before| before.min(value)));
    }
    Ok(limits)
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
    let Report { started, done, failed, cancelled, panicked, errors, facts, work, figures } =
        report;
    for count in [started, done, failed, cancelled, panicked] {
        out.u64(*count);
    }
    out.u16(got as u16);
    errors.iter().try_for_each(|(kind, count)| {
        out.u64(*count);
        out.word("errors", kind)
    })?;
    let (got, max) = (facts.len(), REPORT_FACTS_MAX);
    if got > max {
        return Err(EncodeError::TooLong { field: "facts", got, max });
    }
    out.u16(got as u16);
    facts.iter().try_for_each(|(name, text)| {
        out.word("facts", name)?;
        out.block("facts", text.as_bytes(), TEXT_BYTES_MAX)
    })?;
    let WorkReport { running, cpus, waiting, deferred, deferred_ns } = work;
    running.iter().chain(waiting).for_each(|count| out.u32(*count));
    deferred.iter().chain(deferred_ns).for_each(|count| out.u64(*count));
    cpus.iter().try_for_each(|cpus| out.block("cpus", cpus.as_bytes(), TEXT_BYTES_MAX))?;
    let (got, max) = (figures.len(), REPORT_FIGURES_MAX);
    if got > max {
        return Err(EncodeError::TooLong { field: "figures", got, max });
    }
    out.u16(got as u16);
    figures.iter().try_for_each(|figure| {
        out.word("figures", &figure.name)?;
        out.word("figures", &figure.label)?;
        out.u64(figure.value);
        Ok(())
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
        facts: Vec::new(),
        work: WorkReport::default(),
        figures: Vec::new(),
    };
    let (got, max) = (usize::from(fields.u16("errors")?), LIST_ENTRIES_MAX);
    if got > max {
        return Err(DecodeError::TooLong { field: "errors", got, max });
    }
    for _ in 0..got {
        let count = fields.u64("errors")?;
        report.errors.push((fields.word("errors")?, count));
    }
    // What an old agent does not say is nothing.
    let got = if fields.is_empty() { 0 } else { usize::from(fields.u16("facts")?) };
    if got > REPORT_FACTS_MAX {
        return Err(DecodeError::TooLong { field: "facts", got, max: REPORT_FACTS_MAX });
    }
    for _ in 0..got {
        report.facts.push((fields.word("facts")?, fields.text("facts", TEXT_BYTES_MAX)?));
    }
    if !fields.is_empty() {
        report.work = read_work(fields)?;
    }
    let got = if fields.is_empty() { 0 } else { usize::from(fields.u16("figures")?) };
    if got > REPORT_FIGURES_MAX {
        return Err(DecodeError::TooLong { field: "figures", got, max: REPORT_FIGURES_MAX });
    }
    for _ in 0..got {
        let (name, label) = (fields.word("figures")?, fields.word("figures")?);
        report.figures.push(Figure { name, label, value: fields.u64("figures")? });
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

/// At the end of a message with terms of a topic: where later versions put what they add to those, which cannot grow
/// themselves. Nothing so far.
pub(super) fn write_more_topic_terms(out: &mut Writer) -> Result<(), EncodeError> {
    out.extensible("more topic terms", |_| Ok(()))
}

/// Messages of before 1.3 end before it; what a later version put there is skipped.
pub(super) fn read_more_topic_terms(fields: &mut Reader<'_>) -> Result<(), DecodeError> {
    if !fields.is_empty() {
        fields.extensible("more topic terms")?;
    }
    Ok(())
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
