/* Postrider auth plugins: the C ABI, version 1.
 *
 * A plugin is a shared library with one symbol, postrider_auth_v1, which gives a table of six
 * functions. It opens no socket and reads no file: a flow *yields* what it needs, and the host
 * performs that.
 *
 *     describe -> what the plugin is
 *     create   -> an instance, for one account
 *       begin  -> PR_YIELD: a flow, and its first action in the sink
 *         step -> PR_YIELD: the next action        (as often as the plugin likes)
 *         step -> PR_DONE or PR_E_...: the result, or what went wrong
 *       end    -> the flow is gone; at any time between two calls, which is cancellation
 *     destroy  -> the instance is gone
 *
 * Byte strings hold JSON in UTF-8. Binary is base64 (RFC 4648 section 4, padded), times are
 * milliseconds since the Unix epoch. Ignore keys you do not know. An action has one key:
 *
 *     action (in the sink, with PR_YIELD)             answer (in the event, beside "now_ms")
 *     {"http":{"method":M,"url":U,                    "http":{"status":N,"headers":[[K,V],...],
 *       "headers":[[K,V],...],"body":BASE64}}           "body":BASE64}       (K in lower case)
 *     {"sleep_ms":N}                                  "slept":{}
 *     {"random":N}               (1 to 1024 octets)   "random":BASE64
 *     {"listen":{"redirect_uri":U}}                   "listening":U          (U with its port)
 *     {"open_url":{"url":U}}                          "redirect":U
 *     {"device_code":{"user_code":S,                  "shown":{}
 *       "verification_uri":U,"expires_in":SECONDS}}
 *     {"prompt":{"label":S,"secret":BOOL}}            "text":S
 *     {"secret_get":NAME}                             "secret":S
 *     {"sasl_start":{"mechanism":S,                   "sasl_challenge":BASE64
 *       "initial_response":BASE64}}
 *     {"sasl_send":BASE64}                            "sasl_challenge":BASE64
 *     any                                             "failed":{"kind":K,"message":S}
 *                                 K: "unreachable", "refused", "no_user" or "missing"
 *
 * Yield only actions that "host_features" of the config lists. Inputs of begin:
 *
 *     PR_OP_LOGIN    {"now_ms":N,"method":"browser" or "device_code"}
 *     PR_OP_OBTAIN   {"now_ms":N,"refresh_token":S?}
 *     PR_OP_SASL     {"now_ms":N,"offered":[S,...],"authcid":S,"authzid":S?,"host":S,"port":N,
 *                     "access_token":S?}
 *     PR_OP_REVOKE   {"now_ms":N,"refresh_token":S?,"access_token":S?}
 *
 * With PR_DONE, LOGIN and OBTAIN write {"access_token":S,"token_type":S?,"expires_in":SECONDS?,
 * "refresh_in":SECONDS?,"refresh_token":S?,"refresh_token_expires_in":SECONDS?,"scope":S?,
 * "id_token":S?,"identity":{...}?}; SASL and REVOKE write {}. "identity" is who signed in, of
 * LOGIN alone and checked by you: {"usernames":[S,...],"subject":S?,"tenant":S?,"name":S?,
 * "source":"id_token" or "userinfo"}.
 * With a negative result: {"message":S,"oauth_error":S?,"oauth_suberror":S?,
 * "oauth_description":S?,"retry_after_ms":N?,"user_url":U?}. Put no secret into a message.
 *
 * Three rules for every pointer, unless its declaration says more:
 *   owner     nothing changes owner. What you make you free; the host never frees it.
 *   lifetime  an argument is valid until the call returns; copy what you need for longer.
 *   thread    calls come on any thread. One flow is never entered twice at once. Other calls
 *             on one instance may overlap if the table says PR_THREADSAFE, else they never do.
 *
 * C11 or C++11. No exception and no longjmp may leave a function of the table. Compile with
 * -fvisibility=hidden so that the one symbol stays the only one.
 */
#ifndef POSTRIDER_AUTH_H
#define POSTRIDER_AUTH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- constants; numbers are never reused ---- */

