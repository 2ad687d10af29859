//! How a link comes to be: what each side prepares, the class on which both agree, and the halves that are built from what
//! came.
//!
//! Both sides always make slots, cursor and region. Of class HIGH each also has a ring, whose number travels in the terms;
//! of class NORMAL the acceptor makes a pair of sockets, and slots and cursor are only counted in. Not here: messages on
//! links (`link`), and what the classes are (`class`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::exchange::exactly;
use super::{Client, ClientError, Event, Offer, UNFIT, unexpected};
use crate::class::{
    AnyReceiver, AnySender, Class, ClassSet, ReceivingHalf, high, normal, one_line,
};
use crate::closer::{Closer, Foreign};
use crate::control::{AgentInfo, FromRouter, NoClass, Terms, ToRouter};
use crate::doorbell::{Bell, Doorbell, Ear};
use crate::fault;
use crate::header::LaneId;
use crate::lane::{AttachError, LaneOptions, Receiver, Sender};
use crate::limits::{CLOSING_MAX, REGION_BYTES_MIN, SLOTS_MIN};
use crate::link::Link;
use crate::segment::{Control, Cursor};
use crate::uring::{Inbox, Outbox, RingNumber};
use crate::wait::Spin;

/// How a link is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// How its messages are to travel. Where that cannot be had, the link falls one class down, and [`Link::terms`] says why.
    pub class: Class,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { class: crate::class::RECOMMENDED }
    }
}

/// The own side of a link, before the other one is there.
#[derive(Debug)]
pub(super) struct OwnSide {
    sender: Sender,
    cursor: Cursor,
    /// Of class HIGH.
    inbox: Option<Inbox>,
    /// Where the peer's bell is heard, of a class that needs one.
    ear: Option<Ear>,
}

/// The descriptors of the other side of a link.
#[derive(Debug)]
pub(super) struct PeerSide {
    slots: OwnedFd,
    cursor: OwnedFd,
    region: OwnedFd,
    /// Or the opener's end of the pair of sockets. Of all these the only one that the router cannot know to close at once.
    bell: Foreign,
    control: OwnedFd,
    /// Of class HIGH: the peer's process.
    process: Option<OwnedFd>,
}

/// What connects the two sides besides their segments.
#[derive(Debug)]
pub(super) enum Way {
    /// The peer's doorbell, which came with its segments.
    Bell,
    /// The peer's ring.
    Ring(Box<Outbox>),
    /// The own end of a pair of sockets.
    Socket(OwnedFd),
}

impl Client {
    /// Opens a link to an agent by name, or to one that answers a tool.
    pub fn open(&mut self, target: &str) -> Result<Link, ClientError> {
        self.open_link(target, LinkOptions::default())
    }

    /// Opens a link of a class of its own. Falls one class down, as often as it must, where the class cannot be had.
    pub fn open_link(&mut self, target: &str, options: LinkOptions) -> Result<Link, ClientError> {
        let mut terms = Terms::wanted(options.class);
        // Ends: each turn that does not return has gone one class down.
        loop {
            let mut own = self.prepare(&mut terms)?;
            let request = self.request_number();
            let target = target.to_owned();
            let asked = ToRouter::OpenLink { request, target, terms: terms.clone() };
            self.send_side(&asked, &mut own)?;
            fault::point("client.open-sent");
            let (lane, peer, agreed, side) = match self.answer(request)? {
                (FromRouter::LinkReady { lane, peer, terms, .. }, descriptors) => {
                    let side =
                        PeerSide::from_descriptors(descriptors, (lane, self.closer.as_ref()))?;
                    (lane, peer, terms, side)
                }
                (other, _) => return Err(unexpected(other)),
            };
            fault::point("client.open-answered");
            self.open.insert(lane);
            let way = match agreed.class {
                Class::High => match side.ring(agreed.ring) {
                    Ok(outbox) => Way::Ring(Box::new(outbox)),
                    Err(ClientError::Unavailable(why)) => {
                        // The peer's ring is out of reach, which the peer cannot know.
                        terms = agreed;
                        let why = one_line(&why);
                        self.decline(lane, &why)?;
                        fall(&mut terms, &why)?;
                        continue;
                    }
                    Err(error) => return Err(self.given_up(lane, error)),
                },
                _ => Way::Bell,
            };
            let link = own.meet((lane, peer, agreed), side, way, &self.doorbell);
            return link.map_err(|error| self.given_up(lane, error));
        }
    }

