/* The bus for C: one connection to the router, links with requests and answers, topics.
 * Generated from ipc/c/src; a test fails where it is not current. The bytes on the bus are in ipc/PROTOCOL.md.
 *
 * Results. Functions return BOLIDE_OK or another BOLIDE_* code; the text of the last failure of a handle is what its
 * *_error function gives. No function ends the program: an error in the library is BOLIDE_PANICKED.
 *
 * Ownership. Handles are the library's memory; whoever got one closes it once, in any order. Closing NULL does nothing;
 * using or closing a handle that was closed is undefined. Arguments are the caller's, and read during the call only;
 * NULL, wrong lengths and text that is not UTF-8 are BOLIDE_ARGUMENT. What the library gives out is its own and valid as
 * long as the function says. A received payload lies where the bus put it; nothing is copied for C.
 *
 * Threads. Any thread may call, one at a time per handle: a second one gets BOLIDE_BUSY. Calls that sleep or that speak
 * with the router also use the client, so two threads that both wait have a client each. Sending, polling (a timeout of
 * 0) and the *_error functions of different handles are independent. A text or message must be read before another
 * thread uses the same handle. After fork() the child uses no handle of its parent.
 *
 * Needs 64-bit little-endian Linux. */

#ifndef BOLIDE_H
#define BOLIDE_H

#include <stddef.h>
#include <stdint.h>

/**
 * It worked.
 */
#define BOLIDE_OK 0

/**
 * Nothing came until the deadline.
 */
#define BOLIDE_TIMEOUT 1

/**
 * The lane is full, and the caller did not want to wait, or not longer.
 */
#define BOLIDE_FULL 2

/**
 * Nothing was armed, because something is there already: receive it.
 */
#define BOLIDE_READY 3

/**
 * This many messages of a topic were overwritten before they were read (`lost` of the message); the next call goes on.
 */
#define BOLIDE_LOST 4

/**
 * The peer closed the link or topic, or the client of this handle was closed.
 */
#define BOLIDE_CLOSED 10

/**
 * The process at the other end has died.
 */
#define BOLIDE_PEER_GONE 11

/**
 * The router took the permission back.
 */
#define BOLIDE_REVOKED 12

/**
 * The router is gone; nobody can tell any more whether peers still live.
 */
#define BOLIDE_ROUTER_GONE 13

/**
 * The peer broke the protocol; the lane is given up.
 */
#define BOLIDE_QUARANTINED 14

/**
 * There is no router at this path, or it does not run as this user.
 */
#define BOLIDE_NO_ROUTER 20

/**
 * The router refused; the text begins with its code and a colon.
 */
#define BOLIDE_REFUSED 21

/**
 * The router did not answer in time.
 */
#define BOLIDE_NO_ANSWER 22

/**
 * The router broke the protocol.
 */
#define BOLIDE_PROTOCOL 23

/**
 * An argument is wrong: NULL, too long, no UTF-8, out of range; or a call at the wrong time.
 */
#define BOLIDE_ARGUMENT 30

/**
 * Another thread is inside this handle, or this call comes from a callback of the same handle.
 */
#define BOLIDE_BUSY 31

/**
 * A bound of the library is reached.
 */
#define BOLIDE_LIMIT 32

/**
 * A request named a descriptor that never came.
 */
#define BOLIDE_NO_GRANT 33

/**
 * The system refused something: memory, descriptors, a segment.
 */
#define BOLIDE_SYSTEM 34

/**
 * The library has an error in itself. The handle can only be closed; the text says where it happened.
 */
#define BOLIDE_PANICKED 35

/**
 * A message: the peer asks. Answer it with `bolide_link_answer` or `bolide_link_fail`.
 */
#define BOLIDE_REQUEST 1

/**
 * A message: the peer no longer waits for the answer to `request`, of which only the low 32 bits are known.
 */
#define BOLIDE_CANCELLED 2

/**
 * A message: an intermediate answer to `request`.
 */
