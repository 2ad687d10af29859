//! What is announced ahead of the tree: everything that it will ask for, before it waited for anything.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use super::universe::{self, Universe, request, root};
use crate::error::Error;
use crate::limits::{AHEAD_LOOKS_MAX, AHEAD_PACKAGES_MAX, AHEAD_WANTS_MAX};
use crate::metadata::npm::{Ahead, Metadata, Packument, Version};
use crate::resolve::npm::ahead::{Reach, Scout};
use crate::resolve::npm::resolve;

/// A registry whose answers arrive at once, but not where the question was.
struct Followed<'a> {
    universe: &'a Universe,
    ahead: Mutex<Option<Weak<dyn Ahead>>>,
    announced: Mutex<BTreeSet<String>>,
    /// What a cache keeps.
    kept: Mutex<Vec<Arc<Packument>>>,
    /// What had been announced when somebody first waited.
    at_first: Mutex<Option<BTreeSet<String>>>,
}

impl Metadata for Followed<'_> {
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error> {
        let announced = self.announced.lock().expect("no panic").clone();
        self.at_first.lock().expect("no panic").get_or_insert(announced);
        self.universe.packument(name)
    }

    fn prefetch(&self, name: &str) -> bool {
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            if !self.announced.lock().expect("no panic").insert(name.clone()) {
                continue;
            }
            let ahead = self.ahead.lock().expect("no panic").as_ref().and_then(Weak::upgrade);
            if let (Some(ahead), Ok(packument)) = (ahead, self.universe.packument(&name)) {
                names.extend(ahead.after(&packument));
                self.kept.lock().expect("no panic").push(Arc::clone(&packument));
                assert_eq!(ahead.after(&packument), Vec::<String>::new(), "{name} twice");
            }
        }
        false
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        *self.ahead.lock().expect("no panic") = Some(Arc::downgrade(ahead));
    }
}

#[track_caller]
fn check(universe: &str, wanted: &str, expected: &[&str]) {
    let universe = Universe::parse(universe);
    let followed = Followed {
        universe: &universe,
        ahead: Mutex::default(),
        announced: Mutex::default(),
        kept: Mutex::default(),
        at_first: Mutex::default(),
    };
    let resolution = resolve(&request(root(wanted)), &followed).expect("a tree");
    let alone = resolve(&request(root(wanted)), &universe).expect("a tree");
    assert_eq!(universe::places(&resolution), universe::places(&alone));
    let at_first = followed.at_first.lock().expect("no panic").clone().expect("it waited");
    assert_eq!(at_first.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(followed.ahead.lock().expect("no panic").as_ref().expect("one").upgrade().is_none());
}

#[test]
fn a_chain_is_followed_to_its_end_before_anybody_waits() {
    check("a@1.0.0: b@1\nb@1.2.0: c@1\nc@1.0.0: a@1", "a@1", &["a", "b", "c"]);
}

#[test]
fn the_version_that_would_be_chosen_is_followed_for_each_want() {
    let universe = "a@1.0.0: old@1\na@1.1.0: deprecated older@1\na@2.0.0: new@1\na@2.1.0-rc.1: next@1\n\
        b@1.0.0: a@2\nold@1.0.0\nnew@1.0.0\nolder@1.0.0\nnext@1.0.0";
    check(universe, "a@1 b@1", &["a", "b", "new", "old"]);
}

#[test]
fn aliases_peers_and_optional_packages_are_followed_and_bundled_ones_are_not() {
    let universe = "a@1.0.0: x@npm:real@1 peer: p@1 opt: o@1 optpeer: q@1 bundle=i i@1\nreal@1.0.0: deep@1\n\
        p@1.0.0\no@1.0.0\nq@1.0.0\ni@1.0.0\ndeep@1.0.0";
    check(universe, "a@1", &["a", "deep", "o", "p", "q", "real"]);
}

#[test]
fn what_may_stay_away_is_looked_at_with_its_peers_and_without_what_it_needs() {
    let universe = "a@1.0.0: b@1 optpeer: q@1\nb@1.0.0: optpeer: s@1\nq@1.0.0: deep@1 peer: p@1 optpeer: r@1\n\
        p@1.0.0: deep@1\nr@1.0.0: deep@1\ns@1.0.0: deep@1\ndeep@1.0.0";
    check(universe, "a@1", &["a", "b", "p", "q", "r", "s"]);
    // Whoever needs it after all leads further.
    check(
        &format!("{universe}\nz@1.0.0: s@1"),
        "a@1 z@1",
        &["a", "b", "deep", "p", "q", "r", "s", "z"],
    );
}

fn packument(
    name: &str,
    versions: impl Iterator<Item = String>,
    needs: &[String],
) -> Arc<Packument> {
    let version = |text: String| {
        let dependencies = needs.iter().map(|name| (name.clone(), "*".to_owned())).collect();
        (text.clone(), Arc::new(Version { version: text, dependencies, ..Version::default() }))
    };
    let mut versions: Vec<String> = versions.collect();
    versions.sort();
    let latest = versions.last().cloned().unwrap_or_default();
    Arc::new(Packument {
        name: name.to_owned(),
        dist_tags: [("latest".to_owned(), latest)].into(),
        versions: versions.into_iter().map(version).collect(),
    })
}

#[test]
fn a_registry_that_never_ends_is_followed_up_to_a_bound() {
    let scout = Scout::default();
    let mut names = std::collections::VecDeque::from(scout.want("p0", "*", Reach::All));
    let mut followed = 0;
    while let Some(name) = names.pop_front() {
        followed += 1;
        assert!(followed <= AHEAD_PACKAGES_MAX);
        let number: usize = name[1..].parse().expect("a number");
        let needs = [1, 2, 3].map(|more| format!("p{}", number * 3 + more));
        names.extend(scout.after(&packument(&name, ["1.0.0".to_owned()].into_iter(), &needs)));
    }
    assert!(followed > AHEAD_PACKAGES_MAX / 2);
}

#[test]
fn ranges_that_make_many_versions_be_looked_at_again_and_again_are_given_up() {
    let scout = Scout::default();
    let texts = (0..40_000).map(|patch| format!("1.0.{patch}"));
    let versions = packument("p", texts, &["next".to_owned()]).versions.clone();
    let mut looks = 0;
    for index in 0.. {
        let name = format!("p{index}");
        for number in 0..AHEAD_WANTS_MAX {
            scout.want(&name, &format!(">=1.0.{number} <0.0.1"), Reach::All);
            looks += versions.len() as u64;
        }
        let dist_tags = std::collections::BTreeMap::new();
        scout.after(&Arc::new(Packument { name, dist_tags, versions: versions.clone() }));
        if looks > AHEAD_LOOKS_MAX {
            break;
        }
    }
    // It is spent: not even a new name is followed.
    assert_eq!(scout.want("another", "*", Reach::All), Vec::<String>::new());
}
