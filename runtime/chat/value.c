/* Values: errors, sequences, dicts, equality and order. */
#include "chat/value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- failing ---- */

static bool fail(struct qn_run *run, enum quern_status status, const char *fmt, va_list args)
{
    if (run->status != QUERN_OK)
        return false;
    char text[400];
    vsnprintf(text, sizeof text, fmt, args);
    run->status = status;
    if (run->line > 0)
        qn_fail(run->err, status, "%s, line %u, column %u: %s", run->what, run->line, run->column, text);
    else
        qn_fail(run->err, status, "%s: %s", run->what, text);
    return false;
}

bool qn_raise(struct qn_run *run, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fail(run, run->blame, fmt, args);
    va_end(args);
    return false;
}

bool qn_raise_status(struct qn_run *run, enum quern_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fail(run, status, fmt, args);
    va_end(args);
    return false;
}

bool qn_raise_limit(struct qn_run *run, const char *what)
{
    return qn_raise_status(run, QUERN_ERR_FILE, "more than %s", what);
}

bool qn_raise_memory(struct qn_run *run)
{
    if (run->arena.over)
        return qn_raise_status(run, QUERN_ERR_FILE, "more than the %zu MiB of memory that it may take",
                               run->arena.limit >> 20);
    return qn_raise_status(run, QUERN_ERR_MEMORY, "out of memory");
}

void *qn_run_alloc(struct qn_run *run, size_t n, size_t size)
{
    void *piece = qn_arena_alloc(&run->arena, n, size);
    if (!piece)
        qn_raise_memory(run);
    return piece;
}

/* ---- what a value is ---- */

const char *qn_type_name(struct qn_val v)
{
    switch (v.kind) {
    case QN_MISSING:
    case QN_UNDEFINED:
        return "Undefined";
    case QN_NONE:
        return "NoneType";
    case QN_BOOL:
        return "bool";
    case QN_INT:
        return "int";
    case QN_FLOAT:
        return "float";
    case QN_STR:
        return "str";
    case QN_LIST:
        return "list";
    case QN_TUPLE:
    case QN_GROUP:
        return "tuple";
    case QN_RANGE:
        return "range";
    case QN_VIEW:
    case QN_ITER:
        return v.seq->type;
    case QN_DICT:
        return "dict";
    case QN_NAMESPACE:
        return "Namespace";
    case QN_FUNCTION:
        return "function";
    case QN_METHOD:
        return "method";
    case QN_MACRO:
        return "Macro";
    case QN_LOOP:
        return "LoopContext";
    }
    return "?";
}

bool qn_truth(struct qn_val v)
{
    switch (v.kind) {
    case QN_MISSING:
    case QN_UNDEFINED:
    case QN_NONE:
        return false;
    case QN_BOOL:
        return v.b;
    case QN_INT:
        return v.i != 0;
    case QN_FLOAT:
        return v.f != 0;
    case QN_STR:
        return v.s->len > 0;
    case QN_DICT:
        return v.dict->n > 0;
    case QN_LOOP:
    case QN_ITER:
        return true;
    default:
        return qn_is_seq(v) ? v.seq->n > 0 : true;
    }
}

bool qn_length(struct qn_run *run, struct qn_val v, size_t *n)
{
    *n = 0;
    if (v.kind == QN_STR)
        *n = v.s->chars;
    else if (v.kind == QN_DICT)
        *n = v.dict->n;
    else if (qn_is_seq(v) && v.kind != QN_ITER)
        *n = v.seq->n;
    else if (v.kind != QN_UNDEFINED)
        return qn_raise(run, "object of type '%s' has no len()", qn_type_name(v));
    return true;
}

/* ---- sequences ---- */

struct qn_seq *qn_seq_new(struct qn_run *run, size_t cap)
{
    struct qn_seq *seq = qn_run_alloc(run, 1, sizeof *seq);
    if (seq && cap > 0) {
        seq->at = qn_run_alloc(run, cap, sizeof *seq->at);
        seq->cap = cap;
        if (!seq->at)
            return NULL;
    }
    return seq;
}

