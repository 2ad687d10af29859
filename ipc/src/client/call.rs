//! A call that also hears of the router's end: the page that tells of a peer's death is the router's to write, so when router
//! and peer die together only the socket tells.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::{AsFd, Client, ClientError, sleep_on};
use crate::class::ReceivingHalf;
use crate::control::ToRouter;
use crate::header::{GrantId, LaneId};
use crate::lane::Ended;
use crate::link::{Answer, CallError, Link, Outcome, RequestId};
use crate::wait::adaptive_spin;

/// A file that goes along with one request after another over a link.
#[derive(Debug)]
pub struct Kept<F> {
    file: F,
    /// Where the peer has it already, and by which number. Links have numbers of their own for the life of a router.
    at: Option<((u64, LaneId), GrantId)>,
}

impl<F: AsFd> Kept<F> {
    /// One that nobody has yet.
    pub fn new(file: F) -> Self {
        Self { file, at: None }
    }

    /// The file.
    pub fn file(&self) -> &F {
        &self.file
    }
}

impl Client {
    /// Calls a tool over a link of this client and waits for its last answer, as [`Link::call`] does; `progress` sees the
    /// intermediate ones. Polls for a moment, then sleeps. A call whose router goes away ends with
    /// [`Ended::RouterGone`], because nobody could tell any more whether the peer still lives.
    pub fn call(
        &mut self,
        link: &mut Link,
        tool: &str,
        payload: &[u8],
        grants: &[GrantId],
        deadline: Instant,
        progress: impl FnMut(&[u8]),
    ) -> Result<Outcome, CallError> {
        let request = link.request(tool, payload, grants, deadline)?;
        self.last_answer_over(link, request, deadline, progress)
    }

