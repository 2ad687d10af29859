//! The sending side of a group: a topic whose readers are the group's members.
//!
//! Not here: waiting for members and sending (`client`). Subjects that begin with `_` are the bus's own: a pattern matches
//! them only where its first word is the same, so whoever subscribes to everything is a member of nothing by that.

use super::{Publisher, TopicOptions};
use crate::control::TopicPolicy;
use crate::header::AgentId;
use crate::limits::GROUP_PATIENCE_MS;

/// The subject of what is sent to everybody.
pub(crate) const BROADCAST: &str = "_broadcast";
/// The first word of a group's subject.
const GROUP: &str = "_group.";

/// What stands before the name of a group.
pub(crate) fn group_subject(name: &str) -> String {
    format!("{GROUP}{name}")
}

/// Whether a subject is that of a group, or of everybody.
pub fn is_group(subject: &str) -> bool {
    subject == BROADCAST || subject.starts_with(GROUP)
}

/// A way to send to a group: `Client::send_to_group`, `Client::send_to_one`.
#[derive(Debug)]
pub struct Group {
    pub(crate) publisher: Publisher,
    /// Who had the last message that was for one.
    last: AgentId,
}

/// Whom a message went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Members that have it in front of them.
    pub members: usize,
    /// Members that never took the sender's topic up.
    pub missing: usize,
}

impl Default for TopicOptions {
    /// Lossless, nothing for late readers, and one that does not read is let go of after a second.
    fn default() -> Self {
        Self::from(TopicPolicy::Lossless).letting_go_after(GROUP_PATIENCE_MS)
    }
}

impl Group {
    pub(crate) fn new(publisher: Publisher) -> Self {
        Self { publisher, last: AgentId(0) }
    }

    /// The topic beneath.
    pub fn publisher(&mut self) -> &mut Publisher {
        &mut self.publisher
    }

    /// Who is there now, and who is not.
    pub(crate) fn reached(&self) -> Reached {
        Reached { members: self.publisher.readers(), missing: self.publisher.missing() }
    }

    /// Whose turn it is: of those that have least to read, the next one after the last.
    pub(crate) fn next_member(&mut self) -> Option<AgentId> {
        let last = self.last;
        let order = |(id, behind): &(AgentId, u64)| (*behind, *id <= last, *id);
        let (next, _) = self.publisher.sender.behind().min_by_key(order)?;
        self.last = next;
        Some(next)
    }
}
