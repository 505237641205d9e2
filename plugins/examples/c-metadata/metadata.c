/* An auth plugin in C: the token of a virtual machine's managed identity, by SASL XOAUTH2.
 *
 * OBTAIN asks the metadata service on the machine, which knows no secret and needs none. SASL
 * presents the token that the host kept. One http, one sasl_start: the rest is checking.
 */
#include <stdio.h>
#include <stdlib.h>

#include "postrider_auth.h"

#define ENDPOINT "http://169.254.169.254"
#define PATH "/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
#define UNRESERVED "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

/* One account: the URL that gives its token. */
typedef struct instance {
    char url[4096];
} instance;

/* One operation, and room for what comes back. */
typedef struct flow {
    uint32_t op;
    int challenges; /* answered, in SASL */
    uint8_t body[65536];
    char text[32768];
} flow;

static int32_t describe(pr_sink *out) {
    static const char text[] =
        "{\"name\":\"metadata\",\"version\":\"1.0.0\","
        "\"summary\":\"the token of a managed identity, from the machine's metadata service\","
        "\"ops\":[\"obtain\",\"sasl\"],\"mechanisms\":[\"XOAUTH2\"],"
        "\"hosts\":[\"{endpoint}\"],"
        "\"config_schema\":{\"type\":\"object\",\"additionalProperties\":false,"
        "\"required\":[\"resource\"],\"properties\":{"
        "\"resource\":{\"type\":\"string\",\"description\":\"What the token is for, as a URI.\"},"
        "\"endpoint\":{\"type\":\"string\",\"default\":\"" ENDPOINT "\","
        "\"description\":\"The metadata service's URL, without a path.\"}}}}";
    return pr_puts(out, text) ? PR_E_INTERNAL : PR_DONE;
}

/* Writes the token's URL; 0 if it does not fit. The resource is percent-encoded but for the
 * unreserved characters (RFC 3986 section 2.3). */
static int write_url(char *url, size_t cap, const char *endpoint, const char *resource) {
    size_t base = strlen(endpoint), len;
    while (base != 0 && endpoint[base - 1] == '/') {
        base--;
    }
    if (base + sizeof PATH > cap) {
        return 0;
    }
    memcpy(url, endpoint, base);
    memcpy(url + base, PATH, sizeof PATH);
    len = base + strlen(PATH);
    for (; *resource; resource++) {
        const int plain = strchr(UNRESERVED, *resource) != NULL;
        if (cap - len < 4) {
            return 0;
        }
        len += (size_t)sprintf(url + len, plain ? "%c" : "%%%02X", (unsigned char)*resource);
    }
    return 1;
}

static int32_t create(const pr_host *host, pr_bytes config, void **inst, pr_sink *out) {
    char endpoint[1024] = ENDPOINT, resource[1024];
    instance *made;
    (void)host;
    if (!pr_json_str(config, "settings/resource", resource, sizeof resource)) {
        return pr_fail(out, PR_E_CONFIG, "setting `resource`: is missing, or too long");
    }
    if (pr_json_get(config, "settings/endpoint").ptr &&
        !pr_json_str(config, "settings/endpoint", endpoint, sizeof endpoint)) {
        return pr_fail(out, PR_E_CONFIG, "setting `endpoint`: is no URL, or too long");
    }
    made = (instance *)malloc(sizeof *made);
    if (!made) {
        return pr_fail(out, PR_E_INTERNAL, "out of memory");
    }
    if (!write_url(made->url, sizeof made->url, endpoint, resource)) {
        free(made);
        return pr_fail(out, PR_E_CONFIG, "settings `endpoint` and `resource`: are too long");
    }
    *inst = made;
    return PR_DONE;
}

static void destroy(void *inst) { free(inst); }

static int32_t begin_obtain(const instance *inst, pr_sink *out) {
    if (pr_puts(out, "{\"http\":{\"method\":\"GET\",") ||
        pr_puts(out, "\"headers\":[[\"Metadata\",\"true\"]],\"url\":") ||
        pr_put_json_str(out, pr_str(inst->url)) || pr_puts(out, "}}")) {
        return PR_E_INTERNAL;
    }
    return PR_YIELD;
}

/* Whether the server offers the mechanism. */
static int is_offered(pr_bytes input, const char *mechanism) {
    char path[32], name[32];
    unsigned i = 0;
    do {
        snprintf(path, sizeof path, "offered/%u", i++);
        if (pr_json_str(input, path, name, sizeof name) && strcmp(name, mechanism) == 0) {
            return 1;
        }
    } while (pr_json_get(input, path).ptr);
    return 0;
}

static int has_control(const char *text) {
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7F) {
            return 1;
        }
    }
    return 0;
}

/* user=U ^A auth=Bearer T ^A ^A, which starts the exchange and as a rule is all of it. */
static int32_t begin_sasl(flow *f, pr_bytes input, pr_sink *out) {
    char authcid[512];
    size_t len;
    if (!is_offered(input, "XOAUTH2")) {
        return pr_fail(out, PR_E_UNSUPPORTED, "the server does not offer XOAUTH2");
    }
    if (!pr_json_str(input, "authcid", authcid, sizeof authcid)) {
        return pr_fail(out, PR_E_CONFIG, "the user name is missing, or too long");
    }
    if (has_control(authcid)) {
        return pr_fail(out, PR_E_CONFIG, "the user name contains a control character");
    }
    len = (size_t)sprintf(f->text, "user=%s\1auth=Bearer ", authcid);
    if (!pr_json_str(input, "access_token", f->text + len, sizeof f->text - len - 2)) {
        return pr_fail(out, PR_E_PROTOCOL, "the host gave no access token");
    }
    strcat(f->text, "\1\1");
    if (pr_puts(out, "{\"sasl_start\":{\"mechanism\":\"XOAUTH2\",\"initial_response\":") ||
        pr_put_base64(out, pr_str(f->text)) || pr_puts(out, "}}")) {
        return PR_E_INTERNAL;
    }
    return PR_YIELD;
}

