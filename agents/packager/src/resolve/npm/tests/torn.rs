//! A source that says that nothing has changed, and then has other packuments: an answer is of the earlier ones or of the later ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::universe::{Universe, request, root};
use crate::error::Error;
use crate::metadata::npm::{AtHand, Edition, Metadata, Packument};
use crate::resolve::npm::resolve;

/// As often as another test's resolution may take what one here has left.
const TRIES: u64 = 16;

struct Fading {
    all: Mutex<HashMap<String, Arc<Packument>>>,
    edition: u64,
}

impl Fading {
    fn become_one(&self, universe: &Universe) {
        let all = universe.packages.iter();
        let all = all.map(|(name, packument)| (name.clone(), Arc::new(packument.clone())));
        *self.all.lock().expect("packuments") = all.collect();
    }

    fn get(&self, name: &str) -> Arc<Packument> {
        Arc::clone(self.all.lock().expect("packuments").get(name).expect("all names exist"))
    }
}

impl Metadata for Fading {
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error> {
        Ok(self.get(name))
    }

    fn at_hand(&self, name: &str) -> Option<AtHand> {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(2);
        Some(AtHand { packument: self.get(name), until })
    }

    fn edition(&self) -> Option<(Edition, SystemTime)> {
        let mut edition = [0xfa; 32];
        edition[..8].copy_from_slice(&self.edition.to_le_bytes());
        Some((Edition(edition), SystemTime::UNIX_EPOCH + Duration::from_secs(1)))
    }

    fn prefetch(&self, _name: &str) -> bool {
        true
    }
}

#[test]
fn an_answer_is_of_one_state_of_a_source() {
    let earlier = Universe::parse("a@1.0.0: b@1\nb@1.0.0\nc@1.0.0\nc@2.0.0");
    let later = Universe::parse("a@1.0.0: b@1\na@1.1.0: b@1\nb@1.0.0\nb@1.1.0\nc@1.0.0\nc@2.0.0");
    // Beforehand: what is resolved between two is what the second one would believe.
    let of_earlier = resolve(&request(root("a@1 c@1")), &earlier);
    let of_later = resolve(&request(root("a@1 c@2")), &later);
    let first_of_later = resolve(&request(root("a@1 c@1")), &later);
    for edition in 0..TRIES {
        let source = Fading { all: Mutex::default(), edition };
        source.become_one(&earlier);
        assert_eq!(resolve(&request(root("a@1 c@1")), &source), of_earlier);
        source.become_one(&later);
        // What `a` and `b` are is known; `c` is looked at, and no longer what it was.
        assert_eq!(resolve(&request(root("a@1 c@2")), &source), of_later);
        assert_eq!(resolve(&request(root("a@1 c@1")), &source), first_of_later);
    }
}
