//! What an agent has from its host for work that nobody asked for: an outlet for events, a say in when the process may end, and its own
//! measurements. Not a conversation: there is no caller.

use crate::Cancellation;

/// Where an agent lives, for as long as its process does.
pub trait Station: Send + Sync {
    /// Publishes an event on the bus. Never blocks for long.
    fn publish(&self, subject: &str, payload: &[u8]);
    /// Begins a piece of work: until it is dropped the host does not end the process by itself. Nothing once the host is stopping.
    fn begin(&self) -> Option<Busy>;
    /// Says when the host stops; work that has begun and can still be abandoned should be.
    fn cancellation(&self) -> &Cancellation;
    /// Says that [`crate::Agent::figures`] may give something new.
    fn changed(&self);
}

/// Work under way at a [`Station`].
pub struct Busy {
    _held: Box<dyn Send>,
}

impl Busy {
    /// One that drops `held` when it is over.
    pub fn new(held: impl Send + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// One number that an agent measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What was measured: `transactions`.
    pub name: &'static str,
    /// Of which kind, outcome or part; empty where there is only one.
    pub label: &'static str,
    /// How much, in the unit that the name says.
    pub value: u64,
}
