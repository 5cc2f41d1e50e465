/* The public view of a model file: summary, metadata as text, tensors. */
#include "session/handles.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

enum { QN_META_ELEMENTS = 16 }; /* of an array, shown as text */

/* `general.file_type`: what the writer of the file calls the mixture of formats. */
static const char *const file_types[] = {
    [0] = "F32",     [1] = "F16",     [2] = "Q4_0",       [3] = "Q4_1",    [7] = "Q8_0",     [8] = "Q5_0",
    [9] = "Q5_1",    [10] = "Q2_K",   [11] = "Q3_K_S",    [12] = "Q3_K_M", [13] = "Q3_K_L",  [14] = "Q4_K_S",
    [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",    [18] = "Q6_K",   [19] = "IQ2_XXS", [20] = "IQ2_XS",
    [21] = "Q2_K_S", [22] = "IQ3_XS", [23] = "IQ3_XXS",   [24] = "IQ1_S",  [25] = "IQ4_NL",  [26] = "IQ3_S",
    [27] = "IQ3_M",  [28] = "IQ2_S",  [29] = "IQ2_M",     [30] = "IQ4_XS", [31] = "IQ1_M",   [32] = "BF16",
    [36] = "TQ1_0",  [37] = "TQ2_0",  [38] = "MXFP4_MOE", [39] = "NVFP4",  [40] = "Q1_0",
};

/* Text that is cut where the room ends, between two characters. */
struct cut {
    char *data;
    size_t size, n;
    bool full;
};

static struct cut cut_start(char *data, size_t size)
{
    if (size > 0)
        data[0] = '\0';
    return (struct cut){.data = data, .size = size, .full = size == 0};
}

static void cut_put(struct cut *cut, const char *data, size_t n)
{
    if (cut->full || n >= cut->size - cut->n) {
        cut->full = true;
        return;
    }
    memcpy(cut->data + cut->n, data, n);
    cut->n += n;
    cut->data[cut->n] = '\0';
}

/* Bytes of the file: each that is not UTF-8 becomes U+FFFD, NUL too. */
static void cut_str(struct cut *cut, struct qn_str str)
{
    for (size_t i = 0; i < str.len && !cut->full;) {
        size_t left = str.len - i < 8 ? str.len - i : 8;
        utf8proc_int32_t c;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)str.data + i, (utf8proc_ssize_t)left, &c);
        if (n > 0 && c != 0)
            cut_put(cut, str.data + i, (size_t)n);
        else
            cut_put(cut, "\xEF\xBF\xBD", 3);
        i += n > 0 ? (size_t)n : 1;
    }
}