static void end(void *state) {
    if (state) {
        pr_wipe(state, sizeof(flow)); /* a token passed through it */
        free(state);
    }
}

static int32_t begin(void *inst, uint32_t op, pr_bytes input, void **state, pr_sink *out) {
    int32_t result;
    flow *f = (flow *)calloc(1, sizeof *f);
    if (!f) {
        return pr_fail(out, PR_E_INTERNAL, "out of memory");
    }
    f->op = op;
    switch (op) {
    case PR_OP_OBTAIN: result = begin_obtain((const instance *)inst, out); break;
    case PR_OP_SASL: result = begin_sasl(f, input, out); break;
    default: result = pr_fail(out, PR_E_UNSUPPORTED, "only obtain and sasl");
    }
    if (result == PR_YIELD) {
        *state = f;
    } else {
        end(f);
    }
    return result;
}

/* The service was not able to answer: what it said of when to come back. */
static int32_t fail_for_now(pr_bytes event, pr_sink *out) {
    char wait[8];
    if (pr_puts(out, "{\"message\":\"the metadata service is not able to answer now\"")) {
        return PR_E_INTERNAL;
    }
    if (pr_event_header(event, "retry-after", wait, sizeof wait) && wait[0] &&
        strspn(wait, "0123456789") == strlen(wait)) {
        if (pr_puts(out, ",\"retry_after_ms\":") ||
            pr_put_u64(out, strtoull(wait, NULL, 10) * 1000)) {
            return PR_E_INTERNAL;
        }
    }
    return pr_puts(out, "}") ? PR_E_INTERNAL : PR_E_TRANSIENT;
}

/* The service said no, in the words of RFC 6749 section 5.2 if it has any. */
static int32_t fail_for_good(flow *f, pr_bytes body, pr_sink *out) {
    if (pr_puts(out, "{\"message\":\"the metadata service refused\"")) {
        return PR_E_INTERNAL;
    }
    if (pr_json_str(body, "error", f->text, sizeof f->text) &&
        (pr_puts(out, ",\"oauth_error\":") || pr_put_json_str(out, pr_str(f->text)))) {
        return PR_E_INTERNAL;
    }
    if (pr_json_str(body, "error_description", f->text, sizeof f->text) &&
        (pr_puts(out, ",\"oauth_description\":") || pr_put_json_str(out, pr_str(f->text)))) {
        return PR_E_INTERNAL;
    }
    return pr_puts(out, "}") ? PR_E_INTERNAL : PR_E_DENIED;
}

static int32_t step_obtain(flow *f, pr_bytes event, pr_sink *out) {
    const int status = pr_event_status(event);
    uint64_t expires_in;
    pr_bytes body;
    if (status == 0) {
        /* Refused by the host's policy, the same again is refused again: pass its words on. */
        if (pr_json_str(event, "failed/kind", f->text, sizeof f->text) &&
            strcmp(f->text, "refused") == 0 &&
            pr_json_str(event, "failed/message", f->text, sizeof f->text)) {
            return pr_fail(out, PR_E_CONFIG, f->text);
        }
        return pr_fail(out, PR_E_TRANSIENT, "the metadata service was not reached");
    }
    if (status == 429 || status >= 500) {
        return fail_for_now(event, out);
    }
    if (!pr_event_body(event, f->body, sizeof f->body, &body)) {
        return pr_fail(out, PR_E_PROTOCOL, "the metadata service's answer is too long");
    }
    if (status != 200) {
        return fail_for_good(f, body, out);
    }
    /* Its numbers are strings, which pr_json_u64 reads too, and its refresh_token is empty. */
    if (!pr_json_str(body, "access_token", f->text, sizeof f->text) || !f->text[0] ||
        !pr_json_u64(body, "expires_in", &expires_in)) {
        return pr_fail(out, PR_E_PROTOCOL, "the metadata service's answer has no token in it");
    }
    if (pr_puts(out, "{\"token_type\":\"Bearer\",\"access_token\":") ||
        pr_put_json_str(out, pr_str(f->text)) || pr_puts(out, ",\"expires_in\":") ||
        pr_put_u64(out, expires_in) || pr_puts(out, "}")) {
        return PR_E_INTERNAL;
    }
    return PR_DONE;
}

static int32_t step_sasl(flow *f, pr_bytes event, pr_sink *out) {
    if (!pr_json_get(event, "sasl_challenge").ptr || f->challenges++ != 0) {
        return pr_fail(out, PR_E_PROTOCOL, "the exchange went on when it should have ended");
    }
    /* A challenge says why the token was refused; the empty answer brings the refusal itself. */
    return pr_puts(out, "{\"sasl_send\":\"\"}") ? PR_E_INTERNAL : PR_YIELD;
}

static int32_t step(void *state, pr_bytes event, pr_sink *out) {
    flow *f = (flow *)state;
    return f->op == PR_OP_OBTAIN ? step_obtain(f, event, out) : step_sasl(f, event, out);
}

PR_EXPORT const pr_auth_v1 *postrider_auth_v1(void) {
    static const pr_auth_v1 table = {PR_MAGIC,      PR_MAJOR, PR_MINOR, sizeof table,
                                     PR_THREADSAFE, describe, create,   destroy,
                                     begin,         step,     end};
    return &table;
}
