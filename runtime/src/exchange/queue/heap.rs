//! A binary heap whose entries can be found: smallest key first, and removal from the middle. The one
//! ordered structure of the queues (turn inside a level, timers, who waits), because it allocates
//! only when it grows and leaves no dead entries behind.

/// Not in any heap.
const NOWHERE: u32 = u32::MAX;

/// Where each handle stands in its heap. Heaps may share one, if no handle is in two of them.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<u32>);

/// The entries. A handle is a small number that the owner gives, an index into its slots.
#[derive(Debug)]
pub(super) struct Heap<K> {
    entries: Vec<(K, u32)>,
}

/// A heap with places of its own.
#[derive(Debug)]
pub(super) struct Indexed<K> {
    heap: Heap<K>,
    places: Places,
}

impl Places {
    fn get(&self, handle: u32) -> Option<usize> {
        self.0.get(handle as usize).filter(|&&place| place != NOWHERE).map(|&place| place as usize)
    }

    fn set(&mut self, handle: u32, place: usize) {
        let index = handle as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, NOWHERE);
        }
        self.0[index] = place as u32;
    }

    fn clear(&mut self, handle: u32) {
        self.0[handle as usize] = NOWHERE;
    }
}

impl<K> Default for Heap<K> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<K> Default for Indexed<K> {
    fn default() -> Self {
        Self { heap: Heap::default(), places: Places::default() }
    }
}

impl<K: Copy + Ord> Heap<K> {
    /// The smallest key and its handle.
    pub(super) fn first(&self) -> Option<(K, u32)> {
        self.entries.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every handle, in no order.
    pub(super) fn handles(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|&(_, handle)| handle)
    }

    /// Adds a handle that is in no heap of these places.
    pub(super) fn insert(&mut self, places: &mut Places, handle: u32, key: K) {
        debug_assert!(places.get(handle).is_none(), "a handle is in one heap at most");
        self.entries.push((key, handle));
        self.rise(places, self.entries.len() - 1);
    }

    /// Removes a handle; nothing happens when it is in no heap of these places. It must not be in
    /// another one.
    pub(super) fn remove(&mut self, places: &mut Places, handle: u32) {
        let Some(place) = places.get(handle) else { return };
        debug_assert!(self.entries[place].1 == handle, "the handle is in this heap");
        self.entries.swap_remove(place);
        places.clear(handle);
        if place < self.entries.len() {
            let place = self.rise(places, place);
            self.sink(places, place);
        }
    }

    /// Moves the entry up to where it belongs and notes its place.
    fn rise(&mut self, places: &mut Places, mut place: usize) -> usize {
        let entry = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.entries[parent].0 <= entry.0 {
                break;
            }
            self.entries[place] = self.entries[parent];
            places.set(self.entries[place].1, place);
            place = parent;
        }
        self.entries[place] = entry;
        places.set(entry.1, place);
        place
    }

    /// Moves the entry down to where it belongs and notes its place.
    fn sink(&mut self, places: &mut Places, mut place: usize) {
        let entry = self.entries[place];
        loop {
            let left = 2 * place + 1;
            let right = left + 1;
            if left >= self.entries.len() {
                break;
            }
            let is_right =
                right < self.entries.len() && self.entries[right].0 < self.entries[left].0;
            let child = if is_right { right } else { left };
            if entry.0 <= self.entries[child].0 {
                break;
            }
            self.entries[place] = self.entries[child];
            places.set(self.entries[place].1, place);
            place = child;
        }
        self.entries[place] = entry;
        places.set(entry.1, place);
    }
}

impl<K: Copy + Ord> Indexed<K> {
    pub(super) fn first(&self) -> Option<(K, u32)> {
        self.heap.first()
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = u32> {
        self.heap.handles()
    }

    /// Gives the handle this key, whether it had one or not.
    pub(super) fn set(&mut self, handle: u32, key: K) {
        self.heap.remove(&mut self.places, handle);
        self.heap.insert(&mut self.places, handle, key);
    }

    /// Removes the handle, whether it is there or not.
    pub(super) fn clear(&mut self, handle: u32) {
        self.heap.remove(&mut self.places, handle);
    }
}
