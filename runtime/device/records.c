/* A record is lines "NAME VALUE": the first names kind and version, the last is "end". */
#include "device/records.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

void qn_text_put(struct qn_text *text, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (text->failed || n < 0 || !qn_grow(text->cb, &text->data, &text->cap, text->n + (size_t)n + 1, 1)) {
        text->failed = true;
        return;
    }
    va_start(args, fmt);
    vsnprintf(text->data + text->n, (size_t)n + 1, fmt, args);
    va_end(args);
    text->n += (size_t)n;
}

void qn_text_finish(struct qn_text *text)
{
    qn_free(text->cb, text->data);
    *text = (struct qn_text){.cb = text->cb};
}

static void begin(struct qn_text *text, const char *kind)
{
    qn_text_put(text, "quern-%s %s\n", kind, QN_VERSION);
}

/* A value in one line. */
static void put_line(struct qn_text *text, const char *name, const char *value, size_t length)
{
    size_t at = text->n + strlen(name) + 1;
    qn_text_put(text, "%s %.*s\n", name, (int)length, value);
    for (size_t i = at; !text->failed && i + 1 < text->n; i++)
        if ((unsigned char)text->data[i] < ' ')
            text->data[i] = ' ';
}

static void put_value(struct qn_text *text, const char *name, const char *value)
{
    put_line(text, name, value, strlen(value));
}

void qn_listing_write(struct qn_text *text, const struct qn_listing *listing)
{
    begin(text, "devices");
    qn_text_put(text, "status %u\n", listing->status);
    put_value(text, "reason", listing->reason);
    for (uint32_t i = 0; i < listing->n; i++) {
        const struct quern_device_info *info = &listing->infos[i];
        qn_text_put(text, "type %u\nmemory %llu\n", info->type, (unsigned long long)info->memory);
        put_value(text, "name", info->name);
        put_value(text, "driver", info->driver);
        put_value(text, "features", info->features);
        put_value(text, "identity", info->identity);
        qn_text_put(text, "vendor %u\nmodel %u\n", info->vendor_id, info->device_id);
        put_value(text, "driver-name", info->driver_name);
        put_value(text, "driver-version", info->driver_version);
        for (const char *fact = info->facts; *fact;) {
            size_t n = strcspn(fact, "\n");
            put_line(text, "fact", fact, n);
            fact += n + (fact[n] == '\n');
        }
        qn_text_put(text, "device\n");
    }
    qn_text_put(text, "end\n");
}

void qn_bad_parts_write(struct qn_text *text, const struct qn_bad_parts *bad)
{
    begin(text, "bad-parts");
    for (uint32_t i = 0; i < bad->n; i++) {
        put_value(text, "part", bad->part[i].path);
        put_value(text, "reason", bad->part[i].reason);
    }
    qn_text_put(text, "end\n");
}

void qn_verdict_write(struct qn_text *text, const struct qn_verdict *verdict)
{
    begin(text, "verdict");
    qn_text_put(text, "good %d\nstatus %u\nstrikes %u\nimport %d\n", verdict->good, verdict->status,
                verdict->strikes, verdict->import);
    put_value(text, "without", verdict->without);
    put_value(text, "reason", verdict->reason);
    qn_text_put(text, "end\n");
}

/* Thousandths, which every locale writes alike. */
void qn_rating_write(struct qn_text *text, const struct qn_rating *rating)
{
    begin(text, "rating");
    for (size_t i = 0; i < QN_LEN(rating->rate); i++)
        qn_text_put(text, "rate %llu\n", (unsigned long long)(rating->rate[i] * 1000));
    qn_text_put(text, "end\n");
}

/* ---- reading ---- */

struct reader {
    const char *at, *end;
    const char *what;
    uint32_t line;
    char name[32], value[1024];
};

static enum quern_status wrong(const struct reader *r, struct quern_error *err, const char *expected)
{
    return qn_fail(err, QUERN_ERR_FILE, "%s: line %u: expected %s", r->what, r->line, expected);
}

