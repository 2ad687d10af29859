//! The descriptors that came with a message: checked before anybody else sees them, passed on by
//! the part they play.
//!
//! The daemon writes control pages and its directory, and nothing else that it shares. Of slots it
//! maps the header for reading and of cursors the whole, to count; rings, regions and bells pass
//! through unmapped. Not here: what is counted (`held`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc::class::Class;
use ipc::closer::Foreign;
use ipc::control::ToRouter;
use ipc::segment::{ControlWriter, CursorWatch, SegmentError, SlotsWatch, check_region};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::daemon::quota::{Held, Share};
use crate::daemon::router::Carry;

/// Why descriptors are not passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfitError {
    /// A segment is not what its place calls for.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The last descriptor is not a doorbell.
    #[error("the doorbell is not a Unix packet socket")]
    Doorbell,
    /// More memory than the agent may have in use.
    #[error("{0}")]
    Limit(String),
    /// The sender's process, which goes along with its ring, cannot be named.
    #[error("the process of the ring cannot be named")]
    Process(#[source] std::io::Error),
    /// A segment that was checked has no size.
    #[error("a segment cannot be asked for its size")]
    Size(#[source] std::io::Error),
    /// The message carries another number of descriptors.
    #[error("wrong number of descriptors")]
    Count,
}

impl UnfitError {
    /// The code of the refusal.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Limit(_) => "limit:bytes",
            // The fault is here and not the sender's.
            Self::Segment(SegmentError::System { source, .. })
            | Self::Process(source)
            | Self::Size(source)
                if is_full(source) =>
            {
                "limit:open_files"
            }
            _ => "bad-segment",
        }
    }
}

/// The descriptors of one message.
#[derive(Debug)]
pub(crate) struct Segments {
    slots: Option<Foreign>,
    watch: Option<Arc<SlotsWatch>>,
    cursor: Option<Foreign>,
    reader: Option<Arc<CursorWatch>>,
    region: Option<Foreign>,
    /// Shared with the open link, where it is its socket.
    bell: Option<Arc<Foreign>>,
    /// Whatever travels alone: what a peer granted, or the directory.
    granted: Option<Foreign>,
    control: Option<Arc<ControlWriter>>,
    /// Of whoever has a ring: its process.
    process: Option<OwnedFd>,
    /// What the segments take of their maker's share, as long as they or a lane with them is there.
    held: Option<Arc<Held>>,
}

impl Segments {
    /// Checks what came with `message`; nothing for kinds that carry nothing. The number was
    /// compared before.
    pub(crate) fn check(
        message: &ToRouter,
        descriptors: Vec<Foreign>,
        share: &Arc<Share>,
        process: impl FnOnce() -> std::io::Result<OwnedFd>,
    ) -> Result<Option<Self>, UnfitError> {
        let mut rest = descriptors.into_iter();
        let mut next = || rest.next().ok_or(UnfitError::Count);
        let mut segments = Self::none();
        match message {
            ToRouter::OpenLink { terms, .. }
            | ToRouter::OpenRoute { terms, .. }
            | ToRouter::AcceptLink { terms, .. } => {
                segments.take_slots(next()?)?;
                segments.take_cursor(next()?)?;
                segments.region = Some(checked(next()?, check_region)?);
                segments.bell = Some(Arc::new(checked_bell(next()?)?));
                // Also where the link may yet fall to that class.
                if terms.class == Class::High || terms.ring.is_some() {
                    segments.process = Some(process().map_err(UnfitError::Process)?);
                }
            }
            ToRouter::Publish { .. } => {
                segments.take_slots(next()?)?;
                segments.region = Some(checked(next()?, check_region)?);
            }
            ToRouter::JoinTopic { .. } => {
                segments.take_cursor(next()?)?;
                segments.bell = Some(Arc::new(checked_bell(next()?)?));
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
        let bytes = segments.bytes().map_err(UnfitError::Size)?;
        if bytes > 0 {
            segments.held = Some(Arc::new(share.take(bytes).map_err(UnfitError::Limit)?));
        }
        Ok(Some(segments))
    }

    /// What the sender's own segments take.
    fn bytes(&self) -> std::io::Result<u64> {
        let mut sum = 0u64;
        for segment in [&self.slots, &self.cursor, &self.region].into_iter().flatten() {
            let size = rustix::fs::fstat(segment)?.st_size;
            sum = sum.saturating_add(size.unsigned_abs());
        }
        Ok(sum)
    }

    fn none() -> Self {
        Self {
            slots: None,
            watch: None,
            cursor: None,
            reader: None,
            region: None,
            bell: None,
            granted: None,
            control: None,
            process: None,
            held: None,
        }
    }

    fn take_slots(&mut self, descriptor: Foreign) -> Result<(), SegmentError> {
        self.watch = Some(Arc::new(SlotsWatch::open(descriptor.as_fd())?));
        self.slots = Some(descriptor);
        Ok(())
    }

    fn take_cursor(&mut self, descriptor: Foreign) -> Result<(), SegmentError> {
        self.reader = Some(Arc::new(CursorWatch::open(descriptor.as_fd())?));
        self.cursor = Some(descriptor);
        Ok(())
    }

    /// A descriptor of the daemon's own, to be handed over as a granted one is.
    pub(crate) fn handed_over(descriptor: OwnedFd) -> Self {
        Self { granted: Some(Foreign::own(descriptor)), ..Self::none() }
    }

    /// The header of the slots that came.
    pub(super) fn watch(&self) -> Option<&Arc<SlotsWatch>> {
        self.watch.as_ref()
    }

    /// The cursor that came.
    pub(super) fn reader(&self) -> Option<&Arc<CursorWatch>> {
        self.reader.as_ref()
    }

    /// The control page that was made.
    pub(crate) fn control(&self) -> Option<&Arc<ControlWriter>> {
        self.control.as_ref()
    }

    /// Its part of the maker's share.
    pub(super) fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref()
    }

    /// Of an acceptor of class NORMAL: the opener's end of the pair.
    pub(super) fn socket(&self) -> Option<&Arc<Foreign>> {
        self.bell.as_ref()
    }

    fn control_fd(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_deref().map(AsFd::as_fd)
    }

    fn bell_fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_deref().map(AsFd::as_fd)
    }