#define BOLIDE_PROGRESS 3

/**
 * A message: the last answer to `request`.
 */
#define BOLIDE_DONE 4

/**
 * A message: the last answer to `request`; the tool refused or failed, the payload is a CBOR map.
 */
#define BOLIDE_FAILED 5

/**
 * A message that belongs to no request; those of topics are such.
 */
#define BOLIDE_PLAIN 6

/**
 * An event: somebody wants a link (`lane`, `from`): accept or decline it.
 */
#define BOLIDE_LINK_OFFERED 1

/**
 * An event: a link or topic ended (`lane`, `code`, `reason`); its handle says so too.
 */
#define BOLIDE_LINK_CLOSED 2

/**
 * An event: a topic matches a subscription (`lane`, `subscription`, `subject`, `policy`, `from`): join it.
 */
#define BOLIDE_TOPIC_FOUND 3

/**
 * An event: readers of an own topic came or went (`lane`): `bolide_publisher_update`.
 */
#define BOLIDE_READERS_CHANGED 4

/**
 * An event: the router stops; finish and leave.
 */
#define BOLIDE_DRAINING 5

/**
 * A topic whose writer is held back by its slowest reader.
 */
#define BOLIDE_LOSSLESS 1

/**
 * A topic whose writer goes on; a reader that was lapped is told how much it lost.
 */
#define BOLIDE_LOSSY 2

/**
 * A link of shared memory.
 */
#define BOLIDE_CRITICAL 0

/**
 * A link of shared memory, signalled through io_uring.
 */
#define BOLIDE_HIGH 1

/**
 * A link of sockets.
 */
#define BOLIDE_NORMAL 2

/**
 * A reader that polls for as long as a wake-up costs, then sleeps. What a new handle does.
 */
#define BOLIDE_SPIN_ADAPTIVE 0

/**
 * A reader that sleeps at once.
 */
#define BOLIDE_SPIN_NONE 1

/**
 * A reader that never sleeps, for a thread that has a processor of its own.
 */
#define BOLIDE_SPIN_FOREVER 2

/**
 * A connection to the router. Opaque.
 */
typedef struct bolide_client bolide_client;

/**
 * Two opposite lanes between this program and another agent. Opaque.
 */
typedef struct bolide_link bolide_link;

/**
 * The writing side of a topic. Opaque.
 */
typedef struct bolide_publisher bolide_publisher;

/**
 * The reading side of a topic. Opaque.
 */
typedef struct bolide_subscriber bolide_subscriber;

/**
 * What an agent wants to be held to, at most. The router's configuration says what it may have, and the tighter of the two
 * counts; 0 is the configuration's alone.
 */
typedef struct bolide_limits {
    /**
     * Links, offered and open.
     */
    uint64_t links;
    /**
     * All segments that it makes and that are in use, in bytes.
     */
    uint64_t bytes;
    /**
     * How many descriptors the router keeps open for it.
     */
    uint64_t descriptors;
    /**
     * Control packets a second.
     */
    uint64_t messages;
    /**
     * Messages a second that the exchange takes from it.
     */
    uint64_t passed;
} bolide_limits;

/**
 * What an agent says of itself. The caller's; read during the call only.
 */
typedef struct bolide_manifest {
    /**
     * A dotted name, unique among the live agents of one router.
     */
    const char *name;
    /**
     * Its own version; NULL: "0".
     */
    const char *version;
    /**
     * A free word for grouping; NULL: "tool".
     */
    const char *category;
    /**
     * What it can do, as words that others search for; ends with NULL, or NULL.
     */
    const char *const *capabilities;
    /**
     * Tools that it answers, by name; ends with NULL, or NULL.
     */
    const char *const *tools;
    /**
     * Subjects that it wants from the start, with wildcards; ends with NULL, or NULL.
     */
    const char *const *subscriptions;
    /**
     * Free words that others filter by; ends with NULL, or NULL.
     */
    const char *const *tags;
    /**
     * 1 to 10; 0: 5.
     */
    uint8_t priority;
    /**
     * What it wants to be held to; all 0: nothing.
     */
    struct bolide_limits limits;
} bolide_manifest;

