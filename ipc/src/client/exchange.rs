//! The client's exchange with the router: packets out, packets in, and what was not asked for kept for later.
//!
//! Not here: what programs call (`client`).

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Client, ClientError, Event, Offer, PeerSide, TopicOffer};
use crate::closer::Foreign;
use crate::control::{DecodeError, FromRouter, ToRouter};
use crate::header::{GrantId, LaneId};
use crate::limits::{
    CLOSING_PER_PEER_MAX, EVENTS_MAX, GRANTS_HELD_MAX, GRANTS_PER_LINK_MAX, LAST_WORDS_MAX,
    READER_CHANGES_MAX, ROUTER_ANSWER_MS,
};
use crate::socket::ReceiveError;
use crate::topic::ReaderChange;

/// As which code an answer counts whose descriptors found no room here; no router says it.
pub(super) const STARVED: &str = "no-descriptors-left";

impl Client {
    pub(super) fn request_number(&mut self) -> u32 {
        let number = self.next_request;
        // 0 is the connection itself.
        self.next_request = self.next_request.checked_add(1).unwrap_or(1);
        number
    }

    pub(super) fn send(
        &self,
        message: &ToRouter,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        debug_assert_eq!(message.descriptors(), descriptors.len());
        self.send_packet(&message.encode()?, descriptors)
    }

