//! What an agent publishes: one topic per subject, made at the first event, lossy, so that no slow
//! reader holds an agent up. Belongs to the serving thread; calls hand their events over in a
//! bounded channel.

use std::collections::BTreeMap;

use ipc::client::{Client, ClientError};
use ipc::control::TopicPolicy;
use ipc::header::LaneId;
use ipc::lane::WhenFull;
use ipc::topic::Publisher;
use tracing::debug;

use crate::limits::TOPICS_PER_AGENT_MAX;

/// An agent's topics by subject.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_subject: BTreeMap<String, Publisher>,
}

impl Topics {
    /// Publishes one event. What nobody can take is lost, which is what lossy means.
    pub(super) fn publish(
        &mut self,
        client: &mut Client,
        subject: &str,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        if !self.by_subject.contains_key(subject) {
            if self.by_subject.len() >= TOPICS_PER_AGENT_MAX {
                debug!(subject, "an event has more subjects beside it than an agent may have");
                return Ok(());
            }
            let publisher = match client.publisher(subject, TopicPolicy::Lossy) {
                Err(ClientError::Refused { code, message }) => {
                    debug!(subject, code, message, "an event's topic was refused");
                    return Ok(());
                }
                publisher => publisher?,
            };
            self.by_subject.insert(subject.to_owned(), publisher);
        }
        if let Some(publisher) = self.by_subject.get_mut(subject) {
            client.update(publisher)?;
            if let Err(error) = publisher.publish(payload, WhenFull::Reject) {
                debug!(subject, %error, "an event was not published");
            }
        }
        Ok(())
    }

    /// Readers of a topic came or went.
    pub(super) fn update(&mut self, client: &mut Client, lane: LaneId) -> Result<(), ClientError> {
        match self.by_subject.values_mut().find(|publisher| publisher.lane() == lane) {
            Some(publisher) => client.update(publisher),
            None => Ok(()),
        }
    }

    /// A topic of ours ended.
    pub(super) fn forget(&mut self, lane: LaneId) {
        self.by_subject.retain(|_, publisher| publisher.lane() != lane);
    }
}
