/* Opens GGUF files and checks them once, here: counts, lengths, types, shapes and places are verified before
 * they are used or reserve memory, so that everything behind the reader may trust what it hands out. */
#include "gguf/internal.h"

#include "formats/formats.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MIN_KV_BYTES = 8 + 1 + 4 + 1, MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8 };

/* Reading position in one file, and what was odd in it. */
struct cursor {
    const struct quern_callbacks *cb;
    struct quern_error *err;
    const char *name; /* for messages */
    const uint8_t *data;
    uint64_t size;
    uint64_t pos;
    uint64_t n_odd_bools, n_long_keys;
    struct qn_shown odd_bool, long_key; /* keys of the first ones */
};

QUERN_PRINTF(3, 4) static enum quern_status damaged(struct cursor *cursor, uint64_t pos, const char *fmt, ...)
{
    char text[320];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    qn_fail(cursor->err, QUERN_ERR_FILE, "%s: %s (at byte %llu)", cursor->name, text,
            (unsigned long long)pos);
    return QUERN_ERR_FILE;
}

static enum quern_status no_memory(struct cursor *cursor, const char *what)
{
    return qn_fail(cursor->err, QUERN_ERR_MEMORY, "%s: out of memory for %s", cursor->name, what);
}

static uint64_t left(const struct cursor *cursor)
{
    return cursor->size - cursor->pos;
}

static enum quern_status read_u32(struct cursor *cursor, const char *what, uint32_t *out)
{
    *out = 0;
    if (left(cursor) < 4)
        return damaged(cursor, cursor->pos, "the file ends inside %s", what);
    *out = qn_le32(cursor->data + cursor->pos);
    cursor->pos += 4;
    return QUERN_OK;
}

static enum quern_status read_u64(struct cursor *cursor, const char *what, uint64_t *out)
{
    *out = 0;
    if (left(cursor) < 8)
        return damaged(cursor, cursor->pos, "the file ends inside %s", what);
    *out = qn_le64(cursor->data + cursor->pos);
    cursor->pos += 8;
    return QUERN_OK;
}

static enum quern_status read_str(struct cursor *cursor, const char *what, struct qn_str *out)
{
    uint64_t at = cursor->pos, len;
    enum quern_status status = read_u64(cursor, what, &len);
    if (status)
        return status;
    if (len > left(cursor))
        return damaged(cursor, at, "%s claims a length of %llu bytes, but the file has only %llu more", what,
                       (unsigned long long)len, (unsigned long long)left(cursor));
    *out = (struct qn_str){(const char *)cursor->data + cursor->pos, (size_t)len};
    cursor->pos += len;
    return QUERN_OK;
}

/* ---- order and duplicates ---- */

static int by_key(const struct qn_gguf *gguf, uint32_t a, uint32_t b)
{
    return qn_str_compare(gguf->kvs[a].key, gguf->kvs[b].key);
}

static int by_name(const struct qn_gguf *gguf, uint32_t a, uint32_t b)
{
    return qn_str_compare(gguf->tensors[a].name, gguf->tensors[b].name);
}

static int by_place(const struct qn_gguf *gguf, uint32_t a, uint32_t b)
{
    const struct qn_gguf_tensor *x = &gguf->tensors[a], *y = &gguf->tensors[b];
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Merges two neighbouring ordered runs, from[0..middle) and from[middle..n), into `to`. */
static void merge(const struct qn_gguf *gguf, const uint32_t *from, size_t middle, size_t n, uint32_t *to,
                  int (*compare)(const struct qn_gguf *, uint32_t, uint32_t))
{
    if (middle >= n || compare(gguf, from[middle - 1], from[middle]) <= 0) {
        memcpy(to, from, n * sizeof *to);
        return;
    }
    for (size_t i = 0, a = 0, b = middle; i < n; i++) {
        bool first = b == n || (a < middle && compare(gguf, from[a], from[b]) <= 0);
        to[i] = from[first ? a++ : b++];
    }
}

/* Merge sort: no bad case, and quick where the file is ordered. NULL when memory is out; n is at least 1. */
static uint32_t *sorted(const struct quern_callbacks *cb, const struct qn_gguf *gguf, size_t n,
                        int (*compare)(const struct qn_gguf *, uint32_t, uint32_t))
{
    uint32_t *order = qn_alloc(cb, n, sizeof *order);
    uint32_t *other = order ? qn_alloc(cb, n, sizeof *other) : NULL;
    if (!other) {
        qn_free(cb, order);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t run = n - at < 2 * width ? n - at : 2 * width;
            merge(gguf, order + at, width, run, other + at, compare);
        }
        uint32_t *swap = order;
        order = other;
        other = swap;
    }
    qn_free(cb, other);
    return order;
}