bool qn_seq_add(struct qn_run *run, struct qn_seq *seq, struct qn_val v)
{
    if (seq->n == seq->cap) {
        size_t cap = seq->cap < 8 ? 8 : 2 * seq->cap;
        struct qn_val *at = qn_arena_extend(&run->arena, seq->at, seq->n * sizeof v, cap * sizeof v);
        if (!at)
            return qn_raise_memory(run);
        seq->at = at;
        seq->cap = cap;
    }
    seq->at[seq->n++] = v;
    return qn_spend(run, 1);
}

static bool iterate_text(struct qn_run *run, const struct qn_text *text, struct qn_seq **out)
{
    struct qn_seq *seq = qn_seq_new(run, text->chars);
    struct qn_text *plain = qn_run_alloc(run, 1, sizeof *plain);
    if (!seq || !plain)
        return false;
    *plain = *text;
    plain->markup = false;
    for (size_t at = 0; at < text->len;) {
        struct qn_char c = qn_char_at(text, at);
        const struct qn_text *part = qn_text_part(run, plain, at, at + c.len);
        if (!part || !qn_seq_add(run, seq, qn_str(part)))
            return false;
        at += c.len;
    }
    *out = seq;
    return true;
}

bool qn_iterate(struct qn_run *run, struct qn_val v, struct qn_seq **out)
{
    if (v.kind == QN_STR)
        return iterate_text(run, v.s, out);
    if (v.kind == QN_ITER) {
        struct qn_seq *rest = qn_seq_new(run, 0);
        if (!rest)
            return false;
        rest->at = v.seq->n > 0 ? v.seq->at + v.seq->next : NULL;
        rest->n = rest->cap = v.seq->n - v.seq->next;
        v.seq->next = v.seq->n;
        *out = rest;
        return true;
    }
    if (qn_is_seq(v)) {
        *out = v.seq;
        return true;
    }
    if (v.kind != QN_DICT && v.kind != QN_UNDEFINED)
        return qn_raise(run, "'%s' object is not iterable", qn_type_name(v));
    struct qn_seq *keys = qn_seq_new(run, v.kind == QN_DICT ? v.dict->n : 0);
    if (!keys)
        return false;
    for (size_t i = 0; v.kind == QN_DICT && i < v.dict->n; i++)
        if (!qn_seq_add(run, keys, v.dict->at[i].key))
            return false;
    *out = keys;
    return true;
}

/* Merge sort, of values together with their keys. */
static bool merge_runs(struct qn_run *run, struct qn_val *const from[2], struct qn_val *const to[2],
                       size_t begin, size_t middle, size_t end, bool reverse)
{
    for (size_t i = begin, a = begin, b = middle; i < end; i++) {
        bool first = b == end;
        if (!first && a < middle) {
            int order;
            if (!qn_order(run, from[1][b], from[1][a], &order))
                return false;
            first = reverse ? order != 1 : order != -1;
        }
        size_t pick = first ? a++ : b++;
        to[0][i] = from[0][pick];
        to[1][i] = from[1][pick];
    }
    return qn_spend(run, end - begin);
}

bool qn_seq_sort(struct qn_run *run, struct qn_seq *seq, struct qn_val *keys, bool reverse)
{
    struct qn_val *from[2] = {seq->at, keys}, *to[2];
    to[0] = qn_run_alloc(run, seq->n, sizeof *to[0]);
    to[1] = to[0] ? qn_run_alloc(run, seq->n, sizeof *to[1]) : NULL;
    if (!to[1])
        return false;
    for (size_t width = 1; width < seq->n; width *= 2) {
        for (size_t at = 0; at < seq->n; at += 2 * width) {
            size_t middle = at + width < seq->n ? at + width : seq->n;
            size_t end = at + 2 * width < seq->n ? at + 2 * width : seq->n;
            if (!merge_runs(run, from, to, at, middle, end, reverse))
                return false;
        }
        for (int i = 0; i < 2; i++) {
            struct qn_val *swap = from[i];
            from[i] = to[i];
            to[i] = swap;
        }
    }
    seq->at = from[0];
    return true;
}

