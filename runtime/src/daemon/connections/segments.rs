//! The descriptors that came with a message: checked before anybody else sees them, passed on by
//! the part they play, and of open lanes only what counting and closing need.
//!
//! The daemon writes control pages and nothing else that it shares. Of the slots it maps the header
//! for reading, to count; rings, cursors, regions and bells pass through unmapped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc::control::ToRouter;
use ipc::segment::{
    ControlWriter, LaneState, SegmentError, SlotsWatch, check_cursor, check_region,
};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::daemon::router::{Carry, Ending};

/// Why descriptors are not passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfitError {
    /// A segment is not what its place calls for.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The last descriptor is not a doorbell.
    #[error("the doorbell is not a Unix packet socket")]
    Doorbell,
    /// The message carries another number of descriptors.
    #[error("wrong number of descriptors")]
    Count,
}

/// The descriptors of one message.
#[derive(Debug)]
pub(crate) struct Segments {
    slots: Option<OwnedFd>,
    watch: Option<Arc<SlotsWatch>>,
    cursor: Option<OwnedFd>,
    region: Option<OwnedFd>,
    bell: Option<OwnedFd>,
    granted: Option<OwnedFd>,
    control: Option<Arc<ControlWriter>>,
}

/// An open lane, or a link's two.
#[derive(Debug)]
pub(crate) struct HeldLane {
    control: Option<Arc<ControlWriter>>,
    writers: Vec<Counted>,
}

/// One writer's slots and the most it has ever shown: its memory is its own, a counter of ours
/// never sinks.
#[derive(Debug)]
struct Counted {
    slots: Arc<SlotsWatch>,
    shown: Carried,
}

/// What lanes carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Messages.
    pub(crate) messages: u64,
    /// Messages that were refused because a lane was full.
    pub(crate) rejected: u64,
}

impl Segments {
    /// Checks what came with `message`; nothing for kinds that carry nothing. The number was
    /// compared before.
    pub(crate) fn check(
        message: &ToRouter,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Self>, UnfitError> {
        let mut rest = descriptors.into_iter();
        let mut next = || rest.next().ok_or(UnfitError::Count);
        let mut segments = Self::none();
        match message {
            ToRouter::OpenLink { .. }
            | ToRouter::OpenRoute { .. }
            | ToRouter::AcceptLink { .. } => {
                segments.take_slots(next()?)?;
                segments.cursor = Some(checked(next()?, check_cursor)?);
                segments.region = Some(checked(next()?, check_region)?);
                segments.bell = Some(checked_bell(next()?)?);
            }
            ToRouter::Publish { .. } => {
                segments.take_slots(next()?)?;
                segments.region = Some(checked(next()?, check_region)?);
            }
            ToRouter::JoinTopic { .. } => {
                segments.cursor = Some(checked(next()?, check_cursor)?);
                segments.bell = Some(checked_bell(next()?)?);
            }
            // Whatever it is, it is for the peer to judge; the daemon only carries it.
            ToRouter::Grant { .. } => segments.granted = Some(next()?),
            _ => return Ok(None),
        }
        if matches!(
            message,
            ToRouter::OpenLink { .. } | ToRouter::OpenRoute { .. } | ToRouter::Publish { .. }
        ) {
            segments.control = Some(Arc::new(ControlWriter::create()?));
        }
        Ok(Some(segments))
    }

    fn none() -> Self {
        Self {
            slots: None,
            watch: None,
            cursor: None,
            region: None,
            bell: None,
            granted: None,
            control: None,
        }
    }

    fn take_slots(&mut self, descriptor: OwnedFd) -> Result<(), SegmentError> {
        self.watch = Some(Arc::new(SlotsWatch::open(descriptor.as_fd())?));
        self.slots = Some(descriptor);
        Ok(())
    }

    fn control_fd(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_deref().map(AsFd::as_fd)
    }

    /// Slots, cursor, region, bell: one side of a link.
    fn side(&self) -> [Option<BorrowedFd<'_>>; 4] {
        [&self.slots, &self.cursor, &self.region, &self.bell]
            .map(|one| one.as_ref().map(AsFd::as_fd))
    }
}

fn checked(
    descriptor: OwnedFd,
    check: fn(BorrowedFd<'_>) -> Result<(), SegmentError>,
) -> Result<OwnedFd, UnfitError> {
    check(descriptor.as_fd())?;
    Ok(descriptor)
}

fn checked_bell(descriptor: OwnedFd) -> Result<OwnedFd, UnfitError> {
    let is_bell = sockopt::socket_domain(&descriptor) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&descriptor) == Ok(SocketType::SEQPACKET);
    is_bell.then_some(descriptor).ok_or(UnfitError::Doorbell)
}

/// What travels beside a message, in the order that `ipc::control` gives.
pub(crate) fn descriptors(carry: &Carry<Arc<Segments>>) -> Vec<BorrowedFd<'_>> {
    let found: Vec<Option<BorrowedFd<'_>>> = match carry {
        Carry::Nothing => Vec::new(),
        Carry::Offer(opener) => with_control(opener, opener),
        Carry::Ready { peer, own } => with_control(peer, own),
        Carry::Grant(granted) => vec![granted.granted.as_ref().map(AsFd::as_fd)],
        Carry::Control(topic) => vec![topic.control_fd()],
        Carry::Topic(topic) => {
            vec![
                topic.slots.as_ref().map(AsFd::as_fd),
                topic.region.as_ref().map(AsFd::as_fd),
                topic.control_fd(),
            ]
        }
        Carry::Reader(reader) => {
            [&reader.cursor, &reader.bell].map(|one| one.as_ref().map(AsFd::as_fd)).to_vec()
        }
    };
    found.into_iter().flatten().collect()
}

fn with_control<'a>(side: &'a Segments, control: &'a Segments) -> Vec<Option<BorrowedFd<'a>>> {
    let mut all = side.side().to_vec();
    all.push(control.control_fd());
    all
}

impl HeldLane {
    /// What is kept of a lane's segments while it is open.
    pub(crate) fn new(first: &Segments, second: Option<&Segments>) -> Self {
        let slots = [Some(first), second].into_iter().flatten().filter_map(|one| one.watch.clone());
        let counted = |slots| Counted { slots, shown: Carried::default() };
        Self { control: first.control.clone(), writers: slots.map(counted).collect() }
    }

    /// What it has carried so far.
    pub(crate) fn carried(&mut self) -> Carried {
        self.writers.iter_mut().map(Counted::read).fold(Carried::default(), Carried::plus)
    }

    /// Tells both sides, and whoever sleeps on the lane, that it is over.
    pub(crate) fn end(&self, ending: Ending) {
        self.set(match ending {
            Ending::Closed => LaneState::Closed,
            Ending::PeerGone => LaneState::PeerGone,
            Ending::Revoked => LaneState::Revoked,
        });
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

impl Counted {
    fn read(&mut self) -> Carried {
        let counters = self.slots.counters();
        self.shown.messages = self.shown.messages.max(counters.messages);
        self.shown.rejected = self.shown.rejected.max(counters.rejected);
        self.shown
    }
}

impl Carried {
    /// The sum, at most the largest number there is.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            rejected: self.rejected.saturating_add(other.rejected),
        }
    }
}
