//! What resolutions have learnt of packages, handed from one to the next of this process: numbers of names and texts, chosen versions
//! with what they need, and what was chosen for which text.
//!
//! Nothing of it is an answer, and all of it follows from packuments and from Node's version. Each resolution asks its source for every
//! packument that it touches, as one that knows nothing does, and what followed from another object than the one that it gets counts no
//! more. Where a source says that nothing of what it has at hand has changed, it need not be asked for each of them. What follows from a request (its own packages, archives, barred versions, failures) is never found again by another one.
//!
//! One is kept at a time and forgotten as a whole when it has become too large: what is still used comes back by itself. Numbers depend
//! on what was resolved before, so no answer may depend on their order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::{Chosen, NoChoice, PackageId, WantId};
use crate::error::Error;
use crate::limits::{
    NPM_KNOWN_BYTES_MAX, NPM_KNOWN_CHOICES_MAX, NPM_KNOWN_PACKAGES_MAX, NPM_NAMES_MAX,
    NPM_WANTS_MAX,
};
use crate::metadata::npm::{AtHand, Edition, Packument};
use crate::resolve::npm::names::{NameId, Names};
use crate::resolve::npm::room::{LAST, Room};
use crate::resolve::npm::texts::Numbers;
use crate::resolve::npm::want::Wanted;
use agents_versions::npm::Version;

/// Which of the resolutions that had it, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

/// What is known of one package. What is marked with (turn) counts in the turn `asked_in` only.
#[derive(Default)]
pub(super) struct About {
    asked_in: Turn,
    /// (turn)
    pub(super) loaded: Option<Result<Arc<Packument>, Box<Error>>>,
    /// (turn)
    pub(super) is_announced: bool,
    /// Whether there is no need to wait for it. (turn)
    pub(super) is_at_hand: bool,
    /// Whether `source` counts without being held. (turn)
    is_believed: bool,
    /// When it was last looked whether `source` is the packument.
    checked_in: Turn,
    /// When `source` need not be asked for.
    good: Option<Good>,
    /// Of which packument `chosen` and the choices are. It keeps no packument, and its place from being another's.
    source: Weak<Packument>,
    /// Since when they are of that one.
    edition: Turn,
    /// Its chosen versions: few.
    pub(super) chosen: Vec<PackageId>,
}

/// As long as what was at hand is at hand, and for a time, a source gives what it gave.
#[derive(Clone, Copy)]
struct Good {
    /// Which of [`Known::editions`].
    edition: u64,
    from: SystemTime,
    until: SystemTime,
}

/// What was chosen for a want.
struct Choice {
    /// The package that a registry was asked about; `None` for an archive.
    package: Option<NameId>,
    /// The edition of what is known of that package.
    edition: Turn,
    /// In that turn it stays as it is.
    asked_in: Turn,
    found: Result<PackageId, Box<NoChoice>>,
}

/// What is remembered of a choice.
pub(super) enum Remembered {
    Nothing,
    /// Something, if this package is what it was: it has to be loaded first.
    Of(NameId),
    Found(Result<PackageId, Box<NoChoice>>),
}

/// See the module.
pub(in super::super) struct Known {
    turn: Turn,
    /// What the source has at hand in this turn.
    edition: Option<Edition>,
    /// As many have been seen.
    editions: u64,
    /// When this turn began.
    now: SystemTime,
    /// The Node that versions were chosen for.
    pub(super) node: Option<Version>,
    pub(in super::super) names: Names,
    pub(super) wants: Vec<Arc<Wanted>>,
    pub(super) want_ids: Numbers<WantId>,
    /// By the name of the package.
    abouts: Vec<About>,
    /// Those about which something was asked in this turn.
    asked: Vec<NameId>,
    pub(super) chosen: Vec<Chosen>,
    /// In the order in which they were made, which is about the one in which the next resolution asks for them.
    choices: IndexMap<(NameId, WantId, bool), Choice, FxBuildHasher>,
    pub(super) engines: HashMap<String, bool>,
    /// What the versions in `chosen` take, about (mostly they are packuments' notes as well), and whatever else is of any length.
    pub(super) bytes: usize,
    /// Whether a packument that was believed in this turn is there no more, so that what was chosen may be of two.
    is_torn: bool,
}

