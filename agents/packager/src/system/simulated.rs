//! What apt says it would do (`apt-get --simulate`), as data.

use super::snapshot::qualified;
use super::{Direction, Step};

/// One thing that apt would do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Action {
    /// The package, with the architecture where that is a foreign one.
    pub(crate) name: String,
    /// The version that is there now.
    pub(crate) before: Option<String>,
    /// The version that would be; `None`: it is taken away.
    pub(crate) after: Option<String>,
    /// The architecture of what would be.
    pub(crate) architecture: String,
    /// Where it comes from: `Debian:12.1/stable`.
    pub(crate) origin: String,
}

impl Action {
    /// What a step does, as far as a simulation names it.
    pub(super) fn of(
        step: &Step,
        direction: Direction,
    ) -> (String, Option<String>, Option<String>) {
        let (from, to) = match direction {
            Direction::Forward => (&step.before, &step.after),
            Direction::Back => (&step.after, &step.before),
        };
        let version = |it: &super::Standing| it.version().map(|version| version.version.clone());
        (step.name.clone(), version(from), version(to))
    }
}

/// Reads a simulation. Lines that configure say nothing new; others are for people.
pub(super) fn read(native: &str, text: &str) -> Vec<Action> {
    let mut found: Vec<Action> = text.lines().filter_map(|line| action(native, line)).collect();
    found.sort();
    found.dedup();
    found
}

fn action(native: &str, line: &str) -> Option<Action> {
    let (word, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (before, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (version, rest) = rest.split_once(']')?;
            (Some(version.to_owned()), rest.trim_start())
        }
        None => (None, rest),
    };
    let (plain, named) = name.split_once(':').unwrap_or((name, native));
    match word {
        "Inst" => {
            let (inner, _) = rest.strip_prefix('(')?.split_once(')')?;
            let (version, rest) = inner.split_once(' ')?;
            let (origin, architecture) = rest.rsplit_once('[')?;
            let architecture = architecture.trim_end_matches(']');
            Some(Action {
                name: qualified(native, plain, architecture),
                before,
                after: Some(version.to_owned()),
                architecture: architecture.to_owned(),
                origin: origin.trim().to_owned(),
            })
        }
        "Remv" | "Purg" => Some(Action {
            name: qualified(native, plain, named),
            before,
            after: None,
            architecture: String::new(),
            origin: String::new(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_simulation_that_changes_something_is_read() {
        let text = "Reading package lists...\nRemv old [1] [web:amd64 ]\n\
            Inst lib [1.0] (1:1.5~x Debian:12.1/stable, Debian-Security:12/stable-security [all]) []\n\
            Inst wine:i386 (8 Debian:12.1/stable [i386])\nConf lib (1.5 local [all])\nPurg x:i386 [2]\n";
        let found = read("amd64", text);
        let all: Vec<_> = found
            .iter()
            .map(|it| (it.name.as_str(), it.before.as_deref(), it.after.as_deref()))
            .collect();
        assert_eq!(
            all,
            [
                ("lib", Some("1.0"), Some("1:1.5~x")),
                ("old", Some("1"), None),
                ("wine:i386", None, Some("8")),
                ("x:i386", Some("2"), None),
            ]
        );
        assert_eq!(found[0].origin, "Debian:12.1/stable, Debian-Security:12/stable-security");
        assert_eq!(found[0].architecture, "all");
    }

    #[test]
    fn broken_lines_are_passed_over() {
        for line in ["Inst", "Inst a", "Inst a (", "Inst a (1)", "Inst a [1", "Remv", "", " "] {
            assert!(read("amd64", line).len() <= 1, "{line}");
        }
    }
}
