//! How each operation on a log is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agents_contract::ToolError;
use ipc::exchange::log as wire;
use ipc::exchange::log::{Durability, Operation, Short, Start};
use ipc::fault;
use ipc::header::LaneId;
use ipc::link::RequestId;

use super::hands::{DiskJob, ReadJob, Whom};
use super::{Asking, LogKey, Logs, Open, Outcome, Unsynced, Why, Will, kept, refuse};
use crate::exchange::callers::{Callers, Said};
use crate::exchange::log::{AppendError, Log, Record};
use crate::limits::{LOG_READ_BYTES_MAX, LOG_SYNCS_PER_CALLER_MAX, LOG_WILL_BYTES_MAX};

/// How appending some records went.
struct Run {
    first: Option<u64>,
    count: u32,
    stopped: Option<Stopped>,
}

/// Why it stopped before the last.
enum Stopped {
    /// The next one would wait for the disk.
    Disk,
    Short(Short),
    Failed(AppendError),
}

impl Logs {
    pub(super) fn carry_out(
        &mut self,
        asking: Asking<'_>,
        name: &str,
        operation: Operation<'_>,
    ) -> Result<Outcome, ToolError> {
        let options = match operation {
            Operation::Open { options, .. } => options,
            _ => None,
        };
        let key = match self.find(name, options, Some(asking.agent.name)) {
            Ok(key) => key,
            Err(Ok(why)) => return Ok(Outcome::Hold(why)),
            Err(Err(error)) => return Err(error),
        };
        match operation {
            Operation::Append(append) => self.append(asking, key, &append),
            Operation::Open { options, replaces } => {
                self.opened(&asking, key, options.map(kept::normal), replaces)
            }
            Operation::Read { start, records_max, bytes_max } => {
                self.read(&asking, key, start, (records_max, bytes_max))
            }
            Operation::Follow { start, holds_back } => self.follow(asking, key, start, holds_back),
            Operation::Sync => self.sync(&asking, key),
            Operation::Trim { below } => self.trim(&asking, key, below),
            Operation::Info => Ok(Outcome::Said(Said::Done(self.info(key).encode()))),
            Operation::Will { payload } => self.will(&asking, name, payload),
        }
    }

    fn opened(
        &mut self,
        asking: &Asking<'_>,
        key: LogKey,
        options: Option<wire::Options>,
        replaces: bool,
    ) -> Result<Outcome, ToolError> {
        let directory = self.directory.clone();
        let Some(name) = self.logs.get(&key).map(|served| Arc::clone(&served.name)) else {
            return Err(refuse::busy());
        };
        let Some(open) = self.open_mut(key) else { return Err(refuse::busy()) };
        if let Some(options) = options.filter(|options| *options != open.options) {
            if !replaces {
                return Err(refuse::differs());
            }
            let lane = asking.lane;
            let job = DiskJob::Keep { key, name, directory, options, lane };
            let machinery = self.machinery().map_err(|error| refuse::no_threads(&error))?;
            machinery.disk.give(job).map_err(|_| refuse::busy())?;
            return Ok(Outcome::Hold(Why::Answer));
        }
        let made = u8::from(std::mem::take(&mut open.is_new));
        Ok(Outcome::Said(Said::Done(self.opened_answer(key, made))))
    }

    pub(super) fn opened_answer(&self, key: LogKey, made: u8) -> Vec<u8> {
        [&[made][..], &self.info(key).encode()].concat()
    }

    fn info(&self, key: LogKey) -> wire::Info {
        let options = wire::Options::default();
        let (first, next, synced, segments, bytes, followers) = (0, 0, 0, 0, 0, 0);
        let Some(open) = self.open(key) else {
            return wire::Info { first, next, synced, segments, bytes, followers, options };
        };
        let (segments, bytes) = open.log.size();
        wire::Info {
            first: open.log.first_position(),
            next: open.log.next_position(),
            synced: open.log.synced_position(),
            segments: segments as u64,
            bytes,
            followers: open.followers.len() as u64,
            options: open.options,
        }
    }

