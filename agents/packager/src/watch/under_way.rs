//! The answers that are under way: those that hold one of the few places, those that only wait for a cooler machine, which hold none, and
//! those that go on after it, which have places of their own (`turns`). A function of what answers tell, without threads, files or clocks.
//!
//! No more begin than may wait: every one that has begun may come to wait, and what was planned is not thrown away because too many do.
//!
//! An answer that waits has begun nothing and may do so for minutes, so it is given up as soon as something else is wanted: the manifests
//! are not those that it answers any more, the project is watched otherwise or no more. Whether the manifests are others is looked at
//! where the project was touched, which takes a place: a save that changes nothing is no reason to begin to wait anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agents_contract::{Cancellation, Obstacle};

use crate::limits::{WATCH_ANSWERS_AT_ONCE_MAX, WATCH_DEFERRED_MAX};
use crate::transaction::Beside;

/// What a project is watched with: its policy and its setting, as they are kept, and since when (in milliseconds).
pub(super) type Terms = (String, String, u64);

/// What an answer that waits would carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deferred {
    /// What the project was watched with when it began.
    pub(super) terms: Terms,
    /// The digest of the manifests that it answers.
    pub(super) seen: String,
    /// What of the project was read for it beside them.
    pub(super) beside: Arc<Beside>,
    /// What it waits for.
    pub(super) obstacle: Obstacle,
}

/// All of them, by project; one has one answer at a time.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    answers: BTreeMap<PathBuf, Answer>,
    /// The projects whose manifests are being looked at.
    looked_at: BTreeSet<PathBuf>,
    /// What each project is watched with now.
    terms: BTreeMap<PathBuf, Terms>,
}

#[derive(Debug)]
struct Answer {
    /// Ends it where nothing was changed yet.
    wanted: Cancellation,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It holds a place.
    Begun,
    /// It waits.
    Deferred(Deferred),
    /// It has waited.
    Resumed,
}

impl UnderWay {
    /// Whether there is a place for one more.
    pub(super) fn has_place(&self) -> bool {
        let begun = self.answers.values().filter(|answer| matches!(answer.stage, Stage::Begun));
        begun.count() + self.looked_at.len() < WATCH_ANSWERS_AT_ONCE_MAX
    }

    /// Whether a project that was touched may be answered, or looked at because its answer waits.
    pub(super) fn may_take(&self, project: &Path) -> bool {
        let may = match self.answers.get(project) {
            None => self.has_room(),
            Some(answer) => matches!(answer.stage, Stage::Deferred(_)),
        };
        may && !self.looked_at.contains(project)
    }

    /// Whether a project that was touched is not answered because too many wait already.
    pub(super) fn is_put_off(&self, project: &Path) -> bool {
        !self.answers.contains_key(project) && !self.has_room()
    }

    /// Whether one more might wait.
    fn has_room(&self) -> bool {
        let may_wait = |answer: &&Answer| matches!(answer.stage, Stage::Begun | Stage::Deferred(_));
        self.answers.values().filter(may_wait).count() < WATCH_DEFERRED_MAX
    }

    /// Takes a place to look at the manifests, where an answer waits: what is to be looked at with them. Nothing where none waits.
    pub(super) fn begin_look(&mut self, project: &Path) -> Option<Arc<Beside>> {
        let beside = match &self.answers.get(project)?.stage {
            Stage::Deferred(deferred) => Arc::clone(&deferred.beside),
            Stage::Begun | Stage::Resumed => Arc::default(),
        };
        self.looked_at.insert(project.to_owned());
        Some(beside)
    }

    /// This is the digest of the manifests now; nothing where they cannot be read. Whether what was touched is still to be answered: it
    /// is not where the answer that waits is one to this.
    pub(super) fn looked(&mut self, project: &Path, digest: Option<&str>) -> bool {
        self.leave_look(project);
        let Some(answer) = self.answers.get(project) else { return true };
        let Stage::Deferred(deferred) = &answer.stage else { return true };
        let is_other = digest != Some(&*deferred.seen);
        if is_other {
            answer.wanted.cancel();
        }
        is_other
    }

    /// Nobody could look.
    pub(super) fn leave_look(&mut self, project: &Path) {
        self.looked_at.remove(project);
    }