/* The next line; false: there is none that is whole, or a part of it is too long. */
static bool next(struct reader *r)
{
    r->line++;
    const char *stop = r->at < r->end ? memchr(r->at, '\n', (size_t)(r->end - r->at)) : NULL;
    if (!stop || memchr(r->at, '\0', (size_t)(stop - r->at)))
        return false;
    const char *space = memchr(r->at, ' ', (size_t)(stop - r->at));
    size_t name = (size_t)((space ? space : stop) - r->at);
    const char *value = space ? space + 1 : stop;
    if (name >= sizeof r->name || (size_t)(stop - value) >= sizeof r->value)
        return false;
    memcpy(r->name, r->at, name);
    r->name[name] = '\0';
    memcpy(r->value, value, (size_t)(stop - value));
    r->value[stop - value] = '\0';
    r->at = stop + 1;
    return true;
}

static bool is(const struct reader *r, const char *name)
{
    return strcmp(r->name, name) == 0;
}

static enum quern_status open_record(struct reader *r, const char *data, size_t n, const char *what,
                                     const char *kind, struct quern_error *err)
{
    char expected[64];
    *r = (struct reader){.at = data, .end = data + n, .what = what};
    snprintf(expected, sizeof expected, "quern-%s", kind);
    if (!next(r) || !is(r, expected))
        return wrong(r, err, expected);
    if (strcmp(r->value, QN_VERSION) != 0)
        return qn_fail(err, QUERN_ERR_FILE, "%s is of version %.32s, expected " QN_VERSION, what, r->value);
    return QUERN_OK;
}

static bool is_last(const struct reader *r)
{
    return is(r, "end") && !r->value[0] && r->at == r->end;
}

static bool number(const char *text, uint64_t *value)
{
    char *end;
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 19)
        return false;
    *value = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool number32(const char *text, uint32_t *value)
{
    uint64_t wide;
    if (!number(text, &wide) || wide > UINT32_MAX)
        return false;
    *value = (uint32_t)wide;
    return true;
}

static bool copy(char *to, size_t size, const char *value)
{
    size_t n = strlen(value);
    if (n >= size)
        return false;
    memcpy(to, value, n + 1);
    return true;
}

static bool append_fact(struct quern_device_info *info, const char *fact)
{
    size_t n = strlen(info->facts), more = strlen(fact);
    if (n + more + 2 > sizeof info->facts)
        return false;
    memcpy(info->facts + n, fact, more);
    memcpy(info->facts + n + more, "\n", 2);
    return true;
}

/* A line of a device. */
static bool device_line(const struct reader *r, struct quern_device_info *info)
{
    if (is(r, "type"))
        return number32(r->value, &info->type);
    if (is(r, "memory"))
        return number(r->value, &info->memory);
    if (is(r, "name"))
        return copy(info->name, sizeof info->name, r->value);
    if (is(r, "driver"))
        return copy(info->driver, sizeof info->driver, r->value);
    if (is(r, "features"))
        return copy(info->features, sizeof info->features, r->value);
    if (is(r, "identity"))
        return copy(info->identity, sizeof info->identity, r->value);
    if (is(r, "vendor"))
        return number32(r->value, &info->vendor_id);
    if (is(r, "model"))
        return number32(r->value, &info->device_id);
    if (is(r, "driver-name"))
        return copy(info->driver_name, sizeof info->driver_name, r->value);
    if (is(r, "driver-version"))
        return copy(info->driver_version, sizeof info->driver_version, r->value);
    return is(r, "fact") && append_fact(info, r->value);
}

void qn_listing_finish(const struct quern_callbacks *cb, struct qn_listing *listing)
{
    qn_free(cb, listing->infos);
    *listing = (struct qn_listing){0};
}

