//! What C calls on a link: requests, answers, and messages without either.
#![allow(unsafe_code, reason = "exported names")]

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

use ipc::class::{AnyReceiver, Class, ReceivingHalf, SendingHalf};
use ipc::header::{GrantId, PRIORITY_DEFAULT};
use ipc::lane::WhenFull;
use ipc::link::{Ask, Link as BusLink, LinkSender, RequestId};
use ipc::ring::Meta;

use crate::agents::AgentTexts;
use crate::border::{self, Place, deadline, given, moment, place};
use crate::client::{closable, give_descriptor, read_reason, read_spin, tell_closed};
use crate::codes::{BOLIDE_BUSY, BOLIDE_OK, BOLIDE_PROGRESS, BOLIDE_READY};
use crate::family::{Family, receive};
use crate::fault::{Fault, LastFault, enter, lock};
use crate::limits::TEXT_BYTES_MAX;
use crate::shapes::{Agent, Bytes, Message, Progress, Request, Text};

mod failure;
mod state;

use failure::Failure;
pub(crate) use state::plain;
use state::{AnswerTo, Anything, State};

/// Two opposite lanes between this program and another agent. Opaque.
#[derive(Debug)]
pub struct Link {
    state: Mutex<State>,
    family: Family,
    peer: AgentTexts,
    lane: u32,
    class: Class,
    last: LastFault,
}

/// A link of the right client, in use by a call that sleeps on it.
pub(crate) struct Held<'a>(MutexGuard<'a, State>);

impl Held<'_> {
    pub(crate) fn lane(&mut self) -> &mut AnyReceiver {
        self.0.link.receiver().raw()
    }

    pub(crate) fn has_kept(&self) -> bool {
        self.0.has_kept()
    }
}

impl Link {
    pub(crate) fn new(link: BusLink, family: Family) -> Self {
        let (lane, peer) = (link.lane().0, AgentTexts::new(link.peer()));
        let (class, last) = (link.class(), LastFault::default());
        Self { state: Mutex::new(State::new(link)), family, peer, lane, class, last }
    }

    pub(crate) fn of_family(&self, family: &Family) -> Result<Held<'_>, Fault> {
        if !Arc::ptr_eq(&self.family, family) {
            return Err(Fault::argument("a link of another client"));
        }
        lock(&self.state).map(Held)
    }

    #[inline]
    fn enter(
        link: Option<&Self>,
        work: impl FnOnce(&mut State, &Family) -> Result<(), Fault>,
    ) -> i32 {
        enter(link.map(|link| &link.last), || {
            let link = given(link, "link")?;
            let mut state = lock(&link.state)?;
            let done = work(&mut state, &link.family);
            if let Err(Fault { violation: Some(violation), .. }) = &done {
                state.violation = Some(*violation);
            }
            done
        })
    }
}

/// Closes a link and frees it; the peer is told. `reason` is for people; NULL: none. `link` may be NULL. With
/// `BOLIDE_BUSY` nothing was closed.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_close(link: *mut Link, reason: Text) -> i32 {
    let Some(open) = border::closing(link) else { return BOLIDE_OK };
    let code = enter(Some(&open.last), || {
        let state = closable(&open.state)?;
        let why = state.violation.map(|violation| violation.to_string());
        let otherwise = why.as_deref().unwrap_or("closed");
        let reason = read_reason(reason, otherwise).unwrap_or(otherwise);
        tell_closed(&open.family, state.link.lane(), reason, state.violation)
    });
    if code != BOLIDE_BUSY {
        border::free(link);
    }
    code
}

/// What the last call on this link that failed had to say. Never NULL; valid until the next failure on it.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_error(link: Option<&Link>) -> *const c_char {
    link.map_or(c"`link` is NULL".as_ptr(), |link| link.last.text())
}

/// Which link this is, as events name it; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_lane(link: Option<&Link>) -> u32 {
    link.map_or(0, |link| link.lane)
}

/// How its messages travel: one of `BOLIDE_CRITICAL`, `BOLIDE_HIGH`, `BOLIDE_NORMAL`; -1 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_class(link: Option<&Link>) -> i32 {
    link.map_or(-1, |link| link.class as i32)
}

/// Who is at the other end; valid until the link is closed. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_peer(link: Option<&Link>) -> *const Agent {
    link.map_or(std::ptr::null(), |link| link.peer.agent())
}

/// How this link waits: one of `BOLIDE_SPIN_*`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_set_spin(link: Option<&Link>, spin: i32) -> i32 {
    Link::enter(link, |state, _| {
        state.spin = read_spin(spin)?;
        Ok(())
    })
}

