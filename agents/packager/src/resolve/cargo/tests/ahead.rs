//! What is announced ahead of the solver: everything that it will ask for, before it waited for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use super::{Policy, Request, SOURCE, Universe, resolve, root, run, versions};
use crate::error::Error;
use crate::metadata::cargo::{Ahead, Crate, Metadata};

/// A registry whose answers arrive at once, but not where the question was.
struct Followed<'a> {
    universe: &'a Universe,
    ahead: Mutex<Option<Weak<dyn Ahead>>>,
    announced: Mutex<BTreeSet<String>>,
    /// What had been announced when somebody first waited.
    at_first: Mutex<Option<BTreeSet<String>>>,
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
    let followed = Followed {
        universe: &universe,
        ahead: Mutex::default(),
        announced: Mutex::default(),
        at_first: Mutex::default(),
    };
    let request = Request {
        roots: &[root("app", &["a 1"], &[])],
        preferred: &BTreeMap::new(),
        policy: &Policy::default(),
        source: SOURCE,
        format: 4,
        download: &|name, version, _| format!("https://dl.example.invalid/{name}/{version}"),
        keep_on: &|| Ok(()),
    };
    let resolved = resolve(&request, &followed).expect("an answer");
    assert_eq!(versions(&resolved), versions(&run(&universe, &["a 1"]).expect("an answer")));
    let announced = followed.announced.lock().expect("no panic").clone();
    let at_first = followed.at_first.lock().expect("no panic").clone().expect("it asked");
    assert_eq!(at_first, announced, "all of it before anybody waited");
    let at_first: Vec<_> = at_first.iter().map(String::as_str).collect();
    // Whether a weak one is on is not known until everything is; a request too many is no harm.
    assert_eq!(at_first, ["a", "b", "deep", "optional", "speed", "weak"]);
    assert!(followed.ahead.lock().expect("no panic").as_ref().expect("one").upgrade().is_none());
}
