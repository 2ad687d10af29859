//! The answers that are under way: those that hold one of the few places, and those that only wait for a cooler machine, which hold
//! none. A function of what answers tell, without threads, files or clocks.
//!
//! An answer that waits has begun nothing and may do so for minutes, so it is given up as soon as something else is wanted: the manifests
//! changed once more, the project is watched otherwise or no more. One that goes on holds a place again, even where all are taken:
//! how many do that is bounded by the permits that they waited for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agents_contract::Cancellation;

use crate::limits::{WATCH_ANSWERS_AT_ONCE_MAX, WATCH_DEFERRED_MAX};

/// What a project is watched with: its policy and its setting, as they are kept.
pub(super) type Terms = (String, String);

/// All of them, by project; one has one answer at a time.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    answers: BTreeMap<PathBuf, Answer>,
    /// What each project is watched with now.
    terms: BTreeMap<PathBuf, Terms>,
}

#[derive(Debug)]
struct Answer {
    /// Ends it where nothing was changed yet.
    wanted: Cancellation,
    /// Where it only waits: what it was begun with.
    deferred: Option<Terms>,
    /// Whether the project has changed since it began.
    is_overtaken: bool,
}

impl UnderWay {
    /// Whether there is a place for one more.
    pub(super) fn has_place(&self) -> bool {
        self.answers.len() - self.deferred_count() < WATCH_ANSWERS_AT_ONCE_MAX
    }

    /// Whether an answer to this project has not ended yet.
    pub(super) fn contains(&self, project: &Path) -> bool {
        self.answers.contains_key(project)
    }

    /// An answer begins, in a place; `wanted` ends it.
    pub(super) fn begin(&mut self, project: PathBuf, wanted: Cancellation) {
        self.answers.insert(project, Answer { wanted, deferred: None, is_overtaken: false });
    }

    /// It waits, having begun with `terms`, and leaves its place to others. Where too many wait already, or something else was wanted
    /// before this was told, it is given up.
    pub(super) fn defer(&mut self, project: &Path, terms: Terms) {
        let is_full = self.deferred_count() >= WATCH_DEFERRED_MAX;
        let Some(answer) = self.answers.get_mut(project) else { return };
        if is_full || answer.is_overtaken || self.terms.get(project) != Some(&terms) {
            answer.wanted.cancel();
        } else {
            answer.deferred = Some(terms);
        }
    }

    /// It waits no more.
    pub(super) fn go_on(&mut self, project: &Path) {
        if let Some(answer) = self.answers.get_mut(project) {
            answer.deferred = None;
        }
    }

    /// It is over; whether that is because it was given up for something else.
    pub(super) fn end(&mut self, project: &Path) -> bool {
        self.answers.remove(project).is_some_and(|answer| answer.wanted.is_cancelled())
    }

    /// The project has changed: what waits is an answer to something else.
    pub(super) fn changed(&mut self, project: &Path) {
        let Some(answer) = self.answers.get_mut(project) else { return };
        answer.is_overtaken = true;
        if answer.deferred.is_some() {
            answer.wanted.cancel();
        }
    }

    /// These are watched now, with these terms: gives up what waits with others.
    pub(super) fn follow_terms(&mut self, terms: BTreeMap<PathBuf, Terms>) {
        self.terms = terms;
        for (project, answer) in &self.answers {
            if answer.deferred.is_some() && answer.deferred.as_ref() != self.terms.get(project) {
                answer.wanted.cancel();
            }
        }
    }