#define PR_MAGIC UINT32_C(0x50524131) /* "PRA1" */
#define PR_MAJOR 1                    /* changes with the symbol's name */
#define PR_MINOR 0                    /* grows when fields are appended */

/* Flags of a table. */
#define PR_THREADSAFE UINT32_C(1) /* different flows of one instance may run at once */

/* Operations: what begin starts. */
#define PR_OP_LOGIN UINT32_C(1)  /* a person signs in */
#define PR_OP_OBTAIN UINT32_C(2) /* an access token without a person */
#define PR_OP_SASL UINT32_C(3)   /* one SASL exchange (RFC 4422) */
#define PR_OP_REVOKE UINT32_C(4) /* the provider forgets a token (RFC 7009) */

/* Results. A negative one the host does not know counts as PR_E_INTERNAL. */
#define PR_DONE 0               /* finished; the sink holds the result */
#define PR_YIELD 1              /* the sink holds an action for the host */
#define PR_E_CONFIG (-1)        /* the settings are wrong: a person must edit them */
#define PR_E_NEEDS_USER (-2)    /* a person must act: sign in, consent, answer */
#define PR_E_INVALID_GRANT (-3) /* the grant is void (RFC 6749 section 5.2) */
#define PR_E_TRANSIENT (-4)     /* the same again later may work */
#define PR_E_DENIED (-5)        /* the provider, or the host's policy, says no */
#define PR_E_PROTOCOL (-6)      /* the other side broke a protocol */
#define PR_E_UNSUPPORTED (-7)   /* this plugin, host or server cannot do that */
#define PR_E_INTERNAL (-8)      /* a fault in the plugin */

/* Levels of a host's log. */
#define PR_LOG_ERROR 1
#define PR_LOG_WARN 2
#define PR_LOG_INFO 3
#define PR_LOG_DEBUG 4
#define PR_LOG_TRACE 5

#define PR_SINK_CAP 1048576  /* octets a sink takes in one call */
#define PR_STEP_LIMIT_MS 2000 /* a call that takes longer costs the plugin its instance */

/* ---- types ---- */

/* Octets. Not terminated; ptr may be NULL when len is 0.
 * Owned by whoever passes them, valid until that call returns. */
typedef struct pr_bytes {
    const uint8_t *ptr;
    size_t len;
} pr_bytes;

/* Where a call writes its output. Owned by the host; use it only during the call it was passed
 * to, and only on that thread. */
typedef struct pr_sink {
    void *ctx; /* the host's; pass it to put */
    /* Appends a copy of chunk, which stays yours. 0: taken. Else refused, since the call's
     * output would exceed PR_SINK_CAP: return PR_E_INTERNAL. Call it as often as you like. */
    int32_t (*put)(void *ctx, pr_bytes chunk);
} pr_sink;

/* What the host offers an instance. Owned by the host; valid, and unchanged, from the call of
 * create until destroy returns, so you may keep the pointer. Fields are only appended: read one
 * only if size covers it. */
typedef struct pr_host {
    uint32_t size; /* sizeof(pr_host) when the host was built */
    uint32_t abi;  /* the host's major << 16 | minor */
    void *ctx;     /* the host's; pass it to log */
    /* Writes msg, UTF-8 without secrets, to the host's log at a PR_LOG_ level. msg is copied
     * and stays yours. Any thread, from the call of create until destroy returns. */
    void (*log)(void *ctx, int32_t level, pr_bytes msg);
} pr_host;

