//! What C calls on a client: one connection to the router.
#![allow(unsafe_code, reason = "exported names")]

use std::ffi::c_char;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use ipc::class::{Class, ClassSet, ReceivingHalf};
use ipc::client::{Client as Bus, LinkOptions};
use ipc::control::TopicPolicy;
use ipc::header::LaneId;
use ipc::lane::LaneOptions;
use ipc::manifest::{AgentManifest, OwnLimits};
use ipc::ring::Violation;
use ipc::wait::Spin;

use crate::agents::AgentTexts;
use crate::border::{self, Place, deadline, given, place};
use crate::codes::{
    BOLIDE_LOSSLESS, BOLIDE_LOSSY, BOLIDE_SPIN_ADAPTIVE, BOLIDE_SPIN_FOREVER, BOLIDE_SPIN_NONE,
};
use crate::family::{Core, Family, ask};
use crate::fault::{Fault, LastFault, enter, lock};
use crate::limits::{LANES_PER_WAIT_MAX, SOCKET_PATH_BYTES_MAX, TEXT_BYTES_MAX};
use crate::link::Link;
use crate::shapes::{Agent, Bytes, Event, Limits, Manifest, Text};
use crate::topic::{Publisher, Subscriber};

mod socket;

/// A connection to the router. Opaque.
#[derive(Debug, Default)]
pub struct Client {
    family: Family,
    last: LastFault,
}

impl Client {
    fn enter(
        client: Option<&Self>,
        work: impl FnOnce(&mut Core, &Family) -> Result<(), Fault>,
    ) -> i32 {
        enter(client.map(|client| &client.last), || {
            let client = given(client, "client")?;
            let mut core = lock(&client.family)?;
            work(&mut core, &client.family)
        })
    }
}

/// A client that is not connected yet. Close it with `bolide_client_close`. NULL where there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_new() -> *mut Client {
    let mut client = std::ptr::null_mut();
    enter(None, || {
        client = border::give(Client::default());
        Ok(())
    });
    client
}

/// Connects to the router and introduces this program. `socket` is the path of the router's socket; NULL: the usual one
/// (`bolide.sock` in `$BOLIDE_RUNTIME_DIR`, else in `bolide` of the user's runtime directory). `token` is a JWT where
/// the router wants one; NULL and 0 otherwise. The router must run as this process's user. A client connects once.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_connect(
    client: Option<&Client>,
    socket: Text,
    manifest: Option<&Manifest>,
    token: Bytes,
    token_length: usize,
) -> i32 {
    Client::enter(client, |core, _| {
        let path = match socket.0.is_null() {
            true => socket::usual(),
            false => PathBuf::from(socket.text("socket", SOCKET_PATH_BYTES_MAX)?),
        };
        let manifest = read_manifest(given(manifest, "manifest")?)?;
        let token = token.bytes(token_length, "token")?;
        if core.is_connected() {
            return Err(Fault::argument("this client is connected already"));
        }
        core.connected(Bus::connect(Path::new(&path), &manifest, token)?);
        Ok(())
    })
}

/// Takes leave of the router and frees the client. Its links, publishers and subscribers can still be closed, and what
/// is in their lanes still be received; they can no longer sleep. NULL is allowed and does nothing. With `BOLIDE_BUSY`
/// nothing was closed.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_close(client: *mut Client) -> i32 {
    let Some(open) = border::closing(client) else { return crate::codes::BOLIDE_OK };
    let code = enter(Some(&open.last), || {
        closable(&open.family)?.leave();
        Ok(())
    });
    if code != crate::codes::BOLIDE_BUSY {
        border::free(client);
    }
    code
}

/// What the last call on this client that failed had to say. Never NULL; valid until the next failure on it.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_error(client: Option<&Client>) -> *const c_char {
    client.map_or(c"`client` is NULL".as_ptr(), |client| client.last.text())
}

/// The id that the router gave to this client; 0 where it is not connected.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_id(client: Option<&Client>) -> u32 {
    let mut id = 0;
    Client::enter(client, |core, _| {
        id = core.client()?.agent().0;
        Ok(())
    });
    id
}