/**
 * One agent as the router shows it. Everything that it points to is as long valid as the structure.
 */
typedef struct bolide_agent {
    /**
     * Its id on this router.
     */
    uint32_t id;
    /**
     * Its process, as the kernel says.
     */
    uint32_t pid;
    /**
     * The user it runs as, as the kernel says.
     */
    uint32_t uid;
    /**
     * 1 to 10.
     */
    uint8_t priority;
    /**
     * Its name.
     */
    const char *name;
    /**
     * Its version.
     */
    const char *version;
    /**
     * Its category.
     */
    const char *category;
    /**
     * What it can do; ends with NULL.
     */
    const char *const *capabilities;
    /**
     * Tools that it answers; ends with NULL.
     */
    const char *const *tools;
    /**
     * Subjects that it wants; ends with NULL.
     */
    const char *const *subscriptions;
    /**
     * Free words; ends with NULL.
     */
    const char *const *tags;
} bolide_agent;

/**
 * Something that the router told. Everything that it points to is the library's, and valid until the next
 * `bolide_client_next_event` or close of the same client. What an event does not have is 0 or NULL.
 */
typedef struct bolide_event {
    /**
     * `BOLIDE_LINK_OFFERED` to `BOLIDE_DRAINING`.
     */
    int32_t kind;
    /**
     * The link or topic.
     */
    uint32_t lane;
    /**
     * What `bolide_client_subscribe` gave.
     */
    uint32_t subscription;
    /**
     * `BOLIDE_LOSSLESS` or `BOLIDE_LOSSY`.
     */
    int32_t policy;
    /**
     * `closed`, `peer-gone`, `revoked` or `quarantined`.
     */
    const char *code;
    /**
     * For people.
     */
    const char *reason;
    /**
     * The topic's subject.
     */
    const char *subject;
    /**
     * Who wants the link, or writes the topic.
     */
    const struct bolide_agent *from;
} bolide_event;

/**
 * A request that is to be sent. The caller's; read during the call only.
 */
typedef struct bolide_request {
    /**
     * Which tool.
     */
    const char *tool;
    /**
     * Its arguments, CBOR by convention.
     */
    const uint8_t *payload;
    /**
     * How many bytes.
     */
    size_t payload_length;
    /**
     * Open descriptors to hand to the peer with the request, which stay the caller's own; or NULL.
     */
    const int32_t *descriptors;
    /**
     * How many; at most two.
     */
    size_t descriptor_count;
    /**
     * How long the answer is wanted, in milliseconds; negative: without end. The peer is told.
     */
    int64_t timeout_ms;
    /**
     * How long to wait for room in the lane at most, in milliseconds; 0: not at all.
     */
    int64_t room_ms;
} bolide_request;

/**
 * Called with each intermediate answer. The payload is valid during the call. Must return; calls on the same link or
 * client give `BOLIDE_BUSY`.
 */
typedef void (*bolide_progress)(void *context, const uint8_t *payload, size_t payload_length);

/**
 * One message. Everything that it points to is the library's, and valid until the next receive, wait, call or close of
 * the same handle.
 */
typedef struct bolide_message {
    /**
     * `BOLIDE_REQUEST` to `BOLIDE_PLAIN`.
     */
    int32_t kind;
    /**
     * Who sent it: the agent's id, as the router says.
     */
    uint32_t source;
    /**
     * The request that it is, or answers, or cancels; 0 for others.
     */
    uint64_t request;
    /**
     * The tool's name, NUL-terminated; NULL where the message is no request.
     */
    const char *tool;
    /**
     * The payload, never NULL. Not NUL-terminated, and aligned to 8 bytes or not at all.
     */
    const uint8_t *payload;
    /**
     * Its length.
     */
    size_t payload_length;
    /**
     * const int32_t *that were granted for a request, for `bolide_link_take_grant`; 0 is none.
     */
    uint64_t grants[2];
    /**
     * Nanoseconds since 1970 after which nobody wants an answer; 0: without end.
     */
    uint64_t deadline_ns;
    /**
     * When it was sent, in nanoseconds since 1970 by the sender's clock; 0: not said.
     */
    uint64_t time_ns;
    /**
     * With `BOLIDE_LOST`: how many positions of the topic were overwritten.
     */
    uint64_t lost;
} bolide_message;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * A code's name, such as `peer-gone`. Never NULL; valid for ever.
 */
