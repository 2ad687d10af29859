//! Whether the daemon lives, and whether it is ready: named parts, each with its reason. What works with less than usual is
//! ready, and degraded. Pure over a snapshot.

use scheduler::decision::State;
use serde_json::{Map, Value, json};

use super::snapshot::{HostedState, Machine, Phase, Snapshot};

/// An HTTP status and a JSON body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    /// 200 or 503.
    pub(crate) status: u16,
    /// What to show.
    pub(crate) body: Value,
}

/// Liveness looks at nothing but that somebody answers.
pub(crate) fn live() -> Health {
    Health { status: 200, body: json!({ "status": "live" }) }
}

/// Readiness: the router answers, the daemon is not stopping, every hosted agent is on the bus.
pub(crate) fn ready(snapshot: Option<&Snapshot>) -> Health {
    let mut parts = Map::new();
    let mut part = |name: String, reason: Option<String>| {
        let ready = reason.is_none();
        let value = match reason {
            None => json!({ "ready": true }),
            Some(reason) => json!({ "ready": false, "reason": reason }),
        };
        parts.insert(name, value);
        ready
    };
    let mut ready = true;
    match snapshot {
        None => ready &= part("router".to_owned(), Some("it does not answer".to_owned())),
        Some(snapshot) => {
            ready &= part("router".to_owned(), None);
            let draining = snapshot.phase == Phase::Draining;
            ready &= part("daemon".to_owned(), draining.then(|| "it is stopping".to_owned()));
            for hosted in &snapshot.hosted {
                let down = hosted.state != HostedState::Up;
                let reason = down.then(|| match &hosted.last_end {
                    Some(how) => format!("{}: {how}", hosted.state.name()),
                    None => hosted.state.name().to_owned(),
                });
                ready &= part(format!("agent.{}", hosted.name), reason);
            }
        }
    }
    let mut degraded = Vec::new();
    for (name, reason) in snapshot.map(lessened).into_iter().flatten() {
        let mut part = json!({ "ready": true });
        if let Some(reason) = reason {
            part = json!({ "ready": true, "degraded": true, "reason": reason });
            degraded.push(name);
        }
        parts.insert(name.to_owned(), part);
    }
    let (status, word) = if ready { (200, "ready") } else { (503, "not ready") };
    Health { status, body: json!({ "status": word, "degraded": degraded, "parts": parts }) }
}

/// The parts that can do with less than usual, each with the reason where it does.
fn lessened(snapshot: &Snapshot) -> Vec<(&'static str, Option<String>)> {
    let silent = snapshot.governor.silent.clone();
    // How hot it is nobody knows while nobody looks.
    let machine = snapshot.machine.as_ref().filter(|_| silent.is_none());
    let thermal = machine.map(|machine| ("thermal", less_runs(machine)));
    [("governor", silent)].into_iter().chain(thermal).collect()
}

/// Why less than usual may run, where that is so.
fn less_runs(machine: &Machine) -> Option<String> {
    let state = State::ALL.into_iter().find(|state| state.name() == machine.thermal.state)?;
    let what = match state {
        State::Blind => "the temperature is not known any more",
        State::Throttle => "the machine throttles, or is about to",
        // Hot and held there is what the governor is for.
        State::Optimal | State::Normal | State::Caution | State::Off => return None,
    };
    let slots: usize = machine.slots.values().sum();
    Some(format!("{}: {what}; {slots} pieces of work may run at once", state.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::metrics::tests::snapshot;

    #[test]
    fn a_daemon_with_all_its_agents_is_ready() {
        let health = ready(Some(&snapshot()));
        assert_eq!(health.status, 200, "{}", health.body);
        assert_eq!(health.body["parts"]["agent.echo"]["ready"], true);
    }

    #[test]
    fn an_agent_that_is_down_is_named_with_the_reason() {
        let mut down = snapshot();
        down.hosted[0].state = HostedState::Waiting;
        down.hosted[0].last_end = Some("it was ended by signal 9".to_owned());
        let health = ready(Some(&down));
        assert_eq!(health.status, 503);
        let reason = &health.body["parts"]["agent.echo"]["reason"];
        assert_eq!(reason, "waiting: it was ended by signal 9");
    }

    #[test]
    fn a_hot_or_blind_machine_is_ready_and_degraded() {
        for (state, degraded) in [
            ("optimal", false),
            ("normal", false),
            ("caution", false),
            ("off", false),
            ("throttle", true),
            ("blind", true),
        ] {
            let mut hot = snapshot();
            hot.machine.as_mut().unwrap().thermal.state = state;
            let health = ready(Some(&hot));
            assert_eq!((health.status, &health.body["status"]), (200, &json!("ready")));
            let thermal = &health.body["parts"]["thermal"];
            assert_eq!(thermal["ready"], true);
            assert_eq!(thermal["degraded"] == true, degraded, "{thermal}");
            assert_eq!(thermal["reason"].is_string(), degraded);
            let names = if degraded { json!(["thermal"]) } else { json!([]) };
            assert_eq!(health.body["degraded"], names);
        }
        let mut unknown = snapshot();
        unknown.machine = None;
        assert!(ready(Some(&unknown)).body["parts"]["thermal"].is_null(), "nobody has looked");
    }

    #[test]
    fn a_governor_that_says_nothing_any_more_is_degraded_and_its_last_temperature_no_part() {
        let mut silent = snapshot();
        let health = ready(Some(&silent));
        assert_eq!(health.body["parts"]["governor"], json!({ "ready": true }));
        silent.governor.silent = Some("it hangs".to_owned());
        let health = ready(Some(&silent));
        assert_eq!((health.status, &health.body["degraded"]), (200, &json!(["governor"])));
        assert_eq!(health.body["parts"]["governor"]["reason"], "it hangs");
        assert!(health.body["parts"]["thermal"].is_null());
    }

    #[test]
    fn stopping_and_a_silent_router_are_not_ready_but_alive() {
        let mut stopping = snapshot();
        stopping.phase = Phase::Draining;
        assert_eq!(ready(Some(&stopping)).status, 503);
        assert_eq!(ready(None).status, 503);
        assert_eq!(live().status, 200);
    }
}
