//! A stream of what stands in one log and of what comes, over a link of its own.
//!
//! A link of its own, because a stream that nobody reads fills its lane: that is how a slow follower holds back the exchange
//! instead of filling its memory, and answers to other requests would stand behind it.

use std::time::Instant;

use super::{Entry, LogError, Operation, Start};
use crate::class::ReceivingHalf;
use crate::client::Client;
use crate::lane::{Ended, ReceiveError};
use crate::link::{Answer, CallError, Incoming, Link, RequestId};

/// Follows one log. When it is dropped the exchange sends nothing more and its writers wait for it no longer; its link stays
/// until [`Follower::cancel`] or the client's end.
#[derive(Debug)]
pub struct Follower {
    link: Link,
    request: RequestId,
    /// Entries that came and were not taken.
    entries: Vec<u8>,
    taken: usize,
    next: u64,
}

impl Follower {
    /// Follows a log from a position on. `holds_back` says whether appends wait where this follower is further behind than the
    /// log's options allow. Waits until the exchange has found the place.
    pub fn open(
        client: &mut Client,
        log: &str,
        start: Start,
        holds_back: bool,
        deadline: Instant,
    ) -> Result<Self, LogError> {
        let mut link = client.open(crate::exchange::NAME)?;
        let follow = Operation::Follow { start, holds_back };
        let request = link.request(follow.tool(), &follow.encode(log)?, &[], deadline)?;
        let mut follower = Self { link, request, entries: Vec::new(), taken: 0, next: 0 };
        while follower.entries.is_empty() {
            let answer = follower.link.answer(request, deadline)?;
            follower.take_in(answer)?;
        }
        Ok(follower)
    }

    /// The link, to wait for several at once.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The position of what comes next: where to go on with another follower.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether something can be taken without looking at the link.
    pub fn has_entry(&self) -> bool {
        self.taken < self.entries.len()
    }

    /// Whether the exchange has said something that was not looked at.
    pub(crate) fn has_answer(&self) -> bool {
        self.link.way().has_message()
    }

    /// Whether the exchange will say nothing more.
    pub(crate) fn is_over(&self) -> bool {
        self.link.way().is_over()
    }

    /// The next entry; waits until the deadline.
    pub fn next(&mut self, deadline: Instant) -> Result<Entry<'_>, LogError> {
        if !self.fetch(Some(deadline))? {
            let peer = self.link.peer().manifest.name.clone();
            return Err(LogError::Call(CallError::Deadline { peer }));
        }
        self.take()
    }

    /// The next entry, if it is there.
    pub fn try_next(&mut self) -> Result<Option<Entry<'_>>, LogError> {
        if !self.try_fetch()? {
            return Ok(None);
        }
        self.take().map(Some)
    }

    /// Follows no more. What is on its way is lost; another follower goes on at [`Follower::position`].
    pub fn cancel(self, client: &mut Client) -> Result<(), LogError> {
        Ok(client.decline(self.link.lane(), "follows no more")?)
    }

    /// Whether an entry is there, after looking at the link.
    pub(crate) fn try_fetch(&mut self) -> Result<bool, LogError> {
        self.skip_begin()?;
        while !self.has_entry() {
            let Some(answer) = self.link.try_answer(self.request)? else { return Ok(false) };
            self.take_in(answer)?;
            self.skip_begin()?;
        }
        Ok(true)
    }

    /// Waits for an entry until the deadline, or without end. False when none came.
    pub(crate) fn fetch(&mut self, deadline: Option<Instant>) -> Result<bool, LogError> {
        self.skip_begin()?;
        while !self.has_entry() {
            match self.link.receiver().receive(deadline) {
                Ok(Incoming::Answer { request, answer }) if request == self.request => {
                    self.take_in(answer)?;
                    self.skip_begin()?;
                }
                Ok(_) => {}
                Err(CallError::Deadline { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The first of the entries that are there.
    pub(crate) fn take(&mut self) -> Result<Entry<'_>, LogError> {
        let rest = &self.entries[self.taken..];
        let (entry, behind) = Entry::split(rest)?;
        self.taken = self.entries.len() - behind.len();
        self.next = entry.next_position();
        Ok(entry)
    }

    /// Why nothing more comes, as a lane would say it.
    pub(crate) fn end_of(error: &LogError) -> ReceiveError {
        match error {
            LogError::Call(CallError::Ended { ended, .. }) => ReceiveError::Ended(*ended),
            LogError::Call(CallError::Quarantined { violation, .. }) => {
                ReceiveError::Quarantined(*violation)
            }
            _ => ReceiveError::Ended(Ended::Revoked),
        }
    }

    fn skip_begin(&mut self) -> Result<(), LogError> {
        while self.has_entry() {
            let (entry, behind) = Entry::split(&self.entries[self.taken..])?;
            let Entry::Begin { position } = entry else { break };
            self.taken = self.entries.len() - behind.len();
            self.next = position;
        }
        Ok(())
    }

    fn take_in(&mut self, answer: Answer) -> Result<(), LogError> {
        match answer {
            Answer::Progress(bytes) => {
                (self.entries, self.taken) = (bytes, 0);
                Ok(())
            }
            Answer::Done(_) => Err(LogError::Over),
            Answer::Failed(error) => Err(LogError::Refused(error)),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The lane may be full or the exchange gone; then the end of the link says the same.
        let _ = self.link.sender().cancel(self.request);
    }
}
