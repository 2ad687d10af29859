//! What is watched at the moment, what is not and why, and when that is tried again.
//!
//! The kernel may refuse for a while (too many watches, too many open files): then what was watched before goes on, people can read
//! of it, and it is tried again without any event.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::notice::{AGAIN, Noticed, Notices, Projects, Watching};
use crate::limits::{WATCH_REBUILDS_MAX, WATCH_RETRY_MAX, WATCH_RETRY_MIN};
use crate::transaction::Beside;

/// Generic over the kernel's word for the tests alone.
#[derive(Debug)]
pub(super) struct Standing<Word = Notices> {
    notices: Option<Word>,
    unwatched: BTreeMap<PathBuf, String>,
    again_at: Option<Instant>,
    pause: Duration,
}

impl<Word> Default for Standing<Word> {
    fn default() -> Self {
        let unwatched = BTreeMap::new();
        Self { notices: None, unwatched, again_at: None, pause: WATCH_RETRY_MIN }
    }
}

impl Standing {
    /// Watches `projects` and `list` anew; whether that could be done at all.
    pub(super) fn renew(&mut self, list: &Path, projects: &Projects, now: Instant) -> bool {
        let paths: Vec<PathBuf> = projects.keys().cloned().collect();
        self.renew_by(&mut || Notices::new(list, projects), &paths, now)
    }

    /// Watches more of a project that is watched.
    pub(super) fn widen(&mut self, project: &Path, beside: &Beside) {
        if let Some(notices) = &mut self.notices
            && let Err(reason) = notices.widen(project, beside)
        {
            self.unwatched.insert(project.to_owned(), reason);
        }
    }

    /// What the kernel has told since the last time.
    pub(super) fn read(&mut self) -> Noticed {
        self.notices.as_mut().map(Notices::read).unwrap_or_default()
    }
}

impl<Word> Standing<Word> {
    fn renew_by(
        &mut self,
        make: &mut dyn FnMut() -> std::io::Result<Watching<Word>>,
        projects: &[PathBuf],
        now: Instant,
    ) -> bool {
        let is_due = self.is_due(now);
        for _ in 0..WATCH_REBUILDS_MAX {
            match make() {
                Ok((notices, failed)) => {
                    self.notices = Some(notices);
                    self.unwatched = failed.into_iter().collect();
                }
                Err(error) => {
                    tracing::error!(%error, "projects cannot be watched; it is tried again");
                    let failed = projects.iter().map(|one| (one.clone(), error.to_string()));
                    self.unwatched = failed.collect();
                    self.again_at = Some(now + WATCH_RETRY_MIN);
                    return false;
                }
            }
            if !self.unwatched.values().any(|reason| reason == AGAIN) {
                break;
            }
        }
        self.pause = match (self.unwatched.is_empty(), is_due) {
            (true, _) => WATCH_RETRY_MIN,
            // Each try looks at all projects, so what stays as it is is tried less and less often.
            (false, true) => (2 * self.pause).min(WATCH_RETRY_MAX),
            (false, false) => self.pause,
        };
        self.again_at = (!self.unwatched.is_empty()).then(|| now + self.pause);
        true
    }

    /// Tries again soon for another reason.
    pub(super) fn again_soon(&mut self, now: Instant) {
        self.again_at = Some(now + WATCH_RETRY_MIN);
    }

    /// When everything is to be watched anew though nothing happened.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.again_at.is_some_and(|at| at <= now)
    }

    /// The kernel's word, to wait for.
    pub(super) fn notices(&self) -> Option<&Word> {
        self.notices.as_ref()
    }

    /// The projects that are not watched, and why.
    pub(super) fn unwatched(&self) -> &BTreeMap<PathBuf, String> {
        &self.unwatched
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, Result};

    use super::*;

    struct World {
        standing: Standing<u32>,
        projects: Vec<PathBuf>,
        made: usize,
    }

    impl World {
        fn new() -> Self {
            let projects = ["/a", "/b"].map(PathBuf::from).to_vec();
            Self { standing: Standing::default(), projects, made: 0 }
        }

        fn renew(&mut self, now: Instant, answer: &dyn Fn(usize) -> Result<Watching<u32>>) -> bool {
            let made = &mut self.made;
            let mut make = || {
                *made += 1;
                answer(*made)
            };
            self.standing.renew_by(&mut make, &self.projects, now)
        }
    }

    fn failing(path: &str, reason: &str) -> (PathBuf, String) {
        (PathBuf::from(path), reason.to_owned())
    }

    #[test]
    fn where_nothing_can_be_watched_what_was_goes_on_and_it_is_tried_again() {
        let (mut world, start) = (World::new(), Instant::now());
        assert!(world.renew(start, &|_| Ok((7, Vec::new()))));
        assert_eq!(world.standing.again_at(), None);
        let full = |_| Err(Error::from_raw_os_error(24));
        let mut now = start;
        for _ in 0..3 {
            assert!(!world.renew(now, &full));
            assert_eq!(world.standing.notices(), Some(&7));
            assert_eq!(world.standing.unwatched().len(), 2);
            assert_eq!(world.standing.again_at(), Some(now + WATCH_RETRY_MIN));
            assert!(!world.standing.is_due(now));
            now += WATCH_RETRY_MIN;
            assert!(world.standing.is_due(now));
        }
        assert!(world.renew(now, &|_| Ok((8, Vec::new()))));
        assert_eq!(world.standing.notices(), Some(&8));
        assert!(world.standing.unwatched().is_empty());
        assert_eq!(world.standing.again_at(), None);
    }

    #[test]
    fn one_that_comes_again_and_again_hides_no_other_failure() {
        let (mut world, now) = (World::new(), Instant::now());
        let failed = vec![failing("/a", AGAIN), failing("/b", "no more watches")];
        assert!(world.renew(now, &|made| Ok((made as u32, failed.clone()))));
        assert_eq!(world.made, WATCH_REBUILDS_MAX);
        assert_eq!(world.standing.unwatched()[Path::new("/b")], "no more watches");
        assert_eq!(world.standing.unwatched().len(), 2);
        assert_eq!(world.standing.again_at(), Some(now + WATCH_RETRY_MIN));
    }

    #[test]
    fn what_stays_unwatched_is_tried_less_and_less_often() {
        let (mut world, mut now) = (World::new(), Instant::now());
        let failed = |_| Ok((1, vec![failing("/b", "no more watches")]));
        world.renew(now, &failed);
        let mut pause = WATCH_RETRY_MIN;
        for _ in 0..10 {
            assert_eq!(world.standing.again_at(), Some(now + pause));
            // An event in between changes nothing of that.
            world.renew(now, &failed);
            assert_eq!(world.standing.again_at(), Some(now + pause));
            now += pause;
            world.renew(now, &failed);
            pause = (2 * pause).min(WATCH_RETRY_MAX);
        }
        world.renew(now, &|_| Ok((1, Vec::new())));
        assert_eq!(world.standing.again_at(), None);
    }
}
