//! Logs as the exchange serves them: requests in, records to the disk, records out to whoever follows.
//!
//! An append is written by the serving thread itself, into the page cache, which takes less than handing it to another thread.
//! Everything that may wait for the disk is somebody else's: opening and deleting (`hands`), reading what is not the newest
//! record (`hands`), syncing (`log::commit`). Their results come back through bounded channels, and a bell wakes this thread.
//!
//! A request that cannot be carried out yet is held, and nothing more is read from its link meanwhile; so one caller has one
//! request here that waits, and holds up nobody but itself. A follower gets more only when its lane has taken what it got
//! before, and what it misses meanwhile stays on the disk.
//!
//! Not here: links (`callers`), what a log is (`log`), how each operation is carried out (`operate`).

mod at_once;
mod follow;
mod hands;
mod kept;
mod opening;
mod operate;
mod refuse;
mod results;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipc::doorbell::Bell;
use ipc::exchange::log as wire;
use ipc::header::LaneId;
use ipc::link::{Request, RequestId, RequestView};

use self::follow::{Follower, FollowerId};
use self::hands::{DiskDone, DiskJob, ReadDone, ReadJob};
use super::callers::{Callers, Said};
use super::hand::Hand;
use super::log::{Committer, Log, Mechanism, SyncError, Ticket};
use super::queue::{Agent, NameId};
use super::work::{cancelled, encoded};
use crate::limits::{LOG_LOOK_INTERVAL_MAX, LOG_LOOK_INTERVAL_MIN, LOG_WILLS_WAITING_MAX};

/// All logs, and who waits for what of them.
pub(super) struct Logs {
    /// Each log has a directory in it.
    directory: PathBuf,
    bell: Arc<Bell>,
    /// Started by the first request, so that an exchange without logs has no thread more.
    machinery: Option<Machinery>,
    logs: BTreeMap<LogKey, Served>,
    /// A tree: there are few, and comparing a name or two is cheaper than hashing one.
    names: BTreeMap<Arc<str>, LogKey>,
    last_key: u64,
    held: BTreeMap<LaneId, Held>,
    followers: BTreeMap<FollowerId, Follower>,
    last_follower: u64,
    /// Followers that are to be given more.
    hungry: BTreeSet<FollowerId>,
    /// Logs that are being synced for somebody who waits.
    syncing: BTreeSet<LogKey>,
    wills: BTreeMap<LaneId, Will>,
    /// Of links that have ended.
    last_words: VecDeque<Will>,
    /// When logs are looked at for what has become too old.
    next_look: Option<Instant>,
}

/// What works beside the serving thread.
struct Machinery {
    committer: Committer,
    disk: Hand<DiskJob, DiskDone>,
    reading: Hand<ReadJob, ReadDone>,
}

/// One opening of one log; another opening has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LogKey(u64);

/// A log that is known here.
struct Served {
    name: Arc<str>,
    /// The number of the request that used it last.
    used: u64,
    /// Who had it opened; nobody where what was there before needed it.
    opener: Option<NameId>,
    /// `None` while it is being opened.
    open: Option<Box<Open>>,
}

/// A log that is open.
struct Open {
    log: Log,
    options: wire::Options,
    /// Nobody was told yet that it was made.
    is_new: bool,
    followers: Vec<FollowerId>,
    /// A sync that is under way.
    ticket: Option<Ticket>,
    /// Why none is.
    refused: Option<SyncError>,
    /// Who waits for one, by position.
    waiting: VecDeque<Unsynced>,
    /// Whose records are half appended: nobody's come between.
    writer: Option<LaneId>,
}

/// An answer that is given when everything below a position survives power loss.
struct Unsynced {
    below: u64,
    lane: LaneId,
    request: RequestId,
    /// `None` where the answer is up to where the log is synced.
    appended: Option<wire::Appended>,
}

/// A request, where it lies.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    id: RequestId,
    tool: &'a str,
    payload: &'a [u8],
}

impl<'a> Asked<'a> {
    /// One that has just come.
    pub(super) fn of(request: &RequestView<'a>) -> Self {
        Self { id: request.id(), tool: request.tool, payload: request.payload }
    }

    /// One that was kept.
    pub(super) fn again(request: &'a Request) -> Self {
        Self { id: request.id, tool: &request.tool, payload: &request.payload }
    }
}