const char *bolide_code_name(int32_t code);

/**
 * What a code means, in a few words. Never NULL; valid for ever.
 */
const char *bolide_code_text(int32_t code);

/**
 * What to do about a code; empty where there is nothing. Never NULL; valid for ever.
 */
const char *bolide_code_hint(int32_t code);

/**
 * The library's version. Never NULL; valid for ever.
 */
const char *bolide_version(void);

/**
 * A client that is not connected yet. Close it with `bolide_client_close`. NULL where there is no memory.
 */
struct bolide_client *bolide_client_new(void);

/**
 * Connects to the router and introduces this program. `socket` is the path of the router's socket; NULL: the usual one
 * (`bolide.sock` in `$BOLIDE_RUNTIME_DIR`, else in `bolide` of the user's runtime directory). `token` is a JWT where
 * the router wants one; NULL and 0 otherwise. The router must run as this process's user. A client connects once.
 */
int32_t bolide_client_connect(const struct bolide_client *client,
                              const char *socket,
                              const struct bolide_manifest *manifest,
                              const uint8_t *token,
                              size_t token_length);

/**
 * Takes leave of the router and frees the client. Its links, publishers and subscribers can still be closed, and what
 * is in their lanes still be received; they can no longer sleep. NULL is allowed and does nothing. With `BOLIDE_BUSY`
 * nothing was closed.
 */
int32_t bolide_client_close(struct bolide_client *client);

/**
 * What the last call on this client that failed had to say. Never NULL; valid until the next failure on it.
 */
const char *bolide_client_error(const struct bolide_client *client);

/**
 * The id that the router gave to this client; 0 where it is not connected.
 */
uint32_t bolide_client_id(const struct bolide_client *client);

/**
 * Sizes of lanes that are made from now on: slots (a power of two, 8 to 65,536) and bytes for payloads of more than 48
 * bytes (a power of two, 4,096 to 64 MiB).
 */
int32_t bolide_client_set_lanes(const struct bolide_client *client,
                                size_t slots,
                                size_t region_bytes);

/**
 * The live agents whose name, tool, capability or tag equals `filter`; NULL or empty: all. The array is the library's,
 * and valid until the next listing or close of this client.
 */
int32_t bolide_client_agents(const struct bolide_client *client,
                             const char *filter,
                             const struct bolide_agent **agents,
                             size_t *count);

/**
 * Opens a link to an agent by its name, or to one that answers a tool by the tool's. Close it with `bolide_link_close`.
 */
int32_t bolide_client_open(const struct bolide_client *client,
                           const char *target,
                           struct bolide_link **link);

/**
 * The same with a class: one of `BOLIDE_CRITICAL`, `BOLIDE_HIGH`, `BOLIDE_NORMAL`. Where it cannot be had, the link is of
 * the next one down; `bolide_link_class` tells.
 */
int32_t bolide_client_open_class(const struct bolide_client *client,
                                 const char *target,
                                 int32_t wanted,
                                 struct bolide_link **link);

/**
 * The next event; waits as long as `timeout_ms` says (0: not at all, negative: without end). `BOLIDE_TIMEOUT` where
 * nothing came. The event is the library's, and valid until the next one is asked for.
 */
int32_t bolide_client_next_event(const struct bolide_client *client,
                                 struct bolide_event *event,
                                 int64_t timeout_ms);

