//! How a picture of the bus looks, as text and as JSON. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use ipc::directory::{AgentEntry, ClassEntry, LaneEntry, MachineEntry, Picture, TopicEntry};
use ipc::header::{AgentId, Class, LaneId};
use scheduler::admission::Reason;
use scheduler::decision::{Background, State};
use scheduler::limits::DEFER_MAX;
use serde_json::{Value, json};

use crate::cli::{changes, files, output};
use crate::limits::TOP_ROWS_MAX;
use crate::machine::decision_of;

/// The name and version of the JSON form.
const SCHEMA: &str = "bolide-top/1";

/// The picture for people. Rates need the one before.
pub(super) fn text_of(picture: &Picture, before: Option<&Picture>, now_ns: u64) -> String {
    let rates = Rates::new(picture, before);
    let names = names(picture);
    let mut text = headline(picture, now_ns);
    text += &picture.machine.map(|machine| machine_line(&machine)).unwrap_or_default();
    section(&mut text, &AGENTS, agent_rows(picture, &rates));
    section(&mut text, &LANES, lane_rows(picture, &rates, &names));
    section(&mut text, &TOPICS, topic_rows(picture, &rates, &names));
    section(&mut text, &CLASSES, picture.classes.iter().map(class_row).collect());
    text
}

const AGENTS: [&str; 8] =
    ["agent", "state", "process", "links", "topics", "sent/s", "taken/s", "sent"];
const LANES: [&str; 9] =
    ["lane", "class", "from", "to", "msgs/s", "depth", "p50", "p99", "refused"];
const TOPICS: [&str; 6] = ["topic", "policy", "writer", "readers", "msgs/s", "messages"];
const CLASSES: [&str; 8] = ["class", "lanes", "depth", "messages", "refused", "lost", "p50", "p99"];

fn headline(picture: &Picture, now_ns: u64) -> String {
    let age = now_ns.saturating_sub(picture.refreshed_ns) / 1_000_000;
    let left = picture.left_out;
    let left_out = u64::from(left.agents) + u64::from(left.topics) + u64::from(left.lanes);
    let mut text = format!(
        "bolide {} · process {} · {} agents · {} lanes · {} topics · {age} ms old\n",
        env!("CARGO_PKG_VERSION"),
        picture.router.pid,
        picture.agents.len(),
        picture.lanes.len(),
        picture.topics.len(),
    );
    if left_out > 0 || picture.unreadable > 0 {
        text += &format!(
            "not shown: {left_out} that the directory has no room for, {} that cannot be read\n",
            picture.unreadable
        );
    }
    text
}

/// What the machine allows, what runs and what waits.
fn machine_line(machine: &MachineEntry) -> String {
    let sum = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" + ");
    let celsius = machine.millicelsius.map(|value| format!("{:.1} C", value as f64 / 1000.0));
    let waiting = Reason::ALL.into_iter().zip(machine.waiting).filter(|(_, count)| *count > 0);
    let waiting: Vec<String> =
        waiting.map(|(reason, count)| format!("{count} for {}", reason.name())).collect();
    format!(
        "machine {} at {} · slots {} · running {} · waiting {}{}\n{}{}",
        decision_of(machine).state.name(),
        celsius.unwrap_or_else(|| "no known temperature".to_owned()),
        sum(&machine.slots),
        sum(&machine.running),
        if waiting.is_empty() { "0".to_owned() } else { waiting.join(", ") },
        deferred(machine),
        files::line_of(machine.files, machine.files_waiting),
        changes::line_of(machine.watch_deferred),
    )
}

/// What does not begin now, whoever asks, and until when.
fn deferred(machine: &MachineEntry) -> String {
    let decision = decision_of(machine);
    let mut text = String::new();
    if !decision.heavy {
        let until = match decision.state {
            State::Blind => "until the temperature is known again",
            _ => "until it is cooler",
        };
        text += &format!(" · large changes wait {until}, at most {} s", DEFER_MAX.as_secs());
    }
    if decision.background == Background::Paused {
        text += " · background work is paused";
    }
    text
}

