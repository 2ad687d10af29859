//! What the daemon keeps of open lanes: their control pages, to close them, and the headers of their
//! writers and readers, to count.
//!
//! That memory is its owners'; every number is taken as it comes, and what was shown once never
//! sinks.

use std::collections::VecDeque;
use std::sync::Arc;

use ipc::closer::Foreign;
use ipc::directory::LaneEntry;
use ipc::header::{AgentId, Class, LaneId};
use ipc::histogram::Histogram;
use ipc::segment::{ControlWriter, CursorWatch, LaneCounters, LaneState, SlotsWatch};

use super::segments::Segments;
use crate::daemon::quota::Held;
use crate::daemon::router::Ending;
use crate::limits::LEFT_READERS_KEPT_MAX;

/// An open lane, or a link's two.
#[derive(Debug)]
pub(crate) struct HeldLane {
    control: Option<Arc<ControlWriter>>,
    class: Class,
    topic: bool,
    directions: Vec<Direction>,
    /// What readers that left a topic had counted.
    departed: Carried,
    /// Of class NORMAL: one end of the pair, by which both are cut.
    socket: Option<Arc<Foreign>>,
    /// What the segments take of their makers' shares.
    _shares: Vec<Arc<Held>>,
    /// Where they were, by name, the one that left first at the front; bounded.
    left: VecDeque<(String, u64)>,
}

/// One writer and those who read it.
#[derive(Debug)]
struct Direction {
    writer: AgentId,
    slots: Arc<SlotsWatch>,
    sent: LaneCounters,
    readers: Vec<HeldReader>,
    /// How many it has had.
    readers_count: u64,
}

#[derive(Debug)]
struct HeldReader {
    agent: AgentId,
    /// Of a topic's: for whoever comes after it.
    name: String,
    cursor: Arc<CursorWatch>,
    /// What the cursor takes of its maker's share; a link's is its side's.
    _share: Option<Arc<Held>>,
    position: u64,
    taken: u64,
    lost: u64,
    quarantined: bool,
    latency: Histogram,
}

/// What lanes carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Messages.
    pub(crate) messages: u64,
    /// Messages that were refused because a lane was full.
    pub(crate) rejected: u64,
    /// Positions that readers of topics lost.
    pub(crate) lost: u64,
    /// Bytes lent.
    pub(crate) bytes_lent: u64,
    /// How often a writer waited for room.
    pub(crate) waits: u64,
    /// How often one side found that the other broke the protocol: at most once for each writer and reader.
    pub(crate) quarantined: u64,
    /// One-way times.
    pub(crate) latency: Histogram,
}

/// What one agent had to do with a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Messages that it sent.
    pub(crate) sent: u64,
    /// Messages that it took.
    pub(crate) received: u64,
    /// Bytes that it lent.
    pub(crate) bytes_lent: u64,
}

impl HeldLane {
    /// What is kept of a lane's segments while it is open. `writers` are the opener and acceptor of a
    /// link, or the writer of a topic.
    pub(crate) fn new(
        class: Class,
        writers: (AgentId, Option<AgentId>),
        first: &Segments,
        second: Option<&Segments>,
    ) -> Self {
        let (opener, acceptor) = (writers.0, writers.1.unwrap_or_default());
        let mut directions = Vec::new();
        directions.extend(Direction::new(opener, first, second.map(|side| (acceptor, side))));
        if let Some(second) = second {
            directions.extend(Direction::new(acceptor, second, Some((opener, first))));
        }
        let control = first.control().cloned();
        let departed = Carried::default();
        let sides = [Some(first), second].into_iter().flatten();
        let _shares = sides.filter_map(|side| side.held().cloned()).collect();
        // The descriptor itself and no copy of it: where none is left, the two can still be cut.
        let socket = second.filter(|_| class == Class::Normal).and_then(Segments::socket);
        let socket = socket.cloned();
        let topic = second.is_none();
        let left = VecDeque::new();
        Self { control, class, topic, directions, departed, left, socket, _shares }
    }

    /// How its messages travel.
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Lanes that it is: two for a link.
    pub(crate) fn count(&self) -> usize {
        self.directions.len()
    }

    /// A reader joined a topic.
    pub(crate) fn join(&mut self, reader: AgentId, name: &str, segments: &Segments) {
        let Some(direction) = self.directions.first_mut() else { return };
        let held = HeldReader::new(reader, segments);
        direction.readers.extend(held.map(|held| HeldReader { name: name.to_owned(), ..held }));
        direction.readers_count += 1;
    }

    /// Where the reader of a topic that bore this name last was when it left.
    pub(crate) fn left_at(&self, name: &str) -> Option<u64> {
        self.left.iter().find(|(left, _)| left == name).map(|(_, position)| *position)
    }

