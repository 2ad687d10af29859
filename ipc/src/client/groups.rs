//! Groups: a message for every member, or for one of them.
//!
//! A group is a name. Whoever joins it is a member until it leaves or dies; whoever sends to it has a topic of its own that
//! the router tells every member of, and tells the sender which members it has told. So a sender knows whom to wait for, and a
//! message goes to every member of the time at which it was sent. Not here: how it is carried (`topic`, `lane`).

use std::time::Instant;

use super::{Client, ClientError};
use crate::header::AgentId;
use crate::topic::{BROADCAST, Group, Reached, TopicOptions, group_subject};

impl Client {
    /// Becomes a member of a group. Senders, present and future, come as [`Event::TopicFound`](super::Event::TopicFound);
    /// each is to be joined, for they wait for it. Gives the number by which to [leave](Client::unsubscribe).
    pub fn join_group(&mut self, name: &str) -> Result<u32, ClientError> {
        self.subscribe(&group_subject(name))
    }

    /// Wants what is sent to everybody, as [`Client::join_group`].
    pub fn join_broadcast(&mut self) -> Result<u32, ClientError> {
        self.subscribe(BROADCAST)
    }

    /// A way to send to a group. Several agents may have one each.
    pub fn group(&mut self, name: &str, options: TopicOptions) -> Result<Group, ClientError> {
        Ok(Group::new(self.publisher(&group_subject(name), options)?))
    }

    /// A way to send to everybody who listens to that.
    pub fn broadcast(&mut self, options: TopicOptions) -> Result<Group, ClientError> {
        Ok(Group::new(self.publisher(BROADCAST, options)?))
    }

    /// Asks the router for all members, and waits until they can be reached: whoever had joined before this was called is
    /// one. Who does not take the topic up until the deadline is missing, and is not waited for again.
    pub fn settle(&mut self, group: &mut Group, deadline: Instant) -> Result<Reached, ClientError> {
        // The answer comes after everything that the router had told this agent before.
        self.agents(group.publisher.subject())?;
        self.wait_for_members(group, deadline)
    }

    /// Sends to every member that the router has told of by now. Waits until they can be reached, and for room, until the
    /// deadline.
    pub fn send_to_group(
        &mut self,
        group: &mut Group,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<Reached, ClientError> {
        self.wait_for_members(group, deadline)?;
        self.publish(&mut group.publisher, payload, deadline)?;
        Ok(group.reached())
    }

    /// Sends to one member: the one that has least to read, in turn where several have. Nobody, where there is no member. A
    /// member that dies before it reads takes the message with it; a work queue does not lose it.
    pub fn send_to_one(
        &mut self,
        group: &mut Group,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<Option<AgentId>, ClientError> {
        self.wait_for_members(group, deadline)?;
        let Some(member) = group.next_member() else { return Ok(None) };
        self.publish_to(&mut group.publisher, member.0, payload, deadline)?;
        Ok(Some(member))
    }

    fn wait_for_members(
        &mut self,
        group: &mut Group,
        deadline: Instant,
    ) -> Result<Reached, ClientError> {
        self.update(&mut group.publisher)?;
        // Who comes from now on is not waited for: one that comes and goes without end would hold up every send.
        let until = group.publisher.expectations();
        while group.publisher.is_waiting(until) {
            match self.receive(deadline) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => group.publisher.stop_waiting(until),
                Err(error) => return Err(error),
            }
            self.update(&mut group.publisher)?;
        }
        Ok(group.reached())
    }
}