fn json_of_machine(machine: &MachineEntry) -> Value {
    json!({
        "state": decision_of(machine).state.name(),
        "celsius": machine.millicelsius.map(|value| value as f64 / 1000.0),
        "slots": machine.slots,
        "cpus": machine.cpus,
        "running": machine.running,
        "waiting": machine.waiting,
        "files": { "under_way": machine.files, "waiting": machine.files_waiting },
        "watch_deferred": machine.watch_deferred,
        "heavy": machine.heavy,
    })
}

/// A table with its heading, cut to what fits a terminal.
fn section<const N: usize>(text: &mut String, heading: &[&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let hidden = rows.len().saturating_sub(TOP_ROWS_MAX);
    let heading = heading.map(str::to_uppercase).to_vec();
    let shown = rows.into_iter().take(TOP_ROWS_MAX).map(|row| row.to_vec());
    let table: Vec<Vec<String>> = std::iter::once(heading).chain(shown).collect();
    text.push('\n');
    text.push_str(&output::table(&table));
    if hidden > 0 {
        text.push_str(&format!("and {hidden} more\n"));
    }
}

/// Messages a second since the picture before.
struct Rates<'a> {
    seconds: f64,
    agents: HashMap<AgentId, &'a AgentEntry>,
    lanes: HashMap<(LaneId, AgentId, AgentId), &'a LaneEntry>,
    topics: HashMap<LaneId, &'a TopicEntry>,
}

impl<'a> Rates<'a> {
    fn new(picture: &Picture, before: Option<&'a Picture>) -> Self {
        // Numbers of another router are no beginning of this one's.
        let before = before.filter(|before| before.router == picture.router);
        let from = before.map_or(0, |before| before.refreshed_ns);
        let nanoseconds = picture.refreshed_ns.saturating_sub(from);
        let none = before.is_none() || nanoseconds == 0;
        Self {
            seconds: if none { 0.0 } else { nanoseconds as f64 / 1e9 },
            agents: indexed(before.map_or(&[], |before| &before.agents), |agent| agent.id),
            lanes: indexed(before.map_or(&[], |before| &before.lanes), lane_key),
            topics: indexed(before.map_or(&[], |before| &before.topics), |topic| topic.lane),
        }
    }

    /// `None` where there is nothing to compare with.
    fn of(&self, now: u64, before: Option<u64>) -> Option<u64> {
        let more = now.saturating_sub(before?);
        (self.seconds > 0.0).then(|| (more as f64 / self.seconds).round() as u64)
    }
}

fn lane_key(lane: &LaneEntry) -> (LaneId, AgentId, AgentId) {
    (lane.lane, lane.from, lane.to)
}

fn indexed<K: Eq + Hash, T>(entries: &[T], key: impl Fn(&T) -> K) -> HashMap<K, &T> {
    entries.iter().map(|entry| (key(entry), entry)).collect()
}

fn names(picture: &Picture) -> HashMap<AgentId, &str> {
    picture.agents.iter().map(|agent| (agent.id, agent.name.as_str())).collect()
}

fn name(names: &HashMap<AgentId, &str>, agent: AgentId) -> String {
    names.get(&agent).map_or_else(|| format!("#{}", agent.0), |name| (*name).to_owned())
}

/// The busiest first.
fn agent_rows(picture: &Picture, rates: &Rates<'_>) -> Vec<[String; 8]> {
    let with_rates = |agent: &AgentEntry| {
        let before = rates.agents.get(&agent.id);
        let sent = rates.of(agent.sent, before.map(|before| before.sent));
        let taken = rates.of(agent.received, before.map(|before| before.received));
        let order = (sent.unwrap_or(0).saturating_add(taken.unwrap_or(0)), agent.sent);
        let process = if agent.pid == 0 { "-".to_owned() } else { agent.pid.to_string() };
        let row = [
            agent.name.clone(),
            agent.state.name().to_owned(),
            process,
            agent.links.to_string(),
            agent.topics.to_string(),
            number(sent),
            number(taken),
            agent.sent.to_string(),
        ];
        (order, row)
    };
    sorted(picture.agents.iter().map(with_rates))
}

