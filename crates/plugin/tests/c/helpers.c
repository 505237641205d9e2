/* The header's helpers, case by case: for a test that knows the answers from elsewhere.
 *
 * Cases come on standard input, each JSON, path and capacity as "<len> <len> <cap>\n" and the
 * octets; they are copied into blocks of exactly their size, so that a sanitizer sees every
 * octet read beyond. Each answer is one line of: the value's text, the string, the number, the
 * base64 octets, and the path written as a JSON string and as base64; in hex, or - for none.
 */
#include <stdio.h>
#include <stdlib.h>

#include "postrider_auth.h"

static void *exactly(size_t len) {
    void *block = malloc(len ? len : 1);
    if (!block) {
        exit(1);
    }
    return block;
}

static void print_hex(const uint8_t *p, size_t len) {
    size_t i;
    putchar('=');
    for (i = 0; i < len; i++) {
        printf("%02x", p[i]);
    }
    putchar(' ');
}

static void print_none(void) { printf("- "); }

static int32_t print_chunk(void *ctx, pr_bytes chunk) {
    size_t i;
    (void)ctx;
    for (i = 0; i < chunk.len; i++) {
        printf("%02x", chunk.ptr[i]);
    }
    return 0;
}

static void one_case(pr_bytes json, const char *path, pr_bytes text, size_t cap) {
    pr_sink out = {NULL, print_chunk};
    char *buf = (char *)exactly(cap);
    pr_bytes value = pr_json_get(json, path), octets;
    uint64_t number;
    if (value.ptr) {
        print_hex(value.ptr, value.len);
    } else {
        print_none();
    }
    if (pr_json_str(json, path, buf, cap)) {
        print_hex((const uint8_t *)buf, strlen(buf));
    } else {
        print_none();
    }
    if (pr_json_u64(json, path, &number)) {
        putchar('=');
        pr_put_u64(&out, number);
        putchar(' ');
    } else {
        print_none();
    }
    if (pr_json_base64(json, path, (uint8_t *)buf, cap, &octets)) {
        print_hex(octets.ptr, octets.len);
    } else {
        print_none();
    }
    putchar('=');
    pr_put_json_str(&out, text);
    printf(" =");
    pr_put_base64(&out, text);
    putchar('\n');
    (void)pr_event_status(json);
    (void)pr_event_header(json, path, buf, cap);
    free(buf);
}

int main(void) {
    size_t json_len, path_len, cap;
    while (scanf("%zu %zu %zu", &json_len, &path_len, &cap) == 3 && getchar() == '\n') {
        uint8_t *json = (uint8_t *)exactly(json_len);
        uint8_t *text = (uint8_t *)exactly(path_len);
        char *path = (char *)exactly(path_len + 1);
        pr_bytes json_bytes, text_bytes;
        if (fread(json, 1, json_len, stdin) != json_len ||
            fread(text, 1, path_len, stdin) != path_len) {
            return 1;
        }
        memcpy(path, text, path_len);
        path[path_len] = '\0';
        json_bytes.ptr = json;
        json_bytes.len = json_len;
        text_bytes.ptr = text;
        text_bytes.len = path_len;
        one_case(json_bytes, path, text_bytes, cap);
        free(json);
        free(text);
        free(path);
    }
    return 0;
}