/* ---- metadata ---- */

static void note_bools(struct cursor *cursor, const struct qn_gguf_kv *kv)
{
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->data[i] <= 1)
            continue;
        if (cursor->n_odd_bools++ == 0)
            cursor->odd_bool = qn_show(kv->key);
    }
}

static enum quern_status read_value(struct cursor *cursor, struct qn_gguf_kv *kv)
{
    uint32_t size = qn_gguf_type_bytes(kv->type);
    uint64_t at = cursor->pos;
    if (size > 0 ? kv->n > left(cursor) / size : kv->n > left(cursor) / 8)
        return damaged(cursor, at, "key '%s' claims %llu values, but the file has only %llu more bytes",
                       qn_show(kv->key).text, (unsigned long long)kv->n, (unsigned long long)left(cursor));
    kv->data = cursor->data + at;
    if (size > 0) {
        cursor->pos += kv->n * size;
    } else {
        for (uint64_t i = 0; i < kv->n; i++) {
            uint64_t room = left(cursor);
            if (room < 8 || qn_le64(cursor->data + cursor->pos) > room - 8)
                return damaged(cursor, cursor->pos,
                               "string %llu of key '%s' reaches beyond the end of the file",
                               (unsigned long long)i, qn_show(kv->key).text);
            cursor->pos += 8 + qn_le64(cursor->data + cursor->pos);
        }
    }
    kv->bytes = cursor->pos - at;
    if (kv->type == QN_GGUF_BOOL)
        note_bools(cursor, kv);
    return QUERN_OK;
}

static enum quern_status read_kv(struct cursor *cursor, size_t index, struct qn_gguf_kv *kv)
{
    uint64_t at = cursor->pos;
    uint32_t type;
    enum quern_status status = read_str(cursor, "a metadata key", &kv->key);
    if (status)
        return status;
    if (kv->key.len == 0)
        return damaged(cursor, at, "metadata entry %zu has an empty key", index);
    if (kv->key.len > QN_GGUF_KEY_MAX && cursor->n_long_keys++ == 0)
        cursor->long_key = qn_show(kv->key);
    at = cursor->pos;
    if ((status = read_u32(cursor, "a metadata type", &type)))
        return status;
    kv->n = 1;
    kv->is_array = type == QN_GGUF_ARRAY;
    if (kv->is_array) {
        at = cursor->pos;
        if ((status = read_u32(cursor, "an array's type", &type)) ||
            (status = read_u64(cursor, "an array's length", &kv->n)))
            return status;
        if (type == QN_GGUF_ARRAY)
            return damaged(cursor, at, "key '%s' is an array of arrays, expected numbers or strings",
                           qn_show(kv->key).text);
    }
    kv->type = (enum qn_gguf_type)type;
    if (!qn_gguf_type_name(kv->type))
        return damaged(cursor, at, "key '%s' has value type %u, expected 0 to 12", qn_show(kv->key).text,
                       type);
    return read_value(cursor, kv);
}

static enum quern_status read_kvs(struct cursor *cursor, struct qn_gguf *gguf, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        struct qn_gguf_kv kv;
        enum quern_status status = read_kv(cursor, (size_t)i, &kv);
        if (status)
            return status;
        if (!qn_grow(cursor->cb, &gguf->kvs, &gguf->cap_kvs, (size_t)i + 1, sizeof *gguf->kvs))
            return no_memory(cursor, "the metadata");
        gguf->kvs[i] = kv;
        gguf->n_kvs = (size_t)i + 1;
    }
    if (n == 0)
        return QUERN_OK;
    gguf->kv_order = sorted(cursor->cb, gguf, gguf->n_kvs, by_key);
    if (!gguf->kv_order)
        return no_memory(cursor, "the metadata");
    for (size_t i = 1; i < gguf->n_kvs; i++) {
        const struct qn_gguf_kv *kv = &gguf->kvs[gguf->kv_order[i]];
        if (qn_str_compare(gguf->kvs[gguf->kv_order[i - 1]].key, kv->key) == 0)
            return damaged(cursor, (uint64_t)((const uint8_t *)kv->key.data - cursor->data),
                           "key '%s' is there twice", qn_show(kv->key).text);
    }
    return QUERN_OK;
}

