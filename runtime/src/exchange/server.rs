//! The exchange's one thread: takes what comes over its links, passes it on, and sleeps when nothing comes.
//!
//! A route is two links that meet here. It is wanted, then its second half is asked for, then both are open; when one half
//! ends, what it still has is passed on and the other half is closed. Nothing here waits for one peer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipc::class::{AnySender, Class, ReceivingHalf};
use ipc::client::{Client, ClientError, Event, Offer};
use ipc::control::{CloseCause, Report};
use ipc::fault;
use ipc::header::LaneId;
use ipc::lane::TakenMessage;
use ipc::limits::SLOTS_MAX;
use ipc::link::{CallError, Incoming, View};
use ipc::manifest::AgentManifest;
use tracing::{debug, info, warn};

use super::callers::{Callers, READER_BROKE, READER_ENDED, Said, payload_bytes};
use super::counted::Counted;
use super::forward::{Direction, Turn};
use super::logs::{Asked, Logs};
use super::pace::Pace;
use super::rates::{Rate, Rates};
use super::routes::{End, Route, largest_holding, pass_rest};
use super::work::{self, Work, encoded, refusal};
use super::{LOG_SYNC, is_hangup, mechanism_here};
use crate::daemon::LimitTable;
use crate::limits::{
    CALLER_READ_AHEAD_MESSAGES_MAX, CALLER_TURN_MAX, FORWARD_RETRY_INTERVAL,
    REQUEST_BYTES_PER_TURN_MAX, REQUESTS_PER_TURN_MAX, ROUTED_BYTES_MAX,
};

/// How often the links of callers are looked at in a turn in which none has anything, and how many looks that may be in all: half a
/// microsecond. And the same where routes wait for their turn.
const LOOKS_MAX: (usize, usize) = (32, 32);
const LOOKS_BESIDE_ROUTES_MAX: (usize, usize) = (4, 8);
/// What both sides of a route are told.
const STALLED: &str = "limit `routed_message_patience`: a message was begun and not completed";

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
    logs: Logs,
    /// Kept for their memory.
    lanes: Vec<LaneId>,
    /// The message that is looked at.
    taken: TakenMessage,
    draining: bool,
    /// How many messages a second are taken from each agent.
    rates: Rates,
    began: Instant,
    pace: Pace,
    /// How logs are synced here, for the daemon to show.
    log_sync: String,
    /// How often a limit was reached, and whether the daemon knows.
    counted: Counted,
}