fn lane_rows(
    picture: &Picture,
    rates: &Rates<'_>,
    names: &HashMap<AgentId, &str>,
) -> Vec<[String; 9]> {
    let with_rate = |lane: &LaneEntry| {
        let before = rates.lanes.get(&lane_key(lane));
        let rate = rates.of(lane.messages, before.map(|before| before.messages));
        let time = |time_ns| (lane.timed > 0).then_some(time_ns);
        let row = [
            lane.lane.0.to_string(),
            class_name(lane.class),
            name(names, lane.from),
            name(names, lane.to),
            number(rate),
            format!("{}/{}", lane.depth, lane.slots),
            duration(time(lane.p50_ns)),
            duration(time(lane.p99_ns)),
            lane.rejected.to_string(),
        ];
        ((rate.unwrap_or(0), lane.messages), row)
    };
    sorted(picture.lanes.iter().map(with_rate))
}

fn topic_rows(
    picture: &Picture,
    rates: &Rates<'_>,
    names: &HashMap<AgentId, &str>,
) -> Vec<[String; 6]> {
    let with_rate = |topic: &TopicEntry| {
        let before = rates.topics.get(&topic.lane);
        let rate = rates.of(topic.messages, before.map(|before| before.messages));
        let row = [
            topic.subject.clone(),
            if topic.lossless { "lossless" } else { "lossy" }.to_owned(),
            name(names, topic.writer),
            topic.readers.to_string(),
            number(rate),
            topic.messages.to_string(),
        ];
        ((rate.unwrap_or(0), topic.messages), row)
    };
    sorted(picture.topics.iter().map(with_rate))
}

fn class_row(class: &ClassEntry) -> [String; 8] {
    [
        class_name(class.class),
        class.lanes.to_string(),
        class.depth.to_string(),
        class.messages.to_string(),
        class.rejected.to_string(),
        class.lost.to_string(),
        duration(class.latency.quantile_ns(0.5)),
        duration(class.latency.quantile_ns(0.99)),
    ]
}

