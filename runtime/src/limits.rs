//! Every bound of the runtime, with its unit and its reason. What bounds the wire itself stands in
//! `ipc::limits`.

use std::time::Duration;

// --- agents and their share of the bus

/// Agents at once, handshakes included. Two hundred is what the benchmarks promise; the rest is
/// room.
pub(crate) const AGENTS_MAX: usize = 512;
/// Connections that have not said `Hello` yet; each holds one descriptor and nothing else.
pub(crate) const HANDSHAKES_MAX: usize = 64;
/// Links of one agent, open or offered. A hosted agent talks to every client once, so it is the
/// agents' count.
pub(crate) const LINKS_PER_AGENT_MAX: usize = AGENTS_MAX;
/// Links of the exchange: two for each route, and routes of a few hundred agents.
pub(crate) const LINKS_OF_EXCHANGE_MAX: usize = 4 * AGENTS_MAX;
/// Offers that one agent may have unanswered; each holds `DESCRIPTORS_PER_OFFER` descriptors in the
/// daemon.
pub(crate) const OFFERS_PER_AGENT_MAX: usize = 16;
/// Topics that one agent writes.
pub(crate) const TOPICS_PER_AGENT_MAX: usize = 32;
/// Topics on the bus: the length of the longest answer to one `Subscribe`.
pub(crate) const TOPICS_MAX: usize = 1024;
/// Readers of one topic; fan-out is promised up to 200.
pub(crate) const READERS_PER_TOPIC_MAX: usize = 256;
/// Topics that ended, of which the router knows for their writers' return; the oldest is forgotten. As many as there can be.
pub(crate) const ENDED_TOPICS_KEPT_MAX: usize = TOPICS_MAX;
/// Readers that left one topic, of which the daemon knows where they were; the one that left first is forgotten. As many as
/// it can have.
pub(crate) const LEFT_READERS_KEPT_MAX: usize = READERS_PER_TOPIC_MAX;
/// Patterns of one agent, those of its manifest included.
pub(crate) const SUBSCRIPTIONS_PER_AGENT_MAX: usize = 64;
/// Bytes of a subject or pattern: what the wire lets through.
pub(crate) const SUBJECT_BYTES_MAX: usize = ipc::limits::WORD_BYTES_MAX;
/// Words of a subject or pattern; matching walks them.
pub(crate) const SUBJECT_WORDS_MAX: usize = 16;
/// Bytes of a `reason` that one peer gives and the other is shown.
pub(crate) const REASON_BYTES_MAX: usize = 256;

/// Bytes of the segments that one agent made and that are in use, when nobody says otherwise: three thousand lanes of the
/// default size, or a dozen with the largest region.
pub(crate) const SHARED_BYTES_PER_AGENT_MAX: u64 = 1024 * 1024 * 1024;
/// Room for the answers of a hosted agent on their way, for each link, and for each topic that it writes: a plan of 1,200 packages, so that it does not
/// wait for its reader halfway. What was never written takes no memory.
pub(crate) const ANSWER_REGION_BYTES: usize = 1024 * 1024;
/// Bytes of the segments of the exchange, which has a lane for each of its links.
pub(crate) const SHARED_BYTES_OF_EXCHANGE_MAX: u64 = 4 * SHARED_BYTES_PER_AGENT_MAX;
/// Entries of the limits that the configuration declares; each is looked at when an agent comes.
pub(crate) const LIMIT_ENTRIES_MAX: usize = 256;
/// Descriptors that an unanswered offer keeps open here: slots, cursor, region, doorbell, control
/// page, and the opener's process.
pub(crate) const DESCRIPTORS_PER_OFFER: usize = 6;
/// Descriptors that a topic keeps open here for readers to come: slots, region, control page.
pub(crate) const DESCRIPTORS_PER_TOPIC: usize = 3;
/// Descriptors that an open link keeps open here: its control page, and of class NORMAL its socket, to cut it.
pub(crate) const DESCRIPTORS_PER_LINK: usize = 2;
/// Descriptors that an agent itself keeps open here: its socket, its process.
pub(crate) const DESCRIPTORS_PER_CONNECTION: usize = 2;
/// Descriptors that the daemon keeps open on behalf of one agent: below the usual soft limit of 1,024 of a process, and room
/// for topics and offers beside some hundred links.
pub(crate) const DESCRIPTORS_PER_AGENT_MAX: usize = 1_000 + DESCRIPTORS_PER_CONNECTION;

