//! The processors: their classes and the rules that decided, what may be used and what cut it, cores and caches, and
//! the second opinion.

use hw::allowed::Allowed;
use hw::cores::Cores;
use hw::cpu::Classification;
use hw::cpu_set::CpuSet;
#[cfg(feature = "hwloc")]
use hw::hwloc::Hwloc;
use hw::opinion::{Opinion, compare};
use hw::root::Root;
use serde_json::{Value, json};

use super::plain;

/// What was found out, for the rest of the report.
pub(super) struct Processor {
    pub(super) allowed: Allowed,
    pub(super) classification: Classification,
    cores: Cores,
    opinion: Result<Opinion, String>,
}

impl Processor {
    pub(super) fn read(root: &Root) -> Self {
        let allowed = Allowed::read(root);
        let classification = Classification::read(root, &allowed.cpus);
        let opinion = second_opinion(root);
        let mut cores = Cores::read(root, &allowed.cpus);
        if let Ok(opinion) = &opinion {
            cores = cores.completed_by(&opinion.cores);
        }
        Self { allowed, classification, cores, opinion }
    }

    /// `cpu` of `doctor --json`.
    pub(super) fn report(&self, root: &Root) -> Value {
        let classes = &self.classification.classes;
        let numbers = |set: &CpuSet| set.iter().collect::<Vec<_>>();
        let caches = self.cores.caches(3).map(|cache| {
            let cpus: CpuSet = cache.cpus.iter().copied().collect();
            json!({"cpus": cpus.to_string(), "bytes": cache.size_bytes})
        });
        let steps = self.classification.steps.iter().map(
            |step| json!({"rule": step.rule, "decided": step.decided, "finding": step.finding}),
        );
        json!({
            "p": numbers(&classes.performance),
            "e": numbers(&classes.efficient),
            "lpe": numbers(&classes.low_power),
            "source": classes.source,
            "rules": steps.collect::<Vec<_>>(),
            "cores": {
                "p": self.cores.count(&classes.performance),
                "e": self.cores.count(&classes.efficient),
                "lpe": self.cores.count(&classes.low_power),
                "all": self.cores.count(&self.allowed.cpus),
                "unknown_siblings": self.cores.unknown().to_string(),
            },
            "l3": caches.collect::<Vec<_>>(),
            "allowed": self.allowed.cpus.to_string(),
            "limits": limits(&self.allowed),
            "microcode": root.read("sys/devices/system/cpu/cpu0/microcode/version"),
        })
    }

    /// `hwloc` of `doctor --json`.
    pub(super) fn hwloc(&self) -> Value {
        let opinion = match &self.opinion {
            Ok(opinion) => opinion,
            Err(why) => return json!({"version": null, "why": why, "compared": []}),
        };
        let compared = compare(&self.classification.classes, &self.cores, opinion);
        let compared = compared.into_iter().map(|it| {
            json!({
                "topic": it.topic,
                "agrees": it.agrees,
                "ours": it.ours,
                "theirs": it.theirs,
                "note": it.note,
            })
        });
        json!({"version": opinion.who, "why": null, "compared": compared.collect::<Vec<_>>()})
    }
}

/// hwloc reads other files than ours, so it is asked about this machine only, not about a tree of recorded ones.
fn second_opinion(root: &Root) -> Result<Opinion, String> {
    if !root.is_machine() {
        return Err("not asked: it can only look at the running machine".to_owned());
    }
    #[cfg(feature = "hwloc")]
    {
        use hw::opinion::Observer;
        Hwloc::Machine.observe().map_err(|error| error.to_string())
    }
    #[cfg(not(feature = "hwloc"))]
    Err("this program was built without it".to_owned())
}

fn limits(allowed: &Allowed) -> Value {
    let quota =
        allowed.quota.as_ref().map(|quota| json!({"cpus": quota.cpus(), "file": quota.path}));
    let cpuset =
        allowed.cpuset.as_ref().map(|(cpus, file)| json!({"cpus": cpus.to_string(), "file": file}));
    json!({
        "affinity": allowed.affinity.as_ref().map(ToString::to_string),
        "online": allowed.online.as_ref().map(ToString::to_string),
        "cpuset": cpuset,
        "quota": quota,
        "contradictory": allowed.is_contradictory,
        "parallelism": allowed.parallelism(),
    })
}

/// The same for people.
pub(super) fn lines(cpu: &Value, hwloc: &Value) -> Vec<String> {
    let count = |class: &str| cpu[class].as_array().map_or(0, Vec::len);
    let (p, e, lpe) = (count("p"), count("e"), count("lpe"));
    let cores = plain(&cpu["cores"]["all"]);
    let mut lines = vec![format!(
        "cpu        {p} P, {e} E, {lpe} LP-E of {} on {cores} cores ({})",
        plain(&cpu["allowed"]),
        plain(&cpu["source"])
    )];
    for (class, name) in [("p", "P"), ("e", "E"), ("lpe", "LP-E")] {
        let numbers = cpu[class].as_array().into_iter().flatten();
        let set: CpuSet = numbers.filter_map(|it| usize::try_from(it.as_u64()?).ok()).collect();
        if !set.is_empty() {
            lines.push(format!("           {name}: {set} ({} cores)", plain(&cpu["cores"][class])));
        }
    }
    for step in cpu["rules"].as_array().into_iter().flatten() {
        let mark = if step["decided"] == true { "+" } else { "-" };
        let (rule, finding) = (plain(&step["rule"]), plain(&step["finding"]));
        lines.push(format!("           {mark} {rule}: {finding}"));
    }
    let limits = &cpu["limits"];
    let set = |value: &Value| value.as_str().map_or("not read".to_owned(), str::to_owned);
    let (affinity, online) = (set(&limits["affinity"]), set(&limits["online"]));
    let mut line = format!("allowed    affinity {affinity}, online {online}");
    if let Some(file) = limits["cpuset"]["file"].as_str() {
        line += &format!(", control group {} ({file})", plain(&limits["cpuset"]["cpus"]));
    }
    lines.push(line);
    if let Some(file) = limits["quota"]["file"].as_str() {
        let cpus = plain(&limits["quota"]["cpus"]);
        lines.push(format!("           quota: the time of {cpus} CPUs ({file})"));
    }
    if limits["contradictory"] == true {
        lines.push(
            "           these have nothing in common; the first that says something is used"
                .to_owned(),
        );
    }
    lines.extend(hwloc_lines(hwloc));
    lines
}

fn hwloc_lines(hwloc: &Value) -> Vec<String> {
    let Some(version) = hwloc["version"].as_str() else {
        return vec![format!("hwloc      {}", plain(&hwloc["why"]))];
    };
    let row = |row: &Value| {
        let (topic, ours, theirs) =
            (plain(&row["topic"]), plain(&row["ours"]), plain(&row["theirs"]));
        let note = row["note"].as_str().map_or(String::new(), |note| format!(" ({note})"));
        match row["agrees"] == true {
            true => format!("           {topic}: agrees{note}"),
            false => format!("           {topic}: differs{note}: here {ours}, there {theirs}"),
        }
    };
    let rows = hwloc["compared"].as_array().into_iter().flatten().map(row);
    [format!("hwloc      {version}")].into_iter().chain(rows).collect()
}
