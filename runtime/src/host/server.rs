//! The serving thread of one hosted agent: owns the client and the receiving half of every link,
//! takes requests off the links, answers what the agent has at once, starts calls for the rest, and sleeps whenever there is
//! nothing to do. After a message it spins for as long as a wake-up costs, because who has an answer often asks again.
//!
//! Calls that wait start in the order of their priorities, with the guarantee of `priority` for the lowest.
//!
//! Answers that find no room wait with their link (`answering`), which is not read while it has many: its caller is held up by
//! itself and closed by nobody.
//!
//! Bounds: `CALLS_AT_ONCE_MAX` calls run, `CALLS_QUEUED_MAX` wait, of one caller over all its links `CALLS_PER_CALLER_MAX`
//! and `CALLS_QUEUED_PER_CALLER_MAX`; one more is answered with `busy`. Callers, not links, have their turns. A request whose granted directory has not come yet (it travels over the socket, the
//! request over shared memory) waits aside.

mod grants;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use agents_contract::{Agent, Caller, Cancellation, Station, ToolError};
use ipc::class::ReceivingHalf;
use ipc::client::{Client, ClientError, Event, Offer};
use ipc::closer::Closer;
use ipc::doorbell::Bell;
use ipc::header::LaneId;
use ipc::lane::ReceiveError;
use ipc::link::{Incoming, LinkReceiver, Request, RequestId, View};
use ipc::wait::adaptive_spin;
use tracing::{debug, info, warn};

use self::grants::KeptDirectory;
use super::answering::Answering;
use super::callers::{Callers, Place};
use super::calls::{Call, Notice, Shared, draining, tool_error};
use super::counters::{Counters, Reporter};
use super::events::Topics;
use super::immediate;
use super::scheduled::ScheduledHost;
use super::station::{Post, Presence};
use super::wakefulness::Wakefulness;
use crate::limits::{
    ANSWER_RETRY_MAX, ANSWER_RETRY_MIN, CALLS_AT_ONCE_MAX, CALLS_QUEUED_MAX,
    CALLS_QUEUED_PER_CALLER_MAX, NOTICES_MAX, QUEUED_BYTES_MAX, QUEUED_BYTES_PER_CALLER_MAX,
    UNSENT_PER_LINK_MAX,
};
use crate::priority::{Fair, Priority};

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The daemon stops, and everything in flight was finished.
    Drained,
    /// The daemon is gone; whatever runs is cut off.
    DaemonGone,
}

/// One hosted agent on the bus.
pub(super) struct Server {
    client: Client,
    shared: Arc<Shared>,
    notices: Receiver<Notice>,
    links: BTreeMap<LaneId, Served>,
    callers: Callers,
    running: BTreeMap<(LaneId, RequestId), Running>,
    /// Counts the times that messages were taken; every caller has its share of each.
    turns: u64,
    /// The agent's own word, asked once.
    tools: BTreeSet<String>,
    queued: Fair<Call>,
    /// Calls whose directory has not come, until when it must have.
    ungranted: Vec<(Call, Instant)>,
    topics: Topics,
    reporter: Reporter,
    draining: bool,
    wakefulness: Wakefulness,
    closer: Closer,
}

struct Running {
    cancellation: Cancellation,
    _place: Place,
}

struct Served {
    receiver: LinkReceiver,
    link: Arc<Answering>,
    kept: Option<KeptDirectory>,
    /// When answers that wait are tried again, and how long after the last time that is.
    retry: Option<Instant>,
    pause: Duration,
}