    /// An answer begins, in a place; `wanted` ends it.
    pub(super) fn begin(&mut self, project: PathBuf, wanted: Cancellation) {
        self.answers.insert(project, Answer { wanted, stage: Stage::Begun });
    }

    /// It waits, and leaves its place to others. Where the project is watched otherwise by now, it is given up. It may wait more than once.
    pub(super) fn defer(&mut self, project: &Path, deferred: Deferred) {
        let Some(answer) = self.answers.get_mut(project) else { return };
        if self.terms.get(project) != Some(&deferred.terms) {
            answer.wanted.cancel();
        } else {
            answer.stage = Stage::Deferred(deferred);
        }
    }

    /// It waits no more, and has a place that is none of these.
    pub(super) fn go_on(&mut self, project: &Path) {
        if let Some(answer) = self.answers.get_mut(project) {
            answer.stage = Stage::Resumed;
        }
    }

    /// It is over; whether that is because it was given up for something else.
    pub(super) fn end(&mut self, project: &Path) -> bool {
        self.answers.remove(project).is_some_and(|answer| answer.wanted.is_cancelled())
    }

    /// These are watched now, with these terms: gives up what waits with others.
    pub(super) fn follow_terms(&mut self, terms: BTreeMap<PathBuf, Terms>) {
        self.terms = terms;
        for (project, answer) in &self.answers {
            if let Stage::Deferred(deferred) = &answer.stage
                && Some(&deferred.terms) != self.terms.get(project)
            {
                answer.wanted.cancel();
            }
        }
    }

