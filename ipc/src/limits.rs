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
/// Descriptors that the kernel passes on beside one packet at most (`SCM_MAX_FD`): those that are too many are received, to be
/// closed where that holds nobody up.
pub const DESCRIPTORS_RECEIVED_MAX: usize = 253;
/// A name, version, category, tag, capability, tool, subject, pattern, filter or code, in bytes of UTF-8.
pub const WORD_BYTES_MAX: usize = 128;
/// Entries of one list in a manifest. A tool server with more than this names groups instead.
pub const LIST_ENTRIES_MAX: usize = 64;
/// Lists in a manifest: capabilities, tools, subscriptions, tags.
pub const MANIFEST_LISTS: usize = 4;
/// Limits in a manifest: links, bytes, descriptors, messages, messages through the exchange.
pub const MANIFEST_LIMITS: usize = 5;
/// An encoded manifest without its own length field, in bytes. A limit is a byte and a u64.
pub const MANIFEST_BYTES_MAX: usize = 3 * (2 + WORD_BYTES_MAX)
    + 2
    + MANIFEST_LISTS * (2 + LIST_ENTRIES_MAX * (2 + WORD_BYTES_MAX))
    + 1
    + MANIFEST_LIMITS * 9;
/// Facts in a report: what an agent chose when it started. The exchange has one.
pub const REPORT_FACTS_MAX: usize = 8;
/// Figures in a report: a dozen measures of an agent, each of some ecosystems, outcomes or services.
pub const REPORT_FIGURES_MAX: usize = 128;
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

// --- the data plane

/// The part of a segment before its slots, and the whole of a cursor segment and of a control page, in bytes. A fixed
/// number of the format, not the machine's page size.
pub const SEGMENT_HEADER_BYTES: usize = 4_096;
/// One slot, in bytes: the cache line that every supported processor moves between cores.
pub const SLOT_BYTES: usize = 64;
/// Payload inside a slot, in bytes: the line without stamp and first word.
pub const INLINE_BYTES_MAX: usize = SLOT_BYTES - 16;
/// Fewest slots of a lane: room for a message of two lines and for one quarter of the ring as a whole number.
pub const SLOTS_MIN: usize = 8;
/// Most slots of a lane: 4 MiB, beyond which the ring outgrows a second-level cache and nothing is won.
pub const SLOTS_MAX: usize = 65_536;
/// Slots of a lane when nobody says otherwise: 64 KiB, what first-level caches and small memories bear.
pub const SLOTS_DEFAULT: usize = 1_024;
/// How many lines ahead the writer of a ring asks for the line that it will write: about what its store buffer holds. From 4
/// to 128 the rate of a ring of 1,024 slots is the same within a tenth; without it, three quarters, and an eighth to a quarter where
/// the reader does not ask ahead either.
pub const CLAIM_AHEAD_LINES: u64 = 16;
/// The same in the ring of a topic, whose writer makes a fence after each message. Processors fetch ahead of readers that have
/// caught up, some twenty lines, and take back what was asked for too early; then each fence waits for a line. With 2 to 4 a message to
/// two hundred awake readers takes a quarter less time than with 16.
pub const CLAIM_AHEAD_LINES_TOPIC: u64 = 4;
/// How many lines ahead a reader that has fallen behind asks for the line that it will read: from 8 to 32 a full ring's rate is the
/// same within a tenth; without it, a seventh of it with 1,024 slots and 0.4 with 4,096.
pub const READ_AHEAD_LINES: u64 = 24;
/// After so many lines in a row a reader looks whether its writer is further ahead than that.
pub const READ_AHEAD_RUN: u64 = 64;
/// Smallest region from which payloads are lent, in bytes.
pub const REGION_BYTES_MIN: usize = 4_096;
/// Largest region, in bytes; larger payloads travel as chunks or as a granted descriptor.
pub const REGION_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Region when nobody says otherwise, in bytes: most plans in one chunk, and 50 links cost 25 MiB.
pub const REGION_BYTES_DEFAULT: usize = 256 * 1_024;
/// Alignment of what is lent, in bytes: no two messages share a cache line.
pub const REGION_ALIGNMENT: usize = 64;
/// One message with its header, all chunks together, in bytes. A plan of 10,000 packages is under 8 MiB.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Pieces of larger messages that one look at a lane takes, before whoever looks gets to see his deadline again: an honest largest
/// message through the smallest region is eight looks, and a peer that sends single bytes holds nobody.
pub const PIECES_PER_LOOK: usize = 1_024;
/// Readers of one topic; what a directory of agents on one machine needs, with room.
pub const READERS_MAX: usize = 256;
/// Messages that a topic keeps for readers that join late: half of the largest ring, because who joins needs the other half
/// as a lead until the writer knows of it.
pub const HISTORY_MAX: u32 = SLOTS_MAX as u32 / 2;
/// How often a reader that joins reads where the last messages begin, when the writer moves on meanwhile. One time in a
/// thousand would be much: the words lie in one line. Then it takes what it has.
pub const JOIN_TRIES_MAX: usize = 1_024;
/// Successors of a topic whose writer started again, while a reader still reads the first: more restarts than anybody
/// watches.
pub const SUCCESSORS_MAX: usize = 16;
/// Longest time that a topic bears with a slow reader, in milliseconds: an hour.
pub const PATIENCE_MS_MAX: u32 = 3_600_000;
/// How long a waiting reader or writer spins before it parks, in nanoseconds: what a wake-up across processors costs on a
/// virtual machine (30 us), so that waiting costs at most twice the best choice.
pub const SPIN_NS: u64 = 40_000;
/// How long a writer of a topic looks only at readers that it saw asleep, in nanoseconds: 200 sleep words are looked at in
/// some 2 us, so a twentieth to a tenth of its time goes there; and a reader that is about to sleep waits at most so long.
/// Under a model of interleavings two ticks of its clock.
pub const QUIET_NS: u64 = if cfg!(loom) { 2 } else { 20_000 };
/// How much longer a reader waits, in nanoseconds: what the clocks of two processors differ at most.
pub const QUIET_MARGIN_NS: u64 = if cfg!(loom) { 0 } else { 2_000 };
/// Readers that may sleep, up to which the writer simply looks at each after every message: that costs less than a clock.
pub const READERS_LOOKED_AT_MAX: usize = 4;
/// Polls between two looks at clock and control page while spinning without end.
pub const POLLS_PER_LOOK: u32 = 1_024;
/// How long a parked thread sleeps at a time where the kernel cannot wait for two words (before 5.16), in milliseconds;
/// bounds how late it learns of a dead peer.
pub const PARK_SLICE_MS: u64 = 10;