static enum quern_status read_devices(const struct quern_callbacks *cb, struct reader *r,
                                      struct qn_listing *listing, struct quern_error *err)
{
    size_t cap = 0;
    bool within = false; /* a device */
    if (!next(r) || !is(r, "status") || !number32(r->value, &listing->status))
        return wrong(r, err, "a status");
    if (!next(r) || !is(r, "reason") || !copy(listing->reason, sizeof listing->reason, r->value))
        return wrong(r, err, "a reason");
    for (;;) {
        if (!next(r))
            return wrong(r, err, "more");
        if (is_last(r) && !within)
            return QUERN_OK;
        if (!within) {
            if (listing->n == QN_MAX_LISTED)
                return wrong(r, err, "the end");
            if (!qn_grow(cb, &listing->infos, &cap, listing->n + 1, sizeof *listing->infos))
                return qn_fail_memory(err, "a list of devices");
            listing->infos[listing->n] = (struct quern_device_info){.struct_size = sizeof *listing->infos};
            within = true;
        }
        if (is(r, "device") && !r->value[0]) {
            listing->n++;
            within = false;
        } else if (!device_line(r, &listing->infos[listing->n])) {
            return wrong(r, err, "a property of a device");
        }
    }
}

enum quern_status qn_listing_read(const struct quern_callbacks *cb, const char *data, size_t n,
                                  const char *what, struct qn_listing *listing, struct quern_error *err)
{
    struct reader r;
    *listing = (struct qn_listing){0};
    enum quern_status status = open_record(&r, data, n, what, "devices", err);
    if (!status)
        status = read_devices(cb, &r, listing, err);
    if (status)
        qn_listing_finish(cb, listing);
    return status;
}

enum quern_status qn_bad_parts_read(const char *data, size_t n, const char *what, struct qn_bad_parts *bad,
                                    struct quern_error *err)
{
    struct reader r;
    bad->n = 0;
    enum quern_status status = open_record(&r, data, n, what, "bad-parts", err);
    while (!status) {
        if (!next(&r))
            return wrong(&r, err, "more");
        if (is_last(&r))
            return bad->n > 0 ? QUERN_OK : wrong(&r, err, "a part");
        if (bad->n == QUERN_MAX_PARTS)
            return wrong(&r, err, "the end");
        struct qn_bad_part *part = &bad->part[bad->n++];
        if (!is(&r, "part") || !copy(part->path, sizeof part->path, r.value))
            return wrong(&r, err, "a part");
        if (!next(&r) || !is(&r, "reason") || !copy(part->reason, sizeof part->reason, r.value))
            return wrong(&r, err, "a reason");
    }
    return status;
}

enum quern_status qn_verdict_read(const char *data, size_t n, const char *what, struct qn_verdict *verdict,
                                  struct quern_error *err)
{
    struct reader r;
    uint32_t good = 0, import = 0;
    *verdict = (struct qn_verdict){0};
    enum quern_status status = open_record(&r, data, n, what, "verdict", err);
    if (status)
        return status;
    if (!next(&r) || !is(&r, "good") || !number32(r.value, &good) || good > 1)
        return wrong(&r, err, "good 0 or 1");
    if (!next(&r) || !is(&r, "status") || !number32(r.value, &verdict->status))
        return wrong(&r, err, "a status");
    if (!next(&r) || !is(&r, "strikes") || !number32(r.value, &verdict->strikes))
        return wrong(&r, err, "a number of strikes");
    if (!next(&r) || !is(&r, "import") || !number32(r.value, &import) || import > 1)
        return wrong(&r, err, "import 0 or 1");
    if (!next(&r) || !is(&r, "without") || !copy(verdict->without, sizeof verdict->without, r.value))
        return wrong(&r, err, "what it must do without");
    if (!next(&r) || !is(&r, "reason") || !copy(verdict->reason, sizeof verdict->reason, r.value))
        return wrong(&r, err, "a reason");
    verdict->good = good == 1;
    verdict->import = import == 1;
    return next(&r) && is_last(&r) ? QUERN_OK : wrong(&r, err, "the end");
}

enum quern_status qn_rating_read(const char *data, size_t n, const char *what, struct qn_rating *rating,
                                 struct quern_error *err)
{
    struct reader r;
    enum quern_status status = open_record(&r, data, n, what, "rating", err);
    for (size_t i = 0; i < QN_LEN(rating->rate) && !status; i++) {
        uint64_t thousandths = 0;
        if (!next(&r) || !is(&r, "rate") || !number(r.value, &thousandths))
            status = wrong(&r, err, "a rate");
        rating->rate[i] = (double)thousandths / 1000;
    }
    if (!status && !(next(&r) && is_last(&r)))
        status = wrong(&r, err, "the end");
    return status;
}
