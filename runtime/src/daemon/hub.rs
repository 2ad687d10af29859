//! The router's hands: one task that owns the router, feeds it events, and carries its effects out.
//!
//! It never waits for a client: packets go into bounded outboxes, and a client whose outbox is full
//! is disconnected. It never waits for memory: segments were checked by the connection that
//! received them.

mod picture;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::class::ClassSet;
use ipc::control::{FromRouter, ToRouter};
use ipc::fault;
use ipc::header::{AgentId, Class, LaneId};
use ipc::limits::STATUS_PIECE_BYTES_MAX;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::board::Board;
use super::connections::held::{self, Carried, HeldLane, Traffic};
use super::connections::segments::Segments;
use super::governor::{Told, silence};
use super::hosted::HostedTable;
use super::quota::{Limit, LimitTable};
use super::router::{AgentView, Carry, Effect, Ending, Event, Router};
use super::snapshot::{
    AgentStatus, Fallback, Governor, LimitStatus, Machine, Phase, SCHEMA, Snapshot,
};
use crate::limits::{FAREWELL_TIMEOUT, GRANTS_WAITING_MAX};
use crate::machine::monotonic_ns;

/// What the hub is told.
#[derive(Debug)]
pub(crate) enum ToHub {
    /// A connection exists; its packets go here. Comes before every event of the same agent.
    Connected {
        /// The id it was given.
        agent: AgentId,
        /// Its way out.
        outbox: Outbox,
    },
    /// Something for the router.
    Event(Box<Event<Arc<Segments>>>),
    /// Somebody was turned away before the router knew of it.
    TurnedAway {
        /// Why.
        code: &'static str,
    },
    /// Somebody reached a limit at the door.
    Limited {
        /// Which.
        limit: &'static str,
    },
    /// The governor has looked at the machine.
    Machine(Box<Told>),
    /// A picture is wanted.
    Snapshot(oneshot::Sender<Snapshot>),
}

/// One client's way out.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Packets, in order; bounded.
    pub(crate) packets: mpsc::Sender<Outgoing>,
    /// One more for each granted descriptor among them.
    pub(crate) grants: Arc<()>,
    /// Dropped, it ends the connection at once.
    pub(crate) hangup: oneshot::Sender<Infallible>,
}

/// One packet for a client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What it says.
    pub(crate) message: FromRouter,
    /// What travels beside it.
    pub(crate) carry: Carry<Arc<Segments>>,
    /// Of a granted descriptor: counted until it was sent.
    pub(crate) _counted: Option<Arc<()>>,
}

/// What the hub knows besides the bus.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Random per start.
    pub(crate) instance: u64,
    /// Where the socket is.
    pub(crate) runtime_dir: String,
    /// Where metrics are served.
    pub(crate) metrics_addr: Option<String>,
    /// The hosted agents.
    pub(crate) hosted: Arc<HostedTable>,
    /// When the daemon started.
    pub(crate) started: Instant,
}

/// The task's state.
#[derive(Debug)]
pub(crate) struct Hub {
    router: Router<Arc<Segments>>,
    facts: Facts,
    outboxes: BTreeMap<AgentId, Outbox>,
    lanes: BTreeMap<LaneId, HeldLane>,
    /// What lanes that ended have carried. A class is there once it has been used; CRITICAL always is.
    ended: BTreeMap<Class, Carried>,
    /// What agents on the bus had to do with lanes that ended.
    past: BTreeMap<AgentId, Traffic>,
    /// Lanes that ended, by how.
    endings: BTreeMap<&'static str, u64>,
    board: Board,
    draining: bool,
    /// What the governor said last.
    told: Option<Told>,
}

impl Hub {
    /// An empty bus that keeps `reserved` names for hosted agents, and is shown on `board`.
    pub(crate) fn new(facts: Facts, reserved: Vec<String>, board: Board) -> Self {
        Self {
            router: Router::new(facts.instance, reserved),
            facts,
            outboxes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            ended: BTreeMap::from([(Class::Critical, Carried::default())]),
            past: BTreeMap::new(),
            endings: Ending::ALL.map(|ending| (ending.code(), 0)).into(),
            board,
            draining: false,
            told: None,
        }
    }