/// Times under two to this power, in nanoseconds, fall into one bucket: 32 ns, below what one cache line takes between cores.
pub const LATENCY_EXPONENT_MIN: u32 = 5;
/// Times from two to this power on, in nanoseconds, fall into one bucket: 17 s, beyond any deadline of the bus.
pub const LATENCY_EXPONENT_MAX: u32 = 34;
/// As how much one time counts in a sum at most, in nanoseconds: 18 minutes. A send time is its sender's word, and a forged
/// one must not drown all others.
pub const LATENCY_SAMPLE_NS_MAX: u64 = 1 << 40;
// --- large payloads, by reference

/// A frozen payload, in bytes. Beyond it a file is the better way, and a sum of two of them stays far from overflow.
pub const FROZEN_BYTES_MAX: usize = 4 * 1_024 * 1_024 * 1_024;
/// What a pool's bytes are a multiple of: a page of the format, as [`SEGMENT_HEADER_BYTES`].
pub const POOL_STEP_BYTES: usize = 4_096;
/// Bytes of one pool. All of them are memory from the start; who needs more makes another pool.
pub const POOL_BYTES_MAX: usize = 4 * 1_024 * 1_024 * 1_024;
/// Loans of one pool that are out at the same time: as many as a default lane has lines to name them.
pub const LOANS_MAX: usize = 1_024;
/// Readers of one pool: one bit each in the word that says who holds a loan.
pub const POOL_READERS_MAX: usize = 64;
/// The line that names a loan, in bytes.
pub const LOAN_LINE_BYTES: usize = 32;
/// How much memory is asked for in one system call, in bytes: a signal makes the kernel give back what that call got, so a
/// call must be short (some 20 ms) beside the time between two signals.
pub const ALLOCATION_STEP_BYTES: usize = 64 * 1_024 * 1_024;

