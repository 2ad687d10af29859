//! The figures of the README, measured on this machine beside a peer or the machine's own limit in the same run; those of the
//! thermal governor are simulated.

pub(crate) mod bus;
mod figures;
pub(crate) mod governor;
pub(crate) mod install;
pub(crate) mod resolve;
mod scratch;
mod step;
pub(crate) mod undo;
pub(crate) mod unpack;
pub(crate) mod workers;

use std::time::{Duration, Instant};

use anyhow::ensure;

/// When something that takes microseconds counts as hung.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The sets that `--only` names: by a part of their name, by `ECOSYSTEM:`, or by both; all where nothing is named.
fn wanted<'a, T>(
    only: &[String],
    sets: impl IntoIterator<Item = &'a T>,
    name_of: impl Fn(&'a T) -> (&'a str, &'a str),
) -> anyhow::Result<Vec<&'a T>> {
    let is_wanted = |set: &&'a T| {
        let (ecosystem, name) = name_of(set);
        let matches = |only: &String| match only.split_once(':') {
            Some((wanted, part)) => ecosystem == wanted && name.contains(part),
            None => name.contains(only.as_str()),
        };
        only.is_empty() || only.iter().any(matches)
    };
    let wanted: Vec<&T> = sets.into_iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no set is named as `--only` says: {}", only.join(", "));
    Ok(wanted)
}

/// The middle of some values; `None` of none.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_chosen_by_name_by_ecosystem_or_by_both() {
        let sets = [("npm", "next"), ("npm", "express"), ("pypi", "express-like")];
        let chosen = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|one| (*one).to_owned()).collect();
            wanted(&only, &sets, |set| *set).map(|sets| sets.len()).ok()
        };
        assert_eq!(chosen(&[]), Some(3));
        assert_eq!(chosen(&["express"]), Some(2));
        assert_eq!(chosen(&["npm:"]), Some(2));
        assert_eq!(chosen(&["npm:express", "next"]), Some(2));
        assert_eq!(chosen(&["cargo:"]), None, "nothing is no measurement");
    }
}
