//! Every bound of the bus, with its unit and its reason.
//!
//! Not here: what a router allows one agent (links, topics, messages a second); that is policy and lives in `runtime`.

// --- the control plane

/// One packet of the control plane, in bytes, frame included. Stays under the default send buffer of a Unix socket
/// (212,992 bytes), so that one packet can always be queued.
pub const PACKET_BYTES_MAX: usize = 65_536;
/// The frame before the fields of a packet, in bytes.
pub const FRAME_BYTES: usize = 16;
/// Descriptors beside one packet. The largest message carries five; the rest is room for later minor versions.
pub const DESCRIPTORS_PER_PACKET_MAX: usize = 8;
/// A name, version, category, tag, capability, tool, subject, pattern, filter or code, in bytes of UTF-8.
pub const WORD_BYTES_MAX: usize = 128;
/// Entries of one list in a manifest. A tool server with more than this names groups instead.
pub const LIST_ENTRIES_MAX: usize = 64;
/// Lists in a manifest: capabilities, tools, subscriptions, tags.
pub const MANIFEST_LISTS: usize = 4;
/// An encoded manifest without its own length field, in bytes.
pub const MANIFEST_BYTES_MAX: usize =
    3 * (2 + WORD_BYTES_MAX) + 2 + MANIFEST_LISTS * (2 + LIST_ENTRIES_MAX * (2 + WORD_BYTES_MAX));
/// A token, in bytes. A JWT with a dozen claims and an RS256 signature is under 1.5 KiB.
pub const TOKEN_BYTES_MAX: usize = 8_192;
/// A text for people (`reason`, `message`), in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Agents in one `Agents` packet; the encoder also stops at [`PACKET_BYTES_MAX`].
pub const AGENTS_PER_PACKET_MAX: usize = 64;
/// One piece of the answer to `Status`, in bytes: half a packet.
pub const STATUS_PIECE_BYTES_MAX: usize = 32_768;
/// Connections that wait to be accepted.
pub const SOCKET_BACKLOG: i32 = 128;

const _: () = assert!(
    FRAME_BYTES + 8 + 2 + MANIFEST_BYTES_MAX + 2 + TOKEN_BYTES_MAX <= PACKET_BYTES_MAX,
    "the largest Hello fits in one packet"
);
const _: () =
    assert!(MANIFEST_BYTES_MAX + 64 <= u16::MAX as usize, "an agent's block has a u16 length");