/* ---- dicts ---- */

enum { INDEX_FROM = 8 }; /* entries from which on a dict has an index */

bool qn_hashable(struct qn_val v)
{
    return v.kind != QN_LIST && v.kind != QN_VIEW && v.kind != QN_DICT;
}

static uint64_t hash_bits(uint64_t bits)
{
    return XXH3_64bits(&bits, sizeof bits);
}

/* Equal values have equal hashes: 1, 1.0 and true among them. */
static bool hash_of(struct qn_run *run, struct qn_val v, uint64_t *hash)
{
    if (!qn_hashable(v))
        return qn_raise(run, "unhashable type: '%s'", qn_type_name(v));
    if (v.kind == QN_STR) {
        *hash = XXH3_64bits(v.s->data, v.s->len);
        return qn_spend(run, v.s->len / 64);
    }
    if (qn_is_int(v)) {
        *hash = hash_bits((uint64_t)qn_as_int(v));
    } else if (v.kind == QN_FLOAT) {
        uint64_t bits;
        memcpy(&bits, &v.f, sizeof bits);
        bool whole = v.f >= -0x1p62 && v.f <= 0x1p62 && v.f == floor(v.f);
        *hash = hash_bits(whole ? (uint64_t)(int64_t)v.f : bits);
    } else if (qn_is_tuple(v)) {
        uint64_t sum = 7;
        if (!qn_enter(run) || !qn_spend(run, 1 + v.seq->n))
            return false;
        for (size_t i = 0; i < v.seq->n; i++) {
            uint64_t one;
            if (!hash_of(run, v.seq->at[i], &one))
                return false;
            sum = hash_bits(sum ^ one);
        }
        qn_leave(run);
        *hash = sum;
    } else if (v.kind == QN_NONE || v.kind == QN_UNDEFINED || v.kind == QN_RANGE) {
        *hash = v.kind;
    } else {
        *hash = hash_bits((uint64_t)(uintptr_t)v.seq);
    }
    return true;
}

struct qn_dict *qn_dict_new(struct qn_run *run)
{
    return qn_run_alloc(run, 1, sizeof(struct qn_dict));
}

/* The entry of a key: its number, or dict->n. */
static bool find_entry(struct qn_run *run, const struct qn_dict *dict, struct qn_val key, uint64_t hash,
                       size_t *found)
{
    *found = dict->n;
    size_t slot = dict->index ? hash & (dict->n_index - 1) : 0;
    for (size_t i = 0;; i++) {
        if (dict->index) {
            uint32_t entry = dict->index[slot];
            if (entry == 0)
                return true;
            slot = (slot + 1) & (dict->n_index - 1);
            *found = entry - 1;
        } else {
            if (i == dict->n)
                return true;
            *found = i;
        }
        bool equal = false;
        if (dict->at[*found].hash == hash && !qn_equal(run, dict->at[*found].key, key, &equal))
            return false;
        if (equal)
            return true;
        *found = dict->n;
        if (i % 16 == 15 && !qn_spend(run, 1))
            return false;
    }
}

static bool rebuild_index(struct qn_run *run, struct qn_dict *dict)
{
    size_t n = dict->n_index ? 2 * dict->n_index : 4 * (size_t)INDEX_FROM;
    uint32_t *index = qn_run_alloc(run, n, sizeof *index);
    if (!index)
        return false;
    for (size_t i = 0; i < dict->n; i++) {
        size_t slot = dict->at[i].hash & (n - 1);
        while (index[slot] != 0)
            slot = (slot + 1) & (n - 1);
        index[slot] = (uint32_t)i + 1;
    }
    dict->index = index;
    dict->n_index = n;
    return qn_spend(run, dict->n / 4);
}

