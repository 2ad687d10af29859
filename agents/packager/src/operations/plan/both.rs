//! Two things done at once where there is much to do, for a request that somebody waits for.

use std::sync::{Mutex, PoisonError};

use agents_contract::Crew;

/// Something that is done once, and what came of it.
enum Half<F, T> {
    Open(F),
    Begun,
    Done(T),
}

impl<F: FnOnce() -> T, T> Half<F, T> {
    fn run(place: &Mutex<Self>) {
        let lock = || place.lock().unwrap_or_else(PoisonError::into_inner);
        let open = std::mem::replace(&mut *lock(), Self::Begun);
        if let Self::Open(work) = open {
            let done = work();
            *lock() = Self::Done(done);
        }
    }

    fn done(place: Mutex<Self>) -> Option<T> {
        match place.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Self::Done(done) => Some(done),
            Self::Open(_) | Self::Begun => None,
        }
    }
}

/// Does both: by this crew where there is one, else one after the other and here. Nothing where the request was
/// cancelled before both had begun.
pub(super) fn both<A: Send, B: Send>(
    crew: Option<&dyn Crew>,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> Option<(A, B)> {
    let Some(crew) = crew else { return Some((one(), other())) };
    let (one, other) = (Mutex::new(Half::Open(one)), Mutex::new(Half::Open(other)));
    crew.run(2, &|index| match index {
        0 => Half::run(&one),
        _ => Half::run(&other),
    });
    Some((Half::done(one)?, Half::done(other)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does so many pieces of those that are asked for.
    #[derive(Debug)]
    struct Few(usize);

    impl Crew for Few {
        fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
            (0..count.min(self.0)).for_each(piece);
        }
    }

    #[test]
    fn both_are_done_by_a_crew_and_without() {
        let crew: &dyn Crew = &Few(2);
        for crew in [None, Some(crew)] {
            assert_eq!(both(crew, || 1, || "two"), Some((1, "two")));
        }
    }

    #[test]
    fn of_what_is_cancelled_there_is_nothing() {
        for done in [0, 1] {
            assert_eq!(both(Some(&Few(done)), || 1, || 2), None);
        }
    }
}
