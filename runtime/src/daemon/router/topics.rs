//! Topics: published by one writer, announced to whoever subscribed, joined and left by readers.

use std::collections::BTreeSet;

use ipc::class::Class;
use ipc::control::{CloseCause, FromRouter, Lineage};
use ipc::header::{AgentId, LaneId};
use ipc::topic::is_group;

use super::subject::{check_pattern, check_subject, covers, matches};
use super::{
    Carry, Declared, Effect, Effects, EndedTopic, Ending, Lane, Refusal, Router, Subscription,
    Topic, lane_closed, send,
};
use crate::limits::{
    ENDED_TOPICS_KEPT_MAX, READERS_PER_TOPIC_MAX, SUBSCRIPTIONS_PER_AGENT_MAX, TOPICS_MAX,
    TOPICS_PER_AGENT_MAX,
};

impl<D: Clone> Router<D> {
    pub(super) fn publish(
        &mut self,
        writer: AgentId,
        request: u32,
        declared: Declared,
        segments: D,
        out: &mut Effects<D>,
    ) {
        if let Err((code, message)) = self.may_publish(writer, &declared.subject) {
            return self.refuse(writer, request, code, message, out);
        }
        let Some(lane) = self.new_lane() else {
            let text = "every lane number of this daemon is spent; restart it".to_owned();
            return self.refuse(writer, request, "limit", text, out);
        };
        let Some(agent) = self.agents.get_mut(&writer) else { return };
        agent.topics.insert(lane);
        let writer_name = agent.info.manifest.name.clone();
        self.topics_count += 1;
        let before = self.ended_topics.get(&(writer_name.clone(), declared.subject.clone()));
        let epoch = before.map_or(1, |before| before.epoch.saturating_add(1));
        let follows = before.map(|before| before.lane);
        let first = segments.clone();
        let carry = Carry::Control(segments.clone());
        let (announced_to, readers) = (BTreeSet::new(), BTreeSet::new());
        let topic = Topic {
            writer,
            writer_name,
            declared,
            epoch,
            follows,
            segments,
            announced_to,
            readers,
        };
        self.lanes.insert(lane, Lane::Topic(topic));
        out.push(Effect::LaneOpened { lane, first, second: None });
        let agents: Vec<AgentId> = self.agents.keys().copied().collect();
        for agent in agents {
            self.announce(agent, lane, out);
        }
        // Last, so that the sender of a group knows by then whom to expect.
        let message = FromRouter::Published { request, lane, epoch };
        out.push(Effect::Send { to: writer, message, carry });
    }

    fn may_publish(&self, writer: AgentId, subject: &str) -> Result<(), (&'static str, String)> {
        if self.draining {
            return Err(("draining", "the daemon is stopping; no new topics".to_owned()));
        }
        if let Some(refusal) = self.no_topics(writer) {
            return Err(refusal);
        }
        if let Err(error) = check_subject(subject) {
            return Err(("malformed", format!("`{subject}` cannot be a subject: {error}")));
        }
        let own = self.agents.get(&writer).map(|agent| &agent.topics);
        let is_same = |lane: &LaneId| match self.lanes.get(lane) {
            Some(Lane::Topic(topic)) => topic.declared.subject == subject,
            _ => false,
        };
        // Readers know a writer by its name and epoch; two of one epoch could not be told apart, and the next epoch begins
        // where the one before has ended.
        if own.into_iter().flatten().any(is_same) {
            let text = format!("this agent publishes `{subject}` already; end that topic first");
            return Err(("name-taken", text));
        }
        let own = own.map_or(0, |topics| topics.len());
        if own >= TOPICS_PER_AGENT_MAX || self.topics_count >= TOPICS_MAX {
            let text = format!(
                "an agent writes at most {TOPICS_PER_AGENT_MAX} topics and the bus has at most \
                 {TOPICS_MAX}"
            );
            return Err(("limit", text));
        }
        Ok(())
    }

    /// Why an agent neither writes topics nor reads any: each is one writer's memory that all readers map, so nothing can stand
    /// in for it where that is forbidden.
    pub(super) fn no_topics(&self, agent: AgentId) -> Option<Refusal> {
        let name = &self.agents.get(&agent)?.info.manifest.name;
        let why = if !self.classes.has(Class::Critical) {
            "`bus.classes` does not allow it".to_owned()
        } else {
            let pattern = self.routed.iter().find(|pattern| matches(pattern, name))?;
            format!("`bus.routed` has `{pattern}`, so `{name}` shares no memory with others")
        };
        let text = format!(
            "topics and groups are of class critical, memory that all readers map: {why}; use \
             a log, a work queue or links, or have the configuration changed"
        );
        Some(("no-class", text))
    }

