//! What is announced ahead of the solver: everything that it will ask for, before it waited for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use semver::Version;

use super::{Policy, Request, Root, SOURCE, Universe, resolve, root, run, versions};
use crate::error::Error;
use crate::metadata::aged::{Aged, Limit};
use crate::metadata::cargo::{self as metadata, Ahead, Crate, Metadata};
use crate::options::Moment;

/// A registry whose answers arrive at once, but not where the question was.
struct Followed<'a> {
    universe: &'a Universe,
    ahead: Mutex<Option<Weak<dyn Ahead>>>,
    announced: Mutex<BTreeSet<String>>,
    /// What had been announced when somebody first waited.
    at_first: Mutex<Option<BTreeSet<String>>>,
}

impl<'a> Followed<'a> {
    fn new(universe: &'a Universe) -> Self {
        Self {
            universe,
            ahead: Mutex::default(),
            announced: Mutex::default(),
            at_first: Mutex::default(),
        }
    }
}

fn request(roots: &[Root]) -> Request<'_> {
    static NOTHING: BTreeMap<String, BTreeSet<Version>> = BTreeMap::new();
    static POLICY: LazyLock<Policy> = LazyLock::new(Policy::default);
    Request {
        roots,
        preferred: &NOTHING,
        policy: &POLICY,
        source: SOURCE,
        scope: None,
        patches: &[],
        format: 4,
        download: &|name, version, _| format!("https://dl.example.invalid/{name}/{version}"),
        keep_on: &|| Ok(()),
    }
}

impl Metadata for Followed<'_> {
    fn krate(&self, name: &str) -> Result<Arc<Crate>, Error> {
        let announced = self.announced.lock().expect("no panic").clone();
        self.at_first.lock().expect("no panic").get_or_insert(announced);
        self.universe.krate(name)
    }

    fn prefetch(&self, name: &str) -> bool {
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            if !self.announced.lock().expect("no panic").insert(name.clone()) {
                continue;
            }
            let ahead = self.ahead.lock().expect("no panic").as_ref().and_then(Weak::upgrade);
            if let (Some(ahead), Ok(krate)) = (ahead, self.universe.krate(&name)) {
                names.extend(ahead.after(&krate));
                assert_eq!(ahead.after(&krate), Vec::<String>::new(), "{name} twice");
            }
        }
        false
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        *self.ahead.lock().expect("no panic") = Some(Arc::downgrade(ahead));
    }
}

#[test]
fn what_features_switch_on_is_followed_and_nothing_else() {
    let universe = Universe::default()
        .add("a", "1.0.0", &["b 1", "optional 1 ?", "dev:test 1"], &[("full", &["dep:optional"])])
        .add(
            "a",
            "1.1.0",
            &["b 1 +fast", "optional 1 ?", "unused 1 ?"],
            &[("default", &["full"]), ("full", &["dep:optional"])],
        )
        .add("a", "2.0.0", &["never 1"], &[])
        .add("b", "1.0.0", &["speed 1 ?", "weak 1 ?"], &[("fast", &["dep:speed", "weak?/more"])])
        .add("optional", "1.0.0", &["deep 1"], &[])
        .add("deep", "1.0.0", &[], &[])
        .add("speed", "1.0.0", &[], &[])
        .add("weak", "1.0.0", &[], &[("more", &[])])
        .add("never", "1.0.0", &[], &[])
        .add("unused", "1.0.0", &[], &[])
        .add("test", "1.0.0", &[], &[]);
    let followed = Followed::new(&universe);
    let roots = [root("app", &["a 1"], &[])];
    let resolved = resolve(&request(&roots), &followed).expect("an answer");
    assert_eq!(versions(&resolved), versions(&run(&universe, &["a 1"]).expect("an answer")));
    let announced = followed.announced.lock().expect("no panic").clone();
    let at_first = followed.at_first.lock().expect("no panic").clone().expect("it asked");
    assert_eq!(at_first, announced, "all of it before anybody waited");
    let at_first: Vec<_> = at_first.iter().map(String::as_str).collect();
    // Whether a weak one is on is not known until everything is; a request too many is no harm.
    assert_eq!(at_first, ["a", "b", "deep", "optional", "speed", "weak"]);
    assert!(followed.ahead.lock().expect("no panic").as_ref().expect("one").upgrade().is_none());
}

#[test]
fn what_is_too_young_does_not_count_although_the_scout_saw_it() {
    let at = |time: &str| {
        let time = time.to_owned();
        move |version: &mut metadata::Version| version.published = Some(time)
    };
    let (old, new) = ("2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z");
    let universe = Universe::default()
        .with("a", "1.0.0", &["b 1"], &[], at(old))
        .with("a", "1.1.0", &["b 1", "c 1"], &[], at(new))
        .with("b", "1.0.0", &[], &[], at(old))
        .with("b", "1.1.0", &[], &[], at(new))
        .with("c", "1.0.0", &[], &[], at(new));
    let followed = Followed::new(&universe);
    let before = Moment::parse("2022-01-01T00:00:00Z");
    let registry: &dyn Metadata = &followed;
    let aged = Aged::new(registry, Limit { before, ..Limit::default() });
    let roots = [root("app", &["a 1"], &[])];
    let resolved = resolve(&request(&roots), &aged).expect("an answer");
    assert_eq!(versions(&resolved), "a 1.0.0, b 1.0.0");
    let announced = followed.announced.lock().expect("no panic").clone();
    assert!(announced.contains("c"), "the scout went by what is too young: {announced:?}");
    let young = aged.left_out().into_iter().map(|(name, left)| (name, left.young));
    assert_eq!(young.collect::<Vec<_>>(), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}
