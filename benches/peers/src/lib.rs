//! What the programs that do the bus's work with others' buses have in common; the buses themselves are in `bin/`.

pub mod protocol;
pub mod scratch;
pub mod times;
pub mod workers;
