/* Gives every function arguments that it must refuse. Needs no router. Ends with 0 where each was refused as the header says.
 */
#include <bolide.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void expect(int32_t code, int32_t expected, const char *what)
{
    if (code != expected) {
        fprintf(stderr, "%s: %s instead of %s\n", what, bolide_code_name(code), bolide_code_name(expected));
        failures++;
    }
}

static void expect_text(const char *text, const char *word)
{
    if (strstr(text, word) == NULL) {
        fprintf(stderr, "`%s` is not in `%s`\n", word, text);
        failures++;
    }
}

static void refuse_null_handles(void)
{
    bolide_message message;
    bolide_event event;
    uint64_t id;
    int32_t number;
    size_t count;
    expect(bolide_client_connect(NULL, NULL, NULL, NULL, 0), BOLIDE_ARGUMENT, "connect");
    expect(bolide_client_next_event(NULL, &event, 0), BOLIDE_ARGUMENT, "next_event");
    expect(bolide_client_agents(NULL, NULL, NULL, NULL), BOLIDE_ARGUMENT, "agents");
    expect(bolide_client_open(NULL, "x", NULL), BOLIDE_ARGUMENT, "open");
    expect(bolide_client_accept(NULL, 1, NULL), BOLIDE_ARGUMENT, "accept");
    expect(bolide_client_decline(NULL, 1, NULL), BOLIDE_ARGUMENT, "decline");
    expect(bolide_client_publisher(NULL, "x", 1, NULL), BOLIDE_ARGUMENT, "publisher");
    expect(bolide_client_subscribe(NULL, "x", NULL), BOLIDE_ARGUMENT, "subscribe");
    expect(bolide_client_join(NULL, 1, 0, NULL), BOLIDE_ARGUMENT, "join");
    expect(bolide_client_descriptors(NULL, &number, &number), BOLIDE_ARGUMENT, "descriptors");
    expect(bolide_client_clear_bell(NULL), BOLIDE_ARGUMENT, "clear_bell");
    expect(bolide_client_wait(NULL, NULL, 0, NULL, 0, 0), BOLIDE_ARGUMENT, "wait");
    expect(bolide_client_set_lanes(NULL, 8, 4096), BOLIDE_ARGUMENT, "set_lanes");
    expect(bolide_link_request(NULL, NULL, &id), BOLIDE_ARGUMENT, "request");
    expect(bolide_link_call(NULL, NULL, NULL, NULL, &message), BOLIDE_ARGUMENT, "call");
    expect(bolide_link_wait(NULL, 1, &message, 0), BOLIDE_ARGUMENT, "link_wait");
    expect(bolide_link_receive(NULL, &message, 0), BOLIDE_ARGUMENT, "receive");
    expect(bolide_link_cancel(NULL, 1), BOLIDE_ARGUMENT, "cancel");
    expect(bolide_link_progress(NULL, 1, NULL, 0, 0), BOLIDE_ARGUMENT, "progress");
    expect(bolide_link_answer(NULL, 1, NULL, 0, 0), BOLIDE_ARGUMENT, "answer");
    expect(bolide_link_fail(NULL, 1, 1, "x", "x", NULL, 0, 0), BOLIDE_ARGUMENT, "fail");
    expect(bolide_link_send(NULL, NULL, 0, 0), BOLIDE_ARGUMENT, "send");
    expect(bolide_link_take_grant(NULL, 1, &number, 0), BOLIDE_ARGUMENT, "take_grant");
    expect(bolide_link_discard_grant(NULL, 1), BOLIDE_ARGUMENT, "discard_grant");
    expect(bolide_link_set_spin(NULL, 0), BOLIDE_ARGUMENT, "set_spin");
    expect(bolide_link_arm(NULL), BOLIDE_ARGUMENT, "arm");
    expect(bolide_link_disarm(NULL), BOLIDE_ARGUMENT, "disarm");
    expect(bolide_publisher_readers(NULL, &count), BOLIDE_ARGUMENT, "readers");
    expect(bolide_publisher_update(NULL), BOLIDE_ARGUMENT, "update");
    expect(bolide_publisher_send(NULL, NULL, 0, 0), BOLIDE_ARGUMENT, "publish");
    expect(bolide_publisher_try_send(NULL, NULL, 0), BOLIDE_ARGUMENT, "try_send");
    expect(bolide_subscriber_receive(NULL, &message, 0), BOLIDE_ARGUMENT, "topic receive");
    expect(bolide_subscriber_arm(NULL), BOLIDE_ARGUMENT, "topic arm");
    expect(bolide_subscriber_disarm(NULL), BOLIDE_ARGUMENT, "topic disarm");
    expect(bolide_client_close(NULL), BOLIDE_OK, "close");
    expect(bolide_link_close(NULL, NULL), BOLIDE_OK, "close link");
    expect(bolide_publisher_close(NULL), BOLIDE_OK, "close publisher");
    expect(bolide_subscriber_close(NULL), BOLIDE_OK, "close subscriber");
    expect_text(bolide_client_error(NULL), "NULL");
    expect_text(bolide_link_error(NULL), "NULL");
    expect_text(bolide_publisher_error(NULL), "NULL");
    expect_text(bolide_subscriber_error(NULL), "NULL");
    if (bolide_link_peer(NULL) != NULL || bolide_subscriber_from(NULL) != NULL || bolide_client_id(NULL) != 0)
        failures++;
}

