//! `bolide status` and `bolide agents`: the daemon's own picture, as JSON or as a few lines for
//! people.

use clap::Args;
use scheduler::admission::Reason;
use scheduler::limits::DEFER_MAX;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::{Context, ask, changes, files, output};

/// `bolide status`
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `bolide agents`
#[derive(Debug, Args)]
pub(super) struct Agents {
    /// Only agents with this name, tool, capability or tag
    filter: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.load([])?;
        let status = ask::status(&config.settings.runtime_dir)?;
        if self.json {
            output::print_json(&status)?;
        } else {
            output::print(&text_of(&status))?;
        }
        Ok(Exit::Done)
    }
}

impl Agents {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.load([])?;
        let status = ask::status(&config.settings.runtime_dir)?;
        let own = u64::from(std::process::id());
        let filter = self.filter.as_deref().unwrap_or_default();
        let wanted = |agent: &&Value| agent["pid"] != own && is_called(agent, filter);
        let agents: Vec<&Value> = list(&status["agents"]).iter().filter(wanted).collect();
        if self.json {
            output::print_json(&json!({ "schema": "bolide-agents/1", "agents": agents }))?;
        } else {
            output::print(&agents_table(&agents))?;
        }
        Ok(Exit::Done)
    }
}

fn is_called(agent: &Value, filter: &str) -> bool {
    let has = |field: &str| list(&agent[field]).iter().any(|word| word == filter);
    filter.is_empty()
        || agent["name"] == filter
        || has("tools")
        || has("capabilities")
        || has("tags")
}

fn text_of(status: &Value) -> String {
    let uptime = status["uptime_seconds"].as_f64().unwrap_or_default();
    let metrics = status["metrics_addr"].as_str().unwrap_or("off");
    let mut text = format!(
        "bolide {} is {} · process {} · up {:.0} s · metrics {metrics}\n\
         socket in {} · {} agents · {} lanes · {} messages over shared memory\n",
        word(&status["version"]),
        word(&status["phase"]),
        status["pid"],
        uptime,
        word(&status["runtime_dir"]),
        list(&status["agents"]).len(),
        status["lanes"],
        status["messages"]["critical"],
    );
    for line in super::doctor::fallback_lines(&status["fallbacks"]) {
        text.push_str(&output::harmless(&line));
        text.push('\n');
    }
    text += &machine_text(&status["machine"], &status["work"]);
    if let Some(reason) = status["governor"]["silent"].as_str() {
        text += &format!("degraded: {}\n", output::harmless(reason));
    }
    let hosted = list(&status["hosted"]);
    if hosted.is_empty() {
        return text;
    }
    let mut rows = vec![header([
        "hosted", "state", "process", "restarts", "running", "done", "failed", "last end",
    ])];
    for agent in hosted {
        let tasks = &agent["tasks"];
        let failed = ["failed", "panicked", "died"].iter().filter_map(|name| tasks[name].as_u64());
        let failed = failed.fold(0u64, u64::saturating_add).to_string();
        rows.push(vec![
            word(&agent["name"]),
            word(&agent["state"]),
            word(&agent["pid"]),
            word(&agent["restarts"]),
            word(&tasks["running"]),
            word(&tasks["done"]),
            failed,
            word(&agent["last_end"]),
        ]);
    }
    text.push('\n');
    text.push_str(&output::table(&rows));
    text
}

/// What the machine allows, what runs and what waits, each on a line; nothing while nobody has looked.
fn machine_text(machine: &Value, work: &Value) -> String {
    if machine.is_null() {
        return String::new();
    }
    let thermal = &machine["thermal"];
    let celsius = thermal["celsius"].as_f64().map(|celsius| format!("{celsius:.1} C"));
    let classes = ["performance", "efficient", "low_power"];
    let by_class = |numbers: &Value| classes.map(|class| word(&numbers[class])).join(" + ");
    let numbers = |numbers: &Value| list(numbers).iter().map(word).collect::<Vec<_>>();
    let mut text = format!(
        "machine {} at {} · slots {} ({}) on {} processors · running {}\n",
        word(&thermal["state"]),
        celsius.unwrap_or_else(|| "no known temperature".to_owned()),
        by_class(&machine["slots"]),
        word(&machine["why"]),
        by_class(&machine["cpus"]),
        numbers(&work["running"]).join(" + "),
    );
    let waiting = Reason::ALL.into_iter().zip(numbers(&work["waiting"]));
    let waiting = waiting.filter(|(_, count)| count != "0");
    let waiting: Vec<String> =
        waiting.map(|(reason, count)| format!("{count} for {}", reason.name())).collect();
    if !waiting.is_empty() {
        text += &format!("waiting {}\n", waiting.join(", "));
    }
    let count =
        |number: &Value| u32::try_from(number.as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
    let by_reason = &work["files"]["waiting"];
    let files_waiting = [0, 1, 2].map(|reason| count(&by_reason[reason]));
    text += &files::line_of(count(&work["files"]["under_way"]), files_waiting);
    text += &changes::line_of([0, 1, 2].map(|reason| count(&work["watch_deferred"][reason])));
    if machine["heavy"] == false {
        let until = match thermal["state"].as_str() {
            Some("blind") => "until the temperature is known again",
            _ => "until it is cooler",
        };
        let at_most = DEFER_MAX.as_secs();
        text += &format!("large changes wait {until}, at most {at_most} s each\n");
    }
    if machine["background"] == "paused" {
        text += "work that nobody waits for is paused\n";
    }
    text
}

fn agents_table(agents: &[&Value]) -> String {
    let mut rows = vec![header(["id", "name", "version", "process", "links", "topics", "tools"])];
    for agent in agents {
        let tools: Vec<String> = list(&agent["tools"]).iter().map(word).collect();
        rows.push(vec![
            word(&agent["id"]),
            word(&agent["name"]),
            word(&agent["version"]),
            word(&agent["pid"]),
            word(&agent["links"]),
            word(&agent["topics"]),
            tools.join(" "),
        ]);
    }
    output::table(&rows)
}

fn header<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_uppercase).to_vec()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
