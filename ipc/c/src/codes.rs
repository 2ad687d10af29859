//! The numbers that C sees: what functions return, what events and messages are, how a reader waits. They never change
//! their meaning; later versions add some.
#![allow(unsafe_code, reason = "exported names")]

use std::ffi::{CStr, c_char};

/// It worked.
pub const BOLIDE_OK: i32 = 0;
/// Nothing came until the deadline.
pub const BOLIDE_TIMEOUT: i32 = 1;
/// The lane is full, and the caller did not want to wait, or not longer.
pub const BOLIDE_FULL: i32 = 2;
/// Nothing was armed, because something is there already: receive it.
pub const BOLIDE_READY: i32 = 3;
/// This many messages of a topic were overwritten before they were read (`lost` of the message); the next call goes on.
pub const BOLIDE_LOST: i32 = 4;
/// The peer closed the link or topic, or the client of this handle was closed.
pub const BOLIDE_CLOSED: i32 = 10;
/// The process at the other end has died.
pub const BOLIDE_PEER_GONE: i32 = 11;
/// The router took the permission back.
pub const BOLIDE_REVOKED: i32 = 12;
/// The router is gone; nobody can tell any more whether peers still live.
pub const BOLIDE_ROUTER_GONE: i32 = 13;
/// The peer broke the protocol; the lane is given up.
pub const BOLIDE_QUARANTINED: i32 = 14;
/// There is no router at this path, or it does not run as this user.
pub const BOLIDE_NO_ROUTER: i32 = 20;
/// The router refused; the text begins with its code and a colon.
pub const BOLIDE_REFUSED: i32 = 21;
/// The router did not answer in time.
pub const BOLIDE_NO_ANSWER: i32 = 22;
/// The router broke the protocol.
pub const BOLIDE_PROTOCOL: i32 = 23;
/// An argument is wrong: NULL, too long, no UTF-8, out of range; or a call at the wrong time.
pub const BOLIDE_ARGUMENT: i32 = 30;
/// Another thread is inside this handle, or this call comes from a callback of the same handle.
pub const BOLIDE_BUSY: i32 = 31;
/// A bound of the library is reached.
pub const BOLIDE_LIMIT: i32 = 32;
/// A request named a descriptor that never came.
pub const BOLIDE_NO_GRANT: i32 = 33;
/// The system refused something: memory, descriptors, a segment.
pub const BOLIDE_SYSTEM: i32 = 34;
/// The library has an error in itself. The handle can only be closed; the text says where it happened.
pub const BOLIDE_PANICKED: i32 = 35;

/// A message: the peer asks. Answer it with `bolide_link_answer` or `bolide_link_fail`.
pub const BOLIDE_REQUEST: i32 = 1;
/// A message: the peer no longer waits for the answer to `request`, of which only the low 32 bits are known.
pub const BOLIDE_CANCELLED: i32 = 2;
/// A message: an intermediate answer to `request`.
pub const BOLIDE_PROGRESS: i32 = 3;
/// A message: the last answer to `request`.
pub const BOLIDE_DONE: i32 = 4;
/// A message: the last answer to `request`; the tool refused or failed, the payload is a CBOR map.
pub const BOLIDE_FAILED: i32 = 5;
/// A message that belongs to no request; those of topics are such.
pub const BOLIDE_PLAIN: i32 = 6;

/// An event: somebody wants a link (`lane`, `from`): accept or decline it.
pub const BOLIDE_LINK_OFFERED: i32 = 1;
/// An event: a link or topic ended (`lane`, `code`, `reason`); its handle says so too.
pub const BOLIDE_LINK_CLOSED: i32 = 2;
/// An event: a topic matches a subscription (`lane`, `subscription`, `subject`, `policy`, `from`): join it.
pub const BOLIDE_TOPIC_FOUND: i32 = 3;
/// An event: readers of an own topic came or went (`lane`): `bolide_publisher_update`.
pub const BOLIDE_READERS_CHANGED: i32 = 4;
/// An event: the router stops; finish and leave.
pub const BOLIDE_DRAINING: i32 = 5;