    /// A reader left a topic. What it took is given back, for its agent's own count.
    pub(crate) fn leave(&mut self, reader: AgentId) -> Traffic {
        let mut traffic = Traffic::default();
        for direction in &mut self.directions {
            direction.readers.retain_mut(|held| {
                if held.agent != reader {
                    return true;
                }
                held.refresh();
                traffic.received = traffic.received.saturating_add(held.taken);
                self.departed.lost = self.departed.lost.saturating_add(held.lost);
                self.departed.latency.add(&held.latency);
                let broken = u64::from(held.quarantined);
                self.departed.quarantined = self.departed.quarantined.saturating_add(broken);
                self.left.retain(|(name, _)| *name != held.name);
                if self.left.len() >= LEFT_READERS_KEPT_MAX {
                    self.left.pop_front();
                }
                self.left.push_back((held.name.clone(), held.position));
                false
            });
        }
        traffic
    }

    /// Looks at all its memory, once.
    pub(crate) fn refresh(&mut self) {
        for direction in &mut self.directions {
            direction.refresh();
        }
    }

    /// What it has carried, as of the last look.
    pub(crate) fn carried(&self) -> Carried {
        let mut sum = self.departed.clone();
        for Direction { sent, readers, readers_count, .. } in &self.directions {
            sum.messages = sum.messages.saturating_add(sent.messages);
            sum.rejected = sum.rejected.saturating_add(sent.rejected);
            sum.bytes_lent = sum.bytes_lent.saturating_add(sent.bytes_lent);
            sum.waits = sum.waits.saturating_add(sent.waits);
            // A writer that scribbles in its own count is believed for no more than there can be.
            let broken = u64::from(sent.quarantined).min(*readers_count);
            sum.quarantined = sum.quarantined.saturating_add(broken);
            for reader in readers {
                sum.quarantined = sum.quarantined.saturating_add(reader.quarantined.into());
                sum.lost = sum.lost.saturating_add(reader.lost);
                sum.latency.add(&reader.latency);
            }
        }
        sum
    }

    /// What each agent had to do with it, as of the last look; an agent may come twice.
    pub(crate) fn traffic(&self) -> impl Iterator<Item = (AgentId, Traffic)> {
        self.directions.iter().flat_map(|direction| {
            let (sent, bytes_lent) = (direction.sent.messages, direction.sent.bytes_lent);
            let written = (direction.writer, Traffic { sent, received: 0, bytes_lent });
            let read = direction.readers.iter().map(|reader| {
                (reader.agent, Traffic { received: reader.taken, ..Traffic::default() })
            });
            std::iter::once(written).chain(read)
        })
    }

    /// What its writer has counted; of a link, its opener.
    pub(crate) fn sent(&self) -> LaneCounters {
        self.directions.first().map(|direction| direction.sent).unwrap_or_default()
    }

    /// Its rows in the directory, as of the last look.
    pub(crate) fn rows(&self, lane: LaneId) -> impl Iterator<Item = LaneEntry> {
        self.directions.iter().flat_map(move |direction| {
            direction.readers.iter().map(move |reader| {
                let (sent, times) = (direction.sent, &reader.latency);
                let quantile = |share| times.quantile_ns(share).unwrap_or(0);
                LaneEntry {
                    lane,
                    class: self.class as u8,
                    topic: self.topic,
                    from: direction.writer,
                    to: reader.agent,
                    messages: sent.messages,
                    bytes_lent: sent.bytes_lent,
                    rejected: sent.rejected,
                    waits: sent.waits,
                    received: reader.taken,
                    lost: reader.lost,
                    depth: direction.depth(reader),
                    // A socket has none; the segment is there to count in.
                    slots: if self.class == Class::Normal {
                        0
                    } else {
                        direction.slots.slots() as u32
                    },
                    timed: times.count(),
                    p50_ns: quantile(0.5),
                    p99_ns: quantile(0.99),
                    p999_ns: quantile(0.999),
                }
            })
        })
    }

    /// Lines between writers and readers, as of the last look.
    pub(crate) fn depth(&self) -> u64 {
        let depths = self.directions.iter().flat_map(|direction| {
            direction.readers.iter().map(|reader| u64::from(direction.depth(reader)))
        });
        depths.fold(0, u64::saturating_add)
    }

    /// Tells both sides, and whoever sleeps on the lane, that it is over.
    pub(crate) fn end(&self, ending: Ending) {
        self.set(state_of(ending));
        // After the page, so that whoever meets the cut finds there why.
        if let Some(socket) = &self.socket {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }

    /// Tells both sides that nothing new is to be begun.
    pub(crate) fn drain(&self) {
        self.set(LaneState::Draining);
    }

    fn set(&self, state: LaneState) {
        if let Some(control) = &self.control {
            control.set(state);
        }
    }
}

impl Direction {
    fn new(writer: AgentId, own: &Segments, reader: Option<(AgentId, &Segments)>) -> Option<Self> {
        let slots = Arc::clone(own.watch()?);
        let readers = reader.and_then(|(agent, side)| HeldReader::new(agent, side));
        let readers: Vec<HeldReader> = readers.into_iter().collect();
        let (sent, readers_count) = (LaneCounters::default(), readers.len() as u64);
        Some(Self { writer, slots, sent, readers, readers_count })
    }