static void refuse_manifests(void)
{
    static char endless[4096];
    static const char *many[100];
    const char *words[] = {"plain", "\xff\xfe", NULL};
    bolide_client *client = bolide_client_new();
    bolide_manifest manifest = {.name = "demo"};
    memset(endless, 'x', sizeof endless - 1);
    for (size_t index = 0; index < 99; index++)
        many[index] = "x";
    expect(bolide_client_connect(client, "/nowhere", NULL, NULL, 0), BOLIDE_ARGUMENT, "no manifest");
    expect_text(bolide_client_error(client), "manifest");
    manifest.name = NULL;
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_ARGUMENT, "no name");
    manifest.name = endless;
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_ARGUMENT, "endless name");
    expect_text(bolide_client_error(client), "too long");
    manifest.name = "\xc3\x28";
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_ARGUMENT, "no UTF-8");
    expect_text(bolide_client_error(client), "UTF-8");
    manifest.name = "demo";
    manifest.tools = words;
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_ARGUMENT, "tools");
    manifest.tools = many;
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_ARGUMENT, "many tools");
    expect_text(bolide_client_error(client), "too many");
    manifest.tools = NULL;
    manifest.priority = 11;
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_ARGUMENT, "priority");
    manifest.priority = 0;
    expect(bolide_client_connect(client, endless, &manifest, NULL, 0), BOLIDE_ARGUMENT, "path");
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 8), BOLIDE_ARGUMENT, "token");
    expect(bolide_client_connect(client, "/nowhere", &manifest, (const uint8_t *)"t", SIZE_MAX), BOLIDE_ARGUMENT,
           "long token");
    expect(bolide_client_connect(client, "/nowhere", &manifest, NULL, 0), BOLIDE_NO_ROUTER, "no router");
    expect_text(bolide_client_error(client), "nowhere");
    expect(bolide_client_close(client), BOLIDE_OK, "close");
}

static void refuse_without_connection(void)
{
    bolide_client *client = bolide_client_new();
    bolide_link *link = NULL;
    bolide_event event;
    const bolide_agent *agents;
    size_t count;
    expect(bolide_client_open(client, "x", &link), BOLIDE_CLOSED, "open");
    expect(bolide_client_open(client, "x", NULL), BOLIDE_ARGUMENT, "open into NULL");
    expect(bolide_client_open(client, NULL, &link), BOLIDE_ARGUMENT, "open NULL");
    expect(bolide_client_next_event(client, &event, 0), BOLIDE_CLOSED, "next_event");
    expect(bolide_client_agents(client, "", &agents, &count), BOLIDE_CLOSED, "agents");
    expect(bolide_client_accept(client, 7, &link), BOLIDE_ARGUMENT, "accept");
    expect(bolide_client_decline(client, 7, NULL), BOLIDE_ARGUMENT, "decline");
    expect(bolide_client_set_lanes(client, 7, 4096), BOLIDE_ARGUMENT, "slots");
    expect(bolide_client_set_lanes(client, 8, 4097), BOLIDE_ARGUMENT, "region");
    expect(bolide_client_wait(client, NULL, 1, NULL, 0, 0), BOLIDE_ARGUMENT, "wait for NULL");
    expect(bolide_client_wait(client, (const bolide_link *const *)&link, 1, NULL, 0, 0), BOLIDE_ARGUMENT,
           "wait for a NULL link");
    expect(bolide_client_close(client), BOLIDE_OK, "close");
}

int main(void)
{
    refuse_null_handles();
    refuse_manifests();
    refuse_without_connection();
    expect_text(bolide_code_name(12345), "unknown");
    expect_text(bolide_version(), ".");
    return failures != 0;
}