/// Sends a request; `id` names it in `bolide_link_wait`, `bolide_link_cancel` and in messages. Waits at most `room_ms` for
/// room, so 0 suits an event loop, except for more than half of the lane's region, which needs a reader meanwhile.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_request(
    link: Option<&Link>,
    request: Option<&Request>,
    id: Place<'_, u64>,
) -> i32 {
    Link::enter(link, |state, family| {
        let (request, id) = (given(request, "request")?, place(id, "id")?);
        id.write(send_request(state, family, request)?.0);
        Ok(())
    })
}

/// Sends a request and waits for its last answer (`BOLIDE_DONE` or `BOLIDE_FAILED`); `progress` sees the others, and
/// may be NULL. A call that ends otherwise is cancelled at the peer. Other messages are kept for `bolide_link_receive`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_call(
    link: Option<&Link>,
    request: Option<&Request>,
    progress: Progress,
    context: *mut c_void,
    answer: Place<'_, Message>,
) -> i32 {
    Link::enter(link, |state, family| {
        let (request, answer) = (given(request, "request")?, place(answer, "answer")?);
        let until = moment(request.timeout_ms);
        let id = send_request(state, family, request)?;
        loop {
            let mut wanted = AnswerTo { state, request: id };
            match receive(&mut wanted, family, Some(until), false) {
                Ok(message) if message.kind == BOLIDE_PROGRESS => {
                    if let Some(progress) = progress {
                        progress(context, message.payload, message.payload_length);
                    }
                }
                Ok(message) => {
                    answer.write(message);
                    return Ok(());
                }
                Err(fault) => {
                    state.cancel(id);
                    return Err(fault);
                }
            }
        }
    })
}

/// The next answer to a request: `BOLIDE_PROGRESS` any number of times, then `BOLIDE_DONE` or `BOLIDE_FAILED`. Waits as
/// long as `timeout_ms` says (0: not at all, negative: without end). Other messages are kept for `bolide_link_receive`.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_wait(
    link: Option<&Link>,
    request: u64,
    answer: Place<'_, Message>,
    timeout_ms: i64,
) -> i32 {
    Link::enter(link, |state, family| {
        let answer = place(answer, "answer")?;
        if !state.is_live(RequestId(request)) {
            let text = format!("request {request} is answered, cancelled, or was never sent");
            return Err(Fault::argument(text));
        }
        let mut wanted = AnswerTo { state, request: RequestId(request) };
        answer.write(receive(&mut wanted, family, deadline(timeout_ms), timeout_ms == 0)?);
        Ok(())
    })
}

/// The next message of any sort, answers included. Waits as long as `timeout_ms` says (0: not at all, negative: without
/// end). Answers to requests that were cancelled, or that timed out in a call, are dropped.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_receive(
    link: Option<&Link>,
    message: Place<'_, Message>,
    timeout_ms: i64,
) -> i32 {
    Link::enter(link, |state, family| {
        let message = place(message, "message")?;
        let until = if timeout_ms == 0 { None } else { deadline(timeout_ms) };
        message.write(receive(&mut Anything { state }, family, until, timeout_ms == 0)?);
        Ok(())
    })
}

/// Tells the peer that nobody waits for the answer any more; what still comes is dropped. Never waits.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_cancel(link: Option<&Link>, request: u64) -> i32 {
    Link::enter(link, |state, _| {
        state.cancel(RequestId(request));
        Ok(())
    })
}

/// Sends an intermediate answer to a request of the peer. Waits at most `room_ms` for room.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_progress(
    link: Option<&Link>,
    request: u64,
    payload: Bytes,
    payload_length: usize,
    room_ms: i64,
) -> i32 {
    reply(link, request, (payload, payload_length, room_ms), LinkSender::progress)
}

/// Sends the last answer to a request of the peer. Waits at most `room_ms` for room.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_answer(
    link: Option<&Link>,
    request: u64,
    payload: Bytes,
    payload_length: usize,
    room_ms: i64,
) -> i32 {
    reply(link, request, (payload, payload_length, room_ms), LinkSender::answer)
}

