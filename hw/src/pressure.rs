//! How long work waits for a CPU: the kernel's pressure stall information, of the machine and of the own group.

use crate::cgroup::Groups;
use crate::root::Root;

/// Shares of time in which something that could run had to wait for a CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// Of the last 10 s, in percent.
    pub some_avg10: f64,
    /// Of the last 60 s, in percent.
    pub some_avg60: f64,
    /// All such time, in microseconds.
    pub some_total_us: u64,
}

impl Pressure {
    /// Of the machine; `None` where the kernel does not measure it.
    pub fn of_machine(root: &Root) -> Option<Self> {
        Self::parse(&root.read("proc/pressure/cpu")?)
    }

    /// Of this process's control group; `None` where it has none of its own. Inside a container this is the better
    /// one: the machine's others do not show in it.
    pub fn of_group(root: &Root, groups: &Groups) -> Option<Self> {
        Self::parse(&root.read(&groups.pressure(root)?)?)
    }

    /// Only the line `some`: the line `full` is missing in older kernels and means nothing for the machine.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let field = |name: &str| {
            line.split(' ').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name))
        };
        let percent = |name: &str| {
            let value = field(name)?.1.parse::<f64>().ok()?;
            (0.0..=100.0).contains(&value).then_some(value)
        };
        Some(Self {
            some_avg10: percent("avg10")?,
            some_avg60: percent("avg60")?,
            some_total_us: field("total")?.1.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Pressure;
    use crate::cgroup::Groups;
    use crate::trees::Tree;

    const SOME: &str = "some avg10=0.37 avg60=0.90 avg300=3.45 total=3513241805";

    #[test]
    fn the_line_some_is_enough() {
        for text in
            [SOME.to_owned(), format!("{SOME}\nfull avg10=9.0 avg60=9.0 avg300=0.0 total=7")]
        {
            let pressure = Pressure::parse(&text).unwrap();
            assert_eq!((pressure.some_avg10, pressure.some_avg60), (0.37, 0.90));
            assert_eq!(pressure.some_total_us, 3_513_241_805);
        }
    }

    #[test]
    fn nonsense_is_no_pressure() {
        let texts = [
            "full avg10=0.37 avg60=0.90 avg300=3.45 total=3",
            "some avg10=NaN avg60=0.90 avg300=3.45 total=3",
            "some avg10=inf avg60=0.90 avg300=3.45 total=3",
            "some avg10=100.01 avg60=0.90 avg300=3.45 total=3",
            "some avg10=-1 avg60=0.90 avg300=3.45 total=3",
            "some avg60=0.90 avg300=3.45 total=3",
            "some avg10=0.1 avg60=0.90 total=-3",
            "some",
        ];
        for text in texts {
            assert_eq!(Pressure::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_group_has_pressure_of_its_own_and_the_top_is_the_machine() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        tree.file("proc/pressure/cpu", "some avg10=90.00 avg60=90.00 avg300=0.00 total=1\n");
        tree.file("proc/self/cgroup", "0::/user.slice/bolide.service\n");
        tree.file("sys/fs/cgroup/user.slice/bolide.service/cpu.pressure", SOME);
        let root = tree.root();
        let of_group = || Pressure::of_group(&root, &Groups::read(&root)).map(|it| it.some_avg10);
        assert_eq!(of_group(), Some(0.37));
        assert_eq!(Pressure::of_machine(&root).unwrap().some_avg10, 90.0);
        tree.file("proc/self/cgroup", "0::/\n");
        assert_eq!(of_group(), None);
    }
}