static enum quern_status read_alignment(struct cursor *cursor, const struct qn_gguf *gguf, uint32_t *out)
{
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, "general.alignment");
    *out = QN_GGUF_ALIGNMENT_DEFAULT;
    if (!kv)
        return QUERN_OK;
    uint64_t at = (uint64_t)(kv->data - cursor->data);
    if (kv->is_array || kv->type != QN_GGUF_U32)
        return damaged(cursor, at, "key 'general.alignment' is %s%s, expected u32",
                       kv->is_array ? "an array of " : "", qn_gguf_type_name(kv->type));
    uint32_t value = qn_le32(kv->data);
    if (!qn_gguf_alignment_is_sane(value))
        return damaged(cursor, at, "key 'general.alignment' is %u, expected a power of two from %d to %d",
                       value, QN_GGUF_ALIGNMENT_MIN, QN_GGUF_ALIGNMENT_MAX);
    *out = value;
    return QUERN_OK;
}

/* ---- tensors ---- */

uint64_t qn_gguf_tensor_bytes(enum quern_format format, uint32_t n_dims, const uint64_t *dim,
                              const char **reason)
{
    const struct qn_format *row = qn_format_get(format);
    uint64_t elements = 1, rows = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (dim[i] == 0) {
            *reason = "has a dimension of 0";
            return 0;
        }
        if (dim[i] > INT64_MAX) {
            *reason = "has a negative dimension";
            return 0;
        }
        if (dim[i] > INT64_MAX / elements) {
            *reason = "has dimensions whose product overflows";
            return 0;
        }
        elements *= dim[i];
        rows *= i > 0 ? dim[i] : 1;
    }
    if (dim[0] % row->block_len != 0) {
        *reason = "has rows that are no whole number of blocks";
        return 0;
    }
    uint64_t blocks = dim[0] / row->block_len * rows;
    if (blocks > INT64_MAX / row->block_bytes) {
        *reason = "has dimensions whose product overflows";
        return 0;
    }
    return blocks * row->block_bytes;
}

static enum quern_status read_tensor(struct cursor *cursor, size_t index, struct qn_gguf_tensor *tensor)
{
    uint64_t at = cursor->pos;
    uint32_t format;
    enum quern_status status = read_str(cursor, "a tensor's name", &tensor->name);
    if (status)
        return status;
    if (tensor->name.len == 0)
        return damaged(cursor, at, "tensor %zu has an empty name", index);
    struct qn_shown name = qn_show(tensor->name);
    if (tensor->name.len > QN_GGUF_NAME_MAX)
        return damaged(cursor, at, "tensor '%s' has a name of %zu bytes, expected at most %d", name.text,
                       tensor->name.len, QN_GGUF_NAME_MAX);
    at = cursor->pos;
    if ((status = read_u32(cursor, "a tensor's dimensions", &tensor->n_dims)))
        return status;
    if (tensor->n_dims < 1 || tensor->n_dims > 4)
        return damaged(cursor, at, "tensor '%s' has %u dimensions, expected 1 to 4", name.text,
                       tensor->n_dims);
    for (uint32_t i = 0; i < 4; i++) {
        tensor->dim[i] = 1;
        if (i < tensor->n_dims && (status = read_u64(cursor, "a tensor's dimensions", &tensor->dim[i])))
            return status;
    }
    uint64_t format_at = cursor->pos;
    if ((status = read_u32(cursor, "a tensor's type", &format)) ||
        (status = read_u64(cursor, "a tensor's offset", &tensor->offset)))
        return status;
    tensor->format = (enum quern_format)format;
    if (!qn_format_get(tensor->format))
        return damaged(cursor, format_at, "tensor '%s' has type %u, which no format has", name.text, format);
    const char *reason = NULL;
    tensor->bytes = qn_gguf_tensor_bytes(tensor->format, tensor->n_dims, tensor->dim, &reason);
    if (reason)
        return damaged(cursor, at, "tensor '%s' of type %s %s: %lld x %lld x %lld x %lld", name.text,
                       quern_format_name(tensor->format), reason, (long long)tensor->dim[0],
                       (long long)tensor->dim[1], (long long)tensor->dim[2], (long long)tensor->dim[3]);
    return QUERN_OK;
}

