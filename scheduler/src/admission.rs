//! Who may run next: a pure state machine over requests, slots and time. It knows neither threads nor clocks.
//!
//! A request asks for work in *pieces*, of which several may run at once ([`Wish::Pieces`]), or for leave to begin something large
//! ([`Wish::Heavy`]) or to use the network ([`Wish::Download`]). It is given *grants*, one at a time. A piece gives its grant back when it
//! ends, or earlier: between two pieces the holder looks at [`Admission::is_contended`]. What runs is never stopped; a smaller decision
//! takes effect as grants come back.
//!
//! Rules:
//! 1. Of work that computes, no more begins while as much runs as the decision has slots ([`Slots::sum`]). One resolution may always
//!    run: it exceeds the slots by one where others hold all of them.
//! 2. The last performance slot is kept for resolution. Others may use it for short pieces while the machine is cool and no resolution
//!    runs or waits, or where there is no other slot at all.
//! 3. Of those that could run, the one with the highest rank is next: priorities as their numbers say, and each [`AGE_STEP`] of waiting
//!    counts as one more, up to a rank above everything. So the lowest is never starved.
//! 4. Among equal ranks requesters take turns, whatever each has queued; a requester's own requests go in order of arrival.
//! 5. Heavy work begins only where the decision allows it, and after [`DEFER_MAX`] nevertheless, whatever else has begun: what it heats
//!    with are pieces, of which no more run for it. Background work begins only where it is not paused, or after [`DEFER_MAX`], and one
//!    piece at a time.
//! 6. Transfers wait more than they compute, so they have no slots (what they bring is computed with in pieces); but fewer of them run
//!    where it is hot, or where nobody knows ([`downloads_max`]). A requester that has none may have one beyond that, up to
//!    [`DOWNLOADS_ALL_MAX`] of all: who is sent a byte now and then holds its own transfers for long, and nobody else's.

mod queue;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::queue::{Entry, Queue};
pub use self::queue::{Id, Order, Wish};
use crate::decision::{Background, Decision, Slots, State};
use crate::limits::{
    AGE_STEP, BACKGROUND_MAX, DEFER_MAX, DOWNLOADS_ALL_MAX, DOWNLOADS_MAX, JOBS_MAX, REQUESTS_MAX,
};
use crate::placement::{Lane, Work};

/// What a request may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leave {
    /// Run pieces on a lane.
    Run(Lane),
    /// Begin.
    Heavy,
    /// Use the network.
    Download,
}

/// One leave for one request; it comes back by [`Admission::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub id: Id,
    /// What for.
    pub leave: Leave,
}

/// Why a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// All slots are in use, or of transfers as many are under way as may be.
    Slots,
    /// It is too hot for it, or for as many slots as there would be.
    Heat,
    /// The temperature is not known any more.
    Blind,
    /// Background work is paused, or waits for other background work; no slot would help it.
    Paused,
}

impl Reason {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Reason; 4] = [Reason::Slots, Reason::Heat, Reason::Blind, Reason::Paused];

    /// The name in metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Slots => "slots",
            Reason::Heat => "heat",
            Reason::Blind => "blind",
            Reason::Paused => "paused",
        }
    }
}

/// What was deferred for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deferred {
    /// Requests that wait for their first grant now.
    pub waiting: usize,
    /// Requests that had to wait for it since the start.
    pub count: u64,
    /// How long those waited for it who do no more.
    pub time: Duration,
}

/// The transfers. They have no slots, so they are not among what is [`Deferred`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Those that were let begin.
    pub under_way: usize,
    /// Requests that wait for it.
    pub waiting: usize,
    /// Why they do.
    pub why: Option<Reason>,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The state.
#[derive(Debug)]
pub struct Admission {
    decision: Decision,
    queue: Queue,
    running: [usize; Lane::ALL.len()],
    resolving: usize,
    downloads: usize,
    deferred: [Deferred; Reason::ALL.len()],
}

impl Admission {
    /// Nobody asks for anything yet.
    pub fn new(decision: Decision) -> Self {
        Self {
            decision: sound(decision),
            queue: Queue::default(),
            running: [0; Lane::ALL.len()],
            resolving: 0,
            downloads: 0,
            deferred: [Deferred::default(); Reason::ALL.len()],
        }
    }

    /// Takes a request. It is to be withdrawn when it wants nothing more.
    pub fn ask(&mut self, order: &Order, wish: Wish, now: Duration) -> Result<Id, TooMany> {
        if self.queue.len() >= REQUESTS_MAX {
            return Err(TooMany);
        }
        Ok(self.queue.put(order, wish, now))
    }

