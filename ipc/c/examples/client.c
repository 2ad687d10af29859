/* Calls one tool and writes its answer to stdout as it came.
 *
 *     client SOCKET TOOL [KEY=VALUE...]
 *
 * The arguments travel as a CBOR map of texts. Intermediate answers are counted on stderr. The exit code is 0, 1 where
 * the tool refused or failed (its CBOR map goes to stdout), or 10 and the library's code where there was no answer. */
#include <bolide.h>
#include <stdio.h>
#include <string.h>

enum { ARGUMENTS_MAX = 23, PAYLOAD_MAX = 8192, TIMEOUT_MS = 60000 };

static uint8_t payload[PAYLOAD_MAX];
static size_t payload_length;

/* A text of CBOR (RFC 8949): major type 3, its length, its bytes. */
static int put_text(const char *text, size_t length)
{
    if (length > 255 || payload_length + length + 2 > PAYLOAD_MAX)
        return 0;
    payload[payload_length++] = 0x78;
    payload[payload_length++] = (uint8_t)length;
    memcpy(payload + payload_length, text, length);
    payload_length += length;
    return 1;
}

static int put_arguments(char **pairs, int count)
{
    if (count > ARGUMENTS_MAX)
        return 0;
    payload[payload_length++] = (uint8_t)(0xa0 + count);
    for (int index = 0; index < count; index++) {
        const char *equals = strchr(pairs[index], '=');
        if (equals == NULL || !put_text(pairs[index], (size_t)(equals - pairs[index]))
            || !put_text(equals + 1, strlen(equals + 1)))
            return 0;
    }
    return 1;
}

static void count_progress(void *context, const uint8_t *bytes, size_t length)
{
    (void)bytes;
    (void)length;
    fprintf(stderr, "progress %d\n", ++*(int *)context);
}

static int call(bolide_link *link, const char *tool)
{
    bolide_request request = {
        .tool = tool,
        .payload = payload,
        .payload_length = payload_length,
        .timeout_ms = TIMEOUT_MS,
        .room_ms = TIMEOUT_MS,
    };
    bolide_message answer;
    int progress = 0;
    int32_t code = bolide_link_call(link, &request, count_progress, &progress, &answer);
    if (code != BOLIDE_OK) {
        fprintf(stderr, "client: %s: %s\n", bolide_code_name(code), bolide_link_error(link));
        return 10 + code;
    }
    fwrite(answer.payload, 1, answer.payload_length, stdout);
    return answer.kind == BOLIDE_FAILED;
}

int main(int count, char **words)
{
    /* One link is all that it needs; a mistake that opened more would be refused. */
    bolide_manifest manifest = {.name = "demo.c.client", .version = "1.0.0", .limits = {.links = 1}};
    bolide_client *client;
    bolide_link *link = NULL;
    int32_t code;
    int result;
    if (count < 3 || !put_arguments(words + 3, count - 3)) {
        fprintf(stderr, "usage: client SOCKET TOOL [KEY=VALUE...]\n");
        return 2;
    }
    client = bolide_client_new();
    code = bolide_client_connect(client, words[1], &manifest, NULL, 0);
    if (code == BOLIDE_OK)
        code = bolide_client_open(client, words[2], &link);
    if (code == BOLIDE_OK) {
        result = call(link, words[2]);
    } else {
        fprintf(stderr, "client: %s: %s\n", bolide_code_name(code), bolide_client_error(client));
        result = 10 + code;
    }
    bolide_link_close(link, NULL);
    bolide_client_close(client);
    return result;
}
