//! Followers: who gets the records of a log as they come, and what they missed.
//!
//! A follower that has everything is *live*: a record goes to it out of the append itself, without a look at the disk. One that
//! has not, because it began earlier or its lane was full, is *behind*: the reading thread reads for it, a batch at a time, and
//! the next batch only when its lane has taken the one before.

use std::collections::VecDeque;

use agents_contract::ToolError;
use ipc::exchange::log::{Entry, Start};
use ipc::header::LaneId;
use ipc::link::RequestId;

use super::hands::{ReadJob, Whom};
use super::{Asking, LogKey, Logs, Open, Outcome, refuse};
use crate::exchange::callers::{Callers, Said};
use crate::exchange::log::{Positions, Reader, Record};
use crate::exchange::work::encoded;
use crate::limits::{
    LOG_FOLLOW_BYTES, LOG_FOLLOWERS_MAX, LOG_FOLLOWERS_PER_CALLER_MAX, LOG_MARKS_MAX,
    LOG_READ_BYTES_MAX,
};

/// Names a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FollowerId(pub(super) u64);

/// One follower of one log.
pub(super) struct Follower {
    pub(super) lane: LaneId,
    pub(super) request: RequestId,
    name: std::sync::Arc<str>,
    /// `None` where its log has to be opened again.
    key: Option<LogKey>,
    /// What it gets next.
    position: u64,
    state: State,
    holds_back: bool,
    /// What its reader had taken when that was last looked at.
    passed: u64,
    /// Where what it was given ends, in lines of its lane and in records; only of one that holds writers back.
    given: Given,
}

/// Ends of what was given to a follower and not taken when that was last looked at, the oldest first: line and record. Where there
/// are many every second one is forgotten, so it may count as some records further behind than it is, and never as further ahead.
#[derive(Default)]
struct Given(VecDeque<(u64, u64)>);

impl Given {
    fn note(&mut self, line: u64, record: u64) {
        if self.0.len() >= LOG_MARKS_MAX {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
        self.0.push_back((line, record));
    }

    /// The record up to which everything before `line` goes.
    fn taken(&mut self, line: u64) -> Option<u64> {
        let mut passed = None;
        while let Some((_, record)) = self.0.pop_front_if(|(end, _)| *end <= line) {
            passed = Some(record);
        }
        passed
    }
}

enum State {
    Live,
    Behind(Option<Box<Reader>>),
    /// The reading thread reads for it.
    Away,
}

impl Follower {
    /// Whether it holds writers back, by what its reader had taken when that was last looked at.
    pub(super) fn is_too_far_behind(&self, open: &Open) -> bool {
        let (ahead_max, next) = (open.options.ahead_max, open.log.next_position());
        self.holds_back && ahead_max > 0 && next.saturating_sub(self.passed) >= ahead_max
    }

    /// Whether it was given something that its reader had not taken then. Who has taken everything waits for us.
    pub(super) fn has_more(&self) -> bool {
        self.passed < self.position
    }

    /// Notes where what was just said to it ends, if all of that is in its lane.
    fn note_given(&mut self, callers: &mut Callers) {
        if self.holds_back
            && let Some(line) = callers.written(self.lane)
        {
            self.given.note(line, self.position);
        }
    }

    /// Its log was closed.
    pub(super) fn detach(&mut self) {
        self.key = None;
        if !matches!(self.state, State::Away) {
            self.state = State::Behind(None);
        }
    }
}

impl Logs {
    /// Where reading begins.
    pub(super) fn start(&self, key: LogKey, start: Start) -> Result<(u64, Positions), ToolError> {
        let Some(open) = self.open(key) else { return Err(refuse::busy()) };
        let next = open.log.next_position();
        let from = match start {
            Start::At(position) if position > next => return Err(refuse::ahead(position, next)),
            Start::At(position) => position,
            Start::First => open.log.first_position(),
            Start::End => next,
        };
        Ok((from, open.log.positions()))
    }