/// Between two resolutions.
static KEPT: Mutex<Option<Box<Known>>> = Mutex::new(None);

impl Default for Known {
    fn default() -> Self {
        Self::with_room_for(Room::default())
    }
}

impl Known {
    fn with_room_for(room: Room) -> Self {
        Self {
            turn: Turn::default(),
            edition: None,
            editions: 0,
            now: SystemTime::UNIX_EPOCH,
            node: None,
            names: Names::with_room_for(room.names),
            wants: Vec::with_capacity(room.wants),
            want_ids: Numbers::with_room_for(room.wants),
            abouts: Vec::with_capacity(room.names),
            asked: Vec::new(),
            chosen: Vec::with_capacity(room.names),
            choices: IndexMap::with_capacity_and_hasher(room.wants, FxBuildHasher),
            engines: HashMap::new(),
            bytes: 0,
            is_torn: false,
        }
    }

    /// What the last resolution knew, if it was for the same Node and nobody has it now.
    /// `at_hand` is the source's edition.
    pub(super) fn take(node: Option<Version>, at_hand: Option<(Edition, SystemTime)>) -> Box<Self> {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut known = match kept.filter(|known| known.node == node) {
            Some(known) => known,
            None => Box::new(Self { node, ..Self::with_room_for(LAST.room()) }),
        };
        known.turn = Turn(known.turn.0 + 1);
        known.is_torn = false;
        let edition = at_hand.map(|(edition, _)| edition);
        if edition.is_none() || edition != known.edition {
            known.editions += 1;
        }
        known.edition = edition;
        known.now = at_hand.map_or(SystemTime::UNIX_EPOCH, |(_, now)| now);
        known
    }

    /// Leaves it for the next one, without the packuments.
    pub(super) fn give_back(mut self: Box<Self>) {
        if self.is_within_bounds() {
            self.let_go();
            let other = KEPT.lock().unwrap_or_else(PoisonError::into_inner).replace(self);
            // Its memory is given back when nobody waits for the lock.
            drop(other);
        }
    }

    /// Holds no packument any more. Only what was asked about holds one, and of a process that has seen much that is a small part.
    fn let_go(&mut self) {
        let Self { abouts, asked, .. } = self;
        for package in asked.drain(..) {
            abouts[package.index()].loaded = None;
        }
    }

    fn is_within_bounds(&self) -> bool {
        self.bytes.saturating_add(self.names.bytes()) <= NPM_KNOWN_BYTES_MAX
            && self.chosen.len() <= NPM_KNOWN_PACKAGES_MAX
            && self.choices.len() <= NPM_KNOWN_CHOICES_MAX
            && self.names.len() <= NPM_NAMES_MAX
            && self.wants.len() <= NPM_WANTS_MAX
    }

    pub(super) fn turn(&self) -> Turn {
        self.turn
    }

    /// What is known of a package, its (turn) being this one.
    pub(super) fn about(&mut self, package: NameId) -> &mut About {
        if self.abouts.len() <= package.index() {
            self.abouts.resize_with(package.index() + 1, About::default);
        }
        let about = &mut self.abouts[package.index()];
        if about.asked_in != self.turn {
            about.asked_in = self.turn;
            self.asked.push(package);
            about.is_announced = false;
            about.is_at_hand = false;
            about.is_believed = false;
            about.loaded = None;
        }
        about
    }

    /// The versions that were chosen of a package that was loaded in this turn.
    pub(super) fn chosen_of(&self, package: NameId) -> &[PackageId] {
        self.abouts.get(package.index()).map_or(&[], |about| &about.chosen)
    }

    /// Notes what the source gives for a package in this turn. What was known of another packument is known no more.
    pub(super) fn load(&mut self, package: NameId, loaded: Result<Arc<Packument>, Box<Error>>) {
        let turn = self.turn;
        let about = self.about(package);
        let was_checked = std::mem::replace(&mut about.checked_in, turn) == turn;
        let is_same = match &loaded {
            Ok(packument) => std::ptr::eq(about.source.as_ptr(), Arc::as_ptr(packument)),
            Err(_) => false,
        };
        if !is_same {
            about.good = None;
            about.edition = turn;
            about.source = Weak::new();
            // Else a version was barred meanwhile: that holds for this turn, and so do the versions that were chosen in it.
            if !was_checked {
                about.source = loaded.as_ref().map_or_else(|_| Weak::new(), Arc::downgrade);
                about.chosen.clear();
            }
        }
        about.loaded = Some(loaded);
    }