    /// Sends a packet; waits for a router that is slow to read, but not without end.
    pub(super) fn send_packet(
        &self,
        packet: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let deadline = answer_deadline();
        loop {
            match self.connection.send(packet, fds) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if is_hangup(&error) => return Err(self.last_word()),
                Err(error) => return Err(error.into()),
            }
            let mut polled = [PollFd::new(&self.connection, PollFlags::OUT)];
            if !sleep(&mut polled, Some(deadline))? {
                return Err(ClientError::NoAnswer);
            }
        }
    }

    /// The router's answer to a request; everything else is kept.
    pub(super) fn answer(
        &mut self,
        request: u32,
    ) -> Result<(FromRouter, Vec<OwnedFd>), ClientError> {
        let deadline = answer_deadline();
        loop {
            let (message, descriptors) = self.receive(deadline).map_err(|error| match error {
                ClientError::Deadline => ClientError::NoAnswer,
                other => other,
            })?;
            match message {
                FromRouter::Refused { request: of, code, .. }
                    if of == request && code == STARVED =>
                {
                    return Err(ClientError::NoDescriptorsLeft);
                }
                FromRouter::Refused { request: of, code, message } if of == request => {
                    return Err(ClientError::Refused { code, message });
                }
                FromRouter::Agents { request: of, .. }
                | FromRouter::LinkReady { request: of, .. }
                | FromRouter::Published { request: of, .. }
                | FromRouter::Subscribed { request: of }
                | FromRouter::Directory { request: of }
                | FromRouter::Revoked { request: of, .. }
                    if of == request =>
                {
                    return Ok((message, descriptors));
                }
                other => self.keep(other, descriptors)?,
            }
        }
    }

    /// One message from the router, with the right number of descriptors. Pings are answered on the way.
    pub(super) fn receive(
        &mut self,
        deadline: Instant,
    ) -> Result<(FromRouter, Vec<OwnedFd>), ClientError> {
        loop {
            // First, because receiving clears a buffer for the longest packet, and who looks now and then finds nothing mostly.
            let mut polled = [PollFd::new(&self.connection, PollFlags::IN)];
            if !sleep(&mut polled, Some(deadline))? {
                return Err(ClientError::Deadline);
            }
            let packet = match self.connection.receive() {
                Ok(packet) => packet,
                Err(ReceiveError::WouldBlock) => continue,
                Err(ReceiveError::NoDescriptorsLeft { bytes }) => {
                    let message = match FromRouter::decode(&bytes) {
                        Err(DecodeError::UnknownType { optional: true, .. }) => continue,
                        message => message?,
                    };
                    match self.starved(message)? {
                        Some(message) => return Ok((message, Vec::new())),
                        None => continue,
                    }
                }
                Err(ReceiveError::Closed) => return Err(self.last_word()),
                Err(ReceiveError::Io(error)) if is_hangup(&error) => return Err(self.last_word()),
                Err(error) => return Err(error.into()),
            };
            let message = match FromRouter::decode(&packet.bytes) {
                Ok(message) => message,
                Err(DecodeError::UnknownType { optional: true, .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if message.descriptors() != packet.descriptors.len() {
                return Err(ClientError::Protocol("a wrong number of descriptors"));
            }
            match message {
                FromRouter::Ping { nonce } => self.send(&ToRouter::Pong { nonce }, &[])?,
                message => return Ok((message, packet.descriptors)),
            }
        }
    }

    /// Why the router hung up, if it said so: its last packets outlive the connection.
    fn last_word(&self) -> ClientError {
        let mut closed = false;
        for _ in 0..LAST_WORDS_MAX {
            match self.connection.receive() {
                Ok(packet) => {
                    if let Ok(FromRouter::Refused { request: 0, code, message }) =
                        FromRouter::decode(&packet.bytes)
                    {
                        return ClientError::Refused { code, message };
                    }
                }
                // A reset is told once, before what is queued.
                Err(_) if !closed => closed = true,
                Err(_) => break,
            }
        }
        ClientError::RouterGone
    }

    pub(super) fn take_in_all(&mut self) -> Result<(), ClientError> {
        loop {
            match self.receive(Instant::now()) {
                Ok((message, descriptors)) => self.keep(message, descriptors)?,
                Err(ClientError::Deadline) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what was not asked for.
    pub(super) fn keep(
        &mut self,
        message: FromRouter,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ClientError> {
        let event = match message {
            FromRouter::LinkOffered { lane, from, terms } => {
                let side = PeerSide::from_descriptors(fds, (lane, self.closer.as_ref()))?;
                Event::LinkOffered(Offer { lane, from, terms, side })
            }
            FromRouter::RouteWanted { lane, from, target, terms } => {
                let side = PeerSide::from_descriptors(fds, (lane, self.closer.as_ref()))?;
                let offer = Offer { lane, from, terms, side };
                Event::RouteWanted { offer, target }
            }
            FromRouter::LinkReady { request, lane, peer, terms } => {
                let Some(own) = self.routes.remove(&request) else {
                    return self.decline(lane, "nobody waits for it any more");
                };
                self.meet_route(request, own, (lane, peer, terms), fds)?
            }
            FromRouter::Refused { request, code, message } if request != 0 => {
                if self.routes.remove(&request).is_none() {
                    return Ok(());
                }
                Event::RouteRefused { request, code, message }
            }
            FromRouter::LinkClosed { lane, code, reason } => {
                self.forget(lane);
                Event::LinkClosed { lane, code, reason }
            }
            FromRouter::Granted { lane, grant } => {
                let [file] = exactly(fds)?;
                let file = Foreign::new(file, self.closer.as_ref(), lane.0);
                if self.unwanted.remove(&(lane, grant)) || !self.open.contains(&lane) {
                    return Ok(());
                }
                if self.closes_slowly(lane) {
                    return self.decline(lane, "descriptors that it granted do not close");
                }
                if !self.make_room_for_grant(lane) {
                    return self.decline(lane, "too many grants that nobody took");
                }
                self.grants.insert((lane, grant), file);
                return Ok(());
            }
            FromRouter::TopicFound { request, lane, subject, policy, from, terms, lineage } => {
                let [slots, region, control] = exactly(fds)?;
                let subscription = request;
                Event::TopicFound(TopicOffer {
                    subscription,
                    lane,
                    subject,
                    policy,
                    from,
                    terms,
                    lineage,
                    slots,
                    region,
                    control,
                })
            }
            // The router says so of a topic before it gives its number. Of any other that is not open it was on its way
            // when that was closed here.
            FromRouter::ReaderExpected { lane, .. }
                if !self.publishing && !self.open.contains(&lane) =>
            {
                return Ok(());
            }
            FromRouter::ReaderExpected { lane, reader } => {
                self.groups.insert(lane);
                let changes = self.changes.entry(lane).or_default();
                if changes.len() >= READER_CHANGES_MAX {
                    return Err(ClientError::Protocol("more readers than can be kept"));
                }
                changes.push_back(ReaderChange::Expected { reader });
                return Ok(());
            }
            FromRouter::ReaderJoined { lane, reader } => {
                let [cursor, bell] = exactly(fds)?;
                if !self.open.contains(&lane) {
                    return Ok(());
                }
                self.change(lane, ReaderChange::Joined { reader, cursor, bell });
                return self.keep_event(Event::ReadersChanged { lane });
            }
            FromRouter::ReaderLeft { lane, .. } if !self.open.contains(&lane) => return Ok(()),
            FromRouter::ReaderLeft { lane, reader } => {
                self.change(lane, ReaderChange::Left { reader });
                return self.keep_event(Event::ReadersChanged { lane });
            }
            FromRouter::Draining => Event::Draining,
            FromRouter::Refused { request: 0, code, message } => {
                return Err(ClientError::Refused { code, message });
            }
            // A late answer to a request that was given up.
            _ => return Ok(()),
        };
        self.keep_event(event)
    }

    /// Closes and forgets all that was kept of a link or topic that is over.
    pub(super) fn forget(&mut self, lane: LaneId) {
        self.open.remove(&lane);
        self.doorbell.silence(lane);
        self.grants.retain(|(of, _), _| *of != lane);
        self.unwanted.retain(|(of, _)| *of != lane);
        self.changes.remove(&lane);
        self.groups.remove(&lane);
    }

    /// What was told of topics while one was being published, and is of none that is open.
    pub(super) fn forget_unpublished(&mut self) {
        self.publishing = false;
        let open = &self.open;
        self.changes.retain(|lane, _| open.contains(lane));
        self.groups.retain(|lane| open.contains(lane));
    }

    /// Whether what a link granted earlier is still being closed, so much that no more is taken from it.
    fn closes_slowly(&self, lane: LaneId) -> bool {
        let closer = self.closer.as_ref();
        closer.is_some_and(|closer| closer.count_of(lane.0) >= CLOSING_PER_PEER_MAX)
    }

    fn keep_event(&mut self, event: Event) -> Result<(), ClientError> {
        // Once for a topic is enough: readers that come and go do not fill the queue of a writer that asks for no events.
        let is_told = matches!(&event, Event::ReadersChanged { lane } if self.events.iter().any(
            |kept| matches!(kept, Event::ReadersChanged { lane: told } if told == lane),
        ));
        if is_told {
            return Ok(());
        }
        if self.events.len() >= EVENTS_MAX {
            return Err(ClientError::Protocol("more events than can be kept"));
        }
        self.events.push_back(event);
        Ok(())
    }

    /// Closes what a link granted longest ago where it, or all together, hold too much: numbers grow with every grant.
    fn make_room_for_grant(&mut self, lane: LaneId) -> bool {
        if self.grants_of(lane) >= GRANTS_PER_LINK_MAX {
            self.drop_oldest_grant(lane);
        }
        if self.grants.len() < GRANTS_HELD_MAX {
            return true;
        }
        let largest = self.grants.keys().map(|(of, _)| *of).max_by_key(|of| self.grants_of(*of));
        match largest {
            Some(largest) if self.grants_of(largest) > 1 => {
                self.drop_oldest_grant(largest);
                true
            }
            _ => false,
        }
    }

    fn grants_of(&self, lane: LaneId) -> usize {
        self.grants.range(grants_range(lane)).count()
    }

    fn drop_oldest_grant(&mut self, lane: LaneId) {
        let oldest = self.grants.range(grants_range(lane)).next().map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.grants.remove(&oldest);
        }
    }

    pub(super) fn change(&mut self, lane: LaneId, change: ReaderChange) {
        let changes = self.changes.entry(lane).or_default();
        // One that comes and goes while nobody asks leaves nothing, so what is kept is bounded by the readers that there are;
        // unless the publisher was told before to expect it, as are all of a group's: it is not to wait for ever.
        let is_undone = match &change {
            ReaderChange::Left { reader } => {
                let was_expected = take_out(
                    changes,
                    |made| matches!(made, ReaderChange::Expected { reader: awaited } if awaited == reader),
                );
                let had_joined = take_out(
                    changes,
                    |made| matches!(made, ReaderChange::Joined { reader: joined, .. } if joined == reader),
                );
                let is_told = changes.iter().any(
                    |made| matches!(made, ReaderChange::Left { reader: left } if left == reader),
                );
                was_expected || had_joined && (is_told || !self.groups.contains(&lane))
            }
            ReaderChange::Expected { .. } | ReaderChange::Joined { .. } => false,
        };
        if !is_undone {
            changes.push_back(change);
        }
    }
}

/// Whether there was such a change; it is gone then.
fn take_out(changes: &mut VecDeque<ReaderChange>, is_it: impl Fn(&ReaderChange) -> bool) -> bool {
    let found = changes.iter().position(is_it);
    found.is_some_and(|index| changes.remove(index).is_some())
}

fn grants_range(lane: LaneId) -> std::ops::RangeInclusive<(LaneId, GrantId)> {
    (lane, GrantId(0))..=(lane, GrantId(u64::MAX))
}

fn is_hangup(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

pub(super) fn exactly<const N: usize>(
    descriptors: Vec<OwnedFd>,
) -> Result<[OwnedFd; N], ClientError> {
    let wrong = ClientError::Protocol("a wrong number of descriptors");
    descriptors.try_into().map_err(|_| wrong)
}

pub(super) fn answer_deadline() -> Instant {
    Instant::now() + Duration::from_millis(ROUTER_ANSWER_MS)
}

/// Whether one of the descriptors is ready before the deadline.
pub(super) fn sleep(
    polled: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> Result<bool, ClientError> {
    loop {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(polled, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
    }
}
