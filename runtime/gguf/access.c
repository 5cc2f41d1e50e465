/* Looks things up in a file that the reader has checked. */
#include "gguf/internal.h"

#include <math.h>
#include <string.h>

/* ---- types ---- */

static const struct {
    const char *name;
    uint8_t bytes;
} types[] = {
    [QN_GGUF_U8] = {"u8", 1},       [QN_GGUF_I8] = {"i8", 1},     [QN_GGUF_U16] = {"u16", 2},
    [QN_GGUF_I16] = {"i16", 2},     [QN_GGUF_U32] = {"u32", 4},   [QN_GGUF_I32] = {"i32", 4},
    [QN_GGUF_F32] = {"f32", 4},     [QN_GGUF_BOOL] = {"bool", 1}, [QN_GGUF_STRING] = {"string", 0},
    [QN_GGUF_ARRAY] = {"array", 0}, [QN_GGUF_U64] = {"u64", 8},   [QN_GGUF_I64] = {"i64", 8},
    [QN_GGUF_F64] = {"f64", 8},
};

const char *qn_gguf_type_name(enum qn_gguf_type type)
{
    return (uint32_t)type < QN_LEN(types) ? types[type].name : NULL;
}

uint32_t qn_gguf_type_bytes(enum qn_gguf_type type)
{
    return (uint32_t)type < QN_LEN(types) ? types[type].bytes : 0;
}

static bool is_integer(enum qn_gguf_type type)
{
    return type <= QN_GGUF_I32 || type == QN_GGUF_U64 || type == QN_GGUF_I64;
}

static bool is_real(enum qn_gguf_type type)
{
    return type == QN_GGUF_F32 || type == QN_GGUF_F64;
}

/* ---- text ---- */

int qn_str_compare(struct qn_str a, struct qn_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.data, b.data, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

struct qn_shown qn_show(struct qn_str str)
{
    struct qn_shown shown;
    size_t room = sizeof shown.text - 4;
    size_t n = str.len < room ? str.len : room;
    for (size_t i = 0; i < n; i++)
        shown.text[i] = str.data[i] >= ' ' && str.data[i] <= '~' ? str.data[i] : '?';
    strcpy(shown.text + n, str.len > room ? "..." : "");
    return shown;
}

const char *qn_gguf_short_path(const char *path)
{
    enum { ROOM = 160 };
    size_t len = strlen(path);
    return len > ROOM ? path + len - ROOM : path;
}

/* ---- the whole file ---- */

const char *qn_gguf_name(const struct qn_gguf *gguf)
{
    return gguf->name;
}

uint32_t qn_gguf_version(const struct qn_gguf *gguf)
{
    return gguf->version;
}

uint32_t qn_gguf_alignment(const struct qn_gguf *gguf)
{
    return gguf->parts[0].alignment;
}

uint32_t qn_gguf_n_parts(const struct qn_gguf *gguf)
{
    return (uint32_t)gguf->n_parts;
}

uint64_t qn_gguf_file_bytes(const struct qn_gguf *gguf)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < gguf->n_parts; i++)
        bytes += gguf->parts[i].view.size;
    return bytes;
}

size_t qn_gguf_n_kvs(const struct qn_gguf *gguf)
{
    return gguf->n_kvs;
}

const struct qn_gguf_kv *qn_gguf_kv_at(const struct qn_gguf *gguf, size_t index)
{
    return &gguf->kvs[index];
}

size_t qn_gguf_n_tensors(const struct qn_gguf *gguf)
{
    return gguf->n_tensors;
}

const struct qn_gguf_tensor *qn_gguf_tensor_at(const struct qn_gguf *gguf, size_t index)
{
    return &gguf->tensors[index];
}

const struct qn_view *qn_gguf_part(const struct qn_gguf *gguf, uint32_t part)
{
    return &gguf->parts[part].view;
}

/* ---- by name ---- */

