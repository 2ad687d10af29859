//! What one caller may cost the others, and requests that their callers take back.

use ipc::exchange::log::{
    Append, Appended, Durability, Follower, Operation, Records, Short, Start,
};
use ipc::link::{Answer, RequestId};

use super::{Daemon, EXCHANGE, Logs, Options, code, fill, logs, number, patience, small};

/// As many logs as one agent may have open.
const SHARE: usize = 16;
/// As many as may be open.
const OPEN_MAX: usize = 64;

/// How often the exchange has opened this log.
fn openings(daemon: &Daemon, logs: &mut Logs, log: &str) -> usize {
    // What it says comes in order, so everything before this one is there as well.
    logs.make("marker", small(0), patience()).unwrap();
    super::eventually("it has said so", || openings_told(daemon, "marker") > 0);
    openings_told(daemon, log)
}

fn openings_told(daemon: &Daemon, log: &str) -> usize {
    let name = format!("\"{log}\"");
    let is_it = |line: &&str| line.contains("log opened") && line.contains(&name);
    daemon.log().lines().filter(is_it).count()
}

#[test]
fn names_of_logs_that_do_not_exist_close_nobodys_log() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut victim) = logs(&daemon, "test.victim");
    victim.make("precious", small(0), patience()).unwrap();
    let (_hoarder, mut hoarder) = logs(&daemon, "test.hoarder");
    for index in 0..2 * OPEN_MAX {
        let name = format!("no.such.{index}");
        assert_eq!(code(hoarder.info(&name, patience())), "no-such-log");
        assert_eq!(code(hoarder.read(&name, Start::First, 1, patience())), "no-such-log");
    }
    fill(&mut victim, "precious", 0..1);
    assert_eq!(openings(&daemon, &mut victim, "precious"), 1);
}

#[test]
fn who_opens_many_logs_closes_its_own_and_nobody_elses() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut victim) = logs(&daemon, "test.victim");
    victim.make("precious", small(0), patience()).unwrap();
    let (_hoarder, mut hoarder) = logs(&daemon, "test.hoarder");
    for index in 0..2 * OPEN_MAX {
        hoarder.make(&format!("many.{index}"), small(0), patience()).unwrap();
    }
    hoarder.info("many.0", patience()).unwrap();
    fill(&mut victim, "precious", 0..1);
    assert_eq!(openings(&daemon, &mut victim, "precious"), 1);
    assert_eq!(openings_told(&daemon, "many.0"), 2, "it was closed for another one of its own");
}

#[test]
fn who_uses_its_whole_share_at_once_is_told_which_limit_it_is_and_others_go_on() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut hoarder) = logs(&daemon, "test.hoarder");
    let mut followers = Vec::new();
    for index in 0..SHARE {
        let name = format!("many.{index}");
        hoarder.make(&name, small(0), patience()).unwrap();
        let follower = Follower::open(&mut client, &name, Start::End, false, patience()).unwrap();
        followers.push(follower);
    }
    let refused = hoarder.make("one.too.many", small(0), patience()).unwrap_err();
    assert!(refused.to_string().contains("logs_open_per_agent"), "{refused}");
    assert_eq!(code::<()>(Err(refused)), "limit");
    let (_client, mut other) = logs(&daemon, "test.other");
    other.make("one.too.many", small(0), patience()).unwrap();
    followers.pop().unwrap().cancel(&mut client).unwrap();
    super::eventually("there is a place again", || {
        hoarder.make("another", small(0), patience()).is_ok()
    });
}

pub(super) fn append(logs: &mut Logs, wait_ns: u64, payload: &[u8]) -> RequestId {
    let payloads = [payload];
    let records = Records::from_payloads(&payloads);
    let (durability, priority, takes_will_back) = (Durability::Stored, 5, false);
    let append =
        Operation::Append(Append { durability, priority, takes_will_back, wait_ns, records });
    request(logs, &append)
}

fn request(logs: &mut Logs, operation: &Operation<'_>) -> RequestId {
    let arguments = operation.encode("events").unwrap();
    logs.link().request(operation.tool(), &arguments, &[], patience()).unwrap()
}

#[test]
fn an_append_that_waits_is_taken_back_when_nobody_waits_for_it() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    let options = Options { ahead_max: 10, ..small(0) };
    writer.make("events", options, patience()).unwrap();
    let follower = Follower::open(&mut client, "events", Start::End, true, patience()).unwrap();
    fill(&mut writer, "events", 0..10);
    let waiting = append(&mut writer, u64::MAX, &number(10));
    // Behind it, so they wait as well: one that is taken back, and one that is not.
    let (behind, last) =
        (request(&mut writer, &Operation::Info), request(&mut writer, &Operation::Info));
    writer.link().sender().cancel(behind).unwrap();
    let Answer::Failed(error) = writer.link().answer(behind, patience()).unwrap() else {
        panic!("it was carried out before the one in front of it")
    };
    let error: agents_contract::ToolError = ciborium::from_reader(error.as_slice()).unwrap();
    assert_eq!(error.code, "cancelled");
    writer.link().sender().cancel(waiting).unwrap();
    let Answer::Done(answer) = writer.link().answer(waiting, patience()).unwrap() else { panic!() };
    let expected = Appended { first: 10, count: 0, short: Some(Short::Cancelled) };
    assert_eq!(Appended::decode(&answer).unwrap(), expected);
    let Answer::Done(info) = writer.link().answer(last, patience()).unwrap() else { panic!() };
    // The second field of the answer.
    assert_eq!(info[8..16], 10u64.to_le_bytes(), "nothing of it was appended");
    // The exchange hears of its end over another link, so this one may have to wait for that.
    drop(follower);
    let appended = append(&mut writer, u64::MAX, &number(10));
    let Answer::Done(answer) = writer.link().answer(appended, patience()).unwrap() else {
        panic!()
    };
    assert_eq!(Appended::decode(&answer).unwrap(), Appended { first: 10, count: 1, short: None });
}