/// A topic whose writer is held back by its slowest reader.
pub const BOLIDE_LOSSLESS: i32 = 1;
/// A topic whose writer goes on; a reader that was lapped is told how much it lost.
pub const BOLIDE_LOSSY: i32 = 2;

/// A link of shared memory.
pub const BOLIDE_CRITICAL: i32 = 0;
/// A link of shared memory, signalled through io_uring.
pub const BOLIDE_HIGH: i32 = 1;
/// A link of sockets.
pub const BOLIDE_NORMAL: i32 = 2;

/// A reader that polls for as long as a wake-up costs, then sleeps. What a new handle does.
pub const BOLIDE_SPIN_ADAPTIVE: i32 = 0;
/// A reader that sleeps at once.
pub const BOLIDE_SPIN_NONE: i32 = 1;
/// A reader that never sleeps, for a thread that has a processor of its own.
pub const BOLIDE_SPIN_FOREVER: i32 = 2;

/// Code, name, what it means, what to do next.
type Row = (i32, &'static CStr, &'static CStr, &'static CStr);

/// Every code that a function returns.
pub(crate) const ROWS: [Row; 20] = [
    (BOLIDE_OK, c"ok", c"it worked", c""),
    (BOLIDE_TIMEOUT, c"timeout", c"nothing came until the deadline", c"wait longer, or cancel"),
    (BOLIDE_FULL, c"full", c"the lane is full", c"try again when the peer has read"),
    (BOLIDE_READY, c"ready", c"something is there already", c"receive it, then arm again"),
    (BOLIDE_LOST, c"lost", c"messages were overwritten before they were read", c"read faster"),
    (BOLIDE_CLOSED, c"closed", c"the link, topic or client is closed", c"open it again"),
    (BOLIDE_PEER_GONE, c"peer-gone", c"the peer is gone", c"open a link to another one"),
    (BOLIDE_REVOKED, c"revoked", c"the permission was revoked", c"ask whoever runs the router"),
    (BOLIDE_ROUTER_GONE, c"router-gone", c"the router is gone", c"connect again"),
    (
        BOLIDE_QUARANTINED,
        c"quarantined",
        c"the peer broke the protocol",
        c"close the link; the peer's program is wrong",
    ),
    (BOLIDE_NO_ROUTER, c"no-router", c"there is no router", c"start it: `bolide serve`"),
    (BOLIDE_REFUSED, c"refused", c"the router refused", c"the text names its reason"),
    (BOLIDE_NO_ANSWER, c"no-answer", c"the router did not answer", c"look whether it hangs"),
    (BOLIDE_PROTOCOL, c"protocol", c"the router broke the protocol", c"compare the versions"),
    (BOLIDE_ARGUMENT, c"argument", c"an argument is wrong", c"the text names it"),
    (BOLIDE_BUSY, c"busy", c"the handle is in use by another call", c"one thread at a time"),
    (BOLIDE_LIMIT, c"limit", c"a bound is reached", c"finish what was begun first"),
    (BOLIDE_NO_GRANT, c"no-grant", c"the descriptor never came", c"ask the peer to grant it"),
    (
        BOLIDE_SYSTEM,
        c"system",
        c"the system refused something",
        c"look at the limits of the process",
    ),
    (
        BOLIDE_PANICKED,
        c"panicked",
        c"the library has an error in itself",
        c"close the handle and report the text",
    ),
];

/// A code's name, such as `peer-gone`. Never NULL; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_code_name(code: i32) -> *const c_char {
    row(code).map_or(c"unknown", |row| row.1).as_ptr()
}

/// What a code means, in a few words. Never NULL; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_code_text(code: i32) -> *const c_char {
    meaning(code).as_ptr()
}

/// What to do about a code; empty where there is nothing. Never NULL; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_code_hint(code: i32) -> *const c_char {
    row(code).map_or(c"", |row| row.3).as_ptr()
}

/// The library's version. Never NULL; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn bolide_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

pub(crate) fn meaning(code: i32) -> &'static CStr {
    row(code).map_or(c"an unknown code", |row| row.2)
}

fn row(code: i32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.0 == code)
}
