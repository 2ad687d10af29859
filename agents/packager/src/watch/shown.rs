//! What is shown of changes that only wait, or are applied after they have: in memory, because that ends with the process however it ends.
//! What came of the change before stands in the database meanwhile, and is shown again where this one comes to nothing.
//!
//! So a command that works alone beside a daemon shows what came of changes, and not what waits in the daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What came of a change that is not answered yet, and only waits to be.
pub(super) const DEFERRED: &str = "deferred";

/// The same of one that waited, and is being applied now.
pub(super) const APPLYING: &str = "applying";

/// Of all projects.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Of those whose answers have begun.
    answers: BTreeMap<PathBuf, Standing>,
    /// Of those whose answers may not begin yet.
    put_off: BTreeMap<PathBuf, Standing>,
}

/// How it stands with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) outcome: &'static str,
    /// For people.
    pub(super) message: String,
    pub(super) at_ms: u64,
}

/// Where one answer writes, of which a project has one at a time; dropping it shows again what was shown before.
#[derive(Debug)]
pub(super) struct Page<'a> {
    shown: &'a Shown,
    project: PathBuf,
}

impl Shown {
    /// How it stands with the change in `project`; nothing where none waits.
    pub(super) fn of(&self, project: &Path) -> Option<Standing> {
        let state = self.lock();
        state.answers.get(project).or_else(|| state.put_off.get(project)).cloned()
    }

    /// A page for the answer to a change in `project`.
    pub(super) fn page(&self, project: &Path) -> Page<'_> {
        Page { shown: self, project: project.to_owned() }
    }

    /// No answers but to these begin, which is so since now where it was not so before.
    pub(super) fn put_off<'p>(
        &self,
        projects: impl Iterator<Item = &'p PathBuf>,
        message: &str,
        now_ms: impl Fn() -> u64,
    ) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.put_off);
        let standing = |at_ms| Standing { outcome: DEFERRED, message: message.to_owned(), at_ms };
        state.put_off = projects
            .map(|project| {
                let known = before.remove(project);
                (project.clone(), known.unwrap_or_else(|| standing(now_ms())))
            })
            .collect();
    }

    /// A panic elsewhere leaves whole entries behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page<'_> {
    /// So it stands from now on.
    pub(super) fn show(&self, standing: Standing) {
        self.shown.lock().answers.insert(self.project.clone(), standing);
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.shown.lock().answers.remove(&self.project);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_shows_ends_with_it_and_goes_before_what_was_put_off() {
        let (shown, project) = (Shown::default(), Path::new("/project"));
        let put_off = |at_ms| {
            shown.put_off([project.to_owned()].iter(), "too many", || at_ms);
            shown.of(project).map(|standing| (standing.outcome, standing.at_ms))
        };
        assert_eq!(put_off(1), Some((DEFERRED, 1)));
        assert_eq!(put_off(2), Some((DEFERRED, 1)), "since then");
        let page = shown.page(project);
        page.show(Standing { outcome: APPLYING, message: String::new(), at_ms: 3 });
        assert_eq!(put_off(4), Some((APPLYING, 3)));
        drop(page);
        assert_eq!(put_off(5), Some((DEFERRED, 1)));
        shown.put_off([].iter(), "", || 6);
        assert_eq!(shown.of(project), None);
        let broken = std::panic::AssertUnwindSafe(|| {
            let page = shown.page(project);
            page.show(Standing { outcome: APPLYING, message: String::new(), at_ms: 7 });
            panic!("the answer's")
        });
        assert!(std::panic::catch_unwind(broken).is_err());
        assert_eq!(shown.of(project), None);
    }
}
