//! What the router shows of its lanes, for status, metrics and the directory. Changes nothing.

use ipc::control::TopicPolicy;
use ipc::header::{AgentId, LaneId};

use super::{Lane, Router};

/// A topic as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicView<'a> {
    /// Its lane.
    pub(crate) lane: LaneId,
    /// Who writes it.
    pub(crate) writer: AgentId,
    /// What it is about.
    pub(crate) subject: &'a str,
    /// What happens to slow readers.
    pub(crate) policy: TopicPolicy,
    /// How many read it.
    pub(crate) readers_count: usize,
    /// How many know of it.
    pub(crate) announced_count: usize,
}

impl<D> Router<D> {
    /// Every topic, by lane.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicView<'_>> {
        self.lanes.iter().filter_map(|(lane, kind)| match kind {
            Lane::Topic(topic) => Some(TopicView {
                lane: *lane,
                writer: topic.writer,
                subject: &topic.declared.subject,
                policy: topic.declared.policy,
                readers_count: topic.readers.len(),
                announced_count: topic.announced_to.len(),
            }),
            Lane::Offer(_) | Lane::Link(_) => None,
        })
    }

    /// Who writes an open lane: opener and acceptor of a link, the writer of a topic.
    pub(crate) fn writers(&self, lane: LaneId) -> Option<(AgentId, Option<AgentId>)> {
        match self.lanes.get(&lane)? {
            Lane::Offer(_) => None,
            Lane::Link(link) => Some((link.opener, Some(link.acceptor))),
            Lane::Topic(topic) => Some((topic.writer, None)),
        }
    }

    /// What the agent is called.
    pub(crate) fn name_of(&self, agent: AgentId) -> Option<&str> {
        self.agents.get(&agent).map(|agent| agent.info.manifest.name.as_str())
    }

    /// How often the writer of a topic has published its subject.
    pub(crate) fn epoch_of(&self, lane: LaneId) -> Option<u32> {
        match self.lanes.get(&lane)? {
            Lane::Topic(topic) => Some(topic.epoch),
            Lane::Offer(_) | Lane::Link(_) => None,
        }
    }
}
