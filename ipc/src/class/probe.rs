//! What of the classes this process can have, found by trying. Nothing is left behind.
//!
//! Not here: what a router allows, and what a peer can do (`client`).

use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Class, normal};
use crate::batch::{Draft, Frozen};
use crate::lane::{LaneOptions, Sender};
use crate::uring::{Inbox, Outbox, RingNumber, Unavailable};

/// Tries the segments of a lane: memory that is sealed.
fn critical() -> Result<(), Box<dyn Error>> {
    Ok(Sender::for_link(LaneOptions::default()).map(drop)?)
}

/// Tries to freeze a payload and to open it.
fn batch() -> Result<(), Box<dyn Error>> {
    let sealed = Draft::create(1)?.freeze()?;
    Ok(Frozen::open(sealed.as_fd().try_clone_to_owned()?, 1).map(drop)?)
}

/// Tries a class as far as one process can: of HIGH only its own ring. Why not is told in one line.
pub fn probe(class: Class) -> Result<(), String> {
    let tried: Result<(), Box<dyn Error>> = match class {
        Class::Critical => critical(),
        Class::High => Inbox::new().map(drop).map_err(Into::into),
        Class::Normal => normal::pair().map(drop).map_err(Into::into),
        Class::Batch => batch(),
        Class::Low => Err("queues keep it, not links".into()),
    };
    tried.map_err(|error| one_line(error.as_ref()))
}

/// Tries to fetch the ring of another process and to post into it, which is what HIGH needs of a peer.
pub fn probe_peer(process: BorrowedFd<'_>, number: RingNumber) -> Result<(), String> {
    let connected: Result<Outbox, Unavailable> = Outbox::connect(process, number);
    connected.map(drop).map_err(|error| one_line(&error))
}

/// An error with what lies behind it.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_kernel_has_is_found() {
        for class in [Class::Critical, Class::Normal, Class::Batch] {
            probe(class).unwrap();
        }
        assert!(probe(Class::Low).is_err());
    }
}