/// Sizes of lanes that are made from now on: slots (a power of two, 8 to 65,536) and bytes for payloads of more than 48
/// bytes (a power of two, 4,096 to 64 MiB).
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_set_lanes(
    client: Option<&Client>,
    slots: usize,
    region_bytes: usize,
) -> i32 {
    use ipc::limits::{REGION_BYTES_MAX, REGION_BYTES_MIN, SLOTS_MAX, SLOTS_MIN};
    Client::enter(client, |core, _| {
        if !slots.is_power_of_two() || !(SLOTS_MIN..=SLOTS_MAX).contains(&slots) {
            let text = format!("`slots` is no power of two in {SLOTS_MIN}..={SLOTS_MAX}: {slots}");
            return Err(Fault::argument(text));
        }
        let fits = (REGION_BYTES_MIN..=REGION_BYTES_MAX).contains(&region_bytes);
        if !region_bytes.is_power_of_two() || !fits {
            return Err(Fault::argument(format!(
                "`region_bytes` is no power of two in {REGION_BYTES_MIN}..={REGION_BYTES_MAX}: \
                 {region_bytes}"
            )));
        }
        core.client()?.set_lane_options(LaneOptions { slots, region_bytes });
        Ok(())
    })
}

/// The live agents whose name, tool, capability or tag equals `filter`; NULL or empty: all. The array is the library's,
/// and valid until the next listing or close of this client.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_agents(
    client: Option<&Client>,
    filter: Text,
    agents: Place<'_, *const Agent>,
    count: Place<'_, usize>,
) -> i32 {
    Client::enter(client, |core, _| {
        let filter = filter.word_or("filter", "")?;
        let (agents, count) = (place(agents, "agents")?, place(count, "count")?);
        let found = ask(core, |bus| bus.agents(filter))?;
        let shown = core.agents.show(found.iter().map(AgentTexts::new).collect());
        agents.write(shown.as_ptr());
        count.write(shown.len());
        Ok(())
    })
}

/// Opens a link to an agent by its name, or to one that answers a tool by the tool's. Close it with `bolide_link_close`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_open(
    client: Option<&Client>,
    target: Text,
    link: Place<'_, *mut Link>,
) -> i32 {
    Client::enter(client, |core, family| {
        let (target, link) = (target.word("target")?, place(link, "link")?);
        let opened = ask(core, |bus| bus.open(target))?;
        link.write(border::give(Link::new(opened, family.clone())));
        Ok(())
    })
}

/// The same with a class: one of `BOLIDE_CRITICAL`, `BOLIDE_HIGH`, `BOLIDE_NORMAL`. Where it cannot be had, the link is of
/// the next one down; `bolide_link_class` tells.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_open_class(
    client: Option<&Client>,
    target: Text,
    wanted: i32,
    link: Place<'_, *mut Link>,
) -> i32 {
    Client::enter(client, |core, family| {
        let (target, link) = (target.word("target")?, place(link, "link")?);
        let class = u8::try_from(wanted).ok().and_then(Class::from_number);
        let class = class.filter(|class| ClassSet::LINKS.has(*class));
        let class = class.ok_or_else(|| Fault::argument("no class of links"))?;
        let opened = ask(core, |bus| bus.open_link(target, LinkOptions { class }))?;
        link.write(border::give(Link::new(opened, family.clone())));
        Ok(())
    })
}

/// The next event; waits as long as `timeout_ms` says (0: not at all, negative: without end). `BOLIDE_TIMEOUT` where
/// nothing came. The event is the library's, and valid until the next one is asked for.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_next_event(
    client: Option<&Client>,
    event: Place<'_, Event>,
    timeout_ms: i64,
) -> i32 {
    Client::enter(client, |core, _| {
        let (event, until) = (place(event, "event")?, deadline(timeout_ms));
        loop {
            let swept = core.sweep();
            if let Some((shown, crowded_out)) = core.events.show() {
                event.write(shown);
                if let Some(lane) = crowded_out {
                    core.client()?.decline(lane, "nobody took this link")?;
                }
                return Ok(());
            }
            swept?;
            if until.is_some_and(|until| std::time::Instant::now() >= until) {
                return Err(Fault::TIMEOUT);
            }
            core.sleep(&mut [], until)?;
        }
    })
}

/// Accepts a link that an event offered. Close it with `bolide_link_close`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_accept(
    client: Option<&Client>,
    lane: u32,
    link: Place<'_, *mut Link>,
) -> i32 {
    Client::enter(client, |core, family| {
        let link = place(link, "link")?;
        let Some(offer) = core.events.take_link(lane) else {
            return Err(Fault::argument(format!("link {lane} is not offered, or no longer")));
        };
        let accepted = core.client()?.accept(offer)?;
        link.write(border::give(Link::new(accepted, family.clone())));
        Ok(())
    })
}