bool qn_dict_put(struct qn_run *run, struct qn_dict *dict, struct qn_val key, struct qn_val value)
{
    uint64_t hash;
    size_t found;
    if (!qn_spend(run, 1) || !hash_of(run, key, &hash) || !find_entry(run, dict, key, hash, &found))
        return false;
    if (found < dict->n) {
        dict->at[found].value = value;
        return true;
    }
    if (dict->n == dict->cap) {
        size_t cap = dict->cap < 4 ? 4 : 2 * dict->cap;
        struct qn_entry *at = qn_arena_extend(&run->arena, dict->at, dict->n * sizeof *at, cap * sizeof *at);
        if (!at)
            return qn_raise_memory(run);
        dict->at = at;
        dict->cap = cap;
    }
    dict->at[dict->n++] = (struct qn_entry){key, value, hash};
    if (dict->n < INDEX_FROM)
        return true;
    if (2 * dict->n > dict->n_index)
        return rebuild_index(run, dict);
    size_t slot = hash & (dict->n_index - 1);
    while (dict->index[slot] != 0)
        slot = (slot + 1) & (dict->n_index - 1);
    dict->index[slot] = (uint32_t)dict->n;
    return true;
}

bool qn_dict_get(struct qn_run *run, const struct qn_dict *dict, struct qn_val key, struct qn_val *value)
{
    uint64_t hash;
    size_t found;
    if (!hash_of(run, key, &hash) || !find_entry(run, dict, key, hash, &found))
        return false;
    *value = found < dict->n ? dict->at[found].value : (struct qn_val){.kind = QN_MISSING};
    return true;
}

/* ---- equality and order ---- */

static bool same_object(struct qn_val a, struct qn_val b)
{
    return a.kind == b.kind && a.kind >= QN_LIST && a.seq == b.seq;
}