    fn append(
        &mut self,
        asking: Asking<'_>,
        key: LogKey,
        append: &wire::Append<'_>,
    ) -> Result<Outcome, ToolError> {
        let Asking { lane, agent, name: sender, request, appended, until, callers } = asking;
        if !(1..=10).contains(&append.priority) {
            return Err(refuse::bad("a priority is 1 to 10".to_owned()));
        }
        if append.durability == Durability::Synced && appended.is_none() {
            self.may_wait_for_sync(lane)?;
        }
        let is_held_back = appended.is_none() && self.is_held_back(callers, key);
        let Some(open) = self.open_mut(key) else { return Err(refuse::busy()) };
        if open.writer.is_some_and(|writer| writer != lane) {
            return Ok(Outcome::HoldAppend(Why::Disk(key), appended, until));
        }
        let next = open.log.next_position();
        refuse_torn(open, appended)?;
        if is_held_back {
            return Ok(held_back(append.wait_ns, until, key, next));
        }
        let template = Record {
            time_ns: callers.now_ns(),
            sender: agent.id.0,
            sender_name: &sender,
            priority: append.priority,
            dedup: 0,
            payload: &[],
        };
        let before = open.log.active_first();
        let known = appended.map_or(0, |(_, count)| count);
        let run = run(&mut open.log, &template, append.records, appended);
        fault::point("exchange.records-appended");
        open.writer = None;
        let is_new_segment = open.log.active_first() != before;
        let appended =
            wire::Appended { first: run.first.unwrap_or(next), count: run.count, short: None };
        let outcome = match run.stopped {
            Some(Stopped::Disk) => {
                open.writer = Some(lane);
                self.want_sync(key);
                let appended = run.first.map(|first| (first, run.count));
                Ok(Outcome::HoldAppend(Why::Disk(key), appended, until))
            }
            Some(Stopped::Failed(error)) => Err(refuse::not_appended(&error, run.count)),
            Some(Stopped::Short(short)) => {
                let appended = wire::Appended { short: Some(short), ..appended };
                Ok(self.acknowledge(callers, key, (lane, request), append.durability, appended))
            }
            None => {
                // Only now: where the goodbye finds no room, the will is what is heard.
                if append.takes_will_back {
                    self.wills.remove(&lane);
                }
                Ok(self.acknowledge(callers, key, (lane, request), append.durability, appended))
            }
        };
        self.feed_live(callers, key, next, &template, append.records.iter().skip(known as usize));
        if is_new_segment {
            self.retain(key);
        }
        outcome
    }

    /// Answers an append as it wants to be: now, which is before followers hear of it, or when it is synced.
    fn acknowledge(
        &mut self,
        callers: &mut Callers,
        key: LogKey,
        (lane, request): (LaneId, RequestId),
        durability: Durability,
        appended: wire::Appended,
    ) -> Outcome {
        if let (Durability::Synced, 1..) = (durability, appended.count)
            && let Some(open) = self.open_mut(key)
        {
            let below = appended.first + u64::from(appended.count);
            let appended = Some(appended);
            open.waiting.push_back(Unsynced { below, lane, request, appended });
            self.want_sync(key);
        } else {
            self.say(callers, lane, request, Said::Appended(appended));
        }
        Outcome::Later
    }

    fn may_wait_for_sync(&self, lane: LaneId) -> Result<(), ToolError> {
        let open = self.logs.values().filter_map(|served| served.open.as_ref());
        let own = open.flat_map(|open| &open.waiting).filter(|one| one.lane == lane).count();
        if own >= LOG_SYNCS_PER_CALLER_MAX {
            return Err(refuse::too_many_waiting("syncs waiting", LOG_SYNCS_PER_CALLER_MAX));
        }
        Ok(())
    }

    fn sync(&mut self, asking: &Asking<'_>, key: LogKey) -> Result<Outcome, ToolError> {
        self.may_wait_for_sync(asking.lane)?;
        let Some(open) = self.open_mut(key) else { return Err(refuse::busy()) };
        let (next, synced) = (open.log.next_position(), open.log.synced_position());
        if synced >= next {
            return Ok(Outcome::Said(Said::Done(synced.to_le_bytes().to_vec())));
        }
        let (lane, request) = (asking.lane, asking.request);
        open.waiting.push_back(Unsynced { below: next, lane, request, appended: None });
        self.want_sync(key);
        Ok(Outcome::Later)
    }

    fn trim(&mut self, asking: &Asking<'_>, key: LogKey, below: u64) -> Result<Outcome, ToolError> {
        let Some(machinery) = &mut self.machinery else { return Err(refuse::busy()) };
        let open = self.logs.get_mut(&key).and_then(|served| served.open.as_mut());
        let Some(open) = open.filter(|_| machinery.disk.has_room()) else {
            return Err(refuse::busy());
        };
        let surplus = open.log.take_surplus(super::now_ns(), below);
        if surplus.is_empty() {
            return Ok(Outcome::Said(Said::Done(trimmed(surplus.retained()).encode())));
        }
        let asked = Some((asking.lane, asking.request));
        let job = DiskJob::Remove { key, surplus, asked };
        machinery.disk.give(job).map_err(|_| refuse::busy())?;
        Ok(Outcome::Hold(Why::Answer))
    }