/* Turns the offset within the data section into one within the file. */
static enum quern_status place_tensor(struct cursor *cursor, struct qn_gguf_tensor *tensor,
                                      uint64_t data_start, uint32_t alignment, bool may_lack_data)
{
    struct qn_shown name = qn_show(tensor->name);
    if (tensor->offset % alignment != 0)
        return damaged(cursor, data_start, "tensor '%s' has offset %llu, expected a multiple of %u",
                       name.text, (unsigned long long)tensor->offset, alignment);
    if (tensor->offset > INT64_MAX - data_start || tensor->bytes > INT64_MAX - data_start - tensor->offset)
        return damaged(cursor, data_start, "tensor '%s' has offset %llu, which overflows", name.text,
                       (unsigned long long)tensor->offset);
    tensor->offset += data_start;
    bool present = tensor->offset <= cursor->size && tensor->bytes <= cursor->size - tensor->offset;
    if (!present && !may_lack_data)
        return qn_fail(cursor->err, QUERN_ERR_FILE,
                       "%s: the data of tensor '%s' is at bytes %llu to %llu, but the file has only %llu",
                       cursor->name, name.text, (unsigned long long)tensor->offset,
                       (unsigned long long)(tensor->offset + tensor->bytes),
                       (unsigned long long)cursor->size);
    tensor->data = present ? cursor->data + tensor->offset : NULL;
    return QUERN_OK;
}

static enum quern_status read_tensors(struct cursor *cursor, struct qn_gguf *gguf, uint64_t n,
                                      const struct qn_gguf_params *params)
{
    uint32_t part = (uint32_t)gguf->n_parts - 1;
    uint32_t alignment = gguf->parts[part].alignment;
    size_t first = gguf->n_tensors;
    enum quern_status status;
    for (uint64_t i = 0; i < n; i++) {
        struct qn_gguf_tensor tensor = {.part = part};
        if ((status = read_tensor(cursor, (size_t)i, &tensor)))
            return status;
        if (gguf->n_tensors >= UINT32_MAX || !qn_grow(cursor->cb, &gguf->tensors, &gguf->cap_tensors,
                                                      gguf->n_tensors + 1, sizeof *gguf->tensors))
            return no_memory(cursor, "the list of tensors");
        gguf->tensors[gguf->n_tensors++] = tensor;
    }
    uint64_t start = cursor->pos + (alignment - cursor->pos % alignment) % alignment;
    uint64_t end = start;
    for (size_t i = first; i < gguf->n_tensors; i++) {
        struct qn_gguf_tensor *tensor = &gguf->tensors[i];
        if ((status = place_tensor(cursor, tensor, start, alignment, params->no_tensors)))
            return status;
        if (tensor->offset + tensor->bytes > end)
            end = tensor->offset + tensor->bytes;
    }
    if (cursor->size > end && cursor->size - end >= alignment)
        qn_log(cursor->cb, QUERN_LOG_WARNING, "%s: %llu bytes after the last tensor are not used",
               cursor->name, (unsigned long long)(cursor->size - end));
    return QUERN_OK;
}

/* No name twice, and no byte in two tensors. Leaves the order by name behind. */
static enum quern_status check_tensors(struct cursor *cursor, struct qn_gguf *gguf)
{
    size_t n = gguf->n_tensors;
    if (n == 0)
        return QUERN_OK;
    gguf->tensor_order = sorted(cursor->cb, gguf, n, by_name);
    uint32_t *place = sorted(cursor->cb, gguf, n, by_place);
    enum quern_status status = QUERN_OK;
    if (!gguf->tensor_order || !place)
        status = no_memory(cursor, "the list of tensors");
    for (size_t i = 1; i < n && !status; i++) {
        const struct qn_gguf_tensor *a = &gguf->tensors[gguf->tensor_order[i - 1]];
        const struct qn_gguf_tensor *b = &gguf->tensors[gguf->tensor_order[i]];
        if (qn_str_compare(a->name, b->name) == 0)
            status = qn_fail(cursor->err, QUERN_ERR_FILE, "%s: tensor '%s' is there twice",
                             qn_gguf_short_path(gguf->parts[b->part].path), qn_show(b->name).text);
        a = &gguf->tensors[place[i - 1]];
        b = &gguf->tensors[place[i]];
        if (!status && a->part == b->part && a->offset + a->bytes > b->offset)
            status = qn_fail(cursor->err, QUERN_ERR_FILE, "%s: tensors '%s' and '%s' overlap at byte %llu",
                             qn_gguf_short_path(gguf->parts[b->part].path), qn_show(a->name).text,
                             qn_show(b->name).text, (unsigned long long)b->offset);
    }
    qn_free(cursor->cb, place);
    return status;
}