/// How long an offered link may stay unanswered. An agent answers from its control thread, in
/// microseconds; seconds mean that it is stopped or broken.
pub(crate) const OFFER_TIMEOUT: Duration = Duration::from_secs(5);

// --- one connection

/// From `accept` to a complete `Hello`, when nobody says otherwise.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a `Hello`, when nobody says otherwise: whatever a packet holds.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = ipc::limits::PACKET_BYTES_MAX;
/// Control packets that one client may send per second on average, when nobody says otherwise; beyond it, reading pauses.
pub(crate) const PACKETS_PER_SECOND_MAX: u32 = 2_000;
/// After a pause it may send at once what it may send in so many milliseconds.
pub(crate) const PACKETS_BURST_MS: u64 = 500;
/// Packets that wait for a client to read its socket. The sum of what one step may send to one
/// client: every topic of an answer to `Subscribe`, the end of all its links, and room for grants
/// and lists.
pub(crate) const OUTBOX_PACKETS_MAX: usize = TOPICS_MAX + LINKS_OF_EXCHANGE_MAX + 512;
/// Granted descriptors among them; one more is closed. As many as a client keeps, and few enough that peers which grant much to
/// one that does not read leave the daemon its descriptors.
pub(crate) const GRANTS_WAITING_MAX: usize = ipc::limits::GRANTS_HELD_MAX;
/// How long the last packets to a client that is being closed may take.
pub(crate) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Events that wait for the router; a client whose event does not fit waits, which pauses its
/// socket.
pub(crate) const HUB_EVENTS_MAX: usize = 1024;
/// Encoded bytes of agents in one `Agents` packet, kept well under the packet's own bound.
pub(crate) const AGENTS_PACKET_BYTES_MAX: usize = 32 * 1024;
/// How long the daemon waits after `accept` failed for want of descriptors before it tries again.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether what a client handed over has closed, where it is to be waited for: that is over in a
/// fraction of it, or somebody holds it up.
pub(crate) const CLOSING_LOOK_INTERVAL: Duration = Duration::from_millis(5);

// --- hosted agents