/// A request that waits.
struct Held {
    id: RequestId,
    tool: String,
    payload: Vec<u8>,
    wait: Wait,
}

/// How far a request that waits has come.
#[derive(Clone, Copy, Default)]
struct Wait {
    why: Why,
    /// Records of it that were appended.
    appended: Option<(u64, u32)>,
    /// When it gives up.
    until: Option<Instant>,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Why {
    /// The log is being opened.
    Opening(LogKey),
    /// The disk is behind, or somebody else's records are half appended.
    Disk(LogKey),
    /// Followers that hold writers back are too far behind.
    Followers(LogKey),
    /// The caller has not taken earlier answers.
    Room,
    /// Another thread works for it and its answer will come.
    #[default]
    Answer,
}

/// What came of trying to carry out a request.
enum Outcome {
    /// It is over.
    Said(Said),
    /// Its answer comes with others'.
    Later,
    /// It is to be tried again.
    Hold(Why),
    /// The same, with records that were appended, and when it gives up.
    HoldAppend(Why, Option<(u64, u32)>, Option<Instant>),
}

/// A record that is appended when a link ends.
struct Will {
    log: Arc<str>,
    agent: Agent,
    sender: String,
    payload: Vec<u8>,
}

/// Who asks, and how often it was tried.
struct Asking<'a> {
    lane: LaneId,
    agent: Agent,
    name: Rc<str>,
    request: RequestId,
    appended: Option<(u64, u32)>,
    until: Option<Instant>,
    callers: &'a mut Callers,
}

impl Logs {
    /// Logs live in `directory`; `bell` wakes the serving thread.
    pub(super) fn new(directory: PathBuf, bell: Bell) -> Self {
        Self {
            directory,
            bell: Arc::new(bell),
            machinery: None,
            logs: BTreeMap::new(),
            names: BTreeMap::new(),
            last_key: 0,
            held: BTreeMap::new(),
            followers: BTreeMap::new(),
            last_follower: 0,
            hungry: BTreeSet::new(),
            syncing: BTreeSet::new(),
            wills: BTreeMap::new(),
            last_words: VecDeque::new(),
            next_look: None,
        }
    }

    /// Whether a request is about a log.
    pub(super) fn knows(tool: &str) -> bool {
        tool.starts_with("log.")
    }

    /// Carries out one request, now or later.
    pub(super) fn asked(&mut self, callers: &mut Callers, lane: LaneId, asked: Asked<'_>) {
        if self.append_at_once(callers, lane, asked) {
            return;
        }
        let Some(wait) = self.attempt(callers, lane, asked, Wait::default()) else { return };
        let (id, tool, payload) = (asked.id, asked.tool.to_owned(), asked.payload.to_vec());
        self.held.insert(lane, Held { id, tool, payload, wait });
    }

    /// Whether nothing more may be read from a link for now.
    pub(super) fn is_holding(&self, lane: LaneId) -> bool {
        self.held.contains_key(&lane)
    }

    /// Links whose readers somebody waits for: followers that hold a writer back who waits, as far as they have something to
    /// take.
    pub(super) fn waited_for(&self) -> BTreeSet<LaneId> {
        let logs = self.held.values().filter_map(|held| match held.wait.why {
            Why::Followers(key) => self.open(key),
            _ => None,
        });
        let followers = logs.flat_map(|open| {
            let followers = open.followers.iter().filter_map(|id| self.followers.get(id));
            followers.filter(|follower| follower.is_too_far_behind(open) && follower.has_more())
        });
        followers.map(|follower| follower.lane).collect()
    }

    /// Whether an answer comes from the disk, for which who stops should wait.
    pub(super) fn is_busy(&self) -> bool {
        let comes =
            |held: &Held| matches!(held.wait.why, Why::Opening(_) | Why::Disk(_) | Why::Answer);
        !self.syncing.is_empty() || !self.last_words.is_empty() || self.held.values().any(comes)
    }

