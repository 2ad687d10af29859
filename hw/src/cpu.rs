//! Which CPUs are performance, efficient and low-power cores.
//!
//! The order of evidence follows Intel's own low-power daemon: the kernel's lists per kind of core first; of efficient
//! cores those outside the level-3 cache are low-power ones, unless none is inside; then values per CPU whose kinds
//! lie far enough apart; else all are alike. Numbers, brand strings, the processor's frequency leaf, counts of kinds
//! and `cpu ^ 1` prove nothing: the same processor is numbered in at least four ways by different firmware.
//!
//! What is judged is the whole machine, and the result is then cut to what may be used: a set that a container was
//! given must not change what a core is.

mod evidence;
mod values;

use std::fmt;

pub use evidence::Evidence;

use crate::cpu_set::CpuSet;
use crate::root::Root;

/// The CPUs by class, restricted to those that may be used, and how that was found out. Each CPU that may be used is in
/// exactly one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// Performance cores; all CPUs where the machine is homogeneous.
    pub performance: CpuSet,
    /// Efficient cores.
    pub efficient: CpuSet,
    /// Efficient cores outside the level-3 cache.
    pub low_power: CpuSet,
    /// The evidence that decided, for people.
    pub source: &'static str,
}

/// The classes, and what each rule said on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classification {
    /// The result.
    pub classes: Classes,
    /// Every rule that was asked, in order.
    pub steps: Vec<Step>,
}

/// One rule and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: &'static str,
    /// Whether it contributed to the result.
    pub decided: bool,
    /// Why, or why not.
    pub finding: String,
}

impl Classes {
    /// Classifies the CPUs of `allowed` from what is under `root`.
    pub fn read(root: &Root, allowed: &CpuSet) -> Self {
        Classification::read(root, allowed).classes
    }
}

impl Classification {
    /// Classifies the CPUs of `allowed` from what is under `root` now.
    pub fn read(root: &Root, allowed: &CpuSet) -> Self {
        let mut evidence = Evidence::default();
        evidence.look(root, allowed);
        Self::from_evidence(&evidence, root, allowed)
    }

    /// Classifies from what was gathered, now and before: a core that was seen inside the level-3 cache stays an
    /// efficient one while it is offline, and its neighbours outside stay low-power ones.
    pub fn from_evidence(evidence: &Evidence, root: &Root, allowed: &CpuSet) -> Self {
        let mut steps = Vec::new();
        let parts = by_lists(evidence, &mut steps)
            .or_else(|| by_values(evidence, root, allowed, &mut steps));
        let Some(parts) = parts else {
            steps.push(Step {
                rule: "homogeneous",
                decided: true,
                finding: "nothing shows different cores: all are performance cores".to_owned(),
            });
            let none = CpuSet::default();
            let source = "homogeneous: no evidence of different cores";
            let classes = Classes {
                performance: allowed.clone(),
                efficient: none.clone(),
                low_power: none,
                source,
            };
            return Self { classes, steps };
        };
        let low_power = parts.low_power.intersection(allowed);
        let efficient = parts.efficient.difference(&parts.low_power).intersection(allowed);
        // What no list names is the performance class, which is what every core of a homogeneous machine is.
        let performance = allowed.difference(&efficient).difference(&low_power);
        let unnamed = performance.difference(&parts.performance);
        if !unnamed.is_empty() {
            let finding = format!("{unnamed}: not among the kinds; taken for performance cores");
            steps.push(Step { rule: "unnamed", decided: true, finding });
        }
        let classes = Classes { performance, efficient, low_power, source: parts.source };
        Self { classes, steps }
    }
}

/// The classes on the whole machine.
struct Parts {
    performance: CpuSet,
    efficient: CpuSet,
    low_power: CpuSet,
    source: &'static str,
}