    /// Notes what the source has at hand for a package.
    pub(super) fn load_at_hand(&mut self, package: NameId, found: AtHand) {
        let (edition, from, until) = (self.editions, self.now, found.until);
        let packument = Arc::as_ptr(&found.packument);
        self.load(package, Ok(found.packument));
        let about = self.about(package);
        let is_source = std::ptr::eq(about.source.as_ptr(), packument);
        about.good = is_source.then_some(Good { edition, from, until });
    }

    /// Whether the source would give what it gave in an earlier turn, without asking it. It is believed then, and not touched: of most
    /// packages everything is known that will be asked.
    pub(super) fn is_at_hand_still(&mut self, package: NameId) -> bool {
        let (turn, editions, now) = (self.turn, self.editions, self.now);
        let about = self.about(package);
        let is_good = about
            .good
            .is_some_and(|good| good.edition == editions && good.from <= now && now < good.until);
        if is_good {
            about.checked_in = turn;
            // What is held already is what it is, be it without versions that were barred.
            about.is_believed = about.loaded.is_none();
        }
        is_good
    }

    /// The packument that was believed, held from here on. Where nobody has it any more, the turn is [torn](Self::is_torn).
    pub(super) fn believed(&mut self, package: NameId) -> Option<Arc<Packument>> {
        let about = self.about(package);
        if !std::mem::replace(&mut about.is_believed, false) {
            return None;
        }
        let packument = about.source.upgrade();
        match &packument {
            Some(packument) => about.loaded = Some(Ok(Arc::clone(packument))),
            None => self.is_torn = true,
        }
        packument
    }

    /// Whether a packument was believed in this turn, and what the source then gave may be another one. What was found counts for nothing.
    pub(in super::super) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// What was chosen, where that is remembered and still follows.
    pub(super) fn choice(&mut self, asked: (NameId, WantId, bool)) -> Remembered {
        let Some(choice) = self.choices.get_mut(&asked) else { return Remembered::Nothing };
        if choice.asked_in != self.turn {
            let Some(package) = choice.package else { return Remembered::Nothing };
            let Some(about) = self.abouts.get(package.index()) else { return Remembered::Nothing };
            if about.checked_in != self.turn {
                return Remembered::Of(package);
            }
            if about.edition != choice.edition {
                return Remembered::Nothing;
            }
            choice.asked_in = self.turn;
        }
        Remembered::Found(choice.found.clone())
    }

    /// Remembers a choice; `package` is `None` where no registry was asked.
    pub(super) fn remember(
        &mut self,
        asked: (NameId, WantId, bool),
        package: Option<NameId>,
        found: Result<PackageId, Box<NoChoice>>,
    ) {
        let edition = package.map_or_else(Turn::default, |package| self.about(package).edition);
        if let Err(why) = &found {
            self.bytes += why.bytes();
        }
        let choice = Choice { package, edition, asked_in: self.turn, found };
        self.choices.insert(asked, choice);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(packument: &Arc<Packument>, until_s: u64) -> AtHand {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(until_s);
        AtHand { packument: Arc::clone(packument), until }
    }

    #[test]
    fn a_choice_follows_from_its_packument_alone() {
        let mut known = Known { turn: Turn(1), ..Known::default() };
        let (name, asked) = (known.names.intern("a"), WantId(0));
        let packument = Arc::<Packument>::default();
        known.load(name, Ok(Arc::clone(&packument)));
        known.remember((name, asked, false), Some(name), Ok(PackageId(7)));
        let is_found = |known: &mut Known| {
            matches!(known.choice((name, asked, false)), Remembered::Found(Ok(PackageId(7))))
        };
        assert!(is_found(&mut known));
        known.turn = Turn(2);
        assert!(matches!(known.choice((name, asked, false)), Remembered::Of(_)), "nobody looked");
        known.load(name, Ok(packument));
        assert!(is_found(&mut known));
        known.turn = Turn(3);
        known.load(name, Ok(Arc::default()));
        assert!(
            matches!(known.choice((name, asked, false)), Remembered::Nothing),
            "of another one"
        );
    }

    #[test]
    fn a_source_is_believed_for_its_edition_and_a_time() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut known = Known { turn: Turn(1), now: at(10), ..Known::default() };
        let name = known.names.intern("a");
        let packument = Arc::default();
        known.load_at_hand(name, found(&packument, 20));
        for (now, editions, expected) in
            [(19, 0, true), (20, 0, false), (9, 0, false), (19, 1, false)]
        {
            (known.turn, known.now, known.editions) = (Turn(2), at(now), editions);
            assert_eq!(known.is_at_hand_still(name), expected, "at {now}, edition {editions}");
        }
    }