    /// When [`Logs::tick`] has something to do though nothing comes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // Who waits for something else as well gives up when that has come.
        let is_due = |held: &&Held| matches!(held.wait.why, Why::Followers(_));
        let held = self.held.values().filter(is_due).filter_map(|held| held.wait.until).min();
        [held, self.next_look].into_iter().flatten().min()
    }

    /// A caller does not wait for this request any more. One that another thread works for is answered when that is done.
    pub(super) fn cancelled(&mut self, callers: &mut Callers, lane: LaneId, request: u32) {
        let is_it = |held: &Held| held.id.0 as u32 == request && held.wait.why != Why::Answer;
        if self.held.get(&lane).is_some_and(is_it)
            && let Some(held) = self.held.remove(&lane)
        {
            self.forget_writer(lane);
            let answer = self.taken_back(&held);
            return self.say(callers, lane, held.id, answer);
        }
        for open in self.logs.values_mut().filter_map(|served| served.open.as_mut()) {
            let is_it = |one: &Unsynced| one.lane == lane && one.request.0 as u32 == request;
            if let Some(index) = open.waiting.iter().position(is_it)
                && let Some(one) = open.waiting.remove(index)
            {
                let error = Said::Failed(encoded(&refuse::not_waited_for()));
                return self.say(callers, lane, one.request, error);
            }
        }
        self.forget_followers(|follower| {
            follower.lane == lane && follower.request.0 as u32 == request
        });
    }

    /// What is said to whoever took a request back that waited.
    fn taken_back(&self, held: &Held) -> Said {
        let (Why::Disk(key) | Why::Followers(key)) = held.wait.why else {
            return Said::Failed(encoded(&cancelled()));
        };
        let next = self.open(key).map(|open| open.log.next_position());
        match (held.wait.appended, next) {
            _ if held.tool != "log.append" => Said::Failed(encoded(&cancelled())),
            (None, None) => Said::Failed(encoded(&cancelled())),
            (appended, next) => {
                let (first, count) = appended.unwrap_or((next.unwrap_or_default(), 0));
                let short = Some(wire::Short::Cancelled);
                Said::Appended(wire::Appended { first, count, short })
            }
        }
    }

    /// Others may append again where this link's records were half appended.
    fn forget_writer(&mut self, lane: LaneId) {
        for open in self.logs.values_mut().filter_map(|served| served.open.as_mut()) {
            open.writer = open.writer.filter(|writer| *writer != lane);
        }
    }

    /// A link ended.
    pub(super) fn link_gone(&mut self, lane: LaneId) {
        self.held.remove(&lane);
        self.forget_writer(lane);
        self.forget_followers(|follower| follower.lane == lane);
        if let Some(will) = self.wills.remove(&lane) {
            if self.last_words.len() < LOG_WILLS_WAITING_MAX {
                self.last_words.push_back(will);
            } else {
                tracing::warn!(log = &*will.log, "too many last words wait; one is lost");
            }
        }
    }

    /// Takes results, feeds followers, tries again what waits. True when something moved.
    pub(super) fn tick(&mut self, callers: &mut Callers) -> bool {
        if self.machinery.is_none() && self.last_words.is_empty() {
            return false;
        }
        let mut moved = self.take_results(callers);
        moved |= self.take_syncs(callers);
        self.say_last_words(callers);
        moved |= self.feed_hungry(callers);
        moved |= self.try_held(callers);
        self.look_for_old();
        moved
    }

    /// Carries out a request as far as it goes now; what it waits for where it is not over.
    fn attempt(
        &mut self,
        callers: &mut Callers,
        lane: LaneId,
        asked: Asked<'_>,
        wait: Wait,
    ) -> Option<Wait> {
        let caller = callers.get(lane)?;
        let (agent, name) = (caller.agent, Rc::clone(&caller.name));
        let (request, Wait { appended, until, .. }) = (asked.id, wait);
        let outcome = match wire::Operation::decode(asked.tool, asked.payload) {
            Ok(Some((log, operation))) => {
                let asking = Asking { lane, agent, name, request, appended, until, callers };
                self.carry_out(asking, log, operation)
            }
            Ok(None) => Err(refuse::no_such_tool(asked.tool)),
            Err(error) => Err(refuse::unreadable(&error)),
        };
        match outcome {
            Ok(Outcome::Said(said)) => self.say(callers, lane, request, said),
            Ok(Outcome::Later) => {}
            Ok(Outcome::Hold(why)) => return Some(Wait { why, ..wait }),
            Ok(Outcome::HoldAppend(why, appended, until)) => {
                return Some(Wait { why, appended, until });
            }
            Err(error) => self.say(callers, lane, request, Said::Failed(encoded(&error))),
        }
        None
    }

    /// What waits and need not any more is tried again.
    fn try_held(&mut self, callers: &mut Callers) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let now = Instant::now();
        let lanes: Vec<(LaneId, Why, bool)> = self
            .held
            .iter()
            .map(|(lane, Held { wait, .. })| {
                (*lane, wait.why, wait.until.is_some_and(|until| until <= now))
            })
            .collect();
        let mut moved = false;
        for (lane, why, is_late) in lanes {
            let is_ready = match why {
                Why::Opening(key) => self.logs.get(&key).is_none_or(|log| log.open.is_some()),
                Why::Disk(key) => self.open(key).is_none_or(|open| {
                    let is_free = open.writer.is_none_or(|writer| writer == lane);
                    // Where no sync is under way none will end: the attempt asks for one, or learns why there is none.
                    is_free && (open.ticket.is_none() || !open.log.is_disk_behind())
                }),
                Why::Followers(key) => is_late || !self.is_held_back(callers, key),
                Why::Room => callers.has_room(lane),
                Why::Answer => false,
            };
            if is_ready && let Some(held) = self.held.remove(&lane) {
                moved = true;
                let Held { id, tool, payload, wait } = held;
                let asked = Asked { id, tool: &tool, payload: &payload };
                if let Some(wait) = self.attempt(callers, lane, asked, wait) {
                    self.held.insert(lane, Held { id, tool, payload, wait });
                }
            }
        }
        moved
    }

    fn machinery(&mut self) -> io::Result<&mut Machinery> {
        match &mut self.machinery {
            Some(machinery) => Ok(machinery),
            machinery @ None => {
                let bell = Arc::clone(&self.bell);
                let committer = Committer::start_with(Mechanism::Best, move || bell.ring())?;
                tracing::debug!(mechanism = committer.mechanism(), "logs are served");
                let [bell, other] = [&self.bell, &self.bell].map(Arc::clone);
                let disk = Hand::start("log disk", move || bell.ring(), hands::work_on_disk)?;
                let reading = Hand::start("log read", move || other.ring(), hands::read)?;
                Ok(machinery.insert(Machinery { committer, disk, reading }))
            }
        }
    }

    fn open(&self, key: LogKey) -> Option<&Open> {
        self.logs.get(&key)?.open.as_deref()
    }

    fn open_mut(&mut self, key: LogKey) -> Option<&mut Open> {
        self.logs.get_mut(&key)?.open.as_deref_mut()
    }

    fn say(&mut self, callers: &mut Callers, lane: LaneId, request: RequestId, said: Said) {
        callers.say(lane, request, said);
    }

    /// Deletes what the policy of a log does not keep.
    fn retain(&mut self, key: LogKey) {
        let Some(machinery) = &mut self.machinery else { return };
        let open = self.logs.get_mut(&key).and_then(|served| served.open.as_mut());
        let Some(open) = open.filter(|_| machinery.disk.has_room()) else { return };
        let surplus = open.log.take_surplus(now_ns(), 0);
        if !surplus.is_empty() {
            // There is room, as was seen.
            let _ = machinery.disk.give(DiskJob::Remove { key, surplus, asked: None });
        }
    }

    fn look_for_old(&mut self) {
        let Some(next) = self.next_look else { return };
        if Instant::now() < next {
            return;
        }
        self.next_look = None;
        let keys: Vec<LogKey> = self.logs.keys().copied().collect();
        for key in keys {
            let age_max_ns = self.open(key).map_or(0, |open| open.options.age_max_ns);
            if age_max_ns > 0 {
                self.retain(key);
                self.look_again(age_max_ns);
            }
        }
    }

    /// Logs are looked at for what is too old, some times in the age that they allow.
    fn look_again(&mut self, age_max_ns: u64) {
        if age_max_ns == 0 {
            return;
        }
        let interval = Duration::from_nanos(age_max_ns / 8);
        let next = Instant::now() + interval.clamp(LOG_LOOK_INTERVAL_MIN, LOG_LOOK_INTERVAL_MAX);
        self.next_look = Some(self.next_look.map_or(next, |known| known.min(next)));
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(epoch.as_nanos()).unwrap_or(u64::MAX)
}