    pub(super) fn follow(
        &mut self,
        asking: Asking<'_>,
        key: LogKey,
        start: Start,
        holds_back: bool,
    ) -> Result<Outcome, ToolError> {
        let Asking { lane, request, callers, .. } = asking;
        let (position, _) = self.start(key, start)?;
        let own = self.followers.values().filter(|follower| follower.lane == lane).count();
        if own >= LOG_FOLLOWERS_PER_CALLER_MAX {
            return Err(refuse::too_many_waiting("followers", LOG_FOLLOWERS_PER_CALLER_MAX));
        }
        if self.followers.len() >= LOG_FOLLOWERS_MAX {
            return Err(refuse::busy());
        }
        let Some(served) = self.logs.get_mut(&key) else { return Err(refuse::busy()) };
        let name = std::sync::Arc::clone(&served.name);
        let Some(open) = &mut served.open else { return Err(refuse::busy()) };
        self.last_follower += 1;
        let id = FollowerId(self.last_follower);
        open.followers.push(id);
        let state = if position == open.log.next_position() {
            State::Live
        } else {
            self.hungry.insert(id);
            State::Behind(None)
        };
        let (key, passed) = (Some(key), position);
        let given = Given::default();
        let follower =
            Follower { lane, request, name, key, position, state, holds_back, passed, given };
        self.followers.insert(id, follower);
        let mut begin = Vec::new();
        Entry::Begin { position }.append_to(&mut begin);
        self.say(callers, lane, request, Said::Progress(begin));
        Ok(Outcome::Later)
    }

    /// Whether a follower that holds writers back is too far behind.
    pub(super) fn is_held_back(&mut self, callers: &mut Callers, key: LogKey) -> bool {
        let Some(open) = self.logs.get(&key).and_then(|served| served.open.as_ref()) else {
            return false;
        };
        let mut is_held_back = false;
        // All of them: who is waited for is told by what was found here.
        for id in &open.followers {
            let Some(follower) = self.followers.get_mut(id) else { continue };
            if follower.is_too_far_behind(open)
                && let Some(taken) = callers.taken(follower.lane)
            {
                let passed = follower.given.taken(taken).unwrap_or(follower.passed);
                let has_all = callers.written(follower.lane) == Some(taken);
                follower.passed = if has_all { follower.position } else { passed };
            }
            is_held_back |= follower.is_too_far_behind(open);
        }
        is_held_back
    }

    /// Gives what was just appended from position `first` on to those who have everything before it. `payloads` are those of the
    /// records, and maybe of more that found no room.
    pub(super) fn feed_live<'a>(
        &mut self,
        callers: &mut Callers,
        key: LogKey,
        first: u64,
        template: &Record<'_>,
        payloads: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let Some(open) = self.logs.get(&key).and_then(|served| served.open.as_ref()) else {
            return;
        };
        let next = open.log.next_position();
        if open.followers.is_empty() || next == first {
            return;
        }
        // Many records at once may be longer as entries than any message; they are read in pieces.
        let bytes: usize =
            (first..next).zip(payloads.clone()).map(|(_, payload)| payload.len()).sum();
        let is_long = next - first > 1 && bytes > LOG_READ_BYTES_MAX;
        let mut entries: Option<Vec<u8>> = None;
        for id in &open.followers {
            let Some(follower) = self.followers.get_mut(id) else { continue };
            if !matches!(follower.state, State::Live) {
                continue;
            }
            if is_long || follower.position != first || !callers.has_room(follower.lane) {
                follower.state = State::Behind(None);
                self.hungry.insert(*id);
                continue;
            }
            let entries = entries.get_or_insert_with(|| {
                let mut entries = Vec::new();
                for (position, payload) in (first..next).zip(payloads.clone()) {
                    let (time_ns, priority) = (template.time_ns, template.priority);
                    let sender = template.sender_name;
                    let record =
                        ipc::exchange::log::Record { position, time_ns, priority, sender, payload };
                    Entry::Record(record).append_to(&mut entries);
                }
                entries
            });
            follower.position = next;
            let said = Said::Progress(entries.clone());
            callers.say(follower.lane, follower.request, said);
            follower.note_given(callers);
        }
    }

    /// Has more read for those who are behind and whose lanes have room. True when something moved.
    pub(super) fn feed_hungry(&mut self, callers: &mut Callers) -> bool {
        if self.hungry.is_empty() {
            return false;
        }
        let mut moved = false;
        for id in self.hungry.iter().copied().collect::<Vec<_>>() {
            let Some(follower) = self.followers.get(&id) else {
                self.hungry.remove(&id);
                continue;
            };
            if !callers.has_room(follower.lane) || matches!(follower.state, State::Away) {
                continue;
            }
            moved |= match self.feed_one(id) {
                Ok(moved) => moved,
                Err(error) => {
                    self.end_follower(callers, id, &error);
                    true
                }
            };
        }
        moved
    }