    /// The next grant, if anybody may have one. To be asked until there is none, after everything that changes this.
    pub fn next(&mut self, now: Duration) -> Option<Grant> {
        let (id, leave) = self.queue.choose(now, |entry| self.leave_for(entry, now))?;
        let served = self.queue.serve(id, now);
        end_wait(&mut self.deferred, served.wait);
        self.count(leave, served.is_resolution, 1);
        Some(Grant { id, leave })
    }

    /// Notes who has to wait, and who does for another reason than before; to be called once [`Admission::next`] has nobody more.
    pub fn note_deferrals(&mut self, now: Duration) {
        let Self { decision, queue, deferred, .. } = self;
        let reason = |wish| (wish != Wish::Download).then(|| reason_for(wish, *decision));
        queue.note_waiting(now, reason, |before, reason, is_first| {
            end_wait(deferred, before);
            deferred[reason as usize].waiting += 1;
            deferred[reason as usize].count += u64::from(is_first);
        });
    }

    /// When time alone lets somebody begin who could not until now; nothing where that takes something else.
    pub fn next_look(&self, now: Duration) -> Option<Duration> {
        let is_put_off =
            |wish| matches!(wish, Wish::Heavy | Wish::Pieces { work: Work::Background, .. });
        let due = self.queue.wanting().filter(|entry| is_put_off(entry.wish));
        due.map(|entry| entry.since + DEFER_MAX).filter(|due| *due > now).min()
    }

    /// Why a request waits that has nothing yet.
    pub fn why(&self, id: Id) -> Option<Reason> {
        Some(match self.queue.wish_of_waiting(id)? {
            Wish::Download => self.why_transfers(),
            wish => reason_for(wish, self.decision),
        })
    }

    /// A grant is no longer used.
    pub fn give_back(&mut self, grant: Grant) {
        let is_resolution = self.queue.gave_back(grant.id);
        self.count(grant.leave, is_resolution, -1);
    }

    /// A request wants nothing more. Grants that it still holds come back later.
    pub fn withdraw(&mut self, id: Id, now: Duration) {
        let wait = self.queue.withdraw(id, now);
        end_wait(&mut self.deferred, wait);
    }

    /// This holds from now on, cut to what can be: it may come from another process.
    pub fn set_decision(&mut self, decision: Decision) {
        self.decision = sound(decision);
    }

    /// What holds.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// Whether a holder of this leave should give it back before its next piece: more run than may, or others wait.
    pub fn is_contended(&self) -> bool {
        let computing = self.computing();
        let slots = self.decision.slots;
        computing > slots.sum() || self.queue.has_others_waiting() || {
            let over = |lane: Lane, most: usize| self.running[lane as usize] > most;
            over(Lane::Performance, slots.performance.max(1))
                || over(Lane::Efficient, slots.efficient)
                || over(Lane::LowPower, slots.low_power)
        }
    }

    /// How many grants are held on each lane.
    pub fn running(&self) -> [usize; Lane::ALL.len()] {
        self.running
    }

    /// What waited, by reason; without transfers.
    pub fn deferred(&self) -> [Deferred; Reason::ALL.len()] {
        self.deferred
    }

    /// The transfers that run and wait.
    pub fn transfers(&self) -> Transfers {
        let waiting = self.queue.waiting().filter(|wish| *wish == Wish::Download).count();
        let why = (waiting > 0).then(|| self.why_transfers());
        Transfers { under_way: self.downloads, waiting, why }
    }