    /// The same, where links from and to agents of such names pass through the exchange.
    pub(crate) fn with_routed(mut self, patterns: Vec<String>) -> Self {
        self.router = self.router.with_routed(patterns);
        self
    }

    /// The same, where links are of these classes and agents may have so much.
    pub(crate) fn with_policy(mut self, classes: ClassSet, limits: LimitTable) -> Self {
        self.router = self.router.with_classes(classes).with_limits(limits);
        self
    }

    /// Works until every sender is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<ToHub>) {
        loop {
            let deadlines = [self.router.next_deadline(), self.board.next_refresh()];
            let next = match deadlines.into_iter().flatten().min() {
                None => Some(inbox.recv().await),
                Some(deadline) => {
                    let wait = deadline.saturating_sub(self.now());
                    tokio::time::timeout(wait, inbox.recv()).await.ok()
                }
            };
            match next {
                Some(None) => return,
                Some(Some(message)) => self.handle(message),
                None => self.feed(Event::Tick),
            }
            // Here, because a busy inbox never lets the timeout come.
            if self.board.next_refresh().is_some_and(|due| due <= self.now()) {
                self.show();
            }
        }
    }

    /// Brings the directory up to date.
    fn show(&mut self) {
        let picture = self.picture();
        self.board.show(&picture, self.now());
    }

    fn handle(&mut self, message: ToHub) {
        match message {
            ToHub::Connected { agent, outbox } => {
                self.outboxes.insert(agent, outbox);
            }
            ToHub::Event(event) => {
                if let Event::Gone { agent, .. } = event.as_ref() {
                    self.outboxes.remove(agent);
                }
                if matches!(*event, Event::Drain) {
                    self.draining = true;
                    self.lanes.values().for_each(HeldLane::drain);
                }
                self.feed(*event);
            }
            ToHub::TurnedAway { code } => self.router.count_refusal(code),
            ToHub::Limited { limit } => self.router.count_limit(limit),
            ToHub::Machine(told) => {
                self.board.show_machine(&told.entry);
                self.told = Some(*told);
            }
            ToHub::Snapshot(answer) => {
                // Whoever asked may have given up waiting.
                let _ = answer.send(self.snapshot());
            }
        }
    }

    /// One event and all that follows from it, disconnections of full outboxes included.
    fn feed(&mut self, event: Event<Arc<Segments>>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if matches!(&event, Event::Message { message: ToRouter::OpenLink { .. }, .. }) {
                self.router.set_failed(self.facts.hosted.failed());
            }
            let now = self.now();
            for effect in self.router.step(event, now) {
                if let Some(overfull) = self.carry_out(effect) {
                    let reason = "it does not read its socket".to_owned();
                    events.push_back(Event::Gone { agent: overfull, reason });
                }
            }
        }
    }

    /// Carries one effect out. Gives the agent back whose outbox is full, after disconnecting it.
    fn carry_out(&mut self, effect: Effect<Arc<Segments>>) -> Option<AgentId> {
        match effect {
            Effect::Send { to, mut message, carry } => {
                number_page(&message, &carry);
                self.follow_readers(&message, &carry);
                if let FromRouter::TopicFound { lane, lineage, .. } = &mut message {
                    let held = self.lanes.get(lane).zip(self.router.name_of(to));
                    lineage.resume = held.and_then(|(held, name)| held.left_at(name));
                }
                return self.send(to, message, carry);
            }
            Effect::Close { agent } => self.close(agent),
            Effect::LaneOpened { lane, first, second } => {
                let writers = self.router.writers(lane).unwrap_or_default();
                if let (Some(epoch), Some(page)) = (self.router.epoch_of(lane), first.control()) {
                    page.set_epoch(epoch);
                }
                let class = self.router.class_of(lane);
                let held = HeldLane::new(class, writers, &first, second.as_deref());
                self.lanes.insert(lane, held);
                fault::point("daemon.lane-opened");
                self.board.changed();
            }
            Effect::LaneEnded { lane, ending } => self.end_lane(lane, ending),
            Effect::OfferEnded { segments, ending } => held::end_offer(&segments, ending),
            Effect::TellStatus { to, request } => return self.tell_status(to, request),
            Effect::TellDirectory { to, request } => return self.tell_directory(to, request),
            Effect::Reported { name, report } => self.facts.hosted.reported(&name, report),
            Effect::Arrived { info, hosted } => {
                self.board.changed();
                let (name, pid) = (info.manifest.name, info.pid);
                fault::point("daemon.registered");
                if hosted {
                    info!(agent = name, pid, "hosted agent is on the bus");
                    self.facts.hosted.arrived(&name);
                } else {
                    debug!(agent = name, pid, "agent is on the bus");
                }
            }
            Effect::Left { agent, name, hosted, reason } => {
                self.past.remove(&agent);
                self.board.changed();
                if hosted {
                    info!(agent = name, reason, "hosted agent left the bus");
                    self.facts.hosted.left(&name);
                } else {
                    debug!(agent = name, reason, "agent left the bus");
                }
            }
        }
        None
    }

    /// Who reads a topic is counted from the moment its writer is told.
    fn follow_readers(&mut self, message: &FromRouter, carry: &Carry<Arc<Segments>>) {
        match (message, carry) {
            (FromRouter::ReaderJoined { lane, reader }, Carry::Reader(segments)) => {
                let name = self.router.name_of(*reader).unwrap_or_default();
                fault::point("daemon.reader-joined");
                if let Some(held) = self.lanes.get_mut(lane) {
                    held.join(*reader, name, segments);
                }
            }
            (FromRouter::ReaderLeft { lane, reader }, _) => {
                if let Some(held) = self.lanes.get_mut(lane) {
                    let taken = held.leave(*reader);
                    self.past.entry(*reader).or_default().add(taken);
                }
            }
            _ => return,
        }
        self.board.changed();
    }

    /// Keeps what a lane has carried, and tells both sides that it is over.
    fn end_lane(&mut self, lane: LaneId, ending: Ending) {
        let Some(mut held) = self.lanes.remove(&lane) else { return };
        held.refresh();
        *self.endings.entry(ending.code()).or_default() += 1;
        self.ended.entry(held.class()).or_default().add(&held.carried());
        for (agent, traffic) in held.traffic() {
            // Those of an agent that is leaving go with `Left`, which comes after.
            self.past.entry(agent).or_default().add(traffic);
        }
        fault::point("daemon.lane-ending");
        held.end(ending);
        fault::point("daemon.lane-ended");
        self.board.changed();
    }

    fn send(
        &mut self,
        to: AgentId,
        message: FromRouter,
        carry: Carry<Arc<Segments>>,
    ) -> Option<AgentId> {
        if matches!(message, FromRouter::LinkOffered { .. }) {
            fault::point("daemon.before-offer");
        }
        let outbox = self.outboxes.get(&to)?;
        let is_grant = matches!(message, FromRouter::Granted { .. });
        if is_grant && Arc::strong_count(&outbox.grants) > GRANTS_WAITING_MAX {
            // Whoever names it is told that it did not come; the descriptor is closed here.
            self.router.count_limit("grants");
            return None;
        }
        let _counted = is_grant.then(|| Arc::clone(&outbox.grants));
        match outbox.packets.try_send(Outgoing { message, carry, _counted }) {
            Ok(()) => None,
            // Its task ended; `Gone` is on its way.
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                warn!(agent = to.0, "a client does not read its socket and is disconnected");
                self.router.count_limit("outbox");
                self.outboxes.remove(&to);
                Some(to)
            }
        }
    }

    /// Lets the last packets go out, for a bounded time.
    fn close(&mut self, agent: AgentId) {
        let Some(outbox) = self.outboxes.remove(&agent) else { return };
        drop(outbox.packets);
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL_TIMEOUT).await;
            drop(outbox.hangup);
        });
    }

    fn tell_status(&mut self, to: AgentId, request: u32) -> Option<AgentId> {
        let text = match serde_json::to_vec(&self.snapshot()) {
            Ok(text) => text,
            Err(error) => {
                debug!(%error, "a snapshot has no JSON form");
                Vec::new()
            }
        };
        let mut pieces = text.chunks(STATUS_PIECE_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let more = pieces.peek().is_some();
            let message = FromRouter::Status { request, more, piece: piece.to_vec() };
            let overfull = self.send(to, message, Carry::Nothing);
            if overfull.is_some() {
                return overfull;
            }
        }
        None
    }

    fn tell_directory(&mut self, to: AgentId, request: u32) -> Option<AgentId> {
        let (segments, stale) = self.board.asked(self.now());
        if stale {
            self.show();
        }
        self.send(to, FromRouter::Directory { request }, Carry::Grant(segments))
    }

    fn snapshot(&mut self) -> Snapshot {
        if self.board.is_old(self.now()) {
            // Somebody looks at numbers; who reads the mirror has them as fresh.
            self.show();
        }
        self.lanes.values_mut().for_each(HeldLane::refresh);
        let entries = self.class_entries();
        let by_class = entries.iter().filter_map(|entry| {
            let class = Class::from_number(entry.class)?;
            Some((class.name(), picture::class_status(entry, self.quarantined(class))))
        });
        let classes: BTreeMap<_, _> = by_class.collect();
        let (machine, governor) = self.machine();
        let facts = &self.facts;
        let phase = match (self.draining, facts.hosted.all_came_up()) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Ready,
            (false, false) => Phase::Starting,
        };
        Snapshot {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            instance: format!("{:016x}", facts.instance),
            uptime_seconds: facts.started.elapsed().as_secs_f64(),
            phase,
            runtime_dir: facts.runtime_dir.clone(),
            metrics_addr: facts.metrics_addr.clone(),
            agents: self.router.agents().map(status_of).collect(),
            hosted: facts.hosted.statuses(),
            lanes: self.router.lanes_count(),
            messages: classes.iter().map(|(class, one)| (*class, one.messages)).collect(),
            rejected: classes.iter().map(|(class, one)| (*class, one.rejected)).collect(),
            classes,
            refused: self.router.refused().clone(),
            limited: self.router.limited().clone(),
            allowed: self.router.classes().iter().map(Class::name).collect(),
            fallbacks: self.router.fallbacks().map(fallback).collect(),
            ended: self.endings.clone(),
            machine,
            governor,
            work: facts.hosted.work(),
        }
    }

    /// The machine as it counts now, and whether its governor still decides.
    fn machine(&self) -> (Option<Machine>, Governor) {
        let decided = self.told.as_ref().map(|told| told.entry.decided_ns);
        let age = decided.map(|at| Duration::from_nanos(monotonic_ns().saturating_sub(at)));
        let governor = silence::governor(age.unwrap_or_else(|| self.now()), age.is_none());
        let machine = self.told.as_ref().map(|told| told.machine.clone());
        let machine = match governor.silent {
            Some(_) => machine.map(silence::unseen),
            None => machine,
        };
        (machine, governor)
    }

    fn now(&self) -> Duration {
        self.facts.started.elapsed()
    }
}