    pub(super) fn subscribe(
        &mut self,
        reader: AgentId,
        request: u32,
        pattern: String,
        out: &mut Effects<D>,
    ) {
        if let Err(error) = check_pattern(&pattern) {
            let text = format!("`{pattern}` cannot be subscribed to: {error}");
            return self.refuse(reader, request, "malformed", text, out);
        }
        if let Some((code, text)) = self.no_topics(reader) {
            return self.refuse(reader, request, code, text, out);
        }
        let held = self.agents.get(&reader).map_or(0, |agent| agent.subscriptions.len());
        if held >= SUBSCRIPTIONS_PER_AGENT_MAX {
            let text = format!("an agent has at most {SUBSCRIPTIONS_PER_AGENT_MAX} subscriptions");
            return self.refuse(reader, request, "limit", text, out);
        }
        send(out, reader, FromRouter::Subscribed { request });
        self.add_subscription(reader, Subscription { request, pattern }, out);
    }

    pub(super) fn add_subscription(
        &mut self,
        reader: AgentId,
        subscription: Subscription,
        out: &mut Effects<D>,
    ) {
        if let Some(agent) = self.agents.get_mut(&reader) {
            agent.subscriptions.push(subscription);
        }
        let topic =
            |(lane, kind): (&LaneId, &Lane<D>)| matches!(kind, Lane::Topic(_)).then_some(*lane);
        let topics: Vec<LaneId> = self.lanes.iter().filter_map(topic).collect();
        for lane in topics {
            self.announce(reader, lane, out);
        }
    }

    /// Tells `reader` of a topic, once, if a pattern of its own matches and the topic is another's.
    fn announce(&mut self, reader: AgentId, lane: LaneId, out: &mut Effects<D>) {
        let Some(Lane::Topic(topic)) = self.lanes.get_mut(&lane) else { return };
        if topic.writer == reader || topic.announced_to.contains(&reader) {
            return;
        }
        let subject = &topic.declared.subject;
        let wanted = |one: &&Subscription| covers(&one.pattern, subject);
        let of_reader = self.agents.get(&reader);
        let found = of_reader.and_then(|agent| agent.subscriptions.iter().find(wanted));
        let Some(request) = found.map(|subscription| subscription.request) else { return };
        let writer = self.agents.get(&topic.writer);
        let Some(from) = writer.map(|agent| agent.info.clone()) else { return };
        let Some(agent) = self.agents.get_mut(&reader) else { return };
        agent.announced.insert(lane);
        topic.announced_to.insert(reader);
        let Declared { subject, policy, terms } = topic.declared.clone();
        if is_group(&subject) {
            send(out, topic.writer, FromRouter::ReaderExpected { lane, reader });
        }
        // Where the reader was before is filled in by whoever has its cursor.
        let lineage = Lineage { epoch: topic.epoch, follows: topic.follows, resume: None };
        let found = FromRouter::TopicFound { request, lane, subject, policy, from, terms, lineage };
        let carry = Carry::Topic(topic.segments.clone());
        out.push(Effect::Send { to: reader, message: found, carry });
    }

    /// Takes a subscription back, and with it the topics that no other one covers. Patterns of a manifest stay.
    pub(super) fn unsubscribe(&mut self, reader: AgentId, request: u32, out: &mut Effects<D>) {
        let Some(agent) = self.agents.get_mut(&reader) else { return };
        agent.subscriptions.retain(|one| one.request != request || request == 0);
        let patterns: Vec<&str> = agent.subscriptions.iter().map(|one| &*one.pattern).collect();
        let is_unwanted = |lane: &LaneId| match self.lanes.get(lane) {
            Some(Lane::Topic(topic)) => {
                !patterns.iter().any(|pattern| covers(pattern, &topic.declared.subject))
            }
            _ => false,
        };
        let unwanted: Vec<LaneId> = agent.announced.iter().copied().filter(is_unwanted).collect();
        for lane in &unwanted {
            agent.announced.remove(lane);
        }
        for lane in unwanted {
            self.forget_reader(lane, reader, out);
        }
    }

