//! The exchange's one thread: takes what comes over its links, passes it on, and sleeps when nothing comes.
//!
//! A route is two links that meet here. It is wanted, then its second half is asked for, then both are open; when one half
//! ends, what it still has is passed on and the other half is closed. Nothing here waits for one peer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipc::client::{Client, ClientError, Event, Offer};
use ipc::fault;
use ipc::header::LaneId;
use ipc::limits::SPIN_NS;
use ipc::link::{CallError, Incoming, LinkReceiver, LinkSender};
use tracing::{debug, info, warn};

use super::callers::{Callers, Said};
use super::forward::{Direction, Turn};
use super::work::{Work, encoded, refusal};
use crate::limits::{FORWARD_RETRY_INTERVAL, REQUESTS_PER_TURN_MAX, TURNS_PER_LOOK};

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The daemon stops, and what was on its way was passed on.
    Drained,
    /// The daemon is gone.
    DaemonGone,
}

/// The exchange.
pub(super) struct Server {
    client: Client,
    /// By the number of the request for the second half.
    wanted: BTreeMap<u32, Offer>,
    /// By the first half.
    routes: BTreeMap<LaneId, Route>,
    /// From the second half to the first.
    first_of: BTreeMap<LaneId, LaneId>,
    /// Who asks the exchange itself.
    callers: Callers,
    work: Work,
    draining: bool,
}

/// Two links that meet here.
struct Route {
    opener: End,
    target: End,
    there: Direction,
    back: Direction,
}