const struct qn_gguf_kv *qn_gguf_find(const struct qn_gguf *gguf, const char *key)
{
    struct qn_str want = {key, strlen(key)};
    for (size_t low = 0, high = gguf->n_kvs; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct qn_gguf_kv *kv = &gguf->kvs[gguf->kv_order[middle]];
        int order = qn_str_compare(want, kv->key);
        if (order == 0)
            return kv;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct qn_gguf_tensor *qn_gguf_find_tensor(const struct qn_gguf *gguf, const char *name)
{
    struct qn_str want = {name, strlen(name)};
    for (size_t low = 0, high = gguf->n_tensors; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct qn_gguf_tensor *tensor = &gguf->tensors[gguf->tensor_order[middle]];
        int order = qn_str_compare(want, tensor->name);
        if (order == 0)
            return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- values ---- */

int64_t qn_gguf_int_at(const struct qn_gguf_kv *kv, uint64_t i)
{
    const uint8_t *p = kv->data + i * qn_gguf_type_bytes(kv->type);
    switch (kv->type) {
    case QN_GGUF_U8:
        return *p;
    case QN_GGUF_BOOL:
        return *p != 0;
    case QN_GGUF_I8:
        return (int8_t)*p;
    case QN_GGUF_U16:
        return qn_le16(p);
    case QN_GGUF_I16:
        return (int16_t)qn_le16(p);
    case QN_GGUF_U32:
        return qn_le32(p);
    case QN_GGUF_I32:
        return (int32_t)qn_le32(p);
    case QN_GGUF_U64:
    case QN_GGUF_I64:
        return (int64_t)qn_le64(p);
    default:
        return 0;
    }
}

double qn_gguf_real_at(const struct qn_gguf_kv *kv, uint64_t i)
{
    if (kv->type == QN_GGUF_F32) {
        uint32_t bits = qn_le32(kv->data + 4 * i);
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    if (kv->type == QN_GGUF_F64) {
        uint64_t bits = qn_le64(kv->data + 8 * i);
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    return (double)qn_gguf_int_at(kv, i);
}

bool qn_gguf_next_str(const struct qn_gguf_kv *kv, uint64_t *cursor, struct qn_str *out)
{
    if (*cursor >= kv->bytes)
        return false;
    uint64_t len = qn_le64(kv->data + *cursor);
    *out = (struct qn_str){(const char *)kv->data + *cursor + 8, (size_t)len};
    *cursor += 8 + len;
    return true;
}

/* ---- scalars and arrays by key ---- */

static enum quern_status missing(const struct qn_gguf *gguf, const char *key, const char *want, bool required,
                                 struct quern_error *err)
{
    if (!required)
        return QUERN_OK;
    return qn_fail(err, QUERN_ERR_FILE, "%s: key '%s' is missing, expected %s", gguf->name, key, want);
}

static enum quern_status wrong_type(const struct qn_gguf *gguf, const struct qn_gguf_kv *kv, const char *want,
                                    struct quern_error *err)
{
    return qn_fail(err, QUERN_ERR_FILE, "%s: key '%s' is %s%s, expected %s", gguf->name,
                   qn_show(kv->key).text, kv->is_array ? "an array of " : "", qn_gguf_type_name(kv->type),
                   want);
}

enum quern_status qn_gguf_u32(const struct qn_gguf *gguf, const char *key, uint32_t *out, bool required,
                              struct quern_error *err)
{
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, key);
    if (!kv)
        return missing(gguf, key, "an integer", required, err);
    if (kv->is_array || !is_integer(kv->type))
        return wrong_type(gguf, kv, "an integer", err);
    int64_t value = qn_gguf_int_at(kv, 0);
    if (value < 0 || value > UINT32_MAX) {
        bool is_unsigned = kv->type == QN_GGUF_U64;
        return qn_fail(
            err, QUERN_ERR_FILE, "%s: key '%s' is %s%llu, expected 0 to 4294967295", gguf->name, key,
            value < 0 && !is_unsigned ? "-" : "",
            (unsigned long long)(is_unsigned || value >= 0 ? (uint64_t)value : 0 - (uint64_t)value));
    }
    *out = (uint32_t)value;
    return QUERN_OK;
}

enum quern_status qn_gguf_f32(const struct qn_gguf *gguf, const char *key, float *out, bool required,
                              struct quern_error *err)
{
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, key);
    if (!kv)
        return missing(gguf, key, "a real number", required, err);
    if (kv->is_array || !is_real(kv->type))
        return wrong_type(gguf, kv, "a real number", err);
    double value = qn_gguf_real_at(kv, 0);
    if (isfinite(value) && isinf((float)value))
        return qn_fail(err, QUERN_ERR_FILE, "%s: key '%s' is %g, expected a number that a float holds",
                       gguf->name, key, value);
    *out = (float)value;
    return QUERN_OK;
}

enum quern_status qn_gguf_bool(const struct qn_gguf *gguf, const char *key, bool *out, bool required,
                               struct quern_error *err)
{
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, key);
    if (!kv)
        return missing(gguf, key, "a bool", required, err);
    if (kv->is_array || kv->type != QN_GGUF_BOOL)
        return wrong_type(gguf, kv, "a bool", err);
    *out = kv->data[0] != 0;
    return QUERN_OK;
}

enum quern_status qn_gguf_str(const struct qn_gguf *gguf, const char *key, struct qn_str *out, bool required,
                              struct quern_error *err)
{
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, key);
    if (!kv)
        return missing(gguf, key, "a string", required, err);
    if (kv->is_array || kv->type != QN_GGUF_STRING)
        return wrong_type(gguf, kv, "a string", err);
    uint64_t cursor = 0;
    (void)qn_gguf_next_str(kv, &cursor, out);
    return QUERN_OK;
}

enum quern_status qn_gguf_array(const struct qn_gguf *gguf, const char *key, enum qn_gguf_type type,
                                const struct qn_gguf_kv **out, bool required, struct quern_error *err)
{
    const char *want = is_integer(type)       ? "an array of integers"
                       : is_real(type)        ? "an array of real numbers"
                       : type == QN_GGUF_BOOL ? "an array of bools"
                                              : "an array of strings";
    const struct qn_gguf_kv *kv = qn_gguf_find(gguf, key);
    *out = NULL;
    if (!kv)
        return missing(gguf, key, want, required, err);
    bool same = kv->type == type || (is_integer(type) && is_integer(kv->type)) ||
                (is_real(type) && is_real(kv->type));
    if (!kv->is_array || !same)
        return wrong_type(gguf, kv, want, err);
    *out = kv;
    return QUERN_OK;
}