/* An integer against a float, exactly: -1, 0, 1, or 2 where it is no number. */
static int order_mixed(int64_t i, double f)
{
    if (isnan(f))
        return 2;
    if (f >= 0x1p63)
        return -1;
    if (f < -0x1p63)
        return 1;
    int64_t whole = (int64_t)f;
    if (i != whole)
        return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static int order_numbers(struct qn_val a, struct qn_val b)
{
    if (qn_is_int(a) && qn_is_int(b))
        return (qn_as_int(a) > qn_as_int(b)) - (qn_as_int(a) < qn_as_int(b));
    if (qn_is_int(a))
        return order_mixed(qn_as_int(a), b.f);
    if (qn_is_int(b)) {
        int order = order_mixed(qn_as_int(b), a.f);
        return order == 2 ? 2 : -order;
    }
    return isnan(a.f) || isnan(b.f) ? 2 : (a.f > b.f) - (a.f < b.f);
}

static bool equal_dicts(struct qn_run *run, const struct qn_dict *a, const struct qn_dict *b, bool *equal)
{
    *equal = a->n == b->n;
    for (size_t i = 0; *equal && i < a->n; i++) {
        size_t found;
        if (!find_entry(run, b, a->at[i].key, a->at[i].hash, &found))
            return false;
        *equal = found < b->n;
        if (*equal && !qn_equal(run, a->at[i].value, b->at[found].value, equal))
            return false;
    }
    return true;
}

bool qn_equal(struct qn_run *run, struct qn_val a, struct qn_val b, bool *equal)
{
    *equal = false;
    if (!qn_spend(run, 1))
        return false;
    if (qn_is_number(a) && qn_is_number(b)) {
        *equal = order_numbers(a, b) == 0;
    } else if (a.kind == QN_STR && b.kind == QN_STR) {
        *equal = a.s->len == b.s->len && memcmp(a.s->data, b.s->data, a.s->len) == 0;
        return qn_spend(run, *equal ? a.s->len / 64 : 0);
    } else if (same_object(a, b)) {
        *equal = true;
    } else if (a.kind == QN_DICT && b.kind == QN_DICT) {
        bool ok = qn_enter(run) && equal_dicts(run, a.dict, b.dict, equal);
        if (ok)
            qn_leave(run);
        return ok;
    } else if ((a.kind == b.kind && (a.kind == QN_LIST || a.kind == QN_RANGE)) ||
               (qn_is_tuple(a) && qn_is_tuple(b))) {
        if (!qn_enter(run))
            return false;
        *equal = a.seq->n == b.seq->n;
        for (size_t i = 0; *equal && i < a.seq->n; i++)
            if (!qn_equal(run, a.seq->at[i], b.seq->at[i], equal))
                return false;
        qn_leave(run);
    } else if (a.kind == b.kind && a.kind == QN_VIEW) {
        /* sets of keys or items; values are never equal */
        *equal = a.seq->n == b.seq->n && strcmp(a.seq->type, "dict_values") != 0;
        for (size_t i = 0; *equal && i < a.seq->n; i++)
            if (!qn_contains(run, b, a.seq->at[i], equal))
                return false;
    } else {
        *equal = a.kind == b.kind && (a.kind == QN_NONE || a.kind == QN_UNDEFINED ||
                                      (a.kind == QN_FUNCTION && a.function == b.function));
    }
    return true;
}

bool qn_order(struct qn_run *run, struct qn_val a, struct qn_val b, int *order)
{
    *order = 0;
    if (!qn_spend(run, 1))
        return false;
    if (qn_is_number(a) && qn_is_number(b)) {
        *order = order_numbers(a, b);
        return true;
    }
    if (a.kind == QN_STR && b.kind == QN_STR) {
        int texts = qn_text_order(a.s, b.s);
        *order = (texts > 0) - (texts < 0);
        return qn_spend(run, (a.s->len < b.s->len ? a.s->len : b.s->len) / 64);
    }
    if ((a.kind == QN_LIST && b.kind == QN_LIST) || (qn_is_tuple(a) && qn_is_tuple(b))) {
        size_t n = a.seq->n < b.seq->n ? a.seq->n : b.seq->n;
        *order = (a.seq->n > b.seq->n) - (a.seq->n < b.seq->n);
        for (size_t i = 0; i < n; i++) {
            bool equal;
            if (!qn_equal(run, a.seq->at[i], b.seq->at[i], &equal))
                return false;
            if (equal)
                continue;
            bool ok = qn_enter(run) && qn_order(run, a.seq->at[i], b.seq->at[i], order);
            if (ok)
                qn_leave(run);
            return ok;
        }
        return true;
    }
    if (a.kind == QN_UNDEFINED || b.kind == QN_UNDEFINED) {
        const struct qn_text *name = a.kind == QN_UNDEFINED ? a.s : b.s;
        return qn_raise(run, "'%.*s' is undefined", name ? (int)name->len : 1, name ? name->data : "?");
    }
    return qn_raise(run, "'%s' and '%s' have no order", qn_type_name(a), qn_type_name(b));
}

bool qn_contains(struct qn_run *run, struct qn_val b, struct qn_val a, bool *found)
{
    *found = false;
    if (b.kind == QN_STR) {
        size_t at;
        if (a.kind != QN_STR)
            return qn_raise(run, "'in <string>' requires string as left operand, not %s", qn_type_name(a));
        if (!qn_text_find(run, b.s, a.s, 0, &at))
            return false;
        *found = at != SIZE_MAX;
        return true;
    }
    if (b.kind == QN_DICT) {
        struct qn_val value;
        if (!qn_dict_get(run, b.dict, a, &value))
            return false;
        *found = value.kind != QN_MISSING;
        return true;
    }
    if (b.kind == QN_UNDEFINED)
        return true;
    if (!qn_is_seq(b))
        return qn_raise(run, "argument of type '%s' is not iterable", qn_type_name(b));
    size_t *next = b.kind == QN_ITER ? &b.seq->next : &(size_t){0};
    while (!*found && *next < b.seq->n)
        if (!qn_equal(run, b.seq->at[(*next)++], a, found))
            return false;
    return true;
}
