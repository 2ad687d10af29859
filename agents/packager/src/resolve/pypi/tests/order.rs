//! In which order an index is asked, and what is announced before the solver waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pep508_rs::PackageName;

use super::{PLAIN, Policy, Release, Request, Universe, resolve, target};
use crate::error::Error;
use crate::metadata::pypi::{CoreMetadata, File, Metadata, Project};

/// An index that writes down what it is asked for (`b-1`) and what is announced (`(b-1)`).
struct Watched<'a> {
    universe: &'a Universe,
    seen: Mutex<Vec<String>>,
}

fn short(file: &File) -> &str {
    file.name.split("-py3").next().unwrap_or_default()
}

impl Metadata for Watched<'_> {
    fn project(&self, name: &PackageName) -> Result<Arc<Project>, Error> {
        self.universe.project(name)
    }

    fn core_metadata(&self, of: &Project, file: &Arc<File>) -> Result<Arc<CoreMetadata>, Error> {
        self.seen.lock().expect("no panic").push(short(file).to_owned());
        self.universe.core_metadata(of, file)
    }

    fn prefetch_project(&self, _: &PackageName) -> bool {
        true
    }

    fn prefetch_core_metadata(&self, _: &Arc<Project>, file: &Arc<File>) {
        self.seen.lock().expect("no panic").push(format!("({})", short(file)));
    }
}

fn seen(universe: &Universe, requirements: &[&str]) -> Vec<String> {
    let watched = Watched { universe, seen: Mutex::default() };
    let requirements: Vec<_> =
        requirements.iter().map(|it| it.parse().expect("a requirement")).collect();
    let request = Request {
        requirements: &requirements,
        target: &target(),
        preferred: &BTreeMap::new(),
        policy: &Policy::default(),
        keep_on: &|| Ok(()),
    };
    resolve(&request, &watched).expect("an answer");
    watched.seen.into_inner().expect("no panic")
}

#[test]
fn from_the_second_version_on_those_to_come_are_announced() {
    let universe = Universe::default().add("c", "1", &[]).add("c", "2", &[]);
    let universe = (1..=9).fold(universe, |universe, number| {
        let needs = if number == 1 { "c" } else { "c>=2" };
        universe.add("b", &number.to_string(), &[needs])
    });
    let seen = seen(&universe, &["b", "c<2"]);
    let second = seen.iter().position(|it| it == "b-8").expect("it was asked for");
    for announced in ["(b-7)", "(b-6)", "(b-5)", "(b-4)"] {
        assert!(seen[..second].iter().any(|it| it == announced), "{announced}: {seen:?}");
    }
    assert!(!seen[..second].iter().any(|it| it == "(b-3)"), "{seen:?}");
}

#[test]
fn who_wants_what_cannot_be_installed_is_out_before_others_are_looked_at() {
    let source = || Release { is_source: true, ..PLAIN };
    let universe = Universe::default()
        .add("a", "1", &["b"])
        .add("a", "2", &["z", "b>=2"])
        .add("z", "1", &[])
        .add("z", "2", &[])
        .add("b", "1", &[])
        .release("b", "2", &[], source())
        .release("b", "3", &[], source());
    let seen = seen(&universe, &["a"]);
    let asked: Vec<&str> = seen.iter().map(|it| &**it).filter(|it| !it.starts_with('(')).collect();
    assert_eq!(asked, ["a-2", "a-1", "b-1"]);
}
