//! Those who wait: takes for items, puts for room. First come first served, each until its deadline,
//! bounded.

use std::collections::HashMap;

use super::Taker;
use super::heap::Indexed;
use super::model::Put;

/// A request that can wait.
pub(super) trait Request {
    /// The number by which its caller knows it.
    fn request(&self) -> u64;
}

impl Request for Put {
    fn request(&self) -> u64 {
        self.request
    }
}

impl Request for Taker {
    fn request(&self) -> u64 {
        self.request
    }
}

/// Waiting requests of one kind.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// With the arrival.
    slots: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
    /// By arrival.
    order: Indexed<u64>,
    /// By deadline, then arrival.
    due: Indexed<(u64, u64)>,
    by_request: HashMap<u64, u32>,
    arrivals: u64,
    count_max: usize,
    /// Kept for its memory.
    found: Vec<(u64, u32)>,
}

impl<T: Request> Waiting<T> {
    pub(super) fn new(count_max: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            order: Indexed::default(),
            due: Indexed::default(),
            by_request: HashMap::new(),
            arrivals: 0,
            count_max: count_max as usize,
            found: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.count_max
    }

    /// Adds a request behind all others. The caller has asked [`Self::is_full`].
    pub(super) fn push(&mut self, value: T, until_ns: u64) {
        debug_assert!(!self.is_full());
        let handle = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.by_request.insert(value.request(), handle);
        self.slots[handle as usize] = Some((self.arrivals, value));
        self.order.set(handle, self.arrivals);
        self.due.set(handle, (until_ns, self.arrivals));
        self.arrivals += 1;
    }

    /// Who came first.
    pub(super) fn first_mut(&mut self) -> Option<(u32, &mut T)> {
        let (_, handle) = self.order.first()?;
        self.slots[handle as usize].as_mut().map(|(_, value)| (handle, value))
    }

    /// Every request, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|(_, value)| value)
    }

    /// Ends a request.
    pub(super) fn remove(&mut self, handle: u32) -> Option<T> {
        let (_, value) = self.slots.get_mut(handle as usize)?.take()?;
        self.order.clear(handle);
        self.due.clear(handle);
        self.free.push(handle);
        // The numbers are the caller's; one that it gave twice names the later request.
        if self.by_request.get(&value.request()) == Some(&handle) {
            self.by_request.remove(&value.request());
        }
        Some(value)
    }

    /// Ends the request with this number, if it waits.
    pub(super) fn remove_request(&mut self, request: u64) -> Option<T> {
        let handle = *self.by_request.get(&request)?;
        self.remove(handle)
    }

    /// Ends the request whose deadline is first, if it has come.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<T> {
        let ((until_ns, _), handle) = self.due.first()?;
        if until_ns <= now_ns { self.remove(handle) } else { None }
    }

    /// The first deadline.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|((until_ns, _), _)| until_ns)
    }

    /// Ends all requests that are `unwanted` and hands them to `told` in order of arrival. Walks all that
    /// wait: for the rare case that an agent ends.
    pub(super) fn remove_all(&mut self, unwanted: impl Fn(&T) -> bool, mut told: impl FnMut(T)) {
        let mut found = std::mem::take(&mut self.found);
        for handle in self.order.handles() {
            if let Some((arrival, value)) = &self.slots[handle as usize]
                && unwanted(value)
            {
                found.push((*arrival, handle));
            }
        }
        found.sort_unstable();
        for (_, handle) in found.drain(..) {
            if let Some(value) = self.remove(handle) {
                told(value);
            }
        }
        self.found = found;
    }
}