    /// The writer has let go of a reader: it reads on without holding anybody back, and hears of it.
    pub(super) fn drop_reader(
        &mut self,
        writer: AgentId,
        lane: LaneId,
        reader: AgentId,
        (why, reason): (CloseCause, &str),
        out: &mut Effects<D>,
    ) {
        let Some(Lane::Topic(topic)) = self.lanes.get(&lane) else { return };
        if topic.writer != writer || !topic.readers.contains(&reader) {
            return;
        }
        self.leave_topic(lane, reader, out);
        let ending = match why {
            CloseCause::Wanted => Ending::Revoked,
            CloseCause::Quarantined => Ending::Quarantined,
        };
        send(out, reader, lane_closed(lane, ending, reason));
    }

    pub(super) fn join_topic(
        &mut self,
        reader: AgentId,
        lane: LaneId,
        segments: D,
        out: &mut Effects<D>,
    ) {
        // A topic that ended a moment ago was ended towards this reader too; one that was never
        // announced to it does not exist as far as it may know.
        let Some(Lane::Topic(topic)) = self.lanes.get_mut(&lane) else { return };
        if !topic.announced_to.contains(&reader) {
            return;
        }
        if topic.readers.contains(&reader) {
            let text = "joined one topic twice without leaving it".to_owned();
            return self.expel(reader, "malformed", text, out);
        }
        if topic.readers.len() >= READERS_PER_TOPIC_MAX {
            let text = format!("the topic already has {READERS_PER_TOPIC_MAX} readers");
            return send(out, reader, lane_closed(lane, Ending::Revoked, &text));
        }
        topic.readers.insert(reader);
        let message = FromRouter::ReaderJoined { lane, reader };
        out.push(Effect::Send { to: topic.writer, message, carry: Carry::Reader(segments) });
    }

    /// A living reader stops reading; it stays informed of the topic's end and may join again.
    pub(super) fn leave_topic(&mut self, lane: LaneId, reader: AgentId, out: &mut Effects<D>) {
        let Some(Lane::Topic(topic)) = self.lanes.get_mut(&lane) else { return };
        if topic.readers.remove(&reader) {
            send(out, topic.writer, FromRouter::ReaderLeft { lane, reader });
        }
    }

    /// A living agent that does not take up a topic that it was told of. The sender of a group need not wait for it; a later
    /// subscription of its own tells it again.
    pub(super) fn decline_topic(&mut self, lane: LaneId, agent: AgentId, out: &mut Effects<D>) {
        let told = self.agents.get_mut(&agent).is_some_and(|told| told.announced.remove(&lane));
        if told {
            self.forget_reader(lane, agent, out);
        }
    }

    /// A reader that is gone, or no longer wants to know.
    pub(super) fn forget_reader(&mut self, lane: LaneId, reader: AgentId, out: &mut Effects<D>) {
        let Some(Lane::Topic(topic)) = self.lanes.get_mut(&lane) else { return };
        topic.announced_to.remove(&reader);
        if is_group(&topic.declared.subject) && !topic.readers.contains(&reader) {
            // It was expected, and is no more.
            return send(out, topic.writer, FromRouter::ReaderLeft { lane, reader });
        }
        self.leave_topic(lane, reader, out);
    }

    /// Ends a topic towards everybody who knows of it. The writer's own set is the caller's to
    /// keep.
    pub(super) fn end_topic(
        &mut self,
        lane: LaneId,
        ending: Ending,
        reason: &str,
        out: &mut Effects<D>,
    ) {
        let Some(Lane::Topic(topic)) = self.lanes.remove(&lane) else { return };
        self.topics_count = self.topics_count.saturating_sub(1);
        self.remember_topic((topic.writer_name, topic.declared.subject), topic.epoch, lane);
        out.push(Effect::LaneEnded { lane, ending });
        for reader in topic.announced_to {
            if let Some(agent) = self.agents.get_mut(&reader) {
                agent.announced.remove(&lane);
            }
            send(out, reader, lane_closed(lane, ending, reason));
        }
    }

    /// Keeps what the next time of this writer and subject needs to know.
    fn remember_topic(&mut self, key: (String, String), epoch: u32, lane: LaneId) {
        self.ended_topics.insert(key, EndedTopic { epoch, lane });
        if self.ended_topics.len() > ENDED_TOPICS_KEPT_MAX {
            let oldest = self.ended_topics.iter().min_by_key(|(_, ended)| ended.lane);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.ended_topics.remove(&oldest);
            }
        }
    }
}