    /// Whether nobody asks for anything and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.queue.len() == 0
    }

    /// Whether somebody waits who has nothing yet, for whatever.
    pub fn has_waiting(&self) -> bool {
        self.queue.waiting().next().is_some()
    }

    /// Whether somebody has nothing yet to whom one more slot would give something.
    pub fn lacks_slots(&self) -> bool {
        self.deferred[Reason::Slots as usize].waiting > 0
    }

    /// How many pieces of a request of this kind could run at once if it were alone; at least 1.
    pub fn width(&self, work: Work) -> usize {
        let Slots { performance, efficient, low_power } = self.decision.slots;
        let width = match work {
            Work::Resolve => performance,
            Work::Unpack | Work::Scan => performance + efficient + low_power,
            Work::Background => BACKGROUND_MAX,
        };
        width.max(1)
    }

    /// Why transfers wait where they do: the machine's state, unless it makes no difference.
    fn why_transfers(&self) -> Reason {
        match self.downloads {
            DOWNLOADS_MAX.. => Reason::Slots,
            _ => reason_for(Wish::Download, self.decision),
        }
    }

    fn computing(&self) -> usize {
        let of = |lane: Lane| self.running[lane as usize];
        of(Lane::Performance) + of(Lane::Efficient) + of(Lane::LowPower)
    }

    fn count(&mut self, leave: Leave, is_resolution: bool, by: isize) {
        let add =
            |count: &mut usize| *count = count.checked_add_signed(by).expect("grants balance");
        match leave {
            Leave::Run(lane) => add(&mut self.running[lane as usize]),
            Leave::Download => add(&mut self.downloads),
            // What heats are their pieces. Who must not go on with many at once sees to that himself.
            Leave::Heavy => {}
        }
        if is_resolution {
            add(&mut self.resolving);
        }
    }

    /// What this request could have at once.
    fn leave_for(&self, entry: &Entry, now: Duration) -> Option<Leave> {
        let decision = self.decision;
        let waited_long = now.saturating_sub(entry.since) >= DEFER_MAX;
        match entry.wish {
            Wish::Heavy => (decision.heavy || waited_long).then_some(Leave::Heavy),
            Wish::Download => {
                let most = match self.queue.transfers_of(entry) {
                    0 => DOWNLOADS_ALL_MAX,
                    _ => downloads_max(decision.state),
                };
                (self.downloads < most).then_some(Leave::Download)
            }
            Wish::Pieces { work: Work::Background, .. } => {
                let may = decision.background != Background::Paused || waited_long;
                let free = self.running[Lane::Background as usize] < BACKGROUND_MAX;
                (may && free).then_some(Leave::Run(Lane::Background))
            }
            Wish::Pieces { work: Work::Resolve, .. } => {
                let free = self.running[Lane::Performance as usize] < decision.slots.performance
                    && self.computing() < decision.slots.sum();
                (free || self.resolving == 0).then_some(Leave::Run(Lane::Performance))
            }
            Wish::Pieces { work, .. } => self.lane_for_bulk(work).map(Leave::Run),
        }
    }

    /// Rules 1 and 2.
    fn lane_for_bulk(&self, work: Work) -> Option<Lane> {
        let Slots { performance, efficient, low_power } = self.decision.slots;
        if self.computing() >= self.decision.slots.sum() {
            return None;
        }
        let is_cool = matches!(self.decision.state, State::Optimal | State::Off);
        let is_burst = work == Work::Unpack && is_cool && !self.queue.has_resolution();
        let is_all = efficient + low_power == 0 && performance == 1;
        let kept = usize::from(!is_burst && !is_all);
        let lanes = [
            (Lane::Efficient, efficient),
            (Lane::Performance, performance.saturating_sub(kept)),
            (Lane::LowPower, low_power),
        ];
        let has_room = |(lane, most): &(Lane, usize)| self.running[*lane as usize] < *most;
        lanes.into_iter().find(has_room).map(|(lane, _)| lane)
    }
}

/// How many transfers may run at once beside the first of each requester (rule 6).
pub fn downloads_max(state: State) -> usize {
    match state {
        State::Optimal | State::Normal | State::Off => DOWNLOADS_MAX,
        State::Caution | State::Blind => DOWNLOADS_MAX / 2,
        State::Throttle => DOWNLOADS_MAX / 4,
    }
}

/// One performance slot at least, out of what was decided, and of all no more than there are threads for.
fn sound(decision: Decision) -> Decision {
    let slots = decision.slots.with_resolution();
    let performance = slots.performance.min(JOBS_MAX);
    let efficient = slots.efficient.min(JOBS_MAX - performance);
    let low_power = slots.low_power.min(JOBS_MAX - performance - efficient);
    Decision { slots: Slots { performance, efficient, low_power }, ..decision }
}

/// Why a request that cannot begin waits under this decision.
fn reason_for(wish: Wish, decision: Decision) -> Reason {
    match decision.state {
        // Its lane has a bound of its own, and no slots.
        _ if matches!(wish, Wish::Pieces { work: Work::Background, .. }) => Reason::Paused,
        State::Blind => Reason::Blind,
        State::Caution | State::Throttle => Reason::Heat,
        _ if wish == Wish::Heavy => Reason::Heat,
        State::Optimal | State::Normal | State::Off => Reason::Slots,
    }
}

/// Somebody waits no more, or not for that.
fn end_wait(deferred: &mut [Deferred; Reason::ALL.len()], wait: Option<(Reason, Duration)>) {
    if let Some((reason, time)) = wait {
        let deferred = &mut deferred[reason as usize];
        deferred.waiting -= 1;
        deferred.time += time;
    }
}

/// The rank of a request that has waited for so long (rule 3).
fn aged(rank: u8, waited: Duration) -> u8 {
    let steps = waited.as_nanos() / AGE_STEP.as_nanos();
    rank.saturating_add(u8::try_from(steps).unwrap_or(u8::MAX)).min(queue::RANK_MAX)
}