    /// Opens a link to the same peer by its name, as the earlier one was wanted: after a restart of the peer, or an end of
    /// another kind. Its epoch is a greater one; nothing of the earlier link passes on.
    pub fn reopen(&mut self, earlier: &Link) -> Result<Link, ClientError> {
        let class = earlier.terms().wanted;
        self.open_link(&earlier.peer().manifest.name, LinkOptions { class })
    }

    /// Asks for the second half of a route, without waiting: [`super::Event::RouteReady`] or [`super::Event::RouteRefused`]
    /// follows, with the number that this returns. Only the exchange may.
    pub fn open_route(&mut self, first: LaneId) -> Result<u32, ClientError> {
        let mut terms = Terms::wanted(crate::class::RECOMMENDED);
        let mut own = self.prepare(&mut terms)?;
        let request = self.request_number();
        let asked = ToRouter::OpenRoute { request, first, terms };
        self.send_side(&asked, &mut own)?;
        self.routes.insert(request, own);
        Ok(request)
    }

    /// The second half of a route is there. Where it is no good the route is refused, and nothing else ends.
    pub(super) fn meet_route(
        &mut self,
        request: u32,
        own: OwnSide,
        (lane, peer, terms): (LaneId, AgentInfo, Terms),
        descriptors: Vec<OwnedFd>,
    ) -> Result<Event, ClientError> {
        match self.try_meet_route(own, (lane, peer, terms), descriptors) {
            Ok(link) => {
                self.open.insert(lane);
                Ok(Event::RouteReady { request, link: Box::new(link) })
            }
            Err(error) => {
                let (code, message) = ("no-class".to_owned(), one_line(&error));
                self.decline(lane, UNFIT)?;
                Ok(Event::RouteRefused { request, code, message })
            }
        }
    }

    fn try_meet_route(
        &self,
        own: OwnSide,
        (lane, peer, terms): (LaneId, AgentInfo, Terms),
        descriptors: Vec<OwnedFd>,
    ) -> Result<Link, ClientError> {
        let side = PeerSide::from_descriptors(descriptors, (lane, self.closer.as_ref()))?;
        let way = match terms.class {
            Class::High => Way::Ring(Box::new(side.ring(terms.ring)?)),
            _ => Way::Bell,
        };
        own.meet((lane, peer, terms), side, way, &self.doorbell)
    }

    /// Accepts a link that was offered, of the class of the offer or one further down.
    pub fn accept(&mut self, offer: Offer) -> Result<Link, ClientError> {
        let lane = offer.lane;
        let accepted = if self.closer.as_ref().is_some_and(|closer| closer.count() >= CLOSING_MAX) {
            // Whoever it was that granted what does not close may come again.
            let text = "descriptors that peers granted do not close";
            Err(ClientError::Io(std::io::Error::other(text)))
        } else {
            self.try_accept(offer)
        };
        if let Err(error) = &accepted
            && !matches!(error, ClientError::RouterGone)
        {
            // Whoever wants the link would wait for it otherwise.
            self.decline(lane, UNFIT)?;
        }
        accepted
    }

