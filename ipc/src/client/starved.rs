//! What a client does with a message whose descriptors found no room in its process: nobody waits for it in vain, nobody else
//! is blamed, and the connection goes on.
//!
//! Not here: how that is noticed (`socket`).

use super::exchange::STARVED;
use super::{Client, ClientError};
use crate::control::{CloseCause, FromRouter, ToRouter};
use crate::topic::ReaderChange;

const WORDS: &str = "the process has no descriptors left for it";

impl Client {
    /// Undoes what a message began. Gives what is left of it.
    pub(super) fn starved(
        &mut self,
        message: FromRouter,
    ) -> Result<Option<FromRouter>, ClientError> {
        let request = match message {
            FromRouter::LinkOffered { lane, .. } | FromRouter::RouteWanted { lane, .. } => {
                self.decline(lane, WORDS)?;
                return Ok(None);
            }
            FromRouter::LinkReady { request, lane, .. }
            | FromRouter::Published { request, lane, .. } => {
                self.decline(lane, WORDS)?;
                request
            }
            FromRouter::Directory { request } => request,
            // The program hears of it as of a topic that has ended; a group's sender no longer waits.
            FromRouter::TopicFound { lane, .. } => {
                self.decline(lane, WORDS)?;
                let (code, reason) = (STARVED.to_owned(), WORDS.to_owned());
                return Ok(Some(FromRouter::LinkClosed { lane, code, reason }));
            }
            FromRouter::ReaderJoined { lane, .. } if !self.open.contains(&lane) => {
                return Ok(None);
            }
            FromRouter::ReaderJoined { lane, reader } => {
                let (reason, why) = (WORDS.to_owned(), CloseCause::Wanted);
                self.send(&ToRouter::DropReader { lane, reader, reason, why }, &[])?;
                self.change(lane, ReaderChange::Left { reader });
                return Ok(None);
            }
            // Whoever waits for it hears that it did not come.
            FromRouter::Granted { .. } => return Ok(None),
            _ => return Err(ClientError::Protocol("descriptors beside a message without any")),
        };
        let (code, message) = (STARVED.to_owned(), WORDS.to_owned());
        Ok(Some(FromRouter::Refused { request, code, message }))
    }
}
