//! Who may run how much, where: pure decisions about slots, and the pools that carry them out.
