//! What is announced ahead of the solver: everything that it will ask for, before it waited for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use pep508_rs::PackageName;

use super::{PLAIN, Policy, Release, Request, Universe, resolve, run, target, versions};
use crate::error::Error;
use crate::metadata::aged::{Aged, Limit};
use crate::metadata::pypi::{Ahead, CoreMetadata, File, Metadata, Next, Project};
use crate::options::Moment;

/// An index whose answers arrive at once, but not where the question was.
struct Followed<'a> {
    universe: &'a Universe,
    ahead: Mutex<Option<Weak<dyn Ahead>>>,
    announced: Mutex<BTreeSet<String>>,
    /// What had been announced when somebody first waited.
    at_first: Mutex<Option<BTreeSet<String>>>,
}

impl Followed<'_> {
    fn wait(&self) {
        let announced = self.announced.lock().expect("no panic").clone();
        self.at_first.lock().expect("no panic").get_or_insert(announced);
    }

    fn announce(&self, mut next: Vec<Next>) {
        let Some(ahead) = self.ahead.lock().expect("no panic").as_ref().and_then(Weak::upgrade)
        else {
            return;
        };
        while let Some(one) = next.pop() {
            let name = match &one {
                Next::Project(name) => name.to_string(),
                Next::CoreMetadata(_, file) => file.name.clone(),
            };
            if !self.announced.lock().expect("no panic").insert(name) {
                continue;
            }
            match one {
                Next::Project(name) => {
                    if let Ok(project) = self.universe.project(&name) {
                        next.extend(ahead.after_project(&project));
                        assert!(ahead.after_project(&project).is_empty());
                    }
                }
                Next::CoreMetadata(project, file) => {
                    if let Ok(core) = self.universe.core_metadata(&project, &file) {
                        next.extend(ahead.after_core_metadata(&core));
                        assert!(ahead.after_core_metadata(&core).is_empty());
                    }
                }
            }
        }
    }
}

impl Metadata for Followed<'_> {
    fn project(&self, name: &PackageName) -> Result<Arc<Project>, Error> {
        self.wait();
        self.universe.project(name)
    }

    fn core_metadata(
        &self,
        project: &Project,
        file: &Arc<File>,
    ) -> Result<Arc<CoreMetadata>, Error> {
        self.wait();
        self.universe.core_metadata(project, file)
    }

    fn prefetch_project(&self, name: &PackageName) -> bool {
        self.announce(vec![Next::Project(name.clone())]);
        false
    }

    fn prefetch_core_metadata(&self, project: &Arc<Project>, file: &Arc<File>) {
        self.announce(vec![Next::CoreMetadata(Arc::clone(project), Arc::clone(file))]);
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        *self.ahead.lock().expect("no panic") = Some(Arc::downgrade(ahead));
    }
}

#[track_caller]
fn check(universe: &Universe, requirements: &[&str], expected: &[&str]) {
    let followed = Followed {
        universe,
        ahead: Mutex::default(),
        announced: Mutex::default(),
        at_first: Mutex::default(),
    };
    let parsed: Vec<_> = requirements.iter().map(|it| it.parse().expect("a requirement")).collect();
    let target = target();
    let request = Request {
        requirements: &parsed,
        target: &target,
        preferred: &BTreeMap::new(),
        policy: &Policy::default(),
        keep_on: &|| Ok(()),
    };
    let resolution = resolve(&request, &followed).expect("an answer");
    let alone = run(universe, requirements, &[]).expect("an answer");
    assert_eq!(versions(&resolution), versions(&alone));
    let at_first = followed.at_first.lock().expect("no panic").clone().expect("it waited");
    let wheels = at_first.iter().filter_map(|it| it.strip_suffix("-py3-none-any.whl"));
    assert_eq!(wheels.collect::<Vec<_>>(), expected);
    assert!(followed.ahead.lock().expect("no panic").as_ref().expect("one").upgrade().is_none());
}

#[test]
fn extras_and_markers_are_followed_to_the_end_before_anybody_waits() {
    let universe = Universe::default()
        .add("a", "1", &["b[x]>=1", "windows; sys_platform == 'win32'"])
        .add("b", "1", &["old"])
        .add("b", "2", &["c", "d; extra == 'x'", "e; extra == 'y'"])
        .add("b", "3rc1", &["next"])
        .add("c", "1", &[])
        .add("d", "1", &["b"])
        .add("e", "1", &[])
        .add("old", "1", &[])
        .add("next", "1", &[])
        .add("windows", "1", &[]);
    check(&universe, &["a"], &["a-1", "b-2", "c-1", "d-1"]);
}

#[test]
fn wants_that_come_later_narrow_what_is_followed() {
    let universe = Universe::default()
        .add("a", "1", &["c<2"])
        .add("b", "1", &["c"])
        .add("c", "1", &["right"])
        .add("c", "2", &["wrong"])
        .add("right", "1", &[])
        .add("wrong", "1", &[]);
    let wanted: &[&str] = &["a-1", "b-1", "c-1", "right-1"];
    check(&universe, &["a", "b"], wanted);
}

#[test]
fn what_is_too_young_does_not_count_although_the_scout_saw_it() {
    let published = |when| Release { published: Some(when), ..PLAIN };
    let universe = Universe::default()
        .release("a", "1", &[], published("2020-01-01T00:00:00Z"))
        .release("a", "2", &[], published("2024-01-01T00:00:00Z"));
    let followed = Followed {
        universe: &universe,
        ahead: Mutex::default(),
        announced: Mutex::default(),
        at_first: Mutex::default(),
    };
    let before = Moment::parse("2022-01-01T00:00:00Z");
    let metadata: &dyn Metadata = &followed;
    let aged = Aged::new(metadata, Limit { before, ..Limit::default() });
    let requirements = ["a".parse().expect("a requirement")];
    let request = Request {
        requirements: &requirements,
        target: &target(),
        preferred: &BTreeMap::new(),
        policy: &Policy::default(),
        keep_on: &|| Ok(()),
    };
    assert_eq!(versions(&resolve(&request, &aged).expect("an answer")), "a 1");
}