    /// How many wait: for heat, until it is known how hot it is, for their turn.
    pub(super) fn waiting(&self) -> [u64; 3] {
        let mut waiting = [0; 3];
        for answer in self.answers.values() {
            let Stage::Deferred(deferred) = &answer.stage else { continue };
            let place = match deferred.obstacle {
                Obstacle::Heat => 0,
                Obstacle::Blind => 1,
                Obstacle::Busy => 2,
            };
            waiting[place] += 1;
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(policy: &str) -> Terms {
        (policy.to_owned(), "{}".to_owned(), 1)
    }

    fn deferred(policy: &str) -> Deferred {
        let (seen, beside) = ("before".to_owned(), Arc::default());
        Deferred { terms: terms(policy), seen, beside, obstacle: Obstacle::Heat }
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
    fn those_that_wait_leave_their_places_and_take_none_of_them_again() {
        let mut world = World::new(WATCH_ANSWERS_AT_ONCE_MAX);
        assert!(!world.under_way.has_place());
        for number in 0..WATCH_ANSWERS_AT_ONCE_MAX {
            world.under_way.defer(&path(number), deferred("apply"));
        }
        assert!(world.under_way.has_place() && world.under_way.may_take(&path(0)));
        (0..WATCH_ANSWERS_AT_ONCE_MAX).for_each(|_| world.begin());
        assert!(!world.under_way.has_place());
        (0..WATCH_ANSWERS_AT_ONCE_MAX).for_each(|number| world.under_way.go_on(&path(number)));
        assert!(!world.under_way.has_place() && !world.under_way.may_take(&path(0)));
        world.under_way.end(&path(WATCH_ANSWERS_AT_ONCE_MAX));
        assert!(world.under_way.has_place(), "those that go on hold none of these places");
        (0..WATCH_ANSWERS_AT_ONCE_MAX).for_each(|number| {
            world.under_way.end(&path(number));
        });
        assert!(world.under_way.may_take(&path(0)));
        assert!(world.given_up().is_empty());
    }

    #[test]
    fn what_waits_is_counted_by_what_it_waits_for() {
        let mut world = World::new(5);
        let obstacles = [Obstacle::Heat, Obstacle::Heat, Obstacle::Blind, Obstacle::Busy];
        for (number, obstacle) in obstacles.into_iter().enumerate() {
            let deferred = Deferred { obstacle, ..deferred("apply") };
            world.under_way.defer(&path(number), deferred);
        }
        assert_eq!(world.under_way.waiting(), [2, 1, 1]);
        let turn = Deferred { obstacle: Obstacle::Busy, ..deferred("apply") };
        world.under_way.defer(&path(0), turn);
        world.under_way.go_on(&path(1));
        world.under_way.end(&path(2));
        assert_eq!(world.under_way.waiting(), [0, 0, 2]);
    }

    #[test]
    fn no_more_begin_than_may_wait_and_none_is_given_up_for_that() {
        let mut world = World::new(WATCH_DEFERRED_MAX);
        let next = path(WATCH_DEFERRED_MAX);
        for number in 0..WATCH_DEFERRED_MAX {
            assert!(!world.under_way.may_take(&next), "each that has begun may come to wait");
            world.under_way.defer(&path(number), deferred("apply"));
        }
        assert!(world.under_way.has_place() && !world.under_way.may_take(&next));
        assert!(world.under_way.is_put_off(&next));
        assert!(world.under_way.may_take(&path(0)), "what waits is looked at");
        assert!(!world.under_way.is_put_off(&path(0)));
        world.under_way.defer(&path(0), deferred("apply"));
        world.under_way.go_on(&path(0));
        assert!(world.under_way.may_take(&next) && !world.under_way.is_put_off(&next));
        world.begin();
        assert!(!world.under_way.may_take(&path(WATCH_DEFERRED_MAX + 1)));
        world.under_way.end(&path(1));
        assert!(world.under_way.may_take(&path(WATCH_DEFERRED_MAX + 1)));
        assert!(world.given_up().is_empty());
    }

    #[test]
    fn what_waits_is_given_up_when_other_manifests_are_there_and_what_works_is_not() {
        let mut world = World::new(6);
        for number in [1, 2, 3, 4] {
            world.under_way.defer(&path(number), deferred("apply"));
        }
        world.under_way.go_on(&path(4));
        for number in [0, 4, 5] {
            assert!(!world.under_way.may_take(&path(number)), "its answer works");
        }
        for number in [1, 2, 3] {
            assert!(world.under_way.may_take(&path(number)));
            assert!(world.under_way.begin_look(&path(number)).is_some());
            assert!(!world.under_way.may_take(&path(number)), "it is looked at");
        }
        assert!(!world.under_way.looked(&path(1), Some("before")), "nothing has changed");
        assert!(world.under_way.may_take(&path(1)), "until it is touched again");
        assert!(world.under_way.looked(&path(2), Some("after")));
        assert!(world.under_way.looked(&path(3), None));
        assert_eq!(world.given_up(), [2, 3]);
    }

    #[test]
    fn a_look_takes_a_place_and_is_in_vain_where_the_answer_does_not_wait_any_more() {
        let mut world = World::new(2);
        (0..2).for_each(|number| world.under_way.defer(&path(number), deferred("apply")));
        assert!(world.under_way.begin_look(&path(9)).is_none(), "nothing waits there");
        (0..2).for_each(|number| assert!(world.under_way.begin_look(&path(number)).is_some()));
        (2..WATCH_ANSWERS_AT_ONCE_MAX).for_each(|_| world.begin());
        assert!(!world.under_way.has_place());
        world.under_way.go_on(&path(0));
        world.under_way.end(&path(1));
        assert!(!world.under_way.has_place() && !world.under_way.may_take(&path(1)));
        for number in 0..2 {
            assert!(
                world.under_way.looked(&path(number), Some("before")),
                "what it is now, counts"
            );
        }
        assert!(world.under_way.has_place() && world.under_way.may_take(&path(1)));
        assert!(world.given_up().is_empty());
    }

    #[test]
    fn what_waits_is_given_up_when_the_project_is_watched_otherwise() {
        let mut world = World::new(4);
        world.under_way.defer(&path(0), deferred("plan"));
        assert_eq!(world.given_up(), [0], "so it was before this was told");
        for number in [1, 2, 3] {
            world.under_way.defer(&path(number), deferred("apply"));
        }
        world.under_way.go_on(&path(3));
        let all = [(path(1), terms("apply")), (path(2), terms("plan"))];
        world.under_way.follow_terms(all.into());
        assert_eq!(world.given_up(), [0, 2]);
        let (policy, setting, since) = terms("apply");
        world.under_way.follow_terms([(path(1), (policy, setting, since + 1))].into());
        assert_eq!(world.given_up(), [0, 1, 2], "one that was taken away and came back");
        let mut world = World::new(1);
        world.under_way.defer(&path(0), deferred("apply"));
        world.under_way.follow_terms(BTreeMap::new());
        assert_eq!(world.given_up(), [0], "one that is watched no more, and does not work");
    }
}
