//! Kinds of cores by a value that the kernel has for each CPU, larger on stronger cores.

use std::fmt;

use crate::cpu_set::CpuSet;
use crate::root::Root;

/// The rule, the file of each CPU, and the name as evidence. The guaranteed frequency comes first: the highest one
/// differs among cores of one kind that the maker favoured, and the other two are known to say "all equal" where that
/// is not so.
pub(super) const SOURCES: [(&str, &str, &str); 4] = [
    ("guaranteed frequency", "cpufreq/base_frequency", "guaranteed frequency"),
    ("CPPC", "acpi_cppc/highest_perf", "CPPC highest performance"),
    ("capacity", "cpu_capacity", "scheduler capacity"),
    ("maximum frequency", "cpufreq/cpuinfo_max_freq", "maximum frequency"),
];

/// Ratio between the strongest and the weakest CPU from which a machine counts as heterogeneous: below it, the
/// spread is that of favoured cores, or of a larger cache at a lower frequency.
const HETEROGENEOUS_RATIO_MIN: f64 = 1.3;

/// Ratio between neighbouring values from which they belong to different kinds. Favoured cores of one kind differ by
/// less, and where each of many is ranked, no step is as large though the ends are far apart.
const KIND_GAP_RATIO_MIN: f64 = 1.15;

/// The strongest kind, and all others.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) strongest: CpuSet,
    pub(super) others: CpuSet,
    kinds: Vec<Kind>,
}

/// CPUs whose values lie close together.
#[derive(Debug)]
struct Kind {
    least: u64,
    most: u64,
    cpus: Vec<usize>,
}

/// Why a value does not tell kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSplit {
    #[error("no CPU has it")]
    Absent,
    #[error("not every CPU has it: {0} has none")]
    Incomplete(usize),
    #[error("{0} on every CPU")]
    Equal(u64),
    #[error("{0} to {1}: less than 1.3 apart, one kind")]
    Close(u64, u64),
    #[error("{0} to {1} without a step of 1.15: one kind, ranked")]
    Ladder(u64, u64),
}

/// Splits `cpus` by the value in `file` of each.
pub(super) fn strongest(root: &Root, cpus: &CpuSet, file: &str) -> Result<Split, NoSplit> {
    let mut values = Vec::new();
    let mut without = None;
    for cpu in cpus.iter() {
        match root.read_number(&format!("sys/devices/system/cpu/cpu{cpu}/{file}")) {
            Some(value) if value > 0 => values.push((value, cpu)),
            _ => without = without.or(Some(cpu)),
        }
    }
    values.sort_unstable();
    let (Some((least, _)), Some((most, _))) = (values.first(), values.last()) else {
        return Err(NoSplit::Absent);
    };
    let (least, most) = (*least, *most);
    if let Some(cpu) = without {
        return Err(NoSplit::Incomplete(cpu));
    }
    if least == most {
        return Err(NoSplit::Equal(least));
    }
    if (most as f64) < least as f64 * HETEROGENEOUS_RATIO_MIN {
        return Err(NoSplit::Close(least, most));
    }
    let mut kinds = kinds(&values);
    if kinds.len() < 2 {
        return Err(NoSplit::Ladder(least, most));
    }
    let strongest = kinds.last().map(|kind| kind.cpus.iter().copied().collect());
    let others = kinds.iter().rev().skip(1).flat_map(|kind| kind.cpus.iter().copied()).collect();
    kinds.reverse();
    Ok(Split { strongest: strongest.unwrap_or_default(), others, kinds })
}

/// Merges ascending values that are closer than the gap between kinds.
fn kinds(values: &[(u64, usize)]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for (value, cpu) in values.iter().copied() {
        match kinds.last_mut() {
            Some(kind) if (value as f64) < kind.most as f64 * KIND_GAP_RATIO_MIN => {
                kind.most = value;
                kind.cpus.push(cpu);
            }
            _ => kinds.push(Kind { least: value, most: value, cpus: vec![cpu] }),
        }
    }
    kinds
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Kind { least, most, cpus } in &self.kinds {
            let set: CpuSet = cpus.iter().copied().collect();
            match least == most {
                true => write!(formatter, "{separator}{least} on {set}")?,
                false => write!(formatter, "{separator}{least} to {most} on {set}")?,
            }
            separator = "; ";
        }
        Ok(())
    }
}
