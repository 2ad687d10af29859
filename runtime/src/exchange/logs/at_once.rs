//! The append that nothing stands in the way of, which most are: one record, written and answered where the request lies.
//!
//! What it does not do itself it leaves as it was, and `operate` has the rules for it.

use ipc::exchange::log as wire;
use ipc::exchange::log::Durability;
use ipc::fault;
use ipc::header::LaneId;

use super::{Asked, Logs};
use crate::exchange::callers::{Callers, Said};
use crate::exchange::log::Record;

impl Logs {
    /// Appends and answers. False where that is not so simple; then nothing has happened that trying again does not make good.
    #[inline]
    pub(super) fn append_at_once(
        &mut self,
        callers: &mut Callers,
        lane: LaneId,
        asked: Asked<'_>,
    ) -> bool {
        if asked.tool != "log.append" {
            return false;
        }
        let Ok((log, append)) = wire::Append::decode(asked.payload) else { return false };
        let is_simple = append.durability == Durability::Stored
            && !append.takes_will_back
            && (1..=10).contains(&append.priority);
        let Some(payload) = append.records.only().filter(|_| is_simple) else { return false };
        let Some(key) = self.names.get(log).copied() else { return false };
        let Some(served) = self.logs.get_mut(&key) else { return false };
        let Some(open) = served.open.as_deref_mut() else { return false };
        if !open.followers.is_empty() || open.writer.is_some() {
            return false;
        }
        let time_ns = callers.now_ns();
        let Some(caller) = callers.get(lane) else { return false };
        let record = Record {
            time_ns,
            sender: caller.agent.id.0,
            sender_name: &caller.name,
            priority: append.priority,
            dedup: 0,
            payload,
        };
        if open.log.would_wait(&record) {
            return false;
        }
        let before = open.log.active_first();
        let appended = open.log.append(&record);
        let is_new_segment = open.log.active_first() != before;
        let Ok(first) = appended else {
            if is_new_segment {
                self.retain(key);
            }
            // It fails again where the reason is told.
            return false;
        };
        fault::point("exchange.records-appended");
        self.last_key += 1;
        served.used = self.last_key;
        callers.say(
            lane,
            asked.id,
            Said::Appended(wire::Appended { first, count: 1, short: None }),
        );
        if is_new_segment {
            self.retain(key);
        }
        true
    }
}
