//! What is left to do of a change, from where things stand, for tools that know no state between installed and not.

use super::snapshot::Snapshot;
use super::{Change, Direction, Standing, Step, Version};
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_STEPS_MAX;

/// What is left to do for one package.
pub(super) struct Task<'c> {
    pub(super) step: &'c Step,
    pub(super) goal: &'c Standing,
    pub(super) now: Standing,
}

impl Task<'_> {
    /// The version that it is brought to, and the digest of its archive; `None` where it is to go.
    pub(super) fn comes(&self) -> Option<(&Version, &str)> {
        let version = self.goal.version()?;
        Some((version, version.sha256.as_deref().unwrap_or_default()))
    }
}

/// Refuses more than one program can be told.
pub(super) fn check_bounds(change: &Change) -> Result<()> {
    if change.steps.len() <= SYSTEM_STEPS_MAX {
        return Ok(());
    }
    let message = format!("more than {SYSTEM_STEPS_MAX} packages of the system at once");
    Err(Error::new(Kind::Failed, "too-many-packages", message))
}

/// What is left to do, from where things stand.
pub(super) fn tasks<'c>(
    change: &'c Change,
    snapshot: &Snapshot,
    direction: Direction,
) -> Vec<Task<'c>> {
    let left = change.steps.iter().filter(|step| step.is_real()).filter_map(|step| {
        let (goal, now) = (step.goal(direction), snapshot.standing(&step.name));
        let is_left = is_beyond_reach(step, direction) || is_foreign(step, &now, direction);
        let is_there = is_at(&now, goal) && snapshot.is_settled(&step.name);
        (!is_there && !is_left).then_some(Task { step, goal, now })
    });
    left.collect()
}

/// Steps that are not where they should be.
pub(super) fn astray<'c>(
    change: &'c Change,
    snapshot: &Snapshot,
    direction: Direction,
) -> Vec<&'c Step> {
    tasks(change, snapshot, direction).into_iter().map(|task| task.step).collect()
}

/// Where steps stand and where they should.
pub(super) fn described(steps: &[&Step], snapshot: &Snapshot, direction: Direction) -> String {
    let text = |step: &&Step| {
        let (now, goal) = (snapshot.standing(&step.name), step.goal(direction));
        format!("`{}` is {now} and should be {goal}", step.name)
    };
    steps.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// What stays although the change goes back, and why.
pub(super) fn staying(change: &Change, snapshot: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    for step in change.steps.iter().filter(|step| step.is_real()) {
        let now = snapshot.standing(&step.name);
        let (name, before) = (&step.name, &step.before);
        if is_beyond_reach(step, Direction::Back) && !now.is_like(before) {
            notes.push(format!("`{name}` stays as it is: no archive of {before} can be had"));
        } else if is_foreign(step, &now, Direction::Back) {
            notes.push(format!("`{name}` stays at {now}: somebody else changed it meanwhile"));
        }
    }
    notes
}

/// Packages that are there and marked otherwise than a direction leads to.
pub(super) fn mismarked<'c>(
    change: &'c Change,
    snapshot: &Snapshot,
    direction: Direction,
) -> Vec<(&'c str, &'c Version)> {
    let differs = |step: &'c Step| {
        let goal = step.goal(direction).version()?;
        let now = snapshot.standing(&step.name);
        let is_other = now.version()?.is_automatic != goal.is_automatic;
        is_other.then_some((step.name.as_str(), goal))
    };
    change.steps.iter().filter_map(differs).collect()
}

fn is_at(now: &Standing, goal: &Standing) -> bool {
    (goal.version().is_none() && now.version().is_none()) || now.is_like(goal)
}

/// Whether a goal cannot be had, as was said before anything began.
fn is_beyond_reach(step: &Step, direction: Direction) -> bool {
    direction == Direction::Back
        && step.before.version().is_some_and(|version| version.sha256.is_none())
}

/// Whether somebody else changed the package after a crash: then it is theirs.
fn is_foreign(step: &Step, now: &Standing, direction: Direction) -> bool {
    direction == Direction::Back
        && now.version().is_some()
        && !now.is_like(&step.before)
        && !now.is_like(&step.after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Manager;
    use crate::system::snapshot::Entry;

    fn installed(version: &str, sha256: Option<&str>) -> Standing {
        Standing::Installed(Version {
            architecture: "noarch".to_owned(),
            is_automatic: false,
            origin: String::new(),
            sha256: sha256.map(str::to_owned),
            version: version.to_owned(),
        })
    }

    fn snapshot(packages: &[(&str, &str)]) -> Snapshot {
        Snapshot::of(packages.iter().map(|(name, version)| Entry {
            name: (*name).to_owned(),
            architecture: "noarch".to_owned(),
            version: (*version).to_owned(),
            is_automatic: true,
        }))
    }

    #[test]
    fn what_is_left_is_seen_from_where_things_stand() {
        let step = |name: &str, before, after| Step { after, before, name: name.to_owned() };
        let change = Change {
            irreversible: Vec::new(),
            manager: Manager::Dnf,
            root: "/".to_owned(),
            steps: vec![
                step("lost", installed("1", None), installed("2", Some("b"))),
                step("new", Standing::Absent, installed("1", Some("c"))),
                step("up", installed("1", Some("d")), installed("2", Some("e"))),
            ],
        };
        let check = |packages: &[(&str, &str)], direction, expected: &[&str]| {
            let snapshot = snapshot(packages);
            let found = astray(&change, &snapshot, direction);
            let names: Vec<_> = found.iter().map(|step| step.name.as_str()).collect();
            assert_eq!(names, expected, "{packages:?}");
        };
        let all = [("lost", "2"), ("new", "1"), ("up", "2")];
        check(&[("lost", "1"), ("up", "1")], Direction::Forward, &["lost", "new", "up"]);
        check(&all, Direction::Forward, &[]);
        check(&all, Direction::Back, &["new", "up"]);
        check(&[("up", "3")], Direction::Back, &[]);
        // Both versions at once are what a crash leaves.
        check(&[("lost", "2"), ("up", "1"), ("up", "2")], Direction::Back, &["up"]);
        let notes = staying(&change, &snapshot(&[("lost", "2"), ("up", "3")]));
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(mismarked(&change, &snapshot(&all), Direction::Forward).len(), 3);
    }
}
