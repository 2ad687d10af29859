//! What came over the network: it is read, what it leads to is announced, and then it is written down.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Answer, Arrived, Parsed, Resource, Session};
use crate::error::{Error, Kind, Result};
use crate::io::cache::memory::Value;
use crate::io::http::Validators;
use crate::io::limits::{LEADS_WHERE_IT_ARRIVES_MAX, READ_WHERE_IT_ARRIVES_BYTES_MAX};
use crate::io::unwritten::One;

/// Values that arrived, and what they are of.
pub(super) type Leads = Vec<(Arc<dyn Resource>, Value)>;

impl Session {
    /// Reads an answer and keeps it. What it leads to is announced before it is written down, and on the same thread, since others queue for
    /// threads. A small one is read where it arrived, since handing it on takes longer, and written there if nothing has to be waited for.
    pub(super) async fn read(
        &self,
        resource: &Arc<dyn Resource>,
        answer: Answer,
    ) -> Result<Arrived> {
        let shared = Arc::clone(resource);
        if answer.body.len() > READ_WHERE_IT_ARRIVES_BYTES_MAX {
            let read = move |session: &Self, resource: &dyn Resource| {
                if session.shared.unwritten.is_ending() {
                    // Others that somebody was told of may stand behind it.
                    return Err(ending());
                }
                let (parsed, unwritten) = session.understand(resource, &answer)?;
                session.lead_on(vec![(shared, parsed.value.clone())], usize::MAX);
                let stored = (parsed.stored)();
                session.write(resource, &answer.validators, (&parsed.packed, &stored));
                drop(unwritten);
                Ok(Arrived::Followed(parsed.value))
            };
            return self.work(resource, read).await;
        }
        let (Parsed { value, stored, packed }, unwritten) =
            self.understand(&**resource, &answer)?;
        let left = self.lead_on(vec![(shared, value.clone())], LEADS_WHERE_IT_ARRIVES_MAX);
        self.lead_on_later(left);
        let (stored, validators) = (stored(), answer.validators);
        let disk = &self.shared.disk;
        match disk.write_at_once(resource.key(), &validators, (&packed, &stored)) {
            Some(is_due) => self.sweep_if(is_due),
            None => {
                let write = move |session: &Self, resource: &dyn Resource| {
                    session.write(resource, &validators, (&packed, &stored));
                    drop(unwritten);
                    Ok(())
                };
                // It fails only where this process is about to end.
                let _ = self.work(resource, write).await;
            }
        }
        Ok(Arrived::Followed(value))
    }

    /// Reads an answer, and puts it into memory; until the second is dropped it counts as not written down.
    fn understand(
        &self,
        resource: &dyn Resource,
        answer: &Answer,
    ) -> Result<(Parsed, Option<One>)> {
        let parsed = resource.parse(answer)?;
        let length = match parsed.packed.len() {
            0 => answer.body.len(),
            packed => packed,
        };
        let weight = resource.weight(&parsed.value, length);
        let unwritten = self.shared.unwritten.begin();
        self.remember(resource, Ok(parsed.value.clone()), SystemTime::now(), weight);
        Ok((parsed, unwritten))
    }

    fn write(&self, resource: &dyn Resource, validators: &Validators, parts: (&[u8], &[u8])) {
        self.sweep_if(self.shared.disk.write(resource.key(), validators, parts));
    }

    /// Announces what values that arrived lead to, and on through what is in memory; what is left of it after so many of them. Every
    /// resource that can lead on remembers what it named, so this ends.
    pub(super) fn lead_on(&self, mut arrived: Leads, most: usize) -> Leads {
        for _ in 0..most {
            let Some((resource, value)) = arrived.pop() else { break };
            if self.request.cancellation.is_cancelled() {
                return Leads::new();
            }
            for next in resource.leads_to(&value) {
                match self.known(&*next) {
                    Some(Ok(value)) => arrived.push((next, value)),
                    Some(Err(_)) => {}
                    None => {
                        self.board(next, true);
                    }
                }
            }
        }
        arrived
    }

    /// The same on a thread that has time.
    pub(super) fn lead_on_later(&self, arrived: Leads) {
        if !arrived.is_empty() {
            let session = self.clone();
            tokio::task::spawn_blocking(move || session.lead_on(arrived, usize::MAX));
        }
    }

    /// Sweeps the disk when there is time, if it is time to.
    pub(super) fn sweep_if(&self, is_due: bool) {
        if is_due {
            let shared = Arc::clone(&self.shared);
            // A host without anybody for later does it at once: not on a thread that moves bytes.
            tokio::task::spawn_blocking(move || {
                let host = shared.threads.host().clone();
                host.later(Box::new(move || shared.disk.sweep()));
            });
        }
    }
}

/// For whom there is nobody.
fn ending() -> Error {
    Error::new(Kind::Failed, "ending", "the process ends before the answer was read")
}