/**
 * Accepts a link that an event offered. Close it with `bolide_link_close`.
 */
int32_t bolide_client_accept(const struct bolide_client *client,
                             uint32_t lane,
                             struct bolide_link **link);

/**
 * Declines a link that an event offered, or forgets a topic that one found. `reason` is for people; NULL: none.
 */
int32_t bolide_client_decline(const struct bolide_client *client,
                              uint32_t lane,
                              const char *reason);

/**
 * Declares a topic. `policy` is `BOLIDE_LOSSLESS` or `BOLIDE_LOSSY`. Close it with `bolide_publisher_close`.
 */
int32_t bolide_client_publisher(const struct bolide_client *client,
                                const char *subject,
                                int32_t policy,
                                struct bolide_publisher **publisher);

/**
 * Wants every topic whose subject matches, present and future: they come as `BOLIDE_TOPIC_FOUND` with the number that is
 * put into `subscription`. In a pattern `*` is one word and a final `>` the rest.
 */
int32_t bolide_client_subscribe(const struct bolide_client *client,
                                const char *pattern,
                                uint32_t *subscription);

/**
 * Takes up a topic that an event found; messages from now on are received. `spin` is one of `BOLIDE_SPIN_*`; with
 * `BOLIDE_SPIN_FOREVER` the reader can never be armed. Close it with `bolide_subscriber_close`.
 */
int32_t bolide_client_join(const struct bolide_client *client,
                           uint32_t lane,
                           int32_t spin,
                           struct bolide_subscriber **subscriber);

/**
 * The two descriptors for an event loop; both stay the library's, and are valid until the client is closed. `socket` is
 * readable when there may be events, `bell` when an armed link or subscriber has news. Both are level-triggered.
 */
int32_t bolide_client_descriptors(const struct bolide_client *client,
                                  int32_t *socket,
                                  int32_t *bell);

/**
 * Silences the bell. In an event loop: when the bell is readable, clear it, receive from every link and subscriber
 * until `BOLIDE_TIMEOUT`, ask for events until `BOLIDE_TIMEOUT`, arm all again, and sleep only if none was
 * `BOLIDE_READY`. A call that sleeps (any with a timeout that is not 0) clears it as well, so arm again afterwards.
 */
int32_t bolide_client_clear_bell(const struct bolide_client *client);

/**
 * Sleeps until one of these links or subscribers has a message or has ended, or the router has news, or the deadline
 * comes (`BOLIDE_TIMEOUT`). The handles must be of this client, each at most once. NULL and 0 for none. It returns at
 * once while there are events, so ask for them.
 */
int32_t bolide_client_wait(const struct bolide_client *client,
                           const struct bolide_link *const *links,
                           size_t link_count,
                           const struct bolide_subscriber *const *subscribers,
                           size_t subscriber_count,
                           int64_t timeout_ms);

/**
 * Closes a link and frees it; the peer is told. `reason` is for people; NULL: none. `link` may be NULL. With
 * `BOLIDE_BUSY` nothing was closed.
 */
int32_t bolide_link_close(struct bolide_link *link,
                          const char *reason);

/**
 * What the last call on this link that failed had to say. Never NULL; valid until the next failure on it.
 */
const char *bolide_link_error(const struct bolide_link *link);

/**
 * Which link this is, as events name it; 0 for NULL.
 */
uint32_t bolide_link_lane(const struct bolide_link *link);

/**
 * How its messages travel: one of `BOLIDE_CRITICAL`, `BOLIDE_HIGH`, `BOLIDE_NORMAL`; -1 for NULL.
 */
int32_t bolide_link_class(const struct bolide_link *link);

/**
 * Who is at the other end; valid until the link is closed. NULL for NULL.
 */
const struct bolide_agent *bolide_link_peer(const struct bolide_link *link);

/**
 * How this link waits: one of `BOLIDE_SPIN_*`.
 */
