//! What C calls on topics: one writer, any number of readers.
#![allow(unsafe_code, reason = "exported names")]

use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, MutexGuard};

use ipc::class::ReceivingHalf;
use ipc::lane::{ReceiveError, Receiver, WhenFull};
use ipc::ring::Violation;
use ipc::topic::{Publisher as BusPublisher, Subscriber as BusSubscriber};
use ipc::wait::Spin;

use crate::agents::AgentTexts;
use crate::border::{self, Place, deadline, given, moment, place, text_for_c};
use crate::client::{closable, tell_closed};
use crate::codes::{BOLIDE_BUSY, BOLIDE_LOST, BOLIDE_OK, BOLIDE_PLAIN, BOLIDE_READY};
use crate::events::policy_number;
use crate::family::{Family, Reads, ask, receive};
use crate::fault::{Fault, LastFault, enter, lock};
use crate::link::plain;
use crate::shapes::{Agent, Bytes, Message};

/// After so many messages the events that came with them are put where they are bounded.
const SENT_PER_SWEEP: u32 = 64;

/// The writing side of a topic. Opaque.
#[derive(Debug)]
pub struct Publisher {
    state: Mutex<Writing>,
    family: Family,
    lane: u32,
    last: LastFault,
}

/// The reading side of a topic. Opaque.
#[derive(Debug)]
pub struct Subscriber {
    state: Mutex<Reading>,
    family: Family,
    lane: u32,
    policy: i32,
    subject: CString,
    from: AgentTexts,
    last: LastFault,
}

#[derive(Debug)]
struct Writing {
    topic: BusPublisher,
    sent: u32,
}

#[derive(Debug)]
struct Reading {
    topic: BusSubscriber,
    spin: Spin,
    /// How the writer broke the protocol, which the router is told when the reader leaves.
    violation: Option<Violation>,
}

/// A subscriber of the right client, in use by a call that sleeps on it.
pub(crate) struct Held<'a>(MutexGuard<'a, Reading>);

impl Held<'_> {
    pub(crate) fn lane(&mut self) -> &mut Receiver {
        self.0.topic.raw()
    }
}

impl Publisher {
    pub(crate) fn new(topic: BusPublisher, family: Family) -> Self {
        let lane = topic.lane().0;
        let state = Mutex::new(Writing { topic, sent: 0 });
        Self { state, family, lane, last: LastFault::default() }
    }

    fn enter(
        publisher: Option<&Self>,
        work: impl FnOnce(&mut Writing, &Family) -> Result<(), Fault>,
    ) -> i32 {
        enter(publisher.map(|publisher| &publisher.last), || {
            let publisher = given(publisher, "publisher")?;
            let mut state = lock(&publisher.state)?;
            work(&mut state, &publisher.family)
        })
    }
}

impl Subscriber {
    pub(crate) fn new(topic: BusSubscriber, spin: Spin, family: Family) -> Self {
        Self {
            lane: topic.lane().0,
            policy: policy_number(topic.policy()),
            subject: text_for_c(topic.subject()),
            from: AgentTexts::new(topic.from()),
            state: Mutex::new(Reading { topic, spin, violation: None }),
            family,
            last: LastFault::default(),
        }
    }

    pub(crate) fn of_family(&self, family: &Family) -> Result<Held<'_>, Fault> {
        if !Arc::ptr_eq(&self.family, family) {
            return Err(Fault::argument("a subscriber of another client"));
        }
        let held = lock(&self.state)?;
        held.can_sleep()?;
        Ok(Held(held))
    }

    #[inline]
    fn enter(
        subscriber: Option<&Self>,
        work: impl FnOnce(&mut Reading, &Family) -> Result<(), Fault>,
    ) -> i32 {
        enter(subscriber.map(|subscriber| &subscriber.last), || {
            let subscriber = given(subscriber, "subscriber")?;
            let mut state = lock(&subscriber.state)?;
            let done = work(&mut state, &subscriber.family);
            if let Err(Fault { violation: Some(violation), .. }) = &done {
                state.violation = Some(*violation);
            }
            done
        })
    }
}

impl Reading {
    /// A reader whose cursor says that it never sleeps would never be woken.
    fn can_sleep(&self) -> Result<(), Fault> {
        if self.spin == Spin::Forever {
            return Err(Fault::argument("a subscriber that spins for ever cannot sleep"));
        }
        Ok(())
    }
}

impl Reads for Reading {
    type Found = Result<Message, u64>;

    #[inline]
    fn look(&mut self) -> Result<Option<Self::Found>, Fault> {
        match self.topic.raw().try_receive() {
            Ok(None) => Ok(None),
            Ok(Some(message)) => {
                let header = message.header;
                let found = plain(BOLIDE_PLAIN, message.payload);
                let time_ns = header.map_or(0, |header| header.time_ns);
                Ok(Some(Ok(Message { time_ns, ..found })))
            }
            Err(ReceiveError::Lost(lost)) => Ok(Some(Err(lost))),
            Err(error) => Err(error.into()),
        }
    }

    fn receiver(&mut self) -> &mut dyn ReceivingHalf {
        self.topic.raw()
    }

    fn spin(&self) -> Spin {
        self.spin
    }
}

/// Closes a topic and frees it; its readers are told. `publisher` may be NULL. With `BOLIDE_BUSY` nothing was closed.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_close(publisher: *mut Publisher) -> i32 {
    let Some(open) = border::closing(publisher) else { return BOLIDE_OK };
    let code = enter(Some(&open.last), || {
        let state = closable(&open.state)?;
        tell_closed(&open.family, state.topic.lane(), "closed", None)
    });
    if code != BOLIDE_BUSY {
        border::free(publisher);
    }
    code
}