const _: () = assert!(LOANS_MAX.is_power_of_two() && LOANS_MAX <= u16::MAX as usize);
const _: () = assert!(POOL_READERS_MAX == u64::BITS as usize);
const _: () = assert!(LOAN_LINE_BYTES <= INLINE_BYTES_MAX, "a loan is named by one line");
const _: () = assert!(POOL_STEP_BYTES.is_multiple_of(REGION_ALIGNMENT));
const _: () = assert!(POOL_BYTES_MAX.is_multiple_of(POOL_STEP_BYTES));
const _: () = assert!(ALLOCATION_STEP_BYTES.is_multiple_of(POOL_STEP_BYTES));

const _: () = assert!(SLOTS_MIN.is_power_of_two() && SLOTS_MAX.is_power_of_two());
const _: () = assert!(SLOTS_DEFAULT.is_power_of_two() && REGION_BYTES_DEFAULT.is_power_of_two());
const _: () = assert!(REGION_BYTES_MIN.is_power_of_two() && REGION_BYTES_MAX.is_power_of_two());
const _: () =
    assert!(REGION_BYTES_MIN / 2 > crate::header::HEADER_BYTES_MAX, "a chunk holds a header");
const _: () = assert!(MESSAGE_BYTES_MAX <= u32::MAX as usize, "lengths are u32 in a slot");

// --- the directory

/// The directory, in bytes. A fixed size, because the segment is sealed; the sum of its tables below, rounded up.
pub const DIRECTORY_BYTES: usize = 1_024 * 1_024;
/// Agents in it: as many as a router takes.
pub const DIRECTORY_AGENTS_MAX: usize = 512;
/// Topics in it: as many as a router takes.
pub const DIRECTORY_TOPICS_MAX: usize = 1_024;
/// Lanes in it, one for each pair of writer and reader. More may exist; those with the lowest numbers are shown and the rest
/// is counted.
pub const DIRECTORY_LANES_MAX: usize = 4_096;
/// Classes in it: the five that there are, and room.
pub const DIRECTORY_CLASSES_MAX: usize = 8;
/// How often a reader looks again at an entry that is being written. The writer needs less than a microsecond for one, so only
/// a writer that died in the middle, or one that lies, is met this often.
pub const DIRECTORY_RETRIES_MAX: usize = 64;
/// How often a reader begins anew because the whole was refreshed meanwhile; then it takes what it has.
pub const DIRECTORY_PASSES_MAX: usize = 8;
/// Names that are tried for the mirror of a directory. They have 64 random bits; one is enough.
pub const MIRROR_ATTEMPTS_MAX: usize = 4;
/// A mirror's name, in bytes, as far as it is read.
pub const MIRROR_NAME_BYTES_MAX: u64 = 128;
/// Mirrors of dead routers that one start removes; the next one goes on.
pub const MIRRORS_SWEPT_MAX: usize = 256;
// --- classes beside the lane

/// Completions that an inbox of class HIGH holds. Twice the slots of a default lane: a writer that keeps the rules has at
/// most one for each line that its reader has not looked at. What does not fit says "look" as well.
pub const INBOX_COMPLETIONS: u32 = 2 * SLOTS_DEFAULT as u32;
/// How often the owner of an inbox asks the kernel to watch its control page. A state changes a handful of times; beyond this
/// somebody makes the watch end for nothing, and the sleeper looks every `PARK_SLICE_MS` instead.
pub const INBOX_WATCHES_MAX: u32 = 64;
/// Entries of a private ring from which messages are posted: one is under way at a time.
pub const OUTBOX_ENTRIES: u32 = 4;
/// How often a message between rings is submitted again when the kernel has no memory for it.
pub const SIGNAL_TRIES_MAX: usize = 8;
/// The line before each packet of class NORMAL, in bytes.
pub const PACKET_LINE_BYTES: usize = 16;
/// Payload of one packet of class NORMAL, in bytes: the largest block of memory that the kernel takes without looking far, and
/// its length fits in 16 bits.
pub const PACKET_PAYLOAD_BYTES_MAX: usize = 32_768;
/// The least of it, where a socket's buffer is smaller than that of any usual system.
pub const PACKET_PAYLOAD_BYTES_MIN: usize = 1_024;
/// What a sender of class NORMAL asks for as its socket's buffer, in bytes: the default of most systems, which a
/// system with less grants in part.
pub const PACKET_BUFFER_BYTES: usize = 212_992;

