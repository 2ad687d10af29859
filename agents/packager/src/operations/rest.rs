//! What a request leaves behind that takes time to drop: a plan of thousands of packages has tens of thousands of texts. It goes when
//! its call was answered, and elsewhere when the thread ends or begins with another plan. So nobody waits for it, and a thread keeps the rest
//! of one plan at most.

use std::any::Any;
use std::cell::RefCell;

thread_local! {
    static LEFT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Leaves something behind.
pub(crate) fn leave(rest: impl Any) {
    // A thread that is about to end drops it here.
    let _ = LEFT.try_with(|left| left.borrow_mut().push(Box::new(rest)));
}

/// Drops what an earlier request left on this thread.
pub(crate) fn clear() {
    let rest = LEFT.try_with(RefCell::take);
    drop(rest);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak};

    use super::*;

    fn left() -> Weak<()> {
        let rest = Arc::new(());
        let weak = Arc::downgrade(&rest);
        leave(rest);
        weak
    }

    #[test]
    fn what_is_left_goes_with_the_thread_or_with_the_next_request() {
        let (first, second) = std::thread::spawn(|| {
            let first = left();
            assert!(first.upgrade().is_some(), "somebody waited for it");
            clear();
            assert!(first.upgrade().is_none(), "it is still there with the next one");
            (first, left())
        })
        .join()
        .expect("an end");
        assert!(first.upgrade().is_none() && second.upgrade().is_none());
    }
}
