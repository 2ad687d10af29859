/* Prints what topics say, with an event loop of its own: poll() over the client's two descriptors.
 *
 *     listen SOCKET PATTERN COUNT
 *
 * Ends after COUNT messages. Each line is the subject and the payload. `ready` is printed once a topic was joined. */
#include <bolide.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOPICS_MAX = 16 };

static bolide_subscriber *topics[TOPICS_MAX];
static size_t topic_count;

/* Takes in events; the library's code that ended them, which is BOLIDE_TIMEOUT when there are no more. */
static int32_t take_events(bolide_client *client)
{
    bolide_event event;
    int32_t code;
    while ((code = bolide_client_next_event(client, &event, 0)) == BOLIDE_OK) {
        if (event.kind != BOLIDE_TOPIC_FOUND || topic_count == TOPICS_MAX)
            continue;
        if (bolide_client_join(client, event.lane, BOLIDE_SPIN_NONE, &topics[topic_count]) == BOLIDE_OK) {
            topic_count++;
            printf("ready\n");
            fflush(stdout);
        }
    }
    return code;
}

/* Prints what is there, at most `count` messages; how many it printed. A topic that has ended is closed. */
static long print_messages(long count)
{
    long printed = 0;
    for (size_t index = 0; index < topic_count;) {
        bolide_message message;
        int32_t code = BOLIDE_TIMEOUT;
        while (printed < count && (code = bolide_subscriber_receive(topics[index], &message, 0)) == BOLIDE_OK) {
            printf("%s %.*s\n", bolide_subscriber_subject(topics[index]), (int)message.payload_length,
                   (const char *)message.payload);
            printed++;
        }
        if (code >= BOLIDE_CLOSED) {
            bolide_subscriber_close(topics[index]);
            topics[index] = topics[--topic_count];
        } else {
            index++;
        }
    }
    fflush(stdout);
    return printed;
}

/* Whether every topic will ring the bell for its next message. One that has a message already does not. */
static int arm_topics(void)
{
    int all = 1;
    for (size_t index = 0; index < topic_count; index++)
        if (bolide_subscriber_arm(topics[index]) != BOLIDE_OK)
            all = 0;
    return all;
}

int main(int count, char **words)
{
    bolide_manifest manifest = {.name = "demo.c.listen", .version = "1.0.0"};
    bolide_client *client = bolide_client_new();
    struct pollfd polled[2] = {{.events = POLLIN}, {.events = POLLIN}};
    uint32_t subscription;
    long left = count == 4 ? atol(words[3]) : 0;
    if (left <= 0) {
        fprintf(stderr, "usage: listen SOCKET PATTERN COUNT\n");
        return 2;
    }
    if (bolide_client_connect(client, words[1], &manifest, NULL, 0) != BOLIDE_OK
        || bolide_client_subscribe(client, words[2], &subscription) != BOLIDE_OK
        || bolide_client_descriptors(client, &polled[0].fd, &polled[1].fd) != BOLIDE_OK) {
        fprintf(stderr, "listen: %s\n", bolide_client_error(client));
        return 1;
    }
    while (left > 0) {
        bolide_client_clear_bell(client);
        if (take_events(client) != BOLIDE_TIMEOUT)
            break;
        left -= print_messages(left);
        if (left > 0 && arm_topics())
            poll(polled, 2, -1);
    }
    while (topic_count > 0)
        bolide_subscriber_close(topics[--topic_count]);
    bolide_client_close(client);
    return left > 0;
}
