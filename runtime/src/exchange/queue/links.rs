//! Lists through slots: an item is in at most one of them (its worker's leases, its former worker's
//! preferences, the dead letters) and can leave it from the middle in constant time.

/// No slot.
const NONE: u32 = u32::MAX;

/// The neighbours of every slot.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<(u32, u32)>);

/// One list: its ends. Meaningful together with the [`Links`] it was made in.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl List {
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

impl Links {
    /// The slot after this one in its list.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        self.0.get(slot as usize).map(|&(_, next)| next).filter(|&next| next != NONE)
    }

    /// Adds a slot that is in no list at the end of this one.
    pub(super) fn push(&mut self, list: &mut List, slot: u32) {
        let index = slot as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, (NONE, NONE));
        }
        self.0[index] = (list.last, NONE);
        match list.last {
            NONE => list.first = slot,
            last => self.0[last as usize].1 = slot,
        }
        list.last = slot;
    }

    /// Takes a slot out of the list that it is in.
    pub(super) fn remove(&mut self, list: &mut List, slot: u32) {
        let (previous, next) = std::mem::replace(&mut self.0[slot as usize], (NONE, NONE));
        match previous {
            NONE => list.first = next,
            previous => self.0[previous as usize].1 = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.0[next as usize].0 = previous,
        }
    }

    /// The slots of a list, from its start.
    pub(super) fn iter(&self, list: List) -> impl Iterator<Item = u32> {
        std::iter::successors(list.first(), |&slot| self.next(slot))
    }
}