impl Server {
    /// `closer` is the client's.
    pub(super) fn new(
        agent: Arc<dyn Agent>,
        client: Client,
        closer: Closer,
        host: Arc<ScheduledHost>,
    ) -> std::io::Result<Self> {
        let bell = Bell::from_peer(client.doorbell().ringer().try_clone_to_owned()?)?;
        let (tell, notices) = sync_channel(NOTICES_MAX);
        let counters = Counters::new(host, Arc::clone(&agent));
        let tools = agent.manifest().tools.into_iter().collect();
        let presence = Presence::default();
        Ok(Self {
            client,
            shared: Arc::new(Shared {
                agent,
                counters,
                notices: tell,
                bell,
                presence,
                threads: Arc::default(),
            }),
            closer,
            notices,
            links: BTreeMap::new(),
            callers: Callers::default(),
            running: BTreeMap::new(),
            turns: 0,
            tools,
            queued: Fair::new(CALLS_QUEUED_MAX),
            ungranted: Vec::new(),
            topics: Topics::default(),
            reporter: Reporter::default(),
            draining: false,
            wakefulness: Wakefulness::new(
                !adaptive_spin().is_zero()
                    // A quota of one processor, too, has nobody at work while this thread spins.
                    && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1),
            ),
        })
    }

    /// Where the agent's own work has its outlet.
    pub(super) fn station(&self) -> Arc<dyn Station> {
        Arc::new(Post { shared: Arc::clone(&self.shared) })
    }

    /// Serves until the daemon stops or is gone.
    pub(super) fn run(mut self) -> Result<Ended, ClientError> {
        self.client.prepare_lane();
        let served = loop {
            match self.turn() {
                Ok(false) => {}
                Ok(true) => break self.leave(),
                Err(error) => break Err(error),
            }
        };
        match served {
            Err(error) if is_hangup(&error) => Ok(Ended::DaemonGone),
            served => served,
        }
    }

    /// Everything that is there to do; where there is nothing, spins once, or sleeps until there is something. True when all is
    /// done for good.
    fn turn(&mut self) -> Result<bool, ClientError> {
        let waited = self.ungranted.len();
        let taken = self.take_messages()?;
        // What a request brings along comes another way, and mostly is there by now.
        if self.wakefulness.must_look(taken) || self.ungranted.len() > waited {
            self.look_around()?;
        }
        if taken > 0 {
            return Ok(false);
        }
        if self.wakefulness.spins(Instant::now) {
            std::hint::spin_loop();
            return Ok(false);
        }
        // Before the notices are taken: what had ended by then has told all that it had to tell, and nothing more begins.
        let presence = &self.shared.presence;
        let is_over = self.draining && !presence.is_busy() && !presence.is_followed();
        self.look_around()?;
        let idle = self.running.is_empty()
            && self.queued.is_empty()
            && self.ungranted.is_empty()
            && !self.shared.presence.is_busy()
            && !self.shared.presence.is_followed()
            && !self.is_anything_unsent();
        // Of all, because those that have ended say so only when they are asked.
        let all: Vec<LaneId> = self.links.keys().copied().collect();
        let taken = self.take_from(&all)?;
        if taken > 0 {
            self.wakefulness.must_look(taken);
            return Ok(false);
        }
        if self.draining && idle {
            return Ok(is_over);
        }
        self.sleep()?;
        Ok(false)
    }

    /// What came on other ways than the lanes, and what follows from it.
    fn look_around(&mut self) -> Result<(), ClientError> {
        self.take_events()?;
        self.take_notices()?;
        self.send_unsent()?;
        self.take_grants()?;
        self.start_calls();
        self.report()
    }

    fn sleep(&mut self) -> Result<(), ClientError> {
        let grants = self.ungranted.iter().map(|(_, until)| *until);
        let retry = self.links.values().filter_map(Served::next_try).min();
        let is_busy = self.shared.presence.is_busy();
        let report = self.reporter.next(&self.shared.counters, is_busy);
        let deadline = grants.chain(report).chain(retry).min();
        let lanes = self.links.values_mut().filter(|served| served.is_read());
        let lanes = lanes.map(|served| served.receiver.raw() as &mut dyn ReceivingHalf);
        self.client.wait(&mut lanes.collect::<Vec<_>>(), deadline)?;
        Ok(())
    }

    fn is_anything_unsent(&self) -> bool {
        self.links.values().any(|served| served.link.unsent_count() > 0)
    }

    /// Sends what waited for room.
    fn send_unsent(&mut self) -> Result<(), ClientError> {
        let mut broken = Vec::new();
        for (lane, served) in &mut self.links {
            served.send_unsent();
            broken.extend(served.link.broken().map(|violation| (*lane, violation)));
        }
        for (lane, violation) in broken {
            warn!(%violation, lane = lane.0, "a link is given up");
            self.client.quarantine(lane, &violation.to_string())?;
            self.forget(lane);
        }
        Ok(())
    }

    /// Tells the daemon what was counted, when that is due.
    fn report(&mut self) -> Result<(), ClientError> {
        match self.reporter.due(&self.shared.counters, Instant::now()) {
            Some(report) => self.client.report(report),
            None => Ok(()),
        }
    }

    fn leave(mut self) -> Result<Ended, ClientError> {
        if let Some(report) = self.reporter.last_report(&self.shared.counters) {
            self.client.report(report)?;
        }
        self.client.bye()?;
        Ok(Ended::Drained)
    }

    /// What the router told.
    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.client.next_event(Instant::now())? {
            match event {
                Event::LinkOffered(offer) => self.offered(offer)?,
                Event::LinkClosed { lane, code, reason } => {
                    debug!(lane = lane.0, code, reason, "a link ended");
                    self.forget(lane);
                    self.topics.forget(lane);
                    // Whoever it was has gone, and the next one would wait for it.
                    self.client.prepare_lane();
                }
                Event::ReadersChanged { lane } => self.topics.update(&mut self.client, lane)?,
                Event::Draining => {
                    info!(running = self.running.len(), "finishing what is in flight");
                    self.draining = true;
                    self.shared.presence.stop();
                    self.refuse_waiting();
                }
                // Hosted agents subscribe to nothing yet, and only the exchange is asked for routes.
                Event::TopicFound(_)
                | Event::RouteWanted { .. }
                | Event::RouteReady { .. }
                | Event::RouteRefused { .. } => {}
            }
        }
        Ok(())
    }

    fn offered(&mut self, offer: Offer) -> Result<(), ClientError> {
        let (lane, from) = (offer.lane, offer.from.clone());
        if self.draining {
            return self.client.decline(lane, "the agent is stopping");
        }
        let link = match self.client.accept(offer) {
            Ok(link) => link,
            Err(error) if is_hangup(&error) => return Err(error),
            Err(error) => {
                // The client has declined it already.
                warn!(%error, peer = from.manifest.name, "a link was not accepted");
                return Ok(());
            }
        };
        let caller = Caller { name: from.manifest.name, uid: from.uid, pid: from.pid };
        let (sender, receiver) = link.split();
        let account = self.callers.account(&caller);
        let link = Answering::new(lane, caller, sender, account);
        let (retry, pause) = (None, ANSWER_RETRY_MIN);
        self.links.insert(lane, Served { receiver, link, kept: None, retry, pause });
        Ok(())
    }

    /// What came over the links, a bounded number from each caller; how much it was. What can be is answered, calls are started for the
    /// rest.
    fn take_messages(&mut self) -> Result<u32, ClientError> {
        let ready = |served: &mut Served| served.is_read() && served.receiver.raw().has_message();
        let lanes =
            self.links.iter_mut().filter_map(|(lane, served)| ready(served).then_some(*lane));
        // Allocates only when something is there.
        let lanes: Vec<LaneId> = lanes.collect();
        self.take_from(&lanes)
    }

    fn take_from(&mut self, lanes: &[LaneId]) -> Result<u32, ClientError> {
        let mut taken = 0;
        self.turns += 1;
        // Each time another link begins, so that of a caller's links none has every turn.
        let (last, first) = lanes.split_at(self.turns as usize % lanes.len().max(1));
        for lane in first.iter().chain(last) {
            while self.take_message(*lane)? {
                taken += 1;
            }
        }
        if taken > 0 && !self.queued.is_empty() {
            self.start_calls();
        }
        Ok(taken)
    }

    /// One message of one link, if it is there and its caller has its turn.
    fn take_message(&mut self, lane: LaneId) -> Result<bool, ClientError> {
        let Some(served) = self.links.get_mut(&lane) else { return Ok(false) };
        if !served.is_read() || !served.link.account.has_turn(self.turns) {
            return Ok(false);
        }
        let message = match served.receiver.try_view() {
            Ok(None) => return Ok(false),
            Ok(Some(View::Request(request)))
                if !self.draining
                    && immediate::try_answer(&self.shared, &served.link, &request) =>
            {
                served.link.account.took(self.turns);
                return Ok(true);
            }
            Ok(Some(view)) => view.to_incoming(),
            // The end of a socket is its peer's word, of which the router may know nothing; of what it knows it takes no note.
            Err(ReceiveError::Ended(ended)) => {
                self.client.decline(lane, &ended.to_string())?;
                self.forget(lane);
                return Ok(false);
            }
            Err(error) => {
                warn!(%error, lane = lane.0, "a link is given up");
                self.client.quarantine(lane, &error.to_string())?;
                self.forget(lane);
                return Ok(false);
            }
        };
        let link = Arc::clone(&served.link);
        link.account.took(self.turns);
        match message {
            Incoming::Request(request) => self.requested(&link, request)?,
            Incoming::Cancelled { request } => self.cancelled(&link, request),
            other => debug!(?other, "a message that a hosted agent has no use for"),
        }
        Ok(true)
    }

    fn requested(&mut self, link: &Arc<Answering>, request: Request) -> Result<(), ClientError> {
        let tool = &request.tool;
        let refusal = if !self.tools.contains(tool) {
            Some(tool_error("no-such-tool", format!("there is no tool `{tool}`"), false))
        } else if self.draining {
            Some(draining())
        } else {
            self.is_full_for(link, request.payload.len()).map(|text| tool_error("busy", text, true))
        };
        if let Some(refusal) = refusal {
            self.discard_grants(link.lane, &request.grants);
            refuse(link, &request, &refusal);
            return Ok(());
        }
        let link = Arc::clone(link);
        let cancellation = Cancellation::until(request.deadline);
        self.admit(Call { request, directory: None, link, cancellation });
        Ok(())
    }

    /// Lets a call wait for its turn.
    fn enqueue(&mut self, call: Call) {
        let priority = Priority::nearest(call.request.priority);
        if let Err(call) = self.queued.try_push(priority, call) {
            let text = format!("{CALLS_QUEUED_MAX} requests are waiting already");
            refuse(&call.link, &call.request, &tool_error("busy", text, true));
        }
    }

    /// Nothing begins any more: what only waited so far is told so, and holds up no stop.
    fn refuse_waiting(&mut self) {
        while let Some((_, call)) = self.queued.pop_where(|_| true) {
            refuse(&call.link, &call.request, &draining());
        }
        for (call, _) in std::mem::take(&mut self.ungranted) {
            self.discard_grants(call.link.lane, &call.request.grants);
            refuse(&call.link, &call.request, &draining());
        }
    }

    /// Why a request with so much payload cannot wait its turn, if it cannot.
    fn is_full_for(&self, link: &Answering, bytes: usize) -> Option<String> {
        let (mut waiting, mut waiting_bytes) = (0, bytes);
        let (mut of_caller, mut bytes_of_caller) = (0, bytes);
        for call in self.queued.iter().chain(self.ungranted.iter().map(|(call, _)| call)) {
            let bytes = call.request.payload.len();
            waiting += 1;
            waiting_bytes += bytes;
            if Arc::ptr_eq(&call.link.account, &link.account) {
                of_caller += 1;
                bytes_of_caller += bytes;
            }
        }
        if waiting >= CALLS_QUEUED_MAX {
            Some(format!("{waiting} requests are waiting already"))
        } else if of_caller >= CALLS_QUEUED_PER_CALLER_MAX {
            Some(format!("{of_caller} requests of this caller are waiting already"))
        } else if waiting_bytes > QUEUED_BYTES_MAX {
            Some(format!("the requests that wait would have {waiting_bytes} bytes"))
        } else if bytes_of_caller > QUEUED_BYTES_PER_CALLER_MAX {
            let text = "the requests of this caller that wait would have";
            Some(format!("{text} {bytes_of_caller} bytes"))
        } else {
            None
        }
    }

    fn cancelled(&mut self, link: &Arc<Answering>, request: u32) {
        let lane = link.lane;
        // Only the low half travels; on one link it does not come round while a call lasts.
        let is_it = |of: LaneId, id: RequestId| of == lane && id.0 as u32 == request;
        for ((of, id), running) in &self.running {
            if is_it(*of, *id) {
                running.cancellation.cancel();
            }
        }
        link.withdraw(|id| is_it(lane, id));
        self.queued.retain(|call| !is_it(call.link.lane, call.request.id));
        let of_it =
            self.ungranted.extract_if(.., |(call, _)| is_it(call.link.lane, call.request.id));
        for (call, _) in of_it.collect::<Vec<_>>() {
            self.discard_grants(lane, &call.request.grants);
        }
    }

    fn start_calls(&mut self) {
        let started = self.running.len();
        self.start_queued();
        // The kernel may have woken the call's thread on this processor, behind this one. What this one has to do next nobody waits for.
        if self.running.len() > started {
            std::thread::yield_now();
        }
    }

    fn start_queued(&mut self) {
        while self.has_place() {
            let Some(call) = self.next_call() else { return };
            let key = (call.link.lane, call.request.id);
            if self.running.contains_key(&key) {
                // The ids are the caller's own; one that runs already cannot be answered apart.
                let text = "a request with this id is running already".to_owned();
                let refusal = tool_error("duplicate", text, false);
                refuse(&call.link, &call.request, &refusal);
                continue;
            }
            let (cancellation, place) = (call.cancellation.clone(), call.link.account.begin());
            self.running.insert(key, Running { cancellation, _place: place });
            self.shared.counters.started();
            if !call.start(&self.shared) {
                self.running.remove(&key);
            }
        }
    }

    /// Whether one more call may run, whoever's.
    fn has_place(&self) -> bool {
        let running = self.running.len();
        running < CALLS_AT_ONCE_MAX && self.callers.may_begin(running)
    }

    /// The call whose turn it is among those whose caller has a place.
    fn next_call(&mut self) -> Option<Call> {
        self.queued.pop_where(|call| call.link.account.has_place()).map(|(_, call)| call)
    }

    fn take_notices(&mut self) -> Result<(), ClientError> {
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Ended { lane, request } => {
                    self.running.remove(&(lane, request));
                }
                Notice::Publish { subject, payload } => {
                    self.topics.publish(&mut self.client, &subject, &payload)?;
                }
                Notice::Changed => self.shared.counters.changed(),
            }
        }
        Ok(())
    }

    /// A link is over: nothing more is read from it, and nobody wants what runs for it.
    fn forget(&mut self, lane: LaneId) {
        if let Some(served) = self.links.remove(&lane) {
            for (_, running) in self.running.range(of_link(lane)) {
                running.cancellation.cancel();
            }
            served.link.close();
        }
        self.queued.retain(|call| call.link.lane != lane);
        self.ungranted.retain(|(call, _)| call.link.lane != lane);
    }
}

