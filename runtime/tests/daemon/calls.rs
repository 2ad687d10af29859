//! Calls to a hosted agent while every place is taken: what is answered at once, and in which order the rest starts.

use std::path::Path;
use std::time::Duration;

use ipc::client::{Client, Kept};
use ipc::lane::WhenFull;
use ipc::link::{Answer, Ask, Incoming, Link, Outcome, RequestId};

use rustix::process::Signal;

use super::ECHO;
use super::world::{Daemon, Options, cbor, eventually, patience, signal};

/// Links that together take all places of an agent, and requests of each that run at once.
const FILLERS: usize = 4;
const CALLS_EACH: usize = 8;
/// No call ends by itself.
const LONG: Duration = Duration::from_secs(600);

/// Requests of one caller that wait.
const QUEUED_EACH: usize = 32;
/// An answer that its lane cannot hold, so that it waits until it is read.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// A caller with a link to the agent.
struct Caller {
    client: Client,
    link: Link,
}

impl Caller {
    fn new(daemon: &Daemon, name: &str) -> Self {
        let mut client = daemon.client(name);
        let link = client.open("echo").unwrap();
        Self { client, link }
    }

    /// Goes on over a new link; gives back the one before.
    fn change_links(&mut self) -> Link {
        std::mem::replace(&mut self.link, self.client.open("echo").unwrap())
    }

    /// Asks for a call that lasts until it is cancelled; it says when it begins.
    fn wait(&mut self, priority: u8) -> RequestId {
        self.ask("echo.wait", &cbor(LONG.as_millis() as u64), priority)
    }