/// First wait before a hosted agent that ended is started again.
pub(crate) const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);
/// Longest wait before it is started again.
pub(crate) const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);
/// An agent that lived this long starts with a clean record.
pub(crate) const RESTART_FORGET_AFTER: Duration = Duration::from_secs(60);
/// Restarts in a row, without such a life between them, after which the agent counts as failed.
pub(crate) const RESTARTS_IN_A_ROW_MAX: u32 = 20;
/// Bytes of one line of a hosted agent's stderr; longer lines are cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// How long the daemon waits for work in flight when it is told to stop.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a hosted agent that was told to end may take before it is killed.
pub(crate) const CHILD_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls that one hosted agent runs at once; each has a thread. More wait in their lanes, which are
/// bounded.
pub(crate) const CALLS_AT_ONCE_MAX: usize = 32;
/// Requests that wait for a place or for a granted descriptor; one more is answered with `busy`.
pub(crate) const CALLS_QUEUED_MAX: usize = 256;
/// Of the places, those of one caller over all its links: calls that run, and answers that it has not taken. One caller has a
/// quarter of the agent at most.
pub(crate) const CALLS_PER_CALLER_MAX: usize = 8;
/// Requests of one caller that wait, over all its links: an eighth of all, so that one caller cannot fill the queue.
pub(crate) const CALLS_QUEUED_PER_CALLER_MAX: usize = 32;
/// Bytes of payload in all requests that wait: four of the longest messages that the bus carries.
pub(crate) const QUEUED_BYTES_MAX: usize = 4 * ipc::limits::MESSAGE_BYTES_MAX;
/// The same of one caller: half of it, which leaves the others room for two of the longest.
pub(crate) const QUEUED_BYTES_PER_CALLER_MAX: usize = QUEUED_BYTES_MAX / 2;
/// Bytes of a request, and of its answer, that the serving thread of a hosted agent handles itself: a copy of some
/// microseconds, so that one caller does not hold up the others.
pub(crate) const IMMEDIATE_BYTES_MAX: usize = 64 * 1024;
/// Looks at its lanes, and messages taken off them, between two looks at the socket and at what calls tell: ten microseconds of the
/// first, a hundred of the second. Such a look is several system calls, an empty one at the lanes some tens of nanoseconds.
pub(crate) const TURNS_PER_HOST_LOOK: u32 = 256;
/// Messages that are taken from one caller, over all its links, before the others have their turn.
pub(crate) const REQUESTS_PER_TURN_MAX: usize = 64;
/// Notices of calls that wait for the serving thread: an end and a complaint of each, and room for
/// events.
pub(crate) const NOTICES_MAX: usize = 2 * CALLS_AT_ONCE_MAX + 64;
/// How long a request waits for the descriptor that it names.
pub(crate) const GRANT_PATIENCE: Duration = Duration::from_secs(2);
/// How long an intermediate answer may wait for room in its lane before it is dropped.
pub(crate) const PROGRESS_PATIENCE: Duration = Duration::from_millis(100);
/// How long the thread of a call waits with a last answer for room, before the answer waits without it: the longest one takes a
/// third of that where its caller reads. Nothing else follows from it.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_millis(100);
/// How soon answers that wait for room are tried again at first: what a caller may lose by that is little beside what made it
/// stop reading.
pub(crate) const ANSWER_RETRY_MIN: Duration = Duration::from_millis(1);
/// How soon at last, where nobody reads: sixteen looks a second cost nothing.
pub(crate) const ANSWER_RETRY_MAX: Duration = Duration::from_millis(64);
/// Last answers of one link that wait for room, beyond which its requests stay in its lane; those that were taken off it before
/// come on top.
pub(crate) const UNSENT_PER_LINK_MAX: usize = 64;
/// Bytes of all last answers that found no room, and of the longest ones that the calls that run may give: what all calls at
/// once may answer. Beyond it no call begins until some are taken; no answer that is there is given up for it. Of one caller it
/// is a quarter at most, since its answers keep the places of their calls. Refusals, which are short, come on top.
pub(crate) const UNSENT_BYTES_MAX: usize = CALLS_AT_ONCE_MAX * ipc::limits::MESSAGE_BYTES_MAX;
/// Stack of a call's thread. Explanations and solvers are built without recursion.
pub(crate) const CALL_STACK_BYTES: usize = 4 * 1024 * 1024;
/// Threads of calls that wait for another call: one, and one for who asks while the first still puts away what it has used.
pub(crate) const CALL_THREADS_WAITING_MAX: usize = 2;
/// For how long: who works with packages asks again within it, and afterwards a thread's stack is given back.
pub(crate) const CALL_THREADS_WAITING_TIME: Duration = Duration::from_secs(30);
/// The least time between two reports of a host's counters to the daemon: a tenth of the packets
/// that a client may send.
pub(crate) const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Jobs of one process that nobody waits for and that wait for quiet: more than requests that run at once. One more is done at once.
pub(crate) const LATER_JOBS_MAX: usize = 64;
/// How often the machine is looked at.
pub(crate) const MACHINE_INTERVAL: Duration = Duration::from_secs(1);
/// The same while it is hot: a package heats by degrees within half a second.
pub(crate) const MACHINE_INTERVAL_HOT: Duration = Duration::from_millis(500);
/// Lines of the log about one thing that may come and go all the time (a thermal state, a daemon that is silent) within the period
/// below: once through all thermal states. Further ones are counted in the next.
pub(crate) const LINES_PER_PERIOD_MAX: usize = 6;
/// See [`LINES_PER_PERIOD_MAX`].
pub(crate) const LINES_PERIOD: Duration = Duration::from_secs(60);
/// How often the decision of the daemon is looked at in a process whose work waits for a better one.
pub(crate) const MACHINE_INTERVAL_WAITING: Duration = Duration::from_millis(200);
/// A decision that is older is none: a daemon that lives makes one each second.
pub(crate) const DECISION_AGE_MAX: Duration = Duration::from_secs(5);
/// How long the daemon, when it stops, waits for the thread that looks at the machine: many times what reading all of a machine's files takes. One
/// that hangs in a file of the kernel cannot be ended, and is left to the end of the process.
pub(crate) const GOVERNOR_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Percent of the time in which something waited for a processor from which workers leave their classes.
pub(crate) const PRESSURE_HIGH: f64 = 20.0;
/// Percent below which they go back.
pub(crate) const PRESSURE_LOW: f64 = 10.0;
/// How often a host whose calls run looks whether their work has changed, to report it.
pub(crate) const WORK_REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Different kinds of errors that are counted apart for one agent; the rest count as `other`.
pub(crate) const ERROR_KINDS_MAX: usize = 32;

