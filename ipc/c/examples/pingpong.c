/* Latency between two processes that both poll: one-way nanoseconds, as half of each round trip.
 *
 *     pingpong server SOCKET
 *     pingpong client SOCKET [ROUNDS [BYTES]]
 *
 * The client prints one line of JSON. Start the server first; it ends when its client leaves. */
#include <bolide.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIMEOUT_MS = 30000, WARM_UP = 10000, BYTES_MAX = 65536 };

static int complain(const char *text)
{
    fprintf(stderr, "pingpong: %s\n", text);
    return 1;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left, other = *(const uint64_t *)right;
    return (one > other) - (one < other);
}

static int serve(bolide_client *client)
{
    bolide_event event;
    bolide_link *link = NULL;
    bolide_message message;
    int32_t code;
    while (link == NULL) {
        if (bolide_client_next_event(client, &event, -1) != BOLIDE_OK)
            return complain(bolide_client_error(client));
        if (event.kind == BOLIDE_LINK_OFFERED
            && bolide_client_accept(client, event.lane, &link) != BOLIDE_OK)
            return complain(bolide_client_error(client));
    }
    bolide_link_set_spin(link, BOLIDE_SPIN_FOREVER);
    while ((code = bolide_link_receive(link, &message, TIMEOUT_MS)) == BOLIDE_OK)
        bolide_link_send(link, message.payload, message.payload_length, TIMEOUT_MS);
    bolide_link_close(link, NULL);
    return code == BOLIDE_CLOSED || code == BOLIDE_PEER_GONE ? 0 : complain(bolide_code_text(code));
}

static int measure(bolide_client *client, size_t rounds, size_t bytes)
{
    static uint8_t ball[BYTES_MAX];
    bolide_link *link;
    bolide_message message;
    uint64_t *taken = calloc(rounds, sizeof *taken);
    if (taken == NULL || bolide_client_open(client, "demo.c.pingpong", &link) != BOLIDE_OK)
        return complain(bolide_client_error(client));
    bolide_link_set_spin(link, BOLIDE_SPIN_FOREVER);
    for (size_t index = 0; index < rounds + WARM_UP; index++) {
        uint64_t began = now_ns();
        if (bolide_link_send(link, ball, bytes, TIMEOUT_MS) != BOLIDE_OK
            || bolide_link_receive(link, &message, TIMEOUT_MS) != BOLIDE_OK)
            return complain(bolide_link_error(link));
        if (index >= WARM_UP)
            taken[index - WARM_UP] = (now_ns() - began) / 2;
    }
    qsort(taken, rounds, sizeof *taken, compare);
    printf("{\"language\": \"c\", \"bytes\": %zu, \"rounds\": %zu, \"p50_ns\": %llu, \"p99_ns\": %llu}\n", bytes,
           rounds, (unsigned long long)taken[rounds / 2], (unsigned long long)taken[rounds * 99 / 100]);
    free(taken);
    bolide_link_close(link, NULL);
    return 0;
}

int main(int count, char **words)
{
    const char *tools[] = {"demo.c.pingpong", NULL};
    bolide_manifest manifest = {.version = "1.0.0"};
    int is_server = count > 2 && strcmp(words[1], "server") == 0;
    int is_client = count > 2 && strcmp(words[1], "client") == 0;
    long rounds = count > 3 ? atol(words[3]) : 100000;
    long bytes = count > 4 ? atol(words[4]) : 32;
    bolide_client *client;
    int code;
    if ((!is_server && !is_client) || rounds < 1 || bytes < 0 || bytes > BYTES_MAX) {
        fprintf(stderr, "usage: pingpong server|client SOCKET [ROUNDS [BYTES]]\n");
        return 2;
    }
    manifest.name = is_server ? "demo.c.pong" : "demo.c.ping";
    manifest.tools = is_server ? tools : NULL;
    client = bolide_client_new();
    if (bolide_client_connect(client, words[2], &manifest, NULL, 0) != BOLIDE_OK)
        code = complain(bolide_client_error(client));
    else
        code = is_server ? serve(client) : measure(client, (size_t)rounds, (size_t)bytes);
    bolide_client_close(client);
    return code;
}
