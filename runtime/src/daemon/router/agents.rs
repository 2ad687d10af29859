//! Registration and discovery: who may come in under which name, and who answers to a word.

use std::collections::BTreeSet;

use ipc::control::{AgentInfo, FromRouter};
use ipc::header::AgentId;
use ipc::limits::{AGENTS_PER_PACKET_MAX, MANIFEST_LIMITS};
use ipc::manifest::AgentManifest;

use super::subject::{check_pattern, check_subject};
use super::{Agent, Effect, Effects, Newcomer, Router, Subscription, send};
use crate::limits::{AGENTS_MAX, AGENTS_PACKET_BYTES_MAX, SUBSCRIPTIONS_PER_AGENT_MAX};

/// What a target word leads to.
pub(super) enum Found {
    Agent(AgentId),
    /// A hosted agent that is not on the bus at the moment.
    Starting(String),
    Nobody,
}

impl<D: Clone> Router<D> {
    pub(super) fn hello(&mut self, newcomer: Newcomer, out: &mut Effects<D>) {
        let Newcomer { agent, pid, uid, hosted_as, version, manifest } = newcomer;
        if self.agents.contains_key(&agent) {
            let reason = "a second `Hello` on one connection".to_owned();
            return self.expel(agent, "malformed", reason, out);
        }
        if let Err((code, message)) = self.may_enter(&manifest, hosted_as.as_deref()) {
            return self.expel(agent, code, message, out);
        }
        let name = manifest.name.clone();
        let hosted = hosted_as.is_some();
        if let Some(tools) = self.reserved.get_mut(&name) {
            tools.clone_from(&manifest.tools);
        }
        let limits = self.limits.of(&name, &manifest.limits);
        let patterns = manifest.subscriptions.clone();
        let info = AgentInfo { id: agent, pid, uid, manifest };
        self.names.insert(name, agent);
        self.agents.insert(
            agent,
            Agent {
                info: info.clone(),
                hosted,
                version,
                limits,
                links: BTreeSet::new(),
                offers_count: 0,
                topics: BTreeSet::new(),
                announced: BTreeSet::new(),
                subscriptions: Vec::new(),
            },
        );
        let (instance, classes) = (self.instance, self.classes);
        send(out, agent, FromRouter::Welcome { version, agent, instance, classes });
        out.push(Effect::Arrived { info, hosted });
        if !patterns.is_empty()
            && let Some((code, _)) = self.no_topics(agent)
        {
            // It is on the bus for what else it does; whoever asks to subscribe is told why.
            return self.count_refusal(code);
        }
        for pattern in patterns {
            self.add_subscription(agent, Subscription { request: 0, pattern }, out);
        }
    }

    /// Whether a manifest may come in; otherwise the code and the words of the refusal.
    fn may_enter(
        &self,
        manifest: &AgentManifest,
        hosted_as: Option<&str>,
    ) -> Result<(), (&'static str, String)> {
        let name = &manifest.name;
        if self.draining {
            let text = "the daemon is stopping; try again when it is back".to_owned();
            return Err(("draining", text));
        }
        if let Err(error) = check_subject(name) {
            return Err(("malformed", format!("`{name}` cannot be an agent's name: {error}")));
        }
        if let Some(wrong) = manifest.subscriptions.iter().find(|one| check_pattern(one).is_err()) {
            return Err(("malformed", format!("`{wrong}` cannot be subscribed to")));
        }
        if manifest.subscriptions.len() > SUBSCRIPTIONS_PER_AGENT_MAX {
            let text = format!("an agent has at most {SUBSCRIPTIONS_PER_AGENT_MAX} subscriptions");
            return Err(("limit", text));
        }
        if hosted_as.is_some_and(|hosted| hosted != name) {
            let text = format!("this process was started as another agent than `{name}`");
            return Err(("unauthorized", text));
        }
        if hosted_as.is_none() && self.reserved.contains_key(name) {
            let text = format!("the name `{name}` is kept for the agent that the daemon hosts");
            return Err(("unauthorized", text));
        }
        if let Some(holder) = self.names.get(name).and_then(|id| self.agents.get(id)) {
            let text = format!("process {} is already `{name}`", holder.info.pid);
            return Err(("name-taken", text));
        }
        if self.agents.len() >= AGENTS_MAX {
            let text = format!("limit `agents`: the bus already has {AGENTS_MAX}");
            return Err(("limit:agents", text));
        }
        Ok(())
    }

    pub(super) fn list_agents(
        &self,
        asker: AgentId,
        request: u32,
        filter: &str,
        out: &mut Effects<D>,
    ) {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for agent in self.agents.values().filter(|agent| is_called(&agent.info, filter)) {
            let bytes = encoded_bytes(&agent.info);
            let full = batch_bytes + bytes > AGENTS_PACKET_BYTES_MAX
                || batch.len() >= AGENTS_PER_PACKET_MAX;
            if full && !batch.is_empty() {
                let agents = std::mem::take(&mut batch);
                send(out, asker, FromRouter::Agents { request, more: true, agents });
                batch_bytes = 0;
            }
            batch_bytes += bytes;
            batch.push(agent.info.clone());
        }
        send(out, asker, FromRouter::Agents { request, more: false, agents: batch });
    }

    /// Who answers to `target`: the agent of that name, else among those with such a tool a hosted
    /// one, else the one with the highest priority, else the one that came first.
    pub(super) fn find(&self, asker: AgentId, target: &str) -> Found {
        if let Some(id) = self.names.get(target) {
            return Found::Agent(*id);
        }
        let candidates = self.agents.values().filter(|agent| {
            agent.info.id != asker && agent.info.manifest.tools.iter().any(|tool| tool == target)
        });
        let best = candidates.max_by_key(|agent| {
            (agent.hosted, agent.info.manifest.priority, std::cmp::Reverse(agent.info.id))
        });
        let absent = || {
            let answers = |(name, tools): &(&String, &Vec<String>)| {
                name.as_str() == target || tools.iter().any(|tool| tool == target)
            };
            self.reserved.iter().find(answers).map(|(name, _)| name.clone())
        };
        match best {
            Some(agent) if agent.hosted => Found::Agent(agent.info.id),
            best => match (absent(), best) {
                (Some(name), _) => Found::Starting(name),
                (None, Some(agent)) => Found::Agent(agent.info.id),
                (None, None) => Found::Nobody,
            },
        }
    }
}

fn is_called(info: &AgentInfo, filter: &str) -> bool {
    let manifest = &info.manifest;
    filter.is_empty()
        || manifest.name == filter
        || manifest.tools.iter().any(|tool| tool == filter)
        || manifest.capabilities.iter().any(|capability| capability == filter)
        || manifest.tags.iter().any(|tag| tag == filter)
}

/// An upper bound of what an agent takes in a packet: eight bytes of frame for each string and
/// list.
fn encoded_bytes(info: &AgentInfo) -> usize {
    let manifest = &info.manifest;
    let lists = [&manifest.capabilities, &manifest.tools, &manifest.subscriptions, &manifest.tags];
    let listed = lists.into_iter().flatten().map(|word| word.len() + 8).sum::<usize>();
    let plain = [&manifest.name, &manifest.version, &manifest.category];
    let plain = plain.into_iter().map(|word| word.len() + 8).sum::<usize>();
    64 + MANIFEST_LIMITS * 9 + listed + plain
}
