//! Behaviour of the whole program, seen from outside.