// --- the exchange

/// Bytes of messages on their way through all routes together: parts of what is not complete, and what waits for room.
/// Sixteen of the longest messages each way; beyond it a route of the agent is closed for whom most of them wait.
pub(crate) const ROUTED_BYTES_MAX: usize = 32 * ipc::limits::MESSAGE_BYTES_MAX;
/// How long a message may take to come from its first piece to its last, when nothing of it is there: a thousand times what
/// the longest takes. Then its route is closed, since a link that has lost a message must not go on as if it had not.
pub(crate) const ROUTED_MESSAGE_PATIENCE: Duration = Duration::from_secs(30);
/// Buffers of routes up to this size are kept for the next message.
pub(crate) const ROUTE_BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Messages that are passed on in one direction of one route before the others have their turn.
pub(crate) const FORWARDED_PER_TURN_MAX: usize = 256;
/// Messages that wait for room in the lane of one caller of the exchange.
pub(crate) const CALLER_OUTBOX_MESSAGES_MAX: usize = 2_048;
/// Their bytes: two of the longest messages.
pub(crate) const CALLER_OUTBOX_BYTES_MAX: usize = 2 * ipc::limits::MESSAGE_BYTES_MAX;
/// Bytes of the items among them, as many as the largest queue holds. An item whose lease ran out, and that another worker
/// has done or that is dead, is kept by this alone.
pub(crate) const CALLER_OUTBOX_ITEM_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Messages of one caller that are read though a request before them waits, so that a cancellation among them is heard: more
/// than a client that waits for its answers sends.
pub(crate) const CALLER_READ_AHEAD_MESSAGES_MAX: usize = 64;
/// Bytes of these after which no more is read; one message more may be.
pub(crate) const CALLER_READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// Puts and takes of one caller that are not over.
pub(crate) const PENDING_PER_CALLER_MAX: usize = 1_024;
/// Dead letters in one answer; the next question names the last one.
pub(crate) const DEAD_LETTERS_PER_ANSWER_MAX: usize = 64;
/// Names of agents of which none is forgotten; beyond it those that nothing is connected with go.
pub(crate) const NAMES_KNOWN_MIN: usize = 4_096;
/// Bytes of a segment of a durable queue's journal: some ten thousand small changes.
pub(crate) const JOURNAL_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Which part of a segment puts leave to what follows from them: on a full disk some hundred acks still find room.
pub(crate) const JOURNAL_HEADROOM_SHARE: u64 = 16;
/// Bytes of a picture that are written after each change beside four times the change: one write of the page cache's
/// size, some microseconds.
pub(crate) const JOURNAL_PICTURE_BYTES_PER_TURN: u64 = 4 * 1024;
/// Deduplication ids in one line of a picture.
pub(crate) const JOURNAL_KNOWN_PER_LINE: usize = 256;
/// The least time between two attempts to open the journal of a queue that was given up: an attempt reads all of it.
pub(crate) const JOURNAL_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a start waits for an earlier exchange, which the kernel is ending, to let go of the journals.
pub(crate) const JOURNAL_HELD_PATIENCE: Duration = Duration::from_secs(5);
/// Answers that wait until a change is on the disk, of one queue: as many as the puts that may wait for room. Beyond it
/// the disk is slower than the callers, and they are told to come again.
pub(crate) const HELD_PER_QUEUE_MAX: usize = 4_096;
/// How often a message that found no room is tried again while everything else is quiet, where nobody tells of room: its reader
/// is of an earlier version, or its writer has sent what it may.
pub(crate) const FORWARD_RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of requests that are taken from one link before the others have their turn; one request more may be.
pub(crate) const REQUEST_BYTES_PER_TURN_MAX: usize = 1024 * 1024;
/// How long one caller's requests are served before the others have their turn; one request more may be. A tenth of what a dead
/// worker's items may take to be elsewhere.
pub(crate) const CALLER_TURN_MAX: Duration = Duration::from_micros(500);
/// The time between two looks at the socket while the serving thread is awake, as long as one turn allows: a look is a system
/// call, a third of a microsecond.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_micros(20);
/// Empty turns between two looks at the clock: together they take a microsecond where routes wait and eight where none does, which is
/// less than half of `LOOK_INTERVAL`; and a look at the clock is little beside that.
pub(crate) const TURNS_PER_CLOCK: u32 = 16;
/// A rate that has not held its agent back for so long begins to anew: longer than the serving thread sleeps while it does
/// (`FORWARD_RETRY_INTERVAL`), as often as it may be late.
pub(crate) const HELD_BACK_APART_MIN: Duration = Duration::from_millis(100);