int32_t bolide_link_set_spin(const struct bolide_link *link, int32_t spin);

/**
 * Sends a request; `id` names it in `bolide_link_wait`, `bolide_link_cancel` and in messages. Waits at most `room_ms` for
 * room, so 0 suits an event loop, except for more than half of the lane's region, which needs a reader meanwhile.
 */
int32_t bolide_link_request(const struct bolide_link *link,
                            const struct bolide_request *request,
                            uint64_t *id);

/**
 * Sends a request and waits for its last answer (`BOLIDE_DONE` or `BOLIDE_FAILED`); `progress` sees the others, and
 * may be NULL. A call that ends otherwise is cancelled at the peer. Other messages are kept for `bolide_link_receive`.
 */
int32_t bolide_link_call(const struct bolide_link *link,
                         const struct bolide_request *request,
                         bolide_progress progress,
                         void *context,
                         struct bolide_message *answer);

/**
 * The next answer to a request: `BOLIDE_PROGRESS` any number of times, then `BOLIDE_DONE` or `BOLIDE_FAILED`. Waits as
 * long as `timeout_ms` says (0: not at all, negative: without end). Other messages are kept for `bolide_link_receive`.
 */
int32_t bolide_link_wait(const struct bolide_link *link,
                         uint64_t request,
                         struct bolide_message *answer,
                         int64_t timeout_ms);

/**
 * The next message of any sort, answers included. Waits as long as `timeout_ms` says (0: not at all, negative: without
 * end). Answers to requests that were cancelled, or that timed out in a call, are dropped.
 */
int32_t bolide_link_receive(const struct bolide_link *link,
                            struct bolide_message *message,
                            int64_t timeout_ms);

/**
 * Tells the peer that nobody waits for the answer any more; what still comes is dropped. Never waits.
 */
int32_t bolide_link_cancel(const struct bolide_link *link,
                           uint64_t request);

/**
 * Sends an intermediate answer to a request of the peer. Waits at most `room_ms` for room.
 */
int32_t bolide_link_progress(const struct bolide_link *link,
                             uint64_t request,
                             const uint8_t *payload,
                             size_t payload_length,
                             int64_t room_ms);

/**
 * Sends the last answer to a request of the peer. Waits at most `room_ms` for room.
 */
int32_t bolide_link_answer(const struct bolide_link *link,
                           uint64_t request,
                           const uint8_t *payload,
                           size_t payload_length,
                           int64_t room_ms);

/**
 * Sends the last answer to a request of the peer: the tool refused or failed. `exit_code` is what a command line would
 * end with (1 to 255), `code` a stable name in kebab-case, `message` one sentence for people, `hint` what to do next
 * (or NULL), `retry` not 0 where the same call may succeed later. Waits at most `room_ms` for room.
 */
int32_t bolide_link_fail(const struct bolide_link *link,
                         uint64_t request,
                         uint8_t exit_code,
                         const char *code,
                         const char *message,
                         const char *hint,
                         int32_t retry,
                         int64_t room_ms);

/**
 * Sends a message that is no request; the peer receives `BOLIDE_PLAIN`. At most 48 bytes travel in one cache line. Waits
 * at most `room_ms` for room.
 */
int32_t bolide_link_send(const struct bolide_link *link,
                         const uint8_t *payload,
                         size_t payload_length,
                         int64_t room_ms);

/**
 * Takes a descriptor that the peer granted with a request; it is the caller's to close. It travels over another way than
 * the request, so this waits for it as long as `timeout_ms` says. `BOLIDE_NO_GRANT` where it did not come.
 */
int32_t bolide_link_take_grant(const struct bolide_link *link,
                               uint64_t grant,
                               int32_t *descriptor,
                               int64_t timeout_ms);

/**
 * Closes a descriptor that came, or will come, with a request that is not served.
 */
int32_t bolide_link_discard_grant(const struct bolide_link *link, uint64_t grant);

