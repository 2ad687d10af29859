//! Names of agents as numbers, so that a queue compares and copies numbers.
//!
//! A number stands for its name as long as anything in a queue or a link is connected with it; the others are forgotten
//! when there are too many, so agents that come under ever new names cost nothing for long. Numbers are never used
//! again. Not here: what an agent is (`queue::Agent`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::queue::NameId;
use crate::limits::NAMES_KNOWN_MIN;

/// Numbers that a copy may give: more names than any journal holds, and as many copies as there are seconds in a century.
const NUMBERS_OF_A_COPY: u64 = 1 << 32;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_text: HashMap<Arc<str>, NameId>,
    by_number: HashMap<NameId, Arc<str>>,
    last: u64,
    /// How many were needed when the others were last forgotten.
    needed: usize,
}

impl Names {
    /// The number of a name, a new one where it has none.
    pub(super) fn number(&mut self, name: &str) -> NameId {
        if let Some(number) = self.by_text.get(name) {
            return *number;
        }
        self.last += 1;
        let (number, name) = (NameId(self.last), Arc::<str>::from(name));
        self.by_text.insert(Arc::clone(&name), number);
        self.by_number.insert(number, name);
        number
    }

    /// A copy for another thread. The numbers that it gives are nobody else's.
    pub(super) fn fork(&mut self) -> Self {
        let (by_text, by_number) = (self.by_text.clone(), self.by_number.clone());
        let copy = Self { by_text, by_number, last: self.last, needed: self.needed };
        self.last += NUMBERS_OF_A_COPY;
        copy
    }

    /// Takes in those of a copy that are needed. False where one of them has got another number here meanwhile; then none is
    /// taken in.
    pub(super) fn merge(&mut self, copy: &Self, needed: impl Iterator<Item = NameId>) -> bool {
        let needed: HashSet<NameId> = needed.collect();
        let known = |number: &NameId| Some((*number, Arc::clone(copy.by_number.get(number)?)));
        let needed: Vec<(NameId, Arc<str>)> = needed.iter().filter_map(known).collect();
        let is_same = |(number, text): &(NameId, Arc<str>)| {
            self.by_text.get(text).is_none_or(|here| here == number)
        };
        if !needed.iter().all(is_same) {
            return false;
        }
        for (number, text) in needed {
            self.by_text.insert(Arc::clone(&text), number);
            self.by_number.insert(number, text);
        }
        true
    }

    /// The number of a name that has one.
    pub(super) fn find(&self, name: &str) -> Option<NameId> {
        self.by_text.get(name).copied()
    }

    /// What a number stands for.
    pub(super) fn text(&self, number: NameId) -> &str {
        self.by_number.get(&number).map_or("", |name| name)
    }

    /// Whether it is time to [`Self::keep`]: twice as many as were needed, so that it costs little for each name.
    pub(super) fn are_many(&self) -> bool {
        self.by_text.len() >= NAMES_KNOWN_MIN.max(2 * self.needed)
    }

    /// Forgets all others.
    pub(super) fn keep(&mut self, needed: &HashSet<NameId>) {
        self.by_text.retain(|_, number| needed.contains(number));
        self.by_number.retain(|number, _| needed.contains(number));
        self.needed = self.by_text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_while_it_is_needed_and_no_number_comes_twice() {
        let mut names = Names::default();
        let kept = names.number("kept");
        let mut others = 0;
        while !names.are_many() {
            others += 1;
            names.number(&format!("other {others}"));
        }
        names.keep(&HashSet::from([kept]));
        assert!(!names.are_many());
        assert_eq!((names.number("kept"), names.text(kept)), (kept, "kept"));
        assert_eq!(names.find("other 1"), None);
        assert!(names.number("other 1").0 > others);
    }

    #[test]
    fn a_copy_gives_numbers_that_can_be_taken_in_unless_one_name_got_two() {
        let mut names = Names::default();
        let old = names.number("old");
        let (mut copy, mut late) = (names.fork(), names.fork());
        let (new, other) = (copy.number("new"), names.number("other"));
        assert!(old.0 < new.0 && new.0 < other.0);
        assert!(names.merge(&copy, [old, new].into_iter()));
        assert_eq!((names.find("new"), names.text(new)), (Some(new), "new"));
        let again = late.number("new");
        let unknown = late.number("unknown");
        assert!(!names.merge(&late, [unknown, again].into_iter()));
        assert_eq!((names.find("new"), names.find("unknown")), (Some(new), None));
    }
}