impl Server {
    pub(super) fn new(
        client: Client,
        callers: Callers,
        work: Work,
        logs: Logs,
        limits: LimitTable,
    ) -> Self {
        let began = Instant::now();
        Self {
            client,
            wanted: BTreeMap::new(),
            routes: BTreeMap::new(),
            first_of: BTreeMap::new(),
            callers,
            work,
            logs,
            lanes: Vec::new(),
            taken: TakenMessage::default(),
            draining: false,
            rates: Rates::new(limits),
            began,
            pace: Pace::new(began),
            log_sync: mechanism_here(),
            // How logs are synced is news.
            counted: Counted::new(),
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
        loop {
            // Turns are long while there is much to do, and a death must not wait for many of them.
            if self.pace.begins_turn() {
                self.take_events()?;
                self.report()?;
            }
            let passed = self.pass_on()?;
            if passed {
                // The time that it took is not that of the caller who comes next.
                self.pace.now();
            }
            if self.serve_callers()? || passed {
                self.pace.has_moved();
                continue;
            }
            // No pause between two turns: one is as long as the processor's, and nobody looks meanwhile.
            if !self.pace.has_rested() {
                continue;
            }
            if self.draining && !self.work.is_holding() && !self.logs.is_busy() {
                return Ok(());
            }
            self.report()?;
            self.sleep()?;
            self.take_events()?;
            self.pace.woke();
        }
    }

    /// One turn over all routes. True when something moved.
    fn pass_on(&mut self) -> Result<bool, ClientError> {
        let mut moved = false;
        let mut ended: Option<(LaneId, CloseCause, &'static str)> = None;
        let mut held = self.routes.values().map(Route::held).fold(0, usize::saturating_add);
        for (first, route) in &mut self.routes {
            let before = route.held();
            let (there, back) = route.pass(self.began, &mut self.counted);
            held = held.saturating_sub(before).saturating_add(route.held());
            for turn in [there, back] {
                match turn {
                    Turn::Passed(count) => moved |= count > 0,
                    Turn::SourceStalled => {
                        ended = Some((*first, CloseCause::Wanted, STALLED));
                    }
                    Turn::SourceEnded | Turn::TargetEnded => {
                        ended = Some((*first, CloseCause::Wanted, "it ended"));
                    }
                    Turn::SourceBroken | Turn::TargetBroken => {
                        let text = "one side broke the protocol";
                        ended = Some((*first, CloseCause::Quarantined, text));
                    }
                }
            }
            if held > ROUTED_BYTES_MAX {
                break;
            }
        }
        if held > ROUTED_BYTES_MAX
            && let Some(largest) = largest_holding(&self.routes)
        {
            self.counted.reached_bytes();
            let text = "limit `routed_bytes`: most of what routes hold waits here";
            self.close_route(largest, CloseCause::Wanted, text)?;
            moved = true;
        }
        if let Some((first, why, reason)) = ended {
            if reason == STALLED {
                self.counted.stalled();
            }
            self.close_route(first, why, reason)?;
            // Another one may have ended in the same turn.
            moved = true;
        }
        Ok(moved)
    }

    /// Sleeps until something comes, something is due, or somebody for whom something waits has made room.
    fn sleep(&mut self) -> Result<(), ClientError> {
        let now = self.began.elapsed();
        let late = self.routes.values().flat_map(|route| [&route.there, &route.back]);
        // One that is late and was not given up has more in its lane than may be read at the moment.
        let soonest = now + FORWARD_RETRY_INTERVAL;
        let late = late.filter_map(Direction::deadline).min();
        let late = late.map(|at| self.began + at.max(soonest));
        let news = self.counted.next_report();
        // Who may not send more at the moment wakes nobody up by what lies in its lane. One moment for all that follows: who
        // is left out below because of its rate must be among these.
        let mut is_untold = self.is_anybody_slowed(now);
        let may_send = |rate: &Option<Rate>| rate.as_ref().is_none_or(|rate| rate.is_left(now));
        let (mut lanes, mut writers) = (Vec::new(), Vec::new());
        let mut wait_for_room = |writer| {
            let writer: &mut AnySender = writer;
            if writer.is_told_of_room() {
                writers.push(writer);
            } else {
                is_untold = true;
            }
        };
        let (logs, work, waited_for) = (&self.logs, &self.work, self.logs.waited_for());
        for caller in self.callers.iter_mut() {
            let lane = caller.receiver.lane();
            let is_held = logs.is_holding(lane) || work.is_holding_link(lane);
            let is_read = (!is_held || caller.may_read_ahead()) && may_send(&caller.rate);
            let is_waited_for =
                caller.is_behind() || (waited_for.contains(&lane) && caller.shows_what_is_read());
            let (receiver, sender) = caller.ways();
            if is_read {
                lanes.push(receiver as &mut dyn ReceivingHalf);
            }
            if is_waited_for {
                wait_for_room(sender);
            }
        }
        for route in self.routes.values_mut() {
            let Route { opener, target, there, back, rates } = route;
            // A direction whose message waits is not read, so only its reader can move it on.
            for (direction, rate, from, to) in [
                (there, &rates[0], &mut opener.receiver, &mut target.sender),
                (back, &rates[1], &mut target.receiver, &mut opener.sender),
            ] {
                if direction.is_waiting() {
                    wait_for_room(to.raw());
                } else if may_send(rate) {
                    lanes.push(from.raw());
                }
            }
        }
        let retry = is_untold.then(|| Instant::now() + FORWARD_RETRY_INTERVAL);
        let own = [self.work.next_deadline(), self.logs.next_deadline()];
        let deadline = [retry, news, late].into_iter().chain(own).flatten().min();
        self.client.wait_for_room(&mut lanes, &mut writers, deadline).map(|_woken| ())
    }

    /// How many messages a second are taken from an agent; nothing where it is any number.
    fn rate_of(&mut self, agent: &AgentManifest) -> Option<Rate> {
        self.rates.of(agent, self.began.elapsed())
    }

    fn is_anybody_slowed(&self, now: Duration) -> bool {
        let rates = self.routes.values().flat_map(|route| &route.rates);
        rates
            .chain(self.callers.iter().map(|caller| &caller.rate))
            .flatten()
            .any(|rate| !rate.is_left(now))
    }

    /// Tells the daemon what was slowed down or closed, not more often than it wants to hear of it.
    fn report(&mut self) -> Result<(), ClientError> {
        let Some(errors) = self.counted.news() else { return Ok(()) };
        let facts = vec![(LOG_SYNC.to_owned(), self.log_sync.clone())];
        self.client.report(Report { errors, facts, ..Report::default() })
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.client.next_event(Instant::now())? {
            match event {
                Event::RouteWanted { offer, target } => {
                    let from = &offer.from.manifest.name;
                    debug!(from, to = target.manifest.name, "a route is wanted");
                    fault::point("exchange.route-wanted");
                    match self.client.open_route(offer.lane) {
                        Ok(request) => {
                            fault::point("exchange.route-asked");
                            self.wanted.insert(request, offer);
                        }
                        Err(error) if is_hangup(&error) => return Err(error),
                        // Out of memory or descriptors: one route is lost and not all of them.
                        Err(error) => {
                            warn!(%error, "the second half of a route cannot be made");
                            self.client.decline(offer.lane, &error.to_string())?;
                        }
                    }
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
        let (id, manifest) = (offer.from.id, offer.from.manifest.clone());
        let name = &manifest.name;
        match self.client.accept(offer) {
            Ok(link) => {
                let (sender, receiver) = link.split();
                let rate = self.rate_of(&manifest);
                self.callers.add(id, name, sender, receiver, rate);
                self.work.arrived(&mut self.callers);
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
        let mut lanes = std::mem::take(&mut self.lanes);
        self.callers.list(&mut lanes);
        // What else a turn has to look at takes longer than to look at a few links, so these are looked at more than once: a
        // request is mostly found by such a look.
        let (turn_max, links_max) = match self.routes.is_empty() {
            true => LOOKS_MAX,
            false => LOOKS_BESIDE_ROUTES_MAX,
        };
        for _ in 0..turn_max.min(links_max / lanes.len().max(1)).max(1) {
            for lane in &lanes {
                moved |= self.serve_caller(*lane)?;
            }
            if moved {
                break;
            }
        }
        self.lanes = lanes;
        // Whatever lets something else go on counts: who is found asleep by its own room, or with a request that was kept for
        // later, is woken by nobody.
        moved |= self.work.tick(&mut self.callers);
        moved |= self.logs.tick(&mut self.callers);
        moved |= self.callers.flush_all();
        while let Some((lane, why)) = self.callers.take_given_up() {
            self.close_caller(lane, why)?;
            // Somebody else's request may have waited for one of this link.
            moved = true;
        }
        Ok(moved)
    }

    /// Closes a link that is no use any more.
    fn close_caller(&mut self, lane: LaneId, why: &'static str) -> Result<(), ClientError> {
        warn!(lane = lane.0, why, "a link is closed");
        match why {
            READER_BROKE => self.client.quarantine(lane, why)?,
            READER_ENDED => {
                // As when the router tells of an end: what was asked before it is carried out.
                self.counted.reader_ended();
                self.hear_out(lane);
                self.client.decline(lane, why)?;
            }
            _ => self.client.decline(lane, why)?,
        }
        self.forget_caller(lane);
        Ok(())
    }

    /// Takes requests of one caller, as many as are one turn's. True when there was a message.
    fn serve_caller(&mut self, lane: LaneId) -> Result<bool, ClientError> {
        let (mut moved, mut bytes, turn_began) = (false, 0, self.pace.recent());
        for count in 0..REQUESTS_PER_TURN_MAX {
            let is_held = self.is_holding(lane);
            let Some(caller) = self.callers.get(lane) else { break };
            // Mostly nothing is there, and a look at the clock would be the longest part of finding that.
            let now = match count > 0 || caller.rate.is_some() {
                true => self.pace.now(),
                false => turn_began,
            };
            // Some requests are small and a lot of work: an append of a thousand records, a take of as many items.
            // Not before the first: what waits in memory for its turn wakes nobody.
            let has_had_its_turn = bytes > REQUEST_BYTES_PER_TURN_MAX
                || now.saturating_sub(turn_began) > CALLER_TURN_MAX;
            if count > 0 && has_had_its_turn {
                break;
            }
            if is_held && !caller.may_read_ahead() {
                break;
            }
            if !is_held && let Some(kept) = caller.take_kept() {
                moved = true;
                bytes += payload_bytes(&kept);
                self.asked(lane, kept);
                continue;
            }
            if let Some(rate) = caller.rate.as_ref().filter(|rate| !rate.is_left(now)) {
                self.counted.held_back(rate, caller.receiver.raw().has_message(), now);
                break;
            }
            match caller.receiver.try_take(&mut self.taken) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    self.receiving_failed(lane, &error)?;
                    break;
                }
            }
            if let Some(rate) = &caller.rate {
                rate.take(now);
            }
            moved = true;
            bytes += self.taken.payload_bytes();
            match View::of(self.taken.message()) {
                View::Cancelled { request } => self.cancelled(lane, request),
                view if is_held => caller.keep_for_later(view.to_incoming()),
                // Answered where it lies: most of these are over before the next one is looked at.
                View::Request(request) if Logs::knows(request.tool) => {
                    self.logs.asked(&mut self.callers, lane, Asked::of(&request));
                }
                view => self.asked(lane, view.to_incoming()),
            }
            self.taken.release();
        }
        Ok(moved)
    }

    fn receiving_failed(&mut self, lane: LaneId, error: &CallError) -> Result<(), ClientError> {
        let class = self.callers.get(lane).map(|caller| caller.receiver.raw().class());
        match error {
            // The end of a socket is its peer's word; the router may know nothing of it.
            CallError::Ended { .. } if class == Some(Class::Normal) => {
                self.client.decline(lane, "it ended")?;
            }
            // The router tells of an end.
            CallError::Ended { .. } => return Ok(()),
            error => {
                warn!(%error, lane = lane.0, "a link is given up");
                self.client.quarantine(lane, &error.to_string())?;
            }
        }
        self.forget_caller(lane);
        Ok(())
    }

    /// Whether nothing more is carried out of a link for now, because a request of it waits.
    fn is_holding(&self, lane: LaneId) -> bool {
        self.logs.is_holding(lane) || self.work.is_holding_link(lane)
    }

    /// Nobody waits for a request any more: one that has begun, that waits, or that was only read.
    fn cancelled(&mut self, lane: LaneId, request: u32) {
        let kept = self.callers.get(lane).and_then(|caller| caller.take_back(request));
        if let Some(id) = kept {
            return self.callers.say(lane, id, Said::Failed(encoded(&work::cancelled())));
        }
        self.work.cancelled(&mut self.callers, lane, request);
        self.logs.cancelled(&mut self.callers, lane, request);
    }

    fn asked(&mut self, lane: LaneId, incoming: Incoming) {
        match incoming {
            Incoming::Request(request) if Work::knows(&request.tool) => {
                self.work.asked(&mut self.callers, lane, request);
            }
            Incoming::Request(request) if Logs::knows(&request.tool) => {
                self.logs.asked(&mut self.callers, lane, Asked::again(&request));
            }
            Incoming::Request(request) => {
                let text = format!("the exchange has no tool `{}`", request.tool);
                let error = encoded(&refusal("no-such-tool", text));
                self.callers.say(lane, request.id, Said::Failed(error));
            }
            Incoming::Cancelled { request } => self.cancelled(lane, request),
            other => debug!(?other, "a message that the exchange has no use for"),
        }
    }

    /// What a caller had in its lane when it ended is carried out, in order, as far as it does not have to wait: what it has
    /// done is done, and what it gave is there. It is asked for nothing that would be its own. One that ignores its end and
    /// goes on writing holds nobody.
    fn hear_out(&mut self, lane: LaneId) {
        for _ in 0..CALLER_READ_AHEAD_MESSAGES_MAX + SLOTS_MAX {
            // What stands behind a request that waits may rely on it.
            if self.is_holding(lane) {
                return;
            }
            let Some(caller) = self.callers.get(lane) else { return };
            let incoming = match caller.take_kept() {
                Some(kept) => kept,
                None => match caller.receiver.try_receive() {
                    Ok(Some(incoming)) => incoming,
                    _ => return,
                },
            };
            let is_wanted = match &incoming {
                Incoming::Request(request) => !Work::is_for_the_caller(&request.tool),
                Incoming::Cancelled { .. } => true,
                _ => false,
            };
            if is_wanted {
                self.asked(lane, incoming);
            }
        }
    }

    fn forget_caller(&mut self, lane: LaneId) {
        self.work.link_ends(&mut self.callers, lane);
        self.logs.link_gone(lane);
        if let Some(remains) = self.callers.remove(lane) {
            self.work.link_ended(&mut self.callers, remains);
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
        let rates = [&opener, &target].map(|end| self.rate_of(&end.receiver.peer().manifest));
        self.first_of.insert(target.lane, first);
        let (there, back) = (Direction::default(), Direction::default());
        self.routes.insert(first, Route { opener, target, there, back, rates });
        Ok(())
    }

    /// One half is over: what it still has goes to the other half, which is then closed.
    fn link_closed(&mut self, lane: LaneId, reason: &str) -> Result<(), ClientError> {
        self.wanted.retain(|_, offer| offer.lane != lane);
        self.hear_out(lane);
        self.forget_caller(lane);
        let first = self.first_of.get(&lane).copied().unwrap_or(lane);
        if let Some(route) = self.routes.get_mut(&first) {
            let now = self.began.elapsed();
            // As far as there is room; who is dead or slow loses the rest, as on a direct link.
            let Route { opener, target, there, back, .. } = route;
            let (from, to) = (opener.receiver.raw(), target.sender.raw());
            pass_rest(there, from, to, now);
            let (from, to) = (target.receiver.raw(), opener.sender.raw());
            pass_rest(back, from, to, now);
        }
        self.close_route(first, CloseCause::Wanted, reason)
    }

    /// Closes both halves; the router knows which of them ended already, and how.
    fn close_route(
        &mut self,
        first: LaneId,
        why: CloseCause,
        reason: &str,
    ) -> Result<(), ClientError> {
        let Some(route) = self.routes.remove(&first) else { return Ok(()) };
        self.first_of.remove(&route.target.lane);
        fault::point("exchange.route-ending");
        for lane in [route.target.lane, route.opener.lane] {
            match why {
                CloseCause::Wanted => self.client.decline(lane, reason)?,
                CloseCause::Quarantined => self.client.quarantine(lane, reason)?,
            }
        }
        Ok(())
    }
}
