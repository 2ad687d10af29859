//! Every class of hostile archive, made by hand; honest ones, made by independent writers; and
//! damage at random.

mod random;
mod tarballs;
mod wheels;