static void QUERN_PRINTF(2, 3) cut_format(struct cut *cut, const char *fmt, ...)
{
    char text[64];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0)
        cut_put(cut, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void copy_str(char *out, size_t size, struct qn_str str)
{
    struct cut cut = cut_start(out, size);
    cut_str(&cut, str);
}

enum quern_status qn_source_open(const struct quern_callbacks *cb, struct qn_gguf **out,
                                 struct quern_source source, const struct qn_gguf_params *params,
                                 struct quern_error *err)
{
    *out = NULL;
    if (source.path)
        return qn_gguf_open(cb, out, source.path, params, err);
    if (source.fd < 0)
        return qn_fail(err, QUERN_ERR_PARAM, "the model's source has neither a path nor a descriptor");
    return qn_gguf_open_fd(cb, out, source.fd, source.offset, source.length, params, err);
}

void qn_file_init(struct quern_file *file, const struct quern_callbacks *cb, struct qn_gguf *gguf)
{
    *file = (struct quern_file){.cb = *cb, .gguf = gguf};
}

void qn_file_finish(struct quern_file *file)
{
    if (file->gguf)
        qn_gguf_close(&file->cb, &file->gguf);
    memset(file, 0, sizeof *file);
}

enum quern_status quern_file_open(struct quern_file **file, struct quern_source source,
                                  const struct quern_callbacks *callbacks, struct quern_error *err)
{
    *file = NULL;
    struct quern_callbacks cb = qn_callbacks_resolve(callbacks);
    struct quern_file *made = qn_zalloc(&cb, 1, sizeof *made);
    if (!made)
        return qn_fail_memory(err, "a file handle");
    made->cb = cb;
    enum quern_status status =
        qn_source_open(&made->cb, &made->gguf, source, &(struct qn_gguf_params){.use_mmap = true}, err);
    if (status != QUERN_OK) {
        qn_free(&cb, made);
        return status;
    }
    *file = made;
    return QUERN_OK;
}

void quern_file_destroy(struct quern_file **file)
{
    if (!file || !*file)
        return;
    struct quern_callbacks cb = (*file)->cb;
    qn_file_finish(*file);
    qn_free(&cb, *file);
    *file = NULL;
}

/* Sums up the tensors: number of weights, and the format that most of them have. */
static const char *weigh_tensors(const struct qn_gguf *gguf, uint64_t *n_weights)
{
    uint64_t per_format[QUERN_FORMAT_END] = {0};
    *n_weights = 0;
    for (size_t i = 0; i < qn_gguf_n_tensors(gguf); i++) {
        const struct qn_gguf_tensor *t = qn_gguf_tensor_at(gguf, i);
        uint64_t n = t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
        *n_weights += n;
        per_format[t->format] += n;
    }
    size_t best = 0;
    for (size_t f = 1; f < QUERN_FORMAT_END; f++)
        if (per_format[f] > per_format[best])
            best = f;
    return *n_weights > 0 ? quern_format_name((enum quern_format)best) : "";
}

void quern_file_info(const struct quern_file *file, struct quern_file_info *info)
{
    const struct qn_gguf *gguf = file->gguf;
    memset(info, 0, sizeof *info);
    info->version = qn_gguf_version(gguf);
    info->alignment = qn_gguf_alignment(gguf);
    info->n_parts = qn_gguf_n_parts(gguf);
    info->bytes = qn_gguf_file_bytes(gguf);
    const char *type = weigh_tensors(gguf, &info->n_weights);

    struct qn_str str = {0};
    if (qn_gguf_str(gguf, "general.architecture", &str, true, NULL) == QUERN_OK)
        copy_str(info->architecture, sizeof info->architecture, str);
    if (qn_gguf_str(gguf, "general.name", &str, true, NULL) == QUERN_OK)
        copy_str(info->name, sizeof info->name, str);
    uint32_t file_type;
    if (qn_gguf_u32(gguf, "general.file_type", &file_type, true, NULL) == QUERN_OK &&
        file_type < QN_LEN(file_types) && file_types[file_type])
        type = file_types[file_type];
    copy_str(info->type, sizeof info->type, (struct qn_str){.data = type, .len = strlen(type)});
}

size_t quern_file_meta_count(const struct quern_file *file)
{
    return qn_gguf_n_kvs(file->gguf);
}

static void put_number(struct cut *cut, const struct qn_gguf_kv *kv, uint64_t i)
{
    switch (kv->type) {
    case QN_GGUF_F32:
        cut_format(cut, "%.9g", qn_gguf_real_at(kv, i));
        break;
    case QN_GGUF_F64:
        cut_format(cut, "%.17g", qn_gguf_real_at(kv, i));
        break;
    case QN_GGUF_BOOL:
        cut_format(cut, "%s", qn_gguf_int_at(kv, i) ? "true" : "false");
        break;
    case QN_GGUF_U64:
        cut_format(cut, "%" PRIu64, (uint64_t)qn_gguf_int_at(kv, i));
        break;
    default:
        cut_format(cut, "%" PRId64, qn_gguf_int_at(kv, i));
        break;
    }
}

/* "[1, 2, 3, ...]"; strings stand in quotes. */
static void put_array(struct cut *cut, const struct qn_gguf_kv *kv)
{
    uint64_t cursor = 0;
    cut_put(cut, "[", 1);
    for (uint64_t i = 0; i < kv->n; i++) {
        if (i > 0)
            cut_put(cut, ", ", 2);
        if (i == QN_META_ELEMENTS) {
            cut_put(cut, "...", 3);
            break;
        }
        struct qn_str str;
        if (kv->type != QN_GGUF_STRING) {
            put_number(cut, kv, i);
        } else if (qn_gguf_next_str(kv, &cursor, &str)) {
            cut_put(cut, "\"", 1);
            cut_str(cut, str);
            cut_put(cut, "\"", 1);
        }
    }
    cut_put(cut, "]", 1);
}

bool quern_file_meta(const struct quern_file *file, size_t index, char *key, size_t key_size, char *value,
                     size_t value_size, char *type, size_t type_size, uint64_t *n)
{
    if (index >= qn_gguf_n_kvs(file->gguf))
        return false;
    const struct qn_gguf_kv *kv = qn_gguf_kv_at(file->gguf, index);
    copy_str(key, key_size, kv->key);
    const char *type_name = qn_gguf_type_name(kv->type);
    struct cut cut = cut_start(type, type_size);
    cut_format(&cut, "%s%s", type_name ? type_name : "?", kv->is_array ? "[]" : "");
    *n = kv->n;

    cut = cut_start(value, value_size);
    uint64_t cursor = 0;
    struct qn_str str;
    if (kv->is_array)
        put_array(&cut, kv);
    else if (kv->type != QN_GGUF_STRING)
        put_number(&cut, kv, 0);
    else if (qn_gguf_next_str(kv, &cursor, &str))
        cut_str(&cut, str);
    return true;
}

size_t quern_file_tensor_count(const struct quern_file *file)
{
    return qn_gguf_n_tensors(file->gguf);
}

bool quern_file_tensor(const struct quern_file *file, size_t index, struct quern_tensor_info *info)
{
    if (index >= qn_gguf_n_tensors(file->gguf))
        return false;
    const struct qn_gguf_tensor *t = qn_gguf_tensor_at(file->gguf, index);
    memset(info, 0, sizeof *info);
    copy_str(info->name, sizeof info->name, t->name);
    info->format = t->format;
    info->n_dims = t->n_dims;
    memcpy(info->dim, t->dim, sizeof info->dim);
    info->bytes = t->bytes;
    info->offset = t->offset;
    return true;
}