/* A plugin. Static and constant: the host keeps the pointer and never unloads the library. */
typedef struct pr_auth_v1 {
    uint32_t magic; /* PR_MAGIC */
    uint16_t major; /* PR_MAJOR */
    uint16_t minor; /* PR_MINOR */
    uint32_t size;  /* sizeof(pr_auth_v1) when the plugin was built */
    uint32_t flags; /* PR_THREADSAFE or 0 */

    /* Writes {"name":S,"version":S,"summary":S,"ops":["login","obtain","sasl","revoke"],
     * "mechanisms":[S,...],"config_schema":{...},"hosts":[S,...]}. At any time, also without an
     * instance. PR_DONE, or an error.
     *
     * config_schema is JSON Schema 2020-12; a property of its own (not a deeper one) with
     * "x-postrider-secret":true reaches the plugin by secret_get alone. Beside "properties",
     * "x-postrider-shared-grant":{SETTING:VALUE,...} says that with these values the user does
     * not matter: accounts equal in settings and secrets share their tokens.
     * "x-postrider-grant":[SETTING,...] names the settings that tell grants apart: when one of
     * them changes, stored tokens no longer serve. Without it that is every setting.
     * "x-postrider-client":[SETTING,...] names those that tell OAuth clients apart: when a
     * client is refused, all accounts equal in these wait. Without it each is on its own.
     * hosts are what http may reach, by HTTPS: "host", "host:port", or "{setting}" for the host
     * and port of the URL in that setting. What else is reached, without TLS or on a private
     * address, the operator allows. */
    int32_t (*describe)(pr_sink *out);

    /* Makes an instance from {"account":S,"username":S,"settings":{...},"secrets":[NAME,...],
     * "host_features":[ACTION,...]}. PR_DONE: *inst, which is yours and may be NULL, is passed
     * back until destroy takes it. Else an error, and *inst means nothing. */
    int32_t (*create)(const pr_host *host, pr_bytes config, void **inst, pr_sink *out);

    /* Frees inst: once for every create that was PR_DONE, after the end of all its flows. */
    void (*destroy)(void *inst);

    /* Starts the operation op. PR_YIELD: *flow, which is yours, is passed back until end takes
     * it, and the sink holds an action. Else there is no flow, *flow means nothing, and the sink
     * holds the result or the error. */
    int32_t (*begin)(void *inst, uint32_t op, pr_bytes input, void **flow, pr_sink *out);

    /* Goes on with the answer to the flow's action: {"now_ms":N, ANSWER}. As begin; once the
     * result is not PR_YIELD, end comes next. Must return within PR_STEP_LIMIT_MS. */
    int32_t (*step)(void *flow, pr_bytes event, pr_sink *out);

    /* Frees flow: once for every begin that was PR_YIELD, whether it finished or not. After
     * sasl_start or sasl_send this is also how success looks: the server asked no more. */
    void (*end)(void *flow);
} pr_auth_v1;

#if defined(_WIN32)
#define PR_EXPORT __declspec(dllexport)
#else
#define PR_EXPORT __attribute__((visibility("default")))
#endif

/* The one symbol. Define it; it may be called more than once and gives the same table. */
PR_EXPORT const pr_auth_v1 *postrider_auth_v1(void);

/* ---- helpers: writing. All give 0, or what the sink refused with ---- */

/* A C string as octets, without its NUL. Borrows text. */
static inline pr_bytes pr_str(const char *text) {
    pr_bytes bytes;
    bytes.ptr = (const uint8_t *)text;
    bytes.len = strlen(text);
    return bytes;
}

/* Octets as they are. */
static inline int32_t pr_put(pr_sink *out, pr_bytes bytes) {
    return out->put(out->ctx, bytes);
}

/* A C string as it is: for JSON that you wrote yourself. */
static inline int32_t pr_puts(pr_sink *out, const char *text) {
    return pr_put(out, pr_str(text));
}