impl Served {
    /// Whether anything is taken from it: not while many of its answers wait.
    fn is_read(&self) -> bool {
        self.link.unsent_count() < UNSENT_PER_LINK_MAX
    }

    /// When what waits is to be tried again; nothing where nothing waits.
    fn next_try(&self) -> Option<Instant> {
        (self.link.unsent_count() > 0).then(|| self.retry.unwrap_or_else(Instant::now))
    }

    /// Sends what waits, if its time has come. Where nothing is taken it is tried less and less often: no reader can wake this
    /// thread.
    fn send_unsent(&mut self) {
        if self.link.unsent_count() == 0 {
            (self.retry, self.pause) = (None, ANSWER_RETRY_MIN);
            return;
        }
        let now = Instant::now();
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        let moved = self.link.flush();
        self.pause = if moved { ANSWER_RETRY_MIN } else { (2 * self.pause).min(ANSWER_RETRY_MAX) };
        self.retry = Some(now + self.pause);
    }
}

/// Answers with an error, which waits where there is no room.
fn refuse(link: &Answering, request: &Request, refusal: &ToolError) {
    debug!(code = refusal.code, caller = link.caller.name, "a request was refused");
    link.refuse(request.id, refusal, request.deadline);
}

/// Where the calls of one link stand among those that run.
fn of_link(lane: LaneId) -> RangeInclusive<(LaneId, RequestId)> {
    (lane, RequestId(0))..=(lane, RequestId(u64::MAX))
}

fn is_hangup(error: &ClientError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    match error {
        ClientError::RouterGone => true,
        ClientError::Io(error) => [BrokenPipe, ConnectionReset].contains(&error.kind()),
        _ => false,
    }
}
