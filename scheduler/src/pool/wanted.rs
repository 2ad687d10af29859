//! Whether somebody who waits for leave still wants it, and how he hears that it may have changed.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// What is called when something may not be wanted any more. It is short, and waits for nobody.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Whether something is still wanted.
pub trait Wanted {
    /// Asked under the pools' lock, so it only looks.
    fn is_wanted(&self) -> bool;

    /// For how long at most, as far as that is known beforehand.
    fn left(&self) -> Option<Duration> {
        None
    }

    /// Has `wake` called when that may have changed, as long as what this gives is kept. Where nobody can tell it is nothing, and
    /// [`Wanted::is_wanted`] is asked again and again.
    fn listen(&self, _wake: Wake) -> Option<Box<dyn Any>> {
        None
    }
}

/// A look that nobody tells of.
impl<Look: Fn() -> bool> Wanted for Look {
    fn is_wanted(&self) -> bool {
        self()
    }
}
