//! Behaviour of the whole program, seen from outside: the real binary against registries on loopback.

mod adding;
mod mishaps;
mod packages;
mod registry;
mod world;