    fn ask(&mut self, tool: &str, payload: &[u8], priority: u8) -> RequestId {
        let ask = Ask {
            tool,
            payload,
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
    fill_but(daemon, 0)
}

/// The same where some callers have theirs already.
fn fill_but(daemon: &Daemon, already: usize) -> Vec<(Caller, Vec<RequestId>)> {
    let fillers = (already..FILLERS).map(|number| {
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

#[test]
fn a_request_that_waits_holds_up_no_stop_and_is_told_that_nothing_was_begun() {
    // Nobody's patience: whoever is not let go hangs.
    let mut daemon = Daemon::start(&Options { drain_seconds: 600, ..ECHO });
    let mut fillers = fill(&daemon);
    let mut caller = Caller::new(&daemon, "test.caller");
    let waiting = caller.wait(10);
    // Behind it in the lane, so it waits by now.
    caller.echo();
    signal(daemon.pid(), Signal::TERM);
    match caller.link.next(patience()).unwrap() {
        Incoming::Answer { request, answer: Answer::Failed(error) } => {
            let text = String::from_utf8_lossy(&error).into_owned();
            assert!(request == waiting && text.contains("draining"), "{text}");
            assert!(text.contains("nothing of the request was begun"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // What runs is let finish.
    for (filler, running) in &mut fillers {
        for request in running {
            filler.link.sender().cancel(*request).unwrap();
        }
    }
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_caller_has_its_quarter_however_many_links_it_opens() {
    let daemon = Daemon::start(&ECHO);
    let mut greedy = Caller::new(&daemon, "test.greedy");
    let mut links = Vec::new();
    for _ in 0..CALLS_EACH {
        greedy.wait(5);
        greedy.begun();
        links.push(greedy.change_links());
    }
    for _ in 0..QUEUED_EACH {
        greedy.wait(5);
        // Behind it in the lane, so it waits by now.
        greedy.echo();
        links.push(greedy.change_links());
    }
    for _ in 0..CALLS_EACH {
        let request = greedy.wait(5);
        match greedy.link.next(patience()).unwrap() {
            Incoming::Answer { request: of, answer: Answer::Failed(error) } => {
                let text = String::from_utf8_lossy(&error).into_owned();
                assert!(of == request && text.contains("busy"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        links.push(greedy.change_links());
    }
    let mut others = fill_but(&daemon, 1);
    let mut late = Caller::new(&daemon, "test.late");
    let wanted = late.wait(5);
    late.echo();
    let (other, running) = &mut others[0];
    other.link.sender().cancel(running[0]).unwrap();
    assert_eq!(late.begun(), wanted, "what the greedy one wants waits for places of its own");
}

#[test]
fn answers_that_are_not_taken_keep_the_places_of_their_caller_and_of_nobody_else() {
    let daemon = Daemon::start(&ECHO);
    let mut greedy = Caller::new(&daemon, "test.greedy");
    let mut links = Vec::new();
    for _ in 0..CALLS_EACH {
        let request = greedy.ask("echo.echo", &vec![7; LARGE_BYTES], 5);
        links.push((greedy.change_links(), request));
    }
    let done = "bolide_tasks_total{agent=\"echo\",outcome=\"done\"}";
    super::eventually("the calls are over", || daemon.metric(done) == CALLS_EACH as f64);
    let wanted = greedy.wait(10);
    let behind = greedy.ask("echo.echo", b"quick", 5);
    let quick = Incoming::Answer { request: behind, answer: Answer::Done(b"quick".to_vec()) };
    assert_eq!(greedy.link.next(patience()).unwrap(), quick);
    let mut other = Caller::new(&daemon, "test.other");
    for _ in 0..4 * CALLS_EACH {
        let outcome = other.link.call("echo.wait", &cbor(0u64), &[], patience(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(cbor(0u64)));
    }
    // More urgent than all of these, and before them.
    assert!(matches!(greedy.link.receiver().try_receive(), Ok(None)), "it has no place");
    for (mut link, request) in links {
        let answer = link.answer(request, patience()).unwrap();
        assert_eq!(answer, Answer::Done(vec![7; LARGE_BYTES]));
    }
    assert_eq!(greedy.begun(), wanted, "there is a place again");
}

/// How many descriptors of a process are of this directory.
fn held(pid: u32, directory: &Path) -> usize {
    let own = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = own.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target == directory).count()
}

#[test]
fn a_directory_that_is_kept_goes_along_once_and_stays_with_its_link() {
    let daemon = Daemon::start(&ECHO);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap();
    let pid = daemon.agent_pid("echo");
    let Caller { mut client, mut link } = Caller::new(&daemon, "test.keeper");
    let mut kept = Kept::new(std::fs::File::open(&path).unwrap());
    let mut count = |client: &mut Client, link: &mut Link, tool: &str| {
        client.call_with_kept(link, (tool, &[]), &mut kept, patience(), |_| {}).unwrap()
    };
    for entries in 0..3_u64 {
        let counted = count(&mut client, &mut link, "echo.directory");
        // What came into it meanwhile is seen: it is the same directory and no copy.
        assert_eq!(counted, (Outcome::Done(cbor(entries)), entries == 0));
        std::fs::write(path.join(entries.to_string()), b"").unwrap();
    }
    eventually("one stays", || held(pid, &path) == 1);
    // After a failure nobody relies on what the other side has.
    let (failed, is_sent) = count(&mut client, &mut link, "echo.fail");
    assert!(matches!(failed, Outcome::Failed(_)) && !is_sent);
    for is_first in [true, false] {
        let counted = count(&mut client, &mut link, "echo.directory");
        assert_eq!(counted, (Outcome::Done(cbor(3_u64)), is_first));
    }
    eventually("the later one stays alone", || held(pid, &path) == 1);
    // It was kept for one link.
    let mut second = client.open("echo").unwrap();
    let counted = count(&mut client, &mut second, "echo.directory");
    assert_eq!(counted, (Outcome::Done(cbor(3_u64)), true));
    eventually("each link has one", || held(pid, &path) == 2);
    drop((client, link, second));
    eventually("they go with the links", || held(pid, &path) == 0);
}