// --- logs

/// Payload of one record of a log, in bytes: what fits into one message with everything that is said of it.
pub const LOG_RECORD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 4_096;
/// Records of one append: about a millisecond of the exchange's time, which others wait for.
pub const LOG_RECORDS_PER_APPEND_MAX: usize = 1_024;

const _: () = assert!(PACKET_LINE_BYTES + PACKET_PAYLOAD_BYTES_MAX <= LOG_RECORD_BYTES_MAX);
const _: () = assert!(PACKET_PAYLOAD_BYTES_MAX <= u16::MAX as usize, "lengths are u16 in a packet");
const _: () = assert!(PACKET_PAYLOAD_BYTES_MIN > crate::header::HEADER_BYTES_MAX);

// --- the client library

/// How long a router may take to answer a handshake or a request, in milliseconds. It answers from memory; this only ends
/// the wait for one that hangs.
pub const ROUTER_ANSWER_MS: u64 = 5_000;
/// Doorbells of one program, one per link or topic that it reads and no longer than it does; what a process may have of
/// descriptors (1,024 by default) is reached first.
pub const BELLS_MAX: usize = 4_096;
/// How long `Client::publish` waits for room before it looks whether a reader has left, in milliseconds.
pub const PUBLISH_SLICE_MS: u64 = 100;
/// Readers of one topic that came, left or are expected, while the writer does not ask: as many as come at once, and as
/// many again that came and left.
pub const READER_CHANGES_MAX: usize = 4 * READERS_MAX;
/// How long a group bears with a member that does not read, in milliseconds, unless its sender says otherwise.
pub const GROUP_PATIENCE_MS: u32 = 1_000;
/// Events that wait for the program to ask for them. A router that sends more to one that never asks is cut off.
pub const EVENTS_MAX: usize = 1_024;
/// Descriptors that were granted and not yet taken, all links together; a peer that sends more is not believed.
pub const GRANTS_HELD_MAX: usize = 256;
/// Of these, those of one link: as many as a server lets wait on one link, with room for what was refused. Beyond it the
/// oldest is closed: no call has taken it, and none will.
pub const GRANTS_PER_LINK_MAX: usize = 64;
/// Threads that close what peers handed over, one for each peer at most: those of this many peers have to hang before anybody
/// else's wait.
pub const CLOSERS_MAX: usize = 16;
/// Of these, how many stay when there is nothing to close: one, for the next request of whoever asks again.
pub const CLOSERS_WAITING_MAX: usize = 1;
/// For how long: a thread is made in the time of a small request, and its stack is given back after a while.
pub const CLOSERS_WAITING_TIME: std::time::Duration = std::time::Duration::from_secs(30);
/// Descriptors of one peer that are not closed yet, beyond which no more are taken from it: a burst of what honest peers send
/// is closed in a millisecond.
pub const CLOSING_PER_PEER_MAX: usize = 64;
/// The same of all peers together: a quarter of the usual limit of open descriptors.
pub const CLOSING_MAX: usize = 256;
/// Packets that are looked at for the router's last word after its connection broke.
pub const LAST_WORDS_MAX: usize = 64;
/// Grants that one request can name: those that its header has room for.
pub const GRANTS_PER_REQUEST_MAX: usize = 2;
/// Messages that arrived during a call and are not its answers, kept for the program.
pub const SET_ASIDE_MAX: usize = 256;
/// Of these, all together, in bytes: two of the largest.
pub const SET_ASIDE_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Memory of a request that is over which is kept for the next one, in bytes: most requests are far shorter.
pub const SPARE_BYTES_MAX: usize = 4_096;
/// Answers to calls that were given up which one look skips.
pub const ANSWERS_SKIPPED_MAX: usize = 1_024;

/// Timers of one wait set: more than a program has things to do, and a bound for one that forgets to cancel.
pub const TIMERS_MAX: usize = 4_096;