/* ---- one file ---- */

static enum quern_status read_header(struct cursor *cursor, uint32_t *version, uint64_t *n_tensors,
                                     uint64_t *n_kvs)
{
    if (cursor->size < 4 || memcmp(cursor->data, "GGUF", 4) != 0)
        return qn_fail(cursor->err, QUERN_ERR_FILE, "%s: not a GGUF file: %s", cursor->name,
                       cursor->size < 4 ? "it is shorter than the four bytes 'GGUF' that one starts with"
                                        : "it does not start with the bytes 'GGUF'");
    if (cursor->size < QN_GGUF_HEADER_BYTES)
        return damaged(cursor, cursor->size, "the file ends inside its header of %d bytes",
                       QN_GGUF_HEADER_BYTES);
    *version = qn_le32(cursor->data + 4);
    if (*version == 1)
        return damaged(cursor, 4,
                       "GGUF version 1 is no longer read, expected 2 or 3: convert the model again");
    if (*version != 0 && (*version & 0xffff) == 0)
        return damaged(cursor, 4,
                       "the version is stored byte-swapped: this is a big-endian file, and only "
                       "little-endian ones are read");
    if (*version != 2 && *version != 3)
        return damaged(cursor, 4, "GGUF version %u is not known, expected 2 or 3", *version);
    *n_tensors = qn_le64(cursor->data + 8);
    *n_kvs = qn_le64(cursor->data + 16);
    cursor->pos = QN_GGUF_HEADER_BYTES;
    if (*n_tensors > left(cursor) / MIN_TENSOR_BYTES)
        return damaged(cursor, 8, "the header claims %llu tensors, more than fit into %llu bytes",
                       (unsigned long long)*n_tensors, (unsigned long long)cursor->size);
    if (*n_kvs > left(cursor) / MIN_KV_BYTES || *n_kvs > UINT32_MAX)
        return damaged(cursor, 16, "the header claims %llu metadata entries, more than fit into %llu bytes",
                       (unsigned long long)*n_kvs, (unsigned long long)cursor->size);
    return QUERN_OK;
}

static void warn_of_oddities(const struct cursor *cursor)
{
    if (cursor->n_odd_bools > 0)
        qn_log(cursor->cb, QUERN_LOG_WARNING,
               "%s: key '%s' holds a bool that is neither 0 nor 1, taken as true (%llu such values)",
               cursor->name, cursor->odd_bool.text, (unsigned long long)cursor->n_odd_bools);
    if (cursor->n_long_keys > 0)
        qn_log(cursor->cb, QUERN_LOG_WARNING, "%s: key '%s' is longer than %d bytes (%llu such keys)",
               cursor->name, cursor->long_key.text, QN_GGUF_KEY_MAX, (unsigned long long)cursor->n_long_keys);
}

/* Reads the newest part: its entries into `keys` (which may be gguf itself), its tensors into gguf. */
static enum quern_status read_part(const struct quern_callbacks *cb, struct qn_gguf *gguf,
                                   struct qn_gguf *keys, const struct qn_gguf_params *params,
                                   struct quern_error *err)
{
    struct qn_gguf_part *part = &gguf->parts[gguf->n_parts - 1];
    struct cursor cursor = {.cb = cb,
                            .err = err,
                            .name = qn_gguf_short_path(part->path),
                            .data = part->view.data,
                            .size = part->view.size};
    uint64_t n_tensors = 0, n_kvs = 0;
    enum quern_status status = read_header(&cursor, &keys->version, &n_tensors, &n_kvs);
    if (!status)
        status = read_kvs(&cursor, keys, n_kvs);
    if (!status)
        status = read_alignment(&cursor, keys, &part->alignment);
    if (!status)
        status = read_tensors(&cursor, gguf, n_tensors, params);
    if (!status)
        warn_of_oddities(&cursor);
    return status;
}

/* ---- split models ---- */

