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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::header::LaneId;
    use crate::lane::{LaneOptions, Receiver, Sender};
    use crate::topic::ReaderChange;
    use crate::wait::Spin;

    fn publisher() -> Publisher {
        let options = LaneOptions::default();
        let sender = Sender::for_topic(options, TopicPolicy::Lossless).unwrap();
        Publisher::new(LaneId(1), 1, group_subject("g"), sender)
    }

    fn expected(reader: u32) -> ReaderChange {
        ReaderChange::Expected { reader: AgentId(reader) }
    }

    fn joined(reader: u32) -> ReaderChange {
        let cursor = Receiver::new_cursor(Spin::None).unwrap();
        let cursor = std::os::fd::AsFd::as_fd(&cursor).try_clone_to_owned().unwrap();
        let doorbell = crate::doorbell::Doorbell::new().unwrap();
        let (bell, _ear) = doorbell.ringer_for_peer().unwrap();
        ReaderChange::Joined { reader: AgentId(reader), cursor, bell }
    }

    fn left(reader: u32) -> ReaderChange {
        ReaderChange::Left { reader: AgentId(reader) }
    }

    fn apply(publisher: &mut Publisher, changes: impl IntoIterator<Item = ReaderChange>) {
        publisher.apply(changes.into_iter().collect::<VecDeque<_>>());
    }

    #[test]
    fn a_send_waits_for_the_members_of_its_beginning_only() {
        let mut publisher = publisher();
        apply(&mut publisher, [expected(1)]);
        let until = publisher.expectations();
        assert!(publisher.is_waiting(until));
        // The same member once more, and another one: neither was there.
        apply(&mut publisher, [expected(2), left(1), expected(1)]);
        assert!(!publisher.is_waiting(until));
        assert_eq!(publisher.missing(), 2);
        assert!(publisher.is_waiting(publisher.expectations()), "the next send waits for both");
    }

    #[test]
    fn who_was_waited_for_in_vain_is_waited_for_again_when_it_has_joined_once() {
        let mut publisher = publisher();
        apply(&mut publisher, [expected(1)]);
        let until = publisher.expectations();
        apply(&mut publisher, [expected(2)]);
        publisher.stop_waiting(until);
        assert!(publisher.is_waiting(publisher.expectations()), "the other came later");
        apply(&mut publisher, [left(2), left(1), expected(1)]);
        assert!(!publisher.is_waiting(publisher.expectations()), "it has not joined since");
        assert_eq!(publisher.missing(), 1);
        apply(&mut publisher, [joined(1)]);
        assert_eq!((publisher.missing(), publisher.readers()), (0, 1));
        apply(&mut publisher, [left(1), expected(1)]);
        assert!(publisher.is_waiting(publisher.expectations()));
    }

    #[test]
    fn members_that_have_read_as_much_take_turns() {
        let mut group = Group { last: AgentId(0), publisher: publisher() };
        assert_eq!(group.next_member(), None);
        apply(&mut group.publisher, [expected(1), expected(2), expected(3)]);
        apply(&mut group.publisher, [joined(3), joined(1), joined(2)]);
        let turns: Vec<u32> = (0..7).map(|_| group.next_member().unwrap().0).collect();
        assert_eq!(turns, [1, 2, 3, 1, 2, 3, 1]);
        apply(&mut group.publisher, [left(2)]);
        assert_eq!(group.next_member(), Some(AgentId(3)));
    }
}
