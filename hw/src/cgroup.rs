//! The control groups of this process: which CPUs they leave it, how much time, and how much it waits.
//!
//! Groups are looked for where every distribution and container runtime mounts them. The table of mounts is not read:
//! it names people's disks and directories, which have no place in a recording of the machine. Nor have groups of other
//! controllers and of the service manager: only the lines that are used are recorded.

use crate::cpu_set::CpuSet;
use crate::limits::CGROUP_LEVELS_MAX;
use crate::root::Root;

/// The share of time that a group may use, as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Time in each period, in microseconds.
    pub quota_us: u64,
    /// The period, in microseconds.
    pub period_us: u64,
    /// The file that says so.
    pub path: String,
}

impl Quota {
    /// The quota as a number of CPUs.
    pub fn cpus(&self) -> f64 {
        self.quota_us as f64 / self.period_us as f64
    }

    /// CPUs that can be kept busy without being stopped: rounded down, at least one, as Rust's own
    /// `available_parallelism` does.
    pub fn whole_cpus(&self) -> usize {
        usize::try_from(self.quota_us / self.period_us).unwrap_or(usize::MAX).max(1)
    }
}

/// The hierarchies of groups, version 2 first. In version 1 each controller has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Path of the group of version 2.
    unified: Option<String>,
    /// Path of the group of version 1 that limits CPU numbers.
    cpuset: Option<String>,
    /// Path of the group of version 1 that limits CPU time.
    cpu: Option<String>,
}

impl Groups {
    /// The groups of this process under `root`.
    pub fn read(root: &Root) -> Self {
        let mut groups = Self::default();
        let text = root.read_part("proc/self/cgroup", |text| {
            let used = text.lines().filter(|line| Self::default().place(line).is_some());
            used.collect::<Vec<_>>().join("\n")
        });
        for line in text.unwrap_or_default().lines() {
            if let Some((place, path)) = groups.place(line) {
                *place = Some(path.to_owned());
            }
        }
        groups
    }

    /// Where the path of one line of `/proc/self/cgroup` belongs, and the path; `None` for a line that is not used.
    fn place<'a>(&mut self, line: &'a str) -> Option<(&mut Option<String>, &'a str)> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let has = |wanted| controllers.split(',').any(|name| name == wanted);
        match controllers {
            "" => Some((&mut self.unified, path)),
            _ if has("cpuset") => Some((&mut self.cpuset, path)),
            _ if has("cpu") => Some((&mut self.cpu, path)),
            _ => None,
        }
    }

    /// The CPU numbers that the groups leave to this process, and the file that says so.
    pub fn cpus(&self, root: &Root) -> Option<(CpuSet, String)> {
        let files = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"];
        let unified = self.unified_levels();
        let old = levels(self.cpuset.as_deref(), &["sys/fs/cgroup/cpuset"]);
        unified.into_iter().chain(old).find_map(|level| {
            files.iter().find_map(|file| {
                let path = format!("{level}/{file}");
                let set = CpuSet::parse(&root.read(&path)?).filter(|set| !set.is_empty())?;
                Some((set, path))
            })
        })
    }

    /// The narrowest quota from this process's own group up to the top.
    pub fn quota(&self, root: &Root) -> Option<Quota> {
        let unified = self.unified_levels().into_iter().filter_map(|level| {
            let path = format!("{level}/cpu.max");
            let text = root.read(&path)?;
            let (quota, period) = text.split_once(' ')?;
            quota_of(quota.parse().ok()?, period.parse().ok()?, path)
        });
        let places = ["sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpu"];
        let old = levels(self.cpu.as_deref(), &places).into_iter().filter_map(|level| {
            let path = format!("{level}/cpu.cfs_quota_us");
            let quota = root.read_number(&path)?;
            quota_of(quota, root.read_number(&format!("{level}/cpu.cfs_period_us"))?, path)
        });
        unified.chain(old).min_by(|a, b| a.cpus().total_cmp(&b.cpus()))
    }

    /// The file with the CPU pressure of this process's own group, where there is one.
    pub(crate) fn pressure(&self, root: &Root) -> Option<String> {
        let own = self.unified.as_deref().filter(|path| !path.trim_matches('/').is_empty())?;
        let levels = levels(Some(own), &UNIFIED);
        let mut files = levels.into_iter().map(|level| format!("{level}/cpu.pressure"));
        files.find(|file| root.read(file).is_some())
    }

    fn unified_levels(&self) -> Vec<String> {
        levels(self.unified.as_deref(), &UNIFIED)
    }
}

/// Where version 2 is mounted: alone, or beside version 1.
const UNIFIED: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];

fn quota_of(quota_us: u64, period_us: u64, path: String) -> Option<Quota> {
    (quota_us > 0 && period_us > 0).then_some(Quota { quota_us, period_us, path })
}

/// The directories from the group up to each place where its hierarchy may be mounted. A path that leads out of its
/// hierarchy (the group is outside this process's namespace) gives the top only, and so does, in the end, one that is
/// not there, because a container sees its own group mounted at the top.
fn levels(group: Option<&str>, places: &[&str]) -> Vec<String> {
    let Some(group) = group else { return Vec::new() };
    let parts: Vec<&str> = group.split('/').filter(|part| !part.is_empty()).collect();
    let is_inside = parts.iter().all(|part| *part != ".." && *part != ".");
    let parts = if is_inside { &parts[..] } else { &[] };
    let levels = (0..=parts.len()).rev().take(CGROUP_LEVELS_MAX - 1).chain([0]);
    let mut found: Vec<String> = places
        .iter()
        .flat_map(|place| {
            levels.clone().map(move |depth| {
                let below: String = parts[..depth].iter().map(|part| format!("/{part}")).collect();
                format!("{place}{below}")
            })
        })
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests;