/* Where "-00001-of-00003.gguf" starts in a path, or NULL. */
static const char *split_suffix(const char *path, uint32_t *no, uint32_t *count)
{
    static const char pattern[] = "-ddddd-of-ddddd.gguf";
    size_t len = strlen(path), n = sizeof pattern - 1;
    if (len < n)
        return NULL;
    const char *suffix = path + len - n;
    uint32_t number[2] = {0};
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] != 'd') {
            if (suffix[i] != pattern[i])
                return NULL;
            continue;
        }
        if (suffix[i] < '0' || suffix[i] > '9')
            return NULL;
        number[i > 6] = number[i > 6] * 10 + (uint32_t)(suffix[i] - '0');
    }
    *no = number[0];
    *count = number[1];
    return suffix;
}

struct split {
    uint32_t no, count, n_tensors;
};

/* What the keys of one part say; `count` is 0 where the file is none. */
static enum quern_status read_split(const struct qn_gguf *keys, struct split *split, struct quern_error *err)
{
    *split = (struct split){0};
    enum quern_status status = qn_gguf_u32(keys, "split.count", &split->count, false, err);
    if (status || split->count <= 1)
        return status;
    if ((status = qn_gguf_u32(keys, "split.no", &split->no, true, err)))
        return status;
    return qn_gguf_u32(keys, "split.tensors.count", &split->n_tensors, true, err);
}

static enum quern_status add_part(const struct quern_callbacks *cb, struct qn_gguf *gguf, const char *path,
                                  size_t len, struct quern_error *err)
{
    if (!qn_grow(cb, &gguf->parts, &gguf->cap_parts, gguf->n_parts + 1, sizeof *gguf->parts))
        return qn_fail_memory(err, "the list of files");
    struct qn_gguf_part *part = &gguf->parts[gguf->n_parts];
    *part = (struct qn_gguf_part){.path = qn_strndup(cb, path, len)};
    if (!part->path)
        return qn_fail_memory(err, "a file name");
    gguf->n_parts++;
    return QUERN_OK;
}

static void finish_keys(const struct quern_callbacks *cb, struct qn_gguf *keys)
{
    qn_free(cb, keys->kvs);
    qn_free(cb, keys->kv_order);
}

/* Opens part `no` (from 0) and compares what it says of itself with the first one. */
static enum quern_status open_further_part(const struct quern_callbacks *cb, struct qn_gguf *gguf,
                                           uint32_t no, const struct split *first,
                                           const struct qn_gguf_params *params, struct quern_error *err)
{
    uint32_t ignored;
    const char *path = gguf->parts[0].path;
    size_t stem = (size_t)(split_suffix(path, &ignored, &ignored) - path);
    enum quern_status status = add_part(cb, gguf, path, strlen(path), err);
    if (status)
        return status;
    struct qn_gguf_part *part = &gguf->parts[no];
    snprintf(part->path + stem, strlen(path) - stem + 1, "-%05u-of-%05u.gguf", no + 1, first->count);
    status = qn_view_path(cb, &part->view, part->path, params->use_mmap, err);
    if (status)
        return status;
    struct qn_gguf keys = {.name = qn_gguf_short_path(part->path)};
    struct split split;
    status = read_part(cb, gguf, &keys, params, err);
    if (!status)
        status = read_split(&keys, &split, err);
    if (!status && (split.no != no || split.count != first->count || split.n_tensors != first->n_tensors))
        status =
            qn_fail(err, QUERN_ERR_FILE,
                    "%s: says it is part %u of %u with %u tensors, expected part %u of %u with %u", keys.name,
                    split.no + 1, split.count, split.n_tensors, no + 1, first->count, first->n_tensors);
    finish_keys(cb, &keys);
    return status;
}

/* The other files of a model whose first part has been read; `by_path`: parts can be found by name. */
static enum quern_status open_further_parts(const struct quern_callbacks *cb, struct qn_gguf *gguf,
                                            bool by_path, const struct qn_gguf_params *params,
                                            struct quern_error *err)
{
    struct split split;
    enum quern_status status = read_split(gguf, &split, err);
    if (status || split.count <= 1 || params->no_tensors)
        return status;
    if (!by_path)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED,
                       "%s: part %u of %u of a split model, which opens by path only", gguf->name,
                       split.no + 1, split.count);
    uint32_t no = 0, count = 0;
    if (!split_suffix(gguf->parts[0].path, &no, &count) || no != split.no + 1 || count != split.count)
        return qn_fail(err, QUERN_ERR_FILE,
                       "%s: part %u of %u of a split model, expected a name that ends in -%05u-of-%05u.gguf",
                       gguf->name, split.no + 1, split.count, split.no + 1, split.count);
    if (split.no != 0)
        return qn_fail(
            err, QUERN_ERR_FILE,
            "%s: part %u of %u of a split model: open the first, which ends in -00001-of-%05u.gguf",
            gguf->name, split.no + 1, split.count, split.count);
    for (uint32_t i = 1; i < split.count; i++)
        if ((status = open_further_part(cb, gguf, i, &split, params, err)))
            return status;
    if (gguf->n_tensors != split.n_tensors)
        return qn_fail(err, QUERN_ERR_FILE,
                       "%s: the %u parts hold %zu tensors, but key 'split.tensors.count' is %u", gguf->name,
                       split.count, gguf->n_tensors, split.n_tensors);
    return QUERN_OK;
}

