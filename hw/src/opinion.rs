//! What somebody else says of this machine's cores, and where that differs from what this crate says.
//!
//! This crate is the authority on kinds of cores; another's word is shown beside it, and fills in which CPUs are
//! threads of one core where the kernel's files do not say. hwloc is behind [`Observer`], so nothing else knows it.

use crate::cores::Cores;
use crate::cpu::Classes;
use crate::cpu_set::CpuSet;

/// Somebody who looks at a machine.
pub trait Observer {
    /// Looks once. May take tens of milliseconds.
    fn observe(&self) -> Result<Opinion, ObserveError>;
}

/// Why somebody has nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// It does not work.
    #[error("{0}")]
    Failed(String),
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    /// Who says so, with the version.
    pub who: String,
    /// The CPUs of each core.
    pub cores: Vec<CpuSet>,
    /// The CPUs of each level-3 cache.
    pub l3: Vec<CpuSet>,
    /// Kinds of cores, weakest first; empty where no difference is seen.
    pub kinds: Vec<Kind>,
}

/// CPUs that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// Which.
    pub cpus: CpuSet,
    /// The name of the kind, where it has one.
    pub name: Option<String>,
}

/// One thing that both have something to say about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What.
    pub topic: &'static str,
    /// Whether both say the same, or the other's says less and nothing different.
    pub agrees: bool,
    /// What this crate says.
    pub ours: String,
    /// What the other says.
    pub theirs: String,
    /// What explains a difference that is known, for people.
    pub note: Option<&'static str>,
}

/// Compares over the CPUs that may be used.
pub fn compare(classes: &Classes, cores: &Cores, opinion: &Opinion) -> Vec<Comparison> {
    let own_l3: Vec<CpuSet> =
        cores.caches(3).map(|cache| cache.cpus.iter().copied().collect()).collect();
    let all = classes.performance.union(&classes.efficient).union(&classes.low_power);
    vec![
        sets("threads of one core", cores.all(), &opinion.cores, &all),
        sets("level-3 caches", &own_l3, &opinion.l3, &all),
        kinds(classes, &opinion.kinds, &all),
    ]
}

fn sets(topic: &'static str, ours: &[CpuSet], theirs: &[CpuSet], all: &CpuSet) -> Comparison {
    let (ours, theirs) = (within(ours, all), within(theirs, all));
    let (ours_text, theirs_text) = (text(&ours), text(&theirs));
    Comparison { topic, agrees: ours == theirs, ours: ours_text, theirs: theirs_text, note: None }
}

/// Who merges two of our classes says less (versions before 2.13 do not know low-power cores); who splits one says
/// more than is used. Neither contradicts; a kind that lies across a border of ours, with others in it, does.
fn kinds(classes: &Classes, theirs: &[Kind], all: &CpuSet) -> Comparison {
    let own = [&classes.performance, &classes.efficient, &classes.low_power];
    let ours: Vec<CpuSet> = own.into_iter().filter(|set| !set.is_empty()).cloned().collect();
    let seen: Vec<CpuSet> = theirs.iter().map(|kind| kind.cpus.clone()).collect();
    let seen = within(&seen, all);
    let meets = |a: &CpuSet, b: &CpuSet| !a.intersection(b).is_empty();
    let nested = |a: &CpuSet, b: &CpuSet| !meets(a, b) || a.covers(b) || b.covers(a);
    let agrees = seen.iter().all(|kind| ours.iter().all(|class| nested(kind, class)));
    let named: Vec<String> = theirs
        .iter()
        .map(|kind| (kind.cpus.intersection(all), kind.name.as_deref().unwrap_or("unnamed")))
        .filter(|(cpus, _)| !cpus.is_empty())
        .map(|(cpus, name)| format!("{name} {cpus}"))
        .collect();
    let note = match (seen.len(), ours.len()) {
        (0, 1) => None,
        (0, _) => Some("it sees no kinds"),
        (theirs, ours) if theirs < ours => Some("it does not tell all of them apart"),
        (theirs, ours) if theirs > ours => Some("it tells more apart than is used"),
        _ => None,
    };
    let theirs = if named.is_empty() { "one kind".to_owned() } else { named.join("; ") };
    Comparison { topic: "kinds of cores", agrees, ours: text(&ours), theirs, note }
}

/// The sets cut to `all`, without empty ones, in the order of their smallest numbers.
fn within(sets: &[CpuSet], all: &CpuSet) -> Vec<CpuSet> {
    let cut = sets.iter().map(|set| set.intersection(all)).filter(|set| !set.is_empty());
    let mut cut: Vec<CpuSet> = cut.collect();
    cut.sort_by_key(CpuSet::first);
    cut.dedup();
    cut
}

fn text(sets: &[CpuSet]) -> String {
    match sets {
        [] => "none".to_owned(),
        sets => sets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}