/// The page of a link that is about to be offered: its epoch is the link's number, which no other one of this router has.
fn number_page(message: &FromRouter, carry: &Carry<Arc<Segments>>) {
    let (FromRouter::LinkOffered { lane, .. } | FromRouter::RouteWanted { lane, .. }) = message
    else {
        return;
    };
    if let Carry::Offer(segments) = carry
        && let Some(control) = segments.control()
    {
        control.set_epoch(lane.0);
    }
}

fn fallback((wanted, got, links, reason): (Class, Class, u64, &str)) -> Fallback {
    Fallback { wanted: wanted.name(), got: got.name(), links, reason: reason.to_owned() }
}

fn limit((name, limit): (&'static str, &Limit)) -> (&'static str, LimitStatus) {
    (name, LimitStatus { value: limit.value, set_by: limit.set_by.to_string() })
}

fn status_of(view: AgentView) -> AgentStatus {
    let manifest = view.info.manifest;
    AgentStatus {
        id: view.info.id.0,
        name: manifest.name,
        version: manifest.version,
        category: manifest.category,
        pid: view.info.pid,
        uid: view.info.uid,
        hosted: view.hosted,
        tools: manifest.tools,
        capabilities: manifest.capabilities,
        tags: manifest.tags,
        links: view.links_count,
        topics: view.topics_count,
        subscriptions: view.subscriptions_count,
        limits: view.limits.iter().map(limit).collect(),
    }
}