    fn refresh(&mut self) {
        let (now, sent) = (self.slots.counters(), &mut self.sent);
        sent.messages = sent.messages.max(now.messages);
        sent.rejected = sent.rejected.max(now.rejected);
        sent.bytes_lent = sent.bytes_lent.max(now.bytes_lent);
        sent.waits = sent.waits.max(now.waits);
        sent.position = now.position;
        sent.quarantined = sent.quarantined.max(now.quarantined);
        self.readers.iter_mut().for_each(HeldReader::refresh);
    }

    /// At most the whole ring, whatever the two say.
    fn depth(&self, reader: &HeldReader) -> u32 {
        let slots = self.slots.slots() as u64;
        self.sent.position.saturating_sub(reader.position).min(slots) as u32
    }
}

impl HeldReader {
    fn new(agent: AgentId, side: &Segments) -> Option<Self> {
        let cursor = Arc::clone(side.reader()?);
        let latency = Histogram::default();
        let _share = side.held().cloned();
        let (name, position, taken, lost, quarantined) = (String::new(), 0, 0, 0, false);
        Some(Self { agent, name, cursor, _share, position, taken, lost, quarantined, latency })
    }

    fn refresh(&mut self) {
        let now = self.cursor.counters();
        self.position = now.position;
        self.taken = self.taken.max(now.messages);
        self.lost = self.lost.max(now.lost);
        self.quarantined |= now.quarantined;
        self.latency.raise_to(&now.latency);
    }
}

impl Carried {
    /// Adds, up to the largest number there is.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages = self.messages.saturating_add(other.messages);
        self.rejected = self.rejected.saturating_add(other.rejected);
        self.lost = self.lost.saturating_add(other.lost);
        self.bytes_lent = self.bytes_lent.saturating_add(other.bytes_lent);
        self.waits = self.waits.saturating_add(other.waits);
        self.quarantined = self.quarantined.saturating_add(other.quarantined);
        self.latency.add(&other.latency);
    }
}

impl Traffic {
    /// Adds, up to the largest number there is.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.bytes_lent = self.bytes_lent.saturating_add(other.bytes_lent);
    }
}

/// Tells whoever mapped the control page of an offer already that it came to nothing.
pub(crate) fn end_offer(segments: &Segments, ending: Ending) {
    if let Some(control) = segments.control() {
        control.set(state_of(ending));
    }
}

fn state_of(ending: Ending) -> LaneState {
    match ending {
        Ending::Closed => LaneState::Closed,
        Ending::PeerGone => LaneState::PeerGone,
        Ending::Revoked => LaneState::Revoked,
        Ending::Quarantined => LaneState::Quarantined,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use ipc::class::normal;
    use ipc::control::{Terms, ToRouter};
    use ipc::lane::{LaneOptions, Receiver, Sender};
    use ipc::wait::Spin;

    use super::*;
    use crate::daemon::quota::{Limit, SetBy, Share};

    #[test]
    fn a_socket_can_be_cut_without_a_descriptor_more() {
        let sender = Sender::for_link(LaneOptions::default()).unwrap();
        let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
        let (kept, given) = normal::pair().unwrap();
        let terms = Terms::wanted(Class::Normal);
        let message = ToRouter::AcceptLink { lane: LaneId(1), terms };
        let sent = [sender.slots_fd(), cursor.as_fd(), sender.region_fd(), given.as_fd()];
        let sent = sent.map(|one| Foreign::own(one.try_clone_to_owned().unwrap())).into();
        let share = Share::new(Limit { value: u64::MAX, set_by: SetBy::BuiltIn });
        let process = || Err(std::io::ErrorKind::Unsupported.into());
        let segments = Segments::check(&message, sent, &share, process).unwrap().unwrap();
        drop(given);
        let writers = (AgentId(1), Some(AgentId(2)));
        let held = HeldLane::new(Class::Normal, writers, &segments, Some(&segments));
        // One and the same: nothing had to be copied, so nothing can have failed.
        let own = held.socket.as_ref().unwrap().as_fd().as_raw_fd();
        assert_eq!(own, segments.socket().unwrap().as_fd().as_raw_fd());
        drop(segments);
        held.end(Ending::Revoked);
        let mut byte = [0];
        assert!(matches!(
            rustix::net::recv(&kept, &mut byte, rustix::net::RecvFlags::DONTWAIT),
            Ok((_, 0))
        ));
    }
}
