/* execute.c - run a string of code on every engine and print what it prints
 *
 *     execute ipcontroller-client.json 'import os; print(os.getpid())'
 *
 * All requests are sent before the first answer is awaited, so the engines
 * work at the same time.
 */
#include <stdio.h>
#include <stdlib.h>

#include <roundhouse/roundhouse.h>

static void
print_text(rh_request *req, int which, FILE *to)
{
    size_t n;
    char *text = rh_request_text(req, which, &n);

    if (text)
        fwrite(text, 1, n, to);
    rh_free(text);
}

/* 1 if the code failed on this engine. */
static int
print_result(rh_request *req, int id)
{
    rh_bytes content;

    printf("[engine %d]\n", id);
    print_text(req, 1, stdout);
    print_text(req, 2, stderr);
    if (rh_request_status(req) == RH_STATUS_OK)
        return 0;
    if (rh_request_part(req, RH_REPLY_CONTENT, &content) == 0)
        fprintf(stderr, "engine %d: %.*s\n", id, (int)content.n,
                (const char *)content.p);
    return 1;
}

static int
run(rh_client *client, const char *code, rh_error *err)
{
    size_t n = rh_client_engines(client, NULL, 0), sent = 0;
    rh_engine *engine = calloc(n + 1, sizeof(*engine));
    rh_request **req = calloc(n + 1, sizeof(*req));
    int rc = engine && req ? 0 : RH_ENOMEM, failed = 0;

    if (rc == 0 && rh_client_engines(client, engine, n) < n)
        n = rh_client_engines(client, engine, n); // some have left since
    for (; rc == 0 && sent < n; sent += rc == 0)
        rc = rh_client_execute(client, engine[sent].uuid, code, 0, &req[sent],
                               err);
    while (rc == 0 || rc == RH_EINTR) {
        rc = rh_client_wait(client, req, sent, sent, RH_DONE | RH_OUTPUT_DONE,
                            -1, err);
        if (rc == 0)
            break;
    }
    for (size_t i = 0; i < sent; i++) {
        if (rc == 0)
            failed += print_result(req[i], engine[i].id);
        rh_request_release(&req[i]);
    }
    free(engine);
    free(req);
    return rc < 0 ? rc : failed;
}

int
main(int argc, char **argv)
{
    rh_client *client;
    rh_error err = {0};
    int rc;

    if (argc != 3) {
        fprintf(stderr, "usage: execute CONNECTION_FILE CODE\n");
        return 2;
    }
    rc = rh_client_open(&client, argv[1], NULL, &err);
    if (rc == 0) {
        rc = run(client, argv[2], &err);
        rh_client_free(&client);
    }
    if (rc < 0)
        fprintf(stderr, "execute: %s\n",
                *err.text ? err.text : rh_code_text(rc));
    return rc != 0;
}