    fn deferred_count(&self) -> usize {
        self.answers.values().filter(|answer| answer.deferred.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(policy: &str) -> Terms {
        (policy.to_owned(), "{}".to_owned())
    }

    /// The answers that began, by number.
    struct World {
        under_way: UnderWay,
        wanted: Vec<Cancellation>,
    }

    impl World {
        fn new(count: usize) -> Self {
            let mut world = Self { under_way: UnderWay::default(), wanted: Vec::new() };
            let all = (0..2 * WATCH_DEFERRED_MAX).map(|number| (path(number), terms("apply")));
            world.under_way.follow_terms(all.collect());
            (0..count).for_each(|_| world.begin());
            world
        }

        fn begin(&mut self) {
            let wanted = Cancellation::until(None);
            self.under_way.begin(path(self.wanted.len()), wanted.clone());
            self.wanted.push(wanted);
        }

        fn given_up(&self) -> Vec<usize> {
            let all = self.wanted.iter().enumerate();
            all.filter(|(_, wanted)| wanted.is_cancelled()).map(|(number, _)| number).collect()
        }
    }

    fn path(number: usize) -> PathBuf {
        PathBuf::from(format!("/project-{number}"))
    }

    #[test]
    fn those_that_wait_leave_their_places_and_take_them_again() {
        let mut world = World::new(WATCH_ANSWERS_AT_ONCE_MAX);
        assert!(!world.under_way.has_place());
        for number in 0..WATCH_ANSWERS_AT_ONCE_MAX {
            world.under_way.defer(&path(number), terms("apply"));
        }
        assert!(world.under_way.has_place() && world.under_way.contains(&path(0)));
        (0..WATCH_ANSWERS_AT_ONCE_MAX).for_each(|_| world.begin());
        assert!(!world.under_way.has_place());
        world.under_way.go_on(&path(0));
        world.under_way.end(&path(WATCH_ANSWERS_AT_ONCE_MAX));
        assert!(!world.under_way.has_place(), "the one that goes on has the place");
        world.under_way.end(&path(0));
        assert!(world.under_way.has_place() && !world.under_way.contains(&path(0)));
        assert!(world.given_up().is_empty());
    }

    #[test]
    fn one_more_than_may_wait_is_given_up() {
        let mut world = World::new(WATCH_DEFERRED_MAX + 1);
        for number in 0..=WATCH_DEFERRED_MAX {
            world.under_way.defer(&path(number), terms("apply"));
        }
        assert_eq!(world.given_up(), [WATCH_DEFERRED_MAX]);
        world.under_way.end(&path(WATCH_DEFERRED_MAX));
        world.under_way.end(&path(0));
        world.begin();
        world.under_way.defer(&path(WATCH_DEFERRED_MAX + 1), terms("apply"));
        assert_eq!(world.given_up(), [WATCH_DEFERRED_MAX]);
    }

    #[test]
    fn what_waits_is_given_up_when_something_else_is_wanted_and_what_works_is_not() {
        let mut world = World::new(5);
        for number in [1, 2, 3, 4] {
            world.under_way.defer(&path(number), terms("apply"));
        }
        world.under_way.go_on(&path(4));
        for number in [0, 1, 4, 9] {
            world.under_way.changed(&path(number));
        }
        assert_eq!(world.given_up(), [1]);
        let all = [(path(2), terms("apply")), (path(3), terms("plan"))];
        world.under_way.follow_terms(all.into());
        assert_eq!(world.given_up(), [1, 3]);
        world.under_way.follow_terms(BTreeMap::new());
        assert_eq!(world.given_up(), [1, 2, 3], "one that is watched no more");
    }

    #[test]
    fn one_that_was_overtaken_before_it_waits_is_given_up() {
        let mut world = World::new(3);
        world.under_way.changed(&path(0));
        world.under_way.defer(&path(0), terms("apply"));
        world.under_way.defer(&path(1), terms("plan"));
        world.under_way.defer(&path(2), terms("apply"));
        assert_eq!(world.given_up(), [0, 1]);
        world.under_way.end(&path(0));
        world.under_way.begin(path(0), Cancellation::until(None));
        world.under_way.defer(&path(0), terms("apply"));
        assert_eq!(world.given_up(), [0, 1], "the next answer knows of the change");
    }
}