/// What the last call on this publisher that failed had to say. Never NULL; valid until the next failure on it.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_error(publisher: Option<&Publisher>) -> *const c_char {
    publisher.map_or(c"`publisher` is NULL".as_ptr(), |publisher| publisher.last.text())
}

/// Which topic this is, as events name it; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_lane(publisher: Option<&Publisher>) -> u32 {
    publisher.map_or(0, |publisher| publisher.lane)
}

/// How many readers are attached.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_readers(
    publisher: Option<&Publisher>,
    count: Place<'_, usize>,
) -> i32 {
    Publisher::enter(publisher, |state, _| {
        place(count, "count")?.write(state.topic.readers());
        Ok(())
    })
}

/// Attaches readers that joined and forgets those that left. Never waits. After a `BOLIDE_READERS_CHANGED`, and now and
/// then where `bolide_publisher_try_send` is used.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_update(publisher: Option<&Publisher>) -> i32 {
    Publisher::enter(publisher, |state, family| {
        let mut core = lock(family)?;
        ask(&mut core, |bus| bus.update(&mut state.topic))
    })
}

/// Publishes to all readers: looks who joined or left, and waits at most `room_ms` for the slowest reader of a lossless
/// topic. A lossy topic is never full. Looks at the socket each time.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_send(
    publisher: Option<&Publisher>,
    payload: Bytes,
    payload_length: usize,
    room_ms: i64,
) -> i32 {
    Publisher::enter(publisher, |state, family| {
        let payload = payload.bytes(payload_length, "payload")?;
        let mut core = lock(family)?;
        state.sent = state.sent.wrapping_add(1);
        if state.sent.is_multiple_of(SENT_PER_SWEEP) {
            core.sweep()?;
        }
        Ok(core.client()?.publish(&mut state.topic, payload, moment(room_ms))?)
    })
}

/// Publishes to the readers that are attached, and never waits: `BOLIDE_FULL` where a lossless topic has no room. Makes
/// no system call unless a reader sleeps.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_publisher_try_send(
    publisher: Option<&Publisher>,
    payload: Bytes,
    payload_length: usize,
) -> i32 {
    Publisher::enter(publisher, |state, _| {
        let payload = payload.bytes(payload_length, "payload")?;
        Ok(state.topic.publish(payload, WhenFull::Reject)?)
    })
}

/// Leaves a topic and frees the reader. `subscriber` may be NULL. With `BOLIDE_BUSY` nothing was closed.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_close(subscriber: *mut Subscriber) -> i32 {
    let Some(open) = border::closing(subscriber) else { return BOLIDE_OK };
    let code = enter(Some(&open.last), || {
        let state = closable(&open.state)?;
        let why = state.violation.map(|violation| violation.to_string());
        let reason = why.as_deref().unwrap_or("left");
        tell_closed(&open.family, state.topic.lane(), reason, state.violation)
    });
    if code != BOLIDE_BUSY {
        border::free(subscriber);
    }
    code
}

/// What the last call on this subscriber that failed had to say. Never NULL; valid until the next failure on it.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_error(subscriber: Option<&Subscriber>) -> *const c_char {
    subscriber.map_or(c"`subscriber` is NULL".as_ptr(), |subscriber| subscriber.last.text())
}

/// Which topic this is, as events name it; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_lane(subscriber: Option<&Subscriber>) -> u32 {
    subscriber.map_or(0, |subscriber| subscriber.lane)
}

/// `BOLIDE_LOSSLESS` or `BOLIDE_LOSSY`; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_policy(subscriber: Option<&Subscriber>) -> i32 {
    subscriber.map_or(0, |subscriber| subscriber.policy)
}

/// What the topic is about; valid until the subscriber is closed. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_subject(subscriber: Option<&Subscriber>) -> *const c_char {
    subscriber.map_or(std::ptr::null(), |subscriber| subscriber.subject.as_ptr())
}

/// Who writes the topic; valid until the subscriber is closed. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_from(subscriber: Option<&Subscriber>) -> *const Agent {
    subscriber.map_or(std::ptr::null(), |subscriber| subscriber.from.agent())
}

/// The next message. Waits as long as `timeout_ms` says (0: not at all, negative: without end). `BOLIDE_LOST`: this reader
/// was lapped, `lost` of the message says by how much; the next call goes on.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_receive(
    subscriber: Option<&Subscriber>,
    message: Place<'_, Message>,
    timeout_ms: i64,
) -> i32 {
    let source = subscriber.map_or(0, |subscriber| subscriber.from.agent().id);
    Subscriber::enter(subscriber, |state, family| {
        let message = place(message, "message")?;
        let until = if timeout_ms == 0 { None } else { deadline(timeout_ms) };
        match receive(state, family, until, timeout_ms == 0)? {
            Ok(found) => {
                message.write(Message { source, ..found });
                Ok(())
            }
            Err(lost) => {
                message.write(Message { source, lost, ..plain(0, &[]) });
                Err(Fault::plain(BOLIDE_LOST))
            }
        }
    })
}

/// Gets ready to sleep in an event loop: the client's bell rings for the next message. `BOLIDE_READY`: a message, or
/// the end, is there already; receive it first.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_arm(subscriber: Option<&Subscriber>) -> i32 {
    Subscriber::enter(subscriber, |state, _| {
        state.can_sleep()?;
        if state.topic.raw().arm() { Ok(()) } else { Err(Fault::plain(BOLIDE_READY)) }
    })
}

/// Awake again after `bolide_subscriber_arm`: the writer need not ring.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_subscriber_disarm(subscriber: Option<&Subscriber>) -> i32 {
    Subscriber::enter(subscriber, |state, _| {
        state.topic.raw().disarm();
        Ok(())
    })
}
