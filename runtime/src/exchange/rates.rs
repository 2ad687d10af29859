//! How many messages a second the exchange takes from each agent, over all of its links together.
//!
//! Not here: what the configuration allows (`quota`), and who is held up by it (`server`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ipc::manifest::AgentManifest;

use crate::daemon::{Budget, LimitTable};
use crate::limits::HELD_BACK_APART_MIN;

/// The rates of all agents that have one.
#[derive(Debug)]
pub(super) struct Rates {
    limits: LimitTable,
    of: HashMap<String, Rate>,
}

/// What one agent may still send; the same for each of its links.
#[derive(Clone, Debug)]
pub(super) struct Rate(Rc<RefCell<Share>>);

#[derive(Debug)]
struct Share {
    budget: Budget,
    /// When it was last found to hold the agent back.
    held_back: Option<Duration>,
}

impl Rates {
    /// Nobody is there yet.
    pub(super) fn new(limits: LimitTable) -> Self {
        Self { limits, of: HashMap::new() }
    }

    /// The rate of an agent; nothing where it is any number.
    pub(super) fn of(&mut self, agent: &AgentManifest, now: Duration) -> Option<Rate> {
        let name = agent.name.as_str();
        let passed = self.limits.of(name, &agent.limits).passed.rate();
        if passed == 0 {
            return None;
        }
        if let Some(rate) = self.of.get(name) {
            // It may have come back with another manifest; what it has used up stays used up.
            rate.0.borrow_mut().budget.set_rate(passed, now);
            return Some(rate.clone());
        }
        // Who has no link and has used nothing up lately would get the same again. Who closes its links and comes back does
        // not begin anew.
        self.of.retain(|_, rate| {
            Rc::strong_count(&rate.0) > 1 || !rate.0.borrow().budget.is_full(now)
        });
        let share = Share { budget: Budget::new(passed, now), held_back: None };
        let rate = Rate(Rc::new(RefCell::new(share)));
        self.of.insert(name.to_owned(), rate.clone());
        Some(rate)
    }
}

impl Rate {
    /// How many messages may be taken now.
    pub(super) fn left(&self, now: Duration) -> usize {
        self.0.borrow().budget.left(now)
    }

    /// Whether one may be.
    pub(super) fn is_left(&self, now: Duration) -> bool {
        self.left(now) > 0
    }

    /// One was taken.
    pub(super) fn take(&self, now: Duration) {
        // Whoever takes has asked whether one is left.
        let _ = self.0.borrow_mut().budget.try_take(now);
    }

    /// Something waits on one of its links and none may be taken: whether that begins now. A link that is let through a message now
    /// and then is held back all the while.
    pub(super) fn begins_to_hold(&self, now: Duration) -> bool {
        let before = self.0.borrow_mut().held_back.replace(now);
        before.is_none_or(|before| now.saturating_sub(before) > HELD_BACK_APART_MIN)
    }
}

#[cfg(test)]
mod tests {
    use ipc::manifest::OwnLimits;

    use super::*;

    fn named(name: &str) -> AgentManifest {
        AgentManifest { name: name.to_owned(), ..AgentManifest::default() }
    }

    #[test]
    fn links_of_one_agent_share_its_rate_and_a_new_link_does_not_renew_it() {
        let limits = LimitTable::parse("test.slow: passed=10").unwrap();
        let mut rates = Rates::new(limits);
        let now = Duration::ZERO;
        assert!(rates.of(&named("test.other"), now).is_none());
        let slow = named("test.slow");
        let (one, other) = (rates.of(&slow, now).unwrap(), rates.of(&slow, now).unwrap());
        while one.is_left(now) {
            one.take(now);
        }
        assert!(!other.is_left(now));
        drop((one, other));
        assert!(!rates.of(&slow, now).unwrap().is_left(now));
        let later = Duration::from_secs(9);
        assert!(rates.of(&slow, later).unwrap().is_left(later));
    }

    #[test]
    fn another_manifest_changes_the_rate_and_gives_nothing_back() {
        let mut rates = Rates::new(LimitTable::parse("test.slow: passed=10").unwrap());
        let asks = |passed| {
            let limits = OwnLimits { passed: Some(passed), ..OwnLimits::default() };
            AgentManifest { limits, ..named("test.slow") }
        };
        let rate = rates.of(&asks(100), Duration::ZERO).unwrap();
        assert_eq!(rate.left(Duration::ZERO), 5, "half a second of ten");
        while rate.is_left(Duration::ZERO) {
            rate.take(Duration::ZERO);
        }
        let again = rates.of(&asks(2), Duration::ZERO).unwrap();
        assert!(!again.is_left(Duration::ZERO));
        assert_eq!(rate.left(Duration::from_secs(9)), 1, "half a second of two");
    }

    #[test]
    fn who_is_gone_and_has_everything_left_is_forgotten() {
        let mut rates = Rates::new(LimitTable::parse("test.>: passed=10").unwrap());
        for number in 0..100 {
            rates.of(&named(&format!("test.{number}")), Duration::ZERO);
        }
        assert_eq!(rates.of.len(), 1);
    }

    #[test]
    fn holding_an_agent_back_begins_once_however_long_it_lasts_and_over_however_many_links() {
        let mut rates = Rates::new(LimitTable::parse("test.slow: passed=2").unwrap());
        let (one, other) = (
            rates.of(&named("test.slow"), Duration::ZERO),
            rates.of(&named("test.slow"), Duration::ZERO),
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        let mut begun = 0;
        let mut now = Duration::ZERO;
        for _ in 0..3_000 {
            for rate in [&one, &other] {
                match rate.is_left(now) {
                    true => rate.take(now),
                    false => begun += u32::from(rate.begins_to_hold(now)),
                }
            }
            now += Duration::from_millis(1);
        }
        assert_eq!(begun, 1, "two messages a second went through meanwhile");
        now += Duration::from_secs(1);
        one.take(now);
        assert!(other.begins_to_hold(now) && !one.begins_to_hold(now), "it was over in between");
    }
}