    #[test]
    fn one_resolution_has_one_packument_of_a_package() {
        let mut known = Known { turn: Turn(1), now: SystemTime::UNIX_EPOCH, ..Known::default() };
        let name = known.names.intern("a");
        let packument = Arc::default();
        known.load_at_hand(name, found(&packument, 20));
        known.turn = Turn(2);
        assert!(known.believed(name).is_none(), "not looked at");
        assert!(known.is_at_hand_still(name));
        assert_eq!(Arc::strong_count(&packument), 1, "not held");
        assert!(known.believed(name).is_some_and(|held| Arc::ptr_eq(&held, &packument)));
        let held = known.about(name).loaded.clone();
        assert!(held.is_some_and(|held| held.is_ok_and(|held| Arc::ptr_eq(&held, &packument))));
        assert!(!known.is_torn());
    }

    #[test]
    fn a_turn_is_torn_where_what_it_believed_is_gone() {
        let mut known = Known { turn: Turn(1), now: SystemTime::UNIX_EPOCH, ..Known::default() };
        let name = known.names.intern("a");
        let packument = Arc::default();
        known.load_at_hand(name, found(&packument, 20));
        known.let_go();
        known.turn = Turn(2);
        drop(packument);
        assert!(known.is_at_hand_still(name), "nothing was touched");
        assert!(!known.is_torn());
        assert!(known.believed(name).is_none());
        assert!(known.is_torn());
    }

    #[test]
    fn nothing_is_believed_of_a_packument_that_is_no_source() {
        let mut known = Known { turn: Turn(1), now: SystemTime::UNIX_EPOCH, ..Known::default() };
        let name = known.names.intern("a");
        known.load(name, Ok(Arc::default()));
        known.load_at_hand(name, found(&Arc::default(), 20));
        known.turn = Turn(2);
        assert!(!known.is_at_hand_still(name), "the second of one turn");
    }

    #[test]
    fn what_is_left_for_the_next_one_holds_no_packument() {
        let mut known = Known { turn: Turn(1), ..Known::default() };
        let names = ["a", "b", "c"].map(|name| known.names.intern(name));
        let packument = Arc::<Packument>::default();
        for name in [names[0], names[2]] {
            known.load(name, Ok(Arc::clone(&packument)));
        }
        known.let_go();
        assert_eq!(Arc::strong_count(&packument), 1, "after the first");
        known.turn = Turn(2);
        known.load_at_hand(names[1], found(&packument, 20));
        assert!(known.about(names[0]).loaded.is_none());
        known.let_go();
        assert_eq!(Arc::strong_count(&packument), 1, "after the second");
    }

    #[test]
    fn whatever_is_of_any_length_counts() {
        let long = "x".repeat(NPM_KNOWN_BYTES_MAX);
        let mut known = Known::default();
        known.names.intern(&long);
        assert!(!known.is_within_bounds(), "a name");
        let mut known = Known::default();
        let name = known.names.intern("a");
        let why = NoChoice::NoMatch { package: "a".to_owned(), latest: Some(long) };
        known.remember((name, WantId(0), false), None, Err(Box::new(why)));
        assert!(!known.is_within_bounds(), "a tag");
    }

    #[test]
    fn what_is_too_much_is_left_to_nobody() {
        let with = |bytes| Known { bytes, ..Known::default() };
        assert!(with(NPM_KNOWN_BYTES_MAX).is_within_bounds());
        assert!(!with(NPM_KNOWN_BYTES_MAX + 1).is_within_bounds());
    }
}