/**
 * Gets ready to sleep in an event loop: the client's bell rings for the next message. `BOLIDE_READY`: a message, or
 * the end, is there already; receive it first.
 */
int32_t bolide_link_arm(const struct bolide_link *link);

/**
 * Awake again after `bolide_link_arm`: the peer need not ring. Without it the peer rings once more than necessary.
 */
int32_t bolide_link_disarm(const struct bolide_link *link);

/**
 * Closes a topic and frees it; its readers are told. `publisher` may be NULL. With `BOLIDE_BUSY` nothing was closed.
 */
int32_t bolide_publisher_close(struct bolide_publisher *publisher);

/**
 * What the last call on this publisher that failed had to say. Never NULL; valid until the next failure on it.
 */
const char *bolide_publisher_error(const struct bolide_publisher *publisher);

/**
 * Which topic this is, as events name it; 0 for NULL.
 */
uint32_t bolide_publisher_lane(const struct bolide_publisher *publisher);

/**
 * How many readers are attached.
 */
int32_t bolide_publisher_readers(const struct bolide_publisher *publisher, size_t *count);

/**
 * Attaches readers that joined and forgets those that left. Never waits. After a `BOLIDE_READERS_CHANGED`, and now and
 * then where `bolide_publisher_try_send` is used.
 */
int32_t bolide_publisher_update(const struct bolide_publisher *publisher);

/**
 * Publishes to all readers: looks who joined or left, and waits at most `room_ms` for the slowest reader of a lossless
 * topic. A lossy topic is never full. Looks at the socket each time.
 */
int32_t bolide_publisher_send(const struct bolide_publisher *publisher,
                              const uint8_t *payload,
                              size_t payload_length,
                              int64_t room_ms);

/**
 * Publishes to the readers that are attached, and never waits: `BOLIDE_FULL` where a lossless topic has no room. Makes
 * no system call unless a reader sleeps.
 */
int32_t bolide_publisher_try_send(const struct bolide_publisher *publisher,
                                  const uint8_t *payload,
                                  size_t payload_length);

/**
 * Leaves a topic and frees the reader. `subscriber` may be NULL. With `BOLIDE_BUSY` nothing was closed.
 */
int32_t bolide_subscriber_close(struct bolide_subscriber *subscriber);

/**
 * What the last call on this subscriber that failed had to say. Never NULL; valid until the next failure on it.
 */
const char *bolide_subscriber_error(const struct bolide_subscriber *subscriber);

/**
 * Which topic this is, as events name it; 0 for NULL.
 */
uint32_t bolide_subscriber_lane(const struct bolide_subscriber *subscriber);

/**
 * `BOLIDE_LOSSLESS` or `BOLIDE_LOSSY`; 0 for NULL.
 */
int32_t bolide_subscriber_policy(const struct bolide_subscriber *subscriber);

/**
 * What the topic is about; valid until the subscriber is closed. NULL for NULL.
 */
const char *bolide_subscriber_subject(const struct bolide_subscriber *subscriber);

/**
 * Who writes the topic; valid until the subscriber is closed. NULL for NULL.
 */
const struct bolide_agent *bolide_subscriber_from(const struct bolide_subscriber *subscriber);

/**
 * The next message. Waits as long as `timeout_ms` says (0: not at all, negative: without end). `BOLIDE_LOST`: this reader
 * was lapped, `lost` of the message says by how much; the next call goes on.
 */
int32_t bolide_subscriber_receive(const struct bolide_subscriber *subscriber,
                                  struct bolide_message *message,
                                  int64_t timeout_ms);

/**
 * Gets ready to sleep in an event loop: the client's bell rings for the next message. `BOLIDE_READY`: a message, or
 * the end, is there already; receive it first.
 */
int32_t bolide_subscriber_arm(const struct bolide_subscriber *subscriber);

/**
 * Awake again after `bolide_subscriber_arm`: the writer need not ring.
 */
int32_t bolide_subscriber_disarm(const struct bolide_subscriber *subscriber);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BOLIDE_H */
