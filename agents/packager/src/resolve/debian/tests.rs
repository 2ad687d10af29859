//! Small machines with small lists.
