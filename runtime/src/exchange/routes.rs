//! Routes: two links that meet here, and what they hold for whom.
//!
//! Not here: one direction (`forward`), how routes come and go (`server`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipc::class::{AnyReceiver, AnySender, ReceivingHalf};
use ipc::header::{AgentId, LaneId};
use ipc::limits::SLOTS_MAX;
use ipc::link::{LinkReceiver, LinkSender};

use super::counted::Counted;
use super::forward::{Direction, Turn};
use super::rates::Rate;
use crate::limits::FORWARDED_PER_TURN_MAX;

/// Two links that meet here.
pub(super) struct Route {
    pub(super) opener: End,
    pub(super) target: End,
    pub(super) there: Direction,
    pub(super) back: Direction,
    /// Of the opener and of the target.
    pub(super) rates: [Option<Rate>; 2],
}

/// One link.
pub(super) struct End {
    pub(super) lane: LaneId,
    pub(super) sender: LinkSender,
    pub(super) receiver: LinkReceiver,
}

impl Route {
    pub(super) fn held(&self) -> usize {
        self.there.held().sum().saturating_add(self.back.held().sum())
    }

    /// What waits for each of the two agents.
    pub(super) fn held_by(&self) -> [(AgentId, usize); 2] {
        let (there, back) = (self.there.held(), self.back.held());
        let id = |end: &End| end.receiver.peer().id;
        [
            (id(&self.opener), there.by_writer.saturating_add(back.by_reader)),
            (id(&self.target), back.by_writer.saturating_add(there.by_reader)),
        ]
    }

    /// One turn in both directions, no more than each side may send at the moment.
    pub(super) fn pass(&mut self, began: Instant, counted: &mut Counted) -> (Turn, Turn) {
        let Self { opener, target, there, back, rates } = self;
        let [opener_rate, target_rate] = rates;
        let ways = (opener.receiver.raw(), target.sender.raw());
        let there = pass_within(opener_rate, began, counted, there, ways);
        let ways = (target.receiver.raw(), opener.sender.raw());
        (there, pass_within(target_rate, began, counted, back, ways))
    }
}

/// Of the agent for whom most bytes wait in all routes together, the route in which most do: who hoards loses a route, and not
/// whoever comes next.
pub(super) fn largest_holding(routes: &BTreeMap<LaneId, Route>) -> Option<LaneId> {
    let mut sums = BTreeMap::<AgentId, usize>::new();
    for (agent, bytes) in routes.values().flat_map(Route::held_by) {
        *sums.entry(agent).or_default() += bytes;
    }
    let (largest, _) = sums.into_iter().max_by_key(|(_, bytes)| *bytes)?;
    let held = |route: &Route| {
        let of_largest = route.held_by().into_iter().filter(|(agent, _)| *agent == largest);
        of_largest.map(|(_, bytes)| bytes).sum::<usize>()
    };
    routes.iter().max_by_key(|(_, route)| held(route)).map(|(first, _)| *first)
}

/// Passes on what a rate has left, or everything where there is none.
fn pass_within(
    rate: &Option<Rate>,
    began: Instant,
    counted: &mut Counted,
    direction: &mut Direction,
    (from, to): (&mut AnyReceiver, &mut AnySender),
) -> Turn {
    let Some(rate) = rate else {
        return direction.pass(from, to, FORWARDED_PER_TURN_MAX, || began.elapsed());
    };
    let now = began.elapsed();
    let left = rate.left(now).min(FORWARDED_PER_TURN_MAX);
    if left == 0 {
        counted.held_back(rate, from.has_message(), now);
    }
    let turn = direction.pass(from, to, left, || now);
    if let Turn::Passed(count) = turn {
        for _ in 0..count {
            rate.take(now);
        }
    }
    turn
}

/// What was in a lane when it ended. One that ignores its end and goes on writing holds nobody.
pub(super) fn pass_rest(
    direction: &mut Direction,
    from: &mut AnyReceiver,
    to: &mut AnySender,
    now: Duration,
) {
    for _ in 0..=SLOTS_MAX / FORWARDED_PER_TURN_MAX {
        let Turn::Passed(1..) = direction.pass(from, to, FORWARDED_PER_TURN_MAX, || now) else {
            return;
        };
    }
}