fn sorted<T>(rows: impl Iterator<Item = ((u64, u64), T)>) -> Vec<T> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(order, _)| Reverse(*order));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn class_name(number: u8) -> String {
    Class::from_number(number).map_or_else(|| format!("#{number}"), |class| class.name().to_owned())
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Three digits and a unit.
fn duration(time_ns: Option<u64>) -> String {
    let Some(time_ns) = time_ns else { return "-".to_owned() };
    let (value, unit) = match time_ns {
        0..1_000 => return format!("{time_ns} ns"),
        1_000..1_000_000 => (time_ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (time_ns as f64 / 1e6, "ms"),
        _ => (time_ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// The picture for programs: everything.
pub(super) fn json_of(picture: &Picture, now_ns: u64) -> Value {
    let left = picture.left_out;
    let names = names(picture);
    json!({
        "schema": SCHEMA,
        "instance": format!("{:016x}", picture.router.instance),
        "pid": picture.router.pid,
        "generation": picture.generation,
        "whole": picture.whole,
        "age_ms": now_ns.saturating_sub(picture.refreshed_ns) / 1_000_000,
        "left_out": { "agents": left.agents, "topics": left.topics, "lanes": left.lanes },
        "unreadable": picture.unreadable,
        "agents": picture.agents.iter().map(json_of_agent).collect::<Vec<_>>(),
        "lanes": picture.lanes.iter().map(|lane| json_of_lane(lane, &names)).collect::<Vec<_>>(),
        "topics": picture.topics.iter().map(|one| json_of_topic(one, &names)).collect::<Vec<_>>(),
        "classes": picture.classes.iter().map(json_of_class).collect::<Vec<_>>(),
        "machine": picture.machine.as_ref().map(json_of_machine),
    })
}

fn json_of_agent(agent: &AgentEntry) -> Value {
    json!({
        "id": agent.id.0,
        "name": agent.name,
        "state": agent.state.name(),
        "pid": (agent.pid != 0).then_some(agent.pid),
        "uid": agent.uid,
        "links": agent.links,
        "topics": agent.topics,
        "subscriptions": agent.subscriptions,
        "sent": agent.sent,
        "received": agent.received,
        "bytes_lent": agent.bytes_lent,
    })
}

fn json_of_lane(lane: &LaneEntry, names: &HashMap<AgentId, &str>) -> Value {
    let time = |time_ns: u64| (lane.timed > 0).then_some(time_ns);
    json!({
        "lane": lane.lane.0,
        "class": class_name(lane.class),
        "kind": if lane.topic { "topic" } else { "link" },
        "from": name(names, lane.from),
        "to": name(names, lane.to),
        "messages": lane.messages,
        "received": lane.received,
        "bytes_lent": lane.bytes_lent,
        "rejected": lane.rejected,
        "waits": lane.waits,
        "lost": lane.lost,
        "depth": lane.depth,
        "slots": lane.slots,
        "timed": lane.timed,
        "p50_ns": time(lane.p50_ns),
        "p99_ns": time(lane.p99_ns),
        "p999_ns": time(lane.p999_ns),
    })
}

fn json_of_topic(topic: &TopicEntry, names: &HashMap<AgentId, &str>) -> Value {
    json!({
        "lane": topic.lane.0,
        "subject": topic.subject,
        "policy": if topic.lossless { "lossless" } else { "lossy" },
        "writer": name(names, topic.writer),
        "readers": topic.readers,
        "announced": topic.announced,
        "messages": topic.messages,
        "bytes_lent": topic.bytes_lent,
        "rejected": topic.rejected,
        "waits": topic.waits,
    })
}

fn json_of_class(class: &ClassEntry) -> Value {
    let latency = &class.latency;
    json!({
        "class": class_name(class.class),
        "lanes": class.lanes,
        "depth": class.depth,
        "messages": class.messages,
        "rejected": class.rejected,
        "lost": class.lost,
        "bytes_lent": class.bytes_lent,
        "waits": class.waits,
        "timed": latency.count(),
        "p50_ns": latency.quantile_ns(0.5),
        "p99_ns": latency.quantile_ns(0.99),
        "p999_ns": latency.quantile_ns(0.999),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(seconds: u64, messages: u64) -> Picture {
        let agent = AgentEntry { id: AgentId(1), name: "one".to_owned(), ..AgentEntry::default() };
        let agent = AgentEntry { sent: messages, ..agent };
        let lane = LaneEntry {
            lane: LaneId(7),
            from: AgentId(1),
            to: AgentId(2),
            messages,
            depth: 3,
            slots: 64,
            timed: 1,
            p50_ns: 1_500,
            p99_ns: 12_000_000,
            ..LaneEntry::default()
        };
        Picture {
            refreshed_ns: seconds * 1_000_000_000,
            agents: vec![agent],
            lanes: vec![lane],
            ..Picture::default()
        }
    }

    /// The cells of the row after the heading that begins so.
    fn row(text: &str, heading: &str) -> String {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rates_are_what_came_between_two_pictures() {
        let text = text_of(&picture(14, 1_000), Some(&picture(10, 200)), 14_000_000_000);
        assert_eq!(row(&text, "AGENT"), "one other - 0 0 200 0 1000");
        assert_eq!(row(&text, "LANE"), "7 critical one #2 200 3/64 1.50 us 12.0 ms 0");
    }

    #[test]
    fn the_first_picture_has_no_rates() {
        let text = text_of(&picture(14, 1_000), None, 14_000_000_000);
        assert_eq!(row(&text, "AGENT"), "one other - 0 0 - - 1000");
    }

    #[test]
    fn another_router_is_no_beginning() {
        let mut before = picture(10, 200);
        before.router.instance = 1;
        let text = text_of(&picture(14, 1_000), Some(&before), 14_000_000_000);
        assert_eq!(row(&text, "AGENT"), "one other - 0 0 - - 1000");
    }

    #[test]
    fn long_tables_are_cut_and_say_so() {
        let mut long = picture(1, 1);
        long.lanes = vec![long.lanes[0]; TOP_ROWS_MAX + 5];
        let text = text_of(&long, None, 0);
        assert!(text.contains("and 5 more\n"), "{text}");
        assert_eq!(json_of(&long, 0)["lanes"].as_array().unwrap().len(), TOP_ROWS_MAX + 5);
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (time_ns, shown) in [
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (15_360, "15.4 us"),
            (999_999, "1000 us"),
            (250_000_000, "250 ms"),
            (17_000_000_000, "17.0 s"),
        ] {
            assert_eq!(duration(Some(time_ns)), shown);
        }
        assert_eq!(duration(None), "-");
    }
}