/// Declines a link that an event offered, or forgets a topic that one found. `reason` is for people; NULL: none.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_decline(client: Option<&Client>, lane: u32, reason: Text) -> i32 {
    Client::enter(client, |core, _| {
        let reason = read_reason(reason, "declined")?;
        if core.events.take_link(lane).is_some() {
            core.client()?.decline(LaneId(lane), reason)?;
        } else if core.events.take_topic(lane).is_none() {
            return Err(Fault::argument(format!("lane {lane} is not offered, or no longer")));
        }
        Ok(())
    })
}

/// Declares a topic. `policy` is `BOLIDE_LOSSLESS` or `BOLIDE_LOSSY`. Close it with `bolide_publisher_close`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_publisher(
    client: Option<&Client>,
    subject: Text,
    policy: i32,
    publisher: Place<'_, *mut Publisher>,
) -> i32 {
    Client::enter(client, |core, family| {
        let (subject, publisher) = (subject.word("subject")?, place(publisher, "publisher")?);
        let policy = match policy {
            BOLIDE_LOSSLESS => TopicPolicy::Lossless,
            BOLIDE_LOSSY => TopicPolicy::Lossy,
            other => return Err(Fault::argument(format!("`policy` is unknown: {other}"))),
        };
        let made = ask(core, |bus| bus.publisher(subject, policy))?;
        publisher.write(border::give(Publisher::new(made, family.clone())));
        Ok(())
    })
}

/// Wants every topic whose subject matches, present and future: they come as `BOLIDE_TOPIC_FOUND` with the number that is
/// put into `subscription`. In a pattern `*` is one word and a final `>` the rest.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_subscribe(
    client: Option<&Client>,
    pattern: Text,
    subscription: Place<'_, u32>,
) -> i32 {
    Client::enter(client, |core, _| {
        let pattern = pattern.word("pattern")?;
        let subscription = place(subscription, "subscription")?;
        subscription.write(ask(core, |bus| bus.subscribe(pattern))?);
        Ok(())
    })
}

/// Takes up a topic that an event found; messages from now on are received. `spin` is one of `BOLIDE_SPIN_*`; with
/// `BOLIDE_SPIN_FOREVER` the reader can never be armed. Close it with `bolide_subscriber_close`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_join(
    client: Option<&Client>,
    lane: u32,
    spin: i32,
    subscriber: Place<'_, *mut Subscriber>,
) -> i32 {
    Client::enter(client, |core, family| {
        let (spin, subscriber) = (read_spin(spin)?, place(subscriber, "subscriber")?);
        let Some(offer) = core.events.take_topic(lane) else {
            return Err(Fault::argument(format!("topic {lane} was not found, or no longer")));
        };
        let joined = core.client()?.join(offer, spin)?;
        subscriber.write(border::give(Subscriber::new(joined, spin, family.clone())));
        Ok(())
    })
}

/// The two descriptors for an event loop; both stay the library's, and are valid until the client is closed. `socket` is
/// readable when there may be events, `bell` when an armed link or subscriber has news. Both are level-triggered.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_descriptors(
    client: Option<&Client>,
    socket: Place<'_, i32>,
    bell: Place<'_, i32>,
) -> i32 {
    Client::enter(client, |core, _| {
        let (socket, bell) = (place(socket, "socket")?, place(bell, "bell")?);
        let bus = core.client()?;
        socket.write(bus.as_fd().as_raw_fd());
        bell.write(bus.doorbell().as_fd().as_raw_fd());
        Ok(())
    })
}

/// Silences the bell. In an event loop: when the bell is readable, clear it, receive from every link and subscriber
/// until `BOLIDE_TIMEOUT`, ask for events until `BOLIDE_TIMEOUT`, arm all again, and sleep only if none was
/// `BOLIDE_READY`. A call that sleeps (any with a timeout that is not 0) clears it as well, so arm again afterwards.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_clear_bell(client: Option<&Client>) -> i32 {
    Client::enter(client, |core, _| {
        core.client()?.doorbell().clear();
        Ok(())
    })
}