/* A number. */
static inline int32_t pr_put_u64(pr_sink *out, uint64_t number) {
    uint8_t digits[20];
    pr_bytes bytes;
    uint8_t *p = digits + sizeof digits;
    do {
        *--p = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    bytes.ptr = p;
    bytes.len = (size_t)(digits + sizeof digits - p);
    return pr_put(out, bytes);
}

/* UTF-8 text as a JSON string, quoted and escaped: for whatever came from elsewhere. */
static inline int32_t pr_put_json_str(pr_sink *out, pr_bytes text) {
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = text.ptr;
    size_t left = text.len;
    int32_t refused = pr_puts(out, "\"");
    while (left != 0 && !refused) {
        pr_bytes run;
        run.ptr = p;
        run.len = 0;
        while (run.len < left && p[run.len] >= 0x20 && p[run.len] != '"' && p[run.len] != '\\') {
            run.len++;
        }
        p += run.len;
        left -= run.len;
        if (run.len != 0) {
            refused = pr_put(out, run);
        }
        if (left != 0 && !refused) {
            char escape[] = "\\u00xx";
            escape[4] = hex[*p >> 4];
            escape[5] = hex[*p & 15];
            refused = pr_puts(out, escape);
            p++;
            left--;
        }
    }
    return refused ? refused : pr_puts(out, "\"");
}

/* Octets as a JSON string of base64. */
static inline int32_t pr_put_base64(pr_sink *out, pr_bytes octets) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i;
    int32_t refused = pr_puts(out, "\"");
    for (i = 0; i < octets.len && !refused; i += 3) {
        const size_t left = octets.len - i;
        const uint32_t bits = (uint32_t)octets.ptr[i] << 16 |
                              (uint32_t)(left > 1 ? octets.ptr[i + 1] : 0) << 8 |
                              (uint32_t)(left > 2 ? octets.ptr[i + 2] : 0);
        char group[5];
        group[0] = digits[bits >> 18];
        group[1] = digits[bits >> 12 & 63];
        group[2] = '=';
        group[3] = '=';
        group[4] = '\0';
        if (left > 1) {
            group[2] = digits[bits >> 6 & 63];
        }
        if (left > 2) {
            group[3] = digits[bits & 63];
        }
        refused = pr_puts(out, group);
    }
    return refused ? refused : pr_puts(out, "\"");
}

/* {"message":...}, and code to return: `return pr_fail(out, PR_E_PROTOCOL, "no token");`. */
static inline int32_t pr_fail(pr_sink *out, int32_t code, const char *message) {
    if (pr_puts(out, "{\"message\":") || pr_put_json_str(out, pr_str(message)) ||
        pr_puts(out, "}")) {
        return PR_E_INTERNAL;
    }
    return code;
}

/* A line in the host's log. */
static inline void pr_log(const pr_host *host, int32_t level, const char *message) {
    if (host->size >= offsetof(pr_host, log) + sizeof host->log && host->log) {
        host->log(host->ctx, level, pr_str(message));
    }
}

/* Overwrites a secret; compilers do not remove it. */
static inline void pr_wipe(void *secret, size_t len) {
    volatile uint8_t *p = (volatile uint8_t *)secret;
    while (len-- != 0) {
        *p++ = 0;
    }
}

/* ---- internals of the readers; not part of the ABI ---- */

#define PR_I_DEPTH 64 /* nesting that is still read: recursion is bounded */