    fn try_accept(&mut self, offer: Offer) -> Result<Link, ClientError> {
        let Offer { lane, from, mut terms, side } = offer;
        let theirs = terms.ring;
        // Ends: each turn that does not break has gone one class down.
        let (own, way, bell) = loop {
            let mut own = self.prepare(&mut terms)?;
            match terms.class {
                Class::High => match side.ring(theirs) {
                    Ok(outbox) => {
                        let (bell, ear) = self.doorbell.ringer_for_peer()?;
                        own.ear = Some(ear);
                        break (own, Way::Ring(Box::new(outbox)), bell);
                    }
                    Err(ClientError::Unavailable(why)) => fall(&mut terms, &one_line(&why))?,
                    Err(error) => return Err(error),
                },
                Class::Normal => {
                    let (here, there) = normal::pair()?;
                    break (own, Way::Socket(here), there);
                }
                _ => {
                    let (bell, ear) = self.doorbell.ringer_for_peer()?;
                    own.ear = Some(ear);
                    break (own, Way::Bell, bell);
                }
            }
        };
        let packet = ToRouter::AcceptLink { lane, terms: terms.clone() }.encode()?;
        let descriptors = own.copies(bell)?;
        // The peer's segments are checked before anybody hears of an acceptance.
        let link = own.meet((lane, from, terms), side, way, &self.doorbell)?;
        fault::point("client.offer-mapped");
        self.send_packet(&packet, &descriptors.each_ref().map(AsFd::as_fd))?;
        fault::point("client.accept-sent");
        self.open.insert(lane);
        Ok(link)
    }

    /// Makes the own side of a link, of the class of the terms or the first one further down that can be had here.
    fn prepare(&mut self, terms: &mut Terms) -> Result<OwnSide, ClientError> {
        terms.ring = None;
        loop {
            if terms.settle(|class| self.objection(class)).is_err() {
                return Err(no_class(terms));
            }
            let inbox = match terms.class {
                Class::High => match Inbox::new() {
                    Ok(inbox) => Some(inbox),
                    Err(why) => {
                        fall(terms, &one_line(&why))?;
                        continue;
                    }
                },
                _ => None,
            };
            terms.ring = inbox.as_ref().map(|inbox| inbox.number().0);
            let sender = match terms.class {
                // Nothing travels through them.
                Class::Normal => Sender::for_link(LaneOptions {
                    slots: SLOTS_MIN,
                    region_bytes: REGION_BYTES_MIN,
                })?,
                _ => match self.spare.take() {
                    Some(sender) => sender,
                    None => Sender::for_link(self.options)?,
                },
            };
            let cursor = Receiver::new_cursor(Spin::Adaptive)?;
            return Ok(OwnSide { sender, cursor, inbox, ear: None });
        }
    }

    /// Why a class is not to be had, as far as that is known without trying.
    fn objection(&self, class: Class) -> Option<String> {
        let why = if !ClassSet::LINKS.has(class) {
            "it carries no links"
        } else if !self.classes().has(class) {
            "the router does not allow it"
        } else if !self.own_classes.has(class) {
            "this program does without it"
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    fn send_side(&self, message: &ToRouter, own: &mut OwnSide) -> Result<(), ClientError> {
        let (bell, ear) = self.doorbell.ringer_for_peer()?;
        own.ear = Some(ear);
        let [slots, cursor, region] = own.descriptors();
        self.send(message, &[slots, cursor, region, bell.as_fd()])
    }

    /// A link that the other side believes in is closed.
    pub(super) fn given_up(&mut self, lane: LaneId, error: ClientError) -> ClientError {
        match self.decline(lane, UNFIT) {
            Err(gone @ ClientError::RouterGone) => gone,
            _ => error,
        }
    }
}

impl OwnSide {
    fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.sender.slots_fd(), self.cursor.as_fd(), self.sender.region_fd()]
    }

    fn copies(&self, bell: OwnedFd) -> Result<[OwnedFd; 4], ClientError> {
        let [slots, cursor, region] = self.descriptors();
        Ok([
            slots.try_clone_to_owned()?,
            cursor.try_clone_to_owned()?,
            region.try_clone_to_owned()?,
            bell,
        ])
    }