    fn read(
        &mut self,
        asking: &Asking<'_>,
        key: LogKey,
        start: Start,
        (records_max, bytes_max): (u32, u32),
    ) -> Result<Outcome, ToolError> {
        if !asking.callers.has_room(asking.lane) {
            return Ok(Outcome::Hold(Why::Room));
        }
        let (from, positions) = self.start(key, start)?;
        let whom = Whom::Once(asking.lane, asking.request);
        let bytes_max = (bytes_max as usize).min(LOG_READ_BYTES_MAX);
        let job = ReadJob { key, whom, positions, reader: None, from, records_max, bytes_max };
        let machinery = self.machinery().map_err(|error| refuse::no_threads(&error))?;
        machinery.reading.give(job).map_err(|_| refuse::busy())?;
        Ok(Outcome::Hold(Why::Answer))
    }

    fn will(
        &mut self,
        asking: &Asking<'_>,
        log: &str,
        payload: &[u8],
    ) -> Result<Outcome, ToolError> {
        if payload.len() > LOG_WILL_BYTES_MAX {
            let text = format!("a will has at most {LOG_WILL_BYTES_MAX} bytes: {}", payload.len());
            return Err(refuse::bad(text));
        }
        self.wills.remove(&asking.lane);
        if !payload.is_empty() {
            let (log, payload) = (Arc::from(log), payload.to_vec());
            let sender = asking.name.to_string();
            self.wills.insert(asking.lane, Will { log, agent: asking.agent, sender, payload });
        }
        Ok(Outcome::Said(Said::Done(Vec::new())))
    }

    /// Appends what dead writers left to be said.
    pub(super) fn say_last_words(&mut self, callers: &mut Callers) {
        for _ in 0..self.last_words.len() {
            let Some(will) = self.last_words.pop_front() else { return };
            let key = match self.find(&will.log, None, None) {
                Ok(key) => key,
                Err(Ok(_)) => {
                    self.last_words.push_back(will);
                    continue;
                }
                Err(Err(error)) => {
                    tracing::warn!(log = &*will.log, error = error.message, "last words are lost");
                    continue;
                }
            };
            let record = Record {
                time_ns: super::now_ns(),
                sender: will.agent.id.0,
                sender_name: &will.sender,
                priority: 5,
                dedup: 0,
                payload: &will.payload,
            };
            let payloads = [&will.payload[..]];
            let records = wire::Records::from_payloads(&payloads);
            let Some(open) = self.open_mut(key) else { continue };
            let next = open.log.next_position();
            let would_wait = open.log.would_wait(&record);
            if open.writer.is_some() || would_wait {
                if would_wait {
                    self.want_sync(key);
                }
                self.last_words.push_back(will);
                continue;
            }
            let run = run(&mut open.log, &record, records, None);
            if run.count == 0 {
                tracing::warn!(log = &*will.log, "there is no room for last words");
            }
            self.feed_live(callers, key, next, &record, records.iter());
        }
    }
}

/// The log may have been closed in the middle of an append, and its next opening ends elsewhere.
fn refuse_torn(open: &Open, appended: Option<(u64, u32)>) -> Result<(), ToolError> {
    match appended {
        Some((first, count))
            if open.writer.is_none() && open.log.next_position() != first + u64::from(count) =>
        {
            Err(refuse::torn(count))
        }
        _ => Ok(()),
    }
}

/// What is told, or waited for, where followers are too far behind.
fn held_back(wait_ns: u64, until: Option<Instant>, key: LogKey, next: u64) -> Outcome {
    let now = Instant::now();
    let until = until.or_else(|| now.checked_add(Duration::from_nanos(wait_ns)));
    if wait_ns > 0 && until.is_none_or(|until| until > now) {
        return Outcome::HoldAppend(Why::Followers(key), None, until);
    }
    let appended = wire::Appended { first: next, count: 0, short: Some(Short::Behind) };
    Outcome::Said(Said::Appended(appended))
}

/// Appends records, without those that were appended before, until one finds no room.
fn run(
    log: &mut Log,
    template: &Record<'_>,
    records: wire::Records<'_>,
    appended: Option<(u64, u32)>,
) -> Run {
    let (first, count) = appended.map_or((None, 0), |(first, count)| (Some(first), count));
    let mut run = Run { first, count, stopped: None };
    for payload in records.iter().skip(count as usize) {
        let record = Record { payload, ..*template };
        if log.would_wait(&record) {
            run.stopped = Some(Stopped::Disk);
            return run;
        }
        match log.append(&record) {
            Ok(position) => {
                run.first.get_or_insert(position);
                run.count += 1;
            }
            Err(error) => {
                run.stopped = Some(match error {
                    AppendError::NoSpace => Stopped::Short(Short::DiskFull),
                    AppendError::Full => Stopped::Short(Short::LogFull),
                    error => Stopped::Failed(error),
                });
                return run;
            }
        }
    }
    run
}

pub(super) fn trimmed(retained: crate::exchange::log::Retained) -> wire::Trimmed {
    let (first, records, bytes) = (retained.first, retained.records, retained.bytes);
    wire::Trimmed { first, records, bytes }
}