/// Sleeps until one of these links or subscribers has a message or has ended, or the router has news, or the deadline
/// comes (`BOLIDE_TIMEOUT`). The handles must be of this client, each at most once. NULL and 0 for none. It returns at
/// once while there are events, so ask for them.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_client_wait(
    client: Option<&Client>,
    links: *const *const Link,
    link_count: usize,
    subscribers: *const *const Subscriber,
    subscriber_count: usize,
    timeout_ms: i64,
) -> i32 {
    enter(client.map(|client| &client.last), || {
        let client = given(client, "client")?;
        let until = deadline(timeout_ms);
        let links = border::handles(links, link_count, LANES_PER_WAIT_MAX, "links")?;
        let topics =
            border::handles(subscribers, subscriber_count, LANES_PER_WAIT_MAX, "subscribers")?;
        let mut links = links
            .into_iter()
            .map(|link| link.of_family(&client.family))
            .collect::<Result<Vec<_>, _>>()?;
        let mut topics = topics
            .into_iter()
            .map(|topic| topic.of_family(&client.family))
            .collect::<Result<Vec<_>, _>>()?;
        if links.iter().any(|link| link.has_kept()) {
            return Ok(());
        }
        let mut lanes: Vec<&mut dyn ReceivingHalf> = Vec::new();
        lanes.extend(links.iter_mut().map(|link| link.lane() as &mut dyn ReceivingHalf));
        lanes.extend(topics.iter_mut().map(|topic| topic.lane() as &mut dyn ReceivingHalf));
        let mut core = lock(&client.family)?;
        if core.events.is_waiting() {
            return Ok(());
        }
        match core.client()?.wait(&mut lanes, until)? {
            ipc::client::Woken::Deadline => Err(Fault::TIMEOUT),
            ipc::client::Woken::News => core.sweep(),
        }
    })
}

/// The state of a handle that is about to be closed: a panic is no reason to keep it.
pub(crate) fn closable<T>(state: &std::sync::Mutex<T>) -> Result<MutexGuard<'_, T>, Fault> {
    match state.try_lock() {
        Ok(guard) => Ok(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => Err(Fault::plain(crate::codes::BOLIDE_BUSY)),
    }
}

/// Tells the router that a link or topic is closed, and where the other side broke the protocol, that it did. One whose
/// client is closed, or whose router is gone, is closed already.
pub(crate) fn tell_closed(
    family: &Family,
    lane: LaneId,
    reason: &str,
    violation: Option<Violation>,
) -> Result<(), Fault> {
    let mut core = closable(family)?;
    if let Ok(bus) = core.client() {
        let _ = match violation {
            Some(_) => bus.quarantine(lane, reason),
            None => bus.decline(lane, reason),
        };
    }
    Ok(())
}

pub(crate) fn read_reason(reason: Text, other: &str) -> Result<&str, Fault> {
    if reason.0.is_null() { Ok(other) } else { reason.text("reason", TEXT_BYTES_MAX) }
}

pub(crate) fn read_spin(spin: i32) -> Result<Spin, Fault> {
    match spin {
        BOLIDE_SPIN_ADAPTIVE => Ok(Spin::Adaptive),
        BOLIDE_SPIN_NONE => Ok(Spin::None),
        BOLIDE_SPIN_FOREVER => Ok(Spin::Forever),
        other => Err(Fault::argument(format!("`spin` is unknown: {other}"))),
    }
}

/// A descriptor that C owns from now on.
pub(crate) fn give_descriptor(file: OwnedFd) -> i32 {
    use std::os::fd::IntoRawFd;
    file.into_raw_fd()
}

fn read_manifest(manifest: &Manifest) -> Result<AgentManifest, Fault> {
    let priority = match manifest.priority {
        0 => 5,
        priority @ 1..=10 => priority,
        other => return Err(Fault::argument(format!("`priority` is not 1 to 10: {other}"))),
    };
    Ok(AgentManifest {
        name: manifest.name.word("name")?.to_owned(),
        version: manifest.version.word_or("version", "0")?.to_owned(),
        category: manifest.category.word_or("category", "tool")?.to_owned(),
        priority,
        capabilities: manifest.capabilities.words("capabilities")?,
        tools: manifest.tools.words("tools")?,
        subscriptions: manifest.subscriptions.words("subscriptions")?,
        tags: manifest.tags.words("tags")?,
        limits: read_limits(&manifest.limits),
    })
}

fn read_limits(limits: &Limits) -> OwnLimits {
    let Limits { links, bytes, descriptors, messages, passed } = *limits;
    let [links, bytes, descriptors, messages, passed] =
        [links, bytes, descriptors, messages, passed].map(|limit| (limit != 0).then_some(limit));
    OwnLimits { links, bytes, descriptors, messages, passed }
}