    /// The same for a request that brings files along. It goes before them: it wakes the peer itself, they come by way of
    /// the router, so peer and router wake up at the same time.
    ///
    /// # Errors
    /// [`CallError::Ungranted`] where the router did not take a file; the request is taken back then.
    pub fn call_with_files(
        &mut self,
        link: &mut Link,
        (tool, payload): (&str, &[u8]),
        files: &[BorrowedFd<'_>],
        deadline: Instant,
        progress: impl FnMut(&[u8]),
    ) -> Result<Outcome, CallError> {
        let numbered = files.iter().map(|file| (self.number_grant(), *file));
        let numbered: Vec<(GrantId, BorrowedFd<'_>)> = numbered.collect();
        let request = self.request_with(link, (tool, payload), &numbered, deadline)?;
        self.last_answer_over(link, request, deadline, progress)
    }

    /// The same for a file that the peer is asked to keep for the next requests over this link: it is sent along with the first one, and
    /// with the one after any that was not done. Whether it was sent along with this one is told beside the outcome; where it was not, the
    /// peer may have lost it.
    ///
    /// # Errors
    /// As of [`Self::call_with_files`].
    pub fn call_with_kept(
        &mut self,
        link: &mut Link,
        asked: (&str, &[u8]),
        kept: &mut Kept<impl AsFd>,
        deadline: Instant,
        progress: impl FnMut(&[u8]),
    ) -> Result<(Outcome, bool), CallError> {
        let (tool, payload) = asked;
        let place = (self.instance, link.lane());
        let (named, request, is_sent) = match kept.at.take() {
            Some((of, grant)) if of == place => {
                (grant, link.request(tool, payload, &[grant], deadline)?, false)
            }
            _ => {
                let grant = self.number_grant().kept();
                let sent = [(grant, kept.file.as_fd())];
                (grant, self.request_with(link, asked, &sent, deadline)?, true)
            }
        };
        let outcome = self.last_answer_over(link, request, deadline, progress)?;
        if let Outcome::Done(_) = outcome {
            kept.at = Some((place, named));
        }
        Ok((outcome, is_sent))
    }

    pub(super) fn number_grant(&mut self) -> GrantId {
        let grant = GrantId(self.next_grant);
        self.next_grant += 1;
        grant
    }

    /// Sends a request, and what it brings along after it.
    fn request_with(
        &mut self,
        link: &mut Link,
        (tool, payload): (&str, &[u8]),
        files: &[(GrantId, BorrowedFd<'_>)],
        deadline: Instant,
    ) -> Result<RequestId, CallError> {
        let grants: Vec<GrantId> = files.iter().map(|(grant, _)| *grant).collect();
        let request = link.request(tool, payload, &grants, deadline)?;
        for (grant, file) in files {
            if let Err(error) = self.send_grant(link.lane(), *grant, *file) {
                // The peer may be gone or its lane full; then there is nobody to tell.
                let _ = link.sender().cancel(request);
                let peer = link.peer().manifest.name.clone();
                return Err(CallError::Ungranted { peer, problem: error.to_string() });
            }
        }
        Ok(request)
    }

    pub(super) fn send_grant(
        &mut self,
        lane: LaneId,
        grant: GrantId,
        file: BorrowedFd<'_>,
    ) -> Result<(), ClientError> {
        self.send(&ToRouter::Grant { lane, grant }, &[file])?;
        crate::fault::point("client.granted");
        Ok(())
    }

    /// Waits for the last answer to a request; what ends without one is cancelled at the peer.
    fn last_answer_over(
        &mut self,
        link: &mut Link,
        request: RequestId,
        deadline: Instant,
        mut progress: impl FnMut(&[u8]),
    ) -> Result<Outcome, CallError> {
        loop {
            match self.answer_over(link, request, deadline) {
                Ok(Answer::Progress(bytes)) if Instant::now() < deadline => progress(&bytes),
                // A peer that has only progress to tell must not hold the caller beyond his deadline.
                Ok(Answer::Progress(_)) => {
                    let _ = link.sender().cancel(request);
                    return Err(CallError::Deadline { peer: link.peer().manifest.name.clone() });
                }
                Ok(Answer::Done(bytes)) => return Ok(Outcome::Done(bytes)),
                Ok(Answer::Failed(bytes)) => return Ok(Outcome::Failed(bytes)),
                Err(error) => {
                    // The peer may be gone or its lane full; then there is nobody to tell.
                    let _ = link.sender().cancel(request);
                    return Err(error);
                }
            }
        }
    }

    /// The next answer to a request.
    fn answer_over(
        &mut self,
        link: &mut Link,
        request: RequestId,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        loop {
            let polled = deadline.min(Instant::now() + adaptive_spin());
            // Once at least: the sleep below ends at once where something is there.
            loop {
                if let Some(answer) = link.try_answer(request)? {
                    return Ok(answer);
                }
                if Instant::now() >= polled {
                    break;
                }
                std::hint::spin_loop();
            }
            if Instant::now() >= deadline {
                return Err(CallError::Deadline { peer: link.peer().manifest.name.clone() });
            }
            self.sleep_for(link, deadline)?;
        }
    }

    /// Sleeps until the link or the socket has news, and takes in what the router says.
    fn sleep_for(&mut self, link: &mut Link, deadline: Instant) -> Result<(), CallError> {
        let peer = link.peer().manifest.name.clone();
        let receiver = link.receiver().raw();
        if !receiver.arm() {
            return Ok(());
        }
        let fds = [self.connection.as_fd(), self.doorbell.as_fd()];
        let slept = sleep_on(fds, &[], Some(deadline));
        receiver.disarm();
        self.doorbell.clear();
        let heard = slept.and_then(|_| self.take_in_all());
        // An answer that is already in the lane counts more than the end of the router.
        match heard {
            Ok(()) => Ok(()),
            Err(_) if link.receiver().raw().has_message() => Ok(()),
            Err(_) => Err(CallError::Ended { peer, ended: Ended::RouterGone }),
        }
    }
}
