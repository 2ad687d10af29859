//! Requests that wait for a queue which is being made, opened again or removed; those for other queues go on.
//!
//! Nothing more is carried out of a link whose request waits here (`server`), so there is one of each link.

use std::collections::VecDeque;

use ipc::header::LaneId;
use ipc::link::{Request, RequestId};

use super::{Work, refusal, storage};
use crate::exchange::callers::{Callers, Said};
use crate::exchange::keeper::Settled;
use crate::exchange::work::encoded;

/// All of them, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiters(VecDeque<Waiter>);

struct Waiter {
    lane: LaneId,
    request: RequestId,
    queue: String,
    role: Role,
}

/// Why it waits.
pub(super) enum Role {
    /// It made the queue.
    Maker,
    /// It removed the queue.
    Remover,
    /// Somebody else's request is under way; then it is looked at anew.
    Again(Request),
}

impl Waiters {
    pub(super) fn add(&mut self, lane: LaneId, request: RequestId, queue: &str, role: Role) {
        self.0.push_back(Waiter { lane, request, queue: queue.to_owned(), role });
    }

    /// Whether a request of this link waits.
    pub(super) fn has(&self, lane: LaneId) -> bool {
        self.0.iter().any(|waiter| waiter.lane == lane)
    }

    /// Those of a link that has ended wait no more. What they began goes on.
    pub(super) fn forget(&mut self, lane: LaneId) {
        self.0.retain(|waiter| waiter.lane != lane);
    }

    /// Takes a request out that its caller does not wait for any more. What it began itself cannot be taken back.
    fn take(&mut self, lane: LaneId, request: u32) -> Option<RequestId> {
        let is_it = |waiter: &Waiter| {
            let is_begun = !matches!(waiter.role, Role::Again(_));
            waiter.lane == lane && waiter.request.0 as u32 == request && !is_begun
        };
        let index = self.0.iter().position(is_it)?;
        self.0.remove(index).map(|waiter| waiter.request)
    }

    fn take_for(&mut self, queue: &str) -> VecDeque<Waiter> {
        let all = std::mem::take(&mut self.0);
        let (of_queue, others) = all.into_iter().partition(|waiter| waiter.queue == queue);
        self.0 = others;
        of_queue
    }
}

impl Work {
    /// Whether nothing more may be carried out of a link for now.
    pub(in crate::exchange) fn is_holding_link(&self, lane: LaneId) -> bool {
        self.keeper.is_at_work() && self.waiters.has(lane)
    }

    /// Answers those who waited for queues that are under way no more. True when there was such a queue.
    pub(super) fn take_settled(&mut self, callers: &mut Callers) -> bool {
        let mut has_settled = false;
        while self.keeper.is_at_work() {
            let now = self.now_ns();
            let names = callers.names_mut();
            let Some(settled) = self.keeper.take_settled(&mut self.queues, names, now) else {
                break;
            };
            has_settled = true;
            // It may be of a life whose clock was ahead of this one's.
            self.last_item = self.last_item.max(self.keeper.item_last());
            self.answer_waiters(callers, &settled);
        }
        has_settled
    }

    fn answer_waiters(&mut self, callers: &mut Callers, settled: &Settled) {
        let Settled { name, result } = settled;
        for Waiter { lane, request, role, .. } in self.waiters.take_for(name) {
            let answer = match (role, result) {
                (Role::Again(request), _) => {
                    self.asked(callers, lane, request);
                    continue;
                }
                (Role::Maker, Ok(())) => Said::Done(vec![1]),
                (Role::Remover, Ok(())) => Said::Done(Vec::new()),
                (_, Err(why)) => Said::Failed(encoded(&storage(name, why))),
            };
            callers.say(lane, request, answer);
        }
    }

    /// A caller does not wait for a request any more. True where it had not been carried out.
    pub(super) fn cancel_waiter(
        &mut self,
        callers: &mut Callers,
        lane: LaneId,
        request: u32,
    ) -> bool {
        let Some(request) = self.waiters.take(lane, request) else { return false };
        callers.say(lane, request, Said::Failed(encoded(&cancelled())));
        true
    }
}

/// The answer to a request that its caller has taken back before it was carried out.
pub(in crate::exchange) fn cancelled() -> agents_contract::ToolError {
    refusal("cancelled", "the request was cancelled before it was carried out".to_owned())
}
