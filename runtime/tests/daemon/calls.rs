//! Calls to a hosted agent while every place is taken: what is answered at once, and in which order the rest starts.

use std::time::Duration;

use ipc::client::Client;
use ipc::lane::WhenFull;
use ipc::link::{Answer, Ask, Incoming, Link, Outcome, RequestId};

use super::ECHO;
use super::world::{Daemon, cbor, patience};

/// Links that together take all places of an agent, and requests of each that run at once.
const FILLERS: usize = 4;
const CALLS_EACH: usize = 8;
/// No call ends by itself.
const LONG: Duration = Duration::from_secs(600);

/// A caller with a link to the agent.
struct Caller {
    _client: Client,
    link: Link,
}

impl Caller {
    fn new(daemon: &Daemon, name: &str) -> Self {
        let mut client = daemon.client(name);
        let link = client.open("echo").unwrap();
        Self { _client: client, link }
    }

    /// Asks for a call that lasts until it is cancelled; it says when it begins.
    fn wait(&mut self, priority: u8) -> RequestId {
        let ask = Ask {
            tool: "echo.wait",
            payload: &cbor(LONG.as_millis() as u64),
            grants: &[],
            deadline: patience(),
            priority,
            when: WhenFull::WaitUntil(patience()),
        };
        self.link.sender().ask(ask, "echo").unwrap()
    }

    fn echo(&mut self) {
        let outcome = self.link.call("echo.echo", b"quick", &[], patience(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(b"quick".to_vec()));
    }

    /// The request that says next that it has begun.
    fn begun(&mut self) -> RequestId {
        match self.link.next(patience()).unwrap() {
            Incoming::Answer { request, answer: Answer::Progress(_) } => request,
            other => panic!("{other:?}"),
        }
    }
}

/// All places taken: who took them, and what runs.
fn fill(daemon: &Daemon) -> Vec<(Caller, Vec<RequestId>)> {
    let fillers = (0..FILLERS).map(|number| {
        let mut caller = Caller::new(daemon, &format!("test.filler-{number}"));
        let running = (0..CALLS_EACH).map(|_| caller.wait(5)).collect();
        for _ in 0..CALLS_EACH {
            caller.begun();
        }
        (caller, running)
    });
    fillers.collect()
}

#[test]
fn an_answer_that_is_there_at_once_needs_no_place() {
    let daemon = Daemon::start(&ECHO);
    let mut fillers = fill(&daemon);
    Caller::new(&daemon, "test.quick").echo();
    fillers[0].0.echo();
    let done = "bolide_tasks_total{agent=\"echo\",outcome=\"done\"}";
    super::eventually("they are counted", || daemon.metric(done) == 2.0);
}

#[test]
fn requests_that_wait_start_by_priority() {
    let daemon = Daemon::start(&ECHO);
    let mut fillers = fill(&daemon);
    let mut caller = Caller::new(&daemon, "test.caller");
    let [low, middle, high, second] = [1, 5, 10, 5].map(|priority| caller.wait(priority));
    // Behind the others in the lane, so they wait by now.
    caller.echo();
    let mut order = Vec::new();
    for (filler, running) in &mut fillers {
        filler.link.sender().cancel(running[0]).unwrap();
        order.push(caller.begun());
    }
    assert_eq!(order, [high, middle, second, low]);
}