    fn feed_one(&mut self, id: FollowerId) -> Result<bool, ToolError> {
        let Some(follower) = self.followers.get(&id) else { return Ok(false) };
        let key = match follower.key {
            Some(key) => key,
            None => {
                let name = std::sync::Arc::clone(&follower.name);
                let key = match self.find(&name, None, None) {
                    Ok(key) => key,
                    Err(Ok(_)) => return Ok(false),
                    Err(Err(error)) => return Err(error),
                };
                self.attach(id, key);
                key
            }
        };
        let Some(follower) = self.followers.get_mut(&id) else { return Ok(false) };
        let open = self.logs.get(&key).and_then(|served| served.open.as_ref());
        let (Some(open), Some(machinery)) = (open, &mut self.machinery) else { return Ok(false) };
        let next = open.log.next_position();
        if follower.position > next {
            return Err(refuse::ahead(follower.position, next));
        }
        if follower.position == next {
            follower.state = State::Live;
            self.hungry.remove(&id);
            return Ok(true);
        }
        if !machinery.reading.has_room() {
            return Ok(false);
        }
        let reader = match std::mem::replace(&mut follower.state, State::Away) {
            State::Behind(reader) => reader.map(|reader| *reader),
            State::Live | State::Away => None,
        };
        let (whom, from) = (Whom::Follower(id), follower.position);
        let (records_max, bytes_max) = (u32::MAX, LOG_FOLLOW_BYTES);
        let positions = open.log.positions();
        let job = ReadJob { key, whom, positions, reader, from, records_max, bytes_max };
        // There is room, as was seen; where the thread has ended, nothing more comes.
        if machinery.reading.give(job).is_err() {
            return Err(refuse::busy());
        }
        self.hungry.remove(&id);
        Ok(true)
    }

    fn attach(&mut self, id: FollowerId, key: LogKey) {
        if let Some(open) = self.open_mut(key) {
            open.followers.push(id);
            if let Some(follower) = self.followers.get_mut(&id) {
                follower.key = Some(key);
            }
        }
    }

    /// What was read for a follower goes to it.
    pub(super) fn read_for(
        &mut self,
        callers: &mut Callers,
        id: FollowerId,
        done: super::hands::ReadDone,
    ) {
        let Some(follower) = self.followers.get_mut(&id) else { return };
        let is_same = follower.key == Some(done.key);
        let reader = done.reader.filter(|_| is_same).map(Box::new);
        follower.state = State::Behind(reader);
        follower.position = done.next;
        self.hungry.insert(id);
        let (lane, request) = (follower.lane, follower.request);
        if !done.bytes.is_empty() {
            callers.say(lane, request, Said::Progress(done.bytes));
            follower.note_given(callers);
        }
        match done.result {
            // The log was closed meanwhile; its next opening says what is there.
            Err(_) if !is_same => {}
            Err(error) => self.end_follower(callers, id, &refuse::not_read(&error)),
            Ok(()) => {}
        }
    }

    /// Ends a stream with an error.
    pub(super) fn end_follower(
        &mut self,
        callers: &mut Callers,
        id: FollowerId,
        error: &ToolError,
    ) {
        let Some(follower) = self.followers.get(&id) else { return };
        let (lane, request) = (follower.lane, follower.request);
        self.forget_followers(|other| other.lane == lane && other.request == request);
        self.say(callers, lane, request, Said::Failed(encoded(error)));
    }

    /// Ends those whose log cannot be opened again.
    pub(super) fn end_followers_of(
        &mut self,
        callers: &mut Callers,
        name: &str,
        error: &ToolError,
    ) {
        let is_it = |follower: &&Follower| follower.key.is_none() && &*follower.name == name;
        let ended: Vec<FollowerId> = self
            .followers
            .iter()
            .filter_map(|(id, follower)| is_it(&follower).then_some(*id))
            .collect();
        for id in ended {
            self.end_follower(callers, id, error);
        }
    }

    pub(super) fn forget_followers(&mut self, is_it: impl Fn(&Follower) -> bool) {
        let Self { followers, logs, hungry, .. } = self;
        followers.retain(|id, follower| {
            let goes = is_it(follower);
            if goes {
                hungry.remove(id);
                let open = follower.key.and_then(|key| logs.get_mut(&key)?.open.as_mut());
                if let Some(open) = open {
                    open.followers.retain(|other| other != id);
                }
            }
            !goes
        });
    }
}
