//! What the threads beside the serving one have done, and who is told.

use std::collections::VecDeque;

use agents_contract::ToolError;
use ipc::exchange::log::Entry;
use ipc::header::LaneId;
use ipc::link::RequestId;
use tracing::{info, warn};

use super::hands::{DiskDone, Opened, ReadDone, Whom};
use super::operate::trimmed;
use super::refuse::OpenFailure;
use super::{LogKey, Logs, Machinery, Open, Unsynced, Why, kept, refuse};
use crate::exchange::callers::{Callers, Said};
use crate::exchange::log::{Retained, SyncError};
use crate::exchange::work::encoded;

impl Logs {
    pub(super) fn take_results(&mut self, callers: &mut Callers) -> bool {
        let mut moved = false;
        while let Some(done) = self.machinery.as_mut().and_then(|hands| hands.disk.take()) {
            moved = true;
            self.disk_done(callers, done);
        }
        while let Some(done) = self.machinery.as_mut().and_then(|hands| hands.reading.take()) {
            moved = true;
            match done.whom {
                Whom::Follower(id) => self.read_for(callers, id, done),
                Whom::Once(lane, request) => self.read_once(callers, (lane, request), done),
            }
        }
        let is_dead = |hands: &Machinery| hands.disk.is_dead || hands.reading.is_dead;
        if self.machinery.as_ref().is_some_and(is_dead) {
            self.give_up(callers);
            moved = true;
        }
        moved
    }

    /// After a panic in one of the threads: everybody who waits is told, and the next request begins anew.
    fn give_up(&mut self, callers: &mut Callers) {
        let error = refuse::thread_ended();
        warn!(error = error.message, "all logs are closed");
        self.machinery = None;
        self.next_look = None;
        self.names.clear();
        self.syncing.clear();
        let failed = || Said::Failed(encoded(&error));
        for served in std::mem::take(&mut self.logs).into_values() {
            for Unsynced { lane, request, .. } in
                served.open.into_iter().flat_map(|log| log.waiting)
            {
                self.say(callers, lane, request, failed());
            }
        }
        for lane in self.held.keys().copied().collect::<Vec<_>>() {
            self.answer_held(callers, lane, failed());
        }
        for id in self.followers.keys().copied().collect::<Vec<_>>() {
            self.end_follower(callers, id, &error);
        }
    }

    fn disk_done(&mut self, callers: &mut Callers, done: DiskDone) {
        match done {
            DiskDone::Opened { key, result: Ok(opened) } => self.is_open(callers, key, *opened),
            DiskDone::Opened { key, result: Err(failure) } => {
                self.is_not_open(callers, key, &failure);
            }
            DiskDone::Removed { key, result, asked } => self.removed(callers, key, result, asked),
            DiskDone::Kept { key, options, result, lane } => {
                let answer = match result {
                    // It was closed meanwhile, and its next opening has them.
                    Ok(()) if self.open(key).is_none() => Said::Failed(encoded(&refuse::busy())),
                    Ok(()) => {
                        if let Some(open) = self.open_mut(key) {
                            open.log.set_retention(kept::retention(&options));
                            open.options = options;
                            open.is_new = false;
                        }
                        self.retain(key);
                        self.look_again(options.age_max_ns);
                        Said::Done(self.opened_answer(key, 0))
                    }
                    Err(error) => Said::Failed(encoded(&refuse::not_kept(&error))),
                };
                self.answer_held(callers, lane, answer);
            }
            DiskDone::Closed => {}
        }
    }

    fn is_open(&mut self, callers: &mut Callers, key: LogKey, opened: Opened) {
        let Opened { log, recovered, options, is_new } = opened;
        let Some(served) = self.logs.get_mut(&key) else { return };
        let name = &*served.name;
        if recovered.gap_count > 0 {
            warn!(log = name, ?recovered, "records of the log are missing");
        } else {
            info!(log = name, next = recovered.next, segments = recovered.segments, "log opened");
        }
        let (followers, waiting) = (Vec::new(), VecDeque::new());
        let (ticket, refused, writer) = (None, None, None);
        let open = Open { log, options, is_new, followers, ticket, refused, waiting, writer };
        served.open = Some(Box::new(open));
        let name = std::sync::Arc::clone(&served.name);
        self.look_again(options.age_max_ns);
        if let Err(error) = self.make_place(key) {
            self.close(key);
            self.refuse_opening(callers, key, &name, &error);
        }
    }

    fn is_not_open(&mut self, callers: &mut Callers, key: LogKey, failure: &OpenFailure) {
        let Some(served) = self.logs.remove(&key) else { return };
        self.names.remove(&served.name);
        let error = refuse::not_opened(&served.name, &self.directory, failure);
        self.refuse_opening(callers, key, &served.name, &error);
    }