// --- the metrics and health endpoint

/// Connections to the mirror at once, of all hosts: each takes a chunk of memory and waits for a slow line.
pub(crate) const MIRROR_CONNECTIONS_MAX: usize = 128;
/// Connections of one host: as many files as a Packager fetches at once, so four such hosts have room.
pub(crate) const MIRROR_CONNECTIONS_OF_ONE_MAX: usize = 32;
/// For one connection altogether: a wheel of 2 GiB at 1.2 MB/s; who is slower goes on by range.
pub(crate) const MIRROR_CONNECTION_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Bytes of a file that are read at once.
pub(crate) const MIRROR_CHUNK_BYTES: usize = 128 << 10;
/// Threads that serve: they move bytes out of the page cache.
pub(crate) const MIRROR_THREADS: usize = 2;

/// HTTP connections at once; a scraper and a few probes need fewer than ten.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 32;
/// For the head of a request to arrive; also bounds an idle kept-alive connection.
pub(crate) const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For one connection altogether: an endpoint that is scraped every few seconds needs no longer
/// ones.
pub(crate) const HTTP_CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of the read buffer, and so of a request's head.
pub(crate) const HTTP_BUFFER_BYTES: usize = 16 * 1024;
/// For the router to answer with a snapshot before a scrape or probe gives up.
pub(crate) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

// --- the directory

/// The least time between two refreshes of the directory while somebody looks: what a person can follow, with room.
pub(crate) const DIRECTORY_REFRESH_INTERVAL: Duration = Duration::from_millis(250);
/// How long whoever asked for the directory is taken to look at it; who looks longer asks again.
pub(crate) const DIRECTORY_LOOKED_AT_FOR: Duration = Duration::from_secs(10);
/// The least time between two refreshes because somebody asks: forty a second at most, however many ask.
pub(crate) const DIRECTORY_ASKED_INTERVAL: Duration = Duration::from_millis(25);
/// How often `top` shows a new picture.
pub(crate) const TOP_INTERVAL: Duration = Duration::from_secs(1);
/// Pictures of `top` after which it asks the daemon again: well within the time that one request lasts.
pub(crate) const TOP_PICTURES_PER_REQUEST: u32 = 4;
/// Rows of one table of `top`, so that a picture fits a terminal; `--json` has all.
pub(crate) const TOP_ROWS_MAX: usize = 16;

// --- files

/// Bytes of a configuration file.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

// --- the durable log

/// Bytes of one record's payload: the largest message with its header.
pub(crate) const LOG_PAYLOAD_BYTES_MAX: usize =
    ipc::limits::MESSAGE_BYTES_MAX + ipc::header::HEADER_BYTES_MAX;
