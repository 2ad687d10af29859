//! What the hub shows: the picture of the directory and the numbers by class, out of the router's
//! view and the lanes' memory.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc::control::TopicPolicy;
use ipc::directory::{AgentEntry, AgentState, ClassEntry, Picture, TopicEntry};
use ipc::header::{AgentId, Class};

use super::Hub;
use crate::daemon::connections::held::Traffic;
use crate::daemon::snapshot::{ClassStatus, HostedState, LatencyStatus};

impl Hub {
    /// What the directory is to show now.
    pub(super) fn picture(&mut self) -> Picture {
        self.lanes.values_mut().for_each(|held| held.refresh());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Picture {
            router: self.board.router(),
            refreshed_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            agents: self.agent_entries(),
            topics: self.topic_entries(),
            lanes: self.lanes.iter().flat_map(|(lane, held)| held.rows(*lane)).collect(),
            classes: self.class_entries(),
            ..Picture::default()
        }
    }

    /// What each class has carried, lanes that ended included, as of the last look.
    pub(super) fn class_entries(&self) -> Vec<ClassEntry> {
        let fresh = |(class, ended): (&Class, &super::Carried)| {
            let entry = ClassEntry { class: *class as u8, ..ClassEntry::default() };
            (*class, (entry, ended.clone()))
        };
        let mut classes: BTreeMap<Class, _> = self.ended.iter().map(fresh).collect();
        for held in self.lanes.values() {
            let class = held.class();
            let (entry, carried) = classes.entry(class).or_default();
            entry.class = class as u8;
            entry.lanes = entry.lanes.saturating_add(held.count() as u32);
            entry.depth = entry.depth.saturating_add(held.depth());
            carried.add(&held.carried());
        }
        let filled = |(entry, carried): (ClassEntry, super::Carried)| ClassEntry {
            messages: carried.messages,
            rejected: carried.rejected,
            lost: carried.lost,
            bytes_lent: carried.bytes_lent,
            waits: carried.waits,
            latency: carried.latency,
            ..entry
        };
        classes.into_values().map(filled).collect()
    }

    /// How often a side of a lane of this class broke the protocol, as of the last look.
    pub(super) fn quarantined(&self, class: Class) -> u64 {
        let open = self.lanes.values().filter(|held| held.class() == class);
        let open = open.map(|held| held.carried().quarantined);
        let ended = self.ended.get(&class).map(|carried| carried.quarantined);
        open.chain(ended).fold(0, u64::saturating_add)
    }

    fn agent_entries(&self) -> Vec<AgentEntry> {
        let mut traffic: BTreeMap<AgentId, Traffic> = self.past.clone();
        for (agent, more) in self.lanes.values().flat_map(|held| held.traffic()) {
            traffic.entry(agent).or_default().add(more);
        }
        let mut entries: Vec<AgentEntry> = Vec::new();
        for view in self.router.agents() {
            let Traffic { sent, received, bytes_lent } =
                traffic.get(&view.info.id).copied().unwrap_or_default();
            entries.push(AgentEntry {
                id: view.info.id,
                pid: view.info.pid,
                uid: view.info.uid,
                state: if view.hosted { AgentState::Up } else { AgentState::Guest },
                name: view.info.manifest.name,
                links: view.links_count as u32,
                topics: view.topics_count as u32,
                subscriptions: view.subscriptions_count as u32,
                sent,
                received,
                bytes_lent,
            });
        }
        let mut absent = Vec::new();
        for hosted in self.facts.hosted.statuses() {
            if entries.iter().any(|entry| entry.name == hosted.name) {
                continue;
            }
            let (pid, state) = (hosted.pid.unwrap_or(0), state_of(hosted.state));
            absent.push(AgentEntry { pid, state, name: hosted.name, ..AgentEntry::default() });
        }
        entries.extend(absent);
        entries
    }

    fn topic_entries(&self) -> Vec<TopicEntry> {
        let entries = self.router.topics().map(|topic| {
            let sent = self.lanes.get(&topic.lane).map(|held| held.sent()).unwrap_or_default();
            TopicEntry {
                lane: topic.lane,
                writer: topic.writer,
                lossless: topic.policy == TopicPolicy::Lossless,
                subject: topic.subject.to_owned(),
                readers: topic.readers_count as u32,
                announced: topic.announced_count as u32,
                messages: sent.messages,
                bytes_lent: sent.bytes_lent,
                rejected: sent.rejected,
                waits: sent.waits,
            }
        });
        entries.collect()
    }
}

/// The numbers of one class as `status` gives them.
pub(super) fn class_status(entry: &ClassEntry, quarantined: u64) -> ClassStatus {
    let latency = &entry.latency;
    ClassStatus {
        lanes: entry.lanes,
        depth: entry.depth,
        messages: entry.messages,
        rejected: entry.rejected,
        lost: entry.lost,
        bytes_lent: entry.bytes_lent,
        waits: entry.waits,
        quarantined,
        latency: LatencyStatus {
            count: latency.count(),
            sum_ns: latency.sum_ns(),
            p50_ns: latency.quantile_ns(0.5),
            p99_ns: latency.quantile_ns(0.99),
            p999_ns: latency.quantile_ns(0.999),
        },
        histogram: latency.clone(),
    }
}

fn state_of(state: HostedState) -> AgentState {
    match state {
        // On the bus for the table, not yet for the router.
        HostedState::Starting | HostedState::Up => AgentState::Starting,
        HostedState::Waiting => AgentState::Waiting,
        HostedState::Failed => AgentState::Failed,
        HostedState::Stopped => AgentState::Stopped,
    }
}
