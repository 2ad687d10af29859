//! What programs call on topics: declaring, publishing, subscribing, joining, going on after a restart.
//!
//! Not here: groups (`groups`), and the lanes themselves (`topic`).

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Client, ClientError, TopicOffer, exactly, shortened, unexpected};
use crate::control::{FromRouter, SlowReaders, ToRouter};
use crate::fault;
use crate::lane::{Receiver, SendError, Sender, Start, WhenFull};
use crate::limits::{PUBLISH_SLICE_MS, SUCCESSORS_MAX};
use crate::topic::{Begin, Publisher, Subscriber, TopicOptions, is_group};
use crate::wait::Spin;

impl Client {
    /// Declares a topic: by a policy alone, or with all that [`TopicOptions`] has.
    pub fn publisher(
        &mut self,
        subject: &str,
        options: impl Into<TopicOptions>,
    ) -> Result<Publisher, ClientError> {
        let TopicOptions { policy, mut terms } = options.into();
        terms.history = terms.history.min(self.options.slots as u32 / 2);
        let mut sender = Sender::for_topic(self.options, policy)?;
        sender.set_history(terms.history);
        if let SlowReaders::LetGo { patience_ms } = terms.slow {
            sender.set_patience(Some(Duration::from_millis(patience_ms.into())));
        }
        let request = self.request_number();
        let message = ToRouter::Publish { request, subject: subject.to_owned(), policy, terms };
        self.send(&message, &[sender.slots_fd(), sender.region_fd()])?;
        fault::point("client.publish-sent");
        self.publishing = true;
        let published = self.answer(request);
        if let Ok((FromRouter::Published { lane, .. }, _)) = &published {
            self.open.insert(*lane);
        }
        self.forget_unpublished();
        match published? {
            (FromRouter::Published { lane, epoch, .. }, descriptors) => {
                let taken_up = exactly(descriptors)
                    .and_then(|[control]| sender.set_control(control).map_err(ClientError::from));
                if let Err(error) = taken_up {
                    return Err(self.given_up(lane, error));
                }
                Ok(Publisher::new(lane, epoch, subject.to_owned(), sender))
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Attaches readers of a topic that joined, forgets those that left, and tells the router of those that were let go of.
    /// Never waits.
    pub fn update(&mut self, publisher: &mut Publisher) -> Result<(), ClientError> {
        self.take_in_all()?;
        if let Some(changes) = self.changes.remove(&publisher.lane()) {
            publisher.apply(changes);
        }
        while let Some((reader, reason, why)) = publisher.next_dropped() {
            let (lane, reason) = (publisher.lane(), shortened(&reason));
            self.send(&ToRouter::DropReader { lane, reader, reason, why }, &[])?;
        }
        Ok(())
    }

    /// Publishes, and waits for room until the deadline; a reader that dies meanwhile is forgotten, so it cannot hold the
    /// writer back. Looks at the socket each time: where speed matters, `Publisher::publish` and [`Client::update`] now and
    /// then.
    pub fn publish(
        &mut self,
        publisher: &mut Publisher,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        self.publish_to(publisher, 0, payload, deadline)
    }

    /// The same for one reader alone, or for all (0).
    pub(super) fn publish_to(
        &mut self,
        publisher: &mut Publisher,
        reader: u32,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        loop {
            self.update(publisher)?;
            let slice = Instant::now() + Duration::from_millis(PUBLISH_SLICE_MS);
            let when = WhenFull::WaitUntil(slice.min(deadline));
            match publisher.publish_to(reader, payload, when) {
                Err(SendError::Full) if Instant::now() < deadline => {}
                result => return Ok(result?),
            }
        }
    }

    /// Wants every topic whose subject matches, present and future: they come as
    /// [`Event::TopicFound`](super::Event::TopicFound) with the number that this returns.
    pub fn subscribe(&mut self, pattern: &str) -> Result<u32, ClientError> {
        let request = self.request_number();
        self.send(&ToRouter::Subscribe { request, pattern: pattern.to_owned() }, &[])?;
        match self.answer(request)?.0 {
            FromRouter::Subscribed { .. } => Ok(request),
            other => Err(unexpected(other)),
        }
    }

    /// Takes a subscription back. Topics that no other subscription matches are left; what they still hold can be read.
    pub fn unsubscribe(&mut self, subscription: u32) -> Result<(), ClientError> {
        self.send(&ToRouter::Unsubscribe { subscription }, &[])
    }

    /// Takes up a topic: the last messages, where its writer keeps some for those who join, and all that come from now on.
    pub fn join(&mut self, offer: TopicOffer, spin: Spin) -> Result<Subscriber, ClientError> {
        self.join_from(offer, Begin::History, spin)
    }

    /// Takes up a topic at a place of one's choice.
    pub fn join_from(
        &mut self,
        offer: TopicOffer,
        begin: Begin,
        spin: Spin,
    ) -> Result<Subscriber, ClientError> {
        let start = match (begin, offer.lineage.resume) {
            (Begin::Live, _) => Start::Live,
            (Begin::Resume, Some(position)) => Start::At(position),
            (Begin::History | Begin::Resume, _) => Start::History,
        };
        self.take_up(offer, start, spin)
    }

    /// Takes up the topic of a writer that started again: `subscriber` reads what the one before still holds, then says that
    /// a new epoch begins, and goes on with the new one from its first message.
    ///
    /// # Errors
    /// `no-such-target` where the offer does not follow what the subscriber reads, or too many follow it already.
    pub fn follow(
        &mut self,
        subscriber: &mut Subscriber,
        offer: TopicOffer,
        spin: Spin,
    ) -> Result<(), ClientError> {
        let follows = offer.lineage.follows == Some(subscriber.last_lane());
        if !follows || subscriber.successors.len() >= SUCCESSORS_MAX {
            let message = format!("topic {} does not follow what is read", offer.lane.0);
            return Err(ClientError::Refused { code: "no-such-target".to_owned(), message });
        }
        let successor = self.take_up(offer, Start::At(0), spin)?;
        subscriber.successors.push_back(successor);
        Ok(())
    }

    fn take_up(
        &mut self,
        offer: TopicOffer,
        start: Start,
        spin: Spin,
    ) -> Result<Subscriber, ClientError> {
        let TopicOffer { lane, subject, policy, from, terms, lineage, slots, region, .. } = offer;
        let control = Some(offer.control);
        let receiver = Receiver::for_topic(from.id, slots, region, control, start, spin)?;
        let packet = ToRouter::JoinTopic { lane }.encode()?;
        let (bell, ear) = self.doorbell.ringer_for_peer()?;
        ear.tie(lane);
        self.send_packet(&packet, &[receiver.cursor_fd(), bell.as_fd()])?;
        fault::point("client.join-sent");
        let only_for = is_group(&subject).then_some(self.agent);
        let successors = VecDeque::new();
        let (epoch, mut receiver, _ear) = (lineage.epoch, receiver, Some(ear));
        receiver.commit();
        Ok(Subscriber {
            lane,
            subject,
            policy,
            terms,
            epoch,
            from,
            only_for,
            receiver,
            _ear,
            successors,
        })
    }
}