/// Bytes of a sender's name in a record: what a manifest can hold.
pub(crate) const LOG_NAME_BYTES_MAX: usize = ipc::limits::WORD_BYTES_MAX;
/// Bytes of a segment file when nobody says otherwise: fifty thousand small records, and what a
/// start has to look through (some milliseconds).
pub(crate) const LOG_SEGMENT_BYTES_DEFAULT: u64 = 8 * 1024 * 1024;
/// Bytes of the smallest segment file: its header and some pages of records.
pub(crate) const LOG_SEGMENT_BYTES_MIN: u64 = 16 * 1024;
/// Bytes of the largest segment file: twice the largest record, and offsets fit in 32 bits.
pub(crate) const LOG_SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Positions of one log. A million records a second take 146,000 years to reach it; what claims more
/// is no record, and no sum of positions overflows.
pub(crate) const LOG_POSITIONS_MAX: u64 = 1 << 62;
/// Segment files of one log. With segments of the default size that is 32 GiB; beyond it appends
/// are refused until retention has made room.
pub(crate) const LOG_SEGMENTS_MAX: usize = 4096;
/// Full segment files that are not synced yet, each with an open descriptor. Beyond it the append
/// that fills one more syncs them itself: the disk is slower than the senders.
pub(crate) const LOG_SEGMENTS_UNSYNCED_MAX: usize = 8;
/// Records up to this size are put together in one buffer and written by one system call.
pub(crate) const LOG_APPEND_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes that a reader or a recovery reads at once when the records are small.
pub(crate) const LOG_READ_BYTES_MIN: usize = 64 * 1024;
/// Records between two remembered offsets of a segment; a reader that starts anywhere walks at
/// most so many.
pub(crate) const LOG_INDEX_STRIDE: u64 = 256;
/// Gaps that one start reports one by one; the rest are counted.
pub(crate) const LOG_GAPS_REPORTED_MAX: usize = 64;
/// Files with what was cut off after a crash, kept for people; the oldest go first.
pub(crate) const LOG_ASIDE_FILES_MAX: usize = 8;
/// Consumers whose position one log keeps records for.
pub(crate) const LOG_CONSUMERS_MAX: usize = 1024;
/// Requests to sync that wait for the committing thread, all logs together; one group takes them
/// all at once.
pub(crate) const LOG_SYNC_REQUESTS_MAX: usize = 4096;

// --- logs as the exchange serves them

/// Places of a follower that are kept to know how far it is: the error is some hundredths of how far it is behind.
pub(crate) const LOG_MARKS_MAX: usize = 64;

/// Logs in one state directory. Each takes two segments of disk at least.
pub(crate) const LOGS_MAX: usize = 1024;
/// Logs that are open at once; each has up to `LOG_SEGMENTS_UNSYNCED_MAX` descriptors and one of its directory. Beyond it the
/// one that nobody used for longest is closed.
pub(crate) const LOGS_OPEN_MAX: usize = 64;
/// Of these, logs that one agent had opened: a quarter. Beyond it the one of these that nobody used for longest is closed.
pub(crate) const LOGS_OPEN_PER_AGENT_MAX: usize = LOGS_OPEN_MAX / 4;
/// Logs that are being opened at once; each takes some descriptors until it is known whether it finds a place.
pub(crate) const LOGS_OPENING_MAX: usize = LOGS_OPEN_MAX;
/// Jobs that wait for one of the threads beside the exchange's own, those under way included: one of each caller and follower.
pub(crate) const DISK_JOBS_MAX: usize = 1024;
/// Bytes of one answer to a read; what one answer may be longer by is the longest record.
pub(crate) const LOG_READ_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are read at once for a follower that is behind: what its lane takes at once by default.
pub(crate) const LOG_FOLLOW_BYTES: usize = 128 * 1024;
/// How often one read begins again because retention was faster; then the next one goes on.
pub(crate) const LOG_READ_TRIES_MAX: usize = 8;
/// How often a log is tried that an earlier opening still holds.
pub(crate) const LOG_OPEN_TRIES_MAX: u32 = 200;
/// How long between two tries; one read or one sync is over in some of them.
pub(crate) const LOG_OPEN_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Followers, all logs together: two of each agent that the bus admits.
pub(crate) const LOG_FOLLOWERS_MAX: usize = 2 * AGENTS_MAX;
/// Followers of one link; the client library has one link for each.
pub(crate) const LOG_FOLLOWERS_PER_CALLER_MAX: usize = 16;
/// Answers of one link that wait for the disk.
pub(crate) const LOG_SYNCS_PER_CALLER_MAX: usize = 1024;
/// Bytes of the record that is appended when a link ends.
pub(crate) const LOG_WILL_BYTES_MAX: usize = 4096;
/// Such records whose log is being opened.
pub(crate) const LOG_WILLS_WAITING_MAX: usize = 4096;
/// How often logs are looked at for what is too old: at most and at least.
pub(crate) const LOG_LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// See above.
pub(crate) const LOG_LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(LOG_SYNCS_PER_CALLER_MAX < CALLER_OUTBOX_MESSAGES_MAX);
const _: () = assert!(ipc::limits::LOG_RECORD_BYTES_MAX <= LOG_PAYLOAD_BYTES_MAX);
const _: () = assert!(
    LOGS_OPEN_MAX * (LOG_SEGMENTS_UNSYNCED_MAX + 2) + LOGS_OPENING_MAX * 3 < 1024,
    "open logs leave descriptors for links"
);
const _: () = assert!(LOG_SEGMENT_BYTES_MIN < LOG_SEGMENT_BYTES_DEFAULT);
const _: () = assert!(
    LOG_PAYLOAD_BYTES_MAX as u64 + LOG_SEGMENT_BYTES_MIN < LOG_SEGMENT_BYTES_MAX,
    "the largest record fits in a segment of its own"
);
const _: () = assert!(LOG_SEGMENT_BYTES_MAX <= u32::MAX as u64, "an index entry has 32 bits");
const _: () =
    assert!(DESCRIPTORS_PER_AGENT_MAX < 1024, "one agent cannot exhaust even the usual soft limit");