    /// Tells all who wait for a log why it is not open.
    fn refuse_opening(
        &mut self,
        callers: &mut Callers,
        key: LogKey,
        name: &str,
        error: &ToolError,
    ) {
        let waits = |why: Why| matches!(why, Why::Opening(of) if of == key);
        let lanes: Vec<LaneId> = self
            .held
            .iter()
            .filter_map(|(lane, held)| waits(held.wait.why).then_some(*lane))
            .collect();
        for lane in lanes {
            self.answer_held(callers, lane, Said::Failed(encoded(error)));
        }
        self.end_followers_of(callers, name, error);
        let words = self.last_words.len();
        self.last_words.retain(|will| &*will.log != name);
        if self.last_words.len() < words {
            warn!(log = name, error = error.message, "last words are lost");
        }
    }

    fn removed(
        &mut self,
        callers: &mut Callers,
        key: LogKey,
        result: std::io::Result<Retained>,
        asked: Option<(LaneId, RequestId)>,
    ) {
        let name = self.logs.get(&key).map_or("", |served| &served.name);
        if let Err(error) = &result {
            warn!(log = name, %error, "old segments cannot be deleted");
        }
        if let Some((lane, _)) = asked {
            let answer = match result {
                Ok(retained) => Said::Done(trimmed(retained).encode()),
                Err(error) => Said::Failed(encoded(&refuse::not_removed(&error))),
            };
            self.answer_held(callers, lane, answer);
        }
    }

    fn read_once(&mut self, callers: &mut Callers, (lane, _): (LaneId, RequestId), done: ReadDone) {
        let answer = match done.result {
            // What was read before the error is worth having; the next read meets the error again.
            Err(error) if done.bytes.is_empty() => Said::Failed(encoded(&refuse::not_read(&error))),
            _ => {
                let mut bytes = Vec::with_capacity(done.bytes.len() + 24);
                let first = Entry::split(&done.bytes).ok().map(|(entry, _)| match entry {
                    Entry::Record(record) => record.position,
                    Entry::Lost { first, .. } | Entry::Damaged { first, .. } => first,
                    Entry::Begin { position } => position,
                });
                Entry::Begin { position: first.unwrap_or(done.next) }.append_to(&mut bytes);
                bytes.extend(done.bytes);
                Said::Done(bytes)
            }
        };
        self.answer_held(callers, lane, answer);
    }

    /// Answers the request that a link waits with.
    fn answer_held(&mut self, callers: &mut Callers, lane: LaneId, answer: Said) {
        if let Some(held) = self.held.remove(&lane) {
            self.say(callers, lane, held.id, answer);
        }
    }

    /// Has a log synced for those who wait for it, if that is not under way.
    pub(super) fn want_sync(&mut self, key: LogKey) {
        let Some(open) = self.open_mut(key) else { return };
        let last = open.log.next_position().saturating_sub(1);
        if open.ticket.is_none() {
            match open.log.request_sync(last) {
                Ok(ticket) => open.ticket = Some(ticket),
                // The next look asks again.
                Err(SyncError::Busy) => {}
                Err(error) => open.refused = Some(error),
            }
        }
        self.syncing.insert(key);
    }

    /// Tells those whose records survive power loss now.
    pub(super) fn take_syncs(&mut self, callers: &mut Callers) -> bool {
        if self.syncing.is_empty() {
            return false;
        }
        let mut moved = false;
        for key in self.syncing.iter().copied().collect::<Vec<_>>() {
            let Some(open) = self.open_mut(key) else {
                self.syncing.remove(&key);
                continue;
            };
            let result = match &mut open.ticket {
                Some(ticket) => ticket.try_done(),
                None => {
                    Some(open.refused.take().map_or_else(|| Ok(open.log.synced_position()), Err))
                }
            };
            let Some(result) = result else { continue };
            open.ticket = None;
            moved = true;
            match result {
                Ok(synced) => self.synced(callers, key, synced),
                Err(SyncError::Busy) => self.want_sync(key),
                Err(error) => self.not_synced(callers, key, error),
            }
        }
        moved
    }

    fn synced(&mut self, callers: &mut Callers, key: LogKey, synced: u64) {
        let Some(open) = self.open_mut(key) else { return };
        let mut done: Vec<Unsynced> = Vec::new();
        while let Some(one) = open.waiting.pop_front_if(|one| one.below <= synced) {
            done.push(one);
        }
        let more = !open.waiting.is_empty();
        for Unsynced { lane, request, appended, .. } in done {
            let said =
                appended.map_or_else(|| Said::Done(synced.to_le_bytes().to_vec()), Said::Appended);
            self.say(callers, lane, request, said);
        }
        self.syncing.remove(&key);
        if more {
            self.want_sync(key);
        }
    }

    /// Nothing more can be promised of this opening; the next one writes the doubtful part once more.
    fn not_synced(&mut self, callers: &mut Callers, key: LogKey, error: SyncError) {
        let Some(open) = self.open_mut(key) else { return };
        let waiting = std::mem::take(&mut open.waiting);
        let name = self.logs.get(&key).map_or("", |served| &served.name);
        warn!(log = name, %error, "the log cannot be synced; it is opened again");
        let is_stopped = error == SyncError::Stopped;
        let error: ToolError = refuse::not_synced(error);
        for Unsynced { lane, request, .. } in waiting {
            self.say(callers, lane, request, Said::Failed(encoded(&error)));
        }
        self.close(key);
        if is_stopped {
            self.give_up(callers);
        }
    }
}
