/* A tool server in C: answers `c.echo`, `c.slow`, `c.read` and `c.stop`, and publishes the name of each tool that was
 * called on the topic `demo.c.calls`.
 *
 *     server [SOCKET]
 *
 * c.echo: the payload, after one intermediate answer. c.slow: an intermediate answer and never a last one. c.read: what
 * the granted file holds, at most 4,096 bytes. c.stop: ends the program. */
#include <bolide.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINKS_MAX = 16, ROOM_MS = 1000 };

static bolide_link *links[LINKS_MAX];
static size_t link_count;

static int complain(const char *what, const char *text)
{
    fprintf(stderr, "server: %s: %s\n", what, text);
    return 1;
}

static void accept_link(bolide_client *client, uint32_t lane)
{
    if (link_count == LINKS_MAX) {
        bolide_client_decline(client, lane, "no room for more links");
    } else if (bolide_client_accept(client, lane, &links[link_count]) == BOLIDE_OK) {
        link_count++;
    }
}

static void answer_file(bolide_link *link, const bolide_message *request)
{
    uint8_t content[4096];
    ssize_t length = -1;
    int32_t file;
    if (request->grants[0] == 0
        || bolide_link_take_grant(link, request->grants[0], &file, ROOM_MS) != BOLIDE_OK) {
        bolide_link_fail(link, request->request, 2, "no-file", "grant a file with the request", NULL, 0,
                         ROOM_MS);
        return;
    }
    length = read(file, content, sizeof content);
    close(file);
    if (length < 0)
        bolide_link_fail(link, request->request, 1, "unreadable", "the file cannot be read", NULL, 0, ROOM_MS);
    else
        bolide_link_answer(link, request->request, content, (size_t)length, ROOM_MS);
}

/* Answers one request. 0: stop. The request lies in the library until the next receive on this link. */
static int answer(bolide_link *link, const bolide_message *request)
{
    static const uint8_t working[] = "working";
    uint64_t id = request->request;
    if (strcmp(request->tool, "c.echo") == 0) {
        bolide_link_progress(link, id, working, sizeof working - 1, ROOM_MS);
        bolide_link_answer(link, id, request->payload, request->payload_length, ROOM_MS);
    } else if (strcmp(request->tool, "c.slow") == 0) {
        bolide_link_progress(link, id, working, sizeof working - 1, ROOM_MS);
    } else if (strcmp(request->tool, "c.read") == 0) {
        answer_file(link, request);
    } else if (strcmp(request->tool, "c.stop") == 0) {
        bolide_link_answer(link, id, NULL, 0, ROOM_MS);
        return 0;
    } else {
        bolide_link_fail(link, id, 2, "unknown-tool", "there is no such tool here",
                         "c.echo, c.slow, c.read, c.stop", 0, ROOM_MS);
    }
    return 1;
}

/* Answers everything that is there on one link. -1: the link has ended, 0: stop. */
static int serve(bolide_link *link, bolide_publisher *calls)
{
    bolide_message message;
    int32_t code;
    while ((code = bolide_link_receive(link, &message, 0)) == BOLIDE_OK) {
        if (message.kind != BOLIDE_REQUEST)
            continue;
        bolide_publisher_send(calls, (const uint8_t *)message.tool, strlen(message.tool), ROOM_MS);
        if (!answer(link, &message))
            return 0;
    }
    return code == BOLIDE_TIMEOUT ? 1 : -1;
}

static int run(bolide_client *client, bolide_publisher *calls)
{
    for (;;) {
        bolide_event event;
        int32_t code;
        while ((code = bolide_client_next_event(client, &event, 0)) == BOLIDE_OK) {
            if (event.kind == BOLIDE_LINK_OFFERED)
                accept_link(client, event.lane);
            else if (event.kind == BOLIDE_READERS_CHANGED)
                bolide_publisher_update(calls);
        }
        if (code != BOLIDE_TIMEOUT)
            return complain("events", bolide_client_error(client));
        for (size_t index = 0; index < link_count;) {
            int served = serve(links[index], calls);
            if (served == 0)
                return 0;
            if (served < 0) {
                bolide_link_close(links[index], NULL);
                links[index] = links[--link_count];
            } else {
                index++;
            }
        }
        code = bolide_client_wait(client, (const bolide_link *const *)links, link_count, NULL, 0, -1);
        if (code != BOLIDE_OK)
            return complain("wait", bolide_client_error(client));
    }
}

int main(int count, char **words)
{
    const char *tools[] = {"c.echo", "c.slow", "c.read", "c.stop", NULL};
    bolide_manifest manifest = {.name = "demo.c.server", .version = "1.0.0", .tools = tools};
    bolide_publisher *calls = NULL;
    bolide_client *client = bolide_client_new();
    int code = 1;
    if (bolide_client_connect(client, count > 1 ? words[1] : NULL, &manifest, NULL, 0) != BOLIDE_OK)
        complain("connect", bolide_client_error(client));
    else if (bolide_client_publisher(client, "demo.c.calls", BOLIDE_LOSSLESS, &calls) != BOLIDE_OK)
        complain("publish", bolide_client_error(client));
    else
        code = run(client, calls);
    while (link_count > 0)
        bolide_link_close(links[--link_count], NULL);
    bolide_publisher_close(calls);
    bolide_client_close(client);
    return code;
}