/* ---- opening ---- */

static const struct qn_gguf_params defaults = {.use_mmap = true};

/* A reader whose first part has a name and no view yet. */
static enum quern_status create(const struct quern_callbacks *cb, struct qn_gguf **out, const char *name,
                                struct quern_error *err)
{
    *out = NULL;
    struct qn_gguf *gguf = qn_zalloc(cb, 1, sizeof *gguf);
    if (!gguf)
        return qn_fail_memory(err, "a model file");
    enum quern_status status = add_part(cb, gguf, name, strlen(name), err);
    if (status)
        qn_gguf_close(cb, &gguf);
    else
        gguf->name = qn_gguf_short_path(gguf->parts[0].path);
    *out = gguf;
    return status;
}

/* Reads and checks everything, or closes the reader. `status`: of getting the view. */
static enum quern_status load(const struct quern_callbacks *cb, struct qn_gguf **gguf,
                              enum quern_status status, bool by_path, const struct qn_gguf_params *params,
                              struct quern_error *err)
{
    if (!status)
        status = read_part(cb, *gguf, *gguf, params, err);
    if (!status)
        status = open_further_parts(cb, *gguf, by_path, params, err);
    if (!status) {
        struct cursor cursor = {.cb = cb, .err = err, .name = (*gguf)->name};
        status = check_tensors(&cursor, *gguf);
    }
    if (status)
        qn_gguf_close(cb, gguf);
    return status;
}

enum quern_status qn_gguf_open(const struct quern_callbacks *cb, struct qn_gguf **out, const char *path,
                               const struct qn_gguf_params *params, struct quern_error *err)
{
    params = params ? params : &defaults;
    enum quern_status status = create(cb, out, path, err);
    if (status)
        return status;
    status = qn_view_path(cb, &(*out)->parts[0].view, path, params->use_mmap, err);
    return load(cb, out, status, true, params, err);
}

enum quern_status qn_gguf_open_fd(const struct quern_callbacks *cb, struct qn_gguf **out, int fd,
                                  uint64_t offset, uint64_t length, const struct qn_gguf_params *params,
                                  struct quern_error *err)
{
    char name[48];
    snprintf(name, sizeof name, "(descriptor %d)", fd);
    params = params ? params : &defaults;
    enum quern_status status = create(cb, out, name, err);
    if (status)
        return status;
    status = qn_view_fd(cb, &(*out)->parts[0].view, fd, offset, length, params->use_mmap, name, err);
    return load(cb, out, status, false, params, err);
}

enum quern_status qn_gguf_open_memory(const struct quern_callbacks *cb, struct qn_gguf **out,
                                      const void *data, size_t size, const struct qn_gguf_params *params,
                                      struct quern_error *err)
{
    params = params ? params : &defaults;
    enum quern_status status = create(cb, out, "(memory)", err);
    if (status)
        return status;
    (*out)->parts[0].view = (struct qn_view){.data = data, .size = size};
    return load(cb, out, QUERN_OK, false, params, err);
}

void qn_gguf_close(const struct quern_callbacks *cb, struct qn_gguf **gguf)
{
    struct qn_gguf *old = *gguf;
    *gguf = NULL;
    if (!old)
        return;
    for (size_t i = 0; i < old->n_parts; i++) {
        qn_view_finish(cb, &old->parts[i].view);
        qn_free(cb, old->parts[i].path);
    }
    finish_keys(cb, old);
    qn_free(cb, old->parts);
    qn_free(cb, old->tensors);
    qn_free(cb, old->tensor_order);
    qn_free(cb, old);
}