const _: () =
    assert!(REASON_BYTES_MAX + 512 <= ipc::limits::TEXT_BYTES_MAX, "a reason and our words fit");
const _: () = assert!(AGENTS_PACKET_BYTES_MAX < ipc::limits::PACKET_BYTES_MAX);
const _: () = assert!(ERROR_KINDS_MAX <= ipc::limits::LIST_ENTRIES_MAX);
const _: () = assert!(
    2 * (ANSWER_REGION_BYTES * LINKS_PER_AGENT_MAX) as u64 <= SHARED_BYTES_PER_AGENT_MAX,
    "a hosted agent may have all of its links, with slots and half as much again"
);
const _: () = assert!(OFFERS_PER_AGENT_MAX <= LINKS_PER_AGENT_MAX);
const _: () = assert!(RESTART_DELAY_MIN.as_millis() < RESTART_DELAY_MAX.as_millis());
const _: () = assert!(4 * CALLS_PER_CALLER_MAX <= CALLS_AT_ONCE_MAX, "a quarter of the places");
const _: () = assert!(
    4 * CALLS_PER_CALLER_MAX * ipc::limits::MESSAGE_BYTES_MAX <= UNSENT_BYTES_MAX,
    "a quarter of what may wait"
);
const _: () = assert!(
    CALLS_QUEUED_PER_CALLER_MAX + CALLS_PER_CALLER_MAX <= ipc::limits::GRANTS_PER_LINK_MAX,
    "the client library keeps a grant of every request that waits"
);
const _: () = assert!(
    TOP_INTERVAL.as_millis() * (TOP_PICTURES_PER_REQUEST as u128 + 1)
        <= DIRECTORY_LOOKED_AT_FOR.as_millis(),
    "the directory stays fresh while `top` runs"
);
const _: () = assert!(
    AGENTS_MAX <= ipc::limits::DIRECTORY_AGENTS_MAX
        && TOPICS_MAX <= ipc::limits::DIRECTORY_TOPICS_MAX,
    "the directory has room for everybody"
);

// --- `bolide vers`

/// Bytes of one question. Two of the longest versions that any family reads.
pub(crate) const VERS_LINE_BYTES_MAX: usize = 2 * agents_versions::limits::VERSION_BYTES_MAX + 1;
/// What `sort` holds at once: a few million versions. Beyond it the answer is an error, and sorting in parts is the caller's.
pub(crate) const VERS_SORT_BYTES_MAX: usize = 256 * 1024 * 1024;
