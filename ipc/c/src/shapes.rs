//! The plain structures that cross the border, and the transparent types that arguments arrive in.
//!
//! What is in them is foreign: it is read through `border` only.

use std::ffi::{c_char, c_void};

/// A text of the caller: NUL-terminated UTF-8, read during the call only.
/// cbindgen:transparent-typedef
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Text(pub(crate) *const c_char);

/// Bytes of the caller, read during the call only; NULL where the length is 0.
/// cbindgen:transparent-typedef
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Bytes(pub(crate) *const u8);

/// Words of the caller: an array that ends with NULL, or NULL for none.
/// cbindgen:transparent-typedef
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Words(pub(crate) *const *const c_char);

/// Descriptors of the caller, which stay its own.
/// cbindgen:transparent-typedef
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Descriptors(pub(crate) *const i32);

/// Called with each intermediate answer. The payload is valid during the call. Must return; calls on the same link or
/// client give `BOLIDE_BUSY`.
pub type Progress =
    Option<extern "C" fn(context: *mut c_void, payload: *const u8, payload_length: usize)>;

/// What an agent wants to be held to, at most. The router's configuration says what it may have, and the tighter of the two
/// counts; 0 is the configuration's alone.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Limits {
    /// Links, offered and open.
    pub links: u64,
    /// All segments that it makes and that are in use, in bytes.
    pub bytes: u64,
    /// How many descriptors the router keeps open for it.
    pub descriptors: u64,
    /// Control packets a second.
    pub messages: u64,
    /// Messages a second that the exchange takes from it.
    pub passed: u64,
}

/// What an agent says of itself. The caller's; read during the call only.
#[derive(Debug)]
#[repr(C)]
pub struct Manifest {
    /// A dotted name, unique among the live agents of one router.
    pub name: Text,
    /// Its own version; NULL: "0".
    pub version: Text,
    /// A free word for grouping; NULL: "tool".
    pub category: Text,
    /// What it can do, as words that others search for; ends with NULL, or NULL.
    pub capabilities: Words,
    /// Tools that it answers, by name; ends with NULL, or NULL.
    pub tools: Words,
    /// Subjects that it wants from the start, with wildcards; ends with NULL, or NULL.
    pub subscriptions: Words,
    /// Free words that others filter by; ends with NULL, or NULL.
    pub tags: Words,
    /// 1 to 10; 0: 5.
    pub priority: u8,
    /// What it wants to be held to; all 0: nothing.
    pub limits: Limits,
}

/// A request that is to be sent. The caller's; read during the call only.
#[derive(Debug)]
#[repr(C)]
pub struct Request {
    /// Which tool.
    pub tool: Text,
    /// Its arguments, CBOR by convention.
    pub payload: Bytes,
    /// How many bytes.
    pub payload_length: usize,
    /// Open descriptors to hand to the peer with the request, which stay the caller's own; or NULL.
    pub descriptors: Descriptors,
    /// How many; at most two.
    pub descriptor_count: usize,
    /// How long the answer is wanted, in milliseconds; negative: without end. The peer is told.
    pub timeout_ms: i64,
    /// How long to wait for room in the lane at most, in milliseconds; 0: not at all.
    pub room_ms: i64,
}

/// One message. Everything that it points to is the library's, and valid until the next receive, wait, call or close of
/// the same handle.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Message {
    /// `BOLIDE_REQUEST` to `BOLIDE_PLAIN`.
    pub kind: i32,
    /// Who sent it: the agent's id, as the router says.
    pub source: u32,
    /// The request that it is, or answers, or cancels; 0 for others.
    pub request: u64,
    /// The tool's name, NUL-terminated; NULL where the message is no request.
    pub tool: *const c_char,
    /// The payload, never NULL. Not NUL-terminated, and aligned to 8 bytes or not at all.
    pub payload: *const u8,
    /// Its length.
    pub payload_length: usize,
    /// Descriptors that were granted for a request, for `bolide_link_take_grant`; 0 is none.
    pub grants: [u64; 2],
    /// Nanoseconds since 1970 after which nobody wants an answer; 0: without end.
    pub deadline_ns: u64,
    /// When it was sent, in nanoseconds since 1970 by the sender's clock; 0: not said.
    pub time_ns: u64,
    /// With `BOLIDE_LOST`: how many positions of the topic were overwritten.
    pub lost: u64,
}

/// One agent as the router shows it. Everything that it points to is as long valid as the structure.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Agent {
    /// Its id on this router.
    pub id: u32,
    /// Its process, as the kernel says.
    pub pid: u32,
    /// The user it runs as, as the kernel says.
    pub uid: u32,
    /// 1 to 10.
    pub priority: u8,
    /// Its name.
    pub name: *const c_char,
    /// Its version.
    pub version: *const c_char,
    /// Its category.
    pub category: *const c_char,
    /// What it can do; ends with NULL.
    pub capabilities: *const *const c_char,
    /// Tools that it answers; ends with NULL.
    pub tools: *const *const c_char,
    /// Subjects that it wants; ends with NULL.
    pub subscriptions: *const *const c_char,
    /// Free words; ends with NULL.
    pub tags: *const *const c_char,
}

/// Something that the router told. Everything that it points to is the library's, and valid until the next
/// `bolide_client_next_event` or close of the same client. What an event does not have is 0 or NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Event {
    /// `BOLIDE_LINK_OFFERED` to `BOLIDE_DRAINING`.
    pub kind: i32,
    /// The link or topic.
    pub lane: u32,
    /// What `bolide_client_subscribe` gave.
    pub subscription: u32,
    /// `BOLIDE_LOSSLESS` or `BOLIDE_LOSSY`.
    pub policy: i32,
    /// `closed`, `peer-gone`, `revoked` or `quarantined`.
    pub code: *const c_char,
    /// For people.
    pub reason: *const c_char,
    /// The topic's subject.
    pub subject: *const c_char,
    /// Who wants the link, or writes the topic.
    pub from: *const Agent,
}