    /// Slots, cursor, region, bell: one side of a link.
    fn side(&self) -> [Option<BorrowedFd<'_>>; 4] {
        let [slots, cursor, region] =
            [&self.slots, &self.cursor, &self.region].map(|one| one.as_ref().map(AsFd::as_fd));
        [slots, cursor, region, self.bell_fd()]
    }
}

/// Whether this process, or the machine, has no descriptors left.
fn is_full(error: &std::io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(Errno::MFILE.raw_os_error()) || number == Some(Errno::NFILE.raw_os_error())
}

fn checked(
    descriptor: Foreign,
    check: fn(BorrowedFd<'_>) -> Result<(), SegmentError>,
) -> Result<Foreign, UnfitError> {
    check(descriptor.as_fd())?;
    Ok(descriptor)
}

fn checked_bell(descriptor: Foreign) -> Result<Foreign, UnfitError> {
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
            vec![reader.cursor.as_ref().map(AsFd::as_fd), reader.bell_fd()]
        }
    };
    found.into_iter().flatten().collect()
}

fn with_control<'a>(side: &'a Segments, control: &'a Segments) -> Vec<Option<BorrowedFd<'a>>> {
    let mut all = side.side().to_vec();
    all.push(control.control_fd());
    all.push(side.process.as_ref().map(AsFd::as_fd));
    all
}

#[cfg(test)]
mod tests {
    use ipc::control::Terms;
    use ipc::doorbell::Doorbell;
    use ipc::lane::{LaneOptions, Receiver, Sender};
    use ipc::wait::Spin;

    use super::*;
    use crate::daemon::quota::{Limit, SetBy};

    /// How many descriptors travel with an offer of what is asked for in these terms.
    fn offered(terms: Terms) -> usize {
        let sender = Sender::for_link(LaneOptions::default()).unwrap();
        let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
        let (bell, _ear) = Doorbell::new().unwrap().ringer_for_peer().unwrap();
        let message = ToRouter::OpenLink { request: 1, target: "two".to_owned(), terms };
        let sent = [sender.slots_fd(), cursor.as_fd(), sender.region_fd(), bell.as_fd()];
        let sent = sent.map(|one| Foreign::own(one.try_clone_to_owned().unwrap())).into();
        let process = || Ok(Doorbell::new()?.ringer_for_peer()?.0);
        let share = Share::new(Limit { value: u64::MAX, set_by: SetBy::BuiltIn });
        let segments = Segments::check(&message, sent, &share, process).unwrap().unwrap();
        descriptors(&Carry::Offer(Arc::new(segments))).len()
    }

    #[test]
    fn the_process_goes_along_wherever_the_link_may_become_one_of_rings() {
        assert_eq!(offered(Terms::wanted(Class::Critical)), 5);
        assert_eq!(offered(Terms { ring: Some(3), ..Terms::wanted(Class::High) }), 6);
        // Where the router forbids critical links it falls to HIGH, whose offer names a ring.
        assert_eq!(offered(Terms { ring: Some(3), ..Terms::wanted(Class::Critical) }), 6);
    }
}