    /// Builds the halves. Who has no socket of its own has the peer's, in the place of the bell.
    fn meet(
        self,
        (lane, peer, terms): (LaneId, AgentInfo, Terms),
        side: PeerSide,
        way: Way,
        doorbell: &Doorbell,
    ) -> Result<Link, ClientError> {
        let Self { mut sender, cursor, inbox, ear } = self;
        // A socket tells of messages and of room by itself; a ring tells of messages only.
        let ear = ear.filter(|_| terms.class != Class::Normal);
        if let Some(ear) = &ear {
            ear.tie(lane);
        }
        let (id, control) = (peer.id, side.control);
        let page = Control::open(control.try_clone()?)?;
        let epoch = page.epoch();
        let (sender, receiver) = match (terms.class, way, inbox) {
            (Class::High, Way::Ring(outbox), Some(inbox)) => {
                sender.set_control(control.try_clone()?)?;
                let sender = high::Sender::with_outbox(sender, id, side.cursor, *outbox)?;
                let mailbox = high::Mailbox::from_parts(inbox, cursor);
                let (slots, region) = (side.slots, side.region);
                let mut receiver = high::Receiver::new(id, slots, region, control, mailbox)?;
                receiver.set_bell(Bell::from_foreign(side.bell)?);
                (AnySender::High(Box::new(sender)), AnyReceiver::High(Box::new(receiver)))
            }
            (Class::Normal, way, _) => {
                let socket = match way {
                    Way::Socket(socket) => Foreign::own(socket),
                    Way::Bell | Way::Ring(_) => side.bell,
                };
                let writing = normal::WriterPage { slots: sender.into_slots(), control: page };
                let sender = normal::Sender::for_link(socket.try_clone()?, writing)?;
                let reading = normal::ReaderPage { cursor, control: Control::open(control)? };
                let receiver = normal::Receiver::for_link(id, socket, reading)?;
                (AnySender::Normal(Box::new(sender)), AnyReceiver::Normal(Box::new(receiver)))
            }
            (Class::Critical, Way::Bell, _) => {
                sender.set_control(control.try_clone()?)?;
                let bell = Bell::from_foreign(side.bell).map_err(AttachError::from)?;
                sender.attach_with(id, side.cursor, Some(bell))?;
                let (slots, region) = (side.slots, side.region);
                let mut receiver = Receiver::for_link(id, slots, region, control, cursor)?;
                // The peer reads and writes, so its one bell tells it of messages and of room.
                if let Some(bell) = sender.reader_bell() {
                    receiver.set_bell(bell);
                }
                (AnySender::Critical(Box::new(sender)), AnyReceiver::Critical(Box::new(receiver)))
            }
            _ => return Err(ClientError::Protocol("a link of a class that was not asked for")),
        };
        if let Some(descriptor) = receiver.descriptor() {
            doorbell.watch(descriptor)?;
        }
        Ok(Link::new((lane, ear), peer, (terms, epoch), sender, receiver))
    }
}

impl PeerSide {
    pub(super) fn from_descriptors(
        mut descriptors: Vec<OwnedFd>,
        (lane, closer): (LaneId, Option<&Closer>),
    ) -> Result<Self, ClientError> {
        let process = if descriptors.len() > 5 { descriptors.pop() } else { None };
        let [slots, cursor, region, bell, control] = exactly(descriptors)?;
        let bell = Foreign::new(bell, closer, lane.0);
        Ok(Self { slots, cursor, region, bell, control, process })
    }

    /// The way into the peer's ring.
    fn ring(&self, number: Option<u32>) -> Result<Outbox, ClientError> {
        let (Some(process), Some(number)) = (&self.process, number) else {
            return Err(ClientError::Protocol("a link of class HIGH without a ring"));
        };
        Ok(Outbox::connect(process.as_fd(), RingNumber(number))?)
    }
}

fn fall(terms: &mut Terms, why: &str) -> Result<(), ClientError> {
    terms.fall(why).map_err(|NoClass| no_class(terms))
}

fn no_class(terms: &Terms) -> ClientError {
    ClientError::NoClass { wanted: terms.wanted, reason: terms.reason.clone() }
}