/// The kernel's performance counters are one device per kind of core, with a list of its CPUs.
fn by_lists(evidence: &Evidence, steps: &mut Vec<Step>) -> Option<Parts> {
    let rule = "kernel lists per kind of core";
    let [core, atom, named_low_power] = [&evidence.core, &evidence.atom, &evidence.low_power];
    let both = core.intersection(&atom.union(named_low_power));
    let (atom, named_low_power) = (atom.difference(core), named_low_power.difference(core));
    if atom.is_empty() && named_low_power.is_empty() {
        let finding = match (&evidence.malformed[..], core.is_empty()) {
            ([], true) => "there are no such lists".to_owned(),
            ([], false) => format!("cpu_core has {core}, and there are no others"),
            (malformed, _) => format!("not lists of CPUs: {}", malformed.join(", ")),
        };
        steps.push(Step { rule, decided: false, finding });
        return None;
    }
    let mut finding = format!("cpu_core {core}; cpu_atom {atom}");
    if !named_low_power.is_empty() {
        finding += &format!("; cpu_lowpower {named_low_power}");
    }
    if !both.is_empty() {
        finding += &format!("; {both} in two lists, taken for performance cores");
    }
    steps.push(Step { rule, decided: true, finding });
    let efficient = atom.difference(&named_low_power);
    let outside = outside_level_3(evidence, &efficient, steps);
    let source = match (outside.is_empty(), named_low_power.is_empty()) {
        (false, _) => "kernel PMU lists and level-3 caches",
        (true, false) => "kernel PMU lists, low-power cores among them",
        (true, true) => "kernel PMU lists",
    };
    let low_power = named_low_power.union(&outside);
    Some(Parts { performance: core.clone(), efficient, low_power, source })
}

/// Those of the efficient cores that are outside the level-3 cache while others are inside.
fn outside_level_3(evidence: &Evidence, efficient: &CpuSet, steps: &mut Vec<Step>) -> CpuSet {
    let outside = efficient.intersection(&evidence.without_l3);
    let inside = efficient.intersection(&evidence.with_l3);
    let unknown = efficient.difference(&outside).difference(&inside);
    let (decided, mut finding) = match (outside.is_empty(), inside.is_empty()) {
        (true, true) => (false, "no cache of an efficient core is known".to_owned()),
        (true, false) => (false, format!("all efficient cores are inside: {inside}")),
        (false, true) => (false, no_core_inside(evidence, &outside)),
        (false, false) => (true, format!("{outside} are outside, {inside} inside")),
    };
    let says_something = !outside.is_empty() || !inside.is_empty();
    if says_something && !unknown.is_empty() {
        finding += &format!("; {unknown} do not tell, and count as inside");
    }
    steps.push(Step { rule: "level-3 cache", decided, finding });
    if decided { outside } else { CpuSet::default() }
}

/// All that can be seen lack the cache: one die without it for any efficient core, or a machine whose other efficient
/// cores are switched off. In both cases there must be somewhere to run.
fn no_core_inside(evidence: &Evidence, outside: &CpuSet) -> String {
    let mut text =
        format!("{outside} are outside and none is inside: they are the efficient cores");
    if !evidence.offline.is_empty() {
        let offline = &evidence.offline;
        text += &format!(" (not proven: {offline} are offline and were not seen)");
    }
    text
}

/// A value per CPU that is larger on stronger cores.
fn by_values(
    evidence: &Evidence,
    root: &Root,
    allowed: &CpuSet,
    steps: &mut Vec<Step>,
) -> Option<Parts> {
    let cpus = evidence.online.union(allowed);
    for (rule, file, source) in values::SOURCES {
        match values::strongest(root, &cpus, file) {
            Err(why_not) => steps.push(Step { rule, decided: false, finding: why_not.to_string() }),
            Ok(split) => {
                steps.push(Step { rule, decided: true, finding: split.to_string() });
                let low_power = outside_level_3(evidence, &split.others, steps);
                let (performance, efficient) = (split.strongest, split.others);
                return Some(Parts { performance, efficient, low_power, source });
            }
        }
    }
    None
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.decided { "yes" } else { "no" };
        write!(formatter, "{}: {mark}: {}", self.rule, self.finding)
    }
}

/// The CPUs that are online under `root`; empty where the tree does not say.
pub fn online(root: &Root) -> CpuSet {
    root.read("sys/devices/system/cpu/online")
        .and_then(|text| CpuSet::parse(&text))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