static inline const uint8_t *pr_i_space(const uint8_t *p, const uint8_t *end) {
    while (p != end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    return p;
}

static inline int pr_i_hex4(const uint8_t **at, const uint8_t *end, uint32_t *out) {
    int i;
    *out = 0;
    if (end - *at < 4) {
        return 0;
    }
    for (i = 0; i < 4; i++) {
        const uint8_t c = *(*at)++;
        if (c >= '0' && c <= '9') {
            *out = *out << 4 | (uint32_t)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            *out = *out << 4 | (uint32_t)((c | 32) - 'a' + 10);
        } else {
            return 0;
        }
    }
    return 1;
}

/* The next character inside a string, unescaped into out: how many octets, 0 behind the closing
 * quote, -1 where this is not JSON. Octets beyond ASCII pass one by one. */
static inline int pr_i_char(const uint8_t **at, const uint8_t *end, uint8_t out[4]) {
    uint32_t c, low;
    if (*at == end || **at < 0x20) {
        return -1;
    }
    c = *(*at)++;
    if (c == '"') {
        return 0;
    }
    if (c != '\\') {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (*at == end) {
        return -1;
    }
    c = *(*at)++;
    switch (c) {
    case '"':
    case '\\':
    case '/': break;
    case 'b': c = '\b'; break;
    case 'f': c = '\f'; break;
    case 'n': c = '\n'; break;
    case 'r': c = '\r'; break;
    case 't': c = '\t'; break;
    case 'u':
        if (!pr_i_hex4(at, end, &c) || (c >= 0xDC00 && c <= 0xDFFF)) {
            return -1;
        }
        if (c >= 0xD800 && c <= 0xDBFF) { /* a pair of surrogates */
            if (end - *at < 2 || (*at)[0] != '\\' || (*at)[1] != 'u') {
                return -1;
            }
            *at += 2;
            if (!pr_i_hex4(at, end, &low) || low < 0xDC00 || low > 0xDFFF) {
                return -1;
            }
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        }
        break;
    default: return -1;
    }
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xC0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        out[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* Behind the string that starts at p, or NULL. */
static inline const uint8_t *pr_i_string(const uint8_t *p, const uint8_t *end) {
    uint8_t out[4];
    int n;
    if (p == end || *p++ != '"') {
        return NULL;
    }
    while ((n = pr_i_char(&p, end, out)) > 0) {
    }
    return n == 0 ? p : NULL;
}

/* Behind the digits at p, of which there is one at least, or NULL. */
static inline const uint8_t *pr_i_digits(const uint8_t *p, const uint8_t *end) {
    if (p == end || *p < '0' || *p > '9') {
        return NULL;
    }
    while (p != end && *p >= '0' && *p <= '9') {
        p++;
    }
    return p;
}

/* Behind the number at p, or NULL. */
static inline const uint8_t *pr_i_number(const uint8_t *p, const uint8_t *end) {
    if (p != end && *p == '-') {
        p++;
    }
    p = p != end && *p == '0' ? p + 1 : pr_i_digits(p, end);
    if (p && p != end && *p == '.') {
        p = pr_i_digits(p + 1, end);
    }
    if (p && p != end && (*p | 32) == 'e') {
        p++;
        if (p != end && (*p == '+' || *p == '-')) {
            p++;
        }
        p = pr_i_digits(p, end);
    }
    return p;
}

static inline const uint8_t *pr_i_value(const uint8_t *p, const uint8_t *end, int depth);

/* A walk over the members of an object or array. */
typedef struct pr_i_walk {
    const uint8_t *p, *end;
    uint8_t open; /* '{' or '[' */
    int first;
} pr_i_walk;

/* Starts behind the bracket at p. */
static inline pr_i_walk pr_i_enter(const uint8_t *p, const uint8_t *end) {
    pr_i_walk walk;
    walk.p = p + 1;
    walk.end = end;
    walk.open = *p;
    walk.first = 1;
    return walk;
}

/* 1 with the next member's key (the string with its quotes; empty in an array) and value; 0 with
 * walk->p behind the closing bracket; -1 where this is not JSON. */
static inline int pr_i_next(pr_i_walk *walk, int depth, pr_bytes *key, pr_bytes *value) {
    const uint8_t *const end = walk->end;
    const uint8_t *p = pr_i_space(walk->p, end);
    if (p != end && *p == (walk->open == '{' ? '}' : ']')) {
        walk->p = p + 1;
        return 0;
    }
    if (!walk->first) {
        if (p == end || *p != ',') {
            return -1;
        }
        p = pr_i_space(p + 1, end);
    }
    walk->first = 0;
    key->ptr = p;
    key->len = 0;
    if (walk->open == '{') {
        p = pr_i_string(p, end);
        if (!p) {
            return -1;
        }
        key->len = (size_t)(p - key->ptr);
        p = pr_i_space(p, end);
        if (p == end || *p != ':') {
            return -1;
        }
        p = pr_i_space(p + 1, end);
    }
    value->ptr = p;
    p = pr_i_value(p, end, depth);
    if (!p) {
        return -1;
    }
    value->len = (size_t)(p - value->ptr);
    walk->p = p;
    return 1;
}

/* Behind the value that starts at p, or NULL. */
static inline const uint8_t *pr_i_value(const uint8_t *p, const uint8_t *end, int depth) {
    static const char *const words[] = {"true", "false", "null"};
    pr_bytes key, value;
    size_t i;
    if (p == end || depth == 0) {
        return NULL;
    }
    if (*p == '"') {
        return pr_i_string(p, end);
    }
    if (*p == '{' || *p == '[') {
        pr_i_walk walk = pr_i_enter(p, end);
        int more;
        while ((more = pr_i_next(&walk, depth - 1, &key, &value)) == 1) {
        }
        return more == 0 ? walk.p : NULL;
    }
    for (i = 0; i < 3; i++) {
        const size_t len = strlen(words[i]);
        if ((size_t)(end - p) >= len && memcmp(p, words[i], len) == 0) {
            return p + len;
        }
    }
    return pr_i_number(p, end);
}

/* Whether a key, with its quotes, says name[0..len]. */
static inline int pr_i_is(pr_bytes key, const char *name, size_t len) {
    const uint8_t *p = key.ptr + 1;
    uint8_t out[4];
    int n;
    while ((n = pr_i_char(&p, key.ptr + key.len, out)) > 0) {
        if (len < (size_t)n || memcmp(out, name, (size_t)n) != 0) {
            return 0;
        }
        name += n;
        len -= (size_t)n;
    }
    return len == 0;
}

/* ---- helpers: reading JSON. They read nothing beyond what they are given ---- */

/* The value at path, as its JSON text: "status" is a member of the outermost object,
 * "http/headers/0" goes deeper, "" is everything. Where a key comes twice, its last one. Borrows
 * json. Its ptr is NULL when json is not JSON (or nested more than 64 deep), or has no such
 * value. Keys that contain '/' cannot be named. */
static inline pr_bytes pr_json_get(pr_bytes json, const char *path) {
    const pr_bytes none = {NULL, 0};
    pr_bytes found, key, value;
    const uint8_t *p, *end;
    if (json.len == 0) {
        return none;
    }
    end = json.ptr + json.len;
    found.ptr = pr_i_space(json.ptr, end);
    p = pr_i_value(found.ptr, end, PR_I_DEPTH);
    if (!p || pr_i_space(p, end) != end) {
        return none;
    }
    found.len = (size_t)(p - found.ptr);
    while (*path != '\0') {
        const size_t len = strcspn(path, "/");
        const int object = *found.ptr == '{';
        const size_t digits = strspn(path, "0123456789");
        size_t index = 0, i;
        pr_bytes next = none;
        pr_i_walk walk;
        if (!object && (*found.ptr != '[' || digits != len || len == 0 || len > 9)) {
            return none;
        }
        for (i = 0; i < digits && i < 9; i++) {
            index = index * 10 + (size_t)(path[i] - '0');
        }
        walk = pr_i_enter(found.ptr, found.ptr + found.len);
        while (pr_i_next(&walk, PR_I_DEPTH, &key, &value) == 1) {
            if (object ? pr_i_is(key, path, len) : index-- == 0) {
                next = value;
            }
        }
        if (!next.ptr) {
            return none;
        }
        found = next;
        path += path[len] == '/' ? len + 1 : len;
    }
    return found;
}

/* The string at path, unescaped, as a C string in buf. 1; or 0, with buf empty, when there is no
 * string, it does not fit into cap octets with its NUL, or contains a NUL itself. */
static inline int pr_json_str(pr_bytes json, const char *path, char *buf, size_t cap) {
    const pr_bytes value = pr_json_get(json, path);
    const uint8_t *p, *end;
    size_t len = 0;
    uint8_t out[4];
    int n;
    if (cap == 0) {
        return 0;
    }
    buf[0] = '\0';
    if (!value.ptr || *value.ptr != '"') {
        return 0;
    }
    p = value.ptr + 1;
    end = value.ptr + value.len;
    while ((n = pr_i_char(&p, end, out)) > 0) {
        if (out[0] == '\0' || (size_t)n >= cap - len) {
            buf[0] = '\0';
            return 0;
        }
        memcpy(buf + len, out, (size_t)n);
        len += (size_t)n;
    }
    buf[len] = '\0';
    return 1;
}

/* The whole number at path; also where it is written as a string of digits, as some providers do
 * with expires_in. 1; or 0, with *out 0, when there is none that fits. */
static inline int pr_json_u64(pr_bytes json, const char *path, uint64_t *out) {
    pr_bytes value = pr_json_get(json, path);
    uint64_t number = 0;
    size_t i;
    *out = 0;
    if (value.ptr && *value.ptr == '"') {
        value.ptr++;
        value.len -= 2;
    }
    if (!value.ptr || value.len == 0) {
        return 0;
    }
    for (i = 0; i < value.len; i++) {
        const uint8_t c = value.ptr[i];
        if (c < '0' || c > '9' || number > (UINT64_MAX - (uint64_t)(c - '0')) / 10) {
            return 0;
        }
        number = number * 10 + (uint64_t)(c - '0');
    }
    *out = number;
    return 1;
}

/* The octets behind the base64 string at path, decoded into buf; *out borrows buf. 1; or 0, with
 * *out empty, when there is none, it is not base64, or does not fit into cap octets. */
static inline int pr_json_base64(pr_bytes json, const char *path, uint8_t *buf, size_t cap,
                                 pr_bytes *out) {
    const pr_bytes value = pr_json_get(json, path);
    const uint8_t *p, *end;
    uint32_t bits = 0;
    size_t len = 0, octets, i;
    unsigned count = 0, pad = 0;
    uint8_t c[4];
    int n;
    out->ptr = buf;
    out->len = 0;
    if (!value.ptr || *value.ptr != '"') {
        return 0;
    }
    p = value.ptr + 1;
    end = value.ptr + value.len;
    while ((n = pr_i_char(&p, end, c)) == 1) {
        uint32_t digit = 0;
        if (c[0] == '=') {
            pad++;
        } else if (pad != 0) {
            return 0;
        } else if (c[0] >= 'A' && c[0] <= 'Z') {
            digit = (uint32_t)(c[0] - 'A');
        } else if (c[0] >= 'a' && c[0] <= 'z') {
            digit = (uint32_t)(c[0] - 'a' + 26);
        } else if (c[0] >= '0' && c[0] <= '9') {
            digit = (uint32_t)(c[0] - '0' + 52);
        } else if (c[0] == '+') {
            digit = 62;
        } else if (c[0] == '/') {
            digit = 63;
        } else {
            return 0;
        }
        bits = bits << 6 | digit;
        if (++count == 4) { /* 24 bits; those under padding must be 0 */
            if (pad > 2 || (bits & ((UINT32_C(1) << (8 * pad)) - 1)) != 0 || cap - len < 3 - pad) {
                return 0;
            }
            octets = 3 - pad;
            for (i = 0; i < octets; i++) {
                buf[len++] = (uint8_t)(bits >> (16 - 8 * i));
            }
            bits = 0;
            count = 0;
        }
    }
    if (n != 0 || count != 0) {
        return 0;
    }
    out->len = len;
    return 1;
}

/* ---- helpers: reading events ---- */

/* The status of an HTTP answer; 0 when the event is none. */
static inline int pr_event_status(pr_bytes event) {
    uint64_t status;
    return pr_json_u64(event, "http/status", &status) && status <= 999 ? (int)status : 0;
}

/* The body of an HTTP answer, decoded into buf; as pr_json_base64. */
static inline int pr_event_body(pr_bytes event, uint8_t *buf, size_t cap, pr_bytes *body) {
    return pr_json_base64(event, "http/body", buf, cap, body);
}

/* The first header field called name (in lower case) of an HTTP answer; as pr_json_str. */
static inline int pr_event_header(pr_bytes event, const char *name, char *buf, size_t cap) {
    const pr_bytes headers = pr_json_get(event, "http/headers");
    pr_bytes key, field;
    pr_i_walk walk;
    if (cap != 0) {
        buf[0] = '\0';
    }
    if (!headers.ptr || *headers.ptr != '[') {
        return 0;
    }
    walk = pr_i_enter(headers.ptr, headers.ptr + headers.len);
    while (pr_i_next(&walk, PR_I_DEPTH, &key, &field) == 1) {
        const pr_bytes found = pr_json_get(field, "0");
        if (found.ptr && *found.ptr == '"' && pr_i_is(found, name, strlen(name))) {
            return pr_json_str(field, "1", buf, cap);
        }
    }
    return 0;
}

#ifdef __cplusplus
}
#endif

#endif /* POSTRIDER_AUTH_H */