/// Sends the last answer to a request of the peer: the tool refused or failed. `exit_code` is what a command line would
/// end with (1 to 255), `code` a stable name in kebab-case, `message` one sentence for people, `hint` what to do next
/// (or NULL), `retry` not 0 where the same call may succeed later. Waits at most `room_ms` for room.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_fail(
    link: Option<&Link>,
    request: u64,
    exit_code: u8,
    code: Text,
    message: Text,
    hint: Text,
    retry: i32,
    room_ms: i64,
) -> i32 {
    Link::enter(link, |state, _| {
        let failure = Failure {
            exit_code,
            code: code.word("code")?,
            message: message.text("message", TEXT_BYTES_MAX)?,
            hint: match hint.0.is_null() {
                true => None,
                false => Some(hint.text("hint", TEXT_BYTES_MAX)?),
            },
            retry: retry != 0,
        };
        let payload = failure.to_cbor();
        Ok(state.link.sender().fail(RequestId(request), &payload, when_full(room_ms))?)
    })
}

/// Sends a message that is no request; the peer receives `BOLIDE_PLAIN`. At most 48 bytes travel in one cache line. Waits
/// at most `room_ms` for room.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_send(
    link: Option<&Link>,
    payload: Bytes,
    payload_length: usize,
    room_ms: i64,
) -> i32 {
    Link::enter(link, |state, _| {
        let payload = payload.bytes(payload_length, "payload")?;
        let (lane, when) = (state.link.sender().raw(), when_full(room_ms));
        if payload.len() <= ipc::limits::INLINE_BYTES_MAX {
            return Ok(lane.send(Meta::default(), payload, when)?);
        }
        let meta = Meta::default();
        Ok(lane.send_large(ipc::lane::Large { header: None, meta, parts: &[payload] }, when)?)
    })
}

/// Takes a descriptor that the peer granted with a request; it is the caller's to close. It travels over another way than
/// the request, so this waits for it as long as `timeout_ms` says. `BOLIDE_NO_GRANT` where it did not come.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_take_grant(
    link: Option<&Link>,
    grant: u64,
    descriptor: Place<'_, i32>,
    timeout_ms: i64,
) -> i32 {
    Link::enter(link, |state, family| {
        let descriptor = place(descriptor, "descriptor")?;
        let lane = state.link.lane();
        let mut core = lock(family)?;
        let file = core.client()?.take_grant(lane, GrantId(grant), moment(timeout_ms))?;
        descriptor.write(give_descriptor(file));
        Ok(())
    })
}

/// Closes a descriptor that came, or will come, with a request that is not served.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_discard_grant(link: Option<&Link>, grant: u64) -> i32 {
    Link::enter(link, |state, family| {
        let lane = state.link.lane();
        lock(family)?.client()?.discard_grants(lane, &[GrantId(grant)]);
        Ok(())
    })
}

/// Gets ready to sleep in an event loop: the client's bell rings for the next message. `BOLIDE_READY`: a message, or
/// the end, is there already; receive it first.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_arm(link: Option<&Link>) -> i32 {
    Link::enter(link, |state, _| {
        let armed = !state.has_kept() && state.link.receiver().raw().arm();
        if armed { Ok(()) } else { Err(Fault::plain(BOLIDE_READY)) }
    })
}

/// Awake again after `bolide_link_arm`: the peer need not ring. Without it the peer rings once more than necessary.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_link_disarm(link: Option<&Link>) -> i32 {
    Link::enter(link, |state, _| {
        state.link.receiver().raw().disarm();
        Ok(())
    })
}

fn when_full(room_ms: i64) -> WhenFull {
    if room_ms == 0 { WhenFull::Reject } else { WhenFull::WaitUntil(moment(room_ms)) }
}

fn reply(
    link: Option<&Link>,
    request: u64,
    (payload, length, room_ms): (Bytes, usize, i64),
    send: impl FnOnce(&mut LinkSender, RequestId, &[u8], WhenFull) -> Result<(), ipc::lane::SendError>,
) -> i32 {
    Link::enter(link, |state, _| {
        let payload = payload.bytes(length, "payload")?;
        Ok(send(state.link.sender(), RequestId(request), payload, when_full(room_ms))?)
    })
}

fn send_request(state: &mut State, family: &Family, request: &Request) -> Result<RequestId, Fault> {
    let tool = request.tool.word("tool")?;
    let payload = request.payload.bytes(request.payload_length, "payload")?;
    let files = request.descriptors.descriptors(request.descriptor_count)?;
    state.room_for_request()?;
    let mut grants = Vec::new();
    if !files.is_empty() {
        let mut core = lock(family)?;
        for file in files {
            grants.push(core.client()?.grant(state.link.lane(), file)?);
        }
    }
    let (deadline, when) = (moment(request.timeout_ms), when_full(request.room_ms));
    let priority = PRIORITY_DEFAULT;
    let ask = Ask { tool, payload, grants: &grants, deadline, priority, when };
    state.send(ask)
}