/// One link.
struct End {
    lane: LaneId,
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl Server {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            wanted: BTreeMap::new(),
            routes: BTreeMap::new(),
            first_of: BTreeMap::new(),
            callers: Callers::default(),
            work: Work::new(first_item()),
            draining: false,
        }
    }

    /// Serves until the daemon stops or is gone.
    pub(super) fn run(mut self) -> Result<Ended, ClientError> {
        match self.serve() {
            Err(error) if is_hangup(&error) => Ok(Ended::DaemonGone),
            Err(error) => Err(error),
            Ok(()) => {
                self.client.bye()?;
                Ok(Ended::Drained)
            }
        }
    }

    fn serve(&mut self) -> Result<(), ClientError> {
        let spin = Duration::from_nanos(SPIN_NS);
        let mut idle_since: Option<Instant> = None;
        let mut turns = 0u32;
        loop {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS_PER_LOOK) {
                self.take_events()?;
            }
            let passed = self.pass_on()?;
            if self.serve_callers()? || passed {
                idle_since = None;
                continue;
            }
            if !turns.is_multiple_of(TURNS_PER_LOOK) {
                std::hint::spin_loop();
                continue;
            }
            let now = Instant::now();
            if now.duration_since(*idle_since.get_or_insert(now)) < spin {
                continue;
            }
            if self.draining {
                return Ok(());
            }
            self.sleep()?;
            self.take_events()?;
            idle_since = None;
        }
    }

    /// One turn over all routes. True when something moved.
    fn pass_on(&mut self) -> Result<bool, ClientError> {
        let mut moved = false;
        let mut ended: Option<(LaneId, &'static str)> = None;
        for (first, route) in &mut self.routes {
            let there = route.there.pass(route.opener.receiver.raw(), route.target.sender.raw());
            let back = route.back.pass(route.target.receiver.raw(), route.opener.sender.raw());
            for turn in [there, back] {
                match turn {
                    Turn::Passed(count) => moved |= count > 0,
                    Turn::SourceEnded | Turn::TargetEnded => ended = Some((*first, "it ended")),
                    Turn::SourceBroken | Turn::TargetBroken => {
                        ended = Some((*first, "one side broke the protocol"));
                    }
                }
            }
        }
        if let Some((first, reason)) = ended {
            self.close_route(first, reason)?;
        }
        Ok(moved)
    }

    fn sleep(&mut self) -> Result<(), ClientError> {
        let waiting =
            self.routes.values().any(|route| route.there.is_waiting() || route.back.is_waiting());
        let behind = waiting || self.callers.is_anybody_behind();
        let retry = behind.then(|| Instant::now() + FORWARD_RETRY_INTERVAL);
        let deadline = [retry, self.work.next_deadline()].into_iter().flatten().min();
        // A route whose message waits is not read, so it cannot wake this thread either: it is looked at in a while.
        let mut lanes = Vec::with_capacity(2 * self.routes.len());
        lanes.extend(self.callers.iter_mut().map(|caller| caller.receiver.raw()));
        for route in self.routes.values_mut() {
            let Route { opener, target, there, back } = route;
            if !there.is_waiting() {
                lanes.push(opener.receiver.raw());
            }
            if !back.is_waiting() {
                lanes.push(target.receiver.raw());
            }
        }
        self.client.wait(&mut lanes, deadline).map(|_woken| ())
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.client.next_event(Instant::now())? {
            match event {
                Event::RouteWanted { offer, target } => {
                    let from = &offer.from.manifest.name;
                    debug!(from, to = target.manifest.name, "a route is wanted");
                    fault::point("exchange.route-wanted");
                    let request = self.client.open_route(offer.lane)?;
                    fault::point("exchange.route-asked");
                    self.wanted.insert(request, offer);
                }
                Event::RouteReady { request, link } => {
                    fault::point("exchange.route-half");
                    let (sender, receiver) = link.split();
                    let target = End { lane: receiver.lane(), sender, receiver };
                    self.meet(request, target)?;
                }
                Event::RouteRefused { request, code, message } => {
                    if let Some(offer) = self.wanted.remove(&request) {
                        debug!(code, message, "a route was refused");
                        self.client.decline(offer.lane, &message)?;
                    }
                }
                Event::LinkClosed { lane, code, reason } => {
                    debug!(lane = lane.0, code, reason, "a link ended");
                    self.link_closed(lane, &reason)?;
                }
                Event::LinkOffered(offer) => self.offered(offer)?,
                Event::Draining => {
                    info!(routes = self.routes.len(), "passing on what is on its way");
                    self.draining = true;
                }
                Event::TopicFound(_) | Event::ReadersChanged { .. } => {}
            }
        }
        Ok(())
    }

    fn offered(&mut self, offer: Offer) -> Result<(), ClientError> {
        if self.draining {
            return self.client.decline(offer.lane, "the daemon is stopping");
        }
        fault::point("exchange.caller-offered");
        let (id, name) = (offer.from.id, offer.from.manifest.name.clone());
        match self.client.accept(offer) {
            Ok(link) => {
                let (sender, receiver) = link.split();
                self.callers.add(id, &name, sender, receiver);
                Ok(())
            }
            Err(error) if is_hangup(&error) => Err(error),
            Err(error) => {
                // The client has declined it already.
                warn!(%error, name, "a link was not accepted");
                Ok(())
            }
        }
    }

    /// Takes requests, does what is due, sends what there is room for. True when there was a request.
    fn serve_callers(&mut self) -> Result<bool, ClientError> {
        let mut moved = false;
        for lane in self.callers.lanes() {
            for _ in 0..REQUESTS_PER_TURN_MAX {
                let Some(caller) = self.callers.get(lane) else { break };
                let incoming = match caller.receiver.try_receive() {
                    Ok(None) => break,
                    Ok(Some(incoming)) => incoming,
                    // The router tells of an end.
                    Err(CallError::Ended { .. }) => break,
                    Err(error) => {
                        warn!(%error, lane = lane.0, "a link is given up");
                        self.client.decline(lane, &error.to_string())?;
                        self.forget_caller(lane);
                        break;
                    }
                };
                moved = true;
                self.asked(lane, incoming);
            }
        }
        self.work.tick(&mut self.callers);
        for caller in self.callers.iter_mut() {
            // A link that is broken is told of by its next message.
            caller.flush();
        }
        for lane in self.work.take_overfull() {
            warn!(lane = lane.0, "a caller does not take its answers; its link is closed");
            self.client.decline(lane, "answers were not taken")?;
            self.forget_caller(lane);
        }
        Ok(moved)
    }

    fn asked(&mut self, lane: LaneId, incoming: Incoming) {
        match incoming {
            Incoming::Request(request) if Work::knows(&request.tool) => {
                self.work.asked(&mut self.callers, lane, &request);
            }
            Incoming::Request(request) => {
                let text = format!("the exchange has no tool `{}`", request.tool);
                let error = encoded(&refusal("no-such-tool", text));
                self.callers.say(lane, request.id, Said::Failed(error));
            }
            Incoming::Cancelled { request } => self.work.cancelled(lane, request),
            other => debug!(?other, "a message that the exchange has no use for"),
        }
    }

    fn forget_caller(&mut self, lane: LaneId) {
        self.work.link_gone(lane);
        if let Some(agent) = self.callers.remove(lane) {
            self.work.gone(&mut self.callers, agent);
        }
    }

    /// The second half is there: the first one can be accepted.
    fn meet(&mut self, request: u32, target: End) -> Result<(), ClientError> {
        let Some(offer) = self.wanted.remove(&request) else {
            // The opener left meanwhile.
            return self.client.decline(target.lane, "the other side left");
        };
        let first = offer.lane;
        let link = match self.client.accept(offer) {
            Ok(link) => link,
            Err(error) if is_hangup(&error) => return Err(error),
            Err(error) => {
                warn!(%error, "the opener of a route offered an unfit link");
                return self.client.decline(target.lane, "the other side's link was unfit");
            }
        };
        let (sender, receiver) = link.split();
        let opener = End { lane: first, sender, receiver };
        self.first_of.insert(target.lane, first);
        let (there, back) = (Direction::default(), Direction::default());
        self.routes.insert(first, Route { opener, target, there, back });
        Ok(())
    }

    /// One half is over: what it still has goes to the other half, which is then closed.
    fn link_closed(&mut self, lane: LaneId, reason: &str) -> Result<(), ClientError> {
        self.wanted.retain(|_, offer| offer.lane != lane);
        self.forget_caller(lane);
        let first = self.first_of.get(&lane).copied().unwrap_or(lane);
        if let Some(route) = self.routes.get_mut(&first) {
            // As far as there is room; who is dead or slow loses the rest, as on a direct link.
            let Route { opener, target, there, back } = route;
            while let Turn::Passed(1..) = there.pass(opener.receiver.raw(), target.sender.raw()) {}
            while let Turn::Passed(1..) = back.pass(target.receiver.raw(), opener.sender.raw()) {}
        }
        self.close_route(first, reason)
    }

    /// Closes both halves; the router knows which of them ended already, and how.
    fn close_route(&mut self, first: LaneId, reason: &str) -> Result<(), ClientError> {
        let Some(route) = self.routes.remove(&first) else { return Ok(()) };
        self.first_of.remove(&route.target.lane);
        fault::point("exchange.route-ending");
        self.client.decline(route.target.lane, reason)?;
        self.client.decline(route.opener.lane, reason)
    }
}

/// Ids of items grow over restarts too, so that an answer about an item of an earlier life meets nothing.
fn first_item() -> u64 {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(epoch.as_nanos()).unwrap_or_default()
}

fn is_hangup(error: &ClientError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    match error {
        ClientError::RouterGone => true,
        ClientError::Io(error) => [BrokenPipe, ConnectionReset].contains(&error.kind()),
        _ => false,
    }
}
